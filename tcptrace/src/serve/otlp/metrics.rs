//! The metrics of `/metrics` as OTLP has them: the same families, from the same place. A collector
//! that translates their names for Prometheus arrives at those that `/metrics` has.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Exemplar as OtlpExemplar, Gauge, Histogram, HistogramDataPoint,
        Metric as OtlpMetric, NumberDataPoint, ScopeMetrics, Sum, exemplar, metric::Data,
        number_data_point::Value,
    },
};
use prost::Message;

use super::attributes::{item, number};
use crate::{
    engine::{accounts::Accounts, record::BootNs, watch::Watch},
    view::{
        Clock,
        metrics::{
            around::Around,
            exposition::{Exemplar, Labels, Metric, MetricKind, MetricSink, shown},
            write,
        },
    },
};

/// Names of the agent's own that the conventions have names for, and whether those only grow.
const CONVENTIONS: [(&str, &str, bool); 2] = [
    ("process_cpu_seconds", "process.cpu.time", true),
    ("process_resident_memory_bytes", "process.memory.usage", false),
];
/// This the kernel has counted since before the agent was there.
const BEFORE: &str = "tcptrace_listen_overflows";

/// All metrics, as they stand in a request, as of `now`.
#[must_use]
pub fn encoded(
    watch: &Watch,
    accounts: &Accounts,
    clock: &Clock,
    now: BootNs,
    around: &Around,
) -> Vec<u8> {
    let mut sink = OtlpMetrics::new(clock.unix_ns(now), nanoseconds(around.started_s));
    write(watch, accounts, clock, now, around, &mut sink);
    let mut out = Vec::new();
    sink.finish().iter().for_each(|metric| item(&mut out, metric));
    out
}

/// Data points in what [`encoded`] made.
#[must_use]
pub fn points(items: &[u8]) -> u64 {
    let metrics = ScopeMetrics::decode(items).unwrap_or_default().metrics;
    let of = |metric: &OtlpMetric| match &metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points.len(),
        Some(Data::Sum(sum)) => sum.data_points.len(),
        Some(Data::Histogram(histogram)) => histogram.data_points.len(),
        _ => 0,
    };
    metrics.iter().map(of).sum::<usize>() as u64
}

/// Metrics as they are made.
struct OtlpMetrics {
    /// Now, ns since 1970.
    now: u64,
    /// When the agent began to count, the same.
    start: u64,
    done: Vec<OtlpMetric>,
    kind: MetricKind,
    start_of_this: u64,
}

impl OtlpMetrics {
    fn new(now: u64, start: u64) -> Self {
        Self { now, start, done: Vec::new(), kind: MetricKind::Gauge, start_of_this: 0 }
    }

    /// Those that have data points.
    fn finish(mut self) -> Vec<OtlpMetric> {
        self.done.retain(|metric| match &metric.data {
            Some(Data::Gauge(gauge)) => !gauge.data_points.is_empty(),
            Some(Data::Sum(sum)) => !sum.data_points.is_empty(),
            Some(Data::Histogram(histogram)) => !histogram.data_points.is_empty(),
            _ => false,
        });
        self.done
    }

    fn point(&mut self, labels: Labels<'_>, value: Value, exemplar: Option<Exemplar>) {
        let point = NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.start_of_this,
            time_unix_nano: self.now,
            exemplars: exemplar.map(of_socket).into_iter().collect(),
            value: Some(value),
            ..NumberDataPoint::default()
        };
        match self.done.last_mut().and_then(|metric| metric.data.as_mut()) {
            Some(Data::Gauge(gauge)) => gauge.data_points.push(point),
            Some(Data::Sum(sum)) => sum.data_points.push(point),
            _ => {}
        }
    }
}

