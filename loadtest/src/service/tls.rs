//! The TLS port of an emulator: a certificate of its own, made at the start, and h2 by ALPN.
//! Knows no service and no HTTP.

use super::EmulatorError;
use rcgen::{CertificateParams, DnType, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::TlsAcceptor;

/// Time that a handshake may take.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// Names in the certificate: how a service on loopback is reached, S3 buckets in the host included.
const NAMES: [&str; 4] = ["localhost", "*.localhost", "127.0.0.1", "::1"];

/// A second port with TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// File that gets the certificate in PEM, for clients to trust.
    pub certificate: Option<PathBuf>,
}

/// Key and certificate of the TLS port.
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    pub(super) certificate_pem: String,
}

impl Identity {
    /// Makes a key and a certificate, and writes the latter down.
    pub(super) fn make(tls: &Tls) -> Result<Identity, EmulatorError> {
        let failed = |error: &dyn std::fmt::Display| {
            EmulatorError::Start(io::Error::other(format!("TLS: {error}")))
        };
        let signing_key = KeyPair::generate().map_err(|error| failed(&error))?;
        let mut params =
            CertificateParams::new(NAMES.map(str::to_owned)).map_err(|error| failed(&error))?;
        // A unique name: among certificates of one name in a bundle OpenSSL takes the first.
        let name = format!("sluice-loadtest {:016x}", fastrand::u64(..));
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&signing_key);
        let certificate = certificate.map_err(|error| failed(&error))?;
        let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .map_err(|error| failed(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let certificate_pem = certificate.pem();
        if let Some(path) = &tls.certificate {
            std::fs::write(path, &certificate_pem).map_err(|source| EmulatorError::Io {
                path: path.clone(),
                source,
            })?;
        }
        Ok(Identity {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate_pem,
        })
    }
}
