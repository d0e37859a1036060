//! A server that runs while the node is public, and is off otherwise.

use futures::StreamExt;
use libp2p::{
    Swarm, identify,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::{
    client::{self, Event, Summary},
    protocol::DIAL_REQUEST_PROTOCOL,
    server,
};
use tokio::sync::mpsc;

use crate::{
    stage::{Application, PATIENCE, Stage, config, identify, peer},
    support::{Node as Peer, swarm, within},
};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
    server: server::Behaviour,
}

struct Node {
    swarm: Swarm<Behaviour>,
}

impl Application for Node {
    async fn step(&mut self) {
        if let SwarmEvent::Behaviour(BehaviourEvent::Autonat(Event::SummaryChanged {
            new, ..
        })) = self.swarm.select_next_some().await
        {
            let server = &mut self.swarm.behaviour_mut().server;
            server.set_serving(new == Summary::Public);
        }
    }
}

/// Tells whenever a peer says whether it serves.
fn bystander() -> (Peer<identify::Behaviour>, mpsc::UnboundedReceiver<bool>) {
    let key = libp2p::identity::Keypair::generate_ed25519();
    let behaviour = identify(&key);
    let (sender, serves) = mpsc::unbounded_channel();
    let peer = Peer::spawn_observed(swarm(key, behaviour), move |event| {
        if let SwarmEvent::Behaviour(identify::Event::Received { info, .. }) = event {
            let _ = sender.send(info.protocols.contains(&DIAL_REQUEST_PROTOCOL));
        }
    });
    (peer, serves)
}

#[tokio::test]
async fn peers_hear_that_it_serves_while_it_is_public() {
    let stage = Stage::new().await;
    let swarm = stage.enters(|key| {
        let mut server = server::Behaviour::default();
        server.set_serving(false);
        Behaviour {
            identify: identify(key),
            autonat: client::Behaviour::new(peer(key), config()),
            server,
        }
    });
    let mut node = Node { swarm };
    let (mut bystander, mut said) = bystander();
    let at = bystander.listen("/ip4/127.0.0.1/tcp/0").await;
    node.swarm.dial(at).expect("the dial starts");

    let mut serves = None;
    for wanted in [true, false, true] {
        within(PATIENCE, "the bystander hears of it", async {
            while serves != Some(wanted) {
                tokio::select! {
                    () = node.step() => {}
                    heard = said.recv() => serves = heard,
                }
            }
        })
        .await;
        match wanted {
            true => stage.close(),
            false => stage.open(),
        }
    }
}
