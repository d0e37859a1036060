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
//! A dialer of its own is for nodes whose application opens streams to the peers that ask here: a stream
//! that is opened while the client is being dialed back may be put on the dial-back connection, and is lost
//! when that is closed. It is also for nodes whose other behaviours should not see a connection for
//! each test, and for a server that dials from a second IP, which the client has never contacted, as the
//! strictest test there is. And only there a dial that takes too long can be called back; elsewhere it keeps
//! its socket until the transport gives it up. It costs a second identity and a second set of sockets.
//! Without such needs, the node's own swarm is simpler.
//!
//! # Inside
//!
//! The behaviour is plumbing. What to dial is decided in `policy`, how often in `limits`, what follows
//! what and until when in `job`, none of which knows the swarm; the handlers carry bytes.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fmt, mem,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, StreamExt};
use futures_timer::Delay;
use libp2p_core::{ConnectedPoint, Endpoint, Multiaddr, transport::PortUse};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, Swarm, SwarmEvent,
    THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, behaviour::ConnectionClosed,
};
use rand::RngExt;
use web_time::Instant;

use crate::{
    address,
    protocol::{self, DialDataRequest, DialRequest, Nonce},
};

mod bounded_close;
mod capabilities;
mod config;
mod dial_back;
mod event;
mod exchange;
mod handler;
mod job;
mod limits;
mod own;
mod policy;
mod span;
mod tally;

pub use bounded_close::BoundedClose;
pub use config::Config;
pub use dial_back::{DialBack, DialBackOutcome, NotDelivered, NotDialed};
pub use event::{End, Event, Misbehaved, Misbehaviour, Rejected, Served};
pub use limits::Limit;
pub use policy::PassedOver;

use capabilities::Capabilities;
use dial_back::{DialBackEvent, Fact};
use exchange::Meter;
use handler::{Command, Handler, Order, Report, Said, StreamId};
use job::{Action, Decision, Job};
use limits::Limiter;
use own::{Own, OwnIps};
use policy::Client;
use tally::Tally;

/// Events that wait for the swarm to take them. More than requests are admitted in a minute by default;
/// if the swarm does not take any for so long, further ones are lost, with a line in the log.
const MAX_EVENTS: usize = 128;

/// Events of a dialer's swarm that are handled in one go, before other behaviours get their turn.
const MAX_DIALER_EVENTS: usize = 64;

/// Who pays less than one in so many bytes of dial data has not paid.
const UNPAID: u64 = 8;

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
    config: Config,
    shared: Arc<handler::Shared>,
    limiter: Limiter,
    /// One per admitted request, bounded by the limit on requests at once.
    requests: BTreeMap<Key, Request>,
    /// Which request a dial-back is for. One per request at most.
    dials: BTreeMap<ConnectionId, Key>,
    dialer: Dialer,
    /// At most one per stream that a handler has announced.
    commands: VecDeque<(PeerId, ConnectionId, Command)>,
    /// At most [`MAX_EVENTS`].
    events: VecDeque<Event>,
    rejected: Tally<Limit>,
    misbehaved: Tally<Misbehaviour>,
    /// Runs until the earliest deadline or before it; none while there is nothing to wait for.
    timer: Option<(Delay, Instant)>,
}

/// A stream of the node.
type Key = (ConnectionId, StreamId);

struct Request {
    job: Job,
    client: Client,
    nonce: Nonce,
    /// The dial-back, until it is over.
    dial: Option<ConnectionId>,
    /// Whether a dial is reserved for it that counts for its target.
    reserved: bool,
    /// When it was told to pay dial data, if it was, and what has come in.
    paying: Option<(Instant, Meter)>,
    span: tracing::Span,
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

    fn own(&self, ip: IpAddr) -> Option<Own> {
        let node = match self {
            Self::Node(_) => None,
            Self::Apart { own_ips, .. } => own_ips.find(ip),
        };
        node.max(self.dial_back().own_ips.find(ip))
    }

