//! Settings of `type = "kafka"`.

use super::{BROKERS_MAX, DELIVERY_TIMEOUT_MAX, KafkaSink, RECORD_BYTES_DEFAULT};
use crate::aws::is_region;
use crate::keyword_enum;
use crate::output::{
    Delivery, Output, OutputContext, OutputType, Partitioning, Patience, SinkConfig, Timing,
    TopicRule, Usual,
};
use crate::settings::{
    Given, MIB, Problem, Reader, Secret, bytes, file, is_credential, ms, number, secret, switch,
    text, texts, word,
};
use crate::sink::{CheckError, Sink, SinkFuture};
use sluice_core::time::Wall;
use sluice_core::topic::{Template, is_name};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One or more topics of a Kafka cluster.
pub const TYPE: OutputType = OutputType {
    name: "kafka",
    sentence: "One or more topics of a Kafka cluster, self-managed or Amazon MSK.",
    example: "brokers = [\"127.0.0.1:9092\"]\ntopic = \"clicks\"\n",
    settings: &[
        KafkaSettings::SETTINGS,
        Partitioning::SETTINGS,
        Timing::SETTINGS,
        Delivery::SETTINGS,
    ],
    read,
};

/// How often librdkafka looks for messages that have timed out, ms.
const EXPIRY_CHECK_MS: u64 = 1_000;

keyword_enum! {
    /// How a client authenticates.
    SaslMechanism, "one of none, plain, scram-sha-256, scram-sha-512, msk-iam" {
        /// Not at all.
        None = "none",
        /// Name and password as they are.
        Plain = "plain",
        /// Salted challenge and response, RFC 5802, with SHA-256.
        ScramSha256 = "scram-sha-256",
        /// Salted challenge and response, RFC 5802, with SHA-512; the one that MSK knows.
        ScramSha512 = "scram-sha-512",
        /// MSK's IAM access control: a token of the AWS credentials, as OAUTHBEARER.
        MskIam = "msk-iam",
    }
}

keyword_enum! {
    /// How batches are compressed; the words are librdkafka's.
    Compression, "one of none, gzip, snappy, lz4, zstd" {
        /// Not at all.
        None = "none",
        /// gzip.
        Gzip = "gzip",
        /// Snappy.
        Snappy = "snappy",
        /// LZ4.
        Lz4 = "lz4",
        /// Zstandard; brokers from 2.1 on.
        Zstd = "zstd",
    }
}

