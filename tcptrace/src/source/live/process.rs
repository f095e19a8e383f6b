//! Processes: their cgroups, parents and starts, from `/proc` (proc(5)).

use std::{fs, rc::Rc};

use rustix::{param::clock_ticks_per_second, thread::CapabilitySet};

use crate::{
    engine::record::ProcessId,
    formats::{cgroup::Cgroups, lines, mounts, stat::Stat},
    source::live::{
        bpf::{preflight, probe},
        numbers, text,
    },
};

/// The pids of a process, by its `/proc/PID/status`: ours first, one for each pid namespace below.
/// Kernels before 4.1 do not say.
pub fn pids(status: &str) -> impl Iterator<Item = u32> {
    let words = lines::value(status, "NSpid").unwrap_or_default().split_whitespace();
    words.map_while(|pid| pid.parse().ok())
}

/// The last of [`pids`], where there are several.
#[must_use]
pub fn inner_pid(status: &str) -> Option<u32> {
    pids(status).skip(1).last()
}

fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&text(&format!("/proc/{pid}/stat")).ok()?)
}

/// ns of the boot clock, to 10 ms.
fn start_ns(stat: &Stat) -> u64 {
    stat.start_ticks.saturating_mul(1_000_000_000 / clock_ticks_per_second())
}

/// What `/proc/PID/stat` says of the process that has this pid now, and when it started: ns of the
/// boot clock, to a clock tick.
#[must_use]
pub fn stat_and_start(pid: u32) -> Option<(Stat, u64)> {
    let stat = stat(pid)?;
    let start_ns = start_ns(&stat);
    Some((stat, start_ns))
}

/// The process that has this pid now.
#[must_use]
pub fn find(pid: u32) -> Option<ProcessId> {
    stat(pid).map(|s| ProcessId { pid, start_ns: start_ns(&s) })
}

/// The process that has this pid now, and its command name.
#[must_use]
pub fn find_with_name(pid: u32) -> Option<(ProcessId, Rc<str>)> {
    stat(pid).map(|s| (ProcessId { pid, start_ns: start_ns(&s) }, s.comm))
}

/// The name of one of its threads; empty where that has ended.
#[must_use]
pub fn thread_name(pid: u32, tid: u32) -> Rc<str> {
    let comm = text(&format!("/proc/{pid}/task/{tid}/comm")).unwrap_or_default();
    comm.strip_suffix('\n').unwrap_or(&comm).into()
}

/// Its command line; empty where it has none, or is gone.
#[must_use]
pub fn command(pid: u32) -> Vec<String> {
    words(&text(&format!("/proc/{pid}/cmdline")).unwrap_or_default())
}

