//! What handlers share: the watch to ask, and how a request goes wrong.

use std::{
    fmt::Display,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use axum::{
    body::Bytes,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::timeout,
};

use super::{
    answer::{Asked, Question},
    current::Current,
    feed::EventFeed,
    guard::Guard,
};

/// The watch answers within this, or is not well.
const ANSWERS_WITHIN: Duration = Duration::from_secs(10);
/// Bytes of answers that are on their way to slow clients, all together, KiB.
const ON_THE_WAY_KIB: u32 = 32 << 10;
/// Clients that listen to events.
pub const LISTENERS: usize = 16;
/// Of JSON.
pub const JSON: &str = "application/json";

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
    pub run: u64,
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

    /// How long ago that was.
    pub fn since_turned(&self) -> Duration {
        let turned = Duration::from_millis(self.turned_ms.load(Relaxed));
        self.began.elapsed().saturating_sub(turned)
    }
}

fn ms(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// What handlers need.
#[derive(Clone)]
pub struct Site {
    /// What the watch says without being asked.
    pub shared: Arc<Shared>,
    /// Who may ask.
    pub guard: Arc<Current<Arc<Guard>>>,
    /// Who listens to events has one of these.
    pub listeners: Arc<Semaphore>,
    ask: mpsc::Sender<Question>,
    on_the_way: Arc<Semaphore>,
    /// Who is sent a recording.
    recordings: Arc<Semaphore>,
}

/// What is wrong with a request, in one line.
pub struct Wrong {
    status: StatusCode,
    told: String,
}

impl Wrong {
    /// What is wrong.
    pub fn new(status: StatusCode, told: impl Into<String>) -> Self {
        Self { status, told: told.into() }
    }

    /// What is wrong with a word of the query.
    pub fn asked(name: &str, value: &str, problem: impl Display) -> Self {
        // What somebody else chose is not given back as it came.
        let inert =
            |text: &str| text.chars().take(64).flat_map(char::escape_default).collect::<String>();
        let (name, value) = (inert(name), inert(value));
        Self::new(StatusCode::BAD_REQUEST, format!("{name}={value}: {problem}"))
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "error": self.told }).to_string() + "\n";
        (self.status, [(CONTENT_TYPE, JSON)], body).into_response()
    }
}

impl Site {
    /// Questions go to `ask`.
    pub fn new(
        shared: Arc<Shared>,
        guard: Arc<Current<Arc<Guard>>>,
        ask: mpsc::Sender<Question>,
    ) -> Self {
        Self {
            shared,
            guard,
            listeners: Arc::new(Semaphore::new(LISTENERS)),
            ask,
            on_the_way: Arc::new(Semaphore::new(ON_THE_WAY_KIB as usize)),
            recordings: Arc::new(Semaphore::new(1)),
        }
    }

    /// Asks the watch. What it says stays in memory until the client has taken it: so not too much
    /// of that at once.
    pub async fn answer(
        &self,
        asked: Asked,
        content_type: &'static str,
    ) -> Result<Response, Wrong> {
        let body = self.heard(asked).await?;
        let kib = u32::try_from(body.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.on_the_way).try_acquire_many_owned(kib.max(1));
        let permit = permit.map_err(|_| busy("too many answers are on their way; ask again"))?;
        Ok(held(body, permit, content_type))
    }

    /// The same of a recording, which may be large: one at a time, from before it is made.
    pub async fn recording(&self, last: Option<Duration>) -> Result<Response, Wrong> {
        let permit = Arc::clone(&self.recordings).try_acquire_owned();
        let permit = permit.map_err(|_| busy("another recording is on its way; ask again"))?;
        let body = self.heard(Asked::Recording(last)).await?;
        Ok(held(body, permit, "application/octet-stream"))
    }

    async fn heard(&self, asked: Asked) -> Result<Vec<u8>, Wrong> {
        let (answer, answered) = oneshot::channel();
        let heard = timeout(ANSWERS_WITHIN, async {
            self.ask.send(Question { asked, answer }).await.ok()?;
            answered.await.ok()
        });
        let none = || busy("the watch does not answer; /healthz says more");
        let answer = heard.await.ok().flatten().ok_or_else(none)?;
        answer.map_err(|told| Wrong::new(StatusCode::NOT_FOUND, told))
    }
}

fn busy(told: &str) -> Wrong {
    Wrong::new(StatusCode::SERVICE_UNAVAILABLE, told)
}

fn held(body: Vec<u8>, permit: OwnedSemaphorePermit, content_type: &'static str) -> Response {
    let body = Bytes::from_owner(Held { body, _permit: permit });
    ([(CONTENT_TYPE, content_type)], body).into_response()
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
