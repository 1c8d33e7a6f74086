//! Micro-benchmarks against stored baselines: runs `cargo bench` several times, keeps criterion's
//! results in a small file that outlives `cargo clean`, and prints ratios beside the noise.
//!
//! Criterion's interval is the uncertainty within one run, not the difference to the next one.
//! So runs are repeated, and the range of their medians is the noise.

use crate::input;
use crate::record::{Origin, median, range};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The format field of a baseline's file.
const FORMAT: &str = "sluice-bench micro v1";

/// Depth of criterion's result folders: group, benchmark, value, `new`.
const DEPTH_MAX: usize = 6;

/// Timings at one commit on one machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Baseline {
    /// `sluice-bench micro v1`.
    pub format: String,
    /// Where it comes from.
    pub origin: Origin,
    /// Times that every benchmark was run.
    pub runs: u32,
    /// By criterion's full name.
    pub benchmarks: BTreeMap<String, Timing>,
}

/// Nanoseconds per iteration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// Median over the runs of each run's median.
    pub ns: f64,
    /// The lowest run's median; of a single run the lower end of its 95 % interval.
    pub low_ns: f64,
    /// The highest run's median; of a single run the upper end of its 95 % interval.
    pub high_ns: f64,
}

/// The part of criterion's `estimates.json` that is read; times are in nanoseconds.
#[derive(Deserialize)]
struct Estimates {
    median: Estimate,
}

#[derive(Deserialize)]
struct Estimate {
    point_estimate: f64,
    confidence_interval: Interval,
}

#[derive(Deserialize)]
struct Interval {
    lower_bound: f64,
    upper_bound: f64,
}

/// The part of criterion's `benchmark.json` that is read.
#[derive(Deserialize)]
struct Benchmark {
    full_id: String,
}

/// The file of a baseline: only plain names, so that none points elsewhere.
///
/// # Errors
/// A name that is empty, too long or not plain.
pub fn file(folder: &Path, name: &str) -> Result<PathBuf, String> {
    const NAME_BYTES_MAX: usize = 64;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.len() > NAME_BYTES_MAX {
        return Err(format!(
            "a name of {} bytes, at most {NAME_BYTES_MAX} are allowed",
            name.len()
        ));
    }
    if name.is_empty() || name.starts_with('.') || !name.bytes().all(plain) {
        return Err(format!("name {name:?}: letters, digits, - _ and . only"));
    }
    Ok(folder.join(format!("{name}.json")))
}

/// Makes sure that a baseline is stored.
///
/// # Errors
/// Names those that are, when this one is not.
pub fn stored(folder: &Path, name: &str) -> Result<(), String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let stem = |path: &Path| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .filter_map(|path| stem(&path))
        .collect();
    if names.iter().any(|known| known == name) {
        return Ok(());
    }
    names.sort();
    let names = match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    let folder = folder.display();
    Err(format!(
        "no baseline {name:?} in {folder}; there are {names}"
    ))
}

/// Runs the benchmarks `runs` times. `more` goes to criterion as it is: a filter, or its options.
/// Results lie in folders under `scratch` meanwhile.
///
/// # Errors
/// When `cargo bench` fails, or nothing was measured.
pub fn measure(runs: u32, more: &[String], scratch: &Path) -> Result<Baseline, String> {
    // Before the benchmarks, so that the load average is the one they started with.
    let origin = Origin::here();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut seen: Vec<BTreeMap<String, Timing>> = Vec::new();
    for run in 0..runs {
        let home = scratch.join(format!("criterion-{run}"));
        let status = Command::new(&cargo)
            .args(["bench", "--package", "sluice-bench", "--bench", "*", "--"])
            .args(more)
            // A new folder for each run, so that no result of an earlier one is mistaken for its own.
            .env("CRITERION_HOME", &home)
            .stdin(Stdio::null())
            // Our stdout is for the table.
            .stdout(io::stderr())
            .status()
            .map_err(|error| format!("cargo: {error}"))?;
        if !status.success() {
            return Err(format!("cargo bench: {status}"));
        }
        seen.push(collect(&home)?);
    }
    let benchmarks = merge(&seen);
    if benchmarks.is_empty() {
        return Err("no benchmark was run".to_owned());
    }
    Ok(Baseline {
        format: FORMAT.to_owned(),
        origin,
        runs,
        benchmarks,
    })
}

/// One timing of several runs' timings.
fn merge(runs: &[BTreeMap<String, Timing>]) -> BTreeMap<String, Timing> {
    if let [single] = runs {
        return single.clone();
    }
    let names = runs.iter().flat_map(BTreeMap::keys);
    names
        .map(|name| {
            let medians = || runs.iter().filter_map(|run| Some(run.get(name)?.ns));
            let (low_ns, high_ns) = range(medians());
            let timing = Timing {
                ns: median(medians()),
                low_ns,
                high_ns,
            };
            (name.clone(), timing)
        })
        .collect()
}

