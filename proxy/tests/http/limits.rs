//! Every limit of a connection: at it, a client is served; beyond it, it is told, and let go.

use crate::server::{Client, Server, answers_to_any_origin, drip, drivers, post};
use sluice_proxy::http::HttpLimits;
use sluice_proxy::net::tls::TlsSettings;
use sluice_proxy::runtime::driver::Driver;
use sluice_proxy::worker::StartError;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::Duration;

const GET: &str = "GET /length HTTP/1.1\r\nHost: test\r\n\r\n";
const SHORT: Duration = Duration::from_millis(300);
const LONG: Duration = Duration::from_secs(600);

fn refused(server: &Server, request: &str, status: u16, code: &str, numbers: (u64, Option<u64>)) {
    let mut client = server.connect();
    client.try_send(request);
    let answer = client.read();
    assert_eq!((answer.status, answer.code().as_str()), (status, code));
    assert_eq!(answer.number("limit"), Some(numbers.0));
    assert_eq!(answer.number("actual"), numbers.1);
    assert!(answer.closes());
    drop(client.stream.shutdown(Shutdown::Write));
    assert!(client.ended());
}

#[test]
fn heads_have_32_kib_100_lines_and_8_kib_targets() {
    let server = Server::start(|_| {});
    let sized = |bytes: usize| {
        let start = "GET /length HTTP/1.1\r\nHost: test\r\n";
        let lines = (bytes - start.len() - 2).div_ceil(4_000);
        let mut head = start.to_owned();
        for line in 0..lines {
            let end = start.len() + (bytes - start.len() - 2) * (line + 1) / lines;
            let fill = end - head.len() - "X: \r\n".len();
            head.push_str(&format!("X: {}\r\n", "x".repeat(fill)));
        }
        head.push_str("\r\n");
        assert_eq!(head.len(), bytes);
        head
    };
    let lines = |count: usize| {
        format!(
            "GET /length HTTP/1.1\r\nHost: test\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    };
    let aimed = |bytes: usize| {
        let fill = "x".repeat(bytes - "/length?".len());
        format!("GET /length?{fill} HTTP/1.1\r\nHost: test\r\n\r\n")
    };
    let mut client = server.connect();
    for request in [sized(32_768), lines(100), aimed(8_192)] {
        assert_eq!(client.ask(&request).status, 200);
    }
    refused(
        &server,
        &sized(32_769),
        431,
        "head_too_large",
        (32_768, Some(32_769)),
    );
    refused(
        &server,
        &lines(101),
        431,
        "too_many_headers",
        (100, Some(101)),
    );
    refused(
        &server,
        &aimed(8_193),
        414,
        "target_too_long",
        (8_192, Some(8_193)),
    );
    assert_eq!((server.answered(431), server.answered(414)), (2, 1));

    // Without an end in sight.
    let fill = "x".repeat(40_000);
    for (endless, status) in [
        (format!("GET /{fill}"), 414),
        (format!("GET / HTTP/1.1\r\nX: {fill}"), 431),
        ("\r\n".repeat(20_000), 431),
        (fill.clone(), 431),
    ] {
        let mut client = server.connect();
        client.try_send(endless);
        assert_eq!(client.read().status, status);
    }
}

#[test]
fn a_body_over_the_limit_is_413_in_both_framings() {
    let server = Server::with_limits(|limits| limits.body_bytes_max = 1_000_000);
    let mut client = server.connect();
    let head = |length: u64| {
        format!("POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n")
    };
    let body = "x".repeat(1_000_000);
    client.send(format!("{}{body}", head(1_000_000)));
    assert_eq!(client.read().text(), "1000000");

    refused(
        &server,
        &head(1_000_001),
        413,
        "body_too_large",
        (1_000_000, Some(1_000_001)),
    );
    refused(
        &server,
        &head(i64::MAX as u64),
        413,
        "body_too_large",
        (1_000_000, Some(i64::MAX as u64)),
    );

    let chunked = "POST /length HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{chunked}f4240\r\n{body}\r\n0\r\n\r\n"));
    assert_eq!(client.read().text(), "1000000");
    refused(
        &server,
        &format!("{chunked}f4240\r\n{body}\r\n1\r\nx"),
        413,
        "body_too_large",
        (1_000_000, None),
    );
    // A client that sends all of a body that is far too long before it reads gets the answer, too.
    refused(
        &server,
        &format!("{}{}", head(3_000_000), body.repeat(3)),
        413,
        "body_too_large",
        (1_000_000, Some(3_000_000)),
    );
    assert_eq!(server.answered(413), 4);
}

