//! The Kinesis output against emulators that we did not write, with the AWS SDK as the reader and published modules
//! that take containers apart, the Firehose
//! output against moto with boto3, the Kafka output against Apache Kafka with its own tools, the S3 output
//! against two servers with boto3, the SQS output against moto and ElasticMQ with boto3, schemas of Glue against moto, the HTTP
//! output against ClickHouse, a replay of dead letters counted by DuckDB, and the HTTP server behind HAProxy: what writer and
//! reader of one house would both get wrong does
//! not pass here.
//!
//! The servers are not started here: `SLUICE_INTEROP_<NAME>` holds the endpoint of each, as
//! `.ci/interop` sets it. It runs these tests, which others skip.

mod aggregated;
#[cfg(feature = "http")]
mod clickhouse;
mod duckdb;
#[cfg(feature = "firehose")]
mod firehose;
mod fronts;
mod haproxy;
mod judge;
#[cfg(feature = "kafka")]
mod kafka;
mod registries;
mod s3;
#[cfg(feature = "sqs")]
mod sqs;
mod stream;
mod traffic;

use crate::support::proxy::Proxy;
use judge::{envelope_in_order, judge};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use stream::{REGION, Stream};
use tempfile::tempdir;
use traffic::{Client, Offer, Request, Shape};

/// Deadlines as they are by default; more connections from one address than by default.
const SETTINGS: &str = r"
[listen]
connections_per_address_max = 0
[ack]
deadline_ms = 4000
[drain]
grace_ms = 0
deadline_ms = 25000
";
/// What a stream that nobody changed takes, less the 16 bytes of a random partition key.
const RECORD_BYTES_MAX: u64 = 1024 * 1024 - 16;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}

/// What `.ci/interop` sets.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} has to be set, as .ci/interop does"))
}

/// The output that writes to this stream.
fn output(endpoint: &str, stream: &str) -> String {
    // kinesalite gives readers in JSON records that came in CBOR as an object in place of base64.
    let is_kinesalite = std::env::var("SLUICE_INTEROP_KINESALITE").is_ok_and(|at| at == endpoint);
    let encoding = if is_kinesalite { "json" } else { "cbor" };
    format!(
        "[outputs.main]\ntype = \"kinesis\"\nregion = \"{REGION}\"\nendpoint_url = \"{endpoint}\"\n\
         stream = \"{stream}\"\nencoding = \"{encoding}\"\n"
    )
}

/// The program writing to the stream; `more` goes on with the output's section.
fn start(dir: &Path, stream: &Stream, more: &str) -> Proxy {
    let output = output(&stream.endpoint, &stream.name);
    Proxy::start(dir, &format!("{SETTINGS}{output}{more}"))
}

/// `sluice check` of these settings, by a user with this key and secret, ends with this code, and its last line
/// begins like this. Gives all that it says.
fn assert_check(settings: &str, [key, secret]: [&str; 2], code: i32, found: &str) -> String {
    let dir = tempdir().unwrap();
    let file = dir.path().join("sluice.toml");
    std::fs::write(&file, settings).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["check", "--config"])
        .arg(file)
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", key)
        .env("AWS_SECRET_ACCESS_KEY", secret)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().last().unwrap_or_default();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(line.starts_with(found), "{line}");
    text
}

/// `sluice check` finds the stream, and does not find one that is not there.
fn check(stream: &Stream) {
    for (name, code, found) in [
        (stream.name.as_str(), 0, "output main (kinesis) ok: "),
        ("interop-none", 1, "output main (kinesis) FAILED: "),
    ] {
        assert_check(&output(&stream.endpoint, name), ["test"; 2], code, found);
    }
}

#[test]
#[ignore = "needs `ferrokinesis --enforce-limits true`, which .ci/interop starts"]
fn ferrokinesis_throttling_loses_and_duplicates_nothing() {
    run(async {
        let stream = Stream::create("SLUICE_INTEROP_FERROKINESIS", 2).await;
        check(&stream);
        let dir = tempdir().unwrap();
        let proxy = start(dir.path(), &stream, "");
        // Two shards take 2,000 records/s; this offers more than twice as much for six seconds, so a
        // part has to pass its deadline whatever is retried.
        let offer = Offer {
            requests: 1_900,
            per_second: 310.0,
            array: 10,
            lines: 50,
        };
        let sent = traffic::offer(proxy.address, &offer).await;
        let metrics = proxy.settled_metrics("main");
        let stored = stream.read().await;
        let verdict = judge(&sent, &stored, 2);
        let throttled =
            metrics.get("sluice_output_retries_total{output=\"main\",cause=\"throttled\"}");
        let delivered = metrics.records("delivered_records_total", "main");
        proxy.end_cleanly();
        // A call of unknown fate may be stored twice, and then a copy is no fault: there was none.
        let unknown = metrics.unknown_retries("main");
        println!("ferrokinesis: {verdict}, throttled results {throttled}, unknown {unknown}");
        verdict.hold();
        assert!(throttled > 0, "nothing was throttled: are its limits on?");
        assert!(verdict.acknowledged > 0);
        assert_eq!(delivered, stored.len() as u64, "the metric knows better");
    });
}

