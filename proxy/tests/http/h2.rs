//! HTTP/2: the same answers as HTTP/1.1, and bounds of its own.

use crate::h2_client::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, H2, HEADERS, PING,
    PREFACE, REFUSED_STREAM, RST_STREAM, Raw, Reply, SETTINGS, Secured, frame, head, knowing, read,
    request, run,
};
use crate::server::{Server, answers_to_any_origin, post};
use bytes::Bytes;
use http::StatusCode;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ORIGIN: &str = "https://shop.example";

#[test]
fn alpn_chooses_between_http2_and_http1() {
    run(async {
        let secured = Secured::start(|_| {});
        let reply = secured
            .h2()
            .await
            .ask(request("POST", "/echo"), b"hello")
            .await;
        assert_eq!(
            (reply.status, &*reply.body),
            (StatusCode::OK, &b"hello"[..])
        );
        for offered in [&["http/1.1"][..], &[]] {
            let mut stream = secured.connect(offered).await;
            let request = post("/echo", "hello").replace("Host", "Connection: close\r\nHost");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
        }
    });
}

#[test]
fn prior_knowledge_and_http1_share_a_listener() {
    let server = knowing(|_| {});
    let mut client = server.connect();
    // A method that begins as the preface does.
    assert_eq!(client.ask(&post("/echo", "hello")).text(), "hello");
    drop(client);
    // Byte by byte.
    let mut raw = server.connect();
    raw.stream.set_nodelay(true).unwrap();
    let settings = frame(SETTINGS, 0, 0, &[]);
    let get = frame(HEADERS, END_STREAM | END_HEADERS, 1, &head(false, "/peer"));
    for byte in [PREFACE, &settings, &get].concat() {
        raw.send([byte]);
        thread::sleep(Duration::from_millis(1));
    }
    let mut raw = Raw { stream: raw.stream };
    assert_eq!(raw.next(HEADERS).stream, 1);
    run(async {
        assert_eq!(H2::connect(&server).await.get("/peer").await.status, 200);
    });
}

#[test]
fn http2_begins_only_where_a_listener_says_so() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    client.send(PREFACE);
    let answer = client.read();
    assert_eq!(answer.code(), "http2_not_offered");
    // Nor after a request of HTTP/1.1.
    let server = knowing(|_| {});
    let mut client = server.connect();
    assert_eq!(client.ask(&post("/echo", "hello")).status, 200);
    client.send(PREFACE);
    assert_eq!(client.read().code(), "http2_not_offered");
}

/// The headers that do not differ from answer to answer, nor belong to a connection.
fn lasting(headers: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    // Without a body, HTTP/2 needs no length.
    let empty = ("content-length", "0");
    let varying = ["connection", "date", "x-request-id"];
    headers
        .map(|(name, value)| (name.to_lowercase(), value))
        .filter(|(name, value)| !varying.contains(&&**name) && (&**name, &**value) != empty)
        .collect()
}

#[test]
fn http2_answers_have_the_headers_of_http1() {
    let server = knowing(|settings| settings.answers = answers_to_any_origin());
    let many = "x-more: 1\r\n".repeat(100);
    let long = format!("/{}", "x".repeat(9_000));
    for (method, path, more, status) in [
        ("POST", "/echo", "", 200),
        ("GET", "/peer", "", 200),
        ("HEAD", "/busy", "", 503),
        ("GET", "/busy", "", 503),
        ("GET", "/nowhere", "", 404),
        ("POST", "/early", "", 403),
        ("GET", "/post-only", "", 405),
        (
            "OPTIONS",
            "/echo",
            "access-control-request-method: POST\r\n",
            200,
        ),
        ("GET", &long, "", 414),
        ("GET", "/peer", &many, 431),
    ] {
        let mut client = server.connect();
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nOrigin: {ORIGIN}\r\n{more}\r\n"
        ));
        let old = client.read_head();
        assert_eq!(old.status, status, "{method} {path}: {old:?}");
        let headers = old
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        let old = lasting(headers.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let mut request = request(method, path).header("origin", ORIGIN);
        for line in more.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            request = request.header(name, value);
        }
        run(async {
            let h2 = H2::connect(&server).await;
            let reply = h2.ask(request, b"").await;
            assert_eq!(reply.status, status, "{method} {path}: {reply:?}");
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(reply.header("access-control-allow-origin"), Some(ORIGIN));
            assert_eq!(reply.header("x-request-id").map(str::len), Some(32));
            assert!(
                reply
                    .header("date")
                    .is_some_and(|date| date.ends_with(" GMT"))
            );
            let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
            let headers = reply.headers.iter();
            let new = lasting(headers.map(|(name, value)| (name.to_string(), text(value))));
            assert_eq!(new, old, "{method} {path}");
            // The connection goes on whatever the answer was.
            assert_eq!(h2.get("/peer").await.status, 200);
        });
    }
}

