//! Pictures for the documents, of a real run: two hosts that leak, an agent's page, and the
//! dashboard with what Prometheus has of them.

use std::{
    collections::VecDeque,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, ensure};

use super::{
    TOKEN, dashboard,
    host::{Host, Leak},
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

/// For so long leaks come for the dashboard, faster: what runs out takes time to be told.
const FAST: Duration = Duration::from_secs(100);
const FAST_EACH: Duration = Duration::from_millis(350);
/// Descriptors that the other host's server may have.
const DESCRIPTORS: u32 = 1_024;
/// The shop closes one when so many came after it.
const LATE: usize = 40;

/// All of them.
pub fn run() -> Result<()> {
    setup::packages(&NEEDED)?;
    browser::browser()?;
    if let Err(e) = setup::packages(&[("pngquant", "pngquant", "pngquant")]) {
        eprintln!("SKIPPED: pictures as small as they could be: {e:#}");
    }
    let pages = dashboard::build();
    if let Err(e) = &pages {
        eprintln!("SKIPPED: the dashboard's picture: {e:#}");
    }
    let pages = pages.ok();
    let site = Site::start()?;
    let _prometheus = site.prometheus(pages.as_deref())?;
    let began = SystemTime::now();
    let mut shop = Shop::new(&site.hosts[0])?;
    let mut orders = Leak::limited(&site.hosts[1], "orders", DESCRIPTORS)?;
    page(&site, &mut shop)?;
    if pages.is_some() {
        say(&format!("both hosts leak, for {FAST:?}"));
        leak(&mut shop, &mut orders)?;
        let file = root().join("docs/dashboard.png");
        let text = dashboard::picture(&file, began)?;
        finish(&file, &text)?;
    }
    Ok(())
}

/// The shop closes two in three, late; orders closes nothing.
fn leak(shop: &mut Shop, orders: &mut Leak) -> Result<()> {
    let (until, mut open) = (Instant::now() + FAST, VecDeque::new());
    let mut round = 0;
    while Instant::now() < until {
        round += 1;
        open.push_back(shop.town.leak()?);
        orders.one()?;
        if open.len() > LATE
            && round % 3 > 0
            && let Some(oldest) = open.pop_front()
        {
            shop.town.close(oldest)?;
        }
        thread::sleep(FAST_EACH);
    }
    Ok(())
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
