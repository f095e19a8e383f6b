//! What a log record says, and that nothing in it is without a bound.

use std::{collections::BTreeMap, rc::Rc};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    engine::{
        record::{
            ClosedBy,
            tests::{holder, leak},
        },
        unknown::Reason,
        update::Lost,
    },
    formats::{
        cgroup::Cgroups,
        pods::{PodOwner, names},
    },
    serve::otlp::attributes::LONGEST,
    view::text::steers,
};

const SECOND: u64 = 1_000_000_000;

fn clock() -> Clock {
    Clock::new("2026-01-02T03:04:05Z".parse().expect("a time"), 0, true)
}

fn told(update: &Update) -> (LogRecord, BTreeMap<String, Value>) {
    told_with(update, &PodNames::new())
}

fn told_with(update: &Update, pods: &PodNames) -> (LogRecord, BTreeMap<String, Value>) {
    let record = log_record(12 * SECOND, &clock(), update, pods).expect("it says something");
    let value = |pair: &KeyValue| {
        let value = pair.value.clone().and_then(|value| value.value).expect("a value");
        (pair.key.clone(), value)
    };
    let attributes: BTreeMap<String, Value> = record.attributes.iter().map(value).collect();
    assert_eq!(attributes.len(), record.attributes.len(), "each name once: {record:?}");
    (record, attributes)
}

fn texts_of(attributes: &BTreeMap<String, Value>) -> Vec<(&str, String)> {
    let plain = |(key, value): (&'static str, &Value)| {
        let text = match value {
            Value::StringValue(text) => text.clone(),
            Value::IntValue(n) => n.to_string(),
            Value::DoubleValue(n) => n.to_string(),
            Value::BoolValue(is) => is.to_string(),
            other => panic!("{other:?}"),
        };
        (key, text)
    };
    KEYS.into_iter().filter_map(|key| Some(plain((key, attributes.get(key)?)))).collect()
}

const KEYS: [&str; 16] = [
    "container.id",
    "container.runtime.name",
    "k8s.pod.uid",
    "network.connection.state",
    "network.local.address",
    "network.local.port",
    "network.peer.address",
    "network.peer.port",
    "network.transport",
    "network.type",
    "process.pid",
    "process.title",
    "tcptrace.age.min",
    "tcptrace.cookie",
    "tcptrace.leak",
    "tcptrace.verdict",
];

