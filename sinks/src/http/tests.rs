//! The HTTP sink against a server that answers by script.

use super::*;
use crate::aws::script::{record, three};
use flate2::read::GzDecoder;
use std::collections::VecDeque;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

const DELIVERED: RecordResult = RecordResult::Delivered;
const UNKNOWN: RecordResult = RecordResult::Retry(Cause::Unknown);
const THROTTLED: RecordResult = RecordResult::Retry(Cause::Throttled);
const UNAVAILABLE: RecordResult = RecordResult::Retry(Cause::Unavailable);

/// What the server does with one request.
enum Reply {
    /// These bytes, and the connection stays.
    Bytes(String),
    /// These bytes, and the connection ends.
    End(String),
    /// These bytes, and nothing more.
    Hang(String),
}

struct Seen {
    /// In lower case.
    head: String,
    body: Vec<u8>,
}

#[derive(Default)]
struct Script {
    replies: VecDeque<Reply>,
    seen: Vec<Seen>,
}

#[derive(Clone)]
struct Server {
    url: String,
    script: Arc<Mutex<Script>>,
}

fn says(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} \r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

impl Server {
    async fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            url: format!("http://{}/in?q=INSERT%20", listener.local_addr().unwrap()),
            script: Arc::default(),
        };
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        server
    }

    async fn serve(self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).await.ok()? == 0 {
                    return None;
                }
            }
            let head = head.to_lowercase();
            let length = head.split_once("content-length: ");
            let length = length.and_then(|(_, rest)| rest.split("\r\n").next());
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            stream.read_exact(&mut body).await.ok()?;
            let reply = {
                let mut script = self.script.lock().unwrap();
                script.seen.push(Seen { head, body });
                script.replies.pop_front()
            };
            match reply.unwrap_or_else(|| Reply::Bytes(says(200, "", "ok"))) {
                Reply::Bytes(text) => stream.write_all(text.as_bytes()).await.ok()?,
                Reply::End(text) => {
                    stream.write_all(text.as_bytes()).await.ok()?;
                    return None;
                }
                Reply::Hang(text) => {
                    stream.write_all(text.as_bytes()).await.ok()?;
                    std::future::pending().await
                }
            }
        }
    }

    fn next(&self, reply: Reply) {
        self.script.lock().unwrap().replies.push_back(reply);
    }

    fn requests(&self) -> usize {
        self.script.lock().unwrap().seen.len()
    }

    fn last(&self) -> (String, Vec<u8>) {
        let script = self.script.lock().unwrap();
        let last = script.seen.last().unwrap();
        (last.head.clone(), last.body.clone())
    }

    fn settings(&self) -> HttpSettings {
        HttpSettings::new(self.url.clone())
    }

    fn sink(&self) -> HttpSink {
        HttpSink::start(self.settings()).unwrap()
    }
}

