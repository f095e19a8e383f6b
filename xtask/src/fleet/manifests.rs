//! What deploy/ has for Kubernetes, Helm and Compose, the units, and the list of what is in the
//! binary: rendered, held against published schemas, and against one another in their rights.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Directory, rights::CAPABILITIES, say, seccomp};
use crate::{
    cargo::{check, root},
    dist, setup,
};

/// From PyPI: Helm's own engine as a library, Kubernetes's schemas, Compose's, CycloneDX's.
const TOOLS: [&str; 5] = [
    "helm-python-sdk==0.2.2",
    "kubernetes-validate==1.37.0",
    "check-jsonschema==0.39.0",
    "podman-compose==1.6.0",
    "cyclonedx-python-lib[json-validation]==11.12.0",
];
/// Kubernetes's versions.
const VERSIONS: [&str; 4] = ["1.25", "1.29", "1.33", "1.37"];
const SCRIPT: &str = include_str!("manifests.py");
/// What systemd-analyze gives the units is to stay below this, in tenths.
const EXPOSURE: &str = "20";

/// All of it.
pub fn run() -> Result<()> {
    setup::packages(&[
        ("python3", "python3", "python3"),
        ("promtool", "prometheus", "golang-github-prometheus"),
        ("systemd-analyze", "systemd", "systemd"),
    ])?;
    let mut skipped = Vec::new();
    seccomp::check()?;
    let dir = Directory::new()?;
    let tools = Tools::new(&dir)?;
    let kustomized = kustomize(&dir, &mut skipped)?;
    let charts = helm(&dir, &tools, &mut skipped)?;
    let all: Vec<PathBuf> = kustomized.iter().chain(&charts).cloned().collect();
    for version in VERSIONS {
        let files = all.iter().map(|path| path.display().to_string());
        tools.python(&["validate", version], files)?;
    }
    say(&format!("{} files fit the schemas of Kubernetes {}", all.len(), VERSIONS.join(", ")));
    kubeconform(&all, &mut skipped)?;
    // Of each the first ones, in this order.
    let names = [PodNames::None, PodNames::Directory, PodNames::Kubelet];
    for (name, paths) in [("kustomize", &kustomized), ("helm", &charts)] {
        for (path, names) in paths.iter().zip(names) {
            let found = rights(&tools.json(path)?)?;
            ensure!(found == expected(names), "{name}, {names:?}: {found:#}");
        }
        if !paths.is_empty() {
            say(&format!("{name}: the rights that `fleet containers` tries"));
        }
    }
    compose(&tools, &mut skipped)?;
    units(&dir)?;
    let sbom = dir.write(dist::sbom::NAME, &dist::listed()?)?;
    ensure!(fs::read_to_string(&sbom)? == dist::listed()?, "two lists of what is in it differ");
    tools.python(&["sbom"], [sbom.display().to_string()])?;
    skipped.iter().for_each(|why| eprintln!("SKIPPED {why}"));
    say(&format!("well; {} skipped", skipped.len()));
    Ok(())
}

/// Programs of PyPI, kept for the next time.
pub(super) struct Tools {
    pub(super) bin: PathBuf,
    script: PathBuf,
}

impl Tools {
    pub(super) fn new(dir: &Directory) -> Result<Self> {
        let venv = root().join("target/manifests");
        let bin = venv.join("bin");
        let stamp = venv.join("tools");
        let wanted = TOOLS.join("\n");
        if fs::read_to_string(&stamp).is_ok_and(|there| there == wanted) {
            return Ok(Self { bin, script: dir.write("manifests.py", SCRIPT)? });
        }
        eprintln!("installing {}", TOOLS.join(" "));
        let make = || setup::quiet(Command::new("python3").args(["-m", "venv"]).arg(&venv));
        if !make() {
            setup::packages(&[("pyvenv", "python3-venv", "python3")])?;
            ensure!(make(), "python3 -m venv {}", venv.display());
        }
        check(Command::new(bin.join("pip")).args(["install", "--quiet"]).args(TOOLS))?;
        fs::write(stamp, wanted)?;
        Ok(Self { bin, script: dir.write("manifests.py", SCRIPT)? })
    }

