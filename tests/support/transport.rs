//! TCP and QUIC on loopback, with a record of every dial, and with public addresses if need be.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::Either;
use libp2p::{
    Multiaddr, PeerId, Swarm, Transport,
    core::{
        multiaddr::Protocol,
        muxing::{StreamMuxer, StreamMuxerBox},
        transport::{Boxed, DialOpts, ListenerId, OrTransport, TransportError, TransportEvent},
        upgrade::Version,
    },
    identity::Keypair,
    noise, quic, relay,
    swarm::{Config, NetworkBehaviour},
    tcp, yamux,
};
use libp2p_autonat_v2::server::{BoundedClose, FreshPorts};

/// Every address that a transport was told to dial, in order.
#[derive(Debug, Clone, Default)]
pub struct Dials(Arc<Mutex<Vec<Multiaddr>>>);

impl Dials {
    pub fn all(&self) -> Vec<Multiaddr> {
        self.0.lock().expect("not poisoned").clone()
    }

    /// Forgets what was dialed so far.
    pub fn clear(&self) {
        self.0.lock().expect("not poisoned").clear();
    }
}

/// What the addresses of a transport look like. Whatever they look like, nothing leaves the loopback
/// interface: a dial of anything else is recorded and fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// 127.0.0.0/8, as it is.
    Loopback,
    /// 127.a.b.c is called 20.a.b.c, which is public, so that a node can be tested that does not dial
    /// private addresses.
    Public,
}

/// The public name of a loopback address.
pub fn public(addr: &Multiaddr) -> Multiaddr {
    with_first_octet(addr, 127, 20)
}

/// The loopback address that a public name stands for.
pub fn loopback(addr: &Multiaddr) -> Multiaddr {
    with_first_octet(addr, 20, 127)
}

fn with_first_octet(addr: &Multiaddr, from: u8, to: u8) -> Multiaddr {
    addr.iter()
        .map(|part| match part {
            Protocol::Ip4(ip) if ip.octets()[0] == from => {
                let [_, b, c, d] = ip.octets();
                Protocol::Ip4([to, b, c, d].into())
            }
            part => part,
        })
        .collect()
}

/// A swarm over TCP and QUIC.
pub fn swarm<B: NetworkBehaviour>(keypair: Keypair, behaviour: B) -> Swarm<B> {
    recording_swarm(keypair, behaviour, Scope::Loopback).0
}

/// A swarm over TCP and QUIC, and the record of its dials.
pub fn recording_swarm<B: NetworkBehaviour>(
    keypair: Keypair,
    behaviour: B,
    scope: Scope,
) -> (Swarm<B>, Dials) {
    let peer_id = keypair.public().to_peer_id();
    record(tcp_and_quic(&keypair), peer_id, behaviour, scope)
}

/// As [`recording_swarm`] and over WebSocket too, and no connection over TCP or WebSocket takes long to close.
pub fn bounded_swarm<B: NetworkBehaviour>(
    keypair: Keypair,
    behaviour: B,
    scope: Scope,
) -> (Swarm<B>, Dials) {
    let peer_id = keypair.public().to_peer_id();
    let noise = noise::Config::new(&keypair).expect("the key signs");
    let multiplexer = BoundedClose::new(yamux::Config::default());
    let tcp = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(multiplexer.clone())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let websocket = tcp::tokio::Transport::new(tcp::Config::default());
    let websocket = libp2p_websocket::Config::new(websocket)
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(multiplexer)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let both = OrTransport::new(websocket, tcp).map(|either, _| either.into_inner());
    record(beside_quic(&keypair, both), peer_id, behaviour, scope)
}

/// A swarm over TCP, QUIC and relays, and the record of its dials.
pub fn relayed_swarm<B: NetworkBehaviour>(
    keypair: &Keypair,
    behaviour: impl FnOnce(relay::client::Behaviour) -> B,
) -> (Swarm<B>, Dials) {
    let peer_id = keypair.public().to_peer_id();
    let (relayed, relay) = relay::client::new(peer_id);
    let relayed = relayed
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let all = OrTransport::new(relayed, tcp_and_quic(keypair))
        .map(|either, _| either.into_inner())
        .boxed();
    record(all, peer_id, behaviour(relay), Scope::Loopback)
}

