//! All nodes and servers in one virtual time.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BTreeMap, BinaryHeap, HashMap},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use libp2p_autonat_v2::{
    client::{Config, Event},
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{ConnectionInfo, Output, ProbeEnd, ProbeRequest, Reachability, Summary},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    figures::{Figures, NodeRecord, ServerRecord},
    network::{Answer, Fault, LUCK, State, Transport, addr, peer},
    population::{Client, Route, Server, TRANSPORTS},
    scenarios::Scenario,
    service::{Command, Key, Service},
};

/// How many servers a node meets at first, and when after its start.
const MEETS: std::ops::RangeInclusive<usize> = 3..=8;
const MEETS_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection to a server lasts in the mean, and how soon another takes its place.
const CONNECTION: Duration = Duration::from_secs(30 * 60);
const REPLACED_WITHIN: Duration = Duration::from_secs(10);
/// How soon the application has found one more server when the core wants some.
const FOUND_WITHIN: Duration = Duration::from_secs(5);
const MAX_LINKS: usize = 20;
/// How long a NAT remembers whom the node has contacted (RFC 4787, REQ-5, recommends 5 minutes).
const FILTER: Duration = Duration::from_secs(5 * 60);
/// A server's wait for an address that does not answer.
const DIAL_TIMEOUT: Duration = Duration::from_secs(6);
/// What a node's uplink takes in a second.
const UPLINK: f64 = 250_000.0;
/// A hostile client asks so often.
const HOSTILE_PACE: Duration = Duration::from_secs(5);

type NodeId = usize;
type ServerId = usize;

enum Happening {
    Start(NodeId),
    Connect(NodeId),
    Disconnect(NodeId, ConnectionId),
    Observed(NodeId, ConnectionId),
    WakeNode(NodeId),
    WakeServer(ServerId),
    Arrive(Box<Exchange>),
    DialData(Key),
    /// Dial data is asked of the node.
    Pay(Key, u64),
    /// The node hears the nonce.
    Nonce(Key),
    /// The server hears how its dial ended.
    DialEnded(Key, bool),
    Response(NodeId, Box<ProbeRequest>, DialResponse),
    Timeout(NodeId, Box<ProbeRequest>),
    ServersLeave,
    Attack(usize),
}

