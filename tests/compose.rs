//! Both roles in one swarm, beside the behaviours that a node usually has.

mod support;

use std::time::Duration;

use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, connection_limits, dcutr, identify,
    identity::Keypair,
    kad, noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_autonat_v2::{
    client::{self, NatMapping, Summary, Vantage, Verdict},
    server::{self, DialBackOutcome},
};
use support::{Node, PATIENCE, Scope, from_new_port, recording_swarm, within};

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
struct Public {
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    autonat_client: client::Behaviour,
    autonat_server: server::Behaviour,
}

/// As the README and the example of a whole node put it together, at a public IP.
fn public_node(client: client::Config) -> Node<Public> {
    let keypair = Keypair::generate_ed25519();
    let peer_id = keypair.public().to_peer_id();
    let identify = identify::Config::new("/test/1".to_owned(), keypair.public());
    let behaviour = Public {
        identify: identify::Behaviour::new(identify.with_hide_listen_addrs(true)),
        ping: ping::Behaviour::default(),
        kad: kad::Behaviour::new(peer_id, kad::store::MemoryStore::new(peer_id)),
        autonat_client: client::Behaviour::new(peer_id, client),
        autonat_server: server::Behaviour::new(server::Config::default()),
    };
    Node::spawn(recording_swarm(keypair, behaviour, Scope::Public).0)
}

/// Its own server dials back from new ports, whoever it dials has identify, and identify tells what it sees.
#[tokio::test]
async fn a_public_node_takes_no_port_of_its_dial_backs_for_its_own() {
    const CLIENTS: u8 = 4;
    let mut node = public_node(client::Config::default());
    let mut at: Vec<Multiaddr> = Vec::new();
    for transport in ["tcp/0", "udp/0/quic-v1"] {
        at.push(node.listen(&format!("/ip4/20.0.0.1/{transport}")).await);
    }
    let often = Duration::from_secs(1);
    let brisk = client::Config::default()
        .with_recheck(often, often)
        .with_requests_per_minute(12);
    let mut others = Vec::new();
    for n in 1..=CLIENTS {
        let mut other = public_node(brisk.clone());
        for (transport, at) in ["tcp/0", "udp/0/quic-v1"].iter().zip(&at) {
            let listen = format!("/ip4/20.{n}.0.1/{transport}");
            let listens = other.listen(&listen).await;
            // They meet each other both ways, over both transports.
            other.connect(at.clone()).await;
            node.connect(listens).await;
        }
        others.push(other);
    }
    let (mut dial_backs, mut told) = (0, 0);
    let busy = async {
        // What peers saw of several dial-backs over each transport.
        while dial_backs < 4 * usize::from(CLIENTS) || told < 6 * usize::from(CLIENTS) {
            match node.next_event().await {
                SwarmEvent::Behaviour(PublicEvent::AutonatServer(server::Event::Served(it))) => {
                    dial_backs += usize::from(it.dial_back.is_some());
                }
                SwarmEvent::Behaviour(PublicEvent::Identify(identify::Event::Received {
                    connection_id,
                    info,
                    ..
                })) => {
                    told += 1;
                    let seen = info.observed_addr;
                    node.with(move |swarm| {
                        let autonat = &mut swarm.behaviour_mut().autonat_client;
                        autonat.observed(connection_id, &seen);
                    })
                    .await;
                }
                _ => {}
            }
        }
    };
    within(PATIENCE, "dial-backs", busy).await;
    let (tracked, mapping) = node
        .with(|swarm| {
            let autonat = &swarm.behaviour().autonat_client;
            let tracked: Vec<_> = autonat.addresses().map(|it| it.address).collect();
            (tracked, autonat.nat_mapping())
        })
        .await;
    // Dials from new ports leave from the first IP of loopback, which is this node's: so there are no verdicts here.
    assert_eq!(tracked, at, "the listen addresses and no other");
    assert_ne!(mapping, NatMapping::EndpointDependent);
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
