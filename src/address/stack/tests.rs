use super::{Transport::*, *};

const CERT: &str = "/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";
const PEER: &str = "/p2p/12D3KooWBmwkafWE2fqfzS96VoTZgpGp6aJsF4N9SMXvJXZgYsYt";

fn parse(addr: &str) -> Multiaddr {
    addr.replace("<cert>", CERT)
        .replace("<peer>", PEER)
        .parse()
        .unwrap_or_else(|e| panic!("{addr}: {e}"))
}

const TRANSPORTS: &[(&str, Option<Transport>)] = &[
    ("/ip4/1.2.3.4/tcp/4001", Some(Tcp)),
    ("/ip4/1.2.3.4/tcp/4001<peer>", Some(Tcp)),
    ("/ip6/2a00::1/tcp/0", Some(Tcp)),
    ("/ip6zone/eth0/ip6/fe80::1/tcp/4001", Some(Tcp)),
    ("/dns/example.com/tcp/4001", Some(Tcp)),
    ("/ip4/1.2.3.4/tcp/80/ws", Some(WebSocket)),
    ("/ip4/1.2.3.4/tcp/80/x-parity-ws/%2Fpath", Some(WebSocket)),
    ("/ip4/1.2.3.4/tcp/443/wss", Some(SecureWebSocket)),
    ("/ip4/1.2.3.4/tcp/443/tls/ws", Some(SecureWebSocket)),
    (
        "/ip4/1.2.3.4/tcp/443/tls/sni/example.com/ws",
        Some(SecureWebSocket),
    ),
    (
        "/dns4/example.com/tcp/443/x-parity-wss/%2Fpath<peer>",
        Some(SecureWebSocket),
    ),
    ("/ip4/1.2.3.4/udp/4001/quic-v1", Some(Quic)),
    ("/ip6/2a00::1/udp/4001/quic-v1<peer>", Some(Quic)),
    ("/ip4/1.2.3.4/udp/4001/quic", Some(QuicDraft29)),
    (
        "/ip4/1.2.3.4/udp/4001/quic-v1/webtransport",
        Some(WebTransport),
    ),
    (
        "/ip4/1.2.3.4/udp/4001/quic-v1/webtransport<cert><cert><peer>",
        Some(WebTransport),
    ),
    (
        "/ip4/1.2.3.4/udp/4001/webrtc-direct<cert>",
        Some(WebRtcDirect),
    ),
    ("/ip4/1.2.3.4/udp/4001/webrtc-direct", Some(WebRtcDirect)),
    // Known to nobody here, yet not nothing.
    ("/ip4/1.2.3.4/udp/4001", Some(Other)),
    ("/ip4/1.2.3.4/tcp/4001/quic-v1", Some(Other)),
    ("/ip4/1.2.3.4/udp/4001/tcp/4001", Some(Other)),
    ("/ip4/1.2.3.4/tcp/4001/tls", Some(Other)),
    ("/ip4/1.2.3.4/tcp/443/tls/http", Some(Other)),
    ("/ip4/1.2.3.4/tcp/443/https", Some(Other)),
    ("/ip4/1.2.3.4/tcp/443/wss/ws", Some(Other)),
    ("/ip4/1.2.3.4/tcp/443/tls/ws/http", Some(Other)),
    ("/ip4/1.2.3.4/udp/4001/quic/webtransport", Some(Other)),
    ("/ip4/1.2.3.4/udp/4001/quic-v1/webtransport/ws", Some(Other)),
    ("/ip4/1.2.3.4/tcp/1/ip4/10.0.0.1/tcp/2", Some(Other)),
    ("/ip4/1.2.3.4/ip4/5.6.7.8/tcp/1", Some(Other)),
    ("/memory/1234", Some(Other)),
    ("/unix/socket", Some(Other)),
    ("/tcp/4001", Some(Other)),
    // Nothing to dial.
    ("/ip4/1.2.3.4", None),
    ("/ip4/1.2.3.4<peer>", None),
    ("/dnsaddr/example.com<peer>", None),
    ("<peer>", None),
    // Relayed.
    ("/p2p-circuit", None),
    ("<peer>/p2p-circuit<peer>", None),
    ("/ip4/1.2.3.4/tcp/4001<peer>/p2p-circuit", None),
    ("/ip4/1.2.3.4/tcp/4001<peer>/p2p-circuit<peer>", None),
    (
        "/ip4/1.2.3.4/udp/4001/quic-v1<peer>/p2p-circuit/webrtc",
        None,
    ),
    (
        "/ip4/1.2.3.4/udp/4001/quic-v1/webtransport<cert><peer>/p2p-circuit",
        None,
    ),
    (
        "/ip4/1.2.3.4/udp/4001/quic-v1/webtransport/ws<peer>/p2p-circuit",
        None,
    ),
    ("/memory/1<peer>/p2p-circuit", None),
];

