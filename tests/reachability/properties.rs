//! What holds for the core whatever is done to it: any operation, any order, any time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId,
    multiaddr::{Protocol, multihash},
    swarm::ConnectionId,
};
use libp2p_autonat_v2::{
    address,
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{
        Config, ConnectionInfo, Event, Output, ProbeEnd, ProbeId, ProbeOutcome, ProbeRequest,
        Reachability, Summary, Vantage, Verdict, Violation,
    },
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::world::{Answer, World};

/// For how long hearsay may not decide against a proof.
const FRESH: Duration = Duration::from_secs(5);
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
const PEERS: usize = 12;
const CONNECTIONS: usize = 24;

fn peer_id(rng: &mut StdRng) -> PeerId {
    let identity = multihash::Multihash::wrap(0, &rng.random::<[u8; 32]>()).unwrap();
    PeerId::from_multihash(identity).unwrap()
}

fn addr(text: &str) -> Multiaddr {
    text.parse().unwrap()
}

/// Makes operations out of a seed; a failing test prints the seed and how many operations it took.
struct Chaos {
    rng: StdRng,
    core: Reachability,
    me: PeerId,
    /// The latest time that the core was told.
    latest: Instant,
    base: Instant,
    peers: Vec<PeerId>,
    pool: Vec<Multiaddr>,
    requests: VecDeque<ProbeRequest>,
    /// Requests whose end was not told.
    open: BTreeMap<ProbeId, PeerId>,
    /// When each peer was asked.
    asked: BTreeMap<PeerId, VecDeque<Instant>>,
    /// External addresses that the core confirmed and that nobody else took over.
    ours: BTreeSet<Multiaddr>,
    /// All external addresses, as they are written.
    swarm: BTreeSet<Multiaddr>,
    /// As many addresses were tracked as may be, so that some may have been forgotten.
    was_full: bool,
    limits: Limits,
    /// No connection comes in.
    closed: bool,
    /// Time does not go back.
    steady: bool,
    reachable_seen: bool,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    addresses: usize,
    servers: usize,
    contacts: usize,
    in_flight: usize,
    per_minute: usize,
    expire_foreign: bool,
    allow_private: bool,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        // Fewer than there are, too: then whoever was forgotten may be asked again sooner.
        let servers = if rng.random_bool(0.4) {
            1..PEERS
        } else {
            PEERS..20
        };
        let limits = Limits {
            addresses: rng.random_range(1..12),
            servers: rng.random_range(servers),
            contacts: rng.random_range(1..40),
            in_flight: rng.random_range(1..9),
            per_minute: rng.random_range(1..=6),
            expire_foreign: rng.random(),
            allow_private: rng.random_bool(0.3),
        };
        let mut config = Config::default()
            .with_max_addresses(limits.addresses)
            .with_max_servers(limits.servers)
            .with_max_contacted_ips(limits.contacts)
            .with_max_in_flight(limits.in_flight)
            .with_requests_per_minute(limits.per_minute)
            .with_expire_foreign(limits.expire_foreign)
            .with_private_addresses(limits.allow_private);
        if rng.random() {
            config = config.with_required_vantage(Vantage::Independent);
        }
        if rng.random_bool(0.2) {
            config = config.with_connection_limit(Some(rng.random_range(0..40)));
        }
        let me = peer_id(&mut rng);
        // Far enough from the start of time that it can go back.
        let base = *START + Duration::from_secs(1 << 20);
        let pool = pool(&mut rng, me);
        Self {
            core: Reachability::new(me, config, rng.random(), base),
            peers: (0..PEERS).map(|_| peer_id(&mut rng)).collect(),
            rng,
            me,
            latest: base,
            base,
            pool,
            requests: VecDeque::new(),
            open: BTreeMap::new(),
            asked: BTreeMap::new(),
            ours: BTreeSet::new(),
            swarm: BTreeSet::new(),
            was_full: false,
            limits,
            closed: false,
            steady: false,
            reachable_seen: false,
        }
    }

    fn time(&mut self) -> Instant {
        let step = match self.rng.random_range(0..100) {
            0..50 => 0,
            50..80 => self.rng.random_range(0..300),
            80..95 => self.rng.random_range(0..20_000),
            95..98 => self.rng.random_range(0..7_200_000),
            _ => {
                // The core has to know the latest time, whatever it was told last.
                let unused = ConnectionId::new_unchecked(CONNECTIONS);
                self.core.on_connection_closed(self.latest, unused);
                // Backwards, at times to before the core was made.
                let back = Duration::from_millis(self.rng.random_range(0..40_000_000));
                if self.steady {
                    return self.latest;
                }
                return self.latest.checked_sub(back).unwrap_or(self.base);
            }
        };
        self.latest += Duration::from_millis(step);
        self.latest
    }

    fn addr(&mut self) -> Multiaddr {
        if self.rng.random_bool(0.15) {
            let ip: [u8; 4] = self.rng.random();
            let port: u16 = self.rng.random();
            return addr(&format!("/ip4/{}/tcp/{port}", Ipv4Addr::from(ip)));
        }
        self.pool.choose(&mut self.rng).unwrap().clone()
    }

    fn ip(&mut self) -> IpAddr {
        if self.rng.random_bool(0.2) {
            Ipv6Addr::from(self.rng.random::<[u8; 16]>()).into()
        } else {
            Ipv4Addr::new(20, self.rng.random_range(0..30), 1, 1).into()
        }
    }

    fn connection(&mut self) -> ConnectionId {
        ConnectionId::new_unchecked(self.rng.random_range(0..CONNECTIONS))
    }

    fn request(&mut self) -> Option<ProbeRequest> {
        if self.requests.is_empty() {
            return None;
        }
        // Mostly a new one.
        let at = if self.rng.random_bool(0.8) {
            self.requests.len() - 1 - self.rng.random_range(0..self.requests.len().min(4))
        } else {
            self.rng.random_range(0..self.requests.len())
        };
        self.requests.get(at).cloned()
    }

    fn operate(&mut self) {
        let now = self.time();
        match self.rng.random_range(0..40) {
            0 => {
                let a = self.addr();
                self.core.on_listen_addr(now, &a);
            }
            1 => {
                let a = self.addr();
                self.core.on_listen_addr_gone(now, &a);
            }
            2..5 => {
                let a = self.addr();
                self.core.on_candidate(now, &a);
            }
            5 => {
                let (a, c) = (self.addr(), self.connection());
                self.core.on_observed(now, c, &a);
            }
            6 => {
                let a = self.addr();
                self.drain();
                self.ours.remove(&self.canonical(&a));
                self.swarm.insert(a.clone());
                self.core.on_external_confirmed(now, &a);
            }
            7 => {
                let a = self.addr();
                self.drain();
                self.ours.remove(&a);
                self.swarm.remove(&a);
                let was_tracked = self.core.address(&a).is_some();
                self.core.on_external_expired(now, &a);
                self.drain();
                let canonical = self.canonical(&a);
                let left = self.swarm.iter().any(|it| self.canonical(it) == canonical);
                assert!(
                    !left || !was_tracked || self.was_full,
                    "announced in another form: {a}"
                );
            }
            8..11 => self.connect(now),
            11 => {
                let c = self.connection();
                self.core.on_connection_closed(now, c);
            }
            12 => {
                let (a, c) = (self.addr(), self.connection());
                self.core.on_address_change(now, c, &a);
            }
            13 => {
                let ip = self.ip();
                self.core.on_contact(now, ip);
            }
            14..18 => {
                let (c, yes) = (self.connection(), self.rng.random_bool(0.9));
                self.core.on_support(now, c, yes);
            }
            18..21 => self.nonce(now),
            21..25 => self.response(now),
            25 => {
                let bytes = self.rng.random::<u64>() >> self.rng.random_range(0..64);
                if let Some(request) = self.request() {
                    let index = self.rng.random_range(0..12);
                    self.core
                        .on_dial_data_request(now, request.id, index, bytes);
                }
            }
            26..29 => self.end(now),
            29 => {
                let a = self.addr();
                let _ = self.core.add_candidate(now, &a);
            }
            30 => {
                let a = self.addr();
                let _ = self.core.check_now(now, &a);
            }
            31 => {
                let pin = [None, Some(Summary::Public), Some(Summary::Unknown)];
                let pin = *pin.choose(&mut self.rng).unwrap();
                self.core.pin_summary(now, pin);
            }
            32..34 => self.core.handle_timeout(now),
            _ => self.catch_up(),
        }
        self.was_full |= self.core.sizes().addresses >= self.limits.addresses;
        self.drain();
    }

    fn connect(&mut self, now: Instant) {
        let id = self.connection();
        let peer = *self.peers.choose(&mut self.rng).unwrap();
        let inbound = self.rng.random_bool(0.3);
        let remote = match self.rng.random_range(0..10) {
            0 => self.addr(),
            1 => addr("/ip4/20.1.1.1/tcp/1")
                .with(Protocol::P2p(peer_id(&mut self.rng)))
                .with(Protocol::P2pCircuit),
            _ => match self.ip() {
                IpAddr::V4(ip) => addr(&format!("/ip4/{ip}/tcp/4001")),
                IpAddr::V6(ip) => addr(&format!("/ip6/{ip}/tcp/4001")),
            },
        };
        if inbound && self.closed && !address::is_relayed(&remote) {
            return;
        }
        let local = inbound.then(|| self.addr());
        // An id is not used again while the connection is open.
        self.core.on_connection_closed(now, id);
        self.core.on_connection(
            now,
            ConnectionInfo {
                id,
                peer,
                inbound,
                local,
                remote,
            },
        );
        if self.rng.random() {
            self.core.on_support(now, id, true);
        }
    }

    fn nonce(&mut self, now: Instant) {
        let Some(request) = self.request() else {
            return;
        };
        let nonce = if self.rng.random_bool(0.9) {
            request.nonce
        } else {
            self.rng.random()
        };
        let id = self.connection();
        if self.rng.random_bool(0.7) && !self.closed {
            // A dial-back as it should be.
            let local = request.addrs.choose(&mut self.rng).cloned();
            let ip = self.ip();
            let remote = Multiaddr::empty()
                .with(ip.into())
                .with(Protocol::Tcp(40_000));
            self.core.on_connection_closed(now, id);
            self.core.on_connection(
                now,
                ConnectionInfo {
                    id,
                    peer: request.server,
                    inbound: true,
                    local,
                    remote,
                },
            );
        }
        self.core.on_nonce(now, id, nonce);
    }

    fn response(&mut self, now: Instant) {
        let Some(request) = self.request() else {
            return;
        };
        let status = [
            ResponseStatus::InternalError,
            ResponseStatus::RequestRejected,
            ResponseStatus::DialRefused,
            ResponseStatus::Ok,
            ResponseStatus::Ok,
            ResponseStatus::Ok,
        ];
        let dial_status = [
            DialStatus::Unused,
            DialStatus::DialError,
            DialStatus::DialBackError,
            DialStatus::Ok,
        ];
        let response = DialResponse {
            status: *status.choose(&mut self.rng).unwrap(),
            addr_idx: if self.rng.random_bool(0.9) {
                self.rng.random_range(0..3)
            } else {
                self.rng.random()
            },
            dial_status: *dial_status.choose(&mut self.rng).unwrap(),
        };
        self.core.on_response(now, request.id, response);
    }

    fn end(&mut self, now: Instant) {
        let Some(request) = self.request() else {
            return;
        };
        let ends = [
            ProbeEnd::Completed,
            ProbeEnd::Completed,
            ProbeEnd::Reset,
            ProbeEnd::ConnectionClosed,
            ProbeEnd::Timeout,
            ProbeEnd::Unsupported,
            ProbeEnd::DialDataRefused,
            ProbeEnd::ProtocolViolation(Violation::Undecodable),
        ];
        let end = *ends.choose(&mut self.rng).unwrap();
        self.open.remove(&request.id);
        self.core.on_probe_end(now, request.id, end);
    }

    /// Runs the core until it wants to wait.
    fn catch_up(&mut self) {
        for _ in 0..100 {
            self.drain();
            if self.core.poll_timeout().is_none_or(|at| at > self.latest) {
                return;
            }
            self.core.handle_timeout(self.latest);
        }
        panic!("the core spins");
    }

    fn canonical(&self, a: &Multiaddr) -> Multiaddr {
        address::without_peer_id(a, &self.me)
    }

    fn drain(&mut self) {
        while let Some(output) = self.core.poll_event() {
            match output {
                Output::Probe(request) => self.check_request(request),
                Output::Confirm(a) => {
                    assert!(self.ours.insert(a.clone()), "confirmed twice: {a}");
                    self.swarm.insert(a.clone());
                    self.core.on_external_confirmed(self.latest, &a);
                }
                Output::Expire(a) => {
                    self.ours.remove(&a);
                    assert!(self.swarm.remove(&a), "not announced: {a}");
                    self.core.on_external_expired(self.latest, &a);
                }
                Output::Event(Event::VerdictChanged {
                    old,
                    new,
                    confidence,
                    ..
                }) => {
                    assert_ne!(old, new);
                    assert!((0.0..=1.0).contains(&confidence));
                    self.reachable_seen |= new == Verdict::Reachable;
                }
                Output::Event(Event::SummaryChanged { old, new, .. }) => assert_ne!(old, new),
                _ => {}
            }
        }
    }

    fn check_request(&mut self, request: ProbeRequest) {
        assert!((1..=10).contains(&request.addrs.len()));
        for a in &request.addrs {
            let public = address::is_public(a) || address::is_name(a);
            assert!(self.limits.allow_private || public, "{a}");
            assert!(!address::is_relayed(a), "{a}");
        }
        let asked = self.asked.entry(request.server).or_default();
        asked.push_back(self.latest);
        let recently = asked
            .iter()
            .filter(|at| self.latest.duration_since(**at) < Duration::from_secs(60))
            .count();
        if self.limits.servers >= PEERS {
            assert!(recently <= self.limits.per_minute, "{recently} in a minute");
        }
        while asked.len() > 10 {
            asked.pop_front();
        }
        // The core may have given the earlier one up by itself.
        self.open.insert(request.id, request.server);
        self.requests.push_back(request);
        if self.requests.len() > 64 {
            self.requests.pop_front();
        }
    }

    fn check(&self) {
        let sizes = self.core.sizes();
        let limits = &self.limits;
        assert!(sizes.addresses <= limits.addresses, "{sizes:?}");
        assert!(sizes.outcomes <= 24 * sizes.addresses, "{sizes:?}");
        assert!(sizes.servers <= limits.servers, "{sizes:?}");
        assert!(sizes.remembered_servers <= limits.servers, "{sizes:?}");
        assert!(sizes.contacted_ips <= limits.contacts, "{sizes:?}");
        assert!(sizes.probes <= limits.in_flight, "{sizes:?}");
        assert!(self.core.servers().1 <= self.core.servers().0);
        let mut announced = BTreeSet::new();
        for report in self.core.addresses() {
            assert!((0.0..=1.0).contains(&report.confidence), "{report:?}");
            assert!(report.servers <= 24);
            assert_eq!(
                self.core.address(&report.address).as_ref(),
                Some(&report),
                "the same by either query"
            );
            if report.announced {
                assert_eq!(report.verdict, Verdict::Reachable, "{report:?}");
                announced.insert(report.address);
            }
        }
        assert_eq!(announced, self.ours, "what the swarm was told");
    }
}

