//! Unpacks what a client packed: content codings (RFC 9110 section 8.4), and the wrappings that SDKs put
//! around events without a header that says so. Knows no header names, and of JSON only the first byte.
//!
//! A packed body costs more than its bytes say, so three bounds hold for every layer: its output is at most
//! [`inflated_limit`], the units that the decoder has to set itself up for are paid for by bytes sent (`meter`),
//! and there is one layer unless configured otherwise.

mod brotli;
mod codings;
mod deflate;
mod limits;
mod meter;
mod snappy;
#[cfg(test)]
mod tests;
mod unwrap;
mod zstd;

pub use codings::{AcceptedCodings, Coding, CodingError, Codings};
pub use limits::{CODINGS_CEILING, CODINGS_MAX, RATIO_FREE_BYTES, RATIO_MAX, inflated_limit};
pub use unwrap::{UnwrapLimits, looks_like_events, unwrap_events};

use crate::reject::Reject;
use limits::{DEFLATE_BLOCKS, ZSTD_BLOCKS};
use meter::{Fault, Meter};
use std::borrow::Cow;

impl Codings {
    /// Undoes them, the last one first. Without any, the body as it is. No layer may give more than `limit`
    /// bytes.
    ///
    /// # Errors
    /// [`Reject::InflatedTooLarge`], [`Reject::Broken`], [`Reject::CodingOverhead`].
    pub fn undo<'a>(&self, body: &'a [u8], limit: usize) -> Result<Cow<'a, [u8]>, Reject> {
        let mut body = Cow::Borrowed(body);
        for coding in self.0.iter().rev() {
            body = Cow::Owned(coding.undo(&body, limit)?);
        }
        Ok(body)
    }
}

impl Coding {
    fn undo(self, body: &[u8], limit: usize) -> Result<Vec<u8>, Reject> {
        let coding = self.name();
        let allowance = match self {
            Coding::Zstd => ZSTD_BLOCKS,
            _ => DEFLATE_BLOCKS,
        };
        let limit = match self {
            Coding::Brotli => limit.min(brotli::output_limit(body.len())),
            _ => limit,
        };
        let meter = &mut Meter::new(body.len(), allowance, limit);
        let done = match self {
            Coding::Gzip => deflate::inflate(body, deflate::Format::Gzip, meter),
            Coding::Deflate if is_zlib(body) => {
                deflate::inflate(body, deflate::Format::Zlib, meter)
            }
            Coding::Deflate => deflate::inflate(body, deflate::Format::Raw, meter),
            Coding::Zstd => zstd::decompress(body, meter),
            Coding::Brotli => brotli::decompress(body, meter),
            Coding::Snappy => snappy::decompress(body, meter),
        };
        done.map_err(|fault| match fault {
            Fault::Broken => Reject::Broken { coding },
            Fault::TooLarge => Reject::InflatedTooLarge { limit },
            Fault::Overhead {
                what,
                limit,
                actual,
            } => Reject::CodingOverhead {
                coding,
                what,
                limit,
                actual,
            },
        })
    }
}

/// The header of a zlib stream: method 8, and a check of both bytes (RFC 1950 section 2.2).
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [first, second, ..] => {
            first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31)
        }
        _ => false,
    }
}
