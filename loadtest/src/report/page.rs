//! The page of one run.

use super::chart::{Chart, Color, Series};
use super::findings::{Findings, Meter};
use super::html::{Mood, facts, figure, finding, number, sheet, tile};
use super::input::ReportError;
use super::plots::{self, Time};
use super::{text, timeline};
use crate::audit::AuditReport;
use crate::run::{Latency, Report};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeMap;

/// The page: one self-contained HTML file.
///
/// # Errors
/// When a plot cannot be drawn.
pub fn page(findings: &Findings) -> Result<String, ReportError> {
    let run = &findings.run;
    let time = Time::of([run]);
    let stretches = timeline::stretches(&run.series);
    let title = format!("Load test of {}", run.target);
    let body = html! {
        header {
            h1 { (title) }
            p { (what_and_when(run)) }
            ul.findings { (verdict(findings)) }
        }
        (tiles(findings))
        @if let Some(note) = Time::note([run]) { p.quiet { (note) } }
        @if stretches.is_empty() {
            p.quiet { "This run kept no second-by-second series: there is nothing to plot over time." }
        }
        h2 { "Throughput" }
        @if !stretches.is_empty() {
            (figure(&plots::throughput(&time, &stretches))?)
            (figure(&plots::statuses(&time, &stretches))?)
        }
        div.columns {
            (outcomes(run))
            (traffic(run))
        }
        h2 { "Latency" }
        p { (latency_note(run)) }
        (latency_table(run))
        @if !stretches.is_empty() { (figure(&plots::latencies(&time, &stretches))?) }
        @if let Some(chart) = percentiles(findings) { (figure(&chart)?) }
        @if !stretches.is_empty() { (figure(&plots::in_flight(&time, &stretches))?) }
        h2 { "Generator" }
        (generator(run))
        @if let Some(chart) = plots::slip(&time, &stretches) { (figure(&chart)?) }
        @if !run.watched.is_empty() {
            h2 { "Watched processes" }
            (processes(findings))
            @if let Some(charts) = plots::processes(&time, run) {
                @for chart in &charts { (figure(chart)?) }
            }
        }
        h2 { "Audit" }
        (audit(findings.audit.as_ref()))
        @if !findings.cost_meter.is_empty() || !findings.counters.is_empty() {
            h2 { "Cost meter" }
            (cost(findings))
        }
        h2 { "Parameters and machine" }
        (parameters(run))
        footer.quiet {
            "sluice-loadtest " (run.version) ", run " (run.run)
            ". The exact numbers are in the page's data elements, and in the JSON of the report."
        }
    };
    Ok(sheet(&title, &body).into_string())
}

fn what_and_when(run: &Report) -> String {
    let when = text::date(run.started_unix_ms);
    let schedule = &run.load.schedule;
    let load = match run.load.rate {
        Some(rate) if schedule.is_empty() || schedule.starts_with("constant") => {
            format!("open loop at {} requests/s", text::short(rate))
        }
        Some(rate) => format!(
            "open loop, {schedule} requests/s, {} on average",
            text::short(rate)
        ),
        None => "closed loop".to_owned(),
    };
    let bodies = match (run.load.batch, text::bytes(run.load.event_bytes as f64)) {
        (0, _) => format!("bodies of {}", run.load.mode),
        (1, bytes) => format!("1 event of {bytes} per request"),
        (batch, bytes) => format!(
            "{} events of {bytes} per request",
            text::grouped(f64::from(batch))
        ),
    };
    format!(
        "{}, {}, {load}, {} connections, {bodies}.",
        when.unwrap_or_else(|| "start not recorded".to_owned()),
        text::duration(run.seconds),
        text::grouped(run.load.connections as f64),
    )
}

