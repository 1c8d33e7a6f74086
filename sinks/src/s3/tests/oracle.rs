//! The same object by our client and by the SDK's: the same request, and the same cause for the same answer.

use super::*;
use crate::s3::pack::{Packed, pack_lines};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Builder, RequestChecksumCalculation};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ServerSideEncryption, StorageClass as SdkClass};
use std::collections::BTreeMap;

/// Written by one client only, or different in each call.
const OWN_HEADERS: [&str; 6] = [
    "amz-sdk-invocation-id",
    "amz-sdk-request",
    "authorization",
    "user-agent",
    "x-amz-date",
    "x-amz-user-agent",
];
const KEY: &str = "a/year=2026//~b.c_d-e%20+:\"?#é/1-2.log.gz";

async fn sdk(settings: &S3Settings) -> (crate::aws::Aws, Client) {
    let aws = crate::aws::Aws::load(&settings.aws, "S3", credentials())
        .await
        .unwrap();
    let config = Builder::from(&aws.config)
        .force_path_style(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .build();
    (aws, Client::from_conf(config))
}

async fn put_by_sdk(client: &Client, packed: &Packed) -> Result<(), CallFailure> {
    let call = client
        .put_object()
        .bucket("clicks")
        .key(KEY)
        .if_none_match("*")
        .content_type("text/x-log")
        .content_encoding("gzip")
        .content_md5(&packed.md5)
        .storage_class(SdkClass::StandardIa)
        .server_side_encryption(ServerSideEncryption::AwsKms)
        .ssekms_key_id("alias/clicks")
        .body(ByteStream::from(packed.body.clone()));
    match call.send().await {
        Ok(_) => Ok(()),
        Err(error) => {
            let failure = CallFailure::of(&error);
            // The same words as ours, where the answer had any.
            Err(match error {
                SdkError::ServiceError(_) => failure,
                _ => CallFailure {
                    text: String::new(),
                    ..failure
                },
            })
        }
    }
}

fn with_class_and_key(bucket: &Scripted) -> S3Settings {
    let mut settings = S3Settings {
        storage_class: StorageClass::StandardIa,
        kms_key_id: Some("alias/clicks".to_owned()),
        ..settings(bucket, Keeping::Staged)
    };
    settings.aws.attempt_timeout = Duration::from_millis(400);
    settings
}

/// What both clients say: names of the headers that a signature covers instead of the signature.
fn said(seen: &Seen) -> (String, String, BTreeMap<String, String>) {
    let mut headers = seen.headers().clone();
    let authorization = headers.remove("authorization").unwrap();
    headers.retain(|name, _| !OWN_HEADERS.contains(&name.as_str()));
    let credential = authorization.split(',').next().unwrap();
    headers.insert("credential".to_owned(), credential.to_owned());
    (seen.method.clone(), seen.path().to_owned(), headers)
}

#[tokio::test]
async fn an_object_is_sent_as_the_sdk_sends_it() {
    let bucket = Scripted::start();
    let settings = with_class_and_key(&bucket);
    let packed = pack_lines(&[Bytes::from("{}")]).unwrap();
    let ours = Bucket::open(&settings, credentials()).await.unwrap();
    ours.put(KEY, &packed, false).await.unwrap();
    let (_aws, sdk) = sdk(&settings).await;
    // The object is there already, which is no matter here.
    let _ = put_by_sdk(&sdk, &packed).await;
    let [ours, sdks] = &bucket.seen()[..] else {
        panic!("two calls");
    };
    assert_eq!(said(ours), said(sdks));
    assert_eq!(ours.body, sdks.body);
}

#[tokio::test]
async fn an_answer_has_the_cause_that_it_has_by_the_sdk() {
    let bucket = Scripted::start();
    let settings = with_class_and_key(&bucket);
    let packed = pack_lines(&[Bytes::from("{}")]).unwrap();
    let ours = Bucket::open(&settings, credentials()).await.unwrap();
    let (_aws, sdk) = sdk(&settings).await;
    let mut answers = vec![Answer::Resets, Answer::Hangs];
    for status in [200, 301, 400, 403, 404, 409, 413, 429, 500, 502, 503, 504] {
        for code in [
            "html",
            "InternalError",
            "SlowDown",
            "AccessDenied",
            "ExpiredToken",
            "InvalidAccessKeyId",
            "NoSuchBucket",
            "EntityTooLarge",
            "BadDigest",
            "PermanentRedirect",
            "RequestTimeTooSkewed",
            "KMS.DisabledException",
        ] {
            // A page that is no error of the store is judged by its ETag.
            if (status, code) != (200, "html") {
                answers.push(Answer::Says(status, code));
            }
        }
    }
    for answer in answers {
        bucket.next([answer.clone()]);
        let ours = ours.put(KEY, &packed, false).await.unwrap_err();
        bucket.next([answer.clone()]);
        let sdks = put_by_sdk(&sdk, &packed).await.unwrap_err();
        let said = |failure: &CallFailure| (failure.cause, failure.is_auth_error);
        assert_eq!(said(&ours), said(&sdks), "{answer:?}: {ours:?} {sdks:?}");
        if sdks.text.contains("no message") && !sdks.text.contains("no error code") {
            assert_eq!(ours.text, sdks.text, "{answer:?}");
        }
    }
}
