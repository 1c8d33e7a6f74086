//! The kinds of requests, by family: what each is made of, and how it has to be answered.

mod bodies;
mod brotli;
mod chunks;
mod deflate;
mod envelopes;
mod heads;
mod json;
mod lists;
mod wrapped;
mod zstd;

use bodies::post;
use std::io;

/// Which server a kind is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settings {
    /// Default settings.
    Default,
    /// 256 CORS origins, 10,000 applications, 256 trusted networks, three codings: what makes a head dear.
    Lists,
}

impl Settings {
    /// The name of the server's row.
    pub(super) fn name(self) -> &'static str {
        match self {
            Settings::Default => "default",
            Settings::Lists => "lists",
        }
    }
}

/// A kind of request.
#[derive(Clone, Debug)]
pub(super) struct Kind {
    /// Its name, unique.
    pub(super) name: &'static str,
    /// What keeps the server busy.
    pub(super) about: &'static str,
    pub(super) settings: Settings,
    /// What one send consists of.
    pub(super) bytes: Vec<u8>,
    /// Requests in one send.
    pub(super) requests: usize,
    /// Status of every response.
    pub(super) status: u16,
    /// Events that one request stores.
    pub(super) accepted: u64,
    /// Events that the server rejects one by one.
    pub(super) rejected: u64,
    /// Whether the server closes the connection, or each request comes by a new one.
    pub(super) own_connection: bool,
    /// Whether the worker serves others between the pieces of one request.
    pub(super) in_pieces: bool,
}

impl Kind {
    fn new(name: &'static str, about: &'static str, bytes: Vec<u8>) -> Kind {
        Kind {
            name,
            about,
            settings: Settings::Default,
            bytes,
            requests: 1,
            status: 200,
            accepted: 0,
            rejected: 0,
            own_connection: false,
            in_pieces: false,
        }
    }

    fn accepts(mut self, events: u64) -> Kind {
        self.accepted = events;
        self
    }

    fn rejects(mut self, events: u64) -> Kind {
        self.rejected = events;
        self
    }

    fn status(mut self, status: u16) -> Kind {
        self.status = status;
        self
    }

    fn lists(mut self) -> Kind {
        self.settings = Settings::Lists;
        self
    }

    /// Each of them on a connection of its own.
    fn alone(mut self) -> Kind {
        self.own_connection = true;
        self
    }

    fn in_pieces(mut self) -> Kind {
        self.in_pieces = true;
        self
    }

    /// This many of them in one send.
    fn pipelined(mut self, requests: usize) -> Kind {
        self.bytes = self.bytes.repeat(requests);
        self.requests = requests;
        self
    }
}

/// The honest request that all others are compared with.
pub(super) fn plain() -> Kind {
    Kind::new(
        "plain",
        "an event of 1 KiB",
        post("/v1/events", "", &plain_event()),
    )
    .accepts(1)
}

/// The same from a listed application.
pub(super) fn plain_listed() -> Kind {
    Kind::new(
        "plain-listed",
        "an event of 1 KiB from a listed application",
        post("/v1/events?appId=app-1", "", &plain_event()),
    )
    .accepts(1)
    .lists()
}

/// The same, but by a connection for itself.
pub(super) fn plain_alone() -> Kind {
    Kind {
        name: "plain-alone",
        about: "an event of 1 KiB on a connection of its own",
        ..plain().alone()
    }
}

/// A page view of 1,024 bytes as an SDK sends it.
fn plain_event() -> Vec<u8> {
    let mut event = String::from(
        "{\"event_type\":\"_page_view\",\"event_id\":\"0190b3a2-6f1c-7c3e-9a52-8d6f0a1b2c3d\",\"timestamp\":1719469182900,\
         \"unique_id\":\"7f9c24e8-3b1d-4e5f-8a6b-1c2d3e4f5a6b\",\"platform\":\"Web\",\"locale\":\"en_US\",\"screen_width\":1920,\
         \"screen_height\":1080,\"zone_offset\":3600000,\"sdk_version\":\"0.11.1\",\"attributes\":{",
    );
    let mut number = 0;
    while event.len() < 960 {
        event.push_str(&format!(
            "\"page_attribute_{number}\":\"value of {number}\","
        ));
        number += 1;
    }
    event.push_str("\"rest\":\"");
    while event.len() < 1_024 - 3 {
        event.push('r');
    }
    event.push_str("\"}}");
    event.into_bytes()
}

/// All kinds.
///
/// # Errors
/// When an encoder fails.
pub(super) fn all() -> io::Result<Vec<Kind>> {
    let mut kinds = heads::all();
    kinds.extend(chunks::all());
    kinds.extend(json::all());
    kinds.extend(wrapped::all()?);
    kinds.extend(deflate::all()?);
    kinds.extend(zstd::all()?);
    kinds.extend(brotli::all());
    kinds.extend(envelopes::all()?);
    kinds.extend(lists::all()?);
    Ok(kinds)
}
