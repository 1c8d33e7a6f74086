//! How far a run is, on stderr: a bar on a terminal, else one line per second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sluice_loadtest::run::{Options, Progress};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Shows progress until it is finished.
pub(crate) struct ProgressView {
    /// `None` when stderr is no terminal.
    bar: Option<ProgressBar>,
    by_time: bool,
    last: Progress,
}

impl ProgressView {
    pub(crate) fn new(options: &Options) -> ProgressView {
        let length = match (options.duration, options.requests) {
            (Some(duration), _) => millis(duration),
            (None, requests) => requests.unwrap_or(0),
        };
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %  {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        ProgressView {
            bar,
            by_time: options.duration.is_some(),
            last: Progress::default(),
        }
    }

    pub(crate) fn show(&mut self, now: &Progress) {
        let seconds = now.elapsed.saturating_sub(self.last.elapsed).as_secs_f64();
        let rate = match seconds > 0.0 {
            true => (now.answered - self.last.answered) as f64 / seconds,
            false => 0.0,
        };
        self.last = *now;
        let text = format!(
            "{rate:.0}/s, {} answered, {} not 200, {} unanswered, {} in flight",
            now.answered,
            now.answered - now.ok,
            now.unanswered,
            now.in_flight()
        );
        match &self.bar {
            Some(bar) => {
                let done = if self.by_time {
                    millis(now.elapsed)
                } else {
                    now.answered
                };
                bar.set_position(done);
                bar.set_message(text);
            }
            None => {
                // Progress that nobody can see is no reason to fail.
                let _ = writeln!(io::stderr(), "{:>4} s  {text}", now.elapsed.as_secs());
            }
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
