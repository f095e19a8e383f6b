//! Which sockets a user asked for.

use crate::{
    engine::{
        parse::EndPattern,
        record::{Connection, Holder, ProcessId, Record},
        verdict::Verdict,
    },
    formats::cgroup::CgroupPattern,
};

/// The selection. Kinds of filters combine with "and", values of one kind with "or"; an empty list
/// selects everything.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Held by these, or waiting in the queue of a listener that one of these holds.
    pub processes: Vec<ProcessId>,
    /// Their descendants too.
    pub children: bool,
    /// Held by a process with this command name.
    pub comms: Vec<String>,
    /// Made in, or held by a process in, these cgroups or below.
    pub cgroups: Vec<CgroupPattern>,
    /// Held in the container that is called so
    /// ([`crate::formats::container::Container::is_called`]).
    pub containers: Vec<String>,
    /// In these network namespaces (inode numbers).
    pub netns: Vec<u32>,
    /// With this local end.
    pub local: Vec<EndPattern>,
    /// With this remote end.
    pub remote: Vec<EndPattern>,
    /// With this local port.
    pub lport: Vec<u16>,
    /// With this remote port.
    pub rport: Vec<u16>,
    /// Of this family, 4 or 6.
    pub family: Option<u8>,
    /// With this verdict.
    pub verdicts: Vec<Verdict>,
    /// Without a choice of verdicts: those that are no leak (half-closes in use) too.
    pub unleaked: bool,
    /// Only what there is something to say of ([`Record::is_news`]): nobody chose a state.
    pub only_news: bool,
}

/// Whether a process descends from one of the given pids: only the host knows.
pub type Descends<'a> = &'a dyn Fn(u32, &[ProcessId]) -> bool;

/// Whether one of a list matches; an empty one is no choice.
pub fn any<T>(list: &[T], matches: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(matches)
}

impl Selection {
    /// What the socket alone decides. `netns` and the rest are known from its first transition on.
    #[must_use]
    pub fn matches_connection(&self, c: &Connection) -> bool {
        any(&self.netns, |n| *n == c.netns)
            && any(&self.local, |p| p.matches(c.local))
            && any(&self.remote, |p| p.matches(c.remote))
            && any(&self.lport, |p| *p == c.local.port())
            && any(&self.rport, |p| *p == c.remote.port())
            && self.family.is_none_or(|f| f == c.family())
    }

    /// What [`Self::matches_connection`] goes by: the same text for the same choice.
    #[must_use]
    pub fn ends(&self) -> String {
        let Self { netns, local, remote, lport, rport, family, .. } = self;
        format!("{netns:?} {local:?} {remote:?} {lport:?} {rport:?} {family:?}")
    }

    /// Whether holders decide too.
    #[must_use]
    pub fn asks_for_holders(&self) -> bool {
        !(self.processes.is_empty()
            && self.comms.is_empty()
            && self.cgroups.is_empty()
            && self.containers.is_empty())
    }

    /// What the holders and the verdict decide.
    #[must_use]
    pub fn matches_record(&self, record: &Record, descends: Descends<'_>) -> bool {
        let verdict = if self.verdicts.is_empty() {
            // A half-close that is in use is no leak: only who asks for it sees it.
            (self.unleaked || record.is_shown()) && (!self.only_news || record.is_news())
        } else {
            record.verdict.iter().chain(&record.also).any(|v| self.verdicts.contains(v))
        };
        verdict && self.matches_holders(&record.holders, record.cgroup.as_deref(), descends)
    }

    /// What the holders and the socket's own v2 cgroup decide.
    #[must_use]
    pub fn matches_holders(
        &self,
        holders: &[Holder],
        own_cgroup: Option<&str>,
        descends: Descends<'_>,
    ) -> bool {
        (self.processes.is_empty() || holders.iter().any(|h| self.process(h, descends)))
            && any(&self.comms, |c| holders.iter().any(|h| *h.comm == **c))
            && any(&self.containers, |called| holders.iter().any(|h| in_container(h, called)))
            && any(&self.cgroups, |pattern| {
                let v2 = pattern.hierarchy.is_empty();
                (v2 && own_cgroup.is_some_and(|path| pattern.covers(path)))
                    || holders
                        .iter()
                        .any(|h| h.cgroups.as_ref().is_some_and(|c| c.matches(pattern)))
            })
    }

    fn process(&self, holder: &Holder, descends: Descends<'_>) -> bool {
        self.processes.iter().any(|p| p.is_same(holder.process))
            || self.children && descends(holder.process.pid, &self.processes)
    }

    /// The one port, where one is all that is asked for.
    #[must_use]
    pub fn only_lport(&self) -> Option<u16> {
        only(&self.lport)
    }

