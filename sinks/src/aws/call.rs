//! Calls of AWS's JSON protocols, in JSON or in CBOR, without the SDK's client: a body that is written once, and an
//! answer that is read without a tree. Errors have the causes that the same errors have through the SDK.

use super::signed::{Call, SignedClient, Signing};
use super::{Aws, AwsSettings, CallFailure, cause_of_answer, cbor, cut, unreadable};
use crate::http_client::Answer;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use serde_json::Value;
use sluice_core::cause::Cause;

/// Bytes of an answer: 500 entries with an id, or an error and its message of up to 2 KiB, take 1.2 MB.
const ANSWER_BYTES_MAX: usize = 4 << 20;
static AMZ_TARGET: HeaderName = HeaderName::from_static("x-amz-target");
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
    client: SignedClient,
    service: JsonService,
    uri: Uri,
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
        let wrong = |why: &dyn std::fmt::Display| format!("endpoint {endpoint:?}: {why}");
        let url = format!("{}/", endpoint.trim_end_matches('/'));
        let uri: Uri = url.parse().map_err(|error| wrong(&error))?;
        let signing = Signing {
            name: service.signing_name,
            is_s3: false,
        };
        let client = SignedClient::new(aws, settings, signing, &uri, ANSWER_BYTES_MAX)
            .map_err(|error| wrong(&error))?;
        Ok(JsonClient {
            client,
            service,
            uri,
        })
    }

    /// Makes a call and returns the body of its successful answer.
    pub(crate) async fn call(
        &self,
        aws: &Aws,
        target: &'static str,
        body: Bytes,
    ) -> Result<Vec<u8>, CallFailure> {
        let answer = self.send(aws, target, self.service.content_type, body);
        let answer = answer.await?;
        match answer.status.is_success() {
            true => Ok(answer.body),
            false => Err(refusal(&answer, self.service.throttled).1),
        }
    }

    /// The same in CBOR.
    pub(crate) async fn call_in_cbor(
        &self,
        aws: &Aws,
        target: &'static str,
        body: Bytes,
    ) -> Result<Vec<u8>, CborFailure> {
        let answer = self.send(aws, target, cbor::CONTENT_TYPE, body).await?;
        let is_cbor = is_cbor(&answer);
        if answer.status.is_success() && is_cbor {
            return Ok(answer.body);
        }
        let failure = match answer.status.is_success() {
            true => unreadable(&"it is no CBOR"),
            false => refusal(&answer, self.service.throttled).1,
        };
        Err(CborFailure {
            failure,
            other_status: (!is_cbor).then_some(answer.status),
        })
    }

    async fn send(
        &self,
        aws: &Aws,
        target: &'static str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Answer, CallFailure> {
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(content_type)),
            (AMZ_TARGET.clone(), HeaderValue::from_static(target)),
        ];
        let call = Call {
            method: Method::POST,
            uri: &self.uri,
            headers: &headers,
            body,
        };
        let code = |answer: &Answer| refusal(answer, self.service.throttled).0;
        self.client.send(aws, &call, code).await
    }
}

/// Why a call in CBOR failed.
pub(crate) struct CborFailure {
    pub(crate) failure: CallFailure,
    /// The status of an answer that was not in CBOR: whoever gave it may not read any.
    pub(crate) other_status: Option<StatusCode>,
}

impl From<CallFailure> for CborFailure {
    fn from(failure: CallFailure) -> CborFailure {
        CborFailure {
            failure,
            other_status: None,
        }
    }
}

fn is_cbor(answer: &Answer) -> bool {
    let content_type = answer.headers.get(CONTENT_TYPE);
    content_type.is_some_and(|of| of.as_bytes().starts_with(cbor::CONTENT_TYPE.as_bytes()))
}

/// The code of an answer that is no success, and its meaning.
fn refusal(answer: &Answer, throttled: &[&str]) -> (String, CallFailure) {
    let status = answer.status.as_u16();
    let (code, message) = match error_body(answer) {
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
fn error_body(answer: &Answer) -> Result<Value, String> {
    match &*answer.body {
        b"" => Ok(Value::Null),
        body if is_cbor(answer) => cbor::read(body),
        body => serde_json::from_slice(body).map_err(|error| error.to_string()),
    }
}

/// A code without the namespace before it and the address behind it.
fn bare_code(code: &str) -> String {
    let code = code.split_once(':').map_or(code, |(code, _)| code);
    let code = code.split_once('#').map_or(code, |(_, code)| code);
    code.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::script::{Answer as Scripted, Server, Service, error, keys};
    use aws_smithy_types::DateTime;
    use aws_smithy_types::date_time::Format;
    use serde_json::json;
    use std::time::SystemTime;

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
