//! The architecture rules: which crate may use what, and where `unsafe` may stand. Reads the manifests and
//! sources of the workspace, and fails on the first wrong arrow, so that the design stays a fact.

// Helpers of tests stand outside of test functions here; they may panic like those.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "architecture/proofs.rs"]
mod proofs;
#[path = "architecture/source.rs"]
mod source;

use source::{Token, paths, tokens, without_tests};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use toml::Table;

/// What one member of the workspace may depend on.
struct Module {
    /// Its directory.
    dir: &'static str,
    /// Members that it may use.
    ours: &'static [&'static str],
    /// Members that its tests may use besides.
    ours_in_tests: &'static [&'static str],
    /// Third-party crates that it must not use, in tests either; a name ending in `*` stands for all
    /// that begin so.
    never: &'static [&'static str],
    /// Whether a fenced module of it may have `unsafe`. Its roots cannot forbid it then: they are left
    /// with the `deny` of the workspace's lints. All other roots must forbid it.
    has_fence: bool,
}

const MODULES: [Module; 5] = [
    Module {
        dir: "core",
        ours: &[],
        ours_in_tests: &[],
        never: &[],
        has_fence: true,
    },
    Module {
        dir: "sinks",
        ours: &["sluice-core"],
        ours_in_tests: &["sluice-loadtest"],
        never: &["monoio*", "hyper", "axum*", "clap", "toml"],
        has_fence: false,
    },
    Module {
        dir: "proxy",
        ours: &["sluice-core", "sluice-sinks"],
        ours_in_tests: &["sluice-loadtest"],
        never: &[],
        has_fence: true,
    },
    Module {
        dir: "bench-harness",
        ours: &["sluice-core", "sluice-sinks"],
        ours_in_tests: &[],
        never: &[],
        has_fence: false,
    },
    Module {
        dir: "loadtest",
        ours: &[],
        ours_in_tests: &[],
        never: &[],
        has_fence: false,
    },
];

/// All that core may be built with: nothing that waits, listens, logs, draws lots or knows a wire.
const CORE_MAY_USE: [&str; 23] = [
    "ahash",
    "atomic-waker",
    "base64-simd",
    "brotli-decompressor",
    "bytes",
    "crc32fast",
    "crossbeam-channel",
    "crossbeam-queue",
    "flate2",
    "foldhash",
    "hmac",
    "itoa",
    "libdeflater",
    "md-5",
    "memchr",
    "sha2",
    "simd-json",
    "simdutf8",
    "snap",
    "thiserror",
    "xxhash-rust",
    "zlib-rs",
    "zstd",
];

/// The names of all sinks, of which none may know another.
fn sinks() -> impl Iterator<Item = &'static str> {
    sluice_sinks::TYPES.iter().map(|of| of.name)
}

/// Modules of the listener from the bottom up; the modules of one floor do not know each other.
const LISTENER_FLOORS: [&[&str]; 4] = [&["runtime"], &["net"], &["http"], &["worker"]];

/// Of `std::net`, what only says where something is.
const ADDRESSES: [&str; 7] = [
    "AddrParseError",
    "IpAddr",
    "Ipv4Addr",
    "Ipv6Addr",
    "SocketAddr",
    "SocketAddrV4",
    "SocketAddrV6",
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_path_buf()
}

fn manifest(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    text.parse()
        .unwrap_or_else(|error| panic!("{path:?}: {error}"))
}

