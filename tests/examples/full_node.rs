//! Two full nodes and a relay: each does what its reachability asks for, and changes over with it.

use std::{
    collections::BTreeSet,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
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
    noise, relay,
    swarm::{Config, NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_autonat_v2::{
    address,
    server::{self, DialBack},
};

use crate::process::{PATIENCE, Process, example, run};

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
    let key = Keypair::generate_ed25519();
    let me = key.public().to_peer_id();
    let dialer = Keypair::generate_ed25519();
    let config = || Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE * 3);
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
    let any = "/ip4/127.0.0.1/tcp/0".parse().expect("an address");
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

/// A full node that was told its listen port, which is a free one.
fn node(port: u16, hosts: &[&str]) -> Process {
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    Process::start(
        example("full_node"),
        hosts,
        &[("ALLOW_PRIVATE", "1"), ("LISTEN", &listen)],
    )
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

#[tokio::test]
async fn the_public_node_serves_the_dht_the_private_one_reserves_and_they_change_over() {
    let closed = Firewall::default();
    let (one, other) = (host(&closed).await, host(&closed).await);
    let hosts = [one.to_string(), other.to_string()];
    let hosts = [hosts[0].as_str(), hosts[1].as_str()];
    let (inside, outside) = (free_port(), free_port());
    closed.lock().expect("not poisoned").insert(inside);

    let mut private = node(inside, &hosts);
    let mut public = node(outside, &hosts);
    public.line("public: the DHT is in server mode").await;
    private.line("private: the DHT is in client mode").await;
    private.line("relay: ReservationReqAccepted").await;

    {
        let mut closed = closed.lock().expect("not poisoned");
        closed.clear();
        closed.insert(outside);
    }
    private.line("public: the DHT is in server mode").await;
    private.line("the slot on the relay is gone").await;
    public.line("private: the DHT is in client mode").await;
    public.line("relay: ReservationReqAccepted").await;
}

#[tokio::test]
async fn a_reservation_that_fails_is_told() {
    let closed = Firewall::default();
    closed.lock().expect("not poisoned").insert(EVERY_PORT);
    let (one, other) = (host(&closed).await, host(&closed).await);
    let nameless = [one, other].map(|mut addr| {
        addr.pop();
        addr.to_string()
    });
    let mut node = node(free_port(), &[&nameless[0], &nameless[1]]);
    node.line("private: the DHT is in client mode").await;
    let told = node.line("can't reserve on ").await;
    assert!(nameless.iter().any(|addr| told.contains(addr)), "{told}");
    assert!(told.contains("PeerId"), "says what is missing: {told}");
}

#[tokio::test]
async fn a_bad_argument_is_named() {
    for arg in ["--help", "/ip4/8.8.8.8/tcp"] {
        let run = run(example("full_node"), &[arg]).await;
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.stderr.contains(arg), "{run:?}");
    }
}
