//! What comes of probes: nonces, responses and ends, turned into outcomes of addresses and into what is remembered of servers.
//!
//! Only a proof and a credible failure are evidence about the address. All else is held against what failed: the server, the
//! link to it, or this one address as far as this server goes.

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use crate::{
    address,
    protocol::DialResponse,
    reachability::{
        Event, Obstacle, ProbeEnd, ProbeId, ProbeOutcome, Probed, Reachability, RequestCompleted,
        Vantage,
        candidates::{AddressId, Candidate, Class},
        probes::{Answer, DialBackSource},
        review::Entry,
        servers::{IpGroup, Refused, Setback},
    },
};

mod ending;
use ending::Ending;

mod outcomes;

impl Reachability {
    /// A nonce came in on connection `id`. `true`: answer it with `OK`; `false`: reset the stream, it proves nothing.
    pub fn on_nonce(&mut self, now: Instant, id: ConnectionId, nonce: u64) -> bool {
        let now = self.advance(now);
        let Some(connection) = self.connections.get(id) else {
            return false;
        };
        let from = self.network_inside(connection.remote_ip);
        let Some((probe_id, probe)) = self.probes.with_nonce(nonce) else {
            return false;
        };
        let vantage = if self.servers.was_dialed_by_name(&probe.server) {
            Vantage::Contacted
        } else {
            connection.vantage
        };
        if !probe.accept(id, connection, from, vantage) {
            return false;
        }
        let (peer, settled) = (connection.peer, probe.settle_awaited());
        if let Some(connection) = self.connections.get_mut(id) {
            connection.dial_back = true;
        }
        self.servers.remove(&peer, id);
        for (index, source) in settled {
            self.prove(probe_id, index, source, now);
        }
        self.clean_up(probe_id);
        true
    }

    /// This node denied a connection that came in on `local` from `remote`, by `peer` if that is known: it may have been a
    /// dial-back.
    ///
    /// Where the peer is known, its packets came through and were answered. If that is the server that was asked, and about
    /// one address that fits, that is as good as its nonce.
    pub fn on_inbound_denied(
        &mut self,
        now: Instant,
        local: &Multiaddr,
        remote: &Multiaddr,
        peer: Option<PeerId>,
    ) {
        let now = self.advance(now);
        let (any, certain) = self.probes.deny(local, peer.as_ref());
        if !any {
            return;
        }
        tracing::debug!("an inbound connection was denied that may be a dial-back");
        let Some((id, index)) = certain else {
            return;
        };
        let ip = address::ip(remote);
        let over = address::port(local).map(|(protocol, _)| protocol);
        let vantage = match peer {
            Some(peer) if !self.servers.was_dialed_by_name(&peer) => {
                self.vantage_of_source(ip, over, now)
            }
            _ => Vantage::Contacted,
        };
        let from = self.network_inside(ip);
        let proves = self
            .probes
            .get_mut(id)
            .is_some_and(|probe| probe.prove_by_denial(index, from));
        if proves {
            self.prove(id, index, DialBackSource { ip, vantage }, now);
        }
    }

    /// The server answered probe `id`. js-libp2p answers once for each address.
    pub fn on_response(&mut self, now: Instant, id: ProbeId, response: DialResponse) {
        let now = self.advance(now);
        let Some(probe) = self.probes.under_way(id) else {
            return;
        };
        let server = probe.server;
        match probe.read(response, now) {
            Ok((index, answer)) => self.apply(id, index, answer, now),
            Err((setback, outcome)) => {
                probe.reported = true;
                self.servers.note_setback(&server, setback, now);
                self.report_probe(id, 0, outcome, now);
            }
        }
    }

