//! Reads Rust source as far as the architecture rules need it: which paths it names, outside of tests, and
//! where it says `unsafe`. Comments, strings and character literals do not count.
//!
//! Not a parser: words and marks are enough to find `use` trees and paths, also those inside macros,
//! which a syntax tree would hide as opaque tokens.

use std::iter::Peekable;
use std::str::Chars;

/// A word or a mark, with its line from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A path that the source names, `use` trees spelled out, with its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
}

/// The words and marks of a source.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let mut reader = Reader {
        chars: source.chars().peekable(),
        line: 1,
    };
    let mut found = Vec::new();
    while let Some(c) = reader.next() {
        let line = reader.line;
        let mut push = |text: String| found.push(Token { text, line });
        match c {
            '/' if reader.peek() == Some('/') => {
                while !matches!(reader.next(), None | Some('\n')) {}
            }
            '/' if reader.peek() == Some('*') => reader.block_comment(),
            '"' => reader.string(),
            '\'' => reader.character_or_lifetime(),
            c if is_word(c) => {
                let mut word = String::from(c);
                while let Some(c) = reader.peek().filter(|c| is_word(*c)) {
                    word.push(c);
                    reader.next();
                }
                match (word.as_str(), reader.peek()) {
                    ("b" | "c", Some('"')) => {
                        reader.next();
                        reader.string();
                    }
                    ("b", Some('\'')) => {
                        reader.next();
                        reader.character_or_lifetime();
                    }
                    ("r" | "br" | "cr", Some('"' | '#')) => {
                        if let Some(raw_identifier) = reader.raw() {
                            push(raw_identifier);
                        }
                    }
                    _ => push(word),
                }
            }
            c if c.is_whitespace() => {}
            c => push(c.to_string()),
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

struct Reader<'a> {
    chars: Peekable<Chars<'a>>,
    line: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.chars.next();
        self.line += usize::from(next == Some('\n'));
        next
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    /// From behind the first `/`; block comments nest.
    fn block_comment(&mut self) {
        self.next();
        let mut depth = 1;
        while depth > 0 {
            match self.next() {
                Some('/') if self.peek() == Some('*') => {
                    self.next();
                    depth += 1;
                }
                Some('*') if self.peek() == Some('/') => {
                    self.next();
                    depth -= 1;
                }
                None => return,
                Some(_) => {}
            }
        }
    }

    /// From behind the opening quote.
    fn string(&mut self) {
        loop {
            match self.next() {
                Some('\\') => {
                    self.next();
                }
                Some('"') | None => return,
                Some(_) => {}
            }
        }
    }

    /// From behind the `r`: a raw string, or the name of a raw identifier.
    fn raw(&mut self) -> Option<String> {
        let mut hashes = 0;
        while self.peek() == Some('#') {
            self.next();
            hashes += 1;
        }
        if self.peek() != Some('"') {
            let mut name = String::new();
            while let Some(c) = self.peek().filter(|c| is_word(*c)) {
                name.push(c);
                self.next();
            }
            return Some(name);
        }
        self.next();
        loop {
            match self.next() {
                Some('"') => {
                    let mut closing = 0;
                    while closing < hashes && self.peek() == Some('#') {
                        self.next();
                        closing += 1;
                    }
                    if closing == hashes {
                        return None;
                    }
                }
                None => return None,
                Some(_) => {}
            }
        }
    }

    /// From behind the `'`: `'x'` and `'\n'` are literals, `'a` without a second quote is a lifetime.
    fn character_or_lifetime(&mut self) {
        match self.next() {
            Some('\\') => {
                self.next();
                while !matches!(self.next(), Some('\'') | None) {}
            }
            Some(c) if is_word(c) && self.peek() != Some('\'') => {
                while self.peek().is_some_and(is_word) {
                    self.next();
                }
            }
            _ => {
                self.next();
            }
        }
    }
}

/// What is left without items under `#[cfg(test)]`, and the names of modules of that kind that
/// live in files of their own.
pub(crate) fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let mut kept = Vec::new();
    let mut test_modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let end = attribute_end(tokens, at);
        if end > at && is_cfg_test(&tokens[at..end]) {
            let item = skip_attributes(tokens, end);
            at = item_end(tokens, item);
            let is_file = tokens
                .get(at.wrapping_sub(1))
                .is_some_and(|last| last.text == ";");
            if is_file && let Some(name) = after_mod(&tokens[item..at]) {
                test_modules.push(name);
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    (kept, test_modules)
}

/// Behind the attribute that begins here, or here.
fn attribute_end(tokens: &[Token], at: usize) -> usize {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    if is(at, "#") && is(at + 1, "[") {
        group_end(tokens, at + 1)
    } else {
        at
    }
}

fn skip_attributes(tokens: &[Token], mut at: usize) -> usize {
    loop {
        let end = attribute_end(tokens, at);
        if end == at {
            return at;
        }
        at = end;
    }
}

/// `#[cfg(test)]` and `#[cfg(all(test, ...))]`; what holds outside of tests as well does not count.
fn is_cfg_test(attribute: &[Token]) -> bool {
    let has = |text: &str| attribute.iter().any(|token| token.text == text);
    attribute.get(2).is_some_and(|token| token.text == "cfg")
        && has("test")
        && !has("not")
        && !has("any")
}

/// Behind the bracket that closes the one here.
fn group_end(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Behind the item that begins here: its `;`, or its braces; for a field or a variant, its comma.
fn item_end(tokens: &[Token], mut at: usize) -> usize {
    const ITEMS: [&str; 14] = [
        "mod",
        "fn",
        "impl",
        "use",
        "struct",
        "enum",
        "trait",
        "const",
        "static",
        "type",
        "macro_rules",
        "unsafe",
        "extern",
        "async",
    ];
    let mut is_item = false;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "(" | "[" => at = group_end(tokens, at),
            "{" => {
                at = group_end(tokens, at);
                // The braces of `use a::{b};` are not its end.
                let more = tokens.get(at).is_some_and(|next| next.text == ";");
                return at + usize::from(more);
            }
            ";" => return at + 1,
            "," if !is_item => return at + 1,
            "}" | ")" | "]" => return at,
            word => {
                is_item |= ITEMS.contains(&word);
                at += 1;
            }
        }
    }
    at
}

fn after_mod(item: &[Token]) -> Option<String> {
    let at = item.iter().position(|token| token.text == "mod")?;
    Some(item.get(at + 1)?.text.clone())
}

/// Every path that is named, in `use` trees and elsewhere.
pub(crate) fn paths(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if token.text == "use" {
            at = use_tree(tokens, at + 1, &[], &mut found);
        } else if token.text.starts_with(is_word) {
            let mut path = vec![token.text.clone()];
            at += 1;
            while let Some(next) = separated(tokens, at) {
                path.push(next.text.clone());
                at += 3;
            }
            found.push(Named {
                path,
                line: token.line,
            });
        } else {
            at += 1;
        }
    }
    found
}

