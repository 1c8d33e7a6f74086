//! io_uring or epoll: probes what the kernel permits before a core depends on it.

use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use sluice_sinks::keyword_enum;
use std::future::Future;
use std::io;
use std::thread::{self, JoinHandle};

/// Submission entries of each core's ring. Sockets are polled through one entry, so this is ample.
const RING_ENTRIES: u32 = 1024;

keyword_enum! {
    /// The configured I/O driver.
    #[derive(Default)]
    Driver, "one of auto, uring, epoll" {
        /// io_uring where the kernel allows it, else epoll.
        #[default]
        Auto = "auto",
        /// io_uring, or an error.
        Uring = "uring",
        /// epoll.
        Epoll = "epoll",
    }
}

/// The I/O driver in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// io_uring with SINGLE_ISSUER, COOP_TASKRUN and DEFER_TASKRUN (Linux 6.1 and later).
    UringDeferred,
    /// io_uring without them.
    Uring,
    /// epoll: any kernel, any container.
    Epoll,
}

impl DriverKind {
    /// Its number in [`WorkerStats::driver`](sluice_core::stats::WorkerStats::driver).
    #[must_use]
    pub fn number(self) -> u64 {
        match self {
            DriverKind::UringDeferred => 1,
            DriverKind::Uring => 2,
            DriverKind::Epoll => 3,
        }
    }

    /// Its name in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            DriverKind::UringDeferred => "io_uring",
            DriverKind::Uring => "io_uring_plain",
            DriverKind::Epoll => "epoll",
        }
    }

    fn ring(self) -> Option<io_uring::Builder> {
        let mut builder = io_uring::IoUring::builder();
        match self {
            DriverKind::UringDeferred => {
                builder
                    .setup_single_issuer()
                    .setup_coop_taskrun()
                    .setup_defer_taskrun();
                Some(builder)
            }
            DriverKind::Uring => Some(builder),
            DriverKind::Epoll => None,
        }
    }

    /// Runs a future on the calling thread, which stays its own.
    ///
    /// # Errors
    /// The kernel makes no runtime; the future did not begin.
    pub(crate) fn block_on(self, future: impl Future<Output = ()>) -> io::Result<()> {
        // Built on the thread it runs on: SINGLE_ISSUER binds the ring to that thread, and wakes from other
        // threads find it by its thread.
        match self.ring() {
            Some(ring) => RuntimeBuilder::<IoUringDriver>::new()
                .uring_builder(ring)
                .with_entries(RING_ENTRIES)
                .enable_timer()
                .build()?
                .block_on(future),
            None => RuntimeBuilder::<LegacyDriver>::new()
                .enable_timer()
                .build()?
                .block_on(future),
        }
        Ok(())
    }

    /// The better of the two rings that the kernel builds.
    fn best_ring() -> io::Result<DriverKind> {
        let mut refusal = io::Error::from(io::ErrorKind::Unsupported);
        for kind in [DriverKind::UringDeferred, DriverKind::Uring] {
            match kind.ring().map(|builder| builder.build(RING_ENTRIES)) {
                Some(Ok(_)) => return Ok(kind),
                Some(Err(error)) => refusal = error,
                None => {}
            }
        }
        Err(refusal)
    }
}

impl Driver {
    /// Tries what the kernel permits, by building a ring like a core's and dropping it.
    ///
    /// # Errors
    /// [`Driver::Uring`] where io_uring is missing or forbidden, as it is in many containers.
    pub fn choose(self) -> io::Result<DriverKind> {
        if self == Driver::Epoll {
            return Ok(DriverKind::Epoll);
        }
        // On a thread of its own: the ring's clean-up would interrupt (EINTR) the next blocking call of a
        // caller that had owned it.
        let probe = thread::Builder::new()
            .name("probe".to_owned())
            .spawn(DriverKind::best_ring)
            .map(JoinHandle::join);
        let found = match probe {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err(io::Error::other("the probe panicked")),
            Err(error) => Err(error),
        };
        match (self, found) {
            (_, Ok(kind)) => Ok(kind),
            (Driver::Uring, Err(error)) => Err(error),
            (_, Err(_)) => Ok(DriverKind::Epoll),
        }
    }
}
