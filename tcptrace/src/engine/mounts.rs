//! Mounts: what `/proc/self/mountinfo` says (proc_pid_mountinfo(5)). Whoever may mount something chooses
//! its path, which is bytes and not text.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// Where a process's mounts are listed.
pub const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What of the file system is mounted: a path in it; for namespaces `net:[4026531840]`.
    pub root: String,
    /// Where.
    pub at: PathBuf,
    /// The file system's type.
    pub fs_type: String,
    /// The file system's own options, separated by commas.
    pub options: String,
}

/// Parses the file. A line that makes no sense is left out, and takes no other with it.
#[must_use]
pub fn parse(text: &[u8]) -> Vec<Mount> {
    text.split(|b| *b == b'\n').filter_map(mount).collect()
}

/// ID, parent, device, root, mount point, options, any number of optional fields, `-`, type, source,
/// options of the file system.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let root = fields.nth(3)?;
    let at = fields.next()?;
    let fs_type = fields.by_ref().skip_while(|f| *f != b"-").nth(1)?;
    let options = fields.nth(1)?;
    let text = |field| String::from_utf8_lossy(field).into_owned();
    let at = PathBuf::from(OsString::from_vec(unescaped(at)));
    Some(Mount { root: text(root), at, fs_type: text(fs_type), options: text(options) })
}

/// Space, tab, line end and backslash are written as `\040`, `\011`, `\012` and `\134`.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *byte == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use proptest::prelude::*;

    use super::*;

    const CGROUPS: &str = "31 22 0:27 / /sys/fs/cgroup rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw,nsdelegate";

    #[test]
    fn a_line() {
        let mounts = parse(CGROUPS.as_bytes());
        let expected = Mount {
            root: "/".to_owned(),
            at: PathBuf::from("/sys/fs/cgroup"),
            fs_type: "cgroup2".to_owned(),
            options: "rw,nsdelegate".to_owned(),
        };
        assert_eq!(mounts, [expected]);
        let bare = parse(b"40 22 0:4 net:[4026532281] /run/netns/blue rw - nsfs nsfs rw\n");
        assert_eq!((bare[0].root.as_str(), bare[0].fs_type.as_str()), ("net:[4026532281]", "nsfs"));
    }

    /// As anyone may mount who has FUSE.
    #[test]
    fn a_path_that_is_no_text_hides_no_other() {
        let text =
            [b"60 22 0:50 / /mnt/\xff\\040\\012\\134x rw - fuse.x x rw\nnonsense\n", CGROUPS.as_bytes()].concat();
        let mounts = parse(&text);
        let paths: Vec<&OsStr> = mounts.iter().map(|m| m.at.as_os_str()).collect();
        assert_eq!(paths, [OsStr::from_bytes(b"/mnt/\xff \n\\x"), OsStr::new("/sys/fs/cgroup")]);
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200), line in "[0-9 /\\\\-]{0,80}") {
            let _ = parse(&text);
            let _ = parse(line.as_bytes());
        }
    }
}
