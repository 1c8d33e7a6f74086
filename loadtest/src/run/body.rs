//! Request bodies, and the bytes of each request: events of an exact size, a profile of traffic,
//! or files. Sends nothing; where the events of a request are is known here alone.

mod exact;
mod files;

pub use files::{BODY_FILES_BYTES_MAX, BODY_FILES_MAX, FileOptions};

pub(super) use exact::push_event;

use super::profile::random::{Users, Zipf};
use super::profile::{Profile, ProfileRequests};
use super::target::Target;
use crate::ledger::EVENTS_PER_REQUEST_MAX;
use exact::ExactRequests;
use files::{FileRequest, FileRequests};
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;

/// Smallest event size in bytes: every field, with an empty remark.
pub const EVENT_BYTES_MIN: usize = 320;

/// Largest body of one request, in bytes.
pub const BODY_BYTES_MAX: usize = 16 << 20;

/// Users that events may come from at most; their numbers have 9 digits.
pub const USERS_MAX: u32 = 1_000_000_000;

/// Largest exponent of Zipf's law. At 10 all but one in a thousand events are the first user's.
pub const ZIPF_MAX: f64 = 10.0;

/// Usual share of preflights among the requests of the profile `web`. The replaced tier lets browsers
/// keep a permission for their own default time, 5 s, and the SDK sends about as often: an
/// assumption between one for each request and one per visit.
pub const PREFLIGHTS: f64 = 0.2;

/// Largest share of preflights among the requests of the profile `web`.
pub const PREFLIGHTS_MAX: f64 = 0.9;

/// The browser that requests name.
pub(super) const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
     Chrome/142.0.0.0 Safari/537.36";

/// The user agent of requests that imitate no browser and no SDK.
pub(super) const OWN_AGENT: &str = concat!("sluice-loadtest/", env!("CARGO_PKG_VERSION"));

/// The client that a request imitates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BodyMode {
    /// A web SDK: `POST /collect` with its query string, a JSON array of events.
    Envelope,
    /// A server: `POST /v1/events`, one JSON object, or an array of them.
    Event,
}

impl BodyMode {
    /// Its name in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            BodyMode::Envelope => "envelope",
            BodyMode::Event => "event",
        }
    }
}

/// Where bodies come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BodySource {
    /// Events of an exact size: `mode`, `batch` and `event_bytes` count.
    #[default]
    Exact,
    /// Traffic of a kind, with its own sizes and paths.
    Profile(Profile),
    /// Files, sent as they are.
    Files(FileOptions),
}

/// Which users events come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UserOptions {
    /// How many there are, 1 to [`USERS_MAX`].
    pub count: u32,
    /// Exponent of Zipf's law over them, above 0 up to [`ZIPF_MAX`]; without it all are alike.
    pub zipf: Option<f64>,
}

impl Default for UserOptions {
    fn default() -> UserOptions {
        UserOptions {
            count: 1_000_000,
            zipf: None,
        }
    }
}

impl UserOptions {
    pub(super) fn law(&self) -> Users {
        match self.zipf {
            Some(exponent) => Users::Zipf(Zipf::new(self.count, exponent)),
            None => Users::Uniform(self.count),
        }
    }
}

/// Which bodies a run sends.
#[derive(Clone, Debug, PartialEq)]
pub struct BodyOptions {
    /// Where bodies come from.
    pub source: BodySource,
    /// The clients that requests with events of an exact size imitate.
    pub mode: BodyMode,
    /// Events of an exact size in each request.
    pub batch: u32,
    /// Exact size of each event in bytes.
    pub event_bytes: usize,
    /// More header lines, `Name: value` each.
    pub headers: Vec<String>,
    /// Seed of sizes, mixes and users; the run's number unless given.
    pub seed: Option<u64>,
    /// Which users events come from.
    pub users: UserOptions,
    /// Share of CORS preflights among the requests of the profile `web`, up to [`PREFLIGHTS_MAX`];
    /// [`PREFLIGHTS`] unless given, and for no other profile.
    pub preflights: Option<f64>,
}

