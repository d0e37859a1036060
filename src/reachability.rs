//! The pure core of the client: it decides on which addresses strangers can reach this node, by asking servers.
//!
//! Candidates go in and probes come out; outcomes go in and verdicts come out. There is no I/O here, no clock and no
//! global randomness: time comes in with each call and the seed with the first one. So the same code runs in
//! [`client::Behaviour`](crate::client::Behaviour), in property tests, in a simulator and in benches.
//!
//! # Drive loop
//! 1. Tell what happened: the methods `on_*`, and the commands [`Reachability::add_candidate`],
//!    [`Reachability::check_now`] and [`Reachability::pin_summary`].
//! 2. Drain [`Reachability::poll_event`] and carry out each [`Output`].
//! 3. Call [`Reachability::handle_timeout`] when [`Reachability::poll_timeout`] says so, and drain again.
//!
//! Time may stand still but is taken to never go back: an earlier `now` counts as the latest one seen.
//!
//! # What it does not do
//! It opens no streams, dials nobody and looks for no servers; it never asks about an address that is not public unless
//! configured so, and never believes a server's word where the protocol has a proof.
//!
//! # Where it departs from the plain reading of the design
//! * A challenge to a standing verdict counts only what was heard since the surprise. With all of the window counted,
//!   eight old successes would outvote every fresh failure until they expire. When the challenge succeeds, what was heard
//!   before it is dropped, and the others are asked again.
//! * Few servers' unanimous failure decides only after others had some time to appear: half a second with three, five
//!   seconds with one. Peers connect one after the other, and the first to come is not all of them. Nobody is waited for longer
//!   than 90 s after the first word, or servers that stall could hold a verdict back.
//! * Failures alone overturn `Reachable` once no proof of the last three hours is left, however few servers there are.
//! * A TCP or QUIC listener is guessed at every external IP, over whichever transport peers see it. Where all of them happen to be
//!   connected over one, as after the IP has changed and everybody was dialed anew, nobody speaks of the other.
//! * An address that has just been found is rechecked every minute for its first ten minutes.
//! * A server on the address's own network (its IPv4, its IPv6 /64, or known by private IPs only) is neither asked about
//!   that address nor heard, unless private addresses are allowed: its dial-back passes no NAT, or hairpins.
//! * A source IP that is not global, or a server that was dialed by name, is taken for contacted: which IPs a name stands
//!   for is not known.
//! * Servers whose IP is not known count as one neighbourhood, or else one operator could vote as often as it has peer IDs.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::IpAddr,
};

use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use rand::{SeedableRng, rngs::StdRng};
use web_time::Instant;

use crate::address::{self, Transport};

mod candidate;
pub use candidate::Sources;
use candidate::{AddressId, Candidate, Candidates, Class};

mod config;
pub use config::Config;

mod dispatch;

mod event;
pub use event::{
    AddressReport, CandidateError, Event, NotTracked, Output, ProbeEnd, ProbeOutcome, ProbeRequest,
    Probed, RequestCompleted, Summary, Violation,
};

mod evidence;
use evidence::{Finding, Witness};

mod gathering;
use gathering::ExternalIp;

mod judgement;

mod nat;
pub use nat::NatMapping;
use nat::Observations;

mod outcome;

mod probe;
use probe::Probe;
pub use probe::ProbeId;

mod query;
pub use query::Sizes;

mod schedule;

mod servers;
use servers::{Link, Servers, Wish, subnet};

#[cfg(test)]
mod tests;

mod vantage;
use vantage::Contacts;
pub use vantage::Vantage;

mod verdict;
pub use verdict::Verdict;

/// The longest address that leaves room for itself in a request of 1,024 bytes, which is all that nim-libp2p takes.
const MAX_ADDRESS_LEN: usize = 960;
/// How many listen addresses guesses are made from.
const MAX_LISTEN_ADDRS: usize = 32;
/// How many confirmations and expiries may be on their way through the swarm.
const MAX_ECHOES: usize = 256;

