//! Rules that hold whatever happens, and at the end.

use super::*;

impl World {
    /// Rules that hold between any two steps.
    pub(super) fn check(&self) {
        for client in &self.clients {
            if let Some(waiting) = &client.waiting {
                assert!(
                    self.now <= waiting.deadline + TICK + TICK,
                    "a request is not answered at its deadline"
                );
            }
        }
        for core in &self.cores {
            for (tally, rule) in core.intake.tallies().zip(&self.rules) {
                let refused: u64 = tally.refused.iter().sum();
                assert_eq!(
                    tally.accepted,
                    tally.delivered + tally.spooled + refused + tally.pending
                );
                assert!(tally.capacity_bytes <= rule.pending_bytes_max);
                assert!(
                    tally.pending_bytes <= core.budget.held(),
                    "pending records are not in the byte budget"
                );
            }
        }
        for writer in &self.writers {
            if writer.is_alive {
                writer.check(self.now);
            }
        }
    }

    pub(super) fn end(&mut self) {
        for core in &self.cores {
            assert_eq!((core.intake.open_requests(), core.budget.held()), (0, 0));
            assert!(core.acks.poll_recv(Waker::noop()).is_none());
            for tally in core.intake.tallies() {
                assert_eq!((tally.pending, tally.pending_bytes), (0, 0));
            }
        }
        let sum = |of: fn(&OutputTally) -> u64| {
            let cores = self.cores.iter();
            cores
                .map(|core| core.intake.tallies().map(of).sum::<u64>())
                .sum::<u64>()
        };
        let settled = self.fates.iter().filter(|fate| fate.settled).count() as u64;
        let accepted = sum(|tally| tally.accepted);
        if self.has_died {
            assert!(settled <= accepted);
        } else {
            assert_eq!(settled, accepted);
        }
        assert!(self.events == 0 || self.fates.iter().all(|fate| fate.event < self.events));
    }
}
