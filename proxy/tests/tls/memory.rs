//! What a connection at rest holds.

use super::support::{Files, connect};
use std::env;
use std::fs;
use std::process::Command;

/// A resting connection may hold 24 KiB with everything; this is the session's part of it. Of the 7.4 KiB measured,
/// 4 are the library's buffer for the next record.
const BYTES_MAX: usize = 12 * 1024;

const SESSIONS: usize = 2_000;

/// Set where the measurement runs: in a process of its own, as other tests would be counted too.
const MEASURE: &str = "SLUICE_TEST_MEASURE";

fn resident_bytes() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = pages.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

#[test]
fn a_resting_tls_session_holds_at_most_12_kib() {
    if env::var_os(MEASURE).is_some() {
        return measure();
    }
    let measured = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "memory::a_resting_tls_session_holds_at_most_12_kib",
            "--nocapture",
        ])
        .env(MEASURE, "1")
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&measured.stdout);
    assert!(measured.status.success(), "{shown}");
}

fn measure() {
    let files = Files::one();
    let tls = files.load();
    let client = files.client().alpn(&["http/1.1"]).build();
    let rest = || {
        let mut connection = connect(&tls, &client, "a.example").unwrap();
        connection.say(&[b'e'; 1024]);
        connection.answer(&[b'a'; 200]);
        // As at rest: a read that finds nothing.
        let read =
            connection
                .session
                .poll_read(&super::support::cx(), &connection.wire, &mut [0; 16]);
        assert!(read.is_pending());
        connection.session
    };
    // What the process and its allocator need anyway.
    drop((0..100).map(|_| rest()).collect::<Vec<_>>());
    let before = resident_bytes();
    let sessions: Vec<_> = (0..SESSIONS).map(|_| rest()).collect();
    let each = resident_bytes().saturating_sub(before) / sessions.len();
    assert!(
        (1..=BYTES_MAX).contains(&each),
        "{each} bytes a session, at most {BYTES_MAX}"
    );
}
