//! Records for tests, and what holds of them.

use super::*;

/// A leak that is read to its end, of nobody.
pub(crate) fn leak() -> Record {
    Record {
        connection: Connection::new(1, &Tuple::default(), IPPROTO_TCP),
        role: Some(Role::Server),
        state: TcpState::CloseWait,
        earliest_ns: 1,
        latest_ns: 1,
        seen_ns: 2,
        verdict: Some(Verdict::EofNotClosed),
        also: Vec::new(),
        evidence: Evidence { recv_q: Some(0), accepted: Some(true), ..Evidence::default() },
        holders: Vec::new(),
        holder_source: HolderSource::FdTable,
        former_holders: Vec::new(),
        listener: None,
        came_in_by: None,
        cgroup: None,
        origins: None,
        normal: None,
        unknown: Unknown::default(),
    }
}

/// A process that holds it with this descriptor.
pub(crate) fn holder(pid: u32, fd: u32) -> Holder {
    Holder {
        process: ProcessId { pid, start_ns: 1 },
        tid: None,
        ppid: 1,
        fd: Some(fd),
        comm: "shop".into(),
        name: None,
        cgroups: None,
        inner_pid: None,
        opener: None,
    }
}

#[test]
fn a_process_is_one_wherever_its_descriptors_are_listed() {
    // As of listeners that share an address.
    let holders = [(7, 4), (9, 4), (9, 5), (7, 5)].map(|(pid, fd)| holder(pid, fd)).into();
    let record = Record { holders, ..leak() };
    let of: Vec<_> = record.processes().map(|h| (h.process.pid, h.fd)).collect();
    assert_eq!(of, [(7, Some(4)), (9, Some(4))]);
}

#[test]
fn an_age_that_may_be_more() {
    let age = |min_ns, max_ns| Age { min_ns, max_ns };
    assert_eq!(age(5, Some(9)).is_over(5), Some(true));
    assert_eq!(age(5, Some(9)).is_over(7), None);
    assert_eq!(age(5, Some(9)).is_over(10), Some(false));
    assert_eq!((age(5, None).is_over(7), age(0, None).is_over(0)), (None, Some(true)));
}
