//! Calls of Firehose as they are read, and its errors. The service's limits per call; what a
//! stream takes per second is elsewhere.

use crate::event_id::{EventId, IdScanner};
use crate::service::Refusal;
use serde::Deserialize;
use std::borrow::Cow;

/// Records that one PutRecordBatch call carries at most (service limit).
pub const CALL_RECORDS_MAX: usize = 500;

/// Bytes of data that one PutRecordBatch call carries at most (service limit).
pub const CALL_BYTES_MAX: usize = 4 << 20;

/// Bytes of data that one record has at most (service limit).
pub const RECORD_BYTES_MAX: usize = 1_000 << 10;

/// The account in the stream's ARN.
const ACCOUNT: &str = "000000000000";

/// A string of the body, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record<'a> {
    #[serde(borrow)]
    data: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    #[serde(borrow)]
    delivery_stream_name: Option<Text<'a>>,
    #[serde(borrow)]
    records: Option<Vec<Record<'a>>>,
    #[serde(borrow)]
    record: Option<Record<'a>>,
}

/// A record that passed the checks of its call.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) data: Vec<u8>,
    pub(super) ids: Vec<EventId>,
}

pub(super) fn slow_down() -> Refusal {
    Refusal::new(503, "ServiceUnavailableException", "Slow down.")
}

fn validation(constraint: &str) -> Refusal {
    let message = format!("1 validation error detected: {constraint}");
    Refusal::client("ValidationException", message)
}

fn read(body: &[u8]) -> Result<Body<'_>, Refusal> {
    serde_json::from_slice(body)
        .map_err(|error| Refusal::client("SerializationException", error.to_string()))
}

fn check_stream(asked: &Body<'_>, stream: &str) -> Result<(), Refusal> {
    match &asked.delivery_stream_name {
        None => Err(validation(
            "Value null at 'deliveryStreamName' failed to satisfy constraint: Member must not be \
             null",
        )),
        Some(Text(name)) if name == stream => Ok(()),
        Some(Text(name)) => Err(Refusal::client(
            "ResourceNotFoundException",
            format!("Firehose {name} under account 000000000000 not found."),
        )),
    }
}

/// Reads and checks a PutRecord call.
pub(super) fn put_record(
    stream: &str,
    scanner: Option<&IdScanner>,
    body: &[u8],
) -> Result<Put, Refusal> {
    let asked = read(body)?;
    let Some(record) = &asked.record else {
        return Err(validation(
            "Value null at 'record' failed to satisfy constraint: Member must not be null",
        ));
    };
    let put = decode(record, "record", scanner)?;
    check_stream(&asked, stream)?;
    Ok(put)
}

/// Reads and checks a PutRecordBatch call. Without a scanner ids are not looked for.
pub(super) fn put_record_batch(
    stream: &str,
    scanner: Option<&IdScanner>,
    body: &[u8],
) -> Result<Vec<Put>, Refusal> {
    let asked = read(body)?;
    let records = match &asked.records {
        None => {
            return Err(validation(
                "Value null at 'records' failed to satisfy constraint: Member must not be null",
            ));
        }
        Some(records) if !(1..=CALL_RECORDS_MAX).contains(&records.len()) => {
            return Err(validation(&format!(
                "Value at 'records' failed to satisfy constraint: Member must have length between \
                 1 and {CALL_RECORDS_MAX}, not {}",
                records.len()
            )));
        }
        Some(records) => records,
    };
    let puts = records
        .iter()
        .zip(1..)
        .map(|(record, at)| decode(record, &format!("records.{at}.member"), scanner))
        .collect::<Result<Vec<Put>, Refusal>>()?;
    check_stream(&asked, stream)?;
    let bytes: usize = puts.iter().map(|put| put.data.len()).sum();
    if bytes > CALL_BYTES_MAX {
        return Err(Refusal::client(
            "InvalidArgumentException",
            format!("Records size exceeds 4 MB limit: {bytes} bytes of data, not {CALL_BYTES_MAX}"),
        ));
    }
    Ok(puts)
}

