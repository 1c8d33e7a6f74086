//! Runs what the documentation tells a reader to run: every `sh` block, every configuration, every link.
//!
//! The word behind the three backticks says how a block is checked, so none is skipped silently:
//!
//! | block | check |
//! | --- | --- |
//! | `sh` | runs with `bash -euo pipefail`; the blocks of a page run in order, in one directory |
//! | `sh,server=8088` | runs in the background until the page ends; the page goes on when the port accepts |
//! | `sh,needs=X` | needs something this test does not have; its programs, scripts and options are checked ([`needs`]) |
//! | `sh,test=X` | the test module of that name runs it |
//! | `text,output` | what the `sh` block above it printed; `…` stands for anything |
//! | `toml` | a configuration: `sluice` resolves it |
//! | `toml,file=NAME` | the same, and the page's next commands find it under that name |
//! | `toml,faults` | a fault script: the emulator reads it |
//! | `json` | parses |
//! | `rust,from=PATH` | stands in that file, line by line |
//! | `text`, `sql` | is only shown |
//!
//! Inline code of the form `outputs.NAME = { … }` is a configuration too.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blocks;
mod compose;
mod config;
mod image;
mod links;
mod needs;
mod s3_recipe;
mod session;

use blocks::{Block, Page, pages};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

/// The directory of `sluice` and of the harness's programs, which `cargo test --workspace` builds beside it.
fn programs() -> PathBuf {
    let sluice = Path::new(env!("CARGO_BIN_EXE_sluice"));
    let programs = sluice.parent().unwrap().to_path_buf();
    for name in ["sluice-loadtest", "sluice-bench"] {
        assert!(
            programs.join(name).exists(),
            "{name} is not built: run `cargo build --workspace --bins` first"
        );
    }
    programs
}

fn complain(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// How a block is checked, by the words behind its backticks.
fn kind_of(block: &Block) -> Result<&'static str, String> {
    let attributes: Vec<&str> = block.attributes.iter().map(String::as_str).collect();
    let kind = match (block.language.as_str(), attributes.as_slice()) {
        ("sh", []) => "sh: run",
        ("sh", [one]) if one.starts_with("server=") => "sh: run as a server",
        ("sh", [one]) if one.starts_with("needs=") => "sh: checked, not run",
        ("sh", ["test=s3_recipe"]) => "sh: run by a test of its own",
        ("text", ["output"]) => "text: compared with what was printed",
        ("toml", []) => "toml: resolved as a configuration",
        ("toml", ["faults"]) => "toml: read as a fault script",
        ("toml", [one]) if one.starts_with("file=") => "toml: resolved as a configuration",
        ("json", []) => "json: parsed",
        ("rust", [one]) if one.starts_with("from=") => "rust: compared with its file",
        ("text" | "sql", []) => "shown only",
        _ => return Err(format!("{}: no rule runs this block", block.place)),
    };
    Ok(kind)
}

#[test]
fn every_block_has_a_rule_that_runs_it() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for block in pages().iter().flat_map(|page| &page.blocks) {
        match kind_of(block) {
            Ok(kind) => *counts.entry(kind).or_default() += 1,
            Err(error) => wrong.push(error),
        }
    }
    for (kind, count) in &counts {
        println!("{count:4} blocks {kind}");
    }
    complain(&wrong);
    // A page that moved away, or a reader of blocks that finds none, would pass all other tests.
    assert!(counts.get("sh: run").is_some_and(|count| *count >= 5));
    assert!(
        counts
            .get("toml: resolved as a configuration")
            .is_some_and(|count| *count >= 5)
    );
}

#[test]
fn commands_of_every_page_run_as_written() {
    let mut wrong = Vec::new();
    for page in pages() {
        match session::run(&page) {
            Ok(0) => {}
            Ok(commands) => println!("{}: {commands} blocks ran", page.name),
            Err(error) => wrong.push(error),
        }
    }
    complain(&wrong);
}

#[test]
fn commands_that_need_more_name_real_programs_and_options() {
    let mut wrong = Vec::new();
    for block in pages().iter().flat_map(|page| &page.blocks) {
        if let Some(need) = block.attribute("needs") {
            println!("{}: needs {need}", block.place);
            wrong.extend(needs::faults(block, need));
        }
    }
    complain(&wrong);
}

#[test]
fn configurations_on_every_page_resolve() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for block in &page.blocks {
            if block.language == "toml" && !block.has("faults") {
                seen += 1;
                wrong.extend(config::fault(&block.place, &block.text));
            }
        }
        for (place, text) in &page.inline_outputs {
            seen += 1;
            wrong.extend(config::fault(place, text));
        }
    }
    println!("{seen} configurations resolve");
    complain(&wrong);
}

#[test]
fn fault_scripts_on_every_page_are_read_by_an_emulator() {
    let mut wrong = Vec::new();
    for block in pages().iter().flat_map(|page| &page.blocks) {
        if block.has("faults") {
            wrong.extend(config::fault_script_fault(&block.place, &block.text));
        }
    }
    complain(&wrong);
}

#[test]
fn json_and_quoted_rust_on_every_page_are_real() {
    let mut wrong = Vec::new();
    for block in pages().iter().flat_map(|page| &page.blocks) {
        if block.language == "json"
            && let Err(error) = serde_json::from_str::<serde_json::Value>(&block.text)
        {
            wrong.push(format!("{}: {error}", block.place));
        }
        if let Some(path) = block.attribute("from") {
            let source = std::fs::read_to_string(workspace().join(path)).unwrap_or_default();
            if !blocks::stands_in(&block.text, &source) {
                wrong.push(format!("{}: does not stand in {path}", block.place));
            }
        }
    }
    complain(&wrong);
}

#[test]
fn links_on_every_page_lead_somewhere() {
    complain(&links::faults(&pages()));
}

#[test]
fn the_readme_is_at_most_120_lines() {
    let text = std::fs::read_to_string(workspace().join("README.md")).unwrap();
    let lines = text.lines().count();
    assert!(lines <= 120, "README.md has {lines} lines");
}

#[test]
fn every_page_is_in_the_table_of_contents() {
    let summary = std::fs::read_to_string(workspace().join("docs/SUMMARY.md")).unwrap();
    let mut wrong = Vec::new();
    for Page { name, .. } in &pages() {
        if let Some(page) = name.strip_prefix("docs/")
            && page != "SUMMARY.md"
            && !summary.contains(&format!("({page})"))
        {
            wrong.push(format!("docs/SUMMARY.md does not name {page}"));
        }
    }
    complain(&wrong);
}
