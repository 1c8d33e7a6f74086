//! Listening sockets, the accept loop of a core, and the caps on open connections.

use super::tls::Tls;
use crate::runtime::context::WorkerContext;
use crate::runtime::sockets::{Idle, Listener, Sockets, Stream};
use ipnet::IpNet;
use sluice_core::budget::Source;
use sluice_core::privacy::{AddressRule, Shown};
use sluice_core::time::Mono;
use socket2::{Domain, Protocol, Socket, Type};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

/// Connections that may wait in the kernel for one core, where `net.core.somaxconn` allows it.
const BACKLOG: i32 = 4096;

/// The first and the longest wait after a failed accept, usually for lack of descriptors. It doubles, so that
/// a full process neither spins nor sleeps long after a descriptor is free.
const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_LAST: Duration = Duration::from_millis(100);

/// Above this part of the cap, in percent, each new connection ends the one of its core that is idle for the longest.
const CROWDED_PERCENT: usize = 80;

/// A connection that has been idle for less is not ended for a new one: it may be between two requests.
const IDLE_AT_LEAST: Duration = Duration::from_secs(1);

/// Idle connections that one search finds, and the time between two searches of one core, which look at all of its
/// connections.
const IDLE_FOUND_MAX: usize = 1_024;
const SEARCH_EVERY: Duration = Duration::from_millis(100);

/// Connections over a cap that one core has open at once to tell them so; further ones are closed at accept.
const OVERFLOW_MAX: u64 = 256;

/// Clients of one IPv6 /48 may have this many times the connections of one client.
const CLIENTS_PER_SITE: usize = 4;

/// Connections accepted in a row before open ones get their turn.
const ACCEPTS_PER_TURN: u32 = 16;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address as configured.
    pub address: String,
    /// The system's error.
    pub source: io::Error,
}

/// Opens `count` sockets that share one address, each with its own queue of new connections. With port 0
/// the system chooses the port once for all of them.
///
/// # Errors
/// The address is in use, not one of this host, or not permitted.
pub fn bind(address: SocketAddr, count: usize) -> Result<(SocketAddr, Vec<OwnedFd>), BindError> {
    let fail = |source| BindError {
        address: address.to_string(),
        source,
    };
    let mut bound = address;
    let mut listeners = Vec::with_capacity(count);
    for _ in 0..count {
        let listener = bind_one(bound).map_err(fail)?;
        bound = listener.local_addr().map_err(fail)?;
        listeners.push(listener.into());
    }
    Ok((bound, listeners))
}

/// Opens a unix socket, `count` times the same: the cores share its queue of new connections. An older socket of
/// that name goes, as one that is left behind by a process that is gone would otherwise stand in the way; one that
/// is in use loses its name only.
///
/// # Errors
/// The directory is missing or not permitted, or there is a file of that name that is no socket.
pub(crate) fn bind_unix(path: &Path, count: usize) -> Result<Vec<OwnedFd>, BindError> {
    let fail = |source| BindError {
        address: format!("unix:{}", path.display()),
        source,
    };
    let is_socket = |data: std::fs::Metadata| data.file_type().is_socket();
    if std::fs::symlink_metadata(path).is_ok_and(is_socket) {
        std::fs::remove_file(path).map_err(fail)?;
    }
    let listener = UnixListener::bind(path).map_err(fail)?;
    let listener = OwnedFd::from(listener);
    let copies = (1..count).map(|_| listener.try_clone());
    let mut listeners: Vec<OwnedFd> = copies.collect::<io::Result<_>>().map_err(fail)?;
    listeners.push(listener);
    Ok(listeners)
}

/// What a listener decides about its connections. Each core has its own.
pub(crate) struct ListenerRules {
    /// Its name, by which rules of routing know it.
    pub(crate) name: Arc<str>,
    /// TLS, where the listener speaks it.
    pub(crate) tls: Option<Arc<Tls>>,
    /// A handshake that takes longer is given up.
    pub(crate) handshake_deadline: Duration,
    /// Handshakes under way on the core.
    pub(crate) handshakes: Handshakes,
    /// Where a PROXY header begins each connection: who may send one.
    pub(crate) proxy_protocol_from: Option<Vec<IpNet>>,
    /// Proxies whose X-Forwarded-For is believed; each carries the connections of many clients.
    pub(crate) trusted: Vec<IpNet>,
    /// A connection may begin with HTTP/2.
    pub(crate) http2_prior_knowledge: bool,
    /// What is stored of client addresses, where the listener decides.
    pub(crate) addresses: Option<AddressRule>,
    /// What logs show of addresses.
    pub(crate) logged_addresses: AddressRule,
    /// Peers have no addresses; the socket's directory decides who reaches it.
    pub(crate) is_unix: bool,
}

