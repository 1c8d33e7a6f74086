//! Every metric, declared once: name, type, unit, labels, meaning, alarms and the source of its value.
//! `docs/reference/metrics.md` is made from it.

use super::Kind::{Counter, Gauge, Histogram};
use super::Samples::{
    Bill, Custom, Known, One, Output, Rule, Schema, Spool, Stage, Worker, WorkerBy, Writer,
    WriterByCause,
};
use super::{Family, Kind, Micros, Page, Samples, Sources, Summed, process, spooled, staged, sum};
use crate::runtime::driver::DriverKind;
use sluice_core::cause::Cause;
use sluice_core::letter::Reason;
use sluice_core::priority::Priority;
use sluice_core::privacy::Withheld;
use sluice_core::schema;
use sluice_core::server_fields::ServerField;
use sluice_core::stats::{BATCH_BYTES, BATCH_RECORDS, EndpointLabel, LATENCY_MICROS, WorkerStats};
use std::collections::BTreeMap;

/// The `driver` label, by the values that `WorkerStats::driver` may have.
pub(super) const DRIVERS: [&str; 4] = [
    "unknown",
    DriverKind::UringDeferred.label(),
    DriverKind::Uring.label(),
    DriverKind::Epoll.label(),
];

/// Statuses of event endpoints that have a series from the start, so that a rate over the first of
/// them is not missed.
const STATUSES: [u16; 14] = [
    200, 204, 400, 403, 404, 405, 408, 411, 413, 414, 415, 422, 431, 503,
];

const NONE: &[&str] = &[];
const OUTPUT: &[&str] = &["output"];
const OUTPUT_CAUSE: &[&str] = &["output", "cause"];

const fn family(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
    samples: Samples,
) -> Family {
    Family {
        name,
        kind,
        unit,
        labels,
        help,
        alarms: &[],
        samples,
    }
}

impl Family {
    const fn alarms(mut self, alarms: &'static [&'static str]) -> Family {
        self.alarms = alarms;
        self
    }
}

