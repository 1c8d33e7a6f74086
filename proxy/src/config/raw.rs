//! What may be written in a configuration file: the only place that knows serde. Every key is
//! optional, an unknown one is refused with its line. Says nothing of defaults or sense.

use super::keywords::{
    AckMode, CompressionWord, List, PartitionKey, SaslMechanism, Secret, SinkType, StorageClassWord,
};
use super::{AckPolicy, AwsStream, KafkaTopic, Output, SinkConfig};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sluice_sinks::settings::{Misfit, Tree, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A key without the mark of a raw identifier.
macro_rules! key_name {
    (r#type) => {
        "type"
    };
    ($key:ident) => {
        stringify!($key)
    };
}

/// Declares a section: each key optional, no others.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(pub(super) $key: Option<$type>,)*
        }

        /// Every key of an output.
        pub(super) const OUTPUT_KEYS: &[&str] = &[$(key_name!($key)),*];
    };
}

/// The outputs of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Raw {
    pub(super) outputs: BTreeMap<String, RawOutput>,
}

section! {
    /// `[outputs.<name>]`: the keys of every type.
    RawOutput {
        r#type: SinkType,
        ack: AckMode,
        retry_for_ms: u64,
        queue_bytes_max: u64,
        linger_ms: u64,
        batch_records_max: u64,
        batch_bytes_max: u64,
        in_flight_max: u64,
        writers: u64,
        retry_base_ms: u64,
        retry_cap_ms: u64,
        partition_key: PartitionKey,
        stream: String,
        region: String,
        endpoint_url: String,
        connect_timeout_ms: u64,
        attempt_timeout_ms: u64,
        describe_interval_s: u64,
        pack_bytes_max: u64,
        dir: PathBuf,
        rotate_bytes: u64,
        rotate_s: u64,
        brokers: List,
        topic: String,
        topic_fallback: String,
        topics_max: u64,
        tls: bool,
        ca_file: PathBuf,
        certificate_file: PathBuf,
        key_file: PathBuf,
        key_password: Secret,
        sasl: SaslMechanism,
        sasl_username: String,
        sasl_password: Secret,
        compression: CompressionWord,
        delivery_timeout_ms: u64,
        record_bytes_max: u64,
        bucket: String,
        prefix: String,
        path_style: bool,
        staging_dir: PathBuf,
        staging_bytes_max: u64,
        object_bytes_max: u64,
        object_age_s: u64,
        storage_class: StorageClassWord,
        kms_key_id: String,
    }
}

/// Reads and writes a type through its `FromStr` and `Display`.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}

as_text!(
    SinkType,
    SaslMechanism,
    CompressionWord,
    StorageClassWord,
    AckMode,
    PartitionKey
);

impl<'de> Deserialize<'de> for Secret {
    /// Serde's own words about a value of another type would show it.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match toml::Value::deserialize(from)? {
            toml::Value::String(text) => Ok(Secret(text)),
            _ => Err(de::Error::custom("a password is a text in quotes")),
        }
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(Secret::MASK)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of texts, or one text with commas")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<List, E> {
                Ok(List::from(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut texts: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(text) = texts.next_element()? {
                    list.push(text);
                }
                Ok(List(list))
            }
        }

        from.deserialize_any(Words)
    }
}

impl Serialize for List {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(&self.0)
    }
}

/// What was written of outputs. One key at a time, so that an error can name it.
pub(super) fn outputs(tree: &Tree) -> Result<BTreeMap<String, RawOutput>, Misfit> {
    let mut tables: BTreeMap<&str, toml::Table> = BTreeMap::new();
    for name in &tree.outputs {
        tables.insert(name, toml::Table::new());
    }
    for (path, written) in &tree.values {
        let Some((name, key)) = path
            .strip_prefix("outputs.")
            .and_then(|rest| rest.rsplit_once('.'))
        else {
            continue;
        };
        let mut first_error = None;
        let fitting = candidates(&written.value).into_iter().find(|value| {
            let one = toml::Table::from_iter([(key.to_owned(), value.clone())]);
            match RawOutput::deserialize(one) {
                Ok(_) => true,
                Err(error) => {
                    first_error.get_or_insert(error.message().trim_end().to_owned());
                    false
                }
            }
        });
        match fitting {
            Some(value) => {
                let table = tables.entry(name).or_default();
                table.insert(key.to_owned(), value);
            }
            None => {
                return Err(Misfit {
                    origin: written.origin.clone(),
                    message: first_error.unwrap_or_default(),
                });
            }
        }
    }
    let mut outputs = BTreeMap::new();
    for (name, table) in tables {
        // Each key was found right by itself.
        outputs.insert(
            name.to_owned(),
            RawOutput::deserialize(table).unwrap_or_default(),
        );
    }
    Ok(outputs)
}

/// The types that a value may have: a variable is text, and only its key knows the type. Text first: a stream
/// may be called `123`, and no number or switch accepts text.
fn candidates(value: &Value) -> Vec<toml::Value> {
    match value {
        Value::Untyped(text) => [
            Some(toml::Value::String(text.clone())),
            text.parse().ok().map(toml::Value::Integer),
            text.parse().ok().map(toml::Value::Boolean),
        ]
        .into_iter()
        .flatten()
        .collect(),
        Value::Text(text) | Value::Hidden(text) => vec![toml::Value::String(text.clone())],
        Value::Integer(number) => vec![toml::Value::Integer(*number)],
        Value::Switch(is_on) => vec![toml::Value::Boolean(*is_on)],
        Value::List(values) => {
            let values = values.iter().flat_map(candidates);
            vec![toml::Value::Array(values.collect())]
        }
        Value::Other(_) => vec![toml::Value::Float(0.5)],
    }
}

