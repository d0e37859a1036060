//! Which probe leaves next: the address that most wants an answer, and the server that has most to say about it.

use std::time::Duration;

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use rand::RngExt;
use web_time::Instant;

use crate::{
    address,
    reachability::{
        AddressId, MAX_ADDRESS_LEN, Output, Probe, ProbeId, ProbeRequest, Reachability, Sources,
        Vantage, Verdict,
        candidate::{Candidate, Class},
        judgement::WANTED_SERVERS,
        servers::{Choice, Wish},
        verdict::LONGEST_WAIT,
    },
};

/// Bytes of addresses in one request, so that the whole message stays under 1,024 (nim-libp2p's limit).
const MAX_ADDRESS_BYTES: usize = MAX_ADDRESS_LEN + PER_ADDRESS;
/// Bytes that the encoding adds to each address.
const PER_ADDRESS: usize = 3;
/// How many connections are left free below the swarm's limit, at most.
const HEADROOM: u32 = 8;
/// How much longer than the handler the core waits before it gives a probe up by itself.
const SLACK: Duration = Duration::from_secs(2);
const HOUR: Duration = Duration::from_secs(60 * 60);
/// How often doubtful addresses are asked about at most. Peers can make up any number of them, and each costs a stranger a dial.
const DOUBTFUL_PACE: Duration = Duration::from_secs(10);
/// After which time an answer is late: most of those with a dial-back have come, even from servers that wait for up to 3 s after
/// dial data, of three at least one.
const LATE: Duration = Duration::from_secs(2);
/// How soon to look again where only a part of the servers was looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How urgent an address is; smaller comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Challenged,
    Undecided,
    Margin,
    Recheck,
    Doubtful,
    UnheardOf,
}

impl Reachability {
    /// Starts the rechecks that are due, reviews what time alone may have decided, and sends out probes.
    pub(super) fn decide(&mut self, now: Instant) {
        let lifetime = self.config.outcome_lifetime;
        let epoch = self.servers.epoch();
        let is_due = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
        let mut wake: Option<Instant> = None;
        let mut to_review = Vec::new();
        for (id, candidate) in self.candidates.iter() {
            let reviewed = candidate.reviewed(epoch, now);
            let times = [
                candidate.schedule.recheck_at,
                candidate.evidence.oldest().map(|at| at + lifetime),
                reviewed.and_then(|reviewed| reviewed.until),
            ];
            let renew = times.iter().take(2).any(is_due);
            if renew || reviewed.is_none() {
                to_review.push((id, renew));
            }
            let next = times.into_iter().flatten().filter(|at| now < *at).min();
            wake = wake.into_iter().chain(next).min();
        }
        for (id, renew) in to_review {
            if renew {
                if self.is_outdated(id) {
                    let unseen = |sources: &mut Sources| {
                        sources.observed = false;
                        sources.guessed = false;
                    };
                    self.withdraw(id, unseen, now);
                    continue;
                }
                self.renew(id, now);
            }
            self.review(id, now);
        }
        if let Some(at) = wake {
            self.wake_by(at);
        }
        if self.is_crowded() {
            return;
        }
        self.dispatch(now);
    }

    /// Forgets what is too old, and begins the recheck that is due.
    fn renew(&mut self, id: AddressId, now: Instant) {
        let lifetime = self.config.outcome_lifetime;
        let Some(candidate) = self.candidates.get_mut(id) else {
            return;
        };
        candidate.evidence.expire(now, lifetime);
        let oldest = candidate.evidence.oldest();
        if candidate.schedule.recheck_at.is_some_and(|at| at <= now) {
            candidate.schedule.begin_recheck(now);
        }
        if let Some(oldest) = oldest {
            self.wake_by(oldest + lifetime);
        }
    }

    /// Whether peers have long seen this node elsewhere: it is likely somebody else's by now.
    fn is_outdated(&self, id: AddressId) -> bool {
        let Some(candidate) = self.candidates.get(id) else {
            return false;
        };
        let sources = candidate.sources;
        if sources.listening || sources.added || sources.confirmed || candidate.standing.is_proven()
        {
            return false;
        }
        let outdated = candidate.last_seen + self.config.outcome_lifetime;
        self.candidates.iter().any(|(_, other)| {
            other.class == candidate.class
                && outdated < other.last_seen
                && (candidate.is_unheard_of() || !other.is_unheard_of())
        })
    }

