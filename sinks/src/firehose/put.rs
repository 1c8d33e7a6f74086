//! PutRecordBatch by either client: the same records go out, and the same answer means the same results.

use super::THROTTLED;
use super::pack::Chunk;
use crate::aws::call::JsonClient;
use crate::aws::json::{Text, base64_bytes, push_base64, push_string};
use crate::aws::{Aws, CallFailure, result_of_entry, unreadable};
use bytes::Bytes;
use serde::Deserialize;
use sluice_core::record::RecordResult;

const TARGET: &str = "Firehose_20150804.PutRecordBatch";
/// Bytes of a record besides its data.
const ENTRY_BYTES: usize = r#"{"Data":},"#.len();

/// One result for each entry of the answer, however many there are.
pub(super) type Answered = Result<Vec<RecordResult>, CallFailure>;

/// By our own client.
pub(super) async fn by_own_client(
    client: &JsonClient,
    aws: &Aws,
    stream: &str,
    chunks: &[Chunk],
) -> Answered {
    let answer = client.call(aws, TARGET, body(stream, chunks)).await?;
    results(&answer).map_err(|error| unreadable(&error))
}

fn body(stream: &str, chunks: &[Chunk]) -> Bytes {
    let bytes = |chunk: &Chunk| ENTRY_BYTES + base64_bytes(chunk.data.len());
    let mut body = Vec::with_capacity(256 + chunks.iter().map(bytes).sum::<usize>());
    body.extend_from_slice(br#"{"DeliveryStreamName":"#);
    push_string(&mut body, stream);
    body.extend_from_slice(br#","Records":["#);
    for (at, chunk) in chunks.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(br#"{"Data":"#);
        push_base64(&mut body, &chunk.data);
        body.push(b'}');
    }
    body.extend_from_slice(b"]}");
    body.into()
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "RequestResponses", borrow)]
    entries: Option<Vec<AnswerEntry<'a>>>,
}

#[derive(Deserialize)]
struct AnswerEntry<'a> {
    #[serde(rename = "RecordId", borrow)]
    record_id: Option<Text<'a>>,
    #[serde(rename = "ErrorCode", borrow)]
    error_code: Option<Text<'a>>,
}

fn results(answer: &[u8]) -> Result<Vec<RecordResult>, serde_json::Error> {
    let answer: Answer<'_> = serde_json::from_slice(answer)?;
    let result_of = |entry: &AnswerEntry<'_>| {
        let id = entry.record_id.as_ref();
        let is_stored = id.is_some_and(|id| !id.0.is_empty());
        let error_code = entry.error_code.as_ref().map(|text| &*text.0);
        result_of_entry(is_stored, error_code, &THROTTLED)
    };
    Ok(answer.entries.iter().flatten().map(result_of).collect())
}

#[cfg(feature = "aws-sdk")]
pub(super) use sdk::by_sdk;

/// The same through the SDK.
#[cfg(feature = "aws-sdk")]
mod sdk {
    use super::{Answered, CallFailure, Chunk, THROTTLED, result_of_entry};
    use aws_sdk_firehose::Client;
    use aws_sdk_firehose::config::http::HttpResponse;
    use aws_sdk_firehose::error::SdkError;
    use aws_sdk_firehose::operation::put_record_batch::PutRecordBatchError;
    use aws_sdk_firehose::primitives::Blob;
    use aws_sdk_firehose::types::{PutRecordBatchResponseEntry, Record as Entry};
    use sluice_core::cause::Cause;

    pub(in crate::firehose) async fn by_sdk(
        client: &Client,
        stream: &str,
        chunks: Vec<Chunk>,
    ) -> Answered {
        let entry = |chunk: Chunk| Entry::builder().data(Blob::new(chunk.data)).build();
        let entries: Result<Vec<_>, _> = chunks.into_iter().map(entry).collect();
        let entries = entries.map_err(|error| CallFailure::not_sent(&error))?;
        let answer = client
            .put_record_batch()
            .delivery_stream_name(stream)
            .set_records(Some(entries))
            .send()
            .await
            .map_err(|error| failure(&error))?;
        let result_of = |entry: &PutRecordBatchResponseEntry| {
            let is_stored = entry.record_id().is_some_and(|id| !id.is_empty());
            result_of_entry(is_stored, entry.error_code(), &THROTTLED)
        };
        Ok(answer.request_responses().iter().map(result_of).collect())
    }

    /// This service calls its throttling ServiceUnavailableException, where others have a code for it.
    fn failure(error: &SdkError<PutRecordBatchError, HttpResponse>) -> CallFailure {
        let failure = CallFailure::of(error);
        let is_throttled = error
            .as_service_error()
            .is_some_and(PutRecordBatchError::is_service_unavailable_exception);
        CallFailure {
            cause: if is_throttled {
                Cause::Throttled
            } else {
                failure.cause
            },
            ..failure
        }
    }
}
