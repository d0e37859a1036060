//! Which probe leaves next: the address that most wants an answer, and the server whose answer is worth most. Here are the
//! priorities of addresses, and how many requests go out at once. What one request names is in `request`, and what its
//! requests are taken from in `funds`.

use std::{cmp::Reverse, time::Duration};

use rand::RngExt;
use web_time::Instant;

use crate::reachability::{
    Fund, Reachability, Sources, Verdict,
    candidates::{AddressId, Candidate, Support, Trust},
    probes::Probe,
    prospects::{Again, LATE, Look, Prospects},
    review::Entry,
    servers::WANTED_SERVERS,
};

mod funds;

mod request;

/// How many connections are left free below the swarm's limit, at most.
const HEADROOM: u32 = 8;
/// For how long a guess that no peer speaks of is asked about only by servers that no other address wants.
const LEFTOVERS: Duration = Duration::from_secs(90);

/// How much an address wants an answer; what comes first is asked about first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Priority {
    /// Its verdict is contradicted.
    Contradicted,
    /// It has no verdict, or a check that has waited for long.
    Undecided,
    /// It has a verdict, and a server may say more.
    News,
    /// A check is due, and any server does.
    Recheck,
    /// One peer alone speaks of it.
    OnePeersWord,
    /// No peer speaks of it, and it has waited for less than 90 s.
    Leftovers,
}

/// An address that wants an answer.
#[derive(Debug, Clone, Copy)]
struct Turn {
    priority: Priority,
    id: AddressId,
    trust: Trust,
    /// The budget that its requests are taken from.
    fund: Option<Fund>,
    /// More speaks for it than for others, and still it takes the word of two IP groups.
    takes_two: bool,
    /// Its place where it is one of many and the budget may not do for all: those without a verdict come first, and of these the
    /// one that most IP groups see, and most hosts.
    among_many: Option<(bool, Reverse<(usize, usize)>)>,
    /// Since when it has had no turn; `None`: since before all others.
    waits_since: Option<Instant>,
}

impl Reachability {
    /// Starts the rechecks that are due, reviews what time alone may have decided, and sends out probes.
    pub(super) fn decide(&mut self, now: Instant) {
        self.recheck_late(now);
        let lifetime = self.config.outcome_lifetime;
        let mut wake = |at: Option<Instant>, reason| {
            if let Some(at) = at.filter(|at| now < *at) {
                self.wake.by(at, reason);
            }
        };
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let mut due = Vec::new();
        for (id, entry) in self.judged.iter() {
            let reviewed = entry.reviewed(&self.servers, now);
            let recheck = entry.schedule.recheck_at();
            let expiry = entry.evidence.oldest().map(|at| at + lifetime);
            let stability = entry.standing.unstable_until(now);
            let renew = is_due(recheck) || is_due(expiry);
            if renew || reviewed.is_none() || entry.told_unstable != entry.standing.is_unstable(now)
            {
                due.push((id, renew));
            }
            wake(reviewed.and_then(|it| it.until), "time may decide");
            wake(recheck, "a recheck");
            wake(expiry, "evidence expires");
            wake(stability, "stability");
        }
        for (id, renew) in due {
            if renew && !self.renew(id, now) {
                continue;
            }
            self.tell_stability(id, now);
            self.review(id, now);
        }
        self.update_summary();
        if !self.is_crowded() {
            self.dispatch(now);
        }
    }

    /// Forgets what is too old, and begins the recheck that is due. `false` if the address itself is forgotten.
    fn renew(&mut self, id: AddressId, now: Instant) -> bool {
        if self.is_outdated(id) {
            let unseen = |sources: &mut Sources| {
                sources.observed = false;
                sources.guessed = false;
            };
            self.withdraw(id, unseen, now);
            return false;
        }
        let lifetime = self.config.outcome_lifetime;
        let Some(entry) = self.judged.get_mut(id) else {
            return false;
        };
        entry.evidence.expire(now, lifetime);
        let oldest = entry.evidence.oldest();
        if entry.schedule.recheck_at().is_some_and(|at| at <= now) {
            entry.schedule.begin_recheck(now);
        }
        if let Some(oldest) = oldest {
            self.wake.by(oldest + lifetime, "evidence expires");
        }
        true
    }

