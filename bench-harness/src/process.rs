//! A process and its descendants: their total usage, and how to end them.
//!
//! Descendants are found by their parents' ids in `/proc` (proc(5)). A child that has ended and
//! was waited for counts through its parent's totals; one that left for another parent, as a daemon
//! does, is not found: rows keep their programs in the foreground.

use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

/// How often a process that has to end is polled.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The fields of `/proc/<pid>/stat` that are needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    /// Its own and its waited-for children's user and system time, in ticks.
    ticks: u64,
    /// When it began, in ticks since boot: distinguishes processes that reuse an id.
    began: u64,
}

impl Stat {
    /// Fields 4, 14 to 17 and 22.
    fn parse(text: &str) -> Option<Stat> {
        // The name, field 2, is in parentheses and may hold spaces and parentheses.
        let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
        let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
        Some(Stat {
            parent: u32::try_from(number(4)?).ok()?,
            ticks: number(14)? + number(15)? + number(16)? + number(17)?,
            began: number(22)?,
        })
    }
}

/// All processes under `root`, itself included. Processes that end meanwhile are left out.
fn tree(root: u32) -> io::Result<BTreeMap<u32, Stat>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|id| id.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok();
        if let Some(stat) = stat.as_deref().and_then(Stat::parse) {
            all.insert(id, stat);
        }
    }
    let mut members = BTreeSet::from([root]);
    // Ids wrap around, so that a child may come before its parent: until nothing is added.
    loop {
        let before = members.len();
        members.extend(
            all.iter()
                .filter(|(_, stat)| members.contains(&stat.parent))
                .map(|(id, _)| *id)
                .collect::<Vec<_>>(),
        );
        if members.len() == before {
            break;
        }
    }
    all.retain(|id, _| members.contains(id));
    if all.contains_key(&root) {
        Ok(all)
    } else {
        Err(io::Error::new(io::ErrorKind::NotFound, "it has ended"))
    }
}

/// CPU time so far of a process and all it started, user and system, in steps of the kernel's tick
/// (10 ms as a rule) per process.
///
/// # Errors
/// When the process is gone or `/proc` cannot be read.
pub fn cpu(root: u32) -> io::Result<Duration> {
    let ticks: u64 = tree(root)?.values().map(|stat| stat.ticks).sum();
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// Names of a process's threads with the CPU time of each so far, in nanoseconds. What threads that have ended
/// used is not in it.
///
/// # Errors
/// When the process is gone, or the kernel keeps no such account.
pub fn threads(id: u32) -> io::Result<Vec<(String, u64)>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{id}/task"))? {
        let task = entry?.path();
        let name = fs::read_to_string(task.join("comm"))?.trim().to_owned();
        let account = fs::read_to_string(task.join("schedstat"))?;
        let nanos = account
            .split(' ')
            .next()
            .and_then(|nanos| nanos.parse().ok());
        let nanos = nanos.ok_or(io::ErrorKind::InvalidData)?;
        threads.push((name, nanos));
    }
    Ok(threads)
}

