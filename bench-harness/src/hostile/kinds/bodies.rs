//! Requests and bodies that several families are made from, and their sizes.

/// A request with a body of known length.
pub(super) fn post(target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("POST {target} HTTP/1.1\r\nHost: a\r\n{headers}Content-Length: {length}\r\n\r\n")
            .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

pub(super) fn event(body: &[u8]) -> Vec<u8> {
    post("/v1/events", "", body)
}

pub(super) fn coded(coding: &str, body: &[u8]) -> Vec<u8> {
    post(
        "/v1/events",
        &format!("Content-Encoding: {coding}\r\n"),
        body,
    )
}

pub(super) fn collect(body: &[u8]) -> Vec<u8> {
    post("/collect", "", body)
}

pub(super) fn get(target: &str, headers: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes()
}

/// A text of about `bytes` bytes: start, the piece again and again, end.
pub(super) fn filled(start: &str, piece: &str, end: &str, bytes: usize) -> Vec<u8> {
    let room = bytes.saturating_sub(start.len() + end.len());
    let mut text = start.as_bytes().to_vec();
    text.extend_from_slice(&piece.as_bytes().repeat(room / piece.len()));
    text.extend_from_slice(end.as_bytes());
    text
}

/// The same of a JSON list: between two pieces a comma, and none at the end.
pub(super) fn listed(start: &str, piece: &str, end: &str, bytes: usize) -> Vec<u8> {
    filled(start, &format!("{piece},"), &format!("{piece}{end}"), bytes)
}

pub(super) fn base64(bytes: &[u8]) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = Vec::with_capacity(bytes.len() / 3 * 4 + 4);
    for piece in bytes.chunks(3) {
        let byte = |at: usize| piece.get(at).copied().unwrap_or(0);
        let number = u32::from_be_bytes([0, byte(0), byte(1), byte(2)]);
        for place in 0..4 {
            let letter = LETTERS[(number >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= piece.len() { letter } else { b'=' });
        }
    }
    text
}

pub(super) fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("%{byte:02X}")).collect()
}

/// Largest body that is prepared on the thread that read it, less a little.
pub(super) const INLINE: usize = 65_000;

/// The same for packed bodies.
pub(super) const INLINE_PACKED: usize = 16_000;

/// What any packed body may become, less a little.
pub(super) const FREE: usize = 16_000;

/// Marks that any packed body may have, less a little.
pub(super) const MARKS_FREE: usize = 2_000;

/// A body that goes to another thread; the limit is 1 MiB.
pub(super) const LARGE: usize = 1_000_000;
