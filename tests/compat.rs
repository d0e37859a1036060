//! Both roles against `libp2p-autonat` 0.16, which is what nodes in Rust run today.

mod support;

use std::time::Duration;

use libp2p::{
    Multiaddr, identify,
    identity::Keypair,
    swarm::{
        NetworkBehaviour, SwarmEvent, behaviour::NewExternalAddrCandidate,
        derive_prelude::FromSwarm,
    },
};
use libp2p_autonat::v2 as theirs;
use libp2p_autonat_v2::{
    client::{self, Verdict},
    server::{self, DialBackOutcome},
};
use support::{Node, from_new_port, swarm};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

#[derive(NetworkBehaviour)]
struct OurClient {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

#[derive(NetworkBehaviour)]
struct OurServer {
    identify: identify::Behaviour,
    autonat: server::Behaviour,
}

#[derive(NetworkBehaviour)]
struct TheirClient {
    identify: identify::Behaviour,
    autonat: theirs::client::Behaviour,
}

#[derive(NetworkBehaviour)]
struct TheirServer {
    identify: identify::Behaviour,
    autonat: theirs::server::Behaviour,
}

fn identify(keypair: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new(
        "/test/1".to_owned(),
        keypair.public(),
    ))
}

fn our_client() -> Node<OurClient> {
    let keypair = Keypair::generate_ed25519();
    let behaviour = OurClient {
        identify: identify(&keypair),
        autonat: client::Behaviour::new(
            keypair.public().to_peer_id(),
            client::Config::default().with_private_addresses(true),
        ),
    };
    Node::spawn(swarm(keypair, behaviour))
}

fn our_server() -> Node<OurServer> {
    let keypair = Keypair::generate_ed25519();
    let behaviour = OurServer {
        identify: identify(&keypair),
        autonat: server::Behaviour::new(
            server::Config::default()
                .with_private_addresses(true)
                .with_max_delay_after_dial_data(Duration::ZERO),
        ),
    };
    Node::spawn(swarm(keypair, behaviour))
}

fn their_client() -> Node<TheirClient> {
    let keypair = Keypair::generate_ed25519();
    let behaviour = TheirClient {
        identify: identify(&keypair),
        autonat: theirs::client::Behaviour::default(),
    };
    Node::spawn(swarm(keypair, behaviour))
}

fn their_server() -> Node<TheirServer> {
    let keypair = Keypair::generate_ed25519();
    let behaviour = TheirServer {
        identify: identify(&keypair),
        autonat: theirs::server::Behaviour::default(),
    };
    Node::spawn(swarm(keypair, behaviour))
}

/// An address of the same transport on which nobody listens.
fn closed(transport: &str) -> Multiaddr {
    let port = std::net::UdpSocket::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("loopback has a free port")
        .port();
    transport
        .replace("/0", &format!("/{port}"))
        .parse()
        .expect("a valid multiaddr")
}

async fn our_client_judges_rightly(transport: &str) {
    let mut server = their_server();
    let served_at = server.listen(transport).await;
    let mut client = our_client();
    let open = client.listen(transport).await;
    let closed = closed(transport);
    let added = closed.clone();
    client
        .with(move |swarm| swarm.behaviour_mut().autonat.add_candidate(&added))
        .await
        .expect("the address can be tested");
    client.connect(from_new_port(served_at)).await;

    for (address, expected) in [(open, Verdict::Reachable), (closed, Verdict::Unreachable)] {
        client
            .event("the right verdict", |event| match event {
                SwarmEvent::Behaviour(OurClientEvent::Autonat(client::Event::VerdictChanged {
                    address: judged,
                    new,
                    ..
                })) if *judged == address => {
                    assert_eq!(*new, expected);
                    Some(())
                }
                _ => None,
            })
            .await;
    }
}

#[tokio::test]
async fn our_client_judges_rightly_by_their_server_over_tcp() {
    our_client_judges_rightly(TCP).await;
}

#[tokio::test]
async fn our_client_judges_rightly_by_their_server_over_quic() {
    our_client_judges_rightly(QUIC).await;
}

async fn their_client_judges_rightly(transport: &str) {
    let mut server = our_server();
    let served_at = server.listen(transport).await;
    let mut client = their_client();
    let open = client.listen(transport).await;
    let closed = closed(transport);
    client.connect(from_new_port(served_at)).await;
    for addr in [open.clone(), closed.clone()] {
        client
            .with(move |swarm| {
                let candidate = NewExternalAddrCandidate { addr: &addr };
                swarm
                    .behaviour_mut()
                    .autonat
                    .on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
            })
            .await;
    }

    for (address, reachable) in [(open, true), (closed, false)] {
        client
            .event("the right verdict", |event| match event {
                SwarmEvent::Behaviour(TheirClientEvent::Autonat(event))
                    if event.tested_addr == address =>
                {
                    assert_eq!(event.result.is_ok(), reachable, "{:?}", event.result);
                    Some(())
                }
                _ => None,
            })
            .await;
        server
            .event("the request as our server saw it", |event| match event {
                SwarmEvent::Behaviour(OurServerEvent::Autonat(server::Event::Served(served)))
                    if served.asked.contains(&address) =>
                {
                    let delivered = matches!(served.dial_back, Some(DialBackOutcome::Delivered));
                    assert_eq!(delivered, reachable, "{served:?}");
                    Some(())
                }
                _ => None,
            })
            .await;
    }
}

#[tokio::test]
async fn their_client_judges_rightly_by_our_server_over_tcp() {
    their_client_judges_rightly(TCP).await;
}

#[tokio::test]
async fn their_client_judges_rightly_by_our_server_over_quic() {
    their_client_judges_rightly(QUIC).await;
}