    /// Whether peers have long seen this node elsewhere: it is likely somebody else's by now.
    fn is_outdated(&self, id: AddressId) -> bool {
        let Some(candidate) = self.candidates.get(id) else {
            return false;
        };
        if candidate.sources.are_own() || candidate.is_reachable {
            return false;
        }
        let outdated = candidate.last_seen + self.config.outcome_lifetime;
        self.candidates.iter().any(|(_, other)| {
            other.class == candidate.class
                && outdated < other.last_seen
                && (candidate.is_unobserved_guess() || !other.is_unobserved_guess())
        })
    }

    /// Whether the swarm is so near its connection limit that dial-backs may be denied.
    fn is_crowded(&self) -> bool {
        self.config.connection_limit.is_some_and(|limit| {
            let free = limit.saturating_sub(u32::try_from(self.connections.len()).unwrap_or(limit));
            free < HEADROOM.min(limit / 8).max(1)
        })
    }

    /// Whether as many requests are under way as may be.
    fn is_full(&self) -> bool {
        self.probes.len() >= self.config.max_in_flight
    }

    fn dispatch(&mut self, now: Instant) {
        let support = Support::of(&self.candidates);
        let mut turns: Vec<Turn> = self
            .candidates
            .iter()
            .filter_map(|(id, candidate)| self.turn(id, candidate, &support, now))
            .collect();
        turns.sort_by_key(|turn| {
            (
                turn.priority,
                turn.trust == Trust::OnePeersPort,
                turn.among_many,
                turn.waits_since,
            )
        });
        self.let_servers_gather(&mut turns, now);
        let named: Vec<(Priority, AddressId)> = {
            let mut named: Vec<_> = turns.iter().map(|t| (t.priority, t.id)).collect();
            named.sort_unstable();
            named
        };
        // One probe for each address before the second one for any; leftovers after all others.
        for leftovers in [false, true] {
            let of_kind = |turn: &&Turn| (turn.priority == Priority::Leftovers) == leftovers;
            let turns: Vec<Turn> = turns.iter().filter(of_kind).copied().collect();
            let mut sent = true;
            while sent {
                sent = false;
                for turn in &turns {
                    if self.is_full() {
                        return;
                    }
                    let is_sent = self.has_room(turn, now) && self.ask_about(turn, &named, now);
                    sent |= is_sent;
                    // The word of one group is not enough: a second is asked as soon.
                    let another = is_sent && turn.takes_two && !self.is_full();
                    if another && self.has_room(turn, now) {
                        self.ask_about(turn, &named, now);
                    }
                }
                if sent && !self.servers.is_any_free(now) {
                    break;
                }
            }
        }
    }

    /// Whether an address wants an answer now, and how much.
    fn turn(
        &self,
        id: AddressId,
        candidate: &Candidate,
        support: &Support,
        now: Instant,
    ) -> Option<Turn> {
        let entry = self.judged.get(id)?;
        let schedule = &entry.schedule;
        let trust = support.trust(candidate, &self.listeners);
        let priority = if schedule.is_demanded() && (trust < Trust::Observed || entry.inherited) {
            Some(Priority::Recheck)
        } else {
            self.priority(candidate, entry, trust, support, now)
        };
        let fund = Fund::of_word(trust, candidate, support);
        let among_many = (fund == Some(Fund::SeenIp)).then(|| {
            let seen_by = (candidate.reports.groups(), candidate.reports.count());
            (entry.standing.is_decided(), Reverse(seen_by))
        });
        Some(Turn {
            priority: priority?,
            id,
            trust,
            fund,
            among_many,
            takes_two: trust == Trust::Observed && self.groups_needed(candidate) > 1,
            waits_since: waits_since(candidate, entry),
        })
    }

    fn priority(
        &self,
        candidate: &Candidate,
        entry: &Entry,
        trust: Trust,
        support: &Support,
        now: Instant,
    ) -> Option<Priority> {
        let (schedule, standing) = (&entry.schedule, &entry.standing);
        let withheld = candidate.is_withheld && !schedule.is_demanded();
        if entry.inherited || withheld || schedule.is_settled() || self.may_inherit(candidate, now)
        {
            return None;
        }
        let contradicted = standing.contradicted_at().is_some();
        let open = !standing.is_decided() || contradicted;
        match trust {
            Trust::NoListener => return None,
            Trust::OnePeersPort => {
                let asks = open && !support.has_better_guess(candidate);
                return asks.then_some(Priority::OnePeersWord);
            }
            Trust::OnePeersIp => {
                return (open || schedule.wants_fresh()).then_some(Priority::OnePeersWord);
            }
            Trust::UnobservedGuess => {
                let waits = waits_since(candidate, entry).is_some_and(|at| now < at + LEFTOVERS);
                if waits {
                    return Some(Priority::Leftovers);
                }
            }
            Trust::Observed | Trust::Own => {}
        }
        Some(if contradicted {
            Priority::Contradicted
        } else if !standing.is_decided() || schedule.is_overdue(now) {
            // Neither kind comes before the other: each has its turn.
            Priority::Undecided
        } else if schedule.wants_fresh() {
            Priority::Recheck
        } else {
            Priority::News
        })
    }

