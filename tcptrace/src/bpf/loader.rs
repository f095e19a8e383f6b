//! Loads, attaches and talks to the kernel programs.

use std::{
    error::Error,
    fs, io,
    os::fd::{AsFd, AsRawFd},
    path::Path,
};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, VerifierLogLevel,
    maps::{Array, Map, MapData, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, Iter, Program, ProgramError},
    util::nr_cpus,
};
use tcptrace_common::{
    config::{ALL_DESCRIPTORS, Config, Control, LOOK_ALL, PROMOTE, SEED},
    counters::{Counters, Histogram},
};
use zerocopy::{FromBytes, IntoBytes};

use crate::memory;

use super::{
    btf,
    iter::{Listing, Pass},
    nursery::Nursery,
    preflight::{self, KERNEL_BTF, Refusal},
    sys,
};

const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcptrace-ebpf"));

const COUNTER_WORDS: usize = size_of::<Counters>() / 8;
const HISTOGRAM_WORDS: usize = size_of::<Histogram>() / 8;

/// The programs in the kernel. Dropping it takes them out.
pub struct Kernel {
    ebpf: Ebpf,
    control: Array<MapData, [u8; size_of::<Control>()]>,
    counters: Array<MapData, [u64; COUNTER_WORDS]>,
    histogram: PerCpuArray<MapData, [u64; HISTOGRAM_WORDS]>,
    nursery: Nursery,
    look: Pass,
    holders: Pass,
    seed: Pass,
    looks: u32,
    follows_ends: bool,
}

/// The programs with counters in the kernel's books.
const TRACED: [&str; 2] = ["set_state", "destroy"];

impl Kernel {
    /// Checks the host, loads the programs and attaches them. From the return on, no transition is
    /// missed without being counted.
    ///
    /// `config.offsets` and `config.jiffy_ns` are filled in here, from the kernel's BTF in the file
    /// `btf`.
    ///
    /// # Errors
    /// A [`Refusal`] that names what is missing.
    pub fn load(config: Config, ring_bytes: u32, btf: &Path) -> Result<(Self, RingBuf<MapData>), Refusal> {
        let (mut ebpf, kernel_btf) = prepare(config, ring_bytes, btf)?;

        let look = load_iter(&mut ebpf, &kernel_btf, "look", "bpf_sk_storage_map", Some("STAYS"))?;
        let holders = load_iter(&mut ebpf, &kernel_btf, "holders", "task_file", None)?;
        let seed = load_iter(&mut ebpf, &kernel_btf, "seed", "tcp", None)?;
        load(&mut ebpf, &kernel_btf, "destroy", "tcp_destroy_sock")?;
        load(&mut ebpf, &kernel_btf, "set_state", "inet_sock_set_state")?;
        attach(&mut ebpf, "set_state")?;

        let events = RingBuf::try_from(take(&mut ebpf, "EVENTS")?).map_err(|e| refusal("the ring buffer", &e))?;
        let control = Array::try_from(take(&mut ebpf, "CONTROL")?).map_err(|e| refusal("the control map", &e))?;
        let histogram =
            PerCpuArray::try_from(take(&mut ebpf, "HISTOGRAM")?).map_err(|e| refusal("the histogram", &e))?;
        let counters = Array::try_from(take(&mut ebpf, "COUNTERS")?).map_err(|e| refusal("the counters", &e))?;
        // The library has parsed all of the kernel's types once and dropped them.
        memory::give_back();
        let (slots, infos) = (map(&ebpf, "NURSERY")?, map(&ebpf, "NURSERY_INFO")?);
        let nursery = Nursery::new(slots, infos).map_err(|e| refusal("the nursery", &e))?;
        Ok((
            Self { ebpf, control, counters, histogram, nursery, look, holders, seed, looks: 0, follows_ends: false },
            events,
        ))
    }

