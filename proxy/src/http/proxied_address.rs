//! The client of a connection: its peer, or the address that a balancer sends before the first byte of
//! HTTP. Holds that header to the deadline of heads and counts it; parsing it is
//! [`net::proxy_protocol`](crate::net::proxy_protocol)'s job.

use super::conn::Shared;
use super::conn_table::{ConnState, End};
use crate::net::listener::ConnectionPermit;
use crate::net::poller::Stream;
use crate::net::proxy_protocol::{NoClient, read_client};
use std::net::SocketAddr;

/// The client of a new connection; `None` when the connection has to be closed: the header is missing
/// or malformed, or the client has as many connections as it may.
pub(super) async fn client_of(
    stream: &Stream,
    peer: SocketAddr,
    permit: &mut ConnectionPermit,
    shared: &Shared,
    state: &ConnState,
) -> Option<SocketAddr> {
    if !permit.awaits_client() {
        return Some(peer);
    }
    let stats = &shared.context.stats;
    let is_over = |waker: &_| {
        state.register(waker);
        state.end.get() != End::Open
    };
    // In a box: most of a connection's life is after it.
    let client = match Box::pin(read_client(stream, is_over)).await {
        Ok(client) => client.unwrap_or(peer),
        // Balancers connect to see whether anybody listens, and leave.
        Err(NoClient::Silent) => return None,
        Err(error) => {
            // Logged once per core: where balancer and setting disagree, every connection fails.
            if stats.proxy_headers_refused.get() == 0 {
                tracing::warn!(
                    %peer,
                    %error,
                    "closed a connection without the header that listen.proxy_protocol requires; \
                     further ones are counted only"
                );
            }
            stats.proxy_headers_refused.increment();
            return None;
        }
    };
    if let Err(cap) = permit.belongs_to(client.ip()) {
        permit.note_refusal(&shared.context, client.ip(), cap);
        return None;
    }
    Some(client)
}
