//! A watch of this host: facts are taken in, kept where that is asked for, and shown, until
//! somebody ends it.

use std::{io, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    attach,
    close::beside::Closing,
    leaks, report,
    report::ReportFile,
    session::Session,
    settings::{Reloads, reload::Hangup},
    warn,
};
use crate::{
    confine::seccomp::Profile,
    engine::{
        fact::Timed,
        incident::{Incident, about::Provenance},
        parse::MinAge,
        record::BootNs,
        reports::Reports,
        watch::Plan,
    },
    exit::{Exit, Failure},
    source::{
        Source,
        live::tracing::Live,
        recording::{
            options::Written,
            recorder::{Prepared, Recorder},
        },
    },
    view::{View, report::IncidentReport},
};

/// What is to be done.
pub struct Job<'a> {
    /// What is asked for.
    pub plan: Plan,
    /// How to attach.
    pub how: attach::How<'a>,
    /// Who is told.
    pub view: Box<dyn View>,
    /// Who tells sockets together.
    pub reports: Option<Reports>,
    /// What keeps the facts.
    pub recording: Option<Prepared>,
    /// Where a report goes at the end.
    pub report: Option<ReportFile>,
    /// What closes leaks that are old enough.
    pub closing: Option<Closing>,
    /// Nothing is done but keeping the facts: it ends where that fails.
    pub only_records: bool,
    /// When it ends by itself.
    pub duration: Option<Duration>,
    /// Which leaks make it fail.
    pub leaks: &'a leaks::Args,
    /// What is said when it has begun.
    pub announcement: String,
    /// Where its settings come from a file.
    pub reloads: Reloads,
    /// Has that read again; what scans are to be like from now on, if it was good.
    pub reload: &'a mut dyn FnMut(&mut Reloads) -> Option<ScanPace>,
}

/// What scans are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanPace {
    /// `--min-age`.
    pub min_age: MinAge,
    /// `--interval`.
    pub interval: Option<Duration>,
}

impl ScanPace {
    /// From now on scans are like that; what is known stays known.
    pub fn set(self, session: &mut Session, source: &mut Live) {
        let now = session.watch.plan();
        let plan = now.clone().reporting(self.min_age);
        if plan.min_age_ns != now.min_age_ns {
            session.set_min_age(plan.min_age_ns, source.now());
        }
        let listed_from_ns = plan.listed_from_ns();
        let interval = self.interval.unwrap_or_else(|| attach::usual_interval(listed_from_ns));
        source.set_pace(listed_from_ns, interval);
    }
}

/// Does it; what was recorded, and how it ends.
pub async fn run(job: Job<'_>) -> Result<(Option<Written>, Exit), Failure> {
    let mut stop = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    // Before system calls are given up that it takes.
    let made = job.report.as_ref().map(|_| report::made_here());
    let mut missing = Vec::new();
    let mut say = |text: &str| {
        warn(text);
        missing.push(text.to_owned());
    };
    let mut source = attach::attach(job.how, &job.plan, &mut say)?;
    let report = job.report;
    let directory = job.recording.as_ref().and_then(Prepared::directory);
    let recorder = job.recording.map(Prepared::start).transpose();
    let mut keeper = Keeper::new(recorder.context("recording")?, job.only_records);
    let writes = keeper.recorder.is_some() || report.is_some();
    let profile = if writes { Profile::Record { directory } } else { Profile::Watch };
    attach::confine(profile, &mut warn);
    let incident = made.map(|made| Incident::of_watch(Provenance { missing, ..made }, &job.plan));
    let mut closing = Beside(job.closing);
    let mut session = Session::new(job.plan, job.view, job.reports).with_incident(incident);
    warn(&job.announcement);

    let end = job.duration.map(|d| Instant::now() + d);
    let mut facts = Vec::new();
    let (mut reloads, reload) = (job.reloads, job.reload);
    while !session.watch.is_done() && !keeper.is_over() {
        let outcome = tokio::select! {
            _ = stop.recv() => break,
            _ = terminate.recv() => break,
            () = sleep_until(end.unwrap_or_else(far)), if end.is_some() => break,
            ready = source.ready() => ready,
            () = closing.answered() => Ok(()),
            asked = reloads.asked() => {
                if asked == Hangup::End {
                    break;
                }
                if let Some(pace) = reload(&mut reloads) {
                    pace.set(&mut session, &mut source);
                }
                Ok(())
            }
        };
        let mut ask = |now| {
            let mut wants = session.watch.wants(now);
            keeper.ask(now, &mut wants);
            wants
        };
        let pulled = outcome.and_then(|()| source.pull(&mut ask, &mut facts));
        let now = source.now();
        closing.facts(now, &mut facts);
        keeper.keep(|recorder| recorder.take(&facts, &session.watch, now));
        if session.take(facts.drain(..)) {
            keeper.keep(Recorder::leak);
        }
        closing.go_on(now, &mut session, &mut keeper);
        // Before a ghost is said: who reads that may end it at once.
        let followed = source.follow_ends(session.watch.follows_ends());
        if let Err(e) = pulled.and(session.show(now)).and(followed) {
            closing.finish().await;
            closing.facts(now, &mut facts);
            session.take(facts.drain(..));
            closing.hear(&mut session);
            let written = keeper.finish();
            // Nobody reads what is shown any more; the report is for somebody else.
            let _ = session.finish(now);
            let reported = write(report, &mut session);
            let exit = job.leaks.exit(session.found(), Err(e))?;
            return reported.map(|()| (written.unwrap_or(None), exit));
        }
    }
    closing.finish().await;
    let stopped = source.stop(&mut facts);
    let now = source.now();
    closing.facts(now, &mut facts);
    keeper.keep(|recorder| recorder.take(&facts, &session.watch, now));
    if session.take(facts.drain(..)) {
        keeper.keep(Recorder::leak);
    }
    closing.hear(&mut session);
    let shown = stopped.and(session.finish(now));
    closing.last_word();
    let written = keeper.finish();
    let reported = write(report, &mut session);
    let exit = job.leaks.exit(session.found(), shown)?;
    reported?;
    match written {
        Ok(written) => Ok((written, exit)),
        // A reader of the pipe that has seen enough is no failure.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok((None, exit)),
        Err(e) => {
            let message = format!("the recording ended early, what it has is whole: {e}");
            Err(Failure { exit: Exit::Failed, message })
        }
    }
}