    /// To the script's success; what it printed.
    fn python(&self, args: &[&str], more: impl IntoIterator<Item = String>) -> Result<String> {
        let mut python = Command::new(self.bin.join("python"));
        let output = python.arg(&self.script).args(args).args(more).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", args.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The documents of a file of YAML.
    fn json(&self, path: &Path) -> Result<Value> {
        Ok(serde_json::from_str(&self.python(&["json"], [path.display().to_string()])?)?)
    }
}

/// A copy, with a token in it, as a user has it; and with names of pods, of either source.
fn kustomize(dir: &Directory, skipped: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    let render = |with: &Path| -> Result<String> {
        let mut command = renderer().context("kubectl")?;
        let output = command.arg(with).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    };
    if renderer().is_none() {
        skipped.push("kustomize: neither kubectl nor kustomize is installed".to_owned());
        return Ok(Vec::new());
    }
    let copy = dir.0.join("kubernetes");
    let from = root().join("deploy/kubernetes");
    check(Command::new("cp").arg("-r").arg(from).arg(&copy))?;
    fs::write(copy.join("token.txt"), "of-the-scraper")?;
    let usual = dir.write("kustomize.yaml", &render(&copy)?)?;
    let path = copy.join("kustomization.yaml");
    let text = fs::read_to_string(&path)?;
    ensure!(text.contains("# components: [pods]"), "no components in kustomization.yaml");
    let mut files = vec![usual];
    for component in ["pods", "kubelet"] {
        let with = format!("components: [{component}]");
        fs::write(&path, text.replace("# components: [pods]", &with))?;
        files.push(dir.write(&format!("kustomize-{component}.yaml"), &render(&copy)?)?);
    }
    Ok(files)
}

fn renderer() -> Option<Command> {
    let (program, word) = setup::which("kubectl")
        .map(|kubectl| (kubectl, "kustomize"))
        .or_else(|| Some((setup::which("kustomize")?, "build")))?;
    let mut command = Command::new(program);
    command.arg(word);
    Some(command)
}

/// With several values, the usual ones first; and what it must refuse.
fn helm(dir: &Directory, tools: &Tools, skipped: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    let chart = root().join("deploy/helm/tcptrace");
    let chart = chart.to_str().context("a path")?;
    let token = json!({"value": "of-the-scraper"});
    let good = [
        json!({"token": token}),
        json!({"token": token, "podNames": "directory"}),
        json!({"token": token, "podNames": "kubelet"}),
        json!({
            "token": token,
            "podNames": "kubelet",
            "kubelet": {"host": "[$(NODE_IP)]", "verify": true},
        }),
        json!({"token": {"existingSecret": "there"}, "image": {"tag": "1"}, "port": 9100}),
        json!({
            "token": token,
            "extraArgs": ["--min-age=30s", "--origins"],
            "seccompProfile": {"type": "Localhost", "localhostProfile": "tcptrace.json"},
            "imagePullSecrets": [{"name": "registry"}],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "system-node-critical",
            "podAnnotations": {"a": "b"},
            "podLabels": {"c": "d"},
            "resources": {},
            "tolerations": [],
        }),
    ];
    let bad = [
        json!({}),
        json!({"token": token, "prot": 1}),
        json!({"token": token, "port": "x"}),
        json!({"token": token, "podNames": true}),
        json!({"token": token, "seccompProfile": {"type": "Unconfined"}}),
    ];
    let (mut files, mut by_program) = (Vec::new(), Vec::new());
    let installed = setup::which("helm");
    for (n, values) in good.iter().enumerate() {
        let text = tools.python(&["helm", chart], [values.to_string()])?;
        files.push(dir.write(&format!("helm-{n}.yaml"), &text)?);
        if let Some(helm) = &installed {
            let path = dir.write(&format!("values-{n}.json"), &values.to_string())?;
            let mut command = Command::new(helm);
            command.args(["template", "tcptrace", chart, "--namespace", "tcptrace", "--values"]);
            let output = command.arg(path).output()?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            by_program.push(
                dir.write(&format!("helm-{n}-program.yaml"), &String::from_utf8(output.stdout)?)?,
            );
        }
    }
    for values in &bad {
        ensure!(
            tools.python(&["helm", chart], [values.to_string()]).is_err(),
            "the chart takes {values}"
        );
    }
    let by = match installed {
        Some(_) => "Helm's engine and helm",
        None => {
            skipped.push("helm, the program: not installed; its engine has rendered".to_owned());
            "Helm's engine"
        }
    };
    say(&format!("{by}: {} sets of values rendered, {} refused", good.len(), bad.len()));
    files.extend(by_program);
    Ok(files)
}

fn kubeconform(files: &[PathBuf], skipped: &mut Vec<String>) -> Result<()> {
    let Some(program) = setup::which("kubeconform") else {
        skipped.push("kubeconform: not installed; kubernetes-validate has the schemas".to_owned());
        return Ok(());
    };
    for version in VERSIONS {
        let version = format!("{version}.0");
        let mut command = Command::new(&program);
        command.args(["-strict", "-summary", "-kubernetes-version", &version]);
        check(command.args(files))?;
    }
    Ok(())
}

/// Where the names of pods come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PodNames {
    None,
    Directory,
    Kubelet,
}

