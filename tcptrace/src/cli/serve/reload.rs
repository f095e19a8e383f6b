//! What of an agent can change while it runs, and how.

use std::{path::PathBuf, sync::Arc};

use sha2::{Digest, Sha256};

use super::{Agent, Args, Http};
use crate::{
    cli::{
        Command, live,
        settings::{Reloads, reload::FlagChange},
        tls,
    },
    engine::parse::MinAge,
    exit::Failure,
    source::live::{memory, tracing::Live},
};

/// What it goes by.
pub(super) struct Reload {
    pub(super) reloads: Reloads,
    http: Http,
    args: Args,
    /// Min-age at the start.
    started: MinAge,
    read: Vec<FileRead>,
}

/// A file that a flag names, as it was read.
#[derive(PartialEq, Eq)]
struct FileRead {
    key: &'static str,
    path: PathBuf,
    hash: [u8; 32],
}

/// Flags that can change.
const CAN: [&str; 8] = [
    "open",
    "token-file",
    "tls-cert",
    "tls-key",
    "tls-client-ca",
    "workloads",
    "min-age",
    "interval",
];

impl Reload {
    pub(super) fn new(args: Args, http: Http, reloads: Reloads) -> Self {
        // What can't be read again is said when that is asked for.
        let read = if reloads.has_file() { args.files().unwrap_or_default() } else { Vec::new() };
        Self { started: args.min_age, reloads, http, args, read }
    }

    /// Reads the file of settings again, and what it names.
    pub(super) fn run(&mut self, agent: &mut Agent, source: &mut Live) {
        let Self { reloads, http, args, started, read } = self;
        let can = |change: &FlagChange| match change.key.as_str() {
            "min-age" => change.is_possible_min_age(*started),
            key => CAN.contains(&key),
        };
        let mut apply = |command| {
            let Command::Serve(new) = command else { return Ok(Vec::new()) };
            // All that may fail comes first.
            let files = new.files()?;
            let (guard, tls) = (new.guard()?, new.tls()?);
            http.guard.set(Arc::new(guard));
            http.tls.set(tls);
            agent.arguments = new.tells_arguments();
            if new.workloads != args.workloads {
                agent.accounts.set_most(new.workloads.into());
            }
            if (new.min_age, new.interval) != (args.min_age, args.interval) {
                let pace = live::ScanPace { min_age: new.min_age, interval: new.interval };
                pace.set(&mut agent.session, source);
            }
            let news = files.iter().filter(|new| {
                let other = |old: &&FileRead| old.key == new.key && old.path == new.path;
                read.iter().find(other).is_some_and(|old| old.hash != new.hash)
            });
            let news = news.map(|file| format!("{} {} read anew", file.key, file.path.display()));
            let news = news.collect();
            (*args, *read) = (*new, files);
            Ok(news)
        };
        reloads.reload(&can, &mut apply);
        agent.reloaded = reloads.last();
        // What reading certificates took.
        memory::give_back();
    }
}

impl Args {
    fn files(&self) -> Result<Vec<FileRead>, Failure> {
        let named = [
            ("token-file", &self.token_file),
            ("tls-cert", &self.tls_cert),
            ("tls-key", &self.tls_key),
            ("tls-client-ca", &self.tls_client_ca),
        ];
        let named = named.into_iter().filter_map(|(key, path)| Some((key, path.as_ref()?)));
        let read = named.map(|(key, path)| {
            let flag = format!("--{key}");
            // A pipe can be read once, and may have us wait.
            if path.metadata().is_ok_and(|kind| !kind.is_file()) {
                return Err(tls::wrong(&flag, path, "no regular file, which can't be read again"));
            }
            let bytes = tls::read(&flag, path)?;
            Ok(FileRead { key, path: path.clone(), hash: Sha256::digest(bytes).into() })
        });
        read.collect()
    }
}
