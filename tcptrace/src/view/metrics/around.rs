//! What an agent's metrics say of itself, beyond its watch.

use super::{
    counter,
    exposition::{Metric, MetricSink},
    gauge,
};
use crate::formats::pods::KnownPods;

/// What the watch does not know of itself.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// Kernel release.
    pub kernel: String,
    /// Connections that listeners of this network namespace dropped because their queues were full
    /// (`TcpExtListenOverflows`).
    pub overflows: Option<u64>,
    /// CPU time of this process, s.
    pub cpu_s: f64,
    /// Its resident memory, bytes.
    pub memory: Option<u64>,
    /// When it started, s since 1970.
    pub started_s: f64,
    /// Connections to its listener that are open.
    pub connections: u64,
    /// Connections to it that were refused or ended, since there were too many.
    pub refused: u64,
    /// How the last reading of its file of settings went; `None`: it has none.
    pub reload: Option<ReloadResult>,
    /// What Kubernetes calls pods; `None`: that was not asked for.
    pub pods: Option<KnownPods>,
    /// What became of what was sent on, by signal; empty: nothing is sent anywhere.
    pub exported: Vec<Exported>,
}

/// How the last reading of a file of settings went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReloadResult {
    /// The file was good.
    pub successful: bool,
    /// When it last was, s since 1970.
    pub success_s: f64,
}

/// What became of what was to be sent to a collector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// `logs` or `metrics`.
    pub signal: &'static str,
    /// Log records or data points that it took.
    pub sent: u64,
    /// Those that it has not, and never will, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Those that wait.
    pub queued: u64,
}

const OVERFLOWS: Metric = counter(
    "tcptrace_listen_overflows",
    "Connections dropped because an accept queue was full, in the agent's network namespace.",
);
const CPU: Metric = Metric {
    unit: "seconds",
    ..counter("process_cpu_seconds", "CPU time of the agent, user and system.")
};
const MEMORY: Metric =
    gauge("process_resident_memory_bytes", "bytes", "Resident memory of the agent.");
const STARTED: Metric =
    gauge("process_start_time_seconds", "seconds", "When the agent started, since 1970.");
const RELOADED: Metric = gauge(
    "tcptrace_config_last_reload_successful",
    "",
    "Whether the last reading of the file of --config went well; if not, all stays as it was.",
);
const RELOADED_AT: Metric = gauge(
    "tcptrace_config_last_reload_success_timestamp_seconds",
    "seconds",
    "When the file of --config was last read and good, since 1970.",
);
const PODS_READ: Metric = gauge(
    "tcptrace_pods_last_read_successful",
    "",
    "Whether the names of pods were there when they were last asked for; if not, all stay as they \
     were.",
);
const PODS_READ_AT: Metric = gauge(
    "tcptrace_pods_last_read_success_timestamp_seconds",
    "seconds",
    "When the names of pods were last read, since 1970; 0: not yet.",
);
const CONNECTIONS: Metric =
    gauge("tcptrace_http_connections", "", "Connections to the agent's listener.");
const REFUSED: Metric = counter(
    "tcptrace_http_refused",
    "Connections to the agent's listener that were ended because there were too many.",
);

const OTLP_SENT: Metric = counter(
    "tcptrace_otlp_sent",
    "Log records and data points that the OTLP collector took, by signal.",
);
const OTLP_DROPPED: Metric = counter(
    "tcptrace_otlp_dropped",
    "Log records and data points that were not sent and never will be, by signal and reason.",
);
const OTLP_QUEUED: Metric =
    gauge("tcptrace_otlp_queued", "", "Log records and data points that wait to be sent.");

impl Around {
    /// All of it.
    pub(super) fn write(&self, out: &mut dyn MetricSink) {
        if let Some(n) = self.overflows {
            out.metric(OVERFLOWS);
            out.count(&[], n, None);
        }
        out.metric(CPU);
        out.sample(&[], self.cpu_s);
        if let Some(bytes) = self.memory {
            out.metric(MEMORY);
            out.count(&[], bytes, None);
        }
        out.metric(STARTED);
        out.sample(&[], self.started_s);
        if let Some(reload) = self.reload {
            out.metric(RELOADED);
            out.sample(&[], f64::from(u8::from(reload.successful)));
            out.metric(RELOADED_AT);
            out.sample(&[], reload.success_s);
        }
        if let Some(pods) = &self.pods {
            out.metric(PODS_READ);
            out.sample(&[], f64::from(u8::from(pods.is_well)));
            out.metric(PODS_READ_AT);
            out.sample(&[], pods.read_s);
        }
        out.metric(CONNECTIONS);
        out.count(&[], self.connections, None);
        out.metric(REFUSED);
        out.count(&[], self.refused, None);
        sent_on(out, &self.exported);
    }
}

fn sent_on(out: &mut dyn MetricSink, exported: &[Exported]) {
    if exported.is_empty() {
        return;
    }
    out.metric(OTLP_SENT);
    exported.iter().for_each(|of| out.count(&[("signal", of.signal)], of.sent, None));
    out.metric(OTLP_DROPPED);
    for Exported { signal, dropped, .. } in exported {
        for (reason, n) in dropped {
            out.count(&[("signal", signal), ("reason", reason)], *n, None);
        }
    }
    out.metric(OTLP_QUEUED);
    exported.iter().for_each(|of| out.count(&[("signal", of.signal)], of.queued, None));
}
