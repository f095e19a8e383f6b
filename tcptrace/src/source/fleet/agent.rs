//! An agent's `/api/v1/groups`.

use std::collections::BTreeMap;

use hyper::Uri;
use serde::Deserialize;

use super::http::{Client, below};
use crate::engine::fleet::LeakingHost;

#[derive(Deserialize)]
struct Answer {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    count: u64,
    leaks: u64,
    oldest_ms: Age,
    by_verdict: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
struct Age {
    min: f64,
}

/// Who leaks there, as the agent says.
///
/// # Errors
/// Why it does not say.
pub async fn leaking(client: &Client, agent: &Uri) -> Result<Vec<LeakingHost>, String> {
    let uri = below(agent, "api/v1/groups?by=holder&leaks=true")?;
    let body = client.get(&uri).await?;
    read(&body, agent.authority().map_or("", |authority| authority.as_str()))
}

/// What an answer says of a host.
///
/// # Errors
/// It is no such answer.
pub fn read(body: &[u8], host: &str) -> Result<Vec<LeakingHost>, String> {
    let answer: Answer =
        serde_json::from_slice(body).map_err(|e| format!("no answer of a tcptrace agent: {e}"))?;
    let leaking = answer.groups.into_iter().map(|group| LeakingHost {
        host: host.to_owned(),
        who: group.name,
        leaks: group.leaks,
        stuck: Some(group.count),
        per_hour: None,
        oldest_ns: nanoseconds(group.oldest_ms.min / 1_000.0),
        by_verdict: group.by_verdict,
    });
    Ok(leaking.collect())
}

/// Seconds that somebody else says; `None`: no time at all.
pub(super) fn nanoseconds(seconds: f64) -> Option<u64> {
    std::time::Duration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|d| u64::try_from(d.as_nanos()).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_an_agent_says() {
        let body = br#"{"time":"x","scanned":true,"more":0,"groups":[{"event":"group","time":"x",
            "by":"holder","key":"java[7]","name":"java shop.jar[7]","count":5,"leaks":4,"oldest_ms":{"min":1500.0,"max":null},
            "by_verdict":{"unread-fin":4}}]}"#;
        let list = read(body, "web7:9095").expect("an answer");
        let by_verdict = [("unread-fin".to_owned(), 4)].into();
        let expected = LeakingHost {
            host: "web7:9095".to_owned(),
            who: "java shop.jar[7]".to_owned(),
            leaks: 4,
            stuck: Some(5),
            per_hour: None,
            oldest_ns: Some(1_500_000_000),
            by_verdict,
        };
        assert_eq!(list, [expected]);
        assert!(read(b"<html>", "x").is_err_and(|e| e.contains("no answer of a tcptrace agent")));
        assert_eq!(
            (nanoseconds(-1.0), nanoseconds(f64::NAN), nanoseconds(1e30)),
            (None, None, None)
        );
    }

    proptest! {
        #[test]
        fn whatever_it_says(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&body, "x");
        }
    }
}