/// What the DaemonSet among these documents may do, and whoever else's rights are there.
fn rights(documents: &Value) -> Result<Value> {
    let documents = documents.as_array().context("documents")?;
    let set = documents.iter().find(|d| d["kind"] == "DaemonSet").context("a DaemonSet")?;
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let mut rest = pod.clone();
    for volume in rest["volumes"].as_array_mut().into_iter().flatten() {
        // kustomize appends a hash, Helm puts its release before.
        if !volume["secret"]["secretName"].is_null() {
            volume["secret"]["secretName"] = json!("token");
        }
    }
    let keys = [
        "hostNetwork",
        "hostIPC",
        "hostPID",
        "automountServiceAccountToken",
        "serviceAccountName",
        "volumes",
    ];
    let mut found: Value = keys.map(|key| (key, rest[key].clone())).into_iter().collect();
    for key in ["securityContext", "volumeMounts", "args", "env"] {
        found[key] = container[key].clone();
    }
    found["containers"] = json!(pod["containers"].as_array().map(Vec::len));
    // Roles are bound to the account that the pod has.
    let of_kind = |kind: &'static str| documents.iter().filter(move |d| d["kind"] == kind);
    found["rules"] = of_kind("ClusterRole").map(|role| role["rules"].clone()).collect();
    found["bound"] = of_kind("ClusterRoleBinding")
        .flat_map(|binding| {
            let role = binding["roleRef"]["name"].clone();
            let known = of_kind("ClusterRole").any(|there| there["metadata"]["name"] == role);
            let subjects = binding["subjects"].as_array().cloned().unwrap_or_default();
            subjects.into_iter().map(move |subject| {
                json!([known, subject["kind"], subject["name"], subject["namespace"]])
            })
        })
        .collect();
    let others = ["Role", "RoleBinding"].into_iter().flat_map(of_kind).count();
    ensure!(others == 0, "{others} roles that nobody expects");
    let accounts = of_kind("ServiceAccount")
        .map(|one| json!([one["metadata"]["name"], one["automountServiceAccountToken"]]));
    found["accounts"] = accounts.collect();
    Ok(found)
}

fn expected(names: PodNames) -> Value {
    let mut rights = json!({
        "hostNetwork": null,
        "hostIPC": null,
        "hostPID": true,
        "automountServiceAccountToken": false,
        "serviceAccountName": null,
        "rules": [],
        "bound": [],
        "accounts": [],
        "env": null,
        "volumes": [{"name": "token", "secret": {"secretName": "token", "defaultMode": 0o400}}],
        "volumeMounts": [{"name": "token", "mountPath": "/etc/tcptrace", "readOnly": true}],
        "args": ["serve", "--listen=[::]:9095", "--token-file=/etc/tcptrace/token"],
        "securityContext": {
            "runAsUser": 0,
            "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": CAPABILITIES},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": 1,
    });
    let more = match names {
        PodNames::None => Vec::new(),
        PodNames::Directory => {
            let at = "/var/log/pods";
            vec![
                ("volumes", json!({"name": "pods", "hostPath": {"path": at, "type": "Directory"}})),
                ("volumeMounts", json!({"name": "pods", "mountPath": at, "readOnly": true})),
                ("args", json!("--pods=/var/log/pods")),
            ]
        }
        PodNames::Kubelet => {
            rights["serviceAccountName"] = json!("tcptrace");
            rights["env"] = json!([
                {"name": "NODE_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}}
            ]);
            let at = "/etc/tcptrace-kubelet";
            let root = json!({"key": "ca.crt", "path": "ca.crt"});
            let sources = json!([
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [root]}},
            ]);
            let projected = json!({"defaultMode": 0o400, "sources": sources});
            let rule = json!([{"apiGroups": [""], "resources": ["nodes/pods"], "verbs": ["get"]}]);
            vec![
                ("volumes", json!({"name": "kubelet", "projected": projected})),
                ("volumeMounts", json!({"name": "kubelet", "mountPath": at, "readOnly": true})),
                ("args", json!("--pods=https://$(NODE_IP):10250")),
                ("args", json!(format!("--pods-token-file={at}/token"))),
                ("args", json!("--pods-insecure")),
                ("rules", rule),
                ("bound", json!([true, "ServiceAccount", "tcptrace", "tcptrace"])),
                ("accounts", json!(["tcptrace", false])),
            ]
        }
    };
    for (key, value) in more {
        rights[key].as_array_mut().into_iter().for_each(|list| list.push(value.clone()));
    }
    rights
}

