//! The client of `sluice health`, which asks the proxy of its own host whether it answers.
//!
//! It checks no certificate: it says nothing that is secret, and a certificate that has expired is no reason to
//! replace the process. It shows none either, so a listener that requires one refuses it.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};
use std::io;
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

/// A connection within TLS; the handshake comes with the first bytes.
///
/// # Errors
/// The library makes no client.
pub(crate) fn connect(
    stream: TcpStream,
    host: IpAddr,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let client = ClientConnection::new(Arc::new(config), ServerName::IpAddress(host.into()));
    Ok(StreamOwned::new(client.map_err(io::Error::other)?, stream))
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Serves one connection, for tests: one read, one answer. Returns what was read.
#[cfg(test)]
pub(crate) fn answer_once(tls: &super::Tls, socket: TcpStream, answer: &[u8]) -> String {
    use std::io::{Read, Write};
    let connection = rustls::ServerConnection::new(tls.config()).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let mut request = [0; 256];
    let read = stream.read(&mut request).unwrap();
    stream.write_all(answer).unwrap();
    String::from_utf8(request[..read].to_vec()).unwrap()
}
