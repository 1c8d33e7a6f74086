//! Containers of the Kinesis Producer Library on a stream of kinesalite, taken apart by the published modules for Python
//! and Node.js, and by the code of the Kinesis Client Library, which drops what lies beside its shard.

use super::judge::compare;
use super::stream::{Stored, Stream};
use super::traffic::{self, Offer};
use super::{check, run, start, variable};
use serde_json::Value;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;
use tokio::join;

/// A consumer takes lines of a record's shard, its key and its data, and prints those of the user records: keys and
/// data. Text is in Base64.
fn consumers(dir: &Path) -> Vec<(&'static str, Command)> {
    let script = |name: &str| {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/interop/aggregated");
        tests.join(name)
    };
    let command = |program: &str| {
        let mut command = Command::new("timeout");
        command.args(["60", program]);
        command
    };
    let mut python = command(&variable("SLUICE_INTEROP_PYTHON"));
    python.arg(script("read.py"));
    let mut node = command("node");
    node.arg(script("read.cjs"));
    node.env("NODE_PATH", variable("SLUICE_INTEROP_NODE_MODULES"));
    let mut java = command("java");
    java.args([
        "-XX:TieredStopAtLevel=1",
        "-cp",
        &variable("SLUICE_INTEROP_KCL_JARS"),
    ]);
    java.arg(script("Read.java"));
    let mut all = vec![
        ("Python", python),
        ("Node.js", node),
        ("Kinesis Client Library", java),
    ];
    for (_, command) in &mut all {
        command.arg(dir.join("records"));
    }
    all
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn lines(stored: &[Stored]) -> String {
    stored.iter().fold(String::new(), |mut text, record| {
        let Stored {
            hashes: [first, last],
            key,
            data,
            ..
        } = record;
        let _ = writeln!(
            text,
            "{first} {last} {} {}",
            base64(key.as_bytes()),
            base64(data)
        );
        text
    })
}

#[test]
#[ignore = "needs kinesalite, which .ci/interop starts"]
fn published_consumers_read_containers_across_ten_reshards() {
    run(async {
        let stream = Stream::create("SLUICE_INTEROP_KINESALITE", 2).await;
        check(&stream);
        let dir = tempdir().unwrap();
        let more = "aggregate = true\npartition_key = \"field:id\"\nlinger_ms = 50\n";
        let proxy = start(dir.path(), &stream, more);
        let offer = Offer {
            requests: 900,
            per_second: 150.0,
            array: 5,
            lines: 20,
        };
        // The list of shards is read again after a minute: until then all goes by what was.
        let (sent, ()) = join!(
            traffic::offer(proxy.address, &offer),
            stream.reshard_ten_times()
        );
        proxy.settled_metrics("main");
        proxy.end_cleanly();
        let stored = stream.read().await;
        let containers = stored
            .iter()
            .filter(|record| record.data.starts_with(b"\xf3\x89\x9a\xc2"));
        let mut shards: Vec<&str> = containers.map(|record| &*record.shard).collect();
        println!("{} containers, {} records", shards.len(), stored.len());
        shards.sort_unstable();
        shards.dedup();
        assert!(shards.len() > 8, "containers are in {shards:?} only");

        std::fs::write(dir.path().join("records"), lines(&stored)).unwrap();
        for (name, mut consumer) in consumers(dir.path()) {
            let output = consumer.output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{name}: {error}");
            let text = String::from_utf8(output.stdout).unwrap();
            let read = |text: &str| base64_simd::STANDARD.decode_to_vec(text).unwrap();
            let records: Vec<_> = text
                .lines()
                .map(|line| line.split_once(' ').unwrap())
                .map(|(key, data)| (read(key), read(data)))
                .collect();
            let verdict = compare(&sent, records.iter().map(|(_, data)| &data[..]));
            println!("{name}: {verdict}");
            assert_eq!(verdict.acknowledged, verdict.offered, "{name}: {verdict}");
            verdict.hold();
            for (key, data) in &records {
                let event: Value = serde_json::from_slice(data).unwrap();
                match event["id"].as_str() {
                    Some(id) => assert_eq!(id.as_bytes(), key, "{name}"),
                    None => assert_eq!(key.len(), 16, "{name}"),
                }
            }
        }
    });
}
