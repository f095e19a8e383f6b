//! The watch of an agent, and what it answers.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use crate::{
    cli::{nanoseconds, otlp, pods::Naming, session::Session, warn},
    engine::{accounts::Accounts, record::BootNs, watch::Watch},
    exit::Exit,
    prose::time::human,
    serve::{
        answer::{AnswerSender, Answers, Asked, Question},
        listen::Traffic,
        site::Shared,
    },
    source::{
        live::{agent, netstat},
        recording::recorder::Recorder,
    },
    view::metrics::around::{Around, ReloadResult},
};

/// The watch, and what is counted of it.
pub struct Agent {
    pub session: Session,
    pub accounts: Accounts,
    pub started_s: f64,
    pub kernel: String,
    pub shared: Arc<Shared>,
    pub traffic: Arc<Traffic>,
    pub naming: Naming,
    pub recorder: Option<Recorder>,
    pub remember: Duration,
    pub reloaded: Option<ReloadResult>,
    /// Command lines are told with their arguments,
    pub arguments: bool,
    /// and remembered with them.
    pub remembers_arguments: bool,
    pub exporter: otlp::Exporter,
}

impl Agent {
    /// What is remembered is an extra: where it fails, the watch goes on.
    pub fn remember(&mut self, keep: impl FnOnce(&mut Recorder, &Watch) -> io::Result<()>) {
        let Some(recorder) = &mut self.recorder else { return };
        if let Err(e) = keep(recorder, &self.session.watch) {
            warn(&format!("nothing is remembered any more, the watch goes on: {e}"));
            self.recorder = None;
        }
    }

    pub fn count(&mut self) {
        let (said, _) = self.session.said();
        said.iter().for_each(|said| self.accounts.take(said));
    }

    pub fn answer(&mut self, question: Question, now: BootNs) {
        if let Asked::Recording(last) = question.asked {
            return self.recording(last, now, question.answer);
        }
        // Whoever asked may have gone.
        let _ = question.answer.send(self.answer_to(&question.asked, now));
    }

    fn answer_to(&mut self, asked: &Asked, now: BootNs) -> Result<Vec<u8>, String> {
        let clock = self.session.said().1.clone();
        self.naming.refresh(now);
        let pods = self.naming.known();
        let around = || Around { pods: pods.clone(), ..self.around() };
        let names = pods.as_ref().map(|pods| Arc::clone(&pods.names)).unwrap_or_default();
        let Self { session, accounts, .. } = &*self;
        let known = Answers {
            watch: &session.watch,
            accounts,
            clock: &clock,
            now,
            arguments: self.arguments,
            pods: &names,
            around: &around,
        };
        known.answer(asked)
    }

    /// Ends, with what is to be sent yet.
    pub fn end(mut self, now: BootNs) -> Exit {
        let exporter = std::mem::take(&mut self.exporter);
        exporter.finish(|| self.answer_to(&Asked::OtlpMetrics, now).unwrap_or_default());
        Exit::Done
    }

    fn recording(&mut self, last: Option<Duration>, now: BootNs, answer: AnswerSender) {
        let last = last.unwrap_or(self.remember);
        let refused = if self.recorder.is_none() {
            Some("nothing is remembered: serve was started with --remember 0".to_owned())
        } else if self.remembers_arguments && !self.arguments {
            let told = "what is remembered has arguments of command lines, which are for those \
                        who show a token or a certificate; a restart forgets them";
            Some(told.to_owned())
        } else {
            (last > self.remember).then(|| {
                let kept = human(nanoseconds(self.remember));
                format!("last: only {kept} are remembered; serve --remember DUR keeps more")
            })
        };
        if let Some(refused) = refused {
            let _ = answer.send(Err(refused));
            return;
        }
        let since = now.saturating_sub(nanoseconds(last));
        // Whoever asked may have gone.
        self.remember(|recorder, _| recorder.copy(since, |bytes| drop(answer.send(Ok(bytes)))));
    }

    fn around(&self) -> Around {
        let own = agent::own();
        Around {
            kernel: self.kernel.clone(),
            overflows: netstat::listen_overflows(std::process::id()).ok(),
            cpu_s: own.cpu_s,
            memory: own.memory,
            started_s: self.started_s,
            connections: self.traffic.connections.load(Relaxed),
            refused: self.traffic.refused.load(Relaxed),
            reload: self.reloaded,
            pods: None,
            exported: self.exporter.told(),
        }
    }
}
