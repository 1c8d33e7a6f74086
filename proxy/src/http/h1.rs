//! HTTP/1.1 as bytes (RFC 9112): heads and chunks in, answers out. No I/O, no clock, no allocation on the way in.
//!
//! One pass over a head finds its end, checks every byte of it by the grammar and notes the fields that a server
//! needs. It accepts what the RFC requires and refuses what it only tolerates, for a balancer in front may read
//! that differently: whoever disagrees about where a request ends lets one client's bytes become another's request.

mod chunked;
mod encode;
mod fields;
#[cfg(fuzzing)]
mod fuzz;
#[cfg(any(test, fuzzing))]
mod reader;
#[cfg(test)]
mod tests;

pub(super) use chunked::Chunked;
pub(super) use encode::{About, Closing, decimal, encode};
pub use fields::{Known, RequestHead};
#[cfg(fuzzing)]
pub use fuzz::fuzz;

use super::answer::ErrorBody;
use super::limits::HttpLimits;
use crate::error_code::{self as code, ErrorCode};
use fields::Noted;
use memchr::{memchr, memchr_iter};
use std::borrow::Cow;
use std::net::Ipv6Addr;

/// Why a head or a chunk is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its status and its name.
    pub code: ErrorCode,
    /// One sentence.
    pub message: &'static str,
    /// Where the RFC says so.
    pub section: &'static str,
    /// The limit, and the actual value as far as it was read, where one is exceeded.
    pub over: Option<(u64, u64)>,
}

impl Refusal {
    const fn new(code: ErrorCode, section: &'static str, message: &'static str) -> Refusal {
        Refusal {
            code,
            message,
            section,
            over: None,
        }
    }

    fn over(self, limit: usize, actual: usize) -> Refusal {
        Refusal {
            over: Some((limit as u64, actual as u64)),
            ..self
        }
    }
}

impl From<Refusal> for ErrorBody {
    fn from(refusal: Refusal) -> ErrorBody {
        let message = Cow::Owned(format!("{} ({})", refusal.message, refusal.section));
        let error = ErrorBody::new(refusal.code, message);
        match refusal.over {
            Some((limit, actual)) => error.over(limit, actual),
            None => error,
        }
    }
}

/// How the body of a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// After this many bytes; 0 is no body.
    Length(u64),
    /// With the last chunk.
    Chunked,
}

/// Reads the head that `bytes` begin with; `None` while it is incomplete and within the limits. Whatever comes
/// after the head has no influence.
///
/// # Errors
/// [`Refusal`]; the connection cannot go on, for the end of the request is not known.
pub fn decode<'b>(
    bytes: &'b [u8],
    limits: &HttpLimits,
) -> Result<Option<RequestHead<'b>>, Refusal> {
    // RFC 9112 section 2.2: empty lines before a request line are to be ignored.
    let mut start = 0;
    while bytes[start..].starts_with(b"\r\n") {
        start += 2;
    }
    let Some((line, mut at)) = next_line(bytes, start)? else {
        let partial = bytes.get(start..).unwrap_or_default();
        let target = partial.split(|byte| *byte == b' ').nth(1).unwrap_or(&[]);
        if target.len() > limits.target_bytes_max {
            return Err(target_too_long(limits, target.len()));
        }
        return incomplete(bytes, limits);
    };
    let request_line = request_line(line, limits)?;
    let fields_start = at;
    let mut noted = Noted::default();
    loop {
        let Some((line, next)) = next_line(bytes, at)? else {
            return incomplete(bytes, limits);
        };
        if line.is_empty() {
            let fields = &bytes[fields_start..at];
            at = next;
            if at > limits.head_bytes_max {
                return Err(head_too_large(limits, at));
            }
            return RequestHead::new(request_line, fields, noted, at).map(Some);
        }
        at = next;
        noted.count += 1;
        if noted.count > limits.headers_max {
            return Err(Refusal::new(
                code::TOO_MANY_HEADERS,
                "RFC 6585 section 5",
                "the request has more header lines than the limit",
            )
            .over(limits.headers_max, noted.count));
        }
        noted.note(line)?;
    }
}

