//! Whose address a record gets, for every way that a request can come and every lie that can be told on it.

use crate::support::client::Client;
use crate::support::files;
use crate::support::proxy::{Proxy, to_files};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use tempfile::{TempDir, tempdir};

const PROXY: &str = "[listen]\nproxy_protocol = 'required'\n";

/// Who is said to be at the other end, before the first byte of HTTP.
#[derive(Clone, Copy, Debug)]
enum Said {
    /// Nothing.
    Nothing,
    /// The balancer itself.
    Itself,
    /// This client.
    Client(&'static str),
}

/// A PROXY protocol header, version 2, from its specification.
fn header(said: Said) -> Vec<u8> {
    let (command, family, addresses) = match said {
        Said::Nothing => return Vec::new(),
        Said::Itself => (0x20, 0x00, Vec::new()),
        Said::Client(client) => match client.parse().unwrap() {
            SocketAddr::V4(client) => {
                let to = [10, 0, 0, 1];
                let addresses = [client.ip().octets(), to].concat();
                (0x21, 0x11, ported(addresses, client.port()))
            }
            SocketAddr::V6(client) => {
                let addresses = [client.ip().octets(), [0; 16]].concat();
                (0x21, 0x21, ported(addresses, client.port()))
            }
        },
    };
    let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
    let signature = b"\r\n\r\n\0\r\nQUIT\n";
    [&signature[..], &[command, family], &length, &addresses].concat()
}

fn ported(mut addresses: Vec<u8>, port: u16) -> Vec<u8> {
    addresses.extend(port.to_be_bytes());
    addresses.extend(8088_u16.to_be_bytes());
    addresses
}

fn start(settings: &str) -> (TempDir, Proxy) {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data")) + settings;
    let proxy = Proxy::start(dir.path(), &settings);
    (dir, proxy)
}

fn records(dir: &Path) -> Vec<Value> {
    files::records(&dir.join("data"))
        .iter()
        .map(|record| serde_json::from_slice(record).unwrap())
        .collect()
}

fn ask(proxy: &Proxy, said: Said, line: &str, forwarded: &[&str]) -> Client {
    let mut request = header(said);
    request.extend(format!("{line} HTTP/1.1\r\nHost: t\r\n").bytes());
    for value in forwarded {
        request.extend(format!("X-Forwarded-For: {value}\r\n").bytes());
    }
    request.extend(b"Content-Length: 0\r\n\r\n");
    let mut client = proxy.connect();
    client.try_send(request);
    client
}

/// Settings, and the requests that meet them: what is said before HTTP, what is said in it, and the
/// address that the record has to get.
type Row = (
    &'static str,
    &'static [(Said, &'static [&'static str], &'static str)],
);

