//! Evidence in, verdict out. A verdict never claims more than its evidence shows.

mod states;

use tcptrace_common::state::TcpState;

use crate::engine::{
    record::{HolderSource, Record},
    unknown::Reason,
    verdict::Verdict,
};

/// Judges a record: the verdict that explains most first, then what holds besides; or why there is
/// none. `all_seen`: every process of the host was asked for its descriptors.
///
/// # Errors
/// The reason why nothing can be said.
pub fn judge(record: &Record, all_seen: bool) -> Result<(Verdict, Vec<Verdict>), Reason> {
    match record.state {
        TcpState::Close if record.holder_source == HolderSource::FdTable => {
            return match record.connection.remote.port() {
                0 => Err(Reason::NeverConnected),
                // connect() failed; it may be called again.
                _ if record.unknown.get("last_ack_recv_ms") == Some(Reason::NeverConnected) => {
                    Err(Reason::NeverConnected)
                }
                _ => Ok((Verdict::GhostFd, Vec::new())),
            };
        }
        TcpState::CloseWait => {}
        _ => return states::judge(record),
    }
    if record.evidence.accepted == Some(false) {
        return match record.listener {
            Some(_) => Ok((Verdict::NeverAccepted, Vec::new())),
            None if all_seen => Ok((Verdict::Orphan, Vec::new())),
            None => Err(Reason::NotAllSeen),
        };
    }
    let mut verdicts = Vec::new();
    if in_use(record) {
        verdicts.push(Verdict::HalfCloseInUse);
    }
    let mut processes: Vec<u32> = record.holders.iter().map(|h| h.process.pid).collect();
    processes.sort_unstable();
    processes.dedup();
    if processes.len() > 1 {
        verdicts.push(Verdict::InheritedFd);
    }
    match record.evidence.recv_q {
        Some(0) => verdicts.push(Verdict::EofNotClosed),
        Some(1) => verdicts.push(Verdict::UnreadFin),
        Some(_) => verdicts.push(Verdict::UnreadData),
        None => {}
    }
    if verdicts.is_empty() {
        return Err(Reason::QueuesUnread);
    }
    let primary = verdicts.remove(0);
    Ok((primary, verdicts))
}

/// Who sent nothing for so long does not use its half of the connection any more.
pub const IN_USE_NS: u64 = 30_000_000_000;
/// The kernel's stamps are this coarse, and an answer takes a moment.
const SLACK_NS: u64 = 1_000_000_000;

/// Data wait for the peer to take them (the send queue may be full and nothing move for a while),
/// or were sent not long ago and after the FIN. Of a socket that was there before tracing, the FIN
/// is only known to lie in an interval: what may have been sent after it gets the benefit of the
/// doubt, for as long.
fn in_use(record: &Record) -> bool {
    let evidence = &record.evidence;
    if evidence.send_q.unwrap_or(0) > 0 {
        // Answers to probes come from a peer that takes nothing, too: where scans of different
        // times are at hand, only what it has taken counts.
        let silent_ns = evidence.stalled_ns.or(evidence.acked_ago_ns);
        return silent_ns.is_none_or(|ns| ns < IN_USE_NS);
    }
    let Some(sent_ago_ns) = record.evidence.sent_ago_ns else { return false };
    let after_the_fin = match record.evidence.bytes_sent_since_fin {
        Some(bytes) => bytes > 0,
        // Both as of the same moment: the record may have been completed much later. No data comes
        // after a FIN.
        None => record
            .evidence
            .received_ago_ns
            .is_none_or(|ago| ago > sent_ago_ns.saturating_add(SLACK_NS)),
    };
    after_the_fin && sent_ago_ns < IN_USE_NS
}

#[cfg(test)]
mod tests {
    use TcpState::{Closing, FinWait1, FinWait2, LastAck};
    use proptest::prelude::*;

    use super::*;
    use crate::engine::{
        record::{
            Connection, Evidence, Listener,
            tests::{holder, leak},
        },
        timer::Timer,
    };

    /// Just below and at one of the lengths that verdicts go by.
    fn lengths() -> impl Strategy<Value = Option<u64>> {
        let lengths = [IN_USE_NS, states::SHUT_NS, states::IDLE_NS];
        let about = move |(n, below): (usize, bool)| lengths[n] - u64::from(below);
        prop_oneof![Just(None), (0usize..3, any::<bool>()).prop_map(about).prop_map(Some)]
    }

    prop_compose! {
        fn timers()(
            timer in proptest::option::of(proptest::sample::select(vec![
                Timer::None, Timer::Retransmit, Timer::Keepalive, Timer::Persist, Timer::TimeWait,
            ])),
            retransmits in proptest::option::of(0u8..5),
            probes in proptest::option::of(0u8..4),
            snd_wnd in proptest::option::of(0u32..2),
            keepalive: Option<bool>,
            (received, acked, stalled) in (lengths(), lengths(), lengths()),
        ) -> Evidence {
            Evidence {
                timer,
                retransmits,
                probes,
                snd_wnd,
                keepalive,
                received_ago_ns: received,
                acked_ago_ns: acked,
                stalled_ns: stalled,
                ..Evidence::default()
            }
        }
    }

