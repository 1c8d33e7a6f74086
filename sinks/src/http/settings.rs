//! Settings of `type = "http"`.

use super::{BATCH_RECORDS_CEILING, HttpSink};
use crate::keyword_enum;
use crate::output::{
    Delivery, Output, OutputContext, OutputType, Patience, SinkConfig, Timing, Usual,
};
use crate::settings::{
    MIB, MINUTE_MS, Reader, bytes, file, is_word, ms, number, seconds, switch, text, texts, word,
};
use crate::sink::{CheckError, Sink, SinkFuture};
use ::http::Uri;
use ::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, HOST, HeaderName,
    HeaderValue, PROXY_AUTHORIZATION, TRANSFER_ENCODING,
};
use sluice_core::time::Wall;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A server that takes events by POST.
pub const TYPE: OutputType = OutputType {
    name: "http",
    sentence: "A server that takes batches of events by POST.",
    example: "url = \"https://events.example/ingest\"\n",
    settings: &[HttpSettings::SETTINGS, Timing::SETTINGS, Delivery::SETTINGS],
    read,
};

/// Time to fill batches: servers behind HTTP like few and large requests.
const USUAL: Usual = Usual {
    linger: Duration::from_millis(100),
    ..Usual::SERVICE
};

/// Bytes of a URL.
const URL_BYTES_MAX: usize = 2_048;
/// Bytes of a header, its name included.
const HEADER_BYTES_MAX: usize = 1_024;
/// Headers that the client writes itself, and those that would show a secret.
const NOT_OURS: [HeaderName; 8] = [
    AUTHORIZATION,
    CONNECTION,
    CONTENT_ENCODING,
    CONTENT_LENGTH,
    COOKIE,
    HOST,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
];

keyword_enum! {
    /// How events form a body.
    HttpFormat, "one of ndjson, json_array" {
        /// One per line.
        Ndjson = "ndjson",
        /// An array.
        JsonArray = "json_array",
    }
}

impl HttpFormat {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            HttpFormat::Ndjson => "application/x-ndjson",
            HttpFormat::JsonArray => "application/json",
        }
    }
}

crate::settings! {
    /// Where events are posted, and how.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct HttpSettings from (reader, record_bytes: usize, attempt: Duration) {
        /// Where batches are posted. It is printed: a secret belongs in `auth_file` or `auth_env`.
        url: String = String::new(),
            text("http:// or https://, a host without a user, at most 2048 bytes", is_url)
                .needed("an http output needs a URL");
        /// How events form a body: one per line, or a JSON array.
        format: HttpFormat = HttpFormat::Ndjson, word::<HttpFormat>();
        /// More headers; one of `content-type` replaces that of the format.
        headers: Vec<String> = Vec::new(),
            texts("headers", 32, "`name: value` of at most 1024 bytes, and none of authorization, connection, content-encoding, content-length, cookie, host, proxy-authorization, transfer-encoding", |text| header(text).is_some())
                .default_is("none");
        /// The header whose value is a secret.
        auth_header: String = AUTHORIZATION.as_str().to_owned(),
            text("1 to 64 letters, digits or -", |text| is_word(text, 64, "-"));
        /// The file with that value, for instance `Bearer …`: up to 4096 bytes, never printed, and read again when the server answers 401 or 403.
        auth_file: Option<PathBuf> = None, file().default_is("none");
        /// The environment variable with that value, in the place of a file.
        auth_env: Option<String> = None,
            text("1 to 128 letters, digits or _", |text| is_word(text, 128, "_")).default_is("none");
        /// Whether bodies are compressed.
        gzip: bool = false, switch();
        /// The certificates in PEM, at most 4 MiB, of which one must have signed the server's.
        ca_file: Option<PathBuf> = None, file().default_is("the system's root certificates");
        /// The longest that an answer's `Retry-After` is heeded; meanwhile nothing is sent.
        retry_after_max as "retry_after_max_s": Duration = Duration::from_secs(30), seconds(0, 3_600);
        /// How long one request may take, its answer included.
        attempt_timeout as "attempt_timeout_ms": Duration = attempt, ms(1, 10 * MINUTE_MS)
            .default_is("3000, at most three quarters of the time left after `linger_ms`");
        /// How long a connection may take to be established, TLS included; at most `attempt_timeout_ms`.
        connect_timeout as "connect_timeout_ms": Duration = attempt_timeout.min(Duration::from_secs(3)), ms(1, 10 * MINUTE_MS)
            .default_is("3000, at most `attempt_timeout_ms`");
        /// Events in one request.
        batch_records_max: usize = 10_000, number("records", 1, BATCH_RECORDS_CEILING as u64);
        /// Bytes of events in one request, before compression; at least the record of a largest request.
        batch_bytes_max: usize = record_bytes.max(5 << 20), bytes(1_024, 64 * MIB);
    }
}

impl HttpSettings {
    /// The defaults, for a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> HttpSettings {
        HttpSettings {
            url: url.into(),
            ..HttpSettings::read(&mut Reader::default(), 0, Duration::from_secs(3))
        }
    }

    /// The URL as it stands in logs: queries may hold secrets.
    pub(super) fn url_shown(&self) -> &str {
        self.url.split(['?', '#']).next().unwrap_or_default()
    }

    pub(super) fn destination(&self) -> String {
        format!("http server {}", self.url_shown())
    }
}

fn read(reader: &mut Reader, context: &OutputContext) -> Output {
    Output::lingering(reader, &TYPE, &USUAL, context, |reader, patience| {
        read_in_time(reader, context.record_bytes.size(), patience)
    })
}

fn read_in_time(reader: &mut Reader, record_bytes: usize, patience: &Patience) -> HttpSettings {
    let attempt = Duration::from_millis((patience.remaining_ms() * 3 / 4).min(3_000));
    let settings = HttpSettings::read(reader, record_bytes, attempt);
    let attempt = reader.number("attempt_timeout_ms");
    reader.below(
        &patience.linger.plus(&attempt),
        &patience.within,
        "the answer of a slow call would come too late",
    );
    let connect = reader.number("connect_timeout_ms");
    reader.at_most(&connect, &attempt, "connecting is a part of the attempt");
    let file = settings.auth_file.as_deref().unwrap_or(Path::new("none"));
    let file = file.to_string_lossy();
    reader.only_if(
        settings.auth_file.is_none(),
        &["auth_env"],
        "auth_file",
        &file,
    );
    settings
}

impl SinkConfig for HttpSettings {
    fn start(&self, _: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>> {
        Box::pin(async { Ok(Arc::new(HttpSink::start(self.clone())?) as Arc<dyn Sink>) })
    }
}

fn is_url(text: &str) -> bool {
    let is_http = text.starts_with("http://") || text.starts_with("https://");
    let uri = text.parse::<Uri>();
    let authority = uri.ok().and_then(|uri| uri.into_parts().authority);
    text.len() <= URL_BYTES_MAX
        && is_http
        && authority.is_some_and(|authority| !authority.as_str().contains('@'))
}

/// A header as it is written in settings.
pub(super) fn header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    let name: HeaderName = name.parse().ok()?;
    let value = HeaderValue::from_str(value.trim()).ok()?;
    let is_allowed = text.len() <= HEADER_BYTES_MAX && !NOT_OURS.contains(&name);
    is_allowed.then_some((name, value))
}
