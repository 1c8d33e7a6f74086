//! Settings that only a Kafka output has.

use super::{KAFKA, load, load_all, problem};
use sluice_proxy::config::{Flags, SinkConfig};
use std::time::Duration;

const LOGIN: &str = "sasl_username = 'sluice'\nsasl_password = 'hunter2'\n";

#[test]
fn a_kafka_output_is_plain_without_a_login_and_encrypted_with_one() {
    let config = load(KAFKA).unwrap();
    let output = &config.outputs[0];
    let SinkConfig::Kafka(kafka) = &output.sink else {
        panic!("{:?}", output.sink)
    };
    assert_eq!(kafka.brokers, ["b-1:9092", "b-2"]);
    assert!(!kafka.tls && kafka.login.is_none());
    // Linger, and the second in which the client library looks, are within the ack deadline.
    assert_eq!(kafka.delivery_timeout, Duration::from_millis(2_995));
    assert_eq!(kafka.record_bytes_max, 1_000_000);

    let config = load(&format!("{KAFKA}sasl = 'scram-sha-512'\n{LOGIN}")).unwrap();
    let SinkConfig::Kafka(kafka) = &config.outputs[0].sink else {
        panic!("{:?}", config.outputs)
    };
    assert!(kafka.tls);
    let (username, password) = kafka.login.as_ref().unwrap();
    assert_eq!(
        (username.as_str(), password.0.as_str()),
        ("sluice", "hunter2")
    );
}

#[test]
fn a_password_is_shown_nowhere_and_its_mask_is_no_password() {
    let text = format!("{KAFKA}sasl = 'scram-sha-256'\ntls = false\n{LOGIN}");
    let config = load(&text).unwrap();
    for shown in [config.to_toml(), format!("{config:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("***"), "{shown}");
    }
    assert!(problem(&config.to_toml()).contains("`outputs.main.sasl_password`: it is the mask"));
    let variables = [("SLUICE_OUTPUTS__MAIN__SASL_PASSWORD", "hunter2")];
    let again = load_all(&config.to_toml(), &variables, &Flags::default()).unwrap();
    assert_eq!(again, config);

    let error = load(&text.replace("'hunter2'", "1234567")).unwrap_err();
    assert!(!error.to_string().contains("1234567"), "{error}");
    let error = problem(&text.replace("hunter2", &"h".repeat(1_025)));
    assert!(!error.contains("hhh") && error.contains("1024"), "{error}");
}

#[test]
fn settings_of_a_kafka_output_that_do_not_go_together_are_refused() {
    for (more, expected) in [
        ("delivery_timeout_ms = 3995\n", "4000 ms"),
        (
            "batch_bytes_max = 1100000\nrecord_bytes_max = 1100001\n",
            "1100000 bytes",
        ),
        ("ca_file = 'ca.pem'\n", "`outputs.main.tls` is false"),
        ("region = 'eu-west-1'\n", "`outputs.main.sasl` is none"),
        ("sasl_username = 'x'\n", "`outputs.main.sasl` is none"),
        (
            "sasl = 'msk-iam'\nsasl_password = 'x'\n",
            "`outputs.main.sasl` is msk-iam",
        ),
        ("sasl = 'msk-iam'\ntls = false\n", "over TLS only"),
        (
            "sasl = 'scram-sha-512'\nsasl_username = 'x'\n",
            "`outputs.main.sasl_password` is missing",
        ),
    ] {
        let shown = problem(&format!("{KAFKA}{more}"));
        assert!(shown.contains(expected), "{shown}");
    }
    let shown = problem(&format!("{KAFKA}sasl = 'plain'\ntls = false\n{LOGIN}"));
    assert!(shown.contains("readable on its way"), "{shown}");
    for (missing, expected) in [
        (
            "brokers = 'b-1:9092, b-2'\n",
            "`outputs.main.brokers` is missing",
        ),
        ("topic = 'clicks'\n", "`outputs.main.topic` is missing"),
    ] {
        assert!(problem(&KAFKA.replace(missing, "")).contains(expected));
    }
    let many = vec!["b"; 65].join(",");
    assert!(problem(&KAFKA.replace("b-2", &many)).contains("66 brokers"));
}
