//! The body of one request, read as a whole and up to a limit.

use super::answer::{Answer, ErrorBody};
use super::conn::Shared;
use super::conn_table::{ConnState, Phase, millis};
use crate::error_code;
use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;
use sluice_core::time::Mono;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A request's body that is not read yet.
///
/// A short unread rest is discarded after the response; a long one closes the connection.
/// A client that waits for `100 Continue` gets it when reading begins.
pub struct Body {
    incoming: Option<Incoming>,
    announced: Option<u64>,
    shared: Rc<Shared>,
    state: Rc<ConnState>,
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is longer than the reader allows.
    #[error("the body is over the limit of {limit} bytes")]
    TooLarge {
        /// Bytes that the reader allows.
        limit: u64,
        /// Its announced length, if there is one.
        actual: Option<u64>,
    },
    /// It arrived too late or too slowly for the [limits](super::HttpLimits).
    #[error("the body did not arrive in time")]
    TooSlow {
        /// The time that a body has, in milliseconds.
        limit_ms: u64,
        /// How long this one had been read, in milliseconds.
        actual_ms: u64,
    },
    /// The client ended it early.
    #[error("the body ended before its end")]
    BrokenOff,
    /// Its chunks are malformed, or too small for their number.
    #[error("the body's chunks are malformed, or too many and too small")]
    Malformed,
}

impl From<BodyError> for ErrorBody {
    fn from(error: BodyError) -> ErrorBody {
        let message = error.to_string();
        match error {
            BodyError::TooLarge { limit, actual } => {
                ErrorBody::new(error_code::BODY_TOO_LARGE, message).over(limit, actual)
            }
            BodyError::TooSlow {
                limit_ms,
                actual_ms,
            } => ErrorBody::new(error_code::BODY_TOO_SLOW, message).over(limit_ms, actual_ms),
            BodyError::BrokenOff => ErrorBody::new(error_code::BODY_BROKEN_OFF, message),
            BodyError::Malformed => ErrorBody::new(error_code::BODY_MALFORMED, message),
        }
    }
}

impl From<BodyError> for Answer {
    fn from(error: BodyError) -> Answer {
        Answer::from(&ErrorBody::from(error))
    }
}

impl Body {
    pub(super) fn new(incoming: Incoming, shared: Rc<Shared>, state: Rc<ConnState>) -> Body {
        Body {
            announced: incoming.size_hint().exact(),
            incoming: (!incoming.is_end_stream()).then_some(incoming),
            shared,
            state,
        }
    }

    /// Its length in bytes as the head announced it, 0 when there is no body; `None` when it comes in
    /// chunks.
    #[must_use]
    pub fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// Reads it all, at most `limit` bytes. A body that arrived in one piece is not copied. After
    /// an error, and when called again, there is nothing to read.
    ///
    /// # Errors
    /// See [`BodyError`]. An announced length over the limit is refused before anything is read.
    pub async fn read(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let too_large = BodyError::TooLarge {
            limit: limit as u64,
            actual: self.announced,
        };
        if self.announced.is_some_and(|length| length > limit as u64) {
            return Err(too_large);
        }
        let Some(incoming) = self.incoming.as_mut() else {
            return Ok(Bytes::new());
        };
        let room = self
            .announced
            .map_or(0, |length| usize::try_from(length).unwrap_or(limit));
        let mut first = Bytes::new();
        let mut all = BytesMut::new();
        let mut reading = Reading::new(&self.shared, &self.state);
        let result = loop {
            let piece = match reading.piece(incoming).await {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            };
            if first.len() + all.len() + piece.len() > limit {
                break Err(too_large);
            }
            if first.is_empty() && all.is_empty() {
                first = piece;
            } else {
                if all.is_empty() {
                    all.reserve(room.max(2 * (first.len() + piece.len())).min(limit));
                    all.extend_from_slice(&std::mem::take(&mut first));
                }
                all.extend_from_slice(&piece);
            }
            if incoming.is_end_stream() {
                break Ok(());
            }
        };
        drop(reading);
        match result {
            Ok(()) => {
                self.incoming = None;
                Ok(if all.is_empty() { first } else { all.freeze() })
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // The connection decides how to treat the rest.
        *self.state.unread.borrow_mut() = self.incoming.take();
    }
}

/// One reader of a body, under the body's deadline from its first wait on.
struct Reading<'a> {
    shared: &'a Shared,
    state: &'a ConnState,
    begun: bool,
}

impl<'a> Reading<'a> {
    fn new(shared: &'a Shared, state: &'a ConnState) -> Reading<'a> {
        Reading {
            shared,
            state,
            begun: false,
        }
    }

    /// The next piece, `None` at the end.
    async fn piece(&mut self, incoming: &mut Incoming) -> Result<Option<Bytes>, BodyError> {
        poll_fn(|cx| self.poll_piece(cx, incoming)).await
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        incoming: &mut Incoming,
    ) -> Poll<Result<Option<Bytes>, BodyError>> {
        loop {
            match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Ok(Some(data))),
                    // An empty piece, or trailers, which are ignored.
                    _ => {}
                },
                Poll::Ready(None) => return Poll::Ready(Ok(None)),
                Poll::Ready(Some(Err(_))) if self.state.body_malformed.get() => {
                    return Poll::Ready(Err(BodyError::Malformed));
                }
                Poll::Ready(Some(Err(_))) => {
                    self.state.body_broken_off.set(true);
                    return Poll::Ready(Err(BodyError::BrokenOff));
                }
                Poll::Pending if self.state.body_overdue.get() => {
                    let waited = self.shared.context.now().since(self.state.since.get());
                    return Poll::Ready(Err(BodyError::TooSlow {
                        limit_ms: millis(self.shared.limits.body_deadline),
                        actual_ms: millis(waited),
                    }));
                }
                Poll::Pending => {
                    if !self.begun {
                        self.begun = true;
                        let now = self.shared.context.now();
                        let left = incoming.size_hint().exact();
                        self.state.body_begins(now, left, &self.shared.limits);
                    }
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if self.begun {
            self.state.enter(Phase::Handler, Mono::NEVER);
        }
    }
}

/// Reads the rest of a body and discards it. `false` when the connection must close: the rest
/// is too long, of unknown length, too slow, or was never sent because the client waits for `100 Continue`.
pub(super) async fn discard(
    mut incoming: Incoming,
    waits_for_continue: bool,
    shared: &Shared,
    state: &ConnState,
) -> bool {
    let left = incoming.size_hint().exact();
    if waits_for_continue || left.is_none_or(|left| left > super::HttpLimits::DISCARD_BYTES_MAX) {
        return false;
    }
    let mut reading = Reading::new(shared, state);
    loop {
        match reading.piece(&mut incoming).await {
            Ok(Some(_)) if !incoming.is_end_stream() => {}
            Ok(_) => return true,
            Err(_) => return false,
        }
    }
}
