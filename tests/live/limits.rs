//! Rights, and what is given up after use.

use std::{fs, process::Command};

use rustix::mount::{MountFlags, mount};

use crate::{
    check::{filtered, own_mounts},
    tests,
    tracer::{Pair, Tracer, holder_pids, netns, start, tcptrace},
};

tests![
    without_rights,
    each_right_missing,
    namespaces_out_of_reach_are_said,
    with_two_capabilities_only,
    a_namespace_that_may_not_be_entered,
    rights_are_given_up,
    without_seccomp,
    without_proc,
    where_no_thread_can_be_started,
];

/// An unprivileged user with the given capabilities, by setpriv (util-linux).
pub fn as_nobody(capabilities: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    let caps =
        if capabilities.is_empty() { "-all".to_owned() } else { format!("-all,{capabilities}") };
    command.arg(format!("--inh-caps={caps}")).arg(format!("--ambient-caps={caps}"));
    command.arg(binary_for_nobody());
    command
}

/// The binary where an unprivileged user can reach it.
fn binary_for_nobody() -> std::path::PathBuf {
    let copy = std::env::temp_dir().join(format!("tcptrace-live-{}", std::process::id()));
    if !copy.exists() {
        let partial = copy.with_extension(format!("{:?}", std::thread::current().id()));
        fs::copy(env!("CARGO_BIN_EXE_tcptrace"), &partial).expect("copies");
        fs::rename(&partial, &copy).expect("renames");
    }
    copy
}

fn refused(capabilities: &str) -> String {
    let output = as_nobody(capabilities)
        .args(["watch", "--duration", "1s"])
        .output()
        .expect("setpriv is there");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), err.lines().count()), (Some(4), 1), "{err}");
    assert!(output.stdout.is_empty());
    err
}

fn without_rights() {
    let err = refused("");
    assert!(err.contains("CAP_BPF and CAP_PERFMON") && err.contains("sudo"), "{err}");
}

fn each_right_missing() {
    assert!(refused("+perfmon").contains("CAP_BPF needed"));
    assert!(refused("+bpf").contains("CAP_PERFMON needed"));
}

fn namespaces_out_of_reach_are_said() {
    let _elsewhere = start(&netns());
    let said = |capabilities| {
        let output = as_nobody(capabilities)
            .args(["watch", "--duration", "50ms"])
            .output()
            .expect("setpriv is there");
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    let err = said("+bpf,+perfmon");
    assert!(err.contains("can't be told without CAP_SYS_PTRACE"), "{err}");
    let err = said("+bpf,+perfmon,+sys_ptrace");
    assert!(err.contains("could not be entered without CAP_SYS_ADMIN"), "{err}");
    let err = said("+bpf,+perfmon,+sys_ptrace,+sys_admin");
    assert_eq!(err.lines().count(), 1, "nothing is out of reach: {err}");
}

/// Other users' descriptors are seen without CAP_SYS_PTRACE: the kernel's iterator names them.
fn with_two_capabilities_only() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    let mut command = as_nobody("+bpf,+perfmon");
    command.args([
        "watch",
        "--format",
        "json",
        "--min-age",
        "200ms",
        "--lport",
        &pair.address.port().to_string(),
    ]);
    let mut tracer = Tracer::start(command);
    pair.client_closes();
    assert_eq!(holder_pids(&tracer.next("stuck")), [u64::from(pair.server.pid())]);
}

/// Nothing could be looked at: that is no host without sockets.
fn a_namespace_that_may_not_be_entered() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    let netns = format!("pid:{}", pair.server.pid());
    let mut command = as_nobody("+sys_ptrace");
    let output = command.args(["snapshot", "--fail-on-leak", "--netns", &netns]).output();
    let output = output.expect("setpriv is there");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(4), "{err}");
    assert!(err.contains("could not be looked into") && output.stdout.is_empty(), "{err}");
}

fn rights_are_given_up() {
    let ns = netns();
    let tracer = Tracer::watch(&ns, &[]);
    let threads = fs::read_dir(format!("/proc/{}/task", tracer.pid())).expect("it runs");
    let threads: Vec<_> = threads.map(|thread| thread.expect("it stays").path()).collect();
    assert!((1..=3).contains(&threads.len()), "{threads:?}");
    for thread in threads {
        gave_up_its_rights(&fs::read_to_string(thread.join("status")).expect("it runs"));
    }
}

fn gave_up_its_rights(status: &str) {
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("a field");
        u64::from_str_radix(line.trim_start_matches(':').trim(), 16).expect("a number")
    };
    // CAP_DAC_READ_SEARCH 2, CAP_SYS_PTRACE 19, CAP_BPF 39 (capabilities(7)).
    let kept = 1 << 2 | 1 << 19 | 1 << 39;
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(field(set) & !kept, 0, "{set} {:x}", field(set));
    }
    assert_eq!(field("CapEff"), kept, "and these are there");
    assert_eq!((field("NoNewPrivs"), field("Seccomp")), (1, 2), "2: a filter (proc_pid_status(5))");
}

/// A kernel built without CONFIG_SECCOMP has no such call.
fn without_seccomp() {
    let mut command = filtered(libc::SYS_seccomp, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);
    let output = command.args(["watch", "--duration", "50ms"]).output().expect("it runs");
    let err = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!((output.status.code(), err.lines().count()), (Some(0), 2), "{err}");
    assert!(err.starts_with("tcptrace: no system call filter ("), "{err}");
}

/// Without it nothing is known of processes, nor of their namespaces: no empty list is said.
fn without_proc() {
    for args in [&["watch", "--duration", "50ms"][..], &["snapshot"], &["explain", "1"]] {
        let hidden = || Ok(mount(c"tmpfs", c"/proc", c"tmpfs", MountFlags::empty(), None)?);
        let output = own_mounts(tcptrace(), hidden).args(args).output().expect("it runs");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), err.lines().count()), (Some(4), 1), "{err}");
        assert!(err.contains("/proc is not mounted") && output.stdout.is_empty(), "{err}");
    }
}

/// As at the limit of threads: one line and an exit code, and no empty list.
fn where_no_thread_can_be_started() {
    // By what the C library of the binary starts one.
    let thread = if cfg!(target_env = "musl") { libc::SYS_clone } else { libc::SYS_clone3 };
    for args in [&["snapshot", "--no-bpf"][..], &["watch", "--duration", "50ms"]] {
        let refusal = libc::SECCOMP_RET_ERRNO | libc::EAGAIN as u32;
        let output = filtered(thread, refusal).args(args).output().expect("it runs");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), err.lines().count()), (Some(1), 1), "{err}");
        assert!(err.starts_with("tcptrace: ") && output.stdout.is_empty(), "{err}");
    }
}
