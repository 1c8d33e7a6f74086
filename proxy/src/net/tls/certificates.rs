//! Certificates of a listener: read from PEM, checked, and chosen by the client's server name.

use super::error::TlsError;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sluice_core::time::Wall;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// A file of certificates or keys may have this many bytes.
pub const FILE_BYTES_MAX: u64 = 512 * 1024;

/// Certificates in one chain.
const CHAIN_MAX: usize = 16;

/// Authorities that clients' certificates are checked against.
const AUTHORITIES_MAX: usize = 256;

/// A file's path and bytes.
pub(super) struct Contents {
    pub(super) file: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Contents {
    pub(super) fn read(file: &Path) -> Result<Contents, TlsError> {
        let unreadable = |error: std::io::Error| TlsError::Unreadable {
            file: file.to_path_buf(),
            reason: error.to_string(),
        };
        let opened = File::open(file).map_err(unreadable)?;
        let length = opened.metadata().map_err(unreadable)?.len();
        let mut bytes = Vec::new();
        opened
            .take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(TlsError::TooLarge {
                file: file.to_path_buf(),
                limit: FILE_BYTES_MAX,
                actual: length.max(bytes.len() as u64),
            });
        }
        Ok(Contents {
            file: file.to_path_buf(),
            bytes,
        })
    }

    fn malformed(&self, reason: &'static str) -> TlsError {
        TlsError::Malformed {
            file: self.file.clone(),
            reason,
        }
    }

    fn refused(&self, source: rustls::Error) -> TlsError {
        TlsError::Refused {
            file: self.file.clone(),
            source,
        }
    }

    fn certificates(&self, limit: usize) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.bytes)
            .collect::<Result<_, _>>()
            .map_err(|error| self.malformed(pem_reason(&error)))?;
        match found.len() {
            0 => Err(self.malformed("it has no certificate in PEM")),
            actual if actual > limit => Err(TlsError::TooMany {
                file: self.file.clone(),
                what: "certificates",
                limit,
                actual,
            }),
            _ => Ok(found),
        }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            PemError::NoItemsFound => {
                self.malformed("it has no private key in PEM, or only an encrypted one")
            }
            error => self.malformed(pem_reason(&error)),
        })
    }
}

/// The library quotes lines, and those of a damaged file may be a key.
fn pem_reason(error: &PemError) -> &'static str {
    match error {
        PemError::MissingSectionEnd { .. } => "a section of the PEM has no end",
        PemError::IllegalSectionStart { .. } => "a section of the PEM begins with a broken line",
        PemError::Base64Decode(_) => "a section of the PEM is not base64",
        PemError::NoItemsFound => "it has nothing in PEM",
        _ => "it is not PEM",
    }
}

/// One certificate with its key.
struct Certificate {
    key: Arc<CertifiedKey>,
    info: CertificateInfo,
}

/// What metrics and logs may say of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateInfo {
    /// Its file.
    pub file: PathBuf,
    /// The DNS names that it is for, in lower case.
    pub names: Vec<String>,
    /// When it expires, in Unix seconds.
    pub not_after: i64,
}

/// A certificate that expires within this time is warned about.
const EXPIRY_WARNING_S: i64 = 14 * 24 * 3_600;

impl CertificateInfo {
    /// Seconds until it expires; below 0 once it has.
    #[must_use]
    pub fn seconds_left(&self, now: Wall) -> i64 {
        self.not_after.saturating_sub(unix(now))
    }

    /// Whether somebody should be told.
    #[must_use]
    pub fn expires_soon(&self, now: Wall) -> bool {
        self.seconds_left(now) < EXPIRY_WARNING_S
    }
}

/// The certificates of a listener.
pub(super) struct Certificates {
    all: Vec<Certificate>,
    /// Which certificates are for a name, in the order of the configuration. A wildcard is entered without its
    /// label: `.example.com`.
    by_name: HashMap<String, Vec<usize>>,
}

