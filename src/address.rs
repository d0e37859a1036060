//! What a multiaddr is: its IP and family, its transport, whether strangers could ever reach it.
//!
//! Both roles decide on these facts: the client which of its addresses to have tested and whether a dial-back came in on
//! the right kind of listener, the server which address of a request it may dial. The AutoNAT v2 specification asks
//! clients not to send private addresses and servers not to dial them; it leaves what "private" means to the
//! implementation. Here it is what the IANA special-purpose registries say (RFC 6890, RFC 8190), see [`IpScope`].
//!
//! Everything here is a pure function of its arguments. Nothing resolves names, looks at interfaces or panics, whatever
//! a remote wrote into the address. In doubt an address counts as not public, not dialable and of no known transport.
//!
//! An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2) is how a dual-stack socket spells an IPv4
//! address. Every function takes it for that IPv4 address.

mod neighbourhood;
mod port_protocol;
mod printable;
mod scope;
mod stack;
mod waist;

/// Whether a listener on `listen` could be what a NAT maps `addr` to without changing the port.
pub(crate) fn listens_for(listen: &Multiaddr, addr: &Multiaddr) -> bool {
    let (Some(a), Some(b)) = (port(listen), port(addr)) else {
        return false;
    };
    a == b && same_stack(listen, addr)
}

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use libp2p_core::multiaddr::{Multiaddr, Protocol};
use libp2p_identity::PeerId;

pub use neighbourhood::{Neighbourhood, neighbourhood};
pub(crate) use neighbourhood::{host_of, host_prefix, ip_group, network, wide_network};
pub use port_protocol::PortProtocol;
pub(crate) use printable::Printable;
pub use scope::{IpScope, ip_scope};
#[cfg(test)]
pub(crate) use stack::is_known;
pub(crate) use stack::{HTTP_PATH, exact_transport, has_ornaments, is_observable};
pub use stack::{Transport, same_stack, transport};
pub use waist::{ThinWaist, is_dialable, port, socket_group, thin_waist};

/// The version of the Internet Protocol that an address is reached over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a third IP version would be a new protocol, not a new variant"
)]
pub enum IpFamily {
    /// IPv4, IPv4-mapped IPv6 addresses included.
    V4,
    /// IPv6, 6to4 and Teredo addresses included.
    V6,
}

impl IpFamily {
    /// The family of `ip`.
    pub const fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// The one IP address that `addr` starts with; an IPv4-mapped address as IPv4.
///
/// `None` for anything that does not name exactly one host by one IP at its front: names, zoned addresses
/// (`/ip6zone/...`), prefixes (`/ipcidr`), several IPs, an IP together with a name. `None` for relayed addresses too,
/// because the IP in front of `/p2p-circuit` is that of the relay.
pub fn ip(addr: &Multiaddr) -> Option<IpAddr> {
    let mut protocols = addr.iter();
    let ip = match protocols.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip).to_canonical(),
        _ => return None,
    };
    (!protocols.any(|protocol| leads_on(&protocol))).then_some(ip)
}

/// The IP that packets for `addr` go to first: its own, or that of the relay in front of `/p2p-circuit`.
pub(crate) fn first_hop(addr: &Multiaddr) -> Option<IpAddr> {
    match addr.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(IpAddr::V6(ip).to_canonical()),
        _ => None,
    }
}

/// The IP family that `addr` is reached over.
///
/// Known from its IP, or from `/dns4` and `/dns6` at its front. `None` for `/dns` and `/dnsaddr`, which may resolve to
/// either, and wherever [`ip`] is `None` for another reason.
pub fn family(addr: &Multiaddr) -> Option<IpFamily> {
    if is_relayed(addr) {
        return None;
    }
    match addr.iter().next()? {
        Protocol::Dns4(_) => Some(IpFamily::V4),
        Protocol::Dns6(_) => Some(IpFamily::V6),
        _ => ip(addr).map(IpFamily::of),
    }
}

/// Whether `addr` goes through a relay, that is, has `/p2p-circuit` anywhere.
pub fn is_relayed(addr: &Multiaddr) -> bool {
    addr.iter().any(|protocol| protocol == Protocol::P2pCircuit)
}

/// Whether `addr` has a name to resolve anywhere: `/dns`, `/dns4`, `/dns6` or `/dnsaddr`.
///
/// What a name resolves to is up to whoever holds it. A server that dials one lets a stranger pick a host inside its
/// own network.
pub fn is_name(addr: &Multiaddr) -> bool {
    addr.iter().any(|protocol| is_dns(&protocol))
}

/// Whether strangers on the Internet could reach `addr` as far as its form says: exactly one IP, at the front, of
/// [`IpScope::Global`], and no relay.
///
/// Says nothing about transport and port, see [`is_dialable`].
pub fn is_public(addr: &Multiaddr) -> bool {
    ip(addr).is_some_and(|ip| ip_scope(ip).is_global())
}

/// The peer that `addr` ends in (`/p2p/<peer>`), if any.
pub fn peer_id(addr: &Multiaddr) -> Option<PeerId> {
    match addr.iter().last()? {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    }
}

/// `addr` without one trailing `/p2p/<peer>`; unchanged if it does not end in just that peer.
///
/// Observed addresses come with it from some implementations and without it from others, and mean the same.
pub fn without_peer_id(addr: &Multiaddr, peer: &PeerId) -> Multiaddr {
    let mut stripped = addr.clone();
    if peer_id(addr).as_ref() == Some(peer) {
        stripped.pop();
    }
    stripped
}

/// `addr` with the IPv4 address that an IPv4-mapped one at its front stands for: a socket for both families tells of IPv4 so.
pub(crate) fn without_mapping(addr: Multiaddr) -> Multiaddr {
    let mapped = match addr.iter().next() {
        Some(Protocol::Ip6(ip)) => ip.to_ipv4_mapped(),
        _ => None,
    };
    match mapped {
        Some(ip) => std::iter::once(Protocol::Ip4(ip))
            .chain(addr.iter().skip(1))
            .collect(),
        None => addr,
    }
}

/// Whether `addr` names, at any place, a peer other than `peer`.
///
/// A server that dials such an address would connect to a third party in the client's name.
pub fn names_other_peer(addr: &Multiaddr, peer: &PeerId) -> bool {
    addr.iter()
        .any(|protocol| matches!(protocol, Protocol::P2p(named) if named != *peer))
}

fn is_dns(protocol: &Protocol<'_>) -> bool {
    matches!(
        protocol,
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)
    )
}

/// Whether `protocol`, behind a host, leads on to another one.
fn leads_on(protocol: &Protocol<'_>) -> bool {
    names_host(protocol) || *protocol == Protocol::P2pCircuit
}

/// Whether `protocol` says, alone or in part, which host an address leads to.
fn names_host(protocol: &Protocol<'_>) -> bool {
    is_dns(protocol)
        || matches!(
            protocol,
            Protocol::Ip4(_)
                | Protocol::Ip6(_)
                | Protocol::Ip6zone(_)
                | Protocol::Ipcidr(_)
                | Protocol::Onion(..)
                | Protocol::Onion3(_)
                | Protocol::Garlic32(_)
                | Protocol::Garlic64(_)
                | Protocol::Unix(_)
                | Protocol::Memory(_)
        )
}
