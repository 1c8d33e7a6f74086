//! The front door as its clients see it: raw bytes in, raw bytes out.

#[cfg(test)]
mod door;

#[cfg(test)]
mod announced;
mod drain;
mod framing;
mod limits;
