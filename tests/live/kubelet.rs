//! The names of pods from a kubelet, which a test plays, and what kubelets can't do to an agent.

use std::{
    convert::Infallible,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::sync::oneshot;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::{
    agent::Agent,
    collector::{Behaviour, Collector, attributes},
    support::{cgroup::Cgroup, netns::Netns},
    tests,
    tracer::{Pair, netns, start},
};

tests![
    a_leak_is_told_with_its_workload,
    kubelets_that_are_ill,
    nobody_else_gets_the_token,
    an_old_kubelet_without_tls,
];

/// What it does with a request that shows the right token.
#[derive(Clone, Debug)]
enum Answer {
    /// Of one pod with this name.
    List(&'static str),
    Text(u16, &'static str),
    /// Spaces without an end.
    Endless,
    /// A space every second, without an end.
    Slow,
    /// Nothing.
    Nothing,
}

struct Shared {
    answer: Answer,
    /// What it must be shown, if anything.
    token: Option<&'static str>,
    uid: String,
    /// What it was shown, and asked for.
    asked: Vec<(Option<String>, String)>,
}

/// It ends with this.
struct Kubelet {
    at: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    end: Option<oneshot::Sender<()>>,
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        // The thread ends, and with it all connections, when this is gone.
        self.end.take();
        thread::sleep(Duration::from_millis(100));
    }
}

type Body = BoxBody<Bytes, Infallible>;

impl Kubelet {
    fn start(at: Option<SocketAddr>, tls: Option<&TlsAcceptor>, uid: &str, answer: Answer) -> Self {
        let at = at.unwrap_or(([127, 0, 0, 1], 0).into());
        let listener = std::net::TcpListener::bind(at).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let at = listener.local_addr().expect("an address");
        let shared = Shared { answer, token: None, uid: uid.to_owned(), asked: Vec::new() };
        let shared = Arc::new(Mutex::new(shared));
        let (theirs, tls, (end, ended)) = (Arc::clone(&shared), tls.cloned(), oneshot::channel());
        let accept = async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, tls) = (Arc::clone(&theirs), tls.clone());
                let talk = service_fn(move |request| answered(request, Arc::clone(&shared)));
                // Whoever goes away in the middle is no failure of the test.
                tokio::spawn(async move {
                    let http = http1::Builder::new();
                    match tls {
                        None => drop(http.serve_connection(TokioIo::new(stream), talk).await),
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            drop(http.serve_connection(TokioIo::new(stream), talk).await);
                        }
                    }
                });
            }
        };
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                tokio::select! {
                    () = accept => {}
                    _ = ended => {}
                }
            });
        });
        Self { at, shared, end: Some(end) }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn url(&self) -> String {
        format!("https://{}", self.at)
    }
}

async fn answered(
    request: Request<Incoming>,
    shared: Arc<Mutex<Shared>>,
) -> Result<Response<Body>, Infallible> {
    let shown = request.headers().get("authorization");
    let shown = shown.map(|value| value.to_str().expect("text").to_owned());
    let (answer, uid) = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let right = shared.token.map(|token| format!("Bearer {token}"));
        let is_right = right == shown;
        shared.asked.push((shown, request.uri().to_string()));
        if !is_right {
            return Ok(text(401, "Unauthorized"));
        }
        (shared.answer.clone(), shared.uid.clone())
    };
    match answer {
        Answer::List(name) => Ok(text(200, &list(&uid, name))),
        Answer::Text(status, body) => Ok(text(status, body)),
        Answer::Nothing => std::future::pending().await,
        Answer::Endless | Answer::Slow => {
            let is_slow = matches!(answer, Answer::Slow);
            let more = futures_util::stream::unfold((), move |()| async move {
                if is_slow {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                let piece = " ".repeat(if is_slow { 1 } else { 64 << 10 });
                Some((Ok(Frame::data(Bytes::from(piece))), ()))
            });
            Ok(Response::new(BodyExt::boxed(StreamBody::new(more))))
        }
    }
}

fn text(status: u16, body: &str) -> Response<Body> {
    let body = Full::new(Bytes::from(body.to_owned())).boxed();
    Response::builder().status(status).body(body).expect("an answer")
}

