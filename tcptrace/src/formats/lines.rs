//! Files of lines `NAME: VALUE`: `/proc/PID/status`, `/proc/PID/fdinfo/FD`, `/proc/net/sockstat`
//! (proc(5)). Names of processes are escaped there and can't begin a line.

use std::str::FromStr;

/// The value of the first line with this name, without the space around it.
#[must_use]
pub fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The same as a number; `None` also where it is none.
#[must_use]
pub fn number<T: FromStr>(text: &str, name: &str) -> Option<T> {
    value(text, name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_line_of_that_name() {
        let text = "Name:\tTracerPid:\\n7\nTracerPid:\t12\nTracerPidOf:\t1\nUid:\t5\t6\n";
        assert_eq!(number(text, "TracerPid"), Some(12));
        assert_eq!(value(text, "Uid"), Some("5\t6"));
        assert_eq!((number::<u32>(text, "Uid"), value(text, "Gid")), (None, None));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "((Pid:)?\\PC*\n)*") {
            let _ = number::<u32>(&text, "Pid");
        }
    }
}
