//! The words of a query.

use std::str::FromStr;

use axum::{
    extract::{Query, rejection::QueryRejection},
    http::StatusCode,
};
use tcptrace_common::state::TcpState;

use super::{
    answer::{Chosen, SocketPlace},
    site::Wrong,
};
use crate::engine::{parse::States, verdict::Verdict};

/// The words of a query, in order.
pub type Words = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The words, in order.
pub fn read(words: Words) -> Result<Vec<(String, String)>, Wrong> {
    words
        .map(|Query(words)| words)
        .map_err(|_| Wrong::new(StatusCode::BAD_REQUEST, "the query is not name=value&..."))
}

/// What of a query chooses sockets. Lists are separated by commas; further values are added.
pub fn choose(chosen: &mut Chosen, name: &str, value: &str, others: &str) -> Result<(), Wrong> {
    let wrong = |problem: String| Wrong::asked(name, value, problem);
    match name {
        // None named: any that is watched.
        "state" if value.eq_ignore_ascii_case("all") => chosen.states.clear(),
        "state" => {
            let States(states) = value.parse().map_err(wrong)?;
            let all = TcpState::ALL.into_iter();
            chosen.states.extend(all.filter(|state| states & state.bit() != 0));
        }
        "verdict" => {
            for word in value.split(',') {
                chosen.verdicts.push(word.parse::<Verdict>().map_err(wrong)?);
            }
        }
        "leaks" => match value {
            "true" | "1" | "" => chosen.leaks = true,
            "false" | "0" => chosen.leaks = false,
            _ => return Err(wrong("write true or false".to_owned())),
        },
        "workload" => chosen.workload = Some(value.to_owned()),
        "pid" => chosen.pid = Some(one(name, value, "write a pid")?),
        "cookie" => chosen.cookie = Some(one(name, value, "write a socket's cookie")?),
        _ => {
            return Err(Wrong::asked(
                name,
                value,
                format!(
                    "no such word; there are state, verdict, leaks, workload, pid, cookie, {others}"
                ),
            ));
        }
    }
    Ok(())
}

/// A value of a type.
pub fn one<T: FromStr>(name: &str, value: &str, problem: &str) -> Result<T, Wrong> {
    value.parse().map_err(|_| Wrong::asked(name, value, problem))
}

/// `latest-cookie`, as a page says where it ends.
pub fn after(value: &str) -> Option<SocketPlace> {
    let (latest, cookie) = value.split_once('-')?;
    Some((latest.parse().ok()?, cookie.parse().ok()?))
}
