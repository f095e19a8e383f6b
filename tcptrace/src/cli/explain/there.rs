//! A page on what the agent of another host knows.

use std::{fmt, io, io::Write, str::FromStr};

use hyper::Uri;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Args;
use crate::{
    cli::{agents, attach, ended_by},
    engine::parse::Target,
    exit::{Exit, Failure},
    serve::routes::WIDTHS,
    source::fleet::http::{address, below},
    view::text::{safe, steers},
};

/// What a page is asked for, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asks {
    /// Of this host.
    Here(Target),
    /// Of an agent.
    There(There),
}

/// Of another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct There {
    agent: Uri,
    /// `pid=N` or `cookie=N`.
    subject: (&'static str, u64),
    /// As it was written.
    text: String,
}

impl FromStr for Asks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = match text.parse() {
            Ok(target) => return Ok(Self::Here(target)),
            Err(wrong) => wrong,
        };
        let there = there(text).ok_or_else(|| format!("{wrong}, or AGENT:PID as web2:4711"))?;
        let (agent, subject) = there;
        Ok(Self::There(There { agent, subject, text: text.to_owned() }))
    }
}

fn there(text: &str) -> Option<(Uri, (&'static str, u64))> {
    let (agent, number) = text.rsplit_once(':')?;
    let number: u64 = number.parse().ok().filter(|n| *n != 0)?;
    let (agent, subject) = match agent.strip_suffix(":cookie") {
        Some(agent) => (agent, ("cookie", number)),
        None => (agent, ("pid", u32::try_from(number).ok()?.into())),
    };
    // Those are words of their own.
    if matches!(agent, "" | "pid" | "cookie") || agent.contains([',', ' ', '<']) {
        return None;
    }
    Some((address(agent, agents::PORT).ok()?, subject))
}

impl fmt::Display for There {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The answer.
#[derive(Deserialize)]
struct Explained<'a> {
    #[serde(borrow)]
    explained: Vec<&'a RawValue>,
}

/// Asks, and shows what it answers.
pub fn run(args: &Args, there: &There) -> Result<Exit, Failure> {
    let here = [
        ("--netns", args.netns.is_some()),
        ("--no-bpf", args.no_bpf),
        ("--stacks", args.stacks),
        ("--btf", args.btf.is_given()),
    ];
    if let Some((flag, _)) = here.iter().find(|(_, given)| *given) {
        return Err(Failure::usage(format!(
            "explain {there} {flag}: an agent tells what it knows, and looks at nothing anew; run \
             sudo tcptrace explain on that host"
        )));
    }
    let client = args.access.client()?;
    let is_page = args.output.is_page();
    let (name, number) = there.subject;
    let width = args.output.width().clamp(*WIDTHS.start(), *WIDTHS.end());
    let format = if is_page { format!("text&width={width}") } else { "json".to_owned() };
    let path = format!("api/v1/explain?{name}={number}&format={format}");
    let failed =
        |why: String| Failure { exit: Exit::Failed, message: format!("explain {there}: {why}") };
    let uri = below(&there.agent, &path).map_err(failed)?;
    let body = attach::runtime()?.block_on(client.get(&uri)).map_err(failed)?;
    let text = told(&body, is_page).map_err(failed)?;
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_or_else(ended_by, |()| Ok(Exit::Done))
}

/// What an agent's answer comes to on the terminal: a page, or objects, a line each.
///
/// # Errors
/// It is no such answer.
pub fn told(body: &[u8], is_page: bool) -> Result<String, String> {
    let mut text = String::new();
    if is_page {
        for line in String::from_utf8_lossy(body).lines() {
            text.push_str(&safe(line));
            text.push('\n');
        }
    } else {
        let Explained { explained } = serde_json::from_slice(body)
            .map_err(|e| format!("no answer of a tcptrace agent: {e}"))?;
        for object in explained {
            object.get().chars().for_each(|c| push_json(&mut text, c));
            text.push('\n');
        }
    }
    Ok(text)
}

/// A character of JSON that somebody else wrote: what steers a terminal can stand in a string only,
/// and there as an escape, too; between the others it is only space.
fn push_json(text: &mut String, c: char) {
    match c {
        '\n' | '\r' | '\t' => text.push(' '),
        c if steers(c) => {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|u| text.push_str(&format!("\\u{u:04x}")));
        }
        c => text.push(c),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(text: &str) -> Option<(String, &'static str, u64)> {
        match text.parse() {
            Ok(Asks::There(There { agent, subject: (name, n), .. })) => {
                Some((agent.to_string(), name, n))
            }
            _ => None,
        }
    }

    #[test]
    fn of_whom() {
        for (text, agent, name, n) in [
            ("web2:4711", "http://web2:9095/", "pid", 4_711),
            ("web2:9099:4711", "http://web2:9099/", "pid", 4_711),
            ("[::1]:4711", "http://[::1]:9095/", "pid", 4_711),
            ("10.0.0.1:9095:4711", "http://10.0.0.1:9095/", "pid", 4_711),
            ("https://web2:9095:4711", "https://web2:9095/", "pid", 4_711),
            ("web2:cookie:99", "http://web2:9095/", "cookie", 99),
        ] {
            assert_eq!(asked(text), Some((agent.to_owned(), name, n)), "{text}");
        }
        for here in ["4711", "pid:4711", "cookie:7", "10.0.0.1:80,10.0.0.9:51514"] {
            assert!(matches!(here.parse(), Ok(Asks::Here(_))), "{here}");
        }
        for wrong in ["web2", "web2:", "web2:x", "web2:0", "pid:x", "cookie:0", ":4", "a b:4"] {
            let e = wrong.parse::<Asks>().expect_err("no target");
            assert!(e.contains("or AGENT:PID as web2:4711"), "{wrong}: {e}");
        }
    }

    proptest! {
        #[test]
        fn what_an_agent_says_steers_nothing(words in "\\PC{0,20}[\u{7f}-\u{9f}\u{202e}]?") {
            let json = serde_json::to_string(&words).expect("JSON");
            let mut text = String::new();
            json.chars().for_each(|c| push_json(&mut text, c));
            prop_assert!(!text.contains(steers));
            prop_assert_eq!(serde_json::from_str::<String>(&text).ok(), Some(words));
        }

        #[test]
        fn any_target_is_one_or_an_error(text in "\\PC{0,40}") {
            let _ = text.parse::<Asks>();
        }
    }
}
