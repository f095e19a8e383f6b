//! Groups, held against what they claim.

use proptest::prelude::*;

use super::*;
use crate::engine::{
    record::{self, Age, Connection, Evidence},
    unknown::Reason,
};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// A leak of a process since some moment.
#[derive(Clone, Copy, Debug)]
struct Leak {
    cookie: u64,
    pid: u32,
    client: bool,
    peer: u16,
    verdict: Verdict,
    since: BootNs,
}

fn leak(cookie: u64, pid: u32, since: BootNs) -> Leak {
    Leak { cookie, pid, client: false, peer: 1, verdict: Verdict::EofNotClosed, since }
}

impl Leak {
    fn record(self, now: BootNs) -> Rc<Record> {
        let [high, low] = self.peer.to_be_bytes();
        let server = |last| SocketAddr::from(([10, 0, 0, last], 8080));
        let (local, remote) = if self.client {
            let port = (self.cookie % 60_000) as u16;
            (SocketAddr::from(([10, 0, 0, 9], port)), SocketAddr::from(([10, 9, high, low], 443)))
        } else {
            (server(1), SocketAddr::from(([10, 9, high, low], (self.cookie % 60_000) as u16)))
        };
        Rc::new(Record {
            connection: Connection { cookie: self.cookie, netns: 1, local, remote, mptcp: false },
            role: Some(if self.client { Role::Client } else { Role::Server }),
            earliest_ns: self.since,
            latest_ns: self.since,
            seen_ns: now,
            verdict: Some(self.verdict),
            evidence: Evidence::default(),
            holders: vec![record::tests::holder(self.pid, 5)],
            ..record::tests::leak()
        })
    }

    fn stuck(self, reports: &mut Reports, now: BootNs) {
        assert!(reports.take(&Update::Stuck(self.record(now))));
    }

    fn resolved(self, reports: &mut Reports, now: BootNs) {
        let stayed = Age::at(now, self.since, self.since);
        let record = self.record(now);
        let unknown = Reason::EndLost;
        let update = Update::Resolved { record, stayed, closed_by: None, unknown };
        assert!(reports.take(&update));
    }
}

fn words(reports: &[Report]) -> Vec<String> {
    let word = |report: &Report| match report {
        Report::Socket { record, count, new } => {
            format!(
                "socket {} of {count}{}",
                record.connection.cookie,
                if *new { "" } else { " again" }
            )
        }
        Report::Group(g) => format!("group {} +{} {}s", g.count, g.new, g.age.min_ns / SECOND),
        Report::Ended { left, count, stayed, .. } => {
            let left = if *left == 0 { String::new() } else { format!(", {left} left") };
            format!("ended {count} {}s{left}", stayed.min_ns / SECOND)
        }
    };
    reports.iter().map(word).collect()
}

/// What is said at each second, of leaks that begin and end at given seconds.
fn played(by: Option<GroupBy>, leaks: &[(Leak, Option<u64>)], until: u64) -> Vec<(u64, String)> {
    let mut reports = Reports::new(by, SECOND);
    let mut said = Vec::new();
    for second in 0..=until {
        let now = second * SECOND;
        for (leak, end) in leaks {
            let age = now.saturating_sub(leak.since) / SECOND;
            if *end == Some(second) {
                leak.resolved(&mut reports, now);
            } else if age.is_power_of_two() && end.is_none_or(|end| second < end) {
                leak.stuck(&mut reports, now);
            }
        }
        said.extend(words(&reports.flush(now)).into_iter().map(|word| (second, word)));
    }
    said
}

fn at(said: &[(u64, String)]) -> Vec<(u64, &str)> {
    said.iter().map(|(second, word)| (*second, &**word)).collect()
}

#[test]
fn three_by_themselves_and_then_together() {
    let leaks: Vec<_> = (1..=9).map(|n| (leak(n, 7, n * 2 * SECOND), None)).collect();
    let said = played(None, &leaks, 20);
    assert_eq!(
        at(&said),
        [
            (3, "socket 1 of 1"),
            (4, "socket 1 of 1 again"),
            (5, "socket 2 of 2"),
            (6, "group 2 +0 4s"),
            (7, "socket 3 of 3"),
            (10, "group 4 +1 8s"),
            (17, "group 8 +4 15s"),
            (18, "group 8 +0 16s"),
        ]
    );
}

#[test]
fn many_at_once_are_one_line() {
    let leaks: Vec<_> = (1..=300).map(|n| (leak(n, 7, SECOND), Some(9))).collect();
    let said = played(None, &leaks, 20);
    assert_eq!(
        at(&said),
        [
            (2, "group 300 +300 1s"),
            (3, "group 300 +0 2s"),
            (5, "group 300 +0 4s"),
            (9, "ended 300 8s")
        ]
    );
}

