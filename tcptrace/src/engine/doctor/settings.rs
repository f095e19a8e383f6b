//! Settings that the internet advises to change: what they are now, what the running kernel would
//! have made them, and the numbers here that say whether changing them does anything.

use std::collections::BTreeMap;

use tcptrace_common::state::TcpState;

use super::{Examination, HostNumbers, NamespaceSeen, findings::Ailment};
use crate::formats::ports::LocalPorts;

/// A setting below `/proc/sys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "their names are the settings' names")]
pub enum Sysctl {
    TwRecycle,
    TwReuse,
    FinTimeout,
    MaxTwBuckets,
    Timestamps,
    LocalPortRange,
    LocalReservedPorts,
    Somaxconn,
    MaxSynBacklog,
    Syncookies,
    SynackRetries,
    AbortOnOverflow,
    SynRetries,
    Retries1,
    Retries2,
    KeepaliveTime,
    KeepaliveIntvl,
    KeepaliveProbes,
    MaxOrphans,
    TcpMem,
    TcpRmem,
    TcpWmem,
    ConntrackMax,
    FileMax,
    NrOpen,
}

impl Sysctl {
    /// All of them, those together that are about one thing.
    pub const ALL: [Self; 25] = [
        Self::TwRecycle,
        Self::TwReuse,
        Self::FinTimeout,
        Self::MaxTwBuckets,
        Self::Timestamps,
        Self::LocalPortRange,
        Self::LocalReservedPorts,
        Self::Somaxconn,
        Self::MaxSynBacklog,
        Self::Syncookies,
        Self::SynackRetries,
        Self::AbortOnOverflow,
        Self::SynRetries,
        Self::Retries1,
        Self::Retries2,
        Self::KeepaliveTime,
        Self::KeepaliveIntvl,
        Self::KeepaliveProbes,
        Self::MaxOrphans,
        Self::TcpMem,
        Self::TcpRmem,
        Self::TcpWmem,
        Self::ConntrackMax,
        Self::FileMax,
        Self::NrOpen,
    ];

    /// As sysctl(8) spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwRecycle => "net.ipv4.tcp_tw_recycle",
            Self::TwReuse => "net.ipv4.tcp_tw_reuse",
            Self::FinTimeout => "net.ipv4.tcp_fin_timeout",
            Self::MaxTwBuckets => "net.ipv4.tcp_max_tw_buckets",
            Self::Timestamps => "net.ipv4.tcp_timestamps",
            Self::LocalPortRange => "net.ipv4.ip_local_port_range",
            Self::LocalReservedPorts => "net.ipv4.ip_local_reserved_ports",
            Self::Somaxconn => "net.core.somaxconn",
            Self::MaxSynBacklog => "net.ipv4.tcp_max_syn_backlog",
            Self::Syncookies => "net.ipv4.tcp_syncookies",
            Self::SynackRetries => "net.ipv4.tcp_synack_retries",
            Self::AbortOnOverflow => "net.ipv4.tcp_abort_on_overflow",
            Self::SynRetries => "net.ipv4.tcp_syn_retries",
            Self::Retries1 => "net.ipv4.tcp_retries1",
            Self::Retries2 => "net.ipv4.tcp_retries2",
            Self::KeepaliveTime => "net.ipv4.tcp_keepalive_time",
            Self::KeepaliveIntvl => "net.ipv4.tcp_keepalive_intvl",
            Self::KeepaliveProbes => "net.ipv4.tcp_keepalive_probes",
            Self::MaxOrphans => "net.ipv4.tcp_max_orphans",
            Self::TcpMem => "net.ipv4.tcp_mem",
            Self::TcpRmem => "net.ipv4.tcp_rmem",
            Self::TcpWmem => "net.ipv4.tcp_wmem",
            Self::ConntrackMax => "net.netfilter.nf_conntrack_max",
            Self::FileMax => "fs.file-max",
            Self::NrOpen => "fs.nr_open",
        }
    }

    /// Whether there is one for the whole host, and not one in each network namespace.
    #[must_use]
    pub const fn is_hosts(self) -> bool {
        matches!(self, Self::MaxOrphans | Self::TcpMem | Self::FileMax | Self::NrOpen)
    }

    /// What this kernel makes of it where nobody changes it. `hashed`: the size of its table of
    /// connections, where that is known.
    #[must_use]
    pub fn default(self, kernel: Option<(u32, u32)>, hashed: Option<u64>) -> KernelDefault {
        let fixed = |text: &str| KernelDefault::Fixed(text.to_owned());
        // What changed with a version is not known where the version isn't.
        let since = |version: (u32, u32), new: &str, old: &str| match kernel {
            Some(kernel) if kernel >= version => fixed(new),
            Some(_) => fixed(old),
            None => KernelDefault::Unknown,
        };
        let computed = |of: fn(u64) -> u64| KernelDefault::Computed(hashed.map(of));
        match self {
            Self::TwRecycle | Self::AbortOnOverflow => fixed("0"),
            // tcp_sk_init (net/ipv4/tcp_ipv4.c) has these.
            Self::TwReuse => since((4, 19), "2", "0"),
            Self::FinTimeout => fixed("60"),
            Self::Timestamps | Self::Syncookies => fixed("1"),
            Self::SynackRetries => fixed("5"),
            Self::SynRetries => fixed("6"),
            Self::Retries1 => fixed("3"),
            Self::Retries2 => fixed("15"),
            Self::KeepaliveTime => fixed("7200"),
            Self::KeepaliveIntvl => fixed("75"),
            Self::KeepaliveProbes => fixed("9"),
            // inet_init_net (net/ipv4/af_inet.c).
            Self::LocalPortRange => since((4, 2), "32768 60999", "32768 61000"),
            Self::LocalReservedPorts => fixed(""),
            // SOMAXCONN (include/linux/socket.h).
            Self::Somaxconn => since((5, 4), "4096", "128"),
            // tcp_set_hashinfo (net/ipv4/tcp_ipv4.c), tcp_init (net/ipv4/tcp.c).
            Self::MaxTwBuckets | Self::MaxOrphans => computed(|entries| entries / 2),
            Self::MaxSynBacklog => match kernel {
                Some(kernel) if kernel >= (5, 5) => computed(|entries| (entries / 128).max(128)),
                Some(_) => computed(|entries| (entries / 256).max(128)),
                None => KernelDefault::Computed(None),
            },
            Self::TcpMem | Self::TcpRmem | Self::TcpWmem | Self::ConntrackMax | Self::FileMax => {
                KernelDefault::Computed(None)
            }
            // sysctl_nr_open (fs/file.c).
            Self::NrOpen => fixed("1048576"),
        }
    }
}

