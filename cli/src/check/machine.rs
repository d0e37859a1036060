//! What this machine knows of itself: which IPs are its own.

use std::net::{IpAddr, UdpSocket};

use libp2p::Multiaddr;
use libp2p_autonat_v2::address;

use super::Server;

/// Of no use to other machines, or only on this link.
pub(super) fn is_local(addr: &Multiaddr) -> bool {
    match address::ip(addr) {
        Some(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_link_local(),
        Some(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local(),
        None => false,
    }
}

/// Whether the machine itself has the IPs that servers see, so that there is no NAT; `None` if nobody told.
pub(super) fn is_behind_nat(servers: &[Server]) -> Option<bool> {
    let mut seen = servers
        .iter()
        .filter_map(|server| server.observed.as_ref())
        .filter_map(address::ip)
        .peekable();
    seen.peek()?;
    Some(seen.any(|ip| !is_own(ip)))
}

/// Whether this machine has the IP, listened on or not.
pub(super) fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}
