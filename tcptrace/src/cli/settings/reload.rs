//! SIGHUP: the file is read again while the command runs.

use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{FileSettings, merge};
use crate::{
    cli::{Cli, Command, warn},
    engine::{parse, parse::MinAge},
    exit::Failure,
    view::metrics::around::ReloadResult,
};

/// With a file, min-age may be lowered to this while the command runs, or to what it was at the
/// start where that is less: ends of stays are told from that age on.
const LOWEST_MIN_AGE: Duration = Duration::from_secs(1);

/// What a SIGHUP asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hangup {
    /// To read the file again.
    Reload,
    /// To end: the terminal is gone.
    End,
}

/// A flag that is another one now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagChange {
    /// Its long name.
    pub key: String,
    /// What it was; empty: nothing.
    pub old: String,
    /// What it is to be.
    pub new: String,
}

impl FlagChange {
    fn told(&self) -> String {
        let named =
            |value: &str| if value.is_empty() { "unset".to_owned() } else { value.to_owned() };
        format!("{} {} -> {}", self.key, named(&self.old), named(&self.new))
    }

    /// Whether it asks for a min-age that a running command can have, where it is about that.
    /// `started`: what it was at the start.
    #[must_use]
    pub fn is_possible_min_age(&self, started: MinAge) -> bool {
        let ages = [&self.old, &self.new].map(|text| parse::min_age(text));
        let [Ok(MinAge::Longer(_)), Ok(MinAge::Longer(new))] = ages else { return false };
        lowest_min_age(started).is_some_and(|lowest| new >= lowest)
    }
}

fn lowest_min_age(started: MinAge) -> Option<Duration> {
    match started {
        MinAge::Longer(age) => Some(age.min(LOWEST_MIN_AGE)),
        MinAge::Auto => None,
    }
}

/// SIGHUP, where a file was named: without one it ends the command, as it does with most.
pub struct Reloads {
    settings: Option<FileSettings>,
    hangups: Option<Signal>,
    on_terminal: bool,
    last: Option<ReloadResult>,
}

impl Reloads {
    /// From now on SIGHUP is heard.
    ///
    /// # Errors
    /// What the runtime answers.
    pub fn new(settings: Option<FileSettings>) -> Result<Self, Failure> {
        let hangups = settings.is_some().then(|| signal(SignalKind::hangup())).transpose();
        let last = settings.as_ref().map(|_| ReloadResult { successful: true, success_s: now_s() });
        Ok(Self { settings, hangups: hangups.context("SIGHUP")?, on_terminal: on_terminal(), last })
    }

    /// None: nothing can be read again.
    #[must_use]
    pub fn none() -> Self {
        Self { settings: None, hangups: None, on_terminal: false, last: None }
    }

    /// Whether there is a file.
    #[must_use]
    pub fn has_file(&self) -> bool {
        self.settings.is_some()
    }

    /// The least that min-age may be lowered to while it runs; `None`: it stays as it is.
    #[must_use]
    pub fn lowest_min_age(&self, started: MinAge) -> Option<Duration> {
        if self.has_file() { lowest_min_age(started) } else { None }
    }

    /// How the last one went; `None`: there is no file.
    #[must_use]
    pub fn last(&self) -> Option<ReloadResult> {
        self.last
    }

    /// Waits for a SIGHUP.
    pub async fn asked(&mut self) -> Hangup {
        let Some(hangups) = &mut self.hangups else { return std::future::pending().await };
        if hangups.recv().await.is_none() {
            return std::future::pending().await;
        }
        // A terminal that is closed sends one, too, to all that run on it.
        if self.on_terminal && !on_terminal() { Hangup::End } else { Hangup::Reload }
    }

    /// Reads the file again and says what came of it. All of it counts, or nothing does. `can`:
    /// whether a change is possible now; others wait for a restart. `apply`: makes them so, of a
    /// command line with those only, and says what else is new.
    pub fn reload(
        &mut self,
        can: &dyn Fn(&FlagChange) -> bool,
        apply: &mut dyn FnMut(Command) -> Result<Vec<String>, Failure>,
    ) {
        let Some(settings) = &mut self.settings else { return };
        let path = settings.path.display().to_string();
        let done = reload(settings, can, apply);
        if let Some(last) = &mut self.last {
            last.successful = done.is_ok();
            if done.is_ok() {
                last.success_s = now_s();
            }
        }
        match done {
            Ok(Done { changed, waiting }) => {
                waiting.iter().for_each(|told| warn(told));
                let told = match changed.is_empty() {
                    true => "nothing changed".to_owned(),
                    false => changed.join(", "),
                };
                warn(&format!("reloaded {path}: {told}"));
            }
            Err(failure) => {
                warn(&format!("not reloaded, all stays as it was: {}", failure.message))
            }
        }
    }
}

/// What came of it.
struct Done {
    changed: Vec<String>,
    waiting: Vec<String>,
}

