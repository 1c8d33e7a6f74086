//! Paths of fields, and the tree that an event is compared with.

use super::Action;
use crate::json::step;
use std::fmt;
use std::str::FromStr;

/// Names in a path.
pub const PATH_NAMES_MAX: usize = 16;

/// Bytes of a name in a path.
pub const NAME_BYTES_MAX: usize = 256;

/// The path of a field: names of members, from the event's own inwards. An array needs no name: a path reaches into
/// every element of every array on its way.
///
/// Written with dots, `user.email`; a backslash takes the character after it as it stands, `a\.b`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(Vec<Box<str>>);

/// A text that is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldPathError {
    /// A name without a byte, or with too many.
    #[error("`{path}`: a name has {actual} bytes: 1 to {limit}")]
    Name {
        /// What was written.
        path: String,
        /// [`NAME_BYTES_MAX`].
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
    /// Too many names.
    #[error("`{path}`: {actual} names: 1 to {limit}")]
    Names {
        /// What was written.
        path: String,
        /// [`PATH_NAMES_MAX`].
        limit: usize,
        /// Its names.
        actual: usize,
    },
    /// Brackets, as other languages of paths have them.
    #[error(
        "`{0}`: arrays need no brackets, `items.price` reaches into every element; a bracket in a name is written `\\[`"
    )]
    Bracket(String),
    /// The text ends with a backslash.
    #[error("`{0}`: nothing comes after the last backslash")]
    Backslash(String),
}

impl FieldPath {
    /// The name, if it is one of the event's own fields.
    #[must_use]
    pub fn top_level(&self) -> Option<&str> {
        match &self.0[..] {
            [name] => Some(name),
            _ => None,
        }
    }
}

impl FromStr for FieldPath {
    type Err = FieldPathError;

