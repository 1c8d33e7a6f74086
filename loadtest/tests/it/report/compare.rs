//! `report compare`: known differences and known noise.

use super::sample::{SHAPE, Shape, run};
use super::{Desk, files, numbers, output, with_document};
use serde_json::{Value, json};
use sluice_loadtest::run::Report;

/// Three repeats whose latencies are those of the sample times `slow`, give or take `noise`.
fn repeats(slow: f64, noise: f64) -> Vec<Report> {
    [-1.0, 0.0, 1.0]
        .map(|turn| {
            let mut report = run(SHAPE);
            let factor = slow + noise * turn;
            let latency = report.latency_from_intended_start.as_mut().unwrap();
            latency.p50_us *= factor;
            latency.p99_us *= factor;
            latency.p99_9_us *= factor;
            report
        })
        .to_vec()
}

fn named(desk: &Desk, name: &str, reports: &[Report]) -> String {
    let paths: Vec<_> = files(desk, name, reports)
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    format!("{name}={}", paths.join(","))
}

fn judgement(comparison: &Value, variant: &str, metric: &str) -> String {
    let all = comparison["differences"].as_array().unwrap();
    let found = all
        .iter()
        .find(|d| d["variant"] == json!(variant) && d["metric"] == json!(metric));
    found.unwrap()["judgement"].as_str().unwrap().to_owned()
}

#[test]
fn comparison_separates_differences_from_noise() {
    let desk = Desk::new();
    let base = named(&desk, "base", &repeats(1.0, 0.05));
    let same = named(&desk, "same", &repeats(1.04, 0.05));
    let worse = named(&desk, "worse", &repeats(1.3, 0.05));
    let better = named(&desk, "better", &repeats(0.8, 0.01));
    let page = desk.page(&[
        "compare", &base, &same, "--label", &worse, "--label", &better,
    ]);
    let found = desk.json("page.json");
    for (variant, expected) in [
        ("same", "within_noise"),
        ("worse", "worse"),
        ("better", "better"),
    ] {
        for metric in ["p50_us", "p99_us", "p999_us"] {
            assert_eq!(judgement(&found, variant, metric), expected, "{variant}");
        }
        assert_eq!(
            judgement(&found, variant, "answered_per_second"),
            "within_noise"
        );
        assert_eq!(judgement(&found, variant, "error_share"), "within_noise");
    }
    let p99 = run(SHAPE).latency_from_intended_start.unwrap().p99_us;
    let near = |value: f64, expected: f64| (value - expected).abs() < expected * 1e-9;
    let base_p99 = numbers(&page, "p99");
    assert!(
        near(base_p99[0], p99) && near(base_p99[1], p99 * 0.95),
        "{base_p99:?}"
    );
    assert!(near(base_p99[2], p99 * 1.05) && near(base_p99[3], p99 * 0.05));
    assert!(page.contains("worse is worse, beyond the noise: p50 +30.0\u{a0}%"));
    assert!(page.contains("same: no difference beyond the noise"));
    assert!(page.contains("up to 10.0 % of such comparisons"));
    assert!(page.contains("do not overlap"));
    let text = output(&[
        "report",
        "compare",
        &base,
        &worse,
        "--out",
        &desk.path("x.html"),
    ])
    .1;
    let line = text
        .lines()
        .find(|line| line.starts_with("p99 ") && line.contains("worse x3"));
    assert!(line.unwrap().contains("+30.0 %"), "{text}");
    assert!(line.unwrap().ends_with(" worse"), "{text}");
}

#[test]
fn single_runs_are_shown_and_not_judged() {
    let desk = Desk::new();
    let a = desk.save("a.json", &run(SHAPE));
    let b = desk.save("b.json", &run(Shape { slow: 5.0, ..SHAPE }));
    let page = desk.page(&["compare", &a, &b]);
    let found = desk.json("page.json");
    assert_eq!(judgement(&found, &b, "p99_us"), "noise_unknown");
    assert_eq!(found["differences"][0]["noise"], Value::Null);
    assert!(page.contains("noise unknown, since a variant has a single run"));
    assert!(with_document(&page, |d| super::elements(d, "figure")
        .count()
        == 5));
}

#[test]
fn repeats_are_grouped_by_name_however_they_are_given() {
    let desk = Desk::new();
    let paths = files(&desk, "r", &repeats(1.0, 0.1));
    let other = desk.save("other.json", &run(SHAPE));
    let given: Vec<_> = paths
        .iter()
        .map(|path| format!("a={}", path.display()))
        .collect();
    let args = vec![
        "compare", &given[0], &other, &given[1], "--label", &given[2],
    ];
    desk.page(&args);
    let variants = desk.json("page.json")["variants"].clone();
    assert_eq!(variants[0]["name"], json!("a"));
    assert_eq!(variants[0]["files"].as_array().unwrap().len(), 3);
    assert_eq!(variants[1]["name"], json!(other));
}

#[test]
fn what_speaks_against_a_comparison_is_said() {
    let desk = Desk::new();
    let mut other = run(Shape {
        rate: 5_000,
        ..SHAPE
    });
    other.machine.cores = 2;
    other.generator.is_bottleneck = true;
    other.interrupted = true;
    other.latency_from_intended_start = None;
    other.load.rate = None;
    other.watched = Vec::new();
    let a = desk.save("a.json", &run(SHAPE));
    let b = desk.save("b.json", &other);
    let page = desk.page(&["compare", &a, &b]);
    for part in [
        "the generator was the bottleneck",
        "the run ended early",
        "different loads: rate differs",
        "different machines",
        "not measured",
        "real start, because a run was a closed loop",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert_eq!(
        desk.json("page.json")["latency_from_intended_start"],
        json!(false)
    );
    let p99 = run(SHAPE).latency_from_start.p99_us;
    assert_eq!(numbers(&page, "p99")[0], p99);
}

#[test]
fn compare_fails_only_for_differences_beyond_the_noise() {
    let desk = Desk::new();
    let base = named(&desk, "base", &repeats(1.0, 0.05));
    let same = named(&desk, "same", &repeats(1.04, 0.05));
    let worse = named(&desk, "worse", &repeats(1.3, 0.05));
    let better = named(&desk, "better", &repeats(0.8, 0.01));
    let out = desk.path("page.html");
    let compare = |variant: &str, condition: &str| {
        let args = ["report", "compare", &base, variant, "--out", &out];
        output(&[&args[..], &["--fail-if", condition]].concat())
    };
    for (variant, condition, expected) in [
        (&same, "worse", 0),
        // 4 % above the base, and within what repeats differ by.
        (&same, "p99>1%", 0),
        (&worse, "worse", 1),
        (&worse, "p99>25%", 1),
        (&worse, "p99>35%", 0),
        (&worse, "p50<1%", 0),
        (&worse, "answered<1%", 0),
        (&better, "worse", 0),
        (&better, "p99.9<15%", 1),
    ] {
        let (code, _, stderr) = compare(variant, condition);
        assert_eq!(code, expected, "{variant} {condition}: {stderr}");
        assert_eq!(stderr.contains("beyond the noise"), code == 1, "{stderr}");
    }
    // What cannot be judged is no pass.
    let single = desk.save("single.json", &run(SHAPE));
    let (code, _, stderr) = compare(&single, "worse");
    assert_eq!(code, 1);
    assert!(stderr.contains("the noise is unknown"), "{stderr}");
    assert_eq!(compare(&worse, "p98>1%").0, 2);
}
