//! What a host offers, and hosts that offer less: a filter, hidden BTF, no cgroup v2. Each test
//! takes things from a process of its own only.

use std::{
    ffi::CStr,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
    },
    thread::{UnshareFlags, unshare_unsafe},
};
use serde_json::{Value, json};

use crate::{
    limits::as_nobody,
    support::netns::Netns,
    tests,
    tracer::{Pair, Tracer, holder_pids, netns, tcptrace},
};

tests![
    as_root_all_that_is_needed_is_there,
    a_table_says_what_works,
    nobody_is_told_what_to_do,
    a_capability_alone,
    a_filter_that_refuses_bpf,
    a_filter_that_kills,
    hidden_btf,
    a_copy_of_the_btf_will_do,
    a_file_that_is_no_btf,
    the_btf_of_another_kernel,
    without_cgroup_v2,
    a_pid_namespace_of_its_own,
    hidden_processes,
    a_user_namespace_of_its_own,
    a_reader_that_leaves_early_hears_the_exit_code,
];

/// What `check --format json` says: each finding by name, and the last line.
struct Said {
    findings: Vec<Value>,
    summary: Value,
    code: Option<i32>,
}

impl Said {
    fn of(mut command: Command, args: &[&str]) -> Self {
        let output =
            command.args(["check", "--format", "json"]).args(args).output().expect("it runs");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(err, "", "all is on stdout");
        let out = String::from_utf8(output.stdout).expect("UTF-8");
        let mut findings: Vec<Value> =
            out.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
        let summary = findings.pop().expect("a summary");
        assert_eq!(summary["event"], "summary");
        Self { findings, summary, code: output.status.code() }
    }

    fn get(&self, name: &str) -> &Value {
        self.findings
            .iter()
            .find(|f| f["name"] == name)
            .unwrap_or_else(|| panic!("no {name} in {:#?}", self.findings))
    }

    fn text(&self, name: &str, field: &str) -> &str {
        self.get(name)[field].as_str().expect("a text")
    }

    /// watch would refuse, and this one is why.
    fn refuses_for(&self, name: &str) {
        assert_eq!(self.get(name)["mark"], "missing", "{}", self.get(name));
        assert_eq!(
            (&self.summary["watch"], self.code),
            (&json!(false), Some(4)),
            "{}",
            self.summary
        );
        assert!(self.summary["why"].is_string(), "{}", self.summary);
    }
}

/// `watch` refuses in one line, which it returns.
fn refused(mut command: Command) -> String {
    let Output { status, stdout, stderr } =
        command.args(["watch", "--duration", "1s"]).output().expect("it runs");
    let err = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!((status.code(), err.lines().count(), stdout.len()), (Some(4), 1, 0), "{err}");
    err
}

/// tcptrace in a mount namespace of its own, where `change` is done first.
fn elsewhere(change: impl Fn() -> io::Result<()> + Send + Sync + 'static) -> Command {
    own_mounts(tcptrace(), change)
}