/// Its schema, its rights, the files that it mounts, and those who read it.
fn compose(tools: &Tools, skipped: &mut Vec<String>) -> Result<()> {
    let dir = root().join("deploy/compose");
    let file = dir.join("compose.yaml");
    let mut schema = Command::new(tools.bin.join("check-jsonschema"));
    check(schema.args(["--quiet", "--builtin-schema", "vendor.compose-spec"]).arg(&file))?;
    let found = tools.json(&file)?;
    let services = &found[0]["services"];
    let agent = &services["tcptrace"];
    let right = agent["cap_add"] == json!(CAPABILITIES)
        && agent["cap_drop"] == json!(["ALL"])
        && agent["read_only"] == true
        && agent["pid"] == "host"
        && agent["security_opt"] == json!(["no-new-privileges:true", "seccomp=../seccomp.json"])
        && agent["volumes"].is_null()
        && agent["privileged"].is_null();
    ensure!(right, "compose.yaml: other rights than are tried: {agent:#}");
    let services = services.as_object().context("services")?;
    for volume in services.values().filter_map(|s| s["volumes"].as_array()).flatten() {
        let from = volume.as_str().and_then(|v| v.split(':').next()).context("a volume")?;
        ensure!(!from.starts_with('.') || dir.join(from).is_file(), "compose.yaml: no {from}");
    }
    let configured = |command: &mut Command| {
        check(command.args(["-f"]).arg(&file).arg("config").stdout(Stdio::null()))
    };
    configured(&mut Command::new(tools.bin.join("podman-compose")))?;
    let has_plugin = setup::which("docker").is_some_and(|docker| {
        let mut command = Command::new(docker);
        command.args(["compose", "version"]).output().is_ok_and(|o| o.status.success())
    });
    if has_plugin {
        configured(Command::new("docker").arg("compose"))?;
    } else {
        skipped.push("docker compose config: docker's plug-in is not installed".to_owned());
    }
    // As they lie in the container.
    let config = root().join("target/fleet/prometheus");
    fs::create_dir_all(&config)?;
    fs::copy(dir.join("prometheus.yml"), config.join("prometheus.yml"))?;
    let rules = root().join("deploy/prometheus/tcptrace.rules.yml");
    fs::copy(rules, config.join("tcptrace.rules.yml"))?;
    let text = fs::read_to_string(config.join("prometheus.yml"))?;
    let token = config.join("token");
    fs::write(&token, "of-the-scraper")?;
    let text = text.replace("/run/secrets/token", &token.display().to_string());
    fs::write(config.join("prometheus.yml"), text)?;
    super::alerts::promtool(&config, &["check", "config", "prometheus.yml"])?;
    say("compose.yaml: schema, rights, mounts; Prometheus takes its configuration");
    Ok(())
}

/// What systemd says of the units, without running them. (`dist check` boots one.)
fn units(dir: &Directory) -> Result<()> {
    for name in ["tcptrace.service", "tcptrace-serve.service"] {
        let text = fs::read_to_string(root().join("xtask/src/dist").join(name))?;
        let unit = dir.write(name, &text.replace("/usr/bin/tcptrace ", "/bin/true "))?;
        let mut verify = Command::new("systemd-analyze");
        let output = verify.args(["verify", "--man=no"]).arg(&unit).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        // It complains of this machine's other units, too.
        if let Some(line) = said.lines().find(|line| line.contains(name)) {
            bail!("systemd-analyze verify: {line}");
        }
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=true", "--no-pager"]);
        let output = security.arg(format!("--threshold={EXPOSURE}")).arg(&unit).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{name}: {text}");
        say(text.lines().last().unwrap_or_default().trim_start_matches(['→', ' ']));
    }
    Ok(())
}
