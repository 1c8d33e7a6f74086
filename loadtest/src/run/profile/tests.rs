//! Each profile's requests, read by third-party code: serde_json, flate2, and a hash over the sent bytes.

use super::*;
use crate::event_id::{EventId, IdScanner};
use crate::run::body::{BodySource, UserOptions};
use serde_json::Value as Json;
use std::collections::{HashMap, HashSet};

const NOW: u64 = 1_763_000_000_123;
const RUN: u32 = 7;

const ALL: [Profile; 6] = [
    Profile::Web,
    Profile::Mobile,
    Profile::Single,
    Profile::Flat,
    Profile::Batch,
    Profile::Firehose,
];

struct Sent {
    line: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
    /// The body as JSON, out of its base64 and gzip if it is that.
    events: Vec<Json>,
    count: u32,
    preflight: bool,
}

fn options(profile: Profile) -> BodyOptions {
    BodyOptions {
        source: BodySource::Profile(profile),
        ..BodyOptions::default()
    }
}

fn requests(options: &BodyOptions, url: &str, seed: u64) -> ProfileRequests {
    let BodySource::Profile(profile) = options.source else {
        panic!("not a profile");
    };
    ProfileRequests::new(profile, options, &Target::parse(url).unwrap(), RUN, seed)
}

fn read(prepared: Prepared<'_>) -> Sent {
    let end = memchr::memmem::find(prepared.bytes, b"\r\n\r\n").unwrap() + 4;
    let head = std::str::from_utf8(&prepared.bytes[..end]).unwrap();
    let (line, rest) = head.split_once("\r\n").unwrap();
    assert_eq!(prepared.headers_at, line.len() + 2);
    let headers: HashMap<String, String> = rest
        .lines()
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let body = prepared.bytes[end..].to_vec();
    let text = match body.starts_with(b"H4sI") {
        true => {
            let gzip = base64_simd::STANDARD.decode_to_vec(&body).unwrap();
            let mut text = Vec::new();
            let mut inflate = flate2::read::GzDecoder::new(&*gzip);
            std::io::Read::read_to_end(&mut inflate, &mut text).unwrap();
            text
        }
        false => body.clone(),
    };
    let events = match text.is_empty() {
        true => vec![],
        false => match serde_json::from_slice(&text).unwrap() {
            Json::Array(events) => events,
            object => vec![object],
        },
    };
    Sent {
        line: line.to_owned(),
        headers,
        body,
        events,
        count: prepared.events,
        preflight: prepared.preflight,
    }
}

/// Requests as a worker asks for them, some milliseconds apart.
fn send(options: &BodyOptions, count: usize) -> Vec<Sent> {
    // Large ones take their time to read.
    let count = match options.source {
        BodySource::Profile(Profile::Mobile) => count.div_ceil(10),
        BodySource::Profile(Profile::Firehose) => count.div_ceil(4),
        _ => count,
    };
    let mut requests = requests(options, "http://h:1", 3);
    let mut first = 0x1000;
    let mut now = NOW;
    let mut sent = Vec::new();
    for _ in 0..count {
        let request = read(requests.next(first, now));
        first += u64::from(request.count);
        now += 7;
        sent.push(request);
    }
    sent
}

#[test]
fn every_event_has_an_id_a_time_and_a_user() {
    for profile in ALL {
        let mut next = 0x1000;
        let mut now = NOW;
        for request in send(&options(profile), 300) {
            assert_eq!(request.events.len() as u32, request.count, "{profile:?}");
            let mut last = 0;
            for event in &request.events {
                let id = EventId {
                    run: RUN,
                    seq: next,
                };
                assert_eq!(event["event_id"], id.to_string(), "{profile:?}");
                next += 1;
                let time = match &event["timestamp"] {
                    Json::String(text) => text.parse().unwrap(),
                    number => number.as_u64().unwrap(),
                };
                assert!(time >= last && time <= now, "{profile:?}: {time}");
                assert!(now - time <= 900_000, "{profile:?}: {time}");
                last = time;
                let user = match profile.dialect() {
                    Dialect::Server => &event["user_id"],
                    Dialect::Web | Dialect::Mobile => &event["unique_id"],
                };
                let number = user.as_str().unwrap().strip_prefix("u-").unwrap();
                assert!(number.parse::<u32>().unwrap() < 1_000_000);
            }
            if !request.preflight {
                assert_eq!(last, now, "the last event is the newest");
            }
            now += 7;
        }
    }
}

#[test]
fn ids_are_found_raw_and_inside_envelopes() {
    let scanner = IdScanner::default();
    for profile in ALL {
        let mut next = 0x1000;
        for request in send(&options(profile), 50) {
            let seqs = next..next + u64::from(request.count);
            let expected: Vec<EventId> = seqs.map(|seq| EventId { run: RUN, seq }).collect();
            next += u64::from(request.count);
            assert_eq!(scanner.ids(&request.body), expected, "{profile:?}");
            let body = String::from_utf8(request.body).unwrap();
            let record = serde_json::json!({"data": body, "method": "POST"}).to_string();
            assert_eq!(scanner.ids(record.as_bytes()), expected, "{profile:?}");
        }
    }
}

