//! What a report draws of an incident.

use tcptrace_common::state::TcpState;

use super::{
    IncidentReport,
    chart::{Bar, Chart, Curve, bars},
};
use crate::{
    engine::{
        incident::{
            about::{LocalEnd, Mode},
            counting::{self, Ages, STATES, VERDICTS},
            process::ProcessStory,
            series::Moment,
        },
        record::BootNs,
        verdict::Verdict,
    },
    prose::{
        report::{called, descriptors},
        time::human,
    },
};

/// Processes with a line of their own.
const PROCESSES: usize = 6;
/// Processes whose descriptors are drawn.
const FULL: usize = 3;
/// Rows of a list.
const ROWS: usize = 10;
/// Intervals in which what is new is counted.
const INTERVALS: u64 = 48;
/// Colours that there are.
pub const COLOURS: usize = 8;
/// Of what is not told apart.
const GREY: usize = COLOURS;

/// The colour of a state.
pub fn of_state(state: TcpState) -> usize {
    match state {
        TcpState::CloseWait => 1,
        TcpState::Close => 4,
        TcpState::Established => 0,
        TcpState::FinWait1 | TcpState::FinWait2 => 2,
        TcpState::LastAck | TcpState::Closing => 3,
        TcpState::SynSent | TcpState::SynRecv | TcpState::NewSynRecv => 5,
        TcpState::Listen => 6,
        TcpState::TimeWait | TcpState::BoundInactive => 7,
    }
}

/// The name of a verdict's place.
fn verdict_name(slot: usize) -> &'static str {
    counting::verdict(slot).map_or("unknown", Verdict::name)
}

/// All of them.
pub fn write(report: &IncidentReport<'_>, out: &mut String) {
    out.push_str("<div class=\"charts\">");
    let over_time =
        report.incident.mode != Mode::Snapshot && report.incident.series().moments().len() > 1;
    if over_time {
        report.states(out);
        report.verdicts(out);
        report.close_wait(out);
        report.new_and_resolved(out);
    } else {
        report.by_state_now(out);
        report.by_process_now(out);
    }
    report.ages(out);
    report.remotes(out);
    report.ends(out);
    if over_time {
        report.descriptors(out);
    }
    out.push_str("</div>");
}

