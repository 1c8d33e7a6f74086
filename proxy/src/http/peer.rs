//! Who is at the other end of a connection.

use super::h1;
use super::head::Head;
use super::server::Request;
use crate::net::listener::ListenerRules;
use crate::net::proxy_protocol::Notes;
use sluice_core::budget::Source;
use sluice_core::privacy::AddressRule;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Peer {
    /// The peer, or the client that a PROXY header named.
    pub(super) address: SocketAddr,
    /// For whom bytes are counted; `None` for trusted proxies.
    pub(super) source: Option<Source>,
    /// The listener that it came to.
    pub(super) listener: Arc<str>,
    /// Its X-Forwarded-For is believed.
    pub(super) is_trusted: bool,
    /// What its listener stores of addresses, where it decides.
    pub(super) addresses: Option<AddressRule>,
    /// Whom its certificate names.
    pub(super) subject: Option<Box<str>>,
    /// What a PROXY header said besides.
    pub(super) notes: Option<Box<Notes>>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, rules: &ListenerRules) -> Peer {
        Peer {
            address,
            source: None,
            listener: Arc::clone(&rules.name),
            is_trusted: rules.trusts(address.ip()),
            addresses: rules.addresses,
            subject: None,
            notes: None,
        }
    }

    /// Of no importance.
    pub(super) fn nobody() -> Peer {
        Peer {
            address: SocketAddr::from(([0, 0, 0, 0], 0)),
            source: None,
            listener: Arc::default(),
            is_trusted: false,
            addresses: None,
            subject: None,
            notes: None,
        }
    }

    pub(super) fn head_of<'b>(&'b self, request: &Request, head: h1::RequestHead<'b>) -> Head<'b> {
        Head {
            head,
            peer: self,
            id: request.id,
            received_at: request.received_at,
            received_wall: request.received_wall,
        }
    }
}
