//! The client of a connection: its peer, or the address that a balancer sends before the first byte of
//! HTTP. Holds that header to the deadline of heads and counts it; parsing it is
//! [`net::proxy_protocol`](crate::net::proxy_protocol)'s job.

use crate::context::WorkerContext;
use crate::net::proxy_protocol::{NoClient, read_client};
use crate::net::socket::Stream;
use std::net::SocketAddr;

/// The client of a new connection; `None` when the connection has to be closed: the header is missing
/// or malformed.
pub(super) async fn client_of(
    stream: &Stream,
    peer: SocketAddr,
    context: &WorkerContext,
) -> Option<SocketAddr> {
    let stats = &context.stats;
    let client = match read_client(stream).await {
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
    Some(client)
}
