//! `tcptrace report`, and `--report` of the commands that look at this host: a page to hand over.

mod file;

use std::{io, io::Write, path::PathBuf};

use clap::ValueEnum;

pub use self::file::ReportFile;
use super::{ended_by, recording, replay, select, session::Session, warn};
use crate::{
    engine::{
        incident::{
            Incident,
            about::Provenance,
            compare::{Digest, compare},
        },
        record::BootNs,
        update::Update,
    },
    exit::{Exit, Failure},
    source::{
        live::header,
        recording::{Header, file::Recording},
    },
    view::{
        Clock, View,
        report::{IncidentReport, Side, compared_html, compared_markdown},
    },
};

/// How a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One page that needs nothing else
    Html,
    /// A few lines of Markdown, for a ticket
    Md,
}

/// `--report`.
#[derive(Debug, clap::Args)]
pub struct Flag {
    /// Write a report to hand over, at the end: a page of HTML, or Markdown (FILE.md)
    #[arg(long = "report", value_name = "FILE", value_parser = recording::file)]
    report: Option<PathBuf>,
}

impl Flag {
    /// Whether there is one.
    pub fn is_some(&self) -> bool {
        self.report.is_some()
    }

    /// Opens it, if there is one, before rights are given up.
    pub fn open(&self) -> Result<Option<ReportFile>, Failure> {
        self.report.as_deref().map(|path| ReportFile::open("--report", path)).transpose()
    }
}

/// Make a page of a recording to hand over, or compare two
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "Make a page of a recording to hand over, or compare two.\n\n",
        "The page needs no network and no other file: who leaked, since when, how fast, why, what ",
        "to do and what it is not; charts, sockets over time, a table to sort and filter, the ",
        "evidence behind each verdict, and what was lost or is not known. Of two recordings it ",
        "says what became of the leaks from the first to the second: fixed, better, unchanged, ",
        "worse or new, per 1,000 connections where both counted those. Needs no rights, and works ",
        "on any machine. Exit code 1 says that something could not be read; what could is told.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace report leak.tct -o leak.html            a page\n",
        "  tcptrace report leak.tct                         Markdown, for a ticket\n",
        "  tcptrace report leak.tct* --pid 4711 -o leak.html   of one process, from all files of it\n",
        "  tcptrace report before.tct after.tct -o fixed.html  before and after the fix\n",
    )
)]
pub struct Args {
    /// A recording: one file, or all that it was cut into; or two recordings, before and after
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Write it there instead of to stdout (-)
    #[arg(short, long, value_name = "FILE", value_parser = recording::file)]
    output: Option<PathBuf>,

