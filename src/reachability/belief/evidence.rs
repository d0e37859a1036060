//! The outcomes of one address that count: a sliding window, bounded in number and in time. Here is what gives way in it,
//! and which repeated failures count once.

use std::time::Duration;

use libp2p_identity::PeerId;
use web_time::Instant;

use super::{Outcome, Source};
use crate::reachability::{
    contacts::Vantage,
    servers::{Ability, IpGroup},
};

/// How many outcomes are kept for one address. More change no verdict in the simulator.
pub(crate) const WINDOW: usize = 24;
/// Equal failures by one server within this time count once, as the newer: what lost the first packet loses the next one too.
/// Chosen; insensitive between 5 and 60 s in the simulator.
const SAME_FAILURE: Duration = Duration::from_secs(10);

/// The window of outcomes of one address, oldest first.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    outcomes: Vec<Outcome>,
    /// When this node's own side made something new of the address.
    afresh_since: Option<Instant>,
    /// Incremented with each change.
    version: u64,
}

impl Evidence {
    pub(crate) fn record(&mut self, outcome: Outcome) {
        self.version += 1;
        match outcome.server() {
            None => self.outcomes.retain(|o| o.source != Source::Strangers),
            // Where a server is may be known better now, but it remains one server.
            Some(server) => {
                let own = self.outcomes.iter_mut().filter(|o| o.is_by(&server));
                own.for_each(|o| o.source = outcome.source);
            }
        }
        let newest = self
            .outcomes
            .iter()
            .rposition(|o| o.source == outcome.source);
        let repeated = newest.filter(|i| {
            let before = &self.outcomes[*i];
            let since = outcome.at.saturating_duration_since(before.at);
            !outcome.success && !before.success && since < SAME_FAILURE
        });
        if let Some(i) = repeated {
            // The server was heard just now, and not to be asked for the same again.
            self.outcomes.remove(i);
        }
        if self.outcomes.len() >= WINDOW {
            self.outcomes.remove(self.least());
        }
        self.outcomes.push(outcome);
    }

    /// What gives way: the oldest outcome of the source that has most; never the only one with the best vantage.
    fn least(&self) -> usize {
        let best = self.vantage();
        let shows_best = |o: &Outcome| o.success && Some(o.asked.vantage) == best;
        let only_best = self.outcomes.iter().filter(|o| shows_best(o)).count() == 1;
        let of_source =
            |source: &Source| self.outcomes.iter().filter(|o| o.source == *source).count();
        let spared = |o: &Outcome| only_best && shows_best(o);
        self.outcomes
            .iter()
            .enumerate()
            .filter(|(_, o)| !spared(o))
            .max_by_key(|(i, o)| (of_source(&o.source), std::cmp::Reverse(*i)))
            .map_or(0, |(i, _)| i)
    }

    /// Drops what is older than `lifetime`.
    pub(crate) fn expire(&mut self, now: Instant, lifetime: Duration) {
        let before = self.outcomes.len();
        self.outcomes
            .retain(|o| now.saturating_duration_since(o.at) < lifetime);
        self.version += u64::from(self.outcomes.len() != before);
    }

    /// Drops what was heard before `since`: the state was another one. What servers have shown by then stays known.
    pub(crate) fn forget_before(&mut self, since: Instant) {
        let able = self.provers();
        self.outcomes.retain(|o| o.at >= since);
        for server in able {
            self.set_ability(&server, Ability::Shown);
        }
        self.version += 1;
    }

    /// This node's own side has made something new of the address, a port mapping say: what was heard before is of a state that
    /// is likely over, and so is a dial that is under way.
    pub(crate) fn start_afresh(&mut self, now: Instant) {
        self.afresh_since = Some(now);
        self.forget_before(now);
    }

    /// Whether what was asked at `asked_at` is about the state before that.
    pub(crate) fn is_older(&self, asked_at: Instant) -> bool {
        self.afresh_since.is_some_and(|since| asked_at < since)
    }

    pub(crate) fn clear(&mut self) {
        self.outcomes.clear();
        self.version += 1;
    }

