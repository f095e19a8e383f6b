//! `tcptrace fleet`: who leaks on many hosts, from their agents or from Prometheus.

use hyper::Uri;
use tokio::task::JoinSet;

use super::{agents, attach, ended_by, output};
use crate::{
    engine::{fleet::Fleet, update::Update},
    exit::{Exit, Failure},
    source::{
        fleet::{
            agent,
            http::{Client, address},
            prometheus,
        },
        live::boot_now,
    },
    view::csv::Columns,
};

/// Who leaks on many hosts: asks their agents, or the Prometheus that scrapes them
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "Who leaks on many hosts: asks their agents, or the Prometheus that scrapes them.\n\n",
        "Of agents (tcptrace serve) it lists processes, with verdicts; of Prometheus workloads, with ",
        "what they gain an hour. The worst first. A host that does not answer is named, and makes ",
        "the exit code 1. Needs no rights.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace fleet web1 web2 db1:9095                agents; the port is 9095\n",
        "  tcptrace fleet --prometheus mon:9090             all that it scrapes\n",
        "  tcptrace fleet --token-file token https://web1:9095 --tls-ca ca.pem",
    )
)]
pub struct Args {
    /// Agents: HOST, HOST:PORT, http://HOST:PORT or https://HOST:PORT
    #[arg(value_name = "AGENT", required_unless_present = "prometheus")]
    agents: Vec<String>,

    /// A Prometheus that scrapes agents as job "tcptrace", in their place
    #[arg(long, value_name = "URL", conflicts_with = "agents")]
    prometheus: Option<String>,

    #[command(flatten)]
    access: agents::AgentAccess,

    /// Show so many, the worst
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    limit: usize,

    #[command(flatten)]
    output: output::Args,
}

/// Agents that are asked at once.
const AT_ONCE: usize = 64;
/// Prometheus's port.
const PROMETHEUS: u16 = 9090;

/// Runs the command.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let client = args.access.client()?;
    let named = |text: &String, port| {
        address(text, port).map_err(|e| Failure::usage(format!("{text}: {e}")))
    };
    let prometheus = args.prometheus.as_ref().map(|text| named(text, PROMETHEUS)).transpose()?;
    let agents: Vec<Uri> =
        args.agents.iter().map(|text| named(text, agents::PORT)).collect::<Result<_, _>>()?;
    let mut fleet = attach::runtime()?.block_on(async {
        match &prometheus {
            Some(prometheus) => prometheus::fleet(&client, prometheus).await.map_err(|why| {
                let message = format!("--prometheus {prometheus}: {why}");
                Failure { exit: Exit::Failed, message }
            }),
            None => Ok(of_agents(&client, agents).await),
        }
    })?;
    fleet.keep(args.limit);
    let exit = if fleet.silent.is_empty() { Exit::Done } else { Exit::Failed };
    let now = boot_now();
    let shown = args.output.view(now, Columns::Fleet).and_then(|mut view| {
        view.update(now, &Update::Fleet(Box::new(fleet)))?;
        view.flush()
    });
    shown.map_or_else(ended_by, |()| Ok(exit))
}

async fn of_agents(client: &Client, agents: Vec<Uri>) -> Fleet {
    let (mut fleet, mut asked, mut left) = (Fleet::default(), JoinSet::new(), agents.into_iter());
    loop {
        while asked.len() < AT_ONCE
            && let Some(agent) = left.next()
        {
            let client = client.clone();
            asked.spawn(async move {
                let told = agent::leaking(&client, &agent).await;
                (agent, told)
            });
        }
        // One that panicked has said nothing.
        let Some(Ok((agent, told))) = asked.join_next().await else { break };
        match told {
            Ok(leaking) => {
                fleet.hosts += 1;
                fleet.leaking.extend(leaking);
            }
            Err(why) => {
                let host = agent.authority().map_or_else(String::new, ToString::to_string);
                fleet.silent.push((host, why));
            }
        }
    }
    fleet
}