/// The words of a command line, each of which ends in a NUL.
#[must_use]
pub fn words(cmdline: &str) -> Vec<String> {
    cmdline.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The file name of its executable; `None` where it may not be known.
#[must_use]
pub fn executable(pid: u32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// Whether any process runs in a container that is called so.
#[must_use]
pub fn container_exists(called: &str) -> bool {
    numbers("/proc").into_iter().flatten().any(|pid| {
        // Gone meanwhile: then it runs in none.
        let text = text(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
        Cgroups::parse(&text).container().is_some_and(|c| c.is_called(called))
    })
}

/// Whether any process has this command name.
#[must_use]
pub fn name_exists(comm: &str) -> bool {
    let name = |pid| find_with_name(pid).map(|(_, name)| name);
    numbers("/proc").into_iter().flatten().any(|pid| name(pid).is_some_and(|name| *name == *comm))
}

/// What is said where other users' processes are hidden.
pub const HIDDEN: &str = "/proc is mounted with hidepid: other users' processes are not seen; run \
                          as root or with CAP_SYS_PTRACE";

/// Whether `/proc` leaves out processes of others without a word, for us.
#[must_use]
pub fn some_hidden() -> bool {
    let file = |name| text(&format!("/proc/self/{name}")).unwrap_or_default();
    let sees_all = preflight::effective().contains(CapabilitySet::SYS_PTRACE)
        && probe::in_initial_user_namespace() != Some(false);
    !sees_all && leaves_out(&file("mountinfo"), &file("status"))
}

/// The same for who has no CAP_SYS_PTRACE: by the options of `/proc`'s mount (proc(5)), and by the
/// groups that `/proc/PID/status` lists.
fn leaves_out(mountinfo: &str, status: &str) -> bool {
    // What is mounted last covers the rest.
    let mounts = mounts::parse(mountinfo.as_bytes());
    let Some(proc) = mounts.iter().rfind(|m| m.at.as_os_str() == "/proc") else { return false };
    let option = |name: &str| proc.options.split(',').find_map(|o| o.strip_prefix(name));
    let is_member = || {
        let gid = option("gid=").unwrap_or("0");
        let ids = |name| lines::value(status, name).unwrap_or_default().split_whitespace();
        // Real, effective, saved and file system's; the last one counts.
        ids("Gid").nth(3) == Some(gid) || ids("Groups").any(|group| group == gid)
    };
    match option("hidepid=") {
        None | Some("0" | "off") => false,
        // Their directories are listed, and refuse to be read.
        Some("1" | "noaccess") => false,
        Some("2" | "invisible") => !is_member(),
        // 4, ptraceable: no group is exempt.
        Some(_) => true,
    }
}

/// What is said where they are not.
pub const OTHER_PIDS: &str = "not in the host's pid namespace: processes outside this container \
                              are not seen; run with the host's pids (docker run --pid=host)";

/// Whether pids here are the kernel's own. In a container they are not: then the kernel's iterator
/// can't be used to name processes.
#[must_use]
pub fn in_initial_pid_namespace() -> bool {
    pid_namespace_is_initial() == Some(true)
}

/// The same; `None` where it does not show.
#[must_use]
pub fn pid_namespace_is_initial() -> Option<bool> {
    // PROC_PID_INIT_INO (include/linux/proc_ns.h).
    const INITIAL: &str = "pid:[4026531836]";
    fs::read_link("/proc/self/ns/pid").ok().map(|link| link.as_os_str() == INITIAL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_innermost_pid() {
        assert_eq!(
            inner_pid("Name:\tsh\nPid:\t4711\nNSpid:\t4711\t17\t1\nNSpgid:\t4711\t17\t1\n"),
            Some(1)
        );
        assert_eq!(inner_pid("Name:\tjava\nNSpid:\t4711\t28\n"), Some(28));
        assert_eq!(inner_pid("Name:\tsh\nNSpid:\t4711\n"), None, "the one namespace is ours");
        assert_eq!(inner_pid("Name:\tNSpid:\\n1 2\nPid:\t4711\n"), None);
        assert_eq!(inner_pid(""), None);
    }

    #[test]
    fn what_hidepid_leaves_out() {
        let mounted = |options: &str| {
            format!(
                "22 28 0:20 / /sys rw - sysfs sysfs rw,hidepid=2\n23 28 0:21 / /proc rw,nosuid \
                 shared:13 - proc proc {options}\n"
            )
        };
        let nobody = "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\n\
                      Groups:\t4 100 \n";
        for (options, hides) in [
            ("rw", false),
            ("rw,hidepid=off", false),
            ("rw,hidepid=0", false),
            ("rw,hidepid=noaccess", false),
            ("rw,hidepid=1", false),
            ("rw,hidepid=invisible", true),
            ("rw,hidepid=2", true),
            ("rw,gid=10,hidepid=invisible", true),
            ("rw,gid=100,hidepid=invisible", false),
            ("rw,gid=65534,hidepid=2", false),
            ("rw,hidepid=ptraceable", true),
            ("rw,gid=100,hidepid=4", true),
        ] {
            assert_eq!(leaves_out(&mounted(options), nobody), hides, "{options}");
        }
        let twice = mounted("rw") + "99 23 0:50 / /proc rw - proc proc rw,hidepid=invisible\n";
        assert!(leaves_out(&twice, nobody), "the upper one counts");
        let root = "Gid:\t0\t0\t0\t0\nGroups:\t\n";
        assert!(!leaves_out(&mounted("rw,hidepid=2"), root), "gid=0 is the default");
        assert!(!leaves_out("", ""));
    }

    proptest! {
        #[test]
        fn no_status_makes_it_panic(text in "(NSpid:)?\\PC*(\nNSpid:[0-9\t -]*)?") {
            let _ = inner_pid(&text);
        }
    }
}
