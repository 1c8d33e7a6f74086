//! Settings that only a Kinesis output has.

use super::{load, main_output, problem};

#[test]
fn the_size_of_containers_needs_aggregation() {
    let with = |keys: &str| format!("[outputs.main]\ntype = 'kinesis'\nstream = 'clicks'\n{keys}");
    let config = load(&with("aggregate = true\n")).unwrap();
    assert_eq!(main_output(&config, "aggregate_bytes_max"), 51_200.into());
    for keys in ["", "aggregate = false\n"] {
        let shown = problem(&with(&format!("{keys}aggregate_bytes_max = 51200\n")));
        for part in ["aggregate_bytes_max", "`outputs.main.aggregate` is false"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
