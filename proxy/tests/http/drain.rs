//! The way out: what is in progress is answered, what is new is not taken, and every core returns.

use crate::server::{Server, drivers, post};
use std::net::TcpStream;
use std::time::Duration;

const GET: &str = "GET /length HTTP/1.1\r\nHost: test\r\n\r\n";

#[test]
fn while_refusing_every_response_closes_its_connection() {
    let server = Server::start(|_| {});
    let mut old = server.connect();
    assert!(!old.ask(GET).closes());
    server.drain.refuse();
    let mut new = server.connect();
    for client in [&mut old, &mut new] {
        let answer = client.ask(GET);
        assert_eq!(answer.status, 200);
        assert!(answer.closes());
        assert!(client.ended());
    }
}

#[test]
fn draining_closes_idle_connections_and_answers_requests_in_progress() {
    for driver in drivers() {
        let mut server = Server::start(|settings| {
            settings.listen.driver = driver;
            settings.listen.workers = 2;
        });
        let mut fresh = server.connect();
        let mut idle = server.connect();
        assert_eq!(idle.ask(GET).status, 200);
        let mut busy = server.connect();
        busy.send("GET /very-late HTTP/1.1\r\nHost: test\r\n\r\n");
        server.await_value(3, |stats| stats.connections_accepted.get());
        // The request has to have arrived; nothing outside shows that, but time.
        std::thread::sleep(Duration::from_millis(200));

        let deadline = server.clock.now() + Duration::from_secs(60);
        server.drain.drain(deadline);
        assert!(idle.ended());
        assert!(fresh.ended());
        let answer = busy.read();
        assert_eq!(answer.status, 200, "{driver:?}");
        assert!(answer.closes());
        assert!(busy.ended());
        server.workers.take().unwrap().join().unwrap();
        assert!(server.clock.now() < deadline);
        assert!(TcpStream::connect(server.address).is_err(), "{driver:?}");
    }
}

#[test]
fn a_body_in_progress_is_read_while_draining() {
    let mut server = Server::start(|_| {});
    let request = post("/echo", "hello");
    let (now, later) = request.split_at(request.len() - 3);
    let mut client = server.connect();
    client.send(now);
    server.await_value(1, |stats| stats.connections_accepted.get());
    std::thread::sleep(Duration::from_millis(200));
    server
        .drain
        .drain(server.clock.now() + Duration::from_secs(60));
    std::thread::sleep(Duration::from_millis(100));
    client.send(later);
    assert_eq!(client.read().text(), "hello");
    server.workers.take().unwrap().join().unwrap();
}

#[test]
fn an_endless_request_ends_at_the_drain_deadline() {
    for driver in drivers() {
        let mut server = Server::start(|settings| settings.listen.driver = driver);
        let stats = server.workers.as_ref().unwrap().stats.clone();
        let mut client = server.connect();
        client.send("GET /never HTTP/1.1\r\nHost: test\r\n\r\n");
        server.await_value(1, |stats| stats.connections_accepted.get());
        std::thread::sleep(Duration::from_millis(200));
        server
            .drain
            .drain(server.clock.now() + Duration::from_millis(300));
        server.workers.take().unwrap().join().unwrap();
        assert!(client.ended());
        assert_eq!(stats[0].broken_off.get(), 1, "{driver:?}");
    }
}

#[test]
fn handlers_tick_while_nothing_comes() {
    let server = Server::start(|_| {});
    let mut client = server.connect();
    let ticks = |client: &mut crate::server::Client| -> u64 {
        let answer = client.ask("GET /ticks HTTP/1.1\r\nHost: test\r\n\r\n");
        answer.text().parse().unwrap()
    };
    let before = ticks(&mut client);
    while ticks(&mut client) < before + 3 {
        std::thread::sleep(Duration::from_millis(20));
    }
}
