//! What is handed out, tried: in a bare Debian root, under another directory, by the linters.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Dist, service, walk};
use crate::{
    cargo::{check, root},
    setup,
    support::{actor::Actor, netns::Netns},
};

const SUITE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// What systemd-analyze gives the service is to stay below this, in tenths.
const EXPOSURE: &str = "15";

/// As root.
pub fn run(dist: &Dist) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("debootstrap and network namespaces need root: sudo cargo xtask dist check");
    }
    setup::packages(&[
        ("debootstrap", "debootstrap", "debootstrap"),
        ("man", "man-db", "man-db"),
        ("mandoc", "mandoc", "mandoc"),
        ("zsh", "zsh", "zsh"),
        ("fish", "fish", "fish"),
        ("systemd-analyze", "systemd", "systemd"),
    ])?;
    step("static");
    let ldd = output(Command::new("ldd").arg(dist.dir.join("tcptrace")))?;
    if !ldd.contains("statically linked") && !ldd.contains("not a dynamic executable") {
        bail!("not static: {ldd}");
    }
    step("manual pages");
    pages(&dist.dir.join("man"))?;
    step("completions");
    let completions = dist.dir.join("completions");
    check(Command::new("zsh").arg("-n").arg(completions.join("_tcptrace")))?;
    check(Command::new("fish").arg("--no-execute").arg(completions.join("tcptrace.fish")))?;
    installed(dist)?;
    step("the same bytes from another directory");
    again(dist)?;
    eprintln!("all well: {}", dist.package.display());
    Ok(())
}

fn step(name: &str) {
    eprintln!("== {name}");
}

/// What a command prints, on both ways, whatever its end.
fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

fn pages(dir: &Path) -> Result<()> {
    for page in fs::read_dir(dir)? {
        let page = page?.path();
        let mut man = Command::new("man");
        man.args(["--warnings", "--encoding=UTF-8", "--local-file"])
            .arg(&page)
            .env("MANWIDTH", "80");
        let said = String::from_utf8(man.stdout(Stdio::null()).output().context("man")?.stderr)?;
        // Of mandoc only what it can't do: it warns of empty lines that clap_mangen leaves.
        check(Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(&page))?;
        if !said.is_empty() {
            bail!("{}: {said}", page.display());
        }
    }
    Ok(())
}

/// The package in a bare Debian: it goes in, works, and leaves nothing behind.
fn installed(dist: &Dist) -> Result<()> {
    let bare = Bare::new()?;
    let name = package_name(&dist.package)?;
    step("installing");
    // What a failed try left.
    bare.run("dpkg", &["--purge", name])?;
    let before = bare.files()?;
    fs::copy(&dist.package, bare.0.join("tmp/tcptrace.deb"))?;
    bare.run("apt-get", &["install", "-qq", "-y", "--no-install-recommends", "/tmp/tcptrace.deb"])?;
    fs::remove_file(bare.0.join("tmp/tcptrace.deb"))?;
    let version = bare.run("tcptrace", &["--version"])?;
    if version.trim() != format!("tcptrace {}", env!("CARGO_PKG_VERSION")) {
        bail!("tcptrace --version: {version}");
    }
    bare.run("dpkg", &["--verify", name])?;
    let script = ". /usr/share/bash-completion/completions/tcptrace
        COMP_WORDS=(tcptrace wa) COMP_CWORD=1; _tcptrace tcptrace wa tcptrace; echo ${COMPREPLY[*]}";
    let completed = bare.run("bash", &["-c", script])?;
    if completed.trim() != "watch" {
        bail!("tcptrace wa<TAB> completes to {completed:?}");
    }
    step("a leak, seen from there");
    leak(&bare)?;
    step("the service");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--no-pager", &format!("--threshold={EXPOSURE}")]);
    analyze.arg(bare.0.join("usr/lib/systemd/system/tcptrace.service"));
    let said = analyze.output().context("systemd-analyze")?;
    let text = String::from_utf8_lossy(&said.stdout);
    eprintln!("{}", text.lines().last().unwrap_or_default());
    if !said.status.success() {
        bail!("systemd-analyze security says more than {EXPOSURE} tenths:\n{text}");
    }
    service::run(&bare, &dist.package)?;
    step("purging");
    bare.run("apt-get", &["purge", "-qq", "-y", name])?;
    let after = bare.files()?;
    let left: Vec<String> =
        after.iter().filter(|f| !before.contains(f)).map(|f| f.display().to_string()).collect();
    if !left.is_empty() {
        bail!("left behind: {}", left.join(", "));
    }
    Ok(())
}

fn package_name(package: &Path) -> Result<&str> {
    let name =
        package.file_name().and_then(|name| name.to_str()).and_then(|name| name.split('_').next());
    name.context("the package's name")
}

