//! What goes wrong around a watch, while it runs. Nothing is lost that isn't counted, nobody is
//! named who was not there, and nothing is left in the kernel: docs/faults.md has the list.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Seek},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, ChildStderr, Command, Stdio},
    thread,
};

use rustix::{
    fs::{Mode, OFlags, openat},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
        fsopen,
    },
    process::Signal,
    time::{ClockId, clock_gettime, clock_settime},
};
use serde_json::{Value, json};

use crate::{
    Test,
    support::{bpf::Held, cgroup::Cgroup, netns::Netns},
    tests,
    tracer::{Pair, Tracer, holder_pids, load, netns, nothing_left, start, tcptrace},
};

tests![
    a_traced_process_is_killed,
    a_pid_is_given_to_another,
    a_pid_is_given_to_another_before_anybody_looks,
    a_network_namespace_goes,
    a_cgroup_goes,
    the_reader_goes,
    nobody_reads_at_all,
    a_full_disk,
    two_at_once,
    ended_in_the_middle,
    killed_in_the_middle,
];

/// The clock is everyone's.
pub const ALONE: &[Test] =
    &[(concat!(module_path!(), "::the_clock_is_set_back"), the_clock_is_set_back)];

const BRIEF: [&str; 2] = ["--min-age", "200ms"];
const STREAM: [&str; 5] = ["--transitions", "--state", "all", "--min-age", "10m"];

/// What a watch lost of its own; runs that the kernel could not make are counted for the whole
/// machine.
fn lost_nothing(summary: &Value) {
    for kind in ["ring_full", "storage_failed", "skipped"] {
        assert_eq!(summary["lost"][kind], 0, "{summary}");
    }
}

/// A watch in JSON whose streams are the test's: where its stderr is after the start, and what it
/// has in the kernel.
fn started(ns: &Netns, args: &[&str], stdout: Stdio) -> (Child, BufReader<ChildStderr>, Held) {
    let mut child = tcptrace()
        .args(["watch", "--format", "json", "--netns", ns.path().to_str().expect("plain")])
        .args(args)
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()
        .expect("tcptrace starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr"));
    let mut said = String::new();
    while !said.contains("watching ") {
        assert!(stderr.read_line(&mut said).expect("stderr") > 0, "{said}");
    }
    let held = Held::by(child.id()).expect("it runs");
    assert!(
        held.count("prog_id") >= 5 && held.count("map_id") >= 5 && held.count("link_id") >= 4,
        "{held:?}"
    );
    (child, stderr, held)
}

/// What it says at its end, and its exit code; nothing is left of it in the kernel.
fn ended(
    (mut child, mut stderr, held): (Child, BufReader<ChildStderr>, Held),
) -> (String, Option<i32>) {
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("UTF-8");
    let code = child.wait().expect("it ends").code();
    nothing_left(&held);
    (said, code)
}

/// Its sockets are closed for it, one after the other, and each end is said.
fn a_traced_process_is_killed() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &BRIEF);
    let (mut server, mut client) = (start(&ns), start(&ns));
    let listener = server.number("listen 127.0.0.1:0 128").expect("listens");
    let address = server.address(&format!("address {listener}")).expect("an address");
    for _ in 0..50 {
        let connected = client.number(&format!("connect {address}")).expect("connects");
        server.number(&format!("accept {listener}")).expect("accepts");
        client.tell(&format!("close {connected}")).expect("closes");
    }
    (0..50).for_each(|_| drop(tracer.next("stuck")));
    let pid = server.pid();
    // Dropped without a word, which kills it.
    drop(server);
    for _ in 0..50 {
        assert_eq!(tracer.next("resolved")["closed_by"]["pid"], pid);
    }
    let (summary, _) = tracer.finish();
    assert_eq!(summary["still_open"], 0, "{summary}");
    lost_nothing(&summary);
}