/// Ordered by time, and by which was scheduled first.
struct Scheduled {
    at: Duration,
    sequence: u64,
    happening: Happening,
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

/// One request and its way. Hostile clients have no node.
struct Exchange {
    node: Option<NodeId>,
    server: ServerId,
    route: Route,
    request: Option<ProbeRequest>,
    /// Which of its addresses the server dials.
    dialed: usize,
    peer: PeerId,
    client: Client,
}

struct Node {
    client: Client,
    core: Option<Reachability>,
    peer: PeerId,
    links: BTreeMap<ConnectionId, (ServerId, Route)>,
    /// Until when its NAT remembers that it has contacted a server over a transport; `None` while it is connected.
    contacts: HashMap<(ServerId, Transport), Option<Duration>>,
    asked: HashMap<ServerId, u64>,
    next_connection: usize,
    /// The wake-up that counts; others are out of date.
    wake: Option<Duration>,
    record: NodeRecord,
}

struct Host {
    server: Server,
    service: Service,
    peer: PeerId,
    is_here: bool,
    wake: Option<Duration>,
    record: ServerRecord,
}

pub(crate) struct Fleet<'a> {
    scenario: &'a Scenario,
    rng: SmallRng,
    start: Instant,
    now: Duration,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    nodes: Vec<Node>,
    servers: Vec<Host>,
    /// Requests that a server has admitted.
    exchanges: HashMap<Key, Exchange>,
    next_key: Key,
    crowd: Vec<Client>,
    rejections: BTreeMap<&'static str, u64>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let servers = ((scenario.nodes as f64 * scenario.servers).round() as usize).max(1);
        let hostile = (servers as f64 * scenario.hostile).round() as usize;
        let servers = (0..servers)
            .map(|n| Host {
                server: Server::new(n < hostile, &mut rng),
                service: Service::new(SmallRng::seed_from_u64(rng.random())),
                peer: peer(rng.random()),
                is_here: true,
                wake: None,
                record: ServerRecord::default(),
            })
            .collect();
        let nodes = (0..scenario.nodes)
            .map(|_| Node {
                client: Client::new(&mut rng),
                core: None,
                peer: peer(rng.random()),
                links: BTreeMap::new(),
                contacts: HashMap::new(),
                asked: HashMap::new(),
                next_connection: 0,
                wake: None,
                record: NodeRecord::default(),
            })
            .collect();
        let crowd = (scenario.nodes as f64 * scenario.crowd).round() as usize;
        let crowd = (0..crowd).map(|_| Client::of_crowd(&mut rng)).collect();
        let mut it = Self {
            scenario,
            rng,
            start: Instant::now(),
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            scheduled: 0,
            nodes,
            servers,
            exchanges: HashMap::new(),
            next_key: 0,
            crowd,
            rejections: BTreeMap::new(),
        };
        for node in 0..it.nodes.len() {
            it.within(scenario.start_within, Happening::Start(node));
        }
        for client in 0..it.crowd.len() {
            it.within(HOSTILE_PACE, Happening::Attack(client));
        }
        if let Some(at) = scenario.leave_at {
            it.at(at, Happening::ServersLeave);
        }
        it
    }

    pub(crate) fn run(mut self) -> Figures {
        while let Some(Reverse(next)) = self.queue.pop() {
            if next.at > self.scenario.horizon {
                break;
            }
            self.now = next.at;
            self.happen(next.happening);
        }
        for node in &mut self.nodes {
            let summary = node.core.as_ref().map(Reachability::summary);
            node.record.right_at_end = summary.is_some_and(|it| is_right(it, &node.client));
        }
        let nodes: Vec<NodeRecord> = self.nodes.iter().map(|it| it.record).collect();
        let servers: Vec<ServerRecord> = self.servers.into_iter().map(|it| it.record).collect();
        let counted = self.scenario.horizon - self.scenario.count_from;
        Figures::new(&nodes, &servers, self.rejections, counted)
    }

    fn at(&mut self, at: Duration, happening: Happening) {
        self.queue.push(Reverse(Scheduled {
            at,
            sequence: self.scheduled,
            happening,
        }));
        self.scheduled += 1;
    }

    fn after(&mut self, delay: Duration, happening: Happening) {
        self.at(self.now + delay, happening);
    }

    fn within(&mut self, limit: Duration, happening: Happening) {
        let delay = limit.mul_f64(self.rng.random());
        self.after(delay, happening);
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn counts(&self) -> bool {
        self.now >= self.scenario.count_from
    }

    /// One way between a node and a server; the same in every run.
    fn latency(&self, node: Option<NodeId>, server: ServerId) -> Duration {
        let pair = node.unwrap_or(usize::MAX) as u64 ^ (server as u64).rotate_left(32);
        let mut rng = SmallRng::seed_from_u64(pair);
        Duration::from_millis(rng.random_range(10..150))
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start(node) => self.start_node(node),
            Happening::Connect(node) => self.connect(node),
            Happening::Disconnect(node, connection) => self.disconnect(node, connection),
            Happening::Observed(node, connection) => self.observed(node, connection),
            Happening::WakeNode(node) => {
                if self.nodes[node].wake == Some(self.now) {
                    self.nodes[node].wake = None;
                    self.tell(node, Reachability::handle_timeout);
                }
            }
            Happening::WakeServer(server) => {
                if self.servers[server].wake == Some(self.now) {
                    self.servers[server].wake = None;
                    let now = self.instant();
                    self.servers[server].service.handle_timeout(now);
                    self.drain_server(server);
                }
            }
            Happening::Arrive(exchange) => self.arrive(*exchange),
            Happening::Pay(key, bytes) => self.pay(key, bytes),
            Happening::DialData(key) => {
                if let Some(exchange) = self.exchanges.get(&key) {
                    let (server, now) = (exchange.server, self.instant());
                    self.servers[server].service.on_dial_data(now, key);
                    self.drain_server(server);
                }
            }
            Happening::Nonce(key) => self.nonce(key),
            Happening::DialEnded(key, delivered) => {
                if let Some(exchange) = self.exchanges.get(&key) {
                    let server = exchange.server;
                    self.servers[server].service.on_dial_ended(key, delivered);
                    self.drain_server(server);
                }
            }
            Happening::Response(node, request, response) => {
                self.note_answer(node, response);
                self.tell(node, |core, now| {
                    core.on_response(now, request.id, response);
                    core.on_probe_end(now, request.id, ProbeEnd::Completed);
                });
            }
            Happening::Timeout(node, request) => self.tell(node, |core, now| {
                core.on_probe_end(now, request.id, ProbeEnd::Timeout);
            }),
            Happening::ServersLeave => self.servers_leave(),
            Happening::Attack(client) => self.attack(client),
        }
    }
}

