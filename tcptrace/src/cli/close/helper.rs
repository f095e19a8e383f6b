//! The process that closes connections for a watch: started by it before it gives up its rights, it
//! keeps those that closing takes, and nothing else. It closes what is in CLOSE_WAIT, at the rate
//! that it was started with, and no other connection, whoever asks.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::fd::AsFd,
    thread,
    time::Duration,
};

use rustix::net::{RecvFlags, SendFlags, SocketType, recv, send, sockopt::socket_type};
use tcptrace_common::state::TcpState;

use super::run::{AGAIN, left_alone};
use crate::{
    cli::{ended_by, warn},
    confine::{capabilities, closing},
    engine::{
        close::{CloseAttempt, CloseResult},
        judge::IN_USE_NS,
        record::BootNs,
    },
    exit::{Exit, Failure},
    source::live::{
        boot_now,
        close::{
            CloseTarget, Closer, NotClosed, became,
            wire::{self, Hello, LONGEST, Request, VERSION},
        },
        netns,
    },
};

/// The first word of its command line; the second is the rate.
pub const COMMAND: &str = "close-for-watch";

/// It is looked at each so long whether it has ended: the next one waits meanwhile.
const WAIT: Duration = Duration::from_secs(1);
/// The times that the kernel tells are no more exact.
const SLACK_NS: u64 = 20_000_000;

/// Runs the command.
pub fn run(rate: Option<OsString>) -> Result<Exit, Failure> {
    let not_for_people =
        || Failure::usage(format!("{COMMAND}: watch --close-after starts this; see watch --help"));
    let rate = rate.as_deref().and_then(OsStr::to_str).and_then(|rate| super::rate(rate).ok());
    let rate = rate.ok_or_else(not_for_people)?;
    let orders = io::stdin();
    if socket_type(orders.as_fd()) != Ok(SocketType::SEQPACKET) {
        return Err(not_for_people());
    }
    // What ends the watch ends its input, too.
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: no handler is set: the signal is ignored.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let failed = |e: io::Error| Failure::from(anyhow::Error::from(e).context("closing"));
    let missing = capabilities::keep_closing().map_err(failed)?;
    let unfiltered = closing::confine().err().map(|e| e.to_string());
    let hello = Hello { version: VERSION, missing, unfiltered };
    let said = wire::write(&hello).unwrap_or_default();
    send(orders.as_fd(), &said, SendFlags::NOSIGNAL).map_err(|_| not_for_people())?;
    let pause = Duration::from_secs(1) / rate;
    serve(orders.as_fd(), pause).map_or_else(ended_by, |()| Ok(Exit::Done))
}

fn serve(orders: impl AsFd, pause: Duration) -> io::Result<()> {
    let mut buffer = [0; LONGEST];
    loop {
        let n = match recv(&orders, &mut buffer[..], RecvFlags::empty()) {
            Ok((0, _)) => return Ok(()),
            Ok((n, _)) => n.min(LONGEST),
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return Err(e.into()),
        };
        let Some(request) = wire::read::<Request>(&buffer[..n]) else {
            warn("a request to close something makes no sense: nothing is closed any more");
            return Ok(());
        };
        let done = carry_out(&request);
        let answer = wire::write(&done)
            .or_else(|| wire::write(&CloseAttempt { still_held: None, error: None, ..done }));
        send(&orders, &answer.unwrap_or_default(), SendFlags::NOSIGNAL)?;
        thread::sleep(pause);
    }
}

/// Closes it, if it is still what it was said to be.
fn carry_out(request: &Request) -> CloseAttempt {
    let (target, how) = (request.target(), request.how);
    let (mut all, _) = netns::all();
    all.retain(|netns| netns.inode == target.connection.netns);
    let (mut closer, _) = Closer::enter(&all);
    let ended =
        in_use(&mut closer, &target, request.since_ns).and_then(|()| closer.end(&target, how));
    match ended {
        Ok(()) => became(&target, how, wait(&mut closer, &target)),
        Err(not) => left_alone(&mut closer, &target, how, not),
    }
}

/// Its program may have begun to send since it was scanned last.
fn in_use(closer: &mut Closer, target: &CloseTarget, since_ns: BootNs) -> Result<(), NotClosed> {
    let since_fin_ns = boot_now().saturating_sub(since_ns);
    match closer.sent_ago(&target.connection)? {
        Some(ago) if ago < IN_USE_NS && ago.saturating_add(SLACK_NS) < since_fin_ns => {
            let why = Some("its program has sent data since: its half is in use".to_owned());
            Err(NotClosed { outcome: CloseResult::Changed, why })
        }
        _ => Ok(()),
    }
}

/// Its state when it has ended, or may take longer.
fn wait(closer: &mut Closer, target: &CloseTarget) -> io::Result<Option<TcpState>> {
    let mut left = WAIT;
    loop {
        match closer.now(&target.connection) {
            Ok(Some(_)) if !left.is_zero() => {
                thread::sleep(AGAIN);
                left = left.saturating_sub(AGAIN);
            }
            state => return state,
        }
    }
}
