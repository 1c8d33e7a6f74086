//! How the kernel shares cores between the threads of the process.
//!
//! A request crosses threads twice, core to writer and back. Under the kernel's ordinary policy the
//! thread that is woken may interrupt the one that woke it, so that each side finds one event at a time
//! and most of the cost is switching. Under `SCHED_BATCH` (sched(7); no privilege needed) the waking
//! thread runs until it has no work left, and the other finds a batch. With an idle core nothing
//! changes.

use sluice_sinks::settings::word;
use sluice_sinks::{keyword_enum, settings};
use std::io;

settings! {
    /// The process as the kernel sees it.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ProcessSettings from (reader) {
        /// How the kernel shares cores between the threads of the process.
        scheduling: Scheduling = Scheduling::Batch, word::<Scheduling>();
    }
}

keyword_enum! {
    /// The policy by which the kernel shares cores between the threads of the process.
    Scheduling, "one of batch, inherit" {
        /// `SCHED_BATCH`: a thread that wakes does not interrupt the one that runs.
        Batch = "batch",
        /// Whatever the process was started with.
        Inherit = "inherit",
    }
}

/// Applies the setting to the calling thread and every thread it starts from now on.
///
/// # Errors
/// The kernel's, for instance where a sandbox forbids the call.
pub fn apply(settings: &ProcessSettings) -> io::Result<()> {
    match settings.scheduling {
        Scheduling::Batch => prefer_batch(),
        Scheduling::Inherit => Ok(()),
    }
}

/// Puts the calling thread, and every thread it starts from now on, under `SCHED_BATCH`. A thread under
/// any other policy than the default one keeps it: that was an administrator's decision.
///
/// # Errors
/// The kernel's, for instance where a sandbox forbids the call.
fn prefer_batch() -> io::Result<()> {
    match policy()? {
        libc::SCHED_OTHER => set_policy(libc::SCHED_BATCH),
        _ => Ok(()),
    }
}

/// How much nicer than the rest of the process background threads are. Against a busy thread of nice 0 on the same
/// core, one of nice 5 gets a quarter of it.
const BACKGROUND_NICE: libc::c_int = 5;

/// Lowers the calling thread's priority, so that it runs when the others leave time.
///
/// # Errors
/// The kernel's, for instance where a sandbox forbids the call.
#[allow(unsafe_code)]
pub fn yield_to_others() -> io::Result<()> {
    // Linux keeps niceness per thread, and 0 is the calling one.
    // SAFETY: the call takes numbers and accesses no memory.
    match unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, BACKGROUND_NICE) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The calling thread's policy.
#[allow(unsafe_code)]
fn policy() -> io::Result<libc::c_int> {
    // SAFETY: the call takes a number and accesses no memory; 0 is the calling thread.
    match unsafe { libc::sched_getscheduler(0) } {
        -1 => Err(io::Error::last_os_error()),
        policy => Ok(policy),
    }
}

/// `policy` has no priority but niceness, which stays.
#[allow(unsafe_code)]
fn set_policy(policy: libc::c_int) -> io::Result<()> {
    // SAFETY: all fields are integers, for which zero is a value. Some systems have more than one.
    let param: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: `param` lives through the call and is only read; 0 is the calling thread.
    match unsafe { libc::sched_setscheduler(0, policy, &raw const param) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn threads_started_after_it_are_under_batch_too() {
        let policies = thread::spawn(|| {
            prefer_batch().unwrap();
            let child = thread::spawn(|| policy().unwrap()).join().unwrap();
            (policy().unwrap(), child)
        });
        assert_eq!(
            policies.join().unwrap(),
            (libc::SCHED_BATCH, libc::SCHED_BATCH)
        );
    }

    #[test]
    fn a_policy_chosen_by_the_operator_stays() {
        let kept = thread::spawn(|| {
            set_policy(libc::SCHED_IDLE).unwrap();
            prefer_batch().unwrap();
            policy().unwrap()
        });
        assert_eq!(kept.join().unwrap(), libc::SCHED_IDLE);
    }
}
