//! Everything that reads bytes from outside, each given any bytes at all. `fuzz_targets/` hands
//! these functions to cargo fuzz (`cargo xtask fuzz`), `tests/fuzz.rs` runs them on the corpus and
//! on what it makes of it.
//!
//! | target | bytes | readers |
//! |---|---|---|
//! | [`ring`] | records of the ring buffer | `engine::decode`, and behind it the core and all formats |
//! | [`iter`] | what iterators list | `bpf::iter`, and behind it the core, facts written and read, all formats |
//! | [`netlink`] | answers of sock_diag, orders to close | `formats::{sock_diag, unix_diag}`, and behind it as above; `source::live::close::wire` |
//! | [`proc_files`] | files of `/proc` and `/sys` | `formats::{stat, sysctl, threads, arguments, lines, net_lines, ports, descriptor}`, `engine::{language, check}`, `source::live`, and behind them the page on a process |
//! | [`cgroups`] | `/proc/PID/{cgroup,mountinfo}`, cgroup paths, lists of pods | `formats::{cgroup, container, mounts, pod_list, pods}` |
//! | [`btf`] | BTF, the kernel's or of `--btf` | `formats::btf`, and aya's reader of what that leaves |
//! | [`recording`] | files of `tcptrace record`, frames and batches of facts | `source::recording`, `engine::fact`, and behind them the core and all formats |
//! | [`stacks`] | ELF files, perf maps, `/proc/PID/maps`, Python, JVMs | `source::live::symbols`, `formats::{elf, jvm_dump, maps, perf_map, python}` |
//! | [`selection`] | the command line | `engine::parse`, `cli` |
//! | [`answers`] | what agents, Prometheus and collectors answer | `source::fleet`, `cli::explain`, `serve::otlp::answer`, and behind them all formats |
//! | [`settings`] | files of `--config` | `formats::config_file`, `cli::settings`, and clap behind them |
//!
//! What reaches further than the corpus lies in `target/fuzz/corpus/TARGET` afterwards; a target's
//! binary takes it over with `-merge=1 -use_counters=0 tests/fuzz/corpus/TARGET` and that.

#[path = "answers.rs"]
mod of_answers;
#[path = "blocked.rs"]
mod of_blocked;
#[path = "doctor.rs"]
mod of_doctor;
#[path = "pods.rs"]
mod of_pods;
#[path = "recording.rs"]
mod of_recordings;
#[path = "settings.rs"]
mod of_settings;
#[path = "stacks.rs"]
mod of_stacks;

use std::{net::SocketAddr, os::unix::ffi::OsStrExt, rc::Rc};

use bytes::BytesMut;
use jiff::Timestamp;
use tcptrace::{
    engine::{
        check,
        close::CloseAttempt,
        decode,
        fact::{self, Fact, Records, Scan, Timed, Wire},
        language::language,
        name::name,
        parse::{EndPattern, States, Target, duration},
        record::{BootNs, Holder, ProcessId},
        report::{About, Explanation, ProcessReport},
        select::Selection,
        stack::threads::LeftAlone,
        update::Update,
        verdict::Verdict,
        watch::{Plan, Said, Watch},
    },
    formats::{
        btf::{BtfError, needed},
        cgroup::{CgroupPattern, Cgroups},
        descriptor::{Kind, socket_inode},
        lines, mounts,
        sock_diag::{Detail, Dump, MPTCP, TCP, acknowledgement},
        stat::Stat,
        threads::Threads,
        unix_diag,
    },
    source::live::{
        bpf::{iter::Listing, preflight},
        close::wire::{self, Request},
        limits, netstat, process,
        threads::listener,
    },
    view::{
        Clock, View,
        csv::{Columns, Csv},
        json::{Json, schema},
        table::Table,
        text::{safe, steers},
    },
};
use tcptrace_common::{
    config::MISSING,
    event::{KIND_DESTROY, KIND_HOLDING, KIND_QUEUED, KIND_SOCKET, Transition},
    state::TcpState,
};
use zerocopy::{FromBytes, IntoBytes};

