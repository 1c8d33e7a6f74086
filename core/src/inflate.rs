//! Unpacks what a client packed: content codings (RFC 9110 section 8.4), and the wrappings that SDKs put
//! around events without a header that says so. Knows no header names, and of JSON only the first byte.
//!
//! A packed body costs more than its bytes say, so three bounds hold for every layer: its output is at most
//! [`inflated_limit`], the units that the decoder has to set itself up for are paid for by bytes sent (`meter`),
//! and there is one layer unless configured otherwise.

mod brotli;
mod deflate;
mod meter;
mod zstd;

use crate::reject::Reject;
use meter::{Allowance, Fault, Meter};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Codings that one body may have, one in the other, unless configured otherwise. Each costs a pass.
pub const CODINGS_MAX: usize = 1;

/// The highest value that may be configured for it.
pub const CODINGS_CEILING: usize = 3;

/// Bytes that a layer may give for each byte on the wire. Clickstream JSON shrinks to a twentieth.
pub const RATIO_MAX: usize = 100;

/// Bytes that a layer may always give: a hundred bytes can hold a dozen events that differ in nothing. To inflate
/// them takes as long as to receive a request.
pub const RATIO_FREE_BYTES: usize = 16 << 10;

/// A deflate block brings two Huffman tables, which cost 0.8 us.
const DEFLATE_BLOCKS: Allowance = Allowance {
    free: 1_024,
    unit_bytes: 192,
};

/// A zstd block brings up to four tables, which cost 4.5 us.
const ZSTD_BLOCKS: Allowance = Allowance {
    free: 256,
    unit_bytes: 1_024,
};

/// What a gzip member begins with (RFC 1952).
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How many bytes a body of `sent_bytes` bytes may become in each layer, where `configured_max` is the most
/// that any body may become.
#[must_use]
pub fn inflated_limit(sent_bytes: usize, configured_max: usize) -> usize {
    let earned = sent_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
    earned.min(configured_max)
}

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

/// The codings that an endpoint accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedCodings(u8);

impl AcceptedCodings {
    /// None but `identity`.
    pub const NONE: AcceptedCodings = AcceptedCodings(0);

    /// Every known coding.
    pub const ALL: AcceptedCodings = AcceptedCodings((1 << Coding::ALL.len()) - 1);

    /// Adds a coding.
    #[must_use]
    pub const fn with(self, coding: Coding) -> AcceptedCodings {
        AcceptedCodings(self.0 | 1 << coding as u8)
    }

    /// Whether this one is accepted.
    #[must_use]
    pub const fn contains(self, coding: Coding) -> bool {
        self.0 >> coding as u8 & 1 == 1
    }
}

impl From<&[Coding]> for AcceptedCodings {
    fn from(codings: &[Coding]) -> AcceptedCodings {
        let none = AcceptedCodings::NONE;
        codings.iter().fold(none, |set, coding| set.with(*coding))
    }
}

/// The codings of a body, in the order in which they were applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codings(Vec<Coding>);

/// A list of codings that an endpoint does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodingError {
    /// Not one of those known.
    #[error("a coding is none of gzip, deflate, zstd, br, snappy, identity")]
    Unknown,
    /// Known, but not accepted here.
    #[error("the coding {} is not accepted here", .0.name())]
    NotAccepted(Coding),
    /// More than allowed.
    #[error("{actual} codings are over the limit of {limit} codings in one body")]
    TooMany {
        /// Codings allowed.
        limit: usize,
        /// Codings named, at least.
        actual: usize,
    },
}

impl Codings {
    /// No coding.
    pub const NONE: &Codings = &Codings(Vec::new());

