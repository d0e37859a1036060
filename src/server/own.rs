//! The IPs that this node answers on: those of its listeners and of its confirmed external addresses.
//! A stranger that asks for one of them asks the server to dial itself.

use std::net::IpAddr;

use libp2p_core::Multiaddr;
use libp2p_swarm::FromSwarm;

use crate::address::{self, neighbourhood};

/// External addresses that are kept. Only this node's own behaviours confirm them, so this bounds a
/// fault of ours, not an attack.
const MAX_EXTERNAL: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct OwnIps {
    /// One entry per listen address, so that an IP stays while one of its listeners does.
    listening: Vec<(Multiaddr, IpAddr)>,
    external: Vec<(Multiaddr, IpAddr)>,
}

impl OwnIps {
    pub(crate) fn on_swarm_event(&mut self, event: &FromSwarm<'_>) {
        match event {
            FromSwarm::NewListenAddr(new) => add(&mut self.listening, new.addr, usize::MAX),
            FromSwarm::ExpiredListenAddr(expired) => remove(&mut self.listening, expired.addr),
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
            .any(|(_, own)| same_host(*own, ip))
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
    use libp2p_swarm::behaviour::{ExpiredListenAddr, ExternalAddrConfirmed, NewListenAddr};

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
}
