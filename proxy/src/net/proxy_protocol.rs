//! The header with which a balancer begins a connection to name its client: PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, sections 2.1 and 2.2).
//!
//! [`decode`] reads no socket: give it all bytes of the connection so far. It says how many a header has at the
//! least, so a caller that reads no more than that reads not a byte of the request; one that reads more takes
//! what is behind [`ProxyHeader::length`] for the connection's first bytes. Whether to trust a header is decided
//! by the caller.

use crate::runtime::sockets::Stream;
use crc32c::crc32c;
use ppp::v1;
use ppp::v2::{Addresses, Command, Header, ParseError, Protocol, Type, TypeLengthValues};
use std::future::poll_fn;
use std::net::SocketAddr;

/// Bytes of signature, command, family and length, which every header of version 2 has.
const FIXED_BYTES: usize = 16;

/// A header may have this many bytes. Addresses take 216 at most; the rest are notes between proxies, of
/// which a network load balancer writes less than 100, and HAProxy with all of them some 700.
pub const HEADER_BYTES_MAX: usize = 1_024;

/// Version 1 is a line of this many bytes at most, its end included.
pub const LINE_BYTES_MAX: usize = 107;

/// The longest unique id that the protocol allows.
pub const UNIQUE_ID_BYTES_MAX: usize = 128;

/// How version 1 begins.
const LINE_PREFIX: &[u8] = b"PROXY ";

/// The shortest line of version 1, and so the shortest header.
const SHORTEST_LINE: &[u8] = b"PROXY UNKNOWN\r\n";
const _: () = assert!(SHORTEST_LINE.len() < FIXED_BYTES);

/// A header for a proxy's own connection, such as a health check: it names no client.
pub(crate) const LOCAL_HEADER: [u8; FIXED_BYTES] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// What a balancer said of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// 1 or 2.
    pub version: u8,
    /// Its bytes: what is behind them belongs to the connection.
    pub length: usize,
    /// The connection is the balancer's own, such as a health check.
    pub is_local: bool,
    /// The client; `None` if the header names none, and the peer is the client.
    pub client: Option<SocketAddr>,
    /// What else it said; `None` where it is nothing that we know.
    pub notes: Option<Box<Notes>>,
}

/// What a header of version 2 says besides addresses. All of it together is bounded by [`HEADER_BYTES_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The VPC endpoint that the client came through, by AWS: `vpce-…`.
    pub vpc_endpoint: Option<String>,
    /// The host that the client asked for, mostly by SNI.
    pub authority: Option<String>,
    /// The balancer's name of the connection.
    pub unique_id: Option<Vec<u8>>,
    /// TLS between client and balancer.
    pub tls: Option<TlsNotes>,
}

/// TLS that ended at the balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsNotes {
    /// For instance `TLSv1.3`.
    pub version: Option<String>,
    /// For instance `TLS_AES_128_GCM_SHA256`.
    pub cipher: Option<String>,
    /// The common name of the client's certificate, where the balancer has verified one.
    pub common_name: Option<String>,
}

/// Why the client of a connection is unknown.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum NoClient {
    /// It ended, or its time was over, before the first byte.
    #[error("nothing was sent")]
    Silent,
    /// It ended, or its time was over, within the header.
    #[error("the header broke off after {0} bytes")]
    BrokenOff(usize),
    /// The header's length is over the limit.
    #[error("the header has {actual} bytes, at most {limit} are read")]
    TooLong {
        /// [`HEADER_BYTES_MAX`].
        limit: usize,
        /// The length in the header.
        actual: usize,
    },
    /// The line of version 1 has no end within its limit.
    #[error("the header's line has no end after {actual} bytes, at most {limit} are read")]
    EndlessLine {
        /// [`LINE_BYTES_MAX`].
        limit: usize,
        /// The bytes read.
        actual: usize,
    },
    /// The unique id is longer than the protocol allows.
    #[error("the header's unique id has {actual} bytes, at most {limit} are allowed")]
    LongUniqueId {
        /// [`UNIQUE_ID_BYTES_MAX`].
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
    /// Addresses of another transport than TCP.
    #[error("the header is not about a TCP connection")]
    NotTcp,
    /// The bytes do not fit the checksum among them.
    #[error("the header's checksum is {actual:08x}, its bytes have {expected:08x}")]
    Checksum {
        /// That of the bytes.
        expected: u32,
        /// The one among them.
        actual: u32,
    },
    /// A note is not what its type says.
    #[error("the header's {0} cannot be read")]
    Note(&'static str),
    /// The bytes are not a header of version 2.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// The bytes are not a header of version 1.
    #[error(transparent)]
    MalformedLine(#[from] v1::BinaryParseError),
}

/// Reads the header that begins a connection. One that names no client (a balancer's own connection, or an
/// unspecified family) leaves the peer as the client.
///
/// # Errors
/// See [`NoClient`]. The bytes read are lost, so the connection has to be closed.
pub(crate) async fn read_header(stream: &Stream) -> Result<ProxyHeader, NoClient> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut filled = 0;
    loop {
        let needed = match decode(&bytes[..filled])? {
            Progress::Complete(header) => return Ok(header),
            Progress::Needs(needed) => needed,
        };
        let read = poll_fn(|cx| stream.poll_read(cx, &mut bytes[filled..needed]));
        match read.await {
            Ok(read) if read > 0 => filled += read,
            _ if filled == 0 => return Err(NoClient::Silent),
            _ => return Err(NoClient::BrokenOff(filled)),
        }
    }
}

/// The state of a header after some of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bytes that the header has at least; more than there are, and at most [`HEADER_BYTES_MAX`].
    Needs(usize),
    /// The header is there.
    Complete(ProxyHeader),
}

