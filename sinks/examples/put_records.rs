//! CPU per record of PutRecords calls of 500 records of 1 KiB, by Sluice's client in CBOR and in JSON, and by the AWS
//! SDK's, in turn, against a server on loopback that reads a call and says that it stored everything.
//!
//! ```sh
//! export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any
//! cargo run --release -p sluice-sinks --no-default-features --features aws-sdk --example put_records
//! ```

#![forbid(unsafe_code)]
// An example prints, and ends where something is wrong.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use sluice_core::ack::{AckQueue, OutputId, RequestKey, Ticket};
use sluice_core::record::{Record, RecordResult};
use sluice_core::time::Mono;
use sluice_sinks::aws::AwsClient;
use sluice_sinks::kinesis::{Encoding, KinesisSettings, KinesisSink};
use sluice_sinks::sink::Sink;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

const RECORDS: usize = 500;
const RECORD_BYTES: usize = 1_024;
const CALLS: usize = 200;
const TURNS: usize = 5;

fn serve(stream: TcpStream) -> std::io::Result<()> {
    let entry = r#"{"SequenceNumber":"49543463076548007577105092703039560359975228518395012686","ShardId":"shardId-000000000000"}"#;
    let entries = vec![entry; RECORDS].join(",");
    let stored = format!(r#"{{"FailedRecordCount":0,"Records":[{entries}]}}"#);
    let value: serde_json::Value = serde_json::from_str(&stored)?;
    let mut stored_in_cbor = Vec::new();
    ciborium::into_writer(&value, &mut stored_in_cbor).map_err(std::io::Error::other)?;
    let mut stream = BufReader::with_capacity(1 << 20, stream);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        let mut is_cbor = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let line = line.to_ascii_lowercase();
            is_cbor |= line.starts_with("content-type: application/x-amz-cbor-1.1");
            match line.trim().strip_prefix("content-length: ") {
                Some(text) => length = text.parse().unwrap_or(0),
                None if line.trim().is_empty() => break,
                None => {}
            }
        }
        body.resize(length, 0);
        stream.read_exact(&mut body)?;
        // Describes a stream with defaults, or stores records.
        let (content_type, answer) = match length {
            0..1_000 => ("json", &b"{}"[..]),
            _ if is_cbor => ("cbor", &*stored_in_cbor),
            _ => ("json", stored.as_bytes()),
        };
        let length = answer.len();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-{content_type}-1.1\r\ncontent-length: {length}\r\n\r\n"
        );
        stream
            .get_mut()
            .write_all(&[head.as_bytes(), answer].concat())?;
    }
}

/// Nanoseconds that this thread has run.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn records() -> Vec<Record> {
    let acks = AckQueue::leak();
    let payload = format!("{{\"pad\":\"{}\"}}", "x".repeat(RECORD_BYTES - 10));
    let request = RequestKey {
        slot: 0,
        generation: 0,
    };
    let record = |_| Record {
        key: None,
        topic: None,
        payload: payload.clone().into(),
        deadline: Mono::NEVER,
        ticket: Ticket::new(acks, request, OutputId(0), 1),
    };
    (0..RECORDS).map(record).collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that goes away ends its connection.
            thread::spawn(|| serve(stream?));
        }
    });
    let records = records();
    let mut sinks = Vec::new();
    for (client, encoding) in [
        (AwsClient::Sluice, Encoding::Cbor),
        (AwsClient::Sluice, Encoding::Json),
        (AwsClient::Sdk, Encoding::Json),
    ] {
        let mut settings = KinesisSettings {
            client,
            encoding,
            ..KinesisSettings::new("clicks")
        };
        settings.aws.endpoint_url = Some(endpoint.clone());
        let sink = KinesisSink::start(settings).await.unwrap();
        sinks.push((client, encoding, sink));
    }
    for turn in 1..=TURNS {
        for (client, encoding, sink) in &sinks {
            let before = cpu_ns();
            for _ in 0..CALLS {
                let results = sink.write(&records).await;
                let failed = results
                    .iter()
                    .find(|result| **result != RecordResult::Delivered);
                assert_eq!(failed, None, "are there credentials?");
            }
            let per_record = (cpu_ns() - before) / (CALLS * RECORDS) as u64;
            println!("turn {turn}: client {client}, {encoding}: {per_record} ns of CPU per record");
        }
    }
}
