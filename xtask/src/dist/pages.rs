//! Writes the manual pages and the shell completions, as the command line is: `pages DIR`. An
//! example of the library, so that xtask itself builds without kernel programs.

use std::{
    env, fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Context, Result};
use clap::{Command, CommandFactory};
use clap_complete::{Shell, generate_to};
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};
use jiff::{Timestamp, tz::TimeZone};
use tcptrace::{cli::Cli, exit::Exit};

fn main() -> Result<()> {
    let dir = env::args_os().nth(1).context("usage: pages DIR")?;
    let dir = Path::new(&dir);
    let (man, completions) = (dir.join("man"), dir.join("completions"));
    for dir in [&man, &completions] {
        fs::create_dir_all(dir)?;
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Cli::command(), "tcptrace", &completions)?;
    }
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let names: Vec<String> = root.get_subcommands().map(name).collect();
    page(&root, &names, &man)?;
    for command in root.get_subcommands() {
        let others = names.iter().filter(|other| **other != name(command)).cloned();
        let also: Vec<String> = [name(&root)].into_iter().chain(others).collect();
        page(command, &also, &man)?;
        for action in command.get_subcommands() {
            page(action, &[name(&root), name(command)], &man)?;
        }
    }
    Ok(())
}

/// `tcptrace-watch`.
fn name(command: &Command) -> String {
    command.get_display_name().unwrap_or(command.get_name()).to_owned()
}

fn page(command: &Command, also: &[String], dir: &Path) -> Result<()> {
    let name = name(command);
    let mut file = fs::File::create(dir.join(format!("{name}.1")))?;
    let man = Man::new(command.clone())
        .title(name.to_uppercase())
        .date(date()?)
        .source(format!("tcptrace {}", env!("CARGO_PKG_VERSION")))
        .manual("tcptrace");
    man.render_title(&mut file)?;
    man.render_name_section(&mut file)?;
    man.render_synopsis_section(&mut file)?;
    man.render_description_section(&mut file)?;
    man.render_options_section(&mut file)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut file)?;
    }
    if let Some(help) = command.get_after_help() {
        below(&help.to_string(), &mut file)?;
    }
    exit_status(&mut file)?;
    see_also(also, &mut file)?;
    file.flush()?;
    Ok(())
}

/// What stands below the flags in the help, `Examples:` or `Keys:`, laid out there already.
fn below(help: &str, to: &mut impl Write) -> io::Result<()> {
    let mut roff = Roff::new();
    let (title, lines) = help.split_once(":\n").unwrap_or(("Notes", help));
    roff.control("SH", [title.to_uppercase().as_str()]).control("nf", []);
    let lines = lines.lines();
    roff.text(lines.map(|line| roman(format!("{}\n", line.trim_start()))).collect::<Vec<_>>());
    roff.control("fi", []);
    roff.to_writer(to)
}

fn exit_status(to: &mut impl Write) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for exit in Exit::ALL {
        roff.control("TP", []).text([bold(exit.code().to_string())]).text([roman(exit.meaning())]);
    }
    roff.to_writer(to)
}

fn see_also(names: &[String], to: &mut impl Write) -> io::Result<()> {
    let last = names.len() - 1;
    let text = names.iter().enumerate().flat_map(|(n, name)| {
        let after = if n == last { "(1)" } else { "(1), " };
        [bold(name), roman(after)]
    });
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]).text(text.collect::<Vec<_>>());
    roff.to_writer(to)
}

/// The day of SOURCE_DATE_EPOCH, where that is given: the same sources, the same pages.
fn date() -> Result<String> {
    let Ok(seconds) = env::var("SOURCE_DATE_EPOCH") else { return Ok(String::new()) };
    let time = Timestamp::from_second(seconds.parse().context("SOURCE_DATE_EPOCH")?)?;
    Ok(time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string())
}
