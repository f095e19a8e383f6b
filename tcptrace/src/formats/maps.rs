//! What is mapped into a process: `/proc/PID/maps` (proc_pid_maps(5)).

/// Something mapped that may be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address behind its last.
    pub end: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// The file's device: major and minor number.
    pub device: (u32, u32),
    /// The file's inode number; 0: no file.
    pub inode: u64,
    /// The file, as the process sees it, or what the kernel calls it (`[vdso]`); empty: neither.
    /// May hold anything.
    pub path: String,
    /// The file has been removed, or another one is in its place.
    pub deleted: bool,
}

impl Mapping {
    /// Whether it is mapped from a file that is in a file system.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.inode != 0 && self.path.starts_with('/') && !self.path.starts_with("/memfd:")
            // What MAP_SHARED without a file is.
            && !(self.path == "/dev/zero" && self.deleted)
    }

    /// Whether it is the kernel's code that is in every process (vdso(7)).
    #[must_use]
    pub fn is_vdso(&self) -> bool {
        self.path == "[vdso]"
    }

    /// Where in the file an address of it is.
    #[must_use]
    pub fn in_file(&self, address: u64) -> u64 {
        address.saturating_sub(self.start).saturating_add(self.offset)
    }
}

/// The executable mappings, in the order of their addresses, `most` of them at most.
#[must_use]
pub fn parse(maps: &str, most: usize) -> Vec<Mapping> {
    maps.lines().filter_map(line).take(most).collect()
}

fn line(line: &str) -> Option<Mapping> {
    let mut fields = line.splitn(6, ' ');
    let (start, end) = fields.next()?.split_once('-')?;
    let permissions = fields.next()?;
    if permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let offset = hex(fields.next()?)?;
    let (major, minor) = fields.next()?.split_once(':')?;
    let number = |text| u32::from_str_radix(text, 16).ok();
    let device = (number(major)?, number(minor)?);
    let inode = fields.next()?.parse().ok()?;
    let path = unescaped(fields.next().unwrap_or_default().trim_start_matches(' '));
    let stripped = path.strip_suffix(" (deleted)").map(str::to_owned);
    let (start, end, deleted) = (hex(start)?, hex(end)?, stripped.is_some());
    (start < end).then(|| Mapping {
        start,
        end,
        offset,
        device,
        inode,
        path: stripped.unwrap_or(path),
        deleted,
    })
}

/// The kernel writes a newline as `\012`, and nothing else so (`seq_file_path` in fs/seq_file.c).
fn unescaped(path: &str) -> String {
    path.replace("\\012", "\n")
}

/// The mapping that an address is in.
#[must_use]
pub fn find(mappings: &[Mapping], address: u64) -> Option<&Mapping> {
    let behind = mappings.partition_point(|m| m.start <= address);
    mappings[..behind].last().filter(|m| address < m.end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAPS: &str = "\
55d0c0a00000-55d0c0a28000 r--p 00000000 fe:01 1835 /usr/bin/dash
55d0c0a28000-55d0c0b00000 r-xp 00028000 fe:01 1835 /usr/bin/dash
7f0000000000-7f0000001000 r-xp 00000000 00:00 0 
7f1000000000-7f1000001000 r-xp 00001000 103:02 77                        /opt/a b/lib\\012x.so (deleted)
7f2000000000-7f2000001000 rwxp 00000000 00:01 9 /memfd:jit (deleted)
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                          [vdso]
";

    #[test]
    fn what_may_be_run() {
        let list = parse(MAPS, 100);
        assert_eq!(list.len(), 5);
        assert_eq!(
            list[0],
            Mapping {
                start: 0x55d0_c0a2_8000,
                end: 0x55d0_c0b0_0000,
                offset: 0x28000,
                device: (0xfe, 1),
                inode: 1835,
                path: "/usr/bin/dash".into(),
                deleted: false
            }
        );
        assert_eq!((&*list[2].path, list[2].deleted), ("/opt/a b/lib\nx.so", true));
        assert_eq!(list[2].device, (0x103, 2));
        let files: Vec<bool> = list.iter().map(Mapping::is_file).collect();
        assert_eq!(files, [true, false, true, false, false]);
        assert_eq!(find(&list, 0x55d0_c0a2_8000), Some(&list[0]));
        assert_eq!(find(&list, 0x55d0_c0b0_0000), None);
        assert_eq!(find(&list, 0x7ffd_0000_0fff).map(|m| &*m.path), Some("[vdso]"));
        assert_eq!(parse(MAPS, 2).len(), 2);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([0-9a-f]{0,17}-[0-9a-f]{0,17} r.xp [0-9a-f]{1,3} [0-9a-f:]{0,5} [0-9]{0,3} ?\\PC*\n){0,4}") {
            let list = parse(&text, 3);
            prop_assert!(list.iter().all(|m| m.start < m.end));
            let _ = find(&list, 0x1000);
        }
    }
}
