//! Files as they are written and read, cut and damaged.

use std::{fs, io::Cursor, path::Path, time::Duration};

use proptest::prelude::*;

use super::{
    Batch, Header,
    file::{Recording, Refused},
    options::{Options, Written},
    reader::{Damage, Ending, Piece, Reader, Unreadable},
    recorder::{Prepared, Recorder},
};
use crate::engine::{
    blocked::reading::{ReadProcess, Reading},
    fact::{Fact, Process, Scan, Timed},
    watch::{Plan, Wants, Watch},
};

const SECOND: u64 = 1_000_000_000;

fn header() -> Header {
    Header { recording: 7, host: "a".to_owned(), states: 256, ..Header::default() }
}

fn process(pid: u32) -> Fact {
    let command = vec!["/usr/bin/java -Dpassword=secret".to_owned(), "--token".to_owned()];
    Fact::Process(Box::new(Process { pid, start_ns: 1, command, ..Process::default() }))
}

fn at(second: u64, fact: Fact) -> Timed {
    Timed { at: second * SECOND, fact }
}

fn scan(second: u64, complete: bool) -> Fact {
    Fact::Scan(Box::new(Scan { now_ns: second * SECOND, complete, ..Scan::default() }))
}

/// A recorder beside a watch, as a live one has it.
struct Live {
    recorder: Recorder,
    watch: Watch,
}

impl Live {
    fn new(options: Options) -> Self {
        let prepared = Prepared::new(options, header()).expect("a file");
        Self { recorder: prepared.start().expect("a thread"), watch: Watch::new(Plan::default()) }
    }

    fn take(&mut self, second: u64, facts: &[Timed]) {
        self.recorder.take(facts, &self.watch, second * SECOND).expect("room");
        facts.iter().for_each(|fact| self.watch.take(fact, &mut Vec::new()));
    }

    /// A scan, complete where the recorder asks for that.
    fn scan(&mut self, second: u64) {
        let mut wants = Wants::default();
        self.recorder.ask(second * SECOND, &mut wants);
        self.take(second, &[at(second, Fact::ScanBegan)]);
        self.take(second, &[at(second, scan(second, wants.complete))]);
    }

    fn finish(self) -> Written {
        self.recorder.finish().expect("room")
    }
}

fn pieces(bytes: &[u8]) -> Vec<Piece> {
    let mut reader = Reader::new(Cursor::new(bytes));
    let mut pieces = Vec::new();
    while let Some(piece) = reader.next_piece().expect("no error") {
        pieces.push(piece);
    }
    pieces
}

fn batches(pieces: &[Piece]) -> Vec<Batch> {
    let batch =
        |piece: &Piece| if let Piece::Batch(batch) = piece { Some(batch.clone()) } else { None };
    pieces.iter().filter_map(batch).collect()
}

fn facts(paths: &[std::path::PathBuf]) -> Vec<Timed> {
    let mut recording = Recording::open(paths).expect("a recording");
    let mut facts = Vec::new();
    while let Some(batch) = recording.next_batch().expect("no error") {
        facts.extend(batch.facts);
    }
    assert_eq!(recording.take_missing(), Vec::<String>::new());
    facts
}

fn file(dir: &Path) -> Options {
    Options { path: Some(dir.join("x.tct")), ..Options::default() }
}

/// A small file in three frames, each with a batch.
fn small() -> (Vec<u8>, Vec<Batch>) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut live = Live::new(file(dir.path()));
    for second in 1..=3 {
        live.take(second * 2, &[at(second * 2, process(second as u32)), at(second, scan(2, true))]);
        live.take(second * 2 + 1, &[at(second * 2 + 1, Fact::ScanBegan)]);
    }
    let written = live.finish();
    let bytes = fs::read(&written.files[0]).expect("the file");
    assert_eq!((written.bytes, written.facts), (bytes.len() as u64, 9));
    let batches = batches(&pieces(&bytes));
    assert_eq!(batches.len(), 6);
    (bytes, batches)
}

#[test]
fn what_was_taken_is_read() {
    let (bytes, _) = small();
    let pieces = pieces(&bytes);
    assert_eq!(pieces.first(), Some(&Piece::Header(Box::new(header()))));
    assert_eq!(pieces.last(), Some(&Piece::End(Ending::Whole)));
    let Some(Piece::Batch(batch)) = pieces.get(1) else { panic!("{pieces:?}") };
    let first = [at(2, process(1)), at(1, scan(2, true))];
    assert_eq!(*batch, Batch { facts: first.to_vec(), now: 2 * SECOND });
}

