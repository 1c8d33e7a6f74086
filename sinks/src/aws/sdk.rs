//! The same causes for errors of the SDK's clients. Its shared types are imported through one service's crate, which
//! re-exports them.

use super::{CallFailure, cause_of_answer, cut};
use crate::http_client::chain_text;
use aws_credential_types::provider::error::CredentialsError;
#[cfg(feature = "aws-sdk")]
use aws_sdk_kinesis::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
#[cfg(not(feature = "aws-sdk"))]
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use sluice_core::cause::Cause;
use std::error::Error;

impl CallFailure {
    /// The one table from the SDK's errors to causes. What is not known to have failed before it was
    /// sent, and was not answered readably, is [`Cause::Unknown`].
    pub(crate) fn of<E>(error: &SdkError<E, HttpResponse>) -> CallFailure
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (cause, is_auth_error) = match error {
            // Not sent: the SDK could not even make the request.
            SdkError::ConstructionFailure(_) => (Cause::Unavailable, false),
            SdkError::DispatchFailure(_) if has_source::<CredentialsError>(error) => {
                (Cause::Denied, true)
            }
            SdkError::DispatchFailure(_) if failed_to_connect(error) => (Cause::Unavailable, false),
            SdkError::ServiceError(answer) => cause_of_answer(
                answer.err().code().unwrap_or_default(),
                answer.raw().status().as_u16(),
            ),
            // An error page that is not the service's, or no page at all.
            SdkError::ResponseError(answer) => cause_of_answer("", answer.raw().status().as_u16()),
            // Connection lost, time-out, and whatever the SDK will add.
            _ => (Cause::Unknown, false),
        };
        let text = match error {
            SdkError::ServiceError(answer) => format!(
                "{} {}: {}",
                answer.raw().status().as_u16(),
                answer.err().code().unwrap_or("no error code"),
                answer.err().message().unwrap_or("no message"),
            ),
            SdkError::ResponseError(answer) => format!(
                "{} with an unreadable body: {}",
                answer.raw().status().as_u16(),
                chain_text(error),
            ),
            _ => chain_text(error),
        };
        CallFailure {
            cause,
            is_auth_error,
            text: cut(&text),
        }
    }
}

/// Whether no connection came about: then nothing was sent.
fn failed_to_connect(error: &(dyn Error + 'static)) -> bool {
    sources(error)
        .filter_map(|error| error.downcast_ref::<hyper_util::client::legacy::Error>())
        .any(hyper_util::client::legacy::Error::is_connect)
}

fn has_source<E: Error + 'static>(error: &(dyn Error + 'static)) -> bool {
    sources(error).any(|error| error.is::<E>())
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
