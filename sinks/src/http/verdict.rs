//! What an answer means for the events of its request.

use crate::http_client::Answer;
use ::http::StatusCode;
use ::http::header::{HeaderMap, LOCATION, RETRY_AFTER};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use sluice_core::cause::Cause;
use sluice_core::record::RecordResult;
use std::time::{Duration, SystemTime};

/// Bytes of an answer's body that go to the log.
const SHOWN_BYTES: usize = 200;
/// ClickHouse has it on an answer whose status was sent before the insertion failed.
const CLICKHOUSE_EXCEPTION: &str = "x-clickhouse-exception-code";

/// The result of each event of a request, of which there were `events`.
pub(super) fn result(status: StatusCode, headers: &HeaderMap, events: usize) -> RecordResult {
    let cause = match status.as_u16() {
        200..=299 if headers.contains_key(CLICKHOUSE_EXCEPTION) => Cause::Unknown,
        200..=299 => return RecordResult::Delivered,
        // A wrong URL, which says nothing of the events.
        300..=399 | 404 | 405 | 410 => Cause::NotFound,
        401 | 403 | 407 => Cause::Denied,
        // The server did not get the request, or not at a time when it took one.
        408 | 425 | 503 => Cause::Unavailable,
        429 => Cause::Throttled,
        400..=499 if events > 1 => return RecordResult::Retry(Cause::Invalid),
        413 => return RecordResult::Refused(Cause::TooLarge),
        400..=499 => return RecordResult::Refused(Cause::Invalid),
        // It failed somewhere on the way: what it had stored by then, it does not say.
        _ => Cause::Unknown,
    };
    RecordResult::Retry(cause)
}

/// Whether the answer to a question about the URL speaks against it. Few servers know OPTIONS.
pub(super) fn is_usable(status: StatusCode) -> bool {
    !matches!(status.as_u16(), 300..=399 | 401 | 403 | 407 | 500 | 502..=599)
}

/// An answer for the log; bounded, and on one line.
pub(super) fn text(answer: &Answer) -> String {
    let shown = &answer.body[..answer.body.len().min(SHOWN_BYTES)];
    let mut text = format!("{}: {}", answer.status.as_u16(), shown.escape_ascii());
    if answer.status.is_redirection()
        && let Some(to) = answer.headers.get(LOCATION)
    {
        let to = to.as_bytes();
        let to = to[..to.len().min(SHOWN_BYTES)].escape_ascii();
        text.push_str(&format!(" (redirects are not followed: {to})"));
    }
    text
}

/// How long the server asks to be left alone, in seconds or until a date.
pub(super) fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = DateTime::from_str(text, Format::HttpDate).ok()?;
    let date = SystemTime::try_from(date).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderValue;

    #[test]
    fn http_statuses_have_these_results() {
        use RecordResult::{Delivered, Refused, Retry};
        for (status, lone, of_many) in [
            (200, Delivered, Delivered),
            (204, Delivered, Delivered),
            (299, Delivered, Delivered),
            (301, Retry(Cause::NotFound), Retry(Cause::NotFound)),
            (304, Retry(Cause::NotFound), Retry(Cause::NotFound)),
            (400, Refused(Cause::Invalid), Retry(Cause::Invalid)),
            (401, Retry(Cause::Denied), Retry(Cause::Denied)),
            (403, Retry(Cause::Denied), Retry(Cause::Denied)),
            (404, Retry(Cause::NotFound), Retry(Cause::NotFound)),
            (408, Retry(Cause::Unavailable), Retry(Cause::Unavailable)),
            (413, Refused(Cause::TooLarge), Retry(Cause::Invalid)),
            (422, Refused(Cause::Invalid), Retry(Cause::Invalid)),
            (429, Retry(Cause::Throttled), Retry(Cause::Throttled)),
            (500, Retry(Cause::Unknown), Retry(Cause::Unknown)),
            (502, Retry(Cause::Unknown), Retry(Cause::Unknown)),
            (503, Retry(Cause::Unavailable), Retry(Cause::Unavailable)),
            (504, Retry(Cause::Unknown), Retry(Cause::Unknown)),
            (599, Retry(Cause::Unknown), Retry(Cause::Unknown)),
            (999, Retry(Cause::Unknown), Retry(Cause::Unknown)),
        ] {
            let code = StatusCode::from_u16(status).unwrap();
            assert_eq!(result(code, &HeaderMap::new(), 1), lone, "{status}");
            assert_eq!(result(code, &HeaderMap::new(), 2), of_many, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("18446744073709551615", Some(u64::MAX)),
            ("Tue, 14 Nov 2023 22:14:20 GMT", Some(60)),
            ("Tue, 14 Nov 2023 22:12:20 GMT", Some(0)),
            ("-1", None),
            ("18446744073709551616", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_logged_body_is_cut_at_200_bytes_and_escaped() {
        let mut answer = Answer {
            status: StatusCode::BAD_REQUEST,
            headers: HeaderMap::new(),
            body: b"a\n\x1b\"".repeat(100),
        };
        let expected = "a\\n\\x1b\\\"".repeat(50);
        assert_eq!(text(&answer), format!("400: {expected}"));
        answer.status = StatusCode::FOUND;
        answer.body.clear();
        answer
            .headers
            .insert(LOCATION, HeaderValue::from_static("http://elsewhere/"));
        let expected = "302:  (redirects are not followed: http://elsewhere/)";
        assert_eq!(text(&answer), expected);
    }
}
