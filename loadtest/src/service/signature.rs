//! AWS Signature Version 4 as a service sees it: whether a call is signed, in the right form, and
//! with a given key. Signs nothing; knows neither sessions nor permissions. Chunks of a streamed
//! body are not verified, only the request's head that announces them.

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use hyper::http::request::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::time::{Duration, SystemTime};

/// Allowed difference between a signature's date and the emulator's clock, as with the service.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(15 * 60);

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// Bytes that a canonical request does not escape.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Like [`ESCAPED`], for whole paths.
const ESCAPED_PATH: &AsciiSet = &ESCAPED.remove(b'/');

/// Whether calls have to be signed (Signature Version 4, in the `Authorization` header).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Signatures {
    /// Signatures are not looked at.
    #[default]
    Ignored,
    /// A signature must be there, well formed, for this service and of now. Its value is not
    /// checked, so any key works.
    Present,
    /// The signature must be right with this key.
    Verified(Key),
}

/// An access key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// Why a call's signature is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SignatureProblem {
    #[error("Missing Authentication Token")]
    Missing,
    #[error("{0}")]
    Malformed(String),
    #[error("The security token included in the request is invalid.")]
    UnknownKey,
    #[error("Signature not yet current or expired: x-amz-date is over 15 minutes off.")]
    Skewed,
    #[error(
        "The request signature we calculated does not match the signature you provided. Check \
         your AWS Secret Access Key and signing method. Consult the service documentation for \
         details."
    )]
    Mismatch,
    #[error("The provided 'x-amz-content-sha256' header does not match what was computed.")]
    BodyHash,
}

/// A parsed `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
struct Authorization<'a> {
    key_id: &'a str,
    /// Date, region, service and `aws4_request`.
    scope: &'a str,
    date: &'a str,
    region: &'a str,
    service: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Result<Authorization<'a>, SignatureProblem> {
        let malformed = |what: &str| {
            let message = format!("Authorization header requires {what}. Authorization={text}");
            SignatureProblem::Malformed(message)
        };
        let fields = text
            .strip_prefix(ALGORITHM)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or_else(|| malformed(&format!("the algorithm '{ALGORITHM}'")))?;
        let field = |name: &str| {
            let mut fields = fields.split(',').map(str::trim);
            let value = fields.find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
            value.ok_or_else(|| malformed(&format!("'{name}' parameter")))
        };
        let (credential, signed_headers) = (field("Credential")?, field("SignedHeaders")?);
        let signature = field("Signature")?;
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if signature.len() != 64 || !signature.bytes().all(hex) {
            return Err(malformed("a Signature of 64 lower-case hex digits"));
        }
        let scope_rule = || malformed("a Credential of id/date/region/service/aws4_request");
        let (key_id, scope) = credential.split_once('/').ok_or_else(scope_rule)?;
        let mut words = scope.split('/');
        let mut word = || words.next().filter(|word| !word.is_empty());
        let (Some(date), Some(region), Some(service), Some("aws4_request"), None) =
            (word(), word(), word(), word(), words.next())
        else {
            return Err(scope_rule());
        };
        Ok(Authorization {
            key_id,
            scope,
            date,
            region,
            service,
            signed_headers,
            signature,
        })
    }
}

/// The region that a call is signed for.
pub(super) fn region(head: &Parts) -> Option<&str> {
    let text = head.headers.get(AUTHORIZATION)?.to_str().ok()?;
    Some(Authorization::parse(text).ok()?.region)
}

