//! `serve --otlp`: a thread that sends what the agent knows to an OpenTelemetry collector.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, mpsc as plain},
    time::Duration,
};

use clap::ValueEnum;
use hyper::{HeaderMap, body::Bytes, header::HeaderName};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, watch};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};

use super::{
    apart::Apart,
    attach,
    tls::{self, wrong},
    warn,
};
use crate::{
    confine::outgoing,
    engine::{counted::counted, parse},
    exit::Failure,
    serve::{
        answer::Question,
        client::connection,
        feed::FeedView,
        otlp::{
            attributes::{Envelope, NamedHost},
            channel::CollectorTarget,
            endpoint::{Endpoint, Protocol},
            logs::OtlpView,
            queue::Queue,
            send::Sending,
        },
    },
    view::{View, metrics::around::Exported},
};

/// Where to send to.
#[derive(Debug, clap::Args)]
#[group(id = "exporter")]
pub struct Args {
    /// Send what happens and all metrics to an OpenTelemetry collector: http://HOST:4318
    #[arg(long, value_name = "URL", value_parser = Endpoint::parse)]
    otlp: Option<Endpoint>,

    /// How the collector is spoken to
    #[arg(
        long,
        value_name = "PROTOCOL",
        value_enum,
        default_value = "http/protobuf",
        requires = "otlp"
    )]
    otlp_protocol: Spoken,

    /// Headers that the collector wants to see: a file, `Name: value` a line
    #[arg(long, value_name = "FILE", requires = "otlp")]
    otlp_header_file: Option<PathBuf>,

    /// Trust a collector that one of these vouches for (PEM) [default: the system's]
    #[arg(long, value_name = "FILE", requires = "otlp")]
    otlp_ca: Option<PathBuf>,

    /// Send metrics this often
    #[arg(
        long,
        value_name = "DUR",
        default_value = "60s",
        requires = "otlp",
        value_parser = interval
    )]
    otlp_interval: Duration,
}

/// As `OTEL_EXPORTER_OTLP_PROTOCOL` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Spoken {
    #[value(name = "http/protobuf")]
    Http,
    #[value(name = "grpc")]
    Grpc,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = parse::duration(text)?;
    if interval < Duration::from_secs(1) {
        Err("write at least 1s".to_owned())
    } else {
        Ok(interval)
    }
}

/// Where systems keep whom they trust: Debian and its kin, Red Hat's, SUSE, Alpine.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What was asked for, looked up.
pub struct Resolved {
    target: CollectorTarget,
    every: Duration,
}

impl Args {
    /// Reads the files that are named; `None`: nothing is to be sent.
    pub fn resolve(&self) -> Result<Option<Resolved>, Failure> {
        let Some(endpoint) = self.otlp.clone() else { return Ok(None) };
        let protocol = match self.otlp_protocol {
            Spoken::Http => Protocol::Http,
            Spoken::Grpc => Protocol::Grpc,
        };
        if protocol == Protocol::Grpc && !endpoint.address.path.is_empty() {
            let problem = "gRPC has no path: leave it away, or use --otlp-protocol http/protobuf";
            return Err(Failure::usage(format!("--otlp {endpoint}: {problem}")));
        }
        if !endpoint.address.is_tls && self.otlp_ca.is_some() {
            let problem = "--otlp-ca is for https:// only";
            return Err(Failure::usage(format!("--otlp {endpoint}: {problem}")));
        }
        let headers = self.otlp_header_file.as_deref().map(headers).transpose()?;
        let headers = headers.unwrap_or_default();
        let tls = if endpoint.address.is_tls { Some(self.tls(&endpoint, protocol)?) } else { None };
        let target = CollectorTarget { endpoint, protocol, headers, tls };
        Ok(Some(Resolved { target, every: self.otlp_interval }))
    }

    fn tls(&self, endpoint: &Endpoint, protocol: Protocol) -> Result<Arc<ClientConfig>, Failure> {
        let (flag, path, roots) = match &self.otlp_ca {
            Some(path) => ("--otlp-ca", path.clone(), tls::roots("--otlp-ca", path)?),
            None => {
                let bundle = BUNDLES.into_iter().map(Path::new).find(|path| path.exists());
                let bundle = bundle.ok_or_else(|| {
                    let problem = "this system has no list of whom to trust; give --otlp-ca FILE";
                    Failure::usage(format!("--otlp {endpoint}: {problem}"))
                })?;
                // Such a list may have one in it that nobody can read.
                let listed = tls::certificates("--otlp-ca", bundle)?;
                ("--otlp-ca", bundle.to_owned(), Arc::new(readable(listed)))
            }
        };
        let provider = tls::provider(flag, &path, "send to a collector on this host by http://")?;
        let protocol = match protocol {
            Protocol::Http => tls::HTTP_1_1,
            Protocol::Grpc => b"h2",
        };
        tls::client(provider, tls::Trust::Roots(roots), protocol).map_err(|e| wrong(flag, &path, e))
    }
}

fn readable(list: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(list);
    roots
}

/// Headers that HTTP or the protocol itself sets.
const OURS: [&str; 8] = [
    "connection",
    "content-length",
    "content-type",
    "grpc-timeout",
    "host",
    "te",
    "transfer-encoding",
    "user-agent",
];

