//! `POST /v1/events`: one JSON object, an array, or newline-delimited objects, from any client.
//!
//! A body of which some events are bad is answered 200 with the list of those, because the others are
//! stored: a client that only looks at the status neither loses them nor sends them again, and
//! one that reads the body learns which to mend. A body of which no event was taken is answered with the
//! status of its first refusal, and nothing of it is stored.

use super::{refusal, retry_later, status};
use crate::http::Answer;
use crate::verdict::Verdict;
use ::http::StatusCode;
use sluice_core::json::escape::quote_into;
use sluice_core::reject::Reject;
use std::io::Write;

/// Refusals listed in one answer; the count is always given. A bound on what a bad body can make us say.
const LISTED_MAX: usize = 100;

/// Puts a verdict into the words of this dialect.
#[must_use]
pub fn answer(verdict: Verdict, retry_after_s: u32) -> Answer {
    match verdict {
        Verdict::Done { accepted, rejected } => match rejected.first() {
            None => Answer::empty(StatusCode::OK),
            Some(_) if accepted > 0 => Answer::json(StatusCode::OK, list(accepted, &rejected)),
            Some((_, first)) => Answer::json(status(first), list(accepted, &rejected)),
        },
        Verdict::RetryLater(shed) => retry_later(shed, retry_after_s),
        Verdict::GiveUp(reject) => refusal(&reject),
    }
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
        json.push(b'}');
    }
    json.extend_from_slice(b"]}");
    json
}
