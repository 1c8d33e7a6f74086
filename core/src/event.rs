//! Record mode 2: one record per event.
//!
//! An event keeps the client's bytes; what the server knows is spliced in behind them. Where the client sent a field of
//! the same name, one of the two stays, as [`crate::server_fields`] says. Finding the events is `json::split`'s work.

use crate::inflate::{Coding, UnwrapLimits};
use crate::json::escape::{quote_into, quote_str_into};
use crate::json::scan::{self, Found, Span, WANTED_MAX, Wanted};
use crate::json::splice::{Additions, Present};
use crate::json::split::{Event, Refused};
use crate::json::walk;
use crate::letter::{About, Contents, Desk, Reason};
use crate::partition::{self, PartitionRule};
use crate::plan::Plan;
use crate::prepared::{EventScratch, KeptEvent, Prepared, PreparedRecord, RecordLimits};
use crate::privacy::{Signals, Treatment};
use crate::reject::Reject;
use crate::request::RequestContext;
use crate::route::rules::{Choice, SAMPLE_RATE};
use crate::schema::{self, SCHEMA_ERROR, Verdict, Violation};
use crate::sent::{SentBody, check_marks, check_record_bytes};
use crate::server_fields::{Clash, ServerField, ServerFields};
use crate::topic::{self, FIELDS_MAX};
use crate::{civil, inflate, json};
use bytes::Bytes;
use std::borrow::Cow;
use std::mem;

// Names that a scan looks for in any case: the server's, the key's and the topic's. Rules have the room that is left.
const _: () = assert!(ServerField::ALL.len() + 1 + FIELDS_MAX <= WANTED_MAX);

/// What a letter has besides its event, whose quotes and backslashes are doubled.
const LETTER_HEAD_BYTES: usize = 1_536;

/// The text of the field in this slot, as for a partition key. `text` begins with the event's bytes.
fn key<'t>(event: &Event, slot: Option<usize>, text: &'t [u8]) -> Option<Cow<'t, str>> {
    let value = event.found.get(slot?)?;
    let start = value.start.checked_sub(event.span.start)?;
    let end = value.end.checked_sub(event.span.start)?;
    partition::key_of_value(Span { start, end }.of(text))
}

