//! Clients with the patience of published SDKs, against a server that says no as it is told. When they send is tested
//! with a virtual clock, beside the code.

use crate::command_line::output;
use crate::responder::{Action, Responder, closed_port, status};
use sluice_loadtest::audit::{Source, audit};
use sluice_loadtest::event_id::IdScanner;
use sluice_loadtest::ledger::STORED_HEADER;
use sluice_loadtest::patience::{Options, Report, named, play};
use sluice_loadtest::run::Target;
use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::tempdir;

/// Ten events of each client in a tenth of a second.
fn options(url: &str, clients: &[&str]) -> Options {
    Options {
        target: Target::parse(url).unwrap(),
        clients: clients.iter().map(|name| named(name).unwrap()).collect(),
        events: 10,
        duration: Duration::from_millis(100),
        settle: Duration::from_secs(60),
        acks: None,
        run: 0x00c1_0000,
    }
}

fn played(options: &Options) -> Report {
    play(options, &Arc::new(AtomicBool::new(false))).unwrap()
}

/// Acknowledged, given up and held by each client.
fn outcomes(report: &Report) -> Vec<(u64, u64, u64)> {
    let of = report.clients.iter();
    of.map(|of| (of.counts.acked, of.counts.given_up, of.held))
        .collect()
}

fn acks_in(dir: &tempfile::TempDir) -> Option<PathBuf> {
    Some(dir.path().join("acks"))
}

#[test]
fn a_client_that_retries_outlasts_a_503() {
    let seen = Mutex::new(HashSet::new());
    let server = Responder::start(move |request| {
        let ids = IdScanner::default().ids(&request.body);
        let mut seen = seen.lock().unwrap();
        match ids.iter().filter(|id| seen.insert(**id)).count() {
            0 => status(200),
            _ => status(503),
        }
    });
    let dir = tempdir().unwrap();
    let options = Options {
        acks: acks_in(&dir),
        ..options(&server.url(), &["boto3", "mixpanel-node"])
    };
    let report = played(&options);
    assert_eq!(outcomes(&report), [(10, 0, 0), (0, 10, 0)]);
    assert_eq!(
        report.clients[0].tries,
        [("200".to_owned(), 1), ("503".to_owned(), 1)].into()
    );
    assert_eq!(report.clients[1].tries, [("503".to_owned(), 10)].into());
    // Nothing is stored: what the one client believes is a loss.
    let stored = dir.path().join("stored");
    fs::write(&stored, format!("{STORED_HEADER}\nend\n")).unwrap();
    let audit = audit(&[options.acks.unwrap()], &Source::Ledger(stored)).unwrap();
    assert_eq!(
        (audit.sent, audit.acked, audit.lost, audit.failed),
        (20, 10, 10, 10)
    );
    assert_eq!(audit.open_acks, 0);
    let profiles: Vec<&str> = audit
        .profiles
        .iter()
        .map(|of| of.profile.as_str())
        .collect();
    assert_eq!(profiles, ["boto3", "mixpanel-node"]);
}

#[test]
fn resets_and_refused_connections_are_told_apart() {
    let server = Responder::start(|_| Action::Reset);
    let report = played(&options(&server.url(), &["mixpanel-node"]));
    assert_eq!(report.clients[0].tries, [("closed".to_owned(), 10)].into());
    let nobody = format!("http://{}", closed_port());
    let report = played(&options(&nobody, &["mixpanel-node"]));
    assert_eq!(report.clients[0].tries, [("refused".to_owned(), 10)].into());
    assert_eq!(outcomes(&report), [(0, 10, 0)]);
}

#[test]
fn events_that_were_never_sent_are_in_the_ledger() {
    let server = Responder::start(|_| status(200));
    let dir = tempdir().unwrap();
    let options = Options {
        acks: acks_in(&dir),
        // It would send after 10 s.
        settle: Duration::ZERO,
        ..options(&server.url(), &["amplitude-node"])
    };
    let report = played(&options);
    let held = report.clients[0].held;
    assert_eq!(held, report.clients[0].counts.produced);
    let stored = dir.path().join("stored");
    fs::write(&stored, format!("{STORED_HEADER}\nend\n")).unwrap();
    let audit = audit(&[options.acks.unwrap()], &Source::Ledger(stored)).unwrap();
    assert_eq!((audit.sent, audit.unanswered), (held, held));
}

#[test]
fn a_shutdown_call_sends_what_was_kept() {
    // Until the last event has come, and no other one will follow.
    let last = AtomicBool::new(false);
    let server = Responder::start(move |request| {
        let ids = IdScanner::default().ids(&request.body);
        let is_last = ids.iter().any(|id| id.seq == 9);
        match last.load(Ordering::SeqCst) {
            true => status(200),
            false => {
                last.store(is_last, Ordering::SeqCst);
                status(503)
            }
        }
    });
    let report = played(&options(&server.url(), &["snowplow-node"]));
    assert_eq!(outcomes(&report), [(10, 0, 0)]);
}

#[test]
fn unknown_clients_and_paths_are_bad_arguments() {
    let to = "http://127.0.0.1:1";
    for (args, part) in [
        (
            &["--target", to, "--clients", "netscape"][..],
            "no such client; there are segment-node",
        ),
        (&["--target", "http://127.0.0.1:1/x"], "leave out /x"),
        (&["--target", "https://127.0.0.1:1"], "no TLS here"),
        (&["--target", to, "--events", "100001"], "1..=100000"),
        (&["--target", to, "--duration", "0"], "1..=86400"),
    ] {
        let (code, _, stderr) = output(&[&["patience"], args].concat());
        assert_eq!(code, 2, "{args:?}");
        assert!(stderr.contains(part), "{stderr}");
    }
}
