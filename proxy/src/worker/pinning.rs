//! Whether workers are bound to cores. Two processes that both bind theirs to the first cores of the mask
//! share those and leave the others idle, and a worker bound under a CPU quota cannot move away from a core
//! that another container uses. So by default only a process that has its cores to itself binds them.

use super::settings::Pinning;

/// The decision and its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pin {
    Yes,
    AskedFor,
    SwitchedOff,
    OtherCount,
    Quota,
}

impl Pin {
    pub(super) fn is_yes(self) -> bool {
        matches!(self, Pin::Yes | Pin::AskedFor)
    }

    /// For the log.
    pub(super) fn why(self) -> &'static str {
        match self {
            Pin::Yes => "yes: one worker per core",
            Pin::AskedFor => "yes: asked for",
            Pin::SwitchedOff => "no: switched off",
            Pin::OtherCount => "no: workers and available cores differ in number",
            Pin::Quota => "no: there is a CPU quota",
        }
    }
}

/// `cores` is the size of the affinity mask.
pub(super) fn decide(wanted: Pinning, workers: usize, cores: usize, has_quota: bool) -> Pin {
    match wanted {
        Pinning::Never => return Pin::SwitchedOff,
        Pinning::Always => return Pin::AskedFor,
        Pinning::Auto => {}
    }
    if has_quota {
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
    fn pins_by_itself_only_with_a_worker_per_core_and_no_quota() {
        let auto = |workers, has_quota| decide(Pinning::Auto, workers, 4, has_quota);
        assert_eq!(auto(4, false), Pin::Yes);
        assert_eq!(auto(1, false), Pin::OtherCount);
        assert_eq!(auto(8, false), Pin::OtherCount);
        assert_eq!(auto(4, true), Pin::Quota);
        assert_eq!(decide(Pinning::Never, 4, 4, false), Pin::SwitchedOff);
        assert_eq!(decide(Pinning::Always, 1, 4, true), Pin::AskedFor);
    }
}
