//! A request as records quote it, and what it brings besides its events.

use super::WhichPlan;
use crate::http::{Head, Known};
use sluice_core::budget::Permit;
use sluice_core::privacy::RequestPrivacy;
use sluice_core::request::{Door, RequestContext, RequestId};
use sluice_core::time::{Mono, Wall};
use std::net::IpAddr;
use std::sync::Arc;

/// What a request brings besides its events.
pub(super) struct Order {
    pub(super) permit: Permit,
    pub(super) answer_by: Mono,
    pub(super) plan: WhichPlan,
    /// Nobody sends it again if it is shed.
    pub(super) is_unrepeatable: bool,
}

/// A request as records quote it.
pub(super) fn context_of<'h>(
    head: &'h Head<'_>,
    forwarded_for: Option<&'h [u8]>,
    endpoint: &'h str,
) -> RequestContext<'h> {
    RequestContext {
        method: head.method(),
        uri: head.path_and_query(),
        path: head.path(),
        query: head.query(),
        user_agent: head.first(Known::UserAgent),
        forwarded_for,
        peer: head.peer().ip(),
        id: head.id(),
        received_at: head.received_wall(),
        door: Door {
            endpoint,
            listener: head.listener(),
            host: head.host(),
        },
        privacy: head.privacy(),
    }
}

/// The parts of a request that records quote, without its connection.
pub(super) struct OwnedRequest {
    pub(super) method: String,
    pub(super) uri: String,
    pub(super) path_bytes: usize,
    pub(super) user_agent: Option<Vec<u8>>,
    pub(super) forwarded_for: Option<Vec<u8>>,
    pub(super) peer: IpAddr,
    pub(super) id: RequestId,
    pub(super) received_at: Wall,
    pub(super) endpoint: &'static str,
    pub(super) listener: Arc<str>,
    pub(super) host: Option<Vec<u8>>,
    pub(super) privacy: RequestPrivacy,
}

impl OwnedRequest {
    pub(super) fn context(&self) -> RequestContext<'_> {
        RequestContext {
            method: &self.method,
            uri: &self.uri,
            path: &self.uri[..self.path_bytes],
            query: self.uri.get(self.path_bytes + 1..),
            user_agent: self.user_agent.as_deref(),
            forwarded_for: self.forwarded_for.as_deref(),
            peer: self.peer,
            id: self.id,
            received_at: self.received_at,
            door: Door {
                endpoint: self.endpoint,
                listener: &self.listener,
                host: self.host.as_deref(),
            },
            privacy: self.privacy,
        }
    }
}
