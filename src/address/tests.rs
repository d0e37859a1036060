use proptest::prelude::*;

use super::*;

const CERT: &str = "/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";
const PEER: &str = "12D3KooWBmwkafWE2fqfzS96VoTZgpGp6aJsF4N9SMXvJXZgYsYt";
const OTHER: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";

fn parse(addr: &str) -> Multiaddr {
    addr.replace("<cert>", CERT)
        .replace("<peer>", &format!("/p2p/{PEER}"))
        .replace("<other>", &format!("/p2p/{OTHER}"))
        .parse()
        .unwrap_or_else(|e| panic!("{addr}: {e}"))
}

/// Address, whether it is public, whether it has all that a dial needs.
const ADDRESSES: &[(&str, bool, bool)] = &[
    ("/ip4/1.2.3.4/tcp/4001", true, true),
    ("/ip4/1.2.3.4/tcp/4001<peer>", true, true),
    ("/ip4/1.2.3.4/udp/4001/quic-v1", true, true),
    (
        "/ip4/1.2.3.4/udp/4001/quic-v1/webtransport<cert><cert>",
        true,
        true,
    ),
    ("/ip4/1.2.3.4/udp/4001/webrtc-direct<cert>", true, true),
    ("/ip4/1.2.3.4/tcp/443/tls/sni/example.com/ws", true, true),
    ("/ip6/2a00::1/tcp/4001", true, true),
    ("/ip6/2a00::1/udp/4001/quic-v1", true, true),
    ("/ip6/::ffff:8.8.8.8/tcp/4001", true, true),
    ("/ip6/64:ff9b::808:808/tcp/4001", true, true),
    // Public, but nothing that can be dialed.
    ("/ip4/1.2.3.4", true, false),
    ("/ip4/1.2.3.4/tcp/0", true, false),
    ("/ip4/1.2.3.4/udp/0/quic-v1", true, false),
    ("/ip4/1.2.3.4/udp/4001", true, false),
    ("/ip4/1.2.3.4/tcp/4001/quic-v1", true, false),
    ("/ip4/1.2.3.4/sctp/4001", true, false),
    // Dialable, but not by strangers.
    ("/ip4/127.0.0.1/tcp/4001", false, true),
    ("/ip4/192.168.0.1/udp/4001/quic-v1", false, true),
    ("/ip4/100.64.0.1/tcp/4001", false, true),
    ("/ip4/192.0.2.1/tcp/4001", false, true),
    ("/ip6/::1/tcp/4001", false, true),
    ("/ip6/fe80::1/tcp/4001", false, true),
    ("/ip6/fd00::1/tcp/4001", false, true),
    ("/ip6/::ffff:10.0.0.1/tcp/4001", false, true),
    ("/ip6/2002:a00:1::1/tcp/4001", false, true),
    ("/ip6/64:ff9b::a00:1/tcp/4001", false, true),
    // No host at all.
    ("/ip4/0.0.0.0/tcp/4001", false, false),
    ("/ip6/::/udp/4001/quic-v1", false, false),
    ("/ip6/::ffff:0.0.0.0/tcp/4001", false, false),
    ("/ip4/224.0.0.1/udp/4001/quic-v1", false, false),
    ("/ip6/ff0e::1/udp/4001/quic-v1", false, false),
    ("/ip4/255.255.255.255/udp/4001/quic-v1", false, false),
    ("/ip6/2002:e000:1::/tcp/4001", false, false),
    // Names.
    ("/dns/example.com/tcp/4001", false, true),
    ("/dns4/example.com/udp/4001/quic-v1", false, true),
    ("/dns6/example.com/tcp/443/wss", false, true),
    ("/dnsaddr/example.com<peer>", false, false),
    ("/dns/example.com/tcp/0", false, false),
    // More than one host, or one that is not at the front.
    ("/ip4/1.2.3.4/ip4/10.0.0.1/tcp/4001", false, false),
    ("/ip4/1.2.3.4/tcp/4001/ip4/10.0.0.1/tcp/22", false, false),
    ("/ip4/1.2.3.4/tcp/4001/ip4/1.2.3.4", false, false),
    ("/ip4/1.2.3.4/tcp/4001/ip6/::1/tcp/22", false, false),
    ("/ip4/1.2.3.4/tcp/4001/dns4/localhost/tcp/22", false, false),
    (
        "/dns4/example.com/tcp/4001/ip4/1.2.3.4/tcp/22",
        false,
        false,
    ),
    ("/tcp/4001/ip4/1.2.3.4", false, false),
    ("<peer>/ip4/1.2.3.4/tcp/4001", false, false),
    ("/ip4/1.2.3.4/tcp/4001/unix/socket", false, false),
    ("/memory/1", false, false),
    ("/unix/socket", false, false),
    (
        "/onion3/vww6ybal4bd7szmgncyruucpgfkqahzddi37ktceo3ah7ngmcopnpyyd:1234",
        false,
        false,
    ),
    // Zones and prefixes.
    ("/ip6zone/eth0/ip6/fe80::1/tcp/4001", false, false),
    ("/ip6zone/eth0/ip6/2a00::1/tcp/4001", false, false),
    ("/ip6/2a00::1/ip6zone/eth0/tcp/4001", false, false),
    ("/ip4/1.2.3.0/ipcidr/24", false, false),
    ("/ip4/1.2.3.0/ipcidr/24/tcp/4001", false, false),
    // Relays.
    ("/p2p-circuit", false, false),
    ("<peer>/p2p-circuit<other>", false, false),
    ("/ip4/1.2.3.4/tcp/4001/p2p-circuit", false, false),
    (
        "/ip4/1.2.3.4/tcp/4001<peer>/p2p-circuit<other>",
        false,
        false,
    ),
    (
        "/ip4/1.2.3.4/udp/4001/quic-v1<peer>/p2p-circuit",
        false,
        false,
    ),
    (
        "/ip4/1.2.3.4/tcp/4001<peer>/p2p-circuit/ip4/5.6.7.8/tcp/1",
        false,
        false,
    ),
    ("/dns/example.com/tcp/4001<peer>/p2p-circuit", false, false),
];

