//! `tcptrace watch`: reports sockets that stay in a state, live.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    Command, attach, btf, close, ended_by,
    group::By,
    leaks, live, nanoseconds, output, recording, report,
    report::ReportFile,
    select, settings,
    settings::{FileSettings, Reloads, reload::FlagChange},
};
use crate::{
    engine::{parse, parse::MinAge, reports::Reports, select::Selection, watch::Plan},
    exit::{Exit, Failure},
    source::{
        live::{boot_now, memory},
        recording::{options::Options, recorder::Prepared},
    },
    view::csv::Columns,
};

/// Watch sockets live: who lets them sit in a state, since when, and why
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "Watch sockets live: who lets them sit in a state, since when, and why.\n\n",
        "Reports sockets that stay in the state longer than --min-age, again each time their age ",
        "doubles, and then that they were resolved and by whom. The table tells sockets together ",
        "that have the same holders, verdict and end: one line says how many there are, how many ",
        "of those are new, and how old the oldest is; the next comes when one of them has ",
        "doubled. Ctrl-C ends with who leaks most, how fast, and what to do. Needs root, or ",
        "CAP_BPF and CAP_PERFMON.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace watch                                   every CLOSE_WAIT older than 1s, whole machine\n",
        "  tcptrace watch --pid 4711 --min-age 10s          of one process\n",
        "  tcptrace watch --cgroup system.slice/app.service of one service\n",
        "  tcptrace watch --transitions --state all --lport 8080   every change of state on a port\n",
        "  tcptrace watch --duration 1m --fail-on-leak      for scripts: exit code 3 if leaks stay open",
    )
)]
pub struct Args {
    /// Report stays longer than this; 0 reports every stay; auto: what is longer than normal there
    #[arg(long, value_name = "DUR|auto", default_value = "1s", value_parser = parse::min_age)]
    min_age: MinAge,

    /// Also stream every matching change of state, as it happens
    #[arg(long)]
    transitions: bool,

    /// Stop after this time
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    duration: Option<Duration>,

    /// Stop after so many reports (with --transitions: so many transitions)
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    /// Scan what is live this often [default: a quarter of --min-age, between 50ms and 500ms]
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    interval: Option<Duration>,

    #[command(flatten)]
    leaks: leaks::Args,

    /// Table: tell sockets together that have this in common [default: holders, verdict and end]
    #[arg(long, value_name = "WHAT")]
    group_by: Option<By>,

    /// Table: a line a socket, as --group-by none; JSON and CSV always have that
    #[arg(long, conflicts_with = "group_by")]
    each: bool,

    /// Keep what is learnt in this file too, as tcptrace record does; replay and report read it
    #[arg(long, value_name = "FILE", value_parser = recording::file)]
    record: Option<PathBuf>,

    #[command(flatten)]
    report: report::Flag,

    /// Size of the event buffer in KiB, a power of two
    #[arg(long, value_name = "KIB", value_parser = ring_kib)]
    ring_size: Option<u32>,

    /// Keep who opened each connection and who reads from it, with their places in the code
    #[arg(long)]
    origins: bool,

    #[command(flatten)]
    close: close::beside::Args,

    #[command(flatten)]
    config: settings::ConfigFlag,

    #[command(flatten)]
    btf: btf::Args,

    #[command(flatten)]
    output: output::Args,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

fn ring_kib(text: &str) -> Result<u32, String> {
    let kib: u32 = text.parse().map_err(|_| "write a number of KiB".to_owned())?;
    let fits = kib.is_power_of_two() && (4..=1 << 20).contains(&kib);
    if fits { Ok(kib) } else { Err("write a power of two from 4 to 1048576".to_owned()) }
}

impl Args {
    /// Looks everything up that was named.
    fn prepare(&mut self) -> Result<(Selection, PathBuf), Failure> {
        self.select.state = Some(self.select.watchable()?);
        self.close.check(self.min_age.duration(), self.output.is_csv())?;
        Ok((self.select.resolve()?, self.btf.resolve()?))
    }

    fn plan(&self, selection: Selection) -> Plan {
        Plan {
            selection,
            states: self.select.states().0,
            transitions: self.transitions,
            threads: true,
            count: self.count,
            ..Plan::default()
        }
        .reporting(self.min_age)
    }

    /// Reads the file of settings again: what scans are to be like from now on, if that was good.
    fn reload(&self, reloads: &mut Reloads) -> Option<live::ScanPace> {
        // Those who read them later go by what min-age was at the start.
        let is_kept = self.record.is_some() || self.report.is_some();
        let can = |change: &FlagChange| match change.key.as_str() {
            "min-age" => !is_kept && change.is_possible_min_age(self.min_age),
            key => key == "interval",
        };
        let mut pace = None;
        let mut apply = |command| {
            if let Command::Watch(new) = command {
                new.close.check(new.min_age.duration(), new.output.is_csv())?;
                pace = Some(live::ScanPace { min_age: new.min_age, interval: new.interval });
            }
            Ok(Vec::new())
        };
        reloads.reload(&can, &mut apply);
        pace
    }

    fn announcement(&self) -> String {
        let until = if self.duration.is_some() { "" } else { "; Ctrl-C ends it" };
        let watched = attach::watched(self.select.states().0, self.min_age);
        let closes = self.close.told();
        format!("watching for {watched}{}{closes}{until}", self.select.told())
    }

    /// Who tells sockets together; `None`: a line a socket.
    fn reports(&self) -> Option<Reports> {
        let by = self.group_by.map(By::what);
        // A stream of changes has a line for each anyway.
        let each = self.each || self.transitions || by == Some(None);
        let grouped = self.output.is_page() && !each;
        grouped.then(|| Reports::new(by.flatten(), nanoseconds(self.min_age.duration())))
    }
}

/// What it would do, where all that it names is in order.
pub fn check(mut args: Args) -> Result<String, Failure> {
    args.prepare()?;
    Ok(args.announcement())
}

/// Runs the command.
pub fn run(mut args: Args, settings: Option<FileSettings>) -> Result<Exit, Failure> {
    memory::keep_little();
    let (selection, btf) = args.prepare()?;
    let recording = match &args.record {
        Some(path) => {
            let options = Options { path: Some(path.clone()), ..Options::default() };
            Some(recording::prepare("--record", options, &args.plan(Selection::default()))?)
        }
        None => None,
    };
    let report = args.report.open()?;
    attach::runtime()?.block_on(watch(&args, selection, &btf, recording, report, settings))
}

async fn watch(
    args: &Args,
    selection: Selection,
    btf: &Path,
    recording: Option<Prepared>,
    report: Option<ReportFile>,
    settings: Option<FileSettings>,
) -> Result<Exit, Failure> {
    let reloads = Reloads::new(settings)?;
    let view = match args.output.view(boot_now(), Columns::Watch) {
        Ok(view) => view,
        Err(e) => return ended_by(e),
    };
    let job = live::Job {
        plan: args.plan(selection),
        how: attach::How {
            btf,
            ring_kib: args.ring_size,
            interval: args.interval,
            origins: args.origins,
            exits: false,
            lowest_min_age: reloads.lowest_min_age(args.min_age),
        },
        view,
        reports: args.reports(),
        recording,
        report,
        closing: args.close.start()?,
        only_records: false,
        duration: args.duration,
        leaks: &args.leaks,
        announcement: args.announcement(),
        reloads,
        reload: &mut |reloads| args.reload(reloads),
    };
    live::run(job).await.map(|(_, exit)| exit)
}
