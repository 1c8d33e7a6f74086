//! A request as handlers see it, whichever version of HTTP it came in.

use super::h1::{Known, RequestHead};
use super::peer::Peer;
use crate::net::proxy_protocol::Notes;
use bytes::Bytes;
use sluice_core::budget::{Permit, Source};
use sluice_core::privacy::{RequestPrivacy, Signals};
use sluice_core::request::RequestId;
use sluice_core::time::{Mono, Wall};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;

/// The head of one request, borrowed from its bytes.
#[derive(Debug)]
pub struct Head<'b> {
    pub(super) head: RequestHead<'b>,
    pub(super) peer: &'b Peer,
    pub(super) id: RequestId,
    pub(super) received_at: Mono,
    pub(super) received_wall: Wall,
}

impl<'b> Deref for Head<'b> {
    type Target = RequestHead<'b>;

    fn deref(&self) -> &RequestHead<'b> {
        &self.head
    }
}

impl Head<'_> {
    /// The peer of the connection, or the client that a PROXY header named.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer.address
    }

    /// For whom the bytes of this request are counted; `None` for a trusted proxy, which has many clients.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        self.peer.source
    }

    /// The name of the listener that it came to.
    #[must_use]
    pub fn listener(&self) -> &Arc<str> {
        &self.peer.listener
    }

    /// Whether the peer is a proxy that is believed about its clients' addresses.
    #[must_use]
    pub fn is_from_trusted_peer(&self) -> bool {
        self.peer.is_trusted
    }

    /// What the client says about its privacy, and its listener's rule for addresses.
    #[must_use]
    pub fn privacy(&self) -> RequestPrivacy {
        let says = |known, word: &[u8]| self.all(known).any(|value| value == word);
        RequestPrivacy {
            signals: Signals {
                gpc: says(Known::SecGpc, b"1"),
                dnt: says(Known::Dnt, b"1")
                    .then_some(true)
                    .or_else(|| says(Known::Dnt, b"0").then_some(false)),
                sp_anonymous: self.first(Known::SpAnonymous).is_some(),
            },
            addresses: self.peer.addresses,
        }
    }

    /// Whom the client's certificate names (RFC 4514), where the listener asks for one.
    #[must_use]
    pub fn client_subject(&self) -> Option<&str> {
        self.peer.subject.as_deref()
    }

    /// What a PROXY header said besides the client's address: the VPC endpoint, the client's TLS.
    #[must_use]
    pub fn proxy_notes(&self) -> Option<&Notes> {
        self.peer.notes.as_deref()
    }

    /// The id of this request, which the answer carries as `X-Request-ID`.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// When the whole head was here.
    #[must_use]
    pub fn received_at(&self) -> Mono {
        self.received_at
    }

    /// The same moment on the wall clock.
    #[must_use]
    pub fn received_wall(&self) -> Wall {
        self.received_wall
    }
}

/// The whole body of a request, without chunks and within the limit that the handler set.
#[derive(Debug)]
pub struct Body<'b> {
    pub(super) bytes: BodyBytes<'b>,
    /// The part of the byte budget that a body has for which memory was taken while it arrived.
    pub(super) permit: Option<Permit>,
}

#[derive(Debug)]
pub(super) enum BodyBytes<'b> {
    /// In the buffer that all connections of the core share.
    Borrowed(&'b [u8]),
    Owned(Bytes),
}

impl Body<'_> {
    /// Its bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match &self.bytes {
            BodyBytes::Borrowed(bytes) => bytes,
            BodyBytes::Owned(bytes) => bytes,
        }
    }

    /// The permit for its memory, where it took some; it is the caller's from now on.
    pub fn take_permit(&mut self) -> Option<Permit> {
        self.permit.take()
    }

    /// Its bytes, for longer than the call that handles the request. Copies those of a small request.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.bytes {
            BodyBytes::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            BodyBytes::Owned(bytes) => bytes,
        }
    }
}
