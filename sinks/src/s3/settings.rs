//! Settings of `type = "s3"`.

use super::{PREFIX_BYTES_MAX, S3Sink};
use crate::aws::AwsSettings;
use crate::keyword_enum;
use crate::names::{NAMES_MAX, Names, is_listed, label};
use crate::output::{
    AckMode, Delivery, Directory, Output, OutputContext, OutputType, SinkConfig, Timing, Usual,
};
use crate::settings::{
    GIB, Given, MIB, Number, Reader, bytes, dir, is_word, number, seconds, switch, text, texts,
    word,
};
use crate::sink::{CheckError, Sink, SinkFuture};
use sluice_core::partition::PartitionRule;
use sluice_core::time::Wall;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Objects in a bucket.
pub const TYPE: OutputType = OutputType {
    name: "s3",
    sentence: "Objects in a bucket of S3 or a compatible store.",
    example: "bucket = \"clicks\"\n",
    settings: &[
        S3Settings::SETTINGS,
        AwsSettings::SETTINGS,
        Timing::SETTINGS,
        Delivery::SETTINGS,
    ],
    read,
};

/// Batches as those of files; an object is retried, not a batch.
const USUAL: Usual = Usual {
    ack: AckMode::Durable,
    retry_for: Duration::from_secs(60),
    linger: Duration::ZERO,
    in_flight_max: 1,
    retry_base: Duration::from_millis(200),
    retry_cap: Duration::from_secs(20),
    one_writer: Some("one writer fills an object"),
};

/// How long an object that is complete is tried by default, with `ack = "enqueued"`.
const OBJECT_RETRY_FOR: Duration = Duration::from_secs(600);

/// Settings without a meaning where records wait in memory for their object: then a batch is an object.
const STAGED_ONLY: &[&str] = &[
    "linger_ms",
    "batch_records_max",
    "batch_bytes_max",
    "staging_dir",
    "staging_bytes_max",
];

keyword_enum! {
    /// The storage class of objects: those whose objects can be read at once.
    StorageClass, "one of STANDARD, STANDARD_IA, ONEZONE_IA, INTELLIGENT_TIERING, GLACIER_IR" {
        /// For objects that are read often; the service's default.
        Standard = "STANDARD",
        /// For objects that are read seldom.
        StandardIa = "STANDARD_IA",
        /// For objects that are read seldom and could be made again.
        OnezoneIa = "ONEZONE_IA",
        /// Moved by how often they are read.
        IntelligentTiering = "INTELLIGENT_TIERING",
        /// For objects that are hardly ever read.
        GlacierIr = "GLACIER_IR",
    }
}

/// Where records are until their object is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// In the staging directory: confirmed when they are synced there.
    Staged,
    /// In memory: confirmed when the object is stored, and a write is an object.
    Memory {
        /// An object that is not stored after this is given up.
        give_up_after: Duration,
        /// Bytes of lines in an object, at least the record of a largest request.
        write_bytes_max: usize,
    },
}

crate::settings! {
    /// Which bucket, how to reach it, and when an object is finished.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct S3Settings from (reader, record_bytes: usize) {
        /// The bucket's name.
        bucket: String = String::new(),
            text("3 to 255 letters, digits or any of _.-", is_bucket)
                .needed("an s3 output needs the name of its bucket");
        /// The beginning of every key, as it is: a `/` at its end is not added.
        prefix: String = String::new(),
            text("up to 896 printable ASCII characters without spaces", is_prefix);
        /// Further prefixes, between which a rule's `topic` chooses. Each has a directory of its own in `staging_dir`.
        prefixes: Vec<String> = Vec::new(),
            texts("prefixes", NAMES_MAX, "1 to 249 printable ASCII characters without spaces", |text| is_listed(text) && is_prefix(text))
                .default_is("none");
        /// Whether the bucket stands in the path instead of the host name.
        path_style: Option<bool> = None,
            switch().default_is("`true` where an endpoint is given, here or in `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`");
        /// With `ack = "durable"`: the directory of records whose object is not stored yet; created when missing, and locked: no other output or process may have the same.
        staging_dir: PathBuf = PathBuf::from("./sluice-staging"), dir();
        /// An object is finished before its lines pass this; only a batch that is larger by itself makes a larger one.
        object_bytes_max: u64 = 30_000_000, bytes(1_000_000, 50_000_000);
        /// Bytes of records in `staging_dir`, at least `object_bytes_max`; over it requests are answered 503.
        staging_bytes_max: u64 = 4 * GIB, bytes(1_000_000, 1_024 * GIB);
        /// An object is finished at this age.
        object_age_max as "object_age_s": Duration = Duration::from_secs(300), seconds(1, 3_600);
        /// The storage class of objects.
        storage_class: StorageClass = StorageClass::Standard, word::<StorageClass>();
        /// The KMS key that objects are encrypted with.
        kms_key_id: Option<String> = None,
            text("a key's id, ARN or alias: 1 to 2048 letters, digits or any of :/_-", is_kms_key)
                .default_is("the bucket decides");
        /// With `ack = "durable"`: records in one write to `staging_dir`.
        batch_records_max: usize = 10_000, number("records", 1, 100_000);
        /// With `ack = "durable"`: bytes in one write to `staging_dir`, at least the record of a largest request.
        batch_bytes_max: usize = record_bytes.max(8 << 20), bytes(1, 256 * MIB);
    }
    and {
        /// Where records are until their object is stored.
        keeping: Keeping = Keeping::Staged;
        /// After this a write is given up as [`sluice_core::cause::Cause::Unknown`]. The disk call itself cannot be
        /// ended: until it returns, further writes wait as long and are then
        /// [`sluice_core::cause::Cause::Unavailable`].
        write_timeout: Duration = Duration::from_secs(5);
        /// The longest wait before the second attempt to store an object.
        retry_base: Duration = USUAL.retry_base;
        /// The longest wait before any attempt.
        retry_cap: Duration = USUAL.retry_cap;
        /// Region, endpoint and time-outs.
        aws: AwsSettings = AwsSettings::read(reader, Duration::from_secs(60));
    }
}