/// A connection of this node.
#[derive(Debug, Clone)]
#[expect(
    clippy::exhaustive_structs,
    reason = "the caller builds it, and what a connection is does not change"
)]
pub struct ConnectionInfo {
    /// The swarm's id for it.
    pub id: ConnectionId,
    /// The peer at its other end.
    pub peer: PeerId,
    /// Whether the peer dialed.
    pub inbound: bool,
    /// The local address that it came in on; `None` for an outbound one.
    pub local: Option<Multiaddr>,
    /// The remote address.
    pub remote: Multiaddr,
}

#[derive(Debug)]
struct Connection {
    peer: PeerId,
    inbound: bool,
    relayed: bool,
    local: Option<Multiaddr>,
    /// `None` through a relay, and where it was dialed by name.
    remote_ip: Option<IpAddr>,
    relay_ip: Option<IpAddr>,
    vantage: Vantage,
    sequence: u64,
    /// A nonce came in on it: it is a dial-back and about to close.
    dial_back: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    Confirmed,
    Expired,
}

/// The reachability service; see the module's doc for how to drive it.
pub struct Reachability {
    local_peer: PeerId,
    config: Config,
    rng: StdRng,
    now: Instant,
    /// Counts connections and probes, so that which came first is known even within one instant.
    sequence: u64,
    /// How many connections this node has dialed, relayed ones not counted.
    dialed: u64,
    connections: HashMap<ConnectionId, Connection>,
    was_connected: bool,
    listen_addrs: Vec<Multiaddr>,
    external_ips: VecDeque<ExternalIp>,
    candidates: Candidates,
    servers: Servers,
    contacts: Contacts,
    observations: Observations,
    nat_mapping: NatMapping,
    probes: BTreeMap<ProbeId, Probe>,
    next_probe: u64,
    /// Start of the hour that dial data is counted for, and bytes paid in it.
    dial_data_since: Instant,
    dial_data_paid: u64,
    outputs: VecDeque<Output>,
    echoes: VecDeque<(Multiaddr, Echo)>,
    summary: Summary,
    pinned: Option<Summary>,
    /// When decisions are next to be made.
    wake: Option<Instant>,
    restarted_at: Option<Instant>,
    servers_wanted_at: Option<Instant>,
    /// When a doubtful address was last asked about.
    doubtful_asked_at: Option<Instant>,
}

impl std::fmt::Debug for Reachability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reachability")
            .field("addresses", &self.candidates.len())
            .field("servers", &self.servers.len())
            .field("probes", &self.probes.len())
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

/// Facts: what happened.
impl Reachability {
    /// A service for the node `local_peer`, for tests and simulations: the same seed and the same calls give the same
    /// outputs.
    #[must_use]
    pub fn new(local_peer: PeerId, config: Config, seed: u64, now: Instant) -> Self {
        Self::with_rng(local_peer, config, StdRng::seed_from_u64(seed), now)
    }

    /// As [`Reachability::new`] with a seed that nobody can guess. Nonces come from it, and a server that knew them could
    /// claim dial-backs that never were.
    #[must_use]
    pub fn from_seed(local_peer: PeerId, config: Config, seed: [u8; 32], now: Instant) -> Self {
        Self::with_rng(local_peer, config, StdRng::from_seed(seed), now)
    }

