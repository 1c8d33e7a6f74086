//! The table of clients, and what each does after a failed try.
//! Numbers of tries, spans and time-outs were measured on the published packages. Waits in between are chosen so that
//! both agree with the measurement: SDKs draw theirs at random. Knows no clock and no socket.

use std::time::Duration;

/// How a published client treats its events.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Its name here: `a-z`, `0-9`, `-`.
    pub name: &'static str,
    /// The package that was measured.
    pub package: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The collector's path for it.
    pub path: &'static str,
    /// Events that wait before it sends without waiting for `flush_ms`.
    pub flush_events: usize,
    /// Age of the oldest waiting event at which it sends.
    pub flush_ms: u64,
    /// Events in one request.
    pub batch_events_max: usize,
    /// Whether a batch waits until the one before it is settled, retries included.
    pub one_at_a_time: bool,
    /// Time-out of a request, if it has one.
    pub timeout_ms: Option<u64>,
    /// After a 5xx.
    pub unavailable: Retry,
    /// After a 429.
    pub throttled: Retry,
    /// When nobody listens.
    pub refused: Retry,
    /// When the connection ends before the answer.
    pub closed: Retry,
    /// After `timeout_ms`.
    pub timed_out: Retry,
}

/// What follows one kind of failure.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// The waits between tries.
    pub waits: Waits,
    /// Whether `Retry-After` is read, and how it counts.
    pub retry_after: RetryAfter,
    /// What happens to the events after the last try.
    pub at_last: AtLast,
}

/// Waits between the tries of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Waits {
    /// These, in milliseconds; one try more than there are waits.
    Listed(&'static [u64]),
    /// Each twice as long as the one before it, up to a maximum.
    Doubling {
        /// The first.
        first_ms: u64,
        /// The longest.
        max_ms: u64,
        /// Tries in all; `None` for no end.
        tries: Option<u32>,
    },
}

/// How a `Retry-After` of n seconds counts.
#[derive(Clone, Copy, Debug)]
pub enum RetryAfter {
    /// Not read.
    Ignored,
    /// The wait is the longer one of n and its own.
    AtLeast {
        /// The largest n.
        max_s: u64,
    },
    /// The wait is n, with a number of tries of its own.
    Instead {
        /// Tries in all.
        tries: u32,
        /// Added to n.
        plus_ms: u64,
        /// The largest n.
        max_s: u64,
        /// A try that would come later than this after the first is not made.
        span_s_max: u64,
    },
}

/// What happens to events after their last try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLast {
    /// The client forgets them.
    Drop,
    /// The client sends them along with its next event.
    Keep,
}

/// The outcome of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer, with its `Retry-After` in seconds.
    Answered {
        /// The status.
        status: u16,
        /// The header, where there is a valid one.
        retry_after_s: Option<u64>,
    },
    /// Nobody listens.
    Refused,
    /// The connection ended before the answer.
    Closed,
    /// No answer within the client's time-out.
    TimedOut,
}

/// What a client does after a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The events are stored, says the answer.
    Acked,
    /// Another try after this time.
    Again(Duration),
    /// The events wait for the next event.
    Keep,
    /// The events are lost.
    Drop,
}

impl Profile {
    /// What follows the last of so many tries; `span` is the time since the first.
    #[must_use]
    pub fn after(&self, outcome: Outcome, tries: u32, span: Duration) -> Next {
        let (retry, header) = match outcome {
            Outcome::Answered { status, .. } if (200..300).contains(&status) => return Next::Acked,
            Outcome::Answered {
                status,
                retry_after_s,
            } => match status {
                429 => (&self.throttled, retry_after_s),
                500.. => (&self.unavailable, retry_after_s),
                // The client's own fault, says the answer; the measured clients drop such events.
                _ => return Next::Drop,
            },
            Outcome::Refused => (&self.refused, None),
            Outcome::Closed => (&self.closed, None),
            Outcome::TimedOut => (&self.timed_out, None),
        };
        match retry.wait(header, tries, span) {
            Some(wait) => Next::Again(wait),
            None if retry.at_last == AtLast::Keep => Next::Keep,
            None => Next::Drop,
        }
    }
}

