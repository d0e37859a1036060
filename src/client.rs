//! The client role: finds out on which addresses strangers can reach this node, and tells the swarm.
//!
//! [`Behaviour`] is plumbing. All that is decided, the pure core in [`reachability`](crate::reachability) decides: the behaviour feeds it
//! with what happens in the swarm, lends it the clock, and carries out what it asks for. The handlers carry bytes.
//! It follows the AutoNAT v2 specification (`libp2p/specs`, `autonat/autonat-v2.md`), the part on the client.
//!
//! It never dials and never keeps a connection alive beyond a request: it asks peers that are connected anyway. Who of them serves
//! dial requests, `libp2p-identify` finds out, which must be in the same swarm.
//!
//! Dial-backs come in through the same handler as requests go out, and not through `libp2p-request-response`: its handler
//! holds channels and maps for every connection, and this one nothing while it is idle.
//!
//! # Observed addresses
//! The swarm's external address candidates are what identify makes of observations: where a peer sees another port than
//! one of ours, it puts a listen port in its place. Behind a NAT that keeps ports that is the right guess, and behind one
//! that doesn't, the address that works is lost. [`Behaviour::observed`] takes the observation as it came.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures::FutureExt;
use futures_timer::Delay;
use libp2p_core::{ConnectedPoint, Endpoint, Multiaddr, transport::PortUse};
use libp2p_identity::PeerId;
use libp2p_swarm::{
    ConnectionDenied, ConnectionId, DialError, FromSwarm, ListenError, NetworkBehaviour,
    NotifyHandler, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use web_time::Instant;

use crate::reachability::{ConnectionInfo, Output, Reachability};

mod exchange;
mod handler;
mod log;
mod requests;

pub use crate::reachability::{
    AddressReport, CandidateError, Config, Event, NatMapping, NotTracked, Obstacle, ProbeEnd,
    ProbeId, ProbeOutcome, Probed, RequestCompleted, RequestStarted, ServerReport, Sizes, Sources,
    Summary, Vantage, Verdict, Violation,
};
use handler::{Command, FromBehaviour, Handler, Report, ToBehaviour};
use requests::{Next, Requests};

/// The core is called again after this time at the soonest, should it ask for less again and again.
const MIN_WAIT: Duration = Duration::from_millis(1);

/// Whom the application lets it ask.
struct ServerFilter(Box<dyn Fn(&PeerId) -> bool + Send + Sync>);

impl std::fmt::Debug for ServerFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServerFilter")
    }
}

/// A connection that is established.
#[derive(Debug)]
struct Connected {
    peer: PeerId,
    /// The peer says on it that it serves dial requests.
    serves: bool,
}

/// Asks connected servers which of this node's addresses can be reached.
///
/// Confirms and expires external addresses of the swarm by what it finds, and tells more in [`Event`]s.
///
/// ```
/// use libp2p::swarm::NetworkBehaviour;
/// use libp2p_autonat_v2::client;
///
/// #[derive(NetworkBehaviour)]
/// struct Node {
///     autonat: client::Behaviour,
///     identify: libp2p::identify::Behaviour,
/// }
///
/// # let key = libp2p::identity::Keypair::generate_ed25519();
/// # let _ =
/// client::Behaviour::new(key.public().to_peer_id(), client::Config::default())
/// # ;
/// ```
#[derive(Debug)]
pub struct Behaviour {
    core: Reachability,
    connections: HashMap<ConnectionId, Connected>,
    filter: Option<ServerFilter>,
    requests: Requests,
    /// Answers to nonces and to demands for dial data, and second requests: one for each report of a handler.
    answers: VecDeque<(PeerId, ConnectionId, Command)>,
    timer: Option<(Delay, Instant)>,
    waker: Option<Waker>,
}

