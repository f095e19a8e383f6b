//! `tcptrace serve`: the agent. A watch that runs for weeks, and a listener that says what it knows
//! to whoever may ask.

mod agent;
mod reload;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, atomic::Ordering::Relaxed, mpsc as plain},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
};

use self::agent::Agent;
use super::{
    apart::Apart,
    attach, btf, otlp, pods, recording, select,
    session::Session,
    settings,
    settings::{FileSettings, Reloads, reload::Hangup},
    tls::{self, wrong},
    warn,
};
use crate::{
    confine::{http, seccomp::Profile},
    engine::{
        accounts::Accounts,
        parse,
        parse::MinAge,
        record::BootNs,
        select::Selection,
        watch::{Plan, Wants},
    },
    exit::{Exit, Failure},
    serve::{
        answer::Question,
        current::Current,
        feed::FeedView,
        guard::Guard,
        listen::{self, Traffic},
        routes,
        site::Shared,
    },
    source::{
        Source,
        live::{boot_now, bpf::preflight, memory},
        recording::{options::Options, recorder::Prepared},
    },
    view::Clock,
};

/// Run as an agent: metrics for Prometheus, an API, and events, over HTTP
#[derive(Debug, clap::Args)]
#[command(
    long_about = concat!(
        "Run as an agent: metrics for Prometheus, an API, and events, over HTTP.\n\n",
        "It watches as watch does, and says what it knows to whoever asks: /metrics (Prometheus's ",
        "text format and OpenMetrics), /api/v1/sockets, /api/v1/groups and /api/v1/events (JSON), ",
        "/healthz and /readyz. No path changes anything. It listens on loopback unless told ",
        "otherwise; beyond that it asks for a token (--token-file), for certificates of clients ",
        "(--tls-client-ca), or for --open. SIGTERM ends it. Needs root, or CAP_BPF and CAP_PERFMON.",
    ),
    after_help = concat!(
        "Examples:\n",
        "  tcptrace serve                                   on 127.0.0.1:9095\n",
        "  tcptrace serve --listen [::]:9095 --token-file /etc/tcptrace/token --tls-cert a.pem --tls-key a.key\n",
        "  curl -s 127.0.0.1:9095/metrics | grep tcptrace_leaks\n",
        "  curl -s '127.0.0.1:9095/api/v1/sockets?leaks=true&limit=10' | jq\n",
        "  curl -sN 127.0.0.1:9095/api/v1/events            each event as it happens\n",
        "  tcptrace serve --otlp http://otel:4318           and to an OpenTelemetry collector",
    )
)]
pub struct Args {
    /// Where it listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9095", value_parser = address)]
    listen: SocketAddr,

    /// Who asks must have one of these tokens (Authorization: Bearer TOKEN): a file, a token a line
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// Speak TLS, with this certificate and those that vouch for it (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Who asks must have a certificate that one of these vouches for (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// Whoever reaches it may ask, without a token, by whatever name
    #[arg(long)]
    open: bool,

    /// So many workloads have metrics of their own, those that leak most; the rest is "other"
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    workloads: u16,

    /// Report stays longer than this; 0 reports every stay; auto: what is longer than normal there
    #[arg(long, value_name = "DUR|auto", default_value = "10s", value_parser = parse::min_age)]
    min_age: MinAge,

    /// Scan what is live this often [default: a quarter of --min-age, between 50ms and 500ms]
    #[arg(long, value_name = "DUR", value_parser = attach::interval)]
    interval: Option<Duration>,

    /// Keep who opened each connection and who reads from it, with their places in the code
    #[arg(long)]
    origins: bool,

    /// Remember this much, for /api/v1/recording; 0: nothing
    #[arg(
        long,
        value_name = "DUR",
        default_value = "10m",
        value_parser = parse::duration,
        long_help = "Remember this much, for /api/v1/recording, compressed and in no more than 16 \
                     MiB; 0: nothing. Command lines are remembered without their arguments, unless \
                     those who ask show a token or a certificate"
    )]
    remember: Duration,

    #[command(flatten)]
    pods: pods::Args,

    #[command(flatten)]
    config: settings::ConfigFlag,

    #[command(flatten)]
    otlp: otlp::Args,

    #[command(flatten)]
    btf: btf::Args,

    // Last: its heading would stand above what follows.
    #[command(flatten)]
    select: select::Args,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write an address and a port: 127.0.0.1:9095, [::1]:9095".to_owned())
}

/// What is remembered takes no more than this, bytes.
const MEMORY: u64 = 16 << 20;
/// How long stays were is counted anew this often, ns.
const LENGTHS_NS: u64 = 5_000_000_000;