    fn with_rng(local_peer: PeerId, config: Config, rng: StdRng, now: Instant) -> Self {
        Self {
            local_peer,
            rng,
            now,
            sequence: 0,
            dialed: 0,
            connections: HashMap::new(),
            was_connected: false,
            listen_addrs: Vec::new(),
            external_ips: VecDeque::new(),
            candidates: Candidates::new(config.max_addresses),
            servers: Servers::new(&config),
            contacts: Contacts::new(config.max_contacted_ips, config.contact_lifetime),
            observations: Observations::default(),
            nat_mapping: NatMapping::default(),
            probes: BTreeMap::new(),
            next_probe: 0,
            dial_data_since: now,
            dial_data_paid: 0,
            outputs: VecDeque::new(),
            echoes: VecDeque::new(),
            summary: Summary::default(),
            pinned: None,
            wake: None,
            restarted_at: None,
            servers_wanted_at: None,
            doubtful_asked_at: None,
            config,
        }
    }

    /// The swarm listens on `addr`.
    pub fn on_listen_addr(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        let Some(addr) = self.canonical(addr) else {
            return;
        };
        if self.listen_addrs.contains(&addr) || address::is_relayed(&addr) {
            return;
        }
        if self.listen_addrs.len() >= MAX_LISTEN_ADDRS {
            self.listen_addrs.remove(0);
        }
        self.listen_addrs.push(addr.clone());
        self.start_all_over(now);
        if self.is_testable(&addr).is_ok() {
            self.track(addr, |sources| sources.listening = true, now);
        }
        for external in self.external_ips.clone() {
            self.guess(external, now);
        }
    }

    /// The swarm no longer listens on `addr`.
    pub fn on_listen_addr_gone(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        let Some(addr) = self.canonical(addr) else {
            return;
        };
        if let Some(id) = self.candidates.find(&addr) {
            self.withdraw(id, |sources| sources.listening = false, now);
        }
        let before = self.listen_addrs.len();
        self.listen_addrs.retain(|listen| *listen != addr);
        if self.listen_addrs.len() == before {
            return;
        }
        let unfounded: Vec<AddressId> = self
            .candidates
            .iter()
            .filter(|(_, c)| c.sources.guessed)
            .filter(|(_, c)| {
                !self
                    .listen_addrs
                    .iter()
                    .any(|listen| listens_for(listen, &c.addr))
            })
            .map(|(id, _)| id)
            .collect();
        for id in unfounded {
            self.withdraw(id, |sources| sources.guessed = false, now);
        }
        self.start_all_over(now);
    }

    /// A peer sees this node at `addr`, or somebody guesses so: the swarm's `NewExternalAddrCandidate`.
    pub fn on_candidate(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        let Some(addr) = self.canonical(addr) else {
            return;
        };
        if self.is_testable(&addr).is_err() || address::is_name(&addr) {
            return;
        }
        self.note_report(addr, None, now);
    }

    /// The peer on `connection` says that it sees this node at `observed`. Unlike a candidate of the swarm this has the
    /// port that the peer really saw: identify replaces it by a listen port before it makes a candidate.
    pub fn on_observed(&mut self, now: Instant, connection: ConnectionId, observed: &Multiaddr) {
        let now = self.advance(now);
        let Some(info) = self.connections.get(&connection) else {
            return;
        };
        // To a peer that dialed, our address is what it dialed: that says nothing about the NAT.
        let outbound = !info.inbound && !info.relayed;
        let observer = info.remote_ip;
        let Some(addr) = self.canonical(observed) else {
            return;
        };
        if !outbound || self.is_testable(&addr).is_err() || address::is_name(&addr) {
            return;
        }
        if let (Some(observer), Some(waist)) = (observer, address::thin_waist(&addr)) {
            self.observations.record(observer, waist);
            self.update_nat_mapping();
        }
        self.note_report(addr, observer, now);
    }

    /// An external address was confirmed to the swarm, by this service or by anyone else.
    pub fn on_external_confirmed(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        if self.take_echo(addr, Echo::Confirmed) {
            return;
        }
        let Some(addr) = self.canonical(addr) else {
            return;
        };
        if self.is_testable(&addr).is_ok()
            && let Some(id) = self.track(addr, |sources| sources.confirmed = true, now)
            && let Some(candidate) = self.candidates.get_mut(id)
        {
            // From now on it is theirs to expire.
            candidate.announced = false;
        }
    }

