//! The codec alone: results by name, at any cut of the bytes, and beside another parser.

use super::reader::Reader;
use super::*;
use crate::http::cors::CorsPolicy;
use crate::http::{Answer, Cors};
use proptest::prelude::*;
use sluice_core::request::RequestId;
use std::time::Duration;

/// Feeds `input` in pieces of `step` bytes, and returns what passed and how it was stopped.
fn feed(input: &[u8], step: usize, limits: &HttpLimits) -> (Vec<u8>, Option<String>) {
    let mut reader = Reader::default();
    for piece in input.chunks(step) {
        if let Err(refusal) = reader.feed(piece, limits) {
            return (reader.passed, Some(refusal.code.name.to_owned()));
        }
    }
    (reader.passed, None)
}

fn verdict(input: &str) -> Option<String> {
    feed(input.as_bytes(), usize::MAX, &HttpLimits::default()).1
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn an_incomplete_head_waits_at_any_cut() {
    let whole = format!(
        "{GET}\r\nPOST /a HTTP/1.1\r\nhost: a:80\r\nContent-LENGTH:  5 \r\n\r\nhello\
             POST /b HTTP/1.1\r\nHost: [::1]:8088\r\nTransfer-Encoding: Chunked\r\n\r\n\
             5;x=\"y\"\r\nhello\r\n0A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n{GET}"
    );
    let rest = "GET /late HTTP/1.1\r\nHost: a\r\n";
    let input = format!("{whole}{rest}");
    for step in 1..=input.len() {
        let (passed, stop) = feed(input.as_bytes(), step, &HttpLimits::default());
        assert_eq!(String::from_utf8(passed).unwrap(), whole, "step {step}");
        assert_eq!(stop, None, "step {step}");
    }
}

#[test]
fn framing_errors_are_found_at_any_cut() {
    let bad =
        "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let input = format!("{GET}{bad}{GET}");
    for step in 1..=input.len() {
        let (passed, stop) = feed(input.as_bytes(), step, &HttpLimits::default());
        assert_eq!(String::from_utf8(passed).unwrap(), GET, "step {step}");
        assert_eq!(stop.as_deref(), Some("ambiguous_length"), "step {step}");
    }
}

#[test]
fn each_ambiguity_of_a_head_has_its_name() {
    let with = |line: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n");
    for (line, code) in [
        (
            "Content-Length: 1\r\nContent-Length: 1",
            "repeated_content_length",
        ),
        (
            "Content-Length: 1\r\nContent-Length: 2",
            "repeated_content_length",
        ),
        ("Content-Length: 1, 1", "bad_content_length"),
        ("Content-Length: +1", "bad_content_length"),
        ("Content-Length: -1", "bad_content_length"),
        ("Content-Length: 0x1", "bad_content_length"),
        ("Content-Length: 1 1", "bad_content_length"),
        ("Content-Length:", "bad_content_length"),
        ("Content-Length: 9223372036854775808", "bad_content_length"),
        (
            "Transfer-Encoding: chunked\r\nContent-Length: 1",
            "ambiguous_length",
        ),
        (
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "ambiguous_length",
        ),
        (
            "Transfer-Encoding: gzip",
            "transfer_encoding_not_implemented",
        ),
        (
            "Transfer-Encoding: gzip, chunked",
            "transfer_encoding_not_implemented",
        ),
        (
            "Transfer-Encoding: chunked, gzip",
            "transfer_encoding_not_implemented",
        ),
        (
            "Transfer-Encoding: xchunked",
            "transfer_encoding_not_implemented",
        ),
        ("Transfer-Encoding:", "transfer_encoding_not_implemented"),
        (
            "Transfer-Encoding: chunked, chunked",
            "repeated_transfer_encoding",
        ),
        (
            "Transfer-Encoding: chunked\r\ntransfer-encoding: chunked",
            "repeated_transfer_encoding",
        ),
        ("Host: a", "repeated_host"),
        ("X: y\r\n folded", "folded_header"),
        ("X: y\r\n\tfolded", "folded_header"),
    ] {
        assert_eq!(verdict(&with(line)).as_deref(), Some(code), "{line}");
    }
    for line in [
        "Content-Length: 9223372036854775807",
        "Content-Length: 007",
        "Contentlength: x",
    ] {
        assert_eq!(verdict(&with(line)), None, "{line}");
    }
    assert_eq!(
        verdict("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").as_deref(),
        Some("transfer_encoding_in_http_1_0")
    );
}

#[test]
fn http_1_1_needs_exactly_one_valid_host() {
    assert_eq!(
        verdict("GET / HTTP/1.1\r\n\r\n").as_deref(),
        Some("no_host")
    );
    assert_eq!(verdict("GET / HTTP/1.0\r\n\r\n"), None);
    for host in [
        "a",
        "a.b:1",
        "A-1_~.x:65535",
        "10.0.0.1:8088",
        "[::1]",
        "[fe80::1]:80",
        "[::ffff:192.0.2.1]",
        "a:",
        "%41",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(verdict(&head), None, "{host}");
    }
    for host in [
        "",
        " ",
        "a b",
        "a/b",
        "a@b",
        "a:b",
        "a:123456",
        "[::1",
        "::1",
        "[]",
        "a\"b",
        "a,b:c",
        "[::1]x",
        "[:1]",
        "[1:2]",
        "[v1.a]",
        "[::1%251]",
        "%zz",
        "a%4",
        "%",
        "ü",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(verdict(&head).as_deref(), Some("bad_host"), "{host}");
    }
}

#[test]
fn a_request_line_is_three_words_of_http_1() {
    for (line, code) in [
        ("GET /", "bad_request_line"),
        ("GET  / HTTP/1.1", "bad_request_line"),
        ("GET / HTTP/1.1 ", "bad_request_line"),
        ("GET / http/1.1", "bad_request_line"),
        ("GET / HTTP/11", "bad_request_line"),
        ("GET / HTTP/1.2", "http_version_not_supported"),
        ("GET / HTTP/2.0", "http_version_not_supported"),
        ("PRI * HTTP/2.0", "http2_not_offered"),
        ("CONNECT a:1 HTTP/1.1", "method_not_implemented"),
        ("TRACE / HTTP/1.1", "method_not_implemented"),
    ] {
        let head = format!("{line}\r\nHost: a\r\n\r\n");
        assert_eq!(verdict(&head).as_deref(), Some(code), "{line}");
    }
    assert_eq!(
        verdict("GET / HTTP/1.1\nHost: a\r\n\r\n").as_deref(),
        Some("bad_line_end")
    );
    assert_eq!(
        verdict("GET / HTTP/1.1\r\nHost: a\n\r\n").as_deref(),
        Some("bad_line_end")
    );
}

#[test]
fn head_limits_apply_before_the_head_ends() {
    let limits = HttpLimits {
        head_bytes_max: 200,
        headers_max: 3,
        target_bytes_max: 20,
        ..HttpLimits::default()
    };
    let check = |head: &str| feed(head.as_bytes(), 7, &limits).1;
    let padded = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
    };
    assert_eq!(check(&padded(200)), None);
    assert_eq!(check(&padded(201)).as_deref(), Some("head_too_large"));
    assert_eq!(
        check(&padded(400)[..300]).as_deref(),
        Some("head_too_large")
    );
    assert_eq!(
        check(&"\r\n".repeat(101)).as_deref(),
        Some("head_too_large")
    );

    let aimed =
        |bytes: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(bytes - 1));
    assert_eq!(check(&aimed(20)), None);
    assert_eq!(check(&aimed(21)).as_deref(), Some("target_too_long"));
    assert_eq!(
        check(&aimed(500)[..300]).as_deref(),
        Some("target_too_long")
    );

    let lines = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    };
    assert_eq!(check(&lines(3)), None);
    assert_eq!(check(&lines(4)).as_deref(), Some("too_many_headers"));
}

