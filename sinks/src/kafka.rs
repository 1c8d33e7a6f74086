//! Apache Kafka and Amazon MSK through librdkafka: acks=all, idempotent producer.
//!
//! librdkafka retries, batches by partition and reconnects by itself. Only the delivery report settles a
//! record; acceptance by librdkafka's queue does not. Topics are neither created nor chosen here: a record
//! names its own, or uses the configured one.

mod iam;
mod line;
#[cfg(test)]
mod tests;
mod verdict;

use crate::aws::{Aws, AwsSettings};
use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use iam::IamSigner;
use line::{Call, Lines};
use rdkafka::ClientConfig;
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use sluice_core::topic::{NAME_BYTES_MAX, Template};
use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Brokers that may be named to begin with; the cluster names the others.
pub const BROKERS_MAX: usize = 64;
/// The bytes of a record that every broker takes if nobody changed it: its `max.message.bytes` is
/// 1,048,588 and counts the batch around the record.
pub const RECORD_BYTES_DEFAULT: usize = 1_000_000;
/// librdkafka's range of `message.max.bytes`, less what it adds.
const RECORD_BYTES_RANGE: std::ops::RangeInclusive<usize> = 1_000..=999_999_000;
/// What librdkafka counts in a message besides key and payload, at most: 36 bytes in format 2.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// librdkafka's most for `queue.buffering.max.messages`.
const BUFFER_RECORDS_MAX: usize = 2_147_483_647;
/// The longest time for which a record may be tried.
pub const DELIVERY_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// How long `check` waits for the cluster's word.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// A text that is not shown: its debug form and every log have `***` instead.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// How to say who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sasl {
    /// Not at all.
    None,
    /// Name and password as they are.
    Plain {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Salted challenge and response, RFC 5802, with SHA-256.
    ScramSha256 {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// Salted challenge and response, RFC 5802, with SHA-512; what MSK knows.
    ScramSha512 {
        /// The name.
        username: String,
        /// The password.
        password: Secret,
    },
    /// MSK's IAM access control: a token of the AWS credentials, as OAUTHBEARER.
    MskIam {
        /// The cluster's region; `None`: as everywhere (`AWS_REGION`, profile, instance metadata).
        region: Option<String>,
    },
}

/// What a client shows of itself when a connection is encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate in PEM, with those that it was signed by behind it.
    pub certificate_file: PathBuf,
    /// Its private key in PEM.
    pub key_file: PathBuf,
    /// What the key is encrypted with; `None`: it is not.
    pub key_password: Option<Secret>,
}

/// What batches are packed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Nothing.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard; brokers from 2.1 on.
    Zstd,
}

impl Compression {
    /// librdkafka's word for it.
    const fn word(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

/// Which topic of which cluster, and how to write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port` of some brokers, 1 to [`BROKERS_MAX`].
    pub brokers: Vec<String>,
    /// The topic of records that name none.
    pub topic: String,
    /// What the other topics' names are made by, for [`Sink::check`] alone: records bring names, no values.
    pub template: Option<Template>,
    /// Whether connections are encrypted, and the broker's certificate checked.
    pub tls: bool,
    /// The authorities in PEM that a broker's certificate is checked against; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// A certificate of ours, for brokers that want one; only with `tls`.
    pub certificate: Option<ClientCertificate>,
    /// Authentication.
    pub sasl: Sasl,
    /// Compression of batches.
    pub compression: Compression,
    /// After this librdkafka gives a message up, whatever it did with it; it looks once a second.
    pub delivery_timeout: Duration,
    /// Records per call of the sink, and per batch of a partition.
    pub batch_records_max: usize,
    /// Bytes per call of the sink.
    pub batch_bytes_max: usize,
    /// Bytes of one record, key included: 1,000 to 999,999,000, at most what the topic takes.
    pub record_bytes_max: usize,
    /// Records that librdkafka may hold; over it a record is [`sluice_core::cause::Cause::Throttled`].
    pub buffer_records_max: usize,
    /// Bytes that librdkafka may hold.
    pub buffer_bytes_max: usize,
}

impl KafkaSettings {
    /// The defaults: plaintext without authentication or compression, 3 s for a message, calls of
    /// 1,000 records or 4 MiB, of which librdkafka holds eight.
    #[must_use]
    pub fn new(brokers: Vec<String>, topic: impl Into<String>) -> KafkaSettings {
        KafkaSettings {
            brokers,
            topic: topic.into(),
            template: None,
            tls: false,
            ca_file: None,
            certificate: None,
            sasl: Sasl::None,
            compression: Compression::None,
            delivery_timeout: Duration::from_secs(3),
            batch_records_max: 1_000,
            batch_bytes_max: 4 << 20,
            record_bytes_max: RECORD_BYTES_DEFAULT,
            buffer_records_max: 8_000,
            buffer_bytes_max: 32 << 20,
        }
    }

