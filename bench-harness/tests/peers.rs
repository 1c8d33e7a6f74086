//! `sluice-bench peers` as a process, with a generator and servers that are made up, so that it is
//! known what has to come of them.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

/// A generator that sends nothing and reports 10 answers of 200 with that many events accepted.
fn generator(events_ok: u32) -> String {
    format!(
        r#"#!/bin/sh
for word in "$@"; do
  case "$word" in --json=*) report="${{word#--json=}}" ;; esac
done
cat > "$report" <<END
{{"sent":10,"answered":10,"statuses":{{"200":10}},"events_ok":{events_ok},"events_refused":0,
  "answered_per_second":10.0,"latency_from_start":{{"p50_us":1.0,"p99_us":2.0}},
  "generator":{{"cpu_us_per_request":1.0,"is_bottleneck":false}}}}
END
"#
    )
}

/// One workload of two events per request, the floor, and the rows given.
fn folder(generator: &str, rows: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["bin", "peers", "workloads"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    let program = dir.path().join("bin/sluice-loadtest");
    fs::write(&program, generator).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    symlink(
        env!("CARGO_BIN_EXE_limit-responder"),
        dir.path().join("bin/limit-responder"),
    )
    .unwrap();
    fs::write(
        dir.path().join("workloads/pair.toml"),
        "connections = 1\nmode = 'event'\nbatch = 2\nevent_bytes = 800\n\
         [expect]\naccepted = 2\nrejected = 0\n",
    )
    .unwrap();
    let floor = ("limit", FLOOR);
    for (name, row) in rows.iter().chain([&floor]) {
        fs::write(dir.path().join(format!("peers/{name}.toml")), row).unwrap();
    }
    dir
}

const FLOOR: &str = "about = 'the floor'\nstop = { signal = 'KILL' }\n\
                     run = ['{bin}/limit-responder', '127.0.0.1:{port}', '1']\n";

/// Counts its requests; the made-up generator sends none.
const COUNTING: &str = "about = 'counts'\nstop = { signal = 'KILL' }\n\
    run = ['{bin}/limit-responder', '127.0.0.1:{port}', '1', '127.0.0.1:{stats}']\n\
    [[counters]]\ncounts = 'requests'\npage = '{stats}/'\njson = 'requests'\n";

const GONE: &str = "about = 'x'\nrun = ['{gone}']\nprograms = { gone = ['{tools}/gone'] }\n";

fn bench(dir: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice-bench"))
        .arg("peers")
        .args(["--bin", "bin", "--peers", "peers"])
        .args(["--workloads", "workloads", "--tools", "tools"])
        .args(more)
        .current_dir(dir)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn correct_counts_give_a_figure_and_missing_programs_skip() {
    let dir = folder(&generator(20), &[("gone", GONE)]);
    let output = bench(dir.path(), &["--out", "record"]);
    let (table, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(table.contains("| pair | limit | 10 |"), "{table}");
    assert!(said.contains("gone is skipped: no program gone"), "{said}");
    for file in ["record.json", "record.md"] {
        let record = fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(record.contains("no program gone"), "{file}: {record}");
    }
}

#[test]
fn wrong_counts_give_no_figure_and_exit_code_1() {
    let dir = folder(&generator(19), &[]);
    let output = bench(dir.path(), &[]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    let line =
        "| pair | limit | no figure: pair against limit: 20 events had to be accepted, 19 were |";
    assert!(table.contains(line), "{table}");
}

#[test]
fn a_peer_missing_answered_requests_gets_no_figure() {
    let dir = folder(&generator(20), &[("counting", COUNTING)]);
    let output = bench(dir.path(), &[]);
    let table = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        table.contains("10 requests were expected, its counter went from 0 to 0"),
        "{table}"
    );
    assert!(table.contains("| pair | limit | 10 |"), "{table}");
}

/// A peer that is the floor, in front of a backend that writes a ledger of this many events when asked to end.
fn drained(events: u32) -> String {
    let script = format!(
        "trap \"(echo kind; seq {events}; echo end) > {{dir}}/ledger; exit\" TERM; '{{bin}}/limit-responder' 127.0.0.1:{{aux}} 1 & \
         while :; do sleep 0.05; done"
    );
    format!(
        "about = 'x'\nbackend = ['sh', '-c', '''{script}''']\nrun = ['{{bin}}/limit-responder', '127.0.0.1:{{port}}', '1']\n\
             [drained]\nledger = '{{dir}}/ledger'\n"
    )
}

#[test]
fn the_backend_must_hold_all_accepted_events() {
    for (stored, code) in [(20, 0), (19, 1), (21, 1)] {
        let row = drained(stored);
        let dir = folder(&generator(20), &[("late", &row)]);
        let output = bench(dir.path(), &["--rounds", "1"]);
        let (table, said) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{table}{said}");
        if code == 1 {
            let line = format!(
                "| pair | late | no figure: late: 20 events were accepted, its backend holds {stored} in the end |"
            );
            assert!(table.contains(&line), "{table}");
        }
    }
}

#[test]
fn a_broken_row_exits_with_code_1() {
    let dir = folder(&generator(20), &[("odd", "about = 'x'\nrun = []\n")]);
    let output = bench(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "sluice-bench: peers/odd.toml: run is empty\n"
    );
}

#[test]
fn bad_arguments_are_exit_code_2() {
    let dir = folder(&generator(20), &[]);
    for (more, limit) in [
        (&["--rounds", "0"], "1..=1000"),
        (&["--seconds", "3601"], "1..=3600"),
    ] {
        let output = bench(dir.path(), more);
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(text(&output.stderr).contains(limit), "{more:?}");
    }
}

#[test]
fn unknown_names_are_errors_that_list_the_known_ones() {
    let dir = folder(&generator(20), &[("counting", COUNTING)]);
    for (more, said) in [
        (
            &["--only", "nothing"][..],
            "no workload's name contains \"nothing\"; there are pair",
        ),
        (
            &["--peer", "nosuch"],
            "no peer's name contains \"nosuch\"; there are counting, limit",
        ),
        // One that is known does not excuse another that is not.
        (
            &["--peer", "counting", "--peer", "nosuch"],
            "no peer's name contains \"nosuch\"",
        ),
    ] {
        let output = bench(dir.path(), more);
        assert_eq!(output.status.code(), Some(1), "{more:?}");
        assert!(text(&output.stderr).contains(said), "{more:?}");
        assert!(output.stdout.is_empty(), "{more:?}");
    }
    fs::write(dir.path().join("bin/old.json"), "{}").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice-bench"))
        .args(["micro", "--folder", "bin", "--compare", "nosuch"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("no baseline \"nosuch\" in bin; there are old"),
        "{said}"
    );
}
