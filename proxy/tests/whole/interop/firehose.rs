//! The Firehose output against moto, read back with boto3 from the bucket that the stream delivers to.

use super::judge::compare;
use super::traffic::{Client, Offer, offer};
use super::{SETTINGS, assert_check, run};
use crate::support::proxy::Proxy;
use std::env;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// A delivery stream with a bucket of its own.
struct Stream {
    endpoint: String,
    name: String,
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("{name} has to be set, as .ci/interop does"))
}

impl Stream {
    fn create() -> Stream {
        let stream = Stream {
            endpoint: variable("SLUICE_INTEROP_MOTO"),
            name: format!("interop-{:016x}", fastrand::u64(..)),
        };
        stream.boto3("make");
        stream
    }

    fn boto3(&self, command: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/interop/firehose.py");
        let output = Command::new("timeout")
            .args(["60", &variable("SLUICE_INTEROP_PYTHON")])
            .arg(script)
            .args([&self.endpoint, command, &self.name])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The texts of the objects in its bucket.
    fn read(&self) -> Vec<String> {
        let text = self.boto3("read");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn output(&self, name: &str) -> String {
        format!(
            "[outputs.main]\ntype = \"firehose\"\nregion = \"us-east-1\"\nendpoint_url = \"{}\"\n\
             stream = \"{name}\"\n",
            self.endpoint
        )
    }
}

/// `sluice check` finds the stream, and does not find one that is not there.
fn check(stream: &Stream) {
    for (name, code, found) in [
        (
            stream.name.as_str(),
            0,
            "output main (firehose) ok: firehose stream interop-",
        ),
        (
            "interop-none",
            1,
            "output main (firehose) FAILED: firehose stream interop-none: 400 ResourceNotFoundException",
        ),
    ] {
        assert_check(&stream.output(name), ["test"; 2], code, found);
    }
}

#[test]
#[ignore = "needs moto, which .ci/interop starts"]
fn moto_firehose_delivers_every_event_once() {
    run(async {
        let stream = Stream::create();
        check(&stream);
        let dir = tempdir().unwrap();
        let proxy = Proxy::start(
            dir.path(),
            &format!("{SETTINGS}{}", stream.output(&stream.name)),
        );
        let mixed = Offer {
            requests: 600,
            per_second: 150.0,
            array: 5,
            lines: 20,
        };
        let sent = offer(proxy.address, &mixed).await;
        let metrics = proxy.settled_metrics("main");
        let of = |name: &str| metrics.family(&format!("sluice_output_{name}_total"), "main");
        let (calls, confirmed, billed) = (of("calls"), of("confirmed_bytes"), of("billed_bytes"));
        let delivered = of("delivered_records");
        proxy.end_cleanly();

        let objects = stream.read();
        let events: Vec<&str> = objects
            .iter()
            .flat_map(|text| {
                let lines = text.strip_suffix('\n');
                lines.expect("a newline after the last event").split('\n')
            })
            .collect();
        let verdict = compare(&sent, events.iter().map(|event| event.as_bytes()));
        println!(
            "moto: {verdict}, {calls} calls, {} objects, {confirmed} bytes confirmed, {billed} billed",
            objects.len(),
        );
        assert_eq!(verdict.acknowledged, verdict.offered, "{verdict}");
        assert_eq!(delivered, events.len() as u64, "the metric knows better");
        let bytes: usize = objects.iter().map(String::len).sum();
        assert_eq!(confirmed, bytes as u64, "and so does this one");
        verdict.hold();
    });
}

#[test]
#[ignore = "needs moto, which .ci/interop starts"]
fn a_missing_moto_stream_is_503_until_created() {
    run(async {
        let stream = Stream {
            endpoint: variable("SLUICE_INTEROP_MOTO"),
            name: format!("interop-{:016x}", fastrand::u64(..)),
        };
        let dir = tempdir().unwrap();
        let proxy = Proxy::start(
            dir.path(),
            &format!("{SETTINGS}{}", stream.output(&stream.name)),
        );
        let client = Client::new(proxy.address);
        let event = |id: &str| format!("{{\"id\":\"{id}\"}}");
        let early = client.post("/v1/events", event("early").as_bytes()).await;
        assert_eq!(early.status, 503);
        assert_eq!(proxy.ready_json()["troubled"]["main"], "not_found");
        stream.boto3("make");
        let late = client.post("/v1/events", event("late").as_bytes()).await;
        assert_eq!(late.status, 200);
        proxy.end_cleanly();
        let text = stream.read().concat();
        assert!(text.contains("late") && !text.contains("early"), "{text}");
    });
}