    /// The server wants `bytes` of dial data for address `index` of probe `id`. `true`: send them; they count whether it takes
    /// them or not. `false`: break the exchange off, there is no budget for them.
    pub fn on_dial_data_request(
        &mut self,
        now: Instant,
        id: ProbeId,
        index: u32,
        bytes: u64,
    ) -> bool {
        let now = self.advance(now);
        let Ok(index) = usize::try_from(index) else {
            return false;
        };
        let Some(probe) = self.probes.under_way(id) else {
            return false;
        };
        let (server, link, is_first) = (probe.server, probe.connection, probe.dial_data == 0);
        let Some(target) = probe.targets.get(index) else {
            return false;
        };
        let (address, class, is_paid) = (target.id, target.class, target.dial_data > 0);
        self.servers.note_dial_data(&server, true);
        let is_word = self
            .candidates
            .get(address)
            .is_some_and(|c| !c.sources.are_own() && c.reports.count() <= 1 && !c.is_reachable);
        let group = self.group_of(&server);
        // Dial data over a relay would use up the application's circuit.
        let over_relay = self.connections.get(link).is_none_or(|it| it.relayed);
        let pays =
            !over_relay && !is_paid && self.dial_data.pay(bytes, group, is_first, is_word, now);
        let Some(probe) = self.probes.get_mut(id) else {
            return false;
        };
        if !pays {
            probe.unaffordable = Some(if over_relay {
                Refused::OverRelay(class)
            } else if is_word {
                Refused::Address(address)
            } else {
                Refused::Class(class)
            });
            return false;
        }
        probe.dial_data = probe.dial_data.saturating_add(bytes);
        if let Some(target) = probe.targets.get_mut(index) {
            target.dial_data = target.dial_data.saturating_add(bytes);
        }
        if let Some(candidate) = self.candidates.get_mut(address) {
            candidate.dial_data = candidate.dial_data.saturating_add(bytes);
        }
        true
    }

    fn group_of(&self, server: &PeerId) -> IpGroup {
        self.servers.identity(server).1
    }

    /// The exchange of probe `id` is over. To be told once for each probe that was handed out.
    pub fn on_probe_end(&mut self, now: Instant, id: ProbeId, end: ProbeEnd) {
        let now = self.advance(now);
        let Some(probe) = self.probes.under_way(id) else {
            return;
        };
        probe.ended = true;
        if let Some((index, source)) = probe.unclaimed_proof() {
            self.prove(id, index, source, now);
        }
        let Some(probe) = self.probes.get(id) else {
            return;
        };
        let server = probe.server;
        let primary = probe.primary().map(|target| target.id);
        let tells_nothing = probe.tells_nothing();
        let ending = Ending::of(probe, end, self.servers.dials_first(&server));
        if !probe.is_informed() {
            self.servers.note_trouble(&server, now);
        }
        if probe.dialed().is_some_and(|index| !probe.is_last(index)) {
            self.servers.note_dials_first(&server);
        }
        self.conclude(id, ending, now);
        if tells_nothing || ending == Ending::Misbehaved {
            self.report_probe(id, 0, ProbeOutcome::NoAnswer(end), now);
        }
        self.clean_up(id);
        if let Some(primary) = primary {
            self.judged.touch(primary);
        }
        self.wake.by(now, "a request is over");
    }

    /// What follows from the end of an exchange, for what has no answer.
    fn conclude(&mut self, id: ProbeId, ending: Ending, now: Instant) {
        let Some(probe) = self.probes.get(id) else {
            return;
        };
        let (server, link) = (probe.server, probe.connection);
        let unanswered: Vec<(usize, AddressId, Class)> = probe
            .unanswered()
            .map(|(index, target)| (index, target.id, target.class))
            .collect();
        let first = probe.primary().map(|target| target.id);
        let several = probe.targets.len() > 1;
        let mut asks_alone = false;
        match ending {
            Ending::Answered => {}
            Ending::Misbehaved => self.servers.note_setback(&server, Setback::Misbehaved, now),
            // None of its addresses can be dialed there.
            Ending::RefusedAll => self.refused(id, server, &unanswered, now),
            Ending::PassedOver(count) => {
                self.refused(id, server, &unanswered[..count.min(unanswered.len())], now);
            }
            // There is a way without the relay by now.
            Ending::Unpaid(Refused::OverRelay(_)) if !self.servers.is_relayed(&server) => {}
            // Other servers may want less, or nothing.
            Ending::Unpaid(what) => {
                self.servers.note_refusal(&server, what, now);
            }
            Ending::Left => self.servers.note_departure(&server, now),
            Ending::Silent => {
                self.note_silence(server, link, first, now);
                asks_alone = several;
            }
            Ending::SilentAboutFirst => asks_alone = true,
        }
        // libp2p-autonat 0.16 dials the last one, and does not answer where nobody does.
        if asks_alone && let Some(judged) = first.and_then(|id| self.judged.get_mut(id)) {
            judged.schedule.alone = true;
        }
    }

