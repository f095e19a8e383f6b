//! Which sockets: the flags that every command shares, and what they mean on this host.

mod told;

use std::{ffi::OsStr, marker::PhantomData, path::PathBuf, str::FromStr};

use clap::{
    Arg, Command, Error,
    builder::{PossibleValue, TypedValueParser},
};

use tcptrace_common::state::TcpState;

use crate::{
    engine::{
        parse::{self, EndPattern, States},
        record::ProcessId,
        select::Selection,
        verdict::Verdict,
    },
    exit::Failure,
    formats::{cgroup::CgroupPattern, container::Container},
    source::live::{
        cgroupfs,
        netns::{NAMED, Netns},
        process,
    },
};

/// What the kernel keeps of a command name (TASK_COMM_LEN without its NUL).
const COMM_LEN: usize = 15;

#[derive(Clone, Debug, clap::Args)]
#[group(id = "select")]
#[command(next_help_heading = "Selection (kinds combine with and, values of one kind with or)")]
pub struct Args {
    /// TCP states, as ss or the kernel spells them, or all (of these only what something is wrong
    /// with) [default: close_wait, or what --verdict is about]
    #[arg(
        short,
        long,
        value_name = "STATE[,…]",
        value_parser = Named::<States>::new(States::NAMES)
    )]
    pub state: Option<States>,

    /// Sockets that this process holds, or that wait in the queue of a listener it holds
    #[arg(
        short,
        long,
        value_name = "PID[,…]",
        value_delimiter = ',',
        value_parser = parse::pid
    )]
    pid: Vec<u32>,

    /// With --pid: its descendants too
    #[arg(long, requires = "pid")]
    children: bool,

    /// Sockets held by a process with this command name
    #[arg(long, value_name = "NAME[,…]")]
    comm: Vec<String>,

    /// Sockets made or held in this cgroup or below: a path, or one relative to the cgroup mount
    #[arg(long, value_name = "PATH[,…]")]
    cgroup: Vec<String>,

    /// Sockets held in the container with this name (LXC, systemd-nspawn), or whose id begins so
    #[arg(long, value_name = "NAME|ID[,…]")]
    container: Vec<String>,

    /// Sockets in this network namespace: a name as for ip netns, a path, or pid:N
    #[arg(long, value_name = "NAME|PATH|pid:N[,…]")]
    netns: Vec<String>,

    /// Local end: ADDR, ADDR/BITS, ADDR:PORT, [V6]:PORT
    #[arg(long, value_name = "ADDR[:PORT][,…]", value_delimiter = ',')]
    local: Vec<EndPattern>,

    /// Remote end, as --local
    #[arg(long, value_name = "ADDR[:PORT][,…]", value_delimiter = ',')]
    remote: Vec<EndPattern>,

    /// Local port
    #[arg(
        long,
        value_name = "PORT[,…]",
        value_delimiter = ',',
        value_parser = parse::port
    )]
    lport: Vec<u16>,

    /// Remote port
    #[arg(
        long,
        value_name = "PORT[,…]",
        value_delimiter = ',',
        value_parser = parse::port
    )]
    rport: Vec<u16>,

    /// Address family; IPv4 in IPv6 sockets counts as 4
    #[arg(long, value_name = "4|6", value_parser = clap::value_parser!(u8).range(4..=6))]
    family: Option<u8>,

    /// Sockets with this verdict
    #[arg(
        long,
        value_name = "VERDICT[,…]",
        value_delimiter = ',',
        value_parser = Named::<Verdict>::new(Verdict::ALL.map(Verdict::name))
    )]
    verdict: Vec<Verdict>,
}

/// Reads values in every spelling that the core takes, and tells completions their names.
#[derive(Clone)]
struct Named<T> {
    names: Vec<&'static str>,
    value: PhantomData<fn() -> T>,
}

impl<T> Named<T> {
    fn new(names: impl IntoIterator<Item = &'static str>) -> Self {
        Self { names: names.into_iter().collect(), value: PhantomData }
    }
}

