//! Readiness: whether traffic should come here. Set by the program around the data path, read by probes.
//!
//! A failing output is shown but does not make the process unready: its destination is the same
//! for every proxy, and a balancer without any target serves no request.

use crate::runtime::drain::{Drain, DrainPhase};
use sluice_core::ack::OutputId;
use sluice_core::cause::Cause;
use sluice_core::circuit::CircuitState;
use sluice_core::json::escape::quote_str_into;
use sluice_core::stats::{SpoolStats, StagingStats, WriterStats};
use sluice_sinks::output::AckMode;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

/// The state that probes see. Shared by all threads.
#[derive(Debug)]
pub struct Readiness {
    drain: Arc<Drain>,
    outputs: Box<[OutputHealth]>,
}

/// An output's name and its last failure: 0 for none, else the index in [`Cause::ALL`] plus 1.
#[derive(Debug)]
struct OutputHealth {
    name: String,
    trouble: AtomicU8,
    /// Set for an output that stages records before it uploads them.
    stage: OnceLock<Arc<StagingStats>>,
    writers: OnceLock<Vec<Arc<WriterStats>>>,
    promise: OnceLock<Promise>,
}

/// What a 200 means at an output.
#[derive(Debug)]
pub struct Promise {
    /// What it waits for.
    pub ack: AckMode,
    /// The counters of the output's spool.
    pub spool: Option<Arc<SpoolStats>>,
    /// Whether another output gets its records while its circuit is open.
    pub has_fallback: bool,
}

impl Promise {
    /// The meaning now, in words.
    #[must_use]
    pub fn sentence(&self) -> &'static str {
        let fails = |spool: &Arc<SpoolStats>| spool.failing.get() > 0;
        match (self.ack, &self.spool) {
            (AckMode::Delivered, None) if self.has_fallback => {
                "the destination has the event, or, while its circuit is open, \
                 the fallback has it, which means what is said of that one"
            }
            (AckMode::Delivered, Some(spool)) if self.has_fallback && !fails(spool) => {
                "the destination or the fallback has the event, or this host's disk has it until then; \
                 it is lost if that disk is lost first"
            }
            (AckMode::Enqueued, _) => "the event is in memory; it is lost if the process is killed",
            (AckMode::Delivered, None) => "the destination has the event",
            (_, Some(spool)) if fails(spool) => {
                "the destination has the event; the spool's disk fails"
            }
            (AckMode::Delivered, Some(_)) => {
                "the destination has the event, or this host's disk has it until then; \
                 it is lost if that disk is lost first"
            }
            (AckMode::Durable, _) => {
                "this host's disk has the event until the destination has it; \
                 it is lost if that disk is lost first"
            }
        }
    }
}

impl OutputHealth {
    /// A refused record is worse than one that is not uploaded yet.
    fn trouble(&self) -> Option<Cause> {
        let code = usize::from(self.trouble.load(Ordering::Acquire));
        let taking = code.checked_sub(1).and_then(|at| Cause::ALL.get(at));
        taking
            .copied()
            .or_else(|| self.stage.get().and_then(|stage| stage.trouble()))
    }

    /// The circuit of the writer that fares best, unless it is closed.
    fn circuit(&self) -> Option<CircuitState> {
        let writers = self.writers.get()?.iter();
        let best = writers.map(|writer| writer.circuit()).min()?;
        best.is_failing().then_some(best)
    }
}

impl Readiness {
    /// No failing output; names in configuration order.
    #[must_use]
    pub fn new(drain: Arc<Drain>, outputs: impl IntoIterator<Item = String>) -> Readiness {
        Readiness {
            drain,
            outputs: outputs
                .into_iter()
                .map(|name| OutputHealth {
                    name,
                    trouble: AtomicU8::new(0),
                    stage: OnceLock::new(),
                    writers: OnceLock::new(),
                    promise: OnceLock::new(),
                })
                .collect(),
        }
    }

