//! What evidence amounts to: the verdict on one address, and how it is overturned.
//!
//! A first verdict needs a score beyond the threshold, or the word of all servers where there are few. A standing one
//! is not overturned by a single outcome: a surprise opens a challenge, in which only what is heard from then on counts,
//! and which a second contradiction has to confirm.

use std::time::Duration;

use web_time::Instant;

use crate::reachability::{
    evidence::{Evidence, Finding, THRESHOLD, Tally, WINDOW, Witness},
    vantage::Vantage,
};

/// After this time a witness may confirm its own surprise.
pub(crate) const SECOND_LOOK: Duration = Duration::from_secs(10);
/// For how long after the first word those are waited for that have not answered: until the pace lets each be asked, and a
/// request with several addresses be answered.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(90);
/// How many servers must agree before an address is left alone, where there are so many.
const MARGIN: usize = 3;
/// The score at which failures decide while others are still to be heard, if all are by servers of unknown ability. These
/// fail together, where many have the same reason to be unable to dial: four in a row prove less than their weights.
const HEARSAY: f64 = -6.0;
/// The score at which failures alone are margin enough.
const SURE: f64 = 2.0 * THRESHOLD;

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
}

/// What may still be heard about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outlook {
    /// A probe is under way, or there is a server that can be asked now or soon and has not answered in this round.
    pub(crate) servers_left: bool,
    /// One of them would dial from an IP that was never contacted.
    pub(crate) independents_left: bool,
    /// One of them is in a neighbourhood that has not been heard.
    pub(crate) neighbourhoods_left: bool,
    /// One of them has dialed this transport and family before.
    pub(crate) able_left: bool,
    /// Servers had time to appear: what all of them say may be taken for the whole.
    pub(crate) patience_over: bool,
}

/// The verdict that stands, and what was heard against it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    verdict: Verdict,
    since: Instant,
    decided_at: Option<Instant>,
    challenge: Option<Challenge>,
}

#[derive(Debug, Clone, Copy)]
struct Challenge {
    since: Instant,
    contradictions: usize,
    agreements: usize,
    last: (Witness, Instant),
    /// How many servers were heard in it; one that has fallen out of the window counts again.
    heard: usize,
    /// Someone was heard after the time for the second look and did not confirm the surprise.
    looked_again: bool,
}

/// What a finding says about the standing verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    For,
    Against,
    /// Agrees, but is no reason to drop a surprise: a failure by a server that may be unable to dial, or a success that
    /// a filter lets through.
    Neutral,
}

fn voice(verdict: Verdict, finding: Finding) -> Voice {
    match (verdict, finding) {
        (Verdict::Unknown, _) => Voice::Neutral,
        (Verdict::Reachable, Finding::Failure { .. })
        | (Verdict::Unreachable, Finding::Proof(_) | Finding::Inferred)
        | (Verdict::Filtered, Finding::Proof(Vantage::Independent) | Finding::Inferred)
        | (
            Verdict::Filtered,
            Finding::Failure {
                independent: false, ..
            },
        ) => Voice::Against,
        (Verdict::Reachable, Finding::Proof(_) | Finding::Inferred)
        | (Verdict::Unreachable | Verdict::Filtered, Finding::Failure { able: true, .. }) => {
            Voice::For
        }
        (Verdict::Unreachable | Verdict::Filtered, Finding::Failure { able: false, .. })
        | (Verdict::Filtered, Finding::Proof(Vantage::Contacted)) => Voice::Neutral,
    }
}

impl Standing {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            verdict: Verdict::Unknown,
            since: now,
            decided_at: None,
            challenge: None,
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

    pub(crate) fn is_proven(&self) -> bool {
        self.verdict == Verdict::Reachable
    }

    pub(crate) fn is_decided(&self) -> bool {
        self.verdict != Verdict::Unknown
    }

    pub(crate) fn is_challenged(&self) -> bool {
        self.challenge.is_some()
    }

    /// More than one outcome speaks against the verdict.
    pub(crate) fn is_challenged_by_many(&self) -> bool {
        self.challenge
            .is_some_and(|challenge| challenge.contradictions > 1)
    }

    /// From when on outcomes count in the present round.
    pub(crate) fn round(&self) -> Option<Instant> {
        self.challenge.map(|challenge| challenge.since)
    }

    /// Whether as many were heard in the present round as count. Who has fallen out of the window would be asked again and
    /// again otherwise.
    pub(crate) fn is_round_full(&self, evidence: &Evidence) -> bool {
        self.challenge
            .map_or(evidence.servers(), |challenge| challenge.heard)
            >= WINDOW
    }

    /// Whether others have had their time to settle a challenge.
    pub(crate) fn has_waited(&self, now: Instant) -> bool {
        self.round()
            .is_some_and(|since| since + LONGEST_WAIT <= now)
    }

    /// When the one witness that contradicts may be heard again. Once only: a challenge that is still open after it waits
    /// for the next recheck.
    pub(crate) fn second_look_at(&self) -> Option<Instant> {
        self.challenge
            .filter(|challenge| challenge.contradictions < 2 && !challenge.looked_again)
            .map(|challenge| challenge.last.1 + SECOND_LOOK)
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self, now: Instant) {
        *self = Self {
            decided_at: self.decided_at,
            ..Self::new(now)
        };
    }

