//! Usage of this process, from the kernel; `None` where `/proc` is hidden.

use std::fs;

/// USER_HZ: the unit of times in `/proc`, fixed by the kernel's interface.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time in user and kernel mode, microseconds.
pub(super) fn cpu_micros() -> Option<u64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may hold spaces and parentheses itself.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * (1_000_000 / TICKS_PER_SECOND))
}

/// Memory in use, bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1_024)
}

/// Descriptors open now.
pub(super) fn open_descriptors() -> Option<u64> {
    // One of them is the directory that is being read.
    let count = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    Some(count.saturating_sub(1))
}

/// Descriptors that may be open.
pub(super) fn descriptors_max() -> Option<u64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_descriptors_and_cpu_time() {
        assert!(resident_bytes().unwrap() > 100_000);
        let before = open_descriptors().unwrap();
        let file = fs::File::open("/proc/self/stat").unwrap();
        assert!(open_descriptors().unwrap() >= before.min(3));
        drop(file);
        assert!(descriptors_max().unwrap() >= before);
        assert!(cpu_micros().is_some());
    }
}
