//! Paths, and the questions that they stand for. GET only: no route changes anything.

use std::{
    convert::Infallible,
    fmt::Display,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Extension, Query, Request, State, rejection::QueryRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::{Stream, stream};
use tcptrace_common::state::TcpState;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    answer::{Asked, Chosen, Question, SocketPlace, SocketsAsked},
    feed::{EventFeed, News},
    guard::{Guard, Unadmitted},
    listen::Connected,
};
use crate::{
    engine::{group::GroupBy, parse::States, verdict::Verdict},
    view::metrics::exposition::Exposition,
};

/// The watch answers within this, or is not well.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// It turns at least this often, or is not well.
const TURNS_WITHIN: Duration = Duration::from_secs(30);
/// Bytes of answers that are on their way to slow clients, all together, KiB.
const ON_THE_WAY_KIB: u32 = 32 << 10;
/// Clients that listen to events.
const LISTENERS: usize = 16;
/// They hear something within this, if only that there is nothing.
const ALIVE: Duration = Duration::from_secs(15);
/// Sockets of a page: usually, and at most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1_000;

/// What the HTTP side and the watch share.
#[derive(Debug)]
pub struct Shared {
    /// The latest events.
    pub feed: Arc<EventFeed>,
    /// A scan has ended: what is said is all that there is.
    pub is_ready: AtomicBool,
    /// When the watch turned last, ms since [`Self::began`].
    turned_ms: AtomicU64,
    began: Instant,
    /// What events of this run are numbered by: after a restart they begin anew.
    run: u64,
}

impl Shared {
    /// Nothing is known yet. `run`: a number that no other run has.
    #[must_use]
    pub fn new(run: u64) -> Self {
        Self {
            feed: Arc::default(),
            is_ready: AtomicBool::new(false),
            turned_ms: AtomicU64::new(0),
            began: Instant::now(),
            run,
        }
    }

    /// The watch has turned.
    pub fn turned(&self) {
        self.turned_ms.store(ms(self.began.elapsed()), Relaxed);
    }

    fn since_turned(&self) -> Duration {
        let turned = Duration::from_millis(self.turned_ms.load(Relaxed));
        self.began.elapsed().saturating_sub(turned)
    }
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// What handlers need.
#[derive(Clone)]
struct Site {
    shared: Arc<Shared>,
    ask: mpsc::Sender<Question>,
    guard: Arc<Guard>,
    on_the_way: Arc<Semaphore>,
    listeners: Arc<Semaphore>,
}

/// All paths. Questions go to `ask`.
pub fn router(shared: Arc<Shared>, guard: Guard, ask: mpsc::Sender<Question>) -> Router {
    let site = Site {
        shared,
        ask,
        guard: Arc::new(guard),
        on_the_way: Arc::new(Semaphore::new(ON_THE_WAY_KIB as usize)),
        listeners: Arc::new(Semaphore::new(LISTENERS)),
    };
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/sockets", get(sockets))
        .route("/api/v1/groups", get(groups))
        .route("/api/v1/events", get(events))
        .layer(middleware::from_fn_with_state(site.clone(), guard_it));
    Router::new()
        .route("/", get(|| async { super::page::page() }))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(guarded)
        .fallback(|| async { Wrong::new(StatusCode::NOT_FOUND, "no such path") })
        .method_not_allowed_fallback(|| async {
            Wrong::new(StatusCode::METHOD_NOT_ALLOWED, "GET only: nothing here changes anything")
        })
        .layer(middleware::map_response(plain))
        .with_state(site)
}

/// What is wrong with a request, in one line.
struct Wrong {
    status: StatusCode,
    told: String,
}

impl Wrong {
    fn new(status: StatusCode, told: impl Into<String>) -> Self {
        Self { status, told: told.into() }
    }

    fn asked(name: &str, value: &str, problem: impl Display) -> Self {
        // What somebody else chose is not given back as it came.
        let value: String = value.chars().take(64).flat_map(char::escape_default).collect();
        Self::new(StatusCode::BAD_REQUEST, format!("{name}={value}: {problem}"))
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.told }).to_string() + "\n";
        (self.status, [(CONTENT_TYPE, JSON)], body).into_response()
    }
}

const JSON: &str = "application/json";

