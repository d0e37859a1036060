//! The server over real TCP and QUIC connections, against clients that speak raw bytes.

mod support;

use asynchronous_codec::Framed;
use futures::{SinkExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream,
    identity::Keypair,
    swarm::{ConnectionId, SwarmEvent},
};
use libp2p_autonat_v2::{
    protocol::{
        DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DialBackClientCodec, DialBackResponse,
        DialRequest, DialResponse, DialStatus, Message, MessageCodec, ResponseStatus,
    },
    server::{self, DialBackOutcome, End, Served},
};
use support::{Dials, Node, PATIENCE, RawPeer, recording_swarm, within};

fn config() -> server::Config {
    server::Config::default().with_private_addresses_allowed(true)
}

fn spawn_server(config: server::Config) -> (Node<server::Behaviour>, Dials) {
    let (swarm, dials) =
        recording_swarm(Keypair::generate_ed25519(), server::Behaviour::new(config));
    (Node::spawn(swarm), dials)
}

async fn served(server: &mut Node<server::Behaviour>) -> Box<Served> {
    server
        .event("a served request", |event| match event {
            SwarmEvent::Behaviour(server::Event::Served(served)) => Some(served.clone()),
            _ => None,
        })
        .await
}

async fn ask(
    client: &mut RawPeer,
    connection: ConnectionId,
    addrs: &[Multiaddr],
    nonce: u64,
) -> Framed<Stream, MessageCodec> {
    let stream = client
        .open(connection, DIAL_REQUEST_PROTOCOL)
        .await
        .expect("the server speaks the protocol");
    let mut framed = Framed::new(stream, MessageCodec::default());
    framed
        .send(Message::DialRequest(DialRequest::new(
            addrs.iter().cloned(),
            nonce,
        )))
        .await
        .expect("the request is sent");
    framed
}

async fn answer(framed: &mut Framed<Stream, MessageCodec>) -> DialResponse {
    match within(PATIENCE, "an answer", framed.next()).await {
        Some(Ok(Message::DialResponse(response))) => response,
        other => panic!("not an answer: {other:?}"),
    }
}

/// Takes the dial-back, acknowledges it and returns the nonce.
async fn acknowledge(client: &mut RawPeer) -> (PeerId, ConnectionId, u64) {
    let (peer, connection, stream) = client.accept().await;
    let mut framed = Framed::new(stream, DialBackClientCodec::new());
    let dial_back = within(PATIENCE, "the nonce", framed.next())
        .await
        .expect("a message")
        .expect("a nonce");
    framed
        .send(DialBackResponse::default())
        .await
        .expect("the answer is sent");
    framed.close().await.expect("the stream closes");
    (peer, connection, dial_back.nonce)
}

async fn an_address_is_tested(listen: &str) {
    let (mut server, dials) = spawn_server(config());
    let at = server.listen(listen).await;
    let mut client = RawPeer::new(&[DIAL_BACK_PROTOCOL]);
    let addr = client.listen(listen).await;
    let connection = client.connect(at).await;

    let mut request = ask(&mut client, connection, std::slice::from_ref(&addr), 42).await;
    let (peer, dial_back, nonce) = acknowledge(&mut client).await;
    let response = answer(&mut request).await;

    assert_eq!(nonce, 42);
    assert_eq!(peer, server.peer_id);
    assert_eq!(
        response,
        DialResponse {
            status: ResponseStatus::Ok,
            addr_idx: 0,
            dial_status: DialStatus::Ok
        }
    );
    client.closed(dial_back).await;
    let served = served(&mut server).await;
    assert_eq!(served.end, End::Answered);
    assert_eq!(served.dial_back, Some(DialBackOutcome::Delivered));
    assert_eq!(served.tested, Some((0, addr)));
    assert_eq!(dials.all().len(), 1);
}

#[tokio::test]
async fn a_reachable_address_is_tested_over_tcp() {
    an_address_is_tested("/ip4/127.0.0.1/tcp/0").await;
}

#[tokio::test]
async fn a_reachable_address_is_tested_over_quic() {
    an_address_is_tested("/ip4/127.0.0.1/udp/0/quic-v1").await;
}
