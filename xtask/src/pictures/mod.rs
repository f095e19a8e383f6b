//! The documents' pictures, made anew: real leaks in a network namespace, watched in a terminal,
//! and told in a report.

mod svg;
mod terminal;
pub mod town;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use self::{terminal::Terminal, town::Town};
use crate::{
    browser,
    cargo::{self, root},
    setup,
    support::netns::Netns,
};

const COLUMNS: u16 = 100;
const ROWS: u16 = 24;
/// What the commands call the network namespace.
const NAME: &str = "demo";
/// The commands, and how long new leaks come before their picture is taken: of watch, as long as
/// its first lines are still to be seen.
const COMMANDS: [(&str, Duration); 2] =
    [("watch", Duration::from_secs(6)), ("top", Duration::from_secs(20))];

/// `pictures [BINARY]`: `docs/watch.svg`, and `docs/top.svg` where the program has that command.
pub fn run(words: &[&str]) -> Result<()> {
    let binary = match words {
        [] => cargo::build_release(&[])?,
        [binary] => fs::canonicalize(binary).with_context(|| (*binary).to_owned())?,
        _ => bail!("cargo xtask pictures [BINARY]"),
    };
    if !rustix::process::geteuid().is_root() {
        bail!("pictures are of a real run, which needs root");
    }
    setup::packages(&[("tmux", "tmux", "tmux"), ("unshare", "util-linux", "util-linux")])?;
    for (command, leaking) in COMMANDS {
        if has(&binary, command)? {
            picture(&binary, command, leaking)?;
        } else {
            eprintln!("{} has no {command}: no picture of it", binary.display());
        }
    }
    report(&binary)
}

/// How long new leaks come before a report is made.
const REPORTED: Duration = Duration::from_secs(40);
/// What the report calls the host.
const HOST: &str = "shop-7";
/// The picture of the report's top, pixels.
const TOP: [u32; 2] = [1180, 1010];

/// `docs/report.png`: the page of a watch, as a browser shows its top.
fn report(binary: &Path) -> Result<()> {
    let directory = root().join("target/browser");
    fs::create_dir_all(&directory)?;
    let page = directory.join("picture.html");
    let netns = Netns::new().context("making a network namespace")?;
    let mut town = Town::new(&netns)?;
    let length = REPORTED.as_secs();
    let shown = format!(
        "tcptrace watch --netns {NAME} --utc --duration {length}s --report {}",
        page.display()
    );
    // With a name of its own, and without the cgroups of whoever makes it.
    let within = script(&netns.path(), &binary.display(), &shown);
    let command = format!("unshare --uts --cgroup sh -c 'hostname {HOST}; exec \"$@\"' - {within}");
    let mut watch = Command::new("sh");
    watch.args(["-c", &command]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut watch = watch.spawn().context("starting the watch")?;
    let began = Instant::now();
    while began.elapsed() < REPORTED - Duration::from_secs(2) {
        town.leak()?;
        thread::sleep(Duration::from_millis(150));
    }
    let ended = watch.wait()?;
    if !ended.success() {
        bail!("the watch failed ({ended}): {command}");
    }
    let file = root().join("docs/report.png");
    let text = browser::picture(&page, &file, TOP)?;
    discreet(&text)?;
    eprintln!("{}", file.display());
    Ok(())
}

/// No picture tells of the machine that it was made on.
pub fn discreet(text: &str) -> Result<()> {
    match private().into_iter().find(|private| text.contains(private)) {
        Some(private) => bail!("the picture tells of this machine ({private}):\n{text}"),
        None => Ok(()),
    }
}

fn has(binary: &Path, command: &str) -> Result<bool> {
    let asked = Command::new(binary).args([command, "--help"]).output();
    Ok(asked.with_context(|| binary.display().to_string())?.status.success())
}

/// Leaks while the command runs, and what is then on its screen.
fn picture(binary: &Path, command: &str, leaking: Duration) -> Result<()> {
    let netns = Netns::new().context("making a network namespace")?;
    let mut town = Town::new(&netns)?;
    let shown = format!("tcptrace {command} --netns {NAME}");
    let terminal =
        Terminal::start(COLUMNS, ROWS, &script(&netns.path(), &binary.display(), &shown))?;
    // Until it is attached: of what comes then it sees the beginning.
    thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    while began.elapsed() < leaking {
        town.leak()?;
        thread::sleep(Duration::from_millis(400));
    }
    let screen = terminal.screen()?;
    for needed in ["shop-api", "eof-not-closed"] {
        if !screen.contains(needed) {
            bail!("{needed} is not on the screen of '{shown}':\n{screen}");
        }
    }
    discreet(&screen).with_context(|| format!("the screen of '{shown}'"))?;
    let file = root().join("docs").join(format!("{command}.svg"));
    fs::write(&file, svg::picture(&format!("sudo {shown}"), &screen, COLUMNS, ROWS))?;
    eprintln!("{}", file.display());
    Ok(())
}

/// The command as it is shown, in a mount namespace where the network namespace has its name.
fn script(netns: &Path, binary: &dyn std::fmt::Display, shown: &str) -> String {
    let arguments = shown.trim_start_matches("tcptrace");
    format!(
        "unshare --mount --propagation private sh -c \"mount -t tmpfs none /run && \
         mkdir /run/netns && touch /run/netns/{NAME} && \
         mount --bind {netns} /run/netns/{NAME} && clear && \
         echo '\\$ sudo {shown}' && exec '{binary}'{arguments}\"",
        netns = netns.display(),
    )
}

/// What no picture may tell: the home directory, the host's name, its kernel.
fn private() -> Vec<String> {
    let uname = rustix::system::uname();
    let names = [uname.nodename(), uname.release()].map(|name| name.to_string_lossy().into_owned());
    let home = env::home_dir().map(|home: PathBuf| format!("{}/", home.display()));
    // A name of two letters, as of a virtual machine, may be part of any word.
    names.into_iter().chain(home).filter(|name| name.len() > 3).collect()
}
