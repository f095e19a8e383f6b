//! Closing, one after the other, and looking what became of each.

use std::{collections::VecDeque, io, rc::Rc, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::audit::Audit;
use crate::{
    engine::{
        close::{CloseAttempt, CloseResult, CloseWay, Closed, Closes, Planned},
        record::{BootNs, Record},
        update::Update,
    },
    exit::Failure,
    prose::close::{NO_DESTROY, missing_right},
    source::live::{
        boot_now,
        close::{CloseTarget, Closer, NotClosed, attempt, became},
    },
    view::View,
};

/// What has not ended at once is asked for again after this time.
pub const AGAIN: Duration = Duration::from_millis(20);

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
            Err(not) => {
                let attempt = left_alone(&mut self.closer, &target, how, not);
                self.said(Closed { record, attempt });
                None
            }
        }
    }

    /// Looks at those that were told to end, and tells of those that have; `finally`: of all.
    fn look(&mut self, ending: &mut Vec<Ending>, finally: bool) {
        let now = Instant::now();
        for one in std::mem::take(ending) {
            let state = self.closer.now(&one.target.connection);
            if let Ok(Some(_)) = state
                && now < one.until
                && !finally
            {
                ending.push(one);
                continue;
            }
            let Ending { record, target, how, .. } = one;
            let attempt = became(&target, how, state);
            self.said(Closed { record, attempt });
        }
    }

    fn said(&mut self, closed: Closed) {
        self.closes.close(&closed.attempt);
        let now = boot_now();
        if let Some(audit) = &mut self.audit {
            audit.keep(now, &closed, self.view.clock());
        }
        self.say(now, Update::Closed(Box::new(closed)));
    }

    /// A reader that has gone does not keep what was asked for from being done.
    fn say(&mut self, now: BootNs, update: Update) {
        let _: io::Result<()> = self.view.update(now, &update).and_then(|()| self.view.flush());
    }
}

/// One that did not end: why, and what it is in now, where it is there.
pub fn left_alone(
    closer: &mut Closer,
    target: &CloseTarget,
    how: CloseWay,
    mut not: NotClosed,
) -> CloseAttempt {
    not.why = not.why.or_else(|| reason(not.outcome, how));
    let state = match not.outcome {
        CloseResult::GoneBefore => None,
        _ => closer.now(&target.connection).unwrap_or(None),
    };
    attempt(target, how, not, state)
}

/// What there is to say where the kernel said nothing more.
fn reason(outcome: CloseResult, how: CloseWay) -> Option<String> {
    match outcome {
        CloseResult::NotAllowed => Some(missing_right(how).to_owned()),
        CloseResult::Failed => Some(NO_DESTROY.to_owned()),
        _ => None,
    }
}
