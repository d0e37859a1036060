//! TCP and QUIC on loopback, with a record of every dial.

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
        muxing::StreamMuxerBox,
        transport::{Boxed, DialOpts, ListenerId, OrTransport, TransportError, TransportEvent},
        upgrade::Version,
    },
    identity::Keypair,
    noise, quic,
    swarm::{Config, NetworkBehaviour},
    tcp, yamux,
};

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

/// A swarm over TCP and QUIC.
pub fn swarm<B: NetworkBehaviour>(keypair: Keypair, behaviour: B) -> Swarm<B> {
    recording_swarm(keypair, behaviour).0
}

/// A swarm over TCP and QUIC, and the record of its dials.
pub fn recording_swarm<B: NetworkBehaviour>(keypair: Keypair, behaviour: B) -> (Swarm<B>, Dials) {
    let peer_id = keypair.public().to_peer_id();
    let tcp = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(Version::V1Lazy)
        .authenticate(noise::Config::new(&keypair).expect("the key signs"))
        .multiplex(yamux::Config::default());
    let quic = quic::tokio::Transport::new(quic::Config::new(&keypair));
    let both = OrTransport::new(quic, tcp).map(|either, _| match either {
        Either::Left((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
        Either::Right((peer, muxer)) => (peer, StreamMuxerBox::new(muxer)),
    });
    let dials = Dials::default();
    let transport = Recording {
        inner: both.boxed(),
        dials: dials.clone(),
    };
    let config =
        Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    let swarm = Swarm::new(transport.boxed(), behaviour, peer_id, config);
    (swarm, dials)
}

type Inner = Boxed<(PeerId, StreamMuxerBox)>;

struct Recording {
    inner: Inner,
    dials: Dials,
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
        self.inner.dial(addr, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
