//! A modelled host, a scanner and the core, driven by a schedule.

use tcptrace_common::state::TcpState;

use super::{
    check::{Book, Mistake, Window},
    host::ModelHost,
    parts::SocketId,
    programs::{Programs, Settings},
    scan::{Running, process},
    schedule::{Action, LENGTHS_MS},
};
use crate::engine::{
    fact::{Fact, Timed, Wire},
    record::BootNs,
    watch::{Plan, Said, Watch},
};

/// All of it.
pub struct World {
    host: ModelHost,
    watch: Watch,
    running: Option<Running>,
    scans: u32,
    book: Book,
    /// Facts as they were taken in, where they are to be kept.
    recorded: Option<Vec<Timed>>,
}

/// Runs a schedule, and holds what is said against the truth.
///
/// # Errors
/// The first thing that is not so.
pub fn run(steps: &[Action], settings: Settings) -> Result<World, Mistake> {
    let mut world = World::new(settings, false);
    for (n, step) in steps.iter().enumerate() {
        world.step(*step).map_err(|failure| failure.at(n, *step))?;
    }
    world.settle()?;
    Ok(world)
}

impl World {
    /// A host with one process. `record`: facts are kept.
    #[must_use]
    pub fn new(settings: Settings, record: bool) -> Self {
        let plan = Plan {
            states: settings.states,
            transitions: settings.transitions,
            min_age_ns: settings.min_age_ns,
            ..Plan::default()
        };
        let mut world = Self {
            host: ModelHost::new(Programs::new(settings)),
            watch: Watch::new(plan),
            running: None,
            scans: 0,
            book: Book::new(settings.min_age_ns),
            recorded: record.then(Vec::new),
        };
        let all_processes = true;
        let host = crate::engine::fact::Host { kernel: "simulated".to_owned(), all_processes };
        // The host's first facts say nothing that could be wrong.
        let _ = world.take(vec![Fact::Host(host)], world.host.now);
        world
    }

    /// The core.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// The facts that were taken in, where they were kept.
    pub fn recorded(&mut self) -> Vec<Timed> {
        self.recorded.replace(Vec::new()).unwrap_or_default()
    }

    /// The boot clock, ns.
    #[must_use]
    pub fn now(&self) -> BootNs {
        self.host.now
    }

    /// One thing happens.
    ///
    /// # Errors
    /// What is said and is not so.
    pub fn step(&mut self, step: Action) -> Result<(), Mistake> {
        let host = &mut self.host;
        match step {
            Action::Pass(n) => host.pass(LENGTHS_MS[usize::from(n)] * 1_000_000),
            Action::Spawn => drop(host.spawn(1)),
            Action::Fork(p) => drop(host.fork(pick(p, host.processes.len()))),
            Action::Exit(p) => host.exit(pick(p, host.processes.len())),
            Action::Listen(p, limit) => {
                host.listen(pick(p, host.processes.len()), u32::from(limit % 4));
            }
            Action::Connect(p, l, mptcp) => {
                if let Some(listener) = some_listener(host, l) {
                    host.connect(pick(p, host.processes.len()), None, listener);
                    if mptcp {
                        make_mptcp(host);
                    }
                }
            }
            Action::Reconnect(p, fd, l) => {
                if let (Some((p, fd)), Some(l)) = (ghost(host, p, fd), some_listener(host, l)) {
                    host.connect(p, Some(fd), l);
                }
            }
            Action::Accept(l) => {
                if let Some(listener) = some_listener(host, l)
                    && let Some(p) = holder_of(host, listener)
                {
                    host.accept(p, listener);
                }
            }
            Action::Send(s, taken) => {
                if let Some(id) = some_connection(host, s) {
                    host.send(id, 10, taken);
                }
            }
            Action::Read(s) => {
                if let Some(id) = some_connection(host, s) {
                    host.read(id);
                }
            }
            Action::Dup(p, fd) => with_descriptor(host, p, fd, ModelHost::dup),
            Action::PutInFlight(p, fd) => with_descriptor(host, p, fd, ModelHost::put_in_flight),
            Action::Receive(p) => host.receive(pick(p, host.processes.len())),
            Action::Close(p, fd) => with_descriptor(host, p, fd, ModelHost::close),
            Action::Shutdown(p, fd) => with_descriptor(host, p, fd, |host, p, fd| {
                let file = host.processes[p].fds[&fd];
                host.shutdown(p, host.files[file].socket);
            }),
            Action::Reset(s) => {
                if let Some(id) = some_connection(host, s) {
                    host.reset(id);
                }
            }
            Action::Vanish(s) => {
                if let Some(id) = some_connection(host, s) {
                    host.peer_vanishes(id);
                }
            }
            Action::Miss(n) => host.programs.miss += u32::from(n),
            Action::Memory(is_there) => host.programs.no_memory = !is_there,
            Action::Drain => self.drain()?,
            Action::Scan => self.begin_scan()?,
            Action::ScanSteps(n) => {
                for _ in 0..n {
                    self.scan_step()?;
                }
            }
            Action::ScanEnds => self.end_scan()?,
        }
        Ok(())
    }