    /// A dialer without evidence of its own, which is one without listeners in its first minutes, is
    /// taken to be able to dial what the node can: they run on the same host.
    fn can_dial(&self, now: Instant, addr: &Multiaddr) -> bool {
        let dialer = self.dial_back().capabilities.judge(now, addr);
        let node = || match self {
            Self::Node(_) => None,
            Self::Apart { node, .. } => node.judge(now, addr),
        };
        dialer.or_else(node).unwrap_or(false)
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

/// What a server holds at a moment. All of it is bounded by [`Config`], whatever clients do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Load {
    /// Requests being served, at most
    /// [`with_max_concurrent_requests`](Config::with_max_concurrent_requests).
    pub requests: usize,
    /// Dial-backs that may hold a socket, at most
    /// [`with_max_concurrent_dials`](Config::with_max_concurrent_dials).
    pub dials: usize,
    /// Those of them that are over, but whose socket is not gone yet. A few for a moment is usual; many for long are targets
    /// that keep their connections open, see [`BoundedClose`].
    pub lingering_dials: usize,
    /// Peers, neighbourhoods and targets that the rate limits remember, of at most 200 bytes each. At most
    /// six times [`with_max_requests_per_minute`](Config::with_max_requests_per_minute) and one per
    /// request.
    pub rate_entries: usize,
    /// Commands and events that wait for the swarm.
    pub queued: usize,
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behaviour")
            .field("config", &self.config)
            .field("requests", &self.requests.len())
            .field("dials", &self.dialer.dial_back().in_flight())
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
        Self::build(config, Dialer::Node(DialBack::shared()))
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

    /// What the server holds at this moment.
    pub fn load(&self) -> Load {
        Load {
            requests: self.requests.len(),
            dials: self.dialer.dial_back().in_flight(),
            lingering_dials: self.dialer.dial_back().lingering().count(),
            rate_entries: self.limiter.entries(),
            queued: self.commands.len() + self.events.len(),
        }
    }

    fn build(config: Config, mut dialer: Dialer) -> Self {
        if let Some(dialable) = &config.dialable {
            dialer.dial_back_mut().capabilities = Capabilities::fixed(dialable.iter().copied());
        }
        Self {
            shared: Arc::new(handler::Shared {
                limits: protocol::Limits::default()
                    .with_max_message_len(config.max_message_len)
                    .with_max_addresses(config.rules.max_addresses),
                max_streams: config.max_streams,
            }),
            limiter: Limiter::new(config.limits, Instant::now()),
            requests: BTreeMap::new(),
            dials: BTreeMap::new(),
            dialer,
            commands: VecDeque::new(),
            events: VecDeque::new(),
            rejected: Tally::new(),
            misbehaved: Tally::new(),
            timer: None,
            config,
        }
    }

    fn on_incoming(&mut self, peer: PeerId, key: Key, observed_ip: Option<IpAddr>) {
        let now = Instant::now();
        let dials = self.dialer.dial_back().in_flight();
        if let Err(limit) = self.limiter.admit(now, peer, observed_ip, dials) {
            tracing::debug!(client = %peer, limit = limit.as_str(), "rejected a dial request");
            self.rejected.add(now, limit, 1, peer, key.0);
            self.command(peer, key, Order::Reject);
            return;
        }
        let record = Served::new(peer, key.0, observed_ip);
        let span = span::open(&record);
        self.requests.insert(
            key,
            Request {
                job: Job::new(now, self.config.timing, record),
                client: Client {
                    peer,
                    ip: observed_ip,
                },
                nonce: Nonce::default(),
                dial: None,
                reserved: false,
                paying: None,
                span,
            },
        );
        self.command(peer, key, Order::Serve);
    }

    fn on_requested(&mut self, key: Key, asked: DialRequest) {
        let now = Instant::now();
        let Some(request) = self.requests.get_mut(&key) else {
            return;
        };
        let selection = policy::choose(
            &asked.addrs,
            request.client,
            &self.config.rules,
            |ip| self.dialer.own(ip),
            |addr| self.dialer.can_dial(now, addr),
        );
        request.nonce = Nonce::from(&asked);
        span::log_passed_over(&request.span, &selection.passed_over, &asked.addrs);

        let record = &mut request.job.record;
        record.asked_in_all = asked.addrs.len().saturating_add(asked.unread);
        record.asked = asked.addrs.into_iter().flatten().collect();
        record.passed_over = selection.passed_over;
        let decision = match selection.chosen {
            None => Decision::Refuse,
            Some(chosen) => {
                record.tested = Some((chosen.index, chosen.addr.clone()));
                let admitted = self.limiter.admit_target(
                    now,
                    request.client.ip,
                    chosen.ip,
                    chosen.own,
                    !chosen.own,
                );
                match admitted {
                    Err(limit) => {
                        record.limit = Some(limit);
                        Decision::Reject
                    }
                    Ok(()) => {
                        request.reserved = !chosen.own;
                        let data = (!chosen.own).then(|| policy::dial_data_bytes(&mut rand::rng()));
                        Decision::Test(chosen, data)
                    }
                }
            }
        };
        let action = request.job.decided(now, decision);
        self.perform(now, key, action);
    }

    fn on_paid(&mut self, key: Key) {
        let now = Instant::now();
        let Some(request) = self.requests.get_mut(&key) else {
            return;
        };
        let delay = rand::rng().random_range(Duration::ZERO..=self.config.max_delay);
        let action = request.job.data_complete(now, delay);
        self.perform(now, key, action);
    }

    fn on_fact(&mut self, fact: Fact) {
        let now = Instant::now();
        match fact {
            Fact::Connected(dial) => {
                let request = self
                    .dials
                    .get(&dial)
                    .and_then(|key| self.requests.get_mut(key));
                if let Some(request) = request {
                    request.job.connected(now);
                }
            }
            Fact::Ended(dial, outcome) => {
                let Some(key) = self.dials.remove(&dial) else {
                    return;
                };
                let Some(request) = self.requests.get_mut(&key) else {
                    return;
                };
                request.dial = None;
                let action = request.job.dial_ended(now, outcome);
                self.perform(now, key, action);
            }
            Fact::Gone(peer) => self.next_turn(now, peer),
        }
    }

    /// Dials for the oldest request of this peer that waits for its turn.
    fn next_turn(&mut self, now: Instant, peer: PeerId) {
        let waiting = self.requests.iter().filter_map(|(key, request)| {
            let action = request.job.take_turn()?;
            (request.client.peer == peer).then_some((request.job.started(), *key, action))
        });
        if let Some((_, key, action)) = waiting.min_by_key(|(started, ..)| *started) {
            self.perform(now, key, Some(action));
        }
    }

    fn on_connection_closed(&mut self, closed: ConnectionClosed<'_>) {
        let id = closed.connection_id;
        let now = Instant::now();
        while let Some((&key, _)) = self
            .requests
            .range((id, StreamId::MIN)..=(id, StreamId::MAX))
            .next()
        {
            self.finish(now, key, End::ClientLeft);
        }
    }

    fn perform(&mut self, now: Instant, key: Key, action: Option<Action>) {
        let Some(action) = action else { return };
        let Some(request) = self.requests.get_mut(&key) else {
            return;
        };
        let peer = request.client.peer;
        match action {
            Action::AskForData { index, num_bytes } => {
                let (_, meter) = request
                    .paying
                    .get_or_insert_with(|| (now, Meter::default()));
                let meter = meter.clone();
                let ask = DialDataRequest {
                    addr_idx: index,
                    num_bytes,
                };
                self.command(peer, key, Order::AskForData(ask, meter));
            }
            Action::Dial(chosen) => {
                let dialer = self.dialer.dial_back_mut();
                if dialer.occupies(peer) {
                    request.job.wait_for_turn(now);
                    return;
                }
                let place = self.config.limits.place_for_dial(
                    chosen.ip,
                    dialer.in_flight(),
                    dialer.lingering().map(address::ip),
                );
                if let Err(limit) = place {
                    let action = request.job.no_dial_left(now, limit);
                    self.perform(now, key, Some(action));
                    return;
                }
                if mem::take(&mut request.reserved) {
                    self.limiter.dialed(now, chosen.ip);
                }
                let dial = dialer.dial(peer, chosen.addr, request.nonce);
                request.dial = Some(dial);
                request.job.dialing(now, dial);
                self.dials.insert(dial, key);
            }
            Action::Answer(response) => {
                self.abandon_dial(key);
                self.command(peer, key, Order::Answer(response));
            }
            Action::Reset(end) => {
                self.command(peer, key, Order::Reset);
                self.finish(now, key, end);
            }
        }
    }

    /// Lets go of the dial of this request, if one is under way.
    fn abandon_dial(&mut self, key: Key) {
        if let Some(request) = self.requests.get_mut(&key)
            && let Some(dial) = request.dial.take()
        {
            self.dials.remove(&dial);
            self.dialer.dial_back_mut().abandon(dial);
        }
    }

    fn finish(&mut self, now: Instant, key: Key, end: End) {
        self.abandon_dial(key);
        let Some(request) = self.requests.remove(&key) else {
            return;
        };
        self.limiter.finish(&request.client.peer);
        if let End::Misbehaved(cause) = end {
            self.misbehaved
                .add(now, cause, 1, request.client.peer, key.0);
        }
        let mut served = request.job.into_event(now, end);
        if let Some((told, meter)) = &request.paying {
            served.dial_data_received = meter.read();
            let target = served.tested.as_ref();
            let target = target.and_then(|(_, addr)| address::ip(addr));
            if served.dial_data_received < served.dial_data_requested / UNPAID {
                self.limiter.did_not_pay(*told, target);
            } else if request.reserved {
                self.limiter.dialed(now, target);
            }
        }
        if let (Some((_, addr)), Some(outcome)) = (&served.tested, served.dial_back) {
            self.dialer.dialed(now, addr, outcome);
        }
        span::close(&request.span, &served);
        self.event(Event::Served(served));
    }

    fn command(&mut self, peer: PeerId, (connection, stream): Key, order: Order) {
        self.commands
            .push_back((peer, connection, Command { stream, order }));
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            tracing::warn!("the swarm is not polled; an event of the AutoNAT v2 server is lost");
        }
    }

