//! What is done to the core: the configuration and the operations, as the fuzzer makes them.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use arbitrary::Arbitrary;
use libp2p_autonat_v2::{
    protocol::{DialResponse, DialStatus, MAX_DIAL_DATA, ResponseStatus},
    reachability::{Config, ProbeEnd, Summary, Vantage, Violation},
};
use libp2p_autonat_v2_fuzz::net::peer;
use libp2p_core::{Multiaddr, multiaddr::Protocol};

pub(crate) const ME: u8 = 255;
pub(crate) const PEERS: u8 = 16;

#[derive(Debug, Arbitrary)]
pub(crate) struct Input {
    pub(crate) setup: Setup,
    pub(crate) steps: Vec<Step>,
}

/// All options, from one extreme to the other.
#[derive(Debug, Arbitrary)]
pub(crate) struct Setup {
    pub(crate) private: bool,
    pub(crate) addresses: Size,
    pub(crate) servers: Size,
    pub(crate) contacts: Size,
    pub(crate) parallel: Size,
    pub(crate) in_flight: Size,
    pub(crate) addresses_per_request: Size,
    pub(crate) requests_per_minute: Size,
    pub(crate) contact_lifetime: Span,
    pub(crate) gather_delay: Span,
    pub(crate) recheck: (Span, Span),
    pub(crate) timeouts: (Span, Span),
    pub(crate) outcome_lifetime: Span,
    pub(crate) dial_data: (u32, u64),
    pub(crate) independent: bool,
    pub(crate) expire_foreign: bool,
    pub(crate) connection_limit: Option<u8>,
}

/// What follows from the configuration for the sizes, and for what is asked.
#[derive(Debug)]
pub(crate) struct Limits {
    pub(crate) addresses: usize,
    pub(crate) servers: usize,
    pub(crate) contacts: usize,
    pub(crate) in_flight: usize,
    pub(crate) dial_data: u64,
    pub(crate) private: bool,
    pub(crate) expire_foreign: bool,
}

impl Setup {
    pub(crate) fn limits(&self) -> Limits {
        // Zero is taken for one.
        Limits {
            addresses: self.addresses.or(50).max(1),
            servers: self.servers.or(1_000).max(1),
            contacts: self.contacts.or(16_384).max(1),
            in_flight: self.in_flight.or(16).max(1),
            dial_data: u64::from(self.dial_data.0).min(MAX_DIAL_DATA),
            private: self.private,
            expire_foreign: self.expire_foreign,
        }
    }

    pub(crate) fn config(&self) -> Config {
        let vantage = match self.independent {
            true => Vantage::Independent,
            false => Vantage::Contacted,
        };
        Config::default()
            .with_private_addresses(self.private)
            .with_max_addresses(self.addresses.or(50))
            .with_max_servers(self.servers.or(1_000))
            .with_max_contacted_ips(self.contacts.or(16_384))
            .with_max_parallel(self.parallel.or(3))
            .with_max_in_flight(self.in_flight.or(16))
            .with_addresses_per_request(self.addresses_per_request.or(10))
            .with_requests_per_minute(self.requests_per_minute.or(6))
            .with_contact_lifetime(self.contact_lifetime.length())
            .with_gather_delay(self.gather_delay.length())
            .with_recheck(self.recheck.0.length(), self.recheck.1.length())
            .with_request_timeouts(self.timeouts.0.length(), self.timeouts.1.length())
            .with_outcome_lifetime(self.outcome_lifetime.length())
            .with_dial_data_budget(self.dial_data.0.into(), self.dial_data.1)
            .with_required_vantage(vantage)
            .with_expire_foreign(self.expire_foreign)
            .with_connection_limit(self.connection_limit.map(u32::from))
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Size {
    Default,
    Small(u8),
    Largest,
}

impl Size {
    pub(crate) fn or(self, default: usize) -> usize {
        match self {
            Self::Default => default,
            Self::Small(size) => size.into(),
            Self::Largest => usize::MAX,
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Span {
    Zero,
    Millis(u16),
    Seconds(u16),
    /// Up to a day.
    Minutes(u16),
    Longest,
}

impl Span {
    pub(crate) fn length(self) -> Duration {
        match self {
            Self::Zero => Duration::ZERO,
            Self::Millis(count) => Duration::from_millis(count.into()),
            Self::Seconds(count) => Duration::from_secs(count.into()),
            Self::Minutes(count) => Duration::from_secs(60 * u64::from(count % (24 * 60 + 1))),
            Self::Longest => Duration::MAX,
        }
    }

    /// At most a day.
    pub(crate) fn step(self) -> Duration {
        self.length().min(Duration::from_secs(24 * 60 * 60))
    }
}

#[derive(Debug, Arbitrary)]
pub(crate) struct Step {
    pub(crate) wait: Wait,
    pub(crate) operation: Operation,
    /// What the application does while outputs wait: after so many of them.
    pub(crate) meanwhile: Option<(u8, Meanwhile)>,
}

#[derive(Debug, Arbitrary)]
pub(crate) enum Wait {
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
pub(crate) enum Meanwhile {
    Adds(Address),
    Removes(Address),
    /// The one that was just confirmed, or is about to be.
    RemovesLast,
    AddsLast,
}

#[derive(Debug, Arbitrary)]
pub(crate) enum Operation {
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
pub(crate) enum Habit {
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
pub(crate) enum Status {
    Ok,
    DialError,
    DialBackError,
    OkUnused,
    Refused,
    Rejected,
    InternalError,
}

impl Status {
    pub(crate) fn response(self, addr_idx: u32) -> DialResponse {
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
pub(crate) enum Bytes {
    Usual(u16),
    Any(u64),
}

impl Bytes {
    pub(crate) fn count(self) -> u64 {
        match self {
            Self::Usual(count) => u64::from(count) * 2,
            Self::Any(count) => count,
        }
    }
}

/// A small index, or the largest.
pub(crate) fn any(index: u8) -> u32 {
    match index {
        u8::MAX => u32::MAX,
        small => (small % 12).into(),
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum End {
    Completed,
    Reset,
    ConnectionClosed,
    Timeout,
    Unsupported,
    DialDataRefused,
    Violation,
}

impl End {
    pub(crate) fn end(self) -> ProbeEnd {
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
pub(crate) enum Pin {
    Unknown,
    Public,
    Private,
}

impl Pin {
    pub(crate) fn summary(self) -> Summary {
        match self {
            Self::Unknown => Summary::Unknown,
            Self::Public => Summary::Public,
            Self::Private => Summary::Private,
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Ip {
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
    pub(crate) fn ip(self) -> IpAddr {
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
pub(crate) struct Address {
    pub(crate) host: Host,
    pub(crate) stack: Stack,
    pub(crate) suffix: Suffix,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Host {
    Ip(Ip),
    Dns,
    None,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Stack {
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
pub(crate) enum Suffix {
    None,
    Me,
    Other(u8),
    Relayed(u8),
}

impl Address {
    pub(crate) fn of(ip: Ip) -> Self {
        Self {
            host: Host::Ip(ip),
            stack: Stack::Tcp(1),
            suffix: Suffix::None,
        }
    }

    pub(crate) fn addr(self) -> Multiaddr {
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
