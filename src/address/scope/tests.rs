use super::{IpScope::*, *};

/// First and last address of a range, what it is, and what lies right before and after it.
type Range = (
    &'static str,
    &'static str,
    IpScope,
    Option<IpScope>,
    Option<IpScope>,
);

const V4_RANGES: &[Range] = &[
    ("0.0.0.0", "0.0.0.0", Unspecified, None, Some(ThisNetwork)),
    (
        "0.0.0.1",
        "0.255.255.255",
        ThisNetwork,
        Some(Unspecified),
        Some(Global),
    ),
    (
        "10.0.0.0",
        "10.255.255.255",
        Private,
        Some(Global),
        Some(Global),
    ),
    (
        "100.64.0.0",
        "100.127.255.255",
        Shared,
        Some(Global),
        Some(Global),
    ),
    (
        "127.0.0.0",
        "127.255.255.255",
        Loopback,
        Some(Global),
        Some(Global),
    ),
    (
        "169.254.0.0",
        "169.254.255.255",
        LinkLocal,
        Some(Global),
        Some(Global),
    ),
    (
        "172.16.0.0",
        "172.31.255.255",
        Private,
        Some(Global),
        Some(Global),
    ),
    (
        "192.0.0.0",
        "192.0.0.7",
        ServiceContinuity,
        Some(Global),
        Some(Dummy),
    ),
    (
        "192.0.0.8",
        "192.0.0.8",
        Dummy,
        Some(ServiceContinuity),
        Some(Global),
    ),
    ("192.0.0.9", "192.0.0.9", Global, Some(Dummy), Some(Global)),
    (
        "192.0.0.10",
        "192.0.0.10",
        Global,
        Some(Global),
        Some(ProtocolAssignment),
    ),
    (
        "192.0.0.11",
        "192.0.0.169",
        ProtocolAssignment,
        Some(Global),
        Some(Nat64Discovery),
    ),
    (
        "192.0.0.170",
        "192.0.0.170",
        Nat64Discovery,
        Some(ProtocolAssignment),
        Some(Nat64Discovery),
    ),
    (
        "192.0.0.171",
        "192.0.0.171",
        Nat64Discovery,
        Some(Nat64Discovery),
        Some(ProtocolAssignment),
    ),
    (
        "192.0.0.172",
        "192.0.0.255",
        ProtocolAssignment,
        Some(Nat64Discovery),
        Some(Global),
    ),
    (
        "192.0.2.0",
        "192.0.2.255",
        Documentation,
        Some(Global),
        Some(Global),
    ),
    (
        "192.31.196.0",
        "192.31.196.255",
        Global,
        Some(Global),
        Some(Global),
    ),
    (
        "192.52.193.0",
        "192.52.193.255",
        Global,
        Some(Global),
        Some(Global),
    ),
    (
        "192.88.99.0",
        "192.88.99.255",
        RelayAnycast,
        Some(Global),
        Some(Global),
    ),
    (
        "192.88.99.2",
        "192.88.99.2",
        RelayAnycast,
        Some(RelayAnycast),
        Some(RelayAnycast),
    ),
    (
        "192.168.0.0",
        "192.168.255.255",
        Private,
        Some(Global),
        Some(Global),
    ),
    (
        "192.175.48.0",
        "192.175.48.255",
        Global,
        Some(Global),
        Some(Global),
    ),
    (
        "198.18.0.0",
        "198.19.255.255",
        Benchmarking,
        Some(Global),
        Some(Global),
    ),
    (
        "198.51.100.0",
        "198.51.100.255",
        Documentation,
        Some(Global),
        Some(Global),
    ),
    (
        "203.0.113.0",
        "203.0.113.255",
        Documentation,
        Some(Global),
        Some(Global),
    ),
    (
        "224.0.0.0",
        "239.255.255.255",
        Multicast,
        Some(Global),
        Some(Reserved),
    ),
    (
        "240.0.0.0",
        "255.255.255.254",
        Reserved,
        Some(Multicast),
        Some(Broadcast),
    ),
    (
        "255.255.255.255",
        "255.255.255.255",
        Broadcast,
        Some(Reserved),
        None,
    ),
];

