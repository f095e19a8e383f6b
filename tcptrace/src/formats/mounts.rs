//! What is mounted where, from `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What of the file system is mounted: a path in it; `net:[INODE]` for a network namespace.
    pub root: PathBuf,
    /// Where.
    pub at: PathBuf,
    /// The file system's type.
    pub fs_type: String,
    /// The file system's options, separated by commas.
    pub options: String,
}

/// Parses the file. A line that makes no sense is left out: it does not hide the others.
#[must_use]
pub fn parse(bytes: &[u8]) -> Vec<Mount> {
    bytes.split(|b| *b == b'\n').filter_map(mount).collect()
}

/// Id, parent, device, root, mount point, options, any number of fields up to `-`, type, source,
/// options of the file system.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|b| *b == b' ');
    let (root, at) = (fields.nth(3)?, fields.next()?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let (fs_type, _source, options) = (fields.next()?, fields.next()?, fields.next()?);
    let path = |field| PathBuf::from(OsString::from_vec(unescaped(field)));
    let text = |field| String::from_utf8_lossy(field).into_owned();
    Some(Mount { root: path(root), at: path(at), fs_type: text(fs_type), options: text(options) })
}

/// Blanks, line ends and backslashes are written as `\` and three octal digits.
fn unescaped(mut field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    while let [first, rest @ ..] = field {
        let (byte, rest) = match rest {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', rest @ ..] if *first == b'\\' => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), rest)
            }
            _ => (*first, rest),
        };
        out.push(byte);
        field = rest;
    }
    out
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use proptest::prelude::*;

    use super::*;

    const V2: &str =
        "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup rw,nsdelegate";

    #[test]
    fn mounts_as_the_kernel_writes_them() {
        let text = format!(
            "{V2}\n40 24 0:4 net:[4026532281] /run/netns/blue rw shared:2 master:1 - nsfs nsfs \
             rw\n"
        );
        let [v2, netns] = &parse(text.as_bytes())[..] else { panic!("two mounts") };
        assert_eq!((v2.at.as_path(), v2.fs_type.as_str()), ("/sys/fs/cgroup".as_ref(), "cgroup2"));
        assert_eq!((v2.root.as_path(), v2.options.as_str()), ("/".as_ref(), "rw,nsdelegate"));
        assert_eq!(
            (netns.root.as_path(), netns.fs_type.as_str()),
            ("net:[4026532281]".as_ref(), "nsfs")
        );
    }

    #[test]
    fn names_with_blanks_and_without_a_source() {
        let [one] = &parse(br"1 2 0:1 /a\134b /mnt/my\040disk\012x rw - tmpfs  rw")[..] else {
            panic!("a mount")
        };
        assert_eq!(
            (one.root.as_path(), one.at.as_path()),
            ("/a\\b".as_ref(), "/mnt/my disk\nx".as_ref())
        );
        assert_eq!((one.fs_type.as_str(), one.options.as_str()), ("tmpfs", "rw"));
    }

    #[test]
    fn a_line_that_makes_no_sense_does_not_hide_the_others() {
        let text = [b"1 2 0:1 / /mnt/\xff\xfe rw - ext4 /dev/sda rw\n\nnonsense\n", V2.as_bytes()]
            .concat();
        let mounts = parse(&text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].at.as_os_str(), OsStr::from_bytes(b"/mnt/\xff\xfe"));
        assert_eq!(mounts[1].fs_type, "cgroup2");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), tail in "[\\\\0-7 a-]{0,40}") {
            let _ = parse(&bytes);
            prop_assert!(unescaped(tail.as_bytes()).len() <= tail.len());
            let _ = parse(format!("1 2 0:1 / {tail} rw - a b c").as_bytes());
        }
    }
}
