//! For the tests of AWS sinks: a server that answers by script, one HTTP/1.1 responder on loopback, and
//! records and credentials to go with it.

use super::{AwsSettings, Task, cbor};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{
    ProvideCredentials, SharedCredentialsProvider, future::ProvideCredentials as Provided,
};
use ciborium::Value as Cbor;
use serde_json::{Value, json};
use sluice_core::ack::{AckQueue, OutputId, RequestKey, Ticket};
use sluice_core::record::Record;
use sluice_core::time::Mono;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Runs tests once with each client: what one makes of an answer, the other makes of it.
macro_rules! by_both_clients {
    ($($test:ident),* $(,)?) => {
        mod sluice {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(crate::aws::AwsClient::Sluice).await;
                }
            )*
        }
        #[cfg(feature = "aws-sdk")]
        mod sdk {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(crate::aws::AwsClient::Sdk).await;
                }
            )*
        }
    };
}
pub(crate) use by_both_clients;

/// What the server does with one request.
pub(crate) enum Answer {
    Says(u16, String),
    /// The same with a header more.
    SaysWith(u16, (&'static str, String), String),
    /// Announces the whole body and closes after this part of it.
    BreaksOff(String, usize),
    Hangs,
    /// Reads the request and resets the connection.
    Resets,
}

pub(crate) struct Request {
    /// Whether the body is in CBOR.
    pub(crate) is_cbor: bool,
    pub(crate) target: String,
    pub(crate) authorization: String,
    /// The time that it is signed for.
    pub(crate) date: String,
    pub(crate) body: Value,
}

/// Requests that the server got, and its scripted responses.
pub(crate) struct Script {
    pub(crate) puts: VecDeque<Answer>,
    pub(crate) describe: Value,
    /// Whether calls in CBOR are read, and answered so.
    pub(crate) reads_cbor: bool,
    /// What calls in CBOR are answered where they are not read.
    pub(crate) cbor_status: u16,
    pub(crate) seen: Vec<Request>,
}

/// A service's script: puts without a planned response succeed.
pub(crate) struct Service {
    /// The answer to any operation that describes.
    pub(crate) describe: Value,
    /// The answer to a put of so many records.
    pub(crate) stored: fn(usize) -> String,
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Mutex<Script>>,
    _task: Task,
}

impl Server {
    pub(crate) async fn start(service: Service) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(Script {
            puts: VecDeque::new(),
            describe: service.describe,
            reads_cbor: true,
            cbor_status: 400,
            seen: Vec::new(),
        }));
        let served = Arc::clone(&script);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that goes away ends its connection's task.
                tokio::spawn(serve(stream, Arc::clone(&served), service.stored));
            }
        });
        Server {
            address,
            script,
            _task: Task(task),
        }
    }

    pub(crate) fn aws(&self) -> AwsSettings {
        AwsSettings {
            endpoint_url: Some(format!("http://{}", self.address)),
            region: Some("eu-west-1".to_owned()),
            ..AwsSettings::default()
        }
    }

    pub(crate) fn next(&self, answer: Answer) {
        self.script.lock().unwrap().puts.push_back(answer);
    }

    pub(crate) fn last_authorization(&self) -> String {
        let script = self.script.lock().unwrap();
        script.seen.last().unwrap().authorization.clone()
    }

    /// The entries of the calls that put, so far.
    pub(crate) fn puts(&self) -> Vec<Vec<Value>> {
        let script = self.script.lock().unwrap();
        let puts = script.seen.iter().filter(|seen| !describes(&seen.target));
        puts.map(|seen| entries(&seen.body).clone()).collect()
    }
}

/// Whether an operation asks what there is, and puts nothing.
fn describes(target: &str) -> bool {
    ["Describe", "Get", "List"]
        .iter()
        .any(|verb| target.starts_with(verb))
}

/// The entries of a call that puts.
fn entries(body: &Value) -> &Vec<Value> {
    let named = ["Records", "Entries"].map(|name| &body[name]);
    named.into_iter().find_map(Value::as_array).unwrap()
}

/// The bytes of an entry.
pub(crate) fn data(entry: &Value) -> Vec<u8> {
    let data = entry["Data"].as_str().unwrap().as_bytes();
    base64_simd::STANDARD.decode_to_vec(data).unwrap()
}