/// All of them, in the order of the page.
// Unformatted it reads as a table; formatted it would be four times as long.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = &[
    // The process.
    family("sluice_build_info", Gauge, "1", &["version"],
        "Always 1; the label says what runs.",
        Custom(|page, _| page.sample_by(env!("CARGO_PKG_VERSION"), 1))),
    family("sluice_ready", Gauge, "0 or 1", NONE,
        "Whether traffic should come here; 0 while starting and draining.",
        One(|sources| u64::from(sources.readiness.is_ready()))),
    family("process_start_time_seconds", Gauge, "Unix seconds", NONE,
        "When the process started.",
        One(|sources| sources.started.secs))
        .alarms(&["SluiceRestarting"]),
    family("process_cpu_seconds_total", Counter, "seconds", NONE,
        "CPU time of the process in user and kernel mode.",
        Custom(|page, _| {
            if let Some(micros) = process::cpu_micros() {
                page.sample("", &[], Micros(micros));
            }
        })),
    family("process_resident_memory_bytes", Gauge, "bytes", NONE,
        "Memory of the process that is resident.",
        Known(|_| process::resident_bytes())),
    family("process_open_fds", Gauge, "descriptors", NONE,
        "Descriptors that the process has open.",
        Known(|_| process::open_descriptors())),
    family("process_max_fds", Gauge, "descriptors", NONE,
        "Descriptors that the process may have open.",
        Known(|_| process::descriptors_max())),
    family("sluice_log_lines_dropped_total", Counter, "lines", NONE,
        "Log lines that could not be written, or that found the log's queue full.",
        One(|_| crate::log_writer::dropped())),
    family("sluice_driver_workers", Gauge, "workers", &["driver"],
        "Workers by the I/O driver that they run on.",
        Custom(drivers)),
    family("sluice_in_flight_bytes", Gauge, "bytes", NONE,
        "Bytes of bodies and records held now.",
        Worker(|worker| worker.budget_bytes.get())),
    family("sluice_in_flight_limit_bytes", Gauge, "bytes", NONE,
        "The bytes held at which new requests are answered 503 (limits.in_flight_bytes_max).",
        One(|sources| sources.limits.in_flight_bytes_max)),
    // Connections.
    family("sluice_connections_open", Gauge, "connections", NONE,
        "Client connections open now.",
        Worker(|worker| worker.connections_open.get())),
    family("sluice_connections_limit", Gauge, "connections", NONE,
        "Client connections that may be open: listen.connections_max, or half the descriptors.",
        One(|sources| sources.limits.connections_max)),
    family("sluice_connections_per_address_limit", Gauge, "connections", NONE,
        "Client connections that one address may have open; 0 for no limit.",
        One(|sources| sources.limits.connections_per_address_max)),
    family("sluice_connections_accepted_total", Counter, "connections", NONE,
        "Client connections accepted.",
        Worker(|worker| worker.connections_accepted.get())),
    family("sluice_connections_capped_total", Counter, "connections", &["cap"],
        "Client connections refused, with 503 to their first request, because a cap was reached: that of the process, or of their address.",
        WorkerBy(&[
            ("process", |worker| worker.connections_capped.get()),
            ("address", |worker| worker.connections_capped_by_address.get()),
        ]))
        .alarms(&["SluiceConnectionsCapped"]),
    family("sluice_connections_evicted_total", Counter, "connections", NONE,
        "Client connections closed for new ones, at over 80 % of the limit: those that were idle for the longest.",
        Worker(|worker| worker.connections_evicted.get())),
    family("sluice_http2_floods_total", Counter, "connections", NONE,
        "HTTP/2 connections closed because they sent more frames than requests need: 1,000 at once or 100 a second, and 4 for each request.",
        Worker(|worker| worker.http2_floods.get())),
    family("sluice_proxy_headers_refused_total", Counter, "connections", NONE,
        "Connections closed because they did not begin with the PROXY protocol header that is required.",
        Worker(|worker| worker.proxy_headers_refused.get())),
    family("sluice_tls_handshakes_total", Counter, "handshakes", &["result"],
        "TLS handshakes: full, resumed by a ticket, or failed.",
        WorkerBy(&[
            ("full", |worker| worker.tls_full.get()),
            ("resumed", |worker| worker.tls_resumed.get()),
            ("failed", |worker| worker.tls_failed.get()),
        ])),
    family("sluice_tls_certificate_expires_seconds", Gauge, "seconds", &["listener", "file"],
        "When a certificate in force expires, as Unix time.",
        Custom(certificates)),
    family("sluice_tls_reloads_total", Counter, "reloads", &["listener", "result"],
        "Changed files of certificates and ticket keys that were taken, or refused because they were broken.",
        Custom(reloads)),
    family("sluice_accept_errors_total", Counter, "errors", NONE,
        "Errors of accept, mostly for want of descriptors.",
        Worker(|worker| worker.accept_errors.get())),
    family("sluice_received_bytes_total", Counter, "bytes", NONE,
        "Bytes read from client connections, heads included.",
        Worker(|worker| worker.bytes_received.get())),
    family("sluice_sent_bytes_total", Counter, "bytes", NONE,
        "Bytes written to client connections, heads included.",
        Worker(|worker| worker.bytes_sent.get())),
    // Requests.
    family("sluice_responses_total", Counter, "responses", &["endpoint", "status"],
        "Responses by endpoint and HTTP status; endpoint none is an unknown path or a malformed request.",
        Custom(responses))
        .alarms(&["SluiceEventsRefused", "SluiceDeadlinePassed"]),
    family("sluice_request_seconds", Histogram, "seconds", &["endpoint"],
        "From the end of a request's head to its response, by endpoint.",
        Custom(|page, sources| {
            for endpoint in EndpointLabel::ALL {
                let blocks = sources.workers.iter();
                let blocks = blocks.map(|worker| &worker.endpoint(endpoint).latency_micros);
                let summed = Summed::of(&LATENCY_MICROS, blocks);
                page.histogram(&[("endpoint", endpoint.label())], &summed, Micros);
            }
        })),
    family("sluice_requests_broken_off_total", Counter, "requests", NONE,
        "Requests whose client left before a response could be sent.",
        Worker(|worker| worker.broken_off.get())),
    family("sluice_forwarded_for_ignored_total", Counter, "requests", &["reason"],
        "Requests whose X-Forwarded-For was ignored: from a peer that is not trusted, or not an address.",
        WorkerBy(&[
            ("untrusted_peer", |worker| worker.forwarded_for_untrusted.get()),
            ("not_an_address", |worker| worker.forwarded_for_invalid.get()),
        ])),
    family("sluice_body_limit_bytes", Gauge, "bytes", NONE,
        "The body length at which requests are answered 413 (limits.body_bytes_max).",
        One(|sources| sources.limits.body_bytes_max)),
    // Events.
    family("sluice_events_received_total", Counter, "events", NONE,
        "Events (requests on the envelope endpoint) that arrived in readable bodies.",
        Worker(|worker| worker.events_received.get())),
    family("sluice_events_accepted_total", Counter, "events", NONE,
        "Events handed to every output.",
        Worker(|worker| worker.events_accepted.get())),
    family("sluice_events_rejected_total", Counter, "events", NONE,
        "Events refused to the client.",
        Worker(|worker| worker.events_rejected.get())),
    family("sluice_events_shed_total", Counter, "events", NONE,
        "Good events of requests answered 503 before anything was taken; handed to no output.",
        Worker(|worker| worker.events_shed.get())),
    family("sluice_events_withheld_total", Counter, "events", &["reason"],
        "Good events that were not stored and answered 200: for the signal of a client whose policy is drop, or because an id is on the suppress list.",
        WorkerBy(&[
            ("gpc", |worker| worker.events_withheld[Withheld::Gpc as usize].get()),
            ("dnt", |worker| worker.events_withheld[Withheld::Dnt as usize].get()),
            ("sp_anonymous", |worker| worker.events_withheld[Withheld::SpAnonymous as usize].get()),
            ("suppressed", |worker| worker.events_withheld[Withheld::Suppressed as usize].get()),
        ])),
    family("sluice_dead_letters_total", Counter, "letters", &["reason"],
        "Letters written for the output of dead letters (dead_letters.output).",
        WorkerBy(&[
            (Reason::Unreadable.label(), |worker| worker.letters_written[Reason::Unreadable as usize].get()),
            (Reason::TooDeep.label(), |worker| worker.letters_written[Reason::TooDeep as usize].get()),
            (Reason::TooLarge.label(), |worker| worker.letters_written[Reason::TooLarge as usize].get()),
            (Reason::Schema.label(), |worker| worker.letters_written[Reason::Schema as usize].get()),
        ])),
    family("sluice_dead_letters_lost_total", Counter, "letters", &["why"],
        "Letters about refused events, whose clients were told, that are not kept: over_limit for the bytes of their request, no_room at their output, or not_delivered by it.",
        WorkerBy(&[
            ("over_limit", |worker| worker.letters_over.get()),
            ("no_room", |worker| worker.letters_without_room.get()),
            ("not_delivered", |worker| worker.letters_not_delivered.get()),
        ])),
    family("sluice_server_field_clashes_total", Counter, "events", &["field"],
        "Events in which a client sent a field under the name of one that Sluice writes, by the setting in [server_fields].",
        WorkerBy(&[
            ("ingest_time", |worker| worker.server_field_clashes[ServerField::IngestTime as usize].get()),
            ("request_id", |worker| worker.server_field_clashes[ServerField::RequestId as usize].get()),
            ("address", |worker| worker.server_field_clashes[ServerField::Address as usize].get()),
            ("user_agent", |worker| worker.server_field_clashes[ServerField::UserAgent as usize].get()),
            ("gpc", |worker| worker.server_field_clashes[ServerField::Gpc as usize].get()),
            ("dnt", |worker| worker.server_field_clashes[ServerField::Dnt as usize].get()),
            ("sp_anonymous", |worker| worker.server_field_clashes[ServerField::SpAnonymous as usize].get()),
            ("index", |worker| worker.server_field_clashes[ServerField::Index as usize].get()),
        ])),
    family("sluice_privacy_values_total", Counter, "values", &["action"],
        "Values that were dropped, masked, cut or hashed before anything was stored: fields and parameters, and addresses by whichever rule.",
        WorkerBy(&[
            ("drop", |worker| worker.privacy_dropped.get()),
            ("mask", |worker| worker.privacy_masked.get()),
            ("truncate", |worker| worker.privacy_truncated.get()),
            ("hash", |worker| worker.privacy_hashed.get()),
            ("address", |worker| worker.privacy_addresses.get()),
        ])),
    family("sluice_suppress_list_entries", Gauge, "ids", NONE,
        "Ids on the suppress list in force (privacy.suppress_file).",
        Known(|sources| Some(sources.suppressed.as_ref()?.entries()))),
    family("sluice_suppress_list_age_seconds", Gauge, "seconds", NONE,
        "Time since the suppress list in force was written.",
        Known(|sources| {
            let now = (sources.wall)().secs;
            Some(now.saturating_sub(sources.suppressed.as_ref()?.modified()))
        })),
    family("sluice_suppress_list_reloads_total", Counter, "reloads", &["result"],
        "Changed suppress lists that were taken, or refused because they were broken.",
        Custom(|page, sources| {
            if let Some(file) = &sources.suppressed {
                page.sample("", &[("result", "taken")], file.reloads().taken());
                page.sample("", &[("result", "refused")], file.reloads().refused());
            }
        })),
    family("sluice_events_without_topic_total", Counter, "events", NONE,
        "Good events whose values named no topic of a template, or one too many: for its fallback.",
        Worker(|worker| worker.events_without_topic.get())),
    family("sluice_route_events_total", Counter, "events", &["rule"],
        "Valid events that a rule of routing matched, whether or not there was room for them; `unmatched` that none did.",
        Rule(|rule| rule.events.get())),
    family("sluice_route_events_sampled_away_total", Counter, "events", &["rule"],
        "Of these, left out of the rule's sample.",
        Rule(|rule| rule.sampled_away.get())),
    family("sluice_route_events_without_topic_total", Counter, "events", &["rule"],
        "Of these, whose topic could not be made, was not allowed, not listed or one too many: for the output's own place.",
        Rule(|rule| rule.without_topic.get())),
    family("sluice_schema_events_total", Counter, "events", &["schema"],
        "Events that have a schema, whether or not there was room for them.",
        Schema(|schema| schema.events.get())),
    family("sluice_schema_unchecked_total", Counter, "events", &["schema"],
        "Of these, stored unchecked, because no copy of the schema was there yet.",
        Schema(|schema| schema.unchecked.get())),
    family("sluice_schema_violations_total", Counter, "events", &["schema", "rule"],
        "Events that break their schema, by the rule that is broken first: a keyword of JSON Schema, `size`, `unreadable` or `other`.",
        Custom(|page, sources| {
            for (at, loaded) in sources.schemas.loaded().iter().enumerate() {
                for (rule, name) in schema::Rule::NAMES.iter().enumerate() {
                    let read = |worker: &WorkerStats| {
                        let schema = worker.schemas.get(at);
                        schema.map_or(0, |schema| schema.violations[rule].get())
                    };
                    let total = sum(&sources.workers, read);
                    // Most of them no schema has.
                    if total > 0 {
                        let labels = [("schema", &*loaded.named.name), ("rule", *name)];
                        page.sample("", &labels, total);
                    }
                }
            }
        })),
    family("sluice_schema_reloads_total", Counter, "reloads", &["schema", "result"],
        "Changed schemas that were taken, or refused because they were broken.",
        Custom(|page, sources| {
            for loaded in sources.schemas.loaded() {
                let name = loaded.named.name.as_str();
                page.sample("", &[("schema", name), ("result", "taken")], loaded.reloads().taken());
                page.sample("", &[("schema", name), ("result", "refused")], loaded.reloads().refused());
            }
        })),
    family("sluice_schema_fetches_total", Counter, "fetches", &["schema", "result"],
        "Fetches from registries that brought a usable schema, or failed.",
        Custom(|page, sources| {
            for loaded in sources.schemas.loaded().iter().filter(|one| one.is_fetched()) {
                let name = loaded.named.name.as_str();
                page.sample("", &[("schema", name), ("result", "ok")], loaded.fetches());
                page.sample("", &[("schema", name), ("result", "failed")], loaded.fetches_failed());
            }
        })),
    family("sluice_body_bytes_total", Counter, "bytes", NONE,
        "Request bodies as they were sent.",
        Worker(|worker| worker.body_bytes.get())),
    family("sluice_body_unpacked_bytes_total", Counter, "bytes", NONE,
        "The same bodies without content codings and wrappings; a body refused before that counts 0.",
        Worker(|worker| worker.unpacked_bytes.get())),
    family("sluice_bodies_offloaded_total", Counter, "requests", NONE,
        "Bodies prepared on a background thread, because they are large or unpack to more than 64 KiB.",
        Worker(|worker| worker.bodies_offloaded.get())),
    family("sluice_shed_total", Counter, "requests", &["reason"],
        "Requests answered 503 before anything was taken: no room in the byte budget or in an output's queue, or an open circuit.",
        WorkerBy(&[
            ("budget", |worker| worker.shed_budget.get()),
            ("queue", |worker| worker.shed_queue.get()),
            ("circuit", |worker| worker.shed_circuit.get()),
        ]))
        .alarms(&["SluiceShedding"]),
    family("sluice_shed_by_priority_total", Counter, "requests", &["priority"],
        "Of these, requests whose events had been read, by the priority that counted: that of the highest event, one step up for a request that nobody sends again.",
        WorkerBy(&[
            ("low", |worker| worker.shed_by_priority[Priority::Low as usize].get()),
            ("mid", |worker| worker.shed_by_priority[Priority::Mid as usize].get()),
            ("high", |worker| worker.shed_by_priority[Priority::High as usize].get()),
        ])),
    family("sluice_ack_deadline_passed_total", Counter, "requests", NONE,
        "Requests answered 503 because the ack deadline passed.",
        Worker(|worker| worker.deadline_passed.get()))
        .alarms(&["SluiceDeadlinePassed"]),
    family("sluice_ack_deadline_seconds", Gauge, "seconds", NONE,
        "From the end of a body to its response at most (ack.deadline_ms).",
        Custom(|page, sources| {
            let micros = sluice_core::time::micros(sources.limits.ack_deadline);
            page.sample("", &[], Micros(micros));
        }))
        .alarms(&["SluiceAckSlow"]),
    family("sluice_ack_latency_seconds", Histogram, "seconds", NONE,
        "From the end of a body to the last settlement that its response waited for.",
        Custom(|page, sources| {
            let blocks = sources.workers.iter().map(|worker| &worker.ack_latency_micros);
            page.histogram(&[], &Summed::of(&LATENCY_MICROS, blocks), Micros);
        }))
        .alarms(&["SluiceAckSlow"]),
    // Outputs, as the workers see them.
    family("sluice_output_accepted_records_total", Counter, "records", OUTPUT,
        "Records handed to the output.",
        Output(|output| output.accepted.get()))
        .alarms(&["SluiceOutputStalled", "SluiceOutputThrottled", "SluiceLedgerBroken"]),
    family("sluice_output_delivered_records_total", Counter, "records", OUTPUT,
        "Records that the output confirmed: the destination has them, or, for s3, the local disk.",
        Output(|output| output.delivered.get()))
        .alarms(&["SluiceOutputStalled", "SluiceLedgerBroken"]),
    family("sluice_output_spooled_records_total", Counter, "records", OUTPUT,
        "Records confirmed because the output's spool has them.",
        Output(|output| output.spooled.get()))
        .alarms(&["SluiceOutputStalled", "SluiceLedgerBroken"]),
    family("sluice_output_delivered_late_records_total", Counter, "records", OUTPUT,
        "Records confirmed after their client had been answered 503.",
        Output(|output| output.delivered_late.get())),
    family("sluice_output_diverted_records_total", Counter, "records", OUTPUT,
        "Records meant for the output that its fallback, or another member of its group, got because its circuit was open. That output counts them as its own; those that this one had refused before count here as accepted and refused, too.",
        Output(|output| output.diverted.get())),
    family("sluice_output_pending_records", Gauge, "records", OUTPUT,
        "Records that are neither confirmed nor refused yet.",
        Output(|output| output.pending.get()))
        .alarms(&["SluiceLedgerBroken"]),
    family("sluice_output_pending_bytes", Gauge, "bytes", OUTPUT,
        "Bytes of records that are neither confirmed nor refused yet.",
        Output(|output| output.pending_bytes.get())),
    family("sluice_output_room_bytes", Gauge, "bytes", OUTPUT,
        "Bytes that may be pending; below its limit while the destination throttles.",
        Output(|output| output.capacity_bytes.get())),
    family("sluice_output_queue_limit_bytes", Gauge, "bytes", OUTPUT,
        "The limit of pending bytes (queue_bytes_max).",
        Custom(|page, sources| {
            for output in &sources.outputs {
                page.sample("", &[("output", &output.name)], output.queue_bytes_max);
            }
        })),
    family("sluice_output_refused_records_total", Counter, "records", OUTPUT_CAUSE,
        "Records that the destination did not confirm, by cause.",
        Custom(|page, sources| {
            for (at, output) in sources.outputs.iter().enumerate() {
                for (index, cause) in Cause::ALL.iter().enumerate() {
                    let total = sum(&sources.workers, |worker| {
                        let output = worker.outputs.get(at);
                        output.map_or(0, |output| output.refused[index].get())
                    });
                    let labels = [("output", &*output.name), ("cause", cause.label())];
                    page.sample("", &labels, total);
                }
            }
        }))
        .alarms(&["SluiceOutputDenied", "SluiceLedgerBroken"]),
    // Outputs, as their writers see them.
    family("sluice_output_calls_total", Counter, "calls", OUTPUT,
        "Calls of the destination that ended.",
        Writer(|writer| writer.calls.get())),
    family("sluice_output_calls_in_flight", Gauge, "calls", OUTPUT,
        "Calls of the destination running now.",
        Writer(|writer| writer.calls_in_flight.get())),
    family("sluice_output_held_records", Gauge, "records", OUTPUT,
        "Records that the writers hold.",
        Writer(|writer| writer.held.get())),
    family("sluice_output_retries_total", Counter, "records", OUTPUT_CAUSE,
        "Results of single records that asked for another try, by cause.",
        WriterByCause(|writer| &writer.retries))
        .alarms(&["SluiceOutputThrottled"]),
    family("sluice_output_circuit_state", Gauge, "state", OUTPUT,
        "The circuit of the writer that fares best: 0 closed, 1 half open (a probe is under way), 2 open.",
        Custom(|page, sources| {
            for output in &sources.outputs {
                let circuits = output.writers.iter().map(|writer| writer.circuit());
                let best = circuits.min().unwrap_or_default();
                page.sample("", &[("output", &output.name)], best as u64);
            }
        })),
    family("sluice_output_circuit_opened_total", Counter, "times", OUTPUT,
        "How often circuits of the output's writers have opened.",
        Writer(|writer| writer.circuit_opened.get())),
    family("sluice_output_paced_shards", Gauge, "shards", OUTPUT,
        "Shards that throttle, or did in the last ten seconds: their records are paced, and refused beyond a quarter of a second of them. With several writers each counts.",
        Writer(|writer| writer.lanes_paced.get()))
        .alarms(&["SluiceOutputThrottled"]),
    family("sluice_output_shard_shed_total", Counter, "records", OUTPUT,
        "Records refused because too many waited for their shard; others of the output had room.",
        Writer(|writer| writer.lanes_shed.get())),
    family("sluice_output_shards_wanted", Gauge, "shards", OUTPUT,
        "The number to set with UpdateShardCount, where most shards throttle lastingly; 0 while those that there are will do.",
        Custom(|page, sources| {
            for output in &sources.outputs {
                let wanted = output.writers.iter().map(|writer| writer.lanes_wanted.get());
                page.sample("", &[("output", &output.name)], wanted.max().unwrap_or(0));
            }
        })),
    family("sluice_output_shard_rate_bytes", Gauge, "bytes per second", &["output", "shard"],
        "What is sent to a shard that throttles: the up to 50 shards of a writer that most waits for, summed over writers.",
        Custom(paced_shards)),
    family("sluice_output_since_delivery_seconds", Gauge, "seconds", OUTPUT,
        "Time since a call last delivered anything; no sample before the first. Grows without traffic, too.",
        Custom(since_delivery)),
    family("sluice_output_batch_records", Histogram, "records", OUTPUT,
        "Records per call.",
        Custom(|page, sources| {
            for output in &sources.outputs {
                let blocks = output.writers.iter().map(|writer| &writer.batch_records);
                let summed = Summed::of(&BATCH_RECORDS, blocks);
                page.histogram(&[("output", &output.name)], &summed, |records| records);
            }
        })),
    family("sluice_output_batch_bytes", Histogram, "bytes", OUTPUT,
        "Bytes per call.",
        Custom(|page, sources| {
            for output in &sources.outputs {
                let blocks = output.writers.iter().map(|writer| &writer.batch_bytes);
                let summed = Summed::of(&BATCH_BYTES, blocks);
                page.histogram(&[("output", &output.name)], &summed, |bytes| bytes);
            }
        })),
    family("sluice_output_call_seconds", Histogram, "seconds", OUTPUT,
        "How long calls took.",
        Custom(|page, sources| {
            for output in &sources.outputs {
                let blocks = output.writers.iter().map(|writer| &writer.call_micros);
                let summed = Summed::of(&LATENCY_MICROS, blocks);
                page.histogram(&[("output", &output.name)], &summed, Micros);
            }
        })),
    // Outputs whose destination bills in fixed increments.
    family("sluice_output_confirmed_bytes_total", Counter, "bytes", OUTPUT,
        "Bytes that the destination confirmed, as they were sent; only where it bills in steps.",
        Bill(|bill| bill.confirmed_bytes.get())),
    family("sluice_output_billed_bytes_total", Counter, "bytes", OUTPUT,
        "Bytes that the destination bills for them, each record in whole steps.",
        Bill(|bill| bill.billed_bytes.get())),
    // Outputs that make objects of records.
    family("sluice_output_staged_bytes", Gauge, "bytes", OUTPUT,
        "Bytes that are acknowledged and only on the local disk.",
        Stage(|stage| stage.staged_bytes.get()))
        .alarms(&["SluiceStagingFull"]),
    family("sluice_output_staged_limit_bytes", Gauge, "bytes", OUTPUT,
        "The staged bytes at which requests are answered 503.",
        Stage(|stage| stage.staged_bytes_max.get()))
        .alarms(&["SluiceStagingFull"]),
    family("sluice_output_segments_waiting", Gauge, "segments", OUTPUT,
        "Segments on the local disk that are finished and not uploaded.",
        Stage(|stage| stage.segments_waiting.get())),
    family("sluice_output_segments_blocked", Gauge, "segments", OUTPUT,
        "Of these, segments that cannot be read or that the store refuses; others are uploaded meanwhile.",
        Stage(|stage| stage.segments_blocked.get()))
        .alarms(&["SluiceOldSegment"]),
    family("sluice_output_oldest_segment_age_seconds", Gauge, "seconds", OUTPUT,
        "Age of the oldest segment that is not uploaded; 0 when there is none.",
        Custom(|page, sources| {
            let now = (sources.wall)().secs;
            for (output, stage) in staged(sources) {
                let age = match stage.oldest_unix_secs.get() {
                    0 => 0,
                    oldest => now.saturating_sub(oldest),
                };
                page.sample("", &[("output", output)], age);
            }
        }))
        .alarms(&["SluiceOldSegment"]),
    family("sluice_output_objects_total", Counter, "objects", OUTPUT,
        "Objects that the destination confirmed.",
        Stage(|stage| stage.objects.get())),
    family("sluice_output_object_bytes_total", Counter, "bytes", OUTPUT,
        "Bytes of those objects as they were sent.",
        Stage(|stage| stage.object_bytes.get())),
    family("sluice_output_upload_failures_total", Counter, "uploads", OUTPUT_CAUSE,
        "Attempts to upload a segment that failed, by cause.",
        Custom(|page, sources| {
            for (output, stage) in staged(sources) {
                for (cause, failures) in Cause::ALL.iter().zip(&stage.failures) {
                    let labels = [("output", output), ("cause", cause.label())];
                    page.sample("", &labels, failures.get());
                }
            }
        }))
        .alarms(&["SluiceOutputDenied"]),
    // Outputs with a spool.
    family("sluice_spool_records_total", Counter, "records", OUTPUT,
        "Records that were put on disk.",
        Spool(|spool| spool.spooled_records.get())),
    family("sluice_spool_bytes_total", Counter, "bytes", OUTPUT,
        "Bytes that were put on disk.",
        Spool(|spool| spool.spooled_bytes.get())),
    family("sluice_spool_replayed_records_total", Counter, "records", OUTPUT,
        "Records from disk that the destination confirmed.",
        Spool(|spool| spool.replayed_records.get())),
    family("sluice_spool_replayed_attempted_records_total", Counter, "records", OUTPUT,
        "Of these, carried by a call before they were put on disk: the destination may have them twice.",
        Spool(|spool| spool.replayed_attempted_records.get())),
    family("sluice_spool_refused_records_total", Counter, "records", OUTPUT,
        "Records from disk that the destination refused for good; they are put aside.",
        Spool(|spool| spool.refused_records.get()))
        .alarms(&["SluiceSpoolPutAside"]),
    family("sluice_spool_waiting_records", Gauge, "records", OUTPUT,
        "Records on disk that the destination has not confirmed; those of an earlier process once they are counted.",
        Spool(|spool| spool.waiting_records.get())),
    family("sluice_spool_waiting_bytes", Gauge, "bytes", OUTPUT,
        "Their bytes.",
        Spool(|spool| spool.waiting_bytes.get())),
    family("sluice_spool_disk_bytes", Gauge, "bytes", OUTPUT,
        "Bytes of the files of the spool.",
        Spool(|spool| spool.disk_bytes.get()))
        .alarms(&["SluiceSpoolFull"]),
    family("sluice_spool_disk_limit_bytes", Gauge, "bytes", OUTPUT,
        "The bytes above which records are confirmed by the destination only (bytes_max).",
        Spool(|spool| spool.disk_bytes_max.get()))
        .alarms(&["SluiceSpoolFull"]),
    family("sluice_spool_unkept_records_total", Counter, "records", &["output", "priority"],
        "Records that found no room in the spool, by the priority of their request: confirmed by the destination, or not at all.",
        Custom(|page, sources| {
            for (output, spool) in spooled(sources) {
                for (priority, unkept) in Priority::ALL.iter().zip(&spool.unkept_records) {
                    page.sample("", &[("output", output), ("priority", priority.label())], unkept.get());
                }
            }
        })),
    family("sluice_spool_oldest_age_seconds", Gauge, "seconds", OUTPUT,
        "Age of the oldest segment with a record that waits; 0 when there is none.",
        Custom(|page, sources| {
            let now = (sources.wall)().secs;
            for (output, spool) in spooled(sources) {
                let age = match spool.oldest_unix_secs.get() {
                    0 => 0,
                    oldest => now.saturating_sub(oldest),
                };
                page.sample("", &[("output", output)], age);
            }
        }))
        .alarms(&["SluiceSpoolOld"]),
    family("sluice_spool_put_aside_bytes", Gauge, "bytes", OUTPUT,
        "Bytes on disk that are damaged, were refused by the destination, or were left unfinished by a crash.",
        Spool(|spool| spool.put_aside_bytes.get())),
    family("sluice_spool_lost_bytes", Gauge, "bytes", OUTPUT,
        "Of these, confirmed to a client: damaged, or refused by the destination.",
        Spool(|spool| spool.lost_bytes.get()))
        .alarms(&["SluiceSpoolPutAside"]),
    family("sluice_spool_failing", Gauge, "", OUTPUT,
        "1 while the disk fails, and records are confirmed by the destination only.",
        Spool(|spool| spool.failing.get()))
        .alarms(&["SluiceSpoolFailing"]),
];

