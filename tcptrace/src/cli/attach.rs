//! Attaching to this host, as the live commands do: loads the programs, adopts what is there
//! already, gives up what rights that took.

use std::{io, path::Path, time::Duration};

use anyhow::Context;
use tcptrace_common::{config::Config, state::TcpState};

use super::nanoseconds;
use crate::{
    confine::{capabilities, seccomp, seccomp::Profile},
    engine::{
        counted::counted,
        fact::{Fact, Host},
        parse,
        parse::MinAge,
        select::Selection,
        watch::Plan,
    },
    exit::Failure,
    prose::time::human,
    source::live::{
        blocked, boot_now,
        bpf::{
            loader::{Kernel, Opted},
            origins::Whose,
            preflight,
            scans::Scans,
        },
        cgroupfs, memory, netns,
        netns::Netns,
        origins, process,
        ring::Ring,
        scanner::{self, Scanner, Scope},
        tracing::{Live, Pace},
        usage::Gauges,
        waiter::Waiter,
    },
};

/// How to attach.
#[derive(Clone, Copy, Debug)]
pub struct How<'a> {
    /// What the kernel's types are read from.
    pub btf: &'a Path,
    /// Size of the event buffer, KiB.
    pub ring_kib: Option<u32>,
    /// Between two scans; none: by the plan's min-age.
    pub interval: Option<Duration>,
    /// Keep who opened connections, and who reads from them.
    pub origins: bool,
    /// Tell whether who ended a leak was ending itself.
    pub exits: bool,
    /// Min-age may be lowered to this later on; none: it stays as it is.
    pub lowest_min_age: Option<Duration>,
}

/// Scanning more often would be all that it does.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
/// Without an interval given, scans are a quarter of min-age apart, within these.
const USUAL_INTERVALS: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(500)];

/// `--interval`.
pub fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse::duration(text)?;
    if interval < SHORTEST_INTERVAL { Err("write at least 1ms".to_owned()) } else { Ok(interval) }
}

/// Between two scans, where nobody says it.
pub fn usual_interval(listed_from_ns: u64) -> Duration {
    let [shortest, longest] = USUAL_INTERVALS;
    Duration::from_nanos(listed_from_ns / 4).clamp(shortest, longest)
}

/// What waits for events, keys and signals: one thread.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    Ok(builder.enable_all().build().context("starting the runtime")?)
}

/// Loads and attaches the programs, adopts what is there already, and gives up capabilities. What
/// can't be seen is said by `say`.
pub fn attach(how: How<'_>, plan: &Plan, say: &mut dyn FnMut(&str)) -> Result<Live, Failure> {
    let buffer = how.ring_kib.map(|kib| kib * 1024);
    let whose = how.origins.then(|| whose(&plan.selection));
    let opted =
        Opted { origins: whose.as_ref(), normals: plan.by_normal, ends_of_tasks: how.exits };
    let (kernel, mut scans, ring) =
        Kernel::load(config(plan, how.lowest_min_age), buffer, how.btf, opted)?;
    let places = adopt(&mut scans, &plan.selection, say).context("sockets that exist already")?;
    let by_holder = plan.transitions && plan.selection.asks_for_holders();
    let mut first = vec![Fact::Host(host())];
    if let Some(origins) = scans.origins() {
        if !origins.reads {
            say("this kernel doesn't trace reads (Linux 6.3 and later do): who read what isn't \
                 known, who opened it is");
        }
        first.push(origins::none_yet(origins));
    }
    if by_holder {
        first.extend(scanner::who_holds(&mut scans, boot_now()).context("who holds what already")?);
    }
    // Of this network namespace only: of another, it would keep it from ending.
    let own = if plan.threads { blocked::ask_here() } else { None };
    let named = if plan.selection.netns.is_empty() { &[][..] } else { &places };
    let gauges = Gauges::open(named, plan.states, &plan.selection);
    capabilities::drop_unneeded().context("dropping privileges")?;
    let scope = Scope {
        selection: plan.selection.clone(),
        min_age_ns: plan.listed_from_ns(),
        listeners: by_holder,
        kernel_names_processes: process::in_initial_pid_namespace(),
    };
    let scanner = Scanner::start(scans, scope, gauges).context("starting the thread that scans")?;
    let waiter = plan.threads.then(|| Waiter::start(own)).transpose();
    let waiter = waiter.context("starting the thread that reads what threads wait in")?;
    let ring = Ring::new(ring).context("watching the ring buffer")?;
    let pace = Pace {
        interval: how.interval.unwrap_or_else(|| usual_interval(plan.listed_from_ns())),
        streams: plan.transitions,
        callers: plan.selection.asks_for_holders(),
    };
    // What loading took: the library has gone through all of the kernel's types.
    memory::give_back();
    Ok(Live::new(kernel, ring, scanner, waiter, pace, first))
}

