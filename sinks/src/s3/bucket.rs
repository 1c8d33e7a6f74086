//! One bucket and its one storing call: PutObject under a unique key. Does not retry.

use super::address::{Place, encoded};
use super::answer::{self, BUCKET_REGION, header};
use super::pack::Packed;
use super::{S3Settings, StorageClass};
use crate::aws::signed::{Call, SignedClient, Signing};
use crate::aws::{Aws, CallFailure};
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, IF_NONE_MATCH};
use http::uri::InvalidUri;
use http::{HeaderName, HeaderValue, Method, Uri};

/// The content type that readers of the replaced tier expect.
static PLAIN_LOG: HeaderValue = HeaderValue::from_static("text/x-log");
static GZIP: HeaderValue = HeaderValue::from_static("gzip");
static ANY: HeaderValue = HeaderValue::from_static("*");
static KMS: HeaderValue = HeaderValue::from_static("aws:kms");
/// Protects the body, and every compatible store supports it.
static CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
static STORAGE_CLASS: HeaderName = HeaderName::from_static("x-amz-storage-class");
static ENCRYPTION: HeaderName = HeaderName::from_static("x-amz-server-side-encryption");
static KMS_KEY_ID: HeaderName =
    HeaderName::from_static("x-amz-server-side-encryption-aws-kms-key-id");
/// Environment variables from which the endpoint is taken if the settings name none.
const ENDPOINT_VARIABLES: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
const SIGNING: Signing = Signing {
    name: "s3",
    is_s3: true,
};
/// Bytes of an answer: an error with all of its members has some 3 KiB.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// A bucket.
pub(super) struct Bucket {
    client: SignedClient,
    aws: Aws,
    uri: Uri,
    /// The same, which keys follow after a `/`.
    url: String,
    region: String,
    /// Of every object.
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Bucket {
    /// Resolves region and credentials (unless given), at most 5 s each; without credentials it keeps
    /// trying. Its timers run on the current tokio runtime.
    pub(super) async fn open(
        settings: &S3Settings,
        credentials: Option<SharedCredentialsProvider>,
    ) -> Result<Bucket, String> {
        Bucket::open_for(settings, credentials, ANSWER_BYTES_MAX).await
    }

    /// The same for answers of other lengths.
    pub(super) async fn open_for(
        settings: &S3Settings,
        credentials: Option<SharedCredentialsProvider>,
        answer_bytes_max: usize,
    ) -> Result<Bucket, String> {
        let aws = Aws::load(&settings.aws, "S3", credentials).await?;
        let path_style = settings.path_style.unwrap_or_else(|| {
            let mut variables = ENDPOINT_VARIABLES.into_iter();
            settings.aws.endpoint_url.is_some()
                || variables.any(|name| std::env::var_os(name).is_some())
        });
        let region = aws.config.region().ok_or("no region")?.to_string();
        let given = aws.endpoint_url(&settings.aws, "S3");
        let place = Place {
            bucket: &settings.bucket,
            path_style,
            endpoint: aws.endpoint(&region, given.as_deref()),
        };
        let url = place.url()?;
        let wrong = |why: &dyn std::fmt::Display| format!("endpoint {url:?}: {why}");
        let uri: Uri = url.parse().map_err(|error| wrong(&error))?;
        let client = SignedClient::new(&aws, &settings.aws, SIGNING, &uri, answer_bytes_max)
            .map_err(|error| wrong(&error))?;
        let mut headers = vec![
            (CONTENT_TYPE, PLAIN_LOG.clone()),
            (CONTENT_ENCODING, GZIP.clone()),
            (IF_NONE_MATCH, ANY.clone()),
        ];
        // The service's default is not sent, for stores without storage classes.
        if settings.storage_class != StorageClass::Standard {
            let class = HeaderValue::from_static(settings.storage_class.word());
            headers.push((STORAGE_CLASS.clone(), class));
        }
        if let Some(key_id) = &settings.kms_key_id {
            let key_id = HeaderValue::from_str(key_id).map_err(|error| error.to_string())?;
            headers.extend([
                (ENCRYPTION.clone(), KMS.clone()),
                (KMS_KEY_ID.clone(), key_id),
            ]);
        }
        Ok(Bucket {
            client,
            aws,
            uri,
            url,
            region,
            headers,
        })
    }

    /// Stores an object unless it exists. Keys are unique, so that an existing object is this one if an earlier
    /// call with its key `may_have_stored` it.
    pub(super) async fn put(
        &self,
        key: &str,
        packed: &Packed,
        may_have_stored: bool,
    ) -> Result<(), CallFailure> {
        let md5 = HeaderValue::from_str(&packed.md5);
        let md5 = md5.map_err(|error| CallFailure::not_sent(&error))?;
        let mut headers = Vec::with_capacity(self.headers.len() + 1);
        headers.extend_from_slice(&self.headers);
        headers.push((CONTENT_MD5.clone(), md5));
        let uri: Result<Uri, InvalidUri> = format!("{}/{}", self.url, encoded(key)).parse();
        let call = Call {
            method: Method::PUT,
            uri: &uri.map_err(|error| CallFailure::not_sent(&error))?,
            headers: &headers,
            body: packed.body.clone(),
        };
        let answer = self.client.send(&self.aws, &call, answer::code).await;
        let stored = answer
            .and_then(|answer| answer::of_put(&answer, packed, may_have_stored, &self.region));
        stored.map_err(|failure| self.note_auth_error(failure))
    }

    /// Checks that the bucket exists and may be listed (`s3:ListBucket`).
    pub(super) async fn head(&self) -> Result<String, CallFailure> {
        let call = Call {
            method: Method::HEAD,
            uri: &self.uri,
            headers: &[],
            body: Bytes::new(),
        };
        let answer = self.client.send(&self.aws, &call, answer::code).await;
        let found = answer.and_then(|answer| match answer.status.is_success() {
            true => Ok(match header(&answer, BUCKET_REGION) {
                "" => "not named".to_owned(),
                region => region.to_owned(),
            }),
            false => Err(answer::refusal(&answer, &self.region)),
        });
        found.map_err(|failure| self.note_auth_error(failure))
    }

    /// What stands behind the bucket's URL: a key, or a query.
    pub(super) async fn get(&self, rest: &str) -> Result<Bytes, CallFailure> {
        let uri: Result<Uri, InvalidUri> = format!("{}{rest}", self.url).parse();
        let call = Call {
            method: Method::GET,
            uri: &uri.map_err(|error| CallFailure::not_sent(&error))?,
            headers: &[],
            body: Bytes::new(),
        };
        let answer = self.client.send(&self.aws, &call, answer::code).await;
        let got = answer.and_then(|answer| match answer.status.is_success() {
            true => Ok(answer.body.into()),
            false => Err(answer::refusal(&answer, &self.region)),
        });
        got.map_err(|failure| self.note_auth_error(failure))
    }

    fn note_auth_error(&self, failure: CallFailure) -> CallFailure {
        if failure.is_auth_error {
            self.aws.doubt_credentials();
        }
        failure
    }
}
