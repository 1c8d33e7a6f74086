//! Settings that only a Firehose output has.

use super::{load, main_output, problem};
use sluice_core::partition::PartitionRule;
use std::time::Duration;

const FIREHOSE: &str = "[outputs.main]\ntype = 'firehose'\nstream = 'clicks'\n";

#[test]
fn firehose_packs_records_to_a_billing_step_by_default() {
    let config = load(FIREHOSE).unwrap();
    for (key, value) in [
        ("pack_bytes_max", 5_120),
        ("linger_ms", 100),
        ("batch_records_max", 500),
        ("batch_bytes_max", 4 << 20),
        // Three quarters of what linger leaves of the ack deadline.
        ("attempt_timeout_ms", 2_925),
    ] {
        assert_eq!(main_output(&config, key), value.into(), "{key}");
    }
    assert_eq!(main_output(&config, "stream"), "clicks".into());
    assert_eq!(config.outputs[0].partition_key, PartitionRule::Random);
}

#[test]
fn firehose_defaults_yield_to_a_short_ack_deadline() {
    let config = load(&format!("[ack]\ndeadline_ms = 40\n{FIREHOSE}")).unwrap();
    let timing = &config.outputs[0].timing;
    assert_eq!(timing.linger, Duration::from_millis(10));
    let config = load(&format!(
        "[limits]\nbody_bytes_max = 1024\nhead_bytes_max = 8192\n{FIREHOSE}batch_bytes_max = 9999\n"
    ));
    let bytes = main_output(&config.unwrap(), "batch_bytes_max");
    assert_eq!(bytes, 9_999.into());
}

#[test]
fn contradicting_firehose_settings_are_refused() {
    let small = "[limits]\nbody_bytes_max = 1024\nhead_bytes_max = 8192\n";
    let shown = problem(&format!(
        "{small}{FIREHOSE}batch_bytes_max = 9999\npack_bytes_max = 10000\n"
    ));
    for part in ["pack_bytes_max", "10000 bytes", "9999 bytes"] {
        assert!(shown.contains(part), "{shown}");
    }
    load(&format!(
        "{small}{FIREHOSE}batch_bytes_max = 9999\npack_bytes_max = 9999\n"
    ))
    .unwrap();
    for key in [
        "describe_interval_s = 1",
        "partition_key = 'random'",
        "dir = 'x'",
        "topic = 'x'",
    ] {
        let shown = problem(&format!("{FIREHOSE}{key}\n"));
        assert!(shown.contains("`outputs.main.type` is firehose"), "{shown}");
    }
    let shown = problem("[outputs.main]\ntype = 'kinesis'\nstream = 's'\npack_bytes_max = 0\n");
    assert!(shown.contains("`outputs.main.pack_bytes_max`"), "{shown}");
}

#[test]
fn delivery_stream_names_have_1_to_64_characters() {
    let named = |name: &str| FIREHOSE.replace("clicks", name);
    assert!(load(&named(&"x".repeat(64))).is_ok());
    for name in ["", &"x".repeat(65), "a/b", "arn:aws:firehose"] {
        let shown = problem(&named(name));
        assert!(shown.contains("1 to 64 letters"), "{shown}");
    }
    let shown = problem("[outputs.main]\ntype = 'firehose'\n");
    assert!(
        shown.contains("`outputs.main.stream` is missing"),
        "{shown}"
    );
}

#[test]
fn a_firehose_output_prints_as_it_loads() {
    let more = "region = 'eu-west-1'\nendpoint_url = 'http://[::1]:4573'\npack_bytes_max = 0\n\
                linger_ms = 7\nconnect_timeout_ms = 11\nattempt_timeout_ms = 13\n";
    let config = load(&format!("{FIREHOSE}{more}")).unwrap();
    assert_eq!(load(&config.to_toml()).unwrap(), config);
}
