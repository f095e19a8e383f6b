//! Who is named, for each way to leak.

use std::{os::fd::AsFd, process::Command};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::json;

use crate::{
    support::netns::Netns,
    tests,
    tracer::{Pair, Tracer, Unaccepted, holder_pids, netns, start},
};

tests![
    server_side,
    client_side,
    over_ipv6,
    over_a_mapped_address,
    mptcp,
    there_before_the_start,
    there_before_the_start_and_never_accepted,
    there_before_the_start_in_a_named_namespace,
    in_flight_over_a_unix_socket,
    an_io_uring_fixed_file,
    from_within_a_pid_namespace,
    a_holder_in_a_pid_namespace_has_two_pids,
    the_task_on_the_cpu_is_not_the_owner,
    an_inherited_descriptor_names_both,
    never_accepted_names_the_listener,
    each_in_the_queue_of_its_own_listener,
    a_thread_with_its_own_descriptors,
];

fn server_side() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("send {} 100", pair.connected)).expect("sends");
    pair.client_closes();
    let stuck = tracer.next("stuck");
    assert_eq!(holder_pids(&stuck), [u64::from(pair.server.pid())]);
    assert_eq!(stuck["holders"][0]["fd"], pair.served);
    assert_eq!(stuck["holder_source"], "fd-table");
    assert_eq!(stuck["state"], "CLOSE_WAIT");
    assert_eq!(stuck["role"], "server");
    assert_eq!(stuck["local"], pair.address.to_string());
    assert_eq!(stuck["netns"], ns.inode());
    assert_eq!(stuck["verdict"], "unread-data");
    assert_eq!(stuck["evidence"]["recv_q"], 101, "the FIN counts as one");
    assert_eq!(stuck["age_ms"]["min"], stuck["age_ms"]["max"], "it was traced");
    assert!(stuck["age_ms"]["min"].as_f64().expect("ms") >= 200.0);

    pair.server_closes();
    let resolved = tracer.next("resolved");
    assert_eq!(resolved["cookie"], stuck["cookie"]);
    assert_eq!(resolved["closed_by"]["pid"], pair.server.pid());
    let (stayed, age) = (&resolved["stayed_ms"]["min"], &stuck["age_ms"]["min"]);
    assert!(stayed.as_f64() >= age.as_f64());

    let (summary, status) = tracer.finish();
    assert_eq!(status.code(), Some(0));
    let counts = ["stuck", "resolved", "still_open"].map(|k| summary[k].clone());
    assert_eq!(counts, [1, 1, 0].map(|n| json!(n)));
    assert_eq!(summary["lost"]["ring_full"], 0);
}

fn client_side() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    pair.server_closes();
    let stuck = tracer.next("stuck");
    assert_eq!(holder_pids(&stuck), [u64::from(pair.client.pid())]);
    assert_eq!(stuck["holders"][0]["fd"], pair.connected);
    assert_eq!(stuck["role"], "client");
    assert_eq!(stuck["remote"], pair.address.to_string());
    assert_eq!(stuck["verdict"], "unread-fin");
    pair.client_closes();
    assert_eq!(tracer.next("resolved")["closed_by"]["pid"], pair.client.pid());
}

fn leak_over(ns: &Netns, listen: &str, by: &str) -> serde_json::Value {
    let mut tracer = Tracer::watch(ns, &["--min-age", "200ms"]);
    let mut pair = Pair::over(ns, listen, by);
    pair.client_closes();
    let stuck = tracer.next("stuck");
    assert_eq!(holder_pids(&stuck), [u64::from(pair.server.pid())]);
    assert!(
        stuck["local"].as_str().expect("local").ends_with(&format!(":{}", pair.address.port()))
    );
    stuck
}

fn over_ipv6() {
    let stuck = leak_over(&netns(), "[::1]:0", "::1");
    assert_eq!(stuck["family"], 6);
    assert!(stuck["local"].as_str().expect("local").starts_with("[::1]:"));
}

