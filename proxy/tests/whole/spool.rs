//! The spool in front of a stream that is away, hangs, throttles or refuses.

use crate::support::SmallDisk;
use crate::support::audit::{Sent, count_answered};
use crate::support::load::burst;
use crate::support::proxy::{Proxy, to_kinesis};
use crate::support::stream::{emulator, stored};
use crate::support::wait_until;
use sluice_loadtest::kinesis::{Emulator, Faults, Options};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// A stream with a spool in front of it; further keys of the spool may follow.
fn spooled(endpoint: &str, dir: &Path) -> String {
    let spool = dir.join("spool");
    format!(
        "{}[outputs.main.spool]\ndir = {spool:?}\nafter_ms = 200\n",
        to_kinesis(endpoint)
    )
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir.join("spool")).unwrap();
    found.map(|file| file.unwrap().path()).collect()
}

/// An address at which nobody listens yet.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn stream_at(listen: SocketAddr) -> Emulator {
    let options = Options {
        listen,
        shard_limits: false,
        ..Options::default()
    };
    Emulator::start(options).unwrap()
}

fn assert_all_200(sent: &[Sent]) {
    assert_eq!(count_answered(sent, 200), sent.len());
}

fn wait_for_replay(proxy: &Proxy) {
    wait_until("the spool is empty", || {
        let metrics = proxy.metrics();
        metrics.family("sluice_spool_waiting_bytes", "main") == 0
            && metrics.family("sluice_spool_disk_bytes", "main") == 0
    });
}

#[test]
fn an_ordinary_day_writes_nothing_to_the_spool() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    // Longer than a busy machine delays a call.
    let settings = spooled(&stream.url(), dir.path()).replace("= 200", "= 650");
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 4, 10);
    assert_all_200(&sent);
    let metrics = proxy.settled_metrics("main");
    assert_eq!(metrics.family("sluice_spool_bytes_total", "main"), 0);
    assert_eq!(files(dir.path()), [] as [PathBuf; 0]);
    let means = proxy.ready_json()["means"]["main"].to_string();
    assert!(means.contains("this host's disk"), "{means}");
    proxy.end_cleanly();
    stored(&stream).assert_exact(&sent);
}

#[test]
fn an_outage_is_answered_200_and_stored_once_it_ends() {
    let address = nobody();
    let dir = tempdir().unwrap();
    let settings = spooled(&format!("http://{address}"), dir.path());
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 8, 12);
    assert_all_200(&sent);
    let metrics = proxy.settled_metrics("main");
    let events: u64 = sent.iter().map(|sent| sent.ids.len() as u64).sum();
    assert_eq!(metrics.records("spooled_records_total", "main"), events);
    assert_eq!(
        metrics.family("sluice_spool_waiting_records", "main"),
        events
    );

    let stream = stream_at(address);
    wait_for_replay(&proxy);
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    // Nobody listened, so no first attempt was in doubt.
    assert_eq!(stored.duplicates(), 0);
    let metrics = proxy.metrics();
    let replayed = metrics.family("sluice_spool_replayed_records_total", "main");
    assert_eq!(replayed, events);
    proxy.end_cleanly();
    assert_eq!(files(dir.path()), [] as [PathBuf; 0]);
}

#[test]
fn a_hanging_stream_is_200_within_the_spools_time() {
    let stream = emulator(Faults {
        hang: 1.0,
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &spooled(&stream.url(), dir.path()));
    let sent = burst(proxy.address, EVENTS, 8, 6);
    assert_all_200(&sent);
    stream.set_faults(Faults::default()).unwrap();
    wait_for_replay(&proxy);
    stored(&stream).assert_truthful(&sent);
    proxy.end_cleanly();
}

#[test]
fn copies_of_a_lost_answer_are_counted() {
    // Records are stored, and the connection is reset before the answer.
    let stream = emulator(Faults {
        reset_after: 1.0,
        calls_max: Some(20),
        ..Faults::default()
    });
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &spooled(&stream.url(), dir.path()));
    let sent = burst(proxy.address, EVENTS, 4, 8);
    assert_all_200(&sent);
    proxy.settled_metrics("main");
    wait_for_replay(&proxy);
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    let metrics = proxy.metrics();
    let counted = metrics.unknown_retries("main")
        + metrics.family("sluice_spool_replayed_attempted_records_total", "main");
    assert!(counted > 0);
    proxy.end_cleanly();
}

