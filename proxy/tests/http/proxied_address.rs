//! Behind a balancer that announces whose a connection is: the header is read to its last byte and not a
//! byte further, or the connection is closed.

use crate::server::{Client, Server, Settings, drivers, post};
use sluice_proxy::worker::ProxyProtocol;
use std::net::Shutdown;
use std::time::Duration;

const ASK: &str = "GET /peer HTTP/1.1\r\nHost: test\r\n\r\n";
const CLIENT: &str = "203.0.113.9:54321";

fn header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [&signature[..], &[command, family], &length, payload].concat()
}

/// A TCP connection from this IPv4 address, port 54321.
fn from(address: [u8; 4]) -> Vec<u8> {
    let mut payload = address.to_vec();
    payload.extend([10, 0, 0, 1, 0xd4, 0x31, 0x1f, 0x98]);
    // A note from the balancer (a type of its own, 3 bytes).
    payload.extend([0xea, 0, 3, 1, 2, 3]);
    header(0x21, 0x11, &payload)
}

fn announced() -> Vec<u8> {
    from([203, 0, 113, 9])
}

fn start(change: impl FnOnce(&mut Settings)) -> Server {
    Server::start(|settings| {
        settings.listen.proxy_protocol = ProxyProtocol::Required;
        change(settings);
    })
}

/// What the server holds for the peer of this connection.
fn peer_of(client: &mut Client) -> String {
    client.read().text().to_owned()
}

/// That a client which sent this is let go without a word.
fn closed(server: &Server, bytes: &[u8], and_its_end: bool) {
    let mut client = server.connect();
    client.try_send(bytes);
    if and_its_end {
        let _ = client.stream.shutdown(Shutdown::Write);
    }
    assert!(client.ended(), "{bytes:?}");
}

fn refused(server: &Server) -> u64 {
    server.count(|stats| stats.proxy_headers_refused.get())
}

#[test]
fn the_proxied_client_is_the_peer_of_the_request() {
    for driver in drivers() {
        let server = start(|settings| settings.listen.driver = driver);
        let body = "x".repeat(100_000);
        let requests = format!("{ASK}{}{ASK}", post("/length", &body));
        // All of it at once, and with a cut behind any byte of the header and in the request.
        let whole = [announced(), requests.clone().into_bytes()].concat();
        for cut in 0..announced().len() + 3 {
            let mut client = server.connect();
            client.send(&whole[..cut]);
            if cut % 8 == 1 {
                std::thread::sleep(Duration::from_millis(5));
            }
            client.send(&whole[cut..]);
            assert_eq!(peer_of(&mut client), CLIENT);
            assert_eq!(client.read().text(), "100000");
            assert_eq!(peer_of(&mut client), CLIENT);
        }
        // Byte by byte.
        let mut client = server.connect();
        for byte in announced() {
            client.send([byte]);
        }
        client.send(ASK);
        assert_eq!(peer_of(&mut client), CLIENT);
        assert_eq!(refused(&server), 0);
    }
}

#[test]
fn a_header_of_version_1_names_the_client_at_any_cut() {
    let server = start(|_| {});
    let line = b"PROXY TCP4 203.0.113.9 10.0.0.1 54321 8088\r\n";
    let whole = [line, ASK.as_bytes(), ASK.as_bytes()].concat();
    for cut in 0..line.len() + 3 {
        let mut client = server.connect();
        client.send(&whole[..cut]);
        if cut % 8 == 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        client.send(&whole[cut..]);
        assert_eq!(peer_of(&mut client), CLIENT);
        assert_eq!(peer_of(&mut client), CLIENT);
    }
    let mut client = server.connect();
    client.send([b"PROXY UNKNOWN\r\n", ASK.as_bytes()].concat());
    let own = client.stream.local_addr().unwrap();
    assert_eq!(peer_of(&mut client), own.to_string());
    assert_eq!(refused(&server), 0);
}

