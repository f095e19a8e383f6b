//! Connections, bounded in number, in time and in memory, whoever is at their other ends.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, body::Body, http::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::current::Current;

/// Connections at once. Of more, the one ends that has waited longest for a request.
pub const CONNECTIONS: usize = 128;
/// A request's head is no longer than this, bytes.
const HEAD: usize = 16 << 10;
/// And has no more headers.
const HEADERS: usize = 64;
/// It is there after this, and so is the next one on the same connection; and TLS is agreed on.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// A client takes some of what was sent within this.
const TAKES_WITHIN: Duration = Duration::from_secs(20);
/// No connection lasts longer, unless it listens to events.
const LASTS: Duration = Duration::from_secs(120);
/// How often that is looked at.
const LOOKS: Duration = Duration::from_secs(1);
/// After this, accept() is tried again where it failed: there were no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// What is counted.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Connections that are open.
    pub connections: AtomicU64,
    /// Those that were ended because there were too many.
    pub refused: AtomicU64,
}

/// What is known of a connection; a request carries it.
#[derive(Clone, Debug, Default)]
pub struct Connected(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// It asked for events, which have no end.
    listens: AtomicBool,
    /// A request has come, and its answer is being made.
    is_asking: AtomicBool,
    /// Since when what was sent is not taken, ms from its beginning on, plus one; 0: it is.
    blocked_ms: AtomicU64,
}

impl Connected {
    /// It asks for events: it may last.
    pub fn listens(&self) {
        self.0.listens.store(true, Relaxed);
    }
}

/// A connection as the one who accepts knows it.
struct Open {
    since: Instant,
    connected: Connected,
    task: AbortHandle,
}

impl Open {
    fn is_over(&self, now: Instant) -> bool {
        let lasted = now.saturating_duration_since(self.since);
        let state = &self.connected.0;
        let blocked = match state.blocked_ms.load(Relaxed) {
            0 => Duration::ZERO,
            since => lasted.saturating_sub(Duration::from_millis(since - 1)),
        };
        blocked > TAKES_WITHIN || lasted > LASTS && !state.listens.load(Relaxed)
    }

    /// Whether nothing is under way on it.
    fn waits(&self) -> bool {
        !self.connected.0.is_asking.load(Relaxed)
    }
}

/// Answers requests until it is dropped.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Current<Option<TlsAcceptor>>>,
    router: Router,
    traffic: Arc<Traffic>,
) {
    let (mut tasks, mut open) = (JoinSet::new(), Vec::new());
    let mut looks = tokio::time::interval(LOOKS);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    make_room(&mut open, &traffic);
                    let connected = Connected::default();
                    let talk = talk(stream, tls.get(), router.clone(), connected.clone());
                    let task = tasks.spawn(talk);
                    open.push(Open { since: Instant::now(), connected, task });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            Some(_) = tasks.join_next() => {}
            _ = looks.tick() => {
                let now = Instant::now();
                open.iter().filter(|one| one.is_over(now)).for_each(|one| one.task.abort());
            }
        }
        open.retain(|one: &Open| !one.task.is_finished());
        traffic.connections.store(open.len() as u64, Relaxed);
    }
}

/// Ends the one that has waited longest, or else the oldest, where there are too many.
fn make_room(open: &mut Vec<Open>, traffic: &Traffic) {
    if open.len() < CONNECTIONS {
        return;
    }
    let at = open.iter().position(Open::waits).unwrap_or(0);
    open.remove(at).task.abort();
    traffic.refused.fetch_add(1, Relaxed);
}

/// One connection, to its end. What goes wrong on it is the client's business.
async fn talk(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router, connected: Connected) {
    let began = Instant::now();
    let stream = Watched { stream, began, connected: connected.clone() };
    match tls {
        None => answer(stream, router, connected).await,
        Some(tls) => {
            if let Ok(Ok(stream)) = timeout(HEAD_WITHIN, tls.accept(stream)).await {
                answer(stream, router, connected).await;
            }
        }
    }
}

async fn answer<S>(stream: S, router: Router, connected: Connected)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asking = connected.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        let state = Arc::clone(&asking.0);
        state.is_asking.store(true, Relaxed);
        request.extensions_mut().insert(asking.clone());
        let router = TowerToHyperService::new(router.clone());
        async move {
            let answer = hyper::service::Service::call(&router, request.map(Body::new)).await;
            state.is_asking.store(false, Relaxed);
            answer
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(HEAD)
        .max_headers(HEADERS)
        .half_close(false)
        .serve_connection(TokioIo::new(stream), service);
    let _ = served.await;
}

/// A stream that notes since when its client takes nothing.
struct Watched {
    stream: TcpStream,
    began: Instant,
    connected: Connected,
}

impl Watched {
    fn note(&self, pending: bool) {
        let blocked = &self.connected.0.blocked_ms;
        if !pending {
            blocked.store(0, Relaxed);
        } else if blocked.load(Relaxed) == 0 {
            let ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            blocked.store(ms + 1, Relaxed);
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(wrote.is_pending());
        Poll::Ready(ready!(wrote))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(wrote.is_pending());
        Poll::Ready(ready!(wrote))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
