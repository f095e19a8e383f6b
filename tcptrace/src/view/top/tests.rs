//! The screen on a terminal made of memory.

mod draw;
mod keys;

use std::{net::SocketAddr, rc::Rc};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::Timestamp;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer};
use tcptrace_common::state::TcpState;

use super::{
    app::App,
    draw::draw,
    seen::Seen,
    update::{Effect, Input, update},
};
use crate::{
    engine::{
        blocked::{
            blockage::blockages,
            reading::{ReadProcess, Reading},
        },
        fact::Process,
        forecast::{Between, estimate::Estimate},
        group::GroupBy,
        record::{self, BootNs, Connection, Evidence, Holder, ProcessId, Record, Role},
        update::Lost,
        verdict::Verdict,
        waiting::Waiting,
        watch::WaitsOf,
    },
    formats::{
        cgroup::Cgroups,
        descriptor::{Descriptor, Kind},
        threads::{Call, Thread, call_number},
    },
    view::Clock,
};

const SECOND: u64 = 1_000_000_000;
const NOW: BootNs = 7_200 * SECOND;
const CONTAINER: &str = "0::/system.slice/docker-0b1c2d3e4f50617283940a1b2c3d4e5f60718293a4b5c6d7e8f9000102030405.scope";

fn end(text: &str) -> SocketAddr {
    text.parse().expect("an end")
}

fn holder(pid: u32, comm: &str, fd: u32, cgroups: &str) -> Holder {
    Holder {
        process: ProcessId { pid, start_ns: u64::from(pid) },
        comm: comm.into(),
        name: (comm == "java").then(|| "java shop.jar".into()),
        cgroups: Some(Rc::new(Cgroups::parse(cgroups))),
        ..record::tests::holder(pid, fd)
    }
}

/// A socket in CLOSE_WAIT since `age` seconds.
fn socket(cookie: u64, holder: Holder, verdict: Verdict, remote: &str, age: u64) -> Record {
    let since = NOW - age * SECOND;
    Record {
        connection: Connection {
            cookie,
            netns: 4_026_531_840,
            local: end("10.0.0.1:8080"),
            remote: end(remote),
            mptcp: false,
        },
        earliest_ns: since,
        latest_ns: since,
        seen_ns: NOW,
        verdict: Some(verdict),
        evidence: Evidence {
            recv_q: Some(if verdict == Verdict::UnreadData { 512 } else { 0 }),
            send_q: Some(0),
            accepted: Some(true),
            bytes_sent_since_fin: Some(0),
            ..Evidence::default()
        },
        holders: vec![holder],
        came_in_by: Some(end("10.0.0.1:8080")),
        ..record::tests::leak()
    }
}

/// A server in a container that leaks, one that is stuck, and a ghost.
pub fn sockets() -> Vec<Rc<Record>> {
    let java = |n: u32| {
        let remote = format!("10.0.3.{}:{}", 9 + n % 37, 40_000 + n);
        let held = holder(4711, "java", 20 + n, CONTAINER);
        socket(u64::from(n), held, Verdict::EofNotClosed, &remote, u64::from(3 * n + 5))
    };
    let nginx = |n: u32| {
        let remote = format!("10.0.7.1:{}", 50_000 + n);
        let held = holder(812, "nginx", 8 + n, "0::/system.slice/nginx.service");
        socket(1_000 + u64::from(n), held, Verdict::UnreadData, &remote, 4_000)
    };
    let mut ghost = socket(
        2_000,
        holder(99, "crawler", 7, "0::/user.slice"),
        Verdict::GhostFd,
        "[2001:db8::7]:443",
        90,
    );
    ghost.state = TcpState::Close;
    (ghost.role, ghost.came_in_by) = (Some(Role::Client), None);
    let list = (0..120).map(java).chain((0..3).map(nginx)).chain([ghost]);
    list.map(Rc::new).collect()
}

