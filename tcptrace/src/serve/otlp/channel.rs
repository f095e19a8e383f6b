//! A connection to the collector, kept from one request to the next, with bounds on all that comes
//! back.

use std::{sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Request, Uri,
    body::{Body, Bytes, Incoming},
    client::conn::{http1, http2},
    header::{CONTENT_TYPE, HOST, TE, USER_AGENT},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;

use super::{
    answer::{CollectorAnswer, Delivery, of_grpc, of_http},
    endpoint::{Endpoint, Protocol},
    queue::Signal,
};
use crate::serve::client::connection::{self, ByteStream, Driver, HEAD, told};

/// A request is answered within this, as `OTEL_EXPORTER_OTLP_TIMEOUT` has it by default.
const WITHIN: Duration = Duration::from_secs(10);
/// No more of an answer's body is read, bytes. It has a sentence in it, if anything.
const LONGEST: usize = 64 << 10;

/// Where all is sent, and how.
pub struct CollectorTarget {
    /// The collector.
    pub endpoint: Endpoint,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What it wants to see: tokens, as a rule.
    pub headers: HeaderMap,
    /// For https.
    pub tls: Option<Arc<ClientConfig>>,
}

/// The way for one signal.
pub struct Channel {
    target: Arc<CollectorTarget>,
    path: String,
    open: Option<Open>,
}

/// A connection. It ends with this.
struct Open {
    sender: Sender,
    _driver: Driver,
}

enum Sender {
    Http(http1::SendRequest<Full<Bytes>>),
    Grpc(http2::SendRequest<Full<Bytes>>),
}

impl Open {
    /// Whether another request may go out on it.
    async fn is_usable(&mut self) -> bool {
        match &mut self.sender {
            Sender::Http(sender) => !sender.is_closed() && sender.ready().await.is_ok(),
            Sender::Grpc(sender) => !sender.is_closed() && sender.ready().await.is_ok(),
        }
    }
}

impl Channel {
    /// One that nothing went through yet.
    #[must_use]
    pub fn new(target: Arc<CollectorTarget>, signal: Signal) -> Self {
        let path = target.endpoint.path(target.protocol, signal);
        Self { target, path, open: None }
    }

    /// Sends a message; what came of it.
    pub async fn send(&mut self, message: Bytes) -> Delivery {
        let answer = timeout(WITHIN, self.exchange(message)).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("no answer within {} s", WITHIN.as_secs())));
        match answer {
            Ok(answer) => match self.target.protocol {
                Protocol::Http => of_http(&answer),
                Protocol::Grpc => of_grpc(&answer),
            },
            Err(why) => {
                self.close();
                Delivery::Again { after: None, why }
            }
        }
    }

    /// Ends the connection: a request on it may be half way.
    pub fn close(&mut self) {
        self.open = None;
    }

    async fn exchange(&mut self, message: Bytes) -> Result<CollectorAnswer, String> {
        // A collector ends connections that nothing came through for a while.
        let usable = match &mut self.open {
            Some(open) => open.is_usable().await,
            None => false,
        };
        if !usable {
            self.open = None;
            self.open = Some(connect(&self.target).await?);
        }
        let request = self.request(message)?;
        let Some(open) = &mut self.open else { return Err("no connection".to_owned()) };
        let answer = match &mut open.sender {
            Sender::Http(sender) => sender.send_request(request).await,
            Sender::Grpc(sender) => sender.send_request(request).await,
        };
        let (head, body) = answer.map_err(told)?.into_parts();
        let (body, trailers) = match read(body).await {
            Ok(read) => read,
            // The status has said it all: what was taken is not sent again.
            Err(_) if self.target.protocol == Protocol::Http => {
                self.close();
                Default::default()
            }
            Err(why) => return Err(why),
        };
        Ok(CollectorAnswer { status: head.status, headers: head.headers, trailers, body })
    }

    fn request(&self, message: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let CollectorTarget { endpoint, protocol, headers, .. } = &*self.target;
        let request = match protocol {
            Protocol::Http => Request::post(&*self.path)
                .header(HOST, &endpoint.address.authority)
                .header(CONTENT_TYPE, "application/x-protobuf"),
            Protocol::Grpc => {
                let scheme = if endpoint.address.is_tls { "https" } else { "http" };
                let uri = Uri::builder().scheme(scheme).authority(&*endpoint.address.authority);
                let uri = uri.path_and_query(&*self.path).build().map_err(|e| e.to_string())?;
                Request::post(uri)
                    .header(TE, "trailers")
                    .header("grpc-timeout", format!("{}S", WITHIN.as_secs()))
                    .header(CONTENT_TYPE, "application/grpc")
            }
        };
        let body = match protocol {
            Protocol::Http => message,
            Protocol::Grpc => framed(&message)?,
        };
        let request = request.header(USER_AGENT, connection::USER_AGENT).body(Full::new(body));
        let mut request = request.map_err(|e| e.to_string())?;
        request.headers_mut().extend(headers.clone());
        Ok(request)
    }
}

/// A message as gRPC has it: not compressed, and how long it is.
fn framed(message: &[u8]) -> Result<Bytes, String> {
    let length = u32::try_from(message.len()).map_err(|e| e.to_string())?;
    let mut out = Vec::with_capacity(message.len() + 5);
    out.push(0);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    Ok(out.into())
}

async fn read(body: Incoming) -> Result<(Bytes, HeaderMap), String> {
    // Of an answer that is over already the head says it all.
    if body.is_end_stream() {
        return Ok((Bytes::new(), HeaderMap::new()));
    }
    let collected = Limited::new(body, LONGEST).collect().await.map_err(|e| e.to_string())?;
    let trailers = collected.trailers().cloned().unwrap_or_default();
    Ok((collected.to_bytes(), trailers))
}

async fn connect(target: &CollectorTarget) -> Result<Open, String> {
    let stream = connection::connect(&target.endpoint.address, target.tls.as_ref()).await;
    speak(target.protocol, stream.map_err(|e| e.to_string())?).await
}

async fn speak(protocol: Protocol, stream: Box<dyn ByteStream>) -> Result<Open, String> {
    match protocol {
        Protocol::Http => {
            let (sender, driver) = connection::http1(stream).await?;
            Ok(Open { sender: Sender::Http(sender), _driver: driver })
        }
        Protocol::Grpc => {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .max_header_list_size(HEAD as u32)
                .initial_connection_window_size(LONGEST as u32)
                .initial_stream_window_size(LONGEST as u32)
                .handshake(TokioIo::new(stream))
                .await
                .map_err(told)?;
            Ok(Open { sender: Sender::Grpc(sender), _driver: Driver::new(connection) })
        }
    }
}
