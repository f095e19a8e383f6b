//! The two text formats that Prometheus reads: its own (text/plain, version 0.0.4) and OpenMetrics
//! 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>). By hand, because the library for
//! it (prometheus-client 0.24) writes label values as they are, quotes and line feeds included, has
//! no exemplars of one's own, no histogram without a sum, and only one of the two.

use std::fmt::Write;

use crate::view::text::steers;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus's own.
    Text,
    /// OpenMetrics.
    OpenMetrics,
}

impl Exposition {
    /// What the `Accept` header of a request prefers.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let open = |part: &str| part.trim_start().starts_with("application/openmetrics-text");
        if accept.split(',').any(open) { Self::OpenMetrics } else { Self::Text }
    }

    /// The `Content-Type` of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// It goes up and down.
    Gauge,
    /// It only grows.
    Counter,
    /// Counts by length.
    Histogram,
    /// Labels; the number is 1.
    Info,
}

/// A metric: its name without `_total` and `_info`, which the formats place differently.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, its unit at the end.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// `seconds`, `bytes`, or nothing.
    pub unit: &'static str,
    /// A sentence.
    pub help: &'static str,
}

/// A socket behind a counter's last step: its cookie, and when that was, s since 1970.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// The kernel's own number of the socket.
    pub cookie: u64,
    /// When.
    pub at: f64,
}

/// Labels and their values; values may hold anything.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

/// Where metrics go: the same ones, whatever the format.
pub trait MetricSink {
    /// Begins a metric: what follows are its samples.
    fn metric(&mut self, metric: Metric);

    /// A sample of it.
    fn sample(&mut self, labels: Labels<'_>, value: f64);

    /// One of a counter, and the socket behind its last step.
    fn count(&mut self, labels: Labels<'_>, count: u64, exemplar: Option<Exemplar>);

    /// A histogram's samples: `buckets` are counts of what is up to as many seconds and above the
    /// one before; what is longer is in `count` only. The sum of all lengths is not known, so there
    /// is none.
    fn histogram(&mut self, labels: Labels<'_>, buckets: &[(f64, u64)], count: u64);
}

/// Writes metrics as text.
#[derive(Debug)]
pub struct MetricWriter {
    out: String,
    format: Exposition,
    metric: Option<Metric>,
}

impl MetricWriter {
    /// Nothing yet.
    #[must_use]
    pub fn new(format: Exposition) -> Self {
        Self { out: String::with_capacity(16 << 10), format, metric: None }
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: Labels<'_>,
        le: Option<f64>,
        value: f64,
        exemplar: Option<Exemplar>,
    ) {
        let Some(Metric { name, kind, .. }) = self.metric else { return };
        let suffix = match kind {
            MetricKind::Counter => "_total",
            MetricKind::Info => "_info",
            MetricKind::Gauge | MetricKind::Histogram => suffix,
        };
        let out = &mut self.out;
        let _ = write!(out, "{name}{suffix}");
        let mut open = '{';
        for (label, value) in labels {
            let _ = write!(out, "{open}{label}=\"");
            escape(value, out);
            out.push('"');
            open = ',';
        }
        if let Some(le) = le {
            let _ = write!(out, "{open}le=\"{}\"", told(le));
            open = ',';
        }
        if open == ',' {
            out.push('}');
        }
        let _ = write!(out, " {}", told(value));
        if let Some(Exemplar { cookie, at }) = exemplar
            && self.format == Exposition::OpenMetrics
        {
            let _ = write!(out, " # {{cookie=\"{cookie}\"}} 1 {at:.3}");
        }
        out.push('\n');
    }

    /// All that was written.
    #[must_use]
    pub fn finish(mut self) -> String {
        if self.format == Exposition::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

impl MetricSink for MetricWriter {
    fn metric(&mut self, metric: Metric) {
        let Metric { name, kind, unit, help } = metric;
        let (suffix, kind) = match (self.format, kind) {
            (Exposition::Text, MetricKind::Counter) => ("_total", "counter"),
            (Exposition::Text, MetricKind::Info) => ("_info", "gauge"),
            (_, MetricKind::Counter) => ("", "counter"),
            (_, MetricKind::Info) => ("", "info"),
            (_, MetricKind::Gauge) => ("", "gauge"),
            (_, MetricKind::Histogram) => ("", "histogram"),
        };
        // Writing to a string does not fail.
        let _ = writeln!(self.out, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.out, "# TYPE {name}{suffix} {kind}");
        if self.format == Exposition::OpenMetrics && !unit.is_empty() {
            let _ = writeln!(self.out, "# UNIT {name} {unit}");
        }
        self.metric = Some(metric);
    }

    fn sample(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, None, value, None);
    }

    fn count(&mut self, labels: Labels<'_>, count: u64, exemplar: Option<Exemplar>) {
        self.line("", labels, None, number(count), exemplar);
    }

    fn histogram(&mut self, labels: Labels<'_>, buckets: &[(f64, u64)], count: u64) {
        let mut below = 0u64;
        for (le, n) in buckets {
            below = below.saturating_add(*n);
            self.line("_bucket", labels, Some(*le), number(below), None);
        }
        self.line("_bucket", labels, Some(f64::INFINITY), number(count), None);
        self.line("_count", labels, None, number(count), None);
    }
}

/// Both formats know three escapes; what is left of control characters would reach terminals.
fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(shown(c)),
        }
    }
}

/// A character of a label's value, as every format has it: one that steers a terminal is replaced.
#[must_use]
pub fn shown(c: char) -> char {
    if steers(c) { '\u{fffd}' } else { c }
}

fn told(value: f64) -> String {
    if value.is_infinite() {
        return if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    format!("{value}")
}

#[expect(clippy::cast_precision_loss, reason = "counts are exact below 2^53, as in Prometheus")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LEAKS: Metric = Metric {
        name: "x_stuck",
        kind: MetricKind::Counter,
        unit: "",
        help: "Sockets that got stuck.",
    };
    const LENGTH: Metric =
        Metric { name: "x_seconds", kind: MetricKind::Histogram, unit: "seconds", help: "Stays." };

