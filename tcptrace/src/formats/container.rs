//! The container behind a cgroup path. Runtimes agree on no layout, so this goes by the names they
//! give their cgroups; where a name could be several runtimes' work, none is named.

use std::rc::Rc;

/// What a cgroup path says of the container in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// 64 hexadecimal digits; for LXC and systemd-nspawn the name that its user gave it.
    pub id: Rc<str>,
    /// Who made it, where the path tells.
    pub runtime: Option<Runtime>,
    /// Uid of the Kubernetes pod that it belongs to, with dashes. A static pod's has none: it is a
    /// hash of the manifest.
    pub pod: Option<Rc<str>>,
}

impl Container {
    /// Of a digest, fewer digits would name too many.
    pub const SHORTEST: usize = 3;

    /// Whether this is what users call it: a digest by its first digits, as runtimes print and take
    /// it; a name in full, since one may begin another.
    #[must_use]
    pub fn is_called(&self, text: &str) -> bool {
        match self.runtime {
            Some(Runtime::Lxc | Runtime::Nspawn) => *self.id == *text,
            _ => text.len() >= Self::SHORTEST && self.id.starts_with(text),
        }
    }
}

/// What makes containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// Docker, on its own or under Kubernetes with cri-dockerd.
    Docker,
    /// containerd, through its CRI plugin or nerdctl.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman, or another user of libpod.
    Podman,
    /// LXC, also under LXD, Incus and Proxmox.
    Lxc,
    /// systemd-nspawn.
    Nspawn,
}

impl Runtime {
    /// As its own documentation spells it, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
            Self::Nspawn => "systemd-nspawn",
        }
    }
}

/// The container in whose cgroup a path ends, the innermost where they are nested.
#[must_use]
pub fn container(path: &str) -> Option<Container> {
    let components: Vec<&str> = path.split('/').filter(|c| !c.is_empty()).collect();
    (0..components.len()).rev().find_map(|at| {
        let before = &components[..at];
        let (id, runtime) = named_by_digest(components[at], before.last().copied())
            .map(|(id, runtime)| (id.to_owned(), runtime))
            .or_else(|| named_by_user(&components[..=at], &components[at + 1..]))?;
        // `….slice:cri-containerd:ID` is one component that holds both.
        let pod = components[..=at].iter().rev().find_map(|c| pod(c));
        Some(Container { id: id.into(), runtime, pod: pod.map(Rc::from) })
    })
}

/// A container whose cgroup bears its digest: bare below a parent of the runtime's or user's
/// choice, or after a runtime's prefix.
fn named_by_digest<'a>(
    component: &'a str,
    parent: Option<&str>,
) -> Option<(&'a str, Option<Runtime>)> {
    let component = component.strip_suffix(".scope").unwrap_or(component);
    let (before, id) = match component.rfind(['-', ':']) {
        Some(at) => (&component[..at], &component[at + 1..]),
        None => ("", component),
    };
    // Fargate's: the task's digest, a dash, and a number.
    if parent == Some(before)
        && is_hex(before, 32)
        && !id.is_empty()
        && id.bytes().all(|b| b.is_ascii_digit())
    {
        return Some((component, None));
    }
    if !is_hex(id, 64) {
        return None;
    }
    let runtime = match before.rsplit(':').next().unwrap_or_default() {
        // A pod's own cgroup (podman with the cgroupfs driver), in which only its monitor runs.
        "" if parent == Some("libpod_parent") => return None,
        "" if parent == Some("docker") => Some(Runtime::Docker),
        "docker" => Some(Runtime::Docker),
        "cri-containerd" | "nerdctl" => Some(Runtime::Containerd),
        "crio" => Some(Runtime::CriO),
        "libpod" | "libpod-payload" => Some(Runtime::Podman),
        // crio-conmon-ID, libpod-conmon-ID: the monitor stands outside what it watches.
        prefix if prefix.ends_with("conmon") => return None,
        _ => None,
    };
    Some((id, runtime))
}