    /// See [`Self::only_lport`].
    #[must_use]
    pub fn only_rport(&self) -> Option<u16> {
        only(&self.rport)
    }

    /// See [`Self::only_lport`].
    #[must_use]
    pub fn only_netns(&self) -> Option<u32> {
        only(&self.netns)
    }
}

fn only<T: Copy>(list: &[T]) -> Option<T> {
    match list {
        [one] => Some(*one),
        _ => None,
    }
}

fn in_container(holder: &Holder, called: &str) -> bool {
    holder.cgroups.as_ref().and_then(|c| c.container()).is_some_and(|c| c.is_called(called))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::{
        engine::record::{
            Evidence,
            tests::{holder, leak},
        },
        formats::cgroup::Cgroups,
    };

    fn record() -> Record {
        Record {
            connection: Connection {
                cookie: 1,
                netns: 99,
                local: "10.0.0.1:8080".parse().expect("an end"),
                remote: "10.0.0.9:51514".parse().expect("an end"),
                mptcp: false,
            },
            role: None,
            seen_ns: 0,
            evidence: Evidence::default(),
            holders: vec![Holder {
                process: ProcessId { pid: 42, start_ns: 1_234_567_890 },
                ppid: 7,
                comm: "java".into(),
                cgroups: Some(Rc::new(Cgroups::parse("0::/app/x"))),
                ..holder(42, 5)
            }],
            ..leak()
        }
    }

    fn selects(change: impl FnOnce(&mut Selection)) -> bool {
        let mut selection = Selection::default();
        change(&mut selection);
        let descends =
            |pid: u32, roots: &[ProcessId]| pid == 42 && roots.iter().any(|r| r.pid == 7);
        selection.matches_connection(&record().connection)
            && selection.matches_record(&record(), &descends)
    }

    #[test]
    fn nothing_asked_selects_all() {
        assert!(selects(|_| {}));
    }

    #[test]
    fn each_kind_takes_and_refuses() {
        let p = |pid, start_ns| ProcessId { pid, start_ns };
        assert!(selects(|s| s.processes = vec![p(1, 0), p(42, 0)]), "or within a kind");
        assert!(selects(|s| s.processes = vec![p(42, 1_230_000_000)]));
        assert!(
            !selects(|s| s.processes = vec![p(42, 9_990_000_000)]),
            "another process with that pid"
        );
        assert!(!selects(|s| s.processes = vec![p(7, 0)]));
        assert!(selects(|s| (s.processes, s.children) = (vec![p(7, 0)], true)));
        assert!(selects(|s| s.comms = vec!["java".into()]));
        assert!(!selects(|s| s.comms = vec!["jav".into()]));
        let cgroup = |path: &str| CgroupPattern { hierarchy: String::new(), path: path.into() };
        assert!(selects(|s| s.cgroups = vec![cgroup("/app")]));
        assert!(!selects(|s| s.cgroups = vec![cgroup("/app/y")]));
        assert!(selects(|s| s.netns = vec![98, 99]));
        assert!(!selects(|s| s.netns = vec![98]));
        assert!(selects(|s| s.lport = vec![8080]));
        assert!(!selects(|s| s.rport = vec![8080]));
        assert!(!selects(|s| s.family = Some(6)));
        assert!(!selects(|s| (s.lport, s.family) = (vec![8080], Some(6))), "and between kinds");
        assert!(!selects(|s| s.verdicts = vec![Verdict::UnreadData]));
        assert!(!selects(|s| s.containers = vec!["4f".into()]));
    }

    #[test]
    fn what_is_at_work_is_nothing_to_who_asks_for_all_states() {
        use tcptrace_common::state::TcpState::{CloseWait, Established, FinWait2, Listen};
        let all = Selection { only_news: true, ..Selection::default() };
        let no = |_: u32, _: &[ProcessId]| false;
        for (state, verdict, is_shown) in [
            (Established, None, false),
            (Listen, None, false),
            (FinWait2, None, false),
            (CloseWait, None, true),
            (Established, Some(Verdict::PeerGone), true),
            (Listen, Some(Verdict::QueueFull), true),
        ] {
            let record = Record { state, verdict, ..record() };
            assert_eq!(all.matches_record(&record, &no), is_shown, "{state:?} {verdict:?}");
            assert!(Selection::default().matches_record(&record, &no), "{state:?} was asked for");
        }
    }

    #[test]
    fn a_half_close_in_use_is_shown_to_who_asks_for_it_only() {
        let mut record = record();
        record.verdict = Some(Verdict::HalfCloseInUse);
        let no = |_: u32, _: &[ProcessId]| false;
        assert!(!Selection::default().matches_record(&record, &no));
        let asked = Selection { verdicts: vec![Verdict::HalfCloseInUse], ..Selection::default() };
        assert!(asked.matches_record(&record, &no));
    }
}