impl Retry {
    fn wait(&self, header: Option<u64>, tries: u32, span: Duration) -> Option<Duration> {
        let own = self.waits.after(tries);
        match (self.retry_after, header) {
            (RetryAfter::AtLeast { max_s }, Some(n)) => {
                own.map(|own| own.max(Duration::from_secs(n.min(max_s))))
            }
            (
                RetryAfter::Instead {
                    tries: tries_max,
                    plus_ms,
                    max_s,
                    span_s_max,
                },
                Some(n),
            ) => {
                let wait = Duration::from_secs(n.min(max_s)) + Duration::from_millis(plus_ms);
                let in_time = span + wait <= Duration::from_secs(span_s_max);
                (tries < tries_max && in_time).then_some(wait)
            }
            (RetryAfter::Ignored, _) | (_, None) => own,
        }
    }

    /// The same, and the client keeps the events at last.
    const fn keep(mut self) -> Retry {
        self.at_last = AtLast::Keep;
        self
    }

    const fn with(mut self, retry_after: RetryAfter) -> Retry {
        self.retry_after = retry_after;
        self
    }
}

impl Waits {
    /// The wait after so many tries, if there is another try.
    fn after(self, tries: u32) -> Option<Duration> {
        let at = tries.checked_sub(1)?;
        let wait_ms = match self {
            Waits::Listed(waits) => *waits.get(usize::try_from(at).ok()?)?,
            Waits::Doubling {
                first_ms,
                max_ms,
                tries: tries_max,
            } => {
                if tries_max.is_some_and(|tries_max| tries >= tries_max) {
                    return None;
                }
                first_ms.saturating_mul(1 << at.min(32)).min(max_ms)
            }
        };
        Some(Duration::from_millis(wait_ms))
    }
}

const fn listed(waits: &'static [u64]) -> Retry {
    Retry {
        waits: Waits::Listed(waits),
        retry_after: RetryAfter::Ignored,
        at_last: AtLast::Drop,
    }
}

const fn doubling(tries: u32, first_ms: u64, max_ms: u64) -> Retry {
    Retry {
        waits: Waits::Doubling {
            first_ms,
            max_ms,
            tries: Some(tries),
        },
        retry_after: RetryAfter::Ignored,
        at_last: AtLast::Drop,
    }
}

const fn forever(first_ms: u64, max_ms: u64) -> Retry {
    Retry {
        waits: Waits::Doubling {
            first_ms,
            max_ms,
            tries: None,
        },
        retry_after: RetryAfter::Ignored,
        at_last: AtLast::Drop,
    }
}

const fn instead(tries: u32, plus_ms: u64, span_s_max: u64) -> RetryAfter {
    RetryAfter::Instead {
        tries,
        plus_ms,
        max_s: 300,
        span_s_max,
    }
}

/// Longer than any run.
const NO_SPAN: u64 = 1 << 32;

/// One try.
const ONCE: Retry = listed(&[]);

/// A client that does the same after every failure.
const fn same(retry: Retry) -> Profile {
    Profile {
        name: "",
        package: "",
        version: "",
        path: "/v1/events",
        flush_events: 1,
        flush_ms: 0,
        batch_events_max: 1,
        one_at_a_time: false,
        timeout_ms: None,
        unavailable: retry,
        throttled: retry,
        refused: retry,
        closed: retry,
        timed_out: retry,
    }
}

