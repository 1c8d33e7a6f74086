//! Sockets in, answers out: the front door of Sluice.
//!
//! A [`worker`] is one pinned core with its own runtime; [`net`] accepts its connections; [`http`]
//! turns their bytes into requests and answers into bytes. None of them knows what a request is for.
#![forbid(unsafe_code)]

pub mod http;
pub mod net;
pub mod worker;
