//! The client's core under arbitrary lists of operations: nothing panics, what it holds is bounded, it never spins, and what
//! it has announced is what the swarm announces.

#![no_main]

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::LazyLock,
    time::{Duration, Instant},
};

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use libp2p_autonat_v2::{
    address,
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{
        Config, ConnectionInfo, Event, Output, ProbeEnd, ProbeRequest, Reachability, Summary,
        Vantage, Verdict, Violation,
    },
};
use libp2p_autonat_v2_fuzz::net::peer;
use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

const ME: u8 = 255;
const PEERS: u8 = 16;
const CONNECTIONS: u8 = 32;
/// More is slow and reaches nothing else.
const MAX_STEPS: usize = 300;
/// Requests that may still be answered.
const MAX_REQUESTS: usize = 64;

#[derive(Debug, Arbitrary)]
struct Input {
    setup: Setup,
    steps: Vec<Step>,
}

/// All options, from one extreme to the other.
#[derive(Debug, Arbitrary)]
struct Setup {
    private: bool,
    addresses: Size,
    servers: Size,
    contacts: Size,
    parallel: Size,
    in_flight: Size,
    addresses_per_request: Size,
    requests_per_minute: Size,
    contact_lifetime: Span,
    gather_delay: Span,
    recheck: (Span, Span),
    timeouts: (Span, Span),
    outcome_lifetime: Span,
    dial_data: (u32, u64),
    independent: bool,
    expire_foreign: bool,
    connection_limit: Option<u8>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Size {
    Default,
    Small(u8),
    Largest,
}

impl Size {
    fn or(self, default: usize) -> usize {
        match self {
            Self::Default => default,
            Self::Small(size) => size.into(),
            Self::Largest => usize::MAX,
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Span {
    Zero,
    Millis(u16),
    Seconds(u16),
    /// Up to a day.
    Minutes(u16),
    Longest,
}

impl Span {
    fn length(self) -> Duration {
        match self {
            Self::Zero => Duration::ZERO,
            Self::Millis(count) => Duration::from_millis(count.into()),
            Self::Seconds(count) => Duration::from_secs(count.into()),
            Self::Minutes(count) => Duration::from_secs(60 * u64::from(count % (24 * 60 + 1))),
            Self::Longest => Duration::MAX,
        }
    }

    /// At most a day.
    fn step(self) -> Duration {
        self.length().min(Duration::from_secs(24 * 60 * 60))
    }
}

#[derive(Debug, Arbitrary)]
struct Step {
    wait: Wait,
    operation: Operation,
    /// What the application does while outputs wait: after so many of them.
    meanwhile: Option<(u8, Meanwhile)>,
}

#[derive(Debug, Arbitrary)]
enum Wait {
    Not,
    /// Without looking at the clock of the core.
    For(Span),
    /// With each of its timeouts on time.
    RunFor(Span),
    /// The caller's clock goes back.
    Back(Span),
}

/// What an application does with the swarm's external addresses.
#[derive(Debug, Clone, Copy, Arbitrary)]
enum Meanwhile {
    Adds(Address),
    Removes(Address),
    /// The one that was just confirmed, or is about to be.
    RemovesLast,
    AddsLast,
}

#[derive(Debug, Arbitrary)]
enum Operation {
    Nothing,
    Listens(Address),
    ListensNoMore(Address),
    Candidate(Address),
    Observed(u8, Address),
    External(Meanwhile),
    Connects {
        id: u8,
        peer: u8,
        remote: Address,
        local: Option<Address>,
        serves: bool,
    },
    Server {
        id: u8,
        peer: u8,
        network: u8,
        habit: Habit,
    },
    Disconnects(u8),
    Moves(u8, Address),
    Contact(Ip),
    Supports(u8, bool),
    /// The nonce of a request, or another, on a connection that is there.
    Nonce {
        request: u8,
        id: u8,
        right: bool,
    },
    /// As it should be: a new connection, a nonce, and the answer.
    DialsBack {
        request: u8,
        id: u8,
        network: u8,
        index: u8,
    },
    Response {
        request: u8,
        index: u8,
        status: Status,
    },
    AsksForData {
        request: u8,
        index: u8,
        bytes: Bytes,
    },
    Ends {
        request: u8,
        how: End,
    },
    AddsCandidate(Address),
    Checks(Address),
    Pins(Option<Pin>),
    TimesOut,
    Looks(Address),
    Habit {
        peer: u8,
        habit: Habit,
    },
}

/// What a server does with each request at once.
#[derive(Debug, Clone, Copy, Default, Arbitrary)]
enum Habit {
    #[default]
    Silent,
    Says(Status),
    DialsBack {
        network: u8,
    },
    HangsUp,
    Asks(u32),
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Status {
    Ok,
    DialError,
    DialBackError,
    OkUnused,
    Refused,
    Rejected,
    InternalError,
}

impl Status {
    fn response(self, addr_idx: u32) -> DialResponse {
        let (status, dial_status) = match self {
            Self::Ok => (ResponseStatus::Ok, DialStatus::Ok),
            Self::DialError => (ResponseStatus::Ok, DialStatus::DialError),
            Self::DialBackError => (ResponseStatus::Ok, DialStatus::DialBackError),
            Self::OkUnused => (ResponseStatus::Ok, DialStatus::Unused),
            Self::Refused => (ResponseStatus::DialRefused, DialStatus::Unused),
            Self::Rejected => (ResponseStatus::RequestRejected, DialStatus::Unused),
            Self::InternalError => (ResponseStatus::InternalError, DialStatus::Unused),
        };
        DialResponse {
            status,
            addr_idx,
            dial_status,
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Bytes {
    Usual(u16),
    Any(u64),
}

impl Bytes {
    fn count(self) -> u64 {
        match self {
            Self::Usual(count) => u64::from(count) * 2,
            Self::Any(count) => count,
        }
    }
}

/// A small index, or the largest.
fn any(index: u8) -> u32 {
    match index {
        u8::MAX => u32::MAX,
        small => (small % 12).into(),
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum End {
    Completed,
    Reset,
    ConnectionClosed,
    Timeout,
    Unsupported,
    DialDataRefused,
    Violation,
}

impl End {
    fn end(self) -> ProbeEnd {
        match self {
            Self::Completed => ProbeEnd::Completed,
            Self::Reset => ProbeEnd::Reset,
            Self::ConnectionClosed => ProbeEnd::ConnectionClosed,
            Self::Timeout => ProbeEnd::Timeout,
            Self::Unsupported => ProbeEnd::Unsupported,
            Self::DialDataRefused => ProbeEnd::DialDataRefused,
            Self::Violation => ProbeEnd::ProtocolViolation(Violation::Undecodable),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Pin {
    Unknown,
    Public,
    Private,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Ip {
    /// One network for each number.
    Public(u8),
    PublicV6(u8),
    /// The node's own.
    Own,
    Private(u8),
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Ip {
    fn ip(self) -> IpAddr {
        match self {
            Self::Public(number) => Ipv4Addr::new(20, number, 1, 1).into(),
            Self::PublicV6(number) => Ipv6Addr::new(0x2a01, number.into(), 0, 0, 0, 0, 0, 1).into(),
            Self::Own => Ipv4Addr::new(81, 2, 69, 160).into(),
            Self::Private(number) => Ipv4Addr::new(192, 168, 1, number).into(),
            Self::V4(octets) => octets.into(),
            Self::V6(octets) => octets.into(),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Address {
    host: Host,
    stack: Stack,
    suffix: Suffix,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Host {
    Ip(Ip),
    Dns,
    None,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Stack {
    /// On few ports, so that sockets are shared.
    Tcp(u8),
    Quic(u8),
    Ws(u8),
    Wss(u8),
    WebTransport(u8),
    WebRtc(u8),
    Path(u8),
    AnyTcp(u16),
    Udp(u8),
    None,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Suffix {
    None,
    Me,
    Other(u8),
    Relayed(u8),
}

impl Address {
    fn of(ip: Ip) -> Self {
        Self {
            host: Host::Ip(ip),
            stack: Stack::Tcp(1),
            suffix: Suffix::None,
        }
    }

    fn addr(self) -> Multiaddr {
        let mut addr = match self.host {
            Host::Ip(ip) => Multiaddr::from(ip.ip()),
            Host::Dns => Multiaddr::empty().with(Protocol::Dns4("node.example".into())),
            Host::None => Multiaddr::empty(),
        };
        let port = |number: u8| 4000 + u16::from(number % 4);
        let more: &[Protocol<'_>] = match self.stack {
            Stack::Tcp(number) => &[Protocol::Tcp(port(number))],
            Stack::Quic(number) => &[Protocol::Udp(port(number)), Protocol::QuicV1],
            Stack::Ws(number) => &[Protocol::Tcp(port(number)), Protocol::Ws("/".into())],
            Stack::Wss(number) => &[
                Protocol::Tcp(port(number)),
                Protocol::Tls,
                Protocol::Ws("/".into()),
            ],
            Stack::WebTransport(number) => &[
                Protocol::Udp(port(number)),
                Protocol::QuicV1,
                Protocol::WebTransport,
            ],
            Stack::WebRtc(number) => &[Protocol::Udp(port(number)), Protocol::WebRTCDirect],
            Stack::Path(number) => &[Protocol::Tcp(port(number)), Protocol::Ws("/a/b".into())],
            Stack::AnyTcp(port) => &[Protocol::Tcp(port)],
            Stack::Udp(number) => &[Protocol::Udp(port(number))],
            Stack::None => &[],
        };
        for protocol in more {
            addr.push(protocol.clone());
        }
        match self.suffix {
            Suffix::None => addr,
            Suffix::Me => addr.with(Protocol::P2p(peer(ME))),
            Suffix::Other(number) => addr.with(Protocol::P2p(peer(number % PEERS))),
            Suffix::Relayed(number) => addr
                .with(Protocol::P2p(peer(number % PEERS)))
                .with(Protocol::P2pCircuit),
        }
    }
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Who speaks for an external address of the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Core,
    Application,
}

struct World {
    core: Reachability,
    now: Instant,
    /// The swarm's external addresses, without this node's own peer ID.
    external: BTreeMap<Multiaddr, Owner>,
    /// What was confirmed or expired last.
    last: Option<Multiaddr>,
    meanwhile: Option<(u8, Meanwhile)>,
    requests: VecDeque<ProbeRequest>,
    habits: BTreeMap<PeerId, Habit>,
    /// Requests that a server's habit is to deal with.
    fresh: VecDeque<ProbeRequest>,
    next_connection: usize,
    limits: Limits,
}

#[derive(Debug)]
struct Limits {
    addresses: usize,
    servers: usize,
    contacts: usize,
    in_flight: usize,
    dial_data: u64,
    private: bool,
    expire_foreign: bool,
}

impl World {
    fn new(setup: &Setup) -> Self {
        let [addresses, servers, contacts, in_flight] = [
            setup.addresses.or(50),
            setup.servers.or(1_000),
            setup.contacts.or(16_384),
            setup.in_flight.or(16),
        ];
        let (per_answer, per_hour) = setup.dial_data;
        let mut config = Config::default()
            .with_private_addresses(setup.private)
            .with_max_addresses(addresses)
            .with_max_servers(servers)
            .with_max_contacted_ips(contacts)
            .with_max_parallel(setup.parallel.or(3))
            .with_max_in_flight(in_flight)
            .with_addresses_per_request(setup.addresses_per_request.or(10))
            .with_requests_per_minute(setup.requests_per_minute.or(6))
            .with_contact_lifetime(setup.contact_lifetime.length())
            .with_gather_delay(setup.gather_delay.length())
            .with_recheck(setup.recheck.0.length(), setup.recheck.1.length())
            .with_request_timeouts(setup.timeouts.0.length(), setup.timeouts.1.length())
            .with_outcome_lifetime(setup.outcome_lifetime.length())
            .with_dial_data_budget(per_answer.into(), per_hour)
            .with_expire_foreign(setup.expire_foreign)
            .with_connection_limit(setup.connection_limit.map(u32::from));
        if setup.independent {
            config = config.with_required_vantage(Vantage::Independent);
        }
        // Far enough from the start of time to go back.
        let now = *START + Duration::from_secs(1 << 20);
        Self {
            core: Reachability::new(peer(ME), config, 4711, now),
            now,
            external: BTreeMap::new(),
            last: None,
            meanwhile: None,
            requests: VecDeque::new(),
            habits: BTreeMap::new(),
            fresh: VecDeque::new(),
            next_connection: CONNECTIONS.into(),
            limits: Limits {
                addresses: addresses.max(1),
                servers: servers.max(1),
                contacts: contacts.max(1),
                in_flight: in_flight.max(1),
                dial_data: u64::from(per_answer).min(100_000),
                private: setup.private,
                expire_foreign: setup.expire_foreign,
            },
        }
    }

    fn step(&mut self, step: Step) {
        let back = match step.wait {
            Wait::Not => Duration::ZERO,
            Wait::For(span) => {
                self.now += span.step();
                Duration::ZERO
            }
            Wait::RunFor(span) => {
                self.run_until(self.now + span.step());
                Duration::ZERO
            }
            Wait::Back(span) => span.step(),
        };
        let told = self.now.checked_sub(back).unwrap_or(self.now);
        self.meanwhile = step.meanwhile;
        self.operate(told, step.operation);
        self.settle();
        self.meanwhile = None;
    }

    fn operate(&mut self, now: Instant, operation: Operation) {
        match operation {
            Operation::Nothing => {}
            Operation::Listens(address) => self.core.on_listen_addr(now, &address.addr()),
            Operation::ListensNoMore(address) => {
                self.core.on_listen_addr_gone(now, &address.addr());
            }
            Operation::Candidate(address) => self.core.on_candidate(now, &address.addr()),
            Operation::Observed(id, address) => {
                self.core.on_observed(now, connection(id), &address.addr());
            }
            Operation::External(change) => self.change(change),
            Operation::Connects {
                id,
                peer: number,
                remote,
                local,
                serves,
            } => {
                let info = ConnectionInfo {
                    id: connection(id),
                    peer: peer(number % PEERS),
                    inbound: local.is_some(),
                    local: local.map(Address::addr),
                    remote: remote.addr(),
                };
                self.connects(now, info, serves);
            }
            Operation::Server {
                id,
                peer: number,
                network,
                habit,
            } => {
                let server = peer(number % PEERS);
                self.habits.insert(server, habit);
                let info = ConnectionInfo {
                    id: connection(id),
                    peer: server,
                    inbound: false,
                    local: None,
                    remote: Address::of(Ip::Public(network)).addr(),
                };
                self.connects(now, info, true);
            }
            Operation::Disconnects(id) => self.core.on_connection_closed(now, connection(id)),
            Operation::Moves(id, address) => {
                self.core
                    .on_address_change(now, connection(id), &address.addr());
            }
            Operation::Contact(ip) => self.core.on_contact(now, ip.ip()),
            Operation::Supports(id, yes) => self.core.on_support(now, connection(id), yes),
            Operation::Nonce { request, id, right } => {
                if let Some(request) = self.request(request) {
                    let nonce = if right { request.nonce } else { !request.nonce };
                    let accepted = self.core.on_nonce(now, connection(id), nonce);
                    assert!(right || !accepted, "a nonce of nobody's");
                }
            }
            Operation::DialsBack {
                request,
                id,
                network,
                index,
            } => {
                if let Some(request) = self.request(request) {
                    self.dial_back(now, connection(id), &request, network, index.into());
                }
            }
            Operation::Response {
                request,
                index,
                status,
            } => {
                if let Some(request) = self.request(request) {
                    self.core
                        .on_response(now, request.id, status.response(any(index)));
                }
            }
            Operation::AsksForData {
                request,
                index,
                bytes,
            } => {
                if let Some(request) = self.request(request) {
                    self.asks(now, &request, any(index), bytes.count());
                }
            }
            Operation::Ends { request, how } => {
                if let Some(request) = self.request(request) {
                    self.core.on_probe_end(now, request.id, how.end());
                }
            }
            Operation::AddsCandidate(address) => {
                let _ = self.core.add_candidate(now, &address.addr());
            }
            Operation::Checks(address) => {
                let _ = self.core.check_now(now, &address.addr());
            }
            Operation::Pins(pin) => {
                let pin = pin.map(|pin| match pin {
                    Pin::Unknown => Summary::Unknown,
                    Pin::Public => Summary::Public,
                    Pin::Private => Summary::Private,
                });
                self.core.pin_summary(now, pin);
                assert!(pin.is_none_or(|pin| self.core.summary() == pin));
            }
            Operation::TimesOut => self.core.handle_timeout(now),
            Operation::Looks(address) => {
                let _ = self.core.address(&address.addr());
                let _ = self.core.nat_mapping();
            }
            Operation::Habit {
                peer: number,
                habit,
            } => {
                self.habits.insert(peer(number % PEERS), habit);
            }
        }
    }

    fn connects(&mut self, now: Instant, info: ConnectionInfo, serves: bool) {
        let id = info.id;
        // An id is not used again while the connection is open.
        self.core.on_connection_closed(now, id);
        self.core.on_connection(now, info);
        if serves {
            self.core.on_support(now, id, true);
        }
    }

    fn request(&self, number: u8) -> Option<ProbeRequest> {
        // The newest first.
        let at = self.requests.len().checked_sub(1 + usize::from(number))?;
        self.requests.get(at).cloned()
    }

    fn dial_back(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &ProbeRequest,
        network: u8,
        index: usize,
    ) {
        let index = index % request.addrs.len();
        let info = ConnectionInfo {
            id,
            peer: request.server,
            inbound: true,
            local: request.addrs.get(index).cloned(),
            remote: Multiaddr::from(Ip::Public(network).ip()).with(Protocol::Tcp(40_000)),
        };
        self.connects(now, info, false);
        self.core.on_nonce(now, id, request.nonce);
        self.core.on_connection_closed(now, id);
        let index = u32::try_from(index).expect("ten at most");
        self.core
            .on_response(now, request.id, Status::Ok.response(index));
        self.core.on_probe_end(now, request.id, ProbeEnd::Completed);
    }

    fn asks(&mut self, now: Instant, request: &ProbeRequest, index: u32, bytes: u64) {
        if self
            .core
            .on_dial_data_request(now, request.id, index, bytes)
        {
            assert!(bytes <= self.limits.dial_data, "{bytes} bytes are too many");
            assert!((index as usize) < request.addrs.len());
        }
    }

    /// The application's own change to the swarm's external addresses.
    fn change(&mut self, change: Meanwhile) {
        let (addr, adds) = match change {
            Meanwhile::Adds(address) => (address.addr(), true),
            Meanwhile::Removes(address) => (address.addr(), false),
            Meanwhile::AddsLast => (self.last.clone().unwrap_or_else(Multiaddr::empty), true),
            Meanwhile::RemovesLast => (self.last.clone().unwrap_or_else(Multiaddr::empty), false),
        };
        let canonical = address::without_peer_id(&addr, &peer(ME));
        if adds {
            self.external.insert(canonical, Owner::Application);
            self.core.on_external_confirmed(self.now, &addr);
        } else {
            self.external.remove(&canonical);
            self.core.on_external_expired(self.now, &addr);
        }
    }

    /// Carries out all that is due now.
    fn settle(&mut self) {
        for _ in 0..100 {
            self.drain();
            let now = self.now;
            if let Some(request) = self.fresh.pop_front() {
                self.by_habit(now, &request);
            } else if self.core.poll_timeout().is_some_and(|at| at <= now) {
                self.core.handle_timeout(now);
            } else {
                return;
            }
        }
        // Requests that are answered at once may bring others, but no more than the servers take in a minute.
        assert!(
            !self.fresh.is_empty() || self.limits.in_flight > 50,
            "the core spins"
        );
    }

    fn by_habit(&mut self, now: Instant, request: &ProbeRequest) {
        match self
            .habits
            .get(&request.server)
            .copied()
            .unwrap_or_default()
        {
            Habit::Silent => {}
            Habit::Says(status) => {
                self.core.on_response(now, request.id, status.response(0));
                self.core.on_probe_end(now, request.id, ProbeEnd::Completed);
            }
            Habit::DialsBack { network } => {
                self.next_connection += 1;
                let id = ConnectionId::new_unchecked(self.next_connection);
                self.dial_back(now, id, request, network, 0);
            }
            Habit::HangsUp => self.core.on_probe_end(now, request.id, ProbeEnd::Reset),
            Habit::Asks(bytes) => self.asks(now, request, 0, bytes.into()),
        }
    }

    /// Follows the core's own timeouts.
    fn run_until(&mut self, end: Instant) {
        let start = self.now;
        let mut wakes = 0;
        self.settle();
        while let Some(at) = self.core.poll_timeout().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            self.core.handle_timeout(self.now);
            self.settle();
            wakes += 1;
            // Enough for one step. The shell waits for a millisecond at the least.
            if wakes == 1_000 {
                let passed = self.now.duration_since(start);
                assert!(
                    passed >= Duration::from_millis(wakes),
                    "{wakes} wake-ups in {passed:?}"
                );
                return;
            }
        }
        self.now = end;
        self.settle();
    }

    /// As the swarm does with what the behaviour says.
    fn drain(&mut self) {
        let mut outputs = 0_u32;
        loop {
            if let Some((after, change)) = self.meanwhile
                && outputs == u32::from(after)
            {
                self.meanwhile = None;
                self.change(change);
            }
            let Some(output) = self.core.poll_event() else {
                break;
            };
            outputs += 1;
            assert!(outputs < 100_000, "outputs without end");
            match output {
                Output::Probe(request) => self.probe(request),
                Output::Confirm(addr) => {
                    self.last = Some(addr.clone());
                    self.external.entry(addr.clone()).or_insert(Owner::Core);
                    self.core.on_external_confirmed(self.now, &addr);
                }
                Output::Expire(addr) => {
                    self.last = Some(addr.clone());
                    let owner = self.external.remove(&addr);
                    assert!(
                        owner != Some(Owner::Application) || self.limits.expire_foreign,
                        "{addr} was the application's"
                    );
                    self.core.on_external_expired(self.now, &addr);
                }
                Output::Event(event) => check_event(&event),
                _ => {}
            }
        }
        self.check();
    }

    fn probe(&mut self, request: ProbeRequest) {
        assert!((1..=10).contains(&request.addrs.len()));
        for addr in &request.addrs {
            assert!(!address::is_relayed(addr), "{addr}");
            let stranger = address::is_public(addr) || address::is_name(addr);
            assert!(stranger || self.limits.private, "{addr}");
        }
        self.fresh.push_back(request.clone());
        self.requests.push_back(request);
        if self.requests.len() > MAX_REQUESTS {
            self.requests.pop_front();
        }
    }

    fn check(&self) {
        let (sizes, limits) = (self.core.sizes(), &self.limits);
        assert!(sizes.addresses <= limits.addresses, "{sizes:?} {limits:?}");
        assert!(sizes.outcomes <= 8 * sizes.addresses, "{sizes:?}");
        assert!(sizes.servers <= limits.servers, "{sizes:?} {limits:?}");
        assert!(
            sizes.remembered_servers <= limits.servers,
            "{sizes:?} {limits:?}"
        );
        assert!(
            sizes.contacted_ips <= limits.contacts,
            "{sizes:?} {limits:?}"
        );
        assert!(sizes.probes <= limits.in_flight, "{sizes:?} {limits:?}");
        let (known, usable) = self.core.servers();
        assert!(
            usable <= known && known <= PEERS.into(),
            "{usable} of {known}"
        );

        let announced: Vec<_> = self
            .core
            .addresses()
            .inspect(|report| assert!((0.0..=1.0).contains(&report.confidence), "{report:?}"))
            .filter(|report| report.announced)
            .inspect(|report| assert_eq!(report.verdict, Verdict::Reachable, "{report:?}"))
            .map(|report| report.address)
            .collect();
        for addr in &announced {
            assert_eq!(
                self.external.get(addr),
                Some(&Owner::Core),
                "{addr} is not announced"
            );
        }
        let ours = self
            .external
            .iter()
            .filter(|(_, owner)| **owner == Owner::Core);
        for (addr, _) in ours {
            assert!(announced.contains(addr), "{addr} is announced by nobody");
        }
    }
}

fn check_event(event: &Event) {
    match event {
        Event::VerdictChanged {
            old,
            new,
            confidence,
            ..
        } => {
            assert_ne!(old, new);
            assert!((0.0..=1.0).contains(confidence), "{event:?}");
        }
        Event::SummaryChanged { old, new, .. } => assert_ne!(old, new),
        _ => {}
    }
}

fn connection(number: u8) -> ConnectionId {
    ConnectionId::new_unchecked((number % CONNECTIONS).into())
}

fuzz_target!(|input: Input| {
    let mut world = World::new(&input.setup);
    for step in input.steps.into_iter().take(MAX_STEPS) {
        world.step(step);
    }
});
