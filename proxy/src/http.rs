//! One connection's bytes into requests, and answers back into bytes.
//!
//! The engine (hyper) and every limit of a connection live in here; no hyper type leaves. What
//! a request is for is a [`Handler`]'s business.

mod answer;
mod body;
mod client_addr;
mod conn;
mod conn_table;
mod cors;
mod framing;
mod io;
mod limits;
mod proxied_address;
mod turns;

pub use answer::{Answer, ErrorBody};
pub use body::{Body, BodyError};
pub use client_addr::{
    AddressPolicy, ClientAddressSettings, Forwarded, Ignored, NETWORKS_MAX, Network, NetworkError,
};
pub use conn::Head;
pub use cors::{
    Cors, CorsPolicy, CorsSettings, ORIGIN_BYTES_MAX, ORIGINS_MAX, OriginPattern,
    OriginPatternError,
};
#[cfg(fuzzing)]
pub use framing::fuzz as fuzz_framing;
pub use limits::{ACK_DEADLINE_MS, CLIENT_PATIENCE_MS, HttpLimits};

pub(crate) use conn::{HttpServer, serve};
pub(crate) use conn_table::SWEEP_EVERY;

use sluice_core::time::Mono;
use std::future::Future;

/// What answers the requests of one core. Its futures stay on that core.
pub trait Handler: 'static {
    /// Answers one request. An error of [`Body::read`] becomes an answer by `Answer::from`.
    fn handle(&self, head: &Head, body: &mut Body) -> impl Future<Output = Answer>;

    /// Runs on the handler's core about every 10 ms, whether or not there are requests.
    fn tick(&self, now: Mono) {
        let _ = now;
    }

    /// Runs once when the core ends: no connection is open any more, or the time for them is over.
    fn end(&self) {}
}