impl Default for BodyOptions {
    /// One event of 1 KiB per request, as a server sends it.
    fn default() -> BodyOptions {
        BodyOptions {
            source: BodySource::Exact,
            mode: BodyMode::Event,
            batch: 1,
            event_bytes: 1024,
            headers: Vec::new(),
            seed: None,
            users: UserOptions::default(),
            preflights: None,
        }
    }
}

/// Why requests cannot be made.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BodyError {
    /// The batch is empty or too large.
    #[error("batch must be between 1 and {EVENTS_PER_REQUEST_MAX} events, not {0}")]
    Batch(u32),
    /// The event is too small for its fields.
    #[error("event-bytes must be at least {EVENT_BYTES_MIN}, not {0}")]
    EventBytes(usize),
    /// The body is too large.
    #[error(
        "a body of {actual} bytes (batch times event-bytes) is over the limit of {BODY_BYTES_MAX}"
    )]
    Body {
        /// Its size.
        actual: usize,
    },
    /// A header is not `Name: value`.
    #[error("header {0:?} is not of the form `Name: value`")]
    Header(String),
    /// No users, or too many.
    #[error("users must be between 1 and {USERS_MAX}, not {0}")]
    Users(u32),
    /// The exponent is out of range.
    #[error("zipf must be above 0 and at most {ZIPF_MAX}, not {0}")]
    Zipf(f64),
    /// The share of preflights is out of range.
    #[error("preflights must be between 0 and {PREFLIGHTS_MAX}, not {0}")]
    Preflights(f64),
    /// No browser sends these requests.
    #[error("preflights are for the profile web, not for {0}")]
    PreflightsOf(&'static str),
    /// A file cannot be read.
    #[error("body {}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        message: String,
    },
    /// A file is too large.
    #[error("body {}: {actual} bytes or more are over the limit of {BODY_BYTES_MAX}", path.display())]
    FileBytes {
        /// The file.
        path: PathBuf,
        /// Its size, as far as it was looked at.
        actual: u64,
    },
    /// No file, or too many.
    #[error("body files must be between 1 and {BODY_FILES_MAX}, not {0}")]
    Files(usize),
    /// Files are too large together.
    #[error("body files of more than {BODY_FILES_BYTES_MAX} bytes together")]
    FilesBytes,
    /// The method is invalid, or its responses could not be framed.
    #[error("method {0:?} is not a name in capitals other than HEAD and CONNECT")]
    Method(String),
    /// The content type cannot stand in a header.
    #[error("content-type {0:?} has control characters")]
    ContentType(String),
    /// Events without ids cannot be written down.
    #[error(
        "bodies from files carry no known event ids, so that no answers can be written for an audit"
    )]
    NoIds,
}

impl BodyOptions {
    /// Refuses sizes out of range and malformed headers. Files are looked at when they are read.
    ///
    /// # Errors
    /// Names the limit and the value.
    pub fn check(&self) -> Result<(), BodyError> {
        match &self.source {
            BodySource::Exact => self.check_exact()?,
            BodySource::Profile(_) => {}
            BodySource::Files(files) => files.check()?,
        }
        if !(1..=USERS_MAX).contains(&self.users.count) {
            return Err(BodyError::Users(self.users.count));
        }
        if let Some(exponent) = self.users.zipf
            && !(exponent > 0.0 && exponent <= ZIPF_MAX)
        {
            return Err(BodyError::Zipf(exponent));
        }
        if let Some(share) = self.preflights {
            if self.source != BodySource::Profile(Profile::Web) {
                return Err(BodyError::PreflightsOf(self.label()));
            }
            if !(0.0..=PREFLIGHTS_MAX).contains(&share) {
                return Err(BodyError::Preflights(share));
            }
        }
        for header in &self.headers {
            let token = |name: &str| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            };
            let valid = header
                .split_once(':')
                .is_some_and(|(name, value)| token(name) && !value.contains(char::is_control));
            if !valid {
                return Err(BodyError::Header(header.clone()));
            }
        }
        Ok(())
    }

    fn check_exact(&self) -> Result<(), BodyError> {
        if !(1..=EVENTS_PER_REQUEST_MAX).contains(&self.batch) {
            return Err(BodyError::Batch(self.batch));
        }
        if self.event_bytes < EVENT_BYTES_MIN {
            return Err(BodyError::EventBytes(self.event_bytes));
        }
        let actual = self.event_bytes.saturating_mul(self.batch as usize);
        if actual > BODY_BYTES_MAX {
            return Err(BodyError::Body { actual });
        }
        Ok(())
    }

    /// Maximum events in one request; none for files, whose events are unknown.
    pub(super) fn events_max(&self) -> u32 {
        match &self.source {
            BodySource::Exact => self.batch,
            BodySource::Profile(profile) => profile.events_max(),
            BodySource::Files(_) => 0,
        }
    }

    /// Whether an answer of 200 may refuse single events.
    pub(super) fn answers_per_event(&self) -> bool {
        match &self.source {
            BodySource::Exact => self.mode == BodyMode::Event,
            BodySource::Profile(profile) => profile.answers_per_event(),
            BodySource::Files(_) => false,
        }
    }

    /// The kind of bodies, for reports.
    pub(super) fn label(&self) -> &'static str {
        match &self.source {
            BodySource::Exact => self.mode.label(),
            BodySource::Profile(profile) => profile.label(),
            BodySource::Files(_) => "files",
        }
    }
}

