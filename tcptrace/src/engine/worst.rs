//! The process with most leaks: since when, and how fast it gains more.

use std::{collections::HashMap, rc::Rc};

use super::{
    forecast::{Between, NoForecast, Samples},
    processes::Processes,
    record::{Age, BootNs, Holder, ProcessId, Record},
    verdict::Verdict,
};

/// A pace is as of this time at the most, ns.
const WINDOW_NS: u64 = 300_000_000_000;

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
    /// How many it gained in [`Self::window_ns`].
    pub gained: u64,
    /// How long was looked at, ns.
    pub window_ns: u64,
    /// How many it gains in a minute, or why that can't be told.
    pub per_minute: Result<u64, NoForecast>,
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
    /// As of the last moment of which all is known.
    ages_ns: Vec<u64>,
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
            if record.latest_ns <= until {
                of.recent += u64::from(record.latest_ns > from);
                of.ages_ns.push(until - record.latest_ns);
            }
            *of.verdicts.entry(record.verdict).or_default() += 1;
            if of.oldest.is_none_or(|(oldest, _)| record.latest_ns < oldest.latest_ns) {
                of.oldest = Some((record, holder));
            }
        }
    }
    let (id, leaks) = leaks.into_iter().max_by_key(|(id, leaks)| (leaks.count, id.pid))?;
    let (record, holder) = leaks.oldest?;
    let most = leaks.verdicts.into_iter().max_by_key(|(verdict, n)| (*n, *verdict));
    let per_minute = match leaks.ages_ns.len() {
        0 => Err(NoForecast::NotGrowing),
        _ => Samples::of_ages(&leaks.ages_ns, until, window_ns).pace().map(|pace| {
            // From a float, too large is the largest.
            (pace.per_hour.est / 60.0).ceil() as u64
        }),
    };
    let limit = processes.get(id).and_then(|process| process.descriptor_limit);
    Some(Box::new(Worst {
        holder: holder.clone(),
        leaks: leaks.count,
        oldest: record.age(now),
        since_ns: record.latest_ns,
        verdict: most.and_then(|(verdict, _)| verdict),
        gained: leaks.recent,
        window_ns,
        per_minute,
        limit,
        full_in_ns: None,
    }))
}