    /// An external address was expired. If it was not this service that did so, the address starts afresh.
    pub fn on_external_expired(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        if self.take_echo(addr, Echo::Expired) {
            return;
        }
        let Some(id) = self.canonical(addr).and_then(|a| self.candidates.find(&a)) else {
            return;
        };
        let Some(candidate) = self.candidates.get_mut(id) else {
            return;
        };
        candidate.announced = false;
        candidate.inherited = false;
        candidate.evidence.clear();
        candidate.schedule.start_over(now);
        let old = candidate.standing.verdict();
        candidate.standing.clear(now);
        if old != Verdict::Unknown {
            let address = candidate.addr.clone();
            self.outputs.push_back(Output::Event(Event::VerdictChanged {
                address,
                old,
                new: Verdict::Unknown,
                vantage: None,
                confidence: 0.5,
                time_to_verdict: None,
            }));
        }
        self.share_with_group(id, now);
        self.withdraw(
            id,
            |sources| {
                sources.confirmed = false;
                sources.added = false;
            },
            now,
        );
        self.update_summary();
        self.wake_by(now);
    }

    /// A connection was established.
    pub fn on_connection(&mut self, now: Instant, info: ConnectionInfo) {
        let now = self.advance(now);
        let relayed = address::is_relayed(&info.remote)
            || info.local.as_ref().is_some_and(address::is_relayed);
        let first_ip =
            address::ip(&info.remote).or_else(|| info.local.as_ref().and_then(address::ip));
        let remote_ip = address::ip(&info.remote).filter(|_| !relayed);
        let vantage = remote_ip
            // A gateway that puts its own IP in place of the source hides who dialed.
            .filter(|ip| self.config.allow_private || address::ip_scope(*ip).is_global())
            .map_or(Vantage::Contacted, |ip| self.contacts.vantage_of(ip, now));
        self.sequence += 1;
        if !info.inbound && !relayed {
            self.dialed += 1;
        }
        let connection = Connection {
            peer: info.peer,
            inbound: info.inbound,
            relayed,
            local: info.local,
            remote_ip,
            relay_ip: first_ip.filter(|_| relayed),
            vantage,
            sequence: self.sequence,
            dial_back: false,
        };
        if let Some(ip) = remote_ip {
            self.contacts.open(ip, now);
        }
        if self.connections.is_empty() && self.was_connected {
            self.start_all_over(now);
        }
        self.was_connected = true;
        self.note_stranger(&connection, now);
        self.connections.insert(info.id, connection);
    }

    /// A connection closed.
    pub fn on_connection_closed(&mut self, now: Instant, id: ConnectionId) {
        let now = self.advance(now);
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if let Some(ip) = connection.remote_ip {
            self.contacts.close(ip, now);
        }
        self.servers.remove(&connection.peer, id);
        self.wake_by(now);
    }

    /// The remote address of a connection changed.
    pub fn on_address_change(&mut self, now: Instant, id: ConnectionId, remote: &Multiaddr) {
        let now = self.advance(now);
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.relayed {
            return;
        }
        let ip = address::ip(remote);
        if ip == connection.remote_ip {
            return;
        }
        if let Some(old) = std::mem::replace(&mut connection.remote_ip, ip) {
            self.contacts.close(old, now);
        }
        if let Some(new) = ip {
            self.contacts.open(new, now);
        }
    }

    /// A packet goes out to `ip`: a dial, whether it succeeds or not.
    pub fn on_contact(&mut self, now: Instant, ip: IpAddr) {
        let now = self.advance(now);
        self.contacts.touch(ip, now);
    }

