//! The S3 emulator from outside: objects, multipart uploads, listings, and the ledger at the end.

use flate2::Compression;
use flate2::write::GzEncoder;
use sluice_loadtest::event_id::EventId;
use sluice_loadtest::ledger::read_stored;
use sluice_loadtest::s3::{Emulator, Options, PART_BYTES_MIN};
use sluice_loadtest::service::{self, Faults, Portion};
use sluice_loadtest::wire::{self, Reply};
use std::io::Write;

fn send(emulator: &Emulator, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Reply {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", emulator.addr());
    for header in headers {
        request.push_str(&format!("{header}\r\n"));
    }
    let length = body.len();
    request.push_str(&format!(
        "Content-Length: {length}\r\nConnection: close\r\n\r\n"
    ));
    let mut request = request.into_bytes();
    request.extend_from_slice(body);
    wire::exchange(emulator.addr(), &request).unwrap()
}

fn put(emulator: &Emulator, path: &str, body: &[u8]) -> u16 {
    send(emulator, "PUT", path, &[], body).status
}

fn with(options: service::Options) -> Emulator {
    Emulator::start(Options {
        service: options,
        ..Options::default()
    })
    .unwrap()
}

fn event(seq: u64) -> String {
    format!("{{\"event_id\":\"{}\"}}\n", EventId { run: 1, seq })
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// The text of the first element of this name.
fn element(reply: &Reply, name: &str) -> String {
    let text = reply.text();
    let inside = text.split(&format!("<{name}>")).nth(1);
    let inside = inside.and_then(|rest| rest.split(&format!("</{name}>")).next());
    inside.unwrap_or_default().to_owned()
}

#[test]
fn an_object_comes_back_as_it_was_put() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let headers = [
        "Content-Type: application/json",
        "Content-Encoding: aws-chunked, gzip",
        "x-amz-meta-Events: 7",
        "x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-decoded-content-length: 5",
    ];
    let body = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n";
    let stored = send(
        &emulator,
        "PUT",
        "/clicks/a/k%20%C3%A4?x-id=PutObject",
        &headers,
        body,
    );
    assert_eq!(stored.status, 200, "{}", stored.text());
    // MD5 and CRC32 of "hello".
    let etag = Some("\"5d41402abc4b2a76b9719d911017c592\"");
    assert_eq!(stored.header("etag"), etag);
    assert_eq!(stored.header("x-amz-checksum-crc32"), Some("NhCmhg=="));
    let object = send(&emulator, "GET", "/clicks/a/k%20%C3%A4", &[], b"");
    assert_eq!((object.status, object.text().as_str()), (200, "hello"));
    assert_eq!(object.header("content-type"), Some("application/json"));
    assert_eq!(object.header("content-encoding"), Some("gzip"));
    assert_eq!(object.header("x-amz-meta-events"), Some("7"));
    assert_eq!(object.header("etag"), etag);
    let missing = send(&emulator, "GET", "/clicks/other", &[], b"");
    assert_eq!(
        (missing.status, element(&missing, "Code").as_str()),
        (404, "NoSuchKey")
    );
    let elsewhere = send(&emulator, "PUT", "/nowhere/k", &[], b"x");
    assert_eq!(element(&elsewhere, "Code"), "NoSuchBucket");
    let acl = send(&emulator, "PUT", "/clicks/a/k?acl", &[], b"<x/>");
    assert_eq!(acl.status, 501);
    let key = "k".repeat(1_025);
    let long = send(&emulator, "PUT", &format!("/clicks/{key}"), &[], b"x");
    assert_eq!(element(&long, "Code"), "KeyTooLongError");
    assert_eq!(
        emulator.keys(),
        [("clicks".to_owned(), "a/k \u{e4}".to_owned())]
    );
}

#[test]
fn an_object_that_must_be_new_is_put_once() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let once = |body: &[u8]| {
        let headers = ["If-None-Match: *"];
        send(&emulator, "PUT", "/clicks/k", &headers, body)
    };
    assert_eq!(once(b"first").status, 200);
    let again = once(b"second");
    assert_eq!(
        (again.status, element(&again, "Code").as_str()),
        (412, "PreconditionFailed")
    );
    assert_eq!(emulator.object("clicks", "k").unwrap().unwrap(), "first");
}

