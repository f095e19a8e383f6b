use std::{
    fs::{self, File},
    os::{fd::OwnedFd, unix::fs::FileExt},
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};

use rustix::pipe::pipe;

use super::{lines::Lines, *};
use crate::{
    engine::stack::{Code, Frame, Missing},
    source::live::process,
};

const LONG: Duration = Duration::from_secs(20);

fn this() -> ProcessId {
    process::find(std::process::id()).expect("this process")
}

/// The frame pointer register now, whatever it is used for. It is the same in the calls from here:
/// what this program is built of keeps no frame pointers.
#[inline(always)]
fn frame_pointer() -> u64 {
    let value: u64;
    // SAFETY: a register is copied, and nothing else happens.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        std::arch::asm!("mov {}, rbp", out(reg) value, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        std::arch::asm!("mov {}, x29", out(reg) value, options(nomem, nostack, preserves_flags));
    }
    value
}

#[inline(never)]
fn waits_for_a_byte(from: &OwnedFd, tell: &Sender<(i32, u64)>) -> u8 {
    let mut byte = [0];
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    tell.send((tid, frame_pointer())).expect("sent");
    rustix::io::read(from, &mut byte).expect("a byte");
    byte[0]
}

#[inline(never)]
fn calls_who_waits(from: &OwnedFd, tell: &Sender<(i32, u64)>) -> u8 {
    waits_for_a_byte(from, tell).wrapping_add(1)
}

/// Where a thread is in a system call: instruction and stack pointer, and memory from there.
fn in_a_call(tid: i32) -> (u64, u64, Vec<u8>) {
    let deadline = Instant::now() + LONG;
    loop {
        let text = fs::read_to_string(format!("/proc/self/task/{tid}/syscall")).expect("a thread");
        let words: Vec<&str> = text.split_whitespace().collect();
        // read(2) is 0 on x86_64, 63 on aarch64.
        let read = if cfg!(target_arch = "x86_64") { "0" } else { "63" };
        if let [call, .., sp, ip] = words[..]
            && call == read
        {
            let number = |text: &str| {
                u64::from_str_radix(text.trim_start_matches("0x"), 16).expect("a number")
            };
            let (sp, ip) = (number(sp), number(ip));
            let mut memory = vec![0; 4096];
            let mem = File::open("/proc/self/mem").expect("our memory");
            let length = mem.read_at(&mut memory, sp).expect("a stack");
            memory.truncate(length);
            return (ip, sp, memory);
        }
        assert!(Instant::now() < deadline, "{text}");
        thread::yield_now();
    }
}

