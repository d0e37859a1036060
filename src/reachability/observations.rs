//! What peers see of this node: the external IPs and ports, who sees them, and how the NAT in front maps ports.
//!
//! Only UDP counts for an endpoint-dependent mapping (RFC 4787, section 4.1): QUIC dials leave from the listening socket,
//! so a port that differs from peer to peer is the NAT's doing. A TCP dial may have left from an ephemeral port of our own.

use std::{collections::VecDeque, net::IpAddr};

use libp2p_core::{Multiaddr, multiaddr::Protocol};
use libp2p_identity::PeerId;

use crate::{
    address::{self, PortProtocol, ThinWaist, Transport},
    reachability::{connections::Dialed, contacts::IpGroup},
};

/// How many observations are kept for TCP, and how many for UDP.
const KEPT: usize = 16;
/// How many external IPs are remembered.
const MAX_EXTERNAL_IPS: usize = 8;

/// The mapping behaviour of the NAT in front of this node, in the terms of RFC 4787, section 4.1.
///
/// Hole punching works with [`NatMapping::EndpointIndependent`] and has little chance with
/// [`NatMapping::EndpointDependent`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum NatMapping {
    /// Too few observations to tell.
    #[default]
    Unknown,
    /// Two or more hosts saw the same port. Also what a node without a NAT sees.
    EndpointIndependent,
    /// Hosts saw different ports for the same socket.
    EndpointDependent,
}

impl NatMapping {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::EndpointIndependent => "endpoint-independent",
            Self::EndpointDependent => "endpoint-dependent",
        }
    }
}

/// Who sees this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observer {
    Host(IpAddr),
    /// One that was dialed by name, so that its IP is not known.
    Peer(PeerId),
}

impl Observer {
    /// Those that were dialed by name are one group.
    fn group(self) -> IpGroup {
        match self {
            Self::Host(ip) => IpGroup::of(Some(ip)),
            Self::Peer(_) => IpGroup::of(None),
        }
    }
}

/// How many hosts see us at an address, as far as that can be told.
///
/// A host counts once, however often it says so. The swarm does not say who made an observation; what it passes on counts
/// at most once for each connection that this node has dialed: a peer reports once a connection, and then over and over,
/// and a stranger can connect to us as often as it likes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reports {
    observers: [Option<Observer>; Self::MAX],
    anonymous: u32,
    anonymous_groups: u32,
    /// How many connections this node had dialed, and in how many IP groups, at the newest of those.
    dialed: Option<Dialed>,
}

impl Reports {
    /// More hosts than this make no difference.
    const MAX: usize = 4;

    /// `dialed`: what this node has dialed by now.
    pub(crate) fn note(&mut self, observer: Option<Observer>, dialed: Dialed) {
        let Some(observer) = observer else {
            let is_more = |count: fn(&Dialed) -> u64| {
                let before = self.dialed.as_ref().map(count);
                u32::from(before.is_none_or(|before| before < count(&dialed)))
            };
            let (hosts, groups) = (is_more(|it| it.connections), is_more(|it| it.groups));
            self.anonymous = self.anonymous.saturating_add(hosts);
            self.anonymous_groups = self.anonymous_groups.saturating_add(groups);
            self.dialed = Some(dialed);
            return;
        };
        if self.observers.contains(&Some(observer)) {
            return;
        }
        let group_of = |slot: &Option<Observer>| slot.map(Observer::group);
        let is_new_group = self
            .observers
            .iter()
            .all(|slot| group_of(slot) != Some(observer.group()));
        let free = self.observers.iter().position(Option::is_none);
        // A crowd leaves room for another group.
        let second_of_group = || {
            (1..Self::MAX).find(|i| {
                let group = group_of(&self.observers[*i]);
                self.observers[..*i].iter().any(|it| group_of(it) == group)
            })
        };
        if let Some(i) = free.or_else(|| second_of_group().filter(|_| is_new_group)) {
            self.observers[i] = Some(observer);
        }
    }

    /// How many IP groups they are of, as far as that can be told.
    pub(crate) fn groups(self) -> usize {
        let observers = || self.observers.iter().flatten();
        let named = observers()
            .enumerate()
            .filter(|(i, it)| {
                observers()
                    .take(*i)
                    .all(|other| other.group() != it.group())
            })
            .count();
        let anonymous = usize::try_from(self.anonymous_groups).unwrap_or(usize::MAX);
        // Where they have names, these tell.
        if named > 0 { named } else { anonymous }
    }

    /// Whether the swarm alone tells of them, and not by whom: one peer that says so again and again may be all of them.
    pub(crate) fn are_anonymous(self) -> bool {
        self.count() > 0 && self.observers.iter().all(Option::is_none)
    }

    pub(crate) fn count(self) -> usize {
        // The swarm passes on what is told with a name, too.
        let named = self.observers.iter().flatten().count();
        named.max(usize::try_from(self.anonymous).unwrap_or(usize::MAX))
    }

