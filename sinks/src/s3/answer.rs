//! What a store's answers say: of an object that was sent, and of the reason for a refusal.

use super::pack::Packed;
use crate::aws::{CallFailure, cause_of_answer, cut};
use crate::http_client::Answer;
use aws_smithy_xml::decode::{Document, XmlDecodeError, try_data};
use http::StatusCode;
use sluice_core::cause::Cause;

const ENCRYPTION: &str = "x-amz-server-side-encryption";
const CUSTOMER_KEY: &str = "x-amz-server-side-encryption-customer-key-md5";
pub(super) const BUCKET_REGION: &str = "x-amz-bucket-region";
const REQUEST_IDS: [&str; 2] = ["x-amz-request-id", "x-amzn-requestid"];
/// The reason for a refusal of a call that was signed for another region than the bucket's.
const OTHER_REGION: &str = "AuthorizationHeaderMalformed";

/// The body of an error.
#[derive(Debug, Default, PartialEq, Eq)]
struct ErrorBody {
    code: String,
    message: Option<String>,
    region: Option<String>,
}

impl ErrorBody {
    /// `None` when the body is something else.
    fn read(body: &[u8]) -> Result<Option<ErrorBody>, XmlDecodeError> {
        let mut document = Document::try_from(body)?;
        let mut root = document.root_element()?;
        if !root.start_el().matches("Error") {
            return Ok(None);
        }
        let mut read = ErrorBody::default();
        while let Some(mut element) = root.next_tag() {
            match element.start_el().local() {
                "Code" => read.code = try_data(&mut element)?.into_owned(),
                "Message" => read.message = Some(try_data(&mut element)?.into_owned()),
                "Region" => read.region = Some(try_data(&mut element)?.into_owned()),
                _ => {}
            }
        }
        Ok(Some(read))
    }
}

/// A header's text; empty when it was not sent.
pub(super) fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let value = answer.headers.get(name);
    value.and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// What an unsuccessful answer calls the reason; empty when it names none.
pub(super) fn code(answer: &Answer) -> String {
    let read = ErrorBody::read(&answer.body).ok().flatten();
    read.unwrap_or_default().code
}

/// An answer that is no success, to a call that was made in `region`.
pub(super) fn refusal(answer: &Answer, region: &str) -> CallFailure {
    let status = answer.status.as_u16();
    let read = match &answer.body[..] {
        // An answer to HEAD.
        b"" => Ok(None),
        body => ErrorBody::read(body),
    };
    let unreadable = read.as_ref().err().map(ToString::to_string);
    let error = read.ok().flatten().unwrap_or_default();
    let found = match (header(answer, BUCKET_REGION), &error.region) {
        ("", Some(found)) => found,
        (found, _) => found,
    };
    if !found.is_empty()
        && found != region
        && (answer.status == StatusCode::MOVED_PERMANENTLY || error.code == OTHER_REGION)
    {
        return failure(
            Cause::NotFound,
            &format!(
                "{status}: the bucket is in region {found:.64}, the call was made in {region}"
            ),
        );
    }
    let (cause, is_auth_error) = cause_of_answer(&error.code, status);
    let shown = match &*error.code {
        "" => "no error code",
        code => code,
    };
    let message = match (error.message, unreadable) {
        (Some(message), _) => message,
        (None, Some(error)) => format!("unreadable body: {error}"),
        (None, None) => "no message".to_owned(),
    };
    CallFailure {
        cause,
        is_auth_error,
        text: cut(&format!("{status} {shown}: {message}")),
    }
}

/// The result of a PutObject under a unique key, of which an earlier call `may_have_stored` the object. Anything less
/// than the store's own word is a failure: the caller deletes the only other copy.
pub(super) fn of_put(
    answer: &Answer,
    packed: &Packed,
    may_have_stored: bool,
    region: &str,
) -> Result<(), CallFailure> {
    if answer.status == StatusCode::PRECONDITION_FAILED {
        return match (&*code(answer), may_have_stored) {
            ("PreconditionFailed", true) => Ok(()),
            ("PreconditionFailed", false) => Err(failure(
                Cause::Invalid,
                "412 PreconditionFailed for a key that was never sent before",
            )),
            _ => Err(failure(
                Cause::Unknown,
                "412 without the code PreconditionFailed is no store's answer",
            )),
        };
    }
    // The service sends its status before all is done, and says so in the body when it comes to nothing.
    if !answer.status.is_success() || is_error(&answer.body) {
        return Err(refusal(answer, region));
    }
    check_stored(answer, packed)
}

