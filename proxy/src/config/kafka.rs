//! What only a Kafka output knows. Pure, like the rest of `resolve`.

use super::bounds;
use super::check::{Check, Number, setting};
use super::keywords::{CompressionWord, SaslMechanism, Secret};
use super::raw::RawOutput;
use super::{BROKERS_MAX, ClientCertificate, KafkaSink, KafkaTopic, Output, SinkConfig};
use sluice_core::topic::{self, Template};
use sluice_sinks::settings::Problem;
use std::path::Path;

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
        let sasl = raw.sasl.unwrap_or(SaslMechanism::None);
        let tls = self.tls(name, raw, sasl);
        let login = self.login(name, raw, sasl);
        self.region(name, raw);
        if raw.region.is_some() && sasl != SaslMechanism::MskIam {
            self.problems.push(Problem::Misplaced {
                key: key("region"),
                because: key("sasl"),
                value: sasl.to_string(),
            });
        }
        let brokers = self.brokers(name, raw);
        let certificate = self.certificate(name, raw, tls);
        let topic = self.topic(name, raw);
        Some(KafkaSink {
            brokers: brokers?,
            topic: topic?,
            tls,
            ca_file: raw.ca_file.clone(),
            certificate,
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

    /// A name, or with braces in it a template.
    fn topic(&mut self, name: &str, raw: &RawOutput) -> Option<KafkaTopic> {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let Some(topic) = &raw.topic else {
            self.problems.push(Problem::Missing {
                key: key("topic"),
                why: "a kafka output needs the name of its topic",
            });
            return None;
        };
        if !topic.contains(['{', '}']) {
            self.topic_name(key("topic"), topic);
            for (part, is_written) in [
                ("topic_fallback", raw.topic_fallback.is_some()),
                ("topics_max", raw.topics_max.is_some()),
            ] {
                if is_written {
                    self.problems.push(Problem::Misplaced {
                        key: key(part),
                        because: key("topic"),
                        value: format!("{topic:?} without a {{field}}"),
                    });
                }
            }
            return Some(KafkaTopic::Name(topic.clone()));
        }
        let topics_max = self.number(&bounds::TOPICS, name, raw.topics_max, 100);
        let template = topic.parse::<Template>().map_err(|why| {
            self.problems.push(Problem::RefusedText {
                key: key("topic"),
                why: format!("{topic:?}: {why}"),
            });
        });
        let Some(fallback) = &raw.topic_fallback else {
            self.problems.push(Problem::Missing {
                key: key("topic_fallback"),
                why: "records whose values name no topic have to go somewhere",
            });
            return None;
        };
        self.topic_name(key("topic_fallback"), fallback);
        Some(KafkaTopic::Template {
            template: template.ok()?,
            fallback: fallback.clone(),
            topics_max: topics_max.size(),
        })
    }

    fn topic_name(&mut self, key: String, topic: &str) {
        if !topic::is_name(topic) {
            self.malformed(key, topic, "1 to 249 letters, digits or any of _.-");
        }
    }

    /// A record names one topic, made once, for all outputs that want one.
    pub(super) fn topics(&mut self, outputs: &[Output]) {
        let mut first: Option<(&str, &Template, usize)> = None;
        for output in outputs {
            let SinkConfig::Kafka(KafkaSink {
                topic:
                    KafkaTopic::Template {
                        template,
                        topics_max,
                        ..
                    },
                ..
            }) = &output.sink
            else {
                continue;
            };
            let Some((name, other, other_max)) = first else {
                first = Some((&output.name, template, *topics_max));
                continue;
            };
            for (key, here, there) in [
                ("topic", template.to_string(), other.to_string()),
                (
                    "topics_max",
                    format!("{topics_max} topics"),
                    format!("{other_max} topics"),
                ),
            ] {
                if here != there {
                    self.problems.push(Problem::Contradiction {
                        left: setting(format!("outputs.{}.{key}", output.name), here),
                        must: "the same as",
                        right: setting(format!("outputs.{name}.{key}"), there),
                        why: "a record names one topic, for all outputs",
                    });
                }
            }
        }
    }

    /// With a login it is on unless it was switched off, and some logins need it.
    fn tls(&mut self, name: &str, raw: &RawOutput, sasl: SaslMechanism) -> bool {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let tls = raw
            .tls
            .unwrap_or(sasl != SaslMechanism::None || raw.certificate_file.is_some());
        let why = match sasl {
            SaslMechanism::Plain => Some("the password would be readable on its way"),
            SaslMechanism::MskIam => Some("tokens are taken over TLS only"),
            _ => None,
        };
        if let (false, Some(why)) = (tls, why) {
            self.problems.push(Problem::Contradiction {
                left: setting(key("tls"), "false"),
                must: "true with",
                right: setting(key("sasl"), sasl.to_string()),
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
            self.file_name(key("ca_file"), file);
        }
        tls
    }

    fn file_name(&mut self, key: String, file: &Path) {
        if file.as_os_str().is_empty() || file.to_str().is_none() {
            self.malformed(key, &file.to_string_lossy(), "a file in UTF-8");
        }
    }

    /// A certificate and its key; neither without the other.
    fn certificate(&mut self, name: &str, raw: &RawOutput, tls: bool) -> Option<ClientCertificate> {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let files = [
            ("certificate_file", &raw.certificate_file),
            ("key_file", &raw.key_file),
        ];
        for (part, file) in files {
            let Some(file) = file else { continue };
            self.file_name(key(part), file);
            if !tls {
                self.problems.push(Problem::Misplaced {
                    key: key(part),
                    because: key("tls"),
                    value: "false".to_owned(),
                });
            }
        }
        let mut missing = |part: &str, why: &'static str| {
            let key = key(part);
            self.problems.push(Problem::Missing { key, why });
        };
        match files {
            [(_, Some(_)), (part, None)] => missing(part, "a certificate needs its private key"),
            [(part, None), (_, Some(_))] => missing(part, "a private key needs its certificate"),
            [(_, None), (part, None)] if raw.key_password.is_some() => {
                missing(part, "`key_password` needs the key that it decrypts");
            }
            _ => {}
        }
        if let Some(password) = &raw.key_password {
            self.secret(key("key_password"), password);
        }
        Some(ClientCertificate {
            certificate_file: raw.certificate_file.clone()?,
            key_file: raw.key_file.clone()?,
            key_password: raw.key_password.clone(),
        })
    }

    fn secret(&mut self, key: String, secret: &Secret) {
        if !is_login(&secret.0) {
            self.problems.push(Problem::RefusedText {
                key,
                why: format!("1 to {LOGIN_BYTES_MAX} bytes, none of them 0"),
            });
        } else if secret.0 == Secret::MASK {
            self.problems.push(Problem::RefusedText {
                key,
                why: "it is the mask that is printed in the place of a password".to_owned(),
            });
        }
    }

    fn login(
        &mut self,
        name: &str,
        raw: &RawOutput,
        sasl: SaslMechanism,
    ) -> Option<(String, Secret)> {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let written = [
            ("sasl_username", raw.sasl_username.is_some()),
            ("sasl_password", raw.sasl_password.is_some()),
        ];
        let wants = !matches!(sasl, SaslMechanism::None | SaslMechanism::MskIam);
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
        if !is_login(username) {
            self.malformed(key("sasl_username"), username, "1 to 1024 bytes");
        }
        self.secret(key("sasl_password"), password);
        Some((username.clone(), password.clone()))
    }
}

fn is_login(text: &str) -> bool {
    (1..=LOGIN_BYTES_MAX).contains(&text.len()) && !text.bytes().any(|byte| byte == 0)
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
