//! The reference page is made of the declarations.

use super::load;
use sluice_proxy::config::{BOUNDS, SECTIONS, Scope};
use sluice_sinks::settings::{Kind, Setting};
use std::fmt::Write;
use std::fs;
use std::path::Path;

const HEAD: &str = "\
# Settings reference

Generated from the declarations in the code: `UPDATE_REFERENCE=1 cargo test -p sluice-proxy --test config reference`
rewrites it. A variable `SLUICE_<SECTION>__<KEY>` overrides the file, for instance `SLUICE_LISTEN__ADDRESS`; for
outputs it is `SLUICE_OUTPUTS__<NAME>__<KEY>`.
";

/// What may be written.
fn allowed(kind: &Kind) -> String {
    match kind {
        Kind::Number { unit, min, max } => format!("{min} to {max} {unit}"),
        Kind::Switch => "`true` or `false`".to_owned(),
        Kind::Word { expected } | Kind::Text { expected, .. } => (*expected).to_owned(),
        Kind::List {
            unit,
            max,
            expected,
            ..
        } => format!("up to {max} {unit}: {expected}"),
        Kind::Secret => "a text, never shown".to_owned(),
    }
}

fn default(setting: &Setting, value: Option<&toml::Value>) -> String {
    match (setting.form.default_note, value) {
        (Some(note), _) => note.to_owned(),
        (None, Some(value)) => format!("`{value}`"),
        (None, None) => "none".to_owned(),
    }
}

fn page() -> String {
    let printed: toml::Table = load("").unwrap().to_toml().parse().unwrap();
    let mut page = HEAD.to_owned();
    for section in SECTIONS {
        let _ = write!(
            page,
            "\n## `[{}]`\n\n{}\n\n",
            section.name, section.sentence
        );
        page.push_str("| key | meaning | allowed | default |\n| --- | --- | --- | --- |\n");
        let all = SECTIONS.iter().flat_map(|other| {
            let settings = other.groups.iter().flat_map(|group| group.iter());
            settings.map(move |setting| (setting.path(other.name), setting))
        });
        for (path, setting) in all {
            let Some((named, key)) = path.split_once('.') else {
                panic!("{path}")
            };
            if named != section.name {
                continue;
            }
            let value = printed[named].get(key);
            let reload = if setting.form.is_reloadable {
                " Takes effect without a restart."
            } else {
                ""
            };
            let _ = writeln!(
                page,
                "| `{key}` | {}{reload} | {} | {} |",
                setting.sentence.replace('|', "\\|"),
                allowed(&setting.form.kind),
                default(setting, value),
            );
        }
    }
    page.push_str(
        "\n## Numbers of `[outputs.<name>]`\n\n| key | outputs | allowed |\n| --- | --- | --- |\n",
    );
    for bound in BOUNDS {
        let outputs = match bound.scope {
            Scope::Output => "all".to_owned(),
            Scope::OutputOf(sink) => format!("`type = \"{sink}\"`"),
            Scope::EnqueuedOutput => "`ack = \"enqueued\"`".to_owned(),
        };
        let _ = writeln!(
            page,
            "| `{}` | {outputs} | {} to {} {} |",
            bound.key, bound.min, bound.max, bound.unit
        );
    }
    page
}

#[test]
fn the_reference_page_is_made_of_the_declarations() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/config.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, page()).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap();
    assert!(
        committed == page(),
        "stale: run this test with UPDATE_REFERENCE=1"
    );
}

#[test]
fn every_setting_says_what_it_means() {
    for setting in SECTIONS
        .iter()
        .flat_map(|section| section.groups.iter().flat_map(|group| group.iter()))
    {
        let sentence = setting.sentence;
        assert!(
            sentence.len() > 10 && sentence.ends_with('.'),
            "{}: {sentence}",
            setting.key
        );
    }
}
