//! `tcptrace top`: who lets sockets sit, live, on the whole screen.

mod feed;

use std::{
    fs::File,
    io::{self, IsTerminal},
    os::fd::IntoRawFd,
    path::{Path, PathBuf},
    time::Duration,
};

use anstream::{AutoStream, ColorChoice};
use anyhow::Context;
use crossterm::event as terminal;
use jiff::Timestamp;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep_until},
};

use self::feed::Feed;
use super::{attach, btf, ended_by, group::By, output::Color, replay, select};
use crate::{
    confine::seccomp::Profile,
    engine::{
        fact::Timed,
        parse,
        parse::MinAge,
        update::Update,
        watch::{Plan, Said, Watch},
    },
    exit::{Exit, Failure},
    prose::time::human,
    source::{
        self, Source,
        live::{boot_now, cpu_time, memory},
        recording::player::Player,
    },
    view::{
        Clock,
        top::{
            app::{App, Played},
            help,
            screen::Screen,
            seen::Seen,
            update::{Effect, Input, Play, update},
        },
    },
};

/// Who lets sockets sit, live on the whole screen: sort, filter, group, explain
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Who lets sockets sit, live on the whole screen.\n\nA row a process (or a \
                  verdict, a peer, a listener, a container, a socket): how many sockets sit, how \
                  many more than a minute ago, since when, why, and how many descriptors are \
                  left. Enter explains a row. Needs a terminal, and the rights of watch: root, \
                  or CAP_BPF and CAP_PERFMON.",
    after_help = keys()
)]
pub struct Args {
    /// Show stays longer than this, or than is normal there [default: 1s, or as recorded]
    #[arg(long, value_name = "DUR|auto", value_parser = parse::min_age)]
    min_age: Option<MinAge>,

    /// Play a recording instead: one file, or all that it was cut into; - is stdin
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["interval", "btf", "origins"])]
    replay: Vec<PathBuf>,

    /// Play it so many times faster than it was
    #[arg(long, value_name = "N", requires = "replay", default_value = "1",
          value_parser = replay::speed)]
    speed: f64,

    /// What sockets of a row have in common, at the start
    #[arg(long, value_name = "WHAT", default_value = "holder")]
    group_by: By,

    /// Scan this often for what is live [default: a quarter of --min-age, between 50ms and 500ms]
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    interval: Option<Duration>,

    /// Keep who opened each connection and who reads from it, with their places in the code
    #[arg(long)]
    origins: bool,

    #[command(flatten)]
    btf: btf::Args,

    /// When to use colour
    #[arg(long, value_name = "WHEN", default_value = "auto", help_heading = "Output")]
    color: Color,

    /// Show times in UTC instead of local time
    #[arg(long, help_heading = "Output")]
    utc: bool,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

/// The keys, below the flags.
fn keys() -> String {
    let keys = help::KEYS.iter().map(|(key, does)| format!("\n  {key:<15} {does}"));
    format!("Keys:{}\n\n{}", keys.collect::<String>(), help::COPYING)
}

/// Shorter stays are what servers do.
const USUAL_MIN_AGE: MinAge = MinAge::Longer(Duration::from_secs(1));
/// Rows are made anew this often where something is new, so that eyes can follow.
const LIVELY: Duration = Duration::from_millis(500);
/// And this often where nothing is: ages go on.
const QUIET: Duration = Duration::from_secs(1);
/// Making rows takes at most this share of a CPU, however many sockets there are.
const SHARE: u32 = 60;

/// Runs the command.
pub fn run(mut args: Args) -> Result<Exit, Failure> {
    if !io::stdout().is_terminal() {
        return Err(Failure::usage("top needs a terminal; tcptrace watch writes to pipes"));
    }
    memory::keep_little();
    if !args.replay.is_empty() {
        return attach::runtime()?.block_on(play(&args));
    }
    args.select.state = Some(args.select.watchable()?);
    let plan = Plan {
        selection: args.select.resolve()?,
        states: args.select.states().0,
        threads: true,
        ..Plan::default()
    }
    .reporting(args.min_age.unwrap_or(USUAL_MIN_AGE));
    let btf = args.btf.resolve()?;
    attach::runtime()?.block_on(top(&args, plan, &btf))
}

