//! Commands that need a container engine, a registry or a machine of its own do not run here. What
//! can be known without is checked: that programs and files exist and that ours take these options.

use super::blocks::Block;
use super::{programs, workspace};
use std::process::{Command, Stdio};

/// What a block may need, and who runs it.
const NEEDS: [(&str, &str); 4] = [
    ("docker", "a container engine"),
    ("machine", "an idle machine, for minutes"),
    ("packages", "a package registry"),
    ("ci", "what .ci/run installs"),
];

/// Programs of ours: each of their commands is tried with `--help` behind it, so that a wrong option fails.
const OURS: [&str; 3] = ["sluice", "sluice-loadtest", "sluice-bench"];

pub(crate) fn faults(block: &Block, need: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if !NEEDS.iter().any(|(name, _)| *name == need) {
        wrong.push(format!("{}: nobody knows the need {need}", block.place));
    }
    for line in block.text.lines() {
        let command = line.split(" #").next().unwrap_or_default();
        let words: Vec<&str> = command
            .split_whitespace()
            .skip_while(|word| word.contains('=') && !word.starts_with('-'))
            .collect();
        let Some((program, arguments)) = words.split_first() else {
            continue;
        };
        let name = program.rsplit('/').next().unwrap_or_default();
        if OURS.contains(&name) {
            let tried = Command::new(programs().join(name))
                .args(arguments.iter().filter(|word| **word != "&"))
                .arg("--help")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            if !tried.success() {
                wrong.push(format!("{}: {name} does not take: {line}", block.place));
            }
        } else if program.contains('/') && !workspace().join(program).exists() {
            wrong.push(format!("{}: there is no {program}", block.place));
        }
    }
    wrong
}

#[test]
fn an_unknown_option_or_script_is_found() {
    let faults_of = |text: &str| {
        let page = super::blocks::parse("a.md", &format!("```sh,needs=machine\n{text}\n```\n"));
        faults(&page.blocks[0], "machine").len()
    };
    assert_eq!(faults_of("target/release/sluice-bench peers --rounds 3"), 0);
    assert_eq!(faults_of("target/release/sluice-bench peers --round 3"), 1);
    assert_eq!(faults_of(".ci/rum"), 1);
    assert_eq!(
        faults_of(".ci/rate 7000 20   # requests per second, seconds"),
        0
    );
}