#[test]
fn an_http2_body_over_the_limit_is_413() {
    let server = knowing(|settings| settings.limits.body_bytes_max = 1_000);
    run(async {
        let h2 = H2::connect(&server).await;
        let at = |bytes: usize| -> &'static [u8] { &[b'x'; 1_001][..bytes] };
        assert_eq!(
            h2.ask(request("POST", "/length"), at(1_000)).await.body,
            b"1000"
        );
        let over = h2.ask(request("POST", "/length"), at(1_001)).await;
        assert_eq!(
            (over.status.as_u16(), &*over.code()),
            (413, "body_too_large")
        );
        // Announced, and never sent.
        let announced = request("POST", "/length").header("content-length", 1_001);
        let mut send = h2.send.clone().ready().await.unwrap();
        let (answer, _stream) = send
            .send_request(announced.body(()).unwrap(), false)
            .unwrap();
        assert_eq!(read(answer).await.unwrap().status, 413);
        assert_eq!(h2.get("/peer").await.status, 200);
    });
}

#[test]
fn a_slow_http2_body_is_408_and_others_go_on() {
    let server = knowing(|settings| settings.limits.body_deadline = Duration::from_millis(300));
    run(async {
        let h2 = H2::connect(&server).await;
        let mut send = h2.send.clone().ready().await.unwrap();
        let slow = request("POST", "/length").body(()).unwrap();
        let (answer, mut stream) = send.send_request(slow, false).unwrap();
        stream.send_data(Bytes::from_static(b"x"), false).unwrap();
        assert_eq!(h2.ask(request("POST", "/length"), b"abc").await.body, b"3");
        let reply = read(answer).await.unwrap();
        assert_eq!(
            (reply.status.as_u16(), &*reply.code()),
            (408, "body_too_slow")
        );
        assert_eq!(h2.get("/peer").await.status, 200);
    });
}

#[test]
fn an_http2_body_without_budget_is_503_and_counted_once() {
    let server = knowing(|settings| {
        settings.budget_bytes = 128 << 10;
        settings.answers = answers_to_any_origin();
    });
    run(async {
        let h2 = H2::connect(&server).await;
        let mut send = h2.send.clone().ready().await.unwrap();
        let first = request("POST", "/length").body(()).unwrap();
        let (answer, mut stream) = send.send_request(first, false).unwrap();
        stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
        static BODY: [u8; 100_000] = [b'x'; 100_000];
        let reply = h2.ask(request("POST", "/length"), &BODY).await;
        assert_eq!((reply.status.as_u16(), &*reply.code()), (503, "overloaded"));
        assert_eq!(reply.header("retry-after"), Some("7"));
        stream.send_data(Bytes::from_static(b"def"), true).unwrap();
        assert_eq!(read(answer).await.unwrap().body, b"6");
        // Alone, it may be larger than the budget: nothing else of the connection counts.
        assert_eq!(
            h2.ask(request("POST", "/length"), &BODY).await.body,
            b"100000"
        );
    });
    assert_eq!(server.count(|stats| stats.shed_budget.get()), 1);
}

#[test]
fn an_http2_head_request_gets_the_length_only() {
    let server = knowing(|_| {});
    run(async {
        let h2 = H2::connect(&server).await;
        let whole = h2.get("/peer").await;
        let reply = h2.ask(request("HEAD", "/peer"), b"").await;
        assert!(reply.body.is_empty());
        let length = reply.header("content-length").unwrap().parse::<usize>();
        assert_eq!(length.unwrap(), whole.body.len());
    });
}

#[test]
fn an_http2_stream_over_the_bound_is_refused() {
    let server = knowing(|_| {});
    let mut raw = Raw::connect(&server, &[]);
    let settings = raw.next(SETTINGS);
    let pairs = settings.payload.chunks(6);
    let offered = pairs.filter(|pair| pair[..2] == [0, 3]).map(|pair| pair[5]);
    assert_eq!(offered.collect::<Vec<_>>(), [128]);
    for request in 0..129 {
        let block = head(false, "/never");
        raw.send(&frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            2 * request + 1,
            &block,
        ));
    }
    let refused = raw.next(RST_STREAM);
    assert_eq!((refused.stream, refused.number(0)), (257, REFUSED_STREAM));
    drop(raw);
    server.await_value(128, |stats| stats.broken_off.get());
}

