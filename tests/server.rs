//! The server over real TCP and QUIC connections, against clients that speak raw bytes.

#[path = "server/fresh_ports.rs"]
mod fresh_ports;
#[path = "server/limits.rs"]
mod limits;
#[cfg(target_os = "linux")]
#[path = "server/own_host.rs"]
mod own_host;
#[path = "server/relayed.rs"]
mod relayed;
mod support;
#[path = "server/switch.rs"]
mod switch;
#[path = "server/timing.rs"]
mod timing;
#[path = "server/turns.rs"]
mod turns;

use std::time::Duration;

use asynchronous_codec::Framed;
use futures::{SinkExt, StreamExt};
use libp2p::{
    Multiaddr,
    core::transport::ListenerId,
    identity::Keypair,
    swarm::{
        FromSwarm, NetworkBehaviour as _, SwarmEvent, behaviour::NewListenAddr, dial_opts::DialOpts,
    },
};
use libp2p_autonat_v2::{
    address::{IpFamily, Transport},
    protocol::{
        DIAL_BACK_PROTOCOL, DialBackClientCodec, DialStatus, Message, MessageCodec, ResponseStatus,
    },
    server::{
        self, Config, DialBackOutcome, End, Limit, Misbehaviour, NotDelivered, NotDialed,
        PassedOver,
    },
};
use support::{
    Node, PATIENCE, RawPeer, Scope, autonat::*, frame, from_new_port, public, read_to_end,
    recording_swarm, send, within,
};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A server with default limits and a client that is connected to it, on one transport.
async fn pair(listen: &str, config: Config) -> (Server, RawPeer, libp2p::swarm::ConnectionId) {
    let mut server = Server::on_loopback(config);
    let at = server.listen(listen).await;
    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let connection = client.connect(at).await;
    (server, client, connection)
}

/// An address of this host where nobody listens, nor will while the socket is kept.
fn closed_port(ip: &str) -> (tokio::net::TcpSocket, Multiaddr) {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    let any_port = format!("{ip}:0").parse().expect("valid");
    socket.bind(any_port).expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    let addr = format!("/ip4/{ip}/tcp/{port}").parse().expect("valid");
    (socket, addr)
}

/// No wait between dial data and dial.
fn prompt() -> Config {
    Config::default().with_max_delay_after_dial_data(Duration::ZERO)
}

async fn an_address_is_tested(listen: &str) {
    let (mut server, mut client, connection) = pair(listen, Config::default()).await;
    let addr = client.listen(listen).await;

    let mut request = ask(&mut client, connection, std::slice::from_ref(&addr), 42).await;
    let (peer, dial_back, nonce) = acknowledge(&mut client).await;

    assert_eq!(nonce, 42);
    assert_eq!(peer, server.node.peer_id);
    let from = client.remote_address(dial_back).await;
    let listens_on = server
        .node
        .with(|swarm| swarm.listeners().cloned().collect::<Vec<_>>())
        .await;
    assert!(!listens_on.contains(&from), "{from} is not a new port");
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
    ends_without_a_message(&mut request).await;
    client.closed_promptly(dial_back).await;

    let served = server.served().await;
    assert_eq!(served.client, client.peer_id);
    assert_eq!(served.end, End::Answered);
    assert_eq!(served.status, Some(ResponseStatus::Ok));
    assert_eq!(served.dial_status, Some(DialStatus::Ok));
    assert_eq!(served.dial_back, Some(DialBackOutcome::Delivered));
    assert_eq!(served.tested, Some((0, addr)));
    assert_eq!(served.dial_data_requested, 0, "the IP is the observed one");
    assert_eq!(server.dials.all().len(), 1);
    server.is_idle().await;
}

#[tokio::test]
async fn a_reachable_address_is_tested_over_tcp() {
    an_address_is_tested(TCP).await;
}

#[tokio::test]
async fn a_reachable_address_is_tested_over_quic() {
    an_address_is_tested(QUIC).await;
}

