//! An honest client beside senders of dear requests: how much of its rate is answered in time.

use super::kinds::{Kind, plain};
use super::measure::CONNECTIONS;
use super::server::Server;
use super::wire::{Client, Exchange};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A response that takes longer is none.
const IN_TIME: Duration = Duration::from_secs(1);

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

/// The victim's rate per second: a quarter of what one connection gets in a closed loop when it is alone.
///
/// # Errors
/// When the server does not answer.
pub(super) fn rate(server: &Server, time: Duration) -> io::Result<f64> {
    let kind = plain();
    let mut client = Client::new(server.port());
    client.open()?;
    let begun = Instant::now();
    client.send_until(begun + time, &kind.exchange())?;
    Ok(client.seen.sends as f64 / begun.elapsed().as_secs_f64() / 4.0)
}

/// Lets the victim send at its rate beside senders of the kind.
///
/// # Errors
/// When the server does not answer at all.
pub(super) fn beside(
    server: &Server,
    kind: &Kind,
    rate: f64,
    time: Duration,
) -> Result<Outcome, String> {
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
        let victim = paced(server.port(), rate, time);
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

/// Sends plain events at a rate, whatever the responses take; a request that is late is sent at once.
fn paced(port: u16, rate: f64, time: Duration) -> io::Result<Outcome> {
    let kind = plain();
    let exchange: Exchange<'_> = kind.exchange();
    let mut client = Client::new(port);
    client.open()?;
    let count = (rate * time.as_secs_f64()).max(1.0) as u32;
    let begun = Instant::now();
    let mut took = Vec::new();
    for number in 0..count {
        let due = begun + Duration::from_secs_f64(f64::from(number) / rate);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // What is not sent by then cannot be answered in time any more, or is the fault of this machine.
        if due.elapsed() > IN_TIME {
            break;
        }
        client.exchange(&exchange)?;
        took.push(due.elapsed());
    }
    let ok = client.seen.statuses.get(&kind.status).copied().unwrap_or(0);
    Ok(outcome(&mut took, ok, count))
}

fn outcome(took: &mut [Duration], ok: u64, count: u32) -> Outcome {
    took.sort();
    let late = took.iter().filter(|took| **took > IN_TIME).count() as u64;
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    Outcome {
        kept: ok.saturating_sub(late) as f64 / f64::from(count),
        p99_ms: ms(took.get(took.len() * 99 / 100)),
        max_ms: ms(took.last()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_missing_responses_are_not_kept() {
        let ms = Duration::from_millis;
        let mut took: Vec<Duration> = (1..=98).map(ms).collect();
        took.extend([ms(2_000), ms(1_500)]);
        let outcome = outcome(&mut took, 99, 200);
        assert_eq!(outcome.kept, 97.0 / 200.0);
        assert_eq!(outcome.p99_ms, 2_000.0);
        assert_eq!(outcome.max_ms, 2_000.0);
    }
}
