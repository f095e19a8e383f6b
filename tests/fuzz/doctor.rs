//! What the doctor reads, and what is made of it: names and values are this text.

use std::collections::BTreeMap;

use tcptrace::{
    engine::{
        doctor::{
            Conntrack, Descriptors, Examination, HostNumbers, ListenerSeen, NamedProcess,
            NamespaceSeen, NetCounters, Unseen,
            judge::checkup,
            settings::{Sysctl, SysctlValues},
        },
        update::Update,
    },
    formats::{ports::LocalPorts, sysctl},
};

/// What is said of a host on which everything is called so.
pub fn said(text: &str) -> Update {
    let value = sysctl::words(text);
    let number = |protocol, name| sysctl::sockstat(text, protocol, name);
    let values = Sysctl::ALL.map(|sysctl| (sysctl, Ok(value.clone())));
    let settings = SysctlValues { values: BTreeMap::from(values), hashed: number("TCP", "alloc") };
    let _ = (settings.local_ports(), sysctl::ranges(text), sysctl::version(text));
    let ports = text.split_once(';').and_then(|(range, more)| LocalPorts::parse(range, more));
    assert!(ports.is_none_or(|ports| ports.count() <= 1 << 16));
    let process = NamedProcess {
        pid: 1,
        comm: text.to_owned(),
        name: text.to_owned(),
        container: Some(text.into()),
    };
    let length = text.len() as u64;
    let listener = ListenerSeen {
        local: ([127, 0, 0, 1], 80).into(),
        queue: (Some(2), 2),
        limit: 1,
        dropped: length,
        half_open: length,
        given_up: length,
        processes: vec![process.clone()],
    };
    let dropped = sysctl::conntrack(text, "drop");
    let namespace = NamespaceSeen {
        at: text.to_owned(),
        time_wait: number("TCP", "tw").ok_or("no number"),
        after: NetCounters(BTreeMap::from([("ListenOverflows", length)])),
        listeners: vec![listener],
        conntrack: Some(Conntrack { count: length, max: length, dropped }),
        settings: settings.clone(),
        ..NamespaceSeen::default()
    };
    let host = HostNumbers {
        kernel: sysctl::version(text),
        orphans: number("TCP", "orphan").ok_or("no number"),
        settings,
        ..HostNumbers::default()
    };
    let sockets = BTreeMap::new();
    let descriptors = vec![Descriptors { process, used: 99, soft: 100, hard: 100, sockets }];
    let unseen = vec![Unseen { what: text.to_owned(), why: text.to_owned(), hides: true }];
    let namespaces = vec![namespace];
    let mut checkup =
        checkup(Examination { host, namespaces, descriptors, unseen, ..Examination::default() });
    checkup.all_settings = true;
    Update::Checkup(Box::new(checkup))
}
