//! Every `code` of an error body, declared once: its status, when it is sent, and what a client should
//! do. `docs/reference/errors.md` is made from it.

use http::StatusCode;

/// One code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode {
    /// `code` in the body: stable, in snake case, for programs.
    pub name: &'static str,
    /// The status of the response.
    pub status: StatusCode,
    /// When it is sent.
    pub when: &'static str,
    /// What a client should do.
    pub advice: Advice,
}

/// The advice to a client about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Send the same events again after `Retry-After`.
    Retry,
    /// Send the same request again on a new connection.
    RetryAnew,
    /// Send less per request: split the body.
    Split,
    /// Repeating does not help; mend the request.
    Mend,
    /// Repeating does not help; ask the operator.
    AskOperator,
}

impl Advice {
    /// One sentence.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Advice::Retry => "Keep the events and send them again after `Retry-After`.",
            Advice::RetryAnew => "Send the request again on a new connection.",
            Advice::Split => {
                "Split the body and send the parts; a single event over the limit cannot be stored."
            }
            Advice::Mend => "Mend the request; sending it again as it is does not help.",
            Advice::AskOperator => "Ask the operator; sending it again does not help.",
        }
    }
}

macro_rules! error_codes {
    ($($constant:ident $status:ident $advice:ident $name:literal $when:literal;)*) => {
        $(
            #[doc = $when]
            pub const $constant: ErrorCode = ErrorCode {
                name: $name,
                status: StatusCode::$status,
                when: $when,
                advice: Advice::$advice,
            };
        )*

        /// All of them.
        pub const ALL: &[ErrorCode] = &[$($constant),*];
    };
}