impl<T> TypedValueParser for Named<T>
where
    T: FromStr<Err = String> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(&self, cmd: &Command, arg: Option<&Arg>, text: &OsStr) -> Result<T, Error> {
        T::from_str.parse_ref(cmd, arg, text)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.names.iter().map(PossibleValue::new)))
    }
}

impl Args {
    /// The states that are asked for.
    pub fn states(&self) -> States {
        let about = self.verdict.iter().fold(0, |states, verdict| states | verdict.states());
        let usual = if about == 0 { TcpState::CloseWait.bit() } else { about };
        self.state.unwrap_or(States(usual))
    }

    /// The same choice, of a recording: without one, all states that it has.
    #[must_use]
    pub fn of_recording(&self, states: u32) -> Self {
        let chosen = self.state.is_some() || self.names_verdicts();
        let state = if chosen { self.state } else { Some(States(states)) };
        Self { state, ..self.clone() }
    }

    /// The same for a watch, which counts TIME_WAIT and lists none of it.
    pub fn watchable(&self) -> Result<States, Failure> {
        let states = self.states();
        let of_processes = [
            ("--pid", !self.pid.is_empty()),
            ("--comm", !self.comm.is_empty()),
            ("--cgroup", !self.cgroup.is_empty()),
            ("--container", !self.container.is_empty()),
        ];
        match of_processes.iter().find(|(_, given)| *given) {
            Some((flag, _)) if states.is_time_wait_only() => Err(Failure::usage(format!(
                "--state time_wait: TIME_WAIT has no process; leave out {flag}, or write --local, \
                 --remote or --netns"
            ))),
            _ => Ok(states),
        }
    }

    /// Whether verdicts were asked for by name.
    pub fn names_verdicts(&self) -> bool {
        !self.verdict.is_empty()
    }

    /// Looks everything up that was named. What does not exist is an error now, not silence later.
    pub fn resolve(&self) -> Result<Selection, Failure> {
        let hidden = || {
            if process::some_hidden() { format!("; {}", process::HIDDEN) } else { String::new() }
        };
        let find_pid = |pid: &u32| {
            process::find(*pid).ok_or_else(|| {
                let hidden = hidden();
                Failure::usage(format!("--pid {pid}: no such process; ps -e lists them{hidden}"))
            })
        };
        let find_cgroup = |path: &str| cgroupfs::find(path).map_err(Failure::usage);
        let find_container = |called: &str| {
            if process::container_exists(called) {
                return Ok(called.to_owned());
            }
            Err(Failure::usage(format!(
                "--container {called}: no process runs in a container with this name (LXC, \
                 systemd-nspawn), or whose id begins so ({} digits at least){}",
                Container::SHORTEST,
                hidden()
            )))
        };
        let find_comm = |comm: &str| {
            let comm = command_name(comm)?;
            if process::name_exists(&comm) {
                return Ok(comm);
            }
            Err(Failure::usage(format!(
                "--comm {comm}: no process has this command name; ps -eo comm lists them{}",
                hidden()
            )))
        };
        Ok(Selection {
            processes: self.pid.iter().map(find_pid).collect::<Result<_, _>>()?,
            comms: listed(&self.comm, find_comm)?,
            cgroups: listed(&self.cgroup, find_cgroup)?,
            containers: listed(&self.container, find_container)?,
            netns: listed(&self.netns, find_netns)?,
            ..self.plain()?
        })
    }

    /// The same of a recording, which knows the host of then. `namespaces`: network namespaces that
    /// had a name.
    pub fn recorded(&self, namespaces: &[(u32, String)]) -> Result<Selection, Failure> {
        let find_netns = |text: &str| {
            let named = namespaces.iter().find(|(_, name)| name == text).map(|(inode, _)| *inode);
            named.or_else(|| text.parse().ok()).ok_or_else(|| {
                Failure::usage(format!(
                    "--netns {text}: the recording knows no such network namespace; write a name \
                     that it had, or its inode number, which JSON has"
                ))
            })
        };
        let cgroups = self.cgroup.iter().flat_map(|path| recorded_cgroup(path)).collect();
        let mut comms = listed(&self.comm, |comm: &str| match comm.contains(',') {
            true => Err(Failure::usage(format!("--comm {comm:?}: several"))),
            false => command_name(comm),
        })?;
        // A name may hold a comma: either may be meant.
        let whole = |comm: &&String| comm.contains(',') && comm.len() <= COMM_LEN;
        comms.extend(self.comm.iter().filter(whole).cloned());
        Ok(Selection {
            processes: self.pid.iter().map(|pid| ProcessId { pid: *pid, start_ns: 0 }).collect(),
            cgroups,
            containers: listed(&self.container, |called: &str| Ok(called.to_owned()))?,
            netns: listed(&self.netns, find_netns)?,
            comms,
            ..self.plain()?
        })
    }

