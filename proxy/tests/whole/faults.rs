//! Rows of the fault matrix (docs/faults.md) that have no place in a module of one destination: credentials, shards that
//! change, an endpoint that moves, and a process that gets no time.

use crate::support::audit::{Sent, Stored, count_answered, ids_answered};
use crate::support::client::{Client, post};
use crate::support::event::{array, event, new_id, new_ids};
use crate::support::load::burst;
use crate::support::proxy::{Proxy, to_kinesis};
use crate::support::stream::{await_success, emulator, end_with_the_truth, stored};
use crate::support::wait_until;
use rustix::process::Signal;
use sluice_loadtest::kinesis::{CALL_RECORDS_MAX, Emulator, Faults, Options};
use sluice_loadtest::service::{Key, Signatures};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: &str = "/v1/events";

/// Answers are 200 or 503 that asks to come again, and every request has one.
fn assert_200_or_503(sent: &[Sent]) {
    for sent in sent {
        match &sent.answer {
            Some(answer) if answer.status == 200 => {}
            Some(answer) => answer.assert_retry_later(&[
                "not_delivered",
                "not_confirmed",
                "circuit_open",
                "overloaded",
            ]),
            None => panic!("no answer: {sent:?}"),
        }
    }
}

/// What a source of credentials says.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    Nothing,
    Error,
    Key(&'static str),
}

/// Credentials as ECS and EKS hand them out, over HTTP.
struct CredentialSource {
    address: SocketAddr,
    says: Arc<Mutex<Says>>,
}

impl CredentialSource {
    fn start() -> CredentialSource {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let says = Arc::new(Mutex::new(Says::Error));
        let shared = Arc::clone(&says);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let says = Arc::clone(&shared);
                thread::spawn(move || answer(&stream.unwrap(), &says));
            }
        });
        CredentialSource { address, says }
    }

    fn say(&self, what: Says) {
        *self.says.lock().unwrap() = what;
    }
}

fn answer(stream: &TcpStream, says: &Mutex<Says>) {
    let head = BufReader::new(stream).lines().map_while(Result::ok);
    for _ in head.take_while(|line| !line.is_empty()) {}
    let said = *says.lock().unwrap();
    let body = match said {
        Says::Nothing => {
            // Whoever asked waits until the source says something else.
            while *says.lock().unwrap() == Says::Nothing {
                thread::sleep(Duration::from_millis(20));
            }
            return;
        }
        Says::Error => String::new(),
        Says::Key(id) => format!(
            "{{\"AccessKeyId\":\"{id}\",\"SecretAccessKey\":\"secret\",\"Token\":\"t\",\
             \"Expiration\":\"2999-01-01T00:00:00Z\"}}"
        ),
    };
    let status = match said {
        Says::Key(_) => "200 OK",
        _ => "500 Internal Server Error",
    };
    let mut stream = stream;
    // The client may have given up.
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
}

#[test]
fn expired_credentials_are_503_until_renewed_without_a_restart() {
    let stream = Emulator::start(Options {
        signatures: Signatures::Verified(Key {
            id: "AKIDNEW".to_owned(),
            secret: "secret".to_owned(),
        }),
        shard_limits: false,
        ..Options::default()
    })
    .unwrap();
    let source = CredentialSource::start();
    let url = format!("http://{}/role", source.address);
    let dir = tempdir().unwrap();
    let variables = [
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.as_str()),
    ];
    let proxy = Proxy::start_with(dir.path(), &to_kinesis(&stream.url()), &variables);
    let mut sent = Vec::new();
    let mut refused = |says| {
        source.say(says);
        let some = burst(proxy.address, EVENTS, 2, 3);
        assert_200_or_503(&some);
        assert_eq!(count_answered(&some, 503), some.len());
        sent.extend(some);
    };
    refused(Says::Error);
    wait_until("the stream refuses the old credentials", || {
        refused(Says::Key("AKIDOLD"));
        !stream.stats().errors.is_empty()
    });
    refused(Says::Nothing);
    let troubled = &proxy.ready_json()["troubled"]["main"];
    assert_eq!(troubled, "denied");
    // A fetch that hangs is given up in seconds, and the next one comes seconds later.
    source.say(Says::Key("AKIDNEW"));
    wait_until("the new credentials are used", || {
        sent.extend(burst(proxy.address, EVENTS, 1, 1));
        sent.last().is_some_and(Sent::is_acked)
    });

    // In mid-run: what was taken a moment ago has expired.
    stream
        .set_faults(Faults {
            expired_token: 1.0,
            ..Faults::default()
        })
        .unwrap();
    let expired = burst(proxy.address, EVENTS, 2, 3);
    assert_200_or_503(&expired);
    assert_eq!(count_answered(&expired, 503), expired.len());
    sent.extend(expired);
    stream.set_faults(Faults::default()).unwrap();
    wait_until("calls are taken again", || {
        sent.extend(burst(proxy.address, EVENTS, 1, 1));
        sent.last().is_some_and(Sent::is_acked)
    });
    proxy.settled_metrics("main");
    stored(&stream).assert_exact(&sent);
    proxy.end_cleanly();
}

