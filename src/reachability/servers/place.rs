//! Where a server is, as far as its connections tell: its host, its IP group, its networks, and whether it is on this node's own.
//! Behind a relay it is where the relay is. The lengths of prefixes are in `address/neighbourhood.rs`.

use std::net::IpAddr;

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;

use crate::{
    address::{self, IpFamily, Neighbourhood},
    reachability::contacts::IpGroup,
};

/// One host: a global IPv4 address or an IPv6 /64. A server whose IP is not known or not global is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Host {
    Ip(Neighbourhood),
    Peer(PeerId),
}

impl Host {
    pub(crate) const fn is_ip(&self) -> bool {
        matches!(self, Self::Ip(_))
    }
}

/// What is known of a server's ability to dial a transport over an IP family. Ordered: more is known of later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ability {
    /// It is known over the other IP family only, or through a relay.
    OtherFamily,
    /// It is connected over this family, or has dialed another transport over it.
    SameFamily,
    /// It has dialed this transport over this family.
    Shown,
}

/// A connection to a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) connection: ConnectionId,
    pub(crate) is_relayed: bool,
    pub(crate) inbound: bool,
    /// Of the peer, or of the relay. `None` where it was dialed by name.
    pub(crate) ip: Option<IpAddr>,
    /// The last request on it had no answer.
    pub(crate) is_unresponsive: bool,
}

/// Where a server is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) host: Host,
    pub(crate) group: IpGroup,
    /// A direct link leads to an IP that is not global: it is on a network of this node's own.
    pub(crate) is_private: bool,
    /// The networks of its direct links, over IPv4 and over IPv6.
    networks: [Option<Neighbourhood>; 2],
}

impl Place {
    /// `dials_from`: the source of its dial-backs, if that is known.
    pub(crate) fn of(peer: &PeerId, links: &[Link], dials_from: Option<IpAddr>) -> Self {
        let direct = || links.iter().filter(|link| !link.is_relayed);
        let ip = direct().chain(links).find_map(|link| link.ip);
        let is_direct = direct().any(|link| link.ip.is_some());
        let ips = || direct().filter_map(|link| link.ip);
        let of = |family| ips().find(|ip| IpFamily::of(*ip) == family);
        Self {
            // Private networks are small: there each peer counts, if any of them does.
            host: ip
                .filter(|ip| is_direct && address::ip_scope(*ip).is_global())
                .map_or(Host::Peer(*peer), |ip| Host::Ip(address::host_prefix(ip))),
            group: IpGroup::of(ip.or(dials_from)),
            is_private: ips().any(|ip| !address::ip_scope(ip).is_global()),
            networks: [IpFamily::V4, IpFamily::V6].map(|family| of(family).map(address::network)),
        }
    }

    pub(crate) fn is_in(&self, network: Neighbourhood) -> bool {
        self.networks.contains(&Some(network))
    }

    pub(crate) fn is_in_wide(&self, network: Neighbourhood) -> bool {
        let wide = |at: &Neighbourhood| at.wide() == network;
        self.networks.iter().flatten().any(wide)
    }
}
