//! One dial-back a peer at a time. nim-libp2p takes two connections of a peer by default: that on which it asks and one
//! dial-back.

use std::ops::ControlFlow;

use libp2p::{
    connection_limits::{self, ConnectionLimits},
    swarm::NetworkBehaviour,
};

use super::{
    support::{Raw, RawEvent, swarm},
    *,
};

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct TwoConnections {
    raw: Raw,
    limits: connection_limits::Behaviour,
}

type Client = Node<TwoConnections>;

fn client() -> Client {
    let limits = ConnectionLimits::default().with_max_established_per_peer(Some(2));
    Node::spawn(swarm(
        Keypair::generate_ed25519(),
        TwoConnections {
            raw: Raw::new(&[DIAL_BACK_PROTOCOL]),
            limits: connection_limits::Behaviour::new(limits),
        },
    ))
}

async fn asks(
    client: &mut Client,
    connection: libp2p::swarm::ConnectionId,
    addr: &Multiaddr,
) -> Requests {
    let id = client
        .with(move |swarm| {
            let protocol = libp2p_autonat_v2::protocol::DIAL_REQUEST_PROTOCOL;
            swarm.behaviour_mut().raw.open(connection, protocol)
        })
        .await;
    let stream = client
        .take("a stream", |event| match event {
            SwarmEvent::Behaviour(TwoConnectionsEvent::Raw(RawEvent::Opened {
                id: opened,
                result,
            })) if opened == id => ControlFlow::Break(result.expect("the server serves")),
            other => ControlFlow::Continue(other),
        })
        .await;
    ask_on(stream, std::slice::from_ref(addr), 1).await
}

async fn acknowledges(client: &mut Client) {
    let stream = client
        .take("a dial-back", |event| match event {
            SwarmEvent::Behaviour(TwoConnectionsEvent::Raw(RawEvent::Inbound {
                stream, ..
            })) => ControlFlow::Break(stream),
            other => ControlFlow::Continue(other),
        })
        .await;
    let mut dial_back = Framed::new(stream, DialBackClientCodec::new());
    dial_back.next().await.expect("a message").expect("a nonce");
    dial_back.send(Default::default()).await.expect("sent");
    // Until the server closes the connection.
    let _ = dial_back.next().await;
}

#[tokio::test]
async fn two_requests_at_once_of_a_peer_that_takes_two_connections_are_both_answered_right() {
    for listen in [TCP, QUIC] {
        let mut server = Server::on_loopback(Config::default());
        let at = server.listen(listen).await;
        let mut client = client();
        let addr = client.listen(listen).await;
        let connection = client.connect(at).await;
        for _ in 0..5 {
            let mut first = asks(&mut client, connection, &addr).await;
            let mut second = asks(&mut client, connection, &addr).await;
            for _ in 0..2 {
                acknowledges(&mut client).await;
            }
            for request in [&mut first, &mut second] {
                assert_eq!(answer(request).await, dialed(0, DialStatus::Ok), "{listen}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_whose_peer_keeps_another_dial_back_open_is_rejected_in_time() {
    let config = Config::default().with_request_timeout(Duration::from_secs(6));
    let (mut server, mut client, connection) = pair(TCP, config).await;
    let addr = client.listen(TCP).await;
    let addrs = std::slice::from_ref(&addr);
    let mut first = ask(&mut client, connection, addrs, 1).await;
    let (_, _, _held) = client.accept().await;
    let mut second = ask(&mut client, connection, addrs, 2).await;
    assert_eq!(
        answer(&mut second).await,
        not_dialed(ResponseStatus::RequestRejected)
    );
    assert_eq!(server.served().await.limit, Some(Limit::DialsOfPeer));
    assert_eq!(
        answer(&mut first).await,
        dialed(0, DialStatus::DialBackError)
    );
    assert_eq!(server.dials.all().len(), 1);
    server.is_idle().await;
}
