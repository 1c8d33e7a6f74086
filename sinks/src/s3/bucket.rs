//! One bucket and its one storing call: PutObject under a unique key. Does not retry.

use super::S3Settings;
use super::pack::Packed;
use crate::aws::{Aws, CallFailure};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::RequestChecksumCalculation;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::operation::RequestId as _;
use aws_sdk_s3::operation::put_object::PutObjectOutput;
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

    /// Stores an object unless it exists. Keys are unique, so that an existing object is this one if an earlier
    /// call with its key `may_have_stored` it. Anything less than the store's own word is a failure: the caller
    /// deletes the only other copy.
    pub(super) async fn put(
        &self,
        key: &str,
        packed: &Packed,
        may_have_stored: bool,
    ) -> Result<(), CallFailure> {
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
            Ok(answer) => check_stored(&answer, packed),
            Err(error)
                if error
                    .raw_response()
                    .is_some_and(|answer| answer.status().as_u16() == 412) =>
            {
                match (error.code(), may_have_stored) {
                    (Some("PreconditionFailed"), true) => Ok(()),
                    (Some("PreconditionFailed"), false) => Err(no_word(
                        Cause::Invalid,
                        "412 PreconditionFailed for a key that was never sent before",
                    )),
                    _ => Err(no_word(
                        Cause::Unknown,
                        "412 without the code PreconditionFailed is no store's answer",
                    )),
                }
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

/// Whether an answer to a call is the store's. Every store returns an ETag: the body's MD5, unless the object is
/// encrypted with a key that the store says it used, or the store has its own way, and gives the request an id.
fn check_stored(answer: &PutObjectOutput, packed: &Packed) -> Result<(), CallFailure> {
    let tag = answer.e_tag().unwrap_or_default().trim_matches('"');
    let is_md5 = tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit());
    let has_key = answer.sse_customer_key_md5().is_some()
        || answer
            .server_side_encryption()
            .is_some_and(|with| *with != ServerSideEncryption::Aes256);
    let is_stored = match (tag, is_md5 && !has_key) {
        ("", _) => {
            return Err(no_word(
                Cause::Unknown,
                "200 without an ETag is no store's answer",
            ));
        }
        (tag, true) => tag.eq_ignore_ascii_case(&packed.etag),
        (_, false) => has_key || answer.request_id().is_some_and(|id| !id.is_empty()),
    };
    match is_stored {
        true => Ok(()),
        false => Err(no_word(
            Cause::Unknown,
            &format!(
                "200 with the ETag {tag:.64}, the body's MD5 is {}",
                packed.etag
            ),
        )),
    }
}

/// A failure of something that answers in the store's place.
fn no_word(cause: Cause, text: &str) -> CallFailure {
    CallFailure {
        cause,
        is_auth_error: false,
        text: text.to_owned(),
    }
}
