//! Which hosts this node has sent packets to, over TCP and over UDP, and what that makes of a connection's source.
//!
//! A NAT with address-dependent filtering (RFC 4787, section 5) lets in whoever the host has contacted, and nobody
//! else. So a success from a contacted IP does not show that strangers get in. The filter belongs to a mapping, and a
//! mapping to a transport protocol: who was met over TCP has not been contacted over UDP.
//!
//! Memory is bounded: who is connected takes no more room than its connections do, and of the others the newest are kept. What
//! had to be forgotten makes its whole IP group count as contacted for as long as the entry would have lived, so that nobody
//! passes for a stranger by crowding others out.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use hashlink::{DefaultHashBuilder, LinkedHashMap, LruCache};
use web_time::Instant;

use crate::address::{self, Neighbourhood, PortProtocol};

/// From where an address was proven to be reachable. Ordered: `Independent` proves more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a dial-back's source was contacted or it was not"
)]
pub enum Vantage {
    /// From an IP that this node had exchanged packets with over the same transport protocol, or may have: a NAT with
    /// address-dependent filtering would have let it in too.
    Contacted,
    /// From an IP that this node had not contacted: strangers get in.
    Independent,
}

impl Vantage {
    /// A fixed word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Contacted => "contacted",
            Self::Independent => "independent",
        }
    }
}

/// How many IP groups are remembered of which a contact had to be forgotten. That makes the whole group unsure.
const MAX_UNSURE: usize = 256;

type Key = (Neighbourhood, PortProtocol);

/// All who may be one operator's: an IPv4 /16 or an IPv6 /32, of the relay where a server is behind one. Of one that was dialed by
/// name, that of its dial-backs; those whose IP is not known are one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct IpGroup(Option<Neighbourhood>);

impl IpGroup {
    pub(crate) fn of(ip: Option<IpAddr>) -> Self {
        Self(ip.map(address::ip_group))
    }
}

/// The hosts that this node exchanged packets with.
#[derive(Debug)]
pub(crate) struct Contacts {
    /// How many connections are open with each host that is connected.
    open: HashMap<Key, u32, DefaultHashBuilder>,
    /// Until when each of the others counts as contacted, least recently contacted first.
    past: LinkedHashMap<Key, Instant>,
    max: usize,
    lifetime: Duration,
    /// Groups of which a contact was forgotten, and until when it would have counted.
    unsure: LruCache<Key, Instant>,
    /// Until when every host may have been contacted, since more groups than fit had to be forgotten.
    all_unsure_until: Option<Instant>,
    /// Dials to names: which IPs these stand for is not known.
    named: [Named; 2],
}

#[derive(Debug, Clone, Copy, Default)]
struct Named {
    /// How many connections are open that were dialed by name.
    open: u32,
    /// Until when all IPs may have been contacted once none is open.
    until: Option<Instant>,
}

impl Named {
    fn counts(&self, now: Instant) -> bool {
        self.open > 0 || self.until.is_some_and(|until| now < until)
    }
}

/// What a packet was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    Host(IpAddr),
    /// A name that the swarm resolved without telling to which IP.
    Name,
}

const BOTH: [PortProtocol; 2] = [PortProtocol::Tcp, PortProtocol::Udp];

/// Over which protocols a packet may have left; `None`: which one is not known.
fn protocols(protocol: Option<PortProtocol>) -> impl Iterator<Item = PortProtocol> {
    BOTH.into_iter()
        .filter(move |it| protocol.is_none_or(|protocol| protocol == *it))
}

impl Contacts {
    pub(crate) fn new(max: usize, lifetime: Duration) -> Self {
        Self {
            open: HashMap::default(),
            past: LinkedHashMap::new(),
            max,
            lifetime,
            unsure: LruCache::new(MAX_UNSURE),
            all_unsure_until: None,
            named: [Named::default(); 2],
        }
    }

