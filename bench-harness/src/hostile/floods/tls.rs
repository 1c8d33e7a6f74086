//! Floods of TLS handshakes (RFC 8446) that lead to nothing.

use super::{First, Flood};

/// Payload bytes in one record at most (RFC 8446 section 5.1).
const RECORD_BYTES_MAX: usize = 1 << 14;

fn sized(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let mut out = (content.len() as u32).to_be_bytes()[4 - length_bytes..].to_vec();
    out.extend_from_slice(content);
    out
}

fn extension(number: u16, content: &[u8]) -> Vec<u8> {
    let mut out = number.to_be_bytes().to_vec();
    out.extend(sized(2, content));
    out
}

/// A ClientHello that asks for TLS 1.3 with a key for X25519, for which any 32 bytes do: the server computes its
/// part of the secret and signs. `padding` bytes make it longer (RFC 7685).
fn client_hello(padding: usize) -> Vec<u8> {
    let name = [&[0][..], &sized(2, b"localhost")].concat();
    let key = [&[0, 0x1d][..], &sized(2, &[9; 32])].concat();
    let extensions = [
        extension(0x00, &sized(2, &name)),
        extension(0x0a, &sized(2, &[0, 0x1d])),
        extension(0x0d, &sized(2, &[4, 3, 8, 4, 4, 1, 5, 3])),
        extension(0x2b, &sized(1, &[3, 4])),
        extension(0x33, &sized(2, &key)),
        extension(0x15, &vec![0; padding]),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &sized(1, &[5; 32]),
        &sized(2, &[0x13, 1, 0x13, 2, 0x13, 3]),
        &sized(1, &[0]),
        &sized(2, &extensions),
    ]
    .concat();
    [&[1][..], &sized(3, &body)].concat()
}

/// A handshake message in records of at most so many bytes.
fn records(message: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in message.chunks(bytes_max) {
        out.extend_from_slice(&[22, 3, 1]);
        out.extend(sized(2, piece));
    }
    out
}

pub(super) fn floods() -> Vec<Flood> {
    let flood = |name, about, opening, first| Flood {
        name,
        about,
        is_tls: true,
        opening,
        more: |_| Vec::new(),
        holds: false,
        first,
        is_ended: false,
    };
    let hello = || records(&client_hello(0), RECORD_BYTES_MAX);
    vec![
        flood(
            "tls-hello",
            "a handshake that is left once the server has signed",
            hello(),
            First::Handshake,
        ),
        flood(
            "tls-hello-in-bytes",
            "the same in records of one byte",
            records(&client_hello(0), 1),
            First::Handshake,
        ),
        flood(
            "tls-hello-long",
            "the same with 15 KB of padding",
            records(&client_hello(15_000), RECORD_BYTES_MAX),
            First::Handshake,
        ),
        flood(
            "tls-garbage",
            "bytes that are no TLS",
            vec![0xff; 512],
            First::Alert,
        ),
        Flood {
            more: |_| records(&[0; 4], RECORD_BYTES_MAX),
            is_ended: true,
            ..flood(
                "tls-wrong-message",
                "a message that does not follow a ClientHello",
                hello(),
                First::Handshake,
            )
        },
        flood(
            "tls-plain-http",
            "HTTP without TLS",
            b"POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{\"a\":1}".to_vec(),
            First::Http1,
        ),
        Flood {
            holds: true,
            ..flood(
                "tls-hello-held",
                "1,000 handshakes that do not go on",
                hello(),
                First::Handshake,
            )
        },
        Flood {
            holds: true,
            ..flood(
                "tls-hello-half",
                "1,000 handshakes that have half of a ClientHello",
                hello()[..100].to_vec(),
                First::Any,
            )
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_carry_the_whole_message_in_order() {
        let message = client_hello(10);
        for bytes_max in [1, 7, RECORD_BYTES_MAX] {
            let mut wire = &records(&message, bytes_max)[..];
            let mut carried = Vec::new();
            while let [22, 3, 1, high, low, rest @ ..] = wire {
                let (piece, after) = rest.split_at(usize::from(*high) << 8 | usize::from(*low));
                carried.extend_from_slice(piece);
                wire = after;
            }
            assert_eq!(carried, message);
        }
    }
}
