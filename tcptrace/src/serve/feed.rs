//! The latest events, for who listens, and for who comes back after a while.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    engine::{record::BootNs, update::Update},
    formats::pods::PodNames,
    serve::pods::{self, SharedPods},
    view::{Clock, View, json::Json},
};

/// Events that are kept.
const EVENTS: usize = 4_096;
/// And no more than so many bytes of them.
const BYTES: usize = 8 << 20;
/// Handed over at once, at most.
const AT_ONCE: usize = 64;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldEvent {
    /// Its number, from 1 on.
    pub number: u64,
    /// What its JSON says in `event`.
    pub kind: &'static str,
    /// A line of JSON.
    pub json: Arc<str>,
}

/// What there is for who has seen all up to some number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Events in between that are not kept any more.
    pub missed: u64,
    /// The next ones.
    pub events: Vec<ToldEvent>,
}

/// All of it; shared between the watch and who listens.
#[derive(Debug)]
pub struct EventFeed {
    kept: Mutex<Kept>,
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<ToldEvent>,
    bytes: usize,
    latest: u64,
}

impl Default for EventFeed {
    fn default() -> Self {
        Self { kept: Mutex::default(), latest: watch::Sender::new(0) }
    }
}

impl EventFeed {
    /// Adds one.
    pub fn push(&self, kind: &'static str, json: &str) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.latest += 1;
        let number = kept.latest;
        kept.bytes += json.len();
        kept.events.push_back(ToldEvent { number, kind, json: json.into() });
        while kept.events.len() > EVENTS || kept.bytes > BYTES {
            let Some(oldest) = kept.events.pop_front() else { break };
            kept.bytes -= oldest.json.len();
        }
        drop(kept);
        self.latest.send_replace(number);
    }

    /// What came after number `seen`.
    #[must_use]
    pub fn after(&self, seen: u64) -> News {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = kept.events.front().map_or(kept.latest + 1, |event| event.number);
        let from = usize::try_from(seen.saturating_add(1).saturating_sub(oldest));
        let from = from.unwrap_or(usize::MAX).min(kept.events.len());
        News {
            missed: (oldest - 1).saturating_sub(seen),
            events: kept.events.range(from..).take(AT_ONCE).cloned().collect(),
        }
    }

    /// The number of the latest, as it changes.
    #[must_use]
    pub fn latest(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }
}

/// Writes what a watch says into a feed.
pub struct FeedView {
    feed: Arc<EventFeed>,
    json: Json<Vec<u8>>,
    pods: SharedPods,
}

impl FeedView {
    /// One that tells times by this clock, and what pods are called.
    #[must_use]
    pub fn new(feed: Arc<EventFeed>, clock: Clock, pods: SharedPods) -> Self {
        Self { feed, json: Json::new(Vec::new(), clock), pods }
    }

    /// What pods are called now.
    #[must_use]
    pub fn pods(&self) -> Arc<PodNames> {
        pods::names(&self.pods)
    }
}

impl View for FeedView {
    fn update(&mut self, time: BootNs, update: &Update) -> io::Result<()> {
        let kind = match update {
            Update::Stuck(_) => "stuck",
            Update::Resolved { .. } => "resolved",
            Update::Forecast(_) => "forecast",
            Update::TimeWaits(_) => "time_wait",
            Update::Lost(_) => "lost",
            _ => return Ok(()),
        };
        self.json.update(time, update)?;
        let mut line = self.json.take();
        line.truncate(line.trim_ascii_end().len());
        // Into the object.
        if line.pop_if(|last| *last == b'}').is_some() {
            let uids = pods::holders(update).iter().filter_map(pods::uid);
            pods::append(&mut line, uids, &self.pods());
            line.push(b'}');
        }
        self.feed.push(kind, &String::from_utf8_lossy(&line));
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn clock(&mut self) -> &mut Clock {
        self.json.clock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_has_what_is_kept_and_hears_how_much_is_not() {
        let feed = EventFeed::default();
        assert_eq!(feed.after(0), News::default());
        for n in 1..=EVENTS as u64 + 10 {
            feed.push("stuck", &n.to_string());
        }
        let news = feed.after(0);
        assert_eq!((news.missed, news.events.len()), (10, AT_ONCE));
        assert_eq!((news.events[0].number, &*news.events[0].json), (11, "11"));
        let latest = EVENTS as u64 + 10;
        let news = feed.after(latest - 1);
        assert_eq!((news.missed, news.events.len()), (0, 1));
        assert_eq!(feed.after(latest), News::default());
        assert_eq!(feed.after(u64::MAX), News::default(), "a number that nobody gave");
        assert_eq!(*feed.latest().borrow(), latest);
    }

    #[test]
    fn long_ones_take_no_more_room() {
        let feed = EventFeed::default();
        let long = "x".repeat(BYTES / 4);
        for _ in 0..9 {
            feed.push("stuck", &long);
        }
        let kept = feed.kept.lock().expect("unpoisoned");
        assert!(kept.bytes <= BYTES && kept.events.len() == 4, "{}", kept.events.len());
    }
}
