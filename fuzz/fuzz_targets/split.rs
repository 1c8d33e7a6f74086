//! Bodies that are arrays: the elements are those that serde_json finds, byte for byte, and only what is no
//! object, or too deep, is rejected.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use sluice_core::json::scan::Wanted;
use sluice_core::json::split::{Refused, SplitLimits, split};
use sluice_core::reject::Reject;

const LIMITS: SplitLimits = SplitLimits {
    depth_max: 8,
    events_max: 16,
};

fuzz_target!(|body: &[u8]| {
    let mut events = Vec::new();
    let ours = split(body, LIMITS, &Wanted::default(), &mut events);
    // Not `trim_ascii_start`: a form feed is no white space of JSON.
    let first = body.iter().find(|byte| !b" \t\r\n".contains(byte));
    if first != Some(&b'[') {
        return;
    }
    let theirs: Vec<&RawValue> = match serde_json::from_slice(body) {
        Ok(elements) => elements,
        Err(_) => return assert!(ours.is_err(), "{ours:?}"),
    };
    match ours {
        Ok(()) => assert_eq!(events.len(), theirs.len()),
        Err(Reject::NoEvents) => return assert!(theirs.is_empty()),
        // The rest is not counted.
        Err(Reject::TooManyEvents { limit, actual }) => {
            return assert!(actual == limit + 1 && theirs.len() >= actual);
        }
        Err(other) => panic!("{other:?}"),
    }
    for (event, raw) in events.iter().zip(theirs) {
        let text = raw.get();
        match event {
            Ok(event) => assert_eq!(event.span.of(body), text.as_bytes()),
            Err(Refused { span, reject }) => {
                assert_eq!(span.of(body), text.as_bytes());
                match reject {
                    Reject::NotAnObject { .. } => assert!(!text.starts_with('{')),
                    Reject::TooDeep { limit, .. } => assert!(depth(text) > *limit),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
});

/// How deep brackets nest in a valid document.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth -= 1,
            _ => {}
        }
    }
    deepest
}
