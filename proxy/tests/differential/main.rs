//! The HTTP server beside others: hyper, h11, llhttp in Node.js, and Go's net/http read the same bytes, and every
//! disagreement has a reason, which `docs/reference/http1.md` lists. `.ci/differential` runs all of it; hyper alone
//! is asked here in every run of the tests.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod cases;
mod classes;
mod ours;
mod outcome;
mod page;
mod peers;

use classes::{CLASSES, Disagreement};
use outcome::{Difference, Outcome};
use page::Compared;
use peers::{Answers, PEERS, Peer};

/// As `.ci/differential` may set them.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().unwrap(),
        Err(_) => default,
    }
}

/// Those by hand, then others made of them; and how many are by hand.
fn cases() -> (Vec<Vec<u8>>, usize) {
    let mut cases = cases::by_hand();
    let by_hand = cases.len();
    let seed = number("SLUICE_DIFFERENTIAL_SEED", 1);
    let count = usize::try_from(number("SLUICE_DIFFERENTIAL_CASES", 4_000)).unwrap();
    println!("{by_hand} cases by hand, {count} made of them with seed {seed}");
    let made = cases::mutated(&cases, count, seed);
    cases.extend(made);
    (cases, by_hand)
}

fn ours(cases: &[Vec<u8>]) -> Vec<Outcome> {
    let server = ours::Server::start();
    cases.iter().map(|case| server.read(case)).collect()
}

/// The classes of all disagreements about one case; those without one are added to `unknown`.
fn compare<'a>(
    input: &'a [u8],
    ours: &'a Outcome,
    theirs: &[(Peer, &Outcome)],
    unknown: &mut Vec<String>,
) -> Compared<'a> {
    let mut compared = Compared {
        input,
        ours,
        classes: [None; PEERS.len()],
        differences: [None; PEERS.len()],
    };
    for (peer, theirs) in theirs {
        compared.differences[*peer as usize] = ours.difference(theirs);
    }
    let alone = compared.differences == [Some(Difference::TheirsOnly); PEERS.len()];
    for (peer, theirs) in theirs {
        let Some(difference) = compared.differences[*peer as usize] else {
            continue;
        };
        let disagreement = Disagreement {
            input,
            ours,
            peer: *peer,
            theirs,
            difference,
            alone,
        };
        let class = CLASSES
            .iter()
            .position(|class| class.explains(&disagreement));
        compared.classes[*peer as usize] = class;
        if class.is_none() {
            let alone = if alone { ", as all others" } else { "" };
            unknown.push(format!(
                "{peer:?}{alone}, {difference:?}: {}\n  ours:   {ours:?}\n  theirs: {theirs:?}",
                input.escape_ascii()
            ));
        }
    }
    compared
}

fn assert_all_known(unknown: &[String]) {
    assert!(
        unknown.is_empty(),
        "{} disagreements that no class explains:\n{}",
        unknown.len(),
        unknown[..unknown.len().min(20)].join("\n")
    );
}

#[test]
fn hyper_disagrees_only_where_a_class_says_why() {
    let (cases, _) = cases();
    let mut unknown = Vec::new();
    for (case, ours) in cases.iter().zip(&ours(&cases)) {
        compare(
            case,
            ours,
            &[(Peer::Hyper, &peers::by_hyper(case))],
            &mut unknown,
        );
    }
    assert_all_known(&unknown);
}

#[test]
#[ignore = "needs Python, Node.js and Go: .ci/differential"]
fn four_servers_disagree_only_where_the_page_says_why() {
    let (cases, by_hand) = cases();
    let ours = ours(&cases);
    let answers: Vec<Answers> = PEERS.iter().map(|peer| peer.read_all(&cases)).collect();
    let mut unknown = Vec::new();
    let compared: Vec<Compared<'_>> = (0..cases.len())
        .map(|at| {
            let theirs: Vec<(Peer, &Outcome)> = PEERS
                .iter()
                .zip(&answers)
                .map(|(peer, answers)| (*peer, &answers.outcomes[at]))
                .collect();
            compare(&cases[at], &ours[at], &theirs, &mut unknown)
        })
        .collect();
    assert_all_known(&unknown);
    page::check(&page::write(&answers, &compared[..by_hand]));
}
