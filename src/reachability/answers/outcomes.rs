//! What an answer is as an outcome: a proof, or a word against the address, weighed by what is known of the server. Which answers
//! prove something, and after what time a failure no longer counts, is in `probes.rs`.

use libp2p_identity::PeerId;
use web_time::Instant;

use crate::{
    address,
    reachability::{
        ProbeId, ProbeOutcome, Reachability,
        belief::{Asked, Outcome, Source},
        candidates::{AddressId, Candidate},
        probes::DialBackSource,
        prospects::{INSIDE_NEARBY, INSIDE_PRIVATE},
        servers::{Ability, Server},
    },
};

impl Reachability {
    /// The nonce came back over target `index`.
    pub(super) fn prove(
        &mut self,
        id: ProbeId,
        index: usize,
        source: DialBackSource,
        now: Instant,
    ) {
        let Some(probe) = self.probes.get(id) else {
            return;
        };
        let (server, asked_at) = (probe.server, probe.sent_at);
        let Some(target) = probe.targets.get(index) else {
            return;
        };
        let (address, class) = (target.id, target.class);
        let mut asked = target.asked;
        let DialBackSource { ip, vantage } = source;
        let outside = ip.filter(|ip| self.is_from_outside(*ip));
        asked.vantage = vantage;
        let candidate = self.candidates.get(address);
        let wide = candidate.and_then(Candidate::wide_network);
        // It may share a border with the address, wherever else the server is known.
        let near = outside.is_none_or(|ip| wide == Some(address::wide_network(ip)));
        if outside.is_none() && !self.servers.is_at_global_ip(&server) {
            // From inside, as likely as from behind a gateway that hides its source.
            asked.inside = asked.inside.max(INSIDE_PRIVATE);
        } else if near {
            asked.inside = asked.inside.max(INSIDE_NEARBY);
        }
        let paid_as = self.group_of(&server);
        self.servers.note_proof(&server, class, outside);
        if self.dial_data.note_proof(paid_as) {
            self.servers.note_all_changed();
        }
        let alike: Vec<AddressId> = self
            .candidates
            .iter()
            .filter(|(id, c)| c.class == class && *id != address)
            .map(|(id, _)| id)
            .collect();
        for id in alike {
            // The version of the evidence says whether anything changes for it.
            if let Some(judged) = self.judged.peek_mut(id) {
                judged.evidence.set_ability(&server, Ability::Shown);
            }
        }
        self.record_of(&server, address, asked, true, asked_at, now);
        self.report_probe(id, index, ProbeOutcome::Reachable(vantage), now);
        self.review_one(address, now);
    }

    pub(super) fn record_of(
        &mut self,
        server: &PeerId,
        address: AddressId,
        mut asked: Asked,
        success: bool,
        asked_at: Instant,
        now: Instant,
    ) {
        let class = self
            .candidates
            .get(address)
            .map(|candidate| candidate.class);
        let is_able = |server: &Server| {
            class.is_some_and(|class| success || server.ability(class) == Ability::Shown)
        };
        let able = self.servers.get(server).filter(|server| is_able(server));
        let able = able.map(|server| server.group());
        // It may have left in the meantime.
        let (host, group) = self.servers.identity(server);
        let source = Source::Server {
            peer: *server,
            host,
            group,
        };
        // What it has shown with this address is in the evidence, and counts there: also as to how many servers are able.
        let before = self
            .judged
            .get(address)
            .and_then(|entry| entry.evidence.newest_by(server));
        if let Some(before) = before {
            asked.ability = before.asked.ability;
        }
        let outcome = Outcome {
            at: now,
            source,
            asked,
            success,
        };
        if let Some(judged) = self.judged.get_mut(address) {
            judged.schedule.note_answer(asked_at, now);
            judged.obstacle = None;
            if !success && judged.evidence.is_older(asked_at) {
                return;
            }
            if let Some(group) = able {
                let vantage = outcome.asked.vantage;
                judged.standing.note_answer(success, vantage, group, now);
            }
        }
        self.record(address, outcome, now);
    }

    /// Takes in an outcome, a server's or a stranger's.
    pub(in crate::reachability) fn record(
        &mut self,
        address: AddressId,
        outcome: Outcome,
        now: Instant,
    ) {
        let prior = self.prior(address);
        let Some(judged) = self.judged.get_mut(address) else {
            return;
        };
        judged.evidence.record(outcome);
        let posterior = judged.posterior(&self.model, prior, now);
        judged.hear(outcome.success, outcome.asked.vantage, &posterior, now);
        if outcome.success {
            // Those that inherit may want the vantage.
            self.share_with_siblings(address, now);
        }
        self.wake.by(now, "an outcome");
    }
}
