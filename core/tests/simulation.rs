//! The three machines together under seeded schedules: requests through intake and delivery, and the acks back.
//! `SLUICE_SEEDS` sets how many schedules run, `SLUICE_SEED` names a single one. `planted_bugs` shows that the
//! rules bite.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to fail")]
#![allow(clippy::panic, reason = "a broken rule fails the test")]

#[path = "simulation/destination.rs"]
mod destination;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use world::{Acks, run};

#[test]
fn no_schedule_loses_an_acknowledged_event() {
    let acks = Acks::leak();
    if let Ok(seed) = std::env::var("SLUICE_SEED") {
        return run(seed.parse().unwrap(), &acks);
    }
    let seeds = std::env::var("SLUICE_SEEDS").map_or(20_000, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        let result = catch_unwind(AssertUnwindSafe(|| run(seed, &acks)));
        assert!(result.is_ok(), "failed with SLUICE_SEED={seed}");
    }
}
