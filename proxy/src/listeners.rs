//! Listeners: addresses where connections come in, each with its own TLS, PROXY protocol and trust.
//!
//! `[listen]` is the first one; it also says how many workers there are, and every worker accepts from all
//! listeners. Each further one has a section `[listeners.<name>]`.

use crate::http::{NETWORKS_MAX, Network};
use crate::net::listener::{Handshakes, ListenerRules};
use crate::net::tls::{self, Protocols, Tls, TlsError, TlsSettings};
use crate::runtime::clock;
use crate::worker::{ListenSettings, ProxyProtocol};
use sluice_core::privacy::AddressRule;
use sluice_sinks::settings::{
    Fault, Form, Given, Problem, Reader, SettingValue, Value, checked, is_word, list, word,
};
use sluice_sinks::{keyword_enum, settings};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Listeners at most, the first one included.
pub const LISTENERS_MAX: usize = 16;

/// The name of the first one, which is that of its section.
pub const FIRST: &str = "listen";

/// The section of further listeners' sections.
pub const SECTION: &str = "listeners";

/// The path of a unix socket may have this many bytes: the kernel's structure has one more, for a 0.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What a list of networks may have.
const PEERS_EXPECTED: &str = "networks such as 10.1.0.0/16, addresses, or private";

settings! {
    /// Where a further listener listens.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct NamedSettings from (reader) {
        /// Address and port, or `unix:` and the path of a socket; an older socket there is replaced.
        address: ListenAddress = ListenAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)),
            checked("an address with a port, for instance 127.0.0.1:8088 or [::1]:8088, or unix: and an absolute path")
                .needed("a listener needs its address");
        /// Whether connections begin with a PROXY protocol header, version 1 or 2.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off, word::<ProxyProtocol>();
    }
}

settings! {
    /// What every listener decides about its peers.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct PeerSettings from (reader, is_tls: bool, trusted_elsewhere: &[Network]) {
        /// Networks that may send the header of `proxy_protocol`; connections from others are closed. Peers on a unix socket always may.
        proxy_protocol_from: Vec<Network> = vec![Network::private()],
            list("networks", NETWORKS_MAX, PEERS_EXPECTED).default_is("`[\"private\"]`");
        /// Networks whose X-Forwarded-For is believed here. Peers on a unix socket always are, clients that they name by a PROXY header not.
        trusted: Vec<Network> = trusted_elsewhere.to_vec(),
            list("networks", NETWORKS_MAX, PEERS_EXPECTED).default_is("`client_address.trusted`");
        /// What is stored of the addresses of clients that come in here; `by_endpoint` leaves it to `privacy`.
        addresses: ListenerAddresses = ListenerAddresses::ByEndpoint, word::<ListenerAddresses>();
        /// HTTP/2: agreed upon with TLS (`alpn`), or without TLS by clients that know (`prior_knowledge`).
        http2: Http2 = if is_tls { Http2::Alpn } else { Http2::Off },
            word::<Http2>().default_is("`alpn` with TLS, else `off`");
    }
}

keyword_enum! {
    /// How clients come to speak HTTP/2.
    Http2, "one of off, alpn, prior_knowledge" {
        /// They do not.
        Off = "off",
        /// By ALPN, within TLS.
        Alpn = "alpn",
        /// They begin with it on a connection without TLS (RFC 9113, 3.3).
        PriorKnowledge = "prior_knowledge",
    }
}

keyword_enum! {
    /// What is stored of client addresses.
    ListenerAddresses, "one of by_endpoint, keep, truncate, hash, none" {
        /// What the endpoint stores.
        ByEndpoint = "by_endpoint",
        /// All of it.
        Keep = "keep",
        /// The network.
        Truncate = "truncate",
        /// A keyed hash that changes every day.
        Hash = "hash",
        /// Nothing.
        Nothing = "none",
    }
}

impl ListenerAddresses {
    fn rule(self) -> Option<AddressRule> {
        match self {
            ListenerAddresses::ByEndpoint => None,
            ListenerAddresses::Keep => Some(AddressRule::Keep),
            ListenerAddresses::Truncate => Some(AddressRule::Truncate),
            ListenerAddresses::Hash => Some(AddressRule::Hash),
            ListenerAddresses::Nothing => Some(AddressRule::Drop),
        }
    }
}

/// One listener, as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// [`FIRST`], or the name of its section.
    pub name: String,
    /// Where it listens.
    pub address: ListenAddress,
    /// Whether connections begin with a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// Who may send that.
    pub proxy_protocol_from: Vec<Network>,
    /// Whose X-Forwarded-For is believed.
    pub trusted: Vec<Network>,
    /// What is stored of client addresses; `None` leaves it to the endpoint.
    pub addresses: Option<AddressRule>,
    /// What logs show of addresses.
    pub logged_addresses: AddressRule,
    /// How clients come to speak HTTP/2.
    pub http2: Http2,
    /// TLS; `None` is plain HTTP.
    pub tls: Option<TlsSettings>,
}

