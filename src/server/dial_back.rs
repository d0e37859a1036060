//! The dial-back: one dial to one address, the nonce delivered on exactly that connection, and the
//! connection closed.
//!
//! [`DialBack`] is a behaviour of its own, so that the same code serves two homes: inside
//! [`Behaviour`](super::Behaviour), dialing with the node's own swarm, or as the behaviour of a second
//! [`Swarm`](libp2p_swarm::Swarm) that does nothing else. It knows no policy, no limits and no clock:
//! it does what it is told, reports what became of it, and forgets. It must never touch a connection
//! other than the ones that it dialed (AutoNAT v2 specification, steps 4 and 5).

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    task::{Context, Poll},
};

use libp2p_core::{
    Endpoint, Multiaddr,
    transport::{PortUse, TransportError},
};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    CloseConnection, ConnectionDenied, ConnectionError, ConnectionId, DialError, FromSwarm,
    NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    behaviour::{ConnectionClosed, DialFailure},
    dial_opts::{DialOpts, PeerCondition},
};
use web_time::Instant;

use super::{capabilities::Capabilities, own::OwnIps};
use crate::{
    protocol::Nonce,
    service::{Dial, DialBackOutcome, DialId, NotDelivered, NotDialed},
};

mod failure;
mod handler;

pub(super) use handler::{Handler, Step};

/// The behaviour of a dialer of its own: a swarm that only carries out dial-backs for a
/// [`Behaviour`](super::Behaviour) that lives in another swarm.
///
/// Give such a swarm an identity of its own and no listener, or a listener on a second IP, and hand
/// it to [`Behaviour::with_dialer`](super::Behaviour::with_dialer). It accepts no inbound connection.
///
/// ```
/// use libp2p_autonat_v2::server;
/// use libp2p::{SwarmBuilder, noise, tcp, yamux};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dialer = SwarmBuilder::with_new_identity()
///     .with_tokio()
///     .with_tcp(tcp::Config::default(), noise::Config::new, || {
///         server::BoundedClose::new(yamux::Config::default())
///     })?
///     .with_quic()
///     .with_behaviour(|_| server::DialBack::default())?
///     .build();
/// let server = server::Behaviour::with_dialer(server::Config::default(), dialer);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct DialBack {
    kind: SwarmKind,
    port_use: PortUse,
    /// The connections of dials that the server's core has not seen gone, and what is to be done with each. The core counts
    /// them.
    connections: BTreeMap<ConnectionId, Connection>,
    /// At most three per dial.
    dial_events: VecDeque<DialEvent>,
    /// At most three per dial.
    actions: VecDeque<ToSwarm<Infallible, Infallible>>,
    pub(super) capabilities: Capabilities,
    pub(super) own_ips: OwnIps,
}

/// Whose swarm this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SwarmKind {
    /// The node's. It also carries everybody else's connections.
    Node,
    /// This behaviour's alone.
    Dedicated,
}

#[derive(Debug)]
struct Connection {
    dial: DialId,
    peer: PeerId,
    state: ConnectionState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    /// Not established; then the nonce is delivered.
    Pending(Nonce),
    /// Not established, and nobody waits for it. It is refused if it still gets through.
    Refused,
    Established,
    /// The swarm was asked to close it.
    Closing,
}

/// What became of a dial; of no use to anyone but the server that asked for it.
#[derive(Debug)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct DialBackEvent(pub(super) DialEvent);

#[derive(Debug)]
pub(super) enum DialEvent {
    Established(DialId),
    Ended(DialId, DialBackOutcome),
    /// Its socket is gone.
    Gone(DialId),
}

/// Why a connection was refused that was dialed, but came too late.
#[derive(Debug, thiserror::Error)]
#[error("the request that this dial-back was for is over")]
struct TooLate;

/// Why a dialer of its own refuses whoever connects to it.
#[derive(Debug, thiserror::Error)]
#[error("this node only dials")]
struct OnlyDials;

impl Default for DialBack {
    fn default() -> Self {
        Self::of(SwarmKind::Dedicated)
    }
}

impl DialBack {
    /// For the node's own swarm.
    pub(super) fn of_node() -> Self {
        Self::of(SwarmKind::Node)
    }

    fn of(kind: SwarmKind) -> Self {
        Self {
            kind,
            port_use: PortUse::New,
            connections: BTreeMap::new(),
            dial_events: VecDeque::new(),
            actions: VecDeque::new(),
            capabilities: Capabilities::default(),
            own_ips: OwnIps::default(),
        }
    }

    /// Dial from the sockets of this dialer's listeners, where the transport can, rather than from a
    /// new port. Default: a new port.
    ///
    /// With a listener on a second IP, QUIC dial-backs then come from that IP, which the client has
    /// never contacted: the strictest test. TCP takes over the listener's port only; its source IP is
    /// the routing table's choice. Without a listener there is nothing to gain. Never listen on an IP
    /// and port that clients know.
    #[must_use]
    pub fn with_dials_from_listeners(mut self, from_listeners: bool) -> Self {
        self.port_use = if from_listeners {
            PortUse::Reuse
        } else {
            PortUse::New
        };
        self
    }

