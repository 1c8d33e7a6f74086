//! The clickstream SDKs of the AWS solution: success is exactly 200, the body of an answer is not read.

use super::{refusal, retry_later};
use crate::http::Answer;
use crate::verdict::Verdict;
use ::http::StatusCode;

/// The response to a verdict in this dialect.
#[must_use]
pub fn answer(verdict: Verdict, retry_after_s: u32) -> Answer {
    match verdict {
        // One request is one record here: there is nothing that could have been refused alone.
        Verdict::Done { .. } => Answer::empty(StatusCode::OK),
        Verdict::RetryLater(shed) | Verdict::InDoubt { shed, .. } => {
            retry_later(shed.reason, retry_after_s)
        }
        Verdict::GiveUp(reject) => refusal(&reject),
    }
}