fn paced_shards(page: &mut Page, sources: &Sources) {
    for output in &sources.outputs {
        let mut rates: BTreeMap<u32, u64> = BTreeMap::new();
        for lane in output
            .writers
            .iter()
            .flat_map(|writer| writer.shown_lanes())
        {
            let rate = rates.entry(lane.lane.0).or_default();
            *rate = rate.saturating_add(lane.rate);
        }
        for (shard, rate) in rates {
            let shard = shard.to_string();
            page.sample("", &[("output", &output.name), ("shard", &shard)], rate);
        }
    }
}

fn drivers(page: &mut Page, sources: &Sources) {
    let mut running = [0_u64; DRIVERS.len()];
    for worker in &sources.workers {
        let code = usize::try_from(worker.driver.get()).unwrap_or(usize::MAX);
        running[if code < DRIVERS.len() { code } else { 0 }] += 1;
    }
    for (driver, workers) in DRIVERS.iter().zip(running) {
        page.sample_by(driver, workers);
    }
}

fn certificates(page: &mut Page, sources: &Sources) {
    for (listener, tls) in &sources.tls {
        for certificate in tls.certificates() {
            let file = certificate.file.display().to_string();
            let labels = [("listener", listener.as_str()), ("file", &*file)];
            page.sample("", &labels, certificate.not_after);
        }
    }
}

