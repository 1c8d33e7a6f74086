//! What the operator decided, complete and free of contradictions.
//!
//! Flags win over `SLUICE_*` variables, these over the file, the file over the defaults. `raw` is what
//! may be written down, `env` the overlay of variables, `replaced` those of the tier we replace, `resolve` the way from there to [`Config`];
//! `bounds` holds every limit on a number. Nothing here opens a socket or a data file.

mod bounds;
mod check;
mod env;
mod error;
mod file;
mod firehose;
mod host_info;
mod kafka;
mod keywords;
mod known;
mod legacy_env;
mod outputs;
mod raw;
mod resolve;
mod s3;

pub use bounds::{BOUNDS, Bound, Scope};
pub use error::ConfigError;
pub use host_info::{HostInfo, has_cpu_quota};
pub use keywords::{
    AckMode, CompressionWord, PartitionKey, SaslMechanism, Secret, SinkType, StorageClassWord,
};
pub use sluice_sinks::settings::{Given, Problem};

use crate::admin::AdminSettings;
use crate::admit::AdmitSettings;
use crate::dialect::Paths;
use crate::drain::DrainSettings;
use crate::http::{ClientAddressSettings, CorsSettings, HttpLimits};
use crate::ingest::{AckSettings, IngestLimits};
use crate::logging::LogSettings;
use crate::scheduling::ProcessSettings;
use crate::worker::{Driver, ListenSettings};
use resolve::Wrong;
use sluice_core::topic::Template;
use sluice_sinks::settings::{InForce, Misfit, Origin, Setting, Value};
use std::ffi::OsString;
use std::fmt::{self, Write};
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A configuration file may have this many bytes.
pub const FILE_BYTES_MAX: u64 = 1_048_576;

/// This many outputs at most.
pub const OUTPUTS_MAX: usize = 16;

/// This many brokers of a Kafka output at most; the cluster names the others.
pub const BROKERS_MAX: usize = 64;

/// A section of the file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub sentence: &'static str,
    /// Its settings, and those of other sections that belong to the same code.
    pub groups: &'static [&'static [Setting]],
}

impl Section {
    /// The settings, each with the name of this section.
    fn settings(&self) -> impl Iterator<Item = (&'static str, &'static Setting)> {
        let name = self.name;
        self.groups
            .iter()
            .flat_map(|group| group.iter())
            .map(move |setting| (name, setting))
    }
}

const fn section(
    name: &'static str,
    sentence: &'static str,
    groups: &'static [&'static [Setting]],
) -> Section {
    Section {
        name,
        sentence,
        groups,
    }
}

/// All sections but those of outputs.
pub const SECTIONS: &[Section] = &[
    section(
        "listen",
        "Where and how requests come in.",
        &[ListenSettings::SETTINGS],
    ),
    section(
        "limits",
        "What a client may send, and how long it may take.",
        &[HttpLimits::SETTINGS, IngestLimits::SETTINGS],
    ),
    section("paths", "Which paths are served.", &[Paths::SETTINGS]),
    section(
        "cors",
        "Whose pages may read responses.",
        &[CorsSettings::SETTINGS],
    ),
    section(
        "client_address",
        "Whom to believe about a client's address.",
        &[ClientAddressSettings::SETTINGS],
    ),
    section("admit", "Who may send events.", &[AdmitSettings::SETTINGS]),
    section(
        "ack",
        "When a client is answered.",
        &[AckSettings::SETTINGS],
    ),
    section("drain", "How the process ends.", &[DrainSettings::SETTINGS]),
    section(
        "admin",
        "The port for metrics and probes.",
        &[AdminSettings::SETTINGS],
    ),
    section("log", "Logging.", &[LogSettings::SETTINGS]),
    section(
        "process",
        "The process as the kernel sees it.",
        &[ProcessSettings::SETTINGS],
    ),
];

/// The whole configuration, every value present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where and how requests come in.
    pub listen: ListenSettings,
    /// What a client may send, and how long it may take.
    pub limits: HttpLimits,
    /// Limits of bodies and events.
    pub ingest: IngestLimits,
    /// Which paths are served.
    pub paths: Paths,
    /// Whose pages may read answers.
    pub cors: CorsSettings,
    /// Whom to believe about a client's address.
    pub client_address: ClientAddressSettings,
    /// Who may send events.
    pub admit: AdmitSettings,
    /// When a client is answered.
    pub ack: AckSettings,
    /// How the process ends.
    pub drain: DrainSettings,
    /// The port for metrics and probes.
    pub admin: AdminSettings,
    /// Logging.
    pub log: LogSettings,
    /// The process as the kernel sees it.
    pub process: ProcessSettings,
    /// Where records go, in the order of their names; between 1 and [`OUTPUTS_MAX`].
    pub outputs: Vec<Output>,
    /// What the log should say once of how the configuration came about; no setting.
    pub notes: Vec<String>,
    /// Every value in force, for printing.
    in_force: Vec<InForce>,
}

