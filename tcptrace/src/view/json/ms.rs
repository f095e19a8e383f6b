//! Lengths of time as JSON has them.

use serde::{Serialize, Serializer};

use crate::engine::record::Age;

#[derive(Serialize)]
pub struct AgeMs {
    min: Ms,
    max: Option<Ms>,
}

impl From<&Age> for AgeMs {
    fn from(age: &Age) -> Self {
        Self { min: Ms(age.min_ns), max: age.max_ns.map(Ms) }
    }
}

impl AgeMs {
    /// Of what is so old or older, ns.
    pub fn at_least(ns: u64) -> Self {
        Self { min: Ms(ns), max: None }
    }
}

/// ns, shown as ms to the microsecond.
pub struct Ms(pub u64);

impl Serialize for Ms {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 µs, 285 years")]
        s.serialize_f64((self.0 / 1_000) as f64 / 1_000.0)
    }
}
