//! Which part of the world an IP address is meant for, by the IANA special-purpose address registries.
//!
//! The two tables hold the rows of both registries ([IPv4], [IPv6]) as of October 2025, and the multicast and deprecated
//! ranges that are registered elsewhere. A row is `Global` where the registry's column "Globally Reachable" is true,
//! even inside a range that is not. IPv6 outside 2000::/3, from which IANA has assigned no global unicast space (RFC
//! 4291 section 2.4, RFC 3587), is never global, NAT64's well-known prefix excepted.
//!
//! IPv6 addresses that carry packets to an IPv4 host are judged by the IPv4 address inside them. Otherwise a stranger
//! could have a private host dialed by wrapping its address. A NAT64 with a prefix of its network's own (RFC 6052
//! section 2.2) cannot be told from other IPv6; an operator of a server behind one has to bar that prefix.
//!
//! [IPv4]: https://www.iana.org/assignments/iana-ipv4-special-registry
//! [IPv6]: https://www.iana.org/assignments/iana-ipv6-special-registry

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

#[cfg(test)]
mod tests;

/// What an IP address is reserved for, or that it is not: [`IpScope::Global`].
///
/// The [`Display`](fmt::Display) form is short and meant for logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IpScope {
    /// Global unicast: packets to it cross the Internet.
    Global,
    /// `0.0.0.0` and `::`: no address, a listener's "any" (RFC 1122, RFC 4291).
    Unspecified,
    /// 0.0.0.0/8: this network (RFC 791 section 3.2).
    ThisNetwork,
    /// 127.0.0.0/8 and `::1` (RFC 1122, RFC 4291).
    Loopback,
    /// 10.0.0.0/8, 172.16.0.0/12 and 192.168.0.0/16 (RFC 1918).
    Private,
    /// 100.64.0.0/10: between a carrier-grade NAT and its customers (RFC 6598).
    Shared,
    /// 169.254.0.0/16 (RFC 3927) and fe80::/10 (RFC 4291).
    LinkLocal,
    /// fc00::/7: unique local (RFC 4193).
    UniqueLocal,
    /// fec0::/10: deprecated site-local (RFC 3879).
    SiteLocal,
    /// 192.0.0.0/24 (RFC 6890) and 2001::/23 (RFC 2928), where no row within says otherwise.
    ProtocolAssignment,
    /// 192.0.0.0/29: IPv4 service continuity, DS-Lite and 464XLAT (RFC 7335).
    ServiceContinuity,
    /// 192.0.0.8 (RFC 7600) and 100:0:0:1::/64 (RFC 9780): dummies that never appear on the wire.
    Dummy,
    /// 192.0.0.170 and 192.0.0.171: NAT64 discovery (RFC 8880, RFC 7050).
    Nat64Discovery,
    /// 192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24 (RFC 5737), 2001:db8::/32 (RFC 3849), 3fff::/20 (RFC 9637).
    Documentation,
    /// 198.18.0.0/15 (RFC 2544) and 2001:2::/48 (RFC 5180).
    Benchmarking,
    /// 192.88.99.0/24: deprecated anycast address of 6to4 and 6a44 relays (RFC 7526, RFC 6751).
    RelayAnycast,
    /// 224.0.0.0/4 (RFC 5771) and ff00::/8 (RFC 4291), of whatever scope.
    Multicast,
    /// 255.255.255.255 (RFC 919, RFC 8190).
    Broadcast,
    /// 240.0.0.0/4 (RFC 1112) and IPv6 from which nothing is assigned (RFC 4291 section 2.4).
    Reserved,
    /// ::/96: deprecated IPv4-compatible addresses (RFC 4291 section 2.5.5.1).
    Ipv4Compatible,
    /// 64:ff9b:1::/48: NAT64 within one network (RFC 8215).
    LocalNat64,
    /// 100::/64: discard-only (RFC 6666).
    Discard,
    /// 2001:10::/28: ORCHID, deprecated (RFC 4843). ORCHIDv2 is `Global` in the registry.
    DeprecatedOrchid,
    /// 5f00::/16: segment routing identifiers (RFC 9602).
    SegmentRouting,
}

impl IpScope {
    /// Whether packets to such an address cross the Internet.
    pub const fn is_global(self) -> bool {
        matches!(self, Self::Global)
    }
}

impl fmt::Display for IpScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::Unspecified => "unspecified",
            Self::ThisNetwork => "this-network",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Shared => "carrier-grade NAT",
            Self::LinkLocal => "link-local",
            Self::UniqueLocal => "unique-local",
            Self::SiteLocal => "site-local",
            Self::ProtocolAssignment => "protocol assignment",
            Self::ServiceContinuity => "IPv4 service continuity",
            Self::Dummy => "dummy",
            Self::Nat64Discovery => "NAT64 discovery",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::RelayAnycast => "6to4 relay anycast",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Reserved => "reserved",
            Self::Ipv4Compatible => "IPv4-compatible",
            Self::LocalNat64 => "local-use NAT64",
            Self::Discard => "discard-only",
            Self::DeprecatedOrchid => "ORCHID",
            Self::SegmentRouting => "segment routing",
        })
    }
}

