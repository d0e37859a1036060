//! The ways to judge that are tried in the same worlds.

use std::time::Duration;

use crate::{
    history::History,
    world::{Recipe, World},
};

mod core;
mod inference;
mod oracle;
mod simple;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Ours,
    FirstProbe,
    NetCount,
    Segments,
    Oracle,
}

impl Policy {
    pub(crate) const ALL: [Self; 5] = [
        Self::Ours,
        Self::FirstProbe,
        Self::NetCount,
        Self::Segments,
        Self::Oracle,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "this crate",
            Self::FirstProbe => "first probe decides",
            Self::NetCount => "net 2 of 5, target 3",
            Self::Segments => "4 ok or 8 failed",
            Self::Oracle => "knows the rates",
        }
    }

    /// Whether it says how sure it is.
    pub(crate) fn states_confidence(self) -> bool {
        matches!(self, Self::Ours | Self::Oracle)
    }

    pub(crate) fn run(self, recipe: &Recipe, world: &World, horizon: Duration) -> History {
        match self {
            Self::Ours => core::Run::new(world, false).run(horizon),
            Self::FirstProbe => simple::run(world, horizon, simple::first_probe),
            Self::NetCount => simple::run(world, horizon, simple::net_count),
            Self::Segments => simple::run(world, horizon, simple::segments),
            Self::Oracle => oracle::Run::new(recipe, world).run(horizon),
        }
    }
}

/// Runs the crate's core and prints what it asks, hears and says.
pub(crate) fn trace(world: &World, horizon: Duration) {
    core::Run::new(world, true).run(horizon);
}
