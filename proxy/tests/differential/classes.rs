//! Why others disagree with us: every disagreement belongs to one of these classes, and each class is a row of the
//! page.

use crate::outcome::{Difference, Outcome};
use crate::peers::Peer;

pub(crate) struct Class {
    /// What is disagreed about.
    pub(crate) title: &'static str,
    is: Is,
    /// What all its inputs have in common, found without a parser. Of those that somebody else refuses as well it
    /// may be `any`.
    shows: fn(&[u8]) -> bool,
    pub(crate) section: &'static str,
    /// One sentence of that section.
    pub(crate) words: &'static str,
    /// What follows from it for us.
    pub(crate) why: &'static str,
}

#[derive(Debug)]
enum Is {
    /// We refuse with a message that has this in it, and somebody else does too.
    Refused(&'static str),
    /// The same, but perhaps nobody else does.
    RefusedAlone(&'static str),
    /// We take what these refuse with errors that have this in them, or take it for something else.
    Taken(&'static [(Peer, &'static str)]),
    /// We end the connection where these go on.
    Ended(&'static [Peer]),
}

/// What is to be explained.
pub(crate) struct Disagreement<'a> {
    pub(crate) input: &'a [u8],
    pub(crate) ours: &'a Outcome,
    pub(crate) peer: Peer,
    pub(crate) theirs: &'a Outcome,
    pub(crate) difference: Difference,
    /// Nobody agrees with us.
    pub(crate) alone: bool,
}

impl Class {
    pub(crate) fn explains(&self, disagreement: &Disagreement<'_>) -> bool {
        let refused = |message: &str| {
            let error = disagreement.ours.error.as_deref();
            disagreement.difference == Difference::TheirsOnly
                && error.is_some_and(|error| error.contains(message))
        };
        let fits = match self.is {
            Is::Refused(message) => refused(message) && !disagreement.alone,
            Is::RefusedAlone(message) => refused(message),
            Is::Taken(by) => {
                let error = disagreement.theirs.error.as_deref().unwrap_or_default();
                disagreement.difference != Difference::TheirsOnly
                    && by
                        .iter()
                        .any(|(peer, text)| *peer == disagreement.peer && error.contains(text))
            }
            Is::Ended(peers) => {
                disagreement.difference == Difference::TheirsOnly
                    && disagreement.ours.error.is_none()
                    && peers.contains(&disagreement.peer)
            }
        };
        fits && (self.shows)(disagreement.input)
    }

    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.is, Is::Refused(_) | Is::RefusedAlone(_))
    }
}

fn any(_: &[u8]) -> bool {
    true
}

fn has(input: &[u8], what: &str) -> bool {
    let mut windows = input.windows(what.len());
    windows.any(|window| window.eq_ignore_ascii_case(what.as_bytes()))
}

fn any_line(input: &[u8], is: impl Fn(&[u8]) -> bool) -> bool {
    let mut lines = input.split(|byte| *byte == b'\n');
    lines.any(|line| is(line.strip_suffix(b"\r").unwrap_or(line)))
}

/// Whether a line is a request line with such a target.
fn any_target(input: &[u8], is: impl Fn(&[u8]) -> bool) -> bool {
    any_line(input, |line| {
        let mut parts = line.split(|byte| *byte == b' ').skip(1);
        let target = parts.next();
        let version = parts.next().unwrap_or_default();
        version.starts_with(b"HTTP/") && target.is_some_and(&is)
    })
}

/// Whether an empty line may stand before a request line: that after a head is none behind a body.
fn has_empty_line_before_request(input: &[u8]) -> bool {
    let has_body = has(input, "content-length") || is_chunked(input);
    input.starts_with(b"\r\n") || has(input, "\r\n\r\n\r\n") || has_body
}

fn names_connection_option(input: &[u8]) -> bool {
    any_line(input, |line| {
        has(line, "connection:") && (has(line, "close") || has(line, "keep-alive"))
    })
}

fn is_uri(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?@!$&'()*+,;=%".contains(&byte)
}

fn has_broken_escape(target: &[u8]) -> bool {
    let is_hex = |at: usize| target.get(at).is_some_and(u8::is_ascii_hexdigit);
    (0..target.len()).any(|at| target[at] == b'%' && !(is_hex(at + 1) && is_hex(at + 2)))
}