/// Nodes and their connections.
impl Fleet<'_> {
    fn start_node(&mut self, id: NodeId) {
        let (now, seed) = (self.instant(), self.rng.random());
        let node = &mut self.nodes[id];
        node.record.started = self.now;
        let mut core = Reachability::new(node.peer, Config::default(), seed, now);
        let listens = if node.client.nat == crate::network::Nat::None {
            format!("/ip4/{}", node.client.host.v4)
        } else {
            "/ip4/192.168.1.2".to_owned()
        };
        for over in TRANSPORTS {
            core.on_listen_addr(now, &addr(&listens, over));
        }
        node.core = Some(core);
        for _ in 0..self.rng.random_range(MEETS) {
            self.within(MEETS_WITHIN, Happening::Connect(id));
        }
        self.drain(id);
    }

    /// The node meets a server that it does not know.
    fn connect(&mut self, id: NodeId) {
        let server = self.rng.random_range(0..self.servers.len());
        let node = &self.nodes[id];
        let known = node.links.values().any(|(known, _)| *known == server);
        if known || !self.servers[server].is_here || node.links.len() >= MAX_LINKS {
            return;
        }
        let other = self.servers[server].server.host;
        let route = node.client.host.route_to(&other, &mut self.rng);
        let node = &mut self.nodes[id];
        let connection = ConnectionId::new_unchecked(node.next_connection);
        node.next_connection += 1;
        node.links.insert(connection, (server, route));
        if !route.v6 {
            node.contacts.insert((server, route.over), None);
        }
        let info = ConnectionInfo {
            id: connection,
            peer: self.servers[server].peer,
            inbound: false,
            local: None,
            remote: remote(&other, route),
        };
        self.tell(id, |core, now| {
            core.on_connection(now, info);
            core.on_support(now, connection, true);
        });
        let seen_after = self.latency(Some(id), server) * 2;
        self.after(seen_after, Happening::Observed(id, connection));
        // Connections end at any time alike.
        let dice: f64 = self.rng.random();
        let ends_after = CONNECTION.mul_f64(-(1.0 - dice).ln());
        self.after(ends_after, Happening::Disconnect(id, connection));
    }

    fn observed(&mut self, id: NodeId, connection: ConnectionId) {
        let node = &self.nodes[id];
        let Some((_, route)) = node.links.get(&connection) else {
            return;
        };
        // Its IPv6 addresses are not looked at here.
        if route.v6 {
            return;
        }
        let seen = addr(&format!("/ip4/{}", node.client.host.v4), route.over);
        self.tell(id, |core, now| {
            core.on_observed(now, connection, &seen);
            core.on_candidate(now, &seen);
        });
    }

    fn disconnect(&mut self, id: NodeId, connection: ConnectionId) {
        let now = self.now;
        let node = &mut self.nodes[id];
        let Some((server, route)) = node.links.remove(&connection) else {
            return;
        };
        if let Some(contact) = node.contacts.get_mut(&(server, route.over)) {
            *contact = Some(now + FILTER);
        }
        self.tell(id, |core, now| core.on_connection_closed(now, connection));
        self.within(REPLACED_WITHIN, Happening::Connect(id));
    }

    fn servers_leave(&mut self) {
        let leaving = self.servers.len() / 3;
        // Servers are in no order, but that the hostile come first.
        let from = self.servers.len() - leaving;
        for server in &mut self.servers[from..] {
            server.is_here = false;
        }
        for id in 0..self.nodes.len() {
            let lost = self.nodes[id]
                .links
                .iter()
                .filter(|(_, (server, _))| *server >= from);
            let lost: Vec<ConnectionId> = lost.map(|(connection, _)| *connection).collect();
            for connection in lost {
                self.disconnect(id, connection);
            }
        }
    }

    /// Tells the node's core something, and carries out what follows.
    fn tell(&mut self, id: NodeId, fact: impl FnOnce(&mut Reachability, Instant)) {
        let now = self.instant();
        if let Some(core) = &mut self.nodes[id].core {
            fact(core, now);
            self.drain(id);
        }
    }

    fn drain(&mut self, id: NodeId) {
        let now = self.instant();
        while let Some(core) = &mut self.nodes[id].core
            && let Some(output) = core.poll_event()
        {
            match output {
                Output::Probe(request) => self.send(id, request),
                Output::Confirm(addr) => core.on_external_confirmed(now, &addr),
                Output::Expire(addr) => core.on_external_expired(now, &addr),
                Output::Event(Event::SummaryChanged { new, .. }) if new != Summary::Unknown => {
                    let node = &mut self.nodes[id];
                    if node.record.decided.is_none() {
                        node.record.decided = Some(self.now);
                        node.record.first_right = is_right(new, &node.client);
                    }
                }
                Output::Event(Event::ServersWanted { .. }) => {
                    self.within(FOUND_WITHIN, Happening::Connect(id));
                }
                _ => {}
            }
        }
        let start = self.start;
        let node = &mut self.nodes[id];
        let wake = node.core.as_ref().and_then(Reachability::poll_timeout);
        let wake = wake.map(|at| at.saturating_duration_since(start).max(self.now));
        if let Some(at) = wake
            && node.wake != wake
        {
            node.wake = wake;
            self.at(at, Happening::WakeNode(id));
        }
    }
}

