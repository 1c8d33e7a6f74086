//! The configuration file: TOML, as a tree of values with their lines.

use super::error::ConfigError;
use super::known::{self, Unknown};
use sluice_sinks::settings::{Origin, Tree, Value};
use std::path::Path;
use toml::de::{DeArray, DeTable, DeValue};

/// Reads a file's text. Types are left to the settings; keys are not.
pub(super) fn parse(path: &Path, text: &str) -> Result<Tree, ConfigError> {
    let syntax = |line: usize, message: String| ConfigError::Syntax {
        file: path.to_path_buf(),
        line,
        message,
    };
    let root = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        syntax(line(text, at), error.message().trim_end().to_owned())
    })?;
    let mut found = Found {
        text,
        tree: Tree::default(),
        unknown: Vec::new(),
    };
    found.sections(root.get_ref());
    // TOML's tables have no order; the first mistake in the file is reported.
    match found.unknown.into_iter().min_by_key(|(line, _)| *line) {
        Some((line, unknown)) => Err(syntax(line, unknown.to_string())),
        None => Ok(found.tree),
    }
}

struct Found<'a> {
    text: &'a str,
    tree: Tree,
    unknown: Vec<(usize, Unknown)>,
}

impl Found<'_> {
    fn sections(&mut self, root: &DeTable<'_>) {
        for (name, value) in root {
            let at = line(self.text, name.span().start);
            let name: &str = name.get_ref();
            match value.get_ref() {
                DeValue::Table(sections) if known::NAMED.contains(&name) => {
                    self.named(name, sections);
                }
                DeValue::Table(table) if known::is_section(name) => self.keys(name, table),
                DeValue::Array(tables) if known::ARRAYS.contains(&name) => {
                    self.array(name, tables, at);
                }
                _ => self.unknown.push((at, known::unknown_section(name))),
            }
        }
    }

    /// The sections of outputs, of listeners, or of schemas.
    fn named(&mut self, section: &str, sections: &DeTable<'_>) {
        for (name, value) in sections {
            let at = line(self.text, name.span().start);
            let name: &str = name.get_ref();
            match value.get_ref() {
                DeValue::Table(table) => {
                    let names = match section {
                        known::LISTENERS => &mut self.tree.listeners,
                        known::SCHEMAS => &mut self.tree.schemas,
                        _ => &mut self.tree.outputs,
                    };
                    names.insert(name.to_owned());
                    self.keys(&format!("{section}.{name}"), table);
                }
                _ => self.unknown.push((at, known::unknown_key(section, name))),
            }
        }
    }

    /// The sections of an array of tables.
    fn array(&mut self, name: &str, tables: &DeArray<'_>, at: usize) {
        self.tree.counts.insert(name.to_owned(), tables.len());
        for (number, table) in tables.iter().enumerate() {
            match table.get_ref() {
                DeValue::Table(table) => self.keys(&format!("{name}.{number}"), table),
                _ => self.unknown.push((at, known::unknown_key(name, "a value"))),
            }
        }
    }

    fn keys(&mut self, section: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let at = line(self.text, key.span().start);
            let key: &str = key.get_ref();
            let nested = format!("{section}.{key}");
            if known::is_spool(&nested)
                && let DeValue::Table(table) = value.get_ref()
            {
                self.keys(&nested, table);
            } else if known::has_key(section, key) {
                let value = neutral(value.get_ref());
                self.tree
                    .set(format!("{section}.{key}"), value, Origin::Line(at));
            } else {
                self.unknown.push((at, known::unknown_key(section, key)));
            }
        }
    }
}

/// The line of a byte, from 1.
fn line(text: &str, at: usize) -> usize {
    let before = text.get(..at.min(text.len())).unwrap_or("");
    before.matches('\n').count() + 1
}

fn neutral(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number beyond 64 bits"),
        },
        DeValue::Boolean(is_on) => Value::Switch(*is_on),
        DeValue::Array(values) => Value::List(
            values
                .iter()
                .map(|value| neutral(value.get_ref()))
                .collect(),
        ),
        DeValue::Float(number) => Value::Fraction(number.as_str().to_owned()),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Table(table) => Value::Table(
            table
                .iter()
                .map(|(key, value)| (key.get_ref().to_string(), neutral(value.get_ref())))
                .collect(),
        ),
    }
}
