//! POST to any server: one request per batch, as lines or as an array. A batch is delivered when the server
//! answers 2xx and the answer is read to its end; nothing follows a redirect.

mod auth;
mod body;
mod settings;
#[cfg(test)]
mod tests;
mod verdict;

pub use settings::{HttpFormat, HttpSettings, TYPE};

use crate::http_client::{AGENT, Answer, HttpClient, SendError, tls};
use crate::rate_limited_log::RateLimitedLog;
use crate::sink::{CheckError, Sink, SinkFuture, SinkLimits};
use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use ::http::{Method, Request, Uri};
use auth::Auth;
use bytes::Bytes;
use http_body_util::Full;
use sluice_core::cause::Cause;
use sluice_core::record::{Record, RecordResult};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

/// Events in one request.
const BATCH_RECORDS_CEILING: usize = 100_000;
/// Bytes of an answer: receipts and errors are short. An answer that is longer is not taken for a receipt.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// As it stands in the log.
const CALL: &str = "POST";

/// Posts events to one URL.
pub struct HttpSink {
    client: HttpClient,
    uri: Uri,
    headers: HeaderMap,
    auth: Option<Auth>,
    settings: HttpSettings,
    /// Until when the server asked to be left alone, and what that means for records meanwhile.
    pause: Mutex<Option<(Instant, Cause)>>,
    failure_log: RateLimitedLog,
}

impl HttpSink {
    /// Reads the files that the settings name. Connections live on the current tokio runtime: the sink has to
    /// be used on it.
    ///
    /// # Errors
    /// A setting is out of its range, or a file or variable cannot be used.
    pub fn start(settings: HttpSettings) -> Result<HttpSink, CheckError> {
        let named = settings.destination();
        let fail = |reason| CheckError {
            destination: named.clone(),
            reason,
        };
        if let Some(problem) = settings.out_of_bounds() {
            return Err(fail(problem.to_string()));
        }
        let uri: Uri = settings
            .url
            .parse()
            .map_err(|error| fail(format!("`url`: {error}")))?;
        let trusted = tls(&uri, settings.ca_file.as_deref()).map_err(fail)?;
        let auth = Auth::of(&settings).map_err(|error| fail(error.to_string()))?;
        Ok(HttpSink {
            client: HttpClient::new(&uri, trusted, settings.connect_timeout),
            uri,
            headers: headers(&settings).map_err(fail)?,
            auth,
            settings,
            pause: Mutex::new(None),
            failure_log: RateLimitedLog::default(),
        })
    }

    async fn put(&self, records: &[Record]) -> Vec<RecordResult> {
        if let Some(cause) = self.paused() {
            return vec![RecordResult::Retry(cause); records.len()];
        }
        let mut results = vec![RecordResult::Refused(Cause::Invalid); records.len()];
        let mut events: Vec<&[u8]> = Vec::with_capacity(records.len());
        let mut sent = Vec::with_capacity(records.len());
        for (record, result) in records.iter().zip(&mut results) {
            if body::is_sendable(&record.payload, self.settings.format) {
                events.push(&record.payload);
                sent.push(result);
            }
        }
        if events.is_empty() {
            return results;
        }
        let result = self.post(&events).await;
        sent.into_iter().for_each(|slot| *slot = result);
        results
    }

    /// Posts events, and returns the result of each.
    async fn post(&self, events: &[&[u8]]) -> RecordResult {
        let body = body::body(events, &self.settings);
        let answer = match self.send(Method::POST, body).await {
            Ok(answer) => answer,
            Err(error) => {
                let cause = match error {
                    SendError::NotConnected(_) => Cause::Unavailable,
                    _ => Cause::Unknown,
                };
                self.warn(cause, &error.to_string());
                return RecordResult::Retry(cause);
            }
        };
        let result = verdict::result(answer.status, &answer.headers, events.len());
        if let RecordResult::Retry(cause) | RecordResult::Refused(cause) = result {
            self.warn(cause, &verdict::text(&answer));
            self.learn(&answer, cause);
        }
        result
    }

    /// What an answer says of later requests.
    fn learn(&self, answer: &Answer, cause: Cause) {
        if cause == Cause::Denied
            && let Some(auth) = &self.auth
            && let Err(error) = auth.read_again()
        {
            self.warn(cause, &error.to_string());
        }
        let wait = verdict::retry_after(&answer.headers, SystemTime::now());
        let wait = wait.map(|wait| wait.min(self.settings.retry_after_max));
        let until = wait.and_then(|wait| Instant::now().checked_add(wait));
        if let (Some(until), Cause::Throttled | Cause::Unavailable | Cause::Unknown) =
            (until, cause)
        {
            *self.pause.lock().unwrap_or_else(PoisonError::into_inner) = Some((until, cause));
        }
    }

    fn paused(&self) -> Option<Cause> {
        let mut pause = self.pause.lock().unwrap_or_else(PoisonError::into_inner);
        match *pause {
            // Nothing was sent: whatever the earlier answer meant, these records are not stored.
            Some((until, cause)) if Instant::now() < until => Some(match cause {
                Cause::Throttled => Cause::Throttled,
                _ => Cause::Unavailable,
            }),
            _ => {
                *pause = None;
                None
            }
        }
    }

    async fn send(&self, method: Method, body: Vec<u8>) -> Result<Answer, SendError> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        if let Some(auth) = &self.auth {
            let (name, value) = auth.header();
            request.headers_mut().insert(name, value);
        }
        self.client
            .send(request, self.settings.attempt_timeout, ANSWER_BYTES_MAX)
            .await
    }

    fn warn(&self, cause: Cause, text: &str) {
        self.failure_log
            .warn(CALL, self.settings.url_shown(), cause, text);
    }

    /// Asks what the server knows of the URL: no request without an event would tell more, and no other is
    /// harmless everywhere.
    async fn describe(&self) -> Result<String, CheckError> {
        let destination = self.settings.destination();
        let reason = match self.send(Method::OPTIONS, Vec::new()).await {
            Ok(answer) if verdict::is_usable(answer.status) => {
                let status = answer.status.as_u16();
                return Ok(format!("{destination}: answers OPTIONS with {status}"));
            }
            Ok(answer) => verdict::text(&answer),
            Err(error) => error.to_string(),
        };
        Err(CheckError {
            destination,
            reason,
        })
    }
}

/// Headers of every request, except the secret one.
fn headers(settings: &HttpSettings) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(settings.format.content_type()),
    );
    for header in &settings.headers {
        let (name, value) =
            settings::header(header).ok_or_else(|| format!("`headers`: {header:?}"))?;
        headers.insert(name, value);
    }
    if settings.gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(headers)
}

impl Sink for HttpSink {
    fn limits(&self) -> SinkLimits {
        SinkLimits {
            batch_records_max: self.settings.batch_records_max,
            batch_bytes_max: self.settings.batch_bytes_max,
            record_bytes_max: self.settings.batch_bytes_max,
        }
    }

    fn write<'a>(&'a self, records: &'a [Record]) -> SinkFuture<'a, Vec<RecordResult>> {
        Box::pin(self.put(records))
    }

    fn check(&self) -> SinkFuture<'_, Result<String, CheckError>> {
        Box::pin(self.describe())
    }
}