fn over_a_mapped_address() {
    let stuck = leak_over(&netns(), "[::]:0", "127.0.0.1");
    assert_eq!(stuck["family"], 4, "IPv4 in an IPv6 socket is IPv4");
    assert!(stuck["local"].as_str().expect("local").starts_with("127.0.0.1:"));
    assert!(stuck["remote"].as_str().expect("remote").starts_with("127.0.0.1:"));
}

/// The application's socket is MPTCP's own; its subflows are the kernel's and are not reported.
fn mptcp() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut open = Tracer::watch(&ns, &["--min-age", "200ms", "--state", "established"]);
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen-mptcp 127.0.0.1:0 8").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    let connected = client.number(&format!("connect-mptcp {address}")).expect("connects");
    let served = server.number(&format!("accept {listener}")).expect("accepts");
    for _ in 0..2 {
        assert_eq!(open.next("stuck")["protocol"], "mptcp", "both ends, and no subflow");
    }
    // Had a subflow been one more, it would have come before these.
    let mut later = Pair::new(&ns);
    let mut plain = std::collections::HashSet::new();
    while plain.len() < 2 {
        let stuck = open.next("stuck");
        plain.extend(stuck["cookie"].as_u64().filter(|_| stuck["protocol"] == "tcp"));
    }
    assert_eq!(open.finish().0["stuck"], 4);
    client.tell(&format!("close {connected}")).expect("closes");
    let stuck = tracer.next("stuck");
    assert_eq!(stuck["protocol"], "mptcp");
    assert_eq!(holder_pids(&stuck), [u64::from(server.pid())]);
    assert_eq!(stuck["holders"][0]["fd"], served);
    server.tell(&format!("close {served}")).expect("closes");
    tracer.next("resolved");
    later.client_closes();
    assert_eq!(holder_pids(&tracer.next("stuck")), [u64::from(later.server.pid())]);
    let (summary, _) = tracer.finish();
    assert_eq!(summary["stuck"], 2, "the subflow is not another one");
}

fn there_before_the_start() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let stuck = tracer.next("stuck");
    assert_eq!(holder_pids(&stuck), [u64::from(pair.server.pid())]);
    let (min, max) = (
        stuck["age_ms"]["min"].as_f64().expect("min"),
        stuck["age_ms"]["max"].as_f64().expect("max"),
    );
    assert!(200.0 <= min && min < max && max < 30_000.0, "an honest interval: {min}..{max}");
    pair.server_closes();
    assert_eq!(tracer.next("resolved")["cookie"], stuck["cookie"]);
    assert_eq!(tracer.finish().0["stuck"], 1, "dumped and traced, and still one");
}

/// No descriptor leads to such a socket: only a look into its namespace finds it.
fn there_before_the_start_and_never_accepted() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 8);
    queue.clients_give_up(1);
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let stuck = tracer.next("stuck");
    assert_eq!(stuck["verdict"], "never-accepted");
    assert_eq!(holder_pids(&stuck), [u64::from(queue.server.pid())]);
}

/// No process is in such a namespace: only its name leads there.
fn there_before_the_start_in_a_named_namespace() {
    let name = Named::new(&netns());
    let (listener, client) = name.within(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("listens");
        let client = std::net::TcpStream::connect(listener.local_addr().expect("an address"))
            .expect("connects");
        (listener, client)
    });
    drop(client);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&listener);
    let mut tracer = Tracer::unscoped(&["--min-age", "200ms", "--netns", &name.0]);
    let stuck = tracer.next("stuck");
    assert_eq!(stuck["verdict"], "never-accepted");
    assert_eq!(stuck["local"], listener.local_addr().expect("an address").to_string());
    // A test beside may be starting a program: between fork and exec its child holds all that we
    // do, and then no more.
    let own = u64::from(std::process::id());
    let file = |pid: u64| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok();
    let let_go = |pid: &u64| file(*pid) != file(own);
    let others: Vec<u64> = holder_pids(&stuck).into_iter().filter(|pid| *pid != own).collect();
    assert!(holder_pids(&stuck).contains(&own) && others.iter().all(let_go), "{stuck}");
}

/// A name below /run/netns, as ip netns gives, that goes with its guard.
struct Named(String);

