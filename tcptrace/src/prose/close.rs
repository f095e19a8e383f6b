//! Ending connections from outside, in words.

use tcptrace_common::state::TcpState;

use super::words::name;
use crate::{
    engine::{
        close::{
            Choice, CloseResult, CloseWay, Closed, Closes, Operator, Spared, StillHeld, WayReason,
        },
        counted::counted,
        record::{Holder, HolderSource, Record},
    },
    prose::time::human,
};

/// Processes of a sentence beyond these are counted.
const SHOWN: usize = 4;

/// What is to be done with a connection, and why so.
#[must_use]
pub fn choice(choice: &Choice, r: &Record) -> String {
    match choice {
        Ok((how, basis)) => way(*how, *basis, r),
        Err(refusal) => format!("left alone: {}", refused(*refusal, r)),
    }
}

fn way(how: CloseWay, basis: WayReason, r: &Record) -> String {
    let does = match how {
        CloseWay::Shutdown => "a FIN is sent, and what was received stays readable",
        CloseWay::Destroy => {
            "a reset is sent, and what the peer has not acknowledged is thrown away"
        }
    };
    let queue = if r.holder_source == HolderSource::Listener {
        "; its place in the accept queue stays taken until accept() returns it"
    } else {
        ""
    };
    let why = match basis {
        WayReason::Asked => "asked for".to_owned(),
        WayReason::Held => descriptors(r),
        WayReason::NeverAccepted => {
            "nobody has accepted it, so that no descriptor leads to it".to_owned()
        }
        WayReason::HeldOutside => "it is held outside descriptor tables".to_owned(),
        WayReason::NotHeld => "no process has a descriptor for it".to_owned(),
        WayReason::FinSent => {
            format!("it is in {}, where shutdown() does nothing any more", r.state.name())
        }
    };
    format!("{}: {why}: {does}{queue}", how.name())
}

/// `shop[4711] has descriptor 7`.
fn descriptors(r: &Record) -> String {
    let has = |h: &Holder| Some(format!("{} has descriptor {}", name(h), h.fd?));
    listed(r.holders.iter().filter_map(has).collect())
}

