//! `tcptrace close`: ends connections that a program does not, from outside.

mod audit;
pub mod beside;
pub mod helper;
mod run;

use std::{collections::HashSet, fs::File, io, path::PathBuf, rc::Rc, time::Duration};

use clap::ValueEnum;

use self::{audit::Audit, run::Run};
use crate::{
    cli::{attach, btf, ended_by, nanoseconds, output, select, warn},
    engine::{
        close::{CloseResult, CloseWay, Closes, Planned, Rules, Spared},
        counted::counted,
        parse,
        record::{BootNs, Record},
        select::Selection,
        update::Update,
    },
    exit::{Exit, Failure},
    prose::close::{NO_DESTROY, missing_right},
    source::live::{
        boot_now,
        close::{self, Cannot, Closer},
        process,
        snapshot::{Query, Snapshot},
    },
    view::{View, csv::Columns},
};

/// End leaked connections from outside: a dry run, unless --yes
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "End leaked connections from outside: a dry run, unless --yes.\n\n",
        "Shows which connections would be closed, how and why so; with --yes, closes them, ",
        "checking each by its cookie at that moment so that another socket with the same ",
        "addresses is never hit, and then looks what became of it. A connection that a process ",
        "has is shut down through a copy of its descriptor: the peer gets a FIN, and the process ",
        "reads its own end. One that nobody has accepted, or that is in no descriptor table, is ",
        "destroyed: the peer gets a reset. Closing a connection does not close its descriptor: ",
        "only its process can, and it is said which. Listeners, tcptrace's own connections and ",
        "what is no leak are left alone. Each one that is closed gets a line in the journal. The ",
        "program that leaks goes on leaking: tcptrace explain PID says what to change in it.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace close                                    what would be closed, and how\n",
        "  tcptrace close --pid 4711 --yes                   the leaks of one process, 100 at most\n",
        "  tcptrace close --verdict never-accepted --yes     what waits in accept queues\n",
        "  tcptrace close --remote 10.0.0.9 --min-age 1h --yes   of one peer, an hour old\n",
        "  tcptrace close --state last_ack --min-age 0 --force --yes   was shut down, and its peer is gone",
    )
)]
pub struct Args {
    /// Close them; without it, only say what would be done
    #[arg(short, long)]
    yes: bool,

    /// How to close them [default: shutdown what a process has, destroy the rest]
    #[arg(long, value_name = "HOW")]
    how: Option<Way>,

    /// Only connections that are certainly in their state for longer than this
    #[arg(long, value_name = "DUR", default_value = "1m", value_parser = parse::duration)]
    min_age: Duration,

    /// Close so many at most, the oldest first
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    max: u64,

    /// Close so many a second at most
    #[arg(long, value_name = "N[/s]", default_value = "20", value_parser = rate)]
    rate: u32,

    /// Look at each one so long whether it has ended
    #[arg(long, value_name = "DUR", default_value = "2s", value_parser = parse::duration)]
    wait: Duration,

    /// Close what is no leak, too: ESTABLISHED, half-closes in use, what the kernel is ending
    #[arg(long)]
    force: bool,

    /// Append a line of JSON for each one to this file, too
    #[arg(long, value_name = "FILE", requires = "yes")]
    audit: Option<PathBuf>,

    /// Use sock_diag and /proc only
    #[arg(long, conflicts_with = "btf")]
    no_bpf: bool,

    #[command(flatten)]
    btf: btf::Args,

    #[command(flatten)]
    output: output::Args,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    /// Through a copy of a holder's descriptor: a FIN, as close() would send
    Shutdown,
    /// By the kernel (SOCK_DESTROY): a reset
    Destroy,
}

/// `20` or `20/s`.
pub fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    let number = number.parse().ok().filter(|n| (1..=10_000).contains(n));
    number.ok_or_else(|| "write so many a second, from 1 to 10000, such as 20/s".to_owned())
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let file = args.audit.as_deref().map(audit::open).transpose()?;
    let query = Query {
        // What is left alone is shown, with the reason.
        selection: Selection { unleaked: true, ..args.select.resolve()? },
        states: args.select.states().0,
        without_bpf: args.no_bpf,
        btf: args.btf.resolve()?,
        clock: boot_now,
    };
    let mut snapshot = super::take(query)?;
    let (planned, closes) = args.plan(&mut snapshot);
    let view = match args.output.view(snapshot.now, Columns::Close) {
        Ok(view) => view,
        Err(e) => return ended_by(e),
    };
    if args.yes {
        return args.close(&snapshot, planned, closes, view, file);
    }
    dry_run(view, snapshot.now, &planned, closes).map_or_else(ended_by, |()| Ok(Exit::Done))
}

