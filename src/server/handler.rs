//! The server's end of a connection: streams in and out, by id, as the behaviour commands.
//!
//! A handler knows no policy and keeps no time for requests; the behaviour's jobs do. It asks before it
//! reads: a stream is announced and left untouched until the behaviour serves or rejects it. An idle
//! handler is a few words without allocation or timer, since a node has one per connection.

use std::{
    fmt, mem,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt;
use futures_timer::Delay;
use libp2p_core::{Multiaddr, upgrade::ReadyUpgrade};
use libp2p_swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, SubstreamProtocol,
    handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
};
use web_time::Instant;

use super::{
    End, NotDelivered, dial_back,
    exchange::{Exchange, Meter, Progress, Rejection},
    switch::{Offer, Place, Switch},
};
use crate::{
    address,
    protocol::{DIAL_BACK_PROTOCOL, DialDataRequest, DialRequest, DialResponse, Limits},
};

/// How long a rejected client may take to read that it was rejected.
const REJECTION_TIME: Duration = Duration::from_secs(2);

/// What all handlers of a server have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limits: Limits,
    pub(super) max_streams: usize,
    pub(super) switch: Switch,
    next_stream: AtomicU32,
}

impl Shared {
    pub(super) fn new(limits: Limits, max_streams: usize) -> Self {
        Self {
            limits,
            max_streams,
            switch: Switch::default(),
            next_stream: AtomicU32::new(0),
        }
    }
}

/// Names a stream of a server. Not reused, short of 2^32 streams.
pub(super) type StreamId = u32;

/// The handler of a connection of [`Behaviour`](super::Behaviour).
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Handler(Role);

enum Role {
    Server(Server),
    DialBack {
        handler: Box<dial_back::Handler>,
        shared: Arc<Shared>,
    },
}

struct Server {
    shared: Arc<Shared>,
    /// The client's IP, kept here so that the behaviour keeps nothing per connection.
    observed_ip: Option<IpAddr>,
    /// Where it left its waker.
    waker: Place,
    active: Option<Box<Active>>,
}

/// What a handler has while there are streams.
#[derive(Default)]
struct Active {
    streams: Vec<Slot>,
    /// Streams that were dropped at once, as there were too many.
    dropped: u32,
    /// Runs while there are rejected streams.
    timer: Option<Delay>,
}

struct Slot {
    id: StreamId,
    state: State,
}

/// A stream costs no more than itself until it is admitted.
enum State {
    /// The behaviour does not know of it yet.
    New(Stream),
    /// The behaviour is to say what becomes of it. Nothing is read until then.
    Announced(Stream),
    Served(Box<Exchange>),
    /// The behaviour has forgotten it.
    Rejected {
        rejection: Rejection,
        /// When it is dropped.
        until: Instant,
    },
    /// Taken out for a moment.
    Gone,
}

/// What a handler tells the behaviour.
#[derive(Debug)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Report(pub(super) ToBehaviour);

#[derive(Debug)]
pub(super) enum ToBehaviour {
    /// A stream was opened and waits to be served or rejected.
    Incoming {
        stream: StreamId,
        observed_ip: Option<IpAddr>,
    },
    Requested {
        stream: StreamId,
        request: DialRequest,
    },
    /// The dial data is complete.
    Paid {
        stream: StreamId,
    },
    Over {
        stream: StreamId,
        end: End,
    },
    /// This many streams were dropped unseen.
    TooManyStreams(u32),
    DialBack(Result<(), NotDelivered>),
}

/// What the behaviour tells a handler. One for a stream that is gone is ignored.
#[derive(Debug)]
#[expect(unnameable_types, reason = "of no use but as an associated type")]
pub struct Command {
    pub(super) stream: StreamId,
    pub(super) order: FromBehaviour,
}

#[derive(Debug)]
pub(super) enum FromBehaviour {
    Serve,
    Reject,
    AskForData(DialDataRequest, Meter),
    Answer(DialResponse),
    Reset,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Role::DialBack { handler, .. } => f.debug_tuple("DialBack").field(handler).finish(),
            Role::Server(server) => f
                .debug_struct("Server")
                .field("observed_ip", &server.observed_ip)
                .field(
                    "streams",
                    &server.active.as_ref().map_or(0, |it| it.streams.len()),
                )
                .finish_non_exhaustive(),
        }
    }
}

