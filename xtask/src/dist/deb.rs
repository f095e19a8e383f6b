//! The Debian package, by dpkg-deb: it sorts, and takes times from SOURCE_DATE_EPOCH.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::{Target, sbom, sums};
use crate::cargo::{check, root};

/// Debian's own tcptrace is another program (it reads tcpdump's files), with a higher version.
const NAME: &str = "tcptrace-ebpf";

const COPYRIGHT: &str = include_str!("copyright");
/// The services' units, by name.
const UNITS: [(&str, &str); 2] = [
    ("tcptrace.service", include_str!("tcptrace.service")),
    ("tcptrace-serve.service", include_str!("tcptrace-serve.service")),
];
/// What the services read: a conffile, so that an upgrade leaves it as its owner wrote it.
const SETTINGS: &str = "etc/tcptrace/tcptrace.toml";
/// The services' units were there before and go with the package: so must their links, and their
/// processes.
const PRERM: &str = "#!/bin/sh
set -e
if [ \"$1\" = remove ] && command -v systemctl >/dev/null; then
    systemctl --quiet disable --now tcptrace.service tcptrace-serve.service || true
fi
";
const POSTRM: &str = "#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
";

/// Puts what `dir` holds into a package, and that into `dir`.
pub fn make(dir: &Path, target: &Target, epoch: &str) -> Result<PathBuf> {
    let version = env!("CARGO_PKG_VERSION");
    let stage = Stage(dir.join("stage"));
    stage.put("usr/bin/tcptrace", 0o755, &fs::read(dir.join("tcptrace"))?)?;
    for page in fs::read_dir(dir.join("man"))? {
        let page = page?;
        let name = page.file_name().into_string().ok().context("a page's name")?;
        stage.put(&format!("usr/share/man/man1/{name}.gz"), 0o644, &gzip(&page.path())?)?;
    }
    for (from, to) in [
        ("tcptrace.bash", "bash-completion/completions/tcptrace"),
        ("_tcptrace", "zsh/vendor-completions/_tcptrace"),
        ("tcptrace.fish", "fish/vendor_completions.d/tcptrace.fish"),
    ] {
        stage.put(
            &format!("usr/share/{to}"),
            0o644,
            &fs::read(dir.join("completions").join(from))?,
        )?;
    }
    for (name, unit) in UNITS {
        stage.put(&format!("usr/lib/systemd/system/{name}"), 0o644, unit.as_bytes())?;
    }
    let settings = fs::read(root().join("docs/tcptrace.toml"))?;
    stage.put(SETTINGS, 0o644, &settings)?;
    stage.put("DEBIAN/conffiles", 0o644, format!("/{SETTINGS}\n").as_bytes())?;
    let doc = format!("usr/share/doc/{NAME}");
    stage.put(&format!("{doc}/examples/tcptrace.toml"), 0o644, &settings)?;
    stage.put(&format!("{doc}/copyright"), 0o644, COPYRIGHT.as_bytes())?;
    stage.put(&format!("{doc}/CHANGELOG.md.gz"), 0o644, &gzip(&root().join("CHANGELOG.md"))?)?;
    for name in ["third-party-licenses", sbom::NAME] {
        stage.put(&format!("{doc}/{name}.gz"), 0o644, &gzip(&dir.join(name))?)?;
    }
    let md5sums = sums("md5sum", &stage.0)?;
    stage.put("DEBIAN/md5sums", 0o644, md5sums.as_bytes())?;
    stage.put("DEBIAN/control", 0o644, control(version, target.debian).as_bytes())?;
    stage.put("DEBIAN/prerm", 0o755, PRERM.as_bytes())?;
    stage.put("DEBIAN/postrm", 0o755, POSTRM.as_bytes())?;
    let package = dir.join(format!("{NAME}_{version}_{}.deb", target.debian));
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "-Zxz", "--build"]).arg(&stage.0).arg(&package);
    check(build.env("SOURCE_DATE_EPOCH", epoch).stdout(Stdio::null()))?;
    fs::remove_dir_all(stage.0)?;
    Ok(package)
}

fn control(version: &str, architecture: &str) -> String {
    format!(
        "Package: {NAME}
Version: {version}
Section: net
Priority: optional
Architecture: {architecture}
Maintainer: The tcptrace developers <tcptrace@localhost>
Conflicts: tcptrace
Description: names the process that never calls close()
 Times every TCP socket from inside the kernel (eBPF) and says of those that
 stay in CLOSE_WAIT who holds them, since when, why, and what to do. One
 static binary; kernels from 5.12 on, with BTF.
 .
 The package named tcptrace is another program, which reads tcpdump's files.
"
    )
}

/// What will lie in the root directory.
struct Stage(PathBuf);

impl Stage {
    fn put(&self, path: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let path = self.0.join(path);
        let dir = path.parent().context("a file's directory")?;
        fs::create_dir_all(dir)?;
        // Whatever the umask is.
        for dir in dir.ancestors().take_while(|dir| dir.starts_with(&self.0)) {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
        }
        fs::write(&path, bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }
}

/// Without name and time.
fn gzip(file: &Path) -> Result<Vec<u8>> {
    let output =
        Command::new("gzip").args(["-9", "-n", "-c"]).arg(file).output().context("gzip")?;
    Ok(output.stdout)
}
