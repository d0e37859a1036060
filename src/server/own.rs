//! The IPs that this node answers on: those of its listeners, of its confirmed external addresses, and those that
//! peers see it under. A stranger that asks for one of them asks the server to dial itself, or its own router from
//! the inside; one that asks for an IPv6 address beside a listener or an external address, to dial a host of its LAN
//! behind the firewall that both are behind.

use std::net::IpAddr;

use libp2p_core::Multiaddr;
use libp2p_swarm::FromSwarm;

use crate::{
    address::{self, Neighbourhood, neighbourhood},
    service::{Locality, lan},
};

/// External addresses that are kept. Only this node's own behaviours confirm them, so this bounds a
/// fault of ours, not an attack.
const MAX_EXTERNAL: usize = 256;

/// IPs that peers claim to see this node under. Peers may lie: then an IP is refused to those clients that do not have
/// it, and no IP beside it: a single message would otherwise shut a whole network out. Who claims what is not known here,
/// so that what is true is told by how often it is said.
const MAX_OBSERVED: usize = 128;

#[derive(Debug, Default)]
pub(crate) struct OwnIps {
    /// One entry per listen address, so that an IP stays while one of its listeners does.
    listening: Vec<(Multiaddr, Place)>,
    external: Vec<(Multiaddr, Place)>,
    observed: Vec<Observed>,
}

/// An IP and its network. One that leads to another by way of NAT64, 6to4 or Teredo has that one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    host: Neighbourhood,
    network: Neighbourhood,
}

impl Place {
    fn of(ip: IpAddr) -> Self {
        Self {
            host: host(ip),
            network: lan(ip),
        }
    }
}

fn host(ip: IpAddr) -> Neighbourhood {
    neighbourhood(ip, 32, 128)
}

#[derive(Debug)]
struct Observed {
    host: Neighbourhood,
    /// How often it was claimed, at most.
    times: u64,
}

impl OwnIps {
    pub(crate) fn on_swarm_event(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(new) => add(&mut self.listening, new.addr, usize::MAX),
            FromSwarm::ExpiredListenAddr(expired) => remove(&mut self.listening, expired.addr),
            FromSwarm::NewExternalAddrCandidate(new) => self.observed(new.addr),
            FromSwarm::ExternalAddrConfirmed(new) => {
                add(&mut self.external, new.addr, MAX_EXTERNAL)
            }
            FromSwarm::ExternalAddrExpired(expired) => remove(&mut self.external, expired.addr),
            _ => {}
        }
    }

    /// Whether there is a listener that a connection to this local address may have come in on. One on all of the host's
    /// addresses says so to the transport, and is known by each of them.
    pub(crate) fn listens_at(&self, local_addr: &Multiaddr) -> bool {
        let port = address::port(local_addr);
        self.listening
            .iter()
            .any(|(addr, _)| address::port(addr) == port)
    }

    /// Where this IP is, as far as the node's addresses tell.
    pub(crate) fn locality(&self, ip: IpAddr) -> Locality {
        let Place { host, network } = Place::of(ip);
        let known = self.listening.iter().chain(&self.external);
        let known = known.map(|(_, place)| match place {
            own if own.host == host => Locality::ThisHost,
            own if own.network == network => Locality::Lan,
            _ => Locality::Remote,
        });
        let seen = self.observed.iter().any(|it| it.host == host);
        let seen = seen.then_some(Locality::ThisHost);
        known.chain(seen).max().unwrap_or(Locality::Remote)
    }

    /// A new IP takes the place of the one that was claimed least, and its count: whatever is more than one in
    /// [`MAX_OBSERVED`] of all claims stays (the Space-Saving algorithm of Metwally, Agrawal and El Abbadi, 2005), and
    /// an IP that the node got only now finds its way in.
    fn observed(&mut self, addr: &Multiaddr) {
        let Some(ip) = address::ip(addr).filter(|_| !address::is_relayed(addr)) else {
            return;
        };
        let host = host(ip);
        if let Some(known) = self.observed.iter_mut().find(|it| it.host == host) {
            known.times = known.times.saturating_add(1);
            return;
        }
        if self.observed.len() < MAX_OBSERVED {
            self.observed.push(Observed { host, times: 1 });
        } else if let Some(least) = self.observed.iter_mut().min_by_key(|it| it.times) {
            least.host = host;
            least.times = least.times.saturating_add(1);
        }
    }
}

fn add(list: &mut Vec<(Multiaddr, Place)>, addr: &Multiaddr, limit: usize) {
    if list.len() < limit
        && !address::is_relayed(addr)
        && let Some(ip) = address::ip(addr)
        && !list.iter().any(|(known, _)| known == addr)
    {
        list.push((addr.clone(), Place::of(ip)));
    }
}

fn remove(list: &mut Vec<(Multiaddr, Place)>, addr: &Multiaddr) {
    list.retain(|(known, _)| known != addr);
}

#[cfg(test)]
mod tests {
    use libp2p_core::transport::ListenerId;
    use libp2p_swarm::behaviour::{
        ExpiredListenAddr, ExternalAddrConfirmed, NewExternalAddrCandidate, NewListenAddr,
    };

    use super::*;

