//! What comes of probes: nonces, responses and ends, turned into evidence about addresses and into experience with
//! servers. Only a proof and a credible failure become evidence; all else says something about the server.

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use crate::{
    address::{self, Neighbourhood},
    protocol::DialResponse,
    reachability::{
        AddressId, Class, Event, Finding, Output, Probe, ProbeEnd, ProbeId, ProbeOutcome, Probed,
        Reachability, RequestCompleted, Vantage, Violation, Witness,
        candidate::Candidate,
        probe::{Answer, Carrier, Source, Unusable},
        servers::{Refused, Setback, subnet},
    },
};

impl Reachability {
    /// A nonce came in on connection `id`. `true`: answer it with `OK`; `false`: reset the stream, it proves nothing.
    pub fn on_nonce(&mut self, now: Instant, id: ConnectionId, nonce: u64) -> bool {
        let now = self.advance(now);
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let Some(local) = connection.local.clone() else {
            return false;
        };
        let mut carrier = Carrier {
            id,
            inbound: connection.inbound,
            relayed: connection.relayed,
            local,
            subnet: connection
                .remote_ip
                .filter(|_| !self.config.allow_private)
                .map(subnet),
            source: Source {
                ip: connection.remote_ip,
                vantage: connection.vantage,
            },
            sequence: connection.sequence,
        };
        let found = self
            .probes
            .iter_mut()
            .find(|(_, probe)| probe.nonce == nonce);
        let Some((probe_id, probe)) = found else {
            return false;
        };
        if self.servers.was_dialed_by_name(&probe.server) {
            carrier.source.vantage = Vantage::Contacted;
        }
        if !probe.accept(&carrier) {
            return false;
        }
        connection.dial_back = true;
        let peer = connection.peer;
        let probe_id = *probe_id;
        let settled = probe.settle_awaited();
        self.servers.remove(&peer, id);
        for (index, source) in settled {
            self.prove(probe_id, index, source, now);
        }
        self.clean_up(probe_id);
        true
    }

