//! The HTTP server as its clients see it: raw bytes in, raw bytes out.

#[cfg(test)]
mod server;

mod drain;
mod framing;
mod limits;
#[cfg(test)]
mod proxied_address;
