//! Checks a connection's framing before the engine sees its bytes.
//!
//! It finds where each message begins and ends, and stops at the first head or chunk that this
//! server does not accept. It does no I/O and no parsing beyond that: methods, targets, names and
//! values are the engine's.
//!
//! Why this is needed beside the engine: hyper accepts what RFC 9112 only tolerates (a length
//! beside a transfer coding, of which it then hides the length; repeated lengths; bare line feeds),
//! does not look at Host, answers what it refuses itself, without a body, and cannot be asked how
//! far a head has come. A scan over line starts costs little beside that parse.

use super::answer::ErrorBody;
use super::limits::HttpLimits;
use crate::error_code as code;
use memchr::memchr;

/// Chunks that any body may have; more need [`CHUNK_BYTES`] of content each. The engine takes 0.3 us for a chunk.
const CHUNKS_FREE: u32 = 2_048;
const CHUNK_BYTES: u32 = 256;

/// The framing state of one connection.
pub(super) struct FramingCheck {
    at: At,
    /// Bytes that further chunks of this body may still lack. Small numbers, here and below: each connection
    /// has them, and an idle one costs what its task's size class costs.
    chunk_credit: u32,
    /// Bytes of chunk extensions and trailers that this body may still have.
    extra_left: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    /// Bytes of the body that are still to come.
    Body(u64),
    /// Digits of a chunk size read so far, and their value.
    Size(u8, u64),
    /// Behind the digits; the size is known.
    Extension(u64),
    SizeLf(u64),
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
}

/// Why the bytes after those that may pass must not.
#[derive(Debug)]
pub(super) enum Stop {
    /// They are a head that gets this answer instead of a handler.
    Head(ErrorBody),
    /// They are inside a body and break its framing.
    Body,
}

/// The result of a check.
pub(super) struct Pass {
    /// Bytes that may go to the engine. The others are an incomplete head, or refused.
    pub(super) bytes: usize,
    /// Set when no more bytes of this connection may go to the engine.
    pub(super) stop: Option<Stop>,
}

impl FramingCheck {
    pub(super) fn new() -> FramingCheck {
        FramingCheck {
            at: At::Head,
            chunk_credit: 0,
            extra_left: 0,
        }
    }

