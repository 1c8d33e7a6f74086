//! Priorities: where there is not room for all, orders get through and noise is shed.

use crate::support::audit::{Sent, count_answered};
use crate::support::client::{Client, get, post};
use crate::support::event::{event, new_id, new_ids};
use crate::support::proxy::{Proxy, to_files, to_kinesis};
use crate::support::stream::PickyStream;
use crate::support::wait_until;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// Room for 16 KiB, of which noise may fill half.
const SETTINGS: &str = "queue_bytes_max = 16384\nbatch_bytes_max = 16384\npartition_key = \"field:id\"\n\
    [listen]\nworkers = 1\n[limits]\nbody_bytes_max = 4096\nhead_bytes_max = 8192\n\
    [ack]\ndeadline_ms = 9000\n[drain]\ndeadline_ms = 12000\n";
const ROUTES: &str = "[[routes]]\nname = \"noise\"\nwhen = { field = \"kind\", equals = \"move\" }\noutputs = [\"main\"]\npriority = \"low\"\n\
    [[routes]]\nname = \"orders\"\nwhen = { field = \"kind\", equals = \"buy\" }\noutputs = [\"main\"]\npriority = \"high\"\n";

fn noise(id: &str) -> String {
    event(id, 1_000).replace("\"click\"", "\"move\"")
}

fn order(id: &str) -> String {
    event(id, 600).replace("\"click\"", "\"buy\"")
}

/// A stream that answers nothing before it is told to.
struct SlowStream {
    stream: PickyStream,
    is_open: Arc<AtomicBool>,
}

impl SlowStream {
    fn start() -> SlowStream {
        let is_open: Arc<AtomicBool> = Arc::default();
        let opened = Arc::clone(&is_open);
        let stream = PickyStream::start(move |_| {
            while !opened.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
            }
            true
        });
        SlowStream { stream, is_open }
    }
}

/// Sends a request, and says whom to ask for its answer.
fn sent(proxy: &Proxy, request: impl AsRef<[u8]>) -> Client {
    let mut client = proxy.connect();
    client.send(request);
    client
}

fn pending(proxy: &Proxy) -> u64 {
    let metrics = proxy.metrics();
    metrics.family("sluice_output_pending_records", "main")
}

fn shed(proxy: &Proxy) -> u64 {
    let metrics = proxy.metrics();
    metrics.get("sluice_shed_total{reason=\"queue\"}")
}

/// Sends more noise than there is room for.
fn flood(proxy: &Proxy) -> Vec<(Client, String)> {
    let flood = (0..40).map(|_| {
        let id = new_id();
        (sent(proxy, post(EVENTS, noise(&id))), id)
    });
    let flood: Vec<_> = flood.collect();
    wait_until("all noise is taken or shed", || {
        shed(proxy) + pending(proxy) == 40
    });
    flood
}

#[test]
fn orders_are_200_on_a_slow_stream_while_noise_is_shed() {
    let slow = SlowStream::start();
    let dir = tempdir().unwrap();
    let settings = to_kinesis(&slow.stream.url()) + SETTINGS + ROUTES;
    let proxy = Proxy::start(dir.path(), &settings);
    let flood = flood(&proxy);
    let taken = pending(&proxy);
    assert!((4..=8).contains(&taken), "half of 16 KiB: {taken}");

    // Their pages never see the answer.
    let [beacon, pixel] = [new_id(), new_id()];
    let sent_by_page = String::from_utf8(post(EVENTS, noise(&beacon))).unwrap();
    let sent_by_page = sent_by_page.replacen("Host:", "sec-FETCH-mode: no-cors\r\nHost:", 1);
    let mut important = vec![
        (sent(&proxy, sent_by_page), vec![beacon]),
        (
            sent(&proxy, get(&format!("/i?id={pixel}&kind=move"))),
            vec![pixel],
        ),
    ];
    wait_until("they may fill more", || pending(&proxy) == taken + 2);
    for ids in [new_ids(1), new_ids(1), new_ids(1), new_ids(2)] {
        let body = match &ids[..] {
            [id] => order(id),
            ids => format!("[{},{}]", order(&ids[0]), noise(&ids[1])),
        };
        important.push((sent(&proxy, post(EVENTS, body)), ids));
    }
    wait_until("orders are taken", || pending(&proxy) == taken + 7);
    let refused = proxy.post(EVENTS, noise(&new_id()));
    refused.assert_retry_later(&["queue_full"]);

    slow.is_open.store(true, Ordering::Relaxed);
    let heard = |(mut client, ids): (Client, Vec<String>)| Sent {
        answer: client.try_read(),
        ids,
        took: Duration::ZERO,
    };
    let important: Vec<Sent> = important.into_iter().map(heard).collect();
    assert_eq!(count_answered(&important, 200), important.len());
    let flood = flood
        .into_iter()
        .map(|(client, id)| heard((client, vec![id])));
    let all: Vec<Sent> = flood.chain(important).collect();
    slow.stream.stored().assert_truthful(&all);
    let metrics = proxy.settled_metrics("main");
    let of = |priority: &str| {
        metrics.get(&format!(
            "sluice_shed_by_priority_total{{priority=\"{priority}\"}}"
        ))
    };
    assert_eq!(
        [of("low"), of("mid"), of("high")],
        [40 - taken + 1, 0, 0],
        "only noise"
    );
    proxy.end_cleanly();
}

