//! Decisions of the client's core on the next probe: time for each, with 50 tracked addresses and 10 to 10,000 servers.
//!
//! `cargo bench --bench core`
//!
//! Virtual time, a fixed seed; the clock runs while the core is being called and stops while the bench plays the servers.
//! One run makes all figures, so that the ratios hold on any machine.

use std::{
    collections::VecDeque,
    hint::black_box,
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};
use libp2p_autonat_v2::{
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{Config, ConnectionInfo, Output, ProbeEnd, ProbeRequest, Reachability},
};

const ADDRESSES: u16 = 50;
const DECISIONS: usize = 20_000;
const WANTED: Duration = Duration::from_micros(10);

struct World {
    core: Reachability,
    now: Instant,
    asked: VecDeque<ProbeRequest>,
    decisions: usize,
    /// Time spent on decisions, and on taking in what was answered.
    deciding: Duration,
    hearing: Duration,
}

impl World {
    fn new(servers: usize) -> Self {
        let now = Instant::now();
        let config = Config::default().with_max_servers(servers);
        let mut core = Reachability::new(PeerId::random(), config, 1, now);
        for n in 0..servers {
            let [high, low] = u16::try_from(n).expect("fewer").to_be_bytes();
            let ip = [20 + high, low, 1, 1];
            let id = ConnectionId::new_unchecked(n);
            core.on_connection(
                now,
                ConnectionInfo {
                    id,
                    peer: PeerId::random(),
                    inbound: false,
                    local: None,
                    remote: Multiaddr::empty()
                        .with(Protocol::Ip4(ip.into()))
                        .with(Protocol::Tcp(4001)),
                },
            );
            core.on_support(now, id, true);
        }
        for n in 0..ADDRESSES {
            let addr = Multiaddr::empty()
                .with(Protocol::Ip4([81, 2, 69, 160].into()))
                .with(Protocol::Tcp(4001 + n));
            core.add_candidate(now, &addr).expect("testable");
        }
        Self {
            core,
            now,
            asked: VecDeque::new(),
            decisions: 0,
            deciding: Duration::ZERO,
            hearing: Duration::ZERO,
        }
    }

    /// Lets the core decide whatever is due.
    fn decide(&mut self) {
        let start = Instant::now();
        self.core.handle_timeout(self.now);
        let mut outputs = Vec::new();
        while let Some(output) = self.core.poll_event() {
            outputs.push(output);
        }
        self.deciding += start.elapsed();
        for output in outputs {
            if let Output::Probe(request) = output {
                self.decisions += 1;
                self.asked.push_back(request);
            }
        }
    }

    /// The server that was asked first says that it could not get through.
    fn answer(&mut self) {
        let Some(request) = self.asked.pop_front() else {
            return;
        };
        self.now += Duration::from_millis(5);
        let response = DialResponse {
            status: ResponseStatus::Ok,
            addr_idx: 0,
            dial_status: DialStatus::DialError,
        };
        let start = Instant::now();
        self.core.on_response(self.now, request.id, response);
        self.core
            .on_probe_end(self.now, request.id, ProbeEnd::Completed);
        self.hearing += start.elapsed();
    }

    fn run(&mut self, decisions: usize) {
        while self.decisions < decisions {
            self.decide();
            self.answer();
            if self.asked.is_empty()
                && let Some(at) = self.core.poll_timeout()
            {
                self.now = self.now.max(at);
            }
        }
        black_box(&self.core);
    }
}

fn main() {
    println!("servers  µs a decision  µs an answer  of 10 µs  of that with 10 servers");
    let mut first = None;
    for servers in [10, 100, 1_000, 10_000] {
        let mut world = World::new(servers);
        world.run(DECISIONS / 10);
        world.decisions = 0;
        world.deciding = Duration::ZERO;
        world.hearing = Duration::ZERO;
        world.run(DECISIONS);
        let each = |time: Duration| time.as_secs_f64() / world.decisions as f64;
        let decision = each(world.deciding);
        let first = *first.get_or_insert(decision);
        println!(
            "{servers:>7} {:>14.2} {:>13.2} {:>9.2} {:>24.2}",
            decision * 1e6,
            each(world.hearing) * 1e6,
            decision / WANTED.as_secs_f64(),
            decision / first,
        );
    }
}
