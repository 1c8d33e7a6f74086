//! Session tickets: who may bring which one back.

use super::support::{Authority, Files, TLS12, TLS13, connect, named};
use sluice_proxy::net::tls::{ClientCertificates, Protocols, Tls};
use sluice_proxy::runtime::clock;
use std::thread;

#[test]
fn a_session_resumes_at_another_worker() {
    let files = Files::one();
    let tls = files.load();
    for version in [TLS12, TLS13] {
        let client = files.client().version(version).build();
        thread::scope(|scope| {
            for expected in [false, true, true] {
                let worker = scope.spawn(|| {
                    let connection = connect(&tls, &client, "a.example").unwrap();
                    connection.session.is_resumed()
                });
                assert_eq!(worker.join().unwrap(), expected);
            }
        });
    }
}

#[test]
fn a_session_resumes_at_another_host_with_the_same_ticket_key_file() {
    let mut files = Files::one();
    let resumes = |first: &Tls, second: &Tls| {
        [TLS12, TLS13].map(|version| {
            let client = files.client().version(version).build();
            connect(first, &client, "a.example").unwrap();
            let connection = connect(second, &client, "a.example").unwrap();
            connection.session.is_resumed()
        })
    };
    // Without a file, each process has its own keys.
    assert_eq!(resumes(&files.load(), &files.load()), [false, false]);
    files.tickets(&[1]);
    let first = files.load();
    let resumes = |second: &Tls| {
        [TLS12, TLS13].map(|version| {
            let client = files.client().version(version).build();
            connect(&first, &client, "a.example").unwrap();
            let connection = connect(second, &client, "a.example").unwrap();
            connection.session.is_resumed()
        })
    };
    assert_eq!(resumes(&files.load()), [true, true]);
}

#[test]
fn a_rotated_ticket_key_file_still_resumes_old_sessions() {
    let mut files = Files::one();
    files.tickets(&[1]);
    let tls = files.load();
    let client = files.client().build();
    connect(&tls, &client, "a.example").unwrap();
    for (keys, expected) in [(&[2, 1][..], true), (&[2], true), (&[3], false)] {
        files.tickets(keys);
        tls.maintain(clock::wall());
        let connection = connect(&tls, &client, "a.example").unwrap();
        assert_eq!(connection.session.is_resumed(), expected, "{keys:?}");
    }
    assert_eq!((tls.reloads().taken(), tls.reloads().refused()), (3, 0));
}

#[test]
fn a_broken_ticket_key_file_is_refused_and_the_old_keys_stay() {
    let mut files = Files::one();
    files.tickets(&[1]);
    let tls = files.load();
    let client = files.client().build();
    connect(&tls, &client, "a.example").unwrap();
    files.write("tickets", "no key\n");
    for _ in 0..3 {
        tls.maintain(clock::wall());
    }
    assert_eq!((tls.reloads().taken(), tls.reloads().refused()), (0, 1));
    let connection = connect(&tls, &client, "a.example").unwrap();
    assert!(connection.session.is_resumed());
}

/// rustls asks a client that resumes for no certificate, so a ticket must be worth no more than its handshake was.
#[test]
fn a_ticket_opens_no_listener_that_checks_clients_otherwise() {
    let mut open = Files::one();
    open.tickets(&[1]);
    let clients = Authority::new("clients");
    let own = clients.sign(named("sdk-7"), &[], 2090);
    let open_tls = open.load();
    for version in [TLS12, TLS13] {
        let client = open.client().version(version).build();
        connect(&open_tls, &client, "a.example").unwrap();
        open.ask(ClientCertificates::Required, &clients);
        let guarded = open.load();
        assert!(connect(&guarded, &client, "a.example").is_err());

        // Nor one that trusts another authority.
        let client = open.client().version(version).shows(&own).build();
        connect(&guarded, &client, "a.example").unwrap();
        let again = connect(&guarded, &client, "a.example").unwrap();
        assert!(again.session.is_resumed());
        assert_eq!(again.session.client_subject(), Some("CN=sdk-7"));
        open.ask(ClientCertificates::Required, &Authority::new("others"));
        guarded.maintain(clock::wall());
        assert_eq!(guarded.reloads().taken(), 1);
        assert!(connect(&guarded, &client, "a.example").is_err());
    }
}

#[test]
fn a_session_resumes_after_the_certificate_changed() {
    let files = Files::one();
    let tls = files.load();
    let client = files.client().build();
    connect(&tls, &client, "a.example").unwrap();
    files.put(0, &files.authority.server(&["a.example"]));
    tls.maintain(clock::wall());
    assert_eq!(tls.reloads().taken(), 1);
    let connection = connect(&tls, &client, "a.example").unwrap();
    assert!(connection.session.is_resumed());
}

#[test]
fn early_data_is_never_offered() {
    let files = Files::one();
    let config = Tls::load("main", &files.settings, Protocols::Http1, clock::wall);
    assert_eq!(config.unwrap().config().max_early_data_size, 0);
}
