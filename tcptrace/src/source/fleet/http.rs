//! One request, one answer, with bounds.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls, rustls::pki_types::ServerName};

/// An answer is there after this.
const WITHIN: Duration = Duration::from_secs(10);
/// And is no longer, bytes.
const LONGEST: usize = 16 << 20;
/// Characters of what it says of an error.
const TOLD: usize = 400;

/// How to ask.
#[derive(Clone, Default)]
pub struct Client {
    /// `Bearer TOKEN`.
    pub authorization: Option<HeaderValue>,
    /// For https.
    pub tls: Option<Arc<tokio_rustls::rustls::ClientConfig>>,
}

impl Client {
    /// The body that an address answers with.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub async fn get(&self, uri: &Uri) -> Result<Bytes, String> {
        let answer = timeout(WITHIN, self.ask(uri)).await;
        answer.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())))
    }

    async fn ask(&self, uri: &Uri) -> Result<Bytes, String> {
        let host = uri.host().ok_or("no host in it")?.trim_matches(['[', ']']).to_owned();
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(told)?;
        if !is_tls {
            return self.exchange(uri, stream).await;
        }
        let config = self.tls.clone().ok_or("https needs --tls-ca FILE: who vouches for it")?;
        let name = ServerName::try_from(host).map_err(|e| e.to_string())?;
        let stream = TlsConnector::from(config).connect(name, stream).await.map_err(untrusted)?;
        self.exchange(uri, stream).await
    }

    async fn exchange<S>(&self, uri: &Uri, stream: S) -> Result<Bytes, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let served = tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::get(path).header(HOST, authority);
        request = request.header(ACCEPT, "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|e| e.to_string())?;
        let answer = sender.send_request(request).await.map_err(|e| match e.is_parse() {
            true => "no HTTP comes back: does it speak TLS? Then write https://".to_owned(),
            false => e.to_string(),
        })?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        served.abort();
        let body = body.map(http_body_util::Collected::to_bytes);
        match status {
            StatusCode::OK => body.map_err(|e| e.to_string()),
            StatusCode::UNAUTHORIZED if self.authorization.is_some() => {
                Err("it does not take the token of --token-file".to_owned())
            }
            StatusCode::UNAUTHORIZED => Err("it wants a token: --token-file FILE".to_owned()),
            other => Err(refused(other, &body.unwrap_or_default())),
        }
    }
}

/// Why it says no, as agents and Prometheus put it.
fn refused(status: StatusCode, body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Refusal {
        error: String,
    }
    match serde_json::from_slice(body) {
        Ok(Refusal { error }) => error.chars().take(TOLD).collect(),
        Err(_) => format!("it answers {status}"),
    }
}

fn told(e: io::Error) -> String {
    e.to_string()
}

/// Why there is no TLS with it.
fn untrusted(e: io::Error) -> String {
    let why = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match why {
        Some(rustls::Error::InvalidMessage(_)) => {
            "no TLS comes back: does it speak HTTP alone? Then write http://".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(rustls::CertificateError::Other(other)))
            if other.to_string().contains("CaUsedAsEndEntity") =>
        {
            "its certificate is one that vouches for others (CA:TRUE), which no server may show; \
             make it one of its own that this one signs"
                .to_owned()
        }
        _ => e.to_string(),
    }
}

/// An address as people write it: `host`, `host:port`, `http://host:port/prefix`. `port`: where
/// none is given.
///
/// # Errors
/// What is wrong with it.
pub fn address(text: &str, port: u16) -> Result<Uri, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let problem = "write a host, and a port if it is another: web7, web7:9095, [::1]:9095";
    let uri: Uri = whole.parse().map_err(|_| problem)?;
    let scheme = uri.scheme_str().filter(|s| matches!(*s, "http" | "https"));
    let scheme = scheme.ok_or("write http:// or https://")?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(problem)?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    // What stands behind the host and is no port is not left out: it would be another agent.
    let behind = authority.rsplit('@').next().and_then(|rest| rest.strip_prefix(host));
    if uri.port_u16().is_none_or(|port| port == 0) && behind != Some("") {
        return Err(format!("no port is called {:?}; {problem}", behind.unwrap_or(authority)));
    }
    if authority.contains('@') {
        return Err(
            "a password has no place in it; --token-file FILE has what is to be shown".into()
        );
    }
    let given = text.contains("://") || uri.port_u16().is_some();
    let port = uri.port_u16().or((!given).then_some(port));
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let prefix = uri.path().trim_end_matches('/');
    format!("{scheme}://{host}{port}{prefix}/").parse().map_err(|e| format!("{e}"))
}

/// A path below an address.
///
/// # Errors
/// Where it makes no address.
pub fn below(base: &Uri, path: &str) -> Result<Uri, String> {
    format!("{base}{path}").parse().map_err(|e| format!("{e}"))
}

/// A query's value, escaped (RFC 3986, 2.1).
#[must_use]
pub fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len() * 3);
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        for (text, whole) in [
            ("web7", "http://web7:9095/"),
            ("web7:9999", "http://web7:9999/"),
            ("10.0.0.1", "http://10.0.0.1:9095/"),
            ("[::1]:9095", "http://[::1]:9095/"),
            ("https://web7", "https://web7/"),
            ("http://mon:9090/prometheus/", "http://mon:9090/prometheus/"),
        ] {
            assert_eq!(address(text, 9095).map(|uri| uri.to_string()), Ok(whole.to_owned()));
        }
        for text in ["", "ftp://x", "http://", "a b", "::1", "web7:", "web7:0", "http://me:x@web7"]
        {
            assert!(address(text, 9095).is_err(), "{text}");
        }
        for text in
            ["10.0.0.1:99999", "web7:abc", "http://web7:90955", "[::1]:x", "https://web7:-1/x"]
        {
            let e = address(text, 9095).expect_err(text);
            assert!(e.contains("write a host, and a port"), "{text}: {e}");
        }
        let base = address("mon:9090", 9090).expect("an address");
        let path = format!("api/v1/query?query={}", escaped("a{b=\"c\"}[5m]"));
        let uri = below(&base, &path).expect("an address");
        assert_eq!(uri.query(), Some("query=a%7Bb%3D%22c%22%7D%5B5m%5D"));
    }
}
