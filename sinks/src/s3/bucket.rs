//! One bucket and its one storing call: PutObject under a unique key. Does not retry.

use super::S3Settings;
use super::pack::Packed;
use crate::aws::{Aws, CallFailure};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};
use sluice_core::cause::Cause;

/// The content type that readers of the replaced tier expect.
const CONTENT_TYPE: &str = "text/x-log";
/// Environment variables from which the SDK takes an endpoint if the settings name none.
const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];

/// A bucket.
pub(super) struct Bucket {
    client: Client,
    aws: Aws,
    name: String,
    storage_class: Option<StorageClass>,
    kms_key_id: Option<String>,
}

impl Bucket {
    /// Resolves region and credentials (unless given), at most 5 s each; without credentials it keeps
    /// trying. Its timers run on the current tokio runtime.
    pub(super) async fn open(
        settings: &S3Settings,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Bucket, String> {
        let aws = Aws::load(&settings.aws, "S3", credentials).await?;
        let path_style = settings.path_style.unwrap_or_else(|| {
            let mut variables = ENDPOINT_VARIABLES.into_iter();
            settings.aws.endpoint_url.is_some()
                || variables.any(|name| std::env::var_os(name).is_some())
        });
        let config = aws_sdk_s3::config::Builder::from(&aws.config)
            .force_path_style(path_style)
            // Content-MD5 protects the body, and every compatible store supports it.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .build();
        let class = settings.storage_class;
        Ok(Bucket {
            client: Client::from_conf(config),
            aws,
            name: settings.bucket.clone(),
            // The service's default; not sent, for stores without storage classes.
            storage_class: (class != super::StorageClass::Standard)
                .then(|| StorageClass::from(class.word())),
            kms_key_id: settings.kms_key_id.clone(),
        })
    }

    /// Stores an object unless it exists. Keys are unique, so an existing object is this one.
    pub(super) async fn put(&self, key: &str, packed: &Packed) -> Result<(), CallFailure> {
        let answer = self
            .client
            .put_object()
            .bucket(&self.name)
            .key(key)
            .if_none_match("*")
            .content_type(CONTENT_TYPE)
            .content_encoding("gzip")
            .content_md5(&packed.md5)
            .set_storage_class(self.storage_class.clone())
            .set_server_side_encryption(
                self.kms_key_id
                    .is_some()
                    .then_some(ServerSideEncryption::AwsKms),
            )
            .set_ssekms_key_id(self.kms_key_id.clone())
            .body(ByteStream::from(packed.body.clone()))
            .send()
            .await;
        match answer {
            // The SDK already reports a 200 with an error body as an error.
            Ok(answer) if answer.e_tag().is_some_and(|tag| !tag.is_empty()) => Ok(()),
            // Every store returns an ETag; a proxy answering in its place does not.
            Ok(_) => Err(CallFailure {
                cause: Cause::Unknown,
                is_auth_error: false,
                text: "200 without an ETag is no store's answer".to_owned(),
            }),
            Err(error)
                if error
                    .raw_response()
                    .is_some_and(|answer| answer.status().as_u16() == 412) =>
            {
                Ok(())
            }
            Err(error) => Err(self.note_auth_error(CallFailure::of(&error))),
        }
    }

    /// Checks that the bucket exists and may be listed (`s3:ListBucket`).
    pub(super) async fn head(&self) -> Result<String, CallFailure> {
        match self.client.head_bucket().bucket(&self.name).send().await {
            Ok(answer) => Ok(answer.bucket_region().unwrap_or("not named").to_owned()),
            Err(error) => Err(self.note_auth_error(CallFailure::of(&error))),
        }
    }

    fn note_auth_error(&self, failure: CallFailure) -> CallFailure {
        if failure.is_auth_error {
            self.aws.doubt_credentials();
        }
        failure
    }
}
