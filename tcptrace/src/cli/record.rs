//! `tcptrace record`: keeps what a watch learns in a file.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;

use super::{attach, btf, leaks, live, recording, report::Nobody, select, settings, warn};
use crate::{
    engine::{parse, parse::MinAge, watch::Plan},
    exit::{Exit, Failure},
    prose::words::bytes,
    source::{
        live::{boot_now, memory},
        recording::options::{Options, SMALLEST, Written},
    },
    view::Clock,
};

/// Keep what a watch learns in a file: the evidence, before the restart that ends it
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "Keep what a watch learns in a file: the evidence, before the restart that ends it.\n\n",
        "tcptrace replay shows the file as the watch would have shown it, with any selection; ",
        "tcptrace report makes one page of it; both on any machine. The file has what the kernel ",
        "programs saw and who held which socket: addresses, processes with their command lines ",
        "and cgroups, what threads waited in. Command lines may hold secrets: --redact args ",
        "leaves their arguments out; environments are never read. Nobody but its owner may read ",
        "the file. Needs root, or CAP_BPF and CAP_PERFMON.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace record -o leak.tct                      until Ctrl-C\n",
        "  tcptrace record -o leak.tct --duration 10m --redact args\n",
        "  tcptrace record -o leak.tct --on-leak 5m         nothing, until a leak is reported: then\n",
        "                                                   the five minutes before it and all after\n",
        "  tcptrace record -o leak.tct --max-size 1g        for weeks, in eight files of 128 MiB\n",
        "  ssh host sudo tcptrace record -o - | tcptrace replay -",
    )
)]
pub struct Args {
    /// The file; - is stdout. What is there already is not overwritten
    #[arg(short, long, value_name = "FILE", value_parser = recording::file)]
    output: PathBuf,

    /// Report stays longer than this, or than is normal there; shorter ones are not kept
    #[arg(long, value_name = "DUR|auto", default_value = "1s", value_parser = parse::min_age)]
    min_age: MinAge,

    /// Also keep every matching change of state
    #[arg(long)]
    transitions: bool,

    /// Stop after this time
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    duration: Option<Duration>,

    /// Leave this out
    #[arg(long, value_name = "WHAT", value_delimiter = ',')]
    redact: Vec<Redact>,

    /// All files together take no more than this; the oldest goes [default: no bound]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,

    /// Begin another file, FILE.1, FILE.2, after this time
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    rotate: Option<Duration>,

    /// Keep so many files; the oldest goes [default: 8 with --max-size, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keep: Option<u32>,

    /// Write nothing before a leak is reported; then this much of what was before it, too
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    on_leak: Option<Duration>,

    /// Scan what is live this often [default: a quarter of --min-age, between 50ms and 500ms]
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    interval: Option<Duration>,

    #[command(flatten)]
    leaks: leaks::Args,

    /// Keep who opened each connection and who reads from it, with their places in the code
    #[arg(long)]
    origins: bool,

    #[command(flatten)]
    btf: btf::Args,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

/// `--redact`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Redact {
    /// Arguments of command lines
    Args,
}

/// `100m`: bytes, or so many KiB, MiB or GiB.
fn size(text: &str) -> Result<u64, String> {
    const HELP: &str = "write a size of 2m at least, such as 100m or 2g";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return Err(HELP.to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| HELP)?;
    number.checked_mul(unit).filter(|size| *size >= 2 * SMALLEST).ok_or_else(|| HELP.to_owned())
}

