//! What a connection does with the codec, without a connection: for tests and for fuzzing.

use super::{Chunked, Framing, Refusal, decode};
use crate::http::limits::HttpLimits;

/// Requests one after the other, as a connection reads them.
#[derive(Default)]
pub(super) struct Reader {
    held: Vec<u8>,
    body: Option<Body>,
    pub(super) heads: u32,
    /// Of all bodies, without chunks.
    pub(super) content: Vec<u8>,
    /// Bytes that belong to complete requests.
    pub(super) passed: Vec<u8>,
}

enum Body {
    Length(u64),
    Chunked(Chunked),
}

impl Reader {
    pub(super) fn feed(&mut self, piece: &[u8], limits: &HttpLimits) -> Result<(), Refusal> {
        self.held.extend_from_slice(piece);
        loop {
            let used = match &mut self.body {
                None => {
                    let Some(head) = decode(&self.held, limits)? else {
                        return Ok(());
                    };
                    self.body = match head.framing() {
                        Framing::Length(0) => None,
                        Framing::Length(length) => Some(Body::Length(length)),
                        Framing::Chunked => {
                            Some(Body::Chunked(Chunked::new(limits.head_bytes_max)))
                        }
                    };
                    self.heads += 1;
                    head.bytes()
                }
                Some(Body::Length(left)) => {
                    let used = self
                        .held
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= used as u64;
                    self.content.extend_from_slice(&self.held[..used]);
                    if *left == 0 {
                        self.body = None;
                    }
                    used
                }
                Some(Body::Chunked(chunks)) => {
                    let piece = chunks.next(&self.held)?;
                    let used = piece.used;
                    self.content.extend_from_slice(piece.content);
                    if chunks.is_complete() {
                        self.body = None;
                    }
                    used
                }
            };
            if used == 0 && self.body.is_some() {
                return Ok(());
            }
            self.passed.extend(self.held.drain(..used));
        }
    }

    /// Whether a body has begun and is not complete.
    #[cfg(fuzzing)]
    pub(super) fn is_in_body(&self) -> bool {
        self.body.is_some()
    }
}
