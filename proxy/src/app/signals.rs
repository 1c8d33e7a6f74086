//! The signals that the process hears.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The signals that the process handles. Registering a handler disables a signal's default action, so
/// signals that are registered and never read are ignored.
pub(super) struct Signals {
    /// SIGTERM, SIGINT, SIGQUIT: drain. Further ones change nothing, the drain is under way.
    end: [Signal; 3],
    hangup: Signal,
}

impl Signals {
    pub(super) fn listen() -> io::Result<Self> {
        let ignored = [
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            // A file over RLIMIT_FSIZE: the write fails as well, and the process survives.
            SignalKind::from_raw(libc::SIGXFSZ),
        ];
        for kind in ignored {
            // tokio keeps the handler for the life of the process, even when the listener is dropped.
            drop(signal(kind)?);
        }
        Ok(Signals {
            end: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
                signal(SignalKind::quit())?,
            ],
            hangup: signal(SignalKind::hangup())?,
        })
    }

    pub(super) async fn wait_for_end(&mut self) {
        let [terminate, interrupt, quit] = &mut self.end;
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = quit.recv() => return,
                _ = self.hangup.recv() => {
                    info!("SIGHUP: settings cannot be reloaded, the process goes on with those it has");
                }
            }
        }
    }
}
