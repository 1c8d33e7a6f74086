//! An honest client beside senders of dear requests: how much of its rate is answered in time.

use super::kinds::{Kind, Settings, plain, plain_listed};
use super::measure::CONNECTIONS;
use super::server::Server;
use super::wire::{Client, Exchange};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A response that takes longer is none.
const IN_TIME: Duration = Duration::from_secs(1);

/// Connections of the victim.
const VICTIM_CONNECTIONS: usize = 16;

/// What came of the victim's requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    /// Part of its requests that were answered 200 in time, of 1.
    pub(super) kept: f64,
    /// From the moment at which a request was to be sent to its response, in milliseconds.
    pub(super) p99_ms: f64,
    /// The longest.
    pub(super) max_ms: f64,
}

/// The victim's requests per second, over all its connections: some hundredths of what a worker can do.
pub(super) const RATE: f64 = 500.0;

/// Lets the victim send alone.
///
/// # Errors
/// When the server does not answer.
pub(super) fn alone(server: &Server, time: Duration) -> Result<Outcome, String> {
    spread(server.port(), &plain(), time).map_err(|error| format!("the victim alone: {error}"))
}

/// Lets the victim send at its rate beside senders of the kind.
///
/// # Errors
/// When the server does not answer at all.
pub(super) fn beside(server: &Server, kind: &Kind, time: Duration) -> Result<Outcome, String> {
    let context = |error: io::Error| format!("{} with a victim: {error}", kind.name);
    let is_over = AtomicBool::new(false);
    let exchange = kind.exchange();
    let (victim, senders) = thread::scope(|scope| {
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::new(server.port());
                    while !is_over.load(Ordering::Relaxed) {
                        client.exchange(&exchange)?;
                    }
                    Ok::<_, io::Error>(())
                })
            })
            .collect();
        let victim = spread(server.port(), &honest(kind.settings), time);
        is_over.store(true, Ordering::Relaxed);
        let senders: Result<Vec<()>, io::Error> = senders
            .into_iter()
            .map(|sender| match sender.join() {
                Ok(sent) => sent,
                Err(_) => Err(io::ErrorKind::Other.into()),
            })
            .collect();
        (victim, senders)
    });
    senders.map_err(context)?;
    victim.map_err(context)
}

/// The plain event, from an application that is listed where there is a list.
fn honest(settings: Settings) -> Kind {
    match settings {
        Settings::Default => plain(),
        Settings::Lists => plain_listed(),
    }
}

/// Sends plain events at the rate by several connections, as the clients of a page do: one alone could not send the
/// next before the response to the last, and would be slowed down by the first that takes long.
fn spread(port: u16, kind: &Kind, time: Duration) -> io::Result<Outcome> {
    let each = RATE / VICTIM_CONNECTIONS as f64;
    let count = (each * time.as_secs_f64()).ceil().max(1.0) as u32;
    let sent: io::Result<Vec<Vec<(Duration, bool)>>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..VICTIM_CONNECTIONS)
            .map(|number| {
                let offset = Duration::from_secs_f64(number as f64 / RATE);
                scope.spawn(move || paced(port, kind, offset, 1.0 / each, count))
            })
            .collect();
        let joined = clients.into_iter().map(|client| match client.join() {
            Ok(sent) => sent,
            Err(_) => Err(io::ErrorKind::Other.into()),
        });
        joined.collect()
    });
    let sent: Vec<(Duration, bool)> = sent?.into_iter().flatten().collect();
    Ok(outcome(&sent, count * VICTIM_CONNECTIONS as u32))
}

/// Sends this many plain events, one every so many seconds, whatever the responses take; one that is late is sent at
/// once. Gives how long each took from when it was due, and whether it was accepted.
fn paced(
    port: u16,
    kind: &Kind,
    offset: Duration,
    every_s: f64,
    count: u32,
) -> io::Result<Vec<(Duration, bool)>> {
    let exchange: Exchange<'_> = kind.exchange();
    let mut client = Client::new(port);
    client.open()?;
    let begun = Instant::now() + offset;
    let mut sent = Vec::new();
    for number in 0..count {
        let due = begun + Duration::from_secs_f64(f64::from(number) * every_s);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // What is not sent by then cannot be answered in time any more.
        if due.elapsed() > IN_TIME {
            break;
        }
        let accepted = |client: &Client| client.seen.statuses.get(&kind.status).copied();
        let before = accepted(&client);
        client.exchange(&exchange)?;
        sent.push((due.elapsed(), accepted(&client) > before));
    }
    Ok(sent)
}

fn outcome(sent: &[(Duration, bool)], count: u32) -> Outcome {
    let in_time = |(took, is_accepted): &&(Duration, bool)| *is_accepted && *took <= IN_TIME;
    let kept = sent.iter().filter(in_time).count();
    let mut took: Vec<Duration> = sent.iter().map(|(took, _)| *took).collect();
    took.sort();
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    Outcome {
        kept: kept as f64 / f64::from(count),
        p99_ms: ms(took.get(took.len() * 99 / 100)),
        max_ms: ms(took.last()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_refused_and_missing_responses_are_not_kept() {
        let ms = Duration::from_millis;
        let mut sent: Vec<(Duration, bool)> = (1..=97).map(|took| (ms(took), true)).collect();
        sent.extend([(ms(2_000), true), (ms(1_500), true), (ms(1), false)]);
        let outcome = outcome(&sent, 200);
        assert_eq!(outcome.kept, 97.0 / 200.0);
        assert_eq!(outcome.p99_ms, 2_000.0);
        assert_eq!(outcome.max_ms, 2_000.0);
    }
}
