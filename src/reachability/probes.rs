//! The requests under way: the addresses that each names, the nonces that came back for it, and what its answers prove.
//!
//! The nonce is the proof, never the server's word (spec, "AutoNAT V2 Protocol"). It counts when it came in on an
//! inbound, direct connection that was established after the request left, over the protocol stack of the address that
//! it is to prove, not from the network of that address itself, and within 5 s of the response. A server could otherwise
//! hand it back over a connection that is open already, or dial from behind the same router.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use web_time::Instant;

use crate::{
    address::{self, Neighbourhood},
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{
        belief::Asked,
        candidates::{AddressId, Candidate, Class},
        connections::Connection,
        contacts::Vantage,
        event::{ProbeEnd, ProbeOutcome, Violation},
        servers::{ProbeId, Refused, Setback},
    },
};

/// How long a nonce may come in after the response that speaks of it. go-libp2p waits as long.
pub(crate) const NONCE_GRACE: Duration = Duration::from_secs(5);
/// An `E_DIAL_ERROR` that comes later may not have been dialed for: js-libp2p answers so when its time has run out.
pub(crate) const CREDIBLE_FAILURE: Duration = Duration::from_secs(25);

/// One address of a request.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) id: AddressId,
    pub(crate) addr: Multiaddr,
    pub(crate) class: Class,
    network: Option<Neighbourhood>,
    /// What could be said of the server when the request left.
    pub(crate) asked: Asked,
    /// Bytes paid for it.
    pub(crate) dial_data: u64,
    answered: bool,
    pub(crate) refused: bool,
    claimed_ok: bool,
    /// A dial-back came through and was denied by this node.
    proven_by_denial: bool,
    /// The server says that it dialed it, and the nonce has until then to come in.
    awaits_nonce_until: Option<Instant>,
}

impl Target {
    pub(crate) fn new(id: AddressId, candidate: &Candidate, asked: Asked) -> Self {
        Self {
            id,
            addr: candidate.addr.clone(),
            class: candidate.class,
            network: candidate.network,
            asked,
            dial_data: 0,
            answered: false,
            refused: false,
            claimed_ok: false,
            proven_by_denial: false,
            awaits_nonce_until: None,
        }
    }
}

/// A nonce that came in for this probe.
#[derive(Debug, Clone)]
struct Delivery {
    connection: ConnectionId,
    local: Multiaddr,
    network: Option<Neighbourhood>,
    source: DialBackSource,
    used: bool,
}

impl Delivery {
    fn fits(&self, target: &Target) -> bool {
        fits(&self.local, self.network, target)
    }
}

/// Whether what came in at `local` from the network `from` can be a dial of `target`. From the target's own network it
/// crossed no border that strangers have to cross: a router turned it back, or it never left. What came in at another public
/// IP was a dial of that: it is rare to translate one public IP into another.
fn fits(local: &Multiaddr, from: Option<Neighbourhood>, target: &Target) -> bool {
    let own = from.is_some() && from == target.network;
    let at = address::ip(local).filter(|ip| address::ip_scope(*ip).is_global());
    let elsewhere = at
        .zip(address::ip(&target.addr))
        .is_some_and(|(at, wanted)| at.to_canonical() != wanted.to_canonical());
    !own && !elsewhere && address::same_stack(local, &target.addr)
}

/// Where a nonce came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DialBackSource {
    /// `None` if it is not known.
    pub(crate) ip: Option<IpAddr>,
    /// Its vantage at the time when the connection was established.
    pub(crate) vantage: Vantage,
}

/// What an answer says about one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Proof(DialBackSource),
    Failure,
    Refused,
    /// A dial-back is claimed, and the nonce may still come in.
    AwaitsNonce,
    /// A dial-back that this node denied has proven it.
    AlreadyProven,
    /// It came so late that nothing may have been dialed.
    LateFailure,
}

/// An index out of range, an answer to the same address again, or a dial status that does not belong to `OK`.
const NONSENSE: (Setback, ProbeOutcome) = (
    Setback::Misbehaved,
    ProbeOutcome::NoAnswer(ProbeEnd::ProtocolViolation(Violation::Response)),
);

