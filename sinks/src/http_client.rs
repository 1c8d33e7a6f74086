//! HTTP/1.1 for sinks that make their own calls: pooled connections, TLS, a proxy where the environment
//! names one, and a bound on the time and the size of every answer.
//!
//! Each new connection looks its host up again, and a call that ran out of time takes the idle connections
//! with it: an address that went away is not tried a second time.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::timeout;
use tower_service::Service;

/// An unused connection is closed after this: before most servers and load balancers close it, for a call
/// that crosses their closing has an unknown result.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Bytes of a file of certificates; the bundles of systems have some 200 KiB.
const CA_FILE_BYTES_MAX: u64 = 4 << 20;

/// What requests say of who sends them.
pub(crate) const AGENT: &str = concat!("sluice/", env!("CARGO_PKG_VERSION"));

type BoxError = Box<dyn Error + Send + Sync>;

/// A server's answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// No connection came about, so nothing was sent.
    #[error("no connection: {0}")]
    NotConnected(String),
    /// The connection failed with the request on its way.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The answer was not read to its end.
    #[error("the answer has more than {limit} bytes")]
    TooLong {
        /// The bytes that are read.
        limit: usize,
    },
    /// The time was over first.
    #[error("no answer within {ms} ms")]
    TimedOut {
        /// The time.
        ms: u128,
    },
}

/// A client of one server.
pub(crate) struct HttpClient {
    connecting: Connecting,
    connections: Mutex<Connections>,
}

/// A set of connections that is dropped as a whole.
#[derive(Clone)]
struct Connections {
    number: u64,
    pool: Pool,
}

#[derive(Clone)]
enum Pool {
    Direct(Arc<Client<InTime<Direct>, Full<Bytes>>>),
    Proxied(Arc<Client<InTime<Proxied>, Full<Bytes>>>),
}

type Direct = HttpsConnector<HttpConnector>;
type Proxied = HttpsConnector<Tunnel<Direct>>;

/// How connections are made.
struct Connecting {
    tls: Arc<ClientConfig>,
    /// Requests reach the server through a tunnel of the proxy, also those without TLS.
    proxy: Option<Intercept>,
    within: Duration,
}

impl HttpClient {
    /// A client of the server of `uri`. `within`: the time to connect, TLS included.
    pub(crate) fn new(uri: &Uri, tls: ClientConfig, within: Duration) -> HttpClient {
        HttpClient::through(Matcher::from_env().intercept(uri), tls, within)
    }

    fn through(proxy: Option<Intercept>, tls: ClientConfig, within: Duration) -> HttpClient {
        let connecting = Connecting {
            tls: Arc::new(tls),
            proxy,
            within,
        };
        let connections = Mutex::new(Connections {
            number: 0,
            pool: connecting.pool(),
        });
        HttpClient {
            connecting,
            connections,
        }
    }

