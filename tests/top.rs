//! `top` over a simulated host: what it shows is what the core knows.

use jiff::Timestamp;
use ratatui::{Terminal, backend::TestBackend};
use tcptrace::{
    engine::group::GroupBy,
    source::simulation::{schedule, settings, world::World},
    view::{
        Clock,
        top::{
            app::App,
            draw::draw,
            seen::Seen,
            update::{Input, update},
        },
    },
};

/// Schedules that are shown; `tests/sim.rs` holds more of them against the truth.
const SEEDS: u64 = 60;

const SIZE: (u16, u16) = (120, 40);

/// The second line of the screen.
fn counts(app: &App) -> String {
    let mut terminal = Terminal::new(TestBackend::new(SIZE.0, SIZE.1)).expect("memory");
    terminal.draw(|frame| draw(app, frame)).expect("memory");
    let buffer = terminal.backend().buffer();
    (0..SIZE.0).map(|x| buffer[(x, 1)].symbol()).collect()
}

fn all(app: &App) -> u64 {
    app.rows.iter().map(|row| row.count).sum()
}

#[test]
fn the_screen_shows_the_cores_rows() {
    let mut most = 0;
    for seed in 0..SEEDS {
        let mut world = World::new(settings(seed), false);
        let clock = Clock::new(Timestamp::UNIX_EPOCH, world.now(), true);
        let mut app = App::new("all".to_owned(), clock, Some(GroupBy::Holder));
        update(&mut app, Input::Resize { width: SIZE.0, height: SIZE.1 });
        for step in schedule::from_seed(seed) {
            world.step(step).unwrap_or_else(|mistake| panic!("seed {seed}: {mistake}"));
            let seen = Seen::of(world.watch(), world.now());
            update(&mut app, Input::Seen(Box::new(seen)));
            let known = world.watch().rows().len() as u64;
            assert_eq!((all(&app), app.counted.sockets), (known, known), "seed {seed}");
            let leaks = world.watch().rows().filter(|record| record.is_leak()).count();
            assert_eq!(app.counted.leaks, leaks as u64, "seed {seed}");
            most = most.max(known);
        }
        for by in GroupBy::ALL.map(Some).into_iter().chain([None]) {
            app.by = by;
            update(&mut app, Input::Seen(Box::new(Seen::of(world.watch(), world.now()))));
            assert_eq!(
                all(&app),
                app.counted.sockets,
                "seed {seed}, by {}",
                by.map_or("none", GroupBy::name)
            );
            assert!(counts(&app).starts_with(&format!("leaks {}", app.counted.leaks)));
        }
    }
    assert!(most > 1, "the schedules leak");
}
