//! The program: exit codes, and one clear line for bad input.

use crate::responder::{Responder, status};
use serde_json::Value;
use sluice_loadtest::ledger::{ACKS_HEADER, STORED_HEADER};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

pub(crate) fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-loadtest"));
    command.args(args);
    command
}

pub(crate) fn output(args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = program(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

pub(crate) fn signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn help_names_every_tool_and_no_tool_is_an_error() {
    let (code, stdout, _) = output(&["--help"]);
    assert_eq!(code, 0);
    for tool in [
        "kinesis", "firehose", "sqs", "s3", "run", "find-max", "patience", "audit", "report",
        "plan",
    ] {
        assert!(stdout.contains(tool));
        assert_eq!(output(&[tool, "--help"]).0, 0);
    }
    // The whole explanation, not only its first line.
    for tool in ["run", "find-max"] {
        assert!(
            output(&[tool, "--help"]).1.contains("Exit code 0"),
            "{tool}"
        );
    }
    assert_eq!(output(&[]).0, 2);
}

#[test]
fn bad_arguments_are_refused_with_one_line_that_names_them() {
    for (args, part) in [
        (&["run", "--target", "ftp://x"][..], "ftp://x"),
        (
            &["run", "--target", "http://127.0.0.1:1"],
            "cannot connect to 127.0.0.1:1",
        ),
        (
            &["run", "--target", "http://127.0.0.1:1", "--rate", "0"],
            "rate must be",
        ),
        (
            &[
                "run",
                "--target",
                "http://127.0.0.1:1",
                "--event-bytes",
                "9",
            ],
            "at least 320",
        ),
        (
            &["kinesis", "--shards", "0"],
            "shards must be between 1 and 10000, not 0",
        ),
        (
            &["kinesis", "--distribution", "auto"],
            "needs mode on-demand",
        ),
        (
            &["kinesis", "--update-ms", "3600001"],
            "update_ms must be between 0 and 3600000, not 3600001",
        ),
        (
            &["kinesis", "--on-demand-period-ms", "99"],
            "on_demand_period_ms must be between 100 and 86400000, not 99",
        ),
        (
            &["kinesis", "--stream", "a b"],
            "stream must be 1 to 128 of a-z",
        ),
        (&["kinesis", "--hang", "2"], "hang is a share"),
        (
            &[
                "run",
                "--target",
                "http://127.0.0.1:1",
                "--watch",
                "4194305",
            ],
            "there is no process 4194305 to watch",
        ),
        (
            &[
                "run",
                "--target",
                "http://127.0.0.1:1",
                "--ramp",
                "1:2",
                "--requests",
                "3",
            ],
            "a ramp needs a duration",
        ),
        (
            &[
                "run",
                "--target",
                "http://127.0.0.1:1",
                "--trace",
                "Cargo.toml",
            ],
            "Cargo.toml: line 1: expected `SECONDS RATE`",
        ),
        (
            &[
                "run",
                "--target",
                "http://127.0.0.1:1",
                "--burst",
                "9:2:20:5",
            ],
            "burst's begin",
        ),
        (
            &[
                "run",
                "--target",
                "http://127.0.0.1:1",
                "--closed",
                "--rate",
                "3",
            ],
            "cannot be used with",
        ),
        (&["kinesis", "--reject", "2/1"], "expected K/N"),
        (&["sqs", "--require-signature=key"], "expected ID:SECRET"),
        (
            &["s3", "--latency-median-ms", "2", "--latency-p99-ms", "1"],
            "p99 from the median on",
        ),
        (
            &["firehose", "--pause-every-s", "1", "--pause-ms", "1000"],
            "must be shorter than",
        ),
        (
            &["firehose", "--fault-script", "/nonexistent/faults.toml"],
            "/nonexistent/faults.toml: ",
        ),
        (&["kinesis", "--ledger", "/nonexistent/x"], "/nonexistent/x"),
        (
            &["audit", "--acks", "/dev/null", "--ledger", "/dev/null"],
            "/dev/null is no ledger",
        ),
        (&["audit", "--acks", "/dev/null"], "--ledger"),
        (
            &["audit", "--acks", "x", "--ledger", "y", "--dir", "z"],
            "cannot be used with",
        ),
    ] {
        let (code, stdout, stderr) = output(args);
        assert_ne!(code, 0, "{args:?}");
        assert!(stderr.contains(part), "{args:?}: {stderr}");
        assert!(stdout.is_empty(), "{args:?}: {stdout}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_run_reports_text_json_and_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let good = Responder::start(|_| status(200));
    let (json, acks) = (path("json"), path("acks"));
    let (code, stdout, stderr) = output(&[
        "run",
        "--target",
        &good.url(),
        "--requests",
        "50",
        "--connections",
        "2",
        "--acks",
        &acks,
        "--json",
        &json,
        "--expect-all-ok",
        "--run",
        "abc",
    ]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("50 sent, 50 answered"), "{stdout}");
    assert!(stdout.contains("status         200: 50"), "{stdout}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["statuses"]["200"], 50);
    assert_eq!(report["run"], "00000abc");

    let other = Responder::start(|_| status(204));
    let url = other.url();
    let args = [
        "run",
        "--target",
        &url,
        "--requests",
        "5",
        "--expect-all-ok",
    ];
    assert_eq!(output(&args).0, 1);
    let (code, _, stderr) = output(&[&args[..], &["--ok", "200,202,204"]].concat());
    assert_eq!(code, 0, "{stderr}");
    let (code, _, stderr) = output(&[&args[..], &["--ok", "200,404"]].concat());
    assert_eq!(code, 2);
    assert!(
        stderr.contains("a status must be between 200 and 399, not 404"),
        "{stderr}"
    );

    let busy = Responder::start(|_| status(503));
    let args = ["run", "--target", &busy.url(), "--requests", "5"];
    assert_eq!(output(&args).0, 0);
    let (code, _, stderr) = output(&[&args[..], &["--expect-all-ok"]].concat());
    assert_eq!(code, 1);
    assert!(
        stderr.contains("not every request was answered 200"),
        "{stderr}"
    );

    // Every answer is 200, and most requests find no free connection.
    let slow = Responder::start(|_| {
        std::thread::sleep(std::time::Duration::from_millis(600));
        status(200)
    });
    let url = slow.url();
    let args = ["run", "--target", &url, "--rate", "20", "--duration", "1"];
    let more = ["--connections", "1", "--expect-all-ok"];
    let (code, stdout, stderr) = output(&[&args[..], &more].concat());
    assert_eq!(code, 1, "{stdout}");
    assert!(stderr.contains("of 20 failed"), "{stderr}");
    assert!(stderr.contains("of these never sent"), "{stderr}");

    let silent = Responder::start(|_| crate::responder::Action::Reset);
    let args = ["run", "--target", &silent.url(), "--requests", "3"];
    let (code, _, stderr) = output(&args);
    assert_eq!(code, 1);
    assert!(stderr.contains("no request was answered"), "{stderr}");
}

#[test]
fn ctrl_c_ends_a_run_with_the_report_so_far() {
    let server = Responder::start(|_| status(200));
    let mut child = program(&["run", "--target", &server.url(), "--duration", "3600"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("answered"), "{line}");
    signal(&child, "-INT");
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert!(stdout.contains("(ended early)"), "{stdout}");
}

#[test]
fn an_emulator_writes_its_ledger_on_a_signal() {
    for end in ["-INT", "-TERM"] {
        let dir = tempfile::tempdir().unwrap();
        let ledger = dir.path().join("ledger");
        let mut child = program(&["kinesis", "--listen", "127.0.0.1:0", "--ledger"])
            .arg(&ledger)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addr = line.trim().strip_prefix("listening on ").unwrap();
        let id = "lt-00000001-000000000009";
        let data = base64_simd::STANDARD.encode_to_string(id.as_bytes());
        let body = format!(
            r#"{{"StreamName":"clicks","Records":[{{"Data":"{data}","PartitionKey":"k"}}]}}"#
        );
        let target = "X-Amz-Target: Kinesis_20131202.PutRecords";
        let reply = sluice_loadtest::wire::post(addr, "/", &[target], body.as_bytes()).unwrap();
        assert_eq!(reply.status, 200);
        signal(&child, end);
        assert!(child.wait().unwrap().success());
        let written = std::fs::read_to_string(&ledger).unwrap();
        assert_eq!(written, format!("{STORED_HEADER}\n{id}\nend\n"));
    }
}

#[test]
fn an_audit_judges_by_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let acks = file(
        "acks",
        format!("{ACKS_HEADER}\nrun 00000001 1763000000 web\n00000001 000000000000 2 0 200\n"),
    );
    let whole = file(
        "whole",
        format!("{STORED_HEADER}\nlt-00000001-000000000000\nlt-00000001-000000000001\n"),
    );
    let part = file(
        "part",
        format!("{STORED_HEADER}\nlt-00000001-000000000000\n"),
    );
    let json = dir.path().join("json");
    let (code, stdout, _) = output(&["audit", "--acks", &acks, "--ledger", &whole]);
    assert_eq!(code, 0);
    assert!(stdout.contains("LOST               0"), "{stdout}");
    let (code, stdout, _) = output(&[
        "audit",
        "--acks",
        &acks,
        "--ledger",
        &part,
        "--json",
        json.to_str().unwrap(),
    ]);
    assert_eq!(code, 1);
    assert!(
        stdout.contains("LOST               1\n    lt-00000001-000000000001"),
        "{stdout}"
    );
    let report: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&report["lost"], &report["acked"]), (&1.into(), &2.into()));
}

#[test]
fn a_stopped_generator_reports_a_starved_machine() {
    let server = Responder::start(|_| status(200));
    let mut child = program(&["run", "--target", &server.url(), "--duration", "3"])
        .args(["--rate", "100"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    // It stands still, and the server does not.
    signal(&child, "-STOP");
    std::thread::sleep(std::time::Duration::from_millis(500));
    signal(&child, "-CONT");
    let mut stdout = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut stdout)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert!(stdout.contains("THE MACHINE WAS STARVED"), "{stdout}");
    assert!(!stdout.contains("BOTTLENECK"), "{stdout}");
    assert!(!stdout.contains("target answered too slowly"), "{stdout}");
}
