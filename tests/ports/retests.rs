//! A state machine with retests: when the interfaces change, what was known counts no more until servers have looked again.

use std::time::Duration;

use futures::StreamExt;
use libp2p::{
    Swarm, identify,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::client::{self, Event, Summary};

use crate::stage::{Application, Stage, config, identify, peer};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Testing,
    Known(Summary),
}

struct Node {
    swarm: Swarm<Behaviour>,
    state: State,
}

impl Node {
    fn on_interfaces_changed(&mut self) {
        self.state = State::Testing;
        self.swarm.behaviour_mut().autonat.network_changed();
    }
}

impl Application for Node {
    async fn step(&mut self) {
        let event = self.swarm.select_next_some().await;
        if let SwarmEvent::Behaviour(BehaviourEvent::Autonat(
            Event::Probed(_) | Event::SummaryChanged { .. },
        )) = event
        {
            self.state = State::Known(self.swarm.behaviour().autonat.summary());
        }
    }
}

#[tokio::test]
async fn it_looks_again_when_the_interfaces_change() {
    let stage = Stage::new().await;
    // Long enough to be in the way of whoever waits for the next check.
    let (shortest, longest) = (Duration::from_secs(5), Duration::from_secs(3600));
    let swarm = stage.enters(|key| Behaviour {
        identify: identify(key),
        autonat: client::Behaviour::new(peer(key), config().with_recheck(shortest, longest)),
    });
    let state = State::Testing;
    let mut node = Node { swarm, state };

    let is = |summary| move |node: &Node| node.state == State::Known(summary);
    node.runs_until("it is public", is(Summary::Public)).await;
    node.on_interfaces_changed();
    assert_eq!(node.state, State::Testing);
    node.runs_until("it is still public", is(Summary::Public))
        .await;

    stage.close();
    node.on_interfaces_changed();
    node.runs_until("it is private", is(Summary::Private)).await;
    stage.open();
    node.on_interfaces_changed();
    node.runs_until("it is public again", is(Summary::Public))
        .await;
}
