//! What this host offers: the host and the kernel are asked, and the programs tried.

use std::path::Path;

use rustix::thread::CapabilitySet;
use tcptrace_common::{
    config::{MISSING, Offsets},
    state::TcpState,
};

use crate::{
    engine::{
        check::{
            Finding, Item, Remedy,
            call::{BpfFacts, Called},
            lockdown, unprivileged_bpf,
        },
        counted::counted,
        record::BootNs,
    },
    formats::sock_diag::{Detail, TCP},
    source::live::{
        bpf::{
            loader, preflight,
            preflight::{KERNEL_BTF, Refusal},
            probe,
            probe::Attempt,
        },
        close,
        close::Cannot,
        host, netns, process, sock_diag,
    },
};

/// All findings, in the order in which one looks for a cause. `btf`: the file with the kernel's
/// BTF; `clock`: the boot clock.
#[must_use]
pub fn findings(btf: &Path, clock: fn() -> BootNs) -> Vec<Finding> {
    let rights = Rights::look();
    let facts = BpfFacts {
        map: probe::map().ok().map(called),
        beyond: probe::beyond().ok().map(called),
        capable: rights.counts()
            && (rights.has(CapabilitySet::BPF) || rights.has(CapabilitySet::SYS_ADMIN)),
        contained: !rights.counts(),
        seccomp: probe::seccomp_mode(),
        unprivileged_disabled: host::sysctl(UNPRIVILEGED_BPF).ok(),
    };
    let mut findings = vec![
        kernel(),
        architecture(),
        types(btf, facts.map == Some(Called::Done)),
        facts.syscall(),
        facts.filter(),
    ];
    findings.extend(CAPABILITIES.map(|capability| rights.finding(capability)));
    findings.extend([
        locked_down(),
        host::sysctl(UNPRIVILEGED_BPF)
            .map_or_else(|why| Finding::new(Item::UnprivilegedBpf, None, why), unprivileged_bpf),
        tracefs(),
        cgroup_v2(),
        pid_namespace(),
        network_namespaces(),
        sock_diag(clock),
        mptcp(),
        closing(),
    ]);
    findings.extend(trials(btf));
    findings
}

const UNPRIVILEGED_BPF: &str = "kernel.unprivileged_bpf_disabled";

fn called(attempt: Attempt) -> Called {
    match attempt {
        Attempt::Done => Called::Done,
        Attempt::Refused(errno) => Called::Refused(errno),
        Attempt::Killed(signal) => Called::Killed(signal),
    }
}

/// Capabilities of this thread.
struct Rights {
    effective: CapabilitySet,
    /// `None`: it does not show.
    initial_user_namespace: Option<bool>,
}

