//! What happened while one watched, gathered for a report: socket by socket who held it when, and
//! how it ended; process by process how fast it gained leaks; counts over time. Bounded, however
//! long the watch and however many the sockets: what is not told apart is counted.

pub mod about;
pub mod compare;
pub mod counting;
pub mod process;
pub mod series;
pub mod socket;

use std::{collections::HashMap, net::IpAddr, rc::Rc};

use tcptrace_common::state::TcpState;

use self::{
    about::{LocalEnd, Mode, Provenance, Span, Totals, Uncounted},
    counting::{Ages, Counting},
    process::{LookedUp, ProcessStories, ProcessStory},
    series::{Moment, Series},
    socket::{Ended, SocketStory},
};
use super::{
    group::Overview,
    record::{Age, BootNs, ClosedBy, Record},
    select::Selection,
    tally::Tally,
    time_wait::TimeWaits,
    unknown::Reason,
    update::{Lost, Summary, Update},
    watch::{Plan, Said, Watch},
};

/// Samples are so far apart for each socket that is open, ns: whatever their number, taking them
/// in takes a small share of a CPU.
const EACH_NS: u64 = 20_000;

/// All of it.
#[derive(Clone, Debug)]
pub struct Incident {
    /// Where and how it was made.
    pub made: Provenance,
    /// What was looked at.
    pub mode: Mode,
    began_ns: Option<BootNs>,
    until_ns: BootNs,
    sockets: Vec<SocketStory>,
    /// Those that have not ended, by cookie; `None`: not told apart.
    open: HashMap<u64, Option<usize>>,
    left_out: u64,
    processes: ProcessStories,
    series: Series,
    stuck: u64,
    resolved: u64,
    taken_back: u64,
    resolved_leaks: u64,
    resolved_verdicts: [u64; counting::VERDICTS],
    resolved_new: [u64; counting::VERDICTS],
    resolved_ages: Ages,
    /// What is open, as of the last sample.
    now: Counting,
    remotes: Tally<IpAddr>,
    ends: Tally<LocalEnd>,
    lost: Lost,
    summary: Option<Box<Summary>>,
    overview: Option<Box<Overview>>,
}

impl Incident {
    /// Sockets that are told one by one; more are counted.
    pub const SOCKETS: usize = 50_000;

    /// Of a watch.
    #[must_use]
    pub fn of_watch(made: Provenance, plan: &Plan) -> Self {
        let counted = is_counted(&plan.selection);
        let (min_age_ns, states) = (plan.min_age_ns, plan.states);
        Self::new(made, Mode::Watch { min_age_ns, states, counted })
    }

    /// Of one scan.
    #[must_use]
    pub fn of_snapshot(made: Provenance) -> Self {
        Self::new(made, Mode::Snapshot)
    }

    fn new(made: Provenance, mode: Mode) -> Self {
        Self {
            made,
            mode,
            began_ns: None,
            until_ns: 0,
            sockets: Vec::new(),
            open: HashMap::new(),
            left_out: 0,
            processes: ProcessStories::default(),
            series: Series::default(),
            stuck: 0,
            resolved: 0,
            taken_back: 0,
            resolved_leaks: 0,
            resolved_verdicts: [0; counting::VERDICTS],
            resolved_new: [0; counting::VERDICTS],
            resolved_ages: Ages::default(),
            now: Counting::default(),
            remotes: Tally::default(),
            ends: Tally::default(),
            lost: Lost::default(),
            summary: None,
            overview: None,
        }
    }

    /// The watch began at `now`: before the first sample.
    pub fn begin(&mut self, now: BootNs) {
        self.began_ns = Some(self.began_ns.map_or(now, |began| began.min(now)));
        self.until_ns = self.until_ns.max(now);
    }

    /// Takes in what was said.
    pub fn take(&mut self, said: &Said) {
        self.begin(said.time);
        match &said.update {
            Update::Stuck(record) => self.see(record),
            Update::Resolved { record, stayed, closed_by, unknown } => {
                self.see(record);
                self.end(record, said.time, *stayed, closed_by.as_ref(), *unknown);
            }
            Update::Socket(record) => {
                self.see(record);
                self.now.add(record, said.time);
            }
            Update::Overview(overview) => self.overview = Some(overview.clone()),
            Update::Lost(lost) => self.lost = *lost,
            Update::Summary(summary) => {
                self.lost = summary.lost;
                self.summary = Some(summary.clone());
            }
            _ => {}
        }
    }

