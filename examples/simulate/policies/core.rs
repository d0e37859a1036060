//! The crate's core itself, driven in virtual time.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, swarm::ConnectionId};
use libp2p_autonat_v2::{
    client::{Config, Event},
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{ConnectionInfo, Output, ProbeEnd, ProbeRequest, Reachability},
};

use crate::{
    history::{Claim, DIAL_DATA, History, SAMPLING, Statement},
    network::{addr, peer},
    world::{Answer, Route, Transport, World},
};

pub(crate) struct Run<'a> {
    world: &'a World,
    addresses: Vec<Multiaddr>,
    core: Reachability,
    start: Instant,
    now: Duration,
    queue: BinaryHeap<Reverse<(Duration, usize)>>,
    happenings: BTreeMap<usize, Happening>,
    scheduled: usize,
    next_connection: usize,
    asked: Vec<u64>,
    history: History,
    /// Prints what happens.
    trace: bool,
}

enum Happening {
    Connect(usize),
    /// A server sees the node.
    Observed(usize),
    Answer(ProbeRequest, usize, Answer),
}

impl<'a> Run<'a> {
    pub(crate) fn new(world: &'a World, trace: bool) -> Self {
        let start = Instant::now();
        let mut core = Reachability::new(peer(world.seed), Config::default(), world.seed, start);
        let ip = "/ip4/5.5.5.5";
        for over in world.addresses {
            core.on_listen_addr(start, &addr("/ip4/192.168.1.2", *over));
        }
        let mut it = Self {
            world,
            addresses: world.addresses.iter().map(|t| addr(ip, *t)).collect(),
            core,
            start,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            scheduled: 0,
            // Connections to servers have the servers' numbers.
            next_connection: world.servers.len(),
            asked: vec![0; world.servers.len()],
            history: History::of(world.addresses.len()),
            trace,
        };
        for (i, server) in world.servers.iter().enumerate() {
            it.schedule(server.connected_at, Happening::Connect(i));
            it.schedule(
                server.connected_at + server.latency * 2,
                Happening::Observed(i),
            );
        }
        it
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        self.queue.push(Reverse((at, self.scheduled)));
        self.happenings.insert(self.scheduled, happening);
        self.scheduled += 1;
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    pub(crate) fn run(mut self, horizon: Duration) -> History {
        let mut sample_at = SAMPLING;
        loop {
            while let Some(output) = self.core.poll_event() {
                self.carry_out(output);
            }
            let timeout = self.core.poll_timeout();
            let timeout = timeout.map(|at| at.saturating_duration_since(self.start).max(self.now));
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let at = timeout.into_iter().chain(next).min();
            let until = at.map_or(horizon, |at| at.min(horizon));
            while sample_at <= until {
                self.sample(sample_at);
                sample_at += SAMPLING;
            }
            let Some(at) = at.filter(|at| *at <= horizon) else {
                break;
            };
            self.now = at;
            if next == Some(at)
                && let Some(Reverse((_, id))) = self.queue.pop()
                && let Some(happening) = self.happenings.remove(&id)
            {
                self.happen(happening);
            } else {
                self.core.handle_timeout(self.instant());
            }
        }
        self.history
    }

    /// Looks at what stands.
    fn sample(&mut self, at: Duration) {
        for (addr, track) in self.addresses.iter().zip(&mut self.history.tracks) {
            let Some(report) = self.core.address(addr) else {
                continue;
            };
            if let Some(claim) = Claim::of(report.verdict, report.vantage) {
                track.stands(Statement {
                    at,
                    claim,
                    confidence: report.confidence,
                });
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.instant();
        match happening {
            Happening::Connect(server) => {
                let id = ConnectionId::new_unchecked(server);
                let it = &self.world.servers[server];
                let over = match it.route {
                    Route::V4(over) => over,
                    Route::V6 => Transport::Tcp,
                };
                let info = self.connection(id, server, it.contacted_ip(), over, false);
                self.core.on_connection(now, info);
                self.core.on_support(now, id, true);
            }
            Happening::Observed(server) => {
                let route = self.world.servers[server].route;
                let seen = self.world.addresses.iter().zip(&self.addresses);
                let seen = seen
                    .filter(|(over, _)| matches!(route, Route::V6) || route == Route::V4(**over));
                for (_, addr) in seen {
                    self.core.on_candidate(now, addr);
                }
            }
            Happening::Answer(request, server, answer) => {
                self.answered(&request, server, answer);
                if self.trace {
                    self.print(&request, server, answer);
                }
            }
        }
    }

    fn connection(
        &self,
        id: ConnectionId,
        server: usize,
        ip: std::net::IpAddr,
        over: Transport,
        inbound: bool,
    ) -> ConnectionInfo {
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        ConnectionInfo {
            id,
            peer: peer(self.world.seed.wrapping_add(1 + server as u64)),
            inbound,
            local: inbound.then(|| addr("/ip4/192.168.1.2", over)),
            remote: addr(&format!("/{family}/{ip}"), over),
        }
    }

    fn answered(&mut self, request: &ProbeRequest, server: usize, answer: Answer) {
        let now = self.instant();
        let (status, dial_status) = match answer {
            Answer::DialedBack | Answer::HollowOk => (ResponseStatus::Ok, DialStatus::Ok),
            Answer::DialError => (ResponseStatus::Ok, DialStatus::DialError),
            Answer::Refused | Answer::None => (ResponseStatus::DialRefused, DialStatus::Unused),
        };
        if answer == Answer::None {
            self.core.on_probe_end(now, request.id, ProbeEnd::Timeout);
            return;
        }
        if History::pays(answer, self.world.servers[server].wants_dial_data()) {
            // However little is left of the budget: no node here comes near its end.
            self.core
                .on_dial_data_request(now, request.id, 0, DIAL_DATA);
        }
        if answer == Answer::DialedBack {
            let id = ConnectionId::new_unchecked(self.next_connection);
            self.next_connection += 1;
            let ip = self.world.servers[server].v4.into();
            let over = self.world.addresses[self.dialed(request)];
            let info = self.connection(id, server, ip, over, true);
            self.core.on_connection(now, info);
            self.core.on_nonce(now, id, request.nonce);
            self.core.on_connection_closed(now, id);
        }
        let response = DialResponse {
            status,
            addr_idx: 0,
            dial_status,
        };
        self.core.on_response(now, request.id, response);
        self.core.on_probe_end(now, request.id, ProbeEnd::Completed);
    }

    fn print(&self, request: &ProbeRequest, server: usize, answer: Answer) {
        let it = &self.world.servers[server];
        let address = self.dialed(request);
        let report = self.core.address(&self.addresses[address]);
        let said = report.map_or_else(String::new, |it| {
            let vantage = it.vantage.map_or("", |vantage| vantage.as_str());
            format!("{} {vantage} {:.3}", it.verdict.as_str(), it.confidence)
        });
        println!(
            "  {:9.2} s  address {address} {:?}: server {server} ({:?}, {:?}) {answer:?}; {said}",
            self.now.as_secs_f64(),
            self.world.state(self.now),
            it.route,
            it.fault,
        );
    }

    /// Servers dial the first address of a request.
    fn dialed(&self, request: &ProbeRequest) -> usize {
        let first = request.addrs.first();
        let found = self.addresses.iter().position(|addr| Some(addr) == first);
        found.expect("requests are about the node's addresses")
    }

    fn carry_out(&mut self, output: Output) {
        let now = self.instant();
        match output {
            Output::Probe(request) => {
                let server = (0..self.world.servers.len())
                    .find(|i| ConnectionId::new_unchecked(*i) == request.connection)
                    .expect("requests go to servers");
                let nth = self.asked[server];
                self.asked[server] += 1;
                let (answer, after) = self.world.ask(server, self.dialed(&request), self.now, nth);
                let wants_dial_data = self.world.servers[server].wants_dial_data();
                self.history.asked(answer, wants_dial_data);
                self.schedule(self.now + after, Happening::Answer(request, server, answer));
            }
            Output::Confirm(addr) => self.core.on_external_confirmed(now, &addr),
            Output::Expire(addr) => self.core.on_external_expired(now, &addr),
            Output::Event(Event::VerdictChanged {
                address,
                new,
                vantage,
                confidence,
                ..
            }) => {
                let index = self.addresses.iter().position(|addr| *addr == address);
                let claim = Claim::of(new, vantage);
                if self.trace {
                    println!("  {:9.2} s  {index:?} is {claim:?}", self.now.as_secs_f64());
                }
                if let Some((index, claim)) = index.zip(claim) {
                    self.history.tracks[index].say(Statement {
                        at: self.now,
                        claim,
                        confidence,
                    });
                }
            }
            _ => {}
        }
    }
}