/// The Rust files under a directory, as paths from the workspace.
fn sources(under: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(under).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                sources(&path, found);
            }
        } else if name.ends_with(".rs") {
            let relative = path.strip_prefix(workspace()).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            found.push((relative.to_string_lossy().into_owned(), text));
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for module in &MODULES {
        sources(&workspace().join(module.dir), &mut found);
    }
    found
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

/// The packages that a manifest names, with whether only tests get them.
fn dependencies(manifest: &Table, root: &Table) -> BTreeSet<(String, bool)> {
    let renamed = |table: Option<&Table>, name: &str| -> Option<String> {
        let package = table?.get(name)?.get("package")?.as_str()?;
        Some(package.to_owned())
    };
    let shared = root
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(toml::Value::as_table);
    let targets = manifest
        .get("target")
        .and_then(toml::Value::as_table)
        .into_iter()
        .flat_map(Table::values)
        .filter_map(toml::Value::as_table);
    let mut found = BTreeSet::new();
    for part in std::iter::once(manifest).chain(targets) {
        for (section, in_tests) in [
            ("dependencies", false),
            ("build-dependencies", false),
            ("dev-dependencies", true),
        ] {
            let table = part.get(section).and_then(toml::Value::as_table);
            for name in table.into_iter().flat_map(Table::keys) {
                let package = renamed(table, name)
                    .or_else(|| renamed(shared, name))
                    .unwrap_or_else(|| name.clone());
                found.insert((package, in_tests));
            }
        }
    }
    found
}

/// Wrong arrows of one manifest.
fn manifest_faults(module: &Module, manifest: &Table, root: &Table) -> Vec<String> {
    let mut wrong = Vec::new();
    for (package, in_tests) in dependencies(manifest, root) {
        let is_ours = package.starts_with("sluice-");
        let allowed = module.ours.contains(&package.as_str())
            || (in_tests && module.ours_in_tests.contains(&package.as_str()));
        let never = module
            .never
            .iter()
            .any(|name| match name.strip_suffix('*') {
                Some(prefix) => package.starts_with(prefix),
                None => package == *name,
            });
        let foreign_to_core =
            module.dir == "core" && !in_tests && !CORE_MAY_USE.contains(&package.as_str());
        if (is_ours && !allowed) || never || foreign_to_core {
            wrong.push(format!("{} must not depend on {package}", module.dir));
        }
    }
    let inherits = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool);
    if inherits != Some(true) {
        wrong.push(format!(
            "{} does not take the workspace's lints",
            module.dir
        ));
    }
    wrong
}

/// Whether a path lies in a module: its file, or the directory beside it.
fn is_in(file: &str, module: &str) -> bool {
    file.strip_prefix(module)
        .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// The path from the root of the crate, if it is one, with `crate` and `super` resolved.
fn from_root<'a>(file: &str, path: &[&'a str]) -> Option<Vec<&'a str>> {
    let supers = path.iter().take_while(|part| **part == "super").count();
    if path.first() == Some(&"crate") {
        return Some(path[1..].to_vec());
    }
    let mut modules: Vec<&str> = file.split_once("/src/")?.1.split('/').collect();
    // `a/b.rs` is the module `a::b`: one `super` leads to `a`, two to the root.
    let is_root = matches!(modules.last(), Some(&("lib.rs" | "main.rs" | "mod.rs")));
    if is_root {
        modules.pop();
    }
    (supers > 0 && supers == modules.len()).then(|| path[supers..].to_vec())
}

