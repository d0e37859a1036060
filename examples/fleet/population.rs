//! Who is in the network: nodes behind their NATs, and servers with their faults.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::{RngExt, rngs::SmallRng};

use crate::network::{Fault, Nat, State, Transport};

/// Shares of nodes; chosen. A quarter has no NAT or a forwarded port, and most NATs filter by address and port.
const NATS: [(f64, Nat); 4] = [
    (0.25, Nat::None),
    (0.05, Nat::FullCone),
    (0.09, Nat::AddressRestricted),
    (0.61, Nat::PortRestricted),
];
/// Share of nodes that have IPv6 too, and of connections between two that have it which use it; chosen.
const WITH_V6: f64 = 0.4;
const OVER_V6: f64 = 0.5;
/// Share of servers that cannot dial one of the two transports and don't know it; chosen.
const UNABLE: f64 = 0.05;

pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Quic];

/// How a node has met a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) over: Transport,
    pub(crate) v6: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Host {
    pub(crate) v4: Ipv4Addr,
    pub(crate) has_v6: bool,
}

impl Host {
    fn new(rng: &mut SmallRng) -> Self {
        Self {
            v4: Ipv4Addr::new(
                rng.random_range(11..100),
                rng.random(),
                rng.random(),
                rng.random_range(1..255),
            ),
            has_v6: rng.random_bool(WITH_V6),
        }
    }

    pub(crate) fn ip(&self, v6: bool) -> IpAddr {
        if v6 {
            let [a, b, c, d] = self.v4.octets().map(u16::from);
            return Ipv6Addr::new(0x2a00 + a, b, c, d, 0, 0, 0, 1).into();
        }
        self.v4.into()
    }

    /// How it connects to `other`.
    pub(crate) fn route_to(&self, other: &Self, rng: &mut SmallRng) -> Route {
        Route {
            over: TRANSPORTS[rng.random_range(0..TRANSPORTS.len())],
            v6: self.has_v6 && other.has_v6 && rng.random_bool(OVER_V6),
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) host: Host,
    pub(crate) nat: Nat,
    /// Whether a failed dial shows at once or as silence.
    pub(crate) refuses_packets: bool,
}

impl Client {
    pub(crate) fn new(rng: &mut SmallRng) -> Self {
        let mut dice: f64 = rng.random();
        let mut nat = Nat::PortRestricted;
        for (share, candidate) in NATS {
            if dice < share {
                nat = candidate;
                break;
            }
            dice -= share;
        }
        Self {
            host: Host::new(rng),
            nat,
            refuses_packets: rng.random_bool(0.5),
        }
    }

    /// On one of three networks.
    pub(crate) fn of_crowd(rng: &mut SmallRng) -> Self {
        let mut it = Self::new(rng);
        let [_, _, c, d] = it.host.v4.octets();
        it.host.v4 = Ipv4Addr::new(102, rng.random_range(0..3), c, d);
        it
    }

    pub(crate) fn listens_on(&self) -> String {
        if self.nat == Nat::None {
            return format!("/ip4/{}", self.host.v4);
        }
        "/ip4/192.168.1.2".to_owned()
    }

    pub(crate) fn state(&self) -> State {
        self.nat.state()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) host: Host,
    pub(crate) fault: Fault,
    /// What it cannot dial.
    unable: Option<Transport>,
}

impl Server {
    pub(crate) fn new(is_hostile: bool, rng: &mut SmallRng) -> Self {
        const HOSTILITY: [Fault; 4] = [
            Fault::LiesError,
            Fault::TurnsCoat,
            Fault::LiesOk,
            Fault::Vanishes,
        ];
        let how = HOSTILITY[rng.random_range(0..HOSTILITY.len())];
        let unable = TRANSPORTS[rng.random_range(0..TRANSPORTS.len())];
        Self {
            host: Host::new(rng),
            fault: if is_hostile { how } else { Fault::None },
            unable: rng.random_bool(UNABLE).then_some(unable),
        }
    }

    pub(crate) fn can_dial(&self, over: Transport) -> bool {
        self.unable != Some(over)
    }
}