    /// A packet went to `to`.
    pub(crate) fn touch(&mut self, to: Destination, over: Option<PortProtocol>, now: Instant) {
        self.update(to, over, now, |open| open);
    }

    /// A connection with `to` was opened.
    pub(crate) fn open(&mut self, to: Destination, over: Option<PortProtocol>, now: Instant) {
        self.update(to, over, now, |open| open.saturating_add(1));
    }

    /// A connection with `to` ended.
    pub(crate) fn close(&mut self, to: Destination, over: Option<PortProtocol>, now: Instant) {
        self.update(to, over, now, |open| open.saturating_sub(1));
    }

    pub(crate) fn vantage_of(
        &self,
        ip: IpAddr,
        over: Option<PortProtocol>,
        now: Instant,
    ) -> Vantage {
        let still = |until: Option<&Instant>| until.is_some_and(|until| now < *until);
        let contacted = still(self.all_unsure_until.as_ref())
            || protocols(over).any(|protocol| {
                let key = (address::host_prefix(ip), protocol);
                self.named[protocol as usize].counts(now)
                    || self.open.contains_key(&key)
                    || still(self.past.get(&key))
                    || still(self.unsure.peek(&(address::ip_group(ip), protocol)))
            });
        if contacted {
            Vantage::Contacted
        } else {
            Vantage::Independent
        }
    }

    /// Of a host of which no IP is known.
    pub(crate) fn vantage_of_unknown(&self, over: Option<PortProtocol>, now: Instant) -> Vantage {
        let named = protocols(over).any(|protocol| self.named[protocol as usize].counts(now));
        if named || self.all_unsure_until.is_some_and(|until| now < until) {
            Vantage::Contacted
        } else {
            Vantage::Independent
        }
    }

    /// How many are remembered that are not connected.
    pub(crate) fn len(&self) -> usize {
        self.past.len()
    }

    fn update(
        &mut self,
        to: Destination,
        over: Option<PortProtocol>,
        now: Instant,
        open: impl Fn(u32) -> u32,
    ) {
        for protocol in protocols(over) {
            let until = now + self.lifetime;
            let Destination::Host(ip) = to else {
                let named = &mut self.named[protocol as usize];
                *named = Named {
                    open: open(named.open),
                    until: Some(until),
                };
                continue;
            };
            let key = (address::host_prefix(ip), protocol);
            let left = open(self.open.remove(&key).unwrap_or(0));
            if left > 0 {
                self.open.insert(key, left);
                self.past.remove(&key);
                continue;
            }
            self.past.remove(&key);
            self.past.insert(key, until);
            if self.past.len() > self.max {
                self.forget_one(now);
            }
        }
    }

