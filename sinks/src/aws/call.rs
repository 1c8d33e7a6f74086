//! Calls of AWS's JSON protocols without the SDK's client: a body that is written once, hashed once and sent
//! as it is, and an answer that is read without a tree. Credentials, region and endpoint are those that
//! `aws-config` found. Errors have the causes that the same errors have through the SDK.

use super::{Aws, AwsSettings, CallFailure, cause_of_answer, cut};
use crate::http_client::{Answer, HttpClient, SendError, tls};
use aws_credential_types::Credentials;
use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::Full;
use serde_json::Value;
use sluice_core::cause::Cause;
use std::error::Error;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Bytes of an answer: 500 entries with an id, or an error and its message of up to 2 KiB, take 1.2 MB.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// A clock that differs by less is not the reason for a refusal: the services allow for 5 minutes.
const SKEW_S: i64 = 240;
/// What refusals that the clock can be the reason for are called.
const SKEW_CODES: [&str; 5] = [
    "AccessDeniedException",
    "AuthFailure",
    "InvalidSignatureException",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
];
const AMZ_TARGET: &str = "x-amz-target";
const ERROR_TYPE: &str = "x-amzn-errortype";
const AGENT: HeaderValue = HeaderValue::from_static(concat!("sluice/", env!("CARGO_PKG_VERSION")));

/// Names of a service on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonService {
    /// The name that signatures are for.
    pub(crate) signing_name: &'static str,
    /// The version of the protocol as a content type.
    pub(crate) content_type: &'static str,
}

/// A client of one service's endpoint.
pub(crate) struct JsonClient {
    http: HttpClient,
    service: JsonService,
    uri: Uri,
    url: String,
    host: HeaderValue,
    region: String,
    within: Duration,
    /// What the service's clock is ahead of ours, in seconds, as refusals told.
    skew_s: AtomicI64,
}

impl JsonClient {
    /// # Errors
    /// The endpoint is no URL, there is no region, or there are no certificates to trust.
    pub(crate) fn new(
        aws: &Aws,
        settings: &AwsSettings,
        service: JsonService,
        endpoint: &str,
    ) -> Result<JsonClient, String> {
        let region = aws.config.region().ok_or("no region")?.to_string();
        let url = format!("{}/", endpoint.trim_end_matches('/'));
        let wrong = |why: &dyn std::fmt::Display| format!("endpoint {endpoint:?}: {why}");
        let uri: Uri = url.parse().map_err(|error| wrong(&error))?;
        let host = uri.authority().ok_or_else(|| wrong(&"it names no host"))?;
        let host = HeaderValue::from_str(host.as_str()).map_err(|error| wrong(&error))?;
        Ok(JsonClient {
            http: HttpClient::new(&uri, tls(&uri, None)?, settings.connect_timeout),
            service,
            uri,
            url,
            host,
            region,
            within: settings.attempt_timeout,
            skew_s: AtomicI64::new(0),
        })
    }

    /// Makes a call and returns the body of its successful answer. The body is sent a second time only if the
    /// service refused the first for our clock.
    pub(crate) async fn call(
        &self,
        aws: &Aws,
        target: &'static str,
        body: Bytes,
    ) -> Result<Vec<u8>, CallFailure> {
        let hash = hex(digest(&SHA256, &body).as_ref());
        let deadline = Instant::now() + self.within;
        let mut is_again = false;
        loop {
            let request = self.request(aws, target, &body, &hash)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.http.send(request, left, ANSWER_BYTES_MAX).await;
            let answer = answer.map_err(|error| unanswered(&error))?;
            if answer.status.is_success() {
                return Ok(answer.body);
            }
            let (code, failure) = refusal(&answer);
            if is_again || !SKEW_CODES.contains(&&*code) || !self.learn_skew(&answer) {
                return Err(failure);
            }
            is_again = true;
        }
    }

    fn request(
        &self,
        aws: &Aws,
        target: &'static str,
        body: &Bytes,
        hash: &str,
    ) -> Result<Request<Full<Bytes>>, CallFailure> {
        let credentials = aws.held_credentials().ok_or_else(|| CallFailure {
            cause: Cause::Denied,
            is_auth_error: true,
            text: "no AWS credentials were found yet".to_owned(),
        })?;
        self.signed(credentials, target, body, hash)
            .map_err(|error| CallFailure::not_sent(&*error))
    }

