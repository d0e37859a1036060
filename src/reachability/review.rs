//! Looks at an address again after something was heard about it: how many IP groups must have proven it, how long a verdict
//! waits for other servers, and which verdict follows. What follows from the verdict is in files of its own: what the addresses
//! on the same socket inherit (`siblings`), what is confirmed to the swarm (`announce`), what all verdicts amount to (`summary`),
//! and what the application is told (`report`).
//!
//! When a belief suffices is for [`verdict`](super::verdict) to say, and who is still worth asking for
//! [`prospects`](super::prospects).

use std::time::Duration;

use web_time::Instant;

use crate::reachability::{
    Obstacle, Reachability, Verdict, belief,
    candidates::{AddressId, Candidate},
    prospects::{Again, LONGEST_WAIT, Look, Prospects, Question, Survey, Wanted},
    schedule::Circumstances,
    servers::WANTED_SERVERS,
    verdict::{Outlook, Standing},
};

mod announce;

mod judged;
pub(crate) use judged::{Entry, Judged};

mod report;
mod siblings;
mod summary;

mod wake;
pub(crate) use wake::{ServersWanted, Wake};

/// How long after the last server came those that are known are taken for all there are: with one, with two, and with more.
/// Peers connect one after the other, and the first to come is not all of them.
const PATIENCE: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(2),
    Duration::from_millis(500),
];
/// The same where there is a proof, by the pace at which servers come: what is missing then is one that would tell of a filter.
/// Where two servers of seven can, the first verdict misses them in 5.7% of the simulator's runs. With at least 500 ms it would
/// be 7.8%, and with four times the longest gap 8.8%.
const PATIENCE_WITH_PROOF: [Duration; 2] = [Duration::from_millis(600), Duration::from_secs(2)];
/// For how long after the first word servers are waited for that are paced or put off for a moment, while there is no proof:
/// until the pace lets each be asked.
const LONGEST_PACE: Duration = Duration::from_secs(90);

impl Reachability {
    pub(super) fn prior(&self, id: AddressId) -> [f64; 3] {
        self.candidates
            .get(id)
            .map_or([1.0 / 3.0; 3], |candidate| belief::prior(candidate.sources))
    }