/// The same for any command.
pub fn own_mounts(
    mut command: Command,
    change: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> Command {
    let prepare = move || {
        // SAFETY: only descriptor tables are unsafe to unshare (CLONE_FILES); these are mounts.
        unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        change()
    };
    // SAFETY: system calls only, on paths that are there already.
    unsafe { command.pre_exec(prepare) };
    command
}

/// A command with a `/proc` of its own, mounted with these options.
pub fn own_proc(command: Command, options: &'static CStr) -> Command {
    own_mounts(command, move || {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        Ok(mount(c"proc", c"/proc", c"proc", flags, Some(options))?)
    })
}

/// An empty directory lies over the kernel's BTF.
fn without_btf(empty: &Path) -> Command {
    let empty = empty.to_owned();
    elsewhere(move || Ok(mount_bind(&empty, "/sys/kernel/btf")?))
}

/// A filter that answers one system call with an action (seccomp(2)).
pub fn filtered(call: libc::c_long, action: u32) -> Command {
    let mut command = tcptrace();
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let program = [
        // The number of the call (struct seccomp_data).
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, call as u32),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, action),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let filter =
            libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
        // SAFETY: the filter outlives the call, which only reads it.
        let done = unsafe {
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: one system call on memory of the closure's own.
    unsafe { command.pre_exec(install) };
    command
}

fn as_root_all_that_is_needed_is_there() {
    let said = Said::of(tcptrace(), &[]);
    assert_eq!(said.code, Some(0), "{}", said.summary);
    assert_eq!(
        [
            &said.summary["watch"],
            &said.summary["snapshot"],
            &said.summary["explain"],
            &said.summary["why"]
        ],
        [&json!(true), &json!(true), &json!(true), &json!(null)]
    );
    assert!(
        said.findings.iter().all(|f| f["mark"] != "missing" && f["event"] == "check"),
        "{:#?}",
        said.findings
    );
    for name in [
        "kernel",
        "btf",
        "bpf-syscall",
        "CAP_BPF",
        "sock-diag",
        "watch-programs",
        "snapshot-program",
    ] {
        assert_eq!(said.get(name)["ok"], true, "{}", said.get(name));
    }
    for finding in &said.findings {
        for field in ["found", "needed_for", "lost_without", "remedy"] {
            assert!(
                finding[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field} of {finding}"
            );
        }
    }
    assert!(said.text("tracefs", "found").contains("mount"));
    let origins = said.get("origin-programs");
    let reads = !said.text("origin-programs", "found").contains("doesn't trace reads");
    assert_eq!(origins["mark"], if reads { "ok" } else { "limited" }, "{origins}");
    assert!(said.text("origin-programs", "found").starts_with("loaded, attached"), "{origins}");
}

fn a_table_says_what_works() {
    let output = tcptrace().arg("check").env("COLUMNS", "80").output().expect("it runs");
    let out = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(out.lines().any(|l| l == "works here: watch, top, snapshot, explain"), "{out}");
    assert!(out.lines().all(|l| l.chars().count() <= 80), "{out}");
    assert!(out.lines().any(|l| l.starts_with("ok       btf ")), "{out}");
}

fn nobody_is_told_what_to_do() {
    let said = Said::of(as_nobody(""), &[]);
    said.refuses_for("CAP_BPF");
    said.refuses_for("CAP_PERFMON");
    assert!(said.text("CAP_BPF", "remedy").contains("sudo tcptrace"));
    assert_eq!(said.get("CAP_SYS_PTRACE")["mark"], "limited");
    assert_eq!(
        (&said.summary["snapshot"], &said.get("sock-diag")["ok"]),
        (&json!(true), &json!(true))
    );
    let why = said.summary["why"].as_str().expect("a reason");
    assert!(refused(as_nobody("")).contains(why), "{why}");
}

fn a_capability_alone() {
    let said = Said::of(as_nobody("+bpf,+perfmon"), &[]);
    assert_eq!((said.code, &said.summary["watch"]), (Some(0), &json!(true)), "{}", said.summary);
    assert_eq!(said.get("CAP_SYS_ADMIN")["mark"], "limited");
    let said = Said::of(as_nobody("+sys_admin"), &[]);
    assert_eq!(said.code, Some(0), "{}", said.summary);
    assert!(said.text("CAP_BPF", "found").contains("CAP_SYS_ADMIN"), "{}", said.get("CAP_BPF"));
}

fn a_filter_that_refuses_bpf() {
    let eperm = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let said = Said::of(filtered(libc::SYS_bpf, eperm), &[]);
    said.refuses_for("seccomp");
    said.refuses_for("bpf-syscall");
    assert!(
        said.text("bpf-syscall", "found").contains("by a seccomp filter"),
        "{}",
        said.get("bpf-syscall")
    );
    assert!(said.text("seccomp", "remedy").contains("seccomp="));
    assert_eq!(said.get("CAP_BPF")["ok"], true);
    assert!(refused(filtered(libc::SYS_bpf, eperm)).contains("a seccomp filter refuses bpf()"));
}

fn a_filter_that_kills() {
    let said = Said::of(filtered(libc::SYS_bpf, libc::SECCOMP_RET_KILL_PROCESS), &[]);
    said.refuses_for("seccomp");
    assert!(
        said.text("bpf-syscall", "found").contains("killed by signal 31"),
        "{}",
        said.get("bpf-syscall")
    );
    assert!(
        refused(filtered(libc::SYS_bpf, libc::SECCOMP_RET_KILL_PROCESS))
            .contains("a seccomp filter refuses bpf()")
    );
}

fn hidden_btf() {
    let empty = tempfile::tempdir().expect("a directory");
    let said = Said::of(without_btf(empty.path()), &[]);
    said.refuses_for("btf");
    assert!(said.text("btf", "remedy").contains("--btf PATH"), "{}", said.get("btf"));
    assert_eq!(said.get("bpf-syscall")["ok"], true);
    let err = refused(without_btf(empty.path()));
    assert!(
        err.contains("/sys/kernel/btf/vmlinux: No such file") && err.contains("--btf"),
        "{err}"
    );
}

fn a_copy_of_the_btf_will_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let copy: PathBuf = dir.path().join("copy.btf");
    std::fs::copy("/sys/kernel/btf/vmlinux", &copy).expect("copies");
    let (empty, copy) = (dir.path().join("empty"), copy.to_str().expect("a plain path"));
    std::fs::create_dir(&empty).expect("a directory");
    let said = Said::of(without_btf(&empty), &["--btf", copy]);
    assert_eq!((said.code, &said.summary["watch"]), (Some(0), &json!(true)), "{}", said.summary);
    assert!(said.text("btf", "found").starts_with(copy));

    let ns = netns();
    let mut pair = Pair::new(&ns);
    let mut command = without_btf(&empty);
    command.args([
        "watch",
        "--format",
        "json",
        "--btf",
        copy,
        "--min-age",
        "100ms",
        "--netns",
        &scope(&ns),
    ]);
    let mut tracer = Tracer::start(command);
    pair.client_closes();
    assert_eq!(holder_pids(&tracer.next("stuck")), [u64::from(pair.server.pid())]);
    let mut command = without_btf(&empty);
    command.args(["snapshot", "--format", "json", "--btf", copy, "--netns", &scope(&ns)]);
    let output = command.output().expect("it runs");
    assert_eq!(
        (output.status.code(), String::from_utf8(output.stderr).expect("UTF-8").as_str()),
        (Some(0), "")
    );
}

