//! Who asks an agent: with a token, with a certificate, and meaning ill.

use std::{
    fs,
    io::Write,
    net::Shutdown,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{agent::Agent, tests, tracer::netns};

tests![tokens_and_names, certificates, hostile_clients_cost_bounded_memory];

fn tokens_and_names() {
    let ns = netns();
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    fs::write(&file, "# scraper\ns3cret\n").expect("a file");
    let agent = Agent::of(&ns, &["--token-file", file.to_str().expect("a path")]);
    let (status, head, body) =
        agent.raw(&format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n", agent.at));
    assert!(status == 401 && head.contains("www-authenticate: bearer"), "{head}\n{body}");
    assert_eq!(agent.ask("/metrics", "Authorization: Bearer wrong\r\n").0, 401);
    assert_eq!(agent.ask("/metrics", "Authorization: Bearer s3cret\r\n").0, 200);
    // Whether it lives is no secret.
    assert_eq!((agent.get("/healthz").0, agent.get("/readyz").0), (200, 200));
    drop(agent);
    // Without a token a page in a browser must not ask by its own name.
    let agent = Agent::of(&ns, &[]);
    let by = |host: &str| agent.raw(&format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\n")).0;
    assert_eq!((by("localhost"), by("evil.example"), by("127.0.0.1")), (200, 421, 200));
}

fn certificates() {
    let ns = netns();
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
    let openssl = |args: &[&str]| {
        let made = Command::new("openssl").args(args).stderr(Stdio::null()).status();
        assert!(made.expect("openssl runs").success(), "{args:?}");
    };
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    fs::write(at("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .expect("a file");
    let (root, vouches) = (at("ca.pem"), at("ca.key"));
    let made =
        ["req", "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", &vouches, "-out", &root];
    openssl(&[&made[..], &new].concat());
    for name in ["server", "client"] {
        let (key, asked) = (at(&format!("{name}.key")), at(&format!("{name}.csr")));
        let subject = format!("/CN={name}");
        let made = ["req", "-subj", &subject, "-keyout", &key, "-out", &asked];
        openssl(&[&made[..], &new].concat());
        let (cert, names) = (at(&format!("{name}.pem")), at("names"));
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &asked,
            "-CA",
            &root,
            "-CAkey",
            &vouches,
            "-CAcreateserial",
            "-extfile",
            &names,
            "-out",
            &cert,
        ]);
    }
    let (key, cert) = (at("server.key"), at("server.pem"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-client-ca", &root];
    let agent = Agent::start(&ns, &tls);
    let url = format!("https://{}/healthz", agent.at);
    let curl = |more: &[&str]| {
        let asked = Command::new("curl").args(["-s", "--max-time", "10", &url]).args(more).output();
        let asked = asked.expect("curl runs");
        String::from_utf8_lossy(&asked.stdout).into_owned()
    };
    let (client, secret) = (at("client.pem"), at("client.key"));
    assert_eq!(curl(&["--cacert", &root, "--cert", &client, "--key", &secret]), "ok\n");
    assert_eq!(curl(&["--cacert", &root]), "", "without a certificate there is no answer");
    let plain = url.replace("https", "http");
    let asked = Command::new("curl").args(["-s", "--max-time", "10", &plain]).output();
    assert!(asked.expect("curl runs").stdout.is_empty(), "nor without TLS");
}

/// Whoever sends slowly, much, or nothing, and whoever takes nothing: others are answered all the
/// same, and memory has a bound.
fn hostile_clients_cost_bounded_memory() {
    /// Of what all of them may take together, KiB.
    const MAY_TAKE: u64 = 24 << 10;
    // It takes some 1,600 descriptors.
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < 4_096) {
        let current = Some(limit.maximum.map_or(4_096, |most| most.min(4_096)));
        setrlimit(Resource::Nofile, Rlimit { current, ..limit }).expect("our own limit");
    }
    let ns = netns();
    let agent = Agent::of(&ns, &[]);
    assert_eq!(agent.get("/metrics").0, 200);
    let before = agent.memory();
    let mut held = Vec::new();
    // 1,000 that say nothing.
    held.extend((0..1_000).map(|_| agent.connect()));
    // 300 that say a letter, and 100 that have said all that they will.
    for n in 0..400 {
        let mut stream = agent.connect();
        stream.write_all(if n < 300 { b"G" } else { b"GET / HTTP/1.1\r\nX: " }).expect("sends");
        if n >= 300 {
            stream.shutdown(Shutdown::Write).expect("half-closes");
        }
        held.push(stream);
    }
    // A head without an end.
    for _ in 0..20 {
        let mut stream = agent.connect();
        let line = format!("X-{}: {}\r\n", "a".repeat(60), "b".repeat(8_000));
        let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
        for _ in 0..64 {
            if stream.write_all(line.as_bytes()).is_err() {
                break;
            }
        }
        held.push(stream);
    }
    // Who asks again and again and reads nothing.
    for _ in 0..100 {
        let mut stream = agent.connect();
        let ask = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", agent.at).repeat(500);
        let _ = stream.set_write_timeout(Some(Duration::from_millis(50)));
        let _ = stream.write_all(ask.as_bytes());
        held.push(stream);
    }
    let (status, body) = agent.get("/metrics");
    assert_eq!(status, 200, "who behaves is answered");
    assert!(body.contains("tcptrace_http_refused_total "), "{body}");
    assert!(agent.metric("tcptrace_http_refused_total") >= 1_000.0, "{body}");
    assert!(agent.metric("tcptrace_http_connections") <= 128.0, "{body}");
    let after = agent.memory();
    assert!(after < before + MAY_TAKE, "{before} KiB before, {after} KiB after");
    let (status, _, _) = agent.raw(&format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nX: {}\r\n",
        agent.at,
        "y".repeat(64 << 10)
    ));
    assert!(status == 431 || status == 0, "{status}");
    drop(held);
    agent.wait("they are gone", |agent| agent.metric("tcptrace_http_connections") <= 2.0);
}
