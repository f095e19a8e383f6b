//! Two agents with real leaks, scraped by a real Prometheus, whose alerts a real Alertmanager
//! sends: what is in `deploy/` is held against them.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    ALERTMANAGER, DEADLINE, Directory, PROMETHEUS, Started,
    ask::{firing, get, query},
    host::Leak,
    say,
    site::{NEEDED, Site},
};
use crate::{
    cargo::{check, root},
    setup,
};

/// Everything, from the packages on.
pub fn run() -> Result<()> {
    setup::packages(&NEEDED)?;
    setup::packages(&[(
        "prometheus-alertmanager",
        "prometheus-alertmanager",
        "golang-github-prometheus",
    )])?;
    let rules = root().join("deploy/prometheus");
    promtool(&rules, &["check", "rules", "tcptrace.rules.yml"])?;
    promtool(&rules, &["test", "rules", "tcptrace.rules.test.yml"])?;

    let site = Site::start()?;
    for host in &site.hosts {
        let (_, text) = get(host.at, "/metrics")?;
        metrics_are_well_formed(&text)?;
    }
    let (received, receiver) = receiver()?;
    let _alertmanager = alertmanager(&site.dir, receiver)?;
    let _prometheus = site.prometheus(None)?;
    let Site { dir: _dir, tcptrace, token, hosts, agents } = site;

    say("both hosts begin to leak: five connections a second");
    let mut leaks = hosts.iter().map(Leak::new).collect::<Result<Vec<_>>>()?;
    let mut told = Vec::new();
    let until = Instant::now() + DEADLINE;
    while told.len() < 2 {
        leaks.iter_mut().try_for_each(|leak| leak.one().map(drop))?;
        thread::sleep(Duration::from_millis(200));
        for alert in received.try_iter().flat_map(|body| alerts(&body)) {
            let is = |name: &str, value: &str| alert["labels"][name] == value;
            if is("alertname", "TcptraceLeakGrowing") && alert["status"] == "firing" {
                let instance = alert["labels"]["instance"].clone();
                if !told.contains(&instance) {
                    say(&format!("received: {}", alert["annotations"]["summary"]));
                    told.push(instance);
                }
                let text = alert["annotations"]["description"].as_str().unwrap_or_default();
                ensure!(text.contains("sudo tcptrace explain"), "no command: {alert:#}");
                ensure!(is("workload", "leaky-server"), "not its workload: {alert:#}");
            }
        }
        ensure!(Instant::now() < until, "no alert of both; Prometheus: {}", firing()?);
    }
    queries(&root().join("deploy/grafana/tcptrace.json"))?;
    worst(&tcptrace)?;

    say("one host's server goes; the other's agent is started anew");
    let [mut one, mut other] = <[Leak; 2]>::try_from(leaks).map_err(|_| anyhow::anyhow!("two"))?;
    one.server.tell("exit").ok();
    let [_kept, mut restarted] = agents;
    restarted.end();
    let _again = hosts[1].agent(&tcptrace, &token)?;
    let until = Instant::now() + DEADLINE;
    let mut ended = false;
    while !ended {
        other.one()?;
        thread::sleep(Duration::from_millis(200));
        for alert in received.try_iter().flat_map(|body| alerts(&body)) {
            if alert["labels"]["alertname"] != "TcptraceLeakGrowing"
                || alert["status"] != "resolved"
            {
                continue;
            }
            let instance = &alert["labels"]["instance"];
            ensure!(*instance == hosts[0].instance(), "an alert flaps: {alert:#}");
            say(&format!("resolved: {}", alert["annotations"]["summary"]));
            ended = true;
        }
        ensure!(Instant::now() < until, "no end of it; Prometheus: {}", firing()?);
    }
    say("well: rules, alerts, and every query of the dashboard");
    Ok(())
}

pub(super) fn promtool(dir: &Path, args: &[&str]) -> Result<()> {
    let program = setup::which("promtool").context("promtool")?;
    check(Command::new(program).args(args).current_dir(dir))
}

/// What promtool says of a scrape.
fn metrics_are_well_formed(text: &str) -> Result<()> {
    let program = setup::which("promtool").context("promtool")?;
    let mut child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child.stdin.take().context("stdin")?.write_all(text.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.success() && said.trim().is_empty(), "promtool check metrics: {said}");
    Ok(())
}
/// Sends what fires to `receiver`.
fn alertmanager(dir: &Directory, receiver: SocketAddr) -> Result<Started> {
    let routes = dir.write(
        "alertmanager.yml",
        &format!(
            "route: {{receiver: test, group_by: [alertname, instance], group_wait: 1s, \
             group_interval: 1s}}\nreceivers:\n- name: test\n  webhook_configs:\n  - url: \
             http://{receiver}/\n    send_resolved: true\n"
        ),
    )?;
    let name = "prometheus-alertmanager";
    let mut alertmanager = Command::new(setup::which(name).context(name)?);
    alertmanager.arg(format!("--config.file={}", routes.display()));
    alertmanager.arg(format!("--storage.path={}", dir.0.join("alerts").display()));
    alertmanager.arg(format!("--web.listen-address={ALERTMANAGER}"));
    alertmanager.arg("--cluster.listen-address=");
    Started::new(&mut alertmanager, &dir.0.join("alertmanager.log"))
}

/// Takes what Alertmanager sends.
fn receiver() -> Result<(Receiver<String>, SocketAddr)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    let (tell, received) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !is_whole(&request) {
                match stream.read(&mut piece) {
                    Ok(n) if n > 0 => request.extend_from_slice(&piece[..n]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let text = String::from_utf8_lossy(&request).into_owned();
            let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
            if tell.send(body.to_owned()).is_err() {
                return;
            }
        }
    });
    Ok((received, at))
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    body.len() >= length.unwrap_or(0)
}

fn alerts(body: &str) -> Vec<Value> {
    let message: Value = serde_json::from_str(body).unwrap_or_default();
    message["alerts"].as_array().cloned().unwrap_or_default()
}

/// What the program itself makes of it.
fn worst(tcptrace: &Path) -> Result<()> {
    let mut command = Command::new(tcptrace);
    command.args(["fleet", "--prometheus", PROMETHEUS]);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let named = said.lines().filter(|line| line.contains("leaky-server")).count();
    ensure!(named == 2 && said.contains("leaks on 2 hosts") && said.contains('+'), "{said}");
    say("$ tcptrace fleet --prometheus 127.0.0.1:9090");
    eprint!("{said}");
    Ok(())
}

/// Every query of the dashboard is one that Prometheus takes; those that answer nothing are named.
fn queries(dashboard: &Path) -> Result<()> {
    let text = fs::read_to_string(dashboard)?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let panels = dashboard["panels"].as_array().context("panels")?;
    let (mut all, mut empty) = (0, Vec::new());
    for panel in panels {
        for target in panel["targets"].as_array().context("targets")? {
            let expr = target["expr"].as_str().context("a query")?.replace("$instance", ".*");
            all += 1;
            if query(&expr)?.is_empty() {
                empty.push(panel["title"].to_string());
            }
        }
    }
    say(&format!(
        "{all} queries of the dashboard, {} without data: {}",
        empty.len(),
        empty.join(", ")
    ));
    // Of these there is nothing to say here: nobody waits to be accepted, nothing runs out today.
    let may_be = ["Accept queues", "First to run out", "Full in"];
    let other = empty.iter().find(|title| !may_be.iter().any(|one| title.contains(one)));
    match other {
        Some(title) => bail!("no data for {title}"),
        None => Ok(()),
    }
}
