//! Every bug of `core/src/planted.rs` breaks a rule of the simulation within 5,000 seeds. Run with
//! `cargo test -p sluice-core --features planted-bugs --test planted_bugs -- --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]
#![allow(clippy::panic, reason = "a broken rule fails the test")]
#![allow(clippy::print_stdout, reason = "shows which seed found which bug")]

#[path = "simulation/destination.rs"]
mod destination;
#[path = "simulation/world.rs"]
mod world;

use sluice_core::planted::{Bug, plant};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::{Arc, Mutex};
use world::{Acks, run};

const SEEDS: u64 = 5_000;

#[test]
fn every_planted_bug_is_found_within_5000_seeds() {
    let acks = Acks::leak();
    let message = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&message);
    let hook = take_hook();
    set_hook(Box::new(move |panic| {
        *heard.lock().unwrap() = panic.to_string();
    }));
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        plant(Some(bug));
        let fails = |seed: &u64| catch_unwind(AssertUnwindSafe(|| run(*seed, &acks))).is_err();
        match (0..SEEDS).find(fails) {
            Some(seed) => {
                let message = message.lock().unwrap();
                let rule = message.lines().nth(1).unwrap_or_default();
                println!("{bug:?}: seed {seed}, {rule}");
            }
            None => missed.push(bug),
        }
    }
    plant(None);
    set_hook(hook);
    assert!(
        missed.is_empty(),
        "not found within {SEEDS} seeds: {missed:?}"
    );
    // Without a bug, the same seeds pass.
    for seed in 0..SEEDS / 10 {
        run(seed, &acks);
    }
}
