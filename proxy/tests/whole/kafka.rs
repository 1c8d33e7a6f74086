//! What a Kafka cluster does to us, and what the clients hear of it: librdkafka's mock cluster runs in
//! this process, on loopback, and the program writes to it.

use crate::support::audit::{Sent, Stored, count_answered};
use crate::support::client::post;
use crate::support::event::{event, ids_of_record, new_id};
use crate::support::load::{Load, burst};
use crate::support::proxy::Proxy;
use crate::support::wait_until;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Api, RDKafkaRespErr as Answer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";
const TOPIC: &str = "clicks";
const PARTITIONS: i32 = 3;

struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    fn start() -> Cluster {
        let cluster = MockCluster::new(3).unwrap();
        cluster.create_topic(TOPIC, PARTITIONS, 3).unwrap();
        Cluster(cluster)
    }

    /// An output called `main`; further keys may follow.
    fn output(&self) -> String {
        let brokers = self.0.bootstrap_servers();
        format!("[outputs.main]\ntype = \"kafka\"\nbrokers = \"{brokers}\"\ntopic = \"{TOPIC}\"\n")
    }

    /// All that is there, once nothing came for a second.
    fn stored(&self) -> Stored {
        self.stored_in(TOPIC)
    }

    fn stored_in(&self, topic: &str) -> Stored {
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
        let mut ids = Vec::new();
        let mut until = Instant::now() + Duration::from_secs(10);
        while Instant::now() < until {
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                let message = message.unwrap();
                assert!(message.key().is_none(), "nobody asked for a key");
                ids.extend(ids_of_record(message.payload().unwrap()));
                until = Instant::now() + Duration::from_secs(1);
            }
        }
        Stored::of(ids)
    }
}

#[test]
fn failing_brokers_lose_and_duplicate_no_acknowledged_event() {
    let cluster = Cluster::start();
    let dir = tempdir().unwrap();
    let settings = cluster.output() + "[ack]\ndeadline_ms = 6000\n[drain]\ndeadline_ms = 12000\n";
    let mut proxy = Proxy::start(dir.path(), &settings);
    assert_eq!(proxy.post(EVENTS, event(&new_id(), 0)).status, 200);
    let first = cluster.stored().ids();

    let load = Load::start(proxy.address, EVENTS, 4);
    wait_until("it is under load", || load.answered() > 50);
    cluster.0.request_errors(
        Api::Produce,
        &[
            Answer::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            Answer::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
            Answer::RD_KAFKA_RESP_ERR__TRANSPORT,
        ],
    );
    wait_until("it is over that", || load.answered() > 200);
    for partition in 0..PARTITIONS {
        let leader = Some(partition % 3 + 1);
        cluster
            .0
            .partition_leader(TOPIC, partition, leader)
            .unwrap();
    }
    wait_until("it has moved along", || load.answered() > 400);
    proxy.terminate();
    let status = proxy.wait(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{:#?}", proxy.log());
    let sent = load.join();
    let mut stored = cluster.stored();
    stored.0.retain(|id, _| !first.contains(id));
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    assert!(count_answered(&sent, 200) > 350);
}

#[test]
fn a_lost_kafka_cluster_is_503_and_recovers() {
    let cluster = Cluster::start();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &cluster.output());
    wait_until("the first event is stored", || {
        proxy.post(EVENTS, event(&new_id(), 0)).status == 200
    });
    cluster.0.broker_down(-1).unwrap();
    let sent = burst(proxy.address, EVENTS, 4, 2);
    assert_eq!(count_answered(&sent, 503), sent.len());
    for Sent { answer, .. } in &sent {
        let answer = answer.as_ref().unwrap();
        answer.assert_retry_later(&["not_confirmed", "not_delivered", "circuit_open"]);
    }
    wait_until("its health says what is wrong", || {
        proxy.ready_json()["troubled"]["main"] == "unavailable"
    });
    cluster.0.broker_up(-1).unwrap();
    wait_until("it is written to again", || {
        proxy.post(EVENTS, event(&new_id(), 0)).status == 200
    });
    assert!(proxy.is_ready());
    // The log does not waver between that and what became of the records.
    let said = proxy.said("kafka");
    assert!(!said.is_empty());
    assert!(
        said.iter().all(|line| line["cause"] == "unavailable"),
        "{said:#?}"
    );
    proxy.end_cleanly();
}

#[test]
fn templated_topics_are_bounded_with_a_fallback() {
    let cluster = Cluster::start();
    for name in ["clicks-shop", "clicks-blog", "all"] {
        cluster.0.create_topic(name, PARTITIONS, 3).unwrap();
    }
    let dir = tempdir().unwrap();
    let settings = cluster.output().replace(
        &format!("topic = \"{TOPIC}\""),
        &format!("topic = \"clicks-{{appId}}\"\ntopic_fallback = \"{TOPIC}\"\ntopics_max = 2"),
    );
    // One beside it that knows no such thing.
    let plain = cluster.output().replace("main", "plain");
    let plain = plain.replace(&format!("\"{TOPIC}\""), "\"all\"");
    let proxy = Proxy::start(dir.path(), &format!("{settings}{plain}"));
    let mut expected: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    // One who invents names gets no more than two, and may not speak of anything but names.
    for (topic, app) in [
        ("clicks-shop", "shop"),
        ("clicks-blog", "blog"),
        (TOPIC, "third"),
        (TOPIC, "..%2F..%2Fother"),
        (TOPIC, ""),
        ("clicks-shop", "shop"),
    ] {
        let (envelope, single) = (new_id(), new_id());
        let path = format!("/collect?appId={app}");
        let answer = proxy.post(&path, format!("[{}]", event(&envelope, 0)));
        assert_eq!(answer.status, 200, "{app}");
        let named = format!("{{\"appId\":\"{app}\",{}", &event(&single, 0)[1..]);
        assert_eq!(proxy.post(EVENTS, named).status, 200, "{app}");
        expected
            .entry(topic)
            .or_default()
            .extend([envelope, single]);
    }
    let none = new_id();
    assert_eq!(proxy.post(EVENTS, event(&none, 0)).status, 200);
    expected.entry(TOPIC).or_default().insert(none);
    let page = proxy.settled_metrics("main");
    assert_eq!(page.get("sluice_events_without_topic_total"), 7);
    proxy.end_cleanly();
    let mut all = BTreeSet::new();
    for (topic, ids) in expected {
        let stored = cluster.stored_in(topic);
        assert_eq!(stored.duplicates(), 0);
        assert_eq!(stored.ids(), ids, "{topic}");
        all.extend(ids);
    }
    assert_eq!(cluster.stored_in("all").ids(), all);
}

#[test]
fn a_rule_names_topics_from_nested_fields_and_a_list() {
    let cluster = Cluster::start();
    for name in ["clicks-buy", "clicks-view"] {
        cluster.0.create_topic(name, PARTITIONS, 3).unwrap();
    }
    let dir = tempdir().unwrap();
    let rule = "[[routes]]\nname = \"typed\"\nwhen = { field = \"e.type\", present = true }\noutputs = [\"main\"]\n\
                topic = \"clicks-{e.type}\"\ntopic_names = [\"clicks-buy\", \"clicks-view\"]\n";
    let proxy = Proxy::start(dir.path(), &(cluster.output() + rule));
    let mut expected: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (topic, kind) in [
        ("clicks-buy", "{\"type\":\"buy\"}"),
        ("clicks-view", "{\"type\":\"v\\u0069ew\"}"),
        // Not allowed, no name, and no rule's.
        (TOPIC, "{\"type\":\"other\"}"),
        (TOPIC, "{\"type\":\"../buy\"}"),
        (TOPIC, "{}"),
    ] {
        let id = new_id();
        let body = format!("{{\"e\":{kind},{}", &event(&id, 0)[1..]);
        assert_eq!(proxy.post(EVENTS, body).status, 200, "{kind}");
        expected.entry(topic).or_default().insert(id);
    }
    let page = proxy.settled_metrics("main");
    let of_rule = |what: &str| page.get(&format!("sluice_route_events_{what}{{rule=\"typed\"}}"));
    assert_eq!((of_rule("total"), of_rule("without_topic_total")), (4, 2));
    proxy.end_cleanly();
    for (topic, ids) in expected {
        assert_eq!(cluster.stored_in(topic).ids(), ids, "{topic}");
    }
}

#[test]
fn a_denied_topic_is_503_and_reported() {
    let cluster = Cluster::start();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &cluster.output());
    wait_until("the first event is stored", || {
        proxy.post(EVENTS, event(&new_id(), 0)).status == 200
    });
    let denied = Answer::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.0.request_errors(Api::Produce, &[denied; 50]);
    let id = new_id();
    let answer = proxy.post(EVENTS, event(&id, 0));
    answer.assert_retry_later(&["not_delivered"]);
    assert_eq!(proxy.ready_json()["troubled"]["main"], "denied");
    cluster.0.clear_request_errors(Api::Produce);
    assert!(!cluster.stored().has(&id));
    proxy.end_cleanly();
}