fn reloads(page: &mut Page, sources: &Sources) {
    for (listener, tls) in &sources.tls {
        for (result, count) in [
            ("taken", tls.reloads().taken()),
            ("refused", tls.reloads().refused()),
        ] {
            let labels = [("listener", listener.as_str()), ("result", result)];
            page.sample("", &labels, count);
        }
    }
}

fn responses(page: &mut Page, sources: &Sources) {
    use EndpointLabel::{Collect, Events};
    for endpoint in EndpointLabel::ALL {
        let has_zeros = matches!(endpoint, Collect | Events);
        for status in 100..600_u16 {
            let count = sum(&sources.workers, |worker| {
                worker.endpoint(endpoint).responses(status)
            });
            if count > 0 || (has_zeros && STATUSES.contains(&status)) {
                let status = status.to_string();
                let labels = [("endpoint", endpoint.label()), ("status", &*status)];
                page.sample("", &labels, count);
            }
        }
    }
}

fn since_delivery(page: &mut Page, sources: &Sources) {
    let now = (sources.now)();
    for output in &sources.outputs {
        let latest = output
            .writers
            .iter()
            .map(|writer| writer.last_delivery_micros.get())
            .max()
            .filter(|micros| *micros > 0);
        if let Some(latest) = latest {
            let age = Micros(now.0.saturating_sub(latest));
            page.sample("", &[("output", &output.name)], age);
        }
    }
}
