//! `watch --close-after`: which leaks are closed when, and what is kept of it. Another process
//! closes them ([`super::helper`]).

use std::{collections::VecDeque, future, io, time::Duration};

use super::audit::Audit;
use crate::{
    cli::{nanoseconds, warn},
    engine::{
        close::{CloseAttempt, Closes, Rules, after::Due},
        fact::{Fact, Timed},
        parse,
        record::BootNs,
        update::Update,
        watch::{Said, Watch},
    },
    exit::{Exit, Failure},
    prose::{close, time::human},
    source::live::{
        close::{ancestors, helper::Helper, wire::Request},
        process,
    },
    view::Clock,
};

#[derive(Clone, Debug, clap::Args)]
#[group(id = "closing")]
pub struct Args {
    /// Last resort: close leaks that are older than this, as tcptrace close does; needs --yes
    #[arg(
        long,
        value_name = "DUR",
        value_parser = parse::duration,
        requires = "yes",
        long_help = "Last resort: close leaks that are older than this, as tcptrace close does; \
                     needs --yes. Each is looked at once more at that moment, and is left alone if \
                     it is not the same, not in CLOSE_WAIT, or in use again. A process of its own \
                     does it, which keeps the rights for that when the watch gives up its own. Each \
                     one is a line in the journal; the program goes on leaking"
    )]
    close_after: Option<Duration>,

    /// With --close-after: close so many a second at most
    #[arg(
        long,
        value_name = "N[/s]",
        default_value = "5",
        value_parser = super::rate,
        requires = "close_after"
    )]
    close_rate: u32,

    /// With --close-after: yes, close them
    #[arg(long, requires = "close_after")]
    yes: bool,
}

impl Args {
    /// Whether it makes sense with the rest. `rows`: of CSV.
    pub fn check(&self, min_age: Duration, rows: bool) -> Result<(), Failure> {
        match self.close_after {
            Some(after) if after < min_age => Err(Failure::usage(
                "--close-after: only what was reported is closed: not before --min-age",
            )),
            Some(_) if rows => Err(Failure::usage(
                "--close-after --format csv: what is closed has no columns there; write --format \
                 json",
            )),
            _ => Ok(()),
        }
    }

    /// What is said of it when the watch begins.
    pub fn told(&self) -> String {
        let told = |after: Duration| {
            let after = human(nanoseconds(after)).replace(".0s", "s");
            format!("; leaks older than {after} are closed, {} a second at most", self.close_rate)
        };
        self.close_after.map_or_else(String::new, told)
    }

    /// Starts the process that closes. Before the rights for that are given up.
    pub fn start(&self) -> Result<Option<Closing>, Failure> {
        let Some(after) = self.close_after else { return Ok(None) };
        let rate = self.close_rate.to_string();
        let started = Helper::start(&[super::helper::COMMAND, &rate]);
        let (helper, hello) = started.map_err(|e| Failure {
            exit: Exit::Failed,
            message: format!("--close-after: the process that closes did not start: {e}"),
        })?;
        if !hello.missing.is_empty() {
            warn(&format!(
                "--close-after: {} missing: what takes that is not closed",
                hello.missing.join(", ")
            ));
        }
        if let Some(why) = hello.unfiltered {
            warn(&format!(
                "--close-after: no system call filter holds the process that closes ({why})"
            ));
        }
        let rules = Rules {
            own: std::process::id(),
            ancestors: ancestors(),
            host_init: process::in_initial_pid_namespace(),
            ..Rules::default()
        };
        Ok(Some(Closing {
            helper,
            due: Due::new(rules, nanoseconds(after)),
            audit: Audit::new(None),
            closes: Closes::default(),
            busy: None,
            told: VecDeque::new(),
        }))
    }
}

/// What closes leaks beside a watch.
pub struct Closing {
    helper: Helper,
    due: Due,
    audit: Audit,
    closes: Closes,
    /// The one that is being closed.
    busy: Option<u64>,
    /// What it answered, and was not taken in yet.
    told: VecDeque<CloseAttempt>,
}

impl Closing {
    /// Waits for what the helper says; for ever, if nothing was asked of it.
    pub async fn answered(&mut self) -> io::Result<()> {
        if self.busy.is_none() {
            return future::pending().await;
        }
        let attempt = self.helper.answer().await?;
        // It answers what it was asked, or is believed in nothing.
        if self.busy.take() != Some(attempt.cookie) {
            return Err(io::Error::other("it answers what nobody asked"));
        }
        self.told.push_back(attempt);
        Ok(())
    }

    /// What it answered, as facts.
    pub fn facts(&mut self, now: BootNs, facts: &mut Vec<Timed>) {
        let fact = |attempt| Timed { at: now, fact: Fact::Attempt(Box::new(attempt)) };
        facts.extend(self.told.drain(..).map(fact));
    }

    /// Takes in what was said.
    pub fn hear(&mut self, said: &[Said], clock: &Clock) {
        for Said { time, update } in said {
            self.due.take(update);
            if let Update::Closed(closed) = update {
                self.due.tried(closed.attempt.cookie, closed.attempt.outcome);
                self.closes.close(&closed.attempt);
                self.audit.keep(*time, closed, clock);
            }
        }
    }

    /// The next one that is to be closed, if it is time: the fact to be taken in before it is.
    pub fn next(&mut self, now: BootNs, watch: &Watch) -> Option<(Timed, Request)> {
        if self.busy.is_some() {
            return None;
        }
        let (record, how) = self.due.next(now, |cookie| watch.row(cookie))?;
        let cookie = record.connection.cookie;
        self.busy = Some(cookie);
        let fact = Timed { at: now, fact: Fact::Closing { cookie } };
        Some((fact, Request::new(record, how)))
    }

    /// Has it closed.
    pub fn ask(&self, request: &Request) -> io::Result<()> {
        self.helper.ask(request)
    }

    /// Whether one is being closed.
    pub fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// What was closed, in a line.
    pub fn last_word(&self) -> Option<String> {
        close::beside(&self.closes)
    }
}
