//! `sluice replay`: sends the events of dead letters through the door again. Exit code 0 when each letter that was
//! meant was taken, 1 when one was not.
//!
//! ```text
//!  source: files, objects -> lines -> letter: is it meant, has it an event? -> batch -> POST -> 200 -> state, synced
//!                                                                              ^------ 503: wait, again
//! ```

pub mod letter;
pub mod source;
pub mod state;

use crate::cli::Replay;
use crate::config::Config;
use crate::listeners::ListenAddress;
use crate::spool_command::progress;
use crate::verdict::LISTED_MAX;
use crate::worker::ProxyProtocol;
use bytes::Bytes;
use letter::Line;
use sluice_sinks::door::Door;
use sluice_sinks::runtime;
use source::{SourceError, Sources};
use state::{State, StateError};
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tracing::warn;

/// Events of one request, which any proxy takes.
const BATCH_EVENTS_MAX: usize = 100;

/// Their bytes; a larger event is sent alone.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// The wait before a request is sent again, where the answer asks for none.
const WAIT: Duration = Duration::from_secs(1);

/// The longest wait, whatever the answer asks for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A replay could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The letters cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file or object breaks off.
    #[error("{name}: {source}")]
    Line {
        /// Its name.
        name: String,
        /// What is wrong.
        source: io::Error,
    },
    /// Its state cannot be used.
    #[error("{path}: {source}")]
    State {
        /// The file.
        path: String,
        /// What is wrong.
        source: StateError,
    },
    /// There is nowhere to send to, or what is there takes no events.
    #[error("{0}")]
    Door(String),
    /// The system.
    #[error("cannot start: {0}")]
    System(io::Error),
}

/// What became of the letters.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    /// Events sent and taken, by the reasons of their letters. In a dry run: that would be sent.
    taken: BTreeMap<String, u64>,
    /// Events refused again.
    refused: u64,
    /// Letters without an event that can be sent, by why.
    unsendable: BTreeMap<&'static str, u64>,
    not_asked: u64,
    done_before: u64,
    other_lines: u64,
    is_stopped: bool,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let taken: u64 = self.taken.values().sum();
        write!(f, "{taken} events")?;
        let mut between = " (";
        for (reason, count) in &self.taken {
            write!(f, "{between}{reason} {count}")?;
            between = ", ";
        }
        f.write_str(if self.taken.is_empty() { "" } else { ")" })?;
        writeln!(f, " taken, {} refused", self.refused)?;
        for (why, count) in &self.unsendable {
            writeln!(f, "{count} letters have no event to send: {why}")?;
        }
        let Counts {
            not_asked,
            done_before,
            other_lines,
            ..
        } = self;
        writeln!(
            f,
            "{not_asked} letters not asked for, {done_before} lines done before, {other_lines} lines are no letters"
        )
    }
}