/// Checks a call of `service` as `signatures` ask for.
pub(super) fn check(
    signatures: &Signatures,
    service: &str,
    head: &Parts,
    body: &[u8],
    now: SystemTime,
) -> Result<(), SignatureProblem> {
    if *signatures == Signatures::Ignored {
        return Ok(());
    }
    let malformed = |message: String| Err(SignatureProblem::Malformed(message));
    let Some(header) = head.headers.get(AUTHORIZATION) else {
        return Err(SignatureProblem::Missing);
    };
    let text = header
        .to_str()
        .map_err(|_| SignatureProblem::Malformed("Authorization is no ASCII text.".to_owned()))?;
    let said = Authorization::parse(text)?;
    if said.service != service {
        let service = said.service;
        return malformed(format!(
            "Credential is scoped to another service: {service}"
        ));
    }
    let mut signed = said.signed_headers.split(';');
    if !signed.any(|name| name == "host") {
        return malformed("'Host' or ':authority' must be a 'SignedHeader'.".to_owned());
    }
    let Some(date) = text_of(&head.headers, "x-amz-date") else {
        return malformed("Authorization header requires existence of 'X-Amz-Date'.".to_owned());
    };
    let Ok(civil) = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date) else {
        return malformed(format!(
            "X-Amz-Date must be in ISO8601 'basic format'. Got '{date}'."
        ));
    };
    if !date.starts_with(said.date) || said.date.len() != 8 {
        let scope = said.date;
        return malformed(format!(
            "Date in Credential scope does not match: {scope} and {date}"
        ));
    }
    let off = match jiff::tz::Offset::UTC.to_timestamp(civil) {
        Ok(signed_at) => {
            let signed_at = SystemTime::from(signed_at);
            let after = now.duration_since(signed_at);
            after.unwrap_or_else(|before| before.duration())
        }
        Err(_) => Duration::MAX,
    };
    if off > CLOCK_SKEW_MAX {
        return Err(SignatureProblem::Skewed);
    }
    match signatures {
        Signatures::Verified(key) => verify(key, &said, date, head, body),
        Signatures::Ignored | Signatures::Present => Ok(()),
    }
}

fn text_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn verify(
    key: &Key,
    said: &Authorization<'_>,
    date: &str,
    head: &Parts,
    body: &[u8],
) -> Result<(), SignatureProblem> {
    if said.key_id != key.id {
        return Err(SignatureProblem::UnknownKey);
    }
    let body_hash = match text_of(&head.headers, "x-amz-content-sha256") {
        None => hex(&Sha256::digest(body)),
        Some(said) if said.len() == 64 => {
            if said != hex(&Sha256::digest(body)) {
                return Err(SignatureProblem::BodyHash);
            }
            said.to_owned()
        }
        // Unsigned or streamed: the keyword itself is signed.
        Some(word) => word.to_owned(),
    };
    let canonical = canonical_request(said, head, &body_hash);
    let to_sign = format!(
        "{ALGORITHM}\n{date}\n{}\n{}",
        said.scope,
        hex(&Sha256::digest(canonical))
    );
    let mut signing_key = hmac(format!("AWS4{}", key.secret).as_bytes(), said.date);
    for word in [said.region, said.service, "aws4_request"] {
        signing_key = hmac(&signing_key, word);
    }
    let signature = hex(&hmac(&signing_key, &to_sign));
    // A test double has no secret to keep from a clock, so a plain comparison is enough.
    match signature == said.signature {
        true => Ok(()),
        false => Err(SignatureProblem::Mismatch),
    }
}

