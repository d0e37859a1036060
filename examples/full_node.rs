//! A node that adapts to its reachability: it serves the DHT when it is public, and keeps a reservation on a relay when it
//! is private, so that others reach it by hole punching or through the relay.
//!
//! `cargo run --example full_node -- /ip4/203.0.113.7/tcp/4001/p2p/12D3KooW...` joins at these peers, and reserves on the
//! first of them that lets it. `LISTEN` (multiaddrs, comma separated) says where it listens, by default on a random port
//! of TCP and QUIC. `ALLOW_PRIVATE=1` tests private addresses too, for a network of one's own.

use std::{env, error::Error, time::Duration};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, core::transport::ListenerId, dcutr, identify,
    identity::Keypair, kad, multiaddr::Protocol, noise, ping, relay, swarm::NetworkBehaviour,
    swarm::SwarmEvent, tcp, upnp, yamux,
};
use libp2p_autonat_v2::client::{self, Event, Summary};
use libp2p_autonat_v2::server;

#[derive(NetworkBehaviour)]
struct Node {
    identify: identify::Behaviour,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    ping: ping::Behaviour,
    relay: relay::client::Behaviour,
    dcutr: dcutr::Behaviour,
    upnp: upnp::tokio::Behaviour,
    autonat_client: client::Behaviour,
    autonat_server: server::Behaviour,
}

impl Node {
    fn new(key: &Keypair, relay: relay::client::Behaviour) -> Self {
        let (me, public) = (key.public().to_peer_id(), key.public());
        let private = env::var("ALLOW_PRIVATE").is_ok_and(|value| value == "1");
        let client = client::Config::default().with_private_addresses(private);
        let server = server::Config::default().with_private_addresses_allowed(private);
        Self {
            identify: identify::Behaviour::new(
                identify::Config::new("/full-node/1.0.0".to_owned(), public)
                    .with_push_listen_addr_updates(true),
            ),
            kad: kad::Behaviour::new(me, kad::store::MemoryStore::new(me)),
            ping: ping::Behaviour::default(),
            relay,
            dcutr: dcutr::Behaviour::new(me),
            upnp: upnp::tokio::Behaviour::default(),
            autonat_client: client::Behaviour::new(me, client),
            autonat_server: server::Behaviour::new(server),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let relays = env::args().skip(1).map(|peer| peer.parse());
    let relays = relays.collect::<Result<Vec<Multiaddr>, _>>()?;
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_quic()
        .with_relay_client(noise::Config::new, yamux::Config::default)?
        .with_behaviour(Node::new)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(300)))
        .build();
    // A relay confirms the address through it, and kad would take that for being public: the verdict decides instead.
    swarm.behaviour_mut().kad.set_mode(Some(kad::Mode::Client));
    let listen = env::var("LISTEN")
        .unwrap_or_else(|_| "/ip4/0.0.0.0/tcp/0,/ip4/0.0.0.0/udp/0/quic-v1".to_owned());
    for addr in listen.split(',') {
        swarm.listen_on(addr.parse()?)?;
    }
    for addr in &relays {
        if let Some(Protocol::P2p(peer)) = addr.iter().last() {
            swarm.behaviour_mut().kad.add_address(&peer, addr.clone());
        }
        swarm.dial(addr.clone())?;
    }
    let mut reservation = Reservation {
        relays,
        next: 0,
        listener: None,
    };
    let mut retry = tokio::time::interval(Duration::from_secs(10));
    loop {
        tokio::select! {
            event = swarm.select_next_some() => on_event(&mut swarm, &mut reservation, event),
            _ = retry.tick() => reservation.keep(&mut swarm),
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn on_event(swarm: &mut Swarm<Node>, reservation: &mut Reservation, event: SwarmEvent<NodeEvent>) {
    match event {
        SwarmEvent::NewListenAddr { address, .. } => {
            println!("listening on {address}/p2p/{}", swarm.local_peer_id());
        }
        SwarmEvent::ListenerClosed { listener_id, .. } => reservation.lost(listener_id),
        SwarmEvent::ExternalAddrConfirmed { address } => println!("announced {address}"),
        SwarmEvent::ExternalAddrExpired { address } => println!("withdrawn {address}"),
        SwarmEvent::Behaviour(NodeEvent::AutonatClient(event)) => match event {
            Event::SummaryChanged { new, .. } => {
                println!("summary {}", new.as_str());
                let mode = match new {
                    Summary::Public => kad::Mode::Server,
                    _ => kad::Mode::Client,
                };
                swarm.behaviour_mut().kad.set_mode(Some(mode));
                reservation.keep(swarm);
            }
            Event::VerdictChanged {
                address,
                new,
                confidence,
                ..
            } => {
                println!("verdict {} {address} ({confidence:.2})", new.as_str());
            }
            // Too few servers know us: a walk through the DHT meets more.
            Event::ServersWanted { .. } => {
                swarm
                    .behaviour_mut()
                    .kad
                    .get_closest_peers(PeerId::random());
            }
            Event::NatMappingChanged { new, .. } => println!("nat mapping {}", new.as_str()),
            _ => {}
        },
        SwarmEvent::Behaviour(NodeEvent::Identify(identify::Event::Received {
            connection_id,
            peer_id,
            info,
        })) => {
            let node = swarm.behaviour_mut();
            node.autonat_client
                .observed(connection_id, &info.observed_addr);
            if info.protocols.contains(&kad::PROTOCOL_NAME) {
                for addr in info.listen_addrs {
                    node.kad.add_address(&peer_id, addr);
                }
            }
        }
        SwarmEvent::Behaviour(NodeEvent::Kad(kad::Event::ModeChanged { new_mode })) => {
            println!("dht {new_mode}")
        }
        SwarmEvent::Behaviour(NodeEvent::Relay(relay::client::Event::ReservationReqAccepted {
            relay_peer_id,
            renewal: false,
            ..
        })) => {
            println!("reserved {relay_peer_id}");
        }
        SwarmEvent::Behaviour(NodeEvent::Dcutr(event)) => println!("hole punching {event:?}"),
        _ => {}
    }
}

/// A slot on a relay: held while this node is private, given back when it is public.
struct Reservation {
    relays: Vec<Multiaddr>,
    next: usize,
    listener: Option<ListenerId>,
}

impl Reservation {
    fn keep(&mut self, swarm: &mut Swarm<Node>) {
        match (swarm.behaviour().autonat_client.summary(), self.listener) {
            (Summary::Public, Some(listener)) => {
                swarm.remove_listener(listener);
            }
            (Summary::Private, None) if !self.relays.is_empty() => {
                let relay = self.relays[self.next % self.relays.len()].clone();
                self.next += 1;
                self.listener = swarm.listen_on(relay.with(Protocol::P2pCircuit)).ok();
            }
            _ => {}
        }
    }

    fn lost(&mut self, listener: ListenerId) {
        if self.listener == Some(listener) {
            self.listener = None;
            println!("reservation ended");
        }
    }
}