impl MetricSink for OtlpMetrics {
    fn metric(&mut self, metric: Metric) {
        let aggregation_temporality = AggregationTemporality::Cumulative.into();
        let sum = |is_monotonic| {
            Data::Sum(Sum { is_monotonic, aggregation_temporality, ..Sum::default() })
        };
        let convention = CONVENTIONS.iter().find(|(name, ..)| *name == metric.name);
        let data = match (metric.kind, convention) {
            (_, Some((_, _, only_grows))) => sum(*only_grows),
            (MetricKind::Counter, _) => sum(true),
            (MetricKind::Gauge | MetricKind::Info, _) => Data::Gauge(Gauge::default()),
            (MetricKind::Histogram, _) => {
                Data::Histogram(Histogram { aggregation_temporality, ..Histogram::default() })
            }
        };
        self.kind = metric.kind;
        let is_gauge = matches!(data, Data::Gauge(_));
        self.start_of_this = if is_gauge || metric.name == BEFORE { 0 } else { self.start };
        self.done.push(OtlpMetric {
            name: convention.map_or_else(|| name(metric), |(_, name, _)| (*name).to_owned()),
            description: metric.help.to_owned(),
            unit: unit(metric).to_owned(),
            data: Some(data),
            ..OtlpMetric::default()
        });
    }

    fn sample(&mut self, labels: Labels<'_>, value: f64) {
        self.point(labels, Value::AsDouble(value), None);
    }

    fn count(&mut self, labels: Labels<'_>, count: u64, exemplar: Option<Exemplar>) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.point(labels, Value::AsInt(count), exemplar);
    }

    fn histogram(&mut self, labels: Labels<'_>, buckets: &[(f64, u64)], count: u64) {
        let below = buckets.iter().fold(0u64, |sum, (_, n)| sum.saturating_add(*n));
        let beyond = count.saturating_sub(below);
        let point = HistogramDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.start_of_this,
            time_unix_nano: self.now,
            count: below.saturating_add(beyond),
            // How long all of them were together nobody counts.
            sum: None,
            bucket_counts: buckets.iter().map(|(_, n)| *n).chain([beyond]).collect(),
            explicit_bounds: buckets.iter().map(|(le, _)| *le).collect(),
            ..HistogramDataPoint::default()
        };
        if let Some(Data::Histogram(histogram)) =
            self.done.last_mut().and_then(|metric| metric.data.as_mut())
        {
            histogram.data_points.push(point);
        }
    }
}

/// `tcptrace_oldest_seconds`: `tcptrace.oldest`, whose unit Prometheus's translation appends, as it
/// does `_total` to what only grows.
fn name(metric: Metric) -> String {
    let plain = metric.name.strip_suffix(metric.unit).unwrap_or(metric.name);
    let plain = plain.trim_end_matches('_').replacen('_', ".", 1);
    if metric.kind == MetricKind::Info { plain + "_info" } else { plain }
}

/// By the Unified Code for Units of Measure.
fn unit(metric: Metric) -> &'static str {
    match metric.unit {
        "seconds" => "s",
        "bytes" => "By",
        _ => "",
    }
}

/// Labels as they are: dashboards and rules go by their names.
fn attributes(labels: Labels<'_>) -> Vec<KeyValue> {
    let one = |(key, value): &(&str, &str)| {
        let value = value.chars().map(shown).collect();
        let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value)) });
        KeyValue { key: (*key).to_owned(), value, ..KeyValue::default() }
    };
    labels.iter().map(one).collect()
}

fn of_socket(of: Exemplar) -> OtlpExemplar {
    OtlpExemplar {
        filtered_attributes: vec![number("tcptrace.cookie", of.cookie)],
        time_unix_nano: nanoseconds(of.at),
        value: Some(exemplar::Value::AsInt(1)),
        ..OtlpExemplar::default()
    }
}

