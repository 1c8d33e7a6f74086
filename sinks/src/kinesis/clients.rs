//! Who makes the calls. Those that put records go to one host, those that ask about a stream to another where the
//! stream is given by its ARN.

use super::is_arn;
use super::put::{self, Answered, Entry};
use super::settings::{Encoding, KinesisSettings};
#[cfg(feature = "aws-sdk")]
use crate::aws::AwsClient;
use crate::aws::call::{CborFailure, JsonClient, JsonService};
use crate::aws::endpoint::Endpoint;
use crate::aws::{Aws, CallFailure};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::warn;

/// Its service id, and in upper case the name in variables.
const SERVICE_ID: &str = "Kinesis";
const SERVICE: JsonService = JsonService {
    signing_name: "kinesis",
    content_type: "application/x-amz-json-1.1",
    throttled: &[],
};

/// How long a server gets JSON whose answer to CBOR was none: it may have been that of something in between.
const JSON_FOR: Duration = Duration::from_secs(600);

/// The clients of one stream.
pub(super) struct Clients {
    data: JsonClient,
    control: JsonClient,
    encoding: Encoding,
    /// Until when a server that could not read CBOR gets JSON.
    json_until: Mutex<Option<Instant>>,
    /// Puts records in place of `data`.
    #[cfg(feature = "aws-sdk")]
    sdk: Option<aws_sdk_kinesis::Client>,
}

impl Clients {
    /// # Errors
    /// The endpoint is none, there is no region, or there are no certificates to trust.
    pub(super) fn new(aws: &Aws, settings: &KinesisSettings) -> Result<Clients, String> {
        let region = aws.config.region().ok_or("no region")?.to_string();
        let given = aws.endpoint_url(&settings.aws, SERVICE_ID);
        let endpoint = aws.endpoint(&region, given.as_deref());
        let client = |operations| {
            let url = url(endpoint, &settings.stream, operations)?;
            JsonClient::new(aws, &settings.aws, SERVICE, &url)
        };
        Ok(Clients {
            data: client("data")?,
            control: client("control")?,
            encoding: settings.encoding,
            json_until: Mutex::default(),
            #[cfg(feature = "aws-sdk")]
            sdk: (settings.client == AwsClient::Sdk)
                .then(|| aws_sdk_kinesis::Client::new(&aws.config)),
        })
    }

    /// Asks about the stream.
    pub(super) fn control(&self) -> &JsonClient {
        &self.control
    }

    /// One result for each entry of the answer, however many there are.
    pub(super) async fn put(&self, aws: &Aws, stream: &str, entries: &[Entry<'_>]) -> Answered {
        #[cfg(feature = "aws-sdk")]
        if let Some(client) = &self.sdk {
            return put::by_sdk(client, stream, entries).await;
        }
        if self.speaks_cbor() {
            let answered = put::in_cbor(&self.data, aws, stream, entries).await;
            let CborFailure {
                failure,
                other_status,
            } = match answered {
                Ok(results) => return Ok(results),
                Err(failure) => failure,
            };
            let Some(status) = other_status else {
                return Err(failure);
            };
            self.expect_json(stream, &failure);
            // What is the sender's fault stored nothing; of any other answer that is not known.
            if !status.is_client_error() {
                return Err(failure);
            }
        }
        put::in_json(&self.data, aws, stream, entries).await
    }

    fn speaks_cbor(&self) -> bool {
        let until = self.json_until.lock();
        let until = until.unwrap_or_else(PoisonError::into_inner);
        self.encoding == Encoding::Cbor && until.is_none_or(|until| Instant::now() >= until)
    }

    /// The next calls are made in JSON.
    fn expect_json(&self, stream: &str, failure: &CallFailure) {
        let until = self.json_until.lock();
        let mut until = until.unwrap_or_else(PoisonError::into_inner);
        if until.is_none() {
            warn!(
                stream,
                error = failure.text,
                "the answer to a call in CBOR was none: going on in JSON, as with `encoding = \"json\"`"
            );
        }
        *until = Some(Instant::now() + JSON_FOR);
    }
}

/// Where a stream is. Accounts have hosts of their own, which the service knows in most regions.
fn url(mut endpoint: Endpoint<'_>, stream: &str, operations: &str) -> Result<String, String> {
    let begins = |begin: &str| endpoint.region.starts_with(begin);
    let account = stream.split(':').nth(4).filter(|_| is_arn(stream));
    if let Some(account) = account
        && !begins("us-iso-")
        && !begins("us-isob-")
    {
        return endpoint.url(&format!("{account}.{operations}-kinesis"));
    }
    // There the usual endpoints are FIPS endpoints.
    if begins("us-gov-") && endpoint.given.is_none() && !endpoint.dual_stack {
        endpoint.fips = false;
    }
    endpoint.url("kinesis")
}

#[cfg(test)]
#[cfg(feature = "aws-sdk")]
mod tests {
    use super::*;
    use crate::aws::endpoint::REGIONS;
    use aws_sdk_kinesis::config::endpoint::{DefaultResolver, Params, ResolveEndpoint as _};

    async fn by_the_sdk(endpoint: &Endpoint<'_>, arn: Option<&str>, kind: &str) -> Option<String> {
        let params = Params::builder()
            .region(endpoint.region)
            .use_fips(endpoint.fips)
            .use_dual_stack(endpoint.dual_stack)
            .set_endpoint(endpoint.given.map(str::to_owned))
            .set_stream_arn(arn.map(str::to_owned))
            .operation_type(kind)
            .build()
            .unwrap();
        let found = DefaultResolver::new().resolve_endpoint(&params).await;
        Some(found.ok()?.url().to_owned())
    }

    fn partition(region: &str) -> &'static str {
        match &region[..region.rfind('-').unwrap()] {
            "us-gov-west" => "aws-us-gov",
            "cn-north" => "aws-cn",
            "us-iso-east" => "aws-iso",
            "us-isob-east" => "aws-iso-b",
            "eu-isoe-west" => "aws-iso-e",
            "us-isof-south" => "aws-iso-f",
            "eusc-de-east" => "aws-eusc",
            _ => "aws",
        }
    }

    #[tokio::test]
    async fn a_stream_is_where_the_sdk_finds_it() {
        let mut wrong = Vec::new();
        for region in REGIONS {
            let partition = partition(region);
            let arn = format!("arn:{partition}:kinesis:{region}:123456789012:stream/clicks");
            for stream in ["clicks", &arn] {
                for flags in 0..8 {
                    let endpoint = Endpoint {
                        region,
                        given: (flags & 4 != 0).then_some("http://127.0.0.1:4567"),
                        fips: flags & 1 != 0,
                        dual_stack: flags & 2 != 0,
                    };
                    for kind in ["data", "control"] {
                        let ours = url(endpoint, stream, kind);
                        let arn = is_arn(stream).then_some(stream);
                        let sdks = by_the_sdk(&endpoint, arn, kind).await;
                        if ours.as_ref().ok() != sdks.as_ref() {
                            wrong.push(format!("{endpoint:?} {stream} {kind}: {ours:?} {sdks:?}"));
                        }
                    }
                }
            }
        }
        assert_eq!(wrong, [""; 0]);
    }
}