#[test]
fn a_file_that_is_cut_anywhere_is_read_to_its_last_whole_frame() {
    let (bytes, all) = small();
    let mut most = 0;
    for cut in 0..bytes.len() {
        let mut reader = Reader::new(Cursor::new(&bytes[..cut]));
        let mut read = Vec::new();
        let mut ending = None;
        match reader.header() {
            Ok(of) => assert_eq!(of, header()),
            Err(Unreadable::Empty) => assert_eq!(cut, 0),
            Err(e) => {
                assert!(matches!(e, Unreadable::Foreign) && most == 0, "{cut}: {e}");
                continue;
            }
        }
        while let Some(piece) = reader.next_piece().expect("no error") {
            match piece {
                Piece::Batch(batch) => read.push(batch),
                Piece::End(end) => ending = Some(end),
                piece => panic!("{cut}: {piece:?}"),
            }
        }
        assert_eq!(read, all[..read.len()], "{cut}");
        assert!(read.len() >= most, "{cut}: fewer than of a shorter file");
        assert!(cut == 0 || matches!(ending, Some(Ending::Cut { .. })), "{cut}: {ending:?}");
        most = read.len();
    }
    assert_eq!(most, all.len(), "the last frame but the end is whole then");
}

proptest! {
    #[test]
    fn what_is_behind_damage_is_read(at: prop::sample::Index, bit in 0..8, more: Vec<u8>) {
        let (mut bytes, all) = small();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        // Something may have been put in between, too.
        bytes.splice(at..at, more.iter().copied());
        let mut reader = Reader::new(Cursor::new(&bytes[..]));
        // Without a header nothing is known of it.
        let Ok(_) = reader.header() else { return Ok(()) };
        let (mut read, mut lost) = (Vec::new(), 0);
        while let Some(piece) = reader.next_piece().expect("no error") {
            match piece {
                Piece::Batch(batch) => read.push(batch),
                Piece::Damage(Damage { bytes, .. }) => lost += bytes,
                _ => {}
            }
        }
        prop_assert!(read.iter().all(|batch| all.contains(batch)));
        // Two batches a frame; only one frame was hit.
        prop_assert!(read.len() >= all.len() - 2, "{} of {}", read.len(), all.len());
        prop_assert!(lost as usize <= bytes.len());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let mut reader = Reader::new(Cursor::new(&bytes[..]));
        prop_assert!(reader.header().is_err());
    }
}

#[test]
fn files_of_one_recording_in_any_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { rotate: Some(Duration::from_secs(10)), ..file(dir.path()) };
    let mut live = Live::new(options);
    live.take(1, &[at(1, process(5)), at(1, Fact::Clock { offset_ns: 3 })]);
    (2..35).for_each(|second| live.scan(second));
    let written = live.finish();
    let names: Vec<_> = written.files.iter().filter_map(|path| path.file_name()).collect();
    assert_eq!(names, ["x.tct", "x.tct.1", "x.tct.2", "x.tct.3"]);

    let mut backwards = written.files.clone();
    backwards.reverse();
    assert_eq!(facts(&backwards), facts(&written.files), "each knows its place");
    // Each can be read alone: what was known, then a scan that lists everything.
    let alone = facts(&written.files[1..2]);
    let begins: Vec<&Fact> = alone.iter().take(5).map(|f| &f.fact).collect();
    let [Fact::Clock { offset_ns: 3 }, Fact::Host(_), Fact::Process(known), _, Fact::Scan(scan)] =
        begins[..]
    else {
        panic!("{alone:?}")
    };
    assert!(known.pid == 5 && scan.complete, "{alone:?}");

    let refused =
        |files: &[std::path::PathBuf]| Recording::open(files).err().map(|e| e.to_string());
    let twice = refused(&[written.files[0].clone(), written.files[0].clone()]);
    assert!(twice.is_some_and(|e| e.ends_with("are the same file of one recording")));
    let mut gap =
        Recording::open(&[written.files[0].clone(), written.files[2].clone()]).expect("ok");
    let [said] = &gap.take_missing()[..] else { panic!("one line") };
    assert!(said.ends_with("there are 1 files of the recording missing"), "{said}");

    let other = tempfile::tempdir().expect("a directory");
    let prepared = Prepared::new(file(other.path()), Header { recording: 8, ..header() });
    let recorder = prepared.expect("a file").start().expect("a thread");
    let other = recorder.finish().expect("room").files.remove(0);
    assert!(matches!(
        Recording::open(&[written.files[0].clone(), other]),
        Err(Refused::Different(..))
    ));
}

