//! The report's page in a real browser: sorted by clicks, filtered by keys, read without a mouse,
//! without scripts, on a telephone, in the dark and on paper.

mod devtools;
pub mod live;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

pub use self::devtools::Browser;
use crate::{
    cargo::{self, root},
    setup,
};

/// Rows of the page that is timed.
const ROWS: u64 = 50_000;
/// Rows of the page that is looked at.
const FEW: u64 = 2_600;
/// Widths of windows: a telephone, and a desk.
const WIDTHS: [u32; 2] = [390, 1_440];
/// A name that would like to be more.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>";

/// The browser, installed if need be.
pub fn browser() -> Result<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome"];
    if let Some(found) = names.into_iter().find_map(setup::which) {
        return Ok(found);
    }
    setup::packages(&[("chromium", "chromium", "chromium")])?;
    setup::which("chromium").context("chromium was installed and is not there")
}

/// Where pictures and pages go.
fn directory() -> Result<PathBuf> {
    let directory = root().join("target/browser");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

fn start(directory: &Path) -> Result<Browser> {
    let profile = directory.join("profile");
    // What another run left behind is not to be seen by this one.
    let _ = fs::remove_dir_all(&profile);
    Browser::start(&browser()?, &profile)
}

/// A page of so many sockets.
fn page(directory: &Path, sockets: u64, name: Option<&str>) -> Result<PathBuf> {
    let file = directory.join(match name {
        Some(_) => "hostile.html".to_owned(),
        None => format!("report-{sockets}.html"),
    });
    let mut command = cargo::cargo()?;
    command.args(["run", "--quiet", "--release", "--locked", "--package", "tcptrace"]);
    command.args(["--example", "page", "--", &sockets.to_string()]).arg(&file).args(name);
    cargo::check(&mut command)?;
    Ok(file)
}

/// `browser`: all of it.
pub fn run() -> Result<()> {
    let directory = directory()?;
    let few = page(&directory, FEW, None)?;
    let many = page(&directory, ROWS, None)?;
    let hostile = page(&directory, FEW, Some(HOSTILE))?;
    let mut browser = start(&directory)?;
    for dark in [false, true] {
        for width in WIDTHS {
            looks(&mut browser, &few, &directory, width, dark)?;
        }
    }
    on_paper(&mut browser, &directory)?;
    by_mouse(&mut browser, &many)?;
    by_keys(&mut browser)?;
    without_scripts(&mut browser, &few, &directory)?;
    same_structure(&mut browser, &few, &hostile)?;
    live::run(&mut browser, &directory)?;
    eprintln!("the pictures are in {}", directory.display());
    Ok(())
}

/// A picture of the top of a page, for the documents; what can be read there.
pub fn picture(page: &Path, to: &Path, size: [u32; 2]) -> Result<String> {
    picture_of(&format!("file://{}", page.display()), to, size, |_| Ok(()))
}

/// The same of whatever address, once what is to be waited for is there.
pub fn picture_of(
    url: &str,
    to: &Path,
    [width, height]: [u32; 2],
    ready: impl FnOnce(&mut Browser) -> Result<()>,
) -> Result<String> {
    let mut browser = start(&directory()?)?;
    browser.resize(width, height, false)?;
    browser.open_url(url)?;
    ready(&mut browser)?;
    quiet(&mut browser, Path::new(url))?;
    // Nothing of the window below the page.
    let bottom = browser.ask(
        "Math.ceil(Math.max(...[...document.body.children]\
         .map(e => e.getBoundingClientRect().bottom)))",
    )?;
    let shown = bottom.as_u64().map_or(height, |bottom| height.min(bottom as u32));
    let picture = browser.picture(Some(shown))?;
    fs::write(to, STANDARD.decode(picture)?)?;
    let text = browser.ask(&format!(
        "[...document.querySelectorAll('body *:not(script, style)')]\
         .filter(e => !e.children.length && \
         e.getBoundingClientRect().top < {height}).map(e => e.textContent).join('\\n')"
    ))?;
    text.as_str().map(str::to_owned).context("no text")
}

fn quiet(browser: &mut Browser, page: &Path) -> Result<()> {
    browser.drawn()?;
    let complaints = browser.complaints();
    ensure!(complaints.is_empty(), "{}: {}", page.display(), complaints.join("\n"));
    Ok(())
}

fn looks(browser: &mut Browser, page: &Path, to: &Path, width: u32, dark: bool) -> Result<()> {
    browser.resize(width, 900, dark)?;
    browser.open(page)?;
    quiet(browser, page)?;
    let wide = browser.ask("document.documentElement.scrollWidth")?;
    ensure!(wide.as_u64() <= Some(width.into()), "{wide} pixels wide, in a window of {width}");
    let faults = browser.ask(FAULTS)?;
    ensure!(faults == json!([]), "at {width} pixels, dark: {dark}: {faults:#}");
    let name = format!("report-{width}-{}.png", if dark { "dark" } else { "light" });
    let picture = browser.picture(None)?;
    fs::write(to.join(name), STANDARD.decode(picture)?)?;
    Ok(())
}

fn on_paper(browser: &mut Browser, to: &Path) -> Result<()> {
    let pdf = STANDARD.decode(browser.print()?)?;
    ensure!(pdf.starts_with(b"%PDF"), "no PDF");
    fs::write(to.join("report.pdf"), pdf)?;
    if let Some(program) = setup::which("pdftotext") {
        let text = Command::new(program).arg(to.join("report.pdf")).arg("-").output()?;
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        for needed in ["The answer", "In numbers", "On paper: the first 50", "How this was made"] {
            ensure!(text.contains(needed), "{needed} is not on paper:\n{text}");
        }
        ensure!(!text.contains("Filter"), "tools on paper");
    }
    Ok(())
}

/// The cells of a column, of the rows that are drawn.
fn column(browser: &mut Browser, nth: usize) -> Result<Vec<String>> {
    let cells = browser.ask(&format!(
        "[...document.querySelectorAll('.view tbody tr[id] td:nth-child({nth})')]\
         .map(cell => cell.textContent)"
    ))?;
    let cells = cells.as_array().context("cells")?;
    Ok(cells.iter().filter_map(|cell| cell.as_str().map(str::to_owned)).collect())
}

fn by_mouse(browser: &mut Browser, page: &Path) -> Result<()> {
    browser.resize(1_440, 900, false)?;
    let began = Instant::now();
    browser.open(page)?;
    quiet(browser, page)?;
    let loaded = began.elapsed();
    let all = browser.ask("document.getElementById('count').textContent")?;
    ensure!(all == "50,000 of 50,000", "{all}");
    let drawn = column(browser, 1)?.len();
    ensure!((10..100).contains(&drawn), "{drawn} rows are drawn");
    let mut times = Vec::new();
    // Remote (7) is the dearest; Recv-Q (8) are numbers.
    for (nth, name) in [(7, "remote"), (8, "Recv-Q"), (5, "held by"), (3, "since")] {
        for way in ["ascending", "descending"] {
            let began = Instant::now();
            browser.click(&format!(".view th:nth-child({nth}) button"))?;
            let seen = began.elapsed();
            let sorted = browser.ask(&format!(
                "document.querySelector('.view th:nth-child({nth})').getAttribute('aria-sort')"
            ))?;
            ensure!(sorted == way, "{name}: {sorted}, not {way}");
            let script = browser.ask("document.documentElement.dataset.sortMs")?;
            times.push(format!("{name} {way} {} ms ({seen:.0?})", script.as_str().unwrap_or("?")));
        }
        if name == "Recv-Q" {
            let cells: Vec<u64> =
                column(browser, nth)?.iter().filter_map(|cell| cell.parse().ok()).collect();
            ensure!(cells.is_sorted_by(|a, b| a >= b) && cells[0] == 513, "{cells:?}");
        }
    }
    browser.click("#filter")?;
    let began = Instant::now();
    browser.type_in("thrift 10.0.3.11")?;
    let typed = began.elapsed();
    let script = browser.ask("document.documentElement.dataset.filterMs")?;
    let held = column(browser, 5)?;
    ensure!(!held.is_empty() && held.iter().all(|who| who.contains("thrift-pool")), "{held:?}");
    let remote = column(browser, 7)?;
    ensure!(remote.iter().all(|at| at.contains("10.0.3.11")), "{remote:?}");
    eprintln!(
        "{ROWS} rows: loaded in {loaded:.0?}; sorted: {}; filtered: {} ms the last letter \
         ({typed:.0?} for 16 keys)",
        times.join(", "),
        script.as_str().unwrap_or("?")
    );
    browser.press("a", true)?;
    browser.press("Delete", false)?;
    let all = browser.ask("document.getElementById('count').textContent")?;
    ensure!(all == "50,000 of 50,000", "the filter is empty again: {all}");
    browser.click(".view tbody tr[id] td")?;
    let detail = browser.ask("document.getElementById('detail').hidden")?;
    ensure!(detail == false, "a click shows more of a row");
    let before = browser.ask("getComputedStyle(document.body).backgroundColor")?;
    browser.click("#theme")?;
    let after = browser.ask("getComputedStyle(document.body).backgroundColor")?;
    ensure!(before != after, "the colours do not change");
    browser.click("#theme")?;
    quiet(browser, page)
}

/// All that the mouse does, without it.
fn by_keys(browser: &mut Browser) -> Result<()> {
    browser.ask("document.getElementById('filter').focus()")?;
    // Through two lists and nine headings: the table itself is one stop before those.
    let mut stops = Vec::new();
    while stops.last() != Some(&Value::from("view")) {
        ensure!(stops.len() < 8, "the table is not reached: {stops:?}");
        browser.press("Tab", false)?;
        stops.push(browser.ask("document.activeElement.className || document.activeElement.id")?);
    }
    browser.press("Escape", false)?;
    browser.press("Home", false)?;
    for key in ["ArrowDown", "ArrowDown", "PageDown", "ArrowUp"] {
        browser.press(key, false)?;
    }
    let chosen = "(() => { const view = document.querySelector('.view'); \
                  const row = document.getElementById(view.getAttribute('aria-activedescendant')); \
                  const r = row.getBoundingClientRect(), v = view.getBoundingClientRect(); \
                  return [row.getAttribute('aria-rowindex'), row.getAttribute('aria-selected'), \
                  r.top >= v.top && r.bottom <= v.bottom]; })()";
    let row = browser.ask(chosen)?;
    ensure!(row[1] == "true" && row[2] == true, "the row that is chosen is to be seen: {row}");
    browser.press("End", false)?;
    let row = browser.ask(chosen)?;
    ensure!(row == json!(["50001", "true", true]), "the last row: {row}");
    browser.press("Enter", false)?;
    let shown = "[document.getElementById('detail').hidden, \
                 document.querySelectorAll('#detail dt').length]";
    let detail = browser.ask(shown)?;
    ensure!(detail[0] == false && detail[1].as_u64() >= Some(8), "{detail}");
    browser.press("Escape", false)?;
    ensure!(browser.ask(shown)?[0] == true, "Escape closes it");
    browser.press("Tab", false)?;
    browser.press("Enter", false)?;
    let sorted = browser.ask("document.querySelector('.view th').getAttribute('aria-sort')")?;
    ensure!(sorted == "ascending", "the first heading sorts by Enter: {sorted}");
    Ok(())
}

fn without_scripts(browser: &mut Browser, page: &Path, to: &Path) -> Result<()> {
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": true }))?;
    browser.open(page)?;
    let picture = browser.picture(None);
    browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": false }))?;
    fs::write(to.join("report-without-scripts.png"), STANDARD.decode(picture?)?)?;
    let rows = browser.ask(
        "[document.querySelectorAll('.plain tbody tr').length, \
         document.querySelector('.still').getBoundingClientRect().height > 0, \
         document.getElementById('tools').hidden, document.getElementById('theme').hidden]",
    )?;
    ensure!(rows == json!([50, true, true, true]), "without scripts: {rows}");
    Ok(())
}

/// A name that would like to be markup changes no element.
fn same_structure(browser: &mut Browser, plain: &Path, hostile: &Path) -> Result<()> {
    let mut elements = Vec::new();
    for page in [plain, hostile] {
        browser.open(page)?;
        browser.click("#filter")?;
        browser.type_in("c")?;
        quiet(browser, page)?;
        elements.push(browser.ask(
            "[...document.querySelectorAll('*')].filter(e => !e.closest('.view, .timeline, ul'))\
             .map(e => e.tagName).join(' ')",
        )?);
        let foreign =
            browser.ask("document.querySelectorAll('img, iframe, object, a[href^=j]').length")?;
        ensure!(foreign == 0, "{}: {foreign} elements that are not ours", page.display());
    }
    if elements[0] != elements[1] {
        bail!("another structure:\n{}\n{}", elements[0], elements[1]);
    }
    Ok(())
}

/// What is wrong with a page for who can't see it well: headings out of order, names and ids that
/// are missing or twice there, text too pale to read (WCAG 2, AA).
const FAULTS: &str = include_str!("faults.js");
