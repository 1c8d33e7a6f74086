//! What a record may say about the request that it came in: no HTTP types, only borrowed bytes.

use crate::time::Wall;
use std::net::IpAddr;

/// 128 random bits that name one request; written as 32 lower-case hex digits (`rid`, `X-Request-ID`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId(pub u128);

impl RequestId {
    /// The 32 lower-case hex digits.
    #[must_use]
    pub fn to_hex(self) -> [u8; 32] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = [0; 32];
        for (at, byte) in self.0.to_be_bytes().iter().enumerate() {
            hex[at * 2] = DIGITS[usize::from(byte >> 4)];
            hex[at * 2 + 1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }
}

/// The request around a body, as the front door saw it. Nothing here is trusted to be UTF-8 or short
/// beyond the head limits that the front door enforced.
#[derive(Clone, Copy, Debug)]
pub struct RequestContext<'a> {
    /// The method as sent, for instance `POST`.
    pub method: &'a str,
    /// Path and query as sent: `/collect?appId=shop&platform=Web`.
    pub uri: &'a str,
    /// The part of `uri` before the first `?`.
    pub path: &'a str,
    /// The part of `uri` after the first `?`, not decoded; `None` when there is no `?`.
    pub query: Option<&'a str>,
    /// The User-Agent header as sent.
    pub user_agent: Option<&'a [u8]>,
    /// The X-Forwarded-For header as sent (several header lines joined with `, `).
    pub forwarded_for: Option<&'a [u8]>,
    /// Who is at the other end of the connection.
    pub peer: IpAddr,
    /// The id of this request.
    pub id: RequestId,
    /// When the request's head had arrived.
    pub received_at: Wall,
}
