//! An authority, files, and a client that is connected to a session through memory.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use sluice_proxy::net::tls::{
    ClientCertificates, HandshakeError, Protocols, Socket, Tls, TlsError, TlsSession, TlsSettings,
};
use sluice_proxy::runtime::clock;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tempfile::TempDir;

pub(crate) const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
pub(crate) const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

/// A certificate and its key, in PEM.
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// What signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate whose subject is `subject`, for these DNS names, that expires with this year.
    pub(crate) fn sign(&self, subject: DistinguishedName, names: &[&str], last_year: i32) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = subject;
        params.not_before = date_time_ymd(last_year.min(2024) - 1, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn server(&self, names: &[&str]) -> Pair {
        self.sign(named(names[0]), names, 2090)
    }
}

pub(crate) fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// Files of a listener.
pub(crate) struct Files {
    pub(crate) dir: TempDir,
    pub(crate) authority: Authority,
    pub(crate) settings: TlsSettings,
}

impl Files {
    /// One certificate for each list of names.
    pub(crate) fn new(certificates: &[&[&str]]) -> Files {
        let mut files = Files {
            dir: tempfile::tempdir().unwrap(),
            authority: Authority::new("servers"),
            settings: TlsSettings::default(),
        };
        for (index, names) in certificates.iter().enumerate() {
            let pair = files.authority.server(names);
            files.put(index, &pair);
            let path = |suffix: &str| files.text_path(&format!("{index}.{suffix}"));
            let (certificate, key) = (path("crt"), path("key"));
            files.settings.certificate_files.push(certificate);
            files.settings.key_files.push(key);
        }
        files
    }

    /// One certificate for `a.example`.
    pub(crate) fn one() -> Files {
        Files::new(&[&["a.example"]])
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text_path(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        fs::write(self.path(name), contents).unwrap();
        self.path(name)
    }

    /// Writes the files of one certificate.
    pub(crate) fn put(&self, index: usize, pair: &Pair) {
        self.write(&format!("{index}.crt"), &pair.certificate);
        self.write(&format!("{index}.key"), &pair.key);
    }

    /// Asks clients for certificates of this authority.
    pub(crate) fn ask(&mut self, mode: ClientCertificates, authority: &Authority) {
        self.settings.client_certificates = mode;
        self.settings.client_ca_file = Some(self.write("clients.pem", authority.pem()));
    }

    /// Uses a file of ticket keys, each made of one byte's value.
    pub(crate) fn tickets(&mut self, keys: &[u8]) {
        let line = |byte: &u8| base64_simd::STANDARD.encode_to_string([*byte; 48]);
        let lines: Vec<String> = keys.iter().map(line).collect();
        self.settings.ticket_key_file = Some(self.write("tickets", lines.join("\n")));
    }

    pub(crate) fn try_load(&self) -> Result<Tls, TlsError> {
        Tls::load(
            "main",
            &self.settings,
            Protocols::Http2AndHttp1,
            clock::wall,
        )
    }

    pub(crate) fn load(&self) -> Tls {
        self.try_load().unwrap()
    }

    pub(crate) fn client(&self) -> ClientBuilder {
        ClientBuilder {
            roots: roots(&self.authority),
            versions: vec![TLS13, TLS12],
            alpn: Vec::new(),
            own: None,
        }
    }
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.0.der().clone()).unwrap();
    roots
}

