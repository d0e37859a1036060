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
//! # Parts
//! Each part owns its state. Facts flow down this table and come out as outputs; no part calls one above it.
//!
//! | part | owns | answers |
//! |---|---|---|
//! | `contacts` | which hosts this node sent packets to, over TCP and over UDP | the vantage of a source |
//! | `connections` | who is connected, from where, over what | what a connection is |
//! | `observations` | what peers see of this node | external IPs, the NAT's mapping |
//! | `candidates`, `listeners` | the addresses under consideration | how far each is trusted, which give way |
//! | `servers` | each server: links, abilities, refusals, pace, back-off | who can be asked |
//! | `dial_data` | what was paid to whom | whether to pay |
//! | `belief` | the outcomes of one address | the posterior, now and after a supposed answer |
//! | `probes` | the requests under way | what an answer proves |
//! | `prospects` | nothing | who is worth asking |
//! | `verdict` | what was last said of an address | whether to say something else |
//! | `budget` | what is left for work that others can cause | whether more may be done |
//! | `schedule` | when an address is asked about | whether it is its turn |
//! | `announcements` | what the swarm announces | what to confirm and to expire |
//!
//! This file takes the facts in, and `tracking` makes addresses of them. `answers` takes in what comes of probes, `review` turns
//! belief into verdicts and outputs, and `dispatch` sends probes out.
//!
//! # What it does not do
//! It opens no streams, dials nobody and looks for no servers; it never asks about an address that is not public unless
//! configured so, and never believes a server's word where the protocol has a proof.
//!
//! # Where it departs from the plain reading of the specification
//! * A server on the address's own network (its IPv4 /24, its IPv6 /56, or known by a private IP) is neither asked about
//!   that address nor heard, unless private addresses are allowed: its dial-back passes no NAT, or hairpins.
//! * A source IP that is not global, or that may stand behind a name that was dialed, is taken for contacted.
//! * An authenticated connection of the asked server that comes in on the tested address and is denied by this node itself
//!   counts as a dial-back: the packets came through.
//! * What only peers speak of needs proofs by servers of two IP groups: one server can dial an address that works and say
//!   that it dialed another. That goes for a listen port at an observed IP, too, unless two groups see that IP.

use std::{collections::VecDeque, net::IpAddr};

use hashlink::LruCache;
use libp2p_core::Multiaddr;
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use web_time::Instant;

use crate::address::{self, Neighbourhood, PortProtocol};

mod announcements;
use announcements::{Announcements, Echo};

mod answers;

mod belief;
use belief::{Model, Outcome, Source};

mod budget;
use budget::{Budgets, Fund};

mod candidates;
pub use candidates::Sources;
use candidates::{AddressId, Candidate, Candidates, Class, Inserted};

mod config;
pub use config::Config;

mod connections;
pub use connections::ConnectionInfo;
use connections::{Connection, Connections};

mod contacts;
pub use contacts::Vantage;
use contacts::{Contacts, Destination};

mod dial_data;
use dial_data::DialData;

mod dispatch;

mod event;
pub use event::{
    AddressReport, CandidateError, Event, NotTracked, Obstacle, Output, ProbeEnd, ProbeOutcome,
    ProbeRequest, Probed, RequestCompleted, RequestStarted, ServerReport, Summary, Violation,
};

mod getters;

mod listeners;
use listeners::Listeners;

mod observations;
pub use observations::NatMapping;
use observations::{ExternalIp, Observations, Observer, Reports};

mod probes;
use probes::Probes;

mod prospects;

mod query;
pub use query::Sizes;

mod review;
use review::{Judged, Wake};

mod schedule;

mod servers;
pub use servers::ProbeId;
use servers::{Link, Servers};

mod tracking;

mod verdict;
pub use verdict::Verdict;

