//! What is known about one address: the newest outcome of each witness, weighed as log-odds.
//!
//! A verified dial-back is proof: the nonce came back, so the address works. A failure is hearsay: the server may be
//! unable to dial that transport, or lie. The weights are the logarithms of likelihood ratios under a model in which
//! an able server's dial fails for its own reasons in 2% of cases and that of a server of unknown ability in a third,
//! while a success through an unreachable address happens in 0.5%. Nothing here knows a clock: time comes in with
//! each call.

use std::time::Duration;

use libp2p_identity::PeerId;
use web_time::Instant;

use crate::{address::Neighbourhood, reachability::Vantage};

/// Natural log-odds of a verified dial-back: ln(0.75 / 0.005).
pub(crate) const PROOF: f64 = 5.0;
/// A failed dial by a server that has shown that it can dial this transport and family: ln(0.02 / 0.98).
pub(crate) const PROVEN_FAILURE: f64 = -4.0;
/// A failed dial by any other server: ln(0.33 / 0.99).
pub(crate) const FAILURE: f64 = -1.0;
/// A stranger's connection to a listener behind a NAT, where the address that it dialed can only be inferred.
pub(crate) const INFERRED: f64 = 2.0;
/// The score at which a verdict is reached, in either direction: a posterior of 98%.
pub(crate) const THRESHOLD: f64 = 4.0;
/// How many outcomes are kept for one address.
pub(crate) const WINDOW: usize = 8;
/// How many proofs from contacted IPs stay when there is no room.
const KEPT_PROOFS: usize = 3;
/// For how long hearsay alone can't decide against a proof.
const FRESH: Duration = Duration::from_secs(5);
/// Weight of failures seen from independent vantages at which successes from contacted ones are put down to filtering.
const FILTERED: f64 = -2.0;

/// Who an outcome comes from. One witness has one vote, its newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Witness {
    Server(PeerId),
    /// Whoever connected unasked. All strangers together are one witness, so that a crowd can't push servers out.
    Stranger,
}

/// What a witness found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A connection came in on the address, from this vantage.
    Proof(Vantage),
    /// A connection came in on the listener that the address seems to be mapped to, from an IP never contacted.
    Inferred,
    /// The server says that its dial failed.
    Failure {
        /// It has dialed this transport and family before.
        able: bool,
        /// It would have dialed from an IP never contacted.
        independent: bool,
    },
}

impl Finding {
    fn weight(self) -> f64 {
        match self {
            Self::Proof(_) => PROOF,
            Self::Inferred => INFERRED,
            Self::Failure { able: true, .. } => PROVEN_FAILURE,
            Self::Failure { able: false, .. } => FAILURE,
        }
    }

    pub(crate) fn is_failure(self) -> bool {
        matches!(self, Self::Failure { .. })
    }
}

#[derive(Debug, Clone, Copy)]
struct Outcome {
    witness: Witness,
    /// Servers of whom none is known are taken for one operator's.
    neighbourhood: Option<Neighbourhood>,
    finding: Finding,
    at: Instant,
}

/// The outcomes that count for one address, oldest first, at most [`WINDOW`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    outcomes: Vec<Outcome>,
    oldest: Option<Instant>,
    /// When the newest proof came in, whatever its witness found since.
    newest_proof: Option<Instant>,
}

/// The sum of a window of evidence.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) score: f64,
    pub(crate) proofs: usize,
    pub(crate) independent_proofs: usize,
    pub(crate) failures: usize,
    /// Those by servers that have shown that they can dial.
    pub(crate) able_failures: usize,
    pub(crate) independent_failures: usize,
    independent_score: f64,
}

impl Tally {
    /// Whether successes from contacted IPs stand against failures from IPs never contacted: address-dependent filtering.
    pub(crate) fn is_filtered(&self) -> bool {
        self.proofs > 0 && self.independent_proofs == 0 && self.independent_score <= FILTERED
    }

    /// The score of the failures seen from independent vantages alone.
    pub(crate) fn independent_score(&self) -> f64 {
        self.independent_score
    }
}

impl Evidence {
    /// Takes in an outcome, in place of the older one of the same witness.
    pub(crate) fn record(
        &mut self,
        witness: Witness,
        neighbourhood: Option<Neighbourhood>,
        finding: Finding,
        at: Instant,
    ) {
        let before = self.outcomes.iter().find(|o| o.witness == witness);
        let finding = match (before.map(|o| o.finding), finding) {
            // Its first dial-back made its IP a contacted one: that takes nothing from what it has shown.
            (Some(Finding::Proof(before)), Finding::Proof(vantage)) => {
                Finding::Proof(before.max(vantage))
            }
            _ => finding,
        };
        if matches!(finding, Finding::Proof(_)) {
            self.newest_proof = self.newest_proof.max(Some(at));
        }
        self.outcomes.retain(|o| o.witness != witness);
        if self.outcomes.len() >= WINDOW {
            self.outcomes.remove(self.least());
        }
        self.outcomes.push(Outcome {
            witness,
            neighbourhood,
            finding,
            at,
        });
        self.note_oldest();
    }

    fn note_oldest(&mut self) {
        self.oldest = self.outcomes.iter().map(|o| o.at).min();
    }