#[test]
#[ignore = "needs kinesalite, which .ci/interop starts"]
fn kinesalite_has_every_event_once_and_none_is_refused() {
    run(async {
        let stream = Stream::create("SLUICE_INTEROP_KINESALITE", 3).await;
        check(&stream);
        let dir = tempdir().unwrap();
        let proxy = start(dir.path(), &stream, "");
        let offer = Offer {
            requests: 600,
            per_second: 150.0,
            array: 5,
            lines: 20,
        };
        let sent = traffic::offer(proxy.address, &offer).await;
        let metrics = proxy.settled_metrics("main");
        let stored = stream.read().await;
        let verdict = judge(&sent, &stored, 3);
        let delivered = metrics.records("delivered_records_total", "main");
        proxy.end_cleanly();
        println!("kinesalite: {verdict}");
        assert_eq!(verdict.acknowledged, verdict.offered, "{verdict}");
        assert_eq!(delivered, stored.len() as u64, "the metric knows better");
        verdict.hold();
    });
}

/// Its request limit is 7 MiB after base64, about what 5 MiB of records make. Larger calls it answers 413
/// without a word, or not at all when the connection breaks first.
#[test]
#[ignore = "needs kinesalite, which .ci/interop starts"]
fn kinesalite_accepts_records_up_to_the_limit() {
    run(async {
        let stream = Stream::create("SLUICE_INTEROP_KINESALITE", 1).await;
        // Bodies as large as the default batch allows, and a linger that fills batches.
        let dir = tempdir().unwrap();
        let proxy = start(
            dir.path(),
            &stream,
            "linger_ms = 500\n[limits]\nbody_bytes_max = 5_226_496\n",
        );
        let client = Client::new(proxy.address);

        let mut probe = String::from(r#"{"id":"e0000000","pad":""}"#);
        let pad = |text: &mut String, bytes: u64| {
            let bytes = usize::try_from(bytes).unwrap();
            text.insert_str(text.len() - 2, &"x".repeat(bytes));
        };
        pad(&mut probe, RECORD_BYTES_MAX);
        let refused = client.post("/v1/events", probe.as_bytes()).await;
        assert_eq!(refused.status, 413);
        let error: Value = serde_json::from_slice(&refused.body).unwrap();
        let error = &error["errors"][0];
        assert_eq!(error["code"], "record_too_large", "{error}");
        assert_eq!(error["limit"], RECORD_BYTES_MAX, "{error}");
        let over = error["actual"].as_u64().unwrap() - RECORD_BYTES_MAX;

        let bodies: Vec<Vec<String>> = (0..4)
            .map(|body| {
                let event = |at: u32, bytes: u64| {
                    let mut text = format!(r#"{{"id":"e{:07}","pad":""}}"#, body * 5 + at);
                    pad(&mut text, bytes);
                    text
                };
                let largest = RECORD_BYTES_MAX - over;
                vec![
                    event(0, largest),
                    event(1, largest),
                    event(2, largest + 1),
                    event(3, 0),
                    event(4, largest),
                ]
            })
            .collect();
        let answers = client.post_all(bodies.iter().map(|events| {
            let body = format!("[{}]", events.join(","));
            ("/v1/events", body.into_bytes())
        }));
        let mut sent = Vec::new();
        for (mut events, answer) in bodies.iter().cloned().zip(answers.await) {
            assert_eq!(answer.status, 200);
            let list: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(list["accepted"], 4, "{list}");
            assert_eq!(list["rejected"], 1, "{list}");
            assert_eq!(list["errors"][0]["index"], 2, "{list}");
            assert_eq!(list["errors"][0]["limit"], RECORD_BYTES_MAX, "{list}");
            assert_eq!(list["errors"][0]["actual"], RECORD_BYTES_MAX + 1, "{list}");
            events.remove(2);
            sent.push(Request {
                shape: Shape::Events,
                events,
                status: answer.status,
            });
        }
        let metrics = proxy.settled_metrics("main");
        let stored = stream.read().await;
        let verdict = judge(&sent, &stored, 1);
        let calls = metrics.family("sluice_output_calls_total", "main");
        let small = metrics.get("sluice_output_batch_bytes_bucket{output=\"main\",le=\"4194304\"}");
        proxy.end_cleanly();
        let largest = stored.iter().map(|record| record.data.len()).max();
        println!(
            "kinesalite at the limits: {verdict}, largest {} bytes, {calls} calls, {} of them over 4 MiB",
            largest.unwrap_or(0),
            calls - small,
        );
        assert_eq!(stored.len(), 16);
        verdict.hold();
    });
}

#[test]
#[ignore = "needs kinesalite, which .ci/interop starts"]
fn an_envelope_has_ordered_keys_and_the_exact_body() {
    run(async {
        let stream = Stream::create("SLUICE_INTEROP_KINESALITE", 1).await;
        let dir = tempdir().unwrap();
        let proxy = start(dir.path(), &stream, "");
        let client = Client::new(proxy.address);
        let body = "not JSON: \u{1}\t\"quoted\" \\ caf\u{e9}\n";
        let path = "/collect?appId=shop&platform=web&compression=&upload_timestamp=1700000000000";
        assert_eq!(client.post(path, body.as_bytes()).await.status, 200);
        proxy.end_cleanly();
        let stored = stream.read().await;
        assert_eq!(stored.len(), 1);
        let record: Value = serde_json::from_slice(&stored[0].data).unwrap();
        assert_eq!(record["data"], body);
        assert_eq!(record["uri"], path);
        assert_eq!(record["path"], "/collect");
        assert_eq!(record["method"], "POST");
        assert_eq!(record["appId"], "shop");
        assert_eq!(record["platform"], "web");
        assert_eq!(record["client_timestamp"], "1700000000000");
        assert_eq!(record["ip"], "127.0.0.1");
        envelope_in_order(std::str::from_utf8(&stored[0].data).unwrap());
    });
}
