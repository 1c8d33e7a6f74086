//! Settings that only an SQS output has.

use super::{load, main_output, problem};
use sluice_core::partition::PartitionRule;

const SQS: &str =
    "[outputs.main]\ntype = 'sqs'\nqueue_url = 'https://sqs.eu-west-1.amazonaws.com/1/clicks";

#[test]
fn a_fifo_queue_packs_nothing_by_default() {
    for (name, message_bytes_max, batch_records_max) in [("'", 262_144, 500), (".fifo'", 0, 10)] {
        let config = load(&format!("{SQS}{name}\npartition_key = 'field:id'\n")).unwrap();
        let of = |key| main_output(&config, key);
        assert_eq!(of("message_bytes_max"), message_bytes_max.into());
        assert_eq!(of("batch_records_max"), batch_records_max.into());
        assert_eq!(of("batch_bytes_max"), 1_048_576.into());
        let rule = PartitionRule::Field("id".to_owned());
        assert_eq!(config.outputs[0].partition_key, rule);
    }
}

#[test]
fn contradicting_sqs_settings_are_refused() {
    let small = "[limits]\nbody_bytes_max = 1024\nhead_bytes_max = 8192\n";
    let with = |keys: &str| format!("{small}{SQS}'\n{keys}");
    let shown = problem(&with("batch_bytes_max = 9999\nmessage_bytes_max = 10000\n"));
    for part in ["message_bytes_max", "10000 bytes", "9999 bytes"] {
        assert!(shown.contains(part), "{shown}");
    }
    load(&with("batch_bytes_max = 9999\nmessage_bytes_max = 9999\n")).unwrap();
    let shown = problem("[outputs.main]\ntype = 'sqs'\n");
    assert!(
        shown.contains("an sqs output needs the URL of its queue"),
        "{shown}"
    );
    let shown = problem(&with("stream = 'x'\n"));
    assert!(shown.contains("`outputs.main.type` is sqs"), "{shown}");
}
