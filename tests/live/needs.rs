//! What a test needs that a kernel may not have. Then it says so, and counts as ignored.

use std::{fs, net::ToSocketAddrs, path::Path, process::Command};

/// Tests of commands that work without BPF, which need it all the same.
const BY_BPF_ONLY: &[&str] = &[
    "snapshot::a_crawler_is_a_client",
    "snapshot::a_ghost",
    "close::a_ghost_is_for_its_process_to_close",
    "blocked::a_watch_says_what_keeps_it",
    "blocked::a_watch_knows_times_at_home",
    "blocked::a_peer_in_another_namespace",
    "blocked::an_idle_event_loop_is_not_blamed",
    "blocked::a_report_says_what_keeps_it",
    "blocked::top_says_what_keeps_it",
];

/// Tests of `watch` that end before the kernel's age matters.
const BEFORE_BPF: &[&str] = &[
    "limits::without_rights",
    "top::a_panic_leaves_the_terminal_as_it_was",
    "limits::each_right_missing",
    "selection::what_does_not_exist",
    "untrusted::bad_arguments",
];

/// Whether this kernel is one that `watch` refuses: tracing programs have neither socket storage
/// nor cookies.
pub fn old_kernel() -> bool {
    before(&release(), (5, 12))
}

fn no_python() -> bool {
    Command::new("python3").arg("-V").output().is_err()
}

/// Why this kernel can't run a test; none: it can.
pub fn missing(name: &str) -> Option<String> {
    let name = name.strip_prefix("live::").unwrap_or(name);
    if old_kernel() && needs_bpf(name) {
        return Some(format!("it needs BPF as of Linux 5.12, this is {}", release()));
    }
    if name.starts_with("chaos::") && Command::new("ss").arg("-V").output().is_err() {
        return Some("it compares with ss, which is not here (iproute2)".to_owned());
    }
    if name.starts_with("lesson::") && no_python() {
        return Some("it plays a session in Python, and python3 is not here".to_owned());
    }
    if name == "run::junit_is_xml_and_github_a_line" && no_python() {
        return Some("it reads XML with python3, which is not here".to_owned());
    }
    let runs = |name: &str, ask: &str| Command::new(name).arg(ask).output().is_ok();
    if name == "clients::certificates" && !(runs("openssl", "version") && runs("curl", "-V")) {
        return Some("it makes certificates with openssl and tries them with curl".to_owned());
    }
    const LOCALHOST: [&str; 2] =
        ["kubelet::an_old_kubelet_without_tls", "otlp::names_are_resolved"];
    if LOCALHOST.contains(&name) && ("localhost", 1).to_socket_addrs().is_err() {
        return Some("it asks for localhost by its name, which is not in /etc/hosts".to_owned());
    }
    const CERTIFIED: [&str; 5] = [
        "config::a_certificate_is_rotated",
        "otlp::over_tls",
        "kubelet::a_leak_is_told_with_its_workload",
        "kubelet::kubelets_that_are_ill",
        "kubelet::nobody_else_gets_the_token",
    ];
    if CERTIFIED.contains(&name) && !runs("openssl", "version") {
        return Some("it makes certificates with openssl".to_owned());
    }
    if name == "blocked::a_real_event_loop" && no_python() {
        return Some("it needs an event loop, and python3 is not here".to_owned());
    }
    const JOINING: [&str; 4] = [
        "blocked::a_peer_in_another_namespace",
        "states::handshakes_that_nobody_finishes",
        "states::peers_that_do_not_answer_and_do_not_read",
        "states::fins_that_nobody_acknowledges",
    ];
    let joins = JOINING.contains(&name) || name.starts_with("close::forged::");
    if joins && !joins_namespaces() {
        return Some(
            "it joins two namespaces by a veth pair, and ip (iproute2) or the kernel has none here"
                .to_owned(),
        );
    }
    if name.starts_with("syns::") && !joins_namespaces() {
        return Some("it needs a veth pair, and ip (iproute2) or the kernel has none here".into());
    }
    if let Some(test) = name.strip_prefix("healthy::") {
        return healthy(test);
    }
    if name.starts_with("top::") && Command::new("tmux").arg("-V").output().is_err() {
        return Some("it needs a terminal, and tmux is not here".to_owned());
    }
    if name == "faults::the_clock_is_set_back" && std::env::var_os("OWN_MACHINE").is_none() {
        return Some(
            "it sets the clock of the whole machine: cargo xtask vm runs it on one of its own"
                .to_owned(),
        );
    }
    if let Some(test) = name.strip_prefix("origins::") {
        return crate::origins::missing(test);
    }
    if let Some(test) = name.strip_prefix("stacks::") {
        return crate::stacks::missing(test);
    }
    let mptcp = Path::new("/proc/sys/net/mptcp/enabled").exists();
    (name.contains("mptcp") && !mptcp).then(|| "this kernel has no MPTCP".to_owned())
}

/// Software that a healthy host is made of.
fn healthy(test: &str) -> Option<String> {
    let of = |program: &str, option: &str| {
        let there = Command::new(program).arg(option).output().is_ok();
        (!there).then(|| format!("it needs {program}, which is not here"))
    };
    match test {
        "nginx_under_load" | "nginx_as_a_proxy" => of("nginx", "-v"),
        "haproxy_under_load" => of("nginx", "-v").or(of("haproxy", "-v")),
        "redis_with_a_pool" => of("redis-server", "-v"),
        "thousands_of_time_wait" => of("ip", "-V"),
        _ => None,
    }
}

/// Whether a pair of interfaces can be made, tried in a namespace that ends at once.
fn joins_namespaces() -> bool {
    let mut make = Command::new("unshare");
    make.args(["--net", "ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1"]);
    make.output().is_ok_and(|made| made.status.success())
}

fn needs_bpf(name: &str) -> bool {
    match name.split("::").next() {
        Some("doctor" | "healthy" | "syns") => false,
        Some("snapshot" | "hidden" | "explain" | "old_kernel" | "blocked" | "chains" | "close") => {
            BY_BPF_ONLY.contains(&name)
        }
        _ => !BEFORE_BPF.contains(&name),
    }
}

/// What `uname -r` says.
pub fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("/proc is mounted");
    release.trim().to_owned()
}

fn before(release: &str, version: (u32, u32)) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < version
}
