//! Traffic by name: requests as the clients in the field send them, from a seed.
//!
//! | profile | request | events | sizes |
//! | --- | --- | --- | --- |
//! | `web` | POST /collect, JSON array in plain text, and CORS preflights | 1-10, geometric with p 0.3: a browser flushes often | 0.9-1.1 KB an event, by its kind |
//! | `mobile` | POST /collect, base64 of gzip of an array | 50-100, all alike: what the SDK drains at once | 0.9-1.1 KB an event, about 120 bytes of it sent |
//! | `single` | POST /v1/events, one object | 1 | log-normal, median 1,000 bytes, sigma 0.12, 700-1,500 |
//! | `flat` | POST /v1/events, one object of string pairs | 1 | log-normal, median 1,400 bytes, sigma 0.6, 512-4,096 |
//! | `batch` | POST /collect, base64 of gzip of an array | 10 | about 2 KB in all |
//! | `firehose` | POST /v1/events, array of mouse moves | 20-200, log-normal, median 60, sigma 0.6; 1 of 300 is an order | about 200 bytes an event |
//!
//! Shapes, bounds and query strings are those of the SDKs and of the replaced tier's published
//! benchmark; where only bounds are known, as for `flat`, the distribution between them is our choice.
//! Sizes and mixes are drawn when a thread starts, for a set of requests that it then goes
//! through; ids, times, users, checksums and hashes are rewritten for each request.

mod gzip;
pub(super) mod random;
mod sdk;
mod server;
pub(super) mod template;

use super::body::{BodyOptions, PREFLIGHTS, Prepared, push_headers};
use super::target::Target;
use crate::event_id::put_hex;
use base64_simd::AsOut;
use fastrand::Rng;
use gzip::Packed;
use random::{Users, log_normal};
use sdk::Sdk;
use sha2::{Digest, Sha256};
use std::ops::Range;
use template::{Moment, Slot, Text, Value};

/// Different requests that a thread goes through: enough for their sizes to follow their
/// distribution, as long as they fit in this memory, and at least so many.
const VARIANTS_MAX: usize = 256;
const VARIANTS_MIN: usize = 8;
const VARIANT_BYTES_MAX: usize = 2 << 20;

/// Traffic that requests stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Browsers with the web SDK: 1 to 10 events in plain text, and preflights.
    Web,
    /// Phones with a mobile SDK: 50 to 100 events, compressed.
    Mobile,
    /// Servers: one event of about 1 KB with nested data.
    Single,
    /// Servers: one object of string pairs, 0.5 to 4 KB.
    Flat,
    /// The published benchmark of the replaced tier: 10 events in 2 KB, compressed.
    Batch,
    /// Mouse moves in arrays of 20 to 200, and an order in some hundred of them.
    Firehose,
}

impl Profile {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Profile::Web => "web",
            Profile::Mobile => "mobile",
            Profile::Single => "single",
            Profile::Flat => "flat",
            Profile::Batch => "batch",
            Profile::Firehose => "firehose",
        }
    }

    /// Events that one of its requests may have at most.
    #[must_use]
    pub fn events_max(self) -> u32 {
        match self {
            Profile::Web | Profile::Batch => 10,
            Profile::Mobile => 100,
            Profile::Single | Profile::Flat => 1,
            Profile::Firehose => 200,
        }
    }

    /// Whether an answer of 200 may refuse single events.
    pub(super) fn answers_per_event(self) -> bool {
        self.dialect() == Dialect::Server
    }

    fn dialect(self) -> Dialect {
        match self {
            Profile::Web => Dialect::Web,
            Profile::Mobile | Profile::Batch => Dialect::Mobile,
            Profile::Single | Profile::Flat | Profile::Firehose => Dialect::Server,
        }
    }

    fn draw_events(self, rng: &mut Rng) -> u32 {
        match self {
            Profile::Web => {
                let more = (1..self.events_max()).take_while(|_| rng.f64() > WEB_LAST);
                1 + more.count() as u32
            }
            Profile::Mobile => rng.u32(50..=self.events_max()),
            Profile::Single | Profile::Flat => 1,
            Profile::Batch => self.events_max(),
            Profile::Firehose => log_normal(rng, 60.0, 0.6, 20, self.events_max() as usize) as u32,
        }
    }
}

