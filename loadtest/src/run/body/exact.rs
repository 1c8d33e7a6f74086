//! Events of an exact size: made once, then only ids, times and users are written over in place.

use super::super::profile::random::Users;
use super::super::profile::template::put_decimal;
use super::super::target::Target;
use super::{BROWSER, BodyMode, BodyOptions, OWN_AGENT, Prepared, push, push_headers};
use crate::event_id::{EventId, put_hex};
use fastrand::Rng;
use std::ops::Range;

/// Different requests that a thread goes through, as long as their bodies fit in this memory.
const VARIANTS_MAX: usize = 16;
const VARIANT_BYTES_MAX: usize = 4 << 20;

/// Where the changing parts of one event are.
#[derive(Clone, Debug)]
pub(in crate::run) struct EventSlots {
    /// The 12 hex digits of the sequence number.
    pub(in crate::run) seq: Range<usize>,
    /// 13 decimal digits: milliseconds since the Unix epoch.
    pub(in crate::run) timestamp: Range<usize>,
    /// 9 decimal digits.
    pub(in crate::run) user: Range<usize>,
}

/// One request as bytes.
#[derive(Clone, Debug)]
struct Request {
    bytes: Vec<u8>,
    headers_at: usize,
    events: Vec<EventSlots>,
    /// The query string of the web SDK: 13 digits of time, 9 of sequence, 8 hex of hash.
    upload: Option<(Range<usize>, Range<usize>, Range<usize>)>,
}

/// Requests of one thread.
#[derive(Debug)]
pub(in crate::run) struct ExactRequests {
    variants: Vec<Request>,
    at: usize,
    sent: u64,
    users: Users,
    rng: Rng,
}

impl ExactRequests {
    /// Makes the requests that a thread goes through. `options` have been checked.
    pub(super) fn new(
        options: &BodyOptions,
        target: &Target,
        run: u32,
        seed: u64,
    ) -> ExactRequests {
        let mut rng = Rng::with_seed(seed);
        let body = options.event_bytes * options.batch as usize;
        let variants = (VARIANT_BYTES_MAX / body).clamp(1, VARIANTS_MAX);
        ExactRequests {
            variants: (0..variants)
                .map(|_| Request::new(options, target, run, &mut rng))
                .collect(),
            at: 0,
            sent: 0,
            users: options.users.law(),
            rng,
        }
    }

    /// The next request: events `first` and following, at `now_ms` since the Unix epoch.
    pub(super) fn next(&mut self, first: u64, now_ms: u64) -> Prepared<'_> {
        self.at = (self.at + 1) % self.variants.len();
        self.sent += 1;
        let request = &mut self.variants[self.at];
        for (slots, seq) in request.events.iter().zip(first..) {
            put_hex(&mut request.bytes[slots.seq.clone()], seq);
            put_decimal(&mut request.bytes[slots.timestamp.clone()], now_ms);
            let user = self.users.draw(&mut self.rng);
            put_decimal(&mut request.bytes[slots.user.clone()], user);
        }
        if let Some((timestamp, sequence, hash)) = &request.upload {
            put_decimal(&mut request.bytes[timestamp.clone()], now_ms);
            // The SDK's number has no zeros in front.
            put_decimal(
                &mut request.bytes[sequence.clone()],
                100_000_000 + self.sent,
            );
            // Looks like the SDK's digest of the body; computing that would cost as much as
            // everything else here.
            put_hex(
                &mut request.bytes[hash.clone()],
                u64::from(self.rng.u32(..)),
            );
        }
        Prepared {
            bytes: &request.bytes,
            headers_at: request.headers_at,
            events: request.events.len() as u32,
            preflight: false,
        }
    }
}

impl Request {
    fn new(options: &BodyOptions, target: &Target, run: u32, rng: &mut Rng) -> Request {
        let mut body = String::new();
        let mut events = Vec::new();
        let array = options.mode == BodyMode::Envelope || options.batch > 1;
        if array {
            body.push('[');
        }
        for at in 0..options.batch {
            if at > 0 {
                body.push(',');
            }
            events.push(push_event(&mut body, options.event_bytes, run, rng));
        }
        if array {
            body.push(']');
        }

        let mut path = target.path.clone().unwrap_or_else(|| {
            match options.mode {
                BodyMode::Envelope => "/collect",
                BodyMode::Event => "/v1/events",
            }
            .to_owned()
        });
        let agent = match options.mode {
            BodyMode::Envelope => BROWSER,
            BodyMode::Event => OWN_AGENT,
        };
        let mut upload = None;
        if options.mode == BodyMode::Envelope {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str("appId=shop&platform=Web&event_bundle_sequence_id=");
            let sequence = slot(&mut path, 9);
            path.push_str("&upload_timestamp=");
            let timestamp = slot(&mut path, 13);
            path.push_str("&hashCode=");
            let hash = slot(&mut path, 8);
            upload = Some((timestamp, sequence, hash));
        }
        let mut head = format!("POST {path} HTTP/1.1\r\n");
        let headers_at = head.len();
        // Slots in the path move behind the method.
        let moved = |slot: Range<usize>| slot.start + 5..slot.end + 5;
        let upload = upload.map(|(a, b, c)| (moved(a), moved(b), moved(c)));
        let usual = [
            ("User-Agent", agent),
            ("Accept", "*/*"),
            ("Content-Type", "application/json"),
        ];
        push_headers(
            &mut head,
            target,
            &usual,
            &options.headers,
            Some(body.len()),
        );

        let moved = |slot: Range<usize>| slot.start + head.len()..slot.end + head.len();
        let events = events
            .into_iter()
            .map(|slots| EventSlots {
                seq: moved(slots.seq),
                timestamp: moved(slots.timestamp),
                user: moved(slots.user),
            })
            .collect();
        head.push_str(&body);
        Request {
            bytes: head.into_bytes(),
            headers_at,
            events,
            upload,
        }
    }
}

