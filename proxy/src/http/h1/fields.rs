//! A request's head: what the one pass noted, and the other fields on demand.

use super::{Framing, Refusal, RequestLine, TOKEN, ascii, is, is_host};
use crate::error_code as code;

/// The fields that are noted while a head is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// `Host`.
    Host,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Connection`.
    Connection,
    /// `Expect`.
    Expect,
    /// `Content-Encoding`.
    ContentEncoding,
    /// `Origin`.
    Origin,
    /// `User-Agent`.
    UserAgent,
    /// `X-Forwarded-For`.
    ForwardedFor,
    /// `Sec-GPC`.
    SecGpc,
    /// `DNT`.
    Dnt,
    /// `SP-Anonymous`.
    SpAnonymous,
}

const KNOWN: [(Known, &[u8]); 12] = [
    (Known::Host, b"host"),
    (Known::ContentLength, b"content-length"),
    (Known::TransferEncoding, b"transfer-encoding"),
    (Known::Connection, b"connection"),
    (Known::Expect, b"expect"),
    (Known::ContentEncoding, b"content-encoding"),
    (Known::Origin, b"origin"),
    (Known::UserAgent, b"user-agent"),
    (Known::ForwardedFor, b"x-forwarded-for"),
    (Known::SecGpc, b"sec-gpc"),
    (Known::Dnt, b"dnt"),
    (Known::SpAnonymous, b"sp-anonymous"),
];

impl Known {
    /// The field of this name, in any case.
    pub(super) fn of(name: &[u8]) -> Option<Known> {
        // Lengths tell most of them apart, so that one comparison is enough.
        let known = match (name.len(), name.first()?.to_ascii_lowercase()) {
            (3, b'd') => Known::Dnt,
            (4, b'h') => Known::Host,
            (6, b'o') => Known::Origin,
            (6, b'e') => Known::Expect,
            (7, b's') => Known::SecGpc,
            (10, b'u') => Known::UserAgent,
            (10, b'c') => Known::Connection,
            (12, b's') => Known::SpAnonymous,
            (14, b'c') => Known::ContentLength,
            (15, b'x') => Known::ForwardedFor,
            (16, b'c') => Known::ContentEncoding,
            (17, b't') => Known::TransferEncoding,
            _ => return None,
        };
        name.eq_ignore_ascii_case(known.name()).then_some(known)
    }

    /// Its name in lower case.
    fn name(self) -> &'static [u8] {
        KNOWN[self as usize].1
    }
}

/// What is known of the fields so far.
#[derive(Default)]
pub(super) struct Noted<'b> {
    /// Lines.
    pub(super) count: usize,
    /// The first value of each.
    first: [Option<&'b [u8]>; KNOWN.len()],
    /// Which of them came more than once, a bit each.
    repeated: u16,
    length: Option<u64>,
}

impl<'b> Noted<'b> {
    /// Checks one line, and notes it if it is known.
    pub(super) fn note(&mut self, line: &'b [u8]) -> Result<(), Refusal> {
        let (name, value) = field(line)?;
        let Some(known) = Known::of(name) else {
            return Ok(());
        };
        let slot = &mut self.first[known as usize];
        let is_first = slot.is_none();
        if is_first {
            *slot = Some(value);
        } else {
            self.repeated |= 1 << known as usize;
        }
        match known {
            Known::Host => self.see_host(value, is_first),
            Known::ContentLength => self.see_length(value, is_first),
            Known::TransferEncoding => see_coding(value, is_first),
            _ => Ok(()),
        }
    }

    fn see_host(&self, value: &[u8], is_first: bool) -> Result<(), Refusal> {
        const SECTION: &str = "RFC 9112 section 3.2";
        if !is_first {
            let message = "there is more than one Host header";
            return Err(Refusal::new(code::REPEATED_HOST, SECTION, message));
        }
        if !is_host(value) {
            let message = "the Host header is not a host";
            return Err(Refusal::new(code::BAD_HOST, SECTION, message));
        }
        Ok(())
    }

    fn see_length(&mut self, value: &[u8], is_first: bool) -> Result<(), Refusal> {
        const SECTION: &str = "RFC 9112 section 6.3";
        // A repeated equal value may be refused, and no honest client sends it.
        if !is_first {
            return Err(Refusal::new(
                code::REPEATED_CONTENT_LENGTH,
                SECTION,
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
        // Half of the range, so that sums with other lengths cannot overflow.
        self.length = length.filter(|bytes| i64::try_from(*bytes).is_ok());
        if self.length.is_none() {
            return Err(Refusal::new(
                code::BAD_CONTENT_LENGTH,
                SECTION,
                "the Content-Length is not a decimal number of bytes",
            ));
        }
        Ok(())
    }

    fn framing(&self, minor: u8) -> Result<Framing, Refusal> {
        if minor > 0 && self.first[Known::Host as usize].is_none() {
            return Err(Refusal::new(
                code::NO_HOST,
                "RFC 9112 section 3.2",
                "the Host header is missing",
            ));
        }
        let is_coded = self.first[Known::TransferEncoding as usize].is_some();
        match (is_coded, self.length) {
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (true, Some(_)) => Err(Refusal::new(
                code::AMBIGUOUS_LENGTH,
                "RFC 9112 section 6.3",
                "Content-Length and Transfer-Encoding exclude each other",
            )),
            (true, None) if minor == 0 => Err(Refusal::new(
                code::TRANSFER_ENCODING_IN_HTTP_1_0,
                "RFC 9112 section 6.1",
                "HTTP/1.0 has no Transfer-Encoding",
            )),
            (true, None) => Ok(Framing::Chunked),
        }
    }
}

fn see_coding(value: &[u8], is_first: bool) -> Result<(), Refusal> {
    let repeated = |message| {
        let section = "RFC 9112 section 6.1";
        Err(Refusal::new(
            code::REPEATED_TRANSFER_ENCODING,
            section,
            message,
        ))
    };
    if !is_first {
        return repeated("there is more than one Transfer-Encoding");
    }
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let only_chunked = value
        .split(|byte| *byte == b',')
        .all(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"));
    if only_chunked {
        return repeated("the body is said to be chunked more than once");
    }
    Err(Refusal::new(
        code::TRANSFER_ENCODING_NOT_IMPLEMENTED,
        "RFC 9112 section 6.1",
        "the only Transfer-Encoding offered is chunked",
    ))
}

/// Name and value of a field line (RFC 9112 section 5), the value without the white space around it.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let bad = |section, message| Err(Refusal::new(code::BAD_HEAD, section, message));
    let colon = line.iter().position(|byte| !is(*byte, TOKEN));
    match colon {
        Some(0) if matches!(line[0], b' ' | b'\t') => Err(Refusal::new(
            code::FOLDED_HEADER,
            "RFC 9112 section 5.2",
            "a header line that continues the one before it is obsolete",
        )),
        Some(colon @ 1..) if line[colon] == b':' => {
            let value = &line[colon + 1..];
            if has_control(value) {
                let message = "the value of a header has a control character";
                return bad("RFC 9110 section 5.5", message);
            }
            Ok((&line[..colon], trim(value)))
        }
        _ => bad("RFC 9112 section 5.1", "a header line has no valid name"),
    }
}

/// Whether there is a byte that no field value may have: a control character other than a tab.
fn has_control(value: &[u8]) -> bool {
    // Without a way out of the loop, so that the compiler can compare 16 bytes at a time.
    let is_control = |byte: u8| (byte < b' ' && byte != b'\t') | (byte == 0x7f);
    value
        .iter()
        .fold(false, |found, byte| found | is_control(*byte))
}

/// Without optional white space (RFC 9110 section 5.6.3): spaces and tabs only.
fn trim(value: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(is_text) else {
        return &[];
    };
    let end = value.iter().rposition(is_text).map_or(start, |at| at + 1);
    &value[start..end]
}

/// The head of one request, borrowed from the bytes it came in. Everything in it has passed the grammar and the
/// [limits](super::super::HttpLimits).
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'b> {
    line: RequestLine<'b>,
    /// The field lines.
    fields: &'b [u8],
    first: [Option<&'b [u8]>; KNOWN.len()],
    repeated: u16,
    framing: Framing,
    bytes: usize,
}

impl<'b> RequestHead<'b> {
    pub(super) fn new(
        line: RequestLine<'b>,
        fields: &'b [u8],
        noted: Noted<'b>,
        bytes: usize,
    ) -> Result<RequestHead<'b>, Refusal> {
        Ok(RequestHead {
            line,
            fields,
            framing: noted.framing(line.minor)?,
            first: noted.first,
            repeated: noted.repeated,
            bytes,
        })
    }

    /// Its bytes, the empty line and empty lines before it included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The method, a token in the case in which it was sent.
    #[must_use]
    pub fn method(&self) -> &'b str {
        self.line.method
    }

    /// Path and query as sent, or `*`. Of an absolute form that has no path, `/`, or no path and a query, `?query`.
    #[must_use]
    pub fn path_and_query(&self) -> &'b str {
        self.line.path_and_query
    }

    /// The path as sent.
    #[must_use]
    pub fn path(&self) -> &'b str {
        &self.line.path_and_query[..self.line.path]
    }

    /// The query as sent, without its question mark.
    #[must_use]
    pub fn query(&self) -> Option<&'b str> {
        self.line.path_and_query.get(self.line.path + 1..)
    }

    /// The minor version: 1 is HTTP/1.1, 0 is HTTP/1.0.
    #[must_use]
    pub fn minor(&self) -> u8 {
        self.line.minor
    }

    /// How the body ends.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Host and port that the request is for: those of an absolute form, else the Host field (RFC 9112 section
    /// 3.2.2). HTTP/1.0 may name none.
    #[must_use]
    pub fn host(&self) -> Option<&'b [u8]> {
        let authority = self.line.authority.map(str::as_bytes);
        authority.or(self.first[Known::Host as usize])
    }

    /// The value of a field that may be there once; `None` when it is missing or came more than once.
    #[must_use]
    pub fn only(&self, known: Known) -> Option<&'b [u8]> {
        self.first[known as usize].filter(|_| !self.is_repeated(known))
    }

    /// The first value of a field.
    #[must_use]
    pub fn first(&self, known: Known) -> Option<&'b [u8]> {
        self.first[known as usize]
    }

    fn is_repeated(&self, known: Known) -> bool {
        self.repeated & 1 << known as usize != 0
    }

    /// All values of a field, in order.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &'b [u8]> {
        let is_repeated = self.is_repeated(known);
        let one = self.first[known as usize].filter(|_| !is_repeated);
        let several = is_repeated.then(|| {
            self.fields()
                .filter(move |(name, _)| name.as_bytes().eq_ignore_ascii_case(known.name()))
        });
        one.into_iter()
            .chain(several.into_iter().flatten().map(|(_, value)| value))
    }

    /// Every field in order: its name as sent, and its value.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> + use<'b> {
        // The lines have passed `field` before, so none is left out here.
        self.fields
            .split_inclusive(|byte| *byte == b'\n')
            .filter_map(|line| field(line.strip_suffix(b"\r\n")?).ok())
            .filter_map(|(name, value)| Some((ascii(name)?, value)))
    }

    /// Whether the connection goes on after this request, as far as the client is concerned (RFC 9112 section 9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        if self.first(Known::Connection).is_none() {
            return self.line.minor > 0;
        }
        let says = |option: &[u8]| {
            self.all(Known::Connection)
                .flat_map(|value| value.split(|byte| *byte == b','))
                .any(|said| said.trim_ascii().eq_ignore_ascii_case(option))
        };
        !says(b"close") && (self.line.minor > 0 || says(b"keep-alive"))
    }

    /// Whether the client sends the body only after `100 Continue` (RFC 9110 section 10.1.1).
    #[must_use]
    pub fn waits_for_continue(&self) -> bool {
        let expect = self.first(Known::Expect);
        self.line.minor > 0
            && expect.is_some_and(|expect| expect.eq_ignore_ascii_case(b"100-continue"))
    }
}
