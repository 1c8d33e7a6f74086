//! One connection's bytes into requests, and answers back into bytes.
//!
//! `accepted` finds out who has connected and what is spoken. In HTTP/1, `h1` knows what the bytes mean and does no
//! I/O, and `conn` carries it out on a socket under every limit of a connection. `server` is what the connections of
//! one core share. What a request is for is a [`Handler`]'s business.

mod accepted;
mod answer;
mod body;
mod client_addr;
mod conn;
mod cors;
mod h1;
mod h2;
mod head;
mod limits;
mod peer;
mod proxied_address;
mod server;
mod transport;
mod turns;

pub use answer::{Answer, ErrorBody};
pub use client_addr::{
    AddressPolicy, ClientAddressSettings, Forwarded, Ignored, NETWORKS_MAX, Network, NetworkError,
};
pub use cors::{
    Cors, CorsPolicy, CorsSettings, ORIGIN_BYTES_MAX, ORIGINS_MAX, OriginPattern,
    OriginPatternError,
};
#[cfg(fuzzing)]
pub use h1::fuzz as fuzz_h1;
pub use h1::{Framing, Known, Refusal, RequestHead, decode};
pub use head::{Body, Head};
pub use limits::{ACK_DEADLINE_MS, CLIENT_PATIENCE_MS, HttpLimits};
pub use server::AnswerSettings;

pub(crate) use accepted::serve;
pub(crate) use server::HttpServer;

use sluice_core::stats::EndpointLabel;
use sluice_core::time::Mono;
use std::future::Future;

/// What a handler says to a head whose request it takes.
#[derive(Debug)]
pub struct Admitted<R> {
    /// Bytes of the body at most, as it is sent without chunks; more is 413.
    pub body_bytes_max: usize,
    /// The counter of its answer.
    pub endpoint: EndpointLabel,
    /// What the handler wants to know when the body is here.
    pub route: R,
}

/// What answers the requests of one core. Its futures stay on that core.
pub trait Handler: 'static {
    /// What is kept of a head until its body is here.
    type Route: 'static;

    /// Decides by the head alone whether a request is taken.
    ///
    /// # Errors
    /// The answer of a request that is not taken, with its `endpoint`. Its body is not waited for.
    fn admit(&self, head: &Head<'_>) -> Result<Admitted<Self::Route>, Answer>;

    /// Answers one request. What needs the head or a borrowed body is done before it returns; its future waits for
    /// what takes time, and does not hold them. The connection counts the answer under the endpoint that
    /// [`Handler::admit`] said.
    fn handle<'s>(
        &'s self,
        head: &Head<'_>,
        route: Self::Route,
        body: Body<'_>,
    ) -> impl Future<Output = Answer> + use<'s, Self>;

    /// Runs on the handler's core about every 10 ms, whether or not there are requests.
    fn tick(&self, now: Mono) {
        let _ = now;
    }

    /// Runs once when the core ends: no connection is open any more, or the time for them is over.
    fn end(&self) {}
}