/// Why a source outside of tests must not name a path, if it must not.
fn arrow_fault(file: &str, path: &[&str]) -> Option<&'static str> {
    let first = *path.first()?;
    let second = path.get(1).copied().unwrap_or("");
    let own = from_root(file, path);
    let own = own.as_deref().and_then(<[_]>::first).copied();
    if file.starts_with("core/src/") {
        let clock = path.ends_with(&["Instant", "now"]) || path.ends_with(&["SystemTime", "now"]);
        if clock {
            return Some("core reads no clock: time is an argument");
        }
        if path.last() == Some(&"RandomState") {
            return Some("core draws no lots: random numbers are arguments");
        }
        if first == "std" {
            match second {
                "fs" | "thread" | "env" | "process" => {
                    return Some("core does no I/O, starts no thread and reads no environment");
                }
                "net" if !path.get(2).is_some_and(|name| ADDRESSES.contains(name)) => {
                    return Some("of std::net, core knows addresses only");
                }
                "" | "*" => return Some("std under another name hides what core uses of it"),
                _ => {}
            }
        }
        for (machine, other) in [("pipeline", "delivery"), ("delivery", "pipeline")] {
            if is_in(file, &format!("core/src/{machine}")) && own == Some(other) {
                return Some("pipeline and delivery meet in record and ack only");
            }
        }
    }
    if file.starts_with("sinks/src/") {
        let inside = sinks().find(|sink| is_in(file, &format!("sinks/src/{sink}")));
        if let (Some(inside), Some(other)) = (inside, own)
            && other != inside
            && sinks().any(|sink| sink == other)
        {
            return Some("no sink knows another");
        }
        if path.starts_with(&["hyper_util", "server"]) {
            return Some("sinks are clients: nothing of theirs listens");
        }
    }
    if file.starts_with("proxy/src/") {
        let in_any = |modules: &[&str]| {
            modules
                .iter()
                .any(|module| is_in(file, &format!("proxy/src/{module}")))
        };
        if ["hyper", "hyper_util", "http_body_util"].contains(&first) && !in_any(&["http", "admin"])
        {
            return Some("hyper stays in http and admin");
        }
        if ["serde", "serde_json", "toml"].contains(&first) && !in_any(&["config", "schemas"]) {
            return Some("file formats stay in config and schemas");
        }
        if ["aws_lc_rs", "rustls", "x509_parser"].contains(&first) && !in_any(&["net/tls"]) {
            return Some("cryptography and certificates stay in net::tls");
        }
        let concrete = first == "sluice_sinks" && sinks().any(|sink| sink == second);
        if (first.starts_with("aws_") && first != "aws_lc_rs") || concrete {
            return Some("the program knows sinks by their list of types only");
        }
        // Floors of the listener, lowest first; a module may use its own floor's and lower ones only.
        let floor = |name: &str| {
            LISTENER_FLOORS
                .iter()
                .position(|floor| floor.contains(&name))
        };
        let here = LISTENER_FLOORS
            .iter()
            .flat_map(|floor| floor.iter())
            .find(|module| in_any(&[module]));
        if let (Some(here), Some(other)) = (here, own)
            && *here != other
            && floor(other) >= floor(here)
            && floor(other).is_some()
        {
            return Some("worker uses http, http uses net, net uses runtime: never the other way");
        }
    }
    None
}

/// Wrong arrows of one source.
fn arrow_faults(file: &str, tokens: &[Token]) -> Vec<String> {
    paths(tokens)
        .iter()
        .filter_map(|named| {
            let path: Vec<&str> = named.path.iter().map(String::as_str).collect();
            let why = arrow_fault(file, &path)?;
            Some(format!("{file}:{}: {}: {why}", named.line, path.join("::")))
        })
        .collect()
}

/// The files of modules that only tests have.
fn test_files(file: &str, modules: &[String]) -> Vec<String> {
    let (dir, name) = file.rsplit_once('/').unwrap();
    let stem = name.strip_suffix(".rs").unwrap();
    let dir = match stem {
        "lib" | "main" | "mod" => dir.to_owned(),
        stem => format!("{dir}/{stem}"),
    };
    modules.iter().map(|name| format!("{dir}/{name}")).collect()
}

/// Whether `unsafe` may stand in a file.
fn is_fenced(file: &str) -> bool {
    is_in(file, "core/src/json/simd")
        || ["proxy/src/scheduling.rs", "proxy/src/wiping.rs"].contains(&file)
}

fn lines_of_unsafe(tokens: &[Token]) -> Vec<usize> {
    let found = tokens.iter().filter(|token| token.text == "unsafe");
    found.map(|token| token.line).collect()
}

/// Whether an inner attribute forbids `unsafe_code`.
fn forbids_unsafe(tokens: &[Token]) -> bool {
    const BEGIN: [&str; 5] = ["#", "!", "[", "forbid", "("];
    tokens.windows(BEGIN.len()).enumerate().any(|(at, window)| {
        let begins = window
            .iter()
            .zip(BEGIN)
            .all(|(token, mark)| token.text == mark);
        let lints = tokens[at + BEGIN.len()..]
            .iter()
            .take_while(|token| token.text != ")");
        begins && lints.into_iter().any(|token| token.text == "unsafe_code")
    })
}