/// Requests on their way.
impl Fleet<'_> {
    fn send(&mut self, id: NodeId, request: ProbeRequest) {
        let counts = self.counts();
        let node = &mut self.nodes[id];
        node.record.requests += u64::from(counts);
        let Some((server, route)) = node.links.get(&request.connection).copied() else {
            return;
        };
        let exchange = Exchange {
            node: Some(id),
            server,
            route,
            request: Some(request),
            dialed: 0,
            peer: node.peer,
            client: node.client,
        };
        let latency = self.latency(Some(id), server);
        self.after(latency, Happening::Arrive(Box::new(exchange)));
    }

    fn attack(&mut self, index: usize) {
        let client = self.crowd[index];
        let server = self.rng.random_range(0..self.servers.len());
        let exchange = Exchange {
            node: None,
            server,
            route: Route {
                over: Transport::Tcp,
                v6: false,
            },
            request: None,
            dialed: 0,
            peer: peer(u64::MAX - index as u64),
            client,
        };
        self.after(HOSTILE_PACE, Happening::Attack(index));
        self.after(
            Duration::from_millis(50),
            Happening::Arrive(Box::new(exchange)),
        );
    }

    fn arrive(&mut self, exchange: Exchange) {
        let server = exchange.server;
        if !self.servers[server].is_here {
            return;
        }
        let minute = self.now.as_secs() / 60;
        let host = &mut self.servers[server];
        *host.record.by_minute.entry(minute).or_default() += 1;
        let nth = exchange.node.map_or(0, |id| {
            let asked = self.nodes[id].asked.entry(server).or_default();
            *asked += 1;
            *asked - 1
        });
        let fault = self.servers[server].server.fault;
        let turned = matches!(fault, Fault::TurnsCoat) && nth == 0;
        if fault != Fault::None && !turned {
            self.answer_falsely(exchange, fault);
            return;
        }
        let key = self.next_key;
        self.next_key += 1;
        let ip = exchange.client.host.ip(exchange.route.v6);
        let target = addr(&format!("/ip4/{}", exchange.client.host.v4), Transport::Tcp);
        let addrs = exchange.request.as_ref().map(|it| it.addrs.clone());
        let (now, peer) = (self.instant(), exchange.peer);
        self.exchanges.insert(key, exchange);
        let service = &mut self.servers[server].service;
        service.on_stream(now, key, peer, ip);
        service.on_request(now, key, &addrs.unwrap_or_else(|| vec![target]));
        self.drain_server(server);
    }

    /// A server that lies needs no core for it.
    fn answer_falsely(&mut self, exchange: Exchange, fault: Fault) {
        let (Some(id), Some(request)) = (exchange.node, exchange.request) else {
            return;
        };
        let said = match fault.answer(false, false, || false) {
            Answer::HollowOk => Some((ResponseStatus::Ok, DialStatus::Ok)),
            Answer::DialError | Answer::DialedBack => {
                Some((ResponseStatus::Ok, DialStatus::DialError))
            }
            Answer::Refused => Some((ResponseStatus::DialRefused, DialStatus::Unused)),
            Answer::None => None,
        };
        let Some((status, dial_status)) = said else {
            let timeout = request.timeout;
            self.after(timeout, Happening::Timeout(id, Box::new(request)));
            return;
        };
        let response = DialResponse {
            status,
            addr_idx: 0,
            dial_status,
        };
        let latency = self.latency(Some(id), exchange.server);
        self.after(
            latency,
            Happening::Response(id, Box::new(request), response),
        );
    }

    fn drain_server(&mut self, server: ServerId) {
        while let Some(command) = self.servers[server].service.poll() {
            match command {
                Command::Reject(key, limit) => {
                    *self.rejections.entry(limit.as_str()).or_default() += 1;
                    let rejected = DialResponse {
                        status: ResponseStatus::RequestRejected,
                        addr_idx: 0,
                        dial_status: DialStatus::Unused,
                    };
                    self.respond(key, rejected);
                }
                Command::AskForData(key, bytes) => {
                    let latency = self.latency_of(key);
                    self.after(latency, Happening::Pay(key, bytes));
                }
                Command::Dial(key, index) => self.dial(key, index),
                Command::Answer(key, response) => self.respond(key, response),
            }
        }
        let start = self.start;
        let host = &mut self.servers[server];
        let wake = host.service.poll_timeout();
        let wake = wake.map(|at| at.saturating_duration_since(start).max(self.now));
        if let Some(at) = wake
            && host.wake != wake
        {
            host.wake = wake;
            self.at(at, Happening::WakeServer(server));
        }
    }

    fn latency_of(&self, key: Key) -> Duration {
        let exchange = self.exchanges.get(&key);
        exchange.map_or(Duration::ZERO, |it| self.latency(it.node, it.server))
    }

    fn respond(&mut self, key: Key, response: DialResponse) {
        let latency = self.latency_of(key);
        let Some(exchange) = self.exchanges.remove(&key) else {
            return;
        };
        if let (Some(node), Some(request)) = (exchange.node, exchange.request) {
            self.after(
                latency,
                Happening::Response(node, Box::new(request), response),
            );
        }
    }

    fn note_answer(&mut self, id: NodeId, response: DialResponse) {
        let counts = u64::from(self.counts());
        let record = &mut self.nodes[id].record;
        match response.status {
            ResponseStatus::Ok => record.answers += counts,
            ResponseStatus::RequestRejected => record.rejections += counts,
            _ => {}
        }
    }

    fn pay(&mut self, key: Key, bytes: u64) {
        let counts = self.counts();
        let Some(exchange) = self.exchanges.get(&key) else {
            return;
        };
        let (server, node) = (exchange.server, exchange.node);
        let Some((id, request)) = node.zip(exchange.request.as_ref()) else {
            return;
        };
        let probe = request.id;
        let mut pays = false;
        self.tell(id, |core, now| {
            pays = core.on_dial_data_request(now, probe, 0, bytes);
        });
        if pays {
            self.nodes[id].record.dial_data += if counts { bytes } else { 0 };
            let upload = Duration::from_secs_f64(bytes as f64 / UPLINK);
            self.after(
                self.latency(node, server) + upload,
                Happening::DialData(key),
            );
        } else {
            self.exchanges.remove(&key);
            self.servers[server].service.on_gone(key);
            self.tell(id, |core, now| {
                core.on_probe_end(now, probe, ProbeEnd::DialDataRefused);
            });
        }
    }

    /// The server dials the address with this index of the request.
    fn dial(&mut self, key: Key, index: usize) {
        let lucky = self.rng.random_bool(LUCK);
        let latency = self.latency_of(key);
        let Some(exchange) = self.exchanges.get_mut(&key) else {
            return;
        };
        exchange.dialed = index;
        let server = exchange.server;
        let gets_in = match (exchange.node, &exchange.request) {
            (Some(id), Some(request)) => {
                let over = transport(&request.addrs[index]);
                let node = &self.nodes[id];
                let contact = node.contacts.get(&(server, over));
                let contacted = contact.is_some_and(|until| until.is_none_or(|it| self.now < it));
                let able = self.servers[server].server.can_dial(over);
                able && node.client.state().lets_in(contacted)
            }
            _ => false,
        };
        if gets_in && lucky {
            self.after(latency * 2, Happening::Nonce(key));
            self.after(latency * 4, Happening::DialEnded(key, true));
        } else {
            let refused = exchange.client.refuses_packets;
            let wait = if refused { latency * 2 } else { DIAL_TIMEOUT };
            self.after(wait, Happening::DialEnded(key, false));
        }
    }

    fn nonce(&mut self, key: Key) {
        let Some(exchange) = self.exchanges.get(&key) else {
            return;
        };
        let (Some(id), Some(request)) = (exchange.node, &exchange.request) else {
            return;
        };
        let host = self.servers[exchange.server].server.host;
        let over = transport(&request.addrs[exchange.dialed]);
        let nonce = request.nonce;
        let node = &mut self.nodes[id];
        let connection = ConnectionId::new_unchecked(node.next_connection);
        node.next_connection += 1;
        let info = ConnectionInfo {
            id: connection,
            peer: self.servers[exchange.server].peer,
            inbound: true,
            local: Some(addr("/ip4/192.168.1.2", over)),
            remote: remote(&host, Route { over, v6: false }),
        };
        self.tell(id, |core, now| {
            core.on_connection(now, info);
            core.on_nonce(now, connection, nonce);
            core.on_connection_closed(now, connection);
        });
    }
}

fn remote(host: &crate::population::Host, route: Route) -> Multiaddr {
    let family = if route.v6 { "ip6" } else { "ip4" };
    addr(&format!("/{family}/{}", host.ip(route.v6)), route.over)
}

fn transport(addr: &Multiaddr) -> Transport {
    let udp = addr
        .iter()
        .any(|it| matches!(it, libp2p::multiaddr::Protocol::Udp(_)));
    if udp { Transport::Quic } else { Transport::Tcp }
}

fn is_right(summary: Summary, client: &Client) -> bool {
    match summary {
        Summary::Public => client.state() == State::Open,
        Summary::Private => client.state() != State::Open,
        _ => false,
    }
}
