//! Whose a connection is: its peer, or the client that a balancer announces before the first byte of
//! HTTP. Holds the announcement to the time of a head and counts it; how it reads is
//! [`net::proxy_protocol`](crate::net::proxy_protocol)'s business.

use super::conn::Shared;
use super::conn_table::{ConnState, End};
use crate::net::listener::ConnectionPermit;
use crate::net::poller::Stream;
use crate::net::proxy_protocol::{NoClient, read_client};
use std::net::SocketAddr;

/// The client of a new connection; `None` when the connection is to be closed: it was not announced
/// as it has to be, or its client has as many connections as it may.
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
        // Balancers connect to see whether somebody listens, and go.
        Err(NoClient::Silent) => return None,
        Err(error) => {
            // Aloud once per core: where balancer and setting disagree it is every connection.
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
    if !permit.belongs_to(client.ip()) {
        stats.connections_capped.increment();
        return None;
    }
    Some(client)
}
