//! Cgroup paths: what `/proc/PID/cgroup` says (cgroups(7)), and the container behind one.

use std::rc::Rc;

/// A process's cgroups, one per hierarchy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups(Vec<Line>);

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
        Self(text.lines().filter_map(line).collect())
    }

    /// Whether the process is in the cgroup or below it.
    #[must_use]
    pub fn matches(&self, pattern: &CgroupPattern) -> bool {
        self.0.iter().any(|l| {
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
    pub fn path(&self) -> Option<Rc<str>> {
        let v2 = self.0.iter().find(|l| l.hierarchy.is_empty());
        let telling = |l: &&Line| l.path != "/";
        let v1 = || {
            let named = self.0.iter().filter(|l| l.hierarchy.starts_with("name=")).find(telling);
            named.or_else(|| self.0.iter().find(telling))
        };
        v2.filter(telling).or_else(v1).or(v2).or(self.0.first()).map(|l| l.path.as_str().into())
    }

    /// The id of the container the process runs in.
    #[must_use]
    pub fn container(&self) -> Option<Rc<str>> {
        self.0.iter().find_map(|l| container_id(&l.path)).map(Rc::from)
    }
}

/// The container id in a cgroup path: the last component with 64 hexadecimal digits, bare
/// (`/docker/ID`, `/kubepods/…/ID`) or between a runtime's prefix and `.scope`
/// (`docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`).
#[must_use]
pub fn container_id(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|component| {
        let component = component.strip_suffix(".scope").unwrap_or(component);
        let id = component.rsplit(['-', ':']).next()?;
        (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4f1c5a7e0b9d4f1c5a7e0b9d4f1c5a7e0b9d4f1c5a7e0b9d4f1c5a7e0b9d0123";

    #[test]
    fn containers_of_each_runtime_and_driver() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods/besteffort/pod0c8d/{ID}"),
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope/container"),
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
            format!("/docker/{ID}/init.scope"),
        ] {
            assert_eq!(container_id(&path), Some(ID), "{path}");
        }
        for path in ["/", "/system.slice/ssh.service", "/user.slice/user-1000.slice/session-2.scope", "/docker/4f1c"] {
            assert_eq!(container_id(path), None, "{path}");
        }
    }

    #[test]
    fn hosts_with_v1_v2_and_both() {
        let v2 = Cgroups::parse("0::/system.slice/app.service\n");
        let hybrid = Cgroups::parse("4:memory:/m/a:b\n3:cpu,cpuacct:/c\n1:name=systemd:/s/x\n0::/\n");
        let v1 = Cgroups::parse("4:memory:/m\n1:name=systemd:/\n");
        assert_eq!(v2.path().as_deref(), Some("/system.slice/app.service"));
        assert_eq!(hybrid.path().as_deref(), Some("/s/x"));
        assert_eq!(v1.path().as_deref(), Some("/m"));
        assert_eq!(Cgroups::parse("").path(), None);
        let pattern = |hierarchy: &str, path: &str| CgroupPattern { hierarchy: hierarchy.into(), path: path.into() };
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
