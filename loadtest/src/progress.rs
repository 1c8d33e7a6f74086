//! How far a run is, on stderr: a bar with two lines of figures on a terminal, else one line per second.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sluice_loadtest::find_max::FindMaxOptions;
use sluice_loadtest::run::{Options, Progress, Second};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// Shows progress until it is finished.
pub(crate) struct ProgressView {
    /// `None` when stderr is no terminal.
    bar: Option<ProgressBar>,
    by_time: bool,
}

impl ProgressView {
    pub(crate) fn new(options: &Options) -> ProgressView {
        let duration = options.duration.or_else(|| options.load.end());
        let length = match (duration, options.requests) {
            (Some(duration), _) => millis(duration),
            (None, requests) => requests.unwrap_or(0),
        };
        ProgressView::of_length(length, duration.is_some())
    }

    /// A view of one probe after the other.
    pub(crate) fn of_probes(options: &FindMaxOptions) -> ProgressView {
        ProgressView::of_length(millis(options.probe), true)
    }

    fn of_length(length: u64, by_time: bool) -> ProgressView {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3} %\n{msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        ProgressView { bar, by_time }
    }

    /// Does something while the bar is out of its way.
    pub(crate) fn quiet(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub(crate) fn show(&self, now: &Progress) {
        match &self.bar {
            Some(bar) => {
                let done = if self.by_time {
                    millis(now.elapsed)
                } else {
                    now.answered
                };
                bar.set_position(done);
                bar.set_message(format!(
                    "{}\n{} sent, {} answered, {} not ok, {} unanswered",
                    figures(&now.second),
                    now.sent,
                    now.answered,
                    now.answered - now.ok,
                    now.unanswered
                ));
            }
            None => {
                // A terminal that is gone is no reason to fail.
                let _ = writeln!(
                    io::stderr(),
                    "{:>6.1} s  {}",
                    now.elapsed.as_secs_f64(),
                    figures(&now.second)
                );
            }
        }
    }

    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// One second in one line.
fn figures(second: &Second) -> String {
    let answered = second.ok + second.other + second.client_errors + second.server_errors;
    let mut text = format!("{answered} answered");
    if let Some(intended) = second.intended {
        text.push_str(&format!(", {intended} due"));
    }
    for (name, count) in [
        ("ok", second.ok),
        ("4xx", second.client_errors),
        ("5xx", second.server_errors),
        ("other", second.other),
        ("unanswered", second.unanswered),
    ] {
        if count > 0 {
            text.push_str(&format!("  {name}: {count}"));
        }
    }
    text.push_str(&format!(
        "  p50 {:.2} ms  p99 {:.2} ms  in flight {}",
        second.p50_us / 1e3,
        second.p99_us / 1e3,
        second.in_flight
    ));
    if let Some(slip) = second.slip_p99_us {
        text.push_str(&format!("  slip p99 {:.2} ms", slip / 1e3));
    }
    text
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_one_line_with_what_there_is() {
        let quiet = figures(&Second::default());
        assert_eq!(quiet, "0 answered  p50 0.00 ms  p99 0.00 ms  in flight 0");
        let second = Second {
            intended: Some(20),
            ok: 15,
            server_errors: 2,
            unanswered: 1,
            in_flight: 2,
            p50_us: 1_250.0,
            p99_us: 30_000.0,
            slip_p99_us: Some(60.0),
            ..Second::default()
        };
        assert_eq!(
            figures(&second),
            "17 answered, 20 due  ok: 15  5xx: 2  unanswered: 1  p50 1.25 ms  p99 30.00 ms  \
             in flight 2  slip p99 0.06 ms"
        );
    }
}
