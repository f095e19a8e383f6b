//! `tcptrace top` in tmux: what is on the screen, and how the terminal is left.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitCode},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tcptrace::{exit, view::top::screen::Screen};
use tempfile::TempDir;

use crate::{
    support::{bpf::Held, netns::Netns},
    tests,
    tracer::{DEADLINE, Pair, netns, nothing_left},
};

tests![
    a_leak_at_80x24,
    a_leak_at_200x60,
    sigterm_leaves_the_terminal_as_it_was,
    a_panic_leaves_the_terminal_as_it_was,
    a_recording_is_played,
    a_recording_is_played_from_a_pipe,
];

/// What this executable plays when it is started so.
const PANICS: &str = "panics-on-a-screen";

/// Takes the terminal over and panics, if the command line says so.
pub fn played() -> Option<ExitCode> {
    if std::env::args().nth(1)? != PANICS {
        return None;
    }
    exit::on_panic();
    let _screen = Screen::enter(true).expect("a terminal");
    panic!("with a screen");
}

/// A terminal of the test's own, with a shell in it that runs one command.
struct Tmux {
    dir: TempDir,
}

impl Tmux {
    fn run(width: u16, height: u16, command: &str) -> Self {
        let tmux = Self { dir: tempfile::tempdir().expect("a directory") };
        let [before, after, code] = ["before", "after", "code"].map(|name| tmux.file(name));
        let script = format!(
            "stty -g > {}; {command}; echo $? > {}; stty -g > {}; sleep 1000",
            before.display(),
            code.display(),
            after.display()
        );
        let (width, height) = (width.to_string(), height.to_string());
        tmux.tell(&["-f", "/dev/null", "new-session", "-d", "-x", &width, "-y", &height, &script]);
        tmux
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tell(&self, args: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.file("socket")).args(args).env("LANG", "C.UTF-8");
        let output = command.env_remove("TMUX").output().expect("tmux runs");
        assert!(output.status.success(), "tmux {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tell(&[&["send-keys"], keys].concat());
    }

    fn screen(&self) -> String {
        self.tell(&["capture-pane", "-p"])
    }

    fn ask(&self, format: &str) -> String {
        self.tell(&["display-message", "-p", format]).trim().to_owned()
    }

    /// Waits until the screen is as it should be.
    fn shows(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let screen = self.screen();
            if is(&screen) {
                return screen;
            }
            assert!(Instant::now() < deadline, "no {what} on the screen:\n{screen}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn has(&self, text: &str) -> String {
        self.shows(text, |screen| screen.contains(text))
    }

    /// Waits until the command has ended: its code. The terminal is then as it was.
    fn ended(&self) -> String {
        let deadline = Instant::now() + DEADLINE;
        let said = || fs::read_to_string(self.file("after")).is_ok_and(|text| text.ends_with('\n'));
        while !said() {
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.screen());
            thread::sleep(Duration::from_millis(20));
        }
        let read = |name| fs::read_to_string(self.file(name)).expect("it was written");
        assert_eq!(read("before"), read("after"));
        let flags = self.ask("#{cursor_flag} #{alternate_on} #{mouse_any_flag}");
        assert_eq!(flags, "1 0 0", "a cursor, the usual screen, no mouse");
        read("code").trim().to_owned()
    }

    /// The pid of the command.
    fn command(&self) -> Pid {
        let shell = self.ask("#{pane_pid}");
        let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children"));
        let children = children.expect("the shell runs");
        let pid = children.split_whitespace().next().and_then(|pid| pid.parse().ok());
        pid.and_then(Pid::from_raw).expect("the command runs")
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // Ends the shell, and what it runs, with it.
        let socket = self.file("socket");
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").output();
    }
}

fn top(ns: &Netns, width: u16, height: u16) -> Tmux {
    let (exe, path) = (env!("CARGO_BIN_EXE_tcptrace"), ns.path());
    let command = format!("{exe} top --netns {} --min-age 200ms", path.display());
    Tmux::run(width, height, &command)
}

/// A leak whose holder has a name of its own.
fn leak(ns: &Netns) -> (Pair, String) {
    let mut pair = Pair::new(ns);
    pair.server.tell("name leaky").expect("a name");
    pair.client_closes();
    let name = format!("leaky[{}]", pair.server.pid());
    (pair, name)
}

fn a_leak_at_80x24() {
    let ns = netns();
    let tmux = top(&ns, 80, 24);
    tmux.has("no socket in CLOSE_WAIT over 200ms");
    let (mut pair, name) = leak(&ns);
    let screen = tmux.has(&name);
    assert!(screen.contains("leaks 1  CLOSE_WAIT 1") && screen.contains("unread-fin"), "{screen}");
    assert!(screen.contains(&pair.address.to_string()), "{screen}");
    tmux.tell(&["set-option", "-s", "set-clipboard", "on"]);
    tmux.press(&["y"]);
    tmux.has("copied ");
    let copied = tmux.tell(&["show-buffer"]);
    assert!(copied.starts_with(&format!("{},127.0.0.1:", pair.address)), "{copied}");
    tmux.press(&["/", "nobody"]);
    tmux.has("no match in 1 socket");
    tmux.press(&["Escape"]);
    tmux.has(&name);
    tmux.press(&["g"]);
    tmux.has("g by verdict");
    tmux.press(&["g", "g", "g", "g", "g", "g", "g"]);
    tmux.has("g by holder");
    tmux.press(&["?"]);
    tmux.has("this help");
    tmux.press(&["Space"]);
    tmux.has(&name);
    tmux.press(&["Enter"]);
    tmux.has("TCP sockets (1 leak)");
    tmux.press(&["Enter"]);
    tmux.has("  of leaky");
    tmux.press(&["Enter"]);
    tmux.has("nothing has been sent since the peer's FIN");
    tmux.press(&["Escape"]);
    tmux.has("  of leaky");
    pair.server_closes();
    tmux.has("leaks 0");
    let held = Held::by(tmux.command().as_raw_nonzero().get().unsigned_abs()).expect("it runs");
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), "0");
    nothing_left(&held);
}

