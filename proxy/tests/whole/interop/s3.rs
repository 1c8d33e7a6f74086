//! The S3 output against servers that check signatures, with boto3 as the reader.

use super::judge::compare;
use super::traffic::{Offer, offer};
use super::{SETTINGS, assert_check, run, variable};
use crate::readers;
use crate::support::audit::{Sent, Stored, count_answered};
use crate::support::event::ids_of_record;
use crate::support::files::all_files;
use crate::support::load::{Load, burst};
use crate::support::proxy::Proxy;
use crate::support::wait_until;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::tempdir;

mod relay;

const S3S_FS: &str = "SLUICE_INTEROP_S3S_FS";
const S3PROXY: &str = "SLUICE_INTEROP_S3PROXY";
/// The login that the servers know.
const ACCESS_KEY: &str = "sluice";
const SECRET_KEY: &str = "interop-secret";
const EVENTS: &str = "/v1/events";
const PREFIX: &str = "clickstream/data/";

/// A bucket of its own.
struct Bucket {
    endpoint: String,
    name: String,
}

/// An object as boto3 gives it: the script has looked at its form.
struct Object {
    key: String,
    class: String,
    text: String,
}

fn boto3(endpoint: &str, arguments: &[&str]) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/interop/s3.py");
    let output = Command::new("timeout")
        .args(["60", &variable("SLUICE_INTEROP_PYTHON")])
        .args([script.as_os_str(), endpoint.as_ref()])
        .args(arguments)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

impl Bucket {
    /// A new one at the server that a variable names.
    fn create(server: &str) -> Bucket {
        let name = format!("interop-{:016x}", fastrand::u64(..));
        let endpoint = variable(server);
        boto3(&endpoint, &["make", &name]);
        Bucket { endpoint, name }
    }

    /// Its objects below a prefix.
    fn read(&self, prefix: &str) -> Vec<Object> {
        let text = boto3(&self.endpoint, &["read", &self.name, prefix]);
        let object = |line: &str| {
            let found: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| found[name].as_str().unwrap().to_owned();
            Object {
                key: text("key"),
                class: text("class"),
                text: text("text"),
            }
        };
        text.lines().map(object).collect()
    }

    /// An output called `main`; `more` goes on with its section.
    fn output(&self, endpoint: &str, prefix: &str, more: &str) -> String {
        let bucket = &self.name;
        format!(
            "{SETTINGS}[outputs.main]\ntype = \"s3\"\nregion = \"us-east-1\"\n\
             endpoint_url = \"{endpoint}\"\nbucket = \"{bucket}\"\nprefix = \"{prefix}\"\n{more}"
        )
    }

    /// The same at its own server, staged in a directory below `dir`.
    fn settings(&self, dir: &Path, more: &str) -> String {
        self.output(&self.endpoint, PREFIX, &(staging(dir) + more))
    }
}

fn staging(dir: &Path) -> String {
    format!("staging_dir = {:?}\n", dir.join("staging"))
}

/// The program with a login.
fn start(dir: &Path, settings: &str, secret: &str) -> Proxy {
    let login = [
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
        ("AWS_SECRET_ACCESS_KEY", secret),
    ];
    Proxy::start_with(dir, settings, &login)
}

fn lines(objects: &[Object]) -> impl Iterator<Item = &[u8]> {
    objects
        .iter()
        .flat_map(|object| object.text.lines())
        .map(str::as_bytes)
}

fn stored(objects: &[Object]) -> Stored {
    Stored::of(lines(objects).flat_map(ids_of_record))
}

/// Bytes that are staged; what a crash cut off was never confirmed, and stays.
fn staged_bytes(dir: &Path) -> u64 {
    let mut files = all_files(&dir.join("staging"));
    files.retain(|file| file.extension().is_none_or(|ending| ending != "torn"));
    let lengths = files
        .iter()
        // One may go meanwhile.
        .map(|file| file.metadata().map_or(0, |found| found.len()));
    lengths.sum()
}

/// `sluice check` finds the bucket, does not find one that is not there, and is told of a wrong secret.
fn check(bucket: &Bucket) {
    let nowhere = Bucket {
        endpoint: bucket.endpoint.clone(),
        name: "interop-none".to_owned(),
    };
    for (bucket, secret, code, found) in [
        (bucket, SECRET_KEY, 0, "output main (s3) ok: "),
        (&nowhere, SECRET_KEY, 1, "output main (s3) FAILED: "),
        (bucket, "wrong-one", 1, "output main (s3) FAILED: "),
    ] {
        let dir = tempdir().unwrap();
        let settings = bucket.settings(dir.path(), "");
        let text = assert_check(&settings, [ACCESS_KEY, secret], code, found);
        assert!(!text.contains(secret), "{text}");
    }
}

