//! A summary built from events, in a part of the program that never sees the swarm: what the status page shows.

use std::collections::BTreeMap;

use futures::StreamExt;
use libp2p::{
    Multiaddr, Swarm, identify,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::client::{self, Event, Verdict};

use crate::stage::{Application, Stage, config, identify, peer};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

/// What the page shows.
#[derive(Default)]
struct Status {
    verdicts: BTreeMap<Multiaddr, Verdict>,
}

impl Status {
    fn on_event(&mut self, event: &Event) {
        if let Event::VerdictChanged { address, new, .. } = event {
            self.verdicts.insert(address.clone(), *new);
        }
    }

    fn line(&self) -> String {
        let reachable = self.verdicts.values().filter(|v| **v == Verdict::Reachable);
        format!("{} of {} addresses", reachable.count(), self.verdicts.len())
    }
}

struct Node {
    swarm: Swarm<Behaviour>,
    status: Status,
}

impl Application for Node {
    async fn step(&mut self) {
        if let SwarmEvent::Behaviour(BehaviourEvent::Autonat(event)) =
            self.swarm.select_next_some().await
        {
            self.status.on_event(&event);
        }
    }
}

#[tokio::test]
async fn it_says_what_the_behaviour_would_say() {
    let stage = Stage::new().await;
    let mut swarm = stage.enters(|key| Behaviour {
        identify: identify(key),
        autonat: client::Behaviour::new(peer(key), config()),
    });
    let closed = "/ip4/127.0.0.1/tcp/9".parse().expect("an address");
    let autonat = &mut swarm.behaviour_mut().autonat;
    autonat.add_candidate(&closed).expect("it can be tested");
    let status = Status::default();
    let mut node = Node { swarm, status };

    node.runs_until("one works and one does not", |node| {
        node.status.line() == "1 of 2 addresses"
    })
    .await;
    for report in node.swarm.behaviour().autonat.addresses() {
        let shown = node.status.verdicts.get(&report.address);
        assert_eq!(
            shown.copied().unwrap_or(Verdict::Unknown),
            report.verdict,
            "{report:?}"
        );
    }
    stage.close();
    node.runs_until("none works", |node| {
        node.status.line() == "0 of 2 addresses"
    })
    .await;
}