    pub(crate) fn max(self, other: Self) -> Self {
        let worth = |it: Self| (it.count(), it.groups());
        if worth(other) > worth(self) {
            other
        } else {
            self
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Observation {
    observer: Observer,
    seen: ThinWaist,
}

/// An IP at which this node is seen over a transport.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExternalIp {
    pub(crate) ip: IpAddr,
    pub(crate) transport: Transport,
    pub(crate) reports: Reports,
}

impl ExternalIp {
    /// The address that a listener may have at this IP, if it is of the same family. A listener on an IP of the same scope,
    /// a public one for a public external IP say, is not behind that NAT: it is a candidate itself.
    pub(crate) fn of_listener(&self, listen: &Multiaddr) -> Option<Multiaddr> {
        let own = address::ip(listen)?;
        if address::ip_scope(own) == address::ip_scope(self.ip) {
            return None;
        }
        let mut parts = listen.iter();
        let front = match (parts.next()?, self.ip) {
            (Protocol::Ip4(_), IpAddr::V4(ip)) => Protocol::Ip4(ip),
            (Protocol::Ip6(_), IpAddr::V6(ip)) => Protocol::Ip6(ip),
            _ => return None,
        };
        Some(std::iter::once(front).chain(parts).collect())
    }
}

/// What came of one more report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) external: ExternalIp,
    /// Nobody saw us at this IP before, and somebody saw us at another.
    pub(crate) is_another_ip: bool,
}

/// What peers see, the newest of each.
#[derive(Debug, Default)]
pub(crate) struct Observations {
    udp: VecDeque<Observation>,
    tcp: VecDeque<Observation>,
    external_ips: VecDeque<ExternalIp>,
    mapping: NatMapping,
    /// The IPv4 and the IPv6 address at which two hosts, one after the other, saw this node last.
    present: [Option<IpAddr>; 2],
}

impl Observations {
    /// Somebody sees us at `addr`.
    pub(crate) fn note(
        &mut self,
        addr: &Multiaddr,
        observer: Option<Observer>,
        dialed: Dialed,
    ) -> Option<Seen> {
        let (ip, transport) = (address::ip(addr)?, address::transport(addr)?);
        let is_new = self.external_ips.iter().all(|known| known.ip != ip);
        let known = self
            .external_ips
            .iter()
            .position(|known| known.ip == ip && known.transport == transport)
            .and_then(|i| self.external_ips.remove(i));
        let mut external = known.unwrap_or(ExternalIp {
            ip,
            transport,
            reports: Reports::default(),
        });
        external.reports.note(observer, dialed);
        if self.external_ips.len() >= MAX_EXTERNAL_IPS {
            let least = (0..self.external_ips.len())
                .min_by_key(|i| self.external_ips.get(*i).map(|e| e.reports.count()));
            if let Some(least) = least {
                self.external_ips.remove(least);
            }
        }
        let is_another_ip = is_new && !self.external_ips.is_empty();
        self.external_ips.push_back(external);
        Some(Seen {
            external,
            is_another_ip,
        })
    }

    pub(crate) fn external_ips(&self) -> impl Iterator<Item = ExternalIp> + '_ {
        self.external_ips.iter().copied()
    }

    /// `observer` sees us at `seen`. Returns where others saw us before over the same protocol and at the same IP, if that is
    /// elsewhere: the mapping may have moved.
    pub(crate) fn record(&mut self, observer: Observer, seen: ThinWaist) -> Option<ThinWaist> {
        let list = match seen.protocol {
            PortProtocol::Udp => &mut self.udp,
            PortProtocol::Tcp => &mut self.tcp,
        };
        let before = list.iter().rev().find(|o| o.seen.ip == seen.ip);
        let moved = before.map(|o| o.seen).filter(|before| *before != seen);
        list.retain(|o| o.observer != observer || o.seen.ip != seen.ip);
        if list.len() >= KEPT {
            list.pop_front();
        }
        list.push_back(Observation { observer, seen });
        moved
    }

    /// The IP of this family at which this node was seen before, and the one at which two hosts have seen it now, if these are not
    /// the same and `may_check`. If that is said later, the move is told then.
    pub(crate) fn note_move(
        &mut self,
        seen: ThinWaist,
        may_check: impl FnOnce() -> bool,
    ) -> Option<[IpAddr; 2]> {
        let list = match seen.protocol {
            PortProtocol::Udp => &self.udp,
            PortProtocol::Tcp => &self.tcp,
        };
        let of_family = || {
            let newest_first = list.iter().rev();
            newest_first.filter(|o| o.seen.ip.is_ipv4() == seen.ip.is_ipv4())
        };
        let newest = of_family().next()?;
        let before = of_family().find(|o| o.observer != newest.observer)?;
        if newest.seen.ip != before.seen.ip {
            return None;
        }
        let new = newest.seen.ip;
        let present = &mut self.present[usize::from(new.is_ipv6())];
        match *present {
            Some(old) if old == new || !may_check() => None,
            before => {
                *present = Some(new);
                Some([before?, new])
            }
        }
    }