/// Carries out a replay.
///
/// # Errors
/// What is named cannot be read, or there is nowhere to send to.
pub fn run(config: &Config, command: &Replay) -> Result<ExitCode, ReplayError> {
    let runtime = runtime::current_thread().map_err(ReplayError::System)?;
    let url = match &command.to {
        Some(url) => url.clone(),
        None => own_door(config).ok_or_else(|| {
            let why = "the first listener is a socket file, or wants TLS or a PROXY header, or paths.events is off: name the door with --to";
            ReplayError::Door(why.to_owned())
        })?,
    };
    let sources = Sources::list(&command.from, &runtime)?;
    let mut what = format!("sluice replay of {}", command.from);
    for only in &command.only {
        // Writing to a String cannot fail.
        let _ = write!(what, ", {only}");
    }
    let state = State::open(&command.state, &what, command.dry_run)
        .map_err(|error| state_error(&command.state, error))?;
    let mut replay = Running {
        // Nothing is sent in a dry run.
        door: match command.dry_run {
            true => None,
            false => Some(Door::new(&url).map_err(ReplayError::Door)?),
        },
        runtime: &runtime,
        until: command
            .timeout_s
            .map(|s| Instant::now() + Duration::from_secs(s)),
        state,
        state_path: command.state.clone(),
        counts: Counts::default(),
        batch: Vec::new(),
        batch_bytes: 0,
    };
    let total = sources.all.iter().map(|source| source.bytes).sum();
    let bar = progress(total);
    for source in &sources.all {
        let counted = |bytes| -> Box<dyn io::Read> { Box::new(bar.wrap_read(bytes)) };
        let mut lines = sources.lines(source, counted)?;
        let (mut line, mut number) = (Vec::new(), 0);
        let done_before = replay.state.done(&source.name);
        while lines.next(&mut line).map_err(|error| ReplayError::Line {
            name: source.name.clone(),
            source: error,
        })? {
            number += 1;
            if number <= done_before {
                replay.counts.done_before += 1;
                continue;
            }
            if let Line::Event { reason, json } = replay.read(&line, command) {
                if !replay.has_room(&json) {
                    replay.send(&source.name, number - 1)?;
                }
                replay.batch_bytes += json.len();
                replay.batch.push((reason, json));
            }
            if replay.counts.is_stopped {
                break;
            }
        }
        replay.send(&source.name, number.max(done_before))?;
        if replay.counts.is_stopped {
            break;
        }
    }
    bar.finish_and_clear();
    let counts = replay.counts;
    // With stdout closed, the exit code still tells the result.
    let _ = write!(io::stdout(), "{counts}");
    let is_good = counts.refused == 0 && counts.unsendable.is_empty() && !counts.is_stopped;
    Ok(match is_good || command.dry_run {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn state_error(path: &Path, source: StateError) -> ReplayError {
    ReplayError::State {
        path: path.display().to_string(),
        source,
    }
}

/// The events' endpoint of the first listener.
fn own_door(config: &Config) -> Option<String> {
    let first = config.listeners.first()?;
    let ListenAddress::Tcp(address) = &first.address else {
        return None;
    };
    if first.tls.is_some() || first.proxy_protocol == ProxyProtocol::Required {
        return None;
    }
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let address = SocketAddr::new(ip, address.port());
    Some(format!(
        "http://{address}{}",
        config.paths.events.as_deref()?
    ))
}

struct Running<'r> {
    door: Option<Door>,
    runtime: &'r Runtime,
    until: Option<Instant>,
    state: State,
    state_path: PathBuf,
    counts: Counts,
    /// Events that were read and not sent, each with the reason of its letter.
    batch: Vec<(String, Vec<u8>)>,
    batch_bytes: usize,
}

impl Running<'_> {
    fn read(&mut self, line: &[u8], command: &Replay) -> Line {
        let line = Line::read(line, &command.only);
        match &line {
            Line::Event { .. } => {}
            Line::Other => self.counts.other_lines += 1,
            Line::NotAsked => self.counts.not_asked += 1,
            Line::Unsendable { why, .. } => *self.counts.unsendable.entry(why).or_default() += 1,
        }
        line
    }

    fn has_room(&self, event: &[u8]) -> bool {
        self.batch.is_empty()
            || (self.batch.len() < BATCH_EVENTS_MAX
                && self.batch_bytes + event.len() <= BATCH_BYTES_MAX)
    }

    /// Sends what was gathered, and notes that so many lines of its source are done.
    fn send(&mut self, source: &str, lines: u64) -> Result<(), ReplayError> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        if self.door.is_none() {
            self.taken(&batch, &[]);
        } else if self.deliver(&batch)? {
            let noted = self.state.set(source, lines);
            noted.map_err(|error| state_error(&self.state_path, error.into()))?;
            self.counts.is_stopped = self.until.is_some_and(|until| Instant::now() >= until);
        } else {
            self.counts.is_stopped = true;
        }
        Ok(())
    }

    /// Sends events until they are taken or refused; `false` if the time is over first.
    ///
    /// # Errors
    /// The door is none for events.
    fn deliver(&mut self, batch: &[(String, Vec<u8>)]) -> Result<bool, ReplayError> {
        let Some(door) = self.door.as_ref().filter(|_| !batch.is_empty()) else {
            return Ok(true);
        };
        let events: Vec<&[u8]> = batch.iter().map(|(_, json)| &json[..]).collect();
        let body = [&b"["[..], &events.join(&b","[..]), b"]"].concat();
        let body = Bytes::from(body);
        let mut is_told = false;
        loop {
            let (wait, why) = match self.runtime.block_on(door.post(body.clone())) {
                Err(error) => (WAIT, error),
                Ok(heard) => match heard.status {
                    200..=299 => {
                        self.taken(batch, &rejected(&heard.body));
                        return Ok(true);
                    }
                    // The events' fault: of one of them, or of all together.
                    400 | 413 | 422 => match batch {
                        [_] => {
                            if self.counts.refused == 0 {
                                let answer = String::from_utf8_lossy(&heard.body);
                                warn!(%answer, "an event is refused again");
                            }
                            self.counts.refused += 1;
                            return Ok(true);
                        }
                        batch => {
                            let (first, second) = batch.split_at(batch.len() / 2);
                            return Ok(self.deliver(first)? && self.deliver(second)?);
                        }
                    },
                    408 | 429 | 500..=599 => {
                        let why = format!("status {}", heard.status);
                        (heard.retry_after.unwrap_or(WAIT), why)
                    }
                    status => {
                        let answer = String::from_utf8_lossy(&heard.body);
                        let why = format!("the door answers {status}: {answer:.500}");
                        return Err(ReplayError::Door(why));
                    }
                },
            };
            if !is_told {
                warn!(why, "the door does not take events, they are sent again");
                is_told = true;
            }
            let wait = wait.clamp(Duration::from_millis(100), WAIT_MAX);
            if self
                .until
                .is_some_and(|until| Instant::now() + wait >= until)
            {
                return Ok(false);
            }
            std::thread::sleep(wait);
        }
    }

    /// Counts events that were sent, of which these were refused.
    fn taken(&mut self, batch: &[(String, Vec<u8>)], refused: &[usize]) {
        for (at, (reason, _)) in batch.iter().enumerate() {
            match refused.contains(&at) {
                true => self.counts.refused += 1,
                false => *self.counts.taken.entry(reason.clone()).or_default() += 1,
            }
        }
    }
}

/// The events that an answer lists as refused: all of them, for a batch has no more than it lists.
fn rejected(answer: &[u8]) -> Vec<usize> {
    const INDEX: &[u8] = b"{\"index\":";
    let starts = memchr::memmem::find_iter(answer, INDEX);
    let index = |start: usize| {
        let digits = answer.get(start + INDEX.len()..)?;
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
    };
    starts.filter_map(index).collect()
}

const _: () = assert!(BATCH_EVENTS_MAX <= LISTED_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_events_are_those_that_the_answer_lists() {
        let answer = br#"{"accepted":1,"rejected":2,"errors":[{"index":0,"code":"a","message":"{\"index\":7"},{"index":12,"code":"b"}]}"#;
        assert_eq!(rejected(answer), [0, 12]);
        assert!(rejected(b"").is_empty());
    }
}
