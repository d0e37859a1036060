//! Tells a person whether strangers can reach this machine, on which addresses, how sure that is, and what to do if not.
//!
//! It listens, asks AutoNAT v2 servers to dial back, and stops when every address is settled.

mod advice;
mod args;
mod failures;
mod listen;
mod lookup;
mod machine;
mod multiaddr;
mod progress;
mod report;
mod settled;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    process::ExitCode,
    time::{Duration, Instant},
};

pub(crate) use args::Args;
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FusedStream, FuturesUnordered},
};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    identify,
    identity::Keypair,
    multiaddr::Protocol,
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, dial_opts::DialOpts},
};
use libp2p_autonat_v2::{
    address,
    client::{self, ProbeOutcome, Verdict},
    protocol::DIAL_REQUEST_PROTOCOL,
};

use self::{
    failures::{closed, dial_error},
    lookup::Lookup,
    machine::is_local,
    progress::Progress,
    report::{Failure, Report},
};
use crate::{
    signals::Signals,
    transport::{self, Names},
};

/// How long the listeners may take to say on which addresses they listen.
const LISTEN: Duration = Duration::from_secs(1);
/// The client's pace for each server; the servers allow twelve.
const REQUESTS_PER_MINUTE: usize = 6;

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    autonat: client::Behaviour,
}

/// What is known of a server that was given on the command line, or stands behind a name that was.
#[derive(Debug)]
struct Server {
    /// The argument.
    given: Multiaddr,
    /// What it stands for, once that is known.
    addr: Multiaddr,
    peer: Option<PeerId>,
    /// Where it was reached.
    remote: Option<Multiaddr>,
    state: State,
    since: Instant,
    observed: Option<Multiaddr>,
    answers: usize,
    rejections: usize,
}

impl Server {
    fn new(given: Multiaddr) -> Self {
        Self {
            addr: given.clone(),
            given,
            peer: None,
            remote: None,
            state: State::Dialing,
            since: Instant::now(),
            observed: None,
            answers: 0,
            rejections: 0,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Dialing,
    /// Connected; what it speaks is not known.
    Connected,
    Serves,
    /// It does not speak AutoNAT v2, or is a second address of another server.
    Useless(String),
    Failed(String),
}

pub(crate) fn main(args: Args) -> ExitCode {
    let json = args.json;
    let result = match tokio::runtime::Runtime::new() {
        Ok(runtime) => {
            let result = runtime.block_on(run(args));
            // A name that is still being looked up would hold the end up.
            runtime.shutdown_background();
            result
        }
        Err(error) => Err(Failure::new(format!("can't start: {error}"))),
    };
    match result {
        Ok(report) => {
            report.print(json);
            report.exit_code()
        }
        Err(failure) => {
            failure.print(json);
            failure.exit_code()
        }
    }
}

async fn run(args: Args) -> Result<Report, Failure> {
    let signals = Signals::new();
    let mut signals =
        signals.map_err(|error| Failure::new(format!("can't wait for signals: {error}")))?;
    let mut swarm = swarm(&args).map_err(Failure::new)?;
    let listeners = listen::listen(&mut swarm, &args)?;
    for addr in &args.external {
        let added = swarm.behaviour_mut().autonat.add_candidate(addr);
        added.map_err(|error| Failure::mistake(format!("can't test {addr}: {error}")))?;
    }
    let mut check = Check {
        swarm,
        progress: Progress::new(args.quiet),
        timeout: args.timeout(),
        lookup: Lookup {
            dns: args.dns,
            allow_private: args.allow_private,
        },
        servers: Vec::new(),
        lookups: FuturesUnordered::new(),
        dials: HashMap::new(),
        dialed: HashMap::new(),
        listeners,
        allow_private: args.allow_private,
        told: None,
        listening: Vec::new(),
        refused: BTreeMap::new(),
        changed: Instant::now(),
    };
    let end = {
        let work = async {
            check.listen().await;
            check.look_up(&args.servers);
            check.work().await;
        };
        tokio::select! {
            () = work => End::Done,
            () = tokio::time::sleep(args.timeout()) => End::TimedOut,
            _ = signals.next() => End::Interrupted,
        }
    };
    Ok(check.into_report(end))
}

/// Why the work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    TimedOut,
    Interrupted,
}

/// What a name stands for, or why it can't be told.
type Found = Result<Vec<Multiaddr>, String>;

struct Check {
    swarm: Swarm<Behaviour>,
    progress: Progress,
    timeout: Duration,
    lookup: Lookup,
    servers: Vec<Server>,
    /// The names of servers that are being looked up.
    lookups: FuturesUnordered<BoxFuture<'static, (usize, Found)>>,
    dials: HashMap<ConnectionId, usize>,
    /// By the address that was dialed.
    dialed: HashMap<Multiaddr, usize>,
    /// Those that have not said yet on which addresses they listen.
    listeners: HashSet<ListenerId>,
    allow_private: bool,
    /// The last change after which the person was told of the silence.
    told: Option<Instant>,
    listening: Vec<Multiaddr>,
    refused: BTreeMap<Multiaddr, BTreeSet<PeerId>>,
    /// When something last happened that matters.
    changed: Instant,
}

impl Check {
    /// Waits for the listeners. Only then connections to servers leave from the ports that are checked, and the servers see
    /// how a NAT maps them.
    async fn listen(&mut self) {
        let too_long = tokio::time::sleep(LISTEN);
        tokio::pin!(too_long);
        while !self.listeners.is_empty() {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                () = &mut too_long => break,
            }
        }
    }