    /// Whether the swarm is so near its connection limit that dial-backs may be denied.
    fn is_crowded(&self) -> bool {
        self.config.connection_limit.is_some_and(|limit| {
            let free = limit.saturating_sub(u32::try_from(self.connections.len()).unwrap_or(limit));
            free < HEADROOM.min(limit / 8).max(1)
        })
    }

    fn dispatch(&mut self, now: Instant) {
        let mut hungry: Vec<(Urgency, AddressId)> = self
            .candidates
            .iter()
            .filter_map(|(id, candidate)| Some((self.urgency(candidate)?, id)))
            .collect();
        hungry.sort_unstable();
        self.let_servers_gather(&mut hungry, now);
        // They take turns: one about which nobody answers must not keep the others waiting.
        let mut turns = hungry.clone();
        turns.sort_by_key(|(urgency, id)| {
            let candidate = self.candidates.get(*id);
            let behind =
                *urgency == Urgency::Doubtful && candidate.is_some_and(Candidate::is_unheard_of);
            (*urgency, behind, candidate.and_then(waits_since))
        });
        let (unheard_of, seen): (Vec<_>, Vec<_>) = turns
            .into_iter()
            .partition(|(urgency, _)| *urgency == Urgency::UnheardOf);
        // What no peer speaks of gets the servers that are left.
        for turns in [seen, unheard_of] {
            self.take_turns(&turns, &hungry, now);
        }
    }

    /// Leaves out addresses without a verdict for which other servers are likely just coming, and checks of those that have one:
    /// they must not take the servers that are there.
    fn let_servers_gather(&mut self, hungry: &mut Vec<(Urgency, AddressId)>, now: Instant) {
        let gathers = |to_ask| self.servers.gathers_until(to_ask).filter(|at| now < *at);
        if gathers(0).is_none() {
            return;
        }
        let undecided = |id| {
            self.candidates
                .get(id)
                .filter(|candidate| !candidate.standing.is_decided())
        };
        let waits_until = |id| {
            let (to_ask, _) = self.servers_for(id, undecided(id)?, now);
            gathers(to_ask).filter(|_| to_ask > 0)
        };
        let Some(next) = hungry.iter().filter_map(|(_, id)| waits_until(*id)).min() else {
            return;
        };
        hungry.retain(|(urgency, id)| match urgency {
            Urgency::Challenged => true,
            Urgency::Undecided => undecided(*id).is_some() && waits_until(*id).is_none(),
            _ => false,
        });
        self.wake_by(next);
    }

    fn take_turns(
        &mut self,
        turns: &[(Urgency, AddressId)],
        hungry: &[(Urgency, AddressId)],
        now: Instant,
    ) {
        // One probe for each address before the second one for any.
        let mut sent = true;
        let mut first = true;
        while sent {
            sent = false;
            if !std::mem::take(&mut first)
                && let Some(next) = self.servers.none_free_until(now)
            {
                if let Some(at) = next {
                    self.wake_by(at);
                }
                self.want_servers_for(turns, now);
                return;
            }
            for (urgency, id) in turns.iter().copied() {
                if self.probes_under_way() >= self.config.max_in_flight {
                    return;
                }
                if !self.wants_another(urgency, id, now)
                    || urgency == Urgency::Doubtful && self.is_too_soon_for_doubts(now)
                {
                    continue;
                }
                let asked = self.probe_for(id, hungry, now);
                if asked && urgency == Urgency::Doubtful {
                    self.doubtful_asked_at = Some(now);
                }
                sent |= asked;
            }
        }
    }

