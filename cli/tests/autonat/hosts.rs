//! Servers and clients in this process, of kinds that the program itself is not.

use std::{
    io,
    net::{IpAddr, TcpListener},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, Transport,
    core::{
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent},
        upgrade::Version,
    },
    identify,
    identity::Keypair,
    noise,
    swarm::{Config, NetworkBehaviour, SwarmEvent},
    tcp, yamux,
};
use libp2p_autonat_v2::{
    address, client,
    server::{self, DialBack},
};

use crate::process::PATIENCE;

/// A multiaddr with all that a terminal should not get to see.
pub(crate) const NASTY: &str =
    "/dns4/\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}cod.exe\u{200b}\r\nYES. Strangers/tcp/1";

#[derive(NetworkBehaviour)]
struct Server {
    identify: identify::Behaviour,
    autonat: server::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Client {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

#[derive(NetworkBehaviour)]
struct Deaf {
    identify: identify::Behaviour,
}

fn identify(key: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(identify::Config::new("/test/1".to_owned(), key.public()))
}

fn serving() -> server::Config {
    server::Config::default().with_private_addresses(true)
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

/// One of each kind.
pub(crate) fn keys() -> Vec<Keypair> {
    // Made for this test; it protects nothing.
    let mut rsa = include_bytes!("rsa-2048.pk8").to_vec();
    vec![
        Keypair::generate_ed25519(),
        Keypair::generate_ecdsa(),
        Keypair::generate_secp256k1(),
        Keypair::rsa_from_pkcs8(&mut rsa).expect("it is a key"),
    ]
}

/// The transport of [`tcp`], with a wall around it or a bad memory.
struct Odd {
    inner: Inner,
    dials: bool,
    sees_everyone_at: Option<Multiaddr>,
}

type Inner = Boxed<(PeerId, StreamMuxerBox)>;

impl Transport for Odd {
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
        match self.dials {
            true => Ok(self.inner.dial(addr, opts)?.boxed()),
            false => {
                let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                Ok(std::future::ready(Err(refused)).boxed())
            }
        }
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let mut event = Pin::new(&mut self.inner).poll(cx);
        if let Poll::Ready(TransportEvent::Incoming { send_back_addr, .. }) = &mut event
            && let Some(addr) = &self.sees_everyone_at
        {
            *send_back_addr = addr.clone();
        }
        event
    }
}

fn tcp(key: &Keypair) -> Inner {
    tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(key).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .boxed()
}

fn config() -> Config {
    Config::with_tokio_executor().with_idle_connection_timeout(PATIENCE * 3)
}

fn with_transport<B: NetworkBehaviour>(key: &Keypair, transport: Inner, behaviour: B) -> Swarm<B> {
    Swarm::new(transport, behaviour, key.public().to_peer_id(), config())
}

fn with_tcp_and_quic<B: NetworkBehaviour>(key: Keypair, behaviour: B) -> Swarm<B> {
    SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(
            tcp::Config::default(),
            noise::Config::new,
            yamux::Config::default,
        )
        .expect("TCP can be set up")
        .with_quic()
        .with_behaviour(|_| behaviour)
        .expect("the behaviour can be set up")
        .with_swarm_config(|_| config())
        .build()
}

async fn listen<B: NetworkBehaviour>(swarm: &mut Swarm<B>, addr: &str) -> Multiaddr {
    swarm
        .listen_on(addr.parse().expect("an address"))
        .expect("it listens");
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            let me = *swarm.local_peer_id();
            return address.with_p2p(me).expect("it names no peer yet");
        }
    }
}

/// Runs until the test ends.
fn run<B>(mut swarm: Swarm<B>)
where
    B: NetworkBehaviour + Send,
{
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
}