/// Appends a placeholder that is overwritten later.
fn slot(text: &mut String, length: usize) -> Range<usize> {
    let start = text.len();
    text.extend(std::iter::repeat_n('0', length));
    start..text.len()
}

/// Names of events and their share in percent: visitors view more than they buy.
const NAMES: [(&str, u32); 4] = [
    ("ViewContent", 60),
    ("Search", 22),
    ("AddToCart", 13),
    ("Purchase", 5),
];

/// Appends one event of exactly `size` bytes.
pub(in crate::run) fn push_event(
    body: &mut String,
    size: usize,
    run: u32,
    rng: &mut Rng,
) -> EventSlots {
    let start = body.len();
    let mut roll = rng.u32(..100);
    let name = NAMES.iter().find(|(_, share)| {
        let found = roll < *share;
        roll = roll.wrapping_sub(*share);
        found
    });
    let name = name.map_or("ViewContent", |(name, _)| name);
    body.push_str("{\"event_id\":\"");
    let id = EventId { run, seq: 0 };
    push(body, format_args!("{id}"));
    let seq = body.len() - 12..body.len();
    body.push_str("\",\"timestamp\":");
    let timestamp = slot(body, 13);
    push(
        body,
        format_args!(",\"event_name\":\"{name}\",\"user_id\":\"u-"),
    );
    let user = slot(body, 9);
    push(
        body,
        format_args!(
            "\",\"user_ip\":\"198.51.100.{}\",\"pixel_id\":\"px-{}\",\"click_id\":\"{:016x}\",\
             \"additional_data\":{{",
            rng.u32(1..255),
            rng.u32(1_000_000..9_999_999),
            rng.u64(..),
        ),
    );
    let parts = [
        format!(
            "\"page\":{{\"url\":\"https://shop.example/products/{}\",\"title\":\"Product {}\",\
             \"referrer\":\"https://search.example/?q=shoes\"}},",
            rng.u32(..100_000),
            rng.u32(..100_000)
        ),
        format!(
            "\"item\":{{\"sku\":\"SKU-{:06}\",\"category\":\"Shoes/Running\",\"price\":{}.{:02},\
             \"currency\":\"EUR\",\"quantity\":{}}},",
            rng.u32(..1_000_000),
            rng.u32(5..500),
            rng.u32(..100),
            rng.u32(1..4)
        ),
        format!(
            "\"device\":{{\"os\":\"Android 16\",\"model\":\"Pixel 9\",\"locale\":\"de-DE\",\
             \"screen\":[1080,2424],\"timezone_offset\":{}}},",
            rng.i32(-12..14) * 3_600_000
        ),
    ];
    const REMARK: &str = "\"remark\":\"";
    const END: &str = "\"}}";
    for part in parts {
        if body.len() - start + part.len() + REMARK.len() + END.len() <= size {
            body.push_str(&part);
        }
    }
    body.push_str(REMARK);
    let end = start + size - END.len();
    while body.len() < end {
        let word = ["red ", "blue ", "fast ", "light ", "new ", "large "][rng.usize(..6)];
        body.push_str(&word[..word.len().min(end - body.len())]);
    }
    body.push_str(END);
    EventSlots {
        seq,
        timestamp,
        user,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BODY_BYTES_MAX, BodyError, EVENT_BYTES_MIN};
    use super::*;
    use crate::event_id::IdScanner;
    use crate::ledger::EVENTS_PER_REQUEST_MAX;
    use serde_json::Value;

    const NOW: u64 = 1_763_000_000_123;

    fn options(mode: BodyMode, batch: u32, event_bytes: usize) -> BodyOptions {
        BodyOptions {
            mode,
            batch,
            event_bytes,
            ..BodyOptions::default()
        }
    }

    fn split(request: &[u8]) -> (String, Vec<u8>) {
        let end = memchr::memmem::find(request, b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8(request[..end].to_vec()).unwrap();
        (head, request[end..].to_vec())
    }

    fn target() -> Target {
        Target::parse("http://127.0.0.1:8088").unwrap()
    }

    #[test]
    fn every_event_has_the_exact_size_and_its_id() {
        for size in [EVENT_BYTES_MIN, 400, 500, 600, 1024, 5_000] {
            for seed in 0..50 {
                let mut requests =
                    ExactRequests::new(&options(BodyMode::Event, 1, size), &target(), 7, seed);
                let (head, body) = split(requests.next(0x1234, NOW).bytes);
                assert_eq!(body.len(), size);
                assert!(head.contains(&format!("Content-Length: {size}\r\n")));
                let event: Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(event["event_id"], "lt-00000007-000000001234");
                assert_eq!(event["timestamp"], NOW);
                for field in ["event_name", "user_id", "user_ip", "pixel_id", "click_id"] {
                    assert!(event[field].is_string(), "{field}");
                }
                assert!(event["additional_data"].is_object());
            }
        }
    }

    #[test]
    fn a_batch_is_an_array_with_successive_ids() {
        for mode in [BodyMode::Envelope, BodyMode::Event] {
            let mut requests = ExactRequests::new(&options(mode, 20, 800), &target(), 7, 1);
            for first in [0, 20, 40] {
                let (_, body) = split(requests.next(first, NOW).bytes);
                let events: Vec<Value> = serde_json::from_slice(&body).unwrap();
                assert_eq!(events.len(), 20);
                let ids = IdScanner::default().ids(&body);
                let seqs: Vec<u64> = ids.iter().map(|id| id.seq).collect();
                assert_eq!(seqs, (first..first + 20).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn the_envelope_mode_speaks_like_the_web_sdk() {
        let mut requests =
            ExactRequests::new(&options(BodyMode::Envelope, 1, 1024), &target(), 7, 1);
        let (head, body) = split(requests.next(0, NOW).bytes);
        let line = head.lines().next().unwrap();
        assert!(
            line.starts_with(
                "POST /collect?appId=shop&platform=Web&event_bundle_sequence_id=100000001\
             &upload_timestamp=1763000000123&hashCode="
            ),
            "{line}"
        );
        assert!(line.ends_with(" HTTP/1.1"), "{line}");
        assert!(body.starts_with(b"[{"));
    }

    #[test]
    fn a_path_in_the_target_replaces_the_default_one() {
        let target = Target::parse("http://h/x?k=1").unwrap();
        let mut requests = ExactRequests::new(&options(BodyMode::Envelope, 1, 1024), &target, 7, 1);
        let (head, _) = split(requests.next(0, NOW).bytes);
        assert!(head.starts_with("POST /x?k=1&appId=shop&"), "{head}");
        let mut requests = ExactRequests::new(&options(BodyMode::Event, 1, 1024), &target, 7, 1);
        let (head, _) = split(requests.next(0, NOW).bytes);
        assert!(
            head.starts_with("POST /x?k=1 HTTP/1.1\r\nHost: h:80\r\n"),
            "{head}"
        );
    }

    #[test]
    fn own_headers_are_added_and_replace_the_default_ones() {
        let mut with = options(BodyMode::Event, 1, 1024);
        with.headers = vec!["content-type: text/plain".to_owned(), "X-Key: 1".to_owned()];
        with.check().unwrap();
        let (head, _) = split(
            ExactRequests::new(&with, &target(), 7, 1)
                .next(0, NOW)
                .bytes,
        );
        assert!(
            head.contains("content-type: text/plain\r\nX-Key: 1\r\n"),
            "{head}"
        );
        assert!(!head.contains("application/json"), "{head}");
        for header in ["x", "a b: c", "x: y\r\nz: 1", ": x"] {
            with.headers = vec![header.to_owned()];
            assert_eq!(with.check(), Err(BodyError::Header(header.to_owned())));
        }
    }

    #[test]
    fn sizes_are_accepted_up_to_their_limits_and_refused_beyond() {
        let check = |batch, size| options(BodyMode::Event, batch, size).check();
        assert!(check(1, EVENT_BYTES_MIN).is_ok());
        assert_eq!(
            check(1, EVENT_BYTES_MIN - 1),
            Err(BodyError::EventBytes(EVENT_BYTES_MIN - 1))
        );
        assert!(check(1, BODY_BYTES_MAX).is_ok());
        assert!(check(1, BODY_BYTES_MAX + 1).is_err());
        assert_eq!(check(0, 1024), Err(BodyError::Batch(0)));
        let over = EVENTS_PER_REQUEST_MAX + 1;
        assert_eq!(check(over, 1024), Err(BodyError::Batch(over)));
    }
}
