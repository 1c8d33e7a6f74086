//! The door of a proxy, as a client of its events sees it: one POST, and what the answer says.

use crate::http_client::{AGENT, HttpClient, tls};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Request, Uri};
use http_body_util::Full;
use std::time::Duration;

/// To connect, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// From a request to the end of its answer: more than any ack deadline.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// Bytes of an answer: it lists at most a hundred events.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where events are posted to.
pub struct Door {
    client: HttpClient,
    uri: Uri,
    host: HeaderValue,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its status.
    pub status: u16,
    /// What its `Retry-After` asks for.
    pub retry_after: Option<Duration>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Door {
    /// The door at a URL.
    ///
    /// # Errors
    /// It is no URL of HTTP, or there are no certificates to trust.
    pub fn new(url: &str) -> Result<Door, String> {
        let uri: Uri = url.parse().map_err(|error| format!("{url}: {error}"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(format!("{url}: expected http://host[:port]/path, or https"));
        }
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(host).map_err(|error| format!("{url}: {error}"))?;
        let client = HttpClient::new(&uri, tls(&uri, None)?, CONNECT_WITHIN);
        Ok(Door { client, uri, host })
    }

    /// Posts a body of JSON events.
    ///
    /// # Errors
    /// There is no answer; the events may be stored all the same.
    pub async fn post(&self, body: Bytes) -> Result<Heard, String> {
        let request = Request::post(self.uri.clone())
            .header(HOST, self.host.clone())
            .header(USER_AGENT, AGENT)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let answer = self.client.send(request, ANSWER_WITHIN, ANSWER_BYTES_MAX);
        let answer = answer.await.map_err(|error| error.to_string())?;
        let retry_after = answer.headers.get(RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Heard {
            status: answer.status.as_u16(),
            retry_after: retry_after.map(Duration::from_secs),
            body: answer.body,
        })
    }
}
