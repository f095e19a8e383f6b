//! What is asked of the watch, and its answers: made on its thread, from what it knows at that
//! moment. Nothing that is asked changes anything.

use std::{io::Write as _, rc::Rc, time::Duration};

use tcptrace_common::state::TcpState;
use tokio::sync::oneshot;

use crate::{
    engine::{
        accounts::Accounts,
        group::{GroupBy, Groups},
        name::program_only,
        pages::PageBasis,
        record::{BootNs, Holder, Record},
        select::any,
        update::Update,
        verdict::Verdict,
        watch::Watch,
        workload::Workload,
    },
    formats::pods::PodNames,
    serve::{otlp, pods},
    view::{
        Clock, View,
        json::Json,
        metrics::{around::Around, exposition::Exposition, metrics},
        table::Table,
    },
};

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub asked: Asked,
    /// The body of the answer: metrics, JSON, text, a recording; or why there is none.
    pub answer: AnswerSender,
}

/// Where an answer goes.
pub type AnswerSender = oneshot::Sender<Result<Vec<u8>, String>>;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// All metrics.
    Metrics(Exposition),
    /// All metrics, as they stand in a request of OTLP.
    OtlpMetrics,
    /// Sockets that are stuck, a page of them.
    Sockets(Box<SocketsAsked>),
    /// The same, counted by what they have in common.
    Groups(GroupBy, Box<Chosen>),
    /// A page on what is known of a process or a socket.
    Explain(Subject, PageFormat),
    /// What is remembered of the last time, or of so much of it.
    Recording(Option<Duration>),
}

/// What a page is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A process.
    Pid(u32),
    /// A socket, by its cookie.
    Cookie(u64),
}

/// What a page is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageFormat {
    /// The objects that `explain --format json` writes.
    Json,
    /// Lines for people.
    Text {
        /// Columns.
        width: usize,
    },
}

/// Which sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chosen {
    /// In one of these states; none: in any.
    pub states: Vec<TcpState>,
    /// With one of these verdicts; none: with any, or without one.
    pub verdicts: Vec<Verdict>,
    /// Leaks only.
    pub leaks: bool,
    /// Of this workload, by its name.
    pub workload: Option<String>,
    /// Held by this process.
    pub pid: Option<u32>,
    /// This one, by its cookie.
    pub cookie: Option<u64>,
}

impl Chosen {
    fn matches(&self, record: &Record) -> bool {
        any(&self.states, |state| *state == record.state)
            && any(&self.verdicts, |verdict| record.verdict == Some(*verdict))
            && (!self.leaks || record.is_leak())
            && self.pid.is_none_or(|pid| record.holders.iter().any(|h| h.process.pid == pid))
            && self.cookie.is_none_or(|cookie| cookie == record.connection.cookie)
            && self.workload.as_ref().is_none_or(|name| *Workload::of_record(record).name == **name)
    }
}

/// A page of sockets, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketsAsked {
    /// Which.
    pub chosen: Chosen,
    /// So many at most.
    pub limit: usize,
    /// Those after this one.
    pub after: Option<SocketPlace>,
}

/// Where a socket stands among all: when its stay began, at the latest, and its cookie. It stands
/// there as long as it stays, so no page repeats or leaves out one that was there all the time.
pub type SocketPlace = (BootNs, u64);

fn place(record: &Record) -> SocketPlace {
    (record.latest_ns, record.connection.cookie)
}

/// What answers are made of.
pub struct Answers<'a> {
    /// The core.
    pub watch: &'a Watch,
    /// What was counted.
    pub accounts: &'a Accounts,
    /// How times are written.
    pub clock: &'a Clock,
    /// Now.
    pub now: BootNs,
    /// Command lines are told with their arguments.
    pub arguments: bool,
    /// What Kubernetes calls pods.
    pub pods: &'a PodNames,
    /// What the watch does not know.
    pub around: &'a dyn Fn() -> Around,
}

