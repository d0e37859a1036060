//! What requests about an address are taken from: budgets for what peers alone speak of, and for what comes and goes.

use std::time::Duration;

use libp2p_core::Multiaddr;
use web_time::Instant;

use super::Turn;
use crate::reachability::{
    Fund, Reachability,
    candidates::{AddressId, Candidate, Support, Trust},
    review::Entry,
};

/// For how long an address that came with a listener, or that others confirm, has to be there before it is asked about, where
/// others come all the time: those of containers that run for seconds are not to take the requests from one that stays.
const PROBATION: Duration = Duration::from_secs(30);

/// An address that this node's own side speaks for, and that nobody was asked about yet.
enum Newcomer {
    /// It came with a listener: its first request is taken from the listener's budget, too.
    Listening(Multiaddr),
    /// Others confirmed it.
    Confirmed,
}

impl Newcomer {
    fn fund(&self) -> Fund {
        match self {
            Self::Listening(_) => Fund::Newcomers,
            Self::Confirmed => Fund::ConfirmedNewcomers,
        }
    }
}

impl Fund {
    /// What requests about an address are taken from that peers alone speak of.
    pub(super) fn of_word(trust: Trust, candidate: &Candidate, support: &Support) -> Option<Self> {
        match trust {
            Trust::OnePeersPort | Trust::Observed
                if candidate.is_only_observed() && support.has_proven_port() =>
            {
                Some(Self::ProvenPort)
            }
            Trust::OnePeersPort => Some(Self::OnePeersPort),
            Trust::OnePeersIp => Some(Self::OnePeersIp),
            Trust::Observed if candidate.is_only_observed() => Some(Self::SeenPort),
            Trust::Observed | Trust::UnobservedGuess if support.is_one_of_many(candidate) => {
                Some(Self::SeenIp)
            }
            _ => None,
        }
    }
}

impl Reachability {
    pub(super) fn is_budget_ready(&mut self, fund: Fund, turn: &Turn, now: Instant) -> bool {
        let Some(entry) = self.judged.get(turn.id) else {
            return false;
        };
        let free = entry.schedule.is_demanded() || Self::has_begun(fund, entry);
        let is_recheck = entry.standing.is_decided();
        let budget = self.budgets.of(fund);
        let at = match fund {
            // What is new comes before what is likely still as it was.
            Fund::SeenIp if is_recheck => budget.half_full_at(),
            _ => budget.ready_at(),
        };
        if free || at <= now {
            return true;
        }
        self.wake.by(at, "the budget for what peers speak of");
        false
    }

    /// Whether it is paid for until it has a verdict: one that is asked about by halves has none for long.
    pub(super) fn has_begun(fund: Fund, entry: &Entry) -> bool {
        fund == Fund::SeenIp && entry.schedule.asked_at.is_some() && !entry.standing.is_decided()
    }

    /// Whether an address that came with a listener, or that others confirm, may be asked about for the first time: not each time
    /// that it is back, and not as many as a host can open and map.
    pub(super) fn may_begin(&mut self, id: AddressId, now: Instant) -> bool {
        if !self.is_back_within_budget(id, now) {
            return false;
        }
        let Some(newcomer) = self.newcomer(id) else {
            return true;
        };
        let first_seen = self.candidates.get(id).map(|it| it.first_seen);
        let budget = self.budgets.of(newcomer.fund());
        let mut at = budget.ready_at();
        if budget.is_low(now) {
            at = at.max(first_seen.map_or(now, |first_seen| first_seen + PROBATION));
        }
        if let Newcomer::Listening(addr) = newcomer {
            at = at.max(self.budgets.of_listener_at(&addr, now).ready_at());
        }
        if at <= now {
            return true;
        }
        self.wake.by(at, "the budget for new addresses");
        false
    }

    /// A request about it leaves.
    pub(super) fn note_newcomer(&mut self, id: AddressId, now: Instant) {
        let Some(newcomer) = self.newcomer(id) else {
            return;
        };
        self.budgets.of(newcomer.fund()).take(now);
        if let Newcomer::Listening(addr) = newcomer {
            self.budgets.of_listener_at(&addr, now).take(now);
        }
    }

    fn is_back_within_budget(&mut self, id: AddressId, now: Instant) -> bool {
        let Some(entry) = self.judged.get(id) else {
            return false;
        };
        let waits = entry.schedule.waits_for_budget && !entry.schedule.is_demanded();
        let addr = self
            .candidates
            .get(id)
            .filter(|_| waits)
            .map(|c| c.addr.clone());
        let Some(addr) = addr else {
            return true;
        };
        let budget = self.budgets.of_listener_at(&addr, now);
        if !budget.take(now) {
            let at = budget.ready_at();
            self.wake.by(at, "the budget for what comes back");
            return false;
        }
        if let Some(entry) = self.judged.get_mut(id) {
            entry.schedule.waits_for_budget = false;
        }
        true
    }

    /// Whether nobody was asked about it yet, and the application does not ask for it.
    fn newcomer(&self, id: AddressId) -> Option<Newcomer> {
        let candidate = self.candidates.get(id)?;
        let schedule = &self.judged.get(id)?.schedule;
        if schedule.asked_at.is_some() || schedule.is_demanded() {
            None
        } else if candidate.sources.confirmed {
            Some(Newcomer::Confirmed)
        } else {
            candidate
                .came_with_listener
                .then(|| Newcomer::Listening(candidate.addr.clone()))
        }
    }
}
