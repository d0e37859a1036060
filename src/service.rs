//! The pure core of the server: it decides whom to serve, what to dial for them, and what to tell them.
//!
//! What happened goes in, and what to do about it comes out. There is no I/O here, no clock and no global randomness: time and
//! randomness come in with each call, and what only the host can tell as a [`Host`]. So the same code runs in
//! [`server::Behaviour`](crate::server::Behaviour), in property tests and in a simulator. It follows the AutoNAT v2
//! specification (`libp2p/specs`, `autonat/autonat-v2.md`), the part on the server.
//!
//! # Drive loop
//! 1. Tell what happened: the methods `on_*`.
//! 2. Drain [`Service::poll_command`] and carry out each [`Command`]; drain [`Service::poll_event`].
//! 3. Call [`Service::handle_timeout`] when [`Service::poll_timeout`] says so, and drain again.
//!
//! # What it promises
//! * A request that was admitted ends within [`Config::with_request_timeout`], and with exactly one [`Event::Served`].
//! * It never asks to dial what [`PassedOver`] lists, nor more than [`Config`] allows.
//! * All that it holds is bounded by [`Config`], whatever clients and targets do: see [`Load`].
//!
//! # Parts
//! Each owns its state, and none calls one above it.
//!
//! | part | owns | answers |
//! |---|---|---|
//! | `limits` | counters of clients, networks and targets | whether one more request is admitted |
//! | `policy` | nothing | which address of a request is dialed |
//! | `dials` | the dials, until their sockets are gone | whether one more fits, and who waits for it |
//! | `job` | one request: what it waits for, until when | what follows |
//! | `tally` | what strangers can cause without limit | when to say so |

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    net::IpAddr,
    time::Duration,
};

use libp2p_identity::PeerId;
use libp2p_swarm::ConnectionId;
use rand::{Rng, RngExt};
use web_time::Instant;

use crate::{
    address,
    protocol::{DialDataRequest, DialRequest, Nonce},
};

mod command;
mod config;
mod dials;
mod event;
mod getters;
mod host;
mod job;
mod limits;
mod outcome;
mod policy;
mod span;
mod tally;

pub use command::{Command, Dial, DialId, RequestId, StreamCommand};
pub use config::Config;
pub use event::{End, Event, JoinedLate, Misbehaved, Misbehaviour, Rejected, Served};
pub use host::{Host, Locality};
pub use limits::Limit;
pub use outcome::{DialBackOutcome, NotDelivered, NotDialed};
pub use policy::PassedOver;

use dials::Dials;
pub(crate) use host::{lan, on_one_lan};
use job::{Action, Decision, Job};
use limits::Limiter;
use policy::Client;
use tally::Tally;

/// Events that wait for the swarm to take them. More than requests are admitted in a minute by default;
/// if the swarm does not take any for so long, further ones are lost, with a line in the log.
const MAX_EVENTS: usize = 1_024;

/// Who pays less than one in so many bytes of dial data has not paid.
const UNPAID: u64 = 8;

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
    /// that keep their connections open, see [`BoundedClose`](crate::server::BoundedClose).
    pub lingering_dials: usize,
    /// Peers, neighbourhoods and targets that the rate limits remember, of at most 200 bytes each. At most
    /// six times [`with_max_requests_per_minute`](Config::with_max_requests_per_minute) and one per
    /// request.
    pub rate_entries: usize,
    /// Commands and events that wait for the swarm.
    pub queued: usize,
}

/// The server's core.
#[derive(Debug)]
pub struct Service {
    config: Config,
    serving: bool,
    limiter: Limiter,
    /// One per admitted request, bounded by the limit on requests at once.
    requests: BTreeMap<RequestId, Request>,
    dials: Dials,
    /// At most one per stream that was told of, and two per dial.
    commands: VecDeque<Command>,
    /// At most [`MAX_EVENTS`].
    events: VecDeque<Event>,
    rejected: Tally<Limit>,
    misbehaved: Tally<Misbehaviour>,
}

#[derive(Debug)]
struct Request {
    job: Job,
    client: Client,
    nonce: Nonce,
    /// Whether a dial is reserved for it that counts for its target.
    reserved: bool,
    /// When it was told to pay dial data, if it was.
    told_to_pay: Option<Instant>,
    span: tracing::Span,
}