/// The TLS handshakes of one core that are under way, the oldest first. A client that stops in the middle of one costs
/// it nothing and us a place, so the oldest gives way to a new one: honest ones take a few round trips.
pub(crate) struct Handshakes {
    max: usize,
    running: RefCell<VecDeque<Idle>>,
}

impl Handshakes {
    pub(crate) fn new(max: usize) -> Handshakes {
        Handshakes {
            max,
            running: RefCell::default(),
        }
    }

    /// Counts a handshake until the guard is dropped; ends the oldest if there are too many.
    pub(crate) fn begin(&self, stream: &Stream) -> Handshake<'_> {
        let mut running = self.running.borrow_mut();
        if running.len() >= self.max
            && let Some(oldest) = running.pop_front()
        {
            stream.ask_other_to_leave(oldest);
        }
        let own = stream.as_idle();
        running.push_back(own);
        Handshake {
            handshakes: self,
            own,
        }
    }
}

/// A handshake under way.
pub(crate) struct Handshake<'h> {
    handshakes: &'h Handshakes,
    own: Idle,
}

impl Drop for Handshake<'_> {
    fn drop(&mut self) {
        let mut running = self.handshakes.running.borrow_mut();
        if let Some(at) = running.iter().position(|other| *other == self.own) {
            running.remove(at);
        }
    }
}

impl ListenerRules {
    /// Whether this peer, or the client that a PROXY header named, is believed about its clients. On a unix socket
    /// that is the one without an address, who is at the other end of it; not a client whom it named.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        (self.is_unix && peer.is_unspecified()) || is_in(&self.trusted, peer)
    }

    /// A peer as logs may show it.
    pub(crate) fn shown(&self, peer: IpAddr) -> Shown {
        Shown(peer, self.logged_addresses)
    }

    /// Whether this peer may name a client by a PROXY header.
    pub(crate) fn may_announce(&self, peer: IpAddr) -> bool {
        let from = self.proxy_protocol_from.as_deref().unwrap_or_default();
        self.is_unix || is_in(from, peer)
    }
}

fn is_in(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
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
    // Without it the last segment of a response could wait 40 ms for the client's ACK. Accepted sockets inherit it.
    socket.set_tcp_nodelay(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The caps on open connections; one limiter for all cores of the process.
#[derive(Debug)]
pub(crate) struct ConnectionLimiter {
    connections_max: usize,
    per_source_max: usize,
    open: Mutex<OpenConnections>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    total: usize,
    /// By client and by site.
    per_source: HashMap<u128, usize>,
    /// When a refusal was last logged, and the number since.
    warned: Option<Mono>,
    refused: u64,
}

/// The cap that a connection was refused by, with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cap {
    /// All connections of the process.
    Process(usize),
    /// Those of one source.
    Source(usize),
}

/// At most one warning about refused connections in this time.
const WARN_EVERY: Duration = Duration::from_secs(1);

impl OpenConnections {
    /// Counts a connection of this source; `false` if there are `most` already. With 0 there is no limit.
    fn add(&mut self, source: Source, most: usize) -> bool {
        if most == 0 {
            return true;
        }
        let (client, site) = source.keys();
        let of_site = most.saturating_mul(CLIENTS_PER_SITE);
        let has_room = |key, most| self.per_source.get(&key).is_none_or(|open| *open < most);
        if !has_room(client, most) || site.is_some_and(|site| !has_room(site, of_site)) {
            return false;
        }
        for key in [Some(client), site].into_iter().flatten() {
            *self.per_source.entry(key).or_default() += 1;
        }
        true
    }

    fn remove(&mut self, source: Source) {
        let (client, site) = source.keys();
        for key in [Some(client), site].into_iter().flatten() {
            if let Some(open) = self.per_source.get_mut(&key) {
                *open -= 1;
                if *open == 0 {
                    self.per_source.remove(&key);
                }
            }
        }
    }
}

impl ConnectionLimiter {
    /// `per_source_max` 0 counts no sources.
    pub(crate) fn new(connections_max: usize, per_source_max: usize) -> ConnectionLimiter {
        ConnectionLimiter {
            connections_max,
            per_source_max,
            open: Mutex::default(),
        }
    }

    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Admits a connection until the permit is dropped, or returns the cap that was reached.
    pub(crate) fn enter(
        self: &Arc<Self>,
        peer: IpAddr,
        rules: &ListenerRules,
    ) -> Result<ConnectionPermit, Cap> {
        let mut open = self.open();
        if open.total >= self.connections_max {
            return Err(Cap::Process(self.connections_max));
        }
        let counted = if rules.proxy_protocol_from.is_some() {
            Counted::Awaited
        } else {
            self.count(&mut open, peer, rules)?
        };
        open.total += 1;
        Ok(ConnectionPermit {
            limiter: Arc::clone(self),
            counted,
        })
    }

    /// Whether idle connections have to give way to new ones.
    fn is_crowded(&self) -> bool {
        // Two factors of at most a million.
        self.open().total * 100 >= self.connections_max * CROWDED_PERCENT
    }

    /// Counts a connection for its source, unless that is a trusted proxy.
    fn count(
        &self,
        open: &mut OpenConnections,
        address: IpAddr,
        rules: &ListenerRules,
    ) -> Result<Counted, Cap> {
        if rules.trusts(address) {
            return Ok(Counted::No);
        }
        let source = Source::from(address);
        if open.add(source, self.per_source_max) {
            Ok(Counted::For(source))
        } else {
            Err(Cap::Source(self.per_source_max))
        }
    }

    /// Notes a refusal. If a warning is due, returns the number of refusals since the last one.
    fn refused(&self, now: Mono) -> Option<u64> {
        let mut open = self.open();
        open.refused += 1;
        if open
            .warned
            .is_some_and(|warned| now.since(warned) < WARN_EVERY)
        {
            return None;
        }
        open.warned = Some(now);
        Some(std::mem::take(&mut open.refused))
    }

    /// Counts a connection that a cap closed, and warns about it.
    pub(crate) fn note_refusal(&self, context: &WorkerContext, peer: Shown, cap: Cap) {
        let (counter, setting, limit) = match cap {
            Cap::Process(limit) => (
                &context.stats.connections_capped,
                "listen.connections_max",
                limit,
            ),
            Cap::Source(limit) => (
                &context.stats.connections_capped_by_address,
                "listen.connections_per_address_max",
                limit,
            ),
        };
        counter.increment();
        if let Some(refused) = self.refused(context.recent()) {
            tracing::warn!(
                setting,
                limit,
                %peer,
                refused,
                "refused a connection over a cap; proxies of your own belong into client_address.trusted"
            );
        }
    }
}

/// The permit of an open connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    limiter: Arc<ConnectionLimiter>,
    counted: Counted,
}

