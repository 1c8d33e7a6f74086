//! Outputs as the operator configures them: a type of destination with its own settings, and the delivery
//! settings that every type has.
//!
//! ```text
//!  [outputs.clicks]          Timing      ack, retry_for_ms, linger_ms
//!  type = "kinesis"          <type>      stream, region, … batch_records_max, batch_bytes_max
//!  stream = "clicks"         Delivery    queue_bytes_max, in_flight_max, writers, retry_base_ms, retry_cap_ms,
//!                           circuit_open_after_ms, circuit_probe_every_ms, fallback
//!  [outputs.clicks.spool]    Spool       dir, bytes_max, after_ms, fsync, replay_percent, replay_records_per_s
//! ```
//!
//! A type declares its settings in its own `settings.rs` and is listed in [`crate::TYPES`].

use crate::keyword_enum;
use crate::names::Names;
use crate::setting_from_text;
use crate::settings::{
    GIB, Given, HOUR_MS, MIB, MINUTE_MS, Number, Reader, Setting, bytes, checked, is_word, ms,
    number, text, word,
};
use crate::sink::{CheckError, Sink, SinkFuture};
use crate::spool::SpoolSettings;
use sluice_core::partition::PartitionRule;
use sluice_core::time::Wall;
use sluice_core::topic::Template;
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A type of output.
#[derive(Clone, Copy, Debug)]
pub struct OutputType {
    /// The word for it in `type`.
    pub name: &'static str,
    /// Where its records go.
    pub sentence: &'static str,
    /// The settings that it cannot do without, as lines of a file.
    pub example: &'static str,
    /// The declarations of its settings, in groups.
    pub settings: &'static [&'static [Setting]],
    /// Reads an output of this type from the section that the reader has entered.
    pub read: fn(&mut Reader, &OutputContext) -> Output,
}

/// The setting that all outputs have before they have a type.
pub const TYPE_SETTING: Setting = Setting {
    key: "type",
    sentence: "The type of the output.",
    form: text("one of the types below", |_| true),
};

impl OutputType {
    /// Whether outputs of this type have a setting.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.all_settings().any(|setting| setting.key == key)
    }

    /// The declarations of all groups.
    pub fn all_settings(&self) -> impl Iterator<Item = &'static Setting> {
        self.settings.iter().copied().flatten()
    }
}

/// Settings outside of an output that its own depend on.
#[derive(Clone, Debug)]
pub struct OutputContext {
    /// The name of the output.
    pub name: String,
    /// The time in which a client is answered.
    pub ack_deadline: Number,
    /// Bytes of the record of a largest request.
    pub record_bytes: Number,
    /// Listener cores, each with its own share of the queue.
    pub workers: u64,
    /// The spool in front of the destination, where there is one.
    pub spool: Option<SpoolSettings>,
}

/// An output with every value present.
#[derive(Clone, Debug)]
pub struct Output {
    /// 1 to 32 of `a-z`, `0-9`, `_`, `-`.
    pub name: String,
    /// The word for its type.
    pub type_name: &'static str,
    /// When clients are answered, and how long records wait.
    pub timing: Timing,
    /// The queue in front of the destination, and how it is called.
    pub delivery: Delivery,
    /// What decides a record's place in a stream; [`PartitionRule::Random`] where the type knows no key.
    pub partition_key: PartitionRule,
    /// The spool in front of the destination.
    pub spool: Option<SpoolSettings>,
    /// The destination.
    pub sink: Arc<dyn SinkConfig>,
    /// Whose list it is in, for an output that was made for a name in a list.
    pub listed: Option<Listed>,
}

/// An output's place in the list of another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The output that lists it.
    pub by: String,
    /// The setting that it does so with.
    pub key: &'static str,
    /// The word for what it is.
    pub term: &'static str,
    /// Its name there.
    pub name: String,
}

