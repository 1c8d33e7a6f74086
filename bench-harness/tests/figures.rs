//! The documentation's pictures and tables are those of the published record.

use sluice_bench::figures::documents;
use std::fs;
use std::path::Path;

#[test]
fn pictures_and_tables_are_made_of_the_published_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = documents(&root).unwrap();
    for (path, text) in &files {
        let committed = fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == *text,
            "{} is stale: run `sluice-bench figures`",
            path.display()
        );
    }
    let pictures = fs::read_dir(root.join("docs/figures")).unwrap().count();
    let drawn = files
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|end| end == "svg"));
    assert_eq!(
        pictures,
        drawn.count(),
        "docs/figures has a picture that nothing draws"
    );
}