impl S3Settings {
    /// The defaults, for a bucket by its name.
    #[must_use]
    pub fn new(bucket: impl Into<String>) -> S3Settings {
        S3Settings {
            bucket: bucket.into(),
            ..S3Settings::read(&mut Reader::default(), 0)
        }
    }
}

fn read(reader: &mut Reader, context: &OutputContext) -> Output {
    let mut settings = S3Settings::read(reader, context.record_bytes.size());
    settings.aws.check(reader);
    let usual = Usual {
        retry_for: settings.object_age_max + OBJECT_RETRY_FOR,
        ..USUAL
    };
    let mut timing = Timing::known(reader, &usual, TYPE.name, context);
    let object = reader.number("object_bytes_max");
    let is_staged = timing.ack != AckMode::Enqueued;
    let (linger, batch, batches) = if is_staged {
        let staging = reader.number("staging_bytes_max");
        reader.at_least(&staging, &object, "no object would ever fill");
        (
            reader.number("linger_ms"),
            reader.number("batch_bytes_max"),
            0,
        )
    } else {
        timing.linger = settings.object_age_max;
        let age = reader.number("object_age_s");
        let batch = Number {
            value: object.value.max(context.record_bytes.value),
            ..object
        };
        // One object gathers while another is stored, whichever worker the events come from.
        (Number::new(age.key, "ms", age.value * 1_000), batch, 2)
    };
    let write_bytes_max = batch.size();
    let patience = timing.patience(reader, linger, context);
    let delivery = Delivery::around(reader, &usual, TYPE.name, context, &batch, batches);
    reader.only_if(is_staged, STAGED_ONLY, "ack", timing.ack.word());
    if is_staged && let Some(spool) = &context.spool {
        let dir = spool.dir.clone().unwrap_or_default();
        reader.contradiction(
            Given::new(
                format!("outputs.{}.spool.dir", context.name),
                format!("{dir:?}"),
            ),
            "left out with",
            Given::new(reader.path("ack"), timing.ack.word()),
            "`staging_dir` keeps these records already",
        );
    }
    if !is_staged {
        // The time left to deliver a record once its object is complete.
        settings.keeping = Keeping::Memory {
            give_up_after: Duration::from_millis(patience.remaining_ms()),
            write_bytes_max,
        };
    }
    settings.retry_base = delivery.retry_base;
    settings.retry_cap = delivery.retry_cap;
    Output {
        name: context.name.clone(),
        type_name: TYPE.name,
        timing,
        delivery,
        partition_key: PartitionRule::Random,
        spool: context.spool.clone(),
        sink: Arc::new(settings),
        listed: None,
    }
}

impl SinkConfig for S3Settings {
    fn start(&self, clock: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>> {
        Box::pin(
            async move { Ok(Arc::new(S3Sink::start(self.clone(), clock).await?) as Arc<dyn Sink>) },
        )
    }

    /// A sink that was started would upload what an earlier process left.
    fn try_out(&self, _: fn() -> Wall) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(S3Sink::try_out(self))
    }

    fn names(&self) -> Option<Names> {
        let terms = ("prefixes", "prefix");
        Names::of(terms, &self.prefix, &self.prefixes, |name| S3Settings {
            prefix: name.to_owned(),
            prefixes: Vec::new(),
            staging_dir: self.staging_dir.join(label(name)),
            ..self.clone()
        })
    }

    fn directory(&self) -> Option<Directory<'_>> {
        (self.keeping == Keeping::Staged).then_some(Directory {
            key: "staging_dir",
            path: &self.staging_dir,
            bytes_max: Some(self.staging_bytes_max),
        })
    }
}

fn is_bucket(text: &str) -> bool {
    text.len() >= 3 && is_word(text, 255, "_.-")
}

fn is_prefix(text: &str) -> bool {
    text.len() <= PREFIX_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_kms_key(text: &str) -> bool {
    is_word(text, 2_048, ":/_-")
}
