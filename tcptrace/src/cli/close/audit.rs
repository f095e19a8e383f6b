//! Where it is kept what was closed, by whom and when: the host's journal, and a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use crate::{
    cli::warn,
    engine::{close::Closed, record::BootNs, update::Update},
    exit::Failure,
    prose::close,
    source::live::journal::Journal,
    view::{Clock, View, json::Json, text::safe},
};

/// Both of them.
pub struct Audit {
    journal: Option<Journal>,
    file: Option<File>,
}

/// The file, opened to be appended to.
pub fn open(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    // Who reads it may have put a link there for one who may write anywhere.
    options.append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC);
    let refused = |e: io::Error| Failure::usage(format!("--audit {}: {e}", path.display()));
    let file = options.open(path).map_err(refused)?;
    if file.metadata().map_err(refused)?.is_file() {
        return Ok(file);
    }
    Err(Failure::usage(format!("--audit {}: that is no plain file; name another", path.display())))
}

impl Audit {
    /// Of this host. That it has no journal is said, and is no reason to stop.
    pub fn new(file: Option<File>) -> Self {
        let journal = Journal::open().map_err(|e| {
            warn(&format!(
                "this host has no journal that can be written to ({e}): what is closed stands in \
                 the output{} only",
                if file.is_some() { " and in --audit's file" } else { "" }
            ));
        });
        Self { journal: journal.ok(), file }
    }

    /// Keeps what came of closing a connection; times are shown by this clock.
    pub fn keep(&mut self, now: BootNs, closed: &Closed, clock: &Clock) {
        let mut line = Json::new(Vec::new(), clock.clone());
        // Writing to memory does not fail.
        let _ = line.update(now, &Update::Closed(Box::new(closed.clone())));
        let line = line.into_inner();
        if let Some(journal) = &self.journal {
            let message = close::audit(closed, closed.record.age(now).min_ns);
            let event = String::from_utf8_lossy(&line);
            if let Err(e) = journal.write(&safe(&message), event.trim_end()) {
                warn(&format!("the journal takes no more: {e}"));
                self.journal = None;
            }
        }
        if let Some(file) = &mut self.file
            && let Err(e) = file.write_all(&line)
        {
            warn(&format!("--audit: {e}; the rest is not in that file"));
            self.file = None;
        }
    }
}