/// The longest address that leaves room for itself in a request of 1,024 bytes, which is all that nim-libp2p takes.
const MAX_ADDRESS_LEN: usize = 960;
/// How many addresses that the application has taken back are remembered once nothing else speaks for them.
const MAX_WITHHELD: usize = 256;

/// The reachability service; see the module's doc for how to drive it.
pub struct Reachability {
    local_peer: PeerId,
    config: Config,
    model: Model,
    rng: StdRng,
    now: Instant,
    contacts: Contacts,
    connections: Connections,
    observations: Observations,
    listeners: Listeners,
    candidates: Candidates,
    /// What the application has taken back and nothing else spoke for.
    withheld: LruCache<Multiaddr, ()>,
    servers: Servers,
    dial_data: DialData,
    probes: Probes,
    judged: Judged,
    announcements: Announcements,
    outputs: VecDeque<Output>,
    summary: Summary,
    pinned: Option<Summary>,
    wake: Wake,
    budgets: Budgets,
    /// Whether a change beyond [`Fund::OwnRestarts`] waits for all addresses to be checked.
    recheck_all_waits: bool,
    servers_wanted: review::ServersWanted,
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

    fn with_rng(local_peer: PeerId, config: Config, mut rng: StdRng, now: Instant) -> Self {
        let servers = Servers::new(&config, rng.random());
        Self {
            local_peer,
            model: Model::default(),
            rng,
            now,
            contacts: Contacts::new(config.max_contacted_ips, config.contact_lifetime),
            connections: Connections::default(),
            observations: Observations::default(),
            listeners: Listeners::default(),
            candidates: Candidates::new(config.max_addresses),
            withheld: LruCache::new(MAX_WITHHELD),
            servers,
            dial_data: DialData::new(config.max_dial_data, config.dial_data_per_hour, now),
            probes: Probes::default(),
            judged: Judged::default(),
            announcements: Announcements::default(),
            outputs: VecDeque::new(),
            summary: Summary::default(),
            pinned: None,
            wake: Wake::default(),
            budgets: Budgets::new(&config, now),
            recheck_all_waits: false,
            servers_wanted: review::ServersWanted::default(),
            config,
        }
    }

    /// The swarm listens on `addr`.
    pub fn on_listen_addr(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        let Some(addr) = self.canonical(addr) else {
            return;
        };
        if self.listeners.contains(&addr) || address::is_relayed(&addr) {
            return;
        }
        let is_new_kind = self.listeners.add(&addr);
        let first = self.candidates.next_id();
        if self.testable("listening", &addr).is_ok() {
            let is_back = self.bring_back(&addr);
            let id = self.track(addr.clone(), |sources| sources.listening = true, now);
            if let Some(id) = id.filter(|_| is_back) {
                self.check_within_budget(id, &addr, false, now);
            }
        }
        if is_new_kind {
            // A stranger may notice: the port behind an address has a listener now.
            self.recheck_behind(&addr, now);
            let external: Vec<ExternalIp> = self.observations.external_ips().collect();
            for external in external {
                self.guess(external, now);
            }
        }
        self.candidates.note_listener(&addr, first);
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
        if !self.listeners.remove(&addr) {
            return;
        }
        self.withdraw_unfounded(&addr, now);
        self.recheck_behind(&addr, now);
    }

    /// A peer sees this node at `addr`, or somebody guesses so: the swarm's `NewExternalAddrCandidate`.
    pub fn on_candidate(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        let Some(addr) = self.canonical(addr) else {
            return;
        };
        if self.testable_by_word(&addr) {
            self.note_report(addr, None, now);
        }
    }

