//! What `/proc/PID/stat` says of a process, and `/proc/PID/task/TID/stat` of a thread
//! (proc_pid_stat(5)).

use std::rc::Rc;

/// A process or thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its name; may hold anything.
    pub comm: Rc<str>,
    /// Its state: R, S, D, T, t, Z, X, I, P.
    pub state: char,
    /// Its parent process; 0 where that is not in our pid namespace.
    pub ppid: u32,
    /// When it started, in clock ticks of the boot clock.
    pub start_ticks: u64,
}

impl Stat {
    /// Parses the file's text. The name is in parentheses and may hold some itself.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let (_, comm) = before.split_once('(')?;
        let mut fields = after.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let ppid = fields.next()?.parse().ok()?;
        // Of all fields the 22nd; the parent is the 4th.
        let start_ticks = fields.nth(17)?.parse().ok()?;
        Some(Self { comm: comm.into(), state, ppid, start_ticks })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const REST: &str =
        "1 4711 4711 0 -1 4194304 1 0 0 0 3 2 0 0 20 0 1 0 123456 2977792 232 18446744073709551615";

    #[test]
    fn names_may_hold_parentheses() {
        for comm in ["java", "a) R (b", "(", ")", "", "tmux: server"] {
            let stat = Stat::parse(&format!("4711 ({comm}) D {REST}\n"));
            assert_eq!(
                stat,
                Some(Stat { comm: comm.into(), state: 'D', ppid: 1, start_ticks: 123_456 }),
                "{comm}"
            );
        }
    }

    #[test]
    fn what_makes_no_sense() {
        for text in
            ["", "(", ")", "4711 (java)", ")(", "(x) ", "4711 (java) S 1 4711", "4711 (java) S x y"]
        {
            assert_eq!(Stat::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[0-9]*[() ]{0,4}\\PC*\\)( [A-Z])?[ 0-9-]*") {
            let _ = Stat::parse(&text);
        }
    }
}
