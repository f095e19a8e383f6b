//! What is not known of a record, and why: a reason for each field that is null.

/// Reasons by field name, in the names' order. A list, not a map: there are few, and many records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Vec<(&'static str, &'static str)>);

impl Unknown {
    /// Says why a field is unknown; what was said of it before is forgotten.
    pub fn insert(&mut self, field: &'static str, why: &'static str) {
        match self.0.binary_search_by_key(&field, |(name, _)| name) {
            Ok(at) => self.0[at].1 = why,
            Err(at) => self.0.insert(at, (field, why)),
        }
    }

    /// The field is known after all.
    pub fn remove(&mut self, field: &str) {
        self.0.retain(|(name, _)| *name != field);
    }

    /// Why a field is unknown, if it is.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&'static str> {
        self.iter().find(|(name, _)| *name == field).map(|(_, why)| why)
    }

    /// Fields and reasons.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, &'static str)> {
        self.0.iter().copied()
    }
}

impl FromIterator<(&'static str, &'static str)> for Unknown {
    fn from_iter<I: IntoIterator<Item = (&'static str, &'static str)>>(list: I) -> Self {
        let mut unknown = Self::default();
        for (field, why) in list {
            unknown.insert(field, why);
        }
        unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reason_a_field_in_order() {
        let mut unknown: Unknown =
            [("role", "a"), ("inode", "b"), ("role", "c")].into_iter().collect();
        assert_eq!(unknown.iter().collect::<Vec<_>>(), [("inode", "b"), ("role", "c")]);
        unknown.remove("inode");
        assert_eq!((unknown.get("inode"), unknown.get("role")), (None, Some("c")));
    }
}
