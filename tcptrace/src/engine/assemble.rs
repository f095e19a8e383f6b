//! From what scans list to a record: who holds a socket, in whose queue it waits, its role.

use std::rc::Rc;

use tcptrace_common::{
    event::{
        ADOPTED, HAS_SOCKET, HAS_TCP, KEEPALIVE, NO_LIMIT, NO_TIMER, Socket, TIMER_NONE,
        TIMER_PROBE, TIMER_TIME_WAIT, UNPLACED,
    },
    state::TcpState,
};

use crate::engine::{
    decode::Event,
    holdings::Holdings,
    judge::judge,
    normal::Normal,
    opener,
    record::{BootNs, Connection, Evidence, HolderSource, Record, Role},
    timer::Timer,
    unknown::{Reason, Unknown},
    verdict::Verdict,
};

/// A record of a socket that the scan at `now` listed; it takes the socket's holders out of the
/// holdings, but for a listener's, which its connections ask for too. `stalled_ns`: for how long
/// the peer has taken nothing of what was sent, where earlier scans tell.
#[must_use]
pub fn record(
    socket: &Socket,
    holdings: &mut Holdings,
    cgroup: Option<Rc<str>>,
    stalled_ns: Option<u64>,
    now: BootNs,
) -> Record {
    let connection = Connection::new(socket.cookie, &socket.tuple, socket.protocol);
    let has = |flag| socket.flags & flag != 0;
    let state = TcpState::from_number(socket.state).unwrap_or(TcpState::Close);
    let mut unknown = Unknown::default();
    let untold = untold(socket, state);
    if !has(HAS_TCP) {
        for field in ["recv_q", "send_q", "bytes_sent_since_fin"] {
            unknown.insert(field, untold);
        }
    }
    // A ghost is what became of a CLOSE_WAIT, or of another state.
    let after_fin = matches!(state, TcpState::CloseWait | TcpState::Close);
    if !after_fin {
        unknown.insert("bytes_sent_since_fin", Reason::NotAfterFin);
    } else if has(HAS_TCP) && has(ADOPTED) {
        unknown.insert("bytes_sent_since_fin", Reason::FinBeforeTracing);
    }
    if socket.earliest_ns == 0 {
        unknown.insert("age_ms.max", Reason::ThereBefore);
    }
    let came_in_by = holdings.came_in_by(&connection);
    let held = match state {
        TcpState::Listen => holdings.by_cookie.get(&socket.cookie).cloned(),
        _ => holdings.by_cookie.remove(&socket.cookie),
    };
    let mut held = held.unwrap_or_default();
    opener::mark(&mut held, socket.latest_ns);
    // It may have been accepted between being listed and the scan of the descriptors.
    let accepted = has(HAS_SOCKET) || !held.is_empty();
    let waiting = !accepted && waits(state);
    let listener = waiting.then(|| holdings.listener(&connection)).flatten();
    let (holders, holder_source) = match &listener {
        _ if !held.is_empty() => (held, HolderSource::FdTable),
        Some(listener) => (listener.holders.clone(), HolderSource::Listener),
        // The slot knows how it was when the state was entered.
        _ if has(UNPLACED) && may_be_orphaned(state) => {
            unknown.insert("holders", Reason::NoDescriptor);
            (Vec::new(), HolderSource::None)
        }
        _ if accepted && holdings.all_seen => {
            unknown.insert("holders", Reason::HeldOutside);
            (Vec::new(), HolderSource::OutsideFdTables)
        }
        _ => {
            unknown.insert(
                "holders",
                if holdings.all_seen { Reason::NotHeld } else { Reason::NotAllSeen },
            );
            (Vec::new(), HolderSource::None)
        }
    };
    // A child is a clone of its listener and keeps its limit; who connected out has none, unless
    // it was told to listen with a limit of 0.
    let role = match socket.max_backlog {
        1.. => Some(Role::Server),
        0 if waiting || came_in_by.is_some() => Some(Role::Server),
        0 if has(UNPLACED) => {
            unknown.insert("role", Reason::NoDescriptor);
            None
        }
        0 if has(NO_LIMIT) => {
            unknown.insert("role", Reason::WhoConnected);
            None
        }
        0 => Some(Role::Client),
    };
    let mut record = Record {
        connection,
        role,
        state,
        earliest_ns: socket.earliest_ns,
        latest_ns: socket.latest_ns,
        seen_ns: now,
        verdict: None,
        also: Vec::new(),
        evidence: Evidence {
            recv_q: has(HAS_TCP).then_some(socket.recv_q),
            send_q: has(HAS_TCP).then_some(socket.send_q),
            accepted: (!has(UNPLACED) || !may_be_orphaned(state)).then_some(accepted),
            bytes_sent_since_fin: (has(HAS_TCP) && !has(ADOPTED) && after_fin)
                .then_some(socket.bytes_sent),
            inode: (socket.inode != 0).then_some(socket.inode.into()),
            keepalive: (!has(NO_TIMER)).then_some(has(KEEPALIVE)),
            stalled_ns,
            ..Evidence::default()
        },
        holders,
        holder_source,
        former_holders: Vec::new(),
        came_in_by,
        listener,
        cgroup,
        origins: None,
        normal: None,
        unknown,
    };
    if state == TcpState::Listen {
        record.listener = holdings.itself(socket, &record.holders);
        if record.listener.is_none() {
            record.unknown.insert("listener", untold);
        }
    }
    tell_timers(&mut record, socket, untold);
    if let Some(listener) = &record.listener {
        for (field, known) in [
            ("listener.handshakes", listener.handshakes.is_some()),
            ("listener.syncookies_sent", listener.cookies.is_some()),
        ] {
            if !known {
                record.unknown.insert(field, Reason::NotCounted);
            }
        }
    }
    if record.evidence.inode.is_none() {
        record
            .unknown
            .insert("inode", if has(UNPLACED) { Reason::NoDescriptor } else { Reason::NoFile });
    }
    if record.evidence.keepalive.is_none() {
        record.unknown.insert(
            "keepalive",
            if has(UNPLACED) { Reason::NoDescriptor } else { Reason::OtherTimer },
        );
    }
    note_opener(&mut record);
    match judge(&record, holdings.all_seen) {
        Ok((verdict, also)) => (record.verdict, record.also) = (Some(verdict), also),
        Err(why) => record.unknown.insert("verdict", why),
    }
    record
}