/// Runs the command.
pub fn run(mut args: Args) -> Result<Exit, Failure> {
    memory::keep_little();
    args.select.state = Some(args.select.watchable()?);
    let options = args.options()?;
    let plan = Plan {
        selection: args.select.resolve()?,
        states: args.select.states().0,
        transitions: args.transitions,
        threads: true,
        ..Plan::default()
    }
    .reporting(args.min_age);
    let btf = args.btf.resolve()?;
    let prepared = recording::prepare("--output", options, &plan)?;
    let job = live::Job {
        announcement: args.announcement(),
        plan,
        how: attach::How {
            btf: &btf,
            ring_kib: None,
            interval: args.interval,
            origins: args.origins,
            exits: false,
            lowest_min_age: None,
        },
        view: Box::new(Nobody(Clock::new(jiff::Timestamp::now(), boot_now(), false))),
        reports: None,
        recording: Some(prepared),
        report: None,
        closing: None,
        only_records: true,
        duration: args.duration,
        leaks: &args.leaks,
        reloads: settings::Reloads::none(),
        reload: &mut |_| None,
    };
    let (written, exit) = attach::runtime()?.block_on(live::run(job))?;
    if let Some(written) = written {
        warn(&args.last_word(&written));
    }
    Ok(exit)
}

impl Args {
    fn options(&self) -> Result<Options, Failure> {
        let to_stdout = self.output == Path::new("-");
        let bounds = [
            ("--max-size", self.max_size.is_some()),
            ("--rotate", self.rotate.is_some()),
            ("--keep", self.keep.is_some()),
        ];
        if let Some((flag, _)) = bounds.iter().find(|(_, given)| to_stdout && *given) {
            return Err(Failure::usage(format!(
                "{flag}: stdout is no file; name one with -o FILE"
            )));
        }
        if to_stdout && io::stdout().is_terminal() {
            return Err(Failure::usage(
                "-o -: a recording is nothing for a terminal; name a file, or pipe it into \
                 tcptrace replay -",
            ));
        }
        if self.keep.is_some() && self.max_size.is_none() && self.rotate.is_none() {
            return Err(Failure::usage(
                "--keep: there is one file only, without --max-size or --rotate",
            ));
        }
        if let Some((all, keep)) = self.max_size.zip(self.keep)
            && all / u64::from(keep) < SMALLEST
        {
            return Err(Failure::usage(format!(
                "--max-size: {keep} files share it, each needs 1m at least"
            )));
        }
        Ok(Options {
            path: (!to_stdout).then(|| self.output.clone()),
            max_size: self.max_size,
            keep: self.keep,
            rotate: self.rotate,
            on_leak: self.on_leak,
            memory: None,
            without_arguments: self.redact.contains(&Redact::Args),
        })
    }

    fn file(&self) -> String {
        if self.output == Path::new("-") {
            "stdout".to_owned()
        } else {
            self.output.display().to_string()
        }
    }

    fn announcement(&self) -> String {
        let mut watched = attach::watched(self.select.states().0, self.min_age);
        watched += &self.select.told();
        let until = if self.duration.is_some() { "" } else { "; Ctrl-C ends it" };
        let file = self.file();
        match self.on_leak {
            Some(_) => format!("waiting for a leak ({watched}) to write {file}{until}"),
            None => format!("recording {watched} to {file}{until}"),
        }
    }

    fn last_word(&self, written: &Written) -> String {
        let Written { files, bytes: size, facts, forgotten } = written;
        let file = self.file();
        let bound = if *forgotten {
            "; of the time before the leak there is less than was asked for: more memory than 64 \
             MiB is not taken"
        } else {
            ""
        };
        match files.as_slice() {
            _ if *size == 0 => format!("no leak was reported, so {file} was not written"),
            [] => format!("{} with {facts} facts were written", bytes(*size)),
            [_] => format!(
                "{file}: {} with {facts} facts{bound}; tcptrace replay {file} shows them, tcptrace \
                 report {file} makes a page of them",
                bytes(*size)
            ),
            [.., last] => format!(
                "{} files up to {}: {} with {facts} facts were written{bound}; tcptrace replay \
                 {file}* shows what is kept",
                files.len(),
                last.display(),
                bytes(*size)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("100m"), Ok(100 << 20));
        let all = [size("2g"), size("2097152"), size("2048KiB")];
        assert_eq!(all, [Ok(2 << 30), Ok(2 << 20), Ok(2 << 20)]);
        for wrong in ["", "m", "1m", "-2m", "1x", "1.5g", "99999999999999g", "ä"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