/// Whom a connection counts for.
#[derive(Debug)]
enum Counted {
    /// Its PROXY header has not arrived yet.
    Awaited,
    /// A client.
    For(Source),
    /// Nobody: the peer is a trusted proxy.
    No,
}

impl ConnectionPermit {
    /// Assigns the connection to a client, unless that has reached its cap.
    pub(crate) fn belongs_to(&mut self, client: IpAddr, rules: &ListenerRules) -> Result<(), Cap> {
        let mut open = self.limiter.open();
        self.counted = self.limiter.count(&mut open, client, rules)?;
        Ok(())
    }

    /// The client that the connection counts for; `None` for a trusted proxy, which has many.
    pub(crate) fn source(&self) -> Option<Source> {
        match self.counted {
            Counted::For(source) => Some(source),
            Counted::Awaited | Counted::No => None,
        }
    }

    /// See [`ConnectionLimiter::note_refusal`].
    pub(crate) fn note_refusal(&self, context: &WorkerContext, client: Shown, cap: Cap) {
        self.limiter.note_refusal(context, client, cap);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut open = self.limiter.open();
        open.total = open.total.saturating_sub(1);
        if let Counted::For(source) = self.counted {
            open.remove(source);
        }
    }
}

/// Half the descriptors that the process may open; the other half is for outputs, files and metrics.
/// `None` if the limit is unknown.
pub(crate) fn half_of_descriptors() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))?;
    let soft: usize = line.split_whitespace().nth(3)?.parse().ok()?;
    Some(soft / 2)
}

/// A connection as it was accepted.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) peer: SocketAddr,
    /// `None`: it is over a cap, and there only to be told so.
    pub(crate) permit: Option<ConnectionPermit>,
    pub(crate) rules: Rc<ListenerRules>,
}

/// Where one core accepts. Made on its own thread.
pub(crate) struct Acceptor {
    listener: Listener,
    rules: Rc<ListenerRules>,
    sockets: Rc<Sockets>,
    context: Rc<WorkerContext>,
    limiter: Arc<ConnectionLimiter>,
    /// What the last search for idle connections found, the longest idle one last, and when that was.
    idle: RefCell<Vec<Idle>>,
    searched: Cell<Option<Mono>>,
}

impl Acceptor {
    pub(crate) fn new(
        listener: OwnedFd,
        rules: ListenerRules,
        sockets: &Rc<Sockets>,
        context: &Rc<WorkerContext>,
        limiter: &Arc<ConnectionLimiter>,
    ) -> io::Result<Acceptor> {
        Ok(Acceptor {
            listener: Listener::new(sockets, listener)?,
            rules: Rc::new(rules),
            sockets: Rc::clone(sockets),
            context: Rc::clone(context),
            limiter: Arc::clone(limiter),
            idle: RefCell::default(),
            searched: Cell::new(None),
        })
    }