/// `[outputs.<name>]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// 1 to 32 of `a-z`, `0-9`, `_`, `-`.
    pub name: String,
    /// What a client's 200 waits for at this output.
    pub ack: AckPolicy,
    /// Bytes waiting in front of the writers; at least one full batch.
    pub queue_bytes_max: usize,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// Records in one call of the sink.
    pub batch_records_max: usize,
    /// Bytes in one call of the sink, keys included.
    pub batch_bytes_max: usize,
    /// Calls running at once, per writer.
    pub in_flight_max: usize,
    /// Writer threads.
    pub writers: usize,
    /// The first retry waits up to this.
    pub retry_base: Duration,
    /// No retry waits longer than this.
    pub retry_cap: Duration,
    /// What decides a record's place in a stream. Files and Firehose know no key: always random there.
    pub partition_key: PartitionKey,
    /// The destination.
    pub sink: SinkConfig,
}

/// What a client's 200 waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckPolicy {
    /// The destination's word.
    Delivered,
    /// A synced place on the local disk, from where the destination gets it, after a new start as well.
    Durable,
    /// A place in the queue: best effort, what is still undelivered after `retry_for` is counted and dropped.
    Enqueued {
        /// How long delivery is tried.
        retry_for: Duration,
    },
}

/// A destination and what only its type knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkConfig {
    /// Newline-delimited JSON in local files.
    File(FileSink),
    /// A Firehose delivery stream that takes direct puts.
    Firehose(FirehoseSink),
    /// A Kafka topic.
    Kafka(KafkaSink),
    /// A Kinesis data stream.
    Kinesis(KinesisSink),
    /// Nowhere, for measuring.
    Null,
    /// Objects in a bucket.
    S3(S3Sink),
}

/// Keys of `type = "file"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSink {
    /// The root under which `year=/month=/day=/hour=/` lie; no other output has the same.
    pub dir: PathBuf,
    /// A file over this size is closed and a new one begun.
    pub rotate_bytes: u64,
    /// A file older than this is closed and a new one begun.
    pub rotate: Duration,
}

/// Keys of `type = "kafka"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaSink {
    /// `host:port` of some brokers, 1 to [`BROKERS_MAX`].
    pub brokers: Vec<String>,
    /// Where its records go.
    pub topic: KafkaTopic,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// The authorities, in PEM, for the brokers' certificates; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// What it shows of itself to brokers that want a certificate; only with `tls`.
    pub certificate: Option<ClientCertificate>,
    /// How it says who it is.
    pub sasl: SaslMechanism,
    /// Name and password, with the mechanisms that have them.
    pub login: Option<(String, Secret)>,
    /// The region of [`SaslMechanism::MskIam`]; `None` leaves it to the standard AWS chain.
    pub region: Option<String>,
    /// What batches are packed with.
    pub compression: CompressionWord,
    /// After this a record that no broker confirmed is given up.
    pub delivery_timeout: Duration,
    /// Bytes of one record, key included; a larger one is refused to the client.
    pub record_bytes_max: usize,
}

/// The topic or topics of a Kafka output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KafkaTopic {
    /// All records go to the topic of this name.
    Name(String),
    /// A record's own values name its topic.
    Template {
        /// What names are made by; the same for all outputs that have one.
        template: Template,
        /// The topic of records whose values name none.
        fallback: String,
        /// Different names in the life of the process, the fallback not counted; the same for all outputs
        /// that have a template.
        topics_max: usize,
    },
}

/// A certificate in PEM and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with those that it was signed by behind it.
    pub certificate_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
    /// What the key is encrypted with; `None`: it is not.
    pub key_password: Option<Secret>,
}

/// Keys of `type = "firehose"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirehoseSink {
    /// Which delivery stream, and how to call it.
    pub stream: AwsStream,
    /// Bytes up to which events share a record, newlines included; 0: each has its own.
    pub pack_bytes_max: usize,
}

/// Keys of `type = "kinesis"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KinesisSink {
    /// Which stream, and how to call it.
    pub stream: AwsStream,
    /// How often limits and mode of the stream are read again.
    pub describe_interval: Duration,
}

/// A stream of AWS, and how to call it: keys of `type = "firehose"` and `type = "kinesis"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsStream {
    /// The stream's name; key `stream`.
    pub name: String,
    /// The region; `None` leaves it to the standard AWS chain.
    pub region: Option<String>,
    /// Another endpoint than the region's; `None` leaves it to the standard AWS chain.
    pub endpoint_url: Option<String>,
    /// How long a TCP and TLS handshake may take; at most `attempt_timeout`.
    pub connect_timeout: Duration,
    /// How long one call may take.
    pub attempt_timeout: Duration,
}

