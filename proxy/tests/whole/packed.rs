//! Bodies that come compressed or wrapped: stored as what they hold, and never beyond the limit.

use crate::support::client::Reply;
use crate::support::event::{array, new_ids};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::Value;
use std::io::Write;
use tempfile::{TempDir, tempdir};

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    base64_simd::STANDARD.encode_to_string(bytes).into_bytes()
}

fn post(proxy: &Proxy, path: &str, coding: &str, body: &[u8]) -> Reply {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: t\r\nContent-Encoding: {coding}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    proxy.connect().ask([head.as_bytes(), body].concat())
}

fn start(settings: &str) -> (TempDir, Proxy) {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data")) + settings;
    let proxy = Proxy::start(dir.path(), &settings);
    (dir, proxy)
}

#[test]
fn a_coded_body_is_stored_as_what_it_holds() {
    let (dir, proxy) = start("[limits]\ncodings_max = 2\n");
    let mut sent = Vec::new();
    for path in ["/collect", "/v1/events"] {
        for (coding, pack) in [
            ("gzip", gzip as fn(&[u8]) -> Vec<u8>),
            ("deflate", zlib),
            ("deflate, gzip", |bytes| gzip(&zlib(bytes))),
            ("identity", <[u8]>::to_vec),
        ] {
            let ids = new_ids(5);
            let answer = post(&proxy, path, coding, &pack(array(&ids).as_bytes()));
            assert_eq!(answer.status, 200, "{path} {coding}: {answer:?}");
            sent.extend(ids);
        }
    }
    proxy.end_cleanly();
    let stored = files::stored(&dir.path().join("data"));
    assert_eq!(stored.ids(), sent.into_iter().collect());
}

#[test]
fn sdk_wrappers_are_opened_for_events_only() {
    let (dir, proxy) = start("");
    let data = dir.path().join("data");
    let ids = new_ids(50);
    let wrapped = base64(&gzip(array(&ids).as_bytes()));
    for (path, body) in [
        ("/v1/events?compression=gzip", &wrapped),
        ("/v1/events", &gzip(array(&ids).as_bytes())),
        ("/collect?compression=gzip&appId=a", &wrapped),
    ] {
        assert_eq!(proxy.post(path, body).status, 200, "{path}");
    }
    proxy.end_cleanly();
    let records: Vec<Value> = files::records(&data)
        .iter()
        .map(|record| serde_json::from_slice(record).unwrap())
        .collect();
    assert_eq!(records.len(), 50 + 50 + 1);
    let envelope = records.iter().find(|record| record["appId"] == "a");
    let envelope = envelope.unwrap();
    assert_eq!(envelope["data"], String::from_utf8(wrapped).unwrap());
    assert_eq!(envelope["compression"], "gzip");
}

#[test]
fn bombs_broken_bodies_and_unknown_codings_are_refused() {
    let (dir, proxy) = start("[limits]\nbody_bytes_max = 100000\ninflated_bytes_max = 150000\n");
    let bomb = gzip(&vec![b' '; 20_000_000]);
    assert!(bomb.len() < 100_000);
    // 150,000 bytes that shrink to far more than a hundredth.
    let numbers: String = (0..30_000).map(|number| number.to_string()).collect();
    let fits = &numbers.repeat(2)[..150_000];
    for path in ["/collect", "/v1/events"] {
        let answer = post(&proxy, path, "gzip", &bomb);
        assert_eq!(answer.status, 413, "{path}");
        assert_eq!(answer.code(), "inflated_too_large");
        assert_eq!(answer.json()["limit"], 150_000);

        let answer = post(&proxy, path, "gzip", &gzip(b"[{}]")[..12]);
        assert_eq!(answer.status, 422, "{path}");
        assert_eq!(answer.code(), "content_coding_broken");

        let answer = post(&proxy, path, "compress", b"x");
        assert_eq!(answer.status, 415, "{path}");
        assert_eq!(answer.code(), "content_encoding_unsupported");
        let answer = post(&proxy, path, "gzip, gzip, gzip, gzip", b"x");
        assert_eq!(answer.status, 415, "{path}");
    }
    let answer = proxy.post("/v1/events?compression=gzip", "user=1");
    assert_eq!(
        (answer.status, &*answer.code()),
        (422, "content_coding_broken")
    );
    assert_eq!(files::records(&dir.path().join("data")).len(), 0);
    // The last byte that the limit lets through.
    assert_eq!(
        post(&proxy, "/collect", "gzip", &gzip(fits.as_bytes())).status,
        200
    );
    proxy.end_cleanly();
    assert_eq!(files::records(&dir.path().join("data")).len(), 1);
}

