//! The developer's one door. Every command brings what it needs, asks nothing, and is quick the
//! second time.

mod audit;
mod bench;
mod browser;
mod cargo;
mod demo;
mod dist;
mod fleet;
mod fuzz;
mod origins;
mod pictures;
mod setup;
mod stories;
mod test;
mod tidy;
mod vm;

#[path = "../../tests/support/mod.rs"]
#[expect(dead_code, reason = "shared with the live tests")]
mod support;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  setup          install what building needs: a pinned nightly with rust-src, a pinned bpf-linker
  build          build target/release/tcptrace, one binary with the kernel programs in it
  run [--kernel-log] -- ARGS
                 build it and run it as root (through sudo where needed); '--kernel-log': the \
                    kernel programs say what they do on rare paths
  demo           make a leak in a network namespace of its own and watch tcptrace name it
  pictures [BINARY]
                 docs/watch.svg, docs/top.svg and docs/report.png, of real runs; as root
  browser        the page of a report in Chromium (installed as a package): clicks, keys, widths,
                 light and dark, paper, without scripts; pictures in target/browser
  json-docs      docs/json.md and docs/json.schema.json, as the code is
  test           everything that CI runs: formatting, clippy, tidy, unit, command-line and live \
                    tests
  stories [NAME] production stories with the real software: nginx, PHP, Node.js, mosquitto \
                    (installed as packages),
                 Thrift, Tornado and others (below target/stories); as root
  origins [NAME] where leaks come from, in programs of each language: Go, Java, Node.js, socat \
                    (installed as packages),
                 Python with gunicorn (below target/origins); as root
  bench [NAME]   benchmarks against what people would use instead; NAME: cost, host, snapshot,
                 micro, or soak (ten minutes), of the binary that 'dist' makes;
                 '--rounds N': so many turns each (cost, host, snapshot); '--only X': one contender
                 (cost, snapshot), one part (host: load, nginx, lost, memory, start), or what has
                 X in its name (micro)
  vm [KERNEL]... the live tests on real kernels in QEMU, without KVM; KERNEL: a series of Debian's \
                    (6.12), rc, newest;
                 'vm update' looks for newer packages first; '-- ARGS' are for the live tests
  vm nic [KERNEL [MODEL]]
                 leaks among short connections through a virtual network card (virtio-net-pci,
                 e1000): runs that the kernel skipped, and what was named all the same
  fleet          two agents with real leaks, a real Prometheus and Alertmanager (installed as \
                    packages): the
                 rules, alerts and dashboard of deploy/ held against them; as root;
                 'scale': what 1,000 simulated agents take of a Prometheus; 'containers': the \
                    agent in one
                 container (podman, runc) names a leak in another, on the rights of deploy/, and \
                    two builds
                 of the image are one; 'manifests': kustomize's, Helm's and Compose's files, \
                    rendered,
                 held against published schemas, one another and the units (tools from pip); \
                    'seccomp':
                 deploy/seccomp.json, as the code is; 'soak [--seconds N]': what an agent costs in \
                    an hour
                 of leaks that come and go, and whether that grows; 'otlp': log records and metrics \
                    through a
                 real collector (Rotel, of PyPI) by HTTP and gRPC, below target/otlp; 'pictures': \
                    docs/agent-page.png,
                 of a real agent's page, and docs/dashboard.png, drawn by Grafana's components (of \
                    npm)
  fuzz [TARGET]  all that reads bytes from outside, ten minutes a target; '--seconds N' for less \
                    or more
  dist [check]   what is handed out, below target/dist: static binary, manual pages, shell \
                    completions, Debian package;
                 'check' tries each in a bare Debian root, and that a build elsewhere has the same \
                    bytes; as root;
                 '--target aarch64-unknown-linux-musl' builds for that
  audit          dependencies (licences, sources, advisories: cargo-deny), and a build with the \
                    oldest Rust
  sim --seeds N [--from SEED]
                 the core against a simulated kernel: N schedules, from a seed on; a failure comes with \
                    the shortest schedule that shows it
  soak           an hour of servers that leak, fork and are killed at random, what is said held \
                    against what ss says
  tidy           the rules of ARCHITECTURE.md, checked";

fn main() -> ExitCode {
    // The demo's server and client are this executable too.
    if let Some(played) = support::actor::played() {
        return played;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String]) -> Result<()> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match &words[..] {
        ["setup"] => setup::all(),
        ["build"] => cargo::build_release(&[]).map(|path| eprintln!("built {}", path.display())),
        ["run", rest @ ..] => cargo::run(rest),
        ["demo"] => demo::run(),
        ["json-docs"] => test::json_docs(),
        ["pictures", rest @ ..] => pictures::run(rest),
        ["browser"] => browser::run(),
        ["test"] => test::run(),
        ["stories"] => stories::run(None),
        ["stories", name] => stories::run(Some(name)),
        ["origins"] => origins::run(None),
        ["origins", name] => origins::run(Some(name)),
        ["bench", rest @ ..] => bench::run(rest),
        ["sim", rest @ ..] => test::sim(rest),
        ["soak"] => test::soak(),
        ["vm", rest @ ..] => vm::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["dist", rest @ ..] => dist::run(rest),
        ["audit"] => audit::run(),
        ["fleet"] => fleet::alerts::run(),
        ["fleet", "scale"] => fleet::scale::run(),
        ["fleet", "containers"] => fleet::containers::run(),
        ["fleet", "soak"] => fleet::soak::run(3_600),
        ["fleet", "soak", "--seconds", n] => {
            fleet::soak::run(n.parse().context("--seconds N: write a whole number")?)
        }
        ["fleet", "manifests"] => fleet::manifests::run(),
        ["fleet", "seccomp"] => fleet::seccomp::run(),
        ["fleet", "otlp"] => fleet::otlp::run(),
        ["fleet", "pictures"] => fleet::pictures::run(),
        ["tidy"] => tidy::run(),
        [] | ["help" | "-h" | "--help"] => {
            eprintln!("{HELP}");
            Ok(())
        }
        _ => bail!("no such command: {}\n{HELP}", args.join(" ")),
    }
}