/// Whether bytes that follow an incomplete head of `before` bytes can complete it: otherwise there is no point in
/// reading it again from its beginning, which a client who sends it byte by byte would make us do.
pub(super) fn may_complete(bytes: &[u8], before: usize, limits: &HttpLimits) -> bool {
    if bytes.len() > limits.head_bytes_max {
        return true;
    }
    let mut at = before.saturating_sub(2);
    while let Some(found) = memchr(b'\n', bytes.get(at..).unwrap_or_default()) {
        at += found + 1;
        let rest = &bytes[at..];
        if rest.starts_with(b"\n") || rest.starts_with(b"\r\n") {
            return true;
        }
    }
    false
}

/// The value of `Origin` in a head that is refused or incomplete, as far as it can be made out, so that a page may
/// read the refusal.
pub(super) fn origin_of(bytes: &[u8]) -> Option<&[u8]> {
    let mut lines = bytes.split(|byte| *byte == b'\n').skip(1);
    lines.find_map(|line| {
        let (name, value) = line.split_at_checked("origin:".len())?;
        let value = value.strip_suffix(b"\r")?;
        name.eq_ignore_ascii_case(b"origin:")
            .then(|| value.trim_ascii())
    })
}

fn incomplete<'b>(bytes: &[u8], limits: &HttpLimits) -> Result<Option<RequestHead<'b>>, Refusal> {
    if bytes.len() > limits.head_bytes_max {
        return Err(head_too_large(limits, bytes.len()));
    }
    Ok(None)
}

fn head_too_large(limits: &HttpLimits, actual: usize) -> Refusal {
    Refusal::new(
        code::HEAD_TOO_LARGE,
        "RFC 6585 section 5",
        "the request head is over the limit of bytes",
    )
    .over(limits.head_bytes_max, actual)
}

fn target_too_long(limits: &HttpLimits, actual: usize) -> Refusal {
    Refusal::new(
        code::TARGET_TOO_LONG,
        "RFC 9112 section 3",
        "the request target is over the limit of bytes",
    )
    .over(limits.target_bytes_max, actual)
}

/// The line that starts at `at`, without its end, and where the next one starts.
fn next_line(bytes: &[u8], at: usize) -> Result<Option<(&[u8], usize)>, Refusal> {
    let rest = bytes.get(at..).unwrap_or_default();
    let Some(end) = memchr(b'\n', rest) else {
        return Ok(None);
    };
    match rest[..end].strip_suffix(b"\r") {
        Some(line) => Ok(Some((line, at + end + 1))),
        None => Err(Refusal::new(
            code::BAD_LINE_END,
            "RFC 9112 section 2.2",
            "a line of the request head does not end with CR LF",
        )),
    }
}

/// The first line of a request.
#[derive(Clone, Copy, Debug)]
struct RequestLine<'b> {
    method: &'b str,
    /// The host of an absolute form, which counts instead of the Host field (RFC 9112 section 3.2.2).
    authority: Option<&'b str>,
    /// Path and query, or `*`.
    path_and_query: &'b str,
    /// Bytes of the path.
    path: usize,
    /// The version is HTTP/1.`minor`.
    minor: u8,
}

