//! A thousand simulated agents, scraped by a real Prometheus: what that takes of it.

use std::{path::Path, process::Command, thread, time::Duration};

use anyhow::{Context, Result, ensure};

use super::{Directory, PROMETHEUS, Started, ask::number, say, wait};
use crate::{
    cargo::{cargo, check, root},
    setup,
    support::netns::Netns,
};

/// Agents.
const AGENTS: u32 = 1_000;
/// Scraped so often, s: as a fleet is.
const EVERY_S: u32 = 15;
/// For so long, after a first round.
const FOR: Duration = Duration::from_secs(180);

/// All of it.
pub fn run() -> Result<()> {
    setup::packages(&[("prometheus", "prometheus", "golang-github-prometheus")])?;
    let mut build = cargo()?;
    build.args(["build", "--release", "--locked", "--quiet", "--package", "tcptrace"]);
    check(build.args(["--example", "hosts"]))?;
    let dir = Directory::new()?;
    let netns = Netns::new().context("a network namespace")?;
    netns.enter()?;
    let mut hosts = Command::new(root().join("target/release/examples/hosts"));
    hosts.args(["9095", &AGENTS.to_string()]);
    let _hosts = Started::new(&mut hosts, &dir.0.join("hosts.log"))?;
    let _prometheus = start(&dir)?;
    say(&format!("{AGENTS} agents, a scrape each {EVERY_S} s"));
    let up = || Ok(number("sum(up{job=\"tcptrace\"})")? == f64::from(AGENTS));
    wait("all are up", up)?;
    thread::sleep(FOR);
    ensure!(up()?, "not all are up any more");
    let shown = [
        ("series", "prometheus_tsdb_head_series - scalar(count({job=\"prometheus\"}))"),
        ("series an agent", "avg(scrape_samples_post_metric_relabeling{job=\"tcptrace\"}) + 5"),
        ("samples a second", "rate(prometheus_tsdb_head_samples_appended_total[2m])"),
        ("CPU, cores", "rate(process_cpu_seconds_total{job=\"prometheus\"}[2m])"),
        ("memory, MiB", "process_resident_memory_bytes{job=\"prometheus\"} / 1048576"),
        (
            "a scrape, ms, 99 of 100",
            "1000 * quantile(0.99, scrape_duration_seconds{job=\"tcptrace\"})",
        ),
    ];
    eprintln!("| of Prometheus | seen |\n|---|--:|");
    for (what, query) in shown {
        eprintln!("| {what} | {:.2} |", number(query)?);
    }
    Ok(())
}

fn start(dir: &Directory) -> Result<Started> {
    let targets: Vec<String> = (0..AGENTS).map(|n| format!("'{n}'")).collect();
    let config = dir.write(
        "prometheus.yml",
        &format!(
            "global: {{scrape_interval: {EVERY_S}s}}\n\
             rule_files: ['{}']\n\
             scrape_configs:\n\
             - job_name: prometheus\n  static_configs: [{{targets: ['{PROMETHEUS}']}}]\n\
             - job_name: tcptrace\n  static_configs: [{{targets: [{}]}}]\n  relabel_configs:\n  \
             - {{source_labels: [__address__], target_label: instance}}\n  \
             - {{source_labels: [__address__], target_label: __metrics_path__, replacement: \
             '/$1/metrics'}}\n  - {{target_label: __address__, replacement: '127.0.0.1:9095'}}\n",
            root().join("deploy/prometheus/tcptrace.rules.yml").display(),
            targets.join(", ")
        ),
    )?;
    let mut prometheus = Command::new(setup::which("prometheus").context("prometheus")?);
    prometheus.arg(format!("--config.file={}", config.display()));
    prometheus.arg(format!("--storage.tsdb.path={}", dir.0.join("tsdb").display()));
    prometheus.arg(format!("--web.listen-address={PROMETHEUS}"));
    Started::new(&mut prometheus, Path::new(&dir.0.join("prometheus.log")))
}
