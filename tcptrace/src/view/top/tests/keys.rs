//! Keys and the mouse to the state.

use crossterm::event::{MouseButton, MouseEvent, MouseEventKind};
use proptest::prelude::*;

use super::{
    super::{
        app::{Played, Showing},
        rows::Key,
        sort::Sort,
        update::Play,
    },
    *,
};

fn mouse(app: &mut App, kind: MouseEventKind, row: u16) -> Option<Effect> {
    update(app, Input::Mouse(MouseEvent { kind, column: 3, row, modifiers: KeyModifiers::NONE }))
}

fn holders(app: &App) -> Vec<u32> {
    app.rows.iter().map(|row| row.oldest.holders[0].process.pid).collect()
}

#[test]
fn rows_are_sorted() {
    let mut app = app(80, 24);
    assert_eq!(holders(&app), [4711, 812, 99], "the most first");
    keys(&mut app, "s");
    assert_eq!((app.sort, holders(&app)), (Sort::Age, vec![812, 4711, 99]));
    keys(&mut app, "r");
    assert_eq!(holders(&app), [99, 4711, 812]);
    keys(&mut app, "rsss");
    assert_eq!((app.sort, holders(&app)), (Sort::Holder, vec![99, 4711, 812]));
    keys(&mut app, "S");
    assert_eq!((app.sort, holders(&app)), (Sort::Verdict, vec![812, 4711, 99]));
    let mut seen = vec![app.sort];
    for _ in 1..Sort::ALL.len() {
        keys(&mut app, ">");
        assert!(!seen.contains(&app.sort));
        seen.push(app.sort);
    }
    keys(&mut app, "<>>");
    assert_eq!(app.sort, seen[0], "round and round");
}

#[test]
fn growth_is_what_began_less_what_ended() {
    let mut app = app(80, 24);
    let growth = |app: &App| app.rows.iter().map(|row| row.growth).collect::<Vec<_>>();
    // Java's are 5, 8, 11 … seconds old.
    assert_eq!(growth(&app), [19, 0, 0]);
    let ended = |list: &[usize], app: &mut App| {
        for n in list {
            let record = Rc::clone(&sockets()[*n]);
            update(app, Input::Ended { at: NOW, record });
        }
        let left = sockets().into_iter().enumerate().filter(|(n, _)| !list.contains(n));
        let left = left.map(|(_, record)| record).collect();
        update(app, Input::Seen(Box::new(seen(NOW, left, 124, 2))));
    };
    ended(&[0, 100], &mut app);
    assert_eq!(growth(&app), [17, 0, 0], "one began within the minute, one before");
    update(&mut app, Input::Seen(Box::new(seen(NOW + 90 * SECOND, sockets(), 124, 2))));
    assert_eq!(growth(&app), [0, 0, 0], "a minute later nothing of it counts");
}

#[test]
fn the_filter_follows_each_letter() {
    let mut app = app(80, 24);
    keys(&mut app, "/NGin");
    assert_eq!(holders(&app), [812]);
    keys(&mut app, "q");
    assert!(app.rows.is_empty(), "a letter like all others");
    key(&mut app, KeyCode::Backspace);
    key(&mut app, KeyCode::Enter);
    assert_eq!((app.typing, &*app.filter, holders(&app)), (false, "NGin", vec![812]));
    assert_eq!(key(&mut app, KeyCode::Esc), None);
    assert_eq!(holders(&app).len(), 3);
    for (typed, found) in [
        ("4711]", vec![4711]),
        ("10.0.7.1:50", vec![812]),
        ("ghost", vec![99]),
        ("close_wait", vec![4711, 812]),
        ("0b1c2d3e4f50", vec![4711]),
        ("  2001:DB8::7 ", vec![99]),
    ] {
        keys(&mut app, &format!("/{typed}"));
        assert_eq!(holders(&app), found, "{typed}");
        key(&mut app, KeyCode::Esc);
    }
}