fn reload(
    settings: &mut FileSettings,
    can: &dyn Fn(&FlagChange) -> bool,
    apply: &mut dyn FnMut(Command) -> Result<Vec<String>, Failure>,
) -> Result<Done, Failure> {
    let read = settings.read_again()?;
    let parse = |of: &FileSettings| Cli::try_parse_from(of.arguments()).map_err(|e| of.blame(&e));
    // What is wrong with the file is wrong whatever of it can be had now.
    parse(&read)?;
    let (can, cannot): (Vec<FlagChange>, Vec<FlagChange>) =
        changes(settings, &read).into_iter().partition(can);
    let keys: Vec<String> = cannot.iter().map(|change| change.key.clone()).collect();
    let next = read.keeping(&keys, settings);
    let news = apply(parse(&next)?.command).map_err(|failure| next.placed(failure))?;
    let told = |change: &FlagChange| {
        let at = read.line_of(&change.key).map_or(String::new(), |line| format!(":{line}"));
        let old = if change.old.is_empty() { "unset" } else { &change.old };
        let path = read.path.display();
        format!("{path}{at}: {} needs a restart; until then it stays {old}", change.told())
    };
    let waiting = cannot.iter().map(told).collect();
    let changed = can.iter().map(FlagChange::told).chain(news).collect();
    *settings = next;
    Ok(Done { changed, waiting })
}

fn changes(old: &FileSettings, new: &FileSettings) -> Vec<FlagChange> {
    let values = |of: &FileSettings| merge::values(&of.arguments(), &of.table);
    let both = values(old).into_iter().zip(values(new));
    let change = |((key, old), (_, new)): ((String, String), (String, String))| {
        (old != new).then_some(FlagChange { key, old, new })
    };
    both.filter_map(change).collect()
}

fn on_terminal() -> bool {
    io::stdout().is_terminal() || io::stderr().is_terminal()
}

#[expect(clippy::cast_precision_loss, reason = "ms since 1970 fit a double for longer than we do")]
fn now_s() -> f64 {
    jiff::Timestamp::now().as_millisecond() as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, ffi::OsString, fs};

    use super::*;

    fn settings(line: &[&str]) -> FileSettings {
        let line: Vec<OsString> = line.iter().map(OsString::from).collect();
        FileSettings::of(&line).expect("a good file").expect("a file")
    }

    #[test]
    fn all_or_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = dir.path().join("tcptrace.toml");
        let path = at.to_str().expect("a path");
        fs::write(&at, "[watch]\nmin-age = \"10s\"\norigins = false\n").expect("a file");
        let mut now = settings(&["tcptrace", "watch", "--config", path]);
        let applied = RefCell::new(0);
        let mut apply = |_| {
            *applied.borrow_mut() += 1;
            Ok(Vec::new())
        };
        let can = |change: &FlagChange| change.key == "min-age";

        fs::write(&at, "[watch]\nmin-age = \"30s\"\norigins = true\n").expect("a file");
        let done = reload(&mut now, &can, &mut apply).expect("a good file");
        assert_eq!(done.changed, ["min-age 10s -> 30s"]);
        let told =
            "tcptrace.toml:3: origins false -> true needs a restart; until then it stays false";
        assert!(done.waiting.len() == 1 && done.waiting[0].ends_with(told), "{:?}", done.waiting);
        assert!(!now.arguments().contains(&"--origins".into()), "it waits");
        assert!(now.arguments().contains(&"--min-age=30s".into()), "it has changed");

        let before = now.arguments();
        for bad in
            ["[watch]\nmin-age = 5 parsecs\n", "[watch]\nmin-age = \"5 parsecs\"\n", "[wach]"]
        {
            fs::write(&at, bad).expect("a file");
            assert!(reload(&mut now, &can, &mut apply).is_err(), "{bad}");
            assert_eq!(now.arguments(), before);
        }
        assert_eq!(*applied.borrow(), 1, "a bad one changes nothing");

        // What can't be made so, is not.
        fs::write(&at, "[watch]\nmin-age = \"1m\"\n").expect("a file");
        let refuse = reload(&mut now, &can, &mut |_| Err(Failure::usage("no")));
        assert!(refuse.is_err());
        assert_eq!(now.arguments(), before);
    }

    #[test]
    fn how_far_min_age_can_go() {
        let asks = |old: &str, new: &str| FlagChange {
            key: "min-age".to_owned(),
            old: old.to_owned(),
            new: new.to_owned(),
        };
        let ten = MinAge::Longer(Duration::from_secs(10));
        for (started, old, new, possible) in [
            (ten, "10s", "1h", true),
            (ten, "10s", "1s", true),
            (ten, "10s", "999ms", false),
            (MinAge::Longer(Duration::ZERO), "0", "1ms", true),
            (ten, "10s", "auto", false),
            (MinAge::Auto, "auto", "auto", false),
        ] {
            assert_eq!(asks(old, new).is_possible_min_age(started), possible, "{old} {new}");
        }
    }
}