#[test]
fn a_head_that_drips_is_408_on_every_driver() {
    for driver in drivers() {
        let server = Server::start(|settings| {
            settings.listen.driver = driver;
            settings.limits.head_deadline = SHORT;
            settings.limits.idle = LONG;
        });
        // At once, after an answer, and in one packet with a request that is answered first.
        for before in ["", GET, &post("/late-echo", "x")] {
            for together in [true, false] {
                let mut client = server.connect();
                if together {
                    client.send(format!("{before}GET /length HT"));
                }
                if !before.is_empty() {
                    if !together {
                        client.send(before);
                    }
                    assert_eq!(client.read().status, 200);
                }
                if !together {
                    client.send("GET /length HT");
                }
                let answer = drip(&mut client, "TP/1.1\r\nX: ");
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (408, "head_too_slow")
                );
                assert_eq!(answer.number("limit"), Some(300));
                assert!(answer.number("actual").unwrap() >= 300);
                assert!(answer.closes());
                drop(client.stream.shutdown(Shutdown::Write));
                assert!(client.ended());
            }
        }
        assert_eq!(server.answered(408), 6);
    }
}

#[test]
fn a_connection_that_never_sends_is_closed_without_a_word() {
    let server = Server::with_limits(|limits| limits.head_deadline = SHORT);
    let mut client = server.connect();
    assert!(client.ended());
    assert_eq!(server.answered(408), 0);
    server.await_value(0, |stats| stats.connections_open.get());
}

#[test]
fn a_body_that_drips_or_stops_is_408() {
    let length = "POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n";
    let chunked =
        "POST /length HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n";
    let in_all = Server::with_limits(|limits| {
        limits.body_deadline = SHORT;
        limits.body_grace = LONG;
    });
    let by_rate = Server::with_limits(|limits| {
        limits.body_deadline = LONG;
        limits.body_grace = SHORT;
        limits.body_bytes_per_second_min = 1_000;
    });
    for server in [&in_all, &by_rate] {
        for head in [length, chunked] {
            let mut client = server.connect();
            client.send(head);
            let answer = drip(&mut client, "xxx");
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (408, "body_too_slow")
            );
            assert!(answer.closes());
            drop(client.stream.shutdown(Shutdown::Write));
            assert!(client.ended());

            let mut client = server.connect();
            client.send(head);
            assert_eq!(client.read().status, 408);
        }
        assert_eq!(server.answered(408), 4);
        assert_eq!(server.count(|stats| stats.broken_off.get()), 0);
    }
}

#[test]
fn a_body_that_keeps_the_rate_may_take_its_time() {
    let server = Server::with_limits(|limits| {
        limits.head_deadline = SHORT;
        limits.idle = SHORT;
        limits.answer_deadline = SHORT;
        limits.body_deadline = LONG;
        limits.body_grace = SHORT;
        limits.body_bytes_per_second_min = 10;
    });
    let mut client = server.connect();
    client.send("POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: 12000\r\n\r\n");
    for _ in 0..12 {
        client.send("x".repeat(1_000));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.read().text(), "12000");
}

