//! Words and widths of the table.

use unicode_width::UnicodeWidthStr;

use super::fit::{Ways, cut};
use crate::{
    engine::{
        alike::{Common, GroupReport},
        counted::counted,
        parse::EndPattern,
        record::{Age, ClosedBy, Connection, Holder, HolderSource, Record, Role},
        unknown::Reason,
        update::Lost,
        verdict::Verdict,
    },
    prose::{reasons, time::human, words::usual},
    view::text::safe,
};

/// Processes of a row beyond these are counted.
const SHOWN: usize = 3;
/// A command name that is cut has so many columns.
const SHORT: usize = 6;

/// `java shop.jar[4711]`, several separated by commas; for a connection that waits, its listener.
pub fn who(r: &Record) -> Ways {
    let holders: Vec<&Holder> = r.processes().collect();
    if r.holder_source == HolderSource::OutsideFdTables {
        return reason("held outside descriptor tables");
    }
    if holders.is_empty() {
        return reason(r.unknown.get("holders").map_or("nobody", reasons::words));
    }
    let queue = r.listener.as_ref().map(|l| format!(" queue {}/{}", l.queue, l.limit));
    let lead = if r.holder_source == HolderSource::Listener { "listener " } else { "" };
    let all = |name: &dyn Fn(&Holder) -> String| {
        let names: Vec<String> = holders.iter().take(SHOWN).map(|h| name(h)).collect();
        let more = holders.len().saturating_sub(SHOWN);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{lead}{}{more}", names.join(", "))
    };
    let [full, called, short] =
        [&contained as &dyn Fn(&Holder) -> String, &named, &process].map(|name| all(name));
    let first = process(holders[0]);
    let bare = match holders.len() {
        1 => first,
        n => format!("{first}+{}", n - 1),
    };
    let cut = format!("{}[{}]", cut(&safe(&holders[0].comm), SHORT), holders[0].process.pid);
    let waits = |text: &str| format!("{text}{}", queue.as_deref().unwrap_or_default());
    Ways::default()
        .or(waits(&full), 0)
        .or(waits(&called), 3)
        .or(called, 4)
        .or(short, 7)
        .or(format!("{lead}{bare}"), 8)
        .or(bare, 8)
        .or(cut, 10)
}

/// `java[4711]`.
pub fn process(h: &Holder) -> String {
    format!("{}[{}]", safe(&h.comm), h.process.pid)
}

/// `java shop.jar[4711]`.
fn named(h: &Holder) -> String {
    format!("{}[{}]", safe(h.called()), h.process.pid)
}

/// The same with the container, where it is in one.
fn contained(h: &Holder) -> String {
    /// As many digits of a digest as runtimes print.
    const DIGITS: usize = 12;
    match h.cgroups.as_ref().and_then(|c| c.container()) {
        None => named(h),
        Some(c) => format!("{} {}", named(h), safe(c.id.get(..DIGITS).unwrap_or(&c.id))),
    }
}

/// A sentence, or where that does not fit its first clause; never half of one.
pub fn reason(text: &str) -> Ways {
    let clause = text.split([':', ';']).next().unwrap_or(text);
    Ways::default().or(text, 0).or(clause, 4).or("unknown", 15)
}

/// How a stay ended.
pub fn ended(closed_by: Option<&ClosedBy>, unknown: Reason) -> Ways {
    match closed_by {
        Some(c) => {
            let name = format!("{}[{}]", safe(&c.comm), c.pid);
            Ways::default().or(format!("closed by {name}"), 0).or(name, 5)
        }
        None => reason(reasons::words(unknown)),
    }
}

/// Both ends as explain takes them: one word. `dear`: they are what the row is about.
pub fn ends(c: &Connection, dear: bool) -> Ways {
    let (by_cookie, none) = if dear { (12, 16) } else { (6, 9) };
    let cookie = if c.cookie == 0 { "-".to_owned() } else { format!("cookie:{}", c.cookie) };
    Ways::default()
        .or(format!("{},{}", c.local, c.remote), 0)
        .or(format!(":{},{}", c.local.port(), c.remote), 1)
        .or(cookie, by_cookie)
        .or("-", none)
}

