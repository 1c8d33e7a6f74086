//! What is logged, and how.

use sluice_sinks::settings::word;
use sluice_sinks::{keyword_enum, settings};

settings! {
    /// Logging, on standard error.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct LogSettings from (reader) {
        /// How a line looks.
        format: LogFormat = LogFormat::Text, word::<LogFormat>();
        /// The least severe level that is written.
        level: LogLevel = LogLevel::Info, word::<LogLevel>();
    }
}

keyword_enum! {
    /// How a log line looks.
    LogFormat, "one of text, json" {
        /// For people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

keyword_enum! {
    /// The least severe level that is logged.
    LogLevel, "one of error, warn, info, debug, trace" {
        /// Something is broken.
        Error = "error",
        /// Something needs a look.
        Warn = "warn",
        /// Starts, stops, state changes.
        Info = "info",
        /// For finding a defect.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}
