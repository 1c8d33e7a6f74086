//! Names of fields: `event_type`, `user.id`, `"a.b".c`.

use crate::json::{scan, unescape, walk};
use std::fmt;
use std::str::FromStr;

/// Names in one path: objects inside each other.
pub const DEPTH_MAX: usize = 8;

/// Bytes of a path as it is written.
pub const PATH_BYTES_MAX: usize = 256;

/// A field of an event: the names that lead to it, from the outside in. Of an envelope, one of its keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldPath(Vec<String>);

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// More bytes than a path may have, or none.
    #[error("a field's path has {actual} bytes: 1 to {limit}")]
    Length {
        /// [`PATH_BYTES_MAX`].
        limit: usize,
        /// Bytes of the text.
        actual: usize,
    },
    /// Too many names.
    #[error("`{path}` leads through {actual} names, at most {limit} are read")]
    Depth {
        /// The text.
        path: String,
        /// [`DEPTH_MAX`].
        limit: usize,
        /// Names in it.
        actual: usize,
    },
    /// A name that is empty, or that needs quotes.
    #[error(
        "`{path}`: a name between dots is letters, digits or other signs than space, comma, quote and braces, or a JSON string"
    )]
    Name {
        /// The text.
        path: String,
    },
}

impl FieldPath {
    /// The path of an outermost field.
    pub(crate) fn of_name(name: &str) -> FieldPath {
        FieldPath(vec![name.to_owned()])
    }

    /// The names.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The only name, where there is no more than one.
    #[must_use]
    pub fn only_name(&self) -> Option<&str> {
        match self.0.as_slice() {
            [name] => Some(name),
            _ => None,
        }
    }
}

/// Whether a name needs no quotes.
fn is_bare(name: &str) -> bool {
    let is_plain = |letter: char| {
        !letter.is_whitespace() && !letter.is_control() && !".,\"\\{}".contains(letter)
    };
    !name.is_empty() && name.chars().all(is_plain)
}

/// The bytes of the JSON string that `text` begins with, quotes included.
fn quoted_bytes(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })?;
    let bytes = end + 2;
    scan::check(text.get(..bytes)?.as_bytes()).ok()?;
    Some(bytes)
}

impl FromStr for FieldPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<FieldPath, PathError> {
        if !(1..=PATH_BYTES_MAX).contains(&text.len()) {
            return Err(PathError::Length {
                limit: PATH_BYTES_MAX,
                actual: text.len(),
            });
        }
        let bad_name = || PathError::Name {
            path: text.to_owned(),
        };
        let mut names = Vec::new();
        let mut rest = text;
        loop {
            let end = match rest.starts_with('"') {
                true => quoted_bytes(rest).ok_or_else(bad_name)?,
                false => rest.find('.').unwrap_or(rest.len()),
            };
            let (name, after) = rest.split_at(end);
            names.push(match name.strip_prefix('"') {
                Some(inside) => unescape::chars(&inside[..inside.len() - 1]).collect(),
                None if is_bare(name) => name.to_owned(),
                None => return Err(bad_name()),
            });
            if after.is_empty() {
                break;
            }
            rest = after.strip_prefix('.').ok_or_else(bad_name)?;
        }
        if names.len() > DEPTH_MAX {
            return Err(PathError::Depth {
                path: text.to_owned(),
                limit: DEPTH_MAX,
                actual: names.len(),
            });
        }
        Ok(FieldPath(names))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            let dot = if at > 0 { "." } else { "" };
            match is_bare(name) {
                true => write!(f, "{dot}{name}")?,
                false => write!(f, "{dot}{}", String::from_utf8_lossy(&walk::quoted(name)))?,
            }
        }
        Ok(())
    }
}

/// Several paths, of which the first that leads to a value counts: `user_id,device.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPaths(pub Vec<FieldPath>);

/// Paths in one list.
pub const ALTERNATIVES_MAX: usize = 4;

/// A text that is no list of paths.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathsError {
    /// One of them.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Too many.
    #[error("{actual} paths in a list, at most {limit} are tried")]
    Count {
        /// [`ALTERNATIVES_MAX`].
        limit: usize,
        /// Paths in it.
        actual: usize,
    },
}

impl FromStr for FieldPaths {
    type Err = PathsError;

    fn from_str(text: &str) -> Result<FieldPaths, PathsError> {
        let mut paths = Vec::new();
        let mut start = 0;
        let mut at = 0;
        while at < text.len() {
            match text.as_bytes()[at] {
                // Where the quotes do not match, the path's own parser says so.
                b'"' => at += quoted_bytes(&text[at..]).unwrap_or(1),
                b',' => {
                    paths.push(text[start..at].trim().parse()?);
                    at += 1;
                    start = at;
                }
                _ => at += 1,
            }
        }
        paths.push(text[start..].trim().parse()?);
        let (limit, actual) = (ALTERNATIVES_MAX, paths.len());
        if actual > limit {
            return Err(PathsError::Count { limit, actual });
        }
        Ok(FieldPaths(paths))
    }
}

impl fmt::Display for FieldPaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, path) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            write!(f, "{comma}{path}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &str) -> Vec<String> {
        let path: FieldPath = text.parse().unwrap();
        path.names().map(str::to_owned).collect()
    }

    #[test]
    fn dots_part_names_and_quotes_keep_them() {
        assert_eq!(names("event_type"), ["event_type"]);
        assert_eq!(names("user.id"), ["user", "id"]);
        assert_eq!(names(r#""a.b".c"#), ["a.b", "c"]);
        assert_eq!(names(r#"x."\u00e9\"".$y"#), ["x", "é\"", "$y"]);
        assert_eq!(names(r#""""#), [""]);
        let list: FieldPaths = r#"user.id, "a,b",c"#.parse().unwrap();
        assert_eq!(list.0.len(), 3);
        assert_eq!(list.to_string(), r#"user.id,"a,b",c"#);
    }

    #[test]
    fn what_is_no_path_is_refused_with_the_limit() {
        let refused = |text: &str| text.parse::<FieldPath>().unwrap_err().to_string();
        assert_eq!(refused(""), "a field's path has 0 bytes: 1 to 256");
        assert_eq!(
            refused(&"a".repeat(257)),
            "a field's path has 257 bytes: 1 to 256"
        );
        assert_eq!(
            refused("a.b.c.d.e.f.g.h.i"),
            "`a.b.c.d.e.f.g.h.i` leads through 9 names, at most 8 are read"
        );
        for text in [
            ".", "a.", ".a", "a b", "a,b", "{a}", "\"a", "\"a\"b", "a\"", "\"\\x\"",
        ] {
            assert!(refused(text).contains("a name between dots"), "{text}");
        }
        let refused = |text: &str| text.parse::<FieldPaths>().unwrap_err().to_string();
        assert_eq!(
            refused("a,b,c,d,e"),
            "5 paths in a list, at most 4 are tried"
        );
        assert!(refused("a,").contains("0 bytes"));
    }

    proptest! {
        #[test]
        fn any_names_make_a_path_that_reads_back(
            names in prop::collection::vec(".{0,8}", 1..=DEPTH_MAX)
        ) {
            let path = FieldPath(names);
            prop_assume!(path.to_string().len() <= PATH_BYTES_MAX);
            prop_assert_eq!(path.to_string().parse::<FieldPath>(), Ok(path.clone()));
            let list = FieldPaths(vec![path.clone(), path]);
            prop_assert_eq!(list.to_string().parse::<FieldPaths>(), Ok(list));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<FieldPaths>();
        }
    }
}
