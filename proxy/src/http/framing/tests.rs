//! Framing alone: results by name, at any cut of the bytes.

use super::*;

/// Feeds `input` in pieces of `step` bytes as the adapter does, and returns what passed and how
/// it was stopped.
fn feed(input: &[u8], step: usize, limits: &HttpLimits) -> (Vec<u8>, Option<String>) {
    let mut framing = FramingCheck::new();
    let mut held = Vec::new();
    let mut passed = Vec::new();
    for piece in input.chunks(step) {
        held.extend_from_slice(piece);
        let pass = framing.pass(&held, limits);
        passed.extend(held.drain(..pass.bytes));
        if let Some(stop) = pass.stop {
            let why = match stop {
                Stop::Head(problem) => problem.code.to_owned(),
                Stop::Body => "body".to_owned(),
            };
            return (passed, Some(why));
        }
    }
    (passed, None)
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
             5;x=\"y\"\r\nhello\r\n0A \r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n{GET}"
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
        "a:",
        "%41",
    ] {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(verdict(&head), None, "{host}");
    }
    for host in [
        "", " ", "a b", "a/b", "a@b", "a:b", "a:123456", "[::1", "::1", "[]", "a\"b", "a,b:c",
        "[::1]x", "ü",
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
    ] {
        assert_eq!(
            verdict(&format!("{head}{chunks}")).as_deref(),
            Some("body"),
            "{chunks:?}"
        );
    }
    for chunks in [
        "0\r\n\r\n",
        "000\r\n\r\n",
        "fFfFfFfFfFfFfFfF\r\nx",
        "1\t;a=b\r\na\r\n0\r\n\r\n",
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
fn extensions_and_trailers_share_one_bound() {
    let limits = HttpLimits {
        head_bytes_max: 100,
        ..HttpLimits::default()
    };
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = |extension: usize, trailer: usize| {
        let (extension, trailer) = ("x".repeat(extension), "y".repeat(trailer));
        format!("{head}1;{extension}\r\na\r\n0\r\n{trailer}\r\n\r\n")
    };
    assert_eq!(feed(body(60, 40).as_bytes(), 9, &limits).1, None);
    assert_eq!(
        feed(body(60, 41).as_bytes(), 9, &limits).1.as_deref(),
        Some("body")
    );
    assert_eq!(
        feed(body(101, 0).as_bytes(), 9, &limits).1.as_deref(),
        Some("body")
    );
}
