//! The child process, raw HTTP clients, and the audit of acknowledged ids.

pub(crate) mod audit;
pub(crate) mod client;
pub(crate) mod event;
pub(crate) mod files;
pub(crate) mod load;
pub(crate) mod metrics;
pub(crate) mod proxy;
pub(crate) mod small_disk;
pub(crate) mod stream;

pub(crate) use small_disk::SmallDisk;

use std::thread;
use std::time::{Duration, Instant};

/// Waits for something that another thread or process brings about.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < give_up, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