/// ns of s since 1970; 0 where that is no such time.
fn nanoseconds(s: f64) -> u64 {
    let since = std::time::Duration::try_from_secs_f64(s).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        engine::watch::Plan,
        view::metrics::{around::Exported, exposition::Exposition, metrics},
    };

    /// As https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/ has
    /// it.
    fn translated(metric: &OtlpMetric) -> String {
        let unit = match &*metric.unit {
            "s" => "_seconds",
            "By" => "_bytes",
            _ => "",
        };
        let total = match &metric.data {
            Some(Data::Sum(sum)) if sum.is_monotonic => "_total",
            _ => "",
        };
        format!("{}{unit}{total}", metric.name.replace('.', "_"))
    }

    /// Each family of `/metrics` is there, by the name that Prometheus would give it.
    #[test]
    fn prometheus_has_the_same_names_and_numbers() {
        let (watch, accounts) = (Watch::new(Plan::default()), Accounts::new(5));
        let clock = Clock::new(jiff::Timestamp::UNIX_EPOCH, 0, true);
        let around = Around {
            memory: Some(5),
            overflows: Some(7),
            started_s: 1_764_000_000.5,
            exported: vec![Exported {
                signal: "logs",
                sent: 3,
                dropped: vec![("refused", 1)],
                queued: 2,
            }],
            ..Around::default()
        };
        let items = encoded(&watch, &accounts, &clock, 9, &around);
        let list = ScopeMetrics::decode(&items[..]).expect("a message").metrics;
        let named: BTreeMap<String, &OtlpMetric> =
            list.iter().map(|metric| (translated(metric), metric)).collect();
        let text = metrics(&watch, &accounts, &clock, 9, &around, Exposition::Text);
        let mut samples = 0;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let other = match name {
                "process_cpu_seconds_total" => "process_cpu_time_seconds_total",
                "process_resident_memory_bytes" => "process_memory_usage_bytes",
                name => name,
            };
            let metric = named.get(other).unwrap_or_else(|| panic!("{line}: {:?}", named.keys()));
            let value = line.rsplit(' ').next().and_then(|n| n.parse::<f64>().ok());
            let points = match &metric.data {
                Some(Data::Sum(sum)) => &sum.data_points,
                Some(Data::Gauge(gauge)) => &gauge.data_points,
                other => panic!("{other:?}"),
            };
            let is = |point: &NumberDataPoint| match point.value {
                Some(Value::AsInt(n)) => Some(n as f64) == value,
                Some(Value::AsDouble(n)) => Some(n) == value,
                None => false,
            };
            assert!(points.iter().any(is), "{line}: {points:?}");
            samples += 1;
        }
        assert_eq!(points(&items), samples);
        let start = |name: &str| match &named[name].data {
            Some(Data::Sum(sum)) => sum.data_points[0].start_time_unix_nano,
            Some(Data::Gauge(gauge)) => gauge.data_points[0].start_time_unix_nano,
            other => panic!("{other:?}"),
        };
        assert_eq!(start("tcptrace_otlp_sent_total"), 1_764_000_000_500_000_000);
        assert_eq!(
            (start("tcptrace_listen_overflows_total"), start("tcptrace_otlp_queued")),
            (0, 0)
        );
        assert!(named.contains_key("tcptrace_build_info"));
    }

    #[test]
    fn a_histogram_has_what_is_beyond_its_last_bound() {
        let mut sink = OtlpMetrics::new(20, 10);
        let kind = MetricKind::Histogram;
        sink.metric(Metric { name: "tcptrace_state_seconds", kind, unit: "seconds", help: "" });
        sink.histogram(&[("state", "CLOSE_WAIT\u{1b}")], &[(0.001, 4), (0.004, 1)], 6);
        let [metric] = &sink.finish()[..] else { panic!("one") };
        assert_eq!((&*metric.name, &*metric.unit), ("tcptrace.state", "s"));
        let Some(Data::Histogram(histogram)) = &metric.data else { panic!("{metric:?}") };
        let point = &histogram.data_points[0];
        assert_eq!((&point.bucket_counts[..], point.count), (&[4, 1, 1][..], 6));
        assert_eq!(point.explicit_bounds, [0.001, 0.004]);
        assert_eq!((point.sum, point.start_time_unix_nano, point.time_unix_nano), (None, 10, 20));
        let shown = point.attributes[0].value.clone().and_then(|value| value.value);
        let expected = any_value::Value::StringValue("CLOSE_WAIT\u{fffd}".to_owned());
        assert_eq!(shown, Some(expected));
    }
}
