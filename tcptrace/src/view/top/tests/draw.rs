//! Each screen as it is to look, in files below `screens`: `TCPTRACE_RENEW=1 cargo test --lib top`
//! writes them.

use std::{fs, path::Path};

use ratatui::style::{Color, Modifier};

use super::*;

const SIZES: [(u16, u16); 2] = [(80, 24), (200, 60)];

fn is_as_kept(name: &str, app: &App) {
    let file = format!("{name}-{}x{}.txt", app.width, app.height);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/view/top/screens").join(&file);
    let screen = lines(app).join("\n") + "\n";
    if std::env::var_os("TCPTRACE_RENEW").is_some() {
        fs::write(&path, &screen).expect("it is written");
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(screen == kept, "{file} is not this any more:\n{screen}");
}

#[test]
fn groups_at_both_sizes() {
    for (width, height) in SIZES {
        is_as_kept("groups", &app(width, height));
    }
}

#[test]
fn sockets_at_both_sizes() {
    for (width, height) in SIZES {
        let mut app = app(width, height);
        keys(&mut app, "ggggggg");
        assert_eq!(app.by, None);
        key(&mut app, KeyCode::PageDown);
        is_as_kept("sockets", &app);
    }
}

#[test]
fn other_groups() {
    for (keys_, name) in [
        ("g", "verdict"),
        ("gg", "remote"),
        ("ggg", "listener"),
        ("gggg", "container"),
        ("ggggg", "pod"),
        ("gggggg", "cgroup"),
    ] {
        let mut app = app(80, 24);
        keys(&mut app, keys_);
        assert_eq!(crate::view::top::rows::name(app.by), name);
        is_as_kept(name, &app);
    }
}

#[test]
fn pages_at_both_sizes() {
    for (width, height) in SIZES {
        let mut app = app(width, height);
        key(&mut app, KeyCode::Enter);
        is_as_kept("page-of-a-process", &app);
        key(&mut app, KeyCode::Enter);
        is_as_kept("its-sockets", &app);
        key(&mut app, KeyCode::Enter);
        is_as_kept("page-of-a-socket", &app);
    }
}

/// What the core knows of threads is on the page, and as of when.
#[test]
fn a_page_says_what_keeps_it() {
    let mut app = app(200, 60);
    key(&mut app, KeyCode::Down);
    key(&mut app, KeyCode::Enter);
    let page = lines(&app).join(" ");
    for text in [
        "the only thread: read on file fd 7",
        "what keeps it, as of 12s ago",
        "nginx[812]: its only thread waits for the file system behind /mnt/nfs/a: that is why 3 \
         connections are unread.",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn help_at_both_sizes() {
    for (width, height) in SIZES {
        let mut app = app(width, height);
        app.notes = vec!["what other processes hold can't be seen \u{1b}[2J".to_owned()];
        keys(&mut app, "?");
        is_as_kept("help", &app);
    }
}

#[test]
fn a_filter_that_is_typed_and_rows_that_are_paused() {
    let mut app = app(80, 24);
    keys(&mut app, " /ngin");
    is_as_kept("filter", &app);
    keys(&mut app, "y");
    is_as_kept("filter-without-rows", &app);
}

#[test]
fn every_line_of_the_help_fits_into_80_columns() {
    for (name, text) in super::super::help::KEYS.iter().chain(super::super::help::COLUMNS) {
        assert!(name.len() < 16 && text.len() <= 64, "{name}: {text}");
    }
}

#[test]
fn the_document_has_each_key() {
    const DOCUMENT: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/top.md"));
    for (key, does) in super::super::help::KEYS {
        assert!(DOCUMENT.contains(&format!("| {key} | {does} |")), "docs/top.md: {key}");
    }
}

#[test]
fn nothing_to_show() {
    let mut app = app(80, 24);
    update(&mut app, Input::Seen(Box::new(seen(NOW + SECOND, Vec::new(), 160, 160))));
    let screen = lines(&app);
    assert!(screen[1].starts_with("leaks 0  lost 0"), "{screen:#?}");
    assert_eq!(screen[6], "no socket in CLOSE_WAIT over 1s");
}

#[test]
fn what_was_lost_is_said() {
    let mut app = app(80, 24);
    let mut seen = seen(NOW + SECOND, sockets(), 160, 4);
    seen.lost = Lost { ring_full: 7, ..Lost::default() };
    update(&mut app, Input::Seen(Box::new(seen)));
    assert!(lines(&app)[1].ends_with("lost 7 (ring_full 7)"), "{:?}", lines(&app)[1]);
}

/// Terminals have their own idea of the sixteen colours, on light grounds and on dark ones; others
/// would not be seen on some.
#[test]
fn colours_are_named_ones_or_none() {
    let mut app = app(200, 60);
    let colours = |app: &App| -> Vec<(Color, Color)> {
        let buffer = drawn(app);
        buffer.content.iter().map(|cell| (cell.fg, cell.bg)).collect()
    };
    let used = colours(&app);
    let named = [Color::Reset, Color::Red, Color::Green, Color::Magenta];
    assert!(used.iter().all(|(fg, bg)| named.contains(fg) && *bg == Color::Reset));
    assert!(used.iter().any(|(fg, _)| *fg == Color::Red));
    app.colour = false;
    assert!(colours(&app).iter().all(|c| *c == (Color::Reset, Color::Reset)));
    let buffer = drawn(&app);
    let selected = buffer[(0, 6)].modifier;
    assert!(selected.contains(Modifier::REVERSED), "it shows without colours: {selected:?}");
}

#[test]
fn what_did_not_change_is_not_drawn_again() {
    let mut app = app(80, 24);
    let before = drawn(&app);
    assert_eq!(before.diff(&drawn(&app)), []);
    key(&mut app, KeyCode::Down);
    let after = drawn(&app);
    let mut lines: Vec<u16> = before.diff(&after).iter().map(|(_, y, _)| *y).collect();
    lines.dedup();
    assert_eq!(lines, [6, 7, 23], "the rows between which the selection moves, and its number");
}

#[test]
fn names_do_not_steer_the_terminal() {
    let mut app = app(80, 24);
    let evil = holder(666, "\u{1b}[2J\u{202e}x\n", 3, "0::/\u{9b}31m");
    let socket = Rc::new(socket(1, evil, Verdict::UnreadFin, "10.0.0.9:1", 5));
    update(&mut app, Input::Seen(Box::new(seen(NOW, vec![socket], 1, 0))));
    for _ in 0..3 {
        let buffer = drawn(&app);
        let steers = |symbol: &str| symbol.chars().any(crate::view::text::steers);
        assert!(!buffer.content.iter().any(|cell| steers(cell.symbol())));
        key(&mut app, KeyCode::Enter);
    }
    assert!(lines(&app).concat().contains("\\u{1b}[2J"), "{:#?}", lines(&app));
}
