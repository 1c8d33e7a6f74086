//! One output from what was written of it. Pure, like the rest of `resolve`.

use super::bounds::{self, Bound};
use super::check::{Check, Number, fact};
use super::error::Problem;
use super::raw::RawOutput;
use super::words::{AckMode, PartitionKey, SinkType};
use super::{AckPolicy, AwsStream, FileSink, KinesisSink, Output, SinkConfig};
use std::path::{Component, Path, PathBuf};

/// Where a file output writes when nothing else is said.
const DEFAULT_DIR: &str = "./sluice-data";

impl Check {
    /// `None` where not even a type is known.
    pub(super) fn output(
        &mut self,
        name: String,
        raw: RawOutput,
        ack_deadline: &Number,
        record_bytes: &Number,
        workers_count: u64,
    ) -> Option<Output> {
        let key = |key: &str| format!("outputs.{name}.{key}");
        if !is_output_name(&name) {
            self.malformed("outputs", &name, "a name of 1 to 32 of a-z, 0-9, _ and -");
            return None;
        }
        let Some(sink_type) = raw.r#type else {
            self.problems.push(Problem::Missing {
                key: key("type"),
                why: "one of file, firehose, kafka, kinesis, null",
            });
            return None;
        };
        for misplaced in misplaced(sink_type, &raw) {
            self.problems.push(Problem::Misplaced {
                key: key(misplaced),
                because: key("type"),
                value: sink_type.to_string(),
            });
        }
        let defaults = Defaults::of(sink_type);

        let mode = raw.ack.unwrap_or(AckMode::Delivered);
        if let (AckMode::Delivered, Some(_)) = (mode, raw.retry_for_ms) {
            self.problems.push(Problem::Misplaced {
                key: key("retry_for_ms"),
                because: key("ack"),
                value: mode.to_string(),
            });
        }
        // What delivery has to be done within: the client's patience, or the operator's.
        let within = match mode {
            AckMode::Delivered => ack_deadline.clone(),
            AckMode::Enqueued => self.number(&bounds::RETRY_FOR, &name, raw.retry_for_ms, 60_000),
        };
        let linger = self.number(
            &bounds::LINGER,
            &name,
            raw.linger_ms,
            defaults.linger_ms.min(within.value / 4),
        );
        self.below(&linger, &within, "no record would be sent in time");

        let records = self.number(
            &defaults.batch_records,
            &name,
            raw.batch_records_max,
            defaults.batch_records_max,
        );
        let bytes = self.number(
            &defaults.batch_bytes,
            &name,
            raw.batch_bytes_max,
            defaults.batch_bytes_max.max(record_bytes.value),
        );
        self.at_least(
            &bytes,
            record_bytes,
            "the record of a largest request would fit into no batch",
        );
        let queue = self.number(
            &bounds::QUEUE_BYTES,
            &name,
            raw.queue_bytes_max,
            bytes
                .value
                .max(64 << 20)
                .max(2 * workers_count * record_bytes.value),
        );
        self.at_least(&queue, &bytes, "no batch would ever fill");
        let in_flight = self.number(
            &bounds::IN_FLIGHT,
            &name,
            raw.in_flight_max,
            defaults.in_flight_max,
        );
        let writers = self.number(&bounds::WRITERS, &name, raw.writers, 1);
        if sink_type == SinkType::File && writers.value > 1 {
            self.problems.push(Problem::Contradiction {
                left: writers.fact(),
                must: "1 with",
                right: fact(key("type"), sink_type.to_string()),
                why: "one writer owns the directory",
            });
        }
        let cap_given = raw.retry_cap_ms.unwrap_or(u64::MAX);
        let base = self.number(
            &bounds::RETRY_BASE,
            &name,
            raw.retry_base_ms,
            cap_given.min(50),
        );
        let cap = self.number(
            &bounds::RETRY_CAP,
            &name,
            raw.retry_cap_ms,
            base.value.max(1_000),
        );
        self.at_most(&base, &cap, "the first wait is the shortest");

