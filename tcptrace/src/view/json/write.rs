//! Pieces of a line that is put together by hand: a third of the library's time.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
};

use serde::Serialize;

use super::Escaping;
use crate::engine::record::Age;

pub fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

pub fn number(out: &mut Vec<u8>, mut n: u64) {
    if n < 10 {
        out.push(b'0' + n as u8);
        return;
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

pub fn end(out: &mut Vec<u8>, end: SocketAddr) {
    match end.ip() {
        IpAddr::V4(v4) => {
            for (n, byte) in v4.octets().into_iter().enumerate() {
                if n > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(byte));
            }
            out.push(b':');
            number(out, u64::from(end.port()));
        }
        IpAddr::V6(_) => {
            // Writing to memory does not fail.
            let _ = write!(out, "{end}");
        }
    }
}

pub fn age(out: &mut Vec<u8>, age: &Age) {
    text(out, "{\"min\":");
    ms(out, age.min_ns);
    text(out, ",\"max\":");
    match age.max_ns {
        Some(max) => ms(out, max),
        None => text(out, "null"),
    }
    out.push(b'}');
}

/// ns as ms to the microsecond, as the library writes a float: `1500.0`, `0.017`.
pub fn ms(out: &mut Vec<u8>, ns: u64) {
    let us = ns / 1_000;
    number(out, us / 1_000);
    let fraction = us % 1_000;
    let digits = [fraction / 100, fraction / 10 % 10, fraction % 10].map(|d| b'0' + d as u8);
    let used = digits.iter().rposition(|d| *d != b'0').map_or(1, |last| last + 1);
    out.push(b'.');
    out.extend_from_slice(&digits[..used]);
}

/// Appends text that others chose, in quotes, escaped as in all that the library writes.
pub fn string(out: &mut Vec<u8>, s: &str) {
    if s.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\') {
        out.push(b'"');
        text(out, s);
        out.push(b'"');
    } else {
        // Writing to memory does not fail.
        let _ = s.serialize(&mut serde_json::Serializer::with_formatter(out, Escaping));
    }
}

/// Appends a value, or null where there is none.
pub fn maybe<T>(out: &mut Vec<u8>, value: Option<T>, write: impl FnOnce(&mut Vec<u8>, T)) {
    match value {
        Some(value) => write(out, value),
        None => text(out, "null"),
    }
}

/// Appends a name or a sentence of our own, in quotes: nothing in it needs escaping.
pub fn word(out: &mut Vec<u8>, word: &str) {
    out.push(b'"');
    text(out, word);
    out.push(b'"');
}

pub fn flag(out: &mut Vec<u8>, flag: bool) {
    text(out, if flag { "true" } else { "false" });
}
