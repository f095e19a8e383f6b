//! The dashboard of `deploy/` in a browser. Grafana itself is in no registry of packages; its
//! components are. A page that is built of them (`dashboard/`) draws the panels as they are
//! written, with what a real Prometheus answers.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{DEADLINE, PROMETHEUS, say};
use crate::{
    browser::{self, Browser},
    cargo::{check, root},
    setup,
};

/// The sources of the page.
const SOURCES: [&str; 7] = [
    "data.js",
    "index.html",
    "main.jsx",
    "package-lock.json",
    "package.json",
    "panels.jsx",
    "vite.config.js",
];
/// The window, pixels; the picture is as high as the page, at most.
const WINDOW: [u32; 2] = [1180, 2600];
/// Windows of queries are shorter by that factor: five minutes are twenty seconds.
const FACTOR: u32 = 15;

/// Builds the page below `target/dashboard`, with the pinned packages; where it is.
pub(super) fn build() -> Result<PathBuf> {
    setup::packages(&[("npm", "npm", "nodejs-npm")])?;
    let (from, to) = (root().join("xtask/src/fleet/dashboard"), root().join("target/dashboard"));
    fs::create_dir_all(&to)?;
    let same = |name| fs::read(from.join(name)).ok() == fs::read(to.join(name)).ok();
    let installed = to.join("node_modules/.package-lock.json").exists();
    let (packages, sources) = (installed && same("package-lock.json"), SOURCES.map(same));
    for name in SOURCES {
        fs::copy(from.join(name), to.join(name)).with_context(|| name.to_owned())?;
    }
    let modules = to.join("node_modules");
    let npm = |args: &[&str]| {
        let program = setup::which("npm").unwrap_or_else(|| "npm".into());
        check(Command::new(program).args(args).current_dir(&to))
    };
    if !packages {
        eprintln!("installing Grafana's components into {} (a minute or two)", to.display());
        let _ = fs::remove_dir_all(&modules);
        npm(&["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel", "error"])?;
    }
    let pages = to.join("dist");
    if sources.contains(&false) || !packages || !pages.join("index.html").exists() {
        let built = npm(&["exec", "--", "vite", "build", "--logLevel", "error"]);
        if built.is_err() {
            // An installation that was cut off is not tried again.
            let _ = fs::remove_dir_all(&modules);
        }
        built?;
    }
    let dashboard = root().join("deploy/grafana/tcptrace.json");
    fs::copy(dashboard, pages.join("dashboard.json"))?;
    Ok(pages)
}

/// All of it, from `began` on; what can be read there.
pub(super) fn picture(file: &Path, began: SystemTime) -> Result<String> {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).map(|since| since.as_secs());
    let (from, now) = (seconds(began)?, seconds(SystemTime::now())?);
    // Times are written every 15 or 30 s: at the edge one would be cut off.
    let to = now - (now + 8) % 15;
    let url = format!("http://{PROMETHEUS}/user/?from={from}&to={to}&factor={FACTOR}");
    browser::picture_of(&url, file, WINDOW, |browser| {
        let drawn = drawn(browser)?;
        let titles = |key: &str| drawn[key].as_array().cloned().unwrap_or_default();
        let (empty, unknown) = (titles("empty"), titles("unknown"));
        say(&format!(
            "{} panels, {} of a type that is not drawn, {} without data",
            drawn["panels"],
            unknown.len(),
            empty.len()
        ));
        ensure!(
            empty.is_empty() && unknown.is_empty(),
            "no data: {empty:?}; not drawn: {unknown:?}"
        );
        Ok(())
    })
}

/// What the page says when all is drawn.
fn drawn(browser: &mut Browser) -> Result<Value> {
    let until = Instant::now() + DEADLINE;
    loop {
        let said = browser.ask("({ ...document.documentElement.dataset })")?;
        if let Some(why) = said["failed"].as_str() {
            bail!("the page fails: {why}");
        }
        if let Some(drawn) = said["drawn"].as_str() {
            // What is drawn in more than one step, such as a legend and then the room beside it.
            thread::sleep(Duration::from_secs(2));
            return Ok(serde_json::from_str(drawn)?);
        }
        ensure!(Instant::now() < until, "it does not draw: {:?}", browser.complaints());
        thread::sleep(Duration::from_millis(100));
    }
}
