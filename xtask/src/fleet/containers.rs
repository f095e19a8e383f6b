//! The agent in one container, a leak in another, by podman and runc: it names the leak with its
//! container, on the rights that deploy/kubernetes asks for.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};

use super::{Directory, get, say, wait};
use crate::{cargo::root, dist, setup};

const AT: &str = "127.0.0.1:9096";
/// As the DaemonSet has them.
const CAPABILITIES: [&str; 5] = ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN"];
const LEAKS: &str = "\
import socket, time
listener = socket.create_server(('127.0.0.1', 8080))
kept = []
for _ in range(7):
    client = socket.create_connection(('127.0.0.1', 8080))
    kept.append(listener.accept()[0])
    client.close()
time.sleep(120)
";

/// All of it.
pub fn run() -> Result<()> {
    setup::packages(&[
        ("podman", "podman", "podman"),
        ("runc", "runc", "runc"),
        ("python3", "python3", "python3"),
    ])?;
    let binary = dist::shipped()?;
    let dir = Directory::new()?;
    let arch = dir.0.join("amd64");
    fs::create_dir_all(&arch)?;
    fs::copy(binary, arch.join("tcptrace"))?;
    let recipe = root().join("xtask/src/dist/Containerfile");
    let recipe = recipe.to_str().context("a path")?;
    let context = dir.0.to_str().context("a path")?;
    podman(&[
        "build",
        "-q",
        "-f",
        recipe,
        "--build-arg",
        "TARGETARCH=amd64",
        "-t",
        IMAGE,
        context,
    ])?;
    let _gone = Gone;
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
    let capabilities: Vec<String> =
        CAPABILITIES.iter().map(|name| format!("--cap-add={name}")).collect();
    let capabilities: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    let agent = [
        &["run", "-d", "--name", "agent", "--pid=host", "--network=host", "--read-only"][..],
        &["--cap-drop=all"],
        &capabilities,
        &LIMITS,
        &[IMAGE, "serve", "--netns", &netns, "--min-age", "1s", "--listen", AT],
    ];
    podman(&agent.concat())?;
    let workload = id.get(..12).context("an id")?;
    let leaks = format!("tcptrace_leaks{{workload=\"{workload}\"}} 7");
    let named = || {
        let text = metrics()?;
        Ok(text.lines().any(|line| line == leaks) && text.contains("runtime=\"podman\""))
    };
    wait("the leak by its container", named)
        .with_context(|| podman(&["logs", "agent"]).unwrap_or_default())?;
    say(&format!("an agent in one container names the leak of another: {leaks}"));
    ensure!(metrics()?.contains("kind=\"container\""), "its kind");
    Ok(())
}

const IMAGE: &str = "tcptrace-tried";
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
        for args in [&["rm", "-f", "-t", "0", "leaky", "agent"][..], &["rmi", "-f", IMAGE]] {
            let _ = podman(args);
        }
    }
}
