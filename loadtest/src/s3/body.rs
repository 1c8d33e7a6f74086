//! The body of an upload: out of the chunks that SDKs send it in, and checked against what its
//! headers or trailers promise. Chunk signatures are passed over.

use crate::service::Refusal;
use hyper::HeaderMap;
use md5::{Digest, Md5};
use sha2::Sha256;

/// Bytes of a chunk's size line, and of a trailer line.
const LINE_BYTES_MAX: usize = 8 << 10;

/// Trailer lines.
const TRAILERS_MAX: usize = 16;

/// A body and its digests.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) data: Vec<u8>,
    pub(super) md5: [u8; 16],
    /// The checksum that was sent with it, as the answer repeats it: header and value.
    pub(super) checksum: Option<(&'static str, String)>,
}

/// Checksums that uploads carry, in headers or trailers.
const CHECKSUMS: [&str; 5] = [
    "x-amz-checksum-crc32",
    "x-amz-checksum-crc32c",
    "x-amz-checksum-crc64nvme",
    "x-amz-checksum-sha1",
    "x-amz-checksum-sha256",
];

/// Takes the body of an upload out of its encoding and checks it. Of checksums CRC32 and SHA-256
/// are computed, the others are taken as sent.
pub(super) fn read(headers: &HeaderMap, body: Vec<u8>) -> Result<Upload, Refusal> {
    let text = |name: &str| headers.get(name)?.to_str().ok();
    let streamed = text("x-amz-content-sha256").is_some_and(|word| word.starts_with("STREAMING-"));
    // SDKs that send a checksum behind the body do so in HTTP's own chunks over TLS, without this
    // length: the one of the decoded body takes its place.
    let measured = streamed && headers.contains_key("x-amz-decoded-content-length");
    if !measured && !headers.contains_key("content-length") {
        let message = "You must provide the Content-Length HTTP header.";
        return Err(Refusal::new(411, "MissingContentLength", message));
    }
    let (data, trailers) = if streamed {
        let announced = text("x-amz-decoded-content-length").and_then(|length| length.parse().ok());
        let (data, trailers) = unchunk(&body)
            .ok_or_else(|| Refusal::client("InvalidRequest", "The body is not aws-chunked."))?;
        if announced != Some(data.len()) {
            return Err(Refusal::client(
                "IncompleteBody",
                format!(
                    "X-Amz-Decoded-Content-Length and the body's {} bytes differ.",
                    data.len()
                ),
            ));
        }
        (data, trailers)
    } else {
        (body, Vec::new())
    };
    let md5: [u8; 16] = Md5::digest(&data).into();
    if let Some(sent) = text("content-md5") {
        let Ok(sent) = base64_simd::STANDARD.decode_to_vec(sent.as_bytes()) else {
            let message = "The Content-MD5 you specified is not valid.";
            return Err(Refusal::client("InvalidDigest", message));
        };
        if sent != md5 {
            let message = "The Content-MD5 you specified did not match what we received.";
            return Err(Refusal::client("BadDigest", message));
        }
    }
    let checksum = CHECKSUMS.into_iter().find_map(|name| {
        let trailer = trailers.iter().find(|(own, _)| own == name);
        let value = text(name).or_else(|| Some(trailer?.1.as_str()))?;
        Some((name, value.to_owned()))
    });
    if let Some((name, sent)) = &checksum {
        let computed = match *name {
            "x-amz-checksum-crc32" => Some(crc32(&data).to_be_bytes().to_vec()),
            "x-amz-checksum-sha256" => Some(Sha256::digest(&data).to_vec()),
            _ => None,
        };
        let computed = computed.map(|digest| base64_simd::STANDARD.encode_to_string(digest));
        if computed.is_some_and(|computed| computed != *sent) {
            return Err(Refusal::client(
                "BadDigest",
                format!("The {name} you specified did not match the calculated checksum."),
            ));
        }
    }
    Ok(Upload {
        data,
        md5,
        checksum,
    })
}

fn crc32(data: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(data);
    crc.sum()
}

type Trailers = Vec<(String, String)>;

