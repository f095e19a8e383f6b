//! Recordings of each version of the format stay readable, and say what they said.
//!
//! `tests/recordings/vN.tct` was written by the first tcptrace of that version and is never written
//! again; `vN.json` is what a replay says of it. `TCPTRACE_RENEW=1 cargo test --test replay` writes
//! the latter anew where output has changed, and the former where a version is new.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tcptrace::{
    engine::{
        fact::{Fact, Process, Timed},
        waiting::{On, Waiting, WaitingThread, WaitsIn},
        watch::{Plan, Wants, Watch},
    },
    source::{
        recording::{Header, VERSION, options::Options, recorder::Prepared},
        simulation::{
            schedule::{self, Action},
            settings,
            world::World,
        },
    },
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/recordings")
}

fn renews() -> bool {
    std::env::var_os("TCPTRACE_RENEW").is_some()
}

/// What a replay says; its exit code.
fn replayed(file: &Path) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcptrace"));
    let states = "close_wait,fin_wait1,fin_wait2,closing,last_ack";
    command.args(["replay", "--json", "--transitions", "--state", states]).arg(file);
    let output = command.output().expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn each_version_says_what_it_said() {
    let latest = folder().join(format!("v{VERSION}.tct"));
    if renews() && !latest.exists() {
        write(&latest);
    }
    for version in 1..=VERSION {
        let file = folder().join(format!("v{version}.tct"));
        let (out, err, code) = replayed(&file);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{}", file.display());
        let told = file.with_extension("json");
        if renews() {
            fs::write(&told, &out).expect("a file");
        }
        let before = fs::read_to_string(&told).expect("what it said");
        let differ = before.lines().zip(out.lines()).find(|(before, now)| before != now);
        assert_eq!(differ, None, "{}: TCPTRACE_RENEW=1 if that is meant", told.display());
        assert_eq!(before, out);
        for event in ["transition", "stuck", "resolved", "lost", "summary"] {
            assert!(out.contains(&format!("{{\"event\":\"{event}\"")), "none is {event}");
        }
    }
}

#[test]
fn a_newer_one_is_one_clear_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("newer.tct");
    let mut bytes = fs::read(folder().join(format!("v{VERSION}.tct"))).expect("it is there");
    bytes[6] = u8::try_from(VERSION + 1).expect("small");
    let sum = crc32fast::hash(&bytes[4..16]).to_le_bytes();
    bytes[16..20].copy_from_slice(&sum);
    fs::write(&file, bytes).expect("a file");
    let (out, err, code) = replayed(&file);
    assert_eq!((out.as_str(), code), ("", Some(1)));
    assert!(err.lines().count() == 1 && err.contains("version 2 of the format"), "{err}");
}

/// A recording of simulated hosts, one after the other: all kinds of facts are in it.
fn write(file: &Path) {
    let header = Header {
        recording: 0x7463_7074_7261_6365,
        tool: "tcptrace 0.1.0".to_owned(),
        command: ["tcptrace", "record", "-o", "v1.tct"].map(str::to_owned).to_vec(),
        host: "simulated".to_owned(),
        kernel: "6.18.0".to_owned(),
        machine: "x86_64".to_owned(),
        boot: "00000000-0000-4000-8000-000000000000".to_owned(),
        offset_ns: 1_767_323_045_000_000_000,
        states: u32::MAX,
        transitions: true,
        namespaces: vec![(4_026_531_840, "blue".to_owned())],
        sysctls: vec![("net.ipv4.tcp_fin_timeout".to_owned(), "60".to_owned())],
        ..Header::default()
    };
    let options = Options { path: Some(file.to_owned()), ..Options::default() };
    let mut recorder = Prepared::new(options, header).expect("a file").start().expect("a thread");
    let watch = Watch::new(Plan::default());
    let clock = Fact::Clock { offset_ns: 1_767_323_045_000_000_000 };
    let process = Process {
        pid: 7,
        start_ns: 5,
        ppid: 1,
        comm: "python3".to_owned(),
        command: ["python3", "app.py"].map(str::to_owned).to_vec(),
        cgroups: Some("0::/system.slice/app.service\n".to_owned()),
        descriptors: Some(9),
        descriptor_limit: Some(1_024),
        ..Process::default()
    };
    let thread = WaitingThread {
        tid: 7,
        comm: "python3".to_owned(),
        state: 'S',
        wchan: Some("do_epoll_wait".to_owned()),
        call: WaitsIn::In { name: "epoll_pwait".to_owned(), first: 3, second: 0 },
        on: Some(On { kind: "epoll".to_owned(), target: "anon_inode:[eventpoll]".to_owned() }),
    };
    let waiting =
        Waiting { pid: 7, start_ns: 5, of: 1, threads: vec![thread], ..Waiting::default() };
    let first = [
        clock,
        Fact::Process(Box::new(process)),
        Fact::Cgroup { id: 3, path: "/system.slice/app.service".to_owned() },
        Fact::Threads(Box::new(waiting)),
        Fact::Skipped { count: 1 },
    ];
    let first: Vec<Timed> = first.into_iter().map(|fact| Timed { at: 1, fact }).collect();
    recorder.take(&first, &watch, 1).expect("room");
    for seed in 0..12 {
        let mut world = World::new(settings(seed), true);
        let ends = [Action::Pass(6), Action::Drain, Action::Scan, Action::ScanEnds];
        for step in schedule::from_seed(seed).into_iter().chain(ends) {
            world.step(step).unwrap_or_else(|mistake| panic!("seed {seed}: {mistake}"));
        }
        for fact in world.recorded() {
            recorder.ask(fact.at, &mut Wants::default());
            recorder.take(std::slice::from_ref(&fact), &watch, fact.at).expect("room");
        }
    }
    recorder.finish().expect("room");
}
