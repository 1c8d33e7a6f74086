//! One output from what was written of it. Pure, like the rest of `resolve`.

use super::bounds::{self, Bound};
use super::check::{Check, Number, setting};
use super::keywords::{AckMode, PartitionKey, SinkType};
use super::raw::RawOutput;
use super::{AckPolicy, AwsStream, FileSink, KinesisSink, Output, SinkConfig};
use sluice_sinks::settings::Problem;
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
                why: "one of file, firehose, kafka, kinesis, null, s3",
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

        let mode = self.ack_mode(&name, sink_type, raw.ack);
        let object = (sink_type == SinkType::S3).then(|| self.object(&name, &raw, mode));
        // A batch of an S3 output without a stage is an object.
        let gathered = object.as_ref().filter(|_| mode == AckMode::Enqueued);
        if let (AckMode::Delivered | AckMode::Durable, Some(_)) = (mode, raw.retry_for_ms) {
            self.problems.push(Problem::Misplaced {
                key: key("retry_for_ms"),
                because: key("ack"),
                value: mode.to_string(),
            });
        }
        // What delivery has to be done within: the client's patience, or the operator's.
        let within = match mode {
            AckMode::Delivered | AckMode::Durable => ack_deadline.clone(),
            AckMode::Enqueued => {
                let default_ms = match gathered {
                    Some(object) => object.age.value + 600_000,
                    None => 60_000,
                };
                self.number(&bounds::RETRY_FOR, &name, raw.retry_for_ms, default_ms)
            }
        };
        let linger = match gathered {
            Some(object) => object.age.clone(),
            None => self.number(
                &bounds::LINGER,
                &name,
                raw.linger_ms,
                defaults.linger_ms.min(within.value / 4),
            ),
        };
        self.below(&linger, &within, "no record would be sent in time");

        let (records, bytes) = match gathered {
            Some(object) => self.object_batch(&name, &object.bytes, record_bytes),
            None => (
                self.number(
                    &defaults.batch_records,
                    &name,
                    raw.batch_records_max,
                    defaults.batch_records_max,
                ),
                self.number(
                    &defaults.batch_bytes,
                    &name,
                    raw.batch_bytes_max,
                    defaults.batch_bytes_max.max(record_bytes.value),
                ),
            ),
        };
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
                .max(2 * workers_count * record_bytes.value)
                // One object gathers while another is stored, whichever worker the events come from.
                .max(gathered.map_or(0, |_| 2 * workers_count * bytes.value)),
        );
        self.at_least(&queue, &bytes, "no batch would ever fill");
        let in_flight = self.number(
            &bounds::IN_FLIGHT,
            &name,
            raw.in_flight_max,
            defaults.in_flight_max,
        );
        let writers = self.number(&bounds::WRITERS, &name, raw.writers, 1);
        let one_writer = match sink_type {
            SinkType::File => Some("one writer owns the directory"),
            SinkType::S3 => Some("one writer fills an object"),
            SinkType::Firehose | SinkType::Kafka | SinkType::Kinesis | SinkType::Null => None,
        };
        if let Some(why) = one_writer
            && writers.value > 1
        {
            self.problems.push(Problem::Contradiction {
                left: writers.setting(),
                must: "1 with",
                right: setting(key("type"), sink_type.to_string()),
                why,
            });
        }
        let cap_given = raw.retry_cap_ms.unwrap_or(u64::MAX);
        let base = self.number(
            &bounds::RETRY_BASE,
            &name,
            raw.retry_base_ms,
            cap_given.min(defaults.retry_base_ms),
        );
        let cap = self.number(
            &bounds::RETRY_CAP,
            &name,
            raw.retry_cap_ms,
            base.value.max(defaults.retry_cap_ms),
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
            SinkType::S3 => SinkConfig::S3(self.s3(&name, &raw, mode, &object?)?),
        };
        Some(Output {
            ack: match mode {
                AckMode::Delivered => AckPolicy::Delivered,
                AckMode::Durable => AckPolicy::Durable,
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
        let expected = "1 to 128 letters, digits or any of _.-, or the stream's ARN";
        let named = (128, expected, missing);
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
        self.endpoint(name, raw);
        let (bytes_max, expected, missing) = named;
        let Some(stream) = &raw.stream else {
            self.problems.push(Problem::Missing {
                key: key("stream"),
                why: missing,
            });
            return None;
        };
        // Only data streams may be named by their ARN: the other calls have no place for one.
        let is_arn = raw.r#type == Some(SinkType::Kinesis) && is_stream_arn(stream);
        if !is_word(stream, bytes_max, "_.-") && !is_arn {
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

    pub(super) fn endpoint(&mut self, name: &str, raw: &RawOutput) {
        if let Some(url) = &raw.endpoint_url
            && !is_endpoint(url)
        {
            self.malformed(
                format!("outputs.{name}.endpoint_url"),
                url,
                "http:// or https:// and a host, at most 2048 bytes",
            );
        }
    }

    /// No two outputs in one directory.
    pub(super) fn directories(&mut self, outputs: &[Output]) {
        let files: Vec<(String, &Path)> = outputs
            .iter()
            .filter_map(|Output { name, sink, .. }| match sink {
                SinkConfig::File(file) => Some((format!("outputs.{name}.dir"), &*file.dir)),
                SinkConfig::S3(s3) => {
                    let staging = s3.staging.as_ref()?;
                    Some((format!("outputs.{name}.staging_dir"), &*staging.dir))
                }
                _ => None,
            })
            .collect();
        for (at, (key, dir)) in files.iter().enumerate() {
            for (other_key, other) in &files[..at] {
                if plain(dir).eq(plain(other)) {
                    self.problems.push(Problem::Contradiction {
                        left: setting(key, format!("{dir:?}")),
                        must: "other than",
                        right: setting(other_key, format!("{other:?}")),
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
            setting(
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
                    left: setting(
                        format!("outputs.{}.queue_bytes_max", output.name),
                        format!("{} bytes", output.queue_bytes_max),
                    ),
                    must: "at least",
                    right: needed.setting(),
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
            SinkConfig::S3(_) => SinkType::S3,
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
    retry_base_ms: u64,
    retry_cap_ms: u64,
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
                retry_base_ms: 50,
                retry_cap_ms: 1_000,
            },
            // Time to fill records with: each is billed up to 5 KiB however little is in it.
            SinkType::Firehose => Defaults {
                linger_ms: 100,
                batch_records: bounds::FIREHOSE_BATCH_RECORDS,
                batch_records_max: 500,
                batch_bytes: bounds::FIREHOSE_BATCH_BYTES,
                batch_bytes_max: 4 << 20,
                in_flight_max: 8,
                retry_base_ms: 50,
                retry_cap_ms: 1_000,
            },
            SinkType::Kafka => Defaults {
                linger_ms: 5,
                batch_records: bounds::KAFKA_BATCH_RECORDS,
                batch_records_max: 1_000,
                batch_bytes: bounds::KAFKA_BATCH_BYTES,
                batch_bytes_max: 4 << 20,
                in_flight_max: 8,
                retry_base_ms: 50,
                retry_cap_ms: 1_000,
            },
            SinkType::Kinesis => Defaults {
                linger_ms: 5,
                batch_records: bounds::KINESIS_BATCH_RECORDS,
                batch_records_max: 500,
                batch_bytes: bounds::KINESIS_BATCH_BYTES,
                batch_bytes_max: 5 << 20,
                in_flight_max: 8,
                retry_base_ms: 50,
                retry_cap_ms: 1_000,
            },
            SinkType::Null => Defaults {
                linger_ms: 0,
                batch_records: bounds::NULL_BATCH_RECORDS,
                batch_records_max: 1_000,
                batch_bytes: bounds::NULL_BATCH_BYTES,
                batch_bytes_max: 8 << 20,
                in_flight_max: 4,
                retry_base_ms: 50,
                retry_cap_ms: 1_000,
            },
            // Batches as those of files; what is tried again is an object.
            SinkType::S3 => Defaults {
                linger_ms: 0,
                batch_records: bounds::S3_BATCH_RECORDS,
                batch_records_max: 10_000,
                batch_bytes: bounds::S3_BATCH_BYTES,
                batch_bytes_max: 8 << 20,
                in_flight_max: 1,
                retry_base_ms: 200,
                retry_cap_ms: 20_000,
            },
        }
    }
}

/// The keys that were written but mean nothing to this type.
fn misplaced(sink: SinkType, raw: &RawOutput) -> impl Iterator<Item = &'static str> {
    use SinkType::{File, Firehose, Kafka, Kinesis, Null, S3};
    let only: [(&str, bool, &[SinkType]); 35] = [
        // A file and a delivery stream know no keys. `null` takes one so that the cost of making it can be
        // measured.
        (
            "partition_key",
            raw.partition_key.is_some(),
            &[Kafka, Kinesis, Null],
        ),
        ("stream", raw.stream.is_some(), &[Firehose, Kinesis]),
        (
            "region",
            raw.region.is_some(),
            &[Firehose, Kafka, Kinesis, S3],
        ),
        (
            "endpoint_url",
            raw.endpoint_url.is_some(),
            &[Firehose, Kinesis, S3],
        ),
        (
            "connect_timeout_ms",
            raw.connect_timeout_ms.is_some(),
            &[Firehose, Kinesis, S3],
        ),
        (
            "attempt_timeout_ms",
            raw.attempt_timeout_ms.is_some(),
            &[Firehose, Kinesis, S3],
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
        ("bucket", raw.bucket.is_some(), &[S3]),
        ("prefix", raw.prefix.is_some(), &[S3]),
        ("path_style", raw.path_style.is_some(), &[S3]),
        ("staging_dir", raw.staging_dir.is_some(), &[S3]),
        ("staging_bytes_max", raw.staging_bytes_max.is_some(), &[S3]),
        ("object_bytes_max", raw.object_bytes_max.is_some(), &[S3]),
        ("object_age_s", raw.object_age_s.is_some(), &[S3]),
        ("storage_class", raw.storage_class.is_some(), &[S3]),
        ("kms_key_id", raw.kms_key_id.is_some(), &[S3]),
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

/// Whether a text is the ARN of a data stream, for instance
/// `arn:aws:kinesis:eu-west-1:123456789012:stream/clicks`.
fn is_stream_arn(text: &str) -> bool {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        ["arn", partition, "kinesis", region, account, resource] => {
            let stream = resource.strip_prefix("stream/");
            is_word(partition, 32, "-")
                && is_word(region, 32, "-")
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && stream.is_some_and(|name| is_word(name, 128, "_.-"))
        }
        _ => false,
    }
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
