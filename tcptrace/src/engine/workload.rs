//! What runs a process, as people deploy it: a container, a systemd unit, else a command. Pids and
//! addresses come and go; this has as many values as there are things that somebody installed.

use std::rc::Rc;

use super::record::{Holder, Record};
use crate::formats::{cgroup::Cgroups, container::Runtime};

/// The name where no process is known.
pub const UNKNOWN: &str = "unknown";
/// The name of those that are not told apart.
pub const OTHER: &str = "other";
/// As many digits of a container's id as runtimes print.
const DIGITS: usize = 12;
/// A longer name is cut, characters.
const LONGEST: usize = 128;

/// What kind of thing a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// A container.
    Container,
    /// A systemd unit.
    Unit,
    /// Neither: a command.
    Command,
    /// No process is known.
    Unknown,
}

impl WorkloadKind {
    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Unit => "unit",
            Self::Command => "command",
            Self::Unknown => UNKNOWN,
        }
    }
}

/// A workload. Its name may hold anything, is no longer than 128 characters, and is none of those
/// that are reserved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Which kind.
    pub kind: WorkloadKind,
    /// The first 12 digits of a container's id, or its name where it has one; the unit; the
    /// command.
    pub name: Rc<str>,
    /// Uid of the Kubernetes pod that it belongs to.
    pub pod: Option<Rc<str>>,
    /// Who made the container, where that is known.
    pub runtime: Option<&'static str>,
}

impl Workload {
    /// Nobody's.
    #[must_use]
    pub fn unknown() -> Self {
        Self::named(WorkloadKind::Unknown, UNKNOWN)
    }

    /// Of a process.
    #[must_use]
    pub fn of(holder: &Holder) -> Self {
        let cgroups = holder.cgroups.as_deref();
        if let Some(container) = cgroups.and_then(Cgroups::container) {
            let named = matches!(container.runtime, Some(Runtime::Lxc | Runtime::Nspawn));
            let digits = container.id.char_indices().nth(DIGITS).map(|(at, _)| at);
            let name = match digits {
                Some(at) if !named => &container.id[..at],
                _ => &container.id,
            };
            return Self {
                pod: container.pod.clone(),
                runtime: container.runtime.map(Runtime::name),
                ..Self::named(WorkloadKind::Container, name)
            };
        }
        match cgroups.and_then(Cgroups::path).and_then(unit) {
            Some(unit) => Self::named(WorkloadKind::Unit, unit),
            None => Self::named(WorkloadKind::Command, holder.called()),
        }
    }

    /// Of who holds a socket, or has the listener that it waits at.
    #[must_use]
    pub fn of_record(record: &Record) -> Self {
        let waits_at = || record.listener.as_ref().and_then(|l| l.holders.first());
        record.holders.first().or_else(waits_at).map_or_else(Self::unknown, Self::of)
    }

    fn named(kind: WorkloadKind, name: &str) -> Self {
        let cut: String = name.chars().take(LONGEST).collect();
        let reserved =
            matches!(cut.as_str(), UNKNOWN | OTHER | "") && kind != WorkloadKind::Unknown;
        let name = if reserved { format!("{cut} ({})", kind.name()) } else { cut };
        Self { kind, name: name.into(), pod: None, runtime: None }
    }
}

/// The unit of a cgroup path: the innermost that is a service or a scope (systemd.unit(5)). A
/// login's scope has whatever its user starts, so it is none.
fn unit(path: &str) -> Option<&str> {
    let is_unit = |part: &&str| {
        part.ends_with(".service") || part.ends_with(".scope") && !part.starts_with("session-")
    };
    // A user's manager is no unit of what runs under it.
    path.rsplit('/').find(is_unit).filter(|unit| !unit.starts_with("user@"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::record::tests as records;

    fn holder(comm: &str, cgroups: Option<&str>) -> Holder {
        let cgroups = cgroups.map(|text| Rc::new(Cgroups::parse(text)));
        Holder { comm: comm.into(), cgroups, ..records::holder(7, 4) }
    }

    #[test]
    fn a_container_before_a_unit_before_a_command() {
        let id = "4f3c2b1a0987".to_owned() + &"ab".repeat(26);
        let docker = format!("0::/system.slice/docker-{id}.scope\n");
        let cases = [
            ("java", Some(docker.as_str()), WorkloadKind::Container, "4f3c2b1a0987"),
            (
                "nginx",
                Some("0::/system.slice/nginx.service\n"),
                WorkloadKind::Unit,
                "nginx.service",
            ),
            (
                "sh",
                Some("0::/user.slice/user-0.slice/session-3.scope\n"),
                WorkloadKind::Command,
                "sh",
            ),
            (
                "x",
                Some("0::/user.slice/user@1000.service/app.slice/app-x.scope\n"),
                WorkloadKind::Unit,
                "app-x.scope",
            ),
            ("sh", Some("0::/user.slice/user@1000.service/init\n"), WorkloadKind::Command, "sh"),
            ("java", None, WorkloadKind::Command, "java"),
            ("other", None, WorkloadKind::Command, "other (command)"),
            ("", None, WorkloadKind::Command, " (command)"),
        ];
        for (comm, cgroups, kind, name) in cases {
            let workload = Workload::of(&holder(comm, cgroups));
            assert_eq!((workload.kind, &*workload.name), (kind, name), "{comm} {cgroups:?}");
        }
        assert_eq!(Workload::of(&holder(&"é".repeat(400), None)).name.chars().count(), LONGEST);
    }
}
