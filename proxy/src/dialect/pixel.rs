//! `GET /i?e=view&...`: the query string is one event. The response always has a transparent
//! image of one pixel, because a page shows it; the status is still the true one.

use super::generic;
use crate::http::Answer;
use crate::verdict::Verdict;

/// GIF89a, 1 by 1, transparent (the smallest that every browser takes): 43 bytes.
const DOT: &[u8; 43] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff\
    \x21\xf9\x04\x01\x00\x00\x00\x00\
    \x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

/// The response to a verdict in this dialect.
#[must_use]
pub fn answer(verdict: Verdict, retry_after_s: u32) -> Answer {
    Answer {
        no_store: true,
        ..generic::answer(verdict, retry_after_s).with_image("image/gif", DOT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::StatusCode;
    use sluice_core::intake::{RetryAfter, Shed, ShedReason};

    #[test]
    fn every_answer_is_the_dot_with_its_true_status() {
        let done = Verdict::Done {
            accepted: 1,
            rejected: Vec::new(),
        };
        for (verdict, status) in [
            (done, StatusCode::OK),
            (
                Verdict::RetryLater(Shed {
                    reason: ShedReason::Queue,
                    retry_after: RetryAfter { min_s: 3, max_s: 3 },
                }),
                StatusCode::SERVICE_UNAVAILABLE,
            ),
        ] {
            let answer = answer(verdict, 3);
            assert_eq!(answer.status, status);
            assert_eq!(answer.content_type, Some("image/gif"));
            assert!(answer.body.starts_with(b"GIF89a") && answer.body.ends_with(b";"));
            assert_eq!(answer.body.len(), 43);
            assert!(answer.no_store);
        }
    }
}