    fn look_up(&mut self, addrs: &[Multiaddr]) {
        for (i, addr) in addrs.iter().enumerate() {
            self.say(&format!("server {}: asking {addr}", i + 1));
            self.servers.push(Server::new(addr.clone()));
            let (lookup, addr) = (self.lookup, addr.clone());
            self.lookups
                .push(async move { (i, lookup.look_up(addr).await) }.boxed());
        }
    }

    /// Dials what the argument stands for. What is more than one address becomes a server each.
    fn on_looked_up(&mut self, i: usize, addrs: Found) {
        let Some(given) = self.servers.get(i).map(|server| server.given.clone()) else {
            return;
        };
        let addrs = match addrs {
            Ok(addrs) => addrs,
            Err(why) => return self.set(i, State::Failed(why)),
        };
        for (nth, addr) in addrs.into_iter().enumerate() {
            let i = match nth {
                0 => i,
                _ => {
                    self.servers.push(Server::new(given.clone()));
                    self.servers.len() - 1
                }
            };
            if is_list(&given) {
                self.say(&format!("server {}: {given} lists {addr}", i + 1));
                if let Some(server) = self.servers.get_mut(i) {
                    server.addr = addr.clone();
                }
            }
            self.dial(i, addr);
        }
    }

    fn dial(&mut self, i: usize, addr: Multiaddr) {
        let twin = *self.dialed.entry(addr.clone()).or_insert(i);
        if twin != i {
            let why = format!("is at the same address as server {}", twin + 1);
            return self.set(i, State::Useless(why));
        }
        let opts = DialOpts::unknown_peer_id().address(addr).build();
        self.dials.insert(opts.connection_id(), i);
        if let Err(error) = self.swarm.dial(opts) {
            self.set(i, State::Failed(dial_error(&error)));
        }
    }

