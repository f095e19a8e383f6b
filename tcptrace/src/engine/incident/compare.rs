//! Two incidents held against one another: before a change and after it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Incident,
    about::Uncounted,
    counting::{self, VERDICTS},
};
use crate::engine::verdict::Verdict;

/// What a comparison needs of an incident.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digest {
    /// How many connections the leaks are of ([`Incident::connections`]).
    pub connections: Option<u64>,
    /// Why that is not known.
    pub uncounted: Option<Uncounted>,
    /// How long it was watched, ns.
    pub length_ns: u64,
    /// Leaks whose beginning was seen: what was there before is of other connections.
    pub leaks: u64,
    /// Those by verdict.
    pub by_verdict: [u64; VERDICTS],
    /// Those by what people call the process that held them: its pid is another one after each
    /// restart. It may hold anything.
    pub by_process: BTreeMap<String, u64>,
}

impl Digest {
    /// Of an incident.
    #[must_use]
    pub fn of(incident: &Incident) -> Self {
        let mut by_process = BTreeMap::new();
        for story in incident.processes().iter().filter(|story| story.leaks_new > 0) {
            *by_process.entry(story.holder.called().to_owned()).or_default() += story.leaks_new;
        }
        let connections = incident.connections();
        Self {
            connections: connections.ok(),
            uncounted: connections.err(),
            length_ns: incident.span().map_or(0, |span| span.length_ns()),
            leaks: incident.new_by_verdict().iter().sum(),
            by_verdict: incident.new_by_verdict(),
            by_process,
        }
    }
}

/// What leaks are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// A thousand connections whose peer closed first.
    Connections,
    /// An hour.
    Hour,
}

/// What became of something from one incident to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trend {
    /// There was none, and now there are.
    New,
    /// There are more.
    Worse,
    /// As before, as far as chance lets one tell.
    Unchanged,
    /// There are fewer.
    Better,
    /// There were some, and there are none any more.
    Fixed,
    /// None any more, or none before: but so little was seen that chance may have done it.
    Unclear,
}

impl Trend {
    /// In a word.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Worse => "worse",
            Self::Unchanged => "unchanged",
            Self::Better => "better",
            Self::Fixed => "fixed",
            Self::Unclear => "unclear",
        }
    }
}

/// Something that both have a count of.
#[derive(Clone, Debug, PartialEq)]
pub struct Compared<K> {
    /// What it is a count of.
    pub key: K,
    /// The count before.
    pub before: u64,
    /// The count after.
    pub after: u64,
    /// The rate before, as [`Comparison::per`] says; `None`: nothing was watched.
    pub rate_before: Option<f64>,
    /// The rate after.
    pub rate_after: Option<f64>,
    /// What became of it.
    pub trend: Trend,
}

/// Two incidents compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// What rates are by.
    pub per: Per,
    /// Why connections were not counted, of the one where they were not.
    pub uncounted: Option<Uncounted>,
    /// All leaks.
    pub all: Compared<()>,
    /// By verdict, those that either has.
    pub by_verdict: Vec<Compared<Option<Verdict>>>,
    /// By process, those that either has, what is worse first.
    pub by_process: Vec<Compared<String>>,
}

/// Compares what was before with what was after.
#[must_use]
pub fn compare(before: &Digest, after: &Digest) -> Comparison {
    let both = before.connections.zip(after.connections);
    let (per, exposures) = match both {
        Some((b, a)) if b > 0 && a > 0 => (Per::Connections, [b as f64 / 1e3, a as f64 / 1e3]),
        _ => (Per::Hour, [before, after].map(|digest| digest.length_ns as f64 / 3.6e12)),
    };
    let mut by_verdict: Vec<_> = (0..VERDICTS)
        .filter(|n| before.by_verdict[*n] + after.by_verdict[*n] > 0)
        .map(|n| {
            let counts = [before.by_verdict[n], after.by_verdict[n]];
            compared(counting::verdict(n), counts, exposures)
        })
        .collect();
    by_verdict.sort_by_key(|c| c.trend);
    let names: BTreeSet<&String> =
        before.by_process.keys().chain(after.by_process.keys()).collect();
    let count = |digest: &Digest, name: &str| digest.by_process.get(name).copied().unwrap_or(0);
    let mut by_process: Vec<_> = names
        .into_iter()
        .map(|name| compared(name.clone(), [count(before, name), count(after, name)], exposures))
        .collect();
    by_process.sort_by_key(|c| (c.trend, std::cmp::Reverse(c.before.max(c.after))));
    let uncounted = match per {
        Per::Connections => None,
        Per::Hour => before.uncounted.or(after.uncounted),
    };
    let all = compared((), [before.leaks, after.leaks], exposures);
    Comparison { per, uncounted, all, by_verdict, by_process }
}

/// Where none is seen of what should have been so many, it is not by chance (once in twenty times).
const ENOUGH: f64 = 3.0;
/// So many standard deviations apart are not by chance (once in twenty times).
const DEVIATIONS: f64 = 2.0;