/// The client's IP as its address shows it: none on a relayed connection, nor behind a name.
fn observed_ip(addr: &Multiaddr) -> Option<IpAddr> {
    if address::is_relayed(addr) {
        return None;
    }
    address::ip(addr).map(|ip| ip.to_canonical())
}

impl Handler {
    pub(super) fn server(shared: Arc<Shared>, remote: &Multiaddr) -> Self {
        Self(Role::Server(Server {
            shared,
            observed_ip: observed_ip(remote),
            waker: Place::default(),
            active: None,
        }))
    }

    pub(super) fn dial_back(shared: Arc<Shared>, handler: dial_back::Handler) -> Self {
        let handler = Box::new(handler);
        Self(Role::DialBack { handler, shared })
    }
}

impl Server {
    fn opened(&mut self, stream: Stream) {
        let active = self.active.get_or_insert_default();
        if active.streams.len() >= self.shared.max_streams {
            active.dropped = active.dropped.saturating_add(1);
            return;
        }
        active.streams.push(Slot {
            id: self.shared.next_stream.fetch_add(1, Ordering::Relaxed),
            state: State::New(stream),
        });
    }

    fn command(&mut self, Command { stream, order }: Command) {
        let Some(active) = &mut self.active else {
            return;
        };
        let Some(at) = active.streams.iter().position(|slot| slot.id == stream) else {
            return;
        };
        let state = &mut active.streams[at].state;
        match (order, mem::replace(state, State::Gone)) {
            (FromBehaviour::Serve, State::Announced(stream)) => {
                let exchange = Exchange::new(stream, self.shared.limits);
                *state = State::Served(Box::new(exchange));
            }
            (FromBehaviour::Reject, State::Announced(stream)) => {
                *state = State::Rejected {
                    rejection: Rejection::new(stream),
                    until: Instant::now() + REJECTION_TIME,
                };
                active
                    .timer
                    .get_or_insert_with(|| Delay::new(REJECTION_TIME));
            }
            (FromBehaviour::AskForData(request, meter), State::Served(mut exchange)) => {
                exchange.ask_for_data(request, meter);
                *state = State::Served(exchange);
            }
            (FromBehaviour::Answer(response), State::Served(mut exchange)) => {
                exchange.answer(response);
                *state = State::Served(exchange);
            }
            // Dropping is all that a stream offers: yamux then resets it, QUIC ends it and refuses what comes.
            (FromBehaviour::Reset, _) => {
                active.streams.swap_remove(at);
            }
            (_, other) => *state = other,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToBehaviour> {
        self.shared.switch.wakes(&mut self.waker, cx.waker());
        let Some(active) = &mut self.active else {
            return Poll::Pending;
        };
        if active.dropped > 0 {
            let dropped = mem::take(&mut active.dropped);
            return Poll::Ready(ToBehaviour::TooManyStreams(dropped));
        }
        active.drop_late(cx);

        let mut at = 0;
        while let Some(slot) = active.streams.get_mut(at) {
            let stream = slot.id;
            match &mut slot.state {
                State::New(_) => {
                    if let State::New(new) = mem::replace(&mut slot.state, State::Gone) {
                        slot.state = State::Announced(new);
                    }
                    return Poll::Ready(ToBehaviour::Incoming {
                        stream,
                        observed_ip: self.observed_ip,
                    });
                }
                State::Announced(_) => at += 1,
                State::Served(exchange) => match exchange.poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(Progress::Requested(request)) => {
                        return Poll::Ready(ToBehaviour::Requested { stream, request });
                    }
                    Poll::Ready(Progress::Paid) => {
                        return Poll::Ready(ToBehaviour::Paid { stream });
                    }
                    Poll::Ready(Progress::Over(end)) => {
                        active.streams.swap_remove(at);
                        return Poll::Ready(ToBehaviour::Over { stream, end });
                    }
                },
                State::Rejected { rejection, .. } => match rejection.poll(cx) {
                    Poll::Pending => at += 1,
                    Poll::Ready(()) => drop(active.streams.swap_remove(at)),
                },
                State::Gone => drop(active.streams.swap_remove(at)),
            }
        }
        if active.streams.is_empty() {
            self.active = None;
        }
        Poll::Pending
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.switch.forget(&self.waker);
    }
}

impl Slot {
    const fn rejected_until(&self) -> Option<Instant> {
        match self.state {
            State::Rejected { until, .. } => Some(until),
            _ => None,
        }
    }
}

impl Active {
    /// Drops rejected streams whose client takes too long.
    fn drop_late(&mut self, cx: &mut Context<'_>) {
        while let Some(timer) = &mut self.timer
            && timer.poll_unpin(cx).is_ready()
        {
            let now = Instant::now();
            self.streams
                .retain(|slot| slot.rejected_until().is_none_or(|until| now < until));
            self.timer = self
                .streams
                .iter()
                .filter_map(Slot::rejected_until)
                .min()
                .map(|until| Delay::new(until.saturating_duration_since(now)));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Command;
    type ToBehaviour = Report;
    type InboundProtocol = Offer;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    /// Offered on a dial-back too, where nobody is served: go-libp2p has one list of protocols for each peer, that of the
    /// connection that was identified last, and would forget that this node is a server.
    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let on = match &self.0 {
            Role::Server(server) => server.shared.switch.is_on(),
            Role::DialBack { shared, .. } => shared.switch.is_on(),
        };
        SubstreamProtocol::new(Offer(on), ())
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, (), Report>> {
        match &mut self.0 {
            Role::Server(server) => server
                .poll(cx)
                .map(|said| ConnectionHandlerEvent::NotifyBehaviour(Report(said))),
            Role::DialBack { handler, .. } => handler.poll(cx).map(|step| match step {
                dial_back::Step::OpenStream => ConnectionHandlerEvent::OutboundSubstreamRequest {
                    protocol: SubstreamProtocol::new(ReadyUpgrade::new(DIAL_BACK_PROTOCOL), ()),
                },
                dial_back::Step::Report(result) => {
                    ConnectionHandlerEvent::NotifyBehaviour(Report(ToBehaviour::DialBack(result)))
                }
            }),
        }
    }

    fn on_behaviour_event(&mut self, command: Command) {
        if let Role::Server(server) = &mut self.0 {
            server.command(command);
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Self::InboundProtocol, Self::OutboundProtocol>,
    ) {
        match (&mut self.0, event) {
            (
                Role::Server(server),
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                    protocol, ..
                }),
            ) => server.opened(protocol),
            // The connection is about to close: the client gets a reset, and has its other connection.
            (Role::DialBack { .. }, ConnectionEvent::FullyNegotiatedInbound(_)) => {}
            // The new address is one that packets came from; whether anyone there answers is not known yet, and dial
            // data is what keeps forged senders from having others dialed.
            (Role::Server(server), ConnectionEvent::AddressChange(_)) => server.observed_ip = None,
            (
                Role::DialBack { handler, .. },
                ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                    protocol, ..
                }),
            ) => handler.opened(protocol),
            (
                Role::DialBack { handler, .. },
                ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }),
            ) => handler.not_opened(&error),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p_swarm::handler::AddressChange;

