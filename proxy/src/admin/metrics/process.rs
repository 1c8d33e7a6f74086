//! Usage of this process, from the kernel; `None` where `/proc` is hidden.

use std::fs;

/// USER_HZ: the unit of times in `/proc`, fixed by the kernel's interface.
const TICKS_PER_SECOND: u64 = 100;

/// CPU time in user and kernel mode, microseconds.
pub(super) fn cpu_micros() -> Option<u64> {
    cpu_micros_of(&fs::read_to_string("/proc/self/stat").ok()?)
}

fn cpu_micros_of(stat: &str) -> Option<u64> {
    // The name of the program, in parentheses, may hold spaces and parentheses itself.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) * (1_000_000 / TICKS_PER_SECOND))
}

/// Memory in use, bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    resident_bytes_of(&fs::read_to_string("/proc/self/status").ok()?)
}

fn resident_bytes_of(status: &str) -> Option<u64> {
    let kib = first_number(status, "VmRSS:")?;
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
    first_number(&limits, "Max open files")
}

/// The number that follows `name` at the start of a line.
fn first_number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_user_and_kernel_ticks_of_the_process() {
        // proc(5): after the state come 10 fields, then utime, stime, and the times of waited-for children.
        let stat = "17 (a) b (c)) S 1 17 17 0 -1 4194560 5 6 7 8 250 50 9000 9000 20 0 1 0 99";
        assert_eq!(cpu_micros_of(stat), Some(3_000_000));
        assert_eq!(cpu_micros_of("17 (a) S 1 17 17 0 -1 0 5 6 7 8 250"), None);
        assert_eq!(cpu_micros_of(""), None);
    }

    #[test]
    fn resident_memory_is_in_bytes() {
        let status = "Name:\tsluice\nVmHWM:\t  900 kB\nVmRSS:\t  800 kB\nRssAnon:\t  700 kB\n";
        assert_eq!(resident_bytes_of(status), Some(800 << 10));
        assert_eq!(resident_bytes_of("Name:\tsluice\n"), None);
    }

    #[test]
    fn the_descriptor_limit_is_the_soft_one() {
        let limits = "Max processes 7 8 processes\nMax open files            900  1048576  files\n";
        assert_eq!(first_number(limits, "Max open files"), Some(900));
        assert_eq!(first_number(limits, "Max locked memory"), None);
    }

    #[test]
    fn the_kernel_tells_of_this_process() {
        let held: Vec<_> = (0..100)
            .map(|_| fs::File::open("/proc/self/stat").unwrap())
            .collect();
        let open = open_descriptors().unwrap();
        assert!(open > held.len() as u64, "{open}");
        assert!(descriptors_max().unwrap() >= open);
        assert!(resident_bytes().unwrap() > 100_000);
        assert!(cpu_micros().is_some());
    }
}