#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) server: PeerId,
    /// Which the request left on.
    pub(crate) connection: ConnectionId,
    pub(crate) nonce: u64,
    pub(crate) targets: Vec<Target>,
    pub(crate) sent_at: Instant,
    pub(crate) sequence: u64,
    /// When it is given up, whatever the handler says.
    pub(crate) deadline: Instant,
    pub(crate) dial_data: u64,
    /// Dial data was not paid, so that the server is not asked about this for a while.
    pub(crate) unaffordable: Option<Refused>,
    /// The exchange on the stream is over.
    pub(crate) ended: bool,
    /// An answer for the request as a whole was reported.
    pub(crate) reported: bool,
    /// The weightiest outcome so far, for which target, and after which time.
    pub(crate) result: Option<(usize, ProbeOutcome, Duration)>,
    /// The nonce came in as it should, but where no address of the request can have led: over another stack, or from the
    /// address's own network.
    pub(crate) misdelivered: bool,
    /// A connection that may be its dial-back was denied at this node: what the server says of it says nothing.
    pub(crate) is_denied: bool,
    deliveries: Vec<Delivery>,
}

/// All requests that are under way, or whose nonce may still come.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    by_id: BTreeMap<ProbeId, Probe>,
    next: u64,
}

impl Probes {
    pub(crate) fn insert(&mut self, probe: Probe) -> ProbeId {
        let id = ProbeId(self.next);
        self.next += 1;
        self.by_id.insert(id, probe);
        id
    }

    pub(crate) fn get(&self, id: ProbeId) -> Option<&Probe> {
        self.by_id.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: ProbeId) -> Option<&mut Probe> {
        self.by_id.get_mut(&id)
    }

    /// If its end was not told yet.
    pub(crate) fn under_way(&mut self, id: ProbeId) -> Option<&mut Probe> {
        self.get_mut(id).filter(|probe| !probe.ended)
    }

    pub(crate) fn with_nonce(&mut self, nonce: u64) -> Option<(ProbeId, &mut Probe)> {
        let mut all = self.by_id.iter_mut();
        all.find(|(_, probe)| probe.nonce == nonce)
            .map(|(id, probe)| (*id, probe))
    }

    /// Those sent for the sake of `address` that have not ended.
    pub(crate) fn about(&self, address: AddressId) -> impl Iterator<Item = &Probe> {
        self.by_id
            .values()
            .filter(move |it| !it.ended && it.primary().is_some_and(|target| target.id == address))
    }

