//! What the kernel programs know of where connections come from: whom they look at, the stacks that
//! they hand over, what they could not keep.

use std::{fs, os::fd::AsFd};

use aya::{
    Btf, BtfError, Ebpf,
    maps::{HashMap, MapData, PerCpuArray, RingBuf},
    programs::{BtfTracePoint, ProgramError, TracePoint},
};
use tcptrace_common::{
    config::{Ancestor, BY_CGROUP, BY_DESCENT, BY_PROCESS, CGROUPS, Config},
    counters::OriginCounts,
};
use zerocopy::transmute;

use super::{
    preflight::Refusal,
    programs::{Hook, as_kind, load, program, refusal, take},
    tracepoint::{self, Attached},
};
use crate::formats::lines;

/// Whose connections' origins are kept. Everybody's, where all is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// Of these processes.
    pub pids: Vec<u32>,
    /// And of their descendants.
    pub descent: bool,
    /// In these cgroups v2 or below: id, and how deep it is.
    pub cgroups: Vec<(u64, u32)>,
}

impl Whose {
    /// Puts it into the programs' configuration. Where these are more than the programs take, they
    /// look at all, and the core selects.
    pub fn fill(&self, config: &mut Config) {
        config.origins = 1;
        if (1..=ASKED as usize).contains(&self.pids.len()) {
            config.origins_of |= BY_PROCESS | if self.descent { BY_DESCENT } else { 0 };
        }
        if !self.cgroups.is_empty() && self.cgroups.len() <= CGROUPS {
            config.origins_of |= BY_CGROUP;
            for (to, (id, level)) in config.cgroups.iter_mut().zip(&self.cgroups) {
                *to = Ancestor { id: *id, level: *level, pad: 0 };
            }
        }
    }
}

/// The programs' side.
pub struct OriginMaps {
    stacks: RingBuf<MapData>,
    lost: PerCpuArray<MapData, [u64; 2]>,
    /// Reads are traced: from Linux 6.3 on (`sock_recv_length`).
    pub reads: bool,
    /// Only certain calls are looked at.
    pub narrowed: bool,
    _asked: HashMap<MapData, u32, u32>,
}

/// Bytes of the ring buffer that stacks leave through: 120 fit.
pub const STACKS_BYTES: u32 = 2 << 20;
/// Processes that can be asked for.
pub const ASKED: u32 = 1 << 12;
/// Names of stacks that the programs remember.
pub const NAMES: u32 = 1 << 13;
/// Connections that are kept at least, and at most: 200 bytes each.
const PLACES: [u32; 2] = [1 << 15, 1 << 20];

/// How many connections there is room for: what there is of sockets now, eight times.
pub fn places() -> u32 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let mut words = lines::value(&text, "TCP").unwrap_or_default().split_whitespace();
    let alloc = words.find(|word| *word == "alloc").and_then(|_| words.next()?.parse::<u32>().ok());
    let [least, most] = PLACES;
    alloc.unwrap_or(0).saturating_mul(8).clamp(least, most).next_power_of_two()
}

/// Loads and attaches the programs.
pub fn start(
    ebpf: &mut Ebpf,
    btf: &Btf,
    whose: &Whose,
) -> Result<(OriginMaps, Vec<Attached>, Vec<&'static str>), Refusal> {
    let asked = take(ebpf, "ASKED")?;
    let mut asked: HashMap<_, u32, u32> =
        HashMap::try_from(asked).map_err(|e| refusal("the processes asked for", &e))?;
    // More than that are not told apart in the kernel: `fill` has seen to it.
    for pid in whose.pids.iter().take(ASKED as usize) {
        asked.insert(pid, 0, 0).map_err(|e| refusal("the processes asked for", &e))?;
    }
    let mut traced = vec!["connected", "forget"];
    load(program(ebpf, "connected")?, Hook::Tracepoint("inet_sock_set_state"), btf)?;
    load(program(ebpf, "forget")?, Hook::Tracepoint("tcp_destroy_sock"), btf)?;
    let received: &mut BtfTracePoint =
        as_kind(program(ebpf, "received")?).map_err(|e| refusal("reads", &e))?;
    let reads = match received.load("sock_recv_length", btf) {
        Ok(()) => {
            traced.push("received");
            true
        }
        // Before 6.3.
        Err(ProgramError::Btf(BtfError::UnknownBtfTypeName { .. })) => false,
        Err(e) => return Err(refusal("tracepoint sock_recv_length", &e)),
    };
    let accepted: &mut TracePoint =
        as_kind(program(ebpf, "accepted")?).map_err(|e| refusal("the exit of accept()", &e))?;
    accepted.load().map_err(|e| refusal("the exit of accept()", &e))?;
    let fd = accepted.fd().map_err(|e| refusal("the exit of accept()", &e))?;
    let mut attached = Vec::new();
    for name in ["syscalls/sys_exit_accept", "syscalls/sys_exit_accept4"] {
        let at = tracepoint::attach(fd.as_fd(), name);
        attached.push(at.map_err(|e| refusal(&format!("tracepoint {name}"), &e))?);
    }
    let stacks = RingBuf::try_from(take(ebpf, "STACKS")?)
        .map_err(|e| refusal("the ring buffer of stacks", &e))?;
    let lost = PerCpuArray::try_from(take(ebpf, "LOST")?)
        .map_err(|e| refusal("the counts of origins", &e))?;
    let narrowed = *whose != Whose::default();
    Ok((OriginMaps { stacks, lost, reads, narrowed, _asked: asked }, attached, traced))
}

impl OriginMaps {
    /// The oldest stack's bytes, taken out of the ring.
    pub fn take(&mut self) -> Option<impl std::ops::Deref<Target = [u8]> + '_> {
        self.stacks.next()
    }

    /// What could not be kept so far, summed over all CPUs.
    #[must_use]
    pub fn lost(&self) -> OriginCounts {
        let mut sum = [0; 2];
        // A map that can't be read has nothing to say.
        if let Ok(each) = self.lost.get(&0, 0) {
            for cpu in each.iter() {
                sum.iter_mut().zip(cpu).for_each(|(total, count)| *total += count);
            }
        }
        transmute!(sum)
    }
}
