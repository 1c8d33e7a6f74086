//! The search for the highest rate, against a server whose limit is known.

use crate::command_line::{output, program, signal};
use crate::responder::{Action, Responder, closed_port, status};
use sluice_loadtest::event_id::IdScanner;
use sluice_loadtest::find_max::{FOUND_FORMAT, Found, Limit, Verdict};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::sync::Mutex;

/// Requests of one run that are answered 200; the others get 503. With probes of a second the limit is
/// that many requests per second, however fast the machine is.
const LIMIT: u64 = 300;

fn limited() -> Responder {
    let counts: Mutex<HashMap<u32, u64>> = Mutex::default();
    Responder::start(move |request| {
        let id = IdScanner::default().ids(&request.body)[0];
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(id.run).or_default();
        *count += 1;
        status(if *count <= LIMIT { 200 } else { 503 })
    })
}

fn search(url: &str, more: &[&str]) -> (i32, String, String, Option<Found>) {
    let json = tempfile::NamedTempFile::new().unwrap();
    let fixed = [
        "find-max",
        "--target",
        url,
        "--connections",
        "16",
        "--seconds",
        "1",
        "--pause",
        "0",
        "--json",
        json.path().to_str().unwrap(),
    ];
    let (code, stdout, stderr) = output(&[&fixed[..], more].concat());
    let found = serde_json::from_slice(&std::fs::read(json.path()).unwrap()).ok();
    (code, stdout, stderr, found)
}

#[test]
fn the_limit_of_a_server_is_found_and_confirmed() {
    let server = limited();
    let more = [
        "--slo",
        "errors<10%",
        "--from",
        "100",
        "--confirm",
        "1",
        "--precision",
        "10",
    ];
    let (code, stdout, stderr, found) = search(&server.url(), &more);
    assert_eq!(code, 0, "{stdout}{stderr}");
    let found = found.unwrap();
    assert_eq!(found.format, FOUND_FORMAT);
    let highest = found.highest.unwrap();
    // Ten in a hundred may be refused: 333 of which 300 are answered.
    assert!((200.0..334.0).contains(&highest), "{stdout}");
    let last = found.probes.last().unwrap();
    assert!(last.confirmation && last.verdict == Verdict::Met);
    assert_eq!(last.rate, highest);
    let told = stdout.lines().filter(|line| line.contains("/s  "));
    assert_eq!(told.count(), found.probes.len(), "{stdout}");
    assert!(stdout.contains(&format!(
        "highest        {highest:.0} requests/s meet errors<10%"
    )));
}

#[test]
fn too_few_connections_are_named() {
    let server = Responder::start(|_| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        status(200)
    });
    let more = ["--slo", "errors<1%", "--from", "2", "--confirm", "0"];
    let few = ["--connections", "1", "--timeout", "20", "--precision", "50"];
    let url = server.url();
    let fixed = [
        "find-max",
        "--target",
        &url,
        "--seconds",
        "1",
        "--pause",
        "0",
    ];
    let (_, stdout, _) = output(&[&fixed[..], &more, &few].concat());
    assert!(
        stdout.contains("waited for one of 1 connections"),
        "{stdout}"
    );
}

#[test]
fn a_search_that_reaches_its_highest_rate_says_so() {
    let server = limited();
    let more = [
        "--slo",
        "errors<50%",
        "--from",
        "50",
        "--to",
        "100",
        "--confirm",
        "0",
    ];
    let (code, stdout, _, found) = search(&server.url(), &more);
    assert_eq!(code, 0, "{stdout}");
    let found = found.unwrap();
    assert_eq!((found.highest, found.limit), (Some(100.0), Limit::Range));
    assert!(stdout.contains("no more was asked for"), "{stdout}");
}

#[test]
fn an_unmet_objective_exits_with_code_1() {
    let server = Responder::start(|_| status(500));
    let more = ["--slo", "errors<1%", "--from", "4", "--confirm", "0"];
    let (code, stdout, stderr, found) = search(&server.url(), &more);
    assert_eq!(code, 1, "{stdout}");
    assert!(stdout.contains("no rate meets errors<1%"), "{stdout}");
    assert!(stderr.contains("no rate was found"), "{stderr}");
    let found = found.unwrap();
    assert_eq!((found.highest, found.unconfirmed), (None, None));
    assert_eq!(found.probes.last().unwrap().rate, 1.0);
}

#[test]
fn unanswered_requests_miss_a_p99_objective() {
    let counts: Mutex<HashMap<u32, u64>> = Mutex::default();
    // At once, so that what was measured until then is far below the limit.
    let server = Responder::start(move |request| {
        let id = IdScanner::default().ids(&request.body)[0];
        let mut counts = counts.lock().unwrap();
        let count = counts.entry(id.run).or_default();
        *count += 1;
        match *count % 10 {
            1 => Action::Reset,
            _ => status(200),
        }
    });
    let more = ["--slo", "p99<30s", "--from", "50", "--confirm", "0"];
    let (code, stdout, _, found) = search(&server.url(), &more);
    assert_eq!(code, 1, "{stdout}");
    assert!(stdout.contains("p99 without an answer > 30s"), "{stdout}");
    // Whose limit it was is the machine's to say: a starved one is named instead of the target.
    assert_eq!(found.unwrap().highest, None);
}

#[test]
fn bad_objectives_and_ranges_are_refused_in_one_line() {
    let closed = closed_port();
    let target = format!("http://{closed}");
    let said = format!("cannot connect to {closed}");
    for (more, code, part) in [
        (&["--slo", "p98<5ms"][..], 2, "\"p98\" is none of"),
        (&["--slo", "p99<5"], 2, "us, ms or s"),
        (
            &["--slo", "p99<5ms", "--from", "0"],
            2,
            "from must be between 1",
        ),
        (
            &["--slo", "p99<5ms", "--to", "10"],
            2,
            "to must be between 1000",
        ),
        (
            &["--slo", "p99<5ms", "--confirm", "21"],
            2,
            "between 0 and 20, not 21",
        ),
        (
            &["--slo", "p99<5ms", "--precision", "0"],
            2,
            "precision (percent) must be",
        ),
        (&["--slo", "p99<5ms"], 1, said.as_str()),
    ] {
        let (actual, stdout, stderr, _) = search(&target, more);
        assert_eq!(actual, code, "{more:?}: {stderr}");
        assert!(stderr.contains(part), "{more:?}: {stderr}");
        assert!(stdout.is_empty());
    }
}

#[test]
fn ctrl_c_ends_a_search_with_the_probes_so_far() {
    let server = limited();
    let mut child = program(&["find-max", "--target", &server.url(), "--slo", "errors<10%"])
        .args(["--from", "10", "--seconds", "1", "--pause", "3600"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert!(line.contains("10/s  met"), "{line}");
    signal(&child, "-INT");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(rest.contains("10 requests/s met it once"), "{rest}");
    assert!(rest.contains("the search was interrupted"), "{rest}");
}
