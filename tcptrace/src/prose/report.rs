//! A report's answer in words: who leaked, since when, how fast, why, what to do, what it is not.

use tcptrace_common::state::TcpState;

use super::{
    cure::{Snippet, cure},
    forecast,
    last_word::{lately, rounded},
    time::human,
    time_wait,
    words::name,
};
use crate::engine::{
    blocked::blockage::Kept,
    counted::counted,
    forecast::NoForecast,
    incident::{
        Incident,
        about::{Mode, Uncounted},
        compare::{Per, Trend},
        counting,
        process::ProcessStory,
    },
    record::{Age, BootNs, Since},
    stories::{self, CodeStory},
    time_wait::TimeWaits,
    update::Lost,
    verdict::Verdict,
};

/// How times of day are written.
pub struct Times<'a> {
    /// Day and time with the zone.
    pub long: &'a dyn Fn(BootNs) -> String,
    /// Day and hour with the zone, for what is foretold.
    pub hour: &'a dyn Fn(BootNs) -> String,
}

/// What a reader wants to know, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The question.
    pub question: &'static str,
    /// The answer, a paragraph each.
    pub said: Vec<String>,
    /// Things of one kind, a line each.
    pub list: Vec<String>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// In one sentence.
    pub headline: String,
    /// It is about leaks that are open.
    pub is_bad: bool,
    /// Question by question.
    pub points: Vec<Point>,
}

/// More processes are counted.
const OTHERS: usize = 3;
/// Groups of threads in the answer.
const THREADS: usize = 3;
/// Of the code that its leaks come from, as many places.
const STORIES: usize = 2;
/// More verdicts of one process are counted.
const VERDICTS: usize = 3;

/// What happened, in words.
#[must_use]
pub fn answer(incident: &Incident, times: &Times<'_>) -> Account {
    let totals = incident.totals();
    let mut leaking: Vec<&ProcessStory> =
        incident.processes().iter().filter(|p| p.leaks() > 0).collect();
    leaking.sort_by_key(|p| (std::cmp::Reverse((p.leaks_open, p.leaks())), p.holder.process.pid));
    let mut points = match leaking.split_first() {
        None => vec![seen(incident)],
        Some((worst, others)) => {
            let verdicts = verdicts(worst);
            vec![
                who(incident, worst, others),
                since(worst, incident, times),
                pace(worst, incident, times),
                why(worst, &verdicts, &stories(incident, worst)),
                what_to_do(worst, &verdicts),
                what_it_is_not(&verdicts),
            ]
        }
    };
    points.extend(incident.time_waits().map(in_time_wait));
    let headline = headline(incident, leaking.first().copied());
    Account { headline, is_bad: totals.leaks_open > 0, points }
}

fn headline(incident: &Incident, worst: Option<&ProcessStory>) -> String {
    let totals = incident.totals();
    let (open, all) = (totals.leaks_open, totals.leaks);
    match worst {
        _ if all == 0 => match totals.stuck {
            0 => "Nothing is stuck, and nothing leaks.".to_owned(),
            1 => "No leaks: the one socket that was seen is none.".to_owned(),
            n => format!("No leaks: the {n} sockets that were seen are none."),
        },
        None => format!("{} open, and no process is known to hold them.", leaks(open)),
        Some(_) if open == 0 => match all {
            1 => "The one leak that there was has ended.".to_owned(),
            n => format!("All {n} leaks that there were have ended."),
        },
        Some(worst) => {
            let who = called(worst);
            let n = worst.leaks_open;
            let count = match (n, open) {
                (1, 1) => "the only leak".to_owned(),
                (n, open) if n == open => format!("all {n} leaks"),
                (n, open) => format!("{n} of {open} leaks"),
            };
            match verdicts(worst).first() {
                Some((Some(Verdict::NeverAccepted), _)) => {
                    format!("{who} does not accept its connections: it lets {count} wait.")
                }
                _ => format!("{who} does not close its connections: it holds {count}."),
            }
        }
    }
}

/// `one leak is`, `7 leaks are`.
fn leaks(n: u64) -> String {
    if n == 1 { "One leak is".to_owned() } else { format!("{n} leaks are") }
}

/// `java shop.jar[4711]`; it may hold anything.
#[must_use]
pub fn called(p: &ProcessStory) -> String {
    format!("{}[{}]", p.holder.called(), p.holder.process.pid)
}

