//! IP prefixes as keys, and how long each kind is: who counts as one host, as on one network, and as one IP group, which is one
//! operator as far as IPs tell, when votes are counted and limits are kept.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::scope::Embedding;

/// The prefix lengths of one kind of neighbourhood, over IPv4 and over IPv6.
type Prefixes = (u8, u8);

/// One host: whoever has one address of an IPv6 /64 has all of them (RFC 4291, section 2.5.4).
const HOST: Prefixes = (32, 64);
/// A network whose hosts are no strangers to each other: a /24 is the longest that is routed on the Internet, a /56 what a site
/// gets (RFC 6177).
const NETWORK: Prefixes = (24, 56);
/// What tells operators apart: what registries hand out to a network (RFC 6177 has shorter prefixes for sites; a /32 is a
/// provider's).
const GROUP: Prefixes = (16, 32);
/// What may be behind one border: large private networks use public space, mostly an /8 of IPv4 (25/8, 26/8).
const WIDE: Prefixes = (8, 32);

/// All IPs with a common prefix, made by [`neighbourhood`].
///
/// Its [`Display`](fmt::Display) form is that of CIDR: `203.0.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbourhood {
    network: IpAddr,
    prefix: u8,
}

impl fmt::Display for Neighbourhood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Neighbourhood {
    /// Whether `ip` is in it.
    pub(crate) fn contains(self, ip: IpAddr) -> bool {
        neighbourhood(ip, self.prefix, self.prefix) == self
    }

    /// The IP group that it lies in.
    pub(crate) fn group(self) -> Self {
        self.widened(GROUP)
    }

    /// The larger network that it lies in.
    pub(crate) fn wide(self) -> Self {
        self.widened(WIDE)
    }

    fn widened(self, (v4_prefix, v6_prefix): Prefixes) -> Self {
        let prefix = |most: u8| most.min(self.prefix);
        neighbourhood(self.network, prefix(v4_prefix), prefix(v6_prefix))
    }
}

/// The host that has `ip`: an IPv4 address, or the /64 of an IPv6 address.
pub(crate) fn host_prefix(ip: IpAddr) -> Neighbourhood {
    neighbourhood(ip, HOST.0, HOST.1)
}

/// The network that `ip` shares with its neighbours: hosts there cross no border that strangers have to cross.
pub(crate) fn network(ip: IpAddr) -> Neighbourhood {
    neighbourhood(ip, NETWORK.0, NETWORK.1)
}

/// All IPs that may be one operator's, as far as IPs tell.
pub(crate) fn ip_group(ip: IpAddr) -> Neighbourhood {
    neighbourhood(ip, GROUP.0, GROUP.1)
}

/// The larger network that `ip` may share with others behind one border.
pub(crate) fn wide_network(ip: IpAddr) -> Neighbourhood {
    neighbourhood(ip, WIDE.0, WIDE.1)
}

/// The neighbourhood of `ip`: its first `v4_prefix` bits if it is IPv4, its first `v6_prefix` bits if it is IPv6.
///
/// Prefixes longer than an address (32, 128) count as the whole address, so that two IPs are neighbours only if they
/// are the same host.
///
/// An IPv6 address that leads to an IPv4 host (IPv4-mapped, NAT64's well-known prefix, 6to4, Teredo's client) is in the
/// neighbourhood of that host. One IPv4 address gives its holder a whole 6to4 network, and behind a NAT64 the whole
/// IPv4 Internet has one IPv6 prefix: neither should make a second voter, or a single one of all.
pub fn neighbourhood(ip: IpAddr, v4_prefix: u8, v6_prefix: u8) -> Neighbourhood {
    match host_of(ip) {
        IpAddr::V4(v4) => {
            let prefix = v4_prefix.min(32);
            let mask = u32::MAX
                .checked_shl(u32::BITS - u32::from(prefix))
                .unwrap_or(0);
            Neighbourhood {
                network: Ipv4Addr::from_bits(v4.to_bits() & mask).into(),
                prefix,
            }
        }
        IpAddr::V6(v6) => {
            let prefix = v6_prefix.min(128);
            let mask = u128::MAX
                .checked_shl(u128::BITS - u32::from(prefix))
                .unwrap_or(0);
            Neighbourhood {
                network: Ipv6Addr::from_bits(v6.to_bits() & mask).into(),
                prefix,
            }
        }
    }
}

/// The host that an IP leads to: the IPv4 host for an IPv6 address that stands for one, else itself.
pub(crate) fn host_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => match Embedding::of(v6) {
            Some(Embedding::Host(v4) | Embedding::Teredo { client: v4, .. }) => IpAddr::V4(v4),
            None => ip,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_share_the_prefix_of_their_family() {
        for (ip, v4, v6, expected) in [
            ("203.0.113.7", 16, 32, "203.0.0.0/16"),
            ("203.0.113.7", 24, 32, "203.0.113.0/24"),
            ("203.0.113.7", 32, 32, "203.0.113.7/32"),
            ("203.0.113.7", 255, 32, "203.0.113.7/32"),
            ("203.0.113.7", 0, 32, "0.0.0.0/0"),
            ("203.0.113.7", 12, 32, "203.0.0.0/12"),
            ("2a00:1450:4001:81b::200e", 16, 32, "2a00:1450::/32"),
            (
                "2a00:1450:4001:81b::200e",
                16,
                56,
                "2a00:1450:4001:800::/56",
            ),
            (
                "2a00:1450:4001:81b::200e",
                16,
                200,
                "2a00:1450:4001:81b::200e/128",
            ),
            ("2a00:1450:4001:81b::200e", 16, 0, "::/0"),
            ("::ffff:203.0.113.7", 16, 32, "203.0.0.0/16"),
            ("64:ff9b::203.0.113.7", 16, 32, "203.0.0.0/16"),
            ("2002:cb00:7107::1", 16, 32, "203.0.0.0/16"),
            (
                "2001:0:4136:e378:8000:63bf:34ff:8ef8",
                16,
                32,
                "203.0.0.0/16",
            ),
        ] {
            let key = neighbourhood(ip.parse().unwrap(), v4, v6);
            assert_eq!(key.to_string(), expected, "{ip}");
        }
    }

    #[test]
    fn all_of_ipv4_is_not_all_of_ipv6() {
        let key = |ip: &str| neighbourhood(ip.parse().unwrap(), 0, 0);
        assert_ne!(key("1.2.3.4"), key("2a00::1"));
    }

    proptest! {
        #[test]
        fn two_ips_are_neighbours_if_their_first_bits_agree(a: u32, flip in 0..32_u32, prefix: u8) {
            let b = a ^ (1 << (31 - flip));
            let key = |bits| neighbourhood(Ipv4Addr::from_bits(bits).into(), prefix, 0);
            prop_assert_eq!(key(a) == key(b), u32::from(prefix) <= flip);
        }

        #[test]
        fn no_ip_and_no_prefix_is_too_much(ip: IpAddr, v4: u8, v6: u8) {
            prop_assert_eq!(neighbourhood(ip, v4, v6), neighbourhood(ip, v4.min(32), v6.min(128)));
        }
    }
}