async fn another_ip_is_paid_for(listen: &str, other: &str) {
    let (mut server, mut client, connection) = pair(listen, prompt()).await;
    let addr = client.listen(other).await;

    let mut request = ask(&mut client, connection, &[addr], 42).await;
    let data = dial_data_request(&mut request).await;
    assert_eq!(data.addr_idx, 0);
    assert!((30_000..=100_000).contains(&data.num_bytes));
    assert!(
        server.dials.all().is_empty(),
        "not dialed before it is paid"
    );
    pay(&mut request, data.num_bytes).await;

    let (_, dial_back, nonce) = acknowledge(&mut client).await;
    assert_eq!(nonce, 42);
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
    client.closed_promptly(dial_back).await;
    assert_eq!(server.dials.all().len(), 1);
    let served = server.served().await;
    assert_eq!(served.dial_data_requested, data.num_bytes);
    assert_eq!(served.dial_data_received, data.num_bytes);
}

#[tokio::test]
async fn another_ip_than_the_observed_one_is_paid_for_over_tcp() {
    another_ip_is_paid_for(TCP, "/ip4/127.0.0.2/tcp/0").await;
}

#[tokio::test]
async fn another_ip_than_the_observed_one_is_paid_for_over_quic() {
    another_ip_is_paid_for(QUIC, "/ip4/127.0.0.2/udp/0/quic-v1").await;
}

#[tokio::test]
async fn the_last_message_of_dial_data_may_overshoot() {
    let (mut server, mut client, connection) = pair(TCP, prompt()).await;
    let addr = client.listen("/ip4/127.0.0.2/tcp/0").await;
    let mut request = ask(&mut client, connection, &[addr], 42).await;
    let data = dial_data_request(&mut request).await;

    // As js-libp2p does: whole messages of 4,096 bytes.
    let messages = data.num_bytes.div_ceil(4096);
    pay(&mut request, messages * 4096).await;

    let (_, dial_back, _) = acknowledge(&mut client).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
    client.closed_promptly(dial_back).await;
    assert_eq!(server.served().await.dial_data_received, messages * 4096);
}

#[tokio::test]
async fn the_first_address_that_passes_is_dialed_and_no_other() {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    let first = client.listen(TCP).await;
    let second = client.listen(TCP).await;
    let udp: Multiaddr = "/ip4/127.0.0.1/udp/9/quic-v1".parse().expect("valid");

    let mut request = ask(&mut client, connection, &[udp, first.clone(), second], 7).await;
    acknowledge(&mut client).await;
    assert_eq!(answer(&mut request).await, dialed(1, DialStatus::Ok));
    ends_without_a_message(&mut request).await;

    let served = server.served().await;
    assert_eq!(served.tested, Some((1, first)));
    assert_eq!(served.asked_in_all, 3);
    assert!(
        matches!(served.passed_over[..], [(0, PassedOver::CannotDial(_))]),
        "a server without a QUIC listener has no evidence that it can dial QUIC"
    );
    assert_eq!(server.dials.all().len(), 1);
}

#[tokio::test]
async fn an_address_that_does_not_parse_keeps_its_index() {
    let (server, mut client, connection) = pair(TCP, Config::default()).await;
    let addr = client.listen(TCP).await;
    let stream = open_request(&mut client, connection).await;
    let mut request = Framed::new(stream, MessageCodec::default());
    // Field 1 three times: two addresses that do not parse, one that does; field 2 is the nonce.
    let mut inner = vec![0x0a, 2, 0xff, 0xff, 0x0a, 0, 0x0a, addr.len() as u8];
    inner.extend_from_slice(addr.as_ref());
    inner.extend_from_slice(&[0x11, 5, 0, 0, 0, 0, 0, 0, 0]);
    let mut message = vec![0x0a, inner.len() as u8];
    message.extend_from_slice(&inner);
    send(&mut request, &frame(&message)).await.expect("sent");

    let (_, _, nonce) = acknowledge(&mut client).await;
    assert_eq!(nonce, 5);
    assert_eq!(answer(&mut request).await, dialed(2, DialStatus::Ok));
    drop(server);
}

