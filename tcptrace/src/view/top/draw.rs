//! The state of the screen to its cells. Only what is visible is put into words.

use ratatui::{
    Frame,
    buffer::Buffer,
    layout::Position,
    style::{Color, Modifier, Style},
};
use tcptrace_common::state::TcpState;
use unicode_width::UnicodeWidthStr;

use super::{
    app::{App, Showing},
    columns::{self, Column},
    help,
    history::Sample,
    page::Page,
    rows::{self, Row},
};
use crate::{
    engine::{counted::counted, group::GroupBy, verdict::Verdict},
    view::{table, text::safe},
};

/// Columns before the pictures: a name and a number.
const LABEL: usize = 12;
const NUMBER: usize = 8;

/// Draws all of it.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut screen = Canvas {
        width: usize::from(area.width),
        height: usize::from(area.height),
        colour: app.colour,
        cells: frame.buffer_mut(),
    };
    if screen.width == 0 || screen.height == 0 {
        return;
    }
    let typed = match &app.showing {
        Showing::Table => table_view(app, &mut screen),
        Showing::Page(page) => {
            page_view(app, page, &mut screen);
            None
        }
        Showing::Help => {
            help_view(app, &mut screen);
            None
        }
    };
    if let Some((x, y)) = typed {
        frame.set_cursor_position(Position { x, y });
    }
}

struct Canvas<'a> {
    width: usize,
    height: usize,
    colour: bool,
    cells: &'a mut Buffer,
}

impl Canvas<'_> {
    /// Writes what fits; the column after it.
    fn put(&mut self, x: usize, y: usize, text: &str, style: Style) -> usize {
        if x >= self.width || y >= self.height {
            return self.width;
        }
        let (column, line) = (cell(x), cell(y));
        let (end, _) = self.cells.set_stringn(column, line, text, self.width - x, style);
        usize::from(end)
    }

    /// The same, cut with an ellipsis to `width` columns.
    fn put_within(&mut self, x: usize, y: usize, text: &str, width: usize, style: Style) {
        self.put(x, y, &table::cut(text, width), style);
    }

    fn fill(&mut self, y: usize, style: Style) {
        self.put(0, y, &" ".repeat(self.width), style);
    }

    fn coloured(&self, color: Color) -> Style {
        if self.colour { Style::new().fg(color) } else { Style::new() }
    }

    fn bad(&self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }
}

/// Terminals have no more than `u16::MAX` columns.
fn cell(n: usize) -> u16 {
    u16::try_from(n).unwrap_or(u16::MAX)
}

const PLAIN: Style = Style::new();
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const BAR: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Rows below a header. Where the cursor is, if something is typed.
fn table_view(app: &App, screen: &mut Canvas<'_>) -> Option<(u16, u16)> {
    title(app, screen);
    counts(app, screen);
    if app.above() > 3 {
        pictures(app, screen);
    }
    let heads = app.above() - 1;
    let end = (app.first + app.shown()).min(app.rows.len());
    let visible = app.rows.get(app.first..end).unwrap_or_default();
    let fitting = columns::fitting(visible, app.by, screen.width, app.now);
    line_of_heads(app, &fitting, heads, screen);
    for (n, row) in visible.iter().enumerate() {
        let selected = app.first + n == app.selected;
        line_of_cells(app, row, &fitting, app.above() + n, selected, screen);
    }
    if visible.is_empty() {
        screen.put(0, app.above(), &nothing(app), DIM);
    }
    last_line(app, screen)
}

fn nothing(app: &App) -> String {
    if app.now == 0 {
        "scanning …".to_owned()
    } else if app.counted.sockets == 0 {
        format!("no socket in {}", app.watched)
    } else if app.filter.is_empty() {
        "none of its sockets is there any more; Esc goes back".to_owned()
    } else {
        let sockets = counted(app.counted.sockets, "socket", "sockets");
        format!("no match in {sockets}; Esc ends the filter")
    }
}

/// Whether rows stand still, and how a recording is played.
fn how(app: &App) -> String {
    match &app.played {
        Some(played) if played.is_over => "  REPLAY ENDED".to_owned(),
        Some(played) if played.stands => "  REPLAY STOPPED".to_owned(),
        Some(played) => format!("  REPLAY x{}", played.speed),
        None if app.paused => "  PAUSED".to_owned(),
        None => String::new(),
    }
}