#[test]
fn without_priorities_noise_takes_the_room_of_orders() {
    let slow = SlowStream::start();
    let dir = tempdir().unwrap();
    let routes = ROUTES
        .replace("priority = \"low\"\n", "")
        .replace("priority = \"high\"\n", "");
    let settings = to_kinesis(&slow.stream.url()) + SETTINGS + &routes;
    let proxy = Proxy::start(dir.path(), &settings);
    let flood = flood(&proxy);
    assert!(pending(&proxy) > 8);
    let refused = proxy.post(EVENTS, event(&new_id(), 2_000));
    refused.assert_retry_later(&["queue_full"]);
    slow.is_open.store(true, Ordering::Relaxed);
    for (mut client, _) in flood {
        client.read();
    }
    proxy.settled_metrics("main");
    proxy.end_cleanly();
}

#[test]
fn unread_bodies_leave_room_for_orders() {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data"))
        + "[listen]\nworkers = 1\n[limits]\nbody_bytes_max = 131072\nin_flight_bytes_max = 1048576\n"
        + ROUTES;
    let proxy = Proxy::start(dir.path(), &settings);
    // Of 1 MiB they may fill four fifths, which six of them do.
    let slow = (0..8).map(|_| {
        let request = post(EVENTS, event(&new_id(), 130_000));
        let mut client = proxy.connect();
        client.try_send(&request[..request.len() - 10]);
        client
    });
    let slow: Vec<Client> = slow.collect();
    wait_until("two are refused", || {
        let metrics = proxy.metrics();
        metrics.get("sluice_shed_total{reason=\"budget\"}") == 2
    });
    assert_eq!(proxy.post(EVENTS, order(&new_id())).status, 200);
    let refused = proxy.post(EVENTS, noise(&new_id()));
    refused.assert_retry_later(&["overloaded"]);
    drop(slow);
    proxy.end_cleanly();
}

#[test]
fn a_spool_with_its_share_of_noise_keeps_orders() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let dir = tempdir().unwrap();
    let spool = dir.path().join("spool");
    let settings = format!(
        "{}[outputs.main.spool]\ndir = {spool:?}\nbytes_max = 65536\nafter_ms = 50\n\
         [ack]\ndeadline_ms = 1000\n{ROUTES}",
        to_kinesis(&format!("http://{}", nobody.unwrap()))
    );
    let proxy = Proxy::start(dir.path(), &settings);
    let ask = |kind: &str| {
        let event = event(&new_id(), 9_000).replace("click", kind);
        proxy.post(EVENTS, event).status
    };
    // Of 64 KiB noise may fill half.
    let mut answers: Vec<u16> = (0..4).map(|_| ask("move")).collect();
    assert_eq!(answers.pop(), Some(503));
    assert_eq!(answers, [200; 3]);
    assert_eq!([ask("buy"), ask("buy"), ask("buy")], [200; 3]);
    let metrics = proxy.metrics();
    let unkept = |priority: &str| {
        metrics.get(&format!(
            "sluice_spool_unkept_records_total{{output=\"main\",priority=\"{priority}\"}}"
        ))
    };
    assert_eq!((unkept("low"), unkept("high")), (1, 0));
    proxy.kill();
}
