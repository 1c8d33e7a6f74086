//! Files of certificates: which are refused, and what happens when they change.

use super::support::{Authority, Files, connect, der, named};
use rcgen::KeyPair;
use sluice_core::time::Wall;
use sluice_proxy::net::tls::{ClientCertificates, FILE_BYTES_MAX, TlsError};
use sluice_proxy::runtime::clock;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

/// Why a listener with these files does not start.
fn refused(files: &Files) -> String {
    files.try_load().err().unwrap().to_string()
}

#[test]
fn an_expired_certificate_is_refused_with_its_file_and_dates() {
    let files = Files::one();
    files.put(0, &files.authority.sign(named("a"), &["a.example"], 2020));
    let shown = refused(&files);
    let file = files.path("0.crt");
    assert!(shown.starts_with(file.to_str().unwrap()), "{shown}");
    assert!(shown.contains("1609372800"), "{shown}");
    // 2020-12-30, when it was valid.
    let then = || Wall {
        secs: 1_609_286_400,
        nanos: 0,
    };
    let protocols = sluice_proxy::net::tls::Protocols::Http1;
    let tls = sluice_proxy::net::tls::Tls::load("main", &files.settings, protocols, then).unwrap();
    assert_eq!(tls.certificates()[0].not_after, 1_609_372_800);
    assert_eq!(tls.certificates()[0].names, ["a.example"]);
    assert_eq!(tls.certificates()[0].file, file);
}

#[test]
fn a_key_of_another_certificate_is_refused_with_both_files() {
    let files = Files::one();
    let key = KeyPair::generate().unwrap().serialize_pem();
    files.write("0.key", key);
    assert_eq!(
        files.try_load().err(),
        Some(TlsError::OtherKey {
            key: files.path("0.key"),
            certificate: files.path("0.crt"),
        })
    );
}

#[test]
fn broken_files_are_refused_by_name_and_never_quoted() {
    let intact = Files::one();
    let certificate = fs::read_to_string(intact.path("0.crt")).unwrap();
    let key = fs::read_to_string(intact.path("0.key")).unwrap();
    // The middle of the key's base64.
    let secret: String = key.lines().nth(1).unwrap().to_owned();
    // Lines that ran together: the library takes the key for the section's name, and would quote it.
    let joined = key.replace('\n', "");
    let unclosed = key.replace("PRIVATE KEY-----\n", "");
    let certificates = certificate.repeat(17);
    let damaged = certificate.replace("MII", "AAA");
    for (name, contents, expected) in [
        (
            "0.key",
            "",
            "no private key in PEM, or only an encrypted one",
        ),
        ("0.key", &*certificate, "no private key in PEM"),
        ("0.key", &joined, "has no end"),
        ("0.key", &unclosed, "begins with a broken line"),
        ("0.key", &key.replace("-----END", "----END"), "has no end"),
        (
            "0.key",
            &key.replace(&secret, &format!("?{secret}")),
            "is not base64",
        ),
        (
            "0.key",
            &key.replace(&secret, &secret[4..]),
            "broken or of an unknown kind",
        ),
        ("0.crt", "", "no certificate in PEM"),
        ("0.crt", &key, "no certificate in PEM"),
        ("0.crt", &damaged, "no X.509 certificate"),
        (
            "0.crt",
            &certificates,
            "it has 17 certificates, at most 16 are read",
        ),
    ] {
        let files = Files::one();
        files.write("0.crt", &certificate);
        files.write("0.key", &key);
        files.write(name, contents);
        let error = files.try_load().err().unwrap();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected), "{expected}: {shown}");
        assert!(
            error
                .to_string()
                .starts_with(files.path(name).to_str().unwrap()),
            "{shown}"
        );
        assert!(!shown.contains(&secret[8..24]), "{shown}");
    }
}

#[test]
fn a_missing_or_huge_file_is_refused_with_its_name_and_limit() {
    let files = Files::one();
    fs::remove_file(files.path("0.key")).unwrap();
    assert!(refused(&files).contains("0.key: No such file"));
    files.write("0.key", vec![b'a'; FILE_BYTES_MAX as usize + 7]);
    let shown = refused(&files);
    assert!(
        shown.contains("0.key: it has 524295 bytes, at most 524288 are read"),
        "{shown}"
    );
}

#[test]
fn a_client_ca_file_without_a_certificate_is_refused() {
    let mut files = Files::one();
    files.ask(ClientCertificates::Optional, &Authority::new("clients"));
    files.write("clients.pem", "none\n");
    let shown = refused(&files);
    assert!(
        shown.ends_with("clients.pem: it has no certificate in PEM"),
        "{shown}"
    );
}

