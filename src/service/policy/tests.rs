use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

use super::*;

const CLIENT: &str = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
const OTHER: &str = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";

const RULES: Rules = Rules {
    private_addresses: false,
    names: false,
    max_addresses: 50,
    refused: Vec::new(),
};

fn addr(text: &str) -> Multiaddr {
    let text = text
        .replace("CLIENT", CLIENT)
        .replace("OTHER", OTHER)
        .replace("HASH", "uEiDikp5KVUgkLta1EjUN-IKbHk-dUBg8VzKgf5nXxLK46w");
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn client(ip: Option<&str>) -> Client {
    Client {
        peer: CLIENT.parse().expect("a peer id"),
        ip: ip.map(|ip| ip.parse().expect("an IP")),
    }
}

/// A server that has 20.9.9.9, 2a00:9::1 and an address in fd00:9::/64, and dials TCP, QUIC and WebSocket.
struct Server;

impl Host for Server {
    fn locality(&self, ip: IpAddr) -> Locality {
        match ip {
            IpAddr::V4(ip) if ip.octets() == [20, 9, 9, 9] => Locality::ThisHost,
            IpAddr::V4(_) => Locality::Remote,
            IpAddr::V6(ip) => match ip.segments() {
                [0x2a00, 0x9, 0, 0, 0, 0, 0, 1] => Locality::ThisHost,
                [0x2a00 | 0xfd00, 0x9, 0, 0, ..] => Locality::Lan,
                _ => Locality::Remote,
            },
        }
    }

    fn can_dial(&self, addr: &Multiaddr) -> bool {
        matches!(
            address::transport(addr),
            Some(Transport::Tcp | Transport::Quic | Transport::WebSocket)
        )
    }
}

/// A server that takes every IP for another host's and can dial anything.
struct Anywhere;

impl Host for Anywhere {
    fn locality(&self, _: IpAddr) -> Locality {
        Locality::Remote
    }

    fn can_dial(&self, _: &Multiaddr) -> bool {
        true
    }
}

fn choose_of(addrs: &[Option<Multiaddr>], client: Client, rules: &Rules) -> Selection {
    choose(addrs, client, rules, &Server)
}

fn judge(text: &str, rules: &Rules) -> Result<Option<IpAddr>, PassedOver> {
    let selection = choose_of(&[Some(addr(text))], client(Some("20.1.0.2")), rules);
    match selection.chosen {
        Some(chosen) => Ok(chosen.ip),
        None => Err(selection.passed_over[0].1),
    }
}

#[test]
fn each_address_is_dialed_or_passed_over_for_its_own_reason() {
    use PassedOver::*;

    let relayed = "/ip4/20.1.0.1/tcp/1/p2p/OTHER/p2p-circuit/p2p/CLIENT";
    let cases: &[(&str, Result<(), PassedOver>)] = &[
        ("/ip4/20.1.0.2/tcp/4001", Ok(())),
        ("/ip4/20.1.0.2/tcp/4001/p2p/CLIENT", Ok(())),
        ("/ip4/20.1.0.2/udp/4001/quic-v1", Ok(())),
        ("/ip4/20.1.0.2/tcp/4001/ws", Ok(())),
        ("/ip6/2606:4700::1/tcp/4001", Ok(())),
        // Special-purpose IPs, in all the forms that hide one.
        ("/ip4/127.0.0.1/tcp/1", Err(NotPublic(IpScope::Loopback))),
        ("/ip4/127.255.0.1/tcp/1", Err(NotPublic(IpScope::Loopback))),
        ("/ip6/::1/tcp/1", Err(NotPublic(IpScope::Loopback))),
        ("/ip4/10.0.0.1/tcp/1", Err(NotPublic(IpScope::Private))),
        ("/ip4/172.16.0.1/tcp/1", Err(NotPublic(IpScope::Private))),
        ("/ip4/192.168.1.1/tcp/1", Err(NotPublic(IpScope::Private))),
        (
            "/ip4/169.254.169.254/tcp/80",
            Err(NotPublic(IpScope::LinkLocal)),
        ),
        ("/ip4/100.64.0.1/tcp/1", Err(NotPublic(IpScope::Shared))),
        (
            "/ip4/192.0.2.1/tcp/1",
            Err(NotPublic(IpScope::Documentation)),
        ),
        (
            "/ip4/198.18.0.1/tcp/1",
            Err(NotPublic(IpScope::Benchmarking)),
        ),
        (
            "/ip4/224.0.0.1/udp/1/quic-v1",
            Err(NotPublic(IpScope::Multicast)),
        ),
        (
            "/ip4/255.255.255.255/udp/1/quic-v1",
            Err(NotPublic(IpScope::Broadcast)),
        ),
        ("/ip4/240.0.0.1/tcp/1", Err(NotPublic(IpScope::Reserved))),
        ("/ip4/0.0.0.0/tcp/1", Err(NotPublic(IpScope::Unspecified))),
        ("/ip6/::/tcp/1", Err(NotPublic(IpScope::Unspecified))),
        ("/ip6/fe80::1/tcp/1", Err(NotPublic(IpScope::LinkLocal))),
        ("/ip6/fd00::1/tcp/1", Err(NotPublic(IpScope::UniqueLocal))),
        (
            "/ip6/ff02::1/udp/1/quic-v1",
            Err(NotPublic(IpScope::Multicast)),
        ),
        (
            "/ip6/2001:db8::1/tcp/1",
            Err(NotPublic(IpScope::Documentation)),
        ),
        (
            "/ip6/::ffff:127.0.0.1/tcp/1",
            Err(NotPublic(IpScope::Loopback)),
        ),
        (
            "/ip6/::ffff:10.0.0.1/tcp/1",
            Err(NotPublic(IpScope::Private)),
        ),
        (
            "/ip6/64:ff9b::a00:1/tcp/1",
            Err(NotPublic(IpScope::Private)),
        ),
        (
            "/ip6/2002:7f00:1::1/tcp/1",
            Err(NotPublic(IpScope::Loopback)),
        ),
        (
            "/ip6/2002:c0a8:101::1/tcp/1",
            Err(NotPublic(IpScope::Private)),
        ),
        // Not one host.
        ("/ip4/20.1.0.2/tcp/1/ip4/127.0.0.1/tcp/2", Err(SeveralIps)),
        ("/ip4/20.1.0.2/ip4/10.0.0.1/tcp/2", Err(SeveralIps)),
        ("/ip4/20.1.0.2/tcp/1/dns4/localhost/tcp/2", Err(SeveralIps)),
        ("/dns4/localhost/tcp/1", Err(Name)),
        ("/dns/example.com/tcp/1", Err(Name)),
        ("/dnsaddr/example.com", Err(Name)),
        ("/tcp/4001", Err(NoIp)),
        ("/unix/%2Fvar%2Frun%2Fdocker.sock", Err(NoIp)),
        ("/memory/1234", Err(NoIp)),
        ("/p2p/CLIENT", Err(NoIp)),
        ("/ip6zone/eth0/ip6/fe80::1/tcp/1", Err(NoIp)),
        // Not the client.
        (relayed, Err(Relayed)),
        ("/p2p-circuit", Err(Relayed)),
        ("/ip4/20.1.0.2/tcp/4001/p2p/OTHER", Err(OtherPeer)),
        (
            "/ip4/20.1.0.2/tcp/4001/p2p/OTHER/p2p/CLIENT",
            Err(OtherPeer),
        ),
        ("/ip4/20.9.9.9/tcp/4001", Err(OwnIp)),
        ("/ip6/::ffff:20.9.9.9/tcp/4001", Err(OwnIp)),
        ("/ip6/2a00:9::1/tcp/4001", Err(OwnIp)),
        ("/ip6/2a00:9::2/tcp/4001", Err(OwnNetwork)),
        ("/ip6/2a00:9:0:1::2/tcp/4001", Ok(())),
        // Nothing to dial.
        ("/ip4/20.1.0.2/tcp/0", Err(NoPort)),
        ("/ip4/20.1.0.2/udp/0/quic-v1", Err(NoPort)),
        ("/ip4/20.1.0.2", Err(NoPort)),
        // What other protocols make of it, on hosts that are not the client.
        ("/ip4/20.1.0.2/tcp/25", Ok(())),
        ("/ip4/20.1.0.3/tcp/25", Err(BadPort(25))),
        ("/ip4/20.1.0.3/udp/53/quic-v1", Err(BadPort(53))),
        ("/ip6/64:ff9b::1401:3/tcp/25", Err(BadPort(25))),
        ("/ip4/20.1.0.3/tcp/443", Ok(())),
        ("/ip4/20.1.0.3/tcp/80/ws", Ok(())),
        ("/ip4/20.1.0.3/tcp/80/x-parity-ws/%2F", Ok(())),
        ("/ip4/20.1.0.2/tcp/80/x-parity-ws/%2Fa", Ok(())),
        ("/ip4/20.1.0.3/tcp/80/x-parity-ws/%2Fa", Err(Path)),
        ("/ip4/20.1.0.3/tcp/443/x-parity-wss/%2Fa", Err(Path)),
        ("/ip4/20.1.0.3/tcp/80/ws/http-path/a", Err(Path)),
        ("/ip4/20.1.0.2/udp/1", Err(UnknownTransport)),
        ("/ip4/20.1.0.2/tcp/1/tls", Err(UnknownTransport)),
        ("/ip4/20.1.0.2/tcp/1/tcp/2", Err(UnknownTransport)),
        (
            "/ip4/20.1.0.2/tcp/1/tls/ws",
            Err(CannotDial(Transport::SecureWebSocket)),
        ),
        (
            "/ip4/20.1.0.2/tcp/1/tls/sni/example.com/ws/p2p/CLIENT",
            Err(CannotDial(Transport::SecureWebSocket)),
        ),
        (
            "/ip4/20.1.0.2/tcp/1/wss",
            Err(CannotDial(Transport::SecureWebSocket)),
        ),
        (
            "/ip4/20.1.0.2/udp/1/quic",
            Err(CannotDial(Transport::QuicDraft29)),
        ),
        (
            "/ip4/20.1.0.2/udp/1/quic-v1/webtransport/certhash/HASH/certhash/HASH",
            Err(CannotDial(Transport::WebTransport)),
        ),
        (
            "/ip4/20.1.0.2/udp/1/webrtc-direct/certhash/HASH/p2p/CLIENT",
            Err(CannotDial(Transport::WebRtcDirect)),
        ),
        // Something is missing.
        (
            "/ip4/20.1.0.2/udp/1/quic-v1/webtransport",
            Err(UnknownTransport),
        ),
        ("/ip4/20.1.0.2/udp/1/webrtc-direct", Err(UnknownTransport)),
        // Something is added where it has no meaning, or has none.
        ("/ip4/20.1.0.2/tcp/1/certhash/HASH", Err(UnknownTransport)),
        (
            "/ip4/20.1.0.2/tcp/1/certhash/HASH/ws",
            Err(UnknownTransport),
        ),
        (
            "/ip4/20.1.0.2/tcp/443/wss/certhash/HASH",
            Err(UnknownTransport),
        ),
        ("/ip4/20.1.0.2/tcp/1/sni/a.com/ws", Err(UnknownTransport)),
        (
            "/ip4/20.1.0.2/tcp/1/tls/ws/sni/a.com",
            Err(UnknownTransport),
        ),
        (
            "/ip4/20.1.0.2/tcp/1/tls/sni/a.com/sni/a.com/ws",
            Err(UnknownTransport),
        ),
        (
            "/ip4/20.1.0.2/tcp/1/tls/sni/not a name/ws",
            Err(UnknownTransport),
        ),
        (
            "/ip4/20.1.0.2/tcp/1/tls/sni/20.1.0.2/ws",
            Err(UnknownTransport),
        ),
        ("/ip4/20.1.0.2/tcp/1/tls/sni/-/ws", Err(UnknownTransport)),
        (
            "/ip4/20.1.0.2/tcp/1/tls/sni/a..com/ws",
            Err(UnknownTransport),
        ),
        ("/ip4/20.1.0.2/tcp/1/ws/http-path/a", Err(UnknownTransport)),
        (
            "/ip4/20.1.0.2/udp/1/quic-v1/certhash/HASH",
            Err(UnknownTransport),
        ),
        (
            "/ip4/20.1.0.2/udp/1/webrtc-direct/certhash/uAAA",
            Err(UnknownTransport),
        ),
        (
            "/ip4/20.1.0.2/tcp/1/p2p/CLIENT/p2p/CLIENT",
            Err(UnknownTransport),
        ),
        ("/ip4/20.1.0.2/tcp/1/p2p/CLIENT/ws", Err(UnknownTransport)),
        ("/p2p/CLIENT/ip4/20.1.0.2/tcp/1", Err(NoIp)),
    ];
    for (text, expected) in cases {
        assert_eq!(judge(text, &RULES).map(|_| ()), *expected, "{text}");
    }
}

#[test]
fn private_addresses_can_be_allowed_but_not_what_stands_for_many_or_none() {
    let rules = Rules {
        private_addresses: true,
        ..RULES
    };
    for text in [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/10.0.0.1/tcp/4001",
        "/ip4/198.18.0.1/tcp/4001",
        "/ip6/fd00::1/tcp/4001",
        "/ip6/::ffff:192.168.0.1/tcp/4001",
    ] {
        assert!(judge(text, &rules).is_ok(), "{text}");
    }
    for text in [
        "/ip4/0.0.0.0/tcp/1",
        "/ip4/224.0.0.1/tcp/1",
        "/ip4/255.255.255.255/tcp/1",
        "/ip4/240.0.0.1/tcp/1",
        "/ip6/ff02::1/tcp/1",
    ] {
        assert!(
            matches!(judge(text, &rules), Err(PassedOver::NotPublic(_))),
            "{text}"
        );
    }
}

#[test]
fn a_refused_network_is_not_dialed_in_any_form() {
    let rules = Rules {
        refused: vec![
            ("20.1.4.0".parse().expect("an IP"), 22),
            ("2a00:64::".parse().expect("an IP"), 96),
            ("2002::".parse().expect("an IP"), 16),
        ],
        ..RULES
    };
    for text in [
        "/ip4/20.1.4.0/tcp/4001",
        "/ip4/20.1.7.255/tcp/4001",
        "/ip6/::ffff:20.1.5.1/tcp/4001",
        "/ip6/64:ff9b::1401:501/tcp/4001",
        "/ip6/2a00:64::a00:1/tcp/4001",
        "/ip6/2002:1401:1::1/tcp/4001",
    ] {
        let judged = judge(text, &rules);
        assert_eq!(judged, Err(PassedOver::RefusedNetwork), "{text}");
    }
    for text in [
        "/ip4/20.1.3.255/tcp/4001",
        "/ip4/20.1.8.0/tcp/4001",
        "/ip6/64:ff9b::1401:1/tcp/4001",
        "/ip6/2a00:64::1:0:0/tcp/4001",
    ] {
        assert!(judge(text, &rules).is_ok(), "{text}");
    }
    // Of a prefix longer than an address, or of none.
    let all = Rules {
        refused: vec![("0.0.0.0".parse().expect("an IP"), 0)],
        ..RULES
    };
    assert!(judge("/ip4/20.1.0.2/tcp/4001", &all).is_err());
    assert!(judge("/ip6/2606:4700::1/tcp/4001", &all).is_ok());
    let one = Rules {
        refused: vec![("20.1.0.2".parse().expect("an IP"), 255)],
        ..RULES
    };
    assert!(judge("/ip4/20.1.0.2/tcp/4001", &one).is_err());
    assert!(judge("/ip4/20.1.0.3/tcp/4001", &one).is_ok());
}

#[test]
fn names_can_be_allowed_but_cost_dial_data_and_never_stand_for_many() {
    let rules = Rules {
        names: true,
        ..RULES
    };
    assert_eq!(judge("/dns4/example.com/tcp/4001", &rules), Ok(None));
    assert_eq!(judge("/dnsaddr/example.com", &rules), Err(PassedOver::Name));
    assert_eq!(
        judge("/dns4/example.com/tcp/1/dns4/localhost/tcp/1", &rules),
        Err(PassedOver::SeveralIps)
    );
    let named = choose_of(
        &[Some(addr("/dns4/example.com/tcp/4001"))],
        client(Some("20.1.0.2")),
        &rules,
    );
    assert!(!named.chosen.expect("chosen").is_client_ip);
}

#[test]
fn the_first_address_that_passes_is_chosen_and_keeps_its_index() {
    let addrs = [
        None,
        Some(addr("/ip4/10.0.0.1/tcp/1")),
        Some(addr("/ip4/20.1.0.7/tcp/4001")),
        Some(addr("/ip4/20.1.0.2/tcp/1")),
    ];
    let selection = choose_of(&addrs, client(Some("20.1.0.2")), &RULES);
    let chosen = selection.chosen.expect("one passes");
    assert_eq!(chosen.index, 2);
    assert!(!chosen.is_client_ip, "another IP than the observed one");
    assert_eq!(
        selection.passed_over,
        [
            (0, PassedOver::Unparsable),
            (1, PassedOver::NotPublic(IpScope::Private))
        ]
    );
}

#[test]
fn only_the_ip_decides_on_dial_data() {
    let other_port = [Some(addr("/ip4/20.1.0.2/tcp/65000"))];
    let own = |ip| {
        choose_of(&other_port, client(ip), &RULES)
            .chosen
            .expect("chosen")
            .is_client_ip
    };
    assert!(own(Some("20.1.0.2")));
    assert!(!own(Some("20.1.0.3")));
    assert!(!own(None), "a relayed client has no IP to compare");
}

#[test]
fn the_servers_own_ip_is_dialed_for_a_client_that_has_it_too() {
    let shared = [Some(addr("/ip4/20.9.9.9/tcp/4001"))];
    let chosen = choose_of(&shared, client(Some("20.9.9.9")), &RULES).chosen;
    assert!(chosen.expect("behind the same NAT").is_client_ip);
    assert!(choose_of(&shared, client(None), &RULES).chosen.is_none());
}

#[test]
fn a_host_beside_the_server_is_dialed_only_for_clients_that_are_there_too() {
    let beside = [Some(addr("/ip6/2a00:9::2/tcp/4001"))];
    let passed = |client_ip| {
        let selection = choose_of(&beside, client(client_ip), &RULES);
        selection.passed_over.first().map(|(_, reason)| *reason)
    };
    assert_eq!(passed(Some("2a00:9::2")), None, "its own IP");
    assert_eq!(passed(Some("2a00:9::3")), None, "on the same LAN");
    for stranger in [Some("2a00:9:0:1::2"), Some("20.1.0.2"), None] {
        assert_eq!(passed(stranger), Some(PassedOver::OwnNetwork));
    }
    // The server itself is another matter.
    let server = [Some(addr("/ip6/2a00:9::1/tcp/4001"))];
    let neighbour = choose_of(&server, client(Some("2a00:9::3")), &RULES);
    assert_eq!(neighbour.passed_over, [(0, PassedOver::OwnIp)]);
}

#[test]
fn who_allows_private_addresses_opens_the_lan_to_them() {
    let rules = Rules {
        private_addresses: true,
        ..RULES
    };
    assert!(judge("/ip6/fd00:9::2/tcp/4001", &rules).is_ok());
    assert_eq!(
        judge("/ip6/2a00:9::2/tcp/4001", &rules),
        Err(PassedOver::OwnNetwork)
    );
}

#[test]
fn addresses_behind_the_limit_are_not_looked_at() {
    let mut addrs = vec![None; 50];
    addrs.push(Some(addr("/ip4/20.1.0.2/tcp/1")));
    let selection = choose_of(&addrs, client(Some("20.1.0.2")), &RULES);
    assert_eq!(selection.chosen, None);
    assert_eq!(selection.passed_over.len(), 50);
}

#[test]
fn dial_data_is_within_the_specified_range_and_not_always_the_same() {
    let mut rng = StdRng::seed_from_u64(7);
    let asked: Vec<u64> = (0..1000).map(|_| dial_data_bytes(&mut rng)).collect();
    assert!(asked.iter().all(|n| (30_000..=100_000).contains(n)));
    assert!(asked.iter().any(|n| *n < 40_000) && asked.iter().any(|n| *n > 90_000));
}

fn any_part() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| format!("/ip4/{}", std::net::Ipv4Addr::from(ip))),
        any::<[u8; 16]>().prop_map(|ip| format!("/ip6/{}", std::net::Ipv6Addr::from(ip))),
        any::<u16>().prop_map(|port| format!("/tcp/{port}")),
        any::<u16>().prop_map(|port| format!("/udp/{port}")),
        Just("/quic-v1".to_owned()),
        Just("/ws".to_owned()),
        Just("/p2p-circuit".to_owned()),
        Just("/dns4/localhost".to_owned()),
        Just(format!("/p2p/{OTHER}")),
        Just(format!("/p2p/{CLIENT}")),
    ]
}

proptest! {
    /// Whatever the address is made of: what is dialed has one public IP, a port, and no detour.
    #[test]
    fn nothing_but_a_public_host_is_ever_chosen(parts in prop::collection::vec(any_part(), 1..6)) {
        let text = parts.concat();
        let addr: Multiaddr = text.parse().expect("made of valid parts");
        let selection = choose(&[Some(addr.clone())], client(None), &RULES, &Anywhere);
        if selection.chosen.is_some() {
            prop_assert!(address::is_public(&addr), "{}", text);
            prop_assert!(address::is_dialable(&addr), "{}", text);
            prop_assert!(!text.contains("p2p-circuit") && !text.contains("localhost"));
            prop_assert!(!text.contains(OTHER));
        }
    }
}