/// Offers events, ends the program, and compares what was said with what boto3 reads.
fn every_event_once(server: &str, class: &str) {
    run(async {
        let bucket = Bucket::create(server);
        check(&bucket);
        let dir = tempdir().unwrap();
        let more = format!("object_bytes_max = 1_000_000\nstorage_class = \"{class}\"\n");
        let proxy = start(dir.path(), &bucket.settings(dir.path(), &more), SECRET_KEY);
        let many = Offer {
            requests: 600,
            per_second: 200.0,
            array: 5,
            lines: 20,
        };
        let sent = offer(proxy.address, &many).await;
        proxy.end_cleanly();
        let objects = bucket.read(PREFIX);
        let verdict = compare(&sent, lines(&objects));
        println!("{server}: {verdict}, {} objects", objects.len());
        assert_eq!(verdict.acknowledged, verdict.offered, "{verdict}");
        verdict.hold();
        assert!(objects.len() > 1, "the size makes no object");
        assert!(objects.iter().all(|object| object.class == class));
        assert_eq!(staged_bytes(dir.path()), 0);
    });
}

#[test]
#[ignore = "needs s3s-fs, which .ci/interop starts"]
fn s3s_fs_has_every_event_once() {
    every_event_once(S3S_FS, "STANDARD");
}

#[test]
#[ignore = "needs S3Proxy, which .ci/interop starts"]
fn s3proxy_has_every_event_once_with_storage_class() {
    every_event_once(S3PROXY, "STANDARD_IA");
}

#[test]
#[ignore = "needs s3s-fs, which .ci/interop starts"]
fn enqueued_events_become_the_same_objects() {
    run(async {
        let bucket = Bucket::create(S3S_FS);
        let more = "ack = \"enqueued\"\nobject_age_s = 1\n";
        let dir = tempdir().unwrap();
        let settings = bucket.output(&bucket.endpoint, PREFIX, more);
        let proxy = start(dir.path(), &settings, SECRET_KEY);
        let many = Offer {
            requests: 200,
            per_second: 100.0,
            array: 5,
            lines: 20,
        };
        let sent = offer(proxy.address, &many).await;
        proxy.end_cleanly();
        let objects = bucket.read(PREFIX);
        let verdict = compare(&sent, lines(&objects));
        println!("in memory: {verdict}, {} objects", objects.len());
        verdict.hold();
        assert!(objects.len() > 1, "the age makes no object");
    });
}

#[test]
#[ignore = "needs s3s-fs and S3Proxy, which .ci/interop starts"]
fn a_wrong_secret_keeps_events_staged() {
    for server in [S3S_FS, S3PROXY] {
        let bucket = Bucket::create(server);
        let dir = tempdir().unwrap();
        let settings = bucket.settings(dir.path(), "object_age_s = 1\n");
        // It tries until it has to end.
        let settings = settings.replace("deadline_ms = 25000", "deadline_ms = 5000");
        let mut proxy = start(dir.path(), &settings, "wrong-one");
        let sent = burst(proxy.address, EVENTS, 4, 50);
        assert_eq!(count_answered(&sent, 200), 200);
        wait_until("its health tells", || {
            proxy.ready_json()["troubled"]["main"] == "denied"
        });
        proxy.terminate();
        let status = proxy.wait(Duration::from_secs(10));
        assert_eq!(status.code(), Some(1), "something stays behind");
        let kept = proxy.said("output flushed")[0]["kept_bytes"].as_u64();
        assert_eq!(kept, Some(staged_bytes(dir.path())));
        assert!(bucket.read(PREFIX).is_empty());

        let proxy = start(dir.path(), &settings, SECRET_KEY);
        wait_until("nothing is staged", || staged_bytes(dir.path()) == 0);
        assert!(proxy.ready_json()["troubled"]["main"].is_null());
        proxy.end_cleanly();
        let stored = stored(&bucket.read(PREFIX));
        stored.assert_truthful(&sent);
        assert_eq!(stored.duplicates(), 0);
    }
}

