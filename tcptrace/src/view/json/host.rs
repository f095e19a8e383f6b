//! The shapes of what `check` says. Field names are the contract.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    engine::check::{Finding, Offers},
    prose::check,
};

#[derive(Serialize)]
pub struct FindingLine<'a> {
    event: &'static str,
    time: String,
    name: &'static str,
    ok: Option<bool>,
    mark: &'static str,
    found: &'a str,
    needed_for: &'static str,
    lost_without: &'static str,
    remedy: &'static str,
}

impl<'a> FindingLine<'a> {
    pub fn new(time: String, f: &'a Finding) -> Self {
        Self {
            event: "check",
            time,
            name: f.item.name(),
            ok: f.ok,
            mark: f.mark().name(),
            found: &f.found,
            needed_for: check::needed_for(f.item),
            lost_without: check::lost_without(f.item, f.mark()),
            remedy: check::remedy(f.remedy),
        }
    }
}

#[derive(Serialize)]
pub struct OffersLine<'a> {
    event: &'static str,
    time: String,
    watch: bool,
    why: Option<&'a str>,
    snapshot: bool,
    explain: bool,
    counts: BTreeMap<&'static str, u64>,
}

impl<'a> OffersLine<'a> {
    pub fn new(time: String, o: &'a Offers) -> Self {
        Self {
            event: "summary",
            time,
            watch: o.watch,
            why: o.why.as_deref(),
            snapshot: o.snapshot,
            explain: o.explain,
            counts: o.counts.iter().map(|(mark, n)| (mark.name(), *n)).collect(),
        }
    }
}