#[test]
fn an_address_is_public_and_dialable_only_in_good_form() {
    for &(addr, public, dialable) in ADDRESSES {
        assert_eq!(is_public(&parse(addr)), public, "public: {addr}");
        assert_eq!(is_dialable(&parse(addr)), dialable, "dialable: {addr}");
    }
    assert!(!is_public(&Multiaddr::empty()) && !is_dialable(&Multiaddr::empty()));
}

#[test]
fn every_special_purpose_ip_makes_an_address_private() {
    for ip in [
        "0.1.2.3",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.0.1",
        "172.16.0.1",
        "192.0.0.1",
        "192.0.0.8",
        "192.0.0.170",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
    ] {
        let mapped = format!("/ip6/::ffff:{ip}/udp/4001/quic-v1");
        assert!(!is_public(&parse(&format!("/ip4/{ip}/tcp/4001"))), "{ip}");
        assert!(!is_public(&parse(&mapped)), "{mapped}");
    }
}

#[test]
fn a_mapped_ip_is_its_ipv4_address() {
    let mapped = parse("/ip6/::ffff:1.2.3.4/tcp/4001");
    let bare = parse("/ip4/1.2.3.4/tcp/4001");
    assert_eq!(ip(&mapped), ip(&bare));
    assert_eq!(family(&mapped), Some(IpFamily::V4));
    assert_eq!(thin_waist(&mapped), thin_waist(&bare));
    assert!(same_stack(&mapped, &bare));
}

#[test]
fn the_family_is_that_of_the_ip_or_of_the_name() {
    for (addr, expected) in [
        ("/ip4/1.2.3.4/tcp/1", Some(IpFamily::V4)),
        ("/ip6/2a00::1/tcp/1", Some(IpFamily::V6)),
        ("/ip6/2002:102:304::/tcp/1", Some(IpFamily::V6)),
        ("/ip6/64:ff9b::1.2.3.4/tcp/1", Some(IpFamily::V6)),
        ("/dns4/example.com/tcp/1", Some(IpFamily::V4)),
        ("/dns6/example.com/tcp/1", Some(IpFamily::V6)),
        ("/dns/example.com/tcp/1", None),
        ("/dnsaddr/example.com", None),
        ("/memory/1", None),
        ("/ip4/1.2.3.4/tcp/1/ip6/::1", None),
        ("/ip4/1.2.3.4/tcp/1<peer>/p2p-circuit", None),
        ("/dns4/example.com/tcp/1<peer>/p2p-circuit", None),
    ] {
        assert_eq!(family(&parse(addr)), expected, "{addr}");
    }
}