    /// Stops accepting, and serves the connections already in the kernel's queue.
    pub(crate) fn close(&self, serve: &impl Fn(Accepted)) {
        while let Ok((stream, peer)) = self.listener.accept() {
            self.accept_one(stream, peer, serve);
        }
        self.listener.close();
    }

    /// Accepts until the acceptor is closed.
    pub(crate) async fn accept(&self, serve: impl Fn(Accepted)) {
        let mut back_off = BACK_OFF_FIRST;
        let mut accepted = 0;
        while self.context.accepts() {
            match poll_fn(|cx| self.listener.poll_accept(cx)).await {
                Ok((stream, peer)) => {
                    back_off = BACK_OFF_FIRST;
                    self.accept_one(stream, peer, &serve);
                    accepted += 1;
                    if accepted % ACCEPTS_PER_TURN == 0 {
                        give_way().await;
                    }
                }
                // The client has already gone.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(_) if !self.context.accepts() => return,
                Err(_) => {
                    self.context.stats.accept_errors.increment();
                    monoio::time::sleep(back_off).await;
                    back_off = (back_off * 2).min(BACK_OFF_LAST);
                }
            }
        }
    }

    /// Admits one connection, lets it be told that there are too many, or closes it.
    fn accept_one(&self, stream: Stream, peer: SocketAddr, serve: &impl Fn(Accepted)) {
        let stats = &self.context.stats;
        let permit = match self.limiter.enter(peer.ip(), &self.rules) {
            Ok(permit) => {
                stats.connections_accepted.increment();
                Some(permit)
            }
            Err(cap) => {
                let shown = self.rules.shown(peer.ip());
                self.limiter.note_refusal(&self.context, shown, cap);
                None
            }
        };
        if self.limiter.is_crowded() {
            self.make_room();
        }
        if permit.is_none() && self.context.overflow.get() >= OVERFLOW_MAX {
            return;
        }
        serve(Accepted {
            stream,
            peer,
            permit,
            rules: Rc::clone(&self.rules),
        });
    }

    /// Ends the connection of this core that has been idle for the longest, if any is.
    fn make_room(&self) {
        let now = self.context.recent();
        loop {
            let longest = self.idle.borrow_mut().pop();
            if let Some(idle) = longest {
                if self.sockets.ask_to_leave(idle) {
                    self.context.stats.connections_evicted.increment();
                    return;
                }
                continue;
            }
            let is_due = |at| now.since(at) >= SEARCH_EVERY;
            if !self.searched.get().is_none_or(is_due) {
                return;
            }
            self.searched.set(Some(now));
            let found = self
                .sockets
                .longest_idle(now, IDLE_AT_LEAST, IDLE_FOUND_MAX);
            self.idle.replace(found);
        }
    }
}

/// Lets the other tasks of this core run.
pub(crate) async fn give_way() {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(per_source_max: usize) -> Arc<ConnectionLimiter> {
        Arc::new(ConnectionLimiter::new(100, per_source_max))
    }

    fn rules() -> ListenerRules {
        ListenerRules {
            name: "listen".into(),
            tls: None,
            handshake_deadline: Duration::ZERO,
            handshakes: Handshakes::new(1),
            proxy_protocol_from: None,
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            http2_prior_knowledge: false,
            addresses: None,
            logged_addresses: AddressRule::Keep,
            is_unix: false,
        }
    }

    #[test]
    fn a_trusted_proxy_is_exempt_from_the_address_cap() {
        let limiter = limiter(2);
        let rules = rules();
        let enter = |peer: &str| limiter.enter(peer.parse().unwrap(), &rules);
        let balancer: Vec<_> = (0..9).map(|_| enter("10.1.2.3")).collect();
        let mapped = enter("::ffff:10.1.2.3");
        assert!(balancer.iter().all(Result::is_ok) && mapped.is_ok());
        let client = [enter("203.0.113.9"), enter("203.0.113.9")];
        assert!(client.iter().all(Result::is_ok));
        assert_eq!(enter("203.0.113.9").unwrap_err(), Cap::Source(2));
        drop(client);
        assert!(enter("203.0.113.9").is_ok());
    }

    #[test]
    fn refusals_are_warned_about_once_a_second_with_their_count() {
        let limiter = limiter(1);
        let at = |millis| Mono::default() + Duration::from_millis(millis);
        let due: Vec<_> = [0, 1, 999, 1_000, 1_001, 3_000]
            .map(|millis| limiter.refused(at(millis)))
            .into();
        assert_eq!(due, [Some(1), None, None, Some(3), None, Some(2)]);
    }
}
