//! The cgroup file systems: from what users write and from what the kernel calls a cgroup, to a
//! path.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant},
};

use crate::formats::{cgroup::CgroupPattern, mounts};

/// One mounted hierarchy.
#[derive(Clone, Debug)]
struct Mount {
    /// `""` for v2; for v1 the controllers, or `name=…`.
    hierarchy: String,
    at: PathBuf,
}

/// The hierarchies mounted here, v2 first.
fn mounts() -> io::Result<Vec<Mount>> {
    let mut list: Vec<Mount> = Vec::new();
    for m in mounts::parse(&fs::read("/proc/self/mountinfo")?) {
        let hierarchy = match m.fs_type.as_str() {
            "cgroup2" => String::new(),
            "cgroup" => {
                let named = m.options.split(',').find(|option| option.starts_with("name="));
                match named {
                    Some(name) => name.to_owned(),
                    None => {
                        m.at.file_name()
                            .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
                    }
                }
            }
            _ => continue,
        };
        list.push(Mount { hierarchy, at: m.at });
    }
    list.sort_by_key(|m| !m.hierarchy.is_empty());
    Ok(list)
}

/// The cgroup that a user named: an absolute path, or one relative to a hierarchy's mount point,
/// as `/proc/PID/cgroup` and our own output have it.
///
/// # Errors
/// One line that says what was tried.
pub fn find(text: &str) -> Result<CgroupPattern, String> {
    if text.is_empty() {
        return Err("--cgroup: write a path, such as system.slice/app.service".to_owned());
    }
    let mounts = mounts().map_err(|e| format!("--cgroup {text}: /proc/self/mountinfo: {e}"))?;
    if mounts.is_empty() {
        return Err(format!("--cgroup {text}: no cgroup file system is mounted here"));
    }
    let absolute = Path::new(text);
    if let Ok(path) = absolute.canonicalize()
        && path.is_dir()
    {
        for mount in &mounts {
            if let Ok(below) = path.strip_prefix(&mount.at) {
                return Ok(pattern(mount, below));
            }
        }
    }
    let found = mounts.iter().find_map(|mount| Some(pattern(mount, &below(&mount.at, text)?)));
    found.ok_or_else(|| {
        let tried: Vec<String> = mounts.iter().map(|m| m.at.display().to_string()).collect();
        format!("--cgroup {text}: no such cgroup below {}", tried.join(", "))
    })
}

/// A directory below `root`, as the kernel writes its path: without `.`, `..` and doubled slashes.
fn below(root: &Path, text: &str) -> Option<PathBuf> {
    let path = root.join(text.trim_start_matches('/')).canonicalize().ok()?;
    path.strip_prefix(root).ok().filter(|_| path.is_dir()).map(Path::to_owned)
}

fn pattern(mount: &Mount, below: &Path) -> CgroupPattern {
    let controller = mount.hierarchy.split(',').next().unwrap_or_default();
    let below = below.to_string_lossy();
    CgroupPattern {
        hierarchy: controller.to_owned(),
        path: format!("/{}", below.trim_matches('/')),
    }
}

/// The id of a v2 cgroup that a user named, and how deep it is, the root being at 0; `None`: it is
/// gone, or of another hierarchy.
#[must_use]
pub fn id_and_level(cgroup: &CgroupPattern) -> Option<(u64, u32)> {
    if !cgroup.hierarchy.is_empty() {
        return None;
    }
    let root = mounts().ok()?.into_iter().find(|m| m.hierarchy.is_empty())?;
    let below = cgroup.path.trim_matches('/');
    let id = fs::metadata(root.at.join(below)).ok()?.ino();
    let level = below.split('/').filter(|name| !name.is_empty()).count();
    Some((id, u32::try_from(level).ok()?))
}

/// Paths of v2 cgroups by id. The id is the directory's inode number (kernfs).
#[derive(Debug, Default)]
pub struct CgroupIds {
    paths: HashMap<u64, Rc<str>>,
    walked: Option<Instant>,
}

/// An unknown id makes us walk the tree, at most this often.
const WALK_EVERY: Duration = Duration::from_secs(5);
/// Directories beyond this are not walked.
const WALK_LIMIT: usize = 100_000;

impl CgroupIds {
    /// The path of the cgroup with this id; `None` where it is gone or not to be seen from here.
    pub fn path(&mut self, id: u64) -> Option<Rc<str>> {
        if id == 0 {
            return None;
        }
        if !self.paths.contains_key(&id) && self.walked.is_none_or(|at| at.elapsed() >= WALK_EVERY)
        {
            self.walk();
        }
        self.paths.get(&id).cloned()
    }

    fn walk(&mut self) {
        self.walked = Some(Instant::now());
        self.paths.clear();
        let mounts = mounts().unwrap_or_default();
        let Some(root) = mounts.into_iter().find(|m| m.hierarchy.is_empty()) else { return };
        let mut todo = vec![root.at.clone()];
        while let Some(dir) = todo.pop() {
            if self.paths.len() >= WALK_LIMIT {
                return;
            }
            if let Ok(meta) = fs::metadata(&dir) {
                let below = dir.strip_prefix(&root.at).unwrap_or(&dir).to_string_lossy();
                self.paths.insert(meta.ino(), format!("/{below}").into());
            }
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            todo.extend(
                entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_named_as_the_kernel_does() {
        let folder = tempfile::tempdir().expect("a directory");
        let root = folder.path().canonicalize().expect("a path");
        fs::create_dir_all(root.join("a.slice/b.service")).expect("a directory");
        fs::write(root.join("a.slice/file"), "").expect("a file");
        let of = |text| below(&root, text).map(|path| path.to_string_lossy().into_owned());
        for text in ["a.slice/b.service", "/a.slice//b.service/", "./a.slice/../a.slice/b.service"]
        {
            assert_eq!(of(text).as_deref(), Some("a.slice/b.service"), "{text}");
        }
        assert_eq!(of("/").as_deref(), Some(""), "the root");
        for text in ["../..", "a.slice/file", "b.slice"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
