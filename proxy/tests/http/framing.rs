//! The HTTP server against clients that send raw bytes: what HTTP promises them, every framing rule,
//! and that one request's bytes never become another's.

use crate::server::{Server, chunked, drivers, post};
use std::net::Shutdown;

const GET: &str = "GET /length HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn every_driver_answers_a_post() {
    for driver in drivers() {
        let server = Server::start(|settings| settings.listen.driver = driver);
        let mut client = server.connect();
        for body in ["", "x", "hello"] {
            let answer = client.ask(&post("/echo", body));
            assert_eq!((answer.status, answer.text()), (200, body), "{driver:?}");
            let id = answer.header("x-request-id").unwrap();
            assert_eq!(id.len(), 32);
            assert!(
                id.bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            );
            assert!(answer.header("date").is_some());
        }
        assert_eq!(server.answered(200), 3);
    }
}

#[test]
fn cores_share_an_address_and_request_ids_are_unique() {
    let server = Server::start(|settings| settings.listen.workers = 3);
    let mut ids = std::collections::HashSet::new();
    for _ in 0..100 {
        let answer = server.connect().ask(GET);
        assert_eq!(answer.status, 200);
        assert!(ids.insert(answer.header("x-request-id").unwrap().to_owned()));
    }
    assert_eq!(server.answered(200), 100);
    assert_eq!(server.count(|stats| stats.connections_accepted.get()), 100);
    server.await_value(0, |stats| stats.connections_open.get());
}

#[test]
fn fifty_pipelined_requests_are_answered_in_order_on_every_driver() {
    for driver in drivers() {
        let server = Server::start(|settings| settings.listen.driver = driver);
        let mut client = server.connect();
        let requests: String = (0..50)
            .map(|number| match number % 3 {
                0 => post("/echo", &format!("number {number}")),
                1 => chunked("/echo", &format!("number {number}"), 2),
                _ => post("/late-echo", &format!("number {number}")),
            })
            .collect();
        client.send(requests);
        for number in 0..50 {
            let answer = client.read();
            assert_eq!(answer.text(), format!("number {number}"), "{driver:?}");
            assert_eq!(answer.header("connection"), None);
        }
    }
}

#[test]
fn requests_cut_anywhere_are_the_same_requests() {
    let server = Server::start(|_| {});
    let requests = format!(
        "{}{}{GET}",
        post("/echo", "one"),
        chunked("/echo", "two", 1)
    );
    let mut client = server.connect();
    for at in 1..requests.len() {
        client.send(&requests[..at]);
        // Long enough, mostly, for the server to see the pieces apart.
        std::thread::sleep(std::time::Duration::from_micros(200));
        client.send(&requests[at..]);
        for want in ["one", "two", "0"] {
            assert_eq!(client.read().text(), want, "cut at {at}");
        }
    }
}

#[test]
fn a_request_may_arrive_byte_by_byte() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    for request in [post("/echo", "hello"), chunked("/echo", "hello", 1)] {
        for byte in request.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(client.read().text(), "hello");
    }
}

#[test]
fn large_bodies_arrive_whole_in_both_framings() {
    let server = Server::start(|_| {});
    let body: String = (0..100_000).map(|number| format!("{number},")).collect();
    let mut client = server.connect();
    client.send(post("/echo", &body));
    assert_eq!(client.read().text(), body);
    client.send(chunked("/echo", &body, 1_000));
    assert_eq!(client.read().text(), body);
    assert_eq!(client.ask(GET).status, 200);
}

#[test]
fn status_100_is_sent_only_when_the_body_is_read() {
    let server = Server::with_limits(|limits| limits.body_bytes_max = 10);
    let expecting = |path: &str, length: usize| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };

    let mut client = server.connect();
    for _ in 0..2 {
        assert_eq!(client.ask(&expecting("/echo", 5)).status, 100);
        client.send("hello");
        assert_eq!(client.read().text(), "hello");
    }

    for (path, length, status) in [("/echo", 11, 413), ("/early", 5, 403)] {
        let mut client = server.connect();
        let answer = client.ask(&expecting(path, length));
        assert_eq!(answer.status, status);
        assert!(answer.closes(), "what the client sends next is unknown");
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert!(client.ended());
    }
}