/// What `ip` is meant for.
///
/// The IPv4 address inside decides for IPv4-mapped (`::ffff:0:0/96`), 6to4 (2002::/16, RFC 3056), NAT64 (64:ff9b::/96,
/// RFC 6052) and Teredo (2001::/32, RFC 4380) addresses; for Teredo the client's and the server's have both to be
/// global.
pub fn ip_scope(ip: IpAddr) -> IpScope {
    match ip {
        IpAddr::V4(ip) => v4_scope(ip),
        IpAddr::V6(ip) => v6_scope(ip),
    }
}

fn v4_scope(ip: Ipv4Addr) -> IpScope {
    lookup(V4_ROWS, |row| row.contains(ip)).map_or(IpScope::Global, |row| row.scope)
}

fn v6_scope(ip: Ipv6Addr) -> IpScope {
    match Embedding::of(ip) {
        Some(Embedding::Host(inside)) => v4_scope(inside),
        Some(Embedding::Teredo { server, client }) => match v4_scope(client) {
            IpScope::Global => v4_scope(server),
            scope => scope,
        },
        None => match lookup(V6_ROWS, |row| row.contains(ip)) {
            Some(row) => row.scope,
            None if GLOBAL_UNICAST.contains(ip) => IpScope::Global,
            None => IpScope::Reserved,
        },
    }
}

/// The IPv4 host that packets to an IPv6 address end up at, where the address says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Embedding {
    /// IPv4-mapped, NAT64 or 6to4.
    Host(Ipv4Addr),
    /// Teredo: packets go to the client's NAT, the first of them by way of the server.
    Teredo { server: Ipv4Addr, client: Ipv4Addr },
}

