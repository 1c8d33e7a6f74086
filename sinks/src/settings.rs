//! Settings, each declared once: name, type, default, bounds, unit and sentence in one place, next to the
//! code that the setting configures.
//!
//! ```text
//!  settings! { … } ── SETTINGS: &[Setting] ── reference page, known keys, nearest names
//!        └────────── read(&mut Reader) ────── typed struct, problems, the values in force
//! ```
//!
//! A [`Tree`] holds what was written, whatever its source; this module knows no file format, no environment
//! and no serde.

mod problem;
mod reader;
mod value;

pub use problem::{Given, Problem};
pub use reader::{InForce, Misfit, Number, Reader};
pub use value::{
    Fault, Keyword, KeywordError, Origin, Secret, SettingValue, Tree, Value, Written, is_credential,
};

/// Bytes in a kibibyte.
pub const KIB: u64 = 1 << 10;
/// Bytes in a mebibyte.
pub const MIB: u64 = 1 << 20;
/// Bytes in a gibibyte.
pub const GIB: u64 = 1 << 30;
/// Milliseconds in a second.
pub const SECOND_MS: u64 = 1_000;
/// Milliseconds in a minute.
pub const MINUTE_MS: u64 = 60 * SECOND_MS;
/// Milliseconds in an hour.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;

/// The declaration of one setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key, relative to the section; a key with a dot names its section itself.
    pub key: &'static str,
    /// What it means; also the documentation of the field that holds it.
    pub sentence: &'static str,
    /// Which values it takes.
    pub form: Form,
}

impl Setting {
    /// The whole name of the setting in a section, for instance `listen.address`.
    #[must_use]
    pub fn path(&self, section: &str) -> String {
        match self.key.contains('.') {
            true => self.key.to_owned(),
            false => format!("{section}.{}", self.key),
        }
    }
}

/// Which values a setting takes, and what else there is to say of it.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The kind of value with its bounds.
    pub kind: Kind,
    /// Why the setting has to be written; `None` where it has a default.
    pub needed: Option<&'static str>,
    /// Whether the word `off` stands for no value.
    pub has_off: bool,
    /// Whether a running process takes a new value.
    pub is_reloadable: bool,
    /// How the default comes about where it depends on other settings or the machine.
    pub default_note: Option<&'static str>,
}

/// A kind of value with its bounds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number from `min` to `max`.
    Number {
        /// What it counts.
        unit: &'static str,
        /// The least allowed.
        min: u64,
        /// The most allowed.
        max: u64,
    },
    /// `true` or `false`.
    Switch,
    /// A word of a list, or another text with a type of its own, which checks it.
    Word {
        /// What may be written.
        expected: &'static str,
    },
    /// A text of a certain form.
    Text {
        /// What may be written.
        expected: &'static str,
        /// Whether a text has the form.
        is_valid: fn(&str) -> bool,
    },
    /// An array of texts, or one text with commas.
    List {
        /// What its entries are.
        unit: &'static str,
        /// Entries at most.
        max: usize,
        /// What an entry may be.
        expected: &'static str,
        /// Whether an entry has the form.
        is_valid: fn(&str) -> bool,
    },
    /// A text that is never shown.
    Secret,
}

impl Kind {
    const fn form(self) -> Form {
        Form {
            kind: self,
            needed: None,
            has_off: false,
            is_reloadable: false,
            default_note: None,
        }
    }
}

impl Form {
    /// The setting has no default; `why` says what needs it.
    #[must_use]
    pub const fn needed(self, why: &'static str) -> Form {
        Form {
            needed: Some(why),
            ..self
        }
    }

    /// The word `off` stands for no value; the field is an `Option`.
    #[must_use]
    pub const fn or_off(self) -> Form {
        Form {
            has_off: true,
            ..self
        }
    }

    /// A running process takes a new value.
    #[must_use]
    pub const fn reloadable(self) -> Form {
        Form {
            is_reloadable: true,
            ..self
        }
    }

    /// Says for the reference page how the default comes about.
    #[must_use]
    pub const fn default_is(self, note: &'static str) -> Form {
        Form {
            default_note: Some(note),
            ..self
        }
    }
}

/// A whole number of `unit`.
#[must_use]
pub const fn number(unit: &'static str, min: u64, max: u64) -> Form {
    Kind::Number { unit, min, max }.form()
}

/// A number of bytes.
#[must_use]
pub const fn bytes(min: u64, max: u64) -> Form {
    number("bytes", min, max)
}

/// A time in milliseconds.
#[must_use]
pub const fn ms(min: u64, max: u64) -> Form {
    number("ms", min, max)
}

/// A time in seconds.
#[must_use]
pub const fn seconds(min: u64, max: u64) -> Form {
    number("s", min, max)
}

/// `true` or `false`.
#[must_use]
pub const fn switch() -> Form {
    Kind::Switch.form()
}

/// A word of a [`keyword_enum!`](crate::keyword_enum).
#[must_use]
pub const fn word<T: Keyword>() -> Form {
    checked(T::EXPECTED)
}

/// A text that its type checks.
#[must_use]
pub const fn checked(expected: &'static str) -> Form {
    Kind::Word { expected }.form()
}

/// A text for which `is_valid` holds.
#[must_use]
pub const fn text(expected: &'static str, is_valid: fn(&str) -> bool) -> Form {
    Kind::Text { expected, is_valid }.form()
}