/// Whether a file is the root of a library or a program.
fn is_root(file: &str) -> bool {
    let inside = file.split_once("/src/").map_or("", |(_, inside)| inside);
    inside == "lib.rs"
        || inside == "main.rs"
        || inside
            .strip_prefix("bin/")
            .is_some_and(|name| !name.contains('/') || name.ends_with("/main.rs"))
}

#[test]
fn every_member_of_the_workspace_has_a_room() {
    let root = manifest(&workspace().join("Cargo.toml"));
    let members: BTreeSet<&str> = root["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    assert_eq!(members, MODULES.iter().map(|module| module.dir).collect());
    assert_eq!(
        root["workspace"]["lints"]["rust"]["unsafe_code"].as_str(),
        Some("deny")
    );
}

#[test]
fn manifests_have_no_wrong_arrow() {
    let root = manifest(&workspace().join("Cargo.toml"));
    let mut wrong = Vec::new();
    for module in &MODULES {
        let path = workspace().join(module.dir).join("Cargo.toml");
        wrong.extend(manifest_faults(module, &manifest(&path), &root));
    }
    assert_none(&wrong);
}

#[test]
fn sources_have_no_wrong_arrow() {
    let read: Vec<(String, Vec<Token>, Vec<String>)> = all_sources()
        .iter()
        .map(|(file, text)| {
            let (kept, modules) = without_tests(&tokens(text));
            (file.clone(), kept, test_files(file, &modules))
        })
        .collect();
    let in_tests: Vec<&String> = read.iter().flat_map(|(.., files)| files).collect();
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (file, tokens, _) in &read {
        if !in_tests.iter().any(|module| is_in(file, module)) {
            seen += 1;
            wrong.extend(arrow_faults(file, tokens));
        }
    }
    assert!(seen > MODULES.len(), "only {seen} sources were found");
    assert_none(&wrong);
}

#[test]
fn unsafe_stands_inside_the_fence_only() {
    let mut wrong = Vec::new();
    for (file, text) in all_sources() {
        for line in lines_of_unsafe(&tokens(&text)) {
            if !is_fenced(&file) {
                wrong.push(format!("{file}:{line}: unsafe outside the fence"));
            }
        }
    }
    assert_none(&wrong);
}

#[test]
fn every_root_without_a_fence_forbids_unsafe() {
    let mut wrong = Vec::new();
    for (file, text) in all_sources().iter().filter(|(file, _)| is_root(file)) {
        let module = MODULES
            .iter()
            .find(|module| file.starts_with(&format!("{}/", module.dir)))
            .unwrap();
        if !module.has_fence && !forbids_unsafe(&tokens(text)) {
            wrong.push(format!("{file} lacks #![forbid(unsafe_code)]"));
        }
    }
    assert_none(&wrong);
}

/// Why a snippet in this file would fail.
fn snippet(file: &str, text: &str) -> Vec<String> {
    arrow_faults(file, &without_tests(&tokens(text)).0)
}

#[test]
fn wrong_arrows_in_sources_are_found() {
    for (file, text) in [
        ("core/src/a.rs", "use std::{collections::HashMap, fs};"),
        ("core/src/a.rs", "use std::net::{IpAddr, TcpStream};"),
        ("core/src/a.rs", "use std::net;"),
        ("core/src/a.rs", "fn f() { ::std::thread::spawn(|| ()); }"),
        ("core/src/a.rs", "use std as s;"),
        ("core/src/a.rs", "use std::{self, mem};"),
        (
            "core/src/a.rs",
            "use std::time; fn f() { time::Instant::now(); }",
        ),
        ("core/src/json/a.rs", "fn f() { SystemTime::now(); }"),
        (
            "core/src/a.rs",
            "use std::collections::hash_map::RandomState;",
        ),
        ("core/src/a.rs", "m! { let x = std::env::var(\"a\"); }"),
        ("core/src/pipeline.rs", "use crate::delivery::Action;"),
        ("core/src/pipeline.rs", "use super::{ack, delivery};"),
        ("core/src/delivery/a.rs", "use super::super::pipeline;"),
        ("sinks/src/kinesis.rs", "use crate::{aws, kafka};"),
        ("sinks/src/file/rotate.rs", "use super::super::null::X;"),
        ("proxy/src/ingest.rs", "fn f(r: hyper::Request<()>) {}"),
        ("sinks/src/aws.rs", "use hyper_util::server::conn::auto;"),
        ("proxy/src/net/tls.rs", "use hyper_util::rt::TokioIo;"),
        ("proxy/src/net/tls.rs", "use aws_sdk_kinesis::Client;"),
        ("proxy/src/http/conn.rs", "use rustls::ServerConnection;"),
        ("proxy/src/ingest.rs", "use aws_lc_rs::rand;"),
        (
            "proxy/src/cli.rs",
            "#[derive(serde::Deserialize)] struct A;",
        ),
        ("proxy/src/httpd.rs", "use hyper;"),
        ("proxy/src/outputs.rs", "use aws_sdk_kinesis::Client;"),
        ("proxy/src/net/listener.rs", "use crate::worker::TICK;"),
        ("proxy/src/net.rs", "use crate::http::HttpLimits;"),
        ("proxy/src/http/conn.rs", "use crate::worker::Workers;"),
        ("proxy/src/runtime/context.rs", "use crate::net::listener;"),
        ("proxy/src/runtime.rs", "use crate::http::Head;"),
        (
            "proxy/src/outputs.rs",
            "use sluice_sinks::{sink::Sink, file::FileSink};",
        ),
    ] {
        assert_eq!(snippet(file, text).len(), 1, "{file}: {text}");
    }
}

#[test]
fn right_arrows_tests_comments_and_strings_are_left_alone() {
    for (file, text) in [
        (
            "core/src/a.rs",
            "use std::net::{IpAddr, SocketAddr}; use std::mem;",
        ),
        (
            "core/src/a.rs",
            "// std::fs::read\nconst A: &str = \"std::fs\";",
        ),
        ("core/src/a.rs", "#[cfg(test)] mod tests { use std::fs; }"),
        ("core/src/a.rs", "fn f(now: Instant) { now.elapsed() }"),
        ("core/src/pipeline.rs", "use crate::record::Record;"),
        ("core/src/a.rs", "use crate::{delivery, pipeline};"),
        ("core/tests/a.rs", "use std::fs;"),
        ("sinks/src/kinesis.rs", "use crate::{aws, sink::Sink};"),
        ("sinks/src/kinesis/a.rs", "use super::file;"),
        ("sinks/src/lib.rs", "pub mod kafka; use kafka::A;"),
        ("sinks/src/aws.rs", "use hyper_util::client::legacy::Error;"),
        ("proxy/src/http/conn.rs", "use hyper::Request;"),
        ("proxy/src/admin.rs", "use hyper::Request;"),
        ("proxy/src/config/file.rs", "use toml::de::DeTable;"),
        ("proxy/src/ingest.rs", "use crate::http::Request;"),
        (
            "proxy/src/net/listener.rs",
            "use crate::runtime::context::TICK;",
        ),
        (
            "proxy/src/worker/pinning.rs",
            "use crate::net::{bind, listener};",
        ),
        (
            "proxy/src/http/conn.rs",
            "use crate::runtime::sockets::Stream;",
        ),
        ("proxy/src/net/tls/tickets.rs", "use aws_lc_rs::aead::Aad;"),
        ("proxy/src/app.rs", "use sluice_sinks::TYPES;"),
        ("proxy/src/outputs.rs", "use sluice_sinks::sink::Sink;"),
    ] {
        assert_eq!(snippet(file, text), Vec::<String>::new(), "{file}: {text}");
    }
}

#[test]
fn wrong_arrows_in_manifests_are_found() {
    let root: Table = "[workspace.dependencies]\nplain = { package = 'tokio', version = '1' }"
        .parse()
        .unwrap();
    let faults = |dir: &str, text: &str| {
        let module = MODULES.iter().find(|module| module.dir == dir).unwrap();
        let text = format!("[lints]\nworkspace = true\n{text}");
        manifest_faults(module, &text.parse().unwrap(), &root)
    };
    for (dir, text) in [
        ("core", "[dependencies]\ntokio = '1'"),
        ("core", "[dependencies]\nplain.workspace = true"),
        (
            "core",
            "[dependencies]\nbytes = { package = 'hyper', version = '1' }",
        ),
        ("core", "[target.'cfg(unix)'.dependencies]\nlibc = '0.2'"),
        ("core", "[build-dependencies]\ncc = '1'"),
        ("core", "[dev-dependencies]\nsluice-sinks.workspace = true"),
        ("sinks", "[dependencies]\nmonoio-compat = '1'"),
        ("sinks", "[dependencies]\nsluice-proxy.workspace = true"),
        ("sinks", "[dependencies]\nsluice-loadtest.workspace = true"),
        ("proxy", "[dependencies]\nsluice-loadtest.workspace = true"),
        (
            "bench-harness",
            "[dev-dependencies]\nsluice-proxy.workspace = true",
        ),
        (
            "loadtest",
            "[dev-dependencies]\nsluice-core.workspace = true",
        ),
    ] {
        assert_eq!(faults(dir, text).len(), 1, "{dir}: {text}");
    }
    for (dir, text) in [
        (
            "core",
            "[dependencies]\nbytes = '1'\n[dev-dependencies]\nserde_json = '1'",
        ),
        (
            "sinks",
            "[dev-dependencies]\nsluice-loadtest.workspace = true",
        ),
        (
            "proxy",
            "[dependencies]\nsluice-sinks.workspace = true\nhyper = '1'",
        ),
        ("loadtest", "[dependencies]\ntokio = '1'"),
    ] {
        assert_eq!(faults(dir, text), Vec::<String>::new(), "{dir}: {text}");
    }
    let bare = manifest_faults(&MODULES[0], &Table::new(), &root);
    assert_eq!(bare, ["core does not take the workspace's lints"]);
}

#[test]
fn the_fence_is_where_it_should_be() {
    for file in [
        "core/src/json/simd/avx2.rs",
        "core/src/json/simd.rs",
        "proxy/src/scheduling.rs",
    ] {
        assert!(is_fenced(file), "{file}");
    }
    for file in [
        "core/src/json/simd_like.rs",
        "core/src/json.rs",
        "core/tests/simd.rs",
        "proxy/src/http.rs",
        "proxy/src/http/io.rs",
        "sinks/src/file.rs",
    ] {
        assert!(!is_fenced(file), "{file}");
    }
    assert_eq!(
        lines_of_unsafe(&tokens("// unsafe\nunsafe {}\n\"unsafe\";\nunsafe_code")),
        [2]
    );
}

#[test]
fn a_root_without_the_attribute_is_found() {
    let forbids = |text: &str| forbids_unsafe(&tokens(text));
    assert!(forbids("//! A.\n#![forbid(unsafe_code)]"));
    assert!(forbids("#![forbid(missing_docs, unsafe_code)]"));
    assert!(!forbids("#![deny(unsafe_code)]"));
    assert!(!forbids("// #![forbid(unsafe_code)]"));
    assert!(!forbids(
        "#![forbid(missing_docs)] fn f(unsafe_code: u8) {}"
    ));
    assert!(!forbids("#[forbid(unsafe_code)] mod a;"));
    for (file, expected) in [
        ("core/src/lib.rs", true),
        ("proxy/src/main.rs", true),
        ("loadtest/src/bin/a.rs", true),
        ("loadtest/src/bin/a/main.rs", true),
        ("loadtest/src/bin/a/b.rs", false),
        ("core/src/json/lib.rs", false),
        ("core/tests/main.rs", false),
    ] {
        assert_eq!(is_root(file), expected, "{file}");
    }
}
