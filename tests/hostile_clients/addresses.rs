//! What a client must not be able to make the server dial.

use libp2p::swarm::{FromSwarm, NetworkBehaviour as _, NewExternalAddrCandidate, Swarm};

use super::*;

#[tokio::test]
async fn private_addresses() {
    are_refused(
        &[
            "/ip4/10.0.0.1/tcp/22",
            "/ip4/172.16.0.1/tcp/22",
            "/ip4/172.31.255.254/tcp/22",
            "/ip4/192.168.0.1/tcp/80",
            "/ip4/192.168.1.1/udp/53/quic-v1",
        ],
        is(IpScope::Private),
    )
    .await;
}

#[tokio::test]
async fn loopback_addresses() {
    are_refused(
        &[
            "/ip4/127.0.0.1/tcp/6379",
            "/ip4/127.1.2.3/tcp/80",
            "/ip4/127.0.0.1/udp/1/quic-v1",
            "/ip6/::1/tcp/80",
        ],
        is(IpScope::Loopback),
    )
    .await;
}

#[tokio::test]
async fn link_local_addresses_and_the_metadata_service_of_clouds() {
    are_refused(
        &[
            "/ip4/169.254.169.254/tcp/80",
            "/ip4/169.254.0.1/tcp/80",
            "/ip6/fe80::1/tcp/80",
        ],
        is(IpScope::LinkLocal),
    )
    .await;
}

#[tokio::test]
async fn multicast_addresses() {
    are_refused(
        &[
            "/ip4/224.0.0.251/udp/5353/quic-v1",
            "/ip4/239.255.255.250/udp/1900/quic-v1",
            "/ip6/ff02::fb/udp/5353/quic-v1",
            "/ip6/ff0e::1/tcp/1",
        ],
        is(IpScope::Multicast),
    )
    .await;
}

#[tokio::test]
async fn broadcast_unspecified_and_reserved_addresses() {
    are_refused(
        &[
            "/ip4/255.255.255.255/udp/9/quic-v1",
            "/ip4/0.0.0.0/tcp/22",
            "/ip4/0.1.2.3/tcp/22",
            "/ip4/240.0.0.1/tcp/22",
            "/ip6/::/tcp/22",
        ],
        |reason| matches!(reason, PassedOver::NotPublic(_)),
    )
    .await;
}

#[tokio::test]
async fn documentation_and_benchmarking_addresses() {
    are_refused(
        &[
            "/ip4/192.0.2.1/tcp/1",
            "/ip4/198.51.100.1/tcp/1",
            "/ip4/203.0.113.1/tcp/1",
            "/ip6/2001:db8::1/tcp/1",
            "/ip4/198.18.0.1/tcp/1",
        ],
        |reason| is(IpScope::Documentation)(reason) || is(IpScope::Benchmarking)(reason),
    )
    .await;
}

#[tokio::test]
async fn shared_and_unique_local_addresses() {
    are_refused(
        &[
            "/ip4/100.64.0.1/tcp/1",
            "/ip6/fd00::1/tcp/1",
            "/ip6/fc00::1/tcp/1",
        ],
        |reason| is(IpScope::Shared)(reason) || is(IpScope::UniqueLocal)(reason),
    )
    .await;
}

#[tokio::test]
async fn private_addresses_mapped_into_ipv6() {
    are_refused(
        &[
            "/ip6/::ffff:10.0.0.1/tcp/1",
            "/ip6/::ffff:127.0.0.1/tcp/1",
            "/ip6/::ffff:192.168.1.1/udp/1/quic-v1",
            "/ip6/::10.0.0.1/tcp/1",
        ],
        |reason| matches!(reason, PassedOver::NotPublic(_)),
    )
    .await;
}

#[tokio::test]
async fn private_addresses_wrapped_by_nat64() {
    are_refused(
        &[
            "/ip6/64:ff9b::a00:1/tcp/1",
            "/ip6/64:ff9b::7f00:1/tcp/1",
            "/ip6/64:ff9b:1::a00:1/tcp/1",
        ],
        |reason| matches!(reason, PassedOver::NotPublic(_)),
    )
    .await;
}

