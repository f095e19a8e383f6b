//! The agent in one container, a leak in another, by podman and runc: it names the leak with its
//! container, on the rights that deploy/ asks for.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail, ensure};

use super::{
    Directory, TOKEN, ask::get, manifests::Tools, rights::CAPABILITIES, say, seccomp, wait,
};
use crate::{
    cargo::{check, root},
    dist, setup,
};

const AT: &str = "127.0.0.1:9096";
const LEAKS: &str = "\
import socket, time
listener = socket.create_server(('127.0.0.1', 8080))
kept = []
for _ in range(7):
    client = socket.create_connection(('127.0.0.1', 8080))
    kept.append(listener.accept()[0])
    client.close()
time.sleep(600)
";

/// All of it.
pub fn run() -> Result<()> {
    setup::packages(&[
        ("podman", "podman", "podman"),
        ("runc", "runc", "runc"),
        ("python3", "python3", "python3"),
    ])?;
    seccomp::check()?;
    let dir = Directory::new()?;
    let _gone = Gone;
    image(&dir)?;
    let script = dir.write("leak.py", LEAKS)?;
    let mounted = format!("{}:/leak.py:ro", script.display());
    let python = setup::which("python3").context("python3")?;
    let python = fs::canonicalize(python)?;
    let python = python.to_str().context("a path")?;
    // Its root is the host's, as an overlay: no image is at hand, and none is fetched.
    let leaky = [
        &["run", "-d", "--name", "leaky", "--network", "none", "-v", &mounted][..],
        &LIMITS,
        &["--rootfs", "/:O", python, "/leak.py"],
    ];
    let id = podman(&leaky.concat())?;
    let pid = podman(&["inspect", "-f", "{{.State.Pid}}", "leaky"])?;
    let netns = format!("pid:{pid}");
    let workload = id.get(..12).context("an id")?;
    let leaks = format!("tcptrace_leaks{{workload=\"{workload}\"}} 7");
    say("rights: the runtime's own system call filter");
    agent(&netns, &[], &[])?;
    names(&leaks)?;
    let profile = root().join(seccomp::PROFILE);
    let profile = format!("seccomp={}", profile.display());
    let logs = dir.0.join("pods");
    fs::create_dir_all(&logs)?;
    let logs = format!("{}:/var/log/pods:ro", logs.display());
    let more = ["--origins", "--pods=/var/log/pods"];
    for (what, flags) in [(seccomp::PROFILE, &[][..]), ("that, with --origins and --pods", &more)] {
        say(&format!("rights: {what}"));
        agent(&netns, &["--security-opt", &profile, "-v", &logs], flags)?;
        names(&leaks)?;
        let said = podman(&["logs", "agent"])?;
        ensure!(said.lines().count() == 1, "it does without something: {said}");
    }
    refused(&dir, &netns)?;
    composed(&dir, &leaks)?;
    say(&format!("an agent in one container names the leak of another: {leaks}"));
    Ok(())
}

/// The image, built twice, of files of other times: it has the same digest.
fn image(dir: &Directory) -> Result<()> {
    let recipe = root().join("xtask/src/dist/Containerfile");
    let recipe = recipe.to_str().context("a path")?;
    let epoch = dist::epoch()?;
    let mut digests = Vec::new();
    for name in ["one", "two"] {
        let context = dir.0.join(name);
        dist::for_image(&context)?;
        let context = context.to_str().context("a path")?;
        let build = [
            &["build", "-q", "--no-cache", "--layers=false", "--timestamp", &epoch, "-f", recipe][..],
            &["--build-arg", "TARGETARCH=amd64", "-t", IMAGE, context],
        ];
        podman(&build.concat())?;
        digests.push(podman(&["image", "inspect", "-f", "{{.Id}} {{.Digest}}", IMAGE])?);
    }
    let [one, two] = &digests[..] else { bail!("two digests") };
    ensure!(one == two, "two builds of the image differ: {one}, {two}");
    say(&format!("two builds of the image are one: {one}"));
    Ok(())
}

/// An agent in a container, in the place of the one before.
fn agent(netns: &str, options: &[&str], flags: &[&str]) -> Result<()> {
    let _ = podman(&["rm", "-f", "-t", "0", "agent"]);
    let capabilities = CAPABILITIES.map(|name| format!("--cap-add={name}"));
    let capabilities = capabilities.each_ref().map(String::as_str);
    let command = [
        &["run", "-d", "--name", "agent", "--pid=host", "--network=host", "--read-only"][..],
        &["--cap-drop=all", "--security-opt", "no-new-privileges"],
        &capabilities,
        &LIMITS,
        options,
        &[IMAGE, "serve", "--netns", netns, "--min-age", "1s", "--listen", AT],
        flags,
    ];
    podman(&command.concat()).map(drop)
}