#[test]
fn chunks_are_digits_and_crlf() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for chunks in [
        "x\r\n",
        "\r\n",
        ";a\r\n",
        "-1\r\n",
        "1\n",
        "1\r\r",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\rx",
        "11111111111111111\r\n",
        "0\n",
        "0\r\nX: y\n",
        "0\r\n\n",
        "0\r\n\rx",
        "1 \n",
        "0x1\r\n",
        "1 \r\n",
        "1 ;a\r\n",
        "1\t;a=b\r\na\r\n0\r\n\r\n",
        "1;\r\n",
        "1;a b\r\n",
        "1;a=\r\n",
        "1;a=b c\r\n",
        "1;a=\"b\r\n",
        "1;a=\"b\"c\r\n",
        "1;a/b\r\n",
        "1;\u{e9}\r\n",
        "1;a=\"\u{1}\"\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\n: no name\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "0\r\nX: \u{1}\r\n\r\n",
    ] {
        assert_eq!(
            verdict(&format!("{head}{chunks}")).as_deref(),
            Some("body_malformed"),
            "{chunks:?}"
        );
    }
    for chunks in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "fFfFfFfFfFfFfFfF\r\nx",
        "1;a\r\na\r\n0\r\n\r\n",
        "1;a;b=c\r\na\r\n0\r\n\r\n",
        "1; a =\tb ; c=\"d \\\" ;e\"\r\na\r\n0\r\n\r\n",
        "0;last\r\nX-Trailer: y\r\nempty:\r\n\r\n",
    ] {
        assert_eq!(verdict(&format!("{head}{chunks}")), None, "{chunks:?}");
    }
}

