//! What only a Kafka output knows. Pure, like the rest of `resolve`.

use super::bounds;
use super::check::{Check, Number, fact};
use super::error::Problem;
use super::outputs::is_word;
use super::raw::RawOutput;
use super::words::{CompressionWord, SaslWord, Secret};
use super::{BROKERS_MAX, KafkaSink};

/// The client library looks once a second what has timed out.
const LOOK_MS: u64 = 1_000;

/// The bytes of a record that every broker takes if nobody changed it: its `max.message.bytes` is
/// 1,048,588 and counts the batch around the record.
const RECORD_BYTES_DEFAULT: u64 = 1_000_000;

/// Bytes of a name or a password.
const LOGIN_BYTES_MAX: usize = 1_024;

impl Check {
    pub(super) fn kafka(
        &mut self,
        name: &str,
        raw: &RawOutput,
        linger: &Number,
        within: &Number,
        batch_bytes: &Number,
    ) -> Option<KafkaSink> {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let remaining = within.value.saturating_sub(linger.value);
        let timeout = self.number(
            &bounds::DELIVERY_TIMEOUT,
            name,
            raw.delivery_timeout_ms,
            remaining
                .saturating_sub(LOOK_MS)
                .max(remaining / 2)
                .min(10_000),
        );
        self.below(
            &linger.plus(&timeout),
            within,
            "the word on a slow record would come too late",
        );
        let record = self.number(
            &bounds::RECORD_BYTES,
            name,
            raw.record_bytes_max,
            RECORD_BYTES_DEFAULT.min(batch_bytes.value),
        );
        self.at_most(
            &record,
            batch_bytes,
            "the largest record would fit into no batch",
        );
        let sasl = raw.sasl.unwrap_or(SaslWord::None);
        let tls = self.tls(name, raw, sasl);
        let login = self.login(name, raw, sasl);
        self.region(name, raw);
        if raw.region.is_some() && sasl != SaslWord::MskIam {
            self.problems.push(Problem::Misplaced {
                key: key("region"),
                because: key("sasl"),
                value: sasl.to_string(),
            });
        }
        let brokers = self.brokers(name, raw);
        let Some(topic) = &raw.topic else {
            self.problems.push(Problem::Missing {
                key: key("topic"),
                why: "a kafka output needs the name of its topic",
            });
            return None;
        };
        if !is_word(topic, 249, "_.-") || topic == "." || topic == ".." {
            self.malformed(
                key("topic"),
                topic,
                "1 to 249 letters, digits or any of _.-",
            );
        }
        Some(KafkaSink {
            brokers: brokers?,
            topic: topic.clone(),
            tls,
            ca_file: raw.ca_file.clone(),
            sasl,
            login,
            region: raw.region.clone(),
            compression: raw.compression.unwrap_or(CompressionWord::None),
            delivery_timeout: timeout.ms(),
            record_bytes_max: record.size(),
        })
    }

    fn brokers(&mut self, name: &str, raw: &RawOutput) -> Option<Vec<String>> {
        let key = format!("outputs.{name}.brokers");
        let brokers = raw.brokers.clone().unwrap_or_default().0;
        if brokers.is_empty() {
            self.problems.push(Problem::Missing {
                key,
                why: "a kafka output needs some brokers of its cluster",
            });
            return None;
        }
        self.few(&key, brokers.len(), "brokers", BROKERS_MAX);
        for broker in &brokers {
            if !is_broker(broker) {
                self.malformed(&*key, broker, "a host and a port, for instance b-1:9092");
            }
        }
        Some(brokers)
    }

    /// With a login it is on unless it was switched off, and some logins need it.
    fn tls(&mut self, name: &str, raw: &RawOutput, sasl: SaslWord) -> bool {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let tls = raw.tls.unwrap_or(sasl != SaslWord::None);
        let why = match sasl {
            SaslWord::Plain => Some("the password would be readable on its way"),
            SaslWord::MskIam => Some("tokens are taken over TLS only"),
            _ => None,
        };
        if let (false, Some(why)) = (tls, why) {
            self.problems.push(Problem::Contradiction {
                left: fact(key("tls"), "false"),
                must: "true with",
                right: fact(key("sasl"), sasl.to_string()),
                why,
            });
        }
        if let Some(file) = &raw.ca_file {
            if !tls {
                self.problems.push(Problem::Misplaced {
                    key: key("ca_file"),
                    because: key("tls"),
                    value: "false".to_owned(),
                });
            }
            if file.as_os_str().is_empty() || file.to_str().is_none() {
                self.malformed(key("ca_file"), &file.to_string_lossy(), "a file in UTF-8");
            }
        }
        tls
    }

    fn login(&mut self, name: &str, raw: &RawOutput, sasl: SaslWord) -> Option<(String, Secret)> {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let written = [
            ("sasl_username", raw.sasl_username.is_some()),
            ("sasl_password", raw.sasl_password.is_some()),
        ];
        let wants = !matches!(sasl, SaslWord::None | SaslWord::MskIam);
        for (part, is_written) in written {
            match (wants, is_written) {
                (false, true) => self.problems.push(Problem::Misplaced {
                    key: key(part),
                    because: key("sasl"),
                    value: sasl.to_string(),
                }),
                (true, false) => self.problems.push(Problem::Missing {
                    key: key(part),
                    why: "this `sasl` needs a name and a password",
                }),
                _ => {}
            }
        }
        let (Some(username), Some(password)) = (&raw.sasl_username, &raw.sasl_password) else {
            return None;
        };
        let is_login = |text: &str| {
            (1..=LOGIN_BYTES_MAX).contains(&text.len()) && !text.bytes().any(|byte| byte == 0)
        };
        if !is_login(username) {
            self.malformed(key("sasl_username"), username, "1 to 1024 bytes");
        }
        if !is_login(&password.0) {
            self.problems.push(Problem::RefusedText {
                key: key("sasl_password"),
                why: format!("1 to {LOGIN_BYTES_MAX} bytes, none of them 0"),
            });
        }
        if password.0 == Secret::MASK {
            self.problems.push(Problem::RefusedText {
                key: key("sasl_password"),
                why: "it is the mask that is printed in the place of a password".to_owned(),
            });
        }
        Some((username.clone(), password.clone()))
    }
}

/// What can stand in a list of brokers: a name or an address, with or without a port.
fn is_broker(text: &str) -> bool {
    let host = text.split(':').next().unwrap_or_default();
    !host.is_empty()
        && text.len() <= 260
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}