#[test]
fn names_are_found_anywhere() {
    for (addr, expected) in [
        ("/dns/example.com/tcp/1", true),
        ("/dns4/example.com/tcp/1", true),
        ("/dns6/example.com/tcp/1", true),
        ("/dnsaddr/example.com", true),
        ("/ip4/1.2.3.4/tcp/1/dns4/localhost/tcp/2", true),
        ("/ip4/1.2.3.4/tcp/1/tls/sni/example.com/ws", false),
        ("/ip4/1.2.3.4/tcp/1", false),
    ] {
        assert_eq!(is_name(&parse(addr)), expected, "{addr}");
    }
}

#[test]
fn only_the_named_peer_is_stripped_and_only_from_the_end() {
    let peer: PeerId = PEER.parse().unwrap();
    for (addr, stripped) in [
        ("/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/tcp/1"),
        ("/ip4/1.2.3.4/tcp/1<peer>", "/ip4/1.2.3.4/tcp/1"),
        ("/ip4/1.2.3.4/tcp/1<peer><peer>", "/ip4/1.2.3.4/tcp/1<peer>"),
        ("/ip4/1.2.3.4/tcp/1<other>", "/ip4/1.2.3.4/tcp/1<other>"),
        (
            "/ip4/1.2.3.4/tcp/1<peer>/p2p-circuit",
            "/ip4/1.2.3.4/tcp/1<peer>/p2p-circuit",
        ),
        (
            "/ip4/1.2.3.4/tcp/1<other>/p2p-circuit<peer>",
            "/ip4/1.2.3.4/tcp/1<other>/p2p-circuit",
        ),
    ] {
        assert_eq!(
            without_peer_id(&parse(addr), &peer),
            parse(stripped),
            "{addr}"
        );
    }
    assert_eq!(
        without_peer_id(&Multiaddr::empty(), &peer),
        Multiaddr::empty()
    );
}

#[test]
fn another_peer_is_found_anywhere() {
    let peer: PeerId = PEER.parse().unwrap();
    let other: PeerId = OTHER.parse().unwrap();
    for (addr, last, named_other) in [
        ("/ip4/1.2.3.4/tcp/1", None, false),
        ("/ip4/1.2.3.4/tcp/1<peer>", Some(peer), false),
        ("/ip4/1.2.3.4/tcp/1<other>", Some(other), true),
        ("/ip4/1.2.3.4/tcp/1<other><peer>", Some(peer), true),
        ("/ip4/1.2.3.4/tcp/1<other>/ws", None, true),
    ] {
        assert_eq!(peer_id(&parse(addr)), last, "{addr}");
        assert_eq!(names_other_peer(&parse(addr), &peer), named_other, "{addr}");
    }
}

fn any_protocol() -> impl Strategy<Value = Protocol<'static>> {
    let mapped = |b: [u8; 4]| Protocol::Ip6(std::net::Ipv4Addr::from(b).to_ipv6_mapped());
    let peer: PeerId = PEER.parse().unwrap();
    let mut plain = vec![
        Protocol::Tls,
        Protocol::Noise,
        Protocol::QuicV1,
        Protocol::Quic,
        Protocol::WebTransport,
        Protocol::WebRTCDirect,
        Protocol::WebRTC,
        Protocol::Http,
        Protocol::Https,
        Protocol::P2pCircuit,
        Protocol::P2p(peer),
        Protocol::Ws("/".into()),
        Protocol::Ws("/path".into()),
        Protocol::Wss("/".into()),
        Protocol::Sni("example.com".into()),
        Protocol::Ip6zone("eth0".into()),
        Protocol::Ipcidr(24),
        Protocol::Dns("example.com".into()),
        Protocol::Dns4("example.com".into()),
        Protocol::Dns6("example.com".into()),
        Protocol::Dnsaddr("example.com".into()),
        Protocol::Memory(1),
        Protocol::Unix("socket".into()),
        Protocol::Utp,
        Protocol::Sctp(1),
    ];
    let path = Some("/http-path/a%2Fb").filter(|path| is_known(path));
    let path: Option<Multiaddr> = path.map(|path| path.parse().unwrap());
    plain.extend(path.iter().flatten().map(|part| part.acquire()));
    prop_oneof![
        2 => any::<[u8; 4]>().prop_map(|b| Protocol::Ip4(b.into())),
        2 => any::<[u8; 16]>().prop_map(|b| Protocol::Ip6(b.into())),
        1 => any::<[u8; 4]>().prop_map(mapped),
        3 => any::<u16>().prop_map(Protocol::Tcp),
        3 => any::<u16>().prop_map(Protocol::Udp),
        8 => prop::sample::select(plain),
    ]
}

