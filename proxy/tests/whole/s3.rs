//! A bucket as the destination: what was answered 200 is in its objects, sooner or later, whatever becomes of
//! the bucket or of us meanwhile.

use crate::support::audit::{Sent, Stored, count_answered};
use crate::support::client::post;
use crate::support::event::{event, ids_of_record, new_id};
use crate::support::load::{Load, burst};
use crate::support::proxy::Proxy;
use crate::support::wait_until;
use flate2::read::GzDecoder;
use sluice_loadtest::s3::{Emulator, Options};
use sluice_loadtest::service::Faults;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";
const BUCKET: &str = "clicks";

/// What a crash within a write leaves behind: the begin of a line.
const HALF: &[u8] = b"{\"id\":\"half a li";

fn emulator() -> Emulator {
    Emulator::start(Options::default()).unwrap()
}

/// An output called `main`, quick to try again; further keys may follow.
fn to_s3(emulator: &Emulator) -> String {
    format!(
        "[outputs.main]\ntype = \"s3\"\nbucket = \"{BUCKET}\"\nprefix = \"raw/\"\n\
         endpoint_url = \"{}\"\nretry_base_ms = 5\nretry_cap_ms = 50\n",
        emulator.url()
    )
}

/// The lines of all objects, each of which has the form that readers expect.
fn records(emulator: &Emulator) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for (bucket, key) in emulator.keys() {
        let packed = emulator.object(&bucket, &key).unwrap().unwrap();
        let mut lines = Vec::new();
        GzDecoder::new(&*packed).read_to_end(&mut lines).unwrap();
        assert!(
            !lines.ends_with(b"\n"),
            "{key}: a newline after the last line"
        );
        records.extend(lines.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
    }
    records
}

fn stored(emulator: &Emulator) -> Stored {
    let records = records(emulator);
    Stored::of(records.iter().flat_map(|record| ids_of_record(record)))
}

/// Files of the default staging directory.
fn staged(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("sluice-staging")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

/// Runs the program with the configuration that [`Proxy::start`] wrote, to its end.
fn sluice(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(arguments)
        .args(["--config", "sluice.toml"])
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap()
}

fn trouble(proxy: &Proxy) -> Option<String> {
    let troubled = &proxy.ready_json()["troubled"]["main"];
    troubled.as_str().map(str::to_owned)
}

/// Every upload fails like this.
fn every(fault: impl FnOnce(&mut Faults)) -> Faults {
    let mut faults = Faults::default();
    fault(&mut faults);
    faults
}

#[test]
fn a_clean_exit_uploads_every_acknowledged_event_once() {
    let emulator = emulator();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_s3(&emulator));
    let sent = burst(proxy.address, EVENTS, 8, 20);
    assert_eq!(count_answered(&sent, 200), sent.len());
    assert!(emulator.keys().is_empty(), "the object is not full yet");
    assert!(proxy.metrics().family("sluice_output_staged_bytes", "main") > 0);
    proxy.end_cleanly();
    let keys = emulator.keys();
    let [(_, key)] = &keys[..] else {
        panic!("{keys:?}");
    };
    let parts: Vec<_> = key.split(['/', '=', '-']).collect();
    let [
        _,
        "year",
        _,
        "month",
        _,
        "day",
        _,
        "hour",
        _,
        secs,
        uuid @ ..,
    ] = &parts[..]
    else {
        panic!("{key}");
    };
    assert!(secs.parse::<u64>().is_ok() && uuid.len() == 5, "{key}");
    assert!(key.starts_with("raw/") && key.ends_with(".log.gz"), "{key}");
    let stored = stored(&emulator);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    assert!(staged(dir.path()).is_empty());
}

#[test]
fn objects_are_closed_by_size_and_age() {
    let emulator = emulator();
    let dir = tempdir().unwrap();
    let settings = to_s3(&emulator) + "object_bytes_max = 1000000\nobject_age_s = 1\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let mut client = proxy.connect();
    let ids: Vec<_> = (0..16).map(|_| new_id()).collect();
    for id in &ids {
        assert_eq!(client.ask(post(EVENTS, event(id, 100_000))).status, 200);
    }
    wait_until("all objects are there", || {
        stored(&emulator).0.len() == ids.len()
    });
    assert!(emulator.keys().len() > 1, "one would be too large");
    for (bucket, key) in emulator.keys() {
        let packed = emulator.object(&bucket, &key).unwrap().unwrap();
        let bytes = std::io::copy(&mut GzDecoder::new(&*packed), &mut std::io::sink());
        assert!(bytes.unwrap() <= 1_000_000);
    }
    wait_until("the stage is empty", || {
        proxy.metrics().family("sluice_output_staged_bytes", "main") == 0
    });
    proxy.end_cleanly();
}