    /// Handles all that is due, and says whether anything was.
    fn handle_timeout(&mut self, now: Instant) -> bool {
        let due: Vec<Key> = self
            .requests
            .iter()
            .filter(|(_, request)| request.job.deadline() <= now)
            .map(|(key, _)| *key)
            .collect();
        let mut busy = !due.is_empty();
        for key in due {
            if let Some(request) = self.requests.get_mut(&key) {
                let action = request.job.timed_out(now);
                self.perform(now, key, action);
            }
        }
        while let Some((limit, count, client, connection_id)) = self.rejected.take(now) {
            busy = true;
            self.event(Event::Rejected(Rejected {
                limit,
                count,
                client,
                connection_id,
            }));
        }
        while let Some((cause, count, client, connection_id)) = self.misbehaved.take(now) {
            busy = true;
            tracing::debug!(%client, cause = cause.as_str(), count, "a client misbehaved");
            self.event(Event::Misbehaved(Misbehaved {
                cause,
                count,
                client,
                connection_id,
            }));
        }
        busy
    }

    fn next_wakeup(&self) -> Option<Instant> {
        self.requests
            .values()
            .map(|request| request.job.deadline())
            .chain(self.rejected.next_wakeup())
            .chain(self.misbehaved.next_wakeup())
            .min()
    }