/// One line each: promises, answers, generator, end.
fn verdict(findings: &Findings) -> Markup {
    let run = &findings.run;
    let verdict = &findings.verdict;
    let audit = match &findings.audit {
        None => (
            Mood::Doubtful,
            "Not audited: whether acknowledged events were stored is not known.".to_owned(),
        ),
        Some(audit) if audit.holds() => {
            let refused = match audit.refused {
                0 => String::new(),
                refused => format!(
                    ", and none of {} refused ones was stored",
                    text::grouped(refused as f64)
                ),
            };
            (
                Mood::Good,
                format!(
                    "Every promise was kept: of {} acknowledged events none was lost{refused}.",
                    text::grouped(audit.acked as f64)
                ),
            )
        }
        Some(audit) => (
            Mood::Bad,
            format!(
                "Promises were broken: {} of {} acknowledged events lost, {} stored though refused.",
                text::grouped(audit.lost as f64),
                text::grouped(audit.acked as f64),
                text::grouped(audit.refused_stored as f64)
            ),
        ),
    };
    let answers = if verdict.all_ok {
        (
            Mood::Good,
            format!(
                "Every request that was due was answered {}, with all its events accepted.",
                run.load.ok
            ),
        )
    } else {
        let refused = match run.events_refused {
            0 => String::new(),
            refused => format!(
                " {} events were refused in answers of {}.",
                text::grouped(refused as f64),
                run.load.ok
            ),
        };
        let share = text::percent(findings.error_share);
        (
            if findings.error_share > 0.0 {
                Mood::Bad
            } else {
                Mood::Doubtful
            },
            format!(
                "{share} of the requests failed: not answered {}, never answered, or never sent.{refused}",
                run.load.ok
            ),
        )
    };
    let generator = if verdict.generator_was_bottleneck {
        (
            Mood::Bad,
            "The generator was the bottleneck: these figures show its limits, not the target's.",
        )
    } else if verdict.generator_was_starved {
        (
            Mood::Doubtful,
            "The machine was starved: the generator had work and no CPU, and latencies contain that wait.",
        )
    } else {
        (Mood::Good, "The generator was not the bottleneck.")
    };
    html! {
        (finding(audit.0, &audit.1))
        (finding(answers.0, &answers.1))
        (finding(generator.0, generator.1))
        @if verdict.interrupted {
            (finding(Mood::Doubtful, "The run ended early: it was interrupted, or gave up on the target."))
        }
    }
}

fn tiles(findings: &Findings) -> Markup {
    let run = &findings.run;
    let latency = findings.latency();
    let from = match run.latency_from_intended_start {
        Some(_) => "from the intended start",
        None => "from the real start",
    };
    html! {
        div.tiles {
            (tile(
                "answered",
                &html! { (number(run.answered_per_second, &text::short(run.answered_per_second))) "/s" },
                &run.load.rate.map(|rate| format!("{}/s intended", text::short(rate))).unwrap_or_default(),
            ))
            (tile("p50", &time(latency.p50_us), from))
            (tile("p99", &time(latency.p99_us), from))
            (tile("p99.9", &time(latency.p99_9_us), from))
            (tile("failed", &share(findings.error_share), "of the requests due"))
            @if let Some(cpu) = findings.cpu_us_per_request {
                (tile("CPU per request", &time(cpu), "of the watched processes"))
            }
            @if let Some(audit) = &findings.audit {
                (tile("lost", &count(audit.lost), "acknowledged events"))
            }
        }
    }
}

fn time(us: f64) -> Markup {
    number(us, &text::time(us))
}

fn count(count: u64) -> Markup {
    html! { data value=(count) { (text::grouped(count as f64)) } }
}

fn share(share: f64) -> Markup {
    number(share, &text::percent(share))
}

fn row(name: &str, value: Markup) -> (String, Markup) {
    (name.to_owned(), value)
}

fn counted<K: ToString>(name: &str, counts: &BTreeMap<K, u64>) -> Vec<(String, Markup)> {
    counts
        .iter()
        .map(|(key, n)| (format!("{name} {}", key.to_string()), count(*n)))
        .collect()
}

fn outcomes(run: &Report) -> Markup {
    let mut rows = vec![
        row("requests sent", count(run.sent)),
        row("answered", count(run.answered)),
    ];
    if run.preflights > 0 {
        rows.push(row("of these CORS preflights", count(run.preflights)));
    }
    rows.extend(counted("answered", &run.statuses));
    rows.extend(counted("not answered:", &run.unanswered));
    rows.push(row("due and never sent", count(run.unsent)));
    facts(&rows)
}

fn traffic(run: &Report) -> Markup {
    let bytes = |bytes: u64| number(bytes as f64, &text::bytes(bytes as f64));
    let mut rows = vec![
        row("events accepted", count(run.events_ok)),
        row(
            "the same per second",
            number(
                run.events_ok_per_second,
                &text::short(run.events_ok_per_second),
            ),
        ),
        row(
            "events refused in an answer of success",
            count(run.events_refused),
        ),
        row("bytes sent, heads included", bytes(run.bytes_out)),
        row("bytes received", bytes(run.bytes_in)),
        row("connections opened", count(run.connects)),
        row("closed by the server", count(run.closed_by_server)),
    ];
    rows.extend(counted("connection failed:", &run.connect_failures));
    facts(&rows)
}

