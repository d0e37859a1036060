//! All nodes and servers in one virtual time.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, swarm::ConnectionId};
use libp2p_autonat_v2::{
    protocol::DialResponse,
    reachability::{ProbeEnd, ProbeRequest, Reachability, Summary},
    server,
    service::{DialId, Service},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::{
    figures::{Figures, NodeRecord, ServerRecord},
    network::{State, Transport, addr, peer},
    population::{self, Client, Route, Server},
    queue::Queue,
    scenarios::Scenario,
};

mod nodes;
mod requests;

use requests::{DialFact, Exchange, HOSTILE_PACE, Key};

const MINUTE: Duration = Duration::from_secs(60);

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
    /// A node is asked for dial data for the address with this index.
    Pay(Key, u32, u64),
    DialData(Key, u64),
    Dial(ServerId, DialId, DialFact),
    /// A node hears the nonce.
    Nonce(Key, Transport),
    Response(NodeId, Box<ProbeRequest>, DialResponse),
    /// A node hears nothing more of its request.
    End(NodeId, Box<ProbeRequest>, ProbeEnd),
    ServersLeave,
    Attack(usize),
}

struct Node {
    client: Client,
    core: Option<Reachability>,
    peer: PeerId,
    links: BTreeMap<ConnectionId, (ServerId, Route)>,
    /// Until when its NAT remembers that it has contacted a server over a transport; `None` while it is connected.
    contacts: HashMap<(ServerId, Transport), Option<Duration>>,
    /// Whom it has asked before.
    asked: HashSet<ServerId>,
    /// Its requests that have reached a server and were not answered.
    asking: Vec<Key>,
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
    queue: Queue<Happening>,
    nodes: Vec<Node>,
    servers: Vec<Host>,
    /// Requests that have reached a server and were not answered.
    exchanges: HashMap<Key, Exchange>,
    by_nonce: HashMap<u64, Key>,
    next_key: Key,
    /// Dials that get no answer of any kind.
    silent: HashSet<(ServerId, DialId)>,
    crowd: Vec<Client>,
    rejections: BTreeMap<&'static str, u64>,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let start = Instant::now();
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut config = server::Config::default();
        if let Some(requests) = scenario.requests_per_minute {
            config = config.with_max_requests_per_minute(requests);
        }
        let servers = ((scenario.nodes as f64 * scenario.servers).round() as usize).max(1);
        let hostile = (servers as f64 * scenario.hostile).round() as usize;
        let servers = (0..servers)
            .map(|n| Host {
                server: Server::new(n < hostile, &mut rng),
                service: Service::new(config.clone(), start),
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
                asked: HashSet::new(),
                asking: Vec::new(),
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
            start,
            now: Duration::ZERO,
            queue: Queue::new(),
            nodes,
            servers,
            exchanges: HashMap::new(),
            by_nonce: HashMap::new(),
            next_key: 0,
            silent: HashSet::new(),
            crowd,
            rejections: BTreeMap::new(),
        };
        for node in 0..it.nodes.len() {
            let is_filtered = it.nodes[node].client.state() == State::Filtered;
            it.nodes[node].record.is_filtered = is_filtered;
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
        while let Some((at, happening)) = self.queue.pop() {
            if at > self.scenario.horizon {
                break;
            }
            self.now = at;
            self.happen(happening);
        }
        for server in 0..self.servers.len() {
            // What was not told yet.
            self.tell_server(server, |service, now, _| {
                service.handle_timeout(now + MINUTE);
            });
        }
        let nodes: Vec<NodeRecord> = self.nodes.iter().map(|it| it.record).collect();
        let servers: Vec<ServerRecord> = self.servers.into_iter().map(|it| it.record).collect();
        let counted = self.scenario.horizon - self.scenario.count_from;
        Figures::new(&nodes, &servers, self.rejections, counted)
    }

    fn at(&mut self, at: Duration, happening: Happening) {
        self.queue.push(at, happening);
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

    /// One way between a client and a server; the same in every run.
    fn latency(&self, client: usize, server: ServerId) -> Duration {
        let pair = client as u64 ^ (server as u64).rotate_left(32);
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
                    self.tell_server(server, |service, now, _| {
                        service.handle_timeout(now);
                    });
                }
            }
            Happening::Arrive(exchange) => self.arrive(*exchange),
            Happening::Pay(key, index, bytes) => self.pay(key, index, bytes),
            Happening::DialData(key, bytes) => self.paid(key, bytes),
            Happening::Dial(server, dial, fact) => self.hear_of_dial(server, dial, fact),
            Happening::Nonce(key, over) => self.nonce(key, over),
            Happening::Response(node, request, response) => {
                self.note_answer(node, response);
                self.tell(node, |core, now| {
                    core.on_response(now, request.id, response);
                    core.on_probe_end(now, request.id, ProbeEnd::Completed);
                });
            }
            Happening::End(node, request, end) => {
                self.tell(node, |core, now| core.on_probe_end(now, request.id, end));
            }
            Happening::ServersLeave => self.servers_leave(),
            Happening::Attack(client) => self.attack(client),
        }
    }
}

fn remote(host: &population::Host, route: Route) -> Multiaddr {
    let family = if route.v6 { "ip6" } else { "ip4" };
    addr(&format!("/{family}/{}", host.ip(route.v6)), route.over)
}

fn is_right(summary: Summary, client: &Client) -> bool {
    match summary {
        Summary::Public => client.state() == State::Open,
        Summary::Private => client.state() != State::Open,
        _ => false,
    }
}
