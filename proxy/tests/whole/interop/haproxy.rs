//! The PROXY protocol as HAProxy writes it: for the connections of its clients, with all the notes that it can
//! put behind the addresses, and for its health checks.

use super::fronts::{Front, free};
use crate::support::client::{Client, post};
use crate::support::event::{event, new_id};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files};
use crate::support::wait_until;
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use tempfile::tempdir;

/// Listens on `fronts`, and hands every connection on to `to`.
fn start(dir: &Path, fronts: [SocketAddr; 2], to: SocketAddr) -> Front {
    let [v4, v6] = fronts;
    let config = format!(
        "global\n\
             defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n\
             frontend clients\n  bind {v4}\n  bind {v6}\n  unique-id-format %{{+X}}o%ci:%cp:%Ts\n\
             \x20 default_backend sluice\n\
             backend sluice\n  option httpchk GET /health\n  default-server inter 100ms\n\
             \x20 server one {to} send-proxy-v2 proxy-v2-options crc32c,unique-id,authority,cert-cn,cert-key,cert-sig,ssl,ssl-cipher check check-send-proxy\n"
    );
    let file = dir.join("haproxy.cfg");
    Front::start("SLUICE_INTEROP_HAPROXY", &["-db", "-f"], &file, &config)
}

/// One event on a connection that comes from this address.
fn send(from: IpAddr, to: SocketAddr, id: &str) {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let mut client = Client::over(socket.into()).unwrap();
    assert_eq!(client.ask(post("/v1/events", event(id, 100))).status, 200);
    // More than one piece on the same connection.
    assert_eq!(
        client.ask(post("/collect", vec![b'x'; 300_000])).status,
        200
    );
}

#[test]
#[ignore = "needs HAProxy, as .ci/interop has it"]
fn haproxy_announces_its_clients_and_its_health_checks() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let settings = to_files(&data) + "[listen]\nproxy_protocol = 'required'\n";
    let proxy = Proxy::start(dir.path(), &settings);
    let fronts = free(["127.0.0.1:0", "[::1]:0"]);
    let _haproxy = start(dir.path(), fronts, proxy.address);
    wait_until("its health checks are answered", || {
        proxy.metrics().answered(200) >= 3
    });

    let mut sent = BTreeMap::new();
    for (from, to) in [
        ("127.0.0.1", fronts[0]),
        ("127.0.0.2", fronts[0]),
        ("127.9.9.9", fronts[0]),
        ("::1", fronts[1]),
    ] {
        let id = new_id();
        send(from.parse().unwrap(), to, &id);
        sent.insert(id, from);
    }
    let metrics = proxy.metrics();
    assert_eq!(metrics.get("sluice_proxy_headers_refused_total"), 0);
    proxy.end_cleanly();

    let records: Vec<Value> = files::records(&data)
        .iter()
        .map(|record| serde_json::from_slice(record).unwrap())
        .collect();
    assert_eq!(records.len(), 2 * sent.len());
    let of_ids = records.iter().filter(|record| record["id"].is_string());
    let found: BTreeMap<String, &str> = of_ids
        .map(|record| {
            let id = record["id"].as_str().unwrap().to_owned();
            (id, record["ip"].as_str().unwrap())
        })
        .collect();
    assert_eq!(found, sent);
}
