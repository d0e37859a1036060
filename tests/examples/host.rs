//! Servers behind a wall that a test can open and close.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::{
    collections::BTreeSet,
    io,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent},
        upgrade::Version,
    },
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    noise, relay,
    swarm::{Config, NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_autonat_v2::{
    address,
    server::{self, DialBack},
};

/// Longer than any test takes.
const IDLE: Duration = Duration::from_secs(600);

/// Stands for all ports in a [`Firewall`].
pub(crate) const EVERY_PORT: u16 = 0;

/// The ports that no dial gets through to.
pub(crate) type Firewall = Arc<Mutex<BTreeSet<u16>>>;
type Inner = Boxed<(PeerId, StreamMuxerBox)>;

struct Firewalled {
    inner: Inner,
    closed: Firewall,
}

impl Transport for Firewalled {
    type Output = <Inner as Transport>::Output;
    type Error = io::Error;
    type ListenerUpgrade = <Inner as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let port = address::thin_waist(&addr).map_or(0, |waist| waist.port);
        let closed = self.closed.lock().expect("not poisoned");
        if closed.contains(&EVERY_PORT) || closed.contains(&port) {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            return Ok(std::future::ready(Err(refused)).boxed());
        }
        Ok(self.inner.dial(addr, opts)?.boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}

fn tcp(key: &Keypair) -> Inner {
    tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .boxed()
}

#[derive(NetworkBehaviour)]
struct Host {
    identify: identify::Behaviour,
    relay: relay::Behaviour,
    autonat: server::Behaviour,
}

/// A relay that serves AutoNAT v2 too, and dials through a firewall. Runs until the test ends.
pub(crate) async fn host(closed: &Firewall) -> Multiaddr {
    host_at([127, 0, 0, 1], closed).await
}

/// As [`host`], on an IP of its own.
pub(crate) async fn host_at(ip: [u8; 4], closed: &Firewall) -> Multiaddr {
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let dialer = Keypair::generate_ed25519();
    let config = || Config::with_tokio_executor().with_idle_connection_timeout(IDLE);
    let firewalled = Firewalled {
        inner: tcp(&dialer),
        closed: Arc::clone(closed),
    };
    let peer = dialer.public().to_peer_id();
    let dialer = Swarm::new(firewalled.boxed(), DialBack::default(), peer, config());
    let allowed = server::Config::default().with_private_addresses(true);
    let behaviour = Host {
        identify: identify::Behaviour::new(identify::Config::new("/test/1".into(), key.public())),
        relay: relay::Behaviour::new(me, relay::Config::default()),
        autonat: server::Behaviour::with_dialer(allowed, dialer),
    };
    let mut swarm = Swarm::new(tcp(&key), behaviour, me, config());
    let any = Multiaddr::from(Ipv4Addr::from(ip)).with(Protocol::Tcp(0));
    swarm.listen_on(any).expect("it listens");
    let addr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            break address;
        }
    };
    swarm.add_external_address(addr.clone());
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    addr.with_p2p(me).expect("it names no peer yet")
}