#[tokio::test]
async fn private_addresses_wrapped_by_6to4_and_teredo() {
    are_refused(
        &[
            "/ip6/2002:a00:1::1/tcp/1",
            "/ip6/2002:7f00:1::1/tcp/1",
            "/ip6/2002:c0a8:101::1/tcp/1",
            // Server 20.1.0.1, client 10.0.0.1 with its bits flipped.
            "/ip6/2001:0:1401:1::f5ff:fffe/tcp/1",
        ],
        |reason| matches!(reason, PassedOver::NotPublic(_)),
    )
    .await;
}

#[tokio::test]
async fn two_ips_in_one_address() {
    are_refused(
        &[
            "/ip4/20.66.0.1/tcp/1/ip4/127.0.0.1/tcp/2",
            "/ip4/20.66.0.1/ip4/10.0.0.1/tcp/2",
            "/ip4/20.66.0.1/tcp/1/ip6/::1/tcp/2",
            "/ip4/20.66.0.1/tcp/1/dns4/localhost/tcp/2",
        ],
        |reason| reason == PassedOver::SeveralIps,
    )
    .await;
}

#[tokio::test]
async fn circuit_addresses() {
    let relay = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
    are_refused(
        &[
            &format!("/ip4/20.66.0.1/tcp/1/p2p/{relay}/p2p-circuit"),
            &format!("/ip4/20.66.0.1/tcp/1/p2p/{relay}/p2p-circuit/p2p/{relay}"),
            &format!("/p2p/{relay}/p2p-circuit"),
            "/ip4/20.66.0.1/tcp/1/p2p-circuit",
        ],
        |reason| reason == PassedOver::Relayed,
    )
    .await;
}

#[tokio::test]
async fn another_peers_id() {
    let other = PeerId::random();
    are_refused(
        &[
            &format!("/ip4/20.66.0.1/tcp/1/p2p/{other}"),
            &format!("/ip4/20.66.0.1/udp/1/quic-v1/p2p/{other}"),
            &format!("/p2p/{other}/ip4/20.66.0.1/tcp/1"),
        ],
        |reason| reason == PassedOver::OtherPeer,
    )
    .await;
}

#[tokio::test]
async fn names() {
    are_refused(
        &[
            "/dns4/localhost/tcp/22",
            "/dns6/localhost/tcp/22",
            "/dns/metadata.google.internal/tcp/80",
            "/dnsaddr/bootstrap.libp2p.io",
            "/dns4/example.com/tcp/443/wss",
        ],
        |reason| reason == PassedOver::Name,
    )
    .await;
}

/// A peer tells the server that it sees it under this address.
fn observed(swarm: &mut Swarm<libp2p_autonat_v2::server::Behaviour>, addr: &str) {
    let addr = &addr.parse().expect("valid");
    let candidate = NewExternalAddrCandidate { addr };
    let behaviour = swarm.behaviour_mut();
    behaviour.on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
}

#[tokio::test]
async fn hosts_on_the_servers_own_lan() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    server
        .node
        .with(|swarm| swarm.add_external_address("/ip6/2a00:9::1/tcp/4001".parse().expect("valid")))
        .await;
    let addrs = [
        "/ip6/2a00:9::2/tcp/4001",
        "/ip6/2a00:9::ffff:1/udp/4001/quic-v1",
        "/ip6/2a00:9::1/tcp/22",
    ];
    let addrs = addrs.map(|text| text.parse().expect("valid"));
    let mut request = ask(&mut attacker, connection, &addrs, 1).await;
    assert_eq!(
        answer(&mut request).await,
        not_dialed(ResponseStatus::DialRefused)
    );
    assert_eq!(
        server.served().await.passed_over,
        [
            (0, PassedOver::OwnNetwork),
            (1, PassedOver::OwnNetwork),
            (2, PassedOver::OwnIp)
        ]
    );
    dialed_nothing_and_serves_on(server).await;
}

