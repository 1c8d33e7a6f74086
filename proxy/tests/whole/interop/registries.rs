//! Schemas of registries that we did not write: AWS Glue as moto has it, and a static repository of Iglu's, behind
//! Python's own file server.

use super::variable;
use crate::support::proxy::{Proxy, to_files};
use crate::support::wait_until;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// A proxy that rejects what breaks the schema with these settings; waits until it is there.
fn proxy(dir: &Path, settings: &str) -> Proxy {
    let settings = to_files(&dir.join("data"))
        + &format!(
            "[paths]\ncollect = 'off'\n[routing]\nschema = 's'\n\
             [schemas.s]\nmode = 'reject'\ncache_dir = {:?}\n{settings}",
            dir.join("schemas")
        );
    let proxy = Proxy::start(dir, &settings);
    wait_until("the schema is fetched", || {
        let series = "sluice_schema_fetches_total{schema=\"s\",result=\"ok\"}";
        proxy.metrics().get(series) > 0
    });
    proxy
}

fn statuses(proxy: &Proxy) -> [u16; 2] {
    [r#"{"id":"a"}"#, r#"{"id":1}"#].map(|event| proxy.post("/v1/events", event).status)
}

const DOCUMENT: &str = r#"{"type":"object","properties":{"id":{"type":"string"}}}"#;

#[test]
#[ignore = "needs moto, see .ci/interop"]
fn a_schema_of_glue_is_fetched_by_version() {
    let endpoint = variable("SLUICE_INTEROP_MOTO");
    let name = format!("orders-{:016x}", fastrand::u64(..));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/interop/glue.py");
    let made = Command::new(variable("SLUICE_INTEROP_PYTHON"))
        .arg(script)
        .args([&endpoint, &name, DOCUMENT])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{error}");
    for version in ["latest", "1"] {
        let dir = tempdir().unwrap();
        let settings = format!(
            "registry = 'glue'\nsubject = '{name}/{name}'\nversion = '{version}'\n\
             region = 'us-east-1'\nendpoint_url = '{endpoint}'\n"
        );
        let proxy = proxy(dir.path(), &settings);
        assert_eq!(statuses(&proxy), [200, 422], "{version}");
        proxy.end_cleanly();
    }
}

#[cfg(feature = "json-schema")]
struct Server(std::process::Child);

#[cfg(feature = "json-schema")]
impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Draft 4 is beyond what is built in.
#[cfg(feature = "json-schema")]
#[test]
#[ignore = "needs Python, see .ci/interop"]
fn a_schema_of_a_static_iglu_repository_is_fetched() {
    let dir = tempdir().unwrap();
    let path = "com.example/order/jsonschema/1-0-0";
    let file = dir.path().join("repository/schemas").join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let head = r#"{"$schema":"http://iglucentral.com/schemas/com.snowplowanalytics.self-desc/schema/jsonschema/1-0-0#","self":{"vendor":"com.example","name":"order","format":"jsonschema","version":"1-0-0"},"#;
    std::fs::write(&file, DOCUMENT.replacen('{', head, 1)).unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let server = Command::new(variable("SLUICE_INTEROP_PYTHON"))
        .args([
            "-m",
            "http.server",
            "--bind",
            "127.0.0.1",
            &port.to_string(),
        ])
        .current_dir(dir.path().join("repository"))
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _server = Server(server);
    let settings = format!(
        "registry = 'iglu'\nurl = 'http://127.0.0.1:{port}'\nsubject = '{path}'\nrefresh_ms = 5000\n"
    );
    let proxy = proxy(dir.path(), &settings);
    assert_eq!(statuses(&proxy), [200, 422]);
    proxy.end_cleanly();
}
