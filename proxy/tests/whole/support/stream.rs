//! Streams: the events that the emulator stored, and a stream whose result depends on the record,
//! which the emulator's faults cannot. The latter keeps partition keys only.

use super::audit::{Sent, Stored};
use super::event::ids_of_record;
use super::load::burst;
use super::proxy::Proxy;
use super::wait_until;
use serde_json::{Value, json};
use sluice_loadtest::kinesis::{Emulator, Faults, Options, StoredRecord};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// An emulator that refuses nothing but what its faults say.
pub(crate) fn emulator(faults: Faults) -> Emulator {
    let options = Options {
        shard_limits: false,
        faults,
        ..Options::default()
    };
    Emulator::start(options).unwrap()
}

pub(crate) fn stored(emulator: &Emulator) -> Stored {
    assert_eq!(emulator.stats().not_retained, 0);
    let records = emulator.stored_records();
    Stored::of(
        records
            .iter()
            .flat_map(StoredRecord::delivered)
            .flat_map(ids_of_record),
    )
}

/// Sends single events until one is answered 200.
pub(crate) fn await_success(proxy: &Proxy, sent: &mut Vec<Sent>) {
    wait_until("requests succeed again", || {
        sent.extend(burst(proxy.address, "/v1/events", 1, 1));
        sent.last().is_some_and(Sent::is_acked)
    });
}

/// Ends a proxy whose every answer was true, and whose copies are of records with a lost answer only.
pub(crate) fn end_with_the_truth(proxy: Proxy, stream: &Emulator, sent: &[Sent]) {
    let metrics = proxy.settled_metrics("main");
    let stored = stored(stream);
    stored.assert_truthful(sent);
    assert!(stored.duplicates() <= metrics.unknown_retries("main"));
    proxy.end_cleanly();
}

/// Whether the record with this key is taken.
type Takes = dyn Fn(&str) -> bool + Send + Sync;

pub(crate) struct PickyStream {
    pub(crate) address: SocketAddr,
    keys: Arc<Mutex<Keys>>,
    ended: Arc<AtomicBool>,
}

#[derive(Default)]
struct Keys {
    stored: Vec<String>,
    refused: Vec<String>,
}

impl PickyStream {
    pub(crate) fn start(takes: impl Fn(&str) -> bool + Send + Sync + 'static) -> PickyStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let keys: Arc<Mutex<Keys>> = Arc::default();
        let ended: Arc<AtomicBool> = Arc::default();
        let takes: Arc<Takes> = Arc::new(takes);
        let (for_loop, stop) = (Arc::clone(&keys), Arc::clone(&ended));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let (keys, takes) = (Arc::clone(&for_loop), Arc::clone(&takes));
                thread::spawn(move || serve(&stream.unwrap(), &keys, &*takes));
            }
        });
        PickyStream {
            address,
            keys,
            ended,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The keys of stored records.
    pub(crate) fn stored(&self) -> Stored {
        Stored::of(self.keys.lock().unwrap().stored.clone())
    }

    /// The keys of refused records, once per refusal.
    pub(crate) fn refused(&self) -> Stored {
        Stored::of(self.keys.lock().unwrap().refused.clone())
    }
}

impl Drop for PickyStream {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The listener looks up only when someone comes.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, keys: &Mutex<Keys>, takes: &Takes) {
    let mut reader = BufReader::new(stream);
    while let Some((operation, body)) = request(&mut reader) {
        let mut status = "200 OK";
        let answer = if body.is_null() {
            status = "400 Bad Request";
            json!({ "__type": "SerializationException" })
        } else if operation.ends_with("PutRecords") {
            let mut keys = keys.lock().unwrap();
            let entries: Vec<_> = body["Records"]
                .as_array()
                .unwrap()
                .iter()
                .map(|record| put(record["PartitionKey"].as_str().unwrap(), &mut keys, takes))
                .collect();
            let failed = entries.iter().filter(|e| e.get("ErrorCode").is_some());
            json!({ "FailedRecordCount": failed.count(), "Records": entries })
        } else {
            json!({ "StreamDescriptionSummary": {
                "StreamName": "clicks",
                "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/clicks",
                "StreamStatus": "ACTIVE",
                "RetentionPeriodHours": 24,
                "StreamCreationTimestamp": 1_700_000_000,
                "EnhancedMonitoring": [],
                "OpenShardCount": 2,
            }})
        };
        let answer = answer.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let mut writer = stream;
        if writer.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

fn put(key: &str, keys: &mut Keys, takes: &Takes) -> Value {
    if !takes(key) {
        keys.refused.push(key.to_owned());
        return json!({
            "ErrorCode": "ProvisionedThroughputExceededException",
            "ErrorMessage": "Rate exceeded for shard shardId-000000000001",
        });
    }
    keys.stored.push(key.to_owned());
    json!({
        "SequenceNumber": keys.stored.len().to_string(),
        "ShardId": "shardId-000000000000",
    })
}

/// The operation and body of the next request, `null` for one that is no JSON; `None` at the end of the connection.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<(String, Value)> {
    let (mut operation, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("x-amz-target") => {
                value.clone_into(&mut operation);
            }
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((operation, serde_json::from_slice(&body).unwrap_or_default()))
}
