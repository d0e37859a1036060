//! The thin waist of an address: IP, TCP or UDP, port. It is what a NAT maps and a firewall opens, so addresses with the
//! same thin waist stand and fall together.

use std::{fmt, net::IpAddr};

use libp2p_core::multiaddr::{Multiaddr, Protocol};

use super::{IpScope, PortProtocol, ip, ip_scope, is_dns, is_relayed, leads_on, stack};

/// An IP and a port of TCP or UDP, without anything above.
///
/// Its [`Display`](fmt::Display) form is that of a multiaddr: `/ip4/192.0.2.1/tcp/4001`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "these three are what a socket address is"
)]
pub struct ThinWaist {
    /// The IP, never an IPv4-mapped one.
    pub ip: IpAddr,
    /// TCP or UDP.
    pub protocol: PortProtocol,
    /// The port. Zero in an address to listen on that has none yet; nobody can dial that.
    pub port: u16,
}

impl fmt::Display for ThinWaist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.ip {
            IpAddr::V4(_) => "ip4",
            IpAddr::V6(_) => "ip6",
        };
        let protocol = match self.protocol {
            PortProtocol::Tcp => "tcp",
            PortProtocol::Udp => "udp",
        };
        write!(f, "/{family}/{}/{protocol}/{}", self.ip, self.port)
    }
}

/// The thin waist of `addr`: the IP that [`ip`] finds, and the port right behind it.
///
/// `None` for names, relayed addresses and whatever else [`ip`] does not take, and where no TCP or UDP port follows. The
/// port may be zero, see [`is_dialable`].
pub fn thin_waist(addr: &Multiaddr) -> Option<ThinWaist> {
    let ip = ip(addr)?;
    let (protocol, port) = port(addr)?;
    Some(ThinWaist { ip, protocol, port })
}

/// The TCP or UDP port of `addr`, which stands right behind its leading IP or name.
///
/// `None` if there is none, for relayed addresses, and for addresses with a second host.
pub fn port(addr: &Multiaddr) -> Option<(PortProtocol, u16)> {
    let mut protocols = addr.iter();
    match protocols.next()? {
        Protocol::Ip4(_) | Protocol::Ip6(_) => {}
        name if is_dns(&name) => {}
        _ => return None,
    }
    let port = match protocols.next()? {
        Protocol::Tcp(port) => (PortProtocol::Tcp, port),
        Protocol::Udp(port) => (PortProtocol::Udp, port),
        _ => return None,
    };
    (!protocols.any(|protocol| leads_on(&protocol))).then_some(port)
}

/// The socket that `addr` shares with others: its thin waist, if its transport is one that
/// [shares sockets](stack::Transport::shares_socket_with).
///
/// Of the addresses of one group, the plain one is that whose transport [is plain](stack::Transport::is_plain). Once it is
/// proven reachable, so are the others. `None` for port zero, which stands for as many sockets as there are listeners.
pub fn socket_group(addr: &Multiaddr) -> Option<ThinWaist> {
    let waist = thin_waist(addr)?;
    let shares = stack::transport(addr)?.port_protocol() == Some(waist.protocol);
    (shares && waist.port != 0).then_some(waist)
}

/// Whether `addr` has all that a dial needs: one IP or name, a known transport and a port other than zero, no relay.
///
/// The IP must be that of a host: not unspecified, multicast or broadcast. Whether it is public is another question, see
/// [`is_public`](super::is_public).
pub fn is_dialable(addr: &Multiaddr) -> bool {
    if is_relayed(addr) {
        return false;
    }
    let known = stack::transport(addr).and_then(stack::Transport::port_protocol);
    let port = port(addr).is_some_and(|(protocol, port)| known == Some(protocol) && port != 0);
    let host = ip(addr).is_none_or(|ip| {
        !matches!(
            ip_scope(ip),
            IpScope::Unspecified | IpScope::Multicast | IpScope::Broadcast
        )
    });
    port && host
}

