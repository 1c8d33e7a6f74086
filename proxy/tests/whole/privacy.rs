//! What must not be stored is nowhere: canaries planted in every part of a request, and every byte searched that
//! the process has put out.

use crate::support::client::{Client, get};
use crate::support::files::{self, all_files};
use crate::support::proxy::{Proxy, to_files};
use crate::support::wait_until;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use memchr::memmem;
use rustix::process::Signal;
use serde_json::Value;
use sluice_loadtest::kinesis;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::thread;
use std::time::Duration;
use tempfile::tempdir;

const REQUESTS: usize = 200;
const EVENTS: usize = 50;

/// No part of it may be anywhere. Its first letter is written in other ways, so it is not searched for.
const CANARY: &str = "zqcanary";

/// All that must not be found. Of networks, the rest of the address.
const NEEDLES: [&str; 10] = [
    "qcanary",
    r"\u0071\u0063\u0061\u006e",
    "%71%63%61%6e",
    "%71%63%61%6E",
    "cWNhbmFy",
    "x.example",
    "x%2eexample",
    "198.51.100.77",
    "198.51.100.78",
    "dead:beef",
];

fn escaped(text: &str) -> String {
    text.bytes().map(|byte| format!("\\u{byte:04x}")).collect()
}

fn percent_coded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn event(number: usize) -> String {
    let canary = format!("{CANARY}{number}");
    let mail = format!("{canary}@x.example");
    // A key and a value in one of three forms each.
    let (email, value) = match number % 3 {
        0 => ("email".to_owned(), mail.clone()),
        1 => (r"em\u0061il".to_owned(), escaped(&mail)),
        _ => (escaped("email"), format!("{}{}", escaped("z"), &mail[1..])),
    };
    let coded = percent_coded(&canary);
    let url = match number % 2 {
        0 => format!(
            "https://shop/p?keep=1&token={canary}&%65mail={coded}%40x%2eexample#access_token={coded}"
        ),
        _ => format!(
            r"https:\/\/shop\/p?keep=1\u0026tok%65n={canary}\u0026email={mail}#t=1\u0026access_token={canary}"
        ),
    };
    let address = match number % 4 {
        0 => r#""198.51.100.77""#.to_owned(),
        1 => r#""2001:db8:dead:beef::77""#.to_owned(),
        2 => r#"["198.51.100.77, 198.51.100.78", {"v4":"198.51.100.77"}]"#.to_owned(),
        _ => format!("\"{canary}\""),
    };
    format!(
        r#"{{"n":{number},"account":"{canary}","user":{{"{email}":"{value}","name":"kept-{number}"}},"token":["{canary}",{{"deep":"{canary}"}}],"cards":[{{"number":"{canary}","brand":"v"}},[{{"number":["{canary}",17]}}]],"secret":{{"{canary}":[true]}},"note":"abc{canary}","page":{{"url":"{url}"}},"referrers":["{url}","/plain"],"{ip}":{address},"token":"{canary}"}}"#,
        ip = if number.is_multiple_of(2) {
            "ip"
        } else {
            r"\u0069p"
        },
    )
}

