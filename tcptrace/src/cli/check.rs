//! `tcptrace check`: what this host offers.

use crate::{
    cli::{btf, ended_by, output},
    engine::{check::Offers, update::Update},
    exit::{Exit, Failure},
    source::live::{boot_now, check},
    view::csv::Columns,
};

/// What this host offers, and what is lost without it
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "What this host offers, and what is lost without it.\n\n",
        "A line for each thing that is used, or that people take to be used: what was found ",
        "and, where that is not as it should be, what is lost and what to do. The kernel ",
        "programs are loaded, attached and taken out again, for a network namespace that ",
        "does not exist: no socket is touched. The exit code is 0 if watch works here, 4 if ",
        "not.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace check\n",
        "  tcptrace check --btf /host/vmlinux.btf            in a container that hides /sys/kernel/btf\n",
        "  tcptrace check --format json | jq 'select(.ok == false)'",
    )
)]
pub struct Args {
    #[command(flatten)]
    btf: btf::Args,

    #[command(flatten)]
    output: output::Args,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let path = args.btf.resolve()?;
    let now = boot_now();
    let findings = check::findings(&path, boot_now);
    let offers = Offers::of(&findings);
    let exit = if offers.watch { Exit::Done } else { Exit::NotAllowed };
    let shown = args.output.view(now, Columns::Check).and_then(|mut view| {
        for finding in findings {
            view.update(now, &Update::Finding(Box::new(finding)))?;
        }
        view.update(now, &Update::Offers(Box::new(offers)))?;
        view.flush()
    });
    // The answer is in the exit code, whether or not the reader waits for all of it.
    match shown.map_or_else(ended_by, |()| Ok(Exit::Done))? {
        Exit::Done => Ok(exit),
        other => Ok(other),
    }
}
