//! Machine 1: turns a request into records. Read this first.
//!
//! ```text
//! both       undo the content codings
//! envelope   the whole body, escaped, in one record with the request's metadata
//! event      unwrap gzip and base64 -> split the body -> scan each event -> privacy -> rules, key -> splice the
//!            server's fields in
//!            (an invalid event is rejected alone)
//! ```
//! No I/O, no clock, no randomness: request, body and limits come in, records and rejects go out.
//! Delivering the records is machine 2's job (`delivery`).

use crate::plan::{Mode, Plan};
use crate::prepared::Prepared;
use crate::reject::Reject;
use crate::request::RequestContext;
use crate::sent::{SentBody, check_marks};
use crate::{envelope, event};

impl Plan {
    /// Turns one request into records and replaces the contents of `out`. A record, key included, may have
    /// at most `record_bytes_max` bytes, the smallest limit among the destinations. An event that is too
    /// deep or too large is rejected alone, even if it is the only one; so is an array element or a line
    /// that is not an object.
    ///
    /// # Errors
    /// The whole body is rejected, and `out` is empty. Both modes: [`Reject::Broken`],
    /// [`Reject::InflatedTooLarge`], [`Reject::CodingOverhead`], [`Reject::RecordsTooLarge`]. Envelope mode:
    /// [`Reject::RecordTooLarge`]. Event mode: [`Reject::TooManyCodings`], [`Reject::NotJson`],
    /// [`Reject::NotUtf8`], [`Reject::NotAnObject`] (the body is one JSON value and that is no object),
    /// [`Reject::NoEvents`], [`Reject::TooManyEvents`]; for a body of 4 GiB [`Reject::BodyTooLarge`].
    pub fn run<'a>(
        &self,
        request: &RequestContext<'_>,
        body: impl Into<SentBody<'a>>,
        record_bytes_max: usize,
        out: &mut Prepared,
    ) -> Result<(), Reject> {
        out.clear();
        let result = self.prepare(request, &body.into(), record_bytes_max, out);
        if result.is_err() {
            out.clear();
        }
        assert!(
            out.received as usize == out.records.len() + out.rejected.len() + out.withheld.len(),
            "an event was lost between body and records"
        );
        result
    }

    fn prepare(
        &self,
        request: &RequestContext<'_>,
        body: &SentBody<'_>,
        record_bytes_max: usize,
        out: &mut Prepared,
    ) -> Result<(), Reject> {
        let inflated_max = self.inflated_limit(body.bytes.len());
        let body = &SentBody {
            inflated_bytes_max: body.inflated_bytes_max.min(inflated_max),
            ..*body
        };
        let decoded = body.codings.undo(body.bytes, body.inflated_bytes_max)?;
        if let Some(coding) = body.codings.first() {
            check_marks(&decoded, body.bytes.len(), coding.name())?;
        }
        out.unpacked_bytes = decoded.len();
        let prepare = match self.mode {
            Mode::Envelope => envelope::prepare,
            Mode::Event => event::prepare,
        };
        prepare(self, request, body, &decoded, record_bytes_max, out)
    }
}