#[test]
fn the_transport_is_read_off_the_layers() {
    for &(addr, expected) in TRANSPORTS {
        assert_eq!(transport(&parse(addr)), expected, "{addr}");
    }
    assert_eq!(transport(&Multiaddr::empty()), None);
}

/// Each line is a set of addresses that all fit each other and none of another line.
const STACKS: &[&[&str]] = &[
    &[
        "/ip4/1.2.3.4/tcp/4001",
        "/ip4/192.168.0.1/tcp/0",
        "/ip4/1.2.3.4/tcp/4001<peer>",
        "/ip6/::ffff:192.168.0.1/tcp/4001",
        "/dns4/example.com/tcp/4001<peer>",
    ],
    &[
        "/ip6/2a00::1/tcp/4001",
        "/ip6/::1/tcp/9",
        "/ip6zone/eth0/ip6/fe80::1/tcp/9",
        "/dns6/example.com/tcp/4001",
    ],
    &[
        "/ip4/1.2.3.4/tcp/80/ws",
        "/ip4/10.0.0.1/tcp/8080/x-parity-ws/%2Fpath<peer>",
        "/dns4/example.com/tcp/80/ws/http-path/a",
    ],
    &[
        "/ip4/1.2.3.4/tcp/443/wss",
        "/ip4/1.2.3.4/tcp/443/tls/ws",
        "/ip4/1.2.3.4/tcp/443/x-parity-wss/%2Fpath",
        "/ip4/1.2.3.4/tcp/443/tls/sni/example.com/ws",
        "/ip6/::ffff:10.0.0.1/tcp/443/tls/sni/example.com/ws<peer>",
        "/dns4/example.com/tcp/443/wss",
    ],
    &[
        "/ip6/2a00::1/tcp/443/wss",
        "/dns6/example.com/tcp/443/tls/ws",
    ],
    &[
        "/ip4/1.2.3.4/udp/4001/quic-v1",
        "/ip4/0.0.0.0/udp/9/quic-v1<peer>",
        "/ip6/::ffff:10.0.0.1/udp/9/quic-v1",
    ],
    &["/ip6/2a00::1/udp/4001/quic-v1", "/ip6/::/udp/9/quic-v1"],
    &[
        "/ip4/1.2.3.4/udp/4001/quic",
        "/dns4/example.com/udp/4001/quic",
    ],
    &[
        "/ip4/1.2.3.4/udp/4001/quic-v1/webtransport",
        "/ip4/1.2.3.4/udp/4001/quic-v1/webtransport<cert><cert><peer>",
    ],
    &[
        "/ip4/1.2.3.4/udp/4001/webrtc-direct",
        "/ip4/1.2.3.4/udp/4001/webrtc-direct<cert>",
    ],
    &["/ip4/1.2.3.4/udp/4001"],
    &["/ip4/1.2.3.4/tcp/4001/tls"],
    &[
        "/ip4/1.2.3.4/tcp/443/https",
        "/ip4/1.2.3.4/tcp/443/tls/http",
    ],
    &["/ip4/1.2.3.4", "/ip4/5.6.7.8<peer>"],
    &[
        "/ip4/1.2.3.4/tcp/4001<peer>/p2p-circuit",
        "/ip4/5.6.7.8/tcp/1/p2p-circuit<peer>",
    ],
    &["<peer>/p2p-circuit<peer>", "/p2p-circuit"],
    &["/memory/1", "/memory/2<peer>"],
    &["/ip4/1.2.3.4/tcp/1/ip4/1.2.3.4/tcp/1"],
    &["/ip4/1.2.3.4/sctp/1"],
    &["/ip4/1.2.3.4/udp/1/utp"],
];

