//! `report` from outside: pages parsed by a stranger, numbers against the files they came from.

mod bad_input;
mod compare;
mod sample;

use crate::command_line::output;
use roxmltree::{Document, Node, ParsingOptions};
use sample::{SHAPE, Shape, run};
use serde::Serialize;
use serde_json::{Value, json};
use sluice_loadtest::audit::AuditReport;
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A directory of reports, and what was made of them.
struct Desk {
    dir: TempDir,
}

impl Desk {
    fn new() -> Desk {
        Desk {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn save(&self, name: &str, value: &impl Serialize) -> String {
        fs::write(self.path(name), serde_json::to_vec(value).unwrap()).unwrap();
        self.path(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// Makes `page.html` and `page.json`, and reads the first.
    fn page(&self, args: &[&str]) -> String {
        let (html, json) = (self.path("page.html"), self.path("page.json"));
        let mut all = vec!["report"];
        all.extend(args);
        all.extend(["--out", &html, "--json", &json]);
        let (code, _, stderr) = output(&all);
        assert_eq!(code, 0, "{stderr}");
        assert!(stderr.is_empty(), "{stderr}");
        self.read("page.html")
    }
}

/// The page as XML, which it is but for elements that HTML leaves open.
fn closed(page: &str) -> String {
    let mut pieces = page.split("<meta ");
    let mut xml = pieces.next().unwrap().to_owned();
    for piece in pieces {
        let (meta, rest) = piece.split_once('>').unwrap();
        xml += &format!("<meta {meta}/>{rest}");
    }
    xml
}

fn with_document<T>(page: &str, look: impl FnOnce(&Document<'_>) -> T) -> T {
    let options = ParsingOptions {
        allow_dtd: true,
        ..ParsingOptions::default()
    };
    let xml = closed(page);
    look(&Document::parse_with_options(&xml, options).unwrap())
}

fn elements<'a>(document: &'a Document<'a>, name: &'a str) -> impl Iterator<Item = Node<'a, 'a>> {
    let named = move |node: &Node<'_, '_>| node.tag_name().name() == name;
    document.descendants().filter(named)
}

fn text_of(node: Node<'_, '_>) -> String {
    let texts = node.descendants().filter(Node::is_text);
    texts.filter_map(|node| node.text()).collect()
}

/// The exact numbers in the row that begins with this text.
fn numbers(page: &str, row: &str) -> Vec<f64> {
    with_document(page, |document| {
        let row = elements(document, "tr")
            .find(|node| {
                node.first_element_child()
                    .is_some_and(|th| text_of(th) == row)
            })
            .unwrap_or_else(|| panic!("no row {row}"));
        let data = row.descendants().filter_map(|node| node.attribute("value"));
        data.map(|value| value.parse().unwrap()).collect()
    })
}

fn audit_report() -> AuditReport {
    AuditReport {
        sent: 1_000,
        acked: 900,
        refused: 60,
        failed: 40,
        acked_stored: 897,
        lost: 3,
        stored_copies: 897,
        lost_examples: vec!["00000abc-7".to_owned()],
        ..AuditReport::default()
    }
}

#[test]
fn a_page_is_well_formed_and_needs_nothing_besides_itself() {
    let desk = Desk::new();
    let shape = Shape {
        trouble: true,
        ..SHAPE
    };
    let run = desk.save("run.json", &run(shape));
    let audit = desk.save("audit.json", &audit_report());
    let stats = desk.save(
        "stats.json",
        &json!({ "billing": { "units": 7 }, "stored": 8 }),
    );
    let page = desk.page(&["--run", &run, "--audit", &audit, "--stats", &stats]);
    with_document(&page, |document| {
        for node in document.descendants() {
            let name = node.tag_name().name();
            assert!(
                !["script", "link", "img", "iframe", "object"].contains(&name),
                "{name}"
            );
            for attribute in node.attributes() {
                let name = attribute.name();
                assert!(!["src", "href", "action"].contains(&name), "{name}");
                assert!(!name.starts_with("on"), "{name}");
            }
        }
        let plots: Vec<_> = elements(document, "svg").collect();
        assert_eq!(plots.len(), 8);
        let units = [
            "requests/s",
            "latency (log scale)",
            "percentile",
            "cores",
            "resident (MiB)",
        ];
        let texts: Vec<String> = plots.iter().map(|plot| text_of(*plot)).collect();
        for unit in units {
            assert!(texts.iter().any(|text| text.contains(unit)), "{unit}");
        }
        // All plots over time end at the same second, at the same place.
        let over_time = texts
            .iter()
            .filter(|text| text.contains("seconds since the start"));
        assert_eq!(over_time.count(), 7);
    });
    assert!(!page.contains("url("));
}

#[test]
fn the_numbers_of_a_page_are_those_of_its_files() {
    let desk = Desk::new();
    let shape = Shape {
        trouble: true,
        ..SHAPE
    };
    let report = run(shape);
    let audit = audit_report();
    let stats = json!({ "billing": { "put_payload_units": 4_321 }, "stored": 897 });
    let page = desk.page(&[
        "--run",
        &desk.save("run.json", &report),
        "--audit",
        &desk.save("audit.json", &audit),
        "--stats",
        &desk.save("stats.json", &stats),
    ]);
    for (row, latency) in [
        (
            "from the intended start",
            report.latency_from_intended_start.unwrap(),
        ),
        ("from the real start", report.latency_from_start),
    ] {
        assert_eq!(
            numbers(&page, row),
            [
                latency.mean_us,
                latency.p50_us,
                latency.p90_us,
                latency.p99_us,
                latency.p99_9_us,
                latency.p99_99_us,
                latency.max_us,
                latency.count as f64
            ]
        );
    }
    assert_eq!(numbers(&page, "requests sent"), [report.sent as f64]);
    assert_eq!(
        numbers(&page, "answered 503"),
        [report.statuses[&503] as f64]
    );
    assert_eq!(numbers(&page, "not answered: timeout"), [64.0]);
    assert_eq!(numbers(&page, "2xx"), [900.0, 897.0]);
    assert_eq!(numbers(&page, "acknowledged and lost"), [3.0]);
    assert_eq!(numbers(&page, "billing.put_payload_units"), [4_321.0]);
    let found = desk.json("page.json");
    assert!(found["run"] == serde_json::to_value(&report).unwrap());
    assert_eq!(found["audit"], serde_json::to_value(&audit).unwrap());
    assert_eq!(found["verdict"]["promises_kept"], json!(false));
    assert_eq!(found["cost_meter"][0]["value"], json!(4_321));
    let due = report.sent as f64;
    let failed = (due - report.statuses[&200] as f64) / due;
    let share = found["error_share"].as_f64().unwrap();
    assert!((share - failed).abs() < 1e-12);
    let curve = found["curve_from_intended_start"].as_array().unwrap();
    let last = curve.last().unwrap()["us"].as_f64().unwrap();
    let max = report.latency_from_intended_start.unwrap().max_us;
    assert!((last - max).abs() <= max * 0.001, "{last} {max}");
    assert!(page.contains("3 of 900 acknowledged events lost"));
}

#[test]
fn strings_from_input_stay_text_wherever_they_come_from() {
    const EVIL: &str = "</title></style></svg>\"'><script>alert(1)</script>&amp;<b>";
    let desk = Desk::new();
    let mut report = run(SHAPE);
    report.target = EVIL.to_owned();
    report.command = vec![EVIL.to_owned()];
    report.version = EVIL.to_owned();
    report.run = EVIL.to_owned();
    report.machine.cpu = EVIL.to_owned();
    report.machine.system = EVIL.to_owned();
    report.load.mode = EVIL.to_owned();
    report.watched[0].name = EVIL.to_owned();
    report.unanswered.insert(EVIL.to_owned(), 1);
    report.connect_failures.insert(EVIL.to_owned(), 1);
    let mut audit = audit_report();
    for examples in [
        &mut audit.lost_examples,
        &mut audit.refused_stored_examples,
        &mut audit.duplicated_examples,
    ] {
        *examples = vec![EVIL.to_owned()];
    }
    let stats = json!({ EVIL: 1, "billing": { EVIL: 2 } });
    let run = desk.save("run.json", &report);
    let page = desk.page(&[
        "--run",
        &run,
        "--audit",
        &desk.save("audit.json", &audit),
        "--stats",
        &desk.save("stats.json", &stats),
    ]);
    let label = EVIL.replace('/', "-");
    let compared = desk.page(&["compare", &format!("{label}={run}"), &format!("b={run}")]);
    for (page, evil) in [(page, EVIL), (compared, &label)] {
        with_document(&page, |document| {
            assert_eq!(
                elements(document, "script").count() + elements(document, "b").count(),
                0
            );
            let title = elements(document, "title").next().unwrap();
            assert!(text_of(title).contains(evil));
            let said = document.descendants().filter(|node| {
                node.is_text() && node.text().is_some_and(|text| text.contains(evil))
            });
            assert!(said.count() > 3);
        });
    }
}

#[test]
fn a_sparse_run_still_has_a_page() {
    let desk = Desk::new();
    let mut report = run(Shape {
        seconds: 2,
        ..SHAPE
    });
    report.interrupted = true;
    report.started_unix_ms = 0;
    report.machine = Default::default();
    report.load.rate = None;
    report.latency_from_intended_start = None;
    report.histogram_from_intended_start = None;
    report.histogram_from_start = String::new();
    report.schedule_slip = None;
    report.series = Vec::new();
    report.watched = Vec::new();
    report.generator.is_bottleneck = true;
    let page = desk.page(&["--run", &desk.save("run.json", &report)]);
    for part in [
        "closed loop",
        "start not recorded",
        "The machine was not recorded",
        "kept no second-by-second series",
        "The generator was the bottleneck",
        "The run ended early",
        "Not audited",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(with_document(&page, |document| elements(document, "svg")
        .next()
        .is_none()));
    assert_eq!(desk.json("page.json")["cpu_us_per_request"], Value::Null);
}

#[test]
fn requests_cut_off_reset_or_never_sent_are_failures() {
    let desk = Desk::new();
    let mut report = run(Shape {
        seconds: 3,
        ..SHAPE
    });
    report.interrupted = true;
    report.sent += 64;
    report.unanswered.insert("interrupted".to_owned(), 64);
    desk.page(&["--run", &desk.save("run.json", &report)]);
    let share = desk.json("page.json")["error_share"].as_f64().unwrap();
    assert!((share - 64.0 / report.sent as f64).abs() < 1e-12);
    report.unanswered.insert("reset".to_owned(), 10);
    report.sent += 10;
    report.unsent = 20;
    desk.page(&["--run", &desk.save("run.json", &report)]);
    let due = report.sent as f64 + 20.0;
    let share = desk.json("page.json")["error_share"].as_f64().unwrap();
    assert!((share - 94.0 / due).abs() < 1e-12);
}

#[test]
fn unsent_requests_are_no_success_on_the_page() {
    let desk = Desk::new();
    let mut report = run(Shape {
        seconds: 3,
        ..SHAPE
    });
    const GOOD: &str = "Every request that was due was answered 200";
    let page = desk.page(&["--run", &desk.save("run.json", &report)]);
    assert!(page.contains(GOOD));
    report.unsent = report.sent;
    let page = desk.page(&["--run", &desk.save("run.json", &report)]);
    assert!(!page.contains(GOOD));
    assert!(page.contains("50.0\u{a0}% of the requests failed"));
    assert_eq!(desk.json("page.json")["verdict"]["all_ok"], json!(false));
}

#[test]
fn extreme_numbers_still_make_a_page() {
    let desk = Desk::new();
    for (count, number) in [(u64::MAX, 1e15), (0, 0.0), (7, 5e-324)] {
        let mut report = run(Shape {
            seconds: 3,
            ..SHAPE
        });
        for second in &mut report.series {
            second.ok = count;
            second.server_errors = count;
            second.unanswered = count;
            second.in_flight = count;
            second.p50_us = number;
            second.max_us = number;
        }
        for sample in &mut report.watched[0].samples {
            sample.cpu_cores = number;
            sample.rss_bytes = count;
        }
        report.sent = count;
        report.unsent = count;
        report.answered = count.max(1);
        report.answered_per_second = number;
        report.latency_from_start.max_us = number;
        report.seconds = number;
        report.started_unix_ms = count;
        let mut audit = audit_report();
        audit.unfinished_files = count;
        audit.cut_ledgers = count;
        let path = desk.save("run.json", &report);
        let audit = desk.save("audit.json", &audit);
        let page = desk.page(&["--run", &path, "--audit", &audit]);
        let compared = desk.page(&["compare", &path, &format!("b={path},{path}")]);
        for page in [page, compared] {
            assert!(!page.contains("NaN"));
            with_document(&page, |document| {
                assert!(elements(document, "figure").count() >= 5);
            });
        }
    }
}

#[test]
fn long_runs_are_thinned_to_the_plot_width() {
    let desk = Desk::new();
    let mut report = run(Shape {
        seconds: 3,
        ..SHAPE
    });
    let second = report.series[0].clone();
    report.series = (1..=25_000)
        .map(|at| sluice_loadtest::run::Second {
            at: f64::from(at),
            ..second.clone()
        })
        .collect();
    let page = desk.page(&["--run", &desk.save("run.json", &report)]);
    assert!(page.contains("Each point stands for up to 42 seconds"));
    assert!(page.contains("hours since the start"));
    assert!(page.len() < 500_000, "{}", page.len());
}

fn files(desk: &Desk, name: &str, reports: &[sluice_loadtest::run::Report]) -> Vec<PathBuf> {
    let numbered = reports.iter().enumerate();
    numbered
        .map(|(n, report)| PathBuf::from(desk.save(&format!("{name}{n}.json"), report)))
        .collect()
}
