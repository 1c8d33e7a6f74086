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
//! What is rejected may leave a letter (`letter`). Delivering the records is machine 2's job (`delivery`).

use crate::letter::{Contents, Desk};
use crate::plan::{Mode, Plan};
use crate::prepared::{Prepared, RecordLimits};
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
    /// The whole body is rejected, and `out` has a letter at most. Both modes: [`Reject::Broken`],
    /// [`Reject::InflatedTooLarge`], [`Reject::CodingOverhead`], [`Reject::RecordsTooLarge`]. Envelope mode:
    /// [`Reject::RecordTooLarge`]. Event mode: [`Reject::TooManyCodings`], [`Reject::NotJson`],
    /// [`Reject::NotUtf8`], [`Reject::NotAnObject`] (the body is one JSON value and that is no object),
    /// [`Reject::NoEvents`], [`Reject::TooManyEvents`]; for a body of 4 GiB [`Reject::BodyTooLarge`].
    pub fn run<'a>(
        &self,
        request: &RequestContext<'_>,
        body: impl Into<SentBody<'a>>,
        limits: impl Into<RecordLimits>,
        out: &mut Prepared,
    ) -> Result<(), Reject> {
        out.clear();
        let result = self.prepare(request, &body.into(), limits.into(), out);
        let taken = out.taken_letters().count();
        assert!(
            out.received as usize
                == out.records.len() + out.rejected.len() + out.withheld.len() + taken,
            "an event was lost between body and records"
        );
        result
    }

    /// Leaves nothing in `out` but a letter about the whole body, of which `bytes` could be unpacked.
    fn refuse(
        &self,
        request: &RequestContext<'_>,
        (sent, bytes): (&SentBody<'_>, &[u8]),
        limits: RecordLimits,
        out: &mut Prepared,
        reject: &Reject,
    ) {
        out.clear();
        let Some(letters) = &self.letters else {
            return;
        };
        let contents = match &self.privacy {
            None => Contents::Bytes(bytes),
            // Nothing of such a request is stored.
            Some(privacy) if privacy.begin(request, 0).withholds(0) => return,
            Some(_) => Contents::Withheld(bytes.len()),
        };
        let Prepared {
            letters: written,
            letter_tally: tally,
            ..
        } = out;
        let bytes_max = limits.letters;
        Desk::new(letters, request, bytes_max, sent.sent_bytes, written, tally)
            .refused(reject, None, None, contents);
    }

    fn prepare(
        &self,
        request: &RequestContext<'_>,
        body: &SentBody<'_>,
        limits: RecordLimits,
        out: &mut Prepared,
    ) -> Result<(), Reject> {
        let inflated_max = self.inflated_limit(body.bytes.len());
        let body = &SentBody {
            inflated_bytes_max: body.inflated_bytes_max.min(inflated_max),
            ..*body
        };
        let refuse = |bytes: &[u8], out: &mut Prepared, reject: &Reject| {
            self.refuse(request, (body, bytes), limits, out, reject);
        };
        let unpacked = body.codings.undo(body.bytes, body.inflated_bytes_max);
        let decoded = match (unpacked, body.codings.first()) {
            (Ok(decoded), Some(coding)) => {
                check_marks(&decoded, body.bytes.len(), coding.name()).map(|()| decoded)
            }
            (unpacked, _) => unpacked,
        };
        let decoded = decoded.inspect_err(|reject| refuse(body.bytes, out, reject))?;
        out.unpacked_bytes = decoded.len();
        let prepare = match self.mode {
            Mode::Envelope => envelope::prepare,
            Mode::Event => event::prepare,
        };
        prepare(self, request, body, &decoded, limits, out)
            .inspect_err(|reject| refuse(&decoded, out, reject))?;
        out.priority = out.rules_scratch.priority.unwrap_or_default();
        Ok(())
    }
}
