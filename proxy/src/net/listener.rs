//! Listening sockets, the accept loop of a core, and the caps at the limiter.

use super::poller::{Listener, Poller, Stream};
use crate::context::WorkerContext;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// Connections that may wait in the kernel for one core, where `net.core.somaxconn` allows it.
const BACKLOG: i32 = 4096;

/// After a failed accept, mostly for want of descriptors: doubling, so that a full process neither
/// spins nor sleeps long past the moment when a descriptor is free.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_LAST: Duration = Duration::from_millis(100);

/// Connections let in before those who are open get their turn.
const ACCEPTS_PER_TURN: u32 = 16;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address as configured.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Opens `count` sockets that share one address, each with its own queue of new connections. With port 0
/// the system chooses the port once for all of them.
///
/// # Errors
/// The address is taken, not ours, or not permitted.
pub fn bind(
    address: SocketAddr,
    count: usize,
) -> Result<(SocketAddr, Vec<std::net::TcpListener>), BindError> {
    let fail = |source| BindError { address, source };
    let mut bound = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = bind_one(bound).map_err(fail)?;
        bound = listener.local_addr().map_err(fail)?;
        listeners.push(listener);
    }
    Ok((bound, listeners))
}

fn bind_one(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The caps at the limiter, one for all cores of the process.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    connections_max: usize,
    per_source_max: usize,
    uses_proxy_protocol: bool,
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    per_source: HashMap<IpAddr, usize>,
}

impl OpenConnections {
    /// Counts a connection of this source; `false` when there are `most` already. 0 counts none.
    fn add(&mut self, source: IpAddr, most: usize) -> bool {
        if most == 0 {
            return true;
        }
        let open = self.per_source.entry(source).or_default();
        let has_room = *open < most;
        *open += usize::from(has_room);
        has_room
    }

    fn remove(&mut self, source: IpAddr) {
        if let Some(open) = self.per_source.get_mut(&source) {
            *open -= 1;
            if *open == 0 {
                self.per_source.remove(&source);
            }
        }
    }
}

impl ConnectionLimiter {
    /// `per_source_max` 0 counts no sources. `uses_proxy_protocol`: whose a connection is, a header
    /// says after accept ([`proxy_protocol`](super::proxy_protocol)); its peer is a balancer.
    pub(crate) fn new(
        connections_max: usize,
        per_source_max: usize,
        uses_proxy_protocol: bool,
    ) -> ConnectionLimiter {
        ConnectionLimiter {
            connections_max,
            per_source_max,
            uses_proxy_protocol,
            open: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a connection in, until the permit is dropped; `None` when a cap is reached.
    pub(crate) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<ConnectionPermit> {
        let mut open = self.open();
        if open.total >= self.connections_max {
            return None;
        }
        let source = (!self.uses_proxy_protocol).then(|| source_of(peer));
        if source.is_some_and(|source| !open.add(source, self.per_source_max)) {
            return None;
        }
        open.total += 1;
        Some(ConnectionPermit {
            limiter: Arc::clone(self),
            source,
        })
    }
}

/// One IPv4 address; an IPv6 /64, which is what one client has at least.
fn source_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

/// One connection's place open.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    /// Whom it counts for; `None` until its client is announced.
    source: Option<IpAddr>,
}

impl ConnectionPermit {
    /// Whether a header will say whose connection it is.
    pub(crate) fn awaits_client(&self) -> bool {
        self.source.is_none()
    }

    /// The connection is this client's; `false` when the client has as many as it may.
    pub(crate) fn belongs_to(&mut self, client: IpAddr) -> bool {
        let source = source_of(client);
        let has_room = self.limiter.open().add(source, self.limiter.per_source_max);
        self.source = has_room.then_some(source);
        has_room
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.open();
        open.total = open.total.saturating_sub(1);
        if let Some(source) = self.source {
            open.remove(source);
        }
    }
}

/// Half the descriptors that the process may open; the other half is for outputs, files and metrics.
/// `None` where the system does not say.
pub(crate) fn half_of_descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    let soft: usize = line.split_whitespace().nth(3)?.parse().ok()?;
    Some(soft / 2)
}

/// Where one core accepts. Made on its own thread.
pub(crate) struct Acceptor(Listener);

impl Acceptor {
    pub(crate) fn new(
        poller: &Rc<Poller>,
        listener: std::net::TcpListener,
    ) -> io::Result<Acceptor> {
        Listener::new(poller, listener).map(Acceptor)
    }

    /// Stops accepting and returns those who were already in the queue: whom the kernel has let in is
    /// served.
    pub(crate) fn close(&self) -> Vec<(Stream, SocketAddr)> {
        let waiting = std::iter::from_fn(|| self.0.accept().ok()).collect();
        self.0.close();
        waiting
    }

    /// Accepts until the acceptor is closed.
    pub(crate) async fn accept(
        &self,
        context: &WorkerContext,
        limiter: &Arc<ConnectionLimiter>,
        serve: impl Fn(Stream, SocketAddr, ConnectionPermit),
    ) {
        let mut back_off = BACK_OFF_FIRST;
        let mut accepted = 0;
        while context.accepts() {
            match poll_fn(|cx| self.0.poll_accept(cx)).await {
                Ok((stream, peer)) => {
                    back_off = BACK_OFF_FIRST;
                    accept_one(context, limiter, stream, peer, &serve);
                    accepted += 1;
                    if accepted % ACCEPTS_PER_TURN == 0 {
                        give_way().await;
                    }
                }
                // The client was gone before we looked: nothing is wrong here.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(_) if !context.accepts() => return,
                Err(_) => {
                    context.stats.accept_errors.increment();
                    monoio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_LAST);
                }
            }
        }
    }
}

/// Lets the other tasks of this core run.
async fn give_way() {
    let mut given = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Takes one connection in, or closes it at once.
pub(crate) fn accept_one(
    context: &WorkerContext,
    limiter: &Arc<ConnectionLimiter>,
    stream: Stream,
    peer: SocketAddr,
    serve: &impl Fn(Stream, SocketAddr, ConnectionPermit),
) {
    match limiter.enter(peer.ip()) {
        None => context.stats.connections_capped.increment(),
        Some(permit) => {
            context.stats.connections_accepted.increment();
            serve(stream, peer, permit);
        }
    }
}
