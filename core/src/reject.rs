//! Why Sluice will not take a body or an event: always the client's doing, always with the numbers.
//!
//! Says nothing about status codes: the dialects do, each in its own way.

use crate::schema::Violation;
use thiserror::Error;

/// One reason to refuse a whole body, or one event of it. Offsets count bytes of the body from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Reject {
    /// The body is longer than the HTTP server accepts.
    #[error("the body is over the limit of {limit} bytes{}", Actual(*actual, "bytes"))]
    BodyTooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Bytes announced or counted; `None` when reading stopped at the limit.
        actual: Option<usize>,
    },
    /// Not JSON (RFC 8259): `what` was wrong at byte `at`.
    #[error("not JSON: {what} at byte {at}")]
    NotJson {
        /// Offset of the first byte that cannot be there; the body's length when it ends too early.
        at: usize,
        /// The reason.
        what: &'static str,
    },
    /// Not UTF-8, which JSON has to be.
    #[error("not UTF-8: invalid sequence at byte {at}")]
    NotUtf8 {
        /// Offset of the invalid sequence.
        at: usize,
    },
    /// Arrays and objects nested deeper than allowed; the event's own braces are level 1.
    #[error("nested deeper than the limit of {limit} levels at byte {at}")]
    TooDeep {
        /// Levels allowed.
        limit: usize,
        /// Offset of the first bracket or brace beyond them.
        at: usize,
    },
    /// Valid JSON, but an event has to be an object.
    #[error("not a JSON object at byte {at}")]
    NotAnObject {
        /// Offset of the value.
        at: usize,
    },
    /// More events in one body than allowed.
    #[error("{actual} events or more are over the limit of {limit} events in this request")]
    TooManyEvents {
        /// Events allowed.
        limit: usize,
        /// Events found before counting stopped.
        actual: usize,
    },
    /// The record would be larger than a destination takes.
    #[error("a record of {actual} bytes is over the limit of {limit} bytes")]
    RecordTooLarge {
        /// Bytes allowed, partition key included.
        limit: usize,
        /// Bytes that the record would have, partition key included.
        actual: usize,
    },
    /// Unpacked, the body is over the limit for that.
    #[error("the body is over the limit of {limit} bytes once it is decompressed")]
    InflatedTooLarge {
        /// Bytes allowed.
        limit: usize,
    },
    /// The body is not what it says, or seems, to be packed with, or ends too early.
    #[error("the body is not valid {coding}")]
    Broken {
        /// The coding.
        coding: &'static str,
    },
    /// Decoding would cost more than the body's length accounts for.
    #[error(
        "the {coding} body has {actual} {what}, over the limit of {limit} {what} for its length"
    )]
    CodingOverhead {
        /// The coding.
        coding: &'static str,
        /// What there is too much of, in the plural.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
        /// How many were counted before the decoder stopped.
        actual: usize,
    },
    /// Packed once too often.
    #[error("{actual} codings are over the limit of {limit} codings in one body")]
    TooManyCodings {
        /// Codings allowed.
        limit: usize,
        /// Codings found before decoding stopped.
        actual: usize,
    },
    /// The records of one request would be out of proportion to its bytes.
    #[error(
        "records of {actual} bytes are over the limit of {limit} bytes for a request of {sent} bytes"
    )]
    RecordsTooLarge {
        /// Bytes allowed.
        limit: usize,
        /// Bytes that the records would have, or had before counting stopped.
        actual: usize,
        /// Bytes of the request: target, headers and body as sent.
        sent: usize,
    },
    /// A body without any event: empty, blank, or `[]`.
    #[error("the body holds no event")]
    NoEvents,
    /// The event breaks a schema whose violations are rejected.
    #[error("schema `{schema}`: {}", violation.message())]
    Schema {
        /// The schema's name.
        schema: Box<str>,
        /// How.
        violation: Box<Violation>,
    },
}

/// Writes `, got 5 bytes` when there is a figure.
struct Actual(Option<usize>, &'static str);

impl std::fmt::Display for Actual {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(actual) => write!(f, ", got {actual} {}", self.1),
            None => Ok(()),
        }
    }
}