/// The headers of a file. What is wrong is said without their values: those are secrets.
fn headers(path: &Path) -> Result<HeaderMap, Failure> {
    const FLAG: &str = "--otlp-header-file";
    let bytes = tls::read(FLAG, path)?;
    let text = String::from_utf8_lossy(&bytes);
    let mut headers = HeaderMap::new();
    for (line, n) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |problem: &str| wrong(FLAG, path, format!("line {n}: {problem}"));
        let (name, value) =
            line.split_once(':').ok_or_else(|| wrong("write `Name: value`, a line each"))?;
        let name = HeaderName::from_bytes(name.trim().as_bytes())
            .map_err(|_| wrong("no header can have that name; write `Name: value`"))?;
        if OURS.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
            return Err(wrong("that header is the protocol's own; leave it away"));
        }
        let value = connection::secret(value.trim())
            .map_err(|_| wrong("the value has characters that no header can have"))?;
        headers.append(name, value);
    }
    if headers.is_empty() {
        return Err(wrong(FLAG, path, "no header in it; write `Name: value`, a line each"));
    }
    Ok(headers)
}

/// Who sends.
fn named_host(listen: SocketAddr) -> NamedHost {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let id = fs::read_to_string("/etc/machine-id").ok().map(|id| id.trim().to_owned());
    let id = id.filter(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let machine = id.as_deref().unwrap_or(&name);
    let digest = Sha256::digest(format!("tcptrace serve\0{machine}\0{listen}"));
    NamedHost { instance: uuid(&digest[..16]), name, id }
}

/// Of RFC 9562's version 8: made of what one likes.
fn uuid(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(36);
    for (n, byte) in bytes.iter().enumerate() {
        let byte = match n {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => *byte,
        };
        let dash = if matches!(n, 4 | 6 | 8 | 10) { "-" } else { "" };
        hex.push_str(&format!("{dash}{byte:02x}"));
    }
    hex
}

/// So long may sending what is left take when the agent ends.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The thread that sends; or nothing, where that was not asked for.
#[derive(Default)]
pub struct Exporter(Option<Started>);

struct Started {
    queue: Arc<Queue>,
    go: plain::Sender<()>,
    last: watch::Sender<Option<Bytes>>,
    ended: plain::Receiver<()>,
    endpoint: String,
}

impl Exporter {
    /// Starts the thread. It begins when [`Self::go`] says so: by then system calls are filtered
    /// for all threads, and it has a filter of its own.
    pub fn start(
        resolved: Option<Resolved>,
        listen: SocketAddr,
        ask: mpsc::Sender<Question>,
    ) -> Result<Self, Failure> {
        let Some(Resolved { target, every }) = resolved else { return Ok(Self(None)) };
        let queue = Arc::new(Queue::default());
        let endpoint = target.endpoint.to_string();
        let (last, hears) = watch::channel(None);
        let (end, ended) = plain::channel();
        let runtime = attach::runtime()?;
        let sending = Sending {
            target: Arc::new(target),
            envelope: Envelope::new(&named_host(listen)),
            queue: Arc::clone(&queue),
            ask,
            every,
            last: hears,
            say: warn,
        };
        let thread = Apart {
            name: "otlp",
            does: "sends",
            prepare: connection::prepare,
            confine: outgoing::confine,
        };
        let go = thread.start(move || {
            runtime.block_on(sending.run());
            let _ = end.send(());
        })?;
        Ok(Self(Some(Started { queue, go, last, ended, endpoint })))
    }

    /// It begins.
    pub fn go(&self) {
        if let Some(started) = &self.0 {
            let _ = started.go.send(());
        }
    }

    /// It connects to somebody.
    pub fn goes_out(&self) -> bool {
        self.0.is_some()
    }

    /// A view that writes to the feed, and sends.
    pub fn view(&self, feed: FeedView) -> Box<dyn View> {
        match &self.0 {
            Some(started) => Box::new(OtlpView::new(feed, Arc::clone(&started.queue))),
            None => Box::new(feed),
        }
    }

    /// What became of what was to be sent.
    pub fn told(&self) -> Vec<Exported> {
        self.0.as_ref().map(|started| started.queue.told()).unwrap_or_default()
    }

    /// The agent ends: sends what is left, and the last metrics, if that does not take long.
    pub fn finish(self, metrics: impl FnOnce() -> Vec<u8>) {
        let Some(started) = self.0 else { return };
        started.last.send_replace(Some(metrics().into()));
        let _ = started.ended.recv_timeout(LAST_WORDS);
        let unsent = started.queue.unsent();
        if unsent > 0 {
            let records = counted(unsent, "log record was", "log records were");
            warn(&format!("--otlp {}: {records} not taken at the end", started.endpoint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_called_the_same_after_a_restart() {
        let at = |port: u16| named_host(([127, 0, 0, 1], port).into()).instance;
        assert_eq!(at(9095), at(9095));
        assert_ne!(at(9095), at(9096), "two on one host");
        let id = at(9095);
        assert_eq!((id.len(), &id[14..15]), (36, "8"), "{id}");
    }

    #[test]
    fn headers_of_a_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("headers");
        let read = |text: &str| {
            fs::write(&path, text).expect("a file");
            headers(&path).map_err(|e| e.message)
        };
        let all = read("# key\n\nAuthorization: Bearer a:b\nX-Tenant:7\r\n").expect("two");
        assert_eq!(all["authorization"], "Bearer a:b");
        assert!(all["authorization"].is_sensitive());
        assert_eq!((all["x-tenant"].as_bytes(), all.len()), (&b"7"[..], 2));
        for (text, told) in [
            ("", "no header in it"),
            ("# x\ns3cret\n", "line 2: write `Name: value`"),
            ("a b: s3cret", "line 1: no header can have that name"),
            ("Content-Type: s3cret", "line 1: that header is the protocol's own"),
            ("X: s3cret\u{1}", "line 1: the value has characters"),
        ] {
            let problem = read(text).expect_err(text);
            assert!(problem.contains(told) && !problem.contains("s3cret"), "{text}: {problem}");
        }
    }
}