impl ListenerSettings {
    /// The first listener, from the section `[listen]`.
    pub fn first(
        reader: &mut Reader,
        listen: &ListenSettings,
        trusted: &[Network],
    ) -> ListenerSettings {
        reader.enter(FIRST);
        let address = ListenAddress::Tcp(listen.address);
        ListenerSettings::read(reader, FIRST, address, listen.proxy_protocol, trusted)
    }

    /// The others, in the order of their names.
    pub fn others(reader: &mut Reader, trusted: &[Network]) -> Vec<ListenerSettings> {
        let names = reader.listeners();
        if names.len() >= LISTENERS_MAX {
            reader.problems.push(Problem::OutOfRange {
                key: SECTION.to_owned(),
                value: names.len() as u64,
                unit: "listeners besides the first",
                min: 0,
                max: LISTENERS_MAX as u64 - 1,
            });
        }
        let mut read = Vec::with_capacity(names.len());
        for name in names {
            if !is_name(&name) {
                reader.problems.push(Problem::Malformed {
                    key: SECTION.to_owned(),
                    value: name,
                    expected: "a name of 1 to 32 of a-z, 0-9, _ and -, other than `listen`",
                });
                continue;
            }
            reader.enter(format!("{SECTION}.{name}"));
            let own = NamedSettings::read(reader);
            let NamedSettings {
                address,
                proxy_protocol,
            } = own;
            read.push(ListenerSettings::read(
                reader,
                &name,
                address,
                proxy_protocol,
                trusted,
            ));
        }
        read
    }

    /// What all listeners have, from the section that the reader has entered.
    fn read(
        reader: &mut Reader,
        name: &str,
        address: ListenAddress,
        proxy_protocol: ProxyProtocol,
        trusted: &[Network],
    ) -> ListenerSettings {
        let problems = reader.problems.len();
        let tls = TlsSettings::read(reader);
        // A value that is refused was replaced by its default, which may contradict what was written.
        if reader.problems.len() == problems {
            tls.check(reader);
        }
        let peers = PeerSettings::read(reader, tls.is_on(), trusted);
        reader.only_if(
            proxy_protocol == ProxyProtocol::Required,
            &["proxy_protocol_from"],
            "proxy_protocol",
            proxy_protocol.word(),
        );
        check_http2(reader, peers.http2, &tls);
        ListenerSettings {
            name: name.to_owned(),
            address,
            proxy_protocol,
            proxy_protocol_from: peers.proxy_protocol_from,
            trusted: peers.trusted,
            addresses: peers.addresses.rule(),
            logged_addresses: AddressRule::Keep,
            http2: peers.http2,
            tls: tls.is_on().then_some(tls),
        }
    }

    /// What is offered by ALPN, where there is TLS.
    #[must_use]
    pub fn protocols(&self) -> Protocols {
        match self.http2 {
            Http2::Alpn => Protocols::Http2AndHttp1,
            Http2::Off | Http2::PriorKnowledge => Protocols::Http1,
        }
    }

    /// The name of its address' setting.
    #[must_use]
    pub fn address_key(&self) -> String {
        match &*self.name {
            FIRST => format!("{FIRST}.address"),
            name => format!("{SECTION}.{name}.address"),
        }
    }

    fn given(&self) -> Given {
        Given::new(self.address_key(), self.address.to_string())
    }
}

/// A listener and what it has loaded.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its settings.
    pub settings: ListenerSettings,
    /// Its certificates and keys.
    pub tls: Option<Arc<Tls>>,
}

impl Listener {
    /// Reads the files of its TLS.
    ///
    /// # Errors
    /// A file is missing or broken; see [`Tls::load`].
    pub fn load(settings: ListenerSettings) -> Result<Listener, TlsError> {
        let protocols = settings.protocols();
        let load = |tls| Tls::load(&settings.name, tls, protocols, clock::wall);
        let tls = settings.tls.as_ref().map(load).transpose()?;
        Ok(Listener {
            tls: tls.map(Arc::new),
            settings,
        })
    }

    /// What it decides about its connections, for one core.
    pub(crate) fn rules(&self) -> ListenerRules {
        let settings = &self.settings;
        let nets = |networks: &[Network]| networks.iter().flat_map(Network::nets).collect();
        let tls = settings.tls.as_ref();
        let is_required = settings.proxy_protocol == ProxyProtocol::Required;
        ListenerRules {
            name: settings.name.as_str().into(),
            tls: self.tls.clone(),
            handshake_deadline: tls.map_or(Duration::ZERO, |tls| tls.handshake_deadline),
            handshakes: Handshakes::new(tls.map_or(0, |tls| tls.handshakes_max)),
            proxy_protocol_from: is_required.then(|| nets(&settings.proxy_protocol_from)),
            trusted: nets(&settings.trusted),
            addresses: settings.addresses,
            logged_addresses: settings.logged_addresses,
            http2_prior_knowledge: settings.http2 == Http2::PriorKnowledge,
            is_unix: matches!(settings.address, ListenAddress::Unix(_)),
        }
    }
}

