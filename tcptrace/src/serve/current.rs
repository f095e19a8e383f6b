//! What may be replaced while it is used.

use std::sync::{PoisonError, RwLock};

/// A value as it is at the moment: who has got it keeps it, who asks later gets the next.
#[derive(Debug, Default)]
pub struct Current<T>(RwLock<T>);

impl<T: Clone> Current<T> {
    /// This one, for now.
    pub fn new(value: T) -> Self {
        Self(RwLock::new(value))
    }

    /// As it is.
    pub fn get(&self) -> T {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on it is this.
    pub fn set(&self, value: T) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = value;
    }
}