/// What the kernel makes of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelDefault {
    /// The same everywhere.
    Fixed(String),
    /// From the host's memory at boot, and what comes of it, where that can be told.
    Computed(Option<u64>),
    /// It depends on the kernel's version, which is not known.
    Unknown,
}

impl KernelDefault {
    /// The value, where it can be told.
    #[must_use]
    pub fn value(&self) -> Option<String> {
        match self {
            Self::Fixed(text) => Some(text.clone()),
            Self::Computed(number) => number.map(|n| n.to_string()),
            Self::Unknown => None,
        }
    }
}

/// Values by setting, their numbers separated by one space; or why they are not known.
#[derive(Clone, Debug, Default)]
pub struct SysctlValues {
    /// The values.
    pub values: BTreeMap<Sysctl, Result<String, &'static str>>,
    /// How many buckets the table of connections has (net.ipv4.tcp_ehash_entries).
    pub hashed: Option<u64>,
}

impl SysctlValues {
    /// One that is a single number.
    #[must_use]
    pub fn number(&self, sysctl: Sysctl) -> Option<u64> {
        self.nth(sysctl, 0)
    }

    /// One of its numbers.
    #[must_use]
    pub fn nth(&self, sysctl: Sysctl, n: usize) -> Option<u64> {
        self.text(sysctl)?.split(' ').nth(n)?.parse().ok()
    }

    /// The ports that connect() chooses from; `None`: the range is not known.
    #[must_use]
    pub fn local_ports(&self) -> Option<LocalPorts> {
        let reserved = self.text(Sysctl::LocalReservedPorts).unwrap_or_default();
        LocalPorts::parse(self.text(Sysctl::LocalPortRange)?, reserved)
    }

    fn text(&self, sysctl: Sysctl) -> Option<&str> {
        self.values.get(&sysctl)?.as_deref().ok()
    }
}

/// A setting, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingSeen {
    /// Which.
    pub sysctl: Sysctl,
    /// In which network namespace, where it has one of its own.
    pub netns: Option<u32>,
    /// Its value, or why it is not known; may hold anything.
    pub value: Result<String, &'static str>,
    /// What the kernel makes of it.
    pub default: KernelDefault,
    /// Whether somebody changed it, where that can be told.
    pub changed: Option<bool>,
    /// It has to do with a finding.
    pub matters: bool,
    /// What of it there is here.
    pub here: Here,
}

