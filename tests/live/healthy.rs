//! Hosts on which nothing is wrong, however busy or odd they look: the doctor finds nothing there.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::{
    doctor::{Said, inhabited, inside, set},
    service::Service,
    support::{load::run_load, netns::Netns},
    tests,
    tracer::{DEADLINE, Pair, Unaccepted, netns, start},
};

tests![
    idle,
    an_idle_pool_with_keepalive,
    many_short_connections,
    thousands_of_time_wait,
    many_that_are_open,
    a_burst_that_waits,
    a_slow_reader,
    a_half_close_in_use,
    a_fork_server,
    a_tcp_proxy,
    nobody_listens,
    resets,
    many_descriptors_of_more,
    one_connection_that_is_not_closed,
    nginx_under_load,
    nginx_as_a_proxy,
    haproxy_under_load,
    redis_with_a_pool,
];

/// Nothing is found, and a script hears so.
fn calm(ns: &Netns) -> Said {
    let said = Said::within(ns, &["--fail-on", "low", "--for", "500ms"]);
    assert!(said.findings.is_empty(), "{:#?}", said.findings);
    assert_eq!(said.code, Some(0), "{}", said.summary);
    said
}

/// The same while something goes on in the namespace, again and again, on two threads.
fn calm_during(ns: &Netns, work: impl Fn() -> io::Result<()> + Sync) -> Said {
    let (over, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let go_on = || {
        ns.enter().expect("enters");
        while !over.load(Ordering::Relaxed) {
            work().expect("the load goes on");
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        // Also where the test fails: the scope waits for its threads.
        let _ends = Ends(&over);
        let busy = [scope.spawn(go_on), scope.spawn(go_on)];
        let deadline = Instant::now() + DEADLINE;
        while done.load(Ordering::Relaxed) < 100 {
            assert!(Instant::now() < deadline, "the load makes no progress");
            assert!(busy.iter().all(|thread| !thread.is_finished()), "the load ended");
            thread::yield_now();
        }
        calm(ns)
    })
}

/// Says that it is over when it goes.
pub struct Ends<'a>(pub &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn states(said: &Said, state: &str) -> u64 {
    said.summary["states"][state].as_u64().unwrap_or(0)
}

fn idle() {
    let (ns, _somebody) = inhabited();
    let said = calm(&ns);
    assert!(said.remarks.is_empty(), "{:#?}", said.remarks);
}

fn an_idle_pool_with_keepalive() {
    let ns = netns();
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 60").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    for _ in 0..50 {
        let connected = client.number(&format!("connect {address}")).expect("connects");
        client.tell(&format!("keepalive {connected}")).expect("sets keepalive");
        server.number(&format!("accept {listener}")).expect("accepts");
    }
    let said = calm(&ns);
    assert_eq!(states(&said, "ESTABLISHED"), 100);
    let keepalive = said.settings.iter().find(|s| s["name"] == "net.ipv4.tcp_keepalive_time");
    let here = keepalive.and_then(|s| s["here"].as_str()).expect("numbers");
    assert!(here.ends_with("of 100 established connections have keepalive on"), "{here}");
}

/// As on a machine of a usual size: a small one has 4,096 places.
fn room_for_time_wait(ns: &Netns) {
    set(ns, "ipv4/tcp_max_tw_buckets", "65536");
}

fn many_short_connections() {
    let (ns, _somebody) = inhabited();
    room_for_time_wait(&ns);
    thread::scope(|scope| {
        let load = scope.spawn(|| run_load(&ns, 20_000).expect("the load runs"));
        while !load.is_finished() {
            calm(&ns);
        }
    });
    calm(&ns);
}

/// A connection that its client closes first.
fn short(to: SocketAddr) -> io::Result<()> {
    let mut client = TcpStream::connect(to)?;
    client.shutdown(Shutdown::Write)?;
    client.read_to_end(&mut Vec::new()).map(drop)
}

/// Between addresses that are no loopback's, so that no port in TIME_WAIT is taken again.
fn thousands_of_time_wait() {
    let (ns, _somebody) = inhabited();
    room_for_time_wait(&ns);
    let mut ip = Command::new("ip");
    ip.args(["address", "add", "10.78.0.1/24", "dev", "lo"]);
    ns.enter_in(&mut ip).expect("enters");
    assert!(ip.status().expect("ip is there").success());
    inside(&ns, || {
        let listener = TcpListener::bind("10.78.0.1:8080").expect("listens");
        let to = listener.local_addr().expect("an address");
        thread::scope(|scope| {
            let client = scope.spawn(|| {
                ns.enter().expect("enters");
                (0..5_000).try_for_each(|_| short(to))
            });
            for _ in 0..5_000 {
                let (mut served, _) = listener.accept().expect("accepts");
                served.read_to_end(&mut Vec::new()).expect("the client closes");
            }
            client.join().expect("no panic").expect("connects");
        });
    });
    let said = calm(&ns);
    assert!(states(&said, "TIME_WAIT") >= 4_000, "{}", said.summary);
    let remark = said.remarks.iter().find(|r| r["name"] == "time-wait").expect("a remark");
    assert!(remark["text"].as_str().is_some_and(|t| t.contains("by design")), "{remark}");
}

