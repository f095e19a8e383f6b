//! Benchmarks: what they need, and the call.

use std::fs;

use anyhow::{Result, bail};

use crate::{
    cargo::{cargo, check},
    dist,
    setup::{self, Needed, SS},
};

const TCPSTATES: Needed = ("tcpstates", "libbpf-tools", "libbpf-tools");
const BPFTRACE: Needed = ("bpftrace", "bpftrace", "bpftrace");
const UNSHARE: Needed = ("unshare", "util-linux", "util-linux");
/// It compiles when it starts, with the headers of some kernel.
const BCC: [Needed; 2] = [
    ("tcpstates-bpfcc", "bpfcc-tools", "bcc-tools"),
    ("linux-headers", "linux-headers-amd64", "kernel-headers"),
];

/// bcc's tools, where they can be had: the benchmark says SKIPPED without them.
fn bcc() {
    let headers = fs::read_dir("/usr/src").into_iter().flatten().flatten();
    let have =
        headers.into_iter().any(|e| e.file_name().to_string_lossy().starts_with("linux-headers-"));
    if let Err(e) = setup::packages(if have { &BCC[..1] } else { &BCC }) {
        eprintln!("{e:#}");
    }
}

/// What a benchmark can be told.
const OPTIONS: &[(&str, &[&str])] = &[
    ("cost", &["--rounds", "--only"]),
    ("host", &["--rounds", "--only"]),
    ("snapshot", &["--rounds", "--only"]),
    ("record", &["--rounds", "--only"]),
    ("micro", &["--only"]),
    ("soak", &[]),
];

/// `bench`: all but the soak; `bench NAME [--rounds N] [--only X]`.
pub fn run(words: &[&str]) -> Result<()> {
    if words.is_empty() {
        return ["cost", "host", "snapshot", "record", "micro"]
            .iter()
            .try_for_each(|name| run(&[name]));
    }
    let (name, options) = parse(words)?;
    match name {
        "cost" => {
            setup::packages(&[TCPSTATES, BPFTRACE, UNSHARE])?;
            bcc();
        }
        "host" | "soak" => {
            let (nginx, wrk) = (("nginx", "nginx-light", "nginx"), ("wrk", "wrk", "wrk"));
            setup::packages(&[TCPSTATES, BPFTRACE, UNSHARE, nginx, wrk, SS])?;
            bcc();
        }
        "snapshot" => {
            setup::packages(&[
                SS,
                ("netstat", "net-tools", "net-tools"),
                ("lsof", "lsof", "lsof"),
            ])?;
        }
        _ => {}
    }
    let mut command = cargo()?;
    let bench = if name == "soak" { "host" } else { name };
    command.args(["bench", "--locked", "--package", "tcptrace", "--bench", bench, "--"]);
    match name {
        // criterion's own word for it is a filter, without a flag.
        "micro" => command.args(options.iter().filter(|word| **word != "--only")),
        // What people run is what is measured.
        _ => command.arg("--binary").arg(dist::shipped()?).args(options),
    };
    if name == "soak" {
        command.args(["--only", "soak"]);
    }
    check(&mut command)
}

/// The benchmark's name, and what it is told, in pairs.
fn parse<'a>(words: &'a [&'a str]) -> Result<(&'a str, &'a [&'a str])> {
    let names = OPTIONS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let [name, options @ ..] = words else { bail!("which benchmark? there are {names}") };
    let Some((_, known)) = OPTIONS.iter().find(|(known, _)| known == name) else {
        bail!("no such benchmark: {name}; there are {names}");
    };
    for pair in options.chunks(2) {
        let [flag, value] = pair else { bail!("{}: a value is missing", pair[0]) };
        if !known.contains(flag) {
            bail!("bench {name}: {flag} is unknown; it takes {known:?}");
        }
        if *flag == "--rounds" && value.parse::<std::num::NonZeroU32>().is_err() {
            bail!("--rounds {value}: a number from 1 on is needed");
        }
    }
    Ok((name, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        assert_eq!(parse(&["cost"]).expect("good"), ("cost", &[][..]));
        let all = ["host", "--rounds", "3", "--only", "load"];
        assert_eq!(parse(&all).expect("good"), ("host", &all[1..]));
        for (words, why) in [
            (&["costs"][..], "no such benchmark: costs"),
            (&["cost", "--rounds"], "a value is missing"),
            (&["cost", "--rounds", "0"], "a number from 1 on"),
            (&["cost", "--rounds", "many"], "a number from 1 on"),
            (&["micro", "--rounds", "3"], "--rounds is unknown"),
            (&["soak", "--only", "x"], "--only is unknown"),
            (&["cost", "x", "y"], "x is unknown"),
        ] {
            let said = parse(words).expect_err("bad").to_string();
            assert!(said.contains(why), "{said}");
        }
    }
}