pub use of_answers::answers;
pub use of_recordings::recording;
pub use of_settings::settings;
pub use of_stacks::stacks;

/// When the bytes were read.
const NOW: BootNs = 100_000_000_000;

/// Records one after the other, as the ring buffer hands them out.
pub fn ring(data: &[u8]) {
    let mut watch = watch();
    let mut said = Vec::new();
    for record in data.chunks(size_of::<Transition>()) {
        if let Ok(t) = Transition::read_from_bytes(record) {
            event(&t);
            watch.take(&Timed { at: t.time_ns, fact: Fact::Change(Wire(t)) }, &mut said);
        }
    }
    end(watch, said, data.len());
}

/// One that reports all it hears of.
fn watch() -> Watch {
    let selection = Selection { unleaked: true, ..Selection::default() };
    Watch::new(Plan { selection, transitions: true, min_age_ns: 1, ..Plan::default() })
}

/// One record of the ring buffer: what is decoded says no other than the bytes.
fn event(t: &Transition) {
    let Some(event) = decode::transition(t) else { return };
    let change = &event.change;
    assert_eq!((event.time, change.old as u8, change.new as u8), (t.time_ns, t.old, t.new));
    assert_eq!((change.connection.cookie, event.destroyed), (t.cookie, t.kind == KIND_DESTROY));
    assert_eq!(
        (mapped(change.connection.local), change.connection.local.port()),
        (t.tuple.laddr, t.tuple.lport)
    );
    assert_eq!(
        (mapped(change.connection.remote), change.connection.remote.port()),
        (t.tuple.raddr, t.tuple.rport)
    );
    assert!(event.closed_by.is_none() || event.by_call, "who closes makes a call");
    assert!(!event.ghost || change.new == TcpState::Close);
    if let Some(stayed) = change.stayed.filter(|_| t.earliest_ns <= t.latest_ns) {
        assert!(stayed.max_ns.is_none_or(|max| stayed.min_ns <= max));
    }
}