/// Fills `out` with one record per event of `body`.
///
/// # Errors
/// A body in which the events cannot be told apart, and one with none or too many.
pub(crate) fn prepare(
    plan: &Plan,
    request: &RequestContext<'_>,
    sent: &SentBody<'_>,
    body: &[u8],
    limits: RecordLimits,
    out: &mut Prepared,
) -> Result<(), Reject> {
    let Prepared {
        received,
        unpacked_bytes,
        records,
        rejected,
        withheld,
        letters,
        letter_tally,
        privacy: tally,
        clashes,
        event_scratch: scratch,
        topic_scratch,
        rules_scratch,
        schemas_scratch,
        ..
    } = out;
    let is_said_gzip = || {
        let [compression] = request.parameters(["compression"]);
        compression.is_some_and(|compression| *compression == *b"gzip")
    };
    let unwrap_limits = UnwrapLimits {
        bytes_max: sent.inflated_bytes_max,
        codings_max: plan.codings_max,
        codings_undone: sent.codings.len(),
        opens_gzip: plan.codings.contains(Coding::Gzip),
    };
    let body = &*inflate::unwrap_events(body, is_said_gzip, unwrap_limits)?;
    if body.len() > sent.bytes.len() {
        check_marks(body, sent.bytes.len(), Coding::Gzip.name())?;
    }
    *unpacked_bytes = body.len();
    scratch.events.clear();
    scratch.kept.clear();
    scratch.edited.clear();
    scratch.treated.clear();
    let privacy = plan.privacy.as_deref();
    let mut treatment = privacy.map(|privacy| privacy.begin(request, body.len()));
    let fields = &*plan.server_fields;
    let mut wanted = Wanted::default();
    fields.want(&mut wanted);
    add_server_fields(fields, request, treatment.as_mut(), &mut scratch.additions);
    let keys = Keys::of(plan, request, &mut wanted);
    let schemas = plan.schemas.as_deref();
    let error_slot = schemas.and_then(|_| wanted.add(SCHEMA_ERROR.as_bytes()));
    let mut rules = plan.rules.as_ref().map(|rules| rules.reading(request));
    if let Some(rules) = &mut rules {
        rules.want(&mut wanted);
    }
    if let Some(treatment) = &mut treatment {
        treatment.want(&mut wanted);
    }
    json::split::split(
        body,
        plan.split_limits(sent.sent_bytes),
        &wanted,
        &mut scratch.events,
    )?;
    *received = u32::try_from(scratch.events.len()).unwrap_or(u32::MAX);
    let withholds_all = treatment.as_mut().is_some_and(|treatment| {
        let valid = scratch.events.iter().filter(|event| event.is_ok()).count();
        treatment.withholds(valid as u64)
    });

    let mut desk = plan.letters.as_deref().map(|plan| {
        let (bytes_max, sent) = (limits.letters, sent.sent_bytes);
        Desk::new(plan, request, bytes_max, sent, letters, letter_tally)
    });

    let mut total = 0;
    for (index, event) in (0..).zip(scratch.events.drain(..)) {
        let mut event = match event {
            Ok(_) if withholds_all => {
                withheld.push(index);
                continue;
            }
            Ok(event) => event,
            Err(Refused { span, reject }) => {
                if let Some(desk) = desk.as_mut().filter(|_| !withholds_all) {
                    let contents = match privacy {
                        None => Contents::Bytes(span.of(body)),
                        Some(_) => Contents::Withheld(span.of(body).len()),
                    };
                    desk.refused(&reject, Some(index), None, contents);
                }
                rejected.push((index, reject));
                continue;
            }
        };
        let mut present = Present::default();
        let (mut sent_in, mut is_treated) = (body, false);
        let clashing = fields.sent_in(&event.found);
        if clashing != 0 {
            fields.count(clashing, clashes);
            match fields.clash {
                Clash::Client => present = Present(clashing),
                Clash::Server => {
                    let out = match treatment {
                        None => &mut scratch.treated,
                        Some(_) => {
                            scratch.stripped.clear();
                            &mut scratch.stripped
                        }
                    };
                    event = strip(fields, body, &event, &wanted, out);
                    is_treated = true;
                    if treatment.is_some() {
                        sent_in = &scratch.stripped;
                    }
                }
            }
        }
        if let Some(treatment) = &mut treatment {
            let treated = treatment.event(sent_in, &event, &wanted, &mut scratch.treated);
            let Some(treated) = treated else {
                withheld.push(index);
                continue;
            };
            (event, is_treated) = (treated, true);
        }
        let text = if is_treated { &scratch.treated } else { body };
        let raw = event.span.of(text);
        let choice = rules
            .as_ref()
            .map(|rules| rules.event(&event, text, rules_scratch));
        let edited = choice
            .as_ref()
            .and_then(|choice| edit(choice, raw, &mut scratch.edited));
        let verdict = schemas.map_or(Verdict::Passes, |schemas| {
            schemas.event(choice.as_ref(), raw, schemas_scratch)
        });
        let mut dead = None;
        let edited = match verdict {
            Verdict::Passes => edited,
            Verdict::Tagged(error) => {
                let has_error = error_slot.is_none_or(|slot| event.found.get(slot).is_some());
                match error.is_some() || has_error {
                    true => tag(edited, raw, error.as_ref(), &mut scratch.edited),
                    false => edited,
                }
            }
            Verdict::Dead(schema, violation) => {
                dead = Some((schema, violation));
                edited
            }
            Verdict::Rejected(reject) => {
                rejected.push((index, reject));
                continue;
            }
        };
        let (object, is_empty) = match edited {
            Some(edited) => edited_object(edited, &scratch.edited),
            None => (raw, event.is_empty),
        };
        let len = match &choice {
            Some(choice) if choice.goes_nowhere() => 0,
            _ => (scratch.additions).spliced_len(object, is_empty, present, index),
        };
        let additions = &scratch.additions;
        let whole = || {
            let mut whole = Vec::with_capacity(len);
            additions.splice_into(object, is_empty, present, index, &mut whole);
            whole
        };
        let rule = choice.as_ref().and_then(|choice| choice.rule);
        if let Some(dead) = dead {
            let with_letter = total + 2 * len + LETTER_HEAD_BYTES;
            // Too many letters are no reason to refuse its neighbours.
            let room = check_record_bytes(with_letter, sent.sent_bytes);
            match room.and_then(|()| bury(dead, desk.as_mut(), (index, rule), &whole())) {
                Ok(()) => total = with_letter,
                Err(reject) => rejected.push((index, reject)),
            }
            continue;
        }
        let of_choice = choice.as_ref().map_or(0, |choice| choice.key_bytes);
        let actual = len + keys.len(&event, raw).max(of_choice);
        if actual > limits.records {
            let limit = limits.records;
            let reject = Reject::RecordTooLarge { limit, actual };
            if let Some(desk) = &mut desk {
                desk.refused(&reject, Some(index), rule, Contents::Bytes(&whole()));
            }
            rejected.push((index, reject));
            continue;
        }
        total += len;
        check_record_bytes(total, sent.sent_bytes)?;
        scratch.kept.push(KeptEvent {
            index,
            event,
            present,
            len,
            choice,
            is_treated,
            edited,
        });
    }

    if let Some(treatment) = treatment {
        *tally = treatment.tally();
    }
    write(plan, &keys, body, total, scratch, topic_scratch, records);
    Ok(())
}