    /// Takes in what the watch knows at `now`, if the last sample is long enough ago.
    pub fn sample(&mut self, now: BootNs, watch: &Watch) {
        if self.series.is_due(now, watch.rows().len() as u64 * EACH_NS) {
            self.sample_now(now, watch);
        }
    }

    /// Takes in what the watch knows at `now`: the last time when it ends.
    pub fn sample_now(&mut self, now: BootNs, watch: &Watch) {
        self.begin(now);
        let mut counting = Counting::default();
        for record in watch.rows() {
            self.see(record);
            counting.add(record, now);
        }
        self.now = counting;
        self.lost = watch.losses();
        LookedUp::by(watch, |looked_up| self.close_sample(now, looked_up));
    }

    /// All that the snapshot at `now` has was said.
    pub fn finish_snapshot(&mut self, now: BootNs, looked_up: &LookedUp<'_>) {
        self.begin(now);
        self.close_sample(now, looked_up);
    }

    fn close_sample(&mut self, now: BootNs, looked_up: &LookedUp<'_>) {
        let processes = self.processes.sample(&self.now, now, looked_up);
        self.series.push(Moment {
            at_ns: now,
            by_state: self.now.by_state,
            by_verdict: self.now.by_verdict,
            leaks: self.now.leaks,
            stuck: self.stuck,
            resolved: self.resolved,
            processes,
        });
    }

    /// A socket as it is now, which was said or is new.
    fn see(&mut self, record: &Rc<Record>) {
        let cookie = record.connection.cookie;
        let known = self.open.get(&cookie).copied().filter(|_| cookie != 0);
        match known {
            Some(Some(at)) => self.sockets[at].see(record, &mut self.processes),
            Some(None) => {}
            None => self.meet(record),
        }
    }

    fn meet(&mut self, record: &Rc<Record>) {
        self.stuck += 1;
        self.remotes.add(record.connection.remote.ip());
        self.ends.add(LocalEnd::of(record));
        if self.sockets.len() >= Self::SOCKETS {
            self.make_room();
        }
        let at = if self.sockets.len() < Self::SOCKETS {
            self.sockets.push(SocketStory::new(record, &mut self.processes));
            Some(self.sockets.len() - 1)
        } else {
            self.left_out += 1;
            None
        };
        self.open.insert(record.connection.cookie, at);
    }

    /// Of those that have ended, the half that stayed shortest is not told any more.
    fn make_room(&mut self) {
        let mut stays: Vec<u64> =
            self.sockets.iter().filter_map(|s| s.end.as_ref().map(|e| e.stayed.min_ns)).collect();
        // So that it is done seldom.
        if stays.len() < Self::SOCKETS / 64 {
            return;
        }
        let middle = stays.len() / 2;
        let (_, limit, _) = stays.select_nth_unstable(middle);
        let limit = *limit;
        let before = self.sockets.len();
        self.sockets.retain(|s| s.end.as_ref().is_none_or(|e| e.stayed.min_ns > limit));
        self.left_out += (before - self.sockets.len()) as u64;
        let open = self.sockets.iter().enumerate().filter(|(_, s)| s.end.is_none());
        let places: HashMap<u64, usize> =
            open.map(|(at, s)| (s.record.connection.cookie, at)).collect();
        for (cookie, at) in &mut self.open {
            *at = places.get(cookie).copied();
        }
    }

    fn end(
        &mut self,
        record: &Rc<Record>,
        at_ns: BootNs,
        stayed: Age,
        closed_by: Option<&ClosedBy>,
        why: Reason,
    ) {
        self.resolved += 1;
        self.taken_back += u64::from(why.takes_back());
        self.resolved_leaks += u64::from(record.is_leak());
        let slot = counting::slot(record.verdict);
        self.resolved_verdicts[slot] += u64::from(record.is_leak());
        self.resolved_new[slot] += u64::from(record.is_leak() && counting::is_new(record));
        self.resolved_ages.add(stayed.min_ns);
        self.processes.resolved(record);
        let place = self.open.remove(&record.connection.cookie).flatten();
        if let Some(story) = place.and_then(|at| self.sockets.get_mut(at)) {
            story.finish(Ended { at_ns, stayed, closed_by: closed_by.cloned(), why });
        }
    }

