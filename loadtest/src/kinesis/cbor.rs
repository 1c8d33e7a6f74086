//! `application/x-amz-cbor-1.1`, as the Java SDKs speak it: the same calls as in JSON, with bytes in
//! place of base64 and times in tagged milliseconds. Turns one into the other at the edge, so that
//! every rule of the service is written once.

use super::api::{ApiError, json};
use ciborium::Value as Cbor;
use hyper::header::CONTENT_TYPE as CONTENT_TYPE_HEADER;
use hyper::http::request::Parts;
use serde_json::{Map, Number, Value as Json};

pub(super) const CONTENT_TYPE: &str = "application/x-amz-cbor-1.1";

/// Nesting of values in a call: no operation needs more than 4.
const DEPTH_MAX: usize = 16;

/// The tag of times.
const EPOCH: u64 = 1;

/// Members of answers that are bytes, and those that are times in seconds.
const BYTES: [&str; 1] = ["Data"];
const TIMES: [&str; 2] = ["ApproximateArrivalTimestamp", "StreamCreationTimestamp"];

/// Whether a call speaks CBOR, and so wants its answer in it.
pub(super) fn is_spoken(head: &Parts) -> bool {
    let said = head.headers.get(CONTENT_TYPE_HEADER);
    said.is_some_and(|said| said.as_bytes().starts_with(CONTENT_TYPE.as_bytes()))
}

/// The JSON of a call's body.
///
/// # Errors
/// When it is no CBOR, or has no counterpart in JSON.
pub(super) fn to_json(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let bad = |message: String| ApiError::serialization(format!("CBOR: {message}"));
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let mut rest = body;
    let value: Cbor = ciborium::de::from_reader_with_recursion_limit(&mut rest, DEPTH_MAX)
        .map_err(|error| bad(error.to_string()))?;
    if !rest.is_empty() {
        return Err(bad(format!("{} bytes after the call", rest.len())));
    }
    let value = json_of(value).ok_or_else(|| bad("a value that no member has".to_owned()))?;
    Ok(json(&value))
}

fn json_of(value: Cbor) -> Option<Json> {
    Some(match value {
        Cbor::Null => Json::Null,
        Cbor::Bool(value) => value.into(),
        Cbor::Integer(value) => Json::Number(Number::from_i128(value.into())?),
        Cbor::Float(value) => Json::Number(Number::from_f64(value)?),
        Cbor::Text(text) => text.into(),
        Cbor::Bytes(bytes) => base64_simd::STANDARD.encode_to_string(bytes).into(),
        // Whole numbers are milliseconds, others seconds.
        Cbor::Tag(EPOCH, time) => match *time {
            Cbor::Integer(millis) => Number::from_f64(i128::from(millis) as f64 / 1_000.0)?.into(),
            other => json_of(other)?,
        },
        Cbor::Array(values) => values.into_iter().map(json_of).collect::<Option<_>>()?,
        Cbor::Map(members) => {
            let member =
                |(name, value): (Cbor, Cbor)| Some((name.into_text().ok()?, json_of(value)?));
            let members: Option<Map<String, Json>> = members.into_iter().map(member).collect();
            Json::Object(members?)
        }
        _ => return None,
    })
}

/// The CBOR of an answer's JSON; an empty answer stays empty.
pub(super) fn from_json(answer: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(answer.len());
    // Our own responses are valid JSON, and writing to memory cannot fail.
    if let Ok(value) = serde_json::from_slice(answer) {
        let _ = ciborium::into_writer(&cbor_of("", value), &mut written);
    }
    written
}

fn cbor_of(name: &str, value: Json) -> Cbor {
    match value {
        Json::Null => Cbor::Null,
        Json::Bool(value) => value.into(),
        Json::Number(seconds) if TIMES.contains(&name) => {
            let millis = (seconds.as_f64().unwrap_or_default() * 1_000.0).round() as i64;
            Cbor::Tag(EPOCH, Box::new(millis.into()))
        }
        Json::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap_or_default().into(),
        },
        Json::String(text) if BYTES.contains(&name) => {
            match base64_simd::STANDARD.decode_to_vec(&text) {
                Ok(bytes) => Cbor::Bytes(bytes),
                Err(_) => text.into(),
            }
        }
        Json::String(text) => text.into(),
        Json::Array(values) => {
            let values = values.into_iter().map(|value| cbor_of("", value));
            Cbor::Array(values.collect())
        }
        Json::Object(members) => {
            let member = |(name, value): (String, Json)| {
                let value = cbor_of(&name, value);
                (name.into(), value)
            };
            Cbor::Map(members.into_iter().map(member).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &[u8]) -> Result<Json, String> {
        let text = to_json(body).map_err(|error| error.message)?;
        serde_json::from_slice(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn cbor_with_indefinite_lengths_is_read() {
        // {_ "Data": h'00ff', "N": 5, "Timestamp": 1(1500)}
        let body = b"\xbf\x64Data\x42\x00\xff\x61N\x05\x69Timestamp\xc1\x19\x05\xdc\xff";
        let expected = serde_json::json!({"Data": "AP8=", "N": 5, "Timestamp": 1.5});
        assert_eq!(parsed(body).unwrap(), expected);
    }

    #[test]
    fn cbor_that_is_damaged_deep_or_foreign_is_refused() {
        for (body, part) in [
            (&b"\xbf\x64Da"[..], "CBOR"),
            (b"\xa0\xa0", "1 bytes after"),
            (b"\xa1\x01\x02", "no member has"),
            (&[0x81; 64], "CBOR"),
            (b"{}", "CBOR"),
            (b"\xc5\x41\x01", "no member has"),
        ] {
            let error = parsed(body).unwrap_err();
            assert!(error.contains(part), "{body:x?}: {error}");
        }
    }

    #[test]
    fn cbor_responses_have_native_bytes_and_timestamps() {
        let answer = serde_json::json!({
            "Records": [{"Data": "AP8=", "ApproximateArrivalTimestamp": 1.25, "PartitionKey": null}],
            "MillisBehindLatest": 7,
        });
        let written = from_json(&json(&answer));
        let value: Cbor = ciborium::from_reader(&*written).unwrap();
        let member = |value: &Cbor, name: &str| {
            let members = value.as_map().unwrap().iter();
            let found = members.clone().find(|(key, _)| key.as_text() == Some(name));
            found.unwrap().1.clone()
        };
        let record = member(&value, "Records").as_array().unwrap()[0].clone();
        assert_eq!(member(&record, "Data"), Cbor::Bytes(vec![0, 255]));
        assert_eq!(
            member(&record, "ApproximateArrivalTimestamp"),
            Cbor::Tag(1, Box::new(1_250.into()))
        );
        assert_eq!(member(&value, "MillisBehindLatest"), 7.into());
        assert_eq!(from_json(b""), b"");
    }
}