#[cfg(test)]
mod tests {
    use super::{super::transport, *};

    fn parse(addr: &str) -> Multiaddr {
        addr.parse().unwrap_or_else(|e| panic!("{addr}: {e}"))
    }

    #[test]
    fn the_thin_waist_is_the_ip_and_the_port_behind_it() {
        for (addr, expected) in [
            ("/ip4/1.2.3.4/tcp/1", Some("/ip4/1.2.3.4/tcp/1")),
            ("/ip4/1.2.3.4/tcp/0", Some("/ip4/1.2.3.4/tcp/0")),
            (
                "/ip4/1.2.3.4/tcp/1/tls/sni/x/ws",
                Some("/ip4/1.2.3.4/tcp/1"),
            ),
            (
                "/ip6/2a00::1/udp/1/quic-v1/webtransport",
                Some("/ip6/2a00::1/udp/1"),
            ),
            ("/ip6/::ffff:1.2.3.4/udp/1", Some("/ip4/1.2.3.4/udp/1")),
            ("/ip4/1.2.3.4", None),
            ("/ip4/1.2.3.4/sctp/1", None),
            ("/ip4/1.2.3.4/utp/udp/1", None),
            ("/ip4/1.2.3.4/tcp/1/ip4/1.2.3.4/tcp/1", None),
            ("/ip4/1.2.3.4/tcp/1/p2p-circuit", None),
            ("/ip6zone/eth0/ip6/fe80::1/tcp/1", None),
            ("/dns4/example.com/tcp/1", None),
        ] {
            let waist = thin_waist(&parse(addr));
            assert_eq!(waist.map(|w| w.to_string()).as_deref(), expected, "{addr}");
        }
    }

    #[test]
    fn names_have_a_port_but_no_thin_waist() {
        let name = parse("/dns4/example.com/tcp/443/wss");
        assert_eq!(port(&name), Some((PortProtocol::Tcp, 443)));
        assert_eq!(thin_waist(&name), None);
    }

    #[test]
    fn addresses_on_one_socket_are_one_group_with_one_plain_member() {
        let groups = [
            vec![
                "/ip4/1.2.3.4/tcp/1",
                "/ip4/1.2.3.4/tcp/1/ws",
                "/ip4/1.2.3.4/tcp/1/tls/ws",
                "/ip6/::ffff:1.2.3.4/tcp/1/wss",
            ],
            vec![
                "/ip4/1.2.3.4/udp/1/quic-v1",
                "/ip4/1.2.3.4/udp/1/quic",
                "/ip4/1.2.3.4/udp/1/quic-v1/webtransport",
                "/ip4/1.2.3.4/udp/1/webrtc-direct",
            ],
            vec!["/ip4/1.2.3.4/tcp/2"],
            vec!["/ip4/1.2.3.5/tcp/1"],
            vec!["/ip6/2a00::1/tcp/1"],
        ];
        let mut seen = Vec::new();
        for group in groups {
            let group: Vec<_> = group.into_iter().map(parse).collect();
            let key = socket_group(&group[0]).expect("a group");
            assert!(group.iter().all(|addr| socket_group(addr) == Some(key)));
            let plain = |addr: &&Multiaddr| transport(addr).is_some_and(|t| t.is_plain());
            assert_eq!(group.iter().filter(plain).count(), 1, "{key}");
            assert!(!seen.contains(&key), "{key}");
            seen.push(key);
        }
    }

    #[test]
    fn an_unknown_transport_or_no_port_is_in_no_group() {
        for addr in [
            "/ip4/1.2.3.4/tcp/0",
            "/ip4/1.2.3.4/udp/1",
            "/ip4/1.2.3.4/udp/1/utp",
            "/ip4/1.2.3.4/tcp/1/tls",
            "/ip4/1.2.3.4/tcp/1/p2p-circuit",
            "/dns4/example.com/tcp/1",
        ] {
            assert_eq!(socket_group(&parse(addr)), None, "{addr}");
        }
    }
}
