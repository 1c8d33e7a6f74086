//! What only an S3 output knows. Pure, like the rest of `resolve`.

use super::bounds;
use super::check::{Check, Number, setting};
use super::keywords::{AckMode, SinkType, StorageClassWord};
use super::outputs::is_word;
use super::raw::RawOutput;
use super::{S3Sink, Staging};
use sluice_sinks::settings::Problem;
use std::path::PathBuf;

/// Where an S3 output stages when nothing else is said.
const DEFAULT_STAGING_DIR: &str = "./sluice-staging";

/// Bytes of a prefix: the service's 1,024 for a key, less what follows it.
const PREFIX_BYTES_MAX: usize = 896;

/// Records in an object that is gathered in memory: its bytes are the bound, no event is this small.
const OBJECT_RECORDS_MAX: u64 = 10_000_000;

/// When an object is finished.
pub(super) struct Object {
    /// In milliseconds.
    pub(super) age: Number,
    pub(super) bytes: Number,
}

impl Check {
    /// What a 200 waits for; which of it an output knows depends on its type.
    pub(super) fn ack_mode(
        &mut self,
        name: &str,
        sink: SinkType,
        written: Option<AckMode>,
    ) -> AckMode {
        let is_s3 = sink == SinkType::S3;
        let default = if is_s3 {
            AckMode::Durable
        } else {
            AckMode::Delivered
        };
        let mode = written.unwrap_or(default);
        let (must, why) = match (is_s3, mode) {
            (true, AckMode::Delivered) => (
                "durable or enqueued with",
                "an object takes minutes to fill, and no client waits for it",
            ),
            (false, AckMode::Durable) => (
                "delivered or enqueued with",
                "only outputs of type s3 keep events on a disk until they are delivered",
            ),
            _ => return mode,
        };
        self.problems.push(Problem::Contradiction {
            left: setting(format!("outputs.{name}.ack"), mode.to_string()),
            must,
            right: setting(format!("outputs.{name}.type"), sink.to_string()),
            why,
        });
        default
    }

    /// Age and bytes at which an object is finished. Without a stage the writer gathers it, and what says how
    /// it gathers otherwise has no place.
    pub(super) fn object(&mut self, name: &str, raw: &RawOutput, mode: AckMode) -> Object {
        let misplaced = [
            ("linger_ms", raw.linger_ms.is_some()),
            ("batch_records_max", raw.batch_records_max.is_some()),
            ("batch_bytes_max", raw.batch_bytes_max.is_some()),
            ("staging_dir", raw.staging_dir.is_some()),
            ("staging_bytes_max", raw.staging_bytes_max.is_some()),
        ];
        let misplaced = misplaced.into_iter().filter(|(_, written)| *written);
        for (key, _) in misplaced.filter(|_| mode == AckMode::Enqueued) {
            self.problems.push(Problem::Misplaced {
                key: format!("outputs.{name}.{key}"),
                because: format!("outputs.{name}.ack"),
                value: mode.to_string(),
            });
        }
        let age = self.number(&bounds::OBJECT_AGE, name, raw.object_age_s, 300);
        Object {
            age: Number {
                unit: "ms",
                value: age.value * 1_000,
                ..age
            },
            bytes: self.number(
                &bounds::OBJECT_BYTES,
                name,
                raw.object_bytes_max,
                30_000_000,
            ),
        }
    }

    /// The batch that is an object: a largest record has to fit in as well.
    pub(super) fn object_batch(
        &mut self,
        name: &str,
        object: &Number,
        record_bytes: &Number,
    ) -> (Number, Number) {
        let records = Number {
            key: format!("outputs.{name}.batch_records_max"),
            unit: "records",
            value: OBJECT_RECORDS_MAX,
        };
        let bytes = Number {
            value: object.value.max(record_bytes.value),
            ..object.clone()
        };
        (records, bytes)
    }

    pub(super) fn s3(
        &mut self,
        name: &str,
        raw: &RawOutput,
        mode: AckMode,
        object: &Object,
    ) -> Option<S3Sink> {
        let key = |key: &str| format!("outputs.{name}.{key}");
        let staging = (mode == AckMode::Durable).then(|| self.staging(name, raw, &object.bytes));
        let attempt = self.number(
            &bounds::S3_ATTEMPT_TIMEOUT,
            name,
            raw.attempt_timeout_ms,
            60_000,
        );
        let connect = self.number(
            &bounds::S3_CONNECT_TIMEOUT,
            name,
            raw.connect_timeout_ms,
            attempt.value.min(3_000),
        );
        self.at_most(&connect, &attempt, "connecting is a part of the attempt");
        self.region(name, raw);
        self.endpoint(name, raw);
        let prefix = raw.prefix.clone().unwrap_or_default();
        if prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
            self.malformed(
                key("prefix"),
                &prefix,
                "up to 896 printable ASCII characters without spaces",
            );
        }
        if let Some(id) = &raw.kms_key_id
            && !is_word(id, 2_048, ":/_-")
        {
            self.malformed(
                key("kms_key_id"),
                id,
                "a key's id, ARN or alias: 1 to 2048 letters, digits or any of :/_-",
            );
        }
        let Some(bucket) = &raw.bucket else {
            self.problems.push(Problem::Missing {
                key: key("bucket"),
                why: "an s3 output needs the name of its bucket",
            });
            return None;
        };
        if bucket.len() < 3 || !is_word(bucket, 255, "_.-") {
            self.malformed(
                key("bucket"),
                bucket,
                "3 to 255 letters, digits or any of _.-",
            );
        }
        Some(S3Sink {
            bucket: bucket.clone(),
            prefix,
            region: raw.region.clone(),
            endpoint_url: raw.endpoint_url.clone(),
            path_style: raw.path_style,
            connect_timeout: connect.ms(),
            attempt_timeout: attempt.ms(),
            staging,
            object_bytes_max: object.bytes.value,
            object_age: object.age.ms(),
            storage_class: raw.storage_class.unwrap_or(StorageClassWord::Standard),
            kms_key_id: raw.kms_key_id.clone(),
        })
    }

    fn staging(&mut self, name: &str, raw: &RawOutput, object_bytes: &Number) -> Staging {
        let dir = raw
            .staging_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from(DEFAULT_STAGING_DIR));
        if dir.as_os_str().is_empty() || dir.to_str().is_none() {
            self.malformed(
                format!("outputs.{name}.staging_dir"),
                &dir.to_string_lossy(),
                "a directory in UTF-8",
            );
        }
        let bytes = self.number(
            &bounds::STAGING_BYTES,
            name,
            raw.staging_bytes_max,
            4_294_967_296,
        );
        self.at_least(&bytes, object_bytes, "no object would ever fill");
        Staging {
            dir,
            bytes_max: bytes.value,
        }
    }
}
