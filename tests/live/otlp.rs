//! What the agent sends to a collector, and what collectors can't do to it.

use std::{
    fs,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::logs::v1::LogRecord;
use rustix::process::{Pid, Signal, kill_process};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::{
    agent::Agent,
    collector::{Behaviour, Collector, attributes, value},
    serve::workload,
    support::netns::Netns,
    tests,
    tracer::{DEADLINE, Pair, netns},
};

tests![
    leaks_and_metrics_over_http,
    leaks_and_metrics_over_grpc,
    over_tls,
    a_collector_that_is_down_at_first,
    a_collector_that_is_busy,
    a_collector_that_hangs,
    what_is_refused_or_rejected_is_counted,
    names_are_resolved,
    what_is_not_asked_for_is_not_there,
];

/// An agent that sends to a collector.
fn agent(ns: &Netns, collector: &Collector, more: &[&str]) -> Agent {
    let url = format!("http://{}", collector.at);
    Agent::of(ns, &[&["--otlp", &url, "--otlp-interval", "1s"], more].concat())
}

fn counted(agent: &Agent, what: &str) -> f64 {
    agent.metric(&format!("tcptrace_otlp_{what}"))
}

/// Ends it in order; how long that took.
fn end(mut agent: Agent) -> Duration {
    let began = Instant::now();
    let pid = Pid::from_raw(agent.child.id().cast_signed()).expect("a pid");
    kill_process(pid, Signal::TERM).expect("it runs");
    assert!(agent.child.wait().expect("it ends").success());
    began.elapsed()
}

fn leaks_and_metrics_over_http() {
    let collector = Collector::start(false, Behaviour::Takes);
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("headers");
    fs::write(&file, "Authorization: Bearer s3cret\n").expect("a file");
    let file = file.to_str().expect("a path");
    leaks_and_metrics(&collector, &["--otlp-header-file", file]);
    let received = collector.received();
    assert_eq!(received.path, "/v1/logs");
    assert_eq!(received.headers["authorization"], "Bearer s3cret");
    assert_eq!(received.headers["content-type"], "application/x-protobuf");
}

fn leaks_and_metrics_over_grpc() {
    let collector = Collector::start(true, Behaviour::Takes);
    leaks_and_metrics(&collector, &["--otlp-protocol", "grpc"]);
    let received = collector.received();
    assert_eq!(received.path, "/opentelemetry.proto.collector.logs.v1.LogsService/Export");
    assert_eq!(received.headers["te"], "trailers");
}

fn leaks_and_metrics(collector: &Collector, more: &[&str]) {
    let ns = netns();
    let agent = agent(&ns, collector, more);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let stuck = collector.event("tcptrace.stuck");
    let told = attributes(&stuck.attributes);
    let expected = [
        ("network.transport", "tcp"),
        ("network.type", "ipv4"),
        ("network.connection.state", "close_wait"),
        ("network.local.address", "127.0.0.1"),
        ("tcptrace.verdict", "unread-fin"),
        ("tcptrace.leak", "true"),
        ("tcptrace.workload", &workload()),
        ("process.pid", &pair.server.pid().to_string()),
    ];
    for (key, value) in expected {
        assert_eq!(told.get(key).map(String::as_str), Some(value), "{key}: {told:#?}");
    }
    assert_eq!((&*stuck.severity_text, stuck.severity_number), ("WARN", 13));
    let socket = &agent.json("/api/v1/sockets")["sockets"][0];
    assert_eq!(told["tcptrace.cookie"], socket["cookie"].to_string());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now");
    let ago = now.saturating_sub(Duration::from_nanos(stuck.time_unix_nano));
    assert!(ago < DEADLINE, "{ago:?} ago");

    let mine = workload();
    let leaks = || agent.metric(&format!("tcptrace_leaks{{workload=\"{mine}\"}}"));
    assert_eq!(leaks(), 1.0);
    collector.wait("a leak in the metrics", |received| {
        value(received, "tcptrace.leaks", ("workload", &mine)).filter(|n| *n == 1)
    });
    collector.wait("what was sent", |received| {
        value(received, "tcptrace.otlp_sent", ("signal", "logs")).filter(|n| *n >= 1)
    });
    pair.server_closes();
    let resolved = collector.event("tcptrace.resolved");
    assert_eq!(attributes(&resolved.attributes)["tcptrace.cookie"], told["tcptrace.cookie"]);
    let resource = collector.wait("a resource", |received| received.resource.clone());
    let resource = attributes(&resource.attributes);
    assert_eq!((&*resource["service.name"], &*resource["os.type"]), ("tcptrace", "linux"));
    assert!(!resource["host.name"].is_empty() && !resource["service.instance.id"].is_empty());
    agent.wait("all is sent", |agent| counted(agent, "queued{signal=\"logs\"}") == 0.0);
    assert!(counted(&agent, "sent_total{signal=\"logs\"}") >= 2.0);

    // What comes at the end is sent, too.
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    agent.wait("another", |agent| agent.json("/api/v1/sockets")["matching"] == 1);
    let took = end(agent);
    assert!(took < Duration::from_secs(6), "{took:?}");
    let pid = pair.server.pid().to_string();
    let received = collector.received();
    let of_pid =
        |record: &LogRecord| attributes(&record.attributes).get("process.pid") == Some(&pid);
    assert!(received.records.iter().any(of_pid), "{:#?}", received.records);
}

fn over_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-days", "2", "-subj", "/CN=localhost", "-nodes"])
        .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE"])
        .args(["-keyout", &at("key"), "-out", &at("cert")])
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    let provider = Arc::new(rustls_graviola::default_provider());
    let cert = CertificateDer::from_pem_file(at("cert")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(at("key")).expect("a key");
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("they belong together");
    // Who does not ask for it is refused.
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let any = ([127, 0, 0, 1], 0).into();
    let collector = Collector::start_at(any, true, Behaviour::Takes, Some(acceptor));
    let ns = netns();
    let url = format!("https://localhost:{}", collector.at.port());
    let cert = at("cert");
    let agent = Agent::of(&ns, &["--otlp", &url, "--otlp-protocol", "grpc", "--otlp-ca", &cert]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    collector.event("tcptrace.stuck");
    drop(agent);
    // Whom nobody vouches for gets nothing.
    let before = collector.received().requests;
    let agent = Agent::of(&ns, &["--otlp", &url, "--otlp-protocol", "grpc"]);
    agent.wait("a leak", |agent| counted(agent, "queued{signal=\"logs\"}") >= 1.0);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(collector.received().requests, before);
}

fn a_collector_that_is_down_at_first() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address");
    drop(taken);
    let ns = netns();
    let url = format!("http://{at}");
    let agent = Agent::of(&ns, &["--otlp", &url]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    agent.wait("it waits", |agent| counted(agent, "queued{signal=\"logs\"}") >= 1.0);
    std::thread::sleep(Duration::from_millis(1_500));
    let collector = Collector::start_at(at, false, Behaviour::Takes, None);
    let stuck = collector.event("tcptrace.stuck");
    assert_eq!(attributes(&stuck.attributes)["process.pid"], pair.server.pid().to_string());
    agent.wait("it is counted", |agent| counted(agent, "sent_total{signal=\"logs\"}") >= 1.0);
    for reason in ["queue_full", "refused", "rejected", "gave_up", "ending"] {
        let dropped = format!("dropped_total{{signal=\"logs\",reason=\"{reason}\"}}");
        assert_eq!(counted(&agent, &dropped), 0.0, "{reason}");
    }
}

fn a_collector_that_is_busy() {
    for is_grpc in [false, true] {
        let collector = Collector::start(is_grpc, Behaviour::Busy(2));
        let ns = netns();
        let more: &[&str] = if is_grpc { &["--otlp-protocol", "grpc"] } else { &[] };
        let agent = agent(&ns, &collector, more);
        let mut pair = Pair::new(&ns);
        pair.client_closes();
        collector.event("tcptrace.stuck");
        let received = collector.received();
        let cookies = |record: &LogRecord| {
            let told = attributes(&record.attributes);
            (told["tcptrace.cookie"].clone(), told["tcptrace.age.min"].clone())
        };
        let mut said: Vec<_> = received.records.iter().map(cookies).collect();
        let all = said.len();
        said.sort();
        said.dedup();
        assert_eq!(said.len(), all, "each once: {said:?}");
        assert!(received.requests >= 3, "{}", received.requests);
        drop(received);
        agent.wait("it is counted", |agent| counted(agent, "sent_total{signal=\"logs\"}") >= 1.0);
    }
}

fn a_collector_that_hangs() {
    let collector = Collector::start(false, Behaviour::Hangs);
    let ns = netns();
    let agent = agent(&ns, &collector, &[]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    collector.wait("a request", |received| (received.requests > 0).then_some(()));
    // The watch goes on, and so do metrics.
    pair.server_closes();
    agent.wait("its end", |agent| agent.json("/api/v1/sockets")["matching"] == 0);
    collector.wait("metrics", |received| {
        value(received, "tcptrace.otlp_queued", ("signal", "logs")).filter(|n| *n >= 1)
    });
    let took = end(agent);
    assert!(took < Duration::from_secs(8), "{took:?}");
}

fn what_is_refused_or_rejected_is_counted() {
    for is_grpc in [false, true] {
        let collector = Collector::start(is_grpc, Behaviour::Refuses);
        let ns = netns();
        let more: &[&str] = if is_grpc { &["--otlp-protocol", "grpc"] } else { &[] };
        let agent = agent(&ns, &collector, more);
        let mut pair = Pair::new(&ns);
        pair.client_closes();
        let refused = "dropped_total{signal=\"logs\",reason=\"refused\"}";
        agent.wait("it is refused", |agent| counted(agent, refused) >= 1.0);
        assert!(collector.received().records.is_empty());
        collector.behave(Behaviour::Rejects(1));
        pair.server_closes();
        let rejected = "dropped_total{signal=\"logs\",reason=\"rejected\"}";
        agent.wait("it is rejected", |agent| counted(agent, rejected) >= 1.0);
        // A collector that takes one signal only gets that.
        collector.wait("metrics", |received| (!received.metrics.is_empty()).then_some(()));
    }
}

fn names_are_resolved() {
    let collector = Collector::start(false, Behaviour::Takes);
    let ns = netns();
    let url = format!("http://localhost:{}", collector.at.port());
    let agent = Agent::of(&ns, &["--otlp", &url]);
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    collector.event("tcptrace.stuck");
    drop(agent);
    // What asking a name server takes is allowed, whatever comes of it: builds of the tests would
    // die of a call that is not.
    let agent = Agent::of(&ns, &["--otlp", "http://nowhere.invalid:4318"]);
    agent.wait("it waits", |agent| counted(agent, "queued{signal=\"logs\"}") >= 1.0);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(agent.get("/healthz").0, 200);
}

fn what_is_not_asked_for_is_not_there() {
    let ns = netns();
    let agent = Agent::of(&ns, &[]);
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.child.id())).expect("its threads");
    let names =
        tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
    assert!(names.contains(&"http".to_owned()), "{names:?}");
    let is_asked = |name: &String| name == "otlp" || name == "pods";
    assert!(!names.iter().any(is_asked), "{names:?}");
    let (_, body) = agent.get("/metrics");
    assert!(!body.contains("otlp") && !body.contains("pods"), "{body}");
}