#[test]
fn an_http2_header_list_over_the_bound_is_431() {
    let server = knowing(|settings| settings.limits.head_bytes_max = 8 << 10);
    run(async {
        let h2 = H2::connect(&server).await;
        let with = |bytes: usize| request("GET", "/peer").header("x-long", "x".repeat(bytes));
        assert_eq!(h2.ask(with(7_000), b"").await.status, 200);
        for bytes in [8_200, 15_000] {
            let refused = h2.ask(with(bytes), b"").await;
            assert_eq!(refused.status, 431, "{bytes}");
            assert!(refused.header("x-request-id").is_some(), "{bytes}");
        }
        // Over what the library takes.
        assert_eq!(h2.ask(with(17_000), b"").await.status, 431);
        assert_eq!(h2.get("/peer").await.status, 200);
    });
}

/// Another connection of the same core is answered.
fn assert_serves(server: &Server) {
    run(async {
        let h2 = H2::connect(server).await;
        for _ in 0..20 {
            assert_eq!(
                h2.ask(request("POST", "/echo"), b"hello").await.body,
                b"hello"
            );
        }
    });
}

#[test]
fn a_rapid_reset_ends_its_connection_with_goaway() {
    let server = knowing(|_| {});
    let mut raw = Raw::connect(&server, &[]);
    let mut bytes = Vec::new();
    for request in 0..5_000 {
        let stream = 2 * request + 1;
        bytes.extend(frame(
            HEADERS,
            END_STREAM | END_HEADERS,
            stream,
            &head(false, "/never"),
        ));
        bytes.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    // The server may have ended it before all is sent.
    let _ = raw.stream.write_all(&bytes);
    assert_eq!(raw.goodbye(), ENHANCE_YOUR_CALM);
    raw.end();
    assert_serves(&server);
    // Far fewer than were begun.
    assert!(server.count(|stats| stats.broken_off.get()) < 200);
}

#[test]
fn a_continuation_flood_ends_its_connection_with_goaway() {
    let server = knowing(|_| {});
    let mut raw = Raw::connect(&server, &[]);
    let mut bytes = frame(HEADERS, 0, 1, &head(false, "/echo"));
    for _ in 0..5_000 {
        bytes.extend(frame(CONTINUATION, 0, 1, &[]));
    }
    let _ = raw.stream.write_all(&bytes);
    assert_eq!(raw.goodbye(), ENHANCE_YOUR_CALM);
    raw.end();
    assert_serves(&server);
}

#[test]
fn a_flood_of_empty_data_ends_its_connection() {
    let server = knowing(|_| {});
    let mut raw = Raw::connect(&server, &[]);
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &head(true, "/echo"));
    for _ in 0..5_000 {
        bytes.extend(frame(DATA, 0, 1, &[]));
    }
    let _ = raw.stream.write_all(&bytes);
    assert_eq!(raw.goodbye(), ENHANCE_YOUR_CALM);
    raw.end();
    assert_serves(&server);
}

#[test]
fn a_flood_of_frames_that_ask_for_nothing_ends_its_connection() {
    let server = knowing(|_| {});
    let frames = [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(2, 0, 1, &[0, 0, 0, 3, 16]),
        frame(8, 0, 0, &1_u32.to_be_bytes()),
        frame(0xfa, 0, 0, b"x"),
    ];
    for flood in frames {
        let mut raw = Raw::connect(&server, &[]);
        // The kernel's buffers, and little of the server's: whether or not the client reads what it is answered.
        let is_stopped = raw.flood(&flood.repeat(1_000), 64 << 20);
        assert!(!is_stopped, "type {}", flood[3]);
        assert_serves(&server);
    }
}

#[test]
fn frame_floods_leave_other_connections_their_turns() {
    let server = knowing(|_| {});
    let body = frame(HEADERS, END_HEADERS, 1, &head(true, "/echo"));
    // Those that are answered, those that need no answer, and a body byte by byte, which may go on.
    for (begun, flood) in [
        (vec![], frame(PING, 0, 0, &[7; 8])),
        (vec![], frame(0xfa, 0, 0, &[])),
        (body, frame(DATA, 0, 1, b"x")),
    ] {
        let flood = flood.repeat(8_000);
        thread::scope(|scope| {
            let (stop, stopped) = mpsc::channel::<()>();
            let server = &server;
            scope.spawn(move || {
                while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
                    let mut raw = Raw::connect(server, &[]);
                    let mut reader = Raw {
                        stream: raw.stream.try_clone().unwrap(),
                    };
                    scope.spawn(move || reader.end());
                    // Until the server ends it.
                    let mut sends = raw.stream.write_all(&begun);
                    while sends.is_ok() && stopped.try_recv().is_err() {
                        sends = raw.stream.write_all(&flood);
                    }
                    let _ = raw.stream.shutdown(Shutdown::Both);
                }
            });
            assert_serves(server);
            // Timers fire beside it.
            run(async {
                let late = H2::connect(server).await.get("/very-late").await;
                assert_eq!(late.status, 200);
            });
            drop(stop);
        });
    }
}

