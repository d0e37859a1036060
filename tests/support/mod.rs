//! What the tests over real swarms share: nodes that run in the background, a peer that speaks
//! raw bytes, transports that remember every dial, and waiting with a deadline.
//!
//! Nothing here sleeps, and nothing leaves the loopback interface.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "each test uses a part of it"
)]
#![allow(clippy::result_large_err, reason = "events are handed back whole")]

use std::{
    collections::VecDeque,
    fmt::Debug,
    future::Future,
    net::SocketAddr,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    Multiaddr, PeerId, Stream, Swarm,
    identity::Keypair,
    multiaddr::Protocol,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use tokio::sync::{mpsc, oneshot};

pub mod autonat;
mod naked;
mod raw;
pub mod serving;
mod transport;

pub use naked::{Face, face, naked_swarm};
pub use raw::{Raw, RawError, RawEvent};
pub use transport::{
    Dials, Scope, bounded_swarm, fresh_ports_swarm, loopback, public, recording_swarm,
    relayed_swarm, swarm,
};

/// How long a test waits for something that must happen. Generous, as it is only spent on failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a connection may live on that somebody closes.
pub const PROMPTLY: Duration = Duration::from_secs(5);

/// Waits for `future`, and panics with `what` if that takes too long.
pub async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out after {limit:?}: {what}"),
    }
}

type Task<B> = Box<dyn FnOnce(&mut Swarm<B>) + Send>;

/// A swarm that runs on a task of its own.
///
/// Its events are kept until the test takes them; what the test wants of the swarm is run on the task.
pub struct Node<B: NetworkBehaviour> {
    pub peer_id: PeerId,
    tasks: mpsc::UnboundedSender<Task<B>>,
    events: mpsc::UnboundedReceiver<SwarmEvent<B::ToSwarm>>,
    /// Events that were looked at and left for later.
    passed: VecDeque<SwarmEvent<B::ToSwarm>>,
    runner: tokio::task::JoinHandle<()>,
}

impl<B: NetworkBehaviour> Drop for Node<B> {
    fn drop(&mut self) {
        self.runner.abort();
    }
}

impl<B> Node<B>
where
    B: NetworkBehaviour + Send,
    B::ToSwarm: Debug + Send,
{
    pub fn spawn(swarm: Swarm<B>) -> Self {
        Self::spawn_observed(swarm, |_| {})
    }

    /// As [`Node::spawn`]; `observe` sees each event once, when it occurs.
    pub fn spawn_observed(
        mut swarm: Swarm<B>,
        observe: impl Fn(&SwarmEvent<B::ToSwarm>) + Send + 'static,
    ) -> Self {
        let peer_id = *swarm.local_peer_id();
        let (tasks, mut inbox) = mpsc::unbounded_channel::<Task<B>>();
        let (outbox, events) = mpsc::unbounded_channel();
        let runner = tokio::spawn(async move {
            loop {
                tokio::select! {
                    task = inbox.recv() => match task {
                        Some(task) => task(&mut swarm),
                        None => return,
                    },
                    event = swarm.select_next_some() => {
                        tracing::trace!(peer = %swarm.local_peer_id(), ?event);
                        observe(&event);
                        // Nobody may be interested any more.
                        let _ = outbox.send(event);
                    }
                }
            }
        });
        Self {
            peer_id,
            tasks,
            events,
            passed: VecDeque::new(),
            runner,
        }
    }

    /// Runs `task` with the swarm, between two of its polls.
    pub async fn with<R, F>(&self, task: F) -> R
    where
        R: Send + 'static,
        F: FnOnce(&mut Swarm<B>) -> R + Send + 'static,
    {
        let (done, result) = oneshot::channel();
        let sent = self.tasks.send(Box::new(move |swarm| {
            let _ = done.send(task(swarm));
        }));
        assert!(sent.is_ok(), "the node runs");
        within(PATIENCE, "the node takes a task", result)
            .await
            .expect("the node runs")
    }

    /// The first event that `pick` takes, those that came before included. Others are kept.
    pub async fn event<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(&SwarmEvent<B::ToSwarm>) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        for at in 0..self.passed.len() {
            if let Some(picked) = pick(&self.passed[at]) {
                self.passed.remove(at);
                return picked;
            }
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some(event)) => match pick(&event) {
                    Some(picked) => return picked,
                    None => self.passed.push_back(event),
                },
                Ok(None) => panic!("the node stopped before: {what}"),
                Err(_) => panic!("timed out: {what}; events so far: {:#?}", self.passed),
            }
        }
    }

    /// As [`Node::event`], for an event that is handed over whole. `pick` breaks with what it takes, and
    /// continues with what it leaves.
    pub async fn take<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(SwarmEvent<B::ToSwarm>) -> ControlFlow<T, SwarmEvent<B::ToSwarm>>,
    ) -> T {
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..self.passed.len() {
            if let Some(event) = self.passed.pop_front() {
                match pick(event) {
                    ControlFlow::Break(picked) => return picked,
                    ControlFlow::Continue(event) => self.passed.push_back(event),
                }
            }
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.events.recv()).await {
                Ok(Some(event)) => match pick(event) {
                    ControlFlow::Break(picked) => return picked,
                    ControlFlow::Continue(event) => self.passed.push_back(event),
                },
                Ok(None) => panic!("the node stopped before: {what}"),
                Err(_) => panic!("timed out: {what}; events so far: {:#?}", self.passed),
            }
        }
    }

    /// The next event that was not looked at yet.
    pub async fn next_event(&mut self) -> SwarmEvent<B::ToSwarm> {
        match self.passed.pop_front() {
            Some(event) => event,
            None => self.events.recv().await.expect("the node runs"),
        }
    }

    /// Takes all events that are there, without waiting.
    pub fn drain(&mut self) -> Vec<SwarmEvent<B::ToSwarm>> {
        let mut events: Vec<_> = self.passed.drain(..).collect();
        while let Ok(event) = self.events.try_recv() {
            events.push(event);
        }
        events
    }

    /// Listens and waits for the address.
    pub async fn listen(&mut self, addr: &str) -> Multiaddr {
        let addr: Multiaddr = addr.parse().expect("a valid multiaddr");
        let listener = self
            .with(move |swarm| swarm.listen_on(addr).expect("the transport can listen"))
            .await;
        self.event("a listen address", |event| match event {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } if *listener_id == listener => Some(address.clone()),
            _ => None,
        })
        .await
    }

    /// Dials and waits for the connection.
    pub async fn connect(&mut self, opts: impl Into<DialOpts>) -> ConnectionId {
        let opts = opts.into();
        let connection = opts.connection_id();
        self.with(move |swarm| swarm.dial(opts).expect("the dial starts"))
            .await;
        self.event("a connection", |event| match event {
            SwarmEvent::ConnectionEstablished { connection_id, .. }
                if *connection_id == connection =>
            {
                Some(())
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } if *connection_id == connection => panic!("the dial failed: {error}"),
            _ => None,
        })
        .await;
        connection
    }

    /// The other end of an established connection.
    pub async fn remote_address(&mut self, connection: ConnectionId) -> Multiaddr {
        self.event("the connection is established", |event| match event {
            SwarmEvent::ConnectionEstablished {
                connection_id,
                endpoint,
                ..
            } if *connection_id == connection => Some(endpoint.get_remote_address().clone()),
            _ => None,
        })
        .await
    }

    /// Waits until this connection is closed.
    pub async fn closed(&mut self, connection: ConnectionId) {
        self.event("the connection closes", |event| match event {
            SwarmEvent::ConnectionClosed { connection_id, .. } if *connection_id == connection => {
                Some(())
            }
            _ => None,
        })
        .await;
    }

    /// As [`Node::closed`], and it must not take long: somebody closes the connection, and does not leave it to a timeout.
    pub async fn closed_promptly(&mut self, connection: ConnectionId) {
        within(PROMPTLY, "the connection closes", self.closed(connection)).await;
    }

    /// Waits for an inbound connection from this peer.
    pub async fn connected_by(&mut self, peer: PeerId) -> ConnectionId {
        self.event("an inbound connection", |event| match event {
            SwarmEvent::ConnectionEstablished {
                connection_id,
                peer_id,
                endpoint,
                ..
            } if *peer_id == peer && endpoint.is_listener() => Some(*connection_id),
            _ => None,
        })
        .await
    }
}

