//! Writes a report of an incident that never was: `page SOCKETS FILE [NAME]`, the name being
//! one that a program calls itself. An example of the library,
//! so that xtask itself builds without kernel programs.

#[path = "../../../tests/incident/made.rs"]
mod made;

use std::{env, fs, time::Instant};

use anyhow::{Context, Result};
use tcptrace::view::report::IncidentReport;

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let (sockets, file) =
        args.next().zip(args.next()).context("usage: page SOCKETS FILE [NAME]")?;
    let sockets: u64 = sockets.parse().context("SOCKETS")?;
    let began = Instant::now();
    let made = made::made(sockets, args.next().as_deref());
    let told = began.elapsed();
    let report = IncidentReport { incident: &made.incident, clock: &made.clock };
    let began = Instant::now();
    let page = report.html();
    let built = began.elapsed();
    fs::write(&file, &page).with_context(|| file.clone())?;
    if file.ends_with(".html") {
        fs::write(file.replace(".html", ".md"), report.markdown())?;
    }
    eprintln!(
        "{file}: {sockets} sockets, {} KiB; facts taken in in {told:.2?}, page made in {built:.2?}",
        page.len() >> 10
    );
    Ok(())
}
