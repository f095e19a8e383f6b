//! What the kernel programs say of their rare paths: built with the feature `kernel-log` only.

use crate::{
    tests,
    tracer::{Pair, holder_pids, netns, run},
};

tests![an_adoption_is_logged];

fn an_adoption_is_logged() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let path = ns.path();
    let scope = ["--netns", path.to_str().expect("a plain path")];
    // The duration is a deadline: the first report ends it.
    let until = ["--min-age", "200ms", "--count", "1", "--duration", "30s"];
    let (_, out, err) = run(&[&["watch", "--format", "json"][..], &scope, &until].concat());
    let line = out.lines().next().unwrap_or_else(|| panic!("nothing was reported: {err}"));
    let stuck: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(holder_pids(&stuck), [u64::from(pair.server.pid())]);
    let said = format!("tcptrace: kernel: adopted socket {}, state 8", stuck["cookie"]);
    assert!(err.lines().any(|line| line == said), "no {said:?} in {err}");
}