    use super::*;

    #[test]
    fn an_idle_handler_is_a_few_words() {
        assert!(
            size_of::<Handler>() <= 40,
            "{} bytes for each connection of the node",
            size_of::<Handler>()
        );
    }

    #[test]
    fn a_client_that_moves_has_no_ip_any_more() {
        let at = |text: &str| text.parse::<Multiaddr>().expect("valid");
        let shared = Arc::new(Shared::new(Limits::default(), 8));
        let mut handler = Handler::server(shared, &at("/ip4/20.1.0.2/udp/1/quic-v1"));
        let new_address = at("/ip4/20.7.7.7/udp/1/quic-v1");
        handler.on_connection_event(ConnectionEvent::AddressChange(AddressChange {
            new_address: &new_address,
        }));
        let Role::Server(server) = &handler.0 else {
            panic!("no dial-back");
        };
        assert_eq!(server.observed_ip, None);
    }

    #[test]
    fn a_relayed_or_named_client_has_no_ip() {
        let ip = |text: &str| observed_ip(&text.parse().expect("valid"));
        let relay = "12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp";
        assert_eq!(
            ip("/ip4/20.1.0.2/tcp/1"),
            Some([20, 1, 0, 2].into()),
            "the other end of a direct connection"
        );
        assert_eq!(
            ip("/ip6/::ffff:20.1.0.2/tcp/1"),
            Some([20, 1, 0, 2].into()),
            "as a dual-stack socket has it"
        );
        assert_eq!(
            ip(&format!("/ip4/20.1.0.1/tcp/1/p2p/{relay}/p2p-circuit")),
            None
        );
        assert_eq!(ip(&format!("/p2p/{relay}")), None);
        assert_eq!(ip("/dns4/example.com/tcp/1"), None);
    }
}
