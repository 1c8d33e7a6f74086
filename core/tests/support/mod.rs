//! What tests of machine 1 have in common.

use sluice_core::request::{Door, RequestContext, RequestId};
use sluice_core::time::Wall;
use std::net::IpAddr;

/// A POST of events of which nothing else is known.
pub(crate) fn request() -> RequestContext<'static> {
    RequestContext {
        method: "POST",
        uri: "/v1/events",
        path: "/v1/events",
        query: None,
        user_agent: None,
        forwarded_for: None,
        peer: IpAddr::from([192, 0, 2, 7]),
        id: RequestId(42),
        privacy: Default::default(),
        received_at: Wall {
            secs: 1_719_469_185,
            nanos: 547_102_438,
        },
        door: Door {
            endpoint: "events",
            listener: "listen",
            host: None,
        },
    }
}
