//! One request: whom it goes to, and what it names.

use std::time::Duration;

use rand::RngExt;
use web_time::Instant;

use super::Priority;
use crate::{
    address,
    reachability::{
        Event, MAX_ADDRESS_LEN, Output, ProbeRequest, Reachability, RequestStarted,
        candidates::AddressId,
        probes::{Probe, Target},
        prospects::{Again, Choice, Question},
    },
};

/// Bytes of addresses in one request, so that the whole message stays under 1,024 (nim-libp2p's limit).
const MAX_ADDRESS_BYTES: usize = MAX_ADDRESS_LEN + PER_ADDRESS;
/// Bytes that the encoding adds to each address.
const PER_ADDRESS: usize = 3;
/// How much longer than the handler the core waits before it gives a probe up by itself.
const SLACK: Duration = Duration::from_secs(2);

impl Reachability {
    pub(super) fn send(
        &mut self,
        id: AddressId,
        choice: Choice,
        named: &[(Priority, AddressId)],
        now: Instant,
    ) {
        let targets = self.targets(id, &choice, named, now);
        let addrs: Vec<_> = targets.iter().map(|target| target.addr.clone()).collect();
        let timeout = if addrs.len() > 1 {
            self.config.batch_timeout
        } else {
            self.config.request_timeout
        };
        let nonce = self.rng.random();
        let sequence = self.connections.next_sequence();
        let probe = self.probes.insert(Probe::new(
            choice.peer,
            nonce,
            choice.connection,
            targets,
            sequence,
            now,
            now + timeout + SLACK,
        ));
        self.servers.note_asked(&choice.peer, probe, now);
        if let Some(entry) = self.judged.get_mut(id) {
            entry.schedule.asked_at = Some(now);
        }
        let started = RequestStarted {
            probe,
            server: choice.peer,
            addresses: addrs.clone(),
        };
        self.tell(Event::RequestStarted(started));
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
    pub(super) fn targets(
        &self,
        id: AddressId,
        choice: &Choice,
        named: &[(Priority, AddressId)],
        now: Instant,
    ) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut bytes = 0;
        let alone = self
            .judged
            .get(id)
            .is_some_and(|entry| entry.schedule.alone);
        let Some(server) = self.servers.get(&choice.peer) else {
            return targets;
        };
        let survey = self.survey(now);
        let mut most = self.config.addresses_per_request;
        if server.has_wanted_dial_data() || self.dial_data.has_paid(server.group(), now) {
            let paid_for = self
                .dial_data
                .answers_left(server.group(), now)
                .unwrap_or(1);
            most = most.min(usize::try_from(paid_for).unwrap_or(usize::MAX));
        }
        let others = named
            .iter()
            .filter(|(priority, other)| *priority < Priority::OnePeersWord && *other != id)
            .map(|(_, other)| *other);
        for other in std::iter::once(id).chain(others) {
            let (Some(candidate), Some(entry)) =
                (self.candidates.get(other), self.judged.get(other))
            else {
                continue;
            };
            if other != id {
                let again = if entry.schedule.wants_fresh() && entry.standing.is_decided() {
                    Again::Anyone
                } else {
                    Self::again(entry)
                };
                let question = Question {
                    id: other,
                    candidate,
                    evidence: &entry.evidence,
                    again,
                };
                // A server is free to dial it instead.
                let may_follow = !candidate.is_unobserved_guess()
                    && !address::is_name(&candidate.addr)
                    && survey.suits(server, &question);
                if !may_follow {
                    continue;
                }
            }
            bytes += candidate.addr.len() + PER_ADDRESS;
            let full = targets.len() >= most || bytes > MAX_ADDRESS_BYTES || alone;
            if full && !targets.is_empty() {
                break;
            }
            let asked = survey.asked(server, candidate);
            targets.push(Target::new(other, candidate, asked));
        }
        targets
    }
}
