//! Clients of HTTP/2: one that keeps the protocol, over TCP or TLS, and one that writes the frames that it is told.

use crate::server::{PATIENCE, Server};
use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, StatusCode};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluice_proxy::listeners::Http2;
use sluice_proxy::net::tls::TlsSettings;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub(crate) const NAME: &str = "events.example";

/// Ends well before a runner would give up.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ended = tokio::time::timeout(3 * PATIENCE, test).await;
        assert!(ended.is_ok(), "the test hangs");
    });
}

/// A server that takes HTTP/2 at once, without TLS.
pub(crate) fn knowing(change: impl FnOnce(&mut crate::server::Settings)) -> Server {
    Server::start(|settings| {
        settings.http2 = Http2::PriorKnowledge;
        change(settings);
    })
}

/// A certificate of its own for [`NAME`], and its key.
pub(crate) struct Pair(CertifiedKey<KeyPair>);

impl Pair {
    pub(crate) fn new() -> Pair {
        Pair(generate_simple_self_signed([NAME.to_owned()]).unwrap())
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.0.cert.der().clone()
    }
}

/// A server with TLS, and what trusts it.
pub(crate) struct Secured {
    pub(crate) server: Server,
    pub(crate) pair: Pair,
    files: TempDir,
}

impl Secured {
    pub(crate) fn start(change: impl FnOnce(&mut crate::server::Settings)) -> Secured {
        let files = tempfile::tempdir().unwrap();
        let pair = Pair::new();
        let path = |name: &str| vec![files.path().join(name).to_str().unwrap().to_owned()];
        put(files.path(), "own.crt", &pair.0.cert.pem());
        put(files.path(), "own.key", &pair.0.signing_key.serialize_pem());
        let tls = TlsSettings {
            certificate_files: path("own.crt"),
            key_files: path("own.key"),
            ..TlsSettings::default()
        };
        let server = Server::start(|settings| {
            settings.http2 = Http2::Alpn;
            settings.tls = Some(tls);
            change(settings);
        });
        Secured {
            server,
            pair,
            files,
        }
    }

    /// Puts the files of another pair into the place of the present ones; the server looks at them after each.
    pub(crate) fn swap(&self, pair: &Pair) {
        for (name, text) in [
            ("own.crt", pair.0.cert.pem()),
            ("own.key", pair.0.signing_key.serialize_pem()),
        ] {
            put(self.files.path(), name, &text);
            let tls = self.server.tls.as_ref().unwrap();
            tls.maintain(sluice_proxy::runtime::clock::wall());
        }
    }

    pub(crate) async fn connect(&self, alpn: &[&str]) -> TlsStream<tokio::net::TcpStream> {
        connect(self.server.address, &[self.pair.certificate()], alpn).await
    }

    pub(crate) async fn h2(&self) -> H2 {
        H2::over(self.connect(&["h2", "http/1.1"]).await).await
    }
}

/// Replaces a file at once.
fn put(dir: &Path, name: &str, text: &str) {
    let new = dir.join("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, dir.join(name)).unwrap();
}

/// A connection that trusts these certificates and offers these protocols.
pub(crate) async fn connect(
    address: SocketAddr,
    trusted: &[CertificateDer<'static>],
    alpn: &[&str],
) -> TlsStream<tokio::net::TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(trusted.iter().cloned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let socket = tokio::net::TcpStream::connect(address).await;
    let name = ServerName::try_from(NAME).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, socket.unwrap()).await.unwrap()
}

/// A connection of HTTP/2.
pub(crate) struct H2 {
    pub(crate) send: SendRequest<Bytes>,
    pub(crate) end: JoinHandle<Result<(), h2::Error>>,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn code(&self) -> String {
        let value: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        value["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://{NAME}{path}"))
}

impl H2 {
    pub(crate) async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> H2 {
        H2::with(h2::client::Builder::new(), io).await
    }

    pub(crate) async fn with(
        builder: h2::client::Builder,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> H2 {
        let (send, connection) = builder.handshake(io).await.unwrap();
        H2 {
            send,
            end: tokio::spawn(connection),
        }
    }

    /// A connection that begins with HTTP/2.
    pub(crate) async fn connect(server: &Server) -> H2 {
        let socket = tokio::net::TcpStream::connect(server.address).await;
        H2::over(socket.unwrap()).await
    }

    /// One request and its answer.
    pub(crate) async fn try_ask(
        &self,
        request: http::request::Builder,
        body: &'static [u8],
    ) -> Result<Reply, h2::Error> {
        let mut send = self.send.clone().ready().await?;
        let request = request.body(()).unwrap();
        let (answer, mut stream) = send.send_request(request, body.is_empty())?;
        if !body.is_empty() {
            stream.send_data(Bytes::from_static(body), true)?;
        }
        read(answer).await
    }

    pub(crate) async fn ask(&self, request: http::request::Builder, body: &'static [u8]) -> Reply {
        self.try_ask(request, body).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.ask(request("GET", path), b"").await
    }
}

pub(crate) async fn read(answer: h2::client::ResponseFuture) -> Result<Reply, h2::Error> {
    let (head, mut incoming) = answer.await?.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = incoming.data().await {
        let piece = piece?;
        body.extend_from_slice(&piece);
        incoming.flow_control().release_capacity(piece.len())?;
    }
    Ok(Reply {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// Types of frames (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Reasons (RFC 9113 section 7).
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: [u8; 4] = [0, 0, 0, 8];
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A head as HPACK has it without its tables' help: a method and a scheme of the static table, then two literals.
pub(crate) fn head(is_post: bool, path: &str) -> Vec<u8> {
    let mut block = vec![if is_post { 0x83 } else { 0x82 }, 0x86];
    for (name, value) in [(4, path), (1, NAME)] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    block
}

/// A frame that was received: its type, its flags, its stream and its payload.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The four bytes of the payload from there.
    pub(crate) fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

/// A client without manners.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    /// Begins HTTP/2 with settings of this payload.
    pub(crate) fn connect(server: &Server, settings: &[u8]) -> Raw {
        Raw::connect_from([127, 0, 0, 1], server, settings)
    }

    pub(crate) fn connect_from(address: [u8; 4], server: &Server, settings: &[u8]) -> Raw {
        let stream = server.connect_from(address).stream;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut raw = Raw { stream };
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat());
        raw
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends the bytes again and again, until the server takes no more for half a second (`true`) or ends the
    /// connection.
    pub(crate) fn flood(&mut self, bytes: &[u8], total: usize) -> bool {
        let patience = Duration::from_millis(500);
        self.stream.set_write_timeout(Some(patience)).unwrap();
        let mut sent = 0;
        while sent < total {
            match self.stream.write(&bytes[sent % bytes.len()..]) {
                Ok(written) => sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        panic!("the server took {sent} bytes");
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither frame nor end"),
            Err(_) => return None,
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The next frame of this type.
    pub(crate) fn next(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame();
            let frame =
                frame.unwrap_or_else(|| panic!("the end instead of a frame of type {kind}"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// The reason that the connection ends with.
    pub(crate) fn goodbye(&mut self) -> u32 {
        self.next(GOAWAY).number(4)
    }

    /// Reads to the end of the connection.
    pub(crate) fn end(&mut self) {
        while self.frame().is_some() {}
    }
}
