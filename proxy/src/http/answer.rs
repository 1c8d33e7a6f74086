//! Responses, and the one form of error bodies.

use super::h1::decimal;
use crate::error_code::ErrorCode;
use bytes::Bytes;
use http::StatusCode;
use sluice_core::json::escape::quote_str_into;
use sluice_core::stats::EndpointLabel;
use std::borrow::Cow;
use std::io::Write;

const JSON: &str = "application/json";

/// The error body of a refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorBody {
    /// The status of the answer.
    pub status: StatusCode,
    /// A stable name in snake case, for programs.
    pub code: &'static str,
    /// One sentence, for people.
    pub message: Cow<'static, str>,
    /// The limit, if one was exceeded.
    pub limit: Option<u64>,
    /// The actual value, as far as it was read.
    pub actual: Option<u64>,
    /// The offset of the fault in the body, bytes.
    pub offset: Option<u64>,
}

impl ErrorBody {
    /// An error without a limit.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> ErrorBody {
        ErrorBody {
            status: code.status,
            code: code.name,
            message: message.into(),
            limit: None,
            actual: None,
            offset: None,
        }
    }

    /// Adds the limit and the actual value.
    #[must_use]
    pub fn over(mut self, limit: u64, actual: impl Into<Option<u64>>) -> ErrorBody {
        self.limit = Some(limit);
        self.actual = actual.into();
        self
    }

    /// The body of the answer: `{"code":"...","message":"...","limit":1,"actual":2,"offset":3}`,
    /// the numbers where they apply.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::new();
        json.extend_from_slice(b"{\"code\":");
        quote_str_into(self.code, &mut json);
        json.extend_from_slice(b",\"message\":");
        quote_str_into(&self.message, &mut json);
        let numbers = [
            ("limit", self.limit),
            ("actual", self.actual),
            ("offset", self.offset),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                // Writing to a Vec cannot fail.
                let _ = write!(json, ",\"{name}\":{number}");
            }
        }
        json.push(b'}');
        json
    }
}

/// The answer to one request. The HTTP server adds `X-Request-ID`, CORS headers, `Date` and the length.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The Content-Type, if there is a body.
    pub content_type: Option<&'static str>,
    /// The body; not sent with 204 or to a HEAD request.
    pub body: Bytes,
    /// Retry-After, in whole seconds.
    pub retry_after_s: Option<u32>,
    /// Allow, for 405.
    pub allow: Option<&'static str>,
    /// Close the connection after this answer.
    pub close: bool,
    /// Caches must not store it.
    pub no_store: bool,
    /// The counter it belongs to.
    pub endpoint: EndpointLabel,
}

impl Answer {
    /// An answer without a body.
    #[must_use]
    pub fn empty(status: StatusCode) -> Answer {
        Answer {
            status,
            content_type: None,
            body: Bytes::new(),
            retry_after_s: None,
            allow: None,
            close: false,
            no_store: false,
            endpoint: EndpointLabel::None,
        }
    }

    /// An answer with a JSON body.
    #[must_use]
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
        Answer {
            content_type: Some(JSON),
            body: body.into(),
            ..Answer::empty(status)
        }
    }

    /// The same response with another body.
    #[must_use]
    pub fn with_image(self, content_type: &'static str, image: &'static [u8]) -> Answer {
        Answer {
            content_type: Some(content_type),
            body: Bytes::from_static(image),
            ..self
        }
    }

    /// Gives `add` the headers that depend on the answer, names in lower case; the length is not among them.
    pub(super) fn headers(&self, add: &mut impl FnMut(&'static str, &[u8])) {
        // A browser must not take an answer for a script or a page that it was not made as.
        add("x-content-type-options", b"nosniff");
        if let Some(content_type) = self.content_type {
            add("content-type", content_type.as_bytes());
        }
        if let Some(seconds) = self.retry_after_s {
            add("retry-after", decimal(seconds.into(), &mut [0; 20]));
        }
        if let Some(allow) = self.allow {
            add("allow", allow.as_bytes());
        }
        if self.no_store {
            add("cache-control", b"no-store");
        }
    }
}

impl From<&ErrorBody> for Answer {
    fn from(error_body: &ErrorBody) -> Answer {
        Answer::json(error_body.status, error_body.to_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_code::{BODY_TOO_LARGE, NOT_FOUND, NOT_JSON};

    fn text(error_body: &ErrorBody) -> String {
        String::from_utf8(error_body.to_json()).unwrap()
    }

    #[test]
    fn a_problem_names_limit_and_actual_only_where_they_apply() {
        let plain = ErrorBody::new(NOT_FOUND, "nothing here");
        assert_eq!(
            text(&plain),
            r#"{"code":"not_found","message":"nothing here"}"#
        );
        let over = ErrorBody::new(BODY_TOO_LARGE, "too much");
        assert_eq!(
            text(&over.clone().over(10, 11)),
            r#"{"code":"body_too_large","message":"too much","limit":10,"actual":11}"#
        );
        assert_eq!(
            text(&over.over(10, None)),
            r#"{"code":"body_too_large","message":"too much","limit":10}"#
        );
    }

    #[test]
    fn text_in_a_problem_is_escaped() {
        let text = "a \"quoted\" \\ line\n\u{1}ü";
        let json = super::tests::text(&ErrorBody::new(NOT_JSON, text));
        assert_eq!(
            json,
            "{\"code\":\"not_json\",\"message\":\"a \\\"quoted\\\" \\\\ line\\n\\u0001ü\"}"
        );
    }
}
