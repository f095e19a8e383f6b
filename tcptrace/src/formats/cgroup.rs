//! Cgroup paths: what `/proc/PID/cgroup` says (cgroups(7)), and the container behind one.

use crate::formats::container::{Container, container};

/// A process's cgroups, one per hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    lines: Vec<Line>,
    /// Worked out once: each record asks again.
    container: Option<Container>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    /// `""` for v2; for v1 the controllers, or `name=…`.
    hierarchy: String,
    path: String,
}

/// A cgroup that a user named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupPattern {
    /// `""` for v2; for v1 a controller of the hierarchy, or `name=…`.
    pub hierarchy: String,
    /// Path within the hierarchy, from `/`.
    pub path: String,
}

impl CgroupPattern {
    /// Whether `path` of the same hierarchy is this cgroup or a descendant.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        let root = self.path.trim_end_matches('/');
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Cgroups {
    /// Parses the file's text. Lines are `ID:CONTROLLERS:PATH`; a path may hold colons.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let line = |l: &str| {
            let mut parts = l.splitn(3, ':');
            let (_, hierarchy, path) = (parts.next()?, parts.next()?, parts.next()?);
            Some(Line { hierarchy: hierarchy.to_owned(), path: path.to_owned() })
        };
        // Not `lines`: a path may end with a carriage return.
        let lines: Vec<Line> = text.split('\n').filter_map(line).collect();
        let container = lines.iter().find_map(|l| container(&l.path));
        Self { lines, container }
    }

    /// Whether the process is in the cgroup or below it.
    #[must_use]
    pub fn matches(&self, pattern: &CgroupPattern) -> bool {
        self.lines.iter().any(|l| {
            let same = if pattern.hierarchy.is_empty() {
                l.hierarchy.is_empty()
            } else {
                l.hierarchy.split(',').any(|c| c == pattern.hierarchy)
            };
            same && pattern.covers(&l.path)
        })
    }

    /// The path to show: v2's, unless that is the root and a v1 hierarchy says more (hybrid and v1
    /// hosts).
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        let v2 = self.lines.iter().find(|l| l.hierarchy.is_empty());
        let telling = |l: &&Line| l.path != "/";
        let v1 = || {
            let named =
                self.lines.iter().filter(|l| l.hierarchy.starts_with("name=")).find(telling);
            named.or_else(|| self.lines.iter().find(telling))
        };
        v2.filter(telling).or_else(v1).or(v2).or(self.lines.first()).map(|l| l.path.as_str())
    }

    /// The container the process runs in.
    #[must_use]
    pub fn container(&self) -> Option<&Container> {
        self.container.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::container::Runtime;

    #[test]
    fn the_container_in_any_hierarchy() {
        const ID: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
        for text in [
            format!("0::/system.slice/docker-{ID}.scope\n"),
            format!("4:memory:/docker/{ID}\n1:name=systemd:/docker/{ID}/init.scope\n"),
            format!(
                "2:cpu,cpuacct:/docker/{ID}\n1:name=systemd:/docker/{ID}\n0::/system.slice/\
                 containerd.service\n"
            ),
            format!("2:cpu:/\n0::/docker/{ID}\n"),
        ] {
            let cgroups = Cgroups::parse(&text);
            let found = cgroups.container().map(|c| (&*c.id, c.runtime));
            assert_eq!(found, Some((ID, Some(Runtime::Docker))), "{text}");
        }
        assert_eq!(Cgroups::parse("1:name=systemd:/\n0::/init.scope\n").container(), None);
    }

    #[test]
    fn hosts_with_v1_v2_and_both() {
        let v2 = Cgroups::parse("0::/system.slice/app.service\n");
        let hybrid =
            Cgroups::parse("4:memory:/m/a:b\n3:cpu,cpuacct:/c\n1:name=systemd:/s/x\n0::/\n");
        let v1 = Cgroups::parse("4:memory:/m\n1:name=systemd:/\n");
        assert_eq!(v2.path(), Some("/system.slice/app.service"));
        assert_eq!(hybrid.path(), Some("/s/x"));
        assert_eq!(v1.path(), Some("/m"));
        assert_eq!(Cgroups::parse("").path(), None);
        assert_eq!(Cgroups::parse("0::/a\r\n").path(), Some("/a\r"));
        let pattern = |hierarchy: &str, path: &str| CgroupPattern {
            hierarchy: hierarchy.into(),
            path: path.into(),
        };
        assert!(v2.matches(&pattern("", "/system.slice")));
        assert!(v2.matches(&pattern("", "/")));
        assert!(!v2.matches(&pattern("", "/system.sl")), "whole components only");
        assert!(!v2.matches(&pattern("", "/system.slice/app.service/below")));
        assert!(hybrid.matches(&pattern("cpuacct", "/c")));
        assert!(hybrid.matches(&pattern("memory", "/m/a:b")));
        assert!(!hybrid.matches(&pattern("memory", "/c")));
        assert!(!v1.matches(&pattern("", "/m")), "a v2 path means nothing on v1");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*(\n[0-9]*:[a-z,=]*:/\\PC*)*") {
            let cgroups = Cgroups::parse(&text);
            let _ = (cgroups.path(), cgroups.container());
        }
    }
}
