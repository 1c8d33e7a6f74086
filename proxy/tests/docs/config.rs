//! Configurations and fault scripts as pages show them.

use sluice_loadtest::service::FaultScript;
use sluice_proxy::config::{Config, Flags};
use sluice_proxy::host_info::HostInfo;
use std::fs;

/// Why a configuration does not resolve.
pub(crate) fn fault(place: &str, text: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sluice.toml");
    fs::write(&file, text).unwrap();
    let config = Config::load(
        Some(&file),
        std::iter::empty::<(std::ffi::OsString, std::ffi::OsString)>(),
        &Flags::default(),
        HostInfo::detect(),
    );
    config.err().map(|error| format!("{place}: {error}"))
}

/// Why an emulator does not read a fault script.
pub(crate) fn fault_script_fault(place: &str, text: &str) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("faults.toml");
    fs::write(&file, text).unwrap();
    let script = FaultScript::read(&file);
    script.err().map(|error| format!("{place}: {error}"))
}

#[test]
fn a_configuration_with_an_unknown_key_is_found() {
    let error = fault("a.md:1", "[listen]\nadress = \"127.0.0.1:1\"\n").unwrap();
    assert!(error.contains("adress"), "{error}");
    assert_eq!(fault("a.md:1", "outputs.x = { type = \"null\" }"), None);
}