#[test]
fn a_leak_by_the_conventions_names() {
    let mut record = leak();
    record.connection.cookie = 77;
    record.connection.local = "10.0.0.1:443".parse().expect("an end");
    record.connection.remote = "10.0.0.2:5555".parse().expect("an end");
    (record.earliest_ns, record.latest_ns) = (2 * SECOND, 2 * SECOND);
    let id = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
    let pod = "pod275ecb36_5aa8_4c2a_9c47_d8bb681b9aff";
    let path = format!("0::/kubepods.slice/kubepods-{pod}.slice/cri-containerd-{id}.scope\n");
    let cgroups = Some(Rc::new(Cgroups::parse(&path)));
    record.holders = vec![
        holder(6, 3),
        Holder { opener: Some(true), name: Some("java shop.jar".into()), cgroups, ..holder(7, 4) },
    ];
    let update = Update::Stuck(Rc::new(record));
    let (told, attributes) = told(&update);
    assert_eq!((&*told.event_name, &*told.severity_text), ("tcptrace.stuck", "WARN"));
    assert_eq!(told.severity_number, i32::from(SeverityNumber::Warn));
    assert_eq!(told.time_unix_nano, 1_767_323_057_000_000_000);
    let Some(Value::StringValue(body)) = told.body.and_then(|body| body.value) else {
        panic!("a sentence")
    };
    assert_eq!(
        body,
        "10.0.0.1:443,10.0.0.2:5555 has been in CLOSE_WAIT for 10s (eof-not-closed), held by \
         shop[6], java shop.jar[7] (containerd 4f797c539e6c)"
    );
    let expected = [
        ("container.id", id),
        ("container.runtime.name", "containerd"),
        ("k8s.pod.uid", "275ecb36-5aa8-4c2a-9c47-d8bb681b9aff"),
        ("network.connection.state", "close_wait"),
        ("network.local.address", "10.0.0.1"),
        ("network.local.port", "443"),
        ("network.peer.address", "10.0.0.2"),
        ("network.peer.port", "5555"),
        ("network.transport", "tcp"),
        ("network.type", "ipv4"),
        ("process.pid", "7"),
        ("process.title", "java shop.jar"),
        ("tcptrace.age.min", "10"),
        ("tcptrace.cookie", "77"),
        ("tcptrace.leak", "true"),
        ("tcptrace.verdict", "eof-not-closed"),
    ];
    assert_eq!(texts_of(&attributes), expected.map(|(key, value)| (key, value.to_owned())));

    // With the pod's name, and with what it belongs to.
    let uid = "275ecb36-5aa8-4c2a-9c47-d8bb681b9aff";
    let mut pods = names([&*format!("shop_cart-0_{uid}")]);
    let new = |pods: &PodNames| {
        let (_, mut more) = told_with(&update, pods);
        more.retain(|key, _| !attributes.contains_key(key));
        let text = |(key, value)| match value {
            Value::StringValue(text) => format!("{key}={text}"),
            other => panic!("{key}: {other:?}"),
        };
        more.into_iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(new(&pods), ["k8s.namespace.name=shop", "k8s.pod.name=cart-0"]);
    for (kind, told) in [
        ("StatefulSet", &["k8s.statefulset.name=cart"][..]),
        ("Deployment", &["k8s.deployment.name=cart"]),
        ("Rollout", &["tcptrace.owner.kind=Rollout", "tcptrace.owner.name=cart"]),
    ] {
        for pod in pods.values_mut() {
            pod.owner = Some(PodOwner { kind: kind.into(), name: "cart".into() });
        }
        let mut expected = vec!["k8s.namespace.name=shop", "k8s.pod.name=cart-0"];
        expected.extend(told);
        expected.sort_unstable();
        assert_eq!(new(&pods), expected, "{kind}");
    }
}

#[test]
fn its_end_and_what_was_lost() {
    let by = ClosedBy { pid: 7, comm: "java".into(), exiting: false };
    let stayed = Age { min_ns: 3 * SECOND, max_ns: None };
    let end = |closed_by| Update::Resolved {
        record: Rc::new(leak()),
        stayed,
        closed_by,
        unknown: Reason::EndLost,
    };
    let (record, attributes) = told(&end(Some(by)));
    assert_eq!((&*record.event_name, &*record.severity_text), ("tcptrace.resolved", "INFO"));
    assert_eq!(attributes["tcptrace.closed_by.pid"], Value::IntValue(7));
    assert_eq!(attributes["tcptrace.stayed.min"], Value::DoubleValue(3.0));
    assert!(!attributes.contains_key("tcptrace.stayed.max"), "nothing bounds it");
    let (record, attributes) = told(&end(None));
    assert!(!attributes.contains_key("tcptrace.closed_by.pid"));
    assert!(format!("{:?}", record.body).contains("after more than 3.0s"), "{:?}", record.body);
    let lost = Lost { ring_full: 3, ..Lost::default() };
    let (record, attributes) = told(&Update::Lost(lost));
    assert_eq!((&*record.event_name, &*record.severity_text), ("tcptrace.lost", "WARN"));
    assert_eq!(attributes["tcptrace.lost.ring_full"], Value::IntValue(3));
    assert!(log_record(0, &clock(), &Update::Clock(0), &PodNames::new()).is_none());
}

proptest! {
    /// Whatever processes call themselves, and however many there are.
    #[test]
    fn records_have_a_bound(names in vec(any::<String>(), 0..40), times in 1..500usize) {
        let mut record = leak();
        record.holders = names.iter().zip(1..).map(|(name, pid)| Holder {
            name: Some(name.repeat(times).into()),
            cgroups: Some(Rc::new(Cgroups::parse(&format!("0::/{}\n", name.repeat(times))))),
            ..holder(pid, 3)
        }).collect();
        let (told, attributes) = told(&Update::Stuck(Rc::new(record)));
        let harmless = |text: &str| text.len() <= LONGEST && !text.chars().any(steers);
        for value in attributes.values() {
            match value {
                Value::StringValue(text) => prop_assert!(harmless(text)),
                Value::ArrayValue(list) => prop_assert!(list.values.len() <= HOLDERS),
                _ => {}
            }
        }
        let mut out = Vec::new();
        item(&mut out, &told);
        prop_assert!(out.len() < 32 << 10, "{} bytes", out.len());
    }
}
