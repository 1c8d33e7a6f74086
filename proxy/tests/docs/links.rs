//! Links between pages: the file exists, and so does the heading.

use super::blocks::Page;
use super::workspace;
use std::path::{Component, Path, PathBuf};

/// What is wrong with the links of these pages. Links to other hosts are left alone: tests need no network.
pub(crate) fn faults(pages: &[Page]) -> Vec<String> {
    let mut wrong = Vec::new();
    for page in pages {
        for (place, link) in &page.links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target = if path.is_empty() {
                PathBuf::from(&page.name)
            } else {
                resolve(&page.name, path)
            };
            if !workspace().join(&target).exists() {
                wrong.push(format!("{place}: there is no {}", target.display()));
                continue;
            }
            let known = pages.iter().find(|page| Path::new(&page.name) == target);
            if !anchor.is_empty()
                && !known.is_some_and(|page| page.anchors.iter().any(|one| one == anchor))
            {
                wrong.push(format!("{place}: {} has no #{anchor}", target.display()));
            }
        }
    }
    wrong
}

/// A path that a page names, from the workspace.
fn resolve(page: &str, link: &str) -> PathBuf {
    let mut path = PathBuf::from(page);
    path.pop();
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => {
                path.pop();
            }
            part => path.push(part),
        }
    }
    path
}

#[test]
fn links_resolve_from_the_directory_of_their_page() {
    assert_eq!(
        resolve("docs/outputs/s3.md", "../running.md"),
        Path::new("docs/running.md")
    );
    assert_eq!(resolve("README.md", "docs/s3.md"), Path::new("docs/s3.md"));
}