    /// Dials as told, and delivers the nonce there.
    pub(super) fn dial(&mut self, dial: Dial) -> ConnectionId {
        let opts = DialOpts::peer_id(dial.peer)
            .condition(PeerCondition::Always)
            .addresses(vec![dial.addr]);
        let opts = match self.port_use {
            PortUse::New => opts.allocate_new_port(),
            PortUse::Reuse => opts,
        };
        let opts = opts.build();
        let id = opts.connection_id();
        self.connections.insert(
            id,
            Connection {
                dial: dial.id,
                peer: dial.peer,
                state: ConnectionState::Pending(dial.nonce),
            },
        );
        self.actions.push_back(ToSwarm::Dial { opts });
        id
    }

    /// Nobody waits for this dial any more. It is aborted where that is possible; else its connection is closed, or
    /// refused as soon as it comes.
    pub(super) fn end(&mut self, dial: DialId) {
        let Some((id, connection)) = self
            .connections
            .iter_mut()
            .find(|(_, connection)| connection.dial == dial)
        else {
            return;
        };
        let peer_id = connection.peer;
        match connection.state {
            ConnectionState::Pending(_) => {
                connection.state = ConnectionState::Refused;
                // A swarm can only abort all dials of a peer at once, and closes the peer's connections with them: nothing to
                // do in a swarm that has connections of others. There is one dial to a peer at a time.
                if self.kind == SwarmKind::Dedicated {
                    self.actions.push_back(ToSwarm::CloseConnection {
                        peer_id,
                        connection: CloseConnection::All,
                    });
                }
            }
            ConnectionState::Established => {
                connection.state = ConnectionState::Closing;
                self.actions.push_back(ToSwarm::CloseConnection {
                    peer_id,
                    connection: CloseConnection::One(*id),
                });
            }
            ConnectionState::Refused | ConnectionState::Closing => {}
        }
    }

    /// The handler for this connection, if it is a dial-back.
    pub(super) fn handler_for(
        &self,
        id: ConnectionId,
    ) -> Result<Option<Handler>, ConnectionDenied> {
        match self.connections.get(&id).map(|it| it.state) {
            Some(ConnectionState::Pending(nonce)) => Ok(Some(Handler::deliver(nonce))),
            Some(_) => Err(ConnectionDenied::new(TooLate)),
            None => Ok(None),
        }
    }

    /// The handler of this connection says what became of the nonce.
    pub(super) fn on_report(&mut self, id: ConnectionId, result: Result<(), NotDelivered>) {
        if let Some(connection) = self.connections.get(&id) {
            let outcome = match result {
                Ok(()) => DialBackOutcome::Delivered,
                Err(cause) => DialBackOutcome::NotDelivered(cause),
            };
            self.dial_events
                .push_back(DialEvent::Ended(connection.dial, outcome));
        }
    }

    /// The next thing to tell the server.
    pub(super) fn next_dial_event(&mut self) -> Option<DialEvent> {
        self.dial_events.pop_front()
    }

    /// The next thing to ask of the swarm that dials.
    pub(super) fn next_action(&mut self) -> Option<ToSwarm<Infallible, Infallible>> {
        self.actions.pop_front()
    }

    fn on_established(&mut self, id: ConnectionId) {
        // One that nobody waits for was refused by now.
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.state = ConnectionState::Established;
            self.dial_events
                .push_back(DialEvent::Established(connection.dial));
        }
    }

    fn on_closed(&mut self, closed: ConnectionClosed<'_>) {
        if let Some(Connection { dial, .. }) = self.connections.remove(&closed.connection_id) {
            let outcome = match closed.cause {
                None | Some(ConnectionError::KeepAliveTimeout) => {
                    DialBackOutcome::NotDialed(NotDialed::Aborted)
                }
                Some(ConnectionError::IO(_)) => {
                    DialBackOutcome::NotDelivered(NotDelivered::ConnectionLost)
                }
            };
            self.dial_events.push_back(DialEvent::Ended(dial, outcome));
            self.dial_events.push_back(DialEvent::Gone(dial));
        }
    }

    fn on_failure(&mut self, failure: DialFailure<'_>) {
        let Some(Connection { dial, .. }) = self.connections.remove(&failure.connection_id) else {
            return;
        };
        let now = Instant::now();
        if let DialError::Transport(errors) = failure.error {
            for (addr, error) in errors {
                if let TransportError::MultiaddrNotSupported(_) = error {
                    self.capabilities.dial_unsupported(now, addr);
                }
            }
        }
        let outcome = DialBackOutcome::of(failure.error, |addr| {
            self.capabilities.is_connected(now, addr)
        });
        self.dial_events.push_back(DialEvent::Ended(dial, outcome));
        self.dial_events.push_back(DialEvent::Gone(dial));
    }
}

impl NetworkBehaviour for DialBack {
    type ConnectionHandler = Handler;
    type ToSwarm = DialBackEvent;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        match self.kind {
            SwarmKind::Dedicated => Err(ConnectionDenied::new(OnlyDials)),
            SwarmKind::Node => Ok(()),
        }
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::idle())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler_for(id)?.unwrap_or_else(Handler::idle))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.own_ips.on_swarm_event(&event);
        self.capabilities.on_swarm_event(&event);
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.on_established(established.connection_id);
            }
            FromSwarm::DialFailure(failure) => self.on_failure(failure),
            FromSwarm::ConnectionClosed(closed) => self.on_closed(closed),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        id: ConnectionId,
        result: THandlerOutEvent<Self>,
    ) {
        self.on_report(id, result);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some(fact) = self.next_dial_event() {
            return Poll::Ready(ToSwarm::GenerateEvent(DialBackEvent(fact)));
        }
        match self.next_action() {
            Some(action) => Poll::Ready(action.map_out(|never| match never {})),
            None => Poll::Pending,
        }
    }
}