/// Sends a body of announced length in twentieths, as evenly as the system's clock allows.
fn send_evenly(server: &Server, bytes: usize, in_all: Duration) -> crate::server::Reply {
    let mut client = server.connect();
    client.send(format!(
        "POST /length HTTP/1.1\r\nHost: test\r\nContent-Length: {bytes}\r\n\r\n"
    ));
    let body = "x".repeat(bytes);
    for piece in body.as_bytes().chunks(bytes.div_ceil(20)) {
        std::thread::sleep(in_all / 20);
        client.try_send(piece);
    }
    client.read()
}

#[test]
fn a_slow_body_completing_in_time_is_no_408() {
    let server = Server::with_limits(|limits| {
        limits.body_deadline = Duration::from_secs(1);
        limits.body_deadline_last = Duration::from_secs(60);
    });
    let reply = send_evenly(&server, 20_000, Duration::from_secs(3));
    assert_eq!((reply.status, reply.text()), (200, "20000"));
}

#[test]
fn a_body_of_512_kib_at_45_kb_s_passes() {
    let server = Server::start(|_| {});
    let bytes = 512 * 1024;
    let in_all = Duration::from_secs_f64(bytes as f64 / 45_000.0);
    let reply = send_evenly(&server, bytes, in_all);
    assert_eq!((reply.status, reply.text()), (200, "524288"));
}

#[test]
fn a_trusted_peer_may_exceed_the_address_cap() {
    let server = Server::start(|settings| {
        settings.limits.connections_per_source_max = 1;
        settings.trusted = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(GET).status, 200);
    }
    assert_eq!(
        server.count(|stats| stats.connections_capped_by_address.get()),
        0
    );
}

#[test]
fn handlers_are_not_bound_by_connection_deadlines() {
    let server = Server::with_limits(|limits| {
        limits.head_deadline = Duration::from_millis(1);
        limits.body_deadline = Duration::from_millis(1);
        limits.idle = Duration::from_millis(1);
        limits.answer_deadline = Duration::from_millis(1);
        limits.connection_life = Duration::from_millis(1);
    });
    let mut client = server.connect();
    let answer = client.ask("GET /very-late HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(answer.status, 200);
    assert!(answer.closes(), "it has lived long enough");
}

#[test]
fn a_client_not_reading_its_response_is_disconnected() {
    let server = Server::with_limits(|limits| limits.answer_deadline = SHORT);
    let mut client = server.connect();
    client.send("GET /large HTTP/1.1\r\nHost: test\r\n\r\nnonsense\r\n\r\n");
    server.await_value(1, |stats| stats.connections_open.get());
    server.await_value(0, |stats| stats.connections_open.get());
    let got = client.rest();
    assert!(got.len() < 32 * 1024 * 1024, "the answer was not cut");
    assert!(got.ends_with(b"xxx"), "nothing follows half an answer");
    assert_eq!(server.answered(400), 0);
}

#[test]
fn idle_connections_are_closed_and_busy_ones_kept() {
    let server = Server::with_limits(|limits| {
        limits.idle = SHORT;
        limits.head_deadline = LONG;
    });
    let mut client = server.connect();
    assert_eq!(client.ask(GET).status, 200);
    assert!(client.ended());
    server.await_value(0, |stats| stats.connections_open.get());
}

#[test]
fn a_connection_ends_with_its_last_request_and_its_life() {
    let server = Server::with_limits(|limits| limits.requests_per_connection_max = 3);
    let mut client = server.connect();
    client.send(GET.repeat(5));
    assert!(!client.read().closes());
    assert!(!client.read().closes());
    assert!(client.read().closes());
    assert!(client.ended());
    assert_eq!(server.answered(200), 3);

    let server = Server::with_limits(|limits| limits.connection_life = SHORT);
    let mut client = server.connect();
    assert_eq!(client.ask(GET).status, 200);
    assert!(client.ended());
}

#[test]
fn connections_over_a_cap_are_503_with_cors_and_counted() {
    let per_source: fn(&mut HttpLimits) = |limits| limits.connections_per_source_max = 2;
    let in_all: fn(&mut HttpLimits) = |limits| {
        limits.connections_max = 2;
        limits.connections_per_source_max = 0;
    };
    for cap in [per_source, in_all] {
        let server = Server::start(|settings| {
            cap(&mut settings.limits);
            settings.answers = answers_to_any_origin();
        });
        let mut first = server.connect();
        let mut second = server.connect();
        assert_eq!(first.ask(GET).status, 200);
        assert_eq!(second.ask(GET).status, 200);
        let mut third = server.connect();
        let answer =
            third.ask("GET /length HTTP/1.1\r\nHost: test\r\nOrigin: https://a.example\r\n\r\n");
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (503, "too_many_connections")
        );
        assert_eq!(answer.header("retry-after"), Some("7"));
        let allowed = answer.header("access-control-allow-origin");
        assert_eq!(allowed, Some("https://a.example"));
        assert!(answer.closes());
        assert!(third.ended());
        let capped = server.count(|stats| {
            stats.connections_capped.get() + stats.connections_capped_by_address.get()
        });
        assert_eq!(capped, 1);
        assert_eq!(server.count(|stats| stats.connections_accepted.get()), 2);

        drop(first);
        server.await_value(1, |stats| stats.connections_open.get());
        let mut fourth = server.connect();
        assert_eq!(fourth.ask(GET).status, 200);
        assert_eq!(second.ask(GET).status, 200);
    }
}