    /// Whether one more server is to be asked about it. Those that keep one waiting don't count, as many as could be asked beside
    /// them: their dials are likely not answered, and it may take more of them to decide.
    fn wants_another(&mut self, urgency: Urgency, id: AddressId, now: Instant) -> bool {
        let Some(candidate) = self.candidates.get(id) else {
            return false;
        };
        let in_flight = candidate.schedule.in_flight;
        let most = self.appetite(urgency, candidate);
        if in_flight < most {
            return true;
        }
        let pressing = match urgency {
            Urgency::Challenged => true,
            // With a proof, those that were contacted have little to add: mostly it is independent ones that are waited for.
            Urgency::Undecided => !candidate.evidence.was_proven() && !candidate.is_unheard_of(),
            _ => false,
        };
        let max = self.config.max_in_flight;
        let crowded = self.probes_under_way() >= max - max / 4;
        if !pressing || crowded || in_flight >= most.saturating_mul(2) {
            return false;
        }
        let mut late = 0;
        let mut next: Option<Instant> = None;
        for probe in self.probes_about(id) {
            let at = probe.sent_at + LATE;
            if at <= now {
                late += 1;
            } else {
                next = next.into_iter().chain([at]).min();
            }
        }
        if in_flight < most.saturating_add(late) {
            return true;
        }
        if let Some(at) = next {
            self.wake_by(at);
        }
        false
    }

    fn is_too_soon_for_doubts(&mut self, now: Instant) -> bool {
        let next = self.doubtful_asked_at.map(|at| at + DOUBTFUL_PACE);
        let Some(at) = next.filter(|at| now < *at) else {
            return false;
        };
        self.wake_by(at);
        true
    }

    /// Those of which it is the first address, and that are still under way.
    pub(super) fn probes_about(&self, id: AddressId) -> impl Iterator<Item = &Probe> {
        self.probes
            .values()
            .filter(move |probe| !probe.ended && probe.primary().is_some_and(|it| it.id == id))
    }

    fn probes_under_way(&self) -> usize {
        // Those that await a nonce count too: else the number of peers alone would bound them.
        self.probes.len()
    }

    fn urgency(&self, candidate: &Candidate) -> Option<Urgency> {
        let schedule = &candidate.schedule;
        let promising = self.could_accept(candidate);
        let weak = !candidate.standing.is_proven() && self.is_weak_guess(candidate);
        let passive = candidate.inherited
            || candidate.is_doubtful()
            || candidate.is_unheard_of()
            || weak
            || !promising;
        if schedule.demanded && passive {
            return Some(Urgency::Recheck);
        }
        if candidate.inherited || schedule.is_settled() {
            return None;
        }
        let standing = &candidate.standing;
        if !promising && !standing.is_proven() {
            return None;
        }
        if candidate.is_doubtful() && !standing.is_proven() {
            let open = !standing.is_decided() || standing.is_challenged();
            return (open && !self.has_better_guess(candidate)).then_some(Urgency::Doubtful);
        }
        if weak {
            let open = !standing.is_decided() || standing.is_challenged() || schedule.wants_fresh;
            return open.then_some(Urgency::Doubtful);
        }
        let urgency = if standing.is_challenged() {
            Some(Urgency::Challenged)
        } else if !standing.is_decided() || schedule.is_overdue(self.now) {
            // Neither kind comes before the other: each has its turn.
            Some(Urgency::Undecided)
        } else if !standing.has_margin(&candidate.evidence) {
            Some(Urgency::Margin)
        } else if schedule.wants_fresh {
            Some(Urgency::Recheck)
        } else {
            None
        };
        let waits = |at: Instant| self.now < at + LONGEST_WAIT;
        if candidate.is_unheard_of() && waits_since(candidate).is_some_and(waits) {
            return urgency.map(|_| Urgency::UnheardOf);
        }
        urgency
    }

    /// How many servers at once are to be asked about it.
    fn appetite(&self, urgency: Urgency, candidate: &Candidate) -> usize {
        match urgency {
            Urgency::UnheardOf => self.config.max_parallel,
            Urgency::Recheck | Urgency::Doubtful => 1,
            // It has waited for long enough to get a turn, and no more.
            _ if candidate.is_unheard_of() => 1,
            _ => self.config.max_parallel,
        }
    }

    /// Whether a listener could be behind it: of the same family and transport, or one that the swarm does not know of. Else
    /// it is the socket of dials, which peers see too, and many of them the same over QUIC, or somebody's invention.
    pub(super) fn could_accept(&self, candidate: &Candidate) -> bool {
        let could = |listen: &Multiaddr| Class::of(listen) == Some(candidate.class);
        !candidate.is_only_observed()
            || self.listen_addrs.is_empty()
            || self.listen_addrs.iter().any(could)
    }