    /// Checks the next bytes. Those of an incomplete head do not pass: the caller keeps them and passes
    /// them again with more.
    pub(super) fn pass(&mut self, bytes: &[u8], limits: &HttpLimits) -> Pass {
        let mut passed = 0;
        while let Some(rest) = bytes.get(passed..).filter(|rest| !rest.is_empty()) {
            match self.at {
                At::Head => match scan_head(rest, limits) {
                    Ok(Some(head)) => {
                        passed += head.bytes;
                        self.at = match head.framing {
                            Framing::Length(0) => At::Head,
                            Framing::Length(length) => At::Body(length),
                            Framing::Chunked => At::Size(0, 0),
                        };
                        self.chunk_credit = CHUNKS_FREE * CHUNK_BYTES;
                        self.extra_left = u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX);
                    }
                    Ok(None) => break,
                    Err(error_body) => {
                        return Pass {
                            bytes: passed,
                            stop: Some(Stop::Head(error_body)),
                        };
                    }
                },
                At::Body(left) => {
                    let run = clamp(left, rest.len());
                    passed += run;
                    self.at = match left - run as u64 {
                        0 => At::Head,
                        left => At::Body(left),
                    };
                }
                At::Data(left) => {
                    let run = clamp(left, rest.len());
                    passed += run;
                    self.at = match left - run as u64 {
                        0 => At::DataCr,
                        left => At::Data(left),
                    };
                }
                _ => match self.chunk_byte(rest[0]) {
                    Some(next) => {
                        self.at = next;
                        passed += 1;
                    }
                    None => {
                        return Pass {
                            bytes: passed,
                            stop: Some(Stop::Body),
                        };
                    }
                },
            }
        }
        Pass {
            bytes: passed,
            stop: None,
        }
    }

    /// RFC 9112 section 7.1, without tolerance for other line ends.
    fn chunk_byte(&mut self, byte: u8) -> Option<At> {
        let next = match (self.at, byte) {
            (At::Size(digits @ ..16, value), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                At::Size(digits + 1, (value << 4) | u64::from(digit))
            }
            (At::Size(1.., size), b';' | b' ' | b'\t') => At::Extension(size),
            (At::Size(1.., size) | At::Extension(size), b'\r') => At::SizeLf(size),
            (At::Extension(size), other) if other != b'\n' => {
                self.spend_extra()?;
                At::Extension(size)
            }
            (At::SizeLf(0), b'\n') => At::TrailerStart,
            (At::SizeLf(size), b'\n') => {
                self.count_chunk(size)?;
                At::Data(size)
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size(0, 0),
            (At::TrailerStart, b'\r') => At::EndLf,
            (At::EndLf, b'\n') => At::Head,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::TrailerLf, b'\n') => At::TrailerStart,
            (At::TrailerStart | At::Trailer, other) if other != b'\n' => {
                self.spend_extra()?;
                At::Trailer
            }
            _ => return None,
        };
        Some(next)
    }

    fn count_chunk(&mut self, bytes: u64) -> Option<()> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let credit = self.chunk_credit.saturating_add(bytes);
        self.chunk_credit = credit.checked_sub(CHUNK_BYTES)?;
        Some(())
    }

    fn spend_extra(&mut self) -> Option<()> {
        self.extra_left = self.extra_left.checked_sub(1)?;
        Some(())
    }
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).map_or(available, |left| left.min(available))
}

#[derive(Debug, PartialEq, Eq)]
struct HeadFound {
    /// Its bytes, the empty line included.
    bytes: usize,
    framing: Framing,
}

#[derive(Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

fn head_too_large(limits: &HttpLimits, actual: usize) -> ErrorBody {
    ErrorBody::new(
        code::HEAD_TOO_LARGE,
        "the request head is over the limit of bytes",
    )
    .over(limits.head_bytes_max as u64, actual as u64)
}

fn target_too_long(limits: &HttpLimits, actual: usize) -> ErrorBody {
    ErrorBody::new(
        code::TARGET_TOO_LONG,
        "the request target is over the limit of bytes",
    )
    .over(limits.target_bytes_max as u64, actual as u64)
}

/// Checks one head. `None` when it is not complete and not yet over a limit.
fn scan_head(bytes: &[u8], limits: &HttpLimits) -> Result<Option<HeadFound>, ErrorBody> {
    // RFC 9112 section 2.2: empty lines before a request line are to be ignored.
    let mut at = 0;
    while bytes[at..].starts_with(b"\r\n") {
        at += 2;
    }
    let Some((line, mut at)) = next_line(bytes, at)? else {
        let partial = bytes.get(at..).unwrap_or_default();
        let target = partial.split(|byte| *byte == b' ').nth(1).unwrap_or(&[]);
        if target.len() > limits.target_bytes_max {
            return Err(target_too_long(limits, target.len()));
        }
        return incomplete(bytes, limits);
    };
    let version_minor = check_request_line(line, limits)?;

    let mut fields = Fields::default();
    loop {
        let Some((line, next)) = next_line(bytes, at)? else {
            return incomplete(bytes, limits);
        };
        at = next;
        if line.is_empty() {
            break;
        }
        fields.count += 1;
        if fields.count > limits.headers_max {
            return Err(ErrorBody::new(
                code::TOO_MANY_HEADERS,
                "the request has more header lines than the limit",
            )
            .over(limits.headers_max as u64, fields.count as u64));
        }
        fields.see(line)?;
    }
    if at > limits.head_bytes_max {
        return Err(head_too_large(limits, at));
    }
    Ok(Some(HeadFound {
        bytes: at,
        framing: fields.framing(version_minor)?,
    }))
}

