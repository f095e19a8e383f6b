//! Two hosts with an agent each, and the Prometheus that scrapes them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{
    ALERTMANAGER, Directory, PROMETHEUS, Started, TOKEN,
    ask::{get, number},
    host::Host,
    wait,
};
use crate::{
    cargo::{build_release, root},
    setup,
    support::netns::Netns,
};

/// What a site is made of.
pub(super) const NEEDED: [setup::Needed; 2] =
    [("prometheus", "prometheus", "golang-github-prometheus"), ("ip", "iproute2", "iproute")];

/// Hosts in network namespaces of their own. Whoever makes them is in another, from where both can
/// be reached, and where Prometheus belongs.
pub(super) struct Site {
    pub(super) dir: Directory,
    pub(super) tcptrace: PathBuf,
    pub(super) token: PathBuf,
    pub(super) hosts: [Host; 2],
    pub(super) agents: [Started; 2],
}

impl Site {
    /// With agents that answer.
    pub(super) fn start() -> Result<Self> {
        let tcptrace = build_release(&[])?;
        let dir = Directory::new()?;
        let monitor = Netns::new().context("a network namespace")?;
        let hosts = [Host::new(&monitor, 1)?, Host::new(&monitor, 2)?];
        // From here on this thread, and what it starts, is where Prometheus is.
        monitor.enter()?;
        let token = dir.write("token", TOKEN)?;
        let [one, other] = &hosts;
        let agents = [one.agent(&tcptrace, &token)?, other.agent(&tcptrace, &token)?];
        for host in &hosts {
            wait("the agents", || Ok(get(host.at, "/readyz")?.0 == 200))?;
        }
        Ok(Self { dir, tcptrace, token, hosts, agents })
    }

    /// Prometheus, when it has scraped both. The rules are those that are handed out, with minutes
    /// made seconds. It serves the pages, if there are any, at `/user/`.
    pub(super) fn prometheus(&self, pages: Option<&Path>) -> Result<Started> {
        let text = fs::read_to_string(root().join("deploy/prometheus/tcptrace.rules.yml"))?;
        let quick = ["15m]", "10m]", "5m]", "for: 5m", "for: 2m", "for: 1m"]
            .iter()
            .fold(text, |text, span| text.replace(span, &span.replace('m', "s")));
        self.dir.write("rules.yml", &quick.replace("15 * 60", "15"))?;
        let targets = self.hosts.each_ref().map(|host| format!("'{}'", host.at)).join(", ");
        let config = self.dir.write(
            "prometheus.yml",
            &format!(
                "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
                 rule_files: [rules.yml]\n\
                 alerting:\n  alertmanagers:\n  - static_configs: [{{targets: \
                 ['{ALERTMANAGER}']}}]\n\
                 scrape_configs:\n- job_name: tcptrace\n  authorization: {{credentials: \
                 {TOKEN}}}\n  static_configs: [{{targets: [{targets}]}}]\n"
            ),
        )?;
        let mut prometheus = Command::new(setup::which("prometheus").context("prometheus")?);
        prometheus.arg(format!("--config.file={}", config.display()));
        prometheus.arg(format!("--storage.tsdb.path={}", self.dir.0.join("tsdb").display()));
        prometheus.arg(format!("--web.listen-address={PROMETHEUS}"));
        prometheus.args(pages.map(|pages| format!("--web.user-assets={}", pages.display())));
        let started = Started::new(&mut prometheus, &self.dir.0.join("prometheus.log"))?;
        let at = PROMETHEUS.parse()?;
        wait("Prometheus", || Ok(get(at, "/-/ready").is_ok_and(|(status, _)| status == 200)))?;
        wait("Prometheus scrapes both", || Ok(number("sum(up{job=\"tcptrace\"})")? == 2.0))?;
        Ok(started)
    }
}