        let sink = match sink_type {
            SinkType::Null => SinkConfig::Null,
            SinkType::File => SinkConfig::File(self.file(&name, &raw)),
            SinkType::Firehose => {
                SinkConfig::Firehose(self.firehose(&name, &raw, &linger, &within, &bytes)?)
            }
            SinkType::Kafka => {
                SinkConfig::Kafka(self.kafka(&name, &raw, &linger, &within, &bytes)?)
            }
            SinkType::Kinesis => SinkConfig::Kinesis(self.kinesis(&name, &raw, &linger, &within)?),
        };
        Some(Output {
            ack: match mode {
                AckMode::Delivered => AckPolicy::Delivered,
                AckMode::Enqueued => AckPolicy::Enqueued {
                    retry_for: within.ms(),
                },
            },
            queue_bytes_max: queue.size(),
            linger: linger.ms(),
            batch_records_max: records.size(),
            batch_bytes_max: bytes.size(),
            in_flight_max: in_flight.size(),
            writers: writers.size(),
            retry_base: base.ms(),
            retry_cap: cap.ms(),
            partition_key: raw.partition_key.unwrap_or(PartitionKey::Random),
            sink,
            name,
        })
    }

    fn file(&mut self, name: &str, raw: &RawOutput) -> FileSink {
        let dir = raw
            .dir
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_DIR));
        if dir.as_os_str().is_empty() || dir.to_str().is_none() {
            self.malformed(
                format!("outputs.{name}.dir"),
                &dir.to_string_lossy(),
                "a directory in UTF-8",
            );
        }
        let rotate_bytes = self.number(&bounds::ROTATE_BYTES, name, raw.rotate_bytes, 134_217_728);
        let rotate = self.number(&bounds::ROTATE, name, raw.rotate_s, 300);
        FileSink {
            dir,
            rotate_bytes: rotate_bytes.value,
            rotate: rotate.seconds(),
        }
    }

    fn kinesis(
        &mut self,
        name: &str,
        raw: &RawOutput,
        linger: &Number,
        within: &Number,
    ) -> Option<KinesisSink> {
        let describe = self.number(
            &bounds::DESCRIBE_INTERVAL,
            name,
            raw.describe_interval_s,
            60,
        );
        let missing = "a kinesis output needs the name of its stream";
        let named = (128, "1 to 128 letters, digits or any of _.-", missing);
        Some(KinesisSink {
            stream: self.stream_of_aws(name, raw, linger, within, named)?,
            describe_interval: describe.seconds(),
        })
    }

    /// A stream of AWS and how it is called. `named`: the bytes of its name, those in words, and what is
    /// said when it is missing.
    pub(super) fn stream_of_aws(
        &mut self,
        name: &str,
        raw: &RawOutput,
        linger: &Number,
        within: &Number,
        named: (usize, &'static str, &'static str),
    ) -> Option<AwsStream> {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let remaining = within.value.saturating_sub(linger.value);
        let attempt = self.number(
            &bounds::ATTEMPT_TIMEOUT,
            name,
            raw.attempt_timeout_ms,
            (remaining * 3 / 4).min(3_000),
        );
        self.below(
            &linger.plus(&attempt),
            within,
            "the answer of a slow call would come too late",
        );
        let connect = self.number(
            &bounds::CONNECT_TIMEOUT,
            name,
            raw.connect_timeout_ms,
            attempt.value.min(3_000),
        );
        self.at_most(&connect, &attempt, "connecting is a part of the attempt");

        self.region(name, raw);
        if let Some(url) = &raw.endpoint_url
            && !is_endpoint(url)
        {
            self.malformed(
                key("endpoint_url"),
                url,
                "http:// or https:// and a host, at most 2048 bytes",
            );
        }
        let (bytes_max, expected, missing) = named;
        let Some(stream) = &raw.stream else {
            self.problems.push(Problem::Missing {
                key: key("stream"),
                why: missing,
            });
            return None;
        };
        if !is_word(stream, bytes_max, "_.-") {
            self.malformed(key("stream"), stream, expected);
        }
        Some(AwsStream {
            name: stream.clone(),
            region: raw.region.clone(),
            endpoint_url: raw.endpoint_url.clone(),
            connect_timeout: connect.ms(),
            attempt_timeout: attempt.ms(),
        })
    }

    pub(super) fn region(&mut self, name: &str, raw: &RawOutput) {
        if let Some(region) = &raw.region
            && !is_word(region, 32, "-")
        {
            self.malformed(
                format!("outputs.{name}.region"),
                region,
                "1 to 32 letters, digits or -",
            );
        }
    }

    /// No two file outputs in one directory.
    pub(super) fn directories(&mut self, outputs: &[Output]) {
        let files: Vec<(&str, &Path)> = outputs
            .iter()
            .filter_map(|output| match &output.sink {
                SinkConfig::File(file) => Some((output.name.as_str(), file.dir.as_path())),
                _ => None,
            })
            .collect();
        for (at, (name, dir)) in files.iter().enumerate() {
            for (other_name, other) in &files[..at] {
                if plain(dir).eq(plain(other)) {
                    self.problems.push(Problem::Contradiction {
                        left: fact(format!("outputs.{name}.dir"), format!("{dir:?}")),
                        must: "other than",
                        right: fact(format!("outputs.{other_name}.dir"), format!("{other:?}")),
                        why: "each would repair what the other is writing",
                    });
                }
            }
        }
    }

    /// Records carry one key, computed once per event, for all outputs that want one.
    pub(super) fn partition_keys(&mut self, outputs: &[Output]) {
        let mut keyed = outputs
            .iter()
            .filter(|output| output.partition_key != PartitionKey::Random);
        let Some(first) = keyed.next() else {
            return;
        };
        let key = |output: &Output| {
            fact(
                format!("outputs.{}.partition_key", output.name),
                output.partition_key.to_string(),
            )
        };
        if let Some(other) = keyed.find(|output| output.partition_key != first.partition_key) {
            self.problems.push(Problem::Contradiction {
                left: key(first),
                must: "random, or the same as",
                right: key(other),
                why: "an event has one partition key",
            });
        }
    }

    /// Each worker admits into its own share of a queue, without asking the others.
    pub(super) fn shares(&mut self, outputs: &[Output], workers: usize, record_bytes: &Number) {
        let needed = record_bytes.times(workers as u64);
        for output in outputs {
            if (output.queue_bytes_max as u64) < needed.value {
                self.problems.push(Problem::Contradiction {
                    left: fact(
                        format!("outputs.{}.queue_bytes_max", output.name),
                        format!("{} bytes", output.queue_bytes_max),
                    ),
                    must: "at least",
                    right: needed.fact(),
                    why: "a worker's share would not hold the largest request",
                });
            }
        }
    }
}