/// The word behind a `::` here.
fn separated(tokens: &[Token], at: usize) -> Option<&Token> {
    let word = tokens.get(at + 2)?;
    let colons = tokens[at].text == ":" && tokens[at + 1].text == ":";
    (colons && word.text.starts_with(is_word)).then_some(word)
}

/// Spells out one tree; returns where it ends.
fn use_tree(tokens: &[Token], mut at: usize, under: &[String], found: &mut Vec<Named>) -> usize {
    let mut path = under.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ":" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    let branch = use_tree(tokens, at, &path, found);
                    // Behind the comma, and behind what a macro may have put here instead.
                    at = branch
                        + usize::from(tokens.get(branch).is_some_and(|token| token.text != "}"));
                }
                return at + 1;
            }
            "as" => at += 2,
            "self" if !under.is_empty() && path.len() == under.len() => at += 1,
            word if word == "*" || word.starts_with(is_word) => {
                path.push(word.to_owned());
                at += 1;
            }
            _ => break,
        }
    }
    found.push(Named { path, line });
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    fn named(source: &str) -> Vec<String> {
        let (kept, _) = without_tests(&tokens(source));
        paths(&kept)
            .into_iter()
            .map(|named| named.path.join("::"))
            .collect()
    }

    #[test]
    fn comments_strings_and_characters_are_not_words() {
        for source in [
            "a // unsafe\nb",
            "a /* unsafe /* unsafe */ unsafe */ b",
            "a \"unsafe \\\" unsafe\" b",
            "a b\"unsafe\" b",
            "a r#\"unsafe \" unsafe\"# b",
            "a br\"unsafe\\\" b",
            "a '\"' b",
            "a '\\'' b",
            "a '\\u{1F600}' b",
            "a b'\\\\' b",
            "a 'x' b",
            "a 'static b",
            "a '_ b",
            "/// unsafe\na //! unsafe\nb",
        ] {
            assert_eq!(words(source), ["a", "b"], "{source}");
        }
        assert_eq!(words("r#type x"), ["type", "x"]);
        assert_eq!(words("f('(', \"{\")"), ["f", "(", ",", ")"]);
    }

    #[test]
    fn lines_count_through_what_is_skipped() {
        let found = tokens("/* \n */ \"\n\" a\nb");
        assert_eq!((found[0].line, found[1].line), (3, 4));
    }

    #[test]
    fn use_trees_are_spelled_out() {
        assert_eq!(
            named("use std::{fs, net::{self, IpAddr}, io::*}; use a as b; pub(crate) use ::c::d;")
                .into_iter()
                .filter(|path| path != "pub" && path != "crate")
                .collect::<Vec<_>>(),
            [
                "std::fs",
                "std::net",
                "std::net::IpAddr",
                "std::io::*",
                "a",
                "c::d"
            ]
        );
    }

    #[test]
    fn macro_metavariables_in_use_trees_are_read() {
        assert!(named("use a::{$b, c}; d::e").contains(&"d::e".to_owned()));
        assert!(named("use a::{b").contains(&"a::b".to_owned()));
        assert!(named("fn f() -> impl A + use<'a> { d::e }").contains(&"d::e".to_owned()));
    }

    #[test]
    fn paths_in_code_and_macros_are_found() {
        let found = named("fn f() { std::fs::read(x); m!(tokio::spawn); <A as b::C>::d() }");
        for path in ["std::fs::read", "tokio::spawn", "b::C"] {
            assert!(found.iter().any(|named| named == path), "{found:?}");
        }
    }

    #[test]
    fn items_for_tests_are_left_out_and_nothing_else() {
        for source in [
            "a; #[cfg(test)] mod tests { x::y(); { z } } b;",
            "a; #[cfg(test)] use x::{y, z}; b;",
            "a; #[cfg(all(test, unix))] #[allow(x)] pub fn y<A, B>(c: [u8; 3]) -> D { z } b;",
            "a; #[cfg(test)] const X: [u8; 2] = [y, z]; b;",
            "a; #[cfg(test)] x: y::Z, b;",
            "a; #[cfg(test)] mod x; b;",
        ] {
            assert_eq!(named(source), ["a", "b"], "{source}");
        }
        for source in [
            "a; #[cfg(not(test))] b;",
            "a; #[cfg(any(test, fuzzing))] b;",
            "a; #[test_case] b;",
            "struct A { #[cfg(test)] x: y } b;",
        ] {
            assert!(named(source).contains(&"b".to_owned()), "{source}");
        }
    }

    #[test]
    fn test_modules_in_files_of_their_own_are_named() {
        let source = "#[cfg(test)] mod tests; mod b; #[cfg(test)] mod c { mod d; }";
        assert_eq!(without_tests(&tokens(source)).1, ["tests"]);
    }
}
