//! Loads, attaches and talks to the kernel programs.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    panic::resume_unwind,
    path::Path,
    sync::Arc,
    thread,
};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, VerifierLogLevel,
    maps::{Array, MapData, RingBuf},
    programs::tp_btf::BtfTracePointLinkId,
};
use tcptrace_common::{config::Config, event::Streamed};
use zerocopy::IntoBytes;

#[cfg(feature = "kernel-log")]
use super::log::KernelLog;
use crate::{
    formats::btf,
    source::live::bpf::{
        counts::KernelCounts,
        cpus,
        iter::{LinkedIter, Listing},
        mapped::Mapped,
        normals,
        nursery::Nursery,
        origins::{self, Whose},
        preflight,
        preflight::{KERNEL_BTF, Refusal},
        programs::{
            Hook, OBJECT, Tracing, attach, detach, link_iter, load, load_all, map, program,
            refusal, take,
        },
        scans::Scans,
        stream::Stream,
        tracepoint::Attached,
    },
};

/// The programs in the kernel. Dropping it takes them out.
pub struct Kernel {
    ebpf: Ebpf,
    stream: Option<Stream>,
    counts: KernelCounts,
    attached: Vec<(&'static str, BtfTracePointLinkId)>,
    /// The program at ends of sockets.
    destroy: &'static str,
    /// What keeps origins, at tracepoints of its own.
    at_calls: Vec<Attached>,
    #[cfg(feature = "kernel-log")]
    log: KernelLog,
}

/// What is loaded besides, where it is asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opted<'a> {
    /// Whose connections' origins are kept, if any are.
    pub origins: Option<&'a Whose>,
    /// How long stays last as a rule is kept.
    pub normals: bool,
    /// Ends of long stays say whether the task that made them was ending.
    pub ends_of_tasks: bool,
}

impl Kernel {
    /// Checks the host, loads the programs and attaches them. From the return on, no transition is
    /// missed without being counted.
    ///
    /// `config.offsets`, `config.jiffy_ns` and `config.stream` are filled in here, the first from
    /// the kernel's BTF in the file `btf`. `buffer`: bytes of the ring buffer, and of all CPUs'
    /// streams together, where they are not to be as large as they usually are.
    ///
    /// # Errors
    /// A [`Refusal`] that names what is missing.
    pub fn load(
        mut config: Config,
        buffer: Option<u32>,
        btf: &Path,
        opted: Opted<'_>,
    ) -> Result<(Self, Scans, RingBuf<MapData>), Refusal> {
        let Opted { origins, normals, ends_of_tasks } = opted;
        let tracing = Tracing::new(ends_of_tasks);
        let cpus = cpus()?;
        let streams = config.transitions != 0 && !preflight::may_nest();
        config.stream = if streams { records_each(buffer, cpus) } else { 0 };
        if let Some(whose) = origins {
            whose.fill(&mut config);
        }
        let (mut ebpf, kernel_btf) =
            prepare(config, cpus, buffer.unwrap_or(RING_BYTES), normals, btf)?;

        load_all(&mut ebpf, tracing, &kernel_btf)?;
        let stays = link_iter(&ebpf, "scan", Some("STAYS"))?;
        let holders = link_iter(&ebpf, "holders", None)?;
        let adopt = link_iter(&ebpf, "adopt", None)?;
        let mut attached = Vec::new();
        let (origins, at_calls) = match origins {
            Some(whose) => {
                let (origins, at_calls, traced) = origins::start(&mut ebpf, &kernel_btf, whose)?;
                for name in traced {
                    attached.push((name, attach(&mut ebpf, name)?));
                }
                (Some(origins), at_calls)
            }
            None => (None, Vec::new()),
        };
        let normals = normals.then(|| normals::start(&mut ebpf, &kernel_btf)).transpose()?;
        // Before `set_state`, which ends the stay: programs run in the order in which they came.
        if normals.is_some() {
            attached.push((normals::PROGRAM, attach(&mut ebpf, normals::PROGRAM)?));
        }
        attached.push((tracing.set_state, attach(&mut ebpf, tracing.set_state)?));

        let events = RingBuf::try_from(take(&mut ebpf, "EVENTS")?)
            .map_err(|e| refusal("the ring buffer", &e))?;
        let control = Array::try_from(take(&mut ebpf, "CONTROL")?)
            .map_err(|e| refusal("the control map", &e))?;
        let nursery =
            Nursery::new(map(&ebpf, "NURSERY")?).map_err(|e| refusal("the nursery", &e))?;
        let cpus = Mapped::new(map(&ebpf, "CPUS")?, cpus as usize)
            .map_err(|e| refusal("the counters", &e))?;
        let cpus = Arc::new(cpus);
        let stream = match config.stream as usize {
            0 => None,
            size => Some(
                Stream::new(Arc::clone(&cpus), map(&ebpf, "STREAM")?, size)
                    .map_err(|e| refusal("the stream", &e))?,
            ),
        };
        let traced = [tracing.set_state, tracing.destroy];
        let traced = traced.iter().map(|name| program_fd(&ebpf, name)).collect::<Result<_, _>>()?;
        let counts = KernelCounts { cpus, traced };
        let kernel = Self {
            #[cfg(feature = "kernel-log")]
            log: KernelLog::of(&mut ebpf)?,
            ebpf,
            stream,
            counts: counts.clone(),
            attached,
            destroy: tracing.destroy,
            at_calls,
        };
        let scans = Scans {
            control,
            counts,
            nursery,
            stays,
            holders,
            adopt,
            origins,
            normals,
            scans: 0,
            min_age_ns: config.min_age_ns,
        };
        Ok((kernel, scans, events))
    }

