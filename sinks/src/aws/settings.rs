//! Settings of all outputs of AWS.

use crate::keyword_enum;
use crate::output::Patience;
use crate::settings::{MINUTE_MS, Reader, is_word, ms, text};
use std::time::Duration;

keyword_enum! {
    /// Which client makes the calls that write.
    AwsClient, "one of sluice, sdk" {
        /// Sluice's own, which costs less.
        Sluice = "sluice",
        /// The AWS SDK's.
        Sdk = "sdk",
    }
}

impl AwsClient {
    /// Whether this build has the client; `has_sdk`: whether it has the SDK's.
    ///
    /// # Errors
    /// It has not.
    pub(crate) fn require(self, has_sdk: bool) -> Result<(), String> {
        match self {
            AwsClient::Sdk if !has_sdk => Err(
                "`client` is \"sdk\": this program is built without the AWS SDK's clients; set \"sluice\", or build it with `--features aws-sdk`".to_owned(),
            ),
            AwsClient::Sdk | AwsClient::Sluice => Ok(()),
        }
    }
}

crate::settings! {
    /// How to reach AWS.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct AwsSettings from (reader, attempt: Duration) {
        /// The region; where an endpoint is given and neither environment nor profile names one, `us-east-1`.
        region: Option<String> = None,
            text("1 to 32 letters, digits or -", is_region).default_is("as the AWS tools find it: `AWS_REGION`, profile, instance metadata");
        /// The endpoint, for instance `http://127.0.0.1:4567`.
        endpoint_url: Option<String> = None,
            text("http:// or https:// and a host, at most 2048 bytes", is_endpoint)
                .default_is("`AWS_ENDPOINT_URL_<service>`, `AWS_ENDPOINT_URL`, else the region's");
        /// How long one call may take. Nothing is repeated within a call.
        attempt_timeout as "attempt_timeout_ms": Duration = attempt, ms(1, 10 * MINUTE_MS)
            .default_is("3000, at most three quarters of the time left after `linger_ms`; for s3 60000");
        /// How long a connection may take to be established, TLS included; at most `attempt_timeout_ms`.
        connect_timeout as "connect_timeout_ms": Duration = attempt_timeout.min(Duration::from_secs(3)), ms(1, 10 * MINUTE_MS)
            .default_is("3000, at most `attempt_timeout_ms`");
    }
}

impl Default for AwsSettings {
    /// 3 s for a call.
    fn default() -> AwsSettings {
        AwsSettings::read(&mut Reader::default(), Duration::from_secs(3))
    }
}

impl AwsSettings {
    /// Reads the settings of calls that must end while a client waits, and checks them.
    pub(crate) fn in_time(reader: &mut Reader, patience: &Patience) -> AwsSettings {
        let attempt = Duration::from_millis((patience.remaining_ms() * 3 / 4).min(3_000));
        let settings = AwsSettings::read(reader, attempt);
        let attempt = reader.number("attempt_timeout_ms");
        reader.below(
            &patience.linger.plus(&attempt),
            &patience.within,
            "the answer of a slow call would come too late",
        );
        settings.check(reader);
        settings
    }

    /// Checks the settings against each other.
    pub fn check(&self, reader: &mut Reader) {
        let attempt = reader.number("attempt_timeout_ms");
        let connect = reader.number("connect_timeout_ms");
        reader.at_most(&connect, &attempt, "connecting is a part of the attempt");
    }
}

/// Whether a text can be a region's name.
pub(crate) fn is_region(text: &str) -> bool {
    is_word(text, 32, "-")
}

fn is_endpoint(url: &str) -> bool {
    let host = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    url.len() <= 2_048
        && url.bytes().all(|byte| byte.is_ascii_graphic())
        && host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
}

/// Whether a text can be the name of a stream, of at most `bytes_max` bytes.
pub(crate) fn is_stream(text: &str, bytes_max: usize) -> bool {
    is_word(text, bytes_max, "_.-")
}

/// Whether this build has the SDK's clients.
pub(crate) const HAS_SDK: bool = cfg!(feature = "aws-sdk");

/// The least bytes in a call, with which an event of usual size fits.
pub(crate) const BATCH_BYTES_MIN: u64 = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_not_built_is_refused_by_name() {
        assert_eq!(AwsClient::Sluice.require(false), Ok(()));
        assert_eq!(AwsClient::Sdk.require(true), Ok(()));
        let error = AwsClient::Sdk.require(false).unwrap_err();
        assert!(error.contains("\"sdk\"") && error.contains("--features aws-sdk"));
    }
}
