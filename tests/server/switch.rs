//! A server that is switched off and on, and one that joins a swarm that runs.

use std::ops::ControlFlow;

use libp2p::{
    StreamProtocol, identify,
    swarm::{ConnectionId, NetworkBehaviour, behaviour::toggle::Toggle},
};
use libp2p_autonat_v2::protocol::DIAL_REQUEST_PROTOCOL;

use super::{
    support::{Raw, RawError, RawEvent, swarm},
    *,
};

fn identify(keypair: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(
        "/test/1".to_owned(),
        keypair.public(),
    ))
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct ServerNode {
    identify: identify::Behaviour,
    server: Toggle<server::Behaviour>,
}

fn server(server: Option<server::Behaviour>) -> Node<ServerNode> {
    let keypair = Keypair::generate_ed25519();
    let behaviour = ServerNode {
        identify: identify(&keypair),
        server: server.into(),
    };
    Node::spawn(recording_swarm(keypair, behaviour, Scope::Public).0)
}

async fn set_serving(server: &Node<ServerNode>, serving: bool) {
    server
        .with(move |swarm| {
            let server = swarm.behaviour_mut().server.as_mut().expect("it is there");
            server.set_serving(serving);
            assert_eq!(server.is_serving(), serving);
        })
        .await;
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
struct ClientNode {
    identify: identify::Behaviour,
    raw: Raw,
}

type Client = Node<ClientNode>;

fn client() -> Client {
    let keypair = Keypair::generate_ed25519();
    let behaviour = ClientNode {
        identify: identify(&keypair),
        raw: Raw::new(&[DIAL_BACK_PROTOCOL]),
    };
    Node::spawn(swarm(keypair, behaviour))
}

/// Waits until the server says by identify, on this connection, that it serves or that it does not.
async fn is_told(client: &mut Client, connection: ConnectionId, serves: bool) {
    client
        .event("word of the protocol", |event| match event {
            SwarmEvent::Behaviour(ClientNodeEvent::Identify(identify::Event::Received {
                connection_id,
                info,
                ..
            })) if *connection_id == connection => {
                (info.protocols.contains(&DIAL_REQUEST_PROTOCOL) == serves).then_some(())
            }
            _ => None,
        })
        .await;
}

async fn opens(
    client: &mut Client,
    connection: ConnectionId,
    protocol: StreamProtocol,
) -> Result<libp2p::Stream, RawError> {
    let id = client
        .with(move |swarm| swarm.behaviour_mut().raw.open(connection, protocol))
        .await;
    client
        .take("a stream, or none", |event| match event {
            SwarmEvent::Behaviour(ClientNodeEvent::Raw(RawEvent::Opened {
                id: opened,
                result,
            })) if opened == id => ControlFlow::Break(result),
            other => ControlFlow::Continue(other),
        })
        .await
}

async fn asks(client: &mut Client, connection: ConnectionId, addr: &Multiaddr) -> Requests {
    let stream = opens(client, connection, DIAL_REQUEST_PROTOCOL).await;
    ask_on(stream.expect("it serves"), std::slice::from_ref(addr), 1).await
}

/// Takes the dial-back, and answers it when it is told to.
async fn dial_back(client: &mut Client) -> Framed<libp2p::Stream, DialBackClientCodec> {
    let stream = client
        .take("a dial-back", |event| match event {
            SwarmEvent::Behaviour(ClientNodeEvent::Raw(RawEvent::Inbound { stream, .. })) => {
                ControlFlow::Break(stream)
            }
            other => ControlFlow::Continue(other),
        })
        .await;
    let mut framed = Framed::new(stream, DialBackClientCodec::new());
    framed.next().await.expect("a message").expect("a nonce");
    framed
}

async fn is_served(client: &mut Client, connection: ConnectionId, addr: &Multiaddr) {
    let mut request = asks(client, connection, addr).await;
    let mut dial_back = dial_back(client).await;
    dial_back.send(Default::default()).await.expect("sent");
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));
}

/// Listens at the IP that it is seen to have. The address as the server sees it.
async fn listens(client: &mut Client) -> Multiaddr {
    public(&client.listen(TCP).await)
}

#[tokio::test]
async fn a_server_that_is_switched_off_tells_idle_peers_so_and_ends_what_it_began() {
    let mut server = server(Some(server::Behaviour::default()));
    let at = support::loopback(&server.listen(TCP).await);
    let mut client = client();
    let addr = listens(&mut client).await;
    let connection = client.connect(from_new_port(at.clone())).await;
    is_told(&mut client, connection, true).await;

    let mut request = asks(&mut client, connection, &addr).await;
    let mut under_way = dial_back(&mut client).await;
    set_serving(&server, false).await;
    is_told(&mut client, connection, false).await;
    under_way.send(Default::default()).await.expect("sent");
    assert_eq!(answer(&mut request).await, dialed(0, DialStatus::Ok));

    let later = client.connect(from_new_port(at)).await;
    is_told(&mut client, later, false).await;
    for connection in [connection, later] {
        let refused = opens(&mut client, connection, DIAL_REQUEST_PROTOCOL).await;
        assert_eq!(refused.err(), Some(RawError::NotSupported));
    }

    set_serving(&server, true).await;
    for connection in [connection, later] {
        is_told(&mut client, connection, true).await;
        is_served(&mut client, connection, &addr).await;
    }
}

/// Puts a server into a swarm that listens and has a connection.
async fn joined(caught_up: bool) -> (Node<ServerNode>, Client, ConnectionId, Multiaddr) {
    let mut server = server(None);
    // Not the IP that its client is seen to have.
    let own = server.listen("/ip4/127.8.8.8/tcp/0").await;
    let at = support::loopback(&own);
    let mut client = client();
    client.connect(from_new_port(at.clone())).await;
    server.connected_by(client.peer_id).await;
    server
        .with(move |swarm| {
            let mut behaviour = server::Behaviour::default();
            if caught_up {
                behaviour.catch_up(swarm.listeners(), swarm.external_addresses());
            }
            swarm.behaviour_mut().server = Some(behaviour).into();
        })
        .await;
    let connection = client.connect(from_new_port(at)).await;
    (server, client, connection, own)
}

async fn joined_late(server: &mut Node<ServerNode>) -> server::JoinedLate {
    server
        .event("word of it", |event| match event {
            SwarmEvent::Behaviour(ServerNodeEvent::Server(server::Event::JoinedLate(it))) => {
                Some(it.clone())
            }
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_server_that_joins_a_running_swarm_serves_new_connections_and_does_not_dial_itself() {
    for caught_up in [true, false] {
        let (mut server, mut client, connection, own) = joined(caught_up).await;
        let addr = listens(&mut client).await;
        is_served(&mut client, connection, &addr).await;
        let mut request = asks(&mut client, connection, &own).await;
        let refused = not_dialed(ResponseStatus::DialRefused);
        assert_eq!(answer(&mut request).await, refused);
        if !caught_up {
            assert_eq!(joined_late(&mut server).await.listen_addr, own);
        }
        let late = server.drain().into_iter().any(|event| {
            matches!(
                event,
                SwarmEvent::Behaviour(ServerNodeEvent::Server(server::Event::JoinedLate(_)))
            )
        });
        assert!(!late, "once, and only if it was not told");
    }
}
