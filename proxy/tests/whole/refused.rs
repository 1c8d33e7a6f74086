//! What is refused, at the limits that hold unless configured: the page that sent it can read why, nothing
//! of it is stored, and what is just within a limit is.

use crate::packed::gzip;
use crate::support::client::{ORIGIN, Reply};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use crate::support::stream::emulator;
use sluice_loadtest::kinesis::Faults;
use tempfile::tempdir;

const CORS: &str = "[cors]\norigins = 'https://*.example.com'\n";
const MIB: usize = 1 << 20;

fn post(proxy: &Proxy, host: &str, uri: &str, headers: &str, body: &[u8]) -> Reply {
    let head = format!(
        "POST {uri} HTTP/1.1\r\nHost: {host}\r\nOrigin: {ORIGIN}\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    let mut client = proxy.connect();
    // What is over a limit may be refused before all of it is there.
    client.try_send([head.as_bytes(), body].concat());
    client.read()
}

#[test]
fn a_page_can_read_why_it_was_refused() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings =
        to_files(&data) + CORS + "[admit]\napp_ids = 'shop'\nhosts = 'events.example.com'\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let (host, uri) = ("events.example.com", "/collect?appId=shop");
    let coded = |coding: &str| format!("Content-Encoding: {coding}\r\n");

    // Text that shrinks to less than a hundredth would be a bomb.
    let numbers: String = (0..200_000).map(|number| number.to_string()).collect();
    let mut taken = 0;
    for (body, coding) in [
        (vec![b'x'; MIB - 1], String::new()),
        (vec![b'x'; MIB], String::new()),
        (gzip(&numbers.as_bytes()[..MIB]), coded("gzip")),
    ] {
        let reply = post(&proxy, host, uri, &coding, &body);
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.assert_readable();
        taken += 1;
    }

    let bomb = gzip(&vec![b' '; 100 * MIB]);
    assert!(bomb.len() < MIB);
    let small = b"[{}]".as_slice();
    let mut cut = gzip(small);
    cut.truncate(12);
    for (host, uri, headers, body, status, code) in [
        (
            host,
            uri,
            String::new(),
            vec![b'x'; MIB + 1],
            413,
            "body_too_large",
        ),
        (host, uri, coded("gzip"), bomb, 413, "inflated_too_large"),
        (
            host,
            uri,
            coded("gzip"),
            gzip(&numbers.as_bytes()[..MIB + 1]),
            413,
            "inflated_too_large",
        ),
        (
            host,
            uri,
            coded("compress"),
            small.to_vec(),
            415,
            "content_encoding_unsupported",
        ),
        (host, uri, coded("gzip"), cut, 422, "content_coding_broken"),
        (
            host,
            "/collect?appId=other",
            String::new(),
            small.to_vec(),
            403,
            "app_unknown",
        ),
        (
            host,
            "/collect",
            String::new(),
            small.to_vec(),
            403,
            "app_unknown",
        ),
        (
            "other.example.com",
            uri,
            String::new(),
            small.to_vec(),
            403,
            "host_unknown",
        ),
    ] {
        let reply = post(&proxy, host, uri, &headers, &body);
        assert_eq!((reply.status, &*reply.code()), (status, code));
        reply.assert_readable();
        if status == 413 {
            assert_eq!(reply.json()["limit"], MIB);
        }
    }
    proxy.end_cleanly();
    assert_eq!(files::records(&data).len(), taken);
}

#[test]
fn an_oversized_record_is_refused_before_any_call() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + CORS));
    // Within the limit of bodies; each quote takes two bytes in a record.
    let reply = post(&proxy, "t", "/collect", "", &vec![b'"'; MIB - 1]);
    assert_eq!((reply.status, &*reply.code()), (413, "record_too_large"));
    reply.assert_readable();
    assert!(reply.json()["actual"].as_u64().unwrap() > 2 * (MIB as u64 - 1));
    proxy.end_cleanly();
    let stats = stream.stats();
    assert_eq!(stats.calls.get("PutRecords"), None, "{stats:?}");
    assert_eq!(stats.stored, 0);
}
