//! A host of the tests: a network namespace with an agent, and a server in it that does not close.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result};

use super::Started;
use crate::{
    cargo::{check, root},
    setup,
    support::{actor::Actor, netns::Netns},
};

/// A host with an agent, reachable from where Prometheus is.
pub(super) struct Host {
    pub(super) netns: Netns,
    pub(super) at: SocketAddr,
}

impl Host {
    pub(super) fn new(monitor: &Netns, n: u8) -> Result<Self> {
        let netns = Netns::new().context("a network namespace")?;
        let path = netns.path();
        let path = path.to_str().context("a path")?;
        let (near, far) = (format!("m{n}"), "v0");
        ip(monitor, &["link", "add", &near, "type", "veth", "peer", "name", far, "netns", path])?;
        for (within, interface, end) in [(monitor, near.as_str(), 1), (&netns, far, 2)] {
            let address = format!("10.78.{n}.{end}/24");
            ip(within, &["address", "add", &address, "dev", interface])?;
            ip(within, &["link", "set", interface, "up"])?;
        }
        Ok(Self { netns, at: ([10, 78, n, 2], 9095).into() })
    }

    pub(super) fn instance(&self) -> String {
        self.at.to_string()
    }

    pub(super) fn agent(&self, tcptrace: &Path, token: &Path) -> Result<Started> {
        let mut command = Command::new(tcptrace);
        command.args(["serve", "--min-age", "1s", "--listen", &self.instance(), "--netns"]);
        command.arg(self.netns.path()).arg("--token-file").arg(token);
        self.netns.enter_in(&mut command)?;
        let log = root().join(format!("target/fleet/agent-{}.log", self.at.ip()));
        Started::new(&mut command, &log)
    }
}

fn ip(within: &Netns, args: &[&str]) -> Result<()> {
    let mut command = Command::new(setup::which("ip").context("ip")?);
    command.args(args);
    within.enter_in(&mut command)?;
    check(&mut command)
}

/// A server that does not close.
pub(super) struct Leak {
    pub(super) server: Actor,
    client: Actor,
    listener: u32,
}

impl Leak {
    pub(super) fn new(host: &Host) -> Result<Self> {
        Self::of(host, Actor::start(Some(&host.netns))?, "leaky-server")
    }

    /// The same of a server of that name, which may have no more than so many descriptors.
    pub(super) fn limited(host: &Host, name: &str, descriptors: u32) -> Result<Self> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), name]);
        Self::of(host, Actor::start_by(&host.netns, shell)?, name)
    }

    fn of(host: &Host, mut server: Actor, name: &str) -> Result<Self> {
        server.tell(&format!("name {name}"))?;
        let client = Actor::start(Some(&host.netns))?;
        let listener = server.number("listen 127.0.0.1:8080 64")?;
        Ok(Self { server, client, listener })
    }

    /// The server's descriptor of the one that leaks.
    pub(super) fn one(&mut self) -> Result<u32> {
        let connected = self.client.number("connect 127.0.0.1:8080")?;
        let leaked = self.server.number(&format!("accept {}", self.listener))?;
        self.client.tell(&format!("close {connected}"))?;
        // And one as it should be.
        let connected = self.client.number("connect 127.0.0.1:8080")?;
        let served = self.server.number(&format!("accept {}", self.listener))?;
        self.client.tell(&format!("close {connected}"))?;
        self.server.tell(&format!("close {served}"))?;
        Ok(leaked)
    }
}
