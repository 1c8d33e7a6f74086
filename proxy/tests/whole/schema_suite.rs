//! JSON-Schema-Test-Suite, the required part of draft 2020-12, through the running proxy: an event is rejected if and
//! only if the suite calls its instance invalid.

use crate::support::proxy::{Proxy, to_files};
use serde_json::{Map, Value, json};
use sluice_proxy::config::{Config, Flags};
use sluice_proxy::host_info::HostInfo;
use sluice_proxy::schemas::SchemaSet;
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::tempdir;

/// Where the suite is; `.ci/schemas` sets it.
const SUITE: &str = "JSON_SCHEMA_TEST_SUITE";

/// What remote references begin with.
const REMOTES: &str = "http://localhost:1234/";

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Schemas of one run, each with a rule.
const CHUNK: usize = 64;

/// Cases that fail, as `file: group: test`, or `file: group` for a schema that is refused; and why.
const KNOWN: &[(&str, &str)] = &[];

struct Group {
    name: String,
    /// The schema of an event whose member `instance` is the instance.
    schema: Value,
    tests: Vec<Value>,
}

/// A schema that demands `schema` of the member `instance`.
fn around(schema: &Value, number: usize) -> Value {
    let Value::Object(members) = schema else {
        return json!({ "properties": { "instance": schema } });
    };
    let text = schema.to_string();
    let refers = ["\"$ref\"", "\"$id\"", "\"$dynamic", "\"$anchor\""];
    let is_usual = members
        .get("$schema")
        .is_none_or(|dialect| dialect == DIALECT);
    if is_usual && !refers.iter().any(|key| text.contains(key)) {
        return json!({ "properties": { "instance": schema } });
    }
    let mut inside = members.clone();
    // A resource of its own: what it refers to in itself stays where it was.
    let id = inside
        .entry("$id")
        .or_insert_with(|| format!("https://case.example/{number}.json").into())
        .clone();
    let mut around = Map::new();
    around.insert(
        "properties".to_owned(),
        json!({ "instance": { "$ref": id } }),
    );
    around.insert("$defs".to_owned(), json!({ "case": inside }));
    Value::Object(around)
}

fn groups(suite: &Path) -> Vec<Group> {
    let mut files: Vec<PathBuf> = fs::read_dir(suite.join("tests/draft2020-12"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort_unstable();
    let mut groups = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let file = file.file_stem().unwrap().to_string_lossy().into_owned();
        for group in serde_json::from_str::<Vec<Value>>(&text).unwrap() {
            let description = group["description"].as_str().unwrap();
            groups.push(Group {
                name: format!("{file}: {description}"),
                schema: around(&group["schema"], groups.len()),
                tests: group["tests"].as_array().unwrap().clone(),
            });
        }
    }
    groups
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        } else if !path.ends_with("draft2020-12") && from.ends_with("remotes") {
            // Other versions of JSON Schema.
        } else {
            copy(&path, &to.join(path.file_name().unwrap()));
        }
    }
}

/// The settings of these schemas: the event's member `case` says which it has.
fn settings(dir: &Path, groups: &[&(usize, Group)]) -> String {
    let mut text = "paths.collect = 'off'\n".to_owned();
    for (number, group) in groups {
        let file = dir.join(format!("{number}.json"));
        fs::write(&file, group.schema.to_string()).unwrap();
        text += &format!(
            "[schemas.s{number}]\nmode = 'reject'\nfile = {file:?}\ndir = {:?}\nbase_uri = '{REMOTES}'\n\
             [[routes]]\nname = 'r{number}'\nwhen = {{ field = 'case', equals = '{number}' }}\n\
             outputs = ['main']\nschema = 's{number}'\n",
            dir.join("remotes"),
        );
    }
    text
}

/// Why a schema is refused, if it is.
fn refusal(dir: &Path, group: &(usize, Group)) -> Option<String> {
    let text = settings(dir, &[group]) + &to_files(&dir.join("data"));
    let file = dir.join("one.toml");
    fs::write(&file, text).unwrap();
    let config = Config::load(Some(&file), [], &Flags::default(), HostInfo::detect()).unwrap();
    let loaded = SchemaSet::load(&config.schemas, &config.routing);
    loaded.err().map(|error| error.to_string())
}

#[test]
#[ignore = "needs JSON-Schema-Test-Suite, see .ci/schemas"]
fn the_required_part_of_draft_2020_12_is_green() {
    let suite = PathBuf::from(env::var(SUITE).unwrap());
    let dir = tempdir().unwrap();
    copy(&suite.join("remotes"), &dir.path().join("remotes"));
    let has_all = cfg!(feature = "json-schema");
    let (mut passed, mut beyond) = (0, 0);
    let mut failed = BTreeSet::new();
    let mut groups: Vec<(usize, Group)> = groups(&suite).into_iter().enumerate().collect();
    groups.retain(|group| match refusal(dir.path(), group) {
        None => true,
        Some(why) if !has_all && why.contains("is not built in") => {
            beyond += group.1.tests.len();
            false
        }
        Some(why) => {
            println!("{} is refused: {why}", group.1.name);
            failed.insert(group.1.name.clone());
            false
        }
    });
    for chunk in groups.chunks(CHUNK) {
        let chunk: Vec<_> = chunk.iter().collect();
        let run = tempdir().unwrap();
        let data = to_files(&run.path().join("data"));
        let proxy = Proxy::start(run.path(), &(settings(dir.path(), &chunk) + &data));
        for (number, group) in &chunk {
            for test in &group.tests {
                let event = json!({ "case": number.to_string(), "instance": test["data"] });
                let answer = proxy.post("/v1/events", event.to_string());
                let is_valid = match answer.status {
                    200 => true,
                    422 => false,
                    other => panic!("{other} for {event}"),
                };
                match test["valid"].as_bool() == Some(is_valid) {
                    true => passed += 1,
                    false => {
                        let description = test["description"].as_str().unwrap();
                        failed.insert(format!("{}: {description}", group.name));
                    }
                }
            }
        }
        proxy.end_cleanly();
    }
    println!(
        "{passed} cases pass, {} fail, {beyond} are not built in",
        failed.len()
    );
    let known = KNOWN
        .iter()
        .filter(|_| has_all)
        .map(|(name, _)| (*name).to_owned());
    assert_eq!(failed, known.collect());
    assert!(passed > if has_all { 1_000 } else { 300 }, "{passed}");
}
