//! What the operating system says of an IP: whether it is this host's, on its LAN, or reached at all. It is asked through UDP
//! sockets, which send nothing. It knows all addresses of the host, those that the node does not listen on too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use crate::{
    address::{host_of, ip_scope},
    service::{Locality, on_one_lan},
};

/// Where this IP is. An IP that leads to another by way of NAT64, 6to4 or Teredo is where that one is, too.
///
/// Only public IPs are asked about. Others are dialed only where the operator opened this host and its LAN.
pub(super) fn locality(ip: IpAddr) -> Locality {
    if !ip_scope(ip).is_global() {
        return Locality::Remote;
    }
    let host = host_of(ip);
    let of_host = (host != ip).then(|| of_public(host));
    of_public(ip).max(of_host.unwrap_or(Locality::Remote))
}

/// A host that cannot tell, as it has no free socket or no route, cannot dial either.
fn of_public(ip: IpAddr) -> Locality {
    // Documentation's, which nobody has (RFC 5737).
    const NOBODYS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    // A host may be set up to bind whatever it is told to, and its answer then means nothing.
    if can_bind(ip) && !can_bind(NOBODYS) {
        return Locality::ThisHost;
    }
    match source_to(ip) {
        Some(source) if source == ip => Locality::ThisHost,
        Some(source) if on_one_lan(source, ip) => Locality::Lan,
        _ => Locality::Remote,
    }
}

/// Whether this host has a route to the IP.
pub(super) fn has_route(ip: IpAddr) -> bool {
    source_to(ip).is_some()
}

fn can_bind(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// The IP that packets to this one leave with. To connect a UDP socket is to look up a route.
fn source_to(ip: IpAddr) -> Option<IpAddr> {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Any port will do.
    socket.connect((ip, 9)).ok()?;
    socket.local_addr().as_ref().map(SocketAddr::ip).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_route_to_this_host_and_none_to_nowhere() {
        assert!(has_route(Ipv4Addr::LOCALHOST.into()));
        // The limited broadcast leads to no host (RFC 919, section 7).
        assert!(!has_route(Ipv4Addr::new(255, 255, 255, 255).into()));
    }

    #[test]
    fn what_is_this_hosts_is_known_by_binding_it() {
        assert_eq!(of_public(Ipv4Addr::LOCALHOST.into()), Locality::ThisHost);
        let remote = Ipv4Addr::new(20, 1, 0, 1).into();
        assert_eq!(locality(remote), Locality::Remote);
    }
}
