//! Requests by hand, and others made of them. Text stands for bytes: a character for the byte of its number.

use fastrand::Rng;

const GET: &str = "GET /second HTTP/1.1\r\nHost: a\r\n\r\n";

/// The bytes of a text.
fn bytes(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap())
        .collect()
}

/// A request with this first line, and one more.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n{GET}")
}

fn target(target: &str) -> String {
    line(&format!("GET {target} HTTP/1.1"))
}

/// A request with this field, and one more.
fn field(field: &str) -> String {
    format!("GET /first HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n{GET}")
}

fn host(value: &str) -> String {
    format!("GET /first HTTP/1.1\r\nHost:{value}\r\n\r\n{GET}")
}

/// A request with these fields and this body, and one more.
fn framed(fields: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}{GET}")
}

fn chunked(body: &str) -> String {
    framed("Transfer-Encoding: chunked", body)
}

/// A chunked body of one byte whose chunk has this extension.
fn extension(extension: &str) -> String {
    chunked(&format!("1{extension}\r\nx\r\n0\r\n\r\n"))
}

fn trailer(trailer: &str) -> String {
    chunked(&format!("1\r\nx\r\n0\r\n{trailer}\r\n"))
}

/// All of them. Where several show the same disagreement, the page shows the first.
pub(crate) fn by_hand() -> Vec<Vec<u8>> {
    let mut cases = Vec::new();
    let mut add = |texts: Vec<String>| cases.extend(texts.iter().map(|text| bytes(text)));
    add(plain());
    add([
        "GET  /a HTTP/1.1",
        "GET /a  HTTP/1.1",
        " GET /a HTTP/1.1",
        "GET /a HTTP/1.1 ",
        "GET\t/a\tHTTP/1.1",
        "GET /a",
        "GET",
        "GET /a b HTTP/1.1",
        "GET HTTP/1.1",
        "/a HTTP/1.1",
        "GET /a http/1.1",
        "GET /a HTTP/1",
        "GET /a HTTP/1.10",
        "GET /a HTTP/01.1",
        "GET /a HTTP/1.2",
        "GET /a HTTP/0.9",
        "GET /a HTTP/2.0",
        "GET /a HTTP/3.0",
        "GET /a HTTP/9.9",
        "GET /a HTTP/1,1",
        "GET /a HTTPS/1.1",
        "GET /a HTTP/1.1x",
        "GET /a ICE/1.0",
        "get /a HTTP/1.1",
        "PURGE /a HTTP/1.1",
        "X-Custom!#$%&'*+-.^_`|~ /a HTTP/1.1",
        "G\u{0}T /a HTTP/1.1",
        "G(T /a HTTP/1.1",
        "GET: /a HTTP/1.1",
        "G\u{e9}T /a HTTP/1.1",
        "QUERY /a HTTP/1.1",
        "M-SEARCH * HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT a:80 HTTP/1.1",
        "CONNECT /a HTTP/1.1",
        "TRACE /a HTTP/1.1",
        "HEAD /a HTTP/1.1",
        "DELETE /a HTTP/1.1",
        "GET /a HTTP/1.1\r",
        "GET /a\rb HTTP/1.1",
        "GET /a HTTP/1.0",
    ]
    .map(line)
    .into());
    add([
        "/a?b=c&d=%20",
        "/a?b={c}",
        "/a?b=[c]|d^e`f\\g",
        "/a{b}",
        "/a|b",
        "/[a]",
        "/a\\b",
        "/a^b`c",
        "/a\"b",
        "/a?b=\"c\"",
        "/<a>",
        "/a?<b>",
        "/a#b",
        "/a?b#c",
        "/\u{e9}",
        "/a?b=\u{c3}\u{a9}",
        "/a\u{7f}",
        "/a\u{0}b",
        "/a\u{1}b",
        "/a\tb",
        "/a%zz",
        "/a%",
        "/a?b=%",
        "/%00",
        "/../a/./b",
        "//a",
        "/?",
        "?a",
        "a",
        "a/b",
        "a:80",
        "*",
        "**",
        "http://b/a",
        "http://b",
        "http://b?x",
        "HTTP://b:81/a",
        "https://b/a",
        "http://[::1]:80/a",
        "http://u@b/a",
        "http://[::1/a",
        "http://[:1]/a",
        "http://[v1.a]/a",
        "http://u:p@b/a",
        "http:///a",
        "http://b:x/a",
        "http://b:999999/a",
        "http:/a",
        "http:a",
        "ftp://b/a",
        "mailto:a@b",
        "://b",
        "http://b/a#c",
    ]
    .map(target)
    .into());
    add([
        "",
        " ",
        " a",
        " a:80",
        "\ta\t",
        " a:",
        " :80",
        " a:b",
        " a:80:80",
        " a:123456",
        " a b",
        " a,b",
        " a/b",
        " a?b",
        " a#b",
        " u@a",
        " http://a",
        " [::1]",
        " [::1]:80",
        " [::1",
        " ::1",
        " [::g]",
        " [:1]",
        " [v1.a]",
        " a_b",
        " %61",
        " %zz",
        " \u{e9}",
        " a\u{0}",
        " a\\b",
        " <a>",
        " a.",
        " .",
        " *",
        " \"a\"",
        " a;b",
        " {a}",
        " 127.0.0.1",
    ]
    .map(host)
    .into());
    add(hosts());
    add([
        "X: y",
        "X:y",
        "X:  y  ",
        "X:\ty\t",
        "X:",
        "X: ",
        "X : y",
        "X\t: y",
        " X: y",
        "X: y\r\n folded",
        "X: y\r\n\tfolded",
        "X:\r\n folded",
        "X: y\r\n ",
        "no colon",
        ": no name",
        ":",
        "X y: z",
        "X(y): z",
        "X/y: z",
        "X\"y\": z",
        "X[y]: z",
        "X\u{e9}: z",
        "X\u{0}: z",
        "X\u{1}: z",
        "!#$%&'*+-.^_`|~09: z",
        "X: a\u{0}b",
        "X: a\u{1}b",
        "X: a\u{7f}b",
        "X: a\u{b}b",
        "X: a\u{c}b",
        "X: a\tb",
        "X: \u{e9}\u{ff}\u{80}",
        "X: \u{c3}\u{a9}",
        "X: y\u{a0}",
        "X: y\u{b}",
        "X: a\rb",
        "X: a\r",
        "X: a\nY: b",
        "X: a\n",
        "X: a\n\r",
        "X: a\r\r",
        "\rX: a",
        "X\r: a",
        "X: y\r\nX: z",
        "X: y\r\nx: z\r\nX: y",
        "X: \"quoted, \\\" text\"",
        "Cookie: a=b; c=d",
        "Connection: close",
        "Connection: keep-alive",
        "Connection: x, close",
        "Connection: close, keep-alive",
        "Connection: x close",
        "Connection: close, \u{e9}",
        "Connection: content-length\r\nContent-Length: 0",
        "Connection: upgrade\r\nUpgrade: websocket",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "Expect: 100-Continue",
        "Expect: x",
        "Expect: 100-continue, x",
        "Expect:",
        "TE: trailers",
        "Trailer: X",
        "Keep-Alive: timeout=5",
        "Origin: https://a.example",
    ]
    .map(field)
    .into());
    add(lengths());
    add(codings());
    add([
        "5\r\nhello\r\n0\r\n\r\n",
        "0\r\n\r\n",
        "0000\r\n\r\n",
        "05\r\nhello\r\n00\r\n\r\n",
        "A\r\n0123456789\r\n0\r\n\r\n",
        "a\r\n0123456789\r\n0\r\n\r\n",
        "0000000000000001\r\nx\r\n0\r\n\r\n",
        "00000000000000001\r\nx\r\n0\r\n\r\n",
        "000000000000000000001\r\nx\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nx\r\n0\r\n\r\n",
        "10000000000000001\r\nx\r\n0\r\n\r\n",
        "100000000000000001\r\nx\r\n0\r\n\r\n",
        "1\nx\r\n0\r\n\r\n",
        "1\r\nx\n0\r\n\r\n",
        "1\r\nx\r\n0\n\r\n",
        "1\r\nx\r\n0\r\n\n",
        "1\n\nx\n0\n\n",
        "1\rx\r\n0\r\n\r\n",
        "1\r\nx\r0\r\n\r\n",
        "1\r\r\nx\r\n0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "2\r\nx\r\n0\r\n\r\n",
        "1\r\nx0\r\n\r\n",
        "1\r\nx\r\n\r\n0\r\n\r\n",
        "\r\n1\r\nx\r\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "1 \r\nx\r\n0\r\n\r\n",
        "1\t\r\nx\r\n0\r\n\r\n",
        "1\u{b}\r\nx\r\n0\r\n\r\n",
        "0 \r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        "-0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        "1h\r\nx\r\n0\r\n\r\n",
        "1_0\r\nx\r\n0\r\n\r\n",
        "g\r\nx\r\n0\r\n\r\n",
        "\"1\"\r\nx\r\n0\r\n\r\n",
        "1,1\r\nx\r\n0\r\n\r\n",
        "1.0\r\nx\r\n0\r\n\r\n",
        "\u{0}1\r\nx\r\n0\r\n\r\n",
        "1\u{0}\r\nx\r\n0\r\n\r\n",
        "5\r\nhello\r\n",
        "5\r\nhel",
        "",
        "hello",
    ]
    .map(chunked)
    .into());
    add([
        ";a",
        ";a=b",
        ";a=\"b\"",
        ";a=\"b;c\\\"d\"",
        "; a",
        ";a ; b",
        ";a = b",
        " ;a",
        "\t;a=b",
        ";",
        ";;",
        ";a;",
        ";=b",
        ";a=",
        ";a b",
        ";a=b c",
        ";a=\"b",
        ";a=\"b\"c",
        ";a=\"b\\",
        ";a/b",
        ";\u{e9}",
        ";a=\"\u{e9}\"",
        ";a=\u{e9}",
        ";a\u{0}",
        ";a=\"\u{1}\"",
        ";a\rb",
        ";a\nb",
        ";a\r",
        ";a\n",
        " a",
        ",a",
        "=a",
        ";a\tb",
        ";a=\"\t\"",
        ";<script>",
    ]
    .map(extension)
    .into());
    add([
        "X: y\r\n",
        "X: y\r\nZ: w\r\n",
        "X:\r\n",
        "X : y\r\n",
        "X: y\r\n folded\r\n",
        " X: y\r\n",
        "no colon\r\n",
        ": y\r\n",
        "X: \u{1}\r\n",
        "X: \u{0}\r\n",
        "X: \u{e9}\r\n",
        "X(: y\r\n",
        "X: y\n",
        "X: a\rb\r\n",
        "\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Host: b\r\n",
        "GET /smuggled HTTP/1.1\r\nHost: a\r\n",
        "X: y\r\n\r\nGET /third HTTP/1.1\r\nHost: a\r\n",
    ]
    .map(trailer)
    .into());
    add(smuggling());
    add(ends());
    add(large());
    cases
}

