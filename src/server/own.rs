//! The IPs that this node answers on: those of its listeners, of its confirmed external addresses, and those that
//! peers see it under. A stranger that asks for one of them asks the server to dial itself, or its own router from
//! the inside.

use std::{collections::VecDeque, net::IpAddr};

use libp2p_core::Multiaddr;
use libp2p_swarm::FromSwarm;

use crate::address::{self, neighbourhood};

/// External addresses that are kept. Only this node's own behaviours confirm them, so this bounds a
/// fault of ours, not an attack.
const MAX_EXTERNAL: usize = 256;

/// IPs that peers claim to see this node under, the latest. Peers may lie: then an IP is refused to those clients that
/// do not have it. What is true is repeated with every new peer, and stays.
const MAX_OBSERVED: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct OwnIps {
    /// One entry per listen address, so that an IP stays while one of its listeners does.
    listening: Vec<(Multiaddr, IpAddr)>,
    external: Vec<(Multiaddr, IpAddr)>,
    /// The latest last.
    observed: VecDeque<IpAddr>,
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

    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.listening
            .iter()
            .chain(&self.external)
            .map(|(_, own)| own)
            .chain(&self.observed)
            .any(|own| same_host(*own, ip))
    }

    fn observed(&mut self, addr: &Multiaddr) {
        let Some(ip) = address::ip(addr).filter(|_| !address::is_relayed(addr)) else {
            return;
        };
        if let Some(at) = self.observed.iter().position(|known| *known == ip) {
            self.observed.remove(at);
        } else if self.observed.len() >= MAX_OBSERVED {
            self.observed.pop_front();
        }
        self.observed.push_back(ip);
    }
}

/// Also if one of the two leads to the other by way of NAT64, 6to4 or Teredo.
fn same_host(a: IpAddr, b: IpAddr) -> bool {
    neighbourhood(a, 32, 128) == neighbourhood(b, 32, 128)
}

fn add(list: &mut Vec<(Multiaddr, IpAddr)>, addr: &Multiaddr, limit: usize) {
    if list.len() < limit
        && !address::is_relayed(addr)
        && let Some(ip) = address::ip(addr)
        && !list.iter().any(|(known, _)| known == addr)
    {
        list.push((addr.clone(), ip));
    }
}

fn remove(list: &mut Vec<(Multiaddr, IpAddr)>, addr: &Multiaddr) {
    list.retain(|(known, _)| known != addr);
}

#[cfg(test)]
mod tests {
    use libp2p_core::transport::ListenerId;
    use libp2p_swarm::behaviour::{
        ExpiredListenAddr, ExternalAddrConfirmed, NewExternalAddrCandidate, NewListenAddr,
    };

    use super::*;

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
        let ip = |text: &str| text.parse::<IpAddr>().expect("valid");
        assert!(own.contains(ip("20.1.0.1")));
        assert!(own.contains(ip("20.9.9.9")));
        assert!(own.contains(ip("64:ff9b::1409:909")), "the same by NAT64");
        assert!(!own.contains(ip("20.1.0.2")));

        for (addr, left) in [(&tcp, true), (&quic, false)] {
            own.on_swarm_event(&FromSwarm::ExpiredListenAddr(ExpiredListenAddr {
                listener_id,
                addr,
            }));
            assert_eq!(own.contains(ip("20.1.0.1")), left);
        }
    }

    #[test]
    fn an_ip_that_peers_keep_seeing_is_own_however_many_others_some_make_up() {
        let mut own = OwnIps::default();
        let mut see = |ip: [u8; 4]| {
            let addr = Multiaddr::from(std::net::Ipv4Addr::from(ip));
            let candidate = NewExternalAddrCandidate { addr: &addr };
            own.on_swarm_event(&FromSwarm::NewExternalAddrCandidate(candidate));
        };
        for n in 0..200 {
            if n % 20 == 0 {
                see([20, 9, 9, 9]);
            }
            see([20, 1, 0, n]);
        }
        assert!(own.contains([20, 9, 9, 9].into()));
        assert_eq!(own.observed.len(), MAX_OBSERVED);
    }
}
