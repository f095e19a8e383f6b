//! Closing, one after the other, and looking what became of each.

use std::{collections::VecDeque, io, rc::Rc, time::Duration};

use anyhow::Context;
use tcptrace_common::state::TcpState;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::audit::Audit;
use crate::{
    engine::{
        close::{CloseResult, CloseWay, Closed, Closes, Planned},
        record::{BootNs, Record},
        update::Update,
    },
    exit::Failure,
    prose::close::{NO_DESTROY, missing_right},
    source::live::{
        boot_now,
        close::{CloseTarget, Closer, NotClosed, by, still_held},
    },
    view::View,
};

/// What has not ended at once is asked for again after this time.
const AGAIN: Duration = Duration::from_millis(20);

/// What closing takes.
pub struct Run {
    /// So many a second.
    pub rate: u32,
    /// Waits so long for each to end.
    pub wait: Duration,
    /// Ends them.
    pub closer: Closer,
    /// Who is told.
    pub view: Box<dyn View>,
    /// Where it is kept.
    pub audit: Option<Audit>,
    /// All of it, counted.
    pub closes: Closes,
}

/// One that was told to end.
struct Ending {
    record: Rc<Record>,
    target: CloseTarget,
    how: CloseWay,
    /// It is looked at until then.
    until: Instant,
}

impl Run {
    /// Does it. Ctrl-C ends it before the next one.
    pub async fn all(mut self, planned: Vec<Planned>, now: BootNs) -> Result<Closes, Failure> {
        let mut stop = signal(SignalKind::interrupt()).context("SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut to_do = VecDeque::new();
        for planned in planned {
            match planned.choice {
                Ok((how, _)) => to_do.push_back((planned.record, how)),
                Err(_) => self.say(now, Update::Planned(Box::new(planned))),
            }
        }
        let pause = Duration::from_secs(1) / self.rate;
        let mut ending: Vec<Ending> = Vec::new();
        let mut next = Instant::now();
        let mut stopped = false;
        loop {
            if !stopped
                && Instant::now() >= next
                && let Some((record, how)) = to_do.pop_front()
            {
                next += pause;
                ending.extend(self.begin(record, how));
            }
            self.look(&mut ending, stopped);
            let begun = stopped || to_do.is_empty();
            if begun && ending.is_empty() {
                break;
            }
            let again = Instant::now() + AGAIN;
            let wake = match (begun, ending.is_empty()) {
                (false, true) => next,
                (false, false) => next.min(again),
                (true, _) => again,
            };
            tokio::select! {
                _ = stop.recv() => stopped = true,
                _ = terminate.recv() => stopped = true,
                () = sleep_until(wake) => {}
            }
        }
        self.closes.not_begun = to_do.len() as u64;
        let closes = self.closes.clone();
        self.say(boot_now(), Update::Closes(Box::new(closes)));
        Ok(self.closes)
    }

    /// Tells one to end; `None`: that is all there is to say of it.
    fn begin(&mut self, record: Rc<Record>, how: CloseWay) -> Option<Ending> {
        let target = CloseTarget::of(&record);
        match self.closer.end(&target, how) {
            Ok(()) => {
                let until = Instant::now() + self.wait;
                Some(Ending { record, target, how, until })
            }
            Err(NotClosed { outcome, why }) => {
                let error = why.or_else(|| reason(outcome, how));
                // What it is in now, where it is there.
                let state_after = self.closer.now(&target.connection).unwrap_or(None);
                let still_held = still_held(&target);
                self.said(Closed {
                    record,
                    how,
                    by: by(),
                    outcome,
                    state_after,
                    still_held,
                    error,
                });
                None
            }
        }
    }

    /// Looks at those that were told to end, and tells of those that have; `finally`: of all.
    fn look(&mut self, ending: &mut Vec<Ending>, finally: bool) {
        let now = Instant::now();
        let looked = std::mem::take(ending);
        for one in looked {
            let state = match self.closer.now(&one.target.connection) {
                Ok(state) => state,
                Err(e) => {
                    let Ending { record, target, how, .. } = one;
                    let (outcome, still_held) = (CloseResult::Failed, still_held(&target));
                    let error = Some(format!("what became of it can't be seen: {e}"));
                    let state_after = None;
                    let closed =
                        Closed { record, how, by: by(), outcome, state_after, still_held, error };
                    self.said(closed);
                    continue;
                }
            };
            if state.is_some() && now < one.until && !finally {
                ending.push(one);
                continue;
            }
            self.said(ended(one, state));
        }
    }

    fn said(&mut self, closed: Closed) {
        self.closes.close(&closed);
        let now = boot_now();
        if let Some(audit) = &mut self.audit {
            audit.keep(now, &closed);
        }
        self.say(now, Update::Closed(Box::new(closed)));
    }

    /// A reader that has gone does not keep what was asked for from being done.
    fn say(&mut self, now: BootNs, update: Update) {
        let _: io::Result<()> = self.view.update(now, &update).and_then(|()| self.view.flush());
    }
}

/// What became of one that was told to end.
fn ended(one: Ending, state: Option<TcpState>) -> Closed {
    let Ending { record, target, how, .. } = one;
    let still_held = still_held(&target);
    let (outcome, error) = match state {
        None => (CloseResult::Closed, None),
        // What the kernel destroys is gone when it answers.
        Some(state) if how == CloseWay::Destroy || state == record.state => {
            let why =
                format!("the kernel said that it was done, and it is in {} now", state.name());
            (CloseResult::Failed, Some(why))
        }
        Some(_) => (CloseResult::Closing, None),
    };
    // A descriptor that leads to a socket which the kernel does not list any more.
    let ghost = still_held.as_ref().is_some_and(|held| !held.is_empty());
    let state_after = state.or_else(|| ghost.then_some(TcpState::Close));
    Closed { record, how, by: by(), outcome, state_after, still_held, error }
}

fn reason(outcome: CloseResult, how: CloseWay) -> Option<String> {
    match outcome {
        CloseResult::NotAllowed => Some(missing_right(how).to_owned()),
        CloseResult::Failed => Some(NO_DESTROY.to_owned()),
        _ => None,
    }
}