    /// Whether there was anything to do.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let idle = self.requests.is_empty()
            && self.rejected.next_wakeup().is_none()
            && self.misbehaved.next_wakeup().is_none();
        if idle {
            self.timer = None;
            return false;
        }
        let now = Instant::now();
        if self.handle_timeout(now) {
            return true;
        }
        while let Some(next) = self.next_wakeup() {
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
            if next <= Instant::now() {
                return true;
            }
        }
        false
    }

    /// The next thing that the dialer wants of the node's swarm.
    fn poll_dialer(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Infallible, Infallible>> {
        for _ in 0..MAX_DIALER_EVENTS {
            let fact = match &mut self.dialer {
                Dialer::Node(dial_back) => match dial_back.next_fact() {
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
            self.on_fact(fact);
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
            return Ok(Handler::dial_back(handler));
        }
        Ok(Handler::server(Arc::clone(&self.shared), addr))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = event {
            self.on_connection_closed(closed);
        }
        self.dialer.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        Report(said): THandlerOutEvent<Self>,
    ) {
        match said {
            Said::Incoming {
                stream,
                observed_ip,
            } => self.on_incoming(peer, (connection, stream), observed_ip),
            Said::Requested { stream, request } => {
                self.on_requested((connection, stream), request);
            }
            Said::Paid { stream } => self.on_paid((connection, stream)),
            Said::Over { stream, end } => self.finish(Instant::now(), (connection, stream), end),
            Said::TooManyStreams(count) => self.misbehaved.add(
                Instant::now(),
                Misbehaviour::TooManyStreams,
                count.into(),
                peer,
                connection,
            ),
            Said::DialBack(result) => self.dialer.dial_back_mut().on_report(connection, result),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some((peer_id, connection, command)) = self.commands.pop_front() {
                return Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler: NotifyHandler::One(connection),
                    event: command,
                });
            }
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(event));
            }
            if let Poll::Ready(action) = self.poll_dialer(cx) {
                return Poll::Ready(
                    action
                        .map_out(|never| match never {})
                        .map_in(|never| match never {}),
                );
            }
            let waiting = self.commands.is_empty() && self.events.is_empty();
            if waiting && !self.poll_timer(cx) {
                return Poll::Pending;
            }
        }
    }
}
