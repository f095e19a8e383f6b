//! Paths, and the questions that they stand for. GET only: no route changes anything.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{
            ACCEPT, CACHE_CONTROL, CONTENT_DISPOSITION, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::mpsc;

use super::{
    answer::{Asked, Chosen, PageFormat, Question, SocketsAsked, Subject},
    current::Current,
    events::events,
    guard::{Guard, Unadmitted},
    site::{JSON, Shared, Site, Wrong},
    words::{Words, after, choose, one, read},
};
use crate::{
    engine::{group::GroupBy, parse},
    view::metrics::exposition::Exposition,
};

/// The watch turns at least this often, or is not well.
const TURNS_WITHIN: Duration = Duration::from_secs(30);
/// Sockets of a page: usually, and at most.
const PAGE: usize = 100;
const LONGEST_PAGE: usize = 1_000;
/// Columns of a page on a process or a socket, usually.
const WIDTH: usize = 100;
/// Columns that can be asked for.
pub const WIDTHS: std::ops::RangeInclusive<usize> = 40..=1_000;

/// All paths. Questions go to `ask`.
pub fn router(
    shared: Arc<Shared>,
    guard: Arc<Current<Arc<Guard>>>,
    ask: mpsc::Sender<Question>,
) -> Router {
    let site = Site::new(shared, guard, ask);
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/api/v1/sockets", get(sockets))
        .route("/api/v1/groups", get(groups))
        .route("/api/v1/explain", get(explain))
        .route("/api/v1/events", get(events))
        .route("/api/v1/recording", get(recording))
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

/// Nothing is kept by anybody on the way, or taken for something else.
async fn plain(mut answer: Response) -> Response {
    let headers = answer.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

async fn guard_it(State(site): State<Site>, request: Request, next: Next) -> Response {
    match site.guard.get().admits(request.uri(), request.headers()) {
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

/// A page on a process, or on a socket.
async fn explain(State(site): State<Site>, words: Words) -> Result<Response, Wrong> {
    let (mut subject, mut is_text, mut width) = (None, false, WIDTH);
    for (name, value) in read(words)? {
        match name.as_str() {
            "pid" => subject = Some(Subject::Pid(one(&name, &value, "write a pid")?)),
            "cookie" => {
                subject = Some(Subject::Cookie(one(&name, &value, "write a socket's cookie")?));
            }
            "format" => match value.as_str() {
                "text" => is_text = true,
                "json" => is_text = false,
                _ => return Err(Wrong::asked(&name, &value, "there are json and text")),
            },
            "width" => {
                let problem = "write a number from 40 to 1000";
                width = one(&name, &value, problem)?;
                if !WIDTHS.contains(&width) {
                    return Err(Wrong::asked(&name, &value, problem));
                }
            }
            _ => {
                let told = "no such word; there are pid, cookie, format, width";
                return Err(Wrong::asked(&name, &value, told));
            }
        }
    }
    let subject = subject.ok_or_else(|| {
        Wrong::new(StatusCode::BAD_REQUEST, "write pid=N or cookie=N: what it is to be about")
    })?;
    let (format, content_type) = match is_text {
        true => (PageFormat::Text { width }, TEXT),
        false => (PageFormat::Json, JSON),
    };
    site.answer(Asked::Explain(subject, format), content_type).await
}

const TEXT: &str = "text/plain; charset=utf-8";

/// What is remembered of the last minutes, as a recording.
async fn recording(State(site): State<Site>, words: Words) -> Result<Response, Wrong> {
    let mut last = None;
    for (name, value) in read(words)? {
        match name.as_str() {
            "last" => {
                let wrong = |e| Wrong::asked(&name, &value, e);
                last = Some(parse::duration(&value).map_err(wrong)?);
            }
            _ => return Err(Wrong::asked(&name, &value, "no such word; there is last")),
        }
    }
    let mut answer = site.recording(last).await?;
    let named = HeaderValue::from_static("attachment; filename=\"tcptrace.tct\"");
    answer.headers_mut().insert(CONTENT_DISPOSITION, named);
    Ok(answer)
}