impl Service {
    /// A server that serves from now on.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            limiter: Limiter::new(config.limits, now),
            requests: BTreeMap::new(),
            dials: Dials::default(),
            commands: VecDeque::new(),
            events: VecDeque::new(),
            rejected: Tally::new(),
            misbehaved: Tally::new(),
            serving: true,
            config,
        }
    }

    /// What it was made with.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Serves, or rejects whoever asks from now on. Requests under way are served to their end.
    pub const fn set_serving(&mut self, serving: bool) {
        self.serving = serving;
    }

    /// What it holds at this moment.
    pub fn load(&self) -> Load {
        Load {
            requests: self.requests.len(),
            dials: self.dials.len(),
            lingering_dials: self.dials.lingering(),
            rate_entries: self.limiter.entries(),
            queued: self.commands.len() + self.events.len(),
        }
    }

    /// A client opened a stream for a request. `ip` is where it is connected from: none if it is relayed. It is answered by
    /// [`StreamCommand::Serve`] or [`StreamCommand::Reject`]; nothing is to be read before.
    pub fn on_stream(&mut self, now: Instant, id: RequestId, client: PeerId, ip: Option<IpAddr>) {
        let ip = ip.map(|ip| ip.to_canonical());
        let admitted = if self.serving {
            self.limiter.admit(now, client, ip, self.dials.len())
        } else {
            Err(Limit::Off)
        };
        if let Err(limit) = admitted {
            tracing::debug!(%client, limit = limit.as_str(), "rejected a dial request");
            self.rejected.add(now, limit, 1, client, id.connection);
            self.command(client, id, StreamCommand::Reject);
            return;
        }
        let record = Served::new(client, id.connection, ip);
        let span = span::open(&record);
        self.requests.insert(
            id,
            Request {
                job: Job::new(now, self.config.timing, record),
                client: Client { peer: client, ip },
                nonce: Nonce::default(),
                reserved: false,
                told_to_pay: None,
                span,
            },
        );
        self.command(client, id, StreamCommand::Serve);
    }

    /// The request was read.
    pub fn on_request(
        &mut self,
        now: Instant,
        id: RequestId,
        asked: DialRequest,
        host: &impl Host,
        rng: &mut impl Rng,
    ) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        request.nonce = Nonce::from(&asked);
        let selection = policy::choose(&asked.addrs, request.client, &self.config.rules, host);
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
                    chosen.is_client_ip,
                    !chosen.is_client_ip,
                );
                match admitted {
                    Err(limit) => {
                        record.limit = Some(limit);
                        Decision::Reject
                    }
                    Ok(()) => {
                        request.reserved = !chosen.is_client_ip;
                        let data = request.reserved.then(|| policy::dial_data_bytes(rng));
                        Decision::Test(chosen, data)
                    }
                }
            }
        };
        let action = request.job.decided(now, decision);
        self.perform(now, id, action);
    }

    /// So many bytes of dial data have come in on this stream by now. To be told when what was asked for is complete, and
    /// before any other fact or the time ends the request.
    pub fn on_bytes(&mut self, now: Instant, id: RequestId, bytes: u64, rng: &mut impl Rng) {
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let record = &mut request.job.record;
        record.dial_data_received = record.dial_data_received.max(bytes);
        if record.dial_data_received >= record.dial_data_requested {
            let delay = rng.random_range(Duration::ZERO..=self.config.max_delay);
            let action = request.job.data_complete(now, delay);
            self.perform(now, id, action);
        }
    }

    /// The stream has ended: the answer is written, or the client left or broke the protocol.
    pub fn on_stream_ended(&mut self, now: Instant, id: RequestId, end: End) {
        self.finish(now, id, end);
        self.next_turns(now);
    }

    /// So many streams of this client were dropped before they were told of, as it has too many.
    pub fn on_streams_dropped(
        &mut self,
        now: Instant,
        client: PeerId,
        connection: ConnectionId,
        count: u32,
    ) {
        let cause = Misbehaviour::TooManyStreams;
        self.misbehaved
            .add(now, cause, count.into(), client, connection);
    }

    /// A connection of a client is gone, and all of its streams.
    pub fn on_connection_closed(&mut self, now: Instant, connection: ConnectionId) {
        let first = RequestId {
            connection,
            stream: u32::MIN,
        };
        let last = RequestId {
            connection,
            stream: u32::MAX,
        };
        while let Some((&id, _)) = self.requests.range(first..=last).next() {
            self.finish(now, id, End::ClientLeft);
        }
        // Not before all of them are: one that waits must not be dialed for when its client has gone.
        self.next_turns(now);
    }

    /// The connection of this dial is established; the nonce is being delivered.
    pub fn on_dial_established(&mut self, now: Instant, dial: DialId) {
        let waits = self.dials.established(now, dial);
        if let Some(request) = waits.and_then(|id| self.requests.get_mut(&id)) {
            request.job.connected(now);
        }
    }

    /// It is known what became of this dial. Whether its socket is gone makes no difference.
    pub fn on_dial_ended(&mut self, now: Instant, dial: DialId, outcome: DialBackOutcome) {
        let Some(id) = self.dials.ended(dial) else {
            return;
        };
        self.commands.push_back(Command::EndDial(dial));
        if let Some(request) = self.requests.get_mut(&id) {
            let action = request.job.dial_ended(now, outcome);
            self.perform(now, id, action);
        }
        self.next_turns(now);
    }

    /// The socket of this dial is gone: it failed, or its connection is closed.
    pub fn on_dial_gone(&mut self, now: Instant, dial: DialId) {
        self.dials.gone(now, dial);
        self.next_turns(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.requests
            .values()
            .map(|request| request.job.deadline())
            .chain(self.rejected.next_wakeup())
            .chain(self.misbehaved.next_wakeup())
            .chain(self.dials.next_drained())
            .min()
    }

    /// Does all that is due, and says whether anything was.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let mut busy = self.dials.drained(now);
        busy |= self.time_out(now, false);
        if busy {
            // What was due may have freed a place for one that must not wait any longer.
            self.next_turns(now);
        }
        busy |= self.time_out(now, true);
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

    /// Tells those that are due, and that wait for room to dial or do not. Whether there were any.
    fn time_out(&mut self, now: Instant, waiting: bool) -> bool {
        let is_due = |job: &Job| job.deadline() <= now && job.waits_to_dial().is_some() == waiting;
        let due: Vec<RequestId> = self
            .requests
            .iter()
            .filter(|(_, request)| is_due(&request.job))
            .map(|(id, _)| *id)
            .collect();
        for id in &due {
            if let Some(request) = self.requests.get_mut(id) {
                let action = request.job.timed_out(now);
                self.perform(now, *id, action);
            }
        }
        !due.is_empty()
    }

    /// Whether there is nothing to be polled.
    pub(crate) fn is_drained(&self) -> bool {
        self.commands.is_empty() && self.events.is_empty()
    }

    /// The next thing to do.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// The next thing to tell the application.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn perform(&mut self, now: Instant, id: RequestId, action: Option<Action>) {
        let Some(action) = action else { return };
        let Some(request) = self.requests.get_mut(&id) else {
            return;
        };
        let peer = request.client.peer;
        match action {
            Action::AskForData { index, num_bytes } => {
                request.told_to_pay = Some(now);
                let ask = DialDataRequest {
                    addr_idx: index,
                    num_bytes,
                };
                self.command(peer, id, StreamCommand::AskForData(ask));
            }
            Action::Dial(chosen) => {
                let limits = &self.config.limits;
                if let Some(limit) = self.dials.must_wait(limits, peer, chosen.is_udp) {
                    request.job.wait_for_turn(now, limit);
                    return;
                }
                if let Err(limit) = self.dials.room(limits, chosen.ip) {
                    let action = request.job.no_dial_left(now, limit);
                    self.perform(now, id, Some(action));
                    return;
                }
                if mem::take(&mut request.reserved) {
                    self.limiter.dialed(now, chosen.ip);
                }
                request.job.dialing(now);
                self.commands.push_back(Command::Dial(Dial {
                    id: self.dials.start(now, peer, &chosen, id),
                    peer,
                    addr: chosen.addr,
                    nonce: request.nonce,
                }));
            }
            Action::Answer(response) => {
                self.command(peer, id, StreamCommand::Answer(response));
                self.give_up_dial(id);
            }
            Action::Reset(end) => {
                self.command(peer, id, StreamCommand::Reset);
                self.finish(now, id, end);
            }
        }
    }

    /// Lets go of the dial of this request, if one is under way.
    fn give_up_dial(&mut self, id: RequestId) {
        if let Some(dial) = self.dials.give_up(id) {
            self.commands.push_back(Command::EndDial(dial));
        }
    }

    /// Dials for the requests that wait for room, the oldest first, as far as there is some.
    fn next_turns(&mut self, now: Instant) {
        let limits = self.config.limits;
        loop {
            let quic_is_full = self.dials.quic_is_full(&limits);
            let next = self
                .requests
                .iter()
                .filter_map(|(id, request)| Some((id, request, request.job.waits_to_dial()?)))
                .filter(|(_, request, chosen)| {
                    let is_full = chosen.is_udp && quic_is_full;
                    !is_full && !self.dials.occupies(request.client.peer)
                })
                .min_by_key(|(_, request, _)| request.job.started())
                .map(|(id, _, chosen)| (*id, chosen.clone()));
            let Some((id, chosen)) = next else { return };
            self.perform(now, id, Some(Action::Dial(chosen)));
        }
    }

    fn finish(&mut self, now: Instant, id: RequestId, end: End) {
        let Some(request) = self.requests.remove(&id) else {
            return;
        };
        let peer = request.client.peer;
        self.limiter.finish(&peer);
        if let End::Misbehaved(cause) = end {
            self.misbehaved.add(now, cause, 1, peer, id.connection);
        }
        let served = request.job.into_event(now, end);
        if let Some(told) = request.told_to_pay {
            let target = served.tested.as_ref();
            let target = target.and_then(|(_, addr)| address::ip(addr));
            if served.dial_data_received < served.dial_data_requested / UNPAID {
                self.limiter.did_not_pay(told, target);
            } else if request.reserved {
                self.limiter.dialed(now, target);
            }
        }
        span::close(&request.span, &served);
        self.event(Event::Served(served));
        self.give_up_dial(id);
    }

    fn command(&mut self, client: PeerId, id: RequestId, command: StreamCommand) {
        self.commands
            .push_back(Command::Stream(client, id, command));
    }

    fn event(&mut self, event: Event) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            tracing::warn!("the swarm is not polled; an event of the AutoNAT v2 server is lost");
        }
    }
}
