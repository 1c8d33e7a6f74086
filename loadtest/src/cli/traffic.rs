//! The command line of request bodies and connections: the arguments of every command that sends load.

use crate::run::{
    AddressFamily, BodyMode, BodyOptions, BodySource, ConnectOptions, FileOptions, Profile,
    UserOptions,
};
use clap::Args;
use std::path::PathBuf;

/// What requests carry: events of an exact size, traffic of a kind, or files.
#[derive(Clone, Debug, Args)]
pub struct BodyArgs {
    /// Traffic of one kind of client, with its sizes and paths: web, mobile, single, flat, batch, firehose.
    ///
    /// web: browsers with the web SDK, 1-10 events in plain text, and CORS preflights.
    /// mobile: phones, 50-100 events as base64 of gzip. single: one event of about 1 KB with nested
    /// data. flat: one object of string pairs, 0.5-4 KB. batch: 10 events in 2 KB as base64 of
    /// gzip, the published benchmark of the tier that Sluice replaces. firehose: mouse moves in
    /// arrays of 20-200, and one order in 300 of them. web, mobile and batch go to /collect, the
    /// others to /v1/events.
    #[arg(long, value_name = "NAME", value_parser = profile,
          conflicts_with_all = ["mode", "batch", "event_bytes", "body"])]
    pub profile: Option<Profile>,
    /// Send this file as a body, up to 16 MiB; repeat for more, sent in turn. Its events are not
    /// known, so there is nothing to audit. Path and query are those of the target.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mode", "batch", "event_bytes", "seed", "users", "zipf"])]
    pub body: Vec<PathBuf>,
    /// Method of requests with --body.
    #[arg(long, default_value = "POST", value_name = "NAME", requires = "body")]
    pub method: String,
    /// Content type of requests with --body.
    #[arg(
        long,
        default_value = "application/json",
        value_name = "TYPE",
        requires = "body"
    )]
    pub content_type: String,
    /// envelope: POST /collect as a web SDK does, a JSON array behind a query string.
    /// event: POST /v1/events, one JSON object, or an array with --batch.
    #[arg(long, value_enum, default_value = "event")]
    pub mode: BodyMode,
    /// Events in each request.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub batch: u32,
    /// Exact size of each event in bytes.
    #[arg(long, default_value_t = 1024, value_name = "BYTES")]
    pub event_bytes: usize,
    /// One more header line; repeat for more.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Seed of sizes, mixes and users; by default the number of the run.
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Number of users that events come from.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub users: u32,
    /// Make some users far more frequent than others, by Zipf's law with this exponent (1 is usual), so that
    /// partitioning by user makes hot shards.
    #[arg(long, value_name = "EXPONENT")]
    pub zipf: Option<f64>,
    /// Share of CORS preflights among the requests of --profile web; 0.2 by default.
    #[arg(long, value_name = "SHARE")]
    pub preflights: Option<f64>,
}

fn profile(name: &str) -> Result<Profile, String> {
    clap::ValueEnum::from_str(name, false).map_err(|_| {
        "no such profile: use web, mobile, single, flat, batch or firehose; a file of your own \
         goes to --body"
            .to_owned()
    })
}

impl BodyArgs {
    /// The generator's options.
    #[must_use]
    pub fn options(&self) -> BodyOptions {
        BodyOptions {
            source: match self.profile {
                Some(profile) => BodySource::Profile(profile),
                None if self.body.is_empty() => BodySource::Exact,
                None => BodySource::Files(FileOptions {
                    paths: self.body.clone(),
                    method: self.method.clone(),
                    content_type: self.content_type.clone(),
                }),
            },
            mode: self.mode,
            batch: self.batch,
            event_bytes: self.event_bytes,
            headers: self.headers.clone(),
            seed: self.seed,
            users: UserOptions {
                count: self.users,
                zipf: self.zipf,
            },
            preflights: self.preflights,
        }
    }
}

/// How connections are made and used.
#[derive(Clone, Debug, Args)]
pub struct ConnectArgs {
    /// Close each connection after this many requests; 1 is a connection per request. A new one is opened
    /// when a request is due, whose latency then includes connect and TLS handshake. The last request sends
    /// `Connection: close`, so that the server closes first.
    #[arg(long, value_name = "N")]
    pub requests_per_connection: Option<u64>,
    /// Requests that may wait for their answers on one connection, at most 1024; 1 is no
    /// pipelining.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub pipeline: usize,
    /// Use IPv4 only.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,
    /// Use IPv6 only.
    #[arg(short = '6', long)]
    pub ipv6: bool,
    /// Trust the certificates in this PEM file instead of the system's; for https:// targets.
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate; for https:// targets.
    #[arg(long)]
    pub insecure: bool,
}

impl ConnectArgs {
    /// The generator's options.
    #[must_use]
    pub fn options(&self) -> ConnectOptions {
        ConnectOptions {
            requests_per_connection: self.requests_per_connection,
            pipeline: self.pipeline,
            family: match (self.ipv4, self.ipv6) {
                (true, _) => AddressFamily::V4,
                (_, true) => AddressFamily::V6,
                _ => AddressFamily::Any,
            },
            ca: self.ca.clone(),
            insecure: self.insecure,
        }
    }
}