    /// Whether one peer alone speaks for the IP of a guess, and another IP has more to speak for it, over the same transport or,
    /// where nobody speaks of that, over any.
    pub(super) fn is_weak_guess(&self, candidate: &Candidate) -> bool {
        let founded = |c: &Candidate| c.sources.listening || c.sources.confirmed || c.sources.added;
        let ip = |c: &Candidate| c.waist.map(|waist| waist.ip);
        !founded(candidate)
            && candidate.reports.count() <= 1
            && self.candidates.iter().any(|(_, other)| {
                let comparable = if candidate.is_unheard_of() {
                    other.class.family == candidate.class.family
                } else {
                    other.class == candidate.class
                };
                comparable
                    && (candidate.is_unheard_of() || !other.is_unheard_of())
                    && ip(other) != ip(candidate)
                    && (other.standing.is_proven() || founded(other) || other.reports.count() > 1)
            })
    }

    /// Whether one of our listen ports behind the same IP has still to be tried, or does work.
    fn has_better_guess(&self, candidate: &Candidate) -> bool {
        self.candidates.iter().any(|(_, guess)| {
            guess.sources.guessed
                && guess.class == candidate.class
                && matches!(
                    guess.standing.verdict(),
                    Verdict::Unknown | Verdict::Reachable
                )
                && guess.waist.map(|w| w.ip) == candidate.waist.map(|w| w.ip)
        })
    }

    /// Sends a request about `id` to the best server there is. `false` if there is none now.
    fn probe_for(&mut self, id: AddressId, hungry: &[(Urgency, AddressId)], now: Instant) -> bool {
        let Some(candidate) = self.candidates.get(id) else {
            return false;
        };
        let (to_ask, someone_left) = self.servers_for(id, candidate, now);
        let second_look = candidate
            .standing
            .second_look_at()
            .is_some_and(|at| at <= now && (!someone_left || candidate.standing.has_waited(now)));
        // Where nothing stands yet, those that have not been heard are asked first, several at a time.
        let unheard = !candidate.standing.is_decided() && someone_left;
        let anyone = second_look || candidate.schedule.wants_fresh && !unheard;
        let full = candidate.standing.is_round_full(&candidate.evidence);
        if anyone && candidate.schedule.in_flight > 0 || full && !anyone {
            return false;
        }
        let undecided = !candidate.standing.is_decided();
        let is_open = candidate.is_open();
        let being_asked: Vec<_> = self
            .probes_about(id)
            .map(|probe| self.servers.neighbourhood(&probe.server))
            .collect();
        let wish = Wish {
            anyone,
            able_first: anyone && undecided,
            being_asked: &being_asked,
            ..Wish::of(id, candidate, &self.contacts)
        };
        let Some(choice) = self.servers.choose(&wish, &mut self.rng, now) else {
            let census = self.servers.census(&wish, now);
            if let Some(at) = census.next_ready {
                self.wake_by(at.max(now));
            } else if census.ready {
                self.wake_by(now + LOOK_AGAIN);
            }
            if is_open && to_ask < WANTED_SERVERS {
                self.want_servers(to_ask, now);
            }
            return false;
        };
        self.send(id, choice, hungry, now);
        true
    }

    /// How many can be asked about it, heard or not, and whether one of them was not heard.
    fn servers_for(&self, id: AddressId, candidate: &Candidate, now: Instant) -> (usize, bool) {
        candidate
            .reviewed(self.servers.epoch(), now)
            .and_then(|reviewed| reviewed.servers)
            .unwrap_or_else(|| {
                let census = self.census(id, candidate, now);
                (census.to_ask, census.is_someone_left())
            })
    }

    /// Asks for more servers if there are too few for one of these.
    fn want_servers_for(&mut self, turns: &[(Urgency, AddressId)], now: Instant) {
        let few = turns.iter().find_map(|(urgency, id)| {
            let candidate = self.candidates.get(*id).filter(|c| c.is_open())?;
            let in_flight = candidate.schedule.in_flight;
            if *urgency == Urgency::Doubtful || in_flight >= self.appetite(*urgency, candidate) {
                return None;
            }
            let (to_ask, _) = self.servers_for(*id, candidate, now);
            (to_ask < WANTED_SERVERS).then_some(to_ask)
        });
        if let Some(to_ask) = few {
            self.want_servers(to_ask, now);
        }
    }

