//! Configurations and fault scripts as pages show them.

use sluice_loadtest::service::FaultScript;
use sluice_proxy::config::{Config, Flags};
use sluice_proxy::host_info::HostInfo;
use std::fs;

/// Why a configuration does not resolve, or which of its tests fail.
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
    let config = match config {
        Ok(config) => config,
        Err(error) => return Some(format!("{place}: {error}")),
    };
    let failures = config.tests.iter().flat_map(|test| {
        let failures = match test.failures(&config) {
            Ok(failures) => failures,
            Err(error) => vec![error.to_string()],
        };
        let name = &test.settings.name;
        failures
            .into_iter()
            .map(move |failure| format!("{place}: test {name}: {failure}"))
    });
    let failures: Vec<String> = failures.collect();
    (!failures.is_empty()).then(|| failures.join("\n"))
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

#[test]
fn a_configuration_whose_own_test_fails_is_found() {
    let test = "[[tests]]\nname = \"t\"\nevent = \"{}\"\noutputs = []\n";
    let error = fault("a.md:1", test).unwrap();
    assert_eq!(error, "a.md:1: test t: outputs are files, expected none");
}