impl Args {
    /// Looks everything up that was named.
    fn prepare(&mut self) -> Result<Named, Failure> {
        self.select.state = Some(self.select.watchable()?);
        let (guard, tls) = (self.guard()?, self.tls()?);
        let guard = Arc::new(Current::new(Arc::new(guard)));
        let http = Http { tls: Arc::new(Current::new(tls)), guard };
        let pods = self.pods.resolve()?;
        let (otlp, selection) = (self.otlp.resolve()?, self.select.resolve()?);
        Ok(Named { http, pods, otlp, selection, btf: self.btf.resolve()? })
    }

    fn announcement(&self, at: SocketAddr, http: &Http) -> String {
        let scheme = if http.tls.get().is_some() { "https" } else { "http" };
        let watched = attach::watched(self.select.states().0, self.min_age);
        format!("serving on {scheme}://{at}; watching for {watched}{}", self.select.told())
    }

    fn plan(&self, selection: Selection) -> Plan {
        let states = self.select.states().0;
        Plan { selection, states, threads: true, ..Plan::default() }.reporting(self.min_age)
    }

    /// Command lines may hold secrets: whoever may ask without showing anything is told none of
    /// their arguments.
    fn tells_arguments(&self) -> bool {
        self.token_file.is_some() || self.tls_client_ca.is_some()
    }

    /// What is remembered for who asks.
    fn remembered(&self, plan: &Plan) -> Result<Option<Prepared>, Failure> {
        let options = Options {
            on_leak: Some(self.remember),
            memory: Some(MEMORY),
            without_arguments: !self.tells_arguments(),
            ..Options::default()
        };
        let any = (!self.remember.is_zero()).then_some(options);
        any.map(|options| recording::prepare("--remember", options, plan)).transpose()
    }

    /// Who may ask.
    fn guard(&self) -> Result<Guard, Failure> {
        if let Some(path) = &self.token_file {
            return Ok(Guard::with_tokens(&tls::tokens("--token-file", path)?));
        }
        if self.open || self.tls_client_ca.is_some() {
            return Ok(Guard::open());
        }
        if !self.listen.ip().is_loopback() {
            return Err(Failure::usage(format!(
                "--listen {}: whoever reaches it could read who runs what here; give --token-file \
                 or --tls-client-ca, or --open",
                self.listen
            )));
        }
        Ok(Guard::default())
    }

    fn tls(&self) -> Result<Option<TlsAcceptor>, Failure> {
        let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let chain = tls::certificates("--tls-cert", cert)?;
        let instead = "listen on loopback behind a proxy that speaks it";
        let provider = tls::provider("--tls-cert", cert, instead)?;
        let secret = PrivateKeyDer::from_pem_slice(&tls::read("--tls-key", key)?)
            .map_err(|e| wrong("--tls-key", key, format!("no private key in PEM: {e}")))?;
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("TLS")?;
        let config = match &self.tls_client_ca {
            None => config.with_no_client_auth(),
            Some(path) => {
                let roots = tls::roots("--tls-client-ca", path)?;
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                let verifier = verifier.map_err(|e| wrong("--tls-client-ca", path, e))?;
                config.with_client_cert_verifier(verifier)
            }
        };
        let config = config
            .with_single_cert(chain, secret)
            .map_err(|e| wrong("--tls-cert", cert, format!("does not go with the key: {e}")))?;
        Ok(Some(TlsAcceptor::from(Arc::new(config))))
    }
}

/// What it would do, where all that it names is in order.
pub fn check(mut args: Args) -> Result<String, Failure> {
    let (at, named) = (args.listen, args.prepare()?);
    Ok(args.announcement(at, &named.http))
}

/// Runs the command.
pub fn run(mut args: Args, settings: Option<FileSettings>) -> Result<Exit, Failure> {
    memory::keep_little();
    memory::share();
    let named = args.prepare()?;
    let listener = TcpListener::bind(args.listen)
        .map_err(|e| Failure::usage(format!("--listen {}: {e}", args.listen)))?;
    attach::runtime()?.block_on(serve(args, named, listener, settings))
}

/// What flags name, looked up.
struct Named {
    http: Http,
    selection: Selection,
    btf: PathBuf,
    pods: pods::PodSource,
    otlp: Option<otlp::Resolved>,
}

/// Who may ask, and how: replaced as the file of settings is read again.
#[derive(Clone)]
struct Http {
    tls: Arc<Current<Option<TlsAcceptor>>>,
    guard: Arc<Current<Arc<Guard>>>,
}

