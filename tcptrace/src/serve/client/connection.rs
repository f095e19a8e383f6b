//! Connections that go out.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, SocketAddr, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use http_body_util::Full;
use hyper::{body::Bytes, client::conn::http1, header::HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, rustls::ClientConfig, rustls::pki_types::ServerName};

use super::address::ServerAddress;

/// One of a name's addresses answers within this; after it the next one is tried.
const CONNECTS_WITHIN: Duration = Duration::from_secs(4);
/// Addresses of a name that are tried.
const ADDRESSES: usize = 4;
/// An answer's head is no longer than this, bytes.
pub const HEAD: usize = 16 << 10;
/// As what requests introduce themselves.
pub const USER_AGENT: &str = concat!("tcptrace/", env!("CARGO_PKG_VERSION"));

/// Both directions, encrypted or not.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// Why there is no connection.
#[derive(Debug)]
pub enum ConnectError {
    /// Nobody there takes one.
    Unreachable(String),
    /// Somebody does, but TLS fails.
    Tls(String),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => f.write_str(why),
            Self::Tls(why) => write!(f, "TLS: {why}"),
        }
    }
}

/// The rest of a connection. It ends with this.
pub struct Driver(AbortHandle);

impl Driver {
    /// Drives it.
    pub fn new<F>(connection: F) -> Self
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        Self(tokio::spawn(connection).abort_handle())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects; `tls`: whom to trust, for https.
///
/// # Errors
/// Why that failed.
pub async fn connect(
    to: &ServerAddress,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Box<dyn ByteStream>, ConnectError> {
    let stream = reach(to).await.map_err(ConnectError::Unreachable)?;
    // Small requests must not wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    if !to.is_tls {
        return Ok(Box::new(stream));
    }
    let config = tls.ok_or_else(|| ConnectError::Tls("no certificates to trust".to_owned()))?;
    let name = ServerName::try_from(to.host.clone());
    let name = name.map_err(|e| ConnectError::Tls(e.to_string()))?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    Ok(Box::new(stream.map_err(|e| ConnectError::Tls(e.to_string()))?))
}

/// The first of its addresses that takes a connection.
async fn reach(to: &ServerAddress) -> Result<TcpStream, String> {
    let mut why = "its name has no address".to_owned();
    for address in addresses(&to.host, to.port)?.into_iter().take(ADDRESSES) {
        match timeout(CONNECTS_WITHIN, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => why = format!("{address}: {e}"),
            Err(_) => why = format!("{address}: no connection within {CONNECTS_WITHIN:?}"),
        }
    }
    Err(why)
}

/// A name's addresses, asked for anew each time: they change. The C library's own way; it blocks,
/// but nobody else is on this thread, and it ends by itself (resolv.conf(5): timeout, attempts).
fn addresses(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let list = (host, port).to_socket_addrs().map_err(|e| format!("{host}: {e}"))?;
    Ok(list.collect())
}

/// What resolving names takes is loaded: later that is not allowed any more.
pub fn prepare() {
    let _ = addresses("localhost", 0);
}

/// Speaks HTTP/1.1.
///
/// # Errors
/// Why that failed.
pub async fn http1(
    stream: Box<dyn ByteStream>,
) -> Result<(http1::SendRequest<Full<Bytes>>, Driver), String> {
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .max_headers(64)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(told)?;
    Ok((sender, Driver::new(connection)))
}

/// An error with what is behind it.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
pub fn told(e: hyper::Error) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(e) = source {
        text.push_str(&format!(": {e}"));
        source = e.source();
    }
    text
}

/// The value of a header that nobody else is to read.
///
/// # Errors
/// It has characters that no header can have.
pub fn secret(value: &str) -> Result<HeaderValue, hyper::header::InvalidHeaderValue> {
    let mut value = HeaderValue::from_str(value)?;
    value.set_sensitive(true);
    Ok(value)
}
