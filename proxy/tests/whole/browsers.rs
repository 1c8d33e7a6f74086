//! What a browser needs to read in every answer, and what no page may talk us into.

use crate::support::client::ORIGIN;
use crate::support::event::{event, new_id};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use sluice_loadtest::kinesis::{Emulator, Faults, Options};
use tempfile::{TempDir, tempdir};

const CORS: &str =
    "[cors]\norigins = 'https://*.example.com, http://localhost:*'\nmax_age_s = 600\n";

fn request(line: &str, origin: &str, more: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "{line} HTTP/1.1\r\nHost: t\r\nOrigin: {origin}\r\n{more}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn to_a_file(more: &str) -> (TempDir, Proxy) {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data")) + CORS + more;
    let proxy = Proxy::start(dir.path(), &settings);
    (dir, proxy)
}

#[test]
fn every_response_to_an_allowed_origin_is_readable() {
    let (_dir, proxy) = to_a_file("[limits]\nbody_bytes_max = 2000\nbody_deadline_ms = 300\n");
    let good = event(&new_id(), 500);
    let long = "x".repeat(2_001);
    for (line, more, body, status) in [
        ("POST /collect?appId=a", "", "[{}]", 200),
        ("POST /v1/events", "", good.as_str(), 200),
        ("GET /ping", "", "", 200),
        ("GET /health", "", "", 200),
        (
            "OPTIONS /collect",
            "Access-Control-Request-Method: POST\r\n",
            "",
            204,
        ),
        (
            "OPTIONS /v1/events",
            "Access-Control-Request-Method: POST\r\n",
            "",
            204,
        ),
        (
            "OPTIONS /ping",
            "Access-Control-Request-Method: GET\r\n",
            "",
            204,
        ),
        ("POST /v1/events", "", "{\"a\":", 400),
        ("POST /nothing", "", "", 404),
        ("PUT /v1/events", "", "", 405),
        ("POST /collect", "", long.as_str(), 413),
    ] {
        let mut client = proxy.connect();
        client.send(request(line, ORIGIN, more, body));
        let reply = client.read();
        assert_eq!(reply.status, status, "{line}: {reply:?}");
        reply.assert_readable();
        let max_age = reply.header("access-control-max-age");
        assert_eq!(max_age, (status == 204).then_some("600"), "{line}");
    }
    // A body that does not come.
    let mut client = proxy.connect();
    let whole = request("POST /collect", ORIGIN, "", "abcdef");
    client.send(&whole[..whole.len() - 1]);
    let reply = client.read();
    assert_eq!(reply.status, 408);
    reply.assert_readable();
    proxy.end_cleanly();
}

#[test]
fn a_503_can_be_read_too() {
    let stream = Emulator::start(Options {
        faults: Faults {
            access_denied: 1.0,
            ..Faults::default()
        },
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + CORS));
    let mut client = proxy.connect();
    client.send(request("POST /collect", ORIGIN, "", "[{}]"));
    let reply = client.read();
    reply.assert_retry_later(&["not_delivered"]);
    reply.assert_readable();
}

#[test]
fn a_denied_origin_stores_but_cannot_read() {
    let (dir, proxy) = to_a_file("");
    for origin in [
        "https://example.com.evil.org",
        "https://shop.example.com.evil.org",
        "https://shop.example.com@evil.org",
        "null",
    ] {
        let mut client = proxy.connect();
        client.send(request("OPTIONS /collect", origin, "", ""));
        let reply = client.read();
        assert_eq!(reply.status, 204);
        assert!(!reply.head.contains("access-control"), "{reply:?}");
        assert_eq!(reply.header("vary"), Some("Origin"));
    }
    let id = new_id();
    let mut client = proxy.connect();
    client.send(request("POST /v1/events", "null", "", &event(&id, 500)));
    let reply = client.read();
    assert_eq!(reply.status, 200);
    assert!(!reply.head.contains("access-control"), "{reply:?}");
    proxy.end_cleanly();
    // No preflight was taken for an event.
    let stored = files::stored(&dir.path().join("data"));
    assert_eq!(stored.ids(), std::iter::once(id).collect());
}

#[test]
fn without_origins_no_answer_speaks_of_them() {
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_files(&dir.path().join("data")));
    let mut client = proxy.connect();
    client.send(request("GET /ping", ORIGIN, "", ""));
    let reply = client.read();
    assert_eq!(reply.status, 200);
    assert!(!reply.head.contains("access-control"), "{reply:?}");
    assert_eq!(reply.header("vary"), None);
    proxy.end_cleanly();
}