impl Answers<'_> {
    /// The answer, as bytes.
    ///
    /// # Errors
    /// What is asked about is not known: why, and what to do.
    pub fn answer(&self, asked: &Asked) -> Result<Vec<u8>, String> {
        match asked {
            Asked::Metrics(format) => {
                let Self { watch, accounts, clock, now, around, .. } = self;
                Ok(metrics(watch, accounts, clock, *now, &around(), *format).into_bytes())
            }
            Asked::OtlpMetrics => {
                let Self { watch, accounts, clock, now, around, .. } = self;
                Ok(otlp::metrics::encoded(watch, accounts, clock, *now, &around()))
            }
            Asked::Sockets(asked) => {
                self.are_watched(&asked.chosen)?;
                Ok(self.sockets(asked))
            }
            Asked::Groups(by, chosen) => {
                self.are_watched(chosen)?;
                Ok(self.groups(*by, chosen))
            }
            Asked::Explain(subject, format) => self.explain(*subject, *format),
            // Who has it was asked before.
            Asked::Recording(_) => Err("nothing is remembered".to_owned()),
        }
    }

    /// Of what is not watched nobody knows that there is none.
    fn are_watched(&self, chosen: &Chosen) -> Result<(), String> {
        let unwatched = chosen.states.iter().find(|state| !self.watch.plan().watches(**state));
        match unwatched {
            Some(state) => Err(format!(
                "state: {} is not watched here; serve --state names what is",
                state.name()
            )),
            None => Ok(()),
        }
    }

    fn explain(&self, subject: Subject, format: PageFormat) -> Result<Vec<u8>, String> {
        let is_text = matches!(format, PageFormat::Text { .. });
        let basis = PageBasis {
            knows: self.watch,
            now: self.now,
            listed: if is_text { ROWS } else { MOST_SOCKETS },
            elsewhere: "an agent does not read it; sudo tcptrace explain PID on the host does",
        };
        let mut updates = match subject {
            Subject::Pid(pid) => {
                let is_its = |record: &&Rc<Record>| record.holders.iter().any(|h| is(h, pid));
                let mut members: Vec<_> = self.watch.rows().filter(is_its).collect();
                members.sort_unstable_by_key(|record| place(record));
                let holders = members.iter().flat_map(|record| &record.holders);
                let holders: Vec<&Holder> = holders.filter(|h| is(h, pid)).collect();
                if holders.is_empty() {
                    return Err(format!(
                        "pid={pid}: no stuck socket of such a process is known; sudo tcptrace \
                         explain {pid} on the host looks at the process itself"
                    ));
                }
                basis.of_group(&members, &holders)
            }
            Subject::Cookie(cookie) => {
                let record = self.watch.row(cookie).ok_or_else(|| {
                    format!("cookie={cookie}: no such socket is stuck now; it may have ended")
                })?;
                let row = Some(Update::Socket(Rc::clone(record)));
                let row = row.filter(|_| !is_text && record.verdict.is_some());
                row.into_iter().chain(basis.of_socket(record)).collect()
            }
        };
        if !self.arguments {
            for update in &mut updates {
                if let Update::Process(report) = update {
                    program_only(&mut report.command);
                }
            }
        }
        let mut out = Vec::new();
        match format {
            PageFormat::Json => {
                self.head(&mut out);
                self.list(&mut out, "explained", updates.into_iter());
                out.extend_from_slice(b"}\n");
            }
            PageFormat::Text { width } => {
                let mut table = Table::new(&mut out, self.clock.clone(), width);
                for update in updates {
                    // Writing to memory does not fail.
                    let _ = table.update(self.now, &update);
                }
                let text = String::from_utf8_lossy(&out);
                out = anstream::adapter::strip_str(&text).to_string().into_bytes();
            }
        }
        Ok(out)
    }

    fn sockets(&self, asked: &SocketsAsked) -> Vec<u8> {
        let SocketsAsked { chosen, limit, after } = asked;
        let matching = self.watch.rows().filter(|record| chosen.matches(record));
        let (mut matches, mut rest) = (0u64, Vec::new());
        for record in matching {
            matches += 1;
            if after.is_none_or(|after| place(record) > after) {
                rest.push(record);
            }
        }
        // Only those of the page are put in order.
        let more = rest.len() > *limit;
        if more {
            rest.select_nth_unstable_by_key(*limit, |record| place(record));
            rest.truncate(*limit);
        }
        rest.sort_unstable_by_key(|record| place(record));
        let next = rest.last().filter(|_| more).map(|record| place(record));
        let mut out = Vec::with_capacity(2_048 * rest.len() + 256);
        self.head(&mut out);
        let _ = write!(out, ",\"matching\":{matches},\"next\":");
        let _ = match next {
            Some((latest, cookie)) => write!(out, "\"{latest}-{cookie}\""),
            None => write!(out, "null"),
        };
        let rows = rest.iter().map(|record| Update::Socket(Rc::clone(record)));
        self.list(&mut out, "sockets", rows);
        let holders = rest.iter().flat_map(|record| &record.holders);
        pods::append(&mut out, holders.filter_map(pods::uid), self.pods);
        out.extend_from_slice(b"}\n");
        out
    }

    fn groups(&self, by: GroupBy, chosen: &Chosen) -> Vec<u8> {
        let mut groups = Groups::new(by, self.now);
        let matching = self.watch.rows().filter(|record| chosen.matches(record));
        matching.for_each(|record| groups.add(record));
        let mut sorted = groups.sorted();
        let more = sorted.len().saturating_sub(MOST_GROUPS);
        sorted.truncate(MOST_GROUPS);
        let mut out = Vec::new();
        self.head(&mut out);
        let _ = write!(out, ",\"more\":{more}");
        let uids: Vec<String> = match by {
            GroupBy::Pod => sorted.iter().map(|group| group.key.clone()).collect(),
            _ => Vec::new(),
        };
        self.list(&mut out, "groups", sorted.into_iter().map(|g| Update::Group(Box::new(g))));
        pods::append(&mut out, uids.iter().map(String::as_str), self.pods);
        out.extend_from_slice(b"}\n");
        out
    }

    fn head(&self, out: &mut Vec<u8>) {
        let _ = write!(
            out,
            "{{\"time\":\"{}\",\"scanned\":{}",
            self.clock.rfc3339(self.now),
            self.watch.has_scanned()
        );
    }

    fn list(&self, out: &mut Vec<u8>, name: &str, updates: impl Iterator<Item = Update>) {
        let _ = write!(out, ",\"{name}\":[");
        let mut json = Json::new(Vec::new(), self.clock.clone());
        let mut comma = "";
        for update in updates {
            // Writing to memory does not fail.
            let _ = json.update(self.now, &update);
            out.extend_from_slice(comma.as_bytes());
            out.extend_from_slice(json.take().trim_ascii_end());
            comma = ",";
        }
        out.push(b']');
    }
}

fn is(holder: &Holder, pid: u32) -> bool {
    holder.process.pid == pid
}

/// Sockets that a page lists: as lines, and as objects.
const ROWS: usize = 10;
const MOST_SOCKETS: usize = 1_000;
/// Groups of an answer.
const MOST_GROUPS: usize = 1_000;
