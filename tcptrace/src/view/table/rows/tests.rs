//! Rows as they are printed.

use std::{net::SocketAddr, rc::Rc};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::{
    engine::{
        forecast::Between,
        group::GroupBy,
        parse::Target,
        record::{self, Evidence, Holder},
        reports::Reports,
        update::{Summary, Update},
        worst::Worst,
    },
    formats::cgroup::Cgroups,
    view::{Clock, View},
};

const SECOND: u64 = 1_000_000_000;
const ID: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";

fn holder(pid: u32) -> Holder {
    Holder {
        comm: "python3".into(),
        name: Some("python3 leak.py".into()),
        ..record::tests::holder(pid, 12)
    }
}

fn record(cookie: u64, since: BootNs) -> Record {
    Record {
        connection: Connection {
            cookie,
            netns: 1,
            local: "10.0.0.1:8080".parse().expect("an end"),
            remote: SocketAddr::from(([10, 0, 3, cookie as u8], 51_000)),
            mptcp: false,
        },
        earliest_ns: since,
        latest_ns: since,
        seen_ns: 0,
        evidence: Evidence { recv_q: Some(0), ..Evidence::default() },
        holders: vec![holder(4711)],
        ..record::tests::leak()
    }
}

fn stuck(record: Record) -> Update {
    Update::Stuck(Rc::new(record))
}

fn resolved(record: Record, now: BootNs, closed_by: Option<ClosedBy>) -> Update {
    let stayed = record.age(now);
    let unknown = Reason::ByNoCall;
    Update::Resolved { record: Rc::new(record), stayed, closed_by, unknown }
}

/// What is printed at some width, of updates each at its second.
fn printed(width: usize, grouped: bool, updates: &[(u64, Update)]) -> String {
    let mut out = Vec::new();
    let clock = Clock::new(Timestamp::UNIX_EPOCH, 0, true);
    let mut table = Table::new(&mut out, clock, width);
    let mut reports = Reports::new(None, SECOND);
    for (n, (second, update)) in updates.iter().enumerate() {
        let now = second * SECOND;
        if !(grouped && reports.take(update)) {
            table.update(now, update).expect("memory");
        }
        let more = updates.get(n + 1).is_some_and(|(next, _)| next == second);
        let news = if more { Vec::new() } else { reports.flush(now) };
        for report in news {
            table.update(now, &Update::Report(Box::new(report))).expect("memory");
        }
    }
    table.flush().expect("memory");
    drop(table);
    anstream::adapter::strip_bytes(&out).into_vec().try_into().expect("UTF-8")
}

/// Three one by one, then many at once, then all of them end.
fn story() -> Vec<(u64, Update)> {
    let mut list: Vec<(u64, Update)> =
        (1..=3).map(|n| (n + 1, stuck(record(n, n * SECOND)))).collect();
    list.extend((4..=40).map(|n| (6, stuck(record(n, 5 * SECOND)))));
    list.extend((1..=40).map(|n| (70, resolved(record(n, 5 * SECOND), 70 * SECOND, None))));
    list
}

#[test]
fn groups_at_80_columns() {
    assert_eq!(
        printed(80, true, &story()),
        "TIME     COUNT    NEW OLDEST VERDICT        ENDS                    HOLDER\n\
         00:00:02     1     +1 1.0s   eof-not-closed :8080,10.0.3.1:51000   python3[4711]\n\
         00:00:03     2     +1 1.0s   eof-not-closed :8080,10.0.3.2:51000   python3[4711]\n\
         00:00:04     3     +1 1.0s   eof-not-closed :8080,10.0.3.3:51000   python3[4711]\n\
         00:00:06    40    +37 5.0s   eof-not-closed :8080,*        python3 leak.py[4711]\n\
         00:01:10     0    -40 1m05s  resolved       -              python3 leak.py[4711]\n"
    );
}

