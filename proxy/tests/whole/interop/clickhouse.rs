//! The HTTP output against ClickHouse, read back with its own queries.

use super::judge::compare;
use super::traffic::{Client, Offer, offer};
use super::{SETTINGS, assert_check, run, variable};
use crate::support::proxy::Proxy;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tempfile::tempdir;

/// The user that `.ci/interop` makes.
const USER: &str = "ingest";
const PASSWORD: &str = "interop-secret";
const KEY: (&str, &str) = ("CLICKHOUSE_KEY", PASSWORD);

fn query(text: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/whole/interop/clickhouse.py");
    let output = Command::new("timeout")
        .args(["60", &variable("SLUICE_INTEROP_PYTHON")])
        .arg(script)
        .args([&variable("SLUICE_INTEROP_CLICKHOUSE"), USER, PASSWORD, text])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// A new table with these columns.
fn create(columns: &str) -> String {
    let table = format!("interop_{:016x}", fastrand::u64(..));
    query(&format!(
        "CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY tuple()"
    ));
    table
}

/// An output that inserts into it in this format; further keys may follow.
fn output(table: &str, format: &str) -> String {
    format!(
        "[outputs.main]\ntype = \"http\"\nurl = \"{}/?query=INSERT%20INTO%20{table}%20FORMAT%20{format}\"\n\
         headers = [\"x-clickhouse-user: {USER}\"]\nauth_header = \"x-clickhouse-key\"\nauth_env = \"CLICKHOUSE_KEY\"\n",
        variable("SLUICE_INTEROP_CLICKHOUSE")
    )
}

#[test]
#[ignore = "needs ClickHouse, which .ci/interop starts"]
fn clickhouse_has_every_event_once() {
    run(async {
        let table = create("line String");
        let dir = tempdir().unwrap();
        // A line as it is: one column, behind which no delimiter stands.
        let raw = output(&table, "CSV&format_csv_delimiter=%01") + "gzip = true\n";
        let proxy = Proxy::start_with(dir.path(), &format!("{SETTINGS}{raw}"), &[KEY]);
        let mixed = Offer {
            requests: 400,
            per_second: 150.0,
            array: 5,
            lines: 20,
        };
        let sent = offer(proxy.address, &mixed).await;
        let metrics = proxy.settled_metrics("main");
        let delivered = metrics.records("delivered_records_total", "main");
        let calls = metrics.family("sluice_output_calls_total", "main");
        proxy.end_cleanly();
        let rows = query(&format!("SELECT line FROM {table} FORMAT JSONEachRow"));
        let lines: Vec<String> = rows
            .lines()
            .map(|row| {
                serde_json::from_str::<Value>(row).unwrap()["line"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect();
        let verdict = compare(&sent, lines.iter().map(|line| line.as_bytes()));
        println!("clickhouse: {verdict}, {calls} insertions");
        assert_eq!(verdict.acknowledged, verdict.offered, "{verdict}");
        assert_eq!(delivered, lines.len() as u64, "the metric knows better");
        verdict.hold();
    });
}

#[test]
#[ignore = "needs ClickHouse, which .ci/interop starts"]
fn clickhouse_refuses_an_event_without_its_neighbours() {
    run(async {
        let table = create("id String, n UInt8, rid String");
        let dir = tempdir().unwrap();
        let rows =
            output(&table, "JSONEachRow&input_format_skip_unknown_fields=1") + "linger_ms = 300\n";
        let proxy = Proxy::start_with(dir.path(), &format!("{SETTINGS}{rows}"), &[KEY]);
        let client = Client::new(proxy.address);
        let event = |id: usize| match id {
            7 => r#"{"id":"e7","n":"seven"}"#.to_owned(),
            id => format!(r#"{{"id":"e{id}","n":{id}}}"#),
        };
        // Together in one insertion, which fails as a whole.
        let bodies = (0..12).map(|id| ("/v1/events", event(id).into_bytes()));
        let answers = client.post_all(bodies).await;
        for (id, answer) in answers.iter().enumerate() {
            assert_eq!(answer.status, if id == 7 { 503 } else { 200 }, "e{id}");
        }
        proxy.end_cleanly();
        let stored = query(&format!("SELECT id, n FROM {table} ORDER BY n FORMAT CSV"));
        let expected: String = (0..12)
            .filter(|id| *id != 7)
            .map(|id| format!("\"e{id}\",{id}\n"))
            .collect();
        assert_eq!(stored, expected);
    });
}

#[test]
#[ignore = "needs ClickHouse, which .ci/interop starts"]
fn a_missing_clickhouse_table_or_key_is_503() {
    run(async {
        for (table, key, cause) in [
            ("interop_none", PASSWORD, "not_found"),
            ("interop_none", "another", "denied"),
        ] {
            let dir = tempdir().unwrap();
            let settings = format!("{SETTINGS}{}", output(table, "JSONEachRow"));
            let variables = [("CLICKHOUSE_KEY", key)];
            let proxy = Proxy::start_with(dir.path(), &settings, &variables);
            let client = Client::new(proxy.address);
            assert_eq!(client.post("/v1/events", b"{}").await.status, 503);
            assert_eq!(proxy.ready_json()["troubled"]["main"], cause);
            let log = format!("{:?}", proxy.log());
            assert!(!log.contains(key), "the key is in the log");
            proxy.end_cleanly();
        }
        let url = variable("SLUICE_INTEROP_CLICKHOUSE");
        let plain = format!("[outputs.main]\ntype = \"http\"\nurl = \"{url}/\"\n");
        let found = format!("output main (http) ok: http server {url}/: answers OPTIONS with ");
        assert_check(&plain, ["test"; 2], 0, &found);
    });
}