    /// From now on the ends of sockets are seen too, which end stays in CLOSE. Not from the start:
    /// it would cost every connection, for what on most machines never happens. True: it is new.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn follow_ends(&mut self) -> Result<bool, Refusal> {
        if self.attached.iter().any(|(name, _)| *name == self.destroy) {
            return Ok(false);
        }
        self.attached.push((self.destroy, attach(&mut self.ebpf, self.destroy)?));
        Ok(true)
    }

    /// No socket stays in CLOSE any more: connections need not pay for its end.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn unfollow_ends(&mut self) -> Result<(), Refusal> {
        match self.attached.iter().position(|(name, _)| *name == self.destroy) {
            Some(at) => {
                let (name, link) = self.attached.swap_remove(at);
                detach(&mut self.ebpf, name, link)
            }
            None => Ok(()),
        }
    }

    /// From now on no event comes: what there is can be taken out, and the counters agree with it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn stop(&mut self) -> Result<(), Refusal> {
        self.at_calls.clear();
        self.attached.drain(..).try_for_each(|(name, link)| detach(&mut self.ebpf, name, link))
    }

    /// What the programs counted.
    #[must_use]
    pub fn counts(&self) -> &KernelCounts {
        &self.counts
    }

    /// Takes out of the streams what happened before `until`, see [`Stream::take`].
    pub fn streamed(&mut self, until: u64, batch: &mut Vec<Streamed>) {
        #[cfg(feature = "kernel-log")]
        self.log.print();
        if let Some(stream) = &self.stream {
            stream.take(until, batch);
        }
    }
}

/// A program's descriptor, of one's own.
fn program_fd(ebpf: &Ebpf, name: &str) -> Result<OwnedFd, Refusal> {
    let missing = || refusal(name, &io::Error::from(io::ErrorKind::NotFound));
    let program = ebpf.program(name).ok_or_else(missing)?;
    let fd = program.fd().map_err(|e| refusal(name, &e))?;
    fd.as_fd().try_clone_to_owned().map_err(|e| refusal(name, &e))
}

/// Checks the host and makes the maps; no program is loaded yet.
fn prepare(
    mut config: Config,
    cpus: u32,
    ring_bytes: u32,
    normals: bool,
    btf: &Path,
) -> Result<(Ebpf, Btf), Refusal> {
    // The library goes through all of the kernel's types, which takes as long as all of this.
    let (loader, needed) = thread::scope(|scope| {
        let loader = scope.spawn(EbpfLoader::new);
        let needed = preflight::check().and_then(|()| preflight::read_btf(btf));
        (loader.join(), needed)
    });
    let mut loader = loader.unwrap_or_else(|panic| resume_unwind(panic));
    let btf::Needed { offsets, attachable } = needed?;
    preflight::is_this_kernels(btf)?;
    (config.offsets, config.jiffy_ns) = (offsets, jiffy_ns());
    let kernel_btf = Btf::parse(&attachable, Endianness::default())
        .map_err(|e| refusal(&btf.display().to_string(), &e))?;

    config.nests = u32::from(preflight::may_nest());
    config.weakly_ordered = u32::from(!cfg!(target_arch = "x86_64"));
    let keeps = config.origins != 0;
    let ebpf = loader
        .btf(Some(&kernel_btf))
        .verifier_log_level(VerifierLogLevel::DEBUG)
        .override_global("CONFIG", config.as_bytes(), true)
        .map_max_entries("EVENTS", ring_bytes)
        .map_max_entries("CPUS", cpus)
        .map_max_entries("STREAM", (cpus * config.stream).max(1))
        .map_max_entries("NORMALS", if normals { normals::PLACES } else { 1 })
        .map_max_entries("ORIGINS", if keeps { origins::places() } else { 1 })
        .map_max_entries("ASKED", if keeps { origins::ASKED } else { 1 })
        .map_max_entries("NAMED", if keeps { origins::NAMES } else { 1 })
        .map_max_entries("STACKS", if keeps { origins::STACKS_BYTES } else { SMALLEST_RING })
        .load(OBJECT)
        .map_err(|e| refusal("creating the maps", &e))?;
    Ok((ebpf, kernel_btf))
}

