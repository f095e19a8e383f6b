//! Events as they happen.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Extension, State},
    http::{HeaderMap, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures_util::{Stream, stream};
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{
    feed::News,
    listen::Connected,
    site::{LISTENERS, Shared, Site, Wrong},
};

/// Clients hear something within this, if only that there is nothing.
const ALIVE: Duration = Duration::from_secs(15);

/// Server-sent events (WHATWG HTML, 9.2): each with a number, so that a client that comes back goes
/// on where it was (`Last-Event-ID`).
pub async fn events(
    State(site): State<Site>,
    Extension(connected): Extension<Connected>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Wrong> {
    if let Some(query) = uri.query().filter(|query| !query.is_empty()) {
        let (name, value) = query.split_once('=').unwrap_or((query, ""));
        let told = "no such word, there are none; the header Last-Event-ID says where to go on";
        return Err(Wrong::asked(name, value, told));
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
