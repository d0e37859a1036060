//! What is said about one address: the verdict, the thresholds at which the belief suffices for another one, and when an
//! address that keeps changing is called unstable, and for how long.

use std::{collections::VecDeque, time::Duration};

use web_time::Instant;

use crate::reachability::{
    belief::{Evidence, Posterior, State},
    contacts::Vantage,
    schedule::doubled,
    servers::IpGroup,
};

mod turns;
use turns::Turns;

/// The posterior at which a first verdict needs no more servers. Once none is worth asking, the likeliest is said.
const SURE: f64 = 0.98;
/// How unlikely a verdict that stands must be to be changed at once.
const REFUTED: f64 = 0.05;
/// The same once no server is worth asking: whoever acts on verdicts pays for each change.
const UNLIKELY: f64 = 0.3;
/// By which share a verdict must have become less probable to be in doubt. Chosen.
const DOUBT: f64 = 0.05;
/// For how long nothing decides against a proof: what fails within seconds of it fails for another reason than that the address
/// is closed.
const FRESH: Duration = Duration::from_secs(5);
/// From how many changes on an address is unstable, and within which time. An operator who tries a forwarding out makes fewer.
const UNSTABLE_CHANGES: usize = 8;
const UNSTABLE_WITHIN: Duration = Duration::from_secs(3 * 60 * 60);
/// How long an unstable verdict stands at the least, doubling with each further change up to the longest.
const HOLD: Duration = Duration::from_secs(5 * 60);
const LONGEST_HOLD: Duration = Duration::from_secs(60 * 60);

/// The judgement on one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Not enough evidence in either direction.
    #[default]
    Unknown,
    /// Strangers can reach it, as far as the vantage of the report shows.
    Reachable,
    /// Servers that this node had contacted reach it, servers that it had not don't: a NAT with address-dependent or
    /// address- and port-dependent filtering (RFC 4787, section 5). Strangers don't get in.
    Filtered,
    /// Nobody can reach it.
    Unreachable,
}

impl Verdict {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Reachable => "reachable",
            Self::Filtered => "filtered",
            Self::Unreachable => "unreachable",
        }
    }

    const fn of(state: State) -> Self {
        match state {
            State::Open => Self::Reachable,
            State::Filtered => Self::Filtered,
            State::Closed => Self::Unreachable,
        }
    }

    /// Whether there is evidence of the kind that it takes.
    fn has_grounds(self, evidence: &Evidence) -> bool {
        match self {
            Self::Unknown => false,
            Self::Reachable => evidence.is_proven(),
            Self::Filtered => evidence.is_proven() && evidence.has_failure(),
            Self::Unreachable => evidence.has_failure(),
        }
    }

    /// The probability that it is right.
    pub(crate) fn confidence(self, posterior: &Posterior) -> f64 {
        match self {
            Self::Unknown => posterior.states().into_iter().fold(0.0, f64::max),
            Self::Reachable => posterior.of(State::Open),
            Self::Filtered => posterior.of(State::Filtered),
            Self::Unreachable => posterior.of(State::Closed),
        }
    }
}

/// What may still be heard about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// A server is worth asking, now or soon, or is being asked.
    pub(crate) someone_left: bool,
    /// A server that has proven the address was not heard since it was contradicted, and can be.
    pub(crate) prover_left: bool,
    /// Servers had time to appear: what all of them say may be taken for the whole.
    pub(crate) patience_over: bool,
    /// How many IP groups have to prove it.
    pub(crate) groups_needed: usize,
}

/// The verdict that stands, and how it came to stand.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    verdict: Verdict,
    since: Instant,
    decided_at: Option<Instant>,
    /// When the first outcome came that speaks against the verdict, while it is in doubt.
    contradicted_at: Option<Instant>,
    /// How probable the verdict was after the last outcome that agreed with it; 1 if none has since it was set, so that it is
    /// in doubt below 0.95.
    agreed: f64,
    changes: VecDeque<Instant>,
    turns: Turns,
}

impl Standing {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            verdict: Verdict::Unknown,
            since: now,
            decided_at: None,
            contradicted_at: None,
            agreed: 1.0,
            changes: VecDeque::new(),
            turns: Turns::default(),
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// When the first verdict was reached.
    pub(crate) fn decided_at(&self) -> Option<Instant> {
        self.decided_at
    }

    pub(crate) fn is_decided(&self) -> bool {
        self.verdict != Verdict::Unknown
    }

    pub(crate) fn contradicted_at(&self) -> Option<Instant> {
        self.contradicted_at
    }

    /// Forgets the verdict, not that the address was unstable.
    pub(crate) fn clear(&mut self, now: Instant) {
        *self = Self {
            decided_at: self.decided_at,
            changes: std::mem::take(&mut self.changes),
            turns: std::mem::take(&mut self.turns),
            ..Self::new(now)
        };
    }