fn a_leak_at_200x60() {
    let ns = netns();
    let (_pair, name) = leak(&ns);
    let tmux = top(&ns, 200, 60);
    let screen = tmux.has(&name);
    for head in ["FDS", "STATE", "RECV-Q", "SEND-Q"] {
        assert!(screen.contains(head), "{head}: there is room\n{screen}");
    }
    tmux.tell(&["resize-window", "-x", "100", "-y", "30"]);
    let title = |screen: &str| screen.lines().next().map_or(0, |line| line.trim_end().len());
    tmux.shows("100 columns", |screen| title(screen) == 100 && screen.contains(&name));
    tmux.press(&["C-c"]);
    assert_eq!(tmux.ended(), "0");
}

fn sigterm_leaves_the_terminal_as_it_was() {
    let ns = netns();
    let tmux = top(&ns, 80, 24);
    tmux.has("no socket in CLOSE_WAIT over 200ms");
    assert_eq!(tmux.ask("#{cursor_flag} #{alternate_on} #{mouse_any_flag}"), "0 1 1");
    kill_process(tmux.command(), Signal::TERM).expect("it runs");
    assert_eq!(tmux.ended(), "0");
}

fn a_panic_leaves_the_terminal_as_it_was() {
    let exe = std::env::current_exe().expect("this test");
    let tmux = Tmux::run(80, 24, &format!("{} {PANICS}", exe.display()));
    assert_eq!(tmux.ended(), "1");
    tmux.has("a bug in tcptrace: with a screen");
}

/// Twelve simulated hosts, one after the other.
const RECORDING: &[u8] = include_bytes!("../recordings/v1.tct");

fn a_recording_is_played() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("x.tct");
    fs::write(&file, RECORDING).expect("a file");
    let exe = env!("CARGO_BIN_EXE_tcptrace");
    let tmux = Tmux::run(100, 24, &format!("{exe} top --replay {} --speed 0.01", file.display()));
    tmux.has("REPLAY x0.01");
    tmux.press(&["Space"]);
    tmux.has("REPLAY STOPPED");
    tmux.press(&["Space", "+"]);
    tmux.has("REPLAY x0.02");
    tmux.press(&["?"]);
    tmux.has("10 s back, forward");
    tmux.press(&["Escape"]);
    tmux.has("REPLAY x0.02");
    tmux.shows("the end", |screen| {
        tmux.press(&["]"]);
        screen.contains("REPLAY ENDED")
    });
    // What there is then is counted at the next look.
    tmux.shows("what there was", |s| s.contains("leaks ") && !s.contains("leaks -"));
    tmux.press(&["["]);
    tmux.shows("the beginning again", |screen| !screen.contains("REPLAY ENDED"));
    tmux.press(&["."]);
    tmux.has("REPLAY STOPPED");
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), "0");
}

fn a_recording_is_played_from_a_pipe() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("x.tct");
    fs::write(&file, RECORDING).expect("a file");
    let exe = env!("CARGO_BIN_EXE_tcptrace");
    let command = format!("cat {} | {exe} top --replay - --speed 100", file.display());
    let tmux = Tmux::run(100, 24, &command);
    tmux.has("REPLAY ENDED");
    tmux.press(&["Left"]);
    tmux.has("what comes by a pipe does not go back");
    tmux.press(&["q"]);
    assert_eq!(tmux.ended(), "0");
}