/// From here on only the system calls of the profile are made. What a kernel without filters says
/// goes to `say`.
pub fn confine(profile: Profile, say: &mut dyn FnMut(&str)) {
    if let Err(e) = seccomp::confine(profile) {
        say(&format!(
            "no system call filter ({e}): every call stays possible, as before attaching"
        ));
    }
}

/// `CLOSE_WAIT, CLOSE`: the states of a set.
pub fn state_names(states: u32) -> String {
    let named = TcpState::ALL.into_iter().filter(|s| states & s.bit() != 0).map(TcpState::name);
    named.collect::<Vec<_>>().join(", ")
}

/// `sockets in CLOSE_WAIT longer than 1s`: what is watched for.
pub fn watched(states: u32, min_age: MinAge) -> String {
    // As it is written on the command line: 1s.
    let than = |age: Duration| human(nanoseconds(age)).replace(".0s", "s");
    let stay = match min_age {
        MinAge::Longer(Duration::ZERO) => ", however short".to_owned(),
        MinAge::Longer(age) => format!(" longer than {}", than(age)),
        MinAge::Auto => {
            let age = than(min_age.duration());
            format!(" longer than normal (than {age} where what is normal isn't known yet)")
        }
    };
    format!("sockets in {}{stay}", state_names(states))
}

/// What the kernel can filter by itself without dropping a true match.
fn config(plan: &Plan, lowest_min_age: Option<Duration>) -> Config {
    let selection = &plan.selection;
    let lowest_ns = lowest_min_age.map_or(u64::MAX, nanoseconds);
    Config {
        min_age_ns: plan.listed_from_ns().min(lowest_ns),
        states: plan.states,
        transitions: u32::from(plan.transitions),
        netns: selection.only_netns().unwrap_or(0),
        family: u32::from(selection.family.unwrap_or(0)),
        lport: u32::from(selection.only_lport().unwrap_or(0)),
        rport: u32::from(selection.only_rport().unwrap_or(0)),
        // The pass that moves stays out of the nursery must see every process.
        nursery: u32::from(process::in_initial_pid_namespace()),
        ..Config::NONE
    }
}

/// Whose calls are looked at: what the kernel can tell by itself without dropping a true match.
fn whose(selection: &Selection) -> Whose {
    let pids: Vec<u32> = selection.processes.iter().map(|p| p.pid).collect();
    let by_pid = process::in_initial_pid_namespace();
    let cgroups: Option<Vec<_>> = selection.cgroups.iter().map(cgroupfs::id_and_level).collect();
    Whose {
        pids: if by_pid { pids } else { Vec::new() },
        descent: selection.children,
        cgroups: cgroups.unwrap_or_default(),
    }
}

/// Adopts the sockets that were there before the programs were: those with a descriptor in one go,
/// the others namespace by namespace. Those are what is returned.
fn adopt(
    scans: &mut Scans,
    selection: &Selection,
    say: &mut dyn FnMut(&str),
) -> io::Result<Vec<Netns>> {
    scans.adopt_by_descriptor(boot_now())?;
    let (mut all, hidden) = netns::all();
    if !selection.netns.is_empty() {
        all.retain(|n| selection.netns.contains(&n.inode));
    }
    let pass = scans.adopt_by_namespace();
    let (_, failed) = netns::each(&all, |_| pass.run().map(drop));
    const LOST: &str =
        "connections that have waited there to be accepted since before the start are not seen";
    if hidden > 0 {
        say(&format!(
            "the network namespaces of {} can't be told without CAP_SYS_PTRACE: {LOST}",
            counted(hidden as u64, "process", "processes")
        ));
    }
    if let Some((netns, e)) = failed.first() {
        let path = netns.path.display();
        let refused = e.kind() == io::ErrorKind::PermissionDenied;
        let without = if refused { " without CAP_SYS_ADMIN" } else { "" };
        say(&format!(
            "{} could not be entered{without} ({path}: {e}): {LOST}",
            counted(failed.len() as u64, "network namespace", "network namespaces")
        ));
    }
    if !process::in_initial_pid_namespace() {
        say(process::OTHER_PIDS);
    }
    if process::some_hidden() {
        say(process::HIDDEN);
    }
    Ok(all)
}

fn host() -> Host {
    Host {
        kernel: preflight::release().unwrap_or_default(),
        all_processes: process::in_initial_pid_namespace(),
    }
}
