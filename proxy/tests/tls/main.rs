//! TLS of a listener against clients that we did not write: rustls' in memory, OpenSSL's over a socket.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#![forbid(unsafe_code)]

mod check;
mod clients;
mod files;
mod handshake;
mod memory;
mod openssl;
mod resumption;
mod stream;
mod support;
