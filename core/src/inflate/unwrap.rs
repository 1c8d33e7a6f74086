//! Wrappings that SDKs put around events without a header that says so.

use super::Coding;
use crate::reject::Reject;
use std::borrow::Cow;

/// What a gzip member begins with (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How far [`unwrap_events`] may go.
#[derive(Clone, Copy, Debug)]
pub struct UnwrapLimits {
    /// Bytes once unwrapped.
    pub bytes_max: usize,
    /// Codings that the body may have in all, and how many were undone before.
    pub codings_max: usize,
    /// See `codings_max`.
    pub codings_undone: usize,
    /// Whether gzip is opened at all.
    pub opens_gzip: bool,
}

/// The events in a body whose sender may have wrapped them: as they are, gzip known by its first bytes,
/// or either in base64 (standard or URL-safe, padded or not, with line breaks or without), as mobile SDKs
/// send them. `is_said_gzip`: the sender says `compression=gzip`, and a body that is neither JSON nor that
/// is then broken. A body that is none of these comes back as it is, for the scanner to refuse.
///
/// # Errors
/// [`Reject::InflatedTooLarge`], [`Reject::Broken`], [`Reject::CodingOverhead`], [`Reject::TooManyCodings`].
pub fn unwrap_events(
    body: &[u8],
    is_said_gzip: impl FnOnce() -> bool,
    limits: UnwrapLimits,
) -> Result<Cow<'_, [u8]>, Reject> {
    if looks_like_events(body) {
        return Ok(Cow::Borrowed(body));
    }
    let is_gzip = |bytes: &[u8]| limits.opens_gzip && bytes.starts_with(&GZIP_MAGIC);
    let open = |bytes: &[u8]| {
        let (limit, actual) = (limits.codings_max, limits.codings_undone + 1);
        if actual > limit {
            return Err(Reject::TooManyCodings { limit, actual });
        }
        Coding::Gzip.undo(bytes, limits.bytes_max).map(Cow::Owned)
    };
    if is_gzip(body) {
        return open(body);
    }
    match from_base64(body) {
        Some(bytes) if is_gzip(&bytes) => open(&bytes),
        Some(bytes) if looks_like_events(&bytes) && bytes.len() <= limits.bytes_max => {
            Ok(Cow::Owned(bytes))
        }
        _ if is_said_gzip() => Err(Reject::Broken {
            coding: Coding::Gzip.name(),
        }),
        _ => Ok(Cow::Borrowed(body)),
    }
}

/// Whether the first byte that is no white space opens an object or an array.
#[must_use]
pub fn looks_like_events(body: &[u8]) -> bool {
    matches!(body.trim_ascii_start().first(), Some(b'{' | b'['))
}

fn from_base64(body: &[u8]) -> Option<Vec<u8>> {
    // Decoding in place spares a second buffer; the copy is needed to change the URL-safe letters.
    let mut text = body.to_vec();
    for byte in &mut text {
        match byte {
            b'-' => *byte = b'+',
            b'_' => *byte = b'/',
            _ => {}
        }
    }
    let length = base64_simd::forgiving_decode_inplace(&mut text).ok()?.len();
    text.truncate(length);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LIMIT, TEXT, gzip, limits};
    use super::*;

    fn base64(bytes: &[u8]) -> Vec<u8> {
        base64_simd::STANDARD.encode_to_string(bytes).into_bytes()
    }

    #[test]
    fn events_are_found_in_every_wrapping_that_sdks_use() {
        let unpadded = base64_simd::URL_SAFE_NO_PAD.encode_to_string(gzip(TEXT));
        let broken: Vec<u8> = base64(&gzip(TEXT))
            .chunks(76)
            .flat_map(|line| [line, b"\r\n"].concat())
            .collect();
        for body in [
            TEXT.to_vec(),
            gzip(TEXT),
            base64(&gzip(TEXT)),
            base64(TEXT),
            unpadded.into_bytes(),
            broken,
        ] {
            for said in [false, true] {
                assert_eq!(
                    &*unwrap_events(&body, || said, limits(LIMIT)).unwrap(),
                    TEXT
                );
            }
        }
        let spaced = [b" \n\t", TEXT].concat();
        assert_eq!(
            &*unwrap_events(&spaced, || true, limits(LIMIT)).unwrap(),
            spaced
        );
    }

    #[test]
    fn unwrapped_bodies_are_left_alone_unless_said_to_be_gzip() {
        for body in [
            &b""[..],
            b"null",
            b"data=eyJhIjoxfQ==",
            b"AAAA",
            b"\xff\xfe",
            b"user",
        ] {
            assert!(
                matches!(unwrap_events(body, || false, limits(LIMIT)), Ok(Cow::Borrowed(same)) if same == body),
                "{body:?}"
            );
            assert_eq!(
                unwrap_events(body, || true, limits(LIMIT)),
                Err(Reject::Broken { coding: "gzip" })
            );
        }
    }

    #[test]
    fn wrapped_events_are_under_the_same_limit() {
        let too_large = Err(Reject::InflatedTooLarge { limit: 10 });
        assert_eq!(unwrap_events(&gzip(TEXT), || false, limits(10)), too_large);
        assert_eq!(
            unwrap_events(&base64(&gzip(TEXT)), || true, limits(10)),
            too_large
        );
        let cut = &gzip(TEXT)[..20];
        let broken = Err(Reject::Broken { coding: "gzip" });
        assert_eq!(unwrap_events(cut, || false, limits(LIMIT)), broken);
        assert_eq!(unwrap_events(&base64(cut), || false, limits(LIMIT)), broken);
    }
}
