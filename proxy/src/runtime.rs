//! The runtime of one core: monoio on io_uring or epoll ([`driver`]), the readiness set of its sockets with their
//! deadlines (`sockets`), both clocks ([`clock`]), how far the process is on its way out ([`drain`]), and what the
//! code of one core shares ([`context`]).
//!
//! Knows nothing above it: neither listeners nor HTTP. [`worker`](crate::worker) starts one per core.

pub mod clock;
pub mod context;
pub mod drain;
pub mod driver;
pub(crate) mod sockets;
