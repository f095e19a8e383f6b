//! What the arguments of a thread's call lead to: the lists that poll() and select() are given, and
//! the words of a lock.

/// A call with all its arguments, as `/proc/PID/syscall` has it (proc_pid_syscall(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The call's number on this architecture.
    pub number: u64,
    /// Its six arguments.
    pub values: [u64; 6],
}

impl Arguments {
    /// Parses the file's text; `None` where the thread is in no call.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let number = words.next()?.parse().ok()?;
        let mut values = [0; 6];
        for value in &mut values {
            *value = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(Self { number, values })
    }
}

/// A descriptor in a list, and what is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its number.
    pub fd: u32,
    /// That it can be read.
    pub reads: bool,
    /// That it can be written.
    pub writes: bool,
}

/// Size of `struct pollfd` (poll(2)), bytes.
pub const POLLFD: usize = 8;

/// The list that poll() was given: an array of `struct pollfd`. Negative numbers are left out, as
/// the kernel does.
#[must_use]
pub fn polled(array: &[u8]) -> Vec<Watched> {
    /// `POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND | POLLRDHUP` (uapi/asm-generic/poll.h).
    const READ: u16 = 0x1 | 0x2 | 0x40 | 0x80 | 0x2000;
    /// `POLLOUT | POLLWRNORM | POLLWRBAND`.
    const WRITE: u16 = 0x4 | 0x100 | 0x200;
    let entry = |bytes: &[u8; POLLFD]| {
        let [a, b, c, d, low, high, ..] = *bytes;
        let events = u16::from_ne_bytes([low, high]);
        let fd = u32::try_from(i32::from_ne_bytes([a, b, c, d])).ok()?;
        Some(Watched { fd, reads: events & READ != 0, writes: events & WRITE != 0 })
    };
    array.as_chunks::<POLLFD>().0.iter().filter_map(entry).collect()
}

/// The lists that select() was given: `fd_set`s, bits in words of the machine (select(2)).
#[must_use]
pub fn selected(reads: &[u8], writes: &[u8]) -> Vec<Watched> {
    let has = |set: &[u8], fd: usize| {
        // The first bit of a little-endian word is the first of its first byte.
        set.get(fd / 8).is_some_and(|byte| byte & 1 << (fd % 8) != 0)
    };
    let all = 0..reads.len().max(writes.len()) * 8;
    let entry = |fd: usize| Watched {
        fd: u32::try_from(fd).unwrap_or(u32::MAX),
        reads: has(reads, fd),
        writes: has(writes, fd),
    };
    all.map(entry).filter(|watched| watched.reads || watched.writes).collect()
}

/// Locks whose words tell who has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWords {
    /// The kernel's own (`FUTEX_LOCK_PI`, futex(2)): the word holds the owner.
    Inheriting,
    /// As glibc waits for a `pthread_mutex_t`: `FUTEX_WAIT` for a word that is 2
    /// (nptl/lowlevellock.c); the owner is in the third word (sysdeps/nptl/bits/struct_mutex.h).
    Mutex,
}

/// How many bytes of a lock are read.
pub const LOCK: usize = 12;

impl LockWords {
    /// What a futex call with these arguments may wait for; `None`: for something whose words do
    /// not tell an owner, such as a condition, a semaphore, or a lock of another library's.
    #[must_use]
    pub fn of(arguments: &Arguments) -> Option<Self> {
        /// All but `FUTEX_PRIVATE_FLAG` and `FUTEX_CLOCK_REALTIME`.
        const COMMAND: u64 = 0x7f;
        let [_, operation, value, ..] = arguments.values;
        // Both are ints: the upper halves are whatever was in the registers.
        match (operation & COMMAND, value & 0xffff_ffff) {
            (6 | 13, _) => Some(Self::Inheriting),
            // FUTEX_WAIT; glibc waits with a deadline by FUTEX_WAIT_BITSET.
            (0 | 9, 2) => Some(Self::Mutex),
            _ => None,
        }
    }

    /// The owner's thread id, by the words at the lock's address; it is to be checked against the
    /// threads that there are. `None`: nobody has it, or it is no such lock.
    #[must_use]
    pub fn owner(self, words: &[u8; LOCK]) -> Option<u32> {
        /// `FUTEX_TID_MASK` (uapi/linux/futex.h).
        const TID: u32 = 0x3fff_ffff;
        let word = |n: usize| {
            let bytes = words.get(n * 4..n * 4 + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u32::from_ne_bytes)
        };
        let owner = match self {
            Self::Inheriting => word(0) & TID,
            Self::Mutex if word(0) == 2 => word(2),
            Self::Mutex => 0,
        };
        Some(owner).filter(|tid| *tid != 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_with_all_arguments() {
        let text = "202 0x7f00 0x80 0x2 0x0 0x0 0x5 0x7ffc 0x7f29\n";
        let call = Arguments::parse(text).expect("a call");
        assert_eq!((call.number, call.values), (202, [0x7f00, 0x80, 2, 0, 0, 5]));
        for none in ["running\n", "-1 0x1 0x2\n", "", "202 0x1 0x2"] {
            assert_eq!(Arguments::parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn lists_of_poll_and_select() {
        let mut array = Vec::new();
        for (fd, events) in [(7i32, 1u16), (-1, 1), (9, 4), (300, 0x2005)] {
            array.extend(fd.to_ne_bytes());
            array.extend(events.to_ne_bytes());
            array.extend([0, 0]);
        }
        let told: Vec<_> = polled(&array).iter().map(|w| (w.fd, w.reads, w.writes)).collect();
        assert_eq!(told, [(7, true, false), (9, false, true), (300, true, true)]);
        assert_eq!(polled(&array[..11]).len(), 1, "cut");
        let told: Vec<_> =
            selected(&[0b1000_0001, 1], &[1]).iter().map(|w| (w.fd, w.reads, w.writes)).collect();
        assert_eq!(told, [(0, true, true), (7, true, false), (8, true, false)]);
    }

    #[test]
    fn who_has_a_lock() {
        let call = |operation, value| Arguments {
            number: 202,
            values: [0x1000, operation, value, 0, 0, 0],
        };
        let words = |a: u32, b: u32, c: u32| {
            let mut bytes = [0; LOCK];
            for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip([a, b, c]) {
                *to = word.to_ne_bytes();
            }
            bytes
        };
        let mutex = LockWords::of(&call(0x80, 2)).expect("a mutex");
        assert_eq!(mutex.owner(&words(2, 1, 4711)), Some(4711));
        assert_eq!(mutex.owner(&words(1, 1, 4711)), None, "it was given away meanwhile");
        assert_eq!(mutex.owner(&words(2, 1, 0)), None);
        assert_eq!(LockWords::of(&call(0x81, 2)), None, "FUTEX_WAKE");
        assert_eq!(LockWords::of(&call(0x189, 0)), None, "a condition or a semaphore");
        let inheriting = LockWords::of(&call(0x86, 0)).expect("it is the kernel's");
        assert_eq!(inheriting.owner(&words(0x8000_0000 | 4711, 0, 0)), Some(4711));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let text = String::from_utf8_lossy(&bytes);
            let _ = (Arguments::parse(&text), polled(&bytes), selected(&bytes, &bytes[..]));
        }
    }
}
