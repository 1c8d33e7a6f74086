//! One client: which events it sends when, and which it loses. Time is an argument, so that tests need no clock.
//! Sends nothing itself.

use super::profiles::{Next, Outcome, Profile};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Requests of one client that may be open at once; batches beyond it wait.
const OPEN_MAX: usize = 256;

/// Events that travel together, by sequence number and in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The events.
    pub events: Vec<u64>,
    /// Tries that were made, the current one included.
    tries: u32,
    /// When the first was made.
    first_try: Duration,
}

/// What became of a client's events. Every one counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Made by the program or page.
    pub produced: u64,
    /// Answered 2xx.
    pub acked: u64,
    /// Given up by the client: lost, unless the collector stored them without saying so.
    pub given_up: u64,
}

impl Counts {
    /// Neither acknowledged nor given up.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.produced - self.acked - self.given_up
    }
}

/// A client.
#[derive(Debug)]
pub struct Client {
    profile: &'static Profile,
    /// Events that no batch has, with the time they were made.
    queue: VecDeque<(u64, Duration)>,
    /// Events that go out with the next event.
    kept: Vec<u64>,
    /// Batches between two tries, by the time of the next.
    waiting: BTreeMap<(Duration, u64), Batch>,
    open: usize,
    /// Whether queued events go out without waiting for more.
    flushing: bool,
    /// Tells batches of the same time apart.
    number: u64,
    counts: Counts,
}

impl Client {
    /// A client without events.
    #[must_use]
    pub fn new(profile: &'static Profile) -> Client {
        Client {
            profile,
            queue: VecDeque::new(),
            kept: Vec::new(),
            waiting: BTreeMap::new(),
            open: 0,
            flushing: false,
            number: 0,
            counts: Counts::default(),
        }
    }

    /// What became of its events so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a new event.
    pub fn produce(&mut self, event: u64, now: Duration) {
        self.counts.produced += 1;
        self.take_kept(now);
        self.queue.push_back((event, now));
    }

    /// The shutdown call: everything that waits for the next event, or for more events, goes out now.
    pub fn flush(&mut self, now: Duration) {
        self.take_kept(now);
        self.flushing = !self.queue.is_empty();
    }

