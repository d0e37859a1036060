//! Where the applications run: beside three servers in three networks, with a wall around them that a test can close and open.

use std::time::Duration;

use libp2p::{Multiaddr, PeerId, Swarm, identify, identity::Keypair, swarm::NetworkBehaviour};
use libp2p_autonat_v2::client;

use crate::{
    host::{EVERY_PORT, Firewall, host_at},
    support::{swarm, within},
};

/// Longer than a node that looks again every second may take to change its mind, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(240);

pub(crate) struct Stage {
    wall: Firewall,
    servers: Vec<Multiaddr>,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let wall = Firewall::default();
        let mut servers = Vec::new();
        for network in 0..3 {
            // Only Linux has all of 127.0.0.0/8.
            let network = if cfg!(target_os = "linux") {
                network
            } else {
                0
            };
            servers.push(host_at([127, network, 0, 1], &wall).await);
        }
        Self { wall, servers }
    }

    /// From now on no server gets through to any port.
    pub(crate) fn close(&self) {
        self.wall.lock().expect("not poisoned").insert(EVERY_PORT);
    }

    /// From now on they all get through.
    pub(crate) fn open(&self) {
        self.wall.lock().expect("not poisoned").clear();
    }

    pub(crate) fn servers(&self) -> &[Multiaddr] {
        &self.servers
    }

    /// A node that listens and knows the servers.
    pub(crate) fn enters<B: NetworkBehaviour>(
        &self,
        behaviour: impl FnOnce(&Keypair) -> B,
    ) -> Swarm<B> {
        let mut swarm = Self::enters_alone(behaviour);
        for server in &self.servers {
            swarm.dial(server.clone()).expect("the dial starts");
        }
        swarm
    }

    /// A node that listens and knows nobody.
    pub(crate) fn enters_alone<B: NetworkBehaviour>(
        behaviour: impl FnOnce(&Keypair) -> B,
    ) -> Swarm<B> {
        let key = Keypair::generate_ed25519();
        let behaviour = behaviour(&key);
        let mut swarm = swarm(key, behaviour);
        let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
        swarm.listen_on(any).expect("it listens");
        swarm
    }
}

pub(crate) fn identify(key: &Keypair) -> identify::Behaviour {
    let config = identify::Config::new("/test/1".to_owned(), key.public());
    identify::Behaviour::new(config.with_hide_listen_addrs(true))
}

/// As the default, but for loopback and for tests that can't wait.
pub(crate) fn config() -> client::Config {
    let second = Duration::from_secs(1);
    client::Config::default()
        .with_private_addresses(true)
        .with_recheck(second, second)
        .with_requests_per_minute(12)
}

pub(crate) fn peer(key: &Keypair) -> PeerId {
    key.public().to_peer_id()
}

/// An application with an event loop.
pub(crate) trait Application {
    /// Waits for one event and reacts to it.
    async fn step(&mut self);

    /// Runs until `done`.
    async fn runs_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        within(PATIENCE, what, async {
            while !done(self) {
                self.step().await;
            }
        })
        .await;
    }
}
