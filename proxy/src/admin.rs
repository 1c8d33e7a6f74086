//! The operator's port: `/metrics`, `/live` and `/ready`, on its own thread, so that it responds
//! when cores are busy or queues are full.
//!
//! Reads counters and state; decides nothing. hyper serves this port: it is in the binary
//! anyway, and makes the framing as strict here as on the clients' port.
//!
//! A client that opens connections and sends nothing must not silence the liveness probe, because an
//! orchestrator then kills a healthy process. So no client waits for a free slot: a new connection
//! evicts an old one (`slots`).

pub mod health;
mod host;
pub mod metrics;
mod slots;

use crate::admit::{HOSTS_MAX, is_host};
use crate::net;
use crate::runtime::clock;
pub use host::HostPolicy;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{Format, Sources};
use slots::ConnectionSlots;
use sluice_sinks::settings;
use sluice_sinks::settings::{checked, texts};
use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io::{self, ErrorKind::AddrInUse};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::warn;

/// Connections open at the same time; one more evicts another.
pub const CONNECTIONS_MAX: usize = 64;

/// Bytes of a request head, and of read-ahead.
pub const HEAD_BYTES_MAX: usize = 16_384;

/// From accept to the last byte of the answer.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// From accept to the end of the head. Probes and scrapers send theirs immediately.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(2);

const _: () = assert!(HEAD_DEADLINE.as_millis() < CONNECTION_DEADLINE.as_millis());

/// Pause after a failed accept: an immediate retry would find no descriptor either.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

settings! {
    /// The port for metrics and probes.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AdminSettings from (reader) {
        /// Address and port of metrics and probes; `off` serves them nowhere.
        address: Option<SocketAddr> =
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090)),
            checked("`off` or an address with a port, for instance 127.0.0.1:9090").or_off();
        /// Public names, without port, that a Host header may carry there; addresses, `localhost` and names
        /// inside a cluster are taken anyway.
        hosts: Vec<String> = Vec::new(),
            texts("hosts", HOSTS_MAX, "a host name or address without port", is_host);
    }
}

/// The running admin port.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Admin {
    /// Binds the address and starts the thread.
    ///
    /// # Errors
    /// When the address cannot be bound, or the system gives no thread.
    pub fn start(address: SocketAddr, hosts: HostPolicy, sources: Sources) -> io::Result<Admin> {
        let listener = bind_shared(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let page = Arc::new(Page { hosts, sources });
        let thread = thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || serve(&runtime, listener, page, stopped))?;
        Ok(Admin {
            address,
            stop,
            thread,
        })
    }

    /// Where it listens, with the port that the kernel chose for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes the port and every connection on it, and ends the thread.
    pub fn stop(self) {
        // Both fail only when the thread has ended already.
        let _ = self.stop.send(());
        let _ = self.thread.join();
    }
}

/// Binds so that the next version of the process can listen beside this one while this one drains. The kernel
/// then chooses which of the two gets a connection, so this is logged.
fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let is_taken = TcpListener::bind(address).is_err_and(|error| error.kind() == AddrInUse);
    let (_, listeners) = net::bind(address, 1).map_err(|error| error.source)?;
    if is_taken {
        warn!(%address, "the admin port is shared with another process");
    }
    let none = || io::Error::other("no listener was bound");
    let listener = listeners.into_iter().next().ok_or_else(none)?;
    Ok(listener.into())
}

/// The data that responses are made from.
struct Page {
    hosts: HostPolicy,
    sources: Sources,
}

/// Runs until stopped. Leaving the runtime drops the tasks that still run on it.
fn serve(
    runtime: &Runtime,
    listener: tokio::net::TcpListener,
    page: Arc<Page>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        tokio::spawn(accept(listener, page));
        // An error means that the handle was dropped without `stop`: serve until the process ends.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
}

async fn accept(listener: tokio::net::TcpListener, page: Arc<Page>) {
    let slots = ConnectionSlots::new(CONNECTIONS_MAX);
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "admin port cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let page = Arc::clone(&page);
        slots.admit(peer.ip(), move |slot| async move {
            let service = service_fn(move |request: Request<Incoming>| {
                slot.head_is_complete();
                let answer = page.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_buf_size(HEAD_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            let connection = poll_fn(|cx| match clock::is_writable() {
                true => connection.as_mut().poll(cx).map(drop),
                false => Poll::Ready(()),
            });
            // A slow or broken client of this port is not worth a log line.
            let _ = timeout(CONNECTION_DEADLINE, connection).await;
        });
        // Lets the new task read its head before the next accept may evict it.
        tokio::task::yield_now().await;
    }
}

impl Page {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        // `/live` reports only that this thread runs, and must not fail for the Host of a probe.
        if path != "/live"
            && let Err(refusal) = self.hosts.check(request)
        {
            let mut refused = Response::new(Full::new(Bytes::from(refusal.message())));
            *refused.status_mut() = refusal.status();
            return refused;
        }
        let method = request.method();
        let accept = request.headers().get(ACCEPT);
        let format = accept.and_then(|accept| accept.to_str().ok());
        let format = format.map_or(Format::Text, Format::negotiate);
        let (status, kind, body) = match path {
            "/metrics" => (
                StatusCode::OK,
                format.content_type(),
                metrics::render(&self.sources, format).into_bytes(),
            ),
            "/live" => (
                StatusCode::OK,
                "application/json",
                b"{\"live\":true}".to_vec(),
            ),
            "/ready" => (
                if self.sources.readiness.is_ready() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                },
                "application/json",
                self.sources.readiness.to_json(),
            ),
            _ => (
                StatusCode::NOT_FOUND,
                "text/plain; charset=utf-8",
                "/metrics, /live and /ready are here\n".into(),
            ),
        };
        let allowed = method == Method::GET || method == Method::HEAD;
        if !allowed && status != StatusCode::NOT_FOUND {
            let mut refused = Response::new(Full::default());
            *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            refused
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}