#[tokio::test]
async fn a_request_without_addresses_is_refused() {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    let mut request = ask(&mut client, connection, &[], 7).await;
    assert_eq!(
        answer(&mut request).await,
        not_dialed(ResponseStatus::DialRefused)
    );
    let served = server.served().await;
    assert_eq!(served.status, Some(ResponseStatus::DialRefused));
    assert_eq!(served.dial_back, None);
}

#[tokio::test]
async fn a_closed_port_is_a_dial_error() {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    let (_socket, addr) = closed_port("127.0.0.1");
    let mut request = ask(&mut client, connection, &[addr], 7).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
    assert_eq!(
        server.served().await.dial_back,
        Some(DialBackOutcome::DialFailed(
            std::io::ErrorKind::ConnectionRefused
        ))
    );
    server.is_idle().await;
}

#[tokio::test]
async fn a_target_that_never_finishes_the_handshake_is_a_dial_error_in_time() {
    let config = Config::default().with_dial_timeout(Duration::from_millis(300));
    let (mut server, mut client, connection) = pair(TCP, config).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let addr = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid");

    let mut request = ask(&mut client, connection, &[addr], 7).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
    assert_eq!(
        server.served().await.dial_back,
        Some(DialBackOutcome::DialTimedOut)
    );
    assert_eq!(
        server.load().await.dials,
        1,
        "the dial cannot be called back"
    );
    drop(silent);
    server.is_idle().await;
}

#[tokio::test]
async fn an_abandoned_dial_that_succeeds_late_is_closed() {
    let config = Config::default().with_dial_timeout(Duration::from_millis(200));
    let (server, mut client, connection) = pair(TCP, config).await;
    let addr = client.listen("/ip4/127.0.0.1/tcp/0").await;
    // A gate in front of the client, which lets the dial through only after the server gave it up.
    let gate = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let port = gate.local_addr().expect("bound").port();
    let gated = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("valid");

    let mut request = ask(&mut client, connection, &[gated], 7).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));

    let inside = addr
        .to_string()
        .rsplit('/')
        .next()
        .and_then(|port| port.parse::<u16>().ok())
        .expect("a port");
    let (mut outer, _) = gate.accept().await.expect("the dial is waiting");
    let mut inner = tokio::net::TcpStream::connect(("127.0.0.1", inside))
        .await
        .expect("the client listens");
    let relay = tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
    });
    let late = client.connected_by(server.node.peer_id).await;
    client.closed_promptly(late).await;
    server.is_idle().await;
    relay.abort();
}

#[tokio::test]
async fn another_peer_at_the_address_is_a_dial_error() {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    let mut other = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let addr = other.listen(TCP).await;
    let mut request = ask(&mut client, connection, &[addr], 7).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
    assert_eq!(
        server.served().await.dial_back,
        Some(DialBackOutcome::WrongPeer(other.peer_id))
    );
}

#[tokio::test]
async fn a_client_without_the_dial_back_protocol_is_a_dial_back_error() {
    let mut server = Server::on_loopback(Config::default());
    let at = server.listen(TCP).await;
    let mut client = RawPeer::new(&[]);
    let addr = client.listen(TCP).await;
    let connection = client.connect(at).await;
    let mut request = ask(&mut client, connection, &[addr], 7).await;
    let dial_back = client.connected_by(server.node.peer_id).await;
    assert_eq!(
        answer(&mut request).await,
        dialed(0, DialStatus::DialBackError)
    );
    assert_eq!(
        server.served().await.dial_back,
        Some(DialBackOutcome::NotDelivered(
            NotDelivered::ProtocolNotSupported
        ))
    );
    client.closed_promptly(dial_back).await;
    server.is_idle().await;
}

