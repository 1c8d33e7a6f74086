//! Calls of AWS's JSON protocols without the SDK's client: a body that is written once, hashed once and sent
//! as it is, and an answer that is read without a tree. Credentials, region and endpoint are those that
//! `aws-config` found. Errors have the causes that the same errors have through the SDK.

use super::{Aws, AwsSettings, CallFailure, cause_of_answer, cut};
use crate::http_client::{AGENT, Answer, HttpClient, SendError, tls};
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

/// Names of a service on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JsonService {
    /// The name that signatures are for.
    pub(crate) signing_name: &'static str,
    /// The version of the protocol as a content type.
    pub(crate) content_type: &'static str,
    /// Codes of its own for calls that come too fast.
    pub(crate) throttled: &'static [&'static str],
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
            let (code, failure) = refusal(&answer, self.service.throttled);
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
fn refusal(answer: &Answer, throttled: &[&str]) -> (String, CallFailure) {
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
    let (cause, is_auth_error) = match throttled.contains(&&*code) {
        true => (Cause::Throttled, false),
        false => cause_of_answer(&code, status),
    };
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

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::script::{Answer as Scripted, Server, Service, error, keys};
    use serde_json::json;

    const TARGET: &str = "Kinesis_20131202.PutRecords";

    async fn server() -> Server {
        Server::start(Service {
            describe: json!({}),
            stored: |_| "{}".to_owned(),
        })
        .await
    }

    async fn client(server: &Server) -> (Aws, JsonClient) {
        let settings = server.aws();
        let aws = Aws::load(&settings, "KINESIS", Some(keys())).await.unwrap();
        let service = JsonService {
            signing_name: "kinesis",
            content_type: "application/x-amz-json-1.1",
            throttled: &[],
        };
        let endpoint = aws.endpoint_url(&settings, "Kinesis").unwrap();
        let client = JsonClient::new(&aws, &settings, service, &endpoint).unwrap();
        (aws, client)
    }

    async fn call((aws, client): &(Aws, JsonClient)) -> Result<Vec<u8>, CallFailure> {
        let body = Bytes::from_static(br#"{"Records":[]}"#);
        client.call(aws, TARGET, body).await
    }

    /// What a service says whose clock is ahead of ours, and the hour that it shows.
    fn refused_ahead(code: &str, ahead_s: i64) -> (Scripted, String) {
        let now = DateTime::from(SystemTime::now()).secs();
        let date = DateTime::from_secs(now + ahead_s);
        let header = ("date", date.fmt(Format::HttpDate).unwrap());
        let hour = date.fmt(Format::DateTime).unwrap().replace(['-', ':'], "");
        let answer = Scripted::SaysWith(403, header, error(code));
        (answer, hour[..11].to_owned())
    }

    fn dates(server: &Server) -> Vec<String> {
        let script = server.script.lock().unwrap();
        script.seen.iter().map(|seen| seen.date.clone()).collect()
    }

    #[tokio::test]
    async fn a_skewed_clock_is_corrected_within_the_call() {
        for code in ["RequestTimeTooSkewed", "InvalidSignatureException"] {
            for ahead_s in [7_200, -7_200] {
                let server = server().await;
                let client = client(&server).await;
                let (answer, hour) = refused_ahead(code, ahead_s);
                server.next(answer);
                assert_eq!(call(&client).await.unwrap(), b"{}");
                assert_eq!(call(&client).await.unwrap(), b"{}");
                let dates = dates(&server);
                assert_eq!(dates.len(), 3, "one call was made twice");
                assert!(!dates[0].starts_with(&hour));
                assert!(dates[1].starts_with(&hour), "{dates:?} {hour}");
                assert!(dates[2].starts_with(&hour), "{dates:?} {hour}");
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_is_repeated_only_for_a_skewed_clock() {
        let server = server().await;
        let client = client(&server).await;
        for (code, ahead_s) in [
            ("InvalidSignatureException", 30),
            ("ExpiredTokenException", 7_200),
        ] {
            let (answer, _) = refused_ahead(code, ahead_s);
            server.next(answer);
            let failure = call(&client).await.unwrap_err();
            assert_eq!(
                (failure.cause, failure.is_auth_error),
                (Cause::Denied, true)
            );
        }
        server.next(Scripted::Says(403, error("RequestTimeTooSkewed")));
        let failure = call(&client).await.unwrap_err();
        assert_eq!(failure.text, "403 RequestTimeTooSkewed: in a few words");
        assert_eq!(dates(&server).len(), 3);
    }

    #[tokio::test]
    async fn a_clock_that_stays_wrong_is_refused_once_more() {
        let server = server().await;
        let client = client(&server).await;
        for ahead_s in [7_200, -7_200] {
            server.next(refused_ahead("RequestTimeTooSkewed", ahead_s).0);
        }
        assert_eq!(call(&client).await.unwrap_err().cause, Cause::Denied);
        assert_eq!(dates(&server).len(), 2);
    }

    #[tokio::test]
    async fn an_answer_over_the_bound_is_unknown() {
        let server = server().await;
        let client = client(&server).await;
        let at_most = "x".repeat(ANSWER_BYTES_MAX);
        server.next(Scripted::Says(200, at_most.clone()));
        assert_eq!(call(&client).await.unwrap().len(), ANSWER_BYTES_MAX);
        server.next(Scripted::Says(200, at_most + "x"));
        let failure = call(&client).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Unknown);
        assert_eq!(failure.text, "the answer has more than 4194304 bytes");
    }

    #[tokio::test]
    async fn an_endpoint_without_a_host_is_a_start_error() {
        let server = server().await;
        let (aws, client) = client(&server).await;
        let settings = server.aws();
        for endpoint in ["/path", "http://", "http://a b"] {
            let made = JsonClient::new(&aws, &settings, client.service, endpoint);
            assert!(made.err().unwrap().contains(endpoint));
        }
    }
}