impl Certificates {
    /// Checks pairs of a chain and its key.
    pub(super) fn load(
        pairs: &[(Contents, Contents)],
        provider: &CryptoProvider,
        now: Wall,
    ) -> Result<Certificates, TlsError> {
        let mut all = Vec::with_capacity(pairs.len());
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, (chain, key)) in pairs.iter().enumerate() {
            let certificate = load_one(chain, key, provider, now)?;
            for name in &certificate.info.names {
                let name = name.strip_prefix('*').unwrap_or(name);
                by_name.entry(name.to_owned()).or_default().push(index);
            }
            all.push(certificate);
        }
        Ok(Certificates { all, by_name })
    }

    pub(super) fn infos(&self) -> impl Iterator<Item = &CertificateInfo> {
        self.all.iter().map(|certificate| &certificate.info)
    }

    /// The certificates for a name, best first: those that have it, those whose wildcard covers it, then all.
    fn candidates(&self, name: Option<&str>) -> Vec<usize> {
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let parent = name.find('.').and_then(|dot| name.get(dot..));
        let named = [Some(&*name), parent].into_iter().flatten();
        let named = named.filter_map(|name| self.by_name.get(name));
        named.flatten().copied().chain(0..self.all.len()).collect()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // The same name may have an ECDSA and an RSA certificate, and some clients know only one of them.
        let schemes = hello.signature_schemes();
        self.candidates(hello.server_name())
            .into_iter()
            .filter_map(|index| self.all.get(index))
            .find(|certificate| certificate.key.key.choose_scheme(schemes).is_some())
            .map(|certificate| Arc::clone(&certificate.key))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.infos()).finish()
    }
}

fn load_one(
    chain: &Contents,
    key: &Contents,
    provider: &CryptoProvider,
    now: Wall,
) -> Result<Certificate, TlsError> {
    let certificates = chain.certificates(CHAIN_MAX)?;
    let info = info(chain, &certificates, now)?;
    let private_key = key.private_key()?;
    let signer = provider
        .key_provider
        .load_private_key(private_key)
        // The reason of the library is about the key's form; ours names no byte of it.
        .map_err(|_| key.malformed("its private key is broken or of an unknown kind"))?;
    let certified = CertifiedKey::new(certificates, signer);
    match certified.keys_match() {
        Ok(()) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            return Err(TlsError::OtherKey {
                key: key.file.clone(),
                certificate: chain.file.clone(),
            });
        }
        Err(source) => return Err(chain.refused(source)),
    }
    Ok(Certificate {
        key: Arc::new(certified),
        info,
    })
}

/// Names and validity of a chain's first certificate.
fn info(
    chain: &Contents,
    certificates: &[CertificateDer<'_>],
    now: Wall,
) -> Result<CertificateInfo, TlsError> {
    let first = certificates.first().map_or(&[][..], AsRef::as_ref);
    let (_, parsed) = X509Certificate::from_der(first)
        .map_err(|_| chain.malformed("its first section is no X.509 certificate"))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| chain.malformed("its list of names is broken"))?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    let names = names.collect();
    let not_before = parsed.validity.not_before.timestamp();
    let not_after = parsed.validity.not_after.timestamp();
    let now = unix(now);
    if !(not_before..=not_after).contains(&now) {
        return Err(TlsError::NotValidNow {
            file: chain.file.clone(),
            not_before,
            not_after,
            now,
        });
    }
    Ok(CertificateInfo {
        file: chain.file.clone(),
        names,
        not_after,
    })
}

pub(super) fn unix(now: Wall) -> i64 {
    i64::try_from(now.secs).unwrap_or(i64::MAX)
}

/// The authorities of clients' certificates.
pub(super) fn authorities(contents: &Contents) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in contents.certificates(AUTHORITIES_MAX)? {
        roots
            .add(certificate)
            .map_err(|source| contents.refused(source))?;
    }
    Ok(roots)
}