fn title(app: &App, screen: &mut Canvas<'_>) {
    screen.fill(0, BAR);
    let paused = how(app);
    let scope = app.within.as_ref().map(|scope| format!("  of {}", scope.name)).unwrap_or_default();
    // What the user went into, before what is cut first.
    let name = format!("tcptrace top{scope}  {}", app.watched);
    // Before the first scan nothing is known, not even as of when.
    let time = if app.now == 0 { String::new() } else { app.clock.short(app.now) };
    let right = format!("{paused}  {time}");
    let room = screen.width.saturating_sub(right.width());
    screen.put_within(0, 0, &safe(&name), room, BAR.add_modifier(Modifier::BOLD));
    screen.put(room, 0, &right, BAR);
}

fn counts(app: &App, screen: &mut Canvas<'_>) {
    let counted = &app.counted;
    let mut at = 0;
    let style = if counted.leaks > 0 { screen.bad() } else { BOLD };
    let leaks = if app.now == 0 { "-".to_owned() } else { counted.leaks.to_string() };
    at = screen.put(at, 1, &format!("leaks {leaks}"), style);
    for (state, n) in &counted.states {
        at = screen.put(at, 1, &format!("  {} {n}", state.name()), PLAIN);
    }
    if let Some(n) = app.seen.time_wait {
        at = screen.put(at, 1, &format!("  {} {n}", TcpState::TimeWait.name()), PLAIN);
    }
    let lost = app.lost.total();
    at = if lost > 0 {
        let text = format!("  lost {lost} ({})", table::lost_text(&app.lost));
        screen.put(at, 1, &text, screen.bad())
    } else {
        screen.put(at, 1, "  lost 0", DIM)
    };
    if !app.notes.is_empty() {
        screen.put(at, 1, &format!("  notes {} (?)", app.notes.len()), BOLD);
    }
}

/// What is pictured of the last minutes.
struct Pictured {
    name: &'static str,
    color: Color,
    count: fn(&Sample) -> u64,
}

const PICTURED: [Pictured; 3] = [
    Pictured { name: "CLOSE_WAIT", color: Color::Red, count: |s| s.close_wait },
    Pictured { name: "new/s", color: Color::Magenta, count: |s| s.new },
    Pictured { name: "resolved/s", color: Color::Green, count: |s| s.resolved },
];

fn pictures(app: &App, screen: &mut Canvas<'_>) {
    let newest = app.history.newest();
    for (n, Pictured { name, color, count }) in PICTURED.into_iter().enumerate() {
        let y = 2 + n;
        screen.put(0, y, name, DIM);
        let number = format!("{:>NUMBER$}", count(&newest));
        screen.put(LABEL, y, &number, PLAIN);
        let from = LABEL + NUMBER + 1;
        let picture = app.history.picture(screen.width.saturating_sub(from), count);
        screen.put(from, y, &picture, screen.coloured(color));
    }
}

fn line_of_heads(app: &App, fitting: &[(Column, usize)], y: usize, screen: &mut Canvas<'_>) {
    let style = DIM.add_modifier(Modifier::UNDERLINED);
    screen.fill(y, style);
    let mut x = 0;
    for (column, width) in fitting {
        let name = match column {
            Column::Local if app.by == Some(GroupBy::Listener) => "LISTENER",
            column => column.head(),
        };
        aligned(*column, name, x, y, *width, style, screen);
        x += width + 1;
    }
}

fn line_of_cells(
    app: &App,
    row: &Row,
    fitting: &[(Column, usize)],
    y: usize,
    selected: bool,
    screen: &mut Canvas<'_>,
) {
    if selected {
        screen.fill(y, BAR);
    }
    let mut x = 0;
    for (column, width) in fitting {
        let style = if selected { BAR } else { style_of(*column, row, screen) };
        aligned(*column, &column.cell(row, app.seen.now), x, y, *width, style, screen);
        x += width + 1;
    }
}

fn style_of(column: Column, row: &Row, screen: &Canvas<'_>) -> Style {
    match column {
        Column::Verdict if row.leaks > 0 => screen.coloured(Color::Red),
        Column::Count if row.leaks > 0 => screen.bad(),
        Column::Verdict if row.oldest.verdict == Some(Verdict::HalfCloseInUse) => {
            screen.coloured(Color::Green)
        }
        Column::Growth if row.growth > 0 => screen.coloured(Color::Magenta),
        Column::Growth if row.growth < 0 => screen.coloured(Color::Green),
        Column::Holder => BOLD,
        _ => PLAIN,
    }
}

fn aligned(
    column: Column,
    text: &str,
    x: usize,
    y: usize,
    width: usize,
    style: Style,
    screen: &mut Canvas<'_>,
) {
    let text = &*match column {
        Column::Holder => named_within(text, width),
        _ => text.to_owned(),
    };
    let before = if column.is_number() { width.saturating_sub(text.width()) } else { 0 };
    screen.put_within(x + before, y, text, width, style);
}