    /// What needs no looking up.
    fn plain(&self) -> Result<Selection, Failure> {
        if self.family == Some(5) {
            return Err(Failure::usage("--family 5: there are 4 and 6"));
        }
        Ok(Selection {
            children: self.children,
            local: self.local.clone(),
            remote: self.remote.clone(),
            lport: self.lport.clone(),
            rport: self.rport.clone(),
            family: self.family,
            verdicts: self.verdict.clone(),
            only_news: self.states().is_all() && self.verdict.is_empty(),
            ..Selection::default()
        })
    }
}

/// Where cgroups are mounted: paths below may be written with it.
const CGROUP_MOUNTS: [&str; 3] =
    ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup"];

/// A cgroup of a recorded host: of hierarchy v2, or of systemd's where that is v1.
fn recorded_cgroup(text: &str) -> Vec<CgroupPattern> {
    let below = CGROUP_MOUNTS.iter().find_map(|mount| text.strip_prefix(mount)).unwrap_or(text);
    let path = format!("/{}", below.trim_matches('/'));
    let of =
        |hierarchy: &str| CgroupPattern { hierarchy: hierarchy.to_owned(), path: path.clone() };
    vec![of(""), of("name=systemd")]
}

/// Looks up what was named: each value as a whole, since names may hold commas, or else its parts.
fn listed<T>(
    values: &[String],
    find: impl Fn(&str) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    for value in values {
        match find(value) {
            Ok(one) => found.push(one),
            Err(_) if value.contains(',') => {
                found.extend(value.split(',').map(&find).collect::<Result<Vec<_>, _>>()?);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

/// A command name as the kernel may have it.
fn command_name(comm: &str) -> Result<String, Failure> {
    if comm.is_empty() || comm.len() > COMM_LEN {
        return Err(Failure::usage(format!(
            "--comm {comm:?}: command names have 1 to {COMM_LEN} bytes; ps -o comm shows them"
        )));
    }
    Ok(comm.to_owned())
}

/// The inode number of a network namespace.
pub fn find_netns(text: &str) -> Result<u32, Failure> {
    let path = if let Some(pid) = text.strip_prefix("pid:") {
        let pid: u32 = pid
            .parse()
            .map_err(|_| Failure::usage(format!("--netns {text}: write pid:N with a number")))?;
        PathBuf::from(format!("/proc/{pid}/ns/net"))
    } else if text.contains('/') {
        PathBuf::from(text)
    } else {
        PathBuf::from(NAMED).join(text)
    };
    match Netns::of(&path) {
        Ok(netns) => Ok(netns.inode),
        Err(e) => {
            let hint =
                if text.contains([':', '/']) { "" } else { "; ip netns list shows the names" };
            Err(Failure::usage(format!("--netns {text}: {}: {e}{hint}", path.display())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_names_with_commas() {
        let known = ["a", "b", "c,d"];
        let find = |name: &str| {
            let found = known.iter().find(|known| **known == name);
            found.ok_or_else(|| Failure::usage(format!("no {name}")))
        };
        let list = |values: &[&str]| {
            let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
            listed(&values, find).map_err(|failure| failure.message)
        };
        assert_eq!(list(&["a,b"]), Ok(vec![&"a", &"b"]));
        assert_eq!(list(&["c,d", "a"]), Ok(vec![&"c,d", &"a"]));
        assert_eq!(list(&["a,c"]), Err("no c".to_owned()));
        assert_eq!(list(&["e"]), Err("no e".to_owned()));
        assert!(command_name("a name too long").is_ok() && command_name("").is_err());
        assert!(command_name("a name too long.").is_err());
    }
}
