//! Lists as a kubelet writes them, and others.

use proptest::prelude::*;

use super::*;

const UID: &str = "0c8d1f5e-6a0b-4f57-9d5e-2b1c0e9a7f43";

/// A list with one pod that has this in its metadata.
fn list(metadata: &str) -> String {
    format!(
        "{{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"items\":[{{\"metadata\":\
         {metadata},\"spec\":{{\"containers\":[{{\"name\":\"x\",\"env\":[null,1.5e3]}}]}},\
         \"status\":{{}}}}]}}"
    )
}

fn read(metadata: &str) -> PodNames {
    pod_list(list(metadata).as_bytes()).expect("a list")
}

/// Kind and name of the owner of a pod that has these references and labels.
fn owner(references: &str, labels: &str) -> Option<(String, String)> {
    let named = format!("\"uid\":\"{UID}\",\"namespace\":\"shop\",\"name\":\"cart\"");
    let more = format!("\"ownerReferences\":{references},\"labels\":{labels}");
    let owner = read(&format!("{{{named},{more}}}"))[UID].owner.clone()?;
    Some((owner.kind.to_string(), owner.name.to_string()))
}

fn one(kind: &str, name: &str, hash: &str) -> Option<(String, String)> {
    let reference = format!(
        "[{{\"apiVersion\":\"apps/v1\",\"kind\":\"{kind}\",\"name\":\"{name}\",\"uid\":\"u\",\
         \"controller\":true,\"blockOwnerDeletion\":true}}]"
    );
    owner(&reference, &format!("{{\"app\":\"x\",\"pod-template-hash\":\"{hash}\"}}"))
}

fn told(kind: &str, name: &str) -> Option<(String, String)> {
    Some((kind.to_owned(), name.to_owned()))
}

#[test]
fn workloads_of_pods() {
    let hash = "7f9c6b5d4";
    assert_eq!(one("ReplicaSet", "cart-7f9c6b5d4", hash), told("Deployment", "cart"));
    assert_eq!(one("ReplicaSet", "a-b.c-7f9c6b5d4", hash), told("Deployment", "a-b.c"));
    // A ReplicaSet that no Deployment made, or that has a hash of something else.
    for (name, hash) in [
        ("cart", ""),
        ("cart-", ""),
        ("cart-7f9c6b5d4", ""),
        ("cart-7f9c6b5d4", "7f9c6b5d5"),
        ("cart-7f9c6b5d4", "9c6b5d4"),
        ("cart7f9c6b5d4", "7f9c6b5d4"),
        ("7f9c6b5d4", "7f9c6b5d4"),
    ] {
        let expected = if name == "cart-" { None } else { told("ReplicaSet", name) };
        assert_eq!(one("ReplicaSet", name, hash), expected, "{name} {hash}");
    }
    // The controller has cut the Deployment's name, maybe.
    let cut = format!("{}-{hash}", "a".repeat(253 - 1 - hash.len()));
    assert_eq!(one("ReplicaSet", &cut, hash), told("ReplicaSet", &cut));
    let whole = &cut[1..];
    assert_eq!(one("ReplicaSet", whole, hash), told("Deployment", &"a".repeat(242)));
    for (kind, name) in
        [("StatefulSet", "db"), ("DaemonSet", "cni"), ("Job", "mail-29412345"), ("Node", "n.x")]
    {
        assert_eq!(one(kind, name, hash), told(kind, name));
    }
    for (kind, name) in [("", "db"), ("Stateful Set", "db"), ("Job", "a\\\"b"), ("Job", "")] {
        assert_eq!(one(kind, name, ""), None, "{kind} {name}");
    }
    // The one that is responsible, of several.
    let several = "[{\"kind\":\"Team\",\"name\":\"a\"},{\"kind\":\"Set\",\"name\":\"b\",\
                   \"controller\":true},{\"kind\":\"Set\",\"name\":\"c\",\"controller\":true}]";
    assert_eq!(owner(several, "null"), told("Set", "b"));
    for none in ["null", "[]", "[{\"kind\":\"Team\",\"name\":\"a\",\"controller\":false}]"] {
        assert_eq!(owner(none, "{}"), None, "{none}");
    }
}

#[test]
fn a_static_pod_has_a_digest() {
    // As `kubectl get --raw /api/v1/nodes/NODE/proxy/pods` shows it.
    let digest = "6a1d3ab0d9b5ab1bb21fbdbae4a4e7f2";
    let names = read(&format!(
        "{{\"name\":\"etcd-n1\",\"namespace\":\"kube-system\",\"uid\":\"{digest}\",\"annotations\":\
         {{\"kubernetes.io/config.hash\":\"{digest}\",\"kubernetes.io/config.source\":\"file\"}}}}"
    ));
    let name = &names[digest];
    assert_eq!((&*name.namespace, &*name.name, &name.owner), ("kube-system", "etcd-n1", &None));
    // Anybody can write that.
    let names = read(&format!(
        "{{\"name\":\"cart\",\"namespace\":\"shop\",\"uid\":\"{UID}\",\"annotations\":\
         {{\"kubernetes.io/config.hash\":\"{digest}\"}}}}"
    ));
    assert_eq!(names.keys().map(|uid| &**uid).collect::<Vec<_>>(), [UID]);
}

