//! Makes one HTML page of a run, or of several to compare, and the same as JSON.
//! Reads what `run`, `audit` and the emulators wrote; measures nothing, and asks no network.
//!
//! ```text
//! input ---> findings ---> page                      one run
//!   |        (curve, timeline)  \
//!   |                            chart, text, html   what both pages are drawn with
//!   |                           /
//!   +------> compare ----> compare_page              several
//! ```

mod chart;
mod compare;
mod compare_page;
mod curve;
mod fail_if;
mod findings;
mod html;
mod input;
mod page;
mod plots;
mod text;
mod timeline;

pub use compare::{
    COMPARISON_FORMAT, Comparison, Difference, Judgement, Metric, REPEATS_MAX, Spread,
    VARIANTS_MAX, Variant, VariantFiles, compare,
};
pub use compare_page::compare_page;
pub use curve::{CurvePoint, HISTOGRAM_BYTES_MAX};
pub use fail_if::{FailIf, Way};
pub use findings::{FINDINGS_FORMAT, Findings, Meter, Usage, Verdict, findings};
pub use input::{FILE_BYTES_MAX, ReportError, SMALL_FILE_BYTES_MAX};
pub use page::page;
