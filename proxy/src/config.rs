//! What the operator decided, complete and free of contradictions.
//!
//! Flags win over `SLUICE_*` variables, these over the file, the file over the defaults. `raw` is what
//! may be written down, `env` the overlay of variables, `replaced` those of the tier we replace, `resolve` the way from there to [`Config`];
//! `bounds` holds every limit on a number. Nothing here opens a socket or a data file.

mod bounds;
mod check;
mod env;
mod error;
mod firehose;
mod host_info;
mod kafka;
mod keywords;
mod legacy_env;
mod outputs;
mod raw;
mod resolve;
mod s3;

pub use bounds::{BOUNDS, Bound, Scope};
pub use error::{ConfigError, Problem, Setting};
pub use host_info::{HostInfo, has_cpu_quota};
pub use keywords::{
    AckMode, AdminAddress, CompressionWord, Driver, LogFormat, LogLevel, PartitionKey,
    ProxyProtocol, SaslMechanism, Scheduling, Secret, SinkType, StorageClassWord,
};

use crate::http::{Network, OriginPattern};
use sluice_core::topic::Template;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A configuration file may have this many bytes.
pub const FILE_BYTES_MAX: u64 = 1_048_576;

/// This many outputs at most.
pub const OUTPUTS_MAX: usize = 16;

/// This many patterns of origins at most: each is compared with the Origin of each request.
pub const ORIGINS_MAX: usize = 256;

/// This many trusted networks at most: each is compared with the peer of each request.
pub const NETWORKS_MAX: usize = 256;

/// This many applications at most.
pub const APP_IDS_MAX: usize = 10_000;

/// This many brokers of a Kafka output at most; the cluster names the others.
pub const BROKERS_MAX: usize = 64;

/// This many hosts at most.
pub const HOSTS_MAX: usize = 1_000;

/// The whole configuration, every value present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where and how requests come in.
    pub listen: Listen,
    /// What a client may send, and how long it may take.
    pub limits: Limits,
    /// Which paths are served.
    pub paths: Paths,
    /// Whose pages may read answers.
    pub cors: Cors,
    /// Whom to believe about a client's address.
    pub client_address: ClientAddress,
    /// Who may send events.
    pub admit: Admit,
    /// When a client is answered.
    pub ack: Ack,
    /// How the process ends.
    pub drain: Drain,
    /// The port for metrics and probes.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
    /// The process as the kernel sees it.
    pub process: Process,
    /// Where records go, in the order of their names; between 1 and [`OUTPUTS_MAX`].
    pub outputs: Vec<Output>,
    /// What the log should say once of how the configuration came about; no setting.
    pub notes: Vec<String>,
}

/// `[listen]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Address and port of the HTTP listeners; port 0 lets the kernel choose.
    pub address: SocketAddr,
    /// Listener cores, at least 1 (0 in the file is the number of available cores).
    pub workers: usize,
    /// Which I/O driver the workers run on.
    pub driver: Driver,
    /// Connections open at once, over all workers. Half of the descriptor limit caps it further.
    pub connections_max: usize,
    /// Connections open at once from one address; `None` is no such limit.
    pub connections_per_address_max: Option<usize>,
    /// Whether each worker is pinned to its core.
    pub pin: bool,
    /// Whether connections begin with a header that says whose they are.
    pub proxy_protocol: ProxyProtocol,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of request line and headers.
    pub head_bytes_max: usize,
    /// Header lines.
    pub headers_max: usize,
    /// Bytes of the request target, below `head_bytes_max`.
    pub target_bytes_max: usize,
    /// From the first byte of a request (or from accept) to the end of its head.
    pub head_deadline: Duration,
    /// Bytes of a request body as it is sent.
    pub body_bytes_max: usize,
    /// Bytes of a request body once it is decompressed.
    pub inflated_bytes_max: usize,
    /// From the end of the head to the end of the body.
    pub body_deadline: Duration,
    /// Bytes per second that a body must come in with after its first two seconds; 0 is no such limit.
    pub body_rate_min_bytes: usize,
    /// How long a kept-alive connection may be silent between requests.
    pub idle: Duration,
    /// Requests on one connection, then it is closed.
    pub requests_per_connection_max: u64,
    /// Age at which a connection is closed after its current request.
    pub connection_life: Duration,
    /// Events in one request body.
    pub events_max: usize,
    /// Nesting of arrays and objects in an event.
    pub json_depth_max: usize,
    /// Bytes of bodies and records held at once, over all workers.
    pub in_flight_bytes_max: usize,
}

/// `[paths]`. Each begins with `/`, and no two are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Record mode envelope: one record per request.
    pub collect: String,
    /// Record mode event: one record per event. `None` is off.
    pub events: Option<String>,
    /// Record mode event: the query string is the event, the answer an image. `None` is off.
    pub pixel: Option<String>,
    /// The server's clock, for clients.
    pub ping: String,
    /// The load balancer's question.
    pub health: String,
}

/// `[cors]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Whose pages may read answers; nobody's when empty. At most [`ORIGINS_MAX`].
    pub origins: Vec<OriginPattern>,
    /// For how long a browser may remember the answer to a preflight.
    pub max_age: Duration,
}

/// `[client_address]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// Whose X-Forwarded-For is believed. At most [`NETWORKS_MAX`].
    pub trusted: Vec<Network>,
    /// How many addresses at its end are taken; 0 is all.
    pub hops: usize,
    /// Whether the query parameter `fakeIp` of [`Paths::collect`] wins over all of it: for development,
    /// as anybody can send it.
    pub fake_ip: bool,
}

/// `[admit]`: who may send events. Empty lists admit everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admit {
    /// Values of the query parameter `appId` that may send events. At most [`APP_IDS_MAX`].
    pub app_ids: Vec<String>,
    /// Hosts, without port, that requests may name. At most [`HOSTS_MAX`].
    pub hosts: Vec<String>,
}

/// `[ack]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// From the end of the body to the answer, whatever the outputs do; below 10 s, where the
    /// first of the SDKs in the field give up.
    pub deadline: Duration,
    /// The shortest `Retry-After`, seconds.
    pub retry_after_min_s: u64,
    /// The longest `Retry-After`, seconds; each answer draws one between the two.
    pub retry_after_max_s: u64,
}

/// `[drain]`. Both count from the signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long requests are still taken while health says 503.
    pub grace: Duration,
    /// When the process ends whatever is left; at least grace and ack deadline together.
    pub deadline: Duration,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where metrics and probes are served; `None` is nowhere.
    pub address: Option<SocketAddr>,
    /// Public names that a Host may carry there. At most [`HOSTS_MAX`].
    pub hosts: Vec<String>,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// `[process]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// How its threads share the cores.
    pub scheduling: Scheduling,
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
        let (mut table, replaced) = match file {
            Some(path) => (raw::parse(path, &read(path)?)?, None),
            None => {
                let replaced = legacy_env::read(&variables)?;
                (replaced.table.clone(), Some(replaced))
            }
        };
        env::overlay(&mut table, variables)?;
        let mut raw = raw::from_table(table)?;
        resolve::apply_flags(&mut raw, flags)?;
        let mut notes = Vec::new();
        if let Some(replaced) = replaced {
            replaced.require_output(!raw.outputs.is_empty())?;
            notes = replaced.notes;
        }
        let config = resolve::resolve(raw, machine)?;
        Ok(Config { notes, ..config })
    }

    /// The resolved form as a configuration file; it loads to the same configuration again, once
    /// [`Secret`]s, which it masks, are put back.
    #[must_use]
    pub fn to_toml(&self) -> String {
        raw::print(self)
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_toml())
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