    /// The peer on `connection` says that it sees this node at `observed`. Unlike a candidate of the swarm this has the
    /// port that the peer really saw: identify replaces it by a listen port before it makes a candidate.
    pub fn on_observed(&mut self, now: Instant, connection: ConnectionId, observed: &Multiaddr) {
        let now = self.advance(now);
        let Some(info) = self.connections.get(connection) else {
            return;
        };
        // To a peer that dialed, our address is what it dialed. A dial from a new port shows that port and no listener's.
        if !info.is_direct_dial() || info.from_new_port {
            return;
        }
        let observer = info
            .remote_ip
            .map_or(Observer::Peer(info.peer), Observer::Host);
        let Some(addr) = self.canonical(observed) else {
            return;
        };
        if !self.testable_by_word(&addr) {
            return;
        }
        if let Some(waist) = address::thin_waist(&addr) {
            let before = self.observations.record(observer, waist);
            self.update_nat_mapping();
            if let Some(before) = before {
                self.suspect_moved(before, now);
            }
            let may_check = || self.budgets.of(Fund::SeenAgain).take(now);
            if let Some(ips) = self.observations.note_move(waist, may_check) {
                // What did not work at the one may work now, and what worked at the other may not.
                let is_there =
                    |candidate: &Candidate| candidate.ip().is_some_and(|ip| ips.contains(&ip));
                self.check_once_where(now, is_there);
            }
        }
        self.note_report(addr, Some(observer), now);
    }

    /// Peers see another port than before: what worked at the old one may have moved with it.
    fn suspect_moved(&mut self, before: address::ThinWaist, now: Instant) {
        let moved = self.candidates.iter().any(|(_, candidate)| {
            candidate.waist == Some(before)
                && candidate.sources.observed
                && candidate.is_reachable
                && !self.listeners.has_port_of(&candidate.addr)
        });
        if moved && self.budgets.of(Fund::Restarts).take(now) {
            self.recheck_where(now, |candidate| candidate.waist == Some(before));
        }
    }

    /// An external address was confirmed to the swarm, by this service or by anyone else.
    pub fn on_external_confirmed(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        if self.announcements.take_echo(addr, Echo::Confirmed) {
            return;
        }
        let Some(canonical) = self.canonical(addr) else {
            return;
        };
        if self.testable("confirmed", &canonical).is_err() {
            return;
        }
        self.bring_back(&canonical);
        let before = self.candidates.find(&canonical);
        let before = before.and_then(|id| self.candidates.get(id));
        let was_confirmed = before.is_some_and(|candidate| candidate.sources.confirmed);
        let is_new = before.is_none();
        let shown = canonical.clone();
        if let Some(id) = self.track(canonical, |sources| sources.confirmed = true, now) {
            self.call_off(id, &shown);
            self.announcements.note_confirmed(id, &shown, addr);
            if !was_confirmed {
                self.check_within_budget(id, &shown, is_new, now);
            }
        }
    }

    /// An external address was expired. If it was not this service that did so, the application has taken it back: it stays
    /// away until the application or a new fact brings it again.
    pub fn on_external_expired(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        if self.announcements.take_echo(addr, Echo::Expired) {
            return;
        }
        let Some(canonical) = self.canonical(addr) else {
            return;
        };
        self.withheld.insert(canonical.clone(), ());
        let Some(id) = self.candidates.find(&canonical) else {
            return;
        };
        if let Some(candidate) = self.candidates.get_mut(id) {
            candidate.is_withheld = true;
        }
        self.call_off(id, &canonical);
        for form in self.announcements.expire(id, &canonical, Some(addr)) {
            self.outputs.push_back(Output::Expire(form));
        }
        self.forget_verdict(id, now);
        let given = |sources: &mut Sources| {
            sources.confirmed = false;
            sources.added = false;
        };
        self.withdraw(id, given, now);
        self.update_summary();
    }

    /// Drops a confirmation that has not left yet.
    fn call_off(&mut self, id: AddressId, addr: &Multiaddr) {
        let before = self.outputs.len();
        self.outputs
            .retain(|output| !matches!(output, Output::Confirm(it) if it == addr));
        if self.outputs.len() < before {
            self.announcements.call_off(id, addr);
        }
    }