/// A Debian with nothing in it, kept for the next time.
pub struct Bare(pub PathBuf);

impl Bare {
    fn new() -> Result<Self> {
        let dir = root().join("target/dist/root");
        let done = dir.join("etc/debian_version");
        if !done.exists()
            || !dir.join("var/lib/dpkg/status").exists()
            || dir.join("debootstrap").exists()
        {
            step("debootstrap");
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(&dir)?;
            let mut debootstrap = Command::new("debootstrap");
            check(
                debootstrap
                    .args(["--variant=minbase", SUITE])
                    .arg(&dir)
                    .arg(MIRROR)
                    .stdout(Stdio::null()),
            )?;
        }
        Ok(Self(dir))
    }

    /// A command in it. What is mounted there goes with the command.
    fn command(&self, program: &str, args: &[&str]) -> Command {
        let script = "mount -t proc proc \"$0/proc\" && mount --rbind /sys \"$0/sys\" && exec \
                      chroot \"$0\" \"$@\"";
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", script])
            .arg(&self.0)
            .arg(program)
            .args(args);
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    /// To its success; returns what it printed.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let mut command = self.command(program, args);
        let output = command.output().context("unshare")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{program} {}: {}\n{text}{said}", args.join(" "), output.status);
        }
        Ok(text)
    }

    /// All but logs and caches.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        walk(&self.0, &mut files)?;
        files.retain(|file| {
            let inside = file.strip_prefix(&self.0).unwrap_or(file);
            !["var/log", "var/cache", "var/lib/apt", "var/lib/dpkg"]
                .iter()
                .any(|dir| inside.starts_with(dir))
        });
        Ok(files)
    }
}

/// A server that does not close, in a network namespace of its own: check, watch and snapshot.
fn leak(bare: &Bare) -> Result<()> {
    bare.run("tcptrace", &["check"])?;
    let netns = Netns::new().context("making a network namespace")?;
    let (mut server, mut client) = (Actor::start(Some(&netns))?, Actor::start(Some(&netns))?);
    let listener = server.number("listen 127.0.0.1:8080 16")?;
    let connected = client.number("connect 127.0.0.1:8080")?;
    server.number(&format!("accept {listener}"))?;
    let path = netns.path();
    let scope = ["--format", "json", "--netns", path.to_str().context("a plain path")?];

    let watch = [&["watch", "--count", "1", "--duration", "30s"], &scope[..]].concat();
    let mut watch =
        bare.command("tcptrace", &watch).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut said = BufReader::new(watch.stderr.take().context("stderr")?);
    let mut line = String::new();
    while !line.contains("watching ") {
        if said.read_line(&mut line)? == 0 {
            bail!("tcptrace watch in the bare root: {line}");
        }
    }
    client.tell(&format!("close {connected}"))?;
    let mut reported = String::new();
    watch.stdout.take().context("stdout")?.read_to_string(&mut reported)?;
    watch.wait()?;
    names(&reported, "stuck", server.pid())?;
    names(&bare.run("tcptrace", &[&["snapshot"], &scope[..]].concat())?, "socket", server.pid())
}

/// The first event of a kind names the holder.
fn names(lines: &str, event: &str, pid: u32) -> Result<()> {
    let events = lines.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let found = events.iter().find(|e| e["event"] == event && e["state"] == "CLOSE_WAIT");
    let holder = found.map(|e| &e["holders"][0]["pid"]);
    if holder != Some(&Value::from(pid)) {
        bail!("no {event} that names {pid}: {lines}");
    }
    Ok(())
}

/// Copies the sources elsewhere, without git, and makes all of it once more.
fn again(dist: &Dist) -> Result<()> {
    let there = root().join("target/dist/again");
    fs::create_dir_all(&there)?;
    // What was built there before stays.
    let script = "find \"$0\" -mindepth 1 -maxdepth 1 ! -name target -exec rm -r {} + &&
        git ls-files -co --exclude-standard -z | xargs -0 cp --preserve=mode,timestamps --parents \
                  --target-directory=\"$0\"";
    check(Command::new("sh").current_dir(root()).args(["-c", script]).arg(&there))?;
    let mut build = Command::new("cargo");
    build.current_dir(&there).args(["xtask", "dist"]).env("SOURCE_DATE_EPOCH", &dist.epoch);
    check(build.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_MANIFEST_DIR"))?;
    let name = dist.dir.file_name().context("the architecture")?;
    let sums = |dir: &Path| fs::read_to_string(dir.join("SHA256SUMS"));
    let (ours, theirs) = (sums(&dist.dir)?, sums(&there.join("target/dist").join(name))?);
    if ours != theirs {
        bail!("not the same bytes:\n{ours}\n{theirs}");
    }
    Ok(())
}
