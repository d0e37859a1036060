//! Whether a dial-back came from somewhere that this node had sent packets to.
//!
//! A NAT with address-dependent filtering (RFC 4787, section 5) lets in whoever the host has contacted, and nobody
//! else. So a success from a contacted IP does not show that strangers get in. This file remembers, within bounds,
//! which IPs were contacted.

use std::{net::IpAddr, time::Duration};

use hashlink::LinkedHashMap;
use web_time::Instant;

/// From where an address was proven to be reachable. Ordered: `Independent` proves more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a dial-back's source was contacted or it was not"
)]
pub enum Vantage {
    /// From an IP that this node had exchanged packets with, or may have: a NAT with address-dependent filtering
    /// would have let it in too.
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

/// The IPs that this node exchanged packets with, least recently contacted first.
#[derive(Debug)]
pub(crate) struct Contacts {
    contacts: LinkedHashMap<IpAddr, Contact>,
    max: usize,
    lifetime: Duration,
    /// Until when an IP that is not here may have been forgotten for lack of room.
    unsure_until: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Contact {
    /// How many connections are open with it.
    open: u32,
    /// Until when it counts as contacted once none is open.
    until: Instant,
}

impl Contacts {
    pub(crate) fn new(max: usize, lifetime: Duration) -> Self {
        Self {
            contacts: LinkedHashMap::new(),
            max,
            lifetime,
            unsure_until: None,
        }
    }

    /// A packet went to `ip`.
    pub(crate) fn touch(&mut self, ip: IpAddr, now: Instant) {
        self.update(ip, now, |open| open);
    }

    /// A connection with `ip` was opened.
    pub(crate) fn open(&mut self, ip: IpAddr, now: Instant) {
        self.update(ip, now, |open| open.saturating_add(1));
    }

    /// A connection with `ip` ended.
    pub(crate) fn close(&mut self, ip: IpAddr, now: Instant) {
        self.update(ip, now, |open| open.saturating_sub(1));
    }

    pub(crate) fn vantage_of(&self, ip: IpAddr, now: Instant) -> Vantage {
        let contacted = match self.contacts.get(&ip.to_canonical()) {
            Some(contact) => contact.open > 0 || now < contact.until,
            None => self.unsure_until.is_some_and(|until| now < until),
        };
        if contacted {
            Vantage::Contacted
        } else {
            Vantage::Independent
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.contacts.len()
    }

    fn update(&mut self, ip: IpAddr, now: Instant, open: impl FnOnce(u32) -> u32) {
        let ip = ip.to_canonical();
        let before = self.contacts.remove(&ip).map_or(0, |contact| contact.open);
        let contact = Contact {
            open: open(before),
            until: now + self.lifetime,
        };
        self.contacts.insert(ip, contact);
        if self.contacts.len() > self.max {
            self.forget_one(now);
        }
    }

    fn forget_one(&mut self, now: Instant) {
        // An open connection is passed over a few times, not for ever: there may be nothing else.
        for _ in 0..8 {
            match self.contacts.front() {
                Some((ip, contact)) if contact.open > 0 => {
                    let ip = *ip;
                    self.contacts.to_back(&ip);
                }
                _ => break,
            }
        }
        let Some((_, forgotten)) = self.contacts.pop_front() else {
            return;
        };
        let until = if forgotten.open > 0 {
            now + self.lifetime
        } else {
            forgotten.until
        };
        if until > now {
            self.unsure_until = self.unsure_until.max(Some(until));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LIFETIME: Duration = Duration::from_secs(600);

    fn ip(n: u32) -> IpAddr {
        Ipv4Addr::from(0x0808_0000 + n).into()
    }

    #[test]
    fn an_ip_is_contacted_until_its_lifetime_has_passed() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        assert_eq!(contacts.vantage_of(ip(1), now), Vantage::Independent);
        contacts.touch(ip(1), now);
        let almost = now + LIFETIME - Duration::from_secs(1);
        assert_eq!(contacts.vantage_of(ip(1), almost), Vantage::Contacted);
        assert_eq!(
            contacts.vantage_of(ip(1), now + LIFETIME),
            Vantage::Independent
        );
    }

    #[test]
    fn an_open_connection_keeps_its_ip_contacted() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        contacts.open(ip(1), now);
        contacts.open(ip(1), now);
        contacts.close(ip(1), now);
        let late = now + 10 * LIFETIME;
        assert_eq!(contacts.vantage_of(ip(1), late), Vantage::Contacted);
        contacts.close(ip(1), late);
        assert_eq!(
            contacts.vantage_of(ip(1), late + LIFETIME),
            Vantage::Independent
        );
    }

    #[test]
    fn an_ipv4_mapped_address_is_the_ipv4_inside() {
        let now = Instant::now();
        let mut contacts = Contacts::new(10, LIFETIME);
        contacts.touch("::ffff:8.8.0.1".parse().unwrap(), now);
        assert_eq!(contacts.vantage_of(ip(1), now), Vantage::Contacted);
    }

    #[test]
    fn nobody_is_independent_while_a_contact_had_to_be_forgotten() {
        let now = Instant::now();
        let mut contacts = Contacts::new(3, LIFETIME);
        for n in 0..100 {
            contacts.touch(ip(n), now);
        }
        assert_eq!(contacts.len(), 3);
        assert_eq!(contacts.vantage_of(ip(0), now), Vantage::Contacted);
        assert_eq!(contacts.vantage_of(ip(1000), now), Vantage::Contacted);
        assert_eq!(
            contacts.vantage_of(ip(1000), now + LIFETIME),
            Vantage::Independent
        );
    }
}