#[test]
fn no_kinesis_call_is_over_500_records_or_10_mib() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    // Long enough that more waits than one call takes.
    let patient = "linger_ms = 300\n[ack]\ndeadline_ms = 8000\n[drain]\ndeadline_ms = 10000\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + patient));
    let many: Vec<_> = (0..4).map(|_| new_ids(CALL_RECORDS_MAX * 2 - 1)).collect();
    let large: Vec<_> = (0..24).map(|_| vec![new_id()]).collect();
    let requests = many
        .iter()
        .map(|ids| (ids, post(EVENTS, array(ids))))
        .chain(
            large
                .iter()
                .map(|ids| (ids, post(EVENTS, event(&ids[0], 1_000_000)))),
        );
    let mut asked: Vec<_> = requests
        .map(|(ids, request)| {
            let mut client = proxy.connect();
            client.send(request);
            (client, ids.clone())
        })
        .collect();
    let sent: Vec<_> = asked
        .iter_mut()
        .map(|(client, ids)| Sent {
            ids: std::mem::take(ids),
            answer: Some(client.read()),
            took: Duration::ZERO,
        })
        .collect();
    // On a busy machine some are late.
    assert_200_or_503(&sent);
    assert!(count_answered(&sent, 200) > 0);
    proxy.settled_metrics("main");
    // The emulator refuses such calls as the service does.
    let stats = stream.stats();
    assert!(stats.errors.is_empty(), "{stats:?}");
    stored(&stream).assert_truthful(&sent);
    proxy.end_cleanly();
}

#[test]
fn a_resharded_stream_loses_and_duplicates_nothing() {
    let stream = Emulator::start(Options {
        shards: 2,
        shard_limits: false,
        update: Duration::from_millis(50),
        ..Options::default()
    })
    .unwrap();
    let dir = tempdir().unwrap();
    let keyed = "partition_key = \"field:id\"\n";
    let proxy = Proxy::start(dir.path(), &(to_kinesis(&stream.url()) + keyed));
    let mut sent = Vec::new();
    for shards in [4, 8, 4, 2, 3] {
        let (address, stream) = (proxy.address, &stream);
        thread::scope(|scope| {
            let load = scope.spawn(move || burst(address, EVENTS, 8, 40));
            let body = format!(
                "{{\"StreamName\":\"clicks\",\"TargetShardCount\":{shards},\"ScalingType\":\"UNIFORM_SCALING\"}}"
            );
            let head = format!(
                "POST / HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-amz-json-1.1\r\n\
                 X-Amz-Target: Kinesis_20131202.UpdateShardCount\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = Client::connect(stream.addr()).ask(head);
            assert_eq!(answer.status, 200, "{answer:?}");
            sent.extend(load.join().unwrap());
        });
        // The change comes at its end.
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(count_answered(&sent, 200), sent.len());
    proxy.settled_metrics("main");
    stored(&stream).assert_exact(&sent);
    let shards = stream.stored_records().into_iter().map(|it| it.shard);
    let shards: std::collections::BTreeSet<_> = shards.collect();
    assert!(shards.len() > 8, "{shards:?}");
    proxy.end_cleanly();
}

#[test]
fn a_flapping_stream_makes_no_false_200_and_recovers() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let mut sent = burst(proxy.address, EVENTS, 2, 2);
    thread::scope(|scope| {
        let address = proxy.address;
        let loads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    let mut sent = Vec::new();
                    for _ in 0..40 {
                        sent.extend(burst(address, EVENTS, 1, 2));
                        thread::sleep(Duration::from_millis(100));
                    }
                    sent
                })
            })
            .collect();
        for _ in 0..5 {
            let gone = Faults {
                gone: true,
                for_s: Some(0.5),
                ..Faults::default()
            };
            stream.set_faults(gone).unwrap();
            thread::sleep(Duration::from_secs(1));
        }
        sent.extend(loads.into_iter().flat_map(|load| load.join().unwrap()));
    });
    assert_200_or_503(&sent);
    assert!(count_answered(&sent, 200) > 4 && count_answered(&sent, 503) > 0);
    await_success(&proxy, &mut sent);
    end_with_the_truth(proxy, &stream, &sent);
}

/// The shell's words in front of the program that give it another file of host names, where that is allowed.
fn with_hosts(hosts: &std::path::Path) -> Option<String> {
    let unshare = match rustix::process::geteuid().is_root() {
        true => "unshare --mount",
        false => "unshare --user --map-root-user --mount",
    };
    let allowed = Command::new("/bin/sh")
        .args([
            "-c",
            &format!("{unshare} mount --bind {hosts:?} /etc/hosts"),
        ])
        .status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: no file can be mounted over /etc/hosts here");
        return None;
    }
    Some(format!(
        "exec {unshare} /bin/sh -c 'mount --bind {hosts:?} /etc/hosts && exec \"$0\" \"$@\"' \"$0\" \"$@\""
    ))
}