impl Output {
    /// Reads an output whose batches wait for more records: when it answers, the settings of its sink, and the
    /// queue in front of it.
    pub(crate) fn lingering<S: SinkConfig + 'static>(
        reader: &mut Reader,
        of: &OutputType,
        usual: &Usual,
        context: &OutputContext,
        settings: impl FnOnce(&mut Reader, &Patience) -> S,
    ) -> Output {
        let (timing, patience) = Timing::lingering(reader, usual, of.name, context);
        let sink = Arc::new(settings(reader, &patience));
        let batch = reader.number("batch_bytes_max");
        let partition_key = match of.has("partition_key") {
            true => Partitioning::read(reader).partition_key,
            false => PartitionRule::Random,
        };
        Output {
            name: context.name.clone(),
            type_name: of.name,
            timing,
            partition_key,
            delivery: Delivery::around(reader, usual, of.name, context, &batch, 0),
            spool: context.spool.clone(),
            sink,
            listed: None,
        }
    }
}

/// The settings of one destination.
pub trait SinkConfig: Debug + Send + Sync {
    /// Makes the sink, in the runtime that will drive it. A destination that cannot be reached now is not an
    /// error: it may be reached later. `clock` reads the time that names files and objects.
    fn start(&self, clock: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>>;

    /// Tries whether the destination can be written to, without writing an event. Returns a description of
    /// what was found.
    fn try_out(&self, clock: fn() -> Wall) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(async move { self.start(clock).await?.check().await })
    }

    /// Whether the destination is on this host, so that [`SinkConfig::try_out`] needs no network.
    fn is_local(&self) -> bool {
        false
    }

    /// Whether the destination keeps what it confirms.
    fn keeps_records(&self) -> bool {
        true
    }

    /// The directory on this host that only this output may write.
    fn directory(&self) -> Option<Directory<'_>> {
        None
    }

    /// Places of the same kind that it lists besides its own.
    fn names(&self) -> Option<Names> {
        None
    }

    /// Whether a record can name its topic.
    fn takes_topics(&self) -> bool {
        false
    }

    /// The rule by which records name their topic.
    fn topics(&self) -> Option<TopicRule<'_>> {
        None
    }
}

/// A directory on this host that only one output may write.
#[derive(Clone, Copy, Debug)]
pub struct Directory<'a> {
    /// The setting that names it.
    pub key: &'static str,
    /// Its path.
    pub path: &'a Path,
    /// The bytes it may hold, where there is a limit.
    pub bytes_max: Option<u64>,
}

/// The rule by which records name their topic.
#[derive(Clone, Copy, Debug)]
pub struct TopicRule<'a> {
    /// How names are made.
    pub template: &'a Template,
    /// Different names at a time.
    pub topics_max: usize,
}

keyword_enum! {
    /// What a client's 200 waits for at an output.
    AckMode, "one of delivered, durable, enqueued" {
        /// The destination's result.
        Delivered = "delivered",
        /// A synced place on the local disk, in the spool or S3's staging directory, from where the destination gets the record, also after a restart.
        Durable = "durable",
        /// A place in the queue: best effort. Records still undelivered after `retry_for_ms` are counted and dropped.
        Enqueued = "enqueued",
    }
}

setting_from_text!(PartitionRule);

/// What is usual for a type of output.
#[derive(Clone, Copy, Debug)]
pub struct Usual {
    /// What a 200 waits for besides `enqueued`; the default.
    pub ack: AckMode,
    /// How long an `enqueued` record is tried.
    pub retry_for: Duration,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// Calls running at once, per writer.
    pub in_flight_max: usize,
    /// The longest wait before the first retry.
    pub retry_base: Duration,
    /// The longest wait before any retry.
    pub retry_cap: Duration,
    /// Why there can be only one writer, where that is so.
    pub one_writer: Option<&'static str>,
}

impl Usual {
    /// For destinations that are called over a network and answer at once.
    pub const SERVICE: Usual = Usual {
        ack: AckMode::Delivered,
        retry_for: Duration::from_secs(60),
        linger: Duration::from_millis(5),
        in_flight_max: 8,
        retry_base: Duration::from_millis(50),
        retry_cap: Duration::from_secs(1),
        one_writer: None,
    };
}