/// An address as it is on the wire.
fn mapped(end: SocketAddr) -> [u8; 16] {
    match end {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

/// What one read of an iterator returns.
pub fn iter(data: &[u8]) {
    let mut listing = Listing::default();
    listing.take(data);
    let Listing { sockets, holders, queued, origins, skipped } = listing;
    let taken = size_of_val(&sockets[..])
        + size_of_val(&holders[..])
        + size_of_val(&queued[..])
        + size_of_val(&origins[..]);
    assert!(
        taken <= data.len() && (skipped == 0) == (taken == data.len()),
        "each byte once, or counted as skipped"
    );
    assert!(sockets.iter().all(|s| s.kind == KIND_SOCKET));
    assert!(
        holders.iter().all(|h| h.kind == KIND_HOLDING)
            && queued.iter().all(|q| q.kind == KIND_QUEUED)
    );

    let (listeners, sockets): (Vec<_>, Vec<_>) =
        sockets.into_iter().partition(|s| s.state == TcpState::Listen as u8);
    let scan = Scan {
        now_ns: NOW,
        sockets: Records(sockets),
        listeners: Records(listeners),
        holders: Records(holders),
        queued: Records(queued),
        ..Scan::default()
    };
    judge(scan, data.len());
}

/// What sock_diag answers: the first byte says to which question.
pub fn netlink(data: &[u8]) {
    let _ = unix_diag::answer_unix(data);
    let _ = acknowledgement(data);
    let _ = wire::read::<Request>(data).map(|request| request.target());
    let _ = wire::read::<CloseAttempt>(data);
    let Some((question, data)) = data.split_first() else { return };
    let detail = [Detail::Connection, Detail::Listener, Detail::Count][usize::from(question % 3)];
    let protocol = if question & 0x80 == 0 { TCP } else { MPTCP };
    let read = |data: &[u8]| {
        let mut dump = Dump::new(1, protocol, detail);
        let outcome = dump.take(data, NOW);
        assert!(outcome.err().is_none_or(|errno| errno > 0), "an error has a number");
        dump
    };
    let dump = read(data);
    // A header is 16 bytes, a socket 72 more; the rest that is no message counts as one.
    let messages = dump.states.iter().sum::<u64>() + dump.skipped;
    assert!(messages.saturating_sub(1) * 16 <= data.len() as u64);
    assert!(dump.sockets.len() * 88 <= data.len());
    for s in &dump.sockets {
        assert!(s.earliest_ns <= s.latest_ns && s.latest_ns <= NOW);
        assert_eq!((s.kind, s.protocol, s.tuple.netns), (KIND_SOCKET, protocol, 1));
    }
    let half = read(&data[..data.len() / 2]).sockets;
    assert!(
        dump.sockets.as_bytes().starts_with(half.as_bytes()),
        "what follows a message does not change it"
    );
    judge(Scan { now_ns: NOW, sockets: Records(dump.sockets), ..Scan::default() }, data.len());
}

/// From a scan to records to lines, as facts that were written down and read again.
fn judge(scan: Scan, width: usize) {
    let mut watch = watch();
    let mut said = Vec::new();
    let fact = Timed { at: NOW, fact: Fact::Scan(Box::new(scan)) };
    let mut frame = BytesMut::new();
    fact::write(&fact, &mut frame);
    assert_eq!(fact::read(&mut frame.freeze()).as_ref(), Ok(&fact));
    watch.take(&fact, &mut said);
    let explained = watch.rows().filter_map(|record| {
        let (verdict, about) = (record.verdict?, About::Socket(Rc::clone(record)));
        let explanation = Explanation { verdict, about, language: None, role: None };
        Some(Said { time: NOW, update: Update::Explanation(Box::new(explanation)) })
    });
    said.extend(explained.collect::<Vec<_>>());
    end(watch, said, width);
}

/// Nothing is live any more, and every format says so.
fn end(mut watch: Watch, mut said: Vec<Said>, width: usize) {
    let none = Scan { now_ns: NOW, complete: true, ..Scan::default() };
    let none = Timed { at: NOW, fact: Fact::Scan(Box::new(none)) };
    for _ in 0..2 {
        watch.take(&none, &mut said);
    }
    let summary = watch.totals();
    assert_eq!((summary.stuck, summary.still_open), (summary.resolved, 0));
    assert!(summary.leaks <= summary.stuck && summary.leaks_open == 0);
    watch.finish(NOW, &mut said);
    show(&said, width);
}

/// Writes in every format: each is what its readers expect, and none steers a terminal.
fn show(said: &[Said], width: usize) {
    let clock = || Clock::new(Timestamp::UNIX_EPOCH, 0, true);
    let (mut json, mut csv, mut table) = (Vec::new(), Vec::new(), Vec::new());
    let views: [Box<dyn View + '_>; 3] = [
        Box::new(Json::new(&mut json, clock())),
        Box::new(Csv::new(&mut csv, clock(), Columns::Snapshot).expect("memory")),
        Box::new(Table::new(&mut table, clock(), width)),
    ];
    for mut view in views {
        said.iter().for_each(|s| view.update(s.time, &s.update).expect("memory"));
        view.flush().expect("memory");
    }
    let lines = json.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let lines = lines.map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("JSON"));
    let described = lines.inspect(|line| assert_eq!(schema::check(line), Ok(())));
    let (described, checkup) =
        (described.count(), said.iter().any(|s| matches!(s.update, Update::Checkup(_))));
    assert!(described == said.len() || checkup, "a line an update, but for a page of many");
    let rows = csv::Reader::from_reader(&csv[..])
        .into_records()
        .map(|row| row.expect("a row of all columns"));
    let pages = said.iter().filter(|s| is_page(&s.update));
    assert_eq!(rows.count() + pages.count(), said.len(), "a row an update, but for pages");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    for text in [text(json), text(csv), without_styles(&text(table))] {
        assert_eq!(text.chars().find(|c| *c != '\n' && steers(*c)), None);
    }
}

fn is_page(update: &Update) -> bool {
    matches!(update, Update::Process(_) | Update::Explanation(_) | Update::Checkup(_))
}

/// Takes out what sets a style: `ESC [ … m`.
fn without_styles(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let plain = parts.next().into_iter();
    let styled = parts.map(|part| {
        let (style, text) = part.split_once('m').expect("a style's end");
        assert!(style.bytes().all(|b| b.is_ascii_digit() || b == b';'), "nothing but styles");
        text
    });
    plain.chain(styled).collect()
}

/// A file of `/proc` or `/sys`, or one name in it.
pub fn proc_files(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    inert(text);
    if let Some(stat) = Stat::parse(text) {
        assert!(text.contains(&*stat.comm) && text.contains(stat.state));
    }
    let _ = (lines::number::<u32>(text, "Seccomp"), lines::number::<u64>(text, "recursion_misses"));
    let _ = (text.lines().filter_map(listener).count(), preflight::too_old(text));
    let _ = (Kind::of_link(text), language(text, text));
    if let Some(inode) = socket_inode(text) {
        assert_eq!(socket_inode(&format!("socket:[{inode}]")), Some(inode));
    }
    assert!(!check::lockdown(text).found.is_empty());
    of_blocked::files(data, text);
    page(text);
    show(&[Said { time: NOW, update: of_doctor::said(text) }], text.len());

    // Whatever a program calls itself, the file says the same of the rest.
    let stat = Stat::parse(&format!(
        "4711 ({text}) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20\n"
    ));
    assert_eq!(stat, Some(Stat { comm: text.into(), state: 'S', ppid: 1, start_ticks: 19 }));
    // As the kernel escapes it there (proc_task_name).
    let name = text.replace('\\', "\\\\").replace('\n', "\\n");
    assert_eq!(
        process::inner_pid(&format!("Name:\t{name}\nNSpid:\t4711\t17\nSeccomp:\t2\n")),
        Some(17)
    );
}

/// The page on a process whose name, words, cgroup and threads' calls the text has.
fn page(text: &str) {
    let groups = of_blocked::waits(text);
    let read = groups.iter().map(|group| group.tids.len()).sum();
    let threads = Threads { groups, read, of: text.len().max(read) };
    let process = Holder {
        process: ProcessId { pid: 1, start_ns: 1 },
        tid: None,
        ppid: 0,
        fd: Some(0),
        comm: text.into(),
        name: name(text, &[text.to_owned(), text.to_owned()]).map(Rc::from),
        cgroups: Some(Rc::new(Cgroups::parse(&format!("0::/{text}\n{text}")))),
        inner_pid: process::inner_pid(text),
        opener: None,
    };
    let report = ProcessReport {
        process,
        command: process::words(text),
        parent: Some((0, text.into())),
        used: limits::file_nr(text).map(|n| n.used).ok_or("no number"),
        limit: limits::open_files(text).map(|l| l.soft).ok_or("no number"),
        sockets: Vec::new(),
        leaks: 0,
        full: Err(tcptrace::engine::forecast::NoForecast::TooFew),
        listeners: Vec::new(),
        overflows: netstat::field(text, "TcpExt", "ListenOverflows").ok_or("no number"),
        threads: Ok(threads),
        kept: Ok(of_blocked::kept(text)),
        stacks: Err(LeftAlone::NotAskedFor),
    };
    let update = Update::Process(Box::new(report));
    show(&[Said { time: NOW, update }], text.len());
}

/// What steers a terminal is escaped, once.
fn inert(text: &str) {
    let once = safe(text);
    assert!(!once.chars().any(steers));
    assert_eq!(safe(&once), once);
}

/// `/proc/PID/cgroup`, `/proc/PID/mountinfo`, or one path.
pub fn cgroups(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let cgroups = Cgroups::parse(text);
    let within = cgroups.path().map(|path| text.contains(path));
    assert!(within != Some(false) && cgroups.container().is_none_or(|c| !c.id.is_empty()));
    of_pods::pods(text);
    assert!(
        mounts::parse(data).len() <= data.split(|b| *b == b'\n').count(),
        "no more mounts than lines"
    );

    // Whatever a cgroup is called, it is found by its name. The kernel refuses line ends there.
    let path = format!("/{}", text.replace('\n', ""));
    let cgroups = Cgroups::parse(&format!("4:memory:/\n0::{path}\n"));
    assert_eq!(cgroups.path(), Some(&*path));
    let pattern = CgroupPattern { hierarchy: String::new(), path: path.clone() };
    assert!(cgroups.matches(&pattern) && pattern.covers(&format!("{path}/below")));
    assert!(path.ends_with('/') || !pattern.covers(&format!("{path}beside")));

    // Whatever a mount point is called, it is found, and so is the next one.
    let octal = |b: &u8| match b {
        b' ' | b'\t' | b'\n' | b'\\' | b'#' => format!("\\{b:03o}").into_bytes(),
        _ => vec![*b],
    };
    let escaped: Vec<u8> = data.iter().flat_map(octal).collect();
    let lines = [
        b"1 2 0:1 / /",
        &escaped[..],
        b" rw - cgroup2 none rw\n3 1 0:2 / /b rw shared:1 - tmpfs  rw\n",
    ]
    .concat();
    let [first, second] = &mounts::parse(&lines)[..] else { panic!("two mounts") };
    assert_eq!(first.at.as_os_str().as_bytes(), [b"/", data].concat());
    assert_eq!((first.fs_type.as_str(), second.fs_type.as_str()), ("cgroup2", "tmpfs"));
}

/// The kernel's BTF, or a file that is given out as a copy of it.
pub fn btf(data: &[u8]) {
    let Ok(needed) = needed(data) else { return };
    for (strukt, path, offset) in needed.offsets.named() {
        // A struct's size is 32 bits, an offset of a member 32 bits of bits.
        assert!(offset == MISSING || offset <= u32::MAX / 8, "{strukt}.{path}: {offset}");
    }
    assert!(needed.attachable.len() <= 64 * data.len(), "memory goes by the length of the file");
    assert!(
        matches!(
            tcptrace::formats::btf::needed(&needed.attachable),
            Err(BtfError::NoMember { .. })
        ),
        "it is BTF"
    );
    let _ = aya::Btf::parse(&needed.attachable, aya::Endianness::default());
}

/// A value of a flag; or where there are NUL bytes, arguments that each end in one.
pub fn selection(data: &[u8]) {
    if data.contains(&0) {
        return of_settings::arguments(data);
    }
    let text = &*String::from_utf8_lossy(data);
    inert(text);
    if let Ok(length) = duration(text) {
        let again = format!("{}s {}ns", length.as_secs(), length.subsec_nanos());
        assert_eq!(duration(&again), Ok(length));
    }
    if let Ok(states) = text.parse::<States>() {
        let names: Vec<&str> =
            TcpState::ALL.iter().filter(|s| states.0 & s.bit() != 0).map(|s| s.name()).collect();
        assert_eq!(names.join(",").parse(), Ok(states), "a state has its name");
    }
    if let Ok(verdict) = text.parse::<Verdict>() {
        assert_eq!(verdict.name().parse(), Ok(verdict));
    }
    if let Ok(end) = text.parse::<EndPattern>() {
        assert_eq!(end.to_string().parse(), Ok(end), "{end}");
    }
    if let Ok(target) = text.parse::<Target>() {
        assert_eq!(target.to_string().parse(), Ok(target), "{target}");
    }
}