#[test]
fn chunks_beyond_2048_need_256_bytes_each() {
    let body = |chunks: &[(usize, usize)]| {
        let mut text =
            String::from("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        for (count, bytes) in chunks {
            text += &format!("{bytes:x}\r\n{}\r\n", "x".repeat(*bytes)).repeat(*count);
        }
        text + "0\r\n\r\n"
    };
    for (chunks, passes) in [
        (&[(2_048, 1)][..], true),
        (&[(2_200, 1)], false),
        (&[(5_000, 256)], true),
        (&[(1, 256 * 300), (2_300, 1)], true),
        (&[(1, 256 * 300), (2_400, 1)], false),
    ] {
        assert_eq!(verdict(&body(chunks)).is_none(), passes, "{chunks:?}");
    }
    // Each body has its own count.
    assert_eq!(verdict(&body(&[(2_000, 1)]).repeat(3)), None);
}

#[test]
fn each_fault_of_a_chunk_has_its_section() {
    let refusal = |chunks: &str, extra: usize| {
        let stop = Chunked::new(extra).next(chunks.as_bytes());
        stop.err().map(|refusal| (refusal.section, refusal.over))
    };
    for (chunks, section) in [
        ("x", "RFC 9112 section 7.1"),
        ("1\n", "RFC 9112 section 7.1"),
        ("11111111111111111", "RFC 9112 section 7.1"),
        ("1;a b", "RFC 9112 section 7.1.1"),
        ("1;\r", "RFC 9112 section 7.1.1"),
        ("0\r\n x", "RFC 9112 section 7.1.2"),
        ("0\r\n\r\r", "RFC 9112 section 7.1.2"),
    ] {
        assert_eq!(refusal(chunks, 100), Some((section, None)), "{chunks:?}");
    }
    let over = |limit, actual| Some(("RFC 9112 section 7.1.1", Some((limit, actual))));
    assert_eq!(refusal("1;abc", 2), over(2, 3));
    assert_eq!(refusal("0\r\nX: y", 3), over(3, 4));

    let mut chunks = Chunked::new(0);
    let body = "1\r\nx\r\n".repeat(3_000);
    let mut rest = body.as_bytes();
    let refusal = loop {
        match chunks.next(rest) {
            Ok(piece) => rest = &rest[piece.used..],
            Err(refusal) => break refusal,
        }
    };
    assert_eq!(refusal.over, Some((2_056, 2_057)));
    let mut chunks = Chunked::new(0);
    assert_eq!(chunks.next(b"1\r\nx").unwrap().used, 4);
    assert_eq!(
        chunks.next(b"y").err().map(|no| no.section),
        Some("RFC 9112 section 7.1")
    );
}

#[test]
fn each_fault_of_a_target_has_its_section() {
    for (target, section) in [
        ("a b", "RFC 9112 section 3"),
        ("*", "RFC 9112 section 3.2.4"),
        ("collect", "RFC 9112 section 3.2"),
        ("ftp://a/", "RFC 9112 section 3.2"),
        ("http:///collect", "RFC 9110 section 4.2"),
        ("http://u@a/", "RFC 9110 section 4.2"),
        ("/a#b", "RFC 3986 section 2"),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        let refusal = decode(text.as_bytes(), &HttpLimits::default()).unwrap_err();
        assert_eq!(refusal.section, section, "{target}");
    }
}