#[test]
fn an_ipv6_client_is_announced_too() {
    let server = start(|_| {});
    let mut payload = vec![0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
    payload.extend([0; 16]);
    payload.extend([0x10, 1, 0, 80]);
    let mut client = server.connect();
    client.send([header(0x21, 0x21, &payload), ASK.into()].concat());
    assert_eq!(peer_of(&mut client), "[2001:db8::7]:4097");
}

#[test]
fn a_connection_that_names_no_client_is_its_peer_s() {
    let server = start(|_| {});
    for header in [
        header(0x20, 0, b""),
        header(0x20, 0x11, &[9; 12]),
        header(0x21, 0, b""),
        header(0x21, 0x31, &[9; 216]),
    ] {
        let mut client = server.connect();
        client.send([header, ASK.into()].concat());
        let own = client.stream.local_addr().unwrap();
        assert_eq!(peer_of(&mut client), own.to_string());
    }
}

#[test]
fn connections_without_a_proxy_header_are_closed_and_counted() {
    for driver in drivers() {
        let server = start(|settings| settings.listen.driver = driver);
        let whole = announced();
        let mut too_long = whole.clone();
        too_long[14..16].copy_from_slice(&1_009_u16.to_be_bytes());
        let garbage: Vec<Vec<u8>> = vec![
            ASK.into(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 54321\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            header(0x31, 0x11, &[9; 12]),
            header(0x21, 0x11, &[9; 8]),
            header(0x21, 0x12, &[9; 12]),
            too_long,
        ];
        for (at, bytes) in (1..).zip(&garbage) {
            closed(&server, &[bytes, ASK.as_bytes()].concat(), false);
            assert_eq!(refused(&server), at, "{bytes:?}");
        }
        // It ends within its header.
        for cut in [1, 12, 15, 16, whole.len() - 1] {
            closed(&server, &whole[..cut], true);
        }
        assert_eq!(refused(&server), garbage.len() as u64 + 5);
        // A balancer that only looks whether somebody listens is no fault.
        closed(&server, b"", true);
        closed(&server, &header(0x20, 0, b""), true);
        assert_eq!(refused(&server), garbage.len() as u64 + 5);
        server.await_value(0, |stats| stats.connections_open.get());
        assert_eq!(server.answered(400), 0);
    }
}

#[test]
fn the_proxy_header_shares_no_time_with_the_head() {
    let server = start(|settings| settings.limits.head_deadline = Duration::from_millis(300));
    for part in [0, 5, 16, announced().len()] {
        let mut client = server.connect();
        client.send(&announced()[..part]);
        assert!(client.ended(), "{part}");
    }
    // Nothing at all is no fault of anybody's, and a header without a request is a whole header.
    assert_eq!(refused(&server), 2);
    server.await_value(0, |stats| stats.connections_open.get());
}

#[test]
fn a_second_header_is_the_client_s_and_no_request() {
    // The balancer puts its own before whatever the client sends.
    let server = start(|_| {});
    let mut client = server.connect();
    client.send([announced(), from([6, 6, 6, 6]), ASK.into()].concat());
    let reply = client.read();
    assert_eq!(reply.status, 400);
    assert!(reply.closes());
}

#[test]
fn where_no_header_is_expected_one_is_a_malformed_request() {
    let server = Server::start(|_| {});
    for part in [announced(), header(0x20, 0, b"")] {
        let mut client = server.connect();
        client.send([part, ASK.into()].concat());
        let reply = client.read();
        assert_eq!(reply.status, 400);
        assert!(reply.closes());
    }
    let mut client = server.connect();
    let own = client.stream.local_addr().unwrap();
    assert_eq!(client.ask(ASK).text(), own.to_string());
    assert_eq!(refused(&server), 0);
}

#[test]
fn proxied_connections_count_for_the_client_not_the_balancer() {
    let server = start(|settings| settings.limits.connections_per_source_max = 2);
    let connect = |address: [u8; 4]| {
        let mut client = server.connect();
        client.try_send([from(address), ASK.into()].concat());
        client
    };
    // Five clients through one balancer.
    let mut clients: Vec<Client> = (1..=5).map(|last| connect([203, 0, 113, last])).collect();
    for client in &mut clients {
        assert_eq!(client.read().status, 200);
    }
    let mut second = connect([203, 0, 113, 1]);
    assert_eq!(second.read().status, 200);
    assert_eq!(connect([203, 0, 113, 1]).read().status, 503);
    assert_eq!(
        server.count(|stats| stats.connections_capped_by_address.get()),
        1
    );

    // Its place is free again when one of its own goes, and not when another's does.
    drop(clients.pop());
    server.await_value(5, |stats| stats.connections_open.get());
    assert_eq!(connect([203, 0, 113, 1]).read().status, 503);
    drop(second);
    server.await_value(4, |stats| stats.connections_open.get());
    assert_eq!(connect([203, 0, 113, 1]).read().status, 200);
    assert_eq!(refused(&server), 0);
}

#[test]
fn connections_without_proxy_header_count_for_connections_max() {
    let server = start(|settings| {
        settings.limits.connections_max = 3;
        settings.limits.connections_per_source_max = 1;
    });
    let waiting: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    server.await_value(3, |stats| stats.connections_open.get());
    assert!(server.connect().ended());
    drop(waiting);
    server.await_value(0, |stats| stats.connections_open.get());
    let mut client = server.connect();
    client.send([announced(), ASK.into()].concat());
    assert_eq!(peer_of(&mut client), CLIENT);
}

#[test]
fn the_drain_does_not_wait_for_headers() {
    let server = start(|_| {});
    let mut silent = server.connect();
    let mut half = server.connect();
    half.send(&announced()[..20]);
    server.await_value(2, |stats| stats.connections_open.get());
    let deadline = server.clock.now() + Duration::from_secs(60);
    server.drain.drain(deadline);
    assert!(silent.ended() && half.ended());
    server.await_value(0, |stats| stats.connections_open.get());
}