#[tokio::test]
async fn a_stranger_that_sees_the_server_in_anothers_network_shuts_out_one_ip_and_no_network() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    server
        .node
        .with(|swarm| observed(swarm, "/ip6/2a00:9::1/tcp/4001"))
        .await;
    let addrs = ["/ip6/2a00:9::1/tcp/4001", "/ip6/2a00:9::2/tcp/4001"];
    let addrs = addrs.map(|text| text.parse().expect("valid"));
    let mut request = ask(&mut attacker, connection, &addrs, 1).await;
    answer(&mut request).await;
    assert_eq!(
        server.served().await.passed_over,
        [
            (0, PassedOver::OwnIp),
            // The server listens on IPv4 only, and this would pass otherwise.
            (
                1,
                PassedOver::CannotDial(libp2p_autonat_v2::address::Transport::Tcp)
            ),
        ]
    );
}

#[tokio::test]
async fn the_servers_own_addresses() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let mut addrs = server
        .node
        .with(|swarm| {
            swarm.add_external_address("/ip4/20.0.0.99/tcp/4001".parse().expect("valid"));
            // As identify does with what a peer observes: the server's NAT, which none of its listeners knows.
            observed(swarm, "/ip4/20.0.0.98/tcp/50000");
            swarm.listeners().cloned().collect::<Vec<_>>()
        })
        .await;
    assert_eq!(addrs.len(), 2);
    addrs.extend([
        "/ip4/20.0.0.1/tcp/22".parse().expect("valid"),
        "/ip4/20.0.0.99/tcp/22".parse().expect("valid"),
        "/ip4/20.0.0.98/tcp/80".parse().expect("valid"),
        "/ip6/::ffff:20.0.0.1/tcp/22".parse().expect("valid"),
        "/ip6/64:ff9b::1400:1/tcp/22".parse().expect("valid"),
    ]);
    let mut request = ask(&mut attacker, connection, &addrs, 1).await;
    assert_eq!(
        answer(&mut request).await,
        not_dialed(ResponseStatus::DialRefused)
    );
    let served = server.served().await;
    let reasons: Vec<_> = served
        .passed_over
        .iter()
        .map(|(_, reason)| *reason)
        .collect();
    assert_eq!(reasons, [PassedOver::OwnIp; 7]);
    dialed_nothing_and_serves_on(server).await;
}

#[tokio::test]
async fn port_zero_and_no_port() {
    are_refused(
        &[
            "/ip4/20.66.0.1/tcp/0",
            "/ip4/20.66.0.1/udp/0/quic-v1",
            "/ip4/20.66.0.1",
        ],
        |reason| reason == PassedOver::NoPort,
    )
    .await;
}

#[tokio::test]
async fn ports_of_other_protocols_on_somebody_elses_host() {
    are_refused(
        &[
            "/ip4/20.66.0.2/tcp/22",
            "/ip4/20.66.0.2/tcp/25",
            "/ip4/20.66.0.2/udp/53/quic-v1",
            "/ip4/20.66.0.2/udp/123/quic-v1",
            "/ip6/::ffff:20.66.0.2/tcp/25",
            "/ip6/64:ff9b::1442:2/tcp/25",
        ],
        |reason| matches!(reason, PassedOver::BadPort(22 | 25 | 53 | 123)),
    )
    .await;
}

#[tokio::test]
async fn http_requests_to_somebody_elses_host() {
    are_refused(
        &[
            "/ip4/20.66.0.2/tcp/80/x-parity-ws/%2Fadmin%3Freboot",
            "/ip4/20.66.0.2/tcp/443/x-parity-wss/%2Fadmin",
            "/ip4/20.66.0.2/tcp/443/tls/x-parity-ws/%2Fadmin",
        ],
        |reason| reason == PassedOver::Path,
    )
    .await;
}

