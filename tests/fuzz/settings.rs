//! Arguments, and files of settings, which become arguments.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use clap::Parser;
use tcptrace::{
    cli::{self, Cli},
    view::text::{safe, steers},
};

/// A file of `--config`.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (tables, problems) = cli::config_arguments(text);
    for problem in problems {
        assert!(!problem.is_empty() && !safe(&problem).chars().any(steers));
    }
    for (table, words) in tables {
        // Each is a flag, whatever its value is: none is another command, or help.
        assert!(words.iter().all(|word| word.starts_with("--") && word.len() > 2), "{words:?}");
        let line = ["tcptrace".to_owned(), table].into_iter().chain(words);
        if let Err(e) = Cli::try_parse_from(line) {
            assert!(e.use_stderr(), "a key asks for help");
            assert!(!safe(&cli::usage(&e).message).chars().any(steers));
        }
    }
}

/// Arguments that each end in a NUL.
pub fn arguments(data: &[u8]) {
    let words = data.split(|b| *b == 0).map(|word| OsString::from_vec(word.to_vec()));
    if let Err(e) = Cli::try_parse_from([OsString::from("tcptrace")].into_iter().chain(words))
        && e.use_stderr()
    {
        let message = cli::usage(&e).message;
        assert!(!message.is_empty());
        assert!(!safe(&message).chars().any(steers));
    }
}
