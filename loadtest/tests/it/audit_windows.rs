//! The audit by run, profile and time, and its proof through the real program.

use crate::command_line::{output, program, signal};
use crate::responder::{Responder, status};
use serde_json::{Value, json};
use sluice_loadtest::audit::{
    AuditError, AuditReport, Counts, Source, WINDOWS_MAX, audit, audit_by_window,
};
use sluice_loadtest::ledger::{
    ACKS_HEADER, ACKS_HEADER_V1, AckLine, STORED_HEADER, read_ack_lines,
};
use sluice_loadtest::wire;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

fn file(dir: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn stored(dir: &TempDir, ids: &[(u32, u64)]) -> Source {
    let lines: String = ids
        .iter()
        .map(|(run, seq)| format!("lt-{run:08x}-{seq:012x}\n"))
        .collect();
    Source::Ledger(file(dir, "stored", &format!("{STORED_HEADER}\n{lines}")))
}

fn by_window(acks: &[&Path], source: &Source, seconds: u32) -> Result<AuditReport, AuditError> {
    audit_by_window(acks, source, NonZeroU32::new(seconds))
}

#[test]
fn what_was_lost_is_told_by_run_profile_and_window() {
    let dir = tempfile::tempdir().unwrap();
    // The second run began 5 s after the first.
    let web = file(
        &dir,
        "web",
        &format!(
            "{ACKS_HEADER}\nrun 00000001 1000 web\n\
             00000001 000000000000 2 0 200\n\
             00000001 000000000002 2 9 200\n\
             00000001 000000000004 2 10 413\n\
             00000001 000000000006 1 10 - timeout\n"
        ),
    );
    let mobile = file(
        &dir,
        "mobile",
        &format!(
            "{ACKS_HEADER}\nrun 00000002 1005 mobile\n\
             00000002 000000000000 3 4 200 1\n\
             00000002 000000000003 1 5 200\n"
        ),
    );
    // Lost: 1/1, 2/2. Stored though refused: 1/4, 2/1. Twice: 1/2. Foreign: 1/9, 3/0.
    let source = stored(
        &dir,
        &[
            (1, 0),
            (1, 2),
            (1, 2),
            (1, 3),
            (1, 4),
            (1, 9),
            (2, 0),
            (2, 1),
            (2, 3),
            (3, 0),
        ],
    );
    let report = by_window(&[&web, &mobile], &source, 10).unwrap();
    assert_eq!((report.lost, report.refused_stored), (2, 2));
    assert_eq!(report.foreign_copies, 2);
    let short = |counts: &Counts| {
        [
            counts.sent,
            counts.acked,
            counts.lost,
            counts.refused_stored,
            counts.duplicated,
        ]
    };
    let runs: Vec<_> = report
        .runs
        .iter()
        .map(|run| (run.run.as_str(), run.profile.as_deref(), short(&run.counts)))
        .collect();
    assert_eq!(
        runs,
        [
            ("00000001", Some("web"), [7, 4, 1, 1, 1]),
            ("00000002", Some("mobile"), [4, 3, 1, 1, 0]),
        ]
    );
    let profiles: Vec<_> = report
        .profiles
        .iter()
        .map(|row| (row.profile.as_str(), short(&row.counts)))
        .collect();
    assert_eq!(
        profiles,
        [("mobile", [4, 3, 1, 1, 0]), ("web", [7, 4, 1, 1, 1])]
    );
    let windows: Vec<_> = report
        .windows
        .iter()
        .map(|row| {
            (
                row.from_s,
                row.from,
                row.profile.as_str(),
                short(&row.counts),
            )
        })
        .collect();
    assert_eq!(
        windows,
        [
            (0, 1000, "mobile", [3, 2, 1, 1, 0]),
            (0, 1000, "web", [4, 4, 1, 0, 1]),
            (10, 1010, "mobile", [1, 1, 0, 0, 0]),
            (10, 1010, "web", [3, 0, 0, 1, 0]),
        ]
    );
    assert_eq!(report.windows[3].counts.unanswered, 1);
    let without = audit(&[&web, &mobile], &source).unwrap();
    assert_eq!((without.window_s, without.windows.len()), (None, 0));
    assert_eq!(without.runs, report.runs);
}

#[test]
fn an_event_acked_twice_counts_where_it_came_first() {
    let dir = tempfile::tempdir().unwrap();
    let acks = file(
        &dir,
        "acks",
        &format!(
            "{ACKS_HEADER}\nrun 00000001 1000 web\n\
             00000001 000000000000 1 0 503\n00000001 000000000000 1 7 200\n"
        ),
    );
    let report = by_window(&[&acks], &stored(&dir, &[]), 1).unwrap();
    assert_eq!((report.sent, report.acked, report.lost), (1, 1, 1));
    let rows: Vec<_> = report.windows.iter().map(|row| row.counts.lost).collect();
    assert_eq!(rows, [1, 0]);
}

#[test]
fn v1_ack_files_are_audited_without_windows() {
    let dir = tempfile::tempdir().unwrap();
    let acks = file(
        &dir,
        "acks",
        &format!("{ACKS_HEADER_V1}\n00000001 000000000000 2 200\n"),
    );
    let source = stored(&dir, &[(1, 0)]);
    let report = audit(&[&acks], &source).unwrap();
    assert_eq!((report.acked, report.lost), (2, 1));
    assert_eq!(report.runs[0].profile, None);
    assert!(report.to_string().contains("00000001 (not told)"));
    let error = by_window(&[&acks], &source, 1).unwrap_err().to_string();
    assert!(error.contains("has no times"), "{error}");
}

#[test]
fn a_repeated_run_number_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let acks = |name: &str, start: u32| {
        let text =
            format!("{ACKS_HEADER}\nrun 00000001 {start} web\n00000001 000000000000 1 0 200\n");
        file(&dir, name, &text)
    };
    let source = stored(&dir, &[(1, 0)]);
    let error = audit(&[acks("a", 1), acks("b", 2)], &source).unwrap_err();
    assert!(
        error.to_string().contains("run 00000001 is in another"),
        "{error}"
    );
    assert!(audit(&[acks("a", 1), acks("b", 1)], &source).is_ok());
}