#[test]
fn sigkill_during_failing_uploads_loses_and_duplicates_nothing() {
    let emulator = emulator();
    emulator
        .set_faults(every(|faults| {
            faults.seed = fastrand::u64(..);
            // Stored and not answered, or with an error; answered and not stored; answered by something else.
            faults.reset_after = 0.15;
            faults.error_after = 0.15;
            faults.internal_error = 0.1;
            faults.throttle_call = 0.1;
            faults.garbage_answer = 0.1;
        }))
        .unwrap();
    let dir = tempdir().unwrap();
    let settings = to_s3(&emulator) + "object_age_s = 1\n";
    let mut sent: Vec<Sent> = Vec::new();
    let mut halves = 0;
    for round in 0..8_usize {
        let proxy = Proxy::start(dir.path(), &settings);
        let load = Load::start(proxy.address, EVENTS, 8);
        let enough = fastrand::usize(50..400);
        wait_until("some were answered", || load.answered() >= enough);
        if round % 2 == 0 {
            wait_until("a segment was finished", || {
                proxy
                    .metrics()
                    .family("sluice_output_objects_total", "main")
                    > 0
            });
        }
        proxy.kill();
        sent.extend(load.join());
        // SIGKILL hits a write in its middle now and then; a power cut does more often.
        for name in staged(dir.path()) {
            if name.ends_with(".open") && round % 3 == 1 {
                let path = dir.path().join("sluice-staging").join(name);
                let mut file = fs::File::options().append(true).open(path).unwrap();
                file.write_all(HALF).unwrap();
                halves += 1;
            }
        }
    }
    let settings = settings + "[drain]\ndeadline_ms = 20000\n";
    let mut proxy = Proxy::start(dir.path(), &settings);
    sent.extend(burst(proxy.address, EVENTS, 4, 5));
    proxy.terminate();
    let status = proxy.wait(Duration::from_secs(30));
    assert_eq!(status.code(), Some(0), "{:#?}", proxy.log());

    assert!(count_answered(&sent, 200) > 400);
    let stored = stored(&emulator);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    let faults = emulator.stats().common.faults;
    assert!(faults.values().sum::<u64>() > 5, "{faults:?}");
    let left = staged(dir.path());
    assert!(left.iter().all(|name| name.ends_with(".torn")), "{left:?}");
    assert!(left.len() >= halves);
}

#[test]
fn an_unreachable_bucket_keeps_events_staged_over_a_restart() {
    let emulator = emulator();
    let dir = tempdir().unwrap();
    let settings = to_s3(&emulator) + "object_age_s = 1\n";
    emulator
        .set_faults(every(|faults| faults.internal_error = 1.0))
        .unwrap();
    let mut proxy = Proxy::start(dir.path(), &settings);
    let mut sent = burst(proxy.address, EVENTS, 4, 10);
    wait_until("health says so", || {
        trouble(&proxy).as_deref() == Some("unavailable")
    });
    assert!(proxy.is_ready());
    sent.extend(burst(proxy.address, EVENTS, 4, 10));
    assert_eq!(count_answered(&sent, 200), sent.len());
    let metrics = proxy.metrics();
    assert!(metrics.family("sluice_output_segments_waiting", "main") > 0);
    assert!(metrics.family("sluice_output_upload_failures_total", "main") > 0);
    proxy.terminate();
    let status = proxy.wait(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1), "{:#?}", proxy.log());
    assert!(!staged(dir.path()).is_empty());
    assert!(emulator.keys().is_empty());

    emulator.set_faults(Faults::default()).unwrap();
    let proxy = Proxy::start(dir.path(), &settings);
    wait_until("what was left is stored without a request", || {
        staged(dir.path()).is_empty()
    });
    assert_eq!(trouble(&proxy), None);
    proxy.end_cleanly();
    let stored = stored(&emulator);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
}

