//! One GET over HTTP/1.1 for its status: the health check of images without curl. Within TLS where it asks a
//! listener that speaks TLS, whose certificate it does not check. No redirects, no body.

use crate::net::proxy_protocol::LOCAL_HEADER;
use crate::net::tls;
use crate::worker::ProxyProtocol;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::str::FromStr;
use std::time::{Duration, Instant};

/// From the first packet to the status line.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(3);

/// A URL may have this many bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// The target: `http://host[:port][/path]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Host and port as they stand in a URL.
    authority: String,
    /// Path and query, beginning with `/`.
    path: String,
    /// Whether it requires a PROXY header.
    wants_header: bool,
    /// Whether it speaks TLS.
    speaks_tls: bool,
}

impl Target {
    /// The listener of a proxy on this machine; one that listens on all addresses is asked on loopback.
    #[must_use]
    pub fn of(
        listener: SocketAddr,
        path: &str,
        proxy_protocol: ProxyProtocol,
        speaks_tls: bool,
    ) -> Target {
        let ip = match listener.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Target {
            authority: SocketAddr::new(ip, listener.port()).to_string(),
            path: path.to_owned(),
            wants_header: proxy_protocol == ProxyProtocol::Required,
            speaks_tls,
        }
    }

    /// Sends the request and returns the status.
    ///
    /// # Errors
    /// There is no response within [`PROBE_DEADLINE`], or it is not HTTP.
    pub fn ask(&self) -> io::Result<u16> {
        let end = Instant::now() + PROBE_DEADLINE;
        let mut stream = self.connect(end)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.path, self.authority
        );
        stream.set_write_timeout(Some(left(end)?))?;
        if self.wants_header {
            stream.write_all(&LOCAL_HEADER)?;
        }
        stream.set_read_timeout(Some(left(end)?))?;
        match self.speaks_tls {
            false => status(&mut stream, &request, end, |stream| stream),
            true => {
                let host = stream.peer_addr()?.ip();
                let mut stream = tls::probe::connect(stream, host)?;
                status(&mut stream, &request, end, |stream| &stream.sock)
            }
        }
    }

    /// Connects to the first of the host's addresses that accepts.
    fn connect(&self, end: Instant) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(end)?) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Sends a request and reads the status of its response. `socket` is what the stream reads from.
