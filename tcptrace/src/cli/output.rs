//! How results are shown: format, colour, time zone.

use std::io::{self, BufWriter, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use clap::ValueEnum;
use jiff::Timestamp;

use crate::{
    engine::record::BootNs,
    view::{
        Clock, View,
        csv::{Columns, Csv},
        json::Json,
        table::Table,
    },
};

/// Width of tables that go to no terminal: nothing is cut or wrapped.
const UNBOUNDED: usize = 1 << 20;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Aligned columns, for people
    Table,
    /// One object a line
    Json,
    /// One row an event, with a header
    Csv,
}

/// `--color`.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Color {
    /// On a terminal
    Auto,
    /// Even into a pipe
    Always,
    /// Never
    Never,
}

#[derive(Debug, clap::Args)]
#[group(id = "output")]
#[command(next_help_heading = "Output")]
pub struct Args {
    /// How to show results; they go to stdout, all else to stderr
    #[arg(long, value_name = "FORMAT", default_value = "table")]
    format: Format,

    /// As --format json
    #[arg(short, long, conflicts_with = "format")]
    json: bool,

    /// When to use colour
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    color: Color,

    /// Show times of the table in UTC instead of local time (JSON and CSV always use UTC)
    #[arg(long)]
    utc: bool,
}

impl Args {
    /// Whether it is laid out for people.
    pub fn is_page(&self) -> bool {
        matches!(self.format(), Format::Table)
    }

    /// Whether times are in UTC for people, too.
    pub fn is_utc(&self) -> bool {
        self.utc
    }

    /// Whether it is rows for a spreadsheet.
    pub fn is_csv(&self) -> bool {
        matches!(self.format(), Format::Csv)
    }

    /// The columns that there are for people.
    pub fn width(&self) -> usize {
        named_width().or_else(measured).unwrap_or(UNBOUNDED)
    }

    fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }

    /// The view that was asked for; `columns`: those of CSV.
    pub fn view(&self, boot: BootNs, columns: Columns) -> io::Result<Box<dyn View>> {
        self.view_at(Timestamp::now(), boot, columns)
    }

    /// The same, where the time of day is `now` when the boot clock shows `boot`.
    pub fn view_at(
        &self,
        now: Timestamp,
        boot: BootNs,
        columns: Columns,
    ) -> io::Result<Box<dyn View>> {
        let clock = Clock::new(now, boot, self.utc);
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        Ok(match self.format() {
            Format::Json => Box::new(Json::new(buffered(stdout), clock)),
            Format::Csv => Box::new(Csv::new(buffered(stdout), clock, columns)?),
            Format::Table => {
                let choice = match self.color {
                    Color::Auto => AutoStream::choice(&stdout),
                    Color::Always => ColorChoice::Always,
                    Color::Never => ColorChoice::Never,
                };
                let out = AutoStream::new(Box::new(buffered(stdout)) as Box<dyn Write>, choice);
                Box::new(table(out, clock, terminal))
            }
        })
    }
}

fn buffered(out: io::Stdout) -> BufWriter<io::Stdout> {
    BufWriter::with_capacity(64 << 10, out)
}

/// As wide as COLUMNS says, else as the terminal is, whenever a row is written.
fn table<W: Write>(out: W, clock: Clock, terminal: bool) -> Table<W> {
    let named = named_width();
    let table = Table::new(out, clock, named.unwrap_or(UNBOUNDED));
    if terminal && named.is_none() { table.following(measured) } else { table }
}

fn named_width() -> Option<usize> {
    std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok()).filter(|c| *c > 0)
}

fn measured() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}