/// A dial that does not leave from a listening port. A reused port can collide with connections of earlier tests that the
/// kernel has not forgotten.
pub fn from_new_port(addr: Multiaddr) -> DialOpts {
    DialOpts::unknown_peer_id()
        .address(addr)
        .allocate_new_port()
        .build()
}

/// The socket address of an IP and a port.
pub fn address_of(addr: &Multiaddr) -> SocketAddr {
    let mut parts = addr.iter();
    match (parts.next(), parts.next()) {
        (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port) | Protocol::Udp(port))) => {
            (ip, port).into()
        }
        other => panic!("not an IPv4 address and a port: {other:?}"),
    }
}

/// A peer that speaks raw bytes.
pub type RawPeer = Node<Raw>;

impl RawPeer {
    /// A peer that takes streams of these protocols.
    pub fn new(accepts: &[libp2p::StreamProtocol]) -> Self {
        Self::with_keypair(Keypair::generate_ed25519(), accepts)
    }

    pub fn with_keypair(keypair: Keypair, accepts: &[libp2p::StreamProtocol]) -> Self {
        Self::spawn(swarm(keypair, Raw::new(accepts)))
    }

    /// Opens a stream on this connection.
    pub async fn open(
        &mut self,
        connection: ConnectionId,
        protocol: libp2p::StreamProtocol,
    ) -> Result<Stream, RawError> {
        let id = self
            .with(move |swarm| swarm.behaviour_mut().open(connection, protocol))
            .await;
        self.take("an answer to a stream", |event| match event {
            SwarmEvent::Behaviour(RawEvent::Opened { id: opened, result }) if opened == id => {
                ControlFlow::Break(result)
            }
            other => ControlFlow::Continue(other),
        })
        .await
    }

    /// The next stream that was opened by the other side.
    pub async fn accept(&mut self) -> (PeerId, ConnectionId, Stream) {
        self.take("an inbound stream", |event| match event {
            SwarmEvent::Behaviour(RawEvent::Inbound {
                peer,
                connection,
                stream,
                ..
            }) => ControlFlow::Break((peer, connection, stream)),
            other => ControlFlow::Continue(other),
        })
        .await
    }
}

/// A length-delimited frame.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut length = unsigned_varint::encode::usize_buffer();
    let mut frame = unsigned_varint::encode::usize(message.len(), &mut length).to_vec();
    frame.extend_from_slice(message);
    frame
}

/// Writes and flushes.
pub async fn send(stream: &mut Stream, bytes: &[u8]) -> std::io::Result<()> {
    within(PATIENCE, "the stream takes bytes", async {
        stream.write_all(bytes).await?;
        stream.flush().await
    })
    .await
}

/// Reads until the stream ends, however it ends.
pub async fn read_to_end(stream: &mut Stream) -> Vec<u8> {
    let mut read = Vec::new();
    within(PATIENCE, "the stream ends", async {
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            read.extend_from_slice(&buffer[..n]);
        }
    })
    .await;
    read
}