/// The path of a directory.
#[must_use]
pub const fn dir() -> Form {
    text("a directory in UTF-8", |path| !path.is_empty())
}

/// The path of a file.
#[must_use]
pub const fn file() -> Form {
    text("a file in UTF-8", |path| !path.is_empty())
}

/// Up to `max` texts that their type checks.
#[must_use]
pub const fn list(unit: &'static str, max: usize, expected: &'static str) -> Form {
    texts(unit, max, expected, |_| true)
}

/// Up to `max` texts for which `is_valid` holds.
#[must_use]
pub const fn texts(
    unit: &'static str,
    max: usize,
    expected: &'static str,
    is_valid: fn(&str) -> bool,
) -> Form {
    Kind::List {
        unit,
        max,
        expected,
        is_valid,
    }
    .form()
}

/// A text that is never shown.
#[must_use]
pub const fn secret() -> Form {
    Kind::Secret.form()
}

/// Whether a text has 1 to `most` ASCII letters, digits or bytes of `others`.
#[must_use]
pub fn is_word(text: &str, most: usize, others: &str) -> bool {
    (1..=most).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || others.as_bytes().contains(&byte))
}

/// Declares a struct of settings: `field as "key": Type = default, form;`. Without `as`, the key is the
/// field's name. A default may use the fields above it and the arguments behind the reader. Fields behind
/// `and` are no settings: constants, and groups of settings with their own declaration.
///
/// Makes the struct, `SETTINGS` (the declarations), `read` (values from a [`Reader`]) and
/// `out_of_bounds` (the first field that its declaration does not allow).
#[macro_export]
macro_rules! settings {
    (
        $(#[$meta:meta])*
        pub struct $name:ident from ($reader:ident $(, $argument:ident: $argument_type:ty)*) {
            $(
                $(#[doc = $sentence:literal])*
                $field:ident $(as $key:literal)?: $type:ty = $default:expr, $form:expr;
            )*
        }
        $(and {
            $(
                $(#[doc = $plain_doc:literal])*
                $plain:ident: $plain_type:ty = $plain_value:expr;
            )*
        })?
    ) => {
        $(#[$meta])*
        pub struct $name {
            $(
                $(#[doc = $sentence])*
                pub $field: $type,
            )*
            $($(
                $(#[doc = $plain_doc])*
                pub $plain: $plain_type,
            )*)?
        }

        impl $name {
            /// The declarations, in the order of the fields.
            pub const SETTINGS: &'static [$crate::settings::Setting] = &[
                $($crate::settings::Setting {
                    key: $crate::setting_key!($field $($key)?),
                    sentence: concat!($($sentence),*).trim_ascii(),
                    form: $form,
                },)*
            ];

            /// The values in force: what was written, else the default.
            #[must_use]
            pub fn read($reader: &mut $crate::settings::Reader $(, $argument: $argument_type)*) -> $name {
                let mut declared = Self::SETTINGS.iter();
                $(
                    let $field: $type = match declared.next() {
                        Some(setting) => $reader.take(setting, $default),
                        None => $default,
                    };
                )*
                $($(let $plain: $plain_type = $plain_value;)*)?
                $name { $($field,)* $($($plain,)*)? }
            }

            /// The first field whose value its declaration does not allow.
            #[must_use]
            pub fn out_of_bounds(&self) -> Option<$crate::settings::Problem> {
                let mut declared = Self::SETTINGS.iter();
                $(
                    if let Some(setting) = declared.next()
                        && let Some(problem) = $crate::settings::Problem::of(setting, &self.$field)
                    {
                        return Some(problem);
                    }
                )*
                None
            }
        }
    };
}

/// The key of a setting: its field's name unless another is given.
#[doc(hidden)]
#[macro_export]
macro_rules! setting_key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

/// An enum whose variants are words: one table for reading, writing and the reference page.
#[macro_export]
macro_rules! keyword_enum {
    ($(#[$meta:meta])* $name:ident, $expected:literal {
        $($(#[$variant_meta:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant,)*
        }

        impl $name {
            /// The word for it in the configuration.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $($name::$variant => $word,)*
                }
            }
        }

        impl $crate::settings::Keyword for $name {
            const EXPECTED: &'static str = $expected;
        }

        impl std::str::FromStr for $name {
            type Err = $crate::settings::KeywordError;

            fn from_str(given: &str) -> Result<Self, Self::Err> {
                match given {
                    $($word => Ok($name::$variant),)*
                    _ => Err($crate::settings::KeywordError {
                        given: given.to_owned(),
                        expected: $expected,
                    }),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.word())
            }
        }

        $crate::setting_from_text!($name);
    };
}

/// Makes settings of types that are read and written as text.
#[macro_export]
macro_rules! setting_from_text {
    ($($name:ty),*) => {$(
        impl $crate::settings::SettingValue for $name {
            fn read(
                form: &$crate::settings::Form,
                value: &$crate::settings::Value,
            ) -> Result<Self, Vec<$crate::settings::Fault>> {
                $crate::settings::Value::parse(value, form)
            }

            fn show(&self, _: &$crate::settings::Form) -> Option<$crate::settings::Value> {
                Some($crate::settings::Value::Text(self.to_string()))
            }
        }
    )*};
}
