//! TLS of a listener: certificates, ticket keys and client authorities from files, read again when they change.
//! [`TlsSession`] is that of one connection.
//!
//! ```text
//!  start      Tls::load(name, &settings, protocols, wall)     refuses broken files by name
//!  worker     tls.accept() -> TlsSession                      once per connection; see its module
//!  one thread tls.maintain(wall())                            every few seconds: reload, rotation, warnings
//!  metrics    tls.certificates(), tls.reloads()
//! ```
//!
//! A session keeps the configuration it began with, so a reload ends none. A broken new file is refused with
//! its reason, and the old contents stay in force. The bound on handshakes and their deadline are the worker's.
//!
//! There is no early data (0-RTT): it can be replayed, and a replayed event is a duplicate.

mod certificates;
mod error;
pub(crate) mod probe;
mod session;
mod settings;
mod subject;
mod tickets;

pub use certificates::{CertificateInfo, FILE_BYTES_MAX};
pub use error::TlsError;
pub use session::{HandshakeError, Socket, TlsSession, UNSENT_BYTES_MAX, is_plain_http};
pub(crate) use settings::counted;
pub use settings::{CERTIFICATES_MAX, ClientCertificates, TlsSettings, TlsVersion};
pub use subject::{SUBJECT_BYTES_MAX, SubjectError};
pub use tickets::KEYS_MAX;

use crate::reloads::Reloads;
use aws_lc_rs::digest::{SHA256, digest};
use certificates::{Certificates, Contents};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier};
use sluice_core::time::Wall;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tickets::{TicketKeys, Tickets};
use tracing::{info, warn};

/// At most one warning about expiry in this time.
const WARN_EVERY_S: u64 = 24 * 3_600;

/// Which protocols a listener offers after TLS, by ALPN. A client that asks for others only is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// `http/1.1`.
    Http1,
    /// `h2`, then `http/1.1`.
    Http2AndHttp1,
}

impl Protocols {
    fn alpn(self) -> Vec<Vec<u8>> {
        let names: &[&[u8]] = match self {
            Protocols::Http1 => &[b"http/1.1"],
            Protocols::Http2AndHttp1 => &[b"h2", b"http/1.1"],
        };
        names.iter().map(|name| name.to_vec()).collect()
    }
}

/// TLS of one listener, shared by all workers.
pub struct Tls {
    /// The listener, for logs.
    name: String,
    settings: TlsSettings,
    protocols: Protocols,
    ticket_keys: Arc<TicketKeys>,
    wall: fn() -> Wall,
    current: RwLock<Current>,
    watch: Mutex<Watch>,
    reloads: Reloads,
}

/// What new connections begin with.
struct Current {
    config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

/// What was last seen in the files.
struct Watch {
    certificates: Seen,
    ticket_keys: Option<Seen>,
    warned_of_expiry: Option<u64>,
}

type Digest = [u8; 32];

/// Contents that were looked at, so that the same are not loaded, nor refused, twice.
struct Seen(Result<Digest, TlsError>);

impl Seen {
    /// Whether the contents are others than those seen last; remembers them.
    fn is_new(&mut self, found: Result<Digest, TlsError>) -> bool {
        let is_new = self.0 != found;
        self.0 = found;
        is_new
    }
}

/// Files of certificates, keys and authorities, as bytes.
struct Files {
    pairs: Vec<(Contents, Contents)>,
    client_ca: Option<Contents>,
}

impl Files {
    fn read(settings: &TlsSettings) -> Result<Files, TlsError> {
        let files = settings.certificate_files.iter().zip(&settings.key_files);
        let pairs = files.map(|(certificate, key)| {
            let certificate = Contents::read(Path::new(certificate))?;
            Ok((certificate, Contents::read(Path::new(key))?))
        });
        let client_ca = settings.client_ca_file.as_deref().map(Contents::read);
        Ok(Files {
            pairs: pairs.collect::<Result<_, TlsError>>()?,
            client_ca: client_ca.transpose()?,
        })
    }