    /// An outcome came in at `at`, after which the belief is `posterior`. A verdict is in doubt from the first outcome
    /// that speaks against it and makes it less probable by a twentieth, until one for it comes in while it is likely.
    pub(crate) fn hear(
        &mut self,
        agrees: bool,
        evidence: &Evidence,
        posterior: &Posterior,
        at: Instant,
    ) {
        // What has no grounds left is no verdict to be doubted.
        if !self.is_decided() || !self.verdict.has_grounds(evidence) {
            return;
        }
        let confidence = self.verdict.confidence(posterior);
        if agrees && confidence > UNLIKELY {
            self.contradicted_at = None;
            self.agreed = confidence;
        } else if !agrees
            && confidence < self.agreed * (1.0 - DOUBT)
            && self.contradicted_at.is_none()
        {
            self.contradicted_at = Some(at);
        }
    }

    /// What is unsettled stays with the verdict that it had.
    pub(crate) fn settle(&mut self) {
        self.contradicted_at = None;
    }

    /// The verdict that the belief amounts to; the standing one where it does not suffice for another.
    pub(crate) fn judge(
        &self,
        evidence: &Evidence,
        posterior: &Posterior,
        outlook: Outlook,
        now: Instant,
    ) -> Verdict {
        let likeliest = State::ALL
            .into_iter()
            .max_by(|a, b| posterior.of(*a).total_cmp(&posterior.of(*b)));
        let Some(state) = likeliest.filter(|state| {
            let verdict = Verdict::of(*state);
            let proven =
                verdict != Verdict::Reachable || evidence.proving_groups() >= outlook.groups_needed;
            verdict.has_grounds(evidence) && proven
        }) else {
            return self.verdict;
        };
        let (verdict, probability) = (Verdict::of(state), posterior.of(state));
        let is_too_soon =
            verdict == Verdict::Unreachable && Self::fresh_until(evidence, now).is_some();
        if verdict == self.verdict || is_too_soon || self.held_until(now).is_some() {
            return self.verdict;
        }
        // A verdict whose grounds have expired is no better than none.
        let stands = self.is_decided() && self.verdict.has_grounds(evidence);
        let exhausted = !outlook.someone_left && outlook.patience_over;
        // Before a yes becomes a no, whoever has proven it is asked.
        let waits = self.verdict == Verdict::Reachable && outlook.prover_left;
        let suffices = if stands {
            let left = self.verdict.confidence(posterior);
            left <= REFUTED || exhausted && left <= UNLIKELY
        } else {
            probability >= SURE || exhausted
        };
        if suffices && !waits {
            verdict
        } else {
            self.verdict
        }
    }

    /// Until when the newest proof is fresh.
    pub(crate) fn fresh_until(evidence: &Evidence, now: Instant) -> Option<Instant> {
        let until = evidence.newest_proof().map(|at| at + FRESH);
        until.filter(|until| now < *until)
    }

    /// Puts `verdict` in place of the standing one. `true` if it is another.
    pub(crate) fn set(&mut self, verdict: Verdict, now: Instant) -> bool {
        if self.verdict == verdict {
            return false;
        }
        if self.is_decided() {
            self.changes.push_back(now);
            if self.changes.len() > 2 * UNSTABLE_CHANGES {
                self.changes.pop_front();
            }
        }
        self.verdict = verdict;
        self.since = now;
        self.contradicted_at = None;
        self.agreed = 1.0;
        if self.decided_at.is_none() && verdict != Verdict::Unknown {
            self.decided_at = Some(now);
        }
        true
    }

    fn recent_changes(&self, now: Instant) -> usize {
        self.changes
            .iter()
            .filter(|at| now.saturating_duration_since(**at) < UNSTABLE_WITHIN)
            .count()
    }

    /// A server that is able to dial the address has answered.
    pub(crate) fn note_answer(
        &mut self,
        success: bool,
        vantage: Vantage,
        group: IpGroup,
        now: Instant,
    ) {
        self.turns.note(success, vantage, group, now);
    }

    /// Whether the verdict keeps changing, or the answers do.
    pub(crate) fn is_unstable(&self, now: Instant) -> bool {
        self.recent_changes(now) >= UNSTABLE_CHANGES || self.turns.is_unstable()
    }

    /// When there have no longer been too many changes, if there is no other.
    pub(crate) fn unstable_until(&self, now: Instant) -> Option<Instant> {
        let recent = self.recent_changes(now);
        let at = self.changes.len().checked_sub(UNSTABLE_CHANGES)?;
        (recent >= UNSTABLE_CHANGES)
            .then(|| self.changes.get(at).map(|at| *at + UNSTABLE_WITHIN))
            .flatten()
    }

    /// Until when the verdict of an unstable address stands, whatever is heard (as RFC 2439 damps routes that flap).
    pub(crate) fn held_until(&self, now: Instant) -> Option<Instant> {
        // A verdict that has stood from the start may be wrong, and is not kept.
        let flaps = self.turns.is_unstable() && self.recent_changes(now) >= 2;
        let hold = if flaps {
            LONGEST_HOLD
        } else {
            let extra = self.recent_changes(now).checked_sub(UNSTABLE_CHANGES)?;
            let extra = u32::try_from(extra).unwrap_or(u32::MAX);
            doubled(HOLD, extra, LONGEST_HOLD)
        };
        Some(self.since + hold).filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests;
