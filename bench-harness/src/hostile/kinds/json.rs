//! Bodies of plain JSON.

use super::Kind;
use super::bodies::{INLINE, LARGE, event, filled, listed};

pub(super) fn all() -> Vec<Kind> {
    let accepted = |name, about, body: Vec<u8>| Kind::new(name, about, event(&body)).accepts(1);
    let refused = |name, about, body: Vec<u8>| Kind::new(name, about, event(&body)).status(400);
    let nested = format!("{}{}", "[".repeat(62), "]".repeat(62));
    let too_deep = format!("{{\"a\":{}1{}}}", "[".repeat(64), "]".repeat(64));
    let bad_lines = [&b"{}\n{}\n"[..], &b"xxx\n".repeat(998)].concat();
    let long_bad_lines: Vec<u8> = (0..1_000)
        .flat_map(|_| filled("{\"a\":[", "1,", "}\n", 1_000))
        .collect();
    let late = |bytes| {
        [
            &filled("{\"a\":[", "\"\",", "\"\"],\"b\":\"", bytes)[..],
            b"\xff\"}",
        ]
        .concat()
    };
    let late_line = [&b"{\"a\":1}\n".repeat(999)[..], b"{\"a\":\"\xff\"}"].concat();
    let wide: Vec<u8> = {
        let fields: Vec<String> = (0..6_000)
            .map(|number| format!("\"k{number}\":0"))
            .collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    };
    let second_line = [
        &listed("{\"a\":[", "\"\"", "]x\n", INLINE / 2)[..],
        &listed("{\"a\":[", "\"\"", "]}x\n", INLINE / 2),
    ]
    .concat();
    vec![
        accepted(
            "empty-texts",
            "empty texts, 64 KB",
            listed("{\"a\":[", "\"\"", "]}", INLINE),
        ),
        accepted(
            "empty-objects",
            "empty objects, 64 KB",
            listed("{\"a\":[", "{}", "]}", INLINE),
        ),
        accepted(
            "ones",
            "numbers of one digit, 64 KB",
            listed("{\"a\":[", "1", "]}", INLINE),
        ),
        accepted(
            "numbers",
            "numbers with fraction and exponent, 64 KB",
            listed("{\"a\":[", "-0.1e+1", "]}", INLINE),
        ),
        accepted(
            "mantissa",
            "one number of 64,000 digits",
            filled("{\"a\":1", "7", "}", INLINE),
        ),
        accepted(
            "literals",
            "`null` again and again, 64 KB",
            listed("{\"a\":[", "null", "]}", INLINE),
        ),
        accepted(
            "nested",
            "arrays to the limit of depth, 64 KB",
            listed("{\"a\":[", &nested, "]}", INLINE),
        ),
        refused(
            "nested-open",
            "64,000 opening brackets",
            filled("[", "[", "", INLINE),
        ),
        refused(
            "nested-objects-open",
            "objects in each other, 64 KB",
            filled("", "{\"\":", "", INLINE),
        ),
        refused(
            "too-deep",
            "500 events that are nested too deep",
            listed("[", &too_deep, "]", INLINE),
        )
        .rejects(477),
        accepted(
            "same-key",
            "one empty key again and again, 64 KB",
            listed("{", "\"\":0", "}", INLINE),
        ),
        accepted(
            "server-key",
            "a key that the server looks for, again and again, 64 KB",
            listed("{", "\"ip\":0", "}", INLINE),
        ),
        accepted(
            "similar-key",
            "keys as long as those that the server looks for, 64 KB",
            listed("{", "\"iq\":0", "}", INLINE),
        ),
        accepted(
            "escaped-key",
            "keys with an escape, 64 KB",
            listed("{", "\"\\u0069\":0", "}", INLINE),
        ),
        accepted("wide", "6,000 different keys", wide),
        accepted(
            "escapes",
            "texts of escaped quotes, 64 KB",
            filled("{\"a\":\"", "\\\"", "\"}", INLINE),
        ),
        accepted(
            "unicode-escapes",
            "texts of \\u0041, 64 KB",
            filled("{\"a\":\"", "\\u0041", "\"}", INLINE),
        ),
        accepted(
            "multibyte",
            "letters of four bytes, 64 KB",
            filled("{\"a\":\"", "\u{1f600}", "\"}", INLINE),
        ),
        accepted(
            "spaces",
            "64 KB of white space in an event",
            filled("{\"a\":", " ", "1}", INLINE),
        ),
        accepted(
            "line-breaks",
            "64 KB of line breaks in an event",
            filled("{\"a\":[", "1,\n", "1]}", INLINE),
        ),
        refused(
            "blank-lines",
            "64 KB of blank lines and no event",
            filled("", "\n", "", INLINE),
        ),
        refused(
            "late-utf8",
            "64 KB of empty texts, and a last byte that is no UTF-8",
            late(INLINE),
        ),
        Kind::new(
            "late-utf8-line",
            "999 good lines and one that is no UTF-8",
            event(&late_line),
        )
        .accepts(999)
        .rejects(1),
        refused(
            "late-fault",
            "64 KB of empty texts that never end",
            filled("{\"a\":[", "\"\",", "", INLINE),
        ),
        refused(
            "second-line",
            "two lines of 32 KB, both wrong at their end",
            second_line,
        ),
        refused(
            "bad-events",
            "1,000 events that are none",
            listed("[", "123", "]", 4_001),
        )
        .rejects(1_000),
        Kind::new(
            "bad-lines",
            "1,000 lines, 998 of them no events",
            event(&bad_lines),
        )
        .accepts(2)
        .rejects(998),
        refused(
            "long-bad-lines",
            "1 MB: 1,000 lines that are wrong at their end",
            long_bad_lines,
        ),
        Kind::new(
            "empty-events",
            "1,000 events of three bytes",
            event(&listed("[", "{ }", "]", 4_001)),
        )
        .accepts(1_000),
        Kind::new(
            "small-events",
            "1,000 events of seven bytes",
            event(&listed("[", "{\"a\":1}", "]", 8_001)),
        )
        .accepts(1_000),
        Kind::new(
            "too-many-events",
            "64 KB of events of one byte",
            event(&listed("[", "1", "]", INLINE)),
        )
        .status(400),
        Kind::new(
            "too-many-large",
            "1 MB of events of two bytes",
            event(&listed("[", "{}", "]", LARGE)),
        )
        .status(400),
        accepted(
            "large-texts",
            "1 MB of empty texts",
            listed("{\"a\":[", "\"\"", "]}", LARGE),
        ),
        accepted(
            "large-nested",
            "1 MB of arrays to the limit of depth",
            listed("{\"a\":[", &nested, "]}", LARGE),
        ),
        refused(
            "large-open",
            "a million opening brackets",
            filled("[", "[", "", LARGE),
        ),
        refused(
            "large-late",
            "1 MB of empty texts, and a last byte that is no UTF-8",
            late(LARGE),
        ),
        accepted(
            "large-escapes",
            "1 MB of escaped quotes",
            filled("{\"a\":\"", "\\\"", "\"}", LARGE),
        ),
    ]
}