fn canonical_request(said: &Authorization<'_>, head: &Parts, body_hash: &str) -> String {
    let path = head.uri.path();
    // Every service but S3 encodes the path a second time.
    let path = match said.service {
        "s3" => {
            let decoded = percent_decode_str(path).decode_utf8_lossy().into_owned();
            utf8_percent_encode(&decoded, ESCAPED_PATH).to_string()
        }
        _ => utf8_percent_encode(path, ESCAPED_PATH).to_string(),
    };
    let mut canonical = format!(
        "{}\n{path}\n{}\n",
        head.method,
        canonical_query(head.uri.query().unwrap_or_default())
    );
    for name in said.signed_headers.split(';') {
        let values: Vec<String> = head
            .headers
            .get_all(name)
            .iter()
            .map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        canonical.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    canonical.push_str(&format!("\n{}\n{body_hash}", said.signed_headers));
    canonical
}

fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8_lossy().into_owned();
        utf8_percent_encode(&decoded, ESCAPED).to_string()
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let mut pairs: Vec<(String, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("&")
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes keys of any length, so this does not fail.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Request;

    /// The example of the service's documentation ("Signature Version 4 signing process",
    /// GET ListUsers of IAM), signed with its example key.
    const SIGNATURE: &str = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

    fn key() -> Key {
        Key {
            id: "AKIDEXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned(),
        }
    }

    /// 2015-08-30 12:36:00 UTC.
    fn signed_at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160)
    }

    fn authorization() -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
             SignedHeaders=content-type;host;x-amz-date, Signature={SIGNATURE}"
        )
    }

    fn head(authorization: &str) -> Parts {
        let request = Request::get("/?Version=2010-05-08&Action=ListUsers")
            .header(
                "content-type",
                "application/x-www-form-urlencoded;  charset=utf-8",
            )
            .header("host", "iam.amazonaws.com")
            .header("x-amz-date", "20150830T123600Z")
            .header("authorization", authorization);
        request.body(()).unwrap().into_parts().0
    }

    fn checked(signatures: &Signatures, head: &Parts) -> Result<(), SignatureProblem> {
        check(signatures, "iam", head, b"", signed_at())
    }

    #[test]
    fn the_documented_signature_verifies_and_changes_break_it() {
        let verified = Signatures::Verified(key());
        assert_eq!(checked(&verified, &head(&authorization())), Ok(()));
        let other_body = check(&verified, "iam", &head(&authorization()), b"x", signed_at());
        assert_eq!(other_body, Err(SignatureProblem::Mismatch));
        let other_secret = Signatures::Verified(Key {
            secret: "other".to_owned(),
            ..key()
        });
        assert_eq!(
            checked(&other_secret, &head(&authorization())),
            Err(SignatureProblem::Mismatch)
        );
        let other_key = Signatures::Verified(Key {
            id: "OTHER".to_owned(),
            ..key()
        });
        assert_eq!(
            checked(&other_key, &head(&authorization())),
            Err(SignatureProblem::UnknownKey)
        );
        let wrong = authorization().replace("=5d67", "=5d68");
        assert_eq!(
            checked(&verified, &head(&wrong)),
            Err(SignatureProblem::Mismatch)
        );
        assert_eq!(checked(&Signatures::Present, &head(&wrong)), Ok(()));
    }

    #[test]
    fn missing_and_malformed_signatures_are_refused() {
        let mut unsigned = head("x");
        unsigned.headers.remove(AUTHORIZATION);
        assert_eq!(
            checked(&Signatures::Present, &unsigned),
            Err(SignatureProblem::Missing)
        );
        assert_eq!(checked(&Signatures::Ignored, &unsigned), Ok(()));
        for (from, to) in [
            ("AWS4-HMAC-SHA256", "Bearer"),
            ("Credential=", "Credentials="),
            ("/aws4_request", ""),
            ("/aws4_request", "/aws4_request/x"),
            ("/us-east-1/", "//"),
            ("iam", "kinesis"),
            ("20150830", "20150831"),
            ("content-type;host;", "content-type;"),
            ("Signature=5d", "Signature=5D"),
            ("Signature=5d", "Signature=d"),
        ] {
            let head = head(&authorization().replace(from, to));
            let refused = checked(&Signatures::Present, &head);
            assert!(
                matches!(refused, Err(SignatureProblem::Malformed(_))),
                "{from} to {to}: {refused:?}"
            );
        }
        for date in [None, Some("2015-08-30"), Some("20150830T123600")] {
            let mut head = head(&authorization());
            head.headers.remove("x-amz-date");
            if let Some(date) = date {
                head.headers.insert("x-amz-date", date.parse().unwrap());
            }
            let refused = checked(&Signatures::Present, &head);
            assert!(
                matches!(refused, Err(SignatureProblem::Malformed(_))),
                "{date:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_signature_is_of_now_within_15_minutes() {
        let head = head(&authorization());
        let second = Duration::from_secs(1);
        for (now, expected) in [
            (signed_at() + CLOCK_SKEW_MAX, Ok(())),
            (signed_at() - CLOCK_SKEW_MAX, Ok(())),
            (
                signed_at() + CLOCK_SKEW_MAX + second,
                Err(SignatureProblem::Skewed),
            ),
            (
                signed_at() - CLOCK_SKEW_MAX - second,
                Err(SignatureProblem::Skewed),
            ),
        ] {
            let checked = check(&Signatures::Present, "iam", &head, b"", now);
            assert_eq!(checked, expected);
        }
    }

    #[test]
    fn a_body_hash_that_is_sent_must_be_the_bodys() {
        let mut head = head(&authorization());
        let hash = hex(&Sha256::digest(b"other"));
        head.headers
            .insert("x-amz-content-sha256", hash.parse().unwrap());
        assert_eq!(
            checked(&Signatures::Verified(key()), &head),
            Err(SignatureProblem::BodyHash)
        );
    }

    #[test]
    fn queries_are_sorted_and_encoded_anew() {
        assert_eq!(canonical_query(""), "");
        assert_eq!(
            canonical_query("uploads&prefix=a%2fb+c&Marker=~x"),
            "Marker=~x&prefix=a%2Fb%2Bc&uploads="
        );
    }
}
