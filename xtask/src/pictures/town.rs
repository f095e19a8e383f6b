//! Programs that leak, each in its own way, for pictures.

use anyhow::Result;

use crate::support::{actor::Actor, netns::Netns};

/// Programs that leak, each in its own way.
pub struct Town {
    /// Reads to the end and forgets to close.
    shop: Server,
    /// Accepts and does not come back to read.
    tornado: Server,
    /// Does not accept: its workers are used up.
    pool: Server,
    /// Closes what the crawler has fetched; the crawler does not.
    pages: Server,
    crawler: Actor,
    browser: Actor,
    round: u32,
}

struct Server {
    actor: Actor,
    address: &'static str,
    listener: u32,
}

impl Server {
    fn start(netns: &Netns, name: &str, address: &'static str, backlog: u32) -> Result<Self> {
        let mut actor = named(netns, name)?;
        let listener = actor.number(&format!("listen {address} {backlog}"))?;
        Ok(Self { actor, address, listener })
    }

    /// Both ends of a connection, the client's first.
    fn serve(&mut self, client: &mut Actor) -> Result<(u32, u32)> {
        let connected = client.number(&format!("connect {}", self.address))?;
        Ok((connected, self.actor.number(&format!("accept {}", self.listener))?))
    }
}

impl Town {
    pub fn new(netns: &Netns) -> Result<Self> {
        Ok(Self {
            shop: Server::start(netns, "shop-api", "127.0.0.1:8080", 128)?,
            tornado: Server::start(netns, "tornado", "127.0.0.2:8888", 128)?,
            pool: Server::start(netns, "thrift-pool", "127.0.0.3:9090", 64)?,
            pages: Server::start(netns, "pages", "127.0.0.4:80", 128)?,
            crawler: named(netns, "crawler")?,
            browser: named(netns, "browser")?,
            round: 0,
        })
    }

    /// One more leak of the shop, by its descriptor; of the others now and then.
    pub fn leak(&mut self) -> Result<u32> {
        self.round += 1;
        let (browser, crawler) = (&mut self.browser, &mut self.crawler);
        let (client, leaked) = self.shop.serve(browser)?;
        browser.tell(&format!("send {client} 300"))?;
        browser.tell(&format!("close {client}"))?;
        self.shop.actor.tell(&format!("recv-fin {leaked} 1000"))?;
        if self.round % 3 == 1 {
            let (client, _) = self.tornado.serve(browser)?;
            browser.tell(&format!("send {client} 512"))?;
            browser.tell(&format!("close {client}"))?;
        }
        if self.round % 8 == 2 {
            let client = browser.number(&format!("connect {}", self.pool.address))?;
            browser.tell(&format!("close {client}"))?;
        }
        if self.round % 6 == 3 {
            let (client, server) = self.pages.serve(crawler)?;
            self.pages.actor.tell(&format!("send {server} 404"))?;
            crawler.tell(&format!("recv {client} 404"))?;
            self.pages.actor.tell(&format!("close {server}"))?;
        }
        Ok(leaked)
    }

    /// The shop closes one after all.
    pub fn close(&mut self, leaked: u32) -> Result<()> {
        self.shop.actor.tell(&format!("close {leaked}"))?;
        Ok(())
    }
}

fn named(netns: &Netns, name: &str) -> Result<Actor> {
    Ok(Actor::start_as(Some(netns), name)?)
}
