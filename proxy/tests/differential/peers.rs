//! Readers that we did not write: hyper in this process, the others as programs.

use crate::outcome::{Outcome, Request, latin1};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::error::Error;
use std::io::{self, Write};
use std::pin::Pin;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// In the order of the page's columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    Hyper,
    H11,
    Node,
    Go,
}

pub(crate) const PEERS: [Peer; 4] = [Peer::Hyper, Peer::H11, Peer::Node, Peer::Go];

/// What a peer made of all cases.
pub(crate) struct Answers {
    /// Its name and version.
    pub(crate) version: String,
    pub(crate) outcomes: Vec<Outcome>,
}

impl Peer {
    /// Starts its program; hyper has none.
    fn command(self) -> Command {
        let readers = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/differential/readers");
        let tool = |name: &str| {
            std::env::var_os(name)
                .unwrap_or_else(|| panic!("{name} has to be set, as .ci/differential does"))
        };
        match self {
            Peer::Hyper => unreachable!("hyper is a part of this program"),
            Peer::H11 => {
                let mut command = Command::new(tool("SLUICE_DIFFERENTIAL_PYTHON"));
                command.arg(format!("{readers}/h11_reader.py"));
                command
            }
            Peer::Node => {
                let mut command = Command::new("node");
                command.arg(format!("{readers}/node.mjs"));
                command
            }
            Peer::Go => Command::new(tool("SLUICE_DIFFERENTIAL_GO")),
        }
    }

    pub(crate) fn read_all(self, cases: &[Vec<u8>]) -> Answers {
        if self == Peer::Hyper {
            return Answers {
                version: format!("hyper {}", hyper_version()),
                outcomes: cases.iter().map(|case| by_hyper(case)).collect(),
            };
        }
        let encoded: Vec<String> = cases
            .iter()
            .map(|case| base64_simd::STANDARD.encode_to_string(case))
            .collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&serde_json::to_vec(&encoded).unwrap())
            .unwrap();
        let done = self.command().arg(file.path()).output().unwrap();
        assert!(
            done.status.success(),
            "{self:?}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        let text = String::from_utf8(done.stdout).unwrap();
        let mut lines = text.lines();
        let version = serde_json::from_str(lines.next().unwrap()).unwrap();
        let outcomes: Vec<Outcome> = lines
            .map(|line| serde_json::from_str::<Outcome>(line).unwrap().normalized())
            .collect();
        assert_eq!(outcomes.len(), cases.len(), "{self:?}");
        Answers { version, outcomes }
    }
}

/// The one that this program is linked with, by the lock file.
fn hyper_version() -> String {
    let lock: toml::Table = include_str!("../../../Cargo.lock").parse().unwrap();
    let packages = lock["package"].as_array().unwrap();
    let hyper = packages
        .iter()
        .find(|package| package["name"].as_str() == Some("hyper"));
    hyper.unwrap()["version"].as_str().unwrap().to_owned()
}

/// A connection on which everything is there at once, and which breaks then.
struct Script {
    input: Vec<u8>,
    at: usize,
}

const EXHAUSTED: &str = "no more input";

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.input[self.at..];
        if rest.is_empty() {
            return Poll::Ready(Err(io::Error::other(EXHAUSTED)));
        }
        let piece = rest.len().min(buffer.remaining());
        buffer.put_slice(&rest[..piece]);
        self.at += piece;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// An error's text with those of its causes; `None` for the end of the input.
fn refusal(error: &dyn Error) -> Option<String> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    (!text.contains(EXHAUSTED)).then_some(text)
}

/// What hyper's server makes of these bytes.
pub(crate) fn by_hyper(input: &[u8]) -> Outcome {
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let service = service_fn(|request: http::Request<Incoming>| {
        let outcome = Arc::clone(&outcome);
        async move {
            let (head, body) = request.into_parts();
            let taken = match body.collect().await {
                Ok(body) => Ok(Request {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    version: match head.version {
                        http::Version::HTTP_10 => "1.0".to_owned(),
                        _ => "1.1".to_owned(),
                    },
                    headers: head
                        .headers
                        .iter()
                        .map(|(name, value)| (name.to_string(), latin1(value.as_bytes())))
                        .collect(),
                    body: base64_simd::STANDARD.encode_to_string(body.to_bytes()),
                }),
                Err(error) => Err(refusal(&error)),
            };
            let mut outcome = outcome.lock().unwrap();
            match taken {
                Ok(request) => outcome.requests.push(request),
                Err(error) => outcome.error = error,
            }
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let script = Script {
        input: input.to_vec(),
        at: 0,
    };
    let connection = hyper::server::conn::http1::Builder::new()
        // Without it hyper looks for the end of the connection while a request is handled.
        .half_close(true)
        .serve_connection(TokioIo::new(script), service);
    let end = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(connection);
    let mut outcome = outcome.lock().unwrap().clone();
    if let Err(error) = end
        && outcome.error.is_none()
    {
        outcome.error = refusal(&error);
    }
    outcome.normalized()
}
