//! The reference page is made of the declarations.

use super::load;
use sluice_core::route::rules::RULES_MAX;
use sluice_core::schema::SCHEMAS_MAX;
use sluice_proxy::config::groups::{self, GroupSettings};
use sluice_proxy::config::{LISTENER_GROUPS, OUTPUTS_MAX, SCHEMA_GROUPS, SECTIONS};
use sluice_proxy::listeners::LISTENERS_MAX;
use sluice_proxy::routing::trial::{TESTS, TESTS_MAX, TestSettings};
use sluice_proxy::routing::{ROUTES, RouteSettings};
use sluice_sinks::TYPES;
use sluice_sinks::output::{Delivery, OutputType, TYPE_SETTING, Timing};
use sluice_sinks::settings::{Kind, Setting};
use sluice_sinks::spool::SpoolSettings;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const HEAD: &str = "\
# Settings reference

A file in TOML (`--config FILE` or `SLUICE_CONFIG`). A variable `SLUICE_<SECTION>__<KEY>` overrides the file, for instance
`SLUICE_LISTEN__ADDRESS`, for outputs `SLUICE_OUTPUTS__<NAME>__<KEY>`, for listeners `SLUICE_LISTENERS__<NAME>__<KEY>`; flags
override both. An unknown key is refused with its line and the nearest names, a number out of its bounds with both, a
contradiction with both values. `sluice check` prints every setting in force. Settings are read at start.

This page is generated from the code: `UPDATE_REFERENCE=1 cargo test --workspace --test config reference` rewrites it.
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

const COLUMNS: &str = "| key | meaning | allowed | default |\n| --- | --- | --- | --- |\n";

fn row(page: &mut String, key: &str, setting: &Setting, default: &str) {
    let reload = if setting.form.is_reloadable {
        " Takes effect without a restart."
    } else {
        ""
    };
    let _ = writeln!(
        page,
        "| `{key}` | {}{reload} | {} | {default} |",
        setting.sentence.replace('|', "\\|"),
        allowed(&setting.form.kind).replace('|', "\\|"),
    );
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    sections(&mut page);
    listeners(&mut page);
    schemas(&mut page);
    outputs(&mut page);
    routes(&mut page);
    page
}

fn sections(page: &mut String) {
    let printed: toml::Table = load("").unwrap().to_toml().parse().unwrap();
    for section in SECTIONS {
        let _ = write!(
            page,
            "\n## `[{}]`\n\n{}\n\n{COLUMNS}",
            section.name, section.sentence
        );
        let all = SECTIONS.iter().flat_map(|other| {
            let settings = other.groups.iter().flat_map(|group| group.iter());
            settings.map(move |setting| (setting.path(other.name), setting))
        });
        for (path, setting) in all {
            let Some((named, key)) = path.split_once('.') else {
                panic!("{path}")
            };
            if named == section.name {
                row(
                    page,
                    key,
                    setting,
                    &default(setting, printed[named].get(key)),
                );
            }
        }
    }
}

fn listeners(page: &mut String) {
    let example = "[listeners.internal]\naddress = \"127.0.0.1:8443\"\n";
    let _ = write!(
        page,
        "\n## `[listeners.<name>]`\n\n\
         Listeners besides that of `[listen]`, up to {} of them, each with a name of 1 to 32 of a-z, 0-9, _ and -, other than\n\
         `listen`. Every worker accepts from all listeners.\n\n```toml\n{example}```\n\n{COLUMNS}",
        LISTENERS_MAX - 1
    );
    let printed: toml::Table = load(example).unwrap().to_toml().parse().unwrap();
    let printed = &printed["listeners"]["internal"];
    for setting in LISTENER_GROUPS.iter().flat_map(|group| group.iter()) {
        let default = match setting.form.needed {
            Some(_) => "none: it has to be set".to_owned(),
            None => default(setting, printed.get(setting.key)),
        };
        row(page, setting.key, setting, &default);
    }
}

fn schemas(page: &mut String) {
    let example = "[paths]\ncollect = \"off\"\n\n[routing]\nschema = \"event\"\n\n\
         [schemas.event]\nrequired = [\"type\", \"user.id\"]\n";
    let _ = write!(
        page,
        "\n## `[schemas.<name>]`\n\n\
         What events have to look like, up to {SCHEMAS_MAX} schemas, each with a name of 1 to 32 letters, digits, _ and -. `schema` of\n\
         `[[routes]]` and `[routing]` names one ([schemas](../schemas.md)).\n\n```toml\n{example}```\n\n{COLUMNS}"
    );
    let printed: toml::Table = load(example).unwrap().to_toml().parse().unwrap();
    let printed = &printed["schemas"]["event"];
    for setting in SCHEMA_GROUPS.iter().flat_map(|group| group.iter()) {
        let default = match setting.key {
            // Nobody waits for the answer.
            "attempt_timeout_ms" => "`10000`".to_owned(),
            _ => default(setting, printed.get(setting.key)),
        };
        row(page, setting.key, setting, &default);
    }
}

/// The settings of an output of this type that says no more than it must.
fn printed(of: &OutputType) -> toml::Table {
    let config = load(&example(of)).unwrap();
    let printed: toml::Table = config.to_toml().parse().unwrap();
    printed["outputs"]["main"].as_table().unwrap().clone()
}

fn example(of: &OutputType) -> String {
    format!("[outputs.main]\ntype = \"{}\"\n{}", of.name, of.example)
}

