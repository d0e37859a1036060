//! How the NAT in front of this node maps ports (RFC 4787, section 4.1), read off what peers observe.
//!
//! Only UDP counts for an endpoint-dependent mapping: QUIC dials leave from the listening socket, so a port that
//! differs from peer to peer is the NAT's doing. A TCP dial may have left from an ephemeral port of our own.

use std::{collections::VecDeque, net::IpAddr};

use crate::address::{PortProtocol, ThinWaist};

/// How many observations are kept for one transport.
const KEPT: usize = 16;

/// The mapping behaviour of the NAT in front of this node, in the terms of RFC 4787, section 4.1.
///
/// Hole punching works with [`NatMapping::EndpointIndependent`] and has little chance with
/// [`NatMapping::EndpointDependent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum NatMapping {
    /// Too few observations to tell.
    #[default]
    Unknown,
    /// Two or more hosts saw the same port. Also what a node without a NAT sees.
    EndpointIndependent,
    /// Hosts saw different ports for the same socket.
    EndpointDependent,
}

impl NatMapping {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::EndpointIndependent => "endpoint-independent",
            Self::EndpointDependent => "endpoint-dependent",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Observation {
    observer: IpAddr,
    seen: ThinWaist,
}

/// The newest observation of each observing host.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    udp: VecDeque<Observation>,
    tcp: VecDeque<Observation>,
}

impl Observations {
    pub(crate) fn record(&mut self, observer: IpAddr, seen: ThinWaist) {
        let list = match seen.protocol {
            PortProtocol::Udp => &mut self.udp,
            PortProtocol::Tcp => &mut self.tcp,
        };
        list.retain(|o| o.observer != observer || o.seen.ip != seen.ip);
        if list.len() >= KEPT {
            list.pop_front();
        }
        list.push_back(Observation { observer, seen });
    }

    /// Forgets what was seen behind another external IP.
    pub(crate) fn clear(&mut self) {
        self.udp.clear();
        self.tcp.clear();
    }

    pub(crate) fn mapping(&self) -> NatMapping {
        match agreement(&self.udp) {
            Some(true) => NatMapping::EndpointIndependent,
            Some(false) => NatMapping::EndpointDependent,
            None if agreement(&self.tcp) == Some(true) => NatMapping::EndpointIndependent,
            None => NatMapping::Unknown,
        }
    }
}

/// Whether the newest observation agrees with another host's of the same external IP; `None` where there is no other.
fn agreement(list: &VecDeque<Observation>) -> Option<bool> {
    let newest = list.back()?;
    let mut others = list
        .iter()
        .filter(|o| o.observer != newest.observer && o.seen.ip == newest.seen.ip)
        .peekable();
    others.peek()?;
    Some(others.any(|o| o.seen.port == newest.seen.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn seen(protocol: PortProtocol, port: u16) -> ThinWaist {
        ThinWaist {
            ip: ip("5.5.5.5"),
            protocol,
            port,
        }
    }

    #[test]
    fn one_host_tells_nothing() {
        let mut observations = Observations::default();
        for port in [1, 2, 3] {
            observations.record(ip("1.1.1.1"), seen(PortProtocol::Udp, port));
        }
        assert_eq!(observations.mapping(), NatMapping::Unknown);
    }

    #[test]
    fn the_same_port_for_two_hosts_is_endpoint_independent() {
        for protocol in [PortProtocol::Udp, PortProtocol::Tcp] {
            let mut observations = Observations::default();
            observations.record(ip("1.1.1.1"), seen(protocol, 4001));
            observations.record(ip("2.2.2.2"), seen(protocol, 4001));
            assert_eq!(observations.mapping(), NatMapping::EndpointIndependent);
        }
    }

    #[test]
    fn another_port_for_another_host_is_endpoint_dependent_over_udp_only() {
        let mut observations = Observations::default();
        observations.record(ip("1.1.1.1"), seen(PortProtocol::Tcp, 1));
        observations.record(ip("2.2.2.2"), seen(PortProtocol::Tcp, 2));
        assert_eq!(observations.mapping(), NatMapping::Unknown);
        observations.record(ip("1.1.1.1"), seen(PortProtocol::Udp, 1));
        observations.record(ip("2.2.2.2"), seen(PortProtocol::Udp, 2));
        assert_eq!(observations.mapping(), NatMapping::EndpointDependent);
    }

    #[test]
    fn observations_are_bounded() {
        let mut observations = Observations::default();
        for n in 0..10_000u32 {
            let observer = IpAddr::from(std::net::Ipv4Addr::from(n));
            observations.record(observer, seen(PortProtocol::Udp, 1));
        }
        assert_eq!(observations.udp.len(), KEPT);
    }
}
