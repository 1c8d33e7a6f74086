//! What a connection does with the codec, without a connection: for tests and for fuzzing.

use super::{Chunked, Framing, decode};
use crate::http::limits::HttpLimits;

/// Requests one after the other, as a connection reads them.
#[derive(Default)]
pub(super) struct Reader {
    held: Vec<u8>,
    body: Option<Body>,
    /// Bytes that belong to complete requests.
    pub(super) passed: Vec<u8>,
}

enum Body {
    Length(u64),
    Chunked(Chunked),
}

impl Reader {
    pub(super) fn feed(&mut self, piece: &[u8], limits: &HttpLimits) -> Result<(), String> {
        self.held.extend_from_slice(piece);
        loop {
            let used = match &mut self.body {
                None => {
                    let Some(head) = decode(&self.held, limits).map_err(|no| no.code.name)? else {
                        return Ok(());
                    };
                    self.body = match head.framing() {
                        Framing::Length(0) => None,
                        Framing::Length(length) => Some(Body::Length(length)),
                        Framing::Chunked => {
                            Some(Body::Chunked(Chunked::new(limits.head_bytes_max)))
                        }
                    };
                    head.bytes()
                }
                Some(Body::Length(left)) => {
                    let used = self
                        .held
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= used as u64;
                    if *left == 0 {
                        self.body = None;
                    }
                    used
                }
                Some(Body::Chunked(chunks)) => {
                    let piece = chunks.next(&self.held).map_err(|_| "body".to_owned())?;
                    let used = piece.used;
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
}

/// Feeds `input` in pieces of `step` bytes, and returns what passed and how it was stopped.
pub(super) fn feed(input: &[u8], step: usize, limits: &HttpLimits) -> (Vec<u8>, Option<String>) {
    let mut reader = Reader::default();
    for piece in input.chunks(step) {
        if let Err(code) = reader.feed(piece, limits) {
            return (reader.passed, Some(code));
        }
    }
    (reader.passed, None)
}
