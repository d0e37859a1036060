//! From evidence to what others see: verdicts, confirmations, the summary.

use std::time::Duration;

use web_time::Instant;

use crate::{
    address::ThinWaist,
    reachability::{
        AddressId, AddressReport, Event, Output, Reachability, Summary, Vantage, Verdict,
        candidate::{Candidate, Reviewed},
        evidence::posterior,
        probe::Probe,
        servers::{Census, Wish},
        verdict::{LONGEST_WAIT, Outlook},
    },
};

/// For how long few servers are not taken for all after the last came: with one, with two, and with more.
const PATIENCE: [Duration; 3] = [
    Duration::from_secs(5),
    Duration::from_secs(2),
    Duration::from_millis(500),
];
/// For how long after the first word on an address arrivals can prolong that.
const LONGEST_PATIENCE: Duration = Duration::from_secs(10);
/// For how long after the first word a proof waits for servers that would dial from an independent vantage.
const INDEPENDENTS_WAIT: Duration = Duration::from_secs(30);
/// How many servers are enough to decide by.
pub(crate) const WANTED_SERVERS: usize = 3;
/// How often more servers are asked for at most.
const SERVERS_WANTED_PACE: Duration = Duration::from_secs(60);

impl Reachability {
    /// Looks at one address again after something was heard about it, or could have been.
    pub(super) fn review(&mut self, id: AddressId, now: Instant) {
        let Some(candidate) = self.candidates.get(id) else {
            return;
        };
        if candidate.inherited
            || candidate.schedule.is_settled() && !candidate.standing.is_challenged()
        {
            self.publish(id);
            let reviewed = Reviewed {
                epoch: self.servers.epoch(),
                until: None,
                servers: None,
            };
            self.candidates.set_reviewed(id, reviewed);
            return;
        }
        let before = candidate.standing.verdict();
        let census = self.census(id, candidate, now);
        let hopeless = census.to_ask == 0 && candidate.schedule.in_flight == 0;
        let began = candidate
            .standing
            .round()
            .or_else(|| candidate.evidence.oldest());
        let waits_until = began.map(|at| at + LONGEST_WAIT);
        let waited = waits_until.is_some_and(|at| at <= now);
        let independents_until = began.map(|at| at + INDEPENDENTS_WAIT);
        let waits_for_independents = independents_until.is_none_or(|at| now < at);
        let first_word = began.filter(|_| !candidate.standing.is_decided());
        let patience_over_at = self.patience_over_at(census, first_word).map(|at| {
            let latest = began.map(|at| at + LONGEST_PATIENCE);
            latest.map_or(at, |latest| at.min(latest))
        });
        let outlook = Outlook {
            servers_left: !waited && (candidate.schedule.in_flight > 0 || census.is_someone_left()),
            independents_left: waits_for_independents && census.independents_left,
            neighbourhoods_left: census.neighbourhoods_left,
            able_left: census.able_left,
            patience_over: patience_over_at.is_none_or(|at| at <= now),
        };
        let verdict = candidate.standing.judge(&candidate.evidence, outlook, now);
        let fresh_until = candidate.evidence.fresh_until();
        let changes = [
            patience_over_at,
            fresh_until,
            waits_until,
            independents_until,
        ];
        for at in changes.into_iter().flatten() {
            if now < at {
                self.wake_by(at);
            }
        }
        self.set_verdict(id, verdict, now);
        self.settle(id, census, outlook, now);
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.hopeless = hopeless;
        }
        self.publish(id);
        if verdict == before {
            let second_look = self
                .candidates
                .get(id)
                .and_then(|candidate| candidate.standing.second_look_at());
            let until = [second_look, census.stale_at]
                .into_iter()
                .chain(changes)
                .flatten()
                .filter(|at| now < *at)
                .min();
            let reviewed = Reviewed {
                epoch: self.servers.epoch(),
                until,
                servers: Some((census.to_ask, census.is_someone_left())),
            };
            self.candidates.set_reviewed(id, reviewed);
        }
    }

    pub(super) fn census(&self, id: AddressId, candidate: &Candidate, now: Instant) -> Census {
        let wish = Wish::of(id, candidate, &self.contacts);
        let census = self.servers.census(&wish, now);
        if candidate.standing.is_round_full(&candidate.evidence) {
            let independents_left = self
                .probes_about(id)
                .filter_map(Probe::primary)
                .any(|it| it.expected == Vantage::Independent);
            return Census {
                independents_left,
                ..census.without_unheard()
            };
        }
        census
    }

    /// When the servers that are known may be taken for all there are. Where there are fewer than wanted, the others have time
    /// from the first word on: that word may itself have taken long on a network where all is slow.
    fn patience_over_at(&self, census: Census, first_word: Option<Instant>) -> Option<Instant> {
        let patience = PATIENCE[census.to_ask.clamp(1, PATIENCE.len()) - 1];
        let first_word = first_word.filter(|_| census.to_ask < WANTED_SERVERS);
        let last = self.servers.last_arrival()?;
        Some(last.max(first_word.unwrap_or(last)) + patience)
    }

    /// Puts off the next check if the verdict has its margin, or if nobody is left to ask.
    fn settle(&mut self, id: AddressId, census: Census, outlook: Outlook, now: Instant) {
        let Some(candidate) = self.candidates.get_mut(id) else {
            return;
        };
        if candidate.schedule.wants_fresh || candidate.schedule.is_settled() {
            return;
        }
        let standing = &candidate.standing;
        let decided = standing.is_decided() && !standing.is_challenged();
        let done = decided && standing.has_margin(&candidate.evidence);
        let nobody_left = !outlook.servers_left && census.to_ask > 0 && outlook.patience_over;
        if (done || nobody_left && !self.awaits_second_look(id, now))
            && let Some(candidate) = self.candidates.get_mut(id)
        {
            // Those that were waited for too long are still asked, and keep no check from its time.
            let left = candidate.schedule.in_flight > 0 || census.is_someone_left();
            candidate
                .schedule
                .settle(candidate.first_seen, now, &self.config);
            if left && !done {
                candidate.schedule.reopen();
            }
            if let Some(at) = candidate.schedule.recheck_at {
                self.wake_by(at);
            }
        }
    }

    /// A challenge that nobody else can settle waits for the same witness.
    pub(super) fn awaits_second_look(&mut self, id: AddressId, now: Instant) -> bool {
        let Some(at) = self
            .candidates
            .get(id)
            .and_then(|candidate| candidate.standing.second_look_at())
        else {
            return false;
        };
        if now < at {
            self.wake_by(at);
        }
        true
    }

    fn set_verdict(&mut self, id: AddressId, verdict: Verdict, now: Instant) {
        let Some(candidate) = self.candidates.get_mut(id) else {
            return;
        };
        let old = candidate.standing.verdict();
        let first = !candidate.standing.is_decided();
        let challenged_since = candidate.standing.round();
        if !candidate.standing.set(verdict, now) {
            return;
        }
        // What was heard before the surprise is refuted. That a filter lets some in is not.
        if let Some(since) = challenged_since.filter(|_| verdict != Verdict::Filtered) {
            candidate.evidence.forget_before(since);
        }
        if !first {
            candidate.schedule.restart_interval();
        }
        self.tell_verdict(id, old);
        self.share_with_group(id, now);
    }

    fn tell_verdict(&mut self, id: AddressId, old: Verdict) {
        let Some(candidate) = self.candidates.get(id) else {
            return;
        };
        let report = self.report(candidate);
        let first = old == Verdict::Unknown
            && candidate.standing.decided_at() == Some(candidate.standing.since());
        self.outputs.push_back(Output::Event(Event::VerdictChanged {
            address: report.address,
            old,
            new: report.verdict,
            vantage: report.vantage,
            confidence: report.confidence,
            time_to_verdict: report.time_to_verdict.filter(|_| first),
        }));
    }

    /// The addresses that share a socket with a plain one inherit its reachability, and lose it with it.
    pub(super) fn share_with_group(&mut self, id: AddressId, now: Instant) {
        let Some(plain) = self.candidates.get(id) else {
            return;
        };
        let (Some(waist), true) = (plain.waist, plain.class.transport.is_plain()) else {
            return;
        };
        let reachable = plain.standing.is_proven();
        self.tell_heirs(waist, reachable, now);
    }

    /// Has the addresses on the socket of a plain one follow it.
    ///
    /// Not those that only peers speak of: a peer can name any number of them, on a socket where nothing listens for them.
    pub(super) fn tell_heirs(&mut self, waist: ThinWaist, reachable: bool, now: Instant) {
        let heirs: Vec<AddressId> = self
            .candidates
            .iter()
            .filter(|(_, c)| c.waist == Some(waist) && !c.class.transport.is_plain())
            .filter(|(_, c)| c.inherited || !c.is_only_observed())
            .map(|(heir, _)| heir)
            .collect();
        for heir in heirs {
            if !reachable {
                self.disinherit(heir, now);
                continue;
            }
            let Some(candidate) = self.candidates.get_mut(heir) else {
                continue;
            };
            let old = candidate.standing.verdict();
            candidate.inherited = true;
            if candidate.standing.set(Verdict::Reachable, now) {
                self.tell_verdict(heir, old);
            }
            self.publish(heir);
        }
    }

    /// What it inherited is gone, and what was heard about it before: it is to be tested by itself.
    pub(super) fn disinherit(&mut self, id: AddressId, now: Instant) {
        let Some(candidate) = self.candidates.get_mut(id) else {
            return;
        };
        if !std::mem::take(&mut candidate.inherited) {
            return;
        }
        let old = candidate.standing.verdict();
        candidate.evidence.clear();
        candidate.standing.clear(now);
        candidate.schedule.start_over(now);
        self.tell_verdict(id, old);
        self.publish(id);
        self.wake_by(now);
    }

    /// An address inherits from a plain one on the same socket that is reachable already.
    pub(super) fn inherit(&mut self, id: AddressId, now: Instant) {
        let heir = self
            .candidates
            .get(id)
            .filter(|heir| !heir.inherited && !heir.class.transport.is_plain());
        let Some(waist) = heir.and_then(|heir| heir.waist) else {
            return;
        };
        let plain = self
            .candidates
            .iter()
            .find(|(_, c)| c.waist == Some(waist) && c.class.transport.is_plain())
            .map(|(plain, _)| plain);
        if let Some(plain) = plain {
            self.share_with_group(plain, now);
        }
    }

    /// Makes the swarm's external addresses agree with the verdict.
    pub(super) fn publish(&mut self, id: AddressId) {
        let required = self.config.required_vantage;
        let expire_foreign = self.config.expire_foreign;
        let vantage = self
            .candidates
            .get(id)
            .and_then(|candidate| self.grounds(candidate).evidence.vantage());
        let Some(candidate) = self.candidates.get_mut(id) else {
            return;
        };
        let addr = candidate.addr.clone();
        if candidate.standing.is_proven() {
            let proven_enough =
                required == Vantage::Contacted || vantage == Some(Vantage::Independent);
            if proven_enough && !candidate.announced && !candidate.sources.confirmed {
                candidate.announced = true;
                self.confirm(addr);
            }
        } else if candidate.announced {
            candidate.announced = false;
            self.expire(addr);
        } else if candidate.sources.confirmed
            && expire_foreign
            && candidate.standing.verdict() == Verdict::Unreachable
        {
            candidate.sources.confirmed = false;
            // It stays under test, so that it is confirmed again should it come back.
            candidate.sources.added = true;
            self.expire(addr);
        }
        self.update_summary();
    }

    pub(super) fn update_summary(&mut self) {
        let mut decided = false;
        let mut undecided = false;
        let mut reachable = false;
        for (_, candidate) in self.candidates.iter() {
            match candidate.standing.verdict() {
                Verdict::Unknown => {
                    let may_stay_so = candidate.is_doubtful()
                        || candidate.is_unheard_of() && candidate.hopeless
                        || !self.could_accept(candidate)
                        || self.is_weak_guess(candidate);
                    undecided |= !may_stay_so;
                }
                Verdict::Reachable => reachable = true,
                _ => decided = true,
            }
        }
        let verdicts = match (reachable, decided, undecided) {
            (true, _, _) => Summary::Public,
            (false, true, false) => Summary::Private,
            // One more address to look at is no reason to doubt what was known before.
            (false, true, true) if self.summary == Summary::Private => Summary::Private,
            _ => Summary::Unknown,
        };
        let new = self.pinned.unwrap_or(verdicts);
        let old = std::mem::replace(&mut self.summary, new);
        if old != new {
            self.outputs
                .push_back(Output::Event(Event::SummaryChanged { old, new }));
        }
    }

    /// Asks the application for more servers, if there are too few to decide about something.
    pub(super) fn want_servers(&mut self, known: usize, now: Instant) {
        let paced = self
            .servers_wanted_at
            .map(|at| at + SERVERS_WANTED_PACE)
            .filter(|at| now < *at);
        if let Some(at) = paced {
            self.wake_by(at);
            return;
        }
        self.servers_wanted_at = Some(now);
        self.outputs.push_back(Output::Event(Event::ServersWanted {
            known,
            wanted: WANTED_SERVERS,
        }));
    }

    /// The candidate whose evidence its verdict rests on: itself, or the plain address that it inherits from.
    fn grounds<'a>(&'a self, candidate: &'a Candidate) -> &'a Candidate {
        if !candidate.inherited {
            return candidate;
        }
        self.candidates
            .iter()
            .map(|(_, plain)| plain)
            .find(|plain| plain.waist == candidate.waist && plain.class.transport.is_plain())
            .unwrap_or(candidate)
    }

    pub(super) fn report(&self, candidate: &Candidate) -> AddressReport {
        let grounds = self.grounds(candidate);
        let tally = grounds.evidence.tally(None, false);
        let verdict = candidate.standing.verdict();
        let reachable = posterior(tally.score);
        let confidence = match verdict {
            Verdict::Unknown => reachable.max(1.0 - reachable),
            Verdict::Reachable => reachable,
            Verdict::Filtered => 1.0 - posterior(tally.independent_score()),
            Verdict::Unreachable => 1.0 - reachable,
        };
        AddressReport {
            address: candidate.addr.clone(),
            verdict,
            since: candidate.standing.since(),
            confidence,
            vantage: grounds.evidence.vantage(),
            sources: candidate.sources,
            servers: candidate.evidence.servers(),
            time_to_verdict: candidate
                .standing
                .decided_at()
                .map(|at| at.saturating_duration_since(candidate.first_seen)),
            last_probe: candidate.schedule.last_probe,
            next_probe: candidate.schedule.recheck_at,
            dial_data: candidate.dial_data,
            announced: candidate.announced,
            inherited: candidate.inherited,
        }
    }
}
