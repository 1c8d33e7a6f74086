//! What the machine, or the container around us, lets us have. The only defaults that are measured.

use std::fs;
use std::path::Path;
use std::thread;

/// What is taken for the memory when nothing on the machine tells, bytes.
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

/// Limits above this are none: where `/proc/meminfo` is hidden, "unlimited" of a version 1 cgroup, some
/// 2^63 bytes, would otherwise be the memory of the machine.
const MEMORY_BYTES_SANE: u64 = 1 << 46;

/// Cores and memory that this process may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// Cores, at least 1: affinity and the cgroup's CPU quota considered.
    pub cores: usize,
    /// Bytes of memory: the least limit of the cgroups around us, at most the machine's.
    pub memory_bytes: u64,
}

impl HostInfo {
    /// Asks the kernel.
    #[must_use]
    pub fn detect() -> HostInfo {
        HostInfo {
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(|path| fs::read_to_string(path).ok()),
        }
    }
}

/// The memory limit, from the files that `read` can give.
fn memory_bytes(read: impl Fn(&Path) -> Option<String>) -> u64 {
    let total = read(Path::new("/proc/meminfo")).and_then(|text| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kib.checked_mul(1024)
    });
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        // `0::/path` in version 2, `9:memory:/path` in version 1.
        let mut fields = line.splitn(3, ':');
        let (root, file) = match (fields.next(), fields.next()) {
            (Some("0"), Some("")) => ("/sys/fs/cgroup", "memory.max"),
            (_, Some(kinds)) if kinds.split(',').any(|kind| kind == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return Vec::new(),
        };
        // Inside a container the path may be the host's and not be there: its parents still are,
        // and a limit on a parent binds as well.
        let path = fields.next().unwrap_or("").trim_start_matches('/');
        Path::new(path)
            .ancestors()
            .filter_map(|part| read(&Path::new(root).join(part).join(file)))
            .filter_map(|text| text.trim().parse().ok())
            .collect()
    });
    limits
        .chain(total)
        .filter(|bytes| (1..=MEMORY_BYTES_SANE).contains(bytes))
        .min()
        .unwrap_or(MEMORY_BYTES_UNKNOWN)
}

/// Whether a CPU quota is set on a cgroup around this process.
#[must_use]
pub fn has_cpu_quota() -> bool {
    cpu_quota(|path| fs::read_to_string(path).ok())
}

fn cpu_quota(read: impl Fn(&Path) -> Option<String>) -> bool {
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    groups.lines().any(|line| {
        let mut fields = line.splitn(3, ':');
        // `max 100000` in version 2, `-1` in version 1 are no quota.
        let (root, file) = match (fields.next(), fields.next()) {
            (Some("0"), Some("")) => ("/sys/fs/cgroup", "cpu.max"),
            (_, Some(kinds)) if kinds.split(',').any(|kind| kind == "cpu") => {
                ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us")
            }
            _ => return false,
        };
        let path = fields.next().unwrap_or("").trim_start_matches('/');
        Path::new(path)
            .ancestors()
            .filter_map(|part| read(&Path::new(root).join(part).join(file)))
            .any(|text| {
                let quota = text.split_whitespace().next();
                quota.is_some_and(|quota| quota.parse::<u64>().is_ok())
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(files: &[(&str, &str)]) -> u64 {
        memory_bytes(|path| {
            files
                .iter()
                .find(|(name, _)| Path::new(name) == path)
                .map(|(_, text)| (*text).to_owned())
        })
    }

    const MEMINFO: (&str, &str) = ("/proc/meminfo", "MemFree: 1 kB\nMemTotal:  4000 kB\n");

    #[test]
    fn without_cgroups_it_is_the_machines_memory() {
        assert_eq!(limit(&[MEMINFO]), 4_096_000);
    }

    #[test]
    fn with_nothing_readable_it_is_a_gibibyte() {
        assert_eq!(limit(&[]), 1 << 30);
        assert_eq!(limit(&[("/proc/meminfo", "MemTotal: many kB\n")]), 1 << 30);
    }

    #[test]
    fn insane_memory_limits_count_as_unknown() {
        let own = ("/proc/self/cgroup", "4:memory:/a\n");
        let file = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        assert_eq!(limit(&[own, (file, "9223372036854771712\n")]), 1 << 30);
        assert_eq!(limit(&[own, (file, "0\n")]), 1 << 30);
    }

    #[test]
    fn cpu_quotas_are_read_in_cgroup_v1_and_v2() {
        let quota = |files: &[(&str, &str)]| {
            cpu_quota(|path| {
                let found = files.iter().find(|(name, _)| Path::new(name) == path);
                found.map(|(_, text)| (*text).to_owned())
            })
        };
        let v2 = ("/proc/self/cgroup", "0::/pod/proxy\n");
        let v1 = ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n");
        assert!(!quota(&[]));
        assert!(!quota(&[
            v2,
            ("/sys/fs/cgroup/pod/cpu.max", "max 100000\n")
        ]));
        assert!(quota(&[
            v2,
            ("/sys/fs/cgroup/pod/cpu.max", "50000 100000\n")
        ]));
        assert!(!quota(&[
            v1,
            ("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n")
        ]));
        assert!(quota(&[
            v1,
            ("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "50000\n")
        ]));
    }

    #[test]
    fn cgroup_v2_uses_the_lowest_limit_up_to_the_root() {
        let own = ("/proc/self/cgroup", "0::/pod/proxy\n");
        let leaf = ("/sys/fs/cgroup/pod/proxy/memory.max", "max\n");
        let pod = ("/sys/fs/cgroup/pod/memory.max", "1000000\n");
        let root = ("/sys/fs/cgroup/memory.max", "2000000\n");
        assert_eq!(limit(&[MEMINFO, own, leaf, pod, root]), 1_000_000);
        assert_eq!(limit(&[MEMINFO, own, leaf, root]), 2_000_000);
        assert_eq!(limit(&[MEMINFO, own, leaf]), 4_096_000);
    }

    #[test]
    fn cgroup_v1_uses_the_memory_group_or_the_machine() {
        let own = ("/proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n");
        let file = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        assert_eq!(limit(&[MEMINFO, own, (file, "12345\n")]), 12_345);
        assert_eq!(
            limit(&[MEMINFO, own, (file, "9223372036854771712\n")]),
            4_096_000
        );
    }
}