#[test]
fn key_material_is_never_printed() {
    let mut files = Files::one();
    files.tickets(&[7]);
    let key = fs::read_to_string(files.path("0.key")).unwrap();
    let ticket = fs::read_to_string(files.path("tickets")).unwrap();
    let tls = files.load();
    let session = tls.accept().unwrap();
    let shown = format!(
        "{tls:?} {:?} {:?} {session:?}",
        files.settings,
        tls.config()
    );
    assert!(shown.contains("0.key"));
    for secret in [key.lines().nth(1).unwrap(), &ticket] {
        assert!(!shown.contains(&secret[..16]), "{shown}");
    }
    // Nor as a list of bytes.
    assert!(!shown.contains("7, 7, 7, 7"), "{shown}");
}

#[test]
fn a_changed_certificate_is_for_new_connections_and_ends_no_old_one() {
    let files = Files::one();
    let tls = files.load();
    let client = files.client().build();
    let mut old = connect(&tls, &client, "a.example").unwrap();
    let new = files.authority.server(&["a.example"]);
    files.put(0, &new);
    for _ in 0..3 {
        tls.maintain(clock::wall());
    }
    assert_eq!((tls.reloads().taken(), tls.reloads().refused()), (1, 0));
    let fresh = connect(&tls, &files.client().build(), "a.example").unwrap();
    assert_eq!(fresh.certificate(), der(&new));
    assert_ne!(old.certificate(), der(&new));
    assert_eq!(old.say(b"still here"), b"still here");
    assert_eq!(old.answer(b"yes"), b"yes");
}

/// Kubernetes swaps a link to a directory; files below it keep their times.
#[test]
fn a_swapped_directory_of_certificates_is_noticed() {
    let mut files = Files::one();
    let put = |dir: &str| {
        let pair = files.authority.server(&["a.example"]);
        let dir = files.path(dir);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("tls.crt"), &pair.certificate).unwrap();
        fs::write(dir.join("tls.key"), &pair.key).unwrap();
        pair
    };
    put("old");
    let new = put("new");
    symlink(files.path("old"), files.path("data")).unwrap();
    let path = |name: &str| files.path("data").join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("tls.crt"), path("tls.key"));
    files.settings.certificate_files = vec![certificate];
    files.settings.key_files = vec![key];
    let tls = files.load();
    symlink(files.path("new"), files.path("data.next")).unwrap();
    fs::rename(files.path("data.next"), files.path("data")).unwrap();
    tls.maintain(clock::wall());
    let connection = connect(&tls, &files.client().build(), "a.example").unwrap();
    assert_eq!(connection.certificate(), der(&new));
}

#[test]
fn a_broken_new_certificate_is_refused_once_and_the_old_stays() {
    let files = Files::one();
    let tls = files.load();
    let before = tls.certificates();
    let expired = files.authority.sign(named("a"), &["a.example"], 2020);
    files.put(0, &expired);
    for _ in 0..3 {
        tls.maintain(clock::wall());
    }
    assert_eq!((tls.reloads().taken(), tls.reloads().refused()), (0, 1));
    files.write("0.key", "not a key\n");
    tls.maintain(clock::wall());
    fs::remove_file(files.path("0.key")).unwrap();
    for _ in 0..3 {
        tls.maintain(clock::wall());
    }
    assert_eq!((tls.reloads().taken(), tls.reloads().refused()), (0, 3));
    assert_eq!(tls.certificates(), before);
    assert!(connect(&tls, &files.client().build(), "a.example").is_ok());
    // A good one is taken after all that.
    files.put(0, &files.authority.server(&["a.example"]));
    tls.maintain(clock::wall());
    assert_eq!((tls.reloads().taken(), tls.reloads().refused()), (1, 3));
}

#[test]
fn certificates_change_under_traffic_without_a_failed_handshake() {
    let files = Files::one();
    let tls = files.load();
    let is_over = AtomicBool::new(false);
    let handshakes = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let client = files.client().build();
                    let mut connection = connect(&tls, &client, "a.example").unwrap();
                    assert_eq!(connection.say(b"event"), b"event");
                    handshakes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=8 {
            files.put(0, &files.authority.server(&["a.example"]));
            tls.maintain(clock::wall());
            // Some handshakes with each.
            while handshakes.load(Ordering::Relaxed) < round * 4 {
                thread::yield_now();
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!((tls.reloads().taken(), tls.reloads().refused()), (8, 0));
}