async fn top(args: &Args, plan: Plan, btf: &Path) -> Result<Exit, Failure> {
    let signals = Signals::new().context("signals")?;
    let clock = Clock::new(Timestamp::now(), boot_now(), args.utc);
    let how = attach::How {
        btf,
        ring_kib: None,
        interval: args.interval,
        origins: args.origins,
        exits: false,
        lowest_min_age: None,
    };
    let mut notes = Vec::new();
    let source = attach::attach(how, &plan, &mut |note| notes.push(note.to_owned()))?;
    on_screen(args, plan, clock, Feed::Live(Box::new(source)), notes, signals).await
}

/// Plays a recording.
async fn play(args: &Args) -> Result<Exit, Failure> {
    let signals = Signals::new().context("signals")?;
    let mut files = args.replay.clone();
    for file in files.iter_mut().filter(|file| file.as_os_str() == "-") {
        *file = terminal_for_stdin().context("the terminal, in place of stdin")?;
    }
    let recording = replay::open(&files)?;
    let header = recording.header().clone();
    let plan = replay::plan(&header, &args.select, args.min_age)?;
    let clock = Clock::new(header.began(), header.began_ns, args.utc);
    let player = Player::start(recording, files, args.speed);
    let player = player.context("starting the thread that reads")?;
    on_screen(args, plan, clock, Feed::Played(player), Vec::new(), signals).await
}

/// Puts the terminal in the place of stdin, for keys are read there; where stdin can be read now.
fn terminal_for_stdin() -> io::Result<PathBuf> {
    let pipe = rustix::io::dup(io::stdin())?;
    let terminal = File::options().read(true).write(true).open("/dev/tty")?;
    rustix::stdio::dup2_stdin(terminal)?;
    // It is read, and maybe again, as long as this runs.
    Ok(PathBuf::from(format!("/dev/fd/{}", pipe.into_raw_fd())))
}

/// Shows what comes from there, until somebody ends it.
async fn on_screen(
    args: &Args,
    plan: Plan,
    clock: Clock,
    source: Feed,
    mut notes: Vec<String>,
    mut signals: Signals,
) -> Result<Exit, Failure> {
    let longer = match plan.min_age_ns {
        _ if plan.by_normal => " over what is normal".to_owned(),
        0 => String::new(),
        // As it is written on the command line: 1s.
        ns => format!(" over {}", human(ns).replace(".0s", "s")),
    };
    let states = attach::state_names(plan.states);
    let watched = format!("{states}{longer}{}", args.select.told());
    let mut app = App::new(watched, clock, args.group_by.what());
    app.colour = match args.color {
        Color::Auto => AutoStream::choice(&io::stdout()) != ColorChoice::Never,
        Color::Always => true,
        Color::Never => false,
    };
    let mut screen = Screen::enter(app.colour).context("the terminal")?;
    let (width, height) = screen.size();
    update(&mut app, Input::Resize { width, height });
    let typed = typed().context("reading keys")?;
    // The library looks once for how time is asked for (PR_GET_AUXV), while it still may.
    cpu_time();
    attach::confine(Profile::Screen, &mut |note| notes.push(note.to_owned()));
    app.notes = notes;
    let watch = Watch::new(plan.clone());
    let mut live = Running { screen, app, plan, watch, source, typed };
    let ended = tokio::select! {
        () = signals.any() => Ok(()),
        ended = live.run() => ended,
    };
    // The terminal is left before anything is said on it.
    drop(live);
    ended.map_or_else(ended_by, |()| Ok(Exit::Done))
}

/// What ends it from outside.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        let [a, b, c] = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Ok(Self([signal(a)?, signal(b)?, signal(c)?]))
    }

    async fn any(&mut self) {
        let [a, b, c] = &mut self.0;
        tokio::select! {
            _ = a.recv() => {}
            _ = b.recv() => {}
            _ = c.recv() => {}
        }
    }
}

/// Keys, the mouse, and changes of size, read by a thread of their own: it is there before system
/// calls are filtered, and ends with the program.
fn typed() -> io::Result<UnboundedReceiver<io::Result<terminal::Event>>> {
    // What reading needs, it sets up at the first call.
    terminal::poll(Duration::ZERO)?;
    let (tell, typed) = unbounded_channel();
    let read = move || {
        loop {
            let event = terminal::read();
            let failed = event.is_err();
            if tell.send(event).is_err() || failed {
                return;
            }
        }
    };
    source::thread("keys", read)?;
    Ok(typed)
}