    /// Whether an address is likely to inherit the verdict of a plain one on the same socket that is being decided. Not from one
    /// that only peers speak of, and not for ever.
    fn may_inherit(&self, candidate: &Candidate, now: Instant) -> bool {
        self.candidates
            .plain_sibling(candidate)
            .is_some_and(|(id, plain)| {
                !plain.is_only_observed()
                    && !plain.is_withheld
                    && now < candidate.first_seen + LEFTOVERS
                    && self.judged.get(id).is_some_and(|plain| {
                        !plain.standing.is_decided() && plain.obstacle.is_none()
                    })
            })
    }

    /// While servers are likely still coming, leaves out the addresses without a verdict that had better wait for them. Leaves
    /// out the checks of addresses with one, too: they must not take the servers that are there.
    fn let_servers_gather(&mut self, turns: &mut Vec<Turn>, now: Instant) {
        let gathers = |to_ask| {
            let until = self.servers.gathering().until(to_ask);
            until.filter(|at| now < *at)
        };
        if gathers(0).is_none() {
            return;
        }
        let undecided = |id: AddressId| {
            let entry = self.judged.get(id);
            entry.filter(|entry| !entry.standing.is_decided())
        };
        let waits_until = |id: AddressId| {
            let to_ask = self.to_ask(id, undecided(id)?, now);
            gathers(to_ask).filter(|_| to_ask > 0)
        };
        let Some(next) = turns.iter().filter_map(|turn| waits_until(turn.id)).min() else {
            return;
        };
        turns.retain(|turn| match turn.priority {
            Priority::Contradicted => true,
            Priority::Undecided => undecided(turn.id).is_some() && waits_until(turn.id).is_none(),
            _ => false,
        });
        self.wake.by(next, "servers gather");
    }

    /// How many servers can be asked about it, heard or not.
    fn to_ask(&self, id: AddressId, entry: &Entry, now: Instant) -> usize {
        entry
            .reviewed(&self.servers, now)
            .and_then(|reviewed| reviewed.prospects.as_ref())
            .map_or_else(
                || {
                    self.prospects(id, Self::again(entry), Look::Glance, now)
                        .to_ask
                },
                |prospects| prospects.to_ask,
            )
    }

    /// Whether one more server may be asked about it now. Each request that is late allows two more, up to three times the
    /// usual number: its dial likely gets no answer, and it takes more failures than successes to be sure.
    fn has_room(&mut self, turn: &Turn, now: Instant) -> bool {
        if let Some(fund) = turn.fund
            && !self.is_budget_ready(fund, turn, now)
        {
            return false;
        }
        if !self.may_begin(turn.id, now) {
            return false;
        }
        let most = match turn.priority {
            Priority::Recheck | Priority::OnePeersWord => 1,
            Priority::Leftovers => self.config.max_parallel,
            // It has waited for long enough to get a turn, and no more.
            _ if turn.trust == Trust::UnobservedGuess => 1,
            _ => self.config.max_parallel,
        };
        let in_flight = self.probes.about(turn.id).count();
        // A request from before the last change does not tell what is wanted, and one of them is not waited for.
        let counts = |probe: &Probe| {
            let schedule = self.judged.get(turn.id).map(|entry| &entry.schedule);
            schedule.is_none_or(|schedule| schedule.is_answered_by(probe.sent_at))
        };
        let telling = self.probes.about(turn.id).filter(|it| counts(it)).count();
        if in_flight < most || telling == 0 && in_flight == most {
            return true;
        }
        let presses = matches!(turn.priority, Priority::Contradicted | Priority::Undecided);
        let max = self.config.max_in_flight;
        let crowded = self.probes.len() >= max - max / 4;
        if !presses || crowded || most == 1 || in_flight >= most.saturating_mul(3) {
            return false;
        }
        let late = self.count_late(turn.id, now);
        in_flight < most.saturating_add(2 * late)
    }