    prop_compose! {
        fn queues()(
            recv_q in prop_oneof![Just(None), (0u32..4).prop_map(Some)],
            send_q in prop_oneof![Just(None), (0u32..2).prop_map(Some)],
            bytes in prop_oneof![Just(None), (0u64..2).prop_map(Some)],
            sent in prop_oneof![
                Just(None), (0u64..60).prop_map(|s| Some(s * 1_000_000_000)), lengths(),
            ],
            timers in timers(),
            accepted in prop_oneof![Just(None), any::<bool>().prop_map(Some)],
        ) -> Evidence {
            Evidence {
                recv_q,
                send_q,
                bytes_sent_since_fin: bytes,
                sent_ago_ns: sent,
                accepted,
                ..timers
            }
        }
    }

    prop_compose! {
        pub(super) fn records()(
            evidence in queues(),
            state in proptest::sample::select(&TcpState::ALL[..]),
            pids in proptest::collection::vec(1u32..4, 0..4),
            source in proptest::sample::select(vec![
                HolderSource::FdTable,
                HolderSource::Listener,
                HolderSource::None,
                HolderSource::OutsideFdTables,
            ]),
            listens: bool,
            (queue, limit) in (0u32..3, 0u32..3),
            handshakes in proptest::option::of(0u32..4),
            rport in 0u16..2,
            earliest_ns in prop_oneof![Just(0u64), 1u64..50_000_000_000],
        ) -> Record {
            let end = |port| ([10, 0, 0, 1], port).into();
            Record {
                connection: Connection {
                    cookie: 7,
                    netns: 1,
                    local: end(80),
                    remote: end(rport),
                    mptcp: false,
                },
                role: None,
                state,
                earliest_ns,
                latest_ns: 50_000_000_000,
                seen_ns: 100_000_000_000,
                verdict: None,
                evidence,
                holders: pids.into_iter().map(|pid| holder(pid, 4)).collect(),
                holder_source: source,
                listener: listens.then(|| Listener {
                    local: end(80),
                    queue,
                    limit,
                    drops: 0,
                    handshakes,
                    cookies: None,
                    holders: vec![],
                }),
                ..leak()
            }
        }
    }

    /// What must be so for a verdict to be given, first or besides.
    fn is_shown(verdict: Verdict, r: &Record, all_seen: bool) -> bool {
        let e = &r.evidence;
        let close_wait = r.state == TcpState::CloseWait;
        let reached = close_wait && e.accepted != Some(false);
        match verdict {
            Verdict::NeverAccepted => {
                close_wait && e.accepted == Some(false) && r.listener.is_some()
            }
            Verdict::Orphan if !close_wait => {
                let closed = [FinWait1, FinWait2, Closing, LastAck].contains(&r.state);
                closed && e.accepted == Some(false)
            }
            Verdict::Orphan => e.accepted == Some(false) && r.listener.is_none() && all_seen,
            Verdict::UnreadData => reached && e.recv_q > Some(1),
            Verdict::UnreadFin => reached && e.recv_q == Some(1),
            Verdict::EofNotClosed => reached && e.recv_q == Some(0),
            Verdict::InheritedFd => {
                reached && r.holders.iter().any(|h| h.process != r.holders[0].process)
            }
            Verdict::HalfCloseInUse => {
                let sent = e.sent_ago_ns.is_some_and(|ago| ago < IN_USE_NS)
                    && e.bytes_sent_since_fin != Some(0);
                let taken = e.stalled_ns.or(e.acked_ago_ns).is_none_or(|ns| ns < IN_USE_NS);
                reached && (e.send_q > Some(0) && taken || sent)
            }
            Verdict::GhostFd => {
                r.state == TcpState::Close
                    && r.holder_source == HolderSource::FdTable
                    && r.connection.remote.port() != 0
            }
            _ => states::tests::is_shown(verdict, r),
        }
    }

    proptest! {
        #[test]
        fn no_verdict_claims_more_than_its_evidence_shows(r in records(), all_seen: bool) {
            if let Ok((primary, also)) = judge(&r, all_seen) {
                for verdict in also.iter().chain([&primary]) {
                    prop_assert!(is_shown(*verdict, &r, all_seen), "{verdict:?} of {r:?}");
                }
                prop_assert!(!also.contains(&primary));
            }
        }

        #[test]
        fn whose_data_still_flow_is_no_leak(mut r in records(), sent in 0..IN_USE_NS) {
            (r.state, r.evidence.accepted) = (TcpState::CloseWait, Some(true));
            (r.evidence.bytes_sent_since_fin, r.evidence.sent_ago_ns) = (Some(1), Some(sent));
            r.evidence.send_q = Some(0);
            let (primary, _) = judge(&r, true).expect("a verdict");
            r.verdict = Some(primary);
            prop_assert_eq!(primary, Verdict::HalfCloseInUse);
            prop_assert!(!r.is_leak() && !r.is_shown());
        }

        #[test]
        fn every_close_wait_that_shows_its_queue_has_a_verdict(mut r in records()) {
            r.state = TcpState::CloseWait;
            r.evidence.recv_q.get_or_insert(0);
            prop_assert!(judge(&r, true).is_ok());
        }
    }
}
