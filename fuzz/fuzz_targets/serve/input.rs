//! What clients do to the server, as the fuzzer makes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use arbitrary::Arbitrary;
use libp2p_autonat_v2_fuzz::net::peer;
use libp2p_core::{Multiaddr, multiaddr::Protocol};

/// The server's.
pub(crate) const OWN_IP: Ipv4Addr = Ipv4Addr::new(20, 0, 0, 1);
pub(crate) const CLIENTS: u8 = 8;

#[derive(Debug, Arbitrary)]
pub(crate) struct Input {
    pub(crate) limits: Limits,
    pub(crate) moves: Vec<Move>,
}

#[derive(Debug, Arbitrary)]
pub(crate) struct Limits {
    pub(crate) per_minute: Option<u8>,
    pub(crate) of_peer: Option<u8>,
    pub(crate) of_neighbourhood: Option<u8>,
    pub(crate) with_data: Option<u8>,
    pub(crate) of_target: Option<u8>,
    pub(crate) at_once: Option<u8>,
    pub(crate) at_once_of_peer: Option<u8>,
    pub(crate) dials: Option<u8>,
    pub(crate) streams: Option<u8>,
    pub(crate) addresses: Option<u8>,
}

#[derive(Debug, Arbitrary)]
pub(crate) enum Move {
    Connects {
        client: u8,
        from: Ip,
    },
    Asks {
        connection: u8,
        addresses: Vec<Address>,
        nonce: u64,
        pays: bool,
    },
    Sends {
        connection: u8,
        bytes: Vec<u8>,
    },
    /// On a stream that is open.
    Adds {
        stream: u8,
        bytes: Vec<u8>,
    },
    Pays {
        stream: u8,
        len: u16,
    },
    StopsWriting(u8),
    HangsUp(u8),
    Leaves(u8),
    /// What becomes of dials of this IP from now on.
    Network(Ip, Way),
    /// On the oldest dial-back.
    Acknowledges,
    Answers(Vec<u8>),
    Closes,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Way {
    ToClient(u8),
    Refused,
    Silent,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Ip {
    Client(u8),
    ClientV6(u8),
    Victim(u8),
    Own,
    Private,
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Ip {
    pub(crate) fn ip(self) -> IpAddr {
        match self {
            Self::Client(number) => Ipv4Addr::new(30, number % CLIENTS, 0, 1).into(),
            Self::ClientV6(number) => {
                Ipv6Addr::new(0x2a01, (number % CLIENTS).into(), 0, 0, 0, 0, 0, 1).into()
            }
            Self::Victim(number) => Ipv4Addr::new(40, 0, 0, number % 4).into(),
            Self::Own => OWN_IP.into(),
            Self::Private => Ipv4Addr::new(10, 0, 0, 1).into(),
            Self::V4(octets) => octets.into(),
            Self::V6(octets) => octets.into(),
        }
    }
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) struct Address {
    pub(crate) ip: Ip,
    pub(crate) port: Port,
    pub(crate) end: Ending,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Port {
    Tcp(u16),
    Usual,
    Quic(u16),
    Ws(u16),
    None,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(crate) enum Ending {
    None,
    Peer(u8),
    Relay(u8),
    SecondIp(Ip),
}

impl Address {
    pub(crate) fn addr(self) -> Multiaddr {
        let addr = Multiaddr::from(self.ip.ip());
        let addr = match self.port {
            Port::Tcp(port) => addr.with(Protocol::Tcp(port)),
            Port::Usual => addr.with(Protocol::Tcp(4001)),
            Port::Quic(port) => addr.with(Protocol::Udp(port)).with(Protocol::QuicV1),
            Port::Ws(port) => addr
                .with(Protocol::Tcp(port))
                .with(Protocol::Ws("/".into())),
            Port::None => addr,
        };
        match self.end {
            Ending::None => addr,
            Ending::Peer(number) => addr.with(Protocol::P2p(peer(number % CLIENTS))),
            Ending::Relay(number) => addr
                .with(Protocol::P2p(peer(number % CLIENTS)))
                .with(Protocol::P2pCircuit),
            Ending::SecondIp(ip) => addr.with(ip.ip().into()).with(Protocol::Tcp(4001)),
        }
    }
}
