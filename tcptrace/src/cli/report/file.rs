//! The file that a report goes to.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Seek, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::Format;
use crate::{
    exit::{Exit, Failure},
    view::report::IncidentReport,
};

/// Nobody but its owner reads it: it tells of command lines and addresses.
const MODE: u32 = 0o600;

/// A file that is open for a report. What it held stays until the report is written: a watch can
/// only open it at its start, before it gives up its rights.
#[derive(Debug)]
pub struct ReportFile {
    flag: &'static str,
    path: PathBuf,
    file: File,
    /// It was not there before, and holds nothing yet: it goes again if nothing is written.
    is_new: bool,
}

impl ReportFile {
    /// Opens it, for its owner only; `flag`: by which it was named.
    pub fn open(flag: &'static str, path: &Path) -> Result<Self, Failure> {
        let refused = |why: &str| Failure::usage(format!("{flag} {}: {why}", path.display()));
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => refused("there is no such directory"),
            io::ErrorKind::IsADirectory => refused("that is a directory; name a file in it"),
            _ => refused(&e.to_string()),
        };
        let is_new = match fs::symlink_metadata(path) {
            Ok(found) if found.is_dir() => {
                return Err(refused("that is a directory; name a file in it"));
            }
            // Who reads a report may have put a link there for one who may write anywhere.
            Ok(found) if !found.is_file() => {
                return Err(refused("that is no plain file; name another"));
            }
            Ok(_) => false,
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(failed(e)),
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(MODE).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
        let file = options.create_new(is_new).open(path).map_err(failed)?;
        file.set_permissions(Permissions::from_mode(MODE)).map_err(failed)?;
        Ok(Self { flag, path: path.to_owned(), file, is_new })
    }

    /// By the ending of a file's name.
    pub fn format(path: &Path) -> Format {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if ["md", "markdown"].contains(&ending.to_ascii_lowercase().as_str()) {
            Format::Md
        } else {
            Format::Html
        }
    }

    /// Writes the report.
    pub fn write(self, report: &IncidentReport<'_>) -> Result<(), Failure> {
        let page = page(report, Self::format(&self.path));
        self.replace(&page)
    }

    /// Writes this in place of what it held.
    pub fn replace(mut self, page: &str) -> Result<(), Failure> {
        self.written(page.as_bytes()).map_err(|e| Failure {
            exit: Exit::Failed,
            message: format!("{} {}: the report is not whole: {e}", self.flag, self.path.display()),
        })
    }

    fn written(&mut self, page: &[u8]) -> io::Result<()> {
        self.is_new = false;
        self.file.rewind()?;
        self.file.write_all(page)?;
        self.file.set_len(page.len() as u64)?;
        self.file.sync_data()
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        if self.is_new {
            // If it stays, it is empty.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The report's text.
pub fn page(report: &IncidentReport<'_>, format: Format) -> String {
    match format {
        Format::Html => report.html(),
        Format::Md => report.markdown(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("leak.html");
        let mode = || fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
        drop(ReportFile::open("--report", &path).expect("new"));
        assert!(!path.exists(), "nothing is left behind");
        fs::write(&path, "what was there before, and is longer").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("allowed");
        let file = ReportFile::open("--report", &path).expect("it is a file");
        assert_eq!(mode(), MODE);
        assert_eq!(fs::read(&path).expect("it is there").len(), 36, "kept until then");
        file.replace("short").expect("written");
        assert_eq!(fs::read_to_string(&path).expect("it is there"), "short");
        drop(ReportFile::open("--report", &path).expect("it is a file"));
        assert!(path.exists(), "what was there before stays");
    }

    #[test]
    fn what_is_no_plain_file_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/nonexistent", &link).expect("a link");
        let missing = dir.path().join("missing/leak.html");
        for (path, why) in [
            (dir.path(), "that is a directory; name a file in it"),
            (&*link, "that is no plain file; name another"),
            (Path::new("/dev/null"), "that is no plain file; name another"),
            (&*missing, "there is no such directory"),
        ] {
            let failure = ReportFile::open("--report", path).expect_err("refused");
            assert_eq!(failure.exit, Exit::Usage);
            assert_eq!(failure.message, format!("--report {}: {why}", path.display()));
        }
    }

    #[test]
    fn the_ending_says_what_it_is() {
        let formats = ["a.html", "a.md", "a.MD", "md", "a"].map(|p| ReportFile::format(p.as_ref()));
        assert_eq!(formats.map(|f| f == Format::Md), [false, true, true, false, false]);
    }
}
