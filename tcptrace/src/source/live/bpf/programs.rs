//! The kernel programs one by one: what each hangs on, loading, linking, and what the kernel says
//! to it.

use std::{collections::HashMap, error::Error, os::fd::AsFd, panic::resume_unwind, thread};

use aya::{
    Btf, Ebpf,
    maps::{Map, MapData},
    programs::{BtfTracePoint, Iter, Program, ProgramError, tp_btf::BtfTracePointLinkId},
};

use crate::source::live::bpf::{iter::LinkedIter, preflight::Refusal, sys};

/// The kernel programs' object file.
pub const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/tcptrace-ebpf"));

/// What a program runs at.
#[derive(Clone, Copy)]
pub enum Hook {
    Iter(&'static str),
    Tracepoint(&'static str),
}

/// What a watch needs, in two halves that take the verifier about as long.
const ITERATORS: [(&str, Hook); 3] = [
    ("scan", Hook::Iter("bpf_sk_storage_map")),
    ("holders", Hook::Iter("task_file")),
    ("adopt", Hook::Iter("tcp")),
];

/// The names of the two that trace.
#[derive(Clone, Copy, Debug)]
pub struct Tracing {
    /// At changes of state.
    pub set_state: &'static str,
    /// At ends of sockets.
    pub destroy: &'static str,
}

impl Tracing {
    /// `ends_of_tasks`: those that say whether the task on the CPU is ending.
    pub fn new(ends_of_tasks: bool) -> Self {
        if ends_of_tasks {
            Self { set_state: "set_state_of_run", destroy: "destroy_of_run" }
        } else {
            Self { set_state: "set_state", destroy: "destroy" }
        }
    }
}

pub fn load_all(ebpf: &mut Ebpf, tracing: Tracing, btf: &Btf) -> Result<(), Refusal> {
    let tracing = [
        (tracing.set_state, Hook::Tracepoint("inet_sock_set_state")),
        (tracing.destroy, Hook::Tracepoint("tcp_destroy_sock")),
    ];
    let mut programs: HashMap<&str, &mut Program> = ebpf.programs_mut().collect();
    let mut half = |names: &[(&'static str, Hook)]| {
        let taken = names
            .iter()
            .map(|(name, hook)| Ok((programs.remove(name).ok_or_else(|| absent(name))?, *hook)));
        taken.collect::<Result<Vec<_>, Refusal>>()
    };
    let (iterators, tracing) = (half(&ITERATORS)?, half(&tracing)?);
    let load_half = |half: Vec<(&mut Program, Hook)>| {
        half.into_iter().try_for_each(|(p, hook)| load(p, hook, btf))
    };
    thread::scope(|scope| {
        let iterators = scope.spawn(|| load_half(iterators));
        let tracing = load_half(tracing);
        iterators.join().unwrap_or_else(|panic| resume_unwind(panic)).and(tracing)
    })
}

pub fn load(program: &mut Program, hook: Hook, btf: &Btf) -> Result<(), Refusal> {
    let (what, loaded) = match hook {
        Hook::Iter(kind) => (
            format!("iterator {kind}"),
            as_kind::<Iter>(program).and_then(|program| program.load(kind, btf)),
        ),
        Hook::Tracepoint(name) => (
            format!("tracepoint {name}"),
            as_kind::<BtfTracePoint>(program).and_then(|program| program.load(name, btf)),
        ),
    };
    loaded.map_err(|e| refusal(&what, &e))
}

pub fn link_iter(ebpf: &Ebpf, name: &str, map: Option<&str>) -> Result<LinkedIter, Refusal> {
    let what = format!("iterator {name}");
    let map = map.map(|name| self::map(ebpf, name)).transpose()?.map(|data| data.fd().as_fd());
    let program = ebpf.program(name).ok_or_else(|| absent(name))?;
    let fd = program.fd().map_err(|e| refusal(&what, &e))?;
    sys::link_iter(fd.as_fd(), map).map(LinkedIter).map_err(|e| refusal(&what, &e))
}

pub fn attach(ebpf: &mut Ebpf, name: &str) -> Result<BtfTracePointLinkId, Refusal> {
    let attached = as_kind::<BtfTracePoint>(program(ebpf, name)?).and_then(BtfTracePoint::attach);
    attached.map_err(|e| refusal(&format!("attaching {name}"), &e))
}

pub fn detach(ebpf: &mut Ebpf, name: &str, link: BtfTracePointLinkId) -> Result<(), Refusal> {
    let detached =
        as_kind::<BtfTracePoint>(program(ebpf, name)?).and_then(|program| program.detach(link));
    detached.map_err(|e| refusal(&format!("detaching {name}"), &e))
}

pub fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Program, Refusal> {
    ebpf.program_mut(name).ok_or_else(|| absent(name))
}

pub fn as_kind<'a, P>(program: &'a mut Program) -> Result<&'a mut P, ProgramError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    program.try_into()
}

pub fn absent(name: &str) -> Refusal {
    Refusal::Kernel { what: name.to_owned(), detail: "missing from the embedded object".to_owned() }
}

/// The error and its causes in one line each, joined to one.
pub fn refusal(what: &str, error: &(dyn Error + 'static)) -> Refusal {
    let mut lines = Vec::new();
    let mut cause = Some(error);
    while let Some(e) = cause {
        lines.push(telling(&e.to_string()));
        cause = e.source();
    }
    Refusal::Kernel { what: what.to_owned(), detail: lines.join(": ") }
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

pub fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, Refusal> {
    ebpf.take_map(name).ok_or_else(|| absent(name))
}

pub fn map<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a MapData, Refusal> {
    match ebpf.map(name) {
        Some(Map::Array(data) | Map::SkStorage(data)) => Ok(data),
        _ => Err(absent(name)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use object::{Object, ObjectSymbol, SymbolKind};

    use super::OBJECT;

    /// Instructions that the programs may have: what each of them costs to load, and the first two
    /// to run. A change that needs more is measured (`cargo xtask bench cost`) and then raises its
    /// number; one that needs fewer lowers it.
    ///
    /// Where origins are not asked for, the four of them are not loaded, and the verifier takes out
    /// again what `scan` and `holders` have for them.
    const AT_MOST: [(&str, u64); 14] = [
        ("set_state", 1786),
        ("destroy", 523),
        ("set_state_of_run", 1802),
        ("destroy_of_run", 537),
        ("scan", 666),
        ("holders", 1683),
        ("snapshot", 753),
        ("adopt", 426),
        ("accepted", 1313),
        ("connected", 1238),
        ("received", 1429),
        ("forget", 9),
        ("normal", 497),
        ("empty", 2),
    ];

    #[test]
    #[cfg_attr(feature = "kernel-log", ignore = "what is logged takes instructions")]
    fn no_program_has_grown() {
        let object = object::File::parse(OBJECT).expect("an ELF file");
        let programs = object.symbols().filter(|s| s.kind() == SymbolKind::Text && s.size() > 0);
        let sizes: BTreeMap<&str, u64> =
            programs.map(|s| (s.name().expect("a name"), s.size() / 8)).collect();
        let grown =
            AT_MOST.iter().filter(|(name, most)| sizes.get(name).is_none_or(|size| size > most));
        assert_eq!(grown.count(), 0, "at most {AT_MOST:?}, found {sizes:?}");
    }
}
