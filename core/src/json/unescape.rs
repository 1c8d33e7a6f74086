//! Unescapes JSON strings that the scanner has accepted.

/// Unescapes the contents of a JSON string, without its quotes. The string must have passed the scanner;
/// a lone surrogate becomes U+FFFD.
pub fn chars(raw: &str) -> impl Iterator<Item = char> {
    let mut rest = raw.chars();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        if first != '\\' {
            return Some(first);
        }
        Some(match rest.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (unit, after) = unit(rest.as_str())?;
                rest = after.chars();
                match unit {
                    0xd800..=0xdbff => match low_half(after) {
                        Some((low, after)) => {
                            rest = after.chars();
                            let code = 0x10000 + ((unit - 0xd800) << 10 | (low - 0xdc00));
                            char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
                        }
                        None => char::REPLACEMENT_CHARACTER,
                    },
                    _ => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
                }
            }
            itself => itself,
        })
    })
}

/// Whether the string between these quotes, unescaped, is `name`.
pub(crate) fn equals(raw: &[u8], name: &[u8]) -> bool {
    // A byte of a name takes one byte at least and `\u00xx` at most: other keys cannot be it, and are not worth
    // reading.
    if raw.len() < name.len() || raw.len() > 6 * name.len() {
        return false;
    }
    match (std::str::from_utf8(raw), std::str::from_utf8(name)) {
        (Ok(raw), Ok(name)) => chars(raw).eq(name.chars()),
        _ => false,
    }
}

/// Four hex digits at the start of `text`, and what follows them.
fn unit(text: &str) -> Option<(u32, &str)> {
    let (digits, after) = text.split_at_checked(4)?;
    // The library's own parser takes signs and any length, and four times as long.
    let digit = |unit: u32, digit: u8| Some(unit << 4 | char::from(digit).to_digit(16)?);
    Some((digits.bytes().try_fold(0, digit)?, after))
}

/// `\uDC00` to `\uDFFF` at the start of `text`, and what follows it.
fn low_half(text: &str) -> Option<(u32, &str)> {
    unit(text.strip_prefix("\\u")?).filter(|(low, _)| (0xdc00..=0xdfff).contains(low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_and_surrogate_pairs_read_as_their_characters() {
        let raw = r#"a\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00é"#;
        let text: String = chars(raw).collect();
        assert_eq!(text, "a\"\\/\u{8}\u{c}\n\r\tAé😀é");
    }

    #[test]
    fn a_lone_surrogate_reads_as_the_replacement_character() {
        let read = |raw| chars(raw).collect::<String>();
        assert_eq!(read(r"\ud83d"), "\u{fffd}");
        assert_eq!(read(r"\ude00x"), "\u{fffd}x");
        assert_eq!(read(r"\ud83d\ud83d\ude00"), "\u{fffd}😀");
        assert_eq!(read(r"\ud83d\n"), "\u{fffd}\n");
    }

    proptest! {
        #[test]
        fn what_serde_json_escapes_reads_back(text in any::<String>()) {
            let quoted = serde_json::to_string(&text).unwrap();
            let raw = &quoted[1..quoted.len() - 1];
            prop_assert_eq!(chars(raw).collect::<String>(), text);
        }

        #[test]
        fn nothing_between_quotes_panics(raw in r#"[\\u0-9a-fbD"é]*"#) {
            let _ = chars(&raw).count();
        }
    }
}