#[tokio::test]
async fn a_client_that_resets_right_after_the_response_byte_has_the_nonce() {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    let addr = client.listen(TCP).await;
    let mut request = ask(&mut client, connection, &[addr], 7).await;
    let (_, dial_back, stream) = client.accept().await;
    let mut framed = Framed::new(stream, DialBackClientCodec::new());
    within(PATIENCE, "the nonce", framed.next())
        .await
        .expect("a message")
        .expect("a nonce");
    let mut stream = framed.into_inner();
    send(&mut stream, &[0]).await.expect("sent");
    drop(stream);
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
    client.closed_promptly(dial_back).await;
    assert_eq!(
        server.served().await.dial_back,
        Some(DialBackOutcome::Delivered)
    );
}

#[tokio::test]
async fn a_dial_that_another_behaviour_forbids_is_a_rejection_and_says_nothing_about_the_address() {
    use libp2p::swarm::NetworkBehaviour;

    #[derive(NetworkBehaviour)]
    #[behaviour(prelude = "libp2p::swarm::derive_prelude")]
    struct Limited {
        server: server::Behaviour,
        limits: libp2p::connection_limits::Behaviour,
    }

    let limits = libp2p::connection_limits::ConnectionLimits::default()
        .with_max_established_outgoing(Some(0));
    let behaviour = Limited {
        server: server::Behaviour::new(Config::default().with_private_addresses(true)),
        limits: libp2p::connection_limits::Behaviour::new(limits),
    };
    let (swarm, _) = recording_swarm(Keypair::generate_ed25519(), behaviour, Scope::Loopback);
    let mut server = Node::spawn(swarm);
    let at = server.listen(TCP).await;
    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let addr = client.listen(TCP).await;
    let connection = client.connect(at).await;

    let mut request = ask(&mut client, connection, &[addr], 7).await;
    assert_eq!(
        answer(&mut request).await,
        not_dialed(ResponseStatus::RequestRejected)
    );
    let outcome = server
        .event("a served request", |event| match event {
            SwarmEvent::Behaviour(LimitedEvent::Server(server::Event::Served(served))) => {
                Some(served.dial_back)
            }
            _ => None,
        })
        .await;
    assert_eq!(outcome, Some(DialBackOutcome::NotDialed(NotDialed::Denied)));
}

#[tokio::test]
async fn a_transport_that_the_node_lacks_is_refused_and_remembered() {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    // The server believes that it dials WebSocket, since it listens there; but it has no such transport.
    server
        .node
        .with(|swarm| {
            let behaviour: &mut server::Behaviour = swarm.behaviour_mut();
            behaviour.on_swarm_event(FromSwarm::NewListenAddr(NewListenAddr {
                listener_id: ListenerId::next(),
                addr: &"/ip4/127.0.0.1/tcp/9/ws".parse().expect("valid"),
            }));
        })
        .await;
    let ws: Multiaddr = "/ip4/127.0.0.1/tcp/9/ws".parse().expect("valid");
    for (dial_back, passed_over) in [
        (
            Some(DialBackOutcome::NotDialed(NotDialed::NotSupported)),
            vec![],
        ),
        (
            None,
            vec![(0, PassedOver::CannotDial(Transport::WebSocket))],
        ),
    ] {
        let mut request = ask(&mut client, connection, std::slice::from_ref(&ws), 7).await;
        assert_eq!(
            answer(&mut request).await,
            not_dialed(ResponseStatus::DialRefused)
        );
        let served = server.served().await;
        assert_eq!(served.dial_back, dial_back);
        assert_eq!(served.passed_over, passed_over);
        assert_eq!(server.dials.all().len(), 1);
    }
    // TCP is another matter.
    let (_socket, tcp) = closed_port("127.0.0.1");
    let mut request = ask(&mut client, connection, &[tcp], 7).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
}