/// All results in a folder of criterion's.
fn collect(home: &Path) -> Result<BTreeMap<String, Timing>, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(home.to_path_buf(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let bad = |error: io::Error| format!("{}: {error}", folder.display());
        for entry in fs::read_dir(&folder).map_err(bad)? {
            let path = entry.map_err(bad)?.path();
            if !path.is_dir() {
                continue;
            }
            if path.ends_with("new") && path.join("benchmark.json").is_file() {
                let benchmark: Benchmark = json(&path.join("benchmark.json"))?;
                let Estimates { median } = json(&path.join("estimates.json"))?;
                let timing = Timing {
                    ns: median.point_estimate,
                    low_ns: median.confidence_interval.lower_bound,
                    high_ns: median.confidence_interval.upper_bound,
                };
                found.insert(benchmark.full_id, timing);
            } else if depth < DEPTH_MAX {
                folders.push((path, depth + 1));
            }
        }
    }
    Ok(found)
}

fn json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, String> {
    let text = input::read(path, input::SMALL_BYTES_MAX)?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

impl Baseline {
    /// Reads a stored baseline.
    ///
    /// # Errors
    /// A file that cannot be read, is too large or is no baseline, named.
    pub fn read(path: &Path) -> Result<Baseline, String> {
        let baseline: Baseline = json(path)?;
        if baseline.format != FORMAT {
            return Err(format!(
                "{}: format {:?}, expected {FORMAT:?}",
                path.display(),
                baseline.format
            ));
        }
        Ok(baseline)
    }

    /// Stores it.
    ///
    /// # Errors
    /// A file or folder that cannot be written, named.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let bad = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|error| bad(&error))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|error| bad(&error))?;
        fs::write(path, text + "\n").map_err(|error| bad(&error))
    }

    /// The timings as a table.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text = format!("{}\n\n", self.source());
        text.push_str("| benchmark | ns | range |\n| --- | ---: | ---: |\n");
        for (name, timing) in &self.benchmarks {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {name} | {:.1} | {} |", timing.ns, timing.range());
        }
        text
    }

    /// Ratios of these timings to those of an older baseline. `slower` and `faster` are printed only
    /// where the ranges do not overlap.
    #[must_use]
    pub fn compared_with(&self, old: &Baseline) -> String {
        let mut text = format!("old: {}\nnew: {}\n", old.source(), self.source());
        if old.origin.cpu != self.origin.cpu || old.origin.cores != self.origin.cores {
            text.push_str("the machines differ: ratios say more about them than about the code\n");
        }
        text.push_str(
            "\n| benchmark | old ns | old range | new ns | new range | new/old | |\n\
             | --- | ---: | ---: | ---: | ---: | ---: | --- |\n",
        );
        let mut ratios = Vec::new();
        for (name, new) in &self.benchmarks {
            let _ = match old.benchmarks.get(name) {
                Some(old) => {
                    ratios.push(new.ns / old.ns);
                    writeln!(
                        text,
                        "| {name} | {:.1} | {} | {:.1} | {} | {:.3} | {} |",
                        old.ns,
                        old.range(),
                        new.ns,
                        new.range(),
                        new.ns / old.ns,
                        new.against(old)
                    )
                }
                None => writeln!(
                    text,
                    "| {name} | | | {:.1} | {} | | new |",
                    new.ns,
                    new.range()
                ),
            };
        }
        let missing = old
            .benchmarks
            .iter()
            .filter(|(name, _)| !self.benchmarks.contains_key(*name));
        for (name, old) in missing {
            let _ = writeln!(
                text,
                "| {name} | {:.1} | {} | | | | not run |",
                old.ns,
                old.range()
            );
        }
        if !ratios.is_empty() {
            let _ = writeln!(
                text,
                "\nmedian ratio of {}: {:.3}",
                ratios.len(),
                median(ratios)
            );
        }
        text
    }

    fn source(&self) -> String {
        let Origin {
            cpu,
            cores,
            commit,
            date,
            load_before,
            ..
        } = &self.origin;
        format!(
            "commit {commit}, {date}, {cpu}, {cores} cores, {} runs, load before {load_before}",
            self.runs
        )
    }
}

impl Timing {
    fn range(&self) -> String {
        format!("{:.1}-{:.1}", self.low_ns, self.high_ns)
    }

