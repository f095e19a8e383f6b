//! `serve --pods`: where the names of pods come from.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, mpsc as plain},
};

use tokio_rustls::rustls::ClientConfig;

use super::{
    apart::Apart,
    attach,
    tls::{self, wrong},
    warn,
};
use crate::{
    confine::outgoing,
    engine::record::BootNs,
    exit::Failure,
    formats::pods::KnownPods,
    serve::{
        client::{address::ServerAddress, connection},
        current::Current,
        kubelet::{address, ask::KubeletTarget, poll::Polling, token::TokenFile},
        pods::SharedPods,
    },
    source::live::{addresses::is_own, memory, pods::Pods},
};

/// Who names pods.
#[derive(Debug, clap::Args)]
#[group(id = "naming")]
pub struct Args {
    /// Name Kubernetes pods: by the kubelet's log directories (/var/log/pods), or by asking the
    /// node's kubelet (https://127.0.0.1:10250)
    #[arg(
        long,
        value_name = "DIR|URL",
        value_parser = place,
        long_help = "Name Kubernetes pods: by the names that the kubelet gives their log \
                     directories (/var/log/pods), or by asking the node's own kubelet every 30s \
                     (https://127.0.0.1:10250), which also says what they belong to"
    )]
    pods: Option<Place>,

    /// Show the kubelet the token in this file, which is read anew for each request
    #[arg(long, value_name = "FILE", requires = "pods")]
    pods_token_file: Option<PathBuf>,

    /// Trust a kubelet that one of these vouches for (PEM)
    #[arg(long, value_name = "FILE", requires = "pods", conflicts_with = "pods_insecure")]
    pods_ca: Option<PathBuf>,

    /// Trust whoever answers: on loopback, or an address of this node
    #[arg(
        long,
        requires = "pods",
        long_help = "Trust whoever answers, as many a kubelet has a certificate that nobody \
                     vouches for: on loopback, or an address of this node. Nowhere else is asked \
                     then, and no token sent"
    )]
    pods_insecure: bool,
}

/// Where names are.
#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    Kubelet(ServerAddress),
}

fn place(text: &str) -> Result<Place, String> {
    if text.contains("://") {
        return address::parse(text).map(Place::Kubelet);
    }
    Ok(Place::Directory(text.into()))
}

/// What was asked for, looked up.
#[derive(Default)]
pub enum PodSource {
    /// No names.
    #[default]
    None,
    /// Those of a directory.
    Directory(Pods),
    /// What a kubelet says.
    Kubelet(Box<KubeletTarget>),
}

impl Args {
    /// Reads what is named.
    pub fn resolve(&self) -> Result<PodSource, Failure> {
        let (Some(place), token) = (&self.pods, &self.pods_token_file) else {
            return Ok(PodSource::None);
        };
        let for_https = match place {
            Place::Kubelet(address) if address.is_tls => None,
            _ if token.is_some() => Some("--pods-token-file"),
            _ if self.pods_ca.is_some() => Some("--pods-ca"),
            _ => self.pods_insecure.then_some("--pods-insecure"),
        };
        let address = match place {
            Place::Directory(path) => {
                let problem = |flag| wrong("--pods", path, format!("{flag} is for https:// only"));
                for_https.map_or(Ok(()), |flag| Err(problem(flag)))?;
                let pods = Pods::open(path).map_err(|e| wrong("--pods", path, e))?;
                return Ok(PodSource::Directory(pods));
            }
            Place::Kubelet(address) => address.clone(),
        };
        let refuse = |problem: String| Failure::usage(format!("--pods {address}: {problem}"));
        if let Some(flag) = for_https {
            return Err(refuse(format!("{flag} is for https:// only")));
        }
        let tls = if address.is_tls { Some(self.tls(&address, &refuse)?) } else { None };
        let token = token.clone().map(TokenFile::new);
        if let Some(token) = &token {
            let read = token.read().map_err(|e| tls::unreadable(&e));
            read.map_err(|e| wrong("--pods-token-file", token.path(), e))?;
        }
        Ok(PodSource::Kubelet(Box::new(KubeletTarget { address, token, tls })))
    }

