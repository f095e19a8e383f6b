//! A real leak in a network namespace of its own, and tcptrace naming it.

use std::{
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    cargo,
    support::{actor::Actor, netns::Netns},
};

/// Builds tcptrace and shows its main job on a leak of our own making.
pub fn run() -> Result<()> {
    let tcptrace = cargo::build_release(&[])?;
    if !rustix::process::geteuid().is_root() {
        eprintln!("the demo needs root: going on through sudo");
        let error = Command::new("sudo")
            .arg("--preserve-env=PATH,HOME,CARGO_HOME,RUSTUP_HOME")
            .arg(std::env::current_exe()?)
            .arg("demo")
            .exec();
        bail!("sudo: {error}");
    }
    let netns = Netns::new().context("making a network namespace")?;
    let name = |mut actor: Actor, name: &str| actor.tell(&format!("name {name}")).map(|_| actor);
    let mut server = name(Actor::start(Some(&netns))?, "leaky-server")?;
    let mut client = name(Actor::start(Some(&netns))?, "client")?;
    let listener = server.number("listen 127.0.0.1:8080 16")?;
    let mut serve = |client: &mut Actor| -> Result<(u32, u32)> {
        let connected = client.number("connect 127.0.0.1:8080")?;
        Ok((connected, server.number(&format!("accept {listener}"))?))
    };
    let (forgotten_client, forgotten) = serve(&mut client)?;
    let (unread_client, _unread) = serve(&mut client)?;
    let unaccepted_client = client.number("connect 127.0.0.1:8080")?;

    say(&format!(
        "a server (pid {}) and a client (pid {}) in a network namespace of their own",
        server.pid(),
        client.pid()
    ));
    say("$ sudo tcptrace watch --state close_wait");
    let path = netns.path();
    let mut watch = Command::new(&tcptrace)
        .args(["watch", "--state", "close_wait", "--netns"])
        .arg(&path)
        .stdin(Stdio::null())
        .spawn()
        .context("starting tcptrace")?;
    let pause = |seconds| thread::sleep(Duration::from_secs_f64(seconds));
    pause(1.0);

    say("the client closes its three connections; the server read one to its end, one not, and \
         never accepted the third");
    for fd in [forgotten_client, unread_client] {
        client.tell(&format!("send {fd} 512"))?;
    }
    for fd in [forgotten_client, unread_client, unaccepted_client] {
        client.tell(&format!("close {fd}"))?;
    }
    server.number(&format!("recv {forgotten} 1000"))?;
    pause(2.6);

    say(&format!("the server closes descriptor {forgotten} at last"));
    server.tell(&format!("close {forgotten}"))?;
    pause(0.5);

    say("Ctrl-C");
    if let Some(pid) = Pid::from_raw(watch.id().cast_signed()) {
        kill_process(pid, Signal::INT)?;
    }
    let status = watch.wait()?;
    if !status.success() {
        bail!("tcptrace ended with {status}");
    }
    say(&format!("$ sudo tcptrace explain {}", server.pid()));
    cargo::check(Command::new(&tcptrace).args(["explain", &server.pid().to_string()]))?;
    say("on your own machine: cargo xtask run -- watch --state close_wait");
    Ok(())
}

fn say(text: &str) {
    eprintln!("\n# {text}");
}