    /// From now on the ends of sockets are seen too, which end stays in CLOSE. Not from the start:
    /// it would cost every connection, for what on most machines never happens. True: it is new.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn follow_ends(&mut self) -> Result<bool, Refusal> {
        if self.follows_ends {
            return Ok(false);
        }
        attach(&mut self.ebpf, "destroy")?;
        self.follows_ends = true;
        Ok(true)
    }

    /// Lists the live stays that are due for a report at `now_ns`, or all of them.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn look(&mut self, now_ns: u64, all: bool) -> io::Result<Listing> {
        self.looks = self.looks.wrapping_add(1).max(1);
        self.set_control(now_ns, if all { LOOK_ALL } else { 0 })?;
        self.look.run()
    }

    /// Lists who has a descriptor for the sockets that the last look listed, and all listeners
    /// with theirs. `promote`: also the stays of the nursery that have aged, which move to socket
    /// storage.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn holders(&mut self, now_ns: u64, promote: bool) -> io::Result<Listing> {
        self.set_control(now_ns, if promote { PROMOTE } else { 0 })?;
        self.holders.run()
    }

    /// Lists who has a descriptor for any matching TCP socket.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn descriptors(&mut self, now_ns: u64) -> io::Result<Listing> {
        self.set_control(now_ns, ALL_DESCRIPTORS)?;
        self.holders.run()
    }

    /// Gives every matching socket of any namespace that a descriptor leads to a stay.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn seed_by_descriptor(&mut self, now_ns: u64) -> io::Result<()> {
        self.set_control(now_ns, SEED)?;
        self.holders.run().map(drop)
    }

    /// A pass that gives every matching socket of the calling thread's network namespace a stay,
    /// those that nobody has accepted included. The stays it makes carry the time of the last
    /// [`Self::seed_by_descriptor`].
    #[must_use]
    pub fn seed_by_namespace(&self) -> &Pass {
        &self.seed
    }

    fn set_control(&mut self, now_ns: u64, mode: u32) -> io::Result<()> {
        let control = Control { now_ns, look: self.looks, mode };
        let mut bytes = [0; size_of::<Control>()];
        bytes.copy_from_slice(control.as_bytes());
        self.control.set(0, bytes, 0).map_err(io::Error::other)
    }

    /// Where young stays are.
    #[must_use]
    pub fn nursery(&self) -> &Nursery {
        &self.nursery
    }

    /// The programs' counters, summed over all CPUs.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn counters(&self) -> io::Result<Counters> {
        let mut sum = [0u64; COUNTER_WORDS];
        for cpu in self.counters.iter() {
            add(&mut sum, &cpu.map_err(io::Error::other)?);
        }
        Counters::read_from_bytes(sum.as_bytes()).map_err(|_| io::Error::other("counters of another size"))
    }

    /// How long stays were that ended, summed over all CPUs.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn histogram(&self) -> io::Result<Histogram> {
        let mut sum = [0u64; HISTOGRAM_WORDS];
        for cpu in self.histogram.get(&0, 0).map_err(io::Error::other)?.iter() {
            add(&mut sum, cpu);
        }
        Histogram::read_from_bytes(sum.as_bytes()).map_err(|_| io::Error::other("a histogram of another size"))
    }

    /// How often the kernel could not run a program because it interrupted itself on that CPU
    /// (`recursion_misses`): transitions that nobody saw.
    #[must_use]
    pub fn missed(&self) -> u64 {
        TRACED.iter().filter_map(|name| self.program_fdinfo(name, "recursion_misses")).sum()
    }

    /// One field of a program's fdinfo.
    fn program_fdinfo(&self, name: &str, field: &str) -> Option<u64> {
        let fd = self.ebpf.program(name)?.fd().ok()?;
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).ok()?;
        super::field(&text, field)
    }
}