const MATRIX: &[Row] = &[
    // Nobody in front, or an application load balancer: the peer is of a private network.
    (
        "",
        &[
            (Said::Nothing, &[], "127.0.0.1"),
            (Said::Nothing, &["203.0.113.9"], "203.0.113.9"),
            (
                Said::Nothing,
                &["203.0.113.9, 198.51.100.2"],
                "203.0.113.9, 198.51.100.2",
            ),
            (
                Said::Nothing,
                &["203.0.113.9", "198.51.100.2"],
                "203.0.113.9, 198.51.100.2",
            ),
        ],
    ),
    // One balancer of one's own appends to it: what a client wrote before is not to be believed.
    (
        "[client_address]\nhops = 1\n",
        &[
            (Said::Nothing, &["203.0.113.9"], "203.0.113.9"),
            (Said::Nothing, &["6.6.6.6, 203.0.113.9"], "203.0.113.9"),
            (Said::Nothing, &["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
        ],
    ),
    // Two of them.
    (
        "[client_address]\nhops = 2\n",
        &[(
            Said::Nothing,
            &["6.6.6.6, 203.0.113.9, 198.51.100.2"],
            "203.0.113.9, 198.51.100.2",
        )],
    ),
    // The peer is nobody whom one knows.
    (
        "[client_address]\ntrusted = '10.0.0.0/8, ::1'\n",
        &[
            (Said::Nothing, &[], "127.0.0.1"),
            (Said::Nothing, &["6.6.6.6"], "127.0.0.1"),
            (Said::Nothing, &["6.6.6.6, 10.0.0.1"], "127.0.0.1"),
        ],
    ),
    (
        "[client_address]\ntrusted = '127.0.0.1'\n",
        &[(Said::Nothing, &["203.0.113.9"], "203.0.113.9")],
    ),
    (
        "[client_address]\ntrusted = []\n",
        &[(Said::Nothing, &["6.6.6.6"], "127.0.0.1")],
    ),
    // A network load balancer: the client of the header is the peer, an untrusted one ...
    (
        PROXY,
        &[
            (Said::Client("198.51.100.7:4097"), &[], "198.51.100.7"),
            (
                Said::Client("198.51.100.7:4097"),
                &["6.6.6.6"],
                "198.51.100.7",
            ),
            (Said::Client("[2001:db8::7]:4097"), &[], "2001:db8::7"),
            (
                Said::Client("[2001:db8::7]:4097"),
                &["6.6.6.6, 10.0.0.1"],
                "2001:db8::7",
            ),
            (Said::Client("[::ffff:198.51.100.7]:1"), &[], "198.51.100.7"),
            // ... or a proxy of one's own behind it.
            (Said::Client("10.1.2.3:4097"), &[], "10.1.2.3"),
            (
                Said::Client("10.1.2.3:4097"),
                &["203.0.113.9"],
                "203.0.113.9",
            ),
            (
                Said::Client("[fd00::7]:4097"),
                &["203.0.113.9, 198.51.100.2"],
                "203.0.113.9, 198.51.100.2",
            ),
            // The balancer's own connections.
            (Said::Itself, &[], "127.0.0.1"),
        ],
    ),
    // A delivery network in front of the balancer, of which the addresses are known.
    (
        "[listen]\nproxy_protocol = 'required'\n\
         [client_address]\ntrusted = ['198.51.100.0/24']\nhops = 1\n",
        &[
            (
                Said::Client("198.51.100.7:4097"),
                &["6.6.6.6, 203.0.113.9"],
                "203.0.113.9",
            ),
            (Said::Client("192.0.2.7:4097"), &["6.6.6.6"], "192.0.2.7"),
            // Nor is the private network trusted that the header came from.
            (Said::Itself, &["6.6.6.6"], "127.0.0.1"),
        ],
    ),
];

#[test]
fn record_ips_come_from_trusted_sources_only() {
    for (settings, cases) in MATRIX {
        let (dir, proxy) = start(settings);
        for (number, (said, forwarded, _)) in cases.iter().enumerate() {
            // Both record modes.
            for line in ["POST /collect?appId=", "GET /i?appId="] {
                let reply = ask(&proxy, *said, &format!("{line}{number}"), forwarded).read();
                assert_eq!(reply.status, 200, "{settings:?} {said:?} {forwarded:?}");
            }
        }
        proxy.end_cleanly();
        let records = records(dir.path());
        assert_eq!(records.len(), 2 * cases.len());
        for (number, (said, forwarded, ip)) in cases.iter().enumerate() {
            let number = number.to_string();
            let mut found = 0;
            for record in records.iter().filter(|record| record["appId"] == *number) {
                assert_eq!(record["ip"], *ip, "{settings:?} {said:?} {forwarded:?}");
                found += 1;
            }
            assert_eq!(found, 2);
        }
    }
}

/// The status of the answer to a request without a body, over a unix socket.
fn ask_unix(path: &Path, said: Said, line: &str, forwarded: Option<&str>) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    let forwarded = forwarded.map(|value| format!("X-Forwarded-For: {value}\r\n"));
    let head = format!(
        "{line} HTTP/1.1\r\nHost: t\r\n{}Connection: close\r\nContent-Length: 0\r\n\r\n",
        forwarded.unwrap_or_default()
    );
    stream
        .write_all(&[header(said), head.into()].concat())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn unix_peers_are_trusted_and_clients_they_name_are_not() {
    for (protocol, cases) in [
        (
            "off",
            &[
                (Said::Nothing, None, "0.0.0.0"),
                (Said::Nothing, Some("203.0.113.9"), "203.0.113.9"),
            ][..],
        ),
        (
            "required",
            &[
                (Said::Itself, Some("203.0.113.9"), "203.0.113.9"),
                (Said::Client("198.51.100.7:1"), None, "198.51.100.7"),
                (
                    Said::Client("198.51.100.7:1"),
                    Some("6.6.6.6"),
                    "198.51.100.7",
                ),
            ][..],
        ),
    ] {
        let sockets = tempdir().unwrap();
        let path = sockets.path().join("sluice.sock");
        let (dir, proxy) = start(&format!(
            "[listeners.side]\naddress = 'unix:{}'\nproxy_protocol = '{protocol}'\n",
            path.display()
        ));
        for (number, (said, forwarded, _)) in cases.iter().enumerate() {
            let line = format!("POST /collect?appId={number}");
            let status = ask_unix(&path, *said, &line, *forwarded);
            assert_eq!(status, "HTTP/1.1 200 OK", "{said:?} {forwarded:?}");
        }
        proxy.end_cleanly();
        let records = records(dir.path());
        assert_eq!(records.len(), cases.len());
        for record in &records {
            let number: usize = record["appId"].as_str().unwrap().parse().unwrap();
            let (said, forwarded, ip) = cases[number];
            assert_eq!(record["ip"], ip, "{said:?} {forwarded:?}");
        }
    }
}

#[test]
fn unexpected_and_missing_proxy_headers_make_no_record() {
    // Where none is expected it is a malformed request, not an address.
    let (dir, proxy) = start("");
    for said in [Said::Client("6.6.6.6:1"), Said::Itself] {
        let reply = ask(&proxy, said, "POST /collect", &[]).read();
        assert_eq!(reply.status, 400, "{said:?}");
    }
    let reply = ask(&proxy, Said::Nothing, "POST /collect", &[]).read();
    assert_eq!(reply.status, 200);
    proxy.end_cleanly();
    assert_eq!(records(dir.path()).len(), 1);

    // Where one is required, clients that bypass the balancer are refused, and a second header by the
    // client is not believed.
    let (dir, proxy) = start(PROXY);
    let around = ask(&proxy, Said::Nothing, "POST /collect", &["6.6.6.6"]).try_read();
    assert!(around.is_none(), "{around:?}");
    let metrics = proxy.metrics();
    assert_eq!(metrics.get("sluice_proxy_headers_refused_total"), 1);
    for _ in 0..20 {
        let around = ask(&proxy, Said::Nothing, "POST /collect", &[]).try_read();
        assert!(around.is_none(), "{around:?}");
    }
    // Each of the two cores tells the first of its own, and no more.
    let told = proxy.said(
        "closed a connection without the header that proxy_protocol requires; further ones are \
         counted only",
    );
    assert!((1..=2).contains(&told.len()), "{told:?}");
    let mut twice = proxy.connect();
    twice.try_send(
        [
            header(Said::Client("198.51.100.7:1")),
            header(Said::Client("6.6.6.6:1")),
            b"POST /collect HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ]
        .concat(),
    );
    assert_eq!(twice.read().status, 400);
    proxy.end_cleanly();
    assert_eq!(records(dir.path()).len(), 0);
}

#[test]
fn connections_are_capped_per_proxied_client() {
    let (_dir, proxy) = start(&format!("{PROXY}connections_per_address_max = 1\n"));
    let first = Said::Client("198.51.100.7:1");
    let mut held = ask(&proxy, first, "GET /ping", &[]);
    assert_eq!(held.read().status, 200);
    let refused = ask(&proxy, first, "GET /ping", &[]).read();
    refused.assert_retry_later(&["too_many_connections"]);
    let second = Said::Client("198.51.100.8:1");
    assert_eq!(ask(&proxy, second, "GET /ping", &[]).read().status, 200);
    assert_eq!(
        proxy
            .metrics()
            .get("sluice_connections_capped_total{cap=\"address\"}"),
        1
    );
}

#[test]
fn the_health_command_sends_a_required_proxy_header() {
    for (settings, word) in [("", "off"), (PROXY, "required")] {
        let (_dir, proxy) = start(settings);
        let healthy = |word: &str| {
            let status = Command::new(env!("CARGO_BIN_EXE_sluice"))
                .arg("health")
                .env_clear()
                .env("SLUICE_LISTEN__ADDRESS", proxy.address.to_string())
                .env("SLUICE_LISTEN__PROXY_PROTOCOL", word)
                .output()
                .unwrap()
                .status;
            status.code() == Some(0)
        };
        assert!(healthy(word), "{word}");
        let other = if word == "off" { "required" } else { "off" };
        assert!(!healthy(other), "{other}");
    }
}

#[test]
fn fake_ip_replaces_ip_only_when_configured() {
    const WARNING: &str =
        "client_address.fake_ip is on: whoever sends events can choose the ip of their records";
    for (settings, ip, fake_ip, warned) in [
        ("", "203.0.113.9", Some("198.51.100.4"), false),
        (
            "[client_address]\nfake_ip = true\n",
            "198.51.100.4",
            None,
            true,
        ),
    ] {
        let (dir, proxy) = start(settings);
        let line = "POST /collect?appId=a&fakeIp=198.51.100.4";
        let reply = ask(&proxy, Said::Nothing, line, &["203.0.113.9"]).read();
        assert_eq!(reply.status, 200);
        assert_eq!(!proxy.said(WARNING).is_empty(), warned, "{settings:?}");
        proxy.end_cleanly();
        let records = records(dir.path());
        let [record] = &records[..] else {
            panic!("{records:?}")
        };
        assert_eq!(record["ip"], ip);
        assert_eq!(record.get("fakeIp").and_then(Value::as_str), fake_ip);
        let keys = record.as_object().unwrap().len();
        assert_eq!(keys, if fake_ip.is_some() { 17 } else { 16 });
        // Nothing of the way that it came is left beside it.
        assert_eq!(record.get("X_Forwarded_For"), None);
    }
}

#[test]
fn an_untrusted_x_forwarded_for_is_counted_with_one_warning() {
    const WARNING: &str = "ignored X-Forwarded-For of a peer that client_address.trusted does not list; \
                           further ones are only counted, in sluice_forwarded_for_ignored_total";
    let (_dir, proxy) = start("[client_address]\ntrusted = []\n");
    for _ in 0..3 {
        let reply = ask(&proxy, Said::Nothing, "POST /collect?appId=a", &["6.6.6.6"]).read();
        assert_eq!(reply.status, 200);
    }
    let series = "sluice_forwarded_for_ignored_total{reason=\"untrusted_peer\"}";
    assert_eq!(proxy.metrics().get(series), 3);
    assert_eq!(proxy.said(WARNING).len(), 1);
}

#[test]
fn script_in_x_forwarded_for_is_not_stored() {
    let (dir, proxy) = start("");
    for sent in ["<script>", "<script>, 203.0.113.9"] {
        let reply = ask(&proxy, Said::Nothing, "POST /collect?appId=a", &[sent]).read();
        assert_eq!(reply.status, 200);
    }
    let series = "sluice_forwarded_for_ignored_total{reason=\"not_an_address\"}";
    assert_eq!(proxy.metrics().get(series), 2);
    proxy.end_cleanly();
    let found: Vec<_> = records(dir.path())
        .iter()
        .map(|one| one["ip"].clone())
        .collect();
    assert_eq!(found, ["127.0.0.1", "203.0.113.9"]);
}
