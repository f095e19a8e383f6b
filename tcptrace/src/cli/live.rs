//! A watch of this host: facts are taken in, kept where that is asked for, and shown, until
//! somebody ends it.

use std::{io, time::Duration};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{attach, leaks, report, report::ReportFile, session::Session, warn};
use crate::{
    confine::seccomp::Profile,
    engine::{
        incident::{Incident, about::Provenance},
        reports::Reports,
        watch::Plan,
    },
    exit::{Exit, Failure},
    source::{
        Source,
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
    /// Nothing is done but keeping the facts: it ends where that fails.
    pub only_records: bool,
    /// When it ends by itself.
    pub duration: Option<Duration>,
    /// Which leaks make it fail.
    pub leaks: &'a leaks::Args,
    /// What is said when it has begun.
    pub announcement: String,
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
    let mut session = Session::new(job.plan, job.view, job.reports).with_incident(incident);
    warn(&job.announcement);

    let end = job.duration.map(|d| Instant::now() + d);
    let mut facts = Vec::new();
    while !session.watch.is_done() && !keeper.is_over() {
        let outcome = tokio::select! {
            _ = stop.recv() => break,
            _ = terminate.recv() => break,
            () = sleep_until(end.unwrap_or_else(far)), if end.is_some() => break,
            ready = source.ready() => ready,
        };
        let mut ask = |now| {
            let mut wants = session.watch.wants(now);
            keeper.ask(now, &mut wants);
            wants
        };
        let pulled = outcome.and_then(|()| source.pull(&mut ask, &mut facts));
        let now = source.now();
        keeper.keep(|recorder| recorder.take(&facts, &session.watch, now));
        if session.take(facts.drain(..)) {
            keeper.keep(Recorder::leak);
        }
        // Before a ghost is said: who reads that may end it at once.
        let followed = source.follow_ends(session.watch.follows_ends());
        if let Err(e) = pulled.and(session.show(now)).and(followed) {
            let written = keeper.finish();
            // Nobody reads what is shown any more; the report is for somebody else.
            let _ = session.finish(now);
            let reported = write(report, &mut session);
            let exit = job.leaks.exit(session.found(), Err(e))?;
            return reported.map(|()| (written.unwrap_or(None), exit));
        }
    }
    let stopped = source.stop(&mut facts);
    let now = source.now();
    keeper.keep(|recorder| recorder.take(&facts, &session.watch, now));
    if session.take(facts.drain(..)) {
        keeper.keep(Recorder::leak);
    }
    let shown = stopped.and(session.finish(now));
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