fn decode(record: &Record<'_>, at: &str, scanner: Option<&IdScanner>) -> Result<Put, Refusal> {
    let Some(Text(text)) = &record.data else {
        return Err(validation(&format!(
            "Value null at '{at}.data' failed to satisfy constraint: Member must not be null"
        )));
    };
    let data = base64_simd::STANDARD
        .decode_to_vec(text.as_bytes())
        .map_err(|_| {
            Refusal::client("SerializationException", format!("{at}.data is not base64"))
        })?;
    if data.len() > RECORD_BYTES_MAX {
        return Err(validation(&format!(
            "Value at '{at}.data' failed to satisfy constraint: Member must have length less than \
             or equal to {RECORD_BYTES_MAX}, not {}",
            data.len()
        )));
    }
    let mut ids = Vec::new();
    if let Some(scanner) = scanner {
        scanner.scan(&data, |id| ids.push(id));
    }
    Ok(Put { data, ids })
}

/// DescribeDeliveryStream, as far as producers ask for it. `created` is in Unix seconds.
pub(super) fn describe(
    stream: &str,
    created: f64,
    region: &str,
    body: &[u8],
) -> Result<serde_json::Value, Refusal> {
    check_stream(&read(body)?, stream)?;
    Ok(serde_json::json!({"DeliveryStreamDescription": {
        "DeliveryStreamName": stream,
        "DeliveryStreamARN": format!("arn:aws:firehose:{region}:{ACCOUNT}:deliverystream/{stream}"),
        "DeliveryStreamStatus": "ACTIVE",
        "DeliveryStreamType": "DirectPut",
        "VersionId": "1",
        "CreateTimestamp": created,
        "Destinations": [{"DestinationId": "destinationId-000000000001"}],
        "HasMoreDestinations": false,
    }}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn record(bytes: usize) -> Value {
        json!({"Data": base64_simd::STANDARD.encode_to_string(vec![b'x'; bytes])})
    }

    fn batch(records: &[Value]) -> Result<Vec<Put>, Refusal> {
        let body = json!({"DeliveryStreamName": "clicks", "Records": records});
        put_record_batch("clicks", None, body.to_string().as_bytes())
    }

    fn code(result: Result<Vec<Put>, Refusal>) -> &'static str {
        result.unwrap_err().code
    }

    #[test]
    fn a_call_has_1_to_500_records() {
        assert_eq!(batch(&vec![record(1); 500]).unwrap().len(), 500);
        let refusal = batch(&vec![record(1); 501]).unwrap_err();
        assert_eq!(refusal.code, "ValidationException");
        assert!(refusal.message.ends_with("between 1 and 500, not 501"));
        assert_eq!(code(batch(&[])), "ValidationException");
    }

    #[test]
    fn record_limit_is_1000_kib_and_call_limit_4_mib() {
        assert!(batch(&[record(RECORD_BYTES_MAX)]).is_ok());
        let refusal = batch(&[record(1), record(RECORD_BYTES_MAX + 1)]).unwrap_err();
        assert!(refusal.message.contains("'records.2.member.data'"));
        assert!(refusal.message.ends_with("1024000, not 1024001"));
        let mut records = vec![record(RECORD_BYTES_MAX); 4];
        records.push(record(CALL_BYTES_MAX - 4 * RECORD_BYTES_MAX));
        assert!(batch(&records).is_ok());
        records.push(record(1));
        let refusal = batch(&records).unwrap_err();
        assert_eq!(refusal.code, "InvalidArgumentException");
        assert!(
            refusal.message.contains("4194305 bytes"),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn missing_members_bad_base64_and_unknown_streams_are_refused() {
        for (body, expected) in [
            ("{", "SerializationException"),
            (r#"{"DeliveryStreamName":"clicks"}"#, "ValidationException"),
            (r#"{"Records":[{"Data":"eA=="}]}"#, "ValidationException"),
            (
                r#"{"DeliveryStreamName":"clicks","Records":[{}]}"#,
                "ValidationException",
            ),
            (
                r#"{"DeliveryStreamName":"clicks","Records":[{"Data":"eA"}]}"#,
                "SerializationException",
            ),
            (
                r#"{"DeliveryStreamName":"other","Records":[{"Data":"eA=="}]}"#,
                "ResourceNotFoundException",
            ),
        ] {
            let result = put_record_batch("clicks", None, body.as_bytes());
            assert_eq!(code(result), expected, "{body}");
        }
        // An empty record and one with escapes in its base64 are fine.
        let body =
            br#"{"DeliveryStreamName":"clicks","Records":[{"Data":""},{"Data":"\u0065A=="}]}"#;
        let puts = put_record_batch("clicks", None, body).unwrap();
        assert_eq!(
            (puts[0].data.len(), puts[1].data.as_slice()),
            (0, &b"x"[..])
        );
    }
}
