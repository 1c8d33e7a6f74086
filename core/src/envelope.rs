//! Record mode 1: one record per request, the body opaque inside it.
//!
//! Keys, their order and the rules for their values are those of the service that Sluice replaces,
//! because its readers parse these records: 17 keys in byte order, compact, absent ones `null`. Two
//! things are done better: an `upload_timestamp` that is no number is nulled (readers
//! fail on it and drop the whole record), and where no proxy names the client, `ip` is the peer's address.

use crate::civil;
use crate::json::escape::{Escaped, quote_into, quote_str_into};
use crate::partition::{PartitionRule, truncated};
use crate::plan::Plan;
use crate::prepared::{EnvelopeScratch, Prepared, PreparedRecord, RecordLimits};
use crate::reject::Reject;
use crate::request::RequestContext;
use crate::route::rules::Choice;
use crate::sent::{SentBody, check_record_bytes};
use crate::server_fields::ServerField;
use bytes::Bytes;
use std::borrow::Cow;

/// The query parameters that become keys of the record.
const PARAMETERS: [&str; 5] = [
    "appId",
    "compression",
    "fakeIp",
    "platform",
    "upload_timestamp",
];

/// Fills `out` with the one record of this request.
///
/// # Errors
/// [`Reject::RecordTooLarge`], [`Reject::RecordsTooLarge`].
pub(crate) fn prepare(
    plan: &Plan,
    request: &RequestContext<'_>,
    sent: &SentBody<'_>,
    body: &[u8],
    limits: RecordLimits,
    out: &mut Prepared,
) -> Result<(), Reject> {
    out.received = 1;
    let privacy = plan.privacy.as_deref();
    let mut treatment = privacy.map(|privacy| privacy.begin(request, body.len()));
    if let Some(treatment) = &mut treatment
        && treatment.withholds(1)
    {
        out.privacy = treatment.tally();
        out.withheld.push(0);
        return Ok(());
    }
    // Whatever quotes the target quotes it as privacy left it.
    let (uri, treated);
    let request = match &mut treatment {
        None => request,
        Some(treatment) => {
            uri = treatment.uri(request.uri);
            treated = RequestContext {
                uri: &uri,
                query: uri.split_once('?').map(|(_, query)| query),
                ..*request
            };
            &treated
        }
    };
    let timestamp = civil::rfc3339(request.received_at);
    let key = match &plan.partition {
        PartitionRule::Random => None,
        PartitionRule::Timestamp => Some(Bytes::copy_from_slice(timestamp.as_bytes())),
        PartitionRule::Field(name) => parameter_key(request, name),
    };
    let topic = plan.topics.as_ref().and_then(|topics| {
        let mut names = topics.template().fields();
        topics.choose(&mut out.topic_scratch, |_| {
            parameter(request, names.next()?).map(Cow::Owned)
        })
    });

    let choice = plan
        .rules
        .as_ref()
        .map(|rules| rules.reading(request).envelope(&mut out.rules_scratch));
    let route_key_bytes = choice.as_ref().map_or(0, |choice| choice.key_bytes);

    let EnvelopeScratch {
        before_data,
        after_data,
    } = &mut out.envelope_scratch;
    let [app_id, compression, fake_ip, platform, upload_timestamp] = request.parameters(PARAMETERS);
    let upload_timestamp = upload_timestamp.filter(|text| is_integer(text));
    // An empty one is no address.
    let (stand_in, fake_ip) = match fake_ip {
        Some(address) if plan.fake_ip && !address.is_empty() => (Some(address), None),
        fake_ip => (None, fake_ip),
    };

    before_data.clear();
    before_data.extend_from_slice(b"{\"appId\":");
    string_or_null(app_id.as_deref(), before_data);
    if let Some(millis) = &upload_timestamp {
        before_data.extend_from_slice(b",\"client_timestamp\":");
        quote_into(millis, before_data);
    }
    before_data.extend_from_slice(b",\"compression\":");
    string_or_null(compression.as_deref(), before_data);
    before_data.extend_from_slice(b",\"data\":\"");

    after_data.clear();
    after_data.extend_from_slice(b"\",\"date\":\"");
    after_data.extend_from_slice(civil::iso8601(request.received_at).as_bytes());
    after_data.push(b'"');
    if stand_in.is_none() {
        after_data.extend_from_slice(b",\"fakeIp\":");
        string_or_null(fake_ip.as_deref(), after_data);
    }
    // Milliseconds, but of the whole second: readers compare it with times made the same way.
    let millis = request.received_at.secs.saturating_mul(1000);
    let mut digits = itoa::Buffer::new();
    let millis = digits.format(millis).as_bytes();
    after_data.extend_from_slice(b",\"ingest_time\":");
    after_data.extend_from_slice(millis);
    after_data.extend_from_slice(b",\"ip\":");
    let address = match (stand_in, &mut treatment) {
        // Treated as the parameter that it is.
        (Some(stand_in), _) => Some(stand_in),
        (None, None) => Some(request.address()),
        (None, Some(treatment)) => treatment.server_field(
            ServerField::Address,
            ServerField::Address.usual_name(),
            request.address(),
        ),
    };
    string_or_null(address.as_deref(), after_data);
    after_data.extend_from_slice(b",\"method\":");
    quote_str_into(request.method, after_data);
    after_data.extend_from_slice(b",\"path\":");
    quote_str_into(request.path, after_data);
    after_data.extend_from_slice(b",\"platform\":");
    string_or_null(platform.as_deref(), after_data);
    after_data.extend_from_slice(b",\"rid\":\"");
    after_data.extend_from_slice(&request.id.to_hex());
    after_data.extend_from_slice(b"\",\"server_ingest_time\":");
    after_data.extend_from_slice(millis);
    after_data.extend_from_slice(b",\"source_type\":\"http_server\",\"timestamp\":\"");
    after_data.extend_from_slice(timestamp.as_bytes());
    after_data.extend_from_slice(b"\",\"ua\":");
    let agent = request.agent();
    match &mut treatment {
        None => string_or_null(agent, after_data),
        Some(treatment) => {
            let field = ServerField::UserAgent;
            let agent = agent.and_then(|agent| {
                treatment.server_field(field, field.usual_name(), Cow::Borrowed(agent))
            });
            string_or_null(agent.as_deref(), after_data);
        }
    }
    if upload_timestamp.is_none() {
        after_data.extend_from_slice(b",\"upload_timestamp\":null");
    }
    after_data.extend_from_slice(b",\"uri\":");
    quote_str_into(request.uri, after_data);
    after_data.push(b'}');

    let data = Escaped::measure(body);
    let len = before_data.len() + data.len() + after_data.len();
    let actual = len + key.as_ref().map_or(0, Bytes::len).max(route_key_bytes);
    if actual > limits.records {
        let limit = limits.records;
        return Err(Reject::RecordTooLarge { limit, actual });
    }
    check_record_bytes(len, sent.sent_bytes)?;
    let goes_nowhere = choice.as_ref().is_some_and(Choice::goes_nowhere);
    let mut payload = Vec::new();
    if !goes_nowhere {
        payload.reserve_exact(len);
        payload.extend_from_slice(before_data);
        data.write_into(&mut payload);
        payload.extend_from_slice(after_data);
    }
    let routing = choice.and_then(|choice| choice.finish(key.as_ref(), topic.as_ref()));
    if let Some(treatment) = treatment {
        out.privacy = treatment.tally();
    }
    out.records.push(PreparedRecord {
        index: 0,
        key,
        topic,
        payload: Bytes::from(payload),
        routing,
    });
    Ok(())
}