fn dry_run(
    mut view: Box<dyn View>,
    now: BootNs,
    planned: &[Planned],
    closes: Closes,
) -> io::Result<()> {
    for planned in planned {
        view.update(now, &Update::Planned(Box::new(planned.clone())))?;
    }
    view.update(now, &Update::Closes(Box::new(Closes { dry_run: true, ..closes })))?;
    view.flush()
}

impl Args {
    /// What is to be done with each socket that was selected, the oldest first.
    fn plan(&self, snapshot: &mut Snapshot) -> (Vec<Planned>, Closes) {
        let rules = Rules {
            how: self.how.map(|way| match way {
                Way::Shutdown => CloseWay::Shutdown,
                Way::Destroy => CloseWay::Destroy,
            }),
            force: self.force,
            own: std::process::id(),
            ancestors: close::ancestors(),
            host_init: process::in_initial_pid_namespace(),
        };
        let (now, min_age_ns) = (snapshot.now, nanoseconds(self.min_age));
        let mut closes = Closes::default();
        let mut planned = Vec::new();
        for record in snapshot.records() {
            match record.age(now).is_over(min_age_ns) {
                Some(true) => {}
                Some(false) => {
                    closes.too_young += 1;
                    continue;
                }
                None => {
                    closes.age_unknown += 1;
                    continue;
                }
            }
            planned.push(self.planned(&rules, record, &mut closes));
        }
        (planned, closes)
    }

    fn planned(&self, rules: &Rules, record: Record, closes: &mut Closes) -> Planned {
        let mut choice = rules.choose(&record);
        if choice.is_ok() && closes.planned >= self.max {
            choice = Err(Spared::BeyondMax);
        }
        closes.plan(&choice);
        Planned { record: Rc::new(record), choice }
    }

    fn close(
        &self,
        snapshot: &Snapshot,
        planned: Vec<Planned>,
        closes: Closes,
        view: Box<dyn View>,
        file: Option<File>,
    ) -> Result<Exit, Failure> {
        let closer = closer(snapshot, &planned)?;
        let audit = (closes.planned > 0 || file.is_some()).then(|| Audit::new(file));
        let run = Run { rate: self.rate, wait: self.wait, closer, view, audit, closes };
        let closes = attach::runtime()?.block_on(run.all(planned, snapshot.now))?;
        if let Some((n, why)) = for_want_of_rights(&closes) {
            let n = counted(n, "connection was", "connections were");
            let message = format!("{n} left alone for want of rights: {why}");
            return Err(Failure { exit: Exit::NotAllowed, message });
        }
        Ok(if closes.of(CloseResult::Failed) > 0 { Exit::Failed } else { Exit::Done })
    }
}

/// How many could have been closed with more rights, and which rights those are.
fn for_want_of_rights(closes: &Closes) -> Option<(u64, &'static str)> {
    let refused = closes.refused.iter().find(|(refusal, _)| *refusal == Spared::HoldersHidden);
    let n = closes.of(CloseResult::NotAllowed) + refused.map_or(0, |(_, n)| *n);
    (n > 0).then_some((n, missing_right(CloseWay::Shutdown)))
}

/// Enters the namespaces where something is to be closed. What can't be done there at all is an
/// error before anything is done.
fn closer(snapshot: &Snapshot, planned: &[Planned]) -> Result<Closer, Failure> {
    let chosen = planned.iter().filter_map(|p| Some((p.record.connection.netns, p.choice.ok()?.0)));
    let chosen: HashSet<(u32, CloseWay)> = chosen.collect();
    let mut places = snapshot.namespaces.clone();
    places.retain(|netns| chosen.iter().any(|(inode, _)| *inode == netns.inode));
    let (closer, failed) = Closer::enter(&places);
    if let Some((netns, e)) = failed.first() {
        warn(&format!(
            "{} could not be entered ({}: {e})",
            counted(failed.len() as u64, "network namespace", "network namespaces"),
            netns.path.display()
        ));
    }
    let some_held = chosen.iter().any(|(_, how)| *how == CloseWay::Shutdown);
    for (netns, how) in chosen {
        let cannot = if how == CloseWay::Destroy { closer.destroys(netns).err() } else { None };
        if let Some(cannot) = cannot {
            let why = match cannot {
                Cannot::Rights => missing_right(CloseWay::Destroy),
                Cannot::Kernel => NO_DESTROY,
            };
            let others = if some_held { "; --how shutdown closes what a process has" } else { "" };
            let message = format!("nothing was closed: {why}{others}");
            return Err(Failure { exit: Exit::NotAllowed, message });
        }
    }
    Ok(closer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_as_it_is_written() {
        assert_eq!((rate("20"), rate("5/s"), rate("10000/s")), (Ok(20), Ok(5), Ok(10_000)));
        for bad in ["0", "10001", "", "/s", "5/m", "-1", "1.5"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }
}
