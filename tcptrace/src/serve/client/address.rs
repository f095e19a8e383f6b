//! Where somebody is, as people write it: `https://host:port/path`.

use std::{fmt, net::IpAddr};

use hyper::Uri;

/// An address of HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// With TLS.
    pub is_tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    /// The port; where none is written, the usual one.
    pub port: u16,
    /// What requests call it.
    pub authority: String,
    /// The path, without a slash at its end.
    pub path: String,
}

/// What is said to who wrote none.
#[derive(Clone, Copy, Debug)]
pub struct Help {
    /// What to write.
    pub usual: &'static str,
    /// Where to write what would have been a password.
    pub secrets: &'static str,
}

/// What stands for a port that was not written.
#[derive(Clone, Copy, Debug)]
pub struct UsualPorts {
    /// Of `http://`.
    pub http: u16,
    /// Of `https://`.
    pub https: u16,
}

impl ServerAddress {
    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, and what to write.
    pub fn parse(text: &str, ports: UsualPorts, help: Help) -> Result<Self, String> {
        let Help { usual, secrets } = help;
        let uri: Uri = text.parse().map_err(|e| format!("{e}; {usual}"))?;
        let is_tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(usual.to_owned()),
        };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(format!("others can read the password here; {secrets}"));
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(format!("no host in it; {usual}"));
        }
        // The library takes a port that is none for a part of the name.
        let port = match authority.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            None if is_tls => ports.https,
            None => ports.http,
            Some(_) => uri.port_u16().filter(|n| *n > 0).ok_or(usual)?,
        };
        if uri.query().is_some() {
            return Err("such an address has no '?'".to_owned());
        }
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self { is_tls, host, port, authority: authority.to_owned(), path })
    }

    /// Its host, where that is written as an address and not as a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}