impl Named {
    fn new(netns: &Netns) -> Self {
        let name = format!("tcptrace-test-{}", std::process::id());
        let path = format!("/run/netns/{name}");
        std::fs::create_dir_all("/run/netns").expect("root may");
        std::fs::write(&path, "").expect("root may");
        let mounted =
            Command::new("mount").arg("--bind").args([netns.path(), path.into()]).status();
        assert!(mounted.is_ok_and(|s| s.success()), "mounts");
        Self(name)
    }

    /// Runs something in it, on a thread that ends there.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let there = std::fs::File::open(format!("/run/netns/{}", self.0)).expect("it is there");
        std::thread::scope(|scope| {
            let run = || {
                move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("enters");
                work()
            };
            scope.spawn(run).join().expect("no panic")
        })
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let path = format!("/run/netns/{}", self.0);
        let _ = Command::new("umount").arg(&path).status();
        let _ = std::fs::remove_file(path);
    }
}

/// On its way through a unix socket, a descriptor is in nobody's table.
fn in_flight_over_a_unix_socket() {
    held_outside_descriptor_tables("post");
}

/// A ring's table of files is no process's.
fn an_io_uring_fixed_file() {
    held_outside_descriptor_tables("fix");
}

fn held_outside_descriptor_tables(how: &str) {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    pair.server.tell(&format!("{how} {}", pair.served)).expect("leaves the table");
    pair.client_closes();
    let stuck = tracer.next("stuck");
    assert_eq!(stuck["holder_source"], "outside-fd-tables");
    assert_eq!(stuck["holders"], json!([]));
    assert!(
        stuck["unknown"]["holders"].as_str().is_some_and(|why| why.contains("in flight")),
        "{stuck}"
    );
    assert_eq!(stuck["age_ms"]["min"], stuck["age_ms"]["max"], "it was traced all the same");
    // With the unix socket or the ring the file goes, and with it the connection.
    let Pair { server, client, .. } = pair;
    drop(server);
    assert_eq!(tracer.next("resolved")["cookie"], stuck["cookie"]);
    drop(client);
}

/// Pids are others there: who is outside can't be named, and is not named wrongly.
fn from_within_a_pid_namespace() {
    let ns = netns();
    let mut command = Command::new("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
        env!("CARGO_BIN_EXE_tcptrace"),
    ]);
    command.args(["watch", "--format", "json", "--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    // By its port: the path of a namespace leads through this process, which is not to be seen
    // there.
    command.args(["--lport", &pair.address.port().to_string(), "--local", "127.0.0.1"]);
    let mut tracer = Tracer::start(command);
    pair.client_closes();
    let stuck = tracer.wait_for("ours", |e| e["event"] == "stuck" && e["netns"] == ns.inode());
    assert_eq!(stuck["holders"], json!([]), "its holder is outside");
    assert_eq!(stuck["holder_source"], "none");
    assert!(
        stuck["unknown"]["holders"]
            .as_str()
            .is_some_and(|why| why.contains("some processes can't be seen")),
        "{stuck}"
    );
    assert_eq!(stuck["verdict"], "unread-fin", "the socket itself is seen");
}

fn a_holder_in_a_pid_namespace_has_two_pids() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    let child = pair.server.number("fork-inside").expect("forks");
    pair.client_closes();
    let stuck = tracer.next("stuck");
    let holder = |pid: u32| {
        let holders = stuck["holders"].as_array().expect("holders");
        holders
            .iter()
            .find(|h| h["pid"] == pid)
            .unwrap_or_else(|| panic!("{pid} holds it: {stuck}"))
            .clone()
    };
    assert_eq!(holder(child)["inner_pid"], 1);
    assert_eq!(holder(pair.server.pid())["inner_pid"], json!(null));
}

/// On loopback the peer's close() runs the receiving side too: who reads the current task there
/// blames the peer, the one process that did close.
fn the_task_on_the_cpu_is_not_the_owner() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms", "--transitions"]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let entered =
        tracer.wait_for("CLOSE_WAIT", |e| e["event"] == "transition" && e["new"] == "CLOSE_WAIT");
    assert_eq!(entered["old"], "ESTABLISHED");
    assert_eq!(entered["on_cpu_pid"], pair.client.pid(), "the naive reading names the peer");
    let stuck = tracer.next("stuck");
    assert_eq!(stuck["cookie"], entered["cookie"]);
    assert_eq!(holder_pids(&stuck), [u64::from(pair.server.pid())], "we name the holder");
}

