//! The client's end of a connection: requests that go out, and dial-backs that come in.
//!
//! It carries bytes and knows no policy. What happens is told by id; whether a nonce is any good, the behaviour says. An
//! idle handler is a few words without allocation or timer, since a node has one for each connection.

use std::{
    fmt,
    task::{Context, Poll, ready},
    time::Duration,
};

use asynchronous_codec::Framed;
use futures::{FutureExt, SinkExt, StreamExt};
use futures_timer::Delay;
use libp2p_core::upgrade::ReadyUpgrade;
use libp2p_swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError,
    SubstreamProtocol,
    handler::{
        ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        ProtocolsChange,
    },
};

use super::{
    exchange::{Exchange, Progress},
    requests::OutgoingRequest,
};
use crate::{
    protocol::{
        DIAL_BACK_PROTOCOL, DIAL_REQUEST_PROTOCOL, DialBack, DialBackClientCodec, DialBackResponse,
        DialRequest, DialResponse, Nonce,
    },
    reachability::{ProbeEnd, ProbeId},
};

/// How many requests are under way on one connection. The core sends one at a time; a second may still be closing.
const MAX_REQUESTS: usize = 2;
/// How many dial-backs come in at once on one connection. A server opens one.
const MAX_DIAL_BACKS: usize = 2;
/// How long a dial-back may take from its opening to the end of the answer.
const DIAL_BACK_TIME: Duration = Duration::from_secs(5);

/// Names a dial-back stream of a connection.
pub(super) type StreamId = u32;

/// The handler of a connection of [`Behaviour`](super::Behaviour).
#[derive(Default)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Handler {
    /// Whether the peer serves dial requests on this connection.
    serves: bool,
    /// Whether the behaviour was told so.
    told: bool,
    next_stream: StreamId,
    active: Option<Box<Active>>,
}

/// What a handler has while there are streams.
#[derive(Default)]
struct Active {
    requests: Vec<Request>,
    dial_backs: Vec<DialBackStream>,
    /// Probes that could not be taken.
    turned_down: Vec<ProbeId>,
}

struct Request {
    probe: ProbeId,
    state: RequestState,
    timer: Delay,
}

enum RequestState {
    /// The stream is still to be asked for.
    New(DialRequest),
    /// The stream is being opened.
    Opening(DialRequest),
    Running(Box<Exchange<Stream>>),
    Failed(ProbeEnd),
}

struct DialBackStream {
    id: StreamId,
    framed: Framed<Stream, DialBackClientCodec>,
    step: DialBackStep,
    timer: Delay,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DialBackStep {
    Read,
    /// The nonce was told; the behaviour's turn.
    Wait,
    Answer,
}

/// What a handler tells the behaviour.
#[derive(Debug)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Report(pub(super) ToBehaviour);

#[derive(Debug)]
pub(super) enum ToBehaviour {
    Serves(bool),
    Response {
        probe: ProbeId,
        response: DialResponse,
    },
    /// A server wants dial data.
    Asks {
        probe: ProbeId,
        index: u32,
        bytes: u64,
    },
    Ended {
        probe: ProbeId,
        end: ProbeEnd,
    },
    /// The request is over: the server has ended the stream without a word.
    Unread {
        probe: ProbeId,
    },
    Nonce {
        stream: StreamId,
        nonce: Nonce,
    },
}

/// What the behaviour tells a handler.
#[derive(Debug)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Command(pub(super) FromBehaviour);

#[derive(Debug)]
pub(super) enum FromBehaviour {
    Ask(OutgoingRequest),
    /// Send the dial data that was asked for, or break the request off. Ignored if it is over.
    Pay {
        probe: ProbeId,
        pays: bool,
    },
    /// Answer a dial-back with `OK`, or reset its stream. Ignored if the stream is gone.
    Answer {
        stream: StreamId,
        accept: bool,
    },
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("serves", &self.serves)
            .field("active", &self.active.is_some())
            .finish_non_exhaustive()
    }
}