const SEGMENT_NODE: Retry = doubling(11, 1_500, 60_000);
const SEGMENT_PYTHON: Retry = doubling(11, 1_000, 31_250);
const SEGMENT_BROWSER: Retry = doubling(10, 500, 60_000);
const RUDDERSTACK_NODE: Retry = listed(&[200, 400, 900]);
const POSTHOG_NODE: Retry = listed(&[3_000, 3_000, 3_000]);
const POSTHOG_NODE_V1: Retry = listed(&[3_000, 6_000, 12_000]);
const POSTHOG_PYTHON: Retry = listed(&[1_000, 2_000, 4_000]);
const POSTHOG_BROWSER: Retry = doubling(10, 4_000, 1_800_000);
const POSTHOG_BROWSER_UNANSWERED: Retry = listed(&[4_000, 9_000, 17_000]);
const AMPLITUDE_NODE: Retry = doubling(12, 1_000, 7_250);
const AMPLITUDE_SERVER_SLOW: Retry = doubling(12, 10_000, 10_000);
const AMPLITUDE_BROWSER: Retry = listed(&[1_000, 2_000, 3_000, 4_000]);
const MIXPANEL_PYTHON: Retry = listed(&[0, 500, 1_000, 2_000]);
const MIXPANEL_BROWSER: Retry = forever(10_000, 600_000);
const BOTO3: Retry = listed(&[50, 100]);
const OTLP: Retry = listed(&[1_000, 1_500, 2_250, 3_375]);

