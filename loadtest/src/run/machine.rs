//! The machine of a run, read from Linux. Values that Linux does not have stay empty.

use super::lateness::MachineTime;
use super::series::HostInfo;
use std::fs;
use std::time::Instant;

/// The kernel's CPU accounting since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    /// Ticks of all cores, and those of them that a hypervisor gave to others.
    ticks: u64,
    stolen: u64,
    /// Microseconds in which a CPU quota stopped the control group.
    throttled_us: u64,
}

impl Counted {
    fn now() -> Counted {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Counted::parse(&read("/proc/stat"), &read("/sys/fs/cgroup/cpu.stat"))
    }

    /// From `/proc/stat` (proc_stat(5)) and a control group's `cpu.stat`.
    fn parse(stat: &str, cpu_stat: &str) -> Counted {
        // user nice system idle iowait irq softirq steal; guests are in user and nice already.
        let all = stat.lines().find_map(|line| line.strip_prefix("cpu "));
        let ticks: Vec<u64> = all
            .into_iter()
            .flat_map(str::split_ascii_whitespace)
            .take(8)
            .map(|word| word.parse().unwrap_or(0))
            .collect();
        let throttled = cpu_stat
            .lines()
            .find_map(|line| line.strip_prefix("throttled_usec "));
        Counted {
            ticks: ticks.iter().sum(),
            stolen: ticks.get(7).copied().unwrap_or(0),
            throttled_us: throttled.and_then(|us| us.parse().ok()).unwrap_or(0),
        }
    }
}

/// CPU time that the run could not use: stolen by a hypervisor, or withheld by a quota.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    first: Counted,
    last: Counted,
    looked: Instant,
}

impl Taken {
    /// Counts from here.
    pub(super) fn begin() -> Taken {
        let counted = Counted::now();
        Taken {
            first: counted,
            last: counted,
            looked: Instant::now(),
        }
    }

    /// Shares of the time since the last sample.
    pub(super) fn look(&mut self, now: Instant) -> MachineTime {
        let seconds = now.duration_since(self.looked).as_secs_f64();
        let (old, new) = (self.last, Counted::now());
        self.last = new;
        self.looked = now;
        let throttled = new.throttled_us.saturating_sub(old.throttled_us) as f64 / 1e6;
        MachineTime {
            stolen: stolen_share(old, new),
            throttled: match seconds > 0.0 {
                true => throttled / seconds,
                false => 0.0,
            },
        }
    }

    /// Share of all CPU time since the beginning that was stolen.
    pub(super) fn stolen_share(&self) -> f64 {
        stolen_share(self.first, self.last)
    }

    /// Seconds since the beginning in which a quota stopped the control group.
    pub(super) fn throttled_seconds(&self) -> f64 {
        let us = self
            .last
            .throttled_us
            .saturating_sub(self.first.throttled_us);
        us as f64 / 1e6
    }
}

fn stolen_share(old: Counted, new: Counted) -> f64 {
    match new.ticks.saturating_sub(old.ticks) {
        0 => 0.0,
        ticks => new.stolen.saturating_sub(old.stolen) as f64 / ticks as f64,
    }
}

impl HostInfo {
    /// The machine that this runs on.
    #[must_use]
    pub fn here() -> HostInfo {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let kernel = format!(
            "{} {}",
            read("/proc/sys/kernel/ostype").trim(),
            read("/proc/sys/kernel/osrelease").trim()
        );
        let system = match value(&read("/etc/os-release"), "PRETTY_NAME", '=') {
            Some(name) => format!("{}, {kernel}", name.trim_matches('"')),
            None => kernel,
        };
        let cpuinfo = read("/proc/cpuinfo");
        HostInfo {
            cpu: value(&cpuinfo, "model name", ':').map_or_else(
                // arm64 names no model; its architecture is better than nothing.
                || std::env::consts::ARCH.to_owned(),
                str::to_owned,
            ),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_bytes: value(&read("/proc/meminfo"), "MemTotal", ':')
                .and_then(|size| size.strip_suffix(" kB")?.parse::<u64>().ok())
                .map_or(0, |kib| kib * 1024),
            system,
        }
    }
}

/// The first value of a name in lines of name, sign, value.
fn value<'a>(text: &'a str, name: &str, sign: char) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(sign)?;
        (key.trim() == name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_and_withheld_time_is_read_from_the_kernels_counts() {
        let stat = "cpu  10 20 30 400 5 6 7 22 50 60\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        let cpu_stat = "usage_usec 9\nnr_throttled 3\nthrottled_usec 1500000\n";
        let counted = Counted::parse(stat, cpu_stat);
        assert_eq!(
            counted,
            Counted {
                ticks: 500,
                stolen: 22,
                throttled_us: 1_500_000,
            }
        );
        let later = Counted {
            ticks: 600,
            stolen: 32,
            throttled_us: 0,
        };
        assert!((stolen_share(counted, later) - 0.1).abs() < 1e-9);
        assert!(stolen_share(later, later).abs() < 1e-9);
        // Missing counters are zero.
        assert_eq!(Counted::parse("", ""), Counted::default());
        assert!(Counted::now().ticks > 0);
    }

    #[test]
    fn the_machine_is_named() {
        let machine = HostInfo::here();
        assert!(!machine.cpu.is_empty());
        assert!(machine.cores > 0);
        assert!(machine.memory_bytes > 1 << 20);
        assert!(machine.system.contains("Linux"), "{}", machine.system);
    }

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let text = "model\t\t: 7\nmodel name\t: A: B\nmodel name\t: C";
        assert_eq!(value(text, "model name", ':'), Some("A: B"));
        assert_eq!(value(text, "odel name", ':'), None);
        assert_eq!(
            value("MemTotal:       16 kB", "MemTotal", ':'),
            Some("16 kB")
        );
    }
}