/// Checks the host and makes the maps; no program is loaded yet.
fn prepare(mut config: Config, ring_bytes: u32, btf: &Path) -> Result<(Ebpf, Btf), Refusal> {
    preflight::check()?;
    let btf::Needed { offsets, attachable } = preflight::read_btf(btf)?;
    preflight::is_this_kernels(btf)?;
    (config.offsets, config.jiffy_ns) = (offsets, jiffy_ns());
    let kernel_btf =
        Btf::parse(&attachable, Endianness::default()).map_err(|e| refusal(&btf.display().to_string(), &e))?;

    let cpus = nr_cpus().map_err(|(_, e)| refusal("the number of CPUs", &e))?;
    let ebpf = EbpfLoader::new()
        .btf(Some(&kernel_btf))
        .verifier_log_level(VerifierLogLevel::DEBUG)
        .override_global("CONFIG", config.as_bytes(), true)
        .map_max_entries("EVENTS", ring_bytes)
        .map_max_entries("COUNTERS", u32::try_from(cpus).unwrap_or(u32::MAX))
        .load(OBJECT)
        .map_err(|e| refusal("creating the maps", &e))?;
    Ok((ebpf, kernel_btf))
}

/// The one program that a snapshot needs; nothing is attached.
#[derive(Debug)]
pub struct Descriptors(Pass);

impl Descriptors {
    /// Checks the host and loads the pass over descriptor tables, for sockets in `states` (bit
    /// `1 << number`) of one network namespace (inode number), or of all (0). `btf`: the file with
    /// the kernel's BTF.
    ///
    /// # Errors
    /// A [`Refusal`] that names what is missing.
    pub fn load(states: u32, netns: u32, btf: &Path) -> Result<Self, Refusal> {
        let (mut ebpf, kernel_btf) = prepare(Config { states, netns, ..Config::NONE }, SMALLEST_RING, btf)?;
        load_iter(&mut ebpf, &kernel_btf, "snapshot", "task_file", None).map(Self)
    }

    /// Lists who has a descriptor for any of those sockets, all listeners with theirs and their
    /// queues, and connections that are over and still have a descriptor.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn list(&self) -> io::Result<Listing> {
        self.0.run()
    }
}

/// A page: nothing is ever written into it.
const SMALLEST_RING: u32 = 4096;

/// No network namespace has this inode number: theirs begin at PROC_DYNAMIC_FIRST, 0xf0000000
/// (include/linux/proc_fs.h).
const NO_NETNS: u32 = 1;

/// Loads and attaches all that a watch of `states` (bit `1 << number`) needs, lists once, and takes
/// everything out again. It is for a network namespace that does not exist, so no socket is touched.
///
/// # Errors
/// A [`Refusal`] that names what is missing.
pub fn trial(states: u32, nursery: bool, btf: &Path) -> Result<(), Refusal> {
    let config = Config { states, nursery: u32::from(nursery), netns: NO_NETNS, ..Config::NONE };
    let (mut kernel, _events) = Kernel::load(config, SMALLEST_RING, btf)?;
    kernel.follow_ends()?;
    kernel.look(0, true).map(drop).map_err(|e| refusal("listing what is live", &e))
}

/// The same with the one program of a snapshot, which is not attached to anything.
///
/// # Errors
/// A [`Refusal`] that names what is missing.
pub fn trial_of_snapshot(states: u32, btf: &Path) -> Result<(), Refusal> {
    let descriptors = Descriptors::load(states, NO_NETNS, btf)?;
    descriptors.list().map(drop).map_err(|e| refusal("listing descriptors", &e))
}

