//! Connections in memory, between a swarm and a peer that the fuzz target plays.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use futures::{FutureExt, future};
use libp2p_core::{
    Multiaddr, Transport,
    multiaddr::multihash::Multihash,
    muxing::{StreamMuxer, StreamMuxerBox, StreamMuxerEvent},
    transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent},
};
use libp2p_identity::PeerId;
use libp2p_swarm::StreamProtocol;

use crate::pipe::{Pipe, pipe};

/// A peer whose key nobody has.
pub fn peer(number: u8) -> PeerId {
    let id = Multihash::wrap(0, &[number; 32]).expect("it fits");
    PeerId::from_multihash(id).expect("an identity of 32 bytes")
}

/// The other side's end of a connection.
pub struct Connection {
    shared: Arc<Mutex<Link>>,
}

#[derive(Default)]
struct Link {
    /// Streams that one side opened and the other has not taken.
    to_swarm: VecDeque<Pipe>,
    from_swarm: VecDeque<Pipe>,
    closed: bool,
    wakers: Vec<Waker>,
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    /// The next stream that the swarm opened, with the protocol agreed upon, whatever it is.
    pub fn accept(&self) -> Option<Pipe> {
        let mut stream = lock(&self.shared).from_swarm.pop_front()?;
        // The proposal follows the header at once.
        let proposal = stream.take();
        stream.put(&proposal);
        Some(stream)
    }

    /// Opens a stream of this protocol. What the swarm says to that comes in before anything else.
    pub fn open(&self, protocol: &StreamProtocol) -> Pipe {
        let (mut ours, theirs) = pipe();
        for line in ["/multistream/1.0.0", protocol.as_ref()] {
            ours.put(&[line.len() as u8 + 1]);
            ours.put(line.as_bytes());
            ours.put(b"\n");
        }
        let mut link = lock(&self.shared);
        link.to_swarm.push_back(theirs);
        link.wakers.drain(..).for_each(Waker::wake);
        ours
    }

    /// Whether the swarm has closed it.
    pub fn is_closed(&self) -> bool {
        lock(&self.shared).closed
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        close(&self.shared);
    }
}

fn close(link: &Mutex<Link>) {
    let mut link = lock(link);
    link.closed = true;
    link.wakers.drain(..).for_each(Waker::wake);
}

/// The swarm's end of a connection.
struct Muxer {
    shared: Arc<Mutex<Link>>,
}

fn connection() -> (Connection, StreamMuxerBox) {
    let shared = Arc::<Mutex<Link>>::default();
    let muxer = Muxer {
        shared: shared.clone(),
    };
    (Connection { shared }, StreamMuxerBox::new(muxer))
}

impl Drop for Muxer {
    fn drop(&mut self) {
        close(&self.shared);
    }
}

impl StreamMuxer for Muxer {
    type Substream = Pipe;
    type Error = io::Error;

    fn poll_inbound(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Pipe>> {
        let mut link = lock(&self.shared);
        if link.closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        match link.to_swarm.pop_front() {
            Some(stream) => Poll::Ready(Ok(stream)),
            None => {
                link.wakers.push(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_outbound(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<Pipe>> {
        let mut link = lock(&self.shared);
        if link.closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let (theirs, ours) = pipe();
        link.from_swarm.push_back(theirs);
        Poll::Ready(Ok(ours))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        close(&self.shared);
        Poll::Ready(Ok(()))
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, io::Error>> {
        let mut link = lock(&self.shared);
        if link.closed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        link.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}

/// What happens to a dial of the swarm's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// This peer is there.
    Connects(PeerId),
    /// Nobody is.
    Refused,
    /// Nobody answers.
    Silent,
}

/// The network as the fuzz target sees it.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Mutex<Wires>>,
}

type Event = TransportEvent<future::Ready<io::Result<(PeerId, StreamMuxerBox)>>, io::Error>;

struct Wires {
    events: VecDeque<Event>,
    listener: Option<ListenerId>,
    waker: Option<Waker>,
    fates: Box<dyn FnMut(&Multiaddr) -> Fate + Send>,
    dialed: Vec<(Multiaddr, Option<Connection>)>,
}

impl Net {
    /// A network where `fates` says what happens to each dial.
    pub fn new(fates: impl FnMut(&Multiaddr) -> Fate + Send + 'static) -> Self {
        let wires = Wires {
            events: VecDeque::new(),
            listener: None,
            waker: None,
            fates: Box::new(fates),
            dialed: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(wires)),
        }
    }

    /// For the swarm.
    pub fn transport(&self) -> Boxed<(PeerId, StreamMuxerBox)> {
        self.clone().boxed()
    }

    /// A peer connects.
    pub fn connect(&self, peer: PeerId, local: Multiaddr, remote: Multiaddr) -> Connection {
        let (ours, theirs) = connection();
        let mut wires = lock(&self.shared);
        let listener_id = wires.listener.expect("the swarm listens");
        wires.events.push_back(TransportEvent::Incoming {
            listener_id,
            upgrade: future::ready(Ok((peer, theirs))),
            local_addr: local,
            send_back_addr: remote,
        });
        if let Some(waker) = wires.waker.take() {
            waker.wake();
        }
        ours
    }

    /// What the swarm has dialed since the last time, with the connection where there is one.
    pub fn dialed(&self) -> Vec<(Multiaddr, Option<Connection>)> {
        std::mem::take(&mut lock(&self.shared).dialed)
    }
}

impl Transport for Net {
    type Output = (PeerId, StreamMuxerBox);
    type Error = io::Error;
    type ListenerUpgrade = future::Ready<io::Result<Self::Output>>;
    type Dial = future::BoxFuture<'static, io::Result<Self::Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        addr: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        let mut wires = lock(&self.shared);
        wires.listener = Some(id);
        wires.events.push_back(TransportEvent::NewAddress {
            listener_id: id,
            listen_addr: addr,
        });
        Ok(())
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        addr: Multiaddr,
        _: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        let mut wires = lock(&self.shared);
        let (connection, dial) = match (wires.fates)(&addr) {
            Fate::Connects(peer) => {
                let (ours, theirs) = connection();
                (Some(ours), future::ready(Ok((peer, theirs))).boxed())
            }
            Fate::Refused => {
                let error = io::ErrorKind::ConnectionRefused.into();
                (None, future::ready(Err(error)).boxed())
            }
            Fate::Silent => (None, future::pending().boxed()),
        };
        wires.dialed.push((addr, connection));
        Ok(dial)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let mut wires = lock(&self.shared);
        match wires.events.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                wires.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