/// Memory now of a process and all it started, in bytes. A page that several processes share counts
/// once (proportional set size); of a process that may not be asked for it, the resident size counts.
///
/// # Errors
/// When the process is gone or `/proc` cannot be read.
pub fn memory(root: u32) -> io::Result<u64> {
    let kib = |id: u32, file: &str, name: &str| {
        let text = fs::read_to_string(format!("/proc/{id}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()
    };
    let sum: u64 = tree(root)?
        .keys()
        .filter_map(|id| kib(*id, "smaps_rollup", "Pss:").or_else(|| kib(*id, "status", "VmRSS:")))
        .sum();
    Ok(sum * 1_024)
}

/// Waits for a process for at most `patience`; `None` when it still runs then.
///
/// # Errors
/// When the operating system does not let us wait for it.
pub fn wait(process: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let give_up = Instant::now() + patience;
    loop {
        if let Some(status) = process.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= give_up {
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Ends a process and its descendants: signals the first one by `ask`, and kills those still running after
/// `patience`.
pub fn end(process: &mut Child, ask: impl FnOnce(u32), patience: Duration) {
    // A process that cannot be found, waited for or killed has ended by itself.
    let members = tree(process.id()).unwrap_or_default();
    if process.try_wait().is_ok_and(|status| status.is_none()) {
        ask(process.id());
        let _ = wait(process, patience);
    }
    for (id, stat) in members {
        let now = fs::read_to_string(format!("/proc/{id}/stat")).ok();
        let same = now.as_deref().and_then(Stat::parse);
        if same.is_some_and(|now| now.began == stat.began) {
            signal(id, Signal::KILL);
        }
    }
    let _ = process.wait();
}

/// Sends a signal to one process, if it is there.
pub fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn shell(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn kill(mut process: Child) {
        end(
            &mut process,
            |id| signal(id, Signal::KILL),
            Duration::from_secs(5),
        );
    }

    /// Polls until it holds, for at most 20 s.
    fn in_time(mut holds: impl FnMut() -> bool) -> bool {
        let give_up = Instant::now() + Duration::from_secs(20);
        while Instant::now() < give_up {
            if holds() {
                return true;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        false
    }

    const SPIN: &str = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done";

    #[test]
    fn proc_stat_names_may_have_spaces_and_parentheses() {
        let stat = "7 (a) b (c)) S 3 7 7 0 -1 4194304 9 9 9 9 11 12 13 14 20 0 1 0 4711 1 1";
        let expected = Stat {
            parent: 3,
            ticks: 11 + 12 + 13 + 14,
            began: 4711,
        };
        assert_eq!(Stat::parse(stat), Some(expected));
        assert_eq!(Stat::parse("7 (a) S 3"), None);
    }

    #[test]
    fn cpu_time_of_running_descendants_counts() {
        let parent = shell(&format!("({SPIN}; sleep 60; true); true"));
        let alone = |id: u32| {
            Stat::parse(&fs::read_to_string(format!("/proc/{id}/stat")).unwrap())
                .unwrap()
                .ticks
        };
        assert!(in_time(|| tree(parent.id()).unwrap().len() >= 3));
        assert!(in_time(
            || cpu(parent.id()).unwrap() >= Duration::from_millis(50)
        ));
        assert_eq!(alone(parent.id()), 0, "the first process only waits");
        assert!(memory(parent.id()).unwrap() > 0);
        kill(parent);
    }

    #[test]
    fn threads_have_names_and_cpu_time() {
        let used = || {
            let threads = threads(std::process::id()).unwrap();
            let own = std::thread::current().name().unwrap().to_owned();
            // The kernel keeps 15 bytes of a name.
            let mut own = threads.iter().filter(|(name, _)| own.starts_with(name));
            own.next().unwrap().1
        };
        let before = used();
        assert!(in_time(|| used() > before));
    }

    #[test]
    fn work_of_a_child_that_has_ended_still_counts() {
        let parent = shell(&format!("sh -c '{SPIN}'; sleep 60; true"));
        assert!(in_time(
            || cpu(parent.id()).unwrap() >= Duration::from_millis(50)
        ));
        let mut last = Duration::ZERO;
        // The spinner is gone when only the shell and its sleep are left.
        assert!(in_time(|| {
            let now = cpu(parent.id()).unwrap();
            assert!(now >= last, "time was lost");
            last = now;
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", parent.id()))
                .unwrap_or_default()
                .split_whitespace()
                .any(|child| {
                    fs::read_to_string(format!("/proc/{child}/comm"))
                        .is_ok_and(|name| name.trim() == "sleep")
                })
        }));
        assert!(cpu(parent.id()).unwrap() >= Duration::from_millis(50));
        kill(parent);
    }

    #[test]
    fn processes_ignoring_the_signal_are_killed_with_children() {
        let mut parent = shell("trap '' TERM; sleep 600 & sleep 600; true");
        assert!(in_time(|| tree(parent.id()).unwrap().len() >= 3));
        let members: Vec<u32> = tree(parent.id()).unwrap().into_keys().collect();
        end(
            &mut parent,
            |id| signal(id, Signal::TERM),
            Duration::from_millis(100),
        );
        assert!(in_time(|| members.iter().all(|id| {
            fs::read_to_string(format!("/proc/{id}/stat"))
                .ok()
                .is_none_or(|stat| stat.contains(") Z "))
        })));
    }

    #[test]
    fn a_process_that_is_gone_has_no_cost() {
        let mut gone = shell("true");
        gone.wait().unwrap();
        assert!(cpu(gone.id()).is_err());
    }
}