#[test]
fn names_that_are_none_are_left_out() {
    for (namespace, name, uid) in [
        ("Shop", "cart", UID),
        ("shop", "ca\\\"rt", UID),
        ("shop", "cart\\n", UID),
        ("", "cart", UID),
        ("shop", "", UID),
        ("shop", "cart", ""),
        ("shop", "cart", "0c8d1f5e"),
    ] {
        let names = read(&format!(
            "{{\"namespace\":\"{namespace}\",\"name\":\"{name}\",\"uid\":\"{uid}\"}}"
        ));
        assert!(names.is_empty(), "{names:?}");
    }
    let pod = |name: &str| {
        format!("{{\"metadata\":{{\"namespace\":\"a\",\"name\":\"{name}\",\"uid\":\"{UID}\"}}}}")
    };
    let two = format!("{{\"kind\":\"PodList\",\"items\":[{},{}]}}", pod("b"), pod("c"));
    assert_eq!(pod_list(two.as_bytes()), Ok(PodNames::new()), "nobody knows which");
}

#[test]
fn so_many_and_no_more() {
    let pod = |n: usize| {
        format!(
            "{{\"metadata\":{{\"namespace\":\"a\",\"name\":\"b{n}\",\
             \"uid\":\"0c8d1f5e-6a0b-4f57-9d5e-{n:012x}\"}}}}"
        )
    };
    let pods: Vec<String> = (0..MOST + 9).map(pod).collect();
    let text = format!("{{\"items\":[{}],\"kind\":\"PodList\"}}", pods.join(","));
    assert_eq!(pod_list(text.as_bytes()).map(|names| names.len()), Ok(MOST));
}

#[test]
fn what_is_no_list() {
    for empty in ["{\"kind\":\"PodList\"}", "{\"kind\":\"PodList\",\"items\":null}"] {
        assert_eq!(pod_list(empty.as_bytes()), Ok(PodNames::new()));
    }
    for other in ["{}", "[]", "{\"kind\":\"Status\",\"code\":403}", "{\"items\":[]}"] {
        assert_eq!(pod_list(other.as_bytes()), Err(PodListError::Kind), "{other}");
    }
    for none in [
        "",
        "<html>Sign in</html>",
        "7",
        "{\"kind\":\"PodList\",\"items\":[",
        "{\"kind\":\"PodList\",\"items\":[7]}",
        "{\"kind\":\"PodList\",\"items\":[{\"metadata\":{\"uid\":7}}]}",
        "{\"kind\":\"PodList\",\"kind\":\"PodList\"}",
        "{\"kind\":\"PodList\"} and more",
    ] {
        let found = pod_list(none.as_bytes());
        assert!(matches!(found, Err(PodListError::Json { .. })), "{none}: {found:?}");
    }
    // A deep one is no danger.
    let deep = format!("{{\"kind\":\"PodList\",\"x\":{}", "[".repeat(1 << 20));
    assert!(pod_list(deep.as_bytes()).is_err());
}

fn name() -> impl Strategy<Value = String> {
    "[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]{0,9}[a-z0-9])?){0,2}"
}

proptest! {
    #[test]
    fn what_a_deployment_makes_is_told_as_its(
        deployment in name(),
        hash in "[bcdfghjklmnpqrstvwxz2456789]{1,10}",
    ) {
        let set = format!("{deployment}-{hash}");
        prop_assert_eq!(one("ReplicaSet", &set, &hash), told("Deployment", &deployment));
        prop_assert_eq!(one("StatefulSet", &set, &hash), told("StatefulSet", &set));
    }

    /// Whatever it says, names are such that any label may hold them.
    #[test]
    fn others_are_left_out(
        texts in proptest::collection::vec("[a-zA-Z0-9._\\-\"\\\\\n\u{e9} ]{0,12}", 6),
    ) {
        let quoted: Vec<String> = texts.iter()
            .map(|text| serde_json::to_string(text).expect("text"))
            .collect();
        let names = read(&format!(
            "{{\"uid\":\"{UID}\",\"namespace\":{},\"name\":{},\"labels\":{{\"pod-template-hash\":{}\
             }},\"ownerReferences\":[{{\"controller\":true,\"kind\":{},\"name\":{}}}]}}",
            quoted[0], quoted[1], quoted[2], quoted[3], quoted[4]
        ));
        for pod in names.values() {
            let owner = pod.owner.iter().flat_map(|owner| [&owner.kind, &owner.name]);
            for text in [&pod.namespace, &pod.name].into_iter().chain(owner) {
                let plain = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
                prop_assert!(!text.is_empty() && text.bytes().all(plain), "{text:?}");
            }
        }
    }
}
