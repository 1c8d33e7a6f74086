//! Which part of an object a read asks for: `Range` and the conditions on the ETag.
//! Knows headers and sizes; reads no objects.

use hyper::HeaderMap;

/// The part of an object that a read returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    /// Bytes from `start` to before `end`; at least one.
    Range {
        start: u64,
        end: u64,
    },
    /// The range begins behind the object's end, or is empty.
    Unsatisfiable,
}

/// The result of a read's conditions on the ETag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Holds,
    /// `If-Match` names another object: 412.
    Failed,
    /// `If-None-Match` names this object: 304.
    NotModified,
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether a list of ETags, or `*`, names this one. `etag` has its quotes; clients may leave theirs
/// out, as the service allows.
fn names(list: &str, etag: &str) -> bool {
    let bare = etag.trim_matches('"');
    let mut tags = list.split(',').map(|tag| tag.trim().trim_matches('"'));
    tags.any(|tag| tag == "*" || tag == bare)
}

/// Checks the conditions of a read.
pub(super) fn condition(headers: &HeaderMap, etag: &str) -> Condition {
    if text(headers, "if-match").is_some_and(|list| !names(list, etag)) {
        return Condition::Failed;
    }
    match text(headers, "if-none-match") {
        Some(list) if names(list, etag) => Condition::NotModified,
        _ => Condition::Holds,
    }
}

/// The part of an object of `size` bytes that a read asks for.
pub(super) fn part(headers: &HeaderMap, etag: &str, size: u64) -> Part {
    let Some(range) = text(headers, "range") else {
        return Part::Whole;
    };
    // The object changed since the client got its first part: it starts over.
    if text(headers, "if-range").is_some_and(|tag| !names(tag, etag)) {
        return Part::Whole;
    }
    parse(range, size).unwrap_or(Part::Whole)
}

/// `None` for anything but a single byte range: the service ignores it, as HTTP requires.
fn parse(range: &str, size: u64) -> Option<Part> {
    let (unit, spec) = range.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = spec.trim().split_once('-')?;
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some(match length {
            0 => Part::Unsatisfiable,
            length => Part::Range {
                start: size - length,
                end: size,
            },
        });
    }
    let start = number(first)?;
    let last = match last {
        "" => u64::MAX,
        last => number(last)?,
    };
    if last < start {
        return None;
    }
    if start >= size {
        return Some(Part::Unsatisfiable);
    }
    Some(Part::Range {
        start,
        end: last.saturating_add(1).min(size),
    })
}

/// A number; one that is too large for a size is as good as the largest.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().copied();
        pairs
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn ranges_are_those_of_http() {
        let range = |start, end| Part::Range { start, end };
        for (text, expected) in [
            ("bytes=0-0", range(0, 1)),
            ("bytes=2-5", range(2, 6)),
            ("Bytes = 2-5", range(2, 6)),
            ("bytes=9-99", range(9, 10)),
            ("bytes=3-", range(3, 10)),
            ("bytes=0-99999999999999999999999", range(0, 10)),
            ("bytes=-3", range(7, 10)),
            ("bytes=-99", range(0, 10)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=10-11", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            // No single byte range.
            ("bytes=5-2", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("", Part::Whole),
        ] {
            assert_eq!(
                part(&headers(&[("range", text)]), "\"e\"", 10),
                expected,
                "{text}"
            );
        }
        assert_eq!(part(&headers(&[]), "\"e\"", 10), Part::Whole);
        for text in ["bytes=0-", "bytes=-1"] {
            let of_nothing = part(&headers(&[("range", text)]), "\"e\"", 0);
            assert_eq!(of_nothing, Part::Unsatisfiable, "{text}");
        }
    }

    #[test]
    fn etags_decide_conditional_reads() {
        for (name, value, expected) in [
            ("if-match", "\"e\"", Condition::Holds),
            ("if-match", "e", Condition::Holds),
            ("if-match", "*", Condition::Holds),
            ("if-match", "\"x\", \"e\"", Condition::Holds),
            ("if-match", "\"x\"", Condition::Failed),
            ("if-none-match", "\"x\"", Condition::Holds),
            ("if-none-match", "\"e\"", Condition::NotModified),
        ] {
            let found = condition(&headers(&[(name, value)]), "\"e\"");
            assert_eq!(found, expected, "{name}: {value}");
        }
        let range = ("range", "bytes=1-2");
        let now = headers(&[range, ("if-range", "\"e\"")]);
        assert_eq!(part(&now, "\"e\"", 10), Part::Range { start: 1, end: 3 });
        let before = headers(&[range, ("if-range", "\"x\"")]);
        assert_eq!(part(&before, "\"e\"", 10), Part::Whole);
    }
}
