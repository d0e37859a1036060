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
use crate::protocol::Nonce;

mod handler;
mod outcome;
mod route;

pub(super) use handler::{Handler, Step};
pub use outcome::{DialBackOutcome, NotDelivered, NotDialed};

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
    home: Home,
    port_use: PortUse,
    /// Every dial that may hold a socket: from the moment that it is asked for until the swarm says that it failed or that
    /// its connection is closed. Whether anybody still waits for it makes no difference: in a swarm that others use too a
    /// dial cannot be called back, and a target can keep a connection from closing. Bounded by the server, which starts no
    /// dial beyond its limit.
    dials: BTreeMap<ConnectionId, Dial>,
    /// At most three per dial.
    facts: VecDeque<Fact>,
    /// At most three per dial.
    actions: VecDeque<ToSwarm<Infallible, Infallible>>,
    pub(super) capabilities: Capabilities,
    pub(super) own_ips: OwnIps,
}

/// Whose swarm this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Home {
    /// The node's. It also carries everybody else's connections.
    Shared,
    /// This behaviour's alone.
    Own,
}

#[derive(Debug)]
struct Dial {
    peer: PeerId,
    addr: Multiaddr,
    nonce: Nonce,
    state: DialState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DialState {
    Pending,
    /// Nobody waits for it any more. Its connection is refused if it is still established.
    Abandoned,
    Established,
    /// Nobody waits for it any more, and the swarm was asked to close its connection.
    Closing,
}

impl DialState {
    /// Whether the outcome is known, and only the socket is left.
    const fn is_over(self) -> bool {
        matches!(self, Self::Abandoned | Self::Closing)
    }
}

/// What became of a dial; of no use to anyone but the server that asked for it.
#[derive(Debug)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct DialBackEvent(pub(super) Fact);

#[derive(Debug)]
pub(super) enum Fact {
    Connected(ConnectionId),
    Ended(ConnectionId, DialBackOutcome),
    /// This peer has one dial less.
    Gone(PeerId),
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
        Self::in_home(Home::Own)
    }
}

impl DialBack {
    pub(super) fn shared() -> Self {
        Self::in_home(Home::Shared)
    }

    fn in_home(home: Home) -> Self {
        Self {
            home,
            port_use: PortUse::New,
            dials: BTreeMap::new(),
            facts: VecDeque::new(),
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

    /// Dials that may hold a socket.
    pub(super) fn in_flight(&self) -> usize {
        self.dials.len()
    }

    /// Those of them that nobody waits for any more, with their addresses.
    pub(super) fn lingering(&self) -> impl Iterator<Item = &Multiaddr> {
        let over = self.dials.values().filter(|dial| dial.state.is_over());
        over.map(|dial| &dial.addr)
    }

    /// Whether this peer has a connection of a dial-back, or is about to get one. An abandoned dial, which only a busy or
    /// silent target leaves, is refused if it still gets through.
    pub(super) fn occupies(&self, peer: PeerId) -> bool {
        let mut dials = self.dials.values();
        dials.any(|dial| dial.peer == peer && dial.state != DialState::Abandoned)
    }

    /// Dials `addr`, expecting `peer`, and delivers the nonce there.
    pub(super) fn dial(&mut self, peer: PeerId, addr: Multiaddr, nonce: Nonce) -> ConnectionId {
        let opts = DialOpts::peer_id(peer)
            .condition(PeerCondition::Always)
            .addresses(vec![addr.clone()]);
        let opts = match self.port_use {
            PortUse::New => opts.allocate_new_port(),
            PortUse::Reuse => opts,
        };
        let opts = opts.build();
        let id = opts.connection_id();
        self.dials.insert(
            id,
            Dial {
                peer,
                addr,
                nonce,
                state: DialState::Pending,
            },
        );
        self.actions.push_back(ToSwarm::Dial { opts });
        id
    }

    /// Nobody waits for this dial any more. It is called back where that is possible; else its connection is closed, or
    /// refused as soon as it comes.
    pub(super) fn abandon(&mut self, id: ConnectionId) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        match dial.state {
            DialState::Pending => {
                dial.state = DialState::Abandoned;
                let peer = dial.peer;
                self.report(Fact::Gone(peer));
                self.call_back(peer);
            }
            DialState::Established => self.close(id),
            DialState::Abandoned | DialState::Closing => {}
        }
    }

    /// Aborts the abandoned dials of this peer if nobody waits for any other of them. A swarm can only abort all at once,
    /// and closes the peer's connections with them: nothing to do in a swarm that has connections of others.
    fn call_back(&mut self, peer: PeerId) {
        let dials = || self.dials.values().filter(|dial| dial.peer == peer);
        let abandoned = dials().any(|dial| dial.state == DialState::Abandoned);
        if self.home == Home::Own && abandoned && dials().all(|dial| dial.state.is_over()) {
            self.actions.push_back(ToSwarm::CloseConnection {
                peer_id: peer,
                connection: CloseConnection::All,
            });
        }
    }

    /// The handler for this connection, if it is a dial-back.
    pub(super) fn handler_for(
        &self,
        id: ConnectionId,
    ) -> Result<Option<Handler>, ConnectionDenied> {
        match self.dials.get(&id) {
            Some(dial) if dial.state == DialState::Abandoned => Err(ConnectionDenied::new(TooLate)),
            Some(dial) => Ok(Some(Handler::deliver(dial.nonce))),
            None => Ok(None),
        }
    }

    /// The handler of this connection says what became of the nonce.
    pub(super) fn on_report(&mut self, id: ConnectionId, result: Result<(), NotDelivered>) {
        let state = self.dials.get(&id).map(|dial| dial.state);
        if state == Some(DialState::Established) {
            let outcome = match result {
                Ok(()) => DialBackOutcome::Delivered,
                Err(cause) => DialBackOutcome::NotDelivered(cause),
            };
            self.report(Fact::Ended(id, outcome));
            self.close(id);
        }
    }

    /// The next thing to tell the server.
    pub(super) fn next_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// The next thing to ask of the swarm that dials.
    pub(super) fn next_action(&mut self) -> Option<ToSwarm<Infallible, Infallible>> {
        self.actions.pop_front()
    }

    fn report(&mut self, fact: Fact) {
        self.facts.push_back(fact);
    }

    /// Closes the connection of this dial and no other of the peer. It is forgotten when it is closed.
    fn close(&mut self, id: ConnectionId) {
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.state = DialState::Closing;
            let peer = dial.peer;
            self.actions.push_back(ToSwarm::CloseConnection {
                peer_id: peer,
                connection: CloseConnection::One(id),
            });
            self.call_back(peer);
        }
    }