/// The outputs in the form of a file.
pub(super) fn print(outputs: &[Output]) -> String {
    let outputs = outputs.iter();
    let raw = Raw {
        outputs: outputs
            .map(|output| (output.name.clone(), RawOutput::from(output)))
            .collect(),
    };
    // Cannot fail: every map key is a string and every number below i64::MAX, by `bounds`.
    toml::to_string(&raw).unwrap_or_else(|error| format!("# {error}\n"))
}

/// Whole milliseconds; resolved durations are made of them.
fn ms(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_millis()).ok()
}

impl From<&Output> for RawOutput {
    fn from(output: &Output) -> RawOutput {
        let (mode, retry_for_ms) = match output.ack {
            AckPolicy::Delivered => (AckMode::Delivered, None),
            AckPolicy::Durable => (AckMode::Durable, None),
            AckPolicy::Enqueued { retry_for } => (AckMode::Enqueued, ms(retry_for)),
        };
        let common = RawOutput {
            r#type: Some(output.sink.sink_type()),
            ack: Some(mode),
            retry_for_ms,
            queue_bytes_max: Some(output.queue_bytes_max as u64),
            linger_ms: ms(output.linger),
            batch_records_max: Some(output.batch_records_max as u64),
            batch_bytes_max: Some(output.batch_bytes_max as u64),
            in_flight_max: Some(output.in_flight_max as u64),
            writers: Some(output.writers as u64),
            retry_base_ms: ms(output.retry_base),
            retry_cap_ms: ms(output.retry_cap),
            partition_key: Some(output.partition_key.clone()),
            ..RawOutput::default()
        };
        match &output.sink {
            SinkConfig::Null => common,
            SinkConfig::File(file) => RawOutput {
                partition_key: None,
                dir: Some(file.dir.clone()),
                rotate_bytes: Some(file.rotate_bytes),
                rotate_s: Some(file.rotate.as_secs()),
                ..common
            },
            SinkConfig::Kafka(kafka) => {
                let (username, password) = match &kafka.login {
                    Some((username, password)) => (Some(username), Some(password)),
                    None => (None, None),
                };
                let (topic, fallback, topics_max) = match &kafka.topic {
                    KafkaTopic::Name(name) => (name.clone(), None, None),
                    KafkaTopic::Template {
                        template,
                        fallback,
                        topics_max,
                    } => (
                        template.to_string(),
                        Some(fallback.clone()),
                        Some(*topics_max as u64),
                    ),
                };
                let certificate = kafka.certificate.as_ref();
                RawOutput {
                    brokers: Some(List(kafka.brokers.clone())),
                    topic: Some(topic),
                    topic_fallback: fallback,
                    topics_max,
                    tls: Some(kafka.tls),
                    ca_file: kafka.ca_file.clone(),
                    certificate_file: certificate.map(|own| own.certificate_file.clone()),
                    key_file: certificate.map(|own| own.key_file.clone()),
                    key_password: certificate.and_then(|own| own.key_password.clone()),
                    sasl: Some(kafka.sasl),
                    sasl_username: username.cloned(),
                    sasl_password: password.cloned(),
                    region: kafka.region.clone(),
                    compression: Some(kafka.compression),
                    delivery_timeout_ms: ms(kafka.delivery_timeout),
                    record_bytes_max: Some(kafka.record_bytes_max as u64),
                    ..common
                }
            }
            SinkConfig::Firehose(firehose) => RawOutput {
                partition_key: None,
                pack_bytes_max: Some(firehose.pack_bytes_max as u64),
                ..with_stream(common, &firehose.stream)
            },
            SinkConfig::Kinesis(kinesis) => RawOutput {
                describe_interval_s: Some(kinesis.describe_interval.as_secs()),
                ..with_stream(common, &kinesis.stream)
            },
            SinkConfig::S3(s3) => {
                // Without a stage a batch is an object, and these are not settings of their own.
                let staging = s3.staging.as_ref();
                let batches = staging.is_some();
                RawOutput {
                    partition_key: None,
                    linger_ms: common.linger_ms.filter(|_| batches),
                    batch_records_max: common.batch_records_max.filter(|_| batches),
                    batch_bytes_max: common.batch_bytes_max.filter(|_| batches),
                    bucket: Some(s3.bucket.clone()),
                    prefix: Some(s3.prefix.clone()),
                    region: s3.region.clone(),
                    endpoint_url: s3.endpoint_url.clone(),
                    path_style: s3.path_style,
                    connect_timeout_ms: ms(s3.connect_timeout),
                    attempt_timeout_ms: ms(s3.attempt_timeout),
                    staging_dir: staging.map(|staging| staging.dir.clone()),
                    staging_bytes_max: staging.map(|staging| staging.bytes_max),
                    object_bytes_max: Some(s3.object_bytes_max),
                    object_age_s: Some(s3.object_age.as_secs()),
                    storage_class: Some(s3.storage_class),
                    kms_key_id: s3.kms_key_id.clone(),
                    ..common
                }
            }
        }
    }
}

fn with_stream(common: RawOutput, stream: &AwsStream) -> RawOutput {
    RawOutput {
        stream: Some(stream.name.clone()),
        region: stream.region.clone(),
        endpoint_url: stream.endpoint_url.clone(),
        connect_timeout_ms: ms(stream.connect_timeout),
        attempt_timeout_ms: ms(stream.attempt_timeout),
        ..common
    }
}