    /// Whether requests should come here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.reason().is_none()
    }

    /// Why not.
    fn reason(&self) -> Option<&'static str> {
        match (self.drain.phase(), self.drain.has_started()) {
            (DrainPhase::Serving, true) => None,
            (DrainPhase::Serving, false) => Some("starting"),
            (DrainPhase::Refusing | DrainPhase::Draining, _) => Some("draining"),
        }
    }

    /// Sets or clears why an output's last call failed. Ignores an unknown id.
    pub fn set_trouble(&self, output: OutputId, cause: Option<Cause>) {
        let code = cause
            .and_then(|cause| Cause::ALL.iter().position(|known| *known == cause))
            .map_or(0, |at| at + 1);
        if let (Some(output), Ok(code)) = (self.outputs.get(usize::from(output.0)), code.try_into())
        {
            output.trouble.store(code, Ordering::Release);
        }
    }

    /// Watches the uploads of an output that stages records; once per output.
    pub fn watch(&self, output: OutputId, stage: Arc<StagingStats>) {
        if let Some(output) = self.outputs.get(usize::from(output.0)) {
            // Only the first call counts: no output has two staging directories.
            let _ = output.stage.set(stage);
        }
    }

    /// Watches the circuits of an output's writers; once per output.
    pub fn watch_writers(&self, output: OutputId, writers: Vec<Arc<WriterStats>>) {
        if let Some(output) = self.outputs.get(usize::from(output.0)) {
            // Only the first call counts: an output starts once.
            let _ = output.writers.set(writers);
        }
    }

    /// Sets what a 200 means at an output; once per output.
    pub fn promise(&self, output: OutputId, promise: Promise) {
        if let Some(output) = self.outputs.get(usize::from(output.0)) {
            // Only the first call counts.
            let _ = output.promise.set(promise);
        }
    }

    /// The body of `/ready`:
    /// `{"ready":false,"reasons":["draining"],"troubled":{"main":"denied"},"circuits":{"main":"open"}}`, and for
    /// each output whose promise is known, what a 200 means: `"means":{"main":"the destination has the event"}`.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let reason = self.reason();
        let mut json = format!("{{\"ready\":{},\"reasons\":[", reason.is_none()).into_bytes();
        if let Some(reason) = reason {
            quote_str_into(reason, &mut json);
        }
        json.extend_from_slice(b"],\"troubled\":{");
        self.list(&mut json, |output| output.trouble().map(Cause::label));
        json.extend_from_slice(b"},\"circuits\":{");
        self.list(&mut json, |output| {
            output.circuit().map(CircuitState::label)
        });
        json.push(b'}');
        if self
            .outputs
            .iter()
            .any(|output| output.promise.get().is_some())
        {
            json.extend_from_slice(b",\"means\":{");
            self.list(&mut json, |output| Some(output.promise.get()?.sentence()));
            json.push(b'}');
        }
        json.push(b'}');
        json
    }

    /// The outputs that have a word, as members of an object.
    fn list(&self, json: &mut Vec<u8>, word: impl Fn(&OutputHealth) -> Option<&'static str>) {
        let outputs = self.outputs.iter();
        let listed = outputs.filter_map(|output| Some((&output.name, word(output)?)));
        for (at, (name, word)) in listed.enumerate() {
            if at > 0 {
                json.push(b',');
            }
            quote_str_into(name, json);
            json.push(b':');
            quote_str_into(word, json);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(ready: &Readiness) -> String {
        String::from_utf8(ready.to_json()).unwrap()
    }

    fn readiness() -> Readiness {
        Readiness::new(Arc::default(), ["main".to_owned(), "a\"\\\n".to_owned()])
    }

    #[test]
    fn only_serving_is_ready() {
        let ready = readiness();
        assert!(!ready.is_ready());
        assert_eq!(
            text(&ready),
            r#"{"ready":false,"reasons":["starting"],"troubled":{},"circuits":{}}"#
        );
        ready.drain.start();
        assert!(ready.is_ready());
        assert_eq!(
            text(&ready),
            r#"{"ready":true,"reasons":[],"troubled":{},"circuits":{}}"#
        );
        ready.drain.refuse();
        assert!(!ready.is_ready());
        assert_eq!(
            text(&ready),
            r#"{"ready":false,"reasons":["draining"],"troubled":{},"circuits":{}}"#
        );
    }

    #[test]
    fn draining_is_final() {
        let ready = readiness();
        ready.drain.refuse();
        ready.drain.start();
        assert!(!ready.is_ready());
    }

    #[test]
    fn a_failing_output_is_named_and_keeps_readiness() {
        let ready = readiness();
        ready.drain.start();
        ready.set_trouble(OutputId(0), Some(Cause::Throttled));
        ready.set_trouble(OutputId(1), Some(Cause::Lost));
        ready.set_trouble(OutputId(2), Some(Cause::Lost));
        assert!(ready.is_ready());
        assert_eq!(
            text(&ready),
            r#"{"ready":true,"reasons":[],"troubled":{"main":"throttled","a\"\\\n":"lost"},"circuits":{}}"#
        );
        ready.set_trouble(OutputId(0), None);
        ready.set_trouble(OutputId(1), None);
        assert!(text(&ready).ends_with(r#""troubled":{},"circuits":{}}"#));
    }

    #[test]
    fn an_output_with_every_circuit_open_is_listed() {
        let ready = readiness();
        let writers = [Arc::new(WriterStats::default()), Arc::default()];
        ready.watch_writers(OutputId(0), writers.to_vec());
        writers[0].circuit.set(CircuitState::Open as u64);
        assert!(text(&ready).ends_with(r#""circuits":{}}"#));
        writers[1].circuit.set(CircuitState::HalfOpen as u64);
        assert!(text(&ready).ends_with(r#""circuits":{"main":"half_open"}}"#));
    }

    #[test]
    fn a_failing_spool_changes_what_200_means() {
        let ready = readiness();
        let spool = Arc::new(SpoolStats::default());
        let promise = Promise {
            ack: AckMode::Delivered,
            spool: Some(Arc::clone(&spool)),
            has_fallback: false,
        };
        ready.promise(OutputId(0), promise);
        assert!(text(&ready).contains(r#""means":{"main":"the destination has the event, or "#));
        spool.failing.set(1);
        let failing =
            r#""means":{"main":"the destination has the event; the spool's disk fails"}}"#;
        assert!(text(&ready).ends_with(failing));
    }

    #[test]
    fn failing_uploads_make_an_output_troubled() {
        let ready = readiness();
        let stage = Arc::new(StagingStats::default());
        ready.watch(OutputId(0), Arc::clone(&stage));
        stage.attempted(Some(Cause::NotFound));
        ready.set_trouble(OutputId(0), None);
        assert!(text(&ready).ends_with(r#""troubled":{"main":"not_found"},"circuits":{}}"#));
        ready.set_trouble(OutputId(0), Some(Cause::NoSpace));
        assert!(text(&ready).ends_with(r#""troubled":{"main":"no_space"},"circuits":{}}"#));
        ready.set_trouble(OutputId(0), None);
        stage.attempted(None);
        assert!(text(&ready).ends_with(r#""troubled":{},"circuits":{}}"#));
    }
}