impl Handler {
    fn ask(&mut self, order: OutgoingRequest) {
        let active = self.active.get_or_insert_default();
        if active.requests.len() >= MAX_REQUESTS {
            active.turned_down.push(order.probe);
            return;
        }
        let request = DialRequest::new(order.addrs, order.nonce);
        active.requests.push(Request {
            probe: order.probe,
            state: RequestState::New(request.with_nonce_encoding(order.encoding)),
            timer: Delay::new(order.timeout),
        });
    }

    fn pay(&mut self, probe: ProbeId, pays: bool) {
        let active = self.active.as_mut();
        let request = active.and_then(|it| it.requests.iter_mut().find(|it| it.probe == probe));
        if let Some(Request {
            state: RequestState::Running(exchange),
            ..
        }) = request
        {
            exchange.pay(pays);
        }
    }

    fn answer(&mut self, stream: StreamId, accept: bool) {
        let Some(active) = &mut self.active else {
            return;
        };
        let Some(at) = active.dial_backs.iter().position(|it| it.id == stream) else {
            return;
        };
        let Some(dial_back) = active.dial_backs.get_mut(at) else {
            return;
        };
        let answered = accept
            && dial_back
                .framed
                .start_send_unpin(DialBackResponse::default())
                .is_ok();
        if answered {
            dial_back.step = DialBackStep::Answer;
        } else {
            // To drop a stream that is not closed is to reset it.
            active.dial_backs.swap_remove(at);
        }
    }

    fn dial_back_opened(&mut self, stream: Stream) {
        let active = self.active.get_or_insert_default();
        if active.dial_backs.len() >= MAX_DIAL_BACKS {
            return;
        }
        active.dial_backs.push(DialBackStream {
            id: self.next_stream,
            framed: Framed::new(stream, DialBackClientCodec::new()),
            step: DialBackStep::Read,
            timer: Delay::new(DIAL_BACK_TIME),
        });
        self.next_stream = self.next_stream.wrapping_add(1);
    }

    fn request_opened(&mut self, stream: Stream, probe: ProbeId) {
        if let Some(request) = self.opening(probe)
            && let RequestState::Opening(message) = &mut request.state
        {
            let exchange = Exchange::new(stream, std::mem::take(message));
            request.state = RequestState::Running(Box::new(exchange));
        }
    }

    fn request_failed(&mut self, probe: ProbeId, end: ProbeEnd) {
        if let Some(request) = self.opening(probe) {
            request.state = RequestState::Failed(end);
        }
    }

    fn opening(&mut self, probe: ProbeId) -> Option<&mut Request> {
        let active = self.active.as_mut()?;
        active.requests.iter_mut().find(|request| {
            request.probe == probe && matches!(request.state, RequestState::Opening(_))
        })
    }

    fn protocols_changed(&mut self, change: &ProtocolsChange<'_>) {
        match change {
            ProtocolsChange::Added(added) => {
                self.serves |= added.clone().any(|it| *it == DIAL_REQUEST_PROTOCOL);
            }
            ProtocolsChange::Removed(removed) => {
                self.serves &= !removed.clone().any(|it| *it == DIAL_REQUEST_PROTOCOL);
            }
        }
    }
}

/// What a handler does next: a stream to open, or something to tell.
enum Step {
    Open(ProbeId),
    Tell(ToBehaviour),
}

impl Active {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        if let Some(probe) = self.turned_down.pop() {
            let end = ProbeEnd::Reset;
            return Poll::Ready(Step::Tell(ToBehaviour::Ended { probe, end }));
        }
        for at in (0..self.dial_backs.len()).rev() {
            let Some(dial_back) = self.dial_backs.get_mut(at) else {
                continue;
            };
            match dial_back.poll(cx) {
                Poll::Pending => {}
                Poll::Ready(Some(nonce)) => {
                    let stream = dial_back.id;
                    return Poll::Ready(Step::Tell(ToBehaviour::Nonce { stream, nonce }));
                }
                Poll::Ready(None) => {
                    self.dial_backs.swap_remove(at);
                }
            }
        }
        for at in (0..self.requests.len()).rev() {
            let Some(request) = self.requests.get_mut(at) else {
                continue;
            };
            let Poll::Ready(step) = request.poll(cx) else {
                continue;
            };
            if matches!(
                step,
                Step::Tell(ToBehaviour::Ended { .. } | ToBehaviour::Unread { .. })
            ) {
                self.requests.swap_remove(at);
            }
            return Poll::Ready(step);
        }
        Poll::Pending
    }

    fn is_idle(&self) -> bool {
        self.requests.is_empty() && self.dial_backs.is_empty() && self.turned_down.is_empty()
    }
}

