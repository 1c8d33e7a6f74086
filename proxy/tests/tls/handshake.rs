//! What a handshake comes to: version, certificate, protocol; and how it fails.

use super::support::{Authority, Connection, Files, TLS12, TLS13, Wire, connect, cx, der};
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, ClientConfig};
use sluice_proxy::net::tls::{HandshakeError, Protocols, Tls, TlsVersion, is_plain_http};
use sluice_proxy::runtime::clock;
use std::fs;
use std::sync::Arc;
use std::task::Poll;

#[test]
fn both_tls_versions_are_spoken_unless_the_older_is_off() {
    let mut files = Files::one();
    for version in [TLS12, TLS13] {
        let client = files.client().version(version).build();
        let mut connection = connect(&files.load(), &client, "a.example").unwrap();
        let expected = if version == TLS12 { "1.2" } else { "1.3" };
        assert_eq!(connection.session.version(), Some(expected));
        assert_eq!(connection.say(b"question"), b"question");
        assert_eq!(connection.answer(b"answer"), b"answer");
    }
    files.settings.min_version = TlsVersion::Tls13;
    let client = |version| files.client().version(version).build();
    assert!(connect(&files.load(), &client(TLS13), "a.example").is_ok());
    let failed = connect(&files.load(), &client(TLS12), "a.example")
        .err()
        .unwrap();
    assert!(
        matches!(failed.server, Some(HandshakeError::Refused(_))),
        "{failed:?}"
    );
    // The client learns why.
    let alert = rustls::Error::AlertReceived(AlertDescription::ProtocolVersion);
    assert_eq!(failed.client, Some(alert));
}

fn certificate_for(tls: &Tls, client: &Arc<ClientConfig>, name: &str) -> CertificateDer<'static> {
    match connect(tls, client, name) {
        Ok(connection) => connection.certificate(),
        Err(failed) => panic!("{name}: {failed:?}"),
    }
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let files = Files::new(&[
        &["a.example"],
        &["*.b.example", "b.example"],
        &["one.b.example"],
    ]);
    let tls = files.load();
    let read = |index: usize| {
        let file = &files.settings.certificate_files[index];
        let certificate = fs::read_to_string(file).unwrap();
        let key = String::new();
        der(&super::support::Pair { certificate, key })
    };
    let client = files.client().build();
    for (name, index) in [
        ("a.example", 0),
        ("b.example", 1),
        ("two.b.example", 1),
        ("TWO.b.example", 1),
        // An exact name wins over a wildcard.
        ("one.b.example", 2),
    ] {
        assert_eq!(certificate_for(&tls, &client, name), read(index), "{name}");
    }
    // Unknown names, a second label under a wildcard and no name at all get the first one, which the client refuses.
    for name in ["c.example", "a.b.b.example", "127.0.0.1"] {
        let failed = connect(&tls, &client, name).err().unwrap();
        let shown = format!("{:?}", failed.client.unwrap());
        assert!(
            shown.contains("NotValidForName") && shown.contains("a.example"),
            "{shown}"
        );
    }
}

#[test]
fn the_server_name_is_told() {
    let files = Files::one();
    let client = files.client().build();
    let connection = connect(&files.load(), &client, "a.example").unwrap();
    assert_eq!(connection.session.server_name(), Some("a.example"));
}

#[test]
fn alpn_prefers_http2_where_it_is_on() {
    let files = Files::one();
    let agreed = |protocols, offered: &[&str]| {
        let tls = Tls::load("main", &files.settings, protocols, clock::wall).unwrap();
        let client = files.client().alpn(offered).build();
        connect(&tls, &client, "a.example")
            .map(|connection| connection.session.alpn().map(<[u8]>::to_vec))
    };
    let both = Protocols::Http2AndHttp1;
    for (protocols, offered, expected) in [
        (both, &["http/1.1", "h2"][..], Some("h2")),
        (both, &["http/1.1"], Some("http/1.1")),
        (both, &[], None),
        (Protocols::Http1, &["h2", "http/1.1"], Some("http/1.1")),
    ] {
        let expected = expected.map(|name| name.as_bytes().to_vec());
        assert_eq!(agreed(protocols, offered).unwrap(), expected, "{offered:?}");
    }
    let failed = agreed(Protocols::Http1, &["h2"]).err().unwrap();
    let alert = rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol);
    assert_eq!(failed.client, Some(alert));
}

