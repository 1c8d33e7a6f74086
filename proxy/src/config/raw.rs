//! What may be written in a configuration file: the only place that knows serde. Every key is
//! optional, an unknown one is refused with its line. Says nothing of defaults or sense.

use super::error::ConfigError;
use super::keywords::{
    AckMode, AdminAddress, CompressionWord, Driver, List, LogFormat, LogLevel, PartitionKey,
    ProxyProtocol, SaslMechanism, Scheduling, Secret, SinkType, StorageClassWord,
};
use super::{AckPolicy, AwsStream, Config, KafkaTopic, Output, SinkConfig};
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Declares a section: each key optional, no others.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($key:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct $name {
            $(pub(super) $key: Option<$type>,)*
        }
    };
}

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    pub(super) listen: RawListen,
    pub(super) limits: RawLimits,
    pub(super) paths: RawPaths,
    pub(super) cors: RawCors,
    pub(super) client_address: RawClientAddress,
    pub(super) admit: RawAdmit,
    pub(super) ack: RawAck,
    pub(super) drain: RawDrain,
    pub(super) admin: RawAdmin,
    pub(super) log: RawLog,
    pub(super) process: RawProcess,
    pub(super) outputs: BTreeMap<String, RawOutput>,
}

section! {
    /// `[listen]`.
    RawListen {
        address: SocketAddr,
        workers: u64,
        driver: Driver,
        connections_max: u64,
        connections_per_address_max: u64,
        pin: bool,
        proxy_protocol: ProxyProtocol,
    }
}

section! {
    /// `[limits]`.
    RawLimits {
        head_bytes_max: u64,
        headers_max: u64,
        target_bytes_max: u64,
        head_deadline_ms: u64,
        body_bytes_max: u64,
        inflated_bytes_max: u64,
        body_deadline_ms: u64,
        body_rate_min_bytes: u64,
        idle_ms: u64,
        requests_per_connection_max: u64,
        connection_life_ms: u64,
        events_max: u64,
        json_depth_max: u64,
        in_flight_bytes_max: u64,
    }
}

/// The path of an endpoint that is not served.
pub(super) const OFF: &str = "off";

section! {
    /// `[paths]`.
    RawPaths {
        collect: String,
        events: String,
        pixel: String,
        ping: String,
        health: String,
    }
}

section! {
    /// `[cors]`.
    RawCors {
        origins: List,
        max_age_s: u64,
    }
}

section! {
    /// `[client_address]`.
    RawClientAddress {
        trusted: List,
        hops: u64,
        fake_ip: bool,
    }
}

section! {
    /// `[admit]`.
    RawAdmit {
        app_ids: List,
        hosts: List,
    }
}

section! {
    /// `[ack]`.
    RawAck {
        deadline_ms: u64,
        retry_after_min_s: u64,
        retry_after_max_s: u64,
    }
}

section! {
    /// `[drain]`.
    RawDrain {
        grace_ms: u64,
        deadline_ms: u64,
    }
}

section! {
    /// `[admin]`.
    RawAdmin {
        address: AdminAddress,
        hosts: List,
    }
}

section! {
    /// `[log]`.
    RawLog {
        format: LogFormat,
        level: LogLevel,
    }
}

section! {
    /// `[process]`.
    RawProcess {
        scheduling: Scheduling,
    }
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
    Driver,
    SinkType,
    SaslMechanism,
    CompressionWord,
    StorageClassWord,
    AckMode,
    ProxyProtocol,
    LogFormat,
    LogLevel,
    Scheduling,
    PartitionKey,
    AdminAddress
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

/// The table of a file, once every key and type in it was found right.
pub(super) fn parse(path: &Path, text: &str) -> Result<toml::Table, ConfigError> {
    let wrong = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..at).unwrap_or("");
        ConfigError::Syntax {
            file: path.to_path_buf(),
            line: before.matches('\n').count() + 1,
            message: error.message().trim_end().to_owned(),
        }
    };
    toml::from_str::<Raw>(text).map_err(wrong)?;
    toml::from_str::<toml::Table>(text).map_err(wrong)
}