    /// Sends a request and reads the whole answer, of at most `answer_bytes_max` bytes.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        within: Duration,
        answer_bytes_max: usize,
    ) -> Result<Answer, SendError> {
        let Connections { number, pool } = self.lock().clone();
        match timeout(within, exchange(&pool, request, answer_bytes_max)).await {
            Ok(result) => result,
            Err(_) => {
                self.forget(number);
                let ms = within.as_millis();
                Err(SendError::TimedOut { ms })
            }
        }
    }

    /// Drops the idle connections; those in use end with their calls.
    fn forget(&self, number: u64) {
        let mut connections = self.lock();
        // Calls that ran out of time together share the blame.
        if connections.number == number {
            *connections = Connections {
                number: number + 1,
                pool: self.connecting.pool(),
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Connections> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connecting {
    fn pool(&self) -> Pool {
        let mut client = Client::builder(TokioExecutor::new());
        client
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT);
        match &self.proxy {
            None => Pool::Direct(Arc::new(client.build(self.in_time(self.direct())))),
            Some(proxy) => {
                let mut tunnel = Tunnel::new(proxy.uri().clone(), self.direct());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let connector = HttpsConnector::from((tunnel, Arc::clone(&self.tls)));
                Pool::Proxied(Arc::new(client.build(self.in_time(connector))))
            }
        }
    }

    fn direct(&self) -> Direct {
        let mut tcp = HttpConnector::new();
        // The scheme is the TLS connector's to look at.
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Shared by all addresses of the host, so that one that swallows packets leaves time for the next.
        tcp.set_connect_timeout(Some(self.within));
        HttpsConnector::from((tcp, Arc::clone(&self.tls)))
    }

    fn in_time<C>(&self, inner: C) -> InTime<C> {
        InTime {
            inner,
            within: self.within,
        }
    }
}

async fn exchange(
    pool: &Pool,
    request: Request<Full<Bytes>>,
    answer_bytes_max: usize,
) -> Result<Answer, SendError> {
    let answering = match pool {
        Pool::Direct(client) => client.request(request),
        Pool::Proxied(client) => client.request(request),
    };
    let (head, mut rest) = answering.await.map_err(of_client)?.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = rest.frame().await {
        let frame = frame.map_err(|error| SendError::Lost(chain_text(&error)))?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if data.len() > answer_bytes_max - body.len() {
            let limit = answer_bytes_max;
            return Err(SendError::TooLong { limit });
        }
        body.extend_from_slice(data);
    }
    Ok(Answer {
        status: head.status,
        headers: head.headers,
        body,
    })
}

fn of_client(error: ClientError) -> SendError {
    let text = chain_text(&error);
    match error.is_connect() {
        true => SendError::NotConnected(text),
        false => SendError::Lost(text),
    }
}

/// A connector whose time ends, the handshakes of TLS and proxy included.
#[derive(Clone)]
struct InTime<C> {
    inner: C,
    within: Duration,
}

impl<C> Service<Uri> for InTime<C>
where
    C: Service<Uri>,
    C::Future: Send + 'static,
    C::Error: Into<BoxError>,
{
    type Response = C::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let within = self.within;
        Box::pin(async move {
            match timeout(within, connecting).await {
                Ok(connected) => connected.map_err(Into::into),
                Err(_) => Err(format!("not within {} ms", within.as_millis()).into()),
            }
        })
    }
}

/// Settings of TLS for a server: its certificate leads to one of this file, or of the system.
///
/// # Errors
/// No certificate to trust can be read.
pub(crate) fn tls(uri: &Uri, ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let roots = match ca_file {
        Some(path) => roots_of(path).map_err(|error| format!("{}: {error}", path.display()))?,
        // Without TLS there is nothing to trust.
        None if uri.scheme_str() == Some("http") => RootCertStore::empty(),
        None => system_roots()?,
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let errors: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        let errors = errors.join(", ");
        return Err(format!(
            "this system has no root certificates (package ca-certificates) {errors}"
        ));
    }
    Ok(roots)
}

fn roots_of(path: &Path) -> Result<RootCertStore, String> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    let read = file.take(CA_FILE_BYTES_MAX + 1).read_to_end(&mut text);
    let bytes = read.map_err(|error| error.to_string())?;
    if bytes as u64 > CA_FILE_BYTES_MAX {
        return Err(format!("more than {CA_FILE_BYTES_MAX} bytes"));
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("no certificate in PEM".to_owned());
    }
    Ok(roots)
}