    fn send(
        &mut self,
        id: AddressId,
        choice: Choice,
        hungry: &[(Urgency, AddressId)],
        now: Instant,
    ) {
        let targets = self.targets(id, &choice.peer, hungry, now);
        let addrs: Vec<_> = targets.iter().map(|target| target.1.clone()).collect();
        let timeout = if addrs.len() > 1 {
            self.config.batch_timeout
        } else {
            self.config.request_timeout
        };
        let probe = ProbeId(self.next_probe);
        self.next_probe += 1;
        self.sequence += 1;
        let nonce = self.rng.random();
        self.probes.insert(
            probe,
            Probe::new(
                choice.peer,
                nonce,
                targets,
                self.sequence,
                now,
                now + timeout + SLACK,
            ),
        );
        self.servers.set_in_flight(&choice.peer, probe, now);
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.schedule.in_flight += 1;
            candidate.schedule.asked_at = Some(now);
        }
        self.outputs.push_back(Output::Probe(ProbeRequest {
            id: probe,
            server: choice.peer,
            connection: choice.connection,
            addrs,
            nonce,
            timeout,
        }));
    }

    /// The address to decide, and behind it others that want an answer too.
    fn targets(
        &self,
        id: AddressId,
        server: &PeerId,
        hungry: &[(Urgency, AddressId)],
        now: Instant,
    ) -> Vec<(AddressId, Multiaddr, Class, Vantage)> {
        let mut targets = Vec::new();
        let mut bytes = 0;
        let alone = self.candidates.get(id).is_some_and(|c| c.schedule.alone);
        let others = hungry
            .iter()
            .filter(|(urgency, other)| *urgency < Urgency::Doubtful && *other != id)
            .map(|(_, other)| *other);
        for other in std::iter::once(id).chain(others) {
            let Some(candidate) = self.candidates.get(other) else {
                continue;
            };
            let class = candidate.class;
            let wish = Wish::of(other, candidate, &self.contacts);
            if other != id && !self.may_follow(candidate, server, &wish, now) {
                continue;
            }
            bytes += candidate.addr.len() + PER_ADDRESS;
            let full = targets.len() >= self.config.addresses_per_request
                || bytes > MAX_ADDRESS_BYTES
                || alone;
            if full && !targets.is_empty() {
                break;
            }
            let expected = self.servers.vantage(server, class, &self.contacts, now);
            targets.push((other, candidate.addr.clone(), class, expected));
        }
        targets
    }

    /// Whether it can stand behind another address in a request to `server`, which is free to dial it instead.
    fn may_follow(
        &self,
        candidate: &Candidate,
        server: &PeerId,
        wish: &Wish<'_>,
        now: Instant,
    ) -> bool {
        if candidate.is_unheard_of() || address::is_name(&candidate.addr) {
            return false;
        }
        let second_look = candidate.standing.second_look_at();
        let again = candidate.schedule.wants_fresh || second_look.is_some_and(|at| at <= now);
        if again {
            self.servers.suits(server, wish, now)
        } else {
            self.servers.has_news(server, wish, now)
        }
    }

    /// Takes `bytes` of dial data from the budget. `false` if they are more than one answer may cost, or than are left.
    pub(super) fn pay_dial_data(&mut self, bytes: u64, now: Instant) -> bool {
        if now.saturating_duration_since(self.dial_data_since) >= HOUR {
            self.dial_data_since = now;
            self.dial_data_paid = 0;
        }
        let left = self.config.dial_data_per_hour - self.dial_data_paid;
        let pays = bytes <= self.config.max_dial_data.min(left);
        if pays {
            self.dial_data_paid += bytes;
        }
        pays
    }
}

/// Since when it has had no turn. `None`: since before all others. What no peer speaks of has no claim to that.
fn waits_since(candidate: &Candidate) -> Option<Instant> {
    let first = candidate.is_unheard_of().then_some(candidate.first_seen);
    candidate.schedule.asked_at.or(first)
}