#[tokio::test]
async fn transports_that_the_server_does_not_have() {
    are_refused(
        &[
            "/ip4/20.66.0.1/tcp/1/ws",
            "/ip4/20.66.0.1/tcp/1/tls/ws",
            "/ip4/20.66.0.1/udp/1/quic",
            "/ip4/20.66.0.1/udp/1/quic-v1/webtransport",
            "/ip4/20.66.0.1/sctp/1",
            "/ip4/20.66.0.1/tcp/1/http",
            "/ip6/2606:4700::1/tcp/4001",
        ],
        |reason| {
            matches!(
                reason,
                PassedOver::CannotDial(_) | PassedOver::UnknownTransport | PassedOver::NoPort
            )
        },
    )
    .await;
}

#[tokio::test]
async fn an_ornamented_address_that_makes_the_transport_refuse_its_kind() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let hash = "uEiDikp5KVUgkLta1EjUN-IKbHk-dUBg8VzKgf5nXxLK46w";
    for text in [
        "/ip4/20.66.0.1/tcp/1/certhash/HASH",
        "/ip4/20.66.0.1/tcp/1/sni/example.com",
        "/ip4/20.66.0.1/udp/1/quic-v1/certhash/HASH",
        "/ip4/20.66.0.1/tcp/443/wss/certhash/HASH",
        "/ip4/20.66.0.1/tcp/80/certhash/HASH/ws",
        "/ip4/20.66.0.1/tcp/443/tls/sni/not a name/ws",
        "/ip4/20.66.0.1/udp/1/webrtc-direct",
    ] {
        let addr = text.replace("HASH", hash).parse().expect("valid");
        let mut request = ask(&mut attacker, connection, &[addr], 1).await;
        let response = answer(&mut request).await;
        assert_eq!(response, not_dialed(ResponseStatus::DialRefused), "{text}");
        let reasons = server.served().await.passed_over;
        assert_eq!(reasons, [(0, PassedOver::UnknownTransport)], "{text}");
    }
    assert_eq!(server.dials.all(), []);
    server.is_idle().await;
    // TCP is still dialed for others; the server has no success of its own to go by.
    let at = server
        .node
        .with(|swarm| swarm.listeners().cloned().collect::<Vec<_>>())
        .await
        .into_iter()
        .find(|addr| addr.to_string().contains("tcp"))
        .expect("listens on TCP");
    let mut honest = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let addr = honest.listen("/ip4/127.0.0.1/tcp/0").await;
    let connection = honest.connect(support::loopback(&at)).await;
    let mut request = ask(&mut honest, connection, &[public(&addr)], 1).await;
    acknowledge(&mut honest).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
}

#[tokio::test]
async fn bytes_in_place_of_addresses() {
    let (mut server, mut attacker, connection) = attacked(Config::default()).await;
    let mut stream = open_request(&mut attacker, connection).await;
    let mut request = Vec::new();
    for length in 0..60u8 {
        request.extend_from_slice(&[0x0a, length]);
        request.extend(std::iter::repeat_n(0xff, length.into()));
    }
    request.extend_from_slice(&[0x11, 1, 0, 0, 0, 0, 0, 0, 0]);
    let mut message = vec![0x0a];
    let mut length = unsigned_varint::encode::usize_buffer();
    message.extend_from_slice(unsigned_varint::encode::usize(request.len(), &mut length));
    message.extend_from_slice(&request);
    send(&mut stream, &frame(&message)).await.expect("sent");
    let mut request = Framed::new(stream, MessageCodec::default());
    assert_eq!(
        answer(&mut request).await,
        not_dialed(ResponseStatus::DialRefused)
    );
    let served = server.served().await;
    assert_eq!(served.asked_in_all, 60);
    assert_eq!(
        served.passed_over.len(),
        50,
        "no more than may be inspected"
    );
    assert!(
        served
            .passed_over
            .iter()
            .all(|(_, reason)| *reason == PassedOver::Unparsable)
    );
    dialed_nothing_and_serves_on(server).await;
}
