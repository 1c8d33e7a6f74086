//! What every emulator can do wrong, and how it asks for signatures, seen through one of them.

use serde_json::{Value, json};
use sluice_loadtest::firehose::{Emulator, Options};
use sluice_loadtest::service::{self, FaultScript, Faults, Latency, LogNormal, Signatures};
use sluice_loadtest::wire::{self, Reply};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn start(service: service::Options) -> Emulator {
    Emulator::start(Options {
        service,
        ..Options::default()
    })
    .unwrap()
}

fn faulty(faults: Faults) -> Emulator {
    start(service::Options {
        faults,
        ..service::Options::default()
    })
}

fn raw_put() -> Vec<u8> {
    let body = json!({"DeliveryStreamName": "clicks", "Records": [{"Data": "eA=="}]}).to_string();
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nHost: x\r\nX-Amz-Target: Firehose_20150804.PutRecordBatch\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn put(emulator: &Emulator) -> std::io::Result<Reply> {
    wire::exchange(emulator.addr(), &raw_put())
}

fn set(emulator: &Emulator, faults: &str) -> Reply {
    let addr = emulator.addr().to_string();
    wire::post(&addr, "/_faults", &[], faults.as_bytes()).unwrap()
}

/// Waits until the endpoint takes calls.
fn back(emulator: &Emulator) {
    let patience = Instant::now() + Duration::from_secs(30);
    while put(emulator).is_err() {
        assert!(Instant::now() < patience, "it does not come back");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_gone_endpoint_resets_and_refuses_connections() {
    let emulator = faulty(Faults::default());
    let mut open = TcpStream::connect(emulator.addr()).unwrap();
    open.write_all(&raw_put()).unwrap();
    let mut buffer = [0; 4_096];
    assert!(open.read(&mut buffer).unwrap() > 0);
    let reply = set(&emulator, r#"{"gone":true,"for_s":3600}"#);
    assert_eq!(reply.status, 200);
    let error = open.read(&mut buffer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    let error = TcpStream::connect(emulator.addr()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    // Its own process can still end it.
    emulator.set_faults(Faults::default()).unwrap();
    back(&emulator);
    assert_eq!(emulator.stats().stored, 2);
}

#[test]
fn an_endpoint_that_is_gone_comes_back_by_itself() {
    let emulator = faulty(Faults::default());
    let script = r#"{"window":[{"from_s":0.01,"for_s":0.05,"gone":true}]}"#;
    assert_eq!(set(&emulator, script).status, 200);
    let gone = |emulator: &Emulator| emulator.stats().common.faults.contains_key("Gone");
    while !gone(&emulator) {
        std::thread::sleep(Duration::from_millis(1));
    }
    back(&emulator);
    assert_eq!(emulator.stats().common.faults["Gone"], 1);
    emulator.stop().unwrap();
}

#[test]
fn an_endpoint_cannot_be_gone_for_good() {
    let emulator = faulty(Faults::default());
    let reply = set(&emulator, r#"{"gone":true}"#);
    assert_eq!(reply.status, 400);
    assert!(
        reply.text().contains("gone needs for_s"),
        "{}",
        reply.text()
    );
    assert_eq!(put(&emulator).unwrap().status, 200);
}

#[test]
fn script_windows_override_faults_in_their_time() {
    let failing = Faults {
        internal_error: 1.0,
        ..Faults::default()
    };
    let throttling = Faults {
        for_s: Some(3_600.0),
        throttle_call: 1.0,
        calls_max: Some(2),
        ..Faults::default()
    };
    let later = Faults {
        from_s: 3_600.0,
        hang: 1.0,
        ..Faults::default()
    };
    let emulator = start(service::Options {
        script: FaultScript {
            window: vec![later.clone(), throttling],
        },
        faults: failing.clone(),
        ..service::Options::default()
    });
    let statuses: Vec<u16> = (0..3).map(|_| put(&emulator).unwrap().status).collect();
    assert_eq!(statuses, [503, 503, 200]);
    // The same windows by the admin page: the first that matches counts.
    let script = json!({"window": [later, failing]});
    let told = set(&emulator, &script.to_string());
    assert_eq!(serde_json::from_slice::<Value>(&told.body).unwrap(), script);
    assert_eq!(put(&emulator).unwrap().status, 500);
    assert_eq!(set(&emulator, r#"{"window":[]}"#).status, 200);
    assert_eq!(put(&emulator).unwrap().status, 200);
}

#[test]
fn a_trickled_response_comes_after_its_record_is_stored() {
    let fast = faulty(Faults {
        trickle: 1.0,
        trickle_bytes_per_s: 1_000_000,
        ..Faults::default()
    });
    let reply = put(&fast).unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(answer["FailedPutCount"], 0);
    let slow = faulty(Faults {
        trickle: 1.0,
        trickle_bytes_per_s: 1,
        ..Faults::default()
    });
    let mut stream = TcpStream::connect(slow.addr()).unwrap();
    stream.write_all(&raw_put()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).unwrap();
        answer.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(slow.stats().stored, 1);
    // Over a hundred bytes at one per second: most are still to come, however slow this machine.
    assert!(!answer.ends_with(b"}"));
}

#[test]
fn unsigned_calls_are_refused_when_signatures_are_required() {
    let emulator = start(service::Options {
        signatures: Signatures::Present,
        ..service::Options::default()
    });
    let reply = put(&emulator).unwrap();
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("MissingAuthenticationTokenException"));
    let addr = emulator.addr().to_string();
    let headers = ["Authorization: AWS4-HMAC-SHA256 nonsense"];
    let reply = wire::post(&addr, "/", &headers, b"{}").unwrap();
    assert!(
        reply.text().contains("IncompleteSignatureException"),
        "{}",
        reply.text()
    );
    assert_eq!(emulator.stats().stored, 0);
    // The admin pages are no part of the service.
    assert_eq!(wire::get(&addr, "/_stats").unwrap().status, 200);
}

#[test]
fn latency_delays_the_response_and_not_the_record() {
    let hour = Duration::from_secs(3_600);
    for latency in [
        Latency {
            fixed: hour,
            ..Latency::default()
        },
        Latency {
            log_normal: Some(LogNormal {
                median: hour,
                sigma: 0.0,
            }),
            ..Latency::default()
        },
    ] {
        let emulator = start(service::Options {
            latency,
            ..service::Options::default()
        });
        let mut stream = TcpStream::connect(emulator.addr()).unwrap();
        stream.write_all(&raw_put()).unwrap();
        while emulator.stats().stored < 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
        stream.set_nonblocking(true).unwrap();
        let error = stream.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}
