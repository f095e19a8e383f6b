//! What happens, step by step: made from a seed, and shrunk to what is needed for a failure.

use std::fmt;

/// One thing that happens. Numbers choose among what there is at that moment, so that any part of a
/// schedule is a schedule; what can't happen does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Time goes by: one of [`LENGTHS_MS`].
    Pass(u8),
    /// A process starts.
    Spawn,
    /// One forks.
    Fork(u8),
    /// One ends, and lets go of all it holds.
    Exit(u8),
    /// One listens: so many may wait.
    Listen(u8, u8),
    /// One connects to a listener; the third: as MPTCP.
    Connect(u8, u8, bool),
    /// One connects again on a descriptor whose connection is over.
    Reconnect(u8, u8, u8),
    /// Who listens takes a connection.
    Accept(u8),
    /// An end of a connection sends; the second: the peer takes it.
    Send(u8, bool),
    /// An end reads all there is.
    Read(u8),
    /// A descriptor is copied within its process.
    Dup(u8, u8),
    /// A descriptor goes into a message.
    PutInFlight(u8, u8),
    /// A process receives the last message.
    Receive(u8),
    /// A process closes a descriptor.
    Close(u8, u8),
    /// A process shuts its sending side down.
    Shutdown(u8, u8),
    /// A reset comes.
    Reset(u8),
    /// The peer is never heard of again.
    Vanish(u8),
    /// The kernel does not run the programs so many times.
    Miss(u8),
    /// There is no memory for socket storage, or there is again.
    Memory(bool),
    /// User space takes out what is in the ring buffer.
    Drain,
    /// A scan begins.
    Scan,
    /// The scan goes so many steps on.
    ScanSteps(u8),
    /// The scan goes on to its end, and is taken in.
    ScanEnds,
}

/// Lengths of time that pass, ms.
pub const LENGTHS_MS: [u64; 8] = [1, 50, 120, 400, 1_100, 5_000, 35_000, 70_000];

/// Numbers from a seed (SplitMix64, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// From a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

/// The schedule of a seed.
#[must_use]
pub fn from_seed(seed: u64) -> Vec<Action> {
    let mut random = Random::new(seed);
    let length = 20 + random.below(140);
    // What a schedule is about: each kind of trouble in some, none in many.
    let (losses, short, odd) = (random.below(4) == 0, random.below(8) == 0, random.below(3) == 0);
    let mut steps = vec![Action::Listen(0, 2), Action::Spawn];
    for _ in 0..length {
        steps.push(step(&mut random, losses, short, odd));
    }
    steps
}

fn step(random: &mut Random, losses: bool, short: bool, odd: bool) -> Action {
    let (a, b, c) = (random.byte(), random.byte(), random.byte());
    match random.below(100) {
        0..16 => Action::Connect(a, b, odd && c % 8 == 0),
        16..26 => Action::Accept(a),
        26..38 => Action::Close(a, b),
        38..42 => Action::Shutdown(a, b),
        42..46 => Action::Reset(a),
        46..50 => Action::Send(a, b % 4 != 0),
        50..54 => Action::Read(a),
        54..66 => Action::Pass(a % LENGTHS_MS.len() as u8),
        66..72 => Action::Scan,
        72..80 => Action::ScanSteps(1 + a % 6),
        80..86 => Action::ScanEnds,
        86..90 => Action::Drain,
        90..92 => Action::Fork(a),
        92 => Action::Exit(a),
        93 => Action::Spawn,
        94 if odd => Action::PutInFlight(a, b),
        95 if odd => Action::Receive(a),
        96 if odd => Action::Reconnect(a, b, c),
        96 => Action::Dup(a, b),
        97 if losses => Action::Miss(1 + a % 3),
        98 if short => Action::Memory(a % 2 == 0),
        98 => Action::Vanish(a),
        99 => Action::Listen(a, b % 4),
        _ => Action::Drain,
    }
}

/// The shortest part of a schedule that still fails: what can be left out is left out, in halves,
/// quarters and so on, until nothing can be.
pub fn shrink(mut steps: Vec<Action>, fails: impl Fn(&[Action]) -> bool) -> Vec<Action> {
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < steps.len() {
            let end = (at + size).min(steps.len());
            let part = [&steps[..at], &steps[end..]].concat();
            if fails(&part) {
                steps = part;
                shorter = true;
            } else {
                at = end;
            }
        }
        if !shorter || size > 1 {
            size = if shorter && size == 1 { 1 } else { size / 2 };
        }
    }
    steps
}

/// A schedule as it can be pasted into a test.
pub struct Listed<'a>(pub &'a [Action]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "    {step:?},"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(from_seed(7), from_seed(7));
        assert_ne!(from_seed(7), from_seed(8));
    }

    #[test]
    fn what_is_not_needed_goes() {
        let needed = [Action::Miss(1), Action::Drain];
        let fails = |steps: &[Action]| needed.iter().all(|n| steps.contains(n));
        let mut steps = from_seed(3);
        steps.insert(5, Action::Miss(1));
        steps.push(Action::Drain);
        let short = shrink(steps, fails);
        assert_eq!(short.len(), 2, "{}", Listed(&short));
    }
}