impl Reject {
    /// Its name in metrics, and the `code` of error bodies.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Reject::BodyTooLarge { .. } => "body_too_large",
            Reject::NotJson { .. } => "not_json",
            Reject::NotUtf8 { .. } => "not_utf8",
            Reject::TooDeep { .. } => "too_deep",
            Reject::NotAnObject { .. } => "not_an_object",
            Reject::TooManyEvents { .. } => "too_many_events",
            Reject::RecordTooLarge { .. } => "record_too_large",
            Reject::InflatedTooLarge { .. } => "inflated_too_large",
            Reject::Broken { .. } => "content_coding_broken",
            Reject::CodingOverhead { .. } => "content_coding_overhead",
            Reject::TooManyCodings { .. } => "too_many_codings",
            Reject::RecordsTooLarge { .. } => "records_too_large",
            Reject::NoEvents => "no_events",
            Reject::Schema { .. } => "schema_violated",
        }
    }

    /// The limit that was passed, where there is one.
    #[must_use]
    pub const fn limit(&self) -> Option<usize> {
        match *self {
            Reject::BodyTooLarge { limit, .. }
            | Reject::TooDeep { limit, .. }
            | Reject::TooManyEvents { limit, .. }
            | Reject::RecordTooLarge { limit, .. }
            | Reject::CodingOverhead { limit, .. }
            | Reject::TooManyCodings { limit, .. }
            | Reject::RecordsTooLarge { limit, .. }
            | Reject::InflatedTooLarge { limit } => Some(limit),
            Reject::NotJson { .. }
            | Reject::NotUtf8 { .. }
            | Reject::NotAnObject { .. }
            | Reject::Broken { .. }
            | Reject::NoEvents
            | Reject::Schema { .. } => None,
        }
    }

    /// The figure that passed the limit, where it is known.
    #[must_use]
    pub const fn actual(&self) -> Option<usize> {
        match *self {
            Reject::BodyTooLarge { actual, .. } => actual,
            Reject::TooManyEvents { actual, .. }
            | Reject::RecordTooLarge { actual, .. }
            | Reject::CodingOverhead { actual, .. }
            | Reject::TooManyCodings { actual, .. }
            | Reject::RecordsTooLarge { actual, .. } => Some(actual),
            Reject::NotJson { .. }
            | Reject::NotUtf8 { .. }
            | Reject::TooDeep { .. }
            | Reject::NotAnObject { .. }
            // It was not unpacked to its end.
            | Reject::InflatedTooLarge { .. }
            | Reject::Broken { .. }
            | Reject::NoEvents
            | Reject::Schema { .. } => None,
        }
    }

    /// Where in the body the trouble is, in bytes from its start, where that can be said.
    #[must_use]
    pub const fn offset(&self) -> Option<usize> {
        match *self {
            Reject::NotJson { at, .. }
            | Reject::NotUtf8 { at }
            | Reject::TooDeep { at, .. }
            | Reject::NotAnObject { at } => Some(at),
            Reject::BodyTooLarge { .. }
            | Reject::TooManyEvents { .. }
            | Reject::RecordTooLarge { .. }
            | Reject::InflatedTooLarge { .. }
            | Reject::Broken { .. }
            | Reject::CodingOverhead { .. }
            | Reject::TooManyCodings { .. }
            | Reject::RecordsTooLarge { .. }
            | Reject::NoEvents
            | Reject::Schema { .. } => None,
        }
    }
}

impl Reject {
    /// Where in the event the trouble is, as a JSON Pointer, where that can be said.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Reject::Schema { violation, .. } => Some(&violation.path),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_limit_and_actual() {
        let reject = Reject::RecordTooLarge {
            limit: 10,
            actual: 11,
        };
        assert_eq!(
            reject.to_string(),
            "a record of 11 bytes is over the limit of 10 bytes"
        );
        assert_eq!((reject.limit(), reject.actual()), (Some(10), Some(11)));

        let reject = Reject::BodyTooLarge {
            limit: 10,
            actual: Some(11),
        };
        assert_eq!(
            reject.to_string(),
            "the body is over the limit of 10 bytes, got 11 bytes"
        );
        let reject = Reject::BodyTooLarge {
            limit: 10,
            actual: None,
        };
        assert_eq!(reject.to_string(), "the body is over the limit of 10 bytes");
        assert_eq!((reject.limit(), reject.actual()), (Some(10), None));
    }

    #[test]
    fn a_reject_position_is_an_offset() {
        let reject = Reject::NotJson {
            at: 7,
            what: "expected a value",
        };
        assert_eq!(reject.to_string(), "not JSON: expected a value at byte 7");
        assert_eq!((reject.offset(), reject.limit()), (Some(7), None));
        let reject = Reject::TooDeep { limit: 64, at: 80 };
        assert_eq!((reject.offset(), reject.limit()), (Some(80), Some(64)));
    }
}