    fn on_established(&mut self, id: ConnectionId) {
        // An abandoned one was refused by now.
        if let Some(dial) = self.dials.get_mut(&id) {
            dial.state = DialState::Established;
            self.report(Fact::Connected(id));
        }
    }

    fn on_closed(&mut self, closed: ConnectionClosed<'_>) {
        let id = closed.connection_id;
        if let Some(dial) = self.dials.remove(&id) {
            if dial.state.is_over() {
                self.report(Fact::Gone(dial.peer));
                return;
            }
            let outcome = match closed.cause {
                None | Some(ConnectionError::KeepAliveTimeout) => {
                    DialBackOutcome::NotDialed(NotDialed::Aborted)
                }
                Some(ConnectionError::IO(_)) => {
                    DialBackOutcome::NotDelivered(NotDelivered::ConnectionLost)
                }
            };
            self.report(Fact::Ended(id, outcome));
            self.report(Fact::Gone(dial.peer));
            self.call_back(dial.peer);
        }
    }

    fn on_failure(&mut self, failure: DialFailure<'_>) {
        let id = failure.connection_id;
        let Some(dial) = self.dials.remove(&id) else {
            return;
        };
        let now = Instant::now();
        if let DialError::Transport(errors) = failure.error
            && errors
                .iter()
                .any(|(_, error)| matches!(error, TransportError::MultiaddrNotSupported(_)))
        {
            self.capabilities.dial_unsupported(now, &dial.addr);
        }
        if dial.state != DialState::Abandoned {
            let outcome = DialBackOutcome::of(failure.error, |addr| {
                self.capabilities.is_connected(now, addr)
            });
            self.report(Fact::Ended(id, outcome));
            self.report(Fact::Gone(dial.peer));
            self.call_back(dial.peer);
        }
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
        match self.home {
            Home::Own => Err(ConnectionDenied::new(OnlyDials)),
            Home::Shared => Ok(()),
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
        if let Some(fact) = self.next_fact() {
            return Poll::Ready(ToSwarm::GenerateEvent(DialBackEvent(fact)));
        }
        match self.next_action() {
            Some(action) => Poll::Ready(action.map_out(|never| match never {})),
            None => Poll::Pending,
        }
    }
}