/// Where partition key and topic of an event come from.
struct Keys {
    /// One for all events of the request.
    of_request: Option<Bytes>,
    slot: Option<usize>,
    topic_slots: [Option<usize>; FIELDS_MAX],
}

impl Keys {
    fn of<'p>(plan: &'p Plan, request: &RequestContext<'_>, wanted: &mut Wanted<'p>) -> Keys {
        let (slot, of_request) = match &plan.partition {
            PartitionRule::Random => (None, None),
            PartitionRule::Timestamp => {
                let stamp = civil::rfc3339(request.received_at);
                (None, Some(Bytes::copy_from_slice(stamp.as_bytes())))
            }
            PartitionRule::Field(name) => (wanted.add(name.as_bytes()), None),
        };
        let mut topic_slots = [None; FIELDS_MAX];
        if let Some(topics) = &plan.topics {
            for (slot, name) in topic_slots.iter_mut().zip(topics.template().fields()) {
                *slot = wanted.add(name.as_bytes());
            }
        }
        Keys {
            of_request,
            slot,
            topic_slots,
        }
    }

    /// Bytes of an event's key.
    fn len(&self, event: &Event, raw: &[u8]) -> usize {
        match &self.of_request {
            Some(key) => key.len(),
            None => key(event, self.slot, raw).map_or(0, |key| key.len()),
        }
    }

    /// The key of a record; `raw` is its event before it was edited.
    fn of_record(&self, kept: &KeptEvent, raw: &[u8], payload: &Bytes) -> Option<Bytes> {
        match &self.of_request {
            Some(key) => Some(key.clone()),
            // Its fields are not where they were.
            None if kept.edited.is_some() => {
                key(&kept.event, self.slot, raw).map(|key| Bytes::copy_from_slice(key.as_bytes()))
            }
            None => match key(&kept.event, self.slot, payload)? {
                // A part of the payload already: no copy.
                Cow::Borrowed(key) => Some(payload.slice_ref(key.as_bytes())),
                Cow::Owned(key) => Some(Bytes::from(key)),
            },
        }
    }
}

/// Writes the letter of an event that broke its schema.
///
/// # Errors
/// No letters are kept, or it does not fit one: the event is rejected.
fn bury(
    (schema, violation): (&str, Box<Violation>),
    desk: Option<&mut Desk<'_>>,
    (index, rule): (u32, Option<usize>),
    whole: &[u8],
) -> Result<(), Reject> {
    let Some(desk) = desk else {
        let schema = schema.into();
        return Err(Reject::Schema { schema, violation });
    };
    let about = About {
        reason: Reason::Schema,
        code: &violation.rule.to_string(),
        message: &violation.message(),
        schema: Some(schema),
        index: Some(index),
        rule,
    };
    desk.taken(&about, whole)
}

/// Makes records of the events that are kept: `total` bytes, in one allocation, for they are settled together, mostly
/// by one call.
fn write(
    plan: &Plan,
    keys: &Keys,
    body: &[u8],
    total: usize,
    scratch: &mut EventScratch,
    topic_scratch: &mut topic::Scratch,
    records: &mut Vec<PreparedRecord>,
) {
    let treated = &scratch.treated;
    let text_of = |kept: &KeptEvent| {
        kept.event
            .span
            .of(if kept.is_treated { treated } else { body })
    };

    let mut text = Vec::with_capacity(total);
    for kept in scratch.kept.iter().filter(|kept| kept.len > 0) {
        let start = text.len();
        let (object, is_empty) = match kept.edited {
            Some(edited) => edited_object(edited, &scratch.edited),
            None => (text_of(kept), kept.event.is_empty),
        };
        scratch
            .additions
            .splice_into(object, is_empty, kept.present, kept.index, &mut text);
        if kept.event.line_breaks {
            json::splice::flatten(&mut text[start..]);
        }
    }
    let mut text = Bytes::from(text);
    let mut start = 0;
    for kept in scratch.kept.drain(..) {
        let payload = if kept.len == text.len() {
            // The only record: sharing would cost a count.
            mem::take(&mut text)
        } else {
            text.slice(start..start + kept.len)
        };
        let record_key = keys.of_record(&kept, text_of(&kept), &payload);
        let topic = plan.topics.as_ref().and_then(|topics| {
            topics.choose(topic_scratch, |at| {
                key(&kept.event, *keys.topic_slots.get(at)?, text_of(&kept))
            })
        });
        let routing = kept
            .choice
            .and_then(|choice| choice.finish(record_key.as_ref(), topic.as_ref()));
        records.push(PreparedRecord {
            index: kept.index,
            key: record_key,
            topic,
            payload,
            routing,
        });
        start += kept.len;
    }
}