/// All that it consists of.
struct Running {
    /// First: the terminal is left before a scan that is under way is waited for.
    screen: Screen,
    app: App,
    plan: Plan,
    watch: Watch,
    source: Feed,
    typed: UnboundedReceiver<io::Result<terminal::Event>>,
}

/// How a recording is played now.
fn played(player: &Player) -> Played {
    Played { speed: player.speed(), stands: player.stands(), is_over: player.is_over() }
}

/// Facts that were handed over, and what they mean; empty between two rounds.
#[derive(Default)]
struct Taken {
    facts: Vec<Timed>,
    said: Vec<Said>,
}

impl Running {
    async fn run(&mut self) -> io::Result<()> {
        let mut taken = Taken::default();
        let (mut looked, mut cost, mut news) = (Instant::now(), Duration::ZERO, true);
        self.screen.draw(&self.app)?;
        loop {
            let pause = (if news { LIVELY } else { QUIET }).max(cost * SHARE);
            tokio::select! {
                biased;
                Some(event) = self.typed.recv() => {
                    if self.take_typed(event?)? {
                        return Ok(());
                    }
                    self.screen.draw(&self.app)?;
                }
                () = sleep_until(looked + pause) => {
                    let before = cpu_time();
                    if let Feed::Played(player) = &mut self.source {
                        self.app.notes.extend(player.take_missing());
                        update(&mut self.app, Input::Played(played(player)));
                    }
                    if self.watch.has_scanned() {
                        let seen = Seen::of(&self.watch, self.source.now());
                        update(&mut self.app, Input::Seen(Box::new(seen)));
                    }
                    self.screen.draw(&self.app)?;
                    (looked, news) = (Instant::now(), false);
                    cost = cpu_time().saturating_sub(before);
                }
                ready = self.source.ready() => {
                    ready?;
                    news |= self.take_facts(&mut taken)?;
                }
            }
        }
    }

    /// Takes in what was typed, all of it before it is drawn. Whether that is the end.
    fn take_typed(&mut self, first: terminal::Event) -> io::Result<bool> {
        let mut next = Some(first);
        while let Some(event) = next {
            let event = match event {
                terminal::Event::Key(key) => Some(Input::Key(key)),
                terminal::Event::Mouse(mouse) => Some(Input::Mouse(mouse)),
                terminal::Event::Resize(width, height) => {
                    self.screen.resize(width, height)?;
                    Some(Input::Resize { width, height })
                }
                _ => None,
            };
            match event.and_then(|event| update(&mut self.app, event)) {
                Some(Effect::Quit) => return Ok(true),
                Some(Effect::Copy(text)) => self.screen.copy(&text)?,
                Some(Effect::Play(what)) => self.play(what),
                None => {}
            }
            next = self.typed.try_recv().ok().transpose()?;
        }
        Ok(false)
    }

    /// Does something with the recording; what is shown follows.
    fn play(&mut self, what: Play) {
        let Feed::Played(player) = &mut self.source else { return };
        const SECOND_NS: u64 = 1_000_000_000;
        match what {
            Play::Pause => player.pause(),
            Play::Step => player.step(),
            Play::Faster => player.hurry(2.0),
            Play::Slower => player.hurry(0.5),
            Play::Forward(seconds) => player.forward(seconds * SECOND_NS),
            Play::Back(seconds) => {
                if player.back(seconds * SECOND_NS) {
                    self.watch = Watch::new(self.plan.clone());
                    update(&mut self.app, Input::Rewound);
                } else {
                    self.app.message = Some("what comes by a pipe does not go back".to_owned());
                }
            }
        }
        update(&mut self.app, Input::Played(played(player)));
    }

    /// Takes in the facts that there are. Whether something is new.
    fn take_facts(&mut self, taken: &mut Taken) -> io::Result<bool> {
        let Self { app, watch, source, .. } = self;
        source.pull(&mut |now| watch.wants(now), &mut taken.facts)?;
        taken.facts.drain(..).for_each(|fact| watch.take(&fact, &mut taken.said));
        source.follow_ends(watch.follows_ends())?;
        let mut news = false;
        for Said { time, update: said } in taken.said.drain(..) {
            match said {
                Update::Clock(offset_ns) => {
                    update(app, Input::Clock(offset_ns));
                }
                Update::Resolved { record, .. } => {
                    update(app, Input::Ended { at: time, record });
                    news = true;
                }
                Update::Stuck(_) | Update::Lost(_) => news = true,
                _ => {}
            }
        }
        Ok(news)
    }
}