    /// When it began and when it ended, ns of the boot clock; `None`: nothing was taken in.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        self.began_ns.map(|from_ns| Span { from_ns, to_ns: self.until_ns.max(from_ns) })
    }

    /// The sockets that are told one by one, in the order in which they were seen first.
    #[must_use]
    pub fn sockets(&self) -> &[SocketStory] {
        &self.sockets
    }

    /// Sockets that are counted and not told one by one.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// The processes that held any, by the numbers that [`socket::Hold`] has.
    #[must_use]
    pub fn processes(&self) -> &[ProcessStory] {
        self.processes.all()
    }

    /// Counts over time.
    #[must_use]
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// What is open, as of the end.
    #[must_use]
    pub fn open(&self) -> &Counting {
        &self.now
    }

    /// The ages at which those ended that have.
    #[must_use]
    pub fn resolved_ages(&self) -> &Ages {
        &self.resolved_ages
    }

    /// Sockets by remote address, without the port.
    #[must_use]
    pub fn remotes(&self) -> &Tally<IpAddr> {
        &self.remotes
    }

    /// Sockets by their local end.
    #[must_use]
    pub fn ends(&self) -> &Tally<LocalEnd> {
        &self.ends
    }

    /// What could not be seen or shown.
    #[must_use]
    pub fn lost(&self) -> &Lost {
        &self.lost
    }

    /// The watch's last word.
    #[must_use]
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_deref()
    }

    /// TIME_WAIT at the end, where that was asked for and there is any.
    #[must_use]
    pub fn time_waits(&self) -> Option<&TimeWaits> {
        let watched = self.summary.as_ref().and_then(|s| s.time_waits.as_deref());
        let seen = || self.overview.as_ref().and_then(|o| o.time_waits.as_ref());
        watched.or_else(seen).filter(|all| all.count > 0)
    }

    /// What the snapshot saw in all.
    #[must_use]
    pub fn overview(&self) -> Option<&Overview> {
        self.overview.as_deref()
    }

    /// The counts.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            stuck: self.stuck,
            resolved: self.resolved,
            taken_back: self.taken_back,
            still_open: self.stuck - self.resolved,
            leaks: self.resolved_leaks + self.now.leaks,
            leaks_open: self.now.leaks,
        }
    }

    /// Leaks by verdict ([`counting::verdict`]), those that have ended too.
    #[must_use]
    pub fn leaks_by_verdict(&self) -> [u64; counting::VERDICTS] {
        std::array::from_fn(|n| self.resolved_verdicts[n] + self.now.leaks_by_verdict[n])
    }

    /// The same of those whose beginning was seen.
    #[must_use]
    pub fn new_by_verdict(&self) -> [u64; counting::VERDICTS] {
        std::array::from_fn(|n| self.resolved_new[n] + self.now.new_by_verdict[n])
    }

    /// How many connections were closed by their peers first, from the beginning to the end: they
    /// came into CLOSE_WAIT and left it, however soon, or are in it still.
    ///
    /// # Errors
    /// Why that is not known.
    pub fn connections(&self) -> Result<u64, Uncounted> {
        let Mode::Watch { states, counted, .. } = self.mode else {
            return Err(Uncounted::Snapshot);
        };
        if states & TcpState::CloseWait.bit() == 0 {
            return Err(Uncounted::OtherStates);
        }
        if !counted {
            return Err(Uncounted::Part);
        }
        let summary = self.summary.as_deref().ok_or(Uncounted::NoScan)?;
        let ended = summary.stays.iter().find(|s| s.state == TcpState::CloseWait);
        let all = ended.map_or(0, |s| s.count) + self.now.new_close_wait;
        if all == 0 && summary.seen == 0 { Err(Uncounted::NoScan) } else { Ok(all) }
    }
}

/// Whether the kernel's counts are of what is selected, and of nothing else: it knows one network
/// namespace, one port, one family.
fn is_counted(s: &Selection) -> bool {
    !s.asks_for_holders()
        && s.local.is_empty()
        && s.remote.is_empty()
        && s.verdicts.is_empty()
        && [s.lport.len(), s.rport.len(), s.netns.len()].iter().all(|n| *n <= 1)
}
