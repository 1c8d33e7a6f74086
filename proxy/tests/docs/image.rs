//! The container image, as its file describes it.

use super::workspace;
use std::fs;

#[test]
fn images_declare_no_volume() {
    for file in ["Dockerfile", "examples/Dockerfile.loadtest"] {
        let text = fs::read_to_string(workspace().join(file)).unwrap();
        let mut instructions = text.lines().map(|line| line.trim_start().to_uppercase());
        assert!(
            !instructions.any(|line| line.starts_with("VOLUME")),
            "{file}"
        );
    }
}