impl IncidentReport<'_> {
    fn moments(&self) -> &[Moment] {
        self.incident.series().moments()
    }

    fn chart<'a>(
        &'a self,
        id: &'a str,
        title: &'a str,
        about: &str,
        times: &'a [BootNs],
        tick: &'a dyn Fn(BootNs) -> String,
    ) -> Chart<'a> {
        let span = self.span();
        Chart {
            id,
            title,
            about: about.to_owned(),
            times,
            range: [span.from_ns, span.to_ns],
            tick,
            curves: Vec::new(),
            stacked: false,
            limit: None,
            reaches: None,
        }
    }

    fn states(&self, out: &mut String) {
        let times: Vec<BootNs> = self.moments().iter().map(|m| m.at_ns).collect();
        let tick = |at| self.tick(at);
        let about = "Open sockets that were reported, by state.";
        let mut chart = self.chart("c-states", "States over time", about, &times, &tick);
        chart.stacked = true;
        let count = |n: usize| self.moments().iter().map(|m| Some(m.by_state[n])).collect();
        let states = TcpState::ALL.into_iter().filter(|s| (*s as usize) < STATES);
        let seen = states.filter(|s| self.moments().iter().any(|m| m.by_state[*s as usize] > 0));
        chart.curves = seen
            .map(|s| Curve {
                name: s.name().to_owned(),
                colour: of_state(s),
                values: count(s as usize),
            })
            .collect();
        chart.write(out);
    }

    fn verdicts(&self, out: &mut String) {
        let times: Vec<BootNs> = self.moments().iter().map(|m| m.at_ns).collect();
        let tick = |at| self.tick(at);
        let about = "The same sockets, by why they sit there.";
        let mut chart = self.chart("c-verdicts", "Verdicts over time", about, &times, &tick);
        chart.stacked = true;
        let seen = (0..VERDICTS).filter(|n| self.moments().iter().any(|m| m.by_verdict[*n] > 0));
        chart.curves = seen
            .map(|n| Curve {
                name: verdict_name(n).to_owned(),
                colour: n % COLOURS,
                values: self.moments().iter().map(|m| Some(m.by_verdict[n])).collect(),
            })
            .collect();
        chart.write(out);
    }

    /// The processes with most leaks, the most first.
    pub fn worst(&self) -> Vec<(u32, &ProcessStory)> {
        let mut list: Vec<(u32, &ProcessStory)> =
            self.incident.processes().iter().enumerate().map(|(n, p)| (n as u32, p)).collect();
        list.sort_by_key(|(n, p)| {
            (std::cmp::Reverse((p.leaks_open, p.leaks(), p.sockets_open)), *n)
        });
        list
    }

    fn close_wait(&self, out: &mut String) {
        let times: Vec<BootNs> = self.moments().iter().map(|m| m.at_ns).collect();
        let tick = |at| self.tick(at);
        let about = "Of the processes with most leaks. A socket that several hold counts for each.";
        let title = "CLOSE_WAIT by process";
        let mut chart = self.chart("c-processes", title, about, &times, &tick);
        let of = |m: &Moment, number| {
            Some(m.processes.iter().find(|p| p.process == number).map_or(0, |p| p.close_wait))
        };
        chart.curves = self
            .worst()
            .into_iter()
            .take(PROCESSES)
            .enumerate()
            .map(|(colour, (number, p))| Curve {
                name: called(p),
                colour,
                values: self.moments().iter().map(|m| of(m, number)).collect(),
            })
            .collect();
        chart.write(out);
    }

    fn new_and_resolved(&self, out: &mut String) {
        let span = self.span();
        let step = (span.length_ns() / INTERVALS).max(self.incident.series().apart_ns()).max(1);
        let count = span.length_ns().div_ceil(step).max(1);
        let mut times = Vec::new();
        let (mut new, mut resolved) = (Vec::new(), Vec::new());
        let at = |time: BootNs| {
            let after = self.moments().partition_point(|m| m.at_ns <= time);
            let before = after.checked_sub(1).and_then(|n| self.moments().get(n));
            between(before, self.moments().get(after), time)
        };
        let mut before = (0, 0);
        for n in 1..=count {
            let time = span.from_ns.saturating_add(n * step);
            let now = at(time);
            times.push(time.min(span.to_ns));
            new.push(Some(now.0 - before.0));
            resolved.push(Some(now.1 - before.1));
            before = now;
        }
        let tick = |at| self.tick(at);
        let about =
            format!("Sockets that got stuck, and those that ended, in each {}.", human(step));
        let mut chart = self.chart("c-new", "New and resolved", &about, &times, &tick);
        chart.curves = vec![
            Curve { name: "new".to_owned(), colour: 1, values: new },
            Curve { name: "resolved".to_owned(), colour: 2, values: resolved },
        ];
        chart.write(out);
    }

    fn by_state_now(&self, out: &mut String) {
        let open = self.incident.open();
        let states = TcpState::ALL.into_iter().filter(|s| open.by_state[*s as usize % STATES] > 0);
        let list: Vec<Bar> = states
            .map(|s| Bar {
                name: s.name().to_owned(),
                parts: vec![(open.by_state[s as usize % STATES], of_state(s))],
            })
            .collect();
        let about = "The sockets that are listed, by state.";
        bars(out, "c-states", "States", about, &[("sockets", 0)], &list);
    }

    fn by_process_now(&self, out: &mut String) {
        let list: Vec<Bar> = self
            .worst()
            .into_iter()
            .take(ROWS)
            .enumerate()
            .map(|(n, (_, p))| Bar {
                name: called(p),
                parts: vec![(p.leaks_open, if n < COLOURS { n } else { GREY })],
            })
            .collect();
        let about = "Leaks of the processes that have most. One that several hold counts for each.";
        bars(out, "c-processes", "Leaks by process", about, &[("leaks", 0)], &list);
    }

    fn ages(&self, out: &mut String) {
        let (open, ended) = (self.incident.open().ages.counts(), self.incident.resolved_ages());
        let ended = ended.counts();
        let any = |n: &usize| open[*n] + ended[*n] > 0;
        let first = (0..Ages::BUCKETS).find(any).unwrap_or(0);
        let last = (0..Ages::BUCKETS).rfind(any).unwrap_or(0);
        let list: Vec<Bar> = (first..=last)
            .map(|n| Bar { name: age_bucket(n), parts: vec![(open[n], 1), (ended[n], 2)] })
            .collect();
        let about = "How long sockets have stayed, or stayed in all. What is certain of it.";
        bars(out, "c-ages", "Ages", about, &[("open", 1), ("resolved", 2)], &list);
    }

    fn remotes(&self, out: &mut String) {
        let tally = self.incident.remotes();
        let list = tally.sorted().into_iter().map(|(address, n)| (address.to_string(), n));
        let about = "All sockets that were reported, by the address of their peer.";
        counted(out, "c-remotes", "By remote", about, list.collect(), tally.others());
    }

    fn ends(&self, out: &mut String) {
        let tally = self.incident.ends();
        let name = |end: LocalEnd| match end {
            LocalEnd::Listener(at) => format!("listener {at}"),
            LocalEnd::At(at) => at.to_string(),
            LocalEnd::Outgoing => "outgoing".to_owned(),
            LocalEnd::Unknown => "unknown".to_owned(),
        };
        let list = tally.sorted().into_iter().map(|(end, n)| (name(end), n)).collect();
        let about = "The same, by where they came in on this host.";
        counted(out, "c-ends", "By local end", about, list, tally.others());
    }

    fn descriptors(&self, out: &mut String) {
        let worst = self.worst().into_iter().filter(|(_, p)| p.leaks() > 0 && p.limit.is_some());
        for (nth, (number, p)) in worst.take(FULL).enumerate() {
            let times: Vec<BootNs> = self.moments().iter().map(|m| m.at_ns).collect();
            let tick = |at| self.tick(at);
            let title = format!("Descriptors of {}", called(p));
            let id = format!("c-fds{nth}");
            let about = self.with_times(|times| descriptors(p, times));
            let mut chart = self.chart(&id, &title, &about, &times, &tick);
            let used = |m: &Moment| m.processes.iter().find(|p| p.process == number)?.used;
            chart.curves = vec![Curve {
                name: "in use".to_owned(),
                colour: nth,
                values: self.moments().iter().map(used).collect(),
            }];
            chart.limit = p.limit;
            if let Ok(full) = p.full {
                chart.reaches = Some(full.full_at);
                // As far ahead as one has seen, and not further.
                let ahead = chart.range[1].saturating_add(self.span().length_ns());
                chart.range[1] = full.full_at.max.min(ahead).max(chart.range[1]);
            }
            chart.write(out);
        }
    }
}

