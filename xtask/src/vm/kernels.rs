//! Kernels to boot: Debian's packages, found by name pattern through an apt of our own.

use std::{
    cmp::Ordering,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::cargo::check;

/// Where kernels of all ages are. Those without `-security` are on the other mirror.
const SUITES: [&str; 6] = [
    "bullseye-security",
    "bookworm-security",
    "trixie-security",
    "trixie-backports",
    "sid",
    "experimental",
];

/// The cloud flavour boots fastest.
const FLAVOUR: &str = "-cloud-amd64";

/// What tests need of what Debian has as modules, in the order of their dependencies.
pub const MODULES: [&str; 4] = ["inet_diag", "tcp_diag", "mptcp_diag", "unix_diag"];

/// What drives a virtual network card, likewise; a kernel may have some of it built in.
const CARDS: [&str; 9] = [
    "virtio",
    "virtio_ring",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "failover",
    "net_failover",
    "virtio_net",
    "e1000",
];

/// A kernel that is there.
pub struct Kernel {
    /// As it was asked for: `6.12`, `newest`.
    pub name: String,
    /// The package's version.
    pub version: String,
    pub image: PathBuf,
    /// In the order of loading.
    pub modules: Vec<PathBuf>,
    /// Drivers of network cards, likewise.
    pub cards: Vec<PathBuf>,
}

/// Makes a kernel available below `dir`. Downloads nothing where it is there already.
pub fn kernel(dir: &Path, name: &str) -> Result<Kernel> {
    let home = dir.join("kernels").join(name);
    let there = home.join("version");
    // What was unpacked before cards were wanted lacks them.
    if !there.exists() || !home.join(WITH_CARDS).exists() {
        let apt = Apt::new(dir)?;
        let found = apt.newest(name)?;
        eprintln!("downloading Linux {} ({})", found.release, found.version);
        unpack(&apt, &found, &home)?;
        fs::write(&there, &found.version)?;
    }
    let unpacked = |names: &[&str]| {
        let paths = names.iter().map(|name| home.join(format!("{name}.ko")));
        paths.filter(|path| path.exists()).collect()
    };
    Ok(Kernel {
        name: name.to_owned(),
        version: fs::read_to_string(there)?,
        image: home.join("vmlinuz"),
        modules: unpacked(&MODULES),
        cards: unpacked(&CARDS),
    })
}

/// Says that drivers of network cards were unpacked, too.
const WITH_CARDS: &str = "cards";

/// A kernel package of an archive.
#[derive(Clone, Debug, PartialEq)]
struct Found {
    /// What `uname -r` will say.
    release: String,
    version: String,
}

fn unpack(apt: &Apt, found: &Found, home: &Path) -> Result<()> {
    let _ = fs::remove_dir_all(home);
    let files = home.join("files");
    fs::create_dir_all(&files)?;
    // From 7.x on linux-image is empty, and what was in it is in two others.
    let parts = ["linux-image", "linux-binary", "linux-modules"]
        .map(|part| format!("{part}-{}", found.release));
    let known = apt.names()?;
    for part in parts.iter().filter(|part| known.contains(part)) {
        let package = apt.download(&format!("{part}={}", found.version), home)?;
        let cards = CARDS.map(|card| format!("*/{card}.ko*"));
        let wanted = ["*/vmlinuz*", "*_diag.ko*"].into_iter().chain(cards.iter().map(|c| &c[..]));
        extract(&package, &files, &wanted.collect::<Vec<_>>())?;
        fs::remove_file(package)?;
    }
    let mut files_found = Vec::new();
    walk(&files, &mut files_found)?;
    for path in files_found {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.starts_with("vmlinuz") {
            fs::rename(&path, home.join("vmlinuz"))?;
        } else if name.ends_with(".ko.xz") {
            check(Command::new("xz").arg("-d").arg(&path))?;
            fs::rename(path.with_extension(""), home.join(name.trim_end_matches(".xz")))?;
        } else if name.ends_with(".ko") {
            fs::rename(&path, home.join(name))?;
        }
    }
    fs::remove_dir_all(files)?;
    fs::write(home.join(WITH_CARDS), "")?;
    if !home.join("vmlinuz").exists() || !home.join("tcp_diag.ko").exists() {
        bail!("the packages of {} hold no vmlinuz or no tcp_diag", found.release);
    }
    Ok(())
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { walk(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

/// Unpacks what fits the patterns, which may be nothing.
pub fn extract(package: &Path, to: &Path, patterns: &[&str]) -> Result<()> {
    let mut archive = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("dpkg-deb")?;
    let tar = archive.stdout.take().context("dpkg-deb's output")?;
    let mut unpacking = Command::new("tar");
    // tar fails where a pattern fits nothing; who called looks for what it needs.
    unpacking
        .args(["-x", "--wildcards", "-C"])
        .arg(to)
        .args(patterns)
        .stdin(tar)
        .stderr(Stdio::null());
    unpacking.status().context("tar")?;
    if !archive.wait()?.success() {
        bail!("{} can't be unpacked", package.display());
    }
    Ok(())
}

/// apt with its own lists, which leaves the system's alone.
pub struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Fetches the lists where they are missing; signatures are checked as for the system.
    pub fn new(dir: &Path) -> Result<Self> {
        let apt = Self { dir: dir.join("apt") };
        if apt.dir.join("complete").exists() {
            return Ok(apt);
        }
        for part in ["lists/partial", "cache/archives/partial", "empty"] {
            fs::create_dir_all(apt.dir.join(part))?;
        }
        fs::write(apt.dir.join("sources.list"), sources()?)?;
        fs::write(apt.dir.join("apt.conf"), apt.configuration()?)?;
        eprintln!("fetching package lists into {}", apt.dir.display());
        check(apt.command("apt-get").args(["update", "-qq"]).stdout(Stdio::null()))?;
        fs::write(apt.dir.join("complete"), "")?;
        Ok(apt)
    }

    /// Forgets the lists: the next look finds new versions.
    pub fn forget(dir: &Path) {
        let _ = fs::remove_file(dir.join("apt/complete"));
        let _ = fs::remove_dir_all(dir.join("kernels"));
    }

    /// The system's way to the network (proxies), and nothing else of it: no hooks, no pins.
    fn configuration(&self) -> Result<String> {
        let system = Command::new("apt-config").arg("dump").output().context("apt-config")?;
        let system = String::from_utf8(system.stdout)?;
        let mut text: String = system
            .lines()
            .filter(|l| l.starts_with("Acquire::") && !l.starts_with("Acquire::IndexTargets"))
            .map(|l| format!("{l}\n"))
            .collect();
        let dir = self.dir.display();
        let ours = [
            ("Dir::Etc::main", "/dev/null".to_owned()),
            ("Dir::Etc::parts", format!("{dir}/empty")),
            ("Dir::Etc::sourcelist", format!("{dir}/sources.list")),
            ("Dir::Etc::sourceparts", format!("{dir}/empty")),
            ("Dir::Etc::preferences", "/dev/null".to_owned()),
            ("Dir::Etc::preferencesparts", format!("{dir}/empty")),
            ("Dir::State", dir.to_string()),
            ("Dir::State::status", "/dev/null".to_owned()),
            ("Dir::Cache", format!("{dir}/cache")),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
        ];
        text.extend(ours.map(|(name, value)| format!("{name} \"{value}\";\n")));
        text += "APT::Architectures { \"amd64\"; };\n";
        Ok(text)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", self.dir.join("apt.conf"))
            .env("LC_ALL", "C")
            .current_dir(&self.dir);
        command
    }

    fn ask(&self, args: &[&str]) -> Result<String> {
        let output = self
            .command("apt-cache")
            .args(args)
            .stderr(Stdio::null())
            .output()
            .context("apt-cache")?;
        Ok(String::from_utf8(output.stdout)?)
    }

    fn names(&self) -> Result<Vec<String>> {
        Ok(self.ask(&["pkgnames", "linux-"])?.lines().map(str::to_owned).collect())
    }

    /// The newest kernel of a series (`6.12`), of release candidates (`rc`) or of all (`newest`).
    fn newest(&self, name: &str) -> Result<Found> {
        let names = self.names()?;
        let images: Vec<&str> =
            names.iter().map(String::as_str).filter(|n| release_of(n).is_some()).collect();
        let listed = self.ask(&[&["madison"], &images[..]].concat())?;
        let mut best: Option<Found> = None;
        for found in listed.lines().filter_map(parse).filter(|found| fits(name, found)) {
            if best
                .as_ref()
                .is_none_or(|best| compare(&found.version, &best.version) == Ordering::Greater)
            {
                best = Some(found);
            }
        }
        best.with_context(|| format!("no kernel {name} in {}", SUITES.join(", ")))
    }

    /// Downloads a package, given as `name=version` or `name/suite`, into a directory.
    pub fn download(&self, package: &str, to: &Path) -> Result<PathBuf> {
        fs::create_dir_all(to)?;
        check(
            self.command("apt-get")
                .args(["download", "-qq", package])
                .current_dir(to)
                .stderr(Stdio::null()),
        )?;
        let name = package.split(['=', '/']).next().unwrap_or(package);
        let fits = |path: &PathBuf| {
            let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            file.starts_with(&format!("{name}_")) && file.ends_with(".deb")
        };
        let mut paths = fs::read_dir(to)?.filter_map(|entry| Some(entry.ok()?.path()));
        paths.find(fits).with_context(|| format!("apt-get download left no {name}"))
    }
}

/// The mirrors are the machine's own: from its apt configuration, or where that names none, from
/// the environment.
fn sources() -> Result<String> {
    let named = env::var("TCPTRACE_DEBIAN_MIRROR")
        .ok()
        .map(|uri| format!("{}/", uri.trim_end_matches('/')));
    let format = ["indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"];
    let listed = Command::new("apt-get").args(format).output().context("apt-get")?;
    let listed = String::from_utf8(listed.stdout)?;
    let main = named
        .or_else(|| listed.lines().find(|uri| uri.ends_with("/debian/")).map(str::to_owned))
        .context(
            "apt's configuration names no Debian mirror; set TCPTRACE_DEBIAN_MIRROR to one's \
             address",
        )?;
    let security = listed
        .lines()
        .find(|uri| uri.contains("debian-security"))
        .map_or_else(|| format!("{}-security/", main.trim_end_matches('/')), str::to_owned);
    let keyring =
        ["pgp", "gpg"].map(|end| format!("/usr/share/keyrings/debian-archive-keyring.{end}"));
    let keyring = keyring.into_iter().find(|path| Path::new(path).exists());
    let keyring = keyring
        .context("the keys of Debian's archive are missing; install debian-archive-keyring")?;
    let line = |suite: &str| {
        let uri = if suite.ends_with("-security") { &security } else { &main };
        format!("deb [signed-by={keyring}] {uri} {suite} main\n")
    };
    Ok(SUITES.iter().copied().chain(super::machine::BACKPORTS).map(line).collect())
}

/// The release in an image package's name; none for metapackages and other flavours.
fn release_of(package: &str) -> Option<&str> {
    let release = package.strip_prefix("linux-image-")?;
    (release.ends_with(FLAVOUR) && release.starts_with(|c: char| c.is_ascii_digit()))
        .then_some(release)
}

/// A line of `apt-cache madison`: `package | version | source`.
fn parse(line: &str) -> Option<Found> {
    let mut fields = line.split('|').map(str::trim);
    let release = release_of(fields.next()?)?;
    Some(Found { release: release.to_owned(), version: fields.next()?.to_owned() })
}

fn fits(name: &str, found: &Found) -> bool {
    let series = found.release.trim_end_matches(FLAVOUR);
    let candidate = found.version.contains("~rc");
    // A series alone is a metapackage, but for release candidates, which have no point releases.
    if series.bytes().filter(|b| *b == b'.').count() < 2 && !candidate {
        return false;
    }
    match name {
        "newest" => true,
        "rc" => candidate,
        _ => series.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
    }
}

fn compare(a: &str, b: &str) -> Ordering {
    let is = |relation: &str| {
        Command::new("dpkg")
            .args(["--compare-versions", a, relation, b])
            .status()
            .is_ok_and(|s| s.success())
    };
    if is("gt") {
        Ordering::Greater
    } else if is("eq") {
        Ordering::Equal
    } else {
        Ordering::Less
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Found {
        parse(line).expect("a kernel")
    }

    #[test]
    fn names_and_versions() {
        let signed = found(
            "linux-image-6.1.0-56-cloud-amd64 |  6.1.192-2 | http://mirror bookworm-security/main",
        );
        assert_eq!(signed.release, "6.1.0-56-cloud-amd64");
        assert!(
            fits("6.1", &signed)
                && fits("newest", &signed)
                && !fits("6.12", &signed)
                && !fits("rc", &signed)
        );
        assert!(!fits("6.1", &found("linux-image-6.12.117+deb13-cloud-amd64 | 6.12.117-1 | x")));
        for other in [
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-cloud-amd64",
            "linux-image-6.1.0-56-amd64",
        ] {
            assert_eq!(release_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_series_alone_is_a_candidate_or_a_metapackage() {
        let candidate = found("linux-image-7.3-cloud-amd64 | 7.3~rc7-1~exp1 | x");
        assert!(fits("7.3", &candidate) && fits("rc", &candidate));
        assert!(!fits("6.12", &found("linux-image-6.12-cloud-amd64 | 6.12.107-1~deb12u1 | x")));
    }
}
