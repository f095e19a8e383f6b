//! What there was at a moment of a recording.

use std::collections::HashSet;

use super::{Args, Listing};
use crate::{
    cli::{ended_by, leaks::Leaks, replay, report, warn},
    engine::{
        group::Overview,
        incident::{Incident, about::Provenance, process::LookedUp},
        record::Record,
        select::Selection,
        update::Update,
        watch::{Plan, Watch},
    },
    exit::{Exit, Failure},
    view::{csv::Columns, report::IncidentReport},
};

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let report = args.report.open()?;
    let mut recording = replay::open(&args.files)?;
    let header = recording.header().clone();
    let plan = replay::plan(&header, &args.select, None)?;
    let plan = Plan { selection: Selection { unleaked: true, ..plan.selection }, ..plan };
    let at = args.at.map(|when| when.on_boot_clock(&header, args.output.is_utc()));
    let mut view = match args.output.view_at(header.began(), header.began_ns, Columns::Snapshot) {
        Ok(view) => view,
        Err(e) => return ended_by(e),
    };
    let (mut watch, mut now, mut damaged) = (Watch::new(plan), header.began_ns, false);
    let (mut said, mut missing) = (Vec::new(), Vec::new());
    let read = loop {
        let next = recording.next_batch();
        for line in recording.take_missing() {
            damaged = true;
            warn(&line);
            missing.push(line);
        }
        let batch = match next {
            Ok(Some(batch)) => batch,
            Ok(None) => break Ok(()),
            Err(e) => break Err(e),
        };
        let is_later = |time| at.is_some_and(|at| time > at);
        batch.facts.iter().filter(|f| !is_later(f.at)).for_each(|f| watch.take(f, &mut said));
        for said in said.drain(..) {
            if let Update::Clock(offset_ns) = said.update {
                view.clock().set(offset_ns);
            }
        }
        now = batch.now;
        if is_later(now) {
            break Ok(());
        }
    };
    if let Some(at) = at.filter(|at| *at < header.began_ns) {
        let [began, at] = [header.began_ns, at].map(|time| view.clock().rfc3339(time));
        let message = format!("--at: {at} is before the recording, which begins at {began}");
        return Err(Failure::usage(message));
    }
    if let Some(at) = at.filter(|at| *at > now) {
        let [from, to, at] = [header.began_ns, now, at].map(|time| view.clock().rfc3339(time));
        let message = format!("--at: {at} is not in the recording, which goes from {from} to {to}");
        return Err(Failure::usage(message));
    }
    let now = at.unwrap_or(now);
    let mut rows: Vec<_> = watch.rows().cloned().collect();
    rows.sort_by_key(|record| (record.latest_ns, record.connection.cookie));
    let namespaces: HashSet<u32> = rows.iter().map(|record| record.connection.netns).collect();
    let overview = Overview { namespaces: namespaces.len() as u64, ..Overview::default() };
    let (mut leaks, listing) = (0, Listing { args, now, overview });
    let mut incident = report
        .as_ref()
        .map(|_| Provenance { missing, ..report::of_header(header.clone()) })
        .map(Incident::of_snapshot);
    let records = &mut rows.iter().map(|record| Record::clone(record));
    let shown = listing.show(records, &mut *view, &mut leaks, incident.as_mut());
    if let Some((file, mut incident)) = report.zip(incident) {
        LookedUp::by(&watch, |looked_up| incident.finish_snapshot(now, looked_up));
        file.write(&IncidentReport { incident: &incident, clock: view.clock() })?;
    }
    match args.leaks.exit(Leaks { open: leaks, all: leaks }, read.and(shown))? {
        Exit::Done if damaged => Ok(Exit::Failed),
        exit => Ok(exit),
    }
}
