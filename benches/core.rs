//! What one thing that happens costs the client's core, with the decisions that follow from it: for 10 to 500 tracked
//! addresses and 10 to 10,000 servers.
//!
//! `cargo bench --bench core`, or for a profile of one size `cargo bench --bench core -- ADDRESSES SERVERS [EVENTS]`
//!
//! Virtual time, a fixed seed; the clock runs while the core is being called and stops while the bench plays the network.
//! One run makes all figures, so that the ratios hold on any machine.
//!
//! * An answer: by turns of eight a server could not dial the address that it was asked about, or delivers the nonce and says
//!   so, which is four events. All addresses lack a verdict at first, and keep changing.
//! * A server: one leaves, and another one comes.
//! * An observation: a peer says that it sees this node at an address that is known.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};
use libp2p_autonat_v2::{
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{Config, ConnectionInfo, Output, ProbeEnd, ProbeRequest, Reachability},
};

const EVENTS: usize = 5_000;
const WANTED: Duration = Duration::from_micros(100);

/// How often something was told, and the time that it took.
#[derive(Debug, Default, Clone, Copy)]
struct Cost {
    events: u32,
    time: Duration,
}

impl Cost {
    fn each(self) -> Duration {
        self.time / self.events.max(1)
    }
}

struct World {
    core: Reachability,
    now: Instant,
    asked: VecDeque<ProbeRequest>,
    /// Of the servers, the oldest first.
    connections: VecDeque<ConnectionId>,
    ips: HashMap<ConnectionId, Multiaddr>,
    next_server: usize,
    answers: Cost,
    servers: Cost,
    observations: Cost,
}

fn address(n: usize) -> Multiaddr {
    let port = u16::try_from(4001 + n).expect("few");
    Multiaddr::empty()
        .with(Protocol::Ip4([81, 2, 69, 160].into()))
        .with(Protocol::Tcp(port))
}

impl World {
    fn new(addresses: usize, servers: usize) -> Self {
        let now = Instant::now();
        let config = Config::default()
            .with_max_servers(servers)
            .with_max_addresses(addresses);
        let mut world = Self {
            core: Reachability::new(PeerId::random(), config, 1, now),
            now,
            asked: VecDeque::new(),
            connections: VecDeque::new(),
            ips: HashMap::new(),
            next_server: 0,
            answers: Cost::default(),
            servers: Cost::default(),
            observations: Cost::default(),
        };
        for _ in 0..servers {
            world.server_comes();
        }
        for n in 0..addresses {
            world
                .core
                .add_candidate(now, &address(n))
                .expect("testable");
        }
        world
    }

    fn server_comes(&mut self) {
        let n = self.next_server;
        self.next_server += 1;
        let [.., high, low] = n.to_be_bytes();
        let ip = Multiaddr::empty().with(Protocol::Ip4([20 + high % 100, low, 1, 1].into()));
        let id = ConnectionId::new_unchecked(n);
        self.core.on_connection(
            self.now,
            ConnectionInfo {
                id,
                peer: PeerId::random(),
                inbound: false,
                local: None,
                remote: ip.clone().with(Protocol::Tcp(4001)),
            },
        );
        self.ips.insert(id, ip);
        self.core.on_support(self.now, id, true);
        self.connections.push_back(id);
    }

    /// Tells the core something and lets it decide whatever follows.
    fn tell(&mut self, cost: fn(&mut Self) -> &mut Cost, what: impl FnOnce(&mut Self)) {
        let start = Instant::now();
        what(self);
        let mut outputs = Vec::new();
        while self.core.poll_timeout().is_some_and(|at| at <= self.now) {
            self.core.handle_timeout(self.now);
        }
        while let Some(output) = self.core.poll_event() {
            outputs.push(output);
        }
        let took = start.elapsed();
        for output in outputs {
            if let Output::Probe(request) = output {
                self.asked.push_back(request);
            }
        }
        cost(self).time += took;
    }

    /// The server that was asked first answers.
    fn answer(&mut self) {
        let Some(request) = self.asked.pop_front() else {
            if let Some(at) = self.core.poll_timeout() {
                self.now = self.now.max(at);
            }
            self.tell(|it| &mut it.answers, |_| {});
            return;
        };
        self.now += Duration::from_millis(5);
        let reaches = (self.answers.events / 8).is_multiple_of(2);
        let response = DialResponse {
            status: ResponseStatus::Ok,
            addr_idx: 0,
            dial_status: if reaches {
                DialStatus::Ok
            } else {
                DialStatus::DialError
            },
        };
        if reaches {
            let dial_back = ConnectionInfo {
                id: ConnectionId::new_unchecked(usize::MAX),
                peer: request.server,
                inbound: true,
                local: Some(request.addrs[0].clone()),
                remote: self.ips[&request.connection]
                    .clone()
                    .with(Protocol::Tcp(50_000)),
            };
            let id = dial_back.id;
            let now = self.now;
            self.tell(
                |it| &mut it.answers,
                |world| world.core.on_connection(now, dial_back),
            );
            self.tell(
                |it| &mut it.answers,
                |world| {
                    world.core.on_nonce(now, id, request.nonce);
                },
            );
            self.tell(
                |it| &mut it.answers,
                |world| world.core.on_connection_closed(now, id),
            );
            self.answers.events += 3;
        }
        self.tell(
            |it| &mut it.answers,
            |world| {
                world.core.on_response(world.now, request.id, response);
                world
                    .core
                    .on_probe_end(world.now, request.id, ProbeEnd::Completed);
            },
        );
        self.answers.events += 1;
    }

    fn change_a_server(&mut self) {
        self.now += Duration::from_millis(5);
        let gone = self.connections.pop_front().expect("there are some");
        self.asked.retain(|request| request.connection != gone);
        let now = self.now;
        self.tell(
            |it| &mut it.servers,
            |world| world.core.on_connection_closed(now, gone),
        );
        self.tell(|it| &mut it.servers, Self::server_comes);
        self.servers.events += 2;
    }

    fn observe(&mut self, n: usize) {
        self.now += Duration::from_millis(5);
        let observer = self.connections[n % self.connections.len()];
        let now = self.now;
        self.tell(
            |it| &mut it.observations,
            |world| world.core.on_observed(now, observer, &address(0)),
        );
        self.observations.events += 1;
    }
}

fn main() {
    println!(
        "µs of one event, with all decisions that follow; wanted: at most {WANTED:?} with 50 and 1,000\n"
    );
    println!("addresses  servers  an answer  a server  an observation");
    let mut sizes = vec![
        (50, 10),
        (50, 100),
        (50, 1_000),
        (50, 10_000),
        (10, 1_000),
        (100, 1_000),
        (500, 1_000),
    ];
    // Cargo adds `--bench`.
    let numbers: Vec<usize> = std::env::args().filter_map(|it| it.parse().ok()).collect();
    if let [addresses, servers, ..] = numbers[..] {
        sizes = vec![(addresses, servers)];
    }
    let events = numbers.get(2).copied().unwrap_or(EVENTS);
    for (addresses, servers) in sizes {
        let mut world = World::new(addresses, servers);
        for n in 0..events {
            world.answer();
            if n % 10 == 0 {
                world.change_a_server();
                world.observe(n);
            }
        }
        let micros = |cost: Cost| cost.each().as_secs_f64() * 1e6;
        println!(
            "{addresses:>9} {servers:>8} {:>10.1} {:>9.1} {:>15.1}",
            micros(world.answers),
            micros(world.servers),
            micros(world.observations),
        );
    }
}
