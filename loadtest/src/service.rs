//! The common part of all emulators: a server on its own threads, admin pages, scheduled faults,
//! latency, signatures, the ledger of stored events.
//! Knows no service: the trait `Service` carries out calls.

mod budget;
mod emulator;
mod faults;
mod frame;
mod http;
mod latency;
mod retain;
mod script;
mod signature;
mod tls;

pub(crate) use budget::Budget;
pub(crate) use emulator::emulator_methods;
pub(crate) use faults::FaultPlan;
pub use faults::{Faults, FaultsError, Portion, Reject, RejectCode, WINDOWS_MAX, WRITES};
pub(crate) use frame::{Call, Frame, Shared, State};
pub use latency::{DELAY_MAX, Latency, LatencyError, LogNormal, Pauses};
pub(crate) use retain::Retained;
pub use script::{FaultScript, SCRIPT_BYTES_MAX, ScriptError};
pub(crate) use signature::SignatureProblem;
pub use signature::{CLOCK_SKEW_MAX, Key, Signatures};
pub use tls::Tls;

use crate::ledger::LedgerError;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Threads that an emulator can be given.
pub const THREADS_MAX: usize = 64;

/// The region of ARNs in answers to calls that are not signed for another.
pub const REGION: &str = "us-east-1";

/// Options that all emulators share.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// A second port, with TLS.
    pub tls: Option<Tls>,
    /// Threads that serve, 1 to [`THREADS_MAX`].
    pub threads: usize,
    /// When answers come.
    pub latency: Latency,
    /// File that gets the id of each stored event.
    pub ledger: Option<PathBuf>,
    /// Whether calls have to be signed.
    pub signatures: Signatures,
    /// Faults from the start, outside the windows of the script. Their seed also draws latencies.
    pub faults: Faults,
    /// Faults at set times.
    pub script: FaultScript,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            threads: 1,
            latency: Latency::default(),
            ledger: None,
            signatures: Signatures::default(),
            faults: Faults::default(),
            script: FaultScript::default(),
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), EmulatorError> {
        in_range("threads", self.threads, 1, THREADS_MAX)?;
        self.latency.check()?;
        Ok(())
    }
}

/// Refuses a value outside its range.
pub(crate) fn in_range(
    option: &'static str,
    actual: usize,
    min: usize,
    max: usize,
) -> Result<(), EmulatorError> {
    if (min..=max).contains(&actual) {
        return Ok(());
    }
    Err(EmulatorError::Range {
        option,
        min,
        max,
        actual,
    })
}

/// Why an emulator cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum EmulatorError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}: {source}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// An option is outside its range.
    #[error("{option} must be between {min} and {max}, not {actual}")]
    Range {
        /// The option.
        option: &'static str,
        /// Smallest value.
        min: usize,
        /// Largest value.
        max: usize,
        /// The value given.
        actual: usize,
    },
    /// A name that the service would not take.
    #[error("{what} '{name}' must be {rule}")]
    Name {
        /// The kind of thing named.
        what: &'static str,
        /// The name given.
        name: String,
        /// The service's rule.
        rule: &'static str,
    },
    /// The faults are not possible.
    #[error(transparent)]
    Faults(#[from] FaultsError),
    /// The latencies are not possible.
    #[error(transparent)]
    Latency(#[from] LatencyError),
    /// The ledger cannot be written.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// A file or directory cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The system gives no thread or runtime.
    #[error("cannot start: {0}")]
    Start(io::Error),
}

/// Call counters that every service has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallStats {
    /// Connections accepted.
    pub connections: u64,
    /// Calls by operation; those of unknown operations under `unknown`.
    pub calls: BTreeMap<String, u64>,
    /// Calls answered with an error, by its code.
    pub errors: BTreeMap<String, u64>,
    /// Faults carried out, by their name.
    pub faults: BTreeMap<String, u64>,
    /// Ids of stored events (counted only with a ledger).
    pub ledger_ids: u64,
}

impl CallStats {
    fn count_call(&mut self, operation: &str) {
        count(&mut self.calls, operation);
    }

    pub(crate) fn count_error(&mut self, code: &str) {
        count(&mut self.errors, code);
    }
}

/// Adds one without making the name again for each call.
fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counts.insert(name.to_owned(), 1);
        }
    }
}

/// An answer as a service gives it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Bytes>) -> Reply {
        Reply {
            status,
            headers: Vec::new(),
            body: body.into(),
        }
    }

    /// An answer of 200 in JSON.
    pub(crate) fn json(value: &impl Serialize) -> Reply {
        // Values made here always have a JSON form.
        Reply::new(200, serde_json::to_vec(value).unwrap_or_default())
    }

    /// Adds a header; one that HTTP cannot carry is left out.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Reply {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }
}

