//! Several listeners: what each has for itself, and what contradicts what.

use super::{load, load_all, problem, problems};
use sluice_proxy::config::{Config, Flags};
use sluice_proxy::listeners::{Http2, LISTENERS_MAX, ListenerSettings};
use sluice_proxy::net::tls::{ClientCertificates, Protocols, TlsVersion};
use sluice_proxy::worker::ProxyProtocol;
use std::path::Path;
use std::time::Duration;

const TLS: &str = "tls_certificate_files = ['a.crt']\ntls_key_files = ['a.key']\n";

fn names(config: &Config) -> Vec<&str> {
    config
        .listeners
        .iter()
        .map(|listener| &*listener.name)
        .collect()
}

/// The listener behind the first.
fn second(text: &str) -> ListenerSettings {
    let config = load(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(load(&config.to_string()).unwrap(), config, "{text}");
    config.listeners[1].clone()
}

fn words(listener: &ListenerSettings) -> [String; 2] {
    [&listener.proxy_protocol_from, &listener.trusted].map(|networks| {
        let networks: Vec<String> = networks.iter().map(ToString::to_string).collect();
        networks.join(",")
    })
}

#[test]
fn without_sections_the_one_listener_is_that_of_listen() {
    let config = load("[listen]\naddress = '0.0.0.0:80'\nproxy_protocol = 'required'\n").unwrap();
    assert_eq!(names(&config), ["listen"]);
    let first = &config.listeners[0];
    assert_eq!(first.address.to_string(), "0.0.0.0:80");
    assert_eq!(first.proxy_protocol, ProxyProtocol::Required);
    assert_eq!((first.http2, &first.tls), (Http2::Off, &None));
    assert_eq!(words(first), ["private", "private"]);
}

#[test]
fn listeners_have_their_own_addresses_tls_and_trust() {
    let config = load(&format!(
        "[listen]\nworkers = 2\n{TLS}http2 = 'off'\n\
         [listeners.b]\naddress = '[::1]:81'\ntrusted = ['10.0.0.0/8', '192.0.2.1']\n\
         [listeners.a]\naddress = 'unix:/run/sluice.sock'\nproxy_protocol = 'required'\n\
         proxy_protocol_from = '10.1.0.0/16'\nhttp2 = 'prior_knowledge'\n"
    ))
    .unwrap();
    assert_eq!(load(&config.to_string()).unwrap(), config);
    assert_eq!(names(&config), ["listen", "a", "b"]);
    let [first, a, b] = &config.listeners[..] else {
        panic!("{:?}", config.listeners)
    };
    assert!(first.tls.is_some() && a.tls.is_none() && b.tls.is_none());
    assert_eq!(
        [first.http2, a.http2, b.http2],
        [Http2::Off, Http2::PriorKnowledge, Http2::Off]
    );
    assert_eq!(a.address.to_string(), "unix:/run/sluice.sock");
    assert_eq!(a.proxy_protocol, ProxyProtocol::Required);
    assert_eq!(words(a), ["10.1.0.0/16", "private"]);
    assert_eq!(b.address.to_string(), "[::1]:81");
    assert_eq!(words(b)[1], "10.0.0.0/8,192.0.2.1");
}

#[test]
fn a_listener_trusts_whom_client_address_trusts_by_default() {
    let config = load(
        "[client_address]\ntrusted = '198.51.100.0/24'\n[listen]\ntrusted = []\n\
         [listeners.a]\naddress = '127.0.0.1:1'\n",
    )
    .unwrap();
    assert_eq!(words(&config.listeners[0])[1], "");
    assert_eq!(words(&config.listeners[1])[1], "198.51.100.0/24");
}

#[test]
fn tls_settings_are_read_for_every_listener() {
    let tls = |text: &str| {
        let listener = second(&format!(
            "[listeners.a]\naddress = '127.0.0.1:1'\n{TLS}{text}"
        ));
        (listener.protocols(), listener.tls.unwrap())
    };
    let (protocols, usual) = tls("");
    assert_eq!(protocols, Protocols::Http2AndHttp1);
    assert_eq!(usual.certificate_files, ["a.crt"]);
    assert_eq!(usual.key_files, ["a.key"]);
    assert_eq!(usual.min_version, TlsVersion::Tls12);
    assert_eq!(usual.handshake_deadline, Duration::from_secs(10));
    assert_eq!(usual.handshakes_max, 1_024);
    assert_eq!(usual.client_certificates, ClientCertificates::Off);
    assert_eq!((usual.ticket_key_file, usual.client_ca_file), (None, None));
    let (protocols, changed) = tls(
        "http2 = 'off'\ntls_min_version = '1.3'\ntls_handshake_deadline_ms = 2000\n\
         tls_handshakes_max = 7\ntls_ticket_key_file = 't'\ntls_client_certificates = 'optional'\n\
         tls_client_ca_file = 'ca.pem'\n",
    );
    assert_eq!(protocols, Protocols::Http1);
    assert_eq!(changed.min_version, TlsVersion::Tls13);
    assert_eq!(changed.handshake_deadline, Duration::from_secs(2));
    assert_eq!(changed.handshakes_max, 7);
    assert_eq!(changed.ticket_key_file.as_deref(), Some(Path::new("t")));
    assert_eq!(changed.client_certificates, ClientCertificates::Optional);
    assert_eq!(changed.client_ca_file.as_deref(), Some(Path::new("ca.pem")));
}

#[test]
fn variables_set_listeners_as_they_set_outputs() {
    let variables = [
        ("SLUICE_LISTENERS__A_B__C__ADDRESS", "127.0.0.1:1"),
        (
            "SLUICE_LISTENERS__A_B__C__TLS_CERTIFICATE_FILES",
            "a.crt,b.crt",
        ),
        ("SLUICE_LISTENERS__A_B__C__TLS_KEY_FILES", "a.key, b.key"),
        ("SLUICE_LISTEN__TRUSTED", "10.0.0.0/8"),
    ];
    let config = load_all("", &variables, &Flags::default()).unwrap();
    assert_eq!(names(&config), ["listen", "a_b__c"]);
    let tls = config.listeners[1].tls.as_ref().unwrap();
    assert_eq!(tls.key_files, ["a.key", "b.key"]);
    assert_eq!(words(&config.listeners[0])[1], "10.0.0.0/8");
    for name in ["SLUICE_LISTENERS__ADDRESS", "SLUICE_LISTENERS__A__WORKERS"] {
        let error = load_all("", &[(name, "1")], &Flags::default()).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn an_unknown_listener_key_is_refused_with_its_line() {
    let error = load("[listeners.a]\naddress = '127.0.0.1:1'\nadress = 1\n").unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains(":3: unknown key `adress` in [listeners.a]"),
        "{shown}"
    );
    assert!(shown.contains("did you mean `address`"), "{shown}");
    let shown = load("listeners.a = 1\n").unwrap_err().to_string();
    assert!(shown.contains("unknown key `a` in [listeners]"), "{shown}");
    let shown = load("[listener.a]\n").unwrap_err().to_string();
    assert!(shown.contains("`listeners`"), "{shown}");
}

#[test]
fn a_listener_needs_an_address_that_is_one() {
    assert!(problem("[listeners.a]\n").contains("`listeners.a.address` is missing"));
    for text in [
        "8080",
        "localhost:80",
        "unix:sluice.sock",
        "unix:",
        "/run/s.sock",
    ] {
        let error = load(&format!("[listeners.a]\naddress = '{text}'\n")).unwrap_err();
        let shown = error.to_string();
        assert!(
            shown.contains(text) && shown.contains("listeners.a.address"),
            "{shown}"
        );
    }
    let path = format!("/{}", "s".repeat(106));
    second(&format!("[listeners.a]\naddress = 'unix:{path}'\n"));
    let error = load(&format!("[listeners.a]\naddress = 'unix:{path}s'\n")).unwrap_err();
    let shown = error.to_string();
    assert!(
        shown.contains("has 108 bytes, at most 107 are possible"),
        "{shown}"
    );
}

#[test]
fn a_listener_name_is_a_short_word_other_than_listen() {
    for name in ["listen", "A", "a.b", ""] {
        let shown = problem(&format!("[listeners.{name:?}]\naddress = '127.0.0.1:1'\n"));
        assert!(shown.contains("a name of 1 to 32"), "{shown}");
    }
}

#[test]
fn more_listeners_than_the_limit_are_refused() {
    let text = |count: usize| -> String {
        (1..count)
            .map(|port| format!("[listeners.l{port}]\naddress = '127.0.0.1:{port}'\n"))
            .collect()
    };
    assert_eq!(load(&text(LISTENERS_MAX)).unwrap().listeners.len(), 16);
    assert_eq!(
        problem(&text(LISTENERS_MAX + 1)),
        "`listeners` is 16 listeners besides the first, allowed is 0 to 15 listeners besides the first"
    );
}

#[test]
fn two_listeners_on_one_address_are_refused_with_both() {
    let both = |one: &str, other: &str| {
        problem(&format!(
            "[listeners.a]\naddress = '{one}'\n[listeners.b]\naddress = '{other}'\n"
        ))
    };
    let shown = both("127.0.0.1:81", "0.0.0.0:81");
    assert!(
        shown.contains("`listeners.b.address` is 0.0.0.0:81, but must be other than `listeners.a.address`, which is 127.0.0.1:81"),
        "{shown}"
    );
    both("unix:/run/a", "unix:/run/a");
    // That of `[listen]`, and that of the admin port, by default.
    let one = |address: &str| problem(&format!("[listeners.a]\naddress = '{address}'\n"));
    assert!(one("[::]:8088").contains("`listen.address`, which is 127.0.0.1:8088"));
    assert!(one("127.0.0.1:9090").contains("`admin.address` is 127.0.0.1:9090"));
}

#[test]
fn tls_settings_without_a_certificate_are_refused() {
    for line in [
        "tls_min_version = '1.3'",
        "tls_handshake_deadline_ms = 1000",
        "tls_handshakes_max = 1",
        "tls_ticket_key_file = 't'",
        "tls_client_certificates = 'required'",
        "tls_client_ca_file = 'ca.pem'",
    ] {
        let key = line.split(' ').next().unwrap();
        for section in ["[listen]\n", "[listeners.a]\naddress = '127.0.0.1:1'\n"] {
            let shown = problem(&format!("{section}{line}\n"));
            assert!(shown.contains(&format!(".{key}` is set")), "{shown}");
            assert!(shown.contains("tls_certificate_files` is empty"), "{shown}");
        }
    }
    let shown = problem("[listen]\ntls_key_files = 'a.key'\n");
    assert!(
        shown.contains("`listen.tls_certificate_files` is missing"),
        "{shown}"
    );
}

#[test]
fn certificates_and_keys_come_in_pairs() {
    let shown =
        problem("[listen]\ntls_certificate_files = 'a.crt, b.crt'\ntls_key_files = 'a.key'\n");
    assert!(
        shown.contains("`listen.tls_key_files` is 1 file, but must be as many as `listen.tls_certificate_files`, which is 2 files"),
        "{shown}"
    );
    let many = vec!["'a'"; 17].join(",");
    let text = format!("[listen]\ntls_certificate_files = [{many}]\ntls_key_files = [{many}]\n");
    for problem in problems(&text) {
        assert!(
            problem
                .to_string()
                .contains("is 17 files, allowed is 0 to 16 files"),
            "{problem}"
        );
    }
}

#[test]
fn client_certificates_need_authorities_and_the_other_way_round() {
    let with = |text: &str| problem(&format!("[listen]\n{TLS}{text}\n"));
    assert!(
        with("tls_client_certificates = 'required'")
            .contains("`listen.tls_client_ca_file` is missing")
    );
    assert!(with("tls_client_ca_file = 'ca'").contains("`listen.tls_client_certificates` is off"));
}

#[test]
fn http2_that_no_client_could_reach_is_refused() {
    let shown = problem("[listen]\nhttp2 = 'alpn'\n");
    assert!(
        shown.contains("`listen.http2` is alpn, but must be off or prior_knowledge without `listen.tls_certificate_files`, which is empty"),
        "{shown}"
    );
    let shown = problem(&format!("[listen]\n{TLS}http2 = 'prior_knowledge'\n"));
    assert!(
        shown.contains("must be off or alpn with `listen.tls_certificate_files`, which is 1 file"),
        "{shown}"
    );
}

#[test]
fn networks_for_a_proxy_header_need_the_header() {
    let shown = problem("[listen]\nproxy_protocol_from = '10.0.0.0/8'\n");
    assert!(shown.contains("`listen.proxy_protocol` is off"), "{shown}");
    let shown = load("").unwrap().to_string();
    assert!(!shown.contains("proxy_protocol_from"), "{shown}");
}