#[test]
fn sigkill_in_an_outage_loses_no_acknowledged_event() {
    let address = nobody();
    let dir = tempdir().unwrap();
    let settings = spooled(&format!("http://{address}"), dir.path());
    let mut sent = Vec::new();
    for _ in 0..4 {
        let proxy = Proxy::start(dir.path(), &settings);
        sent.extend(burst(proxy.address, EVENTS, 4, 5));
        proxy.kill();
    }
    assert_all_200(&sent);
    let stream = stream_at(address);
    let proxy = Proxy::start(dir.path(), &settings);
    wait_for_replay(&proxy);
    stored(&stream).assert_truthful(&sent);
    proxy.end_cleanly();
}

#[test]
fn sigkill_under_replay_repeats_but_loses_nothing() {
    let address = nobody();
    let dir = tempdir().unwrap();
    let settings = spooled(&format!("http://{address}"), dir.path());
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 8, 30);
    assert_all_200(&sent);
    proxy.kill();
    let stream = Emulator::start(Options {
        listen: address,
        shard_limits: false,
        latency: Duration::from_millis(30),
        ..Options::default()
    })
    .unwrap();
    let proxy = Proxy::start(dir.path(), &settings);
    wait_until("some are replayed", || stream.stats().stored > 0);
    proxy.kill();
    let proxy = Proxy::start(dir.path(), &settings);
    wait_for_replay(&proxy);
    stored(&stream).assert_truthful(&sent);
    proxy.end_cleanly();
}

#[test]
fn a_drain_without_the_stream_keeps_events_and_says_so() {
    let address = nobody();
    let dir = tempdir().unwrap();
    let settings = spooled(&format!("http://{address}"), dir.path());
    let short = settings.clone() + "[drain]\ndeadline_ms = 2000\n";
    let mut proxy = Proxy::start(dir.path(), &short);
    let sent = burst(proxy.address, EVENTS, 4, 5);
    assert_all_200(&sent);
    proxy.terminate();
    assert_eq!(proxy.wait(Duration::from_secs(15)).code(), Some(1));
    let kept =
        "confirmed events stay in the spool on the disk of this host: the next start delivers them";
    assert!(proxy.said(kept)[0]["waiting_bytes"].as_u64() > Some(0));

    // The next start has no other work than that: it drains what is left.
    let stream = stream_at(address);
    let proxy = Proxy::start(dir.path(), &settings);
    proxy.end_cleanly();
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
}

#[test]
fn durable_events_go_to_the_disk_first() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let settings = spooled(&stream.url(), dir.path()).replace(
        "stream = \"clicks\"",
        "stream = \"clicks\"\nack = \"durable\"",
    );
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 4, 8);
    assert_all_200(&sent);
    let events: u64 = sent.iter().map(|sent| sent.ids.len() as u64).sum();
    let metrics = proxy.settled_metrics("main");
    assert_eq!(metrics.records("spooled_records_total", "main"), events);
    wait_for_replay(&proxy);
    stored(&stream).assert_exact(&sent);
    proxy.end_cleanly();
}

#[test]
fn a_full_spool_is_503_and_keeps_its_promises() {
    let address = nobody();
    let dir = tempdir().unwrap();
    let settings = spooled(&format!("http://{address}"), dir.path()) + "bytes_max = 65536\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 8, 60);
    let taken = count_answered(&sent, 200);
    assert!(taken > 0 && taken < sent.len(), "{taken} of {}", sent.len());
    assert_eq!(taken + count_answered(&sent, 503), sent.len());
    let metrics = proxy.settled_metrics("main");
    assert!(metrics.family("sluice_spool_disk_bytes", "main") <= 65_536);
    // Full is not broken.
    assert_eq!(metrics.family("sluice_spool_failing", "main"), 0);
    let stream = stream_at(address);
    wait_for_replay(&proxy);
    stored(&stream).assert_truthful(&sent);
    proxy.end_cleanly();
}

#[test]
fn a_failing_disk_leaves_the_destinations_word_until_it_works() {
    let dir = tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("spool"), 512) else {
        return;
    };
    let filler = disk.0.join(".filler");
    // Fails by ENOSPC, which is the disk's limit and not the spool's.
    let _ = fs::write(&filler, vec![0; 512 << 10]);
    let address = nobody();
    let settings = spooled(&format!("http://{address}"), dir.path());
    let proxy = Proxy::start(dir.path(), &settings);
    let refused = burst(proxy.address, EVENTS, 2, 2);
    assert_eq!(count_answered(&refused, 503), refused.len());
    let failing = |proxy: &Proxy| proxy.metrics().family("sluice_spool_failing", "main");
    assert_eq!(failing(&proxy), 1);
    let means = proxy.ready_json()["means"]["main"].to_string();
    assert!(means.contains("the spool's disk fails"), "{means}");
    fs::remove_file(&filler).unwrap();
    wait_until("the disk works", || failing(&proxy) == 0);
    let mut sent = refused;
    let taken = burst(proxy.address, EVENTS, 2, 2);
    assert_all_200(&taken);
    sent.extend(taken);
    let stream = stream_at(address);
    wait_for_replay(&proxy);
    stored(&stream).assert_truthful(&sent);
    proxy.end_cleanly();
}

