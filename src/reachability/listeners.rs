//! What this node listens on, as far as a stranger could notice: one kind for each transport, IP family, port and scope, however
//! many interfaces there are.

use hashlink::LinkedHashSet;
use libp2p_core::Multiaddr;

use crate::{
    address::{self, IpScope, listens_for},
    reachability::candidates::Class,
};

/// How many listen addresses are remembered. A host has an interface for each container that runs, not for each that
/// ever did; twice the interfaces that Linux gives a bridge by default (1,024 ports).
const MAX_LISTEN_ADDRS: usize = 2_048;

/// What tells listeners apart for a stranger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    class: Class,
    /// All behind the IP: the port, and a certificate's hash too.
    stack: Multiaddr,
    scope: Option<IpScope>,
}

impl Kind {
    fn of(addr: &Multiaddr) -> Option<Self> {
        address::port(addr)?;
        Some(Self {
            class: Class::of(addr)?,
            stack: stack(addr),
            scope: address::ip(addr).map(address::ip_scope),
        })
    }
}

fn stack(addr: &Multiaddr) -> Multiaddr {
    addr.iter().skip(1).collect()
}

/// The listen addresses of the swarm, relayed ones left out.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    addrs: LinkedHashSet<Multiaddr>,
    /// One address of each kind, in the order in which they came.
    kinds: Vec<(Kind, Multiaddr)>,
}

impl Listeners {
    /// `true` if there was none of its kind.
    pub(crate) fn add(&mut self, addr: &Multiaddr) -> bool {
        let Some(kind) = Kind::of(addr).filter(|_| !address::is_relayed(addr)) else {
            return false;
        };
        if self.addrs.len() >= MAX_LISTEN_ADDRS || !self.addrs.insert(addr.clone()) {
            return false;
        }
        let is_new = self.kinds.iter().all(|(known, _)| *known != kind);
        if is_new {
            self.kinds.push((kind, addr.clone()));
        }
        is_new
    }

    /// `true` if it was the last of its kind.
    pub(crate) fn remove(&mut self, addr: &Multiaddr) -> bool {
        let Some(kind) = Kind::of(addr).filter(|_| self.addrs.remove(addr)) else {
            return false;
        };
        let is_alike = |it: &&Multiaddr| Kind::of(it).as_ref() == Some(&kind);
        let other = self.addrs.iter().find(is_alike);
        let Some(at) = self.kinds.iter().position(|(known, _)| *known == kind) else {
            return false;
        };
        match other {
            Some(other) => self.kinds[at].1 = other.clone(),
            None => drop(self.kinds.remove(at)),
        }
        other.is_none()
    }

    pub(crate) fn contains(&self, addr: &Multiaddr) -> bool {
        self.addrs.contains(addr)
    }

    /// One address of each kind.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &Multiaddr> {
        self.kinds.iter().map(|(_, addr)| addr)
    }

    /// Whether one accepts this transport over this IP family.
    pub(crate) fn accepts(&self, class: Class) -> bool {
        self.kinds.iter().any(|(kind, _)| kind.class == class)
    }

    /// Whether one is written as `guess` is, but for the IP.
    pub(crate) fn explains(&self, guess: &Multiaddr) -> bool {
        let class = Class::of(guess);
        let stack = stack(guess);
        let mut kinds = self.kinds.iter();
        kinds.any(|(kind, _)| Some(kind.class) == class && kind.stack == stack)
    }

    /// Whether a NAT that keeps ports could map `addr` to one of them.
    pub(crate) fn has_port_of(&self, addr: &Multiaddr) -> bool {
        self.kinds().any(|listen| listens_for(listen, addr))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn interfaces_with_the_same_port_are_one_kind() {
        let mut listeners = Listeners::default();
        assert!(listeners.add(&addr("/ip4/192.168.1.2/tcp/4001")));
        for n in 0..40 {
            assert!(!listeners.add(&addr(&format!("/ip4/172.18.{n}.1/tcp/4001"))));
        }
        assert!(listeners.add(&addr("/ip4/192.168.1.2/udp/4001/quic-v1")));
        assert!(listeners.add(&addr("/ip4/81.2.69.160/tcp/4001")), "public");
        assert_eq!(listeners.kinds().count(), 3);
        assert!(!listeners.remove(&addr("/ip4/192.168.1.2/tcp/4001")));
        for n in 0..39 {
            assert!(!listeners.remove(&addr(&format!("/ip4/172.18.{n}.1/tcp/4001"))));
        }
        assert!(listeners.remove(&addr("/ip4/172.18.39.1/tcp/4001")));
        assert!(!listeners.remove(&addr("/ip4/172.18.39.1/tcp/4001")));
        assert_eq!(listeners.kinds().count(), 2);
    }
}