#[test]
fn parts_become_one_object_when_completed() {
    let emulator = Emulator::start(Options::default()).unwrap();
    let begun = send(&emulator, "POST", "/clicks/big?uploads", &[], b"");
    let id = element(&begun, "UploadId");
    let part = |number: u32, body: &[u8]| {
        let path = format!("/clicks/big?partNumber={number}&uploadId={id}");
        send(&emulator, "PUT", &path, &[], body)
    };
    let one = part(1, &vec![b'1'; PART_BYTES_MIN]);
    let two = part(2, b"2");
    let etag = |reply: &Reply| reply.header("etag").unwrap().to_owned();
    assert_eq!(part(0, b"0").status, 400);
    assert_eq!(part(10_001, b"0").status, 400);
    assert!(emulator.object("clicks", "big").unwrap().is_none());
    let complete = |parts: &[(u32, String)]| {
        let parts: String = parts
            .iter()
            .map(|(number, etag)| {
                format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
            })
            .collect();
        let body = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        let path = format!("/clicks/big?uploadId={id}");
        send(&emulator, "POST", &path, &[], body.as_bytes())
    };
    let wrong = complete(&[(2, etag(&two)), (1, etag(&one))]);
    assert_eq!(element(&wrong, "Code"), "InvalidPartOrder");
    let done = complete(&[(1, etag(&one)), (2, etag(&two))]);
    assert_eq!(done.status, 200, "{}", done.text());
    assert!(element(&done, "ETag").ends_with("-2&quot;"));
    let object = emulator.object("clicks", "big").unwrap().unwrap();
    assert_eq!(
        (object.len(), object.last()),
        (PART_BYTES_MIN + 1, Some(&b'2'))
    );
    assert_eq!(element(&complete(&[]), "Code"), "NoSuchUpload");
    assert_eq!((emulator.stats().parts, emulator.stats().stored), (2, 1));
}

#[test]
fn a_listing_is_read_page_by_page() {
    let emulator = Emulator::start(Options::default()).unwrap();
    for key in ["a/1", "a/2&3", "b"] {
        put(&emulator, &format!("/clicks/{key}"), b"xyz");
    }
    let page = send(
        &emulator,
        "GET",
        "/clicks?list-type=2&prefix=a/&max-keys=1",
        &[],
        b"",
    );
    assert_eq!(element(&page, "Key"), "a/1");
    assert_eq!(element(&page, "Size"), "3");
    assert_eq!(element(&page, "IsTruncated"), "true");
    let token = element(&page, "NextContinuationToken");
    let path = format!("/clicks?list-type=2&prefix=a/&continuation-token={token}");
    let page = send(&emulator, "GET", &path, &[], b"");
    assert_eq!(element(&page, "Key"), "a/2&amp;3");
    assert_eq!(element(&page, "IsTruncated"), "false");
    let groups = send(
        &emulator,
        "GET",
        "/clicks?list-type=2&delimiter=/",
        &[],
        b"",
    );
    assert_eq!(element(&groups, "CommonPrefixes"), "<Prefix>a/</Prefix>");
    assert_eq!(element(&groups, "KeyCount"), "2");
}

#[test]
fn the_s3_ledger_has_the_final_objects() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    for objects in [None, Some(dir.path().join("objects"))] {
        let emulator = Emulator::start(Options {
            service: service::Options {
                ledger: Some(ledger.clone()),
                ..service::Options::default()
            },
            dir: objects,
            ..Options::default()
        })
        .unwrap();
        put(&emulator, "/clicks/plain", event(1).as_bytes());
        let members = [gzip(&event(2)), gzip(&event(3))].concat();
        put(&emulator, "/clicks/x.gz", &members);
        // The same upload again is no second copy, and what replaces another one loses it.
        put(&emulator, "/clicks/x.gz", &members);
        put(&emulator, "/clicks/replaced", event(4).as_bytes());
        put(&emulator, "/clicks/replaced", event(5).as_bytes());
        assert_eq!(emulator.stats().replaced, 2);
        emulator.stop().unwrap();
        let mut ids = Vec::new();
        read_stored(&ledger, |id| ids.push(id.seq)).unwrap();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 5]);
    }
}

#[test]
fn a_truncated_gzip_object_is_reported_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger");
    let emulator = with(service::Options {
        ledger: Some(ledger.clone()),
        ..service::Options::default()
    });
    let whole = gzip(&event(1));
    put(&emulator, "/clicks/cut.gz", &whole[..whole.len() - 5]);
    put(&emulator, "/clicks/whole.gz", &whole);
    let error = emulator.stop().unwrap_err().to_string();
    assert!(error.starts_with("clicks/cut.gz: "), "{error}");
    let mut ids = Vec::new();
    read_stored(&ledger, |id| ids.push(id.seq)).unwrap();
    assert!(ids.contains(&1));
}