    /// The peer at the other end says whether it serves dial requests on this connection.
    pub fn on_support(&mut self, now: Instant, id: ConnectionId, supported: bool) {
        let now = self.advance(now);
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let peer = connection.peer;
        if !supported || connection.dial_back {
            self.servers.remove(&peer, id);
            return;
        }
        let link = Link {
            connection: id,
            relayed: connection.relayed,
            ip: connection.remote_ip.or(connection.relay_ip),
        };
        if self.servers.add(peer, link, now) {
            let under_way = self.probes.iter().find(|(_, probe)| probe.server == peer);
            if let Some((probe, _)) = under_way {
                self.servers.set_busy(&peer, *probe);
            }
            let open: Vec<AddressId> = self
                .candidates
                .iter()
                .filter(|(id, candidate)| {
                    let standing = &candidate.standing;
                    let open =
                        !standing.has_margin(&candidate.evidence) || standing.is_challenged();
                    let wish = Wish::of(*id, candidate, &self.contacts);
                    open && !standing.is_round_full(&candidate.evidence)
                        && self.servers.has_news(&peer, &wish, now)
                })
                .map(|(id, _)| id)
                .collect();
            for id in open {
                if let Some(candidate) = self.candidates.get_mut(id) {
                    candidate.schedule.reopen();
                }
            }
            self.wake_by(now + self.config.gather_delay);
        }
    }
}

/// The drive loop.
impl Reachability {
    /// When [`Reachability::handle_timeout`] wants to be called. May lie in the past: then at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probes = self.probes.values().map(Probe::next_deadline).min();
        self.wake.into_iter().chain(probes).min()
    }

    /// What is to be done next; `None` until something else happens.
    pub fn poll_event(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Makes the decisions that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        self.expire_probes(now);
        if self.wake.is_some_and(|wake| wake <= now) {
            self.wake = None;
            self.decide(now);
        }
    }
}

