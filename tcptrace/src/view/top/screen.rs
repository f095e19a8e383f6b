//! The terminal: taken over, drawn on, and left as it was, however the program ends.

use std::{
    io::{self, BufWriter, Stdout, Write},
    panic,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use crossterm::{
    clipboard::CopyToClipboard,
    cursor::{Hide, Show},
    event::{DisableMouseCapture, EnableMouseCapture},
    execute, queue,
    style::{ResetColor, force_color_output},
    terminal::{
        self, Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
        enable_raw_mode,
    },
};
use ratatui::{Terminal, TerminalOptions, Viewport, backend::CrosstermBackend, layout::Rect};

use super::{app::App, draw::draw};

/// What a frame is put together in: one write, one frame.
type Out = BufWriter<Stdout>;
const FRAME: usize = 64 << 10;

/// The terminal is ours.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal while it is ours.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Out>>,
}

impl Screen {
    /// Takes the terminal over; a panic, too, leaves it as it was. To be called before system calls
    /// are filtered.
    ///
    /// # Errors
    /// What the terminal answers; then it is as it was.
    pub fn enter(colour: bool) -> io::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            leave();
            before(info);
        }));
        TAKEN.store(true, SeqCst);
        let entered = Self::enter_unguarded(colour);
        if entered.is_err() {
            leave();
        }
        entered
    }

    fn enter_unguarded(colour: bool) -> io::Result<Self> {
        force_color_output(colour);
        let (width, height) = terminal::size()?;
        enable_raw_mode()?;
        execute!(io::stdout(), EnterAlternateScreen, EnableMouseCapture, Hide)?;
        Ok(Self { terminal: sized(width, height)? })
    }

    /// Columns and lines.
    #[must_use]
    pub fn size(&mut self) -> (u16, u16) {
        let area = self.terminal.get_frame().area();
        (area.width, area.height)
    }

    /// The terminal has this size now. Never asks for it by itself: where nobody answers, crossterm
    /// would run another program.
    ///
    /// # Errors
    /// What the terminal answers.
    pub fn resize(&mut self, width: u16, height: u16) -> io::Result<()> {
        execute!(io::stdout(), Clear(ClearType::All))?;
        self.terminal = sized(width, height)?;
        Ok(())
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// What the terminal answers.
    pub fn draw(&mut self, app: &App) -> io::Result<()> {
        self.terminal.draw(|frame| draw(app, frame)).map(drop)
    }

    /// Hands a text to the terminal's clipboard (OSC 52).
    ///
    /// # Errors
    /// What the terminal answers.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        execute!(io::stdout(), CopyToClipboard::to_clipboard_from(text))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn sized(width: u16, height: u16) -> io::Result<Terminal<CrosstermBackend<Out>>> {
    let backend = CrosstermBackend::new(BufWriter::with_capacity(FRAME, io::stdout()));
    let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
    Terminal::with_options(backend, TerminalOptions { viewport })
}

/// Leaves the terminal as it was, once.
fn leave() {
    if !TAKEN.swap(false, SeqCst) {
        return;
    }
    let mut out = io::stdout();
    // Where there is no terminal any more, there is nothing to restore.
    let _ = queue!(out, DisableMouseCapture, ResetColor, LeaveAlternateScreen, Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}