/// A container whose cgroup bears the name its user gave it. `path` ends with the component in
/// question, `below` follows.
fn named_by_user(path: &[&str], below: &[&str]) -> Option<(String, Option<Runtime>)> {
    let (component, before) = path.split_last()?;
    let lxc = match before.last() {
        Some(&"lxc" | &"lxc.payload") => Some(*component),
        _ => component.strip_prefix("lxc.payload."),
    };
    if let Some(name) = lxc.filter(|n| !n.is_empty()) {
        return Some((name.to_owned(), Some(Runtime::Lxc)));
    }
    // Beside `payload` runs systemd-nspawn itself, in `supervisor`. Virtual machines and
    // libvirt's containers have scopes of the same name, but not this below them.
    if below.first() != Some(&"payload") {
        return None;
    }
    let scope = component.strip_prefix("machine-").and_then(|n| n.strip_suffix(".scope"));
    let service =
        || component.strip_prefix("systemd-nspawn@").and_then(|n| n.strip_suffix(".service"));
    let name = scope.or_else(service).filter(|n| !n.is_empty())?;
    // systemd.unit(5): a dash within a name is escaped. Machine names hold nothing else that is.
    Some((name.replace("\\x2d", "-"), Some(Runtime::Nspawn)))
}

/// The pod uid in `podUID`, `kubepods-pod….slice`, `kubelet-kubepods-burstable-pod….slice`; systemd
/// takes dashes for levels, so the kubelet writes underscores there.
fn pod(component: &str) -> Option<String> {
    let slice = component.split_once(".slice").map_or(component, |(slice, _)| slice);
    let uid = match slice.rsplit_once("-pod") {
        Some((kubepods, uid)) if kubepods.split('-').any(|part| part == "kubepods") => uid,
        Some(_) => return None,
        None => slice.strip_prefix("pod")?,
    };
    Some(uid.replace('_', "-")).filter(|uid| is_pod_uid(uid))
}

