//! Answers scrapes as the agents of so many simulated hosts: `hosts PORT COUNT`, one host a path
//! (`/0/metrics`, `/1/metrics`, …). What they know is what the simulation recorded
//! (tests/recordings), each up to another moment; ages and counters go on with the clock. An
//! example of the library, so that xtask itself builds without kernel programs.

use std::{cell::RefCell, env, path::PathBuf, time::Instant};

use anyhow::{Context, Result};
use axum::{Router, extract::Path, routing::get};
use tcptrace::{
    engine::{
        accounts::Accounts,
        watch::{Plan, Watch},
    },
    source::recording::file::Recording,
    view::{
        Clock,
        metrics::{around::Around, exposition::Exposition, metrics},
    },
};

/// One of them.
struct Host {
    watch: Watch,
    accounts: Accounts,
    now: u64,
}

thread_local! {
    /// All of them: the one thread that there is answers.
    static HOSTS: RefCell<Vec<Host>> = const { RefCell::new(Vec::new()) };
}

fn host(n: usize, count: usize) -> Result<Host> {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/recordings/v1.tct"));
    let mut batches = Vec::new();
    let mut recording = Recording::open(&[file]).map_err(|e| anyhow::anyhow!("{e}"))?;
    while let Some(batch) = recording.next_batch()? {
        batches.push(batch);
    }
    let upto = (batches.len() * (n + 1)).div_ceil(count);
    let mut host = Host { watch: Watch::new(Plan::default()), accounts: Accounts::new(50), now: 0 };
    let mut said = Vec::new();
    for batch in batches.into_iter().take(upto) {
        batch.facts.iter().for_each(|fact| host.watch.take(fact, &mut said));
        said.drain(..).for_each(|said| host.accounts.take(&said));
        host.now = batch.now;
    }
    Ok(host)
}

fn scraped(n: usize, began: Instant) -> String {
    HOSTS.with_borrow(|hosts| {
        let Some(host) = hosts.get(n) else { return String::new() };
        let passed = began.elapsed();
        let now = host.now + u64::try_from(passed.as_nanos()).unwrap_or(0);
        let clock = Clock::new(jiff::Timestamp::now(), now, true);
        let around = Around {
            kernel: "6.12.48-amd64".to_owned(),
            overflows: Some(passed.as_secs() / 7),
            cpu_s: passed.as_secs_f64() / 500.0,
            memory: Some(16 << 20),
            started_s: 1_764_000_000.0,
            connections: 1,
            refused: 0,
            reload: None,
            pods: None,
            exported: Vec::new(),
        };
        let format = Exposition::OpenMetrics;
        metrics(&host.watch, &host.accounts, &clock, now, &around, format)
    })
}

fn main() -> Result<()> {
    let mut args = env::args().skip(1);
    let (port, count) = args.next().zip(args.next()).context("usage: hosts PORT COUNT")?;
    let (port, count): (u16, usize) = (port.parse()?, count.parse()?);
    let made = (0..count).map(|n| host(n, count)).collect::<Result<Vec<_>>>()?;
    HOSTS.set(made);
    let began = Instant::now();
    let answer = move |Path(n): Path<usize>| async move {
        ([("content-type", Exposition::OpenMetrics.content_type())], scraped(n, began))
    };
    let router = Router::new().route("/{n}/metrics", get(answer));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        eprintln!("answering for {count} hosts on 127.0.0.1:{port}");
        let traffic = std::sync::Arc::default();
        tcptrace::serve::listen::serve(listener, std::sync::Arc::default(), router, traffic).await;
        Ok(())
    })
}