/// The share of a browser's requests that end after any one event.
const WEB_LAST: f64 = 0.3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Web,
    Mobile,
    Server,
}

impl Dialect {
    fn path(self) -> &'static str {
        match self {
            Dialect::Web | Dialect::Mobile => "/collect",
            Dialect::Server => "/v1/events",
        }
    }

    fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Dialect::Web => &[
                ("User-Agent", super::body::BROWSER),
                ("Accept", "*/*"),
                ("Accept-Language", "de-DE,de;q=0.9,en;q=0.8"),
                ("Content-Type", "application/json; charset=utf-8"),
                ("Origin", "https://shop.example"),
                ("Referer", "https://shop.example/"),
                ("Sec-Fetch-Site", "cross-site"),
                ("Sec-Fetch-Mode", "cors"),
                ("Sec-Fetch-Dest", "empty"),
            ],
            Dialect::Mobile => &[
                ("User-Agent", "okhttp/4.9.3"),
                ("Content-Type", "application/json; charset=utf-8"),
            ],
            Dialect::Server => &[
                ("User-Agent", super::body::OWN_AGENT),
                ("Accept", "*/*"),
                ("Content-Type", "application/json"),
            ],
        }
    }
}

/// The preflight that a browser sends before JSON to another origin with credentials.
const PREFLIGHT_HEADERS: [(&str, &str); 8] = [
    ("User-Agent", super::body::BROWSER),
    ("Accept", "*/*"),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "content-type"),
    ("Origin", "https://shop.example"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Mode", "cors"),
    ("Sec-Fetch-Dest", "empty"),
];

/// One request that can be sent again and again with other events.
#[derive(Clone, Debug)]
struct Variant {
    /// Head, then body.
    bytes: Vec<u8>,
    headers_at: usize,
    body_at: usize,
    head_slots: Vec<Slot>,
    /// 8 hex digits in the head: the start of the body's SHA-256.
    hash: Option<Range<usize>>,
    body: Body,
    events: u32,
}

#[derive(Clone, Debug)]
enum Body {
    Plain(Vec<Slot>),
    Packed(Box<Packed>),
}

/// Requests of one thread.
#[derive(Debug)]
pub(super) struct ProfileRequests {
    variants: Vec<Variant>,
    preflight: Option<Variant>,
    preflights: f64,
    at: usize,
    sent: u64,
    users: Users,
    rng: Rng,
}

impl ProfileRequests {
    /// Makes the requests that a thread goes through. `options` have been checked.
    pub(super) fn new(
        profile: Profile,
        options: &BodyOptions,
        target: &Target,
        run: u32,
        seed: u64,
    ) -> ProfileRequests {
        let mut rng = Rng::with_seed(seed);
        let mut variants = Vec::new();
        let mut held = 0;
        while variants.len() < VARIANTS_MIN
            || (variants.len() < VARIANTS_MAX && held < VARIANT_BYTES_MAX)
        {
            let variant = variant(profile, options, target, run, &mut rng);
            held += variant.held();
            variants.push(variant);
        }
        let preflights = match profile {
            Profile::Web => options.preflights.unwrap_or(PREFLIGHTS),
            _ => 0.0,
        };
        ProfileRequests {
            preflight: (preflights > 0.0).then(|| preflight(options, target)),
            preflights,
            variants,
            at: 0,
            sent: 0,
            users: options.users.law(),
            rng,
        }
    }

    /// The next request: events `first` and following, at `now_ms` since the Unix epoch.
    pub(super) fn next(&mut self, first: u64, now_ms: u64) -> Prepared<'_> {
        self.sent += 1;
        let mut moment = Moment {
            first,
            now_ms,
            user: 0,
            bundle: self.sent,
        };
        if let Some(preflight) = &mut self.preflight
            && self.rng.f64() < self.preflights
        {
            preflight.fill(&moment);
            return preflight.prepared();
        }
        moment.user = self.users.draw(&mut self.rng);
        self.at = (self.at + 1) % self.variants.len();
        let variant = &mut self.variants[self.at];
        variant.fill(&moment);
        variant.prepared()
    }
}

impl Variant {
    fn held(&self) -> usize {
        let packed = match &self.body {
            Body::Plain(_) => 0,
            Body::Packed(packed) => packed.held(),
        };
        self.bytes.len() + packed
    }