fn is_error(body: &[u8]) -> bool {
    !body.is_empty() && ErrorBody::read(body).is_ok_and(|read| read.is_some())
}

/// Whether an answer to a call is the store's. Every store returns an ETag: the body's MD5, unless the object is
/// encrypted with a key that the store says it used, or the store has its own way, and gives the request an id.
fn check_stored(answer: &Answer, packed: &Packed) -> Result<(), CallFailure> {
    let tag = header(answer, "etag").trim_matches('"');
    let is_md5 = tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_key = !header(answer, CUSTOMER_KEY).is_empty()
        || !matches!(header(answer, ENCRYPTION), "" | "AES256");
    let is_stored = match (tag, is_md5 && !has_key) {
        ("", _) => {
            return Err(failure(
                Cause::Unknown,
                "200 without an ETag is no store's answer",
            ));
        }
        (tag, true) => tag.eq_ignore_ascii_case(&packed.etag),
        (_, false) => has_key || REQUEST_IDS.iter().any(|id| !header(answer, id).is_empty()),
    };
    match is_stored {
        true => Ok(()),
        false => Err(failure(
            Cause::Unknown,
            &format!(
                "200 with the ETag {tag:.64}, the body's MD5 is {}",
                packed.etag
            ),
        )),
    }
}

fn failure(cause: Cause, text: &str) -> CallFailure {
    CallFailure {
        cause,
        is_auth_error: false,
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    fn answer(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answer {
        let header = |(name, value): &(&'static str, &'static str)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(header).collect::<HeaderMap>(),
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn a_refusal_shows_code_and_message() {
        let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code>\
                    <Message>Please &lt;reduce&gt; your rate.</Message><Resource/></Error>";
        let failure = refusal(&answer(503, &[], body), "eu-west-1");
        assert_eq!(failure.cause, Cause::Throttled);
        assert_eq!(failure.text, "503 SlowDown: Please <reduce> your rate.");
        let failure = refusal(&answer(404, &[], ""), "eu-west-1");
        assert_eq!(failure.cause, Cause::NotFound);
        assert_eq!(failure.text, "404 no error code: no message");
        let failure = refusal(&answer(403, &[], "{\"not\": \"XML\"}"), "eu-west-1");
        assert_eq!(failure.cause, Cause::Denied);
        assert!(
            failure
                .text
                .starts_with("403 no error code: unreadable body: ")
        );
    }

    #[test]
    fn a_bucket_of_another_region_is_named_with_its_region() {
        let region = [(BUCKET_REGION, "us-west-2")];
        let moved = "<Error><Code>PermanentRedirect</Code></Error>";
        let signed =
            "<Error><Code>AuthorizationHeaderMalformed</Code><Region>us-west-2</Region></Error>";
        for answer in [
            answer(301, &region, ""),
            answer(301, &region, moved),
            answer(400, &[], signed),
        ] {
            let failure = refusal(&answer, "eu-west-1");
            assert_eq!(failure.cause, Cause::NotFound);
            assert!(failure.text.contains("us-west-2"), "{}", failure.text);
            assert!(failure.text.contains("eu-west-1"), "{}", failure.text);
        }
        // Something on the way, which knows no bucket.
        let failure = refusal(&answer(301, &[], "<html/>"), "eu-west-1");
        assert_eq!(failure.cause, Cause::Unknown);
    }

    proptest! {
        #[test]
        fn any_body_of_an_answer_is_read_without_a_panic(
            body in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..80),
                "(<(/?(Error|Code|Message|a:b)|!--|\\?xml|!\\[CDATA\\[)[ >/=\"&;]{0,3}[a-z]{0,2}){0,8}"
                    .prop_map(String::into_bytes),
            ]
        ) {
            let _ = ErrorBody::read(&body);
        }
    }
}