fn incomplete(bytes: &[u8], limits: &HttpLimits) -> Result<Option<HeadFound>, ErrorBody> {
    if bytes.len() > limits.head_bytes_max {
        return Err(head_too_large(limits, bytes.len()));
    }
    Ok(None)
}

/// The line that starts at `at`, without its end, and where the next one starts.
fn next_line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, ErrorBody> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = memchr(b'\n', rest) else {
        return Ok(None);
    };
    match rest[..end].strip_suffix(b"\r") {
        Some(line) => Ok(Some((line, at + end + 1))),
        None => Err(ErrorBody::new(
            code::BAD_LINE_END,
            "a line of the request head does not end with CR LF",
        )),
    }
}

/// Returns the minor version of HTTP/1.
fn check_request_line(line: &[u8], limits: &HttpLimits) -> Result<u8, ErrorBody> {
    let malformed = || ErrorBody::new(code::BAD_REQUEST_LINE, "the request line is malformed");
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    if target.len() > limits.target_bytes_max {
        return Err(target_too_long(limits, target.len()));
    }
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        b"HTTP/2.0" if method == b"PRI" => {
            return Err(ErrorBody::new(
                code::HTTP2_NOT_OFFERED,
                "this server speaks HTTP/1.1 and HTTP/1.0",
            ));
        }
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(ErrorBody::new(
                code::HTTP_VERSION_NOT_SUPPORTED,
                "this server speaks HTTP/1.1 and HTTP/1.0",
            ));
        }
        _ => return Err(malformed()),
    };
    if method == b"CONNECT" || method == b"TRACE" {
        return Err(ErrorBody::new(
            code::METHOD_NOT_IMPLEMENTED,
            "CONNECT and TRACE are not offered",
        ));
    }
    Ok(minor)
}

/// Framing and Host, from the header lines.
#[derive(Default)]
struct Fields {
    count: usize,
    hosts: usize,
    length: Option<u64>,
    coded: bool,
}

