//! Settings of TLS, the same for every listener.

use sluice_sinks::settings::{Given, Reader, file, ms, number, texts, word};
use sluice_sinks::{keyword_enum, settings};
use std::path::PathBuf;
use std::time::Duration;

/// Certificates of a listener at most.
pub const CERTIFICATES_MAX: usize = 16;

settings! {
    /// TLS of one listener; without a certificate there is none.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct TlsSettings from (reader) {
        /// Certificates in PEM, each file with those that signed it; with any, the listener speaks TLS. The client's server name (SNI) decides between them; the first is for clients without one, or with an unknown one. This file, and the others of TLS, are read again when they change, without a restart.
        certificate_files as "tls_certificate_files": Vec<String> = Vec::new(),
            texts("files", CERTIFICATES_MAX, "a file in UTF-8", |path| !path.is_empty())
                .default_is("none: no TLS");
        /// The private keys of `tls_certificate_files`, in the same order; PEM, not encrypted.
        key_files as "tls_key_files": Vec<String> = Vec::new(),
            texts("files", CERTIFICATES_MAX, "a file in UTF-8", |path| !path.is_empty())
                .default_is("none");
        /// The oldest version of TLS that is spoken.
        min_version as "tls_min_version": TlsVersion = TlsVersion::Tls12,
            word::<TlsVersion>().default_is("`1.2`");
        /// A handshake that takes longer is given up.
        handshake_deadline as "tls_handshake_deadline_ms": Duration = Duration::from_secs(10),
            ms(100, 60_000).default_is("`10000`");
        /// Handshakes under way in each worker; with one more, the one that has been under way for the longest is given up.
        handshakes_max as "tls_handshakes_max": usize = 1_024,
            number("handshakes", 1, 65_536).default_is("`1024`");
        /// Keys of session tickets, for hosts that resume each other's sessions: lines of base64, 32 to 64 random bytes each, the newest first.
        ticket_key_file as "tls_ticket_key_file": Option<PathBuf> = None,
            file().default_is("keys of this process alone");
        /// Whether clients show a certificate.
        client_certificates as "tls_client_certificates": ClientCertificates = ClientCertificates::Off,
            word::<ClientCertificates>().default_is("`off`");
        /// The authorities in PEM that clients' certificates are checked against.
        client_ca_file as "tls_client_ca_file": Option<PathBuf> = None, file();
    }
}

impl Default for TlsSettings {
    fn default() -> TlsSettings {
        TlsSettings::read(&mut Reader::default())
    }
}

impl TlsSettings {
    /// Whether the listener speaks TLS.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.certificate_files.is_empty()
    }

    /// Checks the settings against each other.
    pub fn check(&self, reader: &mut Reader) {
        let certificates = "tls_certificate_files";
        if !self.is_on() && reader.is_written("tls_key_files") {
            reader.missing(certificates, "private keys need their certificates");
            return;
        }
        let others: Vec<&str> = Self::SETTINGS
            .iter()
            .map(|setting| setting.key)
            .filter(|key| *key != certificates)
            .collect();
        reader.only_if(self.is_on(), &others, certificates, "empty");
        if !self.is_on() {
            return;
        }
        if self.certificate_files.len() != self.key_files.len() {
            reader.contradiction(
                Given::new(reader.path("tls_key_files"), counted(&self.key_files)),
                "as many as",
                Given::new(reader.path(certificates), counted(&self.certificate_files)),
                "each certificate has its own private key",
            );
        }
        let asks = self.client_certificates != ClientCertificates::Off;
        reader.only_if(
            asks,
            &["tls_client_ca_file"],
            "tls_client_certificates",
            self.client_certificates.word(),
        );
        if asks && self.client_ca_file.is_none() && !reader.is_written("tls_client_ca_file") {
            reader.missing(
                "tls_client_ca_file",
                "clients' certificates are checked against it",
            );
        }
    }
}

/// A list of files as a contradiction shows it.
pub(crate) fn counted(files: &[String]) -> String {
    match files.len() {
        0 => "empty".to_owned(),
        1 => "1 file".to_owned(),
        count => format!("{count} files"),
    }
}

keyword_enum! {
    /// A version of TLS.
    TlsVersion, "one of 1.2, 1.3" {
        /// RFC 5246.
        Tls12 = "1.2",
        /// RFC 8446.
        Tls13 = "1.3",
    }
}

keyword_enum! {
    /// Whether clients show a certificate.
    ClientCertificates, "one of off, optional, required" {
        /// They are not asked for one.
        Off = "off",
        /// They are asked; a wrong one is refused, none is fine.
        Optional = "optional",
        /// A client without a valid one is refused.
        Required = "required",
    }
}
