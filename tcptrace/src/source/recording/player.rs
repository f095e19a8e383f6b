//! A recording as a source that takes its time: its clock runs as fast as is asked for, stands
//! still, and goes back and forward.

use std::{fs, future, io, path::PathBuf, sync::mpsc as commands, time::Duration};

use tokio::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Instant, sleep_until},
};

use super::{Batch, Header, file::Recording};
use crate::{
    engine::{fact::Timed, record::BootNs, watch::Wants},
    source::{self, Source},
};

/// Batches that are read ahead.
const AHEAD: usize = 256;
/// Facts handed over before other things get their turn.
const AT_ONCE: usize = 1 << 16;

/// The source.
pub struct Player {
    fed: Receiver<Fed>,
    restart: commands::Sender<u64>,
    /// Since how many times it was begun anew.
    round: u64,
    next: Option<Batch>,
    ended: bool,
    /// When the last batch was, ns of the recorded boot clock.
    last: BootNs,
    began_ns: BootNs,
    clock: PlayedClock,
    /// It is to go on to what is read next.
    steps: bool,
    is_pipe: bool,
    missing: Vec<String>,
}

/// What the thread that reads says.
enum Fed {
    Batch(u64, Batch),
    Missing(String),
    End(u64),
}

/// From here to there.
struct PlayedClock {
    /// When it was set, here and there.
    set: Instant,
    at: BootNs,
    speed: f64,
    stands: bool,
}

impl PlayedClock {
    fn now(&self) -> BootNs {
        if self.stands {
            return self.at;
        }
        let passed = self.set.elapsed().mul_f64(self.speed);
        self.at.saturating_add(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX))
    }

    fn set(&mut self, at: BootNs) {
        (self.set, self.at) = (Instant::now(), at);
    }

    /// When it will be `then`, here.
    fn due(&self, then: BootNs) -> Instant {
        let left = Duration::from_nanos(then.saturating_sub(self.at)).div_f64(self.speed);
        // Further ahead than anybody waits.
        self.set + left.min(Duration::from_secs(1 << 30))
    }
}

impl Player {
    /// Starts to play files, `-` being stdin; `header` is theirs.
    ///
    /// # Errors
    /// What starting the thread that reads answers.
    pub fn start(recording: Recording, files: Vec<PathBuf>, speed: f64) -> io::Result<Self> {
        let header: &Header = recording.header();
        let began_ns = header.began_ns;
        let is_file = |file: &PathBuf| fs::metadata(file).is_ok_and(|meta| meta.is_file());
        let is_pipe = !files.iter().all(is_file);
        let (feed, fed) = channel(AHEAD);
        let (restart, restarted) = commands::channel();
        source::thread("player", move || play(recording, &files, &feed, &restarted))?;
        let clock = PlayedClock { set: Instant::now(), at: began_ns, speed, stands: false };
        Ok(Self {
            fed,
            restart,
            round: 0,
            next: None,
            ended: false,
            last: began_ns,
            began_ns,
            clock,
            steps: false,
            is_pipe,
            missing: Vec::new(),
        })
    }

    /// Whether its clock stands still.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.clock.stands
    }

    /// How many times faster than ours its clock is.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.clock.speed
    }

    /// Whether there is nothing more to come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ended && self.next.is_none()
    }

    /// Stops its clock, or lets it run again.
    pub fn pause(&mut self) {
        self.clock.set(self.now());
        self.clock.stands = !self.clock.stands;
    }

    /// Makes its clock so many times faster.
    pub fn hurry(&mut self, times: f64) {
        self.clock.set(self.now());
        self.clock.speed = (self.clock.speed * times).clamp(1.0 / 64.0, 65_536.0);
    }

    /// Goes on to the next facts, and stands still there.
    pub fn step(&mut self) {
        let now = self.now();
        self.clock.stands = true;
        // Where they are not read yet, they are gone on to when they are.
        self.steps = self.next.is_none() && !self.ended;
        self.clock.set(self.next.as_ref().map_or(now, |next| next.now.max(now)));
    }

    /// Goes on by so many ns.
    pub fn forward(&mut self, ns: u64) {
        self.clock.set(self.now().saturating_add(ns));
    }

    /// Goes back by so many ns: all comes again from the beginning up to there. False: what comes
    /// through a pipe does not come again.
    pub fn back(&mut self, ns: u64) -> bool {
        if self.is_pipe {
            return false;
        }
        self.round += 1;
        // The thread is there as long as this is.
        let _ = self.restart.send(self.round);
        let to = self.now().saturating_sub(ns).max(self.began_ns);
        (self.next, self.ended, self.last) = (None, false, self.began_ns);
        self.steps = false;
        self.clock.set(to);
        true
    }

    /// What could not be read since this was asked last: a line each.
    pub fn take_missing(&mut self) -> Vec<String> {
        std::mem::take(&mut self.missing)
    }

    fn take(&mut self, fed: Option<Fed>) {
        match fed {
            Some(Fed::Batch(round, batch)) if round == self.round => {
                self.last = self.last.max(batch.now);
                if std::mem::take(&mut self.steps) {
                    self.clock.set(self.now().max(batch.now));
                }
                self.next = Some(batch);
            }
            Some(Fed::Missing(line)) => {
                if !self.missing.contains(&line) {
                    self.missing.push(line);
                }
            }
            Some(Fed::End(round)) if round == self.round => self.ended = true,
            Some(_) => {}
            None => self.ended = true,
        }
    }
}