/// Decodes the header at the beginning of a connection's bytes.
///
/// # Errors
/// See [`NoClient`]: the bytes can no longer become a header.
pub fn decode(bytes: &[u8]) -> Result<Progress, NoClient> {
    match bytes.first() {
        None => Ok(Progress::Needs(SHORTEST_LINE.len())),
        Some(first) if LINE_PREFIX.first() == Some(first) => decode_line(bytes),
        Some(_) => decode_binary(bytes),
    }
}

/// Version 1.
fn decode_line(bytes: &[u8]) -> Result<Progress, NoClient> {
    let line = bytes.get(..LINE_BYTES_MAX).unwrap_or(bytes);
    if let Some(end) = memchr::memchr(b'\n', line) {
        let line = line.get(..=end).unwrap_or(line);
        // ppp takes a space for the carriage return.
        if !line.ends_with(b"\r\n") {
            return Err(v1::BinaryParseError::from(v1::ParseError::InvalidSuffix).into());
        }
        let client = match v1::Header::try_from(line)?.addresses {
            v1::Addresses::Tcp4(of) => Some((of.source_address, of.source_port).into()),
            v1::Addresses::Tcp6(of) => Some((of.source_address, of.source_port).into()),
            v1::Addresses::Unknown => None,
        };
        return Ok(Progress::Complete(ProxyHeader {
            version: 1,
            length: line.len(),
            is_local: false,
            client,
            notes: None,
        }));
    }
    if line.len() == LINE_BYTES_MAX {
        return Err(NoClient::EndlessLine {
            limit: LINE_BYTES_MAX,
            actual: bytes.len(),
        });
    }
    if !LINE_PREFIX.starts_with(line) && !line.starts_with(LINE_PREFIX) {
        return Err(v1::BinaryParseError::from(v1::ParseError::InvalidPrefix).into());
    }
    let needed = (line.len() + missing_bytes(line)).clamp(SHORTEST_LINE.len(), LINE_BYTES_MAX);
    Ok(Progress::Needs(needed))
}

/// Bytes that a line without its end lacks at the least.
fn missing_bytes(line: &[u8]) -> usize {
    let end = if line.ends_with(b"\r") { 1 } else { 2 };
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let names_addresses = words.next().is_some_and(|word| word.starts_with(b"TCP"));
    // Two addresses and two ports: each a space and a character.
    let wanted = if names_addresses { 4 } else { 0 };
    end + 2 * (wanted - words.count().min(wanted))
}

/// Version 2.
fn decode_binary(bytes: &[u8]) -> Result<Progress, NoClient> {
    let header = match Header::try_from(bytes) {
        Ok(header) => header,
        Err(ParseError::Incomplete(_)) => return Ok(Progress::Needs(FIXED_BYTES)),
        Err(ParseError::Partial(_, rest)) if rest <= HEADER_BYTES_MAX - FIXED_BYTES => {
            return Ok(Progress::Needs(FIXED_BYTES + rest));
        }
        Err(ParseError::Partial(_, rest)) => {
            return Err(NoClient::TooLong {
                limit: HEADER_BYTES_MAX,
                actual: FIXED_BYTES + rest,
            });
        }
        Err(error) => return Err(error.into()),
    };
    if header.len() > HEADER_BYTES_MAX {
        return Err(NoClient::TooLong {
            limit: HEADER_BYTES_MAX,
            actual: header.len(),
        });
    }
    let is_local = header.command == Command::Local;
    let client = match (is_local, header.addresses) {
        (true, _) | (_, Addresses::Unspecified | Addresses::Unix(_)) => None,
        (false, _) if header.protocol != Protocol::Stream => {
            return Err(NoClient::NotTcp);
        }
        (false, Addresses::IPv4(of)) => Some((of.source_address, of.source_port).into()),
        (false, Addresses::IPv6(of)) => Some((of.source_address, of.source_port).into()),
    };
    let notes = match is_local {
        // The protocol wants all of it ignored.
        true => Notes::default(),
        false => notes(header.as_bytes(), header.tlvs())?,
    };
    Ok(Progress::Complete(ProxyHeader {
        version: 2,
        length: header.len(),
        is_local,
        client,
        notes: (notes != Notes::default()).then(|| Box::new(notes)),
    }))
}