/// The empty program of the benchmark, attached alone.
///
/// # Errors
/// A [`Refusal`].
pub fn load_empty() -> Result<Ebpf, Refusal> {
    preflight::check()?;
    let btf = Btf::from_sys_fs().map_err(|e| refusal(KERNEL_BTF, &e))?;
    let mut ebpf = EbpfLoader::new()
        .btf(Some(&btf))
        .map_max_entries("EVENTS", 4096)
        .load(OBJECT)
        .map_err(|e| refusal("creating the maps", &e))?;
    load(&mut ebpf, &btf, "empty", "inet_sock_set_state")?;
    attach(&mut ebpf, "empty")?;
    Ok(ebpf)
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, Refusal> {
    ebpf.take_map(name).ok_or_else(|| absent(name))
}

fn map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData, Refusal> {
    match ebpf.map(name) {
        Some(Map::Array(data) | Map::SkStorage(data)) => Ok(data),
        _ => Err(absent(name)),
    }
}

fn load_iter(ebpf: &mut Ebpf, btf: &Btf, name: &str, kind: &str, map: Option<&str>) -> Result<Pass, Refusal> {
    let what = format!("iterator {kind}");
    program::<Iter>(ebpf, name)?.load(kind, btf).map_err(|e| refusal(&what, &e))?;
    let map = map.map(|name| self::map(ebpf, name)).transpose()?.map(|data| data.fd().as_fd());
    let program = ebpf.program(name).ok_or_else(|| absent(name))?;
    let fd = program.fd().map_err(|e| refusal(&what, &e))?;
    sys::link_iter(fd.as_fd(), map).map(Pass).map_err(|e| refusal(&what, &e))
}

fn load(ebpf: &mut Ebpf, btf: &Btf, name: &str, tracepoint: &str) -> Result<(), Refusal> {
    program::<BtfTracePoint>(ebpf, name)?
        .load(tracepoint, btf)
        .map_err(|e| refusal(&format!("tracepoint {tracepoint}"), &e))
}

fn attach(ebpf: &mut Ebpf, name: &str) -> Result<(), Refusal> {
    program::<BtfTracePoint>(ebpf, name)?.attach().map(drop).map_err(|e| refusal(&format!("attaching {name}"), &e))
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Refusal>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name).ok_or_else(|| absent(name))?.try_into().map_err(|e| refusal(name, &e))
}

fn absent(name: &str) -> Refusal {
    Refusal::Kernel { what: name.to_owned(), detail: "missing from the embedded object".to_owned() }
}

/// The error and its causes in one line each, joined to one.
fn refusal(what: &str, error: &(dyn Error + 'static)) -> Refusal {
    let mut lines = Vec::new();
    let mut cause = Some(error);
    while let Some(e) = cause {
        lines.push(telling(&e.to_string()));
        cause = e.source();
    }
    Refusal::Kernel { what: what.to_owned(), detail: lines.join(": ") }
}

fn add(sum: &mut [u64], more: &[u64]) {
    for (total, n) in sum.iter_mut().zip(more) {
        *total += n;
    }
}

/// The line of a message that says why. The verifier says it last, before its statistics.
fn telling(message: &str) -> String {
    let (head, log) = message.split_once("Verifier output:").unwrap_or((message, ""));
    let head = head.lines().next().unwrap_or_default().trim();
    let lines = log.lines().map(str::trim).take_while(|l| !l.starts_with("processed "));
    match lines.filter(|l| !l.is_empty()).last() {
        Some(why) => format!("{head} The verifier says: {why}"),
        None => head.to_owned(),
    }
}

/// The length of a jiffy: the coarse clocks advance once per jiffy.
fn jiffy_ns() -> u64 {
    let resolution = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    resolution.tv_sec.unsigned_abs() * 1_000_000_000 + resolution.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use object::{Object, ObjectSymbol, SymbolKind};

    use super::OBJECT;

    /// Instructions that the programs may have: what each of them costs to load, and the first two
    /// to run. A change that needs more is measured (`cargo xtask bench cost`) and then raises its
    /// number; one that needs fewer lowers it.
    const AT_MOST: [(&str, u64); 7] = [
        ("set_state", 983),
        ("destroy", 402),
        ("look", 540),
        ("holders", 1993),
        ("snapshot", 899),
        ("seed", 266),
        ("empty", 2),
    ];

    #[test]
    fn no_program_has_grown() {
        let object = object::File::parse(OBJECT).expect("an ELF file");
        let programs = object.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0);
        let sizes: BTreeMap<&str, u64> = programs.map(|s| (s.name().expect("a name"), s.size() / 8)).collect();
        let grown = AT_MOST.iter().filter(|(name, most)| sizes.get(name).is_none_or(|size| size > most));
        assert_eq!(grown.count(), 0, "at most {AT_MOST:?}, found {sizes:?}");
    }
}