fn seen(incident: &Incident) -> Point {
    let totals = incident.totals();
    let text = match incident.mode {
        Mode::Snapshot => {
            format!("One scan listed {}.", counted(totals.stuck, "socket", "sockets"))
        }
        Mode::Watch { min_age_ns, .. } => {
            let length = incident.span().map_or(0, |span| span.length_ns());
            format!(
                "For {} all sockets were watched that were asked for; {} stayed for {} or \
                 longer, and {} of those have ended.",
                human(length),
                totals.stuck,
                human(min_age_ns),
                totals.resolved
            )
        }
    };
    Point { question: "What was seen", said: vec![text], list: Vec::new() }
}

fn in_time_wait(all: &TimeWaits) -> Point {
    let text = format!("{} at the end; who closes first has them.", all.count);
    let list = time_wait::told(all).into_iter().flat_map(|kind| kind.lines).collect();
    Point { question: "How many are in TIME_WAIT", said: vec![text], list }
}

fn who(incident: &Incident, worst: &ProcessStory, others: &[&ProcessStory]) -> Point {
    let count = |p: &ProcessStory| match (p.leaks_open, p.leaks_resolved) {
        (open, 0) => format!("{open} open"),
        (open, ended) => format!("{open} open, {ended} ended"),
    };
    let mut said = vec![format!("{}: {}.", name(&worst.holder), count(worst))];
    if !worst.command.is_empty() {
        said.push(format!("Command line: {}", worst.command));
    }
    if let Some(path) = worst.holder.cgroups.as_ref().and_then(|c| c.path()).filter(|p| *p != "/") {
        said.push(format!("Cgroup: {path}"));
    }
    let mut list: Vec<String> =
        others.iter().take(OTHERS).map(|p| format!("{}: {}", called(p), count(p))).collect();
    if let Some(more) = others.len().checked_sub(OTHERS).filter(|n| *n > 0) {
        let more = if more == 1 {
            "one more process".to_owned()
        } else {
            format!("{more} more processes")
        };
        list.push(format!("and {more}"));
    }
    let unheld = incident.open().unheld;
    if unheld > 0 {
        let are = if unheld == 1 { "is" } else { "are" };
        list.push(format!("{unheld} more {are} held by no process that can be seen"));
    }
    Point { question: "Who", said, list }
}

fn since(worst: &ProcessStory, incident: &Incident, times: &Times<'_>) -> Point {
    let until = incident.span().map_or(0, |span| span.to_ns);
    let text = match worst.oldest {
        None => {
            let were = if worst.leaks_most == 1 { "was" } else { "were" };
            let most = worst.leaks_most;
            format!("None of its leaks is open any more. At most {most} {were} at once.")
        }
        Some(Since { earliest_ns, latest_ns }) => {
            let age = Age::at(until, earliest_ns, latest_ns);
            let (ago, latest) = (human(age.min_ns), (times.long)(latest_ns));
            if age.is_exact() {
                format!("Since {latest}, {ago} before the end of this report.")
            } else if age.max_ns.is_some() && (times.long)(earliest_ns) != latest {
                let earliest = (times.long)(earliest_ns);
                format!("Since some time between {earliest} and {latest}: for {ago} or more.")
            } else if age.max_ns.is_some() {
                format!("Since {latest}, {ago} before the end of this report.")
            } else {
                format!("Since {latest} or before: for {ago} or more.")
            }
        }
    };
    let about = "That is when the oldest leak began that is open at the end.";
    let said = if worst.oldest.is_some() { vec![text, about.to_owned()] } else { vec![text] };
    Point { question: "Since when", said, list: Vec::new() }
}

fn pace(worst: &ProcessStory, incident: &Incident, times: &Times<'_>) -> Point {
    let of_worst = incident
        .summary()
        .and_then(|s| s.worst.as_deref())
        .filter(|w| w.holder.process == worst.holder.process);
    let gained = match (incident.mode, of_worst.map(|w| (w, w.per_minute))) {
        _ if worst.leaks_open == 0 => "All of its leaks have ended.".to_owned(),
        (Mode::Snapshot, _) => "One snapshot does not show how fast it gains leaks.".to_owned(),
        (_, Some((_, Ok(n)))) => {
            format!("It gains about {} a minute.", counted(rounded(n), "leak", "leaks"))
        }
        (_, Some((w, Err(why)))) if why != NoForecast::TooFew => match w.gained {
            0 => format!("It has gained none{}.", lately(w)),
            n => format!("It has gained {n}{}, at no steady pace.", lately(w)),
        },
        _ => "It was not watched long enough to tell how fast it gains leaks.".to_owned(),
    };
    Point { question: "How fast", said: vec![gained, descriptors(worst, times)], list: Vec::new() }
}

