//! Rules of routing, from the socket to the destinations: each event where it belongs, and nowhere else.

use crate::support::client::post;
use crate::support::files;
use crate::support::proxy::Proxy;
use crate::support::stream::emulator;
use crate::support::wait_until;
use serde_json::Value;
use sluice_loadtest::kinesis::Faults;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

fn ids(dir: &Path) -> Vec<String> {
    let mut ids = files::stored(dir).ids().into_iter().collect::<Vec<_>>();
    ids.sort_unstable();
    ids
}

#[test]
fn each_event_is_stored_where_its_rule_says_and_nowhere_else() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let (orders, rest) = (dir.path().join("orders"), dir.path().join("rest"));
    let settings = format!(
        "[outputs.orders]\ntype = \"file\"\ndir = {orders:?}\n\
         [outputs.rest]\ntype = \"file\"\ndir = {rest:?}\n\
         [outputs.stream]\ntype = \"kinesis\"\nstream = \"clicks\"\nendpoint_url = \"{}\"\n\
         [routing]\nunmatched = [\"rest\"]\n\
         [[routes]]\nname = \"bots\"\nwhen = {{ query = \"bot\", present = true }}\noutputs = []\n\
         [[routes]]\nname = \"orders\"\nwhen = {{ field = \"event.type\", equals = \"buy\" }}\n\
         outputs = [\"stream\", \"orders:enqueued\"]\nkey = \"field:user.id,device\"\n\
         [[routes]]\nname = \"noise\"\nwhen = {{ field = \"event.type\", equals = \"move\" }}\n\
         outputs = [\"rest\"]\nsample_by = \"user.id\"\nsample_keep_per_mille = 500\n",
        stream.url()
    );
    let proxy = Proxy::start(dir.path(), &settings);
    let body = r#"[{"id":"a","event":{"type":"b\u0075y"},"user":{"id":"u-1"}},
        {"id":"b","event":{"type":"buy"},"device":7},
        {"id":"c","event":{"type":"view"}},
        {"id":"d","event":{"type":"move"},"user":{"id":"u-1"}},
        {"id":"e","event":{"type":"move"},"user":{"id":"\u00e9"}},
        {"id":"f","event":{"type":"move"}}]"#;
    assert_eq!(proxy.post(EVENTS, body).status, 200);
    assert_eq!(proxy.post("/v1/events?bot=1", r#"{"id":"g"}"#).status, 200);
    assert_eq!(
        proxy
            .connect()
            .ask(post("/collect", r#"{"id":"h"}"#))
            .status,
        200
    );

    wait_until("the best-effort copy is written", || {
        ids(&orders).len() == 2
    });
    let metrics = proxy.metrics();
    let of_rule = |what: &str, rule: &str| {
        metrics.get(&format!(
            "sluice_route_events_{what}total{{rule=\"{rule}\"}}"
        ))
    };
    let counts = ["bots", "orders", "noise", "unmatched"].map(|rule| of_rule("", rule));
    assert_eq!(counts, [1, 2, 3, 2]);
    assert_eq!(of_rule("sampled_away_", "noise"), 1);
    proxy.end_cleanly();

    let keys: BTreeMap<String, String> = stream
        .stored_records()
        .iter()
        .map(|record| {
            let event: Value = serde_json::from_slice(&record.data).unwrap();
            (
                event["id"].as_str().unwrap().to_owned(),
                record.key.clone().unwrap(),
            )
        })
        .collect();
    let expected = [("a", "u-1"), ("b", "7")].map(|(id, key)| (id.to_owned(), key.to_owned()));
    assert_eq!(keys, expected.into());
    assert_eq!(ids(&orders), ["a", "b"]);
    // Of the two users with a sample, `é` is kept and `u-1` is not; the event without a user is kept.
    assert_eq!(ids(&rest), ["c", "e", "f", "h"]);
    let records = files::records(&rest);
    let rates = records.iter().filter_map(|record| {
        let event: Value = serde_json::from_slice(record).unwrap();
        Some((
            event["id"].as_str()?.to_owned(),
            event.get("sample_rate")?.as_f64()?,
        ))
    });
    assert_eq!(rates.collect::<Vec<_>>(), [("e".to_owned(), 0.5)]);
}

/// Large bodies are prepared on another thread, by the same rules.
#[test]
fn rules_hold_for_large_bodies_and_by_listener() {
    let dir = tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
    let settings = format!(
        "[outputs.inside]\ntype = \"file\"\ndir = {inside:?}\n\
         [outputs.outside]\ntype = \"file\"\ndir = {outside:?}\n\
         [listeners.internal]\naddress = \"127.0.0.1:0\"\n\
         [routing]\nunmatched = [\"outside\"]\n\
         [[routes]]\nname = \"internal\"\noutputs = [\"inside\"]\n\
         when = {{ all = [{{ request = \"listener\", equals = \"internal\" }}, {{ request = \"host\", prefix = \"Te\" }}] }}\n"
    );
    let proxy = Proxy::start(dir.path(), &settings);
    let internal = proxy.said("accepting requests")[1]["address"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let event = |id: &str| format!("{{\"id\":\"{id}\",\"pad\":\"{}\"}}", "x".repeat(100_000));
    assert_eq!(proxy.post(EVENTS, event("a")).status, 200);
    let mut client = crate::support::client::Client::connect(internal);
    for id in ["b", "c"] {
        let body = if id == "b" {
            event(id)
        } else {
            format!("{{\"id\":\"{id}\"}}")
        };
        assert_eq!(client.ask(post(EVENTS, body)).status, 200);
    }
    proxy.end_cleanly();
    assert_eq!(
        (ids(&inside), ids(&outside)),
        (vec!["b".to_owned(), "c".to_owned()], vec!["a".to_owned()])
    );
}
