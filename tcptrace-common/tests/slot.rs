//! The slot protocol in all interleavings: sockets that share a slot, and a scan.

use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use loom::{
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{self, AcqRel, Acquire, Release},
        },
    },
    thread,
};
use tcptrace_common::slot::{Found, Place, Slot, Word};

const A: u64 = 0xa;
const B: u64 = 0xb;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
/// Stands for any state that is not watched.
const OTHER: u8 = 0;
/// More stays than any test begins. A stay's name is when it began, from 1.
const STAYS: usize = 8;

#[derive(Clone, Copy)]
struct Modelled<'a>(&'a AtomicU64);

impl Word for Modelled<'_> {
    fn load(self) -> u64 {
        self.0.load(Acquire)
    }

    fn store(self, value: u64) {
        self.0.store(value, Release);
    }

    fn exchange(self, from: u64, to: u64) -> bool {
        self.0.compare_exchange(from, to, AcqRel, Acquire).is_ok()
    }
}

/// A place and the state of the stay in it, which nothing orders but the protocol.
#[derive(Default)]
struct Kept {
    since: AtomicU64,
    state: AtomicU64,
}

impl Kept {
    fn place(&self) -> Place<Modelled<'_>> {
        Place(Modelled(&self.since))
    }

    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed) as u8
    }

    fn set_state(&self, state: u8) {
        self.state.store(state.into(), Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Storage {
    settled: Kept,
    moved: Kept,
}

/// One slot and the storage of two sockets, which stand for a host's; and the truth.
#[derive(Default)]
struct Host {
    owner: AtomicU64,
    slot: Kept,
    a: Storage,
    b: Storage,
    /// How often each stay ended or was thrown out.
    gone: [AtomicU32; STAYS],
    /// The state of each stay that was begun.
    begun: Mutex<[u8; STAYS]>,
    /// The stay whose end the hot path did not see: who comes upon it throws it out uncounted.
    missed: AtomicU32,
}

impl Host {
    fn slot(&self) -> Slot<Modelled<'_>> {
        Slot { owner: Modelled(&self.owner), since: Modelled(&self.slot.since) }
    }

    fn storage(&self, sk: u64) -> &Storage {
        if sk == A { &self.a } else { &self.b }
    }

    fn went(&self, since: u64) {
        self.gone[since as usize].fetch_add(1, Relaxed);
    }

    fn state_of(&self, since: u64) -> u8 {
        self.begun.lock().expect("lives")[since as usize]
    }

    /// The hot path, as the kernel program goes it.
    fn change(&self, sk: u64, old: u8, new: u8, now: u64) {
        let storage = self.storage(sk);
        let ours = old != OTHER && self.leave(sk, storage, old);
        let in_slot = new != OTHER && new != CLOSE;
        if ours && !in_slot {
            self.slot().free();
        }
        if new == OTHER {
            return;
        }
        self.begun.lock().expect("lives")[now as usize] = new;
        if in_slot && (ours || self.slot().take(sk)) {
            self.slot.set_state(new);
            self.slot().begin(now);
        } else {
            storage.settled.set_state(new);
            storage.settled.place().begin(now);
        }
    }

    /// True: the slot is the caller's.
    fn leave(&self, sk: u64, storage: &Storage, old: u8) -> bool {
        match self.slot().end(sk, old, || self.slot.state()) {
            Found::Ended(since) => {
                assert_eq!(self.state_of(since), old);
                self.went(since);
                return true;
            }
            Found::Stale => return true,
            Found::Moving(since) if storage.moved.place().end_moving(since) => self.went(since),
            Found::Moving(_) | Found::Nothing => {
                for kept in [&storage.settled, &storage.moved] {
                    let Some(since) = kept.place().since() else { continue };
                    let state = kept.state();
                    if kept.place().end(since) {
                        assert_eq!((self.state_of(since), state), (old, old), "left behind");
                        self.went(since);
                    }
                }
            }
        }
        false
    }

    /// A scan that finds a descriptor of the socket.
    fn promote(&self, sk: u64) {
        let Some(since) = self.slot().since(sk) else { return };
        let (state, kept) = (self.slot.state(), &self.storage(sk).moved);
        let fill = || {
            kept.set_state(state);
            true
        };
        if self.slot().promote(since, kept.place(), fill) {
            assert_eq!(self.state_of(since), state);
        }
    }

    /// A scan that finds none and throws out what is there.
    fn evict(&self) {
        if let Some((_, since)) = self.slot().stay_of_any()
            && self.slot().evict(since)
        {
            self.went(since);
        }
    }

    /// Each stay has gone once, or is in one place.
    fn check(&self) {
        let kept = [&self.slot, &self.a.settled, &self.a.moved, &self.b.settled, &self.b.moved];
        let begun = *self.begun.lock().expect("lives");
        for (since, state) in begun.iter().enumerate().filter(|(_, state)| **state != OTHER) {
            let there = kept.iter().filter(|kept| kept.place().since() == Some(since as u64));
            assert!(there.clone().all(|kept| kept.state() == *state), "the state of stay {since}");
            let times = there.count() + self.gone[since].load(Relaxed) as usize;
            let may_be_lost = since as u32 == self.missed.load(Relaxed);
            assert!(times == 1 || times == 0 && may_be_lost, "stay {since} is {times} times");
        }
        let (owner, since) = (self.slot().owner.load(), self.slot().since.load());
        assert_eq!(owner == 0, since == 0, "a slot of {owner:x} since {since:x}");
    }
}

/// Runs the parts side by side in all ways.
fn check<const N: usize>(parts: [fn(&Host); N]) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let host = Arc::new(Host::default());
        let [first, others @ ..] = &parts[..] else { return };
        let others: Vec<_> = others
            .iter()
            .map(|part| {
                let (host, part) = (Arc::clone(&host), *part);
                thread::spawn(move || part(&host))
            })
            .collect();
        first(&host);
        others.into_iter().for_each(|other| other.join().expect("it ends"));
        host.check();
    });
}

