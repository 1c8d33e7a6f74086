//! Where requests go: an `http://` or `https://` URL, split.

/// A target that requests can be sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whether connections are TLS.
    pub tls: bool,
    /// Host name or address, IPv6 without its brackets.
    pub host: String,
    /// Port; unless given 80, or 443 with TLS.
    pub port: u16,
    /// Path and query as given, or `None` when the URL ends with its authority.
    pub path: Option<String>,
}

/// Why a URL cannot be a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The scheme is neither `http` nor `https`.
    #[error("target {0} is not an http:// or https:// URL")]
    Scheme(String),
    /// Host or port are missing or malformed.
    #[error("target {0} has no valid host and port")]
    Authority(String),
    /// The path has bytes that a request line cannot carry.
    #[error("target {0} has spaces or control characters in its path")]
    Path(String),
}

impl Target {
    /// Splits a URL.
    ///
    /// # Errors
    /// Names the URL and the reason.
    pub fn parse(url: &str) -> Result<Target, TargetError> {
        let (tls, rest) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => return Err(TargetError::Scheme(url.to_owned())),
        };
        let authority_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(authority_end);
        let wrong = || TargetError::Authority(url.to_owned());
        let (host, port) = match authority.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or_else(wrong)?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(wrong());
                }
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(wrong()),
                }
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if host.is_empty() || !host.bytes().all(plain) {
            return Err(wrong());
        }
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port > 0)
                .ok_or_else(wrong)?,
            None if tls => 443,
            None => 80,
        };
        // A fragment stays with the client.
        let path = path.split('#').next().unwrap_or_default();
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(TargetError::Path(url.to_owned()));
        }
        let path = match path {
            "" => None,
            query if query.starts_with('?') => Some(format!("/{query}")),
            path => Some(path.to_owned()),
        };
        Ok(Target {
            tls,
            host: host.to_owned(),
            port,
            path,
        })
    }

    /// Scheme, host, port, and the path if one was given.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let path = self.path.as_deref().unwrap_or_default();
        format!("{scheme}://{}{path}", self.authority())
    }

    /// Host and port as the `Host` header and messages have them.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_split_into_host_port_and_path() {
        let split = |url| {
            let target = Target::parse(url).unwrap();
            (target.authority(), target.path)
        };
        let some = |path: &str| Some(path.to_owned());
        assert_eq!(
            split("http://127.0.0.1:8088"),
            ("127.0.0.1:8088".to_owned(), None)
        );
        assert_eq!(split("http://a-b.c/"), ("a-b.c:80".to_owned(), some("/")));
        assert_eq!(
            split("http://a:1/x?y=1#z"),
            ("a:1".to_owned(), some("/x?y=1"))
        );
        assert_eq!(split("http://a:1?y"), ("a:1".to_owned(), some("/?y")));
        assert_eq!(
            split("http://[::1]:9/x"),
            ("[::1]:9".to_owned(), some("/x"))
        );
        assert_eq!(split("http://[::1]"), ("[::1]:80".to_owned(), None));
        assert_eq!(split("https://a"), ("a:443".to_owned(), None));
        assert_eq!(split("https://[::1]:1"), ("[::1]:1".to_owned(), None));
        for url in ["http://a:1/x?y", "https://[::1]:443"] {
            assert_eq!(Target::parse(url).unwrap().url(), url);
        }
    }

    #[test]
    fn a_wrong_url_is_refused_by_name() {
        for url in [
            "ftp://a",
            "https:a",
            "127.0.0.1:8088",
            "http://",
            "http://:80",
            "http://a:0",
            "http://a:65536",
            "http://a:x",
            "http://user@a",
            "http://[::1",
            "http://[x]:1",
            "http://[::1]x",
            "http://a b/",
            "http://a/\r\nX: y",
        ] {
            let error = Target::parse(url).unwrap_err();
            assert!(error.to_string().contains(url), "{error}");
        }
    }
}