#[tokio::test]
async fn the_operators_word_outweighs_what_a_transport_says() {
    // The operator says that the node dials WebSocket, but it has no such transport.
    let config = Config::default().with_dialable([(IpFamily::V4, Transport::WebSocket)]);
    let (mut server, mut client, connection) = pair(TCP, config).await;
    let ws: Multiaddr = "/ip4/127.0.0.1/tcp/9/ws".parse().expect("valid");
    for dials in 1..=2 {
        let mut request = ask(&mut client, connection, std::slice::from_ref(&ws), 7).await;
        assert_eq!(
            answer(&mut request).await,
            not_dialed(ResponseStatus::DialRefused)
        );
        let dial_back = server.served().await.dial_back;
        let not_supported = DialBackOutcome::NotDialed(NotDialed::NotSupported);
        assert_eq!(dial_back, Some(not_supported));
        assert_eq!(server.dials.all().len(), dials);
    }
}

#[tokio::test]
async fn a_firewall_before_the_server_is_not_blamed_on_clients_for_long() {
    let config = prompt()
        .with_dial_timeout(Duration::from_millis(300))
        .with_max_dial_data_requests_per_minute_per_neighbourhood(12);
    let mut server = Server::in_public(config);
    server.listen(TCP).await;
    server.listen(QUIC).await;
    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let connection = server.connects_to(&mut client, "127.66.0.1").await;
    for n in 0..9 {
        let silent = std::net::UdpSocket::bind((format!("127.{}.0.1", 100 + n), 0));
        let silent = silent.expect("a free port");
        let port = silent.local_addr().expect("bound").port();
        let addr = format!("/ip4/20.{}.0.1/udp/{port}/quic-v1", 100 + n);
        let addr = addr.parse().expect("valid");
        let mut request = ask(&mut client, connection, &[addr], 1).await;
        if n < 8 {
            let data = dial_data_request(&mut request).await;
            pay(&mut request, data.num_bytes).await;
            assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
        } else {
            let refused = not_dialed(ResponseStatus::DialRefused);
            assert_eq!(answer(&mut request).await, refused);
        }
    }
}

#[tokio::test]
async fn a_client_may_half_close_after_its_request() {
    let (_server, mut client, connection) = pair(TCP, Config::default()).await;
    let addr = client.listen(TCP).await;
    let mut request = ask(&mut client, connection, &[addr], 7).await;
    request.close().await.expect("the stream half-closes");
    acknowledge(&mut client).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
}

async fn a_reset_cancels_the_request(listen: &str) {
    // No deadline strikes before the test loses patience.
    let config = Config::default()
        .with_request_timeout(2 * PATIENCE)
        .with_dial_back_timeout(2 * PATIENCE);
    let (mut server, mut client, connection) = pair(listen, config).await;
    let addr = client.listen(listen).await;
    let request = ask(&mut client, connection, &[addr], 7).await;
    let (_, dial_back, _stream) = client.accept().await;
    drop(request);
    assert_eq!(server.served().await.end, End::ClientLeft);
    client.closed_promptly(dial_back).await;
    server.is_idle().await;
}

#[tokio::test]
async fn a_reset_request_is_cancelled_and_its_dial_back_closed_over_tcp() {
    a_reset_cancels_the_request(TCP).await;
}

#[tokio::test]
async fn a_reset_request_is_cancelled_and_its_dial_back_closed_over_quic() {
    a_reset_cancels_the_request(QUIC).await;
}

#[tokio::test]
async fn the_connection_of_a_client_closes_and_nothing_is_left() {
    for listen in [TCP, QUIC] {
        let (mut server, mut client, connection) = pair(listen, Config::default()).await;
        let addr = client.listen(listen).await;
        let _request = ask(&mut client, connection, &[addr], 7).await;
        let (_, dial_back, _stream) = client.accept().await;
        client
            .with(move |swarm| swarm.close_connection(connection))
            .await;
        assert_eq!(server.served().await.end, End::ClientLeft);
        client.closed_promptly(dial_back).await;
        server.is_idle().await;
    }
}