/// Addresses that meet again, so that they share sockets, IPs and ports.
fn pool(rng: &mut StdRng, me: PeerId) -> Vec<Multiaddr> {
    let mut pool = Vec::new();
    let ips = [
        "/ip4/81.2.69.160",
        "/ip4/81.2.69.161",
        "/ip6/2a01::1",
        "/ip4/192.168.1.2",
        "/ip6/fd00::2",
        "/ip4/0.0.0.0",
        "/dns4/node.example",
    ];
    let stacks = [
        "/tcp/4001",
        "/tcp/4001/ws",
        "/tcp/4001/tls/ws",
        "/udp/4001/quic-v1",
        "/udp/4001/quic-v1/webtransport",
        "/udp/4001/webrtc-direct",
        "/tcp/0",
        "/udp/4001",
        "",
        "/http",
    ];
    for _ in 0..24 {
        let (ip, stack) = (ips.choose(rng).unwrap(), stacks.choose(rng).unwrap());
        let mut a = addr(&format!("{ip}{stack}"));
        match rng.random_range(0..12) {
            0 => a.push(Protocol::P2p(me)),
            1 => a.push(Protocol::P2p(peer_id(rng))),
            2 => {
                a.push(Protocol::P2p(peer_id(rng)));
                a.push(Protocol::P2pCircuit);
            }
            _ => {}
        }
        pool.push(a);
    }
    pool.push(Multiaddr::empty());
    pool.push(addr("/memory/1"));
    // Some that surely can be tested.
    pool.extend(
        [
            "/ip4/81.2.69.160/tcp/4001",
            "/ip4/81.2.69.160/udp/4001/quic-v1",
        ]
        .map(addr),
    );
    pool
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics_spins_or_grows_and_the_swarm_is_told_the_truth(seed: u64, count in 1..400_usize) {
        let mut chaos = Chaos::new(seed);
        for _ in 0..count {
            chaos.operate();
            chaos.check();
        }
    }

    /// Servers may say what they like.
    #[test]
    fn without_an_inbound_connection_nothing_is_called_reachable(seed: u64, count in 1..400_usize) {
        let mut chaos = Chaos::new(seed);
        chaos.closed = true;
        for _ in 0..count {
            chaos.operate();
        }
        prop_assert!(!chaos.reachable_seen);
        prop_assert!(chaos.ours.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn hearsay_never_decides_against_a_fresh_proof(
        answers in prop::collection::vec(0..4_u8, 1..200),
        servers in 1..10_usize,
        late in 0..3_usize,
    ) {
        let address = addr("/ip4/81.2.69.160/tcp/4001");
        let mut world = World::of(&address, vec![Answer::DialError; servers]);
        world.script.extend(answers.into_iter().map(|answer| match answer {
            0 => Answer::DialBack,
            1 => Answer::DialErrorAfter(Duration::from_secs(6)),
            _ => Answer::DialError,
        }));
        world.run(Duration::from_secs(60));
        for _ in 0..late {
            world.server(Answer::DialError);
        }
        world.run(Duration::from_secs(2 * 60 * 60));
        let mut proof: Option<Duration> = None;
        for (at, event) in &world.events {
            match event {
                Event::Probed(probed) if matches!(probed.outcome, ProbeOutcome::Reachable(_)) => proof = Some(*at),
                Event::VerdictChanged { new: Verdict::Unreachable, .. } => {
                    let fresh = proof.is_some_and(|proof| *at < proof + FRESH);
                    prop_assert!(!fresh, "at {at:?}, after a proof at {proof:?}");
                }
                _ => {}
            }
        }
    }

    /// An earlier `now` is taken for the latest one.
    #[test]
    fn time_only_goes_forward(seed: u64, count in 1..300_usize) {
        let [jumping, steady] = [false, true].map(|steady| {
            let mut chaos = Chaos::new(seed);
            chaos.steady = steady;
            let mut seen = Vec::new();
            for _ in 0..count {
                chaos.operate();
                seen.push((chaos.core.poll_timeout(), chaos.core.addresses().collect::<Vec<_>>()));
            }
            seen
        });
        prop_assert_eq!(jumping, steady);
    }
}

#[test]
fn two_hundred_thousand_operations_leave_everything_bounded() {
    let mut done = 0;
    for seed in 0..10 {
        let mut chaos = Chaos::new(seed);
        for n in 0..20_000 {
            chaos.operate();
            done += 1;
            if n % 64 == 0 {
                chaos.check();
            }
        }
    }
    assert_eq!(done, 200_000);
}