impl Fields {
    fn see(&mut self, line: &[u8]) -> Result<(), ErrorBody> {
        match line[0].to_ascii_lowercase() {
            b' ' | b'\t' => Err(ErrorBody::new(
                code::FOLDED_HEADER,
                "a header line that continues the one before it is obsolete",
            )),
            b'h' => match field_value(line, b"host") {
                Some(value) => self.see_host(value),
                None => Ok(()),
            },
            b'c' => match field_value(line, b"content-length") {
                Some(value) => self.see_length(value),
                None => Ok(()),
            },
            b't' => match field_value(line, b"transfer-encoding") {
                Some(value) => self.see_coding(value),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn see_host(&mut self, value: &[u8]) -> Result<(), ErrorBody> {
        self.hosts += 1;
        if is_host(value) {
            Ok(())
        } else {
            Err(ErrorBody::new(
                code::BAD_HOST,
                "the Host header is not a host",
            ))
        }
    }

    fn see_length(&mut self, value: &[u8]) -> Result<(), ErrorBody> {
        // A repeated equal value may be refused, and no honest client sends it (RFC 9112 section 6.3).
        if self.length.is_some() {
            return Err(ErrorBody::new(
                code::REPEATED_CONTENT_LENGTH,
                "there is more than one Content-Length",
            ));
        }
        let mut length: Option<u64> = None;
        for byte in value {
            length = match byte {
                b'0'..=b'9' => length
                    .unwrap_or(0)
                    .checked_mul(10)
                    .and_then(|length| length.checked_add(u64::from(byte - b'0'))),
                _ => None,
            };
            if length.is_none() {
                break;
            }
        }
        match length {
            // The engine keeps the highest values for itself.
            Some(bytes) if i64::try_from(bytes).is_ok() => {
                self.length = length;
                Ok(())
            }
            _ => Err(ErrorBody::new(
                code::BAD_CONTENT_LENGTH,
                "the Content-Length is not a decimal number of bytes",
            )),
        }
    }

    fn see_coding(&mut self, value: &[u8]) -> Result<(), ErrorBody> {
        if self.coded {
            return Err(ErrorBody::new(
                code::REPEATED_TRANSFER_ENCODING,
                "there is more than one Transfer-Encoding",
            ));
        }
        self.coded = true;
        if value.eq_ignore_ascii_case(b"chunked") {
            return Ok(());
        }
        let only_chunked = value
            .split(|byte| *byte == b',')
            .all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"));
        if only_chunked {
            return Err(ErrorBody::new(
                code::REPEATED_TRANSFER_ENCODING,
                "the body is said to be chunked more than once",
            ));
        }
        Err(ErrorBody::new(
            code::TRANSFER_ENCODING_NOT_IMPLEMENTED,
            "the only Transfer-Encoding offered is chunked",
        ))
    }

    fn framing(&self, version_minor: u8) -> Result<Framing, ErrorBody> {
        match self.hosts {
            1 => {}
            // HTTP/1.0 came before the header.
            0 if version_minor == 0 => {}
            0 => return Err(ErrorBody::new(code::NO_HOST, "the Host header is missing")),
            _ => {
                return Err(ErrorBody::new(
                    code::REPEATED_HOST,
                    "there is more than one Host header",
                ));
            }
        }
        match (self.coded, self.length) {
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (true, Some(_)) => Err(ErrorBody::new(
                code::AMBIGUOUS_LENGTH,
                "Content-Length and Transfer-Encoding exclude each other",
            )),
            (true, None) if version_minor == 0 => Err(ErrorBody::new(
                code::TRANSFER_ENCODING_IN_HTTP_1_0,
                "HTTP/1.0 has no Transfer-Encoding",
            )),
            (true, None) => Ok(Framing::Chunked),
        }
    }
}

/// The value of a header line, if the line has that name (given in lower case).
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// `host[:port]` by its characters (RFC 3986 section 3.2.2); an empty one names no server.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value[colon..].contains(&b']') => (&value[..colon], &value[colon + 1..]),
        _ => (value, &value[..0]),
    };
    let literal = host
        .strip_prefix(b"[")
        .and_then(|rest| rest.strip_suffix(b"]"));
    let host_is_valid = match literal {
        Some(address) => {
            !address.is_empty()
                && address
                    .iter()
                    .all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'v'))
        }
        None => {
            !host.is_empty()
                && host.iter().all(|byte| {
                    byte.is_ascii_alphanumeric()
                        || matches!(
                            byte,
                            b'-' | b'.'
                                | b'_'
                                | b'~'
                                | b'%'
                                | b'!'
                                | b'$'
                                | b'&'
                                | b'\''
                                | b'('
                                | b')'
                                | b'*'
                                | b'+'
                                | b','
                                | b';'
                                | b'='
                        )
                })
        }
    };
    host_is_valid && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}

/// Checks `bytes` in two pieces, as a connection may bring them, and all at once: how many bytes may go to
/// the engine and whether any more may is the same. For the fuzz targets.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8], cut: usize) {
    let limits = HttpLimits::default();
    let run = |pieces: &[&[u8]]| {
        let mut check = FramingCheck::new();
        let (mut held, mut passed) = (Vec::new(), 0);
        for piece in pieces {
            held.extend_from_slice(piece);
            let pass = check.pass(&held, &limits);
            assert!(pass.bytes <= held.len());
            held.drain(..pass.bytes);
            passed += pass.bytes;
            if pass.stop.is_some() {
                return (passed, true);
            }
        }
        (passed, false)
    };
    let (front, back) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(run(&[bytes]), run(&[front, back]), "cut at {cut}");
}

#[cfg(test)]
mod tests;