/// As the kubelet writes it, much shortened.
fn list(uid: &str, name: &str) -> String {
    let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "cart-7f9c6b5d4",
        "uid": "9", "controller": true, "blockOwnerDeletion": true});
    let pod = json!({
        "metadata": {"name": name, "generateName": "cart-7f9c6b5d4-", "namespace": "shop",
            "uid": uid, "creationTimestamp": "2026-11-01T10:00:00Z",
            "labels": {"app": "cart", "pod-template-hash": "7f9c6b5d4"},
            "annotations": {"kubernetes.io/config.source": "api"}, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "cart", "image": "x"}]}, "status": {"phase": "Running"},
    });
    json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": [pod, {}]}).to_string()
}

/// A root that vouches for 127.0.0.1, and who speaks by that.
fn certificates(dir: &Path) -> TlsAcceptor {
    let at = |name: &str| dir.join(name).to_str().expect("a path").to_owned();
    let openssl = |args: &[&str]| {
        let made = Command::new("openssl").args(args).stderr(Stdio::null()).status();
        assert!(made.expect("openssl runs").success(), "{args:?}");
    };
    let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let (root, vouches, key, asked) = (at("ca.pem"), at("ca.key"), at("key"), at("csr"));
    let made = ["req", "-x509", "-days", "2", "-subj", "/CN=ca", "-keyout", &vouches];
    openssl(&[&made[..], &["-out", &root], &new].concat());
    let made = ["req", "-subj", "/CN=node", "-keyout", &key, "-out", &asked];
    openssl(&[&made[..], &new].concat());
    fs::write(at("names"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        .expect("a file");
    let (names, cert) = (at("names"), at("cert"));
    let signed = ["x509", "-req", "-days", "2", "-in", &asked, "-CA", &root, "-CAkey", &vouches];
    openssl(&[&signed[..], &["-CAcreateserial", "-extfile", &names, "-out", &cert]].concat());
    let cert = CertificateDer::from_pem_file(cert).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(rustls_graviola::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}

/// A leak in a container of a pod, and what its workload is called.
struct InPod {
    uid: String,
    container: String,
    pair: Pair,
    _cgroup: Cgroup,
}

impl InPod {
    fn new(ns: &Netns, n: u32) -> Self {
        let (uid, id) = (format!("0c8d1f5e-6a0b-4f57-9d5e-{n:012x}"), format!("{n:064x}"));
        let slice = format!("kubepods-pod{}.slice", uid.replace('-', "_"));
        let cgroup = Cgroup::new(slice).expect("root may make cgroups");
        let server = start(ns);
        cgroup.take_into(&format!("cri-containerd-{id}.scope"), &server).expect("moves");
        let pair = Pair::between(server, start(ns), "127.0.0.1:0", "127.0.0.1");
        Self { uid, container: id[..12].to_owned(), pair, _cgroup: cgroup }
    }

    fn info(&self, pod: &str) -> String {
        let Self { uid, container, .. } = self;
        let (namespace, kind, name) =
            if pod.is_empty() { ("", "", "") } else { ("shop", "Deployment", "cart") };
        format!(
            "tcptrace_workload_info{{workload=\"{container}\",kind=\"container\",pod_uid=\"{uid}\",\
             namespace=\"{namespace}\",pod=\"{pod}\",runtime=\"containerd\",owner_kind=\"{kind}\",\
             owner_name=\"{name}\"}}"
        )
    }
}

const WELL: &str = "tcptrace_pods_last_read_successful";
const READ_AT: &str = "tcptrace_pods_last_read_success_timestamp_seconds";

/// Waits for what may take until it asks again.
fn wait(agent: &Agent, what: &str, is_so: impl Fn(&Agent) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so(agent) {
        let (said, metrics) = (agent.said(), agent.get("/metrics").1);
        assert!(Instant::now() < deadline, "{what}: {said}\n{metrics}");
        thread::sleep(Duration::from_millis(50));
    }
}

fn a_leak_is_told_with_its_workload() {
    let dir = tempfile::tempdir().expect("a directory");
    let at = |name: &str| dir.path().join(name).to_str().expect("a path").to_owned();
    let tls = certificates(dir.path());
    let ns = netns();
    let mut leak = InPod::new(&ns, 0xa1);
    let kubelet = Kubelet::start(None, Some(&tls), &leak.uid, Answer::List("cart-7f9c6b5d4-x2x7k"));
    kubelet.shared().token = Some("second");
    fs::write(at("token"), "first\n").expect("a file");
    let url = kubelet.url();
    let (ca, token) = (at("ca.pem"), at("token"));
    let agent = Agent::of(&ns, &["--pods", &url, "--pods-ca", &ca, "--pods-token-file", &token]);
    leak.pair.client_closes();
    wait(&agent, "it is refused", |agent| agent.said().contains("it answers 401 Unauthorized"));
    agent.wait("a leak", |agent| agent.metric(&leak.info("")) == 1.0);
    assert_eq!(agent.json("/api/v1/sockets").get("pods"), None);
    let (_, metrics) = agent.get("/metrics");
    assert!(metrics.contains(&format!("\n{WELL} 0\n")), "{metrics}");
    assert!(metrics.contains(&format!("\n{READ_AT} 0\n")), "{metrics}");
    // The token is renewed, as the kubelet does that.
    fs::write(at("next"), "second").expect("a file");
    fs::rename(at("next"), at("token")).expect("renewed");
    let pod = "cart-7f9c6b5d4-x2x7k";
    wait(&agent, "its name", |agent| agent.metric(&leak.info(pod)) == 1.0);
    assert_eq!(agent.metric(WELL), 1.0);
    // And beside everything that has its uid.
    let told = json!({&leak.uid: {"namespace": "shop", "name": pod, "owner_kind": "Deployment",
        "owner_name": "cart"}});
    for path in ["/api/v1/sockets", "/api/v1/groups?by=pod"] {
        assert_eq!(agent.json(path)["pods"], told, "{path}");
    }
    assert_eq!(agent.json("/api/v1/groups?by=pod")["groups"][0]["key"], *leak.uid);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("now");
    let ago = now.as_secs_f64() - agent.metric(READ_AT);
    assert!((-1.0..60.0).contains(&ago), "{ago} s ago");
    wait(&agent, "it says so", |agent| agent.said().contains("names are read again"));
    let (first, second) = (Some("Bearer first".to_owned()), Some("Bearer second".to_owned()));
    let asked = kubelet.shared().asked.clone();
    assert_eq!(asked.first(), Some(&(first, "/pods".to_owned())));
    assert_eq!(asked.last(), Some(&(second, "/pods".to_owned())));
    // It goes away, and all stays as it was.
    let at = kubelet.at;
    drop(kubelet);
    wait(&agent, "it is missed", |agent| agent.metric(WELL) == 0.0);
    assert_eq!(agent.metric(&leak.info(pod)), 1.0);
    assert!(agent.metric(READ_AT) > 0.0);
    thread::sleep(Duration::from_secs(2));
    let pod = "cart-7f9c6b5d4-other";
    let back = Kubelet::start(Some(at), Some(&tls), &leak.uid, Answer::List(pod));
    back.shared().token = Some("third");
    fs::write(token, "third").expect("a file");
    wait(&agent, "its name", |agent| agent.metric(&leak.info(pod)) == 1.0);
    wait(&agent, "it says so", |agent| agent.said().matches("read again").count() == 2);
    let said = agent.said();
    assert_eq!(said.matches("stay as they were").count(), 2, "once each time: {said}");
    assert!(!said.contains("first") && !said.contains("second"), "no secrets: {said}");
}

fn kubelets_that_are_ill() {
    /// What an answer may leave behind, KiB.
    const MAY_TAKE: u64 = 8 << 10;
    let dir = tempfile::tempdir().expect("a directory");
    let tls = certificates(dir.path());
    let ns = netns();
    let mut leak = InPod::new(&ns, 0xb2);
    leak.pair.client_closes();
    for (answer, told) in [
        (Answer::Endless, "its answer is longer than 32 MiB"),
        (Answer::Slow, "no answer within 10 s"),
        (Answer::Nothing, "no answer within 10 s"),
        (Answer::Text(200, "<html>\u{1b}[31mSign in</html>"), "no list of pods in JSON (line 1"),
        (Answer::Text(200, "{\"kind\":\"Status\"}"), "JSON that is no PodList"),
        (Answer::Text(403, "no"), "403 Forbidden: who has the token must be allowed"),
        (Answer::Text(302, ""), "it answers 302 Found"),
    ] {
        let is_endless = matches!(answer, Answer::Endless);
        let kubelet = Kubelet::start(None, Some(&tls), &leak.uid, answer);
        let agent = Agent::of(&ns, &["--pods", &kubelet.url(), "--pods-insecure"]);
        let before = agent.memory();
        wait(&agent, told, |agent| agent.said().contains(told));
        if is_endless {
            wait(&agent, "again", |_| kubelet.shared().asked.len() >= 3);
            let after = agent.memory();
            assert!(after < before + MAY_TAKE, "{before} KiB before, {after} KiB after");
        }
        assert_eq!(agent.metric(WELL), 0.0, "{told}");
        kubelet.shared().answer = Answer::List("cart-7f9c6b5d4-x2x7k");
        wait(&agent, "well again", |agent| agent.metric(&leak.info("cart-7f9c6b5d4-x2x7k")) == 1.0);
    }
}

fn nobody_else_gets_the_token() {
    let (dir, other) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("two"));
    let tls = certificates(dir.path());
    certificates(other.path());
    let ns = netns();
    let kubelet = Kubelet::start(None, Some(&tls), "x", Answer::Text(200, ""));
    let token = dir.path().join("token");
    fs::write(&token, "s3cret").expect("a file");
    let (token, ca) = (token.to_str().expect("plain"), other.path().join("ca.pem"));
    let ca = ca.to_str().expect("plain");
    let url = kubelet.url();
    let agent = Agent::of(&ns, &["--pods", &url, "--pods-ca", ca, "--pods-token-file", token]);
    wait(&agent, "it is not trusted", |agent| {
        agent.said().contains("--pods-ca says whom to trust")
    });
    assert_eq!(kubelet.shared().asked, [], "nothing is sent");
    assert!(!agent.said().contains("s3cret"));
}

fn an_old_kubelet_without_tls() {
    let ns = netns();
    let mut leak = InPod::new(&ns, 0xc3);
    let kubelet = Kubelet::start(None, None, &leak.uid, Answer::List("cart-x"));
    let url = format!("http://localhost:{}", kubelet.at.port());
    let collector = Collector::start(false, Behaviour::Takes);
    let to = format!("http://{}", collector.at);
    let agent = Agent::of(&ns, &["--pods", &url, "--otlp", &to]);
    agent.wait("its names", |agent| agent.metric(WELL) == 1.0);
    leak.pair.client_closes();
    wait(&agent, "its name", |agent| agent.metric(&leak.info("cart-x")) == 1.0);
    let record = attributes(&collector.event("tcptrace.stuck").attributes);
    for (key, value) in [
        ("k8s.pod.uid", &*leak.uid),
        ("k8s.namespace.name", "shop"),
        ("k8s.pod.name", "cart-x"),
        ("k8s.deployment.name", "cart"),
    ] {
        assert_eq!(record.get(key).map(String::as_str), Some(value), "{key}: {record:#?}");
    }
    let told = agent.first_event("stuck");
    assert_eq!(told["pods"][&leak.uid]["name"], "cart-x", "{told}");
    assert_eq!(told["holders"][0]["pod"], *leak.uid, "{told}");
    assert_eq!(kubelet.shared().asked[0].0, None);
    // It has nothing but what it needs for that.
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.child.id())).expect("its threads");
    let named =
        |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "pods");
    let asking = tasks.flatten().map(|task| task.path()).find(|path| named(path));
    let status = fs::read_to_string(asking.expect("its thread").join("status")).expect("it runs");
    let line = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("a line");
        line.trim().to_owned()
    };
    assert_eq!((&*line("CapPrm:"), &*line("CapEff:")), ("0000000000000000", "0000000000000000"));
    assert_eq!(line("Seccomp:"), "2");
}