#[test]
fn a_silent_connection_over_a_cap_is_closed_soon() {
    let server = Server::with_limits(|limits| limits.connections_per_source_max = 1);
    let mut first = server.connect();
    assert_eq!(first.ask(GET).status, 200);
    let mut second = server.connect();
    assert!(second.ended());
    assert_eq!(server.answered(503) + server.answered(408), 0);
    assert_eq!(first.ask(GET).status, 200);
}

#[test]
fn new_connections_end_the_longest_idle_ones_above_80_percent() {
    let server = Server::with_limits(|limits| {
        limits.connections_max = 10;
        limits.connections_per_source_max = 0;
    });
    let mut silent: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    let mut served: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    for client in &mut served {
        assert_eq!(client.ask(GET).status, 200);
    }
    let mut busy = server.connect();
    busy.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n");
    std::thread::sleep(Duration::from_millis(1_300));
    assert_eq!(served[0].ask(GET).status, 200, "it is not idle any more");
    let mut new: Vec<Client> = Vec::new();
    for number in 0..6 {
        new.push(server.connect());
        assert_eq!(new[number].ask(GET).status, 200, "{number}");
    }
    assert_eq!(server.count(|stats| stats.connections_evicted.get()), 6);
    assert!(silent.iter_mut().all(Client::ended));
    assert!(served[1..].iter_mut().all(Client::ended));
    assert_eq!(new[0].ask(GET).status, 200);
    assert_eq!(served[0].ask(GET).status, 200);
    assert!(!busy.readable(Duration::from_millis(50)), "it is at work");
}

#[test]
fn every_refusal_of_a_malformed_request_carries_cors() {
    let server = Server::start(|settings| {
        settings.limits.head_deadline = SHORT;
        settings.answers = answers_to_any_origin();
    });
    let origin = "Origin: https://a.example\r\n";
    let long = "x".repeat(40_000);
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\n{origin}\r\n"), 400),
        (
            format!(
                "GET /{} HTTP/1.1\r\nHost: a\r\n{origin}\r\n",
                &long[..9_000]
            ),
            414,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{origin}X: {long}\r\n\r\n"),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: a\r\n{origin}Transfer-Encoding: x\r\n\r\n"),
            501,
        ),
        (format!("GET / HTTP/3.0\r\nHost: a\r\n{origin}\r\n"), 505),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{origin}"), 408),
        (
            format!("POST /echo HTTP/1.1\r\nHost: a\r\n{origin}Content-Length: 2000000\r\n\r\n"),
            413,
        ),
        (
            format!(
                "POST /echo HTTP/1.1\r\nHost: a\r\n{origin}Transfer-Encoding: chunked\r\n\r\nx"
            ),
            400,
        ),
    ] {
        let mut client = server.connect();
        client.try_send(&request);
        let answer = client.read();
        assert_eq!(answer.status, status);
        assert_eq!(
            answer.header("access-control-allow-origin"),
            Some("https://a.example"),
            "{status}"
        );
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{status}"
        );
        assert!(answer.header("x-request-id").is_some() && answer.header("date").is_some());
        assert!(answer.closes());
    }
}