#[test]
fn a_window_that_never_opens_ends_the_connection() {
    let server = knowing(|settings| {
        settings.limits.idle = Duration::from_millis(300);
        settings.limits.answer_deadline = Duration::from_millis(300);
    });
    // SETTINGS_INITIAL_WINDOW_SIZE 0.
    let mut raw = Raw::connect(&server, &[0, 4, 0, 0, 0, 0]);
    raw.send(&frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1,
        &head(false, "/large"),
    ));
    assert_eq!(raw.next(HEADERS).stream, 1);
    let goodbye = raw.goodbye();
    assert_eq!(goodbye, 0);
    raw.end();
    server.await_value(0, |stats| stats.connections_open.get());
}

#[test]
fn awaited_http2_bodies_count_into_the_budget() {
    let server = knowing(|settings| settings.budget_bytes = 64 << 10);
    let mut raw = Raw::connect(&server, &[]);
    // An eighth of the budget is for one client: a stream and its byte, and nearly another.
    let begun = |stream| frame(HEADERS, END_HEADERS, stream, &head(true, "/length"));
    raw.send(&[begun(1), frame(DATA, 0, 1, b"x"), begun(3)].concat());
    let refused = raw.next(HEADERS);
    assert_eq!(refused.stream, 3);
    server.await_value(1, |stats| stats.responses(503));
    raw.send(&frame(DATA, END_STREAM, 1, b"x"));
    assert_eq!(raw.next(HEADERS).stream, 1);
    server.await_value(1, |stats| stats.responses(200));
}

/// Requests that are never answered, of one connection.
fn never_answered(count: u32) -> Vec<u8> {
    let never = head(false, "/never");
    let ask = |number| frame(HEADERS, END_STREAM | END_HEADERS, 1 + 2 * number, &never);
    (0..count).flat_map(ask).collect()
}

#[test]
fn streams_beyond_half_the_budget_are_reset() {
    // Half of it is for 1,600 streams, and a trusted proxy may have them all, 128 on each connection.
    let server = knowing(|settings| {
        settings.budget_bytes = 2 * 1_600 * (5 << 10);
        settings.trusted = vec!["127.0.0.1/32".parse().unwrap()];
    });
    let mut full: Vec<Raw> = (0..12).map(|_| Raw::connect(&server, &[])).collect();
    for connection in &mut full {
        connection.send(&never_answered(128));
    }
    // They have to have arrived; nothing outside shows that, but time.
    thread::sleep(Duration::from_millis(300));
    let mut last = Raw::connect(&server, &[]);
    last.send(&never_answered(65));
    assert_eq!(last.next(RST_STREAM).stream, 1 + 2 * 64);
}

#[test]
fn one_address_holds_an_eighth_of_all_streams() {
    let server = knowing(|settings| settings.budget_bytes = 2 * 1_600 * (5 << 10));
    let mut first = Raw::connect(&server, &[]);
    first.send(&never_answered(128));
    thread::sleep(Duration::from_millis(300));
    let mut second = Raw::connect(&server, &[]);
    second.send(&never_answered(73));
    assert_eq!(second.next(RST_STREAM).stream, 1 + 2 * 72);
    let shed = server.count(|stats| stats.shed_budget.get());
    let mut other = Raw::connect_from([127, 0, 0, 2], &server, &[]);
    other.send(&never_answered(127));
    other.send(&frame(
        HEADERS,
        END_STREAM | END_HEADERS,
        1 + 2 * 127,
        &head(false, "/"),
    ));
    assert_eq!(other.next(HEADERS).stream, 1 + 2 * 127);
    assert_eq!(server.count(|stats| stats.shed_budget.get()), shed);
}