#[test]
fn windows_over_the_limit_are_refused_with_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = format!("{ACKS_HEADER}\nrun 00000001 1 web\n");
    for second in 0..=WINDOWS_MAX {
        writeln!(text, "00000001 {second:012x} 1 {second} 200").unwrap();
    }
    let acks = file(&dir, "acks", &text);
    let source = stored(&dir, &[]);
    let error = by_window(&[&acks], &source, 1).unwrap_err().to_string();
    assert!(error.contains("more than 100000 windows"), "{error}");
    let report = by_window(&[&acks], &source, 2).unwrap();
    let sum: u64 = report.windows.iter().map(|row| row.counts.lost).sum();
    assert_eq!((report.windows.len(), sum), (50_001, 100_001));
}

/// A Kinesis emulator as a process of its own.
struct EmulatorProcess {
    child: Child,
    addr: String,
}

impl EmulatorProcess {
    fn start(args: &[&str]) -> EmulatorProcess {
        let mut child = program(&["kinesis", "--listen", "127.0.0.1:0", "--no-shard-limits"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let addr = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .to_owned();
        EmulatorProcess { child, addr }
    }

    fn end(&mut self) {
        signal(&self.child, "-TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for EmulatorProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_audit_finds_exactly_the_dropped_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (acks, ledger, report) = (path("acks"), path("ledger"), path("report"));
    let mut emulator = EmulatorProcess::start(&["--drop-acked", "3/40", "--ledger", &ledger]);
    let addr = emulator.addr.clone();
    // Answers 200 exactly when the stream says that it has the record.
    let collector = Responder::start(move |request| {
        let data = base64_simd::STANDARD.encode_to_string(&request.body);
        let body = json!({
            "StreamName": "clicks",
            "Records": [{"Data": data, "PartitionKey": request.number.to_string()}],
        });
        let target = "X-Amz-Target: Kinesis_20131202.PutRecords";
        let reply = wire::post(&addr, "/", &[target], body.to_string().as_bytes()).unwrap();
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        let stored = answer["Records"][0]["SequenceNumber"].is_string();
        status(if stored { 200 } else { 503 })
    });
    let (code, _, stderr) = output(&[
        "run",
        "--target",
        &collector.url(),
        "--rate",
        "400",
        "--requests",
        "600",
        "--connections",
        "4",
        "--acks",
        &acks,
        "--run",
        "e2e",
    ]);
    assert_eq!(code, 0, "{stderr}");
    let stats = wire::get(&emulator.addr, "/_stats").unwrap();
    let stats: Value = serde_json::from_slice(&stats.body).unwrap();
    let dropped = stats["dropped_acked"].as_u64().unwrap();
    assert_eq!(dropped, 600 / 40 * 3, "the fault takes exactly K of N");
    emulator.end();
    let (code, stdout, _) = output(&[
        "audit", "--acks", &acks, "--ledger", &ledger, "--window", "1", "--json", &report,
    ]);
    assert_eq!(code, 1);
    assert!(stdout.contains("run and profile"), "{stdout}");
    assert!(stdout.contains("started within"), "{stdout}");
    let found: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!(found["lost"].as_u64(), Some(dropped));
    assert_eq!(
        (&found["sent"], &found["acked"]),
        (&600.into(), &600.into())
    );
    assert_eq!(found["duplicated"], 0);
    assert_eq!(found["runs"][0]["run"], "00000e2e");
    let windows = found["windows"].as_array().unwrap();
    assert!(
        windows.len() >= 2,
        "600 requests at 400/s take more than a second"
    );
    for (field, total) in [
        ("lost", dropped),
        ("sent", 600),
        ("acked_stored", 600 - dropped),
    ] {
        let sum: u64 = windows.iter().map(|row| row[field].as_u64().unwrap()).sum();
        assert_eq!(sum, total, "{field}");
    }
}

#[test]
fn a_window_of_no_length_is_a_bad_argument() {
    for window in ["0", "-1", "x", "1.5"] {
        let window = format!("--window={window}");
        let (code, _, stderr) = output(&["audit", "--acks", "a", "--ledger", "b", &window]);
        assert_eq!(code, 2, "{window}");
        assert!(stderr.contains("--window"), "{stderr}");
    }
}

#[test]
fn damaged_ledgers_are_reported_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| file(&dir, name, text).to_str().unwrap().to_owned();
    let head = format!("{ACKS_HEADER}\nrun 00000001 1 web\n");
    let good = path("good", &format!("{head}00000001 000000000000 1 0 200\n"));
    let whole = path(
        "whole",
        &format!("{STORED_HEADER}\nlt-00000001-000000000000\n"),
    );
    let damaged = path("damaged", &format!("{head}00000001 00000000 1 0 200\n"));
    let stranger = path(
        "stranger",
        &format!("{head}00000002 000000000000 1 0 200\n"),
    );
    let bare = path(
        "bare",
        &format!("{ACKS_HEADER}\n00000001 000000000000 1 0 200\n"),
    );
    let noise = path("noise", &format!("{STORED_HEADER}\nlt-00000001\n"));
    for (acks, stored, part) in [
        (&damaged, &whole, "damaged line 3: not a ledger line"),
        (
            &stranger,
            &whole,
            "stranger line 3: run 00000002 has no line",
        ),
        (&bare, &whole, "bare line 2: run 00000001 has no line"),
        (&good, &noise, "noise line 2: not a ledger line"),
        (&whole, &whole, "whole is no ledger: its first line is not"),
    ] {
        let (code, stdout, stderr) = output(&["audit", "--acks", acks, "--ledger", stored]);
        assert_eq!(code, 1, "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
        assert!(stderr.starts_with("sluice-loadtest: ") && stderr.lines().count() == 1);
        assert!(stdout.is_empty(), "{stdout}");
    }
    let cut = path(
        "cut",
        &format!("{head}00000001 000000000000 1 0 200\n00000001 0000"),
    );
    let (code, stdout, _) = output(&["audit", "--acks", &cut, "--ledger", &whole]);
    assert_eq!(code, 0);
    assert!(stdout.contains("cut ledgers        1"), "{stdout}");
}

#[test]
fn a_file_of_answers_names_the_traffic_that_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let acks = dir.path().join("acks");
    let collector = Responder::start(|_| status(200));
    let (code, _, stderr) = output(&[
        "run",
        "--target",
        &collector.url(),
        "--profile",
        "single",
        "--rate",
        "200",
        "--requests",
        "20",
        "--run",
        "7",
        "--acks",
        acks.to_str().unwrap(),
    ]);
    assert_eq!(code, 0, "{stderr}");
    let mut lines = Vec::new();
    let read = read_ack_lines(&acks, |line| lines.push(line)).unwrap();
    assert_eq!((lines.len(), read.timed, read.cut), (21, true, false));
    let AckLine::Run(run) = &lines[0] else {
        panic!("{:?}", lines[0]);
    };
    assert_eq!((run.run, run.profile.as_str()), (7, "single"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!((now.as_secs() - 600..=now.as_secs()).contains(&run.start));
}
