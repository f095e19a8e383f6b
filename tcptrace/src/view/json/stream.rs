//! Transitions by the million: the one line whose writing decides what streaming costs. It is put
//! together by hand; a test holds it against the library's.

use super::write::{age, end, maybe, number, text};
use crate::{
    engine::{unknown::Reason, update::Change},
    prose::reasons,
};

/// Appends the line. `time` is a finished time stamp. Nothing in it is text that others chose.
pub fn transition(out: &mut Vec<u8>, time: &str, change: &Change) {
    let c = &change.connection;
    text(out, "{\"event\":\"transition\",\"time\":\"");
    text(out, time);
    text(out, "\",\"cookie\":");
    maybe(out, (c.cookie != 0).then_some(c.cookie), number);
    text(out, ",\"netns\":");
    number(out, u64::from(c.netns));
    text(
        out,
        if c.family() == 4 { ",\"family\":4,\"local\":\"" } else { ",\"family\":6,\"local\":\"" },
    );
    end(out, c.local);
    text(out, "\",\"remote\":\"");
    end(out, c.remote);
    text(
        out,
        if c.mptcp {
            "\",\"protocol\":\"mptcp\",\"old\":\""
        } else {
            "\",\"protocol\":\"tcp\",\"old\":\""
        },
    );
    text(out, change.old.name());
    text(out, "\",\"new\":\"");
    text(out, change.new.name());
    text(out, "\",\"stayed_ms\":");
    maybe(out, change.stayed.as_ref(), age);
    text(out, ",\"on_cpu_pid\":");
    number(out, u64::from(change.on_cpu_pid));
    let unknown = [
        ("cookie", Reason::ListenersCookie, c.cookie == 0),
        ("stayed_ms", Reason::Unwatched, change.stayed.is_none()),
    ];
    let mut separator = ",\"unknown\":{\"";
    for (field, why, _) in unknown.iter().filter(|(.., is)| *is) {
        text(out, separator);
        text(out, field);
        text(out, "\":\"");
        text(out, reasons::words(*why));
        text(out, "\"");
        separator = ",\"";
    }
    text(out, if separator == ",\"" { "}}\n" } else { "}\n" });
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        net::{IpAddr, SocketAddr},
    };

    use proptest::prelude::*;
    use serde::Serialize;
    use tcptrace_common::state::TcpState;

    use super::*;
    use crate::{
        engine::record::{Age, Connection},
        view::json::{ms::AgeMs, schema},
    };

    #[derive(Serialize)]
    struct TransitionLine {
        event: &'static str,
        time: String,
        cookie: Option<u64>,
        netns: u32,
        family: u8,
        local: SocketAddr,
        remote: SocketAddr,
        protocol: &'static str,
        old: &'static str,
        new: &'static str,
        stayed_ms: Option<AgeMs>,
        on_cpu_pid: u32,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        unknown: BTreeMap<&'static str, &'static str>,
    }

    impl TransitionLine {
        fn new(time: String, change: &Change) -> Self {
            let c = &change.connection;
            let mut unknown = BTreeMap::new();
            if c.cookie == 0 {
                unknown.insert("cookie", reasons::words(Reason::ListenersCookie));
            }
            if change.stayed.is_none() {
                unknown.insert("stayed_ms", reasons::words(Reason::Unwatched));
            }
            Self {
                event: "transition",
                time,
                cookie: (c.cookie != 0).then_some(c.cookie),
                netns: c.netns,
                family: c.family(),
                local: c.local,
                remote: c.remote,
                protocol: if c.mptcp { "mptcp" } else { "tcp" },
                old: change.old.name(),
                new: change.new.name(),
                stayed_ms: change.stayed.as_ref().map(AgeMs::from),
                on_cpu_pid: change.on_cpu_pid,
                unknown,
            }
        }
    }

    fn ends() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(SocketAddr::from)
    }

    proptest! {
        #[test]
        fn as_the_library_writes_it(
            local in ends(), remote in ends(), mptcp: bool, pid: u32, netns: u32,
            cookie in prop_oneof![Just(0), any::<u64>()],
            old in proptest::sample::select(&TcpState::ALL[..]),
            new in proptest::sample::select(&TcpState::ALL[..]),
            // Longer than a century a float would take an exponent.
            stayed in proptest::option::of((0u64..1 << 61, proptest::option::of(0u64..1 << 61))),
        ) {
            let change = Change {
                connection: Connection { cookie, netns, local, remote, mptcp },
                old,
                new,
                stayed: stayed.map(|(min_ns, max_ns)| Age { min_ns, max_ns }),
                on_cpu_pid: pid,
            };
            let mut line = Vec::new();
            transition(&mut line, "T", &change);
            let library = serde_json::to_string(&TransitionLine::new("T".to_owned(), &change)).expect("JSON");
            let value = serde_json::from_str(&library).expect("JSON");
            prop_assert_eq!(String::from_utf8(line).expect("UTF-8"), library + "\n");
            prop_assert_eq!(schema::check(&value), Ok(()));
        }
    }
}
