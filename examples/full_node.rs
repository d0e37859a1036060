//! A node that adapts to its reachability: it serves the DHT while it is public, and keeps a slot on a relay while it is
//! private, so that others reach it by hole punching or through the relay.
//!
//! `cargo run --example full_node -- /ip4/198.51.100.7/tcp/4001/p2p/12D3KooW...` joins at these peers and reserves on one
//! that lets it. `LISTEN` is a multiaddr (by default a random TCP port); `ALLOW_PRIVATE=1` is for a network of one's own.

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder,
    core::transport::ListenerId,
    dcutr, identify,
    identity::Keypair,
    kad::{self, Mode, store::MemoryStore},
    multiaddr::Protocol,
    noise, ping, relay,
    swarm::{NetworkBehaviour, SwarmEvent},
    upnp, yamux,
};
use libp2p_autonat_v2::{client, client::Event, client::Summary, server, server::BoundedClose};
use std::{env, error::Error, iter::Cycle, time::Duration, vec::IntoIter};

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
        let server = server::Config::default().with_private_addresses(private);
        // Announces what is confirmed, and not what is merely listened on.
        let identify = identify::Config::new("/full-node/1.0.0".to_owned(), key.public())
            .with_hide_listen_addrs(true);
        let mut kad = kad::Behaviour::new(me, MemoryStore::new(me));
        // A relay confirms the address through it, and kad would take that for being public: our verdict does.
        kad.set_mode(Some(Mode::Client));
        Self {
            identify: identify::Behaviour::new(identify),
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
    let parse = |text: String| text.parse().map_err(|e| format!("{text}: {e}"));
    let peers: Vec<Multiaddr> = env::args().skip(1).map(parse).collect::<Result<_, _>>()?;
    // No peer that is dialed back holds a socket by not reading.
    let (noise, yamux) = (noise::Config::new, || {
        BoundedClose::new(yamux::Config::default())
    });
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(Default::default(), noise, yamux)?
        .with_quic()
        .with_relay_client(noise, yamux)?
        .with_behaviour(Node::new)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(300)))
        .build();
    let listen = env::var("LISTEN").unwrap_or_else(|_| "/ip4/0.0.0.0/tcp/0".to_owned());
    swarm.listen_on(parse(listen)?)?;
    for peer in &peers {
        swarm.dial(peer.clone())?;
    }
    let (relays, listener) = (peers.into_iter().cycle(), None);
    let mut relay = RelaySlot { relays, listener };
    let mut retry = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            event = swarm.select_next_some() => on_event(&mut swarm, &mut relay, event),
            _ = retry.tick() => relay.adapt(&mut swarm),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn on_event(swarm: &mut Swarm<Node>, relay: &mut RelaySlot, event: SwarmEvent<NodeEvent>) {
    if let SwarmEvent::ExternalAddrConfirmed { .. } | SwarmEvent::ExternalAddrExpired { .. } = event
    {
        // Identify does not tell the peers by itself.
        let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
        swarm.behaviour_mut().identify.push(peers);
    }
    let node = swarm.behaviour_mut();
    match event {
        SwarmEvent::NewListenAddr { address, .. } => println!("listening on {address}"),
        SwarmEvent::ListenerClosed { listener_id, .. } if relay.listener == Some(listener_id) => {
            relay.listener = None;
            println!("the slot on the relay is gone");
        }
        SwarmEvent::ExternalAddrConfirmed { address } => println!("announced {address}"),
        SwarmEvent::ExternalAddrExpired { address } => println!("withdrawn {address}"),
        SwarmEvent::Behaviour(NodeEvent::Autonat(event)) => match event {
            Event::SummaryChanged { new, .. } => {
                let public = new == Summary::Public;
                let mode = if public { Mode::Server } else { Mode::Client };
                node.kad.set_mode(Some(mode));
                println!("{}: the DHT is in {} mode", new.as_str(), node.kad.mode());
                relay.adapt(swarm);
            }
            Event::VerdictChanged { address, new, .. } => println!("{address} is {}", new.as_str()),
            Event::NatMappingChanged { new, .. } => println!("the NAT is {}", new.as_str()),
            // Too few servers are connected: a walk through the DHT meets more.
            Event::ServersWanted { .. } => _ = node.kad.get_closest_peers(PeerId::random()),
            _ => {}
        },
        SwarmEvent::Behaviour(NodeEvent::Identify(identify::Event::Received {
            connection_id,
            peer_id,
            info,
        })) => {
            node.autonat.observed(connection_id, &info.observed_addr);
            let serves_dht = info.protocols.contains(&kad::PROTOCOL_NAME);
            for addr in info.listen_addrs.into_iter().filter(|_| serves_dht) {
                node.kad.add_address(&peer_id, addr);
            }
        }
        SwarmEvent::Behaviour(NodeEvent::Relay(event)) => println!("relay: {event:?}"),
        SwarmEvent::Behaviour(NodeEvent::Dcutr(event)) => println!("hole punching: {event:?}"),
        _ => {}
    }
}

/// A slot on a relay: taken while this node is private, given back when it is public.
struct RelaySlot {
    relays: Cycle<IntoIter<Multiaddr>>,
    listener: Option<ListenerId>,
}

impl RelaySlot {
    fn adapt(&mut self, swarm: &mut Swarm<Node>) {
        match (swarm.behaviour().autonat.summary(), self.listener) {
            (Summary::Public, Some(slot)) => _ = swarm.remove_listener(slot),
            (Summary::Private, None) => {
                let Some(relay) = self.relays.next() else {
                    return;
                };
                let slot = swarm.listen_on(relay.clone().with(Protocol::P2pCircuit));
                let complain = |error: &_| println!("can't reserve on {relay}: {error:?}");
                self.listener = slot.inspect_err(complain).ok();
            }
            _ => {}
        }
    }
}