fn latency_note(run: &Report) -> &'static str {
    match run.latency_from_intended_start {
        Some(_) => {
            "From the intended start a request's wait for a free connection counts, as a user would \
             feel it; from the real start it does not, and a stalled target hides. Requests that were \
             never answered count until they were given up, those never sent until the run's end."
        }
        None => {
            "A closed loop intends no starts: latencies are from the real start, and a stalled target \
             slows the generator instead of showing here in full."
        }
    }
}

fn latency_table(run: &Report) -> Markup {
    let mut rows: Vec<(&str, &Latency)> = Vec::new();
    rows.extend(
        run.latency_from_intended_start
            .as_ref()
            .map(|latency| ("from the intended start", latency)),
    );
    rows.push(("from the real start", &run.latency_from_start));
    rows.extend(
        run.schedule_slip
            .as_ref()
            .map(|slip| ("slip of the schedule", slip)),
    );
    rows.extend((run.tcp_connect.count > 0).then_some(("TCP connect", &run.tcp_connect)));
    rows.extend(
        run.tls_handshake
            .as_ref()
            .map(|handshake| ("TLS handshake", handshake)),
    );
    html! {
        table.grid {
            thead {
                tr {
                    th.text { "latency" }
                    @for name in ["mean", "p50", "p90", "p99", "p99.9", "p99.99", "max", "measured"] {
                        th scope="col" { (name) }
                    }
                }
            }
            tbody {
                @for (name, l) in rows {
                    tr {
                        th scope="row" { (name) }
                        @for us in [l.mean_us, l.p50_us, l.p90_us, l.p99_us, l.p99_9_us, l.p99_99_us, l.max_us] {
                            td { (time(us)) }
                        }
                        td { (count(l.count)) }
                    }
                }
            }
        }
    }
}

fn percentiles(findings: &Findings) -> Option<Chart> {
    let run = &findings.run;
    let mut series: Vec<Series> = Vec::new();
    let mut add = |name: &str, color, width, curve: &[_], latency: &Latency| {
        if !curve.is_empty() {
            let name = Some(name.to_owned());
            series.push(plots::curve_line(name, color, width, curve, latency.count));
        }
    };
    if let Some(latency) = &run.latency_from_intended_start {
        let curve = &findings.curve_from_intended_start;
        add("from the intended start", Color::BLUE, 3, curve, latency);
    }
    let curve = &findings.curve_from_start;
    let name = "from the real start";
    add(name, Color::ORANGE, 2, curve, &run.latency_from_start);
    if series.is_empty() {
        return None;
    }
    let note = "Each step to the right is ten times rarer; the line ends at the slowest request.";
    Some(plots::percentile_chart(note.to_owned(), series))
}

fn generator(run: &Report) -> Markup {
    let generator = &run.generator;
    facts(&[
        row("CPU per request sent", time(generator.cpu_us_per_request)),
        row("busiest thread on a CPU", share(generator.cpu_share_max)),
        row("seconds with too much to do", count(generator.late_seconds)),
        row(
            "seconds in which it was not run in time",
            count(generator.starved_seconds),
        ),
        row("stolen by the hypervisor", share(generator.stolen_share)),
        row(
            "stopped by a CPU quota",
            number(
                generator.throttled_seconds,
                &text::duration(generator.throttled_seconds),
            ),
        ),
        row(
            "waited in a run queue",
            number(
                generator.cpu_wait_seconds,
                &text::duration(generator.cpu_wait_seconds),
            ),
        ),
    ])
}

fn processes(findings: &Findings) -> Markup {
    let shown = findings.usage.len().min(Color::ALL.len());
    html! {
        table.grid {
            thead {
                tr {
                    th.text { "process" }
                    @for name in ["pid", "CPU seconds", "CPU per answer", "cores at most", "resident at most"] {
                        th scope="col" { (name) }
                    }
                }
            }
            tbody {
                @for usage in &findings.usage {
                    tr {
                        th scope="row" { (usage.name) }
                        td { (usage.pid) }
                        td { (number(usage.cpu_seconds, &text::short(usage.cpu_seconds))) }
                        td { (time(usage.cpu_us_per_request)) }
                        td { (number(usage.cpu_cores_max, &text::short(usage.cpu_cores_max))) }
                        td { (number(usage.rss_bytes_max as f64, &text::bytes(usage.rss_bytes_max as f64))) }
                    }
                }
            }
        }
        @if shown < findings.usage.len() {
            p.quiet { "The plots show the first " (shown) " of them." }
        }
    }
}

