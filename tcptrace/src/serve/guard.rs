//! Who may ask: whoever has the token, or, where there is none, whoever reaches a loopback address
//! by its own name.

use std::net::IpAddr;

use axum::http::{
    HeaderMap, StatusCode, Uri,
    header::{AUTHORIZATION, HOST},
};
use sha2::{Digest, Sha256};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Hashes of tokens: each opens.
    tokens: Vec<[u8; 32]>,
    /// Certificates of clients say who may ask, or somebody said that all may.
    open: bool,
}

/// Why an answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unadmitted {
    /// No token, or a wrong one.
    Token,
    /// A name that is not this host's: some page in a browser may have had it point here (DNS
    /// rebinding).
    Host,
}

impl Unadmitted {
    /// Its status code (RFC 9110).
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    /// In words.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Self::Token => "a token is needed: Authorization: Bearer TOKEN, as in --token-file",
            Self::Host => "ask by address or as localhost; other names need --token-file",
        }
    }
}

impl Guard {
    /// Whoever has one of the [`tokens`] of this text.
    #[must_use]
    pub fn with_tokens(text: &str) -> Self {
        Self { tokens: tokens(text).map(hash).collect(), open: false }
    }

    /// All may ask, by whatever name.
    #[must_use]
    pub fn open() -> Self {
        Self { tokens: Vec::new(), open: true }
    }

    /// Whether this request may be answered.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Unadmitted> {
        if !self.tokens.is_empty() {
            let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            let given = given.and_then(bearer).ok_or(Unadmitted::Token)?;
            // What takes longer or shorter is the comparison of hashes, which nobody can choose.
            let given = hash(given);
            return if self.tokens.contains(&given) { Ok(()) } else { Err(Unadmitted::Token) };
        }
        if self.open {
            return Ok(());
        }
        let host = headers.get(HOST).and_then(|value| value.to_str().ok());
        // HTTP/1.0 has none, and no browser speaks it.
        let Some(host) = uri.host().or(host) else { return Ok(()) };
        if is_own(host) { Ok(()) } else { Err(Unadmitted::Host) }
    }
}

/// Tokens, one a line; empty lines and those that begin with # are none.
pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// The token of `Bearer TOKEN` (RFC 6750, 2.1; the scheme in any case).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// An address, or localhost; the port does not matter.
fn is_own(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn asked(guard: &Guard, header: (axum::http::HeaderName, &str)) -> Result<(), Unadmitted> {
        let mut headers = HeaderMap::new();
        headers.insert(header.0, HeaderValue::from_str(header.1).expect("a header"));
        guard.admits(&Uri::from_static("/metrics"), &headers)
    }

    #[test]
    fn a_token_opens_and_nothing_else_does() {
        let guard = Guard::with_tokens("# of the scraper\n s3cret \n\nother\n");
        for token in ["Bearer s3cret", "bearer other"] {
            assert_eq!(asked(&guard, (AUTHORIZATION, token)), Ok(()), "{token}");
        }
        for token in
            ["Bearer s3cre", "s3cret", "Bearer ", "Basic s3cret", "Bearer # of the scraper"]
        {
            assert_eq!(asked(&guard, (AUTHORIZATION, token)), Err(Unadmitted::Token), "{token}");
        }
        assert_eq!(asked(&guard, (HOST, "localhost")), Err(Unadmitted::Token));
    }

    #[test]
    fn a_page_in_a_browser_can_not_ask_by_its_own_name() {
        let guard = Guard::default();
        for host in ["localhost:9095", "127.0.0.1:9095", "[::1]:9095", "127.0.0.1", "LOCALHOST"] {
            assert_eq!(asked(&guard, (HOST, host)), Ok(()), "{host}");
        }
        for host in ["evil.example:9095", "127.0.0.1.evil.example", "localhost.evil.example", ""] {
            assert_eq!(asked(&guard, (HOST, host)), Err(Unadmitted::Host), "{host}");
        }
        assert_eq!(asked(&Guard::open(), (HOST, "node7:9095")), Ok(()));
    }
}