/// As [`recording_swarm`], with [`FreshPorts`] over QUIC.
pub fn fresh_ports_swarm<B: NetworkBehaviour>(
    keypair: Keypair,
    behaviour: B,
    scope: Scope,
) -> (Swarm<B>, Dials) {
    let peer_id = keypair.public().to_peer_id();
    let config = quic::Config::new(&keypair);
    let quic = FreshPorts::new(move || quic::tokio::Transport::new(config.clone()));
    record(both(quic, tcp(&keypair)), peer_id, behaviour, scope)
}

fn tcp_and_quic(keypair: &Keypair) -> Inner {
    beside_quic(keypair, tcp(keypair))
}

fn tcp(keypair: &Keypair) -> Boxed<(PeerId, StreamMuxerBox)> {
    tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(keypair).expect("the key signs"))
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// This transport, and QUIC.
fn beside_quic<T, M>(keypair: &Keypair, tcp: T) -> Inner
where
    T: Transport<Output = (PeerId, M), Error: Send + Sync, ListenerUpgrade: Send, Dial: Send>
        + Send
        + Unpin
        + 'static,
    M: StreamMuxer<Substream: Send, Error: Send + Sync> + Send + 'static,
{
    both(quic::tokio::Transport::new(quic::Config::new(keypair)), tcp)
}

fn both<Q, T, M>(quic: Q, tcp: T) -> Inner
where
    Q: Transport<
            Output = (PeerId, quic::Connection),
            Error: Send + Sync,
            ListenerUpgrade: Send,
            Dial: Send,
        > + Send
        + Unpin
        + 'static,
    T: Transport<Output = (PeerId, M), Error: Send + Sync, ListenerUpgrade: Send, Dial: Send>
        + Send
        + Unpin
        + 'static,
    M: StreamMuxer<Substream: Send, Error: Send + Sync> + Send + 'static,
{
    OrTransport::new(quic, tcp)
        .map(|either, _| match either {
            Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
            Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        })
        .boxed()
}

/// A swarm over this transport, and the record of its dials.
pub(super) fn record<B: NetworkBehaviour>(
    inner: Inner,
    peer_id: PeerId,
    behaviour: B,
    scope: Scope,
) -> (Swarm<B>, Dials) {
    let dials = Dials::default();
    let transport = Recording {
        inner,
        scope,
        dials: dials.clone(),
    };
    // No test lives to see it: a connection that closes is closed by somebody.
    let config =
        Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60 * 60));
    let swarm = Swarm::new(transport.boxed(), behaviour, peer_id, config);
    (swarm, dials)
}

type Inner = Boxed<(PeerId, StreamMuxerBox)>;

struct Recording {
    inner: Inner,
    scope: Scope,
    dials: Dials,
}

impl Recording {
    fn outward(&self, addr: &Multiaddr) -> Multiaddr {
        match self.scope {
            Scope::Loopback => addr.clone(),
            Scope::Public => public(addr),
        }
    }

    fn inward(&self, addr: &Multiaddr) -> Multiaddr {
        match self.scope {
            Scope::Loopback => addr.clone(),
            Scope::Public => loopback(addr),
        }
    }
}

fn is_loopback(addr: &Multiaddr) -> bool {
    match addr.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

impl Transport for Recording {
    type Output = <Inner as Transport>::Output;
    type Error = io::Error;
    type ListenerUpgrade = <Inner as Transport>::ListenerUpgrade;
    type Dial = <Inner as Transport>::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        let addr = self.inward(&addr);
        self.inner.listen_on(id, addr)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.dials
            .0
            .lock()
            .expect("not poisoned")
            .push(addr.clone());
        let inside = self.inward(&addr);
        if !is_loopback(&inside) || (self.scope == Scope::Public && is_loopback(&addr)) {
            return Err(TransportError::Other(io::Error::from(
                io::ErrorKind::HostUnreachable,
            )));
        }
        self.inner.dial(inside, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let polled = Pin::new(&mut self.inner).poll(cx);
        polled.map(|event| match event {
            TransportEvent::NewAddress {
                listener_id,
                listen_addr,
            } => TransportEvent::NewAddress {
                listener_id,
                listen_addr: self.outward(&listen_addr),
            },
            TransportEvent::AddressExpired {
                listener_id,
                listen_addr,
            } => TransportEvent::AddressExpired {
                listener_id,
                listen_addr: self.outward(&listen_addr),
            },
            TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr,
                send_back_addr,
            } => TransportEvent::Incoming {
                listener_id,
                upgrade,
                local_addr: self.outward(&local_addr),
                send_back_addr: self.outward(&send_back_addr),
            },
            other => other,
        })
    }
}