#[test]
fn extensions_and_trailers_share_one_bound() {
    let limits = HttpLimits {
        head_bytes_max: 100,
        ..HttpLimits::default()
    };
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = |extension: usize, trailer: usize| {
        let (extension, trailer) = ("x".repeat(extension), "y".repeat(trailer - 2));
        format!("{head}1;{extension}\r\na\r\n0\r\ny:{trailer}\r\n\r\n")
    };
    assert_eq!(feed(body(60, 40).as_bytes(), 9, &limits).1, None);
    assert_eq!(
        feed(body(60, 41).as_bytes(), 9, &limits).1.as_deref(),
        Some("body_malformed")
    );
    assert_eq!(
        feed(body(99, 2).as_bytes(), 9, &limits).1.as_deref(),
        Some("body_malformed")
    );
}

fn head(text: &str) -> RequestHead<'_> {
    decode(text.as_bytes(), &HttpLimits::default())
        .unwrap()
        .unwrap()
}

#[test]
fn a_head_gives_method_target_and_fields() {
    let text = "\r\nPOST /collect/a?appId=x&y= HTTP/1.1\r\nhOST: a:80\r\nUser-Agent:\tcurl/8 \r\n\
        X-Forwarded-For: 1.1.1.1\r\nX-Other:  b \r\nx-forwarded-for:2.2.2.2\r\nORIGIN: https://o\r\n\
        Content-Length: 3\r\n\r\nabc";
    let head = head(text);
    assert_eq!(head.bytes(), text.len() - 3);
    assert_eq!(head.method(), "POST");
    assert_eq!(head.path_and_query(), "/collect/a?appId=x&y=");
    assert_eq!(
        (head.path(), head.query()),
        ("/collect/a", Some("appId=x&y="))
    );
    assert_eq!(head.framing(), Framing::Length(3));
    assert_eq!(head.host(), Some(&b"a:80"[..]));
    assert_eq!(head.first(Known::UserAgent), Some(&b"curl/8"[..]));
    assert_eq!(head.only(Known::Origin), Some(&b"https://o"[..]));
    assert_eq!(head.only(Known::ForwardedFor), None);
    assert!(head.all(Known::ForwardedFor).eq([b"1.1.1.1", b"2.2.2.2"]));
    assert!(head.all(Known::Origin).eq([b"https://o"]));
    assert_eq!(head.all(Known::Expect).count(), 0);
    let names: Vec<_> = head.fields().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 7);
    assert_eq!(head.fields().nth(3), Some(("X-Other", &b"b"[..])));
}

#[test]
fn every_known_field_is_found_in_any_case() {
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Expect",
        "Content-Encoding",
        "Origin",
        "User-Agent",
        "X-Forwarded-For",
        "Sec-GPC",
        "DNT",
        "SP-Anonymous",
    ] {
        for name in [name.to_owned(), name.to_lowercase(), name.to_uppercase()] {
            let line = format!("{name}: chunked");
            let (found, value) = fields::field(line.as_bytes()).unwrap();
            assert_eq!(value, b"chunked");
            assert!(fields::Known::of(found).is_some(), "{name}");
        }
        assert!(fields::Known::of(format!("{name}x").as_bytes()).is_none());
    }
}