fn request_line<'b>(line: &'b [u8], limits: &HttpLimits) -> Result<RequestLine<'b>, Refusal> {
    let bad = |section, message| Refusal::new(code::BAD_REQUEST_LINE, section, message);
    let malformed = || {
        bad(
            "RFC 9112 section 3",
            "the request line is not a method, a target and a version with one space between them",
        )
    };
    let invalid = |section| {
        Refusal::new(
            code::BAD_HEAD,
            section,
            "the request line has a byte that is not allowed there",
        )
    };
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target), Some(version)) = (parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed());
    };
    if target.len() > limits.target_bytes_max {
        return Err(target_too_long(limits, target.len()));
    }
    const OFFERED: &str = "this server speaks HTTP/1.1 and HTTP/1.0 here";
    let minor = match version {
        b"HTTP/1.1" => 1,
        b"HTTP/1.0" => 0,
        b"HTTP/2.0" if method == b"PRI" => {
            let section = "RFC 9113 section 3.4";
            return Err(Refusal::new(code::HTTP2_NOT_OFFERED, section, OFFERED));
        }
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            let section = "RFC 9110 section 15.6.6";
            return Err(Refusal::new(
                code::HTTP_VERSION_NOT_SUPPORTED,
                section,
                OFFERED,
            ));
        }
        _ => return Err(malformed()),
    };
    if method == b"CONNECT" || method == b"TRACE" {
        return Err(Refusal::new(
            code::METHOD_NOT_IMPLEMENTED,
            "RFC 9110 section 9.3",
            "CONNECT and TRACE are not offered",
        ));
    }
    if method.is_empty() || target.is_empty() {
        return Err(malformed());
    }
    if !method.iter().all(|byte| is(*byte, TOKEN)) {
        return Err(invalid("RFC 9110 section 5.6.2"));
    }
    const URI: &str = "RFC 3986 section 2";
    let (authority, rest) = if target[0] == b'/' {
        (None, target)
    } else if target == b"*" {
        if method != b"OPTIONS" {
            return Err(bad(
                "RFC 9112 section 3.2.4",
                "only OPTIONS may be for the server as a whole",
            ));
        }
        (None, target)
    } else {
        let Some(rest) = after_scheme(target) else {
            let known = target.iter().all(|byte| is(*byte, QUERY));
            return Err(match known {
                true => bad(
                    "RFC 9112 section 3.2",
                    "the request target is neither a path nor an http or https URI",
                ),
                false => invalid(URI),
            });
        };
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?'))
            .unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        if !is_host(authority) {
            return Err(bad(
                "RFC 9110 section 4.2",
                "the URI of the request target has no host, or more than a host and a port before its path",
            ));
        }
        let rest = if rest.is_empty() { &b"/"[..] } else { rest };
        (Some(ascii(authority).ok_or_else(malformed)?), rest)
    };
    let path = memchr(b'?', rest).unwrap_or(rest.len());
    let (path_bytes, query) = rest.split_at(path);
    let valid =
        path_bytes.iter().all(|byte| is(*byte, PATH)) && query.iter().all(|byte| is(*byte, QUERY));
    if !valid {
        return Err(invalid(URI));
    }
    Ok(RequestLine {
        method: ascii(method).ok_or_else(malformed)?,
        authority,
        path_and_query: ascii(rest).ok_or_else(malformed)?,
        path,
        minor,
    })
}

/// What follows the scheme of an absolute form.
fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })
}

/// Bytes that were found to be ASCII, as text.
fn ascii(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// In a token: RFC 9110 section 5.6.2.
const TOKEN: u8 = 1;
/// In a path: RFC 3986 section 3.3, and `%` of an escape.
const PATH: u8 = 2;
/// In a query: RFC 3986 section 3.4, and what browsers send there unescaped (URL standard, query percent-encode
/// set): to refuse that would be to lose the events of pages that write it.
const QUERY: u8 = 4;
/// In a host name: RFC 3986 section 3.2.2.
const HOST: u8 = 8;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    const fn add(table: &mut [u8; 256], bytes: &[u8], class: u8) {
        let mut at = 0;
        while at < bytes.len() {
            table[bytes[at] as usize] |= class;
            at += 1;
        }
    }
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = TOKEN | PATH | QUERY | HOST;
        }
        byte += 1;
    }
    add(&mut table, b"!#$%&'*+-.^_`|~", TOKEN);
    add(&mut table, b"-._~!$&'()*+,;=%", PATH | QUERY | HOST);
    add(&mut table, b":@/", PATH | QUERY);
    add(&mut table, b"?", QUERY);
    add(&mut table, b"[]\\^`{|}", QUERY);
    table
}

fn is(byte: u8, class: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// `host[:port]` (RFC 3986 section 3.2.2): an IPv6 address in brackets, or a name by its characters. An empty one
/// names no server.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value.iter().rposition(|byte| *byte == b':') {
        Some(colon) if !value[colon..].contains(&b']') => (&value[..colon], &value[colon + 1..]),
        _ => (value, &value[..0]),
    };
    let is_valid = match host.strip_prefix(b"[") {
        Some(rest) => rest
            .strip_suffix(b"]")
            .and_then(ascii)
            .is_some_and(|literal| {
                let address: Result<Ipv6Addr, _> = literal.parse();
                address.is_ok()
            }),
        None => {
            let is_escape = |at: usize| match host.get(at + 1..at + 3) {
                Some(digits) => digits.iter().all(u8::is_ascii_hexdigit),
                None => false,
            };
            !host.is_empty()
                && host.iter().all(|byte| is(*byte, HOST))
                && memchr_iter(b'%', host).all(is_escape)
        }
    };
    is_valid && port.len() <= 5 && port.iter().all(u8::is_ascii_digit)
}