    /// Those that have something to do by now.
    pub(crate) fn due(&self, now: Instant) -> Vec<ProbeId> {
        let all = self.by_id.iter();
        all.filter(|(_, probe)| probe.next_deadline() <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.by_id.values().map(Probe::next_deadline).min()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Removes it if nothing more can come of it.
    pub(crate) fn remove_if_over(&mut self, id: ProbeId) -> Option<Probe> {
        self.get(id)
            .is_some_and(Probe::is_over)
            .then(|| self.by_id.remove(&id))
            .flatten()
    }

    /// Marks those whose dial-back may be a connection to `local` that this node denied, from `peer` where that is known.
    /// Returns which of them `peer` was asked in, and for which address, if that is certain.
    pub(crate) fn deny(
        &mut self,
        local: &Multiaddr,
        peer: Option<&PeerId>,
    ) -> (bool, Option<(ProbeId, usize)>) {
        let (mut any, mut certain) = (false, None);
        for (id, probe) in &mut self.by_id {
            if probe.ended || peer.is_some_and(|peer| probe.server != *peer) {
                continue;
            }
            let mut fitting =
                (0..probe.targets.len()).filter(|i| fits(local, None, &probe.targets[*i]));
            let Some(index) = fitting.next() else {
                continue;
            };
            any = true;
            if peer.is_some() && fitting.next().is_none() {
                certain = Some((*id, index));
            }
            probe.is_denied = true;
        }
        (any, certain)
    }
}

impl Probe {
    pub(crate) fn new(
        server: PeerId,
        nonce: u64,
        connection: ConnectionId,
        targets: Vec<Target>,
        sequence: u64,
        sent_at: Instant,
        deadline: Instant,
    ) -> Self {
        Self {
            server,
            connection,
            nonce,
            targets,
            sent_at,
            sequence,
            deadline,
            dial_data: 0,
            unaffordable: None,
            ended: false,
            reported: false,
            result: None,
            misdelivered: false,
            is_denied: false,
            deliveries: Vec::new(),
        }
    }

    /// The address that the probe was sent for.
    pub(crate) fn primary(&self) -> Option<&Target> {
        self.targets.first()
    }

    /// Takes in the nonce, if the connection `id` that it came in on, from the network `from`, can prove anything. A server that
    /// answers once per address (js-libp2p) delivers it as often, each time on a new connection.
    pub(crate) fn accept(
        &mut self,
        id: ConnectionId,
        carrier: &Connection,
        from: Option<Neighbourhood>,
        vantage: Vantage,
    ) -> bool {
        let Some(local) = &carrier.local else {
            return false;
        };
        let fresh = carrier.inbound && !carrier.relayed && carrier.sequence > self.sequence;
        let mut targets = self.targets.iter();
        let is_wanted = targets.any(|it| !self.is_settled(it) && fits(local, from, it));
        let acceptable = fresh
            && is_wanted
            && self.deliveries.len() < self.targets.len()
            && self.deliveries.iter().all(|d| d.connection != id);
        self.misdelivered |= fresh && !is_wanted;
        if acceptable {
            self.deliveries.push(Delivery {
                connection: id,
                local: local.clone(),
                network: from,
                source: DialBackSource {
                    ip: carrier.remote_ip,
                    vantage,
                },
                used: false,
            });
        }
        acceptable
    }

    /// A dial-back for target `index` from the network `from` was denied by this node. `true` if that proves the address.
    pub(crate) fn prove_by_denial(&mut self, index: usize, from: Option<Neighbourhood>) -> bool {
        let Some(target) = self.targets.get_mut(index) else {
            return false;
        };
        let is_own = from.is_some() && from == target.network;
        let proves = !is_own && !target.answered && !target.proven_by_denial;
        target.proven_by_denial |= proves;
        proves
    }

    fn is_settled(&self, target: &Target) -> bool {
        target.answered && target.awaits_nonce_until.is_none()
    }

    /// Reads a response that came in at `now`. One that says nothing about any address is held against the server.
    pub(crate) fn read(
        &mut self,
        response: DialResponse,
        now: Instant,
    ) -> Result<(usize, Answer), (Setback, ProbeOutcome)> {
        match response.status {
            ResponseStatus::RequestRejected => {
                return Err((Setback::Rejected, ProbeOutcome::Rejected));
            }
            ResponseStatus::InternalError => {
                return Err((Setback::Rejected, ProbeOutcome::InternalError));
            }
            ResponseStatus::DialRefused | ResponseStatus::Ok => {}
        }
        let index = usize::try_from(response.addr_idx).map_err(|_| NONSENSE)?;
        let target = self.targets.get_mut(index).ok_or(NONSENSE)?;
        if target.answered {
            return Err(NONSENSE);
        }
        if response.status == ResponseStatus::DialRefused {
            target.answered = true;
            target.refused = true;
            return Ok((index, Answer::Refused));
        }
        if response.dial_status == DialStatus::Unused {
            return Err(NONSENSE);
        }
        target.answered = true;
        if target.proven_by_denial {
            return Ok((index, Answer::AlreadyProven));
        }
        if let Some(source) = self.take_delivery(index) {
            return Ok((index, Answer::Proof(source)));
        }
        if response.dial_status == DialStatus::DialError {
            let credible = now.saturating_duration_since(self.sent_at) <= CREDIBLE_FAILURE;
            let answer = if credible {
                Answer::Failure
            } else {
                Answer::LateFailure
            };
            return Ok((index, answer));
        }
        if let Some(target) = self.targets.get_mut(index) {
            target.awaits_nonce_until = Some(now + NONCE_GRACE);
            target.claimed_ok = response.dial_status == DialStatus::Ok;
        }
        Ok((index, Answer::AwaitsNonce))
    }

    /// An unused delivery that proves target `index`. One that fits several unanswered addresses proves none but the
    /// one that the server names.
    fn take_delivery(&mut self, index: usize) -> Option<DialBackSource> {
        let target = self.targets.get(index)?;
        let delivery = self
            .deliveries
            .iter_mut()
            .find(|d| !d.used && d.fits(target))?;
        delivery.used = true;
        Some(delivery.source)
    }

    /// Matches nonces that came in late with the answers that wait for them.
    pub(crate) fn settle_awaited(&mut self) -> Vec<(usize, DialBackSource)> {
        let mut settled = Vec::new();
        for index in 0..self.targets.len() {
            let waits = self
                .targets
                .get(index)
                .is_some_and(|target| target.awaits_nonce_until.is_some());
            if !waits {
                continue;
            }
            if let Some(source) = self.take_delivery(index) {
                if let Some(target) = self.targets.get_mut(index) {
                    target.awaits_nonce_until = None;
                }
                settled.push((index, source));
            }
        }
        settled
    }

    /// Gives up the nonces that are overdue. Returns for which addresses, and whether the server claimed `OK`.
    pub(crate) fn give_up_awaited(&mut self, now: Instant) -> Vec<(usize, bool)> {
        let mut overdue = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            if target.awaits_nonce_until.is_some_and(|until| until <= now) {
                target.awaits_nonce_until = None;
                overdue.push((index, target.claimed_ok));
            }
        }
        overdue
    }

    /// When the exchange is over: a nonce that came in without an answer proves the one address that it can be for.
    pub(crate) fn unclaimed_proof(&mut self) -> Option<(usize, DialBackSource)> {
        let delivery = self.deliveries.iter_mut().find(|d| !d.used)?;
        let mut fitting = self
            .targets
            .iter()
            .enumerate()
            .filter(|(_, target)| delivery.fits(target));
        let (index, target) = fitting.next()?;
        if fitting.next().is_some() || target.answered {
            return None;
        }
        delivery.used = true;
        let source = delivery.source;
        if let Some(target) = self.targets.get_mut(index) {
            target.answered = true;
        }
        Some((index, source))
    }

    pub(crate) fn unanswered(&self) -> impl Iterator<Item = (usize, &Target)> {
        self.targets
            .iter()
            .enumerate()
            .filter(|(_, target)| !target.answered)
    }

    /// The one address that the server dialed, if it was one.
    pub(crate) fn dialed(&self) -> Option<usize> {
        let dialed = |target: &Target| target.answered && !target.refused;
        let mut answered = (0..self.targets.len())
            .filter(|i| self.targets.get(*i).is_some_and(|target| target.answered));
        let index = answered.next()?;
        (answered.next().is_none() && self.targets.get(index).is_some_and(dialed)).then_some(index)
    }

    pub(crate) fn is_last(&self, index: usize) -> bool {
        index + 1 == self.targets.len()
    }

    pub(crate) fn answered(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| target.answered)
    }

    /// Whether the server dialed something, or says so.
    pub(crate) fn is_informed(&self) -> bool {
        self.answered().any(|target| !target.refused)
    }

    pub(crate) fn has_answers(&self) -> bool {
        self.answered().next().is_some()
    }

    /// The server has said nothing at all.
    pub(crate) fn tells_nothing(&self) -> bool {
        !self.has_answers() && !self.reported
    }

    /// The first address was refused and no other was mentioned: how a server refuses a request as a whole.
    pub(crate) fn refused_first_only(&self) -> bool {
        self.primary().is_some_and(|target| target.refused)
            && self.targets.iter().skip(1).all(|target| !target.answered)
    }

    /// Nothing more can come of it.
    pub(crate) fn is_over(&self) -> bool {
        self.ended
            && self
                .targets
                .iter()
                .all(|target| target.awaits_nonce_until.is_none())
    }

    /// When it next wants to be looked at.
    pub(crate) fn next_deadline(&self) -> Instant {
        let awaited = self
            .targets
            .iter()
            .filter_map(|target| target.awaits_nonce_until);
        let exchange = (!self.ended).then_some(self.deadline);
        awaited.chain(exchange).min().unwrap_or(self.deadline)
    }
}