/// A client's configuration in the making.
pub(crate) struct ClientBuilder {
    roots: RootCertStore,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl ClientBuilder {
    pub(crate) fn version(mut self, version: &'static SupportedProtocolVersion) -> ClientBuilder {
        self.versions = vec![version];
        self
    }

    pub(crate) fn alpn(mut self, names: &[&str]) -> ClientBuilder {
        self.alpn = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    pub(crate) fn shows(mut self, pair: &Pair) -> ClientBuilder {
        let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        self.own = Some((vec![certificate], key));
        self
    }

    /// Sessions of clones of the result resume each other.
    pub(crate) fn build(self) -> Arc<ClientConfig> {
        let provider = Arc::new(default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(
            Arc::new(self.roots),
            Arc::clone(&provider),
        );
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_webpki_verifier(verifier.build().unwrap());
        let mut config = match self.own {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn;
        Arc::new(config)
    }
}

/// Both directions of a connection, as the server's socket.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) to_server: RefCell<VecDeque<u8>>,
    pub(crate) to_client: RefCell<VecDeque<u8>>,
    /// The client sends no more.
    pub(crate) has_ended: Cell<bool>,
    /// The server sends no more.
    pub(crate) was_shut_down: Cell<bool>,
    /// Bytes that the kernel does not take any more; `None` is without bound.
    pub(crate) room: Cell<Option<usize>>,
}

impl Socket for Wire {
    fn poll_read(&self, _: &Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut waiting = self.to_server.borrow_mut();
        match waiting.is_empty() && !self.has_ended.get() {
            true => Poll::Pending,
            false => Poll::Ready(waiting.read(buffer)),
        }
    }

    fn poll_write(&self, _: &Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let taken = self.room.get().unwrap_or(usize::MAX).min(bytes.len());
        if taken == 0 {
            return Poll::Pending;
        }
        self.room.set(self.room.get().map(|room| room - taken));
        self.to_client.borrow_mut().extend(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn shutdown(&self) -> io::Result<()> {
        self.was_shut_down.set(true);
        Ok(())
    }
}

/// A client and its session.
pub(crate) struct Connection {
    pub(crate) client: ClientConnection,
    pub(crate) session: TlsSession,
    pub(crate) wire: Wire,
}

/// Why a handshake failed, on each side.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) server: Option<HandshakeError>,
    pub(crate) client: Option<rustls::Error>,
}

/// A context that wakes nobody.
pub(crate) fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

pub(crate) fn connect(
    tls: &Tls,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<Connection, Box<Failed>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut connection = Connection {
        client: ClientConnection::new(Arc::clone(client), name).unwrap(),
        session: tls.accept().unwrap(),
        wire: Wire::default(),
    };
    connection.shake_hands()?;
    Ok(connection)
}

impl Connection {
    pub(crate) fn shake_hands(&mut self) -> Result<(), Box<Failed>> {
        let mut failed = Box::new(Failed {
            server: None,
            client: None,
        });
        // Far more turns than a handshake has flights.
        for _ in 0..16 {
            self.client_sends();
            let done = match self.session.poll_handshake(&cx(), &self.wire) {
                Poll::Ready(Err(error)) => {
                    failed.server = Some(error);
                    false
                }
                poll => poll.is_ready(),
            };
            if let Err(error) = self.client_receives() {
                failed.client = Some(error);
            }
            if failed.server.is_some() || failed.client.is_some() {
                return Err(failed);
            }
            if done && !self.client.is_handshaking() {
                return Ok(());
            }
        }
        Err(failed)
    }

    pub(crate) fn client_sends(&mut self) {
        while self.client.wants_write() {
            let mut waiting = self.wire.to_server.borrow_mut();
            self.client.write_tls(&mut *waiting).unwrap();
        }
    }

    pub(crate) fn client_receives(&mut self) -> Result<(), rustls::Error> {
        let mut waiting = self.wire.to_client.borrow_mut();
        while !waiting.is_empty() {
            self.client.read_tls(&mut *waiting).unwrap();
            self.client.process_new_packets()?;
        }
        Ok(())
    }

    /// Sends bytes to the session and reads them there.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.client.writer().write_all(bytes).unwrap();
        self.client_sends();
        let mut heard = vec![0; bytes.len() + 1];
        match self.session.poll_read(&cx(), &self.wire, &mut heard) {
            Poll::Ready(Ok(read)) => heard.truncate(read),
            other => panic!("{other:?}"),
        }
        heard
    }

    /// Writes bytes to the session and reads them at the client.
    pub(crate) fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.session.poll_write(&cx(), &self.wire, bytes) {
            Poll::Ready(Ok(taken)) => assert_eq!(taken, bytes.len()),
            other => panic!("{other:?}"),
        }
        self.client_receives().unwrap();
        let mut heard = vec![0; bytes.len()];
        self.client.reader().read_exact(&mut heard).unwrap();
        heard
    }

    /// The names of the certificate that the client got.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.client.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }
}

/// The certificate of a pair, as a client gets it.
pub(crate) fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()
}