#[test]
fn an_endpoint_that_moves_is_found_without_a_restart() {
    let dir = tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost\n").unwrap();
    let Some(shell) = with_hosts(&hosts) else {
        return;
    };
    let first = emulator(Faults::default());
    let port = first.addr().port();
    let second = Emulator::start(Options {
        listen: SocketAddr::from(([127, 0, 0, 2], port)),
        shard_limits: false,
        ..Options::default()
    })
    .unwrap();
    let settings = to_kinesis(&format!("http://stream.test:{port}")) + "attempt_timeout_ms = 300\n";
    let proxy = Proxy::start_under(dir.path(), &settings, &[], &shell);
    // A name that nobody knows yet.
    let mut sent = burst(proxy.address, EVENTS, 2, 2);
    assert_200_or_503(&sent);
    assert_eq!(count_answered(&sent, 503), sent.len());
    let until_200 = |sent: &mut Vec<Sent>| {
        wait_until("requests succeed", || {
            sent.extend(burst(proxy.address, EVENTS, 1, 1));
            sent.last().is_some_and(Sent::is_acked)
        });
    };
    fs::write(&hosts, "127.0.0.1 localhost stream.test\n").unwrap();
    until_200(&mut sent);
    assert!(first.stats().stored > 0 && second.stats().stored == 0);
    // The old address takes connections and never answers, and those that are open are kept.
    let hang = Faults {
        hang: 1.0,
        ..Faults::default()
    };
    first.set_faults(hang).unwrap();
    fs::write(&hosts, "127.0.0.1 localhost\n127.0.0.2 stream.test\n").unwrap();
    until_200(&mut sent);
    assert!(second.stats().stored > 0);
    proxy.settled_metrics("main");
    assert_200_or_503(&sent);
    let both = [first, second].map(|stream| stored(&stream).0.into_iter());
    let copies = both.into_iter().flatten();
    let ids = copies.flat_map(|(id, copies)| (0..copies).map(move |_| id.clone()));
    Stored::of(ids).assert_truthful(&sent);
    proxy.end_cleanly();
}

/// Calls of which some are never answered and store nothing, so that a 200 for them would be false.
fn some_calls_hang() -> Faults {
    Faults {
        hang: 0.2,
        ..Faults::default()
    }
}

/// Requests succeed again, and then all of them.
fn recovers(proxy: &Proxy, sent: &mut Vec<Sent>) {
    wait_until("requests succeed again", || {
        let some = burst(proxy.address, EVENTS, 8, 1);
        let have_all = count_answered(&some, 200) == some.len();
        sent.extend(some);
        have_all
    });
    let after = burst(proxy.address, EVENTS, 8, 5);
    assert_eq!(count_answered(&after, 200), after.len());
    sent.extend(after);
}

/// A load beside something that is done to its proxy.
fn beside(proxy: &Proxy, connections: usize, each: usize, deed: impl FnOnce()) -> Vec<Sent> {
    let address = proxy.address;
    thread::scope(|scope| {
        let load = scope.spawn(move || burst(address, EVENTS, connections, each));
        deed();
        load.join().unwrap()
    })
}

#[test]
fn a_process_stopped_past_every_deadline_makes_no_false_200() {
    let stream = emulator(some_calls_hang());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    let mut sent = beside(&proxy, 16, 20, || {
        for _ in 0..2 {
            thread::sleep(Duration::from_millis(150));
            proxy.signal(Signal::STOP);
            // Longer than the ack deadline and every time-out of a call.
            thread::sleep(Duration::from_millis(1_500));
            proxy.signal(Signal::CONT);
        }
    });
    assert_200_or_503(&sent);
    stream.set_faults(Faults::default()).unwrap();
    // A stop looks like a call that takes too long: circuits may be open for a moment.
    recovers(&proxy, &mut sent);
    end_with_the_truth(proxy, &stream, &sent);
}

#[test]
fn a_starved_process_sheds_and_makes_no_false_200() {
    let stream = emulator(some_calls_hang());
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &to_kinesis(&stream.url()));
    // A fifth of the time, in pieces.
    let mut sent = beside(&proxy, 32, 30, || {
        for _ in 0..25 {
            proxy.signal(Signal::STOP);
            thread::sleep(Duration::from_millis(80));
            proxy.signal(Signal::CONT);
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert_200_or_503(&sent);
    stream.set_faults(Faults::default()).unwrap();
    recovers(&proxy, &mut sent);
    let metrics = proxy.settled_metrics("main");
    let stored = stored(&stream);
    stored.assert_truthful(&sent);
    assert!(ids_answered(&sent, 200).len() <= stored.0.len());
    assert!(stored.duplicates() <= metrics.unknown_retries("main"));
    proxy.end_cleanly();
}