/// An error for a whole call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Refusal {
    /// An error of the client, status 400.
    pub(crate) fn client(code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal::new(400, code, message)
    }

    pub(crate) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Refusal {
        Refusal {
            status,
            code,
            message: message.into(),
        }
    }

    /// An operation that no emulator of the service has.
    pub(crate) fn unknown_operation() -> Refusal {
        let message = "This operation is not emulated; --help lists those that are.";
        Refusal::client("UnknownOperationException", message)
    }

    /// The error as services of the AWS JSON protocols write it.
    pub(crate) fn json(&self) -> Reply {
        let body = serde_json::json!({"__type": self.code, "message": self.message});
        Reply {
            status: self.status,
            ..Reply::json(&body)
        }
    }
}

/// Errors that every AWS service can return, decided before a service sees the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommonError {
    Internal,
    Throttled,
    AccessDenied,
    ExpiredToken,
    Signature(SignatureProblem),
}

impl CommonError {
    /// The error of a service of the AWS JSON protocols; `service` is its name in permissions.
    pub(crate) fn json(self, service: &str, operation: &str, throttled: Refusal) -> Refusal {
        match self {
            CommonError::Internal => {
                Refusal::new(500, "InternalFailure", "Internal service failure.")
            }
            CommonError::Throttled => throttled,
            CommonError::AccessDenied => Refusal::client(
                "AccessDeniedException",
                format!("User is not authorized to perform: {service}:{operation}"),
            ),
            CommonError::ExpiredToken => Refusal::client(
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
            CommonError::Signature(problem) => {
                let code = match &problem {
                    SignatureProblem::Missing => "MissingAuthenticationTokenException",
                    SignatureProblem::Malformed(_) => "IncompleteSignatureException",
                    SignatureProblem::UnknownKey => "UnrecognizedClientException",
                    SignatureProblem::Skewed
                    | SignatureProblem::Mismatch
                    | SignatureProblem::BodyHash => "InvalidSignatureException",
                };
                Refusal::client(code, problem.to_string())
            }
        }
    }
}

/// One emulated service. Its methods are called on the emulator's threads, and do not wait.
pub(crate) trait Service: Sized + Send + Sync + 'static {
    /// Its name, as signatures and threads carry it.
    const NAME: &'static str;
    /// Bytes of a request's body.
    const BODY_BYTES_MAX: usize;
    /// Of its answers, unless they say otherwise.
    const CONTENT_TYPE: &'static str;
    /// The header of its answers that names the request, as SDKs print it.
    const REQUEST_ID: &'static str = "x-amzn-requestid";
    /// Faults of [`Faults`] that cannot mean anything to it.
    const FAULTS_UNKNOWN: &'static [&'static str];
    /// Whether its ledger is written when it ends, by [`Service::finish`]; else an event is in the
    /// ledger before its call is answered.
    const LEDGER_AT_END: bool = false;
    /// State that its calls share.
    type Own: Send + 'static;
    /// Its counters.
    type Stats: Serialize;

    /// The operation that a call names; `unknown` for those that are not emulated.
    fn operation(&self, head: &Parts) -> &'static str;

    /// Carries out a call.
    fn call(&self, call: Call<'_>, shared: &Shared<Self>) -> Result<Reply, Refusal>;

    /// This error as the service reports it.
    fn common_error(&self, error: CommonError, operation: &str) -> Refusal;

    /// Writes an error.
    fn refuse(&self, refusal: &Refusal, _head: &Parts) -> Reply {
        refusal.json()
    }

    /// The error for a body over [`Service::BODY_BYTES_MAX`].
    fn too_large(&self, head: &Parts) -> Reply {
        let message = format!("The body is over {} bytes.", Self::BODY_BYTES_MAX);
        let refusal = Refusal::new(413, "RequestEntityTooLargeException", message);
        self.refuse(&refusal, head)
    }

    /// Called before counters are read, for what the passing of time changes by itself. `now` is
    /// the time since the start.
    fn tick(&self, _own: &mut Self::Own, _now: std::time::Duration) {}

    /// Counters since the start.
    fn stats(&self, state: &State<Self::Own>) -> Self::Stats;

    /// The last thing before the ledger is written out. An error is what the emulator ends with.
    fn finish(&self, _state: &mut State<Self::Own>) -> Result<(), EmulatorError> {
        Ok(())
    }
}
