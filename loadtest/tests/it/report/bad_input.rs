//! What is no report: one clear line, no page, and an exit code that is not 0.

use super::sample::{SHAPE, run};
use super::{Desk, output};
use serde_json::json;
use sluice_loadtest::report::{FILE_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use std::fs::{self, File};

fn refused(desk: &Desk, args: &[&str], part: &str) {
    let out = desk.path("page.html");
    let mut all = vec!["report"];
    all.extend(args);
    all.extend(["--out", &out]);
    let (code, stdout, stderr) = output(&all);
    assert_eq!(code, 1, "{args:?}: {stderr}");
    assert!(stderr.contains(part), "{args:?}: {stderr}");
    assert!(
        stderr.starts_with("sluice-loadtest: ") && stderr.lines().count() == 1,
        "{stderr}"
    );
    assert!(stdout.is_empty(), "{stdout}");
    assert!(!fs::exists(out).unwrap());
}

#[test]
fn a_non_report_file_is_refused_with_the_reason() {
    let desk = Desk::new();
    let good = serde_json::to_value(run(SHAPE)).unwrap();
    let mut files = 0;
    let mut changed = |key: &str, value: serde_json::Value| {
        let mut report = good.clone();
        report[key] = value;
        files += 1;
        desk.save(&format!("{key}-{files}.json"), &report)
    };
    let text = good.to_string();
    let cut = desk.path("cut.json");
    fs::write(&cut, &text[..text.len() / 2]).unwrap();
    let huge = desk.path("huge.json");
    File::create(&huge)
        .unwrap()
        .set_len(FILE_BYTES_MAX + 1)
        .unwrap();
    let mut back = run(SHAPE);
    back.series[3].at = 2.0;
    let mut far = run(SHAPE);
    far.series[3].max_us = 1e16;
    let mut below = run(SHAPE);
    below.watched[0].samples[0].cpu_cores = -0.5;
    let mut stale = run(SHAPE);
    stale.watched[0].samples[0].at = -1.0;
    for (file, part) in [
        (desk.path("absent.json"), "absent.json: No such file"),
        (desk.path(""), "directory"),
        (cut, "is no report of a run: EOF"),
        (huge, "larger than 268435456 bytes, namely 268435457"),
        (
            desk.save("array.json", &json!([1, 2])),
            "is no report of a run",
        ),
        (
            desk.save("other.json", &json!({ "a": 1 })),
            "missing field `format`",
        ),
        (
            changed("format", json!("x v9")),
            "format is \"x v9\", not \"sluice-loadtest run v3\"",
        ),
        (changed("sent", json!("many")), "invalid type"),
        (
            changed("answered", json!(0)),
            "no request of this run was answered",
        ),
        (changed("histogram_from_start", json!("!")), "no base64"),
        (
            changed("histogram_from_start", json!("aGVsbG8gd29ybGQ=")),
            "compressed V2",
        ),
        (desk.save("back.json", &back), "series[3] is at 2 s"),
        (
            desk.save("far.json", &far),
            "series has 1e16: 0 to 1e15 was expected",
        ),
        (
            desk.save("below.json", &below),
            "samples of process 4711 has -5e-1",
        ),
        (
            changed("seconds", json!(-1.0)),
            "the run has -1e0: 0 to 1e15",
        ),
        (
            desk.save("stale.json", &stale),
            "samples of process 4711[0] is at -1 s",
        ),
    ] {
        refused(&desk, &["--run", &file], part);
        refused(
            &desk,
            &["compare", &file, &file, &format!("b={file}")],
            part,
        );
    }
}

#[test]
fn an_audit_and_statistics_are_not_taken_on_trust() {
    let desk = Desk::new();
    let run = desk.save("run.json", &run(SHAPE));
    let array = desk.save("array.json", &json!([1]));
    let huge = desk.path("huge.json");
    File::create(&huge)
        .unwrap()
        .set_len(SMALL_FILE_BYTES_MAX + 1)
        .unwrap();
    for (option, file, part) in [
        ("--audit", &run, "is no report of an audit: "),
        ("--audit", &huge, "larger than 16777216 bytes"),
        (
            "--stats",
            &array,
            "is no statistics of an emulator: invalid type",
        ),
        ("--stats", &huge, "larger than 16777216 bytes"),
    ] {
        refused(&desk, &["--run", &run, option, file], part);
    }
}

#[test]
fn a_page_never_overwrites_its_input() {
    let desk = Desk::new();
    let run = desk.save("run.json", &run(SHAPE));
    let before = desk.read("run.json");
    for args in [
        &["report", "--run", &run, "--out", &run][..],
        &[
            "report",
            "--run",
            &run,
            "--out",
            &desk.path("page.html"),
            "--json",
            &run,
        ],
        &[
            "report",
            "compare",
            &run,
            &format!("b={run}"),
            "--out",
            &run,
        ],
    ] {
        let (code, _, stderr) = output(args);
        assert_eq!(code, 1, "{args:?}");
        assert!(stderr.contains("would overwrite what is read"), "{stderr}");
        assert_eq!(desk.read("run.json"), before);
    }
    let nowhere = desk.path("absent/page.html");
    let (code, _, stderr) = output(&["report", "--run", &run, "--out", &nowhere]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("absent/page.html: No such file"),
        "{stderr}"
    );
}

#[test]
fn bad_arguments_end_with_2_or_name_the_limit() {
    let desk = Desk::new();
    for args in [
        &["report"][..],
        &["report", "--run", "x"],
        &["report", "compare"],
        &["report", "compare", "a", "b"],
        &["report", "compare", "=a", "b", "--out", "x"],
        &["report", "compare", "a", "n=,", "--out", "x"],
        &["report", "--run", "x", "compare", "a", "b", "--out", "x"],
    ] {
        let (code, stdout, stderr) = output(args);
        assert_eq!(code, 2, "{args:?}: {stderr}");
        assert!(stdout.is_empty() && !stderr.is_empty());
    }
    refused(
        &desk,
        &["compare", "a"],
        "variants to compare: between 2 and 8, not 1",
    );
    let files = vec!["x"; 33].join(",");
    let many = format!("n={files}");
    refused(
        &desk,
        &["compare", "a", &many],
        "repeats of n: between 1 and 32, not 33",
    );
}
