//! Asks again and again.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::time::sleep;

use super::ask::KubeletTarget;
use crate::{
    formats::pods::KnownPods,
    serve::{
        client::retry::{Schedule, chance},
        current::Current,
    },
    view::text::bounded,
};

/// This often, more or less: not all nodes of a cluster at the same moment.
const EVERY: Duration = Duration::from_secs(30);

/// A line is no longer, bytes: others have a say in it.
const LINE: usize = 1_024;

/// Who is asked, and who wants to know.
pub struct Polling {
    /// The kubelet.
    pub target: KubeletTarget,
    /// What it said last.
    pub known: Arc<Current<KnownPods>>,
    /// Says a line to people.
    pub say: fn(&str),
    /// Gives the memory back that an answer took.
    pub give_back: fn(),
}

impl Polling {
    /// Asks for as long as this is polled. While there is no answer, names stay as they were, and
    /// it asks sooner, at first.
    pub async fn run(self) {
        let (mut schedule, mut is_ill) = (Schedule::default(), false);
        loop {
            let answer = self.target.ask().await;
            (self.give_back)();
            let pause = match answer {
                Ok(names) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    let (names, read_s) = (Arc::new(names), now.as_secs_f64());
                    self.known.set(KnownPods { names, is_well: true, read_s });
                    if is_ill {
                        self.say("names are read again");
                    }
                    (schedule, is_ill) = (Schedule::default(), false);
                    EVERY.mul_f64(0.9 + chance() / 5.0)
                }
                Err(why) => {
                    self.known.set(KnownPods { is_well: false, ..self.known.get() });
                    if !is_ill {
                        self.say(&format!("{why}; names stay as they were, and it asks again"));
                    }
                    is_ill = true;
                    schedule.next(Duration::ZERO, None, chance()).unwrap_or(EVERY)
                }
            };
            sleep(pause).await;
        }
    }

    fn say(&self, text: &str) {
        (self.say)(&bounded(&format!("--pods {}: {text}", self.target.address), LINE));
    }
}