#[test]
fn refused_framing_is_answered_in_json_and_closes_the_connection() {
    let server = Server::start(|_| {});
    let with = |line: &str| format!("POST /echo HTTP/1.1\r\nHost: test\r\n{line}\r\n\r\nhello");
    let cases = [
        (
            with("Content-Length: 5\r\nContent-Length: 5"),
            400,
            "repeated_content_length",
        ),
        (
            with("Content-Length: 5\r\nContent-Length: 6"),
            400,
            "repeated_content_length",
        ),
        (with("Content-Length: 5, 5"), 400, "bad_content_length"),
        (with("Content-Length: +5"), 400, "bad_content_length"),
        (
            with("Content-Length: 99999999999999999999"),
            400,
            "bad_content_length",
        ),
        (
            with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            400,
            "ambiguous_length",
        ),
        (
            with("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            400,
            "ambiguous_length",
        ),
        (
            with("Transfer-Encoding: gzip, chunked"),
            501,
            "transfer_encoding_not_implemented",
        ),
        (
            with("Transfer-Encoding: identity"),
            501,
            "transfer_encoding_not_implemented",
        ),
        (
            with("Transfer-Encoding: chunked, chunked"),
            400,
            "repeated_transfer_encoding",
        ),
        (
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            400,
            "repeated_transfer_encoding",
        ),
        (
            with("Host: other\r\nContent-Length: 5"),
            400,
            "repeated_host",
        ),
        (
            with("X: a\r\n b: c\r\nContent-Length: 5"),
            400,
            "folded_header",
        ),
        // The engine finds these; the client cannot tell.
        (with("Content-Length : 5"), 400, "bad_head"),
        (with("Transfer-Encoding : chunked"), 400, "bad_head"),
        (with("no colon"), 400, "bad_head"),
        (with(": no name"), 400, "bad_head"),
        (with("X: a\0b"), 400, "bad_head"),
        (with("X: a\rb"), 400, "bad_head"),
        ("POST /echo HTTP/1.1\r\n\r\n".to_owned(), 400, "no_host"),
        (
            "GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
            400,
            "bad_host",
        ),
        (
            "GET /echo HTTP/1.1\r\nHost:\r\n\r\n".to_owned(),
            400,
            "bad_host",
        ),
        (
            "GET /echo HTTP/1.1\nHost: a\n\n".to_owned(),
            400,
            "bad_line_end",
        ),
        ("GET /echo\r\n\r\n".to_owned(), 400, "bad_request_line"),
        (
            "GE T /echo HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "bad_request_line",
        ),
        (
            "G\u{e9}T /echo HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "bad_head",
        ),
        (
            "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            400,
            "bad_head",
        ),
        (
            "GET /echo HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(),
            505,
            "http_version_not_supported",
        ),
        (
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
            400,
            "http2_not_offered",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            501,
            "method_not_implemented",
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
            501,
            "method_not_implemented",
        ),
        (
            "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned(),
            400,
            "bad_request_line",
        ),
    ];
    for (number, (request, status, code)) in cases.iter().enumerate() {
        // Alone, behind a good request, and before one that must not be heard.
        let before = server.answered(200);
        let mut client = server.connect();
        client.send(post("/echo", "first"));
        assert_eq!(client.read().text(), "first");
        client.send(format!(
            "{}{request}{}",
            post("/late-echo", "second"),
            post("/echo", "smuggled")
        ));
        assert_eq!(client.read().text(), "second", "{request:?}");
        let answer = client.read();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (*status, *code),
            "{request:?}"
        );
        assert!(answer.closes(), "{request:?}");
        assert!(answer.header("date").is_some());
        assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert!(client.ended(), "{request:?}");
        assert_eq!(server.answered(200), before + 2, "{request:?}");
        let counted: u64 = [400, 501, 505]
            .into_iter()
            .map(|status| server.answered(status))
            .sum();
        assert_eq!(counted, number as u64 + 1, "{request:?}");
    }
}