/// All clients.
pub const PROFILES: [Profile; 21] = [
    Profile {
        name: "segment-node",
        package: "@segment/analytics-node",
        version: "3.1.0",
        flush_events: 15,
        flush_ms: 10_000,
        batch_events_max: 15,
        timeout_ms: Some(10_000),
        throttled: SEGMENT_NODE.with(instead(31, 0, NO_SPAN)),
        ..same(SEGMENT_NODE)
    },
    Profile {
        name: "segment-python",
        package: "segment-analytics-python",
        version: "2.4.0",
        flush_events: 100,
        flush_ms: 500,
        batch_events_max: 100,
        one_at_a_time: true,
        timeout_ms: Some(15_000),
        unavailable: SEGMENT_PYTHON.with(instead(u32::MAX, 0, 1_800)),
        throttled: SEGMENT_PYTHON.with(instead(u32::MAX, 0, 1_800)),
        ..same(SEGMENT_PYTHON)
    },
    Profile {
        name: "segment-browser",
        package: "@segment/analytics-next",
        version: "1.84.3",
        throttled: SEGMENT_BROWSER.with(instead(10, 1_000, NO_SPAN)),
        ..same(SEGMENT_BROWSER)
    },
    Profile {
        name: "rudderstack-node",
        package: "@rudderstack/rudder-sdk-node",
        version: "3.0.13, with errorHandler",
        flush_events: 20,
        flush_ms: 10_000,
        batch_events_max: 20,
        unavailable: RUDDERSTACK_NODE.with(instead(4, 200, NO_SPAN)),
        throttled: RUDDERSTACK_NODE.with(instead(4, 200, NO_SPAN)),
        ..same(RUDDERSTACK_NODE)
    },
    Profile {
        name: "posthog-node",
        package: "posthog-node",
        version: "5.70.0",
        flush_events: 20,
        flush_ms: 10_000,
        batch_events_max: 100,
        one_at_a_time: true,
        timeout_ms: Some(10_000),
        refused: POSTHOG_NODE.keep(),
        closed: POSTHOG_NODE.keep(),
        timed_out: POSTHOG_NODE.keep(),
        ..same(POSTHOG_NODE)
    },
    Profile {
        name: "posthog-node-v1",
        package: "posthog-node",
        version: "5.70.0, capture mode v1",
        flush_events: 20,
        flush_ms: 10_000,
        batch_events_max: 100,
        one_at_a_time: true,
        timeout_ms: Some(10_000),
        unavailable: POSTHOG_NODE_V1.with(RetryAfter::AtLeast { max_s: 30 }),
        throttled: POSTHOG_NODE_V1.with(RetryAfter::AtLeast { max_s: 30 }),
        ..same(POSTHOG_NODE_V1)
    },
    Profile {
        name: "posthog-python",
        package: "posthog",
        version: "7.91.1",
        flush_events: 100,
        flush_ms: 500,
        batch_events_max: 100,
        one_at_a_time: true,
        timeout_ms: Some(15_000),
        unavailable: POSTHOG_PYTHON.with(RetryAfter::AtLeast { max_s: 30 }),
        throttled: POSTHOG_PYTHON.with(RetryAfter::AtLeast { max_s: 30 }),
        ..same(POSTHOG_PYTHON)
    },
    Profile {
        name: "posthog-browser",
        package: "posthog-js",
        version: "1.449.2",
        flush_events: 100,
        flush_ms: 3_000,
        batch_events_max: 100,
        timeout_ms: Some(60_000),
        unavailable: POSTHOG_BROWSER.with(RetryAfter::AtLeast { max_s: 1_800 }),
        throttled: ONCE,
        ..same(POSTHOG_BROWSER_UNANSWERED)
    },
    Profile {
        name: "amplitude-node",
        package: "@amplitude/analytics-node",
        version: "1.5.73",
        flush_events: 200,
        flush_ms: 10_000,
        batch_events_max: 200,
        timeout_ms: Some(10_000),
        throttled: AMPLITUDE_SERVER_SLOW,
        refused: ONCE,
        closed: ONCE,
        ..same(AMPLITUDE_NODE)
    },
    Profile {
        name: "amplitude-python",
        package: "amplitude-analytics",
        version: "1.3.0",
        flush_events: 200,
        flush_ms: 10_000,
        batch_events_max: 200,
        timeout_ms: Some(10_000),
        closed: ONCE,
        ..same(AMPLITUDE_SERVER_SLOW)
    },
    Profile {
        name: "amplitude-browser",
        package: "@amplitude/analytics-browser",
        version: "2.46.0",
        flush_events: 30,
        flush_ms: 1_000,
        batch_events_max: 30,
        throttled: listed(&[500, 1_000, 1_500, 1_500]),
        ..same(AMPLITUDE_BROWSER)
    },
    Profile {
        name: "mixpanel-node",
        package: "mixpanel (npm)",
        version: "0.24.0",
        ..same(ONCE)
    },
    Profile {
        name: "mixpanel-python",
        package: "mixpanel (PyPI)",
        version: "5.4.1",
        unavailable: MIXPANEL_PYTHON.with(instead(5, 0, NO_SPAN)),
        throttled: ONCE.with(instead(5, 0, NO_SPAN)),
        ..same(MIXPANEL_PYTHON)
    },
    Profile {
        name: "mixpanel-browser",
        package: "mixpanel-browser",
        version: "2.83.0",
        flush_events: 50,
        flush_ms: 5_000,
        batch_events_max: 50,
        timeout_ms: Some(90_000),
        unavailable: MIXPANEL_BROWSER.with(RetryAfter::AtLeast { max_s: 600 }),
        throttled: MIXPANEL_BROWSER.with(RetryAfter::AtLeast { max_s: 600 }),
        timed_out: MIXPANEL_BROWSER,
        ..same(ONCE)
    },
    Profile {
        name: "snowplow-node",
        package: "@snowplow/node-tracker",
        version: "4.8.0",
        batch_events_max: 100,
        timeout_ms: Some(5_000),
        ..same(ONCE.keep())
    },
    Profile {
        name: "snowplow-python",
        package: "snowplow-tracker",
        version: "1.1.0",
        one_at_a_time: true,
        ..same(forever(1_000, 10_000))
    },
    Profile {
        name: "boto3",
        package: "boto3 (Kinesis, Firehose)",
        version: "1.44.5",
        flush_events: 10,
        flush_ms: 10_000,
        batch_events_max: 10,
        timeout_ms: Some(60_000),
        throttled: listed(&[500, 1_000]),
        ..same(BOTO3)
    },
    Profile {
        name: "otlp-js",
        package: "@opentelemetry/exporter-logs-otlp-http",
        version: "0.223.1",
        flush_events: 512,
        flush_ms: 1_000,
        batch_events_max: 512,
        one_at_a_time: true,
        timeout_ms: Some(10_000),
        unavailable: OTLP.with(instead(5, 0, 10)),
        throttled: OTLP.with(instead(5, 0, 10)),
        timed_out: ONCE,
        ..same(OTLP)
    },
    // From the sources of the SDK, not measured: a batch is tried once and stays in localStorage.
    Profile {
        name: "aws-web",
        package: "@aws/clickstream-web",
        version: "batch mode, as read",
        path: "/collect?platform=Web",
        flush_events: 100,
        flush_ms: 5_000,
        batch_events_max: 100,
        timeout_ms: Some(15_000),
        ..same(ONCE.keep())
    },
    // In immediate mode an event is tried three times without a wait, and then stays in localStorage.
    Profile {
        name: "aws-web-immediate",
        package: "@aws/clickstream-web",
        version: "immediate mode, as read",
        path: "/collect?platform=Web",
        batch_events_max: 100,
        timeout_ms: Some(10_000),
        ..same(listed(&[0, 0]).keep())
    },
    // A page that closes: nobody is there to read the answer.
    Profile {
        name: "page-close-beacon",
        package: "navigator.sendBeacon",
        version: "any",
        ..same(ONCE)
    },
];

