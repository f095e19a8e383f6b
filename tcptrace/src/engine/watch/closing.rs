//! What this program itself ends, because it was told to.

use std::rc::Rc;

use super::{Said, Watch};
use crate::engine::{
    close::{CloseAttempt, CloseResult, Closed},
    record::BootNs,
    update::Update,
};

/// One is closed after the other: a recording that claims more than these is not believed.
const MOST: usize = 1_024;

impl Watch {
    /// A connection is about to be closed: its end will be nobody else's doing.
    pub(super) fn closing(&mut self, cookie: u64) {
        if self.closing.len() < MOST
            && let Some(record) = self.tracker.row(cookie)
        {
            self.closing.insert(cookie, Rc::clone(record));
            self.tracker.tell(cookie, true);
        }
    }

    /// What came of it.
    pub(super) fn tried(&mut self, attempt: &CloseAttempt, at: BootNs, said: &mut Vec<Said>) {
        let Some(record) = self.closing.remove(&attempt.cookie) else { return };
        if !matches!(attempt.outcome, CloseResult::Closed | CloseResult::Closing) {
            self.tracker.tell(attempt.cookie, false);
        }
        let closed = Closed { record, attempt: attempt.clone() };
        self.say(at, Update::Closed(Box::new(closed)), said);
    }
}