    fn signed(
        &self,
        credentials: Credentials,
        target: &'static str,
        body: &Bytes,
        hash: &str,
    ) -> Result<Request<Full<Bytes>>, Box<dyn Error>> {
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.service.signing_name)
            .time(self.now())
            .settings(SigningSettings::default())
            .build()?
            .into();
        let signed_headers = [
            (HOST.as_str(), self.host.to_str()?),
            (CONTENT_TYPE.as_str(), self.service.content_type),
            (AMZ_TARGET, target),
        ];
        let signable = SignableRequest::new(
            Method::POST.as_str(),
            self.url.as_str(),
            signed_headers.into_iter(),
            SignableBody::Precomputed(hash.to_owned()),
        )?;
        let (signature, _) = sign(signable, &params)?.into_parts();
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.uri.clone())
            .header(HOST, self.host.clone())
            .header(CONTENT_TYPE, self.service.content_type)
            .header(AMZ_TARGET, target)
            .header(USER_AGENT, AGENT)
            .body(Full::new(body.clone()))?;
        signature.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    /// The time that the service's clock shows, as far as known.
    fn now(&self) -> SystemTime {
        let skew_s = self.skew_s.load(Ordering::Relaxed);
        let skew = Duration::from_secs(skew_s.unsigned_abs());
        let now = SystemTime::now();
        let shifted = match skew_s < 0 {
            true => now.checked_sub(skew),
            false => now.checked_add(skew),
        };
        shifted.filter(|at| super::is_signable(*at)).unwrap_or(now)
    }

    /// Whether the answer's date says that the call was signed for a wrong time; then the next is signed for
    /// a right one.
    fn learn_skew(&self, answer: &Answer) -> bool {
        let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
        let date = date.and_then(|date| DateTime::from_str(date, Format::HttpDate).ok());
        let Some(date) = date else {
            return false;
        };
        let skew_s = date
            .secs()
            .saturating_sub(DateTime::from(SystemTime::now()).secs());
        let before = self.skew_s.load(Ordering::Relaxed);
        let is_wrong = skew_s.abs_diff(before) >= SKEW_S.unsigned_abs();
        if is_wrong {
            self.skew_s.store(skew_s, Ordering::Relaxed);
            tracing::warn!(
                skew_s,
                "this host's clock is wrong: AWS calls are signed for the service's time"
            );
        }
        is_wrong
    }
}

/// A call without an answer. Only a call that was never sent is known not to have been carried out.
fn unanswered(error: &SendError) -> CallFailure {
    let cause = match error {
        SendError::NotConnected(_) => Cause::Unavailable,
        SendError::Lost(_) | SendError::TooLong { .. } | SendError::TimedOut { .. } => {
            Cause::Unknown
        }
    };
    CallFailure {
        cause,
        is_auth_error: false,
        text: cut(&error.to_string()),
    }
}

/// The code of an answer that is no success, and its meaning.
fn refusal(answer: &Answer) -> (String, CallFailure) {
    let status = answer.status.as_u16();
    let (code, message) = match error_body(&answer.body) {
        Ok(members) => {
            let header = answer.headers.get(ERROR_TYPE);
            let header = header.and_then(|code| code.to_str().ok());
            let member = |name: &str| members.get(name).and_then(Value::as_str);
            let code = header.or(member("code")).or(member("__type"));
            let message = member("message").or(member("Message"));
            (code.map(bare_code), message.map(str::to_owned))
        }
        Err(error) => (None, Some(format!("unreadable body: {error}"))),
    };
    let code = code.unwrap_or_default();
    let (cause, is_auth_error) = cause_of_answer(&code, status);
    let shown = match code.as_str() {
        "" => "no error code",
        code => code,
    };
    let message = message.as_deref().unwrap_or("no message");
    let failure = CallFailure {
        cause,
        is_auth_error,
        text: cut(&format!("{status} {shown}: {message}")),
    };
    (code, failure)
}

/// The members of an error's body, which may be empty where a header has the code.
fn error_body(body: &[u8]) -> Result<Value, serde_json::Error> {
    match body {
        b"" => Ok(Value::Null),
        body => serde_json::from_slice(body),
    }
}

/// A code without the namespace before it and the address behind it.
fn bare_code(code: &str) -> String {
    let code = code.split_once(':').map_or(code, |(code, _)| code);
    let code = code.split_once('#').map_or(code, |(_, code)| code);
    code.to_owned()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
