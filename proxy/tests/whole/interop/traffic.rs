//! Clients: events with an id each, in every shape of body, over connections that are kept.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

/// The ack deadline is 4 s; an answer has to come soon after, or something hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How a request carries its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `/v1/events`, one record each.
    Events,
    /// `/collect`, the body in one envelope.
    Envelope,
}

/// What was sent, and what was said about it.
pub(crate) struct Request {
    pub(crate) shape: Shape,
    /// The texts of the events; of an envelope there is one.
    pub(crate) events: Vec<String>,
    pub(crate) status: u16,
}

/// How much, how fast, in which bodies.
pub(crate) struct Offer {
    pub(crate) requests: usize,
    /// Requests are started so often, whether or not others were answered.
    pub(crate) per_second: f64,
    /// Events in an array; a quarter of the requests has one.
    pub(crate) array: usize,
    /// Events on lines of their own; another quarter. The rest has one event.
    pub(crate) lines: usize,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// Opens a connection when none is idle.
#[derive(Clone)]
pub(crate) struct Client {
    address: SocketAddr,
    idle: Arc<Mutex<Vec<TcpStream>>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        Client {
            address,
            idle: Arc::default(),
        }
    }

    /// Posts one body; panics when no answer comes.
    pub(crate) async fn post(&self, path: &str, body: &[u8]) -> Answer {
        let answer = timeout(ANSWER_WITHIN, self.try_post(path, body)).await;
        answer.expect("no answer in time").expect("no answer")
    }

    /// Posts all at once; the answers come in the order of the bodies.
    pub(crate) async fn post_all(
        &self,
        bodies: impl Iterator<Item = (&'static str, Vec<u8>)>,
    ) -> Vec<Answer> {
        let tasks: Vec<_> = bodies
            .map(|(path, body)| {
                let client = self.clone();
                tokio::spawn(async move { client.post(path, &body).await })
            })
            .collect();
        let mut answers = Vec::new();
        for task in tasks {
            answers.push(task.await.unwrap());
        }
        answers
    }

    async fn try_post(&self, path: &str, body: &[u8]) -> std::io::Result<Answer> {
        let idle = self.idle.lock().unwrap().pop();
        let mut socket = match idle {
            Some(socket) => socket,
            None => TcpStream::connect(self.address).await?,
        };
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        socket.write_all(&request).await?;
        let (answer, is_kept) = read_answer(&mut socket).await?;
        if is_kept {
            self.idle.lock().unwrap().push(socket);
        }
        Ok(answer)
    }
}

/// An answer, and whether the connection goes on.
async fn read_answer(socket: &mut TcpStream) -> std::io::Result<(Answer, bool)> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if socket.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = std::str::from_utf8(&bytes[..head_end]).expect("a head is ASCII");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (of, value) = line.split_once(':')?;
            of.eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    };
    let length: usize = header("content-length").map_or(0, |length| length.parse().unwrap());
    let is_kept = header("connection").is_none_or(|value| value != "close");
    let retry_after = header("retry-after");
    let mut body = bytes.split_off(head_end + 4);
    while body.len() < length {
        if socket.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    assert_eq!(body.len(), length, "an answer that nobody asked for");
    let answer = Answer {
        status,
        retry_after,
        body,
    };
    Ok((answer, is_kept))
}

/// Sends the offer and waits for every answer.
pub(crate) async fn offer(address: SocketAddr, offer: &Offer) -> Vec<Request> {
    let client = Client::new(address);
    let start = Instant::now();
    let mut number = 0;
    let mut running = JoinSet::new();
    for at in 0..offer.requests {
        let (shape, count) = match at % 4 {
            0 => (Shape::Events, 1),
            1 => (Shape::Events, offer.array),
            2 => (Shape::Events, offer.lines),
            _ => (Shape::Envelope, 1),
        };
        let events: Vec<String> = (number..number + count).map(event).collect();
        number += count;
        let (path, body) = match (shape, at % 4) {
            (Shape::Envelope, _) => ("/collect?appId=interop&platform=test", events.concat()),
            (Shape::Events, 1) => ("/v1/events", format!("[{}]", events.join(", "))),
            (Shape::Events, _) => ("/v1/events", events.join("\n")),
        };
        sleep_until(start + Duration::from_secs_f64(at as f64 / offer.per_second)).await;
        let client = client.clone();
        running.spawn(async move {
            let answer = client.post(path, body.as_bytes()).await;
            match answer.status {
                200 => assert!(answer.body.is_empty(), "something of it was refused"),
                503 => {
                    let wait = answer
                        .retry_after
                        .map(|after| after.parse::<u32>().unwrap());
                    assert!(wait.is_some_and(|wait| (1..=5).contains(&wait)), "{wait:?}");
                }
                status => panic!("answered {status}"),
            }
            Request {
                shape,
                events,
                status: answer.status,
            }
        });
    }
    running.join_all().await
}

/// The event of this number: its id, what has to be escaped or is easily changed on the way, and
/// 0 to 576 bytes more.
fn event(number: usize) -> String {
    let pad = "p".repeat(number % 10 * 64);
    format!(
        r#"{{"id":"e{number:07}","name":"page \"view\" \\ \u00e9 é ☕ \t","n":-1.50e3,"deep":{{"a":[1, 2,{{}}],"b":null}},"pad":"{pad}"}}"#
    )
}