#[tokio::test]
async fn a_dial_back_that_this_node_closes_says_nothing_about_the_client() {
    for listen in [TCP, QUIC] {
        let (mut server, mut client, connection) = pair(listen, Config::default()).await;
        let addr = client.listen(listen).await;
        let mut request = ask(&mut client, connection, &[addr], 7).await;
        let (_, _, _stream) = client.accept().await;
        let dial_back = server
            .node
            .event("the dial-back", |event| match event {
                SwarmEvent::ConnectionEstablished {
                    connection_id,
                    endpoint,
                    ..
                } if endpoint.is_dialer() => Some(*connection_id),
                _ => None,
            })
            .await;
        // As an application does that blocks the peer, or needs the place.
        server
            .node
            .with(move |swarm| swarm.close_connection(dial_back))
            .await;
        assert_eq!(
            answer(&mut request).await,
            not_dialed(ResponseStatus::InternalError)
        );
        assert_eq!(
            server.served().await.dial_back,
            Some(DialBackOutcome::NotDialed(NotDialed::Aborted))
        );
        server.is_idle().await;
    }
}

#[tokio::test]
async fn a_dial_back_connection_offers_the_protocol_and_serves_nobody() {
    let (_server, mut client, connection) = pair(TCP, Config::default()).await;
    let addr = client.listen(TCP).await;
    let mut request = ask(&mut client, connection, &[addr], 7).await;
    let (_, dial_back, stream) = client.accept().await;
    // go-libp2p keeps the protocols of the connection that it identified last, for the peer.
    let mut second = open_request(&mut client, dial_back).await;
    assert!(read_to_end(&mut second).await.is_empty());
    drop(stream);
    assert_eq!(
        answer(&mut request).await,
        dialed(0, DialStatus::DialBackError)
    );
    client.closed_promptly(dial_back).await;
}

#[tokio::test]
async fn the_third_request_at_once_is_rejected_before_it_is_read() {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    let first = open_request(&mut client, connection).await;
    let second = open_request(&mut client, connection).await;
    let third = open_request(&mut client, connection).await;
    let mut third = Framed::new(third, MessageCodec::default());
    assert_eq!(
        answer(&mut third).await,
        not_dialed(ResponseStatus::RequestRejected)
    );
    let rejected = server.rejected().await;
    assert_eq!(rejected.limit, Limit::ConcurrentOfPeer);
    assert_eq!(rejected.client, client.peer_id);
    drop((first, second));
}

#[tokio::test]
async fn a_rejection_reaches_a_client_that_writes_its_request_first() {
    for listen in [TCP, QUIC] {
        let config = Config::default().with_max_requests_per_minute(0);
        let (_server, mut client, connection) = pair(listen, config).await;
        let addr = client.listen(listen).await;
        for nonce in 0..20 {
            let mut request =
                ask(&mut client, connection, std::slice::from_ref(&addr), nonce).await;
            assert_eq!(
                answer(&mut request).await,
                not_dialed(ResponseStatus::RequestRejected)
            );
            request.close().await.expect("the stream closes");
        }
    }
}

#[tokio::test]
async fn one_target_is_not_dialed_for_ever_more_clients() {
    let config = prompt()
        .with_max_dials_per_minute_per_target(2)
        .with_max_dial_data_requests_per_minute_per_neighbourhood(12);
    let mut server = Server::on_loopback(config);
    let at = server.listen(TCP).await;
    let (_socket, victim) = closed_port("127.9.9.9");
    for n in 0..3 {
        let mut client = RawPeer::new(&[]);
        let connection = client.connect(at.clone()).await;
        let mut request = ask(
            &mut client,
            connection,
            std::slice::from_ref(&victim),
            n + 1,
        )
        .await;
        if n < 2 {
            let data = dial_data_request(&mut request).await;
            pay(&mut request, data.num_bytes).await;
            assert_eq!(answer(&mut request).await, dialed(0, DialStatus::DialError));
        } else {
            assert_eq!(
                answer(&mut request).await,
                not_dialed(ResponseStatus::RequestRejected)
            );
        }
    }
    let limits: Vec<_> = [
        server.served().await.limit,
        server.served().await.limit,
        server.served().await.limit,
    ]
    .into();
    assert_eq!(limits, [None, None, Some(Limit::Target)]);
}

