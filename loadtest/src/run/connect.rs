//! How connections are made: to which address, with or without TLS, for how many requests.
//! Finds out before a run whether the target can be reached at all.

use super::RunError;
use super::target::Target;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Requests that may wait for their answers on one connection.
pub const PIPELINE_MAX: usize = 1_024;

/// Which addresses of a name are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressFamily {
    /// The first that takes a connection.
    #[default]
    Any,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

/// How connections are made and used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Requests after which a connection is closed, at least 1; without it connections are kept, and
    /// opened before the run. With it a connection is opened when a request is due that needs one,
    /// and opening it counts in that request's latency. The last request of each says `Connection: close`, so that the server
    /// closes first, as it does with clients in the field, and keeps the port's waiting time; a
    /// server that does not close is left.
    pub requests_per_connection: Option<u64>,
    /// Requests that may wait for their answers on one connection, 1 to [`PIPELINE_MAX`].
    pub pipeline: usize,
    /// Which addresses of the target's name are used.
    pub family: AddressFamily,
    /// File of certificates, in PEM, that a target with TLS is trusted by, instead of the system's.
    pub ca: Option<PathBuf>,
    /// Whether any certificate of the target is good enough.
    pub insecure: bool,
}

impl Default for ConnectOptions {
    /// Kept alive, one request at a time, trusting the system's certificates.
    fn default() -> ConnectOptions {
        ConnectOptions {
            requests_per_connection: None,
            pipeline: 1,
            family: AddressFamily::Any,
            ca: None,
            insecure: false,
        }
    }
}

/// Why connections cannot be made as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// An option for TLS, and a target without.
    #[error("{option} is for https:// targets, and {target} has no TLS")]
    NoTls {
        /// The option.
        option: &'static str,
        /// The target.
        target: String,
    },
    /// Two ways to verify a certificate.
    #[error("ca and insecure exclude each other: certificates are checked or they are not")]
    CaAndInsecure,
    /// The file has no certificate, or cannot be read.
    #[error("ca {}: {message}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// The cause.
        message: String,
    },
    /// TLS cannot be set up.
    #[error("TLS: {0}")]
    Tls(String),
}

impl ConnectOptions {
    fn check(&self, target: &Target) -> Result<(), ConnectError> {
        for (option, given) in [("ca", self.ca.is_some()), ("insecure", self.insecure)] {
            if given && !target.tls {
                return Err(ConnectError::NoTls {
                    option,
                    target: target.url(),
                });
            }
        }
        if self.insecure && self.ca.is_some() {
            return Err(ConnectError::CaAndInsecure);
        }
        Ok(())
    }
}

/// TLS parameters of every connection.
#[derive(Clone, Debug)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    pub(super) fn connection(&self) -> io::Result<ClientConnection> {
        ClientConnection::new(Arc::clone(&self.config), self.name.clone()).map_err(tls_error)
    }
}

/// Converts a TLS error to an I/O error.
pub(super) fn tls_error(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The other end of all connections of a run.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    /// `None` without TLS.
    pub(super) tls: Option<Tls>,
}

impl Peer {
    /// Checks the options and tries each address: the first that takes a connection, and shakes
    /// hands with TLS, is the peer.
    pub(super) fn reach(
        target: &Target,
        options: &ConnectOptions,
        timeout: Duration,
    ) -> Result<Peer, RunError> {
        options.check(target)?;
        let tls = match target.tls {
            true => Some(tls(target, options)?),
            false => None,
        };
        let authority = target.authority();
        let addresses = (target.host.as_str(), target.port).to_socket_addrs();
        let addresses = addresses.map_err(|source| RunError::Resolve {
            authority: authority.clone(),
            source,
        })?;
        let (wanted, missing): (fn(&SocketAddr) -> bool, _) = match options.family {
            AddressFamily::Any => (|_| true, "no address"),
            AddressFamily::V4 => (SocketAddr::is_ipv4, "no IPv4 address"),
            AddressFamily::V6 => (SocketAddr::is_ipv6, "no IPv6 address"),
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, missing);
        for address in addresses.filter(wanted) {
            let peer = Peer {
                address,
                tls: tls.clone(),
            };
            match peer.try_once(timeout) {
                Ok(()) => return Ok(peer),
                Err(error) => last = error,
            }
        }
        Err(RunError::Unreachable {
            authority,
            source: last,
        })
    }

    fn try_once(&self, timeout: Duration) -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.address, timeout)?;
        let Some(tls) = &self.tls else {
            return Ok(());
        };
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let mut connection = tls.connection()?;
        while connection.is_handshaking() {
            connection.complete_io(&mut stream)?;
        }
        Ok(())
    }
}

fn tls(target: &Target, options: &ConnectOptions) -> Result<Tls, ConnectError> {
    let wrong = |error: &dyn std::fmt::Display| ConnectError::Tls(error.to_string());
    let name = ServerName::try_from(target.host.clone()).map_err(|error| wrong(&error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    let mut config = if options.insecure {
        let verifier = Arc::new(NoVerifier(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth()
    } else {
        builder
            .with_root_certificates(roots(options)?)
            .with_no_client_auth()
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A run stands for many clients, and these have no session with the server yet.
    config.resumption = Resumption::disabled();
    Ok(Tls {
        config: Arc::new(config),
        name,
    })
}

fn roots(options: &ConnectOptions) -> Result<RootCertStore, ConnectError> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &options.ca else {
        // A system with one bad certificate among its own is still good for the others.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let wrong = |message: String| ConnectError::Ca {
        path: path.clone(),
        message,
    };
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| wrong(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("no certificate in it".to_owned()));
    }
    Ok(roots)
}

/// Accepts any certificate, but no wrong signature: the handshake keeps its full cost.
#[derive(Debug)]
struct NoVerifier(Arc<CryptoProvider>);

impl ServerCertVerifier for NoVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
