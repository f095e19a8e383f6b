//! What is asked for is shown, and nothing else.

use std::{
    net::{TcpListener, TcpStream},
    thread,
};

use crate::{
    support::{actor::Actor, cgroup::Cgroup},
    tests,
    tracer::{Pair, Tracer, Unaccepted, holder_pids, netns, run, start},
};

tests![
    the_holders_pid,
    a_listeners_pid,
    children,
    comm,
    one_of_two_cgroups,
    containers,
    one_of_two_namespaces,
    ends_and_family,
    stays_of_a_port,
    transitions_by_pid,
    what_does_not_exist,
];

const BRIEF: [&str; 2] = ["--min-age", "200ms"];

/// Two leaks, of which the arguments select the first.
fn first_of_two(first: &mut Pair, second: &mut Pair, args: &[&str]) {
    let mut tracer = Tracer::unscoped(&[&BRIEF, args].concat());
    // The one that is not asked for leaks first: had it been taken, it would come first.
    second.client_closes();
    first.client_closes();
    let stuck = tracer.next("stuck");
    assert_eq!(holder_pids(&stuck), [u64::from(first.server.pid())]);
    let (summary, _) = tracer.finish();
    assert_eq!(summary["stuck"], 1, "the other one was not asked for");
}

fn the_holders_pid() {
    let ns = netns();
    let (mut mine, mut other) = (Pair::new(&ns), Pair::new(&ns));
    let peer = Tracer::unscoped(&[&BRIEF[..], &["--pid", &mine.client.pid().to_string()]].concat());
    let pid = mine.server.pid().to_string();
    first_of_two(&mut mine, &mut other, &["--pid", &pid]);
    // It leaks from now on, and that is all it leaks.
    let Pair { client, .. } = mine;
    let mut later = Pair::between(start(&ns), client, "127.0.0.1:0", "127.0.0.1");
    later.server_closes();
    only(peer, &later.client, "the peer held nothing that leaked");
}

/// Waits for what leaked last, so that what leaked before would have been found, and sees that it
/// is all there was.
fn only(mut tracer: Tracer, holder: &Actor, why: &str) {
    assert_eq!(holder_pids(&tracer.next("stuck")), [u64::from(holder.pid())], "{why}");
    assert_eq!(tracer.finish().0["stuck"], 1, "{why}");
}

fn a_listeners_pid() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 8);
    let mut tracer =
        Tracer::unscoped(&[&BRIEF[..], &["--pid", &queue.server.pid().to_string()]].concat());
    queue.clients_give_up(1);
    assert_eq!(tracer.next("stuck")["verdict"], "never-accepted");
}

fn children() {
    let ns = netns();
    let (mut mine, mut other) = (Pair::new(&ns), Pair::new(&ns));
    let child = mine.server.number("fork").expect("forks");
    mine.server_closes();
    let pid = mine.server.pid().to_string();
    let alone = Tracer::unscoped(&[&BRIEF[..], &["--pid", &pid]].concat());
    let mut tracer = Tracer::unscoped(&[&BRIEF[..], &["--pid", &pid, "--children"]].concat());
    other.client_closes();
    mine.client_closes();
    assert_eq!(holder_pids(&tracer.next("stuck")), [u64::from(child)]);
    assert_eq!(tracer.finish().0["stuck"], 1);
    let Pair { server, .. } = mine;
    let mut later = Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1");
    later.client_closes();
    only(alone, &later.server, "the parent itself holds the first one no more");
}

/// A name in full; a digest by its first digits.
fn containers() {
    let digest = |digit| format!("docker-{}.scope", String::from(digit).repeat(64));
    let unique = std::process::id();
    let (web, web2) = (format!("web{unique}"), format!("web{unique}2"));
    let by_name = [&web, &web2].map(|name| format!("lxc.payload.{name}"));
    for (names, called) in [
        (by_name, &web[..]),
        (["a", "b"].map(digest), "aaaaaaaaaaaa"),
        (["c", "d"].map(digest), "ccc"),
    ] {
        let cgroup = Cgroup::new(format!("containers-{called}")).expect("root may make cgroups");
        let ns = netns();
        let pair = |name: &str| {
            let server = start(&ns);
            cgroup.take_into(name, &server).expect("moves");
            Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1")
        };
        let [mut mine, mut other] = names.each_ref().map(|name| pair(name));
        let path = ns.path();
        let scope = ["--container", called, "--netns", path.to_str().expect("plain")];
        first_of_two(&mut mine, &mut other, &scope);
    }
}

fn comm() {
    let ns = netns();
    let (mut mine, mut other) = (Pair::new(&ns), Pair::new(&ns));
    mine.server.tell("name leaky one").expect("renames itself");
    let path = ns.path();
    first_of_two(
        &mut mine,
        &mut other,
        &["--comm", "leaky one", "--netns", path.to_str().expect("plain")],
    );
}

fn one_of_two_cgroups() {
    let [mine, other] =
        ["mine", "other"].map(|name| Cgroup::new(name).expect("root may make cgroups"));
    let ns = netns();
    let pair = |cgroup: &Cgroup, below: &str| {
        let server = start(&ns);
        cgroup.take(below, &server).expect("moves");
        Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1")
    };
    let absolute = mine.path().to_str().expect("plain").to_owned();
    let relative = mine.path().file_name().and_then(|n| n.to_str()).expect("plain").to_owned();
    for (path, below) in [(&absolute, ""), (&relative, "below")] {
        first_of_two(&mut pair(&mine, below), &mut pair(&other, ""), &["--cgroup", path]);
    }
    // Moved away after its socket was made: the socket's own cgroup still says where it belongs.
    let mut moved = pair(&mine, "");
    other.take("", &moved.server).expect("moves");
    first_of_two(&mut moved, &mut pair(&other, ""), &["--cgroup", &absolute]);
}

