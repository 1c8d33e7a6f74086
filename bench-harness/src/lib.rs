//! Is it fast, and against whom: whole processes side by side on this machine, and micro-benchmarks
//! against stored baselines.
//!
//! Peers and workloads are rows in TOML files; Sluice is one more row. Each peer is started once,
//! then every round drives every workload against every peer in turn, so that a machine whose speed
//! drifts drifts for all of them. What counts is CPU time per answered request, from the operating
//! system's accounting of all the peer's processes. No figure is given for a run whose counts are
//! wrong.
#![forbid(unsafe_code)]

pub mod counter;
pub mod disk;
pub mod figures;
pub mod generator;
pub mod input;
pub mod measure;
pub mod micro;
pub mod peer;
pub mod process;
pub mod record;
pub mod running;
pub mod workload;