impl SinkConfig {
    /// The word for it in the file.
    #[must_use]
    pub fn sink_type(&self) -> SinkType {
        match self {
            SinkConfig::File(_) => SinkType::File,
            SinkConfig::Firehose(_) => SinkType::Firehose,
            SinkConfig::Kafka(_) => SinkType::Kafka,
            SinkConfig::Kinesis(_) => SinkType::Kinesis,
            SinkConfig::Null => SinkType::Null,
        }
    }
}

/// Where types of outputs differ.
struct Defaults {
    linger_ms: u64,
    batch_records: Bound,
    batch_records_max: u64,
    batch_bytes: Bound,
    batch_bytes_max: u64,
    in_flight_max: u64,
}

impl Defaults {
    fn of(sink: SinkType) -> Defaults {
        match sink {
            // One group commit at a time; what arrives meanwhile is the next one.
            SinkType::File => Defaults {
                linger_ms: 0,
                batch_records: bounds::FILE_BATCH_RECORDS,
                batch_records_max: 10_000,
                batch_bytes: bounds::FILE_BATCH_BYTES,
                batch_bytes_max: 8 << 20,
                in_flight_max: 1,
            },
            // Time to fill records with: each is billed up to 5 KiB however little is in it.
            SinkType::Firehose => Defaults {
                linger_ms: 100,
                batch_records: bounds::FIREHOSE_BATCH_RECORDS,
                batch_records_max: 500,
                batch_bytes: bounds::FIREHOSE_BATCH_BYTES,
                batch_bytes_max: 4 << 20,
                in_flight_max: 8,
            },
            SinkType::Kafka => Defaults {
                linger_ms: 5,
                batch_records: bounds::KAFKA_BATCH_RECORDS,
                batch_records_max: 1_000,
                batch_bytes: bounds::KAFKA_BATCH_BYTES,
                batch_bytes_max: 4 << 20,
                in_flight_max: 8,
            },
            SinkType::Kinesis => Defaults {
                linger_ms: 5,
                batch_records: bounds::KINESIS_BATCH_RECORDS,
                batch_records_max: 500,
                batch_bytes: bounds::KINESIS_BATCH_BYTES,
                batch_bytes_max: 5 << 20,
                in_flight_max: 8,
            },
            SinkType::Null => Defaults {
                linger_ms: 0,
                batch_records: bounds::NULL_BATCH_RECORDS,
                batch_records_max: 1_000,
                batch_bytes: bounds::NULL_BATCH_BYTES,
                batch_bytes_max: 8 << 20,
                in_flight_max: 4,
            },
        }
    }
}

