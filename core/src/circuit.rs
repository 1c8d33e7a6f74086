//! The circuit of one writer: whether its destination succeeds, as its calls show. Pure.
//!
//! ```text
//!            no success for `open_after`, or in `failures_max` calls
//!   Closed ------------------------------------------------------> Open
//!      ^                                                            |  ^
//!      |  a call succeeds                    a probe's call is sent |  | it fails
//!      +---------------------------------------------------- HalfOpen -+
//! ```
//!
//! The circuit only says how things stand. Cores learn of it with their acks, and then admit a trickle of
//! probes instead of every request, or give their records to another output ([`crate::intake`]); the writer then
//! spools records on arrival, or gives up at the first failure those that have a client waiting
//! ([`crate::delivery`]). Calls of replay count as the writer's own: they show as much of the destination.

use crate::planted::{self, Bug};
use crate::time::Mono;
use std::time::Duration;

/// When a circuit opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CircuitSettings {
    /// Calls without any success for this long open the circuit.
    pub open_after: Duration,
    /// So do this many calls in a row without any, for records that have another place to go: nobody is turned away
    /// by a circuit that opens early. `None` where they have not.
    pub failures_max: Option<u32>,
    /// While the circuit is open, a record with at most this much time left is given up at its first failed
    /// call: its client waits, and could be answered now. One with more time left is best effort, and retried.
    pub ack_deadline: Duration,
}

/// How a writer's destination fares. The number is its value in metrics; the lower, the better.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum CircuitState {
    /// Calls succeed, or have not failed for long.
    #[default]
    Closed = 0,
    /// Calls have failed for long, and one is under way that will show whether they still do.
    HalfOpen = 1,
    /// Calls have failed for long, and none is under way.
    Open = 2,
}

impl CircuitState {
    /// Every state, by its number.
    pub const ALL: [CircuitState; 3] = [
        CircuitState::Closed,
        CircuitState::HalfOpen,
        CircuitState::Open,
    ];

    /// Its name in logs and on the readiness page.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            CircuitState::Closed => "closed",
            CircuitState::HalfOpen => "half_open",
            CircuitState::Open => "open",
        }
    }

    /// Whether calls have failed for long.
    #[must_use]
    pub const fn is_failing(self) -> bool {
        !matches!(self, CircuitState::Closed)
    }
}

/// For [`CircuitSettings::failures_max`]: one failed call may be chance.
pub const FAILURES_MAX: u32 = 3;

/// While the circuit is open, and records have another place to go: the time between the end of a call and a batch that
/// tries how things stand. Calls of replay, which nobody waits for, come sooner where there are any.
pub const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Watches the calls of one writer.
#[derive(Debug)]
pub struct Circuit {
    /// `None` for a circuit that never opens.
    settings: Option<CircuitSettings>,
    is_failing: bool,
    /// Calls that ended in a row without any success.
    failures: u32,
    /// When the first call after the last success was sent; `None` if there was no call since.
    unsuccessful_since: Option<Mono>,
    /// When a call was last sent or ended.
    moved_at: Mono,
    in_flight: usize,
}

impl Circuit {
    /// A closed circuit.
    #[must_use]
    pub fn new(settings: Option<CircuitSettings>) -> Circuit {
        Circuit {
            settings,
            is_failing: false,
            failures: 0,
            unsuccessful_since: None,
            moved_at: Mono::default(),
            in_flight: 0,
        }
    }

    /// The state now.
    #[must_use]
    pub fn state(&self) -> CircuitState {
        match (self.is_failing, self.in_flight) {
            (false, _) => CircuitState::Closed,
            (true, 0) => CircuitState::Open,
            (true, _) => CircuitState::HalfOpen,
        }
    }

    /// A call was sent.
    pub fn call_sent(&mut self, now: Mono) {
        self.in_flight += 1;
        self.moved_at = now;
        self.unsuccessful_since.get_or_insert(now);
    }

    /// A call ended. It succeeded if the destination answered for at least one record, even if only to
    /// throttle it.
    pub fn call_ended(&mut self, succeeded: bool, now: Mono) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.moved_at = now;
        if succeeded {
            self.failures = 0;
            self.is_failing &= planted::is(Bug::CircuitStaysOpen);
            if !planted::is(Bug::CircuitRemembersTooMuch) {
                self.unsuccessful_since = (self.in_flight > 0).then_some(now);
            }
            return;
        }
        self.failures = self.failures.saturating_add(1);
        let failures_max = self.settings.and_then(|settings| settings.failures_max);
        let are_many = failures_max.is_some_and(|most| self.failures >= most);
        self.is_failing |= are_many || now >= self.patience_ends_at();
    }

    /// Time passed. Calls that do not end at all open the circuit, too.
    pub fn tick(&mut self, now: Mono) {
        if now >= self.wake_at() {
            self.is_failing = true;
        }
    }

    /// When [`Circuit::tick`] is due.
    ///
    /// A failed call is evidence of its own, so time alone opens the circuit only while nothing moves: after a
    /// quiet hour that began with a failure, the next call gets to show how things are.
    #[must_use]
    pub fn wake_at(&self) -> Mono {
        match self.settings {
            _ if planted::is(Bug::HangingIsPatience) => Mono::NEVER,
            Some(settings) if self.in_flight > 0 && !self.is_failing => self
                .patience_ends_at()
                .max(self.moved_at + settings.open_after / STILL_FOR),
            _ => Mono::NEVER,
        }
    }

    /// Whether the circuit is open, and no call has shown for [`PROBE_EVERY`] how things stand.
    #[must_use]
    pub fn is_probe_due(&self, now: Mono) -> bool {
        self.state() == CircuitState::Open && now >= self.moved_at + PROBE_EVERY
    }

    fn patience_ends_at(&self) -> Mono {
        match (self.unsuccessful_since, self.settings) {
            (Some(since), Some(settings)) => since + settings.open_after,
            _ => Mono::NEVER,
        }
    }
}