#[test]
#[ignore = "needs s3s-fs and S3Proxy, which .ci/interop starts"]
fn sigkill_under_load_loses_and_duplicates_nothing() {
    for server in [S3S_FS, S3PROXY] {
        let bucket = Bucket::create(server);
        let dir = tempdir().unwrap();
        let settings = bucket.settings(dir.path(), "object_age_s = 1\n");
        let mut sent: Vec<Sent> = Vec::new();
        for round in 0..4 {
            let proxy = start(dir.path(), &settings, SECRET_KEY);
            let load = Load::start(proxy.address, EVENTS, 8);
            let enough = fastrand::usize(200..2_000);
            wait_until("some were answered", || load.answered() >= enough);
            // The last rounds meet uploads.
            std::thread::sleep(Duration::from_millis(fastrand::u64(0..400) * round));
            proxy.kill();
            sent.extend(load.join());
        }
        let proxy = start(dir.path(), &settings, SECRET_KEY);
        sent.extend(burst(proxy.address, EVENTS, 4, 5));
        proxy.end_cleanly();
        let objects = bucket.read(PREFIX);
        let stored = stored(&objects);
        println!(
            "{server}: {} requests, {} answered 200, {} objects, {} ids stored, {} copies",
            sent.len(),
            count_answered(&sent, 200),
            objects.len(),
            stored.0.len(),
            stored.duplicates(),
        );
        stored.assert_truthful(&sent);
        assert_eq!(stored.duplicates(), 0);
        assert_eq!(staged_bytes(dir.path()), 0);
    }
}

#[test]
#[ignore = "needs s3s-fs and S3Proxy, which .ci/interop starts"]
fn a_repeated_upload_is_refused_and_counts_as_stored() {
    for server in [S3S_FS, S3PROXY] {
        lose_an_answer(server, false);
    }
}

#[test]
#[ignore = "needs s3s-fs and S3Proxy, which .ci/interop starts"]
fn a_restart_repeats_the_key_of_an_unconfirmed_upload() {
    for server in [S3S_FS, S3PROXY] {
        lose_an_answer(server, true);
    }
}

/// The server stores the first object, and nobody wants_input of it; with `kill` the process is killed meanwhile.
fn lose_an_answer(server: &str, kill: bool) {
    let bucket = Bucket::create(server);
    let relay = relay::Relay::start(&bucket.endpoint);
    let dir = tempdir().unwrap();
    let more = staging(dir.path()) + "object_age_s = 1\nattempt_timeout_ms = 2000\n";
    let settings = bucket.output(&relay.url(), PREFIX, &more);
    let mut proxy = start(dir.path(), &settings, SECRET_KEY);
    let mut sent = burst(proxy.address, EVENTS, 2, 20);
    assert_eq!(count_answered(&sent, 200), 40);
    wait_until("the server has the first object", || {
        relay
            .puts()
            .first()
            .is_some_and(|put| put.status == Some(200))
    });
    if kill {
        proxy.kill();
        assert!(staged_bytes(dir.path()) > 0);
        proxy = start(dir.path(), &settings, SECRET_KEY);
    }
    sent.extend(burst(proxy.address, EVENTS, 2, 20));
    wait_until("nothing is staged", || staged_bytes(dir.path()) == 0);
    proxy.end_cleanly();
    let puts = relay.puts();
    let again = puts[1..].iter().find(|put| put.target == puts[0].target);
    assert_eq!(again.unwrap().status, Some(412), "{puts:?}");
    let keys: BTreeSet<&str> = puts.iter().map(|put| put.target.as_str()).collect();
    let objects = bucket.read(PREFIX);
    assert_eq!(keys.len(), objects.len(), "{puts:?}");
    let stored = stored(&objects);
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
}

#[test]
#[ignore = "needs s3s-fs, which .ci/interop starts"]
fn objects_of_every_profile_pass_the_readers_rules() {
    let bucket = Bucket::create(S3S_FS);
    for profile in readers::PROFILES {
        let dir = tempdir().unwrap();
        let prefix = format!("{profile:?}/").to_lowercase();
        let settings = bucket.output(&bucket.endpoint, &prefix, &staging(dir.path()));
        let proxy = start(dir.path(), &settings, SECRET_KEY);
        let sent = readers::send(&proxy, profile);
        proxy.end_cleanly();
        let objects = bucket.read(&prefix);
        for object in &objects {
            readers::assert_partitioned(object.key.strip_prefix(&prefix).unwrap());
        }
        readers::read(profile, lines(&objects).map(<[u8]>::to_vec), sent);
    }
}