#[test]
fn no_more_files_than_are_kept_and_no_file_is_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let rotate = Some(Duration::from_secs(10));
    let options = Options { rotate, keep: Some(2), ..file(dir.path()) };
    let mut live = Live::new(options.clone());
    (1..50).for_each(|second| live.scan(second));
    let written = live.finish();
    let there = fs::read_dir(dir.path()).expect("it is there").count();
    assert_eq!((written.files.len(), there), (2, 2), "{written:?}");
    assert!(facts(&written.files).len() > 20);

    let path = written.files[0].clone();
    let again = Prepared::new(Options { path: Some(path.clone()), ..Options::default() }, header());
    assert_eq!(again.err().map(|e| e.kind()), Some(std::io::ErrorKind::AlreadyExists));
    let later = Options { path: Some(path), on_leak: rotate, ..Options::default() };
    let later = Prepared::new(later, header());
    assert_eq!(later.err().map(|e| e.kind()), Some(std::io::ErrorKind::AlreadyExists));
}

#[test]
fn nobody_else_reads_it_and_arguments_can_be_left_out() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let mut live = Live::new(Options { without_arguments: true, ..file(dir.path()) });
    let name = Some("java shop.jar".to_owned());
    let processes = vec![ReadProcess { name, ..ReadProcess::default() }];
    let reading = Reading { processes, ..Reading::default() };
    live.take(1, &[at(1, process(5)), at(1, Fact::Blocked(Box::new(reading)))]);
    let path = live.finish().files.remove(0);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let facts = facts(&[path]);
    let Fact::Process(process) = &facts[0].fact else { panic!("{facts:?}") };
    assert_eq!(process.command, ["/usr/bin/java"]);
    let Fact::Blocked(reading) = &facts[1].fact else { panic!("{facts:?}") };
    assert_eq!(reading.processes[0].name, None, "what it runs is one of them");
}

#[test]
fn before_a_leak_nothing_is_written_and_then_what_was_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { on_leak: Some(Duration::from_secs(20)), ..file(dir.path()) };
    let live = Live::new(options.clone());
    let nothing = live.finish();
    assert_eq!(
        (nothing, fs::read_dir(dir.path()).expect("there").count()),
        (Written::default(), 0)
    );

    let mut live = Live::new(options);
    live.take(1, &[at(1, process(5))]);
    (1..100).for_each(|second| live.scan(second));
    live.recorder.leak().expect("room");
    (100..110).for_each(|second| live.scan(second));
    let written = live.finish();
    assert!(!written.forgotten && written.files.len() == 1, "{written:?}");
    let facts = facts(&written.files);
    let scans: Vec<_> =
        facts.iter().filter(|f| matches!(f.fact, Fact::Scan(_))).map(|f| f.at / SECOND).collect();
    let (first, last) = (scans[0], scans[scans.len() - 1]);
    // A quarter more than was asked for, at the most.
    assert!((74..=79).contains(&first) && last == 109, "{scans:?}");
    let known = |f: &Timed| matches!(&f.fact, Fact::Process(p) if p.pid == 5);
    assert!(facts.iter().any(known), "what was known by then is there");
}

/// Facts that are as long as others, and can't be compressed.
fn noise(second: u64, bytes: usize) -> Fact {
    let mut state = second;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (state >> 58) as u8)
    };
    // Of a process what came last is known, and all that a next file begins with.
    let command = vec![(0..bytes).map(|_| next()).collect()];
    Fact::Process(Box::new(Process { pid: 1, command, ..Process::default() }))
}

#[test]
fn all_files_take_no_more_than_they_may() {
    let most = 2 << 20;
    let dir = tempfile::tempdir().expect("a directory");
    let options = Options { max_size: Some(most), ..file(dir.path()) };
    let sizes = || {
        let files = fs::read_dir(dir.path()).expect("it is there").flatten();
        files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).collect::<Vec<_>>()
    };
    let mut live = Live::new(options);
    for second in 1..60 {
        // Faster than scans come: one in four seconds.
        live.take(second, &[at(second, noise(second, 300_000))]);
        if second % 4 == 0 {
            live.scan(second);
        }
        assert!(sizes().iter().sum::<u64>() <= most, "{:?}", sizes());
    }
    let written = live.finish();
    assert!(sizes().iter().sum::<u64>() <= most && written.bytes > 3 * most, "{written:?}");
    assert!(written.files.len() > 1 && written.files.iter().all(|file| file.exists()));
    let facts = facts(&written.files);
    assert_eq!(facts.last().map(|fact| fact.at / SECOND), Some(59), "the newest are there");
}
