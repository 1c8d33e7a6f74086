//! Priorities as the operator configures them: which rule's events are shed first, and how much each may fill.

use super::{Route, RoutingSettings};
use sluice_core::priority::{Priority, Shares};
use sluice_sinks::keyword_enum;
use sluice_sinks::settings::Reader;

/// What low may fill by default.
const LOW_PERCENT: u32 = 50;

keyword_enum! {
    /// Which events of a rule are shed first.
    RoutePriority, "one of low, mid, high" {
        /// Shed first.
        Low = "low",
        /// As events that no rule says more about.
        Mid = "mid",
        /// Shed last.
        High = "high",
    }
}

impl From<RoutePriority> for Priority {
    fn from(priority: RoutePriority) -> Priority {
        match priority {
            RoutePriority::Low => Priority::Low,
            RoutePriority::Mid => Priority::Mid,
            RoutePriority::High => Priority::High,
        }
    }
}

/// What low may fill by default: no more than was written for mid.
pub(super) fn low_percent(mid_percent: Option<u64>) -> u32 {
    let mid = mid_percent.and_then(|percent| u32::try_from(percent).ok());
    mid.map_or(LOW_PERCENT, |mid| mid.min(LOW_PERCENT))
}

impl RoutingSettings {
    /// What each priority may fill; all of everything where no rule has one.
    pub(super) fn shares(&self, routes: &[Route]) -> Shares {
        if !routes.iter().any(|route| route.has_priority) {
            return Shares::WHOLE;
        }
        let percent = |percent: u32| u8::try_from(percent).unwrap_or(100);
        Shares {
            low_percent: percent(self.low_percent),
            mid_percent: percent(self.mid_percent),
        }
    }

    /// Checks the shares, which only priorities use.
    pub(super) fn check_shares(&self, reader: &mut Reader, has_priorities: bool) {
        let low = reader.number("low_percent");
        let mid = reader.number("mid_percent");
        let why = "what is shed first fills less";
        reader.at_most(&low, &mid, why);
        let keys = ["low_percent", "mid_percent"];
        reader.only_if(has_priorities, &keys, "routes.priority", "not written");
    }
}