/// Appends to `out` the object of an event to which its sample's rate is added, instead of one that the client wrote:
/// counts would be wrong if a client could choose it. `None` for an event without a sample.
fn edit(choice: &Choice, raw: &[u8], out: &mut Vec<u8>) -> Option<Span> {
    let sample = choice.sample.filter(|_| !choice.goes_nowhere())?;
    let start = out.len();
    let is_empty = match choice.has_rate {
        true => walk::without(raw, [SAMPLE_RATE].into_iter(), out),
        false => {
            out.extend_from_slice(raw);
            // A sample is taken by a field.
            false
        }
    };
    out.pop();
    if !is_empty {
        out.push(b',');
    }
    quote_str_into(SAMPLE_RATE, out);
    out.push(b':');
    sample.write_rate(out);
    out.push(b'}');
    appended(start, out)
}

/// Appends to `out` the event with its violation. `edited` says where in `out` it is, if it was edited before.
fn tag(
    edited: Option<Span>,
    raw: &[u8],
    error: Option<&(&str, Box<Violation>)>,
    out: &mut Vec<u8>,
) -> Option<Span> {
    let before = edited.map(|edited| edited.of(out).to_vec());
    let start = out.len();
    schema::tag(before.as_deref().unwrap_or(raw), error, out);
    appended(start, out)
}

/// Bodies of 4 GiB are rejected, and an edited one is hardly longer.
fn appended(start: usize, out: &[u8]) -> Option<Span> {
    Some(Span {
        start: u32::try_from(start).ok()?,
        end: u32::try_from(out.len()).ok()?,
    })
}

/// An object of these edited ones, and whether it has no member.
fn edited_object(edited: Span, all: &[u8]) -> (&[u8], bool) {
    let object = edited.of(all);
    (object, object == b"{}")
}

/// Appends the object of an event without fields that have names of the server's. Gives what the event is now.
fn strip(
    fields: &ServerFields,
    body: &[u8],
    event: &Event,
    wanted: &Wanted<'_>,
    out: &mut Vec<u8>,
) -> Event {
    let start = out.len();
    let names = fields.iter().map(|(_, name)| name);
    let is_empty = walk::without(event.span.of(body), names, out);
    let mut found = Found::default();
    // It is an object still.
    let _ = scan::value(out, start, usize::MAX, wanted, &mut found);
    // Bodies of 4 GiB are rejected, and nothing gets longer.
    Event {
        span: Span {
            start: start as u32,
            end: out.len() as u32,
        },
        found,
        is_empty,
        line_breaks: event.line_breaks,
    }
}

/// Renders what is added to each event of this request: the n-th field is the n-th addition.
fn add_server_fields(
    fields: &ServerFields,
    request: &RequestContext<'_>,
    mut treatment: Option<&mut Treatment<'_>>,
    additions: &mut Additions,
) {
    additions.clear();
    let Signals {
        gpc,
        dnt,
        sp_anonymous,
    } = request.privacy.signals;
    for (field, name) in fields.iter() {
        let mut add_text = |text: Option<Cow<'_, [u8]>>| {
            let left = text.and_then(|text| match &mut treatment {
                Some(treatment) => treatment.server_field(field, name, text),
                None => Some(text),
            });
            match left {
                Some(text) => additions.add(name, |out| quote_into(&text, out)),
                None => additions.skip(),
            }
        };
        let signal = match field {
            ServerField::IngestTime => {
                let mut digits = itoa::Buffer::new();
                let millis = digits.format(request.received_at.unix_millis());
                additions.add(name, |out| out.extend_from_slice(millis.as_bytes()));
                continue;
            }
            ServerField::RequestId => {
                additions.add(name, |out| {
                    out.push(b'"');
                    out.extend_from_slice(&request.id.to_hex());
                    out.push(b'"');
                });
                continue;
            }
            ServerField::Address => {
                add_text(Some(request.address()));
                continue;
            }
            ServerField::UserAgent => {
                add_text(request.agent().map(Cow::Borrowed));
                continue;
            }
            ServerField::Index => {
                additions.add_index(name);
                continue;
            }
            ServerField::Gpc => gpc.then_some(true),
            ServerField::Dnt => dnt,
            ServerField::SpAnonymous => sp_anonymous.then_some(true),
        };
        match signal {
            Some(true) => additions.add(name, |out| out.extend_from_slice(b"true")),
            Some(false) => additions.add(name, |out| out.extend_from_slice(b"false")),
            None => additions.skip(),
        }
    }
}
