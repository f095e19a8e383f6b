//! What commands share that write a recording.

use std::{io, path::PathBuf};

use crate::{
    engine::watch::Plan,
    exit::Failure,
    source::{
        live::header,
        recording::{Header, options::Options, recorder::Prepared},
    },
};

/// A file's name.
pub fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.file_name().is_none() { Err("write a file's name".to_owned()) } else { Ok(path) }
}

/// Begins the recording of what the plan asks for; `flag`: by which its file was named.
pub fn prepare(flag: &str, options: Options, plan: &Plan) -> Result<Prepared, Failure> {
    let header = Header {
        tool: concat!("tcptrace ", env!("CARGO_PKG_VERSION")).to_owned(),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        states: plan.states,
        transitions: plan.transitions,
        min_age_ns: plan.listed_from_ns(),
        count: plan.count,
        by_normal: plan.by_normal,
        without_arguments: options.without_arguments,
        ..header::header()
    };
    let named = options.path.clone().unwrap_or_default();
    Prepared::new(options, header).map_err(|e| {
        let why = match e.kind() {
            io::ErrorKind::AlreadyExists => {
                "there is such a file already, which is kept; choose another name".to_owned()
            }
            io::ErrorKind::NotFound => "there is no such directory".to_owned(),
            _ => e.to_string(),
        };
        Failure::usage(format!("{flag} {}: {why}", named.display()))
    })
}