    fn prepared(&self) -> Prepared<'_> {
        Prepared {
            bytes: &self.bytes,
            headers_at: self.headers_at,
            events: self.events,
            preflight: self.events == 0,
        }
    }

    fn fill(&mut self, moment: &Moment) {
        let (head, body) = self.bytes.split_at_mut(self.body_at);
        moment.fill(head, 0, &self.head_slots);
        match &mut self.body {
            Body::Plain(slots) => moment.fill(body, 0, slots),
            Body::Packed(packed) => {
                packed.fill(moment);
                // The stream's length never changes, and neither does its base64.
                let _ = base64_simd::STANDARD.encode(packed.stream(), body.as_out());
            }
        }
        if let Some(hash) = &self.hash {
            let digest = Sha256::digest(body);
            let first = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
            put_hex(&mut head[hash.clone()], u64::from(first));
        }
    }
}

fn variant(
    profile: Profile,
    options: &BodyOptions,
    target: &Target,
    run: u32,
    rng: &mut Rng,
) -> Variant {
    let mut text = Text::default();
    let events = profile.draw_events(rng);
    match profile {
        Profile::Web => sdk::push_events(&mut text, Sdk::Web, events, run, rng),
        Profile::Mobile | Profile::Batch => {
            sdk::push_events(&mut text, Sdk::Android, events, run, rng);
        }
        Profile::Single => server::push_single(&mut text, run, rng),
        Profile::Flat => server::push_flat(&mut text, run, rng),
        Profile::Firehose => server::push_firehose(&mut text, events, run, rng),
    }
    let (body, sent) = match profile.dialect() {
        Dialect::Mobile => {
            let packed = Packed::new(text);
            let sent = base64_simd::STANDARD.encode_to_string(packed.stream());
            (Body::Packed(Box::new(packed)), sent)
        }
        Dialect::Web | Dialect::Server => (Body::Plain(text.slots), text.text),
    };
    let dialect = profile.dialect();
    let mut head = Text::default();
    let (headers_at, hash) = push_line(&mut head, "POST", dialect, target);
    push_headers(
        &mut head.text,
        target,
        dialect.headers(),
        &options.headers,
        Some(sent.len()),
    );
    let body_at = head.text.len();
    let mut bytes = head.text.into_bytes();
    bytes.extend_from_slice(sent.as_bytes());
    Variant {
        bytes,
        headers_at,
        body_at,
        head_slots: head.slots,
        hash,
        body,
        events,
    }
}

fn preflight(options: &BodyOptions, target: &Target) -> Variant {
    let mut head = Text::default();
    let (headers_at, _) = push_line(&mut head, "OPTIONS", Dialect::Web, target);
    push_headers(
        &mut head.text,
        target,
        &PREFLIGHT_HEADERS,
        &options.headers,
        None,
    );
    Variant {
        headers_at,
        body_at: head.text.len(),
        bytes: head.text.into_bytes(),
        head_slots: head.slots,
        hash: None,
        body: Body::Plain(Vec::new()),
        events: 0,
    }
}

/// Appends the request line. Returns where the headers begin, and where the body's hash goes.
fn push_line(
    head: &mut Text,
    method: &str,
    dialect: Dialect,
    target: &Target,
) -> (usize, Option<Range<usize>>) {
    let path = target.path.as_deref().unwrap_or(dialect.path());
    head.format(format_args!("{method} {path}"));
    let mut hash = None;
    if dialect != Dialect::Server {
        let platform = match dialect {
            Dialect::Web => "Web",
            _ => "Android",
        };
        let first = if path.contains('?') { '&' } else { '?' };
        head.format(format_args!(
            "{first}appId=shop&platform={platform}&event_bundle_sequence_id="
        ));
        head.slot(Value::Bundle);
        head.push("&upload_timestamp=");
        head.slot(Value::TimeMs { back_ms: 0 });
        head.push("&hashCode=");
        hash = Some(head.len()..head.len() + 8);
        head.push("00000000");
        if dialect == Dialect::Mobile {
            head.push("&compression=gzip");
        }
    }
    head.push(" HTTP/1.1\r\n");
    (head.len(), hash)
}

#[cfg(test)]
mod tests;