    /// How it is written [default: by the ending of the output's name; to stdout, md]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// Show times in UTC instead of local time
    #[arg(long)]
    utc: bool,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

/// Where and how a report is made that is of this host, now.
pub fn made_here() -> Provenance {
    let command = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let tool = concat!("tcptrace ", env!("CARGO_PKG_VERSION")).to_owned();
    of_header(Header { tool, command, ..header::header() })
}

/// The same of a recording.
pub fn of_header(header: Header) -> Provenance {
    let known = |text: String| Some(text).filter(|text| !text.is_empty());
    Provenance {
        host: known(header.host),
        kernel: known(header.kernel),
        tool: header.tool,
        command: header.command,
        missing: Vec::new(),
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let recordings = opened(&args.files)?;
    let mut told = Vec::new();
    for recording in recordings {
        told.push(Told::of(recording, args)?);
    }
    let damaged = told.iter().any(|told| told.damaged);
    let output = args.output.as_ref().filter(|path| path.as_os_str() != "-");
    let format = args.format.unwrap_or(match output {
        Some(path) => ReportFile::format(path),
        None => Format::Md,
    });
    let page = match &told[..] {
        [before, after] => {
            let digests = [before, after].map(|told| Digest::of(&told.incident));
            let comparison = compare(&digests[0], &digests[1]);
            let sides = [before.side(), after.side()];
            match format {
                Format::Html => compared_html(&comparison, &sides),
                Format::Md => compared_markdown(&comparison, &sides),
            }
        }
        told => told.iter().map(|told| told.page(format)).collect(),
    };
    match output {
        Some(path) => ReportFile::open("--output", path)?.replace(&page)?,
        None => {
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(page.as_bytes()).and_then(|()| stdout.flush());
            if let Err(e) = written {
                return ended_by(e);
            }
        }
    }
    Ok(if damaged { Exit::Failed } else { Exit::Done })
}

/// One recording, or two.
fn opened(files: &[PathBuf]) -> Result<Vec<Named>, Failure> {
    let name = |paths: &[PathBuf]| {
        let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
        match paths.len() {
            1 => first,
            n => format!("{first} and {} more", n - 1),
        }
    };
    if let [one] = files {
        let files = std::slice::from_ref(one);
        return Ok(vec![Named { name: name(files), recording: replay::open(files)? }]);
    }
    let mut groups: Vec<(u64, Vec<PathBuf>)> = Vec::new();
    for path in files {
        let id = replay::open(std::slice::from_ref(path))?.header().recording;
        match groups.iter_mut().find(|(of, _)| *of == id) {
            Some((_, paths)) => paths.push(path.clone()),
            None => groups.push((id, vec![path.clone()])),
        }
    }
    if groups.len() > 2 {
        return Err(Failure::usage(format!(
            "the files are of {} recordings; a report is of one, or compares two",
            groups.len()
        )));
    }
    let open = |(_, paths): (u64, Vec<PathBuf>)| {
        Ok(Named { name: name(&paths), recording: replay::open(&paths)? })
    };
    groups.into_iter().map(open).collect()
}

/// A recording, and what the user calls it.
struct Named {
    name: String,
    recording: Recording,
}

/// What a recording tells.
struct Told {
    name: String,
    incident: Incident,
    clock: Clock,
    damaged: bool,
}

impl Told {
    fn of(named: Named, args: &Args) -> Result<Self, Failure> {
        let Named { name, mut recording } = named;
        let header = recording.header().clone();
        let plan = replay::plan(&header, &args.select, None)?;
        let began = header.began();
        let clock = Clock::new(began, header.began_ns, args.utc);
        let began_ns = header.began_ns;
        let mut incident = Incident::of_watch(of_header(header), &plan);
        incident.begin(began_ns);
        let view = Box::new(Nobody(clock));
        let mut session = Session::new(plan, view, None).with_incident(Some(incident));
        let (mut now, mut missing) = (began_ns, Vec::new());
        let io = |e: io::Error| Failure { exit: Exit::Failed, message: format!("{name}: {e}") };
        loop {
            let next = recording.next_batch();
            for line in recording.take_missing() {
                warn(&line);
                missing.push(line);
            }
            let Some(batch) = next.map_err(io)? else { break };
            now = batch.now;
            session.take(batch.facts);
            session.show(now).map_err(io)?;
        }
        session.finish(now).map_err(io)?;
        let (incident, clock) = session.into_incident();
        let Some(mut incident) = incident else {
            return Err(Failure {
                exit: Exit::Failed,
                message: format!("{name}: nothing to tell"),
            });
        };
        let damaged = !missing.is_empty();
        incident.made.missing = missing;
        Ok(Self { name, incident, clock, damaged })
    }

    fn report(&self) -> IncidentReport<'_> {
        IncidentReport { incident: &self.incident, clock: &self.clock }
    }

    fn page(&self, format: Format) -> String {
        file::page(&self.report(), format)
    }

    fn side(&self) -> Side {
        let period = self.incident.span().map_or_else(
            || "nothing".to_owned(),
            |span| format!("{} to {}", self.clock.long(span.from_ns), self.clock.long(span.to_ns)),
        );
        Side { name: self.name.clone(), made: self.incident.made.clone(), period }
    }
}

/// A view that nobody looks at.
pub struct Nobody(pub Clock);

impl View for Nobody {
    fn update(&mut self, _: BootNs, _: &Update) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn clock(&mut self) -> &mut Clock {
        &mut self.0
    }
}
