//! The requests of the SDKs in the field, and of those that are no SDK of ours: each is answered as it wants to
//! be, and its body reaches the readers as it was sent, whatever it is.

use crate::readers::{KEYS, events_of, number_in};
use crate::support::client::ORIGIN;
use crate::support::event::{array, event, new_id, new_ids};
use crate::support::proxy::{Proxy, to_kinesis};
use crate::support::stream::emulator;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sluice_loadtest::kinesis::Faults;
use std::io::Write;
use tempfile::tempdir;

const JSON: &str = "application/json; charset=utf-8";
const FORM: &str = "application/x-www-form-urlencoded";

/// How events stand in a body.
#[derive(Clone, Copy, Debug)]
enum Wrapping {
    /// A JSON array.
    Array,
    /// One JSON object.
    Object,
    /// base64 of gzip of a JSON array.
    Packed,
    /// A form: `data=` and one event in base64.
    FormData,
    /// A form: `data_list=` and base64 of gzip of a JSON array, between other fields.
    FormList,
}

/// One client: the query of its request beside `appId`, headers, and the form of its body.
#[derive(Debug)]
struct Sdk {
    name: &'static str,
    query: &'static str,
    content_type: Option<&'static str>,
    headers: &'static str,
    /// Runs in pages, which ask before they send this content type.
    asks_first: bool,
    wrapping: Wrapping,
}

const SDKS: [Sdk; 11] = [
    Sdk {
        name: "web",
        query: "platform=Web&event_bundle_sequence_id=12&upload_timestamp=1719469182900&hashCode=5c1b2f3a",
        content_type: Some(JSON),
        headers: "Origin: https://shop.example.com\r\nCookie: AWSELBAuthSessionCookie-0=x\r\n\
                  User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\n",
        asks_first: true,
        wrapping: Wrapping::Array,
    },
    Sdk {
        name: "web without permission to read (no-cors)",
        query: "platform=Web&event_bundle_sequence_id=13&upload_timestamp=1719469182901&hashCode=5c1b2f3b",
        content_type: Some("text/plain;charset=UTF-8"),
        headers: "Origin: https://shop.example.com\r\nSec-Fetch-Mode: no-cors\r\n",
        asks_first: false,
        wrapping: Wrapping::Array,
    },
    Sdk {
        name: "android",
        query: "platform=Android&event_bundle_sequence_id=1&upload_timestamp=1719469182902&hashCode=0badcafe&compression=gzip",
        content_type: Some(JSON),
        headers: "User-Agent: Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8)\r\n",
        asks_first: false,
        wrapping: Wrapping::Packed,
    },
    Sdk {
        name: "android uncompressed",
        query: "platform=Android&event_bundle_sequence_id=2&upload_timestamp=1719469182903&hashCode=0badcafe&compression=",
        content_type: Some(JSON),
        headers: "",
        asks_first: false,
        wrapping: Wrapping::Array,
    },
    Sdk {
        name: "swift",
        query: "platform=iOS&event_bundle_sequence_id=3&upload_timestamp=1719469182904&hashCode=0badcafe&compression=gzip",
        content_type: Some(JSON),
        headers: "User-Agent: shop/1 CFNetwork/1490.0.4 Darwin/23.2.0\r\n",
        asks_first: false,
        wrapping: Wrapping::Packed,
    },
    Sdk {
        name: "wechat",
        query: "platform=WeChatMP&event_bundle_sequence_id=4&hashCode=0badcafe",
        content_type: Some(JSON),
        headers: "Referer: https://servicewechat.com/wx0/devtools/page-frame.html\r\n",
        asks_first: false,
        wrapping: Wrapping::Array,
    },
    Sdk {
        name: "unity",
        query: "platform=Unity&event_bundle_sequence_id=5&upload_timestamp=1719469182905&hashCode=0badcafe&compression=gzip",
        content_type: Some(JSON),
        headers: "User-Agent: UnityPlayer/2021.3.16f1 (UnityWebRequest/1.0, libcurl/7.84.0-DEV)\r\n",
        asks_first: false,
        wrapping: Wrapping::Packed,
    },
    Sdk {
        name: "a tag manager's server container",
        query: "platform=Web&event_bundle_sequence_id=6",
        content_type: Some("application/json"),
        headers: "",
        asks_first: false,
        wrapping: Wrapping::Object,
    },
    Sdk {
        name: "sensors in a page",
        query: "event_bundle_sequence_id=7",
        content_type: Some(FORM),
        headers: "Origin: https://shop.example.com\r\n",
        asks_first: false,
        wrapping: Wrapping::FormData,
    },
    Sdk {
        name: "sensors in an app",
        query: "event_bundle_sequence_id=8",
        content_type: Some(FORM),
        headers: "",
        asks_first: false,
        wrapping: Wrapping::FormList,
    },
    Sdk {
        name: "one that names no type",
        query: "event_bundle_sequence_id=9",
        content_type: None,
        headers: "",
        asks_first: false,
        wrapping: Wrapping::Object,
    },
];