fn compared<K>(key: K, [before, after]: [u64; 2], [eb, ea]: [f64; 2]) -> Compared<K> {
    let rate = |count: u64, exposure: f64| (exposure > 0.0).then(|| count as f64 / exposure);
    let (rate_before, rate_after) = (rate(before, eb), rate(after, ea));
    let trend = match (rate_before, rate_after) {
        (Some(rb), Some(ra)) => trend([before, after], [rb, ra], [eb, ea]),
        _ => Trend::Unclear,
    };
    Compared { key, before, after, rate_before, rate_after, trend }
}

fn trend([before, after]: [u64; 2], [rb, ra]: [f64; 2], [eb, ea]: [f64; 2]) -> Trend {
    match (before, after) {
        (0, 0) => Trend::Unchanged,
        (_, 0) if rb * ea >= ENOUGH => Trend::Fixed,
        (0, _) if ra * eb >= ENOUGH => Trend::New,
        (_, 0) | (0, _) => Trend::Unclear,
        _ => {
            // Leaks that come one by one scatter by the root of their number.
            let scatter = (rb / eb + ra / ea).sqrt();
            if (ra - rb).abs() <= DEVIATIONS * scatter {
                Trend::Unchanged
            } else if ra > rb {
                Trend::Worse
            } else {
                Trend::Better
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(connections: Option<u64>, hours: u64, leaks: &[(Verdict, &str, u64)]) -> Digest {
        let mut digest = Digest {
            connections,
            uncounted: connections.is_none().then_some(Uncounted::Part),
            length_ns: hours * 3_600_000_000_000,
            ..Digest::default()
        };
        for (verdict, process, n) in leaks {
            digest.leaks += n;
            digest.by_verdict[counting::slot(Some(*verdict))] += n;
            *digest.by_process.entry((*process).to_owned()).or_default() += n;
        }
        digest
    }

    #[test]
    fn before_and_after_the_fix() {
        use Verdict::{EofNotClosed, UnreadData, UnreadFin};
        let before = digest(
            Some(10_000),
            1,
            &[(EofNotClosed, "shop", 500), (UnreadData, "pool", 100), (UnreadFin, "log", 1)],
        );
        let after = digest(
            Some(20_000),
            1,
            &[(UnreadData, "pool", 900), (UnreadFin, "log", 2), (EofNotClosed, "mail", 30)],
        );
        let compared = compare(&before, &after);
        assert_eq!((compared.per, compared.uncounted), (Per::Connections, None));
        let of = |name: &str| compared.by_process.iter().find(|c| c.key == name).expect("it is");
        assert_eq!((of("shop").rate_before, of("shop").rate_after), (Some(50.0), Some(0.0)));
        let trends = ["shop", "pool", "log", "mail"].map(|name| of(name).trend);
        assert_eq!(trends, [Trend::Fixed, Trend::Worse, Trend::Unchanged, Trend::New]);
        let first = compared.by_process.first().map(|c| &*c.key);
        assert_eq!(first, Some("mail"), "what is new or worse comes first");
        let eof = compared.by_verdict.iter().find(|c| c.key == Some(EofNotClosed));
        assert_eq!(eof.map(|c| c.trend), Some(Trend::Better));
        assert_eq!(compared.all.trend, Trend::Better, "46.6 a thousand, from 60.1");
    }

    #[test]
    fn little_that_was_seen_proves_nothing() {
        let one = digest(Some(1_000), 1, &[(Verdict::UnreadFin, "log", 2)]);
        let none = digest(Some(1_000), 1, &[]);
        assert_eq!(compare(&one, &none).all.trend, Trend::Unclear);
        assert_eq!(compare(&none, &one).all.trend, Trend::Unclear);
        let longer = digest(Some(2_000), 2, &[]);
        assert_eq!(compare(&one, &longer).all.trend, Trend::Fixed);
        assert_eq!(compare(&none, &none).all.trend, Trend::Unchanged);
    }

    #[test]
    fn without_connections_by_the_hour() {
        let part = digest(None, 2, &[(Verdict::UnreadFin, "log", 200)]);
        let whole = digest(Some(1_000), 1, &[(Verdict::UnreadFin, "log", 100)]);
        let compared = compare(&part, &whole);
        assert_eq!((compared.per, compared.uncounted), (Per::Hour, Some(Uncounted::Part)));
        assert_eq!(compared.all.rate_before, Some(100.0));
        assert_eq!(compared.all.trend, Trend::Unchanged);
        let nothing = digest(None, 0, &[]);
        let compared = compare(&nothing, &whole);
        assert_eq!((compared.all.rate_before, compared.all.trend), (None, Trend::Unclear));
    }

    proptest! {
        #[test]
        fn the_other_way_round(a in 0u64..5000, b in 0u64..5000, n in 1u64..9000, m in 1u64..9000) {
            let of = |n, leaks| digest(Some(n), 1, &[(Verdict::UnreadFin, "x", leaks)]);
            let forth = compare(&of(n, a), &of(m, b)).all.trend;
            let back = compare(&of(m, b), &of(n, a)).all.trend;
            let expected = match forth {
                Trend::New => Trend::Fixed,
                Trend::Worse => Trend::Better,
                Trend::Better => Trend::Worse,
                Trend::Fixed => Trend::New,
                same => same,
            };
            prop_assert_eq!(back, expected);
        }
    }
}
