//! The arguments that all emulators share, and how they become options.

use super::seconds;
use crate::service::{
    FaultScript, Faults, Key, Latency, LogNormal, Options, Pauses, Portion, Reject, RejectCode,
    ScriptError, Signatures, Tls,
};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Options of all emulators.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// Write the id of each stored event to this file, for `audit --ledger`.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
    /// Also listen with TLS at this address, with a self-signed certificate for localhost and h2 by ALPN.
    /// Plain ports accept h2 with prior knowledge.
    #[arg(long, value_name = "ADDR")]
    pub tls_listen: Option<SocketAddr>,
    /// Write the certificate of --tls-listen to this file in PEM, for clients to trust.
    #[arg(long, value_name = "FILE", requires = "tls_listen")]
    pub tls_cert_out: Option<PathBuf>,
    /// Server threads, 1 to 64.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Refuse calls that are not signed (AWS Signature Version 4 in the Authorization header). Without a
    /// value it checks that a signature is present, well-formed, current and for this service; with ID:SECRET
    /// it also verifies the signature with that key.
    #[arg(long, value_name = "ID:SECRET", num_args = 0..=1, require_equals = true,
          default_missing_value = "", value_parser = signatures)]
    pub require_signature: Option<Signatures>,
    /// Delays of answers.
    #[command(flatten)]
    pub latency: LatencyArgs,
    /// Faults from the start, and at set times.
    #[command(flatten)]
    pub faults: FaultArgs,
}

/// Delays of answers. The parts add up; delays end at whole milliseconds.
#[derive(Debug, Args)]
#[command(next_help_heading = "Latency (parts add up; --fault-seed seeds it)")]
pub struct LatencyArgs {
    /// Delay before each answer, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub latency_ms: u64,
    /// Additional delay of up to this much, evenly distributed, in milliseconds.
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub latency_jitter_ms: u64,
    /// A log-normal delay with this median, in milliseconds.
    #[arg(long, value_name = "MS", requires = "latency_p99_ms")]
    pub latency_median_ms: Option<f64>,
    /// The 99th percentile of the log-normal delay, in milliseconds.
    #[arg(long, value_name = "MS", requires = "latency_median_ms")]
    pub latency_p99_ms: Option<f64>,
    /// Pause the whole service once in this many seconds.
    #[arg(long, value_name = "SECONDS", requires = "pause_ms")]
    pub pause_every_s: Option<f64>,
    /// Length of each pause, in milliseconds.
    #[arg(long, value_name = "MS", requires = "pause_every_s")]
    pub pause_ms: Option<u64>,
}

impl LatencyArgs {
    fn latency(&self) -> Latency {
        let log_normal = self.latency_median_ms.zip(self.latency_p99_ms);
        let pauses = self.pause_every_s.zip(self.pause_ms);
        Latency {
            fixed: Duration::from_millis(self.latency_ms),
            jitter: Duration::from_millis(self.latency_jitter_ms),
            log_normal: log_normal.map(|(median, p99)| {
                LogNormal::from_p99(seconds(median / 1_000.0), seconds(p99 / 1_000.0))
            }),
            pauses: pauses.map(|(every, length)| Pauses {
                every: seconds(every),
                length: Duration::from_millis(length),
            }),
        }
    }
}

impl ServiceArgs {
    /// How the emulator is run; it listens on `listen`.
    ///
    /// # Errors
    /// When the fault script cannot be read.
    pub fn options(self, listen: SocketAddr) -> Result<Options, ScriptError> {
        let script = match &self.faults.fault_script {
            Some(path) => FaultScript::read(path)?,
            None => FaultScript::default(),
        };
        Ok(Options {
            listen,
            tls: self.tls_listen.map(|listen| Tls {
                listen,
                certificate: self.tls_cert_out,
            }),
            threads: self.threads,
            latency: self.latency.latency(),
            signatures: self.require_signature.unwrap_or_default(),
            faults: self.faults.faults(),
            ledger: self.ledger,
            script,
        })
    }
}

/// Reads nothing or `ID:SECRET`.
fn signatures(text: &str) -> Result<Signatures, String> {
    if text.is_empty() {
        return Ok(Signatures::Present);
    }
    match text.split_once(':') {
        Some((id, secret)) if !id.is_empty() && !secret.is_empty() => {
            Ok(Signatures::Verified(Key {
                id: id.to_owned(),
                secret: secret.to_owned(),
            }))
        }
        _ => Err("expected ID:SECRET".to_owned()),
    }
}

