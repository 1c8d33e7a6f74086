//! A broker of Apache Kafka itself, in plain text, with SCRAM, with TLS, and with TLS that wants a client's
//! certificate; its own tools, which are Java, make the topics and read them back.

use super::judge::{compare, envelope_in_order};
use super::traffic::{Client, Offer, offer};
use super::{SETTINGS, run, variable};
use crate::support::proxy::Proxy;
use crate::support::wait_until;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::tempdir;

/// Name and password of the login that the broker knows.
const USER: &str = "sluice";
const PASSWORD: &str = "interop-password";
const PARTITIONS: i32 = 2;

/// One of the broker's own programs.
fn tool(class: &str, arguments: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["60", "java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"])
        .args([&variable("SLUICE_INTEROP_KAFKA_JARS"), class])
        .args(["--bootstrap-server", &variable("SLUICE_INTEROP_KAFKA")])
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{class}: {text}{error}");
    text
}

struct Topic {
    name: String,
}

struct Stored {
    partition: i32,
    key: String,
    data: String,
}

impl Topic {
    /// A new one; `more` goes on with its settings.
    fn create(more: &[&str]) -> Topic {
        Topic::create_named(format!("interop-{:016x}", fastrand::u64(..)), more)
    }

    fn create_named(name: String, more: &[&str]) -> Topic {
        let partitions = PARTITIONS.to_string();
        let mut arguments = vec!["--create", "--topic", &name, "--partitions", &partitions];
        arguments.extend(more);
        tool("org.apache.kafka.tools.TopicCommand", &arguments);
        Topic { name }
    }

    /// Every record, by the consumer of Kafka's distribution.
    fn read(&self) -> Vec<Stored> {
        let mut stored = Vec::new();
        for partition in 0..PARTITIONS {
            let number = partition.to_string();
            let text = tool(
                "org.apache.kafka.tools.consumer.ConsoleConsumer",
                &[
                    "--topic",
                    &self.name,
                    "--partition",
                    &number,
                    "--offset",
                    "earliest",
                    "--timeout-ms",
                    "3000",
                    "--property",
                    "print.key=true",
                ],
            );
            stored.extend(text.lines().map(|line| {
                let (key, data) = line.split_once('\t').unwrap();
                Stored {
                    partition,
                    key: key.to_owned(),
                    data: data.to_owned(),
                }
            }));
        }
        stored
    }

    /// An output called `main` by the listener that a variable names.
    fn output(&self, listener: &str, more: &str) -> String {
        let broker = variable(listener);
        let topic = &self.name;
        format!(
            "{SETTINGS}[outputs.main]\ntype = \"kafka\"\nbrokers = \"{broker}\"\n\
             topic = \"{topic}\"\n{more}"
        )
    }
}

fn login(mechanism: &str, password: &str) -> String {
    format!("sasl = \"{mechanism}\"\nsasl_username = \"{USER}\"\nsasl_password = \"{password}\"\n")
}

/// What a client shows that the broker knows, or does not.
fn certificate(whose: &str) -> String {
    let dir = variable("SLUICE_INTEROP_KAFKA_CERTIFICATES");
    let ca = variable("SLUICE_INTEROP_KAFKA_CA");
    format!(
        "ca_file = \"{ca}\"\ncertificate_file = \"{dir}/{whose}.pem\"\n\
         key_file = \"{dir}/{whose}.key\"\nkey_password = \"{PASSWORD}\"\n"
    )
}

fn check(dir: &Path, settings: &str) -> (Output, String) {
    let file = dir.join("check.toml");
    std::fs::write(&file, settings).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["check", "--config"])
        .arg(file)
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