/// Reads from the beginning to the end, as often as that is asked for and somebody listens.
fn play(
    mut recording: Recording,
    files: &[PathBuf],
    feed: &Sender<Fed>,
    restarted: &commands::Receiver<u64>,
) -> Option<()> {
    let mut round = 0;
    loop {
        let again = read(&mut recording, round, feed, restarted)?;
        let next = match again {
            Some(next) => next,
            None => restarted.recv().ok()?,
        };
        // What was asked for last counts.
        round = restarted.try_iter().last().unwrap_or(next);
        match Recording::open(files) {
            Ok(opened) => recording = opened,
            Err(e) => feed.blocking_send(Fed::Missing(e.to_string())).ok()?,
        }
    }
}

/// Reads to the end, or until it is to be begun anew: then which round that is. `None`: nobody
/// listens any more.
fn read(
    recording: &mut Recording,
    round: u64,
    feed: &Sender<Fed>,
    restarted: &commands::Receiver<u64>,
) -> Option<Option<u64>> {
    loop {
        if let Ok(next) = restarted.try_recv() {
            return Some(Some(next));
        }
        let next = recording.next_batch();
        for line in recording.take_missing() {
            feed.blocking_send(Fed::Missing(line)).ok()?;
        }
        let ended = match next {
            Ok(Some(batch)) => {
                feed.blocking_send(Fed::Batch(round, batch)).ok()?;
                continue;
            }
            Ok(None) => None,
            Err(e) => Some(e.to_string()),
        };
        if let Some(line) = ended {
            feed.blocking_send(Fed::Missing(line)).ok()?;
        }
        feed.blocking_send(Fed::End(round)).ok()?;
        return Some(None);
    }
}

impl Source for Player {
    async fn ready(&mut self) -> io::Result<()> {
        match &self.next {
            Some(next) if next.now <= self.now() => {}
            Some(_) if self.clock.stands => future::pending().await,
            Some(next) => sleep_until(self.clock.due(next.now)).await,
            None if self.ended => future::pending().await,
            None => {
                let fed = self.fed.recv().await;
                self.take(fed);
            }
        }
        Ok(())
    }

    fn pull(
        &mut self,
        _: &mut dyn FnMut(BootNs) -> Wants,
        facts: &mut Vec<Timed>,
    ) -> io::Result<()> {
        let now = self.now();
        while facts.len() < AT_ONCE {
            match self.next.take_if(|next| next.now <= now) {
                Some(batch) => facts.extend(batch.facts),
                None if self.next.is_some() => break,
                None => match self.fed.try_recv() {
                    Ok(fed) => self.take(Some(fed)),
                    Err(_) => break,
                },
            }
        }
        Ok(())
    }