    /// A server has shown what it can dial: that goes for what it said before, too.
    pub(crate) fn set_ability(&mut self, server: &PeerId, ability: Ability) {
        for outcome in &mut self.outcomes {
            if outcome.is_by(server) && outcome.asked.ability != ability {
                outcome.asked.ability = ability;
                self.version += 1;
            }
        }
    }

    pub(crate) fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// When the oldest outcome came in.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.outcomes.first().map(|o| o.at)
    }

    /// How many servers have an outcome here.
    pub(crate) fn servers(&self) -> usize {
        distinct(self.outcomes.iter().filter_map(Outcome::server)).len()
    }

    /// How many servers have an outcome here that is not older than `since`.
    pub(crate) fn servers_since(&self, since: Instant) -> usize {
        let newer = self.outcomes.iter().filter(|o| o.at >= since);
        distinct(newer.filter_map(Outcome::server)).len()
    }

    /// Successes that prove the address: those of which no other address can be the cause.
    fn proofs(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|o| o.is_proof())
    }

    pub(crate) fn is_proven(&self) -> bool {
        self.proofs().next().is_some()
    }

    /// When the newest proof came in.
    pub(crate) fn newest_proof(&self) -> Option<Instant> {
        self.proofs().last().map(|o| o.at)
    }

    pub(crate) fn has_failure(&self) -> bool {
        self.outcomes.iter().any(|o| !o.success)
    }

    /// How many distinct IP groups have proven it; strangers count as one.
    pub(crate) fn proving_groups(&self) -> usize {
        self.proving_groups_with(std::iter::empty())
    }

    /// The same if servers of these groups prove it too.
    pub(crate) fn proving_groups_with(&self, others: impl Iterator<Item = IpGroup>) -> usize {
        let proving = self.proofs().map(|o| o.source.group());
        distinct(proving.chain(others.map(Some))).len()
    }

    /// The best vantage that a success came from.
    pub(crate) fn vantage(&self) -> Option<Vantage> {
        let successes = self.outcomes.iter().filter(|o| o.success);
        successes.map(|o| o.asked.vantage).max()
    }

    /// The newest outcome by `server`.
    pub(crate) fn newest_by(&self, server: &PeerId) -> Option<&Outcome> {
        self.outcomes.iter().rev().find(|o| o.is_by(server))
    }

    /// The newest outcome of each server, in the order of the servers.
    pub(crate) fn newest(&self) -> Vec<(PeerId, &Outcome)> {
        let by_server = |o| Outcome::server(o).map(|server| (server, o));
        let mut newest = Vec::with_capacity(self.outcomes.len());
        newest.extend(self.outcomes.iter().rev().filter_map(by_server));
        // Stable: of each server the newest comes first.
        newest.sort_by_key(|(server, _)| *server);
        newest.dedup_by_key(|(server, _)| *server);
        newest
    }

    /// Whether `server` has proven the address.
    pub(crate) fn was_proven_by(&self, server: &PeerId) -> bool {
        self.proofs().any(|o| o.is_by(server))
    }

    /// The servers that have proven it, each once.
    pub(crate) fn provers(&self) -> Vec<PeerId> {
        distinct(self.proofs().filter_map(Outcome::server))
    }
}

/// Each once, in the order in which they first come. Of a window there are few.
fn distinct<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = Vec::new();
    for it in all {
        if !seen.contains(&it) {
            seen.push(it);
        }
    }
    seen
}

impl Outcome {
    pub(crate) fn server(&self) -> Option<PeerId> {
        match self.source {
            Source::Server { peer, .. } => Some(peer),
            Source::Strangers => None,
        }
    }

    pub(crate) fn group(&self) -> Option<IpGroup> {
        self.source.group()
    }

    fn is_by(&self, server: &PeerId) -> bool {
        matches!(&self.source, Source::Server { peer, .. } if peer == server)
    }

    /// A stranger's connection to a listener behind a NAT is a success, and of which address can only be inferred.
    fn is_proof(&self) -> bool {
        self.success && (self.source != Source::Strangers || self.asked.inside == 0.0)
    }
}