#[test]
fn uploads_over_the_memory_limit_are_refused() {
    let emulator = Emulator::start(Options {
        memory_bytes_max: 10,
        ..Options::default()
    })
    .unwrap();
    assert_eq!(put(&emulator, "/clicks/a", &[b'x'; 10]), 200);
    let full = send(&emulator, "PUT", "/clicks/b", &[], b"x");
    assert_eq!(full.status, 503);
    assert!(
        element(&full, "Message").contains("10 bytes"),
        "{}",
        full.text()
    );
}

#[test]
fn faults_have_s3_error_codes() {
    let emulator = with(service::Options {
        faults: Faults {
            throttle_call: 1.0,
            calls_max: Some(1),
            drop_acked: Some(Portion { k: 1, n: 1 }),
            ..Faults::default()
        },
        ..service::Options::default()
    });
    let slow = send(&emulator, "PUT", "/clicks/k", &[], b"x");
    assert_eq!(
        (slow.status, element(&slow, "Code").as_str()),
        (503, "SlowDown")
    );
    assert_eq!(put(&emulator, "/clicks/k", b"x"), 200);
    assert_eq!(
        (emulator.stats().dropped_acked, emulator.keys().len()),
        (1, 0)
    );
    let addr = emulator.addr().to_string();
    let faults = br#"{"reject":{"k":1,"n":2}}"#;
    let reply = wire::post(&addr, "/_faults", &[], faults).unwrap();
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("fault reject means nothing to s3"));
}

#[test]
fn an_error_after_storing_leaves_the_object_there() {
    let emulator = with(service::Options {
        faults: Faults {
            error_after: 1.0,
            calls_max: Some(1),
            ..Faults::default()
        },
        ..service::Options::default()
    });
    let failed = send(&emulator, "PUT", "/clicks/k", &[], b"x");
    assert_eq!(
        (failed.status, element(&failed, "Code").as_str()),
        (500, "InternalError")
    );
    assert_eq!(emulator.object("clicks", "k").unwrap().unwrap(), "x");
    let absent = ["If-None-Match: *"];
    let repeat = send(&emulator, "PUT", "/clicks/k", &absent, b"x");
    assert_eq!(repeat.status, 412);
    assert_eq!(emulator.stats().stored, 1);
}

#[test]
fn buckets_and_directories_that_cannot_be_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x"), b"x").unwrap();
    let full = Options {
        dir: Some(dir.path().to_owned()),
        ..Options::default()
    };
    let error = Emulator::start(full).unwrap_err().to_string();
    assert!(
        error.ends_with("the directory for objects must be empty"),
        "{error}"
    );
    for bucket in [
        "ab",
        "Clicks",
        "-clicks",
        ".unfinished",
        "a/b",
        &"a".repeat(64),
    ] {
        let options = Options {
            buckets: vec![bucket.to_owned()],
            ..Options::default()
        };
        let error = Emulator::start(options).unwrap_err().to_string();
        assert!(error.contains("bucket"), "{error}");
    }
}

#[test]
fn range_reads_return_206_or_416() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Some(dir.path().join("objects"));
    for dir in [None, folder] {
        let emulator = Emulator::start(Options {
            dir,
            ..Options::default()
        })
        .unwrap();
        assert_eq!(put(&emulator, "/clicks/k", b"0123456789"), 200);
        let get = |headers: &[&str]| send(&emulator, "GET", "/clicks/k", headers, b"");
        let whole = get(&[]);
        assert_eq!((whole.status, &whole.body[..]), (200, &b"0123456789"[..]));
        assert_eq!(whole.header("accept-ranges"), Some("bytes"));
        for (range, content_range, body) in [
            ("0-3", "bytes 0-3/10", "0123"),
            ("8-", "bytes 8-9/10", "89"),
            ("4-400", "bytes 4-9/10", "456789"),
            ("-2", "bytes 8-9/10", "89"),
        ] {
            let reply = get(&[&format!("Range: bytes={range}")]);
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (206, body),
                "{range}"
            );
            assert_eq!(reply.header("content-range"), Some(content_range));
            assert_eq!(reply.header("etag"), whole.header("etag"));
        }
        let reply = get(&["Range: bytes=10-"]);
        assert_eq!(reply.status, 416);
        assert_eq!(reply.header("content-range"), Some("bytes */10"));
        assert_eq!(element(&reply, "Code"), "InvalidRange");
        // A client that fetches in parts learns that the object is another one by now.
        assert_eq!(get(&["If-Match: \"x\"", "Range: bytes=0-1"]).status, 412);
        let etag = whole.header("etag").unwrap();
        assert_eq!(get(&[&format!("If-None-Match: {etag}")]).status, 304);
        assert_eq!(emulator.stats().common.errors["InvalidRange"], 1);
    }
}
