//! Which addresses are tracked: what can be tested at all, which addresses are guessed from an external IP and a listener, what a
//! change of listeners or of the network has checked again, and what becomes of all that is held about an address when its last
//! source is gone.

use std::net::IpAddr;

use libp2p_core::Multiaddr;
use web_time::Instant;

use crate::{
    address::{self, Transport},
    reachability::{
        AddressId, Candidate, CandidateError, Class, ExternalIp, Fund, Inserted, MAX_ADDRESS_LEN,
        Observer, Output, Reachability, Reports, Sources, schedule::Schedule,
    },
};

impl Reachability {
    /// Without our own `/p2p`, and an IPv4 address as such; `None` if it is another peer's.
    pub(super) fn canonical(&self, addr: &Multiaddr) -> Option<Multiaddr> {
        let addr = address::without_peer_id(addr, &self.local_peer);
        let addr = address::without_mapping(addr);
        let foreign = !address::is_relayed(&addr) && address::peer_id(&addr).is_some();
        (!foreign).then_some(addr)
    }

    pub(super) fn is_from_outside(&self, ip: IpAddr) -> bool {
        self.config.allow_private || address::ip_scope(ip).is_global()
    }

    pub(super) fn is_testable(&self, addr: &Multiaddr) -> Result<(), CandidateError> {
        if address::is_relayed(addr) {
            return Err(CandidateError::Relayed);
        }
        if addr.len() > MAX_ADDRESS_LEN {
            return Err(CandidateError::TooLong);
        }
        let class = Class::of(addr).ok_or(CandidateError::NotDialable)?;
        if class.transport == Transport::Other || address::has_ornaments(addr) {
            return Err(CandidateError::NotDialable);
        }
        if address::is_name(addr) {
            let has_port = address::port(addr).is_some_and(|(_, port)| port != 0);
            return has_port.then_some(()).ok_or(CandidateError::NotDialable);
        }
        let waist = address::thin_waist(addr).ok_or(CandidateError::NotDialable)?;
        if waist.port == 0 || waist.ip.is_unspecified() {
            return Err(CandidateError::NotDialable);
        }
        if !self.config.allow_private && !address::is_public(addr) {
            return Err(CandidateError::NotPublic);
        }
        Ok(())
    }

    /// The same, and says in the log why an address is left out.
    pub(super) fn testable(&self, source: &str, addr: &Multiaddr) -> Result<(), CandidateError> {
        self.is_testable(addr).inspect_err(|error| {
            let addr = address::Printable(addr);
            tracing::debug!(?addr, source, %error, "not a candidate");
        })
    }

    /// Whether an address that peers speak of is to be tracked. A name is not: whoever holds it decides where it leads.
    pub(super) fn testable_by_word(&self, addr: &Multiaddr) -> bool {
        self.testable("observed", addr).is_ok()
            && !address::is_name(addr)
            && address::is_observable(addr)
    }

    pub(super) fn track(
        &mut self,
        addr: Multiaddr,
        source: impl FnOnce(&mut Sources),
        now: Instant,
    ) -> Option<AddressId> {
        self.track_seen(addr, source, Reports::default(), now)
    }

    /// The same, of an address that these reports speak for from the start: they decide whether it gets room.
    fn track_seen(
        &mut self,
        addr: Multiaddr,
        source: impl FnOnce(&mut Sources),
        reports: Reports,
        now: Instant,
    ) -> Option<AddressId> {
        let network = address::ip(&addr).map(address::network);
        let is_withheld = self.withheld.contains_key(&addr);
        let shown = addr.clone();
        if self.candidates.is_full() && self.candidates.find(&addr).is_none() {
            self.note_unanswered();
        }
        let Some(Inserted { id, is_new, gone }) =
            self.candidates.insert(addr, network, source, reports, now)
        else {
            let addr = address::Printable(&shown);
            tracing::debug!(?addr, "not tracked: others have more to speak for them");
            return None;
        };
        if let Some((id, gone)) = gone {
            self.drop_state(id, &gone, now);
        }
        if is_new {
            if let Some(candidate) = self.candidates.get_mut(id) {
                candidate.is_withheld = is_withheld;
            }
            self.judged.insert(id, now);
            self.wake
                .by(now + self.config.gather_delay, "a new address");
        }
        self.inherit(id, now);
        Some(id)
    }

    /// Marks what this node's own side speaks for and no server answers about: it keeps no other address out.
    fn note_unanswered(&mut self) {
        for id in self.candidates.ids() {
            let (Some(candidate), Some(entry)) = (self.candidates.get(id), self.judged.get(id))
            else {
                continue;
            };
            let is_unanswered = self.is_unanswered(candidate, entry);
            if let Some(candidate) = self.candidates.get_mut(id) {
                candidate.is_unanswered = is_unanswered;
            }
        }
    }

