//! The server role: dials addresses for others and tells them whether it got through.
//!
//! [`Behaviour`] takes dial requests on every connection, decides what to dial ([`PassedOver`] says
//! why not), keeps to its limits ([`Limit`]), dials back ([`DialBackOutcome`]) and answers. It follows
//! the AutoNAT v2 specification (`libp2p/specs`, `autonat/autonat-v2.md`), the part on the server.
//!
//! Anyone may ask it to dial anything, so it must never dial what only it can reach, never cost more
//! than [`Config`] allows whatever clients do, and never touch a connection other than those it
//! dialed itself. With [`Behaviour::new`] it dials with the node's own swarm; the other behaviours of the
//! node see those connections come and go. With [`Behaviour::with_dialer`] it dials with a swarm of
//! its own, and the node sees nothing.
//!
//! # Whose swarm dials
//!
//! The node's own swarm is simpler. Give the server a dialer of its own
//!
//! * if the application opens streams to the peers that ask here: while such a peer is being tested, the swarm may use the
//!   test's connection for a stream, and the stream is lost when the test is over;
//! * if other behaviours should not see a connection for each test;
//! * if tests should come from a second IP that clients have never contacted, which is the strictest test there is;
//! * if a dial that takes too long should be aborted: in the node's own swarm it keeps its socket until the transport gives
//!   it up.
//!
//! It costs a second identity and a second set of sockets.
//!
//! # Inside
//!
//! The behaviour is plumbing. All that is decided, and all that is counted, is in [`service`], which does not
//! know the swarm; the handlers carry bytes.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fmt,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt, StreamExt};
use futures_timer::Delay;
use libp2p_core::{
    ConnectedPoint, Endpoint, Multiaddr,
    transport::{ListenerId, PortUse},
};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Swarm, SwarmEvent,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
    behaviour::{ExternalAddrConfirmed, NewListenAddr},
};
use web_time::Instant;

use crate::{
    address, protocol,
    service::{self, Host, Locality, RequestId, Service, StreamCommand},
};

mod bounded_close;
mod capabilities;
mod dial_back;
mod exchange;
mod fresh_ports;
mod handler;
mod kernel;
mod own;
mod switch;

pub use crate::service::{
    Config, DialBackOutcome, End, Event, JoinedLate, Limit, Load, Misbehaved, Misbehaviour,
    NotDelivered, NotDialed, PassedOver, Rejected, Served,
};
pub use bounded_close::BoundedClose;
pub use dial_back::DialBack;
pub use fresh_ports::FreshPorts;

use capabilities::Capabilities;
use dial_back::{DialBackEvent, DialEvent};
use exchange::Meter;
use handler::{Command, FromBehaviour, Handler, Report, ToBehaviour};
use own::OwnIps;

/// Events of a dialer's swarm that are handled in one go, before other behaviours get their turn.
const MAX_DIALER_EVENTS: usize = 64;

/// Serves dial requests.
///
/// ```
/// use libp2p_autonat_v2::server;
/// use libp2p::swarm::NetworkBehaviour;
///
/// #[derive(NetworkBehaviour)]
/// struct Node {
///     autonat_server: server::Behaviour,
///     identify: libp2p::identify::Behaviour,
/// }
///
/// # let _ =
/// server::Behaviour::new(server::Config::default())
/// # ;
/// ```
pub struct Behaviour {
    core: Service,
    shared: Arc<handler::Shared>,
    dialer: Dialer,
    /// What has come in of dial data on the streams that pay. At most one per request.
    meters: BTreeMap<RequestId, Meter>,
    /// At most one per stream that a handler has announced.
    commands: VecDeque<(PeerId, ConnectionId, Command)>,
    /// Whether it was found out that the swarm ran before.
    joined_late: bool,
    /// To be told before others.
    late: Option<JoinedLate>,
    /// Runs until the earliest deadline or before it; none while there is nothing to wait for.
    timer: Option<(Delay, Instant)>,
}

/// Where dial-backs are made.
enum Dialer {
    /// In the node's own swarm.
    Node(DialBack),
    /// In a swarm of its own. What the node can dial and which IPs it has is known beside it.
    Apart {
        swarm: Box<Swarm<DialBack>>,
        node: Capabilities,
        own_ips: OwnIps,
    },
}

impl Dialer {
    fn dial_back(&self) -> &DialBack {
        match self {
            Self::Node(dial_back) => dial_back,
            Self::Apart { swarm, .. } => swarm.behaviour(),
        }
    }

    fn dial_back_mut(&mut self) -> &mut DialBack {
        match self {
            Self::Node(dial_back) => dial_back,
            Self::Apart { swarm, .. } => swarm.behaviour_mut(),
        }
    }