/// What every server takes.
fn plain() -> Vec<String> {
    let get = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunks = "POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        get.to_owned(),
        post.to_owned(),
        format!("{chunks}5\r\nhello\r\n0\r\n\r\n"),
        format!("{get}{post}{chunks}5\r\nhello\r\n0\r\n\r\n{get}"),
        get.repeat(20),
        post.repeat(20),
        "POST /v1/events HTTP/1.1\r\nHost: collect.example:443\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n\
         Content-Type: application/json; charset=utf-8\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate, br\r\n\
         Origin: https://shop.example\r\nReferer: https://shop.example/\r\nX-Forwarded-For: 192.0.2.1, 10.0.0.1\r\n\
         Connection: keep-alive\r\nContent-Length: 14\r\n\r\n{\"event\":\"a b\"}"
            .to_owned(),
        "GET /i?e=pv&url=https%3A%2F%2Fshop.example%2F&res=1920x1080 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
    ]
}

fn hosts() -> Vec<String> {
    [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost:\r\n\r\n",
        "GET http://b/ HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n",
    ]
    .map(|first| format!("{first}{GET}"))
    .into()
}

fn lengths() -> Vec<String> {
    let mut cases: Vec<String> = [
        "5",
        " 5 ",
        "\t5\t",
        "0",
        "05",
        "0000000000000000000005",
        "+5",
        "-5",
        "-0",
        "5.0",
        "5,5",
        "5, 5",
        "5, 6",
        "5,",
        ",5",
        "0x5",
        "5 5",
        "5;",
        "\"5\"",
        "",
        "x",
        "5x",
        "\u{b}5",
        "5\u{a0}",
        "5\u{0}",
        "1e0",
        "٥",
    ]
    .iter()
    .filter(|value| value.chars().all(|character| u32::from(character) < 256))
    .map(|value| framed(&format!("Content-Length: {value}"), "hello"))
    .collect();
    cases.extend(
        [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 0",
            "Content-Length: 0\r\nContent-Length: 5",
            "Content-Length: 5\r\ncontent-length: 05",
            "Content-Length : 5",
            "Content-Length\t: 5",
            " Content-Length: 5",
            "X: y\r\n Content-Length: 5",
            "Content-Length:\r\n 5",
            "Content-Length: \r\n\t5",
            "Content_Length: 5",
            "Content-Length\u{0}: 5",
            "Content Length: 5",
            "Content-Length: 18446744073709551616",
            "Content-Length: 18446744073709551621",
            "Content-Length: 9223372036854775808",
            "Content-Length: 99999999999999999999",
            "X: y",
        ]
        .map(|fields| framed(fields, "hello")),
    );
    cases
}