const V6_RANGES: &[Range] = &[
    ("::", "::", Unspecified, None, Some(Loopback)),
    (
        "::1",
        "::1",
        Loopback,
        Some(Unspecified),
        Some(Ipv4Compatible),
    ),
    (
        "::2",
        "::ffff:ffff",
        Ipv4Compatible,
        Some(Loopback),
        Some(Reserved),
    ),
    (
        "64:ff9b:1::",
        "64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
        LocalNat64,
        Some(Reserved),
        Some(Reserved),
    ),
    (
        "100::",
        "100::ffff:ffff:ffff:ffff",
        Discard,
        Some(Reserved),
        Some(Dummy),
    ),
    (
        "100:0:0:1::",
        "100::1:ffff:ffff:ffff:ffff",
        Dummy,
        Some(Discard),
        Some(Reserved),
    ),
    (
        "2001:1::1",
        "2001:1::1",
        Global,
        Some(ProtocolAssignment),
        Some(Global),
    ),
    ("2001:1::2", "2001:1::2", Global, Some(Global), Some(Global)),
    (
        "2001:1::3",
        "2001:1::3",
        Global,
        Some(Global),
        Some(ProtocolAssignment),
    ),
    (
        "2001:2::",
        "2001:2:0:ffff:ffff:ffff:ffff:ffff",
        Benchmarking,
        Some(ProtocolAssignment),
        Some(ProtocolAssignment),
    ),
    (
        "2001:3::",
        "2001:3:ffff:ffff:ffff:ffff:ffff:ffff",
        Global,
        Some(ProtocolAssignment),
        Some(ProtocolAssignment),
    ),
    (
        "2001:4:112::",
        "2001:4:112:ffff:ffff:ffff:ffff:ffff",
        Global,
        Some(ProtocolAssignment),
        Some(ProtocolAssignment),
    ),
    (
        "2001:10::",
        "2001:1f:ffff:ffff:ffff:ffff:ffff:ffff",
        DeprecatedOrchid,
        Some(ProtocolAssignment),
        Some(Global),
    ),
    (
        "2001:20::",
        "2001:2f:ffff:ffff:ffff:ffff:ffff:ffff",
        Global,
        Some(DeprecatedOrchid),
        Some(Global),
    ),
    (
        "2001:30::",
        "2001:3f:ffff:ffff:ffff:ffff:ffff:ffff",
        Global,
        Some(Global),
        Some(ProtocolAssignment),
    ),
    (
        "2001:40::",
        "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
        ProtocolAssignment,
        Some(Global),
        Some(Global),
    ),
    (
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        Documentation,
        Some(Global),
        Some(Global),
    ),
    (
        "2620:4f:8000::",
        "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
        Global,
        Some(Global),
        Some(Global),
    ),
    (
        "3fff::",
        "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
        Documentation,
        Some(Global),
        Some(Global),
    ),
    (
        "4000::",
        "5eff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        Reserved,
        Some(Global),
        Some(SegmentRouting),
    ),
    (
        "5f00::",
        "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        SegmentRouting,
        Some(Reserved),
        Some(Reserved),
    ),
    (
        "fc00::",
        "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        UniqueLocal,
        Some(Reserved),
        Some(Reserved),
    ),
    (
        "fe80::",
        "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        LinkLocal,
        Some(Reserved),
        Some(SiteLocal),
    ),
    (
        "fec0::",
        "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        SiteLocal,
        Some(LinkLocal),
        Some(Multicast),
    ),
    (
        "ff00::",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        Multicast,
        Some(SiteLocal),
        None,
    ),
];

