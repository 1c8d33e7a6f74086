//! What a client packed, unpacked: content codings (RFC 9110 section 8.4) and the wrappings that SDKs put
//! around events without saying so in a header. Every output has a limit that holds while it grows.
//! Knows no header names and no JSON but its first byte.

use crate::reject::Reject;
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use std::borrow::Cow;
use std::io::{self, Read};

/// Codings that one body may have, one in the other. One is usual; each costs a pass.
pub const CODINGS_MAX: usize = 3;

/// Largest window of a zstd frame, as a power of two: 8 MiB, which RFC 8878 asks every decoder to
/// support, and a bound on the memory that a small body can make us take.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// What a gzip member begins with (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// One content coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, `x-gzip`: members after each other are one body.
    Gzip,
    /// `deflate`: zlib, or raw deflate, which some clients send under this name.
    Deflate,
    /// `zstd`: frames after each other are one body.
    Zstd,
    /// `br`.
    Brotli,
    /// `snappy`: one raw block, as the replaced tier took it.
    Snappy,
}

/// The codings of a body, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codings(Vec<Coding>);

/// A list of codings names one that is not known, or too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// Not one of those supported.
    #[error("a coding is none of gzip, deflate, zstd, br, snappy, identity")]
    Unknown,
    /// More than [`CODINGS_MAX`].
    #[error("a body may have {CODINGS_MAX} codings at most")]
    TooMany,
}

impl Codings {
    /// Reads a value of Content-Encoding: `gzip`, or a list `deflate, gzip`. Several header lines are one
    /// list; call [`Codings::read`] for each in turn.
    ///
    /// # Errors
    /// See [`CodingError`].
    pub fn read(&mut self, list: &[u8]) -> Result<(), CodingError> {
        for name in list.split(|byte| *byte == b',') {
            let is = |known: &str| name.trim_ascii().eq_ignore_ascii_case(known.as_bytes());
            let coding = match () {
                () if is("") || is("identity") => continue,
                () if is("gzip") || is("x-gzip") => Coding::Gzip,
                () if is("deflate") => Coding::Deflate,
                () if is("zstd") => Coding::Zstd,
                () if is("br") => Coding::Brotli,
                () if is("snappy") => Coding::Snappy,
                () => return Err(CodingError::Unknown),
            };
            if self.0.len() == CODINGS_MAX {
                return Err(CodingError::TooMany);
            }
            self.0.push(coding);
        }
        Ok(())
    }

    /// Undoes them, the last one first. Without any, the body as it is. No step may give more than `limit`
    /// bytes.
    ///
    /// # Errors
    /// [`Reject::InflatedTooLarge`], [`Reject::Broken`].
    pub fn undo<'a>(&self, body: &'a [u8], limit: usize) -> Result<Cow<'a, [u8]>, Reject> {
        let mut body = Cow::Borrowed(body);
        for coding in self.0.iter().rev() {
            body = Cow::Owned(coding.undo(&body, limit)?);
        }
        Ok(body)
    }
}

impl Coding {
    /// Its name in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
            Coding::Zstd => "zstd",
            Coding::Brotli => "br",
            Coding::Snappy => "snappy",
        }
    }

    fn undo(self, body: &[u8], limit: usize) -> Result<Vec<u8>, Reject> {
        let done = match self {
            Coding::Gzip => drain(MultiGzDecoder::new(body), limit),
            Coding::Deflate if is_zlib(body) => {
                let mut decoder = ZlibDecoder::new(body);
                drain(&mut decoder, limit).and_then(|out| at_end(decoder.get_ref(), out))
            }
            Coding::Deflate => {
                let mut decoder = DeflateDecoder::new(body);
                drain(&mut decoder, limit).and_then(|out| at_end(decoder.get_ref(), out))
            }
            Coding::Zstd => zstd_decoder(body).and_then(|decoder| drain(decoder, limit)),
            Coding::Brotli => unbrotli(body, limit),
            Coding::Snappy => unsnappy(body, limit),
        };
        match done {
            Ok(Some(out)) => Ok(out),
            Ok(None) => Err(Reject::InflatedTooLarge { limit }),
            Err(_) => Err(Reject::Broken {
                coding: self.name(),
            }),
        }
    }
}