    /// Tells contents apart. The files' times would not: a secret's directory is swapped as a whole, and two
    /// writes may fall into one tick.
    fn digest(&self) -> Digest {
        let pairs = self.pairs.iter().flat_map(|(chain, key)| [chain, key]);
        digest_of(
            pairs
                .chain(&self.client_ca)
                .map(|contents| &contents.bytes[..]),
        )
    }
}

fn digest_of<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Digest {
    let each: Vec<u8> = parts.flat_map(sha256).collect();
    sha256(&each)
}

fn sha256(bytes: &[u8]) -> Digest {
    let mut whole = [0; 32];
    whole.copy_from_slice(digest(&SHA256, bytes).as_ref());
    whole
}

impl Tls {
    /// Reads and checks the files. `name` is the listener's, `wall` the clock for the age of tickets.
    ///
    /// # Errors
    /// A file is missing, broken or too large, a key does not belong to its certificate, or a certificate is
    /// not valid now.
    pub fn load(
        name: &str,
        settings: &TlsSettings,
        protocols: Protocols,
        wall: fn() -> Wall,
    ) -> Result<Tls, TlsError> {
        let now = wall();
        let files = Files::read(settings)?;
        let ticket_file = settings.ticket_key_file.as_deref();
        let ticket_file = ticket_file.map(Contents::read).transpose()?;
        let ticket_keys = Arc::new(match &ticket_file {
            Some(contents) => TicketKeys::of_file(contents)?,
            None => TicketKeys::random(now)?,
        });
        let watch = Watch {
            certificates: Seen(Ok(files.digest())),
            ticket_keys: ticket_file.map(|contents| Seen(Ok(sha256(&contents.bytes)))),
            warned_of_expiry: None,
        };
        let current = build(settings, protocols, &files, &ticket_keys, wall)?;
        Ok(Tls {
            name: name.to_owned(),
            settings: settings.clone(),
            protocols,
            ticket_keys,
            wall,
            current: RwLock::new(current),
            watch: Mutex::new(watch),
            reloads: Reloads::default(),
        })
    }

    /// A session for a new connection.
    ///
    /// # Errors
    /// The library makes none.
    pub fn accept(&self) -> Result<TlsSession, rustls::Error> {
        TlsSession::new(self.config())
    }

    /// The configuration of new connections.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current.config)
    }

    /// The certificates in force.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateInfo> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.certificates.infos().cloned().collect()
    }

    /// Changes of files.
    #[must_use]
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Takes changed files, makes new random ticket keys when it is time, and warns of certificates that expire
    /// soon. Reads the files, a few KiB; call it every few seconds, from one thread that may wait for a disk.
    pub fn maintain(&self, now: Wall) {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload_certificates(&mut watch.certificates);
        if let Some(seen) = &mut watch.ticket_keys {
            self.reload_ticket_keys(seen);
        }
        if let Err(error) = self.ticket_keys.rotate(now) {
            warn!(listener = self.name, %error, "ticket keys were not rotated");
        }
        for certificate in self.expiring(&mut watch.warned_of_expiry, now) {
            warn!(
                listener = self.name,
                file = %certificate.file.display(),
                hours_left = certificate.seconds_left(now) / 3_600,
                "a certificate expires soon"
            );
        }
    }

    fn reload_certificates(&self, seen: &mut Seen) {
        let files = Files::read(&self.settings);
        let found = files.as_ref().map(Files::digest).map_err(Clone::clone);
        if !seen.is_new(found) {
            return;
        }
        let built = files.and_then(|files| {
            build(
                &self.settings,
                self.protocols,
                &files,
                &self.ticket_keys,
                self.wall,
            )
        });
        let taken = built.map(|new| {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        });
        self.note("certificates", taken);
    }

    fn reload_ticket_keys(&self, seen: &mut Seen) {
        let Some(file) = self.settings.ticket_key_file.as_deref() else {
            return;
        };
        let contents = Contents::read(file);
        let found = contents.as_ref().map(|contents| sha256(&contents.bytes));
        if seen.is_new(found.map_err(Clone::clone)) {
            let taken = contents.and_then(|contents| self.ticket_keys.reload(&contents));
            self.note("ticket keys", taken);
        }
    }

    fn note(&self, what: &'static str, taken: Result<(), TlsError>) {
        match taken {
            Ok(()) => {
                self.reloads.take();
                info!(listener = self.name, what, "changed files are in force");
            }
            Err(error) => {
                self.reloads.refuse();
                warn!(listener = self.name, what, %error, "changed files are refused, the old contents stay in force");
            }
        }
    }

    /// The certificates to warn of now.
    fn expiring(&self, warned: &mut Option<u64>, now: Wall) -> Vec<CertificateInfo> {
        if warned.is_some_and(|at| now.secs.saturating_sub(at) < WARN_EVERY_S) {
            return Vec::new();
        }
        let mut found = self.certificates();
        found.retain(|certificate| certificate.expires_soon(now));
        if !found.is_empty() {
            *warned = Some(now.secs);
        }
        found
    }
}

