//! Samples CPU time and resident memory of other processes during a run, from `/proc`.
//! A process that ends is no error.

use super::series::{ProcessSample, WatchedProcess};
use super::{RunError, SERIES_SECONDS_MAX};
use std::fs;
use std::time::Instant;

/// Processes that one run may watch.
pub const WATCHED_MAX: usize = 64;

/// A process's accounting.
#[derive(Clone, Debug, PartialEq)]
struct Usage {
    name: String,
    /// User and system time of all its threads, in clock ticks.
    cpu_ticks: u64,
    /// When it was started, in clock ticks since boot; with its number this identifies it.
    started: u64,
    rss_pages: u64,
}

impl Usage {
    fn of(pid: u32) -> Option<Usage> {
        Usage::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads the one line of `/proc/<pid>/stat` (proc_pid_stat(5)).
    fn parse(stat: &str) -> Option<Usage> {
        // The name is in parentheses, and may have blanks and parentheses itself.
        let (before, after) = stat.rsplit_once(')')?;
        let (_, name) = before.split_once('(')?;
        // The first field after the name is the third of the line.
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        // A zombie still has its usage, but is gone.
        let alive = !matches!(*fields.first()?, "Z" | "X");
        alive.then_some(Usage {
            name: name.to_owned(),
            cpu_ticks: field(14)? + field(15)?,
            started: field(22)?,
            rss_pages: field(24)?,
        })
    }
}

#[derive(Debug)]
struct Watched {
    process: WatchedProcess,
    /// `None` when it has ended.
    last: Option<Usage>,
}

/// Processes that are watched.
#[derive(Debug)]
pub(super) struct ProcessSampler {
    watched: Vec<Watched>,
    looked: Instant,
}

impl ProcessSampler {
    /// Finds the processes.
    ///
    /// # Errors
    /// Names the first one that there is not.
    pub(super) fn new(pids: &[u32]) -> Result<ProcessSampler, RunError> {
        let watched = pids.iter().map(|&pid| {
            let usage = Usage::of(pid).ok_or(RunError::NoProcess { pid })?;
            Ok(Watched {
                process: WatchedProcess {
                    pid,
                    name: usage.name.clone(),
                    samples: Vec::new(),
                },
                last: Some(usage),
            })
        });
        Ok(ProcessSampler {
            watched: watched.collect::<Result<_, RunError>>()?,
            looked: Instant::now(),
        })
    }

    /// Begins to count from here.
    pub(super) fn begin(&mut self, now: Instant) {
        self.looked = now;
        for watched in &mut self.watched {
            watched.refresh();
        }
    }

    /// Takes a sample of each, `at` seconds after the run's start.
    pub(super) fn sample(&mut self, now: Instant, at: f64) {
        let seconds = now.duration_since(self.looked).as_secs_f64();
        self.looked = now;
        for watched in &mut self.watched {
            let before = watched.last.as_ref().map_or(0, |usage| usage.cpu_ticks);
            let Some(usage) = watched.refresh() else {
                continue;
            };
            let ticks = usage.cpu_ticks.saturating_sub(before) as f64;
            let sample = ProcessSample {
                at,
                cpu_cores: ticks / rustix::param::clock_ticks_per_second() as f64 / seconds,
                rss_bytes: usage.rss_pages * rustix::param::page_size() as u64,
            };
            if seconds > 0.0 && watched.process.samples.len() < SERIES_SECONDS_MAX {
                watched.process.samples.push(sample);
            }
        }
    }

    /// Everything seen.
    pub(super) fn finish(self) -> Vec<WatchedProcess> {
        let processes = self.watched.into_iter().map(|watched| watched.process);
        processes.collect()
    }
}

impl Watched {
    fn refresh(&mut self) -> Option<&Usage> {
        let before = self.last.take()?;
        // Another process may have got the number since.
        self.last = Usage::of(self.process.pid).filter(|now| now.started == before.started);
        self.last.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    #[test]
    fn a_line_of_stat_is_read_whatever_the_name() {
        let line = "42 (a) b (c) S 1 42 42 0 -1 4194304 1 2 3 4 70 30 5 6 20 0 8 0 999 10000 25 \
                    18446744073709551615 1";
        let usage = Usage::parse(line).unwrap();
        assert_eq!(usage.name, "a) b (c");
        assert_eq!(
            (usage.cpu_ticks, usage.started, usage.rss_pages),
            (100, 999, 25)
        );
        assert_eq!(Usage::parse(&line.replace(" S ", " Z ")), None);
        for cut in 0..line.len() - 22 {
            assert!(Usage::parse(&line[..cut]).is_none_or(|usage| usage.started == 999));
        }
    }

    #[test]
    fn a_process_that_works_is_seen_working() {
        let mut watch = ProcessSampler::new(&[std::process::id()]).unwrap();
        let begin = Instant::now();
        watch.begin(begin);
        let ticks = || Usage::of(std::process::id()).unwrap().cpu_ticks;
        let before = ticks();
        while ticks() < before + 5 && begin.elapsed() < Duration::from_secs(30) {}
        watch.sample(Instant::now(), 1.0);
        let seen = watch.finish();
        assert_eq!(seen[0].pid, std::process::id());
        assert!(!seen[0].name.is_empty());
        let sample = seen[0].samples[0];
        assert!(sample.cpu_cores > 0.0, "{sample:?}");
        assert!(sample.rss_bytes > 1 << 20, "{sample:?}");
    }

    #[test]
    fn a_process_that_ends_has_samples_until_then() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut watch = ProcessSampler::new(&[child.id()]).unwrap();
        watch.begin(Instant::now());
        let at = |seconds| Instant::now() + Duration::from_secs(seconds);
        watch.sample(at(1), 1.0);
        child.kill().unwrap();
        child.wait().unwrap();
        watch.sample(at(2), 2.0);
        watch.sample(at(3), 3.0);
        let seen = watch.finish();
        assert_eq!(seen[0].name, "sleep");
        assert_eq!(seen[0].samples.len(), 1);
    }

    #[test]
    fn a_process_that_there_is_not_is_named() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let error = ProcessSampler::new(&[child.id()]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("there is no process {} to watch", child.id())
        );
    }
}