#[test]
fn a_small_bomb_is_413_and_costs_no_record() {
    let (dir, proxy) = start("");
    // Text that is all marks: 15 KiB of control characters.
    let marks = gzip(&vec![1; 15 << 10]);
    let answer = post(&proxy, "/collect", "gzip", &marks);
    assert_eq!(
        (answer.status, &*answer.code()),
        (422, "content_coding_overhead")
    );
    assert_eq!(answer.json()["limit"], 2_048);
    assert_eq!(answer.json()["actual"], 15 << 10);
    // 20 KiB of letters.
    let answer = post(&proxy, "/collect", "gzip", &gzip(&vec![b'x'; 20 << 10]));
    assert_eq!(
        (answer.status, &*answer.code()),
        (413, "inflated_too_large")
    );
    assert_eq!(answer.json()["limit"], 16_384);
    // A long User-Agent that goes into each of 1,000 records.
    let body = format!("[{}]", vec!["{}"; 1_000].join(","));
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nUser-Agent: {}\r\nContent-Length: {}\r\n\r\n",
        "a".repeat(8_000),
        body.len()
    );
    let answer = proxy.connect().ask(head + &body);
    assert_eq!((answer.status, &*answer.code()), (413, "records_too_large"));
    // A megabyte of white space.
    let mut spaces = vec![b' '; 1 << 20];
    spaces[0] = b'[';
    let spaces = gzip(&spaces);
    let answer = post(&proxy, "/v1/events", "gzip", &spaces);
    assert_eq!(
        (answer.status, &*answer.code()),
        (413, "inflated_too_large")
    );
    assert_eq!(answer.json()["limit"], 100 * spaces.len() as u64);
    // Five hundred events in fifty bytes.
    let events = gzip(format!("[{}]", vec!["{}"; 500].join(",")).as_bytes());
    let answer = post(&proxy, "/v1/events", "gzip", &events);
    assert_eq!((answer.status, &*answer.code()), (400, "too_many_events"));
    proxy.end_cleanly();
    assert_eq!(files::records(&dir.path().join("data")).len(), 0);
}

#[test]
fn codings_beyond_those_of_an_endpoint_are_415() {
    let (_dir, proxy) = start("[limits]\nevents_codings = [\"gzip\"]\n");
    let body = b"[{}]";
    assert_eq!(post(&proxy, "/collect", "deflate", &zlib(body)).status, 200);
    assert_eq!(post(&proxy, "/v1/events", "gzip", &gzip(body)).status, 200);
    let answer = post(&proxy, "/v1/events", "deflate", &zlib(body));
    assert_eq!(
        (answer.status, &*answer.code()),
        (415, "content_encoding_unsupported")
    );
    let answer = post(&proxy, "/v1/events", "gzip, gzip", &gzip(&gzip(body)));
    assert_eq!(
        (answer.status, &*answer.code()),
        (415, "content_encoding_unsupported")
    );
    // The second layer is gzip that the body's first bytes tell.
    let answer = post(&proxy, "/v1/events", "gzip", &gzip(&gzip(body)));
    assert_eq!((answer.status, &*answer.code()), (415, "too_many_codings"));
    proxy.end_cleanly();
}

#[test]
fn a_large_body_is_offloaded_and_stored() {
    let (dir, proxy) = start("");
    let events: Vec<String> = new_ids(900)
        .iter()
        .map(|id| format!("{{\"event_id\":\"{id}\",\"text\":\"{id:>100}\"}}"))
        .collect();
    let body = format!("[{}]", events.join(","));
    assert!(body.len() > 100_000);
    assert_eq!(proxy.post("/v1/events", &body).status, 200);
    assert_eq!(
        post(&proxy, "/v1/events", "gzip", &gzip(body.as_bytes())).status,
        200
    );
    assert_eq!(proxy.post("/collect?appId=a", &body).status, 200);
    proxy.end_cleanly();
    let records = files::records(&dir.path().join("data"));
    assert_eq!(records.len(), 900 + 900 + 1);
    let envelope = records
        .iter()
        .map(|record| serde_json::from_slice::<Value>(record).unwrap())
        .find(|record| record["appId"] == "a");
    assert_eq!(envelope.unwrap()["data"], body);
}
