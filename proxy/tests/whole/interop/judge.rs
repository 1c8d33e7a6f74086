//! What was answered against what is stored, event by event.

use super::stream::Stored;
use super::traffic::{Request, Shape};
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};
use std::fmt;

/// The keys of an envelope, in their order in the record.
const ENVELOPE_KEYS: [&str; 16] = [
    "appId",
    "compression",
    "data",
    "date",
    "fakeIp",
    "ingest_time",
    "ip",
    "method",
    "path",
    "platform",
    "rid",
    "server_ingest_time",
    "source_type",
    "timestamp",
    "ua",
    "uri",
];

/// Counts of events.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) offered: usize,
    /// Answered 200.
    pub(crate) acknowledged: usize,
    /// Answered 503, and stored nevertheless: legal, for 503 says "not known".
    pub(crate) in_doubt: usize,
    /// Answered 200, and not stored.
    pub(crate) lost: Vec<String>,
    /// Stored more than once.
    pub(crate) twice: Vec<String>,
}

impl Judgement {
    /// Neither lost nor stored again; names the first few otherwise.
    pub(crate) fn hold(&self) {
        for (ids, fault) in [(&self.lost, "lost"), (&self.twice, "stored again")] {
            let first = &ids[..ids.len().min(10)];
            assert!(ids.is_empty(), "{fault}: {}, first {first:?}", ids.len());
        }
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judgement {
            offered,
            acknowledged,
            in_doubt,
            lost,
            twice,
        } = self;
        write!(
            f,
            "{offered} events, {acknowledged} answered 200, {} answered 503 of which {in_doubt} are stored, \
             lost {}, duplicates {}",
            offered - acknowledged,
            lost.len(),
            twice.len(),
        )
    }
}

/// Compares the two. Panics at a record that nobody sent, that was changed on the way, or that a consumer
/// could not place; and when records are not spread over all shards.
pub(crate) fn judge(sent: &[Request], stored: &[Stored], shards: usize) -> Judgement {
    are_spread(stored, shards);
    compare(sent, stored.iter().map(|record| &record.data[..]))
}

/// The same for a destination without shards.
pub(crate) fn compare<'a>(sent: &[Request], stored: impl Iterator<Item = &'a [u8]>) -> Judgement {
    let mut by_id = HashMap::new();
    for request in sent {
        for event in &request.events {
            let known = by_id.insert(id(event), (request, event.as_str()));
            assert!(known.is_none(), "two events with one id were sent");
        }
    }
    let mut times: HashMap<&str, usize> = HashMap::new();
    for record in stored {
        let text = std::str::from_utf8(record).unwrap();
        // Strict: one document and nothing behind it.
        let fields: Map<String, Value> = serde_json::from_str(text).unwrap();
        let is_envelope = fields.contains_key("source_type");
        let id = if is_envelope {
            envelope_in_order(text);
            id(fields["data"].as_str().unwrap()).to_owned()
        } else {
            fields["id"].as_str().unwrap().to_owned()
        };
        let Some((id, (request, event))) = by_id.get_key_value(id.as_str()) else {
            panic!("nobody sent {text}");
        };
        match request.shape {
            Shape::Envelope => assert_eq!(fields["data"], *event),
            Shape::Events => as_it_was_sent(event, text, &fields),
        }
        *times.entry(id).or_default() += 1;
    }
    let listed = |of: &dyn Fn(u16, usize) -> bool| -> Vec<String> {
        let found = by_id.iter().filter(|(id, (request, _))| {
            let times = times.get(**id).copied().unwrap_or(0);
            of(request.status, times)
        });
        found.map(|(id, _)| (*id).to_owned()).collect()
    };
    Judgement {
        offered: by_id.len(),
        acknowledged: listed(&|status, _| status == 200).len(),
        in_doubt: listed(&|status, times| status != 200 && times > 0).len(),
        lost: listed(&|status, times| status == 200 && times == 0),
        twice: listed(&|_, times| times > 1),
    }
}

/// The id in the text of an event, which begins with it.
fn id(event: &str) -> &str {
    let id = event.strip_prefix(r#"{"id":""#);
    id.and_then(|rest| rest.split('"').next()).unwrap()
}

/// An envelope's keys, each once, in order.
pub(crate) fn envelope_in_order(text: &str) {
    let fields: Map<String, Value> = serde_json::from_str(text).unwrap();
    // The seventeenth is the client's time: which of two depends on the request.
    assert_eq!(fields.len(), ENVELOPE_KEYS.len() + 1, "{text}");
    let mut rest = text;
    for key in ENVELOPE_KEYS {
        assert!(fields.contains_key(key), "{key} is missing in {text}");
        // Quotes inside of values are escaped, so this is the key.
        let name = format!("\"{key}\":");
        let at = rest.find(&name);
        let at = at.unwrap_or_else(|| panic!("{key} is out of place in {text}"));
        rest = &rest[at + name.len()..];
    }
}

/// The client's bytes, then what the server adds.
fn as_it_was_sent(event: &str, text: &str, fields: &Map<String, Value>) {
    let open = event.strip_suffix('}').unwrap();
    let added = text.strip_prefix(open);
    let added = added.unwrap_or_else(|| panic!("{event} became {text}"));
    assert!(added.starts_with(",\"ingest_time\":"), "{added}");
    assert!(fields["ingest_time"].is_u64(), "{added}");
    assert_eq!(fields["rid"].as_str().unwrap().len(), 32, "{added}");
    assert_eq!(fields["ip"], "127.0.0.1");
}

fn are_spread(stored: &[Stored], shards: usize) {
    let mut by_shard: HashMap<&str, usize> = HashMap::new();
    let mut keys = HashSet::new();
    let mut places = HashSet::new();
    for record in stored {
        *by_shard.entry(&record.shard).or_default() += 1;
        assert!(keys.insert(&record.key), "key {} came twice", record.key);
        assert_eq!(record.key.len(), 16, "{}", record.key);
        assert!(places.insert((&record.shard, &record.sequence_number)));
    }
    let least = by_shard.values().min().copied().unwrap_or(0);
    assert!(
        by_shard.len() == shards && least * shards * 2 > stored.len(),
        "random keys fell on {by_shard:?}"
    );
}
