//! The SQS output against moto and ElasticMQ, read back with boto3.

use super::judge::compare;
use super::traffic::{Client, Offer, offer};
use super::{SETTINGS, assert_check, run, variable};
use crate::support::proxy::Proxy;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

struct Queue {
    endpoint: String,
    url: String,
}

/// What a reader gets.
struct Message {
    group: Option<String>,
    deduplication_id: Option<String>,
    body: String,
}

impl Queue {
    /// A new queue at the endpoint that the variable names.
    fn create(server: &str, ending: &str) -> Queue {
        let endpoint = variable(server);
        let name = format!("interop-{:016x}{ending}", fastrand::u64(..));
        let url = boto3(&endpoint, "make", &name).trim().to_owned();
        Queue { endpoint, url }
    }

    fn read(&self) -> Vec<Message> {
        let text = boto3(&self.endpoint, "read", &self.url);
        let message = |line: &str| {
            let (group, deduplication_id, body) = serde_json::from_str(line).unwrap();
            Message {
                group,
                deduplication_id,
                body,
            }
        };
        text.lines().map(message).collect()
    }
}

fn boto3(endpoint: &str, command: &str, queue: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/interop/sqs.py");
    let output = Command::new("timeout")
        .args(["60", &variable("SLUICE_INTEROP_PYTHON")])
        .arg(script)
        .args([endpoint, command, queue])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn output(url: &str) -> String {
    format!("[outputs.main]\ntype = \"sqs\"\nregion = \"us-east-1\"\nqueue_url = \"{url}\"\n")
}

/// `sluice check` finds the queue, and does not find one that is not there.
fn check(queue: &Queue, gone: &str) {
    let found = "output main (sqs) ok: sqs queue interop-";
    assert_check(&output(&queue.url), ["test"; 2], 0, found);
    let none = format!("{}-none", queue.url);
    let not_found = format!(
        "output main (sqs) FAILED: sqs queue {}: {gone}",
        name(&none)
    );
    assert_check(&output(&none), ["test"; 2], 1, &not_found);
}

fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

/// Every event is in the queue once, unchanged, and several share a message.
fn a_queue_has_every_event_once(server: &str, gone: &str) {
    run(async {
        let queue = Queue::create(server, "");
        check(&queue, gone);
        let dir = tempdir().unwrap();
        let packed = "message_bytes_max = 4000\n";
        let proxy = Proxy::start(
            dir.path(),
            &format!("{SETTINGS}{}{packed}", output(&queue.url)),
        );
        let mixed = Offer {
            requests: 400,
            per_second: 150.0,
            array: 5,
            lines: 20,
        };
        let sent = offer(proxy.address, &mixed).await;
        let delivered = proxy
            .settled_metrics("main")
            .records("delivered_records_total", "main");
        proxy.end_cleanly();
        let messages = queue.read();
        let events: Vec<&str> = messages
            .iter()
            .flat_map(|message| message.body.split('\n'))
            .collect();
        let verdict = compare(&sent, events.iter().map(|event| event.as_bytes()));
        println!("{server}: {verdict}, in {} messages", messages.len());
        assert_eq!(verdict.acknowledged, verdict.offered, "{verdict}");
        assert_eq!(delivered, events.len() as u64, "the metric knows better");
        assert!(messages.len() < events.len() / 2, "events share messages");
        verdict.hold();
    });
}

#[test]
#[ignore = "needs moto, which .ci/interop starts"]
fn moto_sqs_has_every_event_once() {
    let gone = "400 QueueDoesNotExist";
    a_queue_has_every_event_once("SLUICE_INTEROP_MOTO", gone);
}

#[test]
#[ignore = "needs ElasticMQ, which .ci/interop starts"]
fn elasticmq_has_every_event_once() {
    let gone = "400 QueueDoesNotExist";
    a_queue_has_every_event_once("SLUICE_INTEROP_ELASTICMQ", gone);
}

#[test]
#[ignore = "needs ElasticMQ, which .ci/interop starts"]
fn elasticmq_fifo_groups_are_those_of_the_key() {
    run(async {
        let queue = Queue::create("SLUICE_INTEROP_ELASTICMQ", ".fifo");
        let dir = tempdir().unwrap();
        let keyed = "partition_key = \"field:user\"\n";
        let proxy = Proxy::start(
            dir.path(),
            &format!("{SETTINGS}{}{keyed}", output(&queue.url)),
        );
        let client = Client::new(proxy.address);
        // Two that look alike to a queue that compares contents, and one without a user.
        let same = r#"{"user":"u-1","n":0}"#;
        let events = [same, same, r#"{"user":"two words"}"#, r#"{"n":1}"#];
        let body = format!("[{}]", events.join(","));
        assert_eq!(client.post("/v1/events", body.as_bytes()).await.status, 200);
        proxy.end_cleanly();
        let messages = queue.read();
        assert_eq!(messages.len(), 4, "each event has a message");
        let ids: HashSet<_> = messages
            .iter()
            .map(|message| &message.deduplication_id)
            .collect();
        assert_eq!(ids.len(), 4);
        let mut groups: HashMap<&str, usize> = HashMap::new();
        for message in &messages {
            let group = message.group.as_deref().unwrap();
            *groups.entry(group).or_default() += 1;
        }
        assert_eq!(groups.len(), 3, "{groups:?}");
        assert_eq!(groups["u-1"], 2);
    });
}
