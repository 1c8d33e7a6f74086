//! Whatever a configuration file says: nothing panics, and what is accepted prints as a file that is accepted
//! and prints the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice_proxy::config::{Config, Flags};
use sluice_proxy::host_info::HostInfo;
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// Detected once: it reads a dozen files.
static HOST: LazyLock<HostInfo> = LazyLock::new(HostInfo::detect);

fuzz_target!(|text: &str| {
    // Memory, where the system has it, for there may be a hundred thousand files.
    let path = PathBuf::from(format!("/dev/shm/sluice-fuzz-{}.toml", std::process::id()));
    let load = |text: &str| {
        fs::write(&path, text).ok()?;
        Config::load(Some(&path), [], &Flags::default(), *HOST).ok()
    };
    if let Some(config) = load(text) {
        let printed = config.to_toml();
        // Secrets are masked in print, and a mask is refused.
        if !printed.contains("***") {
            let again = load(&printed).map(|config| config.to_toml());
            assert_eq!(again.as_deref(), Some(printed.as_str()));
        }
    }
});