/// Reads to the end; `None` when there is more than `limit`.
fn drain(reader: impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut out = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut out)?;
    Ok((out.len() <= limit).then_some(out))
}

/// Bytes behind the end would be dropped in silence.
fn at_end(left: &[u8], out: Option<Vec<u8>>) -> io::Result<Option<Vec<u8>>> {
    // What is over the limit was not read to its end.
    if out.is_some() && !left.is_empty() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(out)
}

/// The header of a zlib stream: method 8, and a check of both bytes (RFC 1950 section 2.2).
fn is_zlib(body: &[u8]) -> bool {
    match body {
        [first, second, ..] => {
            first & 0x0f == 8 && (u16::from(*first) << 8 | u16::from(*second)).is_multiple_of(31)
        }
        _ => false,
    }
}

fn zstd_decoder(body: &[u8]) -> io::Result<zstd::Decoder<'_, &[u8]>> {
    let mut decoder = zstd::Decoder::with_buffer(body)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
    Ok(decoder)
}

fn unbrotli(body: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut state = BrotliState::new(
        StandardAlloc::default(),
        StandardAlloc::default(),
        StandardAlloc::default(),
    );
    let (mut left, mut at, mut total) = (body.len(), 0, 0);
    let mut out = Vec::new();
    let mut piece = [0; 16 << 10];
    loop {
        let (mut room, mut filled) = (piece.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut at,
            body,
            &mut room,
            &mut filled,
            &mut piece,
            &mut total,
            &mut state,
        );
        out.extend_from_slice(&piece[..filled]);
        if out.len() > limit {
            return Ok(None);
        }
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if left == 0 => return Ok(Some(out)),
            // An end before the body's end, or the body's end before an end.
            BrotliResult::ResultSuccess
            | BrotliResult::NeedsMoreInput
            | BrotliResult::ResultFailure => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn unsnappy(body: &[u8], limit: usize) -> io::Result<Option<Vec<u8>>> {
    // The block says its length first, so that nothing is allocated for one over the limit.
    if snap::raw::decompress_len(body)? > limit {
        return Ok(None);
    }
    Ok(Some(snap::raw::Decoder::new().decompress_vec(body)?))
}

/// The events in a body whose sender may have wrapped them: as they are, gzip known by its first bytes,
/// or either in base64 (standard or URL-safe, padded or not, with line breaks or without), as mobile SDKs
/// send them. `is_said_gzip`: the sender says `compression=gzip`, and a body that is neither JSON nor that
/// is then broken. A body that is none of these comes back as it is, for the scanner to refuse.
///
/// # Errors
/// [`Reject::InflatedTooLarge`], [`Reject::Broken`].
pub fn unwrap_events(
    body: &[u8],
    is_said_gzip: impl FnOnce() -> bool,
    limit: usize,
) -> Result<Cow<'_, [u8]>, Reject> {
    if looks_like_events(body) {
        return Ok(Cow::Borrowed(body));
    }
    if body.starts_with(&GZIP_MAGIC) {
        return Coding::Gzip.undo(body, limit).map(Cow::Owned);
    }
    match from_base64(body) {
        Some(bytes) if bytes.starts_with(&GZIP_MAGIC) => {
            Coding::Gzip.undo(&bytes, limit).map(Cow::Owned)
        }
        Some(bytes) if looks_like_events(&bytes) && bytes.len() <= limit => Ok(Cow::Owned(bytes)),
        _ if is_said_gzip() => Err(Reject::Broken {
            coding: Coding::Gzip.name(),
        }),
        _ => Ok(Cow::Borrowed(body)),
    }
}

/// Whether the first byte that is no white space opens an object or an array.
fn looks_like_events(body: &[u8]) -> bool {
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
    use super::*;
    use std::io::Write;

    const TEXT: &[u8] = b"[{\"event_type\":\"_page_view\"},{\"event_type\":\"_page_view\"}]";
    const LIMIT: usize = 1_000;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    /// A brotli stream of one uncompressed metablock (RFC 7932 section 9): window 16 bits, 4 nibbles of
    /// length, then the empty last one. For up to 65,536 bytes.
    fn brotli(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len() - 1).unwrap();
        // Bits, lowest first: 0 (window), 0 (not last), 00 (4 nibbles), 16 of length - 1, 1 (uncompressed).
        let head = length << 4 | 1 << 20;
        let mut out = head.to_le_bytes()[..3].to_vec();
        out.extend_from_slice(bytes);
        // 1 (last), 1 (empty).
        out.push(0b11);
        out
    }

    fn snappy(bytes: &[u8]) -> Vec<u8> {
        snap::raw::Encoder::new().compress_vec(bytes).unwrap()
    }

    fn codings(list: &str) -> Codings {
        let mut codings = Codings::default();
        codings.read(list.as_bytes()).unwrap();
        codings
    }

    type Pack = fn(&[u8]) -> Vec<u8>;

    fn packed() -> [(&'static str, Pack); 6] {
        [
            ("gzip", gzip),
            ("deflate", zlib),
            ("deflate", raw_deflate),
            ("zstd", zstd),
            ("br", brotli),
            ("snappy", snappy),
        ]
    }

    #[test]
    fn what_was_packed_comes_back_and_a_cut_or_longer_body_is_broken() {
        for (name, pack) in packed() {
            let body = pack(TEXT);
            let codings = codings(name);
            assert_eq!(&*codings.undo(&body, LIMIT).unwrap(), TEXT, "{name}");
            assert_eq!(&*codings.undo(&body, TEXT.len()).unwrap(), TEXT, "{name}");
            let broken = Err(Reject::Broken { coding: name });
            for cut in 0..body.len() {
                // No frame at all is an empty body.
                if name == "zstd" && cut == 0 {
                    continue;
                }
                assert_eq!(codings.undo(&body[..cut], LIMIT), broken, "{name} at {cut}");
            }
            let longer = [&body[..], b"garbage"].concat();
            assert_eq!(codings.undo(&longer, LIMIT), broken, "{name}");
        }
    }

    #[test]
    fn a_body_that_grows_beyond_the_limit_is_refused_with_it() {
        for (name, pack) in packed() {
            let body = pack(&vec![b' '; 50_000]);
            assert_eq!(
                codings(name).undo(&body, 49_999),
                Err(Reject::InflatedTooLarge { limit: 49_999 }),
                "{name}"
            );
            assert_eq!(codings(name).undo(&body, 50_000).unwrap().len(), 50_000);
        }
        // Also one in between, and one of which nobody waits for the end: 10 MB from 10 KB.
        let bomb = gzip(&vec![b' '; 10_000_000]);
        for (list, body) in [("gzip", bomb.clone()), ("gzip, gzip", gzip(&bomb))] {
            assert_eq!(
                codings(list).undo(&body, 65_536),
                Err(Reject::InflatedTooLarge { limit: 65_536 }),
                "{list}"
            );
        }
    }

    #[test]
    fn what_the_reference_encoder_of_brotli_made_of_the_text_comes_back() {
        let body = b"\x1b\x38\x00\xc0\x9d\x07\xb6\xad\x26\x7d\x41\x3c\xb4\xbf\xd9\x1a\xea\x2d\xba\xbc\
            \x3d\x2d\xf2\x55\x06\xb7\x74\xfa\x8a\xa5\x0b\x36\xe0\x80\x3d\x0c\x34\xc2\x49\x4f\x92\x68\x15\
            \x03\x9b\x7d\x68\x35\xfa\x55\x31";
        assert_eq!(&*codings("br").undo(body, LIMIT).unwrap(), TEXT);
    }

    #[test]
    fn members_and_frames_after_each_other_are_one_body() {
        let (left, right) = TEXT.split_at(20);
        for (name, body) in [
            ("gzip", [gzip(left), gzip(right)].concat()),
            ("zstd", [zstd(left), zstd(right)].concat()),
        ] {
            assert_eq!(&*codings(name).undo(&body, LIMIT).unwrap(), TEXT, "{name}");
        }
    }

    #[test]
    fn a_list_is_undone_from_its_end() {
        let body = gzip(&zlib(TEXT));
        assert_eq!(&*codings("deflate, gzip").undo(&body, LIMIT).unwrap(), TEXT);
        let mut lines = codings(" Deflate ,identity,");
        lines.read(b"X-GZIP").unwrap();
        assert_eq!(&*lines.undo(&body, LIMIT).unwrap(), TEXT);
        assert_eq!(
            codings("gzip, deflate").undo(&body, LIMIT),
            Err(Reject::Broken { coding: "deflate" })
        );
        assert!(matches!(codings("").undo(TEXT, 0), Ok(Cow::Borrowed(TEXT))));
    }

    #[test]
    fn an_unknown_coding_and_too_many_are_refused() {
        let read = |list: &[u8]| Codings::default().read(list);
        assert_eq!(read(b"gzip, compress"), Err(CodingError::Unknown));
        assert_eq!(read(b"gzip;q=1"), Err(CodingError::Unknown));
        assert_eq!(read(b"\xff"), Err(CodingError::Unknown));
        assert_eq!(read(b"gzip,gzip,gzip"), Ok(()));
        assert_eq!(read(b"gzip,gzip,gzip,gzip"), Err(CodingError::TooMany));
    }

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
                assert_eq!(&*unwrap_events(&body, || said, LIMIT).unwrap(), TEXT);
            }
        }
        let spaced = [b" \n\t", TEXT].concat();
        assert_eq!(&*unwrap_events(&spaced, || true, LIMIT).unwrap(), spaced);
    }

    #[test]
    fn what_is_no_wrapping_stays_as_it_is_unless_it_was_said_to_be_one() {
        for body in [
            &b""[..],
            b"null",
            b"data=eyJhIjoxfQ==",
            b"AAAA",
            b"\xff\xfe",
            b"user",
        ] {
            assert!(
                matches!(unwrap_events(body, || false, LIMIT), Ok(Cow::Borrowed(same)) if same == body),
                "{body:?}"
            );
            assert_eq!(
                unwrap_events(body, || true, LIMIT),
                Err(Reject::Broken { coding: "gzip" })
            );
        }
    }

    #[test]
    fn wrapped_events_are_under_the_same_limit() {
        let too_large = Err(Reject::InflatedTooLarge { limit: 10 });
        assert_eq!(unwrap_events(&gzip(TEXT), || false, 10), too_large);
        assert_eq!(unwrap_events(&base64(&gzip(TEXT)), || true, 10), too_large);
        let cut = &gzip(TEXT)[..20];
        let broken = Err(Reject::Broken { coding: "gzip" });
        assert_eq!(unwrap_events(cut, || false, LIMIT), broken);
        assert_eq!(unwrap_events(&base64(cut), || false, LIMIT), broken);
    }

    proptest::proptest! {
        /// Damage in the middle of a good body reaches deeper than random bytes do.
        #[test]
        fn whatever_the_bytes_the_limit_holds_and_nothing_panics(
            name in proptest::sample::select(packed().to_vec()),
            text in proptest::collection::vec(0_u8..4, 1..3_000),
            damage in proptest::collection::vec((0_usize..3_000, proptest::num::u8::ANY), 0..4),
            limit in 0_usize..4_000,
        ) {
            let (name, pack) = name;
            let mut body = pack(&text);
            for (at, byte) in damage {
                let at = at % body.len();
                body[at] = byte;
            }
            if let Ok(out) = codings(name).undo(&body, limit) {
                assert!(out.len() <= limit);
            }
            if let Ok(out) = unwrap_events(&body, || false, limit) {
                assert!(out.len() <= limit || *out == body);
            }
        }
    }
}
