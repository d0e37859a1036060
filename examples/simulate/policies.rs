//! Four ways to judge: ours, which is the crate's core itself, and three others in their plainest form.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, identity::Keypair, swarm::ConnectionId};
use libp2p_autonat_v2::{
    client::{Config, Event, Vantage, Verdict},
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{ConnectionInfo, Output, ProbeEnd, ProbeRequest, Reachability},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::world::{Answer, World};

/// Dial data that a request costs where the server asks for it, in the middle between its bounds.
const DIAL_DATA: u64 = 65_000;

/// What a policy said and when, and what it spent.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// Reachable or not, and since when.
    pub(crate) verdicts: Vec<(Duration, bool)>,
    pub(crate) probes: u64,
    pub(crate) dial_data: u64,
    /// Dial-backs that really came.
    pub(crate) dial_backs: u64,
    pub(crate) filtered: bool,
    pub(crate) vantage: Option<Vantage>,
}

impl History {
    fn say(&mut self, at: Duration, reachable: bool) {
        if self.verdicts.last().map(|(_, last)| *last) != Some(reachable) {
            self.verdicts.push((at, reachable));
        }
    }

    fn asked(&mut self, answer: Answer, relayed_ip: bool) {
        self.probes += 1;
        self.dial_backs += u64::from(answer == Answer::DialedBack);
        // A server that sees another IP than the one to dial wants dial data.
        let dials = matches!(answer, Answer::DialedBack | Answer::DialError);
        self.dial_data += if dials && relayed_ip { DIAL_DATA } else { 0 };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Ours,
    FirstProbe,
    NetCount,
    Segments,
}

impl Policy {
    pub(crate) const ALL: [Self; 4] =
        [Self::Ours, Self::FirstProbe, Self::NetCount, Self::Segments];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "this crate",
            Self::FirstProbe => "first probe decides",
            Self::NetCount => "net 2 of 5, target 3",
            Self::Segments => "4 ok or 8 failed",
        }
    }

    pub(crate) fn run(self, world: &World, horizon: Duration) -> History {
        match self {
            Self::Ours => Ours::new(world).run(horizon),
            Self::FirstProbe => first_probe(world, horizon),
            Self::NetCount => net_count(world, horizon),
            Self::Segments => segments(world, horizon),
        }
    }
}

/// The crate's core, driven in virtual time.
struct Ours<'a> {
    world: &'a World,
    core: Reachability,
    start: Instant,
    now: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    happenings: Vec<Option<Happening>>,
    next_connection: usize,
    asked: Vec<u64>,
    history: History,
}

enum Happening {
    Connect(usize),
    Candidate,
    Answer(ProbeRequest, usize, Answer),
}

impl<'a> Ours<'a> {
    fn new(world: &'a World) -> Self {
        let start = Instant::now();
        let core = Reachability::new(peer(world.seed), Config::default(), world.seed, start);
        let mut it = Self {
            world,
            core,
            start,
            now: Duration::ZERO,
            queue: BinaryHeap::new(),
            happenings: Vec::new(),
            // Connections to servers have the servers' numbers.
            next_connection: world.servers.len(),
            asked: vec![0; world.servers.len()],
            history: History::default(),
        };
        for (i, server) in world.servers.iter().enumerate() {
            it.schedule(server.connected_at, Happening::Connect(i));
            it.schedule(
                server.connected_at + server.latency * 2,
                Happening::Candidate,
            );
        }
        it
    }

    fn schedule(&mut self, at: Duration, happening: Happening) {
        let id = self.happenings.len();
        self.queue.push(Reverse((at, id as u64, id)));
        self.happenings.push(Some(happening));
    }

    fn instant(&self) -> Instant {
        self.start + self.now
    }

    fn run(mut self, horizon: Duration) -> History {
        loop {
            while let Some(output) = self.core.poll_event() {
                self.carry_out(output);
            }
            let timeout = self.core.poll_timeout();
            let timeout = timeout.map(|at| at.saturating_duration_since(self.start).max(self.now));
            let next = self.queue.peek().map(|Reverse((at, _, _))| *at);
            let Some(at) = timeout.into_iter().chain(next).min() else {
                break;
            };
            if at > horizon {
                break;
            }
            self.now = at;
            if next == Some(at)
                && let Some(Reverse((_, _, id))) = self.queue.pop()
                && let Some(happening) = self.happenings[id].take()
            {
                self.happen(happening);
            } else {
                self.core.handle_timeout(self.instant());
            }
        }
        let report = self.core.addresses().next();
        self.history.vantage = report.as_ref().and_then(|report| report.vantage);
        self.history.filtered = report.is_some_and(|report| report.verdict == Verdict::Filtered);
        self.history
    }

    fn happen(&mut self, happening: Happening) {
        let now = self.instant();
        match happening {
            Happening::Connect(server) => {
                let id = ConnectionId::new_unchecked(server);
                let ip = self.world.servers[server].contacted_ip();
                let info = self.connection(id, server, ip, false);
                self.core.on_connection(now, info);
                self.core.on_support(now, id, true);
            }
            Happening::Candidate => self.core.on_candidate(now, &tested()),
            Happening::Answer(request, server, answer) => self.answered(&request, server, answer),
        }
    }