    fn tls(
        &self,
        address: &ServerAddress,
        refuse: &dyn Fn(String) -> Failure,
    ) -> Result<Arc<ClientConfig>, Failure> {
        let trust = match &self.pods_ca {
            Some(path) => tls::Trust::Roots(tls::roots("--pods-ca", path)?),
            None if !self.pods_insecure => {
                let problem = "give --pods-ca FILE with who vouches for it, or, for a certificate \
                               that nobody vouches for, --pods-insecure";
                return Err(refuse(problem.to_owned()));
            }
            None => {
                // A token goes nowhere else, whoever answers for a name or on the way.
                let Some(ip) = address.ip() else {
                    let problem = "--pods-insecure wants an address of this node, not a name; \
                                   write it, or give --pods-ca FILE";
                    return Err(refuse(problem.to_owned()));
                };
                if !is_own(ip) {
                    let problem = "--pods-insecure is for loopback and this node's own addresses, \
                                   and this is none; give --pods-ca FILE";
                    return Err(refuse(problem.to_owned()));
                }
                tls::Trust::Anybody
            }
        };
        let url = address.to_string();
        let (flag, at) = ("--pods", Path::new(&url));
        let provider = tls::provider(flag, at, "name pods by a directory (/var/log/pods)")?;
        tls::client(provider, trust, tls::HTTP_1_1).map_err(|e| wrong(flag, at, e))
    }
}

/// Who names pods while the agent runs.
#[derive(Default)]
pub struct Naming {
    known: SharedPods,
    from: Running,
}

#[derive(Default)]
enum Running {
    #[default]
    Nowhere,
    Directory(Pods),
    Kubelet(plain::Sender<()>),
}

impl Naming {
    /// Starts the thread that asks a kubelet. It begins when [`Self::go`] says so: by then system
    /// calls are filtered for all threads, and it has a filter of its own.
    pub fn start(source: PodSource) -> Result<Self, Failure> {
        let known = Arc::new(Current::default());
        let target = match source {
            PodSource::None => return Ok(Self::default()),
            PodSource::Directory(pods) => {
                known.set(pods.known().clone());
                return Ok(Self { known: Some(known), from: Running::Directory(pods) });
            }
            PodSource::Kubelet(target) => *target,
        };
        let runtime = attach::runtime()?;
        let give_back = memory::give_back;
        let polling = Polling { target, known: Arc::clone(&known), say: warn, give_back };
        let thread = Apart {
            name: "pods",
            does: "asks the kubelet",
            prepare: connection::prepare,
            confine: outgoing::confine,
        };
        let go = thread.start(move || runtime.block_on(polling.run()))?;
        Ok(Self { known: Some(known), from: Running::Kubelet(go) })
    }

    /// It begins.
    pub fn go(&self) {
        if let Running::Kubelet(go) = &self.from {
            let _ = go.send(());
        }
    }

    /// It connects to somebody.
    pub fn goes_out(&self) -> bool {
        matches!(self.from, Running::Kubelet(_))
    }

    /// Reads a directory again, if it is time.
    pub fn refresh(&mut self, now: BootNs) {
        if let (Running::Directory(pods), Some(known)) = (&mut self.from, &self.known)
            && let Some(news) = pods.news(now)
        {
            match (known.get().is_well, news.is_well) {
                (true, false) => warn(&format!(
                    "--pods {}: it can't be read any more; names stay as they were, and it is \
                     tried again",
                    pods.directory().display()
                )),
                (false, true) => {
                    warn(&format!("--pods {}: names are read again", pods.directory().display()));
                }
                _ => {}
            }
            known.set(news);
        }
    }

    /// The names; `None`: they were not asked for.
    pub fn known(&self) -> Option<KnownPods> {
        self.known.as_ref().map(|known| known.get())
    }

    /// The same, for who asks later.
    pub fn shared(&self) -> SharedPods {
        self.known.clone()
    }
}
