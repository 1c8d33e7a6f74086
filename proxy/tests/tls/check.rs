//! `sluice check` tries certificates, which needs no network.

use super::support::{Files, Pair, named};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use sluice_proxy::check::{Report, try_out};
use sluice_proxy::config::{Config, Flags};
use sluice_proxy::host_info::HostInfo;
use std::fs;
use std::net::TcpListener;

const MACHINE: HostInfo = HostInfo {
    cores: 1,
    memory_bytes: 1 << 30,
};

/// Checks one more listener with this address and the files' TLS.
fn check(files: &Files, address: &str) -> Report {
    let text = format!(
        "[listen]\naddress = '127.0.0.1:0'\n[admin]\naddress = 'off'\n\
         [outputs.main]\ntype = 'null'\n\
         [listeners.inner]\naddress = '{address}'\n\
         tls_certificate_files = {:?}\ntls_key_files = {:?}\n",
        files.settings.certificate_files, files.settings.key_files
    );
    let file = files.write("sluice.toml", text);
    let config = Config::load(Some(&file), [], &Flags::default(), MACHINE).unwrap();
    try_out(&config, true).unwrap()
}

#[test]
fn check_names_certificates_and_their_last_day() {
    let files = Files::new(&[&["a.example", "b.example"]]);
    let report = check(&files, "127.0.0.1:0");
    assert!(report.usable, "{}", report.lines);
    let expected = format!(
        "listener inner TLS ok: {} for a.example, b.example, expires in ",
        files.path("0.crt").display()
    );
    assert!(report.lines.contains(&expected), "{}", report.lines);
    assert!(!report.lines.contains("warning: /"), "{}", report.lines);
}

#[test]
fn check_fails_with_the_name_of_a_broken_file() {
    let files = Files::one();
    let key = fs::read_to_string(files.path("0.key")).unwrap();
    files.write("0.key", key.replace("-----END", "END"));
    let report = check(&files, "127.0.0.1:0");
    assert!(!report.usable);
    let expected = format!(
        "listener inner TLS FAILED: {}: a section of the PEM has no end",
        files.path("0.key").display()
    );
    assert!(report.lines.contains(&expected), "{}", report.lines);
    assert!(!report.lines.contains(key.lines().nth(1).unwrap()));
}

#[test]
fn check_warns_of_a_certificate_that_expires_soon() {
    let files = Files::one();
    let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    params.distinguished_name = named("a");
    params.not_before = date_time_ymd(2020, 1, 1);
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let soon = (today + jiff::SignedDuration::from_hours(5 * 24)).date();
    let [month, day] = [soon.month(), soon.day()].map(|part| u8::try_from(part).unwrap());
    params.not_after = date_time_ymd(i32::from(soon.year()), month, day);
    let key = KeyPair::generate().unwrap();
    files.put(
        0,
        &Pair {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        },
    );
    let report = check(&files, "127.0.0.1:0");
    assert!(report.usable, "{}", report.lines);
    let expected = format!(
        "warning: {} expires in 4 days",
        files.path("0.crt").display()
    );
    assert!(report.lines.contains(&expected), "{}", report.lines);
}

#[test]
fn check_tries_the_address_of_every_listener() {
    let files = Files::one();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let report = check(&files, &address);
    assert!(!report.usable);
    let expected = format!("listeners.inner.address {address} FAILED");
    assert!(report.lines.contains(&expected), "{}", report.lines);
    let path = files.path("sluice.sock");
    let free = check(&files, &format!("unix:{}", path.display()));
    assert!(free.usable, "{}", free.lines);
}
