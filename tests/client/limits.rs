//! Limits of this node's own that deny the dial-backs it has asked for.

use libp2p::{
    Multiaddr, connection_limits, identify,
    identity::Keypair,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::client::{self, Event, Obstacle, Verdict};

use crate::{
    scene::brisk,
    support::{
        Node, from_new_port,
        serving::{HonestServer, QUIC, TCP, honest_server},
        swarm,
    },
};

#[derive(NetworkBehaviour)]
struct Limited {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

/// A node with these limits that listens, and three servers that it is connected to.
async fn scene(
    limits: connection_limits::ConnectionLimits,
    transport: &str,
) -> (Node<Limited>, Multiaddr, Vec<HonestServer>) {
    let keypair = Keypair::generate_ed25519();
    let identify = identify::Config::new("/test/1".to_owned(), keypair.public());
    let behaviour = Limited {
        limits: connection_limits::Behaviour::new(limits),
        identify: identify::Behaviour::new(identify),
        autonat: client::Behaviour::new(
            keypair.public().to_peer_id(),
            brisk().with_private_addresses(true),
        ),
    };
    let mut node = Node::spawn(swarm(keypair, behaviour));
    let address = node.listen(transport).await;
    let mut servers = Vec::new();
    for _ in 0..3 {
        let mut server = honest_server();
        let at = server.listen(transport).await;
        node.connect(from_new_port(at)).await;
        servers.push(server);
    }
    (node, address, servers)
}

async fn all_can_be_asked(node: &Node<Limited>) {
    let servers = node.with(|swarm| swarm.behaviour().autonat.servers()).await;
    assert_eq!(servers, (3, 3), "no server is blamed");
}

/// The dial-back is denied when its handshake is over, so that it is known to have been there.
#[tokio::test]
async fn a_node_with_one_connection_for_each_peer_gets_its_verdict() {
    for transport in [TCP, QUIC] {
        let limits =
            connection_limits::ConnectionLimits::default().with_max_established_per_peer(Some(1));
        let (mut node, address, servers) = scene(limits, transport).await;
        node.event("a dial-back is denied", |event| match event {
            SwarmEvent::IncomingConnectionError { .. } => Some(()),
            _ => None,
        })
        .await;
        let verdict = node.event("a verdict", |event| match event {
            SwarmEvent::Behaviour(LimitedEvent::Autonat(Event::VerdictChanged {
                address: it,
                new,
                ..
            })) if *it == address => Some(*new),
            _ => None,
        });
        assert_eq!(verdict.await, Verdict::Reachable);
        all_can_be_asked(&node).await;
        drop(servers);
    }
}

/// No handshake takes place: anybody could have been there.
#[tokio::test]
async fn a_node_that_takes_no_inbound_connections_says_so() {
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established_incoming(Some(0))
        .with_max_pending_incoming(Some(0));
    let (mut node, address, servers) = scene(limits, TCP).await;
    let obstacle = node.event("what stands in the way", |event| match event {
        SwarmEvent::Behaviour(LimitedEvent::Autonat(Event::Obstructed {
            address: it,
            obstacle,
            ..
        })) if *it == address => Some(*obstacle),
        _ => None,
    });
    assert_eq!(obstacle.await, Obstacle::DeniedHere);
    let report = node
        .with(move |swarm| swarm.behaviour().autonat.address(&address))
        .await
        .expect("tracked");
    assert_eq!(report.verdict, Verdict::Unknown);
    assert_eq!(report.obstacle, Some(Obstacle::DeniedHere));
    all_can_be_asked(&node).await;
    drop(servers);
}