/// Values that AWS defines: <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/>, "Proxy
/// protocol". The first byte is a type of its own.
const AWS: u8 = 0xEA;
const AWS_VPC_ENDPOINT: u8 = 0x01;

/// Bytes of a value's type and length.
const TLV_BYTES: usize = 3;

/// The balancer has checked the client's certificate when this is 0.
type Verified = [u8; 4];

fn notes(header: &[u8], values: TypeLengthValues<'_>) -> Result<Notes, NoClient> {
    let mut notes = Notes::default();
    // Where the next value begins, behind type and length.
    let mut at = header.len() - values.as_bytes().len();
    for value in values {
        let value = value?;
        let (kind, value) = (value.kind, value.value.as_ref());
        at += TLV_BYTES;
        match (kind, value) {
            (AWS, [AWS_VPC_ENDPOINT, name @ ..]) => {
                notes.vpc_endpoint = text(name);
            }
            _ if kind == Type::Authority as u8 => {
                notes.authority = text(value);
            }
            _ if kind == Type::UniqueId as u8 => {
                if value.len() > UNIQUE_ID_BYTES_MAX {
                    return Err(NoClient::LongUniqueId {
                        limit: UNIQUE_ID_BYTES_MAX,
                        actual: value.len(),
                    });
                }
                notes.unique_id = (!value.is_empty()).then(|| value.to_vec());
            }
            _ if kind == Type::SSL as u8 => notes.tls = Some(tls(value)?),
            _ if kind == Type::CRC32C as u8 => check(header, at, value)?,
            _ => {}
        }
        at += value.len();
    }
    Ok(notes)
}

fn tls(value: &[u8]) -> Result<TlsNotes, NoClient> {
    const UNREADABLE: NoClient = NoClient::Note("TLS note");
    let (_, value) = value.split_first().ok_or(UNREADABLE)?;
    let (verified, values) = value.split_first_chunk().ok_or(UNREADABLE)?;
    let is_verified = *verified == Verified::default();
    let mut notes = TlsNotes::default();
    for value in TypeLengthValues::from(values) {
        let value = value?;
        let (kind, value) = (value.kind, value.value.as_ref());
        match kind {
            _ if kind == Type::SSLVersion as u8 => {
                notes.version = text(value);
            }
            _ if kind == Type::SSLCipher as u8 => notes.cipher = text(value),
            _ if kind == Type::SSLCommonName as u8 && is_verified => {
                notes.common_name = text(value);
            }
            _ => {}
        }
    }
    Ok(notes)
}

/// A text that may stand in a log or a record. Others are left out: clients choose some of them, and a balancer
/// may mean something else by a type of its own.
fn text(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_plain = !text.is_empty() && !text.chars().any(char::is_control);
    is_plain.then(|| text.to_owned())
}

/// Compares a header with the checksum that stands at this place: CRC-32C of its bytes, with 0 there.
fn check(header: &[u8], at: usize, value: &[u8]) -> Result<(), NoClient> {
    const UNREADABLE: NoClient = NoClient::Note("checksum");
    let actual = u32::from_be_bytes(value.try_into().map_err(|_| UNREADABLE)?);
    let mut zeroed = header.to_vec();
    let place = zeroed.get_mut(at..at + value.len()).ok_or(UNREADABLE)?;
    place.fill(0);
    let expected = crc32c(&zeroed);
    match expected == actual {
        true => Ok(()),
        false => Err(NoClient::Checksum { expected, actual }),
    }
}

/// A header asks for more only while something is missing, never beyond the limit, and bytes behind it change
/// nothing. For the fuzz targets, and tests.
#[cfg(any(fuzzing, test))]
pub fn fuzz(bytes: &[u8]) {
    match decode(bytes) {
        Ok(Progress::Needs(needed)) => {
            assert!(bytes.len() < needed && needed <= HEADER_BYTES_MAX);
        }
        Ok(Progress::Complete(header)) => {
            assert!(header.length <= bytes.len() && header.length <= HEADER_BYTES_MAX);
            let whole = &bytes[..header.length];
            assert_eq!(decode(whole), Ok(Progress::Complete(header)));
            for cut in 0..whole.len() {
                assert!(
                    matches!(decode(&whole[..cut]), Ok(Progress::Needs(needed)) if needed <= whole.len())
                );
            }
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests;
