//! The machine that a run is made on, as Linux tells it. What it does not tell stays empty.

use super::series::Machine;
use std::fs;

impl Machine {
    /// The machine that this runs on.
    #[must_use]
    pub fn here() -> Machine {
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
        Machine {
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
    fn the_machine_is_named() {
        let machine = Machine::here();
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
