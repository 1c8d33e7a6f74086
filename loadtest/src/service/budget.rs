//! A budget per second, as service quotas are. Time is an argument.

use std::time::Duration;

const BILLION: i128 = 1_000_000_000;

/// A budget that refills continuously to one second's worth. Kept in billionths, so that a
/// refill over nanoseconds is exact.
#[derive(Debug)]
pub(crate) struct Budget {
    left: i128,
    per_second: i128,
    at: Duration,
}

impl Budget {
    /// A full budget.
    pub(crate) fn new(per_second: u64) -> Budget {
        let per_second = i128::from(per_second);
        Budget {
            left: per_second * BILLION,
            per_second,
            at: Duration::ZERO,
        }
    }

    /// Whether `cost` can be paid at `now`, which never goes back. A cost over one second's worth
    /// can be paid when the budget is full, and leaves a debt.
    pub(crate) fn has(&mut self, now: Duration, cost: u64) -> bool {
        let nanos = now.saturating_sub(self.at).as_nanos();
        self.at = now.max(self.at);
        let refill = i128::try_from(nanos)
            .unwrap_or(i128::MAX)
            .saturating_mul(self.per_second);
        self.left = self
            .left
            .saturating_add(refill)
            .min(self.per_second * BILLION);
        self.left >= i128::from(cost).min(self.per_second) * BILLION
    }

    /// Pays.
    pub(crate) fn take(&mut self, cost: u64) {
        self.left -= i128::from(cost) * BILLION;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pay(budget: &mut Budget, millis: u64, cost: u64) -> bool {
        let paid = budget.has(Duration::from_millis(millis), cost);
        if paid {
            budget.take(cost);
        }
        paid
    }

    #[test]
    fn one_seconds_worth_is_there_at_once_and_refills_evenly() {
        let mut budget = Budget::new(10);
        assert_eq!((0..20).filter(|_| pay(&mut budget, 0, 1)).count(), 10);
        assert!(!pay(&mut budget, 99, 1));
        assert!(pay(&mut budget, 100, 1));
        assert!(!pay(&mut budget, 199, 1));
        // A long pause saves up no more than a second.
        assert_eq!((0..20).filter(|_| pay(&mut budget, 60_000, 1)).count(), 10);
    }

    #[test]
    fn a_full_bucket_passes_large_costs_and_owes_them() {
        let mut budget = Budget::new(10);
        assert!(pay(&mut budget, 0, 25));
        assert!(!pay(&mut budget, 1_500, 1));
        assert!(pay(&mut budget, 1_600, 1));
        assert!(!pay(&mut budget, 1_700, 25));
    }
}