/// That the runtime heeds the file: without bpf() in it, there is no agent.
fn refused(dir: &Directory, netns: &str) -> Result<()> {
    let text = fs::read_to_string(root().join(seccomp::PROFILE))?;
    let less = dir.write("less.json", &text.replace("\"bpf\",", ""))?;
    agent(netns, &["--security-opt", &format!("seccomp={}", less.display())], &[])?;
    let code = podman(&["wait", "agent"])?;
    ensure!(code == "4", "without bpf() in the profile it ends with {code}");
    podman(&["rm", "agent"]).map(drop)
}

/// The agent as deploy/compose has it, by podman-compose. The other images can't be had here.
fn composed(dir: &Directory, leaks: &str) -> Result<()> {
    let tools = Tools::new(dir)?;
    let copy = dir.0.join("deploy");
    check(Command::new("cp").arg("-r").arg(root().join("deploy")).arg(&copy))?;
    fs::write(copy.join("compose/token.txt"), TOKEN)?;
    // Networks of containers need more packages: it is asked from within.
    let without = "services: {tcptrace: {network_mode: none}}\n";
    fs::write(copy.join("compose/without.yaml"), without)?;
    let conf = dir.write(
        "containers.conf",
        "[containers]\ndefault_ulimits = [\"nofile=1024:4096\", \"nproc=1000:1000\"]\n[engine]\n\
         cgroup_manager = \"cgroupfs\"\n",
    )?;
    let compose = |args: &[&str]| {
        let mut command = Command::new(tools.bin.join("podman-compose"));
        command.current_dir(copy.join("compose")).env("CONTAINERS_CONF", &conf);
        command.env("TCPTRACE_IMAGE", format!("localhost/{IMAGE}:latest"));
        command.args(["-f", "compose.yaml", "-f", "without.yaml"]).args(args);
        setup::quiet(&mut command)
    };
    ensure!(compose(&["up", "-d", "--no-deps", "tcptrace"]), "podman-compose up");
    let named = composed_names(leaks);
    let said = podman(&["logs", COMPOSED]).unwrap_or_default();
    compose(&["down", "--timeout", "0", "--volumes"]);
    named.context(said)?;
    say("compose.yaml, by podman-compose: the same");
    Ok(())
}

fn composed_names(leaks: &str) -> Result<()> {
    let pid = podman(&["inspect", "-f", "{{.State.Pid}}", COMPOSED])?;
    let script = format!(
        "import urllib.request as u\nr = u.Request('http://127.0.0.1:9095/metrics', headers=\
         {{'Authorization': 'Bearer {TOKEN}'}})\nprint(u.urlopen(r).read().decode())"
    );
    wait("the leak, from compose's agent", || {
        let mut ask = Command::new("nsenter");
        let output = ask.args(["-t", &pid, "-n", "python3", "-c", &script]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().any(|line| line == leaks))
    })
}

/// It tells the leak, and of what kind the workload is.
fn names(leaks: &str) -> Result<()> {
    let named = || {
        let text = metrics()?;
        let has = |words: &str| text.contains(words);
        let kind = has("runtime=\"podman\"") && has("kind=\"container\"");
        Ok(kind && text.lines().any(|line| line == leaks))
    };
    wait("the leak by its container", named)
        .with_context(|| podman(&["logs", "agent"]).unwrap_or_default())
}

const IMAGE: &str = "tcptrace-tried";
/// As podman-compose calls it.
const COMPOSED: &str = "tcptrace_tcptrace_1";
/// No more than this machine allows.
const LIMITS: [&str; 4] = ["--ulimit", "nofile=1024:4096", "--ulimit", "nproc=1000:1000"];

/// What podman says.
fn podman(args: &[&str]) -> Result<String> {
    let mut command = Command::new(setup::which("podman").context("podman")?);
    let output = command.args(["--cgroup-manager", "cgroupfs"]).args(args).output()?;
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    ensure!(output.status.success(), "podman {}: {}", args.join(" "), said[1]);
    Ok(if said[0].trim().is_empty() { &said[1] } else { &said[0] }.trim().to_owned())
}

fn metrics() -> Result<String> {
    Ok(get(AT.parse()?, "/metrics")?.1)
}

/// Removes the containers and the image.
struct Gone;

impl Drop for Gone {
    fn drop(&mut self) {
        for name in ["leaky", "agent", COMPOSED] {
            let _ = podman(&["rm", "-f", "-i", "-t", "0", name]);
        }
        let _ = podman(&["rmi", "-f", IMAGE]);
    }
}