/// File names and counts; no key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .field("certificates", &self.certificates())
            .finish_non_exhaustive()
    }
}

fn build(
    settings: &TlsSettings,
    protocols: Protocols,
    files: &Files,
    ticket_keys: &Arc<TicketKeys>,
    wall: fn() -> Wall,
) -> Result<Current, TlsError> {
    let provider = Arc::new(provider::default_provider());
    let certificates = Arc::new(Certificates::load(&files.pairs, &provider, wall())?);
    let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let verifier = verifier(settings, files, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(&certificates) as _);
    config.alpn_protocols = protocols.alpn();
    // Tickets carry the state: a worker, or a host, keeps none of a client that has gone.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let context = ticket_context(settings, files);
    config.ticketer = Arc::new(Tickets::new(Arc::clone(ticket_keys), context, wall));
    Ok(Current {
        config: Arc::new(config),
        certificates,
    })
}

/// The way clients are checked: whether they show a certificate, and to which authorities.
fn ticket_context(settings: &TlsSettings, files: &Files) -> Vec<u8> {
    let word = settings.client_certificates.word().as_bytes();
    let authorities = files.client_ca.as_ref();
    let authorities = authorities.map(|contents| &contents.bytes[..]);
    digest_of([word].into_iter().chain(authorities)).to_vec()
}

fn verifier(
    settings: &TlsSettings,
    files: &Files,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let (Some(contents), true) = (
        &files.client_ca,
        settings.client_certificates != ClientCertificates::Off,
    ) else {
        return Ok(Arc::new(NoClientAuth));
    };
    let roots = Arc::new(certificates::authorities(contents)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = match settings.client_certificates {
        ClientCertificates::Optional => builder.allow_unauthenticated(),
        ClientCertificates::Off | ClientCertificates::Required => builder,
    };
    builder.build().map_err(|error| TlsError::Refused {
        file: contents.file.clone(),
        source: rustls::Error::General(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiring_certificate_is_warned_of_once_a_day() {
        let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, contents: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, contents).unwrap();
            vec![path.to_str().unwrap().to_owned()]
        };
        let settings = TlsSettings {
            certificate_files: file("crt", params.self_signed(&key).unwrap().pem()),
            key_files: file("key", key.serialize_pem()),
            ..TlsSettings::default()
        };
        let tls = Tls::load(
            "main",
            &settings,
            Protocols::Http1,
            crate::runtime::clock::wall,
        )
        .unwrap();
        let end = u64::try_from(tls.certificates()[0].not_after).unwrap();
        let day = 24 * 3_600;
        let mut warned = None;
        let mut warns = |before_end: u64| {
            let secs = end - before_end;
            !tls.expiring(&mut warned, Wall { secs, nanos: 0 })
                .is_empty()
        };
        assert!(!warns(15 * day) && !warns(14 * day));
        assert!(warns(14 * day - 1));
        assert!(!warns(13 * day));
        assert!(warns(13 * day - 1));
        assert!(!warns(13 * day - 5));
        // Also after the end.
        assert!(warns(0));
    }
}