fn many_that_are_open() {
    let (ns, _somebody) = inhabited();
    let _open = inside(&ns, || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let to = listener.local_addr().expect("an address");
        let pair = |_| (TcpStream::connect(to).expect("connects"), listener.accept().expect("one"));
        (0..300).map(pair).collect::<Vec<_>>()
    });
    assert_eq!(states(&calm(&ns), "ESTABLISHED"), 600);
}

fn a_burst_that_waits() {
    let ns = netns();
    let mut queue = Unaccepted::new(&ns, 60);
    for _ in 0..50 {
        queue.client.number(&format!("connect {}", queue.address)).expect("connects");
    }
    calm(&ns);
    // Some clients have gone before anybody took them: not for long yet.
    queue.clients_give_up(5);
    calm(&ns);
}

fn a_slow_reader() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    while pair.server.number(&format!("try-send {} 100000", pair.served)).expect("sends") > 0 {}
    calm(&ns);
}

fn a_half_close_in_use() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client.tell(&format!("shutdown {}", pair.connected)).expect("half-closes");
    while pair.server.number(&format!("try-send {} 100000", pair.served)).expect("sends") > 0 {}
    let said = Said::within(&ns, &["--min-age", "0"]);
    assert!(said.findings.is_empty() && said.remarks.is_empty(), "{said:#?}");
}

fn a_fork_server() {
    let ns = netns();
    let mut pairs: Vec<Pair> = (0..3).map(|_| Pair::new(&ns)).collect();
    for pair in &mut pairs {
        for _ in 0..3 {
            pair.server.number("fork").expect("forks");
        }
        pair.server.number(&format!("send {} 10", pair.served)).expect("sends");
    }
    calm(&ns);
}

/// Two sockets a connection, and each half is passed on.
fn a_tcp_proxy() {
    let (ns, _somebody) = inhabited();
    let (backend, front) = inside(&ns, || {
        let listen = || TcpListener::bind("127.0.0.1:0").expect("listens");
        (listen(), listen())
    });
    let end = |listener: &TcpListener| listener.local_addr().expect("an address");
    let (to_backend, to_front) = (end(&backend), end(&front));
    thread::spawn(move || {
        for client in backend.incoming().flatten() {
            thread::spawn(move || io::copy(&mut &client, &mut &client));
        }
    });
    let within = ns.path();
    thread::spawn(move || {
        let netns = fs::File::open(within).expect("it is there");
        for client in front.incoming().flatten() {
            let netns = netns.try_clone().expect("a descriptor");
            thread::spawn(move || pass_on(&netns, &client, to_backend));
        }
    });
    calm_during(&ns, || {
        let mut client = TcpStream::connect(to_front)?;
        client.write_all(b"an order")?;
        client.shutdown(Shutdown::Write)?;
        let mut answer = Vec::new();
        client.read_to_end(&mut answer)?;
        if answer == b"an order" { Ok(()) } else { Err(io::Error::other("another answer")) }
    });
}

fn pass_on(netns: &fs::File, client: &TcpStream, to: SocketAddr) -> io::Result<()> {
    rustix::thread::move_into_link_name_space(
        std::os::fd::AsFd::as_fd(netns),
        Some(rustix::thread::LinkNameSpaceType::Network),
    )?;
    let backend = TcpStream::connect(to)?;
    thread::scope(|scope| {
        scope.spawn(|| {
            io::copy(&mut &*client, &mut &backend).and_then(|_| backend.shutdown(Shutdown::Write))
        });
        io::copy(&mut &backend, &mut &*client)?;
        client.shutdown(Shutdown::Write)
    })
}

fn nobody_listens() {
    let (ns, _somebody) = inhabited();
    let nowhere: SocketAddr = ([127, 0, 0, 1], 9).into();
    calm_during(&ns, || match TcpStream::connect(nowhere) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        other => Err(io::Error::other(format!("{other:?}"))),
    });
}

