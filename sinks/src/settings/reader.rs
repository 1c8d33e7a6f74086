//! Reads settings section by section, and keeps what is wrong and what is in force.

use std::borrow::Cow;

use super::{Given, Kind, Origin, Problem, Setting, SettingValue, Tree, Value};

/// Reads the settings of one section after the other. A default gives way to what was written; only what was
/// written can contradict. Collects all problems, so that the operator sees them at once.
#[derive(Debug, Default)]
pub struct Reader {
    tree: Tree,
    section: String,
    /// What makes no sense.
    pub problems: Vec<Problem>,
    /// The first value that cannot be read at all.
    pub misfit: Option<Misfit>,
    /// Values in force, in the order in which they were read.
    pub in_force: Vec<InForce>,
}

/// A value of the wrong type, or none of the words allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Where it was written.
    pub origin: Origin,
    /// What is wrong; names the setting.
    pub message: String,
}

/// A setting and its value in force.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The section, for instance `outputs.main`.
    pub section: String,
    /// The key in it.
    pub key: &'static str,
    /// The declaration.
    pub setting: &'static Setting,
    /// The value; `None` where there is none to print.
    pub value: Option<Value>,
}

impl PartialEq for InForce {
    fn eq(&self, other: &InForce) -> bool {
        (&self.section, self.key, &self.value) == (&other.section, other.key, &other.value)
    }
}

impl Eq for InForce {}

impl Reader {
    /// A reader of what was written.
    #[must_use]
    pub fn new(tree: Tree) -> Reader {
        Reader {
            tree,
            ..Reader::default()
        }
    }

    /// The section of the settings that are read next.
    pub fn enter(&mut self, section: impl Into<String>) {
        self.section = section.into();
    }

    /// The names of the outputs that were written, in order.
    #[must_use]
    pub fn outputs(&self) -> Vec<String> {
        self.tree.outputs.iter().cloned().collect()
    }

    /// The names of the listeners that were written besides the first, in order.
    #[must_use]
    pub fn listeners(&self) -> Vec<String> {
        self.tree.listeners.iter().cloned().collect()
    }

    /// The names of the schemas that were written, in order.
    #[must_use]
    pub fn schemas(&self) -> Vec<String> {
        self.tree.schemas.iter().cloned().collect()
    }

    /// How many tables an array of tables has.
    #[must_use]
    pub fn count(&self, array: &str) -> usize {
        self.tree.counts.get(array).copied().unwrap_or(0)
    }

    /// Prints no value of this key.
    pub fn leave_out(&mut self, key: &str) {
        let path = self.path(key);
        if let Some(known) = self.find_mut(&path) {
            known.value = None;
        }
    }

    /// Reports a value that cannot be read at all.
    pub fn unreadable(&mut self, key: &str, why: &str) {
        let path = self.path(key);
        let origin = self.tree.get(&path).map(|written| written.origin.clone());
        self.misfit.get_or_insert(Misfit {
            origin: origin.unwrap_or(Origin::Default),
            message: format!("`{path}`: {why}"),
        });
    }