    fn validate(&self) -> Result<(), String> {
        let brokers = self.brokers.len();
        if !(1..=BROKERS_MAX).contains(&brokers) {
            return Err(format!("{brokers} brokers are named: 1 to {BROKERS_MAX}"));
        }
        let topic = self.topic.len();
        if !(1..=NAME_BYTES_MAX).contains(&topic) {
            return Err(format!(
                "the topic's name has {topic} bytes: 1 to {NAME_BYTES_MAX}"
            ));
        }
        for (name, value, range) in [
            (
                "record_bytes_max",
                self.record_bytes_max,
                RECORD_BYTES_RANGE,
            ),
            ("batch_records_max", self.batch_records_max, 1..=1_000_000),
            ("batch_bytes_max", self.batch_bytes_max, 1..=2_147_483_647),
            (
                "buffer_records_max",
                self.buffer_records_max,
                1..=BUFFER_RECORDS_MAX,
            ),
            ("buffer_bytes_max", self.buffer_bytes_max, 1_024..=1 << 40),
        ] {
            if !range.contains(&value) {
                return Err(format!("{name} is {value}: {range:?} is allowed"));
            }
        }
        let timeout = self.delivery_timeout;
        if !(Duration::from_millis(1)..=DELIVERY_TIMEOUT_MAX).contains(&timeout) {
            return Err(format!(
                "delivery_timeout is {timeout:?}: 1ms to {DELIVERY_TIMEOUT_MAX:?}"
            ));
        }
        let own = self.certificate.as_ref();
        for (name, file) in [
            ("ca_file", self.ca_file.as_ref()),
            ("certificate_file", own.map(|own| &own.certificate_file)),
            ("key_file", own.map(|own| &own.key_file)),
        ] {
            // librdkafka says of all that can be wrong with a file only that it failed.
            if let Some(file) = file
                && let Err(error) = File::open(file)
            {
                return Err(format!("{name} {}: {error}", file.display()));
            }
        }
        Ok(())
    }