fn cpus() -> Result<u32, Refusal> {
    cpus::numbers().map_err(|e| refusal("the number of CPUs", &e))
}

/// Ends of long stays come in bursts at worst when a leaking process is killed: 8,000 fit.
const RING_BYTES: u32 = 1 << 20;
/// Streamed transitions: 64,000 fit on two CPUs, a third of a second of all that they can make.
const STREAM_BYTES: u32 = 8 << 20;
/// On many CPUs: 2,000 fit on each, which is what it can make between two polls.
const LEAST_STREAM_BYTES: u32 = 256 << 10;

/// Records in each CPU's stream, a power of two.
fn records_each(bytes: Option<u32>, cpus: u32) -> u32 {
    let each = bytes.map_or((STREAM_BYTES / cpus).max(LEAST_STREAM_BYTES), |bytes| bytes / cpus);
    let records = each / size_of::<Streamed>() as u32;
    1 << records.max(1).ilog2()
}

/// The one program that a snapshot needs; nothing is attached.
#[derive(Debug)]
pub struct DescriptorScan(LinkedIter);

impl DescriptorScan {
    /// Checks the host and loads the scan of descriptor tables, for sockets in `states` (bit
    /// `1 << number`) of one network namespace (inode number), or of all (0). `btf`: the file with
    /// the kernel's BTF.
    ///
    /// # Errors
    /// A [`Refusal`] that names what is missing.
    pub fn load(states: u32, netns: u32, btf: &Path) -> Result<Self, Refusal> {
        let config = Config { states, netns, ..Config::NONE };
        let (mut ebpf, kernel_btf) = prepare(config, cpus()?, SMALLEST_RING, false, btf)?;
        load(program(&mut ebpf, "snapshot")?, Hook::Iter("task_file"), &kernel_btf)?;
        link_iter(&ebpf, "snapshot", None).map(Self)
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
/// everything out again. It is for a network namespace that does not exist, so no socket is
/// touched.
///
/// # Errors
/// A [`Refusal`] that names what is missing.
pub fn trial(states: u32, nursery: bool, btf: &Path) -> Result<(), Refusal> {
    let config = Config { states, nursery: u32::from(nursery), netns: NO_NETNS, ..Config::NONE };
    let (mut kernel, mut scans, _events) =
        Kernel::load(config, Some(SMALLEST_RING), btf, Opted::default())?;
    kernel.follow_ends()?;
    scans.stays(0, true).map(drop).map_err(|e| refusal("listing what is live", &e))
}

/// The same with the programs of origins. Whether reads are traced, too.
///
/// # Errors
/// A [`Refusal`] that names what is missing.
pub fn trial_of_origins(states: u32, btf: &Path) -> Result<bool, Refusal> {
    let config = Config { states, netns: NO_NETNS, ..Config::NONE };
    let whose = Whose::default();
    let opted = Opted { origins: Some(&whose), ..Opted::default() };
    let (_kernel, mut scans, _events) = Kernel::load(config, Some(SMALLEST_RING), btf, opted)?;
    scans.stays(0, true).map_err(|e| refusal("listing what is live", &e))?;
    Ok(scans.origins().is_some_and(|origins| origins.reads))
}

/// The same with the one program of a snapshot, which is not attached to anything.
///
/// # Errors
/// A [`Refusal`] that names what is missing.
pub fn trial_of_snapshot(states: u32, btf: &Path) -> Result<(), Refusal> {
    let descriptors = DescriptorScan::load(states, NO_NETNS, btf)?;
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
        .map_max_entries("EVENTS", SMALLEST_RING)
        .load(OBJECT)
        .map_err(|e| refusal("creating the maps", &e))?;
    load(program(&mut ebpf, "empty")?, Hook::Tracepoint("inet_sock_set_state"), &btf)?;
    let _held_by_the_program = attach(&mut ebpf, "empty")?;
    Ok(ebpf)
}

/// The length of a jiffy: the coarse clocks advance once per jiffy.
fn jiffy_ns() -> u64 {
    let resolution = rustix::time::clock_getres(rustix::time::ClockId::MonotonicCoarse);
    resolution.tv_sec.unsigned_abs() * 1_000_000_000 + resolution.tv_nsec.unsigned_abs()
}