#[test]
fn a_target_is_made_of_uri_characters() {
    for target in [
        "/",
        "/a/b;c=d,e/%41:@!$&'()*+~._-",
        "/i?a=1/2?3",
        // Browsers leave these as they are in a query.
        "/i?a={\"b|c^`\\[d]}".trim_matches('"'),
        "//collect",
        "http://a/collect?x",
        "HTTPS://a:443",
        "http://[::1]:8088?x",
    ] {
        let target = target.replace('"', "");
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(verdict(&text), None, "{target}");
    }
    for (target, code) in [
        ("/a#b", "bad_head"),
        ("/a?b#c", "bad_head"),
        ("/<script>", "bad_head"),
        ("/a\"b", "bad_head"),
        ("/a?\"", "bad_head"),
        ("/a{b}", "bad_head"),
        ("/a|b", "bad_head"),
        ("/[a]", "bad_head"),
        ("/a\\b", "bad_head"),
        ("/\u{e9}", "bad_head"),
        ("/a?\u{e9}", "bad_head"),
        ("/a\u{7f}", "bad_head"),
        ("/a\tb", "bad_head"),
        ("collect", "bad_request_line"),
        ("*", "bad_request_line"),
        ("a:80", "bad_request_line"),
        ("ftp://a/", "bad_request_line"),
        ("http:///collect", "bad_request_line"),
        ("http://u@a/", "bad_request_line"),
        ("http://[:1]/", "bad_request_line"),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(verdict(&text).as_deref(), Some(code), "{target}");
    }
    assert_eq!(verdict("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), None);
}

#[test]
fn the_host_of_an_absolute_target_counts() {
    let head = head("GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.host(), Some(&b"b:81"[..]));
    assert_eq!(head.path_and_query(), "/x?y");
    let head = self::head("GET http://b HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(head.path_and_query(), "/");
}

#[test]
fn a_connection_is_kept_as_version_and_options_say() {
    for (version, connection, kept) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, CLOSE\r\n", false),
        ("1.1", "Connection: x\r\nConnection:\tclose \r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: x, keep-alive\r\n", true),
        (
            "1.0",
            "Connection: keep-alive\r\nConnection: close\r\n",
            false,
        ),
    ] {
        let text = format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n");
        assert_eq!(head(&text).keeps_alive(), kept, "{text:?}");
    }
}

#[test]
fn field_lines_are_a_token_a_colon_and_text() {
    let with = |line: &[u8]| {
        let head = [b"GET / HTTP/1.1\r\nHost: a\r\n", line, b"\r\n\r\n"].concat();
        decode(&head, &HttpLimits::default())
            .map(|_| ())
            .map_err(|no| no.code.name)
    };
    for byte in 0..=255_u8 {
        if matches!(byte, b'\r' | b'\n') {
            continue;
        }
        let is_token = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let named = with(&[b'X', byte, b'Y', b':', b'v']);
        // A colon ends the name.
        assert_eq!(named.is_ok(), is_token || byte == b':', "{byte}");
        let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
        assert_eq!(
            with(&[b'X', b':', b'a', byte, b'b']).is_ok(),
            is_text,
            "{byte}"
        );
    }
}

#[test]
fn every_refusal_says_where_the_rfc_has_it() {
    for text in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno\r\n\r\n",
        "GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    ] {
        let refusal = decode(text.as_bytes(), &HttpLimits::default()).unwrap_err();
        let error = ErrorBody::from(refusal);
        assert!(error.message.contains("(RFC 9"), "{}", error.message);
    }
}

#[test]
fn only_bytes_that_may_end_a_head_are_worth_reading_it_again() {
    let limits = HttpLimits::default();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n";
    for before in 1..head.len() {
        let may = |upto: usize| may_complete(&head[..upto], before, &limits);
        for upto in before..head.len() {
            assert!(!may(upto), "{before}..{upto}");
        }
        assert!(may(head.len()), "{before}");
    }
    assert!(may_complete(&vec![b'x'; 40_000], 39_999, &limits));
}

#[test]
fn the_origin_of_a_refused_head_is_found() {
    let head = b"GET /\0 HTTP/1.1\r\nHost: a\r\noRIGIN: https://a.example \r\n\r\n";
    assert_eq!(origin_of(head), Some(&b"https://a.example"[..]));
    assert_eq!(origin_of(b"GET / HTTP/1.1\r\nOrigin: https://a.exa"), None);
    assert_eq!(origin_of(b"Origin: x\r\n"), None);
    assert_eq!(origin_of(b""), None);
}

fn written(
    answer: &Answer,
    minor: u8,
    is_head: bool,
    closing: Closing,
    cors: Option<&Cors>,
) -> String {
    let mut out = Vec::new();
    let about = About {
        id: RequestId(255),
        minor,
        is_head,
        closing,
        cors,
        date: "Sat, 21 Nov 2026 00:00:00 GMT",
    };
    encode(answer, &about, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn an_answer_is_written_to_the_letter() {
    let busy = Answer {
        retry_after_s: Some(3),
        ..Answer::json(http::StatusCode::SERVICE_UNAVAILABLE, "{}")
    };
    let origins = vec!["*".parse().unwrap()];
    let policy = CorsPolicy::new(origins, Duration::from_secs(60));
    let cors = policy.evaluate(Some(b"https://a.example"), false);
    assert_eq!(
        written(&busy, 1, false, Closing::Close, cors.as_ref()),
        "HTTP/1.1 503 Service Unavailable\r\n\
         x-request-id: 000000000000000000000000000000ff\r\n\
         x-content-type-options: nosniff\r\n\
         content-type: application/json\r\n\
         retry-after: 3\r\n\
         vary: Origin\r\n\
         access-control-allow-origin: https://a.example\r\n\
         access-control-allow-credentials: true\r\n\
         access-control-expose-headers: Retry-After, X-Request-ID\r\n\
         connection: close\r\n\
         content-length: 2\r\n\
         date: Sat, 21 Nov 2026 00:00:00 GMT\r\n\r\n{}"
    );
    let ok = written(
        &Answer::empty(http::StatusCode::OK),
        0,
        false,
        Closing::KeepAlive,
        None,
    );
    assert!(ok.starts_with("HTTP/1.0 200 OK\r\n") && ok.contains("connection: keep-alive\r\n"));
    assert!(ok.contains("content-length: 0\r\n"));
    let head = written(&busy, 1, true, Closing::KeepAlive, None);
    assert!(head.contains("content-length: 2\r\n") && head.ends_with("\r\n\r\n"));
    assert!(!head.contains("connection:"));
    let none = written(
        &Answer::empty(http::StatusCode::NO_CONTENT),
        1,
        false,
        Closing::KeepAlive,
        None,
    );
    assert!(!none.contains("content-length") && none.ends_with("\r\n\r\n"));
}

#[test]
fn numbers_are_written_in_decimal() {
    for number in [0, 1, 9, 10, 99, 100, 4_294_967_296, u64::MAX] {
        assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
    }
}

/// Heads that are nearly right.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("Host: a".to_owned()),
        Just("Content-Length: 5".to_owned()),
        Just("Transfer-Encoding: chunked".to_owned()),
        "[!-~]{1,8}:[ -~]{0,12}",
        "[A-Za-z-]{1,12}: [ -~\t]{0,20}",
    ];
    let first = prop_oneof![
        Just("GET / HTTP/1.1".to_owned()),
        "(GET|POST|OPTIONS) /[!-~]{0,20} HTTP/1.[01]",
    ];
    let lines = (first, proptest::collection::vec(line, 0..8));
    let damage = proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    (lines, damage).prop_map(|((first, lines), damage)| {
        let mut head = format!("{first}\r\n{}\r\n\r\n", lines.join("\r\n")).into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(head.len());
            head[at] = byte;
        }
        head
    })
}

proptest! {
    /// What is accepted here, another parser reads alike.
    #[test]
    fn an_accepted_head_means_the_same_to_httparse(bytes in heads()) {
        let Ok(Some(head)) = decode(&bytes, &HttpLimits::default()) else {
            return Ok(());
        };
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut other = httparse::Request::new(&mut fields);
        let parsed = other.parse(&bytes[..head.bytes()]).unwrap();
        prop_assert_eq!(parsed, httparse::Status::Complete(head.bytes()));
        prop_assert_eq!(other.method, Some(head.method()));
        prop_assert_eq!(other.version, Some(head.minor()));
        prop_assert!(other.path.unwrap().ends_with(head.path_and_query()) || head.path_and_query() == "/");
        let others: Vec<_> = other.headers.iter().map(|field| (field.name, field.value)).collect();
        let ours: Vec<_> = head.fields().collect();
        prop_assert_eq!(others, ours);
    }

    /// Nothing panics, and no cut changes the result.
    #[test]
    fn any_bytes_mean_the_same_at_any_cut(
        bytes in prop_oneof![heads(), proptest::collection::vec(any::<u8>(), 0..200)],
        cut in any::<prop::sample::Index>(),
    ) {
        let limits = HttpLimits::default();
        let (front, back) = bytes.split_at(cut.index(bytes.len() + 1));
        let mut reader = Reader::default();
        let in_two = reader.feed(front, &limits).and_then(|()| reader.feed(back, &limits));
        let at_once = feed(&bytes, usize::MAX, &limits);
        let stop = in_two.err().map(|refusal| refusal.code.name.to_owned());
        prop_assert_eq!((reader.passed, stop), at_once);
    }
}