/// An error and those that caused it, outermost first.
pub(crate) fn chain_text(error: &(dyn Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |&error| error.source());
    let texts: Vec<_> = sources.map(ToString::to_string).collect();
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite};
    use tokio::io::{AsyncWriteExt as _, BufReader, copy_bidirectional};
    use tokio::net::{TcpListener, TcpStream};
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;

    const WITHIN: Duration = Duration::from_secs(20);
    const ENOUGH: usize = 1 << 20;

    async fn listener() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    /// Reads a request without a body; `None` at the connection's end.
    async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
        let mut stream = BufReader::with_capacity(1, stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        Some(head)
    }

    async fn answer(stream: &mut (impl AsyncWrite + Unpin), body: &str) {
        let length = body.len();
        let answer = format!("HTTP/1.1 200 \r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }

    fn uri(text: String) -> Uri {
        text.parse().unwrap()
    }

    fn get(uri: &Uri) -> Request<Full<Bytes>> {
        let request = Request::builder().uri(uri.clone());
        request.body(Full::new(Bytes::new())).unwrap()
    }

    fn client(uri: &Uri, within: Duration) -> HttpClient {
        HttpClient::new(uri, tls(uri, None).unwrap(), within)
    }

    async fn ask(client: &HttpClient, uri: &Uri, within: Duration) -> Result<String, SendError> {
        let answer = client.send(get(uri), within, ENOUGH).await?;
        Ok(String::from_utf8(answer.body).unwrap())
    }

    /// Each connection is answered once and then, as behind an address that went away, never again.
    #[tokio::test]
    async fn a_timed_out_call_takes_the_idle_connections_with_it() {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    head(&mut stream).await;
                    answer(&mut stream, "once").await;
                    while head(&mut stream).await.is_some() {}
                });
            }
        });
        let uri = uri(format!("http://{address}/"));
        let client = client(&uri, WITHIN);
        let both = tokio::join!(ask(&client, &uri, WITHIN), ask(&client, &uri, WITHIN));
        assert_eq!(both, (Ok("once".to_owned()), Ok("once".to_owned())));
        let short = Duration::from_millis(300);
        let timed_out = Err(SendError::TimedOut { ms: 300 });
        assert_eq!(ask(&client, &uri, short).await, timed_out);
        assert_eq!(ask(&client, &uri, WITHIN).await, Ok("once".to_owned()));
    }

    #[tokio::test]
    async fn a_connection_is_kept_for_the_next_call() {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            while head(&mut stream).await.is_some() {
                answer(&mut stream, "again").await;
            }
        });
        let uri = uri(format!("http://{address}/"));
        let client = client(&uri, WITHIN);
        for _ in 0..3 {
            assert_eq!(ask(&client, &uri, WITHIN).await, Ok("again".to_owned()));
        }
    }

    #[tokio::test]
    async fn an_answer_over_the_bound_names_the_limit() {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                head(&mut stream).await;
                answer(&mut stream, &"x".repeat(1_000)).await;
            }
        });
        let uri = uri(format!("http://{address}/"));
        let client = client(&uri, WITHIN);
        let answer = client.send(get(&uri), WITHIN, 1_000).await.unwrap();
        assert_eq!(answer.body.len(), 1_000);
        let error = client.send(get(&uri), WITHIN, 999).await.unwrap_err();
        assert_eq!(error, SendError::TooLong { limit: 999 });
        assert_eq!(error.to_string(), "the answer has more than 999 bytes");
    }

    #[tokio::test]
    async fn a_stalled_tls_handshake_is_no_connection() {
        let (listener, address) = listener().await;
        let uri = uri(format!("https://{address}/"));
        let client = client(&uri, Duration::from_millis(200));
        let error = ask(&client, &uri, WITHIN).await.unwrap_err();
        assert!(matches!(error, SendError::NotConnected(_)), "{error}");
        drop(listener);
    }

    #[tokio::test]
    async fn a_proxy_tunnels_to_the_server() {
        let (server, address) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let head = head(&mut stream).await.unwrap();
            assert!(head.starts_with("GET /path HTTP/1.1\r\n"), "{head}");
            answer(&mut stream, "through").await;
        });
        let (proxy, proxy_address) = listener().await;
        let tunnel = tokio::spawn(async move {
            let (mut stream, _) = proxy.accept().await.unwrap();
            let head = head(&mut stream).await.unwrap();
            let to = head.split(' ').nth(1).unwrap().to_owned();
            let mut server = TcpStream::connect(to).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 \r\n\r\n").await.unwrap();
            // The client goes away when the test ends.
            let _ = copy_bidirectional(&mut stream, &mut server).await;
            head
        });
        let uri = uri(format!("http://{address}/path"));
        let proxies = Matcher::builder().http(format!("http://user:pass@{proxy_address}"));
        let proxy = proxies.build().intercept(&uri);
        let client = HttpClient::through(proxy, tls(&uri, None).unwrap(), WITHIN);
        assert_eq!(ask(&client, &uri, WITHIN).await, Ok("through".to_owned()));
        drop(client);
        let head = tunnel.await.unwrap().to_lowercase();
        assert!(head.starts_with(&format!("connect {address} ")), "{head}");
        assert!(
            head.contains("proxy-authorization: basic dxnlcjpwyxnz"),
            "{head}"
        );
    }

    #[tokio::test]
    async fn only_certificates_of_the_ca_file_are_trusted() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client without trust ends the handshake.
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    head(&mut stream).await;
                    answer(&mut stream, "trusted").await;
                }
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let port = address.rsplit(':').next().unwrap();
        let uri = uri(format!("https://localhost:{port}/"));
        for (certificate, is_trusted) in [(&made.cert, true), (&other.cert, false)] {
            std::fs::write(&file, certificate.pem()).unwrap();
            let client = HttpClient::new(&uri, tls(&uri, Some(&file)).unwrap(), WITHIN);
            let asked = ask(&client, &uri, WITHIN).await;
            assert_eq!(asked.is_ok(), is_trusted, "{asked:?}");
            assert!(matches!(asked, Ok(_) | Err(SendError::NotConnected(_))));
        }
    }

    #[test]
    fn a_ca_file_without_certificates_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let uri = Uri::from_static("https://localhost/");
        let error = || tls(&uri, Some(&file)).unwrap_err();
        assert!(error().contains("No such file"), "{}", error());
        std::fs::write(&file, "nothing of the kind").unwrap();
        assert!(error().ends_with("no certificate in PEM"), "{}", error());
        std::fs::write(&file, vec![b' '; 4 << 20]).unwrap();
        assert!(error().ends_with("no certificate in PEM"), "{}", error());
        std::fs::write(&file, vec![b' '; (4 << 20) + 1]).unwrap();
        assert!(error().ends_with("more than 4194304 bytes"), "{}", error());
    }
}
