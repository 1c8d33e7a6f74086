//! JSON Schemas beyond the keywords that are built in, by the crate `jsonschema`: it reads an event as a tree of values.

use super::document::{Document, DocumentError};
use jsonschema::{PatternOptions, Registry, Validator};
use serde_json::Value;
use sluice_core::schema::{Check, Violation};
use std::sync::Arc;

/// Bytes of one compiled regular expression, and of the states that matching it keeps. The engine is linear in the
/// text; patterns that look around or back are refused.
const PATTERN_BYTES_MAX: usize = 1 << 20;

struct Full {
    validator: Validator,
    event_bytes_max: usize,
}

impl std::fmt::Debug for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Full").finish_non_exhaustive()
    }
}

pub(super) fn check(
    document: &Document,
    event_bytes_max: usize,
) -> Result<Arc<dyn Check>, DocumentError> {
    let refused = |error: &dyn std::fmt::Display| DocumentError::Refused(error.to_string());
    let mut registry = Registry::new();
    for (uri, other) in &document.others {
        registry = registry.add(uri, other).map_err(|error| refused(&error))?;
    }
    let registry = registry.prepare().map_err(|error| refused(&error))?;
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX);
    let validator = jsonschema::options()
        .offline()
        .with_base_uri(&document.base_uri)
        .with_registry(&registry)
        .with_pattern_options(patterns)
        .build(&document.root)
        .map_err(|error| DocumentError::Refused(format!("#{}: {error}", error.instance_path())))?;
    Ok(Arc::new(Full {
        validator,
        event_bytes_max,
    }))
}

impl Check for Full {
    fn check(&self, event: &[u8]) -> Result<(), Box<Violation>> {
        let (limit, actual) = (self.event_bytes_max, event.len());
        if actual > limit {
            let reason = format!("{actual} bytes, at most {limit} are checked");
            return Err(Violation::new("size", reason));
        }
        let event: Value = serde_json::from_slice(event)
            .map_err(|error| Violation::new("unreadable", error.to_string()))?;
        if self.validator.is_valid(&event) {
            return Ok(());
        }
        // Asked a second time, because events are mostly valid, and that is found out faster.
        self.validator.validate(&event).map_err(|error| {
            // Without the value: a violation says nothing of those.
            let reason = error.masked().to_string();
            let mut violation = Violation::new(error.kind().keyword(), reason);
            violation.path = error.instance_path().to_string();
            violation
        })
    }
}
