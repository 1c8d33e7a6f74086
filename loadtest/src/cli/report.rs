//! The command line of `report`, and of `report compare`.

use crate::report::{FailIf, VariantFiles};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// What to make a page of.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ReportArgs {
    /// Several runs in one page.
    #[command(subcommand)]
    pub several: Option<SeveralArgs>,
    /// One run.
    #[command(flatten)]
    pub one: OneArgs,
}

/// One run. Required arguments are `Option`s here, because `compare` needs none of them.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// Report of the run, from `run --json`.
    #[arg(long, required = true, value_name = "FILE")]
    pub run: Option<PathBuf>,
    /// What the audit found, from `audit --json`.
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Counters of an emulator from its `GET /_stats`, the cost meter included.
    #[arg(long, value_name = "FILE")]
    pub stats: Option<PathBuf>,
    /// File to write the page to.
    #[arg(long, required = true, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write the findings as JSON to this file; `-` is stdout, and the text then goes to stderr.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What else `report` can do.
#[derive(Debug, Subcommand)]
pub enum SeveralArgs {
    /// Compare runs in one page, and tell differences from noise.
    ///
    /// All differences are to the first variant. Repeats of a variant show how much its figures vary on their
    /// own: NAME=A.json,B.json,C.json, or NAME= more than once. Without repeats a difference is shown but not
    /// judged. Prints a table and writes a page.
    ///
    /// Exit code 0 when the page was written and no condition of --fail-if holds; 1 when one holds or cannot
    /// be judged, when a file cannot be read, is not a report, or comes from a run without a single answer,
    /// and when there are fewer than 2 variants, more than 8, or more than 32 repeats of one; 2 for bad
    /// arguments.
    Compare(CompareArgs),
}

/// Several runs.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Report of a run, or a name and the reports of its repeats; two or more of these.
    #[arg(value_name = "[NAME=]FILE[,FILE...]", value_parser = variant)]
    pub variants: Vec<VariantFiles>,
    /// The same, as an option.
    #[arg(long, value_name = "NAME=FILE[,FILE...]", value_parser = named_variant)]
    pub label: Vec<VariantFiles>,
    /// Exit with code 1 when a difference beyond the noise meets this: `worse` for any figure that got worse,
    /// or for instance p99>5% (5 % above the base) or answered<3%; repeat for more. Figures: answered, cpu,
    /// p50, p99, p99.9, and failed in percentage points. Every variant needs at least 2 repeats, since one
    /// run says nothing about the noise.
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<FailIf>,
    /// File to write the page to.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// Write the comparison as JSON to this file; `-` is stdout, and the text then goes to stderr.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl CompareArgs {
    /// All variants: those without an option first, the base before all.
    #[must_use]
    pub fn all(&self) -> Vec<VariantFiles> {
        self.variants.iter().chain(&self.label).cloned().collect()
    }
}

/// A name before the first `=`, unless that is part of a path.
fn variant(text: &str) -> Result<VariantFiles, String> {
    match text.split_once('=') {
        Some((name, files)) if !name.contains('/') => named(name, files),
        _ => named(text, text),
    }
}

fn named_variant(text: &str) -> Result<VariantFiles, String> {
    let (name, files) = text.split_once('=').ok_or("expected NAME=FILE")?;
    named(name, files)
}

fn named(name: &str, files: &str) -> Result<VariantFiles, String> {
    if name.is_empty() {
        return Err("a name is missing before `=`".to_owned());
    }
    let files: Vec<PathBuf> = files.split(',').map(PathBuf::from).collect();
    if files.iter().any(|file| file.as_os_str().is_empty()) {
        return Err("a file's name is empty".to_owned());
    }
    Ok(VariantFiles {
        name: name.to_owned(),
        files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_is_a_file_or_a_name_with_files() {
        let parsed = |text: &str| {
            let variant = variant(text)?;
            let files: Vec<_> = variant.files.iter().map(|file| file.display()).collect();
            Ok::<_, String>(format!("{} {files:?}", variant.name))
        };
        assert_eq!(parsed("a.json").unwrap(), "a.json [\"a.json\"]");
        assert_eq!(parsed("new=a,b").unwrap(), "new [\"a\", \"b\"]");
        assert_eq!(parsed("d/k=1.json").unwrap(), "d/k=1.json [\"d/k=1.json\"]");
        assert!(parsed("=a").is_err());
        assert!(parsed("n=").is_err());
        assert!(parsed("n=a,,b").is_err());
        assert!(named_variant("a.json").is_err());
    }
}