/// What is left of a process's descriptors.
#[must_use]
pub fn descriptors(p: &ProcessStory, times: &Times<'_>) -> String {
    let used = match p.in_use() {
        None => "an unknown number".to_owned(),
        Some(n) if p.used == Some(n) => n.to_string(),
        Some(n) => format!("at least {n}"),
    };
    match (p.limit, p.full) {
        (Some(limit), _) if p.leaks_open == 0 => {
            format!("It used {used} of {limit} descriptors when that was last known.")
        }
        (Some(limit), Ok(full)) => {
            let (from, to) = ((times.hour)(full.full_at.min), (times.hour)(full.full_at.max));
            let latest = if from == to { String::new() } else { format!("; at the latest {to}") };
            format!(
                "It uses {used} of {limit} descriptors. At this pace none is left {from}{latest}."
            )
        }
        (Some(limit), Err(why)) => format!(
            "It uses {used} of {limit} descriptors. When they run out can't be foretold: {}.",
            forecast::none(why)
        ),
        (None, _) => "How many descriptors it may have is not known.".to_owned(),
    }
}

/// A process's verdicts, the most frequent first.
#[must_use]
pub fn verdicts(p: &ProcessStory) -> Vec<(Option<Verdict>, u64)> {
    let counts = p.by_verdict.iter().enumerate().filter(|(_, n)| **n > 0);
    let mut list: Vec<_> = counts.map(|(slot, n)| (counting::verdict(slot), *n)).collect();
    list.sort_by_key(|(verdict, n)| (std::cmp::Reverse(*n), *verdict));
    list
}

/// Where the leaks of a process come from.
fn stories(incident: &Incident, p: &ProcessStory) -> Vec<CodeStory> {
    let id = p.holder.process;
    let records = incident.sockets().iter().map(|s| &s.record);
    stories::stories(records.filter(|r| r.holders.iter().any(|h| h.process == id)))
}

fn why(worst: &ProcessStory, verdicts: &[(Option<Verdict>, u64)], stories: &[CodeStory]) -> Point {
    let line = |(verdict, n): &(Option<Verdict>, u64)| match verdict {
        Some(v) => format!("{} ({n}): {}", v.name(), cure(*v).means),
        None => format!("unknown ({n}): what a verdict rests on could not be read"),
    };
    let mut said: Vec<String> = verdicts.iter().take(VERDICTS).map(line).collect();
    if let Some(more) = verdicts.len().checked_sub(VERDICTS).filter(|n| *n > 0) {
        let are = if more == 1 { "verdict is" } else { "verdicts are" };
        said.push(format!("{more} more {are} below."));
    }
    // What keeps it comes first: it is why.
    if let Some(kept) = worst.kept().find(Kept::is_told) {
        said.splice(0..0, super::blocked::lines(&kept));
    }
    for story in stories.iter().take(STORIES) {
        let words = super::origins::story(story).join("; ");
        said.push(format!("{words}."));
    }
    let mut list = threads(worst);
    list.truncate(THREADS);
    if !list.is_empty() {
        said.push("What its threads waited in, when that was looked at first:".to_owned());
    }
    Point { question: "Why", said, list }
}

/// What a process's threads waited in, group by group, the largest first. It may hold anything.
#[must_use]
pub fn threads(p: &ProcessStory) -> Vec<String> {
    match p.waits.as_ref().map(|waits| &*waits.threads) {
        None => Vec::new(),
        Some(Err(why)) => vec![format!("its threads are not known: {why}")],
        Some(Ok(threads)) => threads.groups.iter().map(super::threads::text).collect(),
    }
}

/// What keeps a process, and how that leads to its end. It may hold anything.
#[must_use]
pub fn kept(p: &ProcessStory) -> Vec<String> {
    p.kept().flat_map(|kept| super::blocked::lines(&kept)).collect()
}