/// Whether a table's keys and types are right, and what it says.
pub(super) fn from_table(table: toml::Table) -> Result<Raw, ConfigError> {
    Raw::deserialize(table).map_err(|error| ConfigError::Merged {
        message: error.message().trim_end().to_owned(),
    })
}

/// A resolved configuration in the form of a file.
pub(super) fn print(config: &Config) -> String {
    // Cannot fail: every map key is a string and every number below i64::MAX, by `bounds`.
    toml::to_string(&Raw::from(config)).unwrap_or_else(|error| format!("# {error}\n"))
}

/// Whole milliseconds; resolved durations are made of them.
fn ms(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_millis()).ok()
}

impl From<&Config> for Raw {
    fn from(config: &Config) -> Raw {
        let Config {
            listen,
            limits,
            paths,
            cors,
            client_address,
            admit,
            ack,
            drain,
            admin,
            log,
            process,
            outputs,
            notes: _,
        } = config;
        Raw {
            listen: RawListen {
                address: Some(listen.address),
                workers: Some(listen.workers as u64),
                driver: Some(listen.driver),
                connections_max: Some(listen.connections_max as u64),
                connections_per_address_max: Some(
                    listen.connections_per_address_max.unwrap_or(0) as u64
                ),
                pin: Some(listen.pin),
                proxy_protocol: Some(listen.proxy_protocol),
            },
            limits: RawLimits {
                head_bytes_max: Some(limits.head_bytes_max as u64),
                headers_max: Some(limits.headers_max as u64),
                target_bytes_max: Some(limits.target_bytes_max as u64),
                head_deadline_ms: ms(limits.head_deadline),
                body_bytes_max: Some(limits.body_bytes_max as u64),
                inflated_bytes_max: Some(limits.inflated_bytes_max as u64),
                body_deadline_ms: ms(limits.body_deadline),
                body_rate_min_bytes: Some(limits.body_rate_min_bytes as u64),
                idle_ms: ms(limits.idle),
                requests_per_connection_max: Some(limits.requests_per_connection_max),
                connection_life_ms: ms(limits.connection_life),
                events_max: Some(limits.events_max as u64),
                json_depth_max: Some(limits.json_depth_max as u64),
                in_flight_bytes_max: Some(limits.in_flight_bytes_max as u64),
            },
            paths: RawPaths {
                collect: Some(paths.collect.clone()),
                events: Some(paths.events.clone().unwrap_or_else(|| OFF.to_owned())),
                pixel: Some(paths.pixel.clone().unwrap_or_else(|| OFF.to_owned())),
                ping: Some(paths.ping.clone()),
                health: Some(paths.health.clone()),
            },
            cors: RawCors {
                origins: Some(List(cors.origins.iter().map(ToString::to_string).collect())),
                max_age_s: Some(cors.max_age.as_secs()),
            },
            client_address: RawClientAddress {
                trusted: Some(List(
                    client_address
                        .trusted
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                )),
                hops: Some(client_address.hops as u64),
                fake_ip: Some(client_address.fake_ip),
            },
            admit: RawAdmit {
                app_ids: Some(List(admit.app_ids.clone())),
                hosts: Some(List(admit.hosts.clone())),
            },
            ack: RawAck {
                deadline_ms: ms(ack.deadline),
                retry_after_min_s: Some(ack.retry_after_min_s),
                retry_after_max_s: Some(ack.retry_after_max_s),
            },
            drain: RawDrain {
                grace_ms: ms(drain.grace),
                deadline_ms: ms(drain.deadline),
            },
            admin: RawAdmin {
                address: Some(AdminAddress(admin.address)),
                hosts: Some(List(admin.hosts.clone())),
            },
            log: RawLog {
                format: Some(log.format),
                level: Some(log.level),
            },
            process: RawProcess {
                scheduling: Some(process.scheduling),
            },
            outputs: outputs
                .iter()
                .map(|output| (output.name.clone(), RawOutput::from(output)))
                .collect(),
        }
    }
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