/// Single addresses: wrapped IPv4, the edges of the wrappings, and well-known hosts.
const SINGLE: &[(&str, IpScope)] = &[
    // Hosts that strangers do reach.
    ("1.1.1.1", Global),
    ("8.8.8.8", Global),
    ("100.63.255.255", Global),
    ("2001:4860:4860::8888", Global),
    ("2606:4700:4700::1111", Global),
    ("2a00:1450:4001:81b::200e", Global),
    ("2001:200::", Global),
    ("2000::", Global),
    ("1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
    ("3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Global),
    // Local addresses as hosts really have them.
    ("172.17.0.1", Private),
    ("192.168.1.23", Private),
    ("100.100.100.200", Shared),
    ("169.254.169.254", LinkLocal),
    ("fd00:ec2::254", UniqueLocal),
    ("fe80::1", LinkLocal),
    ("ff02::1", Multicast),
    ("ff0e::1", Multicast),
    // IPv4-mapped.
    ("::fffe:ffff:ffff", Reserved),
    ("::ffff:0.0.0.0", Unspecified),
    ("::ffff:8.8.8.8", Global),
    ("::ffff:10.0.0.1", Private),
    ("::ffff:127.0.0.1", Loopback),
    ("::ffff:169.254.169.254", LinkLocal),
    ("::ffff:255.255.255.255", Broadcast),
    ("::1:0:0:0", Reserved),
    // IPv4-compatible and IPv4-translated, whatever is inside.
    ("::8.8.8.8", Ipv4Compatible),
    ("::10.0.0.1", Ipv4Compatible),
    ("::127.0.0.1", Ipv4Compatible),
    ("::ffff:0:8.8.8.8", Reserved),
    // NAT64.
    ("64:ff9a:ffff:ffff:ffff:ffff:ffff:ffff", Reserved),
    ("64:ff9b::", Unspecified),
    ("64:ff9b::8.8.8.8", Global),
    ("64:ff9b::192.168.0.1", Private),
    ("64:ff9b::100.64.0.1", Shared),
    ("64:ff9b::224.0.0.1", Multicast),
    ("64:ff9b::255.255.255.255", Broadcast),
    ("64:ff9b::1:0:0", Reserved),
    ("64:ff9b:0:1::8.8.8.8", Reserved),
    ("64:ff9b:1::8.8.8.8", LocalNat64),
    // 6to4.
    ("2001:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Global),
    ("2002::", Unspecified),
    ("2002:808:808::1", Global),
    ("2002:a00:1::1", Private),
    ("2002:7f00:1::", Loopback),
    ("2002:c0a8:101::1", Private),
    ("2002:c058:6301::", RelayAnycast),
    ("2002:e000:1::", Multicast),
    ("2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Broadcast),
    ("2003::", Global),
    // Teredo: the server in the clear, the client with all bits flipped.
    ("2000:ffff:ffff:ffff:ffff:ffff:ffff:ffff", Global),
    ("2001:0:4136:e378:8000:63bf:f7f7:f7f7", Global), // 65.54.227.120, 8.8.8.8
    ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Documentation), // 65.54.227.120, 192.0.2.45
    ("2001:0:4136:e378:8000:63bf:f5ff:fffe", Private), // 65.54.227.120, 10.0.0.1
    ("2001:0:a00:1:8000:63bf:f7f7:f7f7", Private),    // 10.0.0.1, 8.8.8.8
    ("2001:0:7f00:1:8000:63bf:f5ff:fffe", Private),   // 127.0.0.1, 10.0.0.1
    ("2001:0:bec9:1c87:0:0:808:808", Reserved),       // 190.201.28.135, 247.247.247.247
    ("2001::", Broadcast),                            // 0.0.0.0, 255.255.255.255
    ("2001:0:ffff:ffff:ffff:ffff:ffff:ffff", Unspecified), // 255.255.255.255, 0.0.0.0
    ("2001:1::", ProtocolAssignment),
];

fn scope(ip: &str) -> IpScope {
    ip_scope(ip.parse().unwrap())
}

fn neighbour(ip: &str, step: i8) -> Option<IpAddr> {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => ip
            .to_bits()
            .checked_add_signed(step.into())
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(ip) => ip
            .to_bits()
            .checked_add_signed(step.into())
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[test]
fn every_row_of_the_registries_begins_and_ends_where_it_should() {
    for &(first, last, inside, before, after) in V4_RANGES.iter().chain(V6_RANGES) {
        assert_eq!(scope(first), inside, "{first}");
        assert_eq!(scope(last), inside, "{last}");
        assert_eq!(neighbour(first, -1).map(ip_scope), before, "before {first}");
        assert_eq!(neighbour(last, 1).map(ip_scope), after, "after {last}");
    }
}

#[test]
fn single_addresses_have_the_scope_of_whom_they_lead_to() {
    for &(ip, expected) in SINGLE {
        assert_eq!(scope(ip), expected, "{ip}");
        assert_eq!(scope(ip).is_global(), expected == Global, "{ip}");
    }
}

#[test]
fn only_one_scope_is_global_and_each_has_a_name_of_its_own() {
    let mut names: Vec<_> = V4_RANGES
        .iter()
        .chain(V6_RANGES)
        .map(|range| (range.2, range.2.to_string()))
        .collect();
    names.sort();
    names.dedup();
    let scopes = names.len();
    assert_eq!(scopes, 24, "a scope without a range to test it");
    assert_eq!(
        names.iter().filter(|(scope, _)| scope.is_global()).count(),
        1
    );
    names.sort_by(|a, b| a.1.cmp(&b.1));
    names.dedup_by(|a, b| a.1 == b.1);
    assert_eq!(names.len(), scopes);
}

#[test]
fn no_row_has_bits_behind_its_prefix_or_hides_a_narrower_one() {
    for (at, row) in V4_ROWS.iter().enumerate() {
        assert_eq!(
            row.network.to_bits().checked_shl(row.prefix).unwrap_or(0),
            0,
            "{row:?}"
        );
        for hidden in &V4_ROWS[at + 1..] {
            assert!(
                !(row.contains(hidden.network) && row.prefix <= hidden.prefix),
                "{hidden:?}"
            );
        }
    }
    for (at, row) in V6_ROWS.iter().enumerate() {
        assert_eq!(
            row.network.to_bits().checked_shl(row.prefix).unwrap_or(0),
            0,
            "{row:?}"
        );
        for hidden in &V6_ROWS[at + 1..] {
            assert!(
                !(row.contains(hidden.network) && row.prefix <= hidden.prefix),
                "{hidden:?}"
            );
        }
    }
}

proptest::proptest! {
    #[test]
    fn a_wrapped_ipv4_address_has_the_scope_of_the_bare_one(bits: u32) {
        let bare = Ipv4Addr::from_bits(bits);
        let [a, b, c, d] = bare.octets().map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        for wrapped in [
            bare.to_ipv6_mapped(),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
            Ipv6Addr::new(0x2001, 0, 0x808, 0x808, 0, 0, !high, !low),
        ] {
            proptest::prop_assert_eq!(ip_scope(wrapped.into()), ip_scope(bare.into()));
        }
    }

    #[test]
    fn the_std_predicates_agree(v4: u32, v6: u128) {
        let v4 = Ipv4Addr::from_bits(v4);
        let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast()
            || v4.is_documentation() || v4.is_broadcast() || v4.is_unspecified();
        proptest::prop_assert!(!(special && ip_scope(v4.into()).is_global()));
        // Narrowed to 2000::/3 every other time, else nearly all would be outside.
        for bits in [v6, v6 >> 3 | 1 << 125] {
            let v6 = Ipv6Addr::from_bits(bits);
            if ip_scope(v6.into()).is_global() {
                proptest::prop_assert!(!v6.is_multicast() && !v6.is_unique_local());
                proptest::prop_assert!(bits >> 125 == 1 || v6.segments()[0] == 0x64 || bits >> 48 == 0);
            }
        }
    }
}