/// A server with that key: where it is over TCP and QUIC.
pub(crate) async fn with_key(key: Keypair) -> [Multiaddr; 2] {
    let behaviour = Server {
        identify: identify(&key),
        autonat: server::Behaviour::new(serving()),
    };
    let mut swarm = with_tcp_and_quic(key, behaviour);
    let tcp = listen(&mut swarm, "/ip4/127.0.0.1/tcp/0").await;
    let quic = listen(&mut swarm, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    run(swarm);
    [tcp, quic]
}

/// A server whose every dial is refused.
pub(crate) async fn walled_off() -> Multiaddr {
    let (key, dialer) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let wall = Odd {
        inner: tcp(&dialer),
        dials: false,
        sees_everyone_at: None,
    };
    let dialer = with_transport(&dialer, wall.boxed(), DialBack::default());
    let behaviour = Server {
        identify: identify(&key),
        autonat: server::Behaviour::with_dialer(serving(), dialer),
    };
    let mut swarm = with_transport(&key, tcp(&key), behaviour);
    let addr = listen(&mut swarm, "/ip4/127.0.0.1/tcp/0").await;
    run(swarm);
    addr
}

/// A server that tells each peer that it sees it there.
pub(crate) async fn that_sees_everyone_at(addr: &str) -> Multiaddr {
    let key = Keypair::generate_ed25519();
    let odd = Odd {
        inner: tcp(&key),
        dials: true,
        sees_everyone_at: Some(addr.parse().expect("an address")),
    };
    let behaviour = Server {
        identify: identify(&key),
        autonat: server::Behaviour::new(serving()),
    };
    let mut swarm = with_transport(&key, odd.boxed(), behaviour);
    let addr = listen(&mut swarm, "/ip4/127.0.0.1/tcp/0").await;
    run(swarm);
    addr
}

/// A peer that does not speak AutoNAT.
pub(crate) async fn deaf() -> Multiaddr {
    let key = Keypair::generate_ed25519();
    let behaviour = Deaf {
        identify: identify(&key),
    };
    let mut swarm = with_transport(&key, tcp(&key), behaviour);
    let addr = listen(&mut swarm, "/ip4/127.0.0.1/tcp/0").await;
    run(swarm);
    addr
}

fn client(key: Keypair) -> Swarm<Client> {
    let config = client::Config::default().with_private_addresses(true);
    let behaviour = Client {
        identify: identify(&key),
        autonat: client::Behaviour::new(key.public().to_peer_id(), config),
    };
    with_tcp_and_quic(key, behaviour)
}

/// Runs the client until its address is found reachable. From where it was dialed meanwhile.
async fn until_reachable(swarm: &mut Swarm<Client>) -> Vec<IpAddr> {
    let mut dialers = Vec::new();
    let reachable = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::IncomingConnection { send_back_addr, .. } => {
                    dialers.extend(address::ip(&send_back_addr));
                }
                SwarmEvent::Behaviour(ClientEvent::Autonat(client::Event::VerdictChanged {
                    new,
                    ..
                })) => {
                    assert_eq!(new, client::Verdict::Reachable);
                    return;
                }
                _ => {}
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), reachable).await;
    found.expect("the server dials in time");
    dialers
}

/// From which IPs the server dials a client, over QUIC.
pub(crate) async fn dialers_of_a_client_of(server: &Multiaddr) -> Vec<IpAddr> {
    let mut swarm = client(Keypair::generate_ed25519());
    listen(&mut swarm, "/ip4/127.0.0.1/udp/0/quic-v1").await;
    swarm.dial(server.clone()).expect("it dials");
    until_reachable(&mut swarm).await
}

/// Whether a client with that key gets what it asks for; panics otherwise.
pub(crate) async fn is_served(key: Keypair, server: &Multiaddr) {
    let mut swarm = client(key);
    let listen_on = match address::transport(server) {
        Some(address::Transport::Quic) => "/ip4/127.0.0.1/udp/0/quic-v1",
        _ => "/ip4/127.0.0.1/tcp/0",
    };
    listen(&mut swarm, listen_on).await;
    swarm.dial(server.clone()).expect("it dials");
    until_reachable(&mut swarm).await;
}