/// A session that got these bytes.
fn after(bytes: &[u8], has_ended: bool) -> (Poll<Result<(), HandshakeError>>, Wire) {
    let mut session = Files::one().load().accept().unwrap();
    let wire = Wire::default();
    wire.to_server.borrow_mut().extend(bytes);
    wire.has_ended.set(has_ended);
    (session.poll_handshake(&cx(), &wire), wire)
}

#[test]
fn plain_http_on_a_tls_port_is_told_apart_and_unanswered() {
    for bytes in [
        &b"G"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"post /",
        b"PRI * HTTP/2.0\r\n",
    ] {
        assert!(is_plain_http(bytes));
        let (poll, wire) = after(bytes, false);
        assert!(
            matches!(poll, Poll::Ready(Err(HandshakeError::PlainHttp))),
            "{poll:?}"
        );
        assert!(wire.to_client.borrow().is_empty());
    }
    for bytes in [&b"\x16\x03\x01"[..], b"\x80G", b"\r\n", b"", b"\0"] {
        assert!(!is_plain_http(bytes));
        let (poll, _) = after(bytes, false);
        assert!(
            !matches!(poll, Poll::Ready(Err(HandshakeError::PlainHttp))),
            "{poll:?}"
        );
    }
}

#[test]
fn bytes_that_are_not_tls_are_refused() {
    let (poll, _) = after(&[0; 64], false);
    assert!(
        matches!(poll, Poll::Ready(Err(HandshakeError::Refused(_)))),
        "{poll:?}"
    );
}

#[test]
fn a_half_sent_client_hello_waits_and_its_end_is_told() {
    let files = Files::one();
    let tls = files.load();
    let client = files.client().build();
    let hello = {
        let mut connection = Connection {
            client: rustls::ClientConnection::new(client, "a.example".try_into().unwrap()).unwrap(),
            session: tls.accept().unwrap(),
            wire: Wire::default(),
        };
        connection.client_sends();
        connection.wire.to_server.take()
    };
    let hello = Vec::from(hello);
    for cut in [1, 5, 6, hello.len() / 2, hello.len() - 1] {
        let (poll, wire) = after(&hello[..cut], false);
        assert!(poll.is_pending(), "{cut}: {poll:?}");
        assert!(wire.to_client.borrow().is_empty());
        let (poll, _) = after(&hello[..cut], true);
        assert!(
            matches!(poll, Poll::Ready(Err(HandshakeError::Ended))),
            "{cut}: {poll:?}"
        );
    }
    let (poll, wire) = after(&hello, false);
    assert!(poll.is_pending() && !wire.to_client.borrow().is_empty());
}

#[test]
fn bytes_read_with_a_proxy_header_begin_the_handshake() {
    let files = Files::one();
    let tls = files.load();
    let client = files.client().build();
    let name = "a.example".try_into().unwrap();
    let mut connection = Connection {
        client: rustls::ClientConnection::new(client, name).unwrap(),
        session: tls.accept().unwrap(),
        wire: Wire::default(),
    };
    connection.client_sends();
    let hello = Vec::from(connection.wire.to_server.take());
    let (early, rest) = hello.split_at(7);
    connection.session = tls.accept().unwrap().after(early);
    connection.wire.to_server.borrow_mut().extend(rest);
    connection.shake_hands().unwrap();
    assert_eq!(connection.say(b"event"), b"event");
    // Plain HTTP is told apart there, too.
    let mut session = tls.accept().unwrap().after(b"GET / HTTP/1.1\r\n");
    let poll = session.poll_handshake(&cx(), &Wire::default());
    assert!(
        matches!(poll, Poll::Ready(Err(HandshakeError::PlainHttp))),
        "{poll:?}"
    );
}

#[test]
fn a_client_that_distrusts_the_certificate_is_told_as_such() {
    let files = Files::one();
    let stranger = Files {
        authority: Authority::new("strangers"),
        ..Files::one()
    };
    let failed = connect(&files.load(), &stranger.client().build(), "a.example")
        .err()
        .unwrap();
    assert!(failed.client.is_some(), "{failed:?}");
}