async fn serve(
    args: Args,
    named: Named,
    listener: TcpListener,
    settings: Option<FileSettings>,
) -> Result<Exit, Failure> {
    let reloads = Reloads::new(settings)?;
    let Named { http, selection, btf, pods, otlp } = named;
    let mut stop = signal(SignalKind::interrupt()).context("SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let plan = args.plan(selection);
    let how = attach::How {
        btf: &btf,
        ring_kib: None,
        interval: args.interval,
        origins: args.origins,
        exits: false,
        lowest_min_age: reloads.lowest_min_age(args.min_age),
    };
    let at = listener.local_addr().context("the listener's address")?;
    let recording = args.remembered(&plan)?;
    let mut source = attach::attach(how, &plan, &mut warn)?;
    let (began, now) = (jiff::Timestamp::now(), boot_now());
    let clock = Clock::new(began, now, true);
    let started_s = clock.unix_s(now);
    let shared = Arc::new(Shared::new(began.as_millisecond().unsigned_abs()));
    let traffic = Arc::new(Traffic::default());
    let (ask, mut asked) = mpsc::channel(listen::CONNECTIONS);
    let go = start(listener, http.clone(), Arc::clone(&shared), Arc::clone(&traffic), ask.clone())?;
    let exporter = otlp::Exporter::start(otlp, at, ask)?;
    let naming = pods::Naming::start(pods)?;
    let recorder = recording.map(Prepared::start).transpose().context("remembering")?;
    let goes_out = exporter.goes_out() || naming.goes_out();
    let profile = if goes_out { Profile::Outgoing } else { Profile::Serve };
    attach::confine(profile, &mut warn);
    let _ = go.send(());
    exporter.go();
    let view = FeedView::new(Arc::clone(&shared.feed), clock, naming.shared());
    let mut agent = Agent {
        session: Session::new(plan, exporter.view(view), None),
        accounts: Accounts::new(args.workloads.into()),
        started_s,
        kernel: preflight::release().unwrap_or_default(),
        shared,
        traffic,
        recorder,
        remember: args.remember,
        arguments: args.tells_arguments(),
        remembers_arguments: args.tells_arguments(),
        reloaded: reloads.last(),
        naming,
        exporter,
    };
    warn(&args.announcement(at, &http));
    agent.naming.go();
    let mut reload = reload::Reload::new(args, http, reloads);

    let (mut facts, mut lengths_ns) = (Vec::new(), 0u64);
    loop {
        agent.shared.turned();
        let ready = tokio::select! {
            _ = stop.recv() => return Ok(agent.end(source.now())),
            _ = terminate.recv() => return Ok(agent.end(source.now())),
            asked = reload.reloads.asked() => {
                if asked == Hangup::End {
                    return Ok(agent.end(source.now()));
                }
                reload.run(&mut agent, &mut source);
                continue;
            }
            ready = source.ready() => ready,
            Some(question) = asked.recv() => {
                agent.answer(question, source.now());
                continue;
            }
        };
        let mut wants = |now: BootNs| {
            let histogram = now >= lengths_ns.saturating_add(LENGTHS_NS);
            if histogram {
                lengths_ns = now;
            }
            let mut wants = Wants { histogram, ..agent.session.watch.wants(now) };
            if let Some(recorder) = &mut agent.recorder {
                recorder.ask(now, &mut wants);
            }
            wants
        };
        let pulled = ready.and_then(|()| source.pull(&mut wants, &mut facts));
        let now = source.now();
        agent.remember(|recorder, watch| recorder.take(&facts, watch, now));
        agent.naming.refresh(now);
        agent.session.take(facts.drain(..));
        agent.count();
        let followed = source.follow_ends(agent.session.watch.follows_ends());
        pulled.and(agent.session.show(now)).and(followed).context("watching")?;
        agent.shared.is_ready.store(agent.session.watch.has_scanned(), Relaxed);
    }
}

/// Starts the thread that answers requests. It begins when it is told to: by then system calls are
/// filtered for all threads, and it has a filter of its own.
fn start(
    listener: TcpListener,
    http: Http,
    shared: Arc<Shared>,
    traffic: Arc<Traffic>,
    ask: mpsc::Sender<Question>,
) -> Result<plain::Sender<()>, Failure> {
    let Http { tls, guard } = http;
    listener.set_nonblocking(true).context("the listener")?;
    let router = routes::router(shared, guard, ask);
    let runtime = attach::runtime()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener).context("the listener")?
    };
    let thread =
        Apart { name: "http", does: "answers requests", prepare: || (), confine: http::confine };
    thread.start(move || runtime.block_on(listen::serve(listener, tls, router, traffic)))
}
