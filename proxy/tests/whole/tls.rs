//! The running program within TLS, as OpenSSL's client finds it.

use crate::support::proxy::{Proxy, to_files};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::tempdir;

/// Writes a certificate and its key into `dir`; gives the settings of the first listener that shows it.
pub(crate) fn listen(dir: &Path) -> String {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["events.example".to_owned()]).unwrap();
    fs::write(dir.join("own.crt"), cert.pem()).unwrap();
    fs::write(dir.join("own.key"), signing_key.serialize_pem()).unwrap();
    let [certificate, key] = ["own.crt", "own.key"].map(|name| dir.join(name));
    format!("tls_certificate_files = [{certificate:?}]\ntls_key_files = [{key:?}]\n")
}

const REQUEST: &[u8] = b"GET /ping HTTP/1.1\r\nHost: events.example\r\nConnection: close\r\n\r\n";

/// OpenSSL's client with any cipher that it has, which asks once and hears the server out.
fn openssl(proxy: &Proxy, more: &[&str]) -> Output {
    let address = proxy.address.to_string();
    let mut child = Command::new("openssl")
        .args(["s_client", "-ign_eof", "-connect", &address])
        .args(more)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl, as .ci/setup installs it");
    // One that was refused reads nothing.
    let _ = child.stdin.take().unwrap().write_all(REQUEST);
    child.wait_with_output().unwrap()
}

/// What the client says of its session, with the answer; `None` where there is none.
fn session(proxy: &Proxy, more: &[&str]) -> Option<String> {
    let output = openssl(proxy, more);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.contains("HTTP/1.1 200 OK").then_some(text)
}

fn start(dir: &Path, more: &str) -> Proxy {
    let settings = format!(
        "{}[listen]\n{}{more}",
        to_files(&dir.join("data")),
        listen(dir)
    );
    Proxy::start(dir, &settings)
}

#[test]
fn only_tls_1_2_and_1_3_are_spoken() {
    let dir = tempdir().unwrap();
    let proxy = start(dir.path(), "");
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(session(&proxy, &[version]).is_some(), "{version}");
    }
    // A client that would take it, whatever the system's defaults are.
    for version in ["-tls1", "-tls1_1"] {
        let refused = openssl(&proxy, &[version, "-cipher", "ALL:@SECLEVEL=0"]);
        let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
        let by_server = ["alert protocol version", "alert handshake failure"];
        assert!(
            by_server.iter().any(|alert| reason.contains(alert)),
            "{version}: {reason}"
        );
    }
    let metrics = proxy.metrics();
    assert_eq!(
        metrics.get("sluice_tls_handshakes_total{result=\"failed\"}"),
        2
    );
}

/// All that OpenSSL knows, by the names that its client takes.
fn ciphers(version: &str) -> Vec<String> {
    let listed = Command::new("openssl")
        .args(["ciphers", "-s", version, "ALL:eNULL:@SECLEVEL=0"])
        .output()
        .unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.trim().split(':').map(str::to_owned).collect()
}

#[test]
fn only_ciphers_with_forward_secrecy_and_aead_are_accepted() {
    let dir = tempdir().unwrap();
    let proxy = start(dir.path(), "");
    let accepted = |version: &str, option: &str| -> Vec<String> {
        let offered = ciphers(version).into_iter();
        offered
            .filter(|name| {
                let only = match option {
                    "-cipher" => format!("{name}:@SECLEVEL=0"),
                    _ => name.clone(),
                };
                session(&proxy, &[version, option, &only]).is_some()
            })
            .collect()
    };
    assert_eq!(
        accepted("-tls1_2", "-cipher"),
        [
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES128-GCM-SHA256",
        ]
    );
    assert_eq!(
        accepted("-tls1_3", "-ciphersuites"),
        [
            "TLS_AES_256_GCM_SHA384",
            "TLS_CHACHA20_POLY1305_SHA256",
            "TLS_AES_128_GCM_SHA256",
        ]
    );
    assert!(ciphers("-tls1_2").len() > 30, "what is refused was offered");
}

#[test]
fn alpn_offers_http2_and_http1_unless_switched_off() {
    let dir = tempdir().unwrap();
    let proxy = start(dir.path(), "");
    let agreed = |proxy: &Proxy, offered: &str| {
        let output = openssl(proxy, &["-alpn", offered]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("ALPN protocol: "));
        line.map(str::to_owned)
    };
    assert_eq!(agreed(&proxy, "http/1.1,h2").as_deref(), Some("h2"));
    assert_eq!(agreed(&proxy, "http/1.1").as_deref(), Some("http/1.1"));
    // Nothing in common is an error (RFC 7301 section 3.2).
    assert_eq!(agreed(&proxy, "spdy/3"), None);
    let dir = tempdir().unwrap();
    let old = start(dir.path(), "http2 = \"off\"\n");
    assert_eq!(agreed(&old, "h2,http/1.1").as_deref(), Some("http/1.1"));
}

#[test]
fn sessions_resume_at_another_process_with_the_same_tickets() {
    let dirs = [tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap()];
    let tickets = dirs[0].path().join("tickets");
    fs::write(&tickets, base64_simd::STANDARD.encode_to_string([7; 48])).unwrap();
    let shared = format!("tls_ticket_key_file = {tickets:?}\n");
    let [one, other] = [0, 1].map(|at| start(dirs[at].path(), &shared));
    let stranger = start(dirs[2].path(), "");
    let file = dirs[0].path().join("session").to_str().unwrap().to_owned();
    for version in ["-tls1_2", "-tls1_3"] {
        let is_resumed = |proxy: &Proxy, option: &str| {
            let text = session(proxy, &[version, option, &file]).unwrap();
            text.contains("\nReused, ")
        };
        assert!(!is_resumed(&one, "-sess_out"), "{version}");
        assert!(is_resumed(&other, "-sess_in"), "{version}");
        assert!(!is_resumed(&stranger, "-sess_in"), "{version}");
    }
    let metrics = other.metrics();
    assert_eq!(
        metrics.get("sluice_tls_handshakes_total{result=\"resumed\"}"),
        2
    );
}