    /// Reads a value of Content-Encoding: `gzip`, or a list `deflate, gzip`. Several header lines are one
    /// list; call [`Codings::read`] for each in turn.
    ///
    /// # Errors
    /// [`CodingError::Unknown`], or [`CodingError::TooMany`] over [`CODINGS_CEILING`].
    pub fn read(&mut self, list: &[u8]) -> Result<(), CodingError> {
        for name in list.split(|byte| *byte == b',') {
            let name = name.trim_ascii();
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("") || is("identity") {
                continue;
            }
            let known = Coding::ALL.into_iter().find(|coding| is(coding.name()));
            let coding = match known {
                Some(coding) => coding,
                None if is("x-gzip") => Coding::Gzip,
                None => return Err(CodingError::Unknown),
            };
            self.0.push(coding);
            self.check(CODINGS_CEILING, AcceptedCodings::ALL)?;
        }
        Ok(())
    }

    /// Whether an endpoint takes a body with these codings.
    ///
    /// # Errors
    /// [`CodingError::TooMany`], [`CodingError::NotAccepted`].
    pub fn check(&self, limit: usize, accepted: AcceptedCodings) -> Result<(), CodingError> {
        let actual = self.0.len();
        if actual > limit {
            return Err(CodingError::TooMany { limit, actual });
        }
        match self.0.iter().find(|coding| !accepted.contains(**coding)) {
            Some(coding) => Err(CodingError::NotAccepted(*coding)),
            None => Ok(()),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that was applied first.
    #[must_use]
    pub fn first(&self) -> Option<Coding> {
        self.0.first().copied()
    }

    /// Undoes them, the last one first. Without any, the body as it is. No layer may give more than `limit`
    /// bytes.
    ///
    /// # Errors
    /// [`Reject::InflatedTooLarge`], [`Reject::Broken`], [`Reject::CodingOverhead`].
    pub fn undo<'a>(&self, body: &'a [u8], limit: usize) -> Result<Cow<'a, [u8]>, Reject> {
        let mut body = Cow::Borrowed(body);
        for coding in self.0.iter().rev() {
            body = Cow::Owned(coding.undo(&body, limit)?);
        }
        Ok(body)
    }
}

/// By its name in headers, but for case and aliases.
impl FromStr for Coding {
    type Err = CodingError;

    fn from_str(name: &str) -> Result<Coding, CodingError> {
        let known = Coding::ALL.into_iter().find(|coding| coding.name() == name);
        known.ok_or(CodingError::Unknown)
    }
}

impl fmt::Display for Coding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Coding {
    /// All of them, in the order of their numbers.
    pub const ALL: [Coding; 5] = [
        Coding::Gzip,
        Coding::Deflate,
        Coding::Zstd,
        Coding::Brotli,
        Coding::Snappy,
    ];

    /// Its name in headers, settings and messages.
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
        let coding = self.name();
        let allowance = match self {
            Coding::Zstd => ZSTD_BLOCKS,
            _ => DEFLATE_BLOCKS,
        };
        let limit = match self {
            Coding::Brotli => limit.min(brotli::output_limit(body.len())),
            _ => limit,
        };
        let meter = &mut Meter::new(body.len(), allowance, limit);
        let done = match self {
            Coding::Gzip => deflate::inflate(body, deflate::Format::Gzip, meter),
            Coding::Deflate if is_zlib(body) => {
                deflate::inflate(body, deflate::Format::Zlib, meter)
            }
            Coding::Deflate => deflate::inflate(body, deflate::Format::Raw, meter),
            Coding::Zstd => zstd::decompress(body, meter),
            Coding::Brotli => brotli::decompress(body, meter),
            Coding::Snappy => unsnappy(body, meter),
        };
        done.map_err(|fault| match fault {
            Fault::Broken => Reject::Broken { coding },
            Fault::TooLarge => Reject::InflatedTooLarge { limit },
            Fault::Overhead {
                what,
                limit,
                actual,
            } => Reject::CodingOverhead {
                coding,
                what,
                limit,
                actual,
            },
        })
    }
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