/// The profile of this name.
#[must_use]
pub fn named(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16, retry_after_s: Option<u64>) -> Outcome {
        Outcome::Answered {
            status,
            retry_after_s,
        }
    }

    /// Tries of a batch that always ends so, and the milliseconds from the first to the last; `None` where there is
    /// no end within 400 s, which is how long the packages were watched.
    fn patience(name: &str, outcome: Outcome) -> Option<(u32, u128)> {
        let profile = named(name).unwrap();
        let (mut tries, mut now) = (0, Duration::ZERO);
        loop {
            tries += 1;
            let began = now;
            if outcome == Outcome::TimedOut {
                now += Duration::from_millis(profile.timeout_ms.unwrap());
            }
            match profile.after(outcome, tries, now) {
                Next::Acked => panic!("acked"),
                Next::Again(wait) => now += wait,
                Next::Keep | Next::Drop => return Some((tries, began.as_millis())),
            }
            if now > Duration::from_secs(400) {
                return None;
            }
        }
    }

    #[track_caller]
    fn holds(name: &str, outcome: Outcome, tries: u32, span_ms: std::ops::RangeInclusive<u128>) {
        let (made, span) = patience(name, outcome).unwrap();
        assert_eq!(made, tries, "{name} {outcome:?}");
        assert!(span_ms.contains(&span), "{name} {outcome:?}: {span} ms");
    }

    #[test]
    fn retries_after_503_span_what_was_measured() {
        let plain = answered(503, None);
        holds("segment-node", plain, 11, 315_000..=350_000);
        holds("segment-python", plain, 11, 186_000..=189_000);
        holds("rudderstack-node", plain, 4, 1_500..=1_500);
        holds("posthog-node", plain, 4, 9_000..=9_000);
        holds("posthog-node-v1", plain, 4, 21_000..=21_000);
        holds("posthog-python", plain, 4, 7_000..=7_000);
        holds("amplitude-node", plain, 12, 65_000..=65_000);
        holds("amplitude-python", plain, 12, 110_000..=110_000);
        holds("amplitude-browser", plain, 5, 7_000..=12_000);
        holds("mixpanel-node", plain, 1, 0..=0);
        holds("mixpanel-python", plain, 5, 3_500..=3_500);
        holds("boto3", plain, 3, 0..=199);
        holds("otlp-js", plain, 5, 8_000..=9_000);
        holds("page-close-beacon", plain, 1, 0..=0);
        for name in ["mixpanel-browser", "snowplow-python", "posthog-browser"] {
            assert_eq!(patience(name, plain), None, "{name}");
        }
    }

    #[test]
    fn retries_after_429_span_what_was_measured() {
        let plain = answered(429, None);
        holds("segment-node", plain, 11, 315_000..=350_000);
        holds("posthog-browser", plain, 1, 0..=0);
        holds("amplitude-node", plain, 12, 110_000..=110_000);
        holds("amplitude-browser", plain, 5, 4_000..=5_000);
        holds("mixpanel-python", plain, 1, 0..=0);
        holds("boto3", plain, 3, 200..=3_000);
        assert_eq!(patience("mixpanel-browser", plain), None);
    }

    #[test]
    fn retry_after_counts_as_each_client_reads_it() {
        let (two, thirty) = (answered(503, Some(2)), answered(503, Some(30)));
        holds("segment-node", thirty, 11, 315_000..=350_000);
        holds("segment-node", answered(429, Some(2)), 31, 60_000..=66_000);
        holds(
            "segment-browser",
            answered(429, Some(2)),
            10,
            26_000..=28_000,
        );
        assert_eq!(patience("segment-python", two), None);
        holds("rudderstack-node", two, 4, 6_500..=7_000);
        holds("posthog-node", thirty, 4, 9_000..=9_100);
        holds("posthog-node-v1", thirty, 4, 90_000..=92_000);
        holds("posthog-python", thirty, 4, 90_000..=90_000);
        holds(
            "posthog-python",
            answered(503, Some(99)),
            4,
            90_000..=90_000,
        );
        holds("mixpanel-python", two, 5, 8_000..=8_000);
        holds("mixpanel-python", answered(429, Some(2)), 5, 8_000..=8_000);
        holds("otlp-js", two, 5, 8_000..=8_000);
        holds("otlp-js", answered(503, Some(3)), 4, 9_000..=9_000);
        holds("otlp-js", thirty, 1, 0..=0);
    }

    #[test]
    fn retries_without_an_answer_span_what_was_measured() {
        for outcome in [Outcome::Refused, Outcome::Closed] {
            holds("segment-node", outcome, 11, 324_000..=342_000);
            holds("segment-python", outcome, 11, 186_000..=188_000);
            holds("posthog-python", outcome, 4, 7_000..=7_200);
            holds("posthog-browser", outcome, 4, 27_000..=34_000);
            holds("amplitude-node", outcome, 1, 0..=0);
            holds("mixpanel-browser", outcome, 1, 0..=0);
            holds("mixpanel-python", outcome, 5, 3_500..=5_000);
            holds("otlp-js", outcome, 5, 7_000..=8_200);
        }
        holds("amplitude-python", Outcome::Refused, 12, 110_000..=110_000);
        holds("amplitude-python", Outcome::Closed, 1, 0..=0);
        holds("posthog-node", Outcome::TimedOut, 4, 39_000..=49_000);
        holds("posthog-python", Outcome::TimedOut, 4, 52_000..=52_000);
        holds("segment-python", Outcome::TimedOut, 11, 336_000..=338_000);
        holds("amplitude-node", Outcome::TimedOut, 12, 174_000..=176_000);
        holds("amplitude-python", Outcome::TimedOut, 12, 219_000..=221_000);
        holds("otlp-js", Outcome::TimedOut, 1, 0..=0);
        assert_eq!(patience("segment-node", Outcome::TimedOut), None);
        assert_eq!(patience("mixpanel-browser", Outcome::TimedOut), None);
    }

    #[test]
    fn answers_that_blame_the_client_end_the_tries() {
        for profile in &PROFILES {
            for status in [400, 401, 413, 302] {
                let next = profile.after(answered(status, Some(1)), 1, Duration::ZERO);
                assert_eq!(next, Next::Drop, "{} {status}", profile.name);
            }
            let next = profile.after(answered(200, None), 1, Duration::ZERO);
            assert_eq!(next, Next::Acked, "{}", profile.name);
        }
    }

    #[test]
    fn names_are_unique_and_fit_into_a_ledger() {
        for profile in &PROFILES {
            let same = PROFILES.iter().filter(|other| other.name == profile.name);
            assert_eq!(same.count(), 1, "{}", profile.name);
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(profile.name.bytes().all(plain) && profile.name.len() <= 64);
            assert!(profile.flush_events <= profile.batch_events_max);
        }
    }
}
