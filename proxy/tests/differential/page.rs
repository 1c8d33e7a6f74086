//! The page that says where others disagree with us, and why.

use crate::classes::{CLASSES, Class};
use crate::outcome::{Difference, Outcome};
use crate::peers::{Answers, PEERS, Peer};
use std::fmt::Write;
use std::path::Path;

/// Bytes of a case that a row shows at most.
const SHOWN_BYTES_MAX: usize = 100;

/// A case, and which class explains what each peer makes of it, if it differs.
pub(crate) struct Compared<'a> {
    pub(crate) input: &'a [u8],
    pub(crate) ours: &'a Outcome,
    pub(crate) classes: [Option<usize>; PEERS.len()],
    pub(crate) differences: [Option<Difference>; PEERS.len()],
}

pub(crate) fn write(versions: &[Answers], by_hand: &[Compared<'_>]) -> String {
    let agreed = by_hand
        .iter()
        .filter(|case| case.classes.iter().all(Option::is_none))
        .count();
    let versions: Vec<&str> = versions
        .iter()
        .map(|answers| answers.version.as_str())
        .collect();
    let mut page = format!(
        "# HTTP/1.1 beside other servers\n\n\
         The same bytes go to Sluice and to four servers that it shares no parser with: each says which requests it \
         takes, with method,\ntarget, version, fields and body, and where it refuses to go on. Of {} connections \
         written by hand all five take the same {agreed}\nrequest for request. The others are the rows below; \
         thousands more, made of these by small changes, have to fall into the same rows.\nWhere Sluice and another \
         take a request, they take the same one, with one exception that has a row.\n\n\
         `.ci/differential` repeats it, and fails on a disagreement without a row, on a row that no case needs any \
         longer, and when this page\nis stale (`UPDATE_REFERENCE=1 .ci/differential` writes it anew). It needs Python, \
         Node.js and Go, and is a part of `.ci/interop`.\n`SLUICE_DIFFERENTIAL_SEED` and `SLUICE_DIFFERENTIAL_CASES` \
         choose other changes, and how many.\n\n{VERSIONS}{}.\n\n\
         This page is generated. CR and LF stand as `\\r` and `\\n`; the request that follows each is left out. \
         Numbers are cases of the row.\n\n",
        by_hand.len(),
        versions.join(", "),
    );
    for (heading, refused) in [
        ("Refused by Sluice, taken by others", true),
        (
            "Taken by Sluice, not by others, and other differences",
            false,
        ),
    ] {
        let names: Vec<String> = PEERS.iter().map(|peer| peer.name().to_owned()).collect();
        write!(
            page,
            "## {heading}\n\n| what | for example | Sluice | {} | the RFC's words |\n| --- | --- | --- |{} --- |\n",
            names.join(" | "),
            " --- |".repeat(PEERS.len())
        )
        .unwrap();
        for (at, class) in CLASSES.iter().enumerate() {
            if class.is_refusal() == refused {
                row(&mut page, class, at, by_hand);
            }
        }
        page.push('\n');
    }
    page.truncate(page.trim_end().len());
    page.push('\n');
    page
}

/// A vertical bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn row(page: &mut String, class: &Class, at: usize, by_hand: &[Compared<'_>]) {
    let cases: Vec<&Compared<'_>> = by_hand
        .iter()
        .filter(|case| case.classes.contains(&Some(at)))
        .collect();
    let example = cases.first().unwrap_or_else(|| {
        panic!(
            "no case shows {:?} any longer: take its row away",
            class.title
        )
    });
    let ours = match &example.ours.error {
        Some(error) if class.is_refusal() => {
            format!("refuses: {}", error.split(':').next().unwrap_or_default())
        }
        _ => "takes it".to_owned(),
    };
    let theirs = (0..PEERS.len()).map(|peer| {
        let differing = cases.iter().filter(|case| case.classes[peer] == Some(at));
        let is_unequal = cases
            .iter()
            .any(|case| case.differences[peer] == Some(Difference::Unequal));
        let (same, other) = match class.is_refusal() {
            true => ("refuses", "takes"),
            false if is_unequal => ("takes it", "takes another"),
            false => ("takes it", "does not take"),
        };
        match (differing.count(), cases.len()) {
            (0, _) => same.to_owned(),
            (all, of) if all == of => match other {
                "takes another" => other.to_owned(),
                other => format!("{other} it"),
            },
            (some, of) => format!("{other} {some} of {of}"),
        }
    });
    let theirs: Vec<String> = theirs.collect();
    writeln!(
        page,
        "| {} | {} | {ours} | {} | \"{}\" ({}){} |",
        cell(class.title),
        cell(&shown(example.input)),
        theirs.join(" | "),
        cell(class.words),
        class.section,
        match class.why {
            "" => String::new(),
            why => format!(" {}", cell(why)),
        }
    )
    .unwrap();
}

/// The beginning of a case as code.
fn shown(input: &[u8]) -> String {
    let text = input
        .escape_ascii()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'");
    let end = "GET /second HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n";
    let text = shortened(text.strip_suffix(end).unwrap_or(&text));
    let text = match text.char_indices().nth(SHOWN_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    };
    match text.contains('`') {
        true => format!("`` {text} ``"),
        false => format!("`{text}`"),
    }
}

/// Without most of a byte that stands there again and again.
fn shortened(text: &str) -> String {
    let mut short = String::new();
    let mut run = 0;
    let mut last = None;
    for character in text.chars() {
        run = if last == Some(character) { run + 1 } else { 0 };
        last = Some(character);
        match run {
            ..20 => short.push(character),
            20 => short.push('…'),
            _ => {}
        }
    }
    short
}

const VERSIONS: &str = "Run with ";

/// Fails when the page in the repository is another one, newer versions of the others apart.
pub(crate) fn check(expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/http1.md");
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = |page: &str| -> Vec<String> {
        let lines = page.lines().filter(|line| !line.starts_with(VERSIONS));
        lines.map(str::to_owned).collect()
    };
    for (found, expected) in lines(&found).iter().zip(lines(expected)) {
        assert_eq!(*found, expected, "{STALE}");
    }
    assert_eq!(lines(&found).len(), lines(expected).len(), "{STALE}");
}

const STALE: &str = "docs/reference/http1.md is stale: UPDATE_REFERENCE=1 .ci/differential";

impl Peer {
    fn name(self) -> &'static str {
        match self {
            Peer::Hyper => "hyper",
            Peer::H11 => "h11",
            Peer::Node => "Node.js",
            Peer::Go => "net/http",
        }
    }
}