/// A process is its pid and its start: the next one with that pid held nothing of what the first
/// held.
fn a_pid_is_given_to_another() {
    let ns = netns();
    let mut pair = Pair::new(&ns);
    pair.server.tell("name first").expect("renames itself");
    let pid = pair.server.number("fork").expect("forks");
    let mut tracer = Tracer::watch(&ns, &BRIEF);
    let mut later = Pair::new(&ns);
    let asked = [&pid.to_string(), &later.server.pid().to_string()];
    let asked = ["--pid", asked[0], "--pid", asked[1], "--children"];
    let mut of_the_first = Tracer::unscoped(&[&BRIEF[..], &asked].concat());
    pair.client_closes();
    let both = tracer.wait_for("both", |e| e["event"] == "stuck" && holder_pids(e).len() == 2);
    of_the_first.next("stuck");
    pair.server.tell(&format!("end {pid}")).expect("ends it");

    let mut second = Pair::new(&ns);
    second.server.tell("name second").expect("renames itself");
    assert_eq!(second.server.number(&format!("fork-as {pid}")).expect("the pid is free"), pid);
    second.server_closes();
    second.client_closes();
    let news =
        tracer.wait_for("the second", |e| e["event"] == "stuck" && e["cookie"] != both["cookie"]);
    assert_eq!(holder_pids(&news), [u64::from(pid)]);
    assert_eq!(
        (&news["holders"][0]["comm"], &news["former_holders"]),
        (&json!("second"), &json!(null)),
        "{news}"
    );
    // The first one's socket is remembered as the first one's.
    let old = tracer.wait_for("the first again", |e| {
        e["event"] == "stuck" && e["cookie"] == both["cookie"] && e["former_holders"].is_array()
    });
    assert_eq!(holder_pids(&old), [u64::from(pair.server.pid())]);
    let former = &old["former_holders"][0];
    assert_eq!((&former["pid"], &former["comm"]), (&json!(pid), &json!("first")), "{old}");
    of_the_first.next("resolved");
    later.client_closes();
    let stuck = of_the_first.next("stuck");
    assert_eq!(
        holder_pids(&stuck),
        [u64::from(later.server.pid())],
        "the second was not asked for"
    );
    let (summary, _) = of_the_first.finish();
    assert_eq!(summary["stuck"], 2, "nor later: {summary}");
    lost_nothing(&tracer.finish().0);
}

/// A stay began and ended, and its process with it, while the watch was stopped: it is asked for by
/// the process that closed, not by the one that has its pid now.
fn a_pid_is_given_to_another_before_anybody_looks() {
    let ns = netns();
    let mut prompt = Tracer::watch(&ns, &BRIEF);
    let (mut first, mut second) = (Pair::new(&ns), Pair::new(&ns));
    first.server.tell("name first").expect("renames itself");
    second.server.tell("name second").expect("renames itself");
    let by_name = |name| Tracer::watch(&ns, &[&BRIEF[..], &["--comm", name]].concat());
    let (mut of_the_first, mut of_the_second) = (by_name("first"), by_name("second"));
    for stopped in [&of_the_first, &of_the_second] {
        stopped.signal(Signal::STOP);
    }
    let pid = first.server.number("fork").expect("forks");
    first.server_closes();
    first.client_closes();
    assert_eq!(holder_pids(&prompt.next("stuck")), [u64::from(pid)]);
    first.server.tell(&format!("end {pid}")).expect("ends it");
    assert_eq!(prompt.next("resolved")["closed_by"], json!({"pid": pid, "comm": "first"}));
    second.server.tell(&format!("fork-as {pid}")).expect("the pid is free");
    for stopped in [&of_the_first, &of_the_second] {
        stopped.signal(Signal::CONT);
    }
    let stuck = of_the_first.next("stuck");
    assert_eq!(stuck["unknown"]["holders"], "it ended before a scan could see it");
    assert_eq!(of_the_first.next("resolved")["closed_by"], json!({"pid": pid, "comm": "first"}));
    lost_nothing(&of_the_first.finish().0);
    // It leaks itself, later.
    second.client_closes();
    let holders = holder_pids(&of_the_second.next("stuck"));
    assert!(holders.contains(&u64::from(second.server.pid())), "{holders:?}");
    assert_eq!(of_the_second.finish().0["stuck"], 1);
}

fn a_network_namespace_goes() {
    let ns = netns();
    let mut inside = Tracer::watch(&ns, &BRIEF);
    let mut pair = Pair::new(&ns);
    let port = pair.address.port().to_string();
    let mut everywhere = Tracer::unscoped(&[&BRIEF[..], &["--lport", &port]].concat());
    pair.client_closes();
    let server = pair.server.pid();
    for tracer in [&mut inside, &mut everywhere] {
        tracer.next("stuck");
    }
    // With its last process and its last descriptor it is gone.
    drop((pair, ns));
    for tracer in [&mut inside, &mut everywhere] {
        assert_eq!(tracer.next("resolved")["closed_by"]["pid"], server);
    }
    let (summary, status) = inside.finish();
    let counts = ["stuck", "resolved", "still_open"].map(|k| summary[k].as_u64());
    assert_eq!((status.code(), counts), (Some(0), [Some(1), Some(1), Some(0)]));
    lost_nothing(&summary);
    // The next one is seen from its beginning.
    let ns = netns();
    let mut pair = Pair::over(&ns, &format!("127.0.0.1:{port}"), "127.0.0.1");
    pair.client_closes();
    assert_eq!(everywhere.next("stuck")["netns"], ns.inode());
    lost_nothing(&everywhere.finish().0);
}