fn audit(audit: Option<&AuditReport>) -> Markup {
    let Some(audit) = audit else {
        return html! {
            p {
                "No audit was given. " code { "run --acks" } " writes down what was answered, "
                code { "audit" } " compares it with what was stored, and " code { "report --audit" }
                " shows the result here."
            }
        };
    };
    let stored = |name, answered, stored| {
        html! {
            tr { th scope="row" { (name) } td { (count(answered)) } td { (count(stored)) } }
        }
    };
    let examples = |name, ids: &[String]| {
        html! {
            @if !ids.is_empty() {
                p { (name) ", the first of them:" }
                pre { (ids.join("\n")) }
            }
        }
    };
    html! {
        div.columns {
            table.grid {
                thead { tr { th.text { "events" } th { "answered so" } th { "of these stored" } } }
                tbody {
                    (stored("2xx", audit.acked, audit.acked_stored))
                    (stored("refused (4xx, or in a 200)", audit.refused, audit.refused_stored))
                    (stored("failed (3xx, 5xx)", audit.failed, audit.failed_stored))
                    (stored("not answered", audit.unanswered, audit.unanswered_stored))
                }
            }
            (facts(&[
                row("acknowledged and lost", count(audit.lost)),
                row("refused and stored", count(audit.refused_stored)),
                row("stored more than once", count(audit.duplicated)),
                row("copies beyond the first", count(audit.extra_copies)),
                row("stored copies", count(audit.stored_copies)),
                row("copies of unknown events", count(audit.foreign_copies)),
            ]))
        }
        (examples("Lost", &audit.lost_examples))
        (examples("Refused and stored", &audit.refused_stored_examples))
        (examples("Stored more than once", &audit.duplicated_examples))
        @if audit.unfinished_files > 0 || audit.cut_ledgers > 0 {
            p.quiet {
                (audit.unfinished_files) " stored files and " (audit.cut_ledgers)
                " ledgers end in an unfinished line, which is not counted."
            }
        }
    }
}

fn cost(findings: &Findings) -> Markup {
    let table = |meters: &[Meter]| {
        let rows: Vec<_> = meters
            .iter()
            .map(|meter| {
                let value = match (&meter.value, meter.value.as_f64()) {
                    (_, Some(value)) => number(value, &text::short(value)),
                    (Value::String(word), _) => html! { (word) },
                    (other, _) => html! { (other.to_string()) },
                };
                (meter.name.clone(), value)
            })
            .collect();
        facts(&rows)
    };
    html! {
        @if findings.cost_meter.is_empty() {
            p { "The emulator counted nothing that a service bills for." }
        } @else {
            p { "What the emulator counted of that which the service bills for; the units are the emulator's." }
            (table(&findings.cost_meter))
        }
        @if !findings.counters.is_empty() {
            details {
                summary { "Other counters of the emulator" }
                (table(&findings.counters))
            }
        }
        @if findings.counters_left_out > 0 {
            p.quiet { (findings.counters_left_out) " further counters are not shown." }
        }
    }
}

fn parameters(run: &Report) -> Markup {
    let machine = &run.machine;
    let or_unknown = |text: &str| html! { @if text.is_empty() { "not recorded" } @else { (text) } };
    let mut machine_rows = vec![
        row("processor", or_unknown(&machine.cpu)),
        row("cores", html! { (machine.cores) }),
        row(
            "memory",
            number(
                machine.memory_bytes as f64,
                &text::bytes(machine.memory_bytes as f64),
            ),
        ),
        row("system", or_unknown(&machine.system)),
    ];
    machine_rows.truncate(if machine.cores == 0 { 0 } else { 4 });
    html! {
        p { "Command:" }
        pre { (run.command.join(" ")) }
        div.columns {
            (facts(&load_rows(run)))
            @if machine_rows.is_empty() {
                p { "The machine was not recorded." }
            } @else {
                (facts(&machine_rows))
            }
        }
    }
}

/// All options of the run, as the report has them.
fn load_rows(run: &Report) -> Vec<(String, Markup)> {
    let load = serde_json::to_value(&run.load).unwrap_or_default();
    let members = load.as_object().into_iter().flatten();
    members
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            (name.replace('_', " "), html! { (text) })
        })
        .collect()
}
