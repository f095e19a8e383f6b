//! A token in a file that somebody else renews.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use hyper::header::HeaderValue;

use crate::serve::client::connection::secret;

/// No token is longer, bytes: a service account's has one or two thousand.
const LONGEST: u64 = 16 << 10;

/// Where a token is. It is read for each request: the kubelet renews those of service accounts
/// before they expire.
#[derive(Clone, Debug)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// That file.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What requests say to have it.
    ///
    /// # Errors
    /// It can't be read, or no token is in it. What is in it is not told.
    pub fn read(&self) -> io::Result<HeaderValue> {
        let mut text = String::new();
        let unreadable = |e: io::Error| match e.kind() {
            io::ErrorKind::InvalidData => wrong("no token in it: it is no text"),
            _ => e,
        };
        let file = File::open(&self.0)?;
        // A pipe can be read once, and may have us wait.
        if !file.metadata()?.is_file() {
            return Err(wrong("no regular file, which can't be read again"));
        }
        file.take(LONGEST + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > LONGEST {
            return Err(wrong("no token in it: it is too long"));
        }
        let token = text.trim();
        let is_one = !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic());
        if !is_one {
            return Err(wrong("no token in it; write one, and nothing else"));
        }
        secret(&format!("Bearer {token}")).map_err(|_| wrong("no token in it"))
    }
}

fn wrong(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn tokens_and_what_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = TokenFile::new(dir.path().join("token"));
        assert!(file.read().is_err());
        fs::write(file.path(), "eyJ.a-b_c\n").expect("a file");
        let value = file.read().expect("one");
        assert!(value == "Bearer eyJ.a-b_c" && value.is_sensitive());
        fs::write(file.path(), "other").expect("a file");
        assert_eq!(file.read().expect("the next"), "Bearer other");
        let long = "a".repeat(LONGEST as usize + 1);
        for none in ["", "\n", "s3cret two", "s3cret\ntwo", "s3cret\u{e9}", &long] {
            fs::write(file.path(), none).expect("a file");
            let e = file.read().expect_err(none).to_string();
            assert!(e.starts_with("no token in it") && !e.contains("s3cret"), "{none}: {e}");
        }
        assert!(TokenFile::new(dir.path().to_owned()).read().is_err());
    }
}