    /// The server had no answer, or had it too late. Where nobody speaks of the address, it may be for the address's sake.
    fn note_silence(
        &mut self,
        server: PeerId,
        link: ConnectionId,
        address: Option<AddressId>,
        now: Instant,
    ) {
        let guess = address.filter(|id| {
            self.candidates
                .get(*id)
                .is_some_and(Candidate::is_unobserved_guess)
        });
        // One that is silent about more of them than can be remembered is silent.
        let forgiven = guess.is_some_and(|id| {
            self.servers
                .note_refusal(&server, Refused::Address(id), now)
        });
        if !forgiven {
            self.servers.note_silence(&server, link, now);
        }
    }

    /// The server would dial none of these, which it did not mention.
    fn refused(
        &mut self,
        id: ProbeId,
        server: PeerId,
        targets: &[(usize, AddressId, Class)],
        now: Instant,
    ) {
        // A request is one refusal, however many addresses of a class it has, and none of a class that was dialed.
        let (mut noted, mut dialed) = (Vec::new(), Vec::new());
        let answered = self.probes.get(id);
        for target in answered.iter().flat_map(|probe| probe.answered()) {
            let list = if target.refused {
                &mut noted
            } else {
                &mut dialed
            };
            list.push(target.class);
        }
        for (index, address, class) in targets {
            if dialed.contains(class) {
                let what = Refused::Address(*address);
                self.servers.note_refusal(&server, what, now);
            } else if !noted.contains(class) {
                noted.push(*class);
                self.note_refusal(&server, *address, *class, now);
            }
            self.report_probe(id, *index, ProbeOutcome::Refused, now);
        }
    }

    /// A refusal goes for the kind of an address, unless only peers speak of it: they can name what no server dials.
    fn note_refusal(&mut self, server: &PeerId, address: AddressId, class: Class, now: Instant) {
        let is_word = self
            .candidates
            .get(address)
            .is_none_or(Candidate::is_only_observed);
        let what = if is_word {
            Refused::Address(address)
        } else {
            Refused::Class(class)
        };
        self.servers.note_refusal(server, what, now);
    }

    fn apply(&mut self, id: ProbeId, index: usize, answer: Answer, now: Instant) {
        let Some(probe) = self.probes.get(id) else {
            return;
        };
        let (server, link, asked_at) = (probe.server, probe.connection, probe.sent_at);
        let paid = probe.dial_data > 0;
        let is_denied = probe.is_denied;
        let Some(target) = probe.targets.get(index) else {
            return;
        };
        let (address, class, asked) = (target.id, target.class, target.asked);
        match answer {
            Answer::Proof(source) => {
                self.servers.note_answer(&server, address, link);
                self.servers.note_dial_data(&server, paid);
                self.prove(id, index, source, now);
            }
            Answer::Failure => {
                self.servers.note_answer(&server, address, link);
                self.servers.note_dial_data(&server, paid);
                if is_denied {
                    self.obstruct(address, Obstacle::DeniedHere);
                    self.servers
                        .note_refusal(&server, Refused::Address(address), now);
                    self.report_probe(id, index, ProbeOutcome::DeniedHere, now);
                } else {
                    self.record_of(&server, address, asked, false, asked_at, now);
                    self.report_probe(id, index, ProbeOutcome::DialError, now);
                }
            }
            Answer::Refused => {
                self.servers.note_refused_answer(&server, link);
                self.note_refusal(&server, address, class, now);
                // All servers have refused it before, and one more does: the others need not be asked again before the next check.
                let waits = |it: &Entry| {
                    it.obstacle == Some(Obstacle::Refused) && !it.schedule.is_settled()
                };
                if self.judged.get(address).is_some_and(waits) {
                    self.put_off(address, now);
                }
                self.report_probe(id, index, ProbeOutcome::Refused, now);
            }
            Answer::LateFailure => {
                self.note_silence(server, link, Some(address), now);
                self.report_probe(id, index, ProbeOutcome::LateDialError, now);
            }
            Answer::AwaitsNonce | Answer::AlreadyProven => {}
        }
        self.review_one(address, now);
    }