/// Faults from the start. Shares are of the calls that store something, 0 to 1; a call meets at
/// most one.
#[derive(Debug, Args)]
#[command(next_help_heading = "Faults (shares of the calls that store something, 0 to 1)")]
pub struct FaultArgs {
    /// Seed of every choice; the same seed and calls give the same faults.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub fault_seed: u64,
    /// Refuse exactly K of every N records, per record.
    #[arg(long, value_name = "K/N", value_parser = portion)]
    pub reject: Option<Portion>,
    /// Error code in the entry of a refused record.
    #[arg(long, value_enum, default_value = "throttled")]
    pub reject_code: RejectCode,
    /// Report 0 failures in the answer, whatever its entries say.
    #[arg(long)]
    pub failed_count_zero: bool,
    /// Answer K of every N records as stored without storing them: an audit must find them.
    #[arg(long, value_name = "K/N", value_parser = portion)]
    pub drop_acked: Option<Portion>,
    /// Answer as the service does when it fails (5xx), store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub internal_error: f64,
    /// Throttle the whole call, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub throttle_call: f64,
    /// Answer that permission is missing, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub access_denied: f64,
    /// Answer that the credentials have expired, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub expired_token: f64,
    /// Never answer, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub hang: f64,
    /// Reset the connection before reading the body, store nothing.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub reset_before: f64,
    /// Store, then reset the connection instead of answering.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub reset_after: f64,
    /// Store, then answer as the service does when it fails (5xx).
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub error_after: f64,
    /// Store, then answer --slow-ms later.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub slow: f64,
    /// Delay of a slow answer in milliseconds.
    #[arg(long, default_value_t = 1_000, value_name = "MS")]
    pub slow_ms: u64,
    /// Carry out the call, then send the answer's body at --trickle-bytes-per-s.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub trickle: f64,
    /// Rate of such a body, at least 1.
    #[arg(long, default_value_t = 100, value_name = "BYTES")]
    pub trickle_bytes_per_s: u32,
    /// Store, then answer without the last entry.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub short_answer: f64,
    /// Store, then answer 200 with a body that is not the service's.
    #[arg(long, default_value_t = 0.0, value_name = "SHARE")]
    pub garbage_answer: f64,
    /// Stop after this many faulty calls.
    #[arg(long, value_name = "N")]
    pub fault_calls_max: Option<u64>,
    /// TOML file of `[[window]]` tables, each with from_s, for_s, seed and faults named as these (without --,
    /// with _ for -); gone = true closes the port and resets connections meanwhile. The first window that
    /// matches applies; outside of all windows the faults given here do.
    #[arg(long, value_name = "FILE")]
    pub fault_script: Option<PathBuf>,
}

impl FaultArgs {
    fn faults(&self) -> Faults {
        let defaults = Faults::default();
        Faults {
            seed: self.fault_seed,
            calls_max: self.fault_calls_max,
            internal_error: self.internal_error,
            throttle_call: self.throttle_call,
            access_denied: self.access_denied,
            expired_token: self.expired_token,
            hang: self.hang,
            reset_before: self.reset_before,
            reset_after: self.reset_after,
            error_after: self.error_after,
            slow: self.slow,
            slow_ms: self.slow_ms,
            trickle: self.trickle,
            trickle_bytes_per_s: self.trickle_bytes_per_s,
            short_answer: self.short_answer,
            garbage_answer: self.garbage_answer,
            reject: self.reject.map(|Portion { k, n }| Reject {
                k,
                n,
                code: self.reject_code,
            }),
            failed_count_zero: self.failed_count_zero,
            drop_acked: self.drop_acked,
            ..defaults
        }
    }
}

/// Reads `K/N`.
fn portion(text: &str) -> Result<Portion, String> {
    let parse = || {
        let (k, n) = text.split_once('/')?;
        Some((k.parse().ok()?, n.parse().ok()?))
    };
    match parse() {
        Some((k, n)) if k <= n && n >= 1 => Ok(Portion { k, n }),
        _ => Err("expected K/N with K <= N and N >= 1, for instance 1/10".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_is_k_of_n() {
        assert_eq!(portion("1/10"), Ok(Portion { k: 1, n: 10 }));
        assert_eq!(portion("10/10"), Ok(Portion { k: 10, n: 10 }));
        for text in ["11/10", "0/0", "1", "1/", "-1/2", "a/b"] {
            assert!(portion(text).is_err(), "{text}");
        }
    }

    #[test]
    fn without_a_key_any_signature_is_accepted() {
        assert_eq!(signatures(""), Ok(Signatures::Present));
        let key = Key {
            id: "AKID".to_owned(),
            secret: "a:b/c".to_owned(),
        };
        assert_eq!(signatures("AKID:a:b/c"), Ok(Signatures::Verified(key)));
        for text in ["AKID", ":secret", "AKID:"] {
            assert!(signatures(text).is_err(), "{text}");
        }
    }
}