#[test]
fn some_that_end() {
    let few: Vec<_> = (1..=2).map(|n| (leak(n, 7, SECOND), (n == 1).then_some(7))).collect();
    assert_eq!(at(&played(None, &few, 7))[4..], [(7, "ended 1 6s, 1 left")], "of a few each");
    let many: Vec<_> = (1..=10).map(|n| (leak(n, 7, SECOND), (n > 3).then_some(5 + n))).collect();
    let said = played(None, &many, 20);
    assert_eq!(
        at(&said)[3..],
        [(9, "group 9 +0 8s"), (13, "ended 5 12s, 5 left"), (17, "group 3 +0 16s")],
        "of many half of them"
    );
}

/// One process, many of one verdict and fewer of another: the lines it may have go to both.
#[test]
fn the_smaller_group_is_not_forgotten() {
    let verdict =
        |n: u64| if n.is_multiple_of(5) { Verdict::UnreadFin } else { Verdict::EofNotClosed };
    let leaks: Vec<Leak> =
        (0..1_000).map(|n| Leak { verdict: verdict(n), ..leak(n, 7, n * SECOND / 10) }).collect();
    let (mut reports, mut told) = (Reports::new(None, SECOND), HashMap::new());
    for second in 1..=110 {
        let now = second * SECOND;
        for leak in leaks.iter().filter(|leak| leak.since / SECOND + 2 == second) {
            leak.stuck(&mut reports, now);
        }
        for report in reports.flush(now) {
            match report {
                Report::Socket { record, count, .. } => told.insert(record.verdict, count),
                Report::Group(group) => told.insert(group.oldest.verdict, group.count),
                Report::Ended { .. } => None,
            };
        }
    }
    for (verdict, all) in [(Verdict::EofNotClosed, 800), (Verdict::UnreadFin, 200)] {
        let said = told.get(&Some(verdict)).copied().unwrap_or(0);
        assert!(said * 4 >= all, "{verdict:?}: {said} of {all}");
    }
}

#[test]
fn one_that_comes_and_goes_between_two_flushes() {
    let mut reports = Reports::new(None, SECOND);
    leak(1, 7, SECOND).stuck(&mut reports, 3 * SECOND);
    leak(1, 7, SECOND).resolved(&mut reports, 3 * SECOND);
    assert_eq!(words(&reports.flush(3 * SECOND)), ["ended 1 2s"]);
    assert_eq!(words(&reports.flush(4 * SECOND)), [""; 0]);
}

#[test]
fn another_verdict_is_another_group() {
    let mut reports = Reports::new(None, SECOND);
    let all = |verdict| (1..=10).map(move |n| Leak { verdict, ..leak(n, 7, SECOND) });
    all(Verdict::UnreadFin).for_each(|l| l.stuck(&mut reports, 2 * SECOND));
    assert_eq!(words(&reports.flush(2 * SECOND)), ["group 10 +10 1s"]);
    all(Verdict::EofNotClosed).for_each(|l| l.stuck(&mut reports, 3 * SECOND));
    assert_eq!(words(&reports.flush(3 * SECOND)), ["group 10 +10 2s"], "and nothing has ended");
    all(Verdict::EofNotClosed).for_each(|l| l.resolved(&mut reports, 4 * SECOND));
    assert_eq!(words(&reports.flush(4 * SECOND)), ["ended 10 3s"]);
}

#[test]
fn what_is_asked_for_is_told_together() {
    let of = |n: u64| Leak { client: true, peer: n as u16, ..leak(n, 7 + (n % 2) as u32, SECOND) };
    let leaks: Vec<_> = (1..=10).map(|n| (of(n), None)).collect();
    let count = |by| played(by, &leaks, 2).len();
    assert_eq!(count(Some(GroupBy::Holder)), 2);
    assert_eq!(count(Some(GroupBy::Verdict)), 1);
    assert_eq!(count(Some(GroupBy::Remote)), 10);
    assert_eq!(count(Some(GroupBy::Container)), 1);
}

#[test]
fn ends_beyond_a_few_are_told_together() {
    let of = |n: u64| Leak { client: true, peer: (n % 256) as u16, ..leak(n, 7, SECOND) };
    let mut reports = Reports::new(None, SECOND);
    (0..1_000).for_each(|n| of(n).stuck(&mut reports, 2 * SECOND));
    let said = reports.flush(2 * SECOND);
    let Some(Report::Group(most)) = said.first() else { panic!("{said:?}") };
    assert_eq!(most.remote.addresses, 252);
    assert_eq!(most.remote.net.map(|net| net.to_string()).as_deref(), Some("10.9.0.0/24"));
    assert_eq!(most.remote.port, Some(443));
}