    fn follow_ends(&mut self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn stop(&mut self, _: &mut Vec<Timed>) -> io::Result<()> {
        Ok(())
    }

    fn now(&self) -> BootNs {
        let now = self.clock.now();
        if self.is_over() { now.min(self.last) } else { now }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        engine::{
            fact::Fact,
            watch::{Plan, Watch},
        },
        source::recording::{options::Options, recorder::Prepared},
    };

    const SECOND: u64 = 1_000_000_000;

    const DEADLINE: Duration = Duration::from_secs(60);

    /// A fact a second, for a hundred seconds.
    fn recorded(dir: &Path) -> PathBuf {
        let path = dir.join("x.tct");
        let options = Options { path: Some(path.clone()), ..Options::default() };
        let header = Header { began_ns: SECOND, ..Header::default() };
        let mut recorder = Prepared::new(options, header).expect("ok").start().expect("a thread");
        let watch = Watch::new(Plan::default());
        for second in 1..=100 {
            let fact = Timed { at: second * SECOND, fact: Fact::Skipped { count: second } };
            recorder.take(&[fact], &watch, second * SECOND).expect("room");
        }
        recorder.finish().expect("room");
        path
    }

    fn played(speed: f64, files: Vec<PathBuf>) -> Player {
        let recording = Recording::open(&files).expect("a recording");
        Player::start(recording, files, speed).expect("a thread")
    }

    /// The seconds of the facts that come until `last` has.
    fn until(player: &mut Player, last: u64) -> Vec<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let (mut facts, mut seconds) = (Vec::new(), Vec::new());
            while seconds.last() != Some(&last) {
                let ready = tokio::time::timeout(DEADLINE, player.ready()).await;
                ready.expect("before the deadline").expect("no error");
                player.pull(&mut |_| Wants::default(), &mut facts).expect("no error");
                seconds.extend(facts.drain(..).map(|fact| fact.at / SECOND));
            }
            seconds
        })
    }

    /// The same of the first that come.
    fn until_any(player: &mut Player) -> Vec<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let mut facts = Vec::new();
            while facts.is_empty() {
                let ready = tokio::time::timeout(DEADLINE, player.ready()).await;
                ready.expect("before the deadline").expect("no error");
                player.pull(&mut |_| Wants::default(), &mut facts).expect("no error");
            }
            facts.into_iter().map(|fact| fact.at / SECOND).collect()
        })
    }

    #[test]
    fn to_and_fro() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut player = played(1.0, vec![recorded(dir.path())]);
        player.pause();
        assert!(player.stands());
        player.forward(9 * SECOND);
        let from_the_first = (1..=10).collect::<Vec<_>>();
        let ten = until(&mut player, 10);
        assert_eq!(ten, from_the_first);
        // Not quite ten seconds: time passed before it was stopped.
        assert!(player.now() >= 10 * SECOND && player.now() < 11 * SECOND, "{}", player.now());
        player.step();
        assert_eq!(until(&mut player, 11), [11]);
        assert!(player.back(SECOND), "a file goes back");
        assert_eq!(until(&mut player, 10), from_the_first, "all comes again");
        player.forward(3_600 * SECOND);
        assert_eq!(until(&mut player, 100), (11..=100).collect::<Vec<_>>());
        while !player.is_over() {
            player.pull(&mut |_| Wants::default(), &mut Vec::new()).expect("no error");
        }
        assert!(player.back(3_600 * SECOND) && player.now() == SECOND, "no further");
        assert_eq!(until(&mut player, 1), [1]);
    }

    #[test]
    fn a_step_waits_for_what_is_not_read_yet() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut player = played(1.0, vec![recorded(dir.path())]);
        player.pause();
        assert!(player.back(SECOND), "nothing has come");
        player.step();
        assert_eq!(until(&mut player, 1), [1]);
        assert!(player.back(SECOND), "and again");
        assert_eq!(until(&mut player, 1), [1]);
        // What was read ahead is gone, so the next is not there.
        player.next = None;
        player.step();
        let next = until_any(&mut player);
        assert!(next.len() == 1 && player.stands(), "{next:?}");
    }

    #[test]
    fn it_takes_its_time_and_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut player = played(10_000.0, vec![recorded(dir.path())]);
        let began = std::time::Instant::now();
        assert_eq!(until(&mut player, 100).len(), 100);
        assert!(began.elapsed() >= Duration::from_micros(9_900), "99 s, 10,000 times faster");
        while !player.is_over() {
            player.pull(&mut |_| Wants::default(), &mut Vec::new()).expect("no error");
        }
        assert_eq!(player.now(), 100 * SECOND, "its clock ends with it");
        player.hurry(0.5);
        assert!(player.speed() < 10_000.0 && player.take_missing().is_empty());
    }
}