    /// Gives up nonces and probes that are overdue.
    pub(super) fn expire_probes(&mut self, now: Instant) {
        for id in self.probes.due(now) {
            let Some(probe) = self.probes.get_mut(id) else {
                continue;
            };
            let (server, ended, deadline) = (probe.server, probe.ended, probe.deadline);
            let (link, misdelivered, denied) =
                (probe.connection, probe.misdelivered, probe.is_denied);
            for (index, claimed_ok) in probe.give_up_awaited(now) {
                let address = self
                    .probes
                    .get(id)
                    .and_then(|probe| probe.targets.get(index))
                    .map(|target| target.id);
                let outcome = match (claimed_ok, address) {
                    // The fault is this node's set-up, and goes for this address alone.
                    (_, Some(address)) if misdelivered || denied => {
                        let obstacle = if denied {
                            Obstacle::DeniedHere
                        } else {
                            Obstacle::Proxied
                        };
                        self.obstruct(address, obstacle);
                        self.servers
                            .note_refusal(&server, Refused::Address(address), now);
                        if denied {
                            ProbeOutcome::DeniedHere
                        } else {
                            ProbeOutcome::NonceMissing
                        }
                    }
                    (true, _) => {
                        self.servers.note_setback(&server, Setback::Misbehaved, now);
                        ProbeOutcome::NonceMissing
                    }
                    (false, _) => {
                        self.servers.note_silence(&server, link, now);
                        ProbeOutcome::DialBackError
                    }
                };
                self.report_probe(id, index, outcome, now);
                if let Some(address) = address {
                    self.judged.touch(address);
                }
                self.wake.by(now, "a nonce did not come");
            }
            if !ended && deadline <= now {
                self.on_probe_end(now, id, ProbeEnd::Timeout);
            }
            self.clean_up(id);
        }
    }

    /// Says once what stands in an address's way.
    pub(super) fn obstruct(&mut self, address: AddressId, obstacle: Obstacle) {
        let (Some(judged), Some(candidate)) =
            (self.judged.get_mut(address), self.candidates.get(address))
        else {
            return;
        };
        if judged.obstacle == Some(obstacle) {
            return;
        }
        judged.obstacle = Some(obstacle);
        let address = candidate.addr.clone();
        self.tell(Event::Obstructed { address, obstacle });
    }

    fn clean_up(&mut self, id: ProbeId) {
        let Some(probe) = self.probes.remove_if_over(id) else {
            return;
        };
        self.servers.set_idle(id);
        // Other addresses may wait for the server, or for the place.
        self.wake.by(self.now, "a server is free");
        if let Some((index, outcome, took)) = probe.result {
            let dialed = outcome.is_of_a_dial().then(|| probe.targets.get(index));
            let completed = RequestCompleted {
                probe: id,
                server: probe.server,
                addresses: probe.targets.len(),
                dialed: dialed.flatten().map(|target| target.addr.clone()),
                outcome,
                dial_data: probe.dial_data,
                took,
            };
            self.tell(Event::RequestCompleted(completed));
        }
    }

    fn report_probe(&mut self, id: ProbeId, index: usize, outcome: ProbeOutcome, now: Instant) {
        let Some(probe) = self.probes.get_mut(id) else {
            return;
        };
        let took = now.saturating_duration_since(probe.sent_at);
        if probe
            .result
            .is_none_or(|(_, best, _)| outcome.weight() > best.weight())
        {
            probe.result = Some((index, outcome, took));
        }
        let Some(target) = probe.targets.get(index) else {
            return;
        };
        let probed = Probed {
            probe: id,
            server: probe.server,
            address: target.addr.clone(),
            outcome,
            dial_data: target.dial_data,
            took,
            addresses: probe.targets.len(),
        };
        self.tell(Event::Probed(probed));
    }
}