    /// Takes sources away, and with the last one the address.
    pub(super) fn withdraw(
        &mut self,
        id: AddressId,
        source: impl FnOnce(&mut Sources),
        now: Instant,
    ) {
        let Some(gone) = self.candidates.withdraw(id, source) else {
            if self
                .candidates
                .get(id)
                .is_some_and(Candidate::is_only_observed)
            {
                self.disinherit(id, now);
            }
            return;
        };
        self.drop_state(id, &gone, now);
        self.update_summary();
        self.wake.by(now, "an address is gone");
    }

    /// Forgets all that other parts hold about an address that is no longer tracked.
    pub(super) fn drop_state(&mut self, id: AddressId, gone: &Candidate, now: Instant) {
        self.judged.remove(id);
        if let Some(form) = self.announcements.forget(id, &gone.addr) {
            self.outputs.push_back(Output::Expire(form));
        }
        if let Some(waist) = gone.waist.filter(|_| gone.is_plain()) {
            self.release_siblings(waist, now);
        }
    }

    /// Has an address checked at once by the next server that is free.
    pub(super) fn demand(&mut self, id: AddressId, now: Instant) {
        if let Some(judged) = self.judged.get_mut(id) {
            judged.schedule.demand(now);
        }
        self.wake.by(now, "a check is asked for");
    }

    /// This node's own side speaks for an address that it did not speak for before: a port has been mapped or forwarded, say. What
    /// was found before goes for nothing, unless it was that it works.
    pub(super) fn check_afresh(&mut self, id: AddressId, now: Instant) {
        self.start_afresh(id, now);
        self.demand(id, now);
    }

    fn start_afresh(&mut self, id: AddressId, now: Instant) {
        let is_reachable = self
            .candidates
            .get(id)
            .is_some_and(|candidate| candidate.is_reachable);
        if let Some(judged) = self.judged.get_mut(id).filter(|_| !is_reachable) {
            judged.evidence.start_afresh(now);
        }
    }

    /// The same where it may be taken away and brought again all day, as by a port mapping that is lost and made. One that
    /// `is_new` is asked about like others.
    pub(super) fn check_within_budget(
        &mut self,
        id: AddressId,
        addr: &Multiaddr,
        is_new: bool,
        now: Instant,
    ) {
        if !is_new {
            self.start_afresh(id, now);
        }
        if self.budgets.of_listener_at(addr, now).take(now) {
            // One that nobody was asked about yet has its turn among the new ones.
            let entry = self.judged.get(id);
            if !is_new && entry.is_some_and(|it| it.schedule.asked_at.is_some()) {
                self.demand(id, now);
            }
            return;
        }
        if let Some(judged) = self.judged.get_mut(id) {
            judged.schedule.waits_for_budget = true;
            if !is_new {
                judged.schedule.begin_recheck(now);
            }
        }
        self.wake.by(now, "an address is back");
    }

    /// A change concerns some addresses: has them checked at once, and often from here on.
    pub(super) fn recheck_where(&mut self, now: Instant, concerns: impl Fn(&Candidate) -> bool) {
        self.schedule_where(now, concerns, Schedule::start_over);
    }

    /// The same once, and as seldom from here on as before: it may go on like that.
    pub(super) fn check_once_where(&mut self, now: Instant, concerns: impl Fn(&Candidate) -> bool) {
        self.schedule_where(now, concerns, Schedule::begin_recheck);
    }

    fn schedule_where(
        &mut self,
        now: Instant,
        concerns: impl Fn(&Candidate) -> bool,
        check: fn(&mut Schedule, Instant),
    ) {
        for (id, candidate) in self.candidates.iter() {
            if concerns(candidate)
                && let Some(judged) = self.judged.get_mut(id)
            {
                check(&mut judged.schedule, now);
            }
        }
        self.wake
            .by(now + self.config.gather_delay, "something changed");
    }

    /// This host has noticed that something changed: has all addresses checked, at once unless that happens all the time.
    pub(super) fn recheck_all(&mut self, now: Instant) {
        self.recheck_all_waits = !self.budgets.of(Fund::OwnRestarts).take(now);
        if self.recheck_all_waits {
            self.wake.by(
                self.budgets.ready_at(Fund::OwnRestarts),
                "something changed a while ago",
            );
        } else {
            self.recheck_where(now, |_| true);
        }
    }

    /// The same for the changes that had to wait.
    pub(super) fn recheck_late(&mut self, now: Instant) {
        if !self.recheck_all_waits {
            return;
        }
        if !self.budgets.of(Fund::OwnRestarts).take(now) {
            let at = self.budgets.ready_at(Fund::OwnRestarts);
            self.wake.by(at, "something changed a while ago");
            return;
        }
        self.recheck_all_waits = false;
        self.check_once_where(now, |_| true);
    }