/// Numbers that say what a setting is good for here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// None.
    Nothing,
    /// So many sockets in TIME_WAIT.
    TimeWait(u64),
    /// So many sockets in FIN_WAIT2.
    FinWait2(u64),
    /// So many in use, of a limit.
    Used(u64, u64),
    /// Connections that have keepalive on, and established ones.
    Keepalive(u64, u64),
    /// Listeners whose limit is this very value, and all.
    AtLimit(u64, u64),
    /// SYN cookies are on, so that the accept queue's limit is the one that counts.
    CookiesOn,
    /// A connection whose data nobody acknowledges is given up after so many ms.
    GivenUpAfter(u64),
    /// Ports that there are, and how many the fullest destination uses.
    Ports(u64, u64),
    /// Without timestamps tcp_tw_reuse does nothing.
    NoTimestamps,
}

/// All settings of an examination, judged; those are marked that have to do with a finding.
#[must_use]
pub fn judge<'a>(
    seen: &Examination,
    findings: impl Iterator<Item = (&'a Ailment, Option<u32>)>,
) -> Vec<SettingSeen> {
    let mut matter: Vec<(Sysctl, Option<u32>)> = Vec::new();
    for (ailment, netns) in findings {
        matter.extend(concerned(ailment).iter().map(|sysctl| (*sysctl, netns)));
    }
    let mut judged = Vec::new();
    for netns in &seen.namespaces {
        for sysctl in Sysctl::ALL.into_iter().filter(|s| !s.is_hosts()) {
            let here = in_namespace(sysctl, netns);
            let mut setting = one(sysctl, &netns.settings, seen.host.kernel, here);
            setting.netns = Some(netns.inode);
            setting.matters = matter.contains(&(sysctl, Some(netns.inode)));
            judged.push(setting);
        }
    }
    for sysctl in Sysctl::ALL.into_iter().filter(|s| s.is_hosts()) {
        let here = on_host(sysctl, &seen.host);
        let mut setting = one(sysctl, &seen.host.settings, seen.host.kernel, here);
        setting.matters = matter.iter().any(|(other, _)| *other == sysctl);
        judged.push(setting);
    }
    judged
}

fn one(
    sysctl: Sysctl,
    settings: &SysctlValues,
    kernel: Option<(u32, u32)>,
    here: Here,
) -> SettingSeen {
    let value = settings.values.get(&sysctl).cloned().unwrap_or(Err(super::NOT_READ));
    let default = sysctl.default(kernel, settings.hashed);
    let changed = value.as_ref().ok().zip(default.value()).map(|(now, made)| *now != made);
    SettingSeen { sysctl, netns: None, value, default, changed, matters: false, here }
}

/// Settings that a finding leads to, be it that they help or that people think so.
fn concerned(ailment: &Ailment) -> &'static [Sysctl] {
    match ailment {
        Ailment::Leaks(_) => &[Sysctl::KeepaliveTime],
        Ailment::Descriptors(_) => &[Sysctl::NrOpen],
        Ailment::FileTable => &[Sysctl::FileMax],
        Ailment::Ports(_) => &[
            Sysctl::LocalPortRange,
            Sysctl::LocalReservedPorts,
            Sysctl::TwReuse,
            Sysctl::Timestamps,
            Sysctl::FinTimeout,
        ],
        Ailment::TimeWait { .. } => &[Sysctl::MaxTwBuckets],
        Ailment::AcceptQueue(_) => &[Sysctl::Somaxconn, Sysctl::AbortOnOverflow],
        Ailment::SynQueue(_) => {
            &[Sysctl::Syncookies, Sysctl::MaxSynBacklog, Sysctl::Somaxconn, Sysctl::SynackRetries]
        }
        Ailment::Orphans | Ailment::AbortedForMemory => &[Sysctl::MaxOrphans, Sysctl::TcpMem],
        Ailment::Memory { .. } => &[Sysctl::TcpMem, Sysctl::TcpRmem, Sysctl::TcpWmem],
        Ailment::Conntrack { .. } => &[Sysctl::ConntrackMax],
        Ailment::Loss { .. } => &[Sysctl::Retries2],
        Ailment::Recycle => &[Sysctl::TwRecycle],
    }
}

