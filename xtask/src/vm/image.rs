//! What the machine boots into: an archive (newc cpio, uncompressed) made of the live tests and the
//! few programs that they call.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{Programs, kernels::Kernel};
use crate::setup;

const INIT: &[u8] = include_bytes!("init.sh");

/// What live tests call beside tcptrace. busybox has others of these names, with fewer options.
const CALLED: [&str; 5] = ["setpriv", "unshare", "mount", "umount", "bash"];

/// Makes it for a kernel, with the arguments that the live tests get.
pub fn make(kernel: &Kernel, programs: &Programs, args: &str, to: &Path) -> Result<()> {
    let mut archive = Archive::of(kernel.modules.iter(), INIT, programs, args)?;
    for program in CALLED {
        let path = setup::which(program)
            .with_context(|| format!("{program} is needed by the live tests"))?;
        for library in libraries(&path)? {
            archive.copy(&library)?;
        }
        archive.file(&format!("usr/bin/{program}"), 0o755, fs::read(&path)?);
    }
    fs::write(to, archive.bytes())?;
    Ok(())
}

/// Makes one that loads the drivers of network cards, too, and runs another script.
pub fn with_card(kernel: &Kernel, programs: &Programs, init: &[u8], to: &Path) -> Result<()> {
    let modules = kernel.modules.iter().chain(&kernel.cards);
    fs::write(to, Archive::of(modules, init, programs, "")?.bytes())?;
    Ok(())
}

/// The shared libraries of a program, its loader included.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    let text = String::from_utf8(output.stdout)?;
    let paths = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(paths.filter(|path| path.is_file()).collect())
}

/// Files by path, without the leading slash; directories come of themselves.
#[derive(Default)]
struct Archive(BTreeMap<String, (u32, Vec<u8>)>);

impl Archive {
    /// What every machine has: kernel modules, process 1 and what it is to do, both programs,
    /// busybox.
    fn of<'a>(
        modules: impl Iterator<Item = &'a PathBuf>,
        init: &[u8],
        programs: &Programs,
        args: &str,
    ) -> Result<Self> {
        let mut archive = Self::default();
        archive.file("init", 0o755, init.to_vec());
        let mut names = Vec::new();
        for module in modules {
            let name = module.file_name().and_then(|n| n.to_str()).context("a module's name")?;
            archive.file(&format!("modules/{name}"), 0o644, fs::read(module)?);
            names.push(name);
        }
        let plan = format!(
            "MODULES='{}'\nTCPTRACE='{}'\nLIVE='{}'\nARGS='{args}'\n",
            names.join(" "),
            programs.tcptrace.display(),
            programs.live.display()
        );
        archive.file("plan", 0o644, plan.into_bytes());
        // The tests know tcptrace by the path that it was built at.
        for path in [&programs.tcptrace, &programs.live] {
            archive.copy(path)?;
        }
        let busybox = setup::which("busybox").context("busybox")?;
        archive.file("bin/busybox", 0o755, fs::read(busybox)?);
        Ok(archive)
    }

    fn file(&mut self, path: &str, mode: u32, bytes: Vec<u8>) {
        let mut at = 0;
        while let Some(slash) = path[at..].find('/') {
            self.0.entry(path[..at + slash].to_owned()).or_insert((0o040_755, Vec::new()));
            at += slash + 1;
        }
        self.0.insert(path.to_owned(), (0o100_000 | mode, bytes));
    }

    /// To the same place.
    fn copy(&mut self, path: &Path) -> Result<()> {
        let Some(name) = path.to_str().and_then(|p| p.strip_prefix('/')) else {
            bail!("{}: not an absolute path", path.display());
        };
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        let mode = fs::metadata(path)?.permissions().mode() & 0o777;
        self.file(name, mode, bytes);
        Ok(())
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // A directory sorts before what is in it, as the kernel needs it.
        for (n, (path, (mode, bytes))) in self.0.iter().enumerate() {
            entry(&mut out, n as u32 + 1, path, *mode, bytes);
        }
        entry(&mut out, 0, "TRAILER!!!", 0, &[]);
        out
    }
}

/// One entry of the format (initramfs-buffer-format in the kernel's documentation): thirteen
/// numbers, the name, the data, each part ending at a multiple of four.
fn entry(out: &mut Vec<u8>, inode: u32, path: &str, mode: u32, bytes: &[u8]) {
    let (size, name) = (bytes.len() as u32, path.len() as u32 + 1);
    out.extend_from_slice(b"070701");
    for field in [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0] {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_directories_come_first() {
        let mut archive = Archive::default();
        archive.file("a/b/c", 0o755, b"12345".to_vec());
        let bytes = archive.bytes();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).expect("text");
        let at = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what:?} in {text:?}"));
        assert!(
            at("a\0") < at("a/b\0")
                && at("a/b\0") < at("a/b/c\0")
                && at("12345") < at("TRAILER!!!")
        );
        assert!(text.starts_with("07070100000001000041ed"), "{text}");
    }
}