    /// Notes for or against the standing verdict what a witness found, for the first time in this round or `again`.
    pub(crate) fn hear(&mut self, witness: Witness, finding: Finding, again: bool, at: Instant) {
        if self.verdict == Verdict::Unknown {
            return;
        }
        let voice = voice(self.verdict, finding);
        let of_server = usize::from(witness != Witness::Stranger);
        let Some(challenge) = &mut self.challenge else {
            if voice == Voice::Against {
                self.challenge = Some(Challenge {
                    since: at,
                    contradictions: 1,
                    agreements: 0,
                    last: (witness, at),
                    heard: of_server,
                    looked_again: false,
                });
            }
            return;
        };
        challenge.heard += if again { 0 } else { of_server };
        let (last, heard) = challenge.last;
        let later = at.saturating_duration_since(heard) >= SECOND_LOOK;
        match voice {
            Voice::Against if last != witness || later => {
                challenge.contradictions += 1;
                challenge.last = (witness, at);
                challenge.looked_again = false;
            }
            Voice::Against => {}
            Voice::Neutral => challenge.looked_again |= later,
            Voice::For => {
                challenge.looked_again |= later;
                challenge.agreements += 1;
                let refuted = self.verdict == Verdict::Reachable
                    || challenge.agreements >= challenge.contradictions + 2;
                if refuted {
                    self.challenge = None;
                }
            }
        }
    }

    /// The verdict that `evidence` amounts to; the standing one where it does not suffice for another.
    pub(crate) fn judge(&self, evidence: &Evidence, outlook: Outlook, now: Instant) -> Verdict {
        let whole = evidence.tally(None, outlook.neighbourhoods_left);
        let fresh_proof = evidence.fresh_until().is_some_and(|until| now < until);
        // One operator's servers don't make a filter.
        let voted = evidence.tally(None, true);
        let independents_heard =
            !outlook.independents_left || voted.independent_score() <= -THRESHOLD;
        let filtered = if self.is_decided() {
            voted.independent_failures >= 2 && !fresh_proof
        } else {
            independents_heard
        };
        if voted.is_filtered() && filtered {
            return Verdict::Filtered;
        }
        match self.challenge {
            None if self.is_decided() => self.verdict,
            None => decide(whole, outlook, true, fresh_proof).unwrap_or(self.verdict),
            Some(challenge) if challenge.contradictions < 2 => self.verdict,
            Some(challenge) => {
                let tally = evidence.tally(Some(challenge.since), outlook.neighbourhoods_left);
                // The few that are left may never have dialed this transport: their word alone does not outweigh proof, while
                // there is any.
                let few_suffice = self.verdict != Verdict::Reachable || !evidence.was_proven();
                // One of those that can tell had bad luck, others fail for reasons of their own, however many: ask the rest that
                // can tell.
                if !few_suffice && outlook.able_left && tally.able_failures < 2 {
                    return self.verdict;
                }
                decide(tally, outlook, few_suffice, fresh_proof).unwrap_or(self.verdict)
            }
        }
    }

    /// Puts `verdict` in place of the standing one. `true` if it is another.
    pub(crate) fn set(&mut self, verdict: Verdict, now: Instant) -> bool {
        if self.verdict == verdict {
            return false;
        }
        self.verdict = verdict;
        self.since = now;
        self.challenge = None;
        if self.decided_at.is_none() && verdict != Verdict::Unknown {
            self.decided_at = Some(now);
        }
        true
    }

    /// Whether enough servers agree with the verdict to leave the address alone.
    pub(crate) fn has_margin(&self, evidence: &Evidence) -> bool {
        let tally = evidence.tally(None, false);
        match self.verdict {
            Verdict::Unknown => false,
            Verdict::Reachable => tally.proofs >= MARGIN,
            Verdict::Filtered => tally.proofs + tally.independent_failures >= MARGIN,
            Verdict::Unreachable => tally.failures >= MARGIN && tally.score <= -SURE,
        }
    }
}

fn decide(tally: Tally, outlook: Outlook, few_suffice: bool, fresh_proof: bool) -> Option<Verdict> {
    let exhausted = !outlook.servers_left;
    if tally.proofs > 0
        && (tally.score >= THRESHOLD || exhausted && (tally.score > 0.0 || fresh_proof))
    {
        let wait = tally.independent_proofs == 0 && outlook.independents_left;
        return (!wait).then_some(Verdict::Reachable);
    }
    if fresh_proof {
        return None;
    }
    let unanimous = few_suffice
        && exhausted
        && outlook.patience_over
        && tally.proofs == 0
        && tally.failures > 0
        && tally.score < 0.0;
    let enough = if tally.able_failures > 0 {
        -THRESHOLD
    } else {
        HEARSAY
    };
    (tally.score <= enough || unanimous).then_some(Verdict::Unreachable)
}

#[cfg(test)]
mod tests {
    use libp2p_identity::PeerId;

    use super::*;

