//! Whether this host has a route to an IP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Asks the operating system, which sends nothing for that: to connect a UDP socket is to look up a route.
pub(super) fn has_route(ip: IpAddr) -> bool {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    // Any port will do.
    UdpSocket::bind((any, 0)).is_ok_and(|socket| socket.connect((ip, 9)).is_ok())
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
}
