//! Settings that only a Kafka output has.

use super::{KAFKA, load, load_all, main_output, problem, problems, shown};
use sluice_proxy::config::Flags;

const LOGIN: &str = "sasl_username = 'sluice'\nsasl_password = 'hunter2'\n";

#[test]
fn kafka_is_plain_without_a_login_and_encrypted_with_one() {
    let config = load(KAFKA).unwrap();
    let brokers = ["b-1:9092", "b-2"].map(toml::Value::from).to_vec();
    assert_eq!(main_output(&config, "brokers"), brokers.into());
    assert_eq!(main_output(&config, "tls"), false.into());
    assert_eq!(shown(&config, "main", "sasl_username"), None);
    // Linger, and the second in which the client library looks, are within the ack deadline.
    assert_eq!(main_output(&config, "delivery_timeout_ms"), 2_995.into());
    assert_eq!(main_output(&config, "record_bytes_max"), 1_000_000.into());

    let config = load(&format!("{KAFKA}sasl = 'scram-sha-512'\n{LOGIN}")).unwrap();
    assert_eq!(main_output(&config, "tls"), true.into());
    assert_eq!(main_output(&config, "sasl_username"), "sluice".into());
}

#[test]
fn a_password_is_never_shown_and_its_mask_refused() {
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
fn contradicting_kafka_settings_are_refused() {
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

/// What an output with topics by template needs beside its type.
pub(super) const TOPICS: &str =
    "brokers = 'b-1:9092'\ntopic = 'clicks-{appId}'\ntopic_fallback = 'clicks'\n";

fn template() -> String {
    format!("[outputs.main]\ntype = 'kafka'\n{TOPICS}")
}

#[test]
fn a_topic_with_braces_is_a_template() {
    let config = load(&template()).unwrap();
    let rule = config.outputs[0].sink.topics().unwrap();
    assert_eq!(rule.template.to_string(), "clicks-{appId}");
    assert_eq!(rule.topics_max, 100);
    assert_eq!(main_output(&config, "topic"), "clicks-{appId}".into());
    assert_eq!(main_output(&config, "topic_fallback"), "clicks".into());
    assert_eq!(load(&config.to_toml()).unwrap(), config);
}

#[test]
fn a_topic_fallback_comes_with_a_template_and_only_then() {
    for (from, to, expected) in [
        (
            "topic_fallback = 'clicks'\n",
            "",
            "`outputs.main.topic_fallback` is missing",
        ),
        (
            "clicks-{appId}",
            "clicks-",
            "`outputs.main.topic_fallback` is set, but `outputs.main.topic` is \"clicks-\" without a {field}",
        ),
        (
            "clicks-{appId}",
            "{appId}",
            "`outputs.main.topic`: \"{appId}\": it has to begin with text",
        ),
        ("clicks-{appId}", "clicks-{appId", "braces do not match"),
        ("clicks-{appId}", "clicks-{a}{b}{c}{d}", "4 fields: 1 to 3"),
        (
            "'clicks'",
            "'cli cks'",
            "`outputs.main.topic_fallback` is \"cli cks\", expected",
        ),
        (
            "'clicks'",
            "'..'",
            "`outputs.main.topic_fallback` is \"..\"",
        ),
    ] {
        let shown = problem(&template().replacen(from, to, 1));
        assert!(shown.contains(expected), "{shown}");
    }
    let shown = problem(&format!("{KAFKA}topics_max = 5\n"));
    assert!(
        shown.contains("`outputs.main.topics_max` is set"),
        "{shown}"
    );
}

#[test]
fn all_outputs_share_one_topic_template_and_bound() {
    let first = template();
    let second = |more: &str| format!("{first}{}{more}", first.replace("main", "second"));
    assert!(load(&second("")).is_ok());
    // One with a plain topic beside it is nobody's affair.
    assert!(load(&format!("{first}{}", KAFKA.replace("main", "plain"))).is_ok());
    let shown = problem(&second("topics_max = 7\n"));
    assert!(
        shown.contains("7 topics") && shown.contains("100 topics"),
        "{shown}"
    );
    let shown = problem(&second("").replacen("{appId}", "{app}", 1));
    assert!(
        shown.contains("clicks-{appId}") && shown.contains("clicks-{app}"),
        "{shown}"
    );
}

#[test]
fn a_certificate_switches_tls_on_and_comes_with_its_key() {
    let pair = "certificate_file = 'own.pem'\nkey_file = 'own.key'\n";
    let config = load(&format!("{KAFKA}{pair}")).unwrap();
    assert_eq!(main_output(&config, "tls"), true.into());
    assert_eq!(load(&config.to_toml()).unwrap(), config);
    for (more, expected) in [
        (
            "certificate_file = 'own.pem'\n",
            "`outputs.main.key_file` is missing",
        ),
        (
            "tls = true\nkey_file = 'own.key'\n",
            "`outputs.main.certificate_file` is missing",
        ),
        (
            "key_password = 'x'\n",
            "`outputs.main.key_file` is missing: `key_password` needs",
        ),
        (
            "certificate_file = ''\nkey_file = 'own.key'\n",
            "`outputs.main.certificate_file` is \"\"",
        ),
    ] {
        let shown = problem(&format!("{KAFKA}{more}"));
        assert!(shown.contains(expected), "{shown}");
    }
    let problems = problems(&format!("{KAFKA}{pair}tls = false\n"));
    let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
    for (shown, key) in shown.iter().zip(["certificate_file", "key_file"]) {
        let expected = format!("`outputs.main.{key}` is set, but `outputs.main.tls` is false");
        assert!(shown.starts_with(&expected), "{shown}");
    }
    assert_eq!(shown.len(), 2);
}

#[test]
fn a_key_password_is_never_shown_and_its_mask_refused() {
    let pair = "certificate_file = 'own.pem'\nkey_file = 'own.key'\n";
    let text = format!("{KAFKA}{pair}key_password = 'hunter2'\n");
    let config = load(&text).unwrap();
    for shown in [config.to_toml(), format!("{config:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(problem(&config.to_toml()).contains("`outputs.main.key_password`: it is the mask"));
    let variables = [("SLUICE_OUTPUTS__MAIN__KEY_PASSWORD", "hunter2")];
    let again = load_all(&config.to_toml(), &variables, &Flags::default()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn an_output_of_another_type_has_neither_templates_nor_certificates() {
    for key in [
        "topic_fallback",
        "certificate_file",
        "key_file",
        "key_password",
    ] {
        let shown = problem(&format!("[outputs.main]\ntype = 'null'\n{key} = 'x'\n"));
        assert!(
            shown.contains(&format!("`outputs.main.{key}` is set")),
            "{shown}"
        );
    }
}