fn codings() -> Vec<String> {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    [
        "Transfer-Encoding: Chunked",
        "Transfer-Encoding: CHUNKED",
        "transfer-encoding:chunked",
        "Transfer-Encoding: chunked ",
        "Transfer-Encoding:\tchunked\t",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: 'chunked'",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked x",
        "Transfer-Encoding: x chunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\u{b}",
        "Transfer-Encoding: chunked\u{0}",
        "Transfer-Encoding: chunked\u{a0}",
        "Transfer-Encoding:",
        "Transfer-Encoding: ",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "X: y\r\n Transfer-Encoding: chunked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding\r\n: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding:",
    ]
    .map(|fields| framed(fields, body))
    .into()
}

/// What published attacks are made of: two lengths, of which each server believes another.
fn smuggling() -> Vec<String> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut cases = vec![
        // CL.TE, TE.CL, and both in one request.
        framed("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"),
        framed("Transfer-Encoding: chunked\r\nContent-Length: 6", "0\r\n\r\nG"),
        framed("Content-Length: 4\r\nTransfer-Encoding: chunked", &format!("5c\r\n{smuggled}0\r\n\r\n")),
        framed("Transfer-Encoding: chunked\r\nContent-Length: 0", "5\r\nhello\r\n0\r\n\r\n"),
        // CL.0 and 0.CL.
        format!("GET /first HTTP/1.1\r\nHost: a\r\nContent-Length: 34\r\n\r\n{smuggled}"),
        format!("POST /first HTTP/1.1\r\nHost: a\r\n\r\n{smuggled}"),
        // HTTP/1.0 with chunks.
        "POST /first HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        "POST /first HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n\
         0\r\n\r\nGET"
            .to_owned(),
        "POST /first HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello".to_owned() + GET,
        "POST /first HTTP/1.0\r\nHost: a\r\n\r\nhello".to_owned(),
        // A request in the white space of another.
        format!("GET /first HTTP/1.1\r\nHost: a\r\nX: y\n\n{smuggled}"),
        format!("GET /first HTTP/1.1\r\nHost: a\n\r\n{smuggled}"),
        format!("GET /first HTTP/1.1\nHost: a\n\n{smuggled}"),
        format!("GET /first HTTP/1.1\r\nHost: a\r\n\n{smuggled}"),
        format!("GET /first HTTP/1.1\r\nHost: a\r\n\r{smuggled}"),
        format!("GET /first HTTP/1.1\rHost: a\r\r{smuggled}"),
        format!("GET /first HTTP/1.1\r\n Host: b\r\nHost: a\r\n\r\n{smuggled}"),
        format!("GET /first HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n{smuggled}"),
        format!("GET /first HTTP/1.1\r\n: x\r\nHost: a\r\n\r\n{smuggled}"),
    ];
    // TE.TE: one that is hidden from somebody.
    for hidden in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
        "Transfer-Encoding:\tchunked",
        " Transfer-Encoding: chunked",
        "X: x\nTransfer-Encoding: chunked",
        "Transfer-Encoding\r\n : chunked",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-encoding: cow",
        "Transfer-Encoding: identity",
    ] {
        cases.push(framed(
            &format!("Content-Length: 5\r\n{hidden}"),
            "0\r\n\r\n",
        ));
    }
    cases
}

