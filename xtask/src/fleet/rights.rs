//! What an agent in a container may do: tried by `fleet containers`, and the same wherever it is
//! written down.

/// The capabilities. docs/containers.md says what each is for.
pub const CAPABILITIES: [&str; 5] =
    ["BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "SYS_ADMIN"];

#[cfg(test)]
mod tests {
    use std::fs;

    use super::CAPABILITIES;
    use crate::cargo::root;

    #[test]
    fn what_is_handed_out_asks_for_what_is_tried() {
        let list = CAPABILITIES.join(", ");
        for (file, key) in [
            ("deploy/kubernetes/daemonset.yaml", "add"),
            ("deploy/helm/tcptrace/templates/daemonset.yaml", "add"),
            ("deploy/compose/compose.yaml", "cap_add"),
        ] {
            let text = fs::read_to_string(root().join(file)).expect(file);
            let line = format!("{key}: [{list}]");
            let asked = text.lines().filter(|l| l.trim_start().starts_with(&format!("{key}:")));
            assert_eq!(asked.map(str::trim).collect::<Vec<_>>(), [line], "{file}");
            assert!(!text.contains("privileged: true"), "{file}");
        }
        let page = fs::read_to_string(root().join("docs/containers.md")).expect("the page");
        let command: Vec<String> =
            CAPABILITIES.iter().map(|name| format!("--cap-add {name}")).collect();
        assert!(page.contains(&command.join(" ")), "docs/containers.md: {}", command.join(" "));
        let ctr: Vec<String> = CAPABILITIES.iter().map(|name| format!("CAP_{name}")).collect();
        for name in ctr {
            assert!(page.contains(&name), "docs/containers.md: {name}");
        }
    }
}
