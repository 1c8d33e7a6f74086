//! `POST /v1/events`: one JSON object, an array, or newline-delimited objects, from any client.
//!
//! A body with some invalid events is answered 200 with a list of those, because the others are stored: a client
//! that reads only the status neither loses them nor sends them again, and one that reads the body learns
//! which to mend. A body without a valid event is answered with the status of its first refusal, and nothing
//! of it is stored. A 503 names the events that are in doubt, so
//! that a client need not send the others again.

use super::{code, refusal, retry_later};
use crate::http::Answer;
use crate::verdict::{LISTED_MAX, Verdict};
use ::http::StatusCode;
use sluice_core::json::escape::quote_into;
use sluice_core::reject::Reject;
use std::io::Write;

/// The response to a verdict in this dialect.
#[must_use]
pub fn answer(verdict: Verdict, retry_after_s: u32) -> Answer {
    match verdict {
        Verdict::Done { accepted, rejected } => match rejected.first() {
            None => Answer::empty(StatusCode::OK),
            Some(_) if accepted > 0 => Answer::json(StatusCode::OK, list(accepted, &rejected)),
            Some((_, first)) => Answer::json(code(first).status, list(accepted, &rejected)),
        },
        Verdict::RetryLater(shed) => retry_later(shed.reason, retry_after_s),
        Verdict::InDoubt {
            shed,
            total,
            indices,
        } => {
            let answer = retry_later(shed.reason, retry_after_s);
            let body = with_doubt(&answer.body, total, &indices);
            Answer {
                body: body.into(),
                ..answer
            }
        }
        Verdict::GiveUp(reject) => refusal(&reject),
    }
}

/// Adds the events in doubt to an error body: `,"in_doubt":3,"indices":[1,5,9]`.
fn with_doubt(error: &[u8], total: u32, indices: &[u32]) -> Vec<u8> {
    let mut json = error.strip_suffix(b"}").unwrap_or(error).to_vec();
    // Writing to a Vec cannot fail.
    let _ = write!(json, ",\"in_doubt\":{total},\"indices\":[");
    for (at, index) in indices.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let _ = write!(json, "{comma}{index}");
    }
    json.extend_from_slice(b"]}");
    json
}

/// `{"accepted":2,"rejected":1,"errors":[{"index":1,"code":"not_json","message":"...","offset":17}]}`.
fn list(accepted: u32, rejected: &[(u32, Reject)]) -> Vec<u8> {
    let mut json = Vec::with_capacity(64 + 128 * rejected.len().min(LISTED_MAX));
    // Writing to a Vec cannot fail.
    let _ = write!(
        json,
        "{{\"accepted\":{accepted},\"rejected\":{},\"errors\":[",
        rejected.len()
    );
    for (at, (index, reject)) in rejected.iter().take(LISTED_MAX).enumerate() {
        if at > 0 {
            json.push(b',');
        }
        let code = reject.label();
        let _ = write!(json, "{{\"index\":{index},\"code\":\"{code}\",\"message\":");
        quote_into(reject.to_string().as_bytes(), &mut json);
        let numbers = [
            ("limit", reject.limit()),
            ("actual", reject.actual()),
            ("offset", reject.offset()),
        ];
        for (name, number) in numbers {
            if let Some(number) = number {
                let _ = write!(json, ",\"{name}\":{number}");
            }
        }
        if let Some(path) = reject.path() {
            json.extend_from_slice(b",\"path\":");
            quote_into(path.as_bytes(), &mut json);
        }
        json.push(b'}');
    }
    json.extend_from_slice(b"]}");
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_core::intake::{RetryAfter, Shed, ShedReason};

    #[test]
    fn a_503_lists_the_events_in_doubt() {
        let verdict = Verdict::InDoubt {
            shed: Shed {
                reason: ShedReason::Sink,
                retry_after: RetryAfter { min_s: 3, max_s: 3 },
            },
            total: 3,
            indices: vec![1, 5],
        };
        let answer = answer(verdict, 3);
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.retry_after_s, Some(3));
        let body = std::str::from_utf8(&answer.body).unwrap();
        assert!(body.starts_with("{\"code\":\"not_delivered\","), "{body}");
        assert!(
            body.ends_with(",\"in_doubt\":3,\"indices\":[1,5]}"),
            "{body}"
        );
    }
}
