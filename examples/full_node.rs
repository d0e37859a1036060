//! A node that adapts to its reachability: it serves the DHT while it is public, and keeps a slot on a relay while it is
//! private, so that others reach it by hole punching or through the relay.
//!
//! `cargo run --example full_node -- /ip4/203.0.113.7/tcp/4001/p2p/12D3KooW...` joins at these peers, and reserves on the
//! first of them that lets it. `LISTEN` is a multiaddr to listen on, by default a random TCP port. `ALLOW_PRIVATE=1`
//! tests private addresses too, for a network of one's own.

use std::{env, error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, core::transport::ListenerId, dcutr, identify,
    identity::Keypair, kad, kad::store::MemoryStore, multiaddr::Protocol, noise, ping, relay,
    swarm::NetworkBehaviour, swarm::SwarmEvent, tcp, upnp, yamux,
};
use libp2p_autonat_v2::{client, client::Event, client::Summary, server};

#[derive(NetworkBehaviour)]
struct Node {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    ping: ping::Behaviour,
    relay: relay::client::Behaviour,
    dcutr: dcutr::Behaviour,
    upnp: upnp::tokio::Behaviour,
    autonat: client::Behaviour,
    server: server::Behaviour,
}

impl Node {
    fn new(key: &Keypair, relay: relay::client::Behaviour) -> Self {
        let me = key.public().to_peer_id();
        let private = env::var("ALLOW_PRIVATE").is_ok_and(|value| value == "1");
        let client = client::Config::default().with_private_addresses(private);
        let server = server::Config::default().with_private_addresses_allowed(private);
        let identify = identify::Config::new("/full-node/1.0.0".to_owned(), key.public());
        let mut kad = kad::Behaviour::new(me, MemoryStore::new(me));
        // A relay confirms the address through it, and kad would take that for being public: our verdict decides.
        kad.set_mode(Some(kad::Mode::Client));
        Self {
            identify: identify::Behaviour::new(identify.with_push_listen_addr_updates(true)),
            kad,
            ping: ping::Behaviour::default(),
            relay,
            dcutr: dcutr::Behaviour::new(me),
            upnp: upnp::tokio::Behaviour::default(),
            autonat: client::Behaviour::new(me, client),
            server: server::Behaviour::new(server),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let peers = env::args().skip(1).map(|peer| peer.parse());
    let peers = peers.collect::<Result<Vec<Multiaddr>, _>>()?;
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(Default::default(), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(Node::new)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(300)))
        .build();
    let listen = env::var("LISTEN").unwrap_or_else(|_| "/ip4/0.0.0.0/tcp/0".to_owned());
    swarm.listen_on(listen.parse()?)?;
    for peer in &peers {
        swarm.dial(peer.clone())?;
    }
    let (mut slot, mut retry) = (None, tokio::time::interval(Duration::from_secs(10)));
    for peer in peers.iter().cycle() {
        tokio::select! {
            () = until_private(&mut swarm, &mut slot) => {},
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
    Ok(())
}
