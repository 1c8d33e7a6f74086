//! The Kafka sink against librdkafka's mock cluster: real sockets on loopback, errors by script. That
//! other clients read what is written here, the interop tests show.

use super::*;
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};
use rdkafka::{Offset, TopicPartitionList};
use sluice_core::ack::{AckQueue, OutputId, RequestKey, Ticket};
use sluice_core::cause::Cause;
use sluice_core::time::Mono;
use sluice_core::topic::{Topic, Topics};
use std::collections::BTreeMap;
use std::time::Instant;

const TOPIC: &str = "clicks";
const PARTITIONS: i32 = 2;
const DELIVERED: RecordResult = RecordResult::Delivered;
const UNKNOWN: RecordResult = RecordResult::Retry(Cause::Unknown);

struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn start() -> Cluster {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic(TOPIC, PARTITIONS, 1).unwrap();
        Cluster(cluster)
    }

    fn settings(&self) -> KafkaSettings {
        let brokers = self.0.bootstrap_servers();
        let brokers = brokers.split(',').map(str::to_owned).collect();
        KafkaSettings {
            delivery_timeout: Duration::from_secs(8),
            ..KafkaSettings::new(brokers, TOPIC)
        }
    }

    async fn sink(&self) -> KafkaSink {
        KafkaSink::start(self.settings()).await.unwrap()
    }

    /// One whose brokers have answered: the first message waits for connections.
    async fn warm_sink(&self, settings: KafkaSettings) -> KafkaSink {
        let sink = KafkaSink::start(settings).await.unwrap();
        // Where delivery may take little time, a busy machine may need several tries.
        for _ in 0..20 {
            if sink.write(&[record("warm")]).await == [DELIVERED] {
                return sink;
            }
        }
        panic!("the brokers do not answer");
    }

    /// Keys and payloads with how often each is stored. As many as `least`, or what comes in 3 s.
    fn stored(&self, least: usize) -> BTreeMap<(Option<String>, String), usize> {
        self.stored_in(TOPIC, least)
    }

    fn stored_in(&self, topic: &str, least: usize) -> BTreeMap<(Option<String>, String), usize> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.0.bootstrap_servers())
            .set("group.id", "reader")
            .create()
            .unwrap();
        let mut places = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            places
                .add_partition_offset(topic, partition, Offset::Beginning)
                .unwrap();
        }
        consumer.assign(&places).unwrap();
        let mut stored = BTreeMap::new();
        let mut count = 0;
        let mut until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                continue;
            };
            let message = message.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let entry = (
                message.key().map(text),
                message.payload().map(text).unwrap(),
            );
            *stored.entry(entry).or_default() += 1;
            count += 1;
            if count == least {
                // Whatever else is there comes in the same answers.
                until = Instant::now() + Duration::from_millis(500);
            }
        }
        stored
    }
}

fn record(payload: &str) -> Record {
    let request = RequestKey {
        slot: 0,
        generation: 0,
    };
    Record {
        key: None,
        topic: None,
        payload: payload.to_owned().into(),
        deadline: Mono::NEVER,
        ticket: Ticket::new(AckQueue::leak(), request, OutputId(0), 1),
    }
}

fn records(count: usize) -> Vec<Record> {
    (0..count).map(|at| record(&format!("e{at}"))).collect()
}

/// The topics that a record of these tests may name: two and no more.
fn topics() -> Topics {
    Topics::new("clicks-{x}".parse().unwrap(), 2)
}

fn record_to(topic: Option<Topic>, payload: &str) -> Record {
    Record {
        topic,
        ..record(payload)
    }
}

fn times(stored: &BTreeMap<(Option<String>, String), usize>, payload: &str) -> usize {
    let entry = (None, payload.to_owned());
    stored.get(&entry).copied().unwrap_or(0)
}

