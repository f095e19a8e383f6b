//! The story that a report tells, held against what the core says: on simulated hosts.

#[path = "incident/made.rs"]
mod made;
#[path = "incident/page.rs"]
mod page;

use std::{collections::HashSet, rc::Rc};

use tcptrace::{
    engine::{
        fact::Timed,
        incident::{Incident, about::Provenance, counting, socket::SocketStory},
        record::{Age, Connection, HolderSource, Record},
        unknown::Reason,
        update::Update,
        watch::{Plan, Said, Watch},
    },
    source::simulation::{
        schedule::{self, Action},
        settings,
        world::World,
    },
};

const SEEDS: u64 = 1_000;

/// The facts of a seed's schedule, and what was asked for.
fn facts(seed: u64) -> (Vec<Timed>, Plan) {
    let settings = settings(seed);
    let mut world = World::new(settings, true);
    let ends = [Action::Pass(6), Action::Drain, Action::Scan, Action::ScanEnds];
    for step in schedule::from_seed(seed).into_iter().chain(ends) {
        world.step(step).unwrap_or_else(|mistake| panic!("seed {seed}: {mistake}"));
    }
    let plan = Plan {
        states: settings.states,
        transitions: settings.transitions,
        min_age_ns: settings.min_age_ns,
        ..Plan::default()
    };
    (world.recorded(), plan)
}

/// What is told of them.
fn told(facts: &[Timed], plan: Plan) -> (Incident, Watch) {
    let mut incident = Incident::of_watch(Provenance::default(), &plan);
    let mut watch = Watch::new(plan);
    let mut said: Vec<Said> = Vec::new();
    let mut now = 0;
    for fact in facts {
        now = fact.at;
        watch.take(fact, &mut said);
        said.drain(..).for_each(|said| incident.take(&said));
        incident.sample(now, &watch);
    }
    watch.finish(now, &mut said);
    said.drain(..).for_each(|said| incident.take(&said));
    incident.sample_now(now, &watch);
    (incident, watch)
}

#[test]
fn a_report_counts_as_the_watch_does() {
    let mut ended = 0;
    for seed in 0..SEEDS {
        let (facts, plan) = facts(seed);
        let (incident, watch) = told(&facts, plan);
        let (totals, said) = (incident.totals(), watch.totals());
        assert_eq!(
            (totals.stuck, totals.resolved, totals.still_open, totals.leaks, totals.leaks_open),
            (said.stuck, said.resolved, said.still_open, said.leaks, said.leaks_open),
            "seed {seed}"
        );
        assert_eq!(incident.sockets().len() as u64 + incident.left_out(), totals.stuck);
        assert_eq!(incident.lost(), &said.lost, "seed {seed}");
        let by_verdict: u64 = incident.leaks_by_verdict().iter().sum();
        assert_eq!(by_verdict, totals.leaks, "seed {seed}");
        let remotes = incident.remotes().total();
        assert_eq!(remotes, totals.stuck, "seed {seed}");
        let ages = [incident.resolved_ages(), &incident.open().ages];
        let ages = ages.map(|ages| ages.counts().iter().sum::<u64>());
        assert_eq!(ages, [totals.resolved, totals.still_open], "seed {seed}");
        ended += totals.resolved;
    }
    assert!(ended > SEEDS / 4, "the schedules end sockets");
}

