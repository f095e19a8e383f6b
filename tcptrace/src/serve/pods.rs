//! The names of pods, beside answers and events in which pods are called by their uids.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::current::Current;
use crate::{
    engine::{forecast::told::What, record::Holder, update::Update},
    formats::pods::{KnownPods, PodName, PodNames},
};

/// The names as they are at the moment; `None`: they were not asked for.
pub type SharedPods = Option<Arc<Current<KnownPods>>>;

/// The names now; none where they were not asked for.
#[must_use]
pub fn names(shared: &SharedPods) -> Arc<PodNames> {
    shared.as_ref().map(|known| known.get().names).unwrap_or_default()
}

/// A pod, as JSON has it.
#[derive(Serialize)]
struct ToldPod<'a> {
    namespace: &'a str,
    name: &'a str,
    owner_kind: Option<&'a str>,
    owner_name: Option<&'a str>,
}

impl<'a> ToldPod<'a> {
    fn of(pod: &'a PodName) -> Self {
        let owner = pod.owner.as_ref();
        Self {
            namespace: &pod.namespace,
            name: &pod.name,
            owner_kind: owner.map(|owner| &*owner.kind),
            owner_name: owner.map(|owner| &*owner.name),
        }
    }
}

/// The uid of the pod that it runs in.
#[must_use]
pub fn uid(holder: &Holder) -> Option<&str> {
    holder.cgroups.as_ref()?.container()?.pod.as_deref()
}

/// Appends `,"pods":{"UID":{…}}`: what is known of these; nothing where nothing is.
pub fn append<'a>(out: &mut Vec<u8>, uids: impl IntoIterator<Item = &'a str>, names: &PodNames) {
    if names.is_empty() {
        return;
    }
    let known = uids.into_iter().filter_map(|uid| Some((uid, ToldPod::of(names.get(uid)?))));
    let known: BTreeMap<&str, ToldPod<'_>> = known.collect();
    if !known.is_empty() {
        out.extend_from_slice(b",\"pods\":");
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(out, &known);
    }
}

/// The processes that an update names first.
pub fn holders(update: &Update) -> &[Holder] {
    match update {
        Update::Stuck(record) | Update::Resolved { record, .. } => &record.holders,
        Update::Forecast(forecast) => match &forecast.what {
            What::Descriptors { process, .. } => std::slice::from_ref(process),
            _ => &[],
        },
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_them() {
        let mut known =
            crate::formats::pods::names(["shop_cart_0c8d1f5e-6a0b-4f57-9d5e-2b1c0e9a7f43"]);
        let uid = "0c8d1f5e-6a0b-4f57-9d5e-2b1c0e9a7f43";
        let told = |uids: &[&str], names: &PodNames| {
            let mut out = Vec::new();
            append(&mut out, uids.iter().copied(), names);
            String::from_utf8(out).expect("text")
        };
        assert_eq!(
            told(&[uid, "x", uid], &known),
            format!(
                ",\"pods\":{{\"{uid}\":{{\"namespace\":\"shop\",\"name\":\"cart\",\
                 \"owner_kind\":null,\"owner_name\":null}}}}"
            )
        );
        assert_eq!(told(&["x"], &known), "");
        known.clear();
        assert_eq!(told(&[uid], &known), "");
    }
}
