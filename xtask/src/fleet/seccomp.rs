//! deploy/seccomp.json: the system calls of an agent in a container, for runtimes. What it makes
//! while it runs is read from the lists that its own filter is made of; what starting takes is
//! below.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::cargo::root;

/// Where it is.
pub const PROFILE: &str = "deploy/seccomp.json";

/// What its own filter is made of. Its last word on a call is stricter: it looks at arguments.
const LISTS: [&str; 4] = ["rules.rs", "seccomp.rs", "http.rs", "outgoing.rs"];
/// Of commands that are not `serve`.
const OTHERS: [&str; 5] = ["wait4", "kill", "unlinkat", "fdatasync", "ftruncate"];
/// Until its own filter stands, as strace shows it: the C library's start, the listener, threads,
/// other network namespaces, kernel programs, capabilities; with --origins a tracefs where none is
/// mounted.
const START: &[&str] = &[
    "arch_prctl",
    "bind",
    "bpf",
    "capget",
    "capset",
    "clock_getres",
    "clone",
    "clone3",
    "connect",
    "epoll_create1",
    "eventfd2",
    // It tries in a child what the kernel lets it do.
    "fork",
    "fsconfig",
    "fsmount",
    "fsopen",
    "getegid",
    "geteuid",
    "getgid",
    "getsockname",
    "getsockopt",
    "getuid",
    "listen",
    "perf_event_open",
    "pipe2",
    "prlimit64",
    "recvmsg",
    "rseq",
    "sched_getaffinity",
    "sendmsg",
    "set_robust_list",
    "set_tid_address",
    "setns",
    "setsockopt",
    "socket",
    "socketpair",
    "uname",
    "unshare",
    "wait4",
];
/// What runtimes themselves still make on the way from the filter to the program.
const RUNTIME: &[&str] = &[
    "chdir",
    "clock_nanosleep",
    "dup3",
    "execve",
    "faccessat2",
    "fchdir",
    "getcwd",
    "getppid",
    "keyctl",
    "nanosleep",
    "openat2",
    "setgid",
    "setgroups",
    "setuid",
    "umask",
];

/// `fleet seccomp`: writes it.
pub fn run() -> Result<()> {
    fs::write(root().join(PROFILE), text()?)?;
    eprintln!("wrote {PROFILE}");
    Ok(())
}

/// Is it as the code is?
pub fn check() -> Result<()> {
    let there = fs::read_to_string(root().join(PROFILE)).context(PROFILE)?;
    ensure!(there == text()?, "{PROFILE} is not as the code is: cargo xtask fleet seccomp");
    Ok(())
}

fn text() -> Result<String> {
    let mut names: BTreeSet<String> =
        START.iter().chain(RUNTIME).map(|name| (*name).to_owned()).collect();
    for file in LISTS {
        let path = root().join("tcptrace/src/confine").join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        names.extend(calls(&text).into_iter().filter(|name| !OTHERS.contains(&&**name)));
    }
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": names, "action": "SCMP_ACT_ALLOW"}],
    });
    Ok(serde_json::to_string_pretty(&profile)? + "\n")
}

/// The names after `SYS_` in what is let through: not in the tests, nor in the list of those that
/// end the agent.
fn calls(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code = match code.split_once("const FATAL:") {
        Some((before, after)) => {
            format!("{before}{}", after.split_once("];").map_or("", |(_, after)| after))
        }
        None => code.to_owned(),
    };
    let named = code.split("libc::SYS_").skip(1).filter_map(|after| {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        Some(after[..end].to_owned())
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_as_the_code_is() {
        check().expect("the same");
        let text = fs::read_to_string(root().join(PROFILE)).expect("it");
        let has = |name: &str| text.contains(&format!("\"{name}\""));
        assert!(has("accept4") && has("getdents64") && has("bpf"));
        for fatal in ["ptrace", "mount", "init_module", "process_vm_readv", "kexec_load", "chroot"]
        {
            assert!(!has(fatal), "{fatal}");
        }
    }

    #[test]
    fn calls_are_those_that_are_let_through() {
        let code = "&[libc::SYS_read, libc::SYS_epoll_wait];\nconst FATAL: &[i64] = \
                    &[libc::SYS_ptrace];\nlibc::SYS_write);\n#[cfg(test)]\nmod tests { \
                    libc::SYS_kill }";
        let found: Vec<String> = calls(code).into_iter().collect();
        assert_eq!(found, ["epoll_wait", "read", "write"]);
    }
}