#[test]
fn a_full_staging_directory_is_503_until_uploads_resume() {
    let emulator = emulator();
    let dir = tempdir().unwrap();
    let settings = to_s3(&emulator) + "object_bytes_max = 1000000\nstaging_bytes_max = 1000000\n";
    emulator
        .set_faults(every(|faults| faults.access_denied = 1.0))
        .unwrap();
    let proxy = Proxy::start(dir.path(), &(settings + "object_age_s = 1\n"));
    let mut client = proxy.connect();
    let mut sent = Vec::new();
    let mut ask = |sent: &mut Vec<Sent>| {
        let id = new_id();
        let answer = client.ask(post(EVENTS, event(&id, 50_000)));
        sent.push(Sent {
            ids: vec![id],
            answer: Some(answer.clone()),
            took: Duration::ZERO,
        });
        answer
    };
    wait_until("the stage is full", || ask(&mut sent).status != 200);
    for _ in 0..10 {
        ask(&mut sent).assert_retry_later(&["not_delivered"]);
    }
    assert!(proxy.settled_metrics("main").refused("main", "no_space") > 10);
    wait_until("health says so", || {
        trouble(&proxy).as_deref() == Some("no_space")
    });
    emulator.set_faults(Faults::default()).unwrap();
    wait_until("there is room", || ask(&mut sent).status == 200);
    proxy.end_cleanly();
    let stored = stored(&emulator);
    stored.assert_truthful(&sent);
    assert_eq!(stored.0.len(), count_answered(&sent, 200));
}

#[test]
fn missing_and_denied_buckets_show_in_health_and_check() {
    let emulator = emulator();
    let dir = tempdir().unwrap();
    let there = to_s3(&emulator) + "object_age_s = 1\n";
    let missing = there.replace("\"clicks\"", "\"elsewhere\"");
    let proxy = Proxy::start(dir.path(), &missing);
    assert_eq!(proxy.post(EVENTS, event(&new_id(), 0)).status, 200);
    wait_until("health says so", || {
        trouble(&proxy).as_deref() == Some("not_found")
    });
    let found = sluice(dir.path(), &["check"]);
    let said = String::from_utf8(found.stdout).unwrap();
    assert!(!found.status.success());
    assert!(said.contains("FAILED: s3 bucket elsewhere: "), "{said}");
    assert!(
        said.contains("(not_found)") && said.contains("s3:PutObject"),
        "{said}"
    );
    proxy.kill();

    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &there);
    assert_eq!(proxy.post(EVENTS, event(&new_id(), 0)).status, 200);
    // Beside a process that runs, and without touching what it stages.
    let found = sluice(dir.path(), &["check"]);
    let said = String::from_utf8(found.stdout).unwrap();
    assert!(found.status.success(), "{said}");
    assert!(said.contains("ok: s3 bucket clicks: it is there"), "{said}");
    assert!(said.contains("created, synced and removed"), "{said}");
    proxy.end_cleanly();
    assert_eq!(stored(&emulator).0.len(), 1);
}

#[test]
fn a_second_process_on_the_same_directory_does_not_start() {
    let emulator = emulator();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_s3(&emulator));
    let second = sluice(dir.path(), &["run", "--listen", "127.0.0.1:0"]);
    assert!(!second.status.success());
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(said.contains("another process"), "{said}");
    proxy.end_cleanly();
}

#[test]
fn enqueued_events_become_objects_without_a_disk() {
    let emulator = emulator();
    let dir = tempdir().unwrap();
    let settings = to_s3(&emulator) + "ack = \"enqueued\"\nobject_bytes_max = 1200000\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let mut client = proxy.connect();
    let ids: Vec<_> = (0..16).map(|_| new_id()).collect();
    for id in &ids {
        assert_eq!(client.ask(post(EVENTS, event(id, 100_000))).status, 200);
    }
    wait_until("a full object is there long before its age", || {
        emulator.keys().len() == 1
    });
    assert!(!dir.path().join("sluice-staging").exists());
    proxy.end_cleanly();
    assert_eq!(emulator.keys().len(), 2);
    let stored = stored(&emulator);
    assert!(ids.iter().all(|id| stored.has(id)));
    assert_eq!(stored.duplicates(), 0);
}

#[test]
fn enqueued_events_not_stored_in_time_count_as_refused() {
    let emulator = emulator();
    emulator
        .set_faults(every(|faults| faults.internal_error = 1.0))
        .unwrap();
    let dir = tempdir().unwrap();
    let settings = to_s3(&emulator) + "ack = \"enqueued\"\nobject_age_s = 1\nretry_for_ms = 1300\n";
    let proxy = Proxy::start(dir.path(), &settings);
    assert_eq!(proxy.post(EVENTS, event(&new_id(), 0)).status, 200);
    wait_until("it is given up", || {
        proxy.metrics().refused("main", "unavailable") == 1
    });
    assert_eq!(trouble(&proxy).as_deref(), Some("unavailable"));
    proxy.end_cleanly();
}