    /// What is known of the node's own addresses.
    fn node_ips(&self) -> &OwnIps {
        match self {
            Self::Node(dial_back) => &dial_back.own_ips,
            Self::Apart { own_ips, .. } => own_ips,
        }
    }

    fn dialed(&mut self, now: Instant, addr: &Multiaddr, outcome: DialBackOutcome) {
        if let Self::Apart { node, .. } = self {
            node.dialed(now, addr, outcome);
        }
        let dialer = &mut self.dial_back_mut().capabilities;
        dialer.dialed(now, addr, outcome);
    }

    /// What comes in comes in to the node. A dialer of its own lets nothing in, and would take the silence of its targets for
    /// its own.
    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match self {
            Self::Node(dial_back) => dial_back.on_swarm_event(event),
            Self::Apart {
                swarm,
                node,
                own_ips,
            } => {
                own_ips.on_swarm_event(&event);
                node.on_swarm_event(&event);
                if let FromSwarm::ConnectionEstablished(established) = event
                    && let ConnectedPoint::Listener { send_back_addr, .. } = established.endpoint
                {
                    let dialer = &mut swarm.behaviour_mut().capabilities;
                    dialer.heard_from(Instant::now(), send_back_addr);
                }
            }
        }
    }
}

/// What the dialer can tell at a moment.
struct View<'a> {
    now: Instant,
    dialer: &'a Dialer,
}

impl Host for View<'_> {
    fn locality(&self, ip: IpAddr) -> Locality {
        let known = self.dialer.dial_back().own_ips.locality(ip);
        let known = match self.dialer {
            Dialer::Node(_) => known,
            Dialer::Apart { own_ips, .. } => known.max(own_ips.locality(ip)),
        };
        known.max(kernel::locality(ip))
    }

    /// A dialer without evidence of its own, which is one without listeners in its first minutes, is
    /// taken to be able to dial what the node can: they run on the same host.
    fn can_dial(&self, addr: &Multiaddr) -> bool {
        let dialer = self.dialer.dial_back().capabilities.judge(self.now, addr);
        let node = || match self.dialer {
            Dialer::Node(_) => None,
            Dialer::Apart { node, .. } => node.judge(self.now, addr),
        };
        dialer.or_else(node).unwrap_or(false)
    }
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour")
            .field("config", self.core.config())
            .field("load", &self.load())
            .finish_non_exhaustive()
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::new(Config::default())
    }
}

impl Behaviour {
    /// A server that dials with the node's own swarm.
    ///
    /// Its dial-backs are connections of the node: other behaviours see them, connection limits count
    /// them, and a request of the application that happens to be sent on one is lost when it is closed
    /// a few round trips later. Where that matters, see [`Behaviour::with_dialer`].
    pub fn new(config: Config) -> Self {
        Self::build(config, Dialer::Node(DialBack::of_node()))
    }

    /// A server that dials with a swarm of its own, see [`DialBack`]. It is driven by this behaviour.
    ///
    /// The dialer's identity must not be the node's. Clients accept a nonce from any peer id.
    ///
    /// A dialer without evidence of its own is taken to be able to dial what the node can, until its transport says that it
    /// lacks one. Under `.with_dns()` it does not say so: `libp2p-dns` wraps `MultiaddrNotSupported` in an error of its own,
    /// which looks like a dial that failed, and clients would be told `E_DIAL_ERROR` for it. Build the dialer without DNS,
    /// which it needs for [`Config::with_names`] only, or tell with [`Config::with_dialable`] what it can dial.
    pub fn with_dialer(config: Config, dialer: Swarm<DialBack>) -> Self {
        Self::build(
            config,
            Dialer::Apart {
                swarm: Box::new(dialer),
                node: Capabilities::default(),
                own_ips: OwnIps::default(),
            },
        )
    }

    /// The dialer's swarm, if it has one of its own.
    pub fn dialer(&self) -> Option<&Swarm<DialBack>> {
        match &self.dialer {
            Dialer::Node(_) => None,
            Dialer::Apart { swarm, .. } => Some(swarm),
        }
    }

    /// Serves, or stops to. A server serves from the start.
    ///
    /// A server that is off no longer offers the protocol, on open connections either, and identify tells the peers so at
    /// once. Requests under way are served to their end. A request of a peer that has not heard of it yet is rejected
    /// ([`Limit::Off`]). The server keeps track of what the node can dial and which IPs it has, so that it serves at once when
    /// it is switched on again.
    pub fn set_serving(&mut self, serving: bool) {
        self.core.set_serving(serving);
        self.shared.switch.set(serving);
    }

