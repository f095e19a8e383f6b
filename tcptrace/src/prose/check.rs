//! What a host's offers are needed for, what is lost without them, and what to do about it.

use crate::engine::check::{Item, Mark, Remedy};

const NO_BPF: &str = "watch and top; snapshot and explain work without BPF, but don't see \
                      ghost-fd, nor which side connected";
const TRIAL: &str = "nothing, if the trial below (watch-programs) is ok";
const NOTHING: &str = "nothing";

/// What uses it.
#[must_use]
pub const fn needed_for(item: Item) -> &'static str {
    match item {
        Item::Kernel => {
            "kernel programs: they use socket storage and cookies, which tracing programs have \
             from Linux 5.12 on"
        }
        Item::Architecture => "kernel programs: they are tested on x86_64",
        Item::Btf => {
            "kernel programs: it says where this kernel's structs have their fields, and what \
             can be attached to"
        }
        Item::BpfSyscall | Item::Seccomp => {
            "kernel programs: loading them and reading their results"
        }
        Item::CapBpf | Item::CapPerfmon => "kernel programs: loading them",
        Item::CapSysAdmin => "entering other network namespaces",
        Item::CapSysPtrace => {
            "finding the network namespaces of other users' processes; without BPF, their \
             descriptors too"
        }
        Item::CapDacReadSearch => "without BPF: other users' descriptors",
        Item::Lockdown => {
            "kernel programs: they read kernel memory, which confidentiality mode forbids"
        }
        Item::UnprivilegedBpf => {
            "nothing: loading kernel programs takes CAP_BPF and CAP_PERFMON, whatever this says"
        }
        Item::Tracefs => {
            "--origins: the numbers of two tracepoints; all others are attached by BTF"
        }
        Item::CgroupV2 => "--cgroup with a v2 path, and a socket's own cgroup",
        Item::PidNamespace => "seeing all processes that hold sockets",
        Item::NetworkNamespaces => "seeing the sockets in all of them",
        Item::SockDiag => "snapshot and explain: listing the sockets",
        Item::Mptcp => "telling an MPTCP connection from its subflows",
        Item::Close => "close, and watch --close-after",
        Item::WatchPrograms => "watch and top",
        Item::SnapshotProgram => {
            "snapshot and explain: ghost-fd, which side connected, all holders in one scan"
        }
        Item::OriginPrograms => "--origins: who opened a connection, and who read from it",
    }
}

/// What is lost where it isn't there, or may be where that is not known.
#[must_use]
pub const fn lost_without(item: Item, mark: Mark) -> &'static str {
    match item {
        // It only speaks for or against what is tried anyway.
        _ if matches!(mark, Mark::Unknown) && item.is_required() && !item.is_trial() => TRIAL,
        Item::Kernel
        | Item::Btf
        | Item::BpfSyscall
        | Item::Seccomp
        | Item::CapBpf
        | Item::CapPerfmon
        | Item::Lockdown => NO_BPF,
        Item::Architecture => "perhaps watch and top: the trial below (watch-programs) tells",
        Item::CapSysAdmin | Item::NetworkNamespaces => {
            "snapshot and explain: the sockets in namespaces that can't be entered; watch: \
             connections there that were waiting to be accepted before it started"
        }
        Item::CapSysPtrace => {
            "the sockets in network namespaces that only other users' processes lead to; without \
             BPF, who holds other users' sockets"
        }
        Item::CapDacReadSearch => "without BPF: who holds other users' sockets",
        Item::UnprivilegedBpf | Item::Tracefs => NOTHING,
        Item::CgroupV2 => {
            "--cgroup goes by the holders' cgroups of v1, and a socket's own cgroup is unknown"
        }
        Item::PidNamespace => {
            "holders outside this container; snapshot and explain: also ghost-fd and which side \
             connected"
        }
        Item::SockDiag => {
            "snapshot and explain: sockets that no descriptor leads to, ages, the totals by \
             state"
        }
        Item::Mptcp => "nothing: without it there are no MPTCP connections",
        Item::Close => {
            "close: shutdown takes a copy of a descriptor, destroy takes SOCK_DESTROY; each works \
             without the other"
        }
        Item::WatchPrograms => "watch and top",
        Item::SnapshotProgram => {
            "ghost-fd, which side connected; descriptors are read from /proc instead"
        }
        Item::OriginPrograms => "--origins, or with it who read data and the end of the stream",
    }
}

/// What to do about it, where the finding does not say something more exact.
const fn usual(item: Item) -> &'static str {
    match item {
        Item::Kernel => "a kernel from 5.12 on",
        Item::Architecture => "see what the trial below (watch-programs) says, and report it",
        Item::Btf => {
            "--btf PATH with a copy of this kernel's /sys/kernel/btf/vmlinux, such as the \
             host's; without CONFIG_DEBUG_INFO_BTF in the kernel there is none"
        }
        Item::BpfSyscall => "a kernel with CONFIG_BPF_SYSCALL",
        Item::Seccomp => {
            "let bpf() through: docker run --security-opt seccomp=PROFILE (or =unconfined), \
             systemd SystemCallFilter=bpf"
        }
        Item::CapBpf => "run as root (sudo tcptrace …), or grant CAP_BPF",
        Item::CapPerfmon => "run as root (sudo tcptrace …), or grant CAP_PERFMON",
        Item::CapSysAdmin => "run as root (sudo tcptrace …), or grant CAP_SYS_ADMIN",
        Item::CapSysPtrace => "run as root (sudo tcptrace …), or grant CAP_SYS_PTRACE",
        Item::CapDacReadSearch => "run as root (sudo tcptrace …), or grant CAP_DAC_READ_SEARCH",
        Item::Lockdown => "boot with lockdown=integrity, or without Secure Boot",
        Item::UnprivilegedBpf | Item::Tracefs | Item::Mptcp => NOTHING,
        Item::CgroupV2 => {
            "mount -t cgroup2 none DIR, or boot with systemd.unified_cgroup_hierarchy=1"
        }
        Item::PidNamespace => {
            "run with the host's pids (docker run --pid=host, hostPID in Kubernetes)"
        }
        Item::NetworkNamespaces => {
            "run as root (sudo tcptrace …), or grant CAP_SYS_ADMIN and CAP_SYS_PTRACE"
        }
        Item::Close => {
            "run as root (sudo tcptrace …), or grant CAP_SYS_PTRACE and CAP_NET_ADMIN; a kernel from \
             5.6 on, with CONFIG_INET_DIAG_DESTROY"
        }
        Item::SockDiag => "modprobe tcp_diag; a kernel with CONFIG_INET_DIAG",
        Item::WatchPrograms | Item::SnapshotProgram => "see what is missing above",
        Item::OriginPrograms => "Linux 6.3 or later traces reads; else see what is missing above",
    }
}

/// What to do.
#[must_use]
pub const fn remedy(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::Usual(item) => usual(item),
        Remedy::HostUserNamespace => "run in the host's user namespace, as its root",
        Remedy::OwnBtf => "--btf PATH with a copy of this kernel's own /sys/kernel/btf/vmlinux",
        Remedy::MountSecurityfs => {
            "to see it, mount -t securityfs none /sys/kernel/security; not needed if \
             watch-programs below is ok"
        }
        Remedy::BpfRights => "run as root (sudo tcptrace …), or grant CAP_BPF and CAP_PERFMON",
        Remedy::AuditLog => {
            "look for the denial in the audit log (ausearch -m avc; dmesg), and allow bpf() there"
        }
        Remedy::KernelLog => "look into dmesg",
    }
}
