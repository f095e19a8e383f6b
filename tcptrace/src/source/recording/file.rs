//! The files of a recording, in their order.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Batch, Header,
    reader::{Damage, Ending, Piece, Reader, Unreadable},
};

/// A recording that is being read.
pub struct Recording {
    /// Those that are not read yet, the first last.
    rest: Vec<Opened>,
    now: Opened,
    /// What could not be read so far, in words.
    missing: Vec<String>,
}

/// A file.
struct Opened {
    name: String,
    header: Header,
    reader: Reader<Box<dyn Read + Send>>,
}

/// Why there is nothing to be read.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No file was named.
    #[error("no file to read")]
    None,
    /// One can't be read.
    #[error("{0}: {1}")]
    Unreadable(String, Unreadable),
    /// They belong to different recordings.
    #[error("{0} and {1} are two recordings ({2} and {3}); one is read at a time")]
    Different(String, String, String, String),
    /// Twice the same.
    #[error("{0} and {1} are the same file of one recording")]
    Twice(String, String),
}

impl Recording {
    /// Opens all files, `-` being stdin, and puts them into the order in which they were written.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn open(paths: &[PathBuf]) -> Result<Self, Refused> {
        let mut rest = paths.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
        rest.sort_by_key(|opened| std::cmp::Reverse(opened.header.part));
        let mut missing = Vec::new();
        for pair in rest.windows(2) {
            let (b, a) = (&pair[0], &pair[1]);
            let (of_a, of_b) = (&a.header, &b.header);
            if of_a.recording != of_b.recording {
                let named = |of: &Header| format!("of {}, boot {}", of.host, of.boot);
                let (a, b) = (a.name.clone(), b.name.clone());
                return Err(Refused::Different(a, b, named(of_a), named(of_b)));
            }
            if of_a.part == of_b.part {
                return Err(Refused::Twice(a.name.clone(), b.name.clone()));
            }
            if of_a.part + 1 != of_b.part {
                missing.push(format!(
                    "between {} and {} there are {} files of the recording missing",
                    a.name,
                    b.name,
                    of_b.part - of_a.part - 1
                ));
            }
        }
        let now = rest.pop().ok_or(Refused::None)?;
        Ok(Self { rest, now, missing })
    }

    /// What the first file says of the recording.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.now.header
    }

    /// The next facts; `None`: that was all.
    ///
    /// # Errors
    /// What reading answers.
    pub fn next_batch(&mut self) -> io::Result<Option<Batch>> {
        loop {
            let name = &self.now.name;
            match self.now.reader.next_piece() {
                Ok(Some(Piece::Batch(batch))) => return Ok(Some(batch)),
                Ok(Some(Piece::Header(_))) => {}
                Ok(Some(Piece::Damage(Damage { at, bytes }))) => self.missing.push(format!(
                    "{name}: damaged at byte {at}: {bytes} bytes can't be read, what is behind \
                     them is shown"
                )),
                Ok(Some(Piece::End(ending))) => {
                    self.missing.extend(ends(ending).map(|how| format!("{name}: {how}")));
                }
                Ok(None) => match self.rest.pop() {
                    Some(next) => self.now = next,
                    None => return Ok(None),
                },
                Err(Unreadable::Io(e)) => return Err(e),
                Err(e) => self.missing.push(format!("{name}: {e}")),
            }
        }
    }

    /// What could not be read since this was asked last: a line each.
    pub fn take_missing(&mut self) -> Vec<String> {
        std::mem::take(&mut self.missing)
    }
}

/// What is to be said of how a file ends.
fn ends(ending: Ending) -> Option<String> {
    let Ending::Cut { rest } = ending else { return None };
    let cut = if rest > 0 { format!(" ({rest} bytes of a cut piece)") } else { String::new() };
    Some(format!(
        "ends in the middle{cut}: its writer was killed, had no room left, or still writes; what \
         it has is shown"
    ))
}

fn open(path: &Path) -> Result<Opened, Refused> {
    let (name, from): (String, Box<dyn Read + Send>) = if path == Path::new("-") {
        ("stdin".to_owned(), Box::new(io::stdin()))
    } else {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => (name, Box::new(file)),
            Err(e) => return Err(Refused::Unreadable(name, e.into())),
        }
    };
    let mut reader = Reader::new(from);
    match reader.header() {
        Ok(header) => Ok(Opened { name, header, reader }),
        Err(e) => Err(Refused::Unreadable(name, e)),
    }
}