    fn find(own: &OwnIps, ip: &str) -> Locality {
        own.locality(ip.parse().expect("an IP"))
    }

    fn is_own(own: &OwnIps, ip: &str) -> bool {
        find(own, ip) == Locality::ThisHost
    }

    fn see(own: &mut OwnIps, ip: [u8; 4]) {
        let addr = Multiaddr::from(std::net::Ipv4Addr::from(ip));
        let candidate = NewExternalAddrCandidate { addr: &addr };
        own.on_swarm_event(&FromSwarm::NewExternalAddrCandidate(candidate));
    }

    #[test]
    fn own_ips_are_those_of_listeners_and_external_addresses() {
        let listener_id = ListenerId::next();
        let tcp: Multiaddr = "/ip4/20.1.0.1/tcp/1".parse().expect("valid");
        let quic: Multiaddr = "/ip4/20.1.0.1/udp/1/quic-v1".parse().expect("valid");
        let external: Multiaddr = "/ip4/20.9.9.9/tcp/1".parse().expect("valid");
        let mut own = OwnIps::default();
        for addr in [&tcp, &quic] {
            own.on_swarm_event(&FromSwarm::NewListenAddr(NewListenAddr {
                listener_id,
                addr,
            }));
        }
        own.on_swarm_event(&FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed {
            addr: &external,
        }));
        assert!(is_own(&own, "20.1.0.1"));
        assert!(is_own(&own, "20.9.9.9"));
        assert!(is_own(&own, "64:ff9b::1409:909"), "the same by NAT64");
        assert!(!is_own(&own, "20.1.0.2"));

        for (addr, left) in [(&tcp, true), (&quic, false)] {
            own.on_swarm_event(&FromSwarm::ExpiredListenAddr(ExpiredListenAddr {
                listener_id,
                addr,
            }));
            assert_eq!(is_own(&own, "20.1.0.1"), left);
        }
    }

    #[test]
    fn the_lan_of_an_ipv6_address_is_its_64_and_that_of_an_ipv4_address_is_unknown() {
        let listener_id = ListenerId::next();
        let mut own = OwnIps::default();
        for text in ["/ip6/2a00:1:2:3::7/tcp/1", "/ip4/20.1.0.1/tcp/1"] {
            let addr = &text.parse().expect("valid");
            own.on_swarm_event(&FromSwarm::NewListenAddr(NewListenAddr {
                listener_id,
                addr,
            }));
        }
        own.on_swarm_event(&FromSwarm::ExternalAddrConfirmed(ExternalAddrConfirmed {
            addr: &"/ip6/2a00:9::1/tcp/1".parse().expect("valid"),
        }));
        assert_eq!(find(&own, "2a00:1:2:3::7"), Locality::ThisHost);
        assert_eq!(find(&own, "2a00:1:2:3:ffff::1"), Locality::Lan);
        assert_eq!(find(&own, "2a00:1:2:4::7"), Locality::Remote);
        assert_eq!(find(&own, "2a00:9::2"), Locality::Lan);
        assert_eq!(find(&own, "20.1.0.2"), Locality::Remote);
        assert_eq!(
            find(&own, "64:ff9b::1401:2"),
            Locality::Remote,
            "20.1.0.2 by NAT64"
        );
    }

    #[test]
    fn what_one_peer_claims_to_see_makes_one_ip_own_and_no_network() {
        let mut own = OwnIps::default();
        let addr = "/ip6/2a00:9::1/tcp/1".parse().expect("valid");
        own.on_swarm_event(&FromSwarm::NewExternalAddrCandidate(
            NewExternalAddrCandidate { addr: &addr },
        ));
        assert_eq!(find(&own, "2a00:9::1"), Locality::ThisHost);
        assert_eq!(find(&own, "2a00:9::2"), Locality::Remote);
    }

    #[test]
    fn an_ip_that_peers_keep_seeing_is_own_however_many_others_some_make_up() {
        let mut own = OwnIps::default();
        for n in 0..200 {
            if n % 20 == 0 {
                see(&mut own, [20, 9, 9, 9]);
            }
            see(&mut own, [20, 1, 0, n]);
        }
        assert!(is_own(&own, "20.9.9.9"));
        assert_eq!(own.observed.len(), MAX_OBSERVED);
    }

    #[test]
    fn an_ip_that_peers_have_seen_stays_own_through_a_flood_of_made_up_ones() {
        let mut own = OwnIps::default();
        for _ in 0..5 {
            see(&mut own, [20, 9, 9, 9]);
        }
        for n in 0..200 {
            see(&mut own, [20, 1, 0, n]);
        }
        assert!(is_own(&own, "20.9.9.9"));
    }

    #[test]
    fn an_ip_that_the_node_got_only_now_displaces_what_is_no_longer_seen() {
        let mut own = OwnIps::default();
        for n in 0..=255 {
            see(&mut own, [20, 1, 0, n]);
            see(&mut own, [20, 1, 0, n]);
        }
        for n in 0..255 {
            see(&mut own, [20, 8, 8, 8]);
            see(&mut own, [20, 2, 0, n]);
        }
        assert!(is_own(&own, "20.8.8.8"));
    }
}