fn opens_and_closes(host: &Host) {
    host.change(A, OTHER, CLOSE_WAIT, 1);
    host.change(A, CLOSE_WAIT, LAST_ACK, 2);
    host.change(A, LAST_ACK, OTHER, 3);
}

#[test]
fn a_stay_ends_while_it_is_moved() {
    check([opens_and_closes, |host| host.promote(A)]);
}

#[test]
fn a_ghost_begins_while_the_stay_before_is_moved() {
    check([
        |host| {
            host.change(A, OTHER, CLOSE_WAIT, 1);
            host.change(A, CLOSE_WAIT, CLOSE, 2);
        },
        |host| host.promote(A),
    ]);
}

#[test]
fn the_same_state_again_while_the_first_stay_is_moved() {
    check([
        |host| {
            host.change(A, OTHER, CLOSE_WAIT, 1);
            host.change(A, CLOSE_WAIT, OTHER, 2);
            host.change(A, OTHER, CLOSE_WAIT, 3);
            host.change(A, CLOSE_WAIT, OTHER, 4);
        },
        |host| host.promote(A),
    ]);
}

#[test]
fn a_stay_ends_and_one_begins_while_it_is_evicted() {
    check([
        |host| {
            opens_and_closes(host);
            host.change(A, OTHER, CLOSE_WAIT, 4);
        },
        |host| host.evict(),
    ]);
}

#[test]
fn a_scan_moves_and_evicts() {
    check([opens_and_closes, |host| {
        host.promote(A);
        host.evict();
    }]);
}

#[test]
fn another_socket_takes_the_slot() {
    check([
        |host| {
            host.change(A, OTHER, CLOSE_WAIT, 1);
            host.change(A, CLOSE_WAIT, OTHER, 2);
        },
        |host| {
            host.change(B, OTHER, CLOSE_WAIT, 5);
            host.change(B, CLOSE_WAIT, OTHER, 6);
        },
        |host| {
            host.promote(A);
            host.evict();
        },
    ]);
}

/// A socket has gone unseen; another one lies where it was.
#[test]
fn an_address_is_used_again() {
    check([
        |host| {
            host.change(A, OTHER, LAST_ACK, 1);
            host.missed.store(1, Relaxed);
            host.change(A, OTHER, CLOSE_WAIT, 2);
            host.change(A, CLOSE_WAIT, OTHER, 3);
        },
        |host| host.evict(),
    ]);
}
