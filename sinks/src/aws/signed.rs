//! Signed calls of AWS services without the SDK's client: a body that is hashed once and sent as it is, and a second
//! attempt only where the service refused the first for our clock. Credentials, region and endpoint are those that
//! `aws-config` found. Knows no protocol: what an answer says is for its caller to read.

use super::{Aws, AwsSettings, CallFailure, cut};
use crate::http_client::{AGENT, Answer, HttpClient, SendError, tls};
use aws_credential_types::Credentials;
use aws_lc_rs::digest::{SHA256, digest};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::header::{DATE, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Uri};
use http_body_util::Full;
use sluice_core::cause::Cause;
use std::error::Error;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

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

/// How a service wants its calls signed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Signing {
    /// The name that signatures are for.
    pub(crate) name: &'static str,
    /// S3 signs a path as it is sent, and wants the hash of the body in a header.
    pub(crate) is_s3: bool,
}

/// A call before it is signed.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// With scheme and host.
    pub(crate) uri: &'a Uri,
    /// Signed as well.
    pub(crate) headers: &'a [(HeaderName, HeaderValue)],
    pub(crate) body: Bytes,
}

/// A client of one host.
pub(crate) struct SignedClient {
    http: HttpClient,
    signing: Signing,
    host: HeaderValue,
    region: String,
    within: Duration,
    answer_bytes_max: usize,
    /// What the service's clock is ahead of ours, in seconds, as refusals told.
    skew_s: AtomicI64,
}

impl SignedClient {
    /// A client of the host of `uri`, whose answers have at most `answer_bytes_max` bytes.
    ///
    /// # Errors
    /// The address names no host, there is no region, or there are no certificates to trust.
    pub(crate) fn new(
        aws: &Aws,
        settings: &AwsSettings,
        signing: Signing,
        uri: &Uri,
        answer_bytes_max: usize,
    ) -> Result<SignedClient, String> {
        let region = aws.config.region().ok_or("no region")?.to_string();
        let host = uri.authority().ok_or("it names no host")?;
        let host = HeaderValue::from_str(host.as_str()).map_err(|error| error.to_string())?;
        Ok(SignedClient {
            http: HttpClient::new(uri, tls(uri, None)?, settings.connect_timeout),
            signing,
            host,
            region,
            within: settings.attempt_timeout,
            answer_bytes_max,
            skew_s: AtomicI64::new(0),
        })
    }

    /// Makes a call and returns its answer, whatever that says. The body is sent a second time only if the
    /// service refused the first for our clock; `code_of` reads what an unsuccessful answer calls the reason.
    pub(crate) async fn send(
        &self,
        aws: &Aws,
        call: &Call<'_>,
        code_of: impl Fn(&Answer) -> String,
    ) -> Result<Answer, CallFailure> {
        let hash = hex(digest(&SHA256, &call.body).as_ref());
        let deadline = Instant::now() + self.within;
        let mut is_again = false;
        loop {
            let request = self.request(aws, call, &hash)?;
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = self.http.send(request, left, self.answer_bytes_max).await;
            let answer = answer.map_err(|error| unanswered(&error))?;
            if answer.status.is_success()
                || is_again
                || !SKEW_CODES.contains(&&*code_of(&answer))
                || !self.learn_skew(&answer)
            {
                return Ok(answer);
            }
            is_again = true;
        }
    }

    fn request(
        &self,
        aws: &Aws,
        call: &Call<'_>,
        hash: &str,
    ) -> Result<Request<Full<Bytes>>, CallFailure> {
        let credentials = aws.held_credentials().ok_or_else(|| CallFailure {
            cause: Cause::Denied,
            is_auth_error: true,
            text: "no AWS credentials were found yet".to_owned(),
        })?;
        self.signed(credentials, call, hash)
            .map_err(|error| CallFailure::not_sent(&*error))
    }

    fn signed(
        &self,
        credentials: Credentials,
        call: &Call<'_>,
        hash: &str,
    ) -> Result<Request<Full<Bytes>>, Box<dyn Error>> {
        let identity = credentials.into();
        let mut settings = SigningSettings::default();
        if self.signing.is_s3 {
            settings.percent_encoding_mode = PercentEncodingMode::Single;
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
            settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        }
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(self.signing.name)
            .time(self.now())
            .settings(settings)
            .build()?
            .into();
        let mut signed_headers = Vec::with_capacity(call.headers.len() + 1);
        signed_headers.push((HOST.as_str(), self.host.to_str()?));
        for (name, value) in call.headers {
            signed_headers.push((name.as_str(), value.to_str()?));
        }
        let signable = SignableRequest::new(
            call.method.as_str(),
            call.uri.to_string(),
            signed_headers.into_iter(),
            SignableBody::Precomputed(hash.to_owned()),
        )?;
        let (signature, _) = sign(signable, &params)?.into_parts();
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(call.uri.clone())
            .header(HOST, self.host.clone())
            .header(USER_AGENT, AGENT)
            .body(Full::new(call.body.clone()))?;
        let headers = call.headers.iter().cloned();
        request.headers_mut().extend(headers);
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

pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}