#[test]
fn from_a_row_to_its_page_to_its_sockets_and_back() {
    let mut app = app(80, 24);
    key(&mut app, KeyCode::Down);
    key(&mut app, KeyCode::Enter);
    let Showing::Page(page) = &app.showing else { panic!("no page") };
    assert_eq!((&*page.title, &page.key), ("nginx[812]", &Key::Holder(812, 812)));
    key(&mut app, KeyCode::Enter);
    assert_eq!((app.by, app.rows.len()), (None, 3), "its sockets");
    key(&mut app, KeyCode::Enter);
    let Showing::Page(page) = &app.showing else { panic!("no page") };
    assert_eq!(page.title, "10.0.0.1:8080 <- 10.0.7.1:50000");
    for _ in 0..2 {
        assert_eq!(key(&mut app, KeyCode::Esc), None);
    }
    assert_eq!(
        (app.by, app.selected, app.rows.len()),
        (Some(GroupBy::Holder), 1, 3),
        "the row as it was"
    );
    assert_eq!(key(&mut app, KeyCode::Esc), None, "only q and Ctrl-C quit");
    assert!(lines(&app)[23].starts_with("nothing to go back from; q quits"));
}

#[test]
fn a_page_is_live_until_its_sockets_are_gone() {
    let mut app = app(80, 60);
    key(&mut app, KeyCode::Enter);
    let said = |app: &App, text: &str| lines(app).iter().any(|line| line.contains(text));
    assert!(said(&app, "871 of 1024 (85%)") && said(&app, "TCP sockets (120 leaks)"));
    let fewer: Vec<_> = sockets().into_iter().skip(100).collect();
    update(&mut app, Input::Seen(Box::new(seen(NOW, fewer, 124, 100))));
    assert!(said(&app, "TCP sockets (20 leaks)"));
    update(&mut app, Input::Seen(Box::new(seen(NOW, Vec::new(), 124, 124))));
    assert!(said(&app, "ended: as last seen") && said(&app, "TCP sockets (20 leaks)"));
}

#[test]
fn a_chosen_row_stays_chosen_wherever_it_moves() {
    let mut app = app(80, 24);
    keys(&mut app, "jj");
    assert_eq!(app.row().map(|row| row.key.clone()), Some(Key::Holder(99, 99)));
    let mut more = sockets();
    more.extend((0..200).map(|n| {
        let held = holder(99, "crawler", 30 + n, "0::/user.slice");
        Rc::new(socket(9_000 + u64::from(n), held, Verdict::GhostFd, "10.0.9.9:1", 5))
    }));
    update(&mut app, Input::Seen(Box::new(seen(NOW, more, 400, 0))));
    assert_eq!((app.selected, holders(&app)), (0, vec![99, 4711, 812]));
}

#[test]
fn a_pause_keeps_the_rows_and_not_the_header() {
    let mut app = app(80, 24);
    keys(&mut app, " ");
    update(&mut app, Input::Seen(Box::new(seen(NOW + SECOND, Vec::new(), 160, 160))));
    assert_eq!((holders(&app).len(), app.counted.sockets), (3, 0));
    assert!(lines(&app)[0].contains("PAUSED"));
    keys(&mut app, "g");
    assert_eq!(app.by, Some(GroupBy::Verdict), "keys work");
    keys(&mut app, " ");
    update(&mut app, Input::Seen(Box::new(seen(NOW + SECOND, Vec::new(), 160, 160))));
    assert!(app.rows.is_empty());
}

#[test]
fn ends_are_copied_as_explain_takes_them() {
    let mut app = app(80, 24);
    let oldest = "10.0.0.1:8080,10.0.3.17:40119".to_owned();
    assert_eq!(key(&mut app, KeyCode::Char('y')), Some(Effect::Copy(oldest.clone())));
    assert!(lines(&app)[23].starts_with(&format!("copied {oldest}")));
    assert!(matches!(oldest.parse(), Ok(crate::engine::parse::Target::Ends(..))));
    key(&mut app, KeyCode::Down);
    assert!(!lines(&app)[23].contains("copied"), "until the next key");
}

#[test]
fn the_mouse_selects_opens_and_scrolls() {
    let mut app = app(80, 24);
    let click = MouseEventKind::Down(MouseButton::Left);
    mouse(&mut app, click, 7);
    assert_eq!(app.selected, 1);
    mouse(&mut app, click, 12);
    mouse(&mut app, click, 2);
    assert_eq!(app.selected, 1, "there is no row");
    mouse(&mut app, click, 7);
    let Showing::Page(page) = &app.showing else { panic!("no page") };
    assert_eq!(page.scroll, 0);
    mouse(&mut app, MouseEventKind::ScrollDown, 7);
    let Showing::Page(page) = &app.showing else { panic!("no page") };
    assert_eq!(page.scroll, 3);
    key(&mut app, KeyCode::Esc);
    mouse(&mut app, MouseEventKind::ScrollUp, 7);
    assert_eq!(app.selected, 0);
}

