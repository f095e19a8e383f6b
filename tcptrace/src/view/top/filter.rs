//! Which sockets have in them what was typed.

use std::{
    fmt::Write,
    net::{IpAddr, SocketAddr},
};

use super::rows::container;
use crate::engine::{record::Record, verdict::Verdict};

/// What is searched for: in each piece as it is shown, capital letters or not.
#[derive(Clone, Debug)]
pub struct Filter {
    wanted: String,
    /// It may be part of an end.
    in_ends: bool,
    text: String,
}

impl Filter {
    /// Of what was typed.
    #[must_use]
    pub fn new(typed: &str) -> Self {
        let wanted = typed.trim().to_lowercase();
        let in_ends = wanted.chars().all(|c| c.is_ascii_hexdigit() || ".:[]".contains(c));
        Self { wanted, in_ends, text: String::new() }
    }

    /// Whether holder, container, ends, state or verdict of the socket have it in them.
    pub fn lets_through(&mut self, record: &Record) -> bool {
        if self.wanted.is_empty() {
            return true;
        }
        let Self { wanted, in_ends, text } = self;
        text.clear();
        for holder in &record.holders {
            if holder.name.is_some() {
                text.push_str(&holder.comm);
                text.push('\n');
            }
            text.push_str(holder.called());
            text.push('[');
            number(holder.process.pid, text);
            text.push_str("]\n");
        }
        for word in [
            record.state.name(),
            record.verdict.map_or("-", Verdict::name),
            container(record).unwrap_or_default(),
        ] {
            text.push_str(word);
            text.push('\n');
        }
        if *in_ends {
            end(&record.connection.local, text);
            end(&record.connection.remote, text);
        }
        if text.is_ascii() {
            text.make_ascii_lowercase();
            text.contains(&**wanted)
        } else {
            text.to_lowercase().contains(&**wanted)
        }
    }
}

/// As `Display` has it, which takes several times as long: all sockets are looked through at each
/// letter.
fn end(end: &SocketAddr, to: &mut String) {
    match end.ip() {
        IpAddr::V4(ip) => {
            for (n, octet) in ip.octets().into_iter().enumerate() {
                if n > 0 {
                    to.push('.');
                }
                number(octet.into(), to);
            }
        }
        // Writing to a string does not fail.
        IpAddr::V6(ip) => drop(write!(to, "[{ip}]")),
    }
    to.push(':');
    number(end.port().into(), to);
    to.push('\n');
}

fn number(n: u32, to: &mut String) {
    let mut digits = [0; 10];
    let (mut left, mut first) = (n, digits.len());
    loop {
        first -= 1;
        digits[first] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    to.extend(digits[first..].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ends_are_as_they_are_shown(v4: [u8; 4], port: u16) {
            let shown = SocketAddr::from((v4, port));
            let mut text = String::new();
            end(&shown, &mut text);
            prop_assert_eq!(text, format!("{shown}\n"));
        }
    }

    #[test]
    fn other_ends_too() {
        let mut text = String::new();
        end(&"[2001:db8::7]:443".parse().expect("an end"), &mut text);
        number(u32::MAX, &mut text);
        assert_eq!(text, "[2001:db8::7]:443\n4294967295");
    }
}
