//! Process-wide setup at start, besides the scheduling policy: descriptors, core dumps, a plausible clock.

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use sluice_core::civil::LAST_SECOND;
use std::io;
use tracing::warn;

/// The highest descriptor limit to ask for. Some libraries take time in proportion to the limit, and
/// containers often allow 2^30.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Raises the soft limit of descriptors to the hard one. The soft one is often 1,024, for programs that use
/// select(2).
pub fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX);
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    if let Err(errno) = setrlimit(Resource::Nofile, raised) {
        let error = io::Error::from(errno);
        warn!(%error, current, wanted, "cannot raise the limit of open files");
    }
}

/// Keeps the memory of the process, events and keys, out of core files and from debuggers of the same user.
pub fn forbid_core_dumps() {
    if let Err(errno) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        let error = io::Error::from(errno);
        warn!(%error, "core dumps stay possible");
    }
}

/// Checks that the wall clock's year has four digits.
///
/// # Errors
/// It has more; the HTTP server would panic on its first `Date`.
pub fn check_wall_clock(unix_seconds: u64) -> io::Result<()> {
    if unix_seconds > LAST_SECOND {
        return Err(io::Error::other(format!(
            "it is {unix_seconds} seconds past 1970, at most {LAST_SECOND} (the year 9999) can be written"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::dumpable_behavior;

    #[test]
    fn core_dumps_are_forbidden() {
        forbid_core_dumps();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }

    #[test]
    fn the_soft_descriptor_limit_becomes_the_hard_one() {
        raise_descriptor_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let wanted = maximum.unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX);
        assert!(current.is_none_or(|current| current >= wanted));
    }

    #[test]
    fn a_clock_beyond_the_year_9999_is_an_error() {
        assert!(check_wall_clock(LAST_SECOND).is_ok());
        assert!(check_wall_clock(LAST_SECOND + 1).is_err());
    }
}