#[test]
fn what_is_over_is_forgotten() {
    let mut reports = Reports::new(None, SECOND);
    for n in 0..10_000 {
        let now = n * SECOND;
        let leak = leak(n, n as u32, now);
        leak.stuck(&mut reports, now + SECOND);
        leak.resolved(&mut reports, now + SECOND);
        reports.flush(now + SECOND);
    }
    assert!(reports.remembered() < 4_000, "{}", reports.remembered());
}

/// Ten processes leak 10,000 sockets each within an hour, as servers and as clients of many, and
/// end as the case may be.
fn hour(seed: impl Fn(u64) -> u64, paces: &[u8], verdicts: &[Verdict], ends: bool) -> (usize, u64) {
    let pace = |pid: usize, n: u64| match paces[pid] {
        // At once, evenly, ever more, in bursts of a thousand.
        0 => (pid as u64) * 60 * SECOND,
        1 => n * HOUR / 10_000,
        2 => (n * n / 10_000) * HOUR / 10_000,
        _ => (n / 1_000) * HOUR / 10,
    };
    let mut leaks = Vec::new();
    for pid in 0..10 {
        for n in 0..10_000 {
            let cookie = pid * 10_000 + n;
            let verdict = verdicts[seed(cookie) as usize % verdicts.len()];
            let peer = (seed(cookie + 1) % 50_000) as u16;
            let (client, since) = (pid % 2 == 1, pace(pid as usize, n));
            leaks.push(Leak { cookie, pid: 100 + pid as u32, client, peer, verdict, since });
        }
    }
    leaks.sort_by_key(|leak| leak.since);
    // When each is reported, as the tracker does: at each doubling of its age.
    let mut due: Vec<(u64, usize)> = Vec::new();
    for (n, leak) in leaks.iter().enumerate() {
        let ages = (0..12).map(|doublings| SECOND << doublings);
        due.extend(ages.map(|age| (leak.since + age, n)).take_while(|(at, _)| *at < HOUR));
    }
    due.sort_unstable();
    let updates: Vec<Update> = leaks.iter().map(|l| Update::Stuck(l.record(l.since))).collect();
    let (mut reports, mut lines, mut told) = (Reports::new(None, SECOND), 0, 0);
    let mut due = due.into_iter().peekable();
    for second in 1..=3_600 {
        let now = second * SECOND;
        while let Some((_, n)) = due.next_if(|(at, _)| *at <= now) {
            assert!(reports.take(&updates[n]));
        }
        if ends && second == 3_600 {
            leaks.iter().for_each(|leak| leak.resolved(&mut reports, now));
        }
        for report in reports.flush(now) {
            lines += 1;
            told += match report {
                Report::Socket { new, .. } => u64::from(new),
                Report::Group(group) => group.new,
                Report::Ended { .. } => 0,
            };
        }
    }
    (lines, told)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    /// 100,000 leaks of ten processes stay below 200 lines in an hour.
    #[test]
    fn an_hour_of_leaks_is_a_page(
        seed in any::<u64>(),
        paces in proptest::collection::vec(0u8..4, 10),
        verdicts in proptest::sample::subsequence(Verdict::ALL.to_vec(), 1..=2),
        ends in any::<bool>(),
    ) {
        let hash = |n: u64| (n ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let (lines, told) = hour(hash, &paces, &verdicts, ends);
        prop_assert!((10..200).contains(&lines), "{lines} lines");
        prop_assert!(told > 0);
    }

    /// Whatever happens, the last line about a group is near the truth: no count doubles unsaid for
    /// longer than the lines before it lasted.
    #[test]
    fn what_is_said_is_true(
        events in proptest::collection::vec((0u64..40, 0u32..3, any::<bool>(), 1u64..30), 1..200),
    ) {
        let mut reports = Reports::new(None, SECOND);
        let mut open: HashMap<u64, Leak> = HashMap::new();
        let mut now = SECOND;
        for (cookie, pid, ends, seconds) in events {
            now += seconds * SECOND;
            if ends {
                if let Some(leak) = open.remove(&cookie) {
                    leak.resolved(&mut reports, now);
                }
            } else {
                let leak = *open.entry(cookie).or_insert(leak(cookie, pid, now - SECOND));
                leak.stuck(&mut reports, now);
            }
            for report in reports.flush(now) {
                let (pid, count) = match &report {
                    Report::Socket { record, count, .. } => (record.holders[0].process.pid, *count),
                    Report::Group(g) => (g.oldest.holders[0].process.pid, g.count),
                    Report::Ended { record, left, .. } => (record.holders[0].process.pid, *left),
                };
                let truth = open.values().filter(|leak| leak.pid == pid).count() as u64;
                prop_assert!(count <= truth && (count > 0 || truth == 0), "{report:?}, {truth}");
            }
        }
        prop_assert!(reports.homes.len() == open.len());
    }
}
