//! What holds for any bytes that a client may send. For the fuzz target `heads`.

use super::reader::Reader;
use super::{
    About, Closing, Framing, Known, Refusal, RequestHead, decode, encode, may_complete, origin_of,
};
use crate::http::answer::{Answer, ErrorBody};
use crate::http::cors::CorsPolicy;
use crate::http::limits::HttpLimits;
use http::StatusCode;
use sluice_core::request::RequestId;
use std::time::Duration;

/// Header lines that the other parser has room for: more than inputs of the fuzzer have bytes for.
const LINES_MAX: usize = 4_096;

/// Cuts change nothing, httparse reads accepted bytes alike, and it reads our answers.
///
/// # Panics
/// When that does not hold.
pub fn fuzz(bytes: &[u8], choice: u16) {
    let limits = match choice % 2 {
        0 => HttpLimits::default(),
        // Small enough to be reached.
        _ => HttpLimits {
            head_bytes_max: 256,
            headers_max: 8,
            target_bytes_max: 32,
            ..HttpLimits::default()
        },
    };
    let choice = usize::from(choice / 2);
    let at_once = read([bytes], &limits);
    let (front, back) = bytes.split_at(choice % (bytes.len() + 1));
    assert_alike(&at_once, &read([front, back], &limits));
    assert_alike(&at_once, &read(bytes.chunks(1 + choice % 16), &limits));
    if at_once.1.is_ok() || !at_once.0.is_in_body() {
        assert_eq!(content(&at_once.0.passed), at_once.0.content);
    }
    match decode(bytes, &limits) {
        Ok(None) => {}
        Ok(Some(head)) => {
            let before = choice % head.bytes();
            assert!(before == 0 || may_complete(bytes, before, &limits));
            assert_same_head(bytes, &head);
            assert_readable(&answer(choice), &head, head.only(Known::Origin));
        }
        Err(refusal) => {
            let refused = Answer::from(&ErrorBody::from(refusal));
            assert_written(&refused, 1, false, Closing::Close, origin_of(bytes));
        }
    }
}

type Read = (Reader, Result<(), Refusal>);

fn read<'b>(pieces: impl IntoIterator<Item = &'b [u8]>, limits: &HttpLimits) -> Read {
    let mut reader = Reader::default();
    let result = pieces
        .into_iter()
        .try_for_each(|piece| reader.feed(piece, limits));
    (reader, result)
}

fn assert_alike((one, one_end): &Read, (two, two_end): &Read) {
    assert_eq!(one.heads, two.heads);
    assert_eq!(one.content, two.content);
    match (one_end, two_end) {
        (Ok(()), Ok(())) => assert_eq!(one.passed, two.passed),
        (Err(one), Err(two)) => {
            // Which fault is named first may depend on how much was there when a limit was passed.
            assert!(one == two || one.over.is_some() || two.over.is_some());
        }
        _ => panic!("{one_end:?} or {two_end:?}, as the bytes are cut"),
    }
}

fn assert_same_head(bytes: &[u8], head: &RequestHead<'_>) {
    let mut fields = [httparse::EMPTY_HEADER; LINES_MAX];
    let mut other = httparse::Request::new(&mut fields);
    assert_eq!(
        other.parse(bytes),
        Ok(httparse::Status::Complete(head.bytes()))
    );
    assert_eq!(other.method, Some(head.method()));
    assert_eq!(other.version, Some(head.minor()));
    let target = other.path.unwrap_or_default();
    assert!(target.ends_with(head.path_and_query()) || head.path_and_query() == "/");
    let others = other.headers.iter().map(|field| (field.name, field.value));
    assert!(others.eq(head.fields()));
}

/// The content of all bodies, as somebody else finds it.
fn content(mut bytes: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    loop {
        let mut fields = [httparse::EMPTY_HEADER; LINES_MAX];
        let mut head = httparse::Request::new(&mut fields);
        let Ok(httparse::Status::Complete(used)) = head.parse(bytes) else {
            assert!(bytes.is_empty(), "a head that passed is none");
            return content;
        };
        bytes = &bytes[used..];
        let find = |name: &str| {
            let mut fields = head.headers.iter();
            fields.find(|field| field.name.eq_ignore_ascii_case(name))
        };
        let framing = match (find("transfer-encoding"), find("content-length")) {
            (Some(_), _) => Framing::Chunked,
            (None, Some(length)) => {
                let length = std::str::from_utf8(length.value).map(str::parse);
                Framing::Length(length.ok().and_then(Result::ok).unwrap_or(u64::MAX))
            }
            (None, None) => Framing::Length(0),
        };
        bytes = match framing {
            Framing::Length(length) => piece(bytes, length, &mut content),
            Framing::Chunked => match unchunked(bytes, &mut content) {
                Some(rest) => rest,
                None => return content,
            },
        };
    }
}