async fn serve(stream: TcpStream, script: Arc<Mutex<Script>>, stored: fn(usize) -> String) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        let mut is_cbor = request.is_cbor;
        let answer = {
            let mut script = script.lock().unwrap();
            is_cbor &= script.reads_cbor;
            let answer = if describes(&request.target) {
                Answer::Says(200, script.describe.to_string())
            } else if request.is_cbor && !is_cbor {
                Answer::Says(script.cbor_status, "<html></html>".to_owned())
            } else {
                script
                    .puts
                    .pop_front()
                    .unwrap_or_else(|| Answer::Says(200, stored(entries(&request.body).len())))
            };
            script.seen.push(request);
            answer
        };
        let mut header = String::new();
        let (status, body, part) = match answer {
            Answer::Says(status, body) => (status, body, None),
            Answer::SaysWith(status, (name, value), body) => {
                header = format!("{name}: {value}\r\n");
                (status, body, None)
            }
            Answer::BreaksOff(body, part) => (200, body, Some(part)),
            Answer::Hangs => std::future::pending().await,
            Answer::Resets => {
                stream.get_ref().set_zero_linger().unwrap();
                return;
            }
        };
        let (content_type, body) = match is_cbor {
            true => (cbor::CONTENT_TYPE, in_cbor(body)),
            false => ("application/x-amz-json-1.1", body.into_bytes()),
        };
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status} \r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\n{header}\r\n"
        );
        let sent = &body[..part.map_or(length, |part| part.min(length - 1))];
        let answer = [head.as_bytes(), sent].concat();
        if stream.write_all(&answer).await.is_err() || part.is_some() {
            return;
        }
    }
}

/// An answer in CBOR; one that is no JSON stays what it is.
fn in_cbor(body: String) -> Vec<u8> {
    let Ok(value) = serde_json::from_str::<Value>(&body) else {
        return body.into_bytes();
    };
    let mut answer = Vec::new();
    ciborium::into_writer(&value, &mut answer).unwrap();
    answer
}

/// A call's body, with bytes in base64 as JSON has them.
pub(crate) fn in_json(body: Cbor) -> Value {
    match body {
        Cbor::Text(text) => text.into(),
        Cbor::Bytes(bytes) => base64_simd::STANDARD.encode_to_string(bytes).into(),
        Cbor::Array(values) => values.into_iter().map(in_json).collect(),
        Cbor::Map(pairs) => {
            let pair = |(name, value): (Cbor, Cbor)| (name.into_text().unwrap(), in_json(value));
            Value::Object(pairs.into_iter().map(pair).collect())
        }
        other => panic!("no call has {other:?}"),
    }
}

async fn read(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut length = 0;
    let mut target = String::new();
    let mut authorization = String::new();
    let mut date = String::new();
    let mut is_cbor = false;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let line = line.trim_end();
        let Some((name, value)) = line.split_once(": ") else {
            if line.is_empty() {
                break;
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "x-amz-target" => target = value.rsplit('.').next().unwrap().to_owned(),
            "authorization" => authorization = value.to_owned(),
            "x-amz-date" => date = value.to_owned(),
            "content-type" => is_cbor = value == cbor::CONTENT_TYPE,
            _ => {}
        }
    }
    if target.is_empty() {
        return None;
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Request {
        target,
        authorization,
        date,
        body: match is_cbor {
            true => in_json(cbor::read(&body).unwrap()),
            false => serde_json::from_slice(&body).unwrap(),
        },
        is_cbor,
    })
}

/// The body of an error of the service.
pub(crate) fn error(code: &str) -> String {
    json!({"__type": code, "message": "in a few words"}).to_string()
}

/// The entry of a record that was not stored.
pub(crate) fn failed(code: &str) -> Value {
    json!({"ErrorCode": code, "ErrorMessage": "message"})
}

pub(crate) fn keys() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Credentials::new("AKIDTEST", "secret", None, None, "test"))
}

/// A source of credentials that answers by script, then fails.
#[derive(Debug)]
struct Scripted(Mutex<VecDeque<Credentials>>);

impl ProvideCredentials for Scripted {
    fn provide_credentials<'a>(&'a self) -> Provided<'a>
    where
        Self: 'a,
    {
        let next = self.0.lock().unwrap().pop_front();
        Provided::ready(next.ok_or_else(|| CredentialsError::not_loaded("none planned")))
    }
}

pub(crate) fn scripted(
    credentials: impl IntoIterator<Item = Credentials>,
) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Scripted(Mutex::new(credentials.into_iter().collect())))
}

pub(crate) fn record(payload: impl Into<Vec<u8>>) -> Record {
    let request = RequestKey {
        slot: 0,
        generation: 0,
    };
    Record {
        key: None,
        topic: None,
        payload: payload.into().into(),
        deadline: Mono::NEVER,
        ticket: Ticket::new(AckQueue::leak(), request, OutputId(0), 1),
    }
}

pub(crate) fn three() -> [Record; 3] {
    ["a", "b", "c"].map(record)
}
