//! Events with an id of their own, and the ids in what was stored.

use serde_json::Value;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// An id that no other event of this run has.
pub(crate) fn new_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("w{:07}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) fn new_ids(count: usize) -> Vec<String> {
    (0..count).map(|_| new_id()).collect()
}

/// One event of about `bytes` bytes, at least 60.
pub(crate) fn event(id: &str, bytes: usize) -> String {
    let mut event = format!("{{\"id\":\"{id}\",\"kind\":\"click\",\"pad\":\"");
    let pad = bytes.saturating_sub(event.len() + 2);
    event.extend(std::iter::repeat_n('x', pad));
    event.push_str("\"}");
    event
}

/// One event as it is, several as an array.
pub(crate) fn body(ids: &[String]) -> String {
    match ids {
        [id] => event(id, 100),
        ids => array(ids),
    }
}

pub(crate) fn array(ids: &[String]) -> String {
    let events: Vec<_> = ids.iter().map(|id| event(id, 100)).collect();
    format!("[{}]", events.join(","))
}

/// Newline-delimited.
pub(crate) fn lines(ids: &[String]) -> String {
    ids.iter().fold(String::new(), |mut text, id| {
        let _ = writeln!(text, "{}", event(id, 100));
        text
    })
}

/// The ids of a stored record in either mode. A record is one JSON object on one line.
pub(crate) fn ids_of_record(record: &[u8]) -> Vec<String> {
    assert!(!record.contains(&b'\n'), "a record is one line");
    let value: Value = serde_json::from_slice(record)
        .unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(record)));
    assert!(value.is_object());
    match value["data"].as_str() {
        None => vec![id_of(&value)],
        Some(data) => match serde_json::from_str(data) {
            Ok(Value::Array(events)) => events.iter().map(id_of).collect(),
            Ok(event) => vec![id_of(&event)],
            Err(error) => panic!("{error}: {data}"),
        },
    }
}

fn id_of(event: &Value) -> String {
    match event["id"].as_str() {
        Some(id) => id.to_owned(),
        None => panic!("no id in {event}"),
    }
}