/// Decodes `aws-chunked`: chunks of `<hex size>[;chunk-signature=...]`, and trailers after the
/// last one.
fn unchunk(mut body: &[u8]) -> Option<(Vec<u8>, Trailers)> {
    let mut data = Vec::with_capacity(body.len());
    loop {
        let line = take_line(&mut body)?;
        let size = line.split(|byte| *byte == b';').next()?;
        let size = std::str::from_utf8(size).ok()?;
        // A sign would be parsed, too.
        if size.is_empty() || !size.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            break;
        }
        data.extend_from_slice(body.split_off(..size)?);
        if !take_line(&mut body)?.is_empty() {
            return None;
        }
    }
    let mut trailers = Vec::new();
    // The empty line at the end is left out by some.
    while !body.is_empty() {
        let line = take_line(&mut body)?;
        if line.is_empty() {
            break;
        }
        let line = std::str::from_utf8(line).ok()?;
        let (name, value) = line.split_once(':')?;
        trailers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        if trailers.len() > TRAILERS_MAX {
            return None;
        }
    }
    body.is_empty().then_some((data, trailers))
}

/// The next line, without its end.
fn take_line<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let window = &body[..body.len().min(LINE_BYTES_MAX)];
    let end = memchr::memchr(b'\n', window)?;
    let line = body[..end].strip_suffix(b"\r")?;
    *body = &body[end + 1..];
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", "1".parse().unwrap());
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    fn code(pairs: &[(&'static str, &str)], body: &[u8]) -> &'static str {
        read(&headers(pairs), body.to_vec()).unwrap_err().code
    }

    const STREAMED: (&str, &str) = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");

    #[test]
    fn chunks_are_joined_and_trailers_read() {
        let body = b"5\r\nhello\r\n6;chunk-signature=0a\r\n world\r\n0\r\n\
                     x-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
        let length = ("x-amz-decoded-content-length", "11");
        let upload = read(&headers(&[STREAMED, length]), body.to_vec()).unwrap();
        assert_eq!(upload.data, b"hello world");
        let checksum = ("x-amz-checksum-crc32", "DUoRhQ==".to_owned());
        assert_eq!(upload.checksum, Some(checksum));
        let empty = ("x-amz-decoded-content-length", "0");
        for body in ["0\r\n\r\n", "0\r\n"] {
            let upload = read(&headers(&[STREAMED, empty]), body.into()).unwrap();
            assert!(upload.data.is_empty());
        }
    }

    #[test]
    fn damaged_chunks_are_refused() {
        let length = ("x-amz-decoded-content-length", "5");
        for body in [
            "",
            "5\r\nhell",
            "5\r\nhello",
            "5\r\nhello\r\n",
            "5\nhello\r\n0\r\n",
            "5\r\nhelloX\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\r\ntrailer\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\nmore",
        ] {
            assert_eq!(
                code(&[STREAMED, length], body.as_bytes()),
                "InvalidRequest",
                "{body:?}"
            );
        }
        let body = b"5\r\nhello\r\n0\r\n\r\n";
        let wrong = ("x-amz-decoded-content-length", "6");
        assert_eq!(code(&[STREAMED, wrong], body), "IncompleteBody");
        assert_eq!(code(&[STREAMED], body), "IncompleteBody");
    }

    #[test]
    fn digests_that_do_not_match_are_refused() {
        let md5 = base64_simd::STANDARD.encode_to_string(Md5::digest(b"x"));
        assert!(read(&headers(&[("content-md5", &md5)]), b"x".to_vec()).is_ok());
        assert_eq!(code(&[("content-md5", &md5)], b"y"), "BadDigest");
        assert_eq!(code(&[("content-md5", "?")], b"x"), "InvalidDigest");
        let sha = base64_simd::STANDARD.encode_to_string(Sha256::digest(b"x"));
        let sha = ("x-amz-checksum-sha256", sha.as_str());
        assert!(read(&headers(&[sha]), b"x".to_vec()).is_ok());
        assert_eq!(code(&[sha], b"y"), "BadDigest");
        assert_eq!(
            code(&[("x-amz-checksum-crc32", "AAAAAA==")], b"x"),
            "BadDigest"
        );
        // Not computed here, so taken as sent.
        let taken = read(
            &headers(&[("x-amz-checksum-crc64nvme", "x")]),
            b"x".to_vec(),
        );
        assert!(taken.unwrap().checksum.is_some());
    }

    #[test]
    fn an_upload_without_a_length_is_refused() {
        let refusal = read(&HeaderMap::new(), Vec::new()).unwrap_err();
        assert_eq!(
            (refusal.status, refusal.code),
            (411, "MissingContentLength")
        );
        // Unless the decoded length is given, as with a checksum behind the body.
        let length = ("x-amz-decoded-content-length", "0");
        let mut streamed = headers(&[STREAMED, length]);
        streamed.remove("content-length");
        assert!(read(&streamed, b"0\r\n\r\n".to_vec()).is_ok());
    }
}