/// With commas, those beyond the first few counted.
fn listed(all: Vec<String>) -> String {
    let more = match all.len().saturating_sub(SHOWN) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    format!("{}{more}", all.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// Why a connection is left alone.
#[must_use]
pub fn refused(refusal: Spared, r: &Record) -> String {
    match refusal {
        Spared::Listener => "a listener is never closed from outside".to_owned(),
        Spared::Over => format!(
            "the connection is over, and only its process can close a descriptor ({})",
            descriptors(r)
        ),
        Spared::Own => "it is tcptrace's own".to_owned(),
        Spared::Session => {
            "a process that started tcptrace talks over it: it may be your own session".to_owned()
        }
        Spared::Init => "the host's first process has it; --force closes it all the same".to_owned(),
        Spared::Established => {
            "it is open on both sides, and no leak; --force closes it all the same".to_owned()
        }
        Spared::HalfCloseInUse => {
            "its program still sends, and its peer takes it: no leak; --force closes it all the same"
                .to_owned()
        }
        Spared::NoLeak => format!(
            "no program's leak: in {}, the peer or the kernel acts next; --force closes it all the \
             same",
            r.state.name()
        ),
        Spared::NoCookie => "the kernel didn't say its cookie, by which it could be told from \
                              another"
            .to_owned(),
        Spared::NoDescriptor => {
            "no process has a descriptor for it, which shutdown takes; --how destroy takes none"
                .to_owned()
        }
        Spared::HoldersHidden => "who holds it can't be seen from here (CAP_SYS_PTRACE); --how \
                                   destroy asks for no holder"
            .to_owned(),
        Spared::FinSent => format!(
            "it is in {}, where shutdown() does nothing any more; --how destroy ends it",
            r.state.name()
        ),
        Spared::Mptcp => {
            "the kernel can't destroy MPTCP's own sockets; --how shutdown takes a descriptor"
                .to_owned()
        }
        Spared::BeyondMax => "more were selected than --max lets through, the oldest first".to_owned(),
    }
}

/// What came of it: a sentence, and one for what is left.
#[must_use]
pub fn outcome(closed: &Closed) -> Vec<String> {
    let c = &closed.attempt;
    let how = c.how.name();
    let error = c.error.as_deref().unwrap_or_default();
    let first = match c.outcome {
        CloseResult::Closed => format!("{how}: closed; the kernel has no such connection any more"),
        CloseResult::Closing => match c.state_after() {
            Some(state) => {
                format!("{how}: closing; it is in {} now: {}", state.name(), ends(state))
            }
            None => format!("{how}: closing"),
        },
        CloseResult::GoneBefore => "it had ended before, and nothing was done".to_owned(),
        CloseResult::Changed => format!("left alone: {error}"),
        CloseResult::Failed => format!("{how}: failed: {error}"),
        CloseResult::NotAllowed => format!("{how}: not allowed: {error}"),
    };
    let mut said = vec![first];
    if matches!(c.outcome, CloseResult::Closed | CloseResult::Closing) {
        said.extend(left(closed));
    }
    said
}

/// What ends it now.
fn ends(state: TcpState) -> String {
    const DESTROY: &str =
        "tcptrace close --state last_ack --min-age 0 --force --yes ends it at once";
    match state {
        TcpState::LastAck => format!(
            "the FIN was sent, and the peer hasn't acknowledged it; its answer ends it, or the kernel \
             after tcp_retries2 attempts (15 minutes, usually); {DESTROY}"
        ),
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::TimeWait => {
            "the FIN was sent, and it is the peer's turn to end it".to_owned()
        }
        _ => "the kernel hasn't ended it yet".to_owned(),
    }
}

/// What is still there of a connection that is over.
fn left(c: &Closed) -> Option<String> {
    if c.record.holder_source == HolderSource::Listener {
        let who = c.record.holders.iter().map(name).collect();
        return Some(format!(
            "its place in the accept queue of {} is still taken: accept() frees it, and so does \
             closing the listener",
            listed(who)
        ));
    }
    match c.attempt.still_held.as_deref() {
        None => Some("whether its descriptors are still open can't be seen from here".to_owned()),
        Some([]) => None,
        Some([one]) => Some(format!(
            "descriptor {} is still open in {}[{}]: only that process frees it, by close() or by its \
             end",
            one.fd, one.comm, one.pid
        )),
        Some(held) => {
            let each = |h: &StillHeld| format!("{} in {}[{}]", h.fd, h.comm, h.pid);
            Some(format!(
                "its descriptors are still open ({}): only those processes free them, by close() or \
                 by their end",
                listed(held.iter().map(each).collect())
            ))
        }
    }
}

/// What the rights lack, by what was to be done.
#[must_use]
pub const fn missing_right(how: CloseWay) -> &'static str {
    match how {
        CloseWay::Shutdown => {
            "copying a descriptor of another user's process takes CAP_SYS_PTRACE; run as root"
        }
        CloseWay::Destroy => {
            "destroying a connection takes CAP_NET_ADMIN over its network namespace; run as root"
        }
    }
}

/// Of a kernel that can't destroy connections.
pub const NO_DESTROY: &str = "this kernel was built without CONFIG_INET_DIAG_DESTROY, so that \
                              connections can only be ended through a descriptor (--how shutdown)";

/// All of it, in a few lines.
#[must_use]
pub fn summary(c: &Closes) -> Vec<String> {
    let mut lines = Vec::new();
    let selected = counted(c.selected, "socket selected", "sockets selected");
    if c.dry_run {
        let would = format!("{} would be closed", c.planned);
        lines.push(match c.planned {
            0 => format!("{selected}, none would be closed"),
            _ => format!("{selected}, {would}; nothing was done, --yes does it"),
        });
    } else {
        let said = CloseResult::ALL.map(|outcome| (outcome, c.of(outcome)));
        let said: Vec<String> = said
            .iter()
            .filter(|(_, n)| *n > 0)
            .map(|(outcome, n)| format!("{} {n}", outcome.name()))
            .collect();
        let what = if said.is_empty() { "none closed".to_owned() } else { said.join(", ") };
        lines.push(format!("{selected}: {what}"));
    }
    if !c.refused.is_empty() {
        let all: u64 = c.refused.iter().map(|(_, n)| n).sum();
        let why: Vec<String> =
            c.refused.iter().map(|(why, n)| format!("{} {n}", why.name())).collect();
        lines.push(format!("left alone {all}: {}", why.join(", ")));
    }
    if c.too_young > 0 {
        lines.push(format!("younger than --min-age, and not selected: {}", c.too_young));
    }
    if c.age_unknown > 0 {
        lines.push(format!(
            "not certainly as old as --min-age, and not selected: {}; --min-age 0 takes them",
            c.age_unknown
        ));
    }
    if c.not_begun > 0 {
        lines.push(format!("ended early: {} not begun", counted(c.not_begun, "was", "were")));
    }
    if c.still_held > 0 {
        lines.push(format!(
            "{} still open: closing a connection closes no descriptor, only its process does",
            counted(c.still_held, "descriptor is", "descriptors are")
        ));
    }
    lines
}

/// What a watch closed; `None`: nothing.
#[must_use]
pub fn beside(c: &Closes) -> Option<String> {
    let said: Vec<String> =
        c.outcomes.iter().map(|(outcome, n)| format!("{} {n}", outcome.name())).collect();
    let held = match c.still_held {
        0 => String::new(),
        n => format!("; {} still open then", counted(n, "descriptor was", "descriptors were")),
    };
    (!said.is_empty()).then(|| format!("--close-after: {}{held}", said.join(", ")))
}

/// A line for the journal.
#[must_use]
pub fn audit(c: &Closed, age_ns: u64) -> String {
    let (r, by) = (&c.record, &c.attempt.by);
    let connection = &r.connection;
    let verdict = r.verdict.map_or("no verdict", |verdict| verdict.name());
    let said = outcome(c).join("; ");
    format!(
        "{} {},{} (cookie:{}, netns {}, {}, {verdict}, for {} at least): {said} (by {})",
        match c.attempt.outcome {
            CloseResult::Closed => "closed",
            CloseResult::Closing => "closing",
            _ => "did not close",
        },
        connection.local,
        connection.remote,
        connection.cookie,
        connection.netns,
        r.state.name(),
        human(age_ns),
        who(by)
    )
}

/// `uid 1000`, and who logged in.
fn who(by: &Operator) -> String {
    match by.login_uid {
        Some(login) if login != by.uid => format!("uid {}, logged in as {login}", by.uid),
        _ => format!("uid {}", by.uid),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::engine::{
        close::CloseAttempt,
        record::tests::{holder, leak},
    };

    fn closed(outcome: CloseResult, state_after: Option<TcpState>, held: &[(u32, u32)]) -> Closed {
        let still = |(pid, fd): &(u32, u32)| StillHeld { pid: *pid, fd: *fd, comm: "shop".into() };
        Closed {
            record: Rc::new(Record { holders: vec![holder(7, 4)], ..leak() }),
            attempt: CloseAttempt {
                cookie: 1,
                how: CloseWay::Shutdown,
                by: Operator { pid: 1, uid: 0, login_uid: Some(1000) },
                outcome,
                state_after: state_after.map(|state| state as u8),
                still_held: Some(held.iter().map(still).collect()),
                error: None,
            },
        }
    }

    #[test]
    fn the_descriptor_is_not_the_connection() {
        let said =
            outcome(&closed(CloseResult::Closed, Some(TcpState::Close), &[(7, 4)])).join("; ");
        assert!(said.starts_with("shutdown: closed"), "{said}");
        assert!(said.contains("descriptor 4 is still open in shop[7]"), "{said}");
        let said = outcome(&closed(CloseResult::Closed, None, &[(7, 4), (9, 4)])).join("; ");
        assert!(said.contains("(4 in shop[7], 4 in shop[9])"), "{said}");
        assert_eq!(outcome(&closed(CloseResult::Closed, None, &[])).len(), 1);
    }

    #[test]
    fn each_refusal_has_words_of_its_own() {
        let record = Record { holders: vec![holder(7, 4)], ..leak() };
        let all: std::collections::HashSet<String> =
            Spared::ALL.into_iter().map(|why| refused(why, &record)).collect();
        assert_eq!(all.len(), Spared::ALL.len());
    }

    #[test]
    fn who_did_it_is_in_the_journal() {
        let said = audit(&closed(CloseResult::Closed, None, &[]), 5_000_000_000);
        assert!(said.starts_with("closed [::]:0,[::]:0 (cookie:1, netns 0, CLOSE_WAIT"), "{said}");
        assert!(said.ends_with("(by uid 0, logged in as 1000)"), "{said}");
    }
}