    fn from_str(text: &str) -> Result<FieldPath, FieldPathError> {
        let mut names = vec![String::new()];
        let mut rest = text.chars();
        while let Some(first) = rest.next() {
            let taken = match first {
                '.' => {
                    names.push(String::new());
                    continue;
                }
                '[' | ']' => return Err(FieldPathError::Bracket(text.to_owned())),
                '\\' => rest
                    .next()
                    .ok_or_else(|| FieldPathError::Backslash(text.to_owned()))?,
                other => other,
            };
            if let Some(name) = names.last_mut() {
                name.push(taken);
            }
        }
        let is_name = |name: &&String| !(1..=NAME_BYTES_MAX).contains(&name.len());
        if let Some(name) = names.iter().find(is_name) {
            return Err(FieldPathError::Name {
                path: text.to_owned(),
                limit: NAME_BYTES_MAX,
                actual: name.len(),
            });
        }
        if names.len() > PATH_NAMES_MAX {
            return Err(FieldPathError::Names {
                path: text.to_owned(),
                limit: PATH_NAMES_MAX,
                actual: names.len(),
            });
        }
        Ok(FieldPath(
            names.into_iter().map(String::into_boxed_str).collect(),
        ))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, name) in self.0.iter().enumerate() {
            if at != 0 {
                f.write_str(".")?;
            }
            for letter in name.chars() {
                if matches!(letter, '.' | '\\' | '[' | ']') {
                    f.write_str("\\")?;
                }
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Two rules for one value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{inner}` lies in `{outer}`, which has a rule of its own")]
pub struct Overlap {
    /// The path that covers the other one, or is the same.
    pub outer: FieldPath,
    /// The other one.
    pub inner: FieldPath,
}

/// Paths, by their names: what an event is compared with as it is walked.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    action: Option<Action>,
    /// Names and their nodes.
    children: Vec<(Box<str>, usize)>,
    /// Bit n is set if some name has n bytes (63: or more), so that one test skips most keys.
    lengths: u64,
    /// Bit n is set if some name begins with a byte whose last six bits are n: skips most of the others.
    firsts: u64,
}

/// The bit of a name's first byte.
fn first_bit(name: &[u8]) -> u64 {
    1 << (name.first().copied().unwrap_or(0) & 63)
}

/// The node of an event itself.
pub(super) const ROOT: usize = 0;

impl Tree {
    pub(super) fn new() -> Tree {
        Tree {
            nodes: vec![Node::default()],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Adds a path.
    ///
    /// # Errors
    /// Another path covers it, or is covered by it.
    pub(super) fn add(&mut self, path: &FieldPath, action: Action) -> Result<(), Overlap> {
        let mut node = ROOT;
        for (depth, name) in path.0.iter().enumerate() {
            if self.nodes[node].action.is_some() {
                return Err(Overlap {
                    outer: FieldPath(path.0[..depth].to_vec()),
                    inner: path.clone(),
                });
            }
            let known = self.nodes[node].children.iter();
            let known = known.map(|(known, child)| (known, *child));
            node = match known.clone().find(|(known, _)| *known == name) {
                Some((_, child)) => child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    let parent = &mut self.nodes[node];
                    parent.lengths |= 1 << name.len().min(63);
                    parent.firsts |= first_bit(name.as_bytes());
                    parent.children.push((name.clone(), child));
                    child
                }
            };
        }
        let end = &mut self.nodes[node];
        if end.action.is_some() {
            return Err(Overlap {
                outer: path.clone(),
                inner: path.clone(),
            });
        }
        if let Some((below, _)) = end.children.first() {
            let mut inner = path.clone();
            inner.0.push(below.clone());
            return Err(Overlap {
                outer: path.clone(),
                inner,
            });
        }
        end.action = Some(action);
        Ok(())
    }

    /// Adds a path, in the place of all that it covers.
    pub(super) fn replace(&mut self, path: &FieldPath, action: Action) {
        let mut node = ROOT;
        for name in &path.0 {
            let children = self.nodes[node].children.iter();
            let Some((_, child)) = children.clone().find(|(known, _)| known == name) else {
                break;
            };
            node = *child;
        }
        // Where the path does not end here, there is nothing to replace, or what covers it already.
        if self.depth_of(path) == path.0.len() {
            self.nodes[node].children.clear();
            self.nodes[node].lengths = 0;
            self.nodes[node].firsts = 0;
            self.nodes[node].action = Some(action);
        } else {
            // Covered by a rule on its way: nothing of the value is left to treat but by that rule.
            let _ = self.add(path, action);
        }
    }

    /// How many names of a path have nodes.
    fn depth_of(&self, path: &FieldPath) -> usize {
        let mut node = ROOT;
        let mut depth = 0;
        for name in &path.0 {
            let mut children = self.nodes[node].children.iter();
            match children.find(|(known, _)| known == name) {
                Some((_, child)) => node = *child,
                None => break,
            }
            depth += 1;
        }
        depth
    }

    /// The node of a member of an object, by its key as it stands between its quotes.
    #[inline]
    pub(super) fn child(&self, node: usize, key: &[u8], is_escaped: bool) -> Option<usize> {
        let node = self.nodes.get(node)?;
        let found = if is_escaped {
            let mut children = node.children.iter();
            children.find(|(name, _)| step::equals(key, name.as_bytes()))
        } else if node.lengths >> key.len().min(63) & 1 == 0 || node.firsts & first_bit(key) == 0 {
            None
        } else {
            let mut children = node.children.iter();
            children.find(|(name, _)| name.as_bytes() == key)
        };
        found.map(|(_, child)| *child)
    }

    /// The members of a node's object that have nodes.
    pub(super) fn members(&self, node: usize) -> impl Iterator<Item = (&str, usize)> + Clone {
        let node = self.nodes.get(node).into_iter();
        let members = node.flat_map(|node| &node.children);
        members.map(|(name, node)| (&**name, *node))
    }

    #[inline]
    pub(super) fn action(&self, node: usize) -> Option<Action> {
        self.nodes.get(node)?.action
    }

    /// What happens to a field of the event itself.
    pub(super) fn top_level(&self, name: &str) -> Option<Action> {
        self.action(self.child(ROOT, name.as_bytes(), false)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> FieldPath {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        for text in [
            "email",
            "user.email",
            r"a\.b.c",
            r"a\\b",
            r"x\[0\]",
            "é.\u{1f600}",
        ] {
            assert_eq!(path(text).to_string(), text);
        }
        assert_eq!(path(r"\a").to_string(), "a");
    }

    #[test]
    fn a_path_outside_its_bounds_is_refused_with_both_values() {
        let refused = |text: &str| text.parse::<FieldPath>().unwrap_err().to_string();
        assert_eq!(refused(""), "``: a name has 0 bytes: 1 to 256");
        assert_eq!(refused("a..b"), "`a..b`: a name has 0 bytes: 1 to 256");
        let long = "x".repeat(257);
        assert!(refused(&long).ends_with("a name has 257 bytes: 1 to 256"));
        assert_eq!(path(&"x".repeat(256)).0.len(), 1);
        let deep = vec!["x"; 17].join(".");
        assert!(refused(&deep).ends_with("17 names: 1 to 16"));
        assert_eq!(path(&deep[2..]).0.len(), 16);
        assert!(refused("items[0].price").contains("arrays need no brackets"));
        assert!(refused("a]").contains("arrays need no brackets"));
        assert!(refused("a\\").contains("nothing comes after"));
    }

    #[test]
    fn two_rules_for_one_value_are_refused() {
        for (first, second, outer, inner) in [
            ("user", "user", "user", "user"),
            ("user", "user.email", "user", "user.email"),
            ("user.email", "user", "user", "user.email"),
            ("a.b", "a.b.c.d", "a.b", "a.b.c.d"),
        ] {
            let mut tree = Tree::new();
            tree.add(&path(first), Action::Mask).unwrap();
            let overlap = Overlap {
                outer: path(outer),
                inner: path(inner),
            };
            assert_eq!(tree.add(&path(second), Action::Drop), Err(overlap));
        }
    }

    #[test]
    fn a_stripped_path_takes_the_place_of_other_rules() {
        let mut tree = Tree::new();
        tree.add(&path("user.email"), Action::Mask).unwrap();
        tree.add(&path("id"), Action::Hash).unwrap();
        tree.add(&path("page"), Action::Mask).unwrap();
        for stripped in ["user", "id", "page.url", "new.field"] {
            tree.replace(&path(stripped), Action::Drop);
        }
        assert_eq!(tree.top_level("user"), Some(Action::Drop));
        assert_eq!(tree.top_level("id"), Some(Action::Drop));
        // Masked as a whole, which leaves nothing of its parts.
        assert_eq!(tree.top_level("page"), Some(Action::Mask));
        let new = tree.child(ROOT, b"new", false).unwrap();
        let field = tree.child(new, b"field", false).unwrap();
        assert_eq!(tree.action(field), Some(Action::Drop));
    }
}
