//! Steps through JSON that the scanner has accepted, without checking it again.
//!
//! On bytes that are no JSON the steps end somewhere, and never beyond the last byte.

use super::scan::byte;
use super::simd;

pub(crate) use super::scan::skip_space;
pub(crate) use super::unescape::equals;

/// The offset after the string whose opening quote is at `start`, and whether it holds a backslash.
#[inline(always)]
pub(crate) fn string_end(json: &[u8], start: usize) -> (usize, bool) {
    let at = simd::find_special(json, start + 1);
    match byte(json, at) {
        b'"' => (at + 1, false),
        first => (escaped_end(json, at), first == b'\\'),
    }
}

/// The end of a string from its first backslash on.
fn escaped_end(json: &[u8], mut at: usize) -> usize {
    while at < json.len() {
        match json[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
        if at < json.len() {
            at = simd::find_special(json, at);
        }
    }
    json.len()
}

/// The offset after the value that starts at `start`.
#[inline(always)]
pub(crate) fn value_end(json: &[u8], start: usize) -> usize {
    match byte(json, start) {
        b'"' => string_end(json, start).0,
        b'{' | b'[' => container_end(json, start),
        _ => {
            let mut at = start;
            while at < json.len() && !matches!(json[at], b',' | b'}' | b']' | b' ' | b'\t'..=b'\r')
            {
                at += 1;
            }
            at
        }
    }
}

fn container_end(json: &[u8], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0_usize);
    while at < json.len() {
        match json[at] {
            b'"' => {
                at = string_end(json, at).0;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_ends_behind_its_last_byte() {
        for value in [
            r#""a""#,
            r#""a\"b\\""#,
            "[]",
            r#"{"a":["]}",{}]}"#,
            "-1.5e3",
            "true",
            "null",
        ] {
            for after in ["", ",1", " }", "]"] {
                let json = format!("{value}{after}");
                assert_eq!(value_end(json.as_bytes(), 0), value.len(), "{json}");
            }
        }
    }

    #[test]
    fn a_step_over_broken_json_ends_inside_it() {
        for broken in ["\"", "\"\\", "\"a\\", "[", "{\"a", "{\"\\\"", ""] {
            assert!(value_end(broken.as_bytes(), 0) <= broken.len(), "{broken}");
        }
    }
}
