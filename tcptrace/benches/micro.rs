//! Records a second on one core, for each step of user space: decoding an event, following a socket
//! from its first report to its end, judging a record, writing a line.

use std::{hint::black_box, io::sink};

use criterion::{Criterion, Throughput};
use jiff::Timestamp;
use tcptrace::{
    engine::{assemble, decode, holdings::Holdings, tracker::Tracker, update::Update},
    view::{Clock, View, json::Json},
};
use tcptrace_common::{
    event::{HAS_SOCKET, HAS_TCP, KIND_SOCKET, KIND_TRANSITION, Socket, Transition, Tuple},
    state::TcpState,
};
use zerocopy::FromZeros;

const SECOND: u64 = 1_000_000_000;

fn tuple(n: u64) -> Tuple {
    let address = |last| [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, last];
    Tuple { laddr: address(1), raddr: address(2), netns: 1, lport: 80, rport: n as u16 | 1024 }
}

fn transition(n: u64, old: TcpState, new: TcpState) -> Transition {
    let mut t = Transition::new_zeroed();
    (t.kind, t.cookie, t.protocol, t.tuple, t.pid) = (KIND_TRANSITION, n + 1, 6, tuple(n), 4711);
    (t.old, t.new, t.time_ns, t.earliest_ns, t.latest_ns) =
        (old as u8, new as u8, 9 * SECOND, SECOND, SECOND);
    t
}

fn socket(n: u64) -> Socket {
    let mut s = Socket::new_zeroed();
    (s.kind, s.cookie, s.protocol, s.tuple) = (KIND_SOCKET, n + 1, 6, tuple(n));
    (s.state, s.flags, s.recv_q) = (TcpState::CloseWait as u8, HAS_TCP | HAS_SOCKET, n as u32 % 3);
    (s.earliest_ns, s.latest_ns, s.sent_ago_ns) = (SECOND, SECOND, u64::MAX);
    s
}

fn micro(c: &mut Criterion) {
    let mut group = c.benchmark_group("one record");
    group.throughput(Throughput::Elements(1));
    let closed = transition(1, TcpState::CloseWait, TcpState::LastAck);
    group.bench_function("decode", |b| b.iter(|| decode::transition(black_box(&closed))));

    let mut holdings = Holdings::default();
    let one = socket(1);
    group.bench_function("judge", |b| {
        b.iter(|| assemble::record(black_box(&one), &mut holdings, None, None, 9 * SECOND))
    });

    let event = decode::transition(&closed).expect("a transition");
    let record = assemble::record(&one, &mut holdings, None, None, 9 * SECOND);
    let mut tracker = Tracker::new(SECOND);
    for n in 0..100_000 {
        tracker.stuck(assemble::record(&socket(n + 10), &mut holdings, None, None, 9 * SECOND), 0);
    }
    group.bench_function("stuck and resolved, among 100,000", |b| {
        b.iter(|| {
            let mut again = record.clone();
            again.connection.cookie = 2;
            tracker.stuck(again, 0);
            tracker.event(black_box(&event), SECOND)
        });
    });

    let mut json = Json::new(sink(), Clock::new(Timestamp::UNIX_EPOCH, 0, true));
    let streamed = Update::Transition(event.change.clone());
    group.bench_function("write a transition", |b| {
        b.iter(|| json.update(9 * SECOND, black_box(&streamed)))
    });
    let stuck = Update::Stuck(record.into());
    group.bench_function("write a record", |b| {
        b.iter(|| json.update(9 * SECOND, black_box(&stuck)))
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    micro(&mut criterion);
    criterion.final_summary();
}