#[tokio::test]
async fn a_batch_is_posted_as_lines() {
    let server = Server::start().await;
    let sink = server.sink();
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    let (head, body) = server.last();
    assert_eq!(body, b"a\nb\nc\n");
    assert!(
        head.starts_with("post /in?q=insert%20 http/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.contains("\r\ncontent-type: application/x-ndjson\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nhost: 127.0.0.1:"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    assert_eq!(sink.write(&[]).await, []);
    assert_eq!(server.requests(), 1, "a request without events is not made");
}

#[tokio::test]
async fn a_batch_is_posted_as_an_array() {
    let server = Server::start().await;
    let settings = HttpSettings {
        format: HttpFormat::JsonArray,
        ..server.settings()
    };
    let sink = HttpSink::start(settings).unwrap();
    let events = ["{\"a\":1}", "{\n}", "[]"];
    assert_eq!(sink.write(&events.map(record)).await, [DELIVERED; 3]);
    let (head, body) = server.last();
    assert_eq!(body, b"[{\"a\":1},{\n},[]]");
    assert!(
        head.contains("\r\ncontent-type: application/json\r\n"),
        "{head}"
    );
}

#[tokio::test]
async fn a_packed_batch_says_so_and_unpacks_to_its_events() {
    let server = Server::start().await;
    let settings = HttpSettings {
        gzip: true,
        headers: vec![
            "Content-Type: text/plain".to_owned(),
            "X-Key:  a b ".to_owned(),
        ],
        ..server.settings()
    };
    let sink = HttpSink::start(settings).unwrap();
    let records: Vec<_> = (0..1_000)
        .map(|at| record(format!("{{\"at\":{at}}}")))
        .collect();
    assert_eq!(sink.write(&records).await, [DELIVERED; 1_000]);
    let (head, body) = server.last();
    for header in [
        "content-encoding: gzip",
        "content-type: text/plain",
        "x-key: a b",
    ] {
        assert!(head.contains(&format!("\r\n{header}\r\n")), "{head}");
    }
    let mut text = String::new();
    GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
    assert!(body.len() < text.len() / 3);
    let expected: String = (0..1_000).map(|at| format!("{{\"at\":{at}}}\n")).collect();
    assert_eq!(text, expected);
}

#[tokio::test]
async fn an_event_with_a_line_break_is_refused_alone() {
    let server = Server::start().await;
    let sink = server.sink();
    let records = ["a", "two\nlines", "", "b"].map(record);
    let invalid = RecordResult::Refused(Cause::Invalid);
    assert_eq!(
        sink.write(&records).await,
        [DELIVERED, invalid, invalid, DELIVERED]
    );
    assert_eq!(server.last().1, b"a\nb\n");
    assert_eq!(sink.write(&records[1..2]).await, [invalid]);
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn an_answer_that_is_not_whole_is_unknown() {
    let server = Server::start().await;
    let settings = HttpSettings {
        attempt_timeout: Duration::from_millis(400),
        ..server.settings()
    };
    let sink = HttpSink::start(settings).unwrap();
    let whole = says(200, "", "stored");
    let long = "x".repeat(ANSWER_BYTES_MAX);
    let chunked = "HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n6\r\nstored\r\n";
    for (what, reply) in [
        ("nothing", Reply::Hang(String::new())),
        ("slow head", Reply::Hang("HTTP/1.1 200 \r\n".to_owned())),
        (
            "slow body",
            Reply::Hang(whole[..whole.len() - 1].to_owned()),
        ),
        ("cut", Reply::End(whole[..whole.len() - 1].to_owned())),
        ("cut chunks", Reply::End(chunked.to_owned())),
        ("no answer", Reply::End(String::new())),
        (
            "other protocol",
            Reply::End("SMTP hello\r\n\r\n".to_owned()),
        ),
        ("huge", Reply::Bytes(says(200, "", &(long.clone() + "x")))),
        (
            "failed after its status",
            Reply::Bytes(says(200, "X-ClickHouse-Exception-Code: 241\r\n", "")),
        ),
    ] {
        server.next(reply);
        assert_eq!(sink.write(&three()).await, [UNKNOWN; 3], "{what}");
    }
    server.next(Reply::Bytes(says(200, "", &long)));
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3], "large");
    server.next(Reply::Bytes(chunked.to_owned() + "0\r\n\r\n"));
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3], "chunks");
    assert_eq!(server.requests(), 11, "nothing is sent twice");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server = Server::start().await;
    let other = Server::start().await;
    let sink = server.sink();
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: {}\r\n", other.url);
        server.next(Reply::Bytes(says(status, &location, "")));
        let not_found = RecordResult::Retry(Cause::NotFound);
        assert_eq!(sink.write(&three()).await, [not_found; 3], "{status}");
    }
    assert_eq!((server.requests(), other.requests()), (5, 0));
}

#[tokio::test]
async fn retry_after_keeps_requests_back_up_to_its_bound() {
    for (status, expected, header) in [
        (429, THROTTLED, "retry-after: 3000\r\n"),
        (
            503,
            UNAVAILABLE,
            "retry-after: Fri, 31 Dec 9999 23:59:59 GMT\r\n",
        ),
    ] {
        let server = Server::start().await;
        let sink = server.sink();
        server.next(Reply::Bytes(says(status, header, "")));
        assert_eq!(sink.write(&three()).await, [expected; 3]);
        assert_eq!(sink.write(&three()).await, [expected; 3]);
        assert_eq!(server.requests(), 1, "the second was kept back");

        let settings = HttpSettings {
            retry_after_max: Duration::ZERO,
            ..server.settings()
        };
        let sink = HttpSink::start(settings).unwrap();
        server.next(Reply::Bytes(says(status, header, "")));
        assert_eq!(sink.write(&three()).await, [expected; 3]);
        assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
        assert_eq!(server.requests(), 3);
    }
}

