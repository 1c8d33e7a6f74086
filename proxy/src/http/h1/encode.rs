//! Answers as bytes.

use super::super::answer::Answer;
use super::super::cors::Cors;
use http::StatusCode;
use sluice_core::request::RequestId;

/// What an answer says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Closing {
    /// It ends with this answer.
    Close,
    /// It goes on.
    KeepAlive,
}

/// What an answer needs to know of its request and its time.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct About<'a> {
    pub(in super::super) id: RequestId,
    /// The minor version of the request.
    pub(in super::super) minor: u8,
    /// The request was a HEAD: the answer has the length of its body, and no body.
    pub(in super::super) is_head: bool,
    pub(in super::super) closing: Closing,
    pub(in super::super) cors: Option<&'a Cors>,
    /// Now, as in a Date header.
    pub(in super::super) date: &'a str,
}

/// Appends an answer. This is the only place that writes one.
pub(in super::super) fn encode(answer: &Answer, about: &About<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(match about.minor {
        0 => b"HTTP/1.0 ",
        _ => b"HTTP/1.1 ",
    });
    out.extend_from_slice(answer.status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(answer.status.canonical_reason().unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\nx-request-id: ");
    out.extend_from_slice(&about.id.to_hex());
    out.extend_from_slice(b"\r\n");
    let mut add = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    answer.headers(&mut add);
    if let Some(cors) = about.cors {
        cors.headers(&mut add);
    }
    match (about.closing, about.minor) {
        (Closing::Close, _) => add("connection", b"close"),
        (Closing::KeepAlive, 0) => add("connection", b"keep-alive"),
        (Closing::KeepAlive, _) => {}
    }
    let has_body = answer.status != StatusCode::NO_CONTENT;
    if has_body {
        let length = answer.body.len() as u64;
        add("content-length", decimal(length, &mut [0; 20]));
    }
    add("date", about.date.as_bytes());
    out.extend_from_slice(b"\r\n");
    if has_body && !about.is_head {
        out.extend_from_slice(&answer.body);
    }
}

/// A number in decimal digits; 20 are enough for each.
pub(in super::super) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        // The remainder of a division by ten.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