/// Around requests: empty lines, ends, and what follows.
fn ends() -> Vec<String> {
    let get = "GET /first HTTP/1.1\r\nHost: a\r\n\r\n";
    let post = "POST /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    vec![
        format!("\r\n{get}"),
        format!("\r\n\r\n\r\n{get}"),
        format!("\n{get}"),
        format!("\n\n{get}"),
        format!("\r{get}"),
        format!("\r\n\n{get}"),
        format!(" \r\n{get}"),
        format!("{post}\r\n{GET}"),
        format!("{post}\r\n\r\n{GET}"),
        format!("{post}\n{GET}"),
        format!("{post}x{GET}"),
        format!("\u{0}{get}"),
        format!("\u{ef}\u{bb}\u{bf}{get}"),
        get[..20].to_owned(),
        post[..post.len() - 1].to_owned(),
        format!("{get}GET /sec"),
        String::new(),
        "\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".to_owned(),
        format!("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n{get}"),
        format!("HTTP/1.1 200 OK\r\n\r\n{get}"),
        framed("Expect: 100-continue\r\nContent-Length: 5", "hello"),
        framed(
            "Expect: 100-continue\r\nTransfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        framed("Expect: 200-ok\r\nContent-Length: 5", "hello"),
        "POST /first HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
            .to_owned(),
        framed("Connection: close\r\nContent-Length: 5", "hello"),
        framed(
            "Connection: close\r\nTransfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        format!("GET /first HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n{GET}"),
        format!("GET /first HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n{GET}"),
        format!("GET /first HTTP/1.0\r\nHost: a\r\nConnection: x keep-alive\r\n\r\n{GET}"),
        format!(
            "GET /first HTTP/1.0\r\nHost: a\r\nConnection: x\r\nConnection: keep-alive\r\n\r\n{GET}"
        ),
        format!("HEAD /first HTTP/1.1\r\nHost: a\r\n\r\n{GET}"),
        format!("GET /first HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{GET}"),
        format!(
            "DELETE /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n{GET}"
        ),
    ]
}

/// At and over the limits of somebody.
fn large() -> Vec<String> {
    let long = |count: usize| "x".repeat(count);
    let filler = |count: usize| field(&format!("X: {}", long(count)));
    vec![
        target(&format!("/{}", long(4_000))),
        target(&format!("/{}", long(8_191))),
        target(&format!("/{}", long(8_192))),
        filler(8_000),
        filler(15_000),
        filler(17_000),
        filler(32_000),
        filler(33_000),
        field(&format!("{}: y", long(1_000))),
        field("X: y\r\n".repeat(98).trim_end()),
        field("X: y\r\n".repeat(99).trim_end()),
        field("X: y\r\n".repeat(100).trim_end()),
        format!("{}{GET}", "\r\n".repeat(100)),
        framed("Content-Length: 20000", &long(20_000)),
        framed("Content-Length: 1048576", &long(1_048_576)),
        framed("Content-Length: 1048577", &long(1_048_577)),
        chunked(&format!("4e20\r\n{}\r\n0\r\n\r\n", long(20_000))),
        chunked(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(2_048))),
        chunked(&format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(2_100))),
        extension(&format!(";a={}", long(4_000))),
        extension(&format!(";a={}", long(20_000))),
        extension(&format!(";a={}", long(33_000))),
        trailer(&format!("X: {}\r\n", long(15_000))),
        trailer(&format!("X: {}\r\n", long(33_000))),
        format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n{GET}", "M".repeat(300)),
        host(&format!(" {}", long(300))),
    ]
}