/// Sockets that got stuck, and that were resolved, by a time between two moments: as if they had
/// come evenly.
fn between(before: Option<&Moment>, after: Option<&Moment>, time: BootNs) -> (u64, u64) {
    let count = |m: &Moment| (m.stuck, m.resolved);
    match (before, after) {
        (Some(before), Some(after)) => {
            let length = (after.at_ns - before.at_ns).max(1) as f64;
            let part = (time - before.at_ns) as f64 / length;
            let ((a, b), (c, d)) = (count(before), count(after));
            let on = |from: u64, to: u64| from + ((to - from) as f64 * part).round() as u64;
            (on(a, c), on(b, d))
        }
        (Some(before), None) => count(before),
        (None, _) => (0, 0),
    }
}

fn counted(
    out: &mut String,
    id: &str,
    title: &str,
    about: &str,
    list: Vec<(String, u64)>,
    others: u64,
) {
    let rest: u64 = list.iter().skip(ROWS).map(|(_, n)| n).sum::<u64>() + others;
    let more = list.len().saturating_sub(ROWS);
    let mut shown: Vec<Bar> =
        list.into_iter().take(ROWS).map(|(name, n)| Bar { name, parts: vec![(n, 0)] }).collect();
    if rest > 0 {
        let name = if others > 0 { "all others".to_owned() } else { format!("{more} others") };
        shown.push(Bar { name, parts: vec![(rest, GREY)] });
    }
    bars(out, id, title, about, &[("sockets", 0)], &shown);
}

fn age_bucket(n: usize) -> String {
    let short = |ns: u64| match ns / 1_000_000_000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    };
    match (n, Ages::below_ns(n)) {
        (0, Some(below)) => format!("below {}", short(below)),
        (n, Some(below)) => {
            format!("{} to {}", short(Ages::below_ns(n - 1).unwrap_or(0)), short(below))
        }
        (_, None) => format!("{} and more", short(Ages::below_ns(n - 1).unwrap_or(0))),
    }
}
