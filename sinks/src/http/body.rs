//! The body of a request.

use super::settings::{HttpFormat, HttpSettings};
use crate::gzip::gzip;

/// Whether an event can be part of a body: a line break would make two lines of it.
pub(super) fn is_sendable(event: &[u8], format: HttpFormat) -> bool {
    let is_line = format == HttpFormat::JsonArray || memchr::memchr(b'\n', event).is_none();
    !event.is_empty() && is_line
}

/// The events as they are, as lines or in an array.
pub(super) fn body(events: &[&[u8]], settings: &HttpSettings) -> Vec<u8> {
    let bytes: usize = events.iter().map(|event| event.len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + 1);
    match settings.format {
        HttpFormat::Ndjson => {
            for event in events {
                body.extend_from_slice(event);
                body.push(b'\n');
            }
        }
        HttpFormat::JsonArray => {
            for (at, event) in events.iter().enumerate() {
                body.push(if at == 0 { b'[' } else { b',' });
                body.extend_from_slice(event);
            }
            body.push(b']');
        }
    }
    match settings.gzip {
        // Compressing into enough room cannot fail.
        true => gzip(&body).unwrap_or_default(),
        false => body,
    }
}
