//! The file's text.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::cli::tls;

/// A file with every flag and its help has a tenth of that, bytes.
const LONGEST: u64 = 256 << 10;

/// What the file holds. It is opened without waiting for anybody, and read up to a limit.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn read(path: &Path) -> Result<String, String> {
    let mut options = OpenOptions::new();
    let file = options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path);
    let file = file.map_err(|e| unreadable(&e))?;
    let kind = file.metadata().map_err(|e| unreadable(&e))?;
    if !kind.is_file() {
        return Err("no regular file; tcptrace config example > FILE makes one".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes).map_err(|e| unreadable(&e))?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("more than {} KiB; is it the right file?", LONGEST >> 10));
    }
    String::from_utf8(bytes).map_err(|e| {
        let valid = e.utf8_error().valid_up_to();
        let line = e.as_bytes()[..valid].iter().filter(|byte| **byte == b'\n').count() + 1;
        format!("no UTF-8 in line {line}; save it as UTF-8")
    })
}

fn unreadable(e: &std::io::Error) -> String {
    match e.kind() {
        ErrorKind::NotFound => format!("{e}; tcptrace config example > FILE makes one"),
        _ => tls::unreadable(e),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_files_of_a_size() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().join("file");
        let told = |bytes: &[u8]| {
            fs::write(&at, bytes).expect("a file");
            read(&at)
        };
        assert_eq!(told(b"[watch]\n"), Ok("[watch]\n".to_owned()));
        assert_eq!(told(b"a\n\xff"), Err("no UTF-8 in line 2; save it as UTF-8".to_owned()));
        assert!(told(&vec![b'#'; 1 << 20]).is_err_and(|e| e.starts_with("more than 256 KiB")));
        assert!(read(dir.path()).is_err_and(|e| e.starts_with("no regular file")));
        assert!(read(&dir.path().join("none")).is_err_and(|e| e.contains("config example")));
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("a pipe");
        assert!(read(&pipe).is_err_and(|e| e.starts_with("no regular file")), "it waits for none");
    }
}