#[test]
fn groups_at_132_columns() {
    assert_eq!(
        printed(132, true, &story()),
        "TIME     COUNT    NEW OLDEST STATE       VERDICT        \
         ENDS                                        HOLDER\n\
         00:00:02     1     +1 1.0s   CLOSE_WAIT  eof-not-closed \
         10.0.0.1:8080,10.0.3.1:51000            python3 leak.py[4711] fd 12 cookie:1\n\
         00:00:03     2     +1 1.0s   CLOSE_WAIT  eof-not-closed \
         10.0.0.1:8080,10.0.3.2:51000            python3 leak.py[4711] fd 12 cookie:2\n\
         00:00:04     3     +1 1.0s   CLOSE_WAIT  eof-not-closed \
         10.0.0.1:8080,10.0.3.3:51000            python3 leak.py[4711] fd 12 cookie:3\n\
         00:00:06    40    +37 5.0s   CLOSE_WAIT  eof-not-closed \
         10.0.0.1:8080,10.0.3.0/26                   python3 leak.py[4711] 40 peers\n\
         00:01:10     0    -40 1m05s  CLOSE_WAIT  resolved       \
         -                                           python3 leak.py[4711]\n"
    );
}

/// What a verdict's name has more than its column, the ends' column has less.
#[test]
fn a_long_verdict_moves_nothing() {
    let mut long = record(2, SECOND);
    long.verdict = Some(Verdict::HandshakeUnfinished);
    let text = printed(132, false, &[(3, stuck(record(1, SECOND))), (3, stuck(long))]);
    let at: Vec<usize> = text.lines().filter_map(|line| line.find("python3 ")).collect();
    assert!(matches!(at[..], [one, other] if one == other), "{at:?} in {text}");
}

/// As into a pipe: each word up to HOLDER is a column.
#[test]
fn columns_for_awk() {
    let closer = ClosedBy { pid: 4711, comm: "python3".into(), exiting: false };
    let mut list = story();
    list.push((80, stuck(record(1, 79 * SECOND))));
    list.push((80, stuck(record(2, 79 * SECOND))));
    list.push((82, resolved(record(1, 79 * SECOND), 82 * SECOND, Some(closer))));
    let text = printed(1 << 20, true, &list);
    let column = |n: usize| -> Vec<&str> {
        text.lines().map(|line| line.split_whitespace().nth(n - 1).unwrap_or("")).collect()
    };
    let server = "10.0.0.1:8080";
    assert_eq!(column(2)[..9], ["COUNT", "1", "2", "3", "40", "0", "1", "2", "1"]);
    assert_eq!(column(7)[0], "ENDS");
    assert_eq!(column(7)[4..6], [&*format!("{server},10.0.3.0/26"), "-"]);
    assert!(column(7)[4].parse::<Target>().is_ok(), "explain takes it");
    assert_eq!(column(8)[0], "HOLDER");
    let last = text.lines().nth(8).unwrap_or_default();
    let end = last.split_whitespace().skip(2).collect::<Vec<_>>().join(" ");
    let expected = format!(
        "-1 3.0s CLOSE_WAIT resolved {server},10.0.3.1:51000 closed by python3[4711] cookie:1"
    );
    assert_eq!(end, expected);
}

#[test]
fn sockets_one_by_one() {
    let closer = ClosedBy { pid: 4711, comm: "python3".into(), exiting: false };
    let mut waits = record(5, SECOND);
    waits.unknown.insert("holders", Reason::NotAllSeen);
    waits.holders.clear();
    let list = [
        (2, stuck(record(1, SECOND))),
        (3, stuck(waits)),
        (9, resolved(record(1, SECOND), 9 * SECOND, Some(closer))),
        (9, resolved(record(2, SECOND), 9 * SECOND, None)),
    ];
    let lines = printed(80, false, &list);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(
        lines[..2],
        [
            "TIME     AGE    STATE       VERDICT        ENDS                    HOLDER",
            "00:00:02 1.0s   CLOSE_WAIT  eof-not-closed :8080,10.0.3.1:51000    python3[4711]",
        ]
    );
    assert_eq!(
        lines[3],
        "00:00:09 8.0s   CLOSE_WAIT  resolved       :8080,10.0.3.1:51000    python3[4711]"
    );
    assert!(lines[4].contains("no call on this socket ended it"), "{}", lines[4]);
    assert!(lines.iter().all(|line| line.width() <= 80), "{lines:#?}");
}