    /// Forgets who saw which port: what was seen behind another external IP says nothing about the NAT in front now.
    pub(crate) fn forget_ports(&mut self) {
        self.udp.clear();
        self.tcp.clear();
        self.present = [None; 2];
    }

    pub(crate) fn mapping(&self) -> NatMapping {
        self.mapping
    }

    /// The mapping before, if it is another now.
    pub(crate) fn update_mapping(&mut self) -> Option<NatMapping> {
        let new = match agreement(&self.udp) {
            Some(true) => NatMapping::EndpointIndependent,
            Some(false) => NatMapping::EndpointDependent,
            None if agreement(&self.tcp) == Some(true) => NatMapping::EndpointIndependent,
            None => NatMapping::Unknown,
        };
        let old = std::mem::replace(&mut self.mapping, new);
        (old != new && new != NatMapping::Unknown).then_some(old)
    }
}

/// Whether the newest observation agrees with another host's of the same external IP; `None` where there is no other. If it is the
/// first to disagree, the one before it tells: it may be a liar's, or the mapping has moved, as it does when nothing was sent
/// for long (RFC 4787, section 4.3).
fn agreement(list: &VecDeque<Observation>) -> Option<bool> {
    let newest = list.back()?;
    let at_ip = || list.iter().rev().filter(|o| o.seen.ip == newest.seen.ip);
    let agrees = |one: &Observation, without: Observer| {
        at_ip()
            .filter(|o| o.observer != one.observer && o.observer != without)
            .any(|o| o.seen.port == one.seen.port)
    };
    let before = at_ip().find(|o| o.observer != newest.observer)?;
    Some(agrees(newest, newest.observer) || agrees(before, newest.observer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u8) -> Observer {
        Observer::Host(IpAddr::from([n, n, n, n]))
    }

    fn seen(protocol: PortProtocol, port: u16) -> ThinWaist {
        ThinWaist {
            ip: IpAddr::from([5, 5, 5, 5]),
            protocol,
            port,
        }
    }

    fn mapping(observations: &mut Observations) -> NatMapping {
        observations.update_mapping();
        observations.mapping()
    }

    #[test]
    fn one_host_tells_nothing() {
        let mut observations = Observations::default();
        for port in [1, 2, 3] {
            observations.record(host(1), seen(PortProtocol::Udp, port));
        }
        assert_eq!(mapping(&mut observations), NatMapping::Unknown);
    }

    #[test]
    fn the_same_port_for_two_hosts_is_endpoint_independent() {
        for protocol in [PortProtocol::Tcp, PortProtocol::Udp] {
            let mut observations = Observations::default();
            observations.record(host(1), seen(protocol, 4001));
            let moved = observations.record(host(2), seen(protocol, 4001));
            assert_eq!(moved, None);
            assert_eq!(mapping(&mut observations), NatMapping::EndpointIndependent);
        }
    }

    #[test]
    fn peers_that_were_dialed_by_name_are_hosts_too() {
        let mut observations = Observations::default();
        for _ in 0..2 {
            let observer = Observer::Peer(PeerId::random());
            observations.record(observer, seen(PortProtocol::Udp, 4001));
        }
        assert_eq!(mapping(&mut observations), NatMapping::EndpointIndependent);
    }

    #[test]
    fn another_port_for_another_host_is_endpoint_dependent_over_udp_only() {
        let mut observations = Observations::default();
        observations.record(host(1), seen(PortProtocol::Tcp, 1));
        observations.record(host(2), seen(PortProtocol::Tcp, 2));
        assert_eq!(mapping(&mut observations), NatMapping::Unknown);
        observations.record(host(1), seen(PortProtocol::Udp, 1));
        let moved = observations.record(host(2), seen(PortProtocol::Udp, 2));
        assert_eq!(moved, Some(seen(PortProtocol::Udp, 1)));
        assert_eq!(mapping(&mut observations), NatMapping::EndpointDependent);
    }

    #[test]
    fn observations_are_bounded() {
        let mut observations = Observations::default();
        for n in 0..10_000u32 {
            let observer = Observer::Host(IpAddr::from(std::net::Ipv4Addr::from(n)));
            observations.record(observer, seen(PortProtocol::Udp, 1));
            let addr: Multiaddr = format!("/ip4/{}/tcp/1", std::net::Ipv4Addr::from(n))
                .parse()
                .unwrap();
            let dialed = Dialed {
                connections: u64::from(n),
                groups: u64::from(n),
            };
            observations.note(&addr, None, dialed);
        }
        assert_eq!(observations.udp.len(), KEPT);
        assert_eq!(observations.external_ips.len(), MAX_EXTERNAL_IPS);
    }
}
