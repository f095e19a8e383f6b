//! What happens, to the state of the screen.

use std::rc::Rc;

use crossterm::event::{
    KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

use super::{
    app::{App, Played, Showing, Within},
    rows,
    seen::Seen,
    sort::Sort,
};
use crate::engine::{
    group::GroupBy,
    record::{BootNs, Record},
};

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A key.
    Key(KeyEvent),
    /// The mouse.
    Mouse(MouseEvent),
    /// The terminal has this size now.
    Resize {
        /// Columns.
        width: u16,
        /// Lines.
        height: u16,
    },
    /// What the core knows now.
    Seen(Box<Seen>),
    /// A socket that was reported left its state.
    Ended {
        /// When.
        at: BootNs,
        /// As last reported.
        record: Rc<Record>,
    },
    /// From here on, the time of day is the boot clock plus so many ns.
    Clock(i64),
    /// How the recording is played.
    Played(Played),
    /// The recording has gone back: nothing of what was counted is known any more.
    Rewound,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// End.
    Quit,
    /// Hand this to the terminal's clipboard.
    Copy(String),
    /// Do this with the recording that is played.
    Play(Play),
}

/// What is to be done with a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// Stop, or go on.
    Pause,
    /// To the next facts, and stop.
    Step,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// So many seconds forward.
    Forward(u64),
    /// So many seconds back.
    Back(u64),
}

/// Longer filters find nothing that is shown.
const FILTER: usize = 100;
/// Rows, or lines, that the wheel goes by.
const WHEEL: isize = 3;

/// Takes in what happened.
pub fn update(app: &mut App, input: Input) -> Option<Effect> {
    match input {
        Input::Key(key) if key.kind != KeyEventKind::Release => {
            app.message = None;
            return pressed(app, key);
        }
        Input::Key(_) => {}
        Input::Mouse(mouse) => mouse_used(app, mouse),
        Input::Resize { width, height } => {
            (app.width, app.height) = (width, height);
            app.select(app.selected);
            app.renew_page();
            scroll(app, 0);
        }
        Input::Seen(seen) => app.see(*seen),
        Input::Ended { at, record } => app.end(at, record),
        Input::Clock(offset_ns) => drop(app.clock.set(offset_ns)),
        Input::Played(played) => app.played = Some(played),
        Input::Rewound => app.forget(),
    }
    None
}

fn pressed(app: &mut App, key: KeyEvent) -> Option<Effect> {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Some(Effect::Quit);
    }
    if app.typing {
        typed(app, key);
        return None;
    }
    if let Some(play) = app.played.as_ref().and_then(|_| played_by(key.code)) {
        return Some(Effect::Play(play));
    }
    match app.showing {
        Showing::Table => in_table(app, key),
        Showing::Page(_) => in_page(app, key),
        Showing::Help => {
            app.showing = Showing::Table;
            (key.code == KeyCode::Char('q')).then_some(Effect::Quit)
        }
    }
}

/// Seconds that an arrow goes by, and a bracket.
const ARROW: u64 = 10;
const BRACKET: u64 = 60;

/// What a key does with a recording.
fn played_by(code: KeyCode) -> Option<Play> {
    Some(match code {
        KeyCode::Char(' ') => Play::Pause,
        KeyCode::Char('.') => Play::Step,
        KeyCode::Char('+' | '=') => Play::Faster,
        KeyCode::Char('-') => Play::Slower,
        KeyCode::Right => Play::Forward(ARROW),
        KeyCode::Left => Play::Back(ARROW),
        KeyCode::Char(']') => Play::Forward(BRACKET),
        KeyCode::Char('[') => Play::Back(BRACKET),
        _ => return None,
    })
}

/// A key while the filter is typed: rows follow each letter.
fn typed(app: &mut App, key: KeyEvent) {
    match key.code {
        KeyCode::Enter => app.typing = false,
        KeyCode::Esc => {
            app.typing = false;
            app.filter.clear();
        }
        KeyCode::Backspace => drop(app.filter.pop()),
        KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => app.filter.clear(),
        KeyCode::Char(c)
            if !key.modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT)
                && app.filter.chars().count() < FILTER =>
        {
            app.filter.push(c);
        }
        _ => return,
    }
    app.regroup();
}

fn in_table(app: &mut App, key: KeyEvent) -> Option<Effect> {
    match key.code {
        KeyCode::Char('q') => return Some(Effect::Quit),
        KeyCode::Esc => step_back(app),
        KeyCode::Char('?') | KeyCode::F(1) => app.showing = Showing::Help,
        KeyCode::Char('/') => app.typing = true,
        KeyCode::Char('g') => group_by(app, rows::next(app.by)),
        KeyCode::Char('s' | '>') => sort_by(app, app.sort.turned(false)),
        KeyCode::Char('S' | '<') => sort_by(app, app.sort.turned(true)),
        KeyCode::Char('r') => {
            app.reverse = !app.reverse;
            app.sort();
        }
        KeyCode::Char(' ') => pause(app),
        KeyCode::Char('y') => return copy(app),
        KeyCode::Enter => open(app),
        code => {
            if let Some(by) = distance(code, app.shown()) {
                choose(app, moved(app.selected, by));
            }
        }
    }
    None
}

