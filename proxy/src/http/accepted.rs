//! An accepted connection: whose it is, whether it speaks TLS, and which HTTP it goes on in.

use super::answer::{Answer, ErrorBody};
use super::conn::{Connection, Ending};
use super::h1::Closing;
use super::peer::Peer;
use super::proxied_address::client_of;
use super::server::HttpServer;
use super::transport::Transport;
use super::{Handler, h2};
use crate::error_code as code;
use crate::net::listener::{Accepted, ConnectionPermit, ListenerRules};
use crate::net::tls::{HandshakeError, Tls};
use crate::runtime::context::WorkerContext;
use crate::runtime::sockets::Stream;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

/// A connection over a cap has this long to send the head of a request, and gets its answer then.
pub(super) const OVERFLOW_DEADLINE: Duration = Duration::from_secs(2);

/// Serves one accepted connection to its end, and gives its place back then.
pub(crate) async fn serve<H: Handler>(accepted: Accepted, server: Rc<HttpServer<H>>) {
    let Accepted {
        stream,
        peer: address,
        mut permit,
        rules,
    } = accepted;
    let context = &server.context;
    let _open = Open::count(context, permit.is_some());
    let mut is_over_cap = permit.is_none();
    let limits = &server.limits;
    let now = context.now();
    stream.rest(now);
    stream.set_deadline(now + limits.head_deadline);
    let mut peer = Peer::new(address, &rules);
    if rules.proxy_protocol_from.is_some() {
        // In a box: most of a connection's life is after it.
        match Box::pin(client_of(&stream, address, &rules, context)).await {
            Some(proxied) => {
                peer = Peer::new(proxied.client, &rules);
                peer.notes = proxied.notes;
            }
            None => return,
        }
        if let Some(permit) = &mut permit
            && let Err(cap) = permit.belongs_to(peer.address.ip(), &rules)
        {
            permit.note_refusal(context, rules.shown(peer.address.ip()), cap);
            is_over_cap = true;
        }
    }
    let transport = match &rules.tls {
        None => Transport::plain(stream),
        Some(tls) => match Box::pin(secure(stream, tls, &rules, &server)).await {
            Some(transport) => transport,
            None => return,
        },
    };
    peer.subject = transport.client_subject();
    peer.source = permit.as_ref().and_then(ConnectionPermit::source);
    let retire_at = now + jittered(limits.connection_life);
    if transport.speaks_http2() {
        let served = h2::serve(transport, Vec::new(), peer, server, retire_at, is_over_cap);
        return Box::pin(served).await;
    }
    let head_deadline = if is_over_cap {
        limits.head_deadline.min(OVERFLOW_DEADLINE)
    } else {
        limits.head_deadline
    };
    let mut connection = Connection::new(&server, transport, peer);
    connection.is_over_cap = is_over_cap;
    connection.may_begin_with_http2 = rules.http2_prior_knowledge;
    connection.idle_deadline = context.recent() + head_deadline;
    connection.retire_at = retire_at;
    loop {
        // In a box that a connection at rest does not have: most connections are at rest most of the time.
        match Box::pin(connection.run(head_deadline)).await {
            Ending::Rest => connection.rest().await,
            Ending::Close => {
                if connection.transport.says_goodbye() {
                    connection.say_goodbye().await;
                }
                return;
            }
            Ending::Linger => return connection.linger().await,
            Ending::Http2 => {
                let (transport, held, peer) = connection.into_parts();
                let server = Rc::clone(&server);
                let served = h2::serve(transport, held, peer, server, retire_at, is_over_cap);
                return Box::pin(served).await;
            }
        }
    }
}

/// Shakes hands; `None` when there is no TLS with this client, who has been told so if it can be.
async fn secure<H: Handler>(
    stream: Stream,
    tls: &Tls,
    rules: &ListenerRules,
    server: &HttpServer<H>,
) -> Option<Transport> {
    let context = &server.context;
    stream.set_deadline(context.now() + rules.handshake_deadline);
    // A connection that never sends a byte takes no place.
    if !matches!(poll_fn(|cx| stream.poll_begun(cx)).await, Ok(true)) {
        return None;
    }
    let handshake = rules.handshakes.begin(&stream);
    let secured = Transport::secured(stream, tls).await;
    drop(handshake);
    let stats = &context.stats;
    match secured {
        Ok(transport) => {
            if transport.is_resumed() {
                stats.tls_resumed.increment();
            } else {
                stats.tls_full.increment();
            }
            transport
                .stream()
                .set_deadline(context.now() + server.limits.head_deadline);
            Some(transport)
        }
        // Balancers connect to see whether anybody listens, and leave.
        Err((_, HandshakeError::Ended)) => None,
        Err((stream, HandshakeError::PlainHttp)) => {
            stats.tls_failed.increment();
            let error = ErrorBody::new(
                code::PLAIN_HTTP,
                "this port speaks HTTP over TLS: begin with https://",
            );
            let request = server.refused(None);
            let answer = Answer::from(&error);
            server.count(&request, &answer);
            let connection = Connection::new(server, Transport::plain(stream), Peer::nobody());
            connection.write(&request, &answer, Closing::Close).await;
            connection.linger().await;
            None
        }
        Err(_) => {
            stats.tls_failed.increment();
            None
        }
    }
}

fn jittered(life: Duration) -> Duration {
    life.mul_f64(1.0 - fastrand::f64() / 10.0)
}

/// Counts a connection while it is open: in the gauge, or among those over a cap.
struct Open {
    context: Rc<WorkerContext>,
    is_in_gauge: bool,
}

impl Open {
    fn count(context: &Rc<WorkerContext>, is_in_gauge: bool) -> Open {
        let open = Open {
            context: Rc::clone(context),
            is_in_gauge,
        };
        open.change(|count| count + 1);
        open
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        if self.is_in_gauge {
            let gauge = &self.context.stats.connections_open;
            gauge.set(change(gauge.get()));
        } else {
            self.context
                .overflow
                .set(change(self.context.overflow.get()));
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.change(|count| count.saturating_sub(1));
    }
}