fn check_http2(reader: &mut Reader, http2: Http2, settings: &TlsSettings) {
    let (must, why) = match (http2, settings.is_on()) {
        (Http2::Alpn, false) => ("off or prior_knowledge without", "ALPN is a part of TLS"),
        (Http2::PriorKnowledge, true) => (
            "off or alpn with",
            "over TLS, the protocol is agreed upon by ALPN",
        ),
        _ => return,
    };
    let certificates = tls::counted(&settings.certificate_files);
    let given = Given::new(reader.path("http2"), http2.word());
    let certificates = Given::new(reader.path("tls_certificate_files"), certificates);
    reader.contradiction(given, must, certificates, why);
}

/// No two listeners, nor one and the admin port, have the same address.
pub fn check_addresses(
    reader: &mut Reader,
    listeners: &[ListenerSettings],
    admin: Option<SocketAddr>,
) {
    for (at, listener) in listeners.iter().enumerate() {
        for other in listeners.get(..at).unwrap_or_default() {
            if listener.address.meets(&other.address) {
                reader.contradiction(
                    listener.given(),
                    "other than",
                    other.given(),
                    "a connection would come to either of them",
                );
            }
        }
        // `[listen]` compares itself.
        let admin = admin.filter(|_| at > 0).map(ListenAddress::Tcp);
        if let Some(admin) = admin.filter(|admin| listener.address.meets(admin)) {
            reader.contradiction(
                Given::new("admin.address", admin.to_string()),
                "other than",
                listener.given(),
                "probes and clients do not share a port",
            );
        }
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An address and a port; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// The absolute path of a unix socket.
    Unix(PathBuf),
}

/// Begins the path of a unix socket.
const UNIX: &str = "unix:";

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListenAddressError {
    /// It is neither.
    #[error(
        "`{0}` is neither an address with a port, for instance 127.0.0.1:8088, nor unix: and an absolute path"
    )]
    Neither(String),
    /// The path is too long.
    #[error("the path of the socket has {actual} bytes, at most {limit} are possible")]
    LongPath {
        /// [`SOCKET_PATH_BYTES_MAX`].
        limit: usize,
        /// Its bytes.
        actual: usize,
    },
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(text: &str) -> Result<ListenAddress, ListenAddressError> {
        let neither = || ListenAddressError::Neither(text.to_owned());
        let Some(path) = text.strip_prefix(UNIX) else {
            return text.parse().map(ListenAddress::Tcp).map_err(|_| neither());
        };
        if !path.starts_with('/') || path.contains('\0') {
            return Err(neither());
        }
        match path.len() {
            actual if actual > SOCKET_PATH_BYTES_MAX => Err(ListenAddressError::LongPath {
                limit: SOCKET_PATH_BYTES_MAX,
                actual,
            }),
            _ => Ok(ListenAddress::Unix(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAddress::Tcp(address) => address.fmt(f),
            ListenAddress::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

impl SettingValue for ListenAddress {
    fn read(form: &Form, value: &Value) -> Result<ListenAddress, Vec<Fault>> {
        let text = String::read(form, value)?;
        let address = text.parse::<ListenAddress>();
        address.map_err(|error| vec![Fault::Unreadable(error.to_string())])
    }

    fn show(&self, _: &Form) -> Option<Value> {
        Some(Value::Text(self.to_string()))
    }
}

impl ListenAddress {
    /// Whether a connection could come to both.
    fn meets(&self, other: &ListenAddress) -> bool {
        match (self, other) {
            (ListenAddress::Tcp(a), ListenAddress::Tcp(b)) => {
                let (one, two) = (a.ip(), b.ip());
                a.port() == b.port()
                    && a.port() != 0
                    && (one == two || covers(one, two) || covers(two, one))
            }
            (ListenAddress::Unix(a), ListenAddress::Unix(b)) => a == b,
            _ => false,
        }
    }
}

/// Whether listening on one address takes connections to the other: `0.0.0.0` stands for all of IPv4, `::` for
/// all.
fn covers(one: IpAddr, other: IpAddr) -> bool {
    one.is_unspecified() && (one.is_ipv6() || other.is_ipv4())
}

fn is_name(name: &str) -> bool {
    name != FIRST && is_word(name, 32, "_-") && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_meet_where_a_connection_could_come_to_both() {
        let meets = |one: &str, other: &str| {
            let [one, other] = [one, other].map(|text| text.parse::<ListenAddress>().unwrap());
            assert_eq!(one.meets(&other), other.meets(&one));
            one.meets(&other)
        };
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "10.0.0.1:80"),
            ("[::]:80", "10.0.0.1:80"),
            ("[::]:80", "0.0.0.0:80"),
            ("[::]:80", "[::1]:80"),
            ("unix:/run/a", "unix:/run/a"),
        ] {
            assert!(meets(one, other), "{one} {other}");
        }
        for (one, other) in [
            ("127.0.0.1:80", "127.0.0.1:81"),
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("unix:/run/a", "unix:/run/b"),
            ("unix:/run/a", "[::]:80"),
        ] {
            assert!(!meets(one, other), "{one} {other}");
        }
    }
}
