//! Sockets in, answers out: the proxy as a library, so that its tests can reach every room.
#![deny(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod config;
