//! Carries out what the clients decide: a task a client, a connection a try.
//! Decides nothing itself.

use super::client::{Batch, Client};
use super::profiles::{Next, Outcome, Profile};
use super::report::{ClientReport, FORMAT, Report};
use super::{Options, PatienceError};
use crate::event_id::EventId;
use crate::ledger::{ACKS_HEADER, Ack, LedgerError, LineFile, RunStart};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How often a client without anything to do looks at the stop flag.
const LOOK: Duration = Duration::from_millis(100);

/// Plays all clients at once, until every event is settled or the time is over, or `stop` is set.
///
/// # Errors
/// When the file of answers cannot be written, or there is no runtime.
pub fn play(options: &Options, stop: &Arc<AtomicBool>) -> Result<Report, PatienceError> {
    let acks = match &options.acks {
        Some(path) => Some(Arc::new(LineFile::create(path, ACKS_HEADER)?)),
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let clients = runtime.block_on(async {
        let begin = Instant::now();
        let mut playing = JoinSet::new();
        for (at, profile) in options.clients.iter().enumerate() {
            let run = options.run.wrapping_add(u32::try_from(at).unwrap_or(0));
            let player = Player {
                profile,
                options: options.clone(),
                ledger: Ledger {
                    acks: acks.clone(),
                    run,
                },
                begin,
                stop: Arc::clone(stop),
            };
            playing.spawn(async move { (at, player.play().await) });
        }
        playing.join_all().await
    });
    let mut clients: Vec<_> = clients
        .into_iter()
        .map(|(at, report)| Ok((at, report?)))
        .collect::<Result<_, LedgerError>>()?;
    clients.sort_by_key(|(at, _)| *at);
    if let Some(acks) = acks {
        acks.finish()?;
    }
    Ok(Report {
        format: FORMAT.to_owned(),
        clients: clients.into_iter().map(|(_, report)| report).collect(),
    })
}

/// Writes one client's lines into the file of answers.
struct Ledger {
    acks: Option<Arc<LineFile>>,
    run: u32,
}

impl Ledger {
    fn begin(&self, profile: &Profile) -> Result<(), LedgerError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = RunStart {
            run: self.run,
            start: now.unwrap_or_default().as_secs(),
            profile: profile.name.to_owned(),
        };
        let Some(acks) = &self.acks else {
            return Ok(());
        };
        acks.push_lines(start.to_line().as_bytes());
        acks.flush()
    }

    /// Each run of consecutive events gets a line.
    fn write(
        &self,
        events: &[u64],
        now: Duration,
        outcome: Option<Outcome>,
    ) -> Result<(), LedgerError> {
        let Some(acks) = &self.acks else {
            return Ok(());
        };
        let mut lines = Vec::new();
        for events in events.chunk_by(|one, next| one + 1 == *next) {
            let ack = Ack {
                run: self.run,
                first: events.first().copied().unwrap_or(0),
                count: u32::try_from(events.len()).unwrap_or(u32::MAX),
                second: Some(u32::try_from(now.as_secs()).unwrap_or(u32::MAX)),
                ..Ack::default()
            };
            match outcome {
                Some(Outcome::Answered { status, .. }) => ack.write_answer(&mut lines, status),
                outcome => {
                    ack.write_unanswered(&mut lines, &outcome.map_or("produced".to_owned(), name))
                }
            }
        }
        acks.push_lines(&lines);
        acks.flush()
    }
}

/// How reports call an outcome.
fn name(outcome: Outcome) -> String {
    match outcome {
        Outcome::Answered { status, .. } => status.to_string(),
        Outcome::Refused => "refused".to_owned(),
        Outcome::Closed => "closed".to_owned(),
        Outcome::TimedOut => "timed-out".to_owned(),
    }
}

struct Player {
    profile: &'static Profile,
    options: Options,
    ledger: Ledger,
    begin: Instant,
    stop: Arc<AtomicBool>,
}

