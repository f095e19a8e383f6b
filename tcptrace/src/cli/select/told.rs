//! What was selected, in the words of who typed it.

use super::Args;
use crate::view::{table::cut, text::safe};

/// Values of one kind beyond these are counted.
const SHOWN: usize = 3;
/// Longer values are cut, in columns.
const LONGEST: usize = 40;

impl Args {
    /// ` of pid 4711, local port 8080`; empty where all sockets are selected. It is bounded, and
    /// nothing in it steers a terminal.
    pub fn told(&self) -> String {
        let text = |list: &[String]| list.iter().map(|v| v.as_str().into()).collect::<Vec<_>>();
        let children = if self.children { " and its descendants" } else { "" };
        let kinds = [
            ("pid", shown(&self.pid), children),
            ("command", text(&self.comm), ""),
            ("cgroup", text(&self.cgroup), ""),
            ("container", text(&self.container), ""),
            ("netns", text(&self.netns), ""),
            ("local end", shown(&self.local), ""),
            ("remote end", shown(&self.remote), ""),
            ("local port", shown(&self.lport), ""),
            ("remote port", shown(&self.rport), ""),
            ("family", self.family.iter().map(|f| format!("IPv{f}")).collect(), ""),
            ("verdict", self.verdict.iter().map(|v| v.name().to_owned()).collect(), ""),
        ];
        let given = kinds.into_iter().filter(|(_, values, _)| !values.is_empty());
        let told: Vec<String> =
            given.map(|(kind, values, more)| format!("{kind} {}{more}", either(&values))).collect();
        if told.is_empty() { String::new() } else { format!(" of {}", told.join(", ")) }
    }
}

fn shown(values: &[impl ToString]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// `4711`, `1 or 2`, `1 or 2 or 3 or one of 5 more`.
fn either(values: &[String]) -> String {
    let mut told: Vec<String> =
        values.iter().take(SHOWN).map(|value| cut(&safe(value), LONGEST)).collect();
    match values.len().saturating_sub(SHOWN) {
        0 => {}
        more => told.push(format!("one of {more} more")),
    }
    told.join(" or ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        select: Args,
    }

    fn told(args: &[&str]) -> String {
        let line = Line::try_parse_from([&["tcptrace"], args].concat()).expect("arguments");
        line.select.told()
    }

    #[test]
    fn what_was_typed_and_no_more() {
        assert_eq!(told(&[]), "");
        assert_eq!(told(&["--pid", "4711", "--lport", "8080"]), " of pid 4711, local port 8080");
        assert_eq!(
            told(&["--pid", "1,2", "--children", "--rport", "1,2,3,4,5"]),
            " of pid 1 or 2 and its descendants, remote port 1 or 2 or 3 or one of 2 more"
        );
        assert_eq!(
            told(&["--netns", "web", "--remote", "10.0.0.0/8", "--family", "4"]),
            " of netns web, remote end 10.0.0.0/8, family IPv4"
        );
        assert_eq!(told(&["--verdict", "ghost-fd"]), " of verdict ghost-fd");
        let long = told(&["--cgroup", &"x".repeat(9_999), "--comm", "a\x1b[2J"]);
        assert!(long.len() < 200 && !long.contains('\x1b'), "{long}");
    }
}
