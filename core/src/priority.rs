//! Which requests are shed first: the priority of events, and the part of the room that each priority may fill.
//!
//! ```text
//!  0 %              low_percent          mid_percent            100 %
//!  |---- anything ----|---- mid, high -----|------ high ----------|   of a queue, the byte budget, a spool
//! ```
//!
//! What a lower priority has filled counts for all, so the rest is always there for the higher ones.

use crate::planted::{self, Bug};

/// How much an event matters where there is not room for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Shed first.
    Low,
    /// Events that no rule says more about.
    #[default]
    Mid,
    /// May fill all of the room.
    High,
}

impl Priority {
    /// All of them, in the order of their discriminants.
    pub const ALL: [Priority; 3] = [Priority::Low, Priority::Mid, Priority::High];

    /// Its name in settings and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Mid => "mid",
            Priority::High => "high",
        }
    }

    /// The next one up.
    #[must_use]
    pub fn raised(self) -> Priority {
        match self {
            Priority::Low if !planted::is(Bug::UnrepeatableTakesAll) => Priority::Mid,
            _ => Priority::High,
        }
    }
}

/// The parts of any room that the priorities below [`Priority::High`] may fill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// That of [`Priority::Low`], up to 100.
    pub low_percent: u8,
    /// That of [`Priority::Mid`], up to 100.
    pub mid_percent: u8,
}

impl Shares {
    /// Priorities make no difference.
    pub const WHOLE: Shares = Shares {
        low_percent: 100,
        mid_percent: 100,
    };

    /// What may be filled of this room.
    #[must_use]
    pub fn of(self, priority: Priority, room: u64) -> u64 {
        let percent = match priority {
            Priority::Low => self.low_percent,
            Priority::Mid => self.mid_percent,
            Priority::High => 100,
        };
        if percent >= 100 || planted::is(Bug::SharesIgnored) {
            return room;
        }
        let percent = u64::from(percent);
        // In two parts, because the product may not fit.
        room / 100 * percent + room % 100 * percent / 100
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_any_room_are_exact() {
        let shares = Shares {
            low_percent: 50,
            mid_percent: 99,
        };
        for (room, low, mid) in [
            (0, 0, 0),
            (1, 0, 0),
            (100, 50, 99),
            (199, 99, 197),
            (u64::MAX, u64::MAX / 2, u64::MAX - u64::MAX / 100 - 1),
        ] {
            let found = Priority::ALL.map(|priority| shares.of(priority, room));
            assert_eq!(found, [low, mid, room]);
            let whole = Priority::ALL.map(|priority| Shares::WHOLE.of(priority, room));
            assert_eq!(whole, [room; 3]);
        }
    }

    #[test]
    fn raising_a_priority_goes_up_one_step() {
        let raised = Priority::ALL.map(Priority::raised);
        assert_eq!(raised, [Priority::Mid, Priority::High, Priority::High]);
    }
}
