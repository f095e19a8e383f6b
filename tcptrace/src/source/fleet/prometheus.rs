//! Prometheus's query API (<https://prometheus.io/docs/prometheus/latest/querying/api/>).

use std::collections::BTreeMap;

use hyper::{Uri, body::Bytes};
use serde::Deserialize;

use super::{
    agent::nanoseconds,
    http::{Client, below, escaped},
};
use crate::engine::fleet::{Fleet, LeakingHost};

/// What is asked: leaks, what they gain in an hour, how old the oldest is, and who does not answer.
const LEAKS: &str = "tcptrace_leaks";
const PER_HOUR: &str = "deriv(tcptrace_leaks[15m]) * 3600";
const OLDEST: &str = "max by (instance, workload) (tcptrace_oldest_seconds)";
const UP: &str = "up{job=\"tcptrace\"}";

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Sample>,
}

#[derive(Deserialize)]
struct Sample {
    metric: BTreeMap<String, String>,
    /// When, s since 1970; what.
    value: (f64, String),
}

impl Sample {
    fn label(&self, name: &str) -> String {
        self.metric.get(name).cloned().unwrap_or_default()
    }

    fn key(&self) -> (String, String) {
        (self.label("instance"), self.label("workload"))
    }

    fn number(&self) -> Option<f64> {
        self.value.1.parse().ok().filter(|n: &f64| n.is_finite())
    }
}

/// Who leaks on all hosts that it scrapes.
///
/// # Errors
/// Why it does not say.
pub async fn fleet(client: &Client, prometheus: &Uri) -> Result<Fleet, String> {
    let ask = |text| query(client, prometheus, text);
    let (leaks, growth, oldest, up) =
        tokio::try_join!(ask(LEAKS), ask(PER_HOUR), ask(OLDEST), ask(UP))?;
    read([&leaks, &growth, &oldest, &up])
}

/// What its answers say: to who leaks, how fast that grows, how old the oldest is, who answers.
///
/// # Errors
/// One of them is no answer.
pub fn read(bodies: [&[u8]; 4]) -> Result<Fleet, String> {
    let [leaks, growth, oldest, up] = bodies.map(samples);
    Ok(told(&leaks?, &growth?, &oldest?, &up?))
}

fn told(leaks: &[Sample], growth: &[Sample], oldest: &[Sample], up: &[Sample]) -> Fleet {
    let by_key = |list: &[Sample]| -> BTreeMap<(String, String), f64> {
        list.iter().filter_map(|one| Some((one.key(), one.number()?))).collect()
    };
    let (growth, oldest) = (by_key(growth), by_key(oldest));
    let leaking = leaks.iter().filter_map(|one| {
        let key = one.key();
        Some(LeakingHost {
            leaks: whole(one.number()?),
            stuck: None,
            per_hour: growth.get(&key).copied(),
            oldest_ns: oldest.get(&key).and_then(|seconds| nanoseconds(*seconds)),
            by_verdict: BTreeMap::new(),
            host: key.0,
            who: key.1,
        })
    });
    let is_up = |one: &&Sample| one.number() == Some(1.0);
    let silent = up.iter().filter(|one| !is_up(one));
    let silent = silent.map(|one| (one.label("instance"), "Prometheus can't scrape it".to_owned()));
    Fleet {
        leaking: leaking.collect(),
        hosts: up.iter().filter(is_up).count() as u64,
        silent: silent.collect(),
        ..Fleet::default()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` cuts to what a u64 holds"
)]
fn whole(n: f64) -> u64 {
    n.round() as u64
}

async fn query(client: &Client, prometheus: &Uri, text: &str) -> Result<Bytes, String> {
    let uri = below(prometheus, &format!("api/v1/query?query={}", escaped(text)))?;
    client.get(&uri).await
}

fn samples(body: &[u8]) -> Result<Vec<Sample>, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|e| format!("no answer of Prometheus: {e}"))?;
    Ok(answer.data.result)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn made(list: &[(&str, &str, &str)]) -> Vec<Sample> {
        let one = |(instance, workload, value): &(&str, &str, &str)| {
            format!(
                "{{\"metric\":{{\"instance\":\"{instance}\",\"workload\":\"{workload}\"}},\
                 \"value\":[1764000000.1,\"{value}\"]}}"
            )
        };
        let list: Vec<String> = list.iter().map(one).collect();
        let body = format!(
            "{{\"status\":\"success\",\"data\":{{\"resultType\":\"vector\",\"result\":[{}]}}}}",
            list.join(",")
        );
        samples(body.as_bytes()).expect("an answer")
    }

    #[test]
    fn what_prometheus_says() {
        let fleet = told(
            &made(&[("a", "x", "40"), ("b", "y", "3"), ("b", "z", "NaN")]),
            &made(&[("a", "x", "12.5"), ("b", "y", "NaN")]),
            &made(&[("a", "x", "61"), ("b", "y", "-1")]),
            &made(&[("a", "", "1"), ("b", "", "1"), ("c", "", "0")]),
        );
        let [a, b] = &fleet.leaking[..] else { panic!("{fleet:?}") };
        assert_eq!((a.leaks, a.per_hour, a.oldest_ns), (40, Some(12.5), Some(61_000_000_000)));
        assert_eq!((b.leaks, b.per_hour, b.oldest_ns), (3, None, None));
        assert_eq!((fleet.hosts, fleet.silent[0].0.as_str()), (2, "c"));
    }

    proptest! {
        #[test]
        fn whatever_it_says(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read([&body; 4]);
        }
    }
}
