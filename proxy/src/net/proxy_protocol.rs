//! The header with which a balancer begins a connection to name its client: PROXY protocol, version 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2).
//!
//! Reads not a byte beyond the header, so that no part of the request is lost. Whether to trust a header is
//! decided by the caller.

use super::socket::Stream;
use ppp::v2::{Addresses, Command, Header, ParseError, Protocol};
use std::future::poll_fn;
use std::net::SocketAddr;

/// Bytes of signature, command, family and length, which every header has.
const FIXED_BYTES: usize = 16;

/// A header may have this many bytes. Addresses take 216 at most; the rest are notes between proxies, of
/// which a network load balancer writes less than 100, and HAProxy with all of them some 700.
const HEADER_BYTES_MAX: usize = 1_024;

/// A header for a proxy's own connection, such as a health check: it names no client.
pub(crate) const LOCAL_HEADER: [u8; FIXED_BYTES] = *b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// Why the client of a connection is unknown.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum NoClient {
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
    /// Addresses of another transport than TCP.
    #[error("the header is not about a TCP connection")]
    NotTcp,
    /// The bytes are not a header of this version.
    #[error(transparent)]
    Malformed(#[from] ParseError),
}

/// Reads the header that begins a connection. Returns the client it names, or `None` if it names none (a
/// balancer's own connection, or an unspecified family) and the peer is the client.
///
/// # Errors
/// See [`NoClient`]. The bytes read are lost, so the connection has to be closed.
pub(crate) async fn read_client(stream: &Stream) -> Result<Option<SocketAddr>, NoClient> {
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut filled = 0;
    loop {
        let needed = match parse(&bytes[..filled])? {
            Progress::Complete(client) => return Ok(client),
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
#[derive(Debug, PartialEq)]
enum Progress {
    /// Bytes that the header has at least.
    Needs(usize),
    /// The header is there.
    Complete(Option<SocketAddr>),
}

fn parse(bytes: &[u8]) -> Result<Progress, NoClient> {
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
    let client = match (header.command, header.addresses) {
        (Command::Local, _) | (_, Addresses::Unspecified | Addresses::Unix(_)) => None,
        (Command::Proxy, _) if header.protocol != Protocol::Stream => {
            return Err(NoClient::NotTcp);
        }
        (Command::Proxy, Addresses::IPv4(of)) => Some((of.source_address, of.source_port).into()),
        (Command::Proxy, Addresses::IPv6(of)) => Some((of.source_address, of.source_port).into()),
    };
    Ok(Progress::Complete(client))
}

/// A header asks for more only while something is missing, never beyond the limit, and bytes behind it change
/// nothing. For the fuzz targets.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8]) {
    match parse(bytes) {
        Ok(Progress::Needs(needed)) => {
            assert!(bytes.len() < needed && needed <= HEADER_BYTES_MAX);
        }
        Ok(Progress::Complete(_)) => {
            let whole = FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
            assert!(whole <= bytes.len());
            assert_eq!(parse(bytes), parse(&bytes[..whole]));
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn header(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, payload].concat()
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text
            .bytes()
            .filter(u8::is_ascii_hexdigit)
            .map(|digit| char::from(digit).to_digit(16).unwrap() as u8)
            .collect();
        digits.chunks(2).map(|two| two[0] << 4 | two[1]).collect()
    }

    /// The header of a network load balancer for a client behind a VPC endpoint: a checksum, the endpoint's
    /// name and padding stand behind the addresses.
    const FROM_NLB: &str = "0d0a0d0a000d0a515549540a 21 11 0054 \
        c0000233 0a010203 d431 1f98 03 0004 9cc02b50 \
        ea 0017 01 767063652d3038643262663135666163353030316339 \
        04 0024 000000000000000000000000000000000000000000000000000000000000000000000000";
    /// What HAProxy 2.6 sends with `send-proxy-v2 proxy-v2-options crc32c,unique-id`, and for a health check.
    const FROM_HAPROXY: &str =
        "0d0a0d0a000d0a515549540a 21 11 0016 7f000001 7f000001 c350 25e5 03 0004 a1b2c3d4 05 0000";
    const CHECK_OF_HAPROXY: &str = "0d0a0d0a000d0a515549540a 20 00 0007 03 0004 a9b87e8f";

    const IPV6: &[u8] = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
                          \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x10\x01\0\x50";

    #[test]
    fn the_client_is_the_source_that_the_header_names() {
        for (header, client) in [
            (from_hex(FROM_NLB), Some("192.0.2.51:54321")),
            (from_hex(FROM_HAPROXY), Some("127.0.0.1:50000")),
            (header(0x21, 0x21, IPV6), Some("[2001:db8::7]:4097")),
        ] {
            let client = client.map(|text| text.parse().unwrap());
            assert_eq!(parse(&header), Ok(Progress::Complete(client)));
        }
    }

    #[test]
    fn a_proxy_header_without_a_client_means_the_peer() {
        for header in [
            LOCAL_HEADER.to_vec(),
            from_hex(CHECK_OF_HAPROXY),
            // Even with addresses, which must be ignored.
            header(0x20, 0x11, &[7; 12]),
            header(0x21, 0x00, b""),
            header(0x21, 0x01, b"whatever"),
            header(0x21, 0x31, &[7; 216]),
        ] {
            assert_eq!(parse(&header), Ok(Progress::Complete(None)), "{header:?}");
        }
    }

    #[test]
    fn a_split_proxy_header_is_read_to_its_last_byte() {
        for header in [from_hex(FROM_NLB), header(0x21, 0x21, IPV6)] {
            for (at, needed) in (0..FIXED_BYTES)
                .map(|at| (at, FIXED_BYTES))
                .chain((FIXED_BYTES..header.len()).map(|at| (at, header.len())))
            {
                assert_eq!(parse(&header[..at]), Ok(Progress::Needs(needed)), "{at}");
            }
        }
    }

    #[test]
    fn invalid_proxy_headers_are_refused_early() {
        let length = |bytes: usize| {
            let mut header = header(0x21, 0x11, &[7; 12]);
            header[14..16].copy_from_slice(&u16::try_from(bytes).unwrap().to_be_bytes());
            header
        };
        let longest = HEADER_BYTES_MAX - FIXED_BYTES;
        assert_eq!(
            parse(&length(longest)),
            Ok(Progress::Needs(HEADER_BYTES_MAX))
        );
        for (bytes, why) in [
            (
                length(longest + 1),
                NoClient::TooLong {
                    limit: 1_024,
                    actual: 1_025,
                },
            ),
            (
                length(65_535),
                NoClient::TooLong {
                    limit: 1_024,
                    actual: 65_551,
                },
            ),
            (b"G".to_vec(), ParseError::Prefix.into()),
            (b"PROXY TCP4 ".to_vec(), ParseError::Prefix.into()),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), ParseError::Prefix.into()),
            (
                header(0x11, 0x11, &[7; 12]),
                ParseError::Version(0x10).into(),
            ),
            (header(0x22, 0x11, &[7; 12]), ParseError::Command(2).into()),
            (
                header(0x21, 0x41, &[7; 12]),
                ParseError::AddressFamily(0x40).into(),
            ),
            (header(0x21, 0x13, &[7; 12]), ParseError::Protocol(3).into()),
            (
                header(0x21, 0x11, &[7; 11]),
                ParseError::InvalidAddresses(11, 12).into(),
            ),
            (
                header(0x21, 0x21, &[7; 35]),
                ParseError::InvalidAddresses(35, 36).into(),
            ),
            (
                header(0x21, 0x31, &[7; 215]),
                ParseError::InvalidAddresses(215, 216).into(),
            ),
            // Datagrams, and no transport at all.
            (header(0x21, 0x12, &[7; 12]), NoClient::NotTcp),
            (header(0x21, 0x20, &[7; 36]), NoClient::NotTcp),
        ] {
            assert_eq!(parse(&bytes), Err(why), "{bytes:?}");
        }
    }

    proptest! {
        /// Whatever comes: nothing panics, more is asked for only while something is missing, and never
        /// beyond the limit.
        #[test]
        fn hostile_bytes_are_refused_or_bounded(
            command in prop_oneof![Just(0x20), Just(0x21), any::<u8>()],
            family in prop_oneof![Just(0_u8), Just(0x11), Just(0x21), Just(0x31), any::<u8>()],
            length in any::<u16>(),
            payload in proptest::collection::vec(any::<u8>(), 0..1_100),
            flipped in proptest::option::of((0..16_usize, any::<u8>())),
        ) {
            let mut bytes = [SIGNATURE, &[command, family], &length.to_be_bytes(), &payload].concat();
            if let Some((at, byte)) = flipped {
                bytes[at] = byte;
            }
            match parse(&bytes) {
                Ok(Progress::Needs(needed)) => {
                    prop_assert!(bytes.len() < needed && needed <= HEADER_BYTES_MAX);
                }
                Ok(Progress::Complete(_)) => {
                    let whole = FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
                    prop_assert!(bytes.len() >= whole);
                    // Bytes behind the header change nothing.
                    prop_assert_eq!(parse(&bytes), parse(&bytes[..whole]));
                }
                Err(_) => {}
            }
        }
    }
}
