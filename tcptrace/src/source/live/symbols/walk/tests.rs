use proptest::prelude::*;

use super::*;

/// Code in `0x1000..0x2000`, of a program without unwinding information.
struct Plain;

impl AddressSpace for Plain {
    fn code(&mut self, address: u64) -> Option<Spot<'_>> {
        (0x1000..0x2000).contains(&address).then_some(Spot::Made { path: None, trampoline: false })
    }

    fn machine(&self) -> Option<Machine> {
        None
    }

    fn is_late(&self) -> bool {
        false
    }
}

fn memory(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_le_bytes()).collect()
}

fn at(frames: &[Address]) -> Vec<u64> {
    frames.iter().map(|f| f.at).collect()
}

const STACK_AT: u64 = 0x7000;

fn raw<'a>(fp: u64, chain: &'a [u64], memory: &'a [u8]) -> Raw<'a> {
    Raw { ip: 0x1100, sp: STACK_AT, fp, lr: 0, chain, memory }
}

#[test]
fn by_frame_pointers() {
    let words = memory(&[0, STACK_AT + 32, 0x1200, 9, STACK_AT + 56, 0x1300, 9, 0, 0x1400]);
    let (frames, cut) = walk(&raw(STACK_AT + 8, &[], &words), &mut Plain);
    assert_eq!((at(&frames), cut), (vec![0x1100, 0x1200, 0x1300, 0x1400], None));
    assert!(!frames[0].called && frames[1].called);
}

#[test]
fn what_was_not_copied_comes_from_the_kernels_chain() {
    let words = memory(&[0, STACK_AT + 0x100, 0x1200, 9]);
    let chain = [0x1100, 0x1200, 0x1300, 0x1400];
    let (frames, cut) = walk(&raw(STACK_AT + 8, &chain, &words), &mut Plain);
    assert_eq!((at(&frames), cut), (chain.to_vec(), Some(Cut::Copied)));
    let (frames, cut) = walk(&raw(STACK_AT + 8, &[0x1100, 0x1200, 7, 0x1400], &words), &mut Plain);
    assert_eq!((at(&frames), cut), (vec![0x1100, 0x1200], Some(Cut::Copied)), "7 is no code");
}

#[test]
fn without_memory_the_chain_is_all_there_is() {
    let (frames, cut) = walk(&raw(1, &[0x1100, 0x1200, 0x1300], &[]), &mut Plain);
    assert_eq!((at(&frames), cut), (vec![0x1100, 0x1200, 0x1300], Some(Cut::FramePointers)));
    let (frames, cut) = walk(&raw(1, &[0x1100, 0x1200, 0xdead_beef, 0x1300], &[]), &mut Plain);
    assert_eq!((at(&frames), cut), (vec![0x1100, 0x1200], Some(Cut::NoCode)));
}

#[test]
fn garbage_is_dropped() {
    let words = memory(&[0, STACK_AT + 32, 0x9999, 9, 0, 0x1300]);
    let (frames, cut) = walk(&raw(STACK_AT + 8, &[], &words), &mut Plain);
    assert_eq!((at(&frames), cut), (vec![0x1100], Some(Cut::NoCode)));
    // A register that is used for something else.
    let (frames, cut) = walk(&raw(12_345, &[], &words), &mut Plain);
    assert_eq!(at(&frames), [0x1100]);
    assert_eq!(cut, Some(Cut::Code { module: None, machine: None }));
}

proptest! {
    #[test]
    fn all_frames_but_the_first_are_code(
        ip in 0..0x3000_u64,
        fp in prop_oneof![0..80_u64, any::<u64>().prop_map(|n| n.wrapping_sub(STACK_AT))],
        words in proptest::collection::vec(
            prop_oneof![0..0x3000_u64, STACK_AT..STACK_AT + 400, any::<u64>()], 0..60),
        chain in proptest::collection::vec(0..0x3000_u64, 0..70),
    ) {
        let bytes = memory(&words);
        let raw = Raw {
            ip,
            sp: STACK_AT,
            fp: STACK_AT.wrapping_add(fp & !7),
            lr: fp,
            chain: &chain,
            memory: &bytes,
        };
        let (frames, cut) = walk(&raw, &mut Plain);
        prop_assert_eq!(frames[0].at, ip);
        prop_assert!(frames.len() <= DEPTH);
        prop_assert!(frames[1..].iter().all(|f| Plain.code(f.within()).is_some()), "{:x?}", frames);
        prop_assert!(!bytes.is_empty() || cut.is_some());
    }
}