/// Calls are stuck when none was sent or ended for this part of [`CircuitSettings::open_after`].
const STILL_FOR: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN_AFTER: Duration = Duration::from_secs(4);

    fn at_ms(ms: u64) -> Mono {
        Mono(ms * 1_000)
    }

    const SETTINGS: CircuitSettings = CircuitSettings {
        open_after: OPEN_AFTER,
        failures_max: None,
        ack_deadline: OPEN_AFTER,
    };

    fn circuit() -> Circuit {
        Circuit::new(Some(SETTINGS))
    }

    /// Calls of 10 ms that all end so, from one time to the other.
    fn calls(circuit: &mut Circuit, ms: std::ops::Range<u64>, succeeded: bool) {
        for ms in ms.step_by(10) {
            circuit.call_sent(at_ms(ms));
            circuit.tick(at_ms(ms + 5));
            circuit.call_ended(succeeded, at_ms(ms + 10));
        }
    }

    #[test]
    fn circuit_opens_after_failures_without_any_success() {
        let mut circuit = circuit();
        calls(&mut circuit, 0..3_990, false);
        assert_eq!(circuit.state(), CircuitState::Closed);
        calls(&mut circuit, 3_990..4_000, false);
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[test]
    fn records_with_another_place_open_it_after_few_failures() {
        let mut circuit = Circuit::new(Some(CircuitSettings {
            failures_max: Some(3),
            ..SETTINGS
        }));
        calls(&mut circuit, 0..20, false);
        calls(&mut circuit, 20..30, true);
        calls(&mut circuit, 30..50, false);
        assert_eq!(circuit.state(), CircuitState::Closed);
        calls(&mut circuit, 50..60, false);
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[test]
    fn a_probe_is_due_once_no_call_has_told() {
        let mut circuit = circuit();
        calls(&mut circuit, 0..4_000, false);
        assert!(!circuit.is_probe_due(at_ms(4_999)));
        assert!(circuit.is_probe_due(at_ms(5_000)));
        circuit.call_sent(at_ms(5_000));
        assert!(!circuit.is_probe_due(at_ms(9_000)), "one is under way");
        circuit.call_ended(true, at_ms(9_000));
        assert!(!circuit.is_probe_due(at_ms(20_000)));
    }

    #[test]
    fn one_success_begins_the_wait_anew() {
        let mut circuit = circuit();
        calls(&mut circuit, 0..3_000, false);
        calls(&mut circuit, 3_000..3_010, true);
        calls(&mut circuit, 3_010..7_000, false);
        assert_eq!(circuit.state(), CircuitState::Closed);
        calls(&mut circuit, 7_000..7_010, false);
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[test]
    fn half_open_while_a_probe_is_under_way() {
        let mut circuit = circuit();
        calls(&mut circuit, 0..4_000, false);
        circuit.call_sent(at_ms(5_000));
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        circuit.call_ended(false, at_ms(5_001));
        assert_eq!(circuit.state(), CircuitState::Open);
        circuit.call_sent(at_ms(6_000));
        circuit.call_ended(true, at_ms(6_001));
        assert_eq!(circuit.state(), CircuitState::Closed);
    }

    #[test]
    fn calls_that_never_end_open_the_circuit() {
        let mut circuit = circuit();
        circuit.call_sent(at_ms(100));
        assert_eq!(circuit.wake_at(), at_ms(4_100));
        circuit.tick(at_ms(4_099));
        assert_eq!(circuit.state(), CircuitState::Closed);
        circuit.tick(at_ms(4_100));
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        assert_eq!(circuit.wake_at(), Mono::NEVER);
    }

    #[test]
    fn an_old_failure_does_not_condemn_the_next_call() {
        let mut circuit = circuit();
        calls(&mut circuit, 0..10, false);
        circuit.call_sent(at_ms(3_600_000));
        circuit.tick(at_ms(3_600_500));
        assert_eq!(circuit.state(), CircuitState::Closed);
        // A second failure does: nothing has succeeded for an hour.
        circuit.call_ended(false, at_ms(3_600_600));
        assert_eq!(circuit.state(), CircuitState::Open);
    }

    #[test]
    fn a_circuit_without_a_limit_never_opens() {
        let mut circuit = Circuit::new(None);
        calls(&mut circuit, 0..100_000, false);
        circuit.call_sent(at_ms(100_000));
        assert_eq!(circuit.wake_at(), Mono::NEVER);
        assert_eq!(circuit.state(), CircuitState::Closed);
    }
}
