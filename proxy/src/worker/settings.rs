//! Where and how requests come in.

use crate::runtime::driver::Driver;
use sluice_sinks::settings::{
    Fault, Form, Given, Reader, SettingValue, Value, checked, number, word,
};
use sluice_sinks::{keyword_enum, settings};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

settings! {
    /// Where and how requests come in.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ListenSettings from (reader) {
        /// Address and port of the HTTP listeners; port 0 lets the kernel choose.
        address: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8088),
            checked("an address with a port, for instance 127.0.0.1:8088");
        /// Listener cores; 0 is the number of available cores.
        workers: usize = 0, number("workers", 0, 1_024).default_is("the number of available cores");
        /// Which I/O driver the workers run on.
        driver: Driver = Driver::Auto, word::<Driver>();
        /// Whether each worker is pinned to its core; `auto`: where there is a worker for each available core and no
        /// CPU quota, so that nobody else is on it.
        pin: Pinning = Pinning::Auto, checked("auto, `true` or `false`");
        /// Whether connections begin with a PROXY protocol header, version 1 or 2.
        proxy_protocol: ProxyProtocol = ProxyProtocol::Off, word::<ProxyProtocol>();
    }
}

impl Default for ListenSettings {
    fn default() -> ListenSettings {
        ListenSettings::read(&mut Reader::default())
    }
}

impl ListenSettings {
    /// Puts the number of cores in the place of 0.
    pub fn count_workers(&mut self, reader: &mut Reader, cores: usize) {
        if self.workers == 0 {
            self.workers = cores.max(1);
            reader.replace("workers", Value::Integer(self.workers as i64));
        }
    }

    /// The admin port is another one.
    pub fn check_admin(&self, reader: &mut Reader, admin: Option<SocketAddr>) {
        let listen = self.address;
        if let Some(admin) = admin
            && admin.port() == listen.port()
            && admin.port() != 0
            && (admin.ip() == listen.ip()
                || admin.ip().is_unspecified()
                || listen.ip().is_unspecified())
        {
            reader.contradiction(
                Given::new("admin.address", admin.to_string()),
                "other than",
                Given::new("listen.address", listen.to_string()),
                "probes and clients do not share a port",
            );
        }
    }
}

keyword_enum! {
    /// Whether connections begin with a PROXY protocol header, version 1 or 2. There is no
    /// "optional": any client could then choose its address by sending one.
    ProxyProtocol, "one of off, required" {
        /// They do not; a header is a malformed request.
        Off = "off",
        /// They do; a connection without one is closed.
        Required = "required",
    }
}

/// Whether each worker is pinned to a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// Where that does no harm.
    Auto,
    /// As far as there are cores.
    Always,
    /// Not at all.
    Never,
}

impl SettingValue for Pinning {
    fn read(form: &Form, value: &Value) -> Result<Pinning, Vec<Fault>> {
        if value.text() == Some("auto") {
            return Ok(Pinning::Auto);
        }
        match bool::read(form, value) {
            Ok(true) => Ok(Pinning::Always),
            Ok(false) => Ok(Pinning::Never),
            Err(_) => {
                let why = format!("{value:?} is not auto, true or false");
                Err(vec![Fault::Unreadable(why)])
            }
        }
    }

    fn show(&self, _: &Form) -> Option<Value> {
        Some(match self {
            Pinning::Auto => Value::Text("auto".to_owned()),
            Pinning::Always => Value::Switch(true),
            Pinning::Never => Value::Switch(false),
        })
    }
}
