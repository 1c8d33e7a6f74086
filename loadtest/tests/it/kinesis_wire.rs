//! How SDKs reach the Kinesis emulator: CBOR, h2 and TLS, several streams, ARNs of their region.

use crate::kinesis_rules::{call, patient};
use bytes::Bytes;
use ciborium::{Value as Cbor, cbor};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use sluice_loadtest::kinesis::{Emulator, Options, STREAMS_MAX};
use sluice_loadtest::service::{Faults, Tls};
use sluice_loadtest::wire;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

const AMZ_CBOR: &str = "application/x-amz-cbor-1.1";

fn cbor_call(emulator: &Emulator, operation: &str, asked: &Cbor) -> (u16, Cbor) {
    let target = format!("X-Amz-Target: Kinesis_20131202.{operation}");
    let mut body = Vec::new();
    ciborium::into_writer(asked, &mut body).unwrap();
    let content_type = format!("Content-Type: {AMZ_CBOR}");
    let headers = [target.as_str(), &content_type];
    let reply = wire::post(&emulator.addr().to_string(), "/", &headers, &body).unwrap();
    assert_eq!(reply.header("content-type"), Some(AMZ_CBOR));
    (reply.status, ciborium::from_reader(&*reply.body).unwrap())
}

fn member(value: &Cbor, name: &str) -> Cbor {
    let mut members = value.as_map().unwrap().iter();
    let found = members.find(|(key, _)| key.as_text() == Some(name));
    found
        .unwrap_or_else(|| panic!("no {name} in {value:?}"))
        .1
        .clone()
}

#[test]
fn cbor_calls_put_bytes_and_read_the_same_bytes_back() {
    let emulator = patient(Options {
        shards: 1,
        ..Options::default()
    });
    let data: Vec<u8> = (0..=255).collect();
    let put = cbor!({
        "StreamName" => "clicks",
        "Records" => [{"Data" => Cbor::Bytes(data.clone()), "PartitionKey" => "k"}],
    });
    let (status, answer) = cbor_call(&emulator, "PutRecords", &put.unwrap());
    assert_eq!(
        (status, member(&answer, "FailedRecordCount")),
        (200, 0.into())
    );
    assert_eq!(emulator.stored_records()[0].data, data);

    let start = cbor!({
        "StreamName" => "clicks",
        "ShardId" => "shardId-000000000000",
        "ShardIteratorType" => "AT_TIMESTAMP",
        "Timestamp" => Cbor::Tag(1, Box::new(1_000.into())),
    });
    let (_, answer) = cbor_call(&emulator, "GetShardIterator", &start.unwrap());
    let iterator = member(&answer, "ShardIterator");
    let get = cbor!({"ShardIterator" => iterator}).unwrap();
    let (_, answer) = cbor_call(&emulator, "GetRecords", &get);
    let record = member(&answer, "Records").as_array().unwrap()[0].clone();
    assert_eq!(member(&record, "Data"), Cbor::Bytes(data));
    let Cbor::Tag(1, arrival) = member(&record, "ApproximateArrivalTimestamp") else {
        panic!("no time in {record:?}");
    };
    // Milliseconds of this century.
    assert!(i128::from(arrival.as_integer().unwrap()) > 1_000_000_000_000);

    let (status, error) = cbor_call(&emulator, "PutRecords", &cbor!({}).unwrap());
    assert_eq!(status, 400);
    assert_eq!(member(&error, "__type"), "ValidationException".into());
    assert!(!member(&error, "message").as_text().unwrap().is_empty());
}

fn with_tls() -> Emulator {
    patient(Options {
        tls: Some(Tls {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate: None,
        }),
        ..Options::default()
    })
}

async fn tls(emulator: &Emulator, alpn: &[&str]) -> tokio_rustls::client::TlsStream<TcpStream> {
    let (addr, pem) = emulator.tls().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = TcpStream::connect(addr).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, socket).await.unwrap()
}

