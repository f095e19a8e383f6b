use proptest::prelude::*;

use super::*;
use crate::engine::record::tests::{holder, leak};

fn held(pid: u32) -> Record {
    Record { holders: vec![holder(pid, 7)], ..leak() }
}

fn unheld(source: HolderSource) -> Record {
    Record { holder_source: source, ..leak() }
}

#[test]
fn the_way_is_by_who_has_it() {
    let rules = Rules { own: 1000, ..Rules::default() };
    for (record, choice) in [
        (held(4711), Ok((CloseWay::Shutdown, WayReason::Held))),
        (unheld(HolderSource::Listener), Ok((CloseWay::Destroy, WayReason::NeverAccepted))),
        (unheld(HolderSource::OutsideFdTables), Ok((CloseWay::Destroy, WayReason::HeldOutside))),
        (unheld(HolderSource::None), Ok((CloseWay::Destroy, WayReason::NotHeld))),
    ] {
        assert_eq!(rules.choose(&record), choice, "{:?}", record.holder_source);
    }
    let mut hidden = unheld(HolderSource::None);
    hidden.unknown.insert("holders", Reason::NotAllSeen);
    assert_eq!(rules.choose(&hidden), Err(Spared::HoldersHidden));
    let destroy = Rules { how: Some(CloseWay::Destroy), ..Rules::default() };
    assert_eq!(
        destroy.choose(&hidden),
        Ok((CloseWay::Destroy, WayReason::Asked)),
        "asked for by name"
    );
    assert_eq!(destroy.choose(&held(7)), Ok((CloseWay::Destroy, WayReason::Asked)));
}

#[test]
fn what_can_not_be_done_that_way() {
    let shutdown = Rules { how: Some(CloseWay::Shutdown), force: true, ..Rules::default() };
    let waits = unheld(HolderSource::Listener);
    assert_eq!(shutdown.choose(&waits), Err(Spared::NoDescriptor));
    let closing = Record { state: TcpState::LastAck, verdict: None, ..held(7) };
    assert_eq!(shutdown.choose(&closing), Err(Spared::FinSent));
    let by_force = Rules { force: true, ..Rules::default() };
    assert_eq!(by_force.choose(&closing), Ok((CloseWay::Destroy, WayReason::FinSent)));
    let mut mptcp = unheld(HolderSource::Listener);
    mptcp.connection.mptcp = true;
    assert_eq!(by_force.choose(&mptcp), Err(Spared::Mptcp));
}

#[test]
fn force_takes_what_is_no_leak_and_nothing_else() {
    let (plain, force) = (Rules::default(), Rules { force: true, ..Rules::default() });
    let open = Record { state: TcpState::Established, verdict: None, ..held(7) };
    let in_use = Record { verdict: Some(Verdict::HalfCloseInUse), ..held(7) };
    let orphan = Record { verdict: Some(Verdict::Orphan), ..unheld(HolderSource::None) };
    let time_wait = Record { state: TcpState::TimeWait, verdict: None, ..orphan.clone() };
    for (record, refusal) in [
        (&open, Spared::Established),
        (&in_use, Spared::HalfCloseInUse),
        (&orphan, Spared::NoLeak),
        (&time_wait, Spared::NoLeak),
    ] {
        assert_eq!(plain.choose(record), Err(refusal));
        assert!(force.choose(record).is_ok(), "{refusal:?}");
    }
    let init = Rules { host_init: true, ..Rules::default() };
    assert_eq!(init.choose(&held(1)), Err(Spared::Init));
    assert!(plain.choose(&held(1)).is_ok(), "a container's program is its pid 1");
    let listener = Record { state: TcpState::Listen, ..held(7) };
    let ghost = Record { state: TcpState::Close, verdict: Some(Verdict::GhostFd), ..held(7) };
    assert_eq!(force.choose(&listener), Err(Spared::Listener));
    assert_eq!(force.choose(&ghost), Err(Spared::Over));
}

#[test]
fn who_typed_it_does_not_saw_off_the_branch() {
    let rules = Rules { force: true, own: 7, ancestors: vec![8, 9], ..Rules::default() };
    let open = |pid| Record { state: TcpState::Established, verdict: None, ..held(pid) };
    assert_eq!(rules.choose(&open(9)), Err(Spared::Session));
    assert!(rules.choose(&open(10)).is_ok());
    assert!(rules.choose(&held(9)).is_ok(), "a leak of who started it is one");
    assert_eq!(rules.choose(&held(7)), Err(Spared::Own));
}

#[test]
fn names_are_distinct() {
    let refusals: std::collections::HashSet<_> = Spared::ALL.map(Spared::name).into();
    let outcomes: std::collections::HashSet<_> = CloseResult::ALL.map(CloseResult::name).into();
    assert_eq!((refusals.len(), outcomes.len()), (Spared::ALL.len(), CloseResult::ALL.len()));
}

fn any_record() -> impl Strategy<Value = Record> {
    let sources = [
        HolderSource::FdTable,
        HolderSource::Listener,
        HolderSource::None,
        HolderSource::OutsideFdTables,
    ];
    let verdict = prop::option::of(prop::sample::select(Verdict::ALL.to_vec()));
    let state = prop::sample::select(TcpState::ALL.to_vec());
    let holders = prop::collection::vec((1u32..6, prop::option::of(0u32..9)), 0..3);
    (state, verdict, prop::sample::select(sources.to_vec()), holders, 0u64..2, any::<bool>())
        .prop_map(|(state, verdict, holder_source, holders, cookie, mptcp)| {
            let mut record = Record { state, verdict, holder_source, ..leak() };
            record.holders = holders
                .into_iter()
                .map(|(pid, fd)| super::super::record::Holder { fd, ..holder(pid, 0) })
                .collect();
            (record.connection.cookie, record.connection.mptcp) = (cookie, mptcp);
            record
        })
}

proptest! {
    #[test]
    fn nothing_is_closed_that_must_not_be(
        record in any_record(),
        how in prop::option::of(prop::sample::select(vec![CloseWay::Shutdown, CloseWay::Destroy])),
        force in any::<bool>(),
    ) {
        let rules = Rules { how, force, own: 2, ancestors: vec![3], host_init: true };
        let holds = |pid| {
            record.holder_source == HolderSource::FdTable
                && record.holders.iter().any(|h| h.process.pid == pid)
        };
        if let Ok((chosen, _)) = rules.choose(&record) {
            prop_assert!(![TcpState::Listen, TcpState::Close].contains(&record.state));
            prop_assert!(record.connection.cookie != 0 && !holds(2));
            prop_assert!(record.is_leak() || force && !holds(3));
            prop_assert!(force || !holds(1));
            prop_assert!(how.is_none_or(|how| how == chosen));
            if chosen == CloseWay::Shutdown {
                prop_assert!(record.holders.iter().any(|h| h.fd.is_some()));
            } else {
                prop_assert!(!record.connection.mptcp);
            }
        }
    }

    /// Force only adds to what may be done.
    #[test]
    fn force_never_changes_the_way(record in any_record()) {
        let plain = Rules { host_init: true, ..Rules::default() };
        let force = Rules { force: true, ..plain.clone() };
        if let Ok(way) = plain.choose(&record) {
            prop_assert_eq!(force.choose(&record), Ok(way));
        }
    }
}
