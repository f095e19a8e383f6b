//! The live tests on real kernels, each booted in QEMU, one after the other.

mod image;
mod kernels;
mod machine;
mod nic;
mod verdict;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use self::{machine::Emulator, verdict::Outcome};
use crate::{
    cargo::{cargo, root},
    setup,
};

/// The oldest kernel that is refused, the stable ones in use, and the newest there is, be it a
/// release candidate.
const KERNELS: [&str; 5] = ["5.10", "6.1", "6.12", "7.2", "newest"];

const TARGET: &str = "x86_64-unknown-linux-musl";

/// What is left out: a hundred thousand connections take minutes in emulation; formats, and what
/// names do to them, are the same on every kernel, and the stories' twins put together what other
/// tests try one by one.
const SKIPPED: [&str; 4] = ["storms::", "output::", "untrusted::", "live::stories::"];

/// Tests wait about as much as they compute.
const THREADS: u32 = 4;

/// A machine with nothing else to do takes about two minutes.
const DEADLINE: Duration = Duration::from_secs(400);

/// The two executables that are carried into the machine, by where they were built.
struct Programs {
    live: PathBuf,
    tcptrace: PathBuf,
}

/// Boots the kernels that are named (a series, `rc`, `newest`), or the usual ones. `update` first:
/// looks for newer packages. After `--`: arguments for the live tests.
pub fn run(words: &[&str]) -> Result<()> {
    let (words, args) = match words.iter().position(|word| *word == "--") {
        Some(at) => (&words[..at], &words[at + 1..]),
        None => (words, &[][..]),
    };
    if let ["nic", rest @ ..] = words {
        return nic::run(rest);
    }
    let dir = root().join("target/vm");
    let (update, names) = match words {
        ["update", names @ ..] => (true, names),
        names => (false, names),
    };
    if let Some(odd) = names.iter().find(|name| !is_name(name)) {
        bail!("no such kernel: {odd}; kernels are a series (6.12), rc or newest");
    }
    let names: &[&str] = if names.is_empty() { &KERNELS } else { names };
    packages()?;
    if update {
        kernels::Apt::forget(&dir);
    }
    fs::create_dir_all(&dir)?;
    let emulator = Emulator::find(&dir)?;
    let programs = build()?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for name in names {
        let outcome = one(&dir, name, &emulator, &programs, args, &outcomes);
        let outcome = outcome.unwrap_or_else(|e| Some(Outcome::failed(name, &format!("{e:#}"))));
        let Some(outcome) = outcome else { continue };
        eprintln!("{}", outcome.line());
        outcomes.push(outcome);
    }
    let left_out =
        if args.is_empty() { format!("left out: {}", SKIPPED.join(", ")) } else { args.join(" ") };
    eprintln!("\n{}", verdict::table(&outcomes, &left_out));
    let markdown = verdict::markdown(&outcomes);
    fs::write(dir.join("kernels.md"), &markdown)?;
    eprintln!("{markdown}");
    match outcomes.iter().filter(|outcome| !outcome.passed()).count() {
        0 => Ok(()),
        n => bail!(
            "{n} of {} kernels failed; their consoles are in {}",
            outcomes.len(),
            dir.display()
        ),
    }
}

/// Boots a kernel into an archive that somebody else made; returns what its console said.
pub fn boot(name: &str, image: &Path, log: &Path) -> Result<Vec<String>> {
    packages()?;
    let dir = root().join("target/vm");
    fs::create_dir_all(&dir)?;
    let (emulator, kernel) = (Emulator::find(&dir)?, kernels::kernel(&dir, name)?);
    eprintln!("booting {name} ({})", kernel.version);
    Ok(machine::boot(&emulator, &kernel, image, log, DEADLINE)?.lines)
}

fn packages() -> Result<()> {
    let wanted = [
        ("qemu-system-x86_64", "qemu-system-x86", "qemu-system-x86"),
        ("busybox", "busybox-static", "busybox"),
        ("setpriv", "util-linux", "util-linux"),
        ("dpkg-deb", "dpkg", "dpkg"),
        ("apt-get", "apt", "apt"),
        ("xz", "xz-utils", "xz"),
    ];
    setup::packages(&wanted)
}

fn is_name(name: &str) -> bool {
    let series = |name: &str| {
        name.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    name == "rc" || name == "newest" || name.contains('.') && series(name)
}

/// None: that very kernel was booted already.
fn one(
    dir: &Path,
    name: &str,
    emulator: &Emulator,
    programs: &Programs,
    args: &[&str],
    before: &[Outcome],
) -> Result<Option<Outcome>> {
    let kernel = kernels::kernel(dir, name)?;
    if before.iter().any(|outcome| outcome.version == kernel.version) {
        eprintln!("{name} is {}, which was booted already", kernel.version);
        return Ok(None);
    }
    let mut words = vec![format!("--test-threads {THREADS}")];
    match args {
        [] => words.extend(SKIPPED.map(|skipped| format!("--skip {skipped}"))),
        args => words.extend(args.iter().map(|arg| (*arg).to_owned())),
    }
    let (image, log) = (dir.join(format!("{name}.cpio")), dir.join(format!("{name}.log")));
    image::make(&kernel, programs, &words.join(" "), &image)?;
    eprintln!("booting {name} ({})", kernel.version);
    let console = machine::boot(emulator, &kernel, &image, &log, DEADLINE)?;
    fs::remove_file(image)?;
    Ok(Some(Outcome::of(&kernel, &console, DEADLINE)))
}

/// Statically linked: the machine has no libraries of ours.
fn build() -> Result<Programs> {
    setup::target(TARGET)?;
    let mut command = cargo()?;
    command.args([
        "test",
        "--locked",
        "--profile",
        "vm",
        "--target",
        TARGET,
        "--package",
        "tcptrace",
    ]);
    command.args(["--test", "live", "--no-run", "--message-format", "json-render-diagnostics"]);
    let output = command.stderr(Stdio::inherit()).output().context("cargo test")?;
    if !output.status.success() {
        bail!("the live tests could not be built for {TARGET}");
    }
    let text = String::from_utf8(output.stdout)?;
    let built = |name: &str| {
        text.lines().find_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            let named = message["target"]["name"] == name;
            message["executable"].as_str().filter(|_| named).map(PathBuf::from)
        })
    };
    let missing = |name: &str| format!("cargo built no {name}");
    Ok(Programs {
        live: built("live").with_context(|| missing("live"))?,
        tcptrace: built("tcptrace").with_context(|| missing("tcptrace"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in KERNELS.into_iter().chain(["rc", "7.3"]) {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "6", "6.", "6.12/..", "--help", "latest"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