/// Descriptor, cookie and what else is known of a socket.
pub fn more(r: &Record) -> Ways {
    let fd = match r.processes().collect::<Vec<_>>()[..] {
        [Holder { fd: Some(fd), .. }] if r.holder_source == HolderSource::FdTable => {
            format!("fd {fd}")
        }
        _ => String::new(),
    };
    let cookie = cookie(&r.connection);
    let joined = |parts: &[&str]| {
        let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
        parts.join(" ")
    };
    Ways::default()
        .or(joined(&[&fd, &cookie, &detail(r)]), 0)
        .or(joined(&[&fd, &cookie]), 1)
        .or(fd, 2)
        .or("", 4)
}

/// `cookie:123`; empty where it is not known.
pub fn cookie(c: &Connection) -> String {
    if c.cookie == 0 { String::new() } else { format!("cookie:{}", c.cookie) }
}

/// Ends of many, as far as they are common, as explain takes them: `10.0.0.1:8080,10.0.3.0/24`.
pub fn common(group: &GroupReport) -> Ways {
    let client = group.oldest.role == Some(Role::Client);
    let here = pattern(&group.local, !client);
    let there = pattern(&group.remote, client);
    let ways = Ways::default().or(format!("{here},{there}"), 0);
    if client {
        return ways.or(format!("*,{there}"), 1).or("-", 12);
    }
    let port = group.local.port.map_or_else(|| "*".to_owned(), |port| format!(":{port}"));
    ways.or(format!("{port},{there}"), 1).or(format!("{port},*"), 4).or("-", 12)
}

/// How many peers they are, and how many sockets have which verdict.
pub fn counts(group: &GroupReport) -> Ways {
    let peers = match group.remote.addresses {
        1 => String::new(),
        n => format!("{n} peers"),
    };
    let verdicts = match &group.verdicts[..] {
        [] | [_] => String::new(),
        list => {
            let list =
                list.iter().map(|(v, n)| format!("{} {n}", v.map_or("unknown", Verdict::name)));
            list.collect::<Vec<_>>().join(", ")
        }
    };
    let normal = group.oldest.normal.as_ref().map(usual).unwrap_or_default();
    let all = [&*peers, &*verdicts, &*normal].into_iter().filter(|part| !part.is_empty());
    let all = all.collect::<Vec<_>>().join("; ");
    Ways::default().or(all, 0).or(peers, 1).or("", 3)
}

/// As `--local` and `--remote` take it.
fn pattern(ends: &Common, with_port: bool) -> String {
    EndPattern { net: ends.net, port: ends.port.filter(|_| with_port) }.to_string()
}

fn detail(r: &Record) -> String {
    let mut parts = Vec::new();
    if let Some(role) = r.role {
        parts.push(role.name().to_owned());
    }
    if let Some(n) = r.evidence.recv_q {
        parts.push(format!("recv-q {n}"));
    }
    if let Some(n) = r.evidence.send_q.filter(|n| *n > 0) {
        parts.push(format!("send-q {n}"));
    }
    if let Some(n) = r.evidence.retransmits.filter(|n| *n > 0) {
        parts.push(format!("sent again {}", counted(n.into(), "time", "times")));
    }
    if let Some(n) = r.evidence.probes.filter(|n| *n > 0) {
        parts.push(format!("unanswered probes {n}"));
    }
    parts.extend(r.also.iter().map(|v| v.name().to_owned()));
    parts.extend(r.normal.as_ref().map(usual));
    parts.join(" ")
}

pub fn lost_text(lost: &Lost) -> String {
    let kinds = lost.named().into_iter().filter(|(_, n)| *n > 0);
    kinds.map(|(name, n)| format!("{name} {n}")).collect::<Vec<_>>().join(", ")
}

/// `5.0s`, or for an interval `>5.0s` (what is certain).
pub fn age_text(age: &Age) -> String {
    if age.is_exact() { human(age.min_ns) } else { format!(">{}", human(age.min_ns)) }
}

/// Pads to `width` columns, with at least one space.
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width()).max(1)))
}
