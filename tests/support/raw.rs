//! A behaviour that opens and takes streams and does nothing with them.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
        NetworkBehaviour, NotifyHandler, StreamUpgradeError, SubstreamProtocol, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};

pub type RequestId = u64;

/// Why a stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawError {
    /// The connection is gone.
    NotConnected,
    /// The other side does not speak the protocol.
    NotSupported,
    /// Anything else.
    Failed(String),
}

#[derive(Debug)]
pub enum RawEvent {
    Opened {
        id: RequestId,
        result: Result<Stream, RawError>,
    },
    Inbound {
        peer: PeerId,
        connection: ConnectionId,
        protocol: StreamProtocol,
        stream: Stream,
    },
}

pub struct Raw {
    accepts: Vec<StreamProtocol>,
    connections: HashMap<ConnectionId, PeerId>,
    next: RequestId,
    actions: VecDeque<ToSwarm<RawEvent, Open>>,
}

#[derive(Debug)]
pub struct Open {
    id: RequestId,
    protocol: StreamProtocol,
}

impl Raw {
    pub fn new(accepts: &[StreamProtocol]) -> Self {
        Self {
            accepts: accepts.to_vec(),
            connections: HashMap::new(),
            next: 0,
            actions: VecDeque::new(),
        }
    }

    /// Opens a stream; [`RawEvent::Opened`] with the same id follows.
    pub fn open(&mut self, connection: ConnectionId, protocol: StreamProtocol) -> RequestId {
        let id = self.next;
        self.next += 1;
        self.actions
            .push_back(match self.connections.get(&connection) {
                Some(peer) => ToSwarm::NotifyHandler {
                    peer_id: *peer,
                    handler: NotifyHandler::One(connection),
                    event: Open { id, protocol },
                },
                None => ToSwarm::GenerateEvent(RawEvent::Opened {
                    id,
                    result: Err(RawError::NotConnected),
                }),
            });
        id
    }
}

impl NetworkBehaviour for Raw {
    type ConnectionHandler = Handler;
    type ToSwarm = RawEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(&self.accepts))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(&self.accepts))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(e) => {
                self.connections.insert(e.connection_id, e.peer_id);
            }
            FromSwarm::ConnectionClosed(e) => {
                self.connections.remove(&e.connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.actions.push_back(ToSwarm::GenerateEvent(match event {
            FromHandler::Opened { id, result } => RawEvent::Opened { id, result },
            FromHandler::Inbound { protocol, stream } => RawEvent::Inbound {
                peer,
                connection,
                protocol,
                stream,
            },
        }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<RawEvent, THandlerInEvent<Self>>> {
        match self.actions.pop_front() {
            Some(action) => Poll::Ready(action),
            None => Poll::Pending,
        }
    }
}

pub struct Handler {
    accepts: Vec<StreamProtocol>,
    opens: VecDeque<Open>,
    events: VecDeque<FromHandler>,
}

#[derive(Debug)]
pub enum FromHandler {
    Opened {
        id: RequestId,
        result: Result<Stream, RawError>,
    },
    Inbound {
        protocol: StreamProtocol,
        stream: Stream,
    },
}

impl Handler {
    fn new(accepts: &[StreamProtocol]) -> Self {
        Self {
            accepts: accepts.to_vec(),
            opens: VecDeque::new(),
            events: VecDeque::new(),
        }
    }
}

/// Takes streams of any of the protocols.
#[derive(Debug, Clone)]
pub struct Accept(Vec<StreamProtocol>);

impl UpgradeInfo for Accept {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Accept {
    type Output = (StreamProtocol, Stream);
    type Error = std::convert::Infallible;
    type Future = std::future::Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        std::future::ready(Ok((protocol, stream)))
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = FromHandler;
    type InboundProtocol = Accept;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = RequestId;

    fn listen_protocol(&self) -> SubstreamProtocol<Accept> {
        SubstreamProtocol::new(Accept(self.accepts.clone()), ())
    }

    /// So that a test decides when a connection ends.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, RequestId, FromHandler>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        match self.opens.pop_front() {
            Some(Open { id, protocol }) => {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(ReadyUpgrade::new(protocol), id),
                })
            }
            None => Poll::Pending,
        }
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.opens.push_back(open);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), RequestId>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream),
                ..
            }) => self
                .events
                .push_back(FromHandler::Inbound { protocol, stream }),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.events.push_back(FromHandler::Opened {
                id: info,
                result: Ok(protocol),
            }),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                self.events.push_back(FromHandler::Opened {
                    id: info,
                    result: Err(match error {
                        StreamUpgradeError::NegotiationFailed => RawError::NotSupported,
                        error => RawError::Failed(format!("{error:?}")),
                    }),
                });
            }
            _ => {}
        }
    }
}