/// Whether a Host is more than letters, digits and dots.
fn has_odd_host(input: &[u8]) -> bool {
    any_line(input, |line| {
        let (name, value) = line.split_at(line.len().min("host:".len()));
        let value = value.trim_ascii();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'.';
        name.eq_ignore_ascii_case(b"host:") && (value.is_empty() || !value.iter().all(is_plain))
    })
}

fn is_chunked(input: &[u8]) -> bool {
    has(input, "transfer-encoding")
}

use Peer::{Go, H11, Hyper, Node};

pub(crate) const CLASSES: &[Class] = &[
    Class {
        title: "more than one space in a request line, or no version",
        is: Is::Refused("one space between them"),
        shows: any,
        section: "RFC 9112 section 3",
        words: "Recipients of an invalid request-line SHOULD respond with either a 400 (Bad Request) error or a 301 \
                (Moved Permanently) redirect with the request-target properly encoded.",
        why: "The section also permits white space to be read as one space: a proxy in front that does not would see \
              another target.",
    },
    Class {
        title: "`*` for another method than OPTIONS",
        is: Is::RefusedAlone("only OPTIONS"),
        shows: |input| any_target(input, |target| target == b"*"),
        section: "RFC 9112 section 3.2.4",
        words: "The \"asterisk-form\" of request-target is only used for a server-wide OPTIONS request",
        why: "",
    },
    Class {
        title: "a target that is neither a path nor an http or https URI",
        is: Is::RefusedAlone("neither a path nor"),
        shows: |input| any_target(input, |target| !target.starts_with(b"/")),
        section: "RFC 9112 section 3.2",
        words: "There are four distinct formats for the request-target, depending on both the method being requested \
                and whether the request is to a proxy.",
        why: "It has none of the formats, or names a scheme for which only a proxy could be asked.",
    },
    Class {
        title: "a URI as target with a user, an empty host, or an impossible port",
        is: Is::RefusedAlone("has no host, or more than"),
        shows: |input| any_target(input, |target| has(target, "://")),
        section: "RFC 9110 section 4.2.4",
        words: "Before making use of an \"http\" or \"https\" URI reference received from an untrusted source, a \
                recipient SHOULD parse for userinfo and treat its presence as an error; it is likely being used to \
                obscure the authority for the sake of phishing attacks.",
        why: "",
    },
    Class {
        title: "a byte in a target that a URI cannot have",
        is: Is::RefusedAlone("(RFC 3986 section 2)"),
        shows: |input| any_target(input, |target| !target.iter().all(|byte| is_uri(*byte))),
        section: "RFC 3986 section 2",
        words: "A URI is composed from a limited set of characters consisting of digits, letters, and a few graphic \
                symbols.",
        why: "In a query ``[ ] \\ ^ ` { | }`` are taken, for browsers send them there as they are.",
    },
    Class {
        title: "a CR, or another byte that no method has, before a method",
        is: Is::Refused("(RFC 9110 section 5.6.2)"),
        shows: any,
        section: "RFC 9112 section 2.2",
        words: "A recipient of such a bare CR MUST consider that element to be invalid or replace each bare CR with SP \
                before processing the element or forwarding the message.",
        why: "",
    },
    Class {
        title: "CONNECT and TRACE",
        is: Is::RefusedAlone("501 method_not_implemented"),
        shows: |input| has(input, "CONNECT ") || has(input, "TRACE "),
        section: "RFC 9110 section 9.1",
        words: "An origin server that receives a request method that is unrecognized or not implemented SHOULD respond \
                with the 501 (Not Implemented) status code.",
        why: "",
    },
    Class {
        title: "a version other than HTTP/1.0 and HTTP/1.1",
        is: Is::Refused("505 http_version_not_supported"),
        shows: any,
        section: "RFC 9110 section 2.5",
        words: "A recipient that receives a message with a major version number that it implements and a minor version \
                number higher than what it implements SHOULD process the message as if it were in the highest minor \
                version within that major version to which the recipient is conformant.",
        why: "We do not: there is no HTTP/1.2, and who sends it has something else in mind. Other major versions are \
              505 by section 15.6.6.",
    },
    Class {
        title: "HTTP/2 without having agreed on it",
        is: Is::Refused("http2_not_offered"),
        shows: |input| has(input, "PRI ") && has(input, "HTTP/2.0"),
        section: "RFC 9110 section 15.6.6",
        words: "The 505 (HTTP Version Not Supported) status code indicates that the server does not support, or \
                refuses to support, the major version of HTTP that was used in the request message.",
        why: "",
    },
    Class {
        title: "a line of a head that ends with LF alone",
        is: Is::Refused("400 bad_line_end"),
        shows: any,
        section: "RFC 9112 section 2.2",
        words: "Although the line terminator for the start-line and fields is the sequence CRLF, a recipient MAY \
                recognize a single LF as a line terminator and ignore any preceding CR.",
        why: "Where some do and some do not, a field can be hidden from one of them.",
    },
    Class {
        title: "a Host that is no host",
        is: Is::RefusedAlone("400 bad_host"),
        shows: has_odd_host,
        section: "RFC 9112 section 3.2",
        words: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks \
                a Host header field and to any request message that contains more than one Host header field line or \
                a Host header field with an invalid field value.",
        why: "An empty one is valid, but names no server that could be meant.",
    },
    Class {
        title: "no Host",
        is: Is::Refused("400 no_host"),
        shows: any,
        section: "RFC 9112 section 3.2",
        words: "A client MUST send a Host header field ([HTTP], Section 7.2) in all HTTP/1.1 request messages.",
        why: "",
    },
    Class {
        title: "more than one Host",
        is: Is::Refused("400 repeated_host"),
        shows: any,
        section: "RFC 9112 section 3.2",
        words: "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message that lacks \
                a Host header field and to any request message that contains more than one Host header field line or \
                a Host header field with an invalid field value.",
        why: "",
    },
    Class {
        title: "a folded field line",
        is: Is::Refused("400 folded_header"),
        shows: |input| {
            any_line(input, |line| {
                line.starts_with(b" ") || line.starts_with(b"\t")
            })
        },
        section: "RFC 9112 section 5.2",
        words: "A sender MUST NOT generate a message that includes line folding (i.e., that has any field line value \
                that contains a match to the obs-fold rule) unless the message is intended for packaging within the \
                \"message/http\" media type.",
        why: "The section lets a server refuse it, or put spaces in its place.",
    },
    Class {
        title: "a control character in a field value",
        is: Is::Refused("(RFC 9110 section 5.5)"),
        shows: any,
        section: "RFC 9110 section 5.5",
        words: "Field values containing CR, LF, or NUL characters are invalid and dangerous, due to the varying ways \
                that implementations might parse and interpret those characters; a recipient of CR, LF, or NUL within \
                a field value MUST either reject the message or replace each of those characters with SP before \
                further processing or forwarding of that message.",
        why: "The section calls other control characters invalid as well, and lets a recipient keep them.",
    },
    Class {
        title: "a Content-Length that is no number, or a list",
        is: Is::Refused("400 bad_content_length"),
        shows: any,
        section: "RFC 9112 section 6.3",
        words: "If a message is received without Transfer-Encoding and with an invalid Content-Length header field, \
                then the message framing is invalid and the recipient MUST treat it as an unrecoverable error, unless \
                the field value can be successfully parsed as a comma-separated list (Section 5.6.1 of [HTTP]), all \
                values in the list are valid, and all values in the list are the same (in which case, the message is \
                processed with that single value used as the Content-Length field value).",
        why: "No client sends a list, and a proxy in front may take another of its values.",
    },
    Class {
        title: "more than one Content-Length",
        is: Is::Refused("400 repeated_content_length"),
        shows: any,
        section: "RFC 9112 section 6.3",
        words: "If a message is received without Transfer-Encoding and with an invalid Content-Length header field, \
                then the message framing is invalid and the recipient MUST treat it as an unrecoverable error, unless \
                the field value can be successfully parsed as a comma-separated list (Section 5.6.1 of [HTTP]), all \
                values in the list are valid, and all values in the list are the same (in which case, the message is \
                processed with that single value used as the Content-Length field value).",
        why: "Not even equal ones: no client sends them.",
    },
    Class {
        title: "Content-Length and Transfer-Encoding",
        is: Is::Refused("400 ambiguous_length"),
        shows: |input| has(input, "content-length") && is_chunked(input),
        section: "RFC 9112 section 6.1",
        words: "A server MAY reject a request that contains both Content-Length and Transfer-Encoding or process such \
                a request in accordance with the Transfer-Encoding alone.",
        why: "",
    },
    Class {
        title: "a transfer coding other than chunked",
        is: Is::Refused("501 transfer_encoding_not_implemented"),
        shows: is_chunked,
        section: "RFC 9112 section 6.1",
        words: "A server that receives a request message with a transfer coding it does not understand SHOULD respond \
                with 501 (Not Implemented).",
        why: "",
    },
    Class {
        title: "more than one Transfer-Encoding, or chunked twice",
        is: Is::Refused("400 repeated_transfer_encoding"),
        shows: is_chunked,
        section: "RFC 9112 section 6.1",
        words: "A sender MUST NOT apply the chunked transfer coding more than once to a message body (i.e., chunking \
                an already chunked message is not allowed).",
        why: "",
    },
    Class {
        title: "Transfer-Encoding in HTTP/1.0",
        is: Is::Refused("400 transfer_encoding_in_http_1_0"),
        shows: |input| is_chunked(input) && has(input, "HTTP/1.0"),
        section: "RFC 9112 section 6.1",
        words: "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header field MUST \
                treat the message as if the framing is faulty, even if a Content-Length is present, and close the \
                connection after processing the message.",
        why: "",
    },
    Class {
        title: "a chunk size with more than 16 digits, a blank behind it, or LF alone",
        is: Is::Refused("a chunk does not begin with"),
        shows: is_chunked,
        section: "RFC 9112 section 7.1",
        words: "Therefore, recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing \
                errors due to integer conversion overflows or precision loss due to integer representation.",
        why: "The grammar has no blank before CR LF. Before a semicolon a recipient has to read one (RFC 9110 section \
              5.6.3); we refuse that as well, for nobody sends it and parsers disagree.",
    },
    Class {
        title: "a chunk extension that is not made of tokens",
        is: Is::RefusedAlone("(RFC 9112 section 7.1.1)"),
        shows: |input| is_chunked(input) && has(input, ";"),
        section: "RFC 9112 section 7.1.1",
        words: "A recipient MUST ignore unrecognized chunk extensions.",
        why: "What does not match the grammar is no extension; whoever skips bytes may take other ones for the line's \
              end.",
    },
    Class {
        title: "a malformed trailer",
        is: Is::Refused("a trailer behind the last chunk"),
        shows: is_chunked,
        section: "RFC 9112 section 7.1.2",
        words: "A recipient that removes the chunked coding from a message MAY selectively retain or discard the \
                received trailer fields.",
        why: "Trailers are discarded, by the same grammar as header lines.",
    },
    Class {
        title: "a target over `limits.target_bytes_max`",
        is: Is::RefusedAlone("414 target_too_long"),
        shows: |input| input.len() > 8_192,
        section: "RFC 9112 section 3",
        words: "A server that receives a request-target longer than any URI it wishes to parse MUST respond with a \
                414 (URI Too Long) status code (see Section 15.5.15 of [HTTP]).",
        why: "",
    },
    Class {
        title: "a head over `limits.head_bytes_max`",
        is: Is::Refused("431 head_too_large"),
        shows: |input| input.len() > 32_768,
        section: "RFC 6585 section 5",
        words: "The 431 status code indicates that the server is unwilling to process the request because its header \
                fields are too large.",
        why: "",
    },
    Class {
        title: "more header lines than `limits.headers_max`",
        is: Is::Refused("431 too_many_headers"),
        shows: any,
        section: "RFC 6585 section 5",
        words: "The 431 status code indicates that the server is unwilling to process the request because its header \
                fields are too large.",
        why: "",
    },
    Class {
        title: "a body over `limits.body_bytes_max`",
        is: Is::RefusedAlone("413 body_too_large"),
        shows: |input| input.len() > 1_048_576,
        section: "RFC 9110 section 15.5.14",
        words: "The 413 (Content Too Large) status code indicates that the server is refusing to process a request \
                because the request content is larger than the server is willing or able to process.",
        why: "The others leave that limit to their applications.",
    },
    Class {
        title: "more than 2,048 chunks of less than 256 bytes",
        is: Is::RefusedAlone("too many chunks that are too small"),
        shows: |input| is_chunked(input) && input.len() > 2_048 * 6,
        section: "RFC 9110 section 15.5.14",
        words: "The 413 (Content Too Large) status code indicates that the server is refusing to process a request \
                because the request content is larger than the server is willing or able to process.",
        why: "No limit of the RFC: a chunk costs more to read than its byte, so that few bytes would be much work.",
    },
    Class {
        title: "chunk extensions and trailers over `limits.head_bytes_max`",
        is: Is::Refused("chunk extensions and trailers are over"),
        shows: |input| is_chunked(input) && input.len() > 32_768,
        section: "RFC 9112 section 7.1.1",
        words: "A server ought to limit the total length of chunk extensions received in a request to an amount \
                reasonable for the services provided, in the same way that it applies length limitations and timeouts \
                for other parts of a message, and generate an appropriate 4xx (Client Error) response if that amount \
                is exceeded.",
        why: "",
    },
    Class {
        title: "chunk extensions or trailers below that, over a lower limit of others",
        is: Is::Taken(&[
            (Hyper, "chunk extensions over limit"),
            (Node, "HPE_CHUNK_EXTENSIONS_OVERFLOW"),
            (Go, "long"),
        ]),
        shows: |input| is_chunked(input) && input.len() > 4_096,
        section: "RFC 9112 section 7.1.1",
        words: "A server ought to limit the total length of chunk extensions received in a request to an amount \
                reasonable for the services provided, in the same way that it applies length limitations and timeouts \
                for other parts of a message, and generate an appropriate 4xx (Client Error) response if that amount \
                is exceeded.",
        why: "Ours is that of the head, for all of a body's together.",
    },
    Class {
        title: "a head over 16 KiB",
        is: Is::Taken(&[(Node, "HPE_HEADER_OVERFLOW")]),
        shows: |input| input.len() > 14_000,
        section: "RFC 9110 section 5.4",
        words: "A server that receives a request header field line, field value, or set of fields larger than it \
                wishes to process MUST respond with an appropriate 4xx (Client Error) status code.",
        why: "Balancers pass on heads of 32 KiB and more.",
    },
    Class {
        title: "a method that the other does not know",
        is: Is::Taken(&[(Node, "HPE_INVALID_METHOD")]),
        shows: any,
        section: "RFC 9110 section 9.1",
        words: "Additional methods, outside the scope of this specification, have been specified for use in HTTP.",
        why: "It is any token here; an endpoint answers 405 with the methods that it has.",
    },
    Class {
        title: "`%` in a target that begins no escape",
        is: Is::Taken(&[(Go, "400 Bad Request")]),
        shows: |input| any_target(input, has_broken_escape),
        section: "RFC 3986 section 2.1",
        words: "A percent-encoded octet is encoded as a character triplet, consisting of the percent character \"%\" \
                followed by the two hexadecimal digits representing that octet's numeric value.",
        why: "Pages cut long addresses off within an escape; nothing here depends on what it would stand for.",
    },
    Class {
        title: "an Expect other than `100-continue`",
        is: Is::Taken(&[(Node, ""), (Go, "417")]),
        shows: |input| has(input, "\r\nExpect:"),
        section: "RFC 9110 section 10.1.1",
        words: "A server that receives an Expect field value containing a member other than 100-continue MAY respond \
                with a 417 (Expectation Failed) status code to indicate that the unexpected expectation cannot be met.",
        why: "",
    },
    Class {
        title: "empty lines before a request line",
        is: Is::Taken(&[(H11, "no request line received"), (Go, "400 Bad Request")]),
        shows: has_empty_line_before_request,
        section: "RFC 9112 section 2.2",
        words: "In the interest of robustness, a server that is expecting to receive and parse a request-line SHOULD \
                ignore at least one empty line (CRLF) received prior to the request-line.",
        why: "",
    },
    Class {
        title: "a tab around the value of Content-Length or Transfer-Encoding",
        is: Is::Taken(&[(Node, "HPE_INVALID_")]),
        shows: |input| {
            any_line(input, |line| {
                (has(line, "content-length:") || has(line, "transfer-encoding:"))
                    && line.contains(&b'\t')
            })
        },
        section: "RFC 9112 section 5.1",
        words: "A field line value might be preceded and/or followed by optional whitespace (OWS); a single SP \
                preceding the field line value is preferred for consistent readability by humans.",
        why: "",
    },
    Class {
        title: "a Content-Length with more than 20 digits, most of them zeros",
        is: Is::Taken(&[(H11, "bad Content-Length")]),
        shows: |input| has(input, ": 00000000"),
        section: "RFC 9110 section 8.6",
        words: "Any Content-Length field value greater than or equal to zero is valid.",
        why: "",
    },
    Class {
        title: "blanks in a chunk extension",
        is: Is::Taken(&[(Node, "HPE_STRICT")]),
        shows: |input| {
            any_line(input, |line| {
                line.contains(&b';') && line.iter().any(|byte| matches!(byte, b' ' | b'\t'))
            })
        },
        section: "RFC 9110 section 5.6.3",
        words: "A recipient MUST parse for such bad whitespace and remove it before interpreting the protocol element.",
        why: "",
    },
    Class {
        title: "a length or a coding as trailer",
        is: Is::Taken(&[(Node, "HPE_INVALID_"), (H11, "")]),
        shows: |input| {
            let mut parts = input.splitn(2, |byte| *byte == b'0');
            let trailers = parts.nth(1).unwrap_or_default();
            is_chunked(input) && (is_chunked(trailers) || has(trailers, "\r\nContent-Length:"))
        },
        section: "RFC 9112 section 7.1.2",
        words: "A recipient that removes the chunked coding from a message MAY selectively retain or discard the \
                received trailer fields.",
        why: "Trailers are discarded before anybody could take one for a header.",
    },
    Class {
        title: "a connection of HTTP/1.0 that is to be kept",
        is: Is::Taken(&[(H11, "")]),
        shows: |input| has(input, "HTTP/1.0") && names_connection_option(input),
        section: "RFC 9112 section 9.3",
        words: "If the received protocol is HTTP/1.0, the \"keep-alive\" connection option is present, either the \
                recipient is not a proxy or the message is a response, and the recipient wishes to honor the HTTP/1.0 \
                \"keep-alive\" mechanism, the connection will persist after the current response",
        why: "",
    },
    Class {
        title: "a request behind one with `close` and no comma, or with `keep-alive` in a second line",
        is: Is::Taken(&[(Go, "")]),
        shows: names_connection_option,
        section: "RFC 9110 section 7.6.1",
        words: "The \"Connection\" header field allows the sender to list desired control options for the current \
                connection.",
        why: "In a list, `x close` is one element, and no option; lines of the same name are one list.",
    },
    Class {
        title: "a request behind one with `close` beside bytes above 0x7f, or with `keep-alive` and no comma",
        is: Is::Ended(&[Hyper, Go]),
        shows: names_connection_option,
        section: "RFC 9112 section 9.6",
        words: "A server that receives a \"close\" connection option MUST initiate closure of the connection (see below) \
                after it sends the final response to the request that contained the \"close\" connection option.",
        why: "`x keep-alive` is no option, so that HTTP/1.0 ends the connection.",
    },
    Class {
        title: "a request behind one that asks for another protocol",
        is: Is::Taken(&[(Node, "")]),
        shows: |input| has(input, "\r\nUpgrade:"),
        section: "RFC 9110 section 7.8",
        words: "A server MAY ignore a received Upgrade header field if it wishes to continue using the current \
                protocol on that connection.",
        why: "",
    },
    Class {
        title: "a URI as target that has a query and no path",
        is: Is::Taken(&[(Hyper, "")]),
        shows: |input| any_target(input, |target| has(target, "://") && has(target, "?")),
        section: "RFC 9110 section 4.2.3",
        words: "When not being used as the target of an OPTIONS request, an empty path component is equivalent to an \
                absolute path of \"/\", so the normal form is to provide a path of \"/\" instead.",
        why: "hyper adds the `/`, others leave it to the application; there is no endpoint at either.",
    },
];