    /// Which outcome gives way to a new one: the oldest of the kind that says least. Hearsay goes first, so that no
    /// number of servers that can't dial pushes a proof out; but hearsay that shows a filter stays while there are
    /// proofs to spare.
    fn least(&self) -> usize {
        let contacted = Finding::Proof(Vantage::Contacted);
        let spare = self
            .outcomes
            .iter()
            .filter(|o| o.finding == contacted)
            .count()
            > KEPT_PROOFS;
        let worth = |finding| match finding {
            Finding::Failure {
                able: false,
                independent: false,
            } => 0,
            Finding::Proof(Vantage::Contacted) if spare => 1,
            Finding::Failure {
                able: false,
                independent: true,
            } => 2,
            _ => 3,
        };
        let least = self
            .outcomes
            .iter()
            .enumerate()
            .min_by_key(|(_, o)| worth(o.finding));
        least.map_or(0, |(at, _)| at)
    }

    pub(crate) fn expire(&mut self, now: Instant, lifetime: Duration) {
        self.outcomes
            .retain(|o| now.saturating_duration_since(o.at) < lifetime);
        self.newest_proof = self
            .newest_proof
            .filter(|at| now.saturating_duration_since(*at) < lifetime);
        self.note_oldest();
    }

    /// Drops what was heard before `since`.
    pub(crate) fn forget_before(&mut self, since: Instant) {
        self.outcomes.retain(|o| o.at >= since);
        self.note_oldest();
    }

    /// Until when failures can't decide against the newest proof.
    pub(crate) fn fresh_until(&self) -> Option<Instant> {
        self.newest_proof.map(|at| at + FRESH)
    }

    /// Whether there was a proof that has not expired, whatever its witness found since.
    pub(crate) fn was_proven(&self) -> bool {
        self.newest_proof.is_some()
    }

    /// When the oldest outcome came in.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.oldest
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// The servers that have an outcome here that is not older than `since`, at most [`WINDOW`].
    pub(crate) fn servers_since(
        &self,
        since: Option<Instant>,
    ) -> impl Iterator<Item = PeerId> + '_ {
        self.outcomes
            .iter()
            .filter(move |o| since.is_none_or(|since| o.at >= since))
            .filter_map(|o| match o.witness {
                Witness::Server(server) => Some(server),
                Witness::Stranger => None,
            })
    }

    /// Whether a server from there has an outcome here that is not older than `since`.
    pub(crate) fn has_neighbourhood(
        &self,
        neighbourhood: Option<Neighbourhood>,
        since: Option<Instant>,
    ) -> bool {
        self.outcomes.iter().any(|o| {
            matches!(o.witness, Witness::Server(_))
                && o.neighbourhood == neighbourhood
                && since.is_none_or(|since| o.at >= since)
        })
    }

    pub(crate) fn servers(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|o| matches!(o.witness, Witness::Server(_)))
            .count()
    }

    /// The servers whose newest outcome is a failure that a proof from `vantage` shows to be their own.
    pub(crate) fn failed_servers(&self, vantage: Vantage) -> impl Iterator<Item = PeerId> + '_ {
        self.outcomes
            .iter()
            .filter(move |o| match o.finding {
                // A filter lets in those that were contacted, and keeps the others out.
                Finding::Failure { independent, .. } => {
                    !independent || vantage == Vantage::Independent
                }
                Finding::Proof(_) | Finding::Inferred => false,
            })
            .filter_map(|o| match o.witness {
                Witness::Server(server) => Some(server),
                Witness::Stranger => None,
            })
    }

    /// The best vantage that a proof came from.
    pub(crate) fn vantage(&self) -> Option<Vantage> {
        self.outcomes
            .iter()
            .filter_map(|o| match o.finding {
                Finding::Proof(vantage) => Some(vantage),
                Finding::Inferred => Some(Vantage::Independent),
                Finding::Failure { .. } => None,
            })
            .max()
    }

    /// Sums what was heard since `since`. With `one_vote_each`, a neighbourhood has one vote: that of its proof, or of
    /// its newest outcome.
    pub(crate) fn tally(&self, since: Option<Instant>, one_vote_each: bool) -> Tally {
        let mut tally = Tally::default();
        for (i, outcome) in self.outcomes.iter().enumerate() {
            if since.is_some_and(|since| outcome.at < since) {
                continue;
            }
            if one_vote_each && self.is_outvoted(i, since) {
                continue;
            }
            let weight = outcome.finding.weight();
            tally.score += weight;
            match outcome.finding {
                Finding::Proof(vantage) => {
                    tally.proofs += 1;
                    if vantage == Vantage::Independent {
                        tally.independent_proofs += 1;
                    }
                }
                Finding::Inferred => tally.independent_proofs += 1,
                Finding::Failure { able, independent } => {
                    tally.failures += 1;
                    tally.able_failures += usize::from(able);
                    if independent {
                        tally.independent_failures += 1;
                        tally.independent_score += weight;
                    }
                }
            }
        }
        tally
    }

    /// Whether another outcome speaks for the neighbourhood of outcome `i`.
    fn is_outvoted(&self, i: usize, since: Option<Instant>) -> bool {
        let this = &self.outcomes[i];
        if this.witness == Witness::Stranger {
            return false;
        }
        self.outcomes.iter().enumerate().any(|(j, other)| {
            j != i
                && other.witness != Witness::Stranger
                && other.neighbourhood == this.neighbourhood
                && since.is_none_or(|since| other.at >= since)
                && match (this.finding.is_failure(), other.finding.is_failure()) {
                    (true, false) => true,
                    (false, true) => false,
                    _ => j > i,
                }
        })
    }
}

/// The posterior probability that the address is reachable, from a log-odds score and even prior odds.
pub(crate) fn posterior(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

#[cfg(test)]
mod tests;