/// Addresses without rhyme or reason, and ones that begin as a good one does.
fn any_address() -> impl Strategy<Value = Multiaddr> {
    let head = prop_oneof![
        any::<[u8; 4]>().prop_map(|b| Protocol::Ip4(b.into())),
        any::<[u8; 16]>().prop_map(|b| Protocol::Ip6(b.into())),
    ];
    let port = prop_oneof![
        any::<u16>().prop_map(Protocol::Tcp),
        any::<u16>().prop_map(Protocol::Udp),
    ];
    prop_oneof![
        prop::collection::vec(any_protocol(), 0..8).prop_map(Multiaddr::from_iter),
        (head, port, prop::collection::vec(any_protocol(), 0..3)).prop_map(|(head, port, tail)| [
            head, port
        ]
        .into_iter()
        .chain(tail)
        .collect()),
    ]
}

fn ask_everything(addr: &Multiaddr) {
    let peer: PeerId = PEER.parse().unwrap();
    let scope = ip(addr).map(ip_scope);
    assert_eq!(is_public(addr), scope == Some(IpScope::Global));
    if ip(addr).is_some() {
        assert!(!is_relayed(addr) && !is_name(addr));
    }
    if let Some(group) = socket_group(addr) {
        assert_eq!(thin_waist(addr), Some(group));
        assert_ne!(group.port, 0);
    }
    if is_dialable(addr) {
        assert!(port(addr).is_some() && transport(addr).is_some() && !is_relayed(addr));
    }
    assert!(!is_relayed(addr) || transport(addr).is_none());
    assert!(same_stack(addr, addr));
    assert!(same_stack(addr, &without_peer_id(addr, &peer)));
    let _ = (family(addr), peer_id(addr), names_other_peer(addr, &peer));
}

proptest! {
    #[test]
    fn no_address_upsets_any_question(addr in any_address()) {
        ask_everything(&addr);
    }

    #[test]
    fn no_bytes_that_parse_upset_any_question(bytes: Vec<u8>) {
        if let Ok(addr) = Multiaddr::try_from(bytes) {
            ask_everything(&addr);
        }
    }

    #[test]
    fn no_damage_to_an_address_upsets_any_question(
        addr in any_address(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        keep in any::<prop::sample::Index>(),
    ) {
        let mut bytes = addr.to_vec();
        for (at, byte) in damage {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let cut = bytes[..keep.index(bytes.len() + 1)].to_vec();
        for bytes in [bytes, cut] {
            if let Ok(addr) = Multiaddr::try_from(bytes) {
                ask_everything(&addr);
            }
        }
    }

    #[test]
    fn fitting_is_mutual(a in any_address(), b in any_address()) {
        prop_assert_eq!(same_stack(&a, &b), same_stack(&b, &a));
    }

    #[test]
    fn known_transports_fit_if_transport_and_family_are_the_same(a in any_address(), b in any_address()) {
        let known = |addr| transport(addr).is_some_and(|t| t != Transport::Other);
        if known(&a) && known(&b) && let (Some(fa), Some(fb)) = (family(&a), family(&b)) {
            prop_assert_eq!(same_stack(&a, &b), fa == fb && transport(&a) == transport(&b));
        }
    }

    #[test]
    fn a_peer_id_at_the_end_changes_nothing_and_comes_off_again(addr in any_address()) {
        let peer: PeerId = PEER.parse().unwrap();
        let named = addr.clone().with(Protocol::P2p(peer));
        prop_assert_eq!(peer_id(&named), Some(peer));
        prop_assert_eq!(without_peer_id(&named, &peer), addr.clone());
        prop_assert!(same_stack(&named, &addr));
        prop_assert_eq!(transport(&named), transport(&addr));
        prop_assert_eq!(ip(&named), ip(&addr));
        prop_assert_eq!(is_public(&named), is_public(&addr));
    }
}