    /// The whole name of a key of this section.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        match key.contains('.') {
            true => key.to_owned(),
            false => format!("{}.{key}", self.section),
        }
    }

    /// Whether a key was written.
    #[must_use]
    pub fn is_written(&self, key: &str) -> bool {
        self.tree.get(&self.path(key)).is_some()
    }

    /// The number that was written at a path, whether its declaration allows it or not.
    #[must_use]
    pub fn given(&self, path: &str) -> Option<u64> {
        match &self.tree.get(path)?.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            value => value.text()?.parse().ok(),
        }
    }

    /// What was written, if its declaration allows it; else the default, so that one mistake is reported once.
    pub fn take<T: SettingValue>(&mut self, setting: &'static Setting, default: T) -> T {
        let path = self.path(setting.key);
        let value = match self.tree.get(&path) {
            None => {
                self.report_missing(setting, &path);
                default.within(&setting.form)
            }
            Some(written) => match T::read(&setting.form, &written.value) {
                Ok(value) => {
                    if value.is_empty_list() {
                        self.report_missing(setting, &path);
                    }
                    value
                }
                Err(faults) => {
                    let origin = written.origin.clone();
                    for fault in faults {
                        self.refuse(setting, &path, fault, origin.clone());
                    }
                    default.within(&setting.form)
                }
            },
        };
        let shown = value.show(&setting.form);
        self.keep(setting, shown);
        value
    }

    fn report_missing(&mut self, setting: &Setting, path: &str) {
        if let Some(why) = setting.form.needed {
            let (key, why) = (path.to_owned(), why.into());
            self.problems.push(Problem::Missing { key, why });
        }
    }

    fn refuse(&mut self, setting: &Setting, path: &str, fault: super::Fault, origin: Origin) {
        match fault {
            super::Fault::Unreadable(why) => {
                self.misfit.get_or_insert(Misfit {
                    origin,
                    message: format!("`{path}`: {why}"),
                });
            }
            fault => {
                let problem = Problem::from_fault(path.to_owned(), &setting.form.kind, fault);
                self.problems.push(problem);
            }
        }
    }

    fn keep(&mut self, setting: &'static Setting, value: Option<Value>) {
        let path = self.path(setting.key);
        let (section, key) = match setting.key.rsplit_once('.') {
            Some((section, key)) => (section.to_owned(), key),
            None => (self.section.clone(), setting.key),
        };
        match self.find_mut(&path) {
            Some(known) => known.value = value,
            None => self.in_force.push(InForce {
                section,
                key,
                setting,
                value,
            }),
        }
    }

    fn find_mut(&mut self, path: &str) -> Option<&mut InForce> {
        let (section, key) = path.rsplit_once('.')?;
        self.in_force
            .iter_mut()
            .find(|known| known.section == section && known.key == key)
    }

    /// Replaces a value in force, where another than the one written holds.
    pub fn replace(&mut self, key: &str, value: Value) {
        let path = self.path(key);
        if let Some(known) = self.find_mut(&path) {
            known.value = Some(value);
        }
    }

    /// Keys that only have a meaning where `applies`. Elsewhere one that was written is reported, `because`
    /// another setting has this value, and none is printed.
    pub fn only_if(&mut self, applies: bool, keys: &[&str], because: &str, value: &str) {
        if applies {
            return;
        }
        for key in keys {
            let path = self.path(key);
            if self.tree.get(&path).is_some() {
                let because = self.path(because);
                self.problems.push(Problem::Misplaced {
                    key: path.clone(),
                    because,
                    value: value.to_owned(),
                });
            }
            if let Some(known) = self.find_mut(&path) {
                known.value = None;
            }
        }
    }

    /// A number in force with its name and unit. A name that was not read is a mistake in a rule: every load
    /// reports it.
    pub fn number(&mut self, key: &str) -> Number {
        let path = self.path(key);
        let found = self.find_mut(&path).and_then(|known| {
            let Kind::Number { unit, .. } = known.setting.form.kind else {
                return None;
            };
            let Some(Value::Integer(value)) = known.value else {
                return None;
            };
            Some((unit, u64::try_from(value).unwrap_or(0)))
        });
        let Some((unit, value)) = found else {
            self.problems.push(Problem::Missing {
                key: path.clone(),
                why: "a rule compares this number, and no declaration has it".into(),
            });
            return Number::new(path, "", 0);
        };
        Number::new(path, unit, value)
    }

    /// A text of the wrong form.
    pub fn malformed(&mut self, key: &str, value: &str, expected: &'static str) {
        self.problems.push(Problem::Malformed {
            key: self.path(key),
            value: value.to_owned(),
            expected,
        });
    }

    /// A setting that another one needs.
    pub fn missing(&mut self, key: &str, why: impl Into<Cow<'static, str>>) {
        let key = self.path(key);
        let why = why.into();
        self.problems.push(Problem::Missing { key, why });
    }

    /// Two settings that cannot both be.
    pub fn contradiction(
        &mut self,
        left: Given,
        must: &'static str,
        right: Given,
        why: &'static str,
    ) {
        self.problems.push(Problem::Contradiction {
            left,
            must,
            right,
            why,
        });
    }

    fn require(
        &mut self,
        holds: bool,
        left: &Number,
        must: &'static str,
        right: &Number,
        why: &'static str,
    ) {
        if !holds {
            self.contradiction(left.given(), must, right.given(), why);
        }
    }

    /// `left < right`.
    pub fn below(&mut self, left: &Number, right: &Number, why: &'static str) {
        self.require(left.value < right.value, left, "below", right, why);
    }

    /// `left <= right`.
    pub fn at_most(&mut self, left: &Number, right: &Number, why: &'static str) {
        self.require(left.value <= right.value, left, "at most", right, why);
    }

    /// `left >= right`.
    pub fn at_least(&mut self, left: &Number, right: &Number, why: &'static str) {
        self.require(left.value >= right.value, left, "at least", right, why);
    }
}

/// A number with its name and unit, so that a contradiction can show it.
#[derive(Clone, Debug)]
pub struct Number {
    /// The setting, or a sum of settings.
    pub key: String,
    /// What it counts.
    pub unit: &'static str,
    /// The number.
    pub value: u64,
}

impl Number {
    /// A number by its name.
    pub fn new(key: impl Into<String>, unit: &'static str, value: u64) -> Number {
        Number {
            key: key.into(),
            unit,
            value,
        }
    }

    /// The number as a count or a size: all bounds lie far below what a pointer can address.
    #[must_use]
    pub fn size(&self) -> usize {
        usize::try_from(self.value).unwrap_or(usize::MAX)
    }

    /// As a contradiction shows it.
    #[must_use]
    pub fn given(&self) -> Given {
        Given::new(&*self.key, format!("{} {}", self.value, self.unit))
    }

    /// The sum of two settings.
    #[must_use]
    pub fn plus(&self, other: &Number) -> Number {
        Number {
            key: format!("{} + {}", self.key, other.key),
            unit: self.unit,
            value: self.value.saturating_add(other.value),
        }
    }

    /// A multiple of a setting.
    #[must_use]
    pub fn times(&self, factor: u64) -> Number {
        Number {
            key: format!("{factor} * {}", self.key),
            unit: self.unit,
            value: self.value.saturating_mul(factor),
        }
    }
}