    /// As librdkafka has it; its CONFIGURATION.md says what each is.
    fn client(&self) -> ClientConfig {
        let timeout_ms = self.delivery_timeout.as_millis();
        let protocol = match (self.tls, &self.sasl) {
            (false, Sasl::None) => "plaintext",
            (true, Sasl::None) => "ssl",
            (false, _) => "sasl_plaintext",
            (true, _) => "sasl_ssl",
        };
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "sluice")
            .set("security.protocol", protocol)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", self.compression.word())
            // The writer has gathered already; this only keeps a call's records together.
            .set("linger.ms", "0.5")
            .set("batch.num.messages", self.batch_records_max.to_string())
            .set("batch.size", self.record_bytes_max.to_string())
            .set(
                "message.max.bytes",
                (self.record_bytes_max + MESSAGE_OVERHEAD_BYTES).to_string(),
            )
            .set("message.timeout.ms", timeout_ms.to_string())
            .set("request.timeout.ms", timeout_ms.to_string())
            // A topic that is not there has to be found out before the message times out.
            .set(
                "topic.metadata.propagation.max.ms",
                (timeout_ms / 2).to_string(),
            )
            .set(
                "queue.buffering.max.messages",
                self.buffer_records_max.to_string(),
            )
            .set(
                "queue.buffering.max.kbytes",
                self.buffer_bytes_max.div_ceil(1_024).to_string(),
            )
            // A key goes where the Java clients send it.
            .set("partitioner", "murmur2_random")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            .set("socket.connection.setup.timeout.ms", "5000")
            // Its default waits up to ten seconds before it looks at a broker that came back.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log.connection.close", "false")
            // It would send numbers about us to whoever runs the cluster.
            .set("enable.metrics.push", "false");
        if let Some(file) = &self.ca_file {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
        if let Some(certificate) = &self.certificate {
            config.set(
                "ssl.certificate.location",
                certificate.certificate_file.to_string_lossy(),
            );
            config.set("ssl.key.location", certificate.key_file.to_string_lossy());
            if let Some(Secret(password)) = &certificate.key_password {
                config.set("ssl.key.password", password);
            }
        }
        let mut sasl = |mechanism: &str, login: Option<(&String, &Secret)>| {
            config.set("sasl.mechanisms", mechanism);
            if let Some((username, Secret(password))) = login {
                config.set("sasl.username", username);
                config.set("sasl.password", password);
            }
        };
        match &self.sasl {
            Sasl::None => {}
            Sasl::Plain { username, password } => sasl("PLAIN", Some((username, password))),
            Sasl::ScramSha256 { username, password } => {
                sasl("SCRAM-SHA-256", Some((username, password)));
            }
            Sasl::ScramSha512 { username, password } => {
                sasl("SCRAM-SHA-512", Some((username, password)));
            }
            Sasl::MskIam { .. } => sasl("OAUTHBEARER", None),
        }
        config
    }
}

/// Writes records to one topic, or to the topics they name.
pub struct KafkaSink {
    lines: Arc<Lines>,
    topic: Arc<str>,
    template: Option<Template>,
    batch_records_max: usize,
    batch_bytes_max: usize,
    record_bytes_max: usize,
    /// librdkafka's report arrives earlier, or never.
    patience: Duration,
}

impl KafkaSink {
    /// Creates the producer; connections are made, and retried indefinitely, in the background. With
    /// [`Sasl::MskIam`] it waits for AWS credentials, at most 5 s, and starts without them as well.
    ///
    /// # Errors
    /// A setting is out of its range or refused by librdkafka, a file cannot be read, the system gives no
    /// thread, or no region can be found where one is needed.
    pub async fn start(settings: KafkaSettings) -> Result<KafkaSink, CheckError> {
        let fail = |reason| CheckError {
            destination: destination(&settings.topic, settings.template.as_ref()),
            reason,
        };
        settings.validate().map_err(fail)?;
        let signer = match &settings.sasl {
            Sasl::MskIam { region } => {
                let aws = AwsSettings {
                    region: region.clone(),
                    ..AwsSettings::default()
                };
                let aws = Aws::load(&aws, "KAFKA", None).await.map_err(fail)?;
                Some(Arc::new(IamSigner::new(aws).map_err(fail)?))
            }
            _ => None,
        };
        // librdkafka checks for expired messages once a second, and their reports must still be delivered.
        let patience = settings.delivery_timeout + Duration::from_secs(5);
        let lines = Lines::start(settings.client(), signer, patience).map_err(fail)?;
        Ok(KafkaSink {
            lines: Arc::new(lines),
            topic: settings.topic.into(),
            template: settings.template,
            batch_records_max: settings.batch_records_max,
            batch_bytes_max: settings.batch_bytes_max,
            record_bytes_max: settings.record_bytes_max,
            patience,
        })
    }

    async fn produce(&self, records: &[Record]) -> Vec<RecordResult> {
        let (call, mut answer) = Call::new(records.len());
        self.lines
            .send(&self.topic, records, self.record_bytes_max, &call);
        drop(call);
        tokio::select! {
            results = &mut answer => results.unwrap_or_default(),
            () = tokio::time::sleep(self.patience) => {
                self.lines.gave_no_word();
                Vec::new()
            }
        }
    }
}

impl Sink for KafkaSink {
    fn limits(&self) -> SinkLimits {
        SinkLimits {
            batch_records_max: self.batch_records_max,
            batch_bytes_max: self.batch_bytes_max,
            record_bytes_max: self.record_bytes_max.min(self.batch_bytes_max),
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        Box::pin(async move {
            let mut results = self.produce(records).await;
            results.resize(records.len(), RecordResult::Retry(verdict::NO_WORD));
            results
        })
    }

    fn connection_error(&self) -> Option<Cause> {
        self.lines.connection_error()
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(async move {
            let (lines, topic) = (Arc::clone(&self.lines), Arc::clone(&self.topic));
            let prefix = self
                .template
                .as_ref()
                .map(|template| template.prefix().to_owned());
            let found =
                spawn_blocking(move || lines.describe(&topic, prefix.as_deref(), CHECK_TIMEOUT))
                    .await;
            let destination = destination(&self.topic, self.template.as_ref());
            match found {
                Ok(Ok(found)) => Ok(format!("{destination}: {found}")),
                Ok(Err(reason)) => Err(CheckError {
                    destination,
                    reason,
                }),
                Err(error) => Err(CheckError {
                    destination,
                    reason: error.to_string(),
                }),
            }
        })
    }
}

fn destination(topic: &str, template: Option<&Template>) -> String {
    match template {
        None => format!("kafka topic {topic}"),
        Some(template) => format!("kafka topics {template}, else {topic}"),
    }
}
