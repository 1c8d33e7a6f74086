//! Reads HTTP/1.1 answers as their bytes come in. Keeps no more of a connection than the bytes
//! of an unfinished answer; knows nothing of sockets.

use memchr::memmem;
use std::borrow::Cow;
use std::ops::Range;

/// Headers that an answer may have.
const HEADERS_MAX: usize = 64;

/// A whole answer at the start of the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
    /// Where the body is, still in chunks if it came so.
    pub(crate) body: Range<usize>,
    pub(crate) chunked: bool,
    /// Bytes that belong to the answer, informational ones before it included.
    pub(crate) length: usize,
}

/// Why bytes are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadAnswer {
    /// Not HTTP/1, or contradicting itself.
    Malformed,
    /// Over the reader's limit.
    TooLarge,
}

/// The framing of an unfinished response, from its head.
#[derive(Clone, Copy, Debug)]
struct Head {
    status: u16,
    keep_alive: bool,
    framing: Framing,
    body_at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// The state of one connection's unfinished answer.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    /// Bytes that head and body may have together.
    bytes_max: usize,
    head: Option<Head>,
}

impl AnswerReader {
    /// Reads answers of up to `bytes_max` bytes, head and body together.
    pub(crate) fn new(bytes_max: usize) -> AnswerReader {
        AnswerReader {
            bytes_max,
            head: None,
        }
    }

    /// Parses all bytes of the current response so far, from its first byte on.
    /// `closed` says that no more will come. `None` asks for more.
    pub(crate) fn read(&mut self, bytes: &[u8], closed: bool) -> Result<Option<Answer>, BadAnswer> {
        let head = match self.head {
            Some(head) => Some(head),
            None => read_head(bytes)?,
        };
        self.head = head;
        let end = match head {
            None => None,
            Some(head) => body_end(&head, bytes, closed)?,
        };
        // A length that was announced counts before it has come.
        let announced = match head {
            Some(Head {
                framing: Framing::Length(length),
                body_at,
                ..
            }) => body_at.saturating_add(length),
            _ => bytes.len(),
        };
        if end.unwrap_or(announced) > self.bytes_max {
            return Err(BadAnswer::TooLarge);
        }
        let (Some(head), Some(end)) = (head, end) else {
            return Ok(None);
        };
        self.head = None;
        Ok(Some(Answer {
            status: head.status,
            keep_alive: head.keep_alive,
            body: head.body_at..end,
            chunked: matches!(head.framing, Framing::Chunked),
            length: end,
        }))
    }
}

fn read_head(bytes: &[u8]) -> Result<Option<Head>, BadAnswer> {
    let mut start = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut headers);
        let length = match parsed.parse(&bytes[start..]) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(BadAnswer::Malformed),
        };
        start += length;
        let status = parsed.code.ok_or(BadAnswer::Malformed)?;
        if (100..200).contains(&status) {
            // 101 would change the protocol, which no request asked for.
            if status == 101 {
                return Err(BadAnswer::Malformed);
            }
            continue;
        }
        let mut keep_alive = parsed.version == Some(1);
        let mut announced = None;
        let mut chunked = false;
        for header in parsed.headers.iter() {
            let value = header.value;
            if header.name.eq_ignore_ascii_case("content-length") {
                let number: usize = std::str::from_utf8(value)
                    .ok()
                    .and_then(|value| value.parse().ok())
                    .ok_or(BadAnswer::Malformed)?;
                if announced.is_some_and(|announced| announced != number) {
                    return Err(BadAnswer::Malformed);
                }
                announced = Some(number);
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked |= contains_token(value, b"chunked");
            } else if header.name.eq_ignore_ascii_case("connection") {
                keep_alive = !contains_token(value, b"close")
                    && (keep_alive || contains_token(value, b"keep-alive"));
            }
        }
        let framing = match announced {
            _ if matches!(status, 204 | 304) => Framing::Length(0),
            _ if chunked => Framing::Chunked,
            Some(number) => Framing::Length(number),
            None => Framing::UntilClose,
        };
        return Ok(Some(Head {
            status,
            keep_alive: keep_alive && !matches!(framing, Framing::UntilClose),
            framing,
            body_at: start,
        }));
    }
}