#[test]
fn the_head_says_what_the_body_is() {
    for profile in ALL {
        for request in send(&options(profile), 50) {
            assert_eq!(request.headers["Host"], "h:1");
            if request.preflight {
                continue;
            }
            let length = request.body.len().to_string();
            assert_eq!(request.headers["Content-Length"], length);
            assert!(request.headers["Content-Type"].starts_with("application/json"));
            let path = match profile.dialect() {
                Dialect::Server => "POST /v1/events HTTP/1.1",
                Dialect::Web => "POST /collect?appId=shop&platform=Web&",
                Dialect::Mobile => "POST /collect?appId=shop&platform=Android&",
            };
            assert!(request.line.starts_with(path), "{}", request.line);
            let packed = request.line.contains("&compression=gzip");
            assert_eq!(packed, profile.dialect() == Dialect::Mobile);
            assert_eq!(packed, request.body.starts_with(b"H4sI"));
        }
    }
}

#[test]
fn the_query_has_hash_time_and_sequence() {
    for profile in [Profile::Web, Profile::Mobile, Profile::Batch] {
        let mut now = NOW;
        let mut bundles = HashSet::new();
        for request in send(&options(profile), 100) {
            let (_, query) = request.line.split_once('?').unwrap();
            let (query, _) = query.split_once(' ').unwrap();
            let query: HashMap<&str, &str> = query
                .split('&')
                .map(|one| one.split_once('=').unwrap())
                .collect();
            assert_eq!(query["upload_timestamp"], now.to_string());
            now += 7;
            let bundle = query["event_bundle_sequence_id"];
            assert!(bundles.insert(bundle.to_owned()), "{bundle} again");
            assert!(!bundle.starts_with('0'));
            if !request.preflight {
                let digest = Sha256::digest(&request.body);
                let hash: String = digest[..4]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect();
                assert_eq!(query["hashCode"], hash, "{profile:?}");
            }
        }
    }
}

#[test]
fn numbers_and_sizes_of_events_are_those_of_the_profile() {
    let sizes = |profile| -> (Vec<u32>, Vec<usize>) {
        let sent = send(&options(profile), 1_000);
        let requests = sent.iter().filter(|request| !request.preflight);
        requests
            .map(|request| (request.count, request.body.len()))
            .unzip()
    };
    let between = |values: &[usize], min, max| {
        let (low, high) = (values.iter().min().unwrap(), values.iter().max().unwrap());
        assert!(*low >= min && *high <= max, "{low} to {high}");
    };
    let counts = |counts: &[u32]| counts.iter().copied().collect::<HashSet<u32>>();

    let (web, _) = sizes(Profile::Web);
    assert_eq!(counts(&web), (1..=10).collect());
    // Geometric with p 0.3, cut at 10: (1 - 0.7^10) / 0.3.
    let mean = web.iter().sum::<u32>() as f64 / web.len() as f64;
    assert!((2.7..3.8).contains(&mean), "{mean}");

    let (mobile, bytes) = sizes(Profile::Mobile);
    assert!(mobile.iter().all(|count| (50..=100).contains(count)));
    assert!(counts(&mobile).len() > 5);
    between(&bytes, 3_000, 20_000);

    let (single, bytes) = sizes(Profile::Single);
    assert_eq!(counts(&single), [1].into());
    between(&bytes, 700, 1_500);
    let mean = bytes.iter().sum::<usize>() / bytes.len();
    assert!((900..1_100).contains(&mean), "{mean}");

    let (flat, bytes) = sizes(Profile::Flat);
    assert_eq!(counts(&flat), [1].into());
    between(&bytes, server::FLAT_BYTES_MIN, server::FLAT_BYTES_MAX);
    assert!(bytes.iter().any(|bytes| *bytes > 3_000) && bytes.iter().any(|bytes| *bytes < 700));

    let (batch, bytes) = sizes(Profile::Batch);
    assert_eq!(counts(&batch), [10].into());
    between(&bytes, 1_700, 2_500);

    let (firehose, bytes) = sizes(Profile::Firehose);
    assert!(firehose.iter().all(|count| (20..=200).contains(count)));
    let events = firehose.iter().sum::<u32>() as usize;
    between(&[bytes.iter().sum::<usize>() / events], 170, 230);
}