#[tokio::test]
async fn a_first_message_other_than_a_request_is_reset_and_counted() {
    let (mut server, mut client, connection) = pair(TCP, Config::default()).await;
    let stream = open_request(&mut client, connection).await;
    let mut request = Framed::new(stream, MessageCodec::default());
    request
        .send(Message::DialDataResponse { len: 1000 })
        .await
        .expect("sent");
    ends_without_a_message(&mut request).await;
    let served = server.served().await;
    assert_eq!(served.end, End::Misbehaved(Misbehaviour::NotARequest));
    assert_eq!(served.status, None);
    let misbehaved = server.misbehaved().await;
    assert_eq!(misbehaved.cause, Misbehaviour::NotARequest);
    assert_eq!(misbehaved.count, 1);
    assert!(server.dials.all().is_empty());
}

#[tokio::test]
async fn a_dialer_of_its_own_dials_under_another_peer_id() {
    let (dialer, dials) = recording_swarm(
        Keypair::generate_ed25519(),
        server::DialBack::default(),
        Scope::Loopback,
    );
    let dialer_id = *dialer.local_peer_id();
    let config = Config::default().with_private_addresses(true);
    let behaviour = server::Behaviour::with_dialer(config, dialer);
    let mut server = Server::with_behaviour(behaviour, Scope::Loopback);

    for listen in [TCP, QUIC] {
        let at = server.listen(listen).await;
        let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
        let addr = client.listen(listen).await;
        let connection = client.connect(at).await;
        let mut request = ask(&mut client, connection, &[addr], 42).await;
        let (peer, dial_back, nonce) = acknowledge(&mut client).await;
        assert_eq!(peer, dialer_id);
        assert_eq!(nonce, 42);
        assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
        client.closed_promptly(dial_back).await;
        assert_eq!(
            server.served().await.dial_back,
            Some(DialBackOutcome::Delivered)
        );
    }
    assert_eq!(dials.all().len(), 2);
    assert!(
        server.dials.all().is_empty(),
        "the node itself dials nobody"
    );
    server.is_idle().await;
}

#[tokio::test]
async fn a_dialer_of_its_own_takes_no_connection() {
    let (mut dialer, _) = recording_swarm(
        Keypair::generate_ed25519(),
        server::DialBack::default().with_dials_from_listeners(true),
        Scope::Loopback,
    );
    dialer
        .listen_on("/ip4/127.0.0.3/udp/0/quic-v1".parse().expect("valid"))
        .expect("listens");
    let at = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = dialer.select_next_some().await {
            break address;
        }
    };
    let config = prompt().with_private_addresses(true);
    let behaviour = server::Behaviour::with_dialer(config, dialer);
    let mut server = Server::with_behaviour(behaviour, Scope::Loopback);
    let server_at = server.listen(QUIC).await;

    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let stranger = DialOpts::unknown_peer_id().address(at.clone()).build();
    let refused = stranger.connection_id();
    client
        .with(move |swarm| swarm.dial(stranger).expect("the dial starts"))
        .await;
    client
        .event("the dialer refuses", |event| match event {
            SwarmEvent::OutgoingConnectionError { connection_id, .. }
            | SwarmEvent::ConnectionClosed { connection_id, .. }
                if *connection_id == refused =>
            {
                Some(())
            }
            _ => None,
        })
        .await;

    // It dials from its listener, an IP that the client has never contacted.
    let addr = client.listen(QUIC).await;
    let connection = client.connect(server_at).await;
    let mut request = ask(&mut client, connection, &[addr], 42).await;
    let from = client
        .event("the dial-back", |event| match event {
            SwarmEvent::ConnectionEstablished { endpoint, .. } if endpoint.is_listener() => {
                Some(endpoint.get_remote_address().clone())
            }
            _ => None,
        })
        .await;
    assert_eq!(from, at);
    acknowledge(&mut client).await;
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
}
