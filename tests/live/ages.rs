//! Ages that grow, and half-closes in use, which are no leaks.

use serde_json::json;

use crate::{
    tests,
    tracer::{Pair, Tracer, holder_pids, netns},
};

tests![
    a_half_close_in_use_is_silent,
    a_half_close_that_is_used_late,
    its_age_doubles,
    keepalive_moves_no_age,
];

fn a_half_close_in_use_is_silent() {
    let ns = netns();
    let mut asked = Tracer::watch(&ns, &["--min-age", "200ms", "--verdict", "half-close-in-use"]);
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms", "--fail-on-leak"]);
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
    pair.server.tell(&format!("send {} 1000", pair.served)).expect("sends");
    let seen = asked.next("stuck");
    assert_eq!(seen["verdict"], "half-close-in-use");
    assert!(seen["evidence"]["bytes_sent_since_fin"].as_u64() >= Some(1000));
    // One that leaks later, and is closed: by then the other one was looked at.
    let mut later = Pair::new(&ns);
    later.client_closes();
    assert_eq!(holder_pids(&tracer.next("stuck")), [u64::from(later.server.pid())]);
    later.server_closes();
    tracer.next("resolved");
    let (summary, status) = tracer.finish();
    assert_eq!((summary["stuck"].as_u64(), status.code()), (Some(1), Some(0)));
}

/// Nothing was sent yet when it was first looked at: what was said then is taken back.
fn a_half_close_that_is_used_late() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
    let stuck = tracer.next("stuck");
    pair.server.tell(&format!("send {} 1000", pair.served)).expect("sends");
    let resolved = tracer.next("resolved");
    assert_eq!(
        (&resolved["cookie"], &resolved["verdict"]),
        (&stuck["cookie"], &json!("half-close-in-use"))
    );
    assert!(
        resolved["unknown"]["closed_by"].as_str().is_some_and(|why| why.contains("in use")),
        "{resolved}"
    );
    assert_eq!(tracer.finish().0["leaks"], 0);
}

fn its_age_doubles() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms", "--interval", "20ms"]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let ages: Vec<f64> =
        (0..4).map(|_| tracer.next("stuck")["age_ms"]["min"].as_f64().expect("ms")).collect();
    for (n, age) in ages.iter().enumerate() {
        assert!(*age >= 200.0 * f64::from(1 << n), "report {n} at {age} ms");
    }
    assert_eq!(tracer.finish().0["stuck"], 1, "reports of one socket count once");
}

/// Answers to probes move the time of the last acknowledgement: the age of a socket that was there
/// before must not follow it.
fn keepalive_moves_no_age() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.server.tell(&format!("keepalive {}", pair.served)).expect("sets keepalive");
    pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
    let mut tracer = Tracer::watch(&ns, &["--min-age", "300ms"]);
    let mut last = (0.0, 0.0);
    let mut answered = 0;
    let mut armed = false;
    while answered < 2 {
        let stuck = tracer.next("stuck");
        let of = |field: &str| stuck["age_ms"][field].as_f64().expect("ms");
        assert!(of("min") > last.0 && of("max") > last.1, "it falls: {last:?} {stuck}");
        last = (of("min"), of("max"));
        // Not while a probe is being sent: the timer is armed again after that.
        armed |= stuck["evidence"]["keepalive"] == true;
        let acked = stuck["evidence"]["last_ack_recv_ms"].as_f64().expect("ms");
        answered += u32::from(acked < of("min") - 500.0);
    }
    assert!(armed, "keepalive is on: {:#?}", tracer.heard);
}