/// Keys of `type = "s3"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Sink {
    /// The bucket's name.
    pub bucket: String,
    /// What keys begin with, as it is.
    pub prefix: String,
    /// The region; `None` leaves it to the standard AWS chain.
    pub region: Option<String>,
    /// Another endpoint than the region's; `None` leaves it to the standard AWS chain.
    pub endpoint_url: Option<String>,
    /// Whether the bucket stands in the path; `None`: when there is an endpoint.
    pub path_style: Option<bool>,
    /// How long a TCP and TLS handshake may take; at most `attempt_timeout`.
    pub connect_timeout: Duration,
    /// How long one call may take.
    pub attempt_timeout: Duration,
    /// Where records are until their object is stored; `None`: in memory, with [`AckPolicy::Enqueued`].
    pub staging: Option<Staging>,
    /// An object is finished before its lines pass this many bytes.
    pub object_bytes_max: u64,
    /// An object is finished at this age.
    pub object_age: Duration,
    /// The storage class of objects.
    pub storage_class: StorageClassWord,
    /// The KMS key that objects are encrypted with; `None` leaves it to the bucket.
    pub kms_key_id: Option<String>,
}

/// The staging directory of an S3 output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staging {
    /// The directory; no other output has the same.
    pub dir: PathBuf,
    /// Bytes of events in it; over it requests are answered 503.
    pub bytes_max: u64,
}

/// What the command line may decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--listen`: `listen.address`.
    pub listen: Option<SocketAddr>,
    /// `--driver`: `listen.driver`.
    pub driver: Option<Driver>,
    /// `--workers`: `listen.workers`.
    pub workers: Option<u64>,
    /// `--data-dir`: `dir` of the one file output.
    pub data_dir: Option<PathBuf>,
}

impl Config {
    /// Reads the file if one is named, lays the variables that begin with `SLUICE_` and then the flags
    /// over it, and resolves what came of it on this machine. Without a file, and where no variable of ours
    /// names an output, the variables of the replaced tier lie under ours.
    ///
    /// # Errors
    /// A file that cannot be read, is over [`FILE_BYTES_MAX`] or has an unknown or ill-typed key (with
    /// its line); a variable that names no key or has an ill-typed value; numbers out of their bounds;
    /// settings that contradict each other.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        flags: &Flags,
        machine: HostInfo,
    ) -> Result<Config, ConfigError> {
        let variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
        let (mut tree, legacy) = match file {
            Some(path) => (file::parse(path, &read(path)?)?, None),
            None => {
                let legacy = legacy_env::read(&variables)?;
                (legacy.tree.clone(), Some(legacy))
            }
        };
        env::overlay(&mut tree, variables)?;
        resolve::apply_flags(&mut tree, flags)?;
        let mut notes = Vec::new();
        if let Some(legacy) = legacy {
            legacy.require_output(!tree.outputs.is_empty())?;
            notes = legacy.notes;
        }
        let config = resolve::resolve(tree, machine).map_err(|wrong| match wrong {
            Wrong::Problems(problems) => ConfigError::Invalid(problems),
            Wrong::Misfit(misfit) => unreadable_value(file, misfit),
        })?;
        Ok(Config { notes, ..config })
    }

    /// The resolved form as a configuration file; it loads to the same configuration again, once
    /// [`Secret`]s, which it masks, are put back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        for section in SECTIONS {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "[{}]", section.name);
            for known in &self.in_force {
                if known.section == section.name
                    && let Some(value) = &known.value
                {
                    let _ = writeln!(text, "{} = {}", known.key, toml(value));
                }
            }
            text.push('\n');
        }
        text + &raw::print(&self.outputs)
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_toml())
    }
}

/// A value in TOML; a secret is masked.
fn toml(value: &Value) -> toml::Value {
    match value {
        Value::Text(text) | Value::Untyped(text) => text.as_str().into(),
        Value::Integer(number) => (*number).into(),
        Value::Switch(is_on) => (*is_on).into(),
        Value::List(values) => toml::Value::Array(values.iter().map(toml).collect()),
        Value::Hidden(_) => Secret::MASK.into(),
        Value::Other(name) => (*name).into(),
    }
}

/// The error for a value that its setting cannot read, by where it was written.
fn unreadable_value(file: Option<&Path>, misfit: Misfit) -> ConfigError {
    let Misfit { origin, message } = misfit;
    match origin {
        Origin::Line(line) => ConfigError::Syntax {
            file: file.unwrap_or(Path::new("")).to_path_buf(),
            line,
            message,
        },
        Origin::Variable(name) => ConfigError::Variable { name, message },
        Origin::Flag(flag) => ConfigError::Flag { flag, message },
        Origin::Default => ConfigError::Flag {
            flag: "default",
            message,
        },
    }
}

/// The text of a configuration file.
fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable {
        file: path.to_path_buf(),
        reason,
    };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| unreadable(error.to_string()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(format!(
            "it has over {FILE_BYTES_MAX} bytes, the limit"
        )));
    }
    Ok(text)
}