#[test]
fn events_have_the_fields_and_kinds_of_their_traffic() {
    let kinds = |profile, field: &str| -> HashMap<String, u32> {
        let mut kinds = HashMap::new();
        for request in send(&options(profile), 1_000) {
            for event in &request.events {
                let kind = event[field].as_str().unwrap().to_owned();
                *kinds.entry(kind).or_default() += 1;
            }
        }
        kinds
    };
    let names =
        |kinds: &HashMap<String, u32>| -> HashSet<String> { kinds.keys().cloned().collect() };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();

    let web = kinds(Profile::Web, "event_type");
    let usual = [
        "_page_view",
        "_scroll",
        "_click",
        "_user_engagement",
        "_search",
    ];
    assert_eq!(names(&web), set(&usual));
    let single = kinds(Profile::Single, "event_name");
    assert_eq!(
        names(&single),
        set(&["Search", "AddToCart", "ViewContent", "Purchase"])
    );
    let firehose = kinds(Profile::Firehose, "event_name");
    assert_eq!(names(&firehose), set(&["mouse_move", "order"]));
    let moves_per_order = firehose["mouse_move"] / firehose["order"];
    assert!((100..1_000).contains(&moves_per_order), "{moves_per_order}");

    for request in send(&options(Profile::Single), 50) {
        let event = &request.events[0];
        for field in ["user_ip", "pixel_id", "click_id"] {
            assert!(event[field].is_string(), "{field}");
        }
        assert!(event["additional_data"].is_object());
    }
    for request in send(&options(Profile::Flat), 50) {
        let event = request.events[0].as_object().unwrap();
        assert!(event.values().all(Json::is_string), "{event:?}");
    }
    for profile in [Profile::Web, Profile::Mobile, Profile::Batch] {
        for event in send(&options(profile), 50)
            .iter()
            .flat_map(|request| &request.events)
        {
            for field in [
                "device_id",
                "app_id",
                "platform",
                "locale",
                "sdk_version",
                "sdk_name",
            ] {
                assert!(event[field].is_string(), "{profile:?}: {field}");
            }
            let (user, session) = (&event["unique_id"], &event["attributes"]);
            assert_eq!(event["user"]["_user_id"]["value"], *user);
            let start = session["_session_start_timestamp"].as_u64().unwrap();
            let id = format!("{}-{start}", user.as_str().unwrap());
            assert_eq!(session["_session_id"], id);
            let age = event["timestamp"].as_u64().unwrap() - start;
            assert_eq!(session["_session_duration"], age);
        }
    }
}

#[test]
fn preflights_are_sent_in_their_share_and_carry_nothing() {
    let mut with = options(Profile::Web);
    with.preflights = Some(0.5);
    let sent = send(&with, 1_000);
    let preflights: Vec<&Sent> = sent.iter().filter(|request| request.preflight).collect();
    assert!(
        (400..600).contains(&preflights.len()),
        "{}",
        preflights.len()
    );
    for request in preflights {
        assert!(
            request
                .line
                .starts_with("OPTIONS /collect?appId=shop&platform=Web&")
        );
        assert_eq!(request.headers["Access-Control-Request-Method"], "POST");
        assert_eq!(request.headers["Origin"], "https://shop.example");
        assert!(request.body.is_empty() && request.count == 0);
        assert!(!request.headers.contains_key("Content-Length"));
    }
    with.preflights = Some(0.0);
    assert!(send(&with, 300).iter().all(|request| !request.preflight));
    for profile in ALL {
        let mut options = options(profile);
        options.preflights = Some(0.1);
        assert_eq!(options.check().is_ok(), profile == Profile::Web);
    }
}

#[test]
fn requests_depend_on_the_seed_alone() {
    for profile in [Profile::Web, Profile::Flat, Profile::Batch] {
        let make = |seed| {
            let mut requests = requests(&options(profile), "http://h", seed);
            let mut all = Vec::new();
            for first in 0..50 {
                all.extend_from_slice(requests.next(first, NOW).bytes);
            }
            all
        };
        assert_eq!(make(1), make(1), "{profile:?}");
        assert_ne!(make(1), make(2), "{profile:?}");
    }
}

#[test]
fn target_path_and_headers_replace_the_defaults() {
    let mut own = options(Profile::Web);
    own.headers = vec!["origin: https://x".to_owned(), "X-Key: 1".to_owned()];
    own.preflights = Some(0.0);
    let mut requests = requests(&own, "http://h/x?k=1", 1);
    let request = read(requests.next(0, NOW));
    assert!(
        request.line.starts_with("POST /x?k=1&appId=shop&"),
        "{}",
        request.line
    );
    assert_eq!(request.headers["origin"], "https://x");
    assert_eq!(request.headers["X-Key"], "1");
    assert!(!request.headers.contains_key("Origin"));
}

#[test]
fn few_users_are_hot_under_zipfs_law() {
    let mut skewed = options(Profile::Single);
    skewed.users = UserOptions {
        count: 1_000,
        zipf: Some(1.0),
    };
    let mut counts: HashMap<String, u32> = HashMap::new();
    for request in send(&skewed, 3_000) {
        let user = request.events[0]["user_id"].as_str().unwrap().to_owned();
        *counts.entry(user).or_default() += 1;
    }
    // One over the 1,000th harmonic number: 13.4 %.
    let hottest = counts["u-000000000"];
    assert!((320..480).contains(&hottest), "{hottest}");
    for (count, zipf) in [
        (0, None),
        (1, Some(0.0)),
        (1, Some(f64::NAN)),
        (1, Some(10.1)),
    ] {
        skewed.users = UserOptions { count, zipf };
        assert!(skewed.check().is_err(), "{count} {zipf:?}");
    }
}