    /// Whether nothing is in flight, or waits for a time.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open == 0 && self.waiting.is_empty() && self.queue.is_empty()
    }

    fn take_kept(&mut self, at: Duration) {
        // Batches come back in any order.
        self.kept.sort_unstable();
        for event in self.kept.drain(..).rev() {
            self.queue.push_front((event, at));
        }
    }

    /// The next batch to send now, if there is one. Its answer is due at [`Client::answer`].
    pub fn send(&mut self, now: Duration) -> Option<Batch> {
        if self.open == OPEN_MAX {
            return None;
        }
        if let Some(due) = self.waiting.first_entry()
            && due.key().0 <= now
        {
            let mut batch = due.remove();
            batch.tries += 1;
            self.open += 1;
            return Some(batch);
        }
        if self.new_batch_at()? > now {
            return None;
        }
        let end = self.queue.len().min(self.profile.batch_events_max);
        let events = self.queue.drain(..end).map(|(event, _)| event).collect();
        self.flushing &= !self.queue.is_empty();
        self.open += 1;
        Some(Batch {
            events,
            tries: 1,
            first_try: now,
        })
    }

    /// When a batch can be made of queued events, without regard to [`OPEN_MAX`].
    fn new_batch_at(&self) -> Option<Duration> {
        let busy = self.open > 0 || !self.waiting.is_empty();
        let (_, oldest) = self.queue.front()?;
        match self.profile.one_at_a_time && busy {
            true => None,
            false if self.flushing || self.queue.len() >= self.profile.flush_events => {
                Some(Duration::ZERO)
            }
            false => Some(*oldest + Duration::from_millis(self.profile.flush_ms)),
        }
    }

    /// When [`Client::send`] has something next, if no answer comes before.
    #[must_use]
    pub fn wake_at(&self) -> Option<Duration> {
        if self.open == OPEN_MAX {
            return None;
        }
        let retry = self.waiting.keys().next().map(|(at, _)| *at);
        retry.into_iter().chain(self.new_batch_at()).min()
    }

    /// Takes the outcome of a try.
    pub fn answer(&mut self, batch: Batch, outcome: Outcome, now: Duration) -> Next {
        self.open = self.open.saturating_sub(1);
        let span = now.saturating_sub(batch.first_try);
        let next = self.profile.after(outcome, batch.tries, span);
        let events = batch.events.len() as u64;
        match next {
            Next::Acked => self.counts.acked += events,
            Next::Drop => self.counts.given_up += events,
            Next::Keep => self.kept.extend(batch.events),
            Next::Again(wait) => {
                self.number += 1;
                self.waiting.insert((now + wait, self.number), batch);
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::super::profiles::{PROFILES, named};
    use super::*;

    /// Events of a run, in 3 s: as the packages were measured.
    const EVENTS: u64 = 100;

    fn answered(status: u16) -> Outcome {
        Outcome::Answered {
            status,
            retry_after_s: None,
        }
    }

    /// Plays a client from its first event to 90 s after the outage, and then its shutdown call. Every try during the
    /// outage ends as `outage` says, every later one with 200.
    fn play(profile: &'static Profile, outage_s: u64, outage: Outcome) -> Counts {
        let mut client = Client::new(profile);
        let end = Duration::from_secs(outage_s + 90);
        let mut answers = BTreeMap::new();
        let (mut now, mut produced, mut number, mut flushed) = (Duration::ZERO, 0, 0, false);
        loop {
            let event =
                (produced < EVENTS).then(|| Duration::from_millis(3_000 * produced / EVENTS));
            let answer = answers.keys().next().map(|(at, _)| *at);
            let next = [event, answer, client.wake_at()];
            match next.into_iter().flatten().min().filter(|at| *at <= end) {
                Some(at) => now = now.max(at),
                None if flushed => return client.counts(),
                None => {
                    flushed = true;
                    now = end;
                    client.flush(now);
                }
            }
            if event.is_some_and(|at| at <= now) {
                client.produce(produced, now);
                produced += 1;
            }
            while let Some(due) = answers.first_entry()
                && due.key().0 <= now
            {
                let (batch, outcome) = due.remove();
                client.answer(batch, outcome, now);
            }
            while let Some(batch) = client.send(now) {
                let outcome = match now < Duration::from_secs(outage_s) {
                    true => outage,
                    false => answered(200),
                };
                let takes = match outcome {
                    Outcome::TimedOut => Duration::from_millis(profile.timeout_ms.unwrap()),
                    _ => Duration::ZERO,
                };
                number += 1;
                answers.insert((now + takes, number), (batch, outcome));
            }
        }
    }

    /// Lost of 100 for outages of 5, 15, 60, 120 and 400 s, as measured on the packages; `None` where it was not
    /// measured.
    #[track_caller]
    fn loses(name: &str, outage: Outcome, lost: [Option<u64>; 5]) {
        let profile = named(name).unwrap();
        for (outage_s, lost) in [5, 15, 60, 120, 400].into_iter().zip(lost) {
            let counts = play(profile, outage_s, outage);
            assert_eq!(counts.produced, EVENTS);
            if let Some(lost) = lost {
                let found = (counts.given_up, counts.held());
                assert_eq!(found, (lost, 0), "{name} {outage:?} {outage_s} s");
            }
        }
    }

    const NONE: [Option<u64>; 5] = [Some(0); 5];
    const ALL: [Option<u64>; 5] = [Some(100); 5];

    /// The first outages of the five.
    fn of<const N: usize>(lost: [u64; N]) -> [Option<u64>; 5] {
        std::array::from_fn(|at| lost.get(at).copied())
    }

    #[test]
    fn outages_with_503_lose_what_packages_lost() {
        let outage = answered(503);
        loses("segment-node", outage, of([0, 0, 0, 0, 100]));
        loses("segment-python", outage, of([0, 0, 0, 0, 100]));
        loses(
            "segment-browser",
            outage,
            [None, Some(0), Some(0), None, None],
        );
        loses("rudderstack-node", outage, of([100, 100, 100]));
        loses("posthog-node", outage, of([0, 20, 100, 100, 100]));
        loses("posthog-node-v1", outage, of([0, 0, 100]));
        loses("posthog-python", outage, of([0, 100, 100]));
        loses("posthog-browser", outage, of([0, 0, 0]));
        loses("amplitude-node", outage, of([0, 0, 0, 100, 100]));
        loses("amplitude-python", outage, of([0, 0, 0, 0, 100]));
        loses("amplitude-browser", outage, of([0, 100, 100]));
        loses("mixpanel-node", outage, ALL);
        loses("mixpanel-python", outage, of([50, 100, 100]));
        loses(
            "mixpanel-browser",
            outage,
            [None, Some(0), Some(0), None, None],
        );
        loses("snowplow-node", outage, NONE);
        loses("snowplow-python", outage, NONE);
        loses("boto3", outage, of([100, 100, 100]));
        loses("otlp-js", outage, of([0, 34, 100]));
    }

    #[test]
    fn outages_without_a_listener_lose_what_packages_lost() {
        let outage = Outcome::Refused;
        loses("segment-node", outage, of([0, 0, 0, 0, 100]));
        loses("segment-python", outage, of([0, 0, 0, 0, 100]));
        loses("posthog-node", outage, NONE);
        loses("posthog-node-v1", outage, of([0, 0, 100]));
        loses("posthog-python", outage, of([0, 100, 100]));
        loses(
            "posthog-browser",
            outage,
            [None, Some(0), Some(100), None, None],
        );
        loses("amplitude-node", outage, of([0, 100, 100, 100, 100]));
        loses("amplitude-python", outage, of([0, 0, 0, 0, 100]));
        loses(
            "mixpanel-browser",
            outage,
            [None, Some(100), Some(100), None, None],
        );
        loses("snowplow-node", outage, NONE);
        loses("boto3", outage, of([100, 100, 100]));
    }

    #[test]
    fn every_event_counts_once() {
        for profile in &PROFILES {
            for outage in [
                answered(503),
                answered(429),
                Outcome::Refused,
                Outcome::Closed,
            ] {
                let counts = play(profile, 60, outage);
                let sum = counts.acked + counts.given_up + counts.held();
                assert_eq!((counts.produced, sum), (EVENTS, EVENTS), "{}", profile.name);
            }
        }
    }

    #[test]
    fn kept_events_go_out_in_order() {
        let mut client = Client::new(named("snowplow-node").unwrap());
        let mut open = Vec::new();
        for event in 0..3 {
            client.produce(event, Duration::ZERO);
            open.extend(client.send(Duration::ZERO));
        }
        for batch in open.into_iter().rev() {
            client.answer(batch, answered(503), Duration::ZERO);
        }
        assert_eq!(client.send(Duration::ZERO), None);
        client.produce(3, Duration::ZERO);
        assert_eq!(client.send(Duration::ZERO).unwrap().events, [0, 1, 2, 3]);
    }

    #[test]
    fn open_requests_of_a_client_have_a_limit() {
        let mut client = Client::new(named("mixpanel-node").unwrap());
        for event in 0..=OPEN_MAX as u64 {
            client.produce(event, Duration::ZERO);
        }
        let sent: Vec<Batch> = std::iter::from_fn(|| client.send(Duration::ZERO)).collect();
        assert_eq!(sent.len(), OPEN_MAX);
        assert_eq!(client.wake_at(), None);
        client.answer(sent[0].clone(), answered(200), Duration::ZERO);
        assert_eq!(
            client.send(Duration::ZERO).unwrap().events,
            [OPEN_MAX as u64]
        );
    }
}
