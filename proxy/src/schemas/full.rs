//! JSON Schemas beyond the keywords that are built in, by the crate `jsonschema`: it reads an event as a tree of values.

use super::document::{Document, DocumentError};
use jsonschema::{PatternOptions, Registry, ValidationError, Validator};
use serde_json::{Value, json};
use sluice_core::schema::{Check, Violation};

/// Bytes of one compiled regular expression, and of the states that matching it keeps. The engine is linear in the
/// text; patterns that look around or back are refused.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) struct Full {
    validator: Validator,
    value_bytes_max: usize,
}

impl std::fmt::Debug for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Full").finish_non_exhaustive()
    }
}

impl Full {
    /// The validator of the schema at this place in the document: `#`, and a JSON Pointer behind it.
    pub(super) fn new(
        document: &Document,
        at: &str,
        value_bytes_max: usize,
    ) -> Result<Full, DocumentError> {
        let refused = |error: &dyn std::fmt::Display| DocumentError::Refused(error.to_string());
        let mut registry = Registry::new();
        for (uri, other) in &document.others {
            registry = registry.add(uri, other).map_err(|error| refused(&error))?;
        }
        let part = match at {
            "#" => None,
            at => {
                let uri = &document.base_uri;
                registry = registry
                    .add(uri, &document.root)
                    .map_err(|error| refused(&error))?;
                Some(json!({ "$ref": format!("{uri}{}", fragment(at)) }))
            }
        };
        let registry = registry.prepare().map_err(|error| refused(&error))?;
        let patterns = PatternOptions::regex()
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX);
        let options = jsonschema::options()
            .offline()
            .with_registry(&registry)
            .with_pattern_options(patterns);
        let built = match &part {
            Some(part) => options.build(part),
            None => options
                .with_base_uri(&document.base_uri)
                .build(&document.root),
        };
        let refused = |error: ValidationError<'_>| {
            DocumentError::Refused(format!("#{}: {error}", error.instance_path()))
        };
        Ok(Full {
            validator: built.map_err(refused)?,
            value_bytes_max,
        })
    }
}

/// A pointer as the fragment of a URI.
fn fragment(at: &str) -> String {
    let is_plain =
        |byte: u8| byte.is_ascii_alphanumeric() || b"#/-._~!$&'()*+,;=:@".contains(&byte);
    let bytes = at.bytes();
    bytes
        .map(|byte| match is_plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

impl Check for Full {
    fn check(&self, value: &[u8]) -> Result<(), Box<Violation>> {
        let (limit, actual) = (self.value_bytes_max, value.len());
        if actual > limit {
            let reason = format!("{actual} bytes, at most {limit} are checked");
            return Err(Violation::new("size", reason));
        }
        let value: Value = serde_json::from_slice(value)
            .map_err(|error| Violation::new("unreadable", error.to_string()))?;
        if self.validator.is_valid(&value) {
            return Ok(());
        }
        // Asked a second time, because events are mostly valid, and that is found out faster.
        self.validator.validate(&value).map_err(|error| {
            // Without the value: a violation says nothing of those.
            let reason = error.masked().to_string();
            let mut violation = Violation::new(error.kind().keyword(), reason);
            violation.path = error.instance_path().to_string();
            violation
        })
    }
}