#[test]
fn the_container_and_the_cookie_where_there_is_room() {
    let mut contained = record(77, SECOND);
    contained.holders[0].cgroups = Some(Rc::new(Cgroups::parse(&format!("0::/docker/{ID}"))));
    let list = [(2, stuck(contained))];
    let wide = printed(170, true, &list);
    assert!(wide.contains("python3 leak.py[4711] 4f797c539e6c"), "{wide}");
    assert!(
        wide.contains(" 10.0.0.1:8080,10.0.3.77:51000 ") && wide.contains("fd 12 cookie:77"),
        "{wide}"
    );
    let narrow = printed(110, true, &list);
    assert!(
        narrow.contains(":8080,10.0.3.77:51000 ")
            && narrow.contains(" python3 leak.py[4711] fd 12")
    );
}

#[test]
fn the_last_screen() {
    let summary = Summary {
        stuck: 10_000,
        still_open: 10_000,
        leaks: 10_000,
        leaks_open: 10_000,
        by_verdict: [("eof-not-closed", 10_000)].into(),
        worst: Some(Box::new(Worst {
            holder: holder(4711),
            leaks: 9_998,
            oldest: record(1, SECOND).age(31 * SECOND),
            since_ns: SECOND,
            verdict: Some(Verdict::EofNotClosed),
            gained: 9_998,
            window_ns: 300 * SECOND,
            per_minute: Ok(1_234),
            limit: Some(20_000),
            full_in_ns: Some(Between { min: 420 * SECOND, est: 480 * SECOND, max: 600 * SECOND }),
        })),
        ..Summary::default()
    };
    let text = printed(80, true, &[(31, Update::Summary(Box::new(summary)))]);
    let begin = "\npython3 leak.py[4711] holds 9998 of 10000 leaks, the oldest since 00:00:01\n(30s).\n\
                 It is gaining about 1200 a minute; at this pace its 20000 descriptors run out in\n\
                 7m00s to 10m00s.\n";
    assert!(text.starts_with(begin), "{text}");
    assert!(text.ends_with("\nNext: tcptrace explain 4711\n"), "{text}");
    assert_eq!(text.matches("eof-not-closed:").count(), 1, "the advice, once: {text}");
    assert!(text.lines().all(|line| line.width() <= 80), "{text}");
    let none = printed(80, true, &[(31, Update::Summary(Box::default()))]);
    assert!(none.starts_with("\nNo leaks.\n"), "{none}");
}

proptest! {
    /// Whatever a program calls itself: one line a row, within the width, and who it is.
    #[test]
    fn one_line_a_row(
        width in 80usize..200,
        comm in "\\PC{1,15}",
        name in proptest::option::of("\\PC{1,40}"),
        peers in 1u64..60,
        v6: bool,
        by_holder: bool,
    ) {
        let mut reports = Reports::new(by_holder.then_some(GroupBy::Remote), SECOND);
        for n in 1..=peers {
            let mut r = record(n, SECOND);
            r.holders[0].comm = comm.as_str().into();
            r.holders[0].name = name.as_deref().map(Into::into);
            if v6 {
                r.connection.local = SocketAddr::from(([0xfd00, 1, 2, 3, 4, 5, 6, 7], 8080));
                r.connection.remote = SocketAddr::from(([0xfd00, 1, 2, 3, 4, 5, 6, n as u16], 9));
            }
            reports.take(&stuck(r));
        }
        let list: Vec<(u64, Update)> = reports
            .flush(3 * SECOND)
            .into_iter()
            .map(|report| (3, Update::Report(Box::new(report))))
            .collect();
        let text = printed(width, false, &list);
        prop_assert_eq!(text.lines().count(), list.len() + 1);
        prop_assert!(text.lines().all(|line| line.width() <= width), "{}", text);
    }
}
