//! What is compared: ours, nothing, an empty program, and what people would use instead.

use std::{collections::HashMap, fs, path::Path, thread, time::Duration};

use anyhow::{Context, ensure};
use aya::programs::loaded_programs;

use super::Running;

const PRINTING: &str = "tracepoint:sock:inet_sock_set_state { printf(\"%d %s %d %d %d %d\\n\", \
                        pid, comm, args->oldstate, args->newstate, args->sport, args->dport); }";
const COUNTING: &str = "tracepoint:sock:inet_sock_set_state { @[args->newstate] = count(); }";
const SS: &str = "echo looping >&2; while :; do ss -tan; sleep 1; done";
/// What tracing tools may want and not every machine has, in a mount namespace of their own:
/// tracefs, and for bcc the headers of some kernel, where there are none of this one.
const TRACED: &str = "mount -t tracefs none /sys/kernel/tracing 2>/dev/null
for h in /usr/src/linux-headers-*-amd64; do :; done
own=/lib/modules/$(uname -r)
if [ ! -e $own/build ] && [ -e $h ]; then
  t=$(mktemp -d); mount -t tmpfs none $t; mkdir $t/$(uname -r)
  ln -s $h $t/$(uname -r)/build; ln -s ${h%-amd64}-common $t/$(uname -r)/source
  mount --bind $t /lib/modules
fi
exec \"$@\"";
/// bcc compiles when it starts.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

pub const NOTHING: &str = "nothing";
pub const EMPTY: &str = "empty program";
pub const TCPSTATES: &str = "tcpstates (libbpf-tools)";
pub const AUTO: &str = "tcptrace watch --min-age auto";
pub const ORIGINS: &str = "tcptrace watch --origins";
/// None of the load's connections is asked for.
pub const ORIGINS_OF_OTHERS: &str = "tcptrace watch --origins --pid 1";
pub const STREAM: &str = "tcptrace watch --transitions --state all";

pub struct Contender {
    pub name: &'static str,
    command: Option<Vec<String>>,
    /// What it prints once it is attached; `None`: it doesn't say, its programs show.
    says: Option<&'static str>,
}

/// All of them, in the order of the tables.
pub fn all() -> anyhow::Result<Vec<Contender>> {
    let tcptrace = &super::tcptrace()[..];
    let this = std::env::current_exe()?.display().to_string();
    let stream = [
        tcptrace,
        "watch",
        "--transitions",
        "--state",
        "all",
        "--min-age",
        "10m",
        "--format",
        "json",
    ];
    let ours = |name, line: &[&str]| contender(name, line, Some("watching"));
    let mut all = vec![
        Contender { name: NOTHING, command: None, says: None },
        contender(EMPTY, &[&this, "--hold-empty"], Some("attached")),
        ours("tcptrace watch", &[tcptrace, "watch"]),
        ours(AUTO, &[tcptrace, "watch", "--min-age", "auto"]),
        ours(ORIGINS_OF_OTHERS, &[tcptrace, "watch", "--origins", "--pid", "1"]),
        ours(ORIGINS, &[tcptrace, "watch", "--origins"]),
        ours(STREAM, &stream),
        traced(TCPSTATES, &["/usr/sbin/tcpstates"]),
    ];
    match bcc_tcpstates() {
        Ok(path) => all.push(traced("tcpstates (bcc)", &[path])),
        Err(why) => eprintln!("SKIPPED: tcpstates (bcc): {why}"),
    }
    all.push(traced("bpftrace, printing", &["bpftrace", "-e", PRINTING]));
    all.push(traced("bpftrace, counting", &["bpftrace", "-e", COUNTING]));
    all.push(contender("ss -tan once a second", &["sh", "-c", SS], Some("looping")));
    Ok(all)
}

/// Origins of one process alone.
pub fn origins_of(pid: u32) -> Contender {
    let (tcptrace, pid) = (super::tcptrace(), pid.to_string());
    let line = [&tcptrace[..], "watch", "--origins", "--pid", &pid];
    contender("tcptrace watch --origins --pid (nginx)", &line, Some("watching"))
}

fn bcc_tcpstates() -> Result<&'static str, &'static str> {
    let path = ["/usr/sbin/tcpstates-bpfcc", "/usr/share/bcc/tools/tcpstates"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    let path = path.ok_or("not installed (bpfcc-tools, bcc-tools)")?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let own = Path::new("/lib/modules").join(release.trim()).join("build").exists();
    let others = fs::read_dir("/usr/src").into_iter().flatten().flatten();
    let any =
        own || others.into_iter().any(|e| e.file_name().to_string_lossy().ends_with("-amd64"));
    any.then_some(path)
        .ok_or("it compiles with kernel headers, and there are none (linux-headers-amd64)")
}

fn contender(name: &'static str, line: &[&str], says: Option<&'static str>) -> Contender {
    Contender { name, command: Some(line.iter().map(|w| (*w).to_owned()).collect()), says }
}

fn traced(name: &'static str, line: &[&str]) -> Contender {
    contender(name, &[&["unshare", "--mount", "sh", "-c", TRACED, "sh"], line].concat(), None)
}

impl Contender {
    /// Starts it and waits until it is attached: until it says so, or, where it says nothing, until
    /// programs of its own are there and no more come. `None`: there is nothing to start.
    pub fn start(&self) -> anyhow::Result<Option<Running>> {
        let Some(command) = &self.command else { return Ok(None) };
        let before = programs();
        let running = Running::start(command, self.says.unwrap_or_default()).context(self.name)?;
        if self.says.is_some() {
            return Ok(Some(running));
        }
        let (mut count, step) = (0, Duration::from_millis(200));
        for _ in 0..STARTS_WITHIN.as_millis() / step.as_millis() {
            thread::sleep(step);
            let now = programs().keys().filter(|id| !before.contains_key(id)).count();
            if now > 0 && now == count {
                return Ok(Some(running));
            }
            count = now;
        }
        ensure!(count > 0, "{}: no program of its own was loaded", self.name);
        Ok(Some(running))
    }
}

/// What the kernel counts of a loaded program.
#[derive(Clone, Copy, Default)]
pub struct Runs {
    pub ns: u64,
    pub runs: u64,
    /// Instructions, as the kernel runs them before they are compiled.
    pub instructions: u32,
}

/// Every loaded program, by id.
pub fn programs() -> HashMap<u32, Runs> {
    let infos = loaded_programs().filter_map(Result::ok);
    let runs = infos.map(|p| {
        let instructions = p.size_translated().unwrap_or_default() / 8;
        (p.id(), Runs { ns: p.run_time().as_nanos() as u64, runs: p.run_count(), instructions })
    });
    runs.collect()
}
