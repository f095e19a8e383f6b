//! The process with most leaks: since when, and how fast it gains more.

use std::{collections::HashMap, rc::Rc};

use super::{
    forecast::Between,
    processes::Processes,
    record::{Age, BootNs, Holder, ProcessId, Record},
    verdict::Verdict,
};

/// A pace is as of this time at the most, ns.
const WINDOW_NS: u64 = 300_000_000_000;
/// A shorter time shows no pace, ns.
const SHORTEST_NS: u64 = 1_000_000_000;
const MINUTE_NS: u64 = 60_000_000_000;

/// The process with most leaks open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worst {
    /// The process; the descriptor is that of its oldest leak.
    pub holder: Holder,
    /// Its leaks.
    pub leaks: u64,
    /// The age of the oldest.
    pub oldest: Age,
    /// When that began at the latest, ns of the boot clock.
    pub since_ns: BootNs,
    /// What most of them are.
    pub verdict: Option<Verdict>,
    /// How many it gains in a minute; `None`: nobody watched for long enough.
    pub per_minute: Option<u64>,
    /// Descriptors it may have.
    pub limit: Option<u64>,
    /// When it has none left, ns from then, as [`super::forecast`] tells it.
    pub full_in_ns: Option<Between<u64>>,
}

/// A process's leaks.
#[derive(Default)]
struct Leaks<'a> {
    count: u64,
    recent: u64,
    oldest: Option<(&'a Rc<Record>, &'a Holder)>,
    verdicts: HashMap<Option<Verdict>, u64>,
}

/// Who holds most of the leaks among `rows` at `now`. The watch began at `since`, and reports
/// what is older than `min_age_ns`.
pub fn worst<'a>(
    rows: impl Iterator<Item = &'a Rc<Record>>,
    now: BootNs,
    since: BootNs,
    min_age_ns: u64,
    processes: &Processes,
) -> Option<Box<Worst>> {
    // What is younger than that is not known yet.
    let until = now.saturating_sub(min_age_ns);
    let from = since.max(now.saturating_sub(WINDOW_NS));
    let window_ns = until.saturating_sub(from);
    let mut leaks: HashMap<ProcessId, Leaks<'_>> = HashMap::new();
    for record in rows.filter(|record| record.is_leak()) {
        for holder in record.processes() {
            let of = leaks.entry(holder.process).or_default();
            of.count += 1;
            let recent = u64::from(record.latest_ns > from && record.latest_ns <= until);
            of.recent += recent;
            *of.verdicts.entry(record.verdict).or_default() += 1;
            if of.oldest.is_none_or(|(oldest, _)| record.latest_ns < oldest.latest_ns) {
                of.oldest = Some((record, holder));
            }
        }
    }
    let (id, leaks) = leaks.into_iter().max_by_key(|(id, leaks)| (leaks.count, id.pid))?;
    let (record, holder) = leaks.oldest?;
    let most = leaks.verdicts.into_iter().max_by_key(|(verdict, n)| (*n, *verdict));
    let a_minute = |recent: u64| {
        (window_ns >= SHORTEST_NS)
            .then(|| (u128::from(recent) * u128::from(MINUTE_NS)).div_ceil(window_ns.into()))
            .and_then(|n| u64::try_from(n).ok())
    };
    let per_minute = a_minute(leaks.recent);
    let limit = processes.get(id).and_then(|process| process.descriptor_limit);
    Some(Box::new(Worst {
        holder: holder.clone(),
        leaks: leaks.count,
        oldest: record.age(now),
        since_ns: record.latest_ns,
        verdict: most.and_then(|(verdict, _)| verdict),
        per_minute,
        limit,
        full_in_ns: None,
    }))
}