/// Nothing is kept by anybody on the way, or taken for something else.
async fn plain(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

async fn guard_it(State(site): State<Site>, request: Request, next: Next) -> Response {
    match site.guard.admits(request.uri(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(why) => {
            let mut answer = Wrong::new(why.status(), why.told()).into_response();
            if why == Unadmitted::Token {
                let scheme = HeaderValue::from_static("Bearer");
                answer.headers_mut().insert(WWW_AUTHENTICATE, scheme);
            }
            answer
        }
    }
}

async fn healthz(State(site): State<Site>) -> Response {
    let since = site.shared.since_turned();
    if since <= TURNS_WITHIN {
        return "ok\n".into_response();
    }
    let told = format!("the watch has not turned for {} s\n", since.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, told).into_response()
}

async fn readyz(State(site): State<Site>) -> Response {
    match site.shared.is_ready.load(Relaxed) {
        true => "ok\n".into_response(),
        false => {
            (StatusCode::SERVICE_UNAVAILABLE, "the first scan has not ended\n").into_response()
        }
    }
}

async fn metrics(State(site): State<Site>, headers: HeaderMap) -> Result<Response, Wrong> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let format = Exposition::accepted(accept);
    site.answer(Asked::Metrics(format), format.content_type()).await
}

/// The words of a query, in order.
type Words = Result<Query<Vec<(String, String)>>, QueryRejection>;

async fn sockets(State(site): State<Site>, words: Words) -> Result<Response, Wrong> {
    let mut asked = SocketsAsked { chosen: Chosen::default(), limit: PAGE, after: None };
    for (name, value) in read(words)? {
        match name.as_str() {
            "limit" => {
                asked.limit = one(&name, &value, "write a number from 1 to 1000")?;
                if !(1..=LONGEST_PAGE).contains(&asked.limit) {
                    return Err(Wrong::asked(&name, &value, "write a number from 1 to 1000"));
                }
            }
            "after" => {
                let place = after(&value).ok_or_else(|| {
                    Wrong::asked(&name, &value, "write what `next` of the page before says")
                })?;
                asked.after = Some(place);
            }
            _ => choose(&mut asked.chosen, &name, &value, "limit, after")?,
        }
    }
    site.answer(Asked::Sockets(Box::new(asked)), JSON).await
}

async fn groups(State(site): State<Site>, words: Words) -> Result<Response, Wrong> {
    let (mut by, mut chosen) = (GroupBy::Holder, Chosen::default());
    for (name, value) in read(words)? {
        match name.as_str() {
            "by" => {
                by = GroupBy::ALL.into_iter().find(|by| by.name() == value).ok_or_else(|| {
                    let names = GroupBy::ALL.map(GroupBy::name).join(", ");
                    Wrong::asked(&name, &value, format!("there are {names}"))
                })?;
            }
            _ => choose(&mut chosen, &name, &value, "by")?,
        }
    }
    site.answer(Asked::Groups(by, Box::new(chosen)), JSON).await
}

fn read(words: Words) -> Result<Vec<(String, String)>, Wrong> {
    words
        .map(|Query(words)| words)
        .map_err(|_| Wrong::new(StatusCode::BAD_REQUEST, "the query is not name=value&..."))
}

/// What of a query chooses sockets. Lists are separated by commas; further values are added.
fn choose(chosen: &mut Chosen, name: &str, value: &str, others: &str) -> Result<(), Wrong> {
    let wrong = |problem: String| Wrong::asked(name, value, problem);
    match name {
        "state" => {
            let States(states) = value.parse().map_err(wrong)?;
            let all = TcpState::ALL.into_iter();
            chosen.states.extend(all.filter(|state| states & state.bit() != 0));
        }
        "verdict" => {
            for word in value.split(',') {
                chosen.verdicts.push(word.parse::<Verdict>().map_err(wrong)?);
            }
        }
        "leaks" => match value {
            "true" | "1" | "" => chosen.leaks = true,
            "false" | "0" => chosen.leaks = false,
            _ => return Err(wrong("write true or false".to_owned())),
        },
        "workload" => chosen.workload = Some(value.to_owned()),
        "pid" => chosen.pid = Some(one(name, value, "write a pid")?),
        "cookie" => chosen.cookie = Some(one(name, value, "write a socket's cookie")?),
        _ => {
            return Err(Wrong::asked(
                name,
                value,
                format!(
                    "no such word; there are state, verdict, leaks, workload, pid, cookie, {others}"
                ),
            ));
        }
    }
    Ok(())
}

fn one<T: FromStr>(name: &str, value: &str, problem: &str) -> Result<T, Wrong> {
    value.parse().map_err(|_| Wrong::asked(name, value, problem))
}

/// `latest-cookie`, as a page says where it ends.
fn after(value: &str) -> Option<SocketPlace> {
    let (latest, cookie) = value.split_once('-')?;
    Some((latest.parse().ok()?, cookie.parse().ok()?))
}

impl Site {
    /// Asks the watch. What it says stays in memory until the client has taken it: so not too much
    /// of that at once.
    async fn answer(&self, asked: Asked, content_type: &'static str) -> Result<Response, Wrong> {
        let busy = |told: &str| Wrong::new(StatusCode::SERVICE_UNAVAILABLE, told);
        let (answer, answered) = oneshot::channel();
        let heard = timeout(ANSWERS_WITHIN, async {
            self.ask.send(Question { asked, answer }).await.ok()?;
            answered.await.ok()
        });
        let none = || busy("the watch does not answer; /healthz says more");
        let body = heard.await.ok().flatten().ok_or_else(none)?;
        let kib = u32::try_from(body.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.on_the_way).try_acquire_many_owned(kib.max(1));
        let permit = permit.map_err(|_| busy("too many answers are on their way; ask again"))?;
        let body = Bytes::from_owner(Held { body, _permit: permit });
        Ok(([(CONTENT_TYPE, content_type)], body).into_response())
    }
}

/// An answer, and its share of all that may be on the way.
struct Held {
    body: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Server-sent events (WHATWG HTML, 9.2): each with a number, so that a client that comes back goes
/// on where it was (`Last-Event-ID`).
async fn events(
    State(site): State<Site>,
    Extension(connected): Extension<Connected>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Wrong> {
    if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
        return Err(Wrong::asked("?", query, "no words here; Last-Event-ID says where to go on"));
    }
    let permit = Arc::clone(&site.listeners).try_acquire_owned().map_err(|_| {
        let told = format!("{LISTENERS} clients listen already");
        Wrong::new(StatusCode::SERVICE_UNAVAILABLE, told)
    })?;
    let shared = Arc::clone(&site.shared);
    let latest = *shared.feed.latest().borrow();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let (seen, begins) = match last.map(|id| number(id, shared.run)) {
        // From now on.
        None => (latest, ""),
        Some(Some(seen)) => (seen.min(latest), ""),
        // Of another run: what came in between, nobody knows.
        Some(None) => (0, "event: restarted\ndata: {}\n\n"),
    };
    connected.listens();
    let heard = Heard { shared, seen, begins, is_first: true, _permit: permit };
    let stream = pieces(heard);
    Ok(([(CONTENT_TYPE, "text/event-stream")], Body::from_stream(stream)).into_response())
}

/// The number of an event of this run.
fn number(id: &str, run: u64) -> Option<u64> {
    let (of, number) = id.split_once('-')?;
    (of.parse() == Ok(run)).then(|| number.parse().ok())?
}

/// Who listens, and up to where.
struct Heard {
    shared: Arc<Shared>,
    seen: u64,
    begins: &'static str,
    is_first: bool,
    _permit: OwnedSemaphorePermit,
}

impl Heard {
    /// The next piece: some events, or after a while a comment. It waits for them.
    async fn next(&mut self) -> String {
        let mut out = String::new();
        if std::mem::take(&mut self.is_first) {
            // How long to wait before coming back, ms.
            out.push_str("retry: 3000\n\n");
            out.push_str(self.begins);
            return out;
        }
        let mut latest = self.shared.feed.latest();
        if timeout(ALIVE, latest.wait_for(|latest| *latest > self.seen)).await.is_err() {
            return ": nothing\n\n".to_owned();
        }
        let News { missed, events } = self.shared.feed.after(self.seen);
        let run = self.shared.run;
        if missed > 0 {
            self.seen += missed;
            out.push_str(&format!("event: missed\ndata: {{\"missed\":{missed}}}\n\n"));
        }
        for event in events {
            let (number, kind, json) = (event.number, event.kind, &event.json);
            out.push_str(&format!("id: {run}-{number}\nevent: {kind}\ndata: {json}\n\n"));
            self.seen = number;
        }
        out
    }
}

/// The pieces one after the other, without an end.
fn pieces(heard: Heard) -> impl Stream<Item = Result<String, Infallible>> {
    stream::unfold(heard, |mut heard| async move {
        let piece = heard.next().await;
        Some((Ok(piece), heard))
    })
}