fn what_to_do(worst: &ProcessStory, verdicts: &[(Option<Verdict>, u64)]) -> Point {
    let known = verdicts.iter().filter_map(|(verdict, _)| *verdict).take(VERDICTS);
    let said = known.clone().map(|v| format!("{}: {}", v.name(), v.advice())).collect();
    let mut list: Vec<String> = known
        .take(1)
        .filter_map(|v| {
            let Snippet { language, role, code } =
                cure(v).in_code_for(worst.language, None).into_iter().next()?;
            let role = role.map_or_else(String::new, |role| format!(" ({})", role.name()));
            (Some(language) == worst.language).then(|| format!("{}{role}: {code}", language.name()))
        })
        .collect();
    list.push(format!(
        "what its threads wait in, and each of its sockets: tcptrace explain {}",
        worst.holder.process.pid
    ));
    Point { question: "What to do", said, list }
}

fn what_it_is_not(verdicts: &[(Option<Verdict>, u64)]) -> Point {
    let first = verdicts.iter().find_map(|(verdict, _)| *verdict);
    let list: Vec<String> =
        first.map_or(&[][..], |v| cure(v).no_help).iter().map(|s| (*s).to_owned()).collect();
    let text = if list.is_empty() {
        "No sysctl closes a descriptor that a program holds."
    } else {
        "These are often tried, and change nothing here:"
    };
    Point { question: "What it is not", said: vec![text.to_owned()], list }
}

/// What each kind of loss means, with its count; of those that there were.
#[must_use]
pub fn losses(lost: &Lost) -> Vec<(u64, &'static str)> {
    let all = [
        (
            lost.ring_full,
            "events found the buffer full: by whom some sockets were closed is not known \
             (--ring-size makes it larger)",
        ),
        (
            lost.storage_failed,
            "stays could not be timed for want of kernel memory: they were found by a later \
             scan, and their ages are intervals",
        ),
        (
            lost.recursion,
            "changes of state could not be traced, because the kernel was in the program \
             already: scans made up for them",
        ),
        (lost.skipped, "records made no sense and were skipped"),
        (
            lost.unverified,
            "stays were given up, because no descriptor leads to them and their ends may have \
             been missed",
        ),
    ];
    all.into_iter().filter(|(n, _)| *n > 0).collect()
}

/// Why it is not known how many connections there were.
#[must_use]
pub const fn uncounted(why: Uncounted) -> &'static str {
    match why {
        Uncounted::Snapshot => "a snapshot does not see the connections that have ended",
        Uncounted::OtherStates => "CLOSE_WAIT was not watched",
        Uncounted::Part => {
            "the kernel counts the connections of all processes, and a part of them was asked for"
        }
        Uncounted::NoScan => "no scan brought the kernel's counts",
    }
}

/// What rates are by.
#[must_use]
pub const fn per(per: Per) -> &'static str {
    match per {
        Per::Connections => {
            "leaks that began while it was watched, per 1,000 connections whose peer closed first \
             meanwhile (those that came into CLOSE_WAIT, and left it however soon, or are in it \
             still)"
        }
        Per::Hour => "leaks that began while it was watched, per hour",
    }
}

/// What a trend means.
#[must_use]
pub const fn trend(trend: Trend) -> &'static str {
    match trend {
        Trend::New => "there were none before",
        Trend::Worse => "more than before, and not by chance",
        Trend::Unchanged => "as before, as far as chance lets one tell",
        Trend::Better => "fewer than before, and not by chance",
        Trend::Fixed => "there are none any more",
        Trend::Unclear => "too little was seen to tell",
    }
}

/// What is said of a state in a report.
#[must_use]
pub const fn state(state: TcpState) -> &'static str {
    match state {
        TcpState::CloseWait => "the peer has closed; it is the program's turn to close",
        TcpState::Close => "the connection is over; the descriptor is still open",
        TcpState::Established => "open in both directions",
        TcpState::FinWait1 | TcpState::FinWait2 => "closed here; it is the peer's turn to close",
        TcpState::LastAck | TcpState::Closing => "closed on both sides; the last answer is missing",
        TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => "being opened",
        TcpState::Listen => "takes connections",
        TcpState::TimeWait => "over; kept for late packets",
        TcpState::BoundInactive => "bound, and not connected",
    }
}