fn an_inherited_descriptor_names_both() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    let child = pair.server.number("fork").expect("forks");
    pair.client_closes();
    let stuck = tracer.next("stuck");
    let mut expected = [u64::from(pair.server.pid()), u64::from(child)];
    expected.sort_unstable();
    assert_eq!(holder_pids(&stuck), expected);
    assert_eq!(stuck["verdict"], "inherited-fd");
    for holder in stuck["holders"].as_array().expect("holders") {
        assert_eq!(holder["opener"], json!(holder["pid"] != child), "{holder}");
    }
    // One of two closes: nothing is resolved, the next report names who is left, and who let go.
    pair.server_closes();
    let again =
        tracer.wait_for("the child alone", |e| e["event"] == "stuck" && holder_pids(e).len() == 1);
    assert_eq!(holder_pids(&again), [u64::from(child)]);
    assert_eq!(
        (&again["verdict"], &again["holders"][0]["opener"]),
        (&json!("inherited-fd"), &json!(false))
    );
    assert_eq!(again["former_holders"][0]["pid"], pair.server.pid());
}

fn never_accepted_names_the_listener() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut queue = Unaccepted::new(&ns, 8);
    queue.clients_give_up(3);
    let stuck = tracer.next("stuck");
    assert_eq!(stuck["verdict"], "never-accepted");
    assert_eq!(stuck["holder_source"], "listener");
    assert_eq!(stuck["listener"]["pid"], queue.server.pid());
    assert_eq!(stuck["listener"]["local"], queue.address.to_string());
    assert_eq!(
        (stuck["listener"]["queue"].as_u64(), stuck["listener"]["limit"].as_u64()),
        (Some(3), Some(8))
    );
    assert_eq!(stuck["evidence"]["accepted"], false);
}

/// SO_REUSEPORT: the kernel spreads connections over listeners of different processes.
fn each_in_the_queue_of_its_own_listener() {
    let ns = netns();
    let (mut one, mut two, mut client) = (start(&ns), start(&ns), start(&ns));
    let listener = one.number("listen-shared 127.0.0.1:0 64").expect("listens");
    let address = one.address(&format!("address {listener}")).expect("an address");
    let other = two.number(&format!("listen-shared {address} 64")).expect("listens");
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    for _ in 0..16 {
        let connected = client.number(&format!("connect {address}")).expect("connects");
        client.tell(&format!("close {connected}")).expect("closes");
    }
    // By cookie: where sixteen connections take long, the first is reported a second time before
    // the last.
    let mut blamed = std::collections::HashMap::new();
    while blamed.len() < 16 {
        let stuck = tracer.next("stuck");
        let &[pid] = &holder_pids(&stuck)[..] else { panic!("one listener each: {stuck}") };
        blamed.insert(stuck["cookie"].as_u64().expect("a cookie"), pid);
    }
    // What each process finds in its queue is what it was blamed for.
    for (actor, listener) in [(&mut one, listener), (&mut two, other)] {
        let pid = u64::from(actor.pid());
        for _ in blamed.values().filter(|blamed| **blamed == pid) {
            actor.number(&format!("accept {listener}")).expect("accepts without waiting");
        }
        blamed.retain(|_, blamed| *blamed != pid);
    }
    assert!(blamed.is_empty(), "nobody else has a queue: {blamed:?}");
}

fn a_thread_with_its_own_descriptors() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &["--min-age", "200ms"]);
    let mut pair = Pair::new(&ns);
    let tid = pair.server.number(&format!("thread {}", pair.served)).expect("a thread");
    pair.client_closes();
    let stuck = tracer.next("stuck");
    assert_eq!(holder_pids(&stuck), [u64::from(pair.server.pid())]);
    assert_eq!(stuck["holders"][0]["tid"], tid);
}
