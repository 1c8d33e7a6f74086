//! Compares performance: whole processes side by side on this machine, and micro-benchmarks
//! against stored baselines.
//!
//! Peers and workloads are rows in TOML files; Sluice is one more row. Each peer is started once,
//! then every round drives every workload against every peer in turn, so that drift in the speed of
//! the machine affects all of them. The measure is CPU time per answered request, from the operating
//! system's accounting of all processes of a peer. No figure is given for a run whose counts are
//! wrong.
#![forbid(unsafe_code)]

pub mod counter;
pub mod disk;
pub mod doors;
pub mod figures;
pub mod generator;
pub mod hostile;
pub mod input;
pub mod measure;
pub mod micro;
pub mod peer;
pub mod process;
pub mod record;
pub mod running;
pub mod workload;
