//! Clocks that read what no machine should, by a library that the dynamic linker puts in front of the
//! system's.

use crate::support::client::{Client, get, post};
use crate::support::event::{body, new_ids};
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use crate::support::stream::{emulator, stored};
use crate::support::wait_until;
use serde_json::Value;
use sluice_loadtest::kinesis::Faults;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// The wall clock reads the first second of the year 10000 while the file `LATE_CLOCK` exists. The
/// monotonic clock fails once when the file `BROKEN_CLOCK` exists, on which the standard library panics.
const CLOCKS: &str = r#"
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int before = errno;
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    const char *late = getenv("LATE_CLOCK"), *broken = getenv("BROKEN_CLOCK");
    if (clock == CLOCK_REALTIME && late && access(late, F_OK) == 0)
        now->tv_sec = 253402300800;
    if (clock == CLOCK_MONOTONIC && broken && unlink(broken) == 0) {
        errno = EINVAL;
        return -1;
    }
    errno = before;
    return result;
}
"#;

fn clocks(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("clocks.c"), dir.join("clocks.so"));
    fs::write(&source, CLOCKS).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.unwrap().success());
    library
}

/// A proxy on such clocks, and the file that makes one of them fail.
fn start(dir: &Path, settings: &str, clock: &str) -> (Proxy, PathBuf) {
    let (library, fails) = (clocks(dir), dir.join("fails"));
    let variables = [
        ("LD_PRELOAD", library.to_str().unwrap()),
        (clock, fails.to_str().unwrap()),
    ];
    (Proxy::start_with(dir, settings, &variables), fails)
}

#[test]
fn a_wall_clock_beyond_the_year_9999_ends_no_process() {
    let dir = tempdir().unwrap();
    // The writer signs calls again and again while the clock jumps.
    let stream = emulator(Faults {
        internal_error: 1.0,
        ..Faults::default()
    });
    let settings = to_kinesis(&stream.url()) + "ack = \"enqueued\"\nretry_cap_ms = 50\n";
    let (mut proxy, late) = start(dir.path(), &settings, "LATE_CLOCK");
    let mut kept = proxy.connect();
    let request = || post(EVENTS, body(&new_ids(1)));
    assert_eq!(kept.ask(request()).status, 200);

    fs::write(&late, "").unwrap();
    let message =
        "the wall clock reads a year beyond 9999, connections are closed until it does not";
    wait_until("a core notices", || !proxy.said(message).is_empty());
    let (mut new, mut admin) = (proxy.connect(), Client::connect(proxy.admin()));
    for client in [&mut kept, &mut new, &mut admin] {
        client.try_send(get("/metrics"));
        assert!(client.try_read().is_none());
    }
    // Some retries.
    std::thread::sleep(Duration::from_millis(300));

    fs::remove_file(&late).unwrap();
    assert_eq!(proxy.connect().ask(request()).status, 200);
    proxy.terminate();
    let status = proxy.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1), "the stream took nothing");
    // Released programs abort at a panic.
    assert_eq!(proxy.said("panicked"), [Value::Null; 0]);
    assert_eq!(stored(&stream).0.len(), 0);
}

#[test]
fn a_panic_is_one_json_line() {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data"));
    let (proxy, broken) = start(dir.path(), &settings, "BROKEN_CLOCK");
    fs::write(&broken, "").unwrap();
    wait_until("a thread panics", || !proxy.said("panicked").is_empty());
    let panicked = &proxy.said("panicked")[0];
    for field in ["panic", "location", "thread"] {
        assert!(panicked[field].is_string(), "{panicked}");
    }
    // Lines that are no JSON object are kept as a message alone.
    for entry in proxy.log() {
        assert!(entry["level"].is_string(), "{entry}");
    }
}
