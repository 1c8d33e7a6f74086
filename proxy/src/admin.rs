//! The operator's port: `/metrics`, `/live` and `/ready`, on a thread of its own, so that neither a
//! full core nor a full queue keeps anyone from seeing why.
//!
//! Only reads what others count and set. hyper serves here as well: it is in the binary anyway, and
//! keeps the framing rules of the operator's port as strict as those of the clients' port.

pub mod health;
pub mod metrics;

use health::Readiness;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::Sources;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tracing::warn;

/// Connections served at once; more of them wait in the listen queue.
pub const CONNECTIONS_MAX: usize = 16;

/// Bytes of a request head, and of what is read ahead.
pub const HEAD_BYTES_MAX: usize = 16_384;

/// From accept to the last byte of the answer.
pub const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// From accept to the end of the head.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(5);

const _: () = assert!(HEAD_DEADLINE.as_millis() < CONNECTION_DEADLINE.as_millis());

/// How long accepting rests after an error: descriptors do not come back by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

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
    pub fn start(
        address: SocketAddr,
        sources: Sources,
        readiness: Arc<Readiness>,
    ) -> io::Result<Admin> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let page = Arc::new(Page { sources, readiness });
        let thread = thread::Builder::new()
            .name("admin".to_owned())
            .spawn(move || serve(&runtime, listener, page, stopped))?;
        Ok(Admin {
            address,
            stop,
            thread,
        })
    }

    /// Where it listens; the port that the kernel chose, if it was to choose.
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

/// What an answer is made of.
struct Page {
    sources: Sources,
    readiness: Arc<Readiness>,
}

/// Runs until told to stop. Leaving the runtime drops what still runs on it.
fn serve(
    runtime: &Runtime,
    listener: tokio::net::TcpListener,
    page: Arc<Page>,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async {
        tokio::spawn(accept(listener, page));
        // An error is the handle dropped without `stop`: the port then goes on with the process.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    });
}

async fn accept(listener: tokio::net::TcpListener, page: Arc<Page>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Fails only for a closed semaphore, which nobody closes.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "admin port cannot accept");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let page = Arc::clone(&page);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let answer = page.answer(request.method(), request.uri().path());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_buf_size(HEAD_BYTES_MAX)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Neither a slow nor a broken client of this port is worth a line.
            let _ = timeout(CONNECTION_DEADLINE, connection).await;
            drop(place);
        });
    }
}

impl Page {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let (status, kind, body) = match path {
            "/metrics" => (
                StatusCode::OK,
                "text/plain; version=0.0.4; charset=utf-8",
                metrics::render(&self.sources).into_bytes(),
            ),
            "/live" => (
                StatusCode::OK,
                "application/json",
                b"{\"live\":true}".to_vec(),
            ),
            "/ready" => (
                if self.readiness.is_ready() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                },
                "application/json",
                self.readiness.to_json(),
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