fn write(report: Option<ReportFile>, session: &mut Session) -> Result<(), Failure> {
    match report.zip(session.incident()) {
        Some((file, (incident, clock))) => file.write(&IncidentReport { incident, clock }),
        None => Ok(()),
    }
}

/// Closes leaks beside the watch, as long as that works.
struct Beside(Option<Closing>);

/// One that is being closed when the watch ends has ended by then, or is not waited for.
const LAST: Duration = Duration::from_secs(2);

impl Beside {
    async fn answered(&mut self) {
        match &mut self.0 {
            Some(closing) => {
                if let Err(e) = closing.answered().await {
                    self.give_up(&e);
                }
            }
            None => std::future::pending().await,
        }
    }

    fn facts(&mut self, now: BootNs, facts: &mut Vec<Timed>) {
        if let Some(closing) = &mut self.0 {
            closing.facts(now, facts);
        }
    }

    fn hear(&mut self, session: &mut Session) {
        if let Some(closing) = &mut self.0 {
            let (said, clock) = session.said();
            closing.hear(said, clock);
        }
    }

    /// Takes in what was said, and has the next one closed.
    fn go_on(&mut self, now: BootNs, session: &mut Session, keeper: &mut Keeper) {
        self.hear(session);
        let Some(closing) = &mut self.0 else { return };
        let Some((fact, request)) = closing.next(now, &session.watch) else { return };
        let facts = [fact];
        keeper.keep(|recorder| recorder.take(&facts, &session.watch, now));
        session.take(facts);
        if let Err(e) = closing.ask(&request) {
            self.give_up(&e);
        }
    }

    async fn finish(&mut self) {
        if self.0.as_ref().is_some_and(Closing::is_busy) {
            // What is not known by then is not said.
            let _ = tokio::time::timeout(LAST, self.answered()).await;
        }
    }

    fn last_word(&self) {
        if let Some(word) = self.0.as_ref().and_then(Closing::last_word) {
            warn(&word);
        }
    }

    fn give_up(&mut self, e: &io::Error) {
        warn(&format!("--close-after: the process that closes is gone ({e}): the watch goes on"));
        self.0 = None;
    }
}

/// Keeps the facts, as long as that works.
struct Keeper {
    recorder: Option<Recorder>,
    failed: Option<io::Error>,
    /// Without it there is nothing left to do.
    is_all: bool,
}

impl Keeper {
    fn new(recorder: Option<Recorder>, is_all: bool) -> Self {
        Self { recorder, failed: None, is_all }
    }

    fn is_over(&self) -> bool {
        self.is_all && self.recorder.is_none()
    }

    fn ask(&mut self, now: u64, wants: &mut crate::engine::watch::Wants) {
        if let Some(recorder) = &mut self.recorder {
            recorder.ask(now, wants);
        }
    }

    fn keep(&mut self, keep: impl FnOnce(&mut Recorder) -> io::Result<()>) {
        let Some(recorder) = &mut self.recorder else { return };
        if let Err(e) = keep(recorder) {
            if !self.is_all {
                warn(&format!("recording has ended, the watch goes on: {e}"));
            }
            self.recorder = None;
            self.failed = Some(e);
        }
    }

    /// What was written, in all.
    fn finish(self) -> io::Result<Option<Written>> {
        match self.failed {
            Some(e) => Err(e),
            None => self.recorder.map(Recorder::finish).transpose(),
        }
    }
}

fn far() -> Instant {
    Instant::now() + Duration::from_secs(86_400)
}