fn packed(text: &str) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    base64_simd::STANDARD.encode_to_string(encoder.finish().unwrap())
}

/// As forms have it.
fn escaped(text: &str) -> String {
    text.replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D")
}

/// What the field of a form holds.
fn field(form: &str, name: &str) -> String {
    let value = form.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    });
    let value = value.unwrap_or_else(|| panic!("no {name} in {form}"));
    value
        .replace("%2B", "+")
        .replace("%2F", "/")
        .replace("%3D", "=")
}

fn wrap(wrapping: Wrapping) -> (Vec<String>, String) {
    let ids = match wrapping {
        Wrapping::Object | Wrapping::FormData => vec![new_id()],
        _ => new_ids(20),
    };
    let body = match wrapping {
        Wrapping::Array => array(&ids),
        // With line ends and quotes that an envelope has to escape.
        Wrapping::Object => event(&ids[0], 200).replace(",\"", ",\r\n\t\"ü\\\"\\u00e4\":1,\""),
        Wrapping::Packed => packed(&array(&ids)),
        Wrapping::FormData => {
            let one = base64_simd::STANDARD.encode_to_string(event(&ids[0], 200));
            format!("data={}&ext=crc%3D-1218374906", escaped(&one))
        }
        Wrapping::FormList => {
            let list = escaped(&packed(&array(&ids)));
            format!("crc=-1218374906&gzip=1&data_list={list}&sink_name=mirror")
        }
    };
    (ids, body)
}

/// The events of a record by the rules of the reader for that client.
fn read(record: &Value, wrapping: Wrapping) -> Vec<Value> {
    let form = record["data"].as_str().unwrap();
    match wrapping {
        Wrapping::FormData => {
            let one = base64_simd::STANDARD.decode_to_vec(field(form, "data"));
            vec![serde_json::from_slice(&one.unwrap()).unwrap()]
        }
        // Within the form it is what other clients have for a body.
        Wrapping::FormList => events_of(&json!({ "data": field(form, "data_list") })),
        _ => events_of(record),
    }
}

/// One stored line as an envelope: 17 keys in their order.
pub(crate) fn envelope(line: &[u8]) -> Value {
    let line = std::str::from_utf8(line).unwrap();
    let record: Value = serde_json::from_str(line).unwrap();
    // A request that names no upload_timestamp has that key, and no client_timestamp.
    let is_null = record.get("upload_timestamp") == Some(&Value::Null);
    let keys = KEYS
        .into_iter()
        .filter(|key| !is_null || *key != "client_timestamp");
    // Written in this order, which a parsed object does not keep.
    let mut at = 0;
    for key in keys {
        let found = line[at..].find(&format!("\"{key}\":"));
        at += found.unwrap_or_else(|| panic!("{key} is not in its place: {line}"));
    }
    assert_eq!(record.as_object().unwrap().len(), KEYS.len(), "{line}");
    record
}