#[tokio::test]
async fn a_gateways_retry_after_leaves_later_events_unsent() {
    let server = Server::start().await;
    let sink = server.sink();
    server.next(Reply::Bytes(says(502, "retry-after: 3000\r\n", "")));
    assert_eq!(sink.write(&three()).await, [UNKNOWN; 3]);
    // Of these it is known: nothing was sent.
    assert_eq!(sink.write(&three()).await, [UNAVAILABLE; 3]);
}

#[tokio::test]
async fn a_refused_secret_is_read_from_its_file_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "Bearer one\n").unwrap();
    let server = Server::start().await;
    let settings = HttpSettings {
        auth_file: Some(file.clone()),
        ..server.settings()
    };
    let sink = HttpSink::start(settings).unwrap();
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    assert!(
        server
            .last()
            .0
            .contains("\r\nauthorization: bearer one\r\n")
    );
    std::fs::write(&file, "Bearer two").unwrap();
    server.next(Reply::Bytes(says(401, "", "")));
    let denied = RecordResult::Retry(Cause::Denied);
    assert_eq!(sink.write(&three()).await, [denied; 3]);
    assert_eq!(sink.write(&three()).await, [DELIVERED; 3]);
    assert!(
        server
            .last()
            .0
            .contains("\r\nauthorization: bearer two\r\n")
    );
}

#[tokio::test]
async fn a_refused_connection_is_unavailable_for_nothing_was_sent() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    let sink = HttpSink::start(HttpSettings::new(url)).unwrap();
    assert_eq!(sink.write(&three()).await, [UNAVAILABLE; 3]);
    let error = sink.check().await.unwrap_err();
    assert!(error.reason.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn check_asks_for_options_and_shows_no_query() {
    let server = Server::start().await;
    let sink = server.sink();
    let shown = server.url.split('?').next().unwrap();
    for status in [200, 204, 404, 405, 501] {
        server.next(Reply::Bytes(says(status, "", "")));
        let found = sink.check().await.unwrap();
        let expected = format!("http server {shown}: answers OPTIONS with {status}");
        assert_eq!(found, expected);
    }
    assert!(server.last().0.starts_with("options /in"));
    for (status, said) in [(401, "401: who?"), (302, "302: who?"), (500, "500: who?")] {
        server.next(Reply::Bytes(says(status, "", "who?")));
        let error = sink.check().await.unwrap_err().to_string();
        assert_eq!(error, format!("http server {shown}: {said}"));
    }
}

#[test]
fn settings_out_of_range_are_start_errors() {
    let good = || HttpSettings::new("http://host/");
    let with = |header: &str| HttpSettings {
        headers: vec![header.to_owned()],
        ..good()
    };
    let long = format!("http://host/{}", "x".repeat(2_037));
    for (settings, named) in [
        (HttpSettings::new(""), ["`url` is \"\"", "http://"]),
        (HttpSettings::new("ftp://host/"), ["ftp://host", "http://"]),
        (HttpSettings::new("http://"), ["`url`", "a host"]),
        (HttpSettings::new("http://a b/"), ["a b", "a host"]),
        (
            HttpSettings::new("http://user:pass@host/"),
            ["`url`", "without a user"],
        ),
        (HttpSettings::new(long), ["`url`", "2048"]),
        (with("no colon"), ["no colon", "name: value"]),
        (with("Authorization: x"), ["`headers`", "authorization"]),
        (with("content-length: 1"), ["`headers`", "content-length"]),
        (with("a: b\nc"), ["`headers`", "name: value"]),
        (
            with(&format!("a: {}", "x".repeat(1_022))),
            ["`headers`", "1024"],
        ),
        (
            HttpSettings {
                headers: vec!["a: b".to_owned(); 33],
                ..good()
            },
            ["33", "32"],
        ),
        (
            HttpSettings {
                batch_records_max: 100_001,
                ..good()
            },
            ["100001", "100000"],
        ),
        (
            HttpSettings {
                batch_bytes_max: 1_023,
                ..good()
            },
            ["1023", "1024"],
        ),
        (
            HttpSettings {
                retry_after_max: Duration::from_secs(3_601),
                ..good()
            },
            ["3601", "3600"],
        ),
        (
            HttpSettings {
                auth_file: Some("/nonexistent/token".into()),
                ..good()
            },
            ["/nonexistent/token", "No such file"],
        ),
        (
            HttpSettings {
                ca_file: Some("/nonexistent/ca".into()),
                ..good()
            },
            ["/nonexistent/ca", "No such file"],
        ),
    ] {
        let error = HttpSink::start(settings).err().unwrap();
        for part in named {
            assert!(error.reason.contains(part), "{error}");
        }
    }
}