fn outputs(page: &mut String) {
    let _ = write!(
        page,
        "\n## `[outputs.<name>]`\n\n\
         Where records go: 1 to {OUTPUTS_MAX} outputs, each with a name of 1 to 32 of a-z, 0-9, _ and -. Every record goes to all of\n\
         them, unless `[[routes]]` say otherwise. Without any, there is one of type `file`, named `files`.\n\n{COLUMNS}"
    );
    row(page, TYPE_SETTING.key, &TYPE_SETTING, "none");
    let common = || Timing::SETTINGS.iter().chain(Delivery::SETTINGS);
    for setting in common() {
        // The most usual default first, then the types that differ.
        let of_types: Vec<(&str, String)> = TYPES
            .iter()
            .map(|of| (of.name, default(setting, printed(of).get(setting.key))))
            .collect();
        let count = |value: &str| of_types.iter().filter(|(_, other)| other == value).count();
        let usual = of_types.iter().max_by_key(|(_, value)| count(value));
        let usual = usual.unwrap().1.clone();
        let others = of_types.iter().filter(|(_, value)| *value != usual);
        let others: String = others
            .map(|(name, value)| format!("; {name} {value}"))
            .collect();
        row(page, setting.key, setting, &format!("{usual}{others}"));
    }
    let spooled = "[outputs.main]\ntype = \"kinesis\"\nstream = \"clicks\"\n\n\
                   [outputs.main.spool]\ndir = \"/var/lib/sluice/spool\"\n";
    let _ = write!(
        page,
        "\n## `[outputs.<name>.spool]`\n\n\
         Records on this host's disk in front of an output ([the spool](../spool.md)).\n\n```toml\n{spooled}```\n\n{COLUMNS}"
    );
    let written: toml::Table = load(spooled).unwrap().to_toml().parse().unwrap();
    let written = &written["outputs"]["main"]["spool"];
    for setting in SpoolSettings::SETTINGS {
        let value = written.get(setting.key).filter(|_| setting.key != "dir");
        row(page, setting.key, setting, &default(setting, value));
    }
    let members = "[outputs.a]\ntype = \"null\"\n\n[outputs.b]\ntype = \"null\"\n\n";
    let group = format!(
        "{members}[outputs.clicks]\ntype = \"{}\"\n{}",
        groups::TYPE,
        groups::EXAMPLE
    );
    let _ = write!(
        page,
        "\n## `type = \"{}\"`\n\n{}\n\n```toml\n{group}```\n\n{COLUMNS}",
        groups::TYPE,
        groups::SENTENCE
    );
    let written: toml::Table = load(&group).unwrap().to_toml().parse().unwrap();
    let written = &written["outputs"]["clicks"];
    for setting in GroupSettings::SETTINGS {
        let needed = setting
            .form
            .needed
            .map(|_| "none: it has to be set".to_owned());
        let default = needed.unwrap_or_else(|| default(setting, written.get(setting.key)));
        row(page, setting.key, setting, &default);
    }
    for of in TYPES {
        let _ = write!(
            page,
            "\n## `type = \"{}\"`\n\n{}\n\n```toml\n{}```\n\n{COLUMNS}",
            of.name,
            of.sentence,
            example(of)
        );
        let printed = printed(of);
        let own = of.all_settings();
        for setting in own.filter(|own| common().all(|other| other.key != own.key)) {
            let needed = setting
                .form
                .needed
                .map(|_| "none: it has to be set".to_owned());
            let default = needed.unwrap_or_else(|| default(setting, printed.get(setting.key)));
            row(page, setting.key, setting, &default);
        }
    }
}

fn routes(page: &mut String) {
    let rule = "[[routes]]\nname = \"orders\"\nwhen = { field = \"event_type\", equals = \"purchase\" }\noutputs = [\"files\"]\n";
    let test = "[[tests]]\nname = \"orders go to files\"\nevent = '{\"event_type\":\"purchase\"}'\nrules = [\"orders\"]\n";
    for (name, sentence, example, settings) in [
        (
            ROUTES,
            format!(
                "Rules that say where events go, up to {RULES_MAX}, in their order ([routing](../routing.md)). They are written in the file only."
            ),
            rule.to_owned(),
            RouteSettings::SETTINGS,
        ),
        (
            TESTS,
            format!(
                "Events, and what has to become of them, up to {TESTS_MAX}: `sluice check` tries them."
            ),
            format!("{rule}\n{test}"),
            TestSettings::SETTINGS,
        ),
    ] {
        let _ = write!(
            page,
            "\n## `[[{name}]]`\n\n{sentence}\n\n```toml\n{example}```\n\n{COLUMNS}"
        );
        let printed: toml::Table = load(&example).unwrap().to_toml().parse().unwrap();
        for setting in settings {
            let default = match setting.form.needed {
                Some(_) => "none: it has to be set".to_owned(),
                None => default(setting, printed[name][0].get(setting.key)),
            };
            row(page, setting.key, setting, &default);
        }
    }
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
    let sections = SECTIONS
        .iter()
        .flat_map(|section| section.groups.iter().flat_map(|group| group.iter()));
    let listeners = LISTENER_GROUPS.iter().flat_map(|group| group.iter());
    for setting in sections
        .chain(listeners)
        .chain(TYPES.iter().flat_map(OutputType::all_settings))
        .chain(SpoolSettings::SETTINGS)
        .chain(GroupSettings::SETTINGS)
        .chain(RouteSettings::SETTINGS)
        .chain(TestSettings::SETTINGS)
    {
        let sentence = setting.sentence;
        assert!(
            sentence.len() > 10 && sentence.ends_with('.'),
            "{}: {sentence}",
            setting.key
        );
    }
}
