//! Names of containers and of pods.

use tcptrace::formats::{container::container, pods::names};

/// A cgroup path, and names of directories.
pub fn pods(text: &str) {
    let _ = container(text);
    let lines: Vec<&str> = text.lines().collect();
    for (uid, pod) in &names(lines.iter().copied()) {
        let directory = format!("{}_{}_{uid}", pod.namespace, pod.name);
        assert!(lines.contains(&&*directory), "it was there: {directory}");
    }
}