    fn connection(
        &self,
        id: ConnectionId,
        server: usize,
        ip: std::net::IpAddr,
        inbound: bool,
    ) -> ConnectionInfo {
        let family = if ip.is_ipv4() { "ip4" } else { "ip6" };
        ConnectionInfo {
            id,
            peer: peer(self.world.seed.wrapping_add(1 + server as u64)),
            inbound,
            local: inbound.then(|| multiaddr("/ip4/192.168.1.2/tcp/4001")),
            remote: multiaddr(&format!("/{family}/{ip}/tcp/4001")),
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
        if answer == Answer::DialedBack {
            let id = ConnectionId::new_unchecked(self.next_connection);
            self.next_connection += 1;
            let ip = self.world.servers[server].v4.into();
            let info = self.connection(id, server, ip, true);
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

    fn carry_out(&mut self, output: Output) {
        let now = self.instant();
        match output {
            Output::Probe(request) => {
                let server = (0..self.world.servers.len())
                    .find(|i| ConnectionId::new_unchecked(*i) == request.connection)
                    .expect("requests go to servers");
                let nth = self.asked[server];
                self.asked[server] += 1;
                let (answer, after) = self.world.ask(server, self.now, nth);
                let independent = self.world.servers[server].independent;
                self.history.asked(answer, independent);
                self.schedule(self.now + after, Happening::Answer(request, server, answer));
            }
            Output::Confirm(addr) => self.core.on_external_confirmed(now, &addr),
            Output::Expire(addr) => self.core.on_external_expired(now, &addr),
            Output::Event(Event::VerdictChanged { new, .. }) => match new {
                Verdict::Reachable => self.history.say(self.now, true),
                Verdict::Unreachable | Verdict::Filtered => self.history.say(self.now, false),
                _ => {}
            },
            _ => {}
        }
    }
}

fn tested() -> Multiaddr {
    multiaddr("/ip4/5.5.5.5/tcp/4001")
}

fn multiaddr(text: &str) -> Multiaddr {
    text.parse().expect("a valid multiaddr")
}

/// A peer that is the same in every run.
fn peer(seed: u64) -> PeerId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    Keypair::ed25519_from_bytes(bytes)
        .expect("any 32 bytes make a key")
        .public()
        .to_peer_id()
}

/// Asks servers in random order, one at a time, as the simple policies do.
struct Asker<'a> {
    world: &'a World,
    rng: SmallRng,
    now: Duration,
    asked: Vec<u64>,
    history: History,
}

impl<'a> Asker<'a> {
    fn new(world: &'a World) -> Self {
        Self {
            world,
            rng: SmallRng::seed_from_u64(world.seed ^ 0xa5a5),
            now: Duration::from_secs(1),
            asked: vec![0; world.servers.len()],
            history: History::default(),
        }
    }

    /// The answer of a random server among those that `may` be asked, when it has come.
    fn ask(&mut self, may: impl Fn(usize) -> bool) -> Option<(usize, Answer)> {
        let choice: Vec<usize> = (0..self.world.servers.len())
            .filter(|i| self.world.servers[*i].connected_at <= self.now && may(*i))
            .collect();
        if choice.is_empty() {
            return None;
        }
        let server = choice[self.rng.random_range(0..choice.len())];
        let (answer, after) = self.world.ask(server, self.now, self.asked[server]);
        self.asked[server] += 1;
        self.history
            .asked(answer, self.world.servers[server].independent);
        self.now += after;
        Some((server, answer))
    }
}

/// The first probe that says anything decides for ever; a try every five seconds.
fn first_probe(world: &World, horizon: Duration) -> History {
    let mut asker = Asker::new(world);
    while asker.now < horizon {
        match asker.ask(|_| true) {
            Some((_, Answer::DialedBack)) => {
                asker.history.say(asker.now, true);
                break;
            }
            Some((_, Answer::DialError)) => {
                asker.history.say(asker.now, false);
                break;
            }
            _ => asker.now += Duration::from_secs(5),
        }
    }
    asker.history
}

/// Successes less failures of the last five answers: two decide, three are enough for now. No server is asked twice in two
/// minutes; a check every five minutes.
fn net_count(world: &World, horizon: Duration) -> History {
    let mut asker = Asker::new(world);
    let mut window: Vec<bool> = Vec::new();
    let mut last_asked = vec![None::<Duration>; world.servers.len()];
    while asker.now < horizon {
        let now = asker.now;
        let rested = |i: usize| {
            last_asked[i].is_none_or(|at: Duration| now - at >= Duration::from_secs(120))
        };
        let Some((server, answer)) = asker.ask(rested) else {
            asker.now += Duration::from_secs(5);
            continue;
        };
        last_asked[server] = Some(now);
        match answer {
            Answer::DialedBack => window.push(true),
            Answer::DialError => window.push(false),
            _ => {}
        }
        if window.len() > 5 {
            window.remove(0);
        }
        let successes = window.iter().filter(|success| **success).count() as i64;
        let net = 2 * successes - window.len() as i64;
        if net.abs() >= 2 {
            asker.history.say(asker.now, net > 0);
        }
        if net.abs() >= 3 {
            asker.now += Duration::from_secs(300);
        }
    }
    asker.history
}

/// Four successes or eight failures from different first octets, each server asked once. Believes `OK` without a nonce.
fn segments(world: &World, horizon: Duration) -> History {
    let mut asker = Asker::new(world);
    let mut asked = BTreeSet::new();
    let (mut ok, mut failed) = (BTreeSet::new(), BTreeSet::new());
    while asker.now < horizon && asked.len() < world.servers.len() {
        let Some((server, answer)) = asker.ask(|i| !asked.contains(&i)) else {
            asker.now += Duration::from_secs(1);
            continue;
        };
        asked.insert(server);
        let segment = world.servers[server].v4.octets()[0];
        match answer {
            Answer::DialedBack | Answer::HollowOk => drop(ok.insert(segment)),
            Answer::DialError => drop(failed.insert(segment)),
            _ => {}
        }
        if ok.len() >= 4 {
            asker.history.say(asker.now, true);
            break;
        }
        if failed.len() >= 8 {
            asker.history.say(asker.now, false);
            break;
        }
    }
    asker.history
}