    pub(super) fn survey(&self, now: Instant) -> Survey<'_> {
        Survey {
            model: &self.model,
            servers: &self.servers,
            contacts: &self.contacts,
            dial_data: &self.dial_data,
            now,
        }
    }

    /// Who may be asked about it: those that were not heard; once it is contradicted, those that were not heard since.
    pub(super) fn again(entry: &Entry) -> Again {
        match entry.standing.contradicted_at() {
            Some(at) => Again::HeardBefore(at),
            None => Again::Never,
        }
    }

    /// How many IP groups must have proven it: one server can say that it dialed an address of which only peers speak. Where all
    /// servers are one group, its word for one of our ports is all that can be had.
    pub(super) fn groups_needed(&self, candidate: &Candidate) -> usize {
        let several = candidate.is_only_observed() || self.servers.are_of_several_groups();
        let is_doubtful = || {
            candidate.is_hearsay()
                || candidate.may_be_repeated() && self.candidates.is_contested(candidate)
        };
        if several && is_doubtful() { 2 } else { 1 }
    }

    pub(super) fn prospects(
        &self,
        id: AddressId,
        again: Again,
        look: Look,
        now: Instant,
    ) -> Prospects {
        let (Some(candidate), Some(entry)) = (self.candidates.get(id), self.judged.get(id)) else {
            return Prospects::default();
        };
        let question = Question {
            id,
            candidate,
            evidence: &entry.evidence,
            again,
        };
        let prior = self.prior(id);
        let wanted = Wanted {
            prior,
            posterior: entry.belief(&self.model, prior, now),
            // Contacted servers pass the filter whether it is still there or not.
            seeks_independent: entry.standing.verdict() == Verdict::Filtered,
            groups: self
                .groups_needed(candidate)
                .max(self.config.required_servers),
        };
        self.survey(now)
            .prospects(&question, &wanted, self.probes.about(id), look)
    }

    /// Looks at one address again after something was heard about it.
    pub(super) fn review_one(&mut self, id: AddressId, now: Instant) {
        self.review(id, now);
        self.update_summary();
    }

    /// Looks at one address again after something was heard about it, or could have been. The summary is left to the caller.
    pub(super) fn review(&mut self, id: AddressId, now: Instant) {
        let version = self.servers.version();
        let (Some(candidate), Some(entry)) = (self.candidates.get(id), self.judged.get(id)) else {
            return;
        };
        let passive = entry.inherited
            || candidate.is_withheld
            || entry.schedule.is_settled() && entry.standing.contradicted_at().is_none();
        if passive {
            self.announce(id, now);
            if let Some(entry) = self.judged.peek_mut(id) {
                entry.set_reviewed(version, None, None);
            }
            return;
        }
        let again = Self::again(entry);
        let groups_needed = self.groups_needed(candidate);
        let prior = self.prior(id);
        let Some(entry) = self.judged.peek_mut(id) else {
            return;
        };
        let posterior = entry.posterior(&self.model, prior, now);
        let prospects = self.prospects(id, again, Look::Glance, now);
        let Some(entry) = self.judged.get(id) else {
            return;
        };
        let (outlook, until) = self.outlook(entry, &prospects, groups_needed, now);
        let verdict = entry
            .standing
            .judge(&entry.evidence, &posterior, outlook, now);
        if self.set_verdict(id, verdict, now) {
            // Who is worth asking is another question now.
            self.wake.by(now, "a verdict changed");
            return;
        }
        self.settle(id, &prospects, outlook, now);
        self.announce(id, now);
        if let Some(at) = until {
            self.wake.by(at, "time may decide");
        }
        if let Some(entry) = self.judged.peek_mut(id) {
            entry.set_reviewed(version, until, Some(prospects));
        }
    }

    /// What may still be heard about an address, and when time alone changes that.
    fn outlook(
        &self,
        entry: &Entry,
        prospects: &Prospects,
        groups_needed: usize,
        now: Instant,
    ) -> (Outlook, Option<Instant>) {
        let began = entry
            .standing
            .contradicted_at()
            .or(entry.schedule.reopened_at())
            .or_else(|| entry.evidence.oldest());
        let contradicted = entry.standing.contradicted_at();
        // Who would tell of a filter is not waited for as long as who would tell whether anything gets through.
        let first_proof = !entry.standing.is_decided() && entry.evidence.is_proven();
        let longest = if first_proof {
            LONGEST_WAIT
        } else {
            LONGEST_PACE
        };
        let waits_until = began.map(|at| at + longest);
        let waited = waits_until.is_some_and(|at| at <= now);
        let patience_over_at = self.patience_over_at(entry, prospects);
        let second_look = contradicted.and_then(|_| entry.schedule.second_look_at());
        // Another server's word will do for a second one of the same.
        let heard = contradicted.map_or(0, |since| entry.evidence.servers_since(since));
        let second_look = second_look.filter(|_| heard < 2);
        let someone_left = prospects.someone_left || second_look.is_some() && prospects.to_ask > 0;
        let awaited = prospects.awaited_until.is_some_and(|at| now < at);
        let outlook = Outlook {
            someone_left: awaited || someone_left && !waited,
            prover_left: awaited && prospects.prover_awaited || prospects.prover_left && !waited,
            patience_over: patience_over_at.is_none_or(|at| at <= now),
            groups_needed,
        };
        let until = [
            patience_over_at,
            waits_until,
            prospects.awaited_until,
            second_look,
            entry.standing.held_until(now),
            Standing::fresh_until(&entry.evidence, now),
            prospects.stale_at,
        ]
        .into_iter()
        .flatten()
        .filter(|at| now < *at)
        .min();
        (outlook, until)
    }

    /// When the servers that are known may be taken for all there are. Where there are fewer than wanted, the others have time
    /// from the first word on: that word may itself have taken long on a network where all is slow.
    fn patience_over_at(&self, entry: &Entry, prospects: &Prospects) -> Option<Instant> {
        let last = self.servers.gathering().last_new()?;
        if entry.evidence.is_proven() {
            let [least, most] = PATIENCE_WITH_PROOF;
            let at = last + self.servers.gathering().patience(least, most);
            let first = entry.evidence.oldest();
            return Some(first.map_or(at, |first| at.min(first + LONGEST_WAIT)));
        }
        let first_word = entry
            .evidence
            .oldest()
            .filter(|_| !entry.standing.is_decided());
        let patience = PATIENCE[prospects.to_ask.clamp(1, PATIENCE.len()) - 1];
        let from = first_word
            .filter(|_| prospects.to_ask < WANTED_SERVERS)
            .map_or(last, |first| first.max(last));
        let at = from + patience;
        Some(first_word.map_or(at, |first| at.min(first + LONGEST_WAIT)))
    }

    /// Puts off the next check if nobody is left to ask who is worth it.
    fn settle(&mut self, id: AddressId, prospects: &Prospects, outlook: Outlook, now: Instant) {
        let in_flight = self.probes.about(id).next().is_some();
        let Some(entry) = self.judged.get(id) else {
            return;
        };
        if entry.schedule.wants_fresh() || entry.schedule.is_settled() {
            return;
        }
        let contradicted = entry.standing.contradicted_at().is_some();
        let is_waiting = contradicted && entry.schedule.second_look_at().is_some();
        let nobody_left = !outlook.someone_left && !in_flight && outlook.patience_over;
        let heard = entry.evidence.len() > 0 && prospects.to_ask > 0;
        let refused = prospects.to_ask == 0 && prospects.refusing > 0 && entry.evidence.len() == 0;
        let obstructed = entry.obstacle.is_some() && prospects.to_ask == 0;
        if !nobody_left || is_waiting || !(heard || refused || obstructed) {
            return;
        }
        if refused && entry.obstacle.is_none() {
            self.obstruct(id, Obstacle::Refused);
        }
        self.put_off(id, now);
    }

    /// Nobody is left to ask: what is unsettled stays so until the next check.
    pub(super) fn put_off(&mut self, id: AddressId, now: Instant) {
        let (Some(candidate), Some(entry)) = (self.candidates.get(id), self.judged.get_mut(id))
        else {
            return;
        };
        entry.standing.settle();
        let circumstances = Circumstances {
            first_seen: candidate.first_seen,
            is_unstable: entry.standing.is_unstable(now),
            price: self.servers.price(),
        };
        entry.schedule.settle(circumstances, now, &self.config);
        if let Some(at) = entry.schedule.recheck_at() {
            self.wake.by(at, "a recheck");
        }
    }

    /// A server has come: addresses about which it may have something to say are asked about again.
    pub(super) fn reopen_for(&mut self, peer: &libp2p_identity::PeerId, now: Instant) {
        let Some(server) = self.servers.get(peer) else {
            return;
        };
        let survey = self.survey(now);
        let mut open = Vec::new();
        for (id, candidate) in self.candidates.iter() {
            let Some(entry) = self.judged.get(id) else {
                continue;
            };
            if !entry.schedule.is_settled() || entry.inherited || candidate.is_withheld {
                continue;
            }
            let question = Question {
                id,
                candidate,
                evidence: &entry.evidence,
                again: Again::Never,
            };
            let news = match entry.last_posterior() {
                Some(posterior) => survey.has_news(server, &question, posterior),
                None => survey.suits(server, &question),
            };
            if news {
                open.push(id);
            }
        }
        for id in open {
            if let Some(entry) = self.judged.get_mut(id) {
                entry.schedule.reopen(now);
            }
        }
    }

    /// `true` if it is another than the one that stood.
    fn set_verdict(&mut self, id: AddressId, verdict: Verdict, now: Instant) -> bool {
        let Some(entry) = self.judged.get_mut(id) else {
            return false;
        };
        let old = entry.standing.verdict();
        let first = !entry.standing.is_decided();
        let contradicted_at = entry.standing.contradicted_at();
        if !entry.standing.set(verdict, now) {
            return false;
        }
        if !first {
            entry.schedule.restart_interval();
        }
        // The model knows of one change within the window. Now that it is taken for a fact, the next one must have room. That
        // a filter lets some in is no change for these.
        if let Some(since) = contradicted_at.filter(|_| verdict != Verdict::Filtered) {
            entry.evidence.forget_before(since);
        }
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.is_reachable = verdict == Verdict::Reachable;
            candidate.is_refuted = matches!(verdict, Verdict::Unreachable | Verdict::Filtered);
            if candidate.is_reachable && candidate.is_only_observed() {
                self.suspect_other_ports(id, now);
            }
        }
        self.announce(id, now);
        self.tell_verdict(id, old, now);
        self.update_summary();
        self.tell_stability(id, now);
        self.share_with_siblings(id, now);
        true
    }

    /// The NAT maps a listener to the port of `proven`: what was proven of other ports may be over.
    fn suspect_other_ports(&mut self, proven: AddressId, now: Instant) {
        let Some((ip, class)) = self.candidates.get(proven).map(|it| (it.ip(), it.class)) else {
            return;
        };
        let mut others = Vec::new();
        for (id, other) in self.candidates.iter() {
            let alike = other.class == class && other.ip() == ip && id != proven;
            if alike && other.is_reachable && other.is_only_observed() {
                others.push(id);
            }
        }
        for id in others {
            if let Some(entry) = self.judged.get_mut(id) {
                entry.schedule.start_over(now);
            }
            self.wake.by(now, "another port was proven");
        }
    }

    /// What was heard of an address goes for nothing, and nothing is said of it.
    pub(super) fn forget_verdict(&mut self, id: AddressId, now: Instant) {
        let Some(entry) = self.judged.get_mut(id) else {
            return;
        };
        let old = entry.standing.verdict();
        entry.inherited = false;
        entry.obstacle = None;
        entry.evidence.clear();
        entry.standing.clear(now);
        entry.schedule.start_over(now);
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.is_reachable = false;
            candidate.is_refuted = false;
        }
        if old != Verdict::Unknown {
            self.tell_verdict(id, old, now);
        }
        self.share_with_siblings(id, now);
        self.wake.by(now, "a verdict is forgotten");
    }
}