    /// How many requests about it are late; wakes when the next one is.
    fn count_late(&mut self, id: AddressId, now: Instant) -> usize {
        let times = self.probes.about(id).map(|probe| probe.sent_at + LATE);
        let (late, young): (Vec<Instant>, Vec<Instant>) = times.partition(|at| *at <= now);
        if let Some(at) = young.into_iter().min() {
            self.wake.by(at, "a request is late");
        }
        late.len()
    }

    /// Sends a request about it to the best server there is. `false` if there is none now.
    fn ask_about(&mut self, turn: &Turn, named: &[(Priority, AddressId)], now: Instant) -> bool {
        let id = turn.id;
        let Some(entry) = self.judged.get(id) else {
            return false;
        };
        let in_flight = self
            .probes
            .about(id)
            .any(|probe| now < probe.sent_at + LATE);
        let contradicted = entry.standing.contradicted_at().is_some();
        let fresh = entry.schedule.wants_fresh();
        let decided = entry.standing.is_decided();
        let again = Self::again(entry);
        let second_look = entry.schedule.second_look_at();
        let heard = entry.evidence.servers();
        let look = Look::Search(self.rng.random());
        // The review has looked for somebody, and that nobody was left holds still.
        let known = entry.reviewed(&self.servers, now);
        let known = known.and_then(|reviewed| reviewed.prospects.as_ref());
        let holds = |known: &&Prospects| {
            !known.someone_left && known.next_ready.is_none_or(|ready| now < ready)
        };
        let mut prospects = match known.filter(holds) {
            Some(known) => Prospects {
                best: None,
                looked_at: Vec::new(),
                ..*known
            },
            None => self.prospects(id, again, look, now),
        };
        let mut is_second_look = false;
        if prospects.best.is_none() || fresh && decided && !contradicted {
            let anyone = fresh && !contradicted && (decided || !prospects.someone_left);
            if anyone && !in_flight {
                // A check asks somebody new until a few have spoken.
                let again = if heard < WANTED_SERVERS {
                    Again::NobodyButAsk
                } else {
                    Again::Anyone
                };
                prospects = self.prospects(id, again, look, now);
                if prospects.best.is_none() {
                    prospects = self.prospects(id, Again::Anyone, look, now);
                }
            } else if contradicted && !in_flight {
                match second_look {
                    Some(at) if at <= now => {
                        is_second_look = true;
                        prospects = self.prospects(id, Again::HeardBefore(at), look, now);
                    }
                    Some(at) => self.wake.by(at, "a second look"),
                    None => {}
                }
            } else if anyone {
                prospects.best = None;
            }
        }
        let Some(choice) = prospects.best else {
            if is_second_look
                && !prospects.someone_left
                && let Some(entry) = self.judged.get_mut(id)
            {
                entry.schedule.give_up_second_looks();
                self.wake.by(now, "no second look is worth it");
            }
            self.note_nobody(turn, &prospects, now);
            return false;
        };
        if is_second_look && let Some(entry) = self.judged.get_mut(id) {
            entry.schedule.note_second_look();
        }
        let entry = self.judged.get(id);
        let is_paid = |fund: &Fund| entry.is_some_and(|entry| Self::has_begun(*fund, entry));
        if let Some(fund) = turn.fund.filter(|fund| !is_paid(fund)) {
            self.budgets.of(fund).take(now);
        }
        self.note_newcomer(id, now);
        self.send(id, choice, named, now);
        true
    }

    /// Nobody can be asked about it now.
    fn note_nobody(&mut self, turn: &Turn, prospects: &Prospects, now: Instant) {
        if let Some(at) = prospects.next_ready {
            self.wake.by(at.max(now), "a server is ready again");
        }
        self.count_late(turn.id, now);
        let open = self.judged.get(turn.id).is_some_and(|entry| {
            let undecided = entry.standing.verdict() == Verdict::Unknown;
            // What is in its way was said, and that more of the same servers don't help.
            undecided && entry.obstacle.is_none() || entry.standing.contradicted_at().is_some()
        });
        let known = prospects.to_ask + prospects.refusing;
        if open && turn.trust >= Trust::Observed && known < WANTED_SERVERS {
            self.want_servers(prospects.to_ask, now);
        }
    }
}

fn waits_since(candidate: &Candidate, entry: &Entry) -> Option<Instant> {
    let first = candidate
        .is_unobserved_guess()
        .then_some(candidate.first_seen);
    entry.schedule.asked_at.or(first)
}