/// Moves a part of known length, or what is there of it.
fn piece<'b>(bytes: &'b [u8], length: u64, content: &mut Vec<u8>) -> &'b [u8] {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (piece, rest) = bytes.split_at(length.min(bytes.len()));
    content.extend_from_slice(piece);
    rest
}

/// What follows a body in chunks; `None` when that is cut off.
fn unchunked<'b>(mut bytes: &'b [u8], content: &mut Vec<u8>) -> Option<&'b [u8]> {
    loop {
        let size = httparse::parse_chunk_size(bytes);
        let httparse::Status::Complete((used, size)) = size.expect("a chunk that passed is none")
        else {
            return None;
        };
        bytes = &bytes[used..];
        if size == 0 {
            let mut fields = [httparse::EMPTY_HEADER; LINES_MAX];
            let trailers = httparse::parse_headers(bytes, &mut fields);
            return match trailers.expect("trailers that passed are none") {
                httparse::Status::Complete((used, _)) => Some(&bytes[used..]),
                httparse::Status::Partial => None,
            };
        }
        bytes = piece(bytes, size, content);
        let end = bytes.get(..2)?;
        assert_eq!(end, b"\r\n");
        bytes = &bytes[2..];
    }
}

/// An answer of any kind.
fn answer(choice: usize) -> Answer {
    let status = [200, 204, 405, 413, 503][choice % 5];
    let choice = choice / 5;
    Answer {
        retry_after_s: (choice & 1 != 0).then_some(u32::MAX),
        allow: (choice & 2 != 0).then_some("POST, OPTIONS"),
        no_store: choice & 4 != 0,
        close: choice & 8 != 0,
        ..Answer::json(
            StatusCode::from_u16(status).unwrap_or_default(),
            vec![b'x'; choice & 0xff],
        )
    }
}

fn assert_readable(answer: &Answer, head: &RequestHead<'_>, origin: Option<&[u8]>) {
    let closing = match head.keeps_alive() && !answer.close {
        true => Closing::KeepAlive,
        false => Closing::Close,
    };
    assert_written(
        answer,
        head.minor(),
        head.method() == "HEAD",
        closing,
        origin,
    );
}

fn assert_written(
    answer: &Answer,
    minor: u8,
    is_head: bool,
    closing: Closing,
    origin: Option<&[u8]>,
) {
    let policy = CorsPolicy::new("*".parse().into_iter().collect(), Duration::from_secs(60));
    let cors = policy.evaluate(origin, true);
    let about = About {
        id: RequestId(0),
        minor,
        is_head,
        closing,
        cors: cors.as_ref(),
        date: "Sat, 21 Nov 2026 00:00:00 GMT",
    };
    let mut out = Vec::new();
    encode(answer, &about, &mut out);
    let mut fields = [httparse::EMPTY_HEADER; 32];
    let mut other = httparse::Response::new(&mut fields);
    let Ok(httparse::Status::Complete(used)) = other.parse(&out) else {
        panic!("not an answer: {:?}", out.escape_ascii().to_string());
    };
    assert_eq!(other.code, Some(answer.status.as_u16()));
    assert_eq!(other.version, Some(minor));
    let find = |name: &str| {
        let mut fields = other.headers.iter().filter(|field| field.name == name);
        let first = fields.next().map(|field| field.value);
        assert!(fields.next().is_none(), "{name} stands there twice");
        first
    };
    let allowed = find("access-control-allow-origin");
    assert!(allowed.is_none() || allowed == origin);
    assert_eq!(
        find("connection"),
        match (closing, minor) {
            (Closing::Close, _) => Some(&b"close"[..]),
            (Closing::KeepAlive, 0) => Some(&b"keep-alive"[..]),
            (Closing::KeepAlive, _) => None,
        }
    );
    let length = answer.body.len().to_string();
    let (length, body) = match (answer.status, is_head) {
        (StatusCode::NO_CONTENT, _) => (None, &[][..]),
        (_, true) => (Some(length.as_bytes()), &[][..]),
        (_, false) => (Some(length.as_bytes()), &answer.body[..]),
    };
    assert_eq!(find("content-length"), length);
    assert_eq!(&out[used..], body);
}