/// A UUID; of a static pod a digest.
pub(super) fn is_pod_uid(uid: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let uuid = uid.split('-').count() == groups.len()
        && uid.split('-').zip(groups).all(|(g, n)| is_hex(g, n));
    uuid || is_hex(uid, 32)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4f797c539e6c745de61a93ca3ff892358ecbcaccd8414d5db545c38428142970";
    const OTHER: &str = "9ec39b91f3d70e1beff50a308f77067065ea6be0d91a3378375056cd4422cf3d";
    const UID: &str = "0c8d1f5e-6a0b-4f57-9d5e-2b1c0e9a7f43";
    const STATIC: &str = "6a1d3ab0d9b5ab1bb21fbdbae4a4e7f2";

    /// ID, OTHER, UID, STATIC stand for themselves, `UI_D` for UID with underscores.
    fn fill(text: &str) -> String {
        text.replace("UI_D", &UID.replace('-', "_"))
            .replace("UID", UID)
            .replace("STATIC", STATIC)
            .replace("OTHER", OTHER)
            .replace("ID", ID)
    }

    fn check(path: &str, expected: Option<(&str, &str, &str)>) {
        let found = container(&fill(path));
        let told = found.as_ref().map(|c| {
            (
                c.id.to_string(),
                c.runtime.map_or("", Runtime::name),
                c.pod.as_deref().unwrap_or_default().to_owned(),
            )
        });
        assert_eq!(
            told,
            expected.map(|(id, runtime, pod)| (fill(id), runtime, fill(pod))),
            "{path}"
        );
    }

    #[test]
    fn containers_of_each_runtime_and_driver() {
        for (path, runtime) in [
            ("/docker/ID", "docker"),
            ("/system.slice/docker.service/docker/ID", "docker"),
            ("/system.slice/docker-ID.scope", "docker"),
            ("/user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope", "docker"),
            ("/ecstasks.slice/ecstasks-STATIC.slice/docker-ID.scope", "docker"),
            ("/system.slice:docker:ID", "docker"),
            ("/system.slice/nerdctl-ID.scope", "containerd"),
            ("/machine.slice/libpod-ID.scope", "podman"),
            ("/machine.slice/libpod-ID.scope/container", "podman"),
            ("/machine.slice/machine-libpod_pod_OTHER.slice/libpod-ID.scope/container", "podman"),
            ("/libpod_parent/libpod-ID", "podman"),
            ("/libpod_parent/OTHER/libpod-ID", "podman"),
            (
                "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/\
                 container",
                "podman",
            ),
            ("/system.slice/web.service/libpod-payload-ID", "podman"),
            ("/ecs/STATIC/ID", ""),
            ("/ecs/UID/ID", ""),
            ("/actions_job/ID", ""),
            ("/ID", ""),
            ("/../ID", ""),
        ] {
            check(path, Some(("ID", runtime, "")));
        }
        check("/ecs/STATIC/STATIC-3456789012", Some(("STATIC-3456789012", "", "")));
    }

    #[test]
    fn containers_of_pods() {
        for (path, runtime) in [
            ("/kubepods/podUID/ID", ""),
            ("/kubepods/besteffort/podUID/ID", ""),
            ("/kubepods/burstable/podUID/crio-ID", "cri-o"),
            ("/kubepods.slice/kubepods-podUI_D.slice/cri-containerd-ID.scope", "containerd"),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUI_D.slice/\
                 cri-containerd-ID.scope",
                "containerd",
            ),
            (
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podUI_D.slice/\
                 docker-ID.scope",
                "docker",
            ),
            (
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podUI_D.slice/\
                 crio-ID.scope",
                "cri-o",
            ),
            ("/kubepods.slice/kubepods-podUI_D.slice/crio-ID.scope/container", "cri-o"),
            ("/kubepods.slice/kubepods-podUI_D.slice:cri-containerd:ID", "containerd"),
            (
                "/system.slice/containerd.service/kubepods-burstable-podUI_D.slice:cri-containerd:\
                 ID",
                "containerd",
            ),
            ("/../../kubepods-besteffort-podUI_D.slice/cri-containerd-ID.scope", "containerd"),
        ] {
            check(path, Some(("ID", runtime, "UID")));
        }
        check(
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podSTATIC.slice/crio-ID.\
             scope",
            Some(("ID", "cri-o", "STATIC")),
        );
        check("/kubepods/burstable/podSTATIC/ID", Some(("ID", "", "STATIC")));
        check("/kubepods/burstable/pod0c8d/ID", Some(("ID", "", "")));
        check("/my-podSTATIC/ID", Some(("ID", "", "")));
    }

    #[test]
    fn the_innermost_of_nested_ones() {
        for (path, runtime, pod) in [
            ("/docker/OTHER/docker/ID", "docker", ""),
            ("/docker/OTHER/system.slice/docker-ID.scope", "docker", ""),
            ("/docker/OTHER/kubelet/kubepods/besteffort/podUID/ID", "", "UID"),
            (
                "/system.slice/docker-OTHER.scope/kubelet.slice/kubelet-kubepods.slice/\
                 kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-podUI_D.slice/\
                 cri-containerd-ID.scope",
                "containerd",
                "UID",
            ),
            ("/kubepods/burstable/podUID/OTHER/docker/ID", "docker", "UID"),
            ("/lxc.payload.web/docker/ID", "docker", ""),
            ("/lxc/101/ns/docker/ID", "docker", ""),
            ("/docker/ID/init.scope", "docker", ""),
            ("/docker/ID/system.slice/nginx.service", "docker", ""),
            ("/docker/ID/kubelet/kubepods/podUID", "docker", ""),
            ("/docker/ID/libpod_parent/libpod-conmon-OTHER.scope", "docker", ""),
        ] {
            check(path, Some(("ID", runtime, pod)));
        }
    }

    #[test]
    fn containers_with_names() {
        for (path, id, runtime) in [
            ("/lxc/web", "web", "lxc"),
            ("/lxc/101/ns/init.scope", "101", "lxc"),
            ("/lxc.payload/web", "web", "lxc"),
            ("/lxc.payload.web/system.slice/nginx.service", "web", "lxc"),
            ("/machine.slice/machine-web.scope/payload/init.scope", "web", "systemd-nspawn"),
            (
                "/machine.slice/systemd-nspawn@my\\x2dweb.service/payload",
                "my-web",
                "systemd-nspawn",
            ),
        ] {
            check(path, Some((id, runtime, "")));
        }
    }

    #[test]
    fn what_is_no_container() {
        for path in [
            "/",
            "",
            "/system.slice/ssh.service",
            "/user.slice/user-1000.slice/session-2.scope",
            "/docker/4f1c",
            "/docker",
            "/kubepods/burstable/podUID",
            "/kubepods.slice/kubepods-podUI_D.slice/crio-conmon-ID.scope",
            "/kubepods/burstable/podUID/crio-conmon-ID",
            "/machine.slice/libpod-conmon-ID.scope",
            "/libpod_parent/conmon",
            "/libpod_parent/OTHER/conmon",
            "/machine.slice/machine-libpod_pod_ID.slice/cgroup",
            "/system.slice/web.service/runtime",
            "/system.slice/containerd.service",
            "/lxc",
            "/lxc.monitor.web",
            "/lxc.monitor/101",
            "/machine.slice/systemd-nspawn@web.service/supervisor",
            "/machine.slice/machine-qemu\\x2d1\\x2dvm.scope/libvirt/emulator",
        ] {
            check(path, None);
        }
    }

    #[test]
    fn digests_by_their_beginning_and_names_in_full() {
        let called = |path: &str, text: &str| {
            container(&fill(path)).expect("a container").is_called(&fill(text))
        };
        for (text, is) in [("ID", true), ("4f797c539e6c", true), ("4f7", true), ("4f", false)] {
            assert_eq!(called("/docker/ID", text), is, "{text}");
        }
        assert!(!called("/docker/ID", "f797c539e6c7") && !called("/docker/ID", "ID0"));
        assert!(called("/ecs/STATIC/STATIC-12", "6a1d3ab0d9b5"), "a task's digest and a number");
        for path in [
            "/lxc.payload.web",
            "/lxc/web",
            "/machine.slice/machine-web.scope/payload",
            "/machine.slice/systemd-nspawn@web.service/payload/x",
        ] {
            let names = [("web", true), ("web2", false), ("we", false), ("", false)];
            for (text, is) in names {
                assert_eq!(called(path, text), is, "{path} {text}");
            }
        }
        assert!(called("/lxc/db", "db") && called("/lxc/x", "x"), "however short");
        assert!(!called("/lxc.payload.web2", "web"), "the name of another");
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(
            path in "(/?(\\PC{0,9}|pod|docker|lxc|lxc.payload.|libpod-|[0-9a-f]{32}|[0-9a-f]{64}|\\.scope|\\.slice|[-:_])){0,9}",
        ) {
            if let Some(found) = container(&path) {
                prop_assert!(!found.id.is_empty());
            }
        }

        #[test]
        fn what_is_around_a_container_does_not_change_it(
            around in "(/[a-z.]{1,8}\\.slice){0,3}",
            within in "(/[a-z]{1,8}\\.service){0,3}",
        ) {
            let found = container(&format!("{around}/docker-{ID}.scope{within}"));
            let found = found.map(|c| (c.id.to_string(), c.runtime));
            prop_assert_eq!(found, Some((ID.to_owned(), Some(Runtime::Docker))));
        }
    }
}