impl Behaviour {
    /// A client for the node `local_peer_id`.
    #[must_use]
    pub fn new(local_peer_id: PeerId, config: Config) -> Self {
        Self {
            core: Reachability::from_seed(local_peer_id, config, rand::random(), Instant::now()),
            connections: HashMap::new(),
            filter: None,
            requests: Requests::default(),
            answers: VecDeque::new(),
            timer: None,
            waker: None,
        }
    }

    /// Has `address` tested at once and from time to time, until it is removed from the swarm's external addresses.
    ///
    /// For an address that neither a peer observes nor the swarm listens on: one that was mapped or configured.
    ///
    /// # Errors
    /// If it can't be tested, see [`CandidateError`].
    pub fn add_candidate(&mut self, address: &Multiaddr) -> Result<(), CandidateError> {
        let added = self.core.add_candidate(Instant::now(), address);
        self.wake();
        added
    }

    /// Has a tracked address checked by the next server that is free, confirmed ones too.
    ///
    /// # Errors
    /// If the address is not tracked.
    pub fn check_now(&mut self, address: &Multiaddr) -> Result<(), NotTracked> {
        let checked = self.core.check_now(Instant::now(), address);
        self.wake();
        checked
    }

    /// Passes on what the peer on a connection observed: `info.observed_addr` of identify's `Event::Received`.
    ///
    /// See the module's documentation for why. What came in on a connection that the peer dialed, or through a relay, is
    /// ignored.
    pub fn observed(&mut self, connection: ConnectionId, observed: &Multiaddr) {
        self.core.on_observed(Instant::now(), connection, observed);
        self.wake();
    }

    /// The interfaces or the network of this host changed: all addresses are checked at once; if that is said more than three
    /// times, once in ten minutes.
    ///
    /// The swarm tells of listen addresses that come and go by itself. This is for what it cannot see, such as a laptop that
    /// wakes up in another network with the same addresses.
    pub fn network_changed(&mut self) {
        self.core.on_network_change(Instant::now());
        self.wake();
    }

    /// Puts a summary in place of what the verdicts amount to; `None` takes it away again.
    pub fn pin_summary(&mut self, summary: Option<Summary>) {
        self.core.pin_summary(Instant::now(), summary);
        self.wake();
    }