#[test]
fn broken_chunks_end_the_body_and_the_connection() {
    let server = Server::start(|_| {});
    for chunks in [
        "5\r\nhelloX",
        "z\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
    ] {
        let mut client = server.connect();
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}{GET}"
        ));
        let answer = client.read();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "body_malformed"),
            "{chunks:?}"
        );
        assert!(answer.closes());
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert!(client.ended());
    }
    assert_eq!(server.answered(200), 0);
}

#[test]
fn trailers_and_extensions_are_read_past() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    client.send(format!(
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
         5;name=\"value\"\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n{GET}"
    ));
    assert_eq!(client.read().text(), "hello");
    assert_eq!(client.read().text(), "0");
}

#[test]
fn a_small_unread_body_is_discarded() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    let hidden = post("/echo", "smuggled");
    for _ in 0..3 {
        client.send(format!(
            "{}{}",
            post("/early", &hidden),
            post("/echo", "next")
        ));
        assert_eq!(client.read().status, 403);
        assert_eq!(client.read().text(), "next");
    }
    // Its rest may come later.
    let request = post("/early", &hidden);
    let (now, later) = request.split_at(request.len() - 10);
    client.send(now);
    client.send(format!("{later}{}", post("/echo", "next")));
    assert_eq!(client.read().status, 403);
    assert_eq!(client.read().text(), "next");
}

#[test]
fn a_large_unread_body_closes_the_connection() {
    let server = Server::start(|_| {});
    let hidden = post("/echo", "smuggled").repeat(55_000);
    assert!(hidden.len() > 3_000_000, "more than the sockets hold");
    for request in [post("/early", &hidden), chunked("/early", &hidden, 4_096)] {
        let mut client = server.connect();
        // All of it is sent before the answer is read: a reset would destroy the answer.
        client.send(&request);
        let answer = client.read();
        assert_eq!(answer.status, 403);
        assert!(answer.closes());
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert!(client.ended());
    }
    assert_eq!(server.answered(200), 0);
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answers() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    client.send(format!(
        "{}{}",
        post("/late-echo", "one"),
        post("/late-echo", "two")
    ));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read().text(), "one");
    assert_eq!(client.read().text(), "two");
    assert!(client.ended());
}

#[test]
fn a_request_that_breaks_off_is_counted_and_never_handled() {
    let server = Server::start(|_| {});
    for cut in [
        "POST /echo HTTP/1.1\r\nHost: te",
        "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhell",
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let before = server.count(|stats| stats.broken_off.get());
        let mut client = server.connect();
        client.send(cut);
        drop(client);
        server.await_value(before + 1, |stats| stats.broken_off.get());
    }
    let mut client = server.connect();
    drop(client.stream.shutdown(Shutdown::Write));
    assert!(client.ended());
    assert_eq!(server.answered(200) + server.answered(400), 0);
    assert_eq!(
        server.count(|stats| stats.broken_off.get()),
        3,
        "a probe is no request"
    );
    server.await_value(0, |stats| stats.connections_open.get());
}

#[test]
fn http_1_0_closes_unless_keep_alive() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    let answer = client.ask("GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("keep-alive"))
    );
    assert_eq!(client.ask("GET /length HTTP/1.0\r\n\r\n").status, 200);
    assert!(client.ended());
}

#[test]
fn an_upgrade_is_not_taken_and_the_request_is_served() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    for protocol in ["websocket", "h2c"] {
        let answer = client.ask(&format!(
            "GET /length HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
        ));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(client.ask(GET).status, 200);
}

#[test]
fn answers_carry_what_the_handler_says() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    let answer = client.ask("GET /post-only HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let answer = client.ask(&post("/busy", ""));
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("3"))
    );
    let answer = client.ask("GET http://a/length?x=1 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.status, 200, "the absolute form is a target, too");
    let peer = client.ask("GET /peer HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(peer.text(), client.stream.local_addr().unwrap().to_string());
    client.send(format!("HEAD /length HTTP/1.1\r\nHost: a\r\n\r\n{GET}"));
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read().text(), "0");
    assert!(client.ask(&post("/close", "")).closes());
    assert!(client.ended());
}
