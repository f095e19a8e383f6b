//! The agent's live page: what it shows of real leaks, as they come and go.

use std::{
    fs,
    path::Path,
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
    // The agent goes: the page says so, and goes on when it is back.
    drop(running);
    says(browser, "no answer")?;

    let token = directory.join("token");
    fs::write(&token, "s3cret\n")?;
    let args = ["--token-file", token.to_str().context("a path")?];
    let (_running, url) = agent(&tcptrace, &netns, &args)?;
    browser.open_url(&url)?;
    says(browser, "a token is needed")?;
    browser.click("#token")?;
    browser.type_in("s3cret")?;
    browser.click("#ask button")?;
    shows(browser, "leaks", "3")?;
    eprintln!("the live page: leaks as they come and go, a token, four looks");
    Ok(())
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