impl Request {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Step> {
        let probe = self.probe;
        let ended = |end| Poll::Ready(Step::Tell(ToBehaviour::Ended { probe, end }));
        let progress = match &mut self.state {
            RequestState::New(message) => {
                self.state = RequestState::Opening(std::mem::take(message));
                return Poll::Ready(Step::Open(probe));
            }
            RequestState::Failed(end) => return ended(*end),
            RequestState::Opening(_) => Poll::Pending,
            RequestState::Running(exchange) => exchange.poll(cx),
        };
        match progress {
            Poll::Ready(Progress::Response(response)) => {
                Poll::Ready(Step::Tell(ToBehaviour::Response { probe, response }))
            }
            Poll::Ready(Progress::Asks { index, bytes }) => {
                Poll::Ready(Step::Tell(ToBehaviour::Asks {
                    probe,
                    index,
                    bytes,
                }))
            }
            Poll::Ready(Progress::Over(end)) => ended(end),
            Poll::Ready(Progress::Unread) => Poll::Ready(Step::Tell(ToBehaviour::Unread { probe })),
            Poll::Pending => {
                ready!(self.timer.poll_unpin(cx));
                ended(ProbeEnd::Timeout)
            }
        }
    }
}

impl DialBackStream {
    /// The nonce once it was read, `None` when the stream is to be dropped.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Nonce>> {
        let progress = match self.step {
            DialBackStep::Read => self.framed.poll_next_unpin(cx).map(|read| match read {
                Some(Ok(DialBack { nonce })) => Some(Nonce {
                    number: nonce,
                    encoding: self.framed.codec().nonce_encoding(),
                }),
                Some(Err(_)) | None => None,
            }),
            DialBackStep::Wait => Poll::Pending,
            // Closing flushes first. The other side may reset the stream as soon as it has the answer.
            DialBackStep::Answer => self.framed.poll_close_unpin(cx).map(|_| None),
        };
        match progress {
            Poll::Ready(Some(nonce)) => {
                self.step = DialBackStep::Wait;
                Poll::Ready(Some(nonce))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(self.timer.poll_unpin(cx));
                Poll::Ready(None)
            }
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Report;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ProbeId;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        SubstreamProtocol::new(ReadyUpgrade::new(DIAL_BACK_PROTOCOL), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, ProbeId, Report>> {
        if self.serves != self.told {
            self.told = self.serves;
            let report = Report(ToBehaviour::Serves(self.serves));
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(report));
        }
        let Some(active) = &mut self.active else {
            return Poll::Pending;
        };
        match active.poll(cx) {
            Poll::Ready(Step::Open(probe)) => {
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(
                        ReadyUpgrade::new(DIAL_REQUEST_PROTOCOL),
                        probe,
                    ),
                })
            }
            Poll::Ready(Step::Tell(said)) => {
                Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(Report(said)))
            }
            Poll::Pending => {
                if active.is_idle() {
                    self.active = None;
                }
                Poll::Pending
            }
        }
    }

    fn on_behaviour_event(&mut self, Command(command): Command) {
        match command {
            FromBehaviour::Ask(order) => self.ask(order),
            FromBehaviour::Pay { probe, pays } => self.pay(probe, pays),
            FromBehaviour::Answer { stream, accept } => self.answer(stream, accept),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol, (), ProbeId>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol, ..
            }) => self.dial_back_opened(protocol),
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                info,
            }) => self.request_opened(protocol, info),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let end = match error {
                    StreamUpgradeError::Timeout => ProbeEnd::Timeout,
                    StreamUpgradeError::NegotiationFailed => ProbeEnd::Unsupported,
                    _ => ProbeEnd::Reset,
                };
                self.request_failed(info, end);
            }
            ConnectionEvent::RemoteProtocolsChange(change) => self.protocols_changed(&change),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
