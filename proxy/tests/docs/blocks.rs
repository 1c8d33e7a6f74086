//! Reads pages: their fenced blocks, links, headings and inline configurations.

use super::workspace;
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::fs;
use std::path::Path;

/// Pages outside of `docs/`.
const PAGES: [&str; 6] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "bench-harness/README.md",
    "loadtest/README.md",
];

/// One fenced block.
pub(crate) struct Block {
    /// Page and line, for messages.
    pub(crate) place: String,
    pub(crate) language: String,
    pub(crate) attributes: Vec<String>,
    pub(crate) text: String,
}

impl Block {
    /// The value of the attribute `name=value`.
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find_map(|attribute| attribute.strip_prefix(name)?.strip_prefix('='))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|attribute| attribute == name)
    }
}

/// One page.
pub(crate) struct Page {
    /// Its path from the workspace.
    pub(crate) name: String,
    pub(crate) blocks: Vec<Block>,
    /// Place and target of each link and image.
    pub(crate) links: Vec<(String, String)>,
    /// Anchors of its headings.
    pub(crate) anchors: Vec<String>,
    /// Place and text of inline code that is a configuration.
    pub(crate) inline_outputs: Vec<(String, String)>,
}

/// All pages, in the order of their names.
pub(crate) fn pages() -> Vec<Page> {
    let mut names: Vec<String> = PAGES.map(str::to_owned).to_vec();
    under(&workspace().join("docs"), &mut names);
    names.sort();
    names.iter().map(|name| read(name)).collect()
}

fn under(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            under(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "md") {
            let name = path.strip_prefix(workspace()).unwrap();
            found.push(name.to_str().unwrap().to_owned());
        }
    }
}

fn read(name: &str) -> Page {
    let text = fs::read_to_string(workspace().join(name)).unwrap();
    parse(name, &text)
}

pub(crate) fn parse(name: &str, text: &str) -> Page {
    let mut page = Page {
        name: name.to_owned(),
        blocks: Vec::new(),
        links: Vec::new(),
        anchors: Vec::new(),
        inline_outputs: Vec::new(),
    };
    let mut heading: Option<String> = None;
    let mut in_block = false;
    for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
        let line = text[..range.start].matches('\n').count() + 1;
        let place = format!("{name}:{line}");
        match event {
            Event::Start(Tag::CodeBlock(kind)) => {
                let words = match kind {
                    CodeBlockKind::Fenced(words) => words.to_string(),
                    CodeBlockKind::Indented => String::new(),
                };
                let mut words = words.split(',').map(str::to_owned);
                page.blocks.push(Block {
                    place,
                    language: words.next().unwrap_or_default(),
                    attributes: words.collect(),
                    text: String::new(),
                });
                in_block = true;
            }
            Event::End(TagEnd::CodeBlock) => in_block = false,
            Event::Text(piece) if in_block => page.blocks.last_mut().unwrap().text += &piece,
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push((place, dest_url.to_string()));
            }
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => {
                page.anchors
                    .extend(heading.take().map(|text| anchor(&text)));
            }
            Event::Text(piece) => {
                if let Some(heading) = &mut heading {
                    *heading += &piece;
                }
            }
            Event::Code(code) => {
                if let Some(heading) = &mut heading {
                    *heading += &code;
                }
                if code.starts_with("outputs.") && code.contains('{') {
                    page.inline_outputs.push((place, code.to_string()));
                }
            }
            _ => {}
        }
    }
    page
}

/// The name that a heading has in a link, as GitHub and mdBook make it.
fn anchor(heading: &str) -> String {
    heading
        .chars()
        .filter_map(|letter| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter if letter.is_alphanumeric() => Some(letter.to_ascii_lowercase()),
            _ => None,
        })
        .collect()
}

/// Whether lines stand in a source, one after another, at any indentation.
pub(crate) fn stands_in(block: &str, source: &str) -> bool {
    let trimmed =
        |text: &str| -> Vec<String> { text.lines().map(|line| line.trim().to_owned()).collect() };
    let (block, source) = (trimmed(block), trimmed(source));
    !block.is_empty() && source.windows(block.len()).any(|lines| lines == block)
}

#[test]
fn blocks_keep_their_words_and_lines() {
    let page = parse(
        "a.md",
        "# A `b` c\n\n```sh,needs=x\none\ntwo\n```\n\n| a |\n| --- |\n| `outputs.x = { type = \"null\" }` |\n\n[l](b.md#c)\n",
    );
    let [block] = page.blocks.as_slice() else {
        panic!("{} blocks", page.blocks.len())
    };
    assert_eq!(
        (block.place.as_str(), block.text.as_str()),
        ("a.md:3", "one\ntwo\n")
    );
    assert_eq!(block.attribute("needs"), Some("x"));
    assert_eq!(page.anchors, ["a-b-c"]);
    assert_eq!(page.inline_outputs.len(), 1);
    assert_eq!(page.links, [("a.md:12".to_owned(), "b.md#c".to_owned())]);
}

#[test]
fn quoted_lines_stand_together_or_not_at_all() {
    let source = "fn a() {\n    one();\n    two();\n}\n";
    assert!(stands_in("one();\ntwo();\n", source));
    assert!(!stands_in("two();\none();\n", source));
    assert!(!stands_in("", source));
}
