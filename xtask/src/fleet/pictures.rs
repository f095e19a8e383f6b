//! Pictures for the documents, of a real run: two hosts that leak, an agent's page.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use anyhow::{Result, ensure};

use super::{
    TOKEN,
    host::Host,
    say,
    site::{NEEDED, Site},
};
use crate::{
    browser::{self, live::token_is},
    cargo::root,
    pictures::{discreet, town::Town},
    setup::{self, quiet, which},
    support::actor::Actor,
};

/// The top of the page, pixels.
const PAGE: [u32; 2] = [1180, 1000];
/// Leaks come while the page is open, each so long after the last.
const EACH: Duration = Duration::from_millis(2_500);
/// So many of the shop; others leak now and then.
const ROUNDS: usize = 9;
/// What a picture may take, bytes.
const LARGEST: u64 = 250 << 10;

/// All of them.
pub fn run() -> Result<()> {
    setup::packages(&NEEDED)?;
    browser::browser()?;
    if let Err(e) = setup::packages(&[("pngquant", "pngquant", "pngquant")]) {
        eprintln!("SKIPPED: pictures as small as they could be: {e:#}");
    }
    let site = Site::start()?;
    let mut shop = Shop::new(&site.hosts[0])?;
    page(&site, &mut shop)
}

/// `docs/agent-page.png`: what a browser shows that was open while leaks came.
fn page(site: &Site, shop: &mut Shop) -> Result<()> {
    say("the agent's page");
    let file = root().join("docs/agent-page.png");
    let url = format!("http://{}/", site.hosts[0].at);
    let text = browser::picture_of(&url, &file, PAGE, |browser| {
        token_is(browser, TOKEN)?;
        // Until here it was refused.
        browser.complaints();
        for _ in 0..ROUNDS {
            shop.town.leak()?;
            thread::sleep(EACH);
        }
        // The page asks every two seconds, and what is younger than one is no leak yet.
        thread::sleep(2 * EACH);
        Ok(())
    })?;
    for needed in ["shop-api", "unread-data", "inherited-fd", "never-accepted"] {
        ensure!(text.contains(needed), "{needed} is not on the page:\n{text}");
    }
    finish(&file, &text)
}

/// Programs that leak, each in its own way, and one whose child inherits what it leaks.
struct Shop {
    town: Town,
    _workers: Actor,
    _client: Actor,
}

impl Shop {
    fn new(host: &Host) -> Result<Self> {
        let town = Town::new(&host.netns)?;
        let mut workers = Actor::start_as(Some(&host.netns), "prefork")?;
        let mut client = Actor::start_as(Some(&host.netns), "client")?;
        let listener = workers.number("listen 127.0.0.5:8000 16")?;
        for _ in 0..2 {
            let connected = client.number("connect 127.0.0.5:8000")?;
            workers.number(&format!("accept {listener}"))?;
            client.tell(&format!("close {connected}"))?;
        }
        workers.tell("fork")?;
        Ok(Self { town, _workers: workers, _client: client })
    }
}

/// The picture tells nothing of this machine, and is as small as it can be.
fn finish(file: &Path, text: &str) -> Result<()> {
    discreet(text)?;
    if let Some(pngquant) = which("pngquant") {
        let mut command = Command::new(pngquant);
        command.args(["--force", "--strip", "--skip-if-larger", "--quality", "80-100"]);
        quiet(command.args(["--output"]).arg(file).arg("--").arg(file));
    }
    let length = fs::metadata(file)?.len();
    ensure!(length < LARGEST, "{} has {length} bytes", file.display());
    say(&format!("{}, {} KiB", file.display(), length >> 10));
    Ok(())
}