/// Keeping the facts.
impl Reachability {
    /// Time never goes back.
    fn advance(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn wake_by(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Without our own `/p2p`; `None` if it is another peer's.
    fn canonical(&self, addr: &Multiaddr) -> Option<Multiaddr> {
        let addr = address::without_peer_id(addr, &self.local_peer);
        let foreign = !address::is_relayed(&addr) && address::peer_id(&addr).is_some();
        (!foreign).then_some(addr)
    }

    fn is_testable(&self, addr: &Multiaddr) -> Result<(), CandidateError> {
        if address::is_relayed(addr) {
            return Err(CandidateError::Relayed);
        }
        if addr.len() > MAX_ADDRESS_LEN {
            return Err(CandidateError::TooLong);
        }
        let class = Class::of(addr).ok_or(CandidateError::NotDialable)?;
        if class.transport == Transport::Other {
            return Err(CandidateError::NotDialable);
        }
        if address::is_name(addr) {
            return Ok(());
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

    fn track(
        &mut self,
        addr: Multiaddr,
        source: impl FnOnce(&mut Sources),
        now: Instant,
    ) -> Option<AddressId> {
        let is_new = self.candidates.find(&addr).is_none();
        let (id, _) = self.candidates.insert(addr, source, now)?;
        self.inherit(id, now);
        if is_new {
            self.wake_by(now + self.config.gather_delay);
        }
        Some(id)
    }

    fn withdraw(&mut self, id: AddressId, source: impl FnOnce(&mut Sources), now: Instant) {
        if let Some(gone) = self.candidates.withdraw(id, source) {
            if let Some(waist) = gone.waist.filter(|_| gone.class.transport.is_plain()) {
                self.tell_heirs(waist, false, now);
            }
            if gone.announced {
                self.expire(gone.addr);
            }
            self.update_summary();
            self.wake_by(now);
        } else if self
            .candidates
            .get(id)
            .is_some_and(Candidate::is_only_observed)
        {
            self.disinherit(id, now);
        }
    }

    fn restart(&mut self, id: AddressId, now: Instant) {
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.schedule.demand(now);
        }
        self.wake_by(now);
    }

    fn start_over(&mut self, id: AddressId, now: Instant) {
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.schedule.start_over(now);
        }
        self.wake_by(now + self.config.gather_delay);
    }

    fn start_all_over(&mut self, now: Instant) {
        for (_, candidate) in self.candidates.iter_mut() {
            candidate.schedule.start_over(now);
        }
        self.wake_by(now + self.config.gather_delay);
    }

    /// A connection from an IP that was never contacted is evidence for the address that it came in on.
    fn note_stranger(&mut self, connection: &Connection, now: Instant) {
        let (Some(local), Some(remote_ip)) = (&connection.local, connection.remote_ip) else {
            return;
        };
        let stranger = connection.inbound
            && !connection.relayed
            && connection.vantage == Vantage::Independent
            && (self.config.allow_private || address::ip_scope(remote_ip).is_global());
        // While a probe is under way, it may be the dial-back, which is to be counted once.
        if !stranger || !self.probes.is_empty() {
            return;
        }
        let same_subnet = |id: &AddressId| {
            self.candidates
                .get(*id)
                .and_then(|c| c.subnet)
                .is_some_and(|candidate| candidate == subnet(remote_ip))
        };
        let exact = self
            .candidates
            .iter()
            .find(|(_, c)| {
                c.waist.is_some()
                    && c.waist == address::thin_waist(local)
                    && address::same_stack(&c.addr, local)
            })
            .map(|(id, _)| (id, Finding::Proof(Vantage::Independent)));
        let found = exact.or_else(|| {
            let (unheard_of, seen): (Vec<_>, Vec<_>) = self
                .candidates
                .iter()
                .filter(|(_, c)| listens_for(local, &c.addr))
                .partition(|(_, c)| c.is_unheard_of());
            let mapped = if seen.is_empty() { unheard_of } else { seen };
            match mapped.as_slice() {
                [(id, _)] => Some((*id, Finding::Inferred)),
                _ => None,
            }
        });
        let Some((id, finding)) = found.filter(|(id, _)| !same_subnet(id)) else {
            return;
        };
        // Which of its IPs we contacted when we dialed it by name is not known.
        let named = self.connections.values().any(|other| {
            other.peer == connection.peer && !other.relayed && other.remote_ip.is_none()
        });
        if !named {
            self.record(id, Witness::Stranger, None, finding, now);
            self.review(id, now);
        }
    }

    fn update_nat_mapping(&mut self) {
        let new = self.observations.mapping();
        let old = std::mem::replace(&mut self.nat_mapping, new);
        if old != new && new != NatMapping::Unknown {
            self.outputs
                .push_back(Output::Event(Event::NatMappingChanged { old, new }));
        }
    }

    fn confirm(&mut self, addr: Multiaddr) {
        self.note_echo(&addr, Echo::Confirmed);
        self.outputs.push_back(Output::Confirm(addr));
    }

    fn expire(&mut self, addr: Multiaddr) {
        self.note_echo(&addr, Echo::Expired);
        self.outputs.push_back(Output::Expire(addr));
    }

    fn note_echo(&mut self, addr: &Multiaddr, echo: Echo) {
        if self.echoes.len() >= MAX_ECHOES {
            self.echoes.pop_front();
        }
        self.echoes.push_back((addr.clone(), echo));
    }

    fn take_echo(&mut self, addr: &Multiaddr, echo: Echo) -> bool {
        let at = self
            .echoes
            .iter()
            .position(|(a, e)| a == addr && *e == echo);
        at.and_then(|at| self.echoes.remove(at)).is_some()
    }
}

/// Whether a listener on `listen` could be what a NAT maps `addr` to without changing the port.
fn listens_for(listen: &Multiaddr, addr: &Multiaddr) -> bool {
    let (Some(a), Some(b)) = (address::thin_waist(listen), address::thin_waist(addr)) else {
        return false;
    };
    a.port == b.port && address::same_stack(listen, addr)
}