/// A capability, its item, and one that stands for it (capabilities(7)).
type Capability = (Item, CapabilitySet, Option<(&'static str, CapabilitySet)>);

const CAPABILITIES: [Capability; 5] = [
    (Item::CapBpf, CapabilitySet::BPF, Some(("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN))),
    (Item::CapPerfmon, CapabilitySet::PERFMON, Some(("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN))),
    (Item::CapSysAdmin, CapabilitySet::SYS_ADMIN, None),
    (Item::CapSysPtrace, CapabilitySet::SYS_PTRACE, None),
    (
        Item::CapDacReadSearch,
        CapabilitySet::DAC_READ_SEARCH,
        Some(("CAP_DAC_OVERRIDE", CapabilitySet::DAC_OVERRIDE)),
    ),
];

impl Rights {
    fn look() -> Self {
        Self {
            effective: preflight::effective(),
            initial_user_namespace: probe::in_initial_user_namespace(),
        }
    }

    fn has(&self, capability: CapabilitySet) -> bool {
        self.effective.contains(capability)
    }

    fn counts(&self) -> bool {
        self.initial_user_namespace != Some(false)
    }

    fn finding(&self, (item, capability, stand_in): Capability) -> Finding {
        let stand_in = stand_in.filter(|(_, other)| self.has(*other));
        let found = match stand_in {
            _ if self.has(capability) => "held".to_owned(),
            Some((name, _)) => format!("not held, but {name}, which stands for it"),
            None => return Finding::new(item, false, "not held"),
        };
        match self.initial_user_namespace {
            Some(true) => Finding::new(item, true, found),
            Some(false) => Finding::new(
                item,
                false,
                format!("{found}: in a user namespace, where it does not count"),
            )
            .remedy(Remedy::HostUserNamespace),
            None => Finding::new(
                item,
                None,
                format!("{found}; whether in the host's user namespace does not show"),
            ),
        }
    }
}

fn kernel() -> Finding {
    match preflight::release() {
        Some(release) => Finding::new(Item::Kernel, !preflight::too_old(&release), release),
        None => Finding::new(Item::Kernel, None, "/proc/sys/kernel/osrelease can't be read"),
    }
}

fn architecture() -> Finding {
    let tested = std::env::consts::ARCH == "x86_64";
    let found = if tested {
        std::env::consts::ARCH.to_owned()
    } else {
        format!("{}: not tested", std::env::consts::ARCH)
    };
    Finding::new(Item::Architecture, tested.then_some(true), found)
}

/// `ask`: `bpf()` may be called.
fn types(path: &Path, ask: bool) -> Finding {
    let own = || if ask { preflight::is_this_kernels(path) } else { Ok(()) };
    let offsets = match preflight::read_btf(path).and_then(|needed| own().map(|()| needed.offsets))
    {
        Ok(offsets) => offsets,
        Err(Refusal::NoBtf { path, error }) => {
            return Finding::new(Item::Btf, false, format!("{}: {error}", path.display()));
        }
        Err(Refusal::Btf { path, error }) => {
            let finding = Finding::new(Item::Btf, false, format!("{}: {error}", path.display()));
            return if path == Path::new(KERNEL_BTF) {
                finding.remedy(Remedy::Usual(Item::Kernel))
            } else {
                finding.remedy(Remedy::OwnBtf)
            };
        }
        Err(other) => {
            return Finding::new(Item::Btf, false, other.to_string()).remedy(Remedy::OwnBtf);
        }
    };
    let absent: Vec<String> =
        absent(&offsets).map(|(strukt, member)| format!("{strukt}.{member}")).collect();
    let found = format!("{}, with every struct member that is needed", path.display());
    let found = if absent.is_empty() {
        found
    } else {
        format!("{found}; this kernel has no {}", absent.join(", "))
    };
    Finding::new(Item::Btf, true, found)
}

/// Members that this kernel does not have. Of a file's two reference counts each kernel has one,
/// and of the registers each architecture some.
fn absent(offsets: &Offsets) -> impl Iterator<Item = (&'static str, &'static str)> {
    let absent = offsets.named().into_iter().filter(|(_, _, offset)| *offset == MISSING);
    absent
        .filter(|(strukt, _, _)| !matches!(*strukt, "file" | "pt_regs"))
        .map(|(strukt, member, _)| (strukt, member))
}

fn locked_down() -> Finding {
    match host::lockdown() {
        Ok(Some(text)) => lockdown(&text),
        Ok(None) => {
            Finding::new(Item::Lockdown, true, "not built into this kernel, or not switched on")
        }
        Err(why) => Finding::new(Item::Lockdown, None, why).remedy(Remedy::MountSecurityfs),
    }
}

fn tracefs() -> Finding {
    match host::mounted("tracefs") {
        Ok(Some(at)) => Finding::new(Item::Tracefs, true, format!("mounted at {}", at.display())),
        Ok(None) => Finding::new(Item::Tracefs, true, "not mounted, and read without"),
        Err(why) => Finding::new(Item::Tracefs, true, format!("read without a mount ({why})")),
    }
}

fn cgroup_v2() -> Finding {
    match host::mounted("cgroup2") {
        Ok(Some(at)) => Finding::new(Item::CgroupV2, true, format!("mounted at {}", at.display())),
        Ok(None) => Finding::new(Item::CgroupV2, false, "not mounted"),
        Err(why) => Finding::new(Item::CgroupV2, None, why),
    }
}

fn pid_namespace() -> Finding {
    match process::pid_namespace_is_initial() {
        Some(true) => Finding::new(Item::PidNamespace, true, "the host's"),
        Some(false) => Finding::new(
            Item::PidNamespace,
            false,
            "a container's: processes outside it are not seen",
        ),
        None => Finding::new(Item::PidNamespace, None, "/proc/self/ns/pid can't be read"),
    }
}

fn network_namespaces() -> Finding {
    let (all, hidden) = netns::all();
    let (entered, failed) = netns::each(&all, |_| Ok(()));
    let mut found = format!("{} found, {} can be entered", all.len(), entered.len());
    if let Some((netns, e)) = failed.first() {
        found = format!("{found} ({}: {e})", netns.path.display());
    }
    if hidden > 0 {
        let processes = counted(hidden as u64, "process", "processes");
        found = format!("{found}; those of {processes} are hidden");
    }
    let left_out = process::some_hidden();
    if left_out {
        found += "; /proc is mounted with hidepid: other users' processes are left out";
    }
    // None at all: /proc shows nothing.
    let ok = (!all.is_empty()).then_some(failed.is_empty() && hidden == 0 && !left_out);
    Finding::new(Item::NetworkNamespaces, ok, found)
}

fn sock_diag(clock: fn() -> BootNs) -> Finding {
    // The number is for the records only, and none is asked for.
    match sock_diag::dump(0, TCP, ANY, Detail::Count, clock) {
        Ok(dump) => {
            let sockets: u64 = dump.states.iter().sum();
            Finding::new(
                Item::SockDiag,
                true,
                format!("answers (TCP sockets in this network namespace: {sockets})"),
            )
        }
        Err(e) => Finding::new(Item::SockDiag, false, e.to_string()),
    }
}

/// Every state that sock_diag knows.
const ANY: u32 = (1 << 13) - 2;

fn mptcp() -> Finding {
    match host::mptcp() {
        Ok(Some(true)) => Finding::new(Item::Mptcp, true, "built in, switched on"),
        Ok(Some(false)) => Finding::new(Item::Mptcp, true, "built in, switched off"),
        Ok(None) => {
            Finding::new(Item::Mptcp, true, "not built into this kernel, so no socket is one")
        }
        Err(why) => Finding::new(Item::Mptcp, None, why),
    }
}

/// Both ways to close connections, tried on nothing but ourselves.
fn closing() -> Finding {
    let (copied, destroyed) = (close::copies(), close::destroys_here());
    let ok = copied.is_ok() && destroyed.is_ok();
    let copies = match copied {
        Ok(()) => "works (pidfd_getfd)".to_owned(),
        Err(e) => format!("does not work (pidfd_getfd: {e})"),
    };
    let destroys = match destroyed {
        Ok(()) => "works (SOCK_DESTROY)",
        Err(Cannot::Kernel) => "not built into this kernel (CONFIG_INET_DIAG_DESTROY)",
        Err(Cannot::Rights) => "not allowed (CAP_NET_ADMIN)",
    };
    Finding::new(Item::Close, ok, format!("shutdown {copies}, destroy {destroys}"))
}

/// With the states and the nursery of a plain `watch`, so that the verifier sees what it would see.
fn trials(btf: &Path) -> [Finding; 3] {
    let states = TcpState::CloseWait.bit() | TcpState::Close.bit();
    let finding = |item, outcome: Result<(), Refusal>, done: &str| match outcome {
        Ok(()) => Finding::new(item, true, done),
        Err(refusal) => Finding::new(item, false, refusal.to_string()),
    };
    [
        finding(
            Item::WatchPrograms,
            loader::trial(states, process::in_initial_pid_namespace(), btf),
            "loaded, attached, run and taken out again",
        ),
        finding(
            Item::SnapshotProgram,
            loader::trial_of_snapshot(states, btf),
            "loaded, run and taken out again",
        ),
        match loader::trial_of_origins(states, btf) {
            Ok(reads) => {
                let done = "loaded, attached, run and taken out again";
                let reads_too = if reads { "" } else { "; this kernel doesn't trace reads" };
                Finding::new(Item::OriginPrograms, reads, format!("{done}{reads_too}"))
            }
            Err(refusal) => Finding::new(Item::OriginPrograms, false, refusal.to_string()),
        },
    ]
}