    /// Tells what the swarm has that this behaviour joins while it runs, as when an application swaps a
    /// [`Toggle`](libp2p_swarm::behaviour::toggle::Toggle):
    ///
    /// ```
    /// # use libp2p_autonat_v2::server;
    /// # fn join<B: libp2p::swarm::NetworkBehaviour>(swarm: &libp2p::Swarm<B>) -> server::Behaviour {
    /// let mut server = server::Behaviour::default();
    /// server.catch_up(swarm.listeners(), swarm.external_addresses());
    /// # server
    /// # }
    /// ```
    ///
    /// Then it serves and protects as one that was there from the start, on connections that are made from then on. See
    /// [`JoinedLate`] for one that was not told. A server that is there from the start and [switched
    /// on](Self::set_serving) when it is wanted needs none of this.
    pub fn catch_up<'a>(
        &mut self,
        listen_addrs: impl IntoIterator<Item = &'a Multiaddr>,
        external_addrs: impl IntoIterator<Item = &'a Multiaddr>,
    ) {
        for addr in listen_addrs {
            self.on_listen_addr(addr);
        }
        for addr in external_addrs {
            let confirmed = ExternalAddrConfirmed { addr };
            self.dialer
                .on_swarm_event(FromSwarm::ExternalAddrConfirmed(confirmed));
        }
    }

    fn on_listen_addr(&mut self, addr: &Multiaddr) {
        let listener_id = ListenerId::next();
        let new = NewListenAddr { listener_id, addr };
        self.dialer.on_swarm_event(FromSwarm::NewListenAddr(new));
    }

    /// A connection came in at this address of the node. If the swarm has not told of a listener there, it had it before this
    /// behaviour joined.
    fn on_inbound(&mut self, local_addr: &Multiaddr) {
        if address::is_relayed(local_addr)
            || address::port(local_addr).is_none()
            || self.dialer.node_ips().listens_at(local_addr)
        {
            return;
        }
        self.on_listen_addr(local_addr);
        if !self.joined_late {
            self.joined_late = true;
            tracing::warn!(
                listen_addr = ?address::Printable(local_addr),
                "the AutoNAT v2 server joined a running swarm: it serves new connections only, and does not know external \
                 addresses that were confirmed before"
            );
            self.late = Some(JoinedLate::new(local_addr.clone()));
        }
    }

    /// Whether it serves, see [`set_serving`](Self::set_serving).
    pub fn is_serving(&self) -> bool {
        self.shared.switch.is_on()
    }

    /// What the server holds at this moment.
    pub fn load(&self) -> Load {
        let mut load = self.core.load();
        load.queued += self.commands.len();
        load
    }

    fn build(config: Config, mut dialer: Dialer) -> Self {
        if let Some(dialable) = &config.dialable {
            dialer.dial_back_mut().capabilities = Capabilities::fixed(dialable.iter().copied());
        }
        Self {
            shared: Arc::new(handler::Shared::new(
                protocol::Limits::default()
                    .with_max_message_len(config.max_message_len)
                    .with_max_addresses(config.rules.max_addresses),
                config.max_streams,
            )),
            core: Service::new(config, Instant::now()),
            dialer,
            meters: BTreeMap::new(),
            commands: VecDeque::new(),
            joined_late: false,
            late: None,
            timer: None,
        }
    }

    /// Tells how much dial data has come in on this stream.
    fn read_meter(&mut self, now: Instant, id: RequestId) {
        if let Some(meter) = self.meters.get(&id) {
            self.core.on_bytes(now, id, meter.read(), &mut rand::rng());
        }
    }

    /// Tells it of all streams.
    fn read_meters(&mut self, now: Instant) {
        for (id, meter) in &self.meters {
            self.core.on_bytes(now, *id, meter.read(), &mut rand::rng());
        }
    }

    fn on_handler_message(&mut self, client: PeerId, connection: ConnectionId, said: ToBehaviour) {
        let now = Instant::now();
        let id = |stream| RequestId { connection, stream };
        match said {
            ToBehaviour::Incoming {
                stream,
                observed_ip,
            } => self.core.on_stream(now, id(stream), client, observed_ip),
            ToBehaviour::Requested { stream, request } => {
                let host = View {
                    now,
                    dialer: &self.dialer,
                };
                self.core
                    .on_request(now, id(stream), request, &host, &mut rand::rng());
            }
            ToBehaviour::Paid { stream } => self.read_meter(now, id(stream)),
            ToBehaviour::Over { stream, end } => {
                self.read_meter(now, id(stream));
                self.meters.remove(&id(stream));
                self.core.on_stream_ended(now, id(stream), end);
            }
            ToBehaviour::TooManyStreams(count) => {
                self.core.on_streams_dropped(now, client, connection, count)
            }
            ToBehaviour::DialBack(result) => {
                self.dialer.dial_back_mut().on_report(connection, result)
            }
        }
    }

    fn on_dial_event(&mut self, fact: DialEvent) {
        let now = Instant::now();
        match fact {
            DialEvent::Established(dial) => self.core.on_dial_established(now, dial),
            DialEvent::Ended(dial, outcome) => self.core.on_dial_ended(now, dial, outcome),
            DialEvent::Gone(dial) => self.core.on_dial_gone(now, dial),
        }
    }

    /// Carries out what the core asks for, as far as it is not for a handler to do.
    fn carry_out(&mut self) {
        while let Some(command) = self.core.poll_command() {
            match command {
                service::Command::Stream(client, id, command) => {
                    let order = match command {
                        StreamCommand::Serve => FromBehaviour::Serve,
                        StreamCommand::Reject => FromBehaviour::Reject,
                        StreamCommand::AskForData(request) => {
                            let meter = Meter::default();
                            self.meters.insert(id, meter.clone());
                            FromBehaviour::AskForData(request, meter)
                        }
                        StreamCommand::Answer(response) => FromBehaviour::Answer(response),
                        StreamCommand::Reset => {
                            self.meters.remove(&id);
                            FromBehaviour::Reset
                        }
                    };
                    let stream = id.stream;
                    let command = Command { stream, order };
                    self.commands.push_back((client, id.connection, command));
                }
                service::Command::Dial(dial) => {
                    self.dialer.dial_back_mut().dial(dial);
                }
                service::Command::EndDial(dial) => self.dialer.dial_back_mut().end(dial),
            }
        }
    }

    /// The next event for the application. What became of a dial-back tells what this node can dial.
    fn next_event(&mut self) -> Option<Event> {
        if let Some(late) = self.late.take() {
            return Some(Event::JoinedLate(late));
        }
        let event = self.core.poll_event()?;
        if let Event::Served(served) = &event
            && let (Some((_, addr)), Some(outcome)) = (&served.tested, served.dial_back)
        {
            self.dialer.dialed(Instant::now(), addr, outcome);
        }
        Some(event)
    }

    /// Whether there was anything to do.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        while let Some(next) = self.core.poll_timeout() {
            let now = Instant::now();
            if next <= now {
                self.read_meters(now);
                if self.core.handle_timeout(now) {
                    return true;
                }
                continue;
            }
            let timer = match &mut self.timer {
                Some((timer, at)) if *at <= next => timer,
                timer => {
                    let delay = Delay::new(next.saturating_duration_since(now));
                    &mut timer.insert((delay, next)).0
                }
            };
            if timer.poll_unpin(cx).is_pending() {
                return false;
            }
            self.timer = None;
        }
        self.timer = None;
        false
    }

    /// The next thing that the dialer wants of the node's swarm.
    fn poll_dialer(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        for _ in 0..MAX_DIALER_EVENTS {
            let fact = match &mut self.dialer {
                Dialer::Node(dial_back) => match dial_back.next_dial_event() {
                    Some(fact) => fact,
                    None => {
                        return dial_back.next_action().map_or(Poll::Pending, Poll::Ready);
                    }
                },
                Dialer::Apart { swarm, .. } => match swarm.poll_next_unpin(cx) {
                    Poll::Ready(Some(SwarmEvent::Behaviour(DialBackEvent(fact)))) => fact,
                    Poll::Ready(Some(_)) => continue,
                    Poll::Ready(None) | Poll::Pending => return Poll::Pending,
                },
            };
            self.on_dial_event(fact);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote_addr: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::server(Arc::clone(&self.shared), remote_addr))
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: PeerId,
        addr: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if let Dialer::Node(dial_back) = &self.dialer
            && let Some(handler) = dial_back.handler_for(id)?
        {
            return Ok(Handler::dial_back(Arc::clone(&self.shared), handler));
        }
        Ok(Handler::server(Arc::clone(&self.shared), addr))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            let now = Instant::now();
            let connection = closed.connection_id;
            self.read_meters(now);
            self.meters.retain(|id, _| id.connection != connection);
            self.core.on_connection_closed(now, connection);
        }
        if let FromSwarm::ConnectionEstablished(established) = event
            && let ConnectedPoint::Listener { local_addr, .. } = established.endpoint
        {
            self.on_inbound(local_addr);
        }
        self.dialer.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        Report(said): THandlerOutEvent<Self>,
    ) {
        self.on_handler_message(peer, connection, said);
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            self.carry_out();
            if let Some((peer_id, connection, command)) = self.commands.pop_front() {
                return Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler: NotifyHandler::One(connection),
                    event: command,
                });
            }
            if let Some(event) = self.next_event() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            if let Poll::Ready(action) = self.poll_dialer(cx) {
                return Poll::Ready(
                    action
                        .map_out(|never| match never {})
                        .map_in(|never| match never {}),
                );
            }
            if self.core.is_drained() && !self.poll_timer(cx) {
                return Poll::Pending;
            }
        }
    }
}
