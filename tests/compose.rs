//! Both roles in one swarm, beside the behaviours that a node usually has.

mod support;

use std::time::Duration;

use libp2p::{
    PeerId, SwarmBuilder, connection_limits, dcutr, identify,
    identity::Keypair,
    kad, noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_autonat_v2::{
    client::{self, Summary, Vantage, Verdict},
    server::{self, DialBackOutcome},
};
use support::{Node, from_new_port};

#[derive(NetworkBehaviour)]
struct Whole {
    limits: connection_limits::Behaviour,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    relay: relay::client::Behaviour,
    dcutr: dcutr::Behaviour,
    autonat_client: client::Behaviour,
    autonat_server: server::Behaviour,
}

fn whole() -> Node<Whole> {
    let swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("TCP can be set up")
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)
        .expect("the relay client can be set up")
        .with_behaviour(behaviour)
        .expect("the behaviours can be set up")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    Node::spawn(swarm)
}

fn behaviour(keypair: &Keypair, relay: relay::client::Behaviour) -> Whole {
    let peer_id: PeerId = keypair.public().to_peer_id();
    Whole {
        limits: connection_limits::Behaviour::new(
            connection_limits::ConnectionLimits::default().with_max_established(Some(50)),
        ),
        identify: identify::Behaviour::new(identify::Config::new(
            "/test/1".to_owned(),
            keypair.public(),
        )),
        ping: ping::Behaviour::default(),
        kad: kad::Behaviour::new(peer_id, kad::store::MemoryStore::new(peer_id)),
        relay,
        dcutr: dcutr::Behaviour::new(peer_id),
        autonat_client: client::Behaviour::new(
            peer_id,
            client::Config::default()
                .with_private_addresses(true)
                .with_connection_limit(Some(50)),
        ),
        autonat_server: server::Behaviour::new(
            server::Config::default()
                .with_private_addresses(true)
                .with_max_delay_after_dial_data(Duration::ZERO),
        ),
    }
}

#[tokio::test]
async fn a_whole_node_learns_its_address_from_another_one() {
    for transport in ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"] {
        let mut server = whole();
        let served_at = server.listen(transport).await;
        let mut client = whole();
        let address = client.listen(transport).await;
        client.connect(from_new_port(served_at)).await;

        client
            .event("the address is confirmed", |event| match event {
                SwarmEvent::ExternalAddrConfirmed { address: confirmed } => {
                    assert_eq!(*confirmed, address);
                    Some(())
                }
                _ => None,
            })
            .await;
        server
            .event(
                "the server knows that it got through",
                |event| match event {
                    SwarmEvent::Behaviour(WholeEvent::AutonatServer(server::Event::Served(
                        served,
                    ))) => {
                        assert!(matches!(served.dial_back, Some(DialBackOutcome::Delivered)));
                        assert_eq!(served.tested.as_ref().map(|(_, a)| a), Some(&address));
                        Some(())
                    }
                    _ => None,
                },
            )
            .await;
        let (report, summary) = client
            .with(move |swarm| {
                let autonat = &swarm.behaviour().autonat_client;
                (autonat.address(&address), autonat.summary())
            })
            .await;
        let report = report.expect("the address is tracked");
        assert_eq!(report.verdict, Verdict::Reachable);
        assert_eq!(report.vantage, Some(Vantage::Contacted));
        assert!(report.announced);
        assert_eq!(summary, Summary::Public);
    }
}

#[tokio::test]
async fn the_dial_back_connection_closes_and_the_first_one_stays() {
    let mut server = whole();
    let served_at = server.listen("/ip4/127.0.0.1/tcp/0").await;
    let mut client = whole();
    client.listen("/ip4/127.0.0.1/tcp/0").await;
    let first = client.connect(from_new_port(served_at)).await;
    let dial_back = client.connected_by(server.peer_id).await;
    client.closed(dial_back).await;
    let open = client
        .with(move |swarm| swarm.close_connection(first))
        .await;
    assert!(open, "the connection that the request went out on is open");
}

#[derive(NetworkBehaviour)]
struct Roles {
    client: client::Behaviour,
    server: server::Behaviour,
}

#[tokio::test]
async fn both_roles_let_an_idle_connection_close() {
    let roles = || {
        let swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(
                tcp::Config::default(),
                noise::Config::new,
                yamux::Config::default,
            )
            .expect("TCP can be set up")
            .with_behaviour(|keypair| Roles {
                client: client::Behaviour::new(
                    keypair.public().to_peer_id(),
                    client::Config::default(),
                ),
                server: server::Behaviour::default(),
            })
            .expect("the behaviours can be set up")
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::ZERO))
            .build();
        Node::spawn(swarm)
    };
    let (mut one, mut other) = (roles(), roles());
    let at = one.listen("/ip4/127.0.0.1/tcp/0").await;
    let connection = other.connect(from_new_port(at)).await;
    other.closed(connection).await;
}