    /// Takes out what is in the ring buffer.
    fn drain(&mut self) -> Result<(), Mistake> {
        while let Some(record) = self.host.programs.ring.pop_front() {
            let window = Window { from_ns: record.time_ns, to_ns: record.time_ns };
            let fact = Fact::Change(Wire(record));
            self.take_within(vec![fact], record.time_ns, window)?;
        }
        self.host.programs.follows_ends = self.watch.follows_ends();
        Ok(())
    }

    fn begin_scan(&mut self) -> Result<(), Mistake> {
        if self.running.is_some() {
            return Ok(());
        }
        self.drain()?;
        let wants = self.watch.wants(self.host.now);
        self.take(vec![Fact::ScanBegan], self.host.now)?;
        self.scans += 1;
        self.running = Some(Running::begin(&self.host, self.scans, wants));
        Ok(())
    }

    fn scan_step(&mut self) -> Result<(), Mistake> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        match running.step(&mut self.host) {
            None => self.running = Some(running),
            Some(facts) => {
                // What happened until now is taken in before.
                self.drain()?;
                let window = Window { from_ns: running.began_ns, to_ns: self.host.now };
                self.take_within(facts, self.host.now, window)?;
                self.host.programs.follows_ends = self.watch.follows_ends();
            }
        }
        Ok(())
    }

    fn end_scan(&mut self) -> Result<(), Mistake> {
        while self.running.is_some() {
            self.scan_step()?;
        }
        Ok(())
    }

    fn take(&mut self, facts: Vec<Fact>, at: BootNs) -> Result<(), Mistake> {
        self.take_within(facts, at, Window { from_ns: at, to_ns: at })
    }

    fn take_within(&mut self, facts: Vec<Fact>, at: BootNs, window: Window) -> Result<(), Mistake> {
        let mut said: Vec<Said> = Vec::new();
        for fact in facts {
            let fact = Timed { at, fact };
            self.watch.take(&fact, &mut said);
            if let Some(recorded) = &mut self.recorded {
                recorded.push(fact);
            }
        }
        said.iter().try_for_each(|said| self.book.enter(said, &self.host.truth, window))
    }

    /// Nothing happens any more, nothing is missed, and time goes by: all is known in the end.
    fn settle(&mut self) -> Result<(), Mistake> {
        self.host.programs.miss = 0;
        self.host.programs.no_memory = false;
        self.end_scan()?;
        for round in 0..9 {
            self.host.pass((3 << round) * 1_000_000_000);
            self.drain()?;
            self.begin_scan()?;
            self.end_scan()?;
        }
        let processes = self.host.processes.iter().map(process).collect();
        self.take(processes, self.host.now)?;
        self.book.close(&self.host, &self.watch)
    }
}

fn pick(n: u8, of: usize) -> usize {
    usize::from(n) % of.max(1)
}

fn nth(n: u8, list: &[SocketId]) -> Option<SocketId> {
    list.get(pick(n, list.len())).copied()
}

fn some_listener(host: &ModelHost, n: u8) -> Option<SocketId> {
    let listens = |id: &SocketId| host.sockets[*id].state == TcpState::Listen;
    let list: Vec<SocketId> =
        host.live().filter(listens).filter(|id| host.sockets[*id].limit_is_own()).collect();
    nth(n, &list)
}

fn some_connection(host: &ModelHost, n: u8) -> Option<SocketId> {
    let list: Vec<SocketId> = host.live().filter(|id| host.sockets[*id].was_connected).collect();
    nth(n, &list)
}

fn holder_of(host: &ModelHost, id: SocketId) -> Option<usize> {
    let file = host.sockets[id].file?;
    host.processes.iter().position(|p| p.fds.values().any(|f| *f == file))
}

fn with_descriptor(host: &mut ModelHost, p: u8, fd: u8, act: impl Fn(&mut ModelHost, usize, u32)) {
    let p = pick(p, host.processes.len());
    let fds = &host.processes[p].fds;
    let fd = fds.keys().nth(pick(fd, fds.len())).copied();
    if let Some(fd) = fd {
        act(host, p, fd);
    }
}

/// A descriptor whose connection is over.
fn ghost(host: &ModelHost, p: u8, fd: u8) -> Option<(usize, u32)> {
    let p = pick(p, host.processes.len());
    let over = |file: &usize| {
        let socket = &host.sockets[host.files[*file].socket];
        socket.state == TcpState::Close && socket.was_connected
    };
    let fds = host.processes[p].fds.iter().filter(|(_, file)| over(file));
    let list: Vec<u32> = fds.map(|(fd, _)| *fd).collect();
    list.get(pick(fd, list.len())).map(|fd| (p, *fd))
}

/// The connection that was made last is MPTCP's own, on both sides.
fn make_mptcp(host: &mut ModelHost) {
    let last = host.sockets.len() - 1;
    host.sockets[last].mptcp = true;
}