    /// A listener came or went: what may be mapped to it is checked, and not again and again where that goes on.
    pub(super) fn recheck_behind(&mut self, listener: &Multiaddr, now: Instant) {
        let mut behind = Vec::new();
        for (id, candidate) in self.candidates.iter() {
            if address::listens_for(listener, &candidate.addr) {
                let mut others = self.listeners.kinds().filter(|it| *it != listener);
                let has_other = others.any(|it| address::listens_for(it, &candidate.addr));
                behind.push((id, candidate.addr.clone(), has_other));
            }
        }
        for (id, addr, has_other) in behind {
            if !self.budgets.of_listener_at(&addr, now).take(now) {
                continue;
            }
            let Some(judged) = self.judged.get_mut(id) else {
                continue;
            };
            if has_other {
                // Likely nothing is new, and then it is checked as seldom as before.
                judged.schedule.begin_recheck(now);
            } else {
                judged.schedule.start_over(now);
            }
        }
        self.wake
            .by(now + self.config.gather_delay, "a listener changed");
    }

    /// Somebody sees this node at `addr`; `None` where the swarm does not say who.
    pub(super) fn note_report(
        &mut self,
        addr: Multiaddr,
        observer: Option<Observer>,
        now: Instant,
    ) {
        let dialed = self.connections.dialed();
        if let Some(seen) = self.observations.note(&addr, observer, dialed) {
            self.guess(seen.external, now);
            if seen.is_another_ip && self.budgets.of(Fund::Restarts).take(now) {
                self.observations.forget_ports();
                self.recheck_where(now, |_| true);
            }
        }
        if let Some(id) = self.track(addr, |sources| sources.observed = true, now)
            && let Some(candidate) = self.candidates.get_mut(id)
        {
            let seen_by =
                |candidate: &Candidate| (candidate.reports.count(), candidate.reports.groups());
            let before = seen_by(candidate);
            candidate.reports.note(observer, dialed);
            let after = seen_by(candidate);
            if before != after {
                // How many must have proven it is another question now.
                self.judged.touch(id);
            }
            if before.0 < 2 && after.0 >= 2 {
                let at = now + self.config.gather_delay;
                self.wake.by(at, "a second host sees an address");
            }
        }
    }

    /// An external IP with each of our listen ports, over the transport that it was seen over or another one.
    pub(super) fn guess(&mut self, external: ExternalIp, now: Instant) {
        let guesses: Vec<Multiaddr> = self
            .listeners
            .kinds()
            .filter_map(|listen| external.of_listener(listen))
            .filter(|guess| self.is_testable(guess).is_ok())
            .collect();
        for guess in guesses {
            let other_transport = address::transport(&guess) != Some(external.transport);
            let known = self
                .candidates
                .find(&guess)
                .and_then(|id| self.candidates.get(id));
            if other_transport
                && known.is_some_and(|known| known.sources.guessed && !known.other_transport)
            {
                // Peers have spoken of it, and do so no longer.
                continue;
            }
            let mut is_new = false;
            let source = |sources: &mut Sources| {
                is_new = !std::mem::replace(&mut sources.guessed, true);
            };
            let tracked = self.track_seen(guess, source, external.reports, now);
            let Some((id, candidate)) =
                tracked.and_then(|id| Some((id, self.candidates.get_mut(id)?)))
            else {
                continue;
            };
            if other_transport {
                candidate.reports = candidate.reports.max(external.reports);
                candidate.other_transport |= is_new;
                continue;
            }
            let was_unobserved = candidate.is_unobserved_guess();
            if std::mem::take(&mut candidate.other_transport) {
                candidate.reports = external.reports;
            }
            candidate.reports = candidate.reports.max(external.reports);
            if was_unobserved {
                // There may be a mapping now that there was not when it was asked about.
                self.servers.lift_refusals_of(id);
                if let Some(judged) = self.judged.get_mut(id) {
                    judged.schedule.start_over(now);
                }
                self.wake
                    .by(now + self.config.gather_delay, "a peer sees an address");
            }
        }
    }

    /// Withdraws the addresses of which the last listener is gone: nobody can get through to them any longer.
    pub(super) fn withdraw_unfounded(&mut self, gone: &Multiaddr, now: Instant) {
        let class = Class::of(gone);
        for id in self.candidates.ids() {
            let Some(candidate) = self.candidates.get(id) else {
                continue;
            };
            let was_behind = address::listens_for(gone, &candidate.addr);
            let has_listener = self.listeners.has_port_of(&candidate.addr);
            let accepted = self.listeners.accepts(candidate.class);
            let lost = was_behind && !has_listener
                || Some(candidate.class) == class && !accepted && candidate.is_only_observed();
            // The certificate is another one, say.
            let outdated = was_behind
                && candidate.sources.guessed
                && !self.listeners.explains(&candidate.addr);
            if lost || outdated {
                let unfounded = |sources: &mut Sources| {
                    sources.guessed = false;
                    sources.observed &= !lost;
                };
                self.withdraw(id, unfounded, now);
            }
        }
    }
}
