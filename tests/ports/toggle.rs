//! A toggle: the DHT serves while the node is public, and the rest of the program watches a flag.

use futures::StreamExt;
use libp2p::{
    Swarm, identify,
    kad::{self, Mode, store::MemoryStore},
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::client::{self, Event, Summary};
use tokio::sync::watch;

use crate::stage::{Application, Stage, config, identify, peer};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    kad: kad::Behaviour<MemoryStore>,
    autonat: client::Behaviour,
}

struct Node {
    swarm: Swarm<Behaviour>,
    is_public: watch::Sender<bool>,
}

impl Application for Node {
    async fn step(&mut self) {
        let event = self.swarm.select_next_some().await;
        if let SwarmEvent::Behaviour(BehaviourEvent::Autonat(Event::SummaryChanged {
            new, ..
        })) = event
        {
            let is_public = new == Summary::Public;
            let mode = if is_public {
                Mode::Server
            } else {
                Mode::Client
            };
            self.swarm.behaviour_mut().kad.set_mode(Some(mode));
            self.is_public.send_replace(is_public);
        }
    }
}

#[tokio::test]
async fn it_follows_the_node_both_ways() {
    let stage = Stage::new().await;
    let swarm = stage.enters(|key| {
        let mut kad = kad::Behaviour::new(peer(key), MemoryStore::new(peer(key)));
        kad.set_mode(Some(Mode::Client));
        Behaviour {
            identify: identify(key),
            kad,
            autonat: client::Behaviour::new(peer(key), config()),
        }
    });
    let (is_public, watcher) = watch::channel(false);
    let mut node = Node { swarm, is_public };
    let mode = |node: &Node| node.swarm.behaviour().kad.mode();

    node.runs_until("it is public", |_| *watcher.borrow()).await;
    assert_eq!(mode(&node), Mode::Server);
    stage.close();
    node.runs_until("it is private", |_| !*watcher.borrow())
        .await;
    assert_eq!(mode(&node), Mode::Client);
    stage.open();
    node.runs_until("it is public again", |_| *watcher.borrow())
        .await;
    assert_eq!(mode(&node), Mode::Server);
}