    /// The server answered probe `id`. js-libp2p answers once for each address.
    pub fn on_response(&mut self, now: Instant, id: ProbeId, response: DialResponse) {
        let now = self.advance(now);
        let Some(probe) = self.probes.get_mut(&id).filter(|probe| !probe.ended) else {
            return;
        };
        let server = probe.server;
        match probe.read(response, now) {
            Ok((index, answer)) => self.apply(id, index, answer, now),
            Err(unusable) => {
                let (setback, outcome) = match unusable {
                    Unusable::Rejected => (Setback::Rejected, ProbeOutcome::Rejected),
                    Unusable::InternalError => (Setback::Rejected, ProbeOutcome::InternalError),
                    Unusable::Nonsense => (
                        Setback::Misbehaved,
                        ProbeOutcome::NoAnswer(ProbeEnd::ProtocolViolation(Violation::Response)),
                    ),
                };
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
        let asked_for = |probe: &Probe| !probe.ended && index < probe.targets.len();
        if !self.probes.get(&id).is_some_and(asked_for) {
            return false;
        }
        let affordable = self.pay_dial_data(bytes, now);
        let Some(probe) = self.probes.get_mut(&id) else {
            return false;
        };
        let Some(target) = probe.targets.get_mut(index) else {
            return false;
        };
        if !affordable {
            probe.unaffordable = Some(target.class);
            return false;
        }
        target.dial_data = target.dial_data.saturating_add(bytes);
        probe.dial_data = probe.dial_data.saturating_add(bytes);
        if let Some(candidate) = self.candidates.get_mut(target.id) {
            candidate.dial_data = candidate.dial_data.saturating_add(bytes);
        }
        true
    }

    /// The exchange of probe `id` is over. To be told once for each probe that was handed out.
    pub fn on_probe_end(&mut self, now: Instant, id: ProbeId, end: ProbeEnd) {
        let now = self.advance(now);
        let Some(probe) = self.probes.get_mut(&id).filter(|probe| !probe.ended) else {
            return;
        };
        probe.ended = true;
        let primary = probe.primary().map(|target| target.id);
        let proof = probe.unclaimed_proof();
        if let Some(candidate) = primary.and_then(|id| self.candidates.get_mut(id)) {
            candidate.schedule.in_flight = candidate.schedule.in_flight.saturating_sub(1);
        }
        if let Some((index, source)) = proof {
            self.prove(id, index, source, now);
        }
        self.judge_end(id, end, now);
        let probe = self.probes.get(&id);
        if let Some(server) = probe.filter(|it| !it.is_informed()).map(|it| it.server) {
            self.servers.note_trouble(&server, now);
        }
        let targets: Vec<AddressId> = self
            .probes
            .get(&id)
            .map(|probe| probe.targets.iter().map(|target| target.id).collect())
            .unwrap_or_default();
        self.clean_up(id);
        for target in targets {
            self.review(target, now);
        }
        self.wake_by(now);
    }

    /// What the end of an exchange says about the server, and what is to be done about addresses without an answer.
    fn judge_end(&mut self, id: ProbeId, end: ProbeEnd, now: Instant) {
        let Some(probe) = self.probes.get(&id) else {
            return;
        };
        let server = probe.server;
        let setback = match end {
            ProbeEnd::ProtocolViolation(_) => Some(Setback::Misbehaved),
            ProbeEnd::ConnectionClosed | ProbeEnd::DialDataRefused => None,
            // A stream that is reset after the answers is how some peers close.
            _ if probe.has_answers() || probe.reported => None,
            _ => Some(Setback::Failed),
        };
        let mut unanswered: Vec<_> = probe
            .unanswered()
            .map(|(index, target)| (index, target.id, target.class))
            .collect();
        let only_refused = probe.refused_first_only();
        let several = probe.targets.len() > 1;
        let silent = !probe.has_answers() && !probe.reported;
        let primary_passed_over = probe.has_answers()
            && probe
                .primary()
                .is_some_and(|primary| unanswered.iter().any(|(_, id, _)| *id == primary.id));
        // A server dials the first that it can. Only libp2p-autonat 0.16 dials the last: an answer for that one says nothing
        // about those before it, unless the server has dialed another before.
        let passed_over = match probe.dialed() {
            Some(index) if !probe.is_last(index) => {
                self.servers.note_dials_first(&server);
                index
            }
            Some(index) if self.servers.dials_first(&server) => index,
            _ => 0,
        };
        let primary = probe.primary().map(|target| target.id);
        let unaffordable = probe.unaffordable;
        match setback {
            Some(Setback::Failed) => self.note_silence(server, primary, now),
            Some(setback) => self.servers.note_setback(&server, setback, now),
            None => {}
        }
        if only_refused {
            // One refusal for the whole request: none of its addresses can be dialed there.
            self.refused(id, server, &unanswered, now);
        } else if passed_over > 0 {
            unanswered.truncate(passed_over);
            self.refused(id, server, &unanswered, now);
        } else if let Some(class) = unaffordable {
            // Other servers may want less, or nothing.
            self.servers
                .note_refusal(&server, Refused::Class(class), now);
        } else if let Some(candidate) = primary.and_then(|id| self.candidates.get_mut(id)) {
            // libp2p-autonat 0.16 dials the last one, and does not answer where nobody does.
            candidate.schedule.alone |= primary_passed_over || silent && several;
        }
        if silent || matches!(end, ProbeEnd::ProtocolViolation(_)) {
            self.report_probe(id, 0, ProbeOutcome::NoAnswer(end), now);
        }
    }

    /// The server had no answer, or had it too late. Where nobody speaks of the address, it may be for the address's sake.
    fn note_silence(&mut self, server: PeerId, address: Option<AddressId>, now: Instant) {
        let unheard_of = address.filter(|id| {
            self.candidates
                .get(*id)
                .is_some_and(Candidate::is_unheard_of)
        });
        // One that is silent about more of them than can be remembered is silent.
        let forgiven = unheard_of.is_some_and(|id| {
            self.servers
                .note_refusal(&server, Refused::UnheardOf(id), now)
        });
        if !forgiven {
            self.servers.note_setback(&server, Setback::Failed, now);
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
        for target in self
            .probes
            .get(&id)
            .iter()
            .flat_map(|probe| probe.answered())
        {
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
                let what = Refused::Class(*class);
                self.servers.note_refusal(&server, what, now);
            }
            self.report_probe(id, *index, ProbeOutcome::Refused, now);
        }
    }

    fn apply(&mut self, id: ProbeId, index: usize, answer: Answer, now: Instant) {
        let Some(probe) = self.probes.get(&id) else {
            return;
        };
        let server = probe.server;
        let Some(target) = probe.targets.get(index) else {
            return;
        };
        let (address, class) = (target.id, target.class);
        let independent = target.expected == Vantage::Independent;
        if !matches!(answer, Answer::AwaitsNonce | Answer::LateFailure) {
            self.servers.note_answer(&server, address);
        }
        match answer {
            Answer::Proof(source) => self.prove(id, index, source, now),
            Answer::Failure => {
                let finding = Finding::Failure {
                    able: self.servers.is_able(&server, class),
                    independent,
                };
                let neighbourhood = self.servers.neighbourhood(&server);
                self.record(
                    address,
                    Witness::Server(server),
                    neighbourhood,
                    finding,
                    now,
                );
                let proven = self.candidates.get(address).is_some_and(|c| {
                    let comparable =
                        !independent || c.evidence.vantage() == Some(Vantage::Independent);
                    comparable && c.standing.is_proven() && !c.standing.is_challenged_by_many()
                });
                if proven {
                    self.servers.note_doubt(&server, class);
                }
                self.report_probe(id, index, ProbeOutcome::DialError, now);
            }
            Answer::Refused => {
                self.servers
                    .note_refusal(&server, Refused::Class(class), now);
                self.report_probe(id, index, ProbeOutcome::Refused, now);
            }
            Answer::LateFailure => {
                self.note_silence(server, Some(address), now);
                self.report_probe(id, index, ProbeOutcome::LateDialError, now);
            }
            Answer::AwaitsNonce => {}
        }
        self.review(address, now);
    }

    /// The nonce came back over target `index`.
    fn prove(&mut self, id: ProbeId, index: usize, source: Source, now: Instant) {
        let Some(probe) = self.probes.get(&id) else {
            return;
        };
        let server = probe.server;
        let Some(target) = probe.targets.get(index) else {
            return;
        };
        let (address, class) = (target.id, target.class);
        let Source { ip, vantage } = source;
        let ip = ip.filter(|ip| self.config.allow_private || address::ip_scope(*ip).is_global());
        self.servers.note_proof(&server, class, ip);
        let neighbourhood = self.servers.neighbourhood(&server);
        self.record(
            address,
            Witness::Server(server),
            neighbourhood,
            Finding::Proof(vantage),
            now,
        );
        // Who failed where this one got through has trouble of his own.
        let wrong: Vec<_> = self
            .candidates
            .get(address)
            .map(|candidate| candidate.evidence.failed_servers(vantage).collect())
            .unwrap_or_default();
        for failed in wrong {
            self.servers.note_doubt(&failed, class);
        }
        self.report_probe(id, index, ProbeOutcome::Reachable(vantage), now);
        self.review(address, now);
    }

    pub(super) fn record(
        &mut self,
        address: AddressId,
        witness: Witness,
        neighbourhood: Option<Neighbourhood>,
        finding: Finding,
        now: Instant,
    ) {
        let Some(candidate) = self.candidates.get_mut(address) else {
            return;
        };
        let round = candidate.standing.round();
        let again = candidate
            .evidence
            .servers_since(round)
            .any(|server| witness == Witness::Server(server));
        candidate.standing.hear(witness, finding, again, now);
        candidate
            .evidence
            .record(witness, neighbourhood, finding, now);
        if candidate.standing.is_challenged() {
            candidate.schedule.reopen();
        }
        if matches!(witness, Witness::Server(_)) {
            candidate.schedule.wants_fresh = false;
            candidate.schedule.demanded = false;
            candidate.schedule.alone = false;
            candidate.schedule.last_probe = Some(now);
        }
        if !finding.is_failure() && candidate.standing.is_proven() {
            // Those that inherit may want the vantage.
            self.share_with_group(address, now);
        }
        self.wake_by(now);
    }

    /// Gives up nonces and probes that are overdue.
    pub(super) fn expire_probes(&mut self, now: Instant) {
        let due: Vec<ProbeId> = self
            .probes
            .iter()
            .filter(|(_, probe)| probe.next_deadline() <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(probe) = self.probes.get_mut(&id) else {
                continue;
            };
            let (server, ended, deadline) = (probe.server, probe.ended, probe.deadline);
            let misdelivered = probe.misdelivered;
            for (index, claimed_ok) in probe.give_up_awaited(now) {
                let (setback, outcome) = match (claimed_ok, misdelivered) {
                    (true, false) => (Setback::Misbehaved, ProbeOutcome::NonceMissing),
                    // A proxy in front of this node may change the stack: no fault of the server's.
                    (true, true) => (Setback::Failed, ProbeOutcome::NonceMissing),
                    (false, _) => (Setback::Failed, ProbeOutcome::DialBackError),
                };
                self.servers.note_setback(&server, setback, now);
                self.report_probe(id, index, outcome, now);
                self.wake_by(now);
            }
            if !ended && deadline <= now {
                self.on_probe_end(now, id, ProbeEnd::Timeout);
            }
            self.clean_up(id);
        }
    }

    fn clean_up(&mut self, id: ProbeId) {
        if self.probes.get(&id).is_some_and(|probe| probe.is_over())
            && let Some(probe) = self.probes.remove(&id)
        {
            self.servers.set_idle(&probe.server, id);
            // Other addresses may wait for the server, or for the place.
            self.wake_by(self.now);
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
                self.outputs
                    .push_back(Output::Event(Event::RequestCompleted(completed)));
            }
        }
    }

    fn report_probe(&mut self, id: ProbeId, index: usize, outcome: ProbeOutcome, now: Instant) {
        let Some(probe) = self.probes.get_mut(&id) else {
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
        self.outputs.push_back(Output::Event(Event::Probed(Probed {
            probe: id,
            server: probe.server,
            address: target.addr.clone(),
            outcome,
            dial_data: target.dial_data,
            took,
            addresses: probe.targets.len(),
        })));
    }
}
