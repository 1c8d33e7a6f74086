//! Our server on a socket, with a handler that notes what it gets.

use crate::outcome::{Outcome, Request, latin1};
use http::StatusCode;
use sluice_core::stats::EndpointLabel;
use sluice_core::time::Mono;
use sluice_proxy::http::{
    Admitted, Answer, AnswerSettings, Body, Handler, Head, HttpLimits, Network,
};
use sluice_proxy::listeners::{Http2, ListenAddress, Listener, ListenerSettings};
use sluice_proxy::runtime::clock::Clock;
use sluice_proxy::runtime::drain::Drain;
use sluice_proxy::worker::{ListenSettings, WorkerSettings, Workers, run_workers};
use std::io::{ErrorKind, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

type Seen = Arc<Mutex<Vec<Request>>>;

struct Noting {
    limits: HttpLimits,
    seen: Seen,
}

impl Handler for Noting {
    type Route = ();

    fn admit(&self, _: &Head<'_>) -> Result<Admitted<()>, Answer> {
        Ok(Admitted {
            body_bytes_max: self.limits.body_bytes_max,
            endpoint: EndpointLabel::None,
            route: (),
        })
    }

    fn handle<'s>(
        &'s self,
        head: &Head<'_>,
        (): (),
        body: Body<'_>,
    ) -> impl Future<Output = Answer> + use<'s> {
        let fields = head
            .fields()
            .filter(|(name, _)| !name.eq_ignore_ascii_case("host"));
        // That of a URI as target, if it is one; it is not seen otherwise.
        let host = head.host().map(|host| ("Host", host));
        self.seen.lock().unwrap().push(Request {
            method: head.method().to_owned(),
            target: head.path_and_query().to_owned(),
            version: format!("1.{}", head.minor()),
            headers: fields
                .chain(host)
                .map(|(name, value)| (name.to_owned(), latin1(value)))
                .collect(),
            body: base64_simd::STANDARD.encode_to_string(body.as_slice()),
        });
        async { Answer::empty(StatusCode::OK) }
    }
}

pub(crate) struct Server {
    address: SocketAddr,
    seen: Seen,
    drain: Arc<Drain>,
    workers: Option<Workers>,
}

impl Server {
    pub(crate) fn start() -> Server {
        let drain = Arc::new(Drain::default());
        let limits = HttpLimits::default();
        let listen = ListenSettings {
            address: "127.0.0.1:0".parse().unwrap(),
            workers: 1,
            ..ListenSettings::default()
        };
        let listener = ListenerSettings {
            name: "listen".to_owned(),
            address: ListenAddress::Tcp(listen.address),
            proxy_protocol: listen.proxy_protocol,
            proxy_protocol_from: vec![Network::private()],
            trusted: Vec::new(),
            addresses: None,
            logged_addresses: sluice_core::privacy::AddressRule::Keep,
            http2: Http2::Off,
            tls: None,
        };
        let settings = WorkerSettings {
            listen,
            has_cpu_quota: false,
            limits,
            answers: AnswerSettings::default(),
            budget_bytes: 256 << 20,
            memory_bytes: 1 << 40,
            listeners: vec![Listener::load(listener).unwrap()],
            outputs: 0,
            rules: 0,
            schemas: 0,
            clock: Clock::start(),
            drain: Arc::clone(&drain),
        };
        let seen = Seen::default();
        let of_handler = Arc::clone(&seen);
        let workers = run_workers(&settings, move |_| Noting {
            limits,
            seen: Arc::clone(&of_handler),
        })
        .unwrap();
        Server {
            address: workers.address().unwrap(),
            seen,
            drain,
            workers: Some(workers),
        }
    }

    /// What the server makes of a connection that brings these bytes and then ends.
    pub(crate) fn read(&self, input: &[u8]) -> Outcome {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        // It may have refused already, and closed.
        let _ = stream.write_all(input);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answers = Vec::new();
        match stream.read_to_end(&mut answers) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("no end of {:?}: {error}", latin1(input)),
        }
        Outcome {
            requests: mem::take(&mut self.seen.lock().unwrap()),
            error: refusal(&answers),
        }
        .normalized()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(workers) = self.workers.take() {
            self.drain.drain(Mono::default());
            workers.join().unwrap();
        }
    }
}

/// Status, code and message of the only answer that can be an error: the last one.
fn refusal(answers: &[u8]) -> Option<String> {
    let text = latin1(answers);
    // A message may name a version too, but no status behind it.
    let (at, status) = text
        .match_indices("HTTP/1.")
        .filter_map(|(at, _)| Some((at, text.get(at + 9..at + 12)?)))
        .filter(|(_, status)| status.bytes().all(|byte| byte.is_ascii_digit()))
        .last()?;
    if status == "200" {
        return None;
    }
    let (_, body) = text[at..].split_once("\r\n\r\n")?;
    let error: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let code = error["code"].as_str().unwrap_or("without a body");
    let message = error["message"].as_str().unwrap_or_default();
    // The end of the input is not held against it.
    (code != "body_broken_off").then(|| format!("{status} {code}: {message}"))
}
