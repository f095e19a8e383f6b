//! A collector that tests look into: HTTP and gRPC, of the protocol's own messages. It behaves as
//! it is told.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Frame, Incoming},
    header::HeaderValue,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::{
    collector::{
        logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse},
        metrics::v1::ExportMetricsServiceRequest,
    },
    common::v1::{KeyValue, any_value::Value},
    logs::v1::LogRecord,
    metrics::v1::{Metric, metric::Data, number_data_point},
    resource::v1::Resource,
};
use prost::Message;
use tokio_rustls::TlsAcceptor;

use crate::tracer::DEADLINE;

/// What it does with a request for logs; metrics it always takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Takes,
    /// 503 or UNAVAILABLE, so many times; then it takes.
    Busy(u32),
    /// It says nothing.
    Hangs,
    /// 400 or INVALID_ARGUMENT.
    Refuses,
    /// It takes all but so many.
    Rejects(i64),
}

#[derive(Default)]
pub struct Received {
    pub records: Vec<LogRecord>,
    pub metrics: Vec<Metric>,
    pub resource: Option<Resource>,
    /// Of the last request for logs.
    pub path: String,
    pub headers: HeaderMap,
    /// Requests for logs, taken or not.
    pub requests: u32,
}

struct Shared {
    is_grpc: bool,
    behaviour: Mutex<Behaviour>,
    received: Mutex<Received>,
}

pub struct Collector {
    pub at: SocketAddr,
    shared: Arc<Shared>,
}

type Body = BoxBody<Bytes, Infallible>;

impl Collector {
    /// On a port that is free.
    pub fn start(is_grpc: bool, behaviour: Behaviour) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), is_grpc, behaviour, None)
    }

    pub fn start_at(
        at: SocketAddr,
        is_grpc: bool,
        behaviour: Behaviour,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = std::net::TcpListener::bind(at).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let at = listener.local_addr().expect("an address");
        let received = Mutex::default();
        let shared = Arc::new(Shared { is_grpc, behaviour: Mutex::new(behaviour), received });
        let theirs = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let (shared, tls) = (Arc::clone(&theirs), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            None => talk(TokioIo::new(stream), shared).await,
                            Some(tls) => {
                                let Ok(stream) = tls.accept(stream).await else { return };
                                talk(TokioIo::new(stream), shared).await;
                            }
                        }
                    });
                }
            });
        });
        Self { at, shared }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    pub fn received(&self) -> MutexGuard<'_, Received> {
        self.shared.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it has received something.
    pub fn wait<T>(&self, what: &str, found: impl Fn(&Received) -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let received = self.received();
            if let Some(it) = found(&received) {
                return it;
            }
            let records = &received.records;
            assert!(Instant::now() < deadline, "no {what}: {records:#?} {}", received.requests);
            drop(received);
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The first record of an event.
    pub fn event(&self, name: &str) -> LogRecord {
        let is = |record: &&LogRecord| record.event_name == name;
        self.wait(name, |received| received.records.iter().find(is).cloned())
    }
}

/// A record's attributes by name, and how they look.
pub fn attributes(list: &[KeyValue]) -> BTreeMap<String, String> {
    let told = |pair: &KeyValue| {
        let text = match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(n)) => n.to_string(),
            Some(Value::DoubleValue(n)) => n.to_string(),
            Some(Value::BoolValue(is)) => is.to_string(),
            other => format!("{other:?}"),
        };
        (pair.key.clone(), text)
    };
    list.iter().map(told).collect()
}

/// The latest value of a metric with a label.
pub fn value(received: &Received, name: &str, label: (&str, &str)) -> Option<i64> {
    let metric = received.metrics.iter().rev().find(|metric| metric.name == name)?;
    let points = match metric.data.as_ref()? {
        Data::Gauge(gauge) => &gauge.data_points,
        Data::Sum(sum) => &sum.data_points,
        _ => return None,
    };
    let is = |pair: &KeyValue| {
        attributes(std::slice::from_ref(pair)).get(label.0).is_some_and(|value| value == label.1)
    };
    let point = points.iter().find(|point| point.attributes.iter().any(is))?;
    match point.value? {
        number_data_point::Value::AsInt(n) => Some(n),
        number_data_point::Value::AsDouble(n) => Some(n as i64),
    }
}

async fn talk<S>(io: TokioIo<S>, shared: Arc<Shared>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let is_grpc = shared.is_grpc;
    let answer = service_fn(move |request| answer(request, Arc::clone(&shared)));
    // Whoever goes away in the middle is no failure of the test.
    if is_grpc {
        let _ = http2::Builder::new(TokioExecutor::new()).serve_connection(io, answer).await;
    } else {
        let _ = http1::Builder::new().serve_connection(io, answer).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(http(400, Bytes::new())) };
    let body = body.to_bytes();
    let message = if shared.is_grpc { body.slice(5..) } else { body };
    let is_logs = head.uri.path().ends_with("/v1/logs") || head.uri.path().contains("LogsService");
    let behaviour = if is_logs {
        shared.received.lock().unwrap_or_else(PoisonError::into_inner).requests += 1;
        let mut behaviour = shared.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *behaviour;
        if let Behaviour::Busy(n) = now {
            *behaviour = if n > 1 { Behaviour::Busy(n - 1) } else { Behaviour::Takes };
        }
        now
    } else {
        Behaviour::Takes
    };
    let mut taken = ExportLogsServiceResponse::default();
    match behaviour {
        Behaviour::Takes => {}
        Behaviour::Busy(_) if shared.is_grpc => return Ok(grpc(14, &[])),
        Behaviour::Busy(_) => {
            let mut busy = http(503, Bytes::new());
            busy.headers_mut().insert("retry-after", HeaderValue::from_static("1"));
            return Ok(busy);
        }
        Behaviour::Hangs => std::future::pending().await,
        Behaviour::Refuses if shared.is_grpc => return Ok(grpc(3, &[])),
        Behaviour::Refuses => return Ok(http(400, Bytes::new())),
        Behaviour::Rejects(n) => {
            taken.partial_success = Some(ExportLogsPartialSuccess {
                rejected_log_records: n,
                error_message: "too old".to_owned(),
            });
        }
    }
    let mut received = shared.received.lock().unwrap_or_else(PoisonError::into_inner);
    if is_logs {
        let logs = ExportLogsServiceRequest::decode(message).expect("a request for logs");
        for of in logs.resource_logs {
            received.resource = of.resource;
            received.records.extend(of.scope_logs.into_iter().flat_map(|s| s.log_records));
        }
        head.uri.path().clone_into(&mut received.path);
        received.headers = head.headers;
    } else {
        let all = ExportMetricsServiceRequest::decode(message).expect("a request for metrics");
        let scopes = all.resource_metrics.into_iter().flat_map(|of| of.scope_metrics);
        received.metrics.extend(scopes.flat_map(|scope| scope.metrics));
    }
    drop(received);
    let taken = taken.encode_to_vec();
    Ok(if shared.is_grpc { grpc(0, &taken) } else { http(200, taken.into()) })
}

fn http(status: u16, body: Bytes) -> Response<Body> {
    let response = Response::builder().status(status).body(Full::new(body).boxed());
    response.expect("an answer")
}

fn grpc(code: u32, message: &[u8]) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(code));
    let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
    let frames = [Frame::data(Bytes::from(framed)), Frame::trailers(trailers)];
    let frames = futures_util::stream::iter(frames.map(Ok::<_, Infallible>));
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(BodyExt::boxed(StreamBody::new(frames))).expect("an answer")
}