fn scope(ns: &Netns) -> String {
    ns.path().to_str().expect("a plain path").to_owned()
}

/// The header and a half of the types: read as BTF, and short of what is needed.
fn a_file_that_is_no_btf() {
    let dir = tempfile::tempdir().expect("a directory");
    let half = dir.path().join("half.btf");
    let bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("BTF");
    std::fs::write(&half, &bytes[..bytes.len() / 2]).expect("writes");
    for command in ["check", "watch", "snapshot"] {
        let output = tcptrace().args([command, "--btf"]).arg(&half).output().expect("it runs");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), err.lines().count()), (Some(2), 1), "{err}");
        assert!(err.contains("half.btf: not BTF"), "{err}");
    }
}

/// The same types, and a name more at the end: all members are found, but it isn't this kernel's.
fn the_btf_of_another_kernel() {
    let dir = tempfile::tempdir().expect("a directory");
    let other = dir.path().join("other.btf");
    let mut bytes = std::fs::read("/sys/kernel/btf/vmlinux").expect("BTF");
    let strings = u32::from_ne_bytes(bytes[20..24].try_into().expect("four bytes"));
    bytes[20..24].copy_from_slice(&(strings + 4).to_ne_bytes());
    bytes.extend(b"abc\0");
    std::fs::write(&other, &bytes).expect("writes");
    let other = other.to_str().expect("a plain path");
    let said = Said::of(tcptrace(), &["--btf", other]);
    said.refuses_for("btf");
    assert!(said.text("btf", "found").contains("not this kernel's"), "{}", said.get("btf"));
    let mut command = tcptrace();
    command.args(["watch", "--btf", other]);
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(4));
}

fn without_cgroup_v2() {
    let mounts = procfs::process::Process::myself().and_then(|p| p.mountinfo()).expect("mounts");
    let v2: Vec<PathBuf> =
        mounts.into_iter().filter(|m| m.fs_type == "cgroup2").map(|m| m.mount_point).collect();
    let command =
        elsewhere(move || Ok(v2.iter().try_for_each(|at| unmount(at, UnmountFlags::DETACH))?));
    let said = Said::of(command, &[]);
    let finding = said.get("cgroup-v2");
    assert_eq!((&finding["mark"], &finding["found"]), (&json!("limited"), &json!("not mounted")));
    assert_eq!(said.code, Some(0), "watch works without: {}", said.summary);
}

/// As in a container: the host's capabilities, other pids.
fn a_pid_namespace_of_its_own() {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(env!("CARGO_BIN_EXE_tcptrace"));
    let said = Said::of(command, &[]);
    assert_eq!(
        (&said.get("pid-namespace")["mark"], said.code),
        (&json!("limited"), Some(0)),
        "{}",
        said.summary
    );
    assert!(said.text("pid-namespace", "remedy").contains("--pid=host"));
}

/// Other users' processes, and with them their network namespaces, are not even listed.
fn hidden_processes() {
    let said = Said::of(own_proc(as_nobody("+bpf,+perfmon"), c"hidepid=2"), &[]);
    let namespaces = said.get("network-namespaces");
    assert_eq!(namespaces["mark"], "limited", "{namespaces}");
    assert!(said.text("network-namespaces", "found").contains("hidepid"), "{namespaces}");
    let said = Said::of(own_proc(tcptrace(), c"hidepid=2"), &[]);
    assert_eq!(said.get("network-namespaces")["ok"], true, "nothing is hidden from root");
}

/// As in a rootless container: all capabilities, and none that counts.
fn a_user_namespace_of_its_own() {
    let in_it = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user"]).arg(env!("CARGO_BIN_EXE_tcptrace"));
        command
    };
    let said = Said::of(in_it(), &[]);
    said.refuses_for("CAP_BPF");
    said.refuses_for("bpf-syscall");
    assert!(
        said.text("CAP_BPF", "found").contains("in a user namespace"),
        "{}",
        said.get("CAP_BPF")
    );
    assert!(refused(in_it()).contains("count in a user namespace only"));
}

fn a_reader_that_leaves_early_hears_the_exit_code() {
    let mut child =
        tcptrace().arg("check").stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