#[test]
fn stories_are_in_order_and_name_who_is_there() {
    let (mut handed_on, mut ghosts) = (0, 0);
    for seed in 0..SEEDS {
        let (facts, plan) = facts(seed);
        let (incident, watch) = told(&facts, plan);
        let processes = incident.processes().len() as u32;
        for story in incident.sockets() {
            in_order(story);
            assert!(story.holds.iter().all(|h| h.process.is_some_and(|n| n < processes)));
            handed_on += u64::from(story.holds.iter().any(|h| h.until_ns < story_end(story)));
            ghosts += u64::from(story.stays.len() > 1);
        }
        let open = incident.sockets().iter().filter(|story| story.end.is_none());
        let mut rows: HashSet<u64> = watch.rows().map(|row| row.connection.cookie).collect();
        for story in open {
            assert!(rows.remove(&story.record.connection.cookie), "seed {seed}: {story:?}");
            let held = story.holds.iter().filter(|hold| hold.until_ns.is_none()).count();
            if story.record.holder_source == HolderSource::FdTable {
                assert_eq!(held, story.record.holders.len(), "seed {seed}: {story:?}");
            }
        }
        assert!(rows.is_empty(), "seed {seed}: {rows:?} are not told of");
        for moment in incident.series().moments() {
            assert!(moment.processes.iter().all(|p| p.process < processes));
            assert_eq!(moment.stuck - moment.resolved, moment.by_state.iter().sum::<u64>());
        }
        let leaks: u64 =
            incident.processes().iter().map(|p| p.by_verdict.iter().sum::<u64>()).sum();
        assert_eq!(leaks, incident.processes().iter().map(|p| p.leaks()).sum::<u64>());
        assert_eq!(counting::VERDICTS, incident.leaks_by_verdict().len());
    }
    assert!(handed_on > 100 && ghosts > 100, "{handed_on} handed on, {ghosts} ghosts");
}

fn story_end(story: &SocketStory) -> Option<u64> {
    story.end.as_ref().map(|end| end.at_ns).or(Some(u64::MAX))
}

fn in_order(story: &SocketStory) {
    let whole = |until: Option<u64>| until.is_some() == story.end.is_some();
    assert!(story.stays.last().is_some_and(|stay| whole(stay.until_ns)), "{story:?}");
    assert!(story.stays.is_sorted_by_key(|stay| stay.since.latest_ns), "{story:?}");
    assert!(story.verdicts.is_sorted_by_key(|judged| judged.from_ns), "{story:?}");
    for hold in &story.holds {
        assert!(hold.until_ns.is_none_or(|until| until >= hold.from_ns), "{story:?}");
        assert!(story.end.is_none() || hold.until_ns.is_some(), "{story:?}");
    }
}

/// A hundred and twenty thousand sockets: what is not told one by one is counted.
#[test]
fn memory_is_bounded() {
    const SOCKETS: u64 = 120_000;
    let one = made::made(1, None).incident.sockets()[0].record.clone();
    let mut incident = Incident::of_watch(Provenance::default(), &Plan::default());
    for n in 1..=SOCKETS {
        let connection = Connection { cookie: n, ..one.connection };
        let record = Rc::new(Record { connection, ..Record::clone(&one) });
        incident.take(&Said { time: n, update: Update::Stuck(Rc::clone(&record)) });
        if n % 3 == 0 {
            let stayed = Age { min_ns: n, max_ns: Some(n) };
            let (closed_by, unknown) = (None, Reason::EndLost);
            let update = Update::Resolved { record, stayed, closed_by, unknown };
            incident.take(&Said { time: n, update });
        }
    }
    let totals = incident.totals();
    assert_eq!((totals.stuck, totals.resolved), (SOCKETS, SOCKETS / 3));
    let told = incident.sockets().len();
    assert!(told <= Incident::SOCKETS && told > Incident::SOCKETS / 2, "{told}");
    assert_eq!(told as u64 + incident.left_out(), SOCKETS);
    // Those that are open have the places of those that ended soon.
    let open = incident.sockets().iter().filter(|s| s.end.is_none()).count();
    assert!(open > Incident::SOCKETS * 9 / 10, "{open}");
    for cookie in 1..=SOCKETS {
        let connection = Connection { cookie, ..one.connection };
        let record = Rc::new(Record { connection, ..Record::clone(&one) });
        incident.take(&Said { time: SOCKETS, update: Update::Stuck(record) });
    }
    assert_eq!(incident.totals().stuck, SOCKETS + SOCKETS / 3, "who is open is not new");
}
