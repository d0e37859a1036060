//! A hysteresis: an address is announced when servers in two networks have proven it, and stays announced until it is
//! disproven.

use futures::StreamExt;
use libp2p::{
    Swarm, identify,
    swarm::{NetworkBehaviour, SwarmEvent},
};
use libp2p_autonat_v2::client::{self, Event, ProbeOutcome, Verdict};

use crate::stage::{Application, Stage, config, identify, peer};

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

struct Node {
    swarm: Swarm<Behaviour>,
    proofs: usize,
    announced: bool,
}

impl Application for Node {
    async fn step(&mut self) {
        match self.swarm.select_next_some().await {
            SwarmEvent::ExternalAddrConfirmed { .. } => self.announced = true,
            SwarmEvent::ExternalAddrExpired { .. } => self.announced = false,
            SwarmEvent::Behaviour(BehaviourEvent::Autonat(Event::Probed(probed))) => {
                self.proofs += usize::from(matches!(probed.outcome, ProbeOutcome::Reachable(_)));
            }
            _ => {}
        }
    }
}

/// Only there all of 127.0.0.0/8 is this machine's.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_network_alone_gets_nothing_announced() {
    let stage = Stage::new().await;
    let swarm = Stage::enters_alone(|key| Behaviour {
        identify: identify(key),
        autonat: client::Behaviour::new(peer(key), config().with_required_servers(2)),
    });
    let (proofs, announced) = (0, false);
    let mut node = Node {
        swarm,
        proofs,
        announced,
    };

    // One server proves it again and again.
    node.swarm
        .dial(stage.servers()[0].clone())
        .expect("the dial starts");
    node.runs_until("it is proven often", |node| node.proofs >= 3)
        .await;
    assert!(!node.announced);
    let verdicts: Vec<_> = node
        .swarm
        .behaviour()
        .autonat
        .addresses()
        .map(|r| r.verdict)
        .collect();
    assert_eq!(
        verdicts,
        [Verdict::Reachable],
        "it is known, and not announced"
    );

    node.swarm
        .dial(stage.servers()[1].clone())
        .expect("the dial starts");
    node.runs_until("a second network has proven it", |node| node.announced)
        .await;

    stage.close();
    node.runs_until("it is disproven", |node| !node.announced)
        .await;
}
