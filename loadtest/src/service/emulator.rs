//! The methods that every emulator offers to the program that runs it.

/// The methods that all emulators share, for the `impl` of one with a field `frame: Frame`.
macro_rules! emulator_methods {
    ($stats:ty) => {
        /// Where it listens.
        #[must_use]
        pub fn addr(&self) -> std::net::SocketAddr {
            self.frame.addr()
        }

        /// Its endpoint URL, as `AWS_ENDPOINT_URL` takes it.
        #[must_use]
        pub fn url(&self) -> String {
            format!("http://{}", self.addr())
        }

        /// Where it listens with TLS, and its certificate in PEM; `None` without a TLS port.
        #[must_use]
        pub fn tls(&self) -> Option<(std::net::SocketAddr, &str)> {
            self.frame.tls()
        }

        /// Replaces the faults from the next call on, and starts their choices and their clock
        /// anew.
        ///
        /// # Errors
        /// When they are impossible; the old ones then stay.
        pub fn set_faults(
            &self,
            faults: impl Into<$crate::service::FaultScript>,
        ) -> Result<(), $crate::service::FaultsError> {
            self.frame.set_faults(faults.into().window)
        }

        /// Counters since the start.
        #[must_use]
        pub fn stats(&self) -> $stats {
            let shared = self.frame.shared();
            $crate::service::Service::stats(&shared.service, &shared.lock())
        }

        /// Returns when the emulator ended by itself, as it does when its ledger cannot be
        /// written, or when `stop` says so; then ends it.
        ///
        /// # Errors
        /// Why it ended by itself.
        pub fn run_until(
            self,
            stop: impl Future<Output = ()>,
        ) -> Result<(), $crate::service::EmulatorError> {
            self.frame.run_until(stop)
        }

        /// Ends it: connections are closed, the ledger is written out, the port is free again.
        ///
        /// # Errors
        /// Why it ended by itself before.
        pub fn stop(self) -> Result<(), $crate::service::EmulatorError> {
            self.frame.stop()
        }
    };
}

pub(crate) use emulator_methods;