#[test]
fn announced_bodies_take_no_memory_before_they_arrive() {
    let server = Server::start(|settings| settings.budget_bytes = 1 << 20);
    let mut announced: Vec<Client> = (0..200).map(|_| server.connect()).collect();
    for client in &mut announced {
        client.send("POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    }
    let mut client = server.connect();
    for _ in 0..10 {
        assert_eq!(client.ask(&post("/length", "hello")).text(), "5");
    }
    let large = "x".repeat(300_000);
    let mut other = server.connect_from([127, 0, 0, 2]);
    assert_eq!(other.ask(&post("/length", &large)).text(), "300000");
}

#[test]
fn one_address_holds_at_most_an_eighth_of_the_budget() {
    let greedy = "POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
    let server = Server::start(|settings| {
        settings.budget_bytes = 8 << 20;
        settings.trusted = vec!["127.0.0.2/32".parse().unwrap()];
    });
    let mut first = server.connect();
    first.send(greedy);
    first.send("x".repeat(900_000));
    while server.count(|stats| stats.bytes_received.get()) < 900_000 {
        std::thread::sleep(Duration::from_millis(5));
    }
    for _ in 0..3 {
        let mut next = server.connect();
        next.send(greedy);
        next.try_send("x".repeat(900_000));
        let answer = next.read();
        assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"));
    }
    first.send("x".repeat(100_000));
    assert_eq!(first.read().text(), "1000000");
    // A trusted proxy, which has many clients, is not held to it.
    let mut trusted: Vec<Client> = (0..4)
        .map(|_| server.connect_from([127, 0, 0, 2]))
        .collect();
    for client in &mut trusted {
        client.send(greedy);
        client.send("x".repeat(1_000_000));
        assert_eq!(client.read().text(), "1000000");
    }
}

#[test]
fn a_stalled_handshake_gives_way_to_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    std::fs::write(file("crt"), made.cert.pem()).unwrap();
    std::fs::write(file("key"), made.signing_key.serialize_pem()).unwrap();
    let server = Server::start(|settings| {
        settings.tls = Some(TlsSettings {
            certificate_files: vec![file("crt")],
            key_files: vec![file("key")],
            handshakes_max: 2,
            ..TlsSettings::default()
        });
    });
    // Connections that never send a byte take no place.
    let silent: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    let mut stalled: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    for client in &mut stalled {
        // The beginning of a record with a handshake message.
        client.send([0x16, 3, 1, 2, 0, 1]);
    }
    server.await_value(7, |stats| stats.connections_open.get());
    std::thread::sleep(Duration::from_millis(100));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = Arc::new(
        rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth(),
    );
    let name = "a.example".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(config, name).unwrap();
    let mut socket = server.connect().stream;
    let mut tls = rustls::Stream::new(&mut session, &mut socket);
    tls.write_all(GET.as_bytes()).unwrap();
    let mut answer = [0; 15];
    tls.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    assert!(stalled[0].ended(), "the oldest gave way");
    assert!(!stalled[1].readable(Duration::from_millis(50)));
    assert_eq!(server.count(|stats| stats.tls_failed.get()), 1);
    drop(silent);
}

#[test]
fn a_small_memory_limit_cuts_the_number_of_connections() {
    let server = Server::start(|settings| settings.memory_bytes = 960 << 10);
    assert_eq!(server.workers.as_ref().unwrap().connections_max, 10);
    let server = Server::start(|settings| {
        settings.memory_bytes = 960 << 10;
        settings.limits.connections_max = 9;
    });
    assert_eq!(server.workers.as_ref().unwrap().connections_max, 9);
}

#[test]
fn what_cannot_start_says_what_and_where() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = Server::try_start(|settings| settings.listen.address = address)
        .err()
        .unwrap();
    assert!(matches!(&error, StartError::Bind(error) if error.address == address.to_string()));
    assert!(error.to_string().contains(&address.to_string()));

    let error = Server::try_start(|settings| settings.limits.head_bytes_max = 32 * 1024 + 1);
    let shown = error.err().unwrap().to_string();
    assert!(
        shown.contains("`head_bytes_max` is 32769") && shown.contains("32768"),
        "{shown}"
    );
    let error = Server::try_start(|settings| settings.limits.headers_max = 101);
    let shown = error.err().unwrap().to_string();
    assert!(
        shown.contains("`headers_max` is 101") && shown.contains("100"),
        "{shown}"
    );
}

