//! Balancers in front, with PROXY headers of both versions, plain and with TLS that they pass through; the client is
//! curl.

use super::variable;
use crate::support::event::{event, new_id};
use crate::support::files;
use crate::support::proxy::{Proxy, to_files};
use crate::support::wait_until;
use crate::tls::listen;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::tempdir;

/// Dies with its owner.
pub(super) struct Front(Child);

impl Front {
    /// The program with its configuration in `file`.
    pub(super) fn start(program: &str, arguments: &[&str], file: &Path, config: &str) -> Front {
        fs::write(file, config).unwrap();
        let child = Command::new(variable(program))
            .args(arguments)
            .arg(file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Front(child)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Addresses that nobody listens on.
pub(super) fn free(addresses: [&str; 2]) -> [SocketAddr; 2] {
    let listeners = addresses.map(|address| TcpListener::bind(address).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

fn haproxy(dir: &Path, routes: [[SocketAddr; 2]; 2], send: &str) -> Front {
    let mut config =
        "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n"
            .to_owned();
    for (at, [from, to]) in routes.iter().enumerate() {
        config += &format!("listen l{at}\n  bind {from}\n  server one {to} {send}\n");
    }
    let file = dir.join("haproxy.cfg");
    Front::start("SLUICE_INTEROP_HAPROXY", &["-db", "-f"], &file, &config)
}

fn nginx(dir: &Path, routes: [[SocketAddr; 2]; 2]) -> Front {
    let servers = routes.map(|[from, to]| {
        format!("server {{ listen {from}; proxy_pass {to}; proxy_protocol on; }}\n")
    });
    let config = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\ndaemon off;\nmaster_process off;\n\
         pid {dir:?};\nerror_log stderr;\nevents {{}}\nstream {{\n{}}}\n",
        servers.concat(),
        dir = dir.join("nginx.pid"),
    );
    let prefix = dir.to_str().unwrap();
    let arguments = ["-e", "stderr", "-p", prefix, "-c"];
    Front::start(
        "SLUICE_INTEROP_NGINX",
        &arguments,
        &dir.join("nginx.conf"),
        &config,
    )
}

/// Sends one event with curl from this address, and gives the version of HTTP that was spoken.
fn curl(from: &str, url: &str, id: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--insecure", "--fail", "--max-time", "10"])
        .args(["--interface", from, "--data", &event(id, 100)])
        .args([
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_version}",
            url,
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{url} from {from}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
#[ignore = "needs HAProxy and nginx, as .ci/interop has them"]
fn balancers_announce_their_clients_in_plain_and_tls() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    let secured = listen(dir.path());
    let settings = format!(
        "{}[listen]\nproxy_protocol = \"required\"\n\
         [listeners.secured]\naddress = \"127.0.0.1:0\"\nproxy_protocol = \"required\"\n{secured}",
        to_files(&data)
    );
    let proxy = Proxy::start(dir.path(), &settings);
    let to = ["listen", "secured"].map(|name| {
        let said = proxy.said("accepting requests");
        let line = said.iter().find(|line| line["listener"] == name).unwrap();
        line["address"].as_str().unwrap().parse().unwrap()
    });
    let mut sent = BTreeMap::new();
    for front in ["haproxy v1", "haproxy v2", "nginx"] {
        let own = dir.path().join(front.replace(' ', "-"));
        fs::create_dir(&own).unwrap();
        let from = free(["127.0.0.1:0"; 2]);
        let routes = [[from[0], to[0]], [from[1], to[1]]];
        let _front = match front {
            "haproxy v1" => haproxy(&own, routes, "send-proxy"),
            "haproxy v2" => haproxy(&own, routes, "send-proxy-v2"),
            _ => nginx(&own, routes),
        };
        wait_until("the balancer listens", || {
            from.iter()
                .all(|address| TcpStream::connect(address).is_ok())
        });
        for (scheme, address, version) in [("http", from[0], "1.1"), ("https", from[1], "2")] {
            for client in ["127.0.0.1", "127.0.0.7"] {
                let id = new_id();
                let spoken = curl(client, &format!("{scheme}://{address}/v1/events"), &id);
                assert_eq!(spoken, version, "{front}, {scheme}");
                sent.insert(id, client.to_owned());
            }
        }
    }
    assert_eq!(proxy.metrics().get("sluice_proxy_headers_refused_total"), 0);
    proxy.end_cleanly();
    let records = files::records(&data).into_iter().map(|record| {
        let record: Value = serde_json::from_slice(&record).unwrap();
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        (text("id"), text("ip"))
    });
    assert_eq!(records.collect::<BTreeMap<_, _>>(), sent);
}