/// Why a socket has no queues, timers or window.
fn untold(socket: &Socket, state: TcpState) -> Reason {
    let full = socket.pending != TIMER_TIME_WAIT + 1
        && !matches!(state, TcpState::TimeWait | TcpState::NewSynRecv);
    match state {
        _ if socket.flags & UNPLACED != 0 => Reason::NoDescriptor,
        TcpState::Listen => Reason::Listens,
        TcpState::Close if socket.flags & HAS_TCP != 0 => Reason::Over,
        _ if !full => Reason::NoFullSocket,
        _ if socket.flags & HAS_TCP == 0 => Reason::Subflows,
        _ => Reason::TimersUnread,
    }
}

/// What the kernel's timers show, and its stamps.
fn tell_timers(record: &mut Record, socket: &Socket, untold: Reason) {
    let Record { evidence: e, unknown, state, .. } = record;
    let unanswered = socket.flags & HAS_TCP != 0 && socket.acked_ago_ns == u64::MAX;
    let never = *state == TcpState::Close && unanswered;
    let stamps = if never || matches!(state, TcpState::SynSent | TcpState::Listen) {
        // What is there is not a time: the first is made when the handshake is over.
        let why = match state {
            TcpState::Listen => Reason::Listens,
            TcpState::SynSent => Reason::NoHandshake,
            _ => Reason::NeverConnected,
        };
        for field in ["last_data_sent_ms", "last_data_recv_ms", "last_ack_recv_ms"] {
            unknown.insert(field, why);
        }
        [None; 3]
    } else {
        [socket.sent_ago_ns, socket.received_ago_ns, socket.acked_ago_ns].map(known)
    };
    [e.sent_ago_ns, e.received_ago_ns, e.acked_ago_ns] = stamps;
    // What a socket that is over has of these is from before.
    let has_timers = !matches!(state, TcpState::Listen | TcpState::Close);
    let Some(pending) = socket.pending.checked_sub(1).filter(|_| has_timers) else {
        for field in ["timer", "retransmits", "probes", "snd_wnd"] {
            unknown.insert(field, untold);
        }
        return;
    };
    e.timer = Some(match pending {
        TIMER_NONE if e.keepalive == Some(true) => Timer::Keepalive,
        TIMER_NONE => Timer::None,
        TIMER_PROBE => Timer::Persist,
        TIMER_TIME_WAIT => Timer::TimeWait,
        // The kernel has several for what was sent: one that has waited too long is among them.
        _ => Timer::Retransmit,
    });
    let over = pending == TIMER_TIME_WAIT;
    e.retransmits = (!over).then_some(socket.retransmits);
    e.probes = (!over).then_some(socket.probes);
    e.snd_wnd = (!over && socket.snd_wnd != u32::MAX).then_some(socket.snd_wnd);
    for field in ["retransmits", "probes"].into_iter().filter(|_| over) {
        unknown.insert(field, Reason::NoFullSocket);
    }
    if e.snd_wnd.is_none() {
        let full = !over && !matches!(state, TcpState::SynRecv | TcpState::NewSynRecv);
        unknown.insert("snd_wnd", if full { Reason::WindowUnread } else { Reason::NoFullSocket });
    }
}