/// What is put into cases, or in the place of a byte of theirs.
const PIECES: [&str; 44] = [
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    " ",
    "\t",
    "\u{0}",
    "\u{1}",
    "\u{b}",
    "\u{c}",
    "\u{7f}",
    "\u{80}",
    "\u{a0}",
    "\u{ff}",
    ":",
    ";",
    ",",
    "=",
    "\"",
    "\\",
    "%",
    "#",
    "?",
    "/",
    "*",
    "@",
    "[",
    "]",
    "{",
    "0",
    "1",
    "5",
    "A",
    "g",
    "+",
    "-",
    "chunked",
    ", chunked",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Host: b\r\n",
    "HTTP/1.1",
    "0\r\n\r\n",
];

/// Cases made of those by hand by one to three small changes each.
pub(crate) fn mutated(by_hand: &[Vec<u8>], count: usize, seed: u64) -> Vec<Vec<u8>> {
    let mut rng = Rng::with_seed(seed);
    let short: Vec<&Vec<u8>> = by_hand
        .iter()
        .filter(|case| (1..1_000).contains(&case.len()))
        .collect();
    (0..count)
        .map(|_| {
            let mut case = short[rng.usize(..short.len())].clone();
            for _ in 0..rng.usize(1..=3) {
                mutate(&mut case, &mut rng);
            }
            case
        })
        .collect()
}

fn mutate(case: &mut Vec<u8>, rng: &mut Rng) {
    if case.is_empty() {
        return;
    }
    let at = rng.usize(..case.len());
    match rng.u8(..6) {
        0 | 1 => {
            let piece = bytes(PIECES[rng.usize(..PIECES.len())]);
            case.splice(at..at, piece);
        }
        2 => {
            let piece = bytes(PIECES[rng.usize(..PIECES.len())]);
            case.splice(at..=at, piece);
        }
        3 => {
            case.remove(at);
        }
        4 => case[at] = rng.u8(..),
        // A line again, or in the place of another.
        _ => {
            let mut lines: Vec<Vec<u8>> = case
                .split_inclusive(|byte| *byte == b'\n')
                .map(<[u8]>::to_vec)
                .collect();
            let (from, to) = (rng.usize(..lines.len()), rng.usize(..lines.len()));
            match rng.bool() {
                true => lines.insert(to, lines[from].clone()),
                false => lines.swap(from, to),
            }
            *case = lines.concat();
        }
    }
}