#[test]
fn a_damaged_spool_delivers_the_rest_and_exits_1() {
    let address = nobody();
    let dir = tempdir().unwrap();
    let settings = spooled(&format!("http://{address}"), dir.path());
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 1, 10);
    assert_all_200(&sent);
    proxy.kill();
    let segment = files(dir.path()).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let id = &sent[4].ids[0];
    let at = bytes
        .windows(id.len())
        .position(|part| part == id.as_bytes());
    bytes[at.unwrap()] ^= 1;
    fs::write(&segment, &bytes).unwrap();

    let stream = stream_at(address);
    let mut proxy = Proxy::start(dir.path(), &settings);
    wait_until("all the others are delivered", || {
        proxy.metrics().family("sluice_spool_waiting_bytes", "main") == 0
    });
    let stored = stored(&stream);
    let lost: Vec<_> = sent
        .iter()
        .flat_map(|sent| &sent.ids)
        .filter(|id| !stored.has(id))
        .collect();
    assert_eq!(lost, [id]);
    assert!(proxy.metrics().family("sluice_spool_lost_bytes", "main") > 0);
    proxy.terminate();
    assert_eq!(proxy.wait(Duration::from_secs(10)).code(), Some(1));
}

#[test]
fn two_processes_never_share_a_spool() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let settings = spooled(&stream.url(), dir.path());
    let proxy = Proxy::start(dir.path(), &settings);
    let second = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["run", "--listen", "127.0.0.1:0", "--config"])
        .arg(dir.path().join("sluice.toml"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let log = String::from_utf8_lossy(&second.stderr);
    assert!(
        log.contains("another process or output writes here"),
        "{log}"
    );
    proxy.end_cleanly();
}

fn sluice_spool(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["spool"])
        .args(arguments)
        .arg("--config")
        .arg(dir.join("sluice.toml"))
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .output()
        .unwrap()
}

#[test]
fn the_spool_commands_list_verify_export_replay_and_wait() {
    let address = nobody();
    let dir = tempdir().unwrap();
    let settings = spooled(&format!("http://{address}"), dir.path());
    let proxy = Proxy::start(dir.path(), &settings);
    let sent = burst(proxy.address, EVENTS, 2, 5);
    assert_all_200(&sent);
    let busy = sluice_spool(dir.path(), &["replay", "--to", "main"]);
    assert_eq!(busy.status.code(), Some(1), "{busy:?}");
    proxy.kill();

    let records: usize = sent.iter().map(|sent| sent.ids.len()).sum();
    let list = sluice_spool(dir.path(), &["list"]);
    assert_eq!(list.status.code(), Some(0), "{list:?}");
    let text = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(text.contains(&format!("{records} records")), "{text}");
    assert_eq!(sluice_spool(dir.path(), &["verify"]).status.code(), Some(0));
    let export = sluice_spool(dir.path(), &["export"]);
    assert_eq!(
        export.stdout.split(|byte| *byte == b'\n').count(),
        records + 1
    );
    let wait = sluice_spool(dir.path(), &["wait", "--timeout-s", "1"]);
    assert_eq!(wait.status.code(), Some(1), "{wait:?}");

    // From another host's volume.
    let volume = dir.path().join("volume");
    fs::rename(dir.path().join("spool"), &volume).unwrap();
    let stream = stream_at(address);
    let from = volume.to_str().unwrap();
    let replay = sluice_spool(dir.path(), &["replay", "--to", "main", "--from", from]);
    assert_eq!(replay.status.code(), Some(0), "{replay:?}");
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    assert_eq!(sluice_spool(dir.path(), &["wait"]).status.code(), Some(0));

    let damaged = volume.join("000000000007-000000000-0123456789abcdef.spool");
    fs::write(damaged, b"no segment").unwrap();
    let verify = sluice_spool(dir.path(), &["verify", "--from", from]);
    assert_eq!(
        verify.status.code(),
        Some(0),
        "an unfinished end: {verify:?}"
    );
}
