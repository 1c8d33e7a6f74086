//! Records that wait for their lane, a part of the destination that throttles ([`crate::lanes`]).

use super::queued::Queued;
use super::{Action, Delivery};
use crate::ack::Outcome;
use crate::cause::Cause;
use crate::time::Mono;

impl<T> Delivery<T> {
    /// How long a record may wait for its lane.
    pub(super) fn waits_until(&self, queued: &Queued<T>) -> Mono {
        match self.settings.spool {
            Some(rule) if !queued.unspoolable => {
                queued.record.deadline.min(queued.since + rule.after)
            }
            _ => queued.record.deadline,
        }
    }

    /// A record that its lane has no room for has not been stored, however often it was throttled.
    pub(super) fn give_up_lane(&mut self, queued: Queued<T>, actions: &mut Vec<Action<T>>) {
        if self.has_spool_for(queued.unspoolable) {
            self.give_to_spool(queued.record, queued.attempts, queued.since);
        } else {
            let outcome = Outcome::Refused(Cause::Throttled);
            self.settle(queued.record, outcome, actions);
        }
    }

    /// Records whose lane has room for them go on.
    pub(super) fn release_lanes(&mut self, now: Mono, actions: &mut Vec<Action<T>>) {
        let (mut released, mut overdue) = (Vec::new(), Vec::new());
        self.lanes.release(
            now,
            |queued| released.push(queued),
            |queued| overdue.push(queued),
        );
        for queued in released {
            self.enqueue(queued);
        }
        for queued in overdue {
            self.give_up_lane(queued, actions);
        }
    }
}
