//! The HTTP server as its clients see it: raw bytes in, raw bytes out.

#[cfg(test)]
mod h2_client;
#[cfg(test)]
mod server;

mod drain;
mod framing;
#[cfg(test)]
mod h2;
mod limits;
#[cfg(test)]
mod proxied_address;
#[cfg(test)]
mod swaps;
