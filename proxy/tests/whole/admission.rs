//! Admission, endpoints that are off, and the pixel for pages without scripts.

use crate::support::client::Reply;
use crate::support::event::new_id;
use crate::support::files;
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use serde_json::Value;
use sluice_loadtest::kinesis::{Emulator, Faults, Options};
use std::path::Path;
use tempfile::{TempDir, tempdir};

fn start(settings: &str) -> (TempDir, Proxy) {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data")) + settings;
    let proxy = Proxy::start(dir.path(), &settings);
    (dir, proxy)
}

fn ask(proxy: &Proxy, line: &str, headers: &str) -> Reply {
    let request = format!("{line} HTTP/1.1\r\n{headers}Content-Length: 0\r\n\r\n");
    proxy.connect().ask(request)
}

fn records(dir: &Path) -> Vec<Value> {
    files::records(&dir.join("data"))
        .iter()
        .map(|record| serde_json::from_slice(record).unwrap())
        .collect()
}

#[test]
fn only_applications_and_hosts_of_the_lists_are_let_in() {
    let (dir, proxy) = start(
        "[admit]\napp_ids = ['shop', 'a b']\nhosts = ['Events.example.com']\n\
         [cors]\norigins = '*'\n",
    );
    let host = "Host: events.EXAMPLE.com:8088\r\nOrigin: https://a.example\r\n";
    for (line, headers, status, code) in [
        ("POST /collect?appId=shop", host, 200, None),
        ("POST /collect/x?a=1&appId=a%20b", host, 200, None),
        ("POST /collect?appId=Shop", host, 403, Some("app_unknown")),
        ("POST /collect?appid=shop", host, 403, Some("app_unknown")),
        ("POST /collect", host, 403, Some("app_unknown")),
        ("GET /ping", host, 200, None),
        ("POST /v1/events", host, 403, Some("app_unknown")),
        (
            "POST /v1/events?appId=other",
            host,
            403,
            Some("app_unknown"),
        ),
        ("GET /i?e=1", host, 403, Some("app_unknown")),
        ("GET /i?e=1&appId=shop", host, 200, None),
        (
            "POST /collect?appId=shop",
            "Host: example.com\r\nOrigin: https://a.example\r\n",
            403,
            Some("host_unknown"),
        ),
        (
            "GET /ping",
            "Host: x.events.example.com\r\nOrigin: https://a.example\r\n",
            403,
            Some("host_unknown"),
        ),
        (
            "GET /i?e=1",
            "Host: 127.0.0.1\r\nOrigin: https://a.example\r\n",
            403,
            Some("host_unknown"),
        ),
        // A balancer asks by address.
        (
            "GET /health",
            "Host: 127.0.0.1\r\nOrigin: https://a.example\r\n",
            200,
            None,
        ),
        ("OPTIONS /collect", host, 204, None),
    ] {
        let reply = ask(&proxy, line, headers);
        assert_eq!(reply.status, status, "{line} {headers}");
        assert_eq!(
            reply.header("access-control-allow-origin"),
            Some("https://a.example")
        );
        if let Some(code) = code {
            assert_eq!(reply.code(), code, "{line}");
        }
    }
    proxy.end_cleanly();
    assert_eq!(records(dir.path()).len(), 3);
}

#[test]
fn differences_from_the_replaced_tier_match_the_upgrade_page() {
    let (dir, proxy) = start("[cors]\norigins = 'https://a.example'\n");
    let with = |origin: &str| {
        ask(
            &proxy,
            "POST /collect",
            &format!("Host: t\r\nOrigin: {origin}\r\n"),
        )
    };
    let allowed = "access-control-allow-origin";
    assert!(with("https://a.example").header(allowed).is_some());
    assert!(with("https://a.example:8443").header(allowed).is_none());
    assert_eq!(ask(&proxy, "POST //collect", "Host: t\r\n").status, 404);
    proxy.end_cleanly();
    let addresses: Vec<_> = records(dir.path())
        .iter()
        .map(|record| record["ip"].clone())
        .collect();
    assert_eq!(addresses, ["127.0.0.1", "127.0.0.1"], "of the peer");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/upgrade.md");
    let page = std::fs::read_to_string(page).unwrap();
    for row in [
        "| an origin without a port also passes with any port",
        "| `ip` is `null` without `X-Forwarded-For` | the address of the peer |",
        "| `//collect` is `/collect`, as nginx merges slashes | 404 |",
    ] {
        assert!(page.contains(row), "{row}");
    }
}

#[test]
fn endpoints_that_are_off_are_not_found() {
    let (dir, proxy) = start("[paths]\nevents = 'off'\npixel = 'off'\n");
    for line in ["POST /v1/events", "GET /i?e=1", "GET /off", "POST /off"] {
        let reply = ask(&proxy, line, "Host: t\r\n");
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (404, "not_found"),
            "{line}"
        );
    }
    assert_eq!(ask(&proxy, "POST /collect", "Host: t\r\n").status, 200);
    proxy.end_cleanly();
    assert_eq!(records(dir.path()).len(), 1);
}

/// That it is the image, and kept by no cache.
fn assert_dot(reply: &Reply) {
    assert_eq!(reply.header("content-type"), Some("image/gif"), "{reply:?}");
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.body.len(), 43);
    assert!(reply.body.starts_with(b"GIF89a"));
}

#[test]
fn a_pixel_makes_an_event_of_its_query() {
    let (dir, proxy) = start("");
    let id = new_id();
    let line = format!("GET /i?id={id}&page=%2Fa%3Fb&page=x%22+y&ip=1&n");
    let reply = ask(&proxy, &line, "Host: t\r\nUser-Agent: mail\r\n");
    assert_eq!(reply.status, 200);
    assert_dot(&reply);
    let rid = reply.header("x-request-id").unwrap().to_owned();
    for (line, status) in [("GET /i", 400), ("GET /i?", 400), ("GET /i?&", 400)] {
        let reply = ask(&proxy, line, "Host: t\r\n");
        assert_eq!(reply.status, status, "{line}");
        assert_dot(&reply);
    }
    let reply = ask(&proxy, "POST /i?e=1", "Host: t\r\n");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("GET")));
    proxy.end_cleanly();
    let records = records(dir.path());
    let [record] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(record["id"], *id);
    assert_eq!(record["page"], "x\" y");
    assert_eq!(record["n"], "");
    assert_eq!(record["ua"], "mail");
    assert_eq!(record["rid"], *rid);
    assert_eq!(record["ip"], "127.0.0.1");
}

#[test]
fn a_pixel_returns_its_image_even_without_storing() {
    let stream = Emulator::start(Options {
        faults: Faults {
            access_denied: 1.0,
            ..Faults::default()
        },
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let reply = ask(&proxy, "GET /i?e=1", "Host: t\r\n");
    assert_eq!(reply.status, 503);
    assert!(reply.header("retry-after").is_some());
    assert_dot(&reply);
}