/// Two calls on one h2 connection.
async fn h2_calls(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Vec<(u16, Value)> {
    let (mut client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for operation in ["ListStreams", "DescribeStreamSummary"] {
        let request = hyper::Request::post("http://127.0.0.1/")
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"))
            .body(())
            .unwrap();
        client = client.ready().await.unwrap();
        let (response, mut body) = client.send_request(request, false).unwrap();
        let asked = Bytes::from_static(br#"{"StreamName":"clicks"}"#);
        body.send_data(asked, true).unwrap();
        let response = response.await.unwrap();
        let status = response.status().as_u16();
        let mut answer = Vec::new();
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            answer.extend_from_slice(&data.unwrap());
        }
        answers.push((status, serde_json::from_slice(&answer).unwrap()));
    }
    answers
}

fn check_answers(answers: &[(u16, Value)]) {
    assert_eq!(answers[0].0, 200, "{answers:?}");
    assert_eq!(answers[0].1["StreamNames"], json!(["clicks"]));
    let summary = &answers[1].1["StreamDescriptionSummary"];
    assert_eq!(summary["StreamStatus"], "ACTIVE");
}

#[tokio::test]
async fn h2_with_prior_knowledge_is_served_on_the_plain_port() {
    let emulator = patient(Options::default());
    let socket = TcpStream::connect(emulator.addr()).await.unwrap();
    check_answers(&h2_calls(socket).await);
}

#[tokio::test]
async fn the_tls_port_serves_h2_and_http1_by_alpn() {
    let emulator = with_tls();
    let h2 = tls(&emulator, &["h2", "http/1.1"]).await;
    assert_eq!(h2.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    check_answers(&h2_calls(h2).await);
    let mut http1 = tls(&emulator, &["http/1.1"]).await;
    assert_eq!(http1.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let request = b"GET /_stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    http1.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // The end of the connection without a closing alert is no matter here.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut http1, &mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    // The plain port of the same emulator.
    assert_eq!(call(&emulator, "ListStreams", b"{}").0, 200);
}

#[tokio::test]
async fn a_reset_fault_ends_an_h2_connection() {
    let emulator = patient(Options {
        faults: Faults {
            reset_before: 1.0,
            ..Faults::default()
        },
        ..Options::default()
    });
    let socket = TcpStream::connect(emulator.addr()).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    let ended = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    let request = hyper::Request::post("http://127.0.0.1/")
        .header("x-amz-target", "Kinesis_20131202.PutRecords")
        .body(())
        .unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    assert!(response.await.is_err());
    // The client stays: without it the connection could end in good order, for nobody needs it.
    let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
    assert!(ended.is_ok(), "the connection lives on");
    drop(client);
}

#[test]
fn streams_can_be_created_listed_and_deleted() {
    let emulator = patient(Options {
        update: Duration::ZERO,
        ..Options::default()
    });
    let ask =
        |operation: &str, asked: Value| call(&emulator, operation, asked.to_string().as_bytes());
    let create = json!({"StreamName": "audit", "ShardCount": 2, "Tags": {"a": "b"}});
    assert_eq!(ask("CreateStream", create.clone()).0, 200);
    let (status, error) = ask("CreateStream", create);
    assert_eq!(
        (status, &error["__type"]),
        (400, &json!("ResourceInUseException"))
    );
    let (_, listed) = ask("ListStreams", json!({}));
    assert_eq!(listed["StreamNames"], json!(["audit", "clicks"]));
    assert_eq!(listed["HasMoreStreams"], false);
    let (_, page) = ask("ListStreams", json!({"Limit": 1}));
    assert_eq!(page["StreamNames"], json!(["audit"]));
    let (_, page) = ask("ListStreams", json!({"NextToken": page["NextToken"]}));
    assert_eq!(page["StreamNames"], json!(["clicks"]));

    let record = json!({"Data": "eA==", "PartitionKey": "k"});
    let put = |stream: &str| {
        ask(
            "PutRecords",
            json!({"StreamName": stream, "Records": [record]}),
        )
    };
    assert_eq!(put("audit").0, 200);
    let read = |stream: &str| {
        let (_, shards) = ask("ListShards", json!({"StreamName": stream}));
        let shards = shards["Shards"].as_array().unwrap().clone();
        let mut count = 0;
        for shard in &shards {
            let start = json!({"StreamName": stream, "ShardId": shard["ShardId"],
                               "ShardIteratorType": "TRIM_HORIZON"});
            let (_, start) = ask("GetShardIterator", start);
            let (_, records) = ask(
                "GetRecords",
                json!({"ShardIterator": start["ShardIterator"]}),
            );
            count += records["Records"].as_array().unwrap().len();
        }
        (shards.len(), count)
    };
    assert_eq!((read("audit"), read("clicks")), ((2, 1), (4, 0)));
    let (_, page) = ask(
        "ListShards",
        json!({"StreamName": "audit", "MaxResults": 1}),
    );
    let (_, page) = ask("ListShards", json!({"NextToken": page["NextToken"]}));
    assert_eq!(page["Shards"].as_array().unwrap().len(), 1);

    assert_eq!(ask("DeleteStream", json!({"StreamName": "audit"})).0, 200);
    assert_eq!(put("audit").1["__type"], "ResourceNotFoundException");
    let (_, listed) = ask("ListStreams", json!({}));
    assert_eq!(listed["StreamNames"], json!(["clicks"]));
}

#[test]
fn creating_and_deleting_take_the_update_time() {
    let emulator = patient(Options {
        update: Duration::from_secs(3_600),
        ..Options::default()
    });
    let ask =
        |operation: &str, asked: Value| call(&emulator, operation, asked.to_string().as_bytes());
    let details = json!({"StreamMode": "ON_DEMAND"});
    let create = json!({"StreamName": "new", "StreamModeDetails": details});
    assert_eq!(ask("CreateStream", create).0, 200);
    let status = |stream: &str| {
        let (_, summary) = ask("DescribeStreamSummary", json!({"StreamName": stream}));
        let summary = &summary["StreamDescriptionSummary"];
        summary["StreamStatus"].as_str().map(str::to_owned)
    };
    assert_eq!(status("new").unwrap(), "CREATING");
    let record = json!({"Data": "eA==", "PartitionKey": "k"});
    let (_, error) = ask(
        "PutRecords",
        json!({"StreamName": "new", "Records": [record]}),
    );
    assert_eq!(error["__type"], "ResourceNotFoundException");
    assert_eq!(ask("DeleteStream", json!({"StreamName": "clicks"})).0, 200);
    assert_eq!(status("clicks").unwrap(), "DELETING");
    for at in 2..STREAMS_MAX {
        let create = json!({"StreamName": format!("s{at}"), "ShardCount": 1});
        assert_eq!(ask("CreateStream", create).0, 200, "{at}");
    }
    let (_, error) = ask(
        "CreateStream",
        json!({"StreamName": "more", "ShardCount": 1}),
    );
    assert_eq!(error["__type"], "LimitExceededException");
}

#[test]
fn arns_have_the_signed_or_configured_region() {
    let emulator = patient(Options {
        region: "eu-north-1".to_owned(),
        ..Options::default()
    });
    let arn = |headers: &[&str]| {
        let target = "X-Amz-Target: Kinesis_20131202.DescribeStreamSummary";
        let headers = [&[target], headers].concat();
        let addr = emulator.addr().to_string();
        let reply = wire::post(&addr, "/", &headers, br#"{"StreamName":"clicks"}"#).unwrap();
        assert!(reply.header("x-amzn-requestid").is_some());
        let answer: Value = serde_json::from_slice(&reply.body).unwrap();
        answer["StreamDescriptionSummary"]["StreamARN"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        arn(&[]),
        "arn:aws:kinesis:eu-north-1:000000000000:stream/clicks"
    );
    let signed = |region: &str| {
        format!(
            "Authorization: AWS4-HMAC-SHA256 Credential=AKID/20261121/{region}/kinesis/aws4_request, \
             SignedHeaders=host, Signature={}",
            "0".repeat(64)
        )
    };
    let of = |region: &str| arn(&[&signed(region)]);
    assert_eq!(
        of("ap-south-1"),
        "arn:aws:kinesis:ap-south-1:000000000000:stream/clicks"
    );
    assert_eq!(
        of("cn-north-1"),
        "arn:aws-cn:kinesis:cn-north-1:000000000000:stream/clicks"
    );
}

#[test]
fn every_error_has_a_message() {
    let emulator = patient(Options::default());
    for (operation, body) in [
        ("NoSuchOperation", "{}"),
        ("PutRecords", "{"),
        ("PutRecords", "{}"),
        ("DescribeStream", r#"{"StreamName":"other"}"#),
        ("GetRecords", r#"{"ShardIterator":"x"}"#),
        ("CreateStream", r#"{"StreamName":"a b"}"#),
    ] {
        let (status, error) = call(&emulator, operation, body.as_bytes());
        assert_eq!(status, 400, "{operation} {body}");
        assert!(
            !error["message"].as_str().unwrap_or_default().is_empty(),
            "{operation} {error}"
        );
    }
}
