//! What can be wrong with files of TLS. No message shows their contents, which may be a private key.

use std::path::PathBuf;

/// A file that TLS cannot use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TlsError {
    /// It cannot be read.
    #[error("{}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// The system's error.
        reason: String,
    },
    /// It is over the limit.
    #[error("{}: it has {actual} bytes, at most {limit} are read", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Bytes that are read at most.
        limit: u64,
        /// Its bytes.
        actual: u64,
    },
    /// It is not PEM, or lacks what it should have.
    #[error("{}: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong, in our words: a library's might quote a line.
        reason: &'static str,
    },
    /// It has too many entries.
    #[error("{}: it has {actual} {what}, at most {limit} are read", file.display())]
    TooMany {
        /// The file.
        file: PathBuf,
        /// Which entries.
        what: &'static str,
        /// Entries at most.
        limit: usize,
        /// Entries in it.
        actual: usize,
    },
    /// A line is not a ticket key.
    #[error("{}:{line}: {reason}", file.display())]
    TicketKey {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// The library refuses a certificate or a key.
    #[error("{}: {source}", file.display())]
    Refused {
        /// The file.
        file: PathBuf,
        /// Its reason.
        source: rustls::Error,
    },
    /// Key and certificate do not belong together.
    #[error("{}: it is not the private key of {}", key.display(), certificate.display())]
    OtherKey {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The certificate is not valid now.
    #[error(
        "{}: the certificate is valid from {not_before} to {not_after}, it is {now} (unix seconds)",
        file.display()
    )]
    NotValidNow {
        /// The file.
        file: PathBuf,
        /// Unix seconds.
        not_before: i64,
        /// Unix seconds.
        not_after: i64,
        /// Unix seconds.
        now: i64,
    },
    /// The system gives no random numbers.
    #[error("no random numbers to be had for ticket keys")]
    NoRandom,
    /// The settings make no server.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
}
