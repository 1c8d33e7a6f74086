//! The arguments of profiles, files and connections: what is refused, how, and what works.

use crate::command_line::output;
use crate::responder::{Responder, closed_port, status};
use serde_json::Value;

/// Targets of runs that are refused before they connect.
const NOBODY: &str = "http://127.0.0.1:1";
const NOBODY_TLS: &str = "https://127.0.0.1:1";

fn refused(target: &str, args: &[&str], code: i32, part: &str) {
    let all = [&["run", "--target", target, "--requests", "1"], args].concat();
    let (actual, stdout, stderr) = output(&all);
    assert_eq!(actual, code, "{args:?}: {stderr}");
    assert!(stderr.contains(part), "{args:?}: {stderr}");
    let first = stderr.lines().next().unwrap();
    assert!(
        first.starts_with("sluice-loadtest: ") || first.starts_with("error: "),
        "{first}"
    );
    assert!(stdout.is_empty(), "{args:?}: {stdout}");
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn unsendable_bodies_exit_with_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    let file = std::fs::File::create(&large).unwrap();
    file.set_len((16 << 20) + 1).unwrap();
    let large = large.to_str().unwrap();
    let some = dir.path().join("some");
    std::fs::write(&some, "x").unwrap();
    let some = some.to_str().unwrap();
    for (args, part) in [
        (
            &["--profile", "nosuch"][..],
            "no such profile: use web, mobile",
        ),
        (&["--profile", some], "a file of your own goes to --body"),
        (&["--profile", "web", "--batch", "2"], "cannot be used with"),
        (
            &["--profile", "web", "--mode", "event"],
            "cannot be used with",
        ),
        (
            &["--profile", "web", "--event-bytes", "500"],
            "cannot be used with",
        ),
        (&["--profile", "web", "--body", some], "cannot be used with"),
        (&["--body", some, "--batch", "2"], "cannot be used with"),
        (&["--body", some, "--zipf", "1"], "cannot be used with"),
        (&["--body", "/nonexistent/body"], "/nonexistent/body"),
        (&["--body", "/"], "body /: "),
        (
            &["--body", large],
            "16777217 bytes or more are over the limit of 16777216",
        ),
        (
            &["--body", some, "--acks", "/dev/null"],
            "no answers can be written",
        ),
        (&["--body", some, "--method", "HEAD"], "\"HEAD\""),
        (
            &["--body", some, "--content-type", "a\nb"],
            "control characters",
        ),
        (&["--method", "PUT"], "--body"),
        (&["--content-type", "text/csv"], "--body"),
        (
            &["--users", "0"],
            "users must be between 1 and 1000000000, not 0",
        ),
        (
            &["--zipf", "0"],
            "zipf must be above 0 and at most 10, not 0",
        ),
        (&["--zipf", "11"], "not 11"),
        (
            &["--preflights", "0.1"],
            "preflights are for the profile web",
        ),
        (
            &["--profile", "web", "--preflights", "1"],
            "preflights must be between 0 and 0.9, not 1",
        ),
        (&["--event-bytes", "9"], "at least 320"),
    ] {
        refused(NOBODY, args, 2, part);
    }
}

#[test]
fn connections_that_cannot_be_are_refused_with_code_2() {
    for (target, args, part) in [
        (
            NOBODY,
            &["--pipeline", "0"][..],
            "pipeline must be between 1 and 1024, not 0",
        ),
        (NOBODY, &["--pipeline", "1025"], "not 1025"),
        (
            NOBODY,
            &["--requests-per-connection", "0"],
            "requests-per-connection must be",
        ),
        (NOBODY, &["-4", "-6"], "cannot be used with"),
        (NOBODY, &["--insecure"], "insecure is for https:// targets"),
        (NOBODY, &["--ca", "/dev/null"], "ca is for https:// targets"),
        (NOBODY_TLS, &["--ca", "/dev/null"], "ca /dev/null: "),
        (
            NOBODY_TLS,
            &["--ca", "/nonexistent/ca"],
            "ca /nonexistent/ca: ",
        ),
        (
            NOBODY_TLS,
            &["--ca", "/dev/null", "--insecure"],
            "cannot be used with",
        ),
        ("ftp://x", &[], "not an http:// or https:// URL"),
        ("http://", &[], "no valid host and port"),
        ("http://[::1", &[], "no valid host and port"),
        ("http://a b", &[], "no valid host and port"),
    ] {
        refused(target, args, 2, part);
    }
}

#[test]
fn a_target_that_cannot_be_reached_is_code_1() {
    let closed = closed_port();
    let said = format!("cannot connect to {closed}");
    let plain = format!("http://{closed}");
    refused(&plain, &["--profile", "web"], 1, &said);
    refused(&format!("https://{closed}"), &["--insecure"], 1, &said);
    refused(NOBODY, &["-6"], 1, "no IPv6 address");
    refused(
        "http://no-such-host.invalid",
        &[],
        1,
        "cannot resolve no-such-host.invalid:80",
    );
}

#[test]
fn an_audit_of_a_stream_takes_no_tls() {
    let (code, _, stderr) = output(&["audit", "--acks", "x", "--kinesis", NOBODY_TLS]);
    assert_eq!(code, 2);
    assert!(stderr.contains("no TLS here"), "{stderr}");
}

#[test]
fn profiles_files_and_connections_work_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let body = dir.path().join("body");
    std::fs::write(&body, "x=1").unwrap();
    let body = body.to_str().unwrap();
    let json = dir.path().join("json");
    let json = json.to_str().unwrap();
    let server = Responder::start(|_| status(200));
    for (args, mode) in [
        (
            &["--profile", "web", "--preflights", "0.5", "--seed", "4"][..],
            "web",
        ),
        (
            &["--profile", "mobile", "--requests-per-connection", "1"],
            "mobile",
        ),
        (
            &["--profile", "single", "--zipf", "1.1", "--users", "50"],
            "single",
        ),
        (&["--profile", "flat", "--pipeline", "8"], "flat"),
        (&["--profile", "batch", "-4"], "batch"),
        (
            &["--profile", "firehose", "--header", "X-Key: 1"],
            "firehose",
        ),
        (
            &["--body", body, "--body", body, "--method", "PATCH"],
            "files",
        ),
    ] {
        let target = server.url();
        let common = [
            "run",
            "--target",
            &target,
            "--requests",
            "20",
            "--json",
            json,
        ];
        let all = [&common[..], &["--expect-all-ok"], args].concat();
        let (code, stdout, stderr) = output(&all);
        assert_eq!(code, 0, "{args:?}: {stderr}");
        let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
        assert_eq!(report["load"]["mode"], mode);
        assert_eq!(report["ok"], 20);
        assert!(
            stdout.contains(&format!("bodies         {mode}, run ")),
            "{stdout}"
        );
    }
}