/// Offers events by this listener, and compares what was said with what is there.
fn every_event_once(listener: &str, more: &str) {
    run(async {
        let topic = Topic::create(&[]);
        let dir = tempdir().unwrap();
        let settings = topic.output(listener, more);
        let (output, text) = check(dir.path(), &settings);
        assert!(output.status.success(), "{text}");
        assert!(!text.contains(PASSWORD), "{text}");
        let found = text.lines().last().unwrap_or_default();
        assert!(found.starts_with("output main (kafka) ok: "), "{found}");

        let proxy = Proxy::start(dir.path(), &settings);
        let many = Offer {
            requests: 300,
            per_second: 150.0,
            array: 5,
            lines: 20,
        };
        let sent = offer(proxy.address, &many).await;
        let metrics = proxy.settled_metrics("main");
        let delivered = metrics.records("delivered_records_total", "main");
        proxy.end_cleanly();
        let stored = topic.read();
        let verdict = compare(&sent, stored.iter().map(|record| record.data.as_bytes()));
        println!("kafka, {listener}: {verdict}");
        assert_eq!(verdict.acknowledged, verdict.offered, "{verdict}");
        assert_eq!(delivered, stored.len() as u64, "the metric knows better");
        verdict.hold();
        assert!(stored.iter().all(|record| record.key == "null"));
    });
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn apache_kafka_has_every_event_once_plain_and_lz4() {
    every_event_once("SLUICE_INTEROP_KAFKA", "compression = \"lz4\"\n");
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn apache_kafka_has_every_event_once_by_scram_and_snappy() {
    let more = login("scram-sha-256", PASSWORD) + "tls = false\ncompression = \"snappy\"\n";
    every_event_once("SLUICE_INTEROP_KAFKA_SCRAM", &more);
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn apache_kafka_has_every_event_once_over_tls() {
    let ca = variable("SLUICE_INTEROP_KAFKA_CA");
    for (mechanism, compression) in [("scram-sha-512", "zstd"), ("plain", "gzip")] {
        let more = login(mechanism, PASSWORD)
            + &format!("ca_file = \"{ca}\"\ncompression = \"{compression}\"\n");
        every_event_once("SLUICE_INTEROP_KAFKA_TLS", &more);
    }
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn apache_kafka_has_every_event_once_by_a_client_certificate() {
    let more = certificate("client") + "compression = \"zstd\"\n";
    every_event_once("SLUICE_INTEROP_KAFKA_MUTUAL", &more);
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn an_unknown_client_certificate_is_denied() {
    // No client gets as far as asking for it.
    let topic = Topic {
        name: "any".to_owned(),
    };
    let dir = tempdir().unwrap();
    let ca = variable("SLUICE_INTEROP_KAFKA_CA");
    let none = format!("tls = true\nca_file = \"{ca}\"\n");
    let none = topic.output("SLUICE_INTEROP_KAFKA_MUTUAL", &none);
    let strange = topic.output("SLUICE_INTEROP_KAFKA_MUTUAL", &certificate("stranger"));
    for settings in [&none, &strange] {
        let (output, text) = check(dir.path(), settings);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let line = text.lines().last().unwrap_or_default();
        println!("{line}");
        assert!(line.ends_with("(denied)"), "{line}");
    }
    run(async {
        let proxy = Proxy::start(dir.path(), &none);
        let client = Client::new(proxy.address);
        let answer = client.post("/v1/events", b"{\"id\":\"e\"}").await;
        assert_eq!(answer.status, 503);
        wait_until("its health says why", || {
            proxy.ready_json()["troubled"]["main"] == "denied"
        });
        proxy.end_cleanly();
    });
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn check_finds_unusable_certificates_without_showing_passwords() {
    let good = certificate("client");
    let dir = tempdir().unwrap();
    for (from, to, expected) in [
        ("client.key", "nowhere.key", "nowhere.key: No such file"),
        ("client.pem", "nowhere.pem", "nowhere.pem: No such file"),
        ("client.key", "stranger.key", "key values mismatch"),
        (PASSWORD, "wrong-one", "key_file or key_password"),
    ] {
        let settings = Topic {
            name: "any".to_owned(),
        }
        .output("SLUICE_INTEROP_KAFKA_MUTUAL", &good.replacen(from, to, 1));
        let (output, text) = check(dir.path(), &settings);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let line = text.lines().last().unwrap_or_default();
        println!("{line}");
        assert!(line.starts_with("output main (kafka) FAILED: "), "{line}");
        assert!(line.contains(expected), "{line}");
        let error = String::from_utf8_lossy(&output.stderr);
        for secret in [PASSWORD, "wrong-one"] {
            assert!(
                !text.contains(secret) && !error.contains(secret),
                "{text}{error}"
            );
        }
    }
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn records_reach_their_topics_and_missing_ones_are_503() {
    run(async {
        let fallback = Topic::create(&[]);
        let shop = Topic::create_named(format!("{}-shop", fallback.name), &[]);
        let dir = tempdir().unwrap();
        let template = Topic {
            name: format!("{}-{{appId}}", fallback.name),
        };
        let more = format!("topic_fallback = \"{}\"\n", fallback.name);
        let settings = template.output("SLUICE_INTEROP_KAFKA", &more);
        let (output, text) = check(dir.path(), &settings);
        assert!(output.status.success(), "{text}");
        let proxy = Proxy::start(dir.path(), &settings);
        let client = Client::new(proxy.address);
        for (path, body, status) in [
            ("/collect?appId=shop", "[{}]", 200),
            ("/v1/events", "{\"id\":\"e1\",\"appId\":\"shop\"}", 200),
            ("/v1/events", "{\"id\":\"e2\",\"appId\":\"sh op\"}", 200),
            ("/collect?platform=Web", "[{}]", 200),
            ("/v1/events", "{\"id\":\"e3\",\"appId\":\"nowhere\"}", 503),
        ] {
            let answer = client.post(path, body.as_bytes()).await;
            assert_eq!(answer.status, status, "{path} {body}");
        }
        wait_until("its health says why", || {
            proxy.ready_json()["troubled"]["main"] == "not_found"
        });
        proxy.end_cleanly();
        let apps = |topic: &Topic| -> Vec<String> {
            let stored = topic.read().into_iter().map(|record| {
                let value: serde_json::Value = serde_json::from_str(&record.data).unwrap();
                value["appId"].to_string()
            });
            let mut apps: Vec<String> = stored.collect();
            apps.sort_unstable();
            apps
        };
        assert_eq!(apps(&shop), ["\"shop\"", "\"shop\""]);
        assert_eq!(apps(&fallback), ["\"sh op\"", "null"]);
    });
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn check_finds_wrong_kafka_settings() {
    let topic = Topic::create(&[]);
    let dir = tempdir().unwrap();
    let scram = "SLUICE_INTEROP_KAFKA_SCRAM";
    let nowhere = Topic {
        name: "not-there".to_owned(),
    };
    for (settings, expected) in [
        (
            topic.output(
                scram,
                &(login("scram-sha-256", "wrong-one") + "tls = false\n"),
            ),
            "(denied)",
        ),
        (
            topic.output("SLUICE_INTEROP_KAFKA_TLS", &login("plain", PASSWORD)),
            "(denied)",
        ),
        (nowhere.output("SLUICE_INTEROP_KAFKA", ""), "no such topic"),
    ] {
        let (output, text) = check(dir.path(), &settings);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let line = text.lines().last().unwrap_or_default();
        assert!(line.starts_with("output main (kafka) FAILED: "), "{line}");
        assert!(line.contains(expected), "{line}");
        for secret in [PASSWORD, "wrong-one"] {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(
                !text.contains(secret) && !error.contains(secret),
                "{text}{error}"
            );
        }
    }
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn a_record_over_the_topic_limit_is_503_alone() {
    run(async {
        let topic = Topic::create(&["--config", "max.message.bytes=2000"]);
        let dir = tempdir().unwrap();
        let more = "linger_ms = 100\npartition_key = \"field:k\"\n";
        let proxy = Proxy::start(dir.path(), &topic.output("SLUICE_INTEROP_KAFKA", more));
        let client = Client::new(proxy.address);
        // One key, so that all are in one batch at first. A first one shows that small ones are taken.
        let event = |id: &str, pad: usize| {
            let pad = "x".repeat(pad);
            format!("{{\"id\":\"{id}\",\"k\":\"same\",\"pad\":\"{pad}\"}}").into_bytes()
        };
        let first = client.post("/v1/events", &event("small-0", 10)).await;
        assert_eq!(first.status, 200);
        let bodies = [
            event("small-1", 10),
            event("large", 5_000),
            event("small-2", 10),
        ];
        let bodies = bodies.into_iter().map(|body| ("/v1/events", body));
        let answers = client.post_all(bodies).await;
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 503, 200]);
        let alter = [
            "--alter",
            "--topic",
            &topic.name,
            "--add-config",
            "max.message.bytes=1048588",
        ];
        tool("kafka.admin.ConfigCommand", &alter);
        let give_up = Instant::now() + Duration::from_secs(30);
        while client
            .post("/v1/events", &event("large", 5_000))
            .await
            .status
            != 200
        {
            assert!(Instant::now() < give_up, "it does not recover");
        }
        proxy.end_cleanly();
        let stored = topic.read();
        let ids = stored
            .iter()
            .map(|record| record.data.split('"').nth(3).unwrap());
        let ids: Vec<&str> = ids.collect();
        assert_eq!(ids.len(), 4, "{ids:?}");
        assert_eq!(ids[3], "large");
    });
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn a_deleted_topic_is_503_until_recreated() {
    run(async {
        let topic = Topic::create(&[]);
        let dir = tempdir().unwrap();
        let proxy = Proxy::start(dir.path(), &topic.output("SLUICE_INTEROP_KAFKA", ""));
        let client = Client::new(proxy.address);
        let body = "not JSON: \"quoted\" caf\u{e9}".as_bytes();
        let path = "/collect?appId=shop";
        assert_eq!(client.post(path, body).await.status, 200);
        let delete = ["--delete", "--topic", &topic.name];
        tool("org.apache.kafka.tools.TopicCommand", &delete);
        let began = Instant::now();
        assert_eq!(client.post(path, body).await.status, 503);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(6), "{took:?}");
        wait_until("its health says so", || {
            proxy.ready_json()["troubled"]["main"].is_string()
        });
        let partitions = PARTITIONS.to_string();
        let create = [
            "--create",
            "--topic",
            &topic.name,
            "--partitions",
            &partitions,
        ];
        tool("org.apache.kafka.tools.TopicCommand", &create);
        let give_up = Instant::now() + Duration::from_secs(30);
        while client.post(path, body).await.status != 200 {
            assert!(Instant::now() < give_up, "it does not recover");
        }
        proxy.end_cleanly();
        let stored = topic.read();
        assert!(!stored.is_empty());
        for record in &stored {
            envelope_in_order(&record.data);
        }
    });
}

#[test]
#[ignore = "needs Apache Kafka, which .ci/interop starts"]
fn a_key_is_the_field_and_keeps_its_partition() {
    run(async {
        let topic = Topic::create(&[]);
        let dir = tempdir().unwrap();
        let settings = topic.output("SLUICE_INTEROP_KAFKA", "partition_key = \"field:id\"\n");
        let proxy = Proxy::start(dir.path(), &settings);
        let client = Client::new(proxy.address);
        for number in 0..20 {
            let event = format!("{{\"id\":\"user-{}\"}}", number % 10);
            let answer = client.post("/v1/events", event.as_bytes()).await;
            assert_eq!(answer.status, 200);
        }
        proxy.end_cleanly();
        let stored = topic.read();
        assert_eq!(stored.len(), 20);
        let keys: BTreeSet<&str> = stored.iter().map(|record| record.key.as_str()).collect();
        let places: BTreeSet<(i32, &str)> = stored
            .iter()
            .map(|record| (record.partition, record.key.as_str()))
            .collect();
        assert_eq!((keys.len(), places.len()), (10, 10));
        for record in &stored {
            assert!(
                record
                    .data
                    .starts_with(&format!("{{\"id\":\"{}\"", record.key))
            );
        }
    });
}