/// The stuck one's only thread waits for a file system that does not answer.
fn waits() -> WaitsOf {
    let id = ProcessId { pid: 812, start_ns: 812 };
    let number = call_number("read").expect("it is everywhere");
    let call = Call::In { number, first: 7, second: 0 };
    let thread = Thread { tid: 812, comm: "nginx".into(), state: 'D', wchan: None, call };
    let file = |_, _| Some(Descriptor { kind: Kind::File, target: "/mnt/nfs/a".into() });
    let waiting = Waiting::new(id, Ok((vec![thread], 1)), file);
    let threads = Rc::new(waiting.groups());
    let process = ReadProcess { waiting, comm: "nginx".to_owned(), ..ReadProcess::default() };
    let at_ns = NOW - 12 * SECOND;
    let reading = Reading { at_ns, asked: 1, processes: vec![process], ..Reading::default() };
    WaitsOf { threads, causes: blockages(&reading, id).into() }
}

fn full(now: BootNs) -> Estimate {
    let hour = |per_hour| Between { min: per_hour - 60, est: per_hour, max: per_hour + 60 };
    let [min, est, max] = [420, 480, 600].map(|n| now + n * SECOND);
    Estimate { used: 871, limit: 1_024, per_hour: hour(1_147), full_at: Between { min, est, max } }
}

fn seen(now: BootNs, sockets: Vec<Rc<Record>>, stuck: u64, resolved: u64) -> Seen {
    let process = |pid: u32, used, command: &str| {
        let process = Process {
            pid,
            start_ns: u64::from(pid),
            command: command.split(' ').map(str::to_owned).collect(),
            descriptors: Some(used),
            descriptor_limit: Some(1_024),
            ..Process::default()
        };
        (process.id(), process)
    };
    Seen {
        now,
        time_wait: None,
        sockets,
        processes: [process(4711, 871, "/usr/bin/java -jar shop.jar"), process(812, 40, "nginx")]
            .into_iter()
            .collect(),
        waits: [(ProcessId { pid: 812, start_ns: 812 }, waits())].into_iter().collect(),
        full: [(ProcessId { pid: 4711, start_ns: 4711 }, Ok(full(now)))].into_iter().collect(),
        stuck,
        resolved,
        lost: Lost::default(),
    }
}

/// Twenty seconds during which leaks came in, and some went.
fn app(width: u16, height: u16) -> App {
    let then: Timestamp = "2026-01-02T03:04:05Z".parse().expect("a time");
    let clock = Clock::new(then, NOW, true);
    let mut app = App::new("CLOSE_WAIT over 1s".to_owned(), clock, Some(GroupBy::Holder));
    update(&mut app, Input::Resize { width, height });
    let all = sockets();
    for second in 0..=20u64 {
        let so_far = all.iter().take(100 + usize::try_from(second).expect("small") * 2);
        let list = if second == 20 { all.clone() } else { so_far.cloned().collect() };
        let seen = seen(NOW - (20 - second) * SECOND, list, 120 + second * 2, second / 5);
        update(&mut app, Input::Seen(Box::new(seen)));
    }
    app
}

fn key(app: &mut App, code: KeyCode) -> Option<Effect> {
    update(app, Input::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

/// Letters, one by one.
fn keys(app: &mut App, text: &str) {
    for c in text.chars() {
        assert_eq!(key(app, KeyCode::Char(c)), None, "{c}");
    }
}

fn drawn(app: &App) -> Buffer {
    let backend = TestBackend::new(app.width, app.height);
    let mut terminal = Terminal::new(backend).expect("memory");
    terminal.draw(|frame| draw(app, frame)).expect("memory");
    terminal.backend().buffer().clone()
}

/// The screen's lines.
fn lines(app: &App) -> Vec<String> {
    let buffer = drawn(app);
    let line = |y| {
        let cells = (0..buffer.area.width).map(|x| buffer[(x, y)].symbol());
        cells.collect::<String>().trim_end().to_owned()
    };
    (0..buffer.area.height).map(line).collect()
}