#[test]
fn addresses_of_one_stack_fit_each_other_and_no_others() {
    for (i, left) in STACKS.iter().enumerate() {
        for (j, right) in STACKS.iter().enumerate() {
            for a in left.iter().filter(|a| is_known(a)) {
                for b in right.iter().filter(|b| is_known(b)) {
                    assert_eq!(same_stack(&parse(a), &parse(b)), i == j, "{a} {b}");
                }
            }
        }
    }
}

#[test]
fn a_name_without_family_fits_both_families_of_its_transport() {
    for (name, bare, expected) in [
        ("/dns/example.com/tcp/1", "/ip4/1.2.3.4/tcp/2", true),
        ("/dns/example.com/tcp/1", "/ip6/2a00::1/tcp/2", true),
        ("/dns/example.com/tcp/1", "/dns4/example.com/tcp/2", true),
        ("/dns/example.com/tcp/1", "/dns6/example.com/tcp/2", true),
        ("/dns/example.com/tcp/1", "/dnsaddr/example.com/tcp/2", true),
        (
            "/dnsaddr/example.com/tcp/1<peer>",
            "/ip4/1.2.3.4/tcp/2",
            true,
        ),
        (
            "/dnsaddr/example.com/udp/1/quic-v1",
            "/ip6/2a00::1/udp/2/quic-v1",
            true,
        ),
        (
            "/dns/example.com/tcp/443/wss",
            "/ip4/1.2.3.4/tcp/443/tls/ws",
            true,
        ),
        (
            "/dns/example.com/tcp/1",
            "/ip4/1.2.3.4/udp/1/quic-v1",
            false,
        ),
        ("/dns/example.com/tcp/1", "/ip4/1.2.3.4/tcp/1/ws", false),
        (
            "/dns/example.com/tcp/1",
            "/ip4/1.2.3.4/tcp/1/p2p-circuit",
            false,
        ),
        ("/dns/example.com/tcp/1", "/memory/1/tcp/1", false),
        ("/dnsaddr/example.com<peer>", "/ip4/1.2.3.4/tcp/1", false),
        ("/dns4/example.com/tcp/1", "/ip6/2a00::1/tcp/1", false),
        ("/dns6/example.com/tcp/1", "/ip4/1.2.3.4/tcp/1", false),
        (
            "/dns6/example.com/tcp/1",
            "/ip6/::ffff:1.2.3.4/tcp/1",
            false,
        ),
    ] {
        assert_eq!(
            same_stack(&parse(name), &parse(bare)),
            expected,
            "{name} {bare}"
        );
        assert_eq!(
            same_stack(&parse(bare), &parse(name)),
            expected,
            "{bare} {name}"
        );
    }
}

#[test]
fn sockets_are_shared_among_tcp_and_among_udp_transports() {
    let tcp = [Tcp, WebSocket, SecureWebSocket];
    let udp = [Quic, QuicDraft29, WebTransport, WebRtcDirect];
    for a in tcp {
        assert!(tcp.iter().all(|b| a.shares_socket_with(*b)));
        assert!(!udp.iter().any(|b| a.shares_socket_with(*b)));
    }
    for a in udp {
        assert!(udp.iter().all(|b| a.shares_socket_with(*b)));
    }
    assert!(!Other.shares_socket_with(Other));
    let plain = tcp.into_iter().chain(udp).filter(|t| t.is_plain());
    assert_eq!(plain.collect::<Vec<_>>(), [Tcp, Quic]);
}