fn resets() {
    let (ns, _somebody) = inhabited();
    let listener = inside(&ns, || TcpListener::bind("127.0.0.1:0").expect("listens"));
    let to = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut served in listener.incoming().flatten() {
            // A client that is accepted before it goes fills no queue.
            let _ = served.write_all(b"!");
        }
    });
    calm_during(&ns, || {
        let mut client = TcpStream::connect(to)?;
        client.read_exact(&mut [0; 1])?;
        rustix::net::sockopt::set_socket_linger(&client, Some(std::time::Duration::ZERO))?;
        Ok(())
    });
}

fn many_descriptors_of_more() {
    let ns = netns();
    let mut server = start(&ns);
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("a pid");
    let limit = Rlimit { current: Some(200), maximum: Some(200) };
    prlimit(Some(pid), Resource::Nofile, limit).expect("root may");
    for _ in 0..130 {
        server.number("bind 127.0.0.1:0").expect("binds");
    }
    calm(&ns);
}

fn one_connection_that_is_not_closed() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let said = Said::within(&ns, &["--min-age", "0", "--fail-on", "low"]);
        assert!(said.findings.is_empty() && said.code == Some(0), "{said:#?}");
        if said.remarks.iter().any(|r| r["name"] == "few-leaks") {
            return;
        }
        assert!(Instant::now() < deadline, "no remark: {said:#?}");
    }
}

/// One request over a connection of its own.
fn request(to: &str) -> io::Result<()> {
    let mut client = TcpStream::connect(to)?;
    client.write_all(b"GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    let right = answer.starts_with("HTTP/1.1 200 ");
    if right { Ok(()) } else { Err(io::Error::other(answer)) }
}

const NGINX: &str = "
daemon off; user root; worker_processes 2; pid nginx.pid; error_log stderr;
events { worker_connections 256; }
http {
  access_log off;
  client_body_temp_path tmp/body; proxy_temp_path tmp/proxy; fastcgi_temp_path tmp/fastcgi;
  uwsgi_temp_path tmp/uwsgi; scgi_temp_path tmp/scgi;
  server { listen 127.0.0.1:8080; location / { return 200 'an order'; } }
  server { listen 127.0.0.1:8090; location / { proxy_pass http://127.0.0.1:8080; } }
}
";

fn nginx(ns: &Netns, dir: &Path) -> Service {
    fs::create_dir_all(dir.join("tmp")).expect("a directory of our own");
    let file = dir.join("nginx.conf");
    fs::write(&file, NGINX).expect("writes");
    let mut command = Command::new("nginx");
    command.arg("-p").arg(dir).arg("-c").arg(file).args(["-e", "stderr"]);
    let mut nginx = Service::start(ns, command);
    nginx.listens(8090);
    nginx
}

fn nginx_under_load() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let _nginx = nginx(&ns, dir.path());
    calm_during(&ns, || request("127.0.0.1:8080"));
}

/// A new connection to the server behind it for each request, and TIME_WAIT from each.
fn nginx_as_a_proxy() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let _nginx = nginx(&ns, dir.path());
    let said = calm_during(&ns, || request("127.0.0.1:8090"));
    assert!(states(&said, "TIME_WAIT") > 0, "{}", said.summary);
}

fn haproxy_under_load() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let _nginx = nginx(&ns, dir.path());
    let file = dir.path().join("haproxy.cfg");
    let configuration = "
global
  maxconn 200
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend shop
  bind 127.0.0.1:8000
  default_backend orders
backend orders
  server one 127.0.0.1:8080
";
    fs::write(&file, configuration).expect("writes");
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f"]).arg(&file);
    let mut haproxy = Service::start(&ns, command);
    haproxy.listens(8000);
    calm_during(&ns, || request("127.0.0.1:8000"));
}

/// A database, a pool of connections to it, most of them idle.
fn redis_with_a_pool() {
    let (ns, dir) = (netns(), tempfile::tempdir().expect("a directory"));
    let mut command = Command::new("redis-server");
    command.args(["--port", "6379", "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir.path());
    let mut redis = Service::start(&ns, command);
    redis.listens(6379);
    let pool = inside(&ns, || {
        let connect = |_| TcpStream::connect("127.0.0.1:6379").expect("connects");
        (0..40).map(connect).collect::<Vec<_>>()
    });
    let next = AtomicU64::new(0);
    calm_during(&ns, || {
        // Two threads, and twice as many connections in turn: no two of them at once.
        let mut database = &pool[next.fetch_add(1, Ordering::Relaxed) as usize % 4];
        database.write_all(b"PING\r\n")?;
        database.read_exact(&mut [0; 7])
    });
}