#[test]
fn it_quits() {
    let control_c = || Input::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    for before in ["", "/ab", "?"] {
        let mut app = app(80, 24);
        keys(&mut app, before);
        assert_eq!(update(&mut app, control_c()), Some(Effect::Quit), "{before}");
    }
    assert_eq!(key(&mut app(80, 24), KeyCode::Char('q')), Some(Effect::Quit));
}

fn any_input() -> impl Strategy<Value = Vec<Input>> {
    use KeyCode::*;
    const CODES: [KeyCode; 22] = [
        Up,
        Down,
        PageUp,
        PageDown,
        Home,
        End,
        Enter,
        Esc,
        Backspace,
        Tab,
        F(1),
        Char('g'),
        Char('s'),
        Char('S'),
        Char('r'),
        Char('/'),
        Char(' '),
        Char('y'),
        Char('?'),
        Char('j'),
        Char('é'),
        Char('世'),
    ];
    let list = sockets();
    let some = move |from: usize, count: usize| {
        let some = list.iter().skip(from).take(count).cloned().collect();
        Input::Seen(Box::new(seen(NOW + from as u64 * SECOND, some, 200, 100)))
    };
    let pressed = |n: usize| Input::Key(KeyEvent::new(CODES[n], KeyModifiers::NONE));
    let resized = |(width, height)| vec![Input::Resize { width, height }];
    let one = prop_oneof![
        8 => (0..CODES.len()).prop_map(move |n| vec![pressed(n)]),
        1 => (0u16..220, 0u16..70).prop_map(resized),
        1 => (0u16..80, 0usize..3).prop_map(|(row, kind)| {
            let kind = [
                MouseEventKind::ScrollUp,
                MouseEventKind::ScrollDown,
                MouseEventKind::Down(MouseButton::Left),
            ][kind];
            vec![Input::Mouse(MouseEvent { kind, column: 0, row, modifiers: KeyModifiers::NONE })]
        }),
        2 => (0usize..130, 0usize..130).prop_map(move |(from, count)| vec![some(from, count)]),
    ];
    proptest::collection::vec(one, 0..60).prop_map(|list| list.into_iter().flatten().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is pressed, at whatever size, while rows come and go: it is drawn, and the row that
    /// keys act on is one that is there and on the screen.
    #[test]
    fn no_keys_make_it_panic(inputs in any_input()) {
        let mut app = app(80, 24);
        for input in inputs {
            update(&mut app, input);
            drawn(&app);
            prop_assert!(app.selected < app.rows.len() || app.rows.is_empty());
            let shown = app.first..app.first + app.shown().max(1);
            prop_assert!(app.rows.is_empty() || shown.contains(&app.selected));
        }
    }
}

#[test]
fn keys_of_a_recording() {
    let mut app = app(80, 24);
    let press =
        |app: &mut App, code| update(app, Input::Key(KeyEvent::new(code, KeyModifiers::NONE)));
    press(&mut app, KeyCode::Char(' '));
    assert!(app.paused, "without a recording it is the rows that stand still");
    press(&mut app, KeyCode::Char(' '));
    let played = Played { speed: 2.0, stands: false, is_over: false };
    update(&mut app, Input::Played(played));
    for (code, play) in [
        (KeyCode::Char(' '), Play::Pause),
        (KeyCode::Char('.'), Play::Step),
        (KeyCode::Char('+'), Play::Faster),
        (KeyCode::Char('-'), Play::Slower),
        (KeyCode::Right, Play::Forward(10)),
        (KeyCode::Left, Play::Back(10)),
        (KeyCode::Char(']'), Play::Forward(60)),
        (KeyCode::Char('['), Play::Back(60)),
    ] {
        assert_eq!(press(&mut app, code), Some(Effect::Play(play)));
    }
    assert!(!app.paused);
    press(&mut app, KeyCode::Char('/'));
    assert_eq!(press(&mut app, KeyCode::Char('-')), None, "a filter is typed");
    assert_eq!(app.filter, "-");
    update(&mut app, Input::Rewound);
    assert!(app.rows.is_empty() && app.now == 0, "nothing is known at the beginning");
}