crate::settings! {
    /// Which topic of which cluster, and how to write to it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct KafkaSettings from (reader, record_bytes: usize, patience: &Patience) {
        /// Some brokers of the cluster, which names the others.
        brokers: Vec<String> = Vec::new(),
            texts("brokers", BROKERS_MAX, "a host and a port, for instance b-1:9092", is_broker)
                .needed("a kafka output needs some brokers of its cluster");
        /// The topic, or with `{field}` in it a template, by which records name their topic.
        topic: String = String::new(),
            text("1 to 249 letters, digits or any of _.-, or such a name with {field} in it", |text| is_name(text) || is_template(text))
                .needed("a kafka output needs the name of its topic");
        /// With a template: the topic of records whose values name none.
        topic_fallback: Option<String> = None,
            text("1 to 249 letters, digits or any of _.-", is_name);
        /// With a template: different names at a time, besides the fallback. Each costs librdkafka and every broker memory, and each is a name that some client chose.
        topics_max: usize = 100, number("topics", 1, 10_000).default_is("100");
        /// How the brokers are told who this is.
        sasl: SaslMechanism = SaslMechanism::None, word::<SaslMechanism>();
        /// The user name of `plain` and `scram-*`.
        sasl_username: Option<String> = None, text("1 to 1024 bytes", is_credential);
        /// The password of `plain` and `scram-*`.
        sasl_password: Option<Secret> = None, secret();
        /// The region of `msk-iam`.
        region: Option<String> = None,
            text("1 to 32 letters, digits or -", is_region).default_is("as the AWS tools find it");
        /// A certificate in PEM to show to brokers, followed by those that signed it.
        certificate_file: Option<PathBuf> = None, file();
        /// The certificate's private key, in PEM.
        key_file: Option<PathBuf> = None, file();
        /// The password of an encrypted private key.
        key_password: Option<Secret> = None, secret();
        /// Whether connections are encrypted, and the brokers' certificates checked.
        tls: bool = sasl != SaslMechanism::None || reader.is_written("certificate_file"),
            switch().default_is("`true` with `sasl` or `certificate_file`, else `false`");
        /// The authorities in PEM that brokers' certificates are checked against.
        ca_file: Option<PathBuf> = None, file().default_is("those of the system");
        /// How batches are compressed.
        compression: Compression = Compression::None, word::<Compression>();
        /// After this librdkafka gives up a record that no broker confirmed; it checks once a second.
        delivery_timeout as "delivery_timeout_ms": Duration = Duration::from_millis({
            let remaining = patience.remaining_ms();
            remaining.saturating_sub(EXPIRY_CHECK_MS).max(remaining / 2).min(10_000)
        }), ms(1, DELIVERY_TIMEOUT_MAX.as_millis() as u64)
            .default_is("a second less than what is left after `linger_ms`, at most 10000");
        /// Records in one call of the sink, and in a batch of a partition.
        batch_records_max: usize = 1_000, number("records", 1, 100_000);
        /// Bytes in one call of the sink, at least the record of a largest request.
        batch_bytes_max: usize = record_bytes.max(4 << 20), bytes(1, 256 * MIB);
        /// Bytes of one record, key included, at most what the topic takes; a larger one is refused to the client.
        record_bytes_max: usize = RECORD_BYTES_DEFAULT.min(batch_bytes_max), bytes(1_000, 64 * MIB);
    }
    and {
        /// How the other topics' names are made, for [`Sink::check`] alone: records bring names, not values.
        template: Option<Template> = None;
        /// Records that librdkafka may hold; over it a record is [`sluice_core::cause::Cause::Throttled`].
        buffer_records_max: usize = 8 * batch_records_max;
        /// Bytes that librdkafka may hold.
        buffer_bytes_max: usize = 8 * batch_bytes_max;
    }
}

impl KafkaSettings {
    /// The defaults: plaintext without authentication, 8 calls in librdkafka's buffer.
    #[must_use]
    pub fn new(brokers: Vec<String>, topic: impl Into<String>) -> KafkaSettings {
        KafkaSettings {
            brokers,
            topic: topic.into(),
            ..KafkaSettings::read(&mut Reader::default(), 0, &Patience::unbounded())
        }
    }

    /// Checks the settings against each other; a template takes the place of a topic here.
    fn check_rules(&mut self, reader: &mut Reader, patience: &Patience) {
        let timeout = reader.number("delivery_timeout_ms");
        reader.below(
            &patience.linger.plus(&timeout),
            &patience.within,
            "the result of a slow record would come too late",
        );
        let record = reader.number("record_bytes_max");
        let batch = reader.number("batch_bytes_max");
        reader.at_most(
            &record,
            &batch,
            "the largest record would fit into no batch",
        );
        self.check_topic(reader);
        self.check_tls(reader);
        self.check_login(reader);
    }

    fn check_topic(&mut self, reader: &mut Reader) {
        let is_template = is_template(&self.topic);
        reader.only_if(
            is_template || self.topic.is_empty(),
            &["topic_fallback", "topics_max"],
            "topic",
            &format!("{:?} without a {{field}}", self.topic),
        );
        if !is_template {
            return;
        }
        match self.topic.parse::<Template>() {
            Ok(template) => self.template = Some(template),
            Err(why) => reader.problems.push(Problem::RefusedText {
                key: reader.path("topic"),
                why: format!("{:?}: {why}", self.topic),
            }),
        }
        match &self.topic_fallback {
            Some(fallback) => self.topic.clone_from(fallback),
            None if reader.is_written("topic_fallback") => {}
            None => reader.missing(
                "topic_fallback",
                "records whose values name no topic have to go somewhere",
            ),
        }
    }

