//! Who opened a socket that several processes hold, and who inherited it, as far as that shows.

use crate::engine::record::{BootNs, Holder, ProcessId};

/// Starts from `/proc` are this coarse (clock ticks of 1/100 s, on both sides).
const SLACK_NS: u64 = 20_000_000;

/// Marks openers and inheritors. `latest_ns`: the state that the socket is in began not after this.
///
/// fork() gives a child its parent's descriptors under their numbers: a child that holds the socket
/// by the same number as its parent inherited it. A process that is younger than the socket's state
/// did not open it, nor did one whose parent did. One that nothing speaks against, and
/// whose child inherited, had it first. Who holds it alone may have opened it or be the last of
/// several: that stays unknown.
pub fn mark(holders: &mut [Holder], latest_ns: BootNs) {
    let younger = |h: &Holder| h.process.start_ns > latest_ns.saturating_add(SLACK_NS);
    // Nearly all.
    if let [only] = holders {
        only.opener = younger(only).then_some(false);
        return;
    }
    let inherited: Vec<bool> = holders
        .iter()
        .map(|h| {
            younger(h)
                || holders.iter().any(|p| {
                    p.process.pid == h.ppid && p.process.pid != h.process.pid && p.fd == h.fd
                })
        })
        .collect();
    let firsts: Vec<ProcessId> = first_holders(holders, &inherited);
    for (holder, inherited) in holders.iter_mut().zip(inherited) {
        holder.opener = match inherited {
            true => Some(false),
            false if firsts == [holder.process] => Some(true),
            false => None,
        };
    }
}

/// The processes that nothing speaks against, if others inherited.
fn first_holders(holders: &[Holder], inherited: &[bool]) -> Vec<ProcessId> {
    if !inherited.contains(&true) {
        return Vec::new();
    }
    let mut firsts: Vec<ProcessId> = holders
        .iter()
        .zip(inherited)
        .filter(|(_, inherited)| !**inherited)
        .map(|(h, _)| h.process)
        .collect();
    firsts.dedup();
    firsts
}

/// What an earlier scan adds: who held the socket alone then, and holds it still, had it before
/// those that joined. Marks only where nothing was known.
pub fn mark_by_earlier(holders: &mut [Holder], earlier: &[Holder]) {
    let Some(first) = earlier.first().map(|h| h.process) else { return };
    let alone = earlier.iter().all(|h| h.process == first);
    let joined = holders.iter().any(|h| h.process != first);
    let still = holders.iter().any(|h| h.process == first);
    let unmarked = holders.iter().all(|h| h.opener.is_none());
    if alone && joined && still && unmarked {
        for holder in holders {
            holder.opener = Some(holder.process == first);
        }
    }
}

/// Those who held it earlier and do not any more.
#[must_use]
pub fn former(holders: &[Holder], earlier: &[Holder]) -> Vec<Holder> {
    earlier.iter().filter(|e| holders.iter().all(|h| h.process != e.process)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::record::tests;

    fn holder(pid: u32, ppid: u32, fd: u32, start_ns: u64) -> Holder {
        let process = ProcessId { pid, start_ns };
        Holder { process, ppid, ..tests::holder(pid, fd) }
    }

    fn marked(mut holders: Vec<Holder>) -> Vec<Option<bool>> {
        mark(&mut holders, 1_000_000_000);
        holders.iter().map(|h| h.opener).collect()
    }

    #[test]
    fn parents_and_children() {
        let (yes, no) = (Some(true), Some(false));
        assert_eq!(marked(vec![holder(5, 1, 4, 9), holder(6, 5, 4, 10)]), [yes, no]);
        assert_eq!(
            marked(vec![holder(5, 1, 4, 9), holder(6, 5, 4, 10), holder(7, 6, 4, 10)]),
            [yes, no, no]
        );
        assert_eq!(
            marked(vec![holder(5, 1, 4, 9), holder(6, 5, 8, 10)]),
            [None, None],
            "another number: dup or sent"
        );
        assert_eq!(
            marked(vec![holder(6, 5, 4, 9), holder(7, 5, 4, 9)]),
            [None, None],
            "siblings of one that let go"
        );
        assert_eq!(marked(vec![holder(5, 1, 4, 9)]), [None], "alone");
        assert_eq!(marked(vec![holder(5, 1, 4, 2_000_000_000)]), [no], "younger than the state");
        assert_eq!(
            marked(vec![holder(5, 1, 4, 9), holder(5, 1, 6, 9), holder(6, 5, 4, 9)]),
            [yes, yes, no],
            "dup"
        );
    }

    #[test]
    fn an_earlier_look_tells() {
        let first = [holder(5, 1, 4, 9)];
        let mut now = vec![holder(5, 1, 4, 9), holder(9, 1, 7, 9)];
        mark_by_earlier(&mut now, &first);
        assert_eq!(now.iter().map(|h| h.opener).collect::<Vec<_>>(), [Some(true), Some(false)]);
        assert_eq!(former(&now[1..], &first).len(), 1);
        assert!(former(&now, &first).is_empty());
    }

    proptest! {
        /// Never two openers; never an opener whose parent's descriptor it has.
        #[test]
        fn one_opener_at_most(
            list in proptest::collection::vec(
                (1u32..6, 0u32..6, 0u32..3, 0u64..3_000_000_000),
                0..6,
            ),
        ) {
            let mut holders: Vec<Holder> =
                list.into_iter().map(|(pid, ppid, fd, s)| holder(pid, ppid, fd, s)).collect();
            holders.sort_by_key(|h| (h.process.pid, h.process.start_ns));
            mark(&mut holders, 1_000_000_000);
            let mut openers: Vec<ProcessId> =
                holders.iter().filter(|h| h.opener == Some(true)).map(|h| h.process).collect();
            openers.dedup();
            prop_assert!(openers.len() <= 1);
            for h in holders.iter().filter(|h| h.opener == Some(true)) {
                prop_assert!(h.process.start_ns <= 1_020_000_000);
            }
        }
    }
}