fn with_a_thread_that_waits(test: impl FnOnce(&Raw<'_>)) {
    let (reader, writer) = pipe().expect("a pipe");
    let (tell, told) = mpsc::channel();
    let thread = thread::spawn(move || calls_who_waits(&reader, &tell));
    let (tid, fp) = told.recv().expect("a thread");
    let (ip, sp, memory) = in_a_call(tid);
    test(&Raw { ip, sp, fp, lr: 0, chain: &[], memory: &memory });
    rustix::io::write(&writer, b"a").expect("written");
    assert_eq!(thread.join().expect("a thread"), b'a' + 1);
}

fn names(stack: &Stack) -> Vec<&str> {
    stack.frames.iter().map(|f| f.function.as_deref().unwrap_or("?")).collect()
}

#[test]
fn a_thread_of_this_program() {
    with_a_thread_that_waits(|raw| {
        let mut symbols = Symbols::new();
        let stack = symbols.stack(this(), raw, LONG);
        let names = names(&stack);
        let find = |end: &str| {
            let at = stack
                .frames
                .iter()
                .position(|f| f.function.as_deref().is_some_and(|name| name.ends_with(end)));
            at.unwrap_or_else(|| panic!("{end} is in none of {names:#?}, {:?}", stack.cut))
        };
        let (inner, outer) =
            (find("symbols::tests::waits_for_a_byte"), find("symbols::tests::calls_who_waits"));
        assert!(inner < outer && find("read") < inner, "{names:#?}");
        for (at, line) in
            [(inner, "read(from, &mut byte)"), (outer, "waits_for_a_byte(from, tell).")]
        {
            let Frame { file, line: number, code, module, unknown, .. } = &stack.frames[at];
            assert!(file.as_deref().is_some_and(|f| f.ends_with("symbols/tests.rs")), "{file:?}");
            let text = include_str!("tests.rs").lines().nth(number.expect("a line") as usize - 1);
            assert!(text.is_some_and(|t| t.contains(line)), "{number:?} is {text:?}");
            assert_eq!((*code, unknown), (Code::Own, &None));
            assert!(module.is_some());
        }
        assert_eq!(stack.frames[0].code, Code::Library, "{:?}", stack.frames[0]);
        let own = stack.own().and_then(|f| f.function.as_deref());
        assert!(own.is_some_and(|name| name.ends_with("waits_for_a_byte")), "{own:?}");
        assert_eq!(stack.cut, None, "to the thread's first function: {names:#?}");
    });
}

#[test]
fn the_second_time_it_is_known() {
    with_a_thread_that_waits(|raw| {
        let mut symbols = Symbols::new();
        let first = symbols.stack(this(), raw, LONG);
        // The program itself, with its lines: however much that is, it is not read again.
        let largest = |symbols: &Symbols| {
            let large = symbols.modules.values().max_by_key(|u| u.what.bytes())?;
            Some(large.what.lines()? as *const Lines)
        };
        let read = largest(&symbols);
        assert!(read.is_some());
        assert_eq!(symbols.stack(this(), raw, LONG), first);
        assert_eq!(largest(&symbols), read);
    });
}

#[test]
fn what_is_large_is_kept_before_what_was_used_with_it() {
    let used = |at, what: usize| Used { at, what };
    let mut known: HashMap<u8, Used<usize>> =
        [(1, used(7, 500)), (2, used(7, 3)), (3, used(6, 1))].into();
    drop_oldest(&mut known, 10, 100, |bytes| *bytes);
    assert_eq!(known.keys().collect::<Vec<_>>(), [&1], "one stays, whatever it takes");
    known.extend([(4, used(8, 60)), (5, used(8, 50))]);
    drop_oldest(&mut known, 10, 100, |bytes| *bytes);
    assert_eq!(known.keys().collect::<Vec<_>>(), [&4], "what is older goes first");
}

#[test]
fn what_was_not_copied_is_said_to_be_missing() {
    with_a_thread_that_waits(|raw| {
        let mut symbols = Symbols::new();
        let all = symbols.stack(this(), raw, LONG);
        let less = Raw { memory: &raw.memory[..64], ..*raw };
        let part = symbols.stack(this(), &less, LONG);
        assert_eq!(part.cut, Some(Cut::Copied));
        assert_eq!(part.frames[..], all.frames[..part.frames.len()]);
        let none = symbols.stack(this(), &Raw { memory: &[], ..*raw }, LONG);
        assert_eq!((none.cut, none.frames.len() <= 2), (Some(Cut::FramePointers), true));
        assert_eq!(none.frames[0], all.frames[0]);
    });
}

#[test]
fn no_time() {
    with_a_thread_that_waits(|raw| {
        let stack = Symbols::new().stack(this(), raw, Duration::ZERO);
        assert_eq!(stack.cut, Some(Cut::Time));
        assert_eq!(stack.frames[0].unknown, Some(Missing::Time));
    });
}

#[test]
fn a_process_that_is_gone() {
    // Above PID_MAX_LIMIT (include/linux/threads.h).
    let gone = ProcessId { pid: 1 << 30, start_ns: 1 };
    let raw = Raw { ip: 4096, sp: 0, fp: 0, lr: 0, chain: &[], memory: &[] };
    let stack = Symbols::new().stack(gone, &raw, LONG);
    assert_eq!((stack.cut, stack.frames.len()), (Some(Cut::Gone), 1));
    assert_eq!(stack.frames[0].unknown, Some(Missing::Gone));
    // Nor is it one that has its pid now.
    let other = ProcessId { start_ns: this().start_ns + 3_600_000_000_000, ..this() };
    assert_eq!(Symbols::new().stack(other, &raw, LONG).cut, Some(Cut::Gone));
}

#[test]
fn the_kernels_own_module_has_names() {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    let Some(line) = maps.lines().find(|l| l.ends_with("[vdso]")) else { return };
    let start = u64::from_str_radix(line.split('-').next().expect("a start"), 16).expect("hex");
    let raw = |ip| Raw { ip, sp: 0, fp: 0, lr: 0, chain: &[], memory: &[] };
    let mut symbols = Symbols::new();
    let functions: Vec<String> = (0..0x2000)
        .step_by(16)
        .filter_map(|at| symbols.stack(this(), &raw(start + at), LONG).frames[0].function.clone())
        .collect();
    assert!(functions.iter().any(|f| f.contains("clock_gettime")), "{functions:?}");
}

#[test]
fn what_is_known_may_go_to_another_thread() {
    fn takes<T: Send>(_: T) {}
    takes(Symbols::new());
}

#[test]
fn the_oldest_is_forgotten() {
    let mut known: HashMap<u32, Used<usize>> =
        (0..10).map(|n| (n, Used { at: u64::from(n), what: 10 })).collect();
    drop_oldest(&mut known, 8, usize::MAX, |_| 0);
    assert!(known.len() == 8 && !known.contains_key(&1) && known.contains_key(&2));
    drop_oldest(&mut known, 8, 35, |bytes| *bytes);
    assert!(known.len() == 3 && known.contains_key(&9), "{known:?}");
    drop_oldest(&mut known, 8, 0, |bytes| *bytes);
    assert_eq!(known.len(), 1);
}