fn a_cgroup_goes() {
    let ns = netns();
    let cgroup = Cgroup::new("goes").expect("root may make cgroups");
    let path = cgroup.path().to_owned();
    let pair = |cgroup: &Cgroup| {
        let server = start(&ns);
        cgroup.take("", &server).expect("moves");
        Pair::between(server, start(&ns), "127.0.0.1:0", "127.0.0.1")
    };
    let mut first = pair(&cgroup);
    let mut tracer =
        Tracer::unscoped(&[&BRIEF[..], &["--cgroup", path.to_str().expect("plain")]].concat());
    first.client_closes();
    let stuck = tracer.next("stuck");
    // The kernel lets it be removed once nobody is in it.
    cgroup.leave(&first.server).expect("moves");
    drop(cgroup);
    assert!(!path.exists());
    let again = tracer.next("stuck");
    assert_eq!(again["cookie"], stuck["cookie"], "its socket was made there");
    first.server_closes();
    assert_eq!(tracer.next("resolved")["closed_by"]["pid"], first.server.pid());
    // And one by the same name is looked into as the first was.
    let cgroup = Cgroup::new("goes").expect("root may make cgroups");
    let mut second = pair(&cgroup);
    second.client_closes();
    assert_eq!(holder_pids(&tracer.next("stuck")), [u64::from(second.server.pid())]);
    lost_nothing(&tracer.finish().0);
}

/// Who leaves a pipe has seen enough.
fn the_reader_goes() {
    let ns = netns();
    let mut watch = started(&ns, &STREAM, Stdio::piped());
    drop(watch.0.stdout.take());
    let _pair = Pair::new(&ns);
    assert_eq!(ended(watch), (String::new(), Some(0)));
}

fn nobody_reads_at_all() {
    let ns = netns();
    let watch = |args: &[&str]| {
        let mut command = tcptrace();
        command
            .args(["watch", "--netns", ns.path().to_str().expect("plain")])
            .args(args)
            .stdout(Stdio::null());
        command
    };
    let nobody = || std::io::pipe().expect("a pipe").1;
    let code = |command: &mut Command| command.status().expect("it runs").code();
    let brief = ["--duration", "50ms"];
    assert_eq!(code(watch(&brief).stderr(nobody())), Some(0), "warnings are no reason to end");
    let full = File::options().write(true).open("/dev/full").expect("/dev/full");
    assert_eq!(code(watch(&brief).stderr(full)), Some(0), "nor where they go");
    assert_eq!(
        code(watch(&["--pid", "4194304"]).stderr(nobody())),
        Some(2),
        "the exit code still says it"
    );
    let mut closed = watch(&brief);
    let close = || {
        for fd in 0..3 {
            // SAFETY: nobody uses these in the child between fork and exec.
            unsafe { libc::close(fd) };
        }
        Ok(())
    };
    // SAFETY: system calls only.
    unsafe { closed.pre_exec(close) };
    assert_eq!(code(&mut closed), Some(0), "as from a daemon that closed all");
}

/// Said, with exit code 1; what was written before is whole.
fn a_full_disk() {
    let ns = netns();
    let full = File::create("/dev/full").expect("/dev/full");
    let (said, code) = ended(started(&ns, &["--duration", "100ms"], full.into()));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.lines().last().is_some_and(|l| l.contains("No space left on device")), "{said}");

    for args in [&["--help"][..], &["--version"], &["watch", "-h"]] {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let output = tcptrace().args(args).stdout(full).output().expect("it runs");
        let said = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    }

    let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).expect("a file system");
    fsconfig_set_string(fs.as_fd(), "size", "64k")
        .and_then(|()| fsconfig_create(fs.as_fd()))
        .expect("a small one");
    let disk = fsmount(fs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .expect("mounts");
    let file = openat(&disk, "out", OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR)
        .expect("a file");
    let mut file = File::from(file);
    let watch = started(&ns, &STREAM, file.try_clone().expect("twice").into());
    load(&ns, 500);
    let (said, code) = ended(watch);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.lines().last().is_some_and(|l| l.contains("No space left on device")), "{said}");
    file.rewind().expect("a file");
    let mut text = String::new();
    file.read_to_string(&mut text).expect("UTF-8");
    let (whole, _cut) = text.rsplit_once('\n').expect("lines");
    assert!(whole.lines().count() > 100);
    whole.lines().for_each(|l| drop(serde_json::from_str::<Value>(l).expect("JSON")));
}

