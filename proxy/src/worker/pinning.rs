//! Whether workers are bound to cores. Two processes that both bind theirs to the first cores of the mask
//! share those and leave the others idle, and a worker bound under a CPU quota cannot move away from a core
//! that another container uses. So only a process that has its cores to itself binds them.

/// The decision and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    Yes,
    SwitchedOff,
    OtherCount,
    Quota,
}

impl Pin {
    pub(super) fn is_yes(self) -> bool {
        self == Pin::Yes
    }

    /// For the log.
    pub(super) fn why(self) -> &'static str {
        match self {
            Pin::Yes => "yes: one worker per core",
            Pin::SwitchedOff => "no: switched off",
            Pin::OtherCount => "no: workers and available cores differ in number",
            Pin::Quota => "no: there is a CPU quota",
        }
    }
}

/// `cores` is the size of the affinity mask.
pub(super) fn decide(wanted: bool, workers: usize, cores: usize, has_quota: bool) -> Pin {
    if !wanted {
        Pin::SwitchedOff
    } else if has_quota {
        Pin::Quota
    } else if workers != cores {
        Pin::OtherCount
    } else {
        Pin::Yes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_only_with_one_worker_per_core_and_no_quota() {
        assert_eq!(decide(true, 4, 4, false), Pin::Yes);
        assert_eq!(decide(true, 1, 4, false), Pin::OtherCount);
        assert_eq!(decide(true, 8, 4, false), Pin::OtherCount);
        assert_eq!(decide(true, 4, 4, true), Pin::Quota);
        assert_eq!(decide(false, 4, 4, false), Pin::SwitchedOff);
    }
}
