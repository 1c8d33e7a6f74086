//! Tokens for MSK's IAM access control: a presigned request, in base64, that is never sent.
//!
//! [`Aws`] fetches credentials ahead of need; creating a token never blocks, because librdkafka asks for it
//! on the thread that delivers reports.

use crate::aws::Aws;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use rdkafka::client::OAuthToken;
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Lifetime of a token, as in MSK's own signers.
const TOKEN_LIFE: Duration = Duration::from_secs(900);

/// Creates tokens from the current credentials.
pub(super) struct IamSigner {
    aws: Aws,
    region: String,
}

impl IamSigner {
    /// # Errors
    /// The configuration has no region.
    pub(super) fn new(aws: Aws) -> Result<IamSigner, String> {
        let region = aws.config.region().ok_or("no region")?.to_string();
        Ok(IamSigner { aws, region })
    }

    /// Reports that the cluster refused a token.
    pub(super) fn doubt_credentials(&self) {
        self.aws.doubt_credentials();
    }

    /// Creates a token from the current credentials.
    ///
    /// # Errors
    /// There are none, or they cannot be signed with.
    pub(super) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let credentials = self
            .aws
            .held_credentials()
            .ok_or("no AWS credentials were found yet")?;
        token(&credentials, &self.region, SystemTime::now())
    }
}

fn token(
    credentials: &Credentials,
    region: &str,
    now: SystemTime,
) -> Result<OAuthToken, Box<dyn Error>> {
    let host = format!("kafka.{region}.amazonaws.com");
    let url = format!("https://{host}/?Action=kafka-cluster%3AConnect");
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(TOKEN_LIFE);
    let identity = credentials.clone().into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("kafka-cluster")
        .time(now)
        .settings(settings)
        .build()?
        .into();
    let headers = std::iter::once(("host", host.as_str()));
    let request = SignableRequest::new("GET", &url, headers, SignableBody::empty())?;
    let (instructions, _) = sign(request, &params)?.into_parts();
    let mut signed = url;
    for (name, value) in instructions.params() {
        signed.push('&');
        signed.push_str(name);
        signed.push('=');
        encode_into(value, &mut signed);
    }
    // Not signed: only for the cluster's log.
    signed.push_str("&User-Agent=");
    encode_into(concat!("sluice/", env!("CARGO_PKG_VERSION")), &mut signed);
    let end = (now + TOKEN_LIFE).duration_since(UNIX_EPOCH)?;
    Ok(OAuthToken {
        token: base64_simd::URL_SAFE_NO_PAD.encode_to_string(signed),
        // librdkafka requires a principal; the cluster reads the token.
        principal_name: "sluice".to_owned(),
        lifetime_ms: i64::try_from(end.as_millis())?,
    })
}

/// Percent-encodes all but RFC 3986's unreserved characters.
fn encode_into(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_iam_token_is_valid_for_fifteen_minutes() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let session = Some("a+session/token=".to_owned());
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", session, None, "test");
        let token = token(&credentials, "eu-west-1", now).unwrap();
        assert_eq!(token.lifetime_ms, 1_700_000_900_000);
        assert!(!token.principal_name.is_empty());
        let url = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(&token.token);
        let url = String::from_utf8(url.unwrap()).unwrap();
        let (place, query) = url.split_once('?').unwrap();
        assert_eq!(place, "https://kafka.eu-west-1.amazonaws.com/");
        let mut params: Vec<_> = query.split('&').collect();
        let signature = params
            .iter()
            .position(|part| part.starts_with("X-Amz-Signature="));
        let signature = params.remove(signature.unwrap());
        assert_eq!(signature.len(), "X-Amz-Signature=".len() + 64);
        params.sort_unstable();
        let agent = concat!("User-Agent=sluice%2F", env!("CARGO_PKG_VERSION"));
        assert_eq!(
            params,
            [
                "Action=kafka-cluster%3AConnect",
                agent,
                "X-Amz-Algorithm=AWS4-HMAC-SHA256",
                "X-Amz-Credential=AKIDEXAMPLE%2F20231114%2Feu-west-1%2Fkafka-cluster%2Faws4_request",
                "X-Amz-Date=20231114T221320Z",
                "X-Amz-Expires=900",
                "X-Amz-Security-Token=a%2Bsession%2Ftoken%3D",
                "X-Amz-SignedHeaders=host",
            ]
        );
    }
}