    fn check_tls(&self, reader: &mut Reader) {
        let why = match self.sasl {
            SaslMechanism::Plain => Some("the password would be readable on its way"),
            SaslMechanism::MskIam => Some("tokens are taken over TLS only"),
            _ => None,
        };
        if let (false, Some(why)) = (self.tls, why) {
            let tls = Given::new(reader.path("tls"), "false");
            let sasl = Given::new(reader.path("sasl"), self.sasl.word());
            reader.contradiction(tls, "true with", sasl, why);
        }
        reader.only_if(
            self.tls,
            &["ca_file", "certificate_file", "key_file"],
            "tls",
            "false",
        );
        let is_written = |key: &str| reader.is_written(key);
        let missing = match (
            is_written("certificate_file"),
            is_written("key_file"),
            is_written("key_password"),
        ) {
            (true, false, _) => Some(("key_file", "a certificate needs its private key")),
            (false, true, _) => Some(("certificate_file", "a private key needs its certificate")),
            (false, false, true) => {
                Some(("key_file", "`key_password` needs the key that it decrypts"))
            }
            _ => None,
        };
        if let Some((key, why)) = missing {
            reader.missing(key, why);
        }
    }

    fn check_login(&self, reader: &mut Reader) {
        let wants_login = !matches!(self.sasl, SaslMechanism::None | SaslMechanism::MskIam);
        let login = ["sasl_username", "sasl_password"];
        reader.only_if(wants_login, &login, "sasl", self.sasl.word());
        for part in login {
            if wants_login && !reader.is_written(part) {
                reader.missing(part, "this `sasl` needs a name and a password");
            }
        }
        let is_iam = self.sasl == SaslMechanism::MskIam;
        reader.only_if(is_iam, &["region"], "sasl", self.sasl.word());
    }
}

fn read(reader: &mut Reader, context: &OutputContext) -> Output {
    let usual = Usual::SERVICE;
    let (timing, patience) = Timing::lingering(reader, &usual, TYPE.name, context);
    let mut settings = KafkaSettings::read(reader, context.record_bytes.size(), &patience);
    settings.check_rules(reader, &patience);
    let batch = reader.number("batch_bytes_max");
    let delivery = Delivery::around(reader, &usual, TYPE.name, context, &batch, 0);
    // All the calls that the writer makes at once; records beyond them wait in its queue.
    settings.buffer_records_max = delivery.in_flight_max * settings.batch_records_max;
    settings.buffer_bytes_max = delivery.in_flight_max * settings.batch_bytes_max;
    Output {
        spool: context.spool.clone(),
        name: context.name.clone(),
        type_name: TYPE.name,
        timing,
        delivery,
        partition_key: Partitioning::read(reader).partition_key,
        sink: Arc::new(settings),
        listed: None,
    }
}

impl SinkConfig for KafkaSettings {
    fn start(&self, _: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>> {
        Box::pin(async { Ok(Arc::new(KafkaSink::start(self.clone()).await?) as Arc<dyn Sink>) })
    }

    fn takes_topics(&self) -> bool {
        true
    }

    fn topics(&self) -> Option<TopicRule<'_>> {
        Some(TopicRule {
            template: self.template.as_ref()?,
            topics_max: self.topics_max,
        })
    }
}

fn is_template(topic: &str) -> bool {
    topic.contains(['{', '}'])
}

/// Whether a text can stand in a list of brokers: a name or an address, with or without a port.
fn is_broker(text: &str) -> bool {
    let host = text.split(':').next().unwrap_or_default();
    !host.is_empty()
        && text.len() <= 260
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}