fn unsnappy(body: &[u8], meter: &Meter) -> Result<Vec<u8>, Fault> {
    let broken = |_| Fault::Broken;
    // The block says its length first, so that nothing is allocated for one over the limit.
    if snap::raw::decompress_len(body).map_err(broken)? > meter.output_max() {
        return Err(Fault::TooLarge);
    }
    let out = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(broken)?;
    meter.made(out.len())?;
    Ok(out)
}

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
    use super::*;
    use std::io::Write;

    const TEXT: &[u8] = b"[{\"event_type\":\"_page_view\"},{\"event_type\":\"_page_view\"}]";
    const LIMIT: usize = 1_000;

    fn limits(bytes_max: usize) -> UnwrapLimits {
        UnwrapLimits {
            bytes_max,
            codings_max: 1,
            codings_undone: 0,
            opens_gzip: true,
        }
    }

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
        ::zstd::encode_all(bytes, 3).unwrap()
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
        let (limit, actual) = (CODINGS_CEILING, CODINGS_CEILING + 1);
        assert_eq!(
            read(b"gzip,gzip,gzip,gzip"),
            Err(CodingError::TooMany { limit, actual })
        );
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

    #[test]
    fn a_layer_gives_a_hundred_times_the_bytes_sent_or_16_kib() {
        assert_eq!(inflated_limit(0, 1 << 20), 16 << 10);
        assert_eq!(inflated_limit(163, 1 << 20), 16 << 10);
        assert_eq!(inflated_limit(1_000, 1 << 20), 100_000);
        assert_eq!(inflated_limit(usize::MAX, 1 << 20), 1 << 20);
        assert_eq!(inflated_limit(1_000, 10), 10);
    }

    #[test]
    fn an_endpoint_takes_the_codings_it_lists() {
        let accepted = AcceptedCodings::NONE.with(Coding::Gzip).with(Coding::Zstd);
        assert_eq!(codings("gzip").check(1, accepted), Ok(()));
        assert_eq!(codings("").check(0, AcceptedCodings::NONE), Ok(()));
        assert_eq!(
            codings("br").check(1, accepted),
            Err(CodingError::NotAccepted(Coding::Brotli))
        );
        let too_many = CodingError::TooMany {
            limit: 1,
            actual: 2,
        };
        assert_eq!(codings("gzip, gzip").check(1, accepted), Err(too_many));
        for coding in Coding::ALL {
            assert!(AcceptedCodings::ALL.contains(coding));
            assert!(!AcceptedCodings::NONE.contains(coding));
        }
    }

    fn overhead(coding: &str, body: &[u8]) -> &'static str {
        match codings(coding).undo(body, 1 << 20) {
            Err(Reject::CodingOverhead {
                what,
                limit,
                actual,
                ..
            }) => {
                assert!(actual > limit, "{coding}: {actual} {limit}");
                what
            }
            other => panic!("{coding}: {other:?}"),
        }
    }

    #[test]
    fn some_dozens_of_empty_members_frames_and_blocks_are_refused() {
        let stored = [0, 0, 0, 0xff, 0xff];
        let end = [1, 0, 0, 0xff, 0xff];
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        for (coding, empty, last) in [
            ("gzip", gzip(b""), gzip(TEXT)),
            ("deflate", stored.to_vec(), end.to_vec()),
            ("zstd", zstd(b""), zstd(TEXT)),
            ("zstd", skippable.to_vec(), zstd(TEXT)),
        ] {
            let few = [empty.repeat(10), last.clone()].concat();
            codings(coding).undo(&few, LIMIT).unwrap();
            let many = [empty.repeat(60), last].concat();
            assert_eq!(overhead(coding, &many), "empty blocks");
        }
    }

    #[test]
    fn an_empty_block_after_each_flush_is_fine() {
        use flate2::write::GzEncoder;
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut text = Vec::new();
        for number in 0..100 {
            let event = format!(
                "{{\"number\":{number},\"id\":\"{:08x}\"}},",
                number * 77_777
            );
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            text.extend_from_slice(event.as_bytes());
        }
        let body = encoder.finish().unwrap();
        assert_eq!(&*codings("gzip").undo(&body, 1 << 20).unwrap(), text);
    }

    #[test]
    fn blocks_of_a_few_bytes_are_refused() {
        // Tables for one letter, the letter, and the end of the block: 13 bytes.
        let mut bits = Bits::default();
        for _ in 0..2_000 {
            bits.deflate_block_of_one_letter();
        }
        bits.push(0b11, 3).push(0, 7);
        assert_eq!(overhead("deflate", &bits.bytes), "blocks");

        let frame = zstd(
            b"so many letters that they are worth a table, and these are not worth another one",
        );
        assert_eq!(overhead("zstd", &frame.repeat(400)), "blocks");
    }

    #[test]
    fn a_body_that_is_longer_than_what_it_holds_is_refused() {
        let padding = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0x80, 0, 0][..], &[0; 0x8000]].concat();
        let body = [padding, zstd(TEXT)].concat();
        assert_eq!(overhead("zstd", &body), "bytes without content");
        // A gzip header with a name of 40,000 letters.
        let mut named = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
        named.extend_from_slice(&[b'n'; 40_000]);
        named.push(0);
        named.extend_from_slice(&gzip(TEXT)[10..]);
        assert_eq!(overhead("gzip", &named), "bytes without content");
        // Brotli metadata of no bytes: not last, 11, 0, 00, and up to the next byte.
        let mut bits = Bits::default();
        bits.push(0, 1).push(0b00_0110, 7);
        for _ in 0..30_000 {
            bits.push(0b00_0110, 8);
        }
        bits.push(0b11, 2);
        assert_eq!(overhead("br", &bits.bytes), "bytes without content");
    }

    #[test]
    fn brotli_tables_are_paid_for_by_bytes_sent() {
        let mut bits = Bits::default();
        bits.push(0b1111, 4).brotli_metablock(256, 256);
        assert_eq!(overhead("br", &bits.bytes), "Huffman trees");
        let mut bits = Bits::default();
        bits.push(0b1111, 4);
        for _ in 0..20 {
            bits.brotli_metablock(1, 2);
        }
        bits.push(0b11, 2);
        let what = "bytes of windows and context maps";
        assert_eq!(overhead("br", &bits.bytes), what);
    }

    #[test]
    fn brotli_copies_without_a_bit_are_limited_by_bytes_sent() {
        let body = |count: usize| {
            let mut bits = Bits::default();
            bits.push(0, 1).brotli_copies_of_two(count);
            bits.push(0b11, 2);
            bits.bytes
        };
        assert_eq!(
            codings("br").undo(&body(500), 1 << 20).unwrap().len(),
            1_008
        );
        let many = body(30_000);
        assert!(many.len() < 32, "{}", many.len());
        let too_large = Reject::InflatedTooLarge { limit: 1 << 10 };
        assert_eq!(codings("br").undo(&many, 1 << 20), Err(too_large));
    }

    #[test]
    fn zstd_sequences_without_a_bit_are_limited_by_bytes_sent() {
        // A frame of a raw block of nine letters and a block of matches of three bytes: no literals, the count, and
        // tables of one symbol.
        let body = |count: u16| {
            let [high, low] = count.to_be_bytes();
            let mut body = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38, 9 << 3, 0, 0];
            body.extend_from_slice(b"aaaaaaaaa");
            body.extend_from_slice(&[8 << 3 | 0b101, 0, 0]);
            body.extend_from_slice(&[0, high | 0x80, low, 0b01_01_01_00, 0, 0, 0, 1]);
            body
        };
        let few = body(500);
        assert_eq!(
            codings("zstd").undo(&few, 1 << 20).unwrap().len(),
            9 + 3 * 500
        );
        assert_eq!(overhead("zstd", &body(5_000)), "sequences");
    }

    #[test]
    fn brotli_windows_over_16_mib_are_no_brotli() {
        // The large-window extension: 1, 000, 100 and 6 bits of the window's size.
        let mut bits = Bits::default();
        bits.push(0b001_0001, 7)
            .push(0, 1)
            .push(30, 6)
            .push(0b11, 2);
        let broken = Err(Reject::Broken { coding: "br" });
        assert_eq!(codings("br").undo(&bits.bytes, LIMIT), broken);
    }

    /// Writes bits, the lowest first.
    #[derive(Default)]
    struct Bits {
        bytes: Vec<u8>,
        count: usize,
    }

    impl Bits {
        fn push(&mut self, value: u64, count: usize) -> &mut Bits {
            for bit in 0..count {
                if self.count.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                let last = self.bytes.len() - 1;
                self.bytes[last] |= ((value >> bit & 1) as u8) << (self.count % 8);
                self.count += 1;
            }
            self
        }

        fn deflate_block_of_one_letter(&mut self) {
            // Not last, own tables; 286 lengths, 1 distance, 18 lengths of lengths.
            self.push(0, 1)
                .push(2, 2)
                .push(29, 5)
                .push(0, 5)
                .push(14, 4);
            for symbol in [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1] {
                self.push(u64::from(symbol == 18 || symbol == 1), 3);
            }
            for zeros in [97, 0, 138, 20, 0, 29, 0] {
                match zeros {
                    0 => self.push(0, 1),
                    zeros => self.push(1, 1).push(zeros - 11, 7),
                };
            }
            self.push(0, 1).push(1, 1);
        }

        /// Eight letters as they are, and copies of two bytes from the last distance, of no bits each.
        fn brotli_copies_of_two(&mut self, count: usize) {
            self.push(0, 1).push(0, 2).push(7, 16).push(1, 1);
            self.count = self.bytes.len() * 8;
            self.bytes.extend_from_slice(b"aaaaaaaa");
            self.count = self.bytes.len() * 8;
            self.push(0, 1).push(0, 2).push(2 * count as u64 - 1, 16);
            self.push(0, 1).push(0, 3).push(0, 6).push(0, 2).push(0, 2);
            self.brotli_code(u64::from(b'a'), 8);
            self.brotli_code(0, 10);
            self.brotli_code(0, 6);
        }

        /// A simple code of one symbol.
        fn brotli_code(&mut self, symbol: u64, bits: usize) {
            self.push(1, 2).push(0, 2).push(symbol, bits);
        }

        /// A metablock of one byte. With 256 `commands` one block type and tree for each; with two
        /// `literal_trees` 256 types of literals and the largest context map.
        fn brotli_metablock(&mut self, commands: usize, literal_trees: usize) {
            self.push(0, 1).push(0, 2).push(0, 16).push(0, 1);
            let literals = if literal_trees == 2 { 256 } else { 1 };
            for types in [literals, commands, 1] {
                if types == 1 {
                    self.push(0, 1);
                    continue;
                }
                self.push(1, 1).push(7, 3).push(127, 7);
                self.brotli_code(2, 9);
                self.brotli_code(25, 5);
                self.push(0, 24);
            }
            self.push(0, 6);
            for _ in 0..literals {
                self.push(0, 2);
            }
            if literal_trees == 2 {
                self.push(1, 1).push(0, 3).push(1, 1).push(13, 4);
                self.brotli_code(14, 4);
                self.push(0, 14).push(1, 1);
            } else {
                self.push(1, 1).push(7, 3).push(127, 7).push(0, 1);
                self.brotli_code(0, 8);
                self.push(1, 1);
            }
            self.push(0, 1);
            for _ in 0..literal_trees {
                self.brotli_code(u64::from(b'a'), 8);
            }
            for _ in 0..commands {
                self.brotli_code(8, 10);
            }
            self.brotli_code(0, 6);
        }
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
            if let Ok(out) = unwrap_events(&body, || false, limits(limit)) {
                assert!(out.len() <= limit || *out == body);
            }
        }
    }
}
