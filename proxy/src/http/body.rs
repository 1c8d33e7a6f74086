//! The bodies of requests that were not there with their heads: read under their deadlines, kept under the budget.

use super::Handler;
use super::answer::{Answer, ErrorBody};
use super::conn::{Connection, millis};
use super::h1::{Chunked, Framing, Refusal};
use super::limits::HttpLimits;
use crate::error_code as code;
use sluice_core::time::Mono;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::task::{Poll, ready};
use std::time::Duration;

/// A body that is slow is looked at this often.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Why a body is not complete.
pub(super) enum BodyEnd {
    /// The connection broke, or is to end.
    Gone,
    /// The client ended it early.
    BrokenOff,
    TooSlow {
        limit: Duration,
        actual: Duration,
    },
    TooLarge,
    Malformed(Refusal),
    /// There is no memory for it.
    NoBudget,
}

/// The content of a body in chunks, and what was read behind it.
pub(super) struct Dechunked {
    pub(super) content: Vec<u8>,
    pub(super) next: Vec<u8>,
}

impl<H: Handler> Connection<'_, H> {
    /// Reads the rest of a request's body. What is held becomes the head and, of an announced length, the body;
    /// the content of chunks is returned apart. With an error comes what is left of the body, if that is known.
    pub(super) async fn body(
        &mut self,
        framing: Framing,
        head_bytes: usize,
        limit: usize,
        waits: bool,
    ) -> Result<Option<Dechunked>, (BodyEnd, Option<u64>)> {
        self.held.drain(..self.used);
        self.used = 0;
        if waits && !self.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await {
            return Err((BodyEnd::Gone, None));
        }
        let begun = self.server.context.now();
        self.begin_body(begun);
        match framing {
            Framing::Length(length) => {
                // Within the limit, which is a usize.
                let end = head_bytes + usize::try_from(length).unwrap_or(limit);
                let result = self.read_to(end, begun).await;
                // A client that waited for `100 Continue` has had it.
                result
                    .map(|()| None)
                    .map_err(|(why, left)| (why, Some(left as u64)))
            }
            Framing::Chunked => {
                let read = self.read_chunks(head_bytes, limit, begun).await;
                read.map(Some).map_err(|why| (why, None))
            }
        }
    }

    /// Reads until so many bytes are held, and not one more. With an error comes how many are still to come.
    async fn read_to(&mut self, end: usize, begun: Mono) -> Result<(), (BodyEnd, usize)> {
        let mut left = end - self.held.len();
        let mut progress = 0;
        while left > 0 {
            let piece = self.piece(begun, progress, Some(left as u64), left, |this, bytes| {
                (this.keep_body(bytes, end), bytes.len())
            });
            let (kept, read) = piece.await.map_err(|why| (why, left))?;
            left -= read;
            progress += read as u64;
            if !kept {
                return Err((BodyEnd::NoBudget, left));
            }
        }
        Ok(())
    }

    /// Keeps a part of a request that ends after `end` bytes; `false` when there is no memory for it.
    fn keep_body(&mut self, bytes: &[u8], end: usize) -> bool {
        let at = self.held.len();
        let needed = at + bytes.len();
        if needed > self.held.capacity() {
            // Doubled, by what has arrived: an announcement alone takes no memory.
            let capacity = (2 * self.held.capacity()).clamp(needed, end.max(needed));
            if !self.reserve(capacity) {
                return false;
            }
            self.held.reserve_exact(capacity - at);
        }
        self.held.extend_from_slice(bytes);
        true
    }

    /// Reads a body in chunks. Only the head remains held.
    async fn read_chunks(
        &mut self,
        head_bytes: usize,
        limit: usize,
        begun: Mono,
    ) -> Result<Dechunked, BodyEnd> {
        let mut chunks = Chunked::new(self.server.limits.head_bytes_max);
        let first = self.held.split_off(head_bytes);
        let mut content = Vec::new();
        let mut progress = 0;
        let mut next = self.take_chunks(&mut chunks, &mut content, limit, &first)?;
        drop(first);
        while !chunks.is_complete() {
            let piece = self.piece(begun, progress, None, usize::MAX, |this, bytes| {
                let next = this.take_chunks(&mut chunks, &mut content, limit, bytes);
                (next, bytes.len())
            });
            let (rest, read) = piece.await?;
            next = rest?;
            progress += read as u64;
        }
        Ok(Dechunked { content, next })
    }

    /// Adds what `bytes` have of a body in chunks, and returns what they have behind it.
    fn take_chunks(
        &mut self,
        chunks: &mut Chunked,
        content: &mut Vec<u8>,
        limit: usize,
        bytes: &[u8],
    ) -> Result<Vec<u8>, BodyEnd> {
        let mut rest = bytes;
        while !rest.is_empty() && !chunks.is_complete() {
            let piece = chunks.next(rest).map_err(BodyEnd::Malformed)?;
            if piece.content.len() > limit - content.len() {
                return Err(BodyEnd::TooLarge);
            }
            content.extend_from_slice(piece.content);
            rest = &rest[piece.used..];
        }
        if !self.reserve(self.held.len() + content.capacity() + rest.len()) {
            return Err(BodyEnd::NoBudget);
        }
        Ok(rest.to_vec())
    }

    /// Reads once for a body that began then, at most `most` bytes, and gives them to `take`; `progress` bytes of the
    /// body have been read before, `left` are to come.
    async fn piece<R>(
        &mut self,
        begun: Mono,
        progress: u64,
        left: Option<u64>,
        most: usize,
        mut take: impl FnMut(&mut Self, &[u8]) -> R,
    ) -> Result<R, BodyEnd> {
        let server = self.server;
        loop {
            let piece = poll_fn(|cx| {
                let mut scratch = server.scratch.borrow_mut();
                let most = most.min(scratch.len());
                match ready!(self.poll_read(cx, &mut scratch[..most])) {
                    Ok(0) => Poll::Ready(Ok(None)),
                    Ok(read) => Poll::Ready(Ok(Some(take(self, &scratch[..read])))),
                    Err(error) => Poll::Ready(Err(error)),
                }
            });
            match piece.await {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) => return Err(BodyEnd::BrokenOff),
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    let now = server.context.now();
                    let limits = &server.limits;
                    let elapsed = now.since(begun);
                    if is_too_slow(elapsed, progress, left, limits) {
                        return Err(BodyEnd::TooSlow {
                            limit: limits.body_deadline,
                            actual: elapsed,
                        });
                    }
                    let next = now + LOOK_EVERY;
                    self.transport
                        .stream()
                        .set_deadline(if elapsed < limits.body_deadline {
                            next.min(begun + limits.body_deadline)
                        } else {
                            next
                        });
                }
                Err(_) => return Err(BodyEnd::Gone),
            }
        }
    }

    /// The answer to a request whose body did not come.
    pub(super) fn without_body(&self, end: BodyEnd, limit: usize, framing: Framing) -> Answer {
        let error = match end {
            BodyEnd::NoBudget => {
                return self.server.overloaded();
            }
            BodyEnd::TooLarge => {
                let announced = match framing {
                    Framing::Length(length) => Some(length),
                    Framing::Chunked => None,
                };
                return too_large(limit, announced);
            }
            BodyEnd::TooSlow { limit, actual } => {
                ErrorBody::new(code::BODY_TOO_SLOW, "the body did not arrive in time")
                    .over(millis(limit), millis(actual))
            }
            BodyEnd::BrokenOff | BodyEnd::Gone => {
                ErrorBody::new(code::BODY_BROKEN_OFF, "the body ended before its end")
            }
            BodyEnd::Malformed(refusal) => ErrorBody::from(refusal),
        };
        Answer {
            close: true,
            ..Answer::from(&error)
        }
    }

    /// Reads past the rest of a body that was answered without it.
    pub(super) async fn discard(&mut self, mut left: u64) -> bool {
        let begun = self.server.context.now();
        self.begin_body(begun);
        let mut progress = 0;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX);
            let piece = self.piece(begun, progress, Some(left), most, |_, bytes| {
                bytes.len() as u64
            });
            let Ok(read) = piece.await else {
                return false;
            };
            progress += read;
            left -= read;
        }
        true
    }

    /// From now on the body has to keep its rate.
    fn begin_body(&self, now: Mono) {
        let limits = &self.server.limits;
        let first_look = limits.body_grace.min(limits.body_deadline);
        self.transport.stream().set_deadline(now + first_look);
    }
}

