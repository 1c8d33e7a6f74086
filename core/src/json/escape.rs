//! Writes bytes as a JSON string, the way serde_json does: `\b \f \n \r \t`, other control characters as
//! `\u00xx`, quote and backslash escaped, everything else verbatim. Invalid UTF-8 becomes
//! U+FFFD, as in `String::from_utf8_lossy`.

use super::simd;

/// U+FFFD in UTF-8.
const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Bytes to be written as a JSON string, with their escaped length, so that the caller can reserve exactly.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
    is_utf8: bool,
    len: usize,
}

impl<'a> Escaped<'a> {
    /// Measures.
    #[must_use]
    pub fn measure(bytes: &'a [u8]) -> Escaped<'a> {
        let is_utf8 = simdutf8::basic::from_utf8(bytes).is_ok();
        let len = if is_utf8 {
            bytes.len() + simd::growth(bytes)
        } else {
            bytes.utf8_chunks().map(|chunk| chunk_len(&chunk)).sum()
        };
        Escaped {
            bytes,
            is_utf8,
            len,
        }
    }

    /// How many bytes [`Escaped::write_into`] appends; the quotes around a string are not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends the escaped bytes, without quotes. Where [`Escaped::len`] bytes are reserved, `out`
    /// does not grow.
    pub fn write_into(&self, out: &mut Vec<u8>) {
        out.reserve(self.len);
        write(self.bytes, self.is_utf8, out);
    }
}

/// Appends `bytes` escaped, without quotes around them.
pub fn escape_into(bytes: &[u8], out: &mut Vec<u8>) {
    // An estimate that suffices for most text and lets the kernels write whole vectors.
    out.reserve(bytes.len() + bytes.len() / 8 + 256);
    write(bytes, simdutf8::basic::from_utf8(bytes).is_ok(), out);
}

/// Appends `bytes` as a JSON string, quotes included.
pub fn quote_into(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape_into(bytes, out);
    out.push(b'"');
}

/// Appends `text` as a JSON string, quotes included.
pub fn quote_str_into(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + text.len() / 8 + 256);
    out.push(b'"');
    simd::escape(text.as_bytes(), out);
    out.push(b'"');
}

fn write(bytes: &[u8], is_utf8: bool, out: &mut Vec<u8>) {
    if is_utf8 {
        return simd::escape(bytes, out);
    }
    for chunk in bytes.utf8_chunks() {
        simd::escape(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice(REPLACEMENT);
        }
    }
}

fn chunk_len(chunk: &std::str::Utf8Chunk<'_>) -> usize {
    let valid = chunk.valid().as_bytes();
    let replaced = if chunk.invalid().is_empty() {
        0
    } else {
        REPLACEMENT.len()
    };
    valid.len() + simd::growth(valid) + replaced
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(bytes: &[u8]) {
        let expected = serde_json::to_string(&String::from_utf8_lossy(bytes)).unwrap();
        let mut out = Vec::new();
        quote_into(bytes, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let mut out = Vec::new();
        quote_str_into(&String::from_utf8_lossy(bytes), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);

        let measured = Escaped::measure(bytes);
        assert_eq!(measured.len(), expected.len() - 2);
        let mut out = Vec::with_capacity(measured.len());
        let capacity = out.capacity();
        measured.write_into(&mut out);
        assert_eq!(out, expected.as_bytes()[1..expected.len() - 1]);
        assert_eq!(out.capacity(), capacity, "grew though measured");
    }

    #[test]
    fn every_ascii_character_is_written_as_serde_json_writes_it() {
        for byte in 0..128 {
            check(&[byte]);
        }
        check(b"/\x7f \xe2\x80\xa8 \xe2\x80\xa9");
    }

    #[test]
    fn broken_utf8_becomes_replacement_characters_at_every_offset_around_64() {
        for len in 60..70 {
            for broken in [
                &b"\xff"[..],
                b"\xe2\x82",
                b"\xed\xa0\x80",
                b"\xf0\x9f\x98",
                b"\xc0\xaf",
            ] {
                let mut bytes = vec![b'"'; len];
                bytes.extend_from_slice(broken);
                check(&bytes);
                bytes.extend_from_slice(b"tail\n");
                check(&bytes);
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_writes_it(text in any::<String>()) {
            check(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_escaped_as_serde_json_does(
            bytes in prop::collection::vec(
                prop_oneof![any::<u8>(), Just(b'"'), Just(b'\n'), Just(b'a'), Just(b'\\')],
                0..300,
            )
        ) {
            check(&bytes);
        }
    }
}