#[test]
fn unread_http2_answers_count_into_the_budget() {
    let server = knowing(|settings| settings.budget_bytes = 64 << 10);
    let mut raw = Raw::connect(&server, &[0, 4, 0, 0, 0, 0]);
    let ask = |raw: &mut Raw, stream: u32| {
        let block = head(false, "/peer");
        raw.send(&frame(HEADERS, END_STREAM | END_HEADERS, stream, &block));
        let answer = raw.next(HEADERS);
        assert_eq!(answer.stream, stream);
        answer.flags & END_STREAM == 0
    };
    // An eighth of the budget is for one client: a stream, and nearly another.
    assert!(ask(&mut raw, 1));
    for stream in [3, 5, 7, 9] {
        assert!(!ask(&mut raw, stream), "{stream} has a body");
    }
    // Another client has its own part.
    let stream = server.connect_from([127, 0, 0, 2]).stream;
    let mut other = Raw { stream };
    other.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    assert!(ask(&mut other, 1));
    // WINDOW_UPDATE.
    raw.send(&frame(8, 0, 1, &1_000_u32.to_be_bytes()));
    assert_eq!(raw.next(DATA).stream, 1);
    assert!(ask(&mut raw, 11));
}

#[test]
fn http2_requests_under_way_are_answered_while_draining() {
    let mut server = knowing(|_| {});
    run(async {
        let idle = H2::connect(&server).await;
        assert_eq!(idle.get("/peer").await.status, 200);
        let busy = H2::connect(&server).await;
        let mut send = busy.send.clone().ready().await.unwrap();
        let late = request("GET", "/very-late").body(()).unwrap();
        let (answer, _) = send.send_request(late, true).unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let deadline = server.clock.now() + Duration::from_secs(60);
        server.drain.drain(deadline);
        assert_eq!(read(answer).await.unwrap().status, 200);
        for client in [idle, busy] {
            client.end.await.unwrap().unwrap();
        }
        server.workers.take().unwrap().join().unwrap();
        assert!(server.clock.now() < deadline);
    });
}

#[test]
fn while_refusing_an_http2_answer_ends_its_connection() {
    let server = knowing(|_| {});
    run(async {
        server.drain.refuse();
        let h2 = H2::connect(&server).await;
        assert_eq!(h2.get("/peer").await.status, 200);
        h2.end.await.unwrap().unwrap();
    });
}

#[test]
fn an_http2_connection_ends_after_its_requests_or_life() {
    run(async {
        let server = knowing(|settings| settings.limits.requests_per_connection_max = 3);
        let h2 = H2::connect(&server).await;
        for _ in 0..3 {
            assert_eq!(h2.get("/peer").await.status, 200);
        }
        h2.end.await.unwrap().unwrap();
        let server = knowing(|settings| {
            settings.limits.connection_life = Duration::from_millis(300);
        });
        // Told while a request is under way, which is answered.
        let h2 = H2::connect(&server).await;
        assert_eq!(h2.get("/very-late").await.status, 200);
        h2.end.await.unwrap().unwrap();
    });
}

async fn assert_over_cap(h2: H2, what: &str) {
    let reply: Reply = h2.get("/peer").await;
    assert_eq!(reply.status, 503, "{what}");
    assert_eq!(reply.code(), "too_many_connections", "{what}");
    assert!(reply.header("retry-after").is_some(), "{what}");
    // What the client says last may find nobody.
    let _ = h2.end.await.unwrap();
}

#[test]
fn an_http2_connection_over_the_cap_hears_503() {
    run(async {
        let server = knowing(|settings| settings.limits.connections_max = 1);
        let first = H2::connect(&server).await;
        assert_eq!(first.get("/peer").await.status, 200);
        assert_over_cap(H2::connect(&server).await, "prior knowledge").await;
        let secured = Secured::start(|settings| settings.limits.connections_max = 1);
        let _first = secured.h2().await;
        assert_over_cap(secured.h2().await, "TLS").await;
        // One that says nothing does not keep its place.
        let silent = secured.h2().await;
        let _ = silent.end.await.unwrap();
    });
}

#[test]
fn http2_requests_that_break_off_count_once() {
    let server = knowing(|_| {});
    run(async {
        let h2 = H2::connect(&server).await;
        let mut kept = Vec::new();
        for (path, ends) in [("/never", true), ("/length", false), ("/never", true)] {
            let mut send = h2.send.clone().ready().await.unwrap();
            let request = request("POST", path).body(()).unwrap();
            kept.push(send.send_request(request, ends).unwrap());
        }
        assert_eq!(h2.get("/peer").await.status, 200);
        // One by itself, the others with their connection.
        kept[0].1.send_reset(h2::Reason::CANCEL);
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.await_value(1, |stats| stats.broken_off.get());
        h2.end.abort();
        let _ = h2.end.await;
        drop(kept);
        drop(h2.send);
        server.await_value(0, |stats| stats.connections_open.get());
        tokio::time::sleep(Duration::from_millis(100)).await;
    });
    assert_eq!(server.count(|stats| stats.broken_off.get()), 3);
}