fn one_of_two_namespaces() {
    let (mine, other) = (netns(), netns());
    let path = mine.path();
    let by_path = |_: &Pair| path.to_str().expect("plain").to_owned();
    let by_pid = |pair: &Pair| format!("pid:{}", pair.client.pid());
    for name in [&by_path as &dyn Fn(&Pair) -> String, &by_pid] {
        let (mut first, mut second) = (Pair::new(&mine), Pair::new(&other));
        let name = name(&first);
        first_of_two(&mut first, &mut second, &["--netns", &name]);
    }
}

fn ends_and_family() {
    let ns = netns();
    let path = ns.path();
    let scope = ["--netns", path.to_str().expect("plain")];
    let pairs = || (Pair::over(&ns, "127.0.0.2:0", "127.0.0.2"), Pair::over(&ns, "[::1]:0", "::1"));
    let port = |pair: &Pair| pair.address.port().to_string();
    type Args = fn(&Pair, &dyn Fn(&Pair) -> String) -> Vec<String>;
    let ways: [Args; 5] = [
        |_, _| vec!["--family".into(), "4".into()],
        |_, _| vec!["--local".into(), "127.0.0.2/31".into()],
        |pair, port| vec!["--lport".into(), port(pair)],
        |pair, port| vec!["--local".into(), format!("127.0.0.2:{}", port(pair))],
        |_, _| vec!["--remote".into(), "127.0.0.0/8".into()],
    ];
    for way in ways {
        let (mut first, mut second) = pairs();
        let args = way(&first, &port);
        let args: Vec<&str> = scope.into_iter().chain(args.iter().map(String::as_str)).collect();
        first_of_two(&mut first, &mut second, &args);
    }
}

/// A client's SYN passes, because its port is not set yet; what is refused afterwards leaves
/// nothing behind that a later socket at its address would be taken for.
fn stays_of_a_port() {
    const PORT: u16 = 8080;
    const COUNT: usize = 5_000;
    let ns = netns();
    let port = PORT.to_string();
    let tracer = Tracer::watch(&ns, &["--state", "all", "--lport", &port, "--min-age", "1s"]);
    thread::scope(|scope| {
        scope.spawn(|| {
            ns.enter().expect("enters");
            let listener = TcpListener::bind(("127.0.0.1", PORT)).expect("binds");
            for _ in 0..COUNT {
                let client = TcpStream::connect(("127.0.0.1", PORT)).expect("connects");
                let (served, _) = listener.accept().expect("accepts");
                drop(client);
                drop(served);
            }
        });
    });
    let (summary, _) = tracer.finish();
    let stays = &summary["stays"];
    let count = |state: &str| stays[state]["count"].as_u64().unwrap_or(0);
    assert!(count("CLOSE_WAIT") >= COUNT as u64 * 9 / 10, "they were watched: {stays}");
    assert!(count("LISTEN") <= 1, "one listener, closed once: {stays}");
    assert_eq!(count("SYN_SENT"), 0, "none of the clients' own: {stays}");
    assert!(summary["stuck"].as_u64() <= Some(1), "the listener at most: {summary}");
}

/// The whole life of a connection is the server's, though none of its first half runs there.
fn transitions_by_pid() {
    let ns = netns();
    let (mut server, other) = (start(&ns), Pair::new(&ns));
    let listener = server.number("listen 127.0.0.1:0 8").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let pid = server.pid().to_string();
    let mut tracer =
        Tracer::unscoped(&["--transitions", "--state", "all", "--min-age", "10s", "--pid", &pid]);
    drop(other);
    let mut client = start(&ns);
    let connected = client.number(&format!("connect {address}")).expect("connects");
    let served = server.number(&format!("accept {listener}")).expect("accepts");
    client.tell(&format!("close {connected}")).expect("closes");
    server.tell(&format!("close {served}")).expect("closes");
    tracer.wait_for("the end", |e| e["event"] == "transition" && e["new"] == "CLOSE");
    let changes = tracer.heard.iter().filter(|e| e["event"] == "transition");
    let states: Vec<String> = changes
        .map(|e| {
            assert_eq!(e["local"], address.to_string(), "nobody else's");
            e["new"].as_str().expect("a state").to_owned()
        })
        .collect();
    assert_eq!(states, ["SYN_RECV", "ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSE"]);
}

fn what_does_not_exist() {
    // The largest pid there can be is never given out here.
    for args in [
        ["--pid", "4194304"],
        ["--cgroup", "no/such/cgroup"],
        ["--netns", "no-such-netns"],
        ["--netns", "pid:4194304"],
        ["--netns", "pid:x"],
        ["--container", "0123456789abcdef"],
        ["--container", "no-such-name"],
    ] {
        let (status, out, err) = run(&["watch", args[0], args[1]]);
        assert_eq!(status.code(), Some(2), "{args:?}: {err}");
        assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{err}");
        assert!(
            err.starts_with("tcptrace: ") && err.contains(args[0]) && err.contains(args[1]),
            "{err}"
        );
    }
}
