//! One core in virtual time, with servers that answer by a script. Steps from wake-up to wake-up and carries out what
//! the core asks for, as the behaviour does: confirmations and expiries are echoed, dial-backs are connections.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol, swarm::ConnectionId};
use libp2p_autonat_v2::{
    address::{self, Transport},
    protocol::{DialResponse, DialStatus, ResponseStatus},
    reachability::{
        AddressReport, Config, ConnectionInfo, Event, Output, ProbeEnd, ProbeId, ProbeOutcome,
        ProbeRequest, Probed, Reachability, Summary, Verdict,
    },
};

pub(crate) const LATENCY: Duration = Duration::from_millis(40);

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn minutes(minutes: u64) -> Duration {
    secs(60 * minutes)
}

pub(crate) fn hours(hours: u64) -> Duration {
    minutes(60 * hours)
}

pub(crate) fn addr(text: &str) -> Multiaddr {
    text.parse().expect("a multiaddr")
}

/// What a server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// Dials the first address, and says what came of it.
    Truth,
    /// Dials back whatever the address, and says `OK`.
    DialBack,
    DialError,
    DialErrorAfter(Duration),
    /// `E_DIAL_BACK_ERROR`, though the nonce was delivered.
    DialBackErrorWithNonce,
    DialBackErrorWithoutNonce,
    OkWithoutNonce,
    /// `OK`, and the nonce so much later.
    LateNonce(Duration),
    /// The nonce on a connection that this makes of the dial-back's.
    Nonce(Carrier),
    Refuse,
    Reject,
    InternalError,
    Silent,
    /// Holds the request for a while, closes the connection, and is back a second later.
    Leave,
    /// Takes the request and closes the stream.
    Eof,
    Reset,
    Unsupported,
    Violation,
    /// Asks for so much dial data first, and answers truly if it is paid.
    DialData(u64),
    /// One response for each address, as js-libp2p does.
    Each(Vec<Self>),
    /// Answers truly for the address at this index.
    Index(usize),
    /// Answers truly for the first address of this transport, the only one that it has, and refuses if there is none.
    Only(Transport),
    /// Answers truly for the first address that is an IP and a port and no more, and refuses if there is none.
    Numeric,
    /// Answers so if the first address is of this transport, and truly for it otherwise.
    Over(Transport, Box<Self>),
    /// Answers truly for the last address, unless it is this one: then it takes ten seconds and resets the stream.
    LastOrReset(Multiaddr),
    /// The nonce comes in, then the stream ends without a response.
    NonceThenEof,
}

/// How a nonce comes in.
#[derive(Debug, Clone)]
pub(crate) enum Carrier {
    /// On the connection that the request left on.
    SameConnection,
    /// On an inbound connection that was open before.
    OpenBefore,
    Relayed,
    OtherStack(Multiaddr),
    WrongNonce,
    /// The same nonce on two connections.
    Twice,
    /// From a peer that is not the server, as go-libp2p's dialer.
    OtherPeer,
}

pub(crate) struct Server {
    pub(crate) peer: PeerId,
    /// Where this node sees it; `None` where it is known through a relay.
    pub(crate) ip: Option<IpAddr>,
    /// Where it dials back from.
    pub(crate) dials_from: IpAddr,
    pub(crate) script: VecDeque<Answer>,
    pub(crate) otherwise: Answer,
    pub(crate) latency: Duration,
    pub(crate) connection: Option<ConnectionId>,
    in_flight: usize,
}

type Step = Box<dyn FnOnce(&mut World)>;