impl Embedding {
    pub(super) fn of(ip: Ipv6Addr) -> Option<Self> {
        let [a, b, c, d, e, f, g, h] = ip.segments();
        match (a, b, c, d, e, f) {
            (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(Self::Host(v4_of(g, h))),
            (0x2002, ..) => Some(Self::Host(v4_of(b, c))),
            // RFC 4380 section 4 hides the client's address from NATs that rewrite addresses in payloads by flipping all
            // its bits; the server's is in the clear.
            (0x2001, 0, ..) => Some(Self::Teredo {
                server: v4_of(c, d),
                client: v4_of(!g, !h),
            }),
            _ => None,
        }
    }
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

/// One row of a registry. `prefix` is 1 to the width of the address.
#[derive(Debug)]
struct Row<T> {
    network: T,
    prefix: u32,
    scope: IpScope,
}

impl Row<Ipv4Addr> {
    const fn contains(&self, ip: Ipv4Addr) -> bool {
        (self.network.to_bits() ^ ip.to_bits()) >> (u32::BITS - self.prefix) == 0
    }
}

impl Row<Ipv6Addr> {
    const fn contains(&self, ip: Ipv6Addr) -> bool {
        (self.network.to_bits() ^ ip.to_bits()) >> (u128::BITS - self.prefix) == 0
    }
}

/// The first row that fits; the tables have the narrower of two overlapping rows first.
fn lookup<T>(rows: &[Row<T>], fits: impl Fn(&Row<T>) -> bool) -> Option<&Row<T>> {
    rows.iter().find(|row| fits(row))
}

const fn v4(octets: [u8; 4], prefix: u32, scope: IpScope) -> Row<Ipv4Addr> {
    assert!(0 < prefix && prefix <= u32::BITS);
    let [a, b, c, d] = octets;
    Row {
        network: Ipv4Addr::new(a, b, c, d),
        prefix,
        scope,
    }
}

/// `segments` are the leading ones, the others are zero.
const fn v6<const N: usize>(segments: [u16; N], prefix: u32, scope: IpScope) -> Row<Ipv6Addr> {
    assert!(0 < prefix && prefix <= u128::BITS);
    let mut bits = 0;
    let mut i = 0;
    while i < N {
        bits |= (segments[i] as u128) << (112 - 16 * i);
        i += 1;
    }
    Row {
        network: Ipv6Addr::from_bits(bits),
        prefix,
        scope,
    }
}

const GLOBAL_UNICAST: Row<Ipv6Addr> = v6([0x2000], 3, IpScope::Global); // RFC 3587

const V4_ROWS: &[Row<Ipv4Addr>] = &[
    v4([0, 0, 0, 0], 32, IpScope::Unspecified), // RFC 1122 section 3.2.1.3
    v4([0, 0, 0, 0], 8, IpScope::ThisNetwork),  // RFC 791 section 3.2
    v4([10, 0, 0, 0], 8, IpScope::Private),     // RFC 1918
    v4([100, 64, 0, 0], 10, IpScope::Shared),   // RFC 6598
    v4([127, 0, 0, 0], 8, IpScope::Loopback),   // RFC 1122 section 3.2.1.3
    v4([169, 254, 0, 0], 16, IpScope::LinkLocal), // RFC 3927
    v4([172, 16, 0, 0], 12, IpScope::Private),  // RFC 1918
    v4([192, 0, 0, 0], 29, IpScope::ServiceContinuity), // RFC 7335
    v4([192, 0, 0, 8], 32, IpScope::Dummy),     // RFC 7600
    v4([192, 0, 0, 9], 32, IpScope::Global),    // RFC 7723, PCP anycast
    v4([192, 0, 0, 10], 32, IpScope::Global),   // RFC 8155, TURN anycast
    v4([192, 0, 0, 170], 32, IpScope::Nat64Discovery), // RFC 8880, RFC 7050 section 2.2
    v4([192, 0, 0, 171], 32, IpScope::Nat64Discovery), // RFC 8880, RFC 7050 section 2.2
    v4([192, 0, 0, 0], 24, IpScope::ProtocolAssignment), // RFC 6890 section 2.1
    v4([192, 0, 2, 0], 24, IpScope::Documentation), // RFC 5737
    v4([192, 31, 196, 0], 24, IpScope::Global), // RFC 7535, AS112
    v4([192, 52, 193, 0], 24, IpScope::Global), // RFC 7450, AMT
    v4([192, 88, 99, 2], 32, IpScope::RelayAnycast), // RFC 6751, 6a44
    v4([192, 88, 99, 0], 24, IpScope::RelayAnycast), // RFC 7526
    v4([192, 168, 0, 0], 16, IpScope::Private), // RFC 1918
    v4([192, 175, 48, 0], 24, IpScope::Global), // RFC 7534, AS112
    v4([198, 18, 0, 0], 15, IpScope::Benchmarking), // RFC 2544
    v4([198, 51, 100, 0], 24, IpScope::Documentation), // RFC 5737
    v4([203, 0, 113, 0], 24, IpScope::Documentation), // RFC 5737
    v4([224, 0, 0, 0], 4, IpScope::Multicast),  // RFC 5771
    v4([255, 255, 255, 255], 32, IpScope::Broadcast), // RFC 919 section 7, RFC 8190
    v4([240, 0, 0, 0], 4, IpScope::Reserved),   // RFC 1112 section 4
];

/// Without ::ffff:0:0/96, 64:ff9b::/96, 2001::/32 and 2002::/16: those are judged as an [`Embedding`].
const V6_ROWS: &[Row<Ipv6Addr>] = &[
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, IpScope::Unspecified), // RFC 4291
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, IpScope::Loopback),    // RFC 4291
    v6([0, 0, 0, 0, 0, 0], 96, IpScope::Ipv4Compatible),     // RFC 4291 section 2.5.5.1
    v6([0x64, 0xff9b, 1], 48, IpScope::LocalNat64),          // RFC 8215
    v6([0x100, 0, 0, 0], 64, IpScope::Discard),              // RFC 6666
    v6([0x100, 0, 0, 1], 64, IpScope::Dummy),                // RFC 9780
    v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128, IpScope::Global), // RFC 7723, PCP anycast
    v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128, IpScope::Global), // RFC 8155, TURN anycast
    v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128, IpScope::Global), // RFC 9665, DNS-SD anycast
    v6([0x2001, 2, 0], 48, IpScope::Benchmarking),           // RFC 5180, errata 1752
    v6([0x2001, 3], 32, IpScope::Global),                    // RFC 7450, AMT
    v6([0x2001, 4, 0x112], 48, IpScope::Global),             // RFC 7535, AS112
    v6([0x2001, 0x10], 28, IpScope::DeprecatedOrchid),       // RFC 4843
    v6([0x2001, 0x20], 28, IpScope::Global),                 // RFC 7343, ORCHIDv2
    v6([0x2001, 0x30], 28, IpScope::Global),                 // RFC 9374, drone remote id
    v6([0x2001, 0], 23, IpScope::ProtocolAssignment),        // RFC 2928
    v6([0x2001, 0xdb8], 32, IpScope::Documentation),         // RFC 3849
    v6([0x2620, 0x4f, 0x8000], 48, IpScope::Global),         // RFC 7534, AS112
    v6([0x3fff], 20, IpScope::Documentation),                // RFC 9637
    v6([0x5f00], 16, IpScope::SegmentRouting),               // RFC 9602
    v6([0xfc00], 7, IpScope::UniqueLocal),                   // RFC 4193, RFC 8190
    v6([0xfe80], 10, IpScope::LinkLocal),                    // RFC 4291
    v6([0xfec0], 10, IpScope::SiteLocal),                    // RFC 3879
    v6([0xff00], 8, IpScope::Multicast),                     // RFC 4291
];
