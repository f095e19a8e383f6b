//! One boot in QEMU: its console, until it says its verdict, falls silent, or runs out of time.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::kernels::{Apt, Kernel, extract};
use crate::setup;

/// Bookworm's own QEMU crashes guests of Linux 6.12 in one of six boots; its backports' does not.
pub const BACKPORTS: Option<&str> = Some("bookworm-backports");
const GOOD_SINCE: u32 = 10;

/// An emulator, and where it finds its firmware.
pub struct Emulator {
    program: PathBuf,
    firmware: Vec<PathBuf>,
}

impl Emulator {
    /// The installed one; where that is known to crash, a newer one unpacked beside it.
    pub fn find(dir: &Path) -> Result<Self> {
        let installed = setup::which("qemu-system-x86_64").context("qemu-system-x86_64")?;
        let plain = Self { program: installed.clone(), firmware: Vec::new() };
        if version(&installed).is_none_or(|major| major >= GOOD_SINCE) {
            return Ok(plain);
        }
        let home = dir.join("qemu");
        let program = home.join("usr/bin/qemu-system-x86_64");
        if !program.exists() {
            let Some(suite) = BACKPORTS else { return Ok(plain) };
            let apt = Apt::new(dir)?;
            eprintln!("downloading a newer QEMU");
            for package in ["qemu-system-common", "qemu-system-data", "qemu-system-x86"] {
                let package = apt.download(&format!("{package}/{suite}"), &home)?;
                extract(&package, &home, &["./usr/bin/qemu-system-x86_64", "./usr/share/*"])?;
                fs::remove_file(package)?;
            }
        }
        if version(&program).is_none() {
            eprintln!(
                "{} does not start here: going on with the installed QEMU",
                program.display()
            );
            return Ok(plain);
        }
        // The option ROMs are the new one's, the BIOS is SeaBIOS's, which is installed.
        Ok(Self {
            program,
            firmware: vec![home.join("usr/share/qemu"), "/usr/share/seabios".into()],
        })
    }

    fn command(&self, kernel: &Kernel, image: &Path, card: Option<&Card>) -> Command {
        let mut command = Command::new(&self.program);
        for path in &self.firmware {
            command.arg("-L").arg(path);
        }
        // Emulation everywhere: /dev/kvm may be there and not work. No network device, but where
        // one is tried.
        command.args([
            "-accel",
            "tcg,thread=multi",
            "-M",
            "pc",
            "-cpu",
            "max",
            "-m",
            "1024M",
            "-smp",
            "2",
        ]);
        command.args([
            "-no-reboot",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-serial",
            "stdio",
        ]);
        command.args(["-append", "console=ttyS0 panic=-1 quiet"]);
        if let Some(card) = card {
            command.args(card.arguments());
        }
        command.arg("-kernel").arg(&kernel.image).arg("-initrd").arg(image);
        command
    }
}

fn version(qemu: &Path) -> Option<u32> {
    let output = Command::new(qemu)
        .arg("--version")
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split("version ").nth(1)?.split('.').next()?.parse().ok()
}

/// A network card. No packet leaves this machine: the guest reaches nobody, and is reached at
/// addresses of 127.0.0.1 only.
pub struct Card {
    /// As QEMU names it: `virtio-net-pci`, `e1000`.
    pub model: String,
    /// Ports here, and those of the guest that they lead to.
    pub ports: Vec<(u16, u16)>,
}

impl Card {
    fn arguments(&self) -> [String; 4] {
        let forward =
            |(here, there): &(u16, u16)| format!(",hostfwd=tcp:127.0.0.1:{here}-:{there}");
        let forwards: String = self.ports.iter().map(forward).collect();
        [
            "-netdev".to_owned(),
            format!("user,id=net,restrict=on{forwards}"),
            "-device".to_owned(),
            format!("{},netdev=net,romfile=", self.model),
        ]
    }
}

/// What a machine said, and how long it took.
pub struct Console {
    pub lines: Vec<String>,
    pub took: Duration,
    /// It was ended because it went on for too long.
    pub late: bool,
}

/// Boots, and listens until the machine is gone.
pub fn boot(
    emulator: &Emulator,
    kernel: &Kernel,
    image: &Path,
    log: &Path,
    deadline: Duration,
) -> Result<Console> {
    boot_with(emulator, kernel, image, log, deadline, None, &mut |_| {})
}

/// The same with a network card, each line of the console being told when it comes.
pub fn boot_with(
    emulator: &Emulator,
    kernel: &Kernel,
    image: &Path,
    log: &Path,
    deadline: Duration,
    card: Option<&Card>,
    told: &mut dyn FnMut(&str),
) -> Result<Console> {
    let began = Instant::now();
    let mut child = emulator
        .command(kernel, image, card)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context("qemu-system-x86_64")?;
    let mut output = BufReader::new(child.stdout.take().context("the console")?);
    let (tell, heard) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        while output.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    let mut file = fs::File::create(log)?;
    let mut lines = Vec::new();
    let late = loop {
        match heard.recv_timeout(deadline.saturating_sub(began.elapsed())) {
            Ok(line) => {
                writeln!(file, "{:6.1} {line}", began.elapsed().as_secs_f64())?;
                told(&line);
                lines.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => break false,
            Err(RecvTimeoutError::Timeout) => break true,
        }
    };
    // Powered off by itself, or late.
    let _ = child.kill();
    child.wait()?;
    let _ = reader.join();
    Ok(Console { lines, took: began.elapsed(), late })
}