fn in_page(app: &mut App, key: KeyEvent) -> Option<Effect> {
    match key.code {
        KeyCode::Char('q') => return Some(Effect::Quit),
        KeyCode::Esc | KeyCode::Backspace => app.showing = Showing::Table,
        KeyCode::Char('?') | KeyCode::F(1) => app.showing = Showing::Help,
        KeyCode::Char(' ') => pause(app),
        KeyCode::Char('y') => return copy(app),
        KeyCode::Enter => enter_scope(app),
        code => {
            if let Some(by) = distance(code, app.page_shown()) {
                scroll(app, by);
            }
        }
    }
    None
}

/// How far a key goes; the ends are further than anything.
fn distance(code: KeyCode, page: usize) -> Option<isize> {
    let page = isize::try_from(page.max(1)).unwrap_or(isize::MAX);
    Some(match code {
        KeyCode::Up | KeyCode::Char('k') => -1,
        KeyCode::Down | KeyCode::Char('j') => 1,
        KeyCode::PageUp => -page,
        KeyCode::PageDown => page,
        KeyCode::Home => isize::MIN,
        KeyCode::End => isize::MAX,
        _ => return None,
    })
}

fn moved(at: usize, by: isize) -> usize {
    at.saturating_add_signed(by)
}

fn mouse_used(app: &mut App, mouse: MouseEvent) {
    let by = match mouse.kind {
        MouseEventKind::ScrollUp => -WHEEL,
        MouseEventKind::ScrollDown => WHEEL,
        MouseEventKind::Down(MouseButton::Left) => {
            clicked(app, usize::from(mouse.row));
            return;
        }
        _ => return,
    };
    match app.showing {
        Showing::Table => choose(app, moved(app.selected, by)),
        Showing::Page(_) => scroll(app, by),
        Showing::Help => {}
    }
}

/// A click selects a row, and opens the one that is selected.
fn clicked(app: &mut App, line: usize) {
    let Showing::Table = app.showing else { return };
    let Some(line) = line.checked_sub(app.above()).filter(|line| *line < app.shown()) else {
        return;
    };
    let at = app.first + line;
    if at >= app.rows.len() {
        return;
    }
    if at == app.selected {
        open(app);
    } else {
        choose(app, at);
    }
}

fn choose(app: &mut App, at: usize) {
    app.select(at);
    app.chosen = app.row().map(|row| row.key.clone());
}

fn scroll(app: &mut App, by: isize) {
    let shown = app.page_shown();
    if let Showing::Page(page) = &mut app.showing {
        let last = page.lines.len().saturating_sub(shown);
        page.scroll = moved(page.scroll, by).min(last);
    }
}

fn group_by(app: &mut App, by: Option<GroupBy>) {
    app.by = by;
    app.chosen = None;
    app.selected = 0;
    // One by one, all have the same count.
    app.sort = if by.is_none() { Sort::Age } else { Sort::Count };
    app.reverse = false;
    app.regroup();
}

fn sort_by(app: &mut App, sort: Sort) {
    app.sort = sort;
    app.sort();
}

fn pause(app: &mut App) {
    app.paused = !app.paused;
}

/// From a row's sockets to all rows, from a filter to none.
fn step_back(app: &mut App) {
    if !app.filter.is_empty() {
        app.filter.clear();
        app.regroup();
    } else if let Some(scope) = app.within.take() {
        group_by(app, scope.by);
        app.chosen = Some(scope.key);
        app.sort();
    } else {
        app.message = Some("nothing to go back from; q quits".to_owned());
    }
}

fn open(app: &mut App) {
    if let Some(row) = app.row() {
        let page = app.page_of(row);
        app.chosen = Some(page.key.clone());
        app.showing = Showing::Page(page);
    }
}

/// From the page of a row to the list of its sockets.
fn enter_scope(app: &mut App) {
    let Showing::Page(page) = &app.showing else { return };
    if page.by.is_none() || app.within.is_some() {
        return;
    }
    app.within = Some(Within { by: page.by, key: page.key.clone(), name: page.title.clone() });
    app.showing = Showing::Table;
    group_by(app, None);
}

/// The ends, as `tcptrace explain` takes them.
fn copy(app: &mut App) -> Option<Effect> {
    let record = match &app.showing {
        Showing::Page(page) => Rc::clone(&page.oldest),
        _ => Rc::clone(&app.row()?.oldest),
    };
    let ends = format!("{},{}", record.connection.local, record.connection.remote);
    app.message = Some(format!("copied {ends}"));
    Some(Effect::Copy(ends))
}
