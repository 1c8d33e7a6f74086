//! Settings of `type = "file"`.

use super::FileSink;
use crate::names::{NAMES_MAX, Names, is_listed};
use crate::output::{
    AckMode, Delivery, Directory, Output, OutputContext, OutputType, SinkConfig, Timing, Usual,
};
use crate::settings::{GIB, MIB, Reader, bytes, dir, number, seconds, texts};
use crate::sink::{CheckError, Sink, SinkFuture};
use sluice_core::time::Wall;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Newline-delimited JSON in local files.
pub const TYPE: OutputType = OutputType {
    name: "file",
    sentence: "Newline-delimited JSON in files on this host.",
    example: "",
    settings: &[Timing::SETTINGS, FileSettings::SETTINGS, Delivery::SETTINGS],
    read,
};

/// One group commit at a time; records that arrive meanwhile are the next one.
const USUAL: Usual = Usual {
    ack: AckMode::Delivered,
    retry_for: Duration::from_secs(60),
    linger: Duration::ZERO,
    in_flight_max: 1,
    retry_base: Duration::from_millis(50),
    retry_cap: Duration::from_secs(1),
    one_writer: Some("one writer owns the directory"),
};

crate::settings! {
    /// Where and how a [`FileSink`] writes.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FileSettings from (reader, record_bytes: usize) {
        /// The directory under which `year=/month=/day=/hour=/` lie; created when missing, and locked: no other output or process may have the same.
        dir: PathBuf = PathBuf::from("./sluice-data"), dir();
        /// Further directories of the same kind, between which a rule's `topic` chooses.
        dirs: Vec<String> = Vec::new(),
            texts("directories", NAMES_MAX, "a directory in UTF-8, 1 to 249 bytes", is_listed).default_is("none");
        /// A file is finished before it would grow beyond this; only a batch that is larger by itself makes a larger file.
        file_bytes_max as "rotate_bytes": u64 = 128 * MIB, bytes(1, 1_024 * GIB);
        /// A file is finished at this age, and at the end of its hour.
        file_age_max as "rotate_s": Duration = Duration::from_secs(300), seconds(1, 7 * 86_400);
        /// Records in one write.
        batch_records_max: usize = 10_000, number("records", 1, 100_000);
        /// Bytes in one write, at least the record of a largest request.
        batch_bytes_max: usize = record_bytes.max(8 << 20), bytes(1, 256 * MIB);
    }
    and {
        /// After this a write is given up as [`sluice_core::cause::Cause::Unknown`]. The disk call itself cannot be
        /// ended: until it returns, further writes wait as long and are then
        /// [`sluice_core::cause::Cause::Unavailable`].
        write_timeout: Duration = Duration::from_secs(5);
    }
}

impl FileSettings {
    /// The defaults, in a directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> FileSettings {
        FileSettings {
            dir: dir.into(),
            ..FileSettings::read(&mut Reader::default(), 0)
        }
    }
}

fn read(reader: &mut Reader, context: &OutputContext) -> Output {
    Output::lingering(reader, &TYPE, &USUAL, context, |reader, _| {
        FileSettings::read(reader, context.record_bytes.size())
    })
}

impl SinkConfig for FileSettings {
    fn start(&self, clock: fn() -> Wall) -> SinkFuture<'_, Result<Arc<dyn Sink>, CheckError>> {
        let sink = FileSink::start(self.clone(), clock);
        Box::pin(async { Ok(Arc::new(sink?) as Arc<dyn Sink>) })
    }

    fn is_local(&self) -> bool {
        true
    }

    fn names(&self) -> Option<Names> {
        let own = self.dir.to_string_lossy();
        Names::of(("dirs", "dir"), &own, &self.dirs, |name| FileSettings {
            dir: PathBuf::from(name),
            dirs: Vec::new(),
            ..self.clone()
        })
    }

    fn directory(&self) -> Option<Directory<'_>> {
        Some(Directory {
            key: "dir",
            path: &self.dir,
            bytes_max: None,
        })
    }
}
