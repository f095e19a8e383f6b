//! What the systemd unit leaves a watch: a root that can't be written, an unprivileged user, two
//! capabilities.

use std::{
    ffi::CStr,
    fs, io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    process::Command,
};

use rustix::{
    mount::{MountPropagationFlags, mount_change},
    process::Signal,
    thread::{UnshareFlags, set_no_new_privs, unshare_unsafe},
};

use crate::{
    limits::as_nobody,
    tests,
    tracer::{Pair, Tracer, holder_pids, netns},
};

tests![as_the_unit_runs_it];

const UNIT: &str = include_str!("../../xtask/src/dist/tcptrace.service");

fn as_the_unit_runs_it() {
    let mut touch = Command::new("touch");
    let refused =
        sandboxed(touch.arg(std::env::temp_dir().join("x"))).output().expect("touch is there");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Read-only"), "{refused:?}");

    let ns = netns();
    let mut pair = Pair::new(&ns);
    let mut command = as_nobody(&capabilities());
    let port = pair.address.port().to_string();
    let dir = tempfile::tempdir_in("/tmp").expect("a directory");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let file = dir.path().join("tcptrace.toml");
    fs::write(&file, "[watch]\nmin-age = \"200ms\"\n").expect("a file");
    command.args(["watch", "--format", "json", "--lport", &port, "--config"]).arg(&file);
    sandboxed(&mut command);
    let mut tracer = Tracer::start(command);
    pair.client_closes();
    assert_eq!(holder_pids(&tracer.next("stuck")), [u64::from(pair.server.pid())]);
    let status = fs::read_to_string(format!("/proc/{}/status", tracer.pid())).expect("it runs");
    assert!(status.contains("Uid:\t65534") && status.contains("NoNewPrivs:\t1"), "{status}");
    // As `systemctl reload` has it read what anybody may read.
    fs::write(&file, "[watch]\nmin-age = \"300ms\"\n").expect("a file");
    tracer.signal(Signal::HUP);
    pair.server_closes();
    tracer.next("resolved");
    assert!(tracer.finish().1.success());
}

/// The unit's, as setpriv spells them.
fn capabilities() -> String {
    let line = UNIT
        .lines()
        .find_map(|line| line.strip_prefix("AmbientCapabilities="))
        .expect("a line of the unit");
    line.to_lowercase().replace("cap_", "+").replace(' ', ",")
}

/// Makes a command run where nothing that is mounted can be written.
fn sandboxed(command: &mut Command) -> &mut Command {
    // SAFETY: system calls without allocation, in a child that has one thread; the mounts are its
    // own.
    unsafe {
        command.pre_exec(|| {
            unshare_unsafe(UnshareFlags::NEWNS)?;
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
            read_only(c"/")?;
            Ok(set_no_new_privs(true)?)
        })
    }
}

/// A mount and all below it (mount_setattr(2), Linux 5.12).
fn read_only(path: &CStr) -> io::Result<()> {
    let attr = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path ends with a NUL, the attributes are as large as is said; both outlive the
    // call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attr,
            size_of_val(&attr),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