#[tokio::test]
async fn records_are_stored_once_with_optional_keys() {
    let cluster = Cluster::start();
    let sink = cluster.sink().await;
    let mut batch = records(300);
    batch.push(Record {
        key: Some("u-17".into()),
        ..record("keyed")
    });
    assert_eq!(sink.write(&batch).await, vec![DELIVERED; 301]);
    let stored = cluster.stored(301);
    assert_eq!(stored.len(), 301);
    assert!(stored.values().all(|times| *times == 1));
    let keyed = (Some("u-17".to_owned()), "keyed".to_owned());
    assert!(stored.contains_key(&keyed));
    assert_eq!(times(&stored, "e299"), 1);
}

#[tokio::test]
async fn every_compression_is_built_in_and_read_back() {
    let cluster = Cluster::start();
    let all = [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for compression in all {
        let settings = KafkaSettings {
            compression,
            ..cluster.settings()
        };
        let sink = KafkaSink::start(settings).await.unwrap();
        let text = format!("{compression:?} {}", "x".repeat(500));
        assert_eq!(sink.write(&[record(&text)]).await, [DELIVERED]);
    }
    assert_eq!(cluster.stored(4).len(), 4);
}

#[tokio::test]
async fn temporary_broker_errors_are_retried_and_stored_once() {
    let cluster = Cluster::start();
    let sink = cluster.warm_sink(cluster.settings()).await;
    cluster.0.request_errors(
        Api::Produce,
        &[
            Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Answer::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    );
    assert_eq!(sink.write(&records(50)).await, vec![DELIVERED; 50]);
    let stored = cluster.stored(51);
    for at in 0..50 {
        assert_eq!(times(&stored, &format!("e{at}")), 1);
    }
}

#[tokio::test]
async fn the_report_decides_and_not_that_the_record_was_taken() {
    let cluster = Cluster::start();
    let sink = cluster.warm_sink(cluster.settings()).await;
    let denied = Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.0.request_errors(Api::Produce, &[denied; 20]);
    let results = sink.write(&records(5)).await;
    assert_eq!(results, vec![RecordResult::Retry(Cause::Denied); 5]);
    cluster.0.clear_request_errors(Api::Produce);
    assert_eq!(cluster.stored(1).len(), 1, "only the first was stored");
    // And it goes on when it may again, without a new start.
    assert_eq!(sink.write(&records(5)).await, vec![DELIVERED; 5]);
}

#[tokio::test]
async fn a_record_goes_to_its_topic_or_the_default() {
    let cluster = Cluster::start();
    let topics = topics();
    let (shop, blog) = (topics.named("clicks-shop"), topics.named("clicks-blog"));
    for name in ["clicks-shop", "clicks-blog"] {
        cluster.0.create_topic(name, PARTITIONS, 1).unwrap();
    }
    let sink = cluster.sink().await;
    let batch = [
        record_to(shop.clone(), "s1"),
        record("plain"),
        record_to(blog.clone(), "b1"),
        record_to(shop.clone(), "s2"),
    ];
    assert_eq!(sink.write(&batch).await, [DELIVERED; 4]);
    let of = |topic, least| {
        let stored = cluster.stored_in(topic, least).into_keys();
        stored.map(|(_, payload)| payload).collect::<Vec<_>>()
    };
    assert_eq!(of("clicks-shop", 2), ["s1", "s2"]);
    assert_eq!(of("clicks-blog", 1), ["b1"]);
    assert_eq!(of(TOPIC, 1), ["plain"]);
    // Both places are confirmed by a delivery now, so neither gives way.
    topics.tick(Mono(60_000_000));
    assert_eq!(topics.named("clicks-third"), None);
}

#[tokio::test]
async fn a_missing_topic_only_delays_other_topics() {
    let cluster = Cluster::start();
    let topics = topics();
    let missing = topics.named("clicks-missing");
    let answer = Answer::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    cluster.0.topic_error("clicks-missing", answer).unwrap();
    let settings = KafkaSettings {
        delivery_timeout: Duration::from_secs(3),
        ..cluster.settings()
    };
    let sink = cluster.warm_sink(settings).await;
    let not_found = RecordResult::Retry(Cause::NotFound);
    let batch = [record("e1"), record_to(missing.clone(), "e2"), record("e3")];
    let results = sink.write(&batch).await;
    assert_eq!(results, [DELIVERED, not_found, DELIVERED]);
    // Known to be missing by now, it is refused without a wait.
    let results = sink
        .write(&[record_to(missing.clone(), "e4"), record("e5")])
        .await;
    assert_eq!(results, [not_found, DELIVERED]);
    assert_eq!(cluster.stored(4).len(), 4);
    // Nothing was ever delivered to it, so it gives way to another name.
    assert!(topics.named("clicks-a").is_some());
    topics.tick(Mono(60_000_000));
    assert!(topics.named("clicks-b").is_some());
}

#[tokio::test]
async fn lost_brokers_mean_unknown_and_recover() {
    let cluster = Cluster::start();
    let settings = KafkaSettings {
        delivery_timeout: Duration::from_millis(1_500),
        ..cluster.settings()
    };
    let sink = cluster.warm_sink(settings).await;
    assert_eq!(sink.connection_error(), None);
    cluster.0.broker_down(-1).unwrap();
    assert_eq!(sink.write(&records(3)).await, [UNKNOWN; 3]);
    assert_eq!(
        sink.connection_error(),
        Some(Cause::Unavailable),
        "what is wrong"
    );
    cluster.0.broker_up(-1).unwrap();
    let give_up = Instant::now() + Duration::from_secs(20);
    while sink.write(&[record("back")]).await != [DELIVERED] {
        assert!(Instant::now() < give_up, "it does not come back");
    }
    let stored = cluster.stored(2);
    assert_eq!(times(&stored, "e0"), 0, "given up, and sent nevertheless");
}

#[tokio::test]
async fn an_answer_after_the_delivery_timeout_is_no_delivery() {
    let cluster = Cluster::start();
    let settings = KafkaSettings {
        delivery_timeout: Duration::from_millis(1_000),
        ..cluster.settings()
    };
    let sink = cluster.warm_sink(settings).await;
    let delay = Duration::from_secs(5);
    cluster.0.broker_round_trip_time(-1, delay).unwrap();
    assert_eq!(sink.write(&records(3)).await, [UNKNOWN; 3]);
    assert_eq!(sink.connection_error(), None, "nobody said what is wrong");
}

#[tokio::test]
async fn a_full_producer_buffer_is_throttled_immediately() {
    let cluster = Cluster::start();
    let settings = KafkaSettings {
        buffer_records_max: 3,
        delivery_timeout: Duration::from_millis(1_000),
        ..cluster.settings()
    };
    let sink = cluster.warm_sink(settings).await;
    cluster.0.broker_down(-1).unwrap();
    let results = sink.write(&records(5)).await;
    // librdkafka may still count the first message, whose report has just arrived.
    let taken = results
        .iter()
        .take_while(|result| **result == UNKNOWN)
        .count();
    assert!((2..=3).contains(&taken), "{results:?}");
    let throttled = RecordResult::Retry(Cause::Throttled);
    assert!(results[taken..].iter().all(|result| *result == throttled));
}

#[tokio::test]
async fn a_producer_that_fails_for_ever_is_replaced() {
    let cluster = Cluster::start();
    let sink = cluster.warm_sink(cluster.settings()).await;
    // For the oldest message under way this says that both sides disagree on what is stored.
    cluster.0.request_errors(
        Api::Produce,
        &[Answer::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER],
    );
    assert_eq!(sink.write(&[record("first")]).await, [UNKNOWN]);
    let give_up = Instant::now() + Duration::from_secs(20);
    let mut refused = 0;
    loop {
        match sink.write(&[record("next")]).await[..] {
            [DELIVERED] => break,
            // Not sent at all by a producer that is dead.
            [RecordResult::Retry(Cause::Unavailable)] => refused += 1,
            ref other => panic!("{other:?}"),
        }
        assert!(Instant::now() < give_up, "it is not replaced");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(refused > 0, "the producer did not die");
    assert_eq!(times(&cluster.stored(2), "next"), 1);
}

/// librdkafka asks anew each second; should it come to believe an answer for longer, this tells.
#[tokio::test]
async fn missing_and_denied_topics_recover_soon() {
    for (answer, cause) in [
        (
            Answer::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
            Cause::NotFound,
        ),
        (
            Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            Cause::Denied,
        ),
    ] {
        let cluster = Cluster::start();
        cluster.0.topic_error(TOPIC, answer).unwrap();
        let settings = KafkaSettings {
            delivery_timeout: Duration::from_secs(3),
            ..cluster.settings()
        };
        let sink = KafkaSink::start(settings).await.unwrap();
        let expected = RecordResult::Retry(cause);
        assert_eq!(sink.write(&records(2)).await, [expected; 2]);
        let good = Answer::RD_KAFKA_RESP_ERR_NO_ERROR;
        cluster.0.topic_error(TOPIC, good).unwrap();
        let give_up = Instant::now() + Duration::from_secs(20);
        while sink.write(&[record("there")]).await != [DELIVERED] {
            assert!(Instant::now() < give_up, "{cause:?} for ever");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn an_oversized_record_is_refused_before_sending() {
    let cluster = Cluster::start();
    let settings = KafkaSettings {
        record_bytes_max: 1_000,
        ..cluster.settings()
    };
    let sink = KafkaSink::start(settings).await.unwrap();
    assert_eq!(sink.limits().record_bytes_max, 1_000);
    let key = "k".repeat(10);
    let batch = [
        record(&"x".repeat(1_000)),
        Record {
            key: Some(key.into()),
            ..record(&"y".repeat(991))
        },
        record("small"),
    ];
    let refused = RecordResult::Refused(Cause::TooLarge);
    assert_eq!(sink.write(&batch).await, [DELIVERED, refused, DELIVERED]);
}

#[tokio::test]
async fn check_never_creates_a_topic() {
    let cluster = Cluster::start();
    let found = cluster.sink().await.check().await.unwrap();
    assert!(
        found.starts_with("kafka topic clicks: 2 partitions"),
        "{found}"
    );
    let settings = KafkaSettings {
        template: Some("cli{x}".parse().unwrap()),
        ..cluster.settings()
    };
    let sink = KafkaSink::start(settings).await.unwrap();
    let found = sink.check().await.unwrap();
    assert!(
        found.starts_with("kafka topics cli{x}, else clicks: 2 "),
        "{found}"
    );
    assert!(found.ends_with("; 1 topics begin with cli"), "{found}");
    let settings = KafkaSettings {
        topic: "other".to_owned(),
        ..cluster.settings()
    };
    let sink = KafkaSink::start(settings).await.unwrap();
    for _ in 0..2 {
        let error = sink.check().await.unwrap_err();
        assert!(error.reason.starts_with("no such topic"), "{error}");
    }
}

#[tokio::test]
async fn kafka_errors_name_settings_but_no_password() {
    // A port that was free a moment ago: no broker listens there.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = free.local_addr().unwrap().to_string();
    drop(free);
    let brokers = || vec![nowhere.clone()];
    let good = KafkaSettings::new(brokers(), TOPIC);
    for (settings, expected) in [
        (KafkaSettings::new(vec![], TOPIC), "0 brokers"),
        (KafkaSettings::new(brokers(), ""), "topic"),
        (
            KafkaSettings {
                record_bytes_max: 999,
                ..good.clone()
            },
            "`record_bytes_max` is 999",
        ),
        (
            KafkaSettings {
                tls: true,
                ca_file: Some("/nonexistent/ca.pem".into()),
                ..good.clone()
            },
            "ca_file /nonexistent/ca.pem: No such file",
        ),
        (
            KafkaSettings {
                tls: true,
                certificate_file: Some("/dev/null".into()),
                key_file: Some("/dev/null".into()),
                ..good.clone()
            },
            "certificate_file",
        ),
    ] {
        let error = KafkaSink::start(settings).await.err().unwrap();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let settings = KafkaSettings {
        sasl: SaslMechanism::ScramSha512,
        sasl_username: Some("sluice".to_owned()),
        sasl_password: Some(Secret("hunter2".to_owned())),
        ..good
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
}