/// What a page asks before its first request.
fn assert_asked(proxy: &Proxy, uri: &str) {
    let reply = proxy.connect().ask(format!(
        "OPTIONS {uri} HTTP/1.1\r\nHost: t\r\nOrigin: {ORIGIN}\r\n\
         Access-Control-Request-Method: POST\r\n\
         Access-Control-Request-Headers: content-type,user-agent\r\n\r\n"
    ));
    assert_eq!(reply.status, 204);
    assert!(reply.body.is_empty());
    reply.assert_readable();
    let list = |name: &str| -> Vec<String> {
        let value = reply.header(name).unwrap_or_else(|| panic!("no {name}"));
        let words = value.split(',');
        words.map(|word| word.trim().to_ascii_lowercase()).collect()
    };
    let methods = list("access-control-allow-methods");
    for method in ["get", "post", "options"] {
        assert!(methods.iter().any(|allowed| allowed == method), "{method}");
    }
    let headers = list("access-control-allow-headers");
    // All that the replaced tier allows.
    for name in "dnt,x-customheader,keep-alive,user-agent,x-requested-with,if-modified-since,cache-control,content-type"
        .split(',')
    {
        assert!(headers.iter().any(|allowed| allowed == name), "{name}");
    }
    assert_eq!(reply.header("access-control-max-age"), Some("7200"));
}

#[test]
fn every_sdk_gets_its_response_and_bodies_stay_unchanged() {
    let stream = emulator(Faults::default());
    let dir = tempdir().unwrap();
    let settings = to_kinesis(&stream.url()) + "[cors]\norigins = 'https://*.example.com'\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let mut sent = Vec::new();
    for sdk in &SDKS {
        let uri = format!("/collect?appId=shop&{}", sdk.query);
        if sdk.asks_first {
            assert_asked(&proxy, &uri);
        }
        let (ids, body) = wrap(sdk.wrapping);
        let content_type = sdk.content_type.map_or_else(String::new, |content_type| {
            format!("Content-Type: {content_type}\r\n")
        });
        let reply = proxy.connect().ask(format!(
            "POST {uri} HTTP/1.1\r\nHost: t\r\n{content_type}{}Content-Length: {}\r\n\r\n{body}",
            sdk.headers,
            body.len()
        ));
        // Neither 202 nor 204: most of them take nothing else for a success.
        assert_eq!(reply.status, 200, "{}: {reply:?}", sdk.name);
        assert!(reply.body.is_empty(), "{}", sdk.name);
        let rid = reply.header("x-request-id").unwrap().to_owned();
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        assert!(rid.len() == 32 && rid.bytes().all(is_hex), "{rid}");
        if sdk.headers.contains("Origin: ") {
            reply.assert_readable();
        }
        sent.push((sdk, uri, ids, body, rid));
    }
    proxy.end_cleanly();

    let records: Vec<Value> = stream
        .stored_records()
        .iter()
        .map(|record| envelope(&record.data))
        .collect();
    // One for each request, and none for a preflight.
    assert_eq!(records.len(), SDKS.len());
    for (sdk, uri, ids, body, rid) in sent {
        let mine = records.iter().find(|record| record["rid"] == *rid);
        let record = mine.unwrap_or_else(|| panic!("{} is not stored", sdk.name));
        assert_eq!(record["data"], *body, "{}", sdk.name);
        assert_eq!(record["uri"], *uri);
        assert_eq!(record["method"], "POST");
        assert_eq!(record["path"], "/collect");
        assert_eq!(record["appId"], "shop");
        for (key, name) in [("platform", "platform"), ("compression", "compression")] {
            let asked = sdk.query.split('&').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                (key == name).then_some(value)
            });
            assert_eq!(record[key].as_str(), asked, "{}: {key}", sdk.name);
        }
        let sequence = number_in(sdk.query, "event_bundle_sequence_id");
        assert_eq!(number_in(&uri, "event_bundle_sequence_id"), sequence);
        assert!(sequence.is_some());
        let uploaded = number_in(sdk.query, "upload_timestamp").map(|millis| millis.to_string());
        assert_eq!(
            record.get("client_timestamp").and_then(Value::as_str),
            uploaded.as_deref()
        );
        let events = read(record, sdk.wrapping);
        let found: Vec<&str> = events
            .iter()
            .map(|event| event["id"].as_str().unwrap())
            .collect();
        assert_eq!(found, ids, "{}", sdk.name);
    }
}