    fn forget_one(&mut self, now: Instant) {
        let Some(((host, protocol), until)) = self.past.pop_front() else {
            return;
        };
        if until <= now {
            return;
        }
        let group = host.group();
        let known = self.unsure.peek(&(group, protocol)).copied();
        if known.is_none()
            && self.unsure.len() >= MAX_UNSURE
            && let Some((_, lost)) = self.unsure.remove_lru()
        {
            self.all_unsure_until = self.all_unsure_until.max(Some(lost));
        }
        self.unsure
            .insert((group, protocol), until.max(known.unwrap_or(until)));
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(600);
    const TCP: Option<PortProtocol> = Some(PortProtocol::Tcp);
    const UDP: Option<PortProtocol> = Some(PortProtocol::Udp);

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0808_0000 + n).into()
    }

    fn at(n: u32) -> Destination {
        Destination::Host(ip(n))
    }

    #[test]
    fn an_ip_is_contacted_until_its_lifetime_has_passed() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        assert_eq!(contacts.vantage_of(ip(1), TCP, now), Vantage::Independent);
        contacts.touch(at(1), TCP, now);
        let almost = now + LIFETIME - Duration::from_secs(1);
        assert_eq!(contacts.vantage_of(ip(1), TCP, almost), Vantage::Contacted);
        let over = now + LIFETIME;
        assert_eq!(contacts.vantage_of(ip(1), TCP, over), Vantage::Independent);
    }

    #[test]
    fn a_contact_over_tcp_opens_no_filter_for_udp() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        contacts.open(at(1), TCP, now);
        assert_eq!(contacts.vantage_of(ip(1), UDP, now), Vantage::Independent);
        contacts.touch(at(2), None, now);
        for over in [TCP, UDP, None] {
            assert_eq!(contacts.vantage_of(ip(2), over, now), Vantage::Contacted);
        }
    }

    #[test]
    fn an_open_connection_keeps_its_ip_contacted() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        contacts.open(at(1), TCP, now);
        contacts.open(at(1), TCP, now);
        contacts.close(at(1), TCP, now);
        let late = now + 10 * LIFETIME;
        assert_eq!(contacts.vantage_of(ip(1), TCP, late), Vantage::Contacted);
        contacts.close(at(1), TCP, late);
        let over = late + LIFETIME;
        assert_eq!(contacts.vantage_of(ip(1), TCP, over), Vantage::Independent);
    }

    #[test]
    fn who_is_connected_is_not_forgotten_however_many_come_and_go() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        for n in 0..20 {
            contacts.open(at(n), TCP, now);
        }
        for n in 0..1_000u32 {
            let ip: IpAddr = format!("2a00:666:0:{n:x}::1").parse().unwrap();
            contacts.open(Destination::Host(ip), TCP, now);
            contacts.close(Destination::Host(ip), TCP, now);
        }
        assert_eq!(contacts.len(), 10);
        let late = now + 2 * LIFETIME;
        for n in 0..20 {
            assert_eq!(contacts.vantage_of(ip(n), TCP, late), Vantage::Contacted);
        }
        assert_eq!(contacts.vantage_of(ip(20), TCP, late), Vantage::Independent);
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_inside() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        let mapped = Destination::Host("::ffff:8.8.0.1".parse().unwrap());
        contacts.touch(mapped, TCP, now);
        assert_eq!(contacts.vantage_of(ip(1), TCP, now), Vantage::Contacted);
    }

    #[test]
    fn nobody_is_a_stranger_while_a_name_may_stand_for_its_ip() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        contacts.open(Destination::Name, TCP, now);
        let late = now + 10 * LIFETIME;
        assert_eq!(contacts.vantage_of(ip(1), TCP, late), Vantage::Contacted);
        assert_eq!(contacts.vantage_of(ip(1), UDP, late), Vantage::Independent);
        contacts.close(Destination::Name, TCP, late);
        let over = late + LIFETIME;
        assert_eq!(contacts.vantage_of(ip(1), TCP, over), Vantage::Independent);
    }

    #[test]
    fn a_forgotten_contact_makes_its_group_unsure_and_no_other() {
        let now = Instant::now();
        let mut contacts = Contacts::new(3, LIFETIME);
        for n in 0..100 {
            contacts.touch(at(n), TCP, now);
        }
        assert_eq!(contacts.len(), 3);
        assert_eq!(contacts.vantage_of(ip(0), TCP, now), Vantage::Contacted);
        assert_eq!(contacts.vantage_of(ip(1000), TCP, now), Vantage::Contacted);
        let elsewhere = "9.9.9.9".parse().unwrap();
        let vantage = contacts.vantage_of(elsewhere, TCP, now);
        assert_eq!(vantage, Vantage::Independent);
        let over = now + LIFETIME;
        assert_eq!(contacts.vantage_of(ip(0), TCP, over), Vantage::Independent);
    }

    #[test]
    fn a_crowd_in_one_ipv6_network_takes_the_room_of_one() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        for n in 0..1_000u32 {
            let ip = format!("2a00:666::{n:x}").parse().unwrap();
            contacts.touch(Destination::Host(ip), TCP, now);
        }
        assert_eq!(contacts.len(), 1);
    }
}