    /// All tracked addresses, in the order in which they were found.
    pub fn addresses(&self) -> impl Iterator<Item = AddressReport> + '_ {
        self.core.addresses()
    }

    /// One tracked address.
    #[must_use]
    pub fn address(&self, address: &Multiaddr) -> Option<AddressReport> {
        self.core.address(address)
    }

    /// Whether the node is reachable at all.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.core.summary()
    }

    /// How the NAT in front of this node maps ports, as far as [`Behaviour::observed`] has told.
    #[must_use]
    pub fn nat_mapping(&self) -> NatMapping {
        self.core.nat_mapping()
    }

    /// From now on asks only peers for which `may_ask` is true, whether they dialed this node or it dialed them. By default all
    /// that serve may be asked.
    ///
    /// For a list of servers of one's own, or of servers to leave out. With few servers verdicts are slow and unsure: there should
    /// be three in different networks.
    ///
    /// ```
    /// # use libp2p::PeerId;
    /// # use libp2p_autonat_v2::client;
    /// # use std::collections::HashSet;
    /// # fn example(autonat: &mut client::Behaviour, mine: HashSet<PeerId>) {
    /// autonat.set_server_filter(move |peer| mine.contains(peer));
    /// # }
    /// ```
    pub fn set_server_filter(&mut self, may_ask: impl Fn(&PeerId) -> bool + Send + Sync + 'static) {
        self.filter = Some(ServerFilter(Box::new(may_ask)));
        let mut serving: Vec<(ConnectionId, PeerId)> = self
            .connections
            .iter()
            .filter(|(_, connected)| connected.serves)
            .map(|(id, connected)| (*id, connected.peer))
            .collect();
        serving.sort_unstable();
        for (connection, peer) in serving {
            let may_ask = self.may_ask(&peer);
            self.core.on_support(Instant::now(), connection, may_ask);
        }
        self.wake();
    }

    fn may_ask(&self, peer: &PeerId) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|ServerFilter(may_ask)| may_ask(peer))
    }

    /// The connected servers that may be asked.
    pub fn known_servers(&self) -> impl Iterator<Item = ServerReport> + '_ {
        self.core.known_servers()
    }

    /// How many servers are connected, and how many of them are not backed off.
    #[must_use]
    pub fn servers(&self) -> (usize, usize) {
        self.core.servers()
    }

    /// How many entries each bounded collection holds.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        self.core.sizes()
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn dialed<'a>(&mut self, addrs: impl IntoIterator<Item = &'a Multiaddr>) {
        let now = Instant::now();
        for addr in addrs {
            self.core.on_dial(now, addr);
        }
    }

    fn closed(&mut self, connection: ConnectionId) {
        let now = Instant::now();
        self.connections.remove(&connection);
        for probe in self.requests.on(connection) {
            self.ended(probe, ProbeEnd::ConnectionClosed);
        }
        self.core.on_connection_closed(now, connection);
    }

    fn ended(&mut self, probe: ProbeId, end: ProbeEnd) {
        if let Some(end) = self.requests.on_end(probe, end) {
            self.core.on_probe_end(Instant::now(), probe, end);
        }
    }

    /// What an output means to the swarm.
    fn carry_out(&mut self, output: Output) -> Option<ToSwarm<Event, Command>> {
        match output {
            Output::Event(event) => {
                log::event(&event);
                Some(ToSwarm::GenerateEvent(event))
            }
            Output::Confirm(addr) => Some(ToSwarm::ExternalAddrConfirmed(addr)),
            Output::Expire(addr) => Some(ToSwarm::ExternalAddrExpired(addr)),
            Output::Probe(request) => {
                let (peer_id, connection) = (request.server, request.connection);
                let order = self.requests.start(Instant::now(), request);
                if !self.connections.contains_key(&connection) {
                    self.ended(order.probe, ProbeEnd::ConnectionClosed);
                    return None;
                }
                Some(ToSwarm::NotifyHandler {
                    peer_id,
                    handler: NotifyHandler::One(connection),
                    event: Command(FromBehaviour::Ask(order)),
                })
            }
        }
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
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: Option<PeerId>,
        addresses: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.dialed(addresses);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::default())
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        let now = Instant::now();
        match event {
            FromSwarm::NewListenAddr(event) => self.core.on_listen_addr(now, event.addr),
            FromSwarm::ExpiredListenAddr(event) => self.core.on_listen_addr_gone(now, event.addr),
            FromSwarm::NewExternalAddrCandidate(event) => self.core.on_candidate(now, event.addr),
            FromSwarm::ExternalAddrConfirmed(event) => {
                self.core.on_external_confirmed(now, event.addr);
            }
            FromSwarm::ExternalAddrExpired(event) => self.core.on_external_expired(now, event.addr),
            FromSwarm::ConnectionEstablished(event) => {
                // The swarm may have dialed addresses that other behaviours came up with.
                self.dialed(event.failed_addresses);
                let (peer, serves) = (event.peer_id, false);
                self.connections
                    .insert(event.connection_id, Connected { peer, serves });
                let info = connection_info(event.connection_id, event.peer_id, event.endpoint);
                self.core.on_connection(now, info);
                if is_from_new_port(event.endpoint) {
                    self.core.on_dialed_from_new_port(event.connection_id);
                }
            }
            FromSwarm::ConnectionClosed(event) => self.closed(event.connection_id),
            FromSwarm::AddressChange(event) => {
                let remote = event.new.get_remote_address();
                self.core
                    .on_address_change(now, event.connection_id, remote);
            }
            FromSwarm::ListenFailure(event) => {
                if let ListenError::Denied { .. } = event.error {
                    let (local, remote) = (event.local_addr, event.send_back_addr);
                    self.core
                        .on_inbound_denied(now, local, remote, event.peer_id);
                }
            }
            FromSwarm::DialFailure(event) => {
                match event.error {
                    DialError::Transport(errors) => {
                        self.dialed(errors.iter().map(|(addr, _)| addr));
                    }
                    // Somebody else was there, and packets went to and fro.
                    DialError::WrongPeerId { address, .. } | DialError::LocalPeerId { address } => {
                        self.dialed([address]);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        Report(said): THandlerOutEvent<Self>,
    ) {
        let now = Instant::now();
        match said {
            ToBehaviour::Serves(serves) => {
                if let Some(connected) = self.connections.get_mut(&connection) {
                    connected.serves = serves;
                }
                let serves = serves && self.may_ask(&peer);
                self.core.on_support(now, connection, serves);
            }
            ToBehaviour::Response { probe, response } => {
                self.requests.on_response(probe, response);
                self.core.on_response(now, probe, response);
            }
            ToBehaviour::Asks {
                probe,
                index,
                bytes,
            } => {
                let pays = self.core.on_dial_data_request(now, probe, index, bytes);
                let answer = Command(FromBehaviour::Pay { probe, pays });
                self.answers.push_back((peer, connection, answer));
            }
            ToBehaviour::Ended { probe, end } => self.ended(probe, end),
            ToBehaviour::Unread { probe } => match self.requests.on_unread(now, probe) {
                Some(Next::AskAgain(server, on, order)) => {
                    self.answers
                        .push_back((server, on, Command(FromBehaviour::Ask(order))));
                }
                Some(Next::Over(end)) => self.core.on_probe_end(now, probe, end),
                None => {}
            },
            ToBehaviour::Nonce { stream, nonce } => {
                self.requests.on_nonce(nonce.number, nonce.encoding);
                let accept = self.core.on_nonce(now, connection, nonce.number);
                tracing::debug!(%peer, %connection, accept, "a nonce came in");
                let answer = Command(FromBehaviour::Answer { stream, accept });
                self.answers.push_back((peer, connection, answer));
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            if let Some((peer_id, connection, event)) = self.answers.pop_front() {
                return Poll::Ready(ToSwarm::NotifyHandler {
                    peer_id,
                    handler: NotifyHandler::One(connection),
                    event,
                });
            }
            while let Some(output) = self.core.poll_event() {
                if let Some(to_swarm) = self.carry_out(output) {
                    return Poll::Ready(to_swarm);
                }
            }
            let Some(at) = self.core.poll_timeout() else {
                self.timer = None;
                break;
            };
            let now = Instant::now();
            // Arming wakes a thread; one that rings too early costs less than one for each change of plan.
            let (timer, _) = match &mut self.timer {
                Some(timer) if timer.1 <= at => timer,
                timer => timer.insert((
                    Delay::new(at.saturating_duration_since(now).max(MIN_WAIT)),
                    at,
                )),
            };
            if timer.poll_unpin(cx).is_pending() {
                break;
            }
            self.timer = None;
            let now = Instant::now();
            if at <= now {
                self.core.handle_timeout(now);
            }
        }
        // Commands of the application come in between polls.
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// A dial from a listening port shows peers what the NAT makes of that port; one from a new port shows nothing of it.
fn is_from_new_port(endpoint: &ConnectedPoint) -> bool {
    matches!(
        endpoint,
        ConnectedPoint::Dialer {
            port_use: PortUse::New,
            ..
        }
    )
}

fn connection_info(id: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) -> ConnectionInfo {
    match endpoint {
        ConnectedPoint::Dialer { address, .. } => ConnectionInfo {
            id,
            peer,
            inbound: false,
            local: None,
            remote: address.clone(),
        },
        ConnectedPoint::Listener {
            local_addr,
            send_back_addr,
        } => ConnectionInfo {
            id,
            peer,
            inbound: true,
            local: Some(local_addr.clone()),
            remote: send_back_addr.clone(),
        },
    }
}
