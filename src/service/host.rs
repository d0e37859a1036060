//! What only the host can tell about an address: whether it leads to the host itself, to its LAN or out, and whether there is
//! a way to dial it.

use std::net::IpAddr;

use libp2p_core::Multiaddr;

use crate::address::{self, Neighbourhood};

/// Where an IP is, as this host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the caller builds it, and there is nowhere else to be"
)]
pub enum Locality {
    /// Behind a router, as far as is known.
    Remote,
    /// On a network that this host is on too.
    Lan,
    /// On this host, or on the router that has this host's public IP.
    ThisHost,
}

/// The host that dials.
pub trait Host {
    /// Where this IP is.
    fn locality(&self, ip: IpAddr) -> Locality;

    /// Whether this node has evidence that it can dial this address, by its family and transport.
    fn can_dial(&self, addr: &Multiaddr) -> bool;
}

/// Whether these are on one LAN if one of them is this host's: in one /64 (RFC 4291 section 2.5.1), or in one IPv4 /24, the most
/// common of those that are routed on their own.
pub(crate) fn on_one_lan(one: IpAddr, other: IpAddr) -> bool {
    let lan = |ip| address::neighbourhood(ip, 24, 64);
    lan(one) == lan(other)
}

/// The addresses that are on one LAN with an address that the node listens on or has confirmed, as far as it tells: the /64 of
/// an IPv6. An IPv4 does not tell: it may be that of a NAT, and its neighbours other customers.
pub(crate) fn lan(ip: IpAddr) -> Neighbourhood {
    address::neighbourhood(ip, 32, 64)
}
