use proptest::prelude::*;

use super::*;
use crate::engine::doctor::{
    COOKIES_ANSWERED, COOKIES_SENT, Descriptors, Examination, LISTEN_OVERFLOWS, ListenerSeen,
    SYN_QUEUE_COOKIES,
    findings::{Ailment, Diagnosis},
    judge::checkup,
    settings::Sysctl,
    tests::{any_examination, counters, destination, healthy, listener, named, of_namespace, only},
};
use tcptrace_common::state::TcpState;

#[test]
fn the_cure_for_ports_in_time_wait_is_no_setting_first() {
    let found = |open, time_wait| {
        only(of_namespace(|n| {
            n.settings.values.insert(Sysctl::LocalPortRange, Ok("32768 32867".to_owned()));
            n.destinations = vec![destination("10.0.0.2:80", open, time_wait)];
        }))
    };
    let waiting = found(4, 96);
    assert_eq!(
        headline(&waiting, 0),
        "100 of 100 ephemeral ports from 10.0.0.1 to 10.0.0.2:80 are taken"
    );
    assert!(remedy(&waiting).starts_with("Keep connections open"), "{}", remedy(&waiting));
    assert!(remedy(&waiting).contains("tcp_tw_reuse=1"), "{}", remedy(&waiting));
    assert!(no_help(&waiting).expect("advice").contains("tcp_fin_timeout"));
    assert!(remedy(&found(96, 4)).contains("a pool"));
}

#[test]
fn a_full_queue_names_its_process() {
    let found = only(of_namespace(|n| {
        n.listeners = vec![ListenerSeen { dropped: 5, ..listener((129, 129), 128) }];
        n.after = counters(&[(LISTEN_OVERFLOWS, 5)]);
    }));
    let said = headline(&found, 2_000_000_000);
    assert_eq!(said, "the accept queue of 0.0.0.0:80 is full: 129 wait, the limit is 128");
    let evidence = evidence(&found, 2_000_000_000);
    assert!(evidence.contains(&"the listener is held by nginx[4711]".to_owned()), "{evidence:?}");
    assert!(remedy(&found).starts_with("tcptrace explain 4711"), "{}", remedy(&found));
    let stuck = ListenerSeen { given_up: 2, ..listener((2, 2), 128) };
    let stuck = only(of_namespace(|n| n.listeners = vec![stuck]));
    assert!(headline(&stuck, 0).starts_with("nobody accepts at 0.0.0.0:80"));
}

#[test]
fn a_flood_is_told_from_a_slow_accept() {
    let found = |queue, answered| {
        let seen = of_namespace(|n| {
            n.listeners = vec![ListenerSeen { half_open: 128, ..listener(queue, 128) }];
            let rose = [(SYN_QUEUE_COOKIES, 50), (COOKIES_SENT, 50), (COOKIES_ANSWERED, answered)];
            n.after = counters(&rose);
        });
        let syn = |d: &Diagnosis| matches!(d.ailment, Ailment::SynQueue(_));
        meaning(&checkup(seen).findings.into_iter().find(syn).expect("it is found"))
    };
    assert!(found((0, 0), 1).contains("SYN flood from forged"));
    assert!(found((0, 0), 49).contains("clients are real"));
    assert!(found((129, 129), 0).contains("is wrong here"));
}

#[test]
fn a_higher_limit_cures_no_leak() {
    let of = |state| {
        let sockets = [(state, 900)].into();
        let process = named(4711);
        let descriptors =
            vec![Descriptors { process, used: 1_000, soft: 1_024, hard: 4_096, sockets }];
        remedy(&only(Examination { descriptors, ..healthy() }))
    };
    assert!(of(TcpState::CloseWait).contains("a leak, which reaches any limit"));
    assert!(of(TcpState::Established).contains("prlimit --pid 4711 --nofile=N:4096"));
}

#[test]
fn every_setting_has_its_words() {
    for setting in checkup(healthy()).settings {
        let sysctl = setting.sysctl;
        for text in [settings::does(sysctl), settings::hurts(sysctl), settings::source(sysctl)] {
            assert!(!text.is_empty(), "{sysctl:?}");
        }
        let here = settings::here(&setting).unwrap_or_default();
        assert!(!here.ends_with('.'), "it is put into a sentence: {here}");
    }
}

proptest! {
    #[test]
    fn everything_has_words(seen in any_examination()) {
        let said = checkup(seen);
        for d in &said.findings {
            prop_assert!(!headline(d, said.apart_ns).is_empty());
            prop_assert!(!evidence(d, said.apart_ns).is_empty());
            prop_assert!(!meaning(d).is_empty() && !remedy(d).is_empty());
            prop_assert!(!source(&d.ailment).is_empty());
        }
        for told in &said.remarks {
            prop_assert!(!remark(told, said.apart_ns).is_empty());
        }
    }
}