#[test]
fn the_configured_driver_runs_and_is_counted() {
    for driver in drivers() {
        let server = Server::start(|settings| settings.listen.driver = driver);
        let workers = server.workers.as_ref().unwrap();
        assert_eq!(workers.driver.number() == 3, driver == Driver::Epoll);
        for stats in &workers.stats {
            assert_eq!(stats.driver.get(), workers.driver.number());
        }
    }
    let auto = Server::start(|_| {});
    assert_eq!(
        auto.workers.as_ref().unwrap().driver.number() == 3,
        drivers() == [Driver::Epoll]
    );
}

/// Runs this test again in a process that may open only a few files: the limit is the process's.
#[test]
fn accepting_backs_off_without_descriptors_and_resumes() {
    const CHILD: &str = "SLUICE_TEST_FEW_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "limits::accepting_backs_off_without_descriptors_and_resumes";
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg(format!(
                "ulimit -n 256 && exec \"$0\" --exact {name} --nocapture"
            ))
            .arg(std::env::current_exe().unwrap())
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        return;
    }
    for driver in drivers() {
        let server = Server::start(|settings| settings.listen.driver = driver);
        let mut early = server.connect();
        assert_eq!(early.ask(GET).status, 200);
        let waiting =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let mut hoard = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        waiting.connect(&server.address.into()).unwrap();
        while server.count(|stats| stats.accept_errors.get()) < 3 {
            assert_eq!(early.ask(GET).status, 200, "who is inside is served");
        }
        drop(hoard);
        let mut late = Client::over(waiting.into());
        assert_eq!(late.ask(GET).status, 200, "{driver:?}");
    }
}

#[test]
fn a_connection_that_rested_serves_as_before_on_every_driver() {
    for driver in drivers() {
        let server = Server::start(|settings| settings.listen.driver = driver);
        let mut fresh = server.connect();
        let mut client = server.connect();
        let mut half = server.connect();
        assert_eq!(client.ask(&post("/echo", "before")).text(), "before");
        half.send("POST /echo HTTP/1.1\r\nHost: te");
        // Longer than the time after which an idle connection gives its engine back.
        std::thread::sleep(Duration::from_millis(2_600));
        client.send(format!(
            "{}{}",
            post("/late-echo", "one"),
            post("/echo", "two")
        ));
        assert_eq!(client.read().text(), "one");
        assert_eq!(client.read().text(), "two");
        let large = "x".repeat(200_000);
        assert_eq!(fresh.ask(&post("/echo", &large)).text(), large);
        half.send("st\r\nContent-Length: 2\r\n\r\nok");
        assert_eq!(half.read().text(), "ok");
    }
}