crate::settings! {
    /// When clients are answered, and how long records wait.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Timing from (reader, usual: &Usual, context: &OutputContext) {
        /// When a client is answered 200: `delivered`, once the destination has the record (all types but s3), or its
        /// spool in the destination's place; `durable`, once it is synced on this host's disk (s3, and all types with
        /// a spool); `enqueued`, once it is in the queue (best effort).
        ack: AckMode = usual.ack, word::<AckMode>().default_is("`delivered`; for s3 `durable`");
        /// With `ack = "enqueued"`: how long a record is tried before it is counted and dropped.
        retry_for as "retry_for_ms": Duration = usual.retry_for, ms(1, 24 * HOUR_MS).default_is("60000; for s3 600000 more than the age of an object");
        /// How long a batch waits for more records; less than the client or `retry_for_ms` allows.
        linger as "linger_ms": Duration = usual.linger.min(quarter(match ack {
            AckMode::Enqueued => u64::try_from(retry_for.as_millis()).unwrap_or(u64::MAX),
            AckMode::Delivered | AckMode::Durable => context.ack_deadline.value,
        })), ms(0, MINUTE_MS);
    }
}

/// A shorter outage is not told from a hiccup.
const CIRCUIT_OPEN_AFTER_MS_MIN: u64 = 100;

/// With a fallback, the circuit opens after this part of the ack deadline, so that there is time to use it.
const FALLBACK_PATIENCE: u32 = 4;

/// Whether a text can be the name of an output.
#[must_use]
pub fn is_name(name: &str) -> bool {
    is_word(name, 32, "_-") && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn quarter(ms: u64) -> Duration {
    Duration::from_millis(ms / 4)
}

crate::settings! {
    /// The queue in front of the destination, and how the destination is called.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Delivery from (reader, usual: &Usual, context: &OutputContext, queue_bytes: u64, cap_written: Option<u64>) {
        /// Bytes waiting in front of the writers; at least a full batch, and the record of a largest request for each worker.
        queue_bytes_max: usize = usize::try_from(queue_bytes).unwrap_or(usize::MAX),
            bytes(1, 64 * GIB).default_is("64 MiB, or a full batch, or two of the largest records for each worker, whichever is most");
        /// Calls running at once, per writer.
        in_flight_max: usize = usual.in_flight_max, number("calls", 1, 1_024);
        /// Writer threads.
        writers: usize = 1, number("writers", 1, 64);
        /// The longest wait before the first retry.
        retry_base as "retry_base_ms": Duration =
            usual.retry_base.min(cap_written.map_or(Duration::MAX, Duration::from_millis)), ms(1, MINUTE_MS);
        /// The longest wait before any retry.
        retry_cap as "retry_cap_ms": Duration = usual.retry_cap.max(retry_base), ms(1, MINUTE_MS);
        /// The output that gets this one's records while its circuit is open, before its spool does. One that is named
        /// here, and by no route or group, gets no other records.
        fallback: Option<String> = None, text("the name of another output", is_name).default_is("no fallback");
        /// Calls without any success for this long open a writer's circuit, and where its records have another place to
        /// go, a fallback or a spool, so do three calls in a row. Requests that would wait for the output, and have no
        /// other place, are then answered 503 at once, but for a few that try it. `off` lets every request wait.
        circuit_open_after as "circuit_open_after_ms": Option<Duration> =
            Some(Duration::from_millis(context.ack_deadline.value) / match fallback {
                Some(_) => FALLBACK_PATIENCE,
                None => 1,
            }),
            ms(CIRCUIT_OPEN_AFTER_MS_MIN, 10 * MINUTE_MS).or_off()
                .default_is("`ack.deadline_ms`, with a `fallback` a quarter of it");
        /// While the circuit is open, each worker lets a request through this often.
        circuit_probe_every as "circuit_probe_every_ms": Duration = Duration::from_millis(250), ms(10, MINUTE_MS);
    }
}

crate::settings! {
    /// What decides a record's place in a stream.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Partitioning from (reader) {
        /// What decides a record's place in the stream: chance (even load), the time of its request, or a field of the event.
        partition_key: PartitionRule = PartitionRule::Random, checked(PartitionRule::EXPECTED);
    }
}

/// The time that an output has for a record.
#[derive(Clone, Debug)]
pub struct Patience {
    /// How long a batch gathers.
    pub linger: Number,
    /// In which a record has to be delivered: the client's patience, or the operator's.
    pub within: Number,
}

impl Patience {
    /// For settings that no operator wrote.
    pub(crate) fn unbounded() -> Patience {
        Patience {
            linger: Number::new("linger_ms", "ms", 0),
            within: Number::new("ack.deadline_ms", "ms", u64::MAX / 4),
        }
    }