/// Whether a connection without a `struct socket` waits to be accepted, and is not being torn down.
fn waits(state: TcpState) -> bool {
    matches!(
        state,
        TcpState::SynRecv | TcpState::NewSynRecv | TcpState::Established | TcpState::CloseWait
    )
}

/// States in which close() of the last descriptor changes nothing but that nobody holds the socket.
fn may_be_orphaned(state: TcpState) -> bool {
    matches!(state, TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck)
}

/// The kernel programs' u64::MAX stands for "never, or nobody knows".
fn known(ago_ns: u64) -> Option<u64> {
    (ago_ns != u64::MAX).then_some(ago_ns)
}

/// Says why an opener is unknown, where one is.
pub fn note_opener(record: &mut Record) {
    let unknown = record.holder_source == HolderSource::FdTable
        && record.holders.iter().any(|h| h.opener.is_none());
    if !unknown {
        record.unknown.remove("opener");
        return;
    }
    let alone = record.holders.iter().all(|h| h.process == record.holders[0].process);
    let why = if alone { Reason::OnlyHolder } else { Reason::OpenerUnwatched };
    record.unknown.insert("opener", why);
}

/// Says what is normal where it sits, or why that is unknown; `None`: nobody asked.
pub fn note_normal(record: &mut Record, normal: Option<Result<Normal, Reason>>) {
    record.normal = normal.and_then(Result::ok);
    if let Some(Err(why)) = normal {
        record.unknown.insert("normal", why);
    }
}

/// A record of a stay that ended before a scan found it: only its event speaks. `ghosts_only`:
/// stays in CLOSE are timed only where there was a connection before; else it may have been a
/// connect() that failed, and the event doesn't say.
#[must_use]
pub fn ended(event: &Event, all_seen: bool, ghosts_only: bool) -> Record {
    let mut unknown: Unknown =
        ["role", "inode", "keepalive", "holders", "timer", "retransmits", "probes", "snd_wnd"]
            .map(|field| (field, Reason::Gone))
            .into_iter()
            .collect();
    match &event.queues {
        None => {
            for field in ["recv_q", "send_q", "bytes_sent_since_fin"] {
                unknown.insert(field, Reason::Gone);
            }
        }
        Some(_) if event.adopted => {
            unknown.insert("bytes_sent_since_fin", Reason::FinBeforeTracing)
        }
        Some(_) => {}
    }
    let after_fin = matches!(event.change.old, TcpState::CloseWait | TcpState::Close);
    if !after_fin {
        unknown.insert("bytes_sent_since_fin", Reason::NotAfterFin);
    }
    let sent = event.queues.filter(|_| after_fin && !event.adopted).map(|q| q.bytes_sent);
    let mut record = Record {
        connection: event.change.connection,
        role: None,
        state: event.change.old,
        earliest_ns: event.since.earliest_ns,
        latest_ns: event.since.latest_ns,
        seen_ns: event.time,
        verdict: None,
        also: Vec::new(),
        evidence: Evidence {
            accepted: Some(event.has_socket),
            recv_q: event.queues.map(|q| q.recv_q),
            send_q: event.queues.map(|q| q.send_q),
            bytes_sent_since_fin: sent,
            sent_ago_ns: event.queues.and_then(|q| q.sent_ago_ns),
            ..Evidence::default()
        },
        holders: Vec::new(),
        holder_source: HolderSource::None,
        former_holders: Vec::new(),
        listener: None,
        came_in_by: None,
        cgroup: None,
        origins: None,
        normal: None,
        unknown,
    };
    // Without a struct socket it may have waited in a queue: whose, nobody can say any more.
    let verdict = match event.change.old {
        // Only a socket with a descriptor stays in CLOSE.
        TcpState::Close if event.destroyed && record.connection.remote.port() != 0 => {
            if ghosts_only { Ok((Verdict::GhostFd, Vec::new())) } else { Err(Reason::Gone) }
        }
        _ if event.has_socket => judge(&record, all_seen),
        _ => Err(Reason::Gone),
    };
    match verdict {
        Ok((verdict, also)) => (record.verdict, record.also) = (Some(verdict), also),
        Err(why) => record.unknown.insert("verdict", why),
    }
    record
}

#[cfg(test)]
mod tests;