/// A request with canaries in its target and in every header that there is.
fn request(line: &str, number: usize, body: &str) -> String {
    let canary = format!("{CANARY}{number}");
    let address = match number % 3 {
        0 => "198.51.100.77",
        1 => "198.51.100.77:4711, 198.51.100.78",
        _ => "2001:db8:dead:beef::77",
    };
    format!(
        "{line} HTTP/1.1\r\nHost: t\r\nUser-Agent: Mozilla {canary}\r\nCookie: id={canary}\r\n\
         Authorization: Bearer {canary}\r\nReferer: https://shop/?token={canary}\r\nX-Own: {canary}\r\n\
         X-Forwarded-For: {address}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn settings(dir: &Path, stream: SocketAddr, bucket: &str) -> String {
    format!(
        r#"
[log]
level = "debug"
[server_fields]
clash = "client"
[listeners.front]
address = "127.0.0.1:0"
proxy_protocol = "required"
addresses = "none"
[privacy]
hash_keys = ["k1:a key that nobody can guess"]
drop = ["token", "secret"]
mask = ["cards.number"]
truncate = ["note=3", "ua=7"]
hash = ["account", "user.email"]
url_fields = ["page.url", "referrers"]
drop_parameters = ["token", "access_token"]
hash_parameters = ["email"]
addresses = "truncate"
collect_unread = true
[dead_letters]
output = "letters"
[outputs.letters]
type = "file"
dir = {letters:?}
{files}
[outputs.bucket]
type = "s3"
bucket = "clicks"
prefix = "raw/"
endpoint_url = "{bucket}"
[outputs.stream]
type = "kinesis"
stream = "clicks"
endpoint_url = "http://{stream}"
partition_key = "field:account"
ack = "durable"
[outputs.stream.spool]
dir = {spool:?}
after_ms = 200
"#,
        letters = dir.join("letters"),
        files = to_files(&dir.join("data")),
        spool = dir.join("spool"),
    )
}

/// Sends everything; gives all answers.
fn send_all(proxy: &Proxy, front: SocketAddr) -> Vec<String> {
    let address = proxy.address;
    let senders = (0..4).map(|sender| {
        thread::spawn(move || {
            let mut client = Client::connect(address);
            let mut answers = Vec::new();
            for request_number in (sender..REQUESTS).step_by(4) {
                let first = request_number * EVENTS;
                let events: Vec<String> = (first..first + EVENTS).map(event).collect();
                let line = format!("POST /v1/events?token={CANARY}&email={CANARY}%40x.example");
                let body = format!("[{}]", events.join(","));
                let reply = client.ask(request(&line, request_number, &body));
                assert_eq!(reply.status, 200, "{reply:?}");
                answers.push(reply.head + &String::from_utf8_lossy(&reply.body));
            }
            answers
        })
    });
    let senders: Vec<_> = senders.collect();
    let mut answers = Vec::new();
    for sender in senders {
        answers.extend(sender.join().unwrap());
    }
    let coded = percent_coded(CANARY);
    let mut others = vec![
        format!("GET /i?e=view&token={CANARY}&em%61il={coded}&account={CANARY}&ip=198.51.100.77"),
        format!("POST /collect?appId=shop&t%6fken={coded}&fakeIp=198.51.100.77&email={CANARY}"),
        format!("POST /collect/{}?token={CANARY}", "deeper"),
    ];
    for line in others.drain(..) {
        for number in 0..3 {
            let reply = Client::connect(address).ask(request(&line, number, ""));
            assert_eq!(reply.status, 200, "{line}: {reply:?}");
        }
    }
    // Refused: what was wrong is said and logged without what was sent.
    let mut too_large = event(0);
    too_large.truncate(too_large.len() - 1);
    too_large.push_str(",\"pad\":\"");
    too_large.push_str(&"x".repeat((1 << 20) - too_large.len() - 2));
    too_large.push_str("\"}");
    for (line, body) in [
        ("POST /v1/events", too_large),
        ("POST /v1/events", format!("{{\"email\":\"{CANARY}")),
        ("POST /v1/events", format!("[\"{CANARY}\"]")),
        ("POST /v1/events", "\u{1}".to_owned() + CANARY),
        ("BREW /v1/events", CANARY.to_owned()),
        ("POST /nowhere?token=zqcanary", CANARY.to_owned()),
        ("POST /v1/events?a=\"zqcanary <", CANARY.to_owned()),
    ] {
        let mut client = Client::connect(address);
        let reply = client.ask(request(line, 0, &body));
        assert!(
            (400..500).contains(&reply.status) || reply.status == 200,
            "{reply:?}"
        );
        answers.push(reply.head + &String::from_utf8_lossy(&reply.body));
    }
    // A PROXY header names the client; here nothing of it is stored.
    let announced = "PROXY TCP4 198.51.100.77 10.0.0.1 4711 8088\r\n".to_owned();
    let mut client = Client::connect(front);
    let body = event(REQUESTS * EVENTS);
    let plain = format!(
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(client.ask(announced + &plain).status, 200);
    // Refused without one, and logged.
    let mut client = Client::connect(front);
    client.try_send(plain);
    assert!(client.try_read().is_none());
    answers
}

#[track_caller]
fn assert_clean(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for needle in NEEDLES {
        if let Some(at) = text.find(needle) {
            let from = at.saturating_sub(80);
            let around: String = text.chars().skip(from).take(200).collect();
            panic!("{what} has {needle} at {at}: {around}");
        }
    }
}

#[track_caller]
fn assert_clean_files(what: &str, dir: &Path) -> usize {
    let mut bytes = 0;
    for file in all_files(dir) {
        let contents = fs::read(&file).unwrap();
        assert_clean(&format!("{what} {file:?}"), &contents);
        bytes += contents.len();
    }
    bytes
}

/// Searches all memory that the process may write to, as a core image would have it. Gives the bytes searched, or
/// why it may not be read.
fn search_memory(pid: u32) -> std::io::Result<u64> {
    const PIECE: usize = 64 << 10;
    /// A needle may lie across the end of a piece.
    const OVERLAP: usize = 64;
    let zeroes = vec![0; PIECE + OVERLAP];
    let memory = fs::File::open(format!("/proc/{pid}/mem"))?;
    let mut searched = 0;
    for line in fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let at = |text| usize::from_str_radix(text, 16).unwrap();
        let (start, end) = (at(start), at(end));
        for at in (start..end).step_by(PIECE) {
            let mut piece = vec![0; (end - at).min(PIECE + OVERLAP)];
            // Some mappings of devices cannot be read.
            if memory.read_exact_at(&mut piece, at as u64).is_err() {
                break;
            }
            searched += piece.len() as u64;
            // Most of what an allocator has asked for was never used.
            if zeroes.starts_with(&piece) {
                continue;
            }
            for needle in ["qcanary", "x.example", "198.51.100.77", "dead:beef"] {
                let found = memmem::find(&piece, needle.as_bytes()).map(|at| {
                    let around = at.saturating_sub(60)..(at + 60).min(piece.len());
                    String::from_utf8_lossy(&piece[around])
                });
                assert_eq!(found, None, "{needle} in {line}");
            }
        }
    }
    Ok(searched)
}

/// What only larger requests meet: packed bodies, other threads, and HTTP/1.0.
fn send_large(address: SocketAddr) {
    let events: Vec<String> = (0..400).map(event).collect();
    let body = format!("[{}]", events.join(","));
    assert!(body.len() > 256 << 10);
    assert_eq!(
        Client::connect(address)
            .ask(request("POST /v1/events", 0, &body))
            .status,
        200
    );
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(body.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    let reply = Client::connect(address).ask([head.as_bytes(), &packed].concat());
    assert_eq!(reply.status, 200);
    let chunked = format!(
        "POST /v1/events HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(Client::connect(address).ask(chunked).status, 200);
}

#[test]
fn memory_after_the_last_request_holds_no_canary() {
    let dir = tempdir().unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let all = settings(dir.path(), nobody, "http://127.0.0.1:9");
    // Files alone: what comes behind the records is the subject of other tests.
    let end = all.find("[outputs.bucket]").unwrap();
    let proxy = Proxy::start(dir.path(), &all[..end]);
    let listening = proxy.said("accepting requests");
    let front = listening.iter().find(|line| line["listener"] == "front");
    let front = front.unwrap()["address"].as_str().unwrap().parse().unwrap();
    drop(send_all(&proxy, front));
    send_large(proxy.address);
    wait_until("every connection is closed", || {
        proxy.metrics().get("sluice_connections_open") == 0
    });
    // What the cores keep is wiped at their next ticks.
    thread::sleep(Duration::from_millis(300));
    match search_memory(proxy.pid()) {
        Ok(searched) => assert!(searched > 1 << 20, "{searched}"),
        Err(error) => println!("the memory of another process may not be read here: {error}"),
    }
    proxy.end_cleanly();
}

#[test]
fn ten_thousand_events_with_canaries_leave_none_anywhere() {
    // Nobody listens there until the spool was searched.
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let bucket = sluice_loadtest::s3::Emulator::start(sluice_loadtest::s3::Options::default());
    let bucket = bucket.unwrap();
    let dir = tempdir().unwrap();
    let proxy = Proxy::start(dir.path(), &settings(dir.path(), address, &bucket.url()));
    let listening = proxy.said("accepting requests");
    let front = listening.iter().find(|line| line["listener"] == "front");
    let front = front.unwrap()["address"].as_str().unwrap().parse().unwrap();
    for answer in send_all(&proxy, front) {
        assert_clean("an answer", answer.as_bytes());
    }
    let accepted = (REQUESTS * EVENTS + 3 * 3 + 1) as u64;
    let metrics = proxy.metrics();
    assert_eq!(metrics.get("sluice_events_accepted_total"), accepted);
    for (action, at_least) in [
        ("drop", 5),
        ("mask", 2),
        ("truncate", 1),
        ("hash", 4),
        ("address", 1),
    ] {
        let series = format!("sluice_privacy_values_total{{action=\"{action}\"}}");
        let found = metrics.get(&series);
        assert!(
            found >= at_least * (REQUESTS * EVENTS) as u64,
            "{series} {found}"
        );
    }

    let letters = dir.path().join("letters");
    wait_until("the letters are written", || {
        files::records(&letters).len() == 4
    });
    assert!(assert_clean_files("a letter", &letters) > 1_000_000);
    assert!(assert_clean_files("the spool", &dir.path().join("spool")) > 1_000_000);
    assert!(
        assert_clean_files("the staging directory", &dir.path().join("sluice-staging")) > 1_000
    );
    let stream = kinesis::Emulator::start(kinesis::Options {
        listen: address,
        shard_limits: false,
        ..kinesis::Options::default()
    });
    let stream = stream.unwrap();
    wait_until("the spool is empty", || {
        let metrics = proxy.metrics();
        metrics.family("sluice_spool_waiting_bytes", "stream") == 0
            && metrics.family("sluice_spool_disk_bytes", "stream") == 0
    });
    for path in ["/metrics", "/ready"] {
        let page = Client::connect(proxy.admin()).ask(get(path));
        assert_clean(path, &page.body);
    }
    let log = proxy.end_cleanly();
    assert!(log.iter().any(|line| line["level"] == "DEBUG"), "{log:?}");
    assert_clean("the log", serde_json::to_string(&log).unwrap().as_bytes());

    let records = stream.stored_records();
    assert_eq!(records.len() as u64, accepted);
    for record in &records {
        assert_clean("a record of the stream", &record.data);
        assert_clean(
            "a partition key",
            record.key.as_deref().unwrap_or("").as_bytes(),
        );
    }
    let mut objects = 0;
    for (name, key) in bucket.keys() {
        assert_clean("the key of an object", key.as_bytes());
        let packed = bucket.object(&name, &key).unwrap().unwrap();
        let mut lines = Vec::new();
        GzDecoder::new(&*packed).read_to_end(&mut lines).unwrap();
        assert_clean("an object", &lines);
        objects += lines.len();
    }
    assert!(objects > 1_000_000, "{objects}");
    assert!(assert_clean_files("the files", &dir.path().join("data")) > 1_000_000);
    check_what_is_left(&files::records(&dir.path().join("data")), accepted);
}

/// What may be stored is there, and says as much as it may.
fn check_what_is_left(records: &[Vec<u8>], accepted: u64) {
    assert_eq!(records.len() as u64, accepted);
    let record = |number: usize| -> Value {
        let name = format!("\"kept-{number}\"");
        let line = records
            .iter()
            .find(|line| String::from_utf8_lossy(line).contains(&name));
        serde_json::from_slice(line.unwrap()).unwrap()
    };
    let (first, other) = (record(0), record(3 * EVENTS));
    for hashed in [&first["account"], &first["user"]["email"]] {
        assert!(hashed.as_str().unwrap().starts_with("k1:"), "{hashed}");
    }
    assert_ne!(first["account"], other["account"]);
    assert_eq!(first["ip"], "198.51.100.0");
    assert_eq!(record(1)["ip"], "2001:db8:dead::");
    assert_eq!(record(1)["note"], "abc");
    assert_eq!(record(1)["ua"], "Mozilla");
    assert_eq!(first["cards"][0]["brand"], "v");
    assert!(
        first["page"]["url"]
            .as_str()
            .unwrap()
            .starts_with("https://shop/p?keep=1&")
    );
    let behind_proxy = record(REQUESTS * EVENTS);
    assert_eq!(behind_proxy.get("ip"), None);
}

#[test]
fn a_crash_leaves_no_core_image_with_what_was_sent() {
    let dir = tempdir().unwrap();
    let settings = to_files(&dir.path().join("data"));
    let mut proxy = Proxy::start_under(dir.path(), &settings, &[], "ulimit -c unlimited || true");
    assert_eq!(proxy.post("/v1/events", event(1)).status, 200);
    proxy.signal(Signal::ABORT);
    let status = proxy.wait(Duration::from_secs(10));
    assert!(status.signal().is_some(), "{status:?}");
    assert!(!status.core_dumped());
    let cores = all_files(dir.path());
    let is_core = |path: &&std::path::PathBuf| path.to_string_lossy().contains("core");
    assert_eq!(cores.iter().find(is_core), None);
}

#[test]
fn a_suppress_list_is_taken_while_running() {
    let dir = tempdir().unwrap();
    let list = dir.path().join("gone");
    fs::write(&list, "# nobody yet\n").unwrap();
    let settings = to_files(&dir.path().join("data"))
        + &format!(
            "[privacy]\nhash_keys = ['k1:a key that nobody can guess']\nhash = ['user']\n\
             suppress_fields = ['user']\nsuppress_file = {list:?}\ncollect_unread = true\ndnt = 'drop'\n"
        );
    let proxy = Proxy::start(dir.path(), &settings);
    let body = r#"[{"user":"u1"},{"user":"u2"}]"#;
    assert_eq!(proxy.post("/v1/events", body).status, 200);
    let stored = || files::records(&dir.path().join("data"));
    assert_eq!(stored().len(), 2);
    // An entry is what the events hold.
    let first: Value = serde_json::from_slice(&stored()[0]).unwrap();
    fs::write(&list, format!("{}\n", first["user"].as_str().unwrap())).unwrap();
    wait_until("the list is in force", || {
        proxy.metrics().get("sluice_suppress_list_entries") == 1
    });
    assert_eq!(proxy.post("/v1/events", body).status, 200);
    let dnt = "POST /v1/events HTTP/1.1\r\nHost: t\r\nDNT: 1\r\nContent-Length: 13\r\n\r\n{\"user\":\"u3\"}";
    assert_eq!(proxy.connect().ask(dnt).status, 200);
    assert_eq!(stored().len(), 3);
    let metrics = proxy.metrics();
    for (reason, events) in [("suppressed", 1), ("dnt", 1), ("gpc", 0)] {
        let series = format!("sluice_events_withheld_total{{reason=\"{reason}\"}}");
        assert_eq!(metrics.get(&series), events, "{reason}");
    }
    assert_eq!(metrics.get("sluice_events_received_total"), 5);
    assert_eq!(metrics.get("sluice_events_accepted_total"), 3);
    proxy.end_cleanly();
}
