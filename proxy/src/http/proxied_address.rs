//! The client of a connection: its peer, or the address that a balancer sends before the first byte of
//! HTTP. Holds that header to the deadline of heads and counts it; parsing it is
//! [`net::proxy_protocol`](crate::net::proxy_protocol)'s job.

use crate::net::listener::ListenerRules;
use crate::net::proxy_protocol::{NoClient, Notes, read_header};
use crate::runtime::context::WorkerContext;
use crate::runtime::sockets::Stream;
use sluice_core::privacy::Shown;
use std::fmt::Display;
use std::net::SocketAddr;

/// Who connected to the proxy in front.
pub(super) struct Proxied {
    pub(super) client: SocketAddr,
    pub(super) notes: Option<Box<Notes>>,
}

/// The client of a new connection; `None` when the connection has to be closed: the header is missing
/// or malformed, or the peer may not send one.
pub(super) async fn client_of(
    stream: &Stream,
    peer: SocketAddr,
    rules: &ListenerRules,
    context: &WorkerContext,
) -> Option<Proxied> {
    let shown = rules.shown(peer.ip());
    if !rules.may_announce(peer.ip()) {
        refuse(
            context,
            shown,
            &"proxy_protocol_from does not list the peer",
        );
        return None;
    }
    match read_header(stream).await {
        Ok(header) => Some(Proxied {
            client: header.client.unwrap_or(peer),
            notes: header.notes,
        }),
        // Balancers connect to see whether anybody listens, and leave.
        Err(NoClient::Silent) => None,
        Err(error) => {
            refuse(context, shown, &error);
            None
        }
    }
}

fn refuse(context: &WorkerContext, peer: Shown, reason: &dyn Display) {
    // Logged once per core: where balancer and setting disagree, every connection fails.
    if context.stats.proxy_headers_refused.get() == 0 {
        tracing::warn!(
            %peer,
            %reason,
            "closed a connection without the header that proxy_protocol requires; further ones are counted only"
        );
    }
    context.stats.proxy_headers_refused.increment();
}