/// A request that is ready to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prepared<'a> {
    pub(super) bytes: &'a [u8],
    /// Where its header lines begin.
    pub(super) headers_at: usize,
    /// Known events that it carries.
    pub(super) events: u32,
    /// Whether it is a CORS preflight, which carries no event by its nature.
    pub(super) preflight: bool,
}

/// The bodies that all threads of a run share.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    options: BodyOptions,
    target: Target,
    files: Arc<[FileRequest]>,
}

impl Bodies {
    /// Checks the options, and reads the files that they name.
    pub(super) fn load(options: &BodyOptions, target: &Target) -> Result<Bodies, BodyError> {
        options.check()?;
        let files = match &options.source {
            BodySource::Files(files) => files.read(&options.headers, target)?,
            BodySource::Exact | BodySource::Profile(_) => Vec::new(),
        };
        Ok(Bodies {
            options: options.clone(),
            target: target.clone(),
            files: files.into(),
        })
    }

    /// Makes the requests of one thread.
    pub(super) fn requests(&self, run: u32, thread: usize) -> Requests {
        let seed = self.options.seed.unwrap_or(u64::from(run));
        // Neighbouring seeds and threads shall have nothing in common: 2^64 over the golden ratio.
        let seed = seed
            .wrapping_add(thread as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(thread as u64);
        let (options, target) = (&self.options, &self.target);
        match options.source {
            BodySource::Exact => Requests::Exact(ExactRequests::new(options, target, run, seed)),
            BodySource::Profile(profile) => {
                Requests::Profile(ProfileRequests::new(profile, options, target, run, seed))
            }
            BodySource::Files(_) => Requests::Files(FileRequests::new(Arc::clone(&self.files))),
        }
    }
}

/// Requests of one thread.
#[derive(Debug)]
pub(super) enum Requests {
    Exact(ExactRequests),
    Profile(ProfileRequests),
    Files(FileRequests),
}

impl Requests {
    /// The next request: events `first` and following, at `now_ms` since the Unix epoch.
    pub(super) fn next(&mut self, first: u64, now_ms: u64) -> Prepared<'_> {
        match self {
            Requests::Exact(requests) => requests.next(first, now_ms),
            Requests::Profile(requests) => requests.next(first, now_ms),
            Requests::Files(requests) => requests.next(),
        }
    }
}

/// Appends the headers of a request and the empty line behind them. Own ones replace others.
pub(super) fn push_headers(
    head: &mut String,
    target: &Target,
    usual: &[(&str, &str)],
    own: &[String],
    length: Option<usize>,
) {
    let host = target.authority();
    for (name, value) in std::iter::once(&("Host", host.as_str())).chain(usual) {
        let mut names = own.iter().filter_map(|header| header.split_once(':'));
        if !names.any(|(own, _)| own.eq_ignore_ascii_case(name)) {
            push(head, format_args!("{name}: {value}\r\n"));
        }
    }
    for header in own {
        push(head, format_args!("{header}\r\n"));
    }
    if let Some(length) = length {
        push(head, format_args!("Content-Length: {length}\r\n"));
    }
    head.push_str("\r\n");
}

/// Writing to a string does not fail.
fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = text.write_fmt(what);
}