    fn against(&self, old: &Timing) -> &'static str {
        if self.low_ns > old.high_ns {
            "slower"
        } else if self.high_ns < old.low_ns {
            "faster"
        } else {
            "within noise"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing(ns: f64, low_ns: f64, high_ns: f64) -> Timing {
        Timing {
            ns,
            low_ns,
            high_ns,
        }
    }

    fn baseline(benchmarks: &[(&str, Timing)]) -> Baseline {
        let benchmarks = benchmarks.iter();
        Baseline {
            format: FORMAT.to_owned(),
            origin: Origin::here(),
            runs: 3,
            benchmarks: benchmarks
                .map(|(name, timing)| ((*name).to_owned(), *timing))
                .collect(),
        }
    }

    fn result(home: &Path, folder: &str, id: &str, ns: f64) {
        let dir = home.join(folder);
        fs::create_dir_all(&dir).unwrap();
        fs::write(
            dir.join("benchmark.json"),
            format!(r#"{{"group_id":"g","full_id":"{id}","throughput":null}}"#),
        )
        .unwrap();
        let estimate = format!(
            r#"{{"confidence_interval":{{"confidence_level":0.95,"lower_bound":{},"upper_bound":{}}},"point_estimate":{ns},"standard_error":0.1}}"#,
            ns - 1.0,
            ns + 1.0
        );
        fs::write(
            dir.join("estimates.json"),
            format!(r#"{{"mean":{estimate},"median":{estimate},"slope":null}}"#),
        )
        .unwrap();
    }

    #[test]
    fn results_are_read_from_criterions_new_folders_only() {
        let home = tempfile::tempdir().unwrap();
        result(home.path(), "g/one/new", "g/one", 10.0);
        result(home.path(), "g/one/base", "g/one", 99.0);
        result(home.path(), "two/new", "two", 20.0);
        let found = collect(home.path()).unwrap();
        assert_eq!(found["g/one"], timing(10.0, 9.0, 11.0));
        assert_eq!(found["two"], timing(20.0, 19.0, 21.0));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn several_runs_give_their_median_and_their_range() {
        let run = |ns: f64| BTreeMap::from([("x".to_owned(), timing(ns, ns - 1.0, ns + 1.0))]);
        assert_eq!(merge(&[run(7.0)])["x"], timing(7.0, 6.0, 8.0));
        let merged = merge(&[run(30.0), run(10.0), run(11.0)]);
        assert_eq!(merged["x"], timing(11.0, 10.0, 30.0));
    }

    #[test]
    fn only_ranges_that_do_not_meet_are_a_difference() {
        let old = baseline(&[
            ("a", timing(10.0, 9.0, 11.0)),
            ("b", timing(10.0, 9.0, 11.0)),
            ("c", timing(10.0, 9.0, 11.0)),
            ("gone", timing(10.0, 9.0, 11.0)),
        ]);
        let new = baseline(&[
            ("a", timing(12.0, 11.0, 13.0)),
            ("b", timing(12.0, 11.5, 13.0)),
            ("c", timing(5.0, 4.0, 6.0)),
            ("fresh", timing(5.0, 4.0, 6.0)),
        ]);
        let table = new.compared_with(&old);
        for line in [
            "| a | 10.0 | 9.0-11.0 | 12.0 | 11.0-13.0 | 1.200 | within noise |",
            "| b | 10.0 | 9.0-11.0 | 12.0 | 11.5-13.0 | 1.200 | slower |",
            "| c | 10.0 | 9.0-11.0 | 5.0 | 4.0-6.0 | 0.500 | faster |",
            "| fresh | | | 5.0 | 4.0-6.0 | | new |",
            "| gone | 10.0 | 9.0-11.0 | | | | not run |",
            "median ratio of 3: 1.200",
        ] {
            assert!(table.contains(line), "{line}\n{table}");
        }
        assert!(!table.contains("machines differ"));
    }

    #[test]
    fn another_machine_is_pointed_out() {
        let new = baseline(&[]);
        let mut old = new.clone();
        old.origin.cpu = "another".to_owned();
        assert!(new.compared_with(&old).contains("machines differ"));
    }

    #[test]
    fn a_baseline_survives_its_file_and_another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(&dir.path().join("micro"), "v1.0").unwrap();
        let mut baseline = baseline(&[("a", timing(1.0, 0.5, 1.5))]);
        baseline.write(&path).unwrap();
        let read = Baseline::read(&path).unwrap();
        assert_eq!(read.benchmarks, baseline.benchmarks);
        baseline.format = "other".to_owned();
        baseline.write(&path).unwrap();
        assert!(Baseline::read(&path).unwrap_err().contains("\"other\""));
        fs::write(&path, "{").unwrap();
        assert!(Baseline::read(&path).unwrap_err().contains("v1.0.json"));
        let missing = file(dir.path(), "none").unwrap();
        assert!(Baseline::read(&missing).unwrap_err().contains("none.json"));
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("big.json");
        let big = fs::File::create(&path).unwrap();
        big.set_len(input::SMALL_BYTES_MAX + 1).unwrap();
        let error = Baseline::read(&path).unwrap_err();
        assert!(error.contains("4194305 bytes, at most 4194304"), "{error}");
    }

    #[test]
    fn names_that_point_elsewhere_are_refused() {
        for name in ["", ".", "../x", "a/b", "a b", &"x".repeat(65)] {
            assert!(file(Path::new("f"), name).is_err(), "{name}");
        }
        assert!(file(Path::new("f"), "issue-3").is_ok());
    }
}