    /// What is left for calls, ms.
    #[must_use]
    pub fn remaining_ms(&self) -> u64 {
        self.within.value.saturating_sub(self.linger.value)
    }
}

impl Timing {
    /// Reads and checks the settings of an output whose batches gather for `linger_ms`.
    pub fn lingering(
        reader: &mut Reader,
        usual: &Usual,
        type_name: &str,
        context: &OutputContext,
    ) -> (Timing, Patience) {
        let timing = Timing::known(reader, usual, type_name, context);
        let linger = reader.number("linger_ms");
        let patience = timing.patience(reader, linger, context);
        (timing, patience)
    }

    /// Reads the settings and checks that the type knows the `ack`.
    pub(crate) fn known(
        reader: &mut Reader,
        usual: &Usual,
        type_name: &str,
        context: &OutputContext,
    ) -> Timing {
        let timing = Timing::read(reader, usual, context);
        let (must, why) = match (usual.ack, timing.ack) {
            (AckMode::Durable, AckMode::Delivered) => (
                "durable or enqueued with",
                "an object takes minutes to fill, and no client waits for it",
            ),
            (AckMode::Delivered, AckMode::Durable) if context.spool.is_none() => (
                "delivered or enqueued with",
                "only outputs of type s3 and those with a spool keep events on a disk until they are delivered",
            ),
            _ => return timing,
        };
        let ack = Given::new(reader.path("ack"), timing.ack.word());
        let of_type = Given::new(reader.path("type"), type_name);
        reader.contradiction(ack, must, of_type, why);
        Timing {
            ack: usual.ack,
            ..timing
        }
    }

    /// The time for a record whose batch gathers for `linger`.
    pub(crate) fn patience(
        &self,
        reader: &mut Reader,
        linger: Number,
        context: &OutputContext,
    ) -> Patience {
        let is_enqueued = self.ack == AckMode::Enqueued;
        let within = match is_enqueued {
            true => reader.number("retry_for_ms"),
            false => context.ack_deadline.clone(),
        };
        reader.only_if(is_enqueued, &["retry_for_ms"], "ack", self.ack.word());
        reader.below(&linger, &within, "no record would be sent in time");
        if let Some(spool) = &context.spool {
            spool.check(reader, context, &within);
        }
        Patience { linger, within }
    }
}

impl Delivery {
    /// Reads and checks the settings of an output with batches of `batch` bytes, of which `batches` fit the
    /// queue for each worker, 0 where the workers' records share batches.
    pub fn around(
        reader: &mut Reader,
        usual: &Usual,
        type_name: &str,
        context: &OutputContext,
        batch: &Number,
        batches: u64,
    ) -> Delivery {
        let record = &context.record_bytes;
        reader.at_least(
            batch,
            record,
            "the record of a largest request would fit into no batch",
        );
        let queue = [
            64 * MIB,
            batch.value,
            2 * context.workers * record.value,
            batches * context.workers * batch.value,
        ];
        let cap_written = reader.given(&reader.path("retry_cap_ms"));
        let queue = queue.into_iter().max().unwrap_or(0);
        let delivery = Delivery::read(reader, usual, context, queue, cap_written);
        let queue = reader.number("queue_bytes_max");
        reader.at_least(&queue, batch, "no batch would ever fill");
        let needed = record.times(context.workers);
        reader.at_least(
            &queue,
            &needed,
            "a worker's share would not hold the largest request",
        );
        if let Some(why) = usual.one_writer
            && delivery.writers > 1
        {
            let writers = reader.number("writers").given();
            let of_type = Given::new(reader.path("type"), type_name);
            reader.contradiction(writers, "1 with", of_type, why);
        }
        let (base, cap) = (
            reader.number("retry_base_ms"),
            reader.number("retry_cap_ms"),
        );
        reader.at_most(&base, &cap, "the first wait is the shortest");
        if let (Some(fallback), None) = (&delivery.fallback, delivery.circuit_open_after) {
            let off = Given::new(reader.path("circuit_open_after_ms"), "off");
            let fallback = Given::new(reader.path("fallback"), &**fallback);
            reader.contradiction(off, "a time with", fallback, "only an open circuit uses it");
        }
        delivery
    }
}