/// A key of the envelope that comes from the request's head, for rules.
pub(crate) fn key_of<'a>(request: &RequestContext<'a>, key: &str) -> Option<Cow<'a, [u8]>> {
    match key {
        "ip" => Some(request.address()),
        "ua" => request.agent().map(Cow::Borrowed),
        "method" => Some(Cow::Borrowed(request.method.as_bytes())),
        "path" => Some(Cow::Borrowed(request.path.as_bytes())),
        "uri" => Some(Cow::Borrowed(request.uri.as_bytes())),
        _ if PARAMETERS.contains(&key) => {
            let [value] = request.parameters([key]);
            value
        }
        _ => None,
    }
}

fn parameter_key(request: &RequestContext<'_>, name: &str) -> Option<Bytes> {
    parameter(request, name).map(Bytes::from)
}

/// A query parameter that has a value: the first [`crate::partition::KEY_CHARS_MAX`] characters of it.
fn parameter(request: &RequestContext<'_>, name: &str) -> Option<String> {
    let [value] = request.parameters([name]);
    let value = value?;
    let text = String::from_utf8_lossy(&value);
    let text = truncated(&text);
    (!text.is_empty()).then(|| text.to_owned())
}

fn string_or_null(text: Option<&[u8]>, out: &mut Vec<u8>) {
    match text {
        Some(text) => quote_into(text, out),
        None => out.extend_from_slice(b"null"),
    }
}

/// Whether readers, which want a 64-bit integer, will read this text as one.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(text).is_ok_and(|text| text.parse::<i64>().is_ok())
}