#[test]
fn a_slow_cluster_with_full_queue_is_503_immediately() {
    let cluster = Cluster::start();
    let dir = tempdir().unwrap();
    let settings = cluster.output()
        + "queue_bytes_max = 16384\nbatch_bytes_max = 16384\n\
           [listen]\nworkers = 1\n[limits]\nbody_bytes_max = 4096\nhead_bytes_max = 8192\n\
           [ack]\ndeadline_ms = 8000\n[drain]\ndeadline_ms = 12000\n";
    let proxy = Proxy::start(dir.path(), &settings);
    assert_eq!(proxy.post(EVENTS, event(&new_id(), 0)).status, 200);
    let first = cluster.stored().ids();
    let slow = Duration::from_millis(1_500);
    cluster.0.broker_round_trip_time(-1, slow).unwrap();
    let mut asked: Vec<_> = (0..40)
        .map(|_| {
            let id = new_id();
            let mut client = proxy.connect();
            client.send(post(EVENTS, event(&id, 1_000)));
            (client, id, Instant::now())
        })
        .collect();
    let sent: Vec<Sent> = asked
        .iter_mut()
        .rev()
        .map(|(client, id, since)| Sent {
            answer: client.try_read(),
            ids: vec![id.clone()],
            took: since.elapsed(),
        })
        .collect();
    let (taken, refused) = (count_answered(&sent, 200), count_answered(&sent, 503));
    assert!(taken > 5 && refused > 5, "{taken} taken, {refused} refused");
    for sent in sent.iter().filter(|sent| !sent.is_acked()) {
        let answer = sent.answer.as_ref().unwrap();
        answer.assert_retry_later(&["queue_full"]);
    }
    cluster
        .0
        .broker_round_trip_time(-1, Duration::ZERO)
        .unwrap();
    let mut stored = cluster.stored();
    stored.0.retain(|id, _| !first.contains(id));
    stored.assert_truthful(&sent);
    assert_eq!(stored.duplicates(), 0);
    proxy.end_cleanly();
}