pub(crate) struct World {
    pub(crate) core: Reachability,
    pub(crate) me: PeerId,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) servers: Vec<Server>,
    /// What the next servers to be asked answer, whoever they are.
    pub(crate) script: VecDeque<Answer>,
    /// The addresses at which a truthful server gets through.
    pub(crate) open: BTreeSet<Multiaddr>,
    /// The swarm's external addresses.
    pub(crate) external: BTreeSet<Multiaddr>,
    /// What the application takes back on the very event that tells that it is reachable, as long as it is in here.
    pub(crate) taken_back: BTreeSet<Multiaddr>,
    /// How often the core has confirmed an address.
    pub(crate) confirmations: usize,
    pub(crate) events: Vec<(Duration, Event)>,
    /// Requests that left: when, to which server.
    pub(crate) requests: Vec<(Duration, usize, ProbeRequest)>,
    /// Bytes of dial data.
    pub(crate) paid: u64,
    /// The most requests that were under way with one server at a time.
    pub(crate) most_at_once: usize,
    /// Nonces that the core took, and that it did not.
    pub(crate) nonces: (usize, usize),
    pub(crate) wakes: usize,
    steps: BTreeMap<(Instant, u64), Step>,
    sequence: u64,
    connections: usize,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let me = PeerId::random();
        let start = Instant::now();
        Self {
            core: Reachability::new(me, config, 7, start),
            me,
            start,
            now: start,
            servers: Vec::new(),
            script: VecDeque::new(),
            open: BTreeSet::new(),
            external: BTreeSet::new(),
            taken_back: BTreeSet::new(),
            confirmations: 0,
            events: Vec::new(),
            requests: Vec::new(),
            paid: 0,
            most_at_once: 0,
            nonces: (0, 0),
            wakes: 0,
            steps: BTreeMap::new(),
            sequence: 0,
            connections: 1,
        }
    }

    /// A world with one address and these servers, all there from the start.
    pub(crate) fn of(address: &Multiaddr, answers: impl IntoIterator<Item = Answer>) -> Self {
        let mut world = Self::new();
        world.core.add_candidate(world.now, address).unwrap();
        for answer in answers {
            world.server(answer);
        }
        world
    }

    // ---- servers ----

    /// A server in a neighbourhood of its own joins.
    pub(crate) fn server(&mut self, otherwise: Answer) -> usize {
        let n = self.servers.len();
        self.server_at(Some(server_ip(n)), otherwise)
    }

    pub(crate) fn server_at(&mut self, ip: Option<IpAddr>, otherwise: Answer) -> usize {
        let n = self.add_server(ip, otherwise);
        self.connect(n);
        n
    }

    pub(crate) fn add_server(&mut self, ip: Option<IpAddr>, otherwise: Answer) -> usize {
        let n = self.servers.len();
        self.servers.push(Server {
            peer: PeerId::random(),
            ip,
            dials_from: ip.unwrap_or_else(|| server_ip(n)),
            script: VecDeque::new(),
            otherwise,
            latency: LATENCY,
            connection: None,
            in_flight: 0,
        });
        n
    }

    pub(crate) fn connect(&mut self, n: usize) {
        let server = &self.servers[n];
        let remote = match server.ip {
            Some(ip) => host(ip).with(Protocol::Tcp(4001)),
            None => host(server_ip(900))
                .with(Protocol::Tcp(4001))
                .with(Protocol::P2p(PeerId::random()))
                .with(Protocol::P2pCircuit),
        };
        let peer = server.peer;
        let id = self.connection(peer, None, &remote);
        self.servers[n].connection = Some(id);
        self.core.on_support(self.now, id, true);
        self.drain();
    }

    pub(crate) fn disconnect(&mut self, n: usize) {
        if let Some(id) = self.servers[n].connection.take() {
            self.core.on_connection_closed(self.now, id);
            self.drain();
        }
    }

    /// All servers answer so from now on.
    pub(crate) fn all_answer(&mut self, answer: &Answer) {
        for server in &mut self.servers {
            server.otherwise = answer.clone();
        }
    }

    pub(crate) fn connection(
        &mut self,
        peer: PeerId,
        local: Option<Multiaddr>,
        remote: &Multiaddr,
    ) -> ConnectionId {
        let id = ConnectionId::new_unchecked(self.connections);
        self.connections += 1;
        self.core.on_connection(
            self.now,
            ConnectionInfo {
                id,
                peer,
                inbound: local.is_some(),
                local,
                remote: remote.clone(),
            },
        );
        id
    }

    /// A peer that nobody asked connects to `local`, and stays.
    pub(crate) fn stranger(&mut self, ip: IpAddr, local: &Multiaddr) -> ConnectionId {
        let remote = host(ip).with(Protocol::Tcp(50_000));
        let id = self.connection(PeerId::random(), Some(local.clone()), &remote);
        self.drain();
        id
    }

    /// This node connects to a peer that serves nothing, and stays connected.
    pub(crate) fn acquaintance(&mut self, ip: IpAddr) -> ConnectionId {
        let remote = host(ip).with(Protocol::Tcp(4001));
        let id = self.connection(PeerId::random(), None, &remote);
        self.drain();
        id
    }

    // ---- time ----

    pub(crate) fn at(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn after(&mut self, delay: Duration, step: impl FnOnce(&mut Self) + 'static) {
        self.sequence += 1;
        self.steps
            .insert((self.now + delay, self.sequence), Box::new(step));
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut here = 0;
        loop {
            self.drain();
            let wake = self.core.poll_timeout();
            let step = self.steps.keys().next().copied();
            let next = wake.into_iter().chain(step.map(|s| s.0)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            here = if next <= self.now { here + 1 } else { 0 };
            assert!(here < 500, "the core spins at {:?}", self.at());
            self.now = self.now.max(next);
            match step.filter(|step| step.0 <= self.now) {
                Some(step) => {
                    let step = self.steps.remove(&step).expect("a step");
                    step(self);
                }
                None => {
                    self.wakes += 1;
                    self.core.handle_timeout(self.now);
                }
            }
        }
        self.now = end;
    }

    /// Runs until `condition` holds; `None` if it does not within `limit`.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        condition: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let end = self.now + limit;
        while self.now < end {
            self.drain();
            if condition(self) {
                return Some(self.at());
            }
            self.run(ms(5));
        }
        condition(self).then(|| self.at())
    }

    // ---- what the core wants ----

    pub(crate) fn drain(&mut self) {
        while let Some(output) = self.core.poll_event() {
            match output {
                Output::Probe(request) => self.serve(request),
                Output::Confirm(addr) => {
                    self.confirmations += 1;
                    self.external.insert(addr.clone());
                    self.core.on_external_confirmed(self.now, &addr);
                }
                Output::Expire(addr) => {
                    self.external.remove(&addr);
                    self.core.on_external_expired(self.now, &addr);
                }
                Output::Event(event) => {
                    self.take_back(&event);
                    self.events.push((self.now - self.start, event));
                }
                _ => {}
            }
        }
    }

    fn take_back(&mut self, event: &Event) {
        if let Event::VerdictChanged {
            address,
            new: Verdict::Reachable,
            ..
        } = event
            && self.taken_back.contains(address)
        {
            let was_confirmed = self.external.remove(address);
            assert!(was_confirmed, "an application hears of what it can act on");
            self.core.on_external_expired(self.now, address);
        }
    }

    fn serve(&mut self, request: ProbeRequest) {
        let n = self
            .servers
            .iter()
            .position(|server| server.peer == request.server)
            .expect("a server that was told of");
        let server = &mut self.servers[n];
        assert_eq!(
            Some(request.connection),
            server.connection,
            "the request leaves on a live connection"
        );
        server.in_flight += 1;
        self.most_at_once = self.most_at_once.max(server.in_flight);
        let answer = self
            .script
            .pop_front()
            .or_else(|| server.script.pop_front())
            .unwrap_or_else(|| server.otherwise.clone());
        let latency = server.latency;
        self.requests
            .push((self.now - self.start, n, request.clone()));
        self.after(latency, move |world| world.answer(n, request, answer));
    }

    fn answer(&mut self, n: usize, request: ProbeRequest, answer: Answer) {
        let id = request.id;
        let latency = self.servers[n].latency;
        let rest = request.timeout.saturating_sub(latency);
        match answer {
            Answer::Silent => self.after(rest, move |w| w.end(n, id, ProbeEnd::Timeout)),
            Answer::Eof => self.end(n, id, ProbeEnd::Completed),
            Answer::Leave => self.after(secs(18), move |w| {
                w.end(n, id, ProbeEnd::ConnectionClosed);
                w.disconnect(n);
                w.after(secs(1), move |w| w.connect(n));
            }),
            Answer::Reset => self.end(n, id, ProbeEnd::Reset),
            Answer::Unsupported => self.end(n, id, ProbeEnd::Unsupported),
            Answer::DialData(bytes) => {
                if self.core.on_dial_data_request(self.now, id, 0, bytes) {
                    self.paid += bytes;
                    self.answer(n, request, Answer::Truth);
                } else {
                    self.end(n, id, ProbeEnd::DialDataRefused);
                }
            }
            Answer::Violation => self.end(
                n,
                id,
                ProbeEnd::ProtocolViolation(
                    libp2p_autonat_v2::reachability::Violation::Undecodable,
                ),
            ),
            Answer::NonceThenEof => {
                self.dial_back(n, &request, 0);
                self.after(latency, move |w| w.end(n, id, ProbeEnd::Completed));
            }
            Answer::LastOrReset(dropped) => {
                let last = request.addrs.len() - 1;
                if request.addrs[last] == dropped {
                    self.after(secs(10), move |w| w.end(n, id, ProbeEnd::Reset));
                } else {
                    self.answer(n, request, Answer::Index(last));
                }
            }
            Answer::Only(transport) => {
                let mut addrs = request.addrs.iter();
                match addrs.position(|addr| address::transport(addr) == Some(transport)) {
                    Some(index) => self.one(n, &request, index, Answer::Truth),
                    None => self.one(n, &request, 0, Answer::Refuse),
                }
                self.after(latency, move |w| w.end(n, id, ProbeEnd::Completed));
            }
            Answer::Numeric => {
                let plain = |addr: &Multiaddr| !address::is_name(addr) && addr.iter().count() == 2;
                match request.addrs.iter().position(plain) {
                    Some(index) => self.one(n, &request, index, Answer::Truth),
                    None => self.one(n, &request, 0, Answer::Refuse),
                }
                self.after(latency, move |w| w.end(n, id, ProbeEnd::Completed));
            }
            Answer::Over(transport, answer) => {
                let meant = address::transport(&request.addrs[0]) == Some(transport);
                let answer = if meant { *answer } else { Answer::Truth };
                self.answer(n, request, answer);
            }
            Answer::DialErrorAfter(time) => self.after(time, move |w| {
                w.respond(n, id, 0, DialStatus::DialError);
                w.end(n, id, ProbeEnd::Completed);
            }),
            Answer::Each(answers) => {
                for (index, answer) in answers.into_iter().enumerate().take(request.addrs.len()) {
                    let request = request.clone();
                    self.after(latency * u32::try_from(index).unwrap(), move |w| {
                        w.one(n, &request, index, answer);
                    });
                }
                let last = latency * u32::try_from(request.addrs.len()).unwrap();
                self.after(last, move |w| w.end(n, id, ProbeEnd::Completed));
            }
            answer => {
                let index = match answer {
                    Answer::Index(index) => index.min(request.addrs.len() - 1),
                    _ => 0,
                };
                self.one(n, &request, index, answer);
                self.after(latency, move |w| w.end(n, id, ProbeEnd::Completed));
            }
        }
    }

    /// One response, about the address at `index`.
    fn one(&mut self, n: usize, request: &ProbeRequest, index: usize, answer: Answer) {
        let id = request.id;
        let ok = move |w: &mut Self| w.respond(n, id, index, DialStatus::Ok);
        match answer {
            Answer::Truth | Answer::Index(_) => {
                if self.open.contains(&request.addrs[index]) {
                    self.dial_back(n, request, index);
                    ok(self);
                } else {
                    self.respond(n, id, index, DialStatus::DialError);
                }
            }
            Answer::DialBack => {
                self.dial_back(n, request, index);
                ok(self);
            }
            Answer::DialError => self.respond(n, id, index, DialStatus::DialError),
            Answer::DialBackErrorWithNonce => {
                self.dial_back(n, request, index);
                self.respond(n, id, index, DialStatus::DialBackError);
            }
            Answer::DialBackErrorWithoutNonce => {
                self.respond(n, id, index, DialStatus::DialBackError);
            }
            Answer::OkWithoutNonce => ok(self),
            Answer::LateNonce(late) => {
                ok(self);
                let request = request.clone();
                self.after(late, move |w| w.dial_back(n, &request, index));
            }
            Answer::Nonce(carrier) => {
                self.odd_dial_back(n, request, carrier);
                ok(self);
            }
            Answer::Refuse => self.status(id, index, ResponseStatus::DialRefused),
            Answer::Reject => self.status(id, index, ResponseStatus::RequestRejected),
            Answer::InternalError => self.status(id, index, ResponseStatus::InternalError),
            other => panic!("not a response: {other:?}"),
        }
    }

    fn status(&mut self, id: ProbeId, index: usize, status: ResponseStatus) {
        let mut response = DialResponse::without_dial(status);
        response.addr_idx = u32::try_from(index).unwrap();
        self.core.on_response(self.now, id, response);
    }

    pub(crate) fn respond(&mut self, _n: usize, id: ProbeId, index: usize, status: DialStatus) {
        let mut response = DialResponse::without_dial(ResponseStatus::Ok);
        response.addr_idx = u32::try_from(index).unwrap();
        response.dial_status = status;
        self.core.on_response(self.now, id, response);
    }

    fn end(&mut self, n: usize, id: ProbeId, end: ProbeEnd) {
        self.servers[n].in_flight -= 1;
        self.core.on_probe_end(self.now, id, end);
    }

    fn dial_back(&mut self, n: usize, request: &ProbeRequest, index: usize) {
        let peer = self.servers[n].peer;
        let local = local_of(&request.addrs[index]);
        let remote = host(self.servers[n].dials_from).with(Protocol::Tcp(40_000));
        let id = self.connection(peer, Some(local), &remote);
        self.hand_over(id, request.nonce);
        self.after(ms(1), move |w| w.core.on_connection_closed(w.now, id));
    }

    fn hand_over(&mut self, id: ConnectionId, nonce: u64) {
        if self.core.on_nonce(self.now, id, nonce) {
            self.nonces.0 += 1;
        } else {
            self.nonces.1 += 1;
        }
    }

    fn odd_dial_back(&mut self, n: usize, request: &ProbeRequest, carrier: Carrier) {
        let mut peer = self.servers[n].peer;
        let local = local_of(&request.addrs[0]);
        let remote = host(self.servers[n].dials_from).with(Protocol::Tcp(40_000));
        match carrier {
            Carrier::SameConnection => self.hand_over(request.connection, request.nonce),
            Carrier::OpenBefore => {
                let id = self.open_before(n).expect("opened before");
                self.hand_over(id, request.nonce);
            }
            Carrier::Relayed => {
                let relayed = remote
                    .with(Protocol::P2p(PeerId::random()))
                    .with(Protocol::P2pCircuit);
                let id = self.connection(peer, Some(local), &relayed);
                self.hand_over(id, request.nonce);
            }
            Carrier::OtherStack(local) => {
                let id = self.connection(peer, Some(local), &remote);
                self.hand_over(id, request.nonce);
            }
            Carrier::WrongNonce => {
                let id = self.connection(peer, Some(local), &remote);
                self.hand_over(id, request.nonce ^ 1);
            }
            Carrier::Twice => {
                for _ in 0..2 {
                    let id = self.connection(peer, Some(local.clone()), &remote);
                    self.hand_over(id, request.nonce);
                }
            }
            Carrier::OtherPeer => {
                peer = PeerId::random();
                let id = self.connection(peer, Some(local), &remote);
                self.hand_over(id, request.nonce);
            }
        }
    }

    /// The inbound connection of server `n` that a test opened before, by convention the one after its own.
    fn open_before(&self, n: usize) -> Option<ConnectionId> {
        let own = self.servers[n].connection?;
        let own: usize = own.to_string().parse().ok()?;
        Some(ConnectionId::new_unchecked(own + 1))
    }

    // ---- what came of it ----

    pub(crate) fn report(&self, addr: &Multiaddr) -> AddressReport {
        self.core.address(addr).expect("a tracked address")
    }

    pub(crate) fn verdict(&self, addr: &Multiaddr) -> Verdict {
        self.core
            .address(addr)
            .map_or(Verdict::Unknown, |report| report.verdict)
    }

    /// The verdicts that there were, one after the other.
    pub(crate) fn verdicts(&self, addr: &Multiaddr) -> Vec<Verdict> {
        let changes = self.verdict_changes(addr);
        changes.into_iter().map(|(_, verdict)| verdict).collect()
    }

    pub(crate) fn verdict_changes(&self, addr: &Multiaddr) -> Vec<(Duration, Verdict)> {
        self.events
            .iter()
            .filter_map(|(at, event)| match event {
                Event::VerdictChanged { address, new, .. } if address == addr => Some((*at, *new)),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn summaries(&self) -> Vec<Summary> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::SummaryChanged { new, .. } => Some(*new),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn probed(&self) -> impl Iterator<Item = (Duration, &Probed)> {
        self.events.iter().filter_map(|(at, event)| match event {
            Event::Probed(probed) => Some((*at, probed)),
            _ => None,
        })
    }

    pub(crate) fn outcomes(&self) -> Vec<ProbeOutcome> {
        self.probed().map(|(_, probed)| probed.outcome).collect()
    }

    pub(crate) fn servers_wanted(&self) -> Vec<(Duration, usize)> {
        self.events
            .iter()
            .filter_map(|(at, event)| match event {
                Event::ServersWanted { known, .. } => Some((*at, *known)),
                _ => None,
            })
            .collect()
    }

    /// When requests that name `addr` first left.
    pub(crate) fn asked_about(&self, addr: &Multiaddr) -> Vec<Duration> {
        self.requests
            .iter()
            .filter(|(_, _, request)| request.addrs.first() == Some(addr))
            .map(|(at, _, _)| *at)
            .collect()
    }

    /// The most requests that one server got within a minute.
    pub(crate) fn busiest_minute(&self) -> usize {
        let mut most = 0;
        for n in 0..self.servers.len() {
            let times: Vec<_> = self
                .requests
                .iter()
                .filter(|(_, server, _)| *server == n)
                .map(|(at, _, _)| *at)
                .collect();
            for (i, from) in times.iter().enumerate() {
                let within = times[i..]
                    .iter()
                    .take_while(|at| **at - *from < minutes(1))
                    .count();
                most = most.max(within);
            }
        }
        most
    }
}

/// An IP of server `n`, each in a neighbourhood of its own.
pub(crate) fn server_ip(n: usize) -> IpAddr {
    let high = u8::try_from(20 + n / 250).unwrap();
    let low = u8::try_from(n % 250).unwrap();
    Ipv4Addr::new(high, low, 1, 1).into()
}

pub(crate) fn server_ip6(n: usize) -> IpAddr {
    Ipv6Addr::new(0x2a00, u16::try_from(n).unwrap(), 0, 0, 0, 0, 0, 1).into()
}

pub(crate) fn host(ip: IpAddr) -> Multiaddr {
    match ip {
        IpAddr::V4(ip) => Multiaddr::empty().with(Protocol::Ip4(ip)),
        IpAddr::V6(ip) => Multiaddr::empty().with(Protocol::Ip6(ip)),
    }
}

/// What a listener behind a NAT sees of a connection to `addr`.
pub(crate) fn local_of(addr: &Multiaddr) -> Multiaddr {
    addr.iter()
        .map(|protocol| match protocol {
            Protocol::Ip6(_) => Protocol::Ip6("fd00::2".parse().unwrap()),
            Protocol::Ip4(_) | Protocol::Dns4(_) | Protocol::Dns(_) => {
                Protocol::Ip4(Ipv4Addr::new(192, 168, 1, 2))
            }
            other => other,
        })
        .collect()
}