impl Player {
    async fn play(self) -> Result<ClientReport, LedgerError> {
        let options = &self.options;
        let end = options.duration + options.settle;
        let mut client = Client::new(self.profile);
        let mut tries = BTreeMap::new();
        let mut open = JoinSet::new();
        let (mut produced, mut flushed) = (0, false);
        self.ledger.begin(self.profile)?;
        loop {
            let now = self.begin.elapsed();
            while produced < options.events && self.event_at(produced) <= now {
                self.ledger.write(&[produced], now, None)?;
                client.produce(produced, now);
                produced += 1;
            }
            // The shutdown call, once and when nothing is under way: a program that goes on makes more events.
            if !flushed && produced == options.events && client.is_idle() {
                client.flush(now);
                flushed = true;
            }
            while let Some(batch) = client.send(now) {
                open.spawn(send(
                    self.profile,
                    options.target.clone(),
                    self.body(&batch),
                    batch,
                ));
            }
            let settled = produced == options.events && client.is_idle();
            if settled || now >= end || self.stop.load(Ordering::Relaxed) {
                break;
            }
            let event_at = (produced < options.events).then(|| self.event_at(produced));
            let wake = [event_at, client.wake_at(), Some(now + LOOK)];
            let wake = wake.into_iter().flatten().min().unwrap_or(end).min(end);
            tokio::select! {
                Some(done) = open.join_next(), if !open.is_empty() => {
                    // A task that panicked has lost its batch: its events stay held.
                    let Ok((batch, outcome)) = done else { continue };
                    let now = self.begin.elapsed();
                    *tries.entry(name(outcome)).or_default() += 1;
                    self.ledger.write(&batch.events, now, Some(outcome))?;
                    let _: Next = client.answer(batch, outcome, now);
                }
                () = tokio::time::sleep_until(self.begin + wake) => {}
            }
        }
        Ok(ClientReport::of(self.profile, client.counts(), tries))
    }

    /// When an event is made, from the beginning: evenly over the duration.
    fn event_at(&self, event: u64) -> Duration {
        let millis = self.options.duration.as_millis() as u64;
        Duration::from_millis(millis * event / self.options.events)
    }

    fn body(&self, batch: &Batch) -> Bytes {
        let events: Vec<String> = batch
            .events
            .iter()
            .map(|seq| {
                let id = EventId {
                    run: self.ledger.run,
                    seq: *seq,
                };
                format!(
                    r#"{{"event_name":"view","event_id":"{id}","sdk":"{}"}}"#,
                    self.profile.name
                )
            })
            .collect();
        format!("[{}]", events.join(",")).into()
    }
}

async fn send(
    profile: &'static Profile,
    target: crate::run::Target,
    body: Bytes,
    batch: Batch,
) -> (Batch, Outcome) {
    let asked = ask(profile, &target, body);
    let outcome = match profile.timeout_ms {
        Some(limit) => tokio::time::timeout(Duration::from_millis(limit), asked)
            .await
            .unwrap_or(Outcome::TimedOut),
        None => asked.await,
    };
    (batch, outcome)
}

async fn ask(profile: &Profile, target: &crate::run::Target, body: Bytes) -> Outcome {
    let Ok(socket) = TcpStream::connect((target.host.as_str(), target.port)).await else {
        return Outcome::Refused;
    };
    exchange(profile, &target.authority(), body, socket)
        .await
        .unwrap_or(Outcome::Closed)
}

/// An error means that there was no whole answer.
async fn exchange(
    profile: &Profile,
    authority: &str,
    body: Bytes,
    socket: TcpStream,
) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    // Ends with this set: a connection never outlives its try.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let request = Request::builder()
        .method(Method::POST)
        .uri(profile.path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(body))?;
    let answer = sender.send_request(request).await?;
    let status: StatusCode = answer.status();
    let header = answer.headers().get(RETRY_AFTER);
    let retry_after_s = header.and_then(|value| value.to_str().ok()?.parse().ok());
    Limited::new(answer.into_body(), ANSWER_BYTES_MAX)
        .collect()
        .await?;
    Ok(Outcome::Answered {
        status: status.as_u16(),
        retry_after_s,
    })
}
