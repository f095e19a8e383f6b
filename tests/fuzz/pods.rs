//! Names of containers and of pods.

use tcptrace::formats::{container::container, pod_list::pod_list, pods::names};

/// A cgroup path, names of directories, and a list of pods in JSON.
pub fn pods(text: &str) {
    let _ = container(text);
    let lines: Vec<&str> = text.lines().collect();
    for (uid, pod) in &names(lines.iter().copied()) {
        let directory = format!("{}_{}_{uid}", pod.namespace, pod.name);
        assert!(lines.contains(&&*directory), "it was there: {directory}");
    }
    for pod in pod_list(text.as_bytes()).unwrap_or_default().values() {
        let owner = pod.owner.iter().flat_map(|owner| [&owner.kind, &owner.name]);
        for name in [&pod.namespace, &pod.name].into_iter().chain(owner) {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
            assert!((1..=253).contains(&name.len()) && name.bytes().all(plain), "{name}");
        }
    }
}