pub(super) fn too_large(limit: usize, announced: Option<u64>) -> Answer {
    let message = format!("the body is over the limit of {limit} bytes");
    let error = ErrorBody::new(code::BODY_TOO_LARGE, message).over(limit as u64, announced);
    Answer::from(&error)
}

/// Whether a body of which so much has come in this time is given up.
pub(super) fn is_too_slow(
    elapsed: Duration,
    progress: u64,
    left: Option<u64>,
    limits: &HttpLimits,
) -> bool {
    let is_overdue =
        elapsed >= limits.body_deadline && !completes_in_time(elapsed, progress, left, limits);
    is_overdue || is_slow(elapsed, progress, limits)
}

/// Whether a body, at its average rate so far, is complete by the last deadline.
fn completes_in_time(
    elapsed: Duration,
    progress: u64,
    left: Option<u64>,
    limits: &HttpLimits,
) -> bool {
    let last = limits.body_deadline_last;
    left.is_some_and(|left| {
        elapsed < last
            && u128::from(left + progress) * elapsed.as_millis()
                <= u128::from(progress) * last.as_millis()
    })
}

fn is_slow(elapsed: Duration, progress: u64, limits: &HttpLimits) -> bool {
    let due = u128::from(limits.body_bytes_per_second_min) * elapsed.as_millis() / 1000;
    elapsed > limits.body_grace && u128::from(progress) < due
}