    fn written(format: Exposition) -> String {
        let mut out = MetricWriter::new(format);
        out.metric(LEAKS);
        let exemplar = Exemplar { cookie: 77, at: 1_764_000_000.25 };
        out.count(&[("workload", "a\"b\\c\n\u{1b}[2J")], 3, Some(exemplar));
        out.metric(LENGTH);
        out.histogram(&[("state", "CLOSE_WAIT")], &[(0.001, 4), (0.004, 1)], 6);
        out.finish()
    }

    #[test]
    fn both_formats() {
        let text = written(Exposition::Text);
        assert_eq!(
            text,
            "# HELP x_stuck_total Sockets that got stuck.\n\
             # TYPE x_stuck_total counter\n\
             x_stuck_total{workload=\"a\\\"b\\\\c\\n\u{fffd}[2J\"} 3\n\
             # HELP x_seconds Stays.\n\
             # TYPE x_seconds histogram\n\
             x_seconds_bucket{state=\"CLOSE_WAIT\",le=\"0.001\"} 4\n\
             x_seconds_bucket{state=\"CLOSE_WAIT\",le=\"0.004\"} 5\n\
             x_seconds_bucket{state=\"CLOSE_WAIT\",le=\"+Inf\"} 6\n\
             x_seconds_count{state=\"CLOSE_WAIT\"} 6\n"
        );
        let open = written(Exposition::OpenMetrics);
        assert!(
            open.starts_with("# HELP x_stuck Sockets that got stuck.\n# TYPE x_stuck counter\n")
        );
        assert!(open.contains("\"} 3 # {cookie=\"77\"} 1 1764000000.250\n"), "{open}");
        assert!(open.contains("# UNIT x_seconds seconds\n") && open.ends_with("# EOF\n"), "{open}");
    }

    #[test]
    fn what_a_scraper_accepts() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.2";
        assert_eq!(Exposition::accepted(prometheus), Exposition::OpenMetrics);
        assert_eq!(Exposition::accepted("text/html, */*"), Exposition::Text);
        assert_eq!(Exposition::accepted(""), Exposition::Text);
    }

    proptest! {
        /// Whatever a value holds, it ends where it ends, and takes one line.
        #[test]
        fn a_value_stays_in_its_quotes(value in "\\PC*|[\"\\\\\n\r\u{1b}a]*") {
            let mut out = MetricWriter::new(Exposition::Text);
            out.metric(LEAKS);
            out.count(&[("workload", &value)], 1, None);
            let text = out.finish();
            let line = text.lines().last().unwrap_or_default();
            let inner = line.strip_prefix("x_stuck_total{workload=\"").expect("its beginning");
            let inner = inner.strip_suffix("\"} 1").expect("its end");
            let mut back = String::new();
            let mut chars = inner.chars();
            while let Some(c) = chars.next() {
                prop_assert_ne!(c, '"', "it would end there");
                back.push(match c {
                    '\\' => match chars.next() {
                        Some('n') => '\n',
                        Some(c @ ('\\' | '"')) => c,
                        other => return Err(TestCaseError::fail(format!("escape {other:?}"))),
                    },
                    c => c,
                });
            }
            let plain = |c: char| if crate::view::text::steers(c) && c != '\n' { '\u{fffd}' } else { c };
            prop_assert_eq!(back, value.chars().map(plain).collect::<String>());
        }
    }
}