/// Neither takes anything from the other, nor leaves with the other.
fn two_at_once() {
    let ns = netns();
    let (mut one, mut other) = (Tracer::watch(&ns, &BRIEF), Tracer::watch(&ns, &BRIEF));
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    assert_eq!(one.next("stuck")["cookie"], other.next("stuck")["cookie"]);
    let held = one.held();
    // Dropped without a word, which kills it.
    drop(one);
    nothing_left(&held);
    pair.server_closes();
    assert_eq!(other.next("resolved")["closed_by"]["pid"], pair.server.pid());
    let mut next = Pair::new(&ns);
    next.client_closes();
    assert_eq!(holder_pids(&other.next("stuck")), [u64::from(next.server.pid())]);
    lost_nothing(&other.finish().0);
}

/// By SIGTERM, while events come: all that was handed over until then is said, and the counts
/// agree.
fn ended_in_the_middle() {
    let ns = netns();
    let mut tracer = Tracer::watch(&ns, &STREAM);
    let summary = thread::scope(|scope| {
        let load = scope.spawn(|| load(&ns, 5_000));
        tracer.next("transition");
        tracer.signal(Signal::TERM);
        let (summary, status) = tracer.ended();
        assert_eq!(status.code(), Some(0));
        load.join().expect("the load goes on without us");
        summary
    });
    let count = |name: &str| summary["transitions"][name].as_u64().expect("a count");
    let ring_full = summary["lost"]["ring_full"].as_u64().expect("a count");
    assert_eq!(count("seen"), count("filtered") + count("emitted") + ring_full, "{summary}");
    let shown = tracer.heard.iter().filter(|e| e["event"] == "transition").count() as u64;
    assert_eq!(shown, count("emitted"), "{summary}");
    assert!(shown > 0);
}

/// Programs, maps and links are held by descriptors: they go with the process.
fn killed_in_the_middle() {
    let ns = netns();
    let mut watch = started(&ns, &STREAM, Stdio::null());
    thread::scope(|scope| {
        let load = scope.spawn(|| load(&ns, 1_000));
        watch.0.kill().expect("it runs");
        assert_eq!(ended(watch), (String::new(), None));
        load.join().expect("the load goes on without us");
    });
}

/// Times follow it, ages do not.
fn the_clock_is_set_back() {
    const HOUR: i64 = 3_600;
    let set = |by: i64| {
        let mut now = clock_gettime(ClockId::Realtime);
        now.tv_sec += by;
        clock_settime(ClockId::Realtime, now).expect("root may set the clock");
    };
    let ns = netns();
    let (child, mut stderr, held) = started(&ns, &BRIEF, Stdio::piped());
    let mut pair = Pair::new(&ns);
    pair.client_closes();
    set(-HOUR);
    let mut said = String::new();
    stderr.read_line(&mut said).expect("a line");
    set(HOUR);
    stderr.read_line(&mut said).expect("another line");
    let words: Vec<bool> = said
        .lines()
        .map(|l| l.contains("was set back by") || l.contains("was set forward by"))
        .collect();
    assert_eq!(words, [true, true], "{said}");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(child.id().cast_signed()).expect("a pid"),
        Signal::TERM,
    )
    .expect("it runs");
    let mut child = child;
    let mut out = String::new();
    child.stdout.take().expect("stdout").read_to_string(&mut out).expect("UTF-8");
    let ages = out.lines().map(|l| serde_json::from_str::<Value>(l).expect("JSON"));
    let ages: Vec<f64> = ages.filter_map(|e| e["age_ms"]["max"].as_f64()).collect();
    assert!(ages.iter().all(|age| *age < HOUR as f64 * 500.0), "{ages:?}");
    assert_eq!(ended((child, stderr, held)).1, Some(0));
}