    /// The application, or a listener, speaks for an address again that was taken back. `true` if it was, and is tracked.
    fn bring_back(&mut self, addr: &Multiaddr) -> bool {
        self.withheld.remove(addr);
        let id = self.candidates.find(addr);
        id.and_then(|id| self.candidates.get_mut(id))
            .is_some_and(|candidate| std::mem::take(&mut candidate.is_withheld))
    }

    /// A connection was established.
    pub fn on_connection(&mut self, now: Instant, info: ConnectionInfo) {
        let now = self.advance(now);
        let (id, mut connection) = Connection::new(info);
        connection.vantage = self.vantage_of_source(connection.remote_ip, connection.protocol, now);
        if let Some(contact) = connection.contact() {
            self.contacts.open(contact, connection.protocol, now);
        }
        self.note_stranger(&connection, now);
        if self.connections.insert(id, connection) {
            self.recheck_all(now);
        }
    }

    /// The connection `id` was dialed from a port that nothing listens on, `PortUse::New`: what its peer sees of this node says
    /// nothing about a listener or the NAT's mapping of one.
    pub fn on_dialed_from_new_port(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.from_new_port = true;
        }
    }

    /// A connection closed.
    pub fn on_connection_closed(&mut self, now: Instant, id: ConnectionId) {
        let now = self.advance(now);
        let Some(connection) = self.connections.remove(id) else {
            return;
        };
        if let Some(contact) = connection.contact() {
            self.contacts.close(contact, connection.protocol, now);
        }
        self.servers.remove(&connection.peer, id);
        self.wake.by(now, "a connection closed");
    }

    /// The remote address of a connection changed.
    pub fn on_address_change(&mut self, now: Instant, id: ConnectionId, remote: &Multiaddr) {
        let now = self.advance(now);
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let ip = address::ip(remote);
        if connection.relayed || ip == connection.remote_ip {
            return;
        }
        let (old, peer) = (connection.contact(), connection.peer);
        connection.remote_ip = ip;
        let (new, protocol) = (connection.contact(), connection.protocol);
        if let Some(old) = old {
            self.contacts.close(old, protocol, now);
        }
        if let Some(new) = new {
            self.contacts.open(new, protocol, now);
        }
        if self.servers.move_link(&peer, id, ip) {
            self.reopen_for(&peer, now);
            self.wake.by(now, "a server is elsewhere");
        }
    }

    /// A packet goes out to `ip`, over which protocol is not known.
    pub fn on_contact(&mut self, now: Instant, ip: IpAddr) {
        let now = self.advance(now);
        self.contacts.touch(Destination::Host(ip), None, now);
    }

    /// A packet goes out to `addr`: a dial, whether it succeeds or not.
    pub fn on_dial(&mut self, now: Instant, addr: &Multiaddr) {
        let now = self.advance(now);
        if address::is_relayed(addr) {
            return;
        }
        let to = address::ip(addr).map_or(Destination::Name, Destination::Host);
        let over = address::port(addr).map(|(protocol, _)| protocol);
        self.contacts.touch(to, over, now);
    }

    /// The peer at the other end says whether it serves dial requests on this connection.
    pub fn on_support(&mut self, now: Instant, id: ConnectionId, supported: bool) {
        let now = self.advance(now);
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let peer = connection.peer;
        if !supported || connection.dial_back {
            self.servers.remove(&peer, id);
            return;
        }
        let link = Link {
            connection: id,
            is_relayed: connection.relayed,
            inbound: connection.inbound,
            ip: connection.remote_ip.or(connection.relay_ip),
            is_unresponsive: false,
        };
        let is_known = self.servers.is_remembered(&peer);
        if self.servers.add(peer, link, now) {
            if !is_known {
                self.servers_wanted.reset();
            }
            self.reopen_for(&peer, now);
            self.wake
                .by(now + self.config.gather_delay, "servers gather");
        }
    }

    /// The interfaces or the network of this host changed, as the application knows: all addresses are checked at once; if that
    /// is said more than three times, once in ten minutes. What peers saw before says nothing about the present NAT.
    pub fn on_network_change(&mut self, now: Instant) {
        let now = self.advance(now);
        self.observations.forget_ports();
        self.recheck_all(now);
    }
}

