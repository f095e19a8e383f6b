//! What an agent and Prometheus answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{PROMETHEUS, TOKEN};

/// Status and body. In HTTP/1.0, so that the body ends with the connection.
pub(super) fn get(at: SocketAddr, path: &str) -> Result<(u16, String)> {
    let (status, body) = get_bytes(at, path)?;
    Ok((status, String::from_utf8(body)?))
}

/// The same of a body that may be anything.
pub(super) fn get_bytes(at: SocketAddr, path: &str) -> Result<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {at}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("an answer")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let status = head.split(' ').nth(1).and_then(|n| n.parse().ok()).context("a status")?;
    Ok((status, body))
}

/// What Prometheus answers to a query.
pub(super) fn query(text: &str) -> Result<Vec<Value>> {
    let plain = |b: u8| b.is_ascii_alphanumeric();
    let escaped: String = text
        .bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect();
    let (_, body) = get(PROMETHEUS.parse()?, &format!("/api/v1/query?query={escaped}"))?;
    let answer: Value = serde_json::from_str(&body)?;
    ensure!(answer["status"] == "success", "{text}: {answer}");
    Ok(answer["data"]["result"].as_array().cloned().unwrap_or_default())
}

pub(super) fn number(text: &str) -> Result<f64> {
    let list = query(text)?;
    let value = list.first().and_then(|one| one["value"][1].as_str()?.parse().ok());
    Ok(value.unwrap_or(f64::NAN))
}

pub(super) fn firing() -> Result<String> {
    Ok(format!("{:#?}", query("ALERTS or instance_workload:tcptrace_leaks:last5m")?))
}