fn in_namespace(sysctl: Sysctl, seen: &NamespaceSeen) -> Here {
    let value = seen.settings.number(sysctl);
    match sysctl {
        Sysctl::TwReuse if seen.settings.number(Sysctl::Timestamps) == Some(0) => {
            Here::NoTimestamps
        }
        Sysctl::TwReuse | Sysctl::TwRecycle => Here::TimeWait(seen.count(TcpState::TimeWait)),
        Sysctl::FinTimeout => Here::FinWait2(seen.count(TcpState::FinWait2)),
        Sysctl::MaxTwBuckets => used(seen.time_wait.ok(), value),
        Sysctl::KeepaliveTime => Here::Keepalive(seen.keepalive, seen.count(TcpState::Established)),
        Sysctl::Somaxconn => {
            let at = seen.listeners.iter().filter(|l| Some(u64::from(l.limit)) == value);
            Here::AtLimit(at.count() as u64, seen.listeners.len() as u64)
        }
        Sysctl::MaxSynBacklog if seen.settings.number(Sysctl::Syncookies) != Some(0) => {
            Here::CookiesOn
        }
        Sysctl::Retries2 => value.map_or(Here::Nothing, |n| Here::GivenUpAfter(given_up_ms(n))),
        Sysctl::LocalPortRange => {
            let low = value.and_then(|n| u16::try_from(n).ok());
            let high = seen.settings.nth(sysctl, 1).and_then(|n| u16::try_from(n).ok());
            let most = seen.destinations.first().map_or(0, |d| d.open + d.time_wait);
            low.zip(high).map_or(Here::Nothing, |(low, high)| {
                Here::Ports(u64::from(high.saturating_sub(low)) + 1, most)
            })
        }
        Sysctl::ConntrackMax => {
            seen.conntrack.map_or(Here::Nothing, |tracked| Here::Used(tracked.count, tracked.max))
        }
        _ => Here::Nothing,
    }
}

fn on_host(sysctl: Sysctl, host: &HostNumbers) -> Here {
    match sysctl {
        Sysctl::MaxOrphans => used(host.orphans.ok(), host.settings.number(sysctl)),
        Sysctl::TcpMem => used(host.memory_pages.ok(), host.settings.nth(sysctl, 2)),
        Sysctl::FileMax => used(host.files.ok(), host.settings.number(sysctl)),
        _ => Here::Nothing,
    }
}

fn used(count: Option<u64>, limit: Option<u64>) -> Here {
    count.zip(limit).map_or(Here::Nothing, |(count, limit)| Here::Used(count, limit))
}

/// How long after the first transmission a connection is given up at the earliest whose data nobody
/// acknowledges, by net.ipv4.tcp_retries2 (`tcp_model_timeout`, net/ipv4/tcp_timer.c): the time out
/// doubles from 200 ms to 2 min.
#[must_use]
pub fn given_up_ms(retries: u64) -> u64 {
    const LEAST_MS: u64 = 200;
    const MOST_MS: u64 = 120_000;
    // 2^9 times 200 ms are less than 2 min, 2^10 times more.
    let doubled = retries.min(9);
    let linear = retries.saturating_sub(9).saturating_mul(MOST_MS);
    (((2 << doubled) - 1) * LEAST_MS).saturating_add(linear)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_setting_once() {
        let all: BTreeSet<Sysctl> = Sysctl::ALL.into_iter().collect();
        let names: BTreeSet<&str> = Sysctl::ALL.map(Sysctl::name).into_iter().collect();
        assert_eq!((all.len(), names.len()), (Sysctl::ALL.len(), Sysctl::ALL.len()));
    }

    #[test]
    fn defaults_of_kernels() {
        let of = |sysctl: Sysctl, kernel| sysctl.default(Some(kernel), Some(262_144)).value();
        assert_eq!(of(Sysctl::TwReuse, (4, 18)).as_deref(), Some("0"));
        assert_eq!(of(Sysctl::TwReuse, (4, 19)).as_deref(), Some("2"));
        assert_eq!(of(Sysctl::Somaxconn, (5, 3)).as_deref(), Some("128"));
        assert_eq!(of(Sysctl::Somaxconn, (6, 18)).as_deref(), Some("4096"));
        assert_eq!(of(Sysctl::MaxTwBuckets, (6, 18)).as_deref(), Some("131072"));
        assert_eq!(of(Sysctl::MaxSynBacklog, (6, 18)).as_deref(), Some("2048"));
        assert_eq!(of(Sysctl::MaxSynBacklog, (5, 4)).as_deref(), Some("1024"));
        assert_eq!(Sysctl::MaxOrphans.default(Some((6, 0)), None).value(), None);
        assert_eq!(Sysctl::Somaxconn.default(None, None), KernelDefault::Unknown);
    }

    /// Documentation/networking/ip-sysctl.rst names both.
    #[test]
    fn when_a_connection_is_given_up() {
        assert_eq!(given_up_ms(15), 924_600);
        assert!(given_up_ms(8) > 100_000 && given_up_ms(7) < 100_000, "RFC 1122's 100 s");
        assert_eq!(given_up_ms(0), 200);
        let _ = given_up_ms(u64::MAX);
    }
}