/// The drive loop.
impl Reachability {
    /// When [`Reachability::handle_timeout`] wants to be called. May lie in the past: then at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let probes = self.probes.next_deadline();
        self.wake.at().into_iter().chain(probes).min()
    }

    /// What is to be done next; `None` until something else happens.
    pub fn poll_event(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Makes the decisions that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.advance(now);
        self.expire_probes(now);
        if let Some(reason) = self.wake.take_due(now) {
            tracing::trace!(reason, "deciding");
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

    fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// What a dial from `ip` shows. A gateway that puts its own IP in place of the source hides who dialed.
    fn vantage_of_source(
        &self,
        ip: Option<IpAddr>,
        over: Option<PortProtocol>,
        now: Instant,
    ) -> Vantage {
        ip.filter(|ip| self.is_from_outside(*ip))
            .map_or(Vantage::Contacted, |ip| {
                self.contacts.vantage_of(ip, over, now)
            })
    }

    /// The network that a dial came from; `None` where dials within a network count too.
    fn network_inside(&self, ip: Option<IpAddr>) -> Option<Neighbourhood> {
        ip.filter(|_| !self.config.allow_private)
            .map(address::network)
    }

    /// A connection from a host that was never contacted is evidence for the address that it came in on.
    fn note_stranger(&mut self, connection: &Connection, now: Instant) {
        let (Some(local), Some(remote_ip)) = (&connection.local, connection.remote_ip) else {
            return;
        };
        let is_stranger = connection.inbound
            && !connection.relayed
            && connection.vantage == Vantage::Independent
            && self.is_from_outside(remote_ip)
            && !self.servers.was_dialed_by_name(&connection.peer);
        // While a probe is under way, it may be the dial-back, which is to be counted once.
        if !is_stranger || self.probes.len() > 0 {
            return;
        }
        let is_exact = |candidate: &Candidate| {
            candidate.waist.is_some()
                && candidate.waist == address::thin_waist(local)
                && address::same_stack(&candidate.addr, local)
        };
        let exact = self.candidates.iter().find(|(_, c)| is_exact(c));
        let found = match exact {
            Some((id, _)) => Some((id, prospects::STRANGER)),
            None => {
                let mapped = |seen: bool| {
                    let mut fitting = self.candidates.iter().filter(move |(_, c)| {
                        c.ip().is_some()
                            && address::listens_for(local, &c.addr)
                            && c.is_unobserved_guess() != seen
                    });
                    (fitting.next().map(|(id, _)| id), fitting.next().is_some())
                };
                let (seen, several) = match mapped(true) {
                    (None, _) => mapped(false),
                    seen => seen,
                };
                let only = seen.filter(|_| !several);
                only.map(|id| (id, prospects::INFERRED_STRANGER))
            }
        };
        let Some((id, asked)) = found else {
            return;
        };
        // Large private networks use public space: who shares it may be inside. There are enough strangers elsewhere.
        let is_nearby = self
            .candidates
            .get(id)
            .and_then(Candidate::ip)
            .is_some_and(|ip| address::wide_network(ip) == address::wide_network(remote_ip));
        if is_nearby {
            return;
        }
        self.record(
            id,
            Outcome {
                at: now,
                source: Source::Strangers,
                asked,
                success: true,
            },
            now,
        );
        self.review_one(id, now);
    }

    fn update_nat_mapping(&mut self) {
        if let Some(old) = self.observations.update_mapping() {
            let new = self.observations.mapping();
            self.tell(Event::NatMappingChanged { old, new });
        }
    }
}
