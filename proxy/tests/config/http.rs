//! Settings that only an HTTP output has.

use super::{load, main_output, problem};

const HTTP: &str = "[outputs.main]\ntype = 'http'\nurl = 'https://host/in'\n";

#[test]
fn http_defaults_leave_time_for_an_answer() {
    let config = load(HTTP).unwrap();
    for (key, value) in [
        ("linger_ms", 100),
        ("batch_records_max", 10_000),
        ("retry_after_max_s", 30),
        // Three quarters of what linger leaves of the ack deadline.
        ("attempt_timeout_ms", 2_925),
        ("connect_timeout_ms", 2_925),
    ] {
        assert_eq!(main_output(&config, key), value.into(), "{key}");
    }
    assert_eq!(main_output(&config, "format"), "ndjson".into());
    assert_eq!(main_output(&config, "auth_header"), "authorization".into());
}

#[test]
fn contradicting_http_settings_are_refused() {
    for (keys, parts) in [
        (
            "auth_file = '/run/token'\nauth_env = 'TOKEN'\n",
            [
                "`outputs.main.auth_env`",
                "`outputs.main.auth_file` is /run/token",
            ],
        ),
        (
            "attempt_timeout_ms = 3900\n",
            ["attempt_timeout_ms", "4000 ms"],
        ),
        (
            "attempt_timeout_ms = 1000\nconnect_timeout_ms = 1001\n",
            ["connect_timeout_ms", "1000 ms"],
        ),
        (
            "headers = ['authorization: x']\n",
            ["headers", "authorization"],
        ),
        (
            "region = 'eu-west-1'\n",
            ["region", "`outputs.main.type` is http"],
        ),
        ("partition_key = 'random'\n", ["partition_key", "is http"]),
    ] {
        let shown = problem(&format!("{HTTP}{keys}"));
        for part in parts {
            assert!(shown.contains(part), "{shown}");
        }
    }
    let shown = problem("[outputs.main]\ntype = 'http'\n");
    assert!(shown.contains("an http output needs a URL"), "{shown}");
}
