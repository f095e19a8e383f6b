//! What a kubelet answers to `GET /pods`: a PodList of Kubernetes's v1 API, in JSON
//! (`encodePods` in pkg/kubelet/server/server.go). Of each pod five things are kept, and what it
//! belongs to is concluded from two of them.
//!
//! The uid is the one that cgroups have, that of static pods too: theirs are digests that the
//! kubelet makes itself (`applyDefaults` in pkg/kubelet/config/common.go), and the mirror pods by
//! which the API server knows them are not in this list (`GetPods` in
//! pkg/kubelet/pod/pod_manager.go). The annotation `kubernetes.io/config.hash` says the same, but
//! whoever may make a pod may write it, so it is not read.

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, SeqAccess, Visitor},
};
use thiserror::Error;

use super::pods::{PodName, PodNames, PodOwner, collect, is_subdomain, pod};

/// Pods that are read: a node has a few hundred at most.
pub const MOST: usize = 4_096;

/// Why it is no list of pods. Nothing of what it says is in here: others wrote that.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PodListError {
    /// Not JSON, or with something else where a list of pods has words and lists.
    #[error("no list of pods in JSON (line {line}, column {column})")]
    Json {
        /// From 1 on.
        line: usize,
        /// From 1 on, bytes.
        column: usize,
    },
    /// It is another object of Kubernetes's, or none.
    #[error("JSON that is no PodList")]
    Kind,
}

/// The names in it. A pod with a name that is none in Kubernetes is left out, and so is a uid that
/// several have.
///
/// # Errors
/// It is no list of pods.
pub fn pod_list(json: &[u8]) -> Result<PodNames, PodListError> {
    let list: PodList = serde_json::from_slice(json)
        .map_err(|e| PodListError::Json { line: e.line(), column: e.column() })?;
    if list.kind != "PodList" {
        return Err(PodListError::Kind);
    }
    Ok(collect(list.items.map(|items| items.0).unwrap_or_default()))
}

#[derive(Deserialize)]
struct PodList {
    #[serde(default)]
    kind: String,
    // Go writes a list of nothing as null.
    #[serde(default)]
    items: Option<Items>,
}

/// Uids and names.
struct Items(Vec<(String, PodName)>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Items;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of pods")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Items, A::Error> {
                let mut pods = Vec::new();
                for _ in 0..MOST {
                    let Some(pod) = list.next_element::<Pod>()? else { return Ok(Items(pods)) };
                    pods.extend(pod.metadata.named());
                }
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Items(pods))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

#[derive(Deserialize)]
struct Pod {
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    uid: String,
    namespace: String,
    name: String,
    owner_references: Option<Vec<OwnerReference>>,
    labels: Option<Labels>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OwnerReference {
    kind: String,
    name: String,
    controller: bool,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Labels {
    pod_template_hash: String,
}

impl Metadata {
    fn named(self) -> Option<(String, PodName)> {
        let Self { uid, namespace, name, owner_references, labels } = self;
        let mut pod = pod(&uid, &namespace, &name)?;
        let hash = labels.unwrap_or_default().pod_template_hash;
        let mut owners = owner_references.unwrap_or_default().into_iter();
        pod.owner = owners.find(|owner| owner.controller).and_then(|owner| owner.told(&hash));
        Some((uid, pod))
    }
}

/// No name of an object is longer: one that is as long may have been cut.
const LONGEST: usize = 253;

impl OwnerReference {
    /// What it belongs to, for people: a Deployment has its pods by a ReplicaSet that is called
    /// `DEPLOYMENT-HASH`, with the hash that its pods have as a label, too (`getNewReplicaSet` in
    /// pkg/controller/deployment/sync.go). What is called otherwise is told as it is: a Job may be
    /// a CronJob's, but anybody may call one so.
    fn told(self, hash: &str) -> Option<PodOwner> {
        let Self { kind, name, .. } = self;
        if !is_kind(&kind) || !is_subdomain(&name) {
            return None;
        }
        let deployment = (kind == "ReplicaSet" && name.len() < LONGEST && !hash.is_empty())
            .then(|| name.strip_suffix(hash)?.strip_suffix('-'))
            .flatten()
            .filter(|name| is_subdomain(name));
        Some(match deployment {
            Some(deployment) => PodOwner { kind: "Deployment".into(), name: deployment.into() },
            None => PodOwner { kind: kind.into(), name: name.into() },
        })
    }
}

/// As Kubernetes has them: in CamelCase.
fn is_kind(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests;
