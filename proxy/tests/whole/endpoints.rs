//! The paths, methods and limits of the HTTP server, by default and as configured.

use crate::clients::envelope;
use crate::support::client::{get, post};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use crate::support::stream::emulator;
use crate::support::wait_until;
use serde_json::{Value, json};
use sluice_loadtest::kinesis::Faults;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::{TempDir, tempdir};

fn start(settings: &str) -> (TempDir, PathBuf, Proxy) {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let proxy = Proxy::start(dir.path(), &(to_files(&data) + settings));
    (dir, data, proxy)
}

/// The head of the answer to a request without a body: its status, and what it allows.
fn ask(proxy: &Proxy, line: &str) -> (u16, Option<String>) {
    let mut client = proxy.connect();
    client.send(format!(
        "{line} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    ));
    let head = client.read_head();
    (head.status, head.header("allow").map(str::to_owned))
}

#[test]
fn collect_records_every_method_but_options_on_itself_and_deeper() {
    let (_dir, data, proxy) = start("");
    let methods = ["POST", "GET", "HEAD", "PUT", "PATCH", "DELETE", "REPORT"];
    for method in methods {
        for path in ["/collect", "/collect/", "/collect/web/2?x=1"] {
            let line = format!("{method} {path}");
            assert_eq!(ask(&proxy, &line), (200, None), "{line}");
        }
    }
    for (line, status) in [
        ("OPTIONS /collect", 204),
        ("OPTIONS /collect/web", 204),
        ("POST /collectX", 404),
        ("POST /Collect", 404),
        ("POST /collect%2Fweb", 404),
        ("POST //collect", 404),
        ("POST /", 404),
    ] {
        assert_eq!(ask(&proxy, line).0, status, "{line}");
    }
    proxy.end_cleanly();
    let records: Vec<Value> = files::records(&data)
        .iter()
        .map(|line| envelope(line))
        .collect();
    assert_eq!(records.len(), 3 * methods.len());
    for method in methods {
        let mine = records.iter().filter(|record| record["method"] == method);
        assert_eq!(mine.count(), 3, "{method}");
    }
}

#[test]
fn ping_and_health_respond_and_other_methods_are_405() {
    let (_dir, _, proxy) = start("[drain]\ngrace_ms = 2000\n");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ping = proxy.connect().ask(get("/ping"));
    let text = String::from_utf8(ping.body.clone()).unwrap();
    let digits = text
        .strip_prefix("{\"timestamp\": ")
        .and_then(|rest| rest.strip_suffix('}'));
    let (seconds, millis) = digits.unwrap().split_once('.').unwrap();
    assert!(seconds.parse::<u64>().unwrap().abs_diff(now.as_secs()) <= 60);
    assert!(millis.len() == 3 && millis.parse::<u16>().is_ok(), "{text}");
    assert_eq!(ping.header("content-type"), Some("application/json"));

    let health = proxy.connect().ask(get("/health"));
    assert_eq!(health.status, 200);
    assert_eq!(health.body, b"{\"ok\":true}");

    for (line, status, allow) in [
        ("HEAD /ping", 200, None),
        ("HEAD /health", 200, None),
        ("POST /ping", 405, Some("GET, HEAD")),
        ("DELETE /health", 405, Some("GET, HEAD")),
        ("OPTIONS /health", 405, Some("GET, HEAD")),
        ("GET /v1/events", 405, Some("POST")),
        ("PUT /v1/events", 405, Some("POST")),
        ("HEAD /i?e=1", 405, Some("GET")),
        ("GET /pingX", 404, None),
        ("GET /health/x", 404, None),
        ("POST /v1/events/x", 404, None),
    ] {
        let expected = (status, allow.map(str::to_owned));
        assert_eq!(ask(&proxy, line), expected, "{line}");
    }

    proxy.terminate();
    wait_until("health says no", || {
        let reply = proxy.connect().ask(get("/health"));
        reply.status == 503 && reply.body == b"{\"ok\":false}"
    });
}

#[test]
fn endpoints_are_where_they_are_configured_and_nowhere_else() {
    let (_dir, data, proxy) = start(
        "[paths]\ncollect = '/in/c'\nevents = '/in/e'\npixel = '/in/p.gif'\n\
         ping = '/in/ping'\nhealth = '/in/health'\n",
    );
    for (line, status) in [
        ("POST /in/c", 200),
        ("POST /in/c/deeper", 200),
        ("GET /in/p.gif?e=1", 200),
        ("GET /in/ping", 200),
        ("GET /in/health", 200),
        ("POST /collect", 404),
        ("POST /v1/events", 404),
        ("GET /i?e=1", 404),
        ("GET /ping", 404),
        ("GET /health", 404),
    ] {
        assert_eq!(ask(&proxy, line).0, status, "{line}");
    }
    assert_eq!(proxy.post("/in/e", "{\"a\":1}").status, 200);
    proxy.end_cleanly();
    assert_eq!(files::records(&data).len(), 4);
}

#[test]
fn health_checks_count_apart_from_events() {
    let (_dir, _, proxy) = start("");
    assert_eq!(proxy.connect().ask(get("/health")).status, 200);
    assert_eq!(proxy.post("/v1/events", "{}").status, 200);
    let count = |endpoint| {
        let series = "sluice_responses_total{endpoint=\"ENDPOINT\",status=\"200\"}";
        proxy.metrics().get(&series.replace("ENDPOINT", endpoint))
    };
    wait_until("both are counted", || count("events") + count("health") > 1);
    assert_eq!((count("events"), count("health")), (1, 1));
}

/// That this is refused so, with the limit that was configured.
fn refused(proxy: &Proxy, request: impl AsRef<[u8]>, status: u16, code: &str, limit: Value) {
    let mut client = proxy.connect();
    client.try_send(request);
    let reply = client.read();
    assert_eq!((reply.status, &*reply.code()), (status, code));
    assert_eq!(reply.json()["limit"], limit, "{reply:?}");
}

#[test]
fn configured_limits_of_heads_and_events_apply() {
    let (_dir, _, proxy) = start(
        "[limits]\nhead_bytes_max = 8192\nheaders_max = 5\ntarget_bytes_max = 64\n\
         head_deadline_ms = 300\nevents_max = 3\njson_depth_max = 2\n",
    );
    let with_headers = |count: usize, value: &str| {
        let lines: String = (1..count).map(|at| format!("X{at}: {value}\r\n")).collect();
        format!("GET /ping HTTP/1.1\r\nHost: t\r\n{lines}\r\n")
    };
    let target = |bytes: usize| get(&format!("/ping?{}", "x".repeat(bytes - "/ping?".len())));
    let serves = |request: &[u8]| assert_eq!(proxy.connect().ask(request).status, 200);

    serves(with_headers(5, "y").as_bytes());
    refused(
        &proxy,
        with_headers(6, "y"),
        431,
        "too_many_headers",
        json!(5),
    );
    serves(with_headers(5, &"y".repeat(2_000)).as_bytes());
    let large = with_headers(5, &"y".repeat(2_040));
    refused(&proxy, large, 431, "head_too_large", json!(8_192));
    serves(target(64).as_bytes());
    refused(&proxy, target(65), 414, "target_too_long", json!(64));
    refused(&proxy, "GET /pi", 408, "head_too_slow", json!(300));

    let events = |count: usize| post("/v1/events", format!("[{}]", vec!["{}"; count].join(",")));
    serves(&events(3));
    refused(&proxy, events(4), 400, "too_many_events", json!(3));
    serves(&post("/v1/events", "{\"a\":{\"b\":1}}"));
    let reply = proxy.post("/v1/events", "{\"a\":{\"b\":[]}}");
    assert_eq!(reply.status, 400);
    let error = &reply.json()["errors"][0];
    assert_eq!(
        (&error["code"], &error["limit"]),
        (&json!("too_deep"), &json!(2))
    );
    proxy.end_cleanly();
}

#[test]
fn retry_after_is_drawn_between_the_bounds_that_are_configured() {
    let stream = emulator(Faults {
        access_denied: 1.0,
        ..Faults::default()
    });
    for (least, most) in [(7, 7), (20, 22)] {
        let dir = tempdir().unwrap();
        let settings = format!(
            "{}[ack]\nretry_after_min_s = {least}\nretry_after_max_s = {most}\n",
            to_kinesis(&stream.url())
        );
        let proxy = Proxy::start(dir.path(), &settings);
        let mut client = proxy.connect();
        for _ in 0..10 {
            let reply = client.ask(post("/v1/events", "{}"));
            assert_eq!(reply.status, 503);
            let seconds: u32 = reply.header("retry-after").unwrap().parse().unwrap();
            assert!((least..=most).contains(&seconds), "{seconds}");
        }
    }
}
