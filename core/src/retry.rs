//! Retry decisions: whether and when an undelivered record is sent again. Pure.

use crate::cause::Cause;
use crate::time::Mono;
use std::time::Duration;

/// Exponential back-off with full jitter: before attempt n + 1 a uniformly random wait between zero and
/// `base * 2^(n-1)`, at most `cap`. Full jitter spreads the retries of many hosts best, which is
/// what a throttling shard needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Longest wait before the second attempt.
    pub base: Duration,
    /// Longest wait before any attempt.
    pub cap: Duration,
}

/// What to do with an undelivered record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it again at this time.
    Again(Mono),
    /// Settle it as refused: there is no time left, or a retry cannot help within a request's lifetime.
    GiveUp,
}

impl RetryPolicy {
    /// Decides for a record that `attempts` calls (at least one) have carried.
    #[must_use]
    pub fn decide(
        &self,
        cause: Cause,
        attempts: u32,
        now: Mono,
        deadline: Mono,
        random: u64,
    ) -> Decision {
        match cause {
            Cause::Throttled | Cause::Unavailable | Cause::Unknown | Cause::Invalid => {}
            // These need an operator. Retries meanwhile are useless, and the client still has the event.
            Cause::Denied | Cause::NotFound | Cause::NoSpace => return Decision::GiveUp,
            Cause::TooLarge | Cause::Expired | Cause::Shutdown | Cause::Lost => {
                return Decision::GiveUp;
            }
        }
        let at = now + self.wait(attempts, random);
        if at < deadline {
            Decision::Again(at)
        } else {
            Decision::GiveUp
        }
    }

    fn wait(&self, attempts: u32, random: u64) -> Duration {
        let doublings = attempts.saturating_sub(1).min(20);
        let longest = self.base.saturating_mul(1 << doublings).min(self.cap);
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        // The high half of a 128-bit product maps a uniform u64 onto 0..=micros without a division.
        let wait = (u128::from(random) * (u128::from(micros) + 1)) >> 64;
        Duration::from_micros(u64::try_from(wait).unwrap_or(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        base: Duration::from_millis(50),
        cap: Duration::from_millis(1_000),
    };
    const FAR: Mono = Mono(u64::MAX);

    #[test]
    fn backoff_doubles_up_to_the_cap() {
        let longest: Vec<_> = (1..=7)
            .map(|attempts| POLICY.wait(attempts, u64::MAX).as_millis())
            .collect();
        assert_eq!(longest, [50, 100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(POLICY.wait(u32::MAX, u64::MAX).as_millis(), 1_000);
    }

    #[test]
    fn jitter_is_full_from_zero_to_the_longest_wait() {
        assert_eq!(POLICY.wait(3, 0), Duration::ZERO);
        assert_eq!(POLICY.wait(3, u64::MAX / 2).as_millis(), 100);
    }

    #[test]
    fn no_attempt_is_planned_at_or_after_the_deadline() {
        let now = Mono(1_000_000);
        let decide = |deadline| POLICY.decide(Cause::Throttled, 1, now, deadline, u64::MAX);
        assert_eq!(decide(Mono(1_050_001)), Decision::Again(Mono(1_050_000)));
        assert_eq!(decide(Mono(1_050_000)), Decision::GiveUp);
    }

    #[test]
    fn causes_that_an_operator_has_to_mend_are_not_hammered() {
        for cause in Cause::ALL {
            let again = matches!(POLICY.decide(cause, 1, Mono(0), FAR, 0), Decision::Again(_));
            let expected = matches!(
                cause,
                Cause::Throttled | Cause::Unavailable | Cause::Unknown | Cause::Invalid
            );
            assert_eq!(again, expected, "{cause:?}");
        }
    }
}
