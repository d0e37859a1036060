//! What peers hear of a node's addresses in identify: those that strangers can reach, and no others.

mod support;

use std::{collections::BTreeSet, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, identify,
    identity::Keypair,
    multiaddr::Protocol,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::{client, server};
use support::{Node, PATIENCE, swarm, within};
use tokio::sync::mpsc;

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

#[derive(NetworkBehaviour)]
struct Announcer {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Server {
    identify: identify::Behaviour,
    autonat: server::Behaviour,
}

fn identify(key: &Keypair) -> identify::Config {
    identify::Config::new("/test/1".to_owned(), key.public())
}

fn announcer() -> Swarm<Announcer> {
    let key = Keypair::generate_ed25519();
    let second = Duration::from_secs(1);
    let config = client::Config::default()
        .with_private_addresses(true)
        .with_recheck(second, second)
        .with_requests_per_minute(12);
    let behaviour = Announcer {
        identify: identify::Behaviour::new(identify(&key).with_hide_listen_addrs(true)),
        autonat: client::Behaviour::new(key.public().to_peer_id(), config),
    };
    swarm(key, behaviour)
}

/// What an application does: identify does not push by itself when an external address comes or goes.
fn announce(swarm: &mut Swarm<Announcer>, event: &SwarmEvent<AnnouncerEvent>) {
    if let SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } = event
    {
        let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
        swarm.behaviour_mut().identify.push(peers);
    }
}

/// A peer that only listens to what others say of themselves.
struct Bystander {
    node: Node<identify::Behaviour>,
    heard: mpsc::UnboundedReceiver<BTreeSet<Multiaddr>>,
}

impl Bystander {
    fn new() -> Self {
        let key = Keypair::generate_ed25519();
        let behaviour = identify::Behaviour::new(identify(&key));
        let (sender, heard) = mpsc::unbounded_channel();
        let node = Node::spawn_observed(swarm(key, behaviour), move |event| {
            if let SwarmEvent::Behaviour(identify::Event::Received { info, .. }) = event {
                let _ = sender.send(info.listen_addrs.iter().cloned().collect());
            }
        });
        Self { node, heard }
    }

    /// Runs `node` until the bystander hears exactly `wanted`. Until then it may hear of `allowed`.
    async fn hears(
        &mut self,
        node: &mut Swarm<Announcer>,
        wanted: &[&Multiaddr],
        allowed: &[&Multiaddr],
    ) {
        let wanted: BTreeSet<_> = wanted.iter().copied().cloned().collect();
        let hears = async {
            loop {
                tokio::select! {
                    event = node.select_next_some() => announce(node, &event),
                    heard = self.heard.recv() => {
                        let heard = heard.expect("the bystander runs");
                        let strange = heard.iter().find(|addr| !allowed.contains(addr));
                        assert_eq!(strange, None, "nobody showed that it is reachable");
                        if heard == wanted {
                            return;
                        }
                    }
                }
            }
        };
        within(PATIENCE, &format!("{wanted:?} is heard"), hears).await;
    }
}

async fn listen(node: &mut Swarm<Announcer>, addr: &str) -> Multiaddr {
    let addr = addr.parse().expect("an address");
    node.listen_on(addr).expect("it listens");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = node.select_next_some().await {
            return address;
        }
    }
}

async fn server() -> (Node<Server>, Multiaddr) {
    let key = Keypair::generate_ed25519();
    let config = server::Config::default().with_private_addresses(true);
    let behaviour = Server {
        identify: identify::Behaviour::new(identify(&key)),
        autonat: server::Behaviour::new(config),
    };
    let mut server = Node::spawn(swarm(key, behaviour));
    // It dials what it listens on.
    server.listen(QUIC).await;
    let at = server.listen(TCP).await;
    (server, at)
}

/// A port that nobody listens on: one that was free a moment ago.
fn closed() -> Multiaddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it is bound").port();
    Multiaddr::from(std::net::Ipv4Addr::LOCALHOST).with(Protocol::Tcp(port))
}

#[tokio::test]
async fn a_peer_hears_of_the_reachable_addresses_alone_and_of_each_change() {
    let mut node = announcer();
    let tcp = listen(&mut node, TCP).await;
    let quic = listen(&mut node, QUIC).await;
    let closed = closed();
    let autonat = &mut node.behaviour_mut().autonat;
    autonat.add_candidate(&closed).expect("it can be tested");

    let mut bystander = Bystander::new();
    let at = bystander.node.listen(TCP).await;
    node.dial(at).expect("the dial starts");
    bystander.hears(&mut node, &[], &[]).await;

    let mut servers = Vec::new();
    for _ in 0..3 {
        let (server, at) = server().await;
        node.dial(at).expect("the dial starts");
        servers.push(server);
    }
    bystander
        .hears(&mut node, &[&tcp, &quic], &[&tcp, &quic])
        .await;

    // A listener that is gone, and one that is new.
    let listener = node.listen_on(TCP.parse().expect("an address"));
    let listener = listener.expect("it listens");
    let new = loop {
        let event = node.select_next_some().await;
        if let SwarmEvent::NewListenAddr {
            listener_id,
            address,
        } = &event
            && *listener_id == listener
        {
            break address.clone();
        }
        announce(&mut node, &event);
    };
    bystander
        .hears(&mut node, &[&tcp, &quic, &new], &[&tcp, &quic, &new])
        .await;
    node.remove_listener(listener);
    bystander
        .hears(&mut node, &[&tcp, &quic], &[&tcp, &quic, &new])
        .await;
}
