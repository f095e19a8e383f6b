//! What is known of what is normal, by where sockets lead.

use std::collections::HashMap;

use tcptrace_common::{
    counters::{BUCKETS, below},
    event::Socket,
    normal::{NormalOf, SLOTS},
    state::TcpState,
};

use super::{
    fact::NormalRow,
    normal::{FEWEST, Normal, PER_MILLE},
    record::Connection,
    unknown::Reason,
};

/// What is known of all places.
#[derive(Debug, Default)]
pub struct Normals {
    rows: HashMap<NormalOf, Result<Normal, Reason>>,
}

impl Normals {
    /// Takes in how long stays were, all since the start.
    pub fn learn(&mut self, rows: &[NormalRow]) {
        for row in rows {
            if self.rows.len() >= SLOTS && !self.rows.contains_key(&row.of.0) {
                self.rows.clear();
            }
            self.rows.insert(row.of.0, of_row(row));
        }
    }

    /// What is normal for a socket in its state.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn of(&self, s: &Socket) -> Result<Normal, Reason> {
        let of = NormalOf::of(s.max_backlog != 0, &s.tuple, s.state);
        self.rows.get(&of).copied().unwrap_or(Err(Reason::FewStays))
    }

    /// The same of a stay that ended before any scan listed it: which side opened the connection is
    /// not known, so it is what is known of either.
    ///
    /// # Errors
    /// The same.
    pub fn of_ended(&self, c: &Connection, state: TcpState) -> Result<Normal, Reason> {
        let ends = c.tuple();
        let sides = [true, false].map(|server| NormalOf::of(server, &ends, state as u8));
        let known = sides.iter().filter_map(|of| self.rows.get(of)).find_map(|row| row.ok());
        known.ok_or(Reason::FewStays)
    }
}

/// From how long the stays were that have ended.
fn of_row(row: &NormalRow) -> Result<Normal, Reason> {
    if row.no_room {
        return Err(Reason::NormalsFull);
    }
    let ended = row.ended();
    if ended < FEWEST {
        return Err(Reason::FewStays);
    }
    let wanted = (u128::from(ended) * u128::from(PER_MILLE)).div_ceil(1_000);
    let mut stays: Vec<(u8, u64)> = row.stays.clone();
    stays.sort_unstable_by_key(|(bucket, _)| *bucket);
    let mut sum = 0;
    let bucket = stays.iter().find(|(_, n)| {
        sum += u128::from(*n);
        sum >= wanted
    });
    // What is longer than anything that is told apart counts as twice that.
    let below_ns = bucket.map(|(bucket, _)| usize::from(*bucket).min(BUCKETS - 1));
    let below_ns = below_ns.and_then(|bucket| below(bucket).or(below(BUCKETS - 2)));
    let server = row.of.0.server != 0;
    below_ns.map(|below_ns| Normal { below_ns, ended, server }).ok_or(Reason::FewStays)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tcptrace_common::counters::bucket;

    use super::*;
    use crate::engine::{fact::Wire, normal::YOUNGEST_NS};

    const AT: NormalOf = NormalOf::server(1, 80, TcpState::CloseWait as u8);

    fn row(stays: &[u64]) -> NormalRow {
        let mut counts = [0u64; BUCKETS];
        stays.iter().for_each(|ns| counts[bucket(*ns)] += 1);
        let stays = (0..).zip(counts).filter(|(_, n)| *n > 0).collect();
        NormalRow { of: Wire(AT), no_room: false, stays }
    }

    #[test]
    fn a_busy_listener() {
        let mut stays = vec![2_000_000; 1_199_000];
        stays.extend([37_000_000_000; 1_000]);
        let normal = of_row(&row(&stays)).expect("enough of them");
        assert_eq!((normal.below_ns, normal.ended), (1024 << 11, 1_200_000), "2.1 ms");
        assert_eq!(normal.reported_from_ns(), YOUNGEST_NS, "no scan comes sooner");
    }

    #[test]
    fn a_slow_listener() {
        let normal = of_row(&row(&[5_000_000_000; 1_000])).expect("enough of them");
        assert_eq!(normal.below_ns, 1024 << 23, "8.6 s");
        assert_eq!(normal.reported_from_ns(), 10 * normal.below_ns);
    }

    #[test]
    fn what_is_not_known() {
        assert_eq!(of_row(&row(&[1; 999])), Err(Reason::FewStays));
        let full = NormalRow { no_room: true, ..row(&[1; 1_000]) };
        assert_eq!(of_row(&full), Err(Reason::NormalsFull));
        let nothing = Normals::default();
        let socket = <Socket as zerocopy::FromZeros>::new_zeroed();
        assert_eq!(nothing.of(&socket), Err(Reason::FewStays));
    }

    #[test]
    fn a_stay_that_no_scan_listed_is_found_by_its_ends() {
        let mut normals = Normals::default();
        normals.learn(&[row(&[1; 1_000])]);
        let c = Connection {
            cookie: 1,
            netns: 1,
            local: ([10, 0, 0, 1], 80).into(),
            remote: ([10, 0, 0, 2], 4_000).into(),
            mptcp: false,
        };
        assert!(normals.of_ended(&c, TcpState::CloseWait).is_ok());
        assert!(normals.of_ended(&c, TcpState::FinWait2).is_err());
        let elsewhere = Connection { netns: 2, ..c };
        assert!(normals.of_ended(&elsewhere, TcpState::CloseWait).is_err());
    }

    proptest! {
        #[test]
        fn nearly_all_are_below_and_those_are_not_reported(
            stays in proptest::collection::vec(0u64..1 << 40, 1_000..3_000),
        ) {
            let normal = of_row(&row(&stays)).expect("enough of them");
            let over = stays.iter().filter(|ns| **ns >= normal.below_ns).count();
            prop_assert!(over * 1_000 <= stays.len(), "{over} of {}", stays.len());
            // And the half of it is not enough: the bucket is the smallest.
            let half = stays.iter().filter(|ns| **ns >= normal.below_ns / 2).count();
            prop_assert!(half * 1_000 > stays.len() || normal.below_ns == 1024);
            prop_assert!(normal.reported_from_ns() >= normal.below_ns);
        }

        #[test]
        fn a_recording_may_claim_anything(
            stays in proptest::collection::vec((any::<u8>(), any::<u64>()), 0..40),
        ) {
            let _ = of_row(&NormalRow { of: Wire(AT), no_room: false, stays });
        }
    }
}
