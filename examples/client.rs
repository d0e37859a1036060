//! The smallest client: it dials the peers that are given, and says which of its addresses strangers can reach.
//!
//! `cargo run --example client -- /ip4/198.51.100.7/tcp/4001/p2p/12D3KooW...` with the addresses of servers. `LISTEN` is a
//! multiaddr (by default a random TCP port); `ALLOW_PRIVATE=1` is for a network of one's own.

use std::{env, error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, identify, noise,
    swarm::{NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_autonat_v2::client::{self, Event};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let private = env::var("ALLOW_PRIVATE").is_ok_and(|value| value == "1");
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_behaviour(|key| {
            // Announces what is confirmed, and not what is merely listened on.
            let identify = identify::Config::new("/my-client/1.0.0".to_owned(), key.public())
                .with_hide_listen_addrs(true);
            let config = client::Config::default().with_private_addresses(private);
            Behaviour {
                identify: identify::Behaviour::new(identify),
                autonat: client::Behaviour::new(key.public().to_peer_id(), config),
            }
        })?
        .with_swarm_config(|config| {
            // Long enough for the servers to be asked again.
            config.with_idle_connection_timeout(Duration::from_secs(3600))
        })
        .build();
    let listen = env::var("LISTEN").unwrap_or_else(|_| "/ip4/0.0.0.0/tcp/0".to_owned());
    swarm.listen_on(listen.parse()?)?;
    for peer in env::args().skip(1) {
        swarm.dial(peer.parse::<Multiaddr>()?)?;
    }
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::Behaviour(BehaviourEvent::Autonat(event)) => match event {
                Event::VerdictChanged { address, new, .. } => {
                    println!("{address} is {}", new.as_str());
                }
                Event::SummaryChanged { new, .. } => println!("this node is {}", new.as_str()),
                _ => {}
            },
            // Identify does not tell the peers by itself.
            SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } => {
                let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
                swarm.behaviour_mut().identify.push(peers);
            }
            _ => {}
        }
    }
}
