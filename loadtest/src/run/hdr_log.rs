//! The log of histograms, one or two per second, in the text form (1.3) that HdrHistogram's own tools
//! read: `HistogramLogProcessor`, the plotter and the visualizer.

use super::RunError;
use super::tally::Times;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Tag of the histograms from the real start, beside those from the intended one.
const FROM_START: &str = "from-start";

/// A log that is being written.
pub(super) struct HdrLog {
    path: PathBuf,
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

impl HdrLog {
    /// Creates the file.
    ///
    /// # Errors
    /// When the system refuses, with the path.
    pub(super) fn create(path: &Path) -> Result<HdrLog, RunError> {
        let file = File::create(path).map_err(|source| failed(path, source))?;
        Ok(HdrLog {
            path: path.to_owned(),
            file: BufWriter::new(file),
            serializer: V2DeflateSerializer::new(),
        })
    }

    /// Writes its head, when the run starts.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn begin(&mut self, start: SystemTime) -> Result<(), RunError> {
        let begun = IntervalLogWriterBuilder::new()
            .add_comment(concat!(
                "[Latencies logged with sluice-loadtest ",
                env!("CARGO_PKG_VERSION"),
                "]"
            ))
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("[Values and Interval_Max are nanoseconds]")
            .with_start_time(start)
            .with_base_time(start)
            .begin_log_with(&mut self.file, &mut self.serializer)
            .map(|_| ())
            .and_then(|()| self.file.flush());
        begun.map_err(|source| failed(&self.path, source))
    }

    /// Writes a second that began `from` after the run's start. In an open loop the histogram without
    /// a tag counts from the intended start, and one tagged `from-start` from the real one; in a
    /// closed loop there is only the latter, and it has no tag.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(
        &mut self,
        times: &Times,
        open_loop: bool,
        from: Duration,
        length: Duration,
    ) -> Result<(), RunError> {
        let written = if open_loop {
            self.line(&times.intended, from, length, None)
                .and_then(|()| self.line(&times.actual, from, length, Tag::new(FROM_START)))
        } else {
            self.line(&times.actual, from, length, None)
        };
        // A run that is killed leaves the seconds before.
        written
            .and_then(|()| self.file.flush())
            .map_err(|source| failed(&self.path, source))
    }

    fn line(
        &mut self,
        histogram: &Histogram<u64>,
        from: Duration,
        length: Duration,
        tag: Option<Tag<'_>>,
    ) -> io::Result<()> {
        // The writer borrows its file, so each line has one of its own; without a head it adds none.
        IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.file, &mut self.serializer)?
            .write_histogram(histogram, from, length, tag)
            .map_err(|error| match error {
                IntervalLogWriterError::IoError(error) => error,
                IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
            })
    }
}

fn failed(path: &Path, source: io::Error) -> RunError {
    RunError::HdrLog {
        path: path.to_owned(),
        source,
    }
}

/// A histogram in the compressed V2 form as base64; empty when it cannot be had, which needs more
/// memory than there is.
pub(super) fn base64(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => base64_simd::STANDARD.encode_to_string(&bytes),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn decode(text: &str) -> Histogram<u64> {
        let bytes = base64_simd::STANDARD.decode_to_vec(text).unwrap();
        Deserializer::new().deserialize(&mut &bytes[..]).unwrap()
    }

    fn times(latencies: &[u64]) -> Times {
        let mut times = Times::default();
        for latency in latencies {
            times.actual.saturating_record(*latency);
            times.intended.saturating_record(latency * 2);
        }
        times
    }

    #[test]
    fn a_histogram_comes_back_from_its_base64() {
        let times = times(&[1_000, 50_000, 3_000_000_000]);
        assert_eq!(decode(&base64(&times.actual)), times.actual);
        assert_eq!(decode(&base64(&Times::default().actual)).len(), 0);
    }

    #[test]
    fn a_log_reads_back_as_the_seconds_that_were_written() {
        for open_loop in [true, false] {
            let file = tempfile::NamedTempFile::new().unwrap();
            let start = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
            let mut log = HdrLog::create(file.path()).unwrap();
            log.begin(start).unwrap();
            let seconds = [times(&[1_000, 2_000]), times(&[7_000_000])];
            for (second, times) in (0..).zip(&seconds) {
                let from = Duration::from_secs(second);
                let length = Duration::from_secs(1);
                log.write(times, open_loop, from, length).unwrap();
            }
            drop(log);
            let text = std::fs::read(file.path()).unwrap();
            let (mut starts, mut read) = (Vec::new(), Vec::new());
            for entry in IntervalLogIterator::new(&text) {
                match entry.unwrap() {
                    LogEntry::StartTime(time) | LogEntry::BaseTime(time) => starts.push(time),
                    LogEntry::Interval(interval) => read.push((
                        interval.tag().map(|tag| tag.as_str().to_owned()),
                        interval.start_timestamp().as_secs(),
                        interval.duration().as_secs(),
                        decode(interval.encoded_histogram()),
                    )),
                }
            }
            assert_eq!(starts, [Duration::from_millis(1_700_000_000_250); 2]);
            let tag = Some(FROM_START.to_owned());
            let expected: Vec<_> = (0..)
                .zip(&seconds)
                .flat_map(|(second, times)| {
                    let actual = times.actual.clone();
                    match open_loop {
                        true => vec![
                            (None, second, 1, times.intended.clone()),
                            (tag.clone(), second, 1, actual),
                        ],
                        false => vec![(None, second, 1, actual)],
                    }
                })
                .collect();
            assert_eq!(read, expected);
        }
    }
}