/// The keys that were written but mean nothing to this type.
fn misplaced(sink: SinkType, raw: &RawOutput) -> impl Iterator<Item = &'static str> {
    use SinkType::{File, Firehose, Kafka, Kinesis, Null};
    let only: [(&str, bool, &[SinkType]); 26] = [
        // A file and a delivery stream know no keys. `null` takes one so that the cost of making it can be
        // measured.
        (
            "partition_key",
            raw.partition_key.is_some(),
            &[Kafka, Kinesis, Null],
        ),
        ("stream", raw.stream.is_some(), &[Firehose, Kinesis]),
        ("region", raw.region.is_some(), &[Firehose, Kafka, Kinesis]),
        (
            "endpoint_url",
            raw.endpoint_url.is_some(),
            &[Firehose, Kinesis],
        ),
        (
            "connect_timeout_ms",
            raw.connect_timeout_ms.is_some(),
            &[Firehose, Kinesis],
        ),
        (
            "attempt_timeout_ms",
            raw.attempt_timeout_ms.is_some(),
            &[Firehose, Kinesis],
        ),
        (
            "describe_interval_s",
            raw.describe_interval_s.is_some(),
            &[Kinesis],
        ),
        ("pack_bytes_max", raw.pack_bytes_max.is_some(), &[Firehose]),
        ("dir", raw.dir.is_some(), &[File]),
        ("rotate_bytes", raw.rotate_bytes.is_some(), &[File]),
        ("rotate_s", raw.rotate_s.is_some(), &[File]),
        ("brokers", raw.brokers.is_some(), &[Kafka]),
        ("topic", raw.topic.is_some(), &[Kafka]),
        ("topic_fallback", raw.topic_fallback.is_some(), &[Kafka]),
        ("topics_max", raw.topics_max.is_some(), &[Kafka]),
        ("tls", raw.tls.is_some(), &[Kafka]),
        ("ca_file", raw.ca_file.is_some(), &[Kafka]),
        ("certificate_file", raw.certificate_file.is_some(), &[Kafka]),
        ("key_file", raw.key_file.is_some(), &[Kafka]),
        ("key_password", raw.key_password.is_some(), &[Kafka]),
        ("sasl", raw.sasl.is_some(), &[Kafka]),
        ("sasl_username", raw.sasl_username.is_some(), &[Kafka]),
        ("sasl_password", raw.sasl_password.is_some(), &[Kafka]),
        ("compression", raw.compression.is_some(), &[Kafka]),
        (
            "delivery_timeout_ms",
            raw.delivery_timeout_ms.is_some(),
            &[Kafka],
        ),
        ("record_bytes_max", raw.record_bytes_max.is_some(), &[Kafka]),
    ];
    only.into_iter()
        .filter(move |(_, written, of)| *written && !of.contains(&sink))
        .map(|(key, ..)| key)
}

/// The path without `.` parts, so that `./a` and `a` are the same.
fn plain(path: &Path) -> impl Iterator<Item = Component<'_>> {
    path.components().filter(|part| *part != Component::CurDir)
}

/// 1 to `most` ASCII letters, digits or bytes of `others`.
pub(super) fn is_word(text: &str, most: usize, others: &str) -> bool {
    (1..=most).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || others.as_bytes().contains(&byte))
}

fn is_output_name(name: &str) -> bool {
    is_word(name, 32, "_-") && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_endpoint(url: &str) -> bool {
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    url.len() <= 2_048
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
}