fn status<S: Read + Write>(
    stream: &mut S,
    request: &str,
    end: Instant,
    socket: fn(&S) -> &TcpStream,
) -> io::Result<u16> {
    stream.write_all(request.as_bytes())?;
    // `HTTP/1.1 200`; the rest is not needed.
    let mut line = [0; 12];
    let mut filled = 0;
    while filled < line.len() {
        socket(stream).set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut line[filled..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
    }
    std::str::from_utf8(&line)
        .ok()
        .and_then(|line| line.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
}

/// The time until the deadline. Zero is an error: to the socket calls it means no time-out.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(url: &str) -> Result<Target, Self::Err> {
        if url.len() > URL_BYTES_MAX {
            return Err("a URL has at most 2048 bytes");
        }
        // Any other byte could end the header line.
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a URL has only visible ASCII characters");
        }
        let rest = url
            .strip_prefix("http://")
            .ok_or("expected http://host[:port][/path]")?;
        let at = rest.find('/').unwrap_or(rest.len());
        let (host, path) = rest.split_at(at);
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        if host.is_empty() || host.contains(['@', '?', '#']) || path.contains('#') {
            return Err("expected http://host[:port][/path]");
        }
        Ok(Target {
            authority: if has_port {
                host.to_owned()
            } else {
                format!("{host}:80")
            },
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            wants_header: false,
            speaks_tls: false,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.speaks_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn url(url: &str) -> Result<String, &'static str> {
        url.parse::<Target>().map(|target| target.to_string())
    }

    #[test]
    fn a_url_is_completed_with_port_and_path() {
        assert_eq!(url("http://a").unwrap(), "http://a:80/");
        assert_eq!(url("http://a:1/b?c").unwrap(), "http://a:1/b?c");
        assert_eq!(url("http://[::1]:8088/h").unwrap(), "http://[::1]:8088/h");
        assert_eq!(url("http://[::1]/h").unwrap(), "http://[::1]:80/h");
    }

    #[test]
    fn other_urls_are_refused() {
        let long = |len: usize| format!("http://a/{}", "x".repeat(len - 9));
        assert!(url(&long(URL_BYTES_MAX)).is_ok());
        for wrong in [
            "https://a/",
            "a:80",
            "http://",
            "http:///h",
            "http://u@a/",
            "http://a/ b",
            "http://a/\r\nx:y",
            "http://a?b",
            &long(URL_BYTES_MAX + 1),
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_asked_on_loopback() {
        for (listener, expected) in [
            ("0.0.0.0:1", "http://127.0.0.1:1/h"),
            ("[::]:1", "http://[::1]:1/h"),
            ("10.0.0.1:1", "http://10.0.0.1:1/h"),
        ] {
            let target = Target::of(listener.parse().unwrap(), "/h", ProxyProtocol::Off, false);
            assert_eq!(target.to_string(), expected);
        }
    }

    /// Probes a server with one fixed response; also returns the request it received.
    fn ask(answer: &'static [u8]) -> (io::Result<u16>, String) {
        ask_in_parts(&[answer])
    }

    /// As `ask`, with a pause between the parts of the response.
    fn ask_in_parts(parts: &[&'static [u8]]) -> (io::Result<u16>, String) {
        let parts = parts.to_vec();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target::of(address, "/h", ProxyProtocol::Off, false);
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let read = stream.read(&mut request).unwrap();
            for (at, part) in parts.iter().enumerate() {
                thread::sleep(Duration::from_millis(if at > 0 { 50 } else { 0 }));
                stream.write_all(part).unwrap();
            }
            String::from_utf8(request[..read].to_vec()).unwrap()
        });
        (target.ask(), server.join().unwrap())
    }

    #[test]
    fn the_status_is_returned_whatever_follows_it() {
        let (status, request) = ask(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
        assert_eq!(status.unwrap(), 503);
        assert!(request.starts_with("GET /h HTTP/1.1\r\nhost: 127.0.0.1:"));
        assert_eq!(ask(b"HTTP/1.0 200").0.unwrap(), 200);
        assert_eq!(
            ask_in_parts(&[b"HTTP/1", b".1 2", b"04\r\n"]).0.unwrap(),
            204
        );
    }

    #[test]
    fn what_is_not_http_or_cut_short_is_an_error() {
        for answer in [
            &b"HTTP/1.1 20"[..],
            b"",
            b"SSH-2.0-OpenSSH_9.2",
            b"HTTP/1.1 abc",
        ] {
            assert!(ask(answer).0.is_err(), "{answer:?}");
        }
    }

    #[test]
    fn a_listener_that_speaks_tls_is_asked_within_tls() {
        let own = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, contents: String| {
            let path = dir.path().join(name);
            std::fs::write(&path, contents).unwrap();
            vec![path.to_str().unwrap().to_owned()]
        };
        let settings = tls::TlsSettings {
            certificate_files: file("crt", own.cert.pem()),
            key_files: file("key", own.signing_key.serialize_pem()),
            ..tls::TlsSettings::default()
        };
        let wall = crate::runtime::clock::wall;
        let tls = tls::Tls::load("listen", &settings, tls::Protocols::Http1, wall).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let target = Target::of(address, "/h", ProxyProtocol::Off, true);
        assert_eq!(target.to_string(), format!("https://{address}/h"));
        let server = thread::spawn(move || {
            let (socket, _) = listener.accept().unwrap();
            tls::probe::answer_once(&tls, socket, b"HTTP/1.1 200 OK\r\n\r\n")
        });
        assert_eq!(target.ask().unwrap(), 200);
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /h HTTP/1.1\r\n"), "{request}");
        // Without TLS, the answer is none that it could read.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::of(
            listener.local_addr().unwrap(),
            "/h",
            ProxyProtocol::Off,
            true,
        );
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .unwrap();
        });
        assert!(target.ask().is_err());
        server.join().unwrap();
    }
}
