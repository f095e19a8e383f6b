//! The agent's live page: what it shows of real leaks, as they come and go.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::{FAULTS, WIDTHS, devtools::Browser, quiet};
use crate::{
    cargo,
    support::{actor::Actor, agent::Agent, netns::Netns},
};

/// Whatever is waited for comes within this.
const PATIENCE: Duration = Duration::from_secs(30);
/// A name that would like to be more, as long as the kernel lets it be.
const HOSTILE: &str = "<b onclick=x>";

/// An agent of that network namespace, and its page's address.
fn agent(tcptrace: &Path, netns: &Netns, args: &[&str]) -> Result<(Agent, String)> {
    let mut command = Command::new(tcptrace);
    command.args(["serve", "--min-age", "500ms", "--listen", "127.0.0.1:0", "--netns"]);
    let agent = Agent::serving(command.arg(netns.path()).args(args)).context("the agent")?;
    let url = format!("http://{}/", agent.at);
    Ok((agent, url))
}

/// All of it; pictures go to `directory`.
pub fn run(browser: &mut Browser, directory: &Path) -> Result<()> {
    let tcptrace = cargo::build_release(&[])?;
    let netns = Netns::new().context("a network namespace")?;
    let (mut server, mut client) = (Actor::start(Some(&netns))?, Actor::start(Some(&netns))?);
    server.tell(&format!("name {HOSTILE}"))?;
    let listener = server.number("listen 127.0.0.1:8080 64")?;
    let mut leak = || -> Result<u32> {
        let connected = client.number("connect 127.0.0.1:8080")?;
        let served = server.number(&format!("accept {listener}"))?;
        client.tell(&format!("close {connected}"))?;
        Ok(served)
    };
    let first = leak()?;
    leak()?;
    leak()?;
    let (running, url) = agent(&tcptrace, &netns, &[])?;
    for dark in [false, true] {
        for width in WIDTHS {
            browser.resize(width, 900, dark)?;
            browser.open_url(&url)?;
            shows(browser, "leaks", "3")?;
            let wide = browser.ask("document.documentElement.scrollWidth")?;
            ensure!(wide.as_u64() <= Some(width.into()), "{wide} wide, in a window of {width}");
            let faults = browser.ask(FAULTS)?;
            ensure!(faults == json!([]), "at {width} pixels, dark: {dark}: {faults:#}");
            let name = format!("serve-{width}-{}.png", if dark { "dark" } else { "light" });
            fs::write(directory.join(name), STANDARD.decode(browser.picture(Some(900))?)?)?;
            quiet(browser, Path::new(&url))?;
        }
    }
    let headline = browser.ask("document.getElementById('headline').textContent")?;
    let headline = headline.as_str().unwrap_or_default();
    ensure!(headline.contains(HOSTILE) && headline.contains("3 of 3 leaks"), "{headline}");
    ensure!(browser.ask("document.querySelectorAll('table b, li b').length")? == 0, "markup");
    // As it happens: one more, and the end of one.
    leak()?;
    shows(browser, "leaks", "4")?;
    server.tell(&format!("close {first}"))?;
    shows(browser, "leaks", "3")?;
    let events = "document.getElementById('events').textContent";
    let events = browser.ask(events)?.to_string();
    ensure!(events.contains("stuck") && events.contains("resolved"), "{events}");
    opens(browser, "#sockets a", &["CLOSE_WAIT", HOSTILE])?;
    opens(browser, "#holders a", &["CLOSE_WAIT", HOSTILE])?;
    is_saved(browser, &tcptrace, directory)?;
    // The agent goes: the page says so, and goes on when it is back.
    drop(running);
    says(browser, "no answer")?;

    let token = directory.join("token");
    fs::write(&token, "s3cret\n")?;
    let args = ["--token-file", token.to_str().context("a path")?];
    let (_running, url) = agent(&tcptrace, &netns, &args)?;
    browser.open_url(&url)?;
    token_is(browser, "s3cret")?;
    shows(browser, "leaks", "3")?;
    eprintln!(
        "the live page: leaks as they come and go, pages on them, a recording, a token, four looks"
    );
    Ok(())
}

/// A link opens what the agent has to say; Escape closes it.
fn opens(browser: &mut Browser, link: &str, told: &[&str]) -> Result<()> {
    const OPEN: &str = "document.getElementById('page').open";
    // Rows are made anew every other second, which a click may fall into.
    browser.ask(&format!("document.querySelector('{link}').click()"))?;
    let until = Instant::now() + PATIENCE;
    while browser.ask(OPEN)? != true {
        ensure!(Instant::now() < until, "{link} opens nothing");
        thread::sleep(Duration::from_millis(100));
    }
    let said = browser.ask("document.getElementById('said').textContent")?;
    let said = said.as_str().unwrap_or_default();
    ensure!(told.iter().all(|told| said.contains(told)), "{link} opens {said}");
    ensure!(browser.ask(FAULTS)? == json!([]), "faults of what {link} opens");
    browser.press("Escape", false)?;
    ensure!(browser.ask(OPEN)? == false, "it closes");
    ensure!(browser.ask("location.hash")? == "", "and is not named any more");
    Ok(())
}

/// The button's file is a recording.
fn is_saved(browser: &mut Browser, tcptrace: &Path, directory: &Path) -> Result<()> {
    let saved = directory.join("saved");
    let _ = fs::remove_dir_all(&saved);
    fs::create_dir_all(&saved)?;
    let to = json!({ "behavior": "allow", "downloadPath": saved });
    browser.call("Browser.setDownloadBehavior", to)?;
    browser.click("#recording")?;
    let until = Instant::now() + PATIENCE;
    let file = loop {
        let is_whole = |path: &PathBuf| path.extension().is_some_and(|e| e == "tct");
        let mut files = fs::read_dir(&saved)?.flatten().map(|entry| entry.path());
        if let Some(file) = files.find(is_whole) {
            break file;
        }
        let said = browser.ask("document.getElementById('recorded').textContent")?;
        ensure!(Instant::now() < until, "no recording: {said}");
        thread::sleep(Duration::from_millis(100));
    };
    let said = browser.ask("document.getElementById('recorded').textContent")?;
    let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    ensure!(said == format!("tcptrace replay {name}"), "{said}, of {name}");
    let replayed =
        Command::new(tcptrace).args(["replay", "--format", "json"]).arg(&file).output()?;
    let events = String::from_utf8_lossy(&replayed.stdout).into_owned();
    let summary = events.lines().last().unwrap_or_default();
    let is_whole = summary.contains("\"stuck\":4,\"resolved\":1");
    ensure!(replayed.status.success() && is_whole, "the recording ends in {summary}");
    Ok(())
}

/// Tells the page the token that it asks for.
pub fn token_is(browser: &mut Browser, token: &str) -> Result<()> {
    says(browser, "a token is needed")?;
    browser.click("#token")?;
    browser.type_in(token)?;
    browser.click("#ask button")
}

/// Waits until an element says that.
fn shows(browser: &mut Browser, id: &str, text: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let said = browser.ask(&format!("document.getElementById('{id}').textContent"))?;
        if said == text {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{id} says {said}, not {text}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until its state begins so.
fn says(browser: &mut Browser, text: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    loop {
        let said = browser.ask("document.getElementById('state').textContent")?;
        if said.as_str().is_some_and(|said| said.starts_with(text)) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "it says {said}, not {text}");
        thread::sleep(Duration::from_millis(100));
    }
}
