//! What puts stacks into words reads other people's files.

use tcptrace::{
    formats::{
        jvm_dump, maps,
        perf_map::{PerfMap, names::named},
        python,
    },
    source::live::symbols,
};

/// An ELF file, or with another first byte a perf map, what is mapped, a Python's memory, or what a
/// JVM says of its threads. An ELF file's unused bytes 9 and 10 say which address is asked for.
pub fn stacks(data: &[u8]) {
    match data.first() {
        Some(0x7f) => {
            let low = |at: usize| u64::from(data.get(at).copied().unwrap_or_default());
            let address = 0x40_0000 | low(9) << 8 | low(10);
            if let Some((names, _)) = symbols::in_file(data.to_vec(), address) {
                assert!(names.iter().all(|name| name.len() <= 4096), "bounded: {names:?}");
            }
        }
        Some(b'm') => {
            let list = maps::parse(&String::from_utf8_lossy(&data[1..]), 1_000);
            assert!(list.len() <= 1_000 && list.iter().all(|m| m.start < m.end));
        }
        Some(b'x') => {
            let _ = (python::Offsets::parse(data), python::line(&data[1..], 1, 40));
            let _ = python::text(&data[1..], usize::from(data[data.len() - 1] % 5));
        }
        Some(b'"') => {
            for thread in jvm_dump::parse(&String::from_utf8_lossy(data)) {
                let calls = &thread.frames;
                assert!(thread.nid > 0 && calls.len() <= jvm_dump::FRAMES, "bounded: {thread:?}");
                let longest = calls.iter().map(|f| f.function.chars().count()).max();
                assert!(longest.is_none_or(|length| length <= jvm_dump::NAME));
            }
        }
        _ => {
            let map = PerfMap::parse(data);
            for address in (0..0x1_0000).step_by(0x101) {
                if let Some((name, start)) = map.find(address) {
                    assert!(start <= address && !name.is_empty());
                    let _ = named(&String::from_utf8_lossy(name));
                }
            }
        }
    }
}