    /// Asks the servers until there is nothing left to wait for.
    async fn work(&mut self) {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                Some((i, addrs)) = self.lookups.next(), if !self.lookups.is_terminated() => self.on_looked_up(i, addrs),
                _ = tick.tick() => {
                    if self.is_done() { return }
                    self.tell_of_wait();
                    self.progress.show(|| self.status());
                }
            }
        }
    }

    fn say(&self, what: &str) {
        self.progress.say(what);
    }

    /// How far it is, in one line.
    fn status(&self) -> String {
        let reports = self.reports();
        let decided = reports.iter().filter(|r| r.verdict != Verdict::Unknown);
        format!(
            "{} of {} servers serve, {} of {} addresses decided, {} of {} s",
            self.serving().len(),
            self.servers.len(),
            decided.count(),
            reports.len(),
            self.progress.elapsed().as_secs(),
            self.timeout.as_secs()
        )
    }

    fn set(&mut self, i: usize, state: State) {
        let said = match &state {
            State::Dialing => None,
            State::Connected => Some("connected".to_owned()),
            State::Serves => Some("speaks AutoNAT v2".to_owned()),
            State::Useless(why) => Some(why.clone()),
            State::Failed(why) => Some(format!("can't be asked: {why}")),
        };
        let Some(server) = self.servers.get_mut(i) else {
            return;
        };
        if server.state == state {
            return;
        }
        server.state = state;
        server.since = Instant::now();
        self.changed = server.since;
        if let Some(said) = said {
            self.say(&format!("server {}: {said}", i + 1));
        }
    }

    fn server_of(&self, peer: &PeerId) -> Option<usize> {
        let mut mine = (0..self.servers.len()).filter(|i| self.peer_of(*i) == Some(peer));
        let first = mine.clone().next();
        mine.find(|i| self.state_of(*i) == Some(&State::Serves))
            .or(first)
    }

    fn peer_of(&self, i: usize) -> Option<&PeerId> {
        self.servers.get(i)?.peer.as_ref()
    }

    fn state_of(&self, i: usize) -> Option<&State> {
        self.servers.get(i).map(|server| &server.state)
    }

    fn name(&self, peer: &PeerId) -> String {
        self.server_of(peer)
            .map_or_else(|| peer.to_string(), |i| format!("server {}", i + 1))
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::NewListenAddr {
                listener_id,
                address,
            } => {
                if self.allow_private || !is_local(&address) {
                    self.say(&format!("listening on {address}"));
                }
                self.listeners.remove(&listener_id);
                self.listening.push(address);
            }
            SwarmEvent::ConnectionEstablished {
                connection_id,
                peer_id,
                endpoint,
                ..
            } => self.on_connected(connection_id, peer_id, endpoint.get_remote_address()),
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                if let Some(i) = self.dials.remove(&connection_id) {
                    self.set(i, State::Failed(dial_error(&error)));
                }
            }
            SwarmEvent::ConnectionClosed {
                connection_id,
                cause,
                ..
            } => {
                if let Some(i) = self.dials.remove(&connection_id) {
                    self.set(i, State::Failed(closed(cause.as_ref())));
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                connection_id,
                info,
                ..
            })) => self.on_identified(connection_id, &info),
            SwarmEvent::Behaviour(BehaviourEvent::Autonat(event)) => self.on_autonat(event),
            _ => {}
        }
    }

    fn on_connected(&mut self, connection: ConnectionId, peer: PeerId, remote: &Multiaddr) {
        let Some(i) = self.dials.get(&connection).copied() else {
            return;
        };
        let way = |addr| (address::transport(addr), address::family(addr));
        let twin = self.servers.iter().position(|server| {
            let is_up = matches!(server.state, State::Connected | State::Serves);
            let same_way = server.remote.as_ref().map(way) == Some(way(remote));
            is_up && same_way && server.peer == Some(peer)
        });
        if let Some(server) = self.servers.get_mut(i) {
            server.peer = Some(peer);
            server.remote = Some(remote.clone());
        }
        let Some(twin) = twin else {
            return self.set(i, State::Connected);
        };
        // It leaves from a port that nobody listens on, and the peer would tell of that one as an address to test.
        self.dials.remove(&connection);
        self.swarm.close_connection(connection);
        let why = format!("is the same peer as server {}", twin + 1);
        self.set(i, State::Useless(why));
    }

    fn on_identified(&mut self, connection: ConnectionId, info: &identify::Info) {
        let Some(i) = self.dials.get(&connection).copied() else {
            return;
        };
        let serves = info.protocols.contains(&DIAL_REQUEST_PROTOCOL);
        let seen = info.observed_addr.clone();
        let autonat = &mut self.swarm.behaviour_mut().autonat;
        autonat.observed(connection, &seen);
        let is_new = self
            .servers
            .get_mut(i)
            .is_some_and(|server| server.observed.replace(seen.clone()).as_ref() != Some(&seen));
        if is_new {
            self.say(&format!("server {}: sees this machine as {seen}", i + 1));
        }
        let state = match serves {
            true => State::Serves,
            false => State::Useless("does not speak AutoNAT v2".to_owned()),
        };
        self.set(i, state);
    }

    fn on_autonat(&mut self, event: client::Event) {
        self.changed = Instant::now();
        match event {
            client::Event::Probed(probed) => {
                if let Some(i) = self.server_of(&probed.server)
                    && let Some(server) = self.servers.get_mut(i)
                {
                    match probed.outcome {
                        ProbeOutcome::Rejected => server.rejections += 1,
                        ProbeOutcome::NoAnswer(_) => {}
                        _ => server.answers += 1,
                    }
                }
                if probed.outcome == ProbeOutcome::Refused {
                    let refused = self.refused.entry(probed.address.clone()).or_default();
                    refused.insert(probed.server);
                    if self.is_out_of_sight(&probed.address) {
                        return;
                    }
                }
                let outcome = match probed.outcome {
                    ProbeOutcome::Reachable(_) => "got through",
                    ProbeOutcome::DialError => "could not get through",
                    ProbeOutcome::Refused => "can't or won't dial this kind of address",
                    ProbeOutcome::Rejected => "is busy and turned the request down",
                    ProbeOutcome::InternalError => "failed for a reason of its own",
                    ProbeOutcome::NoAnswer(_) => "gave no answer",
                    ProbeOutcome::DialBackError => "reached something, but not this program",
                    _ => "gave an answer that proves nothing",
                };
                self.say(&format!(
                    "{}: {} {outcome}",
                    probed.address,
                    self.name(&probed.server)
                ));
            }
            client::Event::VerdictChanged { address, new, .. } => {
                self.say(&format!("{address}: {}", report::verdict(new)));
            }
            client::Event::NatMappingChanged { new, .. } => {
                self.say(&format!("the NAT's port mapping is {}", new.as_str()));
            }
            client::Event::ServersWanted { known, wanted, .. } if known > 0 => self.say(&format!(
                "servers to ask: {known}; with {wanted} the answer would be surer"
            )),
            _ => {}
        }
    }
}

fn swarm(args: &Args) -> Result<Swarm<Behaviour>, String> {
    let key = Keypair::generate_ed25519();
    let config = client::Config::default()
        .with_private_addresses(args.allow_private)
        .with_requests_per_minute(REQUESTS_PER_MINUTE);
    let agent = identify::Config::new("/libp2p-autonat-v2-check/1.0.0".to_owned(), key.public());
    let behaviour = Behaviour {
        identify: identify::Behaviour::new(agent),
        autonat: client::Behaviour::new(key.public().to_peer_id(), config),
    };
    let idle = args.timeout() + Duration::from_secs(10);
    // Names are looked up here, so that it is known which IP was asked.
    transport::swarm(&key, behaviour, Names::Refused, idle)
}

/// Whether it stands for other addresses.
fn is_list(addr: &Multiaddr) -> bool {
    matches!(addr.iter().next(), Some(Protocol::Dnsaddr(_)))
}