/// A process's name cut to fit, but not its pid.
fn named_within(text: &str, width: usize) -> String {
    match text.rfind('[').map(|at| text.split_at(at)) {
        Some((name, pid)) if text.width() > width && pid.width() < width => {
            table::cut(name, width - pid.width()) + pid
        }
        _ => text.to_owned(),
    }
}

/// The filter, what the last key did, or what keys do.
fn last_line(app: &App, screen: &mut Canvas<'_>) -> Option<(u16, u16)> {
    let y = screen.height - 1;
    if app.typing {
        let at = screen.put(0, y, &format!("/{}", safe(&app.filter)), BOLD);
        return Some((cell(at.min(screen.width - 1)), cell(y)));
    }
    let order = if app.reverse { " reversed" } else { "" };
    let filter =
        if app.filter.is_empty() { String::new() } else { format!("  /{}", safe(&app.filter)) };
    let keys = match &app.message {
        Some(message) => message.clone(),
        None => format!(
            "? help  Enter explain  / filter  g by {}  s by {}{order}  {}{filter}",
            rows::name(app.by),
            app.sort.name(),
            if app.played.is_some() { "space stop  left, right seek" } else { "space pause" },
        ),
    };
    let of = match app.rows.len() {
        0 => String::new(),
        all => format!("  {}/{all}", app.selected + 1),
    };
    let room = screen.width.saturating_sub(of.width());
    screen.put_within(0, y, &keys, room, DIM);
    screen.put(room, y, &of, DIM);
    None
}

fn page_view(app: &App, page: &Page, screen: &mut Canvas<'_>) {
    screen.fill(0, BAR);
    let gone = if page.gone { "  ended: as last seen" } else { "" };
    let paused = how(app);
    let right = format!("{gone}{paused}  {}", app.clock.short(app.now));
    let room = screen.width.saturating_sub(right.width());
    screen.put_within(0, 0, &safe(&page.title), room, BAR.add_modifier(Modifier::BOLD));
    screen.put(room, 0, &right, BAR);
    let lines = page.lines.get(page.scroll..).unwrap_or_default();
    for (n, line) in lines.iter().take(app.page_shown()).enumerate() {
        screen.put(0, 1 + n, &line.text, if line.heading { BOLD } else { PLAIN });
    }
    if screen.height < 2 {
        return;
    }
    let sockets =
        if page.by.is_none() || app.within.is_some() { "" } else { "  Enter its sockets" };
    let more = lines.len().saturating_sub(app.page_shown());
    let more = match more {
        0 => String::new(),
        more => format!("  {}", counted(more as u64, "more line", "more lines")),
    };
    let keys = app
        .message
        .clone()
        .unwrap_or_else(|| format!("Esc back{sockets}  y copy ends  space pause  q quit"));
    let room = screen.width.saturating_sub(more.width());
    screen.put_within(0, screen.height - 1, &keys, room, DIM);
    screen.put(room, screen.height - 1, &more, DIM);
}

fn help_view(app: &App, screen: &mut Canvas<'_>) {
    screen.fill(0, BAR);
    screen.put(0, 0, "tcptrace top: keys; any key goes back", BAR.add_modifier(Modifier::BOLD));
    let mut y = 1;
    let playing: &[_] = if app.played.is_some() { help::PLAYING } else { &[] };
    let live = |(name, _): &&(&str, _)| playing.is_empty() || !name.starts_with("space");
    let keys = help::KEYS.iter().filter(live).chain(playing);
    for (name, text) in keys.chain(help::COLUMNS) {
        screen.put(0, y, name, BOLD);
        screen.put(16, y, text, PLAIN);
        y += 1;
    }
    let notes = app.notes.iter().map(|note| format!("! {}", safe(note)));
    for text in std::iter::once(help::COPYING.to_owned()).chain(notes) {
        for line in wrapped(&text, screen.width) {
            screen.put(0, y, &line, PLAIN);
            y += 1;
        }
    }
}

/// Words, as many a line as fit.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if line.width() + 1 + word.width() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_cut_and_a_pid_is_not() {
        assert_eq!(named_within("python3 leak.py[4711]", 30), "python3 leak.py[4711]");
        assert_eq!(named_within("python3 leak.py[4711]", 14), "python3…[4711]");
        assert_eq!(named_within("nobody known", 6), "nobody known");
        assert_eq!(named_within("x[4711]", 5), "x[4711]", "cut later, as all cells are");
    }
}