fn contains_token(list: &[u8], token: &[u8]) -> bool {
    list.split(|byte| *byte == b',')
        .any(|item| item.trim_ascii().eq_ignore_ascii_case(token))
}

fn body_end(head: &Head, bytes: &[u8], closed: bool) -> Result<Option<usize>, BadAnswer> {
    match head.framing {
        Framing::Length(length) => {
            let end = head.body_at.saturating_add(length);
            Ok((bytes.len() >= end).then_some(end))
        }
        Framing::UntilClose => Ok(closed.then_some(bytes.len())),
        Framing::Chunked => walk_chunks(bytes, head.body_at, |_| {}),
    }
}

/// Passes over chunks and trailers; the end of the body, or `None` when it has not come yet.
fn walk_chunks(
    bytes: &[u8],
    mut at: usize,
    mut chunk: impl FnMut(&[u8]),
) -> Result<Option<usize>, BadAnswer> {
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let (size_line, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(BadAnswer::Malformed),
        };
        at += size_line;
        if size == 0 {
            // Trailers, if any, end with an empty line; without them the empty line is next.
            let rest = &bytes[at..];
            if rest.starts_with(b"\r\n") {
                return Ok(Some(at + 2));
            }
            return Ok(memmem::find(rest, b"\r\n\r\n").map(|end| at + end + 4));
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(data) = bytes.get(at..at.saturating_add(size)) else {
            return Ok(None);
        };
        chunk(data);
        at += size;
        match bytes.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(_) => return Err(BadAnswer::Malformed),
            None => return Ok(None),
        }
    }
}

/// The body of a whole answer, out of its chunks.
pub(crate) fn body_of<'a>(answer: &Answer, bytes: &'a [u8]) -> Cow<'a, [u8]> {
    let raw = bytes.get(answer.body.clone()).unwrap_or_default();
    if !answer.chunked {
        return Cow::Borrowed(raw);
    }
    let mut joined = Vec::with_capacity(raw.len());
    let walked = walk_chunks(bytes, answer.body.start, |chunk| joined.extend(chunk));
    debug_assert!(walked.is_ok(), "the answer was whole");
    Cow::Owned(joined)
}

