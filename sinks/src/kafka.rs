//! Apache Kafka and Amazon MSK through librdkafka: acks=all, idempotent producer.
//!
//! librdkafka retries, batches by partition and reconnects by itself. Only the delivery report settles a
//! record; acceptance by librdkafka's queue does not. Topics are neither created nor chosen here: a record
//! names its own, or uses the configured one.

mod iam;
mod line;
mod settings;
#[cfg(test)]
mod tests;
mod verdict;

pub use settings::{Compression, KafkaSettings, SaslMechanism, TYPE};

use crate::aws::{Aws, AwsSettings};
use crate::settings::Secret;
use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use iam::IamSigner;
use line::{Call, Lines};
use rdkafka::ClientConfig;
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use sluice_core::topic::Template;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// Brokers that may be named to begin with; the cluster names the others.
pub const BROKERS_MAX: usize = 64;
/// The record size that every broker accepts by default: its `max.message.bytes` is
/// 1,048,588 and counts the batch around the record.
pub const RECORD_BYTES_DEFAULT: usize = 1_000_000;
/// What librdkafka counts in a message besides key and payload, at most: 36 bytes in format 2.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// The longest time for which a record may be tried.
pub const DELIVERY_TIMEOUT_MAX: Duration = Duration::from_secs(300);
/// How long `check` waits for the cluster's response.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

impl KafkaSettings {
    fn validate(&self) -> Result<(), String> {
        if let Some(problem) = self.out_of_bounds() {
            return Err(problem.to_string());
        }
        if self.brokers.is_empty() {
            return Err(format!("0 brokers are named: 1 to {BROKERS_MAX}"));
        }
        for (name, file) in [
            ("ca_file", self.ca_file.as_ref()),
            ("certificate_file", self.certificate_file.as_ref()),
            ("key_file", self.key_file.as_ref()),
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
        let protocol = match (self.tls, self.sasl) {
            (false, SaslMechanism::None) => "plaintext",
            (true, SaslMechanism::None) => "ssl",
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
            // It would send telemetry to the operator of the cluster.
            .set("enable.metrics.push", "false");
        if let Some(file) = &self.ca_file {
            config.set("ssl.ca.location", file.to_string_lossy());
        }
        if let Some(file) = &self.certificate_file {
            config.set("ssl.certificate.location", file.to_string_lossy());
        }
        if let Some(file) = &self.key_file {
            config.set("ssl.key.location", file.to_string_lossy());
        }
        if let Some(Secret(password)) = &self.key_password {
            config.set("ssl.key.password", password);
        }
        let mechanism = match self.sasl {
            SaslMechanism::None => return config,
            SaslMechanism::Plain => "PLAIN",
            SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
            SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
            SaslMechanism::MskIam => "OAUTHBEARER",
        };
        config.set("sasl.mechanisms", mechanism);
        if let Some(username) = &self.sasl_username {
            config.set("sasl.username", username);
        }
        if let Some(Secret(password)) = &self.sasl_password {
            config.set("sasl.password", password);
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
    /// [`SaslMechanism::MskIam`] it waits for AWS credentials, at most 5 s, and starts without them as well.
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
        let signer = match settings.sasl {
            SaslMechanism::MskIam => {
                let aws = AwsSettings {
                    region: settings.region.clone(),
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
                self.lines.reports_are_missing();
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
            results.resize(records.len(), RecordResult::Retry(verdict::NO_REPORT));
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