error_codes! {
    OVERLOADED SERVICE_UNAVAILABLE Retry "overloaded" "The bytes in flight are at their limit, or the share of the request's priority in it; nothing was taken.";
    TOO_MANY_CONNECTIONS SERVICE_UNAVAILABLE Retry "too_many_connections" "The connection is over `listen.connections_max` or `listen.connections_per_address_max`; it is closed with this response.";
    QUEUE_FULL SERVICE_UNAVAILABLE Retry "queue_full" "An output is behind and its queue is full, or the share of the request's priority in it; nothing was taken.";
    CIRCUIT_OPEN SERVICE_UNAVAILABLE Retry "circuit_open" "An output has failed for `circuit_open_after_ms`; nothing was taken. A few requests are still let through to try it.";
    NOT_CONFIRMED SERVICE_UNAVAILABLE Retry "not_confirmed" "An output did not confirm within the ack deadline; it may have the events all the same.";
    NOT_DELIVERED SERVICE_UNAVAILABLE Retry "not_delivered" "An output refused at least one event.";
    HEAD_TOO_SLOW REQUEST_TIMEOUT RetryAnew "head_too_slow" "The request head did not arrive within `limits.head_deadline_ms`.";
    BODY_TOO_SLOW REQUEST_TIMEOUT RetryAnew "body_too_slow" "The body did not arrive within `limits.body_deadline_ms`, or slower than `limits.body_rate_min_bytes`.";
    BODY_BROKEN_OFF BAD_REQUEST RetryAnew "body_broken_off" "The body ended before its announced length.";
    BODY_TOO_LARGE PAYLOAD_TOO_LARGE Split "body_too_large" "The body is over `limits.body_bytes_max`.";
    INFLATED_TOO_LARGE PAYLOAD_TOO_LARGE Split "inflated_too_large" "The decompressed body is over `limits.inflated_bytes_max`, or over 100 times its bytes as sent and over 16 KiB; of brotli over 16 times and over 1 KiB.";
    RECORD_TOO_LARGE PAYLOAD_TOO_LARGE Split "record_too_large" "A record would be over the limit of a destination.";
    RECORDS_TOO_LARGE PAYLOAD_TOO_LARGE Mend "records_too_large" "The records of the request would be over 100 times its bytes as sent and over 64 KiB.";
    TOO_MANY_EVENTS BAD_REQUEST Split "too_many_events" "The body holds more than `limits.events_max` events, or is packed and holds more than a plain body of its size could.";
    NO_EVENTS BAD_REQUEST Mend "no_events" "The body holds no event.";
    NOT_JSON BAD_REQUEST Mend "not_json" "The body, or an event, is not JSON.";
    NOT_UTF8 BAD_REQUEST Mend "not_utf8" "The body, or an event, is not UTF-8.";
    TOO_DEEP BAD_REQUEST Mend "too_deep" "An event is nested deeper than `limits.json_depth_max`.";
    NOT_AN_OBJECT BAD_REQUEST Mend "not_an_object" "An event is not a JSON object.";
    SCHEMA_VIOLATED UNPROCESSABLE_ENTITY Mend "schema_violated" "An event breaks its schema, whose `mode` is `reject`; `path` is a JSON Pointer to the value, and the message names the rule.";
    CONTENT_CODING_BROKEN UNPROCESSABLE_ENTITY Mend "content_coding_broken" "The body is not what its Content-Encoding says.";
    CONTENT_CODING_OVERHEAD UNPROCESSABLE_ENTITY Mend "content_coding_overhead" "The body has hundreds of tiny blocks, dozens of empty ones, or more tables than content, which no encoder in use makes.";
    TOO_MANY_CODINGS UNSUPPORTED_MEDIA_TYPE Mend "too_many_codings" "The events are packed more often than `limits.codings_max`.";
    CONTENT_ENCODING_UNSUPPORTED UNSUPPORTED_MEDIA_TYPE Mend "content_encoding_unsupported" "The Content-Encoding is unknown, is not in `limits.collect_codings` or `limits.events_codings`, or names more than `limits.codings_max`.";
    APP_UNKNOWN FORBIDDEN AskOperator "app_unknown" "The query parameter `appId` is not in `admit.app_ids`.";
    HOST_UNKNOWN FORBIDDEN AskOperator "host_unknown" "The Host is not in `admit.hosts`.";
    NOT_FOUND NOT_FOUND AskOperator "not_found" "No endpoint has this path, or it is off.";
    METHOD_NOT_ALLOWED METHOD_NOT_ALLOWED Mend "method_not_allowed" "The endpoint does not take this method; `Allow` lists those it takes.";
    TARGET_TOO_LONG URI_TOO_LONG Mend "target_too_long" "The request target is over `limits.target_bytes_max`.";
    HEAD_TOO_LARGE REQUEST_HEADER_FIELDS_TOO_LARGE Mend "head_too_large" "The request head is over `limits.head_bytes_max`.";
    TOO_MANY_HEADERS REQUEST_HEADER_FIELDS_TOO_LARGE Mend "too_many_headers" "The request has more than `limits.headers_max` header lines.";
    BODY_MALFORMED BAD_REQUEST Mend "body_malformed" "The chunks of the body are malformed, or more than 2,048 and less than 256 bytes long on average, or their extensions and trailers are over `limits.head_bytes_max`.";
    BAD_HEAD BAD_REQUEST Mend "bad_head" "The request line or a header is malformed.";
    BAD_REQUEST_LINE BAD_REQUEST Mend "bad_request_line" "The request line or its target is malformed.";
    BAD_LINE_END BAD_REQUEST Mend "bad_line_end" "A line of the head does not end with CR LF.";
    FOLDED_HEADER BAD_REQUEST Mend "folded_header" "A header line continues the one before it.";
    NO_HOST BAD_REQUEST Mend "no_host" "The Host header is missing.";
    BAD_HOST BAD_REQUEST Mend "bad_host" "The Host header is not a host.";
    REPEATED_HOST BAD_REQUEST Mend "repeated_host" "There is more than one Host header.";
    BAD_CONTENT_LENGTH BAD_REQUEST Mend "bad_content_length" "The Content-Length is not a decimal number of bytes.";
    REPEATED_CONTENT_LENGTH BAD_REQUEST Mend "repeated_content_length" "There is more than one Content-Length.";
    AMBIGUOUS_LENGTH BAD_REQUEST Mend "ambiguous_length" "There are both Content-Length and Transfer-Encoding.";
    REPEATED_TRANSFER_ENCODING BAD_REQUEST Mend "repeated_transfer_encoding" "The body is said to be chunked more than once.";
    TRANSFER_ENCODING_IN_HTTP_1_0 BAD_REQUEST Mend "transfer_encoding_in_http_1_0" "An HTTP/1.0 request has a Transfer-Encoding.";
    TRANSFER_ENCODING_NOT_IMPLEMENTED NOT_IMPLEMENTED Mend "transfer_encoding_not_implemented" "The Transfer-Encoding is not `chunked`.";
    PLAIN_HTTP BAD_REQUEST Mend "plain_http" "The port speaks HTTP over TLS, and the request came without TLS.";
    METHOD_NOT_IMPLEMENTED NOT_IMPLEMENTED Mend "method_not_implemented" "The method is CONNECT or TRACE.";
    HTTP2_NOT_OFFERED BAD_REQUEST Mend "http2_not_offered" "The client speaks HTTP/2 without asking.";
    HTTP_VERSION_NOT_SUPPORTED HTTP_VERSION_NOT_SUPPORTED Mend "http_version_not_supported" "The version is neither HTTP/1.1 nor HTTP/1.0.";
}