/// The indices of events that an answer of 200 refuses: `{"rejected":[{"index":3,...},...]}`,
/// plain numbers instead of objects, or the same under `errors`. Sorted, without repeats, and
/// below `count`; empty when the body says nothing of the kind.
pub(crate) fn refused_indices(answer: &Answer, bytes: &[u8], count: u32) -> Vec<u32> {
    let raw = bytes.get(answer.body.clone()).unwrap_or_default();
    // Nearly all answers are empty or say that nothing was refused.
    if memmem::find(raw, b"\"rejected\"").is_none() && memmem::find(raw, b"\"errors\"").is_none() {
        return Vec::new();
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&body_of(answer, bytes)) else {
        return Vec::new();
    };
    let mut indices: Vec<u32> = ["rejected", "errors"]
        .iter()
        .filter_map(|name| value.get(name)?.as_array())
        .flatten()
        .filter_map(|item| item.get("index").unwrap_or(item).as_u64())
        .filter_map(|index| u32::try_from(index).ok().filter(|index| *index < count))
        .collect();
    indices.sort_unstable();
    indices.dedup();
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1 << 16;

    fn whole(text: &str) -> Answer {
        AnswerReader::new(LIMIT)
            .read(text.as_bytes(), false)
            .unwrap()
            .unwrap()
    }

    /// Feeds every prefix in turn, as if each byte came alone.
    fn byte_by_byte(text: &str) -> Answer {
        let mut reader = AnswerReader::new(LIMIT);
        for end in 0..text.len() {
            assert_eq!(
                reader.read(&text.as_bytes()[..end], false),
                Ok(None),
                "{end}"
            );
        }
        reader.read(text.as_bytes(), false).unwrap().unwrap()
    }

    #[test]
    fn an_answer_ends_where_its_framing_says() {
        for text in [
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 503 Busy\r\nContent-Length: 5\r\nRetry-After: 1\r\n\r\nhello",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        ] {
            let answer = byte_by_byte(text);
            assert_eq!(answer.length, text.len(), "{text}");
            assert!(answer.keep_alive, "{text}");
            let followed = format!("{text}HTTP/1.1 ");
            assert_eq!(whole(&followed), answer, "{text}");
        }
        assert_eq!(
            whole("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").status,
            503
        );
    }

    #[test]
    fn without_a_length_the_answer_ends_with_the_connection() {
        let text = b"HTTP/1.1 200 OK\r\n\r\nabc";
        let mut reader = AnswerReader::new(LIMIT);
        assert_eq!(reader.read(text, false), Ok(None));
        let answer = reader.read(text, true).unwrap().unwrap();
        assert_eq!(&text[answer.body], b"abc");
        assert!(!answer.keep_alive);
    }

    #[test]
    fn a_connection_is_kept_as_the_answer_says() {
        let keep = |text: &str| whole(&format!("{text}\r\nContent-Length: 0\r\n\r\n")).keep_alive;
        assert!(keep("HTTP/1.1 200 OK"));
        assert!(!keep("HTTP/1.1 200 OK\r\nConnection: close"));
        assert!(!keep("HTTP/1.1 200 OK\r\nConnection: foo, Close"));
        assert!(!keep("HTTP/1.0 200 OK"));
        assert!(keep("HTTP/1.0 200 OK\r\nConnection: keep-alive"));
    }

    #[test]
    fn what_is_no_http_is_malformed() {
        for text in [
            "garbage\r\n\r\n",
            "HTTP/1.1 101 Switching\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            let result = AnswerReader::new(LIMIT).read(text.as_bytes(), false);
            assert_eq!(result, Err(BadAnswer::Malformed), "{text}");
        }
    }

    #[test]
    fn an_answer_over_the_limit_is_given_up() {
        let read = |text: &str, closed| AnswerReader::new(LIMIT).read(text.as_bytes(), closed);
        let announced =
            |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let head = announced(10_000).len();
        assert_eq!(read(&announced(LIMIT - head), false), Ok(None));
        let over = announced(LIMIT - head + 1);
        assert_eq!(read(&over, false), Err(BadAnswer::TooLarge));
        assert_eq!(
            read(&announced(usize::MAX), false),
            Err(BadAnswer::TooLarge)
        );

        let start = "HTTP/1.1 200 OK\r\n\r\n";
        let until_close = |length| format!("{start}{}", "x".repeat(length - start.len()));
        assert!(read(&until_close(LIMIT), true).unwrap().is_some());
        assert_eq!(
            read(&until_close(LIMIT + 1), true),
            Err(BadAnswer::TooLarge)
        );
        assert_eq!(
            read(&until_close(LIMIT + 1), false),
            Err(BadAnswer::TooLarge)
        );

        let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n";
        let endless = format!("{chunks}{}", "1\r\na\r\n".repeat(LIMIT / 6));
        assert_eq!(read(&endless, false), Err(BadAnswer::TooLarge));
        let unending_head = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(LIMIT));
        assert_eq!(read(&unending_head, false), Err(BadAnswer::TooLarge));
    }

    #[test]
    fn refused_events_are_read_from_an_answer_of_200() {
        let refused = |body: &str| {
            let length = body.len();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            refused_indices(&whole(&text), text.as_bytes(), 20)
        };
        assert_eq!(
            refused(r#"{"accepted":17,"rejected":[{"index":7,"code":"x"},{"index":3},19,3]}"#),
            [3, 7, 19]
        );
        assert_eq!(refused(r#"{"rejected":1,"errors":[{"index":4}]}"#), [4]);
        for body in [
            "",
            "{}",
            r#"{"rejected":0}"#,
            r#"{"rejected":[]}"#,
            r#"{"rejected":[{"index":20}]}"#,
            r#"{"rejected":["#,
        ] {
            assert_eq!(refused(body), [0; 0], "{body}");
        }
    }

    #[test]
    fn refused_events_are_read_from_chunks_too() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                    e\r\n{\"rejected\":[1\r\n4\r\n,2]}\r\n0\r\n\r\n";
        let answer = byte_by_byte(text);
        assert_eq!(refused_indices(&answer, text.as_bytes(), 20), [1, 2]);
    }
}