    const OUTLOOK: Outlook = Outlook {
        servers_left: true,
        independents_left: false,
        neighbourhoods_left: false,
        able_left: false,
        patience_over: true,
    };

    fn failure(able: bool) -> Finding {
        Finding::Failure {
            able,
            independent: false,
        }
    }

    #[test]
    fn bad_luck_of_one_and_inability_of_others_overturn_nothing_while_one_that_can_tell_is_left() {
        let start = Instant::now();
        let mut standing = Standing::new(start);
        let mut evidence = Evidence::default();
        let mut hear = |standing: &mut Standing, finding, at| {
            let witness = Witness::Server(PeerId::random());
            standing.hear(witness, finding, false, at);
            evidence.record(witness, None, finding, at);
            evidence.clone()
        };
        let proof = Finding::Proof(Vantage::Contacted);
        hear(&mut standing, proof, start);
        standing.set(Verdict::Reachable, start);

        let now = start + Duration::from_secs(60);
        hear(&mut standing, failure(true), now);
        let evidence = hear(&mut standing, failure(false), now);
        let able_left = Outlook {
            able_left: true,
            ..OUTLOOK
        };
        assert_eq!(
            standing.judge(&evidence, able_left, now),
            Verdict::Reachable
        );
        assert_eq!(
            standing.judge(&evidence, OUTLOOK, now),
            Verdict::Unreachable
        );
    }

    /// Found in the laboratory, on a machine too busy for one server's dial: four of five servers that cannot dial did the rest.
    #[test]
    fn any_number_of_servers_without_ability_adds_nothing_to_the_bad_luck_of_one_that_can_tell() {
        let start = Instant::now();
        let mut standing = Standing::new(start);
        standing.set(Verdict::Reachable, start);
        let mut evidence = Evidence::default();
        let proof = Finding::Proof(Vantage::Contacted);
        evidence.record(Witness::Server(PeerId::random()), None, proof, start);
        for able in [true, false, false, false, false, false] {
            let witness = Witness::Server(PeerId::random());
            standing.hear(witness, failure(able), false, start);
            evidence.record(witness, None, failure(able), start);
        }
        let able_left = Outlook {
            able_left: true,
            ..OUTLOOK
        };
        let later = start + Duration::from_secs(10);
        assert_eq!(
            standing.judge(&evidence, able_left, later),
            Verdict::Reachable
        );
    }

    #[test]
    fn a_filter_is_not_seen_within_five_seconds_of_a_proof_nor_by_one_network() {
        let network = |n: u8| {
            let ip = std::net::Ipv4Addr::new(20, n, 0, 1);
            Some(crate::address::neighbourhood(ip.into(), 16, 32))
        };
        let start = Instant::now();
        for networks in [1, 2] {
            let mut standing = Standing::new(start);
            standing.set(Verdict::Reachable, start);
            let mut evidence = Evidence::default();
            let proof = Finding::Proof(Vantage::Contacted);
            evidence.record(Witness::Server(PeerId::random()), network(9), proof, start);
            let failure = Finding::Failure {
                able: false,
                independent: true,
            };
            for n in 0..2 {
                let witness = Witness::Server(PeerId::random());
                standing.hear(witness, failure, false, start);
                evidence.record(witness, network(n % networks), failure, start);
            }
            let soon = start + Duration::from_millis(4_900);
            let later = start + Duration::from_millis(5_100);
            assert_eq!(standing.judge(&evidence, OUTLOOK, soon), Verdict::Reachable);
            let seen = standing.judge(&evidence, OUTLOOK, later) == Verdict::Filtered;
            assert_eq!(seen, networks == 2);
        }
    }

    #[test]
    fn bad_luck_of_the_only_one_that_proved_it_overturns_nothing_while_another_that_can_tell_is_left()
     {
        let start = Instant::now();
        let mut standing = Standing::new(start);
        let mut evidence = Evidence::default();
        let prover = Witness::Server(PeerId::random());
        evidence.record(prover, None, Finding::Proof(Vantage::Contacted), start);
        standing.set(Verdict::Reachable, start);
        let now = start + Duration::from_secs(60);
        for (witness, able) in [(prover, true), (Witness::Server(PeerId::random()), false)] {
            standing.hear(witness, failure(able), false, now);
            evidence.record(witness, None, failure(able), now);
        }
        let able_left = Outlook {
            able_left: true,
            ..OUTLOOK
        };
        assert_eq!(
            standing.judge(&evidence, able_left, now),
            Verdict::Reachable
        );
    }

    #[test]
    fn two_that_can_tell_overturn_it() {
        let start = Instant::now();
        let mut standing = Standing::new(start);
        standing.set(Verdict::Reachable, start);
        let mut evidence = Evidence::default();
        for _ in 0..2 {
            let witness = Witness::Server(PeerId::random());
            standing.hear(witness, failure(true), false, start);
            evidence.record(witness, None, failure(true), start);
        }
        let able_left = Outlook {
            able_left: true,
            ..OUTLOOK
        };
        assert_eq!(
            standing.judge(&evidence, able_left, start),
            Verdict::Unreachable
        );
    }
}
