//! What Kubernetes calls a node's pods, from the names that the kubelet gives their log
//! directories: `NAMESPACE_POD_UID` below `/var/log/pods` (pkg/kubelet/kuberuntime/helpers.go).

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use super::container::is_pod_uid;

/// What a pod is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its own name.
    pub name: Arc<str>,
    /// What it belongs to, where that is known.
    pub owner: Option<PodOwner>,
}

/// What made a pod and replaces it: a Deployment, a StatefulSet, a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodOwner {
    /// `Deployment`.
    pub kind: Arc<str>,
    /// Its name, in the pod's namespace.
    pub name: Arc<str>,
}

/// Names by the uids of pods, as cgroups have them.
pub type PodNames = BTreeMap<Arc<str>, PodName>;

/// Names as they were last read.
#[derive(Clone, Debug, Default)]
pub struct KnownPods {
    /// The names.
    pub names: Arc<PodNames>,
    /// The last reading went well; if not, they are those of an earlier one.
    pub is_well: bool,
    /// When one last did, s since 1970; 0: none yet.
    pub read_s: f64,
}

/// The pods behind the names of directories. Whatever is no such name is left out, and so is a uid
/// that several are said to have.
#[must_use]
pub fn names<'a>(directories: impl IntoIterator<Item = &'a str>) -> PodNames {
    collect(directories.into_iter().filter_map(name))
}

/// All of them but those whose uid another one has, too.
pub(super) fn collect<U: AsRef<str>>(pods: impl IntoIterator<Item = (U, PodName)>) -> PodNames {
    let (mut names, mut twice) = (PodNames::new(), HashSet::new());
    for (uid, name) in pods {
        let uid: Arc<str> = uid.as_ref().into();
        if names.insert(Arc::clone(&uid), name.clone()).is_some_and(|before| before != name) {
            twice.insert(uid);
        }
    }
    names.retain(|uid, _| !twice.contains(uid));
    names
}

/// The uid, and the name. None of the three parts can hold what is between them.
fn name(directory: &str) -> Option<(&str, PodName)> {
    let mut parts = directory.split('_');
    let (namespace, name, uid) = (parts.next()?, parts.next()?, parts.next()?);
    let one = pod(uid, namespace, name)?;
    parts.next().is_none().then_some((uid, one))
}

/// A pod's name, if all of it is such as Kubernetes has it.
pub(super) fn pod(uid: &str, namespace: &str, name: &str) -> Option<PodName> {
    let is_one = is_label(namespace) && is_subdomain(name) && is_pod_uid(uid);
    let one = || PodName { namespace: namespace.into(), name: name.into(), owner: None };
    is_one.then(one)
}

/// A label of DNS (RFC 1123), as Kubernetes wants it: in small letters.
fn is_label(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len())
        && text.bytes().all(inside)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Labels and dots between them. A label of a pod's name may be longer than DNS allows.
pub(super) fn is_subdomain(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let label = |part: &str| {
        !part.is_empty()
            && part.bytes().all(inside)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "0c8d1f5e-6a0b-4f57-9d5e-2b1c0e9a7f43";

    fn told(directories: &[&str]) -> Vec<(String, String, String)> {
        let told = names(directories.iter().copied()).into_iter();
        let told = told.map(|(uid, n)| (uid.to_string(), n.namespace.to_string(), n.name));
        told.map(|(uid, namespace, name)| (uid, namespace, name.to_string())).collect()
    }

    #[test]
    fn directories_of_the_kubelet() {
        let usual = format!("shop_cart-7f9c6b5d4-x2x7k_{UID}");
        // A static pod's uid is a digest.
        let of_a_file = "kube-system_etcd-node.example_6a1d3ab0d9b5ab1bb21fbdbae4a4e7f2";
        assert_eq!(
            told(&[&usual, of_a_file]),
            [
                (UID.into(), "shop".into(), "cart-7f9c6b5d4-x2x7k".into()),
                (
                    "6a1d3ab0d9b5ab1bb21fbdbae4a4e7f2".into(),
                    "kube-system".into(),
                    "etcd-node.example".into()
                ),
            ]
        );
        let two = format!("other_cart_{UID}");
        assert_eq!(told(&[&usual, &two, &two]), [], "nobody knows which");
        assert_eq!(told(&[&usual, &usual]).len(), 1);
        let long = "a".repeat(64);
        for none in [
            "",
            "__",
            UID,
            &format!("cart_{UID}"),
            &format!("shop_cart_{UID}_x"),
            &format!("Shop_cart_{UID}"),
            &format!("shop_ca\"rt_{UID}"),
            &format!("shop_cart\n_{UID}"),
            &format!("-shop_cart_{UID}"),
            &format!("shop_cart._{UID}"),
            &format!("{long}_cart_{UID}"),
            &format!("shop_{}_{UID}", "a".repeat(254)),
            "shop_cart_0c8d1f5e",
        ] {
            assert_eq!(told(&[none]), [], "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn what_the_kubelet_writes_is_read(
            namespace in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?",
            name in "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,9}[a-z0-9])?){0,3}",
            uid in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}",
        ) {
            let found = told(&[&format!("{namespace}_{name}_{uid}")]);
            prop_assert_eq!(found, [(uid, namespace, name)]);
        }

        /// Whatever directories are called, names are such that any label may hold them.
        #[test]
        fn others_are_left_out(directories in proptest::collection::vec(".{0,80}", 0..20)) {
            let found = names(directories.iter().map(String::as_str));
            prop_assert!(found.len() <= directories.len());
            for name in found.values() {
                let plain = |t: &str| t.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
                prop_assert!(plain(&name.namespace) && plain(&name.name));
            }
        }
    }
}
