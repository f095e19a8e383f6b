//! Where the screen's facts come from.

use std::io;

use crate::{
    engine::{fact::Timed, record::BootNs, watch::Wants},
    source::{Source, live::tracing::Live, recording::player::Player},
};

/// This host, or a recording.
pub enum Feed {
    Live(Box<Live>),
    Played(Player),
}

impl Source for Feed {
    async fn ready(&mut self) -> io::Result<()> {
        match self {
            Self::Live(live) => live.ready().await,
            Self::Played(player) => player.ready().await,
        }
    }

    fn pull(
        &mut self,
        ask: &mut dyn FnMut(BootNs) -> Wants,
        facts: &mut Vec<Timed>,
    ) -> io::Result<()> {
        match self {
            Self::Live(live) => live.pull(ask, facts),
            Self::Played(player) => player.pull(ask, facts),
        }
    }

    fn follow_ends(&mut self, follow: bool) -> io::Result<()> {
        match self {
            Self::Live(live) => live.follow_ends(follow),
            Self::Played(player) => player.follow_ends(follow),
        }
    }

    fn stop(&mut self, facts: &mut Vec<Timed>) -> io::Result<()> {
        match self {
            Self::Live(live) => live.stop(facts),
            Self::Played(player) => player.stop(facts),
        }
    }

    fn now(&self) -> BootNs {
        match self {
            Self::Live(live) => live.now(),
            Self::Played(player) => player.now(),
        }
    }
}
