//! What is normal is learnt, by listener and by remote: `--min-age auto`.

use std::{
    io::Read,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
};

use serde_json::Value;

use crate::{
    doctor::inside,
    recording::{plain, until},
    support::{load::connect_from, netns::Netns},
    tests,
    tracer::{Pair, Tracer, netns, run, start},
};

tests![a_listener_that_is_quick, a_remote_that_is_quick, what_is_not_known_yet, replayed];

/// More than what makes something normal.
const STAYS: usize = 1_200;
/// Connections at the same time.
const AT_ONCE: usize = 30;

/// Connections to a listener, each from another end: one side closes, then the other, at once.
fn short_stays(listener: &TcpListener, server_closes_first: bool) {
    let at = listener.local_addr().expect("an address");
    for n in 0..STAYS / AT_ONCE {
        let source = Ipv4Addr::new(127, 2, 0, n as u8 + 1);
        let mut pairs: Vec<(TcpStream, TcpStream)> = (0..AT_ONCE)
            .map(|_| {
                let client = connect_from(source, at).expect("connects");
                (client, listener.accept().expect("accepts").0)
            })
            .collect();
        for (client, server) in &mut pairs {
            let (first, then) =
                if server_closes_first { (server, client) } else { (client, server) };
            first.shutdown(Shutdown::Write).expect("half-closes");
            assert_eq!(then.read(&mut [0]).expect("reads"), 0);
            then.shutdown(Shutdown::Write).expect("closes the other half");
        }
    }
}

/// A connection to a listener whose other end goes, and ours does not. Both ends.
fn stuck(at: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(at).expect("connects");
    let server = listener.accept().expect("accepts").0;
    (client, server)
}

fn watch(ns: &Netns, record: &Path) -> Tracer {
    Tracer::watch(ns, &["--min-age", "auto", "--record", plain(record)])
}

/// The first report, which is of a stay that says what is normal.
fn with_normal(tracer: &mut Tracer) -> Value {
    tracer.wait_for("what is normal", |e| e["event"] == "stuck" && e["normal"].is_object())
}

fn a_listener_that_is_quick() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let mut tracer = watch(&ns, &dir.path().join("x.tct"));
    let (listener, _both) = inside(&ns, || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        short_stays(&listener, false);
        let (client, server) = stuck(listener.local_addr().expect("an address"), &listener);
        client.shutdown(Shutdown::Write).expect("half-closes");
        (listener, (client, server))
    });
    let told = with_normal(&mut tracer);
    let normal = &told["normal"];
    assert_eq!((&normal["at"], &normal["per_mille"]), (&"listener".into(), &999.into()));
    assert!(normal["of"].as_u64() >= Some(1_000), "{normal}");
    // It was reported when it was ten times as old as what is normal, and no sooner.
    let below = normal["below_ms"].as_f64().expect("a length");
    let age = told["age_ms"]["min"].as_f64().expect("an age");
    assert!(age >= 10.0 * below && age >= 100.0, "{told}");
    let port = listener.local_addr().expect("an address").port();
    assert!(told["local"].as_str().is_some_and(|l| l.ends_with(&format!(":{port}"))), "{told}");
    tracer.finish();
}

fn a_remote_that_is_quick() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let mut tracer = watch(&ns, &dir.path().join("x.tct"));
    let _held = inside(&ns, || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        short_stays(&listener, true);
        let (client, server) = stuck(listener.local_addr().expect("an address"), &listener);
        server.shutdown(Shutdown::Write).expect("half-closes");
        (listener, client, server)
    });
    let told = with_normal(&mut tracer);
    assert_eq!(told["normal"]["at"], "remote", "{told}");
    assert_eq!(told["role"], "client");
    tracer.finish();
}

fn what_is_not_known_yet() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let mut tracer = watch(&ns, &dir.path().join("x.tct"));
    let mut pair = Pair::between(start(&ns), start(&ns), "127.0.0.1:0", "127.0.0.1");
    pair.client_closes();
    let told = tracer.next("stuck");
    assert!(told["normal"].is_null(), "{told}");
    assert!(told["unknown"]["normal"].as_str().is_some_and(|why| why.contains("1,000")), "{told}");
    assert!(told["age_ms"]["min"].as_f64() >= Some(1_000.0), "as without it: {told}");
    tracer.finish();
}

/// A replay knows what was normal then, without being told that it was asked for.
fn replayed() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let path = dir.path().join("x.tct");
    let mut tracer = watch(&ns, &path);
    let _held = inside(&ns, || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        short_stays(&listener, false);
        let (client, server) = stuck(listener.local_addr().expect("an address"), &listener);
        client.shutdown(Shutdown::Write).expect("half-closes");
        (listener, client, server)
    });
    let told = with_normal(&mut tracer);
    tracer.finish();
    until("the file is whole", || path.exists());
    let (status, out, err) = run(&["replay", "--json", plain(&path)]);
    assert_eq!(status.code(), Some(0), "{err}");
    let replayed = out.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    let same = replayed.filter(|e| e["event"] == "stuck").find(|e| e["cookie"] == told["cookie"]);
    assert_eq!(same, Some(told), "the first report of it");

    // One that was made without does not have it.
    let plainly = dir.path().join("y.tct");
    let tracer = Tracer::watch(&ns, &["--record", plain(&plainly)]);
    tracer.finish();
    let (status, _, err) = run(&["replay", plain(&plainly), "--min-age", "auto"]);
    assert_eq!(status.code(), Some(2), "{err}");
}
