//! Clients' certificates: whom they name, and who gets in.

use super::support::{Authority, Files, Pair, TLS12, TLS13, connect, named};
use rcgen::{DistinguishedName, DnType};
use sluice_proxy::net::tls::{ClientCertificates, HandshakeError, SUBJECT_BYTES_MAX, SubjectError};

fn sdk() -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "Example, Inc");
    subject.push(DnType::CommonName, "sdk-7");
    subject
}

#[test]
fn a_client_certificate_names_its_subject_by_rfc_4514() {
    let mut files = Files::one();
    let clients = Authority::new("clients");
    let own = clients.sign(sdk(), &[], 2090);
    for mode in [ClientCertificates::Optional, ClientCertificates::Required] {
        files.ask(mode, &clients);
        for version in [TLS12, TLS13] {
            let client = files.client().version(version).shows(&own).build();
            let connection = connect(&files.load(), &client, "a.example").unwrap();
            let subject = connection.session.client_subject();
            assert_eq!(subject, Some("CN=sdk-7,O=Example\\, Inc"), "{mode}");
        }
    }
}

#[test]
fn a_missing_client_certificate_is_refused_where_required() {
    let mut files = Files::one();
    let clients = Authority::new("clients");
    let client = files.client().build();
    files.ask(ClientCertificates::Optional, &clients);
    let connection = connect(&files.load(), &client, "a.example").unwrap();
    assert_eq!(connection.session.client_subject(), None);
    files.ask(ClientCertificates::Required, &clients);
    for version in [TLS12, TLS13] {
        let client = files.client().version(version).build();
        let failed = connect(&files.load(), &client, "a.example").err().unwrap();
        let server = failed.server.unwrap();
        let refused = HandshakeError::Refused(rustls::Error::NoCertificatesPresented);
        assert_eq!(server.to_string(), refused.to_string());
    }
}

#[test]
fn a_client_certificate_of_another_authority_is_refused() {
    let mut files = Files::one();
    let strangers = Authority::new("strangers");
    let other: Pair = strangers.sign(sdk(), &[], 2090);
    let expired = |authority: &Authority| authority.sign(sdk(), &[], 2020);
    for mode in [ClientCertificates::Optional, ClientCertificates::Required] {
        let clients = Authority::new("clients");
        files.ask(mode, &clients);
        for own in [&other, &expired(&clients)] {
            let client = files.client().shows(own).build();
            let failed = connect(&files.load(), &client, "a.example").err().unwrap();
            assert!(
                matches!(failed.server, Some(HandshakeError::Refused(_))),
                "{failed:?}"
            );
        }
    }
}

#[test]
fn a_client_that_is_not_asked_shows_no_certificate() {
    let files = Files::one();
    let own = Authority::new("clients").sign(sdk(), &[], 2090);
    let client = files.client().shows(&own).build();
    let connection = connect(&files.load(), &client, "a.example").unwrap();
    assert_eq!(connection.session.client_subject(), None);
}

#[test]
fn a_long_client_subject_is_refused_with_its_limit() {
    let mut files = Files::one();
    let clients = Authority::new("clients");
    files.ask(ClientCertificates::Required, &clients);
    let connects = |bytes: usize| {
        let own = clients.sign(named(&"n".repeat(bytes - "CN=".len())), &[], 2090);
        connect(
            &files.load(),
            &files.client().shows(&own).build(),
            "a.example",
        )
    };
    assert!(connects(SUBJECT_BYTES_MAX).is_ok());
    let failed = connects(SUBJECT_BYTES_MAX + 1).err().unwrap();
    let expected = SubjectError::TooLong {
        limit: SUBJECT_BYTES_MAX,
        actual: SUBJECT_BYTES_MAX + 1,
    };
    match failed.server {
        Some(HandshakeError::Subject(error)) => assert_eq!(error, expected),
        other => panic!("{other:?}"),
    }
}
